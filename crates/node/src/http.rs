//! A port for people and probes: so many connections at once, each of which says soon what it wants.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use jaiminho_tls::{Accepted, Acceptor};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

/// What such a port speaks, as ALPN names it.
pub(crate) const PROTOCOLS: &[&str] = &["http/1.1"];
/// The first bytes of a request: its line and its headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Without a file descriptor it is tried again after this time.
const AGAIN: Duration = Duration::from_millis(100);

/// Of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at once; more wait until they are accepted.
    pub(crate) connections: usize,
    /// From the beginning of a connection, or from its last answer, to the end of a request's head.
    pub(crate) head_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, head_timeout: Duration::from_secs(10) }
    }
}

/// Serves HTTP/1 until it is dropped, and its connections with it; over TLS where it has a certificate.
pub(crate) async fn serve(listener: TcpListener, tls: Option<Acceptor>, router: Router, limits: Limits) {
    let mut open = JoinSet::new();
    loop {
        while open.len() >= limits.connections {
            open.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _without = stream.set_nodelay(true);
                let stream = Accepted::new(stream, Some(peer), tls.as_ref());
                open.spawn(connection(stream, router.clone(), limits));
            }
            Err(error) => {
                // Of one connection, or of the process: neither ends the port.
                tracing::warn!(%error, "accept failed");
                sleep(AGAIN).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
}

async fn connection(stream: Accepted<TcpStream>, router: Router, limits: Limits) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(HEAD_BYTES_MAX);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await {
        tracing::debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn port(limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, None, Router::new().route("/", get(|| async { "here" })), limits));
        address
    }

    async fn sending(address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        // A reset is an end as well.
        let _reset = timeout(PATIENCE, stream.read_to_end(&mut text)).await.unwrap();
        String::from_utf8(text).unwrap()
    }

    const ASKED: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn who_does_not_say_what_it_wants_is_cut_off() {
        let address = port(Limits { head_timeout: Duration::from_millis(100), ..Limits::default() }).await;
        for begun in [&b""[..], b"GET / HTTP/1.1\r\nhost:", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
            let text = rest(&mut sending(address, begun).await).await;
            let is_asked = begun.ends_with(b"\r\n\r\n");
            assert_eq!(text.ends_with("here"), is_asked, "{text}");
        }
    }

    #[tokio::test]
    async fn more_than_the_limit_wait_until_one_leaves() {
        let address = port(Limits { connections: 2, head_timeout: PATIENCE }).await;
        let first = sending(address, b"GET").await;
        let _second = sending(address, b"GET").await;
        let mut third = sending(address, ASKED).await;
        let mut byte = [0];
        let early = timeout(Duration::from_millis(200), third.peek(&mut byte)).await;
        assert!(early.is_err(), "it is answered beside two others");
        drop(first);
        assert!(rest(&mut third).await.ends_with("here"));
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let address = port(Limits::default()).await;
        let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(2 * HEAD_BYTES_MAX));
        let text = rest(&mut sending(address, head.as_bytes()).await).await;
        assert!(!text.ends_with("here"), "{text}");
    }
}
