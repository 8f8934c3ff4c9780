//! What is wrong, in words. "It" is the peer.

use std::io;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// Of a peer whose first bytes are something else.
pub const NO_TLS: &str = "it does not speak TLS";
/// Of a peer that answers plain text with an alert.
pub const ONLY_TLS: &str = "it speaks TLS, and this side does not";
/// Names of a certificate that are told.
const NAMES_MAX: usize = 4;

/// rustls' own error, where it is one. Some wrap theirs once more.
pub(crate) fn rustls(error: &io::Error) -> Option<&Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| rustls(inner.downcast_ref()?))
}

/// What an error of somebody else's connection says, where it comes of TLS.
pub fn fault_of(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let own = error.downcast_ref().or_else(|| rustls(error.downcast_ref()?));
    own.map(told).or_else(|| match error.source() {
        Some(source) => fault_of(source),
        None => alert(&error.to_string()),
    })
}

/// Of an alert HTTP/2 keeps but rustls' text: it comes when hands are shaken, as a server's that refuses a certificate.
fn alert(text: &str) -> Option<String> {
    let mut alerts = (0..=u8::MAX).map(|code| Error::AlertReceived(code.into()));
    alerts.find(|alert| alert.to_string() == text).as_ref().map(told)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add further ones")]
pub(crate) fn told(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => format!("its certificate {}", certificate(error)),
        Error::NoCertificatesPresented => "it presents no certificate, and `ca` asks for one".into(),
        Error::InvalidMessage(_) => NO_TLS.into(),
        Error::AlertReceived(alert) => refused(*alert),
        other => other.to_string(),
    }
}

/// What is wrong with a certificate, which is the subject.
pub(crate) fn wrong(error: &Error) -> String {
    if let Error::InvalidCertificate(error) = error { certificate(error) } else { format!("can't be used: {error}") }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add further ones")]
fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::BadEncoding => "is no X.509 certificate".into(),
        CertificateError::Expired => "has expired".into(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("has expired at {}", moment(*not_after))
        }
        CertificateError::NotValidYet => "is not valid yet".into(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}", moment(*not_before))
        }
        // A bad signature is what an authority leads to that has the name of one of `ca`, and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is not signed by an authority of `ca`".into()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("is for {}, not for `{}`", names(presented), expected.to_str())
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for this use: stages need both `server auth` and `client auth`".into()
        }
        other => format!("can't be used: {other}"),
    }
}

/// Why a peer ends the handshake, as far as its alert says so.
#[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add further ones")]
fn refused(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::CertificateRequired => return "it asks for a certificate, and this side has none".into(),
        AlertDescription::CertificateExpired => "it has expired, or is not valid yet",
        AlertDescription::UnknownCA | AlertDescription::DecryptError => "it is not signed by an authority of its `ca`",
        AlertDescription::UnsupportedCertificate => "it is not for this use",
        AlertDescription::BadCertificate => "it is not for the name that was asked for, or can't be read",
        AlertDescription::CertificateRevoked => "it is revoked",
        AlertDescription::CertificateUnknown => "it can't be used",
        other => return format!("it ends the handshake: {other:?}"),
    };
    format!("it refuses this side's certificate: {why}")
}

/// The names of a certificate: rustls has them as `DnsName("a")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        format!("`{}`", inner.trim_matches('"').escape_debug())
    };
    let mut told: Vec<String> = presented.iter().take(NAMES_MAX).map(bare).collect();
    if presented.len() > NAMES_MAX {
        told.push(format!("{} more", presented.len() - NAMES_MAX));
    }
    if told.is_empty() { "no name at all".into() } else { told.join(", ") }
}

fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let moment = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|moment| moment.format(&Rfc3339).ok());
    moment.unwrap_or_else(|| format!("{seconds} s after 1970"))
}
