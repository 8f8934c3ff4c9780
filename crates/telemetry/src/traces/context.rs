//! W3C trace context: which trace an event belongs to, and which of its spans is the last one.

use std::fmt::Write as _;

use rand::RngCore as _;

/// A span's id: never all zeros.
pub type SpanId = [u8; 8];

/// The 25 bytes that travel with a sampled event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Never all zeros.
    pub trace: [u8; 16],
    /// The span that what follows is a child of.
    pub span: SpanId,
    /// Bit 0: sampled.
    pub flags: u8,
}

/// Why a text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: 00-TRACE-SPAN-FLAGS with 32, 16 and 2 lower-case hexadecimal digits, no id all zeros")]
pub struct ContextError;

const SAMPLED: u8 = 1;

impl TraceContext {
    /// A sampled trace of its own.
    pub fn root() -> Self {
        let mut trace = [0; 16];
        rand::rng().fill_bytes(&mut trace);
        trace[0] |= 1;
        Self { trace, span: new_span(), flags: SAMPLED }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span: new_span(), ..*self }
    }

    /// The same, to be recorded.
    #[must_use]
    pub fn sampled(self) -> Self {
        Self { flags: self.flags | SAMPLED, ..self }
    }

    /// Whether its spans are to be recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As it travels with an event.
    pub fn to_bytes(self) -> [u8; 25] {
        let mut bytes = [self.flags; 25];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..24].copy_from_slice(&self.span);
        bytes
    }

    /// The reverse of [`Self::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 25]) -> Self {
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&bytes[..16]);
        span.copy_from_slice(&bytes[16..24]);
        Self { trace, span, flags: bytes[24] }
    }

    /// Reads a `traceparent`; of a later version than 00, what 00 has.
    ///
    /// # Errors
    /// See [`ContextError`].
    pub fn parse(text: &str) -> Result<Self, ContextError> {
        let bytes = text.as_bytes();
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let ends = match (bytes.get(..2), bytes.get(55)) {
            (Some(b"00"), None) => true,
            (Some(b"00" | b"ff") | None, _) => false,
            (Some(_), after) => matches!(after, None | Some(b'-')),
        };
        let mut version = [0; 1];
        let mut context = Self { trace: [0; 16], span: [0; 8], flags: 0 };
        let mut flags = [0; 1];
        let is_hex = bytes.len() >= 55
            && dashes
            && ends
            && unhex(&bytes[..2], &mut version)
            && unhex(&bytes[3..35], &mut context.trace)
            && unhex(&bytes[36..52], &mut context.span)
            && unhex(&bytes[53..55], &mut flags);
        context.flags = flags[0];
        let is_valid = is_hex && context.trace != [0; 16] && context.span != [0; 8];
        is_valid.then_some(context).ok_or(ContextError)
    }

    /// As a `traceparent`.
    pub fn to_traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.trace), hex(&self.span), self.flags)
    }

    /// The trace's id in hexadecimal digits, as Jaeger shows it.
    pub fn trace_hex(&self) -> String {
        hex(&self.trace)
    }
}

/// A new span's id.
pub(crate) fn new_span() -> SpanId {
    let mut span = [0; 8];
    rand::rng().fill_bytes(&mut span);
    span[0] |= 1;
    span
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string never fails.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// Lower-case digits only; whether it fits.
fn unhex(text: &[u8], into: &mut [u8]) -> bool {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    text.len() == 2 * into.len()
        && text.chunks_exact(2).zip(into).all(|(pair, byte)| match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => {
                *byte = high << 4 | low;
                true
            }
            (None, _) | (_, None) => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(text).unwrap();
        assert_eq!(context.to_traceparent(), text);
        assert!(context.is_sampled());
        assert_eq!(TraceContext::from_bytes(&context.to_bytes()), context);
        let later = text.replacen("00", "cc", 1) + "-more";
        assert_eq!(TraceContext::parse(&later), Ok(context));
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e4é36-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), Err(ContextError), "{wrong}");
        }
    }

    #[test]
    fn ids_are_never_zeros_and_children_stay_in_their_trace() {
        let root = TraceContext::root();
        let child = root.child();
        assert!(root.is_sampled() && child.trace == root.trace && child.span != root.span);
    }
}
