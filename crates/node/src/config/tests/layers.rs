//! What profiles and `--set` lay over the file, and what stands there twice.

use super::*;

/// What is wrong with `yaml` when these are set.
fn set(yaml: &str, set: &[&str], profile: Option<&str>, setting: Setting) -> String {
    let set = set.iter().map(|set| (*set).to_owned()).collect();
    match load_text(yaml, &Overrides { profile: profile.map(str::to_owned), set, ..Overrides::default() }, setting) {
        Ok(config) => config.warnings.to_string(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn set_changes_what_is_there_and_a_new_stage_is_given_whole() {
    let mut all = String::new();
    for assignment in [
        "stages.nope.x=1",
        "stages.convrt.concurrency=2",
        "stages.convrt=null",
        "stages.copy={subscribe_to: [convert], sink: {blackhole: {}}}",
        "stages.copy={subscribe_to: [convert], snk: {blackhole: {}}}",
        "stages.convert.concurency=2",
        "stges.convert.concurrency=2",
    ] {
        all.push_str(&format!("# {assignment}\n{}\n", set(EUGENIO, &[assignment], None, Setting::Together)));
    }
    insta::assert_snapshot!(all, @r##"
# stages.nope.x=1
--set stages.nope.x: error: there is no stage `nope`: the file has ingest, convert, publish, dead (a new one is given whole: --set 'stages.nope={...}')
# stages.convrt.concurrency=2
--set stages.convrt.concurrency: error: there is no stage `convrt`: the file has ingest, convert, publish, dead (did you mean `convert`?)
# stages.convrt=null
--set stages.convrt: error: there is no stage `convrt`: the file has ingest, convert, publish, dead (did you mean `convert`?)
# stages.copy={subscribe_to: [convert], sink: {blackhole: {}}}

# stages.copy={subscribe_to: [convert], snk: {blackhole: {}}}
--set stages.copy:1:27: error: unknown key `snk` in `stages.copy` (did you mean `sink`?)
# stages.convert.concurency=2
--set stages.convert.concurency: error: unknown key `concurency` in `stages.convert` (did you mean `concurrency`?)
# stges.convert.concurrency=2
--set stges.convert.concurrency: error: unknown key `stges` (did you mean `stages`?)
"##);
}

#[test]
fn a_profile_that_changes_a_stage_that_is_not_there_is_told_who_is() {
    let (pipeline, _) = EUGENIO.split_once("profiles:").unwrap();
    let profiles = "profiles:\n  prod:\n    stages:\n      publsh: { concurrency: 3 }\n      nowhere: null\n      \
                    copy: { subscribe_to: [convert], sink: { blackhole: {} } }\n      convert: { concurency: 3 }\n";
    let yaml = format!("{pipeline}{profiles}");
    let told = set(&yaml, &[], None, Setting::Together);
    insta::assert_snapshot!(told, @r##"
p.yaml:25:7: error: there is no stage `publsh`: the file has ingest, convert, publish, dead (did you mean `publish`?)
p.yaml:26:7: error: there is no stage `nowhere`: the file has ingest, convert, publish, dead
p.yaml:28:18: error: unknown key `concurency` in `stages.convert` (did you mean `concurrency`?)
"##);
    assert_eq!(set(&yaml, &[], Some("prod"), Setting::Together), told);
}

#[test]
fn a_key_that_excludes_one_of_the_file_is_told_how_to_take_that_away() {
    let with_filter = "stages.convert.transform={filter: \"true\"}";
    let mut all = String::new();
    for assignment in [
        "stages.ingest.at.list=[\"a:1\"]",
        with_filter,
        "stages.publish.sink.stdout={}",
        "stages.ingest.source.generate={}",
        "stages.publish.transform={filter: \"true\"}",
        "stages.publish.sink.kafka.event_hubs={connection_string: Endpoint=sb://x/}",
    ] {
        all.push_str(&format!("# {assignment}\n{}\n", set(EUGENIO, &[assignment], None, Setting::Together)));
    }
    insta::assert_snapshot!(all, @r##"
# stages.ingest.at.list=["a:1"]
--set stages.ingest.at.list: error: `stages.ingest.at` takes exactly one of its keys, not `dns` and `list` together (`--set stages.ingest.at.dns=null`, or `null` in a profile, takes away what the file says)
# stages.convert.transform={filter: "true"}
--set stages.convert.transform:1:2: error: `stages.convert.transform` takes exactly one of its keys, not `vrl` and `filter` together (`--set stages.convert.transform.vrl=null`, or `null` in a profile, takes away what the file says)
# stages.publish.sink.stdout={}
--set stages.publish.sink.stdout: error: `stages.publish.sink` takes exactly one of its keys, not `kafka` and `stdout` together (`--set stages.publish.sink.kafka=null`, or `null` in a profile, takes away what the file says)
# stages.ingest.source.generate={}
--set stages.ingest.source.generate: error: `stages.ingest.source` takes either `generate` or `acknowledge`, `http`, `websocket`, not both (`--set stages.ingest.source.acknowledge=null --set stages.ingest.source.http=null --set stages.ingest.source.websocket=null`, or `null` in a profile, takes away what the file says)
# stages.publish.transform={filter: "true"}
--set stages.publish.transform: error: stage `publish` has transform and sink; a stage has exactly one of them (`--set stages.publish.sink=null`, or `null` in a profile, takes away what the file says)
# stages.publish.sink.kafka.event_hubs={connection_string: Endpoint=sb://x/}
--set stages.publish.sink.kafka.event_hubs: error: bootstrap_servers and event_hubs exclude each other (`--set stages.publish.sink.kafka.bootstrap_servers=null`, or `null` in a profile, takes away what the file says)
"##);
    let (pipeline, _) = EUGENIO.split_once("profiles:").unwrap();
    let profile = "profiles: { prod: { stages: { ingest: { at: { list: [\"a:1\"] } } } } }\n";
    assert_eq!(
        wrong(&format!("{pipeline}{profile}")),
        "p.yaml:22:47: error: `stages.ingest.at` takes exactly one of its keys, not `dns` and `list` together \
         (`--set stages.ingest.at.dns=null`, or `null` in a profile, takes away what the file says)"
    );
    let list = "stages.ingest.at.list=[\"a:1\"]";
    assert_eq!(set(EUGENIO, &["stages.ingest.at.dns=null", list], None, Setting::Apart), "");
    let mixed = &["stages.convert.transform.vrl=null", with_filter];
    assert_eq!(set(EUGENIO, mixed, None, Setting::Apart), "");
}

#[test]
fn two_that_listen_on_one_address_can_not_run_in_one_process() {
    let two = |first: &str, second: &str, more: &str| {
        EUGENIO.replace("listen: \"0.0.0.0:8080\"", first).replace("websocket: { path: /ws }", &format!("websocket: {{ {more} }}")).replace(
            "  convert:\n",
            &format!("  second:\n    at: {{ dns: \"second:7400\" }}\n    source: {{ http: {{ {second} }} }}\n  convert:\n"),
        ).replace("[ingest]", "[ingest, second]")
    };
    let mut all = String::new();
    for (first, second, more) in [
        ("listen: \"0.0.0.0:8080\"", "", ""),
        ("listen: \"127.0.0.1:81\"", "listen: \"localhost:81\"", ""),
        ("listen: \"[::]:81\"", "listen: \"127.0.0.1:82\"", "listen: \"10.0.0.1:82\""),
        ("listen: \"127.0.0.1:0\"", "listen: \"127.0.0.1:0\"", ""),
        ("listen: \"127.0.0.1:81\"", "listen: \"127.0.0.1:82\"", "listen: \"0.0.0.0:82\""),
        ("listen: \"127.0.0.1:81\"", "listen: \"127.0.0.1:82\"", "listen: \"127.0.0.1:81\""),
    ] {
        all.push_str(&format!("# {first} / {second} / {more}\n"));
        for setting in [Setting::Together, Setting::Anywhere, Setting::Apart] {
            all.push_str(&format!("{setting:?}: {}\n", set(&two(first, second, more), &[], None, setting)));
        }
    }
    insta::assert_snapshot!(all, @r##"
# listen: "0.0.0.0:8080" /  / 
Together: p.yaml:13:15: warning: source `second` listens on 0.0.0.0:8080, as `ingest` does: `up` can't run both (apart they need a machine each)
Anywhere: p.yaml:13:15: warning: source `second` listens on 0.0.0.0:8080, as `ingest` does: `up` can't run both (apart they need a machine each)
Apart: 
# listen: "127.0.0.1:81" / listen: "localhost:81" / 
Together: p.yaml:13:31: warning: source `second` listens on localhost:81, as `ingest` does: `up` can't run both (apart they need a machine each)
Anywhere: p.yaml:13:31: warning: source `second` listens on localhost:81, as `ingest` does: `up` can't run both (apart they need a machine each)
Apart: 
# listen: "[::]:81" / listen: "127.0.0.1:82" / listen: "10.0.0.1:82"
Together: 
Anywhere: 
Apart: 
# listen: "127.0.0.1:0" / listen: "127.0.0.1:0" / 
Together: 
Anywhere: 
Apart: 
# listen: "127.0.0.1:81" / listen: "127.0.0.1:82" / listen: "0.0.0.0:82"
Together: p.yaml:13:31: warning: source `second` listens on 127.0.0.1:82, as `ingest` does: `up` can't run both (apart they need a machine each)
Anywhere: p.yaml:13:31: warning: source `second` listens on 127.0.0.1:82, as `ingest` does: `up` can't run both (apart they need a machine each)
Apart: 
# listen: "127.0.0.1:81" / listen: "127.0.0.1:82" / listen: "127.0.0.1:81"
Together: p.yaml:10:28: error: `http` and `websocket` of source `ingest` both listen on 127.0.0.1:81 (without `websocket.listen` they share `http`'s address)
Anywhere: p.yaml:10:28: error: `http` and `websocket` of source `ingest` both listen on 127.0.0.1:81 (without `websocket.listen` they share `http`'s address)
Apart: p.yaml:10:28: error: `http` and `websocket` of source `ingest` both listen on 127.0.0.1:81 (without `websocket.listen` they share `http`'s address)
"##);
}
