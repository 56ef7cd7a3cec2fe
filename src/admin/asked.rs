//! A request that an operator writes out in a query: `?url=http://host/path`, and any number of `&header=Name: value`.

use http::header::HOST;
use http::request::Parts;
use http::uri::Uri;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

/// What is said of a query that names no URL.
pub(super) const NO_URL: &str = "name the URL as clients ask for it: ?url=http://host/path";

/// How a field is written.
pub(super) const AS_A_FIELD: &str = "write &header=Name: value";

/// The request for a URL with these fields, its target in origin form, and its scheme. A `Host` among the fields goes before that of the
/// URL, as clients have it that let their user write one.
pub(super) fn request(url: &str, method: Method, mut fields: HeaderMap) -> Result<(Parts, &'static str), String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let scheme = match uri.scheme_str() {
        Some("https") => "https",
        _ => "http",
    };
    if let (Some(authority), false) = (uri.authority(), fields.contains_key(HOST)) {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|error| format!("{url:?} has no valid host: {error}"))?;
        fields.insert(HOST, host);
    }
    if !fields.contains_key(HOST) {
        return Err("the host is a part of the key: write ?url=http://host/path, or add &header=Host: host".to_owned());
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let mut request = Request::builder().method(method).uri(&target).body(()).map_err(|error| error.to_string())?;
    *request.headers_mut() = fields;
    Ok((request.into_parts().0, scheme))
}

/// Reads a field. What is none is not shown to anybody: it may be a credential.
pub(super) fn field(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?))
}
