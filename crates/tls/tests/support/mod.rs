//! Authorities, certificates, and a log that can be read.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jaiminho_tls::{ServerTls, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use tracing::subscriber::DefaultGuard;

/// Signs certificates; its own is in a file.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    issued: Cell<u32>,
}

#[derive(Clone, Copy)]
pub(crate) enum Validity {
    Now,
    /// Until the end of 2020.
    Past,
    /// From 2090 on.
    Future,
}

/// A certificate and its key, in files of its authority's.
pub(crate) struct Issued {
    stem: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let (folder, key) = (tempfile::tempdir().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key), issued: Cell::default() }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_for(name, Validity::Now)
    }

    pub(crate) fn issue_for(&self, name: &str, validity: Validity) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let (from, until) = match validity {
            Validity::Now => (2020, 2100),
            Validity::Past => (2020, 2021),
            Validity::Future => (2090, 2100),
        };
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        self.issued.set(self.issued.get() + 1);
        let issued = Issued { stem: self.folder.path().join(self.issued.get().to_string()) };
        std::fs::write(issued.cert(), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(issued.key(), key.serialize_pem()).unwrap();
        issued
    }
}

impl Issued {
    pub(crate) fn cert(&self) -> PathBuf {
        self.stem.with_extension("pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.stem.with_extension("key")
    }

    /// A port with it, which asks for certificates of this authority.
    pub(crate) fn server(&self, ca: Option<&Authority>) -> ServerTls {
        ServerTls { cert: self.cert(), key: self.key(), ca: ca.map(Authority::file) }
    }

    /// A client with it, which trusts this authority.
    pub(crate) fn client(&self, ca: &Authority) -> Tls {
        Tls { ca: Some(ca.file()), cert: Some(self.cert()), key: Some(self.key()), server_name: None }
    }
}

/// What this thread logs.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Until the guard is dropped.
    pub(crate) fn begin() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
