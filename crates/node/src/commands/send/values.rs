//! The JSON values of an input, one after another (a line each, or not), and those in lists; each with its line.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::exit::Failure;

/// A JSON value as it was read, or made up.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) json: String,
    /// Where it begins in the input, from 1; none of what is made up.
    pub(super) line: Option<u64>,
}

pub(super) fn values(name: String, reader: Box<dyn Read + Send>) -> impl Iterator<Item = Result<Text, Failure>> + Send {
    let place = Arc::new(Place::default());
    let reader = Counted { reader, place: Arc::clone(&place) };
    let values = serde_json::Deserializer::from_reader(reader).into_iter::<Box<RawValue>>();
    values.flat_map(move |value| {
        let line = place.begun.swap(0, Ordering::Relaxed);
        match value.and_then(|value| elements(&value, line)) {
            Ok(texts) => texts.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(unreadable(&name, line, &error))],
        }
    })
}

fn unreadable(name: &str, line: u64, error: &serde_json::Error) -> Failure {
    match error.classify() {
        Category::Io => Failure::usage(format!("{name}: {error}")),
        // What is cut short shows only in a later line.
        Category::Syntax | Category::Data | Category::Eof => {
            Failure::data(format!("{name}: the value of line {line} is not JSON: {error}"))
        }
    }
}

/// The elements of a list, or the value itself.
fn elements(value: &RawValue, mut line: u64) -> Result<Vec<Text>, serde_json::Error> {
    let whole = value.get();
    if !whole.starts_with('[') {
        return Ok(vec![Text { json: whole.to_owned(), line: Some(line) }]);
    }
    let items: Vec<&RawValue> = serde_json::from_str(whole)?;
    let mut seen = 0;
    let text = |item: &RawValue| {
        let start = item.get().as_ptr().addr() - whole.as_ptr().addr();
        line += newlines(&whole.as_bytes()[seen..start]);
        seen = start;
        Text { json: item.get().to_owned(), line: Some(line) }
    };
    Ok(items.into_iter().map(text).collect())
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// How far an input is read.
#[derive(Debug, Default)]
struct Place {
    newlines: AtomicU64,
    /// The line in which a value has begun, from 1; 0: none since the last one.
    begun: AtomicU64,
}

/// Notes the place. serde_json asks for a byte at a time, so nothing is noted before it is parsed.
struct Counted {
    reader: Box<dyn Read + Send>,
    place: Arc<Place>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(out)?;
        for byte in &out[..count] {
            if !byte.is_ascii_whitespace() && self.place.begun.load(Ordering::Relaxed) == 0 {
                self.place.begun.store(self.place.newlines.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            if *byte == b'\n' {
                self.place.newlines.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the values that can be read, and what is said of the one that can't.
    fn read(text: &'static str) -> (Vec<u64>, String) {
        let (mut lines, mut said) = (Vec::new(), String::new());
        for value in values("test".into(), Box::new(text.as_bytes())) {
            match value {
                Ok(text) => lines.push(text.line.unwrap()),
                Err(failure) => {
                    said = failure.text;
                    break;
                }
            }
        }
        (lines, said)
    }

    #[test]
    fn a_value_has_the_line_in_which_it_begins_empty_lines_and_lists_counted() {
        assert_eq!(
            read("\n{\"a\":1}\n\n \r\n{\n\"a\":\n2} 7\n[1,\n2, {\n\"b\":[\n]}, 3]\n\"x\"").0,
            [2, 5, 7, 8, 9, 9, 11, 12]
        );
    }

    #[test]
    fn a_broken_value_is_named_by_the_line_in_which_it_begins() {
        for (text, lines, said) in [
            (
                "{\"a\":1}\n\n{oops}\n{\"a\":3}\n",
                vec![1],
                "line 3 is not JSON: key must be a string at line 3 column 2",
            ),
            ("1\n\n\n{\"b\":1\n{\"a\":3}\n", vec![1], "line 4 is not JSON: expected `,` or `}` at line 5 column 1"),
            (
                "1\n\n{\"b\":\n\n{\"a\":3}\n",
                vec![1],
                "line 3 is not JSON: EOF while parsing an object at line 6 column 0",
            ),
            ("[1,\n2]\n3\n4x\n5\n", vec![1, 2, 3], "line 4 is not JSON: trailing characters at line 4 column 2"),
        ] {
            assert_eq!(read(text), (lines, format!("test: the value of {said}")), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_called_bad_json() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let first = values("test".into(), Box::new(Broken)).next().unwrap().unwrap_err();
        assert_eq!(first.text, "test: gone");
    }
}
