//! What an event costs in the core, from push to settlement: `cargo test -p jaiminho-core --release --test speed -- --ignored --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test that measures time"
)]

use std::time::Instant;

use jaiminho_core::{
    Credit, Dispatch, Disposition, Event, GroupKind, InputId, Instance, KeyHash, Origin, Outcome, Output, OutputConfig,
    Payload, RequiredGroup, Settled, Subscribe, Time, Versions, Window,
};

fn output(members: u64) -> (Output, Vec<jaiminho_core::LinkId>) {
    let mut output = Output::new(OutputConfig {
        capacity_events: 50_000,
        capacity_bytes: 64 << 20,
        span: 800_000,
        links_max: 64,
        groups: vec![RequiredGroup { name: "convert".into(), dispatch: Dispatch::Keyed }],
        ..OutputConfig::default()
    });
    let open = |index| Subscribe {
        versions: Versions { min: 1, max: 1 },
        pipeline: "p".into(),
        output: "o".into(),
        group: "convert".into(),
        kind: GroupKind::Required,
        instance: Instance { name: format!("convert-{index}"), incarnation: 1 },
        link_counter: 1,
        window: Window { events: 10_000, bytes: 16 << 20 },
        event_bytes_max: 1 << 20,
        frame_bytes_max: 1 << 20,
        selector: None,
        partition: None,
    };
    let links = (0..members).map(|index| output.subscribe(Time(0), &open(index)).unwrap()).collect();
    (output, links)
}

fn round(output: &mut Output, links: &[jaiminho_core::LinkId], events: u64, keyed: bool, payload: &Payload) {
    for number in 0..events {
        let key = keyed.then_some(KeyHash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let origin = Origin::default();
        let event =
            Event { payload: payload.clone(), key, attempt: 1, arrived_ms: 0, deadline_ms: None, origin, trace: None };
        output.push(Time(0), InputId(number), event);
    }
    while !output.is_settled() {
        for &link in links {
            let sent = output.last_sent(link);
            output.credit(link, Credit { events: sent + 500, bytes: sent * 256 + (1 << 20) }).unwrap();
        }
        while output.dispatch(Time(0)) {}
        for &link in links {
            let first = output.last_sent(link) + 1;
            while output.next_frame(link, 128 << 10).is_some() {}
            let last = output.last_sent(link);
            if last >= first {
                let state = Settled::Outcome(Outcome::Accepted);
                output.dispose(link, &Disposition { first, last, state }).unwrap();
            }
        }
        while output.poll_settled().is_some() {}
    }
}

#[test]
#[ignore = "a measurement"]
fn an_event_takes_a_fraction_of_a_microsecond() {
    let payload = Payload::from(vec![0; 256]);
    for (members, backlog, keyed) in
        [(1, 500, true), (8, 500, true), (1, 500, false), (8, 500, false), (8, 40_000, true), (8, 40_000, false)]
    {
        let (mut output, links) = output(members);
        let rounds = 2_000_000 / backlog;
        let start = Instant::now();
        for _ in 0..rounds {
            round(&mut output, &links, backlog, keyed, &payload);
        }
        let nanos = start.elapsed().as_nanos() as u64 / (rounds * backlog);
        eprintln!("{members} members, {backlog} waiting, keyed {keyed}: {nanos} ns an event");
        assert!(nanos < 5_000);
    }
}
