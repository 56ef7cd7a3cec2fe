//! Responses to clients: from what is stored, from the origin, and of our own.

use super::arrival::{Arrival, Refused};
use super::body::Body;
use super::outcome::Outcome;
use super::settle::allows_content_length;
use super::spool::Reader;
use crate::origin::OriginError;
use crate::semantics::fields::Kind;
use crate::semantics::range::{self, ContentRange, Requested};
use crate::semantics::{Forward, StoredHead, age, conditional};
use crate::stats::Ending;
use crate::store::{StoredResponse, Tier};
use bytes::Bytes;
use http::header::{
    AGE, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, RANGE, RETRY_AFTER, VIA,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use std::ops::Range;
use std::time::SystemTime;
use tracing::warn;

/// A hit: a response made of a stored one, and what is to be said about it: for how many seconds it stays fresh.
pub(super) fn hit(
    arrival: &Arrival,
    tier: Tier,
    stored: &StoredResponse,
    ttl: i64,
    now: SystemTime,
) -> (Response<Body>, Outcome) {
    let response = match arrival.kinds.has(Kind::Conditional) {
        true => from_store(&arrival.parts.method, &arrival.parts.headers, stored, now),
        false => whole(&arrival.parts.method, stored, now),
    };
    (response, Outcome::hit(tier, ttl))
}

/// A response made of a stored one (§4): the 304 that the client's condition asks for (§4.3.2), the part that its range asks for
/// (RFC 9110 §14), or all of it.
pub(super) fn from_store(method: &Method, request: &HeaderMap, stored: &StoredResponse, now: SystemTime) -> Response<Body> {
    let head = &stored.head;
    if conditional::is_conditional(request) && conditional::is_not_modified(request, head.status, &head.fields()) {
        return not_modified(head, Some(now));
    }
    if *method == Method::GET && request.contains_key(RANGE) {
        let (first, complete) = extent(head, stored.body.len() as u64);
        let requested = match head.status == StatusCode::OK || head.part().is_some() {
            true if range::if_range_holds(request, &head.fields()) => range::requested(request, complete),
            _ => Requested::Whole,
        };
        match requested {
            Requested::Parts(parts) => return of_parts(head, &parts, first, complete, &stored.body, now),
            Requested::Unsatisfiable => return unsatisfied(head, complete, now),
            Requested::Whole => {}
        }
    }
    whole(method, stored, now)
}

/// All of a stored response.
pub(super) fn whole(method: &Method, stored: &StoredResponse, now: SystemTime) -> Response<Body> {
    let head = &stored.head;
    let body = match *method == Method::HEAD {
        true => Body::empty(),
        false => Body::from(stored.body.clone()),
    };
    let mut response = with_head(head.status, head.fields().into_owned(), body);
    set_age(response.headers_mut(), head, Some(now));
    if allows_content_length(head.status) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(stored.body.len()));
    }
    response
}

/// Where in the whole a stored body begins, and how long that is.
fn extent(head: &StoredHead, body_bytes: u64) -> (u64, u64) {
    match head.part() {
        Some(part) => (part.first, part.complete.unwrap_or(0)),
        None => (0, body_bytes),
    }
}

/// A 206: one part as it is, several as a multipart message (RFC 9110 §15.3.7). The stored body begins at `first`.
fn of_parts(head: &StoredHead, parts: &[Range<u64>], first: u64, complete: u64, body: &Bytes, now: SystemTime) -> Response<Body> {
    let mut fields = head.fields().into_owned();
    let body = match parts {
        [part] => {
            let content_range = ContentRange::of(part, Some(complete)).expect("what is requested is within the whole");
            fields.insert(CONTENT_RANGE, content_range.value());
            body.slice((part.start - first) as usize..(part.end - first) as usize)
        }
        parts => {
            let boundary = format!("{:016x}", fastrand::u64(..));
            let body = range::multipart(parts, body, head.fields().get(CONTENT_TYPE), &boundary);
            let content_type = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"));
            fields.insert(CONTENT_TYPE, content_type.expect("a number makes a field's value"));
            body
        }
    };
    fields.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let mut response = with_head(StatusCode::PARTIAL_CONTENT, fields, Body::from(body));
    set_age(response.headers_mut(), head, Some(now));
    response
}

/// The 416 for a range that lies outside (RFC 9110 §15.5.17).
fn unsatisfied(head: &StoredHead, complete: u64, now: SystemTime) -> Response<Body> {
    let mut response = own(StatusCode::RANGE_NOT_SATISFIABLE, "the range lies outside");
    response.headers_mut().insert(CONTENT_RANGE, range::unsatisfied(complete));
    set_age(response.headers_mut(), head, Some(now));
    response
}

/// A response whose body is still coming in, and is being stored; with its age where it is reused at `now`. Who caused it gets the
/// fields `as_they_came`, with those that are not for others.
pub(super) fn from_fetch(
    method: &Method,
    request: &HeaderMap,
    head: &StoredHead,
    as_they_came: Option<HeaderMap>,
    now: Option<SystemTime>,
    reader: Reader,
) -> Response<Body> {
    // RFC 9110 §13.2.2: on a `POST`, a condition is about what it does.
    let may_have = *method != Method::POST && conditional::is_conditional(request);
    if may_have && conditional::is_not_modified(request, head.status, &head.fields()) {
        return not_modified(head, now);
    }
    let length = content_length(head);
    let requested = match length {
        Some(length)
            if *method == Method::GET && head.status == StatusCode::OK && range::if_range_holds(request, &head.fields()) =>
        {
            range::requested(request, length)
        }
        _ => Requested::Whole,
    };
    let mut fields = as_they_came.unwrap_or_else(|| head.fields().into_owned());
    // RFC 9110 §6.6.1: who takes in a response without a date gives it one; here, the one that others are told.
    if let (false, Some(date)) = (fields.contains_key(DATE), head.fields().get(DATE)) {
        fields.insert(DATE, date.clone());
    }
    let mut response = match requested {
        Requested::Unsatisfiable => return unsatisfied(head, length.unwrap_or_default(), now.unwrap_or(head.times().received)),
        Requested::Parts(parts) if parts.len() == 1 => {
            let content_range = ContentRange::of(&parts[0], length).expect("what is requested is within the whole");
            let mut response = with_head(StatusCode::PARTIAL_CONTENT, fields, Body::part(reader, &parts[0]));
            response.headers_mut().insert(CONTENT_RANGE, content_range.value());
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(parts[0].end - parts[0].start));
            response
        }
        // Several parts would have to wait for all of it; RFC 9110 §14.2 lets a server ignore the field.
        Requested::Parts(_) | Requested::Whole => with_head(head.status, fields, Body::shared(reader, length)),
    };
    set_age(response.headers_mut(), head, now);
    response
}

fn content_length(head: &StoredHead) -> Option<u64> {
    head.fields().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
}

fn with_head(status: StatusCode, fields: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

fn not_modified(head: &StoredHead, now: Option<SystemTime>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    let stored = head.fields();
    *response.headers_mut() = conditional::not_modified_fields(&stored);
    for via in stored.get_all(VIA) {
        response.headers_mut().append(VIA, via.clone());
    }
    set_age(response.headers_mut(), head, now);
    response
}

/// §5.1: the age of what is reused.
fn set_age(fields: &mut HeaderMap, head: &StoredHead, now: Option<SystemTime>) {
    if let Some(now) = now {
        fields.insert(AGE, HeaderValue::from(age::current(head, now).as_secs()));
    }
}

/// The answer when we ourselves have failed.
pub fn internal() -> Response<Body> {
    own(StatusCode::INTERNAL_SERVER_ERROR, "internal")
}

/// The sidecar's own answer when the origin gave none.
pub(super) fn origin_failed(error: &OriginError) -> Response<Body> {
    let status = status_of(error);
    let mut response = own(status, reason_of(error));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The one place that says which failure is which status.
fn status_of(error: &OriginError) -> StatusCode {
    match error {
        OriginError::Connect { .. } | OriginError::Closed { .. } | OriginError::Invalid { .. } | OriginError::Incomplete => {
            StatusCode::BAD_GATEWAY
        }
        OriginError::ConnectTimeout { .. } | OriginError::FirstByteTimeout { .. } | OriginError::UploadTimeout { .. } => {
            StatusCode::GATEWAY_TIMEOUT
        }
        OriginError::ClientBody { is_idle: true } => StatusCode::REQUEST_TIMEOUT,
        OriginError::ClientBody { is_idle: false } => StatusCode::BAD_REQUEST,
        OriginError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What a client may know about a failure: no address, no cause.
pub(super) fn reason_of(error: &OriginError) -> &'static str {
    match error {
        OriginError::Connect { .. } => "origin-unreachable",
        OriginError::ConnectTimeout { .. } => "origin-connect-timeout",
        OriginError::FirstByteTimeout { .. } => "origin-first-byte-timeout",
        OriginError::UploadTimeout { .. } => "origin-upload-timeout",
        OriginError::Closed { .. } => "origin-closed",
        OriginError::Invalid { .. } => "origin-invalid-response",
        OriginError::Incomplete => "origin-body-incomplete",
        OriginError::ClientBody { .. } => "request-body-incomplete",
        OriginError::Busy { .. } => "origin-busy",
    }
}

/// The answer when the origin left HTTP without having been asked to.
pub(super) fn unasked_switch(why: Forward, route: &str) -> (Response<Body>, Outcome) {
    warn!(
        route,
        error = "the origin has switched to another protocol, which it was not asked to",
        reason = SWITCHED,
        "origin_request_failed"
    );
    (own(StatusCode::BAD_GATEWAY, SWITCHED), Outcome::forwarded(Ending::Error, why, SWITCHED))
}

const SWITCHED: &str = "origin-switched-unasked";

/// §5.2.1.7: nothing is stored that could answer, and the client wants nothing else.
pub(super) fn only_if_cached() -> (Response<Body>, Outcome) {
    let outcome = Outcome::forwarded(Ending::Error, Forward::Request, "only-if-cached");
    (own(StatusCode::GATEWAY_TIMEOUT, "only-if-cached"), outcome)
}

/// The answer to a request that is refused. Whoever sends such a one is not believed about where the next one begins.
pub(super) fn refused(why: Refused) -> Response<Body> {
    let mut response = own(why.status(), why.as_str());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    if why == Refused::Method {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    }
    response
}

/// The answer to `OPTIONS` that is to go no further (RFC 9110 §7.6.2).
pub(super) fn last_hop() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// What the sidecar forwards, among others.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

fn own(status: StatusCode, reason: &str) -> Response<Body> {
    let text = format!("sidecache: {} ({reason})\n", status.canonical_reason().unwrap_or("error"));
    let mut response = Response::new(Body::from(Bytes::from(text)));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
