//! Who asks the `Inspect` service of one address.

use std::{error::Error, io, time::Duration};

use jaiminho_proto::{
    INSPECTION_BYTES_MAX,
    v1::{self, inspect_client::InspectClient},
};
use jaiminho_runtime::Address;
use tokio::time::timeout;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::{Told, messages};
use crate::{connector::chain, tls::Tls};

const NO_TLS: &str = "it does not speak TLS, and the pipeline file says that it does";
const WANTS_TLS: &str = "it ends the connection at once: perhaps it speaks TLS, and the pipeline file names no `tls`";

/// Why nothing is known of what is at an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nothing listens, or nothing answers.
    #[error("nothing answers ({0})")]
    NoAnswer(String),
    /// Something answers, and does not serve `Inspect`.
    #[error("it tells nothing of itself: a stage without the Inspect service")]
    Foreign,
    /// It serves others, or was asked too often.
    #[error("it is asked too often: {0}")]
    Busy(String),
    /// Another status.
    #[error("it answers with {0}")]
    Refused(String),
}

/// Asks one address, over a connection that is kept.
#[derive(Debug)]
pub struct Asker {
    address: Address,
    tls: Option<Tls>,
    client: Option<InspectClient<Channel>>,
}

impl Asker {
    /// Not connected yet.
    pub fn new(address: Address, tls: Option<Tls>) -> Self {
        Self { address, tls, client: None }
    }

    /// What the stages there tell, within this time.
    ///
    /// # Errors
    /// See [`AskError`]. The next question connects anew, if need be.
    pub async fn ask(&mut self, deadline: Duration) -> Result<Told, AskError> {
        let answered = timeout(deadline, self.asked()).await;
        let late = || AskError::NoAnswer(format!("no answer within {} ms", deadline.as_millis()));
        let answered = answered.unwrap_or_else(|_| Err(late()));
        if let Err(AskError::NoAnswer(_)) = answered {
            self.client = None;
        }
        answered
    }

    async fn asked(&mut self) -> Result<Told, AskError> {
        let mut client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let channel = self.connected().await.map_err(|error| AskError::NoAnswer(plain(&*error)))?;
                let client = InspectClient::new(channel).max_decoding_message_size(INSPECTION_BYTES_MAX);
                self.client.insert(client).clone()
            }
        };
        match client.inspect(v1::InspectRequest {}).await {
            Ok(response) => Ok(messages::decode(response.into_inner())),
            Err(status) => Err(self.refused(&status)),
        }
    }

    async fn connected(&self) -> Result<Channel, Box<dyn Error + Send + Sync>> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address.0))?
            .tcp_nodelay(true)
            .initial_stream_window_size(INSPECTION_BYTES_MAX as u32)
            .initial_connection_window_size(INSPECTION_BYTES_MAX as u32);
        let endpoint = match &self.tls {
            None => endpoint,
            Some(tls) => {
                let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
                endpoint.tls_config(tls.client(&host)?)?
            }
        };
        Ok(endpoint.connect().await?)
    }

    fn refused(&self, status: &Status) -> AskError {
        let code = status.code();
        if code == Code::Unimplemented {
            AskError::Foreign
        } else if code == Code::ResourceExhausted {
            AskError::Busy(status.message().to_owned())
        } else if status.source().is_none() {
            AskError::Refused(format!("{code:?}: {}", status.message()))
        } else if self.tls.is_none() {
            // Tonic's own, of a connection that is lost.
            AskError::NoAnswer(WANTS_TLS.to_owned())
        } else {
            AskError::NoAnswer(chain(status))
        }
    }
}

/// The last cause in words: `connection refused`.
fn plain(error: &(dyn Error + 'static)) -> String {
    let text = chain(error);
    if text.contains("InvalidContentType") {
        return NO_TLS.to_owned();
    }
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.downcast_ref::<io::Error>() {
        // As which rustls' errors come: its words say more.
        Some(error) if error.kind() != io::ErrorKind::InvalidData => error.kind().to_string(),
        Some(_) | None => text,
    }
}
