//! A compiled transform, and how one event goes through it.

use std::{path::Path, sync::Arc};

use futures_util::future::BoxFuture;
use jaiminho_core::{Event, Payload, Reason};
use jaiminho_event::{CloudEvent, EventView, TemplateError};
use jaiminho_runtime::{Dedupe, Emitted, Failure, Transform, Verdict};
use smallvec::SmallVec;

use crate::{
    config::{Source, SourceLong, Step, TransformConfig},
    event_value,
    gate::{Gate, Sampler, Throttler},
    memory::ParseMemory,
    source::{CompileError, Text},
    step::{Code, CompiledRoute, CompiledStep, Rejected, Routed, Stop},
};

/// Most expressions that a program may evaluate for one event, beside [`STEPS_PER_BYTE`]: a loop that doesn't end
/// must not hold a thread. The count is the same on redelivery, unlike a time-out.
const STEPS_BASE: u64 = 1_000_000;
/// Further expressions for each byte of the event.
const STEPS_PER_BYTE: u64 = 100;

/// Limits of one transform; an event that exceeds one is rejected, except for memory, for which it waits.
///
/// They bound an event's tree and its encoded outputs. What a program itself makes in between is the program's: VRL
/// counts no memory, so one that copies a large field into each of many outputs should bound both.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Share one among all transforms of a process.
    pub parse_memory: ParseMemory,
    /// Most events made of one.
    pub outputs_max: usize,
    /// Most bytes of all events made of one, encoded.
    pub output_bytes_max: usize,
}

impl Default for Limits {
    /// 64 MiB, 10,000 events, 16 MiB.
    fn default() -> Self {
        Self { parse_memory: ParseMemory::default(), outputs_max: 10_000, output_bytes_max: 16 << 20 }
    }
}

/// A transform's steps, compiled. The same event gives the same results, bytes and ids included, unless a program
/// asks for the time with `now()`.
///
/// # The outputs of a `vrl` step
///
/// What the program leaves in `.`: an object is one event, an array many, `null` none. What it lacks is added:
/// `specversion`; `source`, the input's; `id`: for an object the input's, for the elements of an array the input's with
/// `/0`, `/1` … by position (`null` elements are left out). An `id` that the program sets itself is kept.
/// `partitionkey` is always the input's: it decides order. VRL's integers have 64 bits, signed; a greater one is a float.
///
/// # Rejections
///
/// `abort`, a run-time error of VRL, an output that is no CloudEvent: [`Reason::Invalid`]. An input that is none:
/// [`Reason::Malformed`]. Outputs past the limits: [`Reason::TooLarge`].
#[derive(Clone, Debug)]
pub struct Program {
    dedupe: Option<Dedupe>,
    gates: Vec<Gate>,
    steps: Vec<CompiledStep>,
    route: Option<CompiledRoute>,
    warnings: Vec<CompileError>,
    limits: Limits,
}

impl Program {
    /// Compiles all steps; files are relative to `base_dir`.
    ///
    /// # Errors
    ///
    /// All mistakes of all steps.
    pub fn compile(config: &TransformConfig, base_dir: &Path) -> Result<Self, Vec<CompileError>> {
        let mut program = Self {
            dedupe: config.dedupe(),
            gates: Vec::new(),
            steps: Vec::new(),
            route: None,
            warnings: Vec::new(),
            limits: Limits::default(),
        };
        let mut errors = Vec::new();
        for (index, step) in config.steps().iter().enumerate() {
            if let Err(found) = program.add(index, step, base_dir) {
                errors.extend(found);
            }
        }
        if errors.is_empty() { Ok(program) } else { Err(errors) }
    }

    fn add(&mut self, index: usize, step: &Step, base_dir: &Path) -> Result<(), Vec<CompileError>> {
        let warnings = &mut self.warnings;
        let step = match step {
            Step::Vrl(Source::Short(text) | Source::Long(SourceLong::Inline(text))) => {
                CompiledStep::Vrl(Code::program(Text::inline(index, text), warnings)?)
            }
            Step::Vrl(Source::Long(SourceLong::File(path))) => {
                let text = Text::file(index, base_dir, path).map_err(|e| vec![e])?;
                CompiledStep::Vrl(Code::program(text, warnings)?)
            }
            Step::Filter(text) => {
                CompiledStep::Filter(Code::condition("a filter", Text::inline(index, text), warnings)?)
            }
            // The stage does it, before it calls the program.
            Step::Dedupe(_) => return Ok(()),
            Step::Sample(sample) => {
                let gate = Sampler::new(sample).map_err(|error| wrong_key(index, "sample", &sample.key, &error))?;
                self.gates.push(Gate::Sample(gate));
                return Ok(());
            }
            Step::Throttle(throttle) => {
                let gate =
                    Throttler::new(throttle).map_err(|error| wrong_key(index, "throttle", &throttle.key, &error))?;
                self.gates.push(Gate::Throttle(Arc::new(gate)));
                return Ok(());
            }
            Step::Route(route) => {
                self.route = Some(CompiledRoute::compile(index, route, warnings)?);
                return Ok(());
            }
            // It is a Batcher's; only its key can be wrong.
            Step::Batch(batch) => {
                batch.batching().map_err(|error| wrong_key(index, "batch", &batch.key, &error))?;
                return Ok(());
            }
        };
        self.steps.push(step);
        Ok(())
    }

    /// With other limits than the default ones.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// What the compiler found doubtful, such as a result that is not used.
    pub fn warnings(&self) -> &[CompileError] {
        &self.warnings
    }

    /// Converts one event, without waiting for memory or for a `throttle`. That lets all pass, as `dedupe` does: each event is the first.
    pub fn run(&self, event: &Event) -> Verdict {
        let samples = |view| {
            self.gates.iter().all(|gate| match gate {
                Gate::Sample(sampler) => sampler.keeps(&view),
                Gate::Throttle(_) => true,
            })
        };
        if EventView::parse(&event.payload).is_ok_and(|view| !samples(view)) {
            return Verdict::Emit(SmallVec::new());
        }
        self.convert(event)
    }

    /// What the gates say of an event; what is no event is for the steps to reject.
    async fn pass(&self, event: &Event) -> Option<Verdict> {
        let view = EventView::parse(&event.payload).ok()?;
        for gate in &self.gates {
            match gate {
                Gate::Sample(sampler) if sampler.keeps(&view) => {}
                Gate::Sample(_) => return Some(Verdict::Emit(SmallVec::new())),
                Gate::Throttle(throttler) => {
                    let verdict = throttler.pass(&view).await;
                    if verdict.is_some() {
                        return verdict;
                    }
                }
            }
        }
        None
    }

    fn convert(&self, event: &Event) -> Verdict {
        match self.outputs(event) {
            Ok(outputs) => Verdict::Emit(outputs),
            Err(Rejected { reason, text }) => Verdict::Reject { reason, text },
        }
    }

    fn outputs(&self, event: &Event) -> Result<SmallVec<[Emitted; 1]>, Rejected> {
        let view = EventView::parse(&event.payload)
            .map_err(|e| Rejected { reason: Reason::Malformed, text: e.to_string() })?;
        let key = view.attribute("partitionkey").map(|key| key.into_owned());
        if self.steps.is_empty() && self.route.is_none() {
            return Ok([Emitted::main(event.payload.clone())].into_iter().collect());
        }
        let mut values = vec![event_value::from_view(&view)];
        let budget = STEPS_BASE + STEPS_PER_BYTE * event.size();
        let mut budget_left = budget;
        for step in &self.steps {
            let mut next = Vec::with_capacity(values.len());
            for value in values {
                step.apply(value, &mut budget_left, &mut next).map_err(|e| exhausted(e, budget))?;
                if next.len() > self.limits.outputs_max {
                    return Err(self.too_many());
                }
            }
            values = next;
        }
        let mut routed = Vec::with_capacity(values.len());
        for value in values {
            routed.push(match &self.route {
                None => (value, [0].into_iter().collect()),
                Some(route) => route.apply(value, &mut budget_left).map_err(|e| exhausted(e, budget))?,
            });
        }
        if routed.iter().map(|(_, outputs)| outputs.len()).sum::<usize>() > self.limits.outputs_max {
            return Err(self.too_many());
        }
        if !self.changes() {
            let outputs = routed.iter().flat_map(|(_, outputs)| outputs);
            return Ok(outputs.map(|output| Emitted { payload: event.payload.clone(), output: *output }).collect());
        }
        self.encode(routed, key.as_deref())
    }

    /// Filters and routes leave an event as it is.
    fn changes(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, CompiledStep::Vrl(_)))
    }

    fn encode(&self, values: Vec<Routed>, key: Option<&str>) -> Result<SmallVec<[Emitted; 1]>, Rejected> {
        let mut outputs = SmallVec::with_capacity(values.len());
        let mut bytes = 0;
        let many = values.len() > 1;
        for (index, (value, to)) in values.into_iter().enumerate() {
            let payload =
                event_value::into_event(value, key).map(|event: CloudEvent| Payload::from(event.encode())).map_err(
                    |e| Rejected::invalid(if many { format!("output {index}: {e}") } else { format!("output: {e}") }),
                )?;
            bytes += payload.len() * to.len();
            if bytes > self.limits.output_bytes_max {
                let text = format!("its outputs are more than {} bytes", self.limits.output_bytes_max);
                return Err(Rejected { reason: Reason::TooLarge, text });
            }
            outputs.extend(to.into_iter().map(|output| Emitted { payload: payload.clone(), output }));
        }
        Ok(outputs)
    }

    fn too_many(&self) -> Rejected {
        let text = format!("it makes more than {} events", self.limits.outputs_max);
        Rejected { reason: Reason::TooLarge, text }
    }
}

impl Transform for Program {
    fn dedupe(&self) -> Option<Dedupe> {
        self.dedupe
    }

    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        Box::pin(async move {
            let _reservation = self.limits.parse_memory.reserve(event.payload.len()).await;
            Ok(self.convert(event))
        })
    }

    fn admit<'a>(&'a self, event: &'a Event) -> Option<BoxFuture<'a, Option<Verdict>>> {
        if self.gates.is_empty() { None } else { Some(Box::pin(self.pass(event))) }
    }
}

fn wrong_key(index: usize, step: &str, key: &Option<String>, error: &TemplateError) -> Vec<CompileError> {
    let text = Text::within(index, &[step, "key"], key.as_deref().unwrap_or_default());
    vec![text.error(format!("not a template: {error}"))]
}

fn exhausted(stop: Stop, budget: u64) -> Rejected {
    match stop {
        Stop::Rejected(rejected) => rejected,
        Stop::Exhausted => Rejected::invalid(format!("the program takes more than {budget} steps")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn event(json: &str) -> Event {
        let event = CloudEvent::from_json_slice(json.as_bytes()).unwrap();
        Event::new(event.encode())
    }

    fn program(config: &str) -> Program {
        Program::compile(&serde_json::from_str(config).unwrap(), Path::new(".")).unwrap()
    }

    fn vrl(source: &str) -> Program {
        program(&serde_json::json!({ "vrl": source }).to_string())
    }

    fn run(program: &Program, json: &str) -> Result<Vec<serde_json::Value>, String> {
        match program.run(&event(json)) {
            Verdict::Emit(outputs) => {
                Ok(outputs.iter().map(|o| CloudEvent::decode(&o.payload).unwrap().to_json()).collect())
            }
            Verdict::Reject { reason, text } => Err(format!("{reason:?}: {text}")),
        }
    }

    const INPUT: &str = r#"{"specversion":"1.0","id":"7","source":"/dev","type":"t","time":"2026-01-02T03:04:05.5Z",
        "partitionkey":"k","seq":3,"flag":true,"data":{"n":1,"f":1.0,"list":[1,null],"big":9007199254740993}}"#;

    #[test]
    fn a_program_that_changes_nothing_gives_the_same_event() {
        let expected: serde_json::Value = CloudEvent::from_json_slice(INPUT.as_bytes()).unwrap().to_json();
        assert_eq!(run(&vrl(". = ."), INPUT).unwrap(), [expected]);
    }

    #[test]
    fn an_object_keeps_the_id_and_an_array_numbers_it_by_position() {
        let one = run(&vrl(".data = 1\ndel(.partitionkey)\ndel(.source)"), INPUT).unwrap();
        assert_eq!((one[0]["id"].as_str(), one[0]["source"].as_str()), (Some("7"), Some("/dev")));
        assert_eq!(one[0]["partitionkey"], "k");

        let many =
            run(&vrl(r#". = [., null, {"type": "u", "partitionkey": "other"}, {"id": "own", "type": "u"}]"#), INPUT);
        let many = many.unwrap();
        let ids: Vec<_> = many.iter().map(|e| e["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["7/0", "7/2", "own"]);
        assert!(many.iter().all(|e| e["partitionkey"] == "k" && e["source"] == "/dev"));
    }

    #[test]
    fn a_key_that_the_input_lacks_can_not_be_made_up() {
        let input = r#"{"specversion":"1.0","id":"7","source":"/dev","type":"t"}"#;
        let output = run(&vrl(r#".partitionkey = "mine""#), input).unwrap();
        assert_eq!(output[0].get("partitionkey"), None);
    }

    #[test]
    fn null_emits_nothing() {
        assert_eq!(run(&vrl(". = null"), INPUT).unwrap(), Vec::<serde_json::Value>::new());
    }

    #[test]
    fn steps_follow_each_other_and_a_filter_keeps_or_drops() {
        let steps = program(
            r#"[{"vrl": ". = map_values([1, 2, 3]) -> |n| { {\"type\": \"t\", \"data\": {\"n\": n}} }"},
                {"filter": ".data.n != 2"}, {"vrl": ". = [.]"}]"#,
        );
        let outputs = run(&steps, INPUT).unwrap();
        assert_eq!(outputs.iter().map(|e| e["id"].as_str().unwrap()).collect::<Vec<_>>(), ["7/0/0", "7/2/0"]);
    }

    #[test]
    fn a_filter_alone_leaves_the_bytes_as_they_are() {
        let event = event(INPUT);
        let Verdict::Emit(kept) = program(r#"{"filter": ".seq == 3"}"#).run(&event) else { panic!() };
        assert_eq!(kept[0].payload.as_ptr(), event.payload.as_ptr());
        let Verdict::Emit(dropped) = program(r#"{"filter": ".seq == 4"}"#).run(&event) else { panic!() };
        assert!(dropped.is_empty());
    }

    #[test]
    fn rejections_say_why() {
        let cases = [
            ("abort \"no temperature\"", "Invalid: no temperature"),
            ("x = 1\nabort", "Invalid: aborted at step 1, inline program:2"),
            (".data = to_int!(.type)", "Invalid: function call error for \"to_int\""),
            (". = 1", "Invalid: `.` after the program is of type integer, not an event (an object)"),
            (". = [1]", "Invalid: output 0 is of type integer, not an event (an object)"),
            (". = [., {}]", "Invalid: output 1: `type` is missing"),
            (".type = 5", "Invalid: output: `type` is of type integer; it must be a string"),
            (".type = \"\"", "Invalid: output: `type` is empty"),
            (".specversion = \"0.3\"", "Invalid: output: `specversion` is \"0.3\"; it must be \"1.0\""),
            (".deviceId = \"x\"", "Invalid: output: `deviceId` is no attribute name"),
            (".tags = [1]", "Invalid: output: `tags` is of type array; an attribute is"),
            (".seq = 5000000000", "Invalid: output: `seq` is 5000000000: an attribute's integer has 32 bits"),
            (".time = \"yesterday\"", "Invalid: output: `time`"),
            (".data_base64 = \"AA==\"", "Invalid: output: it has both `data` and `data_base64`"),
            ("del(.data)\n.data_base64 = \"?\"", "Invalid: output: `data_base64` is not base64"),
            (".datacontenttype = \"text/plain\"", "Invalid: output: `data` is of type map, but `datacontenttype`"),
            (".data.x = to_float!(\"1e308\") * 10.0", "Invalid: output: `data.x` is an infinite number"),
        ];
        for (source, expected) in cases {
            let error = run(&vrl(source), INPUT).unwrap_err();
            assert!(error.starts_with(expected), "{source}\n {error}");
        }
    }

    #[test]
    fn what_is_no_event_is_malformed() {
        let mut bad = event(INPUT);
        bad.payload = b"\xff\xff"[..].into();
        let Verdict::Reject { reason, .. } = vrl(". = .").run(&bad) else { panic!() };
        assert_eq!(reason, Reason::Malformed);
    }

    #[test]
    fn limits_hold() {
        let limits = Limits { outputs_max: 3, output_bytes_max: 1000, ..Limits::default() };
        let error = run(&vrl(". = [., ., ., .]").with_limits(limits.clone()), INPUT).unwrap_err();
        assert_eq!(error, "TooLarge: it makes more than 3 events");
        let big = ". = [., ., .]\nlong = \"0123456789\"\nfor_each([1,2,3,4,5,6]) -> |_i, _v| { long = long + long }\n.[0].data = long";
        let error = run(&vrl(big).with_limits(limits), INPUT).unwrap_err();
        assert_eq!(error, "TooLarge: its outputs are more than 1000 bytes");
    }

    #[test]
    fn a_loop_that_takes_too_long_is_rejected() {
        let source = "x = array!(.data)\nfor_each(x) -> |_i, _a| { for_each(x) -> |_j, _b| { y = 1 } }";
        let input =
            serde_json::json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": vec![0; 2000]});
        let error = run(&vrl(source), &input.to_string()).unwrap_err();
        assert!(error.contains("the program takes more than"), "{error}");
    }

    #[test]
    fn numbers_pass_as_they_are() {
        let numbers = "[2.638344616030823e-256,7120190517612959703,99973.980680936010,-9223372036854775808,0.1,1e-7]";
        let input = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","data":{numbers}}}"#);
        let output = run(&vrl(". = ."), &input).unwrap();
        let parsed: Vec<f64> = serde_json::from_str(numbers).unwrap();
        let passed: Vec<f64> = serde_json::from_value(output[0]["data"].clone()).unwrap();
        assert_eq!(passed, parsed);
        assert_eq!(passed[0].to_string().parse::<f64>().unwrap(), "2.638344616030823e-256".parse::<f64>().unwrap());
        assert_eq!(output[0]["data"][1], 7_120_190_517_612_959_703_i64);
    }

    #[test]
    fn text_and_bytes_pass() {
        let text =
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"text/plain","data":"{a"}"#;
        assert_eq!(run(&vrl(". = ."), text).unwrap()[0]["data"], "{a");
        let binary = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"image/png","data_base64":"AAH/"}"#;
        assert_eq!(run(&vrl(". = ."), binary).unwrap()[0]["data_base64"], "AAH/");
    }

    #[test]
    fn compile_errors_of_all_steps_are_reported() {
        let config = serde_json::from_str(
            r#"[{"vrl": ".a = ("}, {"filter": ".a"}, {"filter": ".data = true"},
            {"vrl": {"file": "no/such.vrl"}}]"#,
        );
        let errors = Program::compile(&config.unwrap(), Path::new("/base")).unwrap_err();
        let steps: Vec<_> = errors.iter().map(|e| e.step).collect();
        assert_eq!(steps, [0, 1, 2, 3], "{errors:#?}");
        assert!(errors[1].message.starts_with("a filter must be a boolean, but this is of type any"), "{}", errors[1]);
        assert!(errors[2].message.contains("mutation of read-only value"), "{}", errors[2]);
        assert!(errors[3].to_string().starts_with("/base/no/such.vrl: can't be read"), "{}", errors[3]);
    }

    fn routed(config: &str, data: &str) -> Vec<usize> {
        let input = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","data":{data}}}"#);
        let Verdict::Emit(outputs) = program(config).run(&event(&input)) else { panic!("rejected") };
        outputs.iter().map(|emitted| emitted.output).collect()
    }

    #[test]
    fn a_route_sends_an_event_to_every_output_whose_condition_holds_and_else_to_the_rest_or_nowhere() {
        let route = |more: &str| {
            let outputs = r#"{"hot": ".data.t > 30 ?? false", "warm": ".data.t > 20 ?? false"}"#;
            format!(r#"{{"route": {{"outputs": {outputs}{more}}}}}"#)
        };
        assert_eq!(routed(&route(""), r#"{"t": 40}"#), [0, 1]);
        assert_eq!(routed(&route(""), r#"{"t": 25}"#), [1]);
        assert_eq!(routed(&route(""), r#"{"t": 1}"#), [0; 0]);
        assert_eq!(routed(&route(r#", "else": "cold""#), r#"{"t": 1}"#), [2]);
        assert_eq!(routed(&route(r#", "else": "warm""#), r#"{"t": 1}"#), [1]);
        assert_eq!(
            routed(&route(r#", "exclusive": true"#), r#"{"t": 40}"#),
            [0],
            "the first, in the order of the file"
        );
    }

    #[test]
    fn a_route_takes_what_the_steps_before_it_made_and_counts_each_output() {
        let steps = r#"[{"vrl": ". = [., .]\n.[1].data.t = 50"}, {"route": {"outputs": {"hot": ".data.t == 50", "all": "true"}}}]"#;
        assert_eq!(routed(steps, r#"{"t": 1}"#), [1, 0, 1]);
        let limits = Limits { outputs_max: 2, ..Limits::default() };
        let error = run(&program(steps).with_limits(limits), INPUT).unwrap_err();
        assert_eq!(error, "TooLarge: it makes more than 2 events");
    }

    #[test]
    fn mistakes_in_conditions_name_their_output() {
        let config = serde_json::from_str(r#"{"route": {"outputs": {"a": ".data", "b": "(", "c": "true"}}}"#);
        let errors = Program::compile(&config.unwrap(), Path::new(".")).unwrap_err();
        assert!(
            errors[0].to_string().starts_with("step 1, route.outputs.a:1:1: an output's condition must be a boolean"),
            "{}",
            errors[0]
        );
        assert!(errors[1].to_string().starts_with("step 1, route.outputs.b:1:"), "{}", errors[1]);
    }

    #[test]
    fn a_time_without_zone_is_utc() {
        let output = run(&vrl(r#".time = parse_timestamp!("2026-01-02 03:04", "%Y-%m-%d %H:%M")"#), INPUT).unwrap();
        assert_eq!(output[0]["time"], "2026-01-02T03:04:00Z");
    }
}
