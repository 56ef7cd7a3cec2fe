//! `No-Vary-Search`: which queries get the same response (draft-ietf-httpbis-no-vary-search).
//!
//! An origin says with it that some parameters of the query, or all but some, or their order make no difference to a response.
//! Two queries are then equivalent if they are the same list of names and values once they are decoded, what makes no
//! difference is left out, and where order makes none, they are sorted by name. The values of one name keep their order.

use super::structured;
use http::header::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry};
use std::borrow::Cow;

/// What a response's `No-Vary-Search` says; by default, that only the same query gets the same response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoVarySearch {
    params: Params,
    order_counts: bool,
}

/// The parameters that make a difference; names are decoded and sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Params {
    AllBut(Vec<Vec<u8>>),
    Only(Vec<Vec<u8>>),
}

impl Default for NoVarySearch {
    fn default() -> NoVarySearch {
        NoVarySearch { params: Params::AllBut(Vec::new()), order_counts: true }
    }
}

impl NoVarySearch {
    /// Parses the field; `None` where there is none, the default where it is malformed: that only costs requests to the origin.
    pub fn of(fields: &HeaderMap) -> Option<NoVarySearch> {
        let parse = || structured::dictionary(fields, &NO_VARY_SEARCH).as_ref().and_then(NoVarySearch::parse);
        fields.contains_key(NO_VARY_SEARCH).then(|| parse().unwrap_or_default())
    }

    /// The same; `None` also where it says what holds without it, that only the same query gets the same response.
    pub fn beyond_default(fields: &HeaderMap) -> Option<NoVarySearch> {
        NoVarySearch::of(fields).filter(|said| *said != NoVarySearch::default())
    }

    /// Whether a response says the same.
    pub fn is_said_by(&self, fields: &HeaderMap) -> bool {
        NoVarySearch::of(fields).as_ref() == Some(self)
    }

    /// Takes the three members that are known. Others, and all parameters, say nothing.
    fn parse(members: &Dictionary) -> Option<NoVarySearch> {
        let order_counts = match members.get("key-order") {
            Some(value) => !boolean(value)?,
            None => true,
        };
        let params = match (members.get("params"), members.get("except")) {
            (None, None) => Params::AllBut(Vec::new()),
            // The earlier revisions of the draft, and browsers, have `params` as a boolean, and `except` beside it alone; the
            // later ones have `except` by itself. Who writes either means the same.
            (None, Some(except)) => Params::Only(names(except)?),
            (Some(params), Some(except)) if boolean(params) == Some(true) => Params::Only(names(except)?),
            (Some(_), Some(_)) => return None,
            (Some(params), None) => match boolean(params) {
                Some(true) => Params::Only(Vec::new()),
                Some(false) => Params::AllBut(Vec::new()),
                None => Params::AllBut(names(params)?),
            },
        };
        Some(NoVarySearch { params, order_counts })
    }

    /// Writes the query that stands for all that are equivalent to this one. Where there is no query, it is the empty one.
    pub fn normalise<'a>(&self, query: &'a str) -> Cow<'a, str> {
        // Queries don't have to be lists of parameters, so none is touched of which the origin didn't say that it is one.
        if *self == NoVarySearch::default() {
            return Cow::Borrowed(query);
        }
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut pairs: Vec<_> = pairs.map(|(name, value)| (decode(name), decode(value))).collect();
        pairs.retain(|(name, _)| self.counts(name));
        if !self.order_counts {
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        let mut normal = String::with_capacity(query.len());
        for (name, value) in pairs {
            if !normal.is_empty() {
                normal.push('&');
            }
            normal.extend(form_urlencoded::byte_serialize(&name));
            normal.push('=');
            normal.extend(form_urlencoded::byte_serialize(&value));
        }
        Cow::Owned(normal)
    }

    /// Whether a response to one of the queries answers the other, too.
    pub fn are_equivalent(&self, one: &str, other: &str) -> bool {
        one == other || self.normalise(one) == self.normalise(other)
    }

    fn counts(&self, name: &[u8]) -> bool {
        let is_among = |names: &[Vec<u8>]| names.binary_search_by(|known| known.as_slice().cmp(name)).is_ok();
        match &self.params {
            Params::AllBut(names) => !is_among(names),
            Params::Only(names) => is_among(names),
        }
    }
}

fn boolean(value: &ListEntry) -> Option<bool> {
    match value {
        ListEntry::Item(item) => item.bare_item.as_boolean(),
        ListEntry::InnerList(_) => None,
    }
}

/// Reads names of parameters; `None` unless it is a list of nothing but strings.
fn names(value: &ListEntry) -> Option<Vec<Vec<u8>>> {
    let ListEntry::InnerList(list) = value else { return None };
    let name = |item: &sfv::Item| match &item.bare_item {
        BareItem::String(text) => Some(decode(text.as_str())),
        _ => None,
    };
    let mut names: Vec<Vec<u8>> = list.items.iter().map(name).collect::<Option<_>>()?;
    names.sort();
    names.dedup();
    Some(names)
}

/// Decodes a name or value as forms write them.
///
/// The octets stay what they are. The draft makes characters of them, and then one and the same of all that are no UTF-8; to an
/// origin with another encoding, these make a difference.
fn decode(text: &str) -> Vec<u8> {
    let spaced: Vec<u8> = text.bytes().map(|octet| if octet == b'+' { b' ' } else { octet }).collect();
    percent_encoding::percent_decode(&spaced).collect()
}

const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn said(lines: &[&str]) -> Option<NoVarySearch> {
        NoVarySearch::of(&lines.iter().map(|line| (NO_VARY_SEARCH, line.parse().unwrap())).collect())
    }

    #[test]
    fn the_field_is_read_as_the_draft_says() {
        let names = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let check = |line: &str, params: Params, order_counts: bool| {
            assert_eq!(said(&[line]), Some(NoVarySearch { params, order_counts }), "{line}");
        };
        assert_eq!(said(&[]), None);
        check("key-order", Params::AllBut(vec![]), false);
        check("params", Params::Only(vec![]), true);
        check("params=(\"b\" \"a\" \"b\")", Params::AllBut(names(&["a", "b"])), true);
        check("params, except=(\"x\")", Params::Only(names(&["x"])), true);
        check("except=(\"x\")", Params::Only(names(&["x"])), true);
        check("except=()", Params::Only(vec![]), true);
        check("params=?1, key-order=?1, except=(\"x\");a, later=1", Params::Only(names(&["x"])), false);
        check("params=(\"%C3%A9+%E6%B0%97\")", Params::AllBut(names(&["é 気"])), true);
        assert_eq!(said(&["key-order", "params"]), said(&["params, key-order"]));
        for default in ["", "params=?0", "params=()", "key-order=?0", "unknown-key"] {
            check(default, Params::AllBut(vec![]), true);
        }
    }

    #[test]
    fn a_malformed_field_makes_no_queries_equivalent() {
        for malformed in [
            "key-order=\"not a boolean\"",
            "key-order=1, params",
            "params=\"not a boolean or inner list\"",
            "params=(not-a-string)",
            "params=(\"a\" 1)",
            "params=(\"a\"), except=(\"x\")",
            "params=(), except=()",
            "params=?0, except=(\"x\")",
            "params, except=(not-a-string)",
            "params, except=\"not an inner list\"",
            "params, except=?1",
            "except=?1",
            "params,",
            "params=(\"a\"",
            "Params",
        ] {
            assert_eq!(said(&[malformed]), Some(NoVarySearch::default()), "{malformed}");
        }
        assert!(!NoVarySearch::default().are_equivalent("a=1", "a=1&"));
        assert!(NoVarySearch::default().are_equivalent("a=1", "a=1"));
    }

    #[test]
    fn queries_are_equivalent_if_they_differ_in_nothing_that_counts() {
        let check = |line: &str, one: &str, other: &str, expected: bool| {
            let said = said(&[line]).unwrap();
            assert_eq!(said.are_equivalent(one, other), expected, "{line}: {one} {other}");
            assert_eq!(said.are_equivalent(other, one), expected, "{line}: {other} {one}");
        };

        // Parameters that don't count
        check("params=(\"utm\")", "a=1&utm=x", "utm=y&a=1&utm=z", true);
        check("params=(\"utm\")", "a=1&utm=x", "a=2&utm=x", false);
        check("params=(\"utm\")", "a=1&b=2", "b=2&a=1", false);
        check("params=(\"utm\")", "a=1&Utm=x", "a=1", false);
        check("params", "a=1&b=2", "", true);
        check("params, except=(\"id\")", "id=1&a=2", "b&id=1", true);
        check("params, except=(\"id\")", "id=1", "id=2", false);
        check("params, except=(\"id\")", "id=1", "id=1&id=1", false);
        check("params=(\"é\")", "a", "a&%C3%A9=1&é", false);
        check("params=(\"%C3%A9\")", "a", "a&%C3%A9=1&é", true);

        // Order
        check("key-order", "a=1&b=2", "b=2&a=1", true);
        check("key-order", "a=1&a=2", "a=2&a=1", false);
        check("key-order", "b=1&a=1&b=2", "a=1&b=1&b=2", true);
        check("key-order", "a=1&b=2", "a=2&b=1", false);
        check("key-order, params=(\"c\")", "a=1&c&b=2", "b=2&a=1", true);
        check("key-order, except=(\"a\" \"b\")", "a=1&c&b=2", "b=2&a=1", true);

        // What is written differently, as in the draft's section 6.1
        for line in ["key-order", "params=(\"utm\")", "except=(\"a\")"] {
            check(line, "a=x", "%61=%78", true);
            check(line, "a=é", "a=%C3%A9", true);
            check(line, "a=%C3%A9", "a=%c3%a9", true);
            check(line, "a=x&&&&", "a=x", true);
            check(line, "a=", "a", true);
            check(line, "a=%20", "a=+", true);
            check(line, "a=%20", "a= &", true);
            check(line, "a=1=2", "a=1%3D2", true);
            check(line, "a=1%262", "a=1&2", false);
            check(line, "a=%2B", "a=+", false);
            check(line, "a=%", "a=%25", true);
            // Here the draft says that both are U+FFFD, and the same.
            check(line, "a=%f6", "a=%ef%bf%bd", false);
        }
    }

    #[test]
    fn the_normal_form_is_a_query_again() {
        let check = |line: &str, query: &str, expected: &str| {
            assert_eq!(said(&[line]).unwrap().normalise(query), expected, "{line}: {query}");
        };
        check("params=?0", "b=1&&a", "b=1&&a");
        check("key-order", "", "");
        check("key-order", "b=1&&a&=&b=%30", "=&a=&b=1&b=0");
        check("params=(\"b\")", "b=1&a=x y&a=x%2By", "a=x+y&a=x%2By");
        check("except=(\"b\")", "b=%f6&a", "b=%F6");
        check("params", "b=1&a", "");
    }

    /// The model: the draft's algorithm, with a map in place of sorting.
    fn are_equivalent(said: &NoVarySearch, one: &str, other: &str) -> bool {
        let counts = |name: &str| match &said.params {
            Params::AllBut(names) => names.iter().all(|known| known != name.as_bytes()),
            Params::Only(names) => names.iter().any(|known| known == name.as_bytes()),
        };
        let pairs = |query: &str| -> Vec<(String, String)> {
            form_urlencoded::parse(query.as_bytes()).into_owned().filter(|(name, _)| counts(name)).collect()
        };
        let by_name = |query: &str| {
            let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
            pairs(query).into_iter().for_each(|(name, value)| by_name.entry(name).or_default().push(value));
            by_name
        };
        match (said.order_counts, &said.params) {
            (true, Params::AllBut(names)) if names.is_empty() => one == other,
            (true, _) => pairs(one) == pairs(other),
            (false, _) => by_name(one) == by_name(other),
        }
    }

    fn any_field() -> impl Strategy<Value = NoVarySearch> {
        "(key-order, )?(params(=\\((\"a\"( \"%C3%A9\")?)?\\))?|params, except=\\((\"[ab]\"( \"\")?)?\\)|x)"
            .prop_map(|line| said(&[&line]).unwrap())
    }

    fn query() -> impl Strategy<Value = String> {
        let parameter = prop_oneof![9 => "(a|b|%61|é|%C3%A9|)(=(1|2|%31|\\+|%20|%|=))?", 1 => "[ab%=+1]{0,4}"];
        proptest::collection::vec(parameter, 0..4).prop_map(|parameters| parameters.join("&"))
    }

    proptest! {
        #[test]
        fn queries_are_equivalent_as_in_the_model(said in any_field(), one in query(), other in query()) {
            prop_assert_eq!(said.are_equivalent(&one, &other), are_equivalent(&said, &one, &other), "{} {}", one, other);
        }

        #[test]
        fn the_normal_form_stands_for_the_equivalent_queries(said in any_field(), one in query(), two in query(), three in query()) {
            let is = |one: &str, other: &str| said.are_equivalent(one, other);
            prop_assert!(is(&one, &one));
            prop_assert_eq!(is(&one, &two), is(&two, &one));
            prop_assert!(!(is(&one, &two) && is(&two, &three)) || is(&one, &three));
            prop_assert_eq!(is(&one, &two), said.normalise(&one) == said.normalise(&two));
            let normal = said.normalise(&one);
            prop_assert!(is(&one, &normal));
            prop_assert_eq!(said.normalise(&normal), &*normal);
        }

        #[test]
        fn nothing_makes_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..40), said in any_field(), query in ".{0,30}") {
            if let Ok(value) = http::HeaderValue::from_bytes(&octets) {
                NoVarySearch::of(&[(NO_VARY_SEARCH, value)].into_iter().collect());
            }
            let normal = said.normalise(&query);
            prop_assert_eq!(said.normalise(&normal), &*normal);
        }
    }
}
