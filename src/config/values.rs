//! Scalars and lists: durations, sizes, counts, names.

use super::problem::redact_urls;
use super::raw::{Kind, Value, parse_value};
use super::reader::Parsed;
use super::suggest::nearest;
use bytesize::ByteSize;
use http::HeaderName;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

/// `true` or `false`; from outside of the file also the other ways in which people write that.
pub(super) fn boolean(value: &Value) -> Parsed<bool> {
    match &value.kind {
        Kind::Boolean(boolean) => Ok(*boolean),
        Kind::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(value.fault(format!("{} is neither true nor false", quote(text)))),
        },
        _ => Err(value.not("true or false, without quotes")),
    }
}

/// A string with something in it.
pub(super) fn string(value: &Value) -> Parsed<String> {
    match value.as_str() {
        Some("") => Err(value.fault("is empty")),
        Some(string) => Ok(string.to_owned()),
        None => Err(value.not("a string in quotes")),
    }
}

/// A string of visible ASCII that is never shown.
pub(super) fn secret(value: &Value) -> Parsed<String> {
    let string = string(value)?;
    match string.bytes().all(|octet| octet.is_ascii_graphic()) {
        true => Ok(string),
        false => Err(value.fault("holds blanks or signs outside of ASCII; `openssl rand -hex 32` makes a good one")),
    }
}

/// A string of a few letters, digits and some signs.
pub(super) fn word(length_max: usize, signs: &'static str) -> impl Fn(&Value) -> Parsed<String> {
    move |value| {
        let string = string(value)?;
        let is_allowed = |sign: char| sign.is_ascii_alphanumeric() || signs.contains(sign);
        match string.len() <= length_max && string.chars().all(is_allowed) {
            true => Ok(string),
            false => Err(value.fault(format!(
                "{} has other signs than letters, digits and `{signs}`, or more than {length_max}",
                quote(&string)
            ))),
        }
    }
}

/// One of a few names.
pub(super) fn one_of<T: Copy>(names: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Parsed<T> {
    move |value| {
        let all = || names.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let Some(written) = value.as_str() else {
            return Err(value.not(&format!("one of {}", all())));
        };
        if let Some((_, meant)) = names.iter().find(|(name, _)| *name == written) {
            return Ok(*meant);
        }
        Err(value.fault(match nearest(written, names.iter().map(|(name, _)| *name)) {
            Some(near) => format!("{} is none of {}; did you mean {near:?}?", quote(written), all()),
            None => format!("{} is none of {}", quote(written), all()),
        }))
    }
}

/// A number of things.
pub(super) fn count(range: RangeInclusive<usize>) -> impl Fn(&Value) -> Parsed<usize> {
    move |value| {
        let expected = "a whole number, without quotes";
        let number = match &value.kind {
            Kind::Integer(number) => i128::from(*number),
            Kind::Text(text) => match text.parse() {
                Ok(number) => number,
                Err(_) => return Err(value.fault(format!("{} is not a whole number", quote(text)))),
            },
            _ => return Err(value.not(expected)),
        };
        match usize::try_from(number) {
            Ok(count) if range.contains(&count) => Ok(count),
            _ => Err(value.fault(out_of_range(number, range.start(), range.end()))),
        }
    }
}

/// A part of a whole: `"10%"`, or the number alone.
pub(super) fn percent(value: &Value) -> Parsed<u8> {
    let expected = "a percentage such as \"10%\", or a whole number from 0 to 100";
    let (written, number): (&dyn Display, _) = match &value.kind {
        Kind::Integer(number) => (number, u8::try_from(*number).ok()),
        Kind::Text(text) | Kind::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or(text).trim_end();
            if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
                return Err(value.fault(format!(
                    "{} is not a percentage; write one such as \"10%\", or a whole number from 0 to 100",
                    quote(text)
                )));
            }
            (text, digits.parse().ok())
        }
        _ => return Err(value.not(expected)),
    };
    match number.filter(|number| *number <= 100) {
        Some(number) => Ok(number),
        None => Err(value.fault(out_of_range(written, &"0%", &"100%"))),
    }
}

/// A length of time: with a unit, or in whole seconds.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Value) -> Parsed<Duration> {
    move |value| {
        let written: &dyn Display = match &value.kind {
            Kind::Text(text) | Kind::String(text) => text,
            Kind::Integer(seconds) => seconds,
            _ => return Err(value.not(&format!("a duration: {DURATIONS}, or a whole number of seconds"))),
        };
        let read = match &value.kind {
            // The largest number stands for what is too large, and some larger ones are; no range goes that far.
            Kind::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            Kind::Text(text) if text.parse::<i64>().is_ok() => text.parse().ok().map(Duration::from_secs),
            Kind::Text(text) | Kind::String(text) => match humantime::parse_duration(text) {
                Ok(duration) => Some(duration),
                Err(humantime::DurationError::NumberOverflow) => None,
                Err(_) => {
                    let message = format!("{} is not a duration; write one such as {DURATIONS}", quote(text));
                    return Err(value.fault(message));
                }
            },
            _ => None,
        };
        match read {
            Some(duration) if range.contains(&duration) => Ok(duration),
            _ => Err(value.fault(out_of_range(written, &span(*range.start()), &span(*range.end())))),
        }
    }
}

/// A number of octets: with a unit, or plain.
pub(super) fn size<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&Value) -> Parsed<T> {
    move |value| {
        let (written, read): (&dyn Display, _) = match &value.kind {
            Kind::Integer(octets) => (octets, u64::try_from(*octets).ok()),
            Kind::Text(text) | Kind::String(text) => match text.parse::<ByteSize>() {
                Ok(size) => (text, Some(size.as_u64())),
                Err(_) => {
                    let message = format!("{} is not a size; write one such as {SIZES}", quote(text));
                    return Err(value.fault(message));
                }
            },
            _ => return Err(value.not(&format!("a size: {SIZES}, or a whole number of octets"))),
        };
        match read.filter(|octets| range.contains(octets)).and_then(|octets| T::try_from(octets).ok()) {
            Some(size) => Ok(size),
            None => Err(value.fault(out_of_range(written, &octets(*range.start()), &octets(*range.end())))),
        }
    }
}

/// The name of a header field.
pub(super) fn field_name(value: &Value) -> Parsed<HeaderName> {
    let written = string(value)?;
    HeaderName::from_bytes(written.as_bytes())
        .map_err(|_| value.fault(format!("{} is not the name of a header field", quote(&written))))
}

/// A list in which nothing stands twice.
pub(super) fn distinct(item: impl Fn(&Value) -> Parsed<HeaderName>) -> impl Fn(&Value) -> Parsed<Vec<HeaderName>> {
    let item = list(item);
    move |value| {
        let names = item(value)?;
        match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
            Some((_, twice)) => Err(value.fault(format!("`{twice}` stands twice"))),
            None => Ok(names),
        }
    }
}

/// A list, whose items are read one by one. From outside of the file: with commas between them, or as TOML writes it.
pub(super) fn list<T>(item: impl Fn(&Value) -> Parsed<T>) -> impl Fn(&Value) -> Parsed<Vec<T>> {
    move |value| {
        let items = match &value.kind {
            Kind::Array(items) => items.clone(),
            Kind::Text(text) if text.starts_with('[') => match parse_value(text, &value.place) {
                Ok(Value { kind: Kind::Array(items), .. }) => items,
                Ok(_) => Vec::new(),
                Err(error) => return Err(value.fault(format!("{} is not a list: {error}", quote(text)))),
            },
            Kind::Text(text) => {
                let texts = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                texts.map(|item| Value { kind: Kind::Text(item.to_owned()), place: value.place.clone() }).collect()
            }
            _ => return Err(value.not("a list in brackets")),
        };
        let (mut read, mut faults) = (Vec::new(), Vec::new());
        for value in &items {
            match item(value) {
                Ok(item) => read.push(item),
                Err(wrong) => faults.extend(wrong),
            }
        }
        if faults.is_empty() { Ok(read) } else { Err(faults) }
    }
}

/// Shows what was written, shortened and without passwords.
pub(super) fn quote(written: &str) -> String {
    let written = redact_urls(written);
    match written.char_indices().nth(QUOTED_MAX) {
        Some((cut, _)) => format!("{:?}", format!("{}…", &written[..cut])),
        None => format!("{written:?}"),
    }
}

/// Writes a duration the way it is read.
pub fn span(duration: Duration) -> String {
    match duration {
        Duration::ZERO => "0s".to_owned(),
        // Otherwise a year were "11months 29days …": humantime's months and years are averages.
        _ if duration.as_secs().is_multiple_of(DAY) && duration.subsec_nanos() == 0 => format!("{}d", duration.as_secs() / DAY),
        _ => humantime::format_duration(duration).to_string().replace(' ', ""),
    }
}

/// Writes a size the way it is read, exactly.
pub fn octets(octets: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| octets >= *unit && octets.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", octets / unit),
        None => octets.to_string(),
    }
}

fn out_of_range(written: impl Display, least: &impl Display, most: &impl Display) -> String {
    format!("{written} is out of range; write something from {least} to {most}")
}

const DURATIONS: &str = r#""20ms", "30s", "5m", "1h""#;
const SIZES: &str = r#""64KiB", "256MiB", "1GiB""#;
const DAY: u64 = 24 * 60 * 60;

/// What is quoted is cut here: it stands in a line with other text.
const QUOTED_MAX: usize = 60;
