//! TLS of our ports, and of connections to them, from PEM files that are read again when they change.
//!
//! - [`Tls`] and [`ServerTls`] are its shapes in the pipeline file.
//! - [`Acceptor`] makes a port's connections [`Accepted`]. Each shakes hands when it is first read or written, so in its own task: who
//!   accepts never waits, and the bound of a port's connections is that of its handshakes.
//! - [`connect`] shakes hands with a port, and [`Fault`] says in words what is wrong between the two.
//!
//! Whoever is refused is told so before the connection is closed, and both sides have the same words for it.

mod accepted;
mod acceptor;
mod certificate;
mod connect;
mod files;
mod plain;
mod words;

pub use accepted::Accepted;
pub use acceptor::Acceptor;
pub use certificate::PeerCertificate;
pub use connect::{Connected, Fault, connect};
pub use files::{ServerTls, Tls, TlsError};
pub use words::{NO_TLS, ONLY_TLS, fault_of};

/// Of a connection: a record as it comes in, the same decrypted, what is not written yet, and its keys. A handshake takes less than that.
const STREAM_BYTES: u64 = (18 + 16 + 64 + 14) << 10;
/// A handshake's longest message: the peer's certificates, as the session has them and as they are asked for.
const CERTIFICATES_BYTES: u64 = 2 * (64 << 10);

/// What TLS takes of a connection at most, with or without certificates of the peer.
pub const fn connection_bytes_max(has_certificates: bool) -> u64 {
    if has_certificates { STREAM_BYTES + CERTIFICATES_BYTES } else { STREAM_BYTES }
}
