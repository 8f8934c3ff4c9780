//! Links over gRPC (tonic), and the same within one process.
//!
//! - [`Server`] offers a stage on a port: the `Stage` service, health and reflection, and `Inspect` where it is told to.
//! - [`Connector`] opens a link to such a port: one connection for each link.
//! - [`InProcess`] opens links to stages of the same process.
//! - [`Asker`] asks what the stages at a port tell of themselves.
//!
//! What carries the bytes is TCP, unless [`Dial`] and [`Listen`] bring something else.
//!
//! Both ends of a link are the runtime's [`LinkHalf`](jaiminho_runtime::LinkHalf). What comes from a peer is checked here before a stage sees it, and a
//! peer that breaks the protocol gets a status. In each direction one pump carries messages through a channel of a few
//! places, so that reading never waits for writing and nothing piles up. Heartbeats are the stage's business.

mod connection;
mod connector;
mod credit;
mod health;
mod in_process;
mod incoming;
mod inspect;
pub mod memory;
mod outgoing;
mod server;
mod service;
mod streams;
mod transport;

pub use connector::{Connector, ConnectorConfig, http_window_bytes};
pub use health::Health;
pub use in_process::InProcess;
pub use inspect::{About, AskError, Asker, ProcessSeen, Told};
pub use jaiminho_tls::{Tls, TlsError};
pub use server::{HTTP_FRAME_BYTES, ServeError, Server, ServerConfig};
pub use transport::{Dial, Io, Listen, Tcp};
