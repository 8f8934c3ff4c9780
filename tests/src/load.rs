//! Clients that send numbered events until told to stop, and settle with the ledger what they were told.
//!
//! Each client owns its keys, and sends of a key nothing new while an older body of it is not settled: what was not
//! acknowledged is sent again, in order. A refusal's `Retry-After` is obeyed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::websocket::{Reply, WebSocket};
use crate::{Answer, Client, Ledger, Numbered, within};

/// Who sends what.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// The edges' HTTP ports: each client stays with one, until others are set.
    pub ports: Vec<u16>,
    /// Events a second of all clients together; less while they are held back.
    pub rate: f64,
    /// Different keys.
    pub keys: usize,
    /// Clients that send one event a request.
    pub singles: usize,
    /// Clients that send `batch` events a request.
    pub batches: usize,
    pub batch: usize,
    /// WebSocket clients, with `in_flight` events of one key unacknowledged.
    pub sockets: usize,
    pub in_flight: usize,
}

impl LoadConfig {
    /// The mix of the tests: most events in batches, some single, some over WebSocket.
    pub fn new(ports: Vec<u16>, rate: f64) -> Self {
        Self { ports, rate, keys: 1_000, singles: 12, batches: 6, batch: 50, sockets: 4, in_flight: 50 }
    }

    /// The most events that are sent and not acknowledged at any time.
    pub fn in_flight_max(&self) -> u64 {
        (self.singles + self.batches * self.batch + self.sockets * self.in_flight) as u64
    }
}

/// Running clients.
#[derive(Debug)]
pub struct Load {
    edges: Edges,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts all clients.
    pub fn start(config: &LoadConfig, ledger: &Ledger) -> Self {
        let edges = Edges(Arc::new(Mutex::new(config.ports.clone())));
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        let total = config.singles + config.batches + config.sockets;
        for index in 0..total {
            let keys = (index..config.keys).step_by(total).map(|key| Key { name: format!("key-{key}"), next: 1 });
            let worker = Worker {
                index,
                keys: keys.collect(),
                cursor: 0,
                ledger: ledger.clone(),
                stop: stop.clone(),
                edges: edges.clone(),
                // The sockets' and the single clients' share is a fifth each, the batches' the rest.
                rate: config.rate
                    * if index < config.singles {
                        0.2 / config.singles as f64
                    } else if index < config.singles + config.batches {
                        0.6 / config.batches as f64
                    } else {
                        0.2 / config.sockets as f64
                    },
            };
            if index < config.singles {
                clients.spawn(worker.post(1));
            } else if index < config.singles + config.batches {
                clients.spawn(worker.post(config.batch));
            } else {
                clients.spawn(worker.socket(config.in_flight));
            }
        }
        Self { edges, stop, clients }
    }

    /// From now on requests go to these edges. A WebSocket stays where it is until it is closed.
    pub fn send_to(&self, ports: Vec<u16>) {
        *self.edges.0.lock().unwrap_or_else(PoisonError::into_inner) = ports;
    }

    /// Lets every client settle what it has under way, and waits for that.
    pub async fn finish(mut self, deadline: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        within("the clients' last answers", deadline, async {
            while let Some(client) = self.clients.join_next().await {
                client.expect("a client");
            }
        })
        .await;
    }
}

/// The edges' HTTP ports.
#[derive(Clone, Debug)]
struct Edges(Arc<Mutex<Vec<u16>>>);

impl Edges {
    /// Where this client goes.
    fn of(&self, client: usize) -> u16 {
        let ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ports[client % ports.len()]
    }
}

#[derive(Debug)]
struct Key {
    name: String,
    next: u64,
}

#[derive(Debug)]
struct Worker {
    index: usize,
    keys: Vec<Key>,
    cursor: usize,
    ledger: Ledger,
    stop: Arc<AtomicBool>,
    edges: Edges,
    rate: f64,
}

impl Worker {
    async fn post(mut self, batch: usize) {
        let client = Client::new(self.edges.of(self.index));
        let mut pace = interval(Duration::from_secs_f64(batch as f64 / self.rate));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let body = self.next_body(batch);
            self.settle_body(&client, body).await;
        }
    }

    /// Two neighbouring events of each key where there is room for both: order counts within a body too.
    fn next_body(&mut self, batch: usize) -> Vec<Numbered> {
        let mut body = Vec::with_capacity(batch);
        while body.len() < batch {
            for _ in 0..2.min(batch - body.len()) {
                body.push(self.next_event());
            }
            self.next_key();
        }
        body
    }

    async fn settle_body(&mut self, client: &Client, mut body: Vec<Numbered>) {
        let mut refusals = Vec::new();
        while !body.is_empty() {
            let sent = Instant::now();
            let port = self.edges.of(self.index);
            let answer = match client.to(port).events(&body).await {
                Ok(answer) => answer,
                Err(unknown) => {
                    self.ledger.answered(&unknown);
                    self.ledger.fail(port, sent, &unknown);
                    self.ledger.repeat(body.len() as u64);
                    sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            self.ledger.answered(&answer.status.to_string());
            if answer.status != 200 {
                self.ledger.fail(port, sent, &format!("{} {}", answer.status, answer.text));
            }
            match answer.status {
                200 => {
                    self.ledger.acknowledge(&body);
                    body.clear();
                }
                429 | 503 => {
                    refusals.push(Instant::now());
                    sleep(answer.retry_after().unwrap_or(Duration::from_secs(1))).await;
                }
                504 => body = self.settle_open(body, &answer),
                status => {
                    for event in body.drain(..) {
                        self.ledger.reject(event, format!("{status} {}", answer.text));
                    }
                }
            }
        }
        self.ledger.taken_after(refusals);
    }

    /// After a 504: what is listed as unknown or withdrawn is sent again.
    fn settle_open(&self, body: Vec<Numbered>, answer: &Answer) -> Vec<Numbered> {
        let listed = answer.unpublished();
        let mut left = Vec::new();
        for (index, event) in body.into_iter().enumerate() {
            match listed.iter().find(|(at, _, _)| *at == index) {
                None => self.ledger.acknowledge(&[event]),
                Some((_, status, reason)) if status == "rejected" => self.ledger.reject(event, reason.clone()),
                Some(_) => left.push(event),
            }
        }
        self.ledger.repeat(left.len() as u64);
        left
    }

    async fn socket(mut self, in_flight: usize) {
        let mut pace = interval(Duration::from_secs_f64(in_flight as f64 / self.rate));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut socket = None;
        while !self.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let mut unsettled: VecDeque<_> = (0..in_flight).map(|_| self.next_event()).collect();
            self.next_key();
            while !unsettled.is_empty() {
                let connected = match socket.take() {
                    Some(connected) => Ok(connected),
                    None => WebSocket::connect(self.edges.of(self.index), Some("jaiminho.v1")).await,
                };
                let settled = match connected {
                    Ok(mut connected) => self.settle_over(&mut connected, &mut unsettled).await.map(|()| connected),
                    Err(error) => Err(error),
                };
                match settled {
                    Ok(connected) => socket = Some(connected),
                    Err(error) => {
                        self.ledger.answered(&format!("WebSocket: {error}"));
                        sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        }
        if let Some(socket) = socket {
            socket.close().await;
        }
    }

    /// Sends all of `unsettled`, and takes out what is acknowledged. An error: the rest is to be sent again.
    async fn settle_over(&self, socket: &mut WebSocket, unsettled: &mut VecDeque<Numbered>) -> Result<(), String> {
        let mut sent = VecDeque::new();
        let result = self.exchange(socket, unsettled, &mut sent).await;
        self.ledger.repeat(sent.len() as u64);
        // What was sent and not settled is older than what was not sent.
        while let Some((_, event)) = sent.pop_back() {
            unsettled.push_front(event);
        }
        result
    }

    async fn exchange(
        &self,
        socket: &mut WebSocket,
        unsent: &mut VecDeque<Numbered>,
        sent: &mut VecDeque<(u64, Numbered)>,
    ) -> Result<(), String> {
        while !unsent.is_empty() || !sent.is_empty() {
            while socket.credit() > 0
                && let Some(event) = unsent.pop_front()
            {
                let number = socket.send(&event.cloud_event()).await;
                match number {
                    Ok(number) => sent.push_back((number, event)),
                    Err(error) => {
                        unsent.push_front(event);
                        return Err(error);
                    }
                }
            }
            match socket.reply(Duration::from_secs(60)).await? {
                Reply::Credit => {}
                Reply::Published(number) => {
                    if let Some(event) = take(sent, number) {
                        self.ledger.acknowledge(&[event]);
                    }
                }
                Reply::Rejected(number, answer) => {
                    if let Some(event) = take(sent, number) {
                        self.ledger.reject(event, answer);
                    }
                }
            }
        }
        Ok(())
    }

    fn next_event(&mut self) -> Numbered {
        let at = self.cursor % self.keys.len();
        let key = &mut self.keys[at];
        let number = key.next;
        key.next += 1;
        Numbered { key: key.name.clone(), number }
    }

    fn next_key(&mut self) {
        self.cursor += 1;
    }
}

fn take(sent: &mut VecDeque<(u64, Numbered)>, number: u64) -> Option<Numbered> {
    let at = sent.iter().position(|(sent, _)| *sent == number)?;
    sent.remove(at).map(|(_, event)| event)
}
