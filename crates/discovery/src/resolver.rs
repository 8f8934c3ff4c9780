//! Which DNS servers are asked, and one question to them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use jaiminho_runtime::Address;

use crate::at::host_port;
use crate::known::Answer;

/// A lost datagram is sent again after this time.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How often a server is asked within one question.
const ATTEMPTS: usize = 2;
/// A whole question, with search list and all servers.
const QUESTION_DEADLINE: Duration = Duration::from_secs(4);

/// Which DNS servers are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver(Option<Vec<SocketAddr>>);

impl Resolver {
    /// Those of `/etc/resolv.conf` with its search list, and `/etc/hosts`; read again when questions keep failing.
    pub fn system() -> Self {
        Self(None)
    }

    /// These, over UDP and TCP, without a search list.
    pub fn servers(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(Some(servers.into_iter().collect()))
    }

    /// Reads the configuration. Nothing is remembered between questions but how well each server answers.
    pub(crate) fn open(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match &self.0 {
            None => TokioResolver::builder_tokio()?,
            Some(servers) => {
                let servers = servers.iter().map(name_server).collect();
                let config = ResolverConfig::from_name_servers(servers);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        bound(builder.options_mut());
        builder.build()
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = 0;
}

/// One question; every way to fail is an [`Answer`].
pub(crate) async fn ask(resolver: TokioResolver, name: String, kind: RecordType, port: u16) -> Answer {
    match tokio::time::timeout(QUESTION_DEADLINE, resolver.lookup(name, kind)).await {
        Ok(Ok(lookup)) => read(lookup.answers(), port),
        Ok(Err(error)) if error.is_no_records_found() => Answer::Empty,
        Ok(Err(error)) => Answer::Failed(error.to_string()),
        Err(_) => Answer::Failed(format!("no answer within {} s", QUESTION_DEADLINE.as_secs())),
    }
}

/// `port` goes with A and AAAA; an SRV record has its own. Other records (CNAME) only lead the way.
fn read(records: &[Record], port: u16) -> Answer {
    let mut addresses = BTreeSet::new();
    for record in records {
        addresses.extend(address(&record.data, port));
    }
    let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
    if addresses.is_empty() { Answer::Empty } else { Answer::Found { addresses, ttl: Duration::from_secs(ttl.into()) } }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "every kind of record that there is")]
fn address(data: &RData, port: u16) -> Option<Address> {
    match data {
        RData::A(a) => Some(host_port(&a.0.to_string(), port)),
        RData::AAAA(aaaa) => Some(host_port(&aaaa.0.to_string(), port)),
        // RFC 2782: the root as target says that the service is not there.
        RData::SRV(srv) if srv.target.is_root() || srv.port == 0 => None,
        RData::SRV(srv) => Some(host_port(srv.target.to_ascii().trim_end_matches('.'), srv.port)),
        _ => None,
    }
}
