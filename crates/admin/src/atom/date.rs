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

/// A date in that form, with any number of digits behind the second, in UTC. `None` for any other,
/// and for [`NEVER`].
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.trim().strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if !fraction.chars().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let days = day_number(year, month, day);
    if year < 2 || civil(days) != (year, month, day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(Timestamp::from_unix_millis(
        days * MILLIS_PER_DAY + ((hour * 60 + minute) * 60 + second) * 1_000 + millis,
    ))
}

/// Three numbers of so many digits each.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(between).zip(digits).map(|(part, digits)| {
        let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse().ok()).flatten()
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    (text.len() == digits.iter().sum::<usize>() + 2).then_some(numbers)
}

/// The day number that [`civil`] takes apart, of a month from 1 to 12.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (cycle, of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    cycle * 146_097 + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - 719_468
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

    #[test]
    fn dates_are_read_as_they_are_written() {
        for millis in [0, -1, 951_782_400_000, 1_709_251_199_007, 253_402_300_799_999, -62_104_060_800_000] {
            let time = Timestamp::from_unix_millis(millis);
            assert_eq!(parse(&to_ticks(time)), Some(time));
        }
        let time = |millis| Some(Timestamp::from_unix_millis(millis));
        assert_eq!(parse("1970-01-01T00:00:01Z"), time(1_000));
        assert_eq!(parse(" 1970-01-01T00:00:00.0199999Z\n"), time(19));
        for text in [
            "",
            "Z",
            NEVER,
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00+01:00",
            "1970-01-01T24:00:00Z",
            "1970-02-29T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-00-01T00:00:00Z",
            "1970-1-001T00:00:00Z",
            "1970-01-01-01T00:00:00Z",
            "1970-01-01T00:00:00.é0Z",
            "+970-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
