//! One socket. Its task owns all of its state; each step waits for the first thing that can happen, then acts on it.
//!
//! A message goes: received, memory reserved, drafted, queued, offered (one offer at a time, of all that is queued: order
//! is kept), answered. Closing stops the reading, and lets what was received reach the stage first.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use jaiminho_core::{Outcome, Reason};
use jaiminho_runtime::{Answer, NewEvent, Offer, Pending, Refusal};
use jaiminho_telemetry::names::ingest as names;
use jaiminho_telemetry::traces::TraceContext;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite;

use crate::answer::{EventId, EventOutcome, REJECTED, reason_text};
use crate::config::{Cost, WebSocketConfig};
use crate::draft::{Common, Fault, FaultKind};
use crate::edge::{Edge, Phase};
use crate::reading::until_answer;
use crate::traced::{Arrival, Heard, Socket};
use crate::websocket::Mode;
use crate::websocket::frames::{Ack, EventFrame, ServerFrame};

/// Not offered yet, of one socket; more is not read.
const QUEUE_BYTES_MAX: usize = 256 << 10;

/// For the client's half of the closing handshake, and for a queue whose socket is closed for the client's fault.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// For a client to see why, before its connection is reset.
const RESET_WAIT: Duration = Duration::from_millis(250);

/// Between offers of a body that was refused.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

const AWAY: u16 = 1001;
const PROTOCOL: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const INVALID: u16 = 1007;
const TOO_BIG: u16 = 1009;
const AGAIN: u16 = 1013;

const NEVER_FITS: &str = "it can never fit the log";

/// An event between its message and its offer.
#[derive(Debug)]
struct Queued {
    event: NewEvent,
    sent: Sent,
    bytes: usize,
    _room: OwnedSemaphorePermit,
}

/// An event whose outcome is due.
#[derive(Debug)]
struct Sent {
    n: u64,
    id: EventId,
    heard: Heard,
    _waiting: Option<OwnedSemaphorePermit>,
}

/// How an offer ended.
enum Offered {
    Taken(Vec<Sent>, Pending),
    /// Nothing of it can ever fit.
    TooLarge(Vec<Queued>),
    Draining,
}

/// The end of a socket: reading is over.
#[derive(Debug)]
struct Closing {
    /// None: the client closed, or is gone.
    code: Option<u16>,
    reason: String,
    until: Instant,
}

enum Step {
    Message(Option<Result<Message, axum::Error>>),
    Reserved(Heard, Utf8Bytes, OwnedSemaphorePermit),
    Offered(Offered),
    Answered(Vec<Sent>, Vec<Answer>),
    Tick,
    HeldTooLong,
    Drain,
    ClosingOver,
}

pub(crate) struct Session {
    edge: Arc<Edge>,
    config: WebSocketConfig,
    mode: Mode,
    common: Common,
    /// In traces.
    socket: Arc<Socket>,
    cost: Cost,
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    /// A message that waits for memory.
    reserving: Option<BoxFuture<'static, (Heard, Utf8Bytes, Option<OwnedSemaphorePermit>)>>,
    queue: Vec<Queued>,
    queue_bytes: usize,
    /// Most events of an offer; one, once a larger offer was found never to fit.
    batch_max: usize,
    offering: Option<BoxFuture<'static, Offered>>,
    answering: FuturesUnordered<BoxFuture<'static, (Vec<Sent>, Vec<Answer>)>>,
    /// Events received and answered since the socket opened; their difference is in flight.
    received: u64,
    answered: u64,
    granted: u64,
    out: Vec<Message>,
    last_seen: Instant,
    /// Since when it does not read.
    held_since: Option<Instant>,
    ping: Interval,
    closing: Option<Closing>,
}

impl Session {
    pub(crate) fn new(
        edge: Arc<Edge>,
        mode: Mode,
        mut common: Common,
        handshake: Option<TraceContext>,
        socket: WebSocket,
    ) -> Self {
        let config = edge.config.websocket.clone().unwrap_or_default();
        let (sink, stream) = socket.split();
        let mut ping = interval(config.ping_interval.0);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let socket = Socket { path: config.path.clone(), handshake, is_told: mode == Mode::Acknowledged };
        let socket = Arc::new(socket);
        (common.carried, common.arrival) = (None, Arrival::of_message(&edge.tracer, &socket));
        let cost = edge.drafter.cost(&edge.config.limits, None, &common);
        Self {
            edge,
            config,
            mode,
            common,
            socket,
            cost,
            sink,
            stream,
            reserving: None,
            queue: Vec::new(),
            queue_bytes: 0,
            batch_max: usize::MAX,
            offering: None,
            answering: FuturesUnordered::new(),
            received: 0,
            answered: 0,
            granted: 0,
            out: Vec::new(),
            last_seen: Instant::now(),
            held_since: None,
            ping,
            closing: None,
        }
    }

    pub(crate) async fn run(mut self) {
        metrics::gauge!(names::SOCKETS).increment(1.0);
        loop {
            self.start_offer();
            self.grant();
            self.flush().await;
            if self.is_over() {
                break;
            }
            self.note_held();
            let step = self.next_step().await;
            self.apply(step);
        }
        self.close().await;
        metrics::gauge!(names::SOCKETS).decrement(1.0);
    }

    /// Waits for the first thing to happen. Dropped futures lose nothing: all that has state is in `self`.
    async fn next_step(&mut self) -> Step {
        let can_read = self.can_read();
        let held_until = self.held_since.map(|since| since + self.config.hold_max.0);
        let closing_until = self.closing.as_ref().map(|closing| closing.until);
        let is_open = self.closing.is_none();
        let mut phase = self.edge.phase.clone();
        tokio::select! {
            message = self.stream.next(), if can_read => Step::Message(message),
            Some((heard, text, room)) = OptionFuture::from(self.reserving.as_mut()), if self.reserving.is_some() => {
                self.reserving = None;
                // The room is only closed with the whole edge.
                room.map_or(Step::Drain, |room| Step::Reserved(heard, text, room))
            }
            Some(offered) = OptionFuture::from(self.offering.as_mut()), if self.offering.is_some() => {
                self.offering = None;
                Step::Offered(offered)
            }
            Some((sent, answers)) = self.answering.next(), if !self.answering.is_empty() => Step::Answered(sent, answers),
            _ = self.ping.tick(), if is_open => Step::Tick,
            _ = phase.wait_for(|phase| *phase == Phase::Closed), if is_open => Step::Drain,
            Some(()) = OptionFuture::from(held_until.map(sleep_until)), if is_open && held_until.is_some() => Step::HeldTooLong,
            Some(()) = OptionFuture::from(closing_until.map(sleep_until)), if !is_open => Step::ClosingOver,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Message(message) => self.received(message),
            Step::Reserved(heard, text, room) => self.draft(heard, &text, room),
            Step::Offered(Offered::Taken(sent, pending)) => {
                self.edge.meters.websocket_events.increment(sent.len() as u64);
                self.answering.push(async move { (sent, pending.answers().await) }.boxed());
            }
            Step::Offered(Offered::TooLarge(queued)) => self.too_large(queued),
            Step::Offered(Offered::Draining) => {
                // Never taken, never acknowledged: the client sends it to another instance.
                self.queue.clear();
                self.drain();
            }
            Step::Answered(sent, answers) => {
                for (sent, answer) in sent.into_iter().zip(&answers) {
                    self.tell(sent, answer);
                }
            }
            Step::Tick => self.tick(),
            Step::HeldTooLong => self.begin_close(AGAIN, "no room; try again later", Duration::ZERO),
            Step::Drain => self.drain(),
            Step::ClosingOver => {
                self.queue.clear();
                self.offering = None;
                self.reserving = None;
                self.answering.clear();
            }
        }
    }

    fn can_read(&self) -> bool {
        let room = match self.mode {
            // Whoever has no credit must be read, to be told.
            Mode::Acknowledged => true,
            Mode::Plain | Mode::CloudEvents => self.received - self.answered < u64::from(self.config.in_flight_max),
        };
        room && self.closing.is_none() && self.reserving.is_none() && self.queue_bytes < QUEUE_BYTES_MAX
    }

    /// Reading stops and goes on: the time in between is not the client's silence.
    fn note_held(&mut self) {
        match (self.can_read(), self.held_since) {
            (true, Some(_)) => {
                self.held_since = None;
                self.last_seen = Instant::now();
            }
            (false, None) => self.held_since = Some(Instant::now()),
            (true, None) | (false, Some(_)) => {}
        }
    }

    fn tick(&mut self) {
        if self.held_since.is_none() && self.last_seen.elapsed() > self.config.idle_timeout.0 {
            self.begin_close(AWAY, "silent for too long", CLOSE_WAIT);
        } else {
            self.out.push(Message::Ping(bytes::Bytes::new()));
        }
    }

    fn received(&mut self, message: Option<Result<Message, axum::Error>>) {
        self.last_seen = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => {
                let heard = Heard::new(&self.edge.tracer, &self.socket);
                let bytes = self.cost.message(text.len() as u64);
                match self.edge.room.try_reserve(bytes) {
                    Some(room) => self.draft(heard, &text, room),
                    None => {
                        let memory = self.edge.room.clone();
                        self.reserving = Some(async move { (heard, text, memory.reserve(bytes).await) }.boxed());
                    }
                }
            }
            Some(Ok(Message::Binary(_))) => self.begin_close(UNSUPPORTED, "events are text messages", CLOSE_WAIT),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => self.gone(),
            Some(Err(error)) => self.failed(error),
        }
    }

    fn failed(&mut self, error: axum::Error) {
        let inner = error.into_inner();
        match inner.downcast_ref::<tungstenite::Error>() {
            Some(tungstenite::Error::Capacity(_)) => {
                self.begin_close(
                    TOO_BIG,
                    &format!("a message has at most {} bytes", self.edge.drafter.event_bytes_max),
                    CLOSE_WAIT,
                );
            }
            Some(tungstenite::Error::Utf8(_)) => self.begin_close(INVALID, "not UTF-8", CLOSE_WAIT),
            Some(tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                self.gone()
            }
            Some(tungstenite::Error::Protocol(_)) => self.begin_close(PROTOCOL, "not WebSocket", CLOSE_WAIT),
            Some(_) | None => self.gone(),
        }
    }

    /// Takes the event out of a message, and queues it.
    fn draft(&mut self, mut heard: Heard, text: &str, mut room: OwnedSemaphorePermit) {
        self.common.arrival = heard.arrival();
        let drafted = match self.mode {
            Mode::Plain => self.edge.drafter.message(text, &self.common),
            Mode::CloudEvents => self.edge.drafter.structured_message(text, &self.common),
            Mode::Acknowledged => match self.open_frame(text) {
                Some(event) => self.edge.drafter.message(event, &self.common),
                None => return,
            },
        };
        let n = self.received + 1;
        match drafted {
            Ok((event, id)) => {
                self.received = n;
                self.queue_bytes += text.len();
                let _waiting = until_answer(&mut room, std::slice::from_ref(&id));
                self.common.arrival = None;
                heard.drafted();
                let sent = Sent { n, id, heard, _waiting };
                self.queue.push(Queued { event, sent, bytes: text.len(), _room: room });
            }
            Err(fault) => self.faulty(heard, n, &fault),
        }
    }

    /// The event's text; none when the socket closes instead.
    fn open_frame<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let frame: EventFrame<'a> = match EventFrame::parse(text) {
            Ok(frame) => frame,
            Err(error) => {
                self.begin_close(INVALID, &format!("not {{\"event\":VALUE}}: {error}"), CLOSE_WAIT);
                return None;
            }
        };
        let n = self.received + 1;
        if frame.n.is_some_and(|given| given != n) {
            self.begin_close(PROTOCOL, &format!("event {n} was due"), CLOSE_WAIT);
            return None;
        }
        if n > self.granted {
            self.begin_close(PROTOCOL, &format!("event {n} is beyond the credit of {}", self.granted), CLOSE_WAIT);
            return None;
        }
        Some(frame.event.get())
    }

    fn faulty(&mut self, heard: Heard, n: u64, fault: &Fault) {
        let place = fault.byte.map_or_else(String::new, |byte| format!(" (at byte {byte})"));
        let detail = format!("{}{place}", fault.detail);
        let (reason, code) = match fault.kind {
            FaultKind::Malformed => (Reason::Malformed, INVALID),
            FaultKind::EventTooLarge | FaultKind::TooManyEvents | FaultKind::BodyTooLarge => {
                (Reason::TooLarge, TOO_BIG)
            }
        };
        let text = reason_text(reason, &detail);
        heard.answered(None, REJECTED, Some(&text));
        match self.mode {
            Mode::Plain | Mode::CloudEvents => self.begin_close(code, &detail, CLOSE_WAIT),
            Mode::Acknowledged => {
                self.received = n;
                self.refuse(n, text);
            }
        }
    }

    /// An event that never reached the stage.
    fn refuse(&mut self, n: u64, reason: String) {
        self.answered += 1;
        let outcome = EventOutcome { status: REJECTED, reason: Some(reason), stored: Some(false) };
        self.out.push(Message::text(ServerFrame::Ack(Ack { n, id: None, outcome }).text()));
    }

    fn too_large(&mut self, queued: Vec<Queued>) {
        if queued.len() > 1 {
            self.batch_max = 1;
            self.queue_bytes += queued.iter().map(|queued| queued.bytes).sum::<usize>();
            self.queue.splice(0..0, queued);
            return;
        }
        for Queued { sent: Sent { n, id, heard, _waiting }, .. } in queued {
            let text = reason_text(Reason::TooLarge, NEVER_FITS);
            heard.answered(Some(&id.text), REJECTED, Some(&text));
            match self.mode {
                Mode::Acknowledged => self.refuse(n, text),
                Mode::Plain | Mode::CloudEvents => self.begin_close(TOO_BIG, NEVER_FITS, CLOSE_WAIT),
            }
        }
    }

    /// Offers all that is queued, when no other offer is under way.
    fn start_offer(&mut self) {
        if self.offering.is_some() || self.queue.is_empty() {
            return;
        }
        let count = self.queue.len().min(self.batch_max);
        let batch: Vec<Queued> = self.queue.drain(..count).collect();
        self.queue_bytes = self.queue.iter().map(|queued| queued.bytes).sum();
        self.offering = Some(offer(Arc::clone(&self.edge), batch).boxed());
    }

    fn tell(&mut self, sent: Sent, answer: &Answer) {
        self.answered += 1;
        if sent.heard.is_recorded() {
            let outcome = EventOutcome::of(self.edge.acknowledge(), answer);
            sent.heard.answered(Some(&sent.id.text), outcome.status, outcome.reason.as_deref());
        }
        match self.mode {
            Mode::Acknowledged => {
                let outcome = EventOutcome::of(self.edge.acknowledge(), answer);
                let id = sent.id.assigned.then_some(sent.id.text.as_str());
                self.out.push(Message::text(ServerFrame::Ack(Ack { n: sent.n, id, outcome }).text()));
            }
            Mode::Plain | Mode::CloudEvents => match answer {
                Answer::Settled(Outcome::Rejected(rejection)) => {
                    metrics::counter!(names::UNTOLD_REJECTIONS).increment(1);
                    tracing::warn!(
                        id = sent.id.text,
                        reason = rejection.reason.name(),
                        error = rejection.text,
                        "event of a WebSocket client rejected"
                    );
                }
                Answer::Settled(Outcome::Accepted) | Answer::Withdrawn | Answer::Unknown => {}
            },
        }
    }

    /// Grants when a quarter of the window is free again, or all of it.
    fn grant(&mut self) {
        let window = u64::from(self.config.in_flight_max);
        let limit = self.answered + window;
        let worth =
            limit - self.granted >= window.div_ceil(4) || (limit > self.granted && self.granted == self.received);
        if self.mode == Mode::Acknowledged && self.closing.is_none() && worth {
            self.granted = limit;
            self.out.push(Message::text(ServerFrame::Credit(limit).text()));
        }
    }

    async fn flush(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let messages = std::mem::take(&mut self.out);
        let send = async {
            for message in messages {
                self.sink.feed(message).await?;
            }
            self.sink.flush().await
        };
        // A client that does not read holds up nobody else, and itself not for ever.
        if !matches!(timeout(self.config.idle_timeout.0, send).await, Ok(Ok(()))) {
            self.gone();
        }
    }

    fn drain(&mut self) {
        let wait = self.edge.deadline();
        self.begin_close(AWAY, "this instance is leaving", wait);
    }

    /// What was received goes to the stage still.
    fn gone(&mut self) {
        let until =
            self.closing.as_ref().map_or_else(|| Instant::now() + self.config.hold_max.0, |closing| closing.until);
        self.closing = Some(Closing { code: None, reason: String::new(), until });
    }

    fn begin_close(&mut self, code: u16, reason: &str, wait: Duration) {
        if self.closing.is_none() {
            let until = Instant::now() + wait;
            self.closing = Some(Closing { code: Some(code), reason: cut(reason), until });
        }
    }

    /// Whether the close frame is due: all received is with the stage; in a drain, also answered.
    fn is_over(&self) -> bool {
        let Some(closing) = &self.closing else { return false };
        let offered = self.queue.is_empty() && self.offering.is_none() && self.reserving.is_none();
        offered && (closing.code != Some(AWAY) || self.answering.is_empty())
    }

    async fn close(&mut self) {
        let Some(closing) = self.closing.take() else { return };
        let code = closing.code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        metrics::counter!(names::SOCKETS_CLOSED, "code" => code).increment(1);
        let handshake = async {
            let Some(code) = closing.code else { return self.sink.close().await };
            let frame = CloseFrame { code, reason: closing.reason.into() };
            self.sink.send(Message::Close(Some(frame))).await?;
            while let Some(Ok(_)) = self.stream.next().await {}
            if code == TOO_BIG {
                // What is still on its way would reset the connection, and the frame be lost with it.
                sleep(RESET_WAIT).await;
            }
            Ok(())
        };
        // A client that does not answer is left.
        let _answered = timeout(CLOSE_WAIT, handshake).await;
    }
}

/// At most the 123 bytes that a close frame holds.
fn cut(reason: &str) -> String {
    jaiminho_core::cut(reason, 123).to_owned()
}

/// Offers until the events are taken, or never can be.
async fn offer(edge: Arc<Edge>, batch: Vec<Queued>) -> Offered {
    let mut wait = RETRY_MIN;
    loop {
        let events = batch.iter().map(|queued| queued.event.clone()).collect();
        match edge.handle.offer(Offer { events, deadline: None, acknowledge: edge.acknowledge() }).await {
            Ok(pending) => {
                return Offered::Taken(batch.into_iter().map(|queued| queued.sent).collect(), pending);
            }
            Err(Refusal::NeverFits { .. }) => return Offered::TooLarge(batch),
            Err(Refusal::Draining) => return Offered::Draining,
            Err(Refusal::Overloaded { .. }) => {
                edge.handle.room().await;
                sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}
