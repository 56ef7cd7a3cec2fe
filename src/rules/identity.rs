//! Who asks, as far as a part of a field tells: single cookies, and when a token ends.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The values of a cookie, exactly of this name (RFC 6265 §4.2.1).
pub(super) fn cookies<'a>(fields: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = fields.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|octet| *octet == b';'));
    pairs.filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let end = pair.iter().position(|octet| *octet == b'=').unwrap_or(pair.len());
        (pair[..end].trim_ascii() == name.as_bytes()).then(|| pair.get(end + 1..).unwrap_or_default())
    })
}

/// Takes all cookies from a request but those of these names.
pub(super) fn keep_cookies(fields: &mut HeaderMap, names: &[String]) {
    let mut kept = Vec::new();
    for name in names {
        for value in cookies(fields, name) {
            if !kept.is_empty() {
                kept.extend(b"; ");
            }
            kept.extend(name.as_bytes());
            kept.push(b'=');
            kept.extend(value);
        }
    }
    fields.remove(COOKIE);
    if let (false, Ok(mut kept)) = (kept.is_empty(), HeaderValue::from_bytes(&kept)) {
        kept.set_sensitive(true);
        fields.insert(COOKIE, kept);
    }
}

/// When the bearer token of a request ends, as it says itself: of a JWT, its `exp` (RFC 7519 §4.1.4). That is no proof of anything; but
/// nobody is served worse for heeding it.
pub(super) fn token_ends(fields: &HeaderMap) -> Option<SystemTime> {
    let tokens = fields.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let ends = tokens.filter_map(|token| {
        let [_, payload, _] = token.split('.').collect::<Vec<_>>().try_into().ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        time(claims.get("exp")?.as_f64()?)
    });
    ends.min()
}

/// A `NumericDate` (RFC 7519 §2).
pub(super) fn time(seconds: f64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds.max(0.0)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: http::HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), line.parse().unwrap())).collect()
    }

    #[test]
    fn a_cookie_is_found_by_its_exact_name() {
        let check = |lines: &[&str], expected: &[&str], shown: &str| {
            let mut fields = fields(COOKIE, lines);
            let found: Vec<&[u8]> = cookies(&fields, "session").collect();
            assert_eq!(found, expected.iter().map(|value| value.as_bytes()).collect::<Vec<_>>(), "{lines:?}");
            keep_cookies(&mut fields, &["session".to_owned()]);
            assert_eq!(fields.get(COOKIE).map_or("", |value| value.to_str().unwrap()), shown, "{lines:?}");
        };
        check(&[], &[], "");
        check(&["session=a"], &["a"], "session=a");
        check(&["x=1; session=a; y=session=b"], &["a"], "session=a");
        check(&["Session=a; session2=b; xsession=c; s=session"], &[], "");
        check(&["session=a", "session=b"], &["a", "b"], "session=a; session=b");
        check(&["session=a,session=b; x"], &["a,session=b"], "session=a,session=b");
        check(&["session"], &[""], "session=");
    }

    #[test]
    fn the_end_of_a_token_is_what_it_says() {
        let check = |lines: &[&str], expected: Option<u64>| {
            let ends = token_ends(&fields(AUTHORIZATION, lines));
            assert_eq!(ends, expected.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)), "{lines:?}");
        };
        let token = |claims: &str| format!("Bearer eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        check(&[&token(r#"{"exp":1000}"#)], Some(1000));
        check(&[&token(r#"{"exp":1000}"#).replace("Bearer", "bEARER ")], Some(1000));
        check(&[&token(r#"{"exp":-5}"#)], Some(0));
        check(&[&token(r#"{"exp":2000}"#), &token(r#"{"exp":1000}"#)], Some(1000));
        for other in [r#"{"exp":"1000"}"#, r#"{}"#, "[1]", "{", r#"{"exp":1e300}"#] {
            check(&[&token(other)], None);
        }
        check(&["Bearer opaque", "Basic YTpi", "Bearer a.b", "Bearer a.b.c.d", "x"], None);
    }
}
