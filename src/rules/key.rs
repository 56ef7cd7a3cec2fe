//! The cache key (RFC 9111 §2): everything that tells apart two requests that must not be given the same response.
//!
//! The key is an encoding of its parts, each behind its length, so that no two different requests have the same one; the
//! SHA-256 of that encoding is what the tiers look up. The encoding itself is compared whenever a stored response is found:
//! a collision would hand one caller's data to another.

use super::identity;
use super::route::{CONTENT_FIELDS, Caching, Route, Share, Unkeyed};
use crate::semantics::tagging::TagField;
use crate::semantics::vary::Selection;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sha2::{Digest, Sha256};
use std::fmt;

/// A cache key.
#[derive(Clone, PartialEq, Eq)]
pub struct CacheKey {
    hash: u128,
    parts: Box<[u8]>,
}

/// What a key says of the request that it was made from; enough to make the request anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// `http` or `https`.
    pub scheme: String,
    /// What a trusted proxy said in `X-Forwarded-Host`, where that was not `Host`.
    pub forwarded_host: Option<HeaderValue>,
    /// `Host`, and the fields that are in the key.
    pub fields: HeaderMap,
    /// Path and query.
    pub target: String,
}

/// The parts of a key, as far as anybody may see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParts {
    /// The parts that can be read.
    pub request: KeyedRequest,
    /// A hash of what tells callers apart is among them.
    pub has_identity: bool,
    /// The method, if it is there together with a hash of the content.
    pub content_of: Option<String>,
}

/// The secret that keeps credentials from being read out of keys.
#[derive(Clone)]
pub struct Secret([u8; 32]);

/// What a route says of storing, in a few octets: see [`rule_mark`].
pub(super) type RuleMark = [u8; 8];

/// The parts of a key that the request's line and connection give, and the rule that they meet.
pub(super) struct Location<'a> {
    pub(super) rule: &'a RuleMark,
    pub(super) scheme: &'a str,
    pub(super) forwarded_host: Option<&'a [u8]>,
    pub(super) host: &'a [u8],
    pub(super) target: &'a str,
    /// The method and the content of a request whose content says what is asked for.
    pub(super) content: Option<(&'a Method, &'a [u8])>,
    /// The claims that identify, of a token that was verified.
    pub(super) claims: Option<&'a [u8]>,
}

impl CacheKey {
    /// Encodes and hashes the parts.
    pub(super) fn new(location: &Location<'_>, route: &Route, fields: &HeaderMap, secret: &Secret) -> CacheKey {
        let mut parts = Vec::with_capacity(96 + location.host.len() + location.target.len());
        parts.push(FORMAT);
        parts.extend(location.rule);
        push(&mut parts, location.scheme.as_bytes());
        push(&mut parts, location.forwarded_host.unwrap_or_default());
        push(&mut parts, location.host);
        push(&mut parts, location.target.as_bytes());
        for name in &route.key_headers {
            push_field(&mut parts, name, fields);
        }
        if route.keys_origin() && fields.contains_key(ORIGIN) {
            push_field(&mut parts, &ORIGIN, fields);
        }
        match &route.share {
            // The three must not meet under one key: what may be shared differs.
            Share::ByResponse => parts.push(b'r'),
            Share::Everyone => parts.push(b'e'),
            Share::PerCredential(identity) => {
                parts.push(b'c');
                push(&mut parts, &secret.digest(identity, route, location.claims, fields));
            }
        }
        if let Some((method, content)) = location.content {
            push(&mut parts, method.as_str().as_bytes());
            for name in &CONTENT_FIELDS {
                push_field(&mut parts, name, fields);
            }
            push(&mut parts, &Sha256::digest(content));
        }
        CacheKey::from_parts(&parts)
    }

    /// The key with these parts.
    pub fn from_parts(parts: &[u8]) -> CacheKey {
        CacheKey { hash: hash(parts), parts: parts.into() }
    }

    /// The hash under which the tiers look it up.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// The encoding of the parts, to be compared with that of a stored response.
    pub fn parts(&self) -> &[u8] {
        &self.parts
    }

    /// Reads the request back; `None` if credentials or content are part of the key, of which it holds a hash alone.
    pub fn request(&self) -> Option<KeyedRequest> {
        self.readable().filter(|parts| !parts.has_identity && parts.content_of.is_none()).map(|parts| parts.request)
    }

    /// Reads the parts back that are no hashes; `None` if the encoding is none of ours.
    pub fn readable(&self) -> Option<KeyParts> {
        let mut input = self.parts.strip_prefix(&[FORMAT])?.get(size_of::<RuleMark>()..)?;
        let scheme = String::from_utf8(pull(&mut input)?.to_vec()).ok()?;
        let forwarded_host = pull(&mut input)?;
        let forwarded_host = match forwarded_host.is_empty() {
            true => None,
            false => Some(HeaderValue::from_bytes(forwarded_host).ok()?),
        };
        let mut fields = HeaderMap::new();
        fields.insert(HOST, HeaderValue::from_bytes(pull(&mut input)?).ok()?);
        let target = String::from_utf8(pull(&mut input)?.to_vec()).ok()?;
        // A field begins with the length of its name, whose first octet is zero; what follows the fields is a letter.
        while input.first() == Some(&0) {
            let name = HeaderName::from_bytes(pull(&mut input)?).ok()?;
            let (count, rest) = input.split_first_chunk()?;
            input = rest;
            for _ in 0..u32::from_be_bytes(*count) {
                fields.append(name.clone(), HeaderValue::from_bytes(pull(&mut input)?).ok()?);
            }
        }
        let (share, mut input) = input.split_first()?;
        let has_identity = match share {
            b'r' | b'e' => false,
            b'c' => pull(&mut input).map(|_| true)?,
            _ => return None,
        };
        let content_of = match input.is_empty() {
            true => None,
            false => Some(String::from_utf8(pull(&mut input)?.to_vec()).ok()?),
        };
        Some(KeyParts { request: KeyedRequest { scheme, forwarded_host, fields, target }, has_identity, content_of })
    }

    /// The hash of one of the key's variants: of the key together with the selecting fields.
    pub fn variant(&self, selection: &Selection) -> u128 {
        let mut parts = Vec::with_capacity(self.parts.len() + 128);
        push(&mut parts, &self.parts);
        for (name, value) in selection.iter() {
            push(&mut parts, name.as_str().as_bytes());
            parts.push(value.is_some().into());
            push(&mut parts, value.unwrap_or_default());
        }
        hash(&parts)
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({self})")
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.hash)
    }
}

impl Secret {
    /// A secret from the configuration; replicas that were given the same one make the same keys.
    pub fn from_passphrase(passphrase: &str) -> Secret {
        Secret(Sha256::digest(passphrase.as_bytes()).into())
    }

    /// A secret of this process alone.
    pub fn random() -> Secret {
        let mut octets = [0; 32];
        getrandom::fill(&mut octets).expect("the system has a source of random octets");
        Secret(octets)
    }

    /// Another secret for a purpose of its own, from which this one cannot be told.
    pub fn derived(&self, purpose: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        // Credentials begin with a length, whose first octet is zero.
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn digest(&self, names: &[HeaderName], route: &Route, claims: Option<&[u8]>, fields: &HeaderMap) -> [u8; 32] {
        let mut credentials = Vec::new();
        for name in names {
            push_field(&mut credentials, name, fields);
        }
        for name in &route.identity_cookies {
            // No field has a colon in its name.
            push(&mut credentials, format!("cookie:{name}").as_bytes());
            let values: Vec<&[u8]> = identity::cookies(fields, name).collect();
            credentials.extend((values.len() as u32).to_be_bytes());
            values.iter().for_each(|value| push(&mut credentials, value));
        }
        match claims {
            _ if route.identity_claims.is_empty() => {}
            Some(claims) => {
                let names = route.identity_claims.join(" ");
                [b"claims", names.as_bytes(), claims].iter().for_each(|part| push(&mut credentials, part));
            }
            // Nothing of it is believed, so that it stands for itself alone.
            None => {
                push(&mut credentials, b"opaque");
                push_field(&mut credentials, &AUTHORIZATION, fields);
            }
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(&credentials);
        mac.finalize().into_bytes().into()
    }
}

/// Calculates what sets a route apart from what it was under another configuration: the scopes in which its responses are stored, those
/// that the origin's fields name among them, and who may be given them. As a part of the key it keeps what was stored under other tags, which a purge of these would not find, from
/// being an answer.
pub(super) fn rule_mark(route: &Route, tag_fields: &[TagField]) -> RuleMark {
    let mut said = Vec::new();
    push(&mut said, route.name.as_bytes());
    push(&mut said, route.pattern.as_str().as_bytes());
    said.extend((route.tags.len() as u32).to_be_bytes());
    for tag in &route.tags {
        push(&mut said, tag.as_str().as_bytes());
    }
    said.extend((tag_fields.len() as u32).to_be_bytes());
    for field in tag_fields {
        push(&mut said, field.name().as_str().as_bytes());
    }
    said.push(route.heeds_no_vary_search.into());
    said.push((route.caching == Caching::Standard).into());
    said.push(match route.unkeyed {
        Unkeyed::Pass => b'p',
        Unkeyed::Drop => b'd',
        Unkeyed::Forward => b'f',
    });
    let digest: [u8; 32] = Sha256::digest(&said).into();
    *digest.first_chunk().expect("SHA-256 has 32 octets")
}

/// The number of values, then each value behind its length: absent, empty and repeated fields stay apart.
fn push_field(parts: &mut Vec<u8>, name: &HeaderName, fields: &HeaderMap) {
    push(parts, name.as_str().as_bytes());
    let values = fields.get_all(name);
    parts.extend((values.iter().count() as u32).to_be_bytes());
    for value in values {
        push(parts, value.as_bytes());
    }
}

fn push(parts: &mut Vec<u8>, part: &[u8]) {
    parts.extend((part.len() as u32).to_be_bytes());
    parts.extend(part);
}

/// Takes a part off the front.
fn pull<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = input.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *input = rest;
    Some(part)
}

fn hash(parts: &[u8]) -> u128 {
    let digest: [u8; 32] = Sha256::digest(parts).into();
    u128::from_be_bytes(*digest.first_chunk().expect("SHA-256 has 32 octets"))
}

/// The first octet of the encoding, which changes whenever the encoding does.
const FORMAT: u8 = 2;

#[cfg(test)]
mod tests {
    use super::super::{Pattern, TagTemplate};
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn route(share: Share) -> Route {
        let mut route = Route::new("r", Pattern::parse("/{*rest}").unwrap(), Duration::from_secs(1));
        route.share = share;
        route.key_headers = vec![HeaderName::from_static("x-tenant")];
        route.unkeyed = Unkeyed::Pass;
        route.caching = Caching::Standard;
        route
    }

    fn key(host: &str, target: &str, tenants: &[&str], cookie: &str, share: Share) -> CacheKey {
        let mut fields = HeaderMap::new();
        for tenant in tenants {
            fields.append("x-tenant", tenant.parse().unwrap());
        }
        fields.insert("cookie", cookie.parse().unwrap());
        let route = route(share);
        let (scheme, forwarded_host, host) = ("http", None, host.as_bytes());
        let location = Location {
            rule: &rule_mark(&route, &TagField::ALL),
            scheme,
            forwarded_host,
            host,
            target,
            content: None,
            claims: None,
        };
        CacheKey::new(&location, &route, &fields, &Secret::from_passphrase("s"))
    }

    #[test]
    fn keys_differ_where_a_part_differs() {
        let per_cookie = || Share::PerCredential(vec![http::header::COOKIE]);
        let keys = [
            key("a", "/x", &[], "1", Share::ByResponse),
            key("a", "/x", &[""], "1", Share::ByResponse),
            key("a", "/x", &["", ""], "1", Share::ByResponse),
            key("a", "/x", &["a,b"], "1", Share::ByResponse),
            key("a", "/x", &["a", "b"], "1", Share::ByResponse),
            key("a/", "x", &[], "1", Share::ByResponse),
            key("a", "/x", &[], "1", Share::Everyone),
            key("a", "/x", &[], "1", per_cookie()),
            key("a", "/x", &[], "2", per_cookie()),
        ];
        for (i, one) in keys.iter().enumerate() {
            for other in &keys[i + 1..] {
                assert_ne!(one.hash(), other.hash());
                assert_ne!(one.parts(), other.parts());
            }
        }
        assert_eq!(key("a", "/x", &[], "1", Share::Everyone), key("a", "/x", &[], "2", Share::Everyone));
    }

    #[test]
    fn the_request_can_be_read_back_where_no_credential_is_part_of_the_key() {
        let request = |key: CacheKey| key.request();
        for share in [Share::ByResponse, Share::Everyone] {
            let keyed = request(key("h:8080", "/x?y", &["a", "", "b"], "1", share)).unwrap();
            assert_eq!((keyed.scheme.as_str(), keyed.target.as_str(), keyed.forwarded_host), ("http", "/x?y", None));
            assert_eq!(keyed.fields[HOST], "h:8080");
            assert_eq!(keyed.fields.get_all("x-tenant").iter().collect::<Vec<_>>(), ["a", "", "b"]);
        }
        assert_eq!(request(key("h", "/x", &[], "1", Share::PerCredential(vec![http::header::COOKIE]))), None);
        for broken in [&b""[..], b"\x02", b"\x0212345678\0\0\0\x04http\0\0\0\xff", b"\x01r", b"\x021234567"] {
            assert_eq!(request(CacheKey::from_parts(broken)), None);
        }
    }

    #[test]
    fn a_rule_is_marked_by_what_decides_under_which_tags_and_for_whom_is_stored() {
        let mark = |adjust: fn(&mut Route)| {
            let mut route = route(Share::Everyone);
            adjust(&mut route);
            rule_mark(&route, &TagField::ALL)
        };
        let same = mark(|_| {});
        assert_eq!(mark(|route| route.stale_if_error = Duration::from_secs(9)), same);
        assert_eq!(mark(|route| route.invalidates = vec![TagTemplate::parse("t", &[]).unwrap()]), same);
        let others: [fn(&mut Route); 6] = [
            |route| route.name = "s".to_owned(),
            |route| route.pattern = Pattern::parse("/{*others}").unwrap(),
            |route| route.tags = vec![TagTemplate::parse("t", &[]).unwrap()],
            |route| route.heeds_no_vary_search = true,
            |route| route.caching = Caching::Rule { ttl: Duration::from_secs(1), overrides: false },
            |route| route.unkeyed = Unkeyed::Forward,
        ];
        for other in others {
            assert_ne!(mark(other), same);
        }
        assert_ne!(rule_mark(&route(Share::Everyone), &TagField::ALL[1..]), same);
    }

    #[test]
    fn a_credential_cannot_be_read_out_of_a_key() {
        let key = key("a", "/x", &[], "session=verysecret", Share::PerCredential(vec![http::header::COOKIE]));
        assert!(!key.parts().windows(10).any(|window| window == b"verysecret"));
    }

    proptest! {
        #[test]
        fn two_requests_have_one_key_only_if_all_parts_are_equal(
            one in ("[a/]{0,3}", "[/x]{0,3}", "[ab]{0,2}"), other in ("[a/]{0,3}", "[/x]{0,3}", "[ab]{0,2}"),
        ) {
            let key = |(host, target, tenant): &(String, String, String)| key(host, target, &[tenant], "c", Share::Everyone);
            prop_assert_eq!(key(&one) == key(&other), one == other);
        }
    }
}
