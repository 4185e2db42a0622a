//! Times and durations as text, for the descriptions that clients show.

use std::{fmt, time::Duration};

use lockstep_model::Timestamp;

const MILLIS_PER_DAY: i64 = 86_400_000;
const SECONDS_PER_HOUR: u64 = 3_600;

/// Shows a time as ISO 8601 in UTC with milliseconds, e.g. `2030-01-01T00:00:00.000Z`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Iso8601(pub(crate) Timestamp);

impl fmt::Display for Iso8601 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.unix_millis();
        let (year, month, day) = civil_from_days(millis.div_euclid(MILLIS_PER_DAY));
        let of_day = millis.rem_euclid(MILLIS_PER_DAY);
        let (seconds, millis) = (of_day / 1000, of_day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// Shows a duration as `hh:mm:ss` or, with a fraction, `hh:mm:ss.fff`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HoursMinutesSeconds(pub(crate) Duration);

impl fmt::Display for HoursMinutesSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes) = (seconds / SECONDS_PER_HOUR, seconds / 60 % 60);
        write!(f, "{hours:02}:{minutes:02}:{:02}", seconds % 60)?;
        match self.0.subsec_millis() {
            0 => Ok(()),
            millis => write!(f, ".{millis:03}"),
        }
    }
}

/// Year, month and day of a day number since 1970-01-01, in the proleptic Gregorian calendar.
/// Years are counted from March, so that the leap day is the last day of a year, in cycles of
/// 400 years of 146,097 days.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let since_march_0000 = days + 719_468;
    let cycle = since_march_0000.div_euclid(146_097);
    let day_of_cycle = since_march_0000.rem_euclid(146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_cycle + cycle * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_893_456_000_000, "2030-01-01T00:00:00.000Z"),
            (1_709_251_199_007, "2024-02-29T23:59:59.007Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Iso8601(Timestamp::from_unix_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn durations_are_shown_in_hours_minutes_and_seconds() {
        for (millis, text) in [(65_000, "00:01:05"), (1_500, "00:00:01.500"), (3_661_000, "01:01:01")] {
            assert_eq!(HoursMinutesSeconds(Duration::from_millis(millis)).to_string(), text);
        }
    }
}
