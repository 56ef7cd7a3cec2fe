//! `explain`: how a running sidecache would treat a request, and why; for people, or as the JSON that it answers.

use super::place::Where;
use super::remote::{Remote, Reply, show};
use crate::config::Sources;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The URL as clients ask for it, with its host: `http://host/path`.
    #[arg(value_name = "URL")]
    url: String,

    /// A request field: `Accept-Language: de`. May stand several times. A `Host` goes before that of the URL; credentials are never shown.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,

    /// The method of the request.
    #[arg(short = 'X', long = "method", value_name = "METHOD", default_value = "GET")]
    method: String,

    /// Write the answer as it comes, as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Where,
}

/// Explains. Exit code 0 if it could be explained, 1 if not, whatever would become of the request.
pub(super) fn run(args: &Args, sources: &Sources) -> ExitCode {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("url", &args.url).append_pair("method", &args.method);
    query.extend_pairs(args.headers.iter().map(|field| ("header", field)));
    let path = format!("/admin/cache/explain?{}", query.finish());
    let replied = Remote::find(&args.place, sources).and_then(|remote| remote.ask(Method::GET, &path, "", Bytes::new()));
    let report = match &replied {
        Ok(Reply { status: StatusCode::OK, body }) if !args.json => serde_json::from_slice(body).ok(),
        _ => None,
    };
    match report {
        Some(report) => {
            let _ = std::io::stdout().write_all(text(&report).as_bytes());
            ExitCode::SUCCESS
        }
        None => show(replied),
    }
}

/// What was explained, for people: a label, and behind it a line or several.
fn text(report: &Value) -> String {
    let mut lines: Vec<(&str, String)> = vec![
        (word(&report["verdict"]), string(&report["why"])),
        ("Cache-Status", optional(&report["cache_status"]).unwrap_or_else(|| "none".to_owned())),
        ("route", route(&report["route"])),
    ];
    if report["bypass"]["fields"].as_array().is_some_and(|fields| !fields.is_empty()) {
        lines.push(("because of", list(&report["bypass"]["fields"])));
    }
    if let Some(lifetime) = lifetime(&report["lifetime"]) {
        lines.push(("lifetime", lifetime));
    }
    lines.extend(some_list("tags", &report["tags"]));
    let fields = &report["fields"];
    for (label, kind) in [("in the key", "in_key"), ("withheld", "withheld"), ("passed on", "passed"), ("replaced", "replaced")] {
        lines.extend(some_list(label, &fields[kind]));
    }
    if report["uses_cache"] == true {
        lines.extend(some_list("open", &report["open_credentials"]));
        lines.extend(key(&report["key"]).into_iter().map(|line| ("key", line)));
        for (label, tier) in [("memory", "memory"), ("Redis", "redis")] {
            lines.push((label, stored(&report["stored"][tier], tier == "redis", &report["redis"])));
        }
        lines.extend(known(report).into_iter().map(|line| ("known", line)));
    }
    let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    let mut text = format!("{} {}\n\n", word(&report["method"]), string(&report["url"]));
    let mut before = "";
    for (label, line) in &lines {
        let shown = if *label == before { "" } else { label };
        let _ = writeln!(text, "  {shown:width$}  {}", printable(line));
        before = label;
    }
    text
}

fn route(route: &Value) -> String {
    match route {
        Value::Null => "none matches".to_owned(),
        route => format!(
            "{}  {}  {}  cache = {}",
            string(&route["name"]),
            string(&route["match"]),
            list(&route["methods"]),
            route["cache"]
        ),
    }
}

/// How long a response is fresh that states nothing itself.
fn lifetime(lifetime: &Value) -> Option<String> {
    let source = lifetime["source"].as_str()?;
    let by_status =
        lifetime["by_status"].as_object().into_iter().flatten().map(|(status, ttl)| format!(", {ttl} s for {status}"));
    let by_status: String = by_status.collect();
    let first = if lifetime["override"] == true { ", whatever the origin states" } else { " where the origin states none" };
    Some(match source {
        "none" => "none: nothing is stored".to_owned(),
        "heuristic" => "a tenth of the time since Last-Modified where the origin states none; without that, none".to_owned(),
        "default" => format!("{} s{first}{by_status}, by default", lifetime["seconds"]),
        _ => format!("{} s{first}{by_status}, by the route", lifetime["seconds"]),
    })
}

fn key(key: &Value) -> Vec<String> {
    let mut lines = vec![string(&key["hash"])];
    if key["target"].is_null() {
        return lines;
    }
    lines.push(format!(
        "{} {}://{}{}",
        string(&key["method"]),
        string(&key["scheme"]),
        string(&key["host"]),
        string(&key["target"])
    ));
    lines.extend(optional(&key["forwarded_host"]).map(|host| format!("x-forwarded-host: {host}")));
    lines.extend(pairs(&key["fields"]));
    lines.extend(optional(&key["identity"]).map(|_| "and a hash of what tells callers apart".to_owned()));
    lines.extend(optional(&key["content"]).map(|_| "and a hash of the content, of which there is none here".to_owned()));
    lines
}

fn stored(stored: &Value, is_redis: bool, redis: &Value) -> String {
    if stored.is_null() {
        return match redis.as_str() {
            None if is_redis => "is not used".to_owned(),
            Some("degraded") if is_redis => "cannot be asked at present".to_owned(),
            Some("silent") if is_redis => "gave no answer in time".to_owned(),
            _ => "nothing".to_owned(),
        };
    }
    let ttl = stored["ttl"].as_i64().unwrap_or_default();
    let fresh = if stored["is_fresh"] == true { format!("fresh for {ttl} s") } else { format!("stale for {} s", -ttl) };
    let standing = match word(&stored["standing"]) {
        "holds" => "no purge has come",
        "soft-purged" => "marked stale by a purge",
        "purged" => "ended by a purge",
        _ => "not known whether a purge has come",
    };
    let mut line = format!(
        "{}{}, {} octets, {} s old, {fresh} of {} s by {}; {standing}",
        stored["status"],
        if stored["is_part"] == true { " (a part)" } else { "" },
        stored["body_bytes"],
        stored["age"],
        stored["lifetime"]["seconds"],
        word(&stored["lifetime"]["source"]),
    );
    if stored["tags"].as_array().is_some_and(|tags| !tags.is_empty()) {
        let _ = write!(line, "; tags {}", list(&stored["tags"]));
    }
    let selecting = pairs(&stored["varies_on"]);
    if !selecting.is_empty() {
        let _ = write!(line, "; for {}", selecting.join(", "));
    }
    line
}

/// What is known of the key beside what is stored.
fn known(report: &Value) -> Vec<String> {
    let known = &report["known"];
    let mut lines = Vec::new();
    if known["varies_on"].as_array().is_some_and(|names| !names.is_empty()) {
        lines.push(format!("varies on {}; variants in memory: {}", list(&known["varies_on"]), known["variants_in_memory"]));
    }
    if known["not_storable"] == true {
        lines.push("the last response could not be stored".to_owned());
    }
    match known["origin_trouble"].as_str() {
        Some("unreachable") => lines.push("the origin gave no answer lately".to_owned()),
        Some(_) => lines.push("the origin has failed lately".to_owned()),
        None => {}
    }
    let fetch = &report["fetch_under_way"];
    if !fetch.is_null() {
        let since = if fetch["is_outdated"] == true { ", from before a purge" } else { "" };
        lines.push(format!("it is being fetched{since}; {} requests wait for that", fetch["followers"]));
    }
    lines
}

/// `name: value`, or that the field is missing.
fn pairs(pairs: &Value) -> Vec<String> {
    let pair = |pair: &Value| match optional(&pair[1]) {
        Some(value) => format!("{}: {value}", string(&pair[0])),
        None => format!("no {}", string(&pair[0])),
    };
    pairs.as_array().into_iter().flatten().map(pair).collect()
}

fn some_list<'a>(label: &'a str, names: &Value) -> Option<(&'a str, String)> {
    names.as_array().filter(|names| !names.is_empty()).map(|_| (label, list(names)))
}

fn list(names: &Value) -> String {
    names.as_array().into_iter().flatten().map(string).collect::<Vec<_>>().join(", ")
}

fn optional(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn string(value: &Value) -> String {
    optional(value).unwrap_or_default()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Without what a terminal would take for an order: an origin names tags as it likes.
fn printable(line: &str) -> String {
    line.chars().map(|sign| if sign.is_control() { char::REPLACEMENT_CHARACTER } else { sign }).collect()
}

const EXAMPLES: &str = "\
Examples:
  sidecache explain http://api.example/api/mcp/customer/42
  sidecache explain http://127.0.0.1:8080/a -H 'Host: api.example' -H 'Accept-Language: de'
  sidecache explain -X POST --json http://api.example/search

Exit code: 0 explained, whatever would become of the request; 1 refused, or not reached; 2 wrong arguments.";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_explained_stands_in_lines_that_people_can_read() {
        let report = json!({
            "url": "http://h/c/42", "method": "GET", "verdict": "hit",
            "why": "Memory has a response for it, fresh for 50 s more.",
            "cache_status": "sidecache; hit; ttl=50; detail=memory", "uses_cache": true, "bypass": null,
            "route": { "name": "customer", "match": "/c/{id}", "methods": ["GET", "HEAD"], "cache": "on" },
            "lifetime": { "seconds": 60, "source": "default", "override": false, "by_status": { "404": 5 } },
            "tags": ["customer:42"],
            "fields": { "in_key": ["host", "x-tenant"], "withheld": ["user-agent"], "passed": [], "replaced": [] },
            "key": {
                "hash": "00ff", "method": "GET", "scheme": "http", "host": "h", "forwarded_host": null, "target": "/c/42",
                "fields": [["x-tenant", "acme"], ["x-other", null]], "identity": "present", "content": null,
            },
            "open_credentials": [],
            "stored": {
                "memory": {
                    "standing": "holds", "is_fresh": true, "age": 10, "ttl": 50, "status": 200, "body_bytes": 3, "is_part": false,
                    "lifetime": { "seconds": 60, "source": "rule" }, "tags": ["customer:42", "by\u{1b}origin"],
                    "varies_on": [["accept", "a"]],
                },
                "redis": null,
            },
            "known": { "not_storable": false, "origin_trouble": null, "varies_on": ["accept"], "variants_in_memory": 1 },
            "fetch_under_way": { "followers": 2, "is_outdated": false },
            "redis": "degraded",
        });
        let expected = "\
GET http://h/c/42

  hit           Memory has a response for it, fresh for 50 s more.
  Cache-Status  sidecache; hit; ttl=50; detail=memory
  route         customer  /c/{id}  GET, HEAD  cache = \"on\"
  lifetime      60 s where the origin states none, 5 s for 404, by default
  tags          customer:42
  in the key    host, x-tenant
  withheld      user-agent
  key           00ff
                GET http://h/c/42
                x-tenant: acme
                no x-other
                and a hash of what tells callers apart
  memory        200, 3 octets, 10 s old, fresh for 50 s of 60 s by rule; no purge has come; tags customer:42, by\u{fffd}origin; for accept: a
  Redis         cannot be asked at present
  known         varies on accept; variants in memory: 1
                it is being fetched; 2 requests wait for that
";
        assert_eq!(text(&report), expected);
    }

    #[test]
    fn of_a_request_past_the_cache_there_is_less_to_say() {
        let report = json!({
            "url": "http://h/x", "method": "GET", "verdict": "past", "why": "No.", "cache_status": "sidecache; fwd=bypass",
            "uses_cache": false, "bypass": { "reason": "unkeyed-field", "fields": ["x-one", "x-two"] }, "route": null,
            "lifetime": null, "tags": [], "fields": { "in_key": [], "withheld": [], "passed": ["x-one", "x-two"], "replaced": [] },
        });
        let expected = "\
GET http://h/x

  past          No.
  Cache-Status  sidecache; fwd=bypass
  route         none matches
  because of    x-one, x-two
  passed on     x-one, x-two
";
        assert_eq!(text(&report), expected);
    }
}
