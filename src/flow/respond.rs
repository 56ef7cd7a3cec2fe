//! Responses to clients: from what is stored, from the origin, and of our own.

use super::arrival::Refused;
use super::body::Body;
use super::outcome::Outcome;
use super::settle::allows_content_length;
use crate::origin::OriginError;
use crate::semantics::{Forward, StoredHead, age, conditional};
use crate::stats::Ending;
use crate::store::{StoredResponse, Tier};
use bytes::Bytes;
use http::header::{AGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, VIA};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use std::time::SystemTime;

/// A hit: a response made of a stored one, and what is to be said about it: for how many seconds it stays fresh.
pub(super) fn hit(
    method: &Method,
    request: &HeaderMap,
    tier: Tier,
    stored: &StoredResponse,
    ttl: i64,
    now: SystemTime,
) -> (Response<Body>, Outcome) {
    (from_store(method, request, stored, now), Outcome::hit(tier, ttl))
}

/// A response made of a stored one (§4), or the 304 that the client's condition asks for (§4.3.2).
pub(super) fn from_store(method: &Method, request: &HeaderMap, stored: &StoredResponse, now: SystemTime) -> Response<Body> {
    let head = &stored.head;
    if conditional::is_conditional(request) && conditional::is_not_modified(request, head.status, &head.fields) {
        return not_modified(head, Some(now));
    }
    let body = match *method == Method::HEAD {
        true => Body::empty(),
        false => Body::from(stored.body.clone()),
    };
    let mut response = with_head(head, Some(now), body);
    if allows_content_length(head.status) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(stored.body.len()));
    }
    response
}

/// A response whose body is still coming in, and is being stored; with its age where it is reused at `now`.
pub(super) fn from_fetch(request: &HeaderMap, head: &StoredHead, now: Option<SystemTime>, body: Body) -> Response<Body> {
    match conditional::is_conditional(request) && conditional::is_not_modified(request, head.status, &head.fields) {
        true => not_modified(head, now),
        false => with_head(head, now, body),
    }
}

fn with_head(head: &StoredHead, now: Option<SystemTime>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.fields.clone();
    set_age(response.headers_mut(), head, now);
    response
}

fn not_modified(head: &StoredHead, now: Option<SystemTime>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.headers_mut() = conditional::not_modified_fields(&head.fields);
    for via in head.fields.get_all(VIA) {
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
pub(super) fn internal() -> Response<Body> {
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
        OriginError::Connect { .. } | OriginError::Closed { .. } | OriginError::Invalid { .. } => StatusCode::BAD_GATEWAY,
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
        OriginError::ClientBody { .. } => "request-body-incomplete",
        OriginError::Busy { .. } => "origin-busy",
    }
}

/// The answer when the origin left HTTP without having been asked to.
pub(super) fn unasked_switch() -> Response<Body> {
    own(StatusCode::BAD_GATEWAY, "origin-invalid-response")
}

/// §5.2.1.7: nothing is stored that could answer, and the client wants nothing else.
pub(super) fn only_if_cached() -> (Response<Body>, Outcome) {
    let outcome = Outcome::forwarded(Ending::Error, Forward::Request, "only-if-cached");
    (own(StatusCode::GATEWAY_TIMEOUT, "only-if-cached"), outcome)
}

/// The answer to a request that is refused.
pub(super) fn refused(why: Refused) -> Response<Body> {
    let mut response = own(why.status(), why.as_str());
    if why == Refused::Method {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    response
}

fn own(status: StatusCode, reason: &str) -> Response<Body> {
    let text = format!("sidecache: {} ({reason})\n", status.canonical_reason().unwrap_or("error"));
    let mut response = Response::new(Body::from(Bytes::from(text)));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
