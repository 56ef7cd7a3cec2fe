//! The request target: which paths are in normal form, and which query parameters count.
//!
//! Two programs that read one path differently are how a cache is made to hand out the wrong response. So a path that can
//! be read in two ways (RFC 3986 §6.2.2) is never cached; it is passed on to the origin octet for octet.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Which parameters of the query are part of the key, and are shown to the origin.
///
/// A parameter that is left out of the key is not sent either: the origin can't base a shared answer on what it never saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryRule {
    /// Only these, when set. A name may end in `*`.
    pub allow: Option<Vec<String>>,
    /// All but these. A name may end in `*`.
    pub deny: Vec<String>,
    /// Sorts the parameters by name, for origins to which their order means nothing.
    pub sort: bool,
}

impl QueryRule {
    /// Whether every query goes to the key as it came.
    pub fn is_verbatim(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty() && !self.sort
    }

    /// The path and query as they are sent to the origin and put into the key.
    pub(super) fn apply<'a>(&self, path: &'a str, query: Option<&'a str>, path_and_query: &'a str) -> Cow<'a, str> {
        let Some(query) = query.filter(|_| !self.is_verbatim()) else {
            return Cow::Borrowed(path_and_query);
        };
        let mut kept: Vec<&str> = query.split('&').filter(|pair| self.counts(pair)).collect();
        if self.sort {
            // Stable, so that `a=1&a=2` keeps the order of its values.
            kept.sort_by_key(|pair| pair.split('=').next());
        }
        match kept.is_empty() {
            true => Cow::Borrowed(path),
            false => Cow::Owned(format!("{path}?{}", kept.join("&"))),
        }
    }

    /// Whether a parameter, with or without its value, is part of the key and shown to the origin.
    pub fn counts(&self, pair: &str) -> bool {
        let written = pair.split('=').next().unwrap_or(pair);
        // Compared decoded: `%75tm_source` is `utm_source` to the origin.
        let name = percent_decode_str(written).decode_utf8_lossy();
        let stands_in = |list: &[String]| {
            list.iter().any(|entry| match entry.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == entry.as_str(),
            })
        };
        self.allow.as_deref().is_none_or(stands_in) && !stands_in(&self.deny)
    }
}

/// The first value of a query parameter, as it was written.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (written, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode_str(written).decode_utf8_lossy() == name).then_some(value)
    })
}

/// Says what keeps a path from being in normal form.
///
/// Walks the octets once: a hit pays for this.
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    let octets = path.as_bytes();
    if octets.first() != Some(&b'/') {
        return Err("no leading slash");
    }
    let mut at = 0;
    while let Some(octet) = octets.get(at) {
        match octet {
            b'a'..=b'z' | b'0'..=b'9' | b'A'..=b'Z' | b'-' | b'_' => {}
            b'/' => match &octets[at + 1..] {
                [b'/', ..] => return Err("an empty segment"),
                [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..] => return Err("a dot segment"),
                _ => {}
            },
            b'\\' => return Err("a backslash"),
            b';' => return Err("a semicolon"),
            b'%' => {
                let Some(decoded) = octets.get(at + 1..at + 3).and_then(decode) else {
                    return Err("a stray percent sign");
                };
                match decoded {
                    b'/' | b'\\' => return Err("an encoded slash"),
                    b'.' => return Err("an encoded dot"),
                    b'%' => return Err("an encoded percent sign"),
                    b';' | b'?' | b'#' => return Err("an encoded delimiter"),
                    // Some readers cut it off there.
                    b' ' if is_at_an_end(&octets[..at], &octets[at + 3..]) => {
                        return Err("an encoded blank at an end of a segment");
                    }
                    0..0x20 | 0x7f => return Err("an encoded control octet"),
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                        return Err("an unreserved octet that is percent-encoded");
                    }
                    // §6.2.2.1: the digits of an encoding are upper case in normal form.
                    _ if octets[at + 1..at + 3].iter().any(u8::is_ascii_lowercase) => {
                        return Err("a percent-encoding in lower case");
                    }
                    _ => {}
                }
                at += 2;
            }
            0..=0x20 | 0x7f => return Err("a control octet or blank"),
            // Octets above 0x7f and `#` are no part of a path (RFC 3986 §3.3); readers differ in what they make of them.
            0x80.. => return Err("an octet outside of ASCII"),
            b'#' => return Err("a fragment"),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Whether what stands between these is the first or last of a segment, or behind another blank.
fn is_at_an_end(before: &[u8], behind: &[u8]) -> bool {
    before.ends_with(b"/") || before.ends_with(b"%20") || matches!(behind, [] | [b'/', ..])
}

fn decode(digits: &[u8]) -> Option<u8> {
    let digit = |d: u8| char::from(d).to_digit(16);
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Result<(), &'static str>) {
        assert_eq!(check_path(path), expected, "{path}");
    }

    #[test]
    fn a_path_in_normal_form_is_one_that_everybody_reads_alike() {
        check("/", Ok(()));
        check("/api/mcp/customer/42", Ok(()));
        check("/a.b/..c/d./...", Ok(()));
        check("/trailing/", Ok(()));
        check("/caf%C3%A9", Ok(()));
        check("/a:b@c!$&'()*+,=~_-", Ok(()));
        check("", Err("no leading slash"));
        check("*", Err("no leading slash"));
        check("//", Err("an empty segment"));
        check("/a//b", Err("an empty segment"));
        check("/./a", Err("a dot segment"));
        check("/a/..", Err("a dot segment"));
        check("/a/.", Err("a dot segment"));
        check("/a/../b", Err("a dot segment"));
        check("/a\\b", Err("a backslash"));
        check("/a;b", Err("a semicolon"));
        check("/a%2Fb", Err("an encoded slash"));
        check("/a%2fb", Err("an encoded slash"));
        check("/a%5cb", Err("an encoded slash"));
        check("/%2e%2e/b", Err("an encoded dot"));
        check("/a%252Fb", Err("an encoded percent sign"));
        check("/a%3Bb", Err("an encoded delimiter"));
        check("/a%00", Err("an encoded control octet"));
        check("/John%20F.%20Doe/x", Ok(()));
        for edge in ["/%20a", "/a%20", "/a%20/b", "/a/%20b", "/a%20%20b", "/%20"] {
            check(edge, Err("an encoded blank at an end of a segment"));
        }
        check("/%61", Err("an unreserved octet that is percent-encoded"));
        check("/%7Euser", Err("an unreserved octet that is percent-encoded"));
        check("/caf%c3%a9", Err("a percent-encoding in lower case"));
        check("/a%", Err("a stray percent sign"));
        check("/a%2", Err("a stray percent sign"));
        check("/a%zz", Err("a stray percent sign"));
        check("/caf\u{e9}", Err("an octet outside of ASCII"));
    }

    fn query(rule: &QueryRule, written: &str, expected: &str) {
        let (path, query) = written.split_once('?').map_or((written, None), |(p, q)| (p, Some(q)));
        assert_eq!(rule.apply(path, query, written), expected, "{written}");
    }

    #[test]
    fn query_parameters_are_kept_dropped_and_sorted_as_the_rule_says() {
        query(&QueryRule::default(), "/a?b=2&a=1&", "/a?b=2&a=1&");

        let allow = QueryRule { allow: Some(vec!["page".into(), "f_*".into()]), ..QueryRule::default() };
        query(&allow, "/a?utm=1&page=2&f_x=3&pager=4", "/a?page=2&f_x=3");
        query(&allow, "/a?utm=1", "/a");
        query(&allow, "/a", "/a");
        query(&allow, "/a?p%61ge=2", "/a?p%61ge=2");

        let deny = QueryRule { deny: vec!["utm_*".into()], ..QueryRule::default() };
        query(&deny, "/a?utm_source=1&page=2&%75tm_x=3", "/a?page=2");

        let sort = QueryRule { sort: true, ..QueryRule::default() };
        query(&sort, "/a?b=1&a=2&a=1", "/a?a=2&a=1&b=1");
    }
}
