//! What members and groups cost: `cargo test -p jaiminho-core --release --test scale -- --ignored --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test that measures time"
)]

use std::time::{Duration, Instant};

use jaiminho_core::{
    Credit, Disposition, Event, GroupKind, InputId, Instance, KeyHash, LinkId, Outcome, Output, OutputConfig,
    PARTITIONS, Payload, RequiredGroup, Settled, Subscribe, Time, Versions, Window,
};

const WINDOW: Window = Window { events: 100, bytes: 1 << 20 };
const PAYLOAD_BYTES: u64 = 256;
/// How often each figure is measured, and over how many deliveries.
const MEASUREMENTS: usize = 5;
const DELIVERIES: u64 = 200_000;

fn output(groups: usize) -> Output {
    let name = |group: usize| RequiredGroup { name: group.to_string(), dispatch: Default::default() };
    Output::new(OutputConfig {
        capacity_events: 50_000,
        capacity_bytes: 64 << 20,
        span: 800_000,
        links_max: 60_000,
        groups: (0..groups).map(name).collect(),
        ..OutputConfig::default()
    })
}

fn join(output: &mut Output, group: usize, member: usize) -> LinkId {
    let subscribe = Subscribe {
        versions: Versions { min: 1, max: 1 },
        pipeline: "p".into(),
        output: "o".into(),
        group: group.to_string(),
        kind: GroupKind::Required,
        instance: Instance { name: format!("convert-{member}.convert.eugenio.svc:7400"), incarnation: 1 },
        link_counter: 1,
        window: WINDOW,
        event_bytes_max: 1 << 20,
        frame_bytes_max: 1 << 20,
        selector: None,
        partition: None,
    };
    let link = output.subscribe(Time(0), &subscribe).unwrap();
    output.credit(link, Credit { events: WINDOW.events, bytes: WINDOW.bytes }).unwrap();
    link
}

fn push(output: &mut Output, key: Option<KeyHash>, payload: &Payload) {
    output.push(Time(0), InputId(0), Event { key, ..Event::new(payload.clone()) });
}

/// Dispatches what waits, and settles what was sent. How many deliveries that were.
fn serve(output: &mut Output) -> u64 {
    let mut deliveries = 0;
    while output.dispatch(Time(0)) {}
    for link in output.ready_links() {
        let first = output.last_sent(link) + 1;
        while output.next_frame(link, 128 << 10).is_some() {}
        let last = output.last_sent(link);
        if last >= first {
            deliveries += last + 1 - first;
            let state = Settled::Outcome(Outcome::Accepted);
            output.dispose(link, &Disposition { first, last, state }).unwrap();
            output
                .credit(link, Credit { events: last + WINDOW.events, bytes: last * PAYLOAD_BYTES + WINDOW.bytes })
                .unwrap();
        }
    }
    while output.poll_settled().is_some() {}
    deliveries
}

/// Nanoseconds for a delivery, from push to settlement, when so many events come at a time: the least of several measurements.
fn cost(output: &mut Output, at_a_time: u64, keyed: bool) -> u64 {
    let payload = Payload::from(vec![0; PAYLOAD_BYTES as usize]);
    let mut number = 0_u64;
    let mut measure = || {
        let (start, mut deliveries) = (Instant::now(), 0);
        while deliveries < DELIVERIES {
            for _ in 0..at_a_time {
                number += 1;
                let key = keyed.then_some(KeyHash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                push(output, key, &payload);
            }
            while !output.is_settled() {
                deliveries += serve(output);
            }
        }
        start.elapsed().as_nanos() as u64 / deliveries
    };
    (0..MEASUREMENTS).map(|_| measure()).min().unwrap()
}

#[test]
#[ignore = "a measurement"]
fn a_delivery_costs_the_same_whatever_the_number_of_members() {
    eprintln!("nanoseconds a delivery, from push to settlement; ten events a member at a time, or one event at a time");
    eprintln!(
        "{:>6} {:>8} {:>10} {:>12} {:>10} {:>12}",
        "groups", "members", "keyed ten", "keyless ten", "keyed one", "keyless one"
    );
    for groups in [1, 10] {
        let mut first = None;
        for members in [1, 10, 100, 1_000] {
            let mut output = output(groups);
            for group in 0..groups {
                for member in 0..members {
                    join(&mut output, group, member);
                }
            }
            let many = 10 * members as u64;
            let kinds = [(many, true), (many, false), (1, true), (1, false)];
            let costs = kinds.map(|(at_a_time, keyed)| cost(&mut output, at_a_time, keyed));
            let [many, many_keyless, one, one_keyless] = costs;
            eprintln!("{groups:>6} {members:>8} {many:>10} {many_keyless:>12} {one:>10} {one_keyless:>12}");
            let first = *first.get_or_insert(costs);
            assert!(costs.iter().zip(first).all(|(cost, first)| *cost < 8 * first), "{costs:?} after {first:?}");
        }
    }
}

/// How long some calls took.
#[derive(Default)]
struct Calls(Vec<Duration>);

impl Calls {
    fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = call();
        self.0.push(start.elapsed());
        done
    }

    /// Median and longest.
    fn sorted(mut self) -> (Duration, Duration) {
        self.0.sort_unstable();
        (self.0[self.0.len() / 2], self.0[self.0.len() - 1])
    }
}

#[test]
#[ignore = "a measurement"]
fn a_thousand_members_come_and_go_without_a_stall() {
    let mut output = output(1);
    let payload = Payload::from(vec![0; PAYLOAD_BYTES as usize]);
    let [mut joins, mut closes, mut serves] = [(); 3].map(|()| Calls::default());
    let mut number = 0_u64;
    let mut load = |output: &mut Output, serves: &mut Calls| {
        for _ in 0..100 {
            number += 1;
            push(output, Some(KeyHash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))), &payload);
        }
        serves.time(|| serve(output));
        while output.poll_signal().is_some() {}
    };
    let start = Instant::now();
    let mut links = Vec::new();
    for member in 0..1_000 {
        links.push(joins.time(|| join(&mut output, 0, member)));
        load(&mut output, &mut serves);
    }
    let joined = start.elapsed();
    for link in links.into_iter().rev() {
        load(&mut output, &mut serves);
        // What it has is lost with it.
        for number in 0..100 {
            push(&mut output, Some(KeyHash(number)), &payload);
        }
        while output.dispatch(Time(0)) {}
        closes.time(|| output.close(Time(0), link));
    }
    eprintln!("1,000 members join in {joined:.1?} and leave in {:.1?}, under load", start.elapsed() - joined);
    eprintln!("{:>24} {:>10} {:>10}", "single call", "median", "longest");
    for (name, calls) in [("subscribe", joins), ("close", closes), ("a round of 100 events", serves)] {
        let (median, longest) = calls.sorted();
        eprintln!("{name:>24} {:>10} {:>10}", format!("{median:.0?}"), format!("{longest:.0?}"));
        assert!(longest < Duration::from_millis(100));
    }
}

#[test]
#[ignore = "a measurement"]
fn the_partitions_spread_over_the_members() {
    eprintln!("partitions of {PARTITIONS} that a member owns");
    eprintln!("{:>8} {:>6} {:>6} {:>6}", "members", "min", "mean", "max");
    for members in [2, 10, 100, 1_000] {
        let mut output = output(1);
        let links: Vec<LinkId> = (0..members).map(|member| join(&mut output, 0, member)).collect();
        let payload = Payload::from(vec![0; PAYLOAD_BYTES as usize]);
        (0..PARTITIONS as u64).for_each(|partition| push(&mut output, Some(KeyHash(partition)), &payload));
        while !output.is_settled() {
            serve(&mut output);
        }
        let owned: Vec<u64> = links.iter().map(|&link| output.last_sent(link)).collect();
        assert_eq!(owned.iter().sum::<u64>(), PARTITIONS as u64);
        let mean = PARTITIONS as f64 / members as f64;
        let (min, max) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
        eprintln!("{members:>8} {min:>6} {mean:>6.1} {max:>6}");
    }
}
