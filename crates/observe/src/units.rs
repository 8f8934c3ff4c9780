//! Figures: their sums, and as they stand in columns, in at most six characters.

use jaiminho_runtime::LATENCY_BOUNDS_MS;

/// As `987`, `12.5k`, `1.25M`; `–` where nothing is known.
pub(crate) fn count(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return "–".into() };
    let scaled = |by: f64, unit: &str| {
        let value = value / by;
        let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        format!("{value:.digits$}{unit}")
    };
    match value {
        ..1.0 if value > 0.0 => format!("{value:.2}"),
        ..100.0 if value.fract() != 0.0 => format!("{value:.1}"),
        ..9_999.5 => format!("{value:.0}"),
        ..999_500.0 => scaled(1e3, "k"),
        ..999.5e6 => scaled(1e6, "M"),
        _ => scaled(1e9, "G"),
    }
}

/// A percentile: beyond the last bound nobody knows by how much.
pub(crate) fn latency(ms: Option<f64>) -> String {
    let last = LATENCY_BOUNDS_MS.last().copied().unwrap_or_default() as f64;
    if ms.is_some_and(|ms| ms >= last) { format!(">{}", duration(Some(last))) } else { duration(ms) }
}

/// As `0.4ms`, `850ms`, `1.2s`, `12min`, `3.4h`.
pub(crate) fn duration(ms: Option<f64>) -> String {
    let Some(ms) = ms.filter(|ms| ms.is_finite()) else { return "–".into() };
    let seconds = ms / 1_000.0;
    match ms {
        ..=0.0 => "0".into(),
        ..9.95 => format!("{ms:.1}ms"),
        ..999.5 => format!("{ms:.0}ms"),
        ..9_950.0 => format!("{seconds:.1}s"),
        ..119_500.0 => format!("{seconds:.0}s"),
        ..7_170_000.0 => format!("{:.0}min", seconds / 60.0),
        ..172_800_000.0 => format!("{:.1}h", seconds / 3_600.0),
        _ => format!("{:.0}d", seconds / 86_400.0),
    }
}

/// Of what others tell, which may be any number.
pub(crate) fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// A share, as `45%`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0}%", share.clamp(0.0, 1.0) * 100.0)
}

/// Time of day in UTC, as `12:00:09`.
pub(crate) fn clock(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_three_digits_or_four_and_its_unit() {
        let counts = [0.0, 0.25, 9.87, 98.74, 98.0, 1_234.0, 12_345.0, 999_400.0, 999_600.0, 1.25e6, 3.2e9];
        let said = ["0", "0.25", "9.9", "98.7", "98", "1234", "12.3k", "999k", "1.00M", "1.25M", "3.20G"];
        assert_eq!(counts.map(|value| count(Some(value))), said);
        assert_eq!([count(None), count(Some(f64::NAN)), duration(None)], ["–", "–", "–"]);
        let times = [0.0, 0.42, 850.0, 1_240.0, 61_000.0, 720_000.0, 12_240_000.0, 4e8];
        let said = ["0", "0.4ms", "850ms", "1.2s", "61s", "12min", "3.4h", "5d"];
        assert_eq!(times.map(|ms| duration(Some(ms))), said);
        assert_eq!([-0.1, 0.454, 7.0].map(percent), ["0%", "45%", "100%"]);
        assert_eq!(clock(1_772_366_400_000 + 9_000), "12:00:09");
    }

    #[test]
    fn nothing_is_wider_than_six_characters() {
        for exponent in -30..60 {
            let value = 1.997_f64 * 1.5_f64.powi(exponent);
            for text in [count(Some(value.min(9e11))), duration(Some(value.min(8e12)))] {
                assert!(text.chars().count() <= 6, "{value}: {text}");
            }
        }
    }
}
