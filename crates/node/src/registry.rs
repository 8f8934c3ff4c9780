//! A program's own components: sources, transforms and sinks that its pipeline files name beside the built-in ones.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use jaiminho_event::{CloudEvent, EventError, Template, set_key};
use jaiminho_runtime::{Kind, Role};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

/// What the memory's sum counts for a component that does not state its bound.
pub const MEMORY_BYTES_DEFAULT: u64 = 8 << 20;

/// Why a component can't be made of its settings.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A component's settings in the pipeline file. Its documentation, and that of its fields, is what `schema` and `list` show.
pub trait Settings: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// What its types can't say: told with the place of the settings.
    ///
    /// # Errors
    /// What is wrong, in words that follow the component's name.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// The most bytes that one instance holds beside its logs and links: its state, what one call works on, and what it makes
    /// of that. A term of the sum that `validate` prints; 8 MiB unless it is stated.
    fn memory_bytes_max(&self) -> u64 {
        MEMORY_BYTES_DEFAULT
    }
}

/// What a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ComponentKind {
    /// Takes events in from outside.
    Source,
    /// Turns events into others.
    Transform,
    /// Takes events out.
    Sink,
}

impl ComponentKind {
    pub(crate) const ALL: [Self; 3] = [Self::Source, Self::Transform, Self::Sink];

    /// The stage's key in the pipeline file.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Transform => "transform",
            Self::Sink => "sink",
        }
    }

    fn fits(self, role: &Role) -> bool {
        match self {
            Self::Source => matches!(role, Role::Source(_) | Role::Handler(_, Kind::Producer)),
            Self::Transform => matches!(role, Role::Transform(_) | Role::Handler(_, Kind::ProducerConsumer)),
            Self::Sink => matches!(role, Role::Sink(..) | Role::Handler(_, Kind::Consumer)),
        }
    }
}

/// The stage that a component is made for.
#[derive(Clone, Debug)]
pub struct Context {
    /// The pipeline's name.
    pub pipeline: String,
    /// The stage's.
    pub stage: String,
    pub(crate) folder: PathBuf,
    pub(crate) key: Option<Template>,
}

impl Context {
    /// A path that the pipeline file gives is relative to that file's folder.
    pub fn path(&self, given: impl AsRef<Path>) -> PathBuf {
        self.folder.join(given)
    }

    /// Gives a source's event its key, as the pipeline file says: what the stage's `key` renders; where that misses a field,
    /// the event's own `partitionkey`, else its `subject`.
    ///
    /// # Errors
    /// The key is no value of an attribute.
    pub fn enter(&self, event: &mut CloudEvent) -> Result<(), EventError> {
        set_key(event, self.key.as_ref(), || None).map(drop)
    }
}

type Make = dyn Fn(&Context) -> Result<Role, BoxError> + Send + Sync;
type Read = dyn Fn(Json) -> Result<Own, Wrong> + Send + Sync;

/// Settings of a component that was registered, read and checked.
#[derive(Clone)]
pub(crate) struct Own {
    pub(crate) name: String,
    pub(crate) memory_bytes_max: u64,
    kind: ComponentKind,
    make: Arc<Make>,
}

impl Own {
    pub(crate) fn make(&self, context: &Context) -> Result<Role, String> {
        let role = (self.make)(context).map_err(|error| format!("`{}`: {error}", self.name))?;
        let kind = self.kind.key();
        self.kind
            .fits(&role)
            .then_some(role)
            .ok_or_else(|| format!("`{}` makes something else than a {kind}", self.name))
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Settings that can't be: where, inside of them, and why.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) path: Vec<String>,
    pub(crate) what: String,
}

struct Registered {
    kind: ComponentKind,
    name: String,
    schema: fn(&mut SchemaGenerator) -> Schema,
    read: Box<Read>,
}

/// The components that a program has beside the built-in ones.
#[derive(Default)]
pub struct Registry {
    all: Vec<Registered>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|own| (own.kind, &own.name))).finish()
    }
}

impl Registry {
    /// Adds a component: a pipeline file names it as `source: { NAME: SETTINGS }`, `transform:` or `sink:`. `make` is called once
    /// for each stage that runs in this process, and gives a role that fits `kind`.
    pub fn add<S: Settings>(
        &mut self,
        kind: ComponentKind,
        name: impl Into<String>,
        make: impl Fn(&S, &Context) -> Result<Role, BoxError> + Send + Sync + 'static,
    ) {
        let (name, make) = (name.into(), Arc::new(make));
        let own_name = name.clone();
        let read = move |json: Json| {
            let settings: S = serde_path_to_error::deserialize(&json).map_err(|error| Wrong {
                path: error.path().iter().map(ToString::to_string).collect(),
                what: error.inner().to_string(),
            })?;
            settings.check().map_err(|what| Wrong { path: Vec::new(), what })?;
            let (make, memory_bytes_max) = (Arc::clone(&make), settings.memory_bytes_max());
            let make = Arc::new(move |context: &Context| make(&settings, context));
            Ok(Own { name: own_name.clone(), memory_bytes_max, kind, make })
        };
        self.all.push(Registered {
            kind,
            name,
            schema: |generator| generator.subschema_for::<S>(),
            read: Box::new(read),
        });
    }

    /// Names that are none, or stand for two things: `built_in` are the keys that a stage's map of this kind has already.
    pub(crate) fn check(&self, built_in: impl Fn(ComponentKind) -> BTreeSet<String>) -> Result<(), String> {
        for (index, Registered { kind, name, .. }) in self.all.iter().enumerate() {
            let is_letter =
                |next: char| next.is_ascii_lowercase() || next.is_ascii_digit() || matches!(next, '-' | '_');
            let what = if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.chars().all(is_letter) {
                "a name has lower-case letters, digits, `-` and `_`, a letter first"
            } else if built_in(*kind).contains(name) {
                "a built-in one has this name"
            } else if self.all[..index].iter().any(|earlier| (earlier.kind, &earlier.name) == (*kind, name)) {
                "it is registered twice"
            } else {
                continue;
            };
            return Err(format!("{} `{name}`: {what}", kind.key()));
        }
        Ok(())
    }

    /// What each may look like where its kind stands in a stage.
    pub(crate) fn schemas(&self, generator: &mut SchemaGenerator) -> Vec<(ComponentKind, Json)> {
        let schema = |own: &Registered| {
            let mut settings = (own.schema)(generator).to_value();
            if let Some(settings) = settings.as_object_mut()
                && settings.contains_key("properties")
            {
                settings.entry("additionalProperties").or_insert(false.into());
            }
            let mut about = settings.get("description").cloned().unwrap_or_default();
            if about.is_null() {
                about = format!("A {} of this program's own.", own.kind.key()).into();
            }
            let branch = serde_json::json!({
                "type": "object",
                "description": about,
                "properties": { own.name.as_str(): settings },
                "required": [own.name],
                "additionalProperties": false,
            });
            (own.kind, branch)
        };
        self.all.iter().map(schema).collect()
    }

    /// Takes the program's own components out of a stage, and reads them. A mistake is at the path that it has in the stage.
    pub(crate) fn take(&self, stage: &mut Json) -> Result<Vec<(ComponentKind, Own)>, Wrong> {
        let mut taken = Vec::new();
        for kind in ComponentKind::ALL {
            let Some(Json::Object(component)) = stage.get(kind.key()) else { continue };
            let Some((name, settings)) = component.iter().next().filter(|_| component.len() == 1) else { continue };
            let Some(own) = self.all.iter().find(|own| own.kind == kind && own.name == *name) else { continue };
            let read = (own.read)(settings.clone()).map_err(|wrong| Wrong {
                path: [kind.key().to_owned(), name.clone()].into_iter().chain(wrong.path).collect(),
                ..wrong
            })?;
            taken.push((kind, read));
            if let Json::Object(stage) = stage {
                stage.remove(kind.key());
            }
        }
        Ok(taken)
    }
}
