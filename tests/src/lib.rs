//! Real processes for integration tests: the `jaiminho` program, an Apache Kafka, clients that remember what was
//! acknowledged, and a reader of what arrived.
//!
//! Everything that is started here ends with the test, however the test ends: each process is a child that the
//! kernel kills with its parent. Nothing waits for luck: every wait is for a condition, with a deadline.

mod authority;
mod browser;
mod child;
mod client;
mod cluster;
mod dns;
pub mod exit;
mod group;
mod jaeger;
mod kafka;
mod ledger;
mod load;
mod namespace;
mod ports;
mod process;
mod terminal;
mod topic;
mod wait;
mod websocket;

pub use authority::Authority;
pub use browser::{Page, skip_browser};
pub use child::Child;
pub use client::{Answer, Client};
pub use cluster::Cluster;
pub use dns::{Dns, DnsTrouble, FOLLOWED};
pub use group::{Group, Writer, Written};
pub use jaeger::{Jaeger, Seen, Trace, skip_jaeger};
pub use kafka::Kafka;
pub use ledger::{Failed, Ledger, Numbered, Refused};
pub use load::{Load, LoadConfig};
pub use namespace::{Direction, Namespace};
pub use ports::{free_port, free_ports};
pub use process::{
    Directory, Jaiminho, Place, jaiminho, jaiminho_fed, jaiminho_in, jaiminho_started, jaiminho_within, skip_kafka,
    skip_prometheus,
};
pub use terminal::Terminal;
pub use topic::{Record, Topic, Verdict};
pub use wait::{attempt, eventually, within};
pub use websocket::{Reply, WebSocket};
