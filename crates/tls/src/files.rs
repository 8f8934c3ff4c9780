//! Certificates as the pipeline file names them, and what rustls makes of them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, ServerConfig};

use crate::certificate::is_for;
use crate::words::wrong;

/// Far above any bundle of authorities.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Certificate, key, and whom to trust, each a PEM file. Renewed files are used by new connections, without a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Who signs the others' certificates. A stage with it and `cert` lets only those link to it that have such a certificate, and
    /// into a required group only those whose certificate is for that consumer stage; a stage that subscribes to one with `cert` needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// This stage's certificate, with its chain. With it the stage's port speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name in this stage's certificate, as the others check it. Default: the host of `at: { dns: … }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// The certificate of a port, with its key, each a PEM file. Renewed files are used by new connections, without a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// The certificate, with its chain.
    pub cert: PathBuf,
    /// The key of `cert`.
    pub key: PathBuf,
    /// Who signs the clients' certificates. Without it they need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// Why `tls` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A field that is needed.
    #[error("tls: `{0}` is missing")]
    Missing(&'static str),
    /// A file that can't be read.
    #[error("tls: cannot read `{field}: {}`: {error}", path.display())]
    Read {
        /// Which.
        field: &'static str,
        /// As the field says.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// What a file holds.
    #[error("tls: `{field}: {}`: {problem}", path.display())]
    Unusable {
        /// Which.
        field: &'static str,
        /// As the field says.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Certificate and key, or what rustls says of all together.
    #[error("tls: {0}")]
    Together(String),
}

impl Tls {
    /// Reads its files: what of them can't be used.
    pub fn check(&self) -> Vec<TlsError> {
        check(self.ca.as_deref(), self.cert.as_deref().zip(self.key.as_deref()))
    }

    /// Whether its certificate is for this name; so is one that can't be used, which [`check`](Self::check) tells.
    ///
    /// # Errors
    /// As [`PeerCertificate::check`](crate::PeerCertificate::check).
    pub fn is_for(&self, name: &str) -> Result<(), String> {
        if !self.check().is_empty() {
            return Ok(());
        }
        let own = self.cert.as_deref().and_then(|path| chain(path).ok());
        own.as_deref().and_then(<[_]>::first).map_or(Ok(()), |own| is_for(own, name))
    }

    /// What the stage's own port needs of it.
    ///
    /// # Errors
    /// [`TlsError::Missing`]: it has no certificate, or no key of it.
    pub fn server(&self) -> Result<ServerTls, TlsError> {
        let (cert, key) = self.identity()?.ok_or(TlsError::Missing("cert"))?;
        Ok(ServerTls { cert: cert.to_owned(), key: key.to_owned(), ca: self.ca.clone() })
    }

    /// The same for connections to a stage with this name in its certificate. None: the host of its address is it.
    #[must_use]
    pub fn to(&self, server_name: Option<&str>) -> Self {
        Self { server_name: server_name.map(str::to_owned), ..self.clone() }
    }

    /// Reads its files, as they are now.
    pub(crate) fn client(&self) -> Result<ClientConfig, TlsError> {
        let ca = self.ca.as_deref().ok_or(TlsError::Missing("ca"))?;
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| together(&error))?.with_root_certificates(authorities(ca)?);
        Ok(match self.identity()? {
            Some((cert, key)) => {
                builder.with_client_auth_cert(chain(cert)?, private_key(key)?).map_err(|error| together(&error))?
            }
            None => builder.with_no_client_auth(),
        })
    }

    fn identity(&self) -> Result<Option<(&Path, &Path)>, TlsError> {
        match (self.cert.as_deref(), self.key.as_deref()) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (Some(_), None) => Err(TlsError::Missing("key")),
            (None, Some(_)) => Err(TlsError::Missing("cert")),
        }
    }
}

impl ServerTls {
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [Some(&self.cert), Some(&self.key), self.ca.as_ref()].into_iter().flatten()
    }

    /// Its files, to be found elsewhere.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [Some(&mut self.cert), Some(&mut self.key), self.ca.as_mut()].into_iter().flatten()
    }

    /// Reads its files: what of them can't be used.
    pub fn check(&self) -> Vec<TlsError> {
        check(self.ca.as_deref(), Some((&self.cert, &self.key)))
    }

    /// Reads its files, as they are now. Whoever connects may speak these protocols, the first one rather.
    pub(crate) fn config(&self, protocols: &[&str]) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| together(&error))?;
        let builder = match &self.ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(authorities(ca)?, provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| unusable("ca", ca, &error))?)
            }
        };
        let config = builder.with_single_cert(chain(&self.cert)?, private_key(&self.key)?);
        let mut config = config.map_err(|error| together(&error))?;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        if self.ca.is_some() {
            // A session that is taken up again brings its certificate along, and nobody looks at that again.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }
}

fn check(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Vec<TlsError> {
    let mut errors: Vec<_> = ca.and_then(|ca| authorities(ca).err()).into_iter().collect();
    let Some((cert, key)) = identity else { return errors };
    match (chain(cert), private_key(key)) {
        (Ok(chain), Ok(key)) => errors.extend(match CertifiedKey::from_der(chain, key, &provider()) {
            Ok(_) => None,
            Err(error @ Error::InvalidCertificate(_)) => Some(unusable("cert", cert, &wrong(&error))),
            Err(error) => Some(together(&error)),
        }),
        (chain, key) => errors.extend([chain.err(), key.err()].into_iter().flatten()),
    }
    errors
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        authorities.add(certificate).map_err(|error| unusable("ca", path, &error))?;
    }
    Ok(Arc::new(authorities))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates("cert", path)
}

fn certificates(field: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(field, path)?;
    // What rustls says of bad PEM are numbers of bytes.
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| unusable(field, path, &"it holds no certificate in PEM format"))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read("key", path)?).map_err(|_| {
        unusable("key", path, &"it holds no private key in PEM format (PKCS#8, PKCS#1 or SEC1, not encrypted)")
    })
}

fn read(field: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut pem));
    read.map_err(|error| TlsError::Read { field, path: path.to_owned(), error })?;
    if pem.len() as u64 > FILE_BYTES_MAX {
        return Err(unusable(field, path, &"it is larger than 4 MiB"));
    }
    Ok(pem)
}

fn unusable(field: &'static str, path: &Path, problem: &dyn ToString) -> TlsError {
    TlsError::Unusable { field, path: path.to_owned(), problem: problem.to_string() }
}

fn together(error: &Error) -> TlsError {
    let is_other_key = matches!(error, Error::InconsistentKeys(_));
    TlsError::Together(if is_other_key { "`key` is not the key of `cert`".to_owned() } else { error.to_string() })
}
