//! `Cache-Status` (RFC 9211).

use bytes::{BufMut, BytesMut};
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Why a request was forwarded to the origin (§2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache was configured not to handle the request.
    Bypass,
    /// The method's semantics require it.
    Method,
    /// Nothing is stored under the key.
    UriMiss,
    /// Something is, but the request selects none of it.
    VaryMiss,
    /// What the request selects is stale.
    Stale,
    /// What the request selects is fresh, but the request's own directives don't allow it.
    Request,
    /// What the request selects is a part, and more is needed.
    Partial,
}

/// What the cache did with a request: one member of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    forward: Option<Forward>,
    forward_status: Option<StatusCode>,
    ttl: Option<i64>,
    stored: bool,
    collapsed: bool,
    key: Option<&'a str>,
    detail: Option<&'a str>,
}

impl Forward {
    /// All reasons, for those who make a counter of each.
    pub const ALL: [Forward; 7] = [
        Forward::Bypass,
        Forward::Method,
        Forward::UriMiss,
        Forward::VaryMiss,
        Forward::Stale,
        Forward::Request,
        Forward::Partial,
    ];

    /// The reason in the RFC's word, the same in header, metric and log.
    pub fn as_str(self) -> &'static str {
        match self {
            Forward::Bypass => "bypass",
            Forward::Method => "method",
            Forward::UriMiss => "uri-miss",
            Forward::VaryMiss => "vary-miss",
            Forward::Stale => "stale",
            Forward::Request => "request",
            Forward::Partial => "partial",
        }
    }
}

impl<'a> CacheStatus<'a> {
    /// The request was answered from a stored response (§2.1), which is fresh for `ttl` seconds more (§2.4).
    pub fn hit(ttl: i64) -> CacheStatus<'a> {
        CacheStatus {
            forward: None,
            forward_status: None,
            ttl: Some(ttl),
            stored: false,
            collapsed: false,
            key: None,
            detail: None,
        }
    }

    /// The request was forwarded (§2.2).
    pub fn forwarded(why: Forward) -> CacheStatus<'a> {
        CacheStatus {
            forward: Some(why),
            forward_status: None,
            ttl: None,
            stored: false,
            collapsed: false,
            key: None,
            detail: None,
        }
    }

    /// The origin answered with this status (§2.3).
    pub fn forward_status(self, status: StatusCode) -> CacheStatus<'a> {
        CacheStatus { forward_status: Some(status), ..self }
    }

    /// The response is fresh for so many seconds; stale if negative (§2.4).
    pub fn ttl(self, seconds: i64) -> CacheStatus<'a> {
        CacheStatus { ttl: Some(seconds), ..self }
    }

    /// Whether the response was stored (§2.5).
    pub fn stored(self, stored: bool) -> CacheStatus<'a> {
        CacheStatus { stored, ..self }
    }

    /// Whether the request was collapsed with others (§2.6).
    pub fn collapsed(self, collapsed: bool) -> CacheStatus<'a> {
        CacheStatus { collapsed, ..self }
    }

    /// The cache key, as a string (§2.7).
    pub fn key(self, key: &'a str) -> CacheStatus<'a> {
        CacheStatus { key: Some(key), ..self }
    }

    /// Something more, in words of our own (§2.8).
    pub fn detail(self, detail: &'a str) -> CacheStatus<'a> {
        CacheStatus { detail: Some(detail), ..self }
    }

    /// Writes the member.
    pub fn render(&self) -> HeaderValue {
        let mut out = BytesMut::with_capacity(TYPICAL_LENGTH);
        out.put_slice(NAME);
        match self.forward {
            None => out.put_slice(b"; hit"),
            Some(why) => {
                out.put_slice(b"; fwd=");
                out.put_slice(why.as_str().as_bytes());
            }
        }
        if let Some(status) = self.forward_status {
            out.put_slice(b"; fwd-status=");
            out.put_slice(status.as_str().as_bytes());
        }
        if let Some(ttl) = self.ttl {
            out.put_slice(b"; ttl=");
            put_integer(&mut out, ttl);
        }
        if self.stored {
            out.put_slice(b"; stored");
        }
        if self.collapsed {
            out.put_slice(b"; collapsed");
        }
        if let Some(key) = self.key {
            out.put_slice(b"; key=");
            put_string(&mut out, key);
        }
        if let Some(detail) = self.detail {
            out.put_slice(b"; detail=");
            put_detail(&mut out, detail);
        }
        HeaderValue::from_maybe_shared(out.freeze()).expect("all that is written is visible ASCII or a space")
    }
}

/// Appends a member: those of caches nearer to the origin come first (§2).
pub fn append(fields: &mut HeaderMap, member: HeaderValue) {
    fields.append(CACHE_STATUS, member);
}

/// Writes an integer, clamped to the fifteen digits of structured fields (RFC 9651 §3.3.1).
fn put_integer(out: &mut BytesMut, number: i64) {
    let number = number.clamp(-INTEGER_MAX, INTEGER_MAX);
    let mut digits = [0; 15];
    let mut at = digits.len();
    let mut left = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        out.put_u8(b'-');
    }
    out.put_slice(&digits[at..]);
}

/// Writes a token where it is one, else a string (RFC 9651 §3.3.3, §3.3.4).
fn put_detail(out: &mut BytesMut, detail: &str) {
    let is_first = |octet: u8| octet.is_ascii_alphabetic() || octet == b'*';
    let is_later = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&octet);
    if detail.bytes().next().is_some_and(is_first) && detail.bytes().all(is_later) {
        return out.put_slice(detail.as_bytes());
    }
    put_string(out, detail);
}

/// Writes a string, in which what can't stand becomes `?` (RFC 9651 §3.3.3).
fn put_string(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.put_slice(&[b'\\', character as u8]),
            ' '..='~' => out.put_u8(character as u8),
            _ => out.put_u8(b'?'),
        }
    }
    out.put_u8(b'"');
}

/// The field's name.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// This cache's name, a token.
const NAME: &[u8] = b"sidecache";

/// Enough for a hit, and for most of the rest.
const TYPICAL_LENGTH: usize = 64;

/// The largest integer of structured fields.
const INTEGER_MAX: i64 = 999_999_999_999_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_says_what_happened() {
        // RFC 9211 §2, §4
        let check = |status: CacheStatus<'_>, expected: &str| assert_eq!(status.render(), expected);
        check(CacheStatus::hit(376), "sidecache; hit; ttl=376");
        check(CacheStatus::hit(0), "sidecache; hit; ttl=0");
        check(CacheStatus::hit(-412), "sidecache; hit; ttl=-412");
        check(CacheStatus::hit(i64::MAX), "sidecache; hit; ttl=999999999999999");
        check(CacheStatus::hit(i64::MIN), "sidecache; hit; ttl=-999999999999999");
        check(CacheStatus::hit(30).detail("memory"), "sidecache; hit; ttl=30; detail=memory");
        check(CacheStatus::forwarded(Forward::UriMiss), "sidecache; fwd=uri-miss");
        check(CacheStatus::forwarded(Forward::VaryMiss).stored(true), "sidecache; fwd=vary-miss; stored");
        check(CacheStatus::forwarded(Forward::UriMiss).stored(false).collapsed(true), "sidecache; fwd=uri-miss; collapsed");
        check(
            CacheStatus::forwarded(Forward::Stale).forward_status(StatusCode::NOT_MODIFIED).ttl(60).stored(true),
            "sidecache; fwd=stale; fwd-status=304; ttl=60; stored",
        );
        check(
            CacheStatus::hit(1).key("/a?b=\"c\"").detail("memory"),
            r#"sidecache; hit; ttl=1; key="/a?b=\"c\""; detail=memory"#,
        );
        check(CacheStatus::forwarded(Forward::Bypass).detail("no-route"), "sidecache; fwd=bypass; detail=no-route");
    }

    #[test]
    fn a_detail_is_a_token_or_a_string() {
        // RFC 9651 §3.3.3, §3.3.4
        let check = |detail: &str, expected: &str| {
            assert_eq!(CacheStatus::hit(1).detail(detail).render(), format!("sidecache; hit; ttl=1; detail={expected}"));
        };
        check("a", "a");
        check("no-store", "no-store");
        check("*a/b:c", "*a/b:c");
        check("", "\"\"");
        check("5xx", "\"5xx\"");
        check("a b", "\"a b\"");
        check("a;b=c, d", "\"a;b=c, d\"");
        check("a\"b\\c", r#""a\"b\\c""#);
        check("é\r\n\u{7f}", "\"????\"");
    }

    #[test]
    fn members_of_caches_nearer_to_the_origin_come_first() {
        let mut fields = HeaderMap::new();
        fields.append(CACHE_STATUS, HeaderValue::from_static("inner; hit"));
        append(&mut fields, CacheStatus::forwarded(Forward::UriMiss).render());
        let lines: Vec<_> = fields.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["inner; hit", "sidecache; fwd=uri-miss"]);
    }

    #[test]
    fn every_reason_has_its_word() {
        let words: Vec<_> = Forward::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words, ["bypass", "method", "uri-miss", "vary-miss", "stale", "request", "partial"]);
    }
}
