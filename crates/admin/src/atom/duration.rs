//! Durations of XML Schema, as .NET reads and writes them (admin.md 0.10, 1.12).

use std::{fmt::Write as _, time::Duration};

/// `TimeSpan.MaxValue`: what stands for ever.
pub(super) const FOR_EVER_TEXT: &str = "P10675199DT2H48M5.4775807S";
/// From here on a duration is for ever: clients round the last digits.
const FOR_EVER: Duration = Duration::from_secs(10_675_199 * SECONDS_PER_DAY);
const SECONDS_PER_DAY: u64 = 24 * 3_600;
/// Digits of a fraction that are looked at: ticks of .NET, of which a duration is shown to consist. So
/// what is shown reads back as it is.
const FRACTION_DIGITS: usize = 7;
const NANOS_PER_TICK: u32 = 100;

/// A duration, or for ever.
pub(super) fn parse_or_for_ever(text: &str) -> Option<Option<Duration>> {
    parse(text).map(|duration| Some(duration).filter(|duration| *duration < FOR_EVER))
}

/// A duration; `None` if the text is none, or is negative or has years or months, which have no
/// fixed length.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim().strip_prefix('P')?;
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    if text.is_empty() || time.is_some_and(str::is_empty) {
        return None;
    }
    let mut sum = Duration::ZERO;
    sum = add_parts(sum, date, &[('D', SECONDS_PER_DAY)])?;
    add_parts(sum, time.unwrap_or(""), &[('H', 3_600), ('M', 60), ('S', 1)])
}

/// Adds numbers and their units, each unit at most once and in order.
fn add_parts(mut sum: Duration, mut text: &str, mut units: &[(char, u64)]) -> Option<Duration> {
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = text.split_at(end);
        let unit = rest.chars().next()?;
        let at = units.iter().position(|(name, _)| *name == unit)?;
        let seconds_each = units[at].1;
        units = &units[at + 1..];
        text = &rest[unit.len_utf8()..];
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if unit == 'S' => (whole, nanos(fraction)?),
            Some(_) => return None,
            None => (number, 0),
        };
        // More digits than a number holds: longer than for ever.
        let whole = if whole.is_empty() { return None } else { whole.parse::<u64>().unwrap_or(u64::MAX) };
        sum = sum.saturating_add(Duration::new(whole.saturating_mul(seconds_each), fraction));
    }
    Some(sum)
}

fn nanos(fraction: &str) -> Option<u32> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let value: u32 = digits.parse().ok()?;
    Some(value * 10_u32.pow((FRACTION_DIGITS - digits.len()) as u32) * NANOS_PER_TICK)
}

/// The canonical text: days, hours, minutes and seconds, leaving out what is zero.
pub(super) fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let mut text = "P".to_owned();
    let mut put = |value: u64, unit: &str| {
        if value > 0 {
            let _ = write!(text, "{value}{unit}");
        }
    };
    put(seconds / SECONDS_PER_DAY, "D");
    let of_day = seconds % SECONDS_PER_DAY;
    if of_day > 0 || duration.subsec_nanos() > 0 || seconds == 0 {
        text.push('T');
        let mut put = |value: u64, unit: &str| {
            if value > 0 {
                let _ = write!(text, "{value}{unit}");
            }
        };
        put(of_day / 3_600, "H");
        put(of_day / 60 % 60, "M");
        // In ticks of .NET; what is finer is cut.
        let ticks = duration.subsec_nanos() / NANOS_PER_TICK;
        if ticks > 0 {
            let fraction = format!("{ticks:07}");
            let _ = write!(text, "{}.{}S", of_day % 60, fraction.trim_end_matches('0'));
        } else if !of_day.is_multiple_of(60) || text == "PT" {
            let _ = write!(text, "{}S", of_day % 60);
        }
    }
    text
}

/// The same, or for ever.
pub(super) fn text_or_for_ever(duration: Option<Duration>) -> String {
    duration.map_or_else(|| FOR_EVER_TEXT.to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_spelling_that_clients_send() {
        for (text, millis) in [
            ("PT1M", 60_000),
            ("PT60S", 60_000),
            ("P7D", 604_800_000),
            ("P1DT2H3M4.5S", 93_784_500),
            (" PT0.0010000S ", 1),
            ("PT0S", 0),
            ("PT36H", 129_600_000),
            ("PT1.9999999999999S", 1_999),
        ] {
            assert_eq!(parse(text).map(|d| d.as_millis()), Some(millis), "{text}");
        }
    }

    #[test]
    fn what_is_finer_than_a_tick_is_cut_so_that_a_duration_reads_back_as_it_is_shown() {
        let cut = parse("PT5.47765807S").expect("a duration");
        assert_eq!(cut, Duration::new(5, 477_658_000));
        assert_eq!(parse(&text(cut)), Some(cut));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in [
            "", "P", "PT", "1M", "-PT1M", "P1Y", "P1M", "PT1", "PTM", "PT1M1H", "PT1S1S", "PT1.5M", "PT.5S",
            "PT1.S", "PT1E3S", "P1DT", "PT1..2S", "PT1H P1D",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn for_ever_comes_in_several_spellings_and_goes_out_in_one() {
        for text in [
            FOR_EVER_TEXT,
            "P10675199DT2H48M5.477S",
            "P10675199DT2H48M5.477581S",
            "P10675199DT2H48M5.477539S",
            "PT256204778H48M5.4775807S",
            "P99999999999999999999999D",
        ] {
            assert_eq!(parse_or_for_ever(text), Some(None), "{text}");
        }
        assert_eq!(text_or_for_ever(None), FOR_EVER_TEXT);
    }

    #[test]
    fn durations_go_out_in_the_spelling_of_dotnet() {
        for (millis, expected) in [
            (45_000, "PT45S"),
            (601_000, "PT10M1S"),
            (48 * 3_600_000, "P2D"),
            (5_400_000, "PT1H30M"),
            (0, "PT0S"),
            (1_500, "PT1.5S"),
            (60_500, "PT1M0.5S"),
            (93_784_000, "P1DT2H3M4S"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(text(duration), expected);
            assert_eq!(parse(expected), Some(duration));
        }
    }
}
