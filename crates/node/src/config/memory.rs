//! The memory bound of each stage: terms whose every factor is a limit that holds at run time.

use jaiminho_convert::{KEY_BYTES, TREE_BYTES_PER_TEXT_BYTE};
use jaiminho_core::{EVENT_OVERHEAD_BYTES, FRAME_BYTES};
use jaiminho_event::Template;
use jaiminho_kafka::KafkaSource;
use jaiminho_link::memory::{
    CONSUMER_MESSAGE_BYTES, INSPECTION_MEMORY_BYTES, coding_bytes_max, connection_bytes_max, unread_bytes_max,
    unsent_bytes_max,
};
use jaiminho_runtime::{
    FRAMES_PER_LINK, HELD_BYTES, ID_BYTES, SPAN_OPEN_BYTES, SPANS_OPEN_MAX, WAITING_BYTES, consumer_messages_max,
    results_max,
};
use jaiminho_telemetry::traces::{EXPORT_BYTES_MAX, QUEUE_BYTES_MAX};
use jaiminho_tls::connection_bytes_max as tls_bytes_max;

use super::Config;
use super::component::{Sink, Source, Steps, Transform};
use super::model::{Log, Stage};
use crate::components::{BODIES_MAX, generated_bytes_max};

/// Connections at once at a stage's port, for each link that it may have there: the others are probes, or links that end.
pub(crate) const CONNECTIONS_PER_LINK: u64 = 2;
/// Offsets that a log spans, as a multiple of its capacity in events.
pub(crate) const SPAN_FACTOR: u64 = 16;

/// Spans that have begun, each kind up to a limit: of events, of deliveries, of those given back, of a sink's records.
const SPANS_OPEN: u64 = 4 * SPANS_OPEN_MAX as u64;

/// One term of a stage's sum.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
    /// How it comes about, in words.
    pub(crate) from: String,
}

/// The terms of one stage's instance that works with so many threads.
pub(crate) fn terms(config: &Config, name: &str, stage: &Stage, threads: u64) -> Vec<Term> {
    let mut terms = Vec::new();
    let made = stage.source.as_ref().and_then(|source| match source {
        Source::Generate(source) => {
            let key = stage.key.as_deref().and_then(|key| Template::parse(key).ok());
            Some(generated_bytes_max(&source.generate, key, &config.pipeline.pipeline, name))
        }
        Source::Ingest(_) | Source::Kafka(_) | Source::Own(_) => None,
    });
    let event = match (&stage.source, made) {
        (Some(Source::Ingest(ingest)), _) => ingest.limits.event_bytes.0,
        (_, Some((event, _))) => event,
        (_, None) => stage.limits.event_bytes.0,
    };
    let outputs = stage.outputs(name).len() as u64;
    let batch = stage.transform.as_ref().and_then(Transform::batch).map(|batch| batch.json_bytes_max(event));
    if outputs > 0 {
        let (over, what) = match (&stage.source, made) {
            (Some(Source::Ingest(ingest)), _) => (ingest.limits.expanded_bytes.0, "one body"),
            (Some(Source::Kafka(_)), _) => (KafkaSource::batch_bytes_max(event), "one batch"),
            (Some(Source::Own(_)), _) => (stage.log.bytes.0, "one offer, at most"),
            (_, Some((_, body))) => (body, "events made at once"),
            (_, None) if let Some(json) = batch => (json, "one batch as JSON"),
            (_, None) => (stage.limits.outputs_bytes.0, "one input's outputs"),
        };
        let one = log_term("log", &stage.log, over, what);
        terms.push(match outputs {
            1 => one,
            _ => Term {
                name: "logs",
                bytes: mul(outputs, one.bytes),
                from: format!("{outputs} outputs x ({})", one.from),
            },
        });
    }
    if let Some((event, body)) = made {
        let waiting = mul(BODIES_MAX as u64 * (body / event.max(1)), EVENT_OVERHEAD_BYTES);
        let from = format!("{} made at once + {BODIES_MAX} times as many x {EVENT_OVERHEAD_BYTES}", human(body));
        terms.push(Term { name: "events being made", bytes: body.saturating_add(waiting), from });
    }
    if config.has_dead_letters(name) {
        terms.push(log_term("dead-letter log", &stage.dead_letter_log, event, "one event"));
        let from = format!("{TREE_BYTES_PER_TEXT_BYTE} x event {}", human(event));
        terms.push(Term { name: "a dead letter being made", bytes: mul(event, TREE_BYTES_PER_TEXT_BYTE), from });
    }
    terms.extend(links(config, name, stage, event, threads));
    if let Some(Transform::Steps(steps)) = &stage.transform {
        terms.extend(transform(stage, steps, event));
    }
    if let Some(Source::Ingest(ingest)) = &stage.source {
        terms.extend(ingest.memory(threads).into_iter().map(|(name, bytes, from)| Term { name, bytes, from }));
    }
    if let Some(Source::Kafka(source)) = &stage.source {
        let read = source.kafka.memory(stage.log.events).into_iter();
        terms.extend(read.map(|(name, bytes, from)| Term { name, bytes, from }));
    }
    if let Some(Sink::Kafka(kafka)) = &stage.sink {
        let from = "queue_bytes + queue_events x 256".into();
        terms.push(Term { name: "sink's queue", bytes: kafka.memory_bytes_max(), from });
    }
    terms.extend(config.traces.is_some().then(spans));
    if let Some(own) = stage.own() {
        let from = format!("`{}`, as it says", own.name);
        terms.push(Term { name: "component", bytes: own.memory_bytes_max, from });
    }
    terms
}

/// The term of a stage whose events are traced.
fn spans() -> Term {
    let open = mul(SPANS_OPEN, SPAN_OPEN_BYTES);
    let (queue, export) = (QUEUE_BYTES_MAX as u64, EXPORT_BYTES_MAX as u64);
    let from = format!(
        "queue {} + a batch being sent {} + {SPANS_OPEN} that have begun x {SPAN_OPEN_BYTES}",
        human(queue),
        human(export)
    );
    Term { name: "spans", bytes: queue + export + open, from }
}

/// The terms of a transform whose largest input has `event` bytes.
fn transform(stage: &Stage, steps: &Steps, event: u64) -> Vec<Term> {
    if let Some(json) = steps.batch().map(|batch| batch.json_bytes_max(event)) {
        let held = mul(stage.limits.links, (stage.window.max_demand / 2).max(1));
        let from = format!("{held} events, half of each window, x {HELD_BYTES}; their own bytes are in the windows");
        let held = Term { name: "held in batches", bytes: mul(held, HELD_BYTES), from };
        let from = format!("2 x {} as JSON", human(json));
        return vec![held, Term { name: "a batch being made", bytes: mul(2, json), from }];
    }
    let mut terms = Vec::new();
    let keys = steps.keys_max();
    if keys > 0 {
        let from = format!("{keys} keys x {KEY_BYTES}");
        terms.push(Term { name: "throttled keys", bytes: mul(keys, KEY_BYTES), from });
    }
    if let Some(dedupe) = steps.dedupe() {
        let ids = dedupe.ids_max as u64;
        let waiting = mul(stage.limits.links, stage.window.max_demand);
        terms.push(Term {
            name: "copies",
            bytes: mul(ids, ID_BYTES).saturating_add(mul(waiting, WAITING_BYTES)),
            from: format!("{ids} ids x {ID_BYTES} + {waiting} events that wait x {WAITING_BYTES}"),
        });
    }
    let outputs = stage.limits.outputs_bytes.0;
    let concurrency = u64::from(stage.concurrency);
    // A text whose tree could take more than all of it is parsed alone.
    let bytes = stage.limits.parse_bytes.0.max(mul(event, TREE_BYTES_PER_TEXT_BYTE));
    let from = format!("limits.parse_bytes, or {TREE_BYTES_PER_TEXT_BYTE} x event {}", human(event));
    terms.push(Term { name: "parsing", bytes, from });
    terms.push(Term {
        name: "outputs in work",
        bytes: mul(results_max(concurrency), outputs),
        from: format!("2 x concurrency {concurrency} x {}", human(outputs)),
    });
    terms
}

/// The terms of a stage's links, of which the largest event has `event` bytes.
fn links(config: &Config, name: &str, stage: &Stage, event: u64, threads: u64) -> Vec<Term> {
    let links = stage.limits.links;
    let (window, events) = (stage.window.bytes.0, stage.window.max_demand);
    let each = |name, bytes: u64, what: String| Term {
        name,
        bytes: mul(links, bytes),
        from: format!("{links} links x {what}"),
    };
    let mut terms = Vec::new();
    if !stage.subscribe_to.is_empty() {
        let held = window.saturating_add(mul(events, EVENT_OVERHEAD_BYTES)).saturating_add(event);
        let what =
            format!("(window {} + {events} events x {EVENT_OVERHEAD_BYTES} + event {})", human(window), human(event));
        terms.push(each("links in", held, what));
        let unread = unread_bytes_max(window, event);
        terms.push(each(
            "links in, unread",
            unread,
            format!("{} (HTTP/2's window, 2 frames of {} + event)", human(unread), human(FRAME_BYTES)),
        ));
    }
    if config.has_subscribers(name) {
        let unsent = unsent_bytes_max(event).saturating_add(FRAMES_PER_LINK as u64 * FRAME_BYTES);
        // Each output has so many links, as long as the port has connections for them.
        let outputs = (stage.outputs(name).len() as u64).clamp(1, CONNECTIONS_PER_LINK);
        terms.push(each(
            "links out, unsent",
            mul(outputs, unsent),
            format!(
                "{}{} (HTTP/2's buffer, 2 frames of {} + event, 2 that wait)",
                if outputs > 1 { format!("{outputs} outputs x ") } else { String::new() },
                human(unsent),
                human(FRAME_BYTES)
            ),
        ));
        let messages = consumer_messages_max(links);
        terms.push(Term {
            name: "consumers' messages",
            bytes: mul(messages, CONSUMER_MESSAGE_BYTES),
            from: format!("{messages} that wait x {}", human(CONSUMER_MESSAGE_BYTES)),
        });
    }
    let connections = mul(links, CONNECTIONS_PER_LINK);
    terms.push(Term {
        name: "connections at the stage's port",
        bytes: mul(connections, connection_bytes_max()),
        from: format!("{connections} x {}", human(connection_bytes_max())),
    });
    if let Some(tls) = &stage.tls {
        let of_port = if tls.cert.is_some() { connections } else { 0 };
        let of_links = if stage.subscribe_to.is_empty() { 0 } else { links };
        let (count, each) = (of_port.saturating_add(of_links), tls_bytes_max(true));
        let from = format!("{count} connections x {}", human(each));
        terms.push(Term { name: "their TLS", bytes: mul(count, each), from });
    }
    terms.push(Term {
        name: "who looks at the stage",
        bytes: INSPECTION_MEMORY_BYTES,
        from: "what it tells, and 2 answers at once".into(),
    });
    terms.push(Term {
        name: "messages being read or written",
        bytes: mul(threads, coding_bytes_max(event)),
        from: format!("{threads} threads x {}", human(coding_bytes_max(event))),
    });
    terms
}

/// What the terms sum up to.
pub(crate) fn sum(terms: &[Term]) -> u64 {
    terms.iter().fold(0, |sum, term| sum.saturating_add(term.bytes))
}

fn log_term(name: &'static str, log: &Log, over: u64, what: &str) -> Term {
    let span = mul(SPAN_FACTOR, log.events);
    let bytes = log.bytes.0.saturating_add(mul(span, EVENT_OVERHEAD_BYTES)).saturating_add(over);
    let from = format!("{} + span {span} x {EVENT_OVERHEAD_BYTES} + {what} {}", human(log.bytes.0), human(over));
    Term { name, bytes, from }
}

fn mul(a: u64, b: u64) -> u64 {
    a.saturating_mul(b)
}

/// `1.5 MiB`
pub(crate) fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value.fract() < 0.05 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}
