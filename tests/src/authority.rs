//! Authorities, and certificates that they sign, as files of a test's directory.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};

/// Signs certificates. All authorities have the same name, as those that are renewed do.
pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

impl Authority {
    /// A new one, with its certificate in the file `NAME.ca.pem`.
    pub fn new(directory: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).expect("an authority").pem();
        std::fs::write(directory.join(format!("{name}.ca.pem")), &pem).expect("write an authority");
        Self { directory: directory.to_owned(), issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this host in the file `NAME.pem`, with its key in `NAME.key`; those that are there are replaced.
    pub fn issue(&self, name: &str, host: &str) {
        self.issue_until(name, host, 2100);
    }

    /// The same until the beginning of a year.
    pub fn issue_until(&self, name: &str, host: &str, year: i32) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        for (ending, text) in [("pem", cert), ("key", key.serialize_pem())] {
            std::fs::write(self.directory.join(format!("{name}.{ending}")), text).expect("write a certificate");
        }
    }
}
