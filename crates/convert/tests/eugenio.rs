//! The Eugenio pipeline's mapping: its tests, and whatever else a client may send.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jaiminho_convert::{Program, Source, SourceLong, Step, TransformConfig, mapping_tests};
use jaiminho_core::{Event, Origin, Reason};
use jaiminho_event::CloudEvent;
use jaiminho_runtime::Verdict;
use proptest::prelude::*;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/pipelines/eugenio")
}

fn program() -> Program {
    let config = TransformConfig::Step(Step::Vrl(Source::Long(SourceLong::File("mappings/eugenio.vrl".into()))));
    Program::compile(&config, &folder()).unwrap_or_else(|errors| panic!("{}", errors[0]))
}

#[test]
fn its_mapping_tests_pass() {
    let program = program();
    let warnings: Vec<String> = program.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings, Vec::<String>::new());
    let suites = mapping_tests::load(&folder().join("tests")).unwrap();
    let results = mapping_tests::run(&suites, |stage| (stage == Some("convert")).then_some(&program));
    assert!(results.len() >= 16, "{}", results.len());
    let failures: Vec<String> =
        results.iter().filter_map(|r| Some(format!("{}\n{}", r.name, r.failure.as_ref()?))).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn event(payload: Arc<[u8]>) -> Event {
    let origin = Origin::default();
    Event { payload: payload.into(), key: None, attempt: 1, arrived_ms: 0, deadline_ms: None, origin, trace: None }
}

fn payload(data: &Value) -> Arc<[u8]> {
    let event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": data});
    CloudEvent::from_json(&event).expect("an event").encode()
}

#[test]
fn the_filter_of_its_readme_keeps_what_it_says() {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let line = readme.lines().find_map(|line| line.trim().strip_prefix("transform: ")).unwrap();
    let config: TransformConfig = serde_saphyr::from_str(line).unwrap();
    let filter = Program::compile(&config, &folder()).unwrap();
    for (device, kept) in [("eug-0042", 1), ("test-1", 0)] {
        let Verdict::Emit(outputs) = filter.run(&event(payload(&json!({"deviceId": device})))) else { panic!() };
        assert_eq!(outputs.len(), kept, "{device}");
    }
}

#[test]
fn a_small_message_can_not_become_a_huge_one() {
    let program = program();
    let reason = |readings: usize, extra: usize| {
        let reading = json!({"metric": "a", "unit": "V", "value": 1});
        let data = json!({"deviceId": "d", "ts": 1_772_366_400_000_i64, "readings": vec![reading; readings], "x": vec![0; extra]});
        match program.run(&event(payload(&data))) {
            Verdict::Emit(outputs) => outputs.len().to_string(),
            Verdict::Reject { text, .. } => text,
        }
    };
    assert_eq!(reason(1000, 100), "1000");
    assert!(reason(1001, 0).starts_with("`readings` has more than 1000 readings"));
    assert!(reason(1000, 1000).starts_with("the fields beside `readings`, once for each reading"));
}

/// Valid outputs or a reason: never a run-time error of the program, which would be a case that it forgot.
fn check(program: &Program, schema: &jsonschema::Validator, data: &Value) -> Result<(), TestCaseError> {
    match program.run(&event(payload(data))) {
        Verdict::Emit(outputs) => {
            for output in outputs {
                let data = CloudEvent::decode(&output.payload)
                    .map_err(|e| TestCaseError::fail(e.to_string()))?
                    .to_json()["data"]
                    .take();
                prop_assert!(schema.is_valid(&data), "{data}");
            }
        }
        Verdict::Reject { reason, text } => {
            prop_assert_eq!(reason, Reason::Invalid);
            prop_assert!(!text.contains("function call error"), "{}", text);
        }
    }
    Ok(())
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        prop_oneof![Just("C"), Just("°F"), Just("kWh"), Just("1772366400"), Just("2026-03-01T12:00:00Z"), Just("7.5")]
            .prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        (900_000_000_000_i64..4_200_000_000_000).prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("deviceId"),
        Just("ts"),
        Just("readings"),
        Just("metric"),
        Just("unit"),
        Just("value"),
        Just("device"),
        Just("sensor"),
        Just("reading"),
        Just("uom"),
        Just("at"),
        Just("other"),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Replaces one place of a good message.
fn mutated() -> impl Strategy<Value = Value> {
    let telemetry = json!({"deviceId": "d", "ts": 1_772_366_400_000_i64, "site": 1, "readings": [
        {"metric": "a", "unit": "C", "value": 1, "ts": 1_772_366_400_000_i64}, {"metric": "b", "unit": "psi", "value": 2.5}]});
    let webhook = json!({"device": "d", "sensor": "a", "reading": "1.5", "uom": "bar", "at": "1772366400", "x": 1});
    let places = [
        "/deviceId",
        "/ts",
        "/readings",
        "/readings/0",
        "/readings/1/metric",
        "/readings/1/unit",
        "/readings/1/value",
        "/readings/0/ts",
        "/device",
        "/sensor",
        "/reading",
        "/uom",
        "/at",
        "/x",
        "/site",
    ];
    (prop_oneof![Just(telemetry), Just(webhook)], prop::sample::select(places.to_vec()), any_json()).prop_map(
        |(mut message, place, value)| {
            if let Some(found) = message.pointer_mut(place) {
                *found = value;
            }
            message
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_is_converted_or_rejected(data in prop_oneof![any_json(), mutated()]) {
        thread_local! {
            static PROGRAM: (Program, jsonschema::Validator) = {
                let path = folder().join("schemas/eugenio.measurement.v1.json");
                let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
                (program(), jsonschema::options().should_validate_formats(true).build(&schema).unwrap())
            };
        }
        PROGRAM.with(|(program, schema)| check(program, schema, &data))?;
    }

    #[test]
    fn bytes_that_are_no_event_are_rejected(mut bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        mutated().prop_map(|data| payload(&data).to_vec()),
    ], place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        thread_local!(static PROGRAM: Program = program());
        if !bytes.is_empty() {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        PROGRAM.with(|program| program.run(&event(bytes.into())));
    }
}
