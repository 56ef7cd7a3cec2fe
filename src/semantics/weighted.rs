//! Lists whose members carry weights: `Accept-Charset`, `Accept-Encoding`, `Accept-Language` (RFC 9110 §12.4.2, §12.5.2 to §12.5.4).

use std::cmp::Ordering;

/// The order that the members of a normalised list are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// By name; those of equal name by weight.
    #[default]
    Names,
    /// By weight, the highest first, and as they were written where that is the same: of equals, some recipients take the first
    /// (RFC 9110 §12.5.4).
    Preference,
    /// By name as well, but content codings that everybody sends before others, in the order in which most send them: what
    /// arrives is then normalised already. A recipient that picks by order among equals picks one that all accept.
    Codings,
}

/// A member, as it was written.
#[derive(Clone, Copy, Default)]
pub(super) struct Member<'a> {
    /// The whole member where it is malformed.
    pub(super) name: &'a [u8],
    /// In thousandths; `None` where the member is malformed.
    pub(super) weight: Option<u16>,
    rank: usize,
    order: Order,
}

/// The members of a list, in the order in which they were written. No quoted strings are in these lists, so each comma separates.
pub(super) fn members<'a>(order: Order, lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = Member<'a>> {
    let texts = lines.flat_map(|line| line.split(|octet| *octet == b',')).map(<[u8]>::trim_ascii);
    texts.filter(|text| !text.is_empty()).map(move |text| Member::parse(order, text))
}

/// Gives the octets of the normalised list to `take`, until that returns `false`; then returns `false` too.
///
/// Normalised are: the members' order, as far as it says nothing, each once; case; whitespace; the weights' digits, of which 1 is left
/// out; and the two other names of codings (§8.4.1). A malformed member is only put into lower case and its place.
///
/// A list of up to [`INLINE`] members costs no allocation: this is done at each hit by a request whose list is not normalised.
pub(super) fn normalise<'a>(order: Order, lines: impl Iterator<Item = &'a [u8]>, take: &mut impl FnMut(u8) -> bool) -> bool {
    let mut inline = [Member::default(); INLINE];
    let mut spilled = Vec::new();
    let mut count = 0;
    for member in members(order, lines) {
        match inline.get_mut(count) {
            Some(place) => *place = member,
            None => {
                if spilled.is_empty() {
                    spilled.extend(inline);
                }
                spilled.push(member);
            }
        }
        count += 1;
    }
    let members = if spilled.is_empty() { &mut inline[..count] } else { &mut spilled[..] };
    members.sort_by(Member::compare);
    let mut last: Option<&Member<'_>> = None;
    for member in &*members {
        if last.is_some_and(|last| last.is_same(member)) {
            continue;
        }
        if !(last.is_none() || b", ".iter().all(|octet| take(*octet))) || !member.write(take) {
            return false;
        }
        last = Some(member);
    }
    true
}

impl<'a> Member<'a> {
    fn parse(order: Order, text: &'a [u8]) -> Member<'a> {
        let (name, weight) = match text.iter().position(|octet| *octet == b';') {
            Some(semicolon) => (text[..semicolon].trim_ascii_end(), weight(&text[semicolon + 1..])),
            None => (text, Some(WHOLE)),
        };
        if weight.is_none() || name.is_empty() || name.iter().any(|octet| matches!(octet, b' ' | b'\t' | b'=' | b'"')) {
            return Member { name: text, weight: None, rank: CODINGS.len(), order };
        }
        if order != Order::Codings {
            return Member { name, weight, rank: CODINGS.len(), order };
        }
        // Recipients are to take the two as what they stand for (§8.4.1.1, §8.4.1.3).
        let is_alias = name.eq_ignore_ascii_case(b"x-gzip") || name.eq_ignore_ascii_case(b"x-compress");
        let name = if is_alias { &name[2..] } else { name };
        let known = CODINGS.iter().position(|coding| name.eq_ignore_ascii_case(coding.as_bytes()));
        Member { name, weight, rank: known.unwrap_or(CODINGS.len()), order }
    }

    fn compare(&self, other: &Member<'_>) -> Ordering {
        let by_weight = other.weight.cmp(&self.weight);
        if self.order == Order::Preference {
            return by_weight;
        }
        let by_name = || self.name.iter().map(u8::to_ascii_lowercase).cmp(other.name.iter().map(u8::to_ascii_lowercase));
        self.rank.cmp(&other.rank).then_with(by_name).then(by_weight)
    }

    fn is_same(&self, other: &Member<'_>) -> bool {
        self.weight == other.weight && self.name.eq_ignore_ascii_case(other.name)
    }

    fn write(&self, take: &mut impl FnMut(u8) -> bool) -> bool {
        let mut all = |octets: &[u8]| octets.iter().all(|octet| take(octet.to_ascii_lowercase()));
        if !all(self.name) {
            return false;
        }
        match self.weight {
            None | Some(WHOLE) => true,
            Some(0) => all(b";q=0"),
            Some(weight) => {
                let digits = [weight / 100, weight / 10 % 10, weight % 10].map(|digit| b'0' + digit as u8);
                let end = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
                all(b";q=0.") && all(&digits[..end])
            }
        }
    }
}

/// Parses a weight, from behind the semicolon, into thousandths (§12.4.2).
fn weight(text: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', rest @ ..] = text.trim_ascii() else { return None };
    let value = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let (whole, digits) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] => (whole, digits),
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| digits.get(at).map_or(0, |digit| u16::from(digit - b'0'));
    let weight = u16::from(whole - b'0') * WHOLE + digit(0) * 100 + digit(1) * 10 + digit(2);
    (weight <= WHOLE).then_some(weight)
}

/// The weight 1, which members have that carry none.
const WHOLE: u16 = 1000;

/// The codings that clients send, in the order in which they do.
const CODINGS: [&str; 5] = ["gzip", "compress", "deflate", "br", "zstd"];

/// More members than in the lists of nearly all clients; slices up to 20 are sorted without an allocation, too.
const INLINE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Reverse;
    use std::collections::HashMap;

    fn normalised(order: Order, lines: &[&str]) -> String {
        let mut octets = Vec::new();
        let is_whole = normalise(order, lines.iter().map(|line| line.as_bytes()), &mut |octet| {
            octets.push(octet);
            true
        });
        assert!(is_whole);
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn lists_that_mean_the_same_are_written_the_same() {
        let check = |order: Order, lines: &[&str], expected: &str| {
            assert_eq!(normalised(order, lines), expected, "{lines:?}");
            assert_eq!(normalised(order, &[expected]), expected, "{lines:?} again");
        };
        let codings = |lines: &[&str], expected: &str| check(Order::Codings, lines, expected);
        let charsets = |lines: &[&str], expected: &str| check(Order::Names, lines, expected);

        // Members, RFC 9110 §5.6.1
        codings(&[""], "");
        codings(&[" ,, "], "");
        codings(&["br"], "br");
        codings(&["GZip,\tBR ,"], "gzip, br");
        codings(&["br", "gzip"], "gzip, br");
        codings(&["gzip, br, gzip;q=1, GZIP"], "gzip, br");
        codings(&["gzip;q=0.5, gzip"], "gzip, gzip;q=0.5");

        // Names, §8.4.1
        codings(&["x-gzip, X-Compress;q=0.5"], "gzip, compress;q=0.5");
        codings(&["x-gzip, gzip"], "gzip");
        codings(&["x-br, x-"], "x-, x-br");
        charsets(&["x-gzip"], "x-gzip");

        // Order
        for sent in ["gzip, deflate, br, zstd", "gzip, deflate, br", "gzip, deflate", "gzip, compress, deflate, br"] {
            codings(&[sent], sent);
        }
        codings(&["zstd, identity;q=0, *;q=0.1, br, deflate, gzip"], "gzip, deflate, br, zstd, *;q=0.1, identity;q=0");
        charsets(&["utf-8, iso-8859-1;q=0.5, *;q=0"], "*;q=0, iso-8859-1;q=0.5, utf-8");
        let languages = |lines: &[&str], expected: &str| check(Order::Preference, lines, expected);
        languages(&["en-US,en;q=0.9,de;q=0.8"], "en-us, en;q=0.9, de;q=0.8");
        languages(&["de;q=0.8 , EN-us", "en;q=0.90"], "en-us, en;q=0.9, de;q=0.8");
        languages(&["de, en, DE"], "de, en, de");
        languages(&["en, de, x y, *;q=0, de"], "en, de, *;q=0, x y");
        languages(&["b;q=2, a, ;q=3, A"], "a, b;q=2, ;q=3");
        charsets(&["fr;q=0.2, x y, en;q=0.2, en;q=0"], "en;q=0.2, en;q=0, fr;q=0.2, x y");

        // Weights, §12.4.2
        for one in ["", ";q=1", ";q=1.", ";q=1.0", ";q=1.000", " ; Q=1", ";\tq = 1.00"] {
            codings(&[&format!("br{one}")], "br");
        }
        for half in [";q=0.5", ";q=0.50", ";q=0.500", " ; q = 0.5 ", ";Q=0.5"] {
            codings(&[&format!("br{half}")], "br;q=0.5");
        }
        for none in [";q=0", ";q=0.", ";q=0.0", ";q=0.000"] {
            codings(&[&format!("br{none}")], "br;q=0");
        }
        codings(&["br;q=0.001, gzip;q=0.120, zstd;q=0.012"], "gzip;q=0.12, br;q=0.001, zstd;q=0.012");
        for malformed in [
            "br;q=1.001",
            "br;q=2",
            "br;q=0.5000",
            "br;q=.5",
            "br;q=-1",
            "br;q=",
            "br;q",
            "br;",
            "br;level=1",
            "br;q=1;q=1",
            "br;;q=1",
            ";q=1",
            "br x",
            "br=1",
            "br;q=0 .5",
            "x-gzip;q=2",
            "\"br\"",
        ] {
            codings(&[malformed], malformed);
            codings(&[&format!(" {} ,GZIP", malformed.to_uppercase())], &format!("gzip, {malformed}"));
        }
    }

    #[test]
    fn a_long_list_is_normalised_like_a_short_one() {
        let names: Vec<String> = (0..500).map(|at| format!("a{at:03}")).collect();
        let backwards: Vec<&str> = names.iter().rev().map(String::as_str).collect();
        assert_eq!(normalised(Order::Names, &[&backwards.join(",")]), names.join(", "));
        for count in [INLINE - 1, INLINE, INLINE + 1, 20, 21, 40] {
            let list = names[..count].join(", ");
            assert_eq!(normalised(Order::Names, &[&list]), list);
            // Of equals, the first remains the first.
            let backwards = backwards[..count].join(", ");
            assert_eq!(normalised(Order::Preference, &[&backwards]), backwards);
            assert_eq!(normalised(Order::Preference, &[&format!("{}de", "en,".repeat(count))]), "en, de");
        }
    }

    /// The model: all that a weight may be written as is in a table.
    fn model(order: Order, lines: &[String]) -> String {
        let mut weights: HashMap<String, u32> = HashMap::new();
        for thousandths in 0..=1000 {
            let written = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
            let shortest = written.trim_end_matches('0').len();
            weights.extend((shortest..=written.len()).map(|end| (written[..end].to_owned(), thousandths)));
        }
        weights.extend([("0".to_owned(), 0), ("1".to_owned(), 1000)]);

        let mut members: Vec<(String, Option<u32>)> = Vec::new();
        for text in lines.join(",").to_lowercase().split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let (name, rest) = text.split_once(';').map_or((text, "q=1"), |(name, rest)| (name.trim(), rest));
            let value = rest.split_once('=').filter(|(q, _)| q.trim() == "q").and_then(|(_, value)| weights.get(value.trim()));
            let is_name = !name.is_empty() && !name.contains([' ', '\t', '=', '"']);
            members.push(match value {
                Some(weight) if is_name => match (order, name) {
                    (Order::Codings, "x-gzip") => ("gzip".to_owned(), Some(*weight)),
                    (Order::Codings, "x-compress") => ("compress".to_owned(), Some(*weight)),
                    _ => (name.to_owned(), Some(*weight)),
                },
                _ => (text.to_owned(), None),
            });
        }
        let common = |name: &str| "gzip compress deflate br zstd".split(' ').position(|coding| coding == name).unwrap_or(9);
        match order {
            Order::Names => members.sort_by_key(|(name, weight)| (name.clone(), Reverse(*weight))),
            Order::Preference => members.sort_by_key(|(_, weight)| Reverse(*weight)),
            Order::Codings => members.sort_by_key(|(name, weight)| (common(name), name.clone(), Reverse(*weight))),
        }
        members.dedup();
        let write = |(name, weight): (String, Option<u32>)| match weight {
            None | Some(1000) => name,
            Some(0) => format!("{name};q=0"),
            Some(weight) => format!("{name};q={}", format!("{:.3}", f64::from(weight) / 1000.0).trim_end_matches('0')),
        };
        members.into_iter().map(write).collect::<Vec<_>>().join(", ")
    }

    fn lists() -> impl Strategy<Value = Vec<String>> {
        let member = prop_oneof![
            4 => "(gzip|GZip|x-gzip|x-compress|compress|br|zstd|deflate|en|en-GB|\\*|a)( ?; ?[qQ] ?= ?(0|1|0\\.[0-9]{0,4}|1\\.0{0,4}))?",
            1 => "[a;q=01. \"]{0,6}",
        ];
        let line = proptest::collection::vec((member, "[ \t]?,[ ]{0,2}"), 0..16);
        let line = line.prop_map(|members| members.into_iter().map(|(member, comma)| member + &comma).collect::<String>());
        proptest::collection::vec(line, 1..4)
    }

    proptest! {
        #[test]
        fn a_normalised_list_is_that_of_the_model(
            order in proptest::sample::select(&[Order::Names, Order::Preference, Order::Codings]),
            lines in lists(),
        ) {
            let written = normalised(order, &lines.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(&written, &model(order, &lines), "{:?}", lines);
            prop_assert_eq!(&normalised(order, &[&written]), &written);
        }

        #[test]
        fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
            normalise(Order::Codings, [&octets[..]].into_iter(), &mut |_| true);
        }
    }
}
