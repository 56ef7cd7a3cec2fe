//! `/admin/cache/explain?url=…`: how a request would be treated by the rules that are in force, and why.
//!
//! The answer never shows what was written into a field that may hold a credential: that it is there is all that is said.

use super::{asked, sentence};
use crate::flow::{Explained, Fields, Keyed, Proxy};
use crate::rules::{Caching, Filled, Route};
use crate::semantics::age;
use crate::semantics::fields::{self, Kind};
use crate::store::{Stands, StoredResponse};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::Empty;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A request that somebody asks about.
#[derive(Debug)]
pub(super) struct Question {
    url: String,
    request: Parts,
    scheme: &'static str,
}

impl Question {
    /// Reads the query: `url`, `method`, and any number of `header=Name: value`.
    pub(super) fn read(query: &str) -> Result<Question, String> {
        let (mut url, mut method) = (None, Method::GET);
        let (mut fields, mut number) = (HeaderMap::new(), 0);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "url" => url = Some(value.into_owned()),
                "method" => method = Method::from_bytes(value.as_bytes()).map_err(|_| format!("{value:?} is no method"))?,
                "header" => {
                    number += 1;
                    // It is not repeated: it may hold a credential.
                    let wrong = || format!("header number {number} is no header field; {}", asked::AS_A_FIELD);
                    let (name, value) = asked::field(&value).ok_or_else(wrong)?;
                    fields.append(name, value);
                }
                _ => return Err(format!("there is no parameter {name:?}; there are url, method and header")),
            }
        }
        let url = url.ok_or(asked::NO_URL)?;
        if names_user(&url) {
            return Err(
                "no client sends the user and password of a URL as a part of it; name the field that they are sent in".into()
            );
        }
        let (request, scheme) = asked::request(&url, method, fields)?;
        Ok(Question { url, request, scheme })
    }

    /// Explains.
    pub(super) async fn answer(&self, proxy: &Proxy) -> Value {
        let request = Request::from_parts(self.request.clone(), Empty::<Bytes>::new());
        let explained = proxy.explain(request, self.scheme == "https").await;
        let method = &self.request.method;
        let mut report = json!({
            "url": self.url,
            "method": method.as_str(),
            "verdict": explained.verdict.as_str(),
            "why": sentence::of(&explained, method),
            "cache_status": explained.cache_status,
            "uses_cache": explained.keyed.is_some(),
            "bypass": explained.past.as_ref().map(|(why, causes)| json!({ "reason": why.as_str(), "fields": causes })),
            "route": explained.route.map(|route| of_route(route)),
            "lifetime": explained.route.map(|route| lifetime(route)),
            "tags": tags(&explained.tags),
            "fields": of_fields(&explained.fields),
        });
        if let (Some(route), Some(keyed)) = (explained.route, &explained.keyed) {
            report["key"] = key(route, keyed);
            report["open_credentials"] = json!(keyed.open_credentials);
            report["stored"] = stored(&explained, keyed);
            report["known"] = known(keyed);
            report["fetch_under_way"] = keyed
                .fetch
                .map_or(Value::Null, |fetch| json!({ "followers": fetch.followers, "is_outdated": fetch.is_outdated }));
        }
        if let Some(state) = proxy.store().snapshot().redis {
            let is_silent = explained.keyed.as_ref().is_some_and(|keyed| keyed.look.redis_is_silent);
            report["redis"] = json!(match (state.is_up, is_silent) {
                (false, _) => "degraded",
                (true, true) => "silent",
                (true, false) => "connected",
            });
        }
        report
    }
}

fn of_route(route: &Route) -> Value {
    json!({
        "name": route.name,
        "match": route.pattern.as_str(),
        "methods": route.methods.iter().map(Method::as_str).collect::<Vec<_>>(),
        "cache": match route.caching {
            Caching::Off => "off",
            Caching::Standard => "standard",
            Caching::Rule { .. } => "on",
        },
    })
}

/// How long a response is fresh that says nothing of it, and who says so.
fn lifetime(route: &Route) -> Value {
    let by_status: Map<String, Value> =
        route.ttl_by_status.iter().map(|(status, ttl)| (status.as_str().to_owned(), json!(ttl.as_secs()))).collect();
    match route.caching {
        Caching::Off => json!({ "seconds": null, "source": "none" }),
        Caching::Standard => json!({ "seconds": null, "source": "heuristic" }),
        Caching::Rule { ttl, overrides } => json!({
            "seconds": ttl.as_secs(),
            "source": if route.ttl_is_default { "default" } else { "rule" },
            "override": overrides,
            "by_status": by_status,
        }),
    }
}

fn of_fields(fields: &Fields) -> Value {
    let names = |names: &[HeaderName]| names.iter().map(|name| json!(name.as_str())).collect::<Value>();
    json!({
        "in_key": names(&fields.in_key),
        "withheld": names(&fields.withheld),
        "passed": names(&fields.passed),
        "replaced": names(&fields.replaced),
    })
}

fn key(route: &Route, keyed: &Keyed) -> Value {
    let Some(parts) = &keyed.parts else { return json!({ "hash": keyed.hash }) };
    let (request, text) = (&parts.request, |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let further = request.fields.keys().filter(|name| **name != http::header::HOST && !route.key_headers.contains(name));
    let values = |name: &HeaderName| {
        let values: Vec<String> = request.fields.get_all(name).iter().map(text).collect();
        (!values.is_empty()).then(|| if is_secret(name) { PRESENT.to_owned() } else { values.join(", ") })
    };
    let fields: Vec<Value> = route.key_headers.iter().chain(further).map(|name| json!([name.as_str(), values(name)])).collect();
    json!({
        "hash": keyed.hash,
        // What `GET` has stored answers `HEAD` as well.
        "method": parts.content_of.as_deref().unwrap_or("GET"),
        "scheme": request.scheme,
        "host": request.fields.get(http::header::HOST).map(text),
        "forwarded_host": request.forwarded_host.as_ref().map(text),
        "target": request.target,
        "fields": fields,
        "identity": parts.has_identity.then_some(PRESENT),
        "content": parts.content_of.as_ref().map(|_| "none"),
    })
}

fn stored(explained: &Explained<'_>, keyed: &Keyed) -> Value {
    let describe = |stands: &Stands| {
        let Stands { stored, standing } = stands;
        let (head, now) = (&stored.head, explained.now);
        json!({
            "standing": standing.as_str(),
            "is_fresh": head.is_fresh(now),
            "age": age::current(head, now).as_secs(),
            "ttl": head.ttl(now),
            "lifetime": { "seconds": head.terms.lifetime.duration.as_secs(), "source": head.terms.lifetime.source.as_str() },
            "fetched_at": unix(head.times().received),
            "has_validator": head.has_validator(),
            "shareable": head.terms.shareable,
            "status": head.status.as_u16(),
            "body_bytes": stored.body.len(),
            "is_part": head.part().is_some(),
            "tags": stored_tags(stored, &explained.tags),
            "varies_on": varies_on(stored),
        })
    };
    let look = &keyed.look;
    json!({ "memory": look.memory.as_ref().map(describe), "redis": look.redis.as_ref().map(describe) })
}

fn known(keyed: &Keyed) -> Value {
    let names = |names: &Arc<[HeaderName]>| names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
    json!({
        "not_storable": keyed.is_unstorable,
        "origin_trouble": keyed.trouble,
        "varies_on": keyed.look.varies.as_ref().map(names),
        "variants_in_memory": keyed.look.variants_in_memory,
    })
}

/// The tags; where a credential would stand in one, the template.
fn tags(filled: &[Filled]) -> Vec<&str> {
    let shown = |filled: &'_ Filled| filled.fields.iter().any(is_secret);
    filled
        .iter()
        .filter_map(|filled| if shown(filled) { Some(filled.template.as_str()) } else { filled.tag.as_deref() })
        .collect()
}

fn stored_tags<'a>(stored: &'a StoredResponse, filled: &'a [Filled]) -> Vec<&'a str> {
    let shown = |tag: &'a String| {
        let of_secret = filled.iter().find(|filled| filled.tag.as_ref() == Some(tag) && filled.fields.iter().any(is_secret));
        of_secret.map_or(tag.as_str(), |filled| filled.template.as_str())
    };
    stored.tags.iter().map(shown).collect()
}

fn varies_on(stored: &StoredResponse) -> Vec<Value> {
    let shown = |name: &HeaderName, value: &[u8]| match is_secret(name) {
        true => PRESENT.to_owned(),
        false => String::from_utf8_lossy(value).into_owned(),
    };
    stored.head.selection.fields().map(|(name, value)| json!([name.as_str(), value.map(|value| shown(name, value))])).collect()
}

/// Whether what stands in a field may be a credential: by what is known of it, or by its name.
fn is_secret(name: &HeaderName) -> bool {
    fields::kind(name) == Kind::Credential || SECRET_WORDS.iter().any(|word| name.as_str().contains(word))
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is said of something that is not to be shown.
const PRESENT: &str = "present";

/// In the names of fields that have secrets as their values.
const SECRET_WORDS: [&str; 10] =
    ["auth", "cookie", "credential", "jwt", "key", "passw", "secret", "session", "signature", "token"];

/// Whether user and password stand in a URL, or something that may have been meant so.
fn names_user(url: &str) -> bool {
    let rest = match url.split_once("://") {
        Some((_, rest)) => rest,
        None if url.starts_with('/') => return false,
        None => url,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = authority.rsplit_once(':').filter(|_| !authority.ends_with(']')).map_or("", |(_, port)| port);
    authority.contains('@') || !port.bytes().all(|octet| octet.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_request_as_a_client_would_send_it() {
        let question =
            Question::read("url=https%3A%2F%2Fapi%2Fc%2F42%3Fa%3D1&method=HEAD&header=Accept:+a&header=accept:b").unwrap();
        assert_eq!((question.request.uri.to_string().as_str(), &question.request.method), ("/c/42?a=1", &Method::HEAD));
        assert_eq!((question.scheme, &question.request.headers["host"]), ("https", &HeaderValue::from_static("api")));
        assert_eq!(question.request.headers.get_all("accept").iter().count(), 2);
        let question = Question::read("url=http://127.0.0.1:8080/c&header=Host: api").unwrap();
        assert_eq!(question.request.headers["host"], "api");
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_and_no_credential_with_it() {
        let check = |query: &str, part: &str| {
            let error = Question::read(query).unwrap_err();
            assert!(error.contains(part) && !error.contains("s3cret"), "{query}: {error}");
        };
        check("", "name the URL");
        check("url=/c/42", "the host is a part of the key");
        check("url=http://h/&ttl=1h", "there is no parameter \"ttl\"");
        check("url=http://h/&method=G T", "no method");
        check("url=http://h/&header=Accept:a&header=Authorization Bearer s3cret", "header number 2");
        check("url=http://h/&header=Authorization: s3cret%0ax", "header number 1");
        check("url=http://user:s3cret@h/", "user and password");
        check("url=http://[h/", "no URL");
    }

    #[test]
    fn what_may_be_a_credential_is_known_by_its_name() {
        let check =
            |name: &'static str, expected: bool| assert_eq!(is_secret(&HeaderName::from_static(name)), expected, "{name}");
        for name in ["authorization", "cookie", "x-api-key", "x-auth-request-email", "private-token", "x-session-id"] {
            check(name, true);
        }
        for name in ["accept", "x-tenant", "accept-language", "origin", "user-agent", "x-region"] {
            check(name, false);
        }
    }
}
