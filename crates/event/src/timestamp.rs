//! RFC 3339 text to protobuf's `Timestamp` (seconds and nanoseconds since 1970) and back.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::EventError;

/// Seconds since 1970 and nanoseconds of an RFC 3339 text; years 1 to 9999.
pub fn parse_timestamp(text: &str) -> Result<(i64, u32), EventError> {
    let wrong = || EventError::new(format!("`{}` is not an RFC 3339 time, as 2026-01-31T23:59:59.5Z", brief(text)));
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    let time = time.checked_to_offset(UtcOffset::UTC).ok_or_else(wrong)?;
    if !(1..=9999).contains(&time.year()) {
        return Err(wrong());
    }
    Ok((time.unix_timestamp(), time.nanosecond()))
}

/// RFC 3339 text in UTC with as many decimals as needed; `None` outside the years 1 to 9999.
pub fn format_timestamp(seconds: i64, nanos: u32) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?.replace_nanosecond(nanos).ok()?;
    if !(1..=9999).contains(&time.year()) {
        return None;
    }
    time.format(&Rfc3339).ok()
}

/// The beginning of a text that an error quotes: what a stranger sent must not fill a log.
pub(crate) fn brief(text: &str) -> &str {
    let mut end = text.len().min(64);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
