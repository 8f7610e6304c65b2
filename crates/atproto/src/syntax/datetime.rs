//! Datetimes as records have them: the intersection of RFC 3339, ISO 8601 and what the protocol allows.
//!
//! Times are microseconds since the epoch, UTC, on the proleptic Gregorian calendar without leap seconds. Finer digits
//! are cut off. Years are 0000 to 9999, and a time that its offset moves before year 0 is refused.

use super::SyntaxError;

/// How long a datetime may be.
pub const DATETIME_BYTES_MAX: usize = 64;

const SECOND_US: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;
// 0000-03-01 to 1970-01-01. Years that start in March put the leap day at their end.
const EPOCH_DAYS: i64 = 719_468;
const ERA_DAYS: i64 = 146_097;
const YEAR_ZERO_SECONDS: i64 = -62_167_219_200;

/// Reads a datetime as microseconds since the epoch.
///
/// # Errors
/// Text of another form, and times that do not exist, such as month 0 or hour 25.
pub fn parse(text: &str) -> Result<i64, SyntaxError> {
    let fields = Fields::read(text)?;
    let day_max = match fields.month {
        2 if is_leap(fields.year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let checks = [
        (5, (1..=12).contains(&fields.month)),
        (8, (1..=day_max).contains(&fields.day)),
        (11, fields.hour <= 23),
        (14, fields.minute <= 59),
        (17, fields.second <= 59),
        (
            fields.offset_at,
            fields.offset_hour <= 23 && fields.offset_minute <= 59,
        ),
    ];
    if let Some((at, _)) = checks.into_iter().find(|(_, holds)| !holds) {
        return Err(SyntaxError::Value { at });
    }
    let offset = (fields.offset_hour * 3600 + fields.offset_minute * 60) * fields.offset_sign;
    let seconds = days_of(fields.year, fields.month, fields.day) * DAY_SECONDS
        + fields.hour * 3600
        + fields.minute * 60
        + fields.second
        - offset;
    if seconds < YEAR_ZERO_SECONDS {
        return Err(SyntaxError::Value { at: 0 });
    }
    Ok(seconds * SECOND_US + fields.micros)
}

/// Whether `text` has the form of a datetime; the time may be one that does not exist.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    Fields::read(text).is_ok()
}

/// Writes a time in the form that the specification prefers, `YYYY-MM-DDTHH:MM:SS.mmmZ`, cut to milliseconds.
///
/// Beyond the years 0000 to 9999 it is ISO 8601's expanded form (`+012345-…`), which [`parse`] refuses.
#[must_use]
pub fn canonical(us: i64) -> String {
    let days = us.div_euclid(DAY_SECONDS * SECOND_US);
    let millis = us.rem_euclid(DAY_SECONDS * SECOND_US) / 1000;
    let (year, month, day) = date_of(days);
    let mut text = String::with_capacity(24);
    if (0..=9999).contains(&year) {
        put_digits(&mut text, year, 4);
    } else {
        text.push(if year < 0 { '-' } else { '+' });
        put_digits(&mut text, year.abs(), 6);
    }
    let rest = [
        ('-', month, 2),
        ('-', day, 2),
        ('T', millis / 3_600_000, 2),
        (':', millis / 60_000 % 60, 2),
        (':', millis / 1000 % 60, 2),
        ('.', millis % 1000, 3),
    ];
    for (separator, value, width) in rest {
        text.push(separator);
        put_digits(&mut text, value, width);
    }
    text.push('Z');
    text
}

fn put_digits(text: &mut String, value: i64, width: u32) {
    for place in (0..width).rev() {
        text.push(char::from(b'0' + (value / 10_i64.pow(place) % 10) as u8));
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Counts the days from the epoch to a date.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year
        - EPOCH_DAYS
}

/// Undoes [`days_of`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let era = days.div_euclid(ERA_DAYS);
    let day_of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The numbers of a datetime, not yet checked for their ranges.
struct Fields {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    offset_at: usize,
    offset_sign: i64,
    offset_hour: i64,
    offset_minute: i64,
}

impl Fields {
    fn read(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > DATETIME_BYTES_MAX {
            return Err(SyntaxError::Length {
                bytes: text.len(),
                max: DATETIME_BYTES_MAX,
            });
        }
        let mut scan = Scan {
            bytes: text.as_bytes(),
            at: 0,
        };
        let year = scan.number(4)?;
        scan.expect(b'-')?;
        let month = scan.number(2)?;
        scan.expect(b'-')?;
        let day = scan.number(2)?;
        scan.expect(b'T')?;
        let hour = scan.number(2)?;
        scan.expect(b':')?;
        let minute = scan.number(2)?;
        scan.expect(b':')?;
        let second = scan.number(2)?;
        let micros = if scan.peek() == Some(b'.') {
            scan.fraction()?
        } else {
            0
        };
        let offset_at = scan.at;
        let (offset_sign, offset_hour, offset_minute) = scan.offset()?;
        if scan.at != text.len() {
            return Err(SyntaxError::Character { at: scan.at });
        }
        Ok(Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
            micros,
            offset_at,
            offset_sign,
            offset_hour,
            offset_minute,
        })
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), SyntaxError> {
        if self.peek() != Some(byte) {
            return Err(SyntaxError::Character { at: self.at });
        }
        self.at += 1;
        Ok(())
    }

    fn number(&mut self, digits: usize) -> Result<i64, SyntaxError> {
        let mut number = 0;
        for _ in 0..digits {
            let Some(digit @ b'0'..=b'9') = self.peek() else {
                return Err(SyntaxError::Character { at: self.at });
            };
            number = number * 10 + i64::from(digit - b'0');
            self.at += 1;
        }
        Ok(number)
    }

    /// Reads a point and 1 to 20 digits, of which the first six count.
    fn fraction(&mut self) -> Result<i64, SyntaxError> {
        self.expect(b'.')?;
        let start = self.at;
        let (mut micros, mut unit) = (0, SECOND_US / 10);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            micros += i64::from(digit - b'0') * unit;
            unit /= 10;
            self.at += 1;
        }
        if (1..=20).contains(&(self.at - start)) {
            Ok(micros)
        } else {
            Err(SyntaxError::Part { at: start })
        }
    }

    /// Reads `Z` or an offset; ISO 8601 has no `-00:00`.
    fn offset(&mut self) -> Result<(i64, i64, i64), SyntaxError> {
        let start = self.at;
        let sign = match self.peek() {
            Some(b'Z') => {
                self.at += 1;
                return Ok((1, 0, 0));
            }
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(SyntaxError::Character { at: start }),
        };
        self.at += 1;
        let hour = self.number(2)?;
        self.expect(b':')?;
        let minute = self.number(2)?;
        if sign < 0 && hour == 0 && minute == 0 {
            return Err(SyntaxError::Value { at: start });
        }
        Ok((sign, hour, minute))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_are_the_known_numbers() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(parse("1969-12-31T23:59:59.999999Z"), Ok(-1));
        assert_eq!(
            parse("2000-02-29T12:00:00.5+01:30"),
            Ok(951_820_200_500_000)
        );
        assert_eq!(
            parse("0000-01-01T00:00:00Z"),
            Ok(YEAR_ZERO_SECONDS * SECOND_US)
        );
        assert_eq!(
            parse("2022-11-17T00:35:16.391123999Z"),
            Ok(1_668_645_316_391_123)
        );
        assert_eq!(canonical(1_668_645_316_391_123), "2022-11-17T00:35:16.391Z");
        assert_eq!(canonical(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn days_that_a_month_lacks_are_refused() {
        assert_eq!(
            parse("1900-02-29T00:00:00Z"),
            Err(SyntaxError::Value { at: 8 })
        );
        assert_eq!(
            parse("2023-04-31T00:00:00Z"),
            Err(SyntaxError::Value { at: 8 })
        );
        assert_eq!(
            parse("2016-12-31T23:59:60Z"),
            Err(SyntaxError::Value { at: 17 })
        );
    }

    #[test]
    fn years_beyond_four_digits_are_written_and_not_read() {
        assert_eq!(canonical(i64::MAX), "+294247-01-10T04:00:54.775Z");
        assert_eq!(canonical(i64::MIN), "-290308-12-21T19:59:05.224Z");
        assert!(parse(&canonical(i64::MAX)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(us in YEAR_ZERO_SECONDS * SECOND_US..253_402_300_800 * SECOND_US) {
            prop_assert_eq!(parse(&canonical(us)), Ok(us.div_euclid(1000) * 1000));
        }

        #[test]
        fn an_offset_is_taken_off(us in 0..1_i64 << 52, hour in 0..24_i64, minute in 1..60_i64, east: bool) {
            let text = canonical(us);
            let sign = if east { '+' } else { '-' };
            let moved = format!("{}{sign}{hour:02}:{minute:02}", &text[..23]);
            let offset = (hour * 3600 + minute * 60) * SECOND_US * if east { 1 } else { -1 };
            prop_assert_eq!(parse(&moved), Ok(us / 1000 * 1000 - offset));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9TZ:+.-]{0,40}") {
            if parse(&text).is_ok() {
                prop_assert!(is_well_formed(&text));
            }
        }
    }
}
