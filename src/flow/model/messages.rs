//! Messages of histories as those of the code, and back.

use super::super::Body;
use super::history::{Framing, Request, Response};
use super::text::Fields;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;

pub(super) fn header_map(fields: &Fields) -> HeaderMap {
    let line = |(name, value): &(&'static str, String)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    let mut map = HeaderMap::with_capacity(fields.len() + 2);
    for (name, value) in fields.iter().map(line) {
        map.append(name, value);
    }
    map
}

pub(super) fn from_header_map(fields: &HeaderMap) -> Fields {
    let line = |(name, value): (&HeaderName, &HeaderValue)| (interned(name.as_str()), value.to_str().unwrap().to_owned());
    fields.iter().filter(|(name, _)| !OUR_OWN.contains(&name.as_str())).map(line).collect()
}

pub(super) fn to_origin(target: &str, fields: &HeaderMap) -> Request {
    Request { method: "GET", target: target.to_owned(), fields: from_header_map(fields) }
}

pub(super) fn client_got(response: http::Response<Body>) -> Response {
    let (parts, body) = response.into_parts();
    let body = body.collect().now_or_never().expect("the body is there").expect("it is whole").to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let mut fields = from_header_map(&parts.headers);
    let is_own = body.starts_with("sidecache: ");
    fields.retain(|(name, _)| !is_own || *name != "cache-control");
    let body = if is_own { "own".to_owned() } else { body };
    Response { status: parts.status.as_u16(), fields, body, framing: Framing::Length }
}

/// The names of all fields in histories and answers.
fn interned(name: &str) -> &'static str {
    NAMES.iter().find(|known| **known == name).unwrap_or_else(|| panic!("{name} is not in NAMES"))
}

/// Fields that say how a message is framed and forwarded, which histories are not about.
const OUR_OWN: [&str; 7] =
    ["content-length", "content-type", "host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

const NAMES: [&str; 31] = [
    "accept-language",
    "age",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "content-location",
    "content-range",
    "cookie",
    "date",
    "etag",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "last-modified",
    "location",
    "pragma",
    "range",
    "set-cookie",
    "sidecache-cache-control",
    "vary",
    "x-flavour",
    "x-number",
    "x-secret",
    "allow",
    "retry-after",
    "surrogate-control",
    "accept",
    "user-agent",
    "warning",
];
