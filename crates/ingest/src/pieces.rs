//! Finds the events in a body without building a tree: where each begins, and its text.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::draft::{Fault, FaultKind};

/// One event's text, and where it begins in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
}

/// The lines that are not blank.
pub(crate) fn line_pieces(text: &str, events_max: usize) -> Result<Vec<Piece<'_>>, Fault> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain(std::iter::once(text.len()));
    for end in ends {
        let line = &text[start..end];
        if !line.trim_ascii().is_empty() {
            if pieces.len() == events_max {
                return Err(too_many(events_max).at(start));
            }
            pieces.push(Piece { text: line, start });
        }
        start = end + 1;
    }
    Ok(pieces)
}

/// The elements of a JSON array. The text around them is checked here, they themselves only as far as to find their ends.
pub(crate) fn array_pieces(text: &str, events_max: usize) -> Result<Vec<Piece<'_>>, Fault> {
    let begin = text.len() - text.trim_ascii_start().len();
    if text[begin..].starts_with(|first| first != '[') {
        return Err(Fault::malformed("a batch is an array of events").at(begin));
    }
    let mut seen = Seen { over: false, count: 0, end: begin };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let visitor = Elements { text, events_max, seen: &mut seen };
    let raw = deserializer.deserialize_seq(visitor).and_then(|raw| deserializer.end().map(|()| raw));
    match raw {
        Ok(raw) => Ok(raw.into_iter().map(|raw| piece(text, raw.get())).collect()),
        Err(error) => {
            let byte = byte_of(text.as_bytes(), &error);
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            if seen.over {
                return Err(too_many(events_max).at(byte));
            }
            let index = seen.is_inside_next(text, byte).then_some(seen.count);
            Err(Fault { index, ..Fault::malformed(format!("not JSON: {message}")).at(byte) })
        }
    }
}

/// Whether the text is a JSON object with such a member at its top. A text that is not JSON has none.
pub(crate) fn has_member(text: &str, name: &str) -> bool {
    text.trim_ascii_start().starts_with('{')
        && serde_json::Deserializer::from_str(text).deserialize_map(Member(name)).unwrap_or_default()
}

/// Where serde's line and column are.
pub(crate) fn byte_of(text: &[u8], error: &serde_json::Error) -> usize {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => memchr::memchr_iter(b'\n', text).nth(line - 2).map_or(0, |at| at + 1),
    };
    (line_start + error.column()).saturating_sub(1).min(text.len())
}

fn piece<'a>(body: &'a str, text: &'a str) -> Piece<'a> {
    Piece { text, start: text.as_ptr().addr() - body.as_ptr().addr() }
}

fn too_many(events_max: usize) -> Fault {
    let detail = format!("too many events in one body; the limit is {events_max}");
    Fault { kind: FaultKind::TooManyEvents, ..Fault::malformed(detail) }
}

struct Elements<'a> {
    text: &'a str,
    events_max: usize,
    seen: &'a mut Seen,
}

/// How far an array was read.
struct Seen {
    over: bool,
    /// Whole elements.
    count: usize,
    /// Where the last one ends; at first, where the array begins.
    end: usize,
}

impl Seen {
    /// Whether the element after those has begun at this byte.
    fn is_inside_next(&self, text: &str, byte: usize) -> bool {
        let rest = text[self.end..].trim_ascii_start();
        let rest = rest.strip_prefix(if self.count == 0 { '[' } else { ',' }).unwrap_or_default().trim_ascii_start();
        !rest.is_empty() && !rest.starts_with([',', ']', '}']) && text.len() - rest.len() <= byte
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(raw) = elements.next_element::<&RawValue>()? {
            if found.len() == self.events_max {
                self.seen.over = true;
                return Err(serde::de::Error::custom("too many"));
            }
            found.push(raw);
            let last = piece(self.text, raw.get());
            (self.seen.count, self.seen.end) = (found.len(), last.start + last.text.len());
        }
        Ok(found)
    }
}

struct Member<'a>(&'a str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(name) = members.next_key::<std::borrow::Cow<'de, str>>()? {
            found |= name == self.0;
            members.next_value::<IgnoredAny>()?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_no_events() {
        let pieces = line_pieces("1\n\r\n {\"a\":2} \r\n\n", 9).unwrap();
        assert_eq!(pieces, [Piece { text: "1", start: 0 }, Piece { text: " {\"a\":2} \r", start: 4 }]);
    }

    #[test]
    fn elements_know_where_they_begin() {
        let pieces = array_pieces(" [1, {\"a\": [2]}\n,\"x\"] ", 9).unwrap();
        assert_eq!(
            pieces.iter().map(|piece| (piece.text, piece.start)).collect::<Vec<_>>(),
            [("1", 2), ("{\"a\": [2]}", 5), ("\"x\"", 17)]
        );
    }

    #[test]
    fn one_event_too_many_is_told_apart_from_bad_json() {
        assert_eq!(array_pieces("[1,2,3]", 2).unwrap_err().kind, FaultKind::TooManyEvents);
        assert_eq!(line_pieces("1\n2\n3", 2).unwrap_err().kind, FaultKind::TooManyEvents);
        let fault = array_pieces("[1,\n2,}]", 2).unwrap_err();
        assert_eq!((fault.kind, fault.byte, fault.index), (FaultKind::Malformed, Some(6), None));
        assert!(array_pieces("[1]x", 2).is_err() && array_pieces("[1", 2).is_err());
    }

    #[test]
    fn an_element_that_is_no_json_is_named_and_what_stands_between_elements_is_nobodys() {
        let index = |text| array_pieces(text, 9).unwrap_err().index;
        for text in ["[1,{\"a\":}]", "[1, nul]", "[ 1 ,\n\"\\x\"]", "[1,[2}]", "[1,{\"a\":1"] {
            assert_eq!(index(text), Some(1), "{text}");
        }
        assert_eq!((index("[{]"), index(" [ nul]")), (Some(0), Some(0)));
        for text in ["[1 2]", "[1,]", "[,1]", "[1", "[", "[1]x", "[1,}"] {
            assert_eq!(index(text), None, "{text}");
        }
    }

    #[test]
    fn a_member_is_found_only_at_the_top() {
        assert!(has_member(" {\"a\":1,\"specversion\":\"1.0\"}", "specversion"));
        assert!(!has_member("{\"a\":{\"specversion\":1}}", "specversion"));
        assert!(!has_member("[\"specversion\"]", "specversion") && !has_member("{", "specversion"));
    }
}
