//! Templates over events.

#![allow(clippy::unwrap_used)]

use jaiminho_event::{CloudEvent, Data, EventView, Template, Value};
use proptest::prelude::*;

const DATA: &str = r#"{"deviceId":"d-1","n":1.50,"big":12345678901234567890123,"yes":true,"nothing":null,
    "list":[{"id":7},"zwei"],"a.b":{"x y":"q"},"e":"ü\n","deviceid":0,"twice":1,"twice":2}"#;

fn render(template: &str) -> Result<String, String> {
    let mut event = CloudEvent::new("i", "s", "measured");
    event.set("partitionkey", Value::from("k")).unwrap();
    event.set("level", Value::from(3)).unwrap();
    event.data = Data::Text(DATA.into());
    let bytes = event.encode();
    let template = Template::parse(template).map_err(|error| error.to_string())?;
    template.render(&EventView::parse(&bytes).unwrap()).map_err(|missing| missing.path)
}

#[test]
fn fields_become_text() {
    for (template, text) in [
        ("", ""),
        ("plain } { text", "plain } { text"),
        ("eugenio.{{type}}", "eugenio.measured"),
        ("{{ id }}/{{source}}:{{specversion}}:{{level}}:{{partitionkey}}", "i/s:1.0:3:k"),
        ("{{data.deviceId}}", "d-1"),
        ("{{data.n}} {{data.big}} {{data.yes}}", "1.50 12345678901234567890123 true"),
        ("{{data.list.0.id}}-{{data.list.1}}", "7-zwei"),
        (r#"{{data."a.b"."x y"}}"#, "q"),
        ("{{data.e}}", "ü\n"),
        ("{{data.twice}}", "2"),
    ] {
        assert_eq!(render(template), Ok(text.to_owned()), "{template}");
    }
}

#[test]
fn a_missing_field_is_named() {
    for path in [
        "subject",
        "data",
        "data.none",
        "data.nothing",
        "data.list",
        "data.deviceId.x",
        "data.list.2",
        "data.list.x",
        "data.DeviceId",
    ] {
        assert_eq!(render(&format!("a{{{{{path}}}}}b")), Err(path.to_owned()));
    }
}

#[test]
fn a_template_that_is_none_is_told_where_and_why() {
    for (template, problem) in [
        ("ab{{type", "`{{` without `}}` (at byte 2)"),
        ("{{data.}}", "`data.`: between dots stand letters, digits, _ and -, or a quoted name (at byte 2)"),
        ("{{data.a b}}", "`data.a b`: between dots stand letters, digits, _ and -, or a quoted name (at byte 2)"),
        (r#"{{data."a}}"#, r#"`data."a`: a quote is not closed (at byte 2)"#),
        (r#"{{data."a"b}}"#, r#"`data."a"b`: a dot must stand before `b` (at byte 2)"#),
        (
            "{{.type}}",
            "`.type` is no attribute name: 1 to 64 of a-z and 0-9; a path is an attribute's name, or `data.` and a member (at byte 2)",
        ),
    ] {
        assert_eq!(render(template), Err(problem.to_owned()));
    }
}

#[test]
fn data_that_is_not_json_has_no_fields() {
    for data in ["no json", "{\"a\":1", "{\"a\":1}}"] {
        let event = CloudEvent { data: Data::Text(data.into()), ..CloudEvent::new("i", "s", "t") };
        let bytes = event.encode();
        let template = Template::parse("{{data.a}}").unwrap();
        assert_eq!(template.render(&EventView::parse(&bytes).unwrap()).unwrap_err().path, "data.a");
    }
}

#[test]
fn a_template_tells_its_paths() {
    let template = Template::parse("x{{type}}y{{ data.a.b }}").unwrap();
    assert_eq!(template.paths().collect::<Vec<_>>(), ["type", "data.a.b"]);
    assert!(!template.is_literal());
    assert!(Template::parse("x").unwrap().is_literal());
    assert_eq!(template.to_string(), "x{{type}}y{{data.a.b}}");
}

proptest! {
    #[test]
    fn any_text_is_a_template_or_an_error(text in "[{}\"a-z. ]{0,20}") {
        if let Ok(template) = Template::parse(&text) {
            let bytes = CloudEvent { data: Data::Text(DATA.into()), ..CloudEvent::new("i", "s", "t") }.encode();
            let _ = template.render(&EventView::parse(&bytes).unwrap());
            prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
        }
    }
}
