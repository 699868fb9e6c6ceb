//! Values with units: durations, sizes, shares and rates.
//!
//! A number without its unit is never taken: what it would mean is a guess.

use std::time::Duration;

/// The longest duration that is taken.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// `20m`, `1h30m`, `90s`. The error says what is wrong with it, in words that quote nothing.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.') {
        return Err(format!("a unit is missing: {}", duration_like(text)));
    }
    match humantime::parse_duration(text) {
        Ok(span) if span.is_zero() => Err("it must be longer than nothing".to_owned()),
        // Timers overflow on what nobody means.
        Ok(span) if span > LONGEST => Err("longer than ten years is a slip".to_owned()),
        Ok(span) => Ok(span),
        Err(humantime::DurationError::UnknownUnit { .. }) => {
            Err("unknown unit; known are `ms`, `s`, `m`, `h`, `d`: \"90s\", \"1h30m\"".to_owned())
        }
        Err(_) => Err("write \"20m\", \"1h30m\" or \"90s\"".to_owned()),
    }
}

/// How to write the bare number `text` as a duration.
pub(super) fn duration_like(text: &str) -> String {
    let whole = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    if whole { format!("write \"{text}s\" or \"{text}m\"") } else { "write \"90s\" or \"20m\"".to_owned() }
}

/// `32KiB`, `100MiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    if text.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.') {
        return Err("a unit is missing: write \"32KiB\" or \"100MiB\"".to_owned());
    }
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err("write \"512B\", \"32KiB\" or \"100MiB\"".to_owned()),
    }
}

/// `20%`, from 0 to `most`.
pub(super) fn percent(text: &str, most: u8) -> Result<u8, String> {
    match text.strip_suffix('%').map(|number| number.trim().parse::<u8>()) {
        Some(Ok(number)) if number <= most => Ok(number),
        Some(Ok(_) | Err(_)) => Err(format!("it must lie between \"0%\" and \"{most}%\"")),
        None => Err("a unit is missing: write \"20%\"".to_owned()),
    }
}

/// `10/s`, `600/m`, `100/h`, as so many a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    const HOW: &str = "write \"10/s\", \"600/m\" or \"100/h\"";
    let (number, unit) = text.split_once('/').ok_or(HOW)?;
    let number = number.trim().parse::<u32>().map_err(|_| HOW)?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(HOW.to_owned()),
    };
    if number == 0 { Err("it must be more than nothing".to_owned()) } else { Ok(f64::from(number) / seconds) }
}

/// `span` as the config would say it: `1h 30m`.
pub(super) fn shown(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("12h"), Ok(Duration::from_secs(43_200)));
        assert!(duration("30").unwrap_err().contains("\"30s\""));
        assert!(duration("0s").is_err());
        assert!(duration("3 parsecs").unwrap_err().contains("unit"));
        assert!(duration("").is_err());
        assert!(duration("1000y").is_err());
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(size("32KiB"), Ok(32 * 1024));
        assert_eq!(size("1 MB"), Ok(1_000_000));
        assert!(size("4096").is_err());
        assert!(size("lots").is_err());
    }

    #[test]
    fn shares_and_rates() {
        assert_eq!(percent("20%", 50), Ok(20));
        assert!(percent("51%", 50).is_err());
        assert!(percent("20", 50).is_err());
        assert_eq!(rate("10/s"), Ok(10.0));
        assert_eq!(rate("30/m"), Ok(0.5));
        assert!(rate("0/s").is_err());
        assert!(rate("10").is_err());
    }
}
