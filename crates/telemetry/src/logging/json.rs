//! A line as a JSON object: what is said, then what the spans around it add, then who says it.

use std::{
    fmt,
    io::Write as _,
    sync::{Arc, OnceLock},
};

use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value};
use tracing::{
    Dispatch, Event, Subscriber,
    dispatcher::WeakDispatch,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::{
        MakeWriter,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::Context,
    registry::{LookupSpan, SpanRef},
};

/// Of a text, the rest is left out: a peer may have written it.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// The process's stages, each with the name of its instance.
#[derive(Debug)]
pub(crate) struct Who(pub(crate) Vec<(String, String)>);

pub(crate) struct Json<W> {
    writer: W,
    who: Arc<OnceLock<Who>>,
    dispatch: OnceLock<WeakDispatch>,
}

/// What a span was given.
struct Fields(Map<String, Value>);

impl<W> Json<W> {
    pub(crate) fn new(writer: W, who: Arc<OnceLock<Who>>) -> Self {
        Self { writer, who, dispatch: OnceLock::new() }
    }

    fn line<S>(&self, event: &Event<'_>, context: &Context<'_, S>) -> Map<String, Value>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut line = Map::new();
        let mut time = String::new();
        // Writing to a string never fails.
        let _written = SystemTime.format_time(&mut Writer::new(&mut time));
        line.insert("timestamp".into(), time.into());
        line.insert("level".into(), event.metadata().level().as_str().into());
        event.record(&mut Visitor(&mut line));
        let span = context.event_span(event);
        for span in span.iter().flat_map(SpanRef::scope) {
            let extensions = span.extensions();
            let fields = extensions.get::<Fields>().into_iter().flat_map(|fields| &fields.0);
            for (name, value) in fields {
                line.entry(name).or_insert_with(|| value.clone());
            }
        }
        self.sign(&mut line);
        if let Some([trace, span]) = span.and_then(|span| self.ids(&span.id())) {
            line.insert("trace_id".into(), trace.into());
            line.insert("span_id".into(), span.into());
        }
        line.insert("target".into(), event.metadata().target().into());
        line
    }

    /// Who says it.
    fn sign(&self, line: &mut Map<String, Value>) {
        let Some(Who(all)) = self.who.get() else { return };
        if let [(stage, _)] = all.as_slice() {
            line.entry("stage").or_insert_with(|| stage.as_str().into());
        }
        let stage = line.get("stage").and_then(Value::as_str);
        if let Some((_, instance)) = all.iter().find(|(of, _)| Some(of.as_str()) == stage) {
            let instance = instance.as_str().into();
            line.entry("instance").or_insert(instance);
        }
    }

    /// Of the trace that this span belongs to, where it does.
    fn ids(&self, span: &Id) -> Option<[String; 2]> {
        let dispatch = self.dispatch.get()?.upgrade()?;
        let context = tracing_opentelemetry::get_otel_context(span, &dispatch)?;
        let (span, trace) = (context.span().span_context().span_id(), context.span().span_context().trace_id());
        context.span().span_context().is_valid().then(|| [trace.to_string(), span.to_string()])
    }
}

impl<S, W> Layer<S> for Json<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        let _once = self.dispatch.set(dispatch.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Map::new();
        attributes.record(&mut Visitor(&mut fields));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Fields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(&mut Visitor(&mut fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Value::Object(self.line(event, &context)).to_string();
        line.push('\n');
        // Nobody is left to tell that nobody reads the log.
        let _unread = self.writer.make_writer_for(event.metadata()).write_all(line.as_bytes());
    }
}

struct Visitor<'a>(&'a mut Map<String, Value>);

impl Visitor<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().trim_start_matches("r#").to_owned(), value.into());
    }
}

impl Visit for Visitor<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, cut(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, cut(&format!("{value:?}")));
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
