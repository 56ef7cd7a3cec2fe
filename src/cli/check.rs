//! `check`: reads the configuration as `serve` would, and shows what it means or all that is wrong with it.

use crate::StartError;
use crate::config::{self, Config, Problems, Sources, octets, span};
use crate::origin::{Address, Origin};
use crate::rules::{Caching, Route, Share, Unkeyed};
use crate::stats::Stats;
use crate::store::{self, WhenDown};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

/// Checks the configuration.
pub(super) fn run(sources: &Sources) -> ExitCode {
    match config::load(sources) {
        Ok(config) => {
            let mut text = summary(&config);
            for warning in warnings(&config) {
                let _ = write!(text, "\nwarning: {warning}\n");
            }
            // Who reads the first lines only and closes the pipe has what they wanted.
            let _ = std::io::stdout().write_all(text.as_bytes());
            // The certificate authorities are read as `serve` reads them.
            match Origin::new(config.origin.clone(), Arc::new(Stats::new([]))) {
                Ok(_) => ExitCode::SUCCESS,
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "\n[origin]: {}", StartError::Origin(error));
                    ExitCode::FAILURE
                }
            }
        }
        Err(problems) => refuse(&problems),
    }
}

/// Shows all problems.
pub(super) fn refuse(problems: &Problems) -> ExitCode {
    let count = match problems.count() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    let _ = writeln!(std::io::stderr(), "{problems}\n\n{count} in the configuration");
    ExitCode::FAILURE
}

/// Says what the configuration means.
fn summary(config: &Config) -> String {
    let admin = match (config.admin.listen, config.admin.on_proxy_port) {
        (Some(listen), false) => listen.to_string(),
        (Some(listen), true) => format!("{listen}, and on the port of the proxy"),
        (None, true) => "on the port of the proxy".to_owned(),
        (None, false) => "off".to_owned(),
    };
    let memory = match config.store.memory.bytes_max {
        0 => "off".to_owned(),
        most => octets(most),
    };
    let redis = config.store.redis.as_ref().map_or("off".to_owned(), |redis| {
        let when_down = match redis.when_down {
            WhenDown::PassThrough => "requests are forwarded".to_owned(),
            WhenDown::Memory => format!("memory goes on for {}", span(redis.memory_ttl_when_down)),
        };
        let place = store::display_redis_url(&redis.url);
        format!("{place}, at most {} a request; while it is down, {when_down}", span(redis.budget))
    });
    let cache = if config.cache.enabled { "on" } else { "off: everything is forwarded" };
    let mut text = String::new();
    let lines = [
        ("listens on", config.server.listen.to_string()),
        ("forwards to", config.origin.address.to_string()),
        ("admin", admin),
        ("cache", cache.to_owned()),
        ("memory", memory),
        ("redis", redis),
    ];
    for (what, value) in lines {
        let _ = writeln!(text, "{what:<12} {value}");
    }
    text.push('\n');
    if config.routes.is_empty() {
        text.push_str("no routes\n");
        return text;
    }
    let head = ["route", "matches", "lifetime", "shared by", "tags"].map(str::to_owned);
    text.push_str(&table(std::iter::once(head).chain(config.routes.iter().map(row)).collect()));
    text
}

fn row(route: &Route) -> [String; 5] {
    let lifetime = match route.caching {
        Caching::Off => "not cached".to_owned(),
        Caching::Standard => "as the origin says".to_owned(),
        Caching::Rule { ttl, overrides: false } => format!("{}, or as the origin says", span(ttl)),
        Caching::Rule { ttl, overrides: true } => format!("{}, always", span(ttl)),
    };
    let share = match &route.share {
        _ if route.caching == Caching::Off => "-".to_owned(),
        Share::ByResponse => "who is anonymous".to_owned(),
        Share::Everyone => "everyone".to_owned(),
        Share::PerCredential(names) => {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            format!("who has the same {}", names.join(", "))
        }
    };
    let tags: Vec<&str> = route.tags.iter().map(|tag| tag.as_str()).collect();
    let tags = if tags.is_empty() { "-".to_owned() } else { tags.join(", ") };
    [route.name.clone(), route.pattern.to_string(), lifetime, share, tags]
}

/// Puts rows below each other, each column as wide as its widest cell.
fn table(rows: Vec<[String; 5]>) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Names what is allowed, and worth a second look.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |condition: bool, warning: &str| {
        if condition {
            warnings.push(warning.to_owned());
        }
    };
    let (admin, origin) = (&config.admin, &config.origin);
    let stores = config.cache.enabled && config.routes.iter().any(|route| route.caching != Caching::Off);
    warn(!config.cache.enabled, "the cache is switched off; every request is forwarded");
    warn(config.cache.enabled && !stores, "no route caches anything; every request is forwarded and nothing is stored");
    warn(
        stores && config.store.memory.bytes_max == 0 && config.store.redis.is_none(),
        "there is neither a memory tier nor a Redis; nothing can be stored",
    );
    warn(
        admin.listen.is_some_and(|listen| !listen.ip().is_loopback()),
        "the admin listener is reachable from other machines: whoever reaches it reads statistics and metrics",
    );
    let is_short = |secret: &Option<String>| secret.as_ref().is_some_and(|secret| secret.len() < SECRET_MIN);
    warn(is_short(&admin.token), "the admin token is short; `openssl rand -hex 32` makes a good one");
    warn(is_short(&config.cache.secret), "the cache secret is short; `openssl rand -hex 32` makes a good one");
    warn(
        origin.ca_file.is_some() && !matches!(origin.address, Address::Https(_)),
        "[origin] ca_file has no effect without https",
    );
    for route in &config.routes {
        let about = |what: &str| format!("route {:?}: {what}", route.name);
        warn(
            route.share == Share::Everyone && route.caching != Caching::Off,
            &about(
                "share = \"everyone\" gives what one caller was sent to all others, whatever their credentials; that is \
                 right only where credentials make no difference to the response",
            ),
        );
        warn(
            route.unkeyed == Unkeyed::Forward && !matches!(route.caching, Caching::Standard | Caching::Off),
            &about(
                "unkeyed_headers = \"forward\" shows the origin request fields that are not in the key; it must name in \
                 Vary every field that makes a difference",
            ),
        );
        warn(
            route.strip_set_cookie,
            &about("strip_set_cookie takes Set-Cookie off every response, also where a client would have needed it"),
        );
    }
    warnings
}

/// 16 signs of a random token are more than anybody tries out.
const SECRET_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Config {
        config::load(&Sources::new().text("proxy.toml", toml)).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn the_summary_says_what_the_configuration_means() {
        let config = load(
            "[redis]\nurl = 'redis://user:hunter2@cache:6379/0'\nwhen_down = 'memory'\n[admin]\nlisten = 'off'\n\
             [cache]\nsecret = '0123456789abcdef'\n\
             [[route]]\nname = 'customer'\nmatch = '/customer/{id}'\nttl = '1h'\ntags = ['customer:{id}', 'all']\n\
             [[route]]\nname = 'me'\nmatch = '/me'\nttl = 90\noverride = true\nshare = 'per-credential'\nidentity = ['cookie']\n\
             [[route]]\nname = 'live'\nmatch = '/live'\ncache = 'off'\n",
        );
        let expected = "\
listens on   0.0.0.0:8080
forwards to  http://127.0.0.1:8000
admin        off
cache        on
memory       256MiB
redis        cache:6379, at most 20ms a request; while it is down, memory goes on for 5m

route     matches         lifetime                   shared by                tags
customer  /customer/{id}  1h, or as the origin says  who is anonymous         customer:{id}, all
me        /me             1m30s, always              who has the same cookie  -
live      /live           not cached                 -                        -
";
        assert_eq!(summary(&config), expected);
        assert!(summary(&Config::default()).ends_with("\nno routes\n"));
    }

    #[test]
    fn what_is_allowed_and_risky_gets_a_warning() {
        let check = |toml: &str, expected: &[&str]| {
            let warnings = warnings(&load(toml));
            assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
            for (warning, part) in warnings.iter().zip(expected) {
                assert!(warning.contains(part), "{warning}");
            }
        };
        let route = "[[route]]\nmatch = '/'\n";
        check(route, &[]);
        check("", &["no route caches anything"]);
        check(&format!("[cache]\nenabled = false\n{route}"), &["switched off"]);
        check(&format!("[memory]\nmax_size = 0\n{route}"), &["neither a memory tier nor a Redis"]);
        check(&format!("[admin]\nlisten = ':9090'\n{route}"), &["whoever reaches it"]);
        check(&format!("[admin]\ntoken = 'short'\n{route}"), &["the admin token is short"]);
        check(&format!("[cache]\nsecret = 'short'\n{route}"), &["the cache secret is short"]);
        check(&format!("[origin]\nca_file = '/ca.pem'\n{route}"), &["no effect without https"]);
        check(&format!("{route}share = 'everyone'"), &["gives what one caller was sent to all others"]);
        check(&format!("{route}share = 'everyone'\ncache = 'off'"), &["no route caches anything"]);
        check(&format!("{route}unkeyed_headers = 'forward'"), &["must name in Vary"]);
        check(&format!("{route}cache = 'standard'"), &[]);
        check(&format!("{route}strip_set_cookie = true"), &["Set-Cookie"]);
    }
}
