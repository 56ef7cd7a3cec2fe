//! The responses of the endpoints.

use super::auth::Refusal;
use crate::flow::Body;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

pub(super) fn not_allowed(allowed: &[Method]) -> Response<Body> {
    let allowed: Vec<&str> = allowed
        .iter()
        .flat_map(|method| match *method {
            Method::GET => vec!["GET", "HEAD"],
            _ => vec![method.as_str()],
        })
        .collect();
    let allowed = allowed.join(", ");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_str(&allowed).expect("names of methods are visible ASCII"));
    response
}

/// The answer when we ourselves have failed; the log says why.
pub(super) fn internal() -> Response<Body> {
    text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
}

pub(super) fn refuse((status, why): Refusal) -> Response<Body> {
    let mut response = text(status, why.into_owned());
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

pub(super) fn bad_request(why: impl Into<String>) -> Response<Body> {
    json(StatusCode::BAD_REQUEST, &json!({ "error": why.into() }))
}

pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    with_type(status, "application/json", format!("{value}\n"))
}

pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", body)
}

pub(super) fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
