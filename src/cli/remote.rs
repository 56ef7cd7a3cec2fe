//! The subcommands that speak to a running sidecache over its admin endpoints: `purge`, `purges`, `erase`, `jobs`,
//! `entry`, `stats`.

use super::place::{Place, Trust, Where, configuration, token};
use crate::config::{Config, Sources};
use bytes::Bytes;
use clap::ArgGroup;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::error::Error;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = PURGE_EXAMPLES)]
#[command(group(ArgGroup::new("what").required(true).multiple(true).args(["tags", "pattern", "url", "route", "all"])))]
pub(super) struct PurgeArgs {
    /// What carries this tag. May stand several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// What carries a tag that begins so: `customer:*`. Other patterns, such as `*:risk`, are looked for in the background.
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<String>,

    /// One URL: path and query, for all callers and in all variants.
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// With --url: the path with every query.
    #[arg(long, requires = "url")]
    every_query: bool,

    /// All that a route has stored.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// Everything.
    #[arg(long)]
    all: bool,

    /// Mark stale instead: serve once more while a new response is fetched.
    #[arg(long)]
    soft: bool,

    /// Fetch again, in the background, what was popular.
    #[arg(long)]
    refresh: bool,

    /// Wait until every replica has confirmed, for 10 s at most.
    #[arg(long)]
    wait: bool,

    /// The same, for so many milliseconds at most.
    #[arg(long, value_name = "MILLISECONDS")]
    wait_ms: Option<u64>,

    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
pub(super) struct EraseArgs {
    /// What carries this tag. May stand several times.
    #[arg(long = "tag", value_name = "TAG", required = true)]
    tags: Vec<String>,

    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
pub(super) struct PurgesArgs {
    /// How many, the newest first.
    #[arg(short, default_value_t = 20, value_name = "NUMBER")]
    n: usize,

    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
pub(super) struct EntryArgs {
    #[command(subcommand)]
    action: EntryAction,
}

#[derive(clap::Subcommand)]
enum EntryAction {
    /// Show what is stored for a URL. Exit code 1 if nothing is, 2 if that could not be found out.
    Get {
        /// Write the stored body to standard output, instead of what is known about it.
        #[arg(long)]
        body: bool,

        #[command(flatten)]
        entry: EntryName,
    },
    /// Say by the exit code whether something is stored: 0 if so, 1 if not, 2 if that could not be found out.
    Exists {
        #[command(flatten)]
        entry: EntryName,
    },
    /// Store a body for a URL, on all replicas.
    Set {
        /// How long it is fresh: `1h`, or seconds [default: the ttl of the route].
        #[arg(long, value_name = "DURATION")]
        ttl: Option<String>,

        /// A further tag. May stand several times.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,

        /// What it is.
        #[arg(long, value_name = "TYPE", default_value = "application/json")]
        content_type: String,

        #[command(flatten)]
        entry: EntryName,

        /// The file that holds the body; standard input if none is named.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Delete what is stored for a URL, on all replicas.
    Delete {
        #[command(flatten)]
        entry: EntryName,
    },
}

#[derive(clap::Args)]
struct EntryName {
    /// The URL as clients ask for it, with its host: `http://host/path`.
    #[arg(value_name = "URL")]
    url: String,

    /// A request field, where it selects the response: `Accept-Language: de`. May stand several times.
    #[arg(long = "header", value_name = "FIELD")]
    headers: Vec<String>,

    #[command(flatten)]
    place: Where,
}

/// A running sidecache.
pub(super) struct Remote {
    place: Place,
    token: Option<String>,
}

/// What it answered.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Purges. Exit code 0 if all is done as it was asked for, 3 if that is not known of all replicas, 1 if it was refused.
pub(super) fn purge(args: &PurgeArgs, sources: &Sources) -> ExitCode {
    let mut order = json!({ "tags": args.tags });
    for (key, value) in [("pattern", &args.pattern), ("url", &args.url), ("route", &args.route)] {
        if let Some(value) = value {
            order[key] = json!(value);
        }
    }
    let flags = [
        ("every_query", args.every_query),
        ("all", args.all),
        ("soft", args.soft),
        ("refresh", args.refresh),
        ("wait", args.wait),
        ("dry_run", args.dry_run),
    ];
    for (key, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
        order[key] = json!(true);
    }
    if let Some(wait_ms) = args.wait_ms {
        order["wait_ms"] = json!(wait_ms);
    }
    let body = Bytes::from(order.to_string());
    show(Remote::find(&args.place, sources).and_then(|it| it.ask(Method::POST, "/admin/cache/purge", "application/json", body)))
}

/// Erases. The exit codes are those of purges.
pub(super) fn erase(args: &EraseArgs, sources: &Sources) -> ExitCode {
    let body = Bytes::from(json!({ "tags": args.tags }).to_string());
    show(Remote::find(&args.place, sources).and_then(|it| it.ask(Method::POST, "/admin/cache/erase", "application/json", body)))
}

/// Shows the purges that are looked for in the background.
pub(super) fn jobs(args: &ShowArgs, sources: &Sources) -> ExitCode {
    get(&args.place, "/admin/cache/jobs", sources)
}

/// Shows the latest purges.
pub(super) fn purges(args: &PurgesArgs, sources: &Sources) -> ExitCode {
    get(&args.place, &format!("/admin/cache/purges?n={}", args.n), sources)
}

/// Shows the statistics.
pub(super) fn stats(args: &ShowArgs, sources: &Sources) -> ExitCode {
    get(&args.place, "/admin/cache/stats", sources)
}

/// Looks at, tests for, sets or deletes a stored response.
pub(super) fn entry(args: EntryArgs, sources: &Sources) -> ExitCode {
    let ask = |method, entry: &EntryName, further: &[(&str, &str)], content_type: &str, body: Bytes| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("url", &entry.url);
        query.extend_pairs(entry.headers.iter().map(|field| ("header", field)));
        query.extend_pairs(further);
        let path = format!("/admin/cache/entries?{}", query.finish());
        Remote::find(&entry.place, sources)?.ask(method, &path, content_type, body)
    };
    match args.action {
        EntryAction::Get { body: true, entry } => match ask(Method::GET, &entry, &[("body", "true")], "", Bytes::new()) {
            Ok(Reply { status: StatusCode::OK, body }) => {
                let _ = std::io::stdout().write_all(&body);
                ExitCode::SUCCESS
            }
            replied => found(replied),
        },
        EntryAction::Get { body: false, entry } => found(ask(Method::GET, &entry, &[], "", Bytes::new())),
        EntryAction::Exists { entry } => match ask(Method::HEAD, &entry, &[], "", Bytes::new()) {
            Ok(Reply { status: StatusCode::OK, .. }) => ExitCode::SUCCESS,
            Ok(Reply { status: StatusCode::NOT_FOUND, .. }) => ExitCode::FAILURE,
            // HEAD says no more than that something is wrong; GET says what.
            Ok(_) => found(ask(Method::GET, &entry, &[], "", Bytes::new())),
            Err(why) => found(Err(why)),
        },
        EntryAction::Set { ttl, tags, content_type, entry, file } => {
            let body = match &file {
                Some(file) => std::fs::read(file).map_err(|error| format!("{}: {error}", file.display())),
                None => {
                    let mut body = Vec::new();
                    let read = std::io::stdin().read_to_end(&mut body);
                    read.map(|_| body).map_err(|error| format!("standard input: {error}"))
                }
            };
            let further: Vec<(&str, &str)> =
                ttl.iter().map(|ttl| ("ttl", ttl.as_str())).chain(tags.iter().map(|tag| ("tag", tag.as_str()))).collect();
            show(body.and_then(|body| ask(Method::PUT, &entry, &further, &content_type, body.into())))
        }
        EntryAction::Delete { entry } => show(ask(Method::DELETE, &entry, &[], "", Bytes::new())),
    }
}

/// The statistics of a sidecache that runs under this configuration, on this machine; `None` if it cannot be asked.
pub(super) fn stats_of(config: &Config) -> Option<Value> {
    let place = Place::of(config, &Trust::default(), "--admin").ok()?;
    let reply = Remote { place, token: token(config) }.ask(Method::GET, "/admin/cache/stats", "", Bytes::new()).ok()?;
    serde_json::from_slice(&reply.body).ok().filter(|_| reply.status == StatusCode::OK)
}

fn get(place: &Where, path: &str, sources: &Sources) -> ExitCode {
    show(Remote::find(place, sources).and_then(|remote| remote.ask(Method::GET, path, "", Bytes::new())))
}

/// Shows what was looked for, and turns it into an exit code as `grep` has them: found, not found, not known.
fn found(replied: Result<Reply, String>) -> ExitCode {
    let is_known = matches!(&replied, Ok(Reply { status: StatusCode::OK | StatusCode::NOT_FOUND, .. }));
    let code = show(replied);
    if is_known { code } else { ExitCode::from(NOT_KNOWN) }
}

/// Shows a reply, and turns it into an exit code.
pub(super) fn show(replied: Result<Reply, String>) -> ExitCode {
    let Reply { status, body } = match replied {
        Ok(reply) => reply,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{why}");
            return ExitCode::FAILURE;
        }
    };
    let parsed: Option<Value> = serde_json::from_slice(&body).ok();
    let shown = match &parsed {
        Some(value) => serde_json::to_string_pretty(value).unwrap_or_default(),
        None => String::from_utf8_lossy(&body).trim_end().to_owned(),
    };
    match status {
        StatusCode::OK | StatusCode::ACCEPTED => {
            let _ = writeln!(std::io::stdout(), "{shown}");
        }
        _ => {
            let _ = writeln!(std::io::stderr(), "{status}: {shown}");
        }
    }
    match status {
        StatusCode::OK => ExitCode::SUCCESS,
        StatusCode::ACCEPTED => {
            let _ = writeln!(std::io::stderr(), "{}", still_to_come(&parsed.unwrap_or_default()));
            ExitCode::from(NOT_YET)
        }
        _ => ExitCode::FAILURE,
    }
}

/// What a person is to know of something that was accepted, and is not known to be done everywhere.
fn still_to_come(report: &Value) -> String {
    match (&report["why"], &report["job"], report["reach"].as_str()) {
        (Value::String(why), ..) => why.clone(),
        (_, Value::String(_), _) => "begun; `sidecache jobs` tells how far it has come, on the replica that was asked".to_owned(),
        (.., Some("here-first")) => {
            "done in this process; Redis, and with it the other replicas, will hear of it when it is back".to_owned()
        }
        _ => {
            let replicas = &report["replicas"];
            format!("done in Redis; {} of {} replicas have confirmed", replicas["answered"], replicas["present"])
        }
    }
}

impl Remote {
    pub(super) fn find(place: &Where, sources: &Sources) -> Result<Remote, String> {
        let config = configuration(sources)?;
        Ok(Remote { place: place.find(&config)?, token: token(&config) })
    }

    pub(super) fn ask(&self, method: Method, path: &str, content_type: &str, body: Bytes) -> Result<Reply, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("the runtime cannot start: {error}"))?;
        runtime.block_on(self.asked(method, path, content_type, body))
    }

    /// Where it is.
    pub(super) fn url(&self) -> String {
        self.place.url()
    }

    /// The same, for who has a runtime.
    pub(super) async fn asked(&self, method: Method, path: &str, content_type: &str, body: Bytes) -> Result<Reply, String> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.place.authority.as_str());
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let asking = async {
            let way = self.place.connect().await.map_err(|error| last_cause(&error))?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(way)).await.map_err(|error| last_cause(&error))?;
            let connection = tokio::spawn(connection);
            let answer = match sender.send_request(request).await {
                Ok(answer) => answer,
                // What the connection died of says more: it may have wanted a certificate.
                Err(error) => {
                    let died = connection.await.ok().and_then(Result::err);
                    return Err(last_cause(died.as_ref().unwrap_or(&error)));
                }
            };
            let (status, body) = (answer.status(), answer.into_body().collect().await.map_err(|error| error.to_string())?);
            Ok(Reply { status, body: body.to_bytes() })
        };
        let shown = self.place.url();
        match tokio::time::timeout(LIMIT, asking).await {
            Ok(answer) => {
                answer.map_err(|error: String| format!("{shown}: {error}; is sidecache there? --admin names another place"))
            }
            Err(_) => Err(format!("{shown} did not answer within {} s", LIMIT.as_secs())),
        }
    }
}

/// What was wrong in the end: the outer errors say no more than that something was.
fn last_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), last_cause)
}

/// The exit code of what is accepted, and not known to be done everywhere. (2 is that of wrong arguments.)
const NOT_YET: u8 = 3;

/// The exit code when it could not be found out whether something is stored.
const NOT_KNOWN: u8 = 2;

/// Longer than a purge waits for other replicas.
const LIMIT: Duration = Duration::from_secs(70);

const PURGE_EXAMPLES: &str = "\
Examples:
  sidecache purge --tag customer:42             all that is stored for one customer
  sidecache purge --pattern 'customer:*' --wait for all customers, on all replicas before it returns
  sidecache purge --url /api/mcp/customer/42    one URL
  sidecache purge --all                         everything

Exit code: 0 done, 3 accepted and not known to be done everywhere, 1 refused, 2 wrong arguments.";
