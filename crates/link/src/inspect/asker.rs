//! Who asks the `Inspect` service of one address.

use std::{error::Error, io, time::Duration};

use hyper_util::rt::TokioIo;
use jaiminho_proto::{
    INSPECTION_BYTES_MAX,
    v1::{self, inspect_client::InspectClient},
};
use jaiminho_runtime::Address;
use jaiminho_tls::{Fault, NO_TLS, ONLY_TLS, Tls};
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};

use super::{Told, messages};
use crate::{
    Tcp,
    connector::{chain, dialled, endpoint},
};

const NO_TLS_TOLD: &str = "it does not speak TLS, and the pipeline file says that it does";
const ONLY_TLS_TOLD: &str = "it speaks TLS, and the pipeline file names no `tls`";
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
    tcp: Tcp,
    address: Address,
    tls: Option<Tls>,
    /// Of the last connection.
    fault: Fault,
    client: Option<InspectClient<Channel>>,
    /// Whether the last connection has answered before.
    has_answered: bool,
}

impl Asker {
    /// Not connected yet.
    pub fn new(address: Address, tls: Option<Tls>) -> Self {
        Self { tcp: Tcp::default(), address, tls, fault: Fault::default(), client: None, has_answered: false }
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
                let channel = self
                    .connected()
                    .await
                    .map_err(|error| AskError::NoAnswer(self.told().unwrap_or_else(|| plain(&error))))?;
                let client = InspectClient::new(channel).max_decoding_message_size(INSPECTION_BYTES_MAX);
                self.client.insert(client).clone()
            }
        };
        match client.inspect(v1::InspectRequest {}).await {
            Ok(response) => {
                self.has_answered = true;
                Ok(messages::decode(response.into_inner()))
            }
            Err(status) => Err(self.refused(&status)),
        }
    }

    async fn connected(&mut self) -> Result<Channel, tonic::transport::Error> {
        (self.fault, self.has_answered) = (Fault::default(), false);
        let (tcp, address, tls, fault) = (self.tcp.clone(), self.address.clone(), self.tls.clone(), self.fault.clone());
        let connect = tower::service_fn(move |_| {
            let (tcp, address, tls, fault) = (tcp.clone(), address.clone(), tls.clone(), fault.clone());
            async move { dialled(&tcp, &address, tls.as_ref(), &fault).await.map(TokioIo::new) }
        });
        let endpoint = endpoint(&self.address, self.tls.as_ref())?
            .initial_stream_window_size(INSPECTION_BYTES_MAX as u32)
            .initial_connection_window_size(INSPECTION_BYTES_MAX as u32);
        endpoint.connect_with_connector(connect).await
    }

    /// What this side and the other do not agree on.
    fn told(&self) -> Option<String> {
        Some(match self.fault.told()? {
            NO_TLS => NO_TLS_TOLD.to_owned(),
            ONLY_TLS => ONLY_TLS_TOLD.to_owned(),
            other => other.to_owned(),
        })
    }

    fn refused(&self, status: &Status) -> AskError {
        let code = status.code();
        match (code, status.source()) {
            (Code::Unimplemented, _) => AskError::Foreign,
            (Code::ResourceExhausted, _) => AskError::Busy(status.message().to_owned()),
            (_, None) => AskError::Refused(format!("{code:?}: {}", status.message())),
            // Tonic's own, of a connection that is lost.
            (_, Some(cause)) => AskError::NoAnswer(self.told().unwrap_or_else(|| {
                let wants_tls = self.tls.is_none() && !self.has_answered;
                if wants_tls { WANTS_TLS.to_owned() } else { plain(cause) }
            })),
        }
    }
}

/// The last cause in words: `connection refused`.
fn plain(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.downcast_ref::<io::Error>().map_or_else(|| chain(error), |error| error.kind().to_string())
}
