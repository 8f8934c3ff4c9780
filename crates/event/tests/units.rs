//! Durations and sizes.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jaiminho_event::units::{ByteSize, HumanDuration};
use proptest::prelude::*;

#[test]
fn durations_are_read_with_their_unit() {
    for (text, ms) in [
        ("500ms", 500),
        ("30s", 30_000),
        ("2m", 120_000),
        ("1h30m", 5_400_000),
        (" 7 d ", 604_800_000),
        ("1m 5s", 65_000),
        ("0s", 0),
    ] {
        assert_eq!(text.parse::<HumanDuration>().map(|it| it.0), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in ["", "30", "s", "1.5s", "-1s", "30 sec", "5s1m", "1s1s", "9999999999999999999d", "99999999999999999d"] {
        let error = text.parse::<HumanDuration>().unwrap_err().to_string();
        assert!(
            error.ends_with(r#"is not a duration with its unit, as "500ms", "30s", "2m", "1h30m" or "7d""#),
            "{error}"
        );
    }
}

#[test]
fn sizes_are_read_with_or_without_unit() {
    for (text, bytes) in [
        ("4096", 4_096),
        ("1MiB", 1 << 20),
        ("64KiB", 65_536),
        ("2MB", 2_000_000),
        ("2 mb", 2_000_000),
        ("3GiB", 3 << 30),
        ("5B", 5),
    ] {
        assert_eq!(text.parse::<ByteSize>(), Ok(ByteSize(bytes)), "{text}");
    }
    for text in ["", "MiB", "1.5MiB", "-1", "1 TiB", "99999999999GiB"] {
        let error = text.parse::<ByteSize>().unwrap_err().to_string();
        assert!(error.ends_with(r#"is not a size in bytes, as 4096, "64KiB", "1MiB" or "2MB""#), "{error}");
    }
}

#[test]
fn wrong_types_are_told_what_is_wanted() {
    let error = serde_json::from_str::<HumanDuration>("30").unwrap_err().to_string();
    assert!(error.contains("invalid type: integer `30`, expected a duration with its unit"), "{error}");
    let error = serde_json::from_str::<ByteSize>("-1").unwrap_err().to_string();
    assert!(error.contains("invalid value: integer `-1`, expected a size in bytes"), "{error}");
    assert_eq!(serde_json::from_str::<ByteSize>("17").unwrap(), ByteSize(17));
}

proptest! {
    #[test]
    fn what_is_written_is_read(number: u64, unit in 0..50u32) {
        let duration = HumanDuration::from_millis(number >> unit);
        let text = serde_json::to_string(&duration).unwrap();
        prop_assert_eq!(serde_json::from_str::<HumanDuration>(&text).unwrap(), duration);
        let size = ByteSize((number >> unit) << (unit % 31));
        let text = serde_json::to_string(&size).unwrap();
        prop_assert_eq!(serde_json::from_str::<ByteSize>(&text).unwrap(), size);
    }

    #[test]
    fn any_text_is_a_unit_or_an_error(text in "[0-9a-zA-Z. µ-]{0,12}") {
        let _ = (text.parse::<HumanDuration>(), text.parse::<ByteSize>());
    }
}
