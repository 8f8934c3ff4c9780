//! Spans as OTLP has them.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind as OtlpKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan, Status};
use opentelemetry_proto::transform::common::tonic::Attributes;

use super::span::Span;
use crate::otlp::scope;

/// A resource of these attributes.
pub(super) fn resource(attributes: Vec<KeyValue>) -> Resource {
    Resource { attributes: Attributes::from(attributes).0, ..Resource::default() }
}

/// Spans by the resource whose index each has; those of an index that is none go nowhere.
pub(super) fn request(resources: &[Resource], spans: Vec<(usize, Span)>) -> Vec<ResourceSpans> {
    let mut grouped: BTreeMap<usize, Vec<OtlpSpan>> = BTreeMap::new();
    for (resource, span) in spans {
        grouped.entry(resource).or_default().push(otlp(span));
    }
    let groups = grouped.into_iter().filter_map(|(index, spans)| {
        let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }];
        let resource = Some(resources.get(index)?.clone());
        Some(ResourceSpans { resource, scope_spans, ..ResourceSpans::default() })
    });
    groups.collect()
}

fn otlp(span: Span) -> OtlpSpan {
    let links = span.links.iter().map(|link| Link {
        trace_id: link.trace.to_vec(),
        span_id: link.span.to_vec(),
        flags: u32::from(link.flags),
        ..Link::default()
    });
    let events = span.events.into_iter().map(|event| Event {
        time_unix_nano: event.at,
        name: event.name.into_owned(),
        attributes: Attributes::from(event.attributes).0,
        ..Event::default()
    });
    let status = span.error.map(|message| Status { message, code: StatusCode::Error.into() });
    OtlpSpan {
        trace_id: span.context.trace.to_vec(),
        span_id: span.context.span.to_vec(),
        parent_span_id: span.parent.map(Vec::from).unwrap_or_default(),
        flags: u32::from(span.context.flags),
        name: span.name.into_owned(),
        kind: match span.kind {
            SpanKind::Client => OtlpKind::Client,
            SpanKind::Server => OtlpKind::Server,
            SpanKind::Producer => OtlpKind::Producer,
            SpanKind::Consumer => OtlpKind::Consumer,
            SpanKind::Internal => OtlpKind::Internal,
        }
        .into(),
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end.max(span.start),
        attributes: Attributes::from(span.attributes).0,
        links: links.collect(),
        events: events.collect(),
        status,
        ..OtlpSpan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::{SpanEvent, TraceContext};

    #[test]
    fn a_span_is_told_whole_and_never_ends_before_it_starts() {
        let (context, parent, other) = (TraceContext::root(), [7; 8], TraceContext::root());
        let span = Span::new(context, Some(parent), SpanKind::Producer, "send all", (20, 10));
        let event = SpanEvent { at: 15, name: "said".into(), attributes: vec![KeyValue::new("c", "d")] };
        let span =
            Span { links: vec![other], events: vec![event], error: Some("no".to_owned()), ..span.with_text("a", "b") };
        let told = request(&[resource(vec![KeyValue::new("service.name", "x")])], vec![(0, span.clone()), (1, span)]);
        assert_eq!(told.len(), 1, "the second one's resource is unknown");
        let told = &told[0].scope_spans[0].spans[0];
        assert_eq!((&told.trace_id[..], &told.span_id[..]), (&context.trace[..], &context.span[..]));
        assert_eq!((&told.parent_span_id[..], told.kind), (&parent[..], 4));
        assert_eq!((told.start_time_unix_nano, told.end_time_unix_nano), (20, 20));
        assert_eq!((&told.links[0].trace_id[..], told.attributes[0].key.as_str()), (&other.trace[..], "a"));
        assert_eq!((told.events[0].time_unix_nano, told.events[0].name.as_str()), (15, "said"));
        assert_eq!(told.status.as_ref().map(|status| (status.code, status.message.as_str())), Some((2, "no")));
    }
}
