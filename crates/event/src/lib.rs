//! The event: a CloudEvent 1.0, owned ([`CloudEvent`]) or as a view of its protobuf bytes ([`EventView`]).
//!
//! Between stages an event travels in CloudEvents' own protobuf format; towards people, VRL and dead letters in its
//! JSON format. This crate is the only one that knows either. It is a leaf: no IO, no clock.

mod error;
mod event;
mod hash;
mod json;
mod key;
mod template;
mod timestamp;
pub mod units;
mod value;
mod view;
mod wire;

pub use error::EventError;
pub use event::{ATTRIBUTES_MAX, CloudEvent, Data, NAME_BYTES_MAX};
pub use hash::{identity, key_hash};
pub use json::{DATA_DEPTH_MAX, check_json};
pub use key::set_key;
pub use template::{MissingField, Template, TemplateError};
pub use timestamp::{format_timestamp, parse_timestamp};
pub use value::{Value, ValueRef};
pub use view::{DataRef, EventView};
