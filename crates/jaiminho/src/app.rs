//! A program of one's own, that runs pipeline files with stages of one's own beside the built-in ones.
//!
//! It has all commands of `jaiminho`, under its own name: `up`, `stage`, `validate`, `schema`, `list` and the others know the
//! components that are registered here. Settings are a type of serde's and schemars'; mistakes in them are told with file,
//! line, column and the nearest key.
//!
//! ```no_run
#![doc = include_str!("../../node/examples/own_program/main.rs")]
//! ```
//!
//! Its pipeline file:
//!
//! ```yaml
#![doc = include_str!("../../node/examples/own_program/pipeline.yaml")]
//! ```
//!
//! The stages of a pipeline file speak CloudEvents, and so do handlers that are registered without a codec. A name that a
//! built-in component has is refused at the start. `transform:` takes a component of one's own alone, not in a list of steps.
//! Allocations that are freed by other threads keep memory best with the program's [`Allocator`]:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: jaiminho::app::Allocator = jaiminho::app::Allocator;
//! ```

use std::{ffi::OsString, path::Path, process::ExitCode, sync::Arc};

pub use jaiminho_node::{Allocator, Context, MEMORY_BYTES_DEFAULT, Settings};
use jaiminho_node::{ComponentKind, Program, Registry};
use jaiminho_runtime::{Role, Settler, Sink, Source, Transform};

use crate::{Cloud, CloudEvent, Codec, Consumer, KeyHash, Payload, Producer, ProducerConsumer, Result, handlers};

/// The components of a program, by the names that pipeline files give them.
///
/// What makes a component gets its settings, and is called once for each stage that runs in this process.
#[derive(Debug, Default)]
pub struct App {
    version: Option<String>,
    own: Registry,
}

impl App {
    /// With the built-in components only.
    pub fn new() -> Self {
        Self::default()
    }

    /// What `--version` says: as a rule `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// A source of CloudEvents. The stage's `key` is theirs: see [`Context::enter`].
    #[must_use]
    pub fn producer<S: Settings, P: Producer<Out = CloudEvent>>(
        self,
        name: &str,
        make: impl Fn(&S, &Context) -> Result<P> + Send + Sync + 'static,
    ) -> Self {
        self.add(ComponentKind::Source, name, move |settings, context| {
            Ok(handlers::producer(make(settings, context)?, Entering(context.clone())))
        })
    }

    /// A source with a codec of its own, which gives events their keys.
    #[must_use]
    pub fn producer_with<S: Settings, P: Producer>(
        self,
        name: &str,
        codec: impl Codec<P::Out> + Clone,
        make: impl Fn(&S, &Context) -> Result<P> + Send + Sync + 'static,
    ) -> Self {
        self.add(ComponentKind::Source, name, move |settings, context| {
            Ok(handlers::producer(make(settings, context)?, codec.clone()))
        })
    }

    /// A transform of CloudEvents.
    #[must_use]
    pub fn producer_consumer<S: Settings, H: ProducerConsumer<In = CloudEvent, Out = CloudEvent>>(
        self,
        name: &str,
        make: impl Fn(&S, &Context) -> Result<H> + Send + Sync + 'static,
    ) -> Self {
        self.producer_consumer_with(name, Cloud, Cloud, make)
    }

    /// A transform with codecs of its own.
    #[must_use]
    pub fn producer_consumer_with<S: Settings, H: ProducerConsumer>(
        self,
        name: &str,
        input: impl Codec<H::In> + Clone,
        output: impl Codec<H::Out> + Clone,
        make: impl Fn(&S, &Context) -> Result<H> + Send + Sync + 'static,
    ) -> Self {
        self.add(ComponentKind::Transform, name, move |settings, context| {
            Ok(handlers::producer_consumer(make(settings, context)?, input.clone(), output.clone()))
        })
    }

    /// A sink of CloudEvents.
    #[must_use]
    pub fn consumer<S: Settings, C: Consumer<In = CloudEvent>>(
        self,
        name: &str,
        make: impl Fn(&S, &Context) -> Result<C> + Send + Sync + 'static,
    ) -> Self {
        self.consumer_with(name, Cloud, make)
    }

    /// A sink with a codec of its own.
    #[must_use]
    pub fn consumer_with<S: Settings, C: Consumer>(
        self,
        name: &str,
        codec: impl Codec<C::In> + Clone,
        make: impl Fn(&S, &Context) -> Result<C> + Send + Sync + 'static,
    ) -> Self {
        self.add(ComponentKind::Sink, name, move |settings, context| {
            Ok(handlers::consumer(make(settings, context)?, codec.clone()))
        })
    }

    /// A source of the runtime's: it offers events, and is told what became of them. [`Context::enter`] gives them their keys.
    #[must_use]
    pub fn source<S: Settings, T: Source>(
        self,
        name: &str,
        make: impl Fn(&S, &Context) -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.add(ComponentKind::Source, name, move |settings, context| {
            Ok(Role::Source(Box::new(make(settings, context)?)))
        })
    }

    /// A transform of the runtime's: many events at once, those of one key one after the other.
    #[must_use]
    pub fn transform<S: Settings, T: Transform>(
        self,
        name: &str,
        make: impl Fn(&S, &Context) -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.add(ComponentKind::Transform, name, move |settings, context| {
            Ok(Role::Transform(Arc::new(make(settings, context)?)))
        })
    }

    /// A sink of the runtime's: it settles events through the settler, when it likes.
    #[must_use]
    pub fn sink<S: Settings, T: Sink>(
        self,
        name: &str,
        make: impl Fn(&S, &Context, Settler) -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.add(ComponentKind::Sink, name, move |settings, context| {
            let settler = Settler::default();
            Ok(Role::Sink(Box::new(make(settings, context, settler.clone())?), settler))
        })
    }

    fn add<S: Settings>(
        mut self,
        kind: ComponentKind,
        name: &str,
        make: impl Fn(&S, &Context) -> Result<Role> + Send + Sync + 'static,
    ) -> Self {
        self.own.add(kind, name, move |settings, context| {
            make(settings, context).map_err(|failure| failure.into_text().into())
        });
        self
    }

    /// Does what the command line says, under the name that the program was started by.
    pub fn run(self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// The same with these arguments, of which the first is the program's path.
    pub fn run_with(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let name = arguments.first().and_then(|path| Path::new(path).file_name());
        let name = name.map_or_else(|| "jaiminho".to_owned(), |name| name.to_string_lossy().into_owned());
        Program { name, version: self.version, own: Arc::new(self.own), ..Program::default() }.run(arguments)
    }
}

/// CloudEvents of a source, which get their keys here.
struct Entering(Context);

impl Codec<CloudEvent> for Entering {
    fn encode(&self, value: CloudEvent) -> Result<Payload> {
        Ok(self.encode_keyed(value)?.0)
    }

    fn encode_keyed(&self, mut value: CloudEvent) -> Result<(Payload, Option<KeyHash>)> {
        self.0.enter(&mut value)?;
        Cloud.encode_keyed(value)
    }

    fn decode(&self, payload: &Payload) -> Result<CloudEvent> {
        Cloud.decode(payload)
    }
}
