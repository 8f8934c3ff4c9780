//! What librdkafka tells of its brokers, as metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use jaiminho_telemetry::names::kafka as names;
use metrics::{Counter, Gauge};
use rdkafka::statistics::{Broker, Statistics};
use rdkafka::types::RDKafkaErrorCode as Code;

/// How often it tells.
pub(crate) const STATISTICS_MS: u64 = 5_000;

/// One client's. The default tells nobody.
#[derive(Debug, Default)]
pub(crate) struct BrokerMeters(Option<Told>);

#[derive(Debug)]
struct Told {
    stage: String,
    throttle: Gauge,
    round_trip: Gauge,
    brokers_up: Gauge,
    timeouts: Counter,
    /// Of this client, as it was told last.
    timed_out: AtomicU64,
}

impl BrokerMeters {
    pub(crate) fn new(stage: &str) -> Self {
        let gauge = |name| metrics::gauge!(name, "stage" => stage.to_owned());
        Self(Some(Told {
            stage: stage.to_owned(),
            throttle: gauge(names::THROTTLE),
            round_trip: gauge(names::ROUND_TRIP),
            brokers_up: gauge(names::BROKERS_UP),
            timeouts: metrics::counter!(names::TIMEOUTS, "stage" => stage.to_owned()),
            timed_out: AtomicU64::new(0),
        }))
    }

    /// An error of a broker or of a record.
    pub(crate) fn error(&self, code: Code) {
        if let Some(told) = &self.0 {
            metrics::counter!(names::ERRORS, "stage" => told.stage.clone(), "error" => format!("{code:?}"))
                .increment(1);
        }
    }

    pub(crate) fn told(&self, statistics: &Statistics) {
        let Some(told) = &self.0 else { return };
        let brokers = || statistics.brokers.values();
        let most = |of: fn(&Broker) -> i64| brokers().map(of).max().unwrap_or(0).max(0) as f64;
        told.throttle.set(most(|broker| broker.throttle.as_ref().map_or(0, |window| window.max)) / 1e3);
        told.round_trip.set(most(|broker| broker.rtt.as_ref().map_or(0, |window| window.avg)) / 1e6);
        // One with a negative number is an address to begin with, not a broker.
        told.brokers_up.set(brokers().filter(|broker| broker.nodeid >= 0 && broker.state == "UP").count() as f64);
        let timed_out = brokers().map(|broker| broker.req_timeouts).sum::<u64>();
        told.timeouts.increment(timed_out.saturating_sub(told.timed_out.swap(timed_out, Ordering::Relaxed)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(of: &str) -> String {
        let more = r#""name":"b","nodename":"b","source":"learned","stateage":1,"outbuf_cnt":0,"outbuf_msg_cnt":0,
            "waitresp_cnt":0,"waitresp_msg_cnt":0,"tx":1,"txbytes":1,"txerrs":0,"txretries":0,"txidle":0,"rx":1,"rxbytes":1,
            "rxerrs":0,"rxcorriderrs":0,"rxpartial":0,"rxidle":0,"req":{},"zbuf_grow":0,"buf_grow":0,"toppars":{}"#;
        format!("{{{of},{more}}}")
    }

    fn window(max: u64, avg: u64) -> String {
        format!(
            r#"{{"min":0,"max":{max},"avg":{avg},"sum":0,"cnt":1,"stddev":0,"hdrsize":0,"p50":0,"p75":0,"p90":0,"p95":0,
            "p99":0,"p99_99":0,"outofrange":0}}"#
        )
    }

    #[test]
    fn the_slowest_broker_is_told_and_time_outs_add_up_over_clients() {
        let metrics = jaiminho_telemetry::Metrics::default();
        let tell = |timeouts: u64, meters: &BrokerMeters| {
            let (throttle, fast, slow) = (window(250, 100), window(9_000, 2_000), window(90_000, 20_000));
            let of = |node: i32, state: &str, timeouts: u64, rtt: &str, throttle: &str| {
                broker(&format!(
                    r#""nodeid":{node},"state":"{state}","req_timeouts":{timeouts},"rtt":{rtt},"throttle":{throttle}"#
                ))
            };
            let brokers = [
                of(-1, "UP", 0, &fast, &window(0, 0)),
                of(1, "UP", timeouts, &fast, &window(0, 0)),
                of(2, "UP", 1, &slow, &throttle),
                of(3, "CONNECT", 0, &fast, &window(0, 0)),
            ];
            let text = format!(
                r#"{{"name":"c","client_id":"c","type":"producer","ts":1,"time":1,"age":1,"replyq":0,"msg_cnt":0,"msg_size":0,
                "msg_max":0,"msg_size_max":0,"simple_cnt":0,"metadata_cache_cnt":0,"tx":0,"tx_bytes":0,"rx":0,"rx_bytes":0,
                "txmsgs":0,"txmsg_bytes":0,"rxmsgs":0,"rxmsg_bytes":0,"topics":{{}},
                "brokers":{{"a":{},"b":{},"c":{},"d":{}}}}}"#,
                brokers[0], brokers[1], brokers[2], brokers[3]
            );
            meters.told(&serde_json::from_str(&text).unwrap());
        };
        metrics::with_local_recorder(&metrics, || {
            let first = BrokerMeters::new("publish");
            tell(1, &first);
            tell(4, &first);
            tell(2, &BrokerMeters::new("publish"));
            first.error(Code::BrokerTransportFailure);
        });
        tell(9, &BrokerMeters::default());
        let text = metrics.render();
        for sample in [
            "jaiminho_kafka_throttle_seconds{stage=\"publish\"} 0.25",
            "jaiminho_kafka_round_trip_seconds{stage=\"publish\"} 0.02",
            "jaiminho_kafka_brokers_up{stage=\"publish\"} 2",
            "jaiminho_kafka_request_timeouts_total{stage=\"publish\"} 8",
            "jaiminho_kafka_errors_total{stage=\"publish\",error=\"BrokerTransportFailure\"} 1",
        ] {
            assert!(text.contains(sample), "{sample} is not in\n{text}");
        }
    }
}
