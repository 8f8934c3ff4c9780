//! What the pipeline file says about where a stage is.

use std::net::IpAddr;

use jaiminho_runtime::{Address, Discover};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{Names, Question};
use crate::{Fixed, INSTANCES_MAX, Resolver};

/// Where the instances of a stage listen: exactly one of `dns`, `srv` and `list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "Written")]
#[schemars(with = "Written")]
pub enum At {
    /// `host:port`: every A and AAAA record of the host is an instance.
    Dns { host: String, port: u16 },
    /// Every SRV record of this name is an instance, whatever its priority and weight.
    Srv(String),
    /// `host:port` of each instance.
    List(Vec<Address>),
}

/// The same as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "At", extend("minProperties" = 1, "maxProperties" = 1))]
struct Written {
    /// `host:port`: every A and AAAA record of the host is an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns: Option<String>,
    /// A name such as `_stage._tcp.ingest.default.svc.cluster.local`: every SRV record of it is an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    srv: Option<String>,
    /// `host:port` of each instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    list: Option<Vec<String>>,
}

/// What is wrong with an `at`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AtError {
    #[error("`at` needs one of `dns: HOST:PORT`, `srv: NAME`, `list: [HOST:PORT, ...]`")]
    None,
    #[error("`at` takes exactly one of `dns`, `srv` and `list`, not {0} together")]
    Several(String),
    #[error("`{0}` is not HOST:PORT, such as `ingest:7400` or `[::1]:7400` (port 1 to 65535)")]
    NotHostPort(String),
    #[error("`{0}` is not a DNS name, such as `_stage._tcp.ingest.example`")]
    NotName(String),
    #[error("`list` is empty: it names each instance as HOST:PORT")]
    EmptyList,
    #[error("`list` has {0} addresses, more than {INSTANCES_MAX}")]
    TooMany(usize),
}

impl At {
    /// Starts to look, with the system's resolver (`/etc/resolv.conf`, `/etc/hosts`).
    pub fn discover(&self) -> Box<dyn Discover> {
        self.discover_with(Resolver::system())
    }

    /// Starts to look, with another resolver.
    pub fn discover_with(&self, resolver: Resolver) -> Box<dyn Discover> {
        match self {
            Self::Dns { host, port } => match host.parse::<IpAddr>() {
                Ok(_) => Box::new(Fixed::new([host_port(host, *port)])),
                Err(_) => Box::new(Names::new(Question::Hosts { host: host.clone(), port: *port }, resolver)),
            },
            Self::Srv(name) => Box::new(Names::new(Question::Services { name: name.clone() }, resolver)),
            Self::List(addresses) => Box::new(Fixed::new(addresses.iter().cloned())),
        }
    }

    /// The name that all instances share, for the check of their certificates: `dns` addresses are bare IP addresses.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Dns { host, .. } => Some(host),
            Self::Srv(_) | Self::List(_) => None,
        }
    }
}

impl TryFrom<Written> for At {
    type Error = AtError;

    fn try_from(written: Written) -> Result<Self, AtError> {
        match written {
            Written { dns: None, srv: None, list: None } => Err(AtError::None),
            Written { dns: Some(dns), srv: None, list: None } => {
                let (host, port) = parse_host_port(&dns)?;
                Ok(Self::Dns { host: host.to_owned(), port })
            }
            Written { dns: None, srv: Some(srv), list: None } => parse_name(srv).map(Self::Srv),
            Written { dns: None, srv: None, list: Some(list) } => parse_list(&list).map(Self::List),
            Written { dns, srv, list } => {
                let given = [("`dns`", dns.is_some()), ("`srv`", srv.is_some()), ("`list`", list.is_some())];
                let names: Vec<_> = given.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
                Err(AtError::Several(names.join(" and ")))
            }
        }
    }
}

impl From<At> for Written {
    fn from(at: At) -> Self {
        match at {
            At::Dns { host, port } => Self { dns: Some(host_port(&host, port).0), ..Self::default() },
            At::Srv(name) => Self { srv: Some(name), ..Self::default() },
            At::List(list) => {
                Self { list: Some(list.into_iter().map(|address| address.0).collect()), ..Self::default() }
            }
        }
    }
}

/// `host:port` again, with brackets where the host is an IPv6 address.
pub(crate) fn host_port(host: &str, port: u16) -> Address {
    if host.contains(':') { Address(format!("[{host}]:{port}")) } else { Address(format!("{host}:{port}")) }
}

fn parse_list(list: &[String]) -> Result<Vec<Address>, AtError> {
    if list.is_empty() {
        return Err(AtError::EmptyList);
    }
    if list.len() > INSTANCES_MAX {
        return Err(AtError::TooMany(list.len()));
    }
    list.iter().map(|text| parse_host_port(text).map(|(host, port)| host_port(host, port))).collect()
}

/// The host without brackets, and the port.
fn parse_host_port(text: &str) -> Result<(&str, u16), AtError> {
    let wrong = || AtError::NotHostPort(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(inner) => matches!(inner.parse(), Ok(IpAddr::V6(_))),
        None => is_name(host),
    };
    if is_host { Ok((bracketed.unwrap_or(host), port)) } else { Err(wrong()) }
}

fn parse_name(name: String) -> Result<String, AtError> {
    if is_name(&name) { Ok(name) } else { Err(AtError::NotName(name)) }
}

/// Letters, digits, `-` and `_` in labels of 1 to 63 characters, 253 in all; a final dot stops the search list.
fn is_name(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    labels.len() <= 253 && labels.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<At, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn each_form_is_read_and_written_the_same() {
        for (json, at) in [
            (r#"{"dns":"ingest:7400"}"#, At::Dns { host: "ingest".into(), port: 7400 }),
            (r#"{"dns":"[::1]:7400"}"#, At::Dns { host: "::1".into(), port: 7400 }),
            (r#"{"srv":"_stage._tcp.ingest.mesos."}"#, At::Srv("_stage._tcp.ingest.mesos.".into())),
            (
                r#"{"list":["a:1","10.0.0.1:65535"]}"#,
                At::List(vec![Address("a:1".into()), Address("10.0.0.1:65535".into())]),
            ),
        ] {
            assert_eq!(read(json), Ok(at.clone()));
            assert_eq!(serde_json::to_string(&at).unwrap(), json);
        }
    }

    #[test]
    fn each_mistake_is_named() {
        let not_host_port = |text: &str| AtError::NotHostPort(text.into()).to_string();
        for (json, error) in [
            ("{}", AtError::None.to_string()),
            (r#"{"dns":"a:1","list":["b:1"]}"#, AtError::Several("`dns` and `list`".into()).to_string()),
            (r#"{"dns":"ingest"}"#, not_host_port("ingest")),
            (r#"{"dns":"ingest:0"}"#, not_host_port("ingest:0")),
            (r#"{"dns":"ingest:65536"}"#, not_host_port("ingest:65536")),
            (r#"{"dns":":7400"}"#, not_host_port(":7400")),
            (r#"{"dns":"::1:7400"}"#, not_host_port("::1:7400")),
            (r#"{"dns":"http://ingest:7400"}"#, not_host_port("http://ingest:7400")),
            (r#"{"list":["a:1","b"]}"#, not_host_port("b")),
            (r#"{"list":[]}"#, AtError::EmptyList.to_string()),
            (r#"{"srv":""}"#, AtError::NotName(String::new()).to_string()),
            (r#"{"srv":"a..b"}"#, AtError::NotName("a..b".into()).to_string()),
        ] {
            assert_eq!(read(json), Err(error), "{json}");
        }
        let unknown = read(r#"{"dsn":"ingest:7400"}"#).unwrap_err();
        assert!(unknown.contains("unknown field `dsn`, expected one of `dns`, `srv`, `list`"), "{unknown}");
    }

    #[test]
    fn the_schema_allows_exactly_one_form_and_no_other_key() {
        let schema = serde_json::to_value(schemars::schema_for!(At)).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!((&schema["minProperties"], &schema["maxProperties"]), (&1.into(), &1.into()));
        assert_eq!(schema["properties"].as_object().unwrap().len(), 3);
    }
}
