//! Against a small DNS server on a local UDP socket.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jaiminho_discovery::{At, Resolver};
use jaiminho_runtime::Discover;
use tokio::net::UdpSocket;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

/// What the server says of one name and kind.
#[derive(Clone)]
enum Says {
    Records(Vec<Vec<u8>>),
    Code(u8),
    Nothing,
}

/// Answers from a table; what is not in it has no records.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    table: Arc<Mutex<HashMap<(String, u16), Says>>>,
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: socket.local_addr().unwrap(), table: Arc::default() };
        tokio::spawn(server.clone().run(socket));
        server
    }

    async fn run(self, socket: UdpSocket) {
        let mut query = [0; 1_500];
        loop {
            let (length, peer) = socket.recv_from(&mut query).await.unwrap();
            if let Some(response) = self.response(&query[..length]) {
                socket.send_to(&response, peer).await.unwrap();
            }
        }
    }

    fn response(&self, query: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = read_name(query, 12);
        let kind = u16::from_be_bytes([query[end], query[end + 1]]);
        let said = self.table.lock().unwrap().get(&(name, kind)).cloned().unwrap_or(Says::Records(vec![]));
        let (code, records) = match said {
            Says::Records(records) => (0, records),
            Says::Code(code) => (code, vec![]),
            Says::Nothing => return None,
        };
        let mut response = query[..2].to_vec();
        response.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
        response.extend(&query[12..end + 4]);
        for data in records {
            response.extend([0xc0, 12]);
            response.extend(kind.to_be_bytes());
            response.extend([0, 1, 0, 0, 0, 0]);
            response.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            response.extend(data);
        }
        Some(response)
    }

    fn set(&self, name: &str, kind: u16, says: Says) {
        self.table.lock().unwrap().insert((name.into(), kind), says);
    }

    fn watch(&self, at: &str) -> Box<dyn Discover> {
        let at: At = serde_json::from_str(at).unwrap();
        at.discover_with(Resolver::servers([self.address]))
    }
}

fn read_name(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    while message[at] != 0 {
        let length = usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    (labels.join("."), at + 1)
}

fn a(last: &[u8]) -> Says {
    Says::Records(last.iter().map(|last| Ipv4Addr::new(10, 0, 0, *last).octets().to_vec()).collect())
}

fn aaaa(last: u16) -> Says {
    Says::Records(vec![Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).octets().to_vec()])
}

/// Priority, weight, port, target.
fn srv(records: &[(u16, u16, u16, &str)]) -> Says {
    let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
        let mut data: Vec<u8> = [priority, weight, port].iter().flat_map(|field| field.to_be_bytes()).collect();
        for label in target.split('.').filter(|label| !label.is_empty()) {
            data.push(u8::try_from(label.len()).unwrap());
            data.extend(label.as_bytes());
        }
        data.push(0);
        data
    };
    Says::Records(records.iter().map(record).collect())
}

async fn next(watch: &mut dyn Discover) -> Vec<String> {
    let set = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("a change within 10 s");
    set.into_iter().map(|address| address.0).collect()
}

async fn stays(watch: &mut dyn Discover, rounds_s: u64) {
    let change = tokio::time::timeout(Duration::from_secs(rounds_s), watch.changed()).await;
    assert!(change.is_err(), "changed to {change:?}");
}

#[tokio::test]
async fn a_and_aaaa_records_are_the_set_and_a_change_is_seen_within_five_seconds() {
    let server = Server::start().await;
    server.set("ingest.test", A, a(&[2, 1, 1]));
    server.set("ingest.test", AAAA, aaaa(7));
    let mut watch = server.watch(r#"{"dns": "ingest.test:7400"}"#);
    assert_eq!(next(&mut *watch).await, ["10.0.0.1:7400", "10.0.0.2:7400", "[fd00::7]:7400"]);

    server.set("ingest.test", A, a(&[2, 3]));
    let since = Instant::now();
    assert_eq!(next(&mut *watch).await, ["10.0.0.2:7400", "10.0.0.3:7400", "[fd00::7]:7400"]);
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn srv_records_name_host_and_port_of_each_instance() {
    let server = Server::start().await;
    server.set("_stage._tcp.test", SRV, srv(&[(0, 0, 31_001, "b.test"), (9, 1, 31_002, "a.test"), (0, 0, 1, ".")]));
    let mut watch = server.watch(r#"{"srv": "_stage._tcp.test"}"#);
    assert_eq!(next(&mut *watch).await, ["a.test:31002", "b.test:31001"]);

    server.set("_stage._tcp.test", SRV, srv(&[(0, 0, 31_003, "b.test")]));
    assert_eq!(next(&mut *watch).await, ["b.test:31003"]);
}

#[tokio::test]
async fn a_failing_server_keeps_the_last_set() {
    let server = Server::start().await;
    server.set("ingest.test", A, a(&[1]));
    let mut watch = server.watch(r#"{"dns": "ingest.test:7400"}"#);
    assert_eq!(next(&mut *watch).await, ["10.0.0.1:7400"]);

    server.set("ingest.test", A, Says::Code(SERVFAIL));
    server.set("ingest.test", AAAA, Says::Code(SERVFAIL));
    stays(&mut *watch, 6).await;
    server.set("ingest.test", A, a(&[4]));
    assert_eq!(next(&mut *watch).await, ["10.0.0.4:7400"]);
}

#[tokio::test]
async fn a_name_that_is_gone_keeps_the_last_set_for_a_while() {
    let server = Server::start().await;
    server.set("ingest.test", A, a(&[1]));
    let mut watch = server.watch(r#"{"dns": "ingest.test:7400"}"#);
    assert_eq!(next(&mut *watch).await, ["10.0.0.1:7400"]);

    server.set("ingest.test", A, Says::Code(NXDOMAIN));
    server.set("ingest.test", AAAA, Says::Code(NXDOMAIN));
    stays(&mut *watch, 6).await;
    server.set("ingest.test", A, a(&[2]));
    assert_eq!(next(&mut *watch).await, ["10.0.0.2:7400"]);
}

#[tokio::test]
async fn the_first_set_is_empty_when_nothing_answers_and_fills_later() {
    let server = Server::start().await;
    server.set("ingest.test", A, Says::Nothing);
    server.set("ingest.test", AAAA, Says::Nothing);
    let mut watch = server.watch(r#"{"dns": "ingest.test:7400"}"#);
    assert_eq!(next(&mut *watch).await, [""; 0]);

    server.set("ingest.test", A, a(&[1]));
    assert_eq!(next(&mut *watch).await, ["10.0.0.1:7400"]);
}

#[tokio::test]
async fn a_caller_that_keeps_dropping_the_future_sees_the_change_all_the_same() {
    let server = Server::start().await;
    server.set("ingest.test", A, a(&[1]));
    let mut watch = server.watch(r#"{"dns": "ingest.test:7400"}"#);
    let since = Instant::now();
    let set = loop {
        if let Ok(set) = tokio::time::timeout(Duration::from_micros(50), watch.changed()).await {
            break set;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "no set");
    };
    assert_eq!(set.len(), 1);
}

#[tokio::test]
async fn a_list_and_a_bare_address_are_said_once() {
    let server = Server::start().await;
    let mut list = server.watch(r#"{"list": ["b:1", "a:2", "b:1"]}"#);
    assert_eq!(next(&mut *list).await, ["b:1", "a:2"]);
    stays(&mut *list, 1).await;
    let mut bare = server.watch(r#"{"dns": "127.0.0.1:7400"}"#);
    assert_eq!(next(&mut *bare).await, ["127.0.0.1:7400"]);
}
