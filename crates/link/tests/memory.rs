//! What a link takes of memory at its peak, counted by an allocator, against what the memory's sum has for it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use allocation_counter::measure;
use jaiminho_core::{
    Credit, Delivery, EVENT_OVERHEAD_BYTES, FRAME_BYTES, LinkError, Payload, Subscribe, ToConsumer, ToProducer, Window,
    frame_bytes_max,
};
use jaiminho_link::memory::{coding_bytes_max, connection_bytes_max, unread_bytes_max, unsent_bytes_max};
use jaiminho_link::{Connector, ConnectorConfig, ServerConfig};
use jaiminho_runtime::{Address, Connect, LinkHalf};
use support::{ENDLESS, Rig, event, soon};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

const WINDOW: Window = Window { events: 2_000, bytes: 1 << 20 };
const SIZES: [u64; 3] = [64 << 10, 256 << 10, 1 << 20];
/// The runtime and the test itself.
const SMALL: u64 = 128 << 10;
/// Nothing moves any more.
const STILL: Duration = Duration::from_secs(1);

/// The other side of the link runs on a thread of its own, where nothing is counted.
fn elsewhere(work: impl AsyncFnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || here(work()))
}

fn here<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn link(addresses: Receiver<Address>, event_bytes_max: u64) -> LinkHalf {
    let frame_bytes_max = frame_bytes_max(event_bytes_max);
    let wanted = Subscribe { window: WINDOW, event_bytes_max, frame_bytes_max, ..support::subscribe() };
    let connector = Connector::new(ConnectorConfig::default(), TaskTracker::new());
    soon(connector.connect(&addresses.recv().unwrap(), wanted)).await.unwrap()
}

async fn serve(addresses: Sender<Address>) -> Rig {
    let rig = Rig::with(ServerConfig::default(), ConnectorConfig::default()).await;
    addresses.send(rig.address.clone()).unwrap();
    rig
}

/// Payloads of a frame as large as it can be: filled, and overshot by an event of the largest size.
fn payloads(event_bytes: u64) -> [Payload; 2] {
    let payload = |bytes| Payload::from(vec![b'x'; bytes as usize]);
    [payload(event_bytes.min(FRAME_BYTES - 1024)), payload(event_bytes)]
}

fn frame(index: u64, payloads: &[Payload; 2]) -> ToConsumer {
    let delivery = |number, payload: &Payload| Delivery { number, event: event(number, payload.clone()) };
    let deliveries = (2 * index + 1..).zip(payloads).map(|(number, payload)| delivery(number, payload)).collect();
    ToConsumer::Events { deliveries, backlog: 0, pressure: false }
}

#[test]
fn a_consumer_that_never_reads_costs_its_producer_no_more_than_the_term() {
    for event_bytes in SIZES {
        let (addresses, address) = channel();
        let (done, is_done) = tokio::sync::oneshot::channel::<()>();
        let consumer = elsewhere(async move || {
            let link = link(address, event_bytes).await;
            link.to_producer.send(ENDLESS).await.unwrap();
            is_done.await.unwrap();
        });
        let payloads = payloads(event_bytes);
        let taken = measure(|| {
            here(async {
                let mut rig = serve(addresses).await;
                let mut producer = soon(rig.opened.recv()).await.unwrap();
                soon(producer.from_consumer.recv()).await.unwrap();
                for index in 0.. {
                    let sent = timeout(STILL, producer.to_consumer.send(Ok(frame(index, &payloads)))).await;
                    assert!(index < 1_000, "a link without bound");
                    let Ok(sent) = sent else { break };
                    sent.unwrap();
                }
                done.send(()).unwrap();
            });
        });
        consumer.join().unwrap();
        // The frame that is being written is the thread's.
        let term = unsent_bytes_max(event_bytes) + connection_bytes_max() + frame_bytes_max(event_bytes);
        let peak = taken.bytes_max;
        assert!(peak <= term + SMALL && peak >= term / 2, "{peak} of {term} for events of {event_bytes}");
    }
}

#[test]
fn a_producer_that_ignores_credit_costs_its_consumer_no_more_than_the_terms() {
    for event_bytes in SIZES {
        let (addresses, address) = channel();
        let (stuck, is_stuck) = tokio::sync::oneshot::channel::<()>();
        let payloads = payloads(event_bytes);
        let producer = elsewhere(async move || {
            let mut rig = serve(addresses).await;
            let mut producer = soon(rig.opened.recv()).await.unwrap();
            soon(producer.from_consumer.recv()).await.unwrap();
            for index in 0.. {
                let sent = timeout(STILL, producer.to_consumer.send(Ok(frame(index, &payloads)))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
            stuck.send(()).unwrap();
            producer.to_consumer.closed().await;
        });
        let taken = measure(|| {
            here(async {
                let mut link = link(address, event_bytes).await;
                let Window { events, bytes } = WINDOW;
                link.to_producer.send(ToProducer::Credit(Credit { events, bytes })).await.unwrap();
                soon(is_stuck).await.unwrap();
                let last = async {
                    let mut last = None;
                    while let Some(item) = link.from_producer.recv().await {
                        last = Some(item);
                    }
                    last
                };
                assert!(matches!(soon(last).await, Some(Err(LinkError::Violation(_)))));
            });
        });
        producer.join().unwrap();
        let held = WINDOW.bytes + event_bytes + WINDOW.events * EVENT_OVERHEAD_BYTES;
        let term = held + unread_bytes_max(WINDOW.bytes, event_bytes) + coding_bytes_max(event_bytes);
        let peak = taken.bytes_max;
        assert!(peak <= term + SMALL && peak >= term / 4, "{peak} of {term} for events of {event_bytes}");
    }
}
