//! The program as its users see it: real processes, and a real Apache Kafka where records count.

mod apart;
mod bad_config;
mod bench;
mod commands;
mod cut_links;
mod drain;
mod filter_walk;
mod inspect;
mod kafka_source;
mod logs;
mod metrics;
mod nothing_lost;
mod pipelines;
mod python;
mod service;
mod signals;
mod srv;
mod tls;
mod traces;
mod transforms;
mod up;
