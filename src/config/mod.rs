//! The configuration: `proxy.toml`, the environment and the command line, read into the options of the other modules.
//!
//! | file | what |
//! |---|---|
//! | `sources`, `overlay` | where the configuration comes from; what the environment and flags put over the file |
//! | `raw`, `place` | the values as they were written, each with its place |
//! | `reader` | takes keys out of tables, notes what is wrong, reports what nobody took |
//! | `values`, `addresses` | what one value means |
//! | `sections`, `encryption`, `routes`, `identity`, `lifetimes`, `log`, `admin`, `tls` | what the keys mean |
//! | `reload` | what a running sidecar takes over of a new configuration |
//! | `problem`, `suggest` | what is wrong, in words for the person who wrote it |

mod addresses;
mod admin;
mod encryption;
mod identity;
mod lifetimes;
mod log;
mod overlay;
mod place;
mod problem;
mod raw;
mod reader;
mod reload;
mod routes;
mod sections;
mod sources;
mod suggest;
mod tls;
mod values;

pub use log::{LogFormat, LogOptions};
pub use problem::{Problem, Problems};
pub use reload::keep_fixed;
pub use sources::Sources;
pub use values::{octets, span};

use crate::admin as operators;
use crate::flow;
use crate::origin;
use crate::rules::{Route, TokenOptions};
use crate::server;
use crate::store;
use problem::{HIDDEN, Report};
use raw::Table;
use reader::{Name, Section};
use routes::ForRoutes;
use std::fmt;

/// All that an operator can ask for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `[server]`.
    pub server: server::Options,
    /// `[origin]`.
    pub origin: origin::Options,
    /// `[cache]`.
    pub cache: flow::Options,
    /// `[memory]` and `[redis]`.
    pub store: store::Options,
    /// `[admin]`.
    pub admin: operators::Options,
    /// `[admin.tls]`.
    pub admin_tls: Option<server::TlsFiles>,
    /// `[identity]`.
    pub identity: TokenOptions,
    /// `[log]`.
    pub log: LogOptions,
    /// `[[route]]`, in the order of the file.
    pub routes: Vec<Route>,
}

/// Reads the configuration, or says all that is wrong with it.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let mut report = Report::default();
    sources.read_file(&mut report);
    let mut root = raw::parse(&mut report);
    let syntax = report.count();
    sources.overlay(&mut root, &mut report);
    let config = read(root, &mut report, sources);
    report.forget_echoes(syntax);
    if report.count() > 0 {
        return Err(report.into_problems());
    }
    Ok(config)
}

/// Lists the keys that there are, such as `redis.budget` and `route.ttl`.
pub fn known_keys() -> Vec<String> {
    let mut report = Report::of_text("", "[[route]]\nmatch = \"/\"\n[[admin.tokens]]");
    let root = raw::parse(&mut report);
    read(root, &mut report, &Sources::new());
    report.keys
}

fn read(root: Table, report: &mut Report, sources: &Sources) -> Config {
    let mut config = Config::default();
    let mut root = Section::new(Name::Root, root, report);
    let mut names_listen = false;
    root.within("server", Name::Section("server"), |section| names_listen = sections::read_server(section, &mut config));
    root.within("origin", Name::Section("origin"), |section| sections::read_origin(section, names_listen, &mut config));
    let mut for_routes = ForRoutes::default();
    root.within("cache", Name::Section("cache"), |section| for_routes = sections::read_cache(section, &mut config));
    root.within("memory", Name::Section("memory"), |section| sections::read_memory(section, &mut config));
    root.within("redis", Name::Section("redis"), |section| {
        sections::read_redis(section, &mut config);
        section.within("encryption", Name::Section("redis.encryption"), |section| encryption::read(section, &mut config));
    });
    root.within("admin", Name::Section("admin"), |section| admin::read(section, sources, &mut config));
    root.within("log", Name::Section("log"), |section| sections::read_log(section, &mut config));
    root.within("identity", Name::Section("identity"), |section| identity::read(section, &mut config));
    routes::read(&mut root, &for_routes, &mut config);
    root.finish();
    config
}

impl fmt::Debug for Config {
    /// Shows all but the secrets: this may end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| HIDDEN.to_owned());
        let cache = flow::Options { secret: hidden(&self.cache.secret), ..self.cache.clone() };
        f.debug_struct("Config")
            .field("server", &self.server)
            .field("origin", &self.origin)
            .field("cache", &cache)
            .field("store", &self.store)
            .field("admin", &self.admin)
            .field("admin.tls", &self.admin_tls)
            .field("identity", &self.identity)
            .field("log", &self.log)
            .field("routes", &self.routes)
            .finish()
    }
}
