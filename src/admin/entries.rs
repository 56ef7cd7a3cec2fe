//! `/admin/cache/entries?url=…`: looks at, tests for, sets and deletes the stored response that a request for a URL would select.

use super::asked;
use super::audit::AUDIT;
use super::auth::Caller;
use super::purge::Purge;
use crate::flow::Proxy;
use crate::rules::{Admission, Admitted, Caching, Content, Forwarding, Scope};
use crate::semantics::vary::Selection;
use crate::semantics::{Lifetime, Source, StoredHead, Terms, Times, age, date};
use crate::store::{Lookup, Put, Reach, StoredResponse, Tier};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tracing::info;

/// Which stored response is meant: that which a client's request would select.
#[derive(Debug)]
pub(super) struct Entry {
    url: String,
    request: Parts,
    scheme: &'static str,
    /// How long what is set is fresh.
    ttl: Option<Duration>,
    /// Further tags of what is set.
    tags: Vec<String>,
    /// The body is wanted, not what is known about it.
    wants_body: bool,
}

/// What an operator is answered.
pub(super) enum Answer {
    Json(StatusCode, Value),
    /// The body of a stored response, and its type.
    Body(Option<HeaderValue>, Bytes),
}

impl Entry {
    /// Reads the query: `url`, any number of `header=Name: value`, and `ttl`, `tag` and `body`.
    pub(super) fn read(query: &str) -> Result<Entry, String> {
        let (mut url, mut ttl, mut tags, mut wants_body) = (None, None, Vec::new(), false);
        let mut fields = HeaderMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "url" => url = Some(value.into_owned()),
                "ttl" => ttl = Some(duration(&value)?),
                "tag" => tags.push(tag(value.into_owned())?),
                "body" => wants_body = matches!(value.as_ref(), "" | "1" | "true"),
                "header" => {
                    let (name, value) =
                        asked::field(&value).ok_or_else(|| format!("{value:?} is no header field; {}", asked::AS_A_FIELD))?;
                    fields.append(name, value);
                }
                _ => return Err(format!("there is no parameter {name:?}; there are url, header, ttl, tag and body")),
            }
        }
        let url = url.ok_or(asked::NO_URL)?;
        let (request, scheme) = asked::request(&url, Method::GET, fields)?;
        Ok(Entry { url, request, scheme, ttl, tags, wants_body })
    }

    /// Looks for it: 200 if there is one, 404 if not.
    pub(super) async fn look(&self, proxy: &Proxy) -> Answer {
        let admitted = match self.admit(proxy) {
            Ok(admitted) => admitted,
            Err(refused) => return refused,
        };
        let (store, now) = (proxy.store(), proxy.now());
        let mut budget = store.budget();
        let scopes = || admitted.scopes(&self.request);
        let found = store.lookup(&admitted.key, &self.request.headers, scopes, &mut budget, now).await;
        let (tier, stored, is_softened) = match found {
            Lookup::Found(tier, stored) => (tier, stored, false),
            Lookup::Softened(tier, stored) => (tier, stored, true),
            Lookup::Nothing => return self.nothing(&admitted, "nothing is stored for it"),
            Lookup::OtherVariant(_) => {
                return self.nothing(&admitted, "what is stored was for other values of the fields in Vary");
            }
            Lookup::Unavailable => return self.nothing(&admitted, "Redis could not be asked, and memory has nothing"),
        };
        if self.wants_body {
            return Answer::Body(stored.head.fields().get(CONTENT_TYPE).cloned(), stored.body.clone());
        }
        let mut report = self.describe(&admitted, tier, &stored, is_softened, proxy);
        let shown = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        report["fields"] = stored.head.fields().iter().map(|(name, value)| json!([name.as_str(), shown(value)])).collect();
        Answer::Json(StatusCode::OK, report)
    }

    /// Sets it, on all replicas, instead of whatever is stored or being fetched.
    pub(super) async fn set(&self, fields: &HeaderMap, body: Bytes, proxy: &Proxy, caller: &Caller) -> Answer {
        let admitted = match self.admit(proxy) {
            Ok(admitted) => admitted,
            Err(refused) => return refused,
        };
        let ttl = match (self.ttl, admitted.route.caching) {
            (Some(ttl), _) => ttl,
            (None, Caching::Rule { ttl, .. }) => ttl,
            (None, _) => return wrong("the route has no ttl of its own; add &ttl=1h"),
        };
        let store = proxy.store();
        let mut scopes = admitted.scopes(&self.request).clone();
        scopes.add_tags(self.tags.iter().cloned());
        // What is being fetched now must not take its place.
        let purged = match Purge::of_url(&self.request.uri, false, proxy.rules()) {
            Ok(purge) => store.purge(purge.scopes(), false, None).await,
            Err(why) => return wrong(why),
        };
        let held = store.hold(&scopes, &mut store.budget()).await;
        let now = proxy.now();
        let mut kept: HeaderMap = HeaderMap::new();
        for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, ETAG, LAST_MODIFIED] {
            if let Some(value) = fields.get(&name) {
                kept.insert(name, value.clone());
            }
        }
        kept.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        kept.insert(DATE, date::format(now));
        let times = Times { requested: now, received: now };
        let lifetime = Lifetime { duration: ttl, source: Source::Rule };
        let head = StoredHead::new(StatusCode::OK, kept, times, Terms::plain(lifetime), Selection::empty());
        let body_bytes = body.len();
        let key = admitted.key.clone();
        let put = store.put(StoredResponse { key, head, body, tags: scopes.tags.clone().into(), held }).await;
        let is_stored = matches!(put, Put::Stored | Put::HereAlone);
        let (status, why) = match (put, purged) {
            (Put::NotStored(why), _) => (StatusCode::SERVICE_UNAVAILABLE, Some(why.as_str())),
            (Put::Unconfirmed, _) => (StatusCode::SERVICE_UNAVAILABLE, Some("Redis has not confirmed it; set it again")),
            (Put::HereAlone, _) => {
                (StatusCode::ACCEPTED, Some("larger than redis.value_max: only the memory of this process has it"))
            }
            (Put::Stored, Reach::HereFirst) => {
                (StatusCode::ACCEPTED, Some("Redis cannot be asked: only the memory of this process has it"))
            }
            (Put::Stored, _) => (StatusCode::OK, None),
        };
        info!(
            target: AUDIT, url = self.url, ttl_s = ttl.as_secs(), body_bytes, is_stored, status = status.as_u16(),
            by = caller.name, role = caller.role.as_str(), from = %caller.address, "entry_set"
        );
        let mut report = json!({
            "url": self.url, "route": admitted.route.name, "stored": is_stored, "ttl": ttl.as_secs(),
            "tags": scopes.tags, "body_bytes": body_bytes, "reach": purged.as_str(),
        });
        if let Some(why) = why {
            report["why"] = json!(why);
        }
        Answer::Json(status, report)
    }

    /// The purge that deletes it, with all its variants and for all callers.
    pub(super) fn purge(&self, proxy: &Proxy) -> Result<Purge, String> {
        Purge::of_url(&self.request.uri, false, proxy.rules())
    }

    fn admit<'a>(&self, proxy: &'a Proxy) -> Result<Admitted<'a>, Answer> {
        let forwarding = Forwarding { scheme: self.scheme, host: None };
        let query_rule = |path: &str| proxy.store().query_rule(path);
        match proxy.rules().admit(&self.request, &forwarding, Content::None, proxy.now(), query_rule) {
            Admission::Keyed(admitted) => Ok(admitted),
            Admission::WantsContent { .. } => {
                Err(wrong("the content of a request is part of its key; only GET can be named here"))
            }
            Admission::Past { why, .. } => Err(wrong(format!("such a request goes past the cache: {}", why.as_str()))),
        }
    }

    fn nothing(&self, admitted: &Admitted<'_>, why: &str) -> Answer {
        let report = json!({ "url": self.url, "route": admitted.route.name, "stored": false, "why": why });
        Answer::Json(StatusCode::NOT_FOUND, report)
    }

    fn describe(
        &self,
        admitted: &Admitted<'_>,
        tier: Tier,
        stored: &Arc<StoredResponse>,
        is_softened: bool,
        proxy: &Proxy,
    ) -> Value {
        let (head, now) = (&stored.head, proxy.now());
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let varies_on: Vec<Value> =
            head.selection.fields().map(|(name, value)| json!([name.as_str(), value.map(text)])).collect();
        json!({
            "url": self.url,
            "route": admitted.route.name,
            "key": admitted.key.to_string(),
            "stored": true,
            "tier": tier.as_str(),
            "is_fresh": head.is_fresh(now) && !is_softened,
            "is_softened": is_softened,
            "age": age::current(head, now).as_secs(),
            "ttl": head.ttl(now),
            "lifetime": { "seconds": head.terms.lifetime.duration.as_secs(), "source": head.terms.lifetime.source.as_str() },
            "fetched_at": head.times().received.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            "tags": stored.tags,
            "varies_on": varies_on,
            "status": head.status.as_u16(),
            "body_bytes": stored.body.len(),
        })
    }
}

fn wrong(why: impl Into<String>) -> Answer {
    Answer::Json(StatusCode::BAD_REQUEST, json!({ "error": why.into() }))
}

/// `90`, `90s` or `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse().map(Duration::from_secs).ok().or_else(|| humantime::parse_duration(text).ok());
    match parsed.filter(|ttl| (TTL_MIN..=TTL_MAX).contains(ttl)) {
        Some(ttl) => Ok(ttl),
        None => {
            Err(format!("{text:?} is no ttl; write seconds, or a duration such as 1h, of a second at least and a year at most"))
        }
    }
}

fn tag(tag: String) -> Result<String, String> {
    match Scope::of_tag(&tag) {
        Some(_) => Ok(tag),
        None => Err(format!("{tag:?} is no tag: it is empty, or has a `*`")),
    }
}

const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HOST;

    #[test]
    fn the_query_names_a_request_as_a_client_would_send_it() {
        let entry = Entry::read(
            "url=http%3A%2F%2Fapi%3A8080%2Fc%2F42%3Fa%3D1&header=Accept:+text/html&header=Accept: b&ttl=1h&tag=x&body=1",
        );
        let entry = entry.unwrap();
        assert_eq!(entry.request.uri, "/c/42?a=1");
        assert_eq!(entry.request.headers[HOST], "api:8080");
        assert_eq!(entry.request.headers.get_all("accept").iter().collect::<Vec<_>>(), ["text/html", "b"]);
        assert_eq!(
            (entry.ttl, entry.tags.as_slice(), entry.wants_body),
            (Some(Duration::from_secs(3600)), &["x".to_owned()][..], true)
        );
        assert_eq!(Entry::read("url=/c/42&header=Host:h").unwrap().request.uri, "/c/42");
        assert_eq!(Entry::read("url=https://h").unwrap().request.uri, "/");
    }

    #[test]
    fn what_is_missing_or_wrong_is_told() {
        let check = |query: &str, part: &str| {
            let error = Entry::read(query).unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        };
        check("", "name the URL");
        check("url=/c/42", "the host is a part of the key");
        check("url=http://h/&uri=x", "there is no parameter \"uri\"");
        check("url=http://h/&ttl=soon", "no ttl");
        check("url=http://h/&ttl=0", "no ttl");
        check("url=http://h/&header=x", "no header field");
        check("url=http://h/&tag=a*", "no tag");
        check("url=http://[h/", "no URL");
    }
}
