//! More rules of RFC 9111 and 9110, one short function each: validation (§4.3), parts (§3.3, §3.4), invalidation (§4.4).

use super::history::part;
use super::text::{Fields, date, first, has, split, without};

// === §4.3: validation ===

/// An entity-tag without its `W/`, if it is one (RFC 9110 §8.8.3).
fn opaque(tag: &str) -> Option<&str> {
    let opaque = tag.trim_start_matches("W/");
    (opaque.len() > 1 && opaque.starts_with('"') && opaque.ends_with('"')).then_some(opaque)
}

fn tag(fields: &Fields) -> Option<&str> {
    first(fields, "etag").filter(|tag| opaque(tag).is_some())
}

fn modified(fields: &Fields) -> Option<&str> {
    first(fields, "last-modified").filter(|value| date(value).is_some())
}

pub(super) fn has_validator(fields: &Fields) -> bool {
    tag(fields).is_some() || modified(fields).is_some()
}

/// §4.3.1. Choice: both validators are sent.
pub(super) fn conditions(stored: &Fields) -> Fields {
    let tag = tag(stored).map(|tag| ("if-none-match", tag.to_owned()));
    tag.into_iter().chain(modified(stored).map(|date| ("if-modified-since", date.to_owned()))).collect()
}

/// §4.3.4: which stored response a 304 is about. Only one was asked about. Choice: a 304 that repeats no validator is about it too.
pub(super) fn is_about(not_modified: &Fields, stored: &Fields) -> bool {
    if let Some(new) = tag(not_modified) {
        return tag(stored).and_then(opaque) == opaque(new);
    }
    match (first(not_modified, "last-modified"), first(stored, "last-modified")) {
        (Some(new), Some(old)) => new == old,
        _ => true,
    }
}

/// §3.2: the new fields instead of the old ones, but for those that tell what the stored octets are. Choice: an `ETag` is kept (they
/// differ in `W/` at most), and `Age` and `Date` of the old exchange are not.
pub(super) fn updated(stored: &Fields, new: &Fields) -> Fields {
    let is_taken = |name: &str| name != "content-range" && !(name == "etag" && tag(stored).is_some());
    let taken: Fields = new.iter().filter(|(name, _)| is_taken(name)).cloned().collect();
    let mut replaced: Vec<&str> = taken.iter().map(|(name, _)| *name).collect();
    replaced.extend(["age", "date"]);
    without(stored, &replaced).into_iter().chain(taken).collect()
}

/// §4.3.2; RFC 9110 §13.1.2, §13.1.3, §13.2.2. §4.3.2 speaks of stored 200 and 206. Choice: `Date` does not stand in for a missing
/// `Last-Modified`.
pub(super) fn is_not_modified(request: &Fields, status: u16, stored: &Fields) -> bool {
    if status != 200 && status != 206 {
        return false;
    }
    if let Some(tags) = first(request, "if-none-match") {
        let has_it = |own: &str| split(tags).iter().any(|tag| opaque(tag) == opaque(own));
        return tags == "*" || tag(stored).is_some_and(has_it);
    }
    let since = first(request, "if-modified-since").and_then(date);
    let modified = modified(stored).and_then(date);
    since.is_some_and(|since| modified.is_some_and(|modified| modified <= since))
}

/// RFC 9110 §15.4.5. Choice: `Last-Modified` only where there is no `ETag`.
pub(super) fn not_modified_fields(stored: &Fields) -> Fields {
    let sent = |name: &str| match name {
        "cache-control" | "content-location" | "date" | "etag" | "expires" | "vary" => true,
        "last-modified" => !has(stored, "etag"),
        _ => false,
    };
    stored.iter().filter(|(name, _)| sent(name)).cloned().collect()
}

// === §3.3, §3.4; RFC 9110 §13.1.5, §14: ranges ===

/// RFC 9110 §8.8.1, §8.8.2.2: what a date says is strong if the response was made a second later. Choice: it is looked at only where
/// there is no tag.
pub(super) fn strong_validator(fields: &Fields) -> Option<&str> {
    if let Some(tag) = first(fields, "etag") {
        return Some(tag).filter(|tag| tag.starts_with('"'));
    }
    strong_date(fields)
}

fn strong_date(fields: &Fields) -> Option<&str> {
    let modified = modified(fields)?;
    (date(first(fields, "date")?)? > date(modified)?).then_some(modified)
}

/// RFC 9110 §13.1.5.
pub(super) fn if_range_holds(request: &Fields, stored: &Fields) -> bool {
    match first(request, "if-range") {
        None => true,
        Some(tag) if opaque(tag).is_some() => tag.starts_with('"') && first(stored, "etag") == Some(tag),
        Some(value) => strong_date(stored).is_some_and(|modified| date(modified) == date(value)),
    }
}

/// RFC 9110 §14.4: first, behind the last, complete.
pub(super) fn content_range(fields: &Fields) -> Option<(usize, usize, Option<usize>)> {
    let (part, complete) = first(fields, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = part.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1, complete.parse().ok()))
}

/// §3.3: what a part lacks, if one range is enough.
pub(super) fn missing(fields: &Fields) -> Option<String> {
    match content_range(fields)? {
        (_, end, Some(complete)) if end == complete => None,
        (0, end, _) => Some(format!("bytes={end}-")),
        _ => None,
    }
    .or_else(|| match content_range(fields)? {
        (first, end, Some(complete)) if first > 0 && end == complete => Some(format!("bytes=0-{}", first - 1)),
        _ => None,
    })
}

/// §3.4: whether the rest is of the same octets, and makes a whole of the part.
pub(super) fn completes(new: &Fields, stored: &Fields) -> bool {
    let (Some(old), Some(new_part)) = (content_range(stored), content_range(new)) else { return false };
    let complete = old.2.or(new_part.2);
    let touches = new_part.0 <= old.1 && old.0 <= new_part.1;
    let is_whole = old.0.min(new_part.0) == 0 && Some(old.1.max(new_part.1)) == complete;
    let agree = old.2.is_none() || new_part.2.is_none() || old.2 == new_part.2;
    touches && agree && is_whole && strong_validator(new).is_some() && strong_validator(new) == strong_validator(stored)
}

/// §4, RFC 9110 §14.2: the octets of a stored part that answer a request for a range of the whole.
pub(super) fn answers_range(request: &Fields, stored: &Fields) -> bool {
    let Some((first_stored, behind, Some(complete))) = content_range(stored) else { return false };
    let asked = first(request, "range").and_then(|range| part(range, complete));
    asked.is_some_and(|(start, end)| start < end && first_stored <= start && end <= behind) && if_range_holds(request, stored)
}

// === §4.4: invalidation ===

/// §4.4: what a response to an unsafe request names as changed, with the target itself; of this host only.
pub(super) fn changed(method: &str, target: &str, response: &Fields, status: u16) -> Vec<String> {
    if matches!(method, "GET" | "HEAD") || !(200..400).contains(&status) {
        return Vec::new();
    }
    let directory = &target[..=target.rfind('/').expect("a target has a slash")];
    let named = ["location", "content-location"].into_iter().filter_map(|name| first(response, name));
    let resolved = named.filter_map(|reference| match reference.trim_start_matches("http:") {
        absolute if absolute.starts_with("//h/") => Some(absolute[3..].to_owned()),
        other if other.starts_with("//") => None,
        path if path.starts_with('/') => Some(path.to_owned()),
        relative => Some(format!("{directory}{relative}")),
    });
    resolved.chain([target.to_owned()]).collect()
}
