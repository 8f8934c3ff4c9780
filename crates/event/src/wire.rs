//! The few parts of the protobuf encoding that an event needs: read without copying, written into one buffer.

use bytes::BufMut as _;

use crate::EventError;

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const LEN: u8 = 2;
pub(crate) const FIXED32: u8 = 5;

/// A field's value as it stands in the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Bytes(&'a [u8], usize),
    /// Fixed-size values: no field that an event has uses them.
    Fixed,
}

/// Walks the fields of a message. Never allocates, and ends at the first error.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Fields<'a> {
    /// `position` is where `bytes` starts in the outermost message: for errors.
    pub(crate) fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { rest: bytes, position }
    }

    /// Number, value and position of the next field.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Raw<'a>, usize)>, EventError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.position;
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or_else(|| EventError::at(start, "not protobuf: field number out of range"))?;
        let raw = match (key & 7) as u8 {
            VARINT => Raw::Varint(self.varint()?),
            FIXED64 => self.take(8, start).map(|_| Raw::Fixed)?,
            FIXED32 => self.take(4, start).map(|_| Raw::Fixed)?,
            LEN => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let at = self.position;
                Raw::Bytes(self.take(length, start)?, at)
            }
            other => return Err(EventError::at(start, format!("not protobuf: wire type {other} is not in use"))),
        };
        Ok(Some((number, raw, start)))
    }

    fn varint(&mut self) -> Result<u64, EventError> {
        let start = self.position;
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && byte > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                self.position += index + 1;
                return Ok(value);
            }
        }
        Err(EventError::at(start, "not protobuf: a varint that has no end, or more than 64 bits"))
    }

    fn take(&mut self, length: usize, field: usize) -> Result<&'a [u8], EventError> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            let left = self.rest.len();
            return Err(EventError::at(
                field,
                format!("not protobuf: a field of {length} bytes where {left} are left"),
            ));
        };
        self.rest = rest;
        self.position += length;
        Ok(taken)
    }
}

/// Length of a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Length of a length-delimited field with a number below 16.
pub(crate) fn field_len(content: usize) -> usize {
    1 + varint_len(content as u64) + content
}

pub(crate) fn put_varint(out: &mut &mut [u8], mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Key and length of a length-delimited field with a number below 16; the content is to follow.
pub(crate) fn put_head(out: &mut &mut [u8], number: u8, length: usize) {
    out.put_u8(number << 3 | LEN);
    put_varint(out, length as u64);
}

pub(crate) fn put_bytes(out: &mut &mut [u8], number: u8, content: &[u8]) {
    put_head(out, number, content.len());
    out.put_slice(content);
}

pub(crate) fn put_number(out: &mut &mut [u8], number: u8, value: u64) {
    out.put_u8(number << 3 | VARINT);
    put_varint(out, value);
}
