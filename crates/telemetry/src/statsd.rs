//! Metrics to a StatsD server over UDP: counters as what is new of them, gauges as they are, histograms as count, sum and
//! percentiles of what is new.
//!
//! Nobody answers on UDP. A datagram that can't be sent is counted, and what it would have told of counters is told by the next.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::Key;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::LAST;
use crate::names::process::EXPORTS;
use crate::registry::{Buckets, Metrics, Series, Value};

/// Largest datagram: what an Ethernet's frame takes.
const DATAGRAM_BYTES_MAX: usize = 1_432;
/// Longest that a name is asked for at the resolver, or a datagram waits for the socket.
const SEND_DEADLINE: Duration = Duration::from_secs(2);

/// Where and how metrics go to a StatsD server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsdConfig {
    /// `HOST:PORT`
    pub address: String,
    /// Stands before each name, with a dot.
    pub prefix: String,
    /// Labels as DogStatsD's tags, instead of in the name.
    pub dogstatsd: bool,
    /// Tags of all metrics, with `dogstatsd`.
    pub tags: Vec<(String, String)>,
    /// Between two tellings.
    pub interval: Duration,
}

/// Tells the metrics until `stop`, and then once more, within two seconds in all: what was under way then is told by the last.
pub async fn statsd(metrics: Metrics, config: StatsdConfig, stop: CancellationToken) {
    let mut teller = Teller::new(config);
    let telling = async {
        loop {
            tokio::time::sleep(teller.config.interval).await;
            teller.tell(&metrics).await;
        }
    };
    let _stopped = stop.run_until_cancelled(telling).await;
    // What can't be told until then is lost with the process.
    let _late = tokio::time::timeout(LAST, teller.tell(&metrics)).await;
}

/// What was told of a counter or histogram.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    /// When that series began: another one of the same name begins at 0 again.
    since: u64,
    counts: Vec<u64>,
    sum: f64,
}

struct Teller {
    config: StatsdConfig,
    told: HashMap<Key, Told>,
    outcomes: [metrics::Counter; 2],
}

/// Lines of one series, which go together.
struct Lines<'a> {
    series: &'a Series,
    text: String,
    /// What is told with them.
    told: Option<Told>,
}

impl Teller {
    fn new(config: StatsdConfig) -> Self {
        let outcome = |outcome| metrics::counter!(EXPORTS, "exporter" => "statsd", "outcome" => outcome);
        Self { config, told: HashMap::new(), outcomes: ["sent", "failed"].map(outcome) }
    }

    async fn tell(&mut self, metrics: &Metrics) {
        let all = metrics.read();
        let mut told = HashMap::with_capacity(self.told.len());
        let socket = self.socket().await;
        let mut datagram = Vec::new();
        let mut with: Vec<Lines<'_>> = Vec::new();
        // What is gone is forgotten: only what is still there is carried over.
        told.extend(all.iter().filter_map(|series| self.told.remove_entry(&series.key)));
        self.told = told;
        for series in all.iter() {
            let Some(lines) = self.lines(series) else { continue };
            if datagram.len() + lines.text.len() > DATAGRAM_BYTES_MAX && !datagram.is_empty() {
                self.send(socket.as_ref(), &mut datagram, &mut with).await;
            }
            datagram.extend_from_slice(lines.text.as_bytes());
            with.push(lines);
        }
        if !datagram.is_empty() {
            self.send(socket.as_ref(), &mut datagram, &mut with).await;
        }
    }

    /// The name is asked for each time: a server may move.
    async fn socket(&self) -> Option<UdpSocket> {
        let connect = async {
            let address = tokio::net::lookup_host(&self.config.address).await.ok()?.next()?;
            let any: SocketAddr = if address.is_ipv6() { ([0_u16; 8], 0).into() } else { ([0; 4], 0).into() };
            let socket = UdpSocket::bind(any).await.ok()?;
            socket.connect(address).await.ok()?;
            Some(socket)
        };
        tokio::time::timeout(SEND_DEADLINE, connect).await.ok().flatten()
    }

    async fn send(&mut self, socket: Option<&UdpSocket>, datagram: &mut Vec<u8>, with: &mut Vec<Lines<'_>>) {
        let bytes = std::mem::take(datagram);
        let sent = match socket {
            Some(socket) => {
                let sent = tokio::time::timeout(SEND_DEADLINE, socket.send(bytes.trim_ascii_end())).await;
                matches!(sent, Ok(Ok(_)))
            }
            None => false,
        };
        let [of_sent, of_failed] = &self.outcomes;
        if sent {
            of_sent.increment(1)
        } else {
            of_failed.increment(1)
        }
        for Lines { series, told, .. } in with.drain(..).filter(|_| sent) {
            if let Some(told) = told {
                self.told.insert(series.key.clone(), told);
            }
        }
    }

    /// None: nothing is new.
    fn lines<'a>(&self, series: &'a Series) -> Option<Lines<'a>> {
        let before = self.told.get(&series.key).filter(|told| told.since == series.since).cloned().unwrap_or_default();
        match &series.value {
            Value::Counter(count) => {
                let count = count.load(Ordering::Relaxed);
                let new = count.saturating_sub(before.counts.first().copied().unwrap_or(0));
                let told = Told { since: series.since, counts: vec![count], sum: 0.0 };
                (new > 0).then(|| {
                    let text = self.line(series, "", &series.told(new).to_string(), "c");
                    Lines { series, text, told: Some(told) }
                })
            }
            Value::Gauge(value) => {
                let value = f64::from_bits(value.load(Ordering::Relaxed));
                let text = self.line(series, "", &value.max(0.0).to_string(), "g");
                value.is_finite().then_some(Lines { series, text, told: None })
            }
            Value::Histogram(buckets) => self.histogram(series, buckets, &before),
        }
    }

    fn histogram<'a>(&self, series: &'a Series, buckets: &Arc<Buckets>, before: &Told) -> Option<Lines<'a>> {
        let told = Told { since: series.since, counts: buckets.counts(), sum: buckets.sum() };
        let old = before.counts.iter().chain(std::iter::repeat(&0));
        let new: Vec<u64> = told.counts.iter().zip(old).map(|(now, old)| now.saturating_sub(*old)).collect();
        let all: u64 = new.iter().sum();
        if all == 0 {
            return None;
        }
        let mut text = self.line(series, "count", &all.to_string(), "c");
        text += &self.line(series, "sum", &(told.sum - before.sum).max(0.0).to_string(), "c");
        for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            text += &self.line(series, name, &percentile(buckets.bounds, &new, share).to_string(), "g");
        }
        Some(Lines { series, text, told: Some(told) })
    }

    /// `prefix.name.label.value…:VALUE|c`, or with the labels as tags.
    fn line(&self, series: &Series, part: &str, value: &str, kind: &str) -> String {
        let name = series.key.name();
        let mut text = format!("{}.{}", self.config.prefix, word(name.strip_prefix("jaiminho_").unwrap_or(name)));
        let labels = series.key.labels().map(|label| (label.key(), label.value()));
        if self.config.dogstatsd {
            if !part.is_empty() {
                text += &format!(".{part}");
            }
            let own = self.config.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let tags = own.chain(labels).map(|(key, value)| format!("{}:{}", word(key), tag(value)));
            return format!("{text}:{value}|{kind}|#{}\n", tags.collect::<Vec<_>>().join(","));
        }
        for (key, value) in labels {
            text += &format!(".{}.{}", word(key), word(value));
        }
        if !part.is_empty() {
            text += &format!(".{part}");
        }
        format!("{text}:{value}|{kind}\n")
    }
}

/// One part of a dotted name.
fn word(text: &str) -> String {
    let plain = |char: char| if char.is_ascii_alphanumeric() || "_-".contains(char) { char } else { '_' };
    if text.is_empty() { "_".to_owned() } else { text.chars().map(plain).collect() }
}

/// A tag's value: nothing in it ends it.
fn tag(text: &str) -> String {
    text.chars().map(|char| if char.is_control() || ",|#".contains(char) { '_' } else { char }).collect()
}

/// In which so large a share of all lies, by straight lines within the buckets; above all bounds it is the last of them.
fn percentile(bounds: &[f64], counts: &[u64], share: f64) -> f64 {
    let rank = share * counts.iter().sum::<u64>() as f64;
    let (mut below, mut from) = (0.0, 0.0);
    for (&bound, &count) in bounds.iter().zip(counts) {
        let count = count as f64;
        if count > 0.0 && below + count >= rank {
            return from + (bound - from) * (rank - below) / count;
        }
        (below, from) = (below + count, bound);
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    async fn receiver() -> (UdpSocket, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        (socket, address)
    }

    fn config(address: String, dogstatsd: bool) -> StatsdConfig {
        let tags = vec![("instance".to_owned(), "a-0:7400".to_owned())];
        StatsdConfig { address, prefix: "jaiminho".to_owned(), dogstatsd, tags, interval: Duration::from_millis(10) }
    }

    /// All lines that have come, and how large the largest datagram was.
    fn received(socket: &UdpSocket) -> (Vec<String>, usize) {
        let (mut lines, mut largest, mut buffer) = (Vec::new(), 0, [0; 65_536]);
        while let Ok(bytes) = socket.try_recv(&mut buffer) {
            largest = largest.max(bytes);
            lines.extend(std::str::from_utf8(&buffer[..bytes]).unwrap().lines().map(str::to_owned));
        }
        (lines, largest)
    }

    #[tokio::test]
    async fn counters_are_told_as_what_is_new_and_labels_are_part_of_the_name() {
        let (socket, address) = receiver().await;
        let metrics = Metrics::default();
        let mut teller = metrics::with_local_recorder(&metrics, || {
            metrics::counter!(names::SETTLED, "stage" => "a.b", "outcome" => "accepted").increment(5);
            metrics::gauge!(names::LINKS_IN, "stage" => "a").set(2.0);
            metrics::histogram!(names::FRAME_EVENTS, "stage" => "a").record_many(10.0, 4);
            Teller::new(config(address, false))
        });
        teller.tell(&metrics).await;
        socket.readable().await.unwrap();
        let (lines, _) = received(&socket);
        for line in [
            "jaiminho.settled_total.stage.a_b.outcome.accepted:5|c",
            "jaiminho.links_in.stage.a:2|g",
            "jaiminho.frame_events.stage.a.count:4|c",
            "jaiminho.frame_events.stage.a.sum:40|c",
            "jaiminho.frame_events.stage.a.p50:7.5|g",
        ] {
            assert!(lines.iter().any(|of| of == line), "{line} is not in {lines:#?}");
        }
        metrics::with_local_recorder(&metrics, || {
            metrics::counter!(names::SETTLED, "stage" => "a.b", "outcome" => "accepted").increment(2);
        });
        teller.tell(&metrics).await;
        socket.readable().await.unwrap();
        let (lines, _) = received(&socket);
        assert!(lines.iter().any(|line| line == "jaiminho.settled_total.stage.a_b.outcome.accepted:2|c"), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("frame_events")), "nothing is new of it: {lines:#?}");
    }

    #[tokio::test]
    async fn with_dogstatsd_labels_are_tags() {
        let (socket, address) = receiver().await;
        let metrics = Metrics::default();
        let mut teller = metrics::with_local_recorder(&metrics, || {
            metrics::counter!(names::SETTLED, "stage" => "a,b", "outcome" => "accepted").increment(5);
            Teller::new(config(address, true))
        });
        teller.tell(&metrics).await;
        socket.readable().await.unwrap();
        let (lines, _) = received(&socket);
        let line = "jaiminho.settled_total:5|c|#instance:a-0:7400,stage:a_b,outcome:accepted";
        assert!(lines.iter().any(|of| of == line), "{lines:#?}");
    }

    #[tokio::test]
    async fn datagrams_fit_a_frame_and_together_tell_all() {
        let (socket, address) = receiver().await;
        let metrics = Metrics::default();
        let mut teller = metrics::with_local_recorder(&metrics, || {
            for of in 0..500 {
                metrics::counter!("own_total", "of" => format!("a-rather-long-name-{of}")).increment(1);
            }
            Teller::new(config(address, false))
        });
        teller.tell(&metrics).await;
        let own =
            |lines: &[String]| lines.iter().filter(|line| line.contains("own_total") && line.ends_with(":1|c")).count();
        let (mut lines, mut largest) = (Vec::new(), 0);
        while own(&lines) < 500 {
            tokio::time::timeout(Duration::from_secs(10), socket.readable()).await.expect("all lines").unwrap();
            let (more, bytes) = received(&socket);
            lines.extend(more);
            largest = largest.max(bytes);
        }
        assert_eq!(own(&lines), 500);
        assert!((DATAGRAM_BYTES_MAX / 2..=DATAGRAM_BYTES_MAX).contains(&largest), "{largest}");
    }

    #[tokio::test]
    async fn what_could_not_be_sent_is_counted_and_told_later() {
        let (socket, address) = receiver().await;
        let metrics = Metrics::default();
        let mut teller = metrics::with_local_recorder(&metrics, || {
            metrics::counter!(names::SETTLED, "stage" => "a", "outcome" => "accepted").increment(5);
            Teller::new(config("nobody.invalid:1".to_owned(), false))
        });
        teller.tell(&metrics).await;
        assert!(metrics.render().contains("jaiminho_metrics_exports_total{exporter=\"statsd\",outcome=\"failed\"} 1"));
        teller.config.address = address;
        teller.tell(&metrics).await;
        socket.readable().await.unwrap();
        let (lines, _) = received(&socket);
        assert!(lines.iter().any(|line| line == "jaiminho.settled_total.stage.a.outcome.accepted:5|c"), "{lines:#?}");
    }

    #[tokio::test]
    async fn what_was_forgotten_and_comes_back_is_told_from_its_new_beginning() {
        let (socket, address) = receiver().await;
        let metrics = Metrics::default();
        let deliveries = |count: u64| {
            metrics::with_local_recorder(&metrics, || {
                let deliveries = metrics::counter!(names::DELIVERIES, "group" => "g");
                deliveries.increment(count);
                deliveries
            })
        };
        let mut teller = metrics::with_local_recorder(&metrics, || Teller::new(config(address, false)));
        for count in [5, 7, 3] {
            let held = deliveries(count);
            teller.tell(&metrics).await;
            socket.readable().await.unwrap();
            let (lines, _) = received(&socket);
            let line = format!("jaiminho.deliveries_total.group.g:{count}|c");
            assert!(lines.contains(&line), "{line} is not in {lines:#?}");
            drop(held);
            metrics.upkeep();
        }
    }

    #[test]
    fn a_percentile_lies_within_the_bucket_that_holds_it() {
        let bounds = [1.0, 2.0, 4.0];
        assert!((percentile(&bounds, &[0, 10, 0, 0], 0.5) - 1.5).abs() < 1e-9);
        assert!((percentile(&bounds, &[5, 0, 5, 0], 0.95) - 3.8).abs() < 1e-9);
        assert!((percentile(&bounds, &[0, 0, 0, 3], 0.5) - 4.0).abs() < 1e-9);
    }
}
