//! Cookie dates: the lenient reading that browsers give to `Expires` (RFC 6265 5.1.1).
//!
//! Invariant: a date that the algorithm refuses is `None`, never a guess; time zones are ignored, as it says.

use super::octets;

/// Unix seconds of a cookie-date, UTC. `None` where day, month, year or time is missing or impossible.
pub fn parse(raw: &[u8]) -> Option<i64> {
    let mut found = Found::default();
    for token in raw.split(|&octet| is_delimiter(octet)).filter(|token| !token.is_empty()) {
        found.take(token);
    }
    found.seconds()
}

#[derive(Default)]
struct Found {
    time: Option<(i64, i64, i64)>,
    day: Option<i64>,
    month: Option<i64>,
    year: Option<i64>,
}

impl Found {
    /// Each token is the first thing still missing that it can be: time, day, month, year, in this order.
    fn take(&mut self, token: &[u8]) {
        if self.time.is_none() {
            self.time = time(token);
            if self.time.is_some() {
                return;
            }
        }
        if self.day.is_none() {
            self.day = number(token, 1, 2);
            if self.day.is_some() {
                return;
            }
        }
        if self.month.is_none() {
            self.month = month(token);
            if self.month.is_some() {
                return;
            }
        }
        if self.year.is_none() {
            self.year = number(token, 2, 4);
        }
    }

    fn seconds(&self) -> Option<i64> {
        let (hour, minute, second) = self.time?;
        let (day, month) = (self.day?, self.month?);
        let year = match self.year? {
            short @ 0..=69 => short + 2000,
            short @ 70..=99 => short + 1900,
            year => year,
        };
        let possible = year >= 1601
            && day >= 1
            && day <= month_length(year, month)
            && hour <= 23
            && minute <= 59
            && second <= 59;
        possible.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
    }
}

fn is_delimiter(octet: u8) -> bool {
    matches!(octet, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// `least` to `most` digits, then the end or a non-digit and anything.
fn number(token: &[u8], least: usize, most: usize) -> Option<i64> {
    let digits = token.iter().take_while(|octet| octet.is_ascii_digit()).count();
    if digits < least || digits > most {
        return None;
    }
    token.get(..digits)?.iter().try_fold(0_i64, |sum, &digit| Some(sum * 10 + i64::from(digit - b'0')))
}

/// `h:m:s`, one or two digits each, then the end or a non-digit and anything.
fn time(token: &[u8]) -> Option<(i64, i64, i64)> {
    let mut fields = octets::split(token, b':').map(|range| octets::at(token, &range));
    let exact = |field: &[u8]| if field.iter().all(u8::is_ascii_digit) { number(field, 1, 2) } else { None };
    Some((exact(fields.next()?)?, exact(fields.next()?)?, number(fields.next()?, 1, 2)?))
}

fn month(token: &[u8]) -> Option<i64> {
    let head = token.get(..3)?;
    let names: [&[u8]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    (1..).zip(names).find(|(_, name)| head.eq_ignore_ascii_case(name)).map(|(number, _)| number)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar; years are counted from March, so that leap days come
/// last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_old_servers() {
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Thu, 01-Jan-1970 00:00:10 GMT", 10),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("6 nov 1994 8:49:37 GMT+0200 (CEST)", 784_111_777),
            ("1994 6 november 8:49:37x", 784_111_777),
            ("Fri, 29 Feb 2008 23:59:59 GMT", 1_204_329_599),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
            ("01-Jan-69 0:0:0", 3_124_224_000),
        ] {
            assert_eq!(parse(date.as_bytes()), Some(seconds), "{date}");
        }
    }

    #[test]
    fn refused() {
        for date in [
            "",
            "0",
            "tomorrow",
            "Thu, 01 Jan 1970",
            "Thu, 01 Jan 1970 00: 00:00 GMT",
            "Thu, 01 Jan 1970 24:00:00",
            "Thu, 01 Jan 1970 00:60:00",
            "Thu, 01 Jan 1970 00:00:60",
            "Thu, 01 Jan 1970 00:00:100",
            "29 Feb 2007 00:00:00",
            "31 Apr 2007 00:00:00",
            "00 Jan 2007 00:00:00",
            "001 Jan 2007 00:00:00",
            "1 Jan 1600 00:00:00",
            "1 Jan 10000 00:00:00",
        ] {
            assert_eq!(parse(date.as_bytes()), None, "{date}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_http_dates_it_is_given(seconds in 0_i64..253_402_300_799) {
            let date = jiff::Timestamp::from_second(seconds).unwrap();
            let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            prop_assert_eq!(parse(date.as_bytes()), Some(seconds));
        }

        #[test]
        fn never_panics(raw in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&raw);
            let letters = b"0123456789:- JanFeb";
            let near: Vec<u8> = raw.iter().map(|octet| letters[usize::from(*octet) % 19]).collect();
            let _ = parse(&near);
        }
    }
}
