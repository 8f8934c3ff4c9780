//! The key of an event, set where it enters the pipeline: events of one key keep their order.

use std::{borrow::Cow, sync::Arc};

use crate::{CloudEvent, EventError, EventView, Template};

const KEY: &str = "partitionkey";

/// Writes the key of an event into its `partitionkey`: the template's; where that misses a field, the event's own, else `otherwise`, else its
/// `subject`. An empty one is none.
///
/// Gives the encoded event back where the template had to see it and the key is what it was.
///
/// # Errors
/// The key is no attribute's value.
pub fn set_key(
    event: &mut CloudEvent,
    template: Option<&Template>,
    otherwise: impl FnOnce() -> Option<String>,
) -> Result<Option<Arc<[u8]>>, EventError> {
    let is_key = |key: &String| !key.is_empty();
    let attribute = |name: &str| event.attribute(name).map(Cow::into_owned);
    let seen = template.map(|template| (template, event.encode()));
    let rendered = match &seen {
        Some((template, payload)) => template.render(&EventView::parse(payload)?).ok().filter(is_key),
        None => None,
    };
    let own = attribute(KEY);
    let key = rendered
        .or_else(|| own.clone().filter(is_key))
        .or_else(|| otherwise().filter(is_key))
        .or_else(|| attribute("subject").filter(is_key));
    if key == own {
        return Ok(seen.map(|(_, payload)| payload));
    }
    match key {
        Some(key) => event.set(KEY, key.into())?,
        None => {
            event.attributes.remove(KEY);
        }
    }
    Ok(None)
}
