//! Dates as the administration plane writes them (admin.md 1.12).

use std::time::Duration;

use lockstep_model::Timestamp;

const MILLIS_PER_DAY: i64 = 24 * 3_600 * 1_000;

/// A time that has not been yet: the beginning of the calendar.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// `2030-01-01T00:00:00Z`.
pub(crate) fn to_seconds(time: Timestamp) -> String {
    let (seconds, _) = parts(time);
    format!("{seconds}Z")
}

/// `2030-01-01T00:00:00.0000000Z`, in ticks of .NET.
pub(crate) fn to_ticks(time: Timestamp) -> String {
    let (seconds, millis) = parts(time);
    format!("{seconds}.{millis:03}0000Z")
}

fn parts(time: Timestamp) -> (String, i64) {
    let millis = time.unix_millis();
    let (year, month, day) = civil(millis.div_euclid(MILLIS_PER_DAY));
    let of_day = millis.rem_euclid(MILLIS_PER_DAY);
    let time = Duration::from_millis(of_day.unsigned_abs());
    let (hour, minute, second) = (time.as_secs() / 3_600, time.as_secs() / 60 % 60, time.as_secs() % 60);
    (format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"), of_day % 1_000)
}

/// Year, month and day of a day number since 1970-01-01, counted in years that begin in March so
/// that a leap day ends one, in cycles of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (cycle, of_cycle) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + cycle * 400 + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_in_utc() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.0000000Z"),
            (-1, "1969-12-31T23:59:59.9990000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.0000000Z"),
            (1_709_251_199_007, "2024-02-29T23:59:59.0070000Z"),
        ] {
            assert_eq!(to_ticks(Timestamp::from_unix_millis(millis)), text);
        }
        assert_eq!(to_seconds(Timestamp::from_unix_millis(1_893_456_000_999)), "2030-01-01T00:00:00Z");
    }
}
