//! Reading and writing fields for the model: strings and lists, nothing shared with `semantics`.

/// Fields as they are written, in their order; names in lower case.
pub(super) type Fields = Vec<(&'static str, String)>;

/// The first value of a field.
pub(super) fn first<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

pub(super) fn has(fields: &Fields, name: &str) -> bool {
    first(fields, name).is_some()
}

pub(super) fn without(fields: &Fields, names: &[&str]) -> Fields {
    fields.iter().filter(|(name, _)| !names.contains(name)).cloned().collect()
}

/// The members of all lines of a list, trimmed (RFC 9110 §5.6.1).
pub(super) fn members(fields: &Fields, name: &str) -> Vec<String> {
    fields.iter().filter(|(known, _)| *known == name).flat_map(|(_, value)| split(value)).collect()
}

/// Splits at the commas that are not between quotes.
pub(super) fn split(value: &str) -> Vec<String> {
    let (mut all, mut member, mut is_quoted) = (Vec::new(), String::new(), false);
    for letter in value.chars() {
        is_quoted ^= letter == '"';
        match letter {
            ',' if !is_quoted => all.push(std::mem::take(&mut member)),
            letter => member.push(letter),
        }
    }
    all.push(member);
    all.iter().map(|member| member.trim().to_owned()).filter(|member| !member.is_empty()).collect()
}

/// Directives, with what follows the `=`, in whatever form (RFC 9111 §5.2).
pub(super) fn directives(members: Vec<String>) -> Vec<(String, Option<String>)> {
    let directive = |member: String| match member.split_once('=') {
        Some((name, argument)) => (name.to_lowercase(), Some(argument.trim_matches('"').to_owned())),
        None => (member.to_lowercase(), None),
    };
    members.into_iter().map(directive).collect()
}

/// A dictionary of a structured field as the generator writes it, `None` if it is none (RFC 9651 §3.2): keys are in lower case, and
/// a value follows each `=`. Parameters say nothing (RFC 9213 §2.1).
pub(super) fn dictionary(value: &str) -> Option<Vec<(String, Option<String>)>> {
    let (members, commas) = (split(value), value.split('"').step_by(2).map(|part| part.matches(',').count()).sum::<usize>());
    let is_key = |key: &str| key.starts_with(|c: char| c.is_ascii_lowercase()) && !key.contains(|c: char| c.is_uppercase());
    let is_whole = |member: &String| member.split('=').all(|part| !part.is_empty()) && is_key(member);
    if members.len() != commas + 1 || !members.iter().all(is_whole) {
        return None;
    }
    let without_parameters = |member: &String| member.split(';').next().unwrap().to_owned();
    Some(directives(members.iter().map(without_parameters).collect()))
}

/// Seconds since 1970 of a date in one of its three forms (RFC 9110 §5.6.7).
pub(super) fn date(value: &str) -> Option<u64> {
    let words: Vec<&str> = value.split([' ', '-', ',']).filter(|word| !word.is_empty()).collect();
    let (day, month, year, time) = match words[..] {
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|known| *known == month)? as u64;
    let year = match year.len() {
        2 => 2000 + year.parse::<u64>().ok()?,
        _ => year.parse().ok()?,
    };
    let mut seconds = 0;
    for part in time.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    let days = (1970..year).map(days_of_year).sum::<u64>() + (0..month).map(|month| days_of_month(year, month)).sum::<u64>();
    Some((days + day.parse::<u64>().ok()? - 1) * 86_400 + seconds)
}

/// Writes a date as IMF-fixdate, as in RFC 850, or as `asctime` does.
pub(super) fn written(seconds: u64, form: Form) -> String {
    let (mut day, mut year, mut month) = (seconds / 86_400, 1970, 0);
    let weekday = WEEKDAYS[(day % 7) as usize];
    while day >= days_of_year(year) {
        day -= days_of_year(year);
        year += 1;
    }
    while day >= days_of_month(year, month) {
        day -= days_of_month(year, month);
        month += 1;
    }
    let (day, month) = (day + 1, MONTHS[month as usize]);
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match form {
        Form::Fixdate => format!("{}, {day:02} {month} {year} {time} GMT", &weekday[..3]),
        Form::Rfc850 => format!("{weekday}, {day:02}-{month}-{:02} {time} GMT", year % 100),
        Form::Asctime => format!("{} {month} {day:2} {time} {year}", &weekday[..3]),
    }
}

/// A form of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Fixdate,
    Rfc850,
    Asctime,
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: u64) -> u64 {
    [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize]
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// From that of the 1st of January 1970.
const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
