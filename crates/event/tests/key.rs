//! Which key an event has.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

use jaiminho_event::{CloudEvent, Template, set_key};

/// The key of an event with these attributes and `data.k`, after `otherwise`; and whether it came back encoded.
fn key(template: Option<&str>, k: &str, own: Option<&str>, otherwise: &str, subject: &str) -> (Option<String>, bool) {
    let text = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","data":{{"k":"{k}"}}}}"#);
    let mut event = CloudEvent::from_json_slice(text.as_bytes()).unwrap();
    for (name, value) in [("partitionkey", own), ("subject", Some(subject))] {
        if let Some(value) = value {
            event.attributes.insert(name.to_owned(), value.into());
        }
    }
    let template = template.map(|text| Template::parse(text).unwrap());
    let encoded = set_key(&mut event, template.as_ref(), || Some(otherwise.to_owned())).unwrap();
    assert!(encoded.as_ref().is_none_or(|encoded| *encoded == event.encode()), "as it is now");
    (event.attribute("partitionkey").map(std::borrow::Cow::into_owned), encoded.is_some())
}

#[test]
fn the_key_is_the_first_that_there_is_and_an_empty_one_is_none() {
    let data = Some("{{data.k}}");
    for ((template, k, own, otherwise, subject), expected) in [
        ((data, "k", Some("own"), "other", "subject"), Some("k")),
        ((data, "", Some("own"), "other", "subject"), Some("own")),
        ((Some("{{data.missing}}"), "k", Some("own"), "other", "subject"), Some("own")),
        ((None, "k", Some("own"), "other", "subject"), Some("own")),
        ((None, "k", Some(""), "other", "subject"), Some("other")),
        ((None, "k", None, "other", "subject"), Some("other")),
        ((None, "k", None, "", "subject"), Some("subject")),
        ((data, "", Some(""), "", "subject"), Some("subject")),
        ((data, "", Some(""), "", ""), None),
        ((None, "k", None, "", ""), None),
    ] {
        assert_eq!(
            key(template, k, own, otherwise, subject).0.as_deref(),
            expected,
            "{template:?} {k} {own:?} {otherwise}"
        );
    }
}

#[test]
fn an_event_that_was_encoded_for_the_template_comes_back_where_its_key_is_what_it_was() {
    assert!(key(Some("{{data.k}}"), "k", Some("k"), "", "").1);
    assert!(key(Some("{{data.missing}}"), "k", None, "", "").1);
    assert!(!key(Some("{{data.k}}"), "k", Some("own"), "", "").1);
    assert!(!key(Some("{{data.missing}}"), "k", Some(""), "", "").1, "the empty one is gone");
    assert!(!key(None, "k", Some("own"), "", "").1, "nobody had to see it");
}
