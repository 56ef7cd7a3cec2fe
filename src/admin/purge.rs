//! `POST /admin/cache/purge`, and the method `PURGE`: what is to be purged, and what came of it.

use super::audit::AUDIT;
use super::auth::Caller;
use crate::flow::Proxy;
use crate::rules::{RuleSet, Scope};
use crate::store::{Answers, Job, Question, Reach, Store, Swept};
use http::StatusCode;
use http::uri::{PathAndQuery, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};
use tracing::info;

/// What is to be purged, as it was written. Several kinds at once are purged together.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PurgeRequest {
    tags: Vec<String>,
    pattern: Option<String>,
    url: Option<String>,
    every_query: bool,
    route: Option<String>,
    all: bool,
    soft: bool,
    refresh: bool,
    wait: bool,
    wait_ms: Option<u64>,
    dry_run: bool,
}

/// A purge that can be carried out.
#[derive(Debug)]
pub(super) struct Purge {
    scopes: Vec<Scope>,
    /// A pattern that is no scope: the tags that match are looked for in the background.
    pattern: Option<String>,
    soft: bool,
    /// What was popular is fetched again.
    refresh: bool,
    wait: Option<Duration>,
    dry_run: bool,
    /// What is said beside the report.
    hint: Option<&'static str>,
}

impl Purge {
    /// Reads the JSON of a request.
    pub(super) fn read(json: &[u8], rules: &RuleSet) -> Result<Purge, String> {
        let request: PurgeRequest =
            serde_json::from_slice(json).map_err(|error| format!("the body is not a purge in JSON: {error}"))?;
        Purge::of(request, rules)
    }

    /// A purge of one URL, by the method `PURGE`.
    pub(super) fn of_url(target: &Uri, soft: bool, rules: &RuleSet) -> Result<Purge, String> {
        Purge::of(PurgeRequest { url: Some(target.to_string()), soft, ..PurgeRequest::default() }, rules)
    }

    fn of(request: PurgeRequest, rules: &RuleSet) -> Result<Purge, String> {
        let mut scopes: Vec<Scope> = Vec::new();
        if request.tags.iter().map(String::len).sum::<usize>() > TAGS_BYTES_MAX {
            return Err(format!("the tags are longer than {TAGS_BYTES_MAX} octets together"));
        }
        for tag in &request.tags {
            let wrong = || format!("{tag:?} is not a tag; for the beginning of tags there is \"pattern\": \"customer:*\"");
            scopes.push(Scope::of_tag(tag).ok_or_else(wrong)?);
        }
        let mut searched = None;
        if let Some(pattern) = &request.pattern {
            match Scope::of_tag_pattern(pattern) {
                Some(scope) => scopes.push(scope),
                None if pattern.is_empty() => return Err("\"pattern\" is empty; \"*\" stands for all tags".to_owned()),
                None if pattern.len() > PATTERN_BYTES_MAX => {
                    return Err(format!("\"pattern\" is longer than {PATTERN_BYTES_MAX} octets"));
                }
                None => searched = Some(pattern.clone()),
            }
        }
        if let Some(url) = &request.url {
            let target = target_of(url).ok_or_else(|| format!("{url:?} is no URL, and no path that begins with a slash"))?;
            let of_url = rules.scopes_of_url(&target, request.every_query);
            scopes.extend(of_url.map_err(|why| format!("nothing is ever stored under {url:?}: its path has {why}"))?);
        }
        if let Some(name) = &request.route {
            if !rules.routes().iter().any(|route| route.name == *name) {
                let names: Vec<&str> = rules.routes().iter().map(|route| route.name.as_str()).collect();
                return Err(format!("there is no route {name:?}; there are: {}", names.join(", ")));
            }
            scopes.push(Scope::Route(name.clone()));
        }
        if request.all {
            scopes.push(Scope::All);
        }
        if scopes.is_empty() && searched.is_none() {
            return Err("nothing to purge: name \"tags\", a \"pattern\", a \"url\", a \"route\", or say \"all\": true".to_owned());
        }
        let wait_ms = request.wait_ms.or(request.wait.then_some(WAIT_MS));
        if wait_ms.is_some_and(|ms| ms > WAIT_MS_MAX) {
            return Err(format!("\"wait_ms\" is more than {WAIT_MS_MAX}"));
        }
        if searched.is_some() && (request.soft || request.refresh || wait_ms.is_some() || request.dry_run || !scopes.is_empty()) {
            let why = "such a pattern is looked for in the background, so it stands alone, without \"soft\", \"refresh\", \"wait\", \"wait_ms\" and \"dry_run\"; \
                       a `*` at the end, behind a colon, is done at once: \"customer:*\"";
            return Err(why.to_owned());
        }
        Ok(Purge {
            scopes,
            pattern: searched,
            soft: request.soft,
            refresh: request.refresh,
            wait: wait_ms.map(Duration::from_millis),
            dry_run: request.dry_run,
            hint: request.url.filter(|url| url.contains('*')).map(|_| STAR_IN_URL),
        })
    }

    /// The same for erasing, if it can be erased.
    pub(super) fn into_erase(self) -> Result<Purge, String> {
        match (&self.pattern, self.soft || self.refresh, self.dry_run) {
            (Some(_), ..) => Err("only what has a scope can be erased: tags, \"customer:*\", a url, a route, all".to_owned()),
            (None, true, _) | (None, _, true) => Err("\"soft\", \"refresh\" and \"dry_run\" have no meaning here".to_owned()),
            (None, false, false) => Ok(self),
        }
    }

    /// What it purges.
    pub(super) fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Carries it out, and tells what came of it: 200 if it is done as it was asked for, 202 if a part of it is still to come.
    pub(super) async fn carry_out(&self, proxy: &Arc<Proxy>, caller: &Caller) -> (StatusCode, Value) {
        let begun = Instant::now();
        let store = proxy.store();
        if let Some(pattern) = &self.pattern {
            let Some(job) = store.purge_by_pattern(pattern) else {
                let why =
                    "so many patterns are being looked for already that this one has to wait; /admin/cache/jobs tells which";
                return (StatusCode::TOO_MANY_REQUESTS, json!({ "error": why }));
            };
            info!(target: AUDIT, pattern, job = job.id, by = caller.name, role = caller.role.as_str(), from = %caller.address, "purge_began");
            let report = json!({ "scopes": [format!("tags {pattern}")], "job": job.id });
            note(proxy, caller, &report);
            return (StatusCode::ACCEPTED, report);
        }
        let shown: Vec<String> = self.scopes.iter().map(Scope::to_string).collect();
        if self.dry_run {
            let (responses, bytes) = store.in_memory_under(&self.scopes).await;
            let would = json!({ "scopes": shown, "soft": self.soft, "dry_run": true, "in_memory": { "responses": responses, "bytes": bytes } });
            return (StatusCode::OK, would);
        }
        let question = self.wait.map(|_| Question::heard());
        let popular = match self.refresh {
            true => store.popular_under(&self.scopes, REFRESHED_MAX).await,
            false => Vec::new(),
        };
        let reach = store.purge(&self.scopes, self.soft, question.as_ref()).await;
        let answers = match (self.wait, question, reach) {
            (Some(limit), Some(question), Reach::Everywhere) => Some(store.answers(&question, limit).await),
            (Some(_), _, Reach::EverywhereUnasked) => store.replicas().await.map(|replicas| Answers {
                replicas: replicas.max(2),
                answered: 1,
                found: 0,
                after: begun.elapsed(),
            }),
            (Some(_), _, Reach::Here) => Some(Answers { replicas: 1, answered: 1, found: 0, after: begun.elapsed() }),
            _ => None,
        };
        let is_complete = reach != Reach::HereFirst && answers.is_none_or(|answers| answers.answered == answers.replicas);
        let mut report = json!({
            "scopes": shown,
            "soft": self.soft,
            "reach": reach.as_str(),
            "took_ms": millis(begun.elapsed()),
        });
        if self.refresh {
            report["refreshing"] = json!(proxy.fetch_again(popular));
        }
        if let Some(Answers { replicas, answered, after, .. }) = answers {
            report["replicas"] = json!({ "present": replicas, "answered": answered, "after_ms": millis(after) });
        }
        if let Some(hint) = self.hint {
            report["hint"] = json!(hint);
        }
        let status = if is_complete { StatusCode::OK } else { StatusCode::ACCEPTED };
        info!(
            target: AUDIT, scopes = shown.join(", "), soft = self.soft, reach = reach.as_str(), status = status.as_u16(),
            by = caller.name, role = caller.role.as_str(), from = %caller.address, took_ms = millis(begun.elapsed()), "purged"
        );
        note(proxy, caller, &report);
        (status, report)
    }
}

/// Erases: purges, and deletes the octets at once, here, in Redis and on all replicas. The report is for those who must show that it was
/// done: 200 if all of it was, 202 if a part of it is not known to be.
pub(super) async fn erase(purge: Purge, proxy: Arc<Proxy>, caller: Caller) -> (StatusCode, Value) {
    let begun = Instant::now();
    let shown: Vec<String> = purge.scopes.iter().map(Scope::to_string).collect();
    let erased = proxy.store().erase(&purge.scopes, purge.wait.unwrap_or(Duration::from_millis(WAIT_MS))).await;
    let has_redis = proxy.store().has_redis();
    let is_complete = match erased.answers {
        Some(answers) => erased.redis.is_some() && answers.answered == answers.replicas,
        None => !has_redis,
    };
    let why_not = match (is_complete, erased.reach, erased.redis, erased.answers) {
        (true, ..) => None,
        (_, Reach::HereFirst, ..) => Some("Redis cannot be asked; what it and the other replicas have is still there"),
        (_, Reach::EverywhereUnasked, ..) => {
            Some("Redis is full, so the other replicas could not be asked to delete what they have")
        }
        (_, _, None, _) => Some("Redis could not be looked through to the end"),
        _ => Some("not every replica has answered"),
    };
    let swept = |swept: Swept| json!({ "responses": swept.responses, "bytes": swept.bytes });
    let mut report = json!({
        "erased": shown,
        "complete": is_complete,
        "reach": erased.reach.as_str(),
        "memory": swept(erased.memory),
        "redis": if has_redis { erased.redis.map(swept) } else { None },
        "took_ms": millis(begun.elapsed()),
    });
    if let Some(Answers { replicas, answered, found, after }) = erased.answers {
        report["replicas"] = json!({ "present": replicas, "answered": answered, "responses": found, "after_ms": millis(after) });
    }
    if let Some(why_not) = why_not {
        report["why"] = json!(format!("{why_not}; erase again when it can be done"));
    }
    note(&proxy, &caller, &report);
    let status = if is_complete { StatusCode::OK } else { StatusCode::ACCEPTED };
    info!(
        target: AUDIT, erased = shown.join(", "), is_complete, why = why_not, status = status.as_u16(), by = caller.name,
        role = caller.role.as_str(), from = %caller.address, took_ms = millis(begun.elapsed()), "erased"
    );
    (status, report)
}

/// The latest purges by patterns, the newest first.
pub(super) fn jobs(store: &Store) -> Value {
    let job = |job: Arc<Job>| {
        let progress = job.progress();
        json!({
            "id": job.id,
            "pattern": job.pattern,
            "began": job.began.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            "looked_at": progress.looked_at,
            "tags_purged": progress.tags,
            "status": match (progress.is_over, &progress.error) {
                (false, _) => "running",
                (true, None) => "done",
                (true, Some(_)) => "failed",
            },
            "error": progress.error,
        })
    };
    json!({ "jobs": store.jobs().into_iter().map(job).collect::<Vec<_>>() })
}

/// Writes into the list of the latest purges who did it, and when.
fn note(proxy: &Proxy, caller: &Caller, report: &Value) {
    let mut record = report.clone();
    record["at"] = json!(proxy.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    record["by"] = json!(caller.name);
    record["from"] = json!(caller.address.to_string());
    proxy.store().note_purge(record.to_string());
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

/// To those who know it from elsewhere.
const STAR_IN_URL: &str =
    "`*` stands for itself in a URL; \"route\" purges all of a route, \"pattern\" all that carries tags such as \"customer:*\"";

/// As many tags as fit into the head of a request elsewhere.
const TAGS_BYTES_MAX: usize = 16 << 10;

/// So many responses are fetched again after a purge: the most popular ones.
const REFRESHED_MAX: usize = 1000;

/// Longer than any tag.
const PATTERN_BYTES_MAX: usize = 1024;

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
        check(r#"{"pattern": ""}"#, "is empty");
        check(&format!(r#"{{"pattern": "*{}"}}"#, "x".repeat(1024)), "1024 octets");
        check(r#"{"pattern": "a*b", "soft": true}"#, "stands alone");
        check(r#"{"pattern": "*", "tags": ["a"]}"#, "stands alone");
        check(r#"{"url": "c/42"}"#, "no path");
        check(r#"{"url": "/c/../42"}"#, "a dot segment");
        check(r#"{"route": "nope"}"#, "there are: customer");
        check(r#"{"all": true, "wait_ms": 60001}"#, "60000");
        check(&format!(r#"{{"tags": ["{}"]}}"#, "x".repeat(16 * 1024 + 1)), "16384 octets");
    }
}
