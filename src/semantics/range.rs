//! Ranges: which part of a response is asked for, which part one is, and how parts become a whole
//! (RFC 9110 §13.1.5, §14, RFC 9111 §3.3, §3.4).
//!
//! A `Range<u64>` ends behind the last octet, as everywhere in Rust; the fields, and [`ContentRange`], name the last octet.

use super::conditional::entity_tag;
use super::freshness::single_date;
use super::{date, list};
use bytes::Bytes;
use http::header::{CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use std::ops::Range;
use std::time::Duration;

/// What a request's `Range` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requested {
    /// All of it: there is no `Range`, or one that is ignored.
    Whole,
    /// These parts, in this order. There is at least one; none is empty, none reaches beyond the end.
    Parts(Vec<Range<u64>>),
    /// Nothing that is there, which is answered with 416 and [`unsatisfied`].
    Unsatisfiable,
}

/// Which part of a representation a response carries (RFC 9110 §14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The position of its first octet.
    pub first: u64,
    /// The position of its last octet, not of the one behind it.
    pub last: u64,
    /// How long the whole is, where that is known.
    pub complete: Option<u64>,
}

impl ContentRange {
    /// Describes a part, if it is one: not empty, and not reaching beyond the whole.
    pub fn of(part: &Range<u64>, complete: Option<u64>) -> Option<ContentRange> {
        let is_part = !part.is_empty() && complete.is_none_or(|complete| part.end <= complete);
        is_part.then(|| ContentRange { first: part.start, last: part.end - 1, complete })
    }

    /// The positions of its octets.
    pub fn part(&self) -> Range<u64> {
        self.first..self.last.saturating_add(1)
    }

    /// Writes the field of a 206, or of a part of one.
    pub fn value(&self) -> HeaderValue {
        let ContentRange { first, last, complete } = self;
        written(match complete {
            Some(complete) => format!("bytes {first}-{last}/{complete}"),
            None => format!("bytes {first}-{last}/*"),
        })
    }
}

/// Reads which parts of a response that is `complete` octets long a `GET` asks for (RFC 9110 §14.1.2, §14.2).
///
/// A field that breaks a rule is ignored as a whole. The whole response has what was meant; a part might not.
pub fn requested(request: &HeaderMap, complete: u64) -> Requested {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Requested::Whole };
    let Some(set) = behind(b"bytes=", line.as_bytes()) else { return Requested::Whole };

    // One more than is allowed is enough to know that there are too many.
    let asked: Option<Vec<Range<u64>>> = list::members(set).take(PARTS_MAX + 1).map(|spec| asked_part(spec, complete)).collect();
    let Some(mut parts) = asked else { return Requested::Whole };
    if parts.is_empty() || parts.len() > PARTS_MAX {
        return Requested::Whole;
    }
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() {
        return Requested::Unsatisfiable;
    }
    if is_wasteful(&parts, complete) { Requested::Whole } else { Requested::Parts(parts) }
}

/// Whether a client that has a part already may get another one of what is stored (RFC 9110 §13.1.5). If not, it gets the whole.
///
/// Nothing holds that could match octets that differ: no weak validator, and no date but the same one.
pub fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let mut lines = request.get_all(IF_RANGE).iter();
    let Some(validator) = lines.next() else { return true };
    if lines.next().is_some() {
        return false;
    }
    if strong_tag(stored) == Some(validator) {
        return true;
    }
    match (date::parse(validator), strong_last_modified(stored)) {
        (Some(asked), Some(modified)) => date::parse(modified) == Some(asked),
        _ => false,
    }
}

/// Reads which part a response carries, if its only `Content-Range` says so in octets (RFC 9110 §14.4).
pub fn content_range(fields: &HeaderMap) -> Option<ContentRange> {
    let mut lines = fields.get_all(CONTENT_RANGE).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    let (part, complete) = split(behind(b"bytes ", line.as_bytes())?, b'/')?;
    let (first, last) = split(part, b'-')?;
    // A number that doesn't fit isn't cut as in a request: the octets would be said to be where they are not.
    let exact = |digits| number(digits).filter(|&number| number < u64::MAX);
    let complete = if complete == b"*" { None } else { Some(exact(complete)?) };
    ContentRange::of(&(exact(first)?..exact(last)? + 1), complete)
}

/// Writes the `Content-Range` of a 416, which tells how long the whole is (RFC 9110 §14.4, §15.5.17).
pub fn unsatisfied(complete: u64) -> HeaderValue {
    written(format!("bytes */{complete}"))
}

/// Whether two responses are, or are parts of, the same octets: they share a strong validator (RFC 9111 §3.4).
pub fn are_of_one_representation(one: &HeaderMap, other: &HeaderMap) -> bool {
    strong_validator(one).is_some_and(|validator| strong_validator(other) == Some(validator))
}

/// The `If-Range` with which to ask the origin for what is missing of a stored part (RFC 9110 §13.1.5).
///
/// Without one, what the origin sends could be a part of something else.
pub fn if_range_value(stored: &HeaderMap) -> Option<HeaderValue> {
    strong_validator(stored).cloned()
}

/// Whether a part that a 206 carries can be joined with others later (RFC 9111 §3.3): it says where it belongs, and to what.
pub fn can_be_completed(fields: &HeaderMap) -> bool {
    content_range(fields).is_some() && strong_validator(fields).is_some()
}

/// The `Range` that asks the origin for what is missing of a stored part, if one range is enough (RFC 9111 §3.3).
///
/// It isn't for a part out of the middle, and nothing is missing of the whole. While the complete length is unknown, there may
/// be more behind any part.
pub fn missing(part: &ContentRange) -> Option<HeaderValue> {
    let Range { start, end } = part.part();
    match (start == 0, part.complete == Some(end)) {
        (true, false) => Some(written(format!("bytes={end}-"))),
        (false, true) => Some(written(format!("bytes=0-{}", start - 1))),
        _ => None,
    }
}

/// Whether two parts are together the whole. A server may send less than it was asked for (RFC 9110 §15.3.7), and then neither whoever
/// wants the whole nor whoever wants another part can be answered.
pub fn make_a_whole(one: &ContentRange, other: &ContentRange) -> bool {
    let (part, more) = (one.part(), other.part());
    let touch = more.start <= part.end && part.start <= more.end;
    let agree = one.complete.is_none() || other.complete.is_none() || one.complete == other.complete;
    let complete = one.complete.or(other.complete);
    touch && agree && part.start.min(more.start) == 0 && complete == Some(part.end.max(more.end))
}

/// Joins two parts of one representation that touch or overlap; where they do, the newer one's octets count (RFC 9111 §3.4).
///
/// That they are of one representation is for [`are_of_one_representation`] to say. Parts that contradict each other, or whose
/// octets are not as many as they should be, aren't joined. It costs one copy of each octet at most.
pub fn combine(older: (ContentRange, Bytes), newer: (ContentRange, Bytes)) -> Option<(ContentRange, Bytes)> {
    let (old, new) = (older.0.part(), newer.0.part());
    let has_gap = old.end < new.start || new.end < old.start;
    if has_gap || !is_as_long_as(&old, &older.1) || !is_as_long_as(&new, &newer.1) {
        return None;
    }
    let complete = match (older.0.complete, newer.0.complete) {
        (Some(one), Some(other)) if one != other => return None,
        (one, other) => one.or(other),
    };
    let joined = ContentRange::of(&(old.start.min(new.start)..old.end.max(new.end)), complete)?;

    // There is no gap: the newer part begins and ends within the older one's octets or beyond one of their ends.
    let octets_before = usize::try_from(new.start.saturating_sub(old.start)).ok()?;
    let octets_until_after = usize::try_from(new.end.min(old.end).saturating_sub(old.start)).ok()?;
    let (before, after) = (&older.1[..octets_before], &older.1[octets_until_after..]);
    if before.is_empty() && after.is_empty() {
        return Some((joined, newer.1));
    }
    Some((joined, [before, &newer.1, after].concat().into()))
}

/// Writes the content of a 206 with several parts, `multipart/byteranges` (RFC 9110 §14.6).
///
/// The boundary comes from the caller, who also sends it in `Content-Type` and sees to it that the body doesn't contain it.
/// Parts that [`requested`] finds for this body are together never longer than it; each takes 109 octets at most beside its
/// own, the boundary and the content type.
pub fn multipart(parts: &[Range<u64>], body: &Bytes, content_type: Option<&HeaderValue>, boundary: &str) -> Bytes {
    let described = parts.iter().filter_map(|part| {
        // A part that reaches beyond this body was asked of another one. Positions within it are a `usize`.
        let range = ContentRange::of(part, Some(body.len() as u64))?.value();
        Some((range, &body[part.start as usize..part.end as usize]))
    });
    let described: Vec<(HeaderValue, &[u8])> = described.collect();
    let mut pieces: Vec<&[u8]> = Vec::new();
    for (range, octets) in &described {
        pieces.extend([b"--", boundary.as_bytes(), b"\r\n"]);
        if let Some(content_type) = content_type {
            pieces.extend([b"Content-Type: ", content_type.as_bytes(), b"\r\n"]);
        }
        pieces.extend([b"Content-Range: ", range.as_bytes(), b"\r\n\r\n", octets, b"\r\n"]);
    }
    pieces.extend([b"--", boundary.as_bytes(), b"--\r\n"]);
    pieces.concat().into()
}

/// Reads a member of a set of ranges, if it is one, and cuts it to what there is: of one that isn't satisfiable, nothing is left.
fn asked_part(spec: &[u8], complete: u64) -> Option<Range<u64>> {
    let (first, last) = split(spec, b'-')?;
    if first.is_empty() {
        return Some(complete.saturating_sub(number(last)?)..complete);
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    (first <= last).then(|| first..last.saturating_add(1).min(complete))
}

/// Whether parts are asked for as broken or hostile clients do, whose field may be ignored (RFC 9110 §14.2, §17.15).
fn is_wasteful(parts: &[Range<u64>], complete: u64) -> bool {
    // The whole is less to send.
    if parts.iter().map(|part| u128::from(part.end - part.start)).sum::<u128>() > complete.into() {
        return true;
    }
    // Each is compared with each, and meets itself. There are few of them.
    let meet = |one: &Range<u64>, other: &Range<u64>| one.start < other.end && other.start < one.end;
    let overlapping = parts.iter().filter(|one| parts.iter().filter(|other| meet(one, other)).count() > 1);
    if overlapping.count() > OVERLAPPING_MAX {
        return true;
    }
    let small = parts.iter().filter(|part| part.end - part.start < SMALL_BYTES);
    small.count() > UNSORTED_SMALL_MAX && !parts.is_sorted_by_key(|part| part.start)
}

/// The validator by which two responses can be known to be of the same octets.
///
/// Where there is an entity-tag, the date isn't asked: the origin itself says by a weak tag that octets may differ, and a date
/// in `If-Range` is for those who have no tag (RFC 9110 §13.1.5).
fn strong_validator(fields: &HeaderMap) -> Option<&HeaderValue> {
    if fields.contains_key(ETAG) { strong_tag(fields) } else { strong_last_modified(fields) }
}

fn strong_tag(fields: &HeaderMap) -> Option<&HeaderValue> {
    entity_tag(fields).map(|tag| tag.value).filter(|value| !value.as_bytes().starts_with(b"W/"))
}

/// A date of modification, if the response was made at least a second later: what changes twice in a second has one date for
/// both states, and only the last of them can be seen when the second is over (RFC 9110 §8.8.2.2).
///
/// That section also asks for a reason to believe that one clock made both dates: one origin sent them in one response.
fn strong_last_modified(fields: &HeaderMap) -> Option<&HeaderValue> {
    let modified = single_date(fields, LAST_MODIFIED)?;
    let since = single_date(fields, DATE)?.duration_since(modified).ok()?;
    fields.get(LAST_MODIFIED).filter(|_| since >= Duration::from_secs(1))
}

/// What follows a range unit, which is written in any case (RFC 9110 §14.1).
fn behind<'a>(unit: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (start, rest) = value.split_at_checked(unit.len())?;
    start.eq_ignore_ascii_case(unit).then_some(rest)
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = text.iter().position(|&octet| octet == at)?;
    Some((&text[..position], &text[position + 1..]))
}

/// Reads a number of any length; what doesn't fit is the largest that does (RFC 9110 §14.1.2).
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0u64, |all, digit| all.saturating_mul(10).saturating_add((digit - b'0').into())))
}

fn is_as_long_as(part: &Range<u64>, octets: &Bytes) -> bool {
    part.end.checked_sub(part.start) == Some(octets.len() as u64)
}

fn written(value: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(value)).expect("a unit and numbers are visible ASCII")
}

/// Readers of documents and archives ask for a few parts at once. A hundred only keep us busy (§17.15).
const PARTS_MAX: usize = 16;

/// §14.2: "more than two overlapping ranges".
const OVERLAPPING_MAX: usize = 2;

/// §14.2: "many small ranges that are not listed in ascending order". §15.3.7.2 takes 80 octets to be what each part costs.
const SMALL_BYTES: u64 = 80;

/// How many of them are not yet many.
const UNSORTED_SMALL_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    /// A part of what is as long as `complete` says, or of unknown length.
    fn part(first: u64, last: u64, complete: impl Into<Option<u64>>) -> ContentRange {
        ContentRange { first, last, complete: complete.into() }
    }

    fn check_requested(lines: &[&str], complete: u64, expected: &str) {
        let request: Vec<_> = lines.iter().map(|line| ("range", *line)).collect();
        let answer = match requested(&fields(&request), complete) {
            Requested::Whole => "whole".to_owned(),
            Requested::Parts(parts) => format!("{parts:?}"),
            Requested::Unsatisfiable => "unsatisfiable".to_owned(),
        };
        assert_eq!(answer, expected, "{lines:?} of {complete}");
    }

    #[test]
    fn a_range_asks_for_parts_that_are_there() {
        let check = |set: &str, complete: u64, expected: &str| check_requested(&[&format!("bytes={set}")], complete, expected);
        // RFC 9110 §14.1.2
        check("0-4", 10, "[0..5]");
        check("9-9", 10, "[9..10]");
        check("5-", 10, "[5..10]");
        check("0-", 10, "[0..10]");
        check("-1", 10, "[9..10]");
        check("-10", 10, "[0..10]");
        check("-11", 10, "[0..10]"); // Longer than the whole: the whole.
        check("5-10", 10, "[5..10]"); // Beyond the end: up to the end.
        check("005-0006", 10, "[5..7]");
        check(" 0-999, 4500-5499, -1000", 10_000, "[0..1000, 4500..5500, 9000..10000]");
        check("500-700,601-999", 10_000, "[500..701, 601..1000]");
        // Numbers that don't fit are cut.
        check("5-99999999999999999999", 10, "[5..10]");
        check("-99999999999999999999", 10, "[0..10]");
        check("1-99999999999999999999", u64::MAX, "[1..18446744073709551615]");
        // §5.6.1.2: what a list may look like; §15.3.7.2: in the order that was asked for, without the unsatisfiable.
        check(",, 0-1 \t, ,3-4,", 10, "[0..2, 3..5]");
        check("8-,0-1,4-5", 10, "[8..10, 0..2, 4..6]");
        check("10-,0-1,-0,20-30", 10, "[0..2]");
        // §15.5.17
        for nothing in ["10-", "10-10", "-0", "-0, 11-12, 99999999999999999999-"] {
            check(nothing, 10, "unsatisfiable");
        }
        check("99999999999999999999-", u64::MAX, "unsatisfiable");
        check("0-", 0, "unsatisfiable");
        // §14.1.2 calls this satisfiable, but no `Content-Range` can name a part that is empty.
        check("-5", 0, "unsatisfiable");
    }

    #[test]
    fn a_range_that_breaks_a_rule_is_ignored() {
        let check = |lines: &[&str]| check_requested(lines, 100, "whole");
        check(&[]);
        check(&["bytes=0-1", "bytes=3-4"]); // RFC 9110 §5.3: two lines are for lists.
        // §14.1, §14.2: another unit, or none; but in any case.
        for line in ["", "0-1", "octets=0-1", "byte=0-1", "bytess=0-1", "bytes", "bytes 0-1", "bytes =0-1", " bytes=0-1"] {
            check(&[line]);
        }
        check_requested(&["BYTES=0-1"], 100, "[0..2]");
        // §14.1.1: an empty set, or one with what is no member.
        check(&["bytes="]);
        check(&["bytes=,"]);
        for spec in ["-", "5", "a", "5-4", "500-499", "--5", "0-1-2", "+0-1", "0x0-1", "0 - 1", "0-1;2-3", "\"0-1\""] {
            check(&[&format!("bytes={spec}")]);
            check(&[&format!("bytes=0-1, {spec}")]);
        }
    }

    #[test]
    fn a_range_that_wastes_work_is_ignored() {
        // RFC 9110 §14.2, §17.15
        let check = |set: &str, complete: u64, is_ignored: bool| {
            let request = fields(&[("range", &format!("bytes={set}"))]);
            assert_eq!(requested(&request, complete) == Requested::Whole, is_ignored, "{set} of {complete}");
        };
        let each_hundredth = |count: u64| (0..count).map(|nth| format!("{nth}00-{nth}00")).collect::<Vec<_>>().join(",");
        check(&each_hundredth(16), 10_000, false);
        check(&each_hundredth(17), 10_000, true);
        check("0-4,5-9", 10, false);
        check("0-2,3-5,6-9", 10, false);
        check("0-,0-", u64::MAX, true);
        check("0-4,4-9", 10, true);
        check("0-4,4-5,20-29", 100, false);
        check("0-4,4-5,20-29,29-30", 100, true);
        check("0-4,1-1,3-3", 100, true);
        check("3-3,3-3,3-3", 100, true);
        check("40-40,30-30,20-20,10-10", 100, false);
        check("40-40,30-30,20-20,10-10,0-0", 100, true);
        check("0-0,20-20,10-10,30-30,40-40", 100, true);
        check("400-479,300-379,200-279,100-179,0-79", 1000, false);
    }

    #[test]
    fn if_range_compares_strongly() {
        // RFC 9110 §13.1.5, §8.8.3.2, §8.8.2.2
        let check = |lines: &[&str], stored: &[(&'static str, &str)], expected: bool| {
            let request = fields(&lines.iter().map(|line| ("if-range", *line)).collect::<Vec<_>>());
            assert_eq!(if_range_holds(&request, &fields(stored)), expected, "{lines:?} {stored:?}");
        };
        let tagged = &[("etag", "\"a\"")];
        check(&[], &[], true);
        check(&["\"a\""], tagged, true);
        check(&["\"b\""], tagged, false);
        check(&["W/\"a\""], tagged, false);
        check(&["\"a\""], &[("etag", "W/\"a\"")], false);
        check(&["W/\"a\""], &[("etag", "W/\"a\"")], false);
        check(&["\"a\""], &[], false);
        check(&["\"a\"", "\"a\""], tagged, false);
        check(&["\"a\", \"b\""], tagged, false);
        for neither in ["", "*", "a", "\"a", "yesterday"] {
            check(&[neither], &[("etag", neither), ("last-modified", neither), ("date", AFTER)], false);
        }
        let dated = &[("last-modified", THEN), ("date", AFTER), ("etag", "\"a\"")];
        check(&[THEN], dated, true);
        check(&["Sunday, 06-Nov-94 08:49:37 GMT"], dated, true);
        check(&[BEFORE], dated, false);
        check(&[AFTER], dated, false);
        check(&[THEN, THEN], dated, false);
        for stored in [&[("last-modified", THEN)][..], &[("last-modified", THEN), ("date", THEN)], &[("date", AFTER)]] {
            check(&[THEN], stored, false);
        }
    }

    #[test]
    fn parts_are_of_one_representation_by_a_strong_validator() {
        // RFC 9111 §3.4, RFC 9110 §8.8.2.2, §13.1.5; the value is what goes into `If-Range`.
        let check = |one: &[(&'static str, &str)], other: &[(&'static str, &str)], value: Option<&str>| {
            let (one, other) = (fields(one), fields(other));
            assert_eq!(are_of_one_representation(&one, &other), value.is_some(), "{one:?} {other:?}");
            assert_eq!(are_of_one_representation(&other, &one), value.is_some());
            if let Some(value) = value {
                assert_eq!(if_range_value(&one).unwrap(), value);
            }
        };
        let dates = [("last-modified", THEN), ("date", AFTER)];
        let tagged = |tag| [&[("etag", tag)], &dates[..]].concat();
        let strong = &tagged("\"a\"");
        check(strong, strong, Some("\"a\""));
        check(strong, &[("etag", "\"a\"")], Some("\"a\""));
        check(strong, &tagged("\"b\""), None);
        check(strong, &dates, None);
        check(&dates, &dates, Some(THEN));
        check(&dates, &[("last-modified", BEFORE), ("date", AFTER)], None);
        let too_early = [("last-modified", THEN), ("date", THEN)];
        let two_tags = [("etag", "\"a\""), ("etag", "\"a\"")];
        for none in [&[][..], &tagged("W/\"a\""), &tagged("a"), &too_early, &two_tags, &dates[..1], &dates[1..]] {
            check(none, strong, None);
            check(none, &dates, None);
            check(none, none, None);
            assert_eq!(if_range_value(&fields(none)), None, "{none:?}");
        }
    }

    #[test]
    fn a_content_range_is_read_and_written() {
        // RFC 9110 §14.4
        let check = |lines: &[&str], expected: Option<ContentRange>| {
            let fields = fields(&lines.iter().map(|line| ("content-range", *line)).collect::<Vec<_>>());
            assert_eq!(content_range(&fields), expected, "{lines:?}");
        };
        for (line, expected) in [
            ("bytes 0-4/10", part(0, 4, 10)),
            ("bytes 9-9/10", part(9, 9, 10)),
            ("bytes 42-1233/*", part(42, 1233, None)),
            ("bytes 0-18446744073709551613/18446744073709551614", part(0, u64::MAX - 2, u64::MAX - 1)),
        ] {
            check(&[line], Some(expected));
            check(&[&line.to_uppercase()], Some(expected)); // §14.1
            assert_eq!(expected.value(), line);
        }
        check(&[], None);
        check(&["bytes 0-4/10", "bytes 0-4/10"], None);
        for range in ["5-4/10", "0-10/10", "0-0/0", "*/10", "*/*", "0-4", "0-/10", "-4/10", "-/10", "0-4/", "0-4/-", "0-4/ 10"] {
            check(&[&format!("bytes {range}")], None);
        }
        for range in [" 0-4/10", "0-4/10,", "+0-4/10", "0-18446744073709551615/*", "0-4/18446744073709551616"] {
            check(&[&format!("bytes {range}")], None);
        }
        for line in ["", "bytes", "bytes=0-4/10", "0-4/10", "octets 0-4/10", "bytes\t0-4/10", " bytes 0-4/10"] {
            check(&[line], None);
        }
        assert_eq!(unsatisfied(10), "bytes */10"); // §15.5.17
    }

    #[test]
    fn what_is_missing_is_asked_for_in_one_range() {
        // RFC 9111 §3.3, RFC 9110 §14.1.2
        let check = |part: ContentRange, expected: Option<&'static str>| {
            assert_eq!(missing(&part), expected.map(HeaderValue::from_static), "{part:?}");
        };
        check(part(0, 4, 10), Some("bytes=5-"));
        check(part(0, 4, None), Some("bytes=5-"));
        check(part(4, 9, 10), Some("bytes=0-3"));
        check(part(1, 9, 10), Some("bytes=0-0"));
        check(part(0, 9, 10), None);
        check(part(1, 8, 10), None);
        check(part(4, 9, None), None);
    }

    #[test]
    fn parts_make_a_whole_if_nothing_is_missing() {
        let check = |one: ContentRange, other: ContentRange, expected: bool| {
            assert_eq!(make_a_whole(&one, &other), expected, "{one:?} {other:?}");
            assert_eq!(make_a_whole(&other, &one), expected, "{other:?} {one:?}");
        };
        check(part(0, 4, 10), part(5, 9, 10), true);
        check(part(0, 4, None), part(3, 9, 10), true);
        check(part(0, 4, 10), part(5, 7, 10), false);
        check(part(0, 4, 10), part(6, 9, 10), false);
        check(part(2, 4, 10), part(5, 9, 10), false);
        check(part(0, 4, 10), part(5, 9, 12), false);
        check(part(0, 4, 12), part(5, 9, 10), false);
        check(part(0, 4, None), part(5, 9, None), false);
    }

    #[test]
    fn parts_that_touch_or_overlap_are_combined() {
        // RFC 9111 §3.4, RFC 9110 §15.3.7.3
        type Piece = (ContentRange, &'static str);
        let check = |older: Piece, newer: Piece, expected: Option<Piece>| {
            let bytes = |(range, octets): Piece| (range, Bytes::from(octets));
            assert_eq!(combine(bytes(older), bytes(newer)), expected.map(bytes), "{older:?} {newer:?}");
        };
        check((part(0, 2, 6), "abc"), (part(3, 5, 6), "DEF"), Some((part(0, 5, 6), "abcDEF")));
        check((part(3, 5, 6), "def"), (part(0, 2, 6), "ABC"), Some((part(0, 5, 6), "ABCdef")));
        check((part(0, 3, 6), "abcd"), (part(2, 5, 6), "CDEF"), Some((part(0, 5, 6), "abCDEF")));
        check((part(0, 5, 6), "abcdef"), (part(2, 3, 6), "CD"), Some((part(0, 5, 6), "abCDef")));
        check((part(2, 3, 6), "cd"), (part(0, 5, 6), "ABCDEF"), Some((part(0, 5, 6), "ABCDEF")));
        check((part(0, 2, 6), "abc"), (part(4, 5, 6), "EF"), None);
        check((part(0, 2, None), "abc"), (part(3, 4, 6), "DE"), Some((part(0, 4, 6), "abcDE")));
        check((part(0, 2, 6), "abc"), (part(3, 4, None), "DE"), Some((part(0, 4, 6), "abcDE")));
        check((part(0, 2, 6), "abc"), (part(3, 4, 7), "DE"), None);
        check((part(0, 2, 4), "abc"), (part(3, 4, None), "DE"), None);
        // The octets are not those that the range speaks of.
        check((part(0, 2, 6), "ab"), (part(3, 5, 6), "DEF"), None);
        check((part(0, 2, 6), "abc"), (part(3, 5, 6), "DEFG"), None);
    }

    #[test]
    fn several_parts_are_written_as_multipart() {
        // RFC 9110 §14.6, RFC 2046 §5.1.1
        let check = |parts: &[Range<u64>], content_type: Option<&'static str>, expected: &str| {
            let content_type = content_type.map(HeaderValue::from_static);
            let written = multipart(parts, &Bytes::from("0123456789"), content_type.as_ref(), "B");
            assert_eq!(written, expected, "{parts:?}");
        };
        let first = "--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n";
        let last = "--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n";
        check(&[0..2, 9..10], Some("text/plain"), &format!("{first}{last}--B--\r\n"));
        check(&[9..10, 0..2], Some("text/plain"), &format!("{last}{first}--B--\r\n"));
        check(std::slice::from_ref(&(3..5)), None, "--B\r\nContent-Range: bytes 3-4/10\r\n\r\n34\r\n--B--\r\n");
        // Not parts of this body.
        check(&[0..0, 5..11, 20..30, Range { start: 3, end: 2 }], None, "--B--\r\n");
    }

    /// A member of a set of ranges, and the octets of a whole that it asks for, found by looking at each.
    fn spec(complete: u64) -> impl Strategy<Value = (String, BTreeSet<u64>)> {
        let at = 0..complete + 20;
        let octets = move |is_asked: &dyn Fn(u64) -> bool| (0..complete).filter(|&octet| is_asked(octet)).collect();
        prop_oneof![
            4 => (at.clone(), 0..100u64).prop_map(move |(first, more)| {
                (format!("{first}-{}", first + more), octets(&|octet| octet >= first && octet - first <= more))
            }),
            1 => at.clone().prop_map(move |first| (format!("{first}-"), octets(&|octet| octet >= first))),
            1 => at.prop_map(move |length| (format!("-{length}"), octets(&|octet| complete - octet <= length))),
        ]
    }

    /// What [`requested`] answers for sets of octets.
    fn model(asked: &[BTreeSet<u64>], complete: u64) -> Requested {
        let parts: Vec<&BTreeSet<u64>> = asked.iter().filter(|octets| !octets.is_empty()).collect();
        let overlapping = (0..parts.len()).filter(|&one| {
            let mut others = (0..parts.len()).filter(|&other| other != one);
            others.any(|other| !parts[one].is_disjoint(parts[other]))
        });
        let is_sorted = parts.windows(2).all(|pair| pair[0].first() <= pair[1].first());
        let is_whole = asked.len() > 16
            || parts.iter().map(|octets| octets.len() as u64).sum::<u64>() > complete
            || overlapping.count() > 2
            || (!is_sorted && parts.iter().filter(|octets| octets.len() < 80).count() > 4);
        match parts.as_slice() {
            _ if is_whole => Requested::Whole,
            [] => Requested::Unsatisfiable,
            parts => Requested::Parts(parts.iter().map(|octets| *octets.first().unwrap()..octets.last().unwrap() + 1).collect()),
        }
    }

    /// Any position, and more often those at which calculations go wrong.
    fn position() -> impl Strategy<Value = u64> {
        prop_oneof![0..25u64, u64::MAX - 25..=u64::MAX, any::<u64>()]
    }

    proptest! {
        #[test]
        fn the_parts_have_the_octets_that_are_asked_for(
            (complete, specs) in (0..500u64).prop_flat_map(|complete| {
                (Just(complete), prop_oneof![vec(spec(complete), 1..5), vec(spec(complete), 5..20)])
            }),
            separator in "[ \t]{0,2},[ ,]{0,2}",
        ) {
            let (written, asked): (Vec<String>, Vec<BTreeSet<u64>>) = specs.into_iter().unzip();
            let request = fields(&[("range", &format!("bytes={}", written.join(&separator)))]);
            prop_assert_eq!(requested(&request, complete), model(&asked, complete));
        }

        #[test]
        fn what_is_combined_has_the_octets_of_both(
            (old, new) in (0..20u64, 1..20u64, 0..20u64, 1..20u64).prop_map(|(a, b, c, d)| (a..a + b, c..c + d)),
            completes in (prop::option::of(38..41u64), prop::option::of(38..41u64)),
        ) {
            let octets = |part: &Range<u64>, of: u8| part.clone().map(|at| at as u8 + of).collect::<Bytes>();
            let describe = |part: &Range<u64>, complete| ContentRange::of(part, complete).unwrap();
            let (older, newer) = (describe(&old, completes.0), describe(&new, completes.1));
            let combined = combine((older, octets(&old, 0)), (newer, octets(&new, 100)));

            let octet_at = |at: u64| if new.contains(&at) { Some(at as u8 + 100) } else { old.contains(&at).then_some(at as u8) };
            let joined = old.start.min(new.start)..old.end.max(new.end);
            let expected: Option<Bytes> = joined.clone().map(octet_at).collect();
            let do_agree = completes.0.is_none() || completes.1.is_none() || completes.0 == completes.1;
            let expected = expected.filter(|_| do_agree).map(|octets| (describe(&joined, completes.0.or(completes.1)), octets));
            prop_assert_eq!(combined, expected);
        }

        #[test]
        fn nothing_makes_them_panic(
            text in "(bytes[= ])?([0-9]{0,22}[-,/* ]{0,2}){0,9}|.{0,20}",
            ranges in vec((position(), position(), prop::option::of(position())), 2),
            bodies in vec(vec(any::<u8>(), 0..20), 2),
            parts in vec((position(), position()).prop_map(|(start, end)| start..end), 0..20),
            complete in position(),
        ) {
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static(""));
            let fields: HeaderMap = [RANGE, IF_RANGE, CONTENT_RANGE, ETAG].into_iter().map(|name| (name, value.clone())).collect();
            if let Requested::Parts(parts) = requested(&fields, complete) {
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= complete));
            }
            if_range_holds(&fields, &fields);
            are_of_one_representation(&fields, &fields);
            content_range(&fields);

            let [one, other] = [0, 1].map(|nth| {
                let (first, last, complete) = ranges[nth];
                (part(first, last, complete), Bytes::from(bodies[nth].clone()))
            });
            missing(&one.0);
            let (length, around) = (one.1.len(), 109 + 1 + value.len());
            let written = multipart(&parts, &one.1, Some(&value), "B").len();
            prop_assert!(written <= parts.len() * (length + around) + 7);
            combine(one, other);
        }
    }
}
