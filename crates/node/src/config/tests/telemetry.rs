//! `telemetry`: what can be said of traces.

use super::*;

fn with(traces: &str) -> Result<Config, Problems> {
    load_text(&format!("{EUGENIO}telemetry: {{ traces: {traces} }}\n"), &Overrides::default(), Setting::Apart)
}

#[test]
fn a_mistake_is_told_with_its_place_and_what_would_be_right() {
    let problem = |traces: &str| with(traces).unwrap_err().to_string();
    for (traces, wanted) in [
        ("{ endpoint: \"jaeger:4317\" }", "`telemetry.traces.endpoint`: `jaeger:4317` is no collector's address"),
        ("{ ratio: 1.5 }", "ratio"),
        ("{ ratio: -0.1 }", "ratio"),
        ("{ slow: 1 }", "duration"),
        ("{ slow: soon }", "duration"),
        ("{ endpont: x }", "`endpoint`"),
    ] {
        let told = problem(traces);
        assert!(told.starts_with("p.yaml:") && told.contains(wanted) && told.lines().count() == 1, "{traces}: {told}");
    }
}

#[test]
fn traces_are_a_term_of_the_memory_and_fit_into_512_mib() {
    let config = with("{ endpoint: \"http://jaeger:4317\", ratio: 0.5, slow: 2s }").unwrap();
    assert!(config.traces.is_some());
    for (name, stage) in config.in_order() {
        let terms = memory::terms(&config, name, stage, 4);
        assert!(terms.iter().any(|term| term.name == "spans" && term.bytes > 8 << 20), "{name}: {terms:#?}");
        assert!(memory::sum(&terms) <= 512 << 20, "{name}: {}", memory::human(memory::sum(&terms)));
    }
    let config = load_text(EUGENIO, &Overrides::default(), Setting::Apart).unwrap();
    let terms = memory::terms(&config, "convert", &config.pipeline.stages["convert"], 4);
    assert!(config.traces.is_none() && terms.iter().all(|term| term.name != "spans"));
}
