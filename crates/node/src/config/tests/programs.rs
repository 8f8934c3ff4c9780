//! Mistakes in VRL programs and in files beside the pipeline file, and the place of each.

use super::*;

/// What is wrong with a pipeline of these steps, and with the files that it names; `{at}` stands for the folder.
fn told(steps: &str, more: &str, files: Files<'_>) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.vrl"), "# A mapping.\n.a = 1\n.b = nope(.a)\n").unwrap();
    let yaml = format!(
        "version: 1\npipeline: p\nstages:\n  in: {{ at: {{ dns: \"in:1\" }}, source: {{ http: {{}} }} }}\n  convert:\n    \
         at: {{ dns: \"convert:1\" }}\n    subscribe_to: [in]\n    transform:\n{steps}\n  out:\n    \
         subscribe_to: [convert, convert.dead_letter]\n    sink: {{ stdout: {{}} }}\n{more}"
    );
    let document = Document::parse(&"p.yaml".into(), yaml, folder.path().to_owned(), &Overrides::default()).unwrap();
    let problems = match document.check_with(Setting::Together, files, &env) {
        Ok(config) => config.warnings,
        Err(problems) => problems,
    };
    problems.to_string().replace(&folder.path().display().to_string(), "{at}")
}

/// The same without the lines of details.
fn places(steps: &str) -> String {
    let told = told(steps, "", Files::All);
    told.lines().filter(|line| !line.starts_with("  ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_mistake_in_a_program_is_told_with_its_place_in_the_pipeline_file_and_an_explanation() {
    let steps =
        "      - vrl: |\n          .a = 1\n          .b = to_int(.c)\n      - filter: .a\n      - vrl: { file: m.vrl }";
    insta::assert_snapshot!(told(steps, "", Files::All), @r##"
{at}/m.vrl:3:6: error: stage `convert`: call to undefined function (the program is named in p.yaml:13:22)
    │
  3 │ .b = nope(.a)
    │      ^^^^
    │      │
    │      undefined function
    │      did you mean "now"?
    │
    = learn more about error code 105 at https://errors.vrl.dev/105
p.yaml:11:16: error: stage `convert`: unhandled fallible assignment
    │
    │ .b = to_int(.c)
    │ ---- ^^^^^^^^^^ this expression is fallible because at least one argument's type cannot be verified to be valid
    │ │
    │ or change this to an infallible assignment:
    │ .b, err = to_int(.c)
    │
    = see documentation about error handling at https://errors.vrl.dev/#handling
    = see functions characteristics documentation at https://vrl.dev/expressions/#function-call-characteristics
    = learn more about error code 103 at https://errors.vrl.dev/103
p.yaml:12:17: error: stage `convert`: a filter must be a boolean, but this is of type any; compare it, as `… == true`
"##);
}

#[test]
fn each_way_to_write_a_program_has_a_true_place_or_the_place_where_it_begins() {
    let mut all = String::new();
    for steps in [
        "      vrl: .b = nope()",
        "      vrl: '.b = nope()'",
        "      { vrl: \".b = nope()\" }",
        "      vrl: { inline: .b = nope() }",
        "      - filter: \"true\"\n      - filter: is_nope(.a)",
        "      - vrl: |\n          .b = nope()",
        "      - vrl: |-  # strips\n\n          if .a == 1 {\n            .b = 2\n\n            .b = nope()\n          }",
        "      - vrl:\n          inline: |\n            .a = \"ü\"; .b = nope()",
        "      - vrl: |\n          .a = (",
        // Where lines are not as they were written, only the beginning is true.
        "      vrl: \".a = 1\\n.b = nope()\"",
        "      vrl: >\n        .a = 1;\n        .b = nope()",
        "      vrl: |\n        .a = \"${COUNT}\"\n        .b = nope()",
        "      vrl: '.a = \"it''s\"; .b = nope()'",
        "      vrl: { file: none.vrl }",
    ] {
        all.push_str(&format!("{steps}\n# {}\n", places(steps)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn mistakes_of_programs_components_and_shape_come_at_once() {
    let more = "  kafka:\n    subscribe_to: [convert]\n    sink:\n      kafka:\n        bootstrap_servers: embedded\n        \
                topic: \"{{\"\n        key: \"{{\"\n        headers: { a.b: \"{{\", ce_id: x }\n        \
                properties: { acks: 1, no.such: 1, linger.mss: 2 }\n        sasl: { mechanism: PLAIN }\n  \
                other:\n    subscribe_to: [convert]\n    timout: 3s\n    sink: { kafka: { topic: \"a b\" } }\n";
    let steps = "      - vrl: .a = (\n      - filter: .a";
    insta::assert_snapshot!(told(steps, more, Files::All), @r##"
p.yaml:9:20: error: stage `convert`: syntax error
    │
    │ .a = (
    │       ^
    │
    │       unexpected end of program
    │       expected one of: "identifier", "string literal", "raw string literal", "integer literal", "float literal", "regex literal", "timestamp literal", "function call", "path literal", "null", "true", "false", "_", "!", "[", "{", "("
    │
p.yaml:10:17: error: stage `convert`: a filter must be a boolean, but this is of type any; compare it, as `… == true`
p.yaml:19:16: error: topic: `{{` without `}}` (at byte 0)
p.yaml:20:14: error: key: `{{` without `}}` (at byte 0)
p.yaml:21:25: error: headers.a.b: `{{` without `}}` (at byte 0)
p.yaml:21:38: error: headers: "ce_id" can't be set: ce_… and content-type belong to CloudEvents
p.yaml:22:29: error: property acks can't be set: it is always all: an event is acknowledged only when it is safe
p.yaml:22:41: error: property no.such: No such configuration property: "no.such"
p.yaml:22:56: error: property linger.mss: No such configuration property: "linger.mss"
p.yaml:23:9: error: sasl.mechanism PLAIN needs username and password
p.yaml:26:5: error: unknown key `timout` in `stages.other` (did you mean `timeout`?)
"##);
}

#[test]
fn files_that_are_not_there_are_told_of_the_stages_that_run_here() {
    let more = "  kafka:\n    subscribe_to: [{ stage: in, group: tap }]\n    tls: { ca: ca.pem }\n    sink:\n      kafka:\n        \
                bootstrap_servers: \"a:1\"\n        topic: t\n        tls: { ca: m.vrl, cert: c.pem, key: k.pem }\n        \
                sasl: { mechanism: PLAIN, username: u, password: { file: secret } }\n  \
                other: { source: { http: { listen: \"0.0.0.0:1\" }, tokens_file: tokens } }\n  \
                last: { subscribe_to: [other, kafka.dead_letter], sink: { blackhole: {} } }\n";
    let steps = "      vrl: { file: none.vrl }";
    insta::assert_snapshot!(told(steps, more, Files::All), @r##"
p.yaml:9:20: error: stage `convert`: {at}/none.vrl can't be read: No such file or directory (os error 2)
p.yaml:15:16: error: `tls.ca`: can't read {at}/ca.pem: No such file or directory (os error 2)
p.yaml:20:33: error: `sink.kafka.tls.cert`: can't read {at}/c.pem: No such file or directory (os error 2)
p.yaml:20:45: error: `sink.kafka.tls.key`: can't read {at}/k.pem: No such file or directory (os error 2)
p.yaml:21:66: error: sasl.password: can't read {at}/secret: No such file or directory (os error 2)
p.yaml:22:66: error: `source.tokens_file`: can't read {at}/tokens: No such file or directory (os error 2)
"##);
    insta::assert_snapshot!(told(steps, more, Files::Of("other")), @"p.yaml:22:66: error: `source.tokens_file`: can't read {at}/tokens: No such file or directory (os error 2)");
    insta::assert_snapshot!(told(steps, more, Files::Programs), @"p.yaml:9:20: error: stage `convert`: {at}/none.vrl can't be read: No such file or directory (os error 2)");
    assert_eq!(told(steps, more, Files::None), "");
    assert_eq!(told(steps, more, Files::Of("in")), "");
}
