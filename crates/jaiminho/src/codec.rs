//! From values to the bytes that travel, and back.

use jaiminho_core::{KeyHash, Payload};
use jaiminho_event::{CloudEvent, key_hash};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Failure, Result};

/// Encodes and decodes the events of a stage.
pub trait Codec<T>: Send + Sync + 'static {
    /// The bytes of a value, in an allocation of their own.
    ///
    /// # Errors
    /// The value has no such form: the call that emits it fails.
    fn encode(&self, value: T) -> Result<Payload>;

    /// The value of these bytes.
    ///
    /// # Errors
    /// They are none: the event is rejected as `malformed`.
    fn decode(&self, payload: &Payload) -> Result<T>;

    /// Events of one key keep their order, and go to one instance. None: whoever has demand gets it.
    fn key(&self, value: &T) -> Option<KeyHash> {
        let _keyless = value;
        None
    }

    /// Both, for a codec that learns the key as it encodes.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    fn encode_keyed(&self, value: T) -> Result<(Payload, Option<KeyHash>)> {
        let key = self.key(&value);
        Ok((self.encode(value)?, key))
    }

    /// The same codec, with a key for each value.
    fn keyed<F>(self, key: F) -> Keyed<Self, F>
    where
        F: Fn(&T) -> Option<String> + Send + Sync + 'static,
        Self: Sized,
    {
        Keyed { codec: self, key }
    }
}

/// JSON, through serde. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn encode(&self, value: T) -> Result<Payload> {
        Ok(serde_json::to_vec(&value)?.into())
    }

    fn decode(&self, payload: &Payload) -> Result<T> {
        Ok(serde_json::from_slice(payload)?)
    }
}

/// Bytes as they are: nothing is copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec<Payload> for Raw {
    fn encode(&self, value: Payload) -> Result<Payload> {
        Ok(value)
    }

    fn decode(&self, payload: &Payload) -> Result<Payload> {
        Ok(payload.clone())
    }
}

/// CloudEvents in their protobuf format: what the sources, transforms and sinks of a pipeline file speak. The key is
/// `partitionkey`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloud;

impl Codec<CloudEvent> for Cloud {
    fn encode(&self, value: CloudEvent) -> Result<Payload> {
        value.validate()?;
        Ok(value.encode().into())
    }

    fn decode(&self, payload: &Payload) -> Result<CloudEvent> {
        Ok(CloudEvent::decode(payload)?)
    }

    fn key(&self, value: &CloudEvent) -> Option<KeyHash> {
        value.attribute("partitionkey").map(|key| KeyHash(key_hash(&key)))
    }
}

/// A codec with keys: see [`Codec::keyed`].
#[derive(Clone, Copy, Debug)]
pub struct Keyed<C, F> {
    codec: C,
    key: F,
}

impl<T, C: Codec<T>, F> Codec<T> for Keyed<C, F>
where
    F: Fn(&T) -> Option<String> + Send + Sync + 'static,
{
    fn encode(&self, value: T) -> Result<Payload> {
        self.codec.encode(value)
    }

    fn decode(&self, payload: &Payload) -> Result<T> {
        self.codec.decode(payload)
    }

    fn key(&self, value: &T) -> Option<KeyHash> {
        (self.key)(value).map(|key| KeyHash(key_hash(&key)))
    }
}

/// What a consumer emits: nothing can be made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {}

/// No events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCodec;

impl Codec<Nothing> for NoCodec {
    fn encode(&self, value: Nothing) -> Result<Payload> {
        match value {}
    }

    fn decode(&self, _: &Payload) -> Result<Nothing> {
        Err(Failure::new("a consumer has no events of its own"))
    }
}
