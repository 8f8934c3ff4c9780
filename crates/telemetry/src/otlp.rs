//! A collector, as OTLP over gRPC reaches it.

use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri};

/// Where a collector is, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// `http://HOST:PORT`, or `https://…`.
    pub endpoint: String,
    /// Sent with each request: tokens, say.
    pub headers: Vec<(String, String)>,
    /// For one export, tries included.
    pub timeout: Duration,
    /// Of `https`: a PEM file of who may have signed its certificate; none: those that the system trusts.
    pub certificate: Option<PathBuf>,
}

/// Why a collector can't be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// Not an address.
    #[error(
        "`{0}` is no collector's address: `http://HOST:PORT` or `https://HOST:PORT` is, of OTLP over gRPC (mostly port 4317)"
    )]
    Endpoint(String),
    /// Not a header.
    #[error("`{0}` is no header: a name of a-z, 0-9, `-`, `_`, `.`, and a value of printable ASCII")]
    Header(String),
    /// No certificates.
    #[error("{}: {error}", path.display())]
    Certificate {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
}

/// Whether this is the address of a collector.
///
/// # Errors
/// [`CollectorError::Endpoint`].
pub fn check_endpoint(endpoint: &str) -> Result<(), CollectorError> {
    parse(endpoint).map(drop)
}

fn parse(endpoint: &str) -> Result<Endpoint, CollectorError> {
    let is_known = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    };
    let parsed = Endpoint::from_shared(endpoint.to_owned()).ok().filter(|parsed| is_known(parsed.uri()));
    parsed.ok_or_else(|| CollectorError::Endpoint(endpoint.to_owned()))
}

/// Who has made all spans and metrics.
pub(crate) fn scope() -> InstrumentationScope {
    let (name, version) = ("jaiminho".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    InstrumentationScope { name, version, ..InstrumentationScope::default() }
}

/// Where distributions keep the certificates that a machine trusts: Debian and Alpine, Fedora, SUSE, the BSDs.
const SYSTEM_CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The first that is there.
fn system_certificates() -> PathBuf {
    let [first, ..] = SYSTEM_CERTIFICATES;
    SYSTEM_CERTIFICATES.map(PathBuf::from).into_iter().find(|path| path.exists()).unwrap_or_else(|| first.into())
}

impl Collector {
    /// Connects when something is sent, and again when the connection is gone. Must be called within a tokio runtime.
    pub(crate) fn channel(&self) -> Result<Channel, CollectorError> {
        let mut endpoint = parse(&self.endpoint)?.connect_timeout(self.timeout).timeout(self.timeout);
        if endpoint.uri().scheme_str() == Some("https") {
            let path = self.certificate.clone().unwrap_or_else(system_certificates);
            let wrong = |error: String| CollectorError::Certificate { path: path.clone(), error };
            let pem = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls).map_err(|error| wrong(error.to_string()))?;
        }
        Ok(endpoint.connect_lazy())
    }

    /// The headers, as gRPC sends them.
    pub(crate) fn metadata(&self) -> Result<MetadataMap, CollectorError> {
        let mut metadata = MetadataMap::new();
        for (name, value) in &self.headers {
            let wrong = || CollectorError::Header(name.clone());
            let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| wrong())?;
            metadata.append(key, MetadataValue::try_from(value.as_str()).map_err(|_| wrong())?);
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_scheme_and_a_host() {
        for right in ["http://jaeger:4317", "https://otel.example:443", "http://[::1]:4317", "http://10.0.0.1:4317/"] {
            assert!(check_endpoint(right).is_ok(), "{right}");
        }
        for wrong in ["", "jaeger:4317", "grpc://jaeger:4317", "http://", "/v1/traces", "http://a b:1"] {
            assert!(check_endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_that_is_none_is_named_and_its_value_is_not() {
        let collector = |name: &str, value: &str| Collector {
            endpoint: "http://localhost:1".to_owned(),
            headers: vec![(name.to_owned(), value.to_owned())],
            timeout: Duration::from_secs(1),
            certificate: None,
        };
        assert_eq!(
            collector("Authorization", "Bearer x").metadata().unwrap().get("authorization").unwrap(),
            "Bearer x"
        );
        for (name, value) in [("a b", "secret"), ("a", "sec\nret")] {
            let error = collector(name, value).metadata().unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("sec"), "{error}");
        }
    }
}
