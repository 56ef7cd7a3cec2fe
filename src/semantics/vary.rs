//! The request fields that select a response (RFC 9111 §4.1).

use super::fields::{self, Kind};
use super::language;
use super::weighted::{self, Order};
use http::header::{ACCEPT_LANGUAGE, HeaderMap, HeaderName, HeaderValue, VARY};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What a response's `Vary` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    /// Every request with its key selects the response.
    None,
    /// `*`: no other request does.
    Any,
    /// Those do that agree in these fields; sorted, each once.
    Fields(Vec<HeaderName>),
}

/// The values, normalised, that a request must have in some fields to select a response.
///
/// A field that was missing must be missing; an empty one is something else.
///
/// Of `Accept-Language`, one language may be wanted instead of a list: that of the response, if the request that fetched it named that one
/// and no other, so that the origin was shown nothing else. It then answers all requests that want none more (§4.1, RFC 9110 §12.5.4),
/// however the rest of their lists reads: whatever the origin has for them could not please them better. Such a language is written with a
/// comma before it, as no normalised list begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selection(Option<Arc<Vec<Part>>>);

/// A selecting field and its normalised value, `None` where it was missing.
pub type Part = (HeaderName, Option<Box<[u8]>>);

impl Vary {
    /// Parses the `Vary` fields of a response. A name that is none counts as `*`: it is unknown what it varies on.
    pub fn of(fields: &HeaderMap) -> Vary {
        let mut names = Vec::new();
        for line in fields.get_all(VARY) {
            for member in line.as_bytes().split(|&octet| octet == b',').map(<[u8]>::trim_ascii) {
                match member {
                    b"" => {}
                    b"*" => return Vary::Any,
                    _ => match HeaderName::from_bytes(member) {
                        Ok(name) => names.push(name),
                        Err(_) => return Vary::Any,
                    },
                }
            }
        }
        if names.is_empty() {
            return Vary::None;
        }
        names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        Vary::Fields(names)
    }
}

impl Selection {
    /// The selection that every request fits.
    pub fn empty() -> Selection {
        Selection::default()
    }

    /// Takes the values of the named fields from a request.
    pub fn of(names: &[HeaderName], request: &HeaderMap) -> Selection {
        Selection::from_parts(parts_of(names, request))
    }

    /// Takes what selects a response, from the request that fetched it and the response's own fields.
    pub fn of_exchange(names: &[HeaderName], request: &HeaderMap, response: &HeaderMap) -> Selection {
        let mut parts = parts_of(names, request);
        if let Some((_, wanted)) = parts.iter_mut().find(|(name, _)| *name == ACCEPT_LANGUAGE)
            && let Some(language) = language::of_response(response)
            && language::dearest(request).is_some()
            && wanted.as_deref().is_some_and(|wanted| wanted.eq_ignore_ascii_case(language))
        {
            *wanted = Some(chosen(language));
        }
        Selection::from_parts(parts)
    }

    /// All selections that a response to be used for a request can have: the request's own values, then the language that it wants most.
    pub fn candidates(names: &[HeaderName], request: &HeaderMap) -> Vec<Selection> {
        let mut candidates = vec![Selection::of(names, request)];
        if let Some(at) = names.iter().position(|name| *name == ACCEPT_LANGUAGE)
            && let Some(language) = language::dearest(request)
        {
            let mut parts = candidates[0].parts().to_vec();
            parts[at].1 = Some(chosen(language));
            candidates.push(Selection::from_parts(parts));
        }
        candidates
    }

    /// Restores a selection from what [`Selection::iter`] gave.
    pub fn from_parts(parts: Vec<Part>) -> Selection {
        Selection((!parts.is_empty()).then(|| Arc::new(parts)))
    }

    /// Whether many responses are likely to have the same: content negotiation alone selects it, and in few octets.
    pub fn is_common(&self) -> bool {
        self.names().all(|name| fields::kind(name) == Kind::Negotiating) && self.weight() <= COMMON_BYTES_MAX
    }

    /// About how many octets of memory it takes beside itself.
    pub fn weight(&self) -> usize {
        let values = self.iter().map(|(_, value)| value.map_or(0, <[u8]>::len)).sum::<usize>();
        size_of_val(self.parts()) + values
    }

    /// Whether a request has the same values, or wants no language more than the chosen one.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.iter().all(|(name, wanted)| {
            let Some(wanted) = wanted else { return !request.contains_key(name) };
            let mut lines = request.get_all(name).iter();
            match (lines.next(), lines.next()) {
                (None, _) => false,
                _ if is_secret(name) => value(name, request).as_deref() == Some(wanted),
                // What equals a normalised value is normalised itself, so most requests need no second look.
                (Some(only), None) if only.as_bytes() == wanted => true,
                _ => match wanted {
                    [b',', language @ ..] if *name == ACCEPT_LANGUAGE => {
                        language::dearest(request).is_some_and(|dearest| dearest.eq_ignore_ascii_case(language))
                    }
                    wanted => {
                        let mut left = wanted.iter();
                        normalise(name, request, &mut |octet| left.next() == Some(&octet)) && left.next().is_none()
                    }
                },
            }
        })
    }

    /// The names of the selecting fields.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.parts().iter().map(|(name, _)| name)
    }

    /// The selecting fields and their normalised values, `None` where the request had no such field.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.parts().iter().map(|(name, value)| (name, value.as_deref()))
    }

    /// The selecting fields as a request may have them that the response is an answer to. Of credentials there is a hash alone.
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.iter().map(|(name, value)| match value {
            Some([b',', language @ ..]) if *name == ACCEPT_LANGUAGE => (name, Some(language)),
            value => (name, value),
        })
    }

    /// Whether nothing selects, so that every request fits.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn parts(&self) -> &[Part] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

fn parts_of(names: &[HeaderName], request: &HeaderMap) -> Vec<Part> {
    names.iter().map(|name| (name.clone(), value(name, request))).collect()
}

/// How the values of a field may be written differently and mean the same.
#[derive(PartialEq)]
enum Form {
    /// A list: its lines can be combined, and whitespace around commas says nothing (RFC 9110 §5.3, §5.6.1).
    List,
    /// A list of names with weights, in an order that says little (RFC 9110 §12.5.2 to §12.5.4).
    Weighted(Order),
    /// One value, in which a comma is a character like any other.
    Single,
    /// One value that HTTP/2 may cut into several lines (RFC 9113 §8.2.3).
    Cookie,
}

fn form(name: &HeaderName) -> Form {
    match name.as_str() {
        "accept-charset" => Form::Weighted(Order::Names),
        "accept-language" => Form::Weighted(Order::Preference),
        "accept-encoding" => Form::Weighted(Order::Codings),
        "cookie" => Form::Cookie,
        "authorization" | "from" | "host" | "origin" | "proxy-authorization" | "referer" | "user-agent" => Form::Single,
        _ => Form::List,
    }
}

fn value(name: &HeaderName, request: &HeaderMap) -> Option<Box<[u8]>> {
    if !request.contains_key(name) {
        return None;
    }
    let mut value = Vec::new();
    normalise(name, request, &mut |octet| {
        value.push(octet);
        true
    });
    if is_secret(name) {
        // A selection is written down, also outside of this process; a credential must not be.
        return Some(Sha256::digest(&value).as_slice().into());
    }
    Some(value.into())
}

/// Writes fields as they select: who reads one otherwise than by its grammar is then shown nothing else than what stands for it in a
/// selection.
pub fn write_as_selecting(names: &[HeaderName], request: &mut HeaderMap) {
    for name in names {
        let Some(value) = value(name, request) else { continue };
        let mut lines = request.get_all(name).iter();
        let is_written_so = lines.next().is_some_and(|line| *line.as_bytes() == *value) && lines.next().is_none();
        if !is_written_so && let Ok(value) = HeaderValue::from_bytes(&value) {
            request.insert(name.clone(), value);
        }
    }
}

/// Writes down a chosen language.
fn chosen(language: &[u8]) -> Box<[u8]> {
    [b",", language].concat().to_ascii_lowercase().into()
}

/// Whether the value of this field is a credential, of which a selection has a hash alone.
pub fn is_secret(name: &HeaderName) -> bool {
    fields::kind(name) == Kind::Credential
}

/// Gives the octets of a field's normalised value to `take`, until that returns `false`; then returns `false` too.
///
/// The lines are joined with `, `. Outside of quoted strings each comma is written as `, ` whatever whitespace is around it.
/// Whitespace elsewhere is kept: two values that differ in more than this never become the same, but for lists of weighted
/// members, which [`weighted::normalise`] is about.
fn normalise(name: &HeaderName, request: &HeaderMap, take: &mut impl FnMut(u8) -> bool) -> bool {
    let form = form(name);
    if let Form::Weighted(order) = form {
        return weighted::normalise(order, request.get_all(name).iter().map(HeaderValue::as_bytes), take);
    }
    let mut take_all = |octets: &[u8]| octets.iter().all(|octet| take(*octet));
    let mut is_quoted = false;
    for (index, line) in request.get_all(name).iter().enumerate() {
        if index > 0 && !take_all(if form == Form::Cookie { b"; " } else { b", " }) {
            return false;
        }
        let mut rest = line.as_bytes();
        if form != Form::List {
            if !take_all(rest) {
                return false;
            }
            continue;
        }
        if !is_quoted {
            rest = rest.trim_ascii_start();
        }
        while let [first, others @ ..] = rest {
            let taken = match first {
                b'\\' if is_quoted && !others.is_empty() => 2,
                b'"' => {
                    is_quoted = !is_quoted;
                    1
                }
                b',' if !is_quoted => {
                    rest = others.trim_ascii_start();
                    if !take_all(b", ") {
                        return false;
                    }
                    continue;
                }
                b' ' | b'\t' if !is_quoted => {
                    let word = rest.trim_ascii_start();
                    if matches!(word, [] | [b',', ..]) {
                        rest = word;
                        continue;
                    }
                    rest.len() - word.len()
                }
                _ => 1,
            };
            if !take_all(&rest[..taken]) {
                return false;
            }
            rest = &rest[taken..];
        }
    }
    true
}

/// The names and values of all four fields of content negotiation, as browsers send them.
const COMMON_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::COOKIE;
    use proptest::prelude::*;

    fn fields(name: &str, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.parse().unwrap(), HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn vary_is_read_from_all_lines() {
        // RFC 9110 §12.5.5
        let some = |names: &[&str]| Vary::Fields(names.iter().map(|name| name.parse().unwrap()).collect());
        let check = |lines: &[&str], expected: Vary| assert_eq!(Vary::of(&fields("vary", lines)), expected, "{lines:?}");
        check(&[], Vary::None);
        check(&[""], Vary::None);
        check(&[" , "], Vary::None);
        check(&["foo"], some(&["foo"]));
        check(&["Foo, bar,FOO"], some(&["bar", "foo"]));
        check(&["foo", "bar", "", "foo"], some(&["bar", "foo"]));
        for any in [&["*"][..], &["*, *"], &["*", "*"], &[", *"], &["", "*"], &["*, foo"], &["foo, *"], &["foo", "bar,*"]] {
            check(any, Vary::Any);
        }
        check(&["foo bar"], Vary::Any);
        check(&["foo, \"bar\""], Vary::Any);
    }

    #[test]
    fn a_request_matches_if_its_values_mean_the_same() {
        // RFC 9111 §4.1
        let check = |name: &str, stored: &[&str], new: &[&str], expected: bool| {
            let selection = Selection::of(&[name.parse().unwrap()], &fields(name, stored));
            assert_eq!(selection.matches(&fields(name, new)), expected, "{name}: {stored:?} {new:?}");
            let selection = Selection::of(&[name.parse().unwrap()], &fields(name, new));
            assert_eq!(selection.matches(&fields(name, stored)), expected, "{name}: {new:?} {stored:?}");
        };
        check("foo", &["1"], &["1"], true);
        check("foo", &["1"], &["2"], false);
        check("foo", &["1"], &["12"], false);
        check("foo", &["1"], &[], false);
        check("foo", &[], &[], true);
        check("foo", &[""], &[], false);
        check("foo", &[""], &[""], true);
        check("foo", &["1,2"], &[" 1, 2 "], true);
        check("foo", &["1,2"], &["1 \t,\t 2"], true);
        check("foo", &["1, 2"], &["1", "2"], true);
        check("foo", &["1, 2"], &["2", "1"], false);
        check("foo", &["1 2"], &["1  2"], false);
        check("foo", &["12"], &["1 2"], false);
        check("foo", &["1,2"], &["1", "", "2"], false);
        check("foo", &["A"], &["a"], false);
        check("foo", &["\"1,2\""], &["\"1, 2\""], false); // RFC 9110 §5.6.4
        check("foo", &["\"1\",2"], &["\"1\" , 2"], true);
        check("foo", &[r#""\"",2"#], &[r#""\"" , 2"#], true);
        check("foo", &[r#""\",2""#], &[r#""\", 2""#], false);
        check("accept-encoding", &["GZip, br"], &["gzip,BR"], true); // RFC 9110 §8.4.1
        check("accept-language", &["de-DE"], &["de-de"], true);
        check("accept-encoding", &["gzip, deflate, br"], &["br;q=1.0", "DEFLATE , x-gzip"], true); // §12.5.3
        check("accept-encoding", &["br;q=0.5"], &["br;q=0.50"], true); // §12.4.2
        check("accept-encoding", &["br, gzip;q=0"], &["br"], false);
        check("accept-encoding", &[""], &[","], true);
        check("accept-encoding", &[""], &["identity"], false);
        check("accept-charset", &["utf-8, ascii;q=0.1"], &["ascii ; q=0.100,UTF-8"], true); // §12.5.2
        check("accept-language", &["de, en;q=0.5"], &["en;q=0.5, de"], true); // §12.5.4
        // §12.5.4: of equals, some recipients prefer the first.
        check("accept-language", &["en, de"], &["de, en"], false);
        check("accept-language", &["en, de"], &["en", "de;q=1.0"], true);
        check("user-agent", &["a,b"], &["a, b"], false);
        check("cookie", &["a=1; b=2"], &["a=1", "b=2"], true); // RFC 9113 §8.2.3
        check("cookie", &["a=1,b=2"], &["a=1, b=2"], false);
    }

    /// What selects a response in these languages, fetched by a request with this list.
    fn fetched(languages: &[&str], list: &str) -> Selection {
        let request = fields("accept-language", &[list]);
        Selection::of_exchange(&[ACCEPT_LANGUAGE], &request, &fields("content-language", languages))
    }

    #[test]
    fn a_chosen_language_answers_whoever_wants_none_more() {
        // RFC 9111 §4.1, RFC 9110 §12.5.4
        let selection = fetched(&["DE"], "De");
        assert_eq!(selection.iter().next(), Some((&ACCEPT_LANGUAGE, Some(&b",de"[..]))));
        assert_eq!(selection.fields().next(), Some((&ACCEPT_LANGUAGE, Some(&b"de"[..]))));
        let check = |lines: &[&str], expected: bool| {
            assert_eq!(selection.matches(&fields("accept-language", lines)), expected, "{lines:?}");
        };
        check(&["de"], true);
        check(&[" DE ; Q=0.1"], true);
        check(&[",de"], true);
        check(&["de, en"], true);
        check(&["de", "en"], true);
        check(&["fr;q=0.5, de;q=1.0"], true);
        check(&["de, *"], true);
        check(&["en, de"], false);
        check(&["en", "de"], false);
        check(&[], false);
        check(&[""], false);
        check(&["*"], false);
        check(&["*, de;q=0.9"], false);
        check(&["en, de;q=0.9"], false);
        check(&["de;q=0"], false);
        check(&["de-DE"], false);
        check(&["d"], false);
        check(&["de, en;q=2"], false);
        check(&["de, de;q=0"], false);
        check(&["a, b, c, d, de"], false);
    }

    #[test]
    fn a_language_is_chosen_only_if_the_response_has_that_one_and_its_request_named_no_other() {
        let check = |languages: &[&str], list: &str, is_chosen: bool| {
            let plain = Selection::of(&[ACCEPT_LANGUAGE], &fields("accept-language", &[list]));
            assert_eq!(fetched(languages, list) != plain, is_chosen, "{languages:?} {list:?}");
        };
        check(&["de"], "de", true);
        check(&["de"], " DE ; q=1.0 ,", true);
        check(&["de"], "fr;q=0.5, de", false);
        check(&["de"], "de, <script>;q=0.1", false);
        check(&["de"], "de;q=0.5", false);
        check(&[], "de", false);
        check(&["de, en"], "de", false);
        check(&["de", "en"], "de", false);
        check(&["de-DE"], "de", false);
        check(&["de"], "de-DE", false);
        check(&["de"], "en, de;q=0.9", false);
        check(&["de"], "*", false);
        check(&["*"], "*", false);
        check(&["de"], "de;q=0", false);
        check(&["=de"], "=de", false);

        // Nothing was asked for, or it does not select.
        let german = fields("content-language", &["de"]);
        let names = [ACCEPT_LANGUAGE];
        assert_eq!(Selection::of_exchange(&names, &HeaderMap::new(), &german), Selection::of(&names, &HeaderMap::new()));
        let request = fields("accept-language", &["de"]);
        assert_eq!(Selection::of_exchange(&[COOKIE], &request, &german), Selection::of(&[COOKIE], &request));
    }

    #[test]
    fn the_other_fields_must_agree_with_a_chosen_language_too() {
        let request = |language: &'static str, accept: &'static str| -> HeaderMap {
            let fields = [("accept", accept), ("accept-language", language)];
            fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).into_iter().collect()
        };
        let names = ["accept".parse().unwrap(), ACCEPT_LANGUAGE];
        let selection = Selection::of_exchange(&names, &request("de", ",de"), &fields("content-language", &["de"]));
        assert!(selection.matches(&request("de, en", ",de")));
        assert!(!selection.matches(&request("de, en", "de")));
        assert!(!selection.matches(&request("en", ",de")));
        assert_eq!(selection.fields().next().unwrap().1, Some(&b", de"[..]));

        let candidates = Selection::candidates(&names, &request("en;q=0.5, de, FR", ",de"));
        let languages: Vec<_> = candidates.iter().map(|candidate| candidate.iter().nth(1).unwrap().1.unwrap()).collect();
        assert_eq!(languages, [&b"de, fr, en;q=0.5"[..], b",de"]);
        assert_eq!(candidates[1], selection);
        assert_eq!(Selection::candidates(&names[..1], &request("de", "x")), [Selection::of(&names[..1], &request("de", "x"))]);
    }

    #[test]
    fn all_selecting_fields_must_agree() {
        let request = |foo: &str, bar: Option<&str>| {
            let mut request = fields("foo", &[foo]);
            request.extend(bar.map(|bar| ("bar".parse::<HeaderName>().unwrap(), HeaderValue::from_str(bar).unwrap())));
            request.insert("other", HeaderValue::from_static("whatever"));
            request
        };
        let names = ["bar".parse().unwrap(), "foo".parse().unwrap()];
        let selection = Selection::of(&names, &request("1", Some("2")));
        let check = |foo: &str, bar: Option<&str>, expected: bool| {
            assert_eq!(selection.matches(&request(foo, bar)), expected, "{foo} {bar:?}");
        };
        check("1", Some("2"), true);
        check("1", Some("1"), false);
        check("2", Some("2"), false);
        check("1", None, false);
        assert!(selection.names().eq(&names));
        assert!(!selection.is_empty());
        assert!(Selection::empty().is_empty() && Selection::empty().matches(&request("1", None)));
    }

    #[test]
    fn a_selection_survives_being_taken_apart() {
        let names = ["absent".parse().unwrap(), "foo".parse().unwrap()];
        let selection = Selection::of(&names, &fields("foo", &["1,2"]));
        let parts: Vec<_> = selection.iter().map(|(name, value)| (name.clone(), value.map(Into::into))).collect();
        assert_eq!(parts[1].1.as_deref(), Some(&b"1, 2"[..]));
        assert_eq!(Selection::from_parts(parts), selection);
    }

    /// The model: joins the lines, cuts the value at each comma outside of quotes, trims, joins again.
    fn model(lines: &[String]) -> Option<String> {
        if lines.is_empty() {
            return None;
        }
        let mut members = vec![String::new()];
        let (mut is_quoted, mut is_escaped) = (false, false);
        for character in lines.join(", ").chars() {
            match character {
                ',' if !is_quoted => {
                    members.push(String::new());
                    continue;
                }
                '"' if !is_escaped => is_quoted = !is_quoted,
                _ => {}
            }
            is_escaped = is_quoted && character == '\\' && !is_escaped;
            members.last_mut().unwrap().push(character);
        }
        let last = members.len() - 1;
        let trim = |(at, member): (usize, String)| match is_quoted && at == last {
            // Whitespace within a quoted string that isn't closed is kept, too.
            true => member.trim_start_matches([' ', '\t']).to_owned(),
            false => member.trim_matches([' ', '\t']).to_owned(),
        };
        Some(members.into_iter().enumerate().map(trim).collect::<Vec<_>>().join(", "))
    }

    fn lines() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[ab\" ,\\\\]{0,5}", 0..3)
    }

    fn weighted_lines() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("((br|x-gzip|gzip|BR)(;q=(1|1\\.0|0\\.50?))?,){0,3}", 0..3)
    }

    /// Members, each with its weight in tenths, as a list.
    fn languages() -> impl Strategy<Value = Vec<(&'static str, u32)>> {
        let language = proptest::sample::select(&["de", "DE", "de-DE", "en", "fr", "*", "=de"]);
        proptest::collection::vec((language, 0..=10u32), 0..6)
    }

    fn list(members: &[(&str, u32)]) -> HeaderMap {
        let members = members.iter().map(|(name, tenths)| format!("{name};q={}.{}", tenths / 10, tenths % 10));
        fields("accept-language", &[&members.collect::<Vec<_>>().join(", ")])
    }

    proptest! {
        #[test]
        fn what_matches_by_a_chosen_language_has_it_at_its_highest_weight(
            first in languages(),
            second in languages(),
            language in proptest::sample::select(&["de", "De-de", "en", "*", "=de", "de, en"]),
        ) {
            let names = [ACCEPT_LANGUAGE];
            let selection = Selection::of_exchange(&names, &list(&first), &fields("content-language", &[language]));
            let plain = Selection::of(&names, &list(&first));
            prop_assert!(selection.matches(&list(&first)));
            prop_assert!(Selection::candidates(&names, &list(&first)).contains(&selection));
            // What a later request finds in Redis is what it finds in memory.
            let is_candidate = Selection::candidates(&names, &list(&second)).contains(&selection);
            prop_assert_eq!(selection.matches(&list(&second)), is_candidate);
            if selection != plain {
                prop_assert!(first.iter().all(|(name, _)| name.eq_ignore_ascii_case(language)));
                for members in [&first, &second].into_iter().filter(|members| selection.matches(&list(members))) {
                    let highest = members.iter().map(|(_, tenths)| *tenths).max().unwrap_or_default();
                    let of_language = members.iter().filter(|(name, _)| name.eq_ignore_ascii_case(language));
                    let weights: Vec<u32> = of_language.map(|(_, tenths)| *tenths).collect();
                    prop_assert!(!weights.is_empty() && highest > 0);
                    prop_assert!(weights.iter().all(|tenths| *tenths == highest));
                }
            }
        }

        #[test]
        fn a_request_matches_iff_the_normalised_values_are_equal(stored in lines(), new in lines()) {
            let request = |lines: &[String]| fields("foo", &lines.iter().map(String::as_str).collect::<Vec<_>>());
            let selection = Selection::of(&["foo".parse().unwrap()], &request(&stored));
            let (_, value) = selection.iter().next().unwrap();
            let expected = model(&stored);
            prop_assert_eq!(value, expected.as_deref().map(str::as_bytes));
            prop_assert_eq!(selection.matches(&request(&new)), model(&stored) == model(&new));
            prop_assert!(selection.matches(&request(&stored)));
        }

        #[test]
        fn a_weighted_list_matches_iff_it_is_written_the_same_when_normalised(
            name in proptest::sample::select(&["accept-encoding", "accept-language"]),
            stored in weighted_lines(),
            new in weighted_lines(),
        ) {
            let request = |lines: &[String]| fields(name, &lines.iter().map(String::as_str).collect::<Vec<_>>());
            let of = |lines: &[String]| Selection::of(&[name.parse().unwrap()], &request(lines));
            prop_assert_eq!(of(&stored).matches(&request(&new)), of(&stored) == of(&new));
            prop_assert!(of(&stored).matches(&request(&stored)));
        }
    }
}
