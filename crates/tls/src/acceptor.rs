//! A port's certificate, which is read again when its files change.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::accepted::Accepted;
use crate::files::{ServerTls, TlsError};

/// Makes connections of a port [`Accepted`]. Cheap to clone; clones share what they have read.
#[derive(Clone, Debug)]
pub struct Acceptor(Arc<Files>);

#[derive(Debug)]
struct Files {
    tls: ServerTls,
    protocols: &'static [&'static str],
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// Of the files when they were last read: of those that `config` is made of, or of others that can't be used.
    stamps: Vec<Option<Stamp>>,
}

/// A file that is written, or replaced, gets another one.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Acceptor {
    /// Reads the files. Whoever connects may speak these protocols (as ALPN names them), the first one rather.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn new(tls: ServerTls, protocols: &'static [&'static str]) -> Result<Self, TlsError> {
        let stamps = tls.stamps();
        let config = Arc::new(tls.config(protocols)?);
        Ok(Self(Arc::new(Files { tls, protocols, loaded: Mutex::new(Loaded { config, stamps }) })))
    }

    /// An accepted connection, which shakes hands with the files as they are now.
    pub(crate) fn accept<I: AsyncRead + AsyncWrite + Unpin>(&self, io: I, peer: Option<SocketAddr>) -> Accepted<I> {
        Accepted::shaking(TlsAcceptor::from(self.config()).accept(io).into_fallible(), peer)
    }

    /// Files that can't be used (half of them is written, say) leave those in use that were.
    fn config(&self) -> Arc<ServerConfig> {
        let Files { tls, protocols, loaded } = &*self.0;
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = tls.stamps();
        if stamps != loaded.stamps {
            match tls.config(protocols) {
                Ok(config) => {
                    tracing::info!(cert = %tls.cert.display(), "TLS files have changed: new connections use them");
                    loaded.config = Arc::new(config);
                }
                Err(error) => {
                    tracing::warn!(%error, "TLS files have changed and can't be used: the former ones are still in use");
                }
            }
            loaded.stamps = stamps;
        }
        loaded.config.clone()
    }
}

impl ServerTls {
    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.paths().map(|path| Stamp::of(path)).collect()
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        let (inode, modified) = ((file.dev(), file.ino()), (file.mtime(), file.mtime_nsec()));
        Some(Self { inode, bytes: file.len(), modified })
    }
}
