//! What a request that changes something makes invalid (RFC 9111 §4.4, RFC 9875 §3).

use super::list;
use super::tagging;
use http::header::{CONTENT_LOCATION, HeaderMap, HeaderName, LOCATION};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};

/// Whether a method is known to change nothing (RFC 9110 §9.2.1, and the registry of methods). What is not known may.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) || SAFE.contains(&method.as_str())
}

/// Whether a response to an unsafe request says that something may have changed: it is no error (§4.4).
pub fn invalidates(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// The targets beside the request's own that the response names as changed: those of `Location` and `Content-Location`, if they
/// are of the same host (§4.4: others must not be invalidated, or any site could empty the cache of another).
pub fn named_targets(host: &[u8], target: &PathAndQuery, response: &HeaderMap) -> Vec<PathAndQuery> {
    let fields = [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|name| response.get(name)?.to_str().ok());
    fields.filter_map(|reference| resolve(host, target, reference)).collect()
}

/// Whether the response is what the target itself would answer: its `Content-Location` says so (RFC 9110 §8.7).
pub fn is_located_at(host: &[u8], target: &PathAndQuery, response: &HeaderMap) -> bool {
    let mut locations = response.get_all(CONTENT_LOCATION).iter();
    let location = locations.next().filter(|_| locations.next().is_none()).and_then(|location| location.to_str().ok());
    location.and_then(|location| resolve(host, target, location)).is_some_and(|located| located == *target)
}

/// The groups that the response names as changed (RFC 9875 §3).
pub fn groups(response: &HeaderMap) -> Vec<String> {
    let lines = response.get_all(CACHE_GROUP_INVALIDATION).iter();
    let members = lines.flat_map(|line| list::members(line.as_bytes()));
    members.map(|member| tagging::group(&String::from_utf8_lossy(member))).filter(|group| !group.is_empty()).collect()
}

/// Resolves a reference (RFC 3986 §5.2) to path and query; `None` if it leads to another host, or nowhere.
fn resolve(host: &[u8], base: &PathAndQuery, reference: &str) -> Option<PathAndQuery> {
    let reference = reference.trim().split('#').next().unwrap_or_default();
    if let Some(rest) = reference.strip_prefix("//") {
        return of_host(host, rest);
    }
    if let Some((scheme, rest)) = reference.split_once("://")
        && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet))
    {
        return of_host(host, rest);
    }
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let path = match path {
        "" if query.is_none() => return Some(base.clone()),
        "" => base.path().to_owned(),
        path if path.starts_with('/') => without_dots(path),
        // The first segment of a relative path has no colon; what has one is of another scheme.
        path if path.split('/').next().is_some_and(|first| first.contains(':')) => return None,
        path => {
            let directory = base.path().rfind('/').map_or("/", |slash| &base.path()[..=slash]);
            without_dots(&format!("{directory}{path}"))
        }
    };
    match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")).ok(),
        None => PathAndQuery::try_from(path).ok(),
    }
}

/// What follows `//`, if the authority in it is this host.
fn of_host(host: &[u8], rest: &str) -> Option<PathAndQuery> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if !authority.as_bytes().eq_ignore_ascii_case(host) {
        return None;
    }
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let uri: Uri = target.parse().ok()?;
    let path = without_dots(uri.path());
    match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")).ok(),
        None => PathAndQuery::try_from(path).ok(),
    }
}

/// Removes dot segments (RFC 3986 §5.2.4) from a path that begins with a slash.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
        if is_last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// Methods beside those of RFC 9110 that are registered as safe (RFC 4918, 3253, 5323, 10008).
const SAFE: [&str; 4] = ["PROPFIND", "QUERY", "REPORT", "SEARCH"];

const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_known_to_be_safe_is_unsafe() {
        let check = |methods: &str, expected: bool| {
            methods.split(' ').for_each(|method| assert_eq!(is_safe(&method.parse().unwrap()), expected, "{method}"));
        };
        check("GET HEAD OPTIONS TRACE PROPFIND QUERY REPORT SEARCH", true);
        check("POST PUT DELETE PATCH M-SEARCH FOO get query", false);
    }

    #[test]
    fn an_error_invalidates_nothing() {
        // §4.4
        for (status, expected) in [(200, true), (204, true), (302, true), (399, true), (400, false), (404, false), (500, false)] {
            assert_eq!(invalidates(status.try_into().unwrap()), expected, "{status}");
        }
    }

    #[test]
    fn what_the_response_names_is_resolved_and_of_the_same_host() {
        // §4.4, RFC 3986 §5.4
        let check = |reference: &str, expected: Option<&str>| {
            for name in [LOCATION, CONTENT_LOCATION] {
                let fields: HeaderMap = [(name, reference.parse().unwrap())].into_iter().collect();
                let named = named_targets(b"h:8080", &PathAndQuery::from_static("/b/c/d?q"), &fields);
                assert_eq!(named.iter().map(PathAndQuery::as_str).collect::<Vec<_>>(), Vec::from_iter(expected), "{reference}");
            }
        };
        check("/x", Some("/x"));
        check("/x?y=1", Some("/x?y=1"));
        check("/x#fragment", Some("/x"));
        check("g", Some("/b/c/g"));
        check("./g", Some("/b/c/g"));
        check("g/", Some("/b/c/g/"));
        check("../g?y", Some("/b/g?y"));
        check("../../../g", Some("/g"));
        check(".", Some("/b/c/"));
        check("..", Some("/b/"));
        check("/a/./b/../c", Some("/a/c"));
        check("?y", Some("/b/c/d?y"));
        check("", Some("/b/c/d?q"));
        check("http://h:8080/x", Some("/x"));
        check("HTTPS://H:8080/x?y", Some("/x?y"));
        check("//h:8080/x", Some("/x"));
        check("http://h:8080", Some("/"));
        check("http://h:8080?y", Some("/?y"));
        check("http://h/x", None);
        check("http://other:8080/x", None);
        check("//other/x", None);
        check("http://u@h:8080/x", None);
        check("mailto:a@h", None);
        check("g?u=http://other/", Some("/b/c/g?u=http://other/"));
    }

    #[test]
    fn a_response_is_what_its_target_would_answer_if_it_says_so() {
        // RFC 9110 §8.7
        let check = |locations: &[&str], expected: bool| {
            let fields: HeaderMap = locations.iter().map(|value| (CONTENT_LOCATION, value.parse().unwrap())).collect();
            assert_eq!(is_located_at(b"h", &PathAndQuery::from_static("/a/b?c"), &fields), expected, "{locations:?}");
        };
        check(&[], false);
        check(&["/a/b?c"], true);
        check(&["b?c"], true);
        check(&["http://h/a/b?c"], true);
        check(&[""], true);
        check(&["/a/b"], false);
        check(&["http://other/a/b?c"], false);
        check(&["/a/b?c", "/a/b?c"], false);
    }

    #[test]
    fn groups_are_strings_of_a_list() {
        // RFC 9875 §3
        let fields: HeaderMap = [(CACHE_GROUP_INVALIDATION, r#""scripts", "a, b";p, """#.parse().unwrap())].into_iter().collect();
        assert_eq!(groups(&fields), ["scripts", "a, b"]);
        assert!(groups(&HeaderMap::new()).is_empty());
    }

    proptest! {
        #[test]
        fn no_reference_makes_it_panic_or_leaves_the_host(reference in "[a-z./:?#@ ]{0,20}") {
            if let Some(target) = resolve(b"h", &PathAndQuery::from_static("/a/b"), &reference) {
                prop_assert!(target.as_str().starts_with('/'));
                prop_assert!(!target.path().split('/').any(|segment| segment == ".." || segment == "."));
            }
        }
    }
}
