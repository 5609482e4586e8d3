//! Points in time, given by the caller.

use core::{fmt, str::FromStr};

use thiserror::Error;

const SECONDS_PER_DAY: i64 = 86_400;

/// A point in time, whole seconds since 1970-01-01T00:00:00Z without leap seconds.
///
/// The library reads no clock: every check is told what time it is.
///
/// ```
/// use switchback_signing::time::UnixTime;
/// let time = UnixTime::parse_rfc3339("2027-01-01T00:00:00Z")?;
/// assert_eq!(time.seconds(), 1_798_761_600);
/// assert_eq!(time.plus_seconds(61).to_string(), "2027-01-01T00:01:01Z");
/// # Ok::<(), switchback_signing::time::TimeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

/// Text that is not a time in the form TUF and Uptane metadata use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a time of the form 2027-01-31T23:59:59Z")]
pub struct TimeError;

impl UnixTime {
    /// The earliest time that can be written with a four-digit year: 0000-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_167_219_200);
    /// The latest time that can be written with a four-digit year: 9999-12-31T23:59:59Z.
    pub const MAX: Self = Self(253_402_300_799);

    /// The time `seconds` after 1970-01-01T00:00:00Z, held between [`UnixTime::MIN`] and [`UnixTime::MAX`].
    pub const fn from_seconds(seconds: i64) -> Self {
        if seconds < Self::MIN.0 {
            Self::MIN
        } else if seconds > Self::MAX.0 {
            Self::MAX
        } else {
            Self(seconds)
        }
    }

    /// Parses `YYYY-MM-DDTHH:MM:SSZ`, the only form the TUF specification (section 4.2.1) allows.
    ///
    /// # Errors
    /// [`TimeError`] when the text has another form or names no day or second of the calendar.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimeError> {
        let bytes: &[u8; 20] = text.as_bytes().try_into().map_err(|_| TimeError)?;
        let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
        if punctuation.iter().any(|&(at, mark)| bytes[at] != mark) {
            return Err(TimeError);
        }
        let (year, month, day) = (number(&bytes[0..4])?, number(&bytes[5..7])?, number(&bytes[8..10])?);
        let (hour, minute, second) = (number(&bytes[11..13])?, number(&bytes[14..16])?, number(&bytes[17..19])?);
        let date_exists = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
        if !date_exists || hour > 23 || minute > 59 || second > 59 {
            return Err(TimeError);
        }
        let days = days_from_civil(year, month, day);
        Ok(Self(days * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second))
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub const fn seconds(self) -> i64 {
        self.0
    }

    /// The time `seconds` later (earlier when negative), held between [`UnixTime::MIN`] and [`UnixTime::MAX`].
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self::from_seconds(self.0.saturating_add(seconds))
    }

    /// The time `days` days later (earlier when negative).
    #[must_use]
    pub const fn plus_days(self, days: i64) -> Self {
        self.plus_seconds(days.saturating_mul(SECONDS_PER_DAY))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(SECONDS_PER_DAY), self.0.rem_euclid(SECONDS_PER_DAY));
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl FromStr for UnixTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        Self::parse_rfc3339(text)
    }
}

fn number(digits: &[u8]) -> Result<i64, TimeError> {
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'9' => Ok(value * 10 + i64::from(digit - b'0')),
        _ => Err(TimeError),
    })
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. The year is taken to begin in March, so that the leap day is its
/// last and a month's first day is a linear function of its number; 400 years always have 146,097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_instants_are_read_and_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-20T13:45:06Z", 1_795_182_306),
            ("9999-12-31T23:59:59Z", UnixTime::MAX.seconds()),
            ("0000-01-01T00:00:00Z", UnixTime::MIN.seconds()),
        ] {
            let time = UnixTime::parse_rfc3339(text).unwrap();
            assert_eq!((time.seconds(), time.to_string().as_str()), (seconds, text));
        }
    }

    #[test]
    fn text_that_is_no_calendar_time_is_refused() {
        for text in [
            "2027-02-29T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-00-01T00:00:00Z",
            "2027-01-01T24:00:00Z",
            "2027-01-01T00:00:60Z",
            "2027-01-01T00:00:00",
            "2027-01-01 00:00:00Z",
            "2027-01-01T00:00:00.5Z",
            "+027-01-01T00:00:00Z",
            "",
        ] {
            assert_eq!(UnixTime::parse_rfc3339(text), Err(TimeError), "{text}");
        }
        assert_eq!(TimeError.to_string(), "not a time of the form 2027-01-31T23:59:59Z");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(UnixTime::MAX.plus_seconds(1), UnixTime::MAX);
        assert_eq!(UnixTime::MIN.plus_seconds(i64::MIN), UnixTime::MIN);
        assert_eq!(UnixTime::from_seconds(5).plus_days(1).seconds(), 86_405);
    }

    proptest! {
        #[test]
        fn every_second_survives_a_round_trip(seconds in UnixTime::MIN.seconds()..=UnixTime::MAX.seconds()) {
            let time = UnixTime::from_seconds(seconds);
            prop_assert_eq!(UnixTime::parse_rfc3339(&time.to_string()), Ok(time));
        }
    }
}
