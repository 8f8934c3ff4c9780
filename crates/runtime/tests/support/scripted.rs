//! Producers in the hands of a test.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jaiminho_core::{
    Credit, Delivery, Event, GroupKind, Instance, LinkError, Origin, Subscribe, Subscribed, ToConsumer, ToProducer,
    Versions, Window,
};
use jaiminho_runtime::{
    Address, Asking, Cancel, Connect, LinkHalf, Serve as _, StageConfig, StageHandle, UpstreamSpec,
};
use tokio::sync::mpsc;

use super::Always;

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.unwrap()
}

/// A subscription to `in`, of a group's instance.
pub(crate) fn wanted(group: &str, name: &str) -> Subscribe {
    Subscribe {
        versions: Versions { min: 1, max: 1 },
        pipeline: "p".into(),
        output: "in".into(),
        group: group.into(),
        kind: GroupKind::Required,
        instance: Instance { name: name.into(), incarnation: 1 },
        link_counter: 1,
        window: Window { events: 10, bytes: 1_000 },
        event_bytes_max: 1_000,
        frame_bytes_max: 10_000,
        selector: None,
        partition: None,
    }
}

/// A link to `in` that has given all of its window as credit.
pub(crate) async fn linked(stage: &StageHandle, subscribe: Subscribe) -> LinkHalf {
    let half = stage.subscribe(subscribe).await.unwrap();
    half.to_producer.send(ToProducer::Credit(Credit { events: 10, bytes: 1_000 })).await.unwrap();
    half
}

pub(crate) async fn deliveries(half: &mut LinkHalf) -> Vec<Delivery> {
    loop {
        match soon(half.from_producer.recv()).await {
            Some(Ok(ToConsumer::Events { deliveries, .. })) if deliveries.is_empty() => {}
            Some(Ok(ToConsumer::Events { deliveries, .. })) => return deliveries,
            other => panic!("{other:?}"),
        }
    }
}

/// The producer's half of a link, in the hands of the test.
pub(crate) struct Scripted {
    pub(crate) subscribe: Subscribe,
    pub(crate) from_consumer: mpsc::Receiver<ToProducer>,
    pub(crate) to_consumer: mpsc::Sender<Result<ToConsumer, LinkError>>,
}

impl Scripted {
    pub(crate) async fn say(&self, message: ToConsumer) {
        self.to_consumer.send(Ok(message)).await.unwrap();
    }

    pub(crate) async fn send(&self, numbers: impl IntoIterator<Item = u64>) {
        let deliveries = numbers.into_iter().map(delivery).collect();
        self.say(ToConsumer::Events { deliveries, backlog: 0, pressure: false }).await;
    }

    pub(crate) async fn credit(&mut self) -> Credit {
        loop {
            match soon(self.from_consumer.recv()).await {
                Some(ToProducer::Credit(credit)) => return credit,
                Some(ToProducer::Dispositions(_) | ToProducer::Cancel { .. }) => {}
                None => panic!("the link has ended"),
            }
        }
    }

    /// The number up to which all is settled, once it is `last`.
    pub(crate) async fn settled(&mut self, last: u64) {
        loop {
            match soon(self.from_consumer.recv()).await {
                Some(ToProducer::Dispositions(settled)) if settled.iter().any(|range| range.last == last) => return,
                Some(_) => {}
                None => panic!("the link has ended"),
            }
        }
    }

    /// The consumer gives the link up.
    pub(crate) async fn given_up(mut self) {
        while soon(self.from_consumer.recv()).await.is_some() {}
    }
}

pub(crate) fn delivery(number: u64) -> Delivery {
    let payload = number.to_string().into_bytes().into();
    let (origin, deadline_ms, trace) = (Origin::default(), None, None);
    Delivery { number, event: Event { payload, key: None, attempt: 1, arrived_ms: 0, deadline_ms, origin, trace } }
}

pub(crate) struct Scripts {
    opened: mpsc::Sender<Scripted>,
    window: Window,
}

impl Connect for Scripts {
    fn connect<'a>(&'a self, _: &'a Address, subscribe: Subscribe) -> BoxFuture<'a, Result<LinkHalf, LinkError>> {
        Box::pin(async move {
            let (to_producer, from_consumer) = mpsc::channel(16);
            let (to_consumer, from_producer) = mpsc::channel(16);
            let subscribed = Subscribed {
                version: 1,
                window: self.window,
                link_id: 1,
                instance: Instance { name: "in-0".into(), incarnation: 1 },
                partition_count: 4_096,
                hash_version: 1,
                heartbeat_ms: 2_000,
            };
            self.opened.send(Scripted { subscribe, from_consumer, to_consumer }).await.unwrap();
            Ok(LinkHalf { subscribed, to_producer, from_producer })
        })
    }
}

pub(crate) fn scripted(
    mut config: StageConfig,
    addresses: &[&str],
    window: Window,
) -> (StageConfig, mpsc::Receiver<Scripted>) {
    let (opened, links) = mpsc::channel(16);
    config.upstreams = vec![UpstreamSpec {
        output: "in".into(),
        kind: GroupKind::Required,
        window: Window { events: 4, bytes: 100 },
        min_demand: 2,
        asking: Asking::Automatic,
        cancel: Cancel::Temporary,
        selector: None,
        partition: None,
        discover: Box::new(Always(addresses.iter().map(|name| Address((*name).into())).collect(), true)),
        connect: Arc::new(Scripts { opened, window }),
    }];
    (config, links)
}
