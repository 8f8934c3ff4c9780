//! What a peer's certificate says of it.

use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::server::ParsedCertificate;

use crate::words::wrong;

/// That of a connection's other side: there once hands are shaken, where it presented one. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub struct PeerCertificate(Arc<OnceLock<CertificateDer<'static>>>);

impl PeerCertificate {
    pub(crate) fn set(&self, certificate: &CertificateDer<'_>) {
        let _only_once = self.0.set(certificate.clone().into_owned());
    }

    /// Whether it is for this name. Its authority and its dates were checked in the handshake.
    ///
    /// # Errors
    /// Why not, in words of which the certificate is the subject: `is for …, not for …`.
    pub fn check(&self, name: &str) -> Result<(), String> {
        is_for(self.0.get().ok_or("is missing")?, name)
    }
}

pub(crate) fn is_for(certificate: &CertificateDer<'_>, name: &str) -> Result<(), String> {
    let wanted =
        ServerName::try_from(name).map_err(|_| format!("can't be for `{name}`: that is no name of a server"))?;
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| wrong(&error))?;
    verify_server_name(&parsed, &wanted).map_err(|error| wrong(&error))
}
