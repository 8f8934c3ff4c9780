//! `POST`: formats, answers, limits, over real connections.



use serde_json::json;
use crate::support::{start, start_with_key};

#[tokio::test]
async fn a_plain_value_is_published_with_type_source_and_an_assigned_id() {
    let mut running = start(json!({ "type": "t", "source": "/s" }));
    let request = running.post("application/json", " {\"a\": 1.50}\n");
    let (told, events) = running.publish(request).await;
    assert_eq!(told.status, 200);
    assert_eq!(told.header("content-type"), "application/json");
    let id = &events[0].id;
    assert_eq!(id.len(), 36);
    let expected = json!({ "status": "published", "count": 1, "events": [{ "index": 0, "id": id, "status": "published" }] });
    assert_eq!(told.body, expected);
    assert_eq!((events[0].ty.as_str(), events[0].source.as_str()), ("t", "/s"));
    assert_eq!(events[0].data, jaiminho_event::Data::Text("{\"a\": 1.50}".to_owned()));
    assert_eq!(events[0].attribute("datacontenttype").unwrap(), "application/json");
}
