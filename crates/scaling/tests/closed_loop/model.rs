//! A pipeline as its scaler sees it: a flow of events through stages, each with a bounded log behind it, and pods that take time
//! to start. Time goes in quarters of a second.

use std::{collections::VecDeque, time::Duration};

use jaiminho_scaling::{Decision, Options, Scaling, Sight};

use crate::hpa::{Hpa, SYNC_S};

const TICK_S: f64 = 0.25;
/// Shares are over so many ticks: ten seconds.
const SHARE_TICKS: usize = 40;
/// From when an event is taken in to when it is acknowledged, where nothing holds it up.
const LATENCY_S: f64 = 0.02;
/// What metrics-server tells is of so long.
const SCRAPE_S: f64 = 10.0;
/// A pod that died is back after so long.
const RESTART_S: f64 = 5.0;

/// A value that changes with time, in seconds.
pub(crate) type Course = Box<dyn Fn(f64) -> f64>;

/// A stage of the pipeline.
pub(crate) struct StageSpec {
    pub(crate) name: &'static str,
    /// Events a second that one instance can do.
    pub(crate) able: Course,
    /// Events a second that all together can do: what is behind it has a limit of its own.
    pub(crate) able_together: Course,
    /// Share of its events that have one and the same key: one instance does these, and no others.
    pub(crate) hot: Course,
    /// Events that an instance does at a time.
    pub(crate) width: u32,
    /// Share of its window that these are.
    pub(crate) width_of_window: f64,
    pub(crate) instances: u32,
    pub(crate) options: Options,
    /// It is the source, and an instance takes so many connections, each of which waits for its event.
    pub(crate) connections: Option<f64>,
    /// It is scaled on CPU: a pod requests this share of what it uses when it is full.
    pub(crate) cpu_request: Option<f64>,
    /// So many of its pods die after so many seconds of having all the work that they can do.
    pub(crate) dies: Option<(usize, f64)>,
}

pub(crate) fn stage(name: &'static str, able: f64, width: u32, instances: u32) -> StageSpec {
    StageSpec {
        name,
        able: Box::new(move |_| able),
        able_together: Box::new(|_| f64::INFINITY),
        hot: Box::new(|_| 0.0),
        width,
        width_of_window: 0.5,
        instances,
        options: Options::default(),
        connections: None,
        cpu_request: None,
        dies: None,
    }
}

/// A pipeline and what is asked of it.
pub(crate) struct Story {
    pub(crate) offered: Course,
    /// Relative, of each second's offer.
    pub(crate) noise: f64,
    pub(crate) stages: Vec<StageSpec>,
    /// Events that each log may hold.
    pub(crate) log: f64,
    pub(crate) startup_s: f64,
    pub(crate) seconds: u32,
    /// From when to when some instance does not answer.
    pub(crate) unseen: std::ops::Range<f64>,
}

impl Story {
    pub(crate) fn new(seconds: u32, offered: impl Fn(f64) -> f64 + 'static, stages: Vec<StageSpec>) -> Self {
        Self {
            offered: Box::new(offered),
            noise: 0.05,
            stages,
            log: 10_000.0,
            startup_s: 20.0,
            seconds,
            unseen: 0.0..0.0,
        }
    }
}

/// What is noted of a stage each second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) wanted: u32,
    pub(crate) running: u32,
    pub(crate) rate: f64,
}

/// What came of a story.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Each second.
    pub(crate) offered: Vec<f64>,
    pub(crate) refused: Vec<f64>,
    /// By stage, each second.
    pub(crate) stages: Vec<Vec<Note>>,
    /// By stage: when, from how many, to how many.
    pub(crate) changes: Vec<Vec<(f64, u32, u32)>>,
}

struct Stage {
    spec: StageSpec,
    hpa: Hpa,
    scaling: Scaling,
    decision: Option<Decision>,
    /// When each pod takes events.
    pods: Vec<f64>,
    /// What waits for the stage after it.
    log: f64,
    /// Of what waits above, that of the one key.
    hot_log: f64,
    /// Blocked, limit, load and the one key's limit of each tick.
    shares: VecDeque<[f64; 4]>,
    passed: f64,
    load: f64,
    /// Since when it has had all the work that it can do.
    full: Option<f64>,
    /// What metrics-server knows: when, and the load of a pod.
    scraped: Option<(f64, f64)>,
}

impl Stage {
    fn new(spec: StageSpec) -> Self {
        let (pods, scaling) = (vec![-1_000.0; spec.instances as usize], Scaling::new(spec.options));
        let hpa = Hpa::new(1, 60);
        Self {
            spec,
            hpa,
            scaling,
            decision: None,
            pods,
            log: 0.0,
            hot_log: 0.0,
            shares: VecDeque::new(),
            passed: 0.0,
            load: 0.0,
            full: None,
            scraped: None,
        }
    }

    fn running(&self, now: f64) -> u32 {
        self.pods.iter().filter(|ready| **ready <= now).count() as u32
    }

    /// Takes what it can of what waits above; what is left there.
    fn tick(&mut self, now: f64, above: f64, came: f64, room: f64) -> f64 {
        let running = f64::from(self.running(now));
        let one = (self.spec.able)(now) * TICK_S;
        let able = (running * one).min((self.spec.able_together)(now) * TICK_S);
        let hot = if running > 1.0 { (self.hot_log + came * (self.spec.hot)(now)).min(above) } else { 0.0 };
        let hot_passed = hot.min(one);
        self.hot_log = hot - hot_passed;
        let passed = (above - self.hot_log).min(able).min(room);
        self.load = if able > 0.0 { passed / able } else { 1.0 };
        let is_blocked = passed < (above - self.hot_log).min(able) - 1e-9 || self.log > self.passed + 1e-9;
        let is_full = above - passed > came.max(1e-9) * 0.01 && passed >= able - 1e-9;
        let limit_at =
            |load: f64, is_full: bool| if is_full { 1.0 } else { all_busy(self.spec.width, load.min(0.999)) };
        let (limit, hot_limit) = (limit_at(self.load, is_full), limit_at(hot_passed / one, self.hot_log > 0.0));
        let (blocked, limit) = if is_blocked { (1.0, 0.0) } else { (0.0, limit) };
        self.shares.push_back([blocked, limit, self.load, hot_limit]);
        if self.shares.len() > SHARE_TICKS {
            self.shares.pop_front();
        }
        self.passed = passed;
        self.log += passed;
        self.full = if is_full { self.full.or(Some(now)) } else { None };
        self.die(now);
        above - passed
    }

    fn die(&mut self, now: f64) {
        let (Some((pods, after_s)), Some(full)) = (self.spec.dies, self.full) else { return };
        for ready in self.pods.iter_mut().take(pods).filter(|ready| now - ready.max(full) >= after_s) {
            *ready = now + RESTART_S;
        }
    }

    fn share(&self, of: usize) -> f64 {
        self.shares.iter().map(|shares| shares[of]).sum::<f64>() / self.shares.len().max(1) as f64
    }

    fn look(&mut self, now: f64, rate: f64, waiting: f64) {
        let used = 0.25 + 0.75 * (self.load * self.spec.width_of_window).min(1.0);
        let (blocked, mean) = (self.share(0), self.share(1));
        // That of the busiest, where events wait.
        let limit = if waiting >= 1.0 { mean.max(self.share(3)) } else { mean };
        let youngest = self.pods.iter().filter(|ready| **ready <= now).fold(f64::INFINITY, |age, at| age.min(now - at));
        let sight = Sight {
            instances: self.running(now),
            youngest: Duration::from_secs_f64(youngest.min(1e6)),
            rate: Some(rate),
            blocked,
            limit,
            waiting: waiting as u64,
            in_work: (rate * 0.02) as u64,
            unused_credit: Some(if limit > 0.99 { 0.0 } else { 1.0 - used }),
            ..Sight::default()
        };
        let sight = match self.spec.connections {
            Some(most) => {
                let open = (rate * LATENCY_S + self.log) / (f64::from(sight.instances.max(1)) * most);
                let saturation = Some(self.share(2).max(open).min(1.0));
                Sight { is_source: true, saturation, limit: 0.0, waiting: 0, unused_credit: None, ..sight }
            }
            None => sight,
        };
        self.decision = Some(self.scaling.decide(Duration::from_secs_f64(now), &sight));
    }

    /// KEDA asks, Kubernetes follows; or it looks at CPU itself.
    fn sync(&mut self, now: f64, is_seen: bool, startup_s: f64) -> Option<(f64, u32, u32)> {
        let total = self.decision.filter(|_| is_seen).map(|decision| f64::from(decision.needed));
        let current = self.pods.len() as u32;
        let wanted = match self.spec.cpu_request {
            Some(request) => {
                let latest = (now, self.share(2));
                let (at, load) = self.scraped.replace(latest)?;
                let pods = self.pods.iter().filter(|ready| **ready + SCRAPE_S <= at).count() as u32;
                self.hpa.sync_cpu(now, load / request, pods, current)
            }
            None => self.hpa.sync(now, total, current),
        };
        // The youngest leave first.
        self.pods.resize(wanted as usize, now + startup_s);
        (wanted != current).then_some((now, current, wanted))
    }
}

/// How much of the time all places are taken, of so many at such a load: Erlang's second formula.
fn all_busy(width: u32, load: f64) -> f64 {
    let offered = f64::from(width) * load;
    let blocking =
        (1..=width).fold(1.0, |blocking, places| offered * blocking / (f64::from(places) + offered * blocking));
    blocking / (1.0 - load * (1.0 - blocking))
}

/// The same numbers each time, from -1 to 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 30) - 1.0
    }
}

pub(crate) fn run(story: Story) -> Run {
    let Story { offered, noise, stages, log, startup_s, seconds, unseen } = story;
    let mut stages: Vec<Stage> = stages.into_iter().map(Stage::new).collect();
    let mut run = Run { stages: vec![vec![]; stages.len()], changes: vec![vec![]; stages.len()], ..Run::default() };
    let (mut source_log, mut random) = (0.0, Noise(1));
    for second in 0..seconds {
        let start = f64::from(second);
        let rate = offered(start) * (1.0 + noise * random.next());
        let (mut refused, mut passed) = (0.0, vec![0.0; stages.len()]);
        for tick in 0..4 {
            let now = start + f64::from(tick) * TICK_S;
            for index in (0..stages.len()).rev() {
                let room = if index + 1 == stages.len() { f64::INFINITY } else { (log - stages[index].log).max(0.0) };
                let (above, came) = match index {
                    0 => (source_log, rate * TICK_S),
                    _ => (stages[index - 1].log, stages[index - 1].passed),
                };
                let left = stages[index].tick(now, above, came, room);
                passed[index] += stages[index].passed;
                if index == 0 { source_log = left } else { stages[index - 1].log = left }
            }
            let last = stages.len() - 1;
            stages[last].log = 0.0;
            // What a source does not take is refused: there is no log before it.
            if stages[0].spec.connections.is_some() {
                refused += std::mem::take(&mut source_log);
            }
            let taken = (rate * TICK_S).min((log - source_log).max(0.0));
            source_log += taken;
            refused += rate * TICK_S - taken;
        }
        run.offered.push(rate);
        run.refused.push(refused);
        let is_seen = !unseen.contains(&start);
        for index in 0..stages.len() {
            let waiting = if index == 0 { source_log } else { stages[index - 1].log };
            // What comes in the next tick waits for nothing.
            let waiting = (waiting - passed[index] / 4.0 * 1.1).max(0.0);
            let stage = &mut stages[index];
            if is_seen {
                stage.look(start + 1.0, passed[index], waiting);
            }
            let phase = 4.0 + index as f64;
            if (start - phase).rem_euclid(SYNC_S) < 0.5 {
                run.changes[index].extend(stage.sync(start, is_seen, startup_s));
            }
            let (wanted, running) = (stage.pods.len() as u32, stage.running(start));
            run.stages[index].push(Note { wanted, running, rate: passed[index] });
        }
    }
    run
}

#[test]
fn a_wide_stage_is_seldom_full_until_it_always_is() {
    assert!((all_busy(1, 0.6) - 0.6).abs() < 1e-9);
    assert!(all_busy(8, 0.6) < 0.3 && all_busy(64, 0.8) < 0.07 && all_busy(64, 0.99) > 0.7);
}
