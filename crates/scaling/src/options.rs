//! How a stage is to be scaled.

use std::{ops::RangeInclusive, time::Duration};

use thiserror::Error;

/// See the fields: each has a default that suits most stages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// `target`: share of its time, 0.1 to 0.9, in which an instance should have all the work that it can do.
    pub target: f64,
    /// `drain`: within so long the events that wait should be gone.
    pub drain: Duration,
    /// `growth`: at most so many times as many instances in one decision.
    pub growth: f64,
    /// `startup`: an instance that is younger has not shown yet what it can do.
    pub startup: Duration,
    /// `downAfter`: fewer instances must have been enough for so long.
    pub down_after: Duration,
    /// `eventsPerInstance`: events a second of which one instance is full. None: it is found out; for a source it can't be.
    pub events_per_instance: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target: 0.6,
            drain: Duration::from_secs(30),
            growth: 2.0,
            startup: Duration::from_secs(30),
            down_after: Duration::from_secs(60),
            events_per_instance: None,
        }
    }
}

/// An option's value that can't be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{key}` is `{value}`, and must be {expected}")]
pub struct OptionError {
    key: String,
    value: String,
    expected: &'static str,
}

const SHARE: &str = "a number from 0.1 to 0.9";
const FACTOR: &str = "a number from 1.1 to 10";
const TIME: &str = "a time from 1s to 1h, such as 30s or 2m";
const RATE: &str = "a number above 0";

impl Options {
    /// The names of all of them.
    pub const KEYS: [&'static str; 6] = ["target", "drain", "growth", "startup", "downAfter", "eventsPerInstance"];

    /// Sets the option of this name; false: there is none.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, OptionError> {
        let wrong = |expected| OptionError { key: key.to_owned(), value: value.to_owned(), expected };
        match key {
            "target" => self.target = number(value, 0.1..=0.9).ok_or_else(|| wrong(SHARE))?,
            "growth" => self.growth = number(value, 1.1..=10.0).ok_or_else(|| wrong(FACTOR))?,
            "drain" => self.drain = time(value).ok_or_else(|| wrong(TIME))?,
            "startup" => self.startup = time(value).ok_or_else(|| wrong(TIME))?,
            "downAfter" => self.down_after = time(value).ok_or_else(|| wrong(TIME))?,
            "eventsPerInstance" => {
                self.events_per_instance = Some(number(value, 1e-3..=1e9).ok_or_else(|| wrong(RATE))?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn number(text: &str, range: RangeInclusive<f64>) -> Option<f64> {
    text.trim().parse().ok().filter(|number| range.contains(number))
}

fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, seconds) = [("h", 3_600), ("m", 60), ("s", 1)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let seconds = number.trim().parse::<u64>().ok()?.checked_mul(seconds)?;
    (1..=3_600).contains(&seconds).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_has_a_name_and_is_read() {
        let mut options = Options::default();
        let given = [
            ("target", "0.7"),
            ("drain", "2m"),
            ("growth", "3"),
            ("startup", "45s"),
            ("downAfter", "1h"),
            ("eventsPerInstance", "5000"),
        ];
        assert_eq!(given.map(|(key, _)| key), Options::KEYS);
        for (key, value) in given {
            assert_eq!(options.set(key, value), Ok(true), "{key}");
        }
        let seconds = Duration::from_secs;
        let read = Options {
            target: 0.7,
            drain: seconds(120),
            growth: 3.0,
            startup: seconds(45),
            down_after: seconds(3_600),
            events_per_instance: Some(5_000.0),
        };
        assert_eq!(options, read);
        assert_eq!(options.set("scalerAddress", "scaler:7500"), Ok(false));
    }

    #[test]
    fn what_can_not_be_is_told_with_what_can() {
        for (key, value) in [
            ("target", "60"),
            ("target", "NaN"),
            ("growth", "1"),
            ("drain", "30"),
            ("drain", "0s"),
            ("downAfter", "2h"),
            ("startup", "-1s"),
            ("eventsPerInstance", "inf"),
        ] {
            let mut options = Options::default();
            let error = options.set(key, value).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{key}` is `{value}`, and must be a ")), "{error}");
            assert_eq!(options, Options::default());
        }
    }
}
