//! Both sides of a handshake, over TCP: what they agree on, and what each says where they do not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use jaiminho_tls::{Accepted, Acceptor, Fault, NO_TLS, ONLY_TLS, ServerTls, Tls, connect};
use support::{Authority, Log, Validity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PROTOCOLS: &[&str] = &["h2"];

/// What became of a handshake, and of four bytes there and back.
struct Met {
    is_open: bool,
    /// As the client has it.
    fault: Option<String>,
    /// As the server has logged it.
    log: String,
}

/// A client of this name's server meets it.
async fn meet(server: Option<ServerTls>, client: Option<Tls>, name: &str) -> Met {
    let (log, _guard) = Log::begin();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = server.map(|tls| Acceptor::new(tls, PROTOCOLS).unwrap());
    let serve = async {
        let (stream, peer) = listener.accept().await.unwrap();
        echo(Accepted::new(stream, Some(peer), acceptor.as_ref())).await.is_ok()
    };
    let fault = Fault::default();
    let ask = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = connect(stream, client.as_ref(), name, &fault).await?;
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"ping");
        std::io::Result::Ok(())
    };
    let (_served, asked) = tokio::join!(serve, ask);
    Met { is_open: asked.is_ok(), fault: fault.told().map(str::to_owned), log: log.text() }
}

/// Says back what it hears; to what is no `ping`, something.
async fn echo(mut stream: Accepted<TcpStream>) -> std::io::Result<()> {
    let mut heard = [0; 4];
    let read = stream.read_exact(&mut heard).await;
    if read.is_err() {
        let _refused = stream.write_all(b"what?").await;
    }
    read?;
    stream.write_all(&heard).await?;
    stream.shutdown().await
}

/// Whoever is refused is so with these words of the client's, and these of the server's.
async fn refused(server: Option<ServerTls>, client: Option<Tls>, name: &str, told: &str, logged: &str) {
    let Met { is_open, fault, log } = meet(server, client, name).await;
    assert!(!is_open);
    let fault = fault.unwrap_or_default();
    assert!(fault.contains(told), "{told}: {fault}\n{log}");
    assert_eq!(log.matches("WARN").count(), 1, "one warning:\n{log}");
    assert!(log.contains(logged) && log.contains("127.0.0.1:"), "{logged}:\n{log}");
}

#[tokio::test]
async fn who_trusts_each_other_meets_and_the_server_knows_whom() {
    let ours = Authority::new();
    let (server, client) = (ours.issue("server.local"), ours.issue("client.local"));
    for (server, client) in [
        (server.server(None), client.client(&ours)),
        (server.server(Some(&ours)), client.client(&ours)),
        (server.server(None), Tls { cert: None, key: None, ..client.client(&ours) }),
    ] {
        let met = meet(Some(server), Some(client), "server.local").await;
        assert!(met.is_open, "{:?}\n{}", met.fault, met.log);
    }
    assert!(meet(None, None, "server.local").await.is_open);
    let named = client.client(&ours).to(Some("server.local"));
    assert!(meet(Some(server.server(None)), Some(named), "10.0.0.7").await.is_open);
}

#[tokio::test]
async fn a_server_is_refused_for_its_dates_its_authority_and_its_name() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let client = Some(ours.issue("client.local").client(&ours));
    let refuses = "it refuses this side's certificate: ";
    let past = ours.issue_for("server.local", Validity::Past).server(None);
    let expired = format!("{refuses}it has expired, or is not valid yet");
    refused(
        Some(past),
        client.clone(),
        "server.local",
        "its certificate has expired at 2021-01-01T00:00:00Z",
        &expired,
    )
    .await;
    let future = ours.issue_for("server.local", Validity::Future).server(None);
    let told = "its certificate is not valid before 2090-01-01T00:00:00Z";
    refused(Some(future), client.clone(), "server.local", told, &expired).await;
    let other = theirs.issue("server.local").server(None);
    let told = "its certificate is not signed by an authority of `ca`";
    let logged = format!("{refuses}it is not signed by an authority of its `ca`");
    refused(Some(other), client.clone(), "server.local", told, &logged).await;
    let named = ours.issue("other.local").server(None);
    let told = "its certificate is for `other.local`, not for `server.local`";
    refused(Some(named), client, "server.local", told, &format!("{refuses}it is not for the name")).await;
}

#[tokio::test]
async fn a_client_is_refused_for_its_dates_its_authority_and_its_absence() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Some(ours.issue("server.local").server(Some(&ours)));
    let refuses = "it refuses this side's certificate: ";
    let past = ours.issue_for("client.local", Validity::Past).client(&ours);
    let told = format!("{refuses}it has expired");
    let logged = "its certificate has expired at 2021-01-01T00:00:00Z";
    refused(server.clone(), Some(past), "server.local", &told, logged).await;
    let future = ours.issue_for("client.local", Validity::Future).client(&ours);
    let logged = "its certificate is not valid before 2090-01-01T00:00:00Z";
    refused(server.clone(), Some(future), "server.local", &told, logged).await;
    let other = theirs.issue("client.local").client(&ours);
    let told = format!("{refuses}it is not signed by an authority of its `ca`");
    refused(server.clone(), Some(other), "server.local", &told, "its certificate is not signed by an authority").await;
    let none = Tls { ca: Some(ours.file()), ..Tls::default() };
    let told = "it asks for a certificate, and this side has none";
    refused(server, Some(none), "server.local", told, "it presents no certificate, and `ca` asks for one").await;
}

#[tokio::test]
async fn plain_text_and_tls_tell_each_other_apart() {
    let ours = Authority::new();
    let server = ours.issue("server.local").server(None);
    refused(Some(server), None, "server.local", ONLY_TLS, NO_TLS).await;
    let client = ours.issue("client.local").client(&ours);
    refused(None, Some(client), "server.local", NO_TLS, "it speaks TLS, and this port does not").await;
}

#[tokio::test]
async fn who_only_looks_whether_a_port_is_open_is_no_warning() {
    let (log, _guard) = Log::begin();
    let ours = Authority::new();
    let acceptor = Acceptor::new(ours.issue("server.local").server(None), PROTOCOLS).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
    let (stream, peer) = listener.accept().await.unwrap();
    assert!(echo(Accepted::new(stream, Some(peer), Some(&acceptor))).await.is_err());
    assert!(!log.text().contains("WARN"), "{}", log.text());
}

#[tokio::test]
async fn who_says_nothing_is_cut_off() {
    let (log, _guard) = Log::begin();
    let ours = Authority::new();
    let acceptor = Acceptor::new(ours.issue("server.local").server(None), PROTOCOLS).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    assert!(echo(Accepted::new(stream, Some(peer), Some(&acceptor))).await.is_err());
    assert!(log.text().contains("no TLS handshake within 5 s"), "{}", log.text());
}

/// Certificate that a server shows to who takes every name of it.
async fn shown(acceptor: &Acceptor, client: &Tls) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fault = Fault::default();
    let serve = async {
        let (stream, peer) = listener.accept().await.unwrap();
        let _ended = echo(Accepted::new(stream, Some(peer), Some(acceptor))).await;
    };
    let ask = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = connect(stream, Some(client), "nobody", &fault).await?;
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut [0; 4]).await
    };
    let (_, asked) = tokio::join!(serve, ask);
    asked.map(drop).map_err(|error| fault.told().map_or_else(|| error.to_string(), str::to_owned))
}

#[tokio::test]
async fn renewed_files_are_used_and_half_of_them_is_not() {
    let (log, _guard) = Log::begin();
    let (old, new) = (Authority::new(), Authority::new());
    let files = old.issue("one.local");
    let acceptor = Acceptor::new(files.server(None), PROTOCOLS).unwrap();
    let client = Tls { ca: Some(old.file()), server_name: Some("one.local".into()), ..Tls::default() };
    shown(&acceptor, &client).await.unwrap();

    let renewed = new.issue("two.local");
    std::fs::copy(renewed.cert(), files.cert()).unwrap();
    for _ in 0..3 {
        shown(&acceptor, &client).await.unwrap();
    }
    let warned = log.text().matches("can't be used").count();
    assert_eq!(warned, 1, "once until they change again:\n{}", log.text());
    assert!(log.text().contains("`key` is not the key of `cert`"), "{}", log.text());

    std::fs::copy(renewed.key(), files.key()).unwrap();
    let refused = shown(&acceptor, &client).await.unwrap_err();
    assert_eq!(refused, "its certificate is not signed by an authority of `ca`");
    let bundle = std::fs::read_to_string(old.file()).unwrap() + &std::fs::read_to_string(new.file()).unwrap();
    std::fs::write(old.file(), bundle).unwrap();
    shown(&acceptor, &client.to(Some("two.local"))).await.unwrap();
    std::fs::remove_file(files.cert()).unwrap();
    shown(&acceptor, &client.to(Some("two.local"))).await.unwrap();
}

#[tokio::test]
async fn what_files_lack_is_said_of_the_field_that_names_them() {
    let ours = Authority::new();
    let server = ours.issue("server.local").server(None);
    let said = |tls: ServerTls| Acceptor::new(tls, PROTOCOLS).unwrap_err().to_string();
    let key = server.key.display();
    assert_eq!(
        said(ServerTls { cert: server.key.clone(), ..server.clone() }),
        format!("tls: `cert: {key}`: it holds no certificate in PEM format")
    );
    let wrong = said(ServerTls { key: server.cert.clone(), ..server.clone() });
    assert!(wrong.contains("it holds no private key in PEM format"), "{wrong}");
    let other = ours.issue("other.local").server(None);
    assert_eq!(said(ServerTls { key: other.key, ..server.clone() }), "tls: `key` is not the key of `cert`");
    let lost = said(ServerTls { ca: Some("/nowhere".into()), ..server });
    assert!(lost.starts_with("tls: cannot read `ca: /nowhere`: No such file"), "{lost}");
}
