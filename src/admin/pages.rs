//! What browsers are told, so that they let a page ask that may, and read the answer (WHATWG Fetch, "HTTP extensions").

use super::guard::is_of_a_foreign_page;
use super::reply::text;
use crate::flow::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

/// The origin of the page that asks, if one does that may.
pub(super) struct Page(Option<HeaderValue>);

impl Page {
    pub(super) fn of(fields: &HeaderMap, origins: &[String]) -> Page {
        Page(fields.get(ORIGIN).filter(|_| !is_of_a_foreign_page(fields, origins)).cloned())
    }

    /// The answer to a browser that asks whether the page may ask with these methods; `None` if it asks something else.
    pub(super) fn preflight(&self, method: &Method, fields: &HeaderMap, allowed: &[Method]) -> Option<Response<Body>> {
        if self.0.is_none() || method != Method::OPTIONS || !fields.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let mut response = text(StatusCode::NO_CONTENT, "");
        let methods = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let methods = HeaderValue::from_str(&methods).expect("names of methods are visible ASCII");
        let fields = response.headers_mut();
        fields.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
        fields.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        Some(response)
    }

    /// Lets the page read a response.
    pub(super) fn may_read(self, mut response: Response<Body>) -> Response<Body> {
        if let Some(origin) = self.0 {
            response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.headers_mut().insert(VARY, HeaderValue::from_static("origin"));
        }
        response
    }
}
