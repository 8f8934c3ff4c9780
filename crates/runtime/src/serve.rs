//! The stage's two kinds of links, heartbeats, and the drain.

use jaiminho_core::{
    EndReason, FRAME_BYTES, KeyHash, LinkError, PARTITIONS, Settled, Signal, Subscribe, Subscribed, ToConsumer,
    ToProducer,
};
use jaiminho_telemetry::LIFE;
use tokio::sync::mpsc;

use crate::{
    consumer::Closed,
    desk::Desk,
    handle::{Command, StageEnd, StageStatus},
    handler::{End, Left, Peer},
    lanes::Work,
    link::LinkHalf,
    outlet::Held,
    peers::{FRAMES_PER_LINK, IDLE_TICKS, PeerId, SILENT_TICKS, Said, TICK_MS, TO_PRODUCER},
    task::{Doing, Tag, Task},
    upstream::{UpstreamEvent, UpstreamLink},
};

impl Task {
    pub(crate) fn command(&mut self, command: Command) {
        match command {
            Command::Subscribe(subscribe, reply) => {
                // A transport that left before its answer drops its half: the link ends as any other.
                let linked = self.subscribe(&subscribe);
                if let Err(error) = &linked {
                    self.peers.counts.refused(error);
                }
                let _gone = reply.send(linked);
            }
            Command::SubscribeTo(spec, instead_of, reply) => self.subscribe_to(*spec, instead_of, reply),
            Command::Unsubscribe(index) => self.unsubscribe(index),
            Command::SetDemand(demand) => {
                let outputs = self.outputs();
                self.logs[..outputs].iter_mut().for_each(|log| log.output.set_demand(demand));
            }
            Command::Info(info, reply) => {
                let taken = self.inform(info);
                // Whoever asked may have left.
                let _gone = reply.send(taken);
            }
            Command::Status(reply) => {
                // Whoever asked may have left.
                let _gone = reply.send(self.status());
            }
            Command::Inspect(reply) => {
                let inspection = Box::new(self.inspect());
                let _gone = reply.send(inspection);
            }
        }
    }

    /// What a consumer's transport has brought.
    pub(crate) fn heard(&mut self, peer: PeerId, said: Said) {
        let messages = match said {
            Said::Messages(messages) => messages,
            Said::Gone => return self.forget(peer),
        };
        if !self.peers.heard(peer) {
            return;
        }
        for message in messages {
            if let Err(error) = self.consumer_said(peer, message) {
                self.warn_of_end(peer, &error);
                self.end_link(peer, error.clone(), Left::Down(error));
                return;
            }
        }
    }

    fn warn_of_end(&self, peer: PeerId, error: &LinkError) {
        let (group, name) = self.peers.name(peer);
        tracing::warn!(stage = self.stage, group, peer = name, link = peer.link.0, %error, "link to a consumer is ended");
    }

    /// A consumer is gone.
    fn forget(&mut self, peer: PeerId) {
        self.sends.lost(peer, "the consumer is gone");
        self.meter_outputs();
        self.close_link(peer);
        self.peers.remove(peer);
        self.consumer_left(peer, Left::Down(LinkError::Unavailable("the consumer is gone".into())));
    }

    /// Takes back what is unsettled on a link. What it has counted since the last tick is to be told before.
    fn close_link(&mut self, peer: PeerId) {
        if let Some(log) = self.logs.get_mut(peer.output) {
            log.output.close(self.clock.now, peer.link);
        }
    }

    fn consumer_left(&mut self, peer: PeerId, left: Left) {
        if let Some(actor) = self.actor() {
            actor.left(End::Consumer(peer), left);
        }
    }

    fn subscribe(&mut self, subscribe: &Subscribe) -> Result<LinkHalf, LinkError> {
        let Subscribe { versions, pipeline, output, .. } = subscribe;
        let version = self.versions.common(*versions)?;
        if *pipeline != self.pipeline {
            return Err(LinkError::WrongPipeline { ours: self.pipeline.clone(), theirs: pipeline.clone() });
        }
        let index = self.logs.iter().position(|log| log.name == *output);
        let index = index.ok_or_else(|| LinkError::UnknownOutput(output.clone()))?;
        // It may replace another link, or be the first one of a group.
        self.meter_outputs();
        let Some(log) = self.logs.get_mut(index) else { return Err(LinkError::UnknownOutput(output.clone())) };
        let link = log.output.subscribe(self.clock.now, subscribe)?;
        let window = log.output.window(link).unwrap_or(subscribe.window);
        self.meter_outputs();
        let peer = PeerId { output: index, link };
        let (to_consumer, from_producer) = mpsc::channel(FRAMES_PER_LINK);
        let (to_producer, said) = mpsc::channel(TO_PRODUCER);
        let name = (subscribe.group.clone(), subscribe.instance.name.clone());
        self.sends.joined(peer, output, &name.0, &name.1);
        self.peers.add(self.clock.elapsed, peer, name, to_consumer, said);
        if let Doing::Handler(actor) = &mut self.doing {
            let (name, instance) = (subscribe.group.clone(), subscribe.instance.clone());
            actor.joined(Peer { name, instance, end: End::Consumer(peer) });
        }
        let (stage, Subscribe { group, instance, .. }) = (&self.stage, subscribe);
        tracing::info!(stage, output, group, peer = instance.name, link = link.0, version, "link to a consumer is up");
        let subscribed = Subscribed {
            version,
            window,
            link_id: link.0,
            instance: self.instance.clone(),
            partition_count: PARTITIONS as u32,
            hash_version: jaiminho_core::HASH_VERSION,
            heartbeat_ms: IDLE_TICKS * TICK_MS as u32,
        };
        Ok(LinkHalf { subscribed, to_producer, from_producer })
    }

    fn consumer_said(&mut self, peer: PeerId, message: ToProducer) -> Result<(), LinkError> {
        let now = self.clock.now;
        let Some(log) = self.logs.get_mut(peer.output) else { return Ok(()) };
        match message {
            ToProducer::Credit(credit) => {
                log.output.credit(peer.link, credit)?;
                self.asked(peer, credit);
                Ok(())
            }
            ToProducer::Dispositions(dispositions) => {
                let mut settled = 0;
                let result = dispositions.iter().try_for_each(|disposition| {
                    self.sends.disposed(peer, disposition);
                    let before = log.output.unsettled(peer.link);
                    let result = log.output.dispose(peer.link, disposition);
                    if matches!(disposition.state, Settled::Outcome(_)) {
                        settled += before - log.output.unsettled(peer.link);
                    }
                    result
                });
                self.account.meters.settled(peer, settled);
                result
            }
            ToProducer::Cancel { drain, time_left_ms } => {
                log.output.cancel(now, peer.link, drain.then(|| now.after(time_left_ms)));
                self.consumer_left(peer, Left::Cancelled);
                Ok(())
            }
        }
    }

    pub(crate) fn end_link(&mut self, peer: PeerId, error: LinkError, left: Left) {
        self.consumer_left(peer, left);
        self.sends.lost(peer, &error.to_string());
        self.meter_outputs();
        self.close_link(peer);
        self.peers.signal(peer, Err(error));
        self.ready.insert(peer);
    }

    /// Sends signals and frames to every peer that has some and whose channel has room.
    pub(crate) fn write_peers(&mut self) {
        for (output, log) in self.logs.iter_mut().enumerate() {
            while let Some((link, signal)) = log.output.poll_signal() {
                let peer = PeerId { output, link };
                match signal {
                    Signal::Revoke(partitions) => self.peers.signal(peer, Ok(ToConsumer::Revoke { partitions })),
                    Signal::End(error) => {
                        if let Doing::Handler(actor) = &mut self.doing {
                            actor.left(End::Consumer(peer), Left::Down(error.clone()));
                        }
                        self.sends.lost(peer, &error.to_string());
                        self.peers.signal(peer, Err(error));
                    }
                    Signal::Drained => self.peers.end(peer),
                }
                self.ready.insert(peer);
            }
            self.ready.extend(log.output.ready_links().into_iter().map(|link| PeerId { output, link }));
        }
        let pressure = self.pressure();
        let mut at_end = Vec::new();
        let Self { logs, peers, sends, account, ready, .. } = self;
        for peer in std::mem::take(ready) {
            let Some(log) = logs.get_mut(peer.output) else { continue };
            account.touched.push(peer);
            let is_at_end = peers.flush(peer, || {
                let mut frame = log.output.next_frame(peer.link, FRAME_BYTES as usize)?;
                sends.sent(peer, &log.output, &mut frame);
                account.meters.frame_events.record(frame.len() as f64);
                Some((frame, log.output.backlog(peer.link), pressure))
            });
            if is_at_end {
                at_end.push(peer);
            }
        }
        if !at_end.is_empty() {
            self.meter_outputs();
        }
        for peer in at_end {
            self.sends.lost(peer, "the link has ended");
            self.close_link(peer);
            self.peers.remove(peer);
        }
    }

    pub(crate) fn pressure(&self) -> bool {
        self.leave.is_some() || self.upstreams.pressure() || self.logs.iter().any(|log| log.output.fill().is_pressure())
    }

    pub(crate) fn upstream_event(&mut self, link: UpstreamLink, event: UpstreamEvent) {
        match event {
            UpstreamEvent::Opened(opened) => {
                let terms = self.subscriptions.terms(opened.subscription).filter(|terms| !terms.stop.is_cancelled());
                if let Some(terms) = terms.cloned().filter(|_| self.leave.is_none()) {
                    let (stage, peer) = (&self.stage, &opened.half.subscribed.instance.name);
                    let (output, address) = (terms.output.to_string(), &opened.address.0);
                    let version = opened.half.subscribed.version;
                    tracing::info!(stage, output, peer, address, link = link.0, version, "link to a producer is up");
                    if let Doing::Handler(actor) = &mut self.doing {
                        let (name, instance) = (terms.output.to_string(), opened.half.subscribed.instance.clone());
                        actor.joined(Peer { name, instance, end: End::Producer(link) });
                    }
                    self.upstreams.opened(link, *opened, terms);
                }
            }
            UpstreamEvent::Refused(error) => {
                self.upstreams.counts.refused(&error);
                self.look_for_fence(&error);
            }
            UpstreamEvent::Spared => self.upstreams.cancel(link, self.drain.as_millis() as u64),
        }
    }

    fn look_for_fence(&mut self, error: &LinkError) {
        if let LinkError::Fenced(name) = error {
            let (stage, peer) = (&self.stage, name);
            tracing::error!(target: LIFE, stage, peer, "fenced: a newer process has this instance's name; this one ends");
            self.end = Some(StageEnd::Fenced(name.clone()));
        }
    }

    /// What came on a link, or how it ended.
    pub(crate) fn upstream_said(&mut self, link: UpstreamLink, said: Result<ToConsumer, LinkError>) {
        match said {
            // It may have ended with an earlier message of the same turn.
            Ok(message) if self.upstreams.is_open(link) => {
                if let Err(error) = self.producer_said(link, message) {
                    tracing::warn!(stage = self.stage, link = link.0, %error, "the producer breaks the protocol");
                    self.close_upstream(link, error);
                }
            }
            Ok(_) => {}
            Err(error) => {
                self.look_for_fence(&error);
                self.close_upstream(link, error);
            }
        }
    }

    fn close_upstream(&mut self, link: UpstreamLink, error: LinkError) {
        self.meter_inputs();
        let Some(Closed { address, error, left }) = self.upstreams.closed(link, error) else { return };
        tracing::info!(stage = self.stage, address = address.0, link = link.0, %error, "link to a producer is down");
        match &mut self.doing {
            // What the link has brought is handled first.
            Doing::Handler(actor) => actor.left(End::Producer(link), left),
            Doing::Transform { .. } | Doing::Sink(_) | Doing::Source(_) => self.has_left(link, &left),
        }
    }

    fn producer_said(&mut self, link: UpstreamLink, message: ToConsumer) -> Result<(), LinkError> {
        match message {
            ToConsumer::Events { mut deliveries, pressure, backlog: _ } => {
                self.upstreams.received(link, &mut deliveries, pressure)?;
                self.start(link, deliveries);
            }
            ToConsumer::Revoke { partitions } => self.release(link, &partitions),
            ToConsumer::Ended { last, reason } => self.upstreams.ended(link, last, reason)?,
        }
        Ok(())
    }

    /// Gives back what of the revoked partitions is not in work yet; the rest settles, or the producer takes it back.
    fn release(&mut self, link: UpstreamLink, partitions: &[u16]) {
        let partitions: std::collections::HashSet<u16> = partitions.iter().copied().collect();
        self.give_back(|from, key| from == link && partitions.contains(&key.partition()));
    }

    /// Takes out of the queues what came on these links with these keys: it is released.
    pub(crate) fn give_back(&mut self, wanted: impl Fn(UpstreamLink, KeyHash) -> bool) {
        let inputs = &self.inputs;
        let of_input = |work: &Work| match (inputs.value(work.input), work.event.key) {
            (Some(Tag::Link { link, .. }), Some(key)) => wanted(*link, key),
            (Some(_) | None, _) => false,
        };
        let recalled = match &mut self.doing {
            Doing::Transform { lanes, copies, .. } => {
                let mut recalled = lanes.recall(of_input);
                recalled.extend(copies.iter_mut().flat_map(|copies| copies.recall(of_input)));
                recalled
            }
            Doing::Handler(actor) => actor.recall(of_input),
            Doing::Sink(outlet) => {
                let wanted = |held: &Held| held.event.key.is_some_and(|key| wanted(held.link, key));
                for Held { link, number, event, taken: _ } in outlet.recall(wanted) {
                    self.upstreams.released(link, number, event.size());
                }
                Vec::new()
            }
            Doing::Source(_) => Vec::new(),
        };
        for Work { input, event } in recalled {
            if let Some(Tag::Link { link, number }) = self.inputs.abandon(input) {
                self.upstreams.released(link, number, event.size());
            }
            self.give_up_copies(input);
        }
    }

    /// Heartbeats, silence, deadlines.
    pub(crate) fn tick(&mut self) {
        let now = self.clock.now;
        for log in &mut self.logs {
            log.output.tick(now);
        }
        let pressure = self.pressure();
        let [idle, silent, deaf] = self.peers.tick(pressure);
        for peer in silent {
            let silent = LinkError::Silent(u64::from(SILENT_TICKS) * TICK_MS);
            self.warn_of_end(peer, &silent);
            self.end_link(peer, silent.clone(), Left::Down(silent));
        }
        for peer in deaf {
            self.forget(peer);
        }
        for peer in idle {
            let backlog = self.logs.get(peer.output).map_or(0, |log| log.output.backlog(peer.link));
            let mut heartbeat = Some((Vec::new(), backlog, pressure));
            self.peers.flush(peer, || heartbeat.take());
            self.ready.insert(peer);
        }
        for (link, error) in self.upstreams.tick() {
            self.close_upstream(link, error);
        }
        if let (Doing::Source(desk), Some(log)) = (&mut self.doing, self.logs.first_mut()) {
            desk.tick(&mut log.output, now);
        }
        if let Some(leave) = self.leave {
            self.upstreams.cancel_all(millis_until(leave));
        }
        self.account.tick(self.clock.elapsed);
        self.tell_changes();
        self.count();
    }

    /// Nobody has asked for it: the source, the handler or a subscription has ended.
    pub(crate) fn begin_own_drain(&mut self) {
        if self.leave.is_none() {
            self.begin_drain(tokio::time::Instant::now() + self.drain);
        }
    }

    pub(crate) fn begin_drain(&mut self, deadline: tokio::time::Instant) {
        tracing::info!(target: LIFE, stage = self.stage, "draining");
        self.closing.cancel();
        self.draining.cancel();
        self.leave = Some(deadline);
        self.upstreams.cancel_all(millis_until(deadline));
    }

    /// How the stage ends, once it does.
    pub(crate) fn finished(&self) -> Option<StageEnd> {
        if let Some(end) = &self.end {
            return Some(end.clone());
        }
        let is_source_done = match &self.doing {
            Doing::Source(desk) => desk.ended.is_some() && desk.bodies.are_answered(),
            Doing::Transform { .. } | Doing::Sink(_) => self.leave.is_some() && self.upstreams.len() == 0,
            Doing::Handler(actor) => {
                let is_leaving = self.leave.is_some() || actor.ended.is_some();
                is_leaving && actor.is_idle() && self.upstreams.len() == 0
            }
        };
        let unsettled = self.inputs_in_work();
        let is_settled = || unsettled == 0 && self.logs.iter().all(|log| log.output.is_settled());
        let is_over = self.leave.is_some_and(|leave| tokio::time::Instant::now() >= leave);
        (is_over || (is_source_done && is_settled())).then(|| match (&self.doing, &self.resigned) {
            (Doing::Source(Desk { ended: Some(Err(error)), .. }), _) => {
                StageEnd::Failed(format!("its source failed, with {unsettled} unsettled: {error}"))
            }
            (Doing::Handler(actor), _) if let Some(Err(text)) = &actor.ended => StageEnd::Failed(text.clone()),
            (_, Some(Err(text))) => StageEnd::Failed(text.clone()),
            (_, Some(Ok(())) | None) => StageEnd::Drained { unsettled },
        })
    }

    /// The last word to every consumer.
    pub(crate) fn leave(&mut self, end: &StageEnd) {
        // Not told to leave: its source has come to its end.
        let has_finished = self.resigned == Some(Ok(()))
            || matches!(&self.doing, Doing::Handler(actor) if actor.ended == Some(Ok(())));
        let reason = if self.leave.is_some() && !has_finished { EndReason::Draining } else { EndReason::Finished };
        self.meter_outputs();
        for peer in self.peers.ids() {
            let last = self.logs.get(peer.output).map_or(0, |log| log.output.last_sent(peer.link));
            let item = match end {
                StageEnd::Drained { .. } => Ok(ToConsumer::Ended { last, reason }),
                // It has drained before.
                StageEnd::Failed(_) if self.leave.is_some() && matches!(self.doing, Doing::Source(_)) => {
                    Ok(ToConsumer::Ended { last, reason })
                }
                StageEnd::Fenced(_) | StageEnd::Failed(_) => Err(LinkError::Unavailable("the stage has ended".into())),
            };
            self.peers.signal(peer, item);
            if self.peers.flush(peer, || None) {
                self.peers.remove(peer);
            }
        }
        self.sends.leave();
        self.upstreams.hops.leave();
        if let Doing::Source(desk) = &mut self.doing {
            desk.hops.leave();
        }
    }

    /// Events that were taken and are not settled.
    pub(crate) fn inputs_in_work(&self) -> u64 {
        match &self.doing {
            Doing::Source(desk) => desk.unsettled,
            Doing::Transform { .. } | Doing::Handler(_) => self.inputs.len() as u64,
            Doing::Sink(outlet) => outlet.unsettled() + self.inputs.len() as u64,
        }
    }

    fn status(&self) -> StageStatus {
        let absent = |log: &crate::task::Log| {
            let groups = log.output.waiting().groups.into_iter().filter(|group| group.members == 0);
            groups.map(|group| group.name).collect::<Vec<_>>()
        };
        StageStatus {
            links_in: self.peers.len(),
            links_out: self.upstreams.len(),
            logs: self
                .logs
                .iter()
                .map(|log| (log.name.clone(), log.output.fill().events, log.output.fill().bytes))
                .collect(),
            inputs: self.inputs_in_work(),
            demand: self.demand(),
            waiting: self.logs.iter().map(waiting).sum(),
            producers: self.upstreams.producers(),
            consumers: self.peers.names(),
            absent_groups: self.logs.iter().flat_map(absent).collect(),
        }
    }

    /// Metrics, and what the log is told of groups.
    fn count(&mut self) {
        for (index, log) in self.logs.iter().enumerate() {
            self.absent.tick(&self.stage, (index, &log.name), &log.output.waiting().groups);
        }
        self.meter();
    }
}

/// Events of an output that wait for demand.
fn waiting(log: &crate::task::Log) -> u64 {
    log.output.waiting().groups.iter().map(|group| group.undispatched).max().unwrap_or(0)
}

fn millis_until(deadline: tokio::time::Instant) -> u64 {
    deadline.saturating_duration_since(tokio::time::Instant::now()).as_millis() as u64
}
