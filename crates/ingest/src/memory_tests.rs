//! What reading and drafting take at their peak, counted by an allocator, against what was reserved for it.

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use jaiminho_event::CloudEvent;
use jaiminho_event::units::ByteSize;
use jaiminho_telemetry::traces::Tracer;
use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use crate::config::{HEADERS_MAX, LimitsConfig, UNCOUNTED_HEADER_FACTOR, ZSTD_BYTES, ZSTD_WINDOW_BYTES};
use crate::draft::tests::{body, drafter};
use crate::draft::{Common, Drafter, Format};
use crate::headers::Coding;
use crate::reading::{Room, waiting_bytes};
use crate::traced::Arrival;
use crate::websocket::EventFrame;

/// What a thread takes for the one event that it works on, and gives back: its attributes, an error's text.
const WORK_BYTES: u64 = 48 << 10;

const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t"}"#;

fn formats() -> [Format; 5] {
    let binary = Box::new(CloudEvent::new("1", "/a", "t"));
    [Format::Json, Format::Ndjson, Format::Structured, Format::Batch, Format::Binary(binary)]
}

fn with_defaults(limits: &LimitsConfig) -> Drafter {
    let mut drafter = drafter();
    drafter.event_bytes_max = usize::try_from(limits.event_bytes.0).unwrap();
    drafter.events_max = usize::try_from(limits.events).unwrap();
    drafter
}

/// Long names of ours, and headers that become attributes of each event.
fn common() -> Common {
    Common {
        attributes: vec![("tenant".to_owned(), "x".repeat(4_000))],
        arrival: Arrival::new(&Tracer::new(1).0, None),
        carried: None,
    }
}

fn start(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned()
}

/// Drafting keeps to what is reserved beside the body, whatever the format that a client says, and so does what its events
/// take until their answer.
fn check_body(body: &[u8]) {
    let limits = LimitsConfig::default();
    let drafter = with_defaults(&limits);
    for (format, common) in
        formats().into_iter().flat_map(|format| [(format.clone(), Common::default()), (format, common())])
    {
        let cost = drafter.cost(&limits, Some(&format), &common);
        let reserved = limits.reservation(body.len() as u64, &cost).min(limits.reading_bytes.0) - body.len() as u64;
        let events_bytes = usize::try_from(reserved).unwrap();
        let named = format!("{format:?}");
        let mut ids = Vec::new();
        let peak = measure(|| {
            ids = drafter.body(format, body, &common, events_bytes).unwrap_or_default().ids;
        })
        .bytes_max;
        assert!(peak <= reserved + WORK_BYTES, "{peak} bytes of {reserved}: {named} {} {}", body.len(), start(body));
        let (kept, room) = (waiting_bytes(&ids), events_bytes + body.len());
        assert!(kept <= room, "{kept} bytes until the answer of {room}: {named} {} {}", body.len(), start(body));
    }
}

/// The same for a message of each subprotocol.
fn check_message(text: &str) {
    let limits = LimitsConfig::default();
    let drafter = with_defaults(&limits);
    for common in [Common::default(), common()] {
        let reserved = drafter.cost(&limits, None, &common).message(text.len() as u64) - text.len() as u64;
        let mut id = None;
        let peak = measure(|| {
            id = drafter.message(text, &common).map(|(_, id)| id).ok();
            drop(drafter.structured_message(text, &common));
            if let Ok(frame) = EventFrame::parse(text) {
                drop(drafter.message(frame.event.get(), &common));
            }
        })
        .bytes_max;
        assert!(peak <= reserved + WORK_BYTES, "{peak} bytes of {reserved}: {} {}", text.len(), start(text.as_bytes()));
        let kept = waiting_bytes(id.as_slice()) as u64;
        assert!(kept <= reserved + text.len() as u64, "{kept} bytes until the answer of {reserved}: {text}");
    }
}

/// Bodies that make the most of their bytes.
fn bombs() -> Vec<String> {
    let attributes: String = (0..120).map(|n| format!(",\"a{n}\":1")).collect();
    let with = |member: &str| EVENT.replace('}', &format!("{member}}}"));
    vec![
        "1".to_owned(),
        "1\n".repeat(10_000),
        format!("[{}1]", "1,".repeat(9_999)),
        format!("[{}1]", "1,".repeat(500_000)),
        format!("[{}{EVENT}]", format!("{EVENT},").repeat(5_000)),
        format!("{EVENT}\n").repeat(5_000),
        format!("[{}{EVENT}]", format!("{},", with(&attributes)).repeat(2_000)),
        with(&attributes),
        with(&attributes.repeat(200)),
        with(&(0..20_000).map(|n| format!(",\"a{n}\":1")).collect::<String>()),
        format!("\"{}\"", "x".repeat(200 << 10)),
        format!("{{\"k\":\"{}\"}}", "x".repeat(100 << 10)),
        format!("{{\"{}\":1}}", "x".repeat(200 << 10)),
        format!("{{\"event\":1,\"{}\":1}}", "x".repeat(200 << 10)),
        format!("[{}]", vec![format!("{{\"k\":\"{}\"}}", "x".repeat(30 << 10)); 100].join(",")),
        with(&format!(",\"data\":\"{}\"", "\\u0001".repeat(30 << 10))),
        with(&format!(",\"datacontenttype\":\"text/plain\",\"data\":\"{}\"", "\\u00e9".repeat(30 << 10))),
        with(&format!(",\"data\":\"{}\"", "x".repeat(250 << 10))),
        with(&format!(",\"data_base64\":\"{}\"", "AAAA".repeat(60 << 10))),
        with(&format!(",\"x\":\"{}\"", "\\u00e9".repeat(30 << 10))),
        format!("{{\"specversion\":\"{}\"}}", "9".repeat(200 << 10)),
        "9".repeat(250 << 10),
        "[".repeat(200 << 10),
        "{\"a\":".repeat(40 << 10),
        format!("{}{}", "[".repeat(119), "]".repeat(119)),
        " ".repeat(1 << 20),
    ]
}

#[test]
fn bombs_take_no_more_than_is_reserved() {
    for bomb in bombs() {
        check_body(bomb.as_bytes());
        if bomb.len() <= 320 << 10 {
            check_message(&bomb);
            check_message(&format!("{{\"event\":{bomb}}}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn drafting_takes_no_more_than_is_reserved(body in body(), repeat in 1..200usize) {
        check_body(&body);
        check_body(&body.repeat(repeat));
        if let Ok(text) = std::str::from_utf8(&body) {
            check_message(text);
        }
    }
}

/// A map of `count` fields of these names, whose length as HTTP/2 counts it is `bytes`.
fn fill(head: &mut HeaderMap, count: usize, bytes: u64, name: impl Fn(usize) -> String) {
    let each = usize::try_from(bytes).unwrap() / count - 32;
    for index in 0..count {
        let name = name(index);
        let value = "x".repeat(each.saturating_sub(name.len()));
        head.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    }
}

#[test]
fn a_requests_head_takes_no_more_than_is_counted_for_it() {
    let limits = LimitsConfig::default();
    let distinct = |index: usize| format!("{index:x}");
    let same = |_: usize| "x".to_owned();
    let peak = |count: usize, name: &dyn Fn(usize) -> String| {
        measure(|| {
            let mut head = HeaderMap::new();
            fill(&mut head, count, limits.header_bytes.0, name);
        })
        .bytes_max
    };
    let smallest = usize::try_from(limits.header_bytes.0).unwrap() / 36;
    for name in [&distinct as &dyn Fn(usize) -> String, &same] {
        let (counted, uncounted) = (peak(HEADERS_MAX, name), peak(smallest, name));
        assert!(counted <= limits.head_bytes(), "{counted} of {}", limits.head_bytes());
        let term = limits.header_bytes.0 * UNCOUNTED_HEADER_FACTOR;
        assert!(uncounted <= term && uncounted > counted, "{uncounted} of {term}");
    }
}

/// A zstd frame of zeros with a window of 2^`window_log` bytes, its size not told.
fn zstd_frame(window_log: u32, bytes: usize) -> Vec<u8> {
    let mut encoder = zstd_safe::CCtx::create();
    encoder.set_parameter(zstd_safe::CParameter::WindowLog(window_log)).unwrap();
    let plain = vec![0; bytes];
    let mut wire = vec![0; 1 << 20];
    let mut out = zstd_safe::OutBuffer::around(&mut wire[..]);
    encoder.compress_stream(&mut out, &mut zstd_safe::InBuffer::around(&plain)).unwrap();
    assert_eq!(encoder.end_stream(&mut out).unwrap(), 0);
    let length = out.pos();
    wire.truncate(length);
    wire
}

#[test]
fn a_zstd_decoder_takes_no_more_than_is_reserved_for_it() {
    let wire = zstd_frame(ZSTD_WINDOW_BYTES.ilog2(), 32 << 20);
    let mut decoder = zstd_safe::DCtx::create();
    decoder.set_parameter(zstd_safe::DParameter::WindowLogMax(ZSTD_WINDOW_BYTES.ilog2())).unwrap();
    let (mut input, mut most) = (zstd_safe::InBuffer::around(&wire), 0);
    let mut plain = vec![0; 64 << 10];
    while decoder.decompress_stream(&mut zstd_safe::OutBuffer::around(&mut plain[..]), &mut input).unwrap() > 0 {
        most = most.max(decoder.sizeof() as u64);
    }
    assert!(most > ZSTD_WINDOW_BYTES && most <= ZSTD_BYTES, "{most} of {ZSTD_BYTES}");
}

#[test]
fn a_zstd_frame_with_a_larger_window_is_refused() {
    let read = |window_log| {
        let limits = Arc::new(LimitsConfig { expanded_bytes: ByteSize(40 << 20), ..LimitsConfig::default() });
        let (room, headers) = (Room::new(limits.clone()), HeaderMap::new());
        let cost = with_defaults(&limits).cost(&limits, Some(&Format::Structured), &Common::default());
        let body = Body::from(zstd_frame(window_log, 32 << 20));
        runtime().block_on(room.read(&headers, body, Coding::Zstd, Duration::from_secs(60), &cost))
    };
    assert!(read(23).is_ok());
    assert_eq!(read(24).unwrap_err().status, 400);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn compressed(coding: Coding, plain: &[u8]) -> Bytes {
    let mut wire = Vec::new();
    runtime().block_on(async {
        match coding {
            Coding::Identity => wire.extend_from_slice(plain),
            Coding::Gzip => drop(GzipEncoder::new(plain).read_to_end(&mut wire).await.unwrap()),
            Coding::Zstd => drop(ZstdEncoder::new(plain).read_to_end(&mut wire).await.unwrap()),
        }
    });
    Bytes::from(wire)
}

/// Reading keeps to what is reserved before it. (zstd's own memory is C's, and not counted here but in a test of its own.)
fn check_read(wire: &Bytes, coding: Coding) {
    let limits = Arc::new(LimitsConfig::default());
    // The least that is ever reserved: one event without a key.
    let drafter = Drafter { key: None, ..with_defaults(&limits) };
    let cost = drafter.cost(&limits, Some(&Format::Structured), &Common::default());
    let (runtime, room) = (runtime(), Room::new(Arc::clone(&limits)));
    let body = Body::from(wire.clone());
    let reserved = limits.reservation(limits.expanded_bytes.0, &cost);
    let peak = measure(|| {
        drop(runtime.block_on(room.read(&HeaderMap::new(), body, coding, Duration::from_secs(60), &cost)));
    })
    .bytes_max;
    assert!(peak <= reserved + (256 << 10), "{coding:?}: {peak} bytes of {reserved} for {}", wire.len());
}

#[test]
fn a_body_that_expands_takes_no_more_than_is_reserved() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        for bytes in [0, 1, 8 << 10, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 64 << 20] {
            check_read(&compressed(coding, &vec![b' '; bytes]), coding);
        }
        let twice = [compressed(coding, &vec![b' '; 3 << 20]), compressed(coding, &vec![b' '; 3 << 20])].concat();
        check_read(&Bytes::from(twice), coding);
    }
    check_read(&Bytes::from(vec![b' '; 1 << 20]), Coding::Identity);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn broken_compression_takes_no_more_than_is_reserved(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        random in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let mut wire = compressed(coding, &b"{\"k\":[1,2,3]} ".repeat(2_000)).to_vec();
            for (at, byte) in &changes {
                let at = at.index(wire.len());
                wire[at] = *byte;
            }
            wire.truncate(cut.index(wire.len()) + 1);
            check_read(&Bytes::from(wire), coding);
            check_read(&Bytes::from(random.clone()), coding);
        }
    }
}
