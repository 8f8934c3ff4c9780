//! The program as its users see it: real processes, and a real Apache Kafka where records count.

mod apart;
mod bad_config;
mod bench;
mod commands;
mod console;
mod cut_links;
mod drain;
mod filter_walk;
mod inspect;
mod kafka_source;
mod life;
mod logs;
mod marathon;
mod metrics;
mod nothing_lost;
mod pipelines;
mod python;
mod scaler;
mod service;
mod signals;
mod srv;
mod tls;
mod top;
mod traces;
mod transforms;
mod up;
