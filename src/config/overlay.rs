//! What the environment and the command line say, and how it is put over the file.

use super::addresses::listen;
use super::place::Place;
use super::problem::Report;
use super::raw::{Entry, Kind, Table, Value};
use super::values::quote;
use crate::server;
use std::net::SocketAddr;

/// One thing that was said outside of the file.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) place: Place,
    pub(super) what: What,
}

#[derive(Clone)]
pub(super) enum What {
    /// A key has this value.
    Set { section: String, key: String, text: String },
    /// The proxy listens on this port, on whichever address.
    Port(String),
    /// Nothing that can be understood.
    Wrong(String),
}

impl What {
    /// The value of a dotted key.
    pub(super) fn set(path: &str, text: String) -> What {
        match path.split_once('.') {
            Some(("route", _)) => What::Wrong(ROUTES.to_owned()),
            Some((section, key)) => What::Set { section: section.to_owned(), key: key.to_owned(), text },
            None => What::no_assignment(path),
        }
    }

    /// What should have been `section.key=value`.
    pub(super) fn no_assignment(written: &str) -> What {
        let written = quote(written);
        What::Wrong(format!("{written} is no key and value; write section.key=value, such as redis.budget=20ms"))
    }

    /// What a variable says whose name is known to us; `None` for all others.
    pub(super) fn variable(name: &str, text: &str) -> Option<What> {
        if name == PORT {
            return Some(What::Port(text.to_owned()));
        }
        if let Some((_, path)) = SHORT.iter().find(|(short, _)| *short == name) {
            return Some(What::set(path, text.to_owned()));
        }
        let path = name.strip_prefix(GENERIC)?.to_ascii_lowercase();
        match path.split_once('_') {
            _ if is_of_kubernetes(&path, text) => None,
            Some((section, key)) => {
                let inner = INNER.iter().find_map(|table| Some((table, key.strip_prefix(table)?.strip_prefix('_')?)));
                let key = inner.map_or(key.to_owned(), |(table, key)| format!("{table}.{key}"));
                Some(What::set(&format!("{section}.{key}"), text.to_owned()))
            }
            None => Some(What::Wrong("names no key; write SIDECACHE_<SECTION>_<KEY>, such as SIDECACHE_REDIS_BUDGET".to_owned())),
        }
    }
}

/// Puts changes over what the file says, the later ones over the earlier ones.
pub(super) fn apply<'a>(changes: impl Iterator<Item = &'a Change>, root: &mut Table, report: &mut Report) {
    for Change { place, what } in changes {
        match what {
            What::Wrong(message) => report.problem(place, "", message.as_str()),
            What::Set { section, key, text } => match key.split_once('.') {
                Some((table, key)) => {
                    if let Some(section) = table_of(root, section, place) {
                        put(section, table, key, text.clone(), place);
                    }
                }
                None => put(root, section, key, text.clone(), place),
            },
            What::Port(text) => match text.parse() {
                Ok(port) => {
                    // An address of the file that is wrong stays, so that it is reported.
                    if let Some(address) = with_port(root, port) {
                        put(root, "server", "listen", address.to_string(), place);
                    }
                }
                Err(_) => {
                    report.problem(place, "[server] listen", format!("{} is not a port; write one such as 8080", quote(text)));
                }
            },
        }
    }
}

fn put(root: &mut Table, section: &str, key: &str, text: String, place: &Place) {
    // Where the file has something else than a table, that is the problem to report.
    if let Some(table) = table_of(root, section, place) {
        let value = Value { kind: Kind::Text(text), place: place.clone() };
        table.entries.insert(key.to_owned(), Entry { key: place.clone(), value });
    }
}

/// A table within another one, made if it is not there; `None` if something else is.
fn table_of<'a>(root: &'a mut Table, name: &str, place: &Place) -> Option<&'a mut Table> {
    let empty = || Value { kind: Kind::Table(Table::new(place.clone())), place: place.clone() };
    let entry = root.entries.entry(name.to_owned()).or_insert_with(|| Entry { key: place.clone(), value: empty() });
    match &mut entry.value.kind {
        Kind::Table(table) => Some(table),
        _ => None,
    }
}

fn with_port(root: &Table, port: u16) -> Option<SocketAddr> {
    let written = root.entries.get("server").and_then(|server| match &server.value.kind {
        Kind::Table(server) => server.entries.get("listen"),
        _ => None,
    });
    let address = match written {
        Some(entry) => listen(&entry.value).ok()?,
        None => server::Options::default().listen,
    };
    Some(SocketAddr::new(address.ip(), port))
}

/// Whether Kubernetes set this variable: it does so in every pod for each service of the namespace, so that a service
/// called `sidecache` or `sidecache-redis` gives `SIDECACHE_PORT=tcp://…`, `SIDECACHE_REDIS_SERVICE_HOST` and their like.
fn is_of_kubernetes(path: &str, text: &str) -> bool {
    let parts: Vec<&str> = path.split('_').collect();
    let has_service = parts.windows(2).any(|pair| matches!(pair, ["service", "host" | "port"]));
    let has_port = parts.windows(2).any(|pair| pair[0] == "port" && pair[1].parse::<u16>().is_ok());
    has_service || has_port || (path.ends_with("port") && text.contains("://"))
}

/// The tables within sections.
const INNER: [&str; 2] = ["tls", "encryption"];

/// The port to listen on; platforms such as Railway set it.
const PORT: &str = "PORT";

/// The variables that have names of their own.
const SHORT: [(&str, &str); 7] = [
    ("ENABLE_CACHE", "cache.enabled"),
    ("REDIS_URL", "redis.url"),
    ("CACHE_TTL", "cache.ttl"),
    ("ORIGIN_URL", "origin.url"),
    ("ADMIN_TOKEN", "admin.token"),
    ("CACHE_SECRET", "cache.secret"),
    ("RUST_LOG", "log.level"),
];

/// What the names of all others begin with.
pub(super) const GENERIC: &str = "SIDECACHE_";

const ROUTES: &str = "routes are written in the file, not in the environment or on the command line";
