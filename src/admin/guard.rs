//! What keeps web pages, and other spellings of the paths, away from the endpoints.
//!
//! A browser reaches what its page's author does not: this machine, this network. So a page must not be able to ask here, neither
//! under its own name, which its author may have point at this listener a moment later (DNS rebinding), nor across origins.

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;
use std::net::IpAddr;

/// Whether every host that a request names is one of this listener's: an IP address, `localhost`, or a name that an operator has
/// allowed. None of these can be made to point here by whoever owns a domain.
pub(super) fn is_for_us(target: &Uri, fields: &HeaderMap, hosts: &[String]) -> bool {
    let is_ours = |named: &Authority| {
        let host = named.host().trim_start_matches('[').trim_end_matches(']');
        let is_allowed = |allowed: &String| allowed.eq_ignore_ascii_case(host);
        !named.as_str().contains('@')
            && (host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost") || hosts.iter().any(is_allowed))
    };
    let mut named = fields.get_all(HOST).iter();
    named.all(|host| Authority::try_from(host.as_bytes()).is_ok_and(|host| is_ours(&host)))
        && target.authority().is_none_or(is_ours)
}

/// Whether a web page of a foreign origin has a browser ask. Browsers say of which origin it is, or how far away, and no page can
/// have them say otherwise.
pub(super) fn is_of_a_foreign_page(fields: &HeaderMap, origins: &[String]) -> bool {
    let is_allowed = |origin: &[u8]| origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin));
    match fields.contains_key(ORIGIN) {
        true => !fields.get_all(ORIGIN).iter().all(|origin| is_allowed(origin.as_bytes())),
        // Typed by a person, or asked by what came from here.
        false => fields.get_all(SEC_FETCH_SITE).iter().any(|site| site != "none" && site != "same-origin"),
    }
}

/// Whether somebody could read this path as one of ours, which it is not to the letter: another case, needless slashes, dot segments,
/// percent-encodings, parameters. An origin that reads it so would be sent what is meant for us, with the token.
pub(super) fn is_nearly_ours(path: &str) -> bool {
    let is_plain =
        !path.bytes().any(|octet| matches!(octet, b'%' | b'\\' | b';')) && !path.contains("//") && !path.contains("/.");
    let is_ours = |path: &str| {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let equals = |index: usize, name: &str| names.get(index).is_some_and(|other| other.eq_ignore_ascii_case(name));
        (equals(0, "admin") && equals(1, "cache")) || matches!(names[..], ["metrics" | "healthz" | "readyz"])
    };
    if is_plain {
        return is_ours(path);
    }
    let mut decoded = path.to_owned();
    for _ in 0..DECODED_MAX {
        decoded = percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
    }
    let mut names: Vec<&str> = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    is_ours(&names.join("/"))
}

/// Tells how far the page that asks is away from what it asks for (W3C Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Who decodes more often than that has no path that anybody wrote.
const DECODED_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_addresses_localhost_and_allowed_names_are_ours() {
        let check = |host: &'static str, expected: bool| {
            let fields = [(HOST, HeaderValue::from_static(host))].into_iter().collect();
            let hosts = ["sidecache.internal".to_owned()];
            assert_eq!(is_for_us(&Uri::from_static("/metrics"), &fields, &hosts), expected, "{host}");
        };
        check("127.0.0.1:9090", true);
        check("10.1.2.3", true);
        check("[::1]:9090", true);
        check("localhost:1", true);
        check("LocalHost", true);
        check("sidecache.internal:9090", true);
        check("Sidecache.Internal", true);
        check("evil.example", false);
        check("127.0.0.1.evil.example", false);
        check("localhost.evil.example:9090", false);
        check("localhost@evil.example", false);
        check("127.0.0.1@localhost", false);
        check("", false);
        check("a b", false);
    }

    #[test]
    fn every_host_that_is_named_counts() {
        let check = |target: &'static str, hosts: &[(&'static str, &str)], expected: bool| {
            let hosts = hosts.iter().fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(*name, value.parse().unwrap());
                all
            });
            assert_eq!(is_for_us(&Uri::from_static(target), &hosts, &[]), expected, "{target} {hosts:?}");
        };
        check("/", &[], true);
        check("http://localhost/", &[], true);
        check("http://evil.example/", &[], false);
        check("http://evil.example/", &[("host", "localhost")], false);
        check("http://localhost/", &[("host", "evil.example")], false);
        check("/", &[("host", "localhost"), ("host", "evil.example")], false);
    }

    #[test]
    fn pages_of_foreign_origins_are_told_by_what_browsers_say() {
        let check = |said: &[(&'static str, &str)], expected: bool| {
            let origins = ["https://ops.example".to_owned()];
            assert_eq!(is_of_a_foreign_page(&fields(said), &origins), expected, "{said:?}");
        };
        check(&[], false);
        check(&[("origin", "http://evil.example")], true);
        check(&[("origin", "null")], true);
        check(&[("origin", "https://ops.example")], false);
        check(&[("origin", "https://ops.example"), ("sec-fetch-site", "cross-site")], false);
        check(&[("origin", "https://ops.example.evil.example")], true);
        check(&[("sec-fetch-site", "cross-site")], true);
        // Another port of this machine is the same site.
        check(&[("sec-fetch-site", "same-site")], true);
        check(&[("sec-fetch-site", "same-origin")], false);
        check(&[("sec-fetch-site", "none")], false);
    }

    #[test]
    fn other_spellings_of_our_paths_are_found() {
        let check = |path: &str, expected: bool| assert_eq!(is_nearly_ours(path), expected, "{path}");
        for path in [
            "/admin/../admin/cache/stats",
            "//admin/cache/stats",
            "/admin//cache/stats",
            "/ADMIN/cache/stats",
            "/%61dmin/cache/stats",
            "/%2561dmin/cache/stats",
            "/admin%2fcache%2fpurge",
            "/admin\\cache\\purge",
            "/admin;x=y/cache/purge",
            "/./metrics",
            "/x/../metrics",
            "/x/%2e%2e/metrics",
            "/metrics/",
            "/admin/cache",
            "/admin/cache/",
            "/admin/cache/stat",
        ] {
            check(path, true);
        }
        for path in
            ["/", "/admin", "/admin/", "/admin/login", "/api/admin/cache/stats", "/metricsx", "/a/metrics", "/a/%20b", "/x//y"]
        {
            check(path, false);
        }
    }
}
