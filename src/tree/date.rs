//! Dates as names and tables show them: UTC, and a year of four digits whatever the server said.

use chrono::{DateTime, Datelike, Timelike, Utc};

/// First second of the year 0000 and last second of the year 9999, seconds since 1970.
const RANGE: (i64, i64) = (-62_167_219_200, 253_402_300_799);

fn utc(seconds: i64) -> DateTime<Utc> {
    // Inside the range chrono knows every second.
    DateTime::from_timestamp(seconds.clamp(RANGE.0, RANGE.1), 0).unwrap_or_default()
}

fn push_digits(out: &mut String, number: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(char::from(b'0' + (number / 10u32.pow(place) % 10) as u8));
    }
}

fn push_day(out: &mut String, date: &DateTime<Utc>) {
    push_digits(out, date.year().unsigned_abs(), 4);
    out.push('-');
    push_digits(out, date.month(), 2);
    out.push('-');
    push_digits(out, date.day(), 2);
    out.push('T');
}

/// Appends `2026-11-21T0905`, 15 octets. `seconds` since 1970 UTC; before the year 0000 and after 9999 the nearest
/// second inside stands for it.
pub fn push_minute(out: &mut String, seconds: i64) {
    let date = utc(seconds);
    push_day(out, &date);
    push_digits(out, date.hour(), 2);
    push_digits(out, date.minute(), 2);
}

/// `2026-11-21T09:05:00Z` (RFC 3339); the same range as [`push_minute`].
pub fn rfc3339(seconds: i64) -> String {
    let date = utc(seconds);
    let mut out = String::with_capacity(20);
    push_day(&mut out, &date);
    for (part, end) in [(date.hour(), ':'), (date.minute(), ':'), (date.second(), 'Z')] {
        push_digits(&mut out, part, 2);
        out.push(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_utc_and_have_four_digits_of_year() {
        for (seconds, minute, full) in [
            (0, "1970-01-01T0000", "1970-01-01T00:00:00Z"),
            (1_795_251_959, "2026-11-21T0905", "2026-11-21T09:05:59Z"),
            (-1, "1969-12-31T2359", "1969-12-31T23:59:59Z"),
            (RANGE.0, "0000-01-01T0000", "0000-01-01T00:00:00Z"),
            (i64::MIN, "0000-01-01T0000", "0000-01-01T00:00:00Z"),
            (i64::MAX, "9999-12-31T2359", "9999-12-31T23:59:59Z"),
        ] {
            let mut out = String::new();
            push_minute(&mut out, seconds);
            assert_eq!((out.as_str(), rfc3339(seconds).as_str()), (minute, full), "{seconds}");
        }
    }
}
