//! A relay before the embedded broker that can do what that can't: be a cluster whose brokers are all fenced for a
//! while, so that its metadata lists none.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

const METADATA: [u8; 2] = 3_u16.to_be_bytes();
/// The version that this librdkafka and its broker agree on: its layout is what [`Answer`] knows.
const METADATA_VERSION: [u8; 2] = 12_u16.to_be_bytes();

#[derive(Clone)]
pub(super) struct Relay {
    port: u16,
    broker: String,
    fenced: Arc<AtomicBool>,
    /// Metadata answers that listed no broker.
    blank_answers: Arc<AtomicU64>,
}

impl Relay {
    pub(super) async fn start(broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = Self { port, broker, fenced: Arc::default(), blank_answers: Arc::default() };
        let accepting = relay.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(client));
            }
        });
        relay
    }

    pub(super) fn bootstrap_servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn fence(&self, fenced: bool) {
        self.fenced.store(fenced, Ordering::SeqCst);
    }

    pub(super) fn blank_answers(&self) -> u64 {
        self.blank_answers.load(Ordering::SeqCst)
    }

    async fn serve(self, client: TcpStream) {
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = TcpStream::connect(&self.broker).await.unwrap().into_split();
        let asked = Arc::new(Mutex::new(HashSet::new()));
        tokio::join!(requests(from_client, to_broker, asked.clone()), self.answers(from_broker, to_client, asked));
    }

    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Arc<Mutex<HashSet<[u8; 4]>>>) {
        while let Some(mut frame) = read(&mut from).await {
            if asked.lock().await.remove(&frame[..4]) {
                frame = self.metadata(&frame);
            }
            if write(&mut to, &frame).await.is_none() {
                return;
            }
        }
    }

    /// Correlation id, no tags, throttle time; then the list of brokers, which is one.
    fn metadata(&self, frame: &[u8]) -> Vec<u8> {
        const LIST: usize = 4 + 1 + 4;
        assert_eq!(frame[LIST], 1 + 1, "one broker");
        let port = LIST + 1 + 4 + usize::from(frame[LIST + 5]);
        let rack_bytes = usize::from(frame[port + 4].max(1));
        let rest = port + 4 + rack_bytes + 1;
        let mut changed = frame.to_vec();
        if self.fenced.load(Ordering::SeqCst) {
            changed.splice(LIST..rest, [1]);
            self.blank_answers.fetch_add(1, Ordering::SeqCst);
        } else {
            changed[port..port + 4].copy_from_slice(&u32::from(self.port).to_be_bytes());
        }
        changed
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Arc<Mutex<HashSet<[u8; 4]>>>) {
    while let Some(frame) = read(&mut from).await {
        if frame[..2] == METADATA {
            assert_eq!(frame[2..4], METADATA_VERSION);
            asked.lock().await.insert(frame[4..8].try_into().unwrap());
        }
        if write(&mut to, &frame).await.is_none() {
            return;
        }
    }
}

async fn read(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut frame = vec![0; from.read_u32().await.ok()? as usize];
    from.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn write(to: &mut OwnedWriteHalf, frame: &[u8]) -> Option<()> {
    to.write_u32(frame.len() as u32).await.ok()?;
    to.write_all(frame).await.ok()
}
