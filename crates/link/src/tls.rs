//! Certificates: the one shape of `tls` in the pipeline file, and what tonic makes of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// A peer that is slower than this at its handshake is cut off.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Certificate, key, and whom to trust, each a PEM file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Who signs the peer's certificate. A server with it asks each client for a certificate; a client needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// This side's certificate, with its chain. A server needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name that a server's certificate must have, where it is not the host of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// Why `tls` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("tls: `{0}` is missing")]
    Missing(&'static str),
    #[error("tls: cannot read `{field}: {}`: {error}", path.display())]
    Read { field: &'static str, path: PathBuf, error: std::io::Error },
    #[error("tls: {0}")]
    Unusable(String),
}

impl Tls {
    pub(crate) fn server(&self) -> Result<ServerTlsConfig, TlsError> {
        let identity = self.identity()?.ok_or(TlsError::Missing("cert"))?;
        let config = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_DEADLINE);
        Ok(match read("ca", self.ca.as_deref())? {
            Some(ca) => config.client_ca_root(Certificate::from_pem(ca)),
            None => config,
        })
    }

    /// Reads the files each time, so that a renewed certificate is used by the next link. `host` is the address' own.
    pub(crate) fn client(&self, host: &str) -> Result<ClientTlsConfig, TlsError> {
        let ca = read("ca", self.ca.as_deref())?.ok_or(TlsError::Missing("ca"))?;
        let name = self.server_name.as_deref().unwrap_or(host);
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .domain_name(name)
            .assume_http2(true)
            .timeout(HANDSHAKE_DEADLINE);
        Ok(match self.identity()? {
            Some(identity) => config.identity(identity),
            None => config,
        })
    }

    fn identity(&self) -> Result<Option<Identity>, TlsError> {
        match (read("cert", self.cert.as_deref())?, read("key", self.key.as_deref())?) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some(Identity::from_pem(cert, key))),
            (Some(_), None) => Err(TlsError::Missing("key")),
            (None, Some(_)) => Err(TlsError::Missing("cert")),
        }
    }
}

fn read(field: &'static str, path: Option<&Path>) -> Result<Option<Vec<u8>>, TlsError> {
    path.map(|path| std::fs::read(path).map_err(|error| TlsError::Read { field, path: path.to_owned(), error }))
        .transpose()
}
