//! `POST /admin/cache/purge`, and the method `PURGE`: what is to be purged, and what came of it.

use super::auth::Caller;
use crate::flow::Proxy;
use crate::rules::{RuleSet, Scope};
use crate::store::{Answers, Reach};
use http::StatusCode;
use http::uri::{PathAndQuery, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tracing::info;

/// What is to be purged, as it was written. Several kinds at once are purged together.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Order {
    tags: Vec<String>,
    pattern: Option<String>,
    url: Option<String>,
    every_query: bool,
    route: Option<String>,
    all: bool,
    soft: bool,
    wait: bool,
    wait_ms: Option<u64>,
    dry_run: bool,
}

/// An order that can be carried out.
#[derive(Debug)]
pub(super) struct Purge {
    scopes: Vec<Scope>,
    soft: bool,
    wait: Option<Duration>,
    dry_run: bool,
}

impl Purge {
    /// Reads the JSON of a request.
    pub(super) fn read(json: &[u8], rules: &RuleSet) -> Result<Purge, String> {
        let order: Order = serde_json::from_slice(json).map_err(|error| format!("the body is not a purge in JSON: {error}"))?;
        Purge::of(order, rules)
    }

    /// A purge of one URL, by the method `PURGE`.
    pub(super) fn of_url(target: &Uri, soft: bool, rules: &RuleSet) -> Result<Purge, String> {
        Purge::of(Order { url: Some(target.to_string()), soft, ..Order::default() }, rules)
    }

    fn of(order: Order, rules: &RuleSet) -> Result<Purge, String> {
        let mut scopes: Vec<Scope> = Vec::new();
        if order.tags.iter().map(String::len).sum::<usize>() > TAGS_BYTES_MAX {
            return Err(format!("the tags are longer than {TAGS_BYTES_MAX} octets together"));
        }
        for tag in &order.tags {
            if tag.is_empty() || tag.contains('*') {
                return Err(format!("{tag:?} is not a tag; for the beginning of tags there is \"pattern\""));
            }
            scopes.push(Scope::Tag(tag.clone()));
        }
        if let Some(pattern) = &order.pattern {
            scopes.push(Scope::of_tag_pattern(pattern).map_err(|error| error.to_string())?);
        }
        if let Some(url) = &order.url {
            let target = target_of(url).ok_or_else(|| format!("{url:?} is no URL, and no path that begins with a slash"))?;
            let of_url = rules.scopes_of_url(&target, order.every_query);
            scopes.extend(of_url.map_err(|why| format!("nothing is ever stored under {url:?}: its path has {why}"))?);
        }
        if let Some(name) = &order.route {
            if !rules.routes().iter().any(|route| route.name == *name) {
                let names: Vec<&str> = rules.routes().iter().map(|route| route.name.as_str()).collect();
                return Err(format!("there is no route {name:?}; there are: {}", names.join(", ")));
            }
            scopes.push(Scope::Route(name.clone()));
        }
        if order.all {
            scopes.push(Scope::All);
        }
        if scopes.is_empty() {
            return Err("nothing to purge: name \"tags\", a \"pattern\", a \"url\", a \"route\", or say \"all\": true".to_owned());
        }
        let wait_ms = order.wait_ms.or(order.wait.then_some(WAIT_MS));
        if wait_ms.is_some_and(|ms| ms > WAIT_MS_MAX) {
            return Err(format!("\"wait_ms\" is more than {WAIT_MS_MAX}"));
        }
        Ok(Purge { scopes, soft: order.soft, wait: wait_ms.map(Duration::from_millis), dry_run: order.dry_run })
    }

    /// What it purges.
    pub(super) fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Carries it out, and tells what came of it: 200 if it is done as it was asked for, 202 if a part of it is still to come.
    pub(super) async fn carry_out(&self, proxy: &Proxy, caller: &Caller) -> (StatusCode, Value) {
        let begun = Instant::now();
        let store = proxy.store();
        let shown: Vec<String> = self.scopes.iter().map(Scope::to_string).collect();
        if self.dry_run {
            let (responses, bytes) = store.in_memory_under(&self.scopes);
            let would = json!({ "scopes": shown, "soft": self.soft, "dry_run": true, "in_memory": { "responses": responses, "bytes": bytes } });
            return (StatusCode::OK, would);
        }
        let question = self.wait.and_then(|_| store.question());
        let reach = store.purge(&self.scopes, self.soft, question.as_deref()).await;
        let answers = match (self.wait, question, reach) {
            (Some(limit), Some(question), Reach::Everywhere) => Some(store.answers(&question, limit).await),
            (Some(_), _, Reach::EverywhereUnasked) => {
                store.replicas().await.map(|replicas| Answers { replicas: replicas.max(2), answered: 1, after: begun.elapsed() })
            }
            (Some(_), _, Reach::Here) => Some(Answers { replicas: 1, answered: 1, after: begun.elapsed() }),
            _ => None,
        };
        let is_complete = reach != Reach::HereFirst && answers.is_none_or(|answers| answers.answered == answers.replicas);
        let mut report = json!({
            "scopes": shown,
            "soft": self.soft,
            "reach": reach.as_str(),
            "took_ms": millis(begun.elapsed()),
        });
        if let Some(Answers { replicas, answered, after }) = answers {
            report["replicas"] = json!({ "present": replicas, "answered": answered, "after_ms": millis(after) });
        }
        info!(
            scopes = shown.join(", "), soft = self.soft, reach = reach.as_str(), by = caller.name, from = %caller.address,
            took_ms = millis(begun.elapsed()), "purged"
        );
        let mut record = report.clone();
        record["at"] = json!(proxy.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        record["by"] = json!(caller.name);
        record["from"] = json!(caller.address.to_string());
        store.note_purge(record.to_string());
        (if is_complete { StatusCode::OK } else { StatusCode::ACCEPTED }, report)
    }
}

/// Path and query of a URL; its scheme and host do not count, since what is stored under every `Host` is purged.
fn target_of(url: &str) -> Option<PathAndQuery> {
    let uri: Uri = url.parse().ok()?;
    match uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => Some(target.clone()),
        // `http://host?query` asks for the root.
        Some(target) if uri.authority().is_some() => format!("/{target}").parse().ok(),
        None if uri.authority().is_some() && uri.scheme().is_some() => Some(PathAndQuery::from_static("/")),
        _ => None,
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 100.0
}

/// As many tags as fit into the head of a request elsewhere.
const TAGS_BYTES_MAX: usize = 16 << 10;

/// How long a purge waits for other replicas by default: longer than one that is gone counts as present.
const WAIT_MS: u64 = 10_000;

/// Longer than that nobody waits.
const WAIT_MS_MAX: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Pattern, Route};

    fn read(json: &str) -> Result<Vec<String>, String> {
        let route = Route::new("customer", Pattern::parse("/c/{id}").unwrap(), Duration::from_secs(60));
        let purge = Purge::read(json.as_bytes(), &RuleSet::new(vec![route]).unwrap())?;
        Ok(purge.scopes.iter().map(Scope::to_string).collect())
    }

    #[test]
    fn a_purge_names_what_it_is_of() {
        let check = |json: &str, expected: &[&str]| assert_eq!(read(json).unwrap(), expected, "{json}");
        check(r#"{"tags": ["customer:42", "vip"]}"#, &["tag customer:42", "tag vip"]);
        check(r#"{"pattern": "customer:*"}"#, &["tags customer:*"]);
        check(r#"{"url": "/c/42?x=1"}"#, &["url /c/42?x=1"]);
        check(r#"{"url": "http://any.host:1/c/42"}"#, &["url /c/42"]);
        check(r#"{"url": "http://any.host"}"#, &["url /"]);
        check(r#"{"url": "/c/42?x=1", "every_query": true}"#, &["url /c/42", "url /c/42 with every query"]);
        check(r#"{"route": "customer", "all": true}"#, &["route customer", "everything"]);
    }

    #[test]
    fn what_cannot_be_purged_is_told_with_its_reason() {
        let check = |json: &str, part: &str| {
            let error = read(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        };
        check("", "not a purge in JSON");
        check("{}", "nothing to purge");
        check(r#"{"tag": "x"}"#, "unknown field `tag`");
        check(r#"{"tags": ["customer:*"]}"#, "pattern");
        check(r#"{"pattern": "*"}"#, "customer:*");
        check(r#"{"url": "c/42"}"#, "no path");
        check(r#"{"url": "/c/../42"}"#, "a dot segment");
        check(r#"{"route": "nope"}"#, "there are: customer");
        check(r#"{"all": true, "wait_ms": 60001}"#, "60000");
        check(&format!(r#"{{"tags": ["{}"]}}"#, "x".repeat(16 * 1024 + 1)), "16384 octets");
    }
}
