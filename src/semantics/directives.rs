//! `Cache-Control` of responses and requests, and `Pragma` (RFC 9111 §5.2, §5.4); `CDN-Cache-Control` and its like (RFC 9213);
//! `Surrogate-Control`.

use super::{list, structured};
use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, PRAGMA};
use sfv::{BareItem, Key, ListEntry};
use std::time::Duration;

/// What a response's `Cache-Control` says (§5.2.2), or a field that goes before it (RFC 9213).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResponseDirectives {
    /// §5.2.2.5.
    pub no_store: bool,
    /// §5.2.2.7 without field names, or with names of fields that can't be left out of a response.
    pub private: bool,
    /// §5.2.2.7 with field names: these fields are not stored, and the rest may be.
    pub private_fields: Vec<HeaderName>,
    /// §5.2.2.4 without field names, or with names of fields that can't be left out of a response.
    pub no_cache: bool,
    /// §5.2.2.4 with field names: these fields are not reused without validation.
    pub no_cache_fields: Vec<HeaderName>,
    /// §5.2.2.9.
    pub public: bool,
    /// §5.2.2.2.
    pub must_revalidate: bool,
    /// §5.2.2.8.
    pub proxy_revalidate: bool,
    /// §5.2.2.3.
    pub must_understand: bool,
    /// RFC 8246.
    pub immutable: bool,
    /// §5.2.2.6.
    pub no_transform: bool,
    /// §5.2.2.1.
    pub max_age: Option<Duration>,
    /// §5.2.2.10.
    pub s_maxage: Option<Duration>,
    /// RFC 5861 §3.
    pub stale_while_revalidate: Option<Duration>,
    /// RFC 5861 §4.
    pub stale_if_error: Option<Duration>,
}

/// What a request's `Cache-Control` says (§5.2.1).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestDirectives {
    /// §5.2.1.4, or `Pragma: no-cache` (§5.4).
    pub no_cache: bool,
    /// §5.2.1.5.
    pub no_store: bool,
    /// §5.2.1.7.
    pub only_if_cached: bool,
    /// §5.2.1.1.
    pub max_age: Option<Duration>,
    /// §5.2.1.3.
    pub min_fresh: Option<Duration>,
    /// §5.2.1.2; `Some(None)` accepts a stale response of any age.
    pub max_stale: Option<Option<Duration>>,
}

/// Parses the `Cache-Control` fields of a response.
///
/// Where the field is malformed or contradicts itself, the reading that reuses less wins: a mistake then costs a request
/// to the origin, not a wrong answer (§4.2.1 asks for the same, or for the first value).
pub fn response(fields: &HeaderMap) -> ResponseDirectives {
    let mut said = ResponseDirectives::default();
    directives(fields).for_each(|directive| said.take(directive));
    said
}

/// Parses what goes before `Cache-Control` and `Expires`: the first of the target list's fields that is a valid, non-empty
/// dictionary (RFC 9213 §2.2).
///
/// Where it is `Some`, neither `Cache-Control` nor `Expires` count, whatever they say.
pub fn targeted(fields: &HeaderMap, targets: &[HeaderName]) -> Option<ResponseDirectives> {
    let members = targets.iter().find_map(|name| {
        // RFC 9213 §2.1: a field that is empty or malformed counts as missing.
        structured::dictionary(fields, name).filter(|members| !members.is_empty())
    })?;
    let mut said = ResponseDirectives::default();
    members.iter().for_each(|(key, value)| said.take(Directive::of_member(key, value)));
    Some(said)
}

/// Parses what `Surrogate-Control` forbids to caches that stand in for the origin, as this one does (Edge Architecture Specification).
///
/// What it permits is not read. A parameter of a directive says which of the surrogates is meant; what is forbidden to one is to all.
pub fn surrogate(fields: &HeaderMap) -> ResponseDirectives {
    let mut said = ResponseDirectives::default();
    for member in fields.get_all(SURROGATE_CONTROL).iter().flat_map(|line| list::members(line.as_bytes())) {
        let directive = member.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii();
        said.take(Directive::parse(directive));
        // Who is remote, and who is not, is not for us to say.
        said.no_store |= directive.eq_ignore_ascii_case(b"no-store-remote");
    }
    said
}

/// Parses the `Cache-Control` fields of a request, or its `Pragma` where it has none (§5.4).
pub fn request(fields: &HeaderMap) -> RequestDirectives {
    let mut said = RequestDirectives::default();
    if !fields.contains_key(CACHE_CONTROL) {
        let mut pragmas = fields.get_all(PRAGMA).iter().flat_map(|line| list::members(line.as_bytes()));
        said.no_cache = pragmas.any(|member| member.eq_ignore_ascii_case(b"no-cache"));
        return said;
    }
    for Directive { name, argument } in directives(fields) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("no-cache") {
            said.no_cache = true;
        } else if is("no-store") {
            said.no_store = true;
        } else if is("only-if-cached") {
            said.only_if_cached = true;
        } else if is("max-age") {
            shorten(&mut said.max_age, argument.seconds().unwrap_or_default());
        } else if is("min-fresh") {
            said.min_fresh = said.min_fresh.max(argument.seconds());
        } else if is("max-stale") {
            let accepted = match argument {
                Argument::None => None,
                // What can't be read permits nothing.
                _ => Some(argument.seconds().unwrap_or_default()),
            };
            said.max_stale = Some(match (said.max_stale.flatten(), accepted) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            });
        }
    }
    said
}

impl ResponseDirectives {
    fn take(&mut self, Directive { name, argument }: Directive<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("max-age") {
            shorten(&mut self.max_age, argument.seconds().unwrap_or_default());
        } else if is("s-maxage") {
            shorten(&mut self.s_maxage, argument.seconds().unwrap_or_default());
        } else if is("stale-while-revalidate") {
            shorten(&mut self.stale_while_revalidate, argument.seconds().unwrap_or_default());
        } else if is("stale-if-error") {
            shorten(&mut self.stale_if_error, argument.seconds().unwrap_or_default());
        } else if matches!(argument, Argument::False) {
            // All others are there or not, and this one says that it isn't.
        } else if is("no-store") {
            self.no_store = true;
        } else if is("private") {
            match argument.field_names() {
                Some(names) => self.private_fields.extend(names),
                None => self.private = true,
            }
        } else if is("no-cache") {
            match argument.field_names() {
                Some(names) => self.no_cache_fields.extend(names),
                None => self.no_cache = true,
            }
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("no-transform") {
            self.no_transform = true;
        } else if matches!(argument, Argument::None) && ["public", "must-understand", "immutable"].into_iter().any(is) {
            // These permit something, and take no argument: with one, it is not known what they permit.
            self.public |= is("public");
            self.must_understand |= is("must-understand");
            self.immutable |= is("immutable");
        } else {
            self.take_misspelt(name);
        }
    }

    /// Takes what is no directive, since there is more in it than a token has (`no-store;`, `"private"`), but was meant to be one of those
    /// that keep a response to itself.
    fn take_misspelt(&mut self, name: &[u8]) {
        let is_token = name.iter().all(|octet| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet));
        let name = name.to_ascii_lowercase();
        let has = |known: &str| name.windows(known.len()).any(|part| part == known.as_bytes());
        self.no_store |= !is_token && has("no-store");
        self.private |= !is_token && has("private");
    }
}

struct Directive<'a> {
    name: &'a [u8],
    argument: Argument<'a>,
}

enum Argument<'a> {
    None,
    /// A token, or what is between the quotes: recipients ought to accept both forms of any argument (§5.2).
    Text(&'a [u8]),
    /// A structured field's string or token. Digits in it are no number: in structured fields, these have a type of their own.
    Names(&'a [u8]),
    /// A structured field's integer.
    Integer(i64),
    /// A structured field's `?0`.
    False,
    Malformed,
}

fn directives(fields: &HeaderMap) -> impl Iterator<Item = Directive<'_>> {
    fields.get_all(CACHE_CONTROL).iter().flat_map(|line| list::members(line.as_bytes())).map(Directive::parse)
}

impl Directive<'_> {
    fn parse(member: &[u8]) -> Directive<'_> {
        let Some(equals) = member.iter().position(|&octet| octet == b'=') else {
            return Directive { name: member, argument: Argument::None };
        };
        let (written, argument) = (&member[..equals], &member[equals + 1..]);
        // The grammar has no whitespace around `=`, but ` =` after a known name still says that something was meant.
        let name = written.trim_ascii_end();
        let argument = match argument {
            _ if name.len() != written.len() => Argument::Malformed,
            [b'"', rest @ ..] => match list::closing_quote(rest) {
                Some(closing) if closing + 1 == rest.len() => Argument::Text(&rest[..closing]),
                _ => Argument::Malformed,
            },
            [] => Argument::Malformed,
            token => Argument::Text(token),
        };
        Directive { name, argument }
    }

    /// Takes a dictionary's member; its parameters say nothing (RFC 9213 §2.1).
    fn of_member<'a>(key: &'a Key, value: &'a ListEntry) -> Directive<'a> {
        let argument = match value {
            ListEntry::Item(item) => match &item.bare_item {
                BareItem::Boolean(true) => Argument::None,
                BareItem::Boolean(false) => Argument::False,
                BareItem::Integer(number) => Argument::Integer((*number).into()),
                BareItem::String(text) => Argument::Names(text.as_str().as_bytes()),
                BareItem::Token(token) => Argument::Names(token.as_str().as_bytes()),
                _ => Argument::Malformed,
            },
            ListEntry::InnerList(_) => Argument::Malformed,
        };
        Directive { name: key.as_str().as_bytes(), argument }
    }
}

impl<'a> Argument<'a> {
    /// Reads `delta-seconds`, clamped (§1.2.2); `None` if it is anything else.
    fn seconds(&self) -> Option<Duration> {
        match self {
            Argument::Text(text) => delta_seconds(text),
            Argument::Integer(number) => Some(Duration::from_secs(u64::try_from(*number).ok()?).min(DELTA_MAX)),
            _ => None,
        }
    }

    /// Reads field names; `None` if there are none, or one that has to be there for the response to make sense.
    ///
    /// §5.2.2.4, §5.2.2.7: many caches treat the form with names as the one without, so that is always a sound reading.
    fn field_names(&self) -> Option<Vec<HeaderName>> {
        let (Argument::Text(text) | Argument::Names(text)) = self else { return None };
        let names: Vec<HeaderName> = list::members(text).map(HeaderName::from_bytes).collect::<Result<_, _>>().ok()?;
        let is_needed = |name: &HeaderName| name.as_str().starts_with("content-") || NEEDED.contains(&name.as_str());
        (!names.is_empty() && !names.iter().any(is_needed)).then_some(names)
    }
}

/// Parses `delta-seconds` (§1.2.2): what is too large means "very long".
pub(super) fn delta_seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(Duration::from_secs(seconds).min(DELTA_MAX))
}

/// Of two values of one directive, the shorter wins: §4.2.1 permits the first value or "stale", and which of them comes
/// first is an accident of the intermediaries that added them.
fn shorten(known: &mut Option<Duration>, other: Duration) {
    *known = Some(known.map_or(other, |known| known.min(other)));
}

const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// §1.2.2: the value that larger ones count as, 68 years.
pub(super) const DELTA_MAX: Duration = Duration::from_secs(1 << 31);

/// Fields that a stored response is not understood, or its freshness not calculated, without; beside all `Content-*`.
const NEEDED: [&str; 9] =
    ["age", "cache-control", "date", "etag", "expires", "last-modified", "location", "transfer-encoding", "vary"];

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn fields(name: HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_str(line).unwrap())).collect()
    }

    fn said(lines: &[&str]) -> ResponseDirectives {
        response(&fields(CACHE_CONTROL, lines))
    }

    fn asked(lines: &[&str]) -> RequestDirectives {
        request(&fields(CACHE_CONTROL, lines))
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn directives_are_known_in_any_case_order_and_line() {
        let none = ResponseDirectives::default;
        let check = |lines: &[&str], expected: ResponseDirectives| assert_eq!(said(lines), expected, "{lines:?}");
        check(&[], none());
        check(&[""], none());
        check(&["foo, bar=baz, q=\"u\""], none()); // §5.2.3: unknown ones are ignored.
        check(&["no-store"], ResponseDirectives { no_store: true, ..none() });
        check(&["No-StOrE"], ResponseDirectives { no_store: true, ..none() });
        check(&["no-store=x"], ResponseDirectives { no_store: true, ..none() });
        check(&["xno-store, no-storex"], none());
        check(&["private"], ResponseDirectives { private: true, ..none() });
        check(&["private=\"foo\""], ResponseDirectives { private_fields: vec!["foo".parse().unwrap()], ..none() });
        check(&["private =\"a\""], ResponseDirectives { private: true, ..none() });
        check(&["public"], ResponseDirectives { public: true, ..none() });
        check(&["public=\"a\", immutable=1, must-understand=x"], none());
        check(
            &["must-revalidate,proxy-revalidate"],
            ResponseDirectives { must_revalidate: true, proxy_revalidate: true, ..none() },
        );
        check(
            &["must-understand", "immutable,no-transform"],
            ResponseDirectives { must_understand: true, immutable: true, no_transform: true, ..none() },
        );
        check(
            &["max-age=1", "s-maxage=2", "stale-while-revalidate=3, stale-if-error=4"],
            ResponseDirectives {
                max_age: Some(secs(1)),
                s_maxage: Some(secs(2)),
                stale_while_revalidate: Some(secs(3)),
                stale_if_error: Some(secs(4)),
                ..none()
            },
        );
    }

    #[test]
    fn what_a_lifetime_may_look_like() {
        let check = |value: &str, expected: Option<u64>| {
            assert_eq!(said(&[value]).max_age, expected.map(secs), "{value}");
            let shared = said(&[&value.to_lowercase().replace("max-age", "s-maxage")]).s_maxage;
            assert_eq!(shared, expected.map(secs), "{value} as s-maxage");
        };
        check("max-age=3600", Some(3600));
        check("MaX-aGe=3600", Some(3600));
        check("max-age=\"3600\"", Some(3600)); // §5.2
        check("max-age=003600", Some(3600));
        check("foo, max-age=3600, bar", Some(3600));
        check(",max-age=3600,", Some(3600));
        check("max-age=0", Some(0));
        check("max-age=2147483647", Some((1 << 31) - 1));
        check("max-age=2147483648", Some(1 << 31)); // §1.2.2
        check("max-age=99999999999", Some(1 << 31));
        check("max-age=99999999999999999999999999999999", Some(1 << 31));
        // §4.2.1: a lifetime that can't be read is encouraged to count as stale.
        for malformed in
            ["max-age", "max-age=", "max-age=\"\"", "max-age='3600'", "max-age=-1", "max-age=+1", "max-age=3600.0", "max-age=a1"]
        {
            check(malformed, Some(0));
        }
        for malformed in ["max-age=1a", "max-age =60", "max-age= 60", "max-age=\"60", "max-age=\"60\"0", "max-age=6 0"] {
            check(malformed, Some(0));
        }
        check("smax-age=60", None);
        check("maxage=60", None);
    }

    #[test]
    fn of_two_lifetimes_the_shorter_wins() {
        // §4.2.1
        let check = |lines: &[&str], expected: u64| assert_eq!(said(lines).max_age, Some(secs(expected)), "{lines:?}");
        check(&["max-age=1800, max-age=1"], 1);
        check(&["max-age=1, max-age=1800"], 1);
        check(&["max-age=1800", "max-age=1"], 1);
        check(&["max-age=1", "max-age=1800"], 1);
        check(&["max-age=60, max-age=60"], 60);
        check(&["max-age=60, max-age=x"], 0);
    }

    #[test]
    fn quoted_strings_hide_what_is_in_them() {
        // RFC 9110 §5.6.4
        let check = |line: &str, expected: u64| assert_eq!(said(&[line]).max_age, Some(secs(expected)), "{line}");
        check("extension=\"max-age=3600\", max-age=1", 1);
        check("max-age=10, extension=\"max-age=1\"", 10);
        check("extension=\"a, max-age=1, b\", max-age=10", 10);
        check(r#"extension="\", max-age=1, \"", max-age=10"#, 10);
        // Without its end it is no quoted string, and hides nothing.
        check("extension=\"max-age=5, max-age=10", 10);
        assert!(said(&["extension=\"a, no-store"]).no_store);
    }

    #[test]
    fn no_cache_and_private_with_names_are_about_these_fields_where_they_can_be_left_out() {
        // §5.2.2.4, §5.2.2.7
        let check = |line: &str, is_whole: bool, names: &[&str]| {
            let expected = (is_whole, names.iter().map(|name| name.parse().unwrap()).collect());
            let no_cache = said(&[line]);
            assert_eq!((no_cache.no_cache, no_cache.no_cache_fields), expected, "{line}");
            let private = said(&[&line.to_lowercase().replace("no-cache", "private")]);
            assert_eq!((private.private, private.private_fields), expected, "{line} as private");
        };
        check("no-cache", true, &[]);
        check("No-CaChE", true, &[]);
        check("no-cache=\"a\"", false, &["a"]);
        check("no-cache=a", false, &["a"]);
        check("no-cache=\"A, set-cookie\"", false, &["a", "set-cookie"]);
        check("no-cache=\"a\", no-cache=\"b\"", false, &["a", "b"]);
        check("no-cache=\"a\", no-cache", true, &["a"]);
        for unusable in ["no-cache=\"\"", "no-cache=", "no-cache=\"a", "no-cache=\"a b\"", "no-cache=\"a\"b", "no-cache =\"a\""] {
            check(unusable, true, &[]);
        }
        for needed in ["content-type", "Content-Encoding", "vary", "date", "etag", "age", "cache-control", "expires"] {
            check(&format!("no-cache=\"a, {needed}\""), true, &[]);
        }
    }

    #[test]
    fn what_a_request_may_ask() {
        // §5.2.1
        let none = RequestDirectives::default;
        let check = |lines: &[&str], expected: RequestDirectives| assert_eq!(asked(lines), expected, "{lines:?}");
        check(&[], none());
        check(&["no-cache"], RequestDirectives { no_cache: true, ..none() });
        check(&["NO-STORE, only-if-cached"], RequestDirectives { no_store: true, only_if_cached: true, ..none() });
        check(&["max-age=0"], RequestDirectives { max_age: Some(secs(0)), ..none() });
        check(&["max-age=x"], RequestDirectives { max_age: Some(secs(0)), ..none() });
        check(&["max-age=9, max-age=5"], RequestDirectives { max_age: Some(secs(5)), ..none() });
        check(&["min-fresh=9, min-fresh=5"], RequestDirectives { min_fresh: Some(secs(9)), ..none() });
        check(&["min-fresh=x"], none());
        check(&["max-stale"], RequestDirectives { max_stale: Some(None), ..none() });
        check(&["max-stale=60"], RequestDirectives { max_stale: Some(Some(secs(60))), ..none() });
        check(&["max-stale", "max-stale=60"], RequestDirectives { max_stale: Some(Some(secs(60))), ..none() });
        check(&["max-stale=60, max-stale"], RequestDirectives { max_stale: Some(Some(secs(60))), ..none() });
        check(&["max-stale=60, max-stale=x"], RequestDirectives { max_stale: Some(Some(secs(0))), ..none() });
    }

    #[test]
    fn pragma_counts_only_where_there_is_no_cache_control() {
        // §5.4
        let check = |pragma: &[&str], cache_control: &[&str], expected: bool| {
            let mut fields = fields(PRAGMA, pragma);
            fields.extend(super::tests::fields(CACHE_CONTROL, cache_control));
            assert_eq!(request(&fields).no_cache, expected, "{pragma:?} {cache_control:?}");
        };
        check(&["no-cache"], &[], true);
        check(&["No-Cache"], &[], true);
        check(&["foo, no-cache"], &[], true);
        check(&["foo", "no-cache"], &[], true);
        check(&["foo=\"no-cache\""], &[], false);
        check(&["no-cache"], &["max-stale"], false);
        check(&["no-cache"], &[""], false);
        check(&[], &["no-cache"], true);
    }

    #[test]
    fn the_first_target_that_says_anything_decides() {
        // RFC 9213 §2.2
        let targets: [HeaderName; 2] = ["own-cache-control".parse().unwrap(), "cdn-cache-control".parse().unwrap()];
        let check = |own: &[&str], cdn: &[&str], expected: Option<u64>| {
            let mut all = fields(targets[0].clone(), own);
            all.extend(fields(targets[1].clone(), cdn));
            all.extend(fields(CACHE_CONTROL, &["no-store"]));
            let said = targeted(&all, &targets);
            let max_age = expected.map(|seconds| ResponseDirectives { max_age: Some(secs(seconds)), ..Default::default() });
            assert_eq!(said, max_age, "{own:?} {cdn:?}");
            assert_eq!(targeted(&all, &[]), None);
        };
        check(&[], &[], None);
        check(&["max-age=1"], &["max-age=2"], Some(1));
        check(&[], &["max-age=2"], Some(2));
        check(&["", ""], &["max-age=2"], Some(2));
        for ignored in
            ["", " ", ",", "max-age=1,", "max-age=1, \"", "Max-Age=1", "max-age= 1", "max-age=1 a", "max-age=", "max-age=1;"]
        {
            check(&[ignored], &["max-age=2"], Some(2));
            check(&[ignored], &[ignored], None);
            check(&["max-age=1", ignored], &[], None);
        }
    }

    #[test]
    fn a_targeted_field_has_the_directives_as_members() {
        // RFC 9213 §2.1
        let none = ResponseDirectives::default;
        let target = HeaderName::from_static("cdn-cache-control");
        let check = |lines: &[&str], expected: ResponseDirectives| {
            assert_eq!(targeted(&fields(target.clone(), lines), std::slice::from_ref(&target)), Some(expected), "{lines:?}");
        };

        // Booleans
        check(&["none"], none()); // RFC 9213 §3.1: an unknown one is still a word against `Cache-Control`.
        check(&["no-store"], ResponseDirectives { no_store: true, ..none() });
        check(&["no-store=?1"], ResponseDirectives { no_store: true, ..none() });
        check(&["no-store=?0, private=?0, no-cache=?0, public=?0, must-revalidate=?0, immutable=?0"], none());
        check(&["no-store, no-store=?0"], none()); // RFC 9651 §4.2.2: the last one counts.
        check(&["no-store=1"], ResponseDirectives { no_store: true, ..none() });
        check(&["must-revalidate=x"], ResponseDirectives { must_revalidate: true, ..none() });
        check(&["public=1, must-understand=x, immutable=\"\""], none());
        check(
            &["public, immutable;a=1", "must-understand, must-revalidate, proxy-revalidate, no-transform"],
            ResponseDirectives {
                public: true,
                immutable: true,
                must_understand: true,
                must_revalidate: true,
                proxy_revalidate: true,
                no_transform: true,
                ..none()
            },
        );

        // Integers
        check(
            &["max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4;a=\"b\""],
            ResponseDirectives {
                max_age: Some(secs(1)),
                s_maxage: Some(secs(2)),
                stale_while_revalidate: Some(secs(3)),
                stale_if_error: Some(secs(4)),
                ..none()
            },
        );
        check(&["max-age=1, max-age=60"], ResponseDirectives { max_age: Some(secs(60)), ..none() });
        check(&["max-age=999999999999999"], ResponseDirectives { max_age: Some(DELTA_MAX), ..none() });
        for unreadable in ["-1", "60.0", "\"60\"", "a60", "?1", "?0", "(60)", ":YQ==:", "@60", "%\"60\""] {
            check(&[&format!("max-age={unreadable}")], ResponseDirectives { max_age: Some(secs(0)), ..none() });
            check(&[&format!("s-maxage={unreadable}")], ResponseDirectives { s_maxage: Some(secs(0)), ..none() });
            check(&[&format!("stale-if-error={unreadable}")], ResponseDirectives { stale_if_error: Some(secs(0)), ..none() });
        }

        // Field names
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<HeaderName>>();
        check(&["no-cache=\"a, B\""], ResponseDirectives { no_cache_fields: names(&["a", "b"]), ..none() });
        check(&["private=a"], ResponseDirectives { private_fields: names(&["a"]), ..none() });
        for unusable in ["\"\"", "\"a b\"", "\"vary\"", "a/b", "1", "(a)", "(\"a\")", "?1"] {
            check(&[&format!("private={unusable}")], ResponseDirectives { private: true, ..none() });
            check(&[&format!("no-cache={unusable}")], ResponseDirectives { no_cache: true, ..none() });
        }
    }

    const FLAGS: &[&str] =
        &["no-store", "private", "public", "no-cache", "must-revalidate", "must-understand", "immutable", "foo"];
    const DELTAS: &[&str] = &["max-age", "s-maxage", "stale-if-error", "stale-while-revalidate"];

    /// What the lists of names that are meant as such begin with.
    const NAMES: &str = "x-first";

    /// A directive before it is written: its name, and its argument with whether that stands in quotes.
    type Meant = (&'static str, Option<(String, bool)>);

    fn meant() -> impl Strategy<Value = Meant> {
        prop_oneof![
            proptest::sample::select(FLAGS).prop_map(|name| (name, None)),
            (proptest::sample::select(DELTAS), 0u64..1 << 34, any::<bool>())
                .prop_map(|(name, seconds, quoted)| (name, Some((seconds.to_string(), quoted)))),
            (proptest::sample::select(&["ext", "private"]), "[a-z ,=]{0,12}")
                .prop_map(|(name, text)| (name, Some((format!("{text}, no-store, max-age=1"), true)))),
            (proptest::sample::select(&["no-cache", "private"]), "(, [a-z]{1,5}){0,3}")
                .prop_map(|(name, more)| (name, Some((format!("{NAMES}{more}"), true)))),
        ]
    }

    /// Writes a directive in letters of random case, with random whitespace around it.
    fn written(meant: &Meant, noise: u64) -> String {
        let letters = meant.0.chars().enumerate();
        let name: String = letters.map(|(at, c)| if noise >> (at % 32) & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect();
        let argument = match &meant.1 {
            None => String::new(),
            Some((text, true)) => format!("=\"{text}\""),
            Some((text, false)) => format!("={text}"),
        };
        let space = |bits: u64| ["", " ", "\t", " \t"][(bits & 3) as usize];
        format!("{}{name}{argument}{}", space(noise >> 40), space(noise >> 50))
    }

    /// The model: each question asked by going through all that was meant.
    fn model(all: &[Meant]) -> ResponseDirectives {
        let has = |name: &str| all.iter().any(|meant| meant.0 == name);
        let delta = |name: &str| {
            let values = all.iter().filter(|meant| meant.0 == name).map(|meant| meant.1.as_ref().unwrap().0.parse().unwrap());
            values.min().map(|seconds: u64| secs(seconds.min(1 << 31)))
        };
        let is_whole = |meant: &&Meant| !meant.1.as_ref().is_some_and(|(names, _)| names.starts_with(NAMES));
        let whole = |name: &str| all.iter().filter(is_whole).any(|meant| meant.0 == name);
        let names = |name: &str| {
            let listed = all.iter().filter(|meant| meant.0 == name && !is_whole(meant));
            listed.flat_map(|meant| meant.1.as_ref().unwrap().0.split(", ").map(|name| name.parse().unwrap())).collect()
        };
        ResponseDirectives {
            no_store: has("no-store"),
            private: whole("private"),
            private_fields: names("private"),
            no_cache: whole("no-cache"),
            no_cache_fields: names("no-cache"),
            public: has("public"),
            must_revalidate: has("must-revalidate"),
            must_understand: has("must-understand"),
            immutable: has("immutable"),
            max_age: delta("max-age"),
            s_maxage: delta("s-maxage"),
            stale_while_revalidate: delta("stale-while-revalidate"),
            stale_if_error: delta("stale-if-error"),
            ..ResponseDirectives::default()
        }
    }

    proptest! {
        #[test]
        fn well_formed_fields_say_what_was_meant(
            lines in proptest::collection::vec(proptest::collection::vec((meant(), any::<u64>()), 0..5), 0..4)
        ) {
            let all: Vec<Meant> = lines.iter().flatten().map(|(meant, _)| meant.clone()).collect();
            let line = |line: &Vec<(Meant, u64)>| line.iter().map(|(meant, noise)| written(meant, *noise)).collect::<Vec<_>>().join(",");
            let lines: Vec<String> = lines.iter().map(line).collect();
            let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
            prop_assert_eq!(said(&lines), model(&all), "{:?}", lines);
        }

        #[test]
        fn a_targeted_field_says_the_same_as_cache_control(all in proptest::collection::vec(meant(), 1..6)) {
            // What differs is whether two of a name may be there, and whether a number may have quotes.
            let mut members = vec!["first".to_owned()];
            for meant in &all {
                let is_only = all.iter().filter(|other| other.0 == meant.0).count() == 1;
                let is_number_as_text = DELTAS.contains(&meant.0) && meant.1.as_ref().is_some_and(|(_, is_quoted)| *is_quoted);
                members.extend((is_only && !is_number_as_text).then(|| written(meant, 0)));
            }
            let targeted = targeted(&fields(PRAGMA, &[&members.join(", ")]), &[PRAGMA]);
            prop_assert_eq!(targeted, Some(said(&[&members.join(", ")])), "{:?}", members);
        }

        #[test]
        fn nothing_makes_the_parser_panic(
            octets in proptest::collection::vec(any::<u8>(), 0..60),
            text in "[a-z=\", \\\\-]{0,40}",
            member in "(max-age|private|no-cache|public)=(-?[0-9]{1,16}(\\.[0-9]{0,4})?|\"[a-z, ]{0,9}\"|[a-z/:*]{1,9}|\\?[01]|\\([0-9 a\"]{0,6}\\))(;a)?",
        ) {
            for value in [&octets[..], text.as_bytes(), member.as_bytes()].into_iter().flat_map(HeaderValue::from_bytes) {
                let fields: HeaderMap = [(CACHE_CONTROL, value)].into_iter().collect();
                response(&fields);
                request(&fields);
                targeted(&fields, &[CACHE_CONTROL]);
            }
        }
    }
}
