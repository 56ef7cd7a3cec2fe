//! `check`: reads the configuration as `serve` would, and shows what it means or all that is wrong with it.

use super::remote;
use crate::config::{self, Config, Problems, Sources, octets, span};
use crate::origin::Address;
use crate::rules::{Caching, Route, Share, TagTemplate, Unkeyed};
use crate::semantics::fields::is_forwarded_identity;
use crate::server::TlsFiles;
use crate::store::{self, WhenDown};
use crate::unusable_files;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Checks the configuration.
pub(super) fn run(sources: &Sources) -> ExitCode {
    match config::load(sources) {
        Ok(config) => {
            let mut text = summary(&config);
            for warning in warnings(&config).into_iter().chain(seen(&config)) {
                let _ = write!(text, "\nwarning: {warning}\n");
            }
            // Who reads the first lines only and closes the pipe has what they wanted.
            let _ = std::io::stdout().write_all(text.as_bytes());
            // They are read as `serve` reads them.
            let wrong = unusable_files(&config);
            for error in &wrong {
                let _ = writeln!(std::io::stderr(), "\n{error}");
            }
            if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

/// What a sidecache that runs under this configuration has seen that speaks against it. Where none can be asked, nothing was seen.
fn seen(config: &Config) -> Vec<String> {
    let shared = || config.routes.iter().filter(|route| route.share == Share::Everyone && route.caching != Caching::Off);
    if shared().next().is_none() {
        return Vec::new();
    }
    let Some(stats) = remote::stats_of(config) else { return Vec::new() };
    let personal = |route: &Route| {
        let counted = stats["routes"].as_array()?.iter().find(|counted| counted["name"] == *route.name)?;
        counted["personal"].as_u64().filter(|number| *number > 0)
    };
    let warning = |route: &Route, number| {
        format!(
            "route {:?}: share = \"everyone\", but {number} of its responses had Set-Cookie or were private; they were not stored",
            route.name
        )
    };
    shared().filter_map(|route| Some(warning(route, personal(route)?))).collect()
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
        let values = match (redis.encryption.first(), &redis.secret) {
            (Some(key), _) => format!("; values are sealed with {}", key.name),
            (None, Some(_)) => "; values carry a code that needs the secret".to_owned(),
            (None, None) => String::new(),
        };
        format!("{place}, at most {} a request; while it is down, {when_down}{values}", span(redis.budget))
    });
    let cache = if config.cache.enabled { "on" } else { "off: everything is forwarded" };
    let mut text = String::new();
    let lines = [
        ("listens on", format!("{}{}", config.server.listen, tls(&config.server.tls))),
        ("forwards to", config.origin.addresses.to_string()),
        ("admin", format!("{admin}{}", tls(&config.admin_tls))),
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
    let head = COLUMNS.map(str::to_owned);
    text.push_str(&table(std::iter::once(head).chain(config.routes.iter().map(row)).collect()));
    text
}

/// What the listener of an address speaks, if not plain text.
fn tls(files: &Option<TlsFiles>) -> &'static str {
    match files {
        None => "",
        Some(TlsFiles { client_ca: None, .. }) => ", TLS",
        Some(TlsFiles { client_ca: Some(_), .. }) => ", TLS with certificates of clients",
    }
}

fn row(route: &Route) -> [String; COLUMNS.len()] {
    let lifetime = match route.caching {
        Caching::Off => "not cached".to_owned(),
        Caching::Standard => "as the origin says".to_owned(),
        Caching::Rule { ttl, overrides: false } => format!("{}, or as the origin says", ttls(route, ttl)),
        Caching::Rule { ttl, overrides: true } => format!("{}, always", ttls(route, ttl)),
    };
    let stale = [("while revalidating", route.stale_while_revalidate), ("on errors", route.stale_if_error)];
    let stale = stale.iter().filter(|(_, duration)| !duration.is_zero());
    let stale: Vec<String> = stale.map(|(when, duration)| format!("{} {when}", span(*duration))).collect();
    let share = match &route.share {
        _ if route.caching == Caching::Off => "-".to_owned(),
        Share::ByResponse => "who is anonymous".to_owned(),
        Share::Everyone => "everyone".to_owned(),
        Share::PerCredential(names) => {
            let cookies = route.identity_cookies.iter().map(|name| format!("cookie {name}"));
            let claims = route.identity_claims.iter().map(|name| format!("claim {name}"));
            let names: Vec<String> = names.iter().map(|name| name.to_string()).chain(cookies).chain(claims).collect();
            format!("who has the same {}", names.join(", "))
        }
    };
    let tags = |tags: &[TagTemplate]| tags.iter().map(|tag| tag.as_str().to_owned()).collect::<Vec<_>>();
    let listed = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
    let (tags, invalidates) = (listed(tags(&route.tags)), listed(tags(&route.invalidates)));
    [route.name.clone(), route.pattern.to_string(), lifetime, listed(stale), share, tags, invalidates]
}

/// How long responses are fresh that do not say so themselves.
fn ttls(route: &Route, ttl: Duration) -> String {
    let shortest = ttl * u32::from(100 - route.ttl_jitter_percent) / 100;
    let ttl = if shortest == ttl { span(ttl) } else { format!("{} to {}", span(shortest), span(ttl)) };
    let by_status: Vec<String> =
        route.ttl_by_status.iter().map(|(status, ttl)| format!("{}: {}", status.as_str(), span(*ttl))).collect();
    if by_status.is_empty() { ttl } else { format!("{ttl} ({})", by_status.join(", ")) }
}

/// Puts rows below each other, each column as wide as its widest cell. Columns in which no route says anything are left out.
fn table(rows: Vec<[String; COLUMNS.len()]>) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let says_something = |column: &usize| rows.iter().skip(1).any(|row| row[*column] != "-");
    let shown: Vec<(usize, usize)> = (0..COLUMNS.len()).filter(says_something).map(|column| (column, width(column))).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = shown.iter().map(|&(column, width)| format!("{:<width$}", row[column])).collect();
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
    warn(
        (1..MEMORY_MIN).contains(&config.store.memory.bytes_max),
        "[memory] max_size is so small that hardly anything can be stored: a number without a unit is one of octets",
    );
    let is_short = |secret: &str| secret.len() < SECRET_MIN;
    warn(
        stores && config.store.redis.as_ref().is_some_and(|redis| redis.secret.is_none()),
        "without [cache] secret or CACHE_SECRET, whoever writes to the Redis can forge responses, and whoever reads it can tell by hashing \
         guesses which customers are in it",
    );
    warn(
        admin.tokens.is_empty() && admin.purge_without_token,
        "[admin] purge_without_token lets everybody purge who reaches the proxy through another one on this machine",
    );
    warn(
        admin.tokens.iter().any(|token| is_short(&token.value)),
        "the admin token is short; `openssl rand -hex 32` makes a good one",
    );
    warn(
        config.cache.secret.as_deref().is_some_and(is_short),
        "the cache secret is short; `openssl rand -hex 32` makes a good one",
    );
    warn(
        origin.reads_files() && !origin.addresses.iter().any(|address| matches!(address, Address::Https(_))),
        "[origin] ca_file and client_certificate_file have no effect without https",
    );
    warn(
        config.store.redis.as_ref().is_some_and(|redis| redis.reads_files() && !redis.is_over_tls()),
        "[redis] ca_file and client_certificate_file have no effect without rediss",
    );
    for route in &config.routes {
        let about = |what: &str| format!("route {:?}: {what}", route.name);
        let is_of_another_tool = |segment: &str| segment.contains('*') && !segment.starts_with('{') || segment.starts_with(':');
        warn(
            route.pattern.as_str().split('/').any(is_of_another_tool),
            &about(
                "`*` and `:name` stand for themselves in a pattern; `{name}` takes one segment of a path, `{*rest}` all that remains",
            ),
        );
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
        let is_anybodys = |share: &Share| matches!(share, Share::PerCredential(names) if names.iter().any(is_forwarded_identity));
        warn(
            is_anybodys(&route.share) && config.cache.trusted_proxies.is_empty(),
            &about(
                "identity names a field that only a proxy is to send, and [server] trusted_proxies none: whoever reaches this \
                 port says himself who he is",
            ),
        );
        warn(
            !route.identity_claims.is_empty() && config.identity.jwks_file.is_none(),
            &about("without [identity] jwks_file no token is believed, so each one has responses of its own"),
        );
        warn(
            route.strip_set_cookie,
            &about("strip_set_cookie takes Set-Cookie off every response, also where a client would have needed it"),
        );
        warn(
            !route.upgrade.is_empty(),
            &about(
                "upgrade lets connections through that speak another protocol; a backend that answers 101 without speaking it goes \
                 on to read requests that nobody checks",
            ),
        );
    }
    warnings
}

/// What the summary says of each route.
const COLUMNS: [&str; 7] = ["route", "matches", "lifetime", "served stale", "shared by", "tags", "invalidates"];

/// 16 signs of a random token are more than anybody tries out.
const SECRET_MIN: usize = 16;

/// Octets of memory below which nobody can mean it.
const MEMORY_MIN: u64 = 64 << 10;

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
redis        cache:6379, at most 20ms a request; while it is down, memory goes on for 5m; values carry a code that needs the secret

route     matches         lifetime                   shared by                tags
customer  /customer/{id}  1h, or as the origin says  who is anonymous         customer:{id}, all
me        /me             1m30s, always              who has the same cookie  -
live      /live           not cached                 -                        -
";
        assert_eq!(summary(&config), expected);
        assert!(summary(&Config::default()).ends_with("\nno routes\n"));

        let config = load(
            "[[route]]\nmatch = '/a'\nttl = '1h'\nttl_by_status = { 404 = '30s', 410 = 300 }\nttl_jitter = '10%'\n\
             stale_while_revalidate = '30s'\nstale_if_error = '10m'\n\
             [[route]]\nmatch = '/b/{id}'\ncache = 'off'\ninvalidates = ['a', 'b:{id}']\n",
        );
        let expected = "\
route    matches  lifetime                                              served stale                           shared by         invalidates
/a       /a       54m to 1h (404: 30s, 410: 5m), or as the origin says  30s while revalidating, 10m on errors  who is anonymous  -
/b/{id}  /b/{id}  not cached                                            -                                      -                 a, b:{id}
";
        assert_eq!(summary(&config).split_once("\n\n").unwrap().1, expected);
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
        check(&format!("[memory]\nmax_size = 256\n{route}"), &["one of octets"]);
        check(&format!("[memory]\nmax_size = '1MiB'\n{route}"), &[]);
        check(&format!("[admin]\nlisten = ':9090'\n{route}"), &["whoever reaches it"]);
        check(&format!("[admin]\ntoken = 'short'\n{route}"), &["the admin token is short"]);
        check(&format!("[admin]\npurge_without_token = true\n{route}"), &["lets everybody purge"]);
        check(&format!("[cache]\nsecret = 'short'\n{route}"), &["the cache secret is short"]);
        check(&format!("[redis]\nurl = 'redis://h'\n{route}"), &["can forge responses"]);
        check(&format!("[redis]\nurl = 'redis://h'\n[cache]\nsecret = '0123456789abcdef'\n{route}"), &[]);
        check(&format!("[origin]\nca_file = '/ca.pem'\n{route}"), &["without https"]);
        let secret = "[cache]\nsecret = '0123456789abcdef'";
        check(&format!("[redis]\nurl = 'redis://h'\nca_file = '/ca.pem'\n{secret}\n{route}"), &["without rediss"]);
        check(&format!("[redis]\nurl = 'rediss+cluster://h'\nca_file = '/ca.pem'\n{secret}\n{route}"), &[]);
        check(&format!("{route}share = 'everyone'"), &["gives what one caller was sent to all others"]);
        check(&format!("{route}share = 'everyone'\ncache = 'off'"), &["no route caches anything"]);
        check(&format!("{route}unkeyed_headers = 'forward'"), &["must name in Vary"]);
        check(&format!("{route}cache = 'standard'"), &[]);
        for (pattern, warnings) in
            [("/a/*", 1), ("/a/**", 1), ("/a*", 1), ("/a/:id", 1), ("/a/{*rest}", 0), ("/a/<id>", 0), ("/a:b", 0)]
        {
            let expected = ["`{*rest}` all that remains"];
            check(&format!("[[route]]\nmatch = '{pattern}'"), &expected[..warnings]);
        }
        check(&format!("{route}strip_set_cookie = true"), &["Set-Cookie"]);
        check(&format!("{route}upgrade = ['tcp']"), &["answers 101 without speaking it"]);
        let by_claim = format!("{route}share = 'per-credential'\nidentity = ['jwt:sub']");
        check(&by_claim, &["no token is believed"]);
        check(&format!("[identity]\njwks_file = 'f'\n{by_claim}"), &[]);
        let by_gateway = format!("{route}share = 'per-credential'\nidentity = ['x-forwarded-user']");
        check(&by_gateway, &["says himself who he is"]);
        check(&format!("[server]\ntrusted_proxies = ['10.0.0.0/8']\n{by_gateway}"), &[]);
    }
}
