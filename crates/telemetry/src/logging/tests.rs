use std::{
    io::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use super::limit::{FIRST, KINDS_MAX, WINDOW};
use super::*;
use crate::traces::{Calls, Recorded, TraceContext, entered};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> Vec<Value> {
        String::from_utf8(self.bytes().clone())
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// For as long as a subscriber is in use. What is asked for is known once for the process, and asked of the thread's own subscriber: while
/// it is found out anew ([`Logs::join`]) on a thread without one, no other thread has a word.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is logged at this level, as JSON.
fn logged(logs: &Logs, level: &str, what: impl FnOnce()) -> Vec<Value> {
    let _alone = alone();
    let written = Written::default();
    let writer = written.clone();
    let lines = logs.lines(true, false, move || writer.clone(), filter(level).unwrap());
    let subscriber = tracing_subscriber::registry().with(lines).with(logs.joined.layer());
    tracing::subscriber::with_default(subscriber, what);
    written.lines()
}

fn joined(logs: &Logs, stage: &str) -> Recorded {
    let (tracer, recorded) = Tracer::new(16);
    let _alone = alone();
    logs.join(HashMap::from([(stage.to_owned(), tracer)]));
    recorded
}

#[test]
fn a_word_that_is_no_level_is_refused() {
    let error = init_logging("loud", Format::Json).unwrap_err().to_string();
    assert!(error.starts_with("log level `loud`: "), "{error}");
    assert!(init_logging("info,jaiminho_link=louder", Format::Json).is_err());
}

#[test]
fn a_line_is_an_object_that_says_who_speaks() {
    let logs = Logs::default();
    let all = logged(&logs, "info", || {
        tracing::info!("nobody is known yet");
        logs.speak_for(vec![("in".into(), "in-0:7400".into())]);
        tracing::warn!(link = 7, ok = false, ratio = 0.5, error = %"a\nb", peer = "mid-1", "link to a consumer ends");
        tracing::debug!("not asked for");
    });
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[0].get("stage"), None);
    let mut line = all[1].clone();
    let time = line.as_object_mut().unwrap().shift_remove("timestamp").unwrap();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    let expected = json!({
        "level": "WARN", "message": "link to a consumer ends", "link": 7, "ok": false, "ratio": 0.5, "error": "a\nb", "peer": "mid-1",
        "stage": "in", "instance": "in-0:7400", "target": "jaiminho_telemetry::logging::tests",
    });
    assert_eq!(line, expected);
}

#[test]
fn of_several_stages_each_has_its_own_instance() {
    let logs = Logs::default();
    logs.speak_for(vec![("in".into(), "in-0".into()), ("out".into(), "out-0".into())]);
    let all = logged(&logs, "info", || {
        tracing::info!(stage = "out", "linked");
        tracing::info!("of the process");
        tracing::info_span!("mine", stage = "in").in_scope(|| tracing::info!("inside"));
    });
    let instances: Vec<_> = all.iter().map(|line| line.get("instance").and_then(Value::as_str)).collect();
    assert_eq!(instances, [Some("out-0"), None, Some("in-0")]);
}

#[test]
fn a_peers_long_text_is_cut() {
    let all = logged(&Logs::default(), "info", || tracing::info!(error = %"é".repeat(5_000), "it says much"));
    assert_eq!(all[0]["error"].as_str().unwrap().len(), 4 << 10);
}

#[test]
fn what_is_said_and_done_in_a_call_belongs_to_the_events_trace() {
    let logs = Logs::default();
    let mut recorded = joined(&logs, "mid");
    let call = TraceContext::root();
    let all = logged(&logs, "info", || {
        entered(&call, "mid", Calls::Convert).in_scope(|| {
            tracing::warn!("in the call");
            tracing::info_span!("look up", city = "Porto").in_scope(|| tracing::warn!(took_ms = 3, "slow"));
        });
        tracing::info_span!("outside").in_scope(|| tracing::warn!("of no event"));
    });
    let spans = recorded.take();
    let [own, log] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((own.context.trace, own.parent, &*own.name), (call.trace, Some(call.span), "look up"));
    assert!(own.start <= own.end && own.start > 0);
    assert_eq!(
        own.attributes.iter().map(|of| format!("{}={}", of.key, of.value)).collect::<Vec<_>>(),
        ["city=Porto", "jaiminho.stage=mid"]
    );
    assert_eq!(own.events.iter().map(|event| &*event.name).collect::<Vec<_>>(), ["slow"]);
    assert_eq!((log.context.trace, log.parent, &*log.name), (call.trace, Some(call.span), "log"));
    assert_eq!(log.events.iter().map(|event| &*event.name).collect::<Vec<_>>(), ["in the call"]);

    assert_eq!(traceparent(&all[0]), Some(call.to_traceparent()));
    assert_eq!(traceparent(&all[1]), Some(own.context.to_traceparent()));
    assert_eq!(all[1]["stage"], "mid");
    assert_eq!(traceparent(&all[2]), None);
}

#[test]
fn a_line_has_its_trace_at_any_level() {
    let logs = Logs::default();
    let _recorded = joined(&logs, "mid");
    let call = TraceContext::root();
    let all = logged(&logs, "error", || {
        let inside = || tracing::info_span!("look up").in_scope(|| tracing::error!("in the call"));
        entered(&call, "mid", Calls::Handle).in_scope(inside);
    });
    assert_eq!(traceparent(&all[0]), Some(call.to_traceparent()));
}

fn traceparent(line: &Value) -> Option<String> {
    Some(format!("00-{}-{}-01", line.get("trace_id")?.as_str()?, line.get("span_id")?.as_str()?))
}

#[test]
fn without_traces_no_span_is_made() {
    let logs = Logs::default();
    logs.join(HashMap::from([("mid".to_owned(), Tracer::default())]));
    let all = logged(&logs, "info", || {
        entered(&TraceContext::root(), "mid", Calls::Handle).in_scope(|| tracing::info!("in the call"));
    });
    assert_eq!((all[0]["stage"].as_str(), all[0].get("trace_id")), (Some("mid"), None));
}

#[test]
fn what_is_said_again_and_again_is_said_five_times_and_then_counted() {
    let logs = Logs::default();
    let all = logged(&logs, "info", || {
        for error in 0..1_000 {
            for peer in ["mid-0", "mid-1"] {
                tracing::warn!(stage = "in", peer, error, "link to a consumer ends");
            }
        }
        let now = Instant::now();
        logs.limit.tell(now);
        logs.limit.tell(now + WINDOW + Duration::from_secs(1));
        logs.limit.tell(now + WINDOW + WINDOW + WINDOW);
    });
    let (first, told): (Vec<_>, Vec<_>) = all.iter().partition(|line| line.get("more").is_none());
    assert_eq!(first.len(), 2 * FIRST as usize);
    let mut peers: Vec<_> = told.iter().map(|line| line["peer"].as_str().unwrap()).collect();
    peers.sort_unstable();
    assert_eq!(peers, ["mid-0", "mid-1"]);
    for line in told {
        assert!(line["message"].as_str().unwrap().starts_with("link to a consumer ends (995 more in 1"), "{line}");
        assert_eq!((&line["level"], &line["more"], &line["stage"]), (&json!("WARN"), &json!(995), &json!("in")));
        assert_eq!((&line["error"], &line["of"]), (&json!("999"), &json!("jaiminho_telemetry::logging::tests")));
    }
}

#[test]
fn starts_and_ends_are_never_counted_instead() {
    let all = logged(&Logs::default(), "info", || {
        (0..100).for_each(|_| tracing::info!(target: LIFE, "draining"));
    });
    assert_eq!(all.len(), 100);
}

#[test]
fn the_table_of_what_is_said_is_bounded_and_shrinks() {
    let logs = Logs::default();
    let all = logged(&logs, "info", || {
        (0..3 * KINDS_MAX).for_each(|peer| tracing::warn!(peer, "a new one each time"));
        assert_eq!(logs.limit.kinds(), KINDS_MAX + 1);
        logs.limit.tell(Instant::now() + WINDOW);
        assert_eq!(logs.limit.kinds(), 0);
    });
    let told: Vec<_> = all.iter().filter_map(|line| line["more"].as_u64()).collect();
    assert_eq!(told, [2 * KINDS_MAX as u64 - u64::from(FIRST)]);
}
