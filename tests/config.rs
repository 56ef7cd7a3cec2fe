//! The configuration: that the shipped files mean what they say, and that a wrong one is told all that is wrong with it.

use http::StatusCode;
use proptest::prelude::*;
use sidecache::admin::{Role, Token};
use sidecache::config::{self, Config, LogFormat, Problems, Sources};
use sidecache::rules::{Caching, Pattern, Route, Share, TagTemplate, Unkeyed};
use sidecache::server::TlsFiles;
use sidecache::store::{RedisOptions, WhenDown};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn in_package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn shipped() -> String {
    fs::read_to_string(in_package("proxy.toml")).unwrap()
}

fn load(toml: &str) -> Result<Config, Problems> {
    config::load(&Sources::new().text("proxy.toml", toml))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn route(name: &str, pattern: &str, ttl: Duration) -> Route {
    Route::new(name, Pattern::parse(pattern).unwrap(), ttl)
}

// === The shipped files ===

fn two_routes() -> Vec<Route> {
    let tagged = |route: Route| {
        let tags = vec![TagTemplate::parse("customer:{id}", route.pattern.captures()).unwrap()];
        Route { tags, ..route }
    };
    vec![
        tagged(route("customer", "/api/mcp/customer/{id}", secs(3600))),
        tagged(route("churn-risk", "/api/mcp/customer/{id}/churn-risk", secs(1800))),
    ]
}

#[test]
fn proxy_toml_is_the_defaults_and_two_routes() {
    let expected = Config { routes: two_routes(), ..Config::default() };
    assert_eq!(load(&shipped()).unwrap(), expected);
    assert_eq!(load("").unwrap(), Config::default());
}

#[test]
fn proxy_toml_still_loads_with_all_its_comments_taken_away() {
    let uncommented: String = shipped().lines().map(|line| format!("{}\n", uncomment(line))).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "0123456789abcdef-deploy\n").unwrap();
    let uncommented = uncommented.replace("/run/secrets/sidecache-deploy", &file.display().to_string());
    let sources = Sources::new().text("proxy.toml", uncommented).environment([("DASHBOARD_TOKEN", "0123456789abcdef-look")]);
    let config = config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    let tokens: Vec<_> = config.admin.tokens.iter().map(|token| (token.name.as_str(), token.role)).collect();
    let expected = [("admin", Role::All), ("deploy", Role::Purge), ("dashboard", Role::Read), ("support", Role::All)];
    assert_eq!(tokens, expected);
    assert_eq!(config.admin.tokens[1].value, "0123456789abcdef-deploy");
    assert_eq!(config.admin.tokens[1].file.as_ref(), Some(&file));
    assert_eq!(config.routes[..2], two_routes());
    assert_eq!(config.routes.len(), 7);
    let mut redis = RedisOptions::new("redis://127.0.0.1:6379/0");
    redis.ca_file = Some("/etc/sidecache/redis-ca.pem".into());
    redis.client_certificate = Some(("/etc/sidecache/redis.crt".into(), "/etc/sidecache/redis.key".into()));
    redis.secret.clone_from(&config.cache.secret);
    assert!(redis.secret.is_some());
    assert_eq!(config.store.redis, Some(redis));
}

/// Keys are commented out without a blank; prose has one.
fn uncomment(line: &str) -> &str {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase())).unwrap_or(line)
}

#[test]
fn proxy_toml_has_every_key() {
    let mut section = String::new();
    let mut present = Vec::new();
    for line in shipped().lines().map(|line| uncomment(line).to_owned()) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_start_matches('[').trim_end_matches(']').to_owned();
            present.push(section.clone());
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            present.push(format!("{section}.{key}"));
            let inner = value.trim_matches(['{', '}', ' ']).split(", ").filter_map(|pair| pair.split_once(" = "));
            present.extend(inner.map(|(inner, _)| format!("{section}.{key}.{inner}")));
        }
    }
    for key in config::known_keys() {
        assert!(present.contains(&key), "{key} is missing in proxy.toml");
    }
}

/// A key is explained as `section.key`, or as `key` in a table below a heading (or a row) that names `[section]`.
#[test]
fn the_readme_has_every_key() {
    let readme = fs::read_to_string(in_package("README.md")).unwrap();
    let mut section = "";
    let mut explained = Vec::new();
    for line in readme.lines() {
        let begins = |line: &str| line.starts_with('#') || line.starts_with('*') || line.starts_with('`');
        if begins(line) || line.starts_with("| `[") {
            let name = line.split_once('[').and_then(|(_, rest)| rest.trim_start_matches('[').split(']').next());
            section = name.unwrap_or(section);
        }
        for code in line.split('`').skip(1).step_by(2) {
            explained.push(code.to_owned());
            if line.starts_with('|') {
                explained.push(format!("{section}.{code}"));
                explained.push(format!("{section}.query.{code}"));
            }
        }
    }
    let missing: Vec<String> = config::known_keys().into_iter().filter(|key| !explained.contains(key)).collect();
    assert!(missing.is_empty(), "README.md does not explain {}", missing.join(", "));
}

#[test]
fn every_example_loads() {
    let mut loaded = 0;
    for entry in fs::read_dir(in_package("config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            // As the comments of the examples ask for it.
            let environment = [("PORT", "3000"), ("ADMIN_TOKEN", "0123456789abcdef"), ("CACHE_SECRET", "fedcba9876543210")];
            let sources = Sources::new().file(&path).environment(environment);
            let config = config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
            assert!(!config.routes.is_empty(), "{}", path.display());
            loaded += 1;
        }
    }
    assert!(loaded >= 4);
}

#[test]
fn every_toml_of_the_readme_loads() {
    let readme = fs::read_to_string(in_package("README.md")).unwrap();
    for block in readme.split("```toml\n").skip(1) {
        let toml = block.split("```").next().unwrap();
        let sources = Sources::new().text("README.md", toml).environment([("ADMIN_TOKEN", "t"), ("CACHE_SECRET", "s")]);
        config::load(&sources).unwrap_or_else(|problems| panic!("{problems}\n\n{toml}"));
    }
}

// === What keys mean ===

#[test]
fn durations_and_sizes_are_read_as_people_write_them() {
    let ttl = |written: &str| match load(&format!("[cache]\nttl = {written}\n[[route]]\nmatch = '/'")).unwrap().routes[0].caching
    {
        Caching::Rule { ttl, .. } => ttl,
        other => panic!("{other:?}"),
    };
    assert_eq!(ttl("\"90s\""), secs(90));
    assert_eq!(ttl("90"), secs(90));
    assert_eq!(ttl("\"1h 30m\""), secs(5400));
    assert_eq!(ttl("\"1500ms\""), Duration::from_millis(1500));
    assert_eq!(ttl("\"2days\""), secs(2 * 86_400));

    let size = |written: &str| load(&format!("[memory]\nmax_size = {written}")).unwrap().store.memory.bytes_max;
    assert_eq!(size("\"256MiB\""), 256 << 20);
    assert_eq!(size("\"1 GB\""), 1_000_000_000);
    assert_eq!(size("4096"), 4096);
    assert_eq!(size("0"), 0);
    // A share is of what the container may use, which here is what it is.
    assert_eq!(size("\"30%\""), Config::default().store.memory.bytes_max);
    assert!(size("\"60%\"") >= size("\"30%\""));
}

#[test]
fn addresses_are_read_as_people_write_them() {
    let listen = |written: &str| load(&format!("[server]\nlisten = {written}")).unwrap().server.listen.to_string();
    assert_eq!(listen("\"127.0.0.1:80\""), "127.0.0.1:80");
    assert_eq!(listen("\"[::1]:80\""), "[::1]:80");
    assert_eq!(listen("\":80\""), "0.0.0.0:80");
    assert_eq!(listen("\"80\""), "0.0.0.0:80");
    assert_eq!(listen("80"), "0.0.0.0:80");
    assert_eq!(load("[admin]\nlisten = \"off\"").unwrap().admin.listen, None);

    let trusted = load("[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]").unwrap().cache.trusted_proxies;
    assert_eq!(trusted.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "::1/128"]);
}

#[test]
fn redis_is_there_when_it_has_a_url() {
    assert_eq!(load("[redis]\nbudget = \"5ms\"").unwrap().store.redis, None);
    assert_eq!(load("[redis]\nurl = \"off\"").unwrap().store.redis, None);
    let elected = "redis+sentinel://user:hunter2@one,two:5000/mymaster/3?sentinel_pass=hunter2";
    let elected = load(&format!("[redis]\nurl = \"{elected}\"")).unwrap();
    let shown = format!("{elected:?}");
    assert!(shown.contains("mymaster, which the sentinels at one:26379, two:5000 know") && !shown.contains("hunter2"), "{shown}");
    let redis = load("[redis]\nurl = \"redis://h\"\nwhen_down = \"memory\"\nbudget = \"5ms\"").unwrap().store.redis;
    let expected =
        RedisOptions { when_down: WhenDown::Memory, budget: Duration::from_millis(5), ..RedisOptions::new("redis://h") };
    assert_eq!(redis, Some(expected));
}

#[test]
fn values_in_redis_are_sealed_with_the_keys_of_the_file_or_the_environment_or_a_file_of_their_own() {
    let toml =
        |encryption: &str| format!("[redis]\nurl = \"redis://h\"\n[redis.encryption]\n{encryption}\n[cache]\nsecret = \"s\"");
    let keys = |sources: Sources| {
        let redis = config::load(&sources).unwrap_or_else(|problems| panic!("{problems}")).store.redis.unwrap();
        assert_eq!(redis.secret.as_deref(), Some("s"));
        redis.encryption.iter().map(|key| (key.name.clone(), key.octets[0])).collect::<Vec<_>>()
    };
    let (one, two) = (format!("2026-11:{}=", "AQ".repeat(21) + "A"), format!("old:{}", "_".repeat(42) + "8"));
    let both = [("2026-11".to_owned(), 1), ("old".to_owned(), 255)];
    let listed = format!("keys = [\"{one}\", \"{two}\"]");
    assert_eq!(keys(Sources::new().text("t", toml(&listed))), both);
    assert_eq!(keys(Sources::new().text("t", toml(""))), []);
    let variable = [("SIDECACHE_REDIS_ENCRYPTION_KEYS", format!("{one},{two}"))];
    assert_eq!(keys(Sources::new().text("t", toml("keys = []")).environment(variable)), both);
    assert_eq!(keys(Sources::new().text("t", toml("")).set(&format!("redis.encryption.keys={two}"))), both[1..]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    fs::write(&path, format!("# the latest first\n{one}\n\n{two}\n")).unwrap();
    assert_eq!(keys(Sources::new().text("t", toml(&format!("keys_file = {path:?}")))), both);

    let wrong = |encryption: &str, expected: &str| {
        let problems = load(&toml(encryption)).unwrap_err().to_string();
        assert!(problems.contains(expected) && !problems.contains("AQAQ"), "{encryption}: {problems}");
    };
    wrong("keys = [\"AQAQ\"]", "[redis.encryption] keys: is no key");
    wrong("keys = [\n\"k:AQAQ\",\n]", "has 3 octets instead of 32");
    wrong(&format!("keys = [\"{}\"]", one.replace("2026-11", "a b")), "has a name of other signs");
    wrong(&format!("keys = [\n\"{one}\",\n\"{one}\"]"), "two keys have the name \"2026-11\"");
    wrong(&format!("keys = [\n\"{one}.\"\n]"), "is not Base64");
    wrong(&format!("keys = \"{one}\""), "is a string; write a list");
    wrong("keys_file = \"/nowhere\"", "\"/nowhere\" cannot be read");
    wrong(&format!("keys = [\"{one}\"]\nkeys_file = {path:?}"), "stands beside `keys`");
    let without_secret = load(&toml(&listed).replace("secret", "enabled = true\n#")).unwrap_err().to_string();
    assert!(without_secret.contains("[redis.encryption] keys: needs [cache] secret"), "{without_secret}");
}

#[test]
fn a_route_says_what_is_cached() {
    let one = |toml: &str| load(&format!("[[route]]\nmatch = \"/a/<id>\"\n{toml}")).unwrap().routes.remove(0);
    let plain = route("/a/{id}", "/a/{id}", secs(300));
    assert_eq!(one("ttl = \"5m\""), plain);
    assert_eq!(one(""), Route { ttl_is_default: true, ..plain });
    assert!(!one("cache = \"standard\"").ttl_is_default);
    assert_eq!(one("name = \"a\"").name, "a");
    assert_eq!(one("cache = \"on\"\nttl = 5").caching, Caching::Rule { ttl: secs(5), overrides: false });
    assert_eq!(one("ttl = 5\noverride = true").caching, Caching::Rule { ttl: secs(5), overrides: true });
    assert_eq!(one("cache = \"off\"\noverride = false").caching, Caching::Off);
    let standard = one("cache = \"standard\"");
    assert_eq!((standard.caching, standard.unkeyed), (Caching::Standard, Unkeyed::Forward));
    assert_eq!(one("cache = \"standard\"\nunkeyed_headers = \"drop\"").unkeyed, Unkeyed::Drop);
    assert_eq!(one("unkeyed_headers = \"forward\"").unkeyed, Unkeyed::Forward);
    assert!(one("no_vary_search = true").heeds_no_vary_search);
    let methods = |written: &str| one(written).methods.iter().map(|method| method.to_string()).collect::<Vec<_>>();
    assert_eq!(methods("methods = [\"GET\"]"), ["GET"]);
    assert_eq!(methods("methods = [\"HEAD\", \"GET\", \"QUERY\"]"), ["HEAD", "GET", "QUERY"]);
    assert_eq!(methods("methods = [\"POST\"]\nkey_body = true"), ["POST"]);
    assert_eq!(one("share = \"everyone\"").share, Share::Everyone);
    let both = vec![http::header::AUTHORIZATION, http::header::COOKIE];
    assert_eq!(one("share = \"per-credential\"").share, Share::PerCredential(both));
    let key = one("share = \"per-credential\"\nidentity = [\"X-Api-Key\"]\nkey_headers = [\"X-Tenant\"]");
    assert_eq!(key.share, Share::PerCredential(vec!["x-api-key".parse().unwrap()]));
    assert_eq!(key.key_headers, ["x-tenant"]);
    let parts = one("share = \"per-credential\"\nidentity = [\"cookie:Session\", \"jwt:sub\", \"x-api-key\"]");
    assert_eq!(parts.share, Share::PerCredential(vec!["x-api-key".parse().unwrap()]));
    assert_eq!((parts.identity_cookies, parts.identity_claims), (vec!["Session".to_owned()], vec!["sub".to_owned()]));
    let query = one("query = { allow = [\"a\"], deny = [\"utm_*\"], sort = true }").query;
    assert_eq!((query.allow, query.deny, query.sort), (Some(vec!["a".to_owned()]), vec!["utm_*".to_owned()], true));
    assert!(one("strip_set_cookie = true").strip_set_cookie);
    assert_eq!(one("upgrade = [\"tcp\", \"Example/2.0\"]").upgrade, ["tcp", "Example/2.0"]);
    assert_eq!(one("tags = [\"a:{id}\", \"b\"]").tags.len(), 2);
}

#[test]
fn a_route_says_how_long_responses_are_of_use() {
    let one = |toml: &str| load(&format!("[[route]]\nmatch = \"/a/{{id}}\"\n{toml}")).unwrap().routes.remove(0);
    let by_status = one("ttl_by_status = { 404 = \"30s\", 410 = 300, 200 = \"1m\" }").ttl_by_status;
    let expected = [(StatusCode::OK, 60), (StatusCode::NOT_FOUND, 30), (StatusCode::GONE, 300)];
    assert_eq!(by_status, expected.map(|(status, ttl)| (status, secs(ttl))));
    for (written, percent) in [("\"10%\"", 10), ("10", 10), ("\"7\"", 7), ("\"0%\"", 0), ("\"100 %\"", 100)] {
        assert_eq!(one(&format!("ttl_jitter = {written}")).ttl_jitter_percent, percent, "{written}");
    }
    let stale = |toml: &str| {
        let route = one(toml);
        (route.stale_while_revalidate, route.stale_if_error)
    };
    assert_eq!(stale(""), (secs(0), secs(0)));
    assert_eq!(stale("stale_while_revalidate = \"30s\"\nstale_if_error = \"10m\""), (secs(30), secs(600)));
    assert_eq!(stale("cache = \"standard\"\nstale_while_revalidate = 5"), (secs(5), secs(0)));
    assert!(one("").early_refresh && !one("early_refresh = false").early_refresh);
    assert!(one("ignore_request_directives = true").ignores_request_directives);
    // What says the same as the default is allowed where something else were not.
    let defaults = "ttl_by_status = {}\nttl_jitter = 0\nstale_while_revalidate = 0\nstale_if_error = 0";
    assert_eq!(one(&format!("cache = \"off\"\n{defaults}")).caching, Caching::Off);
    assert_eq!(one(&format!("cache = \"standard\"\n{defaults}")).caching, Caching::Standard);
}

#[test]
fn a_route_says_what_its_unsafe_requests_invalidate() {
    // Nothing of it has to be in the key of what is stored.
    let invalidates = "['a:{id}', 'b:{header.x-tenant}', 'c:{query.account}']";
    for cache in ["on", "off", "standard"] {
        let toml = format!("[[route]]\nmatch = '/a/{{id}}'\ncache = '{cache}'\nquery.deny = ['*']\ninvalidates = {invalidates}");
        let written: Vec<String> = load(&toml).unwrap().routes[0].invalidates.iter().map(|tag| tag.as_str().to_owned()).collect();
        assert_eq!(written, ["a:{id}", "b:{header.x-tenant}", "c:{query.account}"]);
    }
}

#[test]
fn the_cache_says_what_holds_for_all_routes() {
    let cache = |toml: &str| load(&format!("[cache]\n{toml}")).unwrap().cache;
    assert_eq!(cache("stale_if_unreachable = \"5m\"").stale_if_unreachable, secs(300));
    assert_eq!(cache("stale_if_unreachable = 0").stale_if_unreachable, secs(0));
    assert_eq!(
        cache("cache_control_fields = [\"Surrogate-Control\", \"cdn-cache-control\"]").cache_control_fields,
        ["surrogate-control", "cdn-cache-control"]
    );
    assert!(cache("cache_control_fields = []").cache_control_fields.is_empty());
    assert!(cache("show_key = true").shows_key);
    assert_eq!(cache("key_body_max = \"1MiB\"").key_body_bytes_max, 1 << 20);
    let variable = [("SIDECACHE_CACHE_CACHE_CONTROL_FIELDS", "a-cache-control, cdn-cache-control")];
    let outside = config::load(&Sources::new().text("proxy.toml", "").environment(variable)).unwrap();
    assert_eq!(outside.cache.cache_control_fields, ["a-cache-control", "cdn-cache-control"]);
}

// === Environment and command line ===

#[test]
fn the_command_line_beats_the_environment_which_beats_the_file() {
    let sources = || Sources::new().text("proxy.toml", "[origin]\nurl = \"http://file\"");
    let origin = |sources: &Sources| config::load(sources).unwrap().origin.addresses.to_string();
    assert_eq!(origin(&sources()), "http://file");
    let environment = sources().environment([("ORIGIN_URL", "http://env")]);
    assert_eq!(origin(&environment), "http://env");
    let generic = sources().environment([("SIDECACHE_ORIGIN_URL", "http://generic"), ("ORIGIN_URL", "http://env")]);
    assert_eq!(origin(&generic), "http://generic");
    assert_eq!(origin(&environment.clone().flag("--origin", "origin.url", "http://flag")), "http://flag");
    let flag_first = sources().flag("--origin", "origin.url", "http://flag").environment([("ORIGIN_URL", "http://env")]);
    assert_eq!(origin(&flag_first), "http://flag");
    assert_eq!(origin(&environment.set("origin.url=http://set")), "http://set");
}

#[test]
fn each_variable_sets_its_key() {
    let with = |name: &str, value: &str| {
        let sources = Sources::new().text("proxy.toml", "[[route]]\nmatch = '/'\n[server]\nlisten = \"127.0.0.1:1\"");
        config::load(&sources.environment([(name, value)])).unwrap_or_else(|problems| panic!("{problems}"))
    };
    for (written, expected) in [("false", false), ("0", false), ("No", false), ("OFF", false), ("1", true), ("yes", true)] {
        assert_eq!(with("ENABLE_CACHE", written).cache.enabled, expected);
    }
    assert_eq!(with("REDIS_URL", "redis://h:1").store.redis, Some(RedisOptions::new("redis://h:1")));
    assert_eq!(with("REDIS_URL", "").store.redis, None);
    assert_eq!(with("CACHE_TTL", "60").routes[0].caching, Caching::Rule { ttl: secs(60), overrides: false });
    assert_eq!(with("CACHE_TTL", "2m").routes[0].caching, Caching::Rule { ttl: secs(120), overrides: false });
    assert_eq!(with("ORIGIN_URL", "unix:/run/app.sock").origin.addresses.to_string(), "unix:/run/app.sock");
    for written in ["http://a:1, https://b,unix:/c", "[\"http://a:1\", \"https://b\", \"unix:/c\"]"] {
        assert_eq!(with("ORIGIN_URL", written).origin.addresses.to_string(), "http://a:1, https://b, unix:/c");
    }
    assert_eq!(with("PORT", "3000").server.listen.to_string(), "127.0.0.1:3000");
    assert_eq!(with("ADMIN_TOKEN", "abc\n").admin.tokens, [Token::admin("abc")]);
    let environment = [("SIDECACHE_SERVER_TLS_CERTIFICATE_FILE", "/c.pem"), ("SIDECACHE_SERVER_TLS_KEY_FILE", "/k.pem")];
    let sources = Sources::new().text("proxy.toml", "").environment(environment).set("server.tls.client_ca_file=/a.pem");
    let files = TlsFiles { certificate: "/c.pem".into(), key: "/k.pem".into(), client_ca: Some("/a.pem".into()) };
    assert_eq!(config::load(&sources).unwrap().server.tls, Some(files));
    assert_eq!(with("CACHE_SECRET", "abc").cache.secret.as_deref(), Some("abc"));
    assert_eq!(with("RUST_LOG", "info,sidecache::store=debug").log.level, "info,sidecache::store=debug");
    assert_eq!(with("SIDECACHE_LOG_FORMAT", "json").log.format, LogFormat::Json);
    assert_eq!(with("SIDECACHE_ADMIN_LISTEN", "off").admin.listen, None);
    assert_eq!(with("SIDECACHE_MEMORY_MAX_SIZE", "1MiB").store.memory.bytes_max, 1 << 20);
    assert_eq!(with("SIDECACHE_SERVER_WORKERS", "3").server.workers, Some(3));
    for written in ["10.0.0.1, ::1", "[\"10.0.0.1\", \"::1\"]", "10.0.0.1,::1,"] {
        assert_eq!(with("SIDECACHE_SERVER_TRUSTED_PROXIES", written).cache.trusted_proxies.len(), 2);
    }
    assert_eq!(with("UNRELATED", "x"), with("SIDECACHE_CONFIG", "/ignored/because/the/text/was/named"));
}

/// Keys that take whatever is written.
const ANYTHING: [&str; 6] =
    ["origin.ca_file", "redis.ca_file", "log.level", "identity.jwks_file", "identity.issuer", "identity.audience"];

#[test]
fn every_key_but_those_of_routes_and_tokens_can_be_set_from_outside() {
    for key in config::known_keys().iter().filter(|key| !key.starts_with("route.") && !key.starts_with("admin.tokens.")) {
        let variable = format!("SIDECACHE_{}", key.replace('.', "_").to_uppercase());
        // Nothing takes this value, so that whoever reads the key says so, and nobody calls it unknown.
        for sources in [Sources::new().environment([(&variable, "\u{e9} \"")]), Sources::new().set(&format!("{key}=\u{e9} \""))] {
            match config::load(&sources.text("proxy.toml", "")) {
                // Any path, any name and nearly any filter will do.
                Ok(_) => assert!(ANYTHING.contains(&key.as_str()), "{key}"),
                Err(problems) => assert!(!problems.to_string().contains("no such"), "{problems}"),
            }
        }
    }
}

#[test]
fn what_kubernetes_sets_for_a_service_called_sidecache_is_not_ours() {
    let variables = [
        ("SIDECACHE_SERVICE_HOST", "10.0.0.1"),
        ("SIDECACHE_SERVICE_PORT", "8080"),
        ("SIDECACHE_SERVICE_PORT_HTTP", "8080"),
        ("SIDECACHE_PORT", "tcp://10.0.0.1:8080"),
        ("SIDECACHE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("SIDECACHE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("SIDECACHE_REDIS_SERVICE_HOST", "10.0.0.1"),
        ("SIDECACHE_REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("SIDECACHE_REDIS_PORT_6379_TCP_PROTO", "tcp"),
    ];
    assert_eq!(config::load(&Sources::new().text("proxy.toml", "").environment(variables)).unwrap(), Config::default());
}

// === What is wrong ===

/// Expects these problems and no others; excerpts apart.
fn refused(toml: &str, expected: &[&str]) {
    refuses(Sources::new().text("proxy.toml", toml), expected);
}

fn refuses(sources: Sources, expected: &[&str]) {
    let first_line = |problem: &config::Problem| problem.to_string().lines().next().map(str::to_owned);
    let told: Vec<String> = match config::load(&sources) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().filter_map(first_line).collect(),
    };
    assert_eq!(told, expected);
}

#[test]
fn a_problem_is_shown_with_its_line() {
    let problems = load("\n[redis]\n  budget = \"20 parsecs\" # far\n[cache]\nttl = true\n").unwrap_err();
    let expected = r#"
proxy.toml:3:12: [redis] budget: "20 parsecs" is not a duration; write one such as "20ms", "30s", "5m", "1h"
  |
3 |   budget = "20 parsecs" # far
  |            ^^^^^^^^^^^^

proxy.toml:5:7: [cache] ttl: is a boolean; write a duration: "20ms", "30s", "5m", "1h", or a whole number of seconds
  |
5 | ttl = true
  |       ^^^^"#;
    assert_eq!(problems.to_string(), expected.trim_start());
    assert_eq!(problems.count(), 2);
    assert_eq!(problems.iter().map(|problem| problem.line()).collect::<Vec<_>>(), [Some(3), Some(5)]);
}

#[test]
fn unknown_keys_and_sections_are_problems_with_a_suggestion() {
    refused("[redis]\nbugdet = 1", &["proxy.toml:2:1: [redis] bugdet: there is no such key; did you mean `budget`?"]);
    refused("[memory]\nmax-size = 1", &["proxy.toml:2:1: [memory] max-size: there is no such key; did you mean `max_size`?"]);
    refused("[memory]\nflavour = 1", &["proxy.toml:2:1: [memory] flavour: there is no such key; [memory] has max_size"]);
    refused("[reddis]\nurl = 1", &["proxy.toml:1:2: [reddis]: there is no such section; did you mean [redis]?"]);
    refused("[[routes]]", &["proxy.toml:1:3: [routes]: there is no such section; did you mean [[route]]?"]);
    refused("port = 1", &["proxy.toml:1:1: port: stands in no section; keys stand below the name of one, such as [cache]"]);
    refused(
        "[[route]]\nname = 'a'\nmatch = '/'\ntttl = 1\nquery.alow = []",
        &[
            "proxy.toml:4:1: route[0].tttl (\"a\"): there is no such key; did you mean `ttl`?",
            "proxy.toml:5:7: route[0].query.alow (\"a\"): there is no such key; did you mean `allow`?",
        ],
    );
    refused(
        "\"\\u001b[2J\" = 1\n[admin]\nlisten = \"off\"",
        &["proxy.toml:1:1: \\u{1b}[2J: stands in no section; keys stand below the name of one, such as [cache]"],
    );
}

#[test]
fn values_of_another_type_are_problems() {
    refused(
        "[server]\nlisten = []",
        &["proxy.toml:2:10: [server] listen: is a list; write an address in quotes: \
        \"0.0.0.0:8080\", \"[::]:8080\" or \":8080\""],
    );
    refused(
        "[server]\nworkers = \"2\"",
        &["proxy.toml:2:11: [server] workers: is a string; write a whole number, without quotes"],
    );
    refused("[origin]\nhttp2 = \"yes\"", &["proxy.toml:2:9: [origin] http2: is a string; write true or false, without quotes"]);
    refused("[origin]\nca_file = 1979-05-27", &["proxy.toml:2:11: [origin] ca_file: is a date; write a string in quotes"]);
    refused(
        "[memory]\nmax_size = 1.5",
        &["proxy.toml:2:12: [memory] max_size: is a number with a fraction; write a size: \
        \"64KiB\", \"256MiB\", \"1GiB\", or a whole number of octets"],
    );
    for share in ["0%", "91%"] {
        let problem =
            "proxy.toml:2:12: [memory] max_size: a share goes from \"1%\" to \"90%\": the process itself needs some, too";
        refused(&format!("[memory]\nmax_size = \"{share}\""), &[problem]);
    }
    refused("[admin]\ntoken = 5", &["proxy.toml:2:9: [admin] token: is an integer; write a string in quotes"]);
    refused("redis = 5", &["proxy.toml:1:9: [redis]: is an integer; it is a table of keys"]);
    refused("route = 5", &["proxy.toml:1:9: [route]: is an integer; a route begins with [[route]]"]);
    refused("[route]\nmatch = '/'", &["proxy.toml:1:1: [route]: a route begins with two brackets: [[route]]"]);
    refused(
        "[[route]]\nmatch = '/'\ntags = 'a'",
        &["proxy.toml:3:8: route[0].tags (\"/\"): is a string; write a list in brackets"],
    );
    refused(
        "[[route]]\nmatch = '/'\ntags = ['a', 1]",
        &["proxy.toml:3:14: route[0].tags (\"/\"): is an integer; write a string in quotes"],
    );
}

#[test]
fn values_that_cannot_be_meant_are_problems() {
    refused("[redis]\nbudget = 0", &["proxy.toml:2:10: [redis] budget: 0 is out of range; write something from 1ms to 10s"]);
    refused("[cache]\nttl = -1", &["proxy.toml:2:7: [cache] ttl: -1 is out of range; write something from 1s to 365d"]);
    refused(
        "[cache]\nttl = \"99999999999999y\"",
        &["proxy.toml:2:7: [cache] ttl: 99999999999999y is out of range; \
        write something from 1s to 365d"],
    );
    refused(
        "[redis]\nvalue_max = \"2 sheep\"",
        &["proxy.toml:2:13: [redis] value_max: \"2 sheep\" is not a size; \
        write one such as \"64KiB\", \"256MiB\", \"1GiB\""],
    );
    refused(
        "[redis]\nvalue_max = \"2GiB\"",
        &["proxy.toml:2:13: [redis] value_max: 2GiB is out of range; \
        write something from 1KiB to 512MiB"],
    );
    refused(
        "[server]\nheader_size_max = 100",
        &["proxy.toml:2:19: [server] header_size_max: 100 is out of range; \
        write something from 8KiB to 16MiB"],
    );
    refused(
        "[server]\nconnections_max = 0",
        &["proxy.toml:2:19: [server] connections_max: 0 is out of range; \
        write something from 1 to 1000000"],
    );
    refused(
        "[server]\nlisten = \"localhost\"",
        &["proxy.toml:2:10: [server] listen: \"localhost\" is not an address to \
        listen on; write \"0.0.0.0:8080\", \"[::]:8080\" or \":8080\""],
    );
    refused("[server]\nlisten = 70000", &["proxy.toml:2:10: [server] listen: 70000 is not a port; ports go from 0 to 65535"]);
    refused(
        "[server]\ntrusted_proxies = [\"proxy\"]",
        &["proxy.toml:2:20: [server] trusted_proxies: \"proxy\" is neither an \
        address nor a network, such as \"10.0.0.7\", \"10.0.0.0/8\", \"fd00::/8\""],
    );
    refused(
        "[origin]\nurl = \"http://h/v1\"",
        &["proxy.toml:2:7: [origin] url: only scheme, host and port: requests keep their \
        own path, so `/v1` has no place here"],
    );
    refused("[origin]\nurl = []", &["proxy.toml:2:7: [origin] url: names no address; requests would have nowhere to go"]);
    refused("[origin]\nurl = [\"http://a\", \"http://a\"]", &["proxy.toml:2:7: [origin] url: `http://a` stands twice"]);
    refused(
        "[redis]\nwhen_down = \"memroy\"",
        &["proxy.toml:2:13: [redis] when_down: \"memroy\" is none of \"pass-through\", \
        \"memory\"; did you mean \"memory\"?"],
    );
    refused(
        "[redis]\nprefix = \"a b\"",
        &["proxy.toml:2:10: [redis] prefix: \"a b\" has other signs than letters, digits and \
        `-_.:`, or more than 64"],
    );
    refused(
        "[cache]\nstale_if_unreachable = '2y'",
        &["proxy.toml:2:24: [cache] stale_if_unreachable: 2y is out of range; write something from 0s to 365d"],
    );
    refused(
        "[cache]\ncache_control_fields = ['Cache-Control', 'Expires', 'a b']",
        &[
            "proxy.toml:2:25: [cache] cache_control_fields: `cache-control` is what these fields go before; leave it out",
            "proxy.toml:2:42: [cache] cache_control_fields: `expires` is what these fields go before; leave it out",
            "proxy.toml:2:53: [cache] cache_control_fields: \"a b\" is not the name of a header field",
        ],
    );
    refused(
        "[cache]\ncache_control_fields = ['X-A', 'x-a']",
        &["proxy.toml:2:24: [cache] cache_control_fields: `x-a` stands twice"],
    );
    let slips = [("inof", "did you mean \"info\"?"), ("warning", "did you mean \"warn\"?"), ("info,critical", ""), ("hyper", "")];
    for (level, meant) in slips {
        let (slip, other) = (
            level.rsplit(',').next().unwrap(),
            "write one of off, error, warn, info, debug, trace; a module stands with its level: \"info,hyper=debug\"",
        );
        let meant = if meant.is_empty() { other } else { meant };
        refused(
            &format!("[log]\nlevel = \"{level}\""),
            &[&format!("proxy.toml:2:9: [log] level: \"{slip}\" is no level; {meant}")],
        );
    }
    refused(
        "[log]\nlevel = \"a=b=c\"",
        &["proxy.toml:2:9: [log] level: \"a=b=c\" is not a filter; write one of off, error, warn, \
        info, debug, trace, or directives such as \"info,sidecache::store=debug\""],
    );
    refused(
        "[admin]\nlisten = \"127.0.0.1:8080\"",
        &["proxy.toml:2:10: [admin] listen: 127.0.0.1:8080 and 0.0.0.0:8080 are the address of [server] \
        listen; for one port write on_proxy_port = true"],
    );
    for url in ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"] {
        refused(
            &format!("[server]\nlisten = \"[::]:8080\"\n[origin]\nurl = \"{url}\""),
            &[&format!(
                "proxy.toml:4:7: [origin] url: `{url}` is where sidecache itself listens; every request would come back to it"
            )],
        );
    }
    refused(
        "[[route]]\nname = \"none\"\nmatch = \"/a\"",
        &["proxy.toml:2:8: route[0].name: \"none\" is what requests are counted under that no route matches"],
    );
    refused(
        "[admin]\nlisten = \"0.0.0.0:8080\"",
        &["proxy.toml:2:10: [admin] listen: 0.0.0.0:8080 is the address of [server] \
        listen; for one port write on_proxy_port = true"],
    );
    refused(
        "[admin]\non_proxy_port = true",
        &["proxy.toml:2:17: [admin] on_proxy_port: needs [admin] token or ADMIN_TOKEN: \
        everybody who reaches the proxy reaches the admin paths"],
    );
    refused(
        "[origin]\nclient_key_file = '/k.pem'",
        &[
            "proxy.toml:2:19: [origin] client_certificate_file: is missing; a certificate needs its key, and a key its certificate",
        ],
    );
    refused(
        "[redis]\nclient_certificate_file = '/c.pem'",
        &["proxy.toml:2:27: [redis] client_key_file: is missing; a certificate needs its key, and a key its certificate"],
    );
    refused(
        "[server]\ntls = { certificate_file = '/c.pem' }",
        &["proxy.toml:2:7: [server.tls] key_file: is missing; TLS needs a certificate and its key"],
    );
    refused(
        "[admin.tls]\nkey_file = '/k.pem'\nclient_ca_file = '/a.pem'",
        &["proxy.toml:1:1: [admin.tls] certificate_file: is missing; TLS needs a certificate and its key"],
    );
    refused(
        "[server.tls]",
        &[
            "proxy.toml:1:1: [server.tls] certificate_file: is missing; TLS needs a certificate and its key",
            "proxy.toml:1:1: [server.tls] key_file: is missing; TLS needs a certificate and its key",
        ],
    );
    refused("[server]\ntls = true", &["proxy.toml:2:7: [server] tls: is a boolean; it is a table of keys"]);
    refused(
        "[admin]\nhosts = [\"ops:9090\"]",
        &["proxy.toml:2:10: [admin] hosts: \"ops:9090\" is not a host; write a name alone, such as \"sidecache.internal\""],
    );
    refused(
        "[admin]\norigins = [\"https://ops/\"]",
        &["proxy.toml:2:12: [admin] origins: \"https://ops/\" is not the origin of a page, such as \"https://ops.example.com\""],
    );
}

#[test]
fn a_token_that_cannot_be_meant_is_a_problem_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let token = |rest: &str| format!("[[admin.tokens]]\nname = \"a\"\nrole = \"read\"\n{rest}");
    let check = |toml: String, expected: &[&str]| {
        let sources = Sources::new()
            .text("proxy.toml", &toml)
            .environment([("SHORT", "hunter2"), ("ADMIN_TOKEN", "hunter2-hunter2-hunter2")]);
        let problems = config::load(&sources).map(|_| ()).unwrap_err();
        let told: Vec<String> = problems.iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
        assert_eq!(told.len(), expected.len(), "{toml}\n{told:?}");
        for (told, part) in told.iter().zip(expected) {
            assert!(told.contains(part), "{toml}\n{told}");
        }
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
    };
    let short = "admin.tokens[0].token: is shorter than 16 signs";
    check(token("token = \"hunter2\""), &[short]);
    check(token(&format!("token_file = \"{}\"", file("short", "hunter2\n"))), &["token_file: is shorter than 16 signs"]);
    check(token(&format!("token_file = \"{}\"", file("empty", " \n"))), &["token_file: is empty"]);
    check(token(&format!("token_file = \"{}\"", file("blanks", "hunter2 hunter2 hunter2"))), &["token_file: holds blanks"]);
    check(token("token_file = \"/nowhere/at/all\""), &["token_file: /nowhere/at/all cannot be read: No such file"]);
    check(token("token_env = \"SHORT\""), &["token_env: is shorter than 16 signs"]);
    check(token("token_env = \"ABSENT\""), &["token_env: \"ABSENT\" is no variable"]);
    check(token(""), &["token: write one of token, token_file and token_env"]);
    check(token("token = \"0123456789abcdef\"\ntoken_env = \"SHORT\""), &["token: write one of", "token_env: is shorter"]);
    check(token("token = \"hunter2-hunter2-hunter2\""), &["token: is the same as that of \"admin\""]);
    check(token("token = \"0123456789abcdef\"").replace("\"a\"", "\"admin\""), &["name: \"admin\" stands twice"]);
    check(
        token("token = \"0123456789abcdef\"").replace("read", "write"),
        &["role: \"write\" is none of \"read\", \"purge\", \"all\""],
    );
    check(token("token = \"0123456789abcdef\"").replace("\"a\"", "\"loopback\""), &["name: \"loopback\" is what callers"]);
    check("[[admin.tokens]]\ntoken = \"0123456789abcdef\"".to_owned(), &["name: is missing", "role: is missing"]);
    check("[admin]\ntokens = \"hunter2\"".to_owned(), &["[admin] tokens: is no list of tables"]);
}

#[test]
fn a_redis_url_that_is_none_is_a_problem() {
    for written in ["h:6379", "http://h", "redis:/x", "redis+sentinel://h:26379", ""] {
        let problems = load(&format!("[redis]\nurl = \"{written}\"")).unwrap_err().to_string();
        assert!(problems.starts_with(&format!("proxy.toml:2:7: [redis] url: {written:?} cannot be used: ")), "{problems}");
        assert!(problems.contains("; write \"redis://host:6379/0\", "), "{problems}");
    }
}

#[test]
fn what_a_route_cannot_mean_is_a_problem() {
    let one = |toml: &str, expected: &[&str]| refused(&format!("[[route]]\nmatch = '/a/{{id}}'\n{toml}"), expected);
    one("tags = ['x:{nope}']", &["proxy.toml:3:9: route[0].tags (\"/a/{id}\"): the pattern has no capture `{nope}`"]);
    one(
        "ttl = '1h'\ncache = 'off'",
        &["proxy.toml:3:7: route[0].ttl (\"/a/{id}\"): nothing is stored on a route with cache = \
        \"off\"; leave out either"],
    );
    one(
        "cache = 'standard'\nttl = 1\noverride = true",
        &[
            "proxy.toml:4:7: route[0].ttl (\"/a/{id}\"): cache = \"standard\" leaves the lifetime to the origin alone; leave out either",
            "proxy.toml:5:12: route[0].override (\"/a/{id}\"): cache = \"standard\" leaves the lifetime to the origin alone; \
         leave out either",
        ],
    );
    one(
        "override = true",
        &["proxy.toml:3:12: route[0].override (\"/a/{id}\"): puts the route's ttl before what the origin \
        states, so it needs a ttl here"],
    );
    one(
        "identity = ['cookie']",
        &["proxy.toml:3:12: route[0].identity (\"/a/{id}\"): has a meaning only together with \
        share = \"per-credential\""],
    );
    one(
        "share = 'per-credential'\nidentity = []",
        &["proxy.toml:4:12: route[0].identity (\"/a/{id}\"): is empty, so nobody \
        would be told apart; name a request field"],
    );
    one(
        "share = 'per-credential'\nidentity = ['cookie:a b']",
        &["proxy.toml:4:13: route[0].identity (\"/a/{id}\"): \"a b\" is not the name of a cookie"],
    );
    for written in ["'cookie', 'cookie:a'", "'authorization', 'jwt:sub'"] {
        one(
            &format!("share = 'per-credential'\nidentity = [{written}]"),
            &["proxy.toml:4:12: route[0].identity (\"/a/{id}\"): has a field as a whole and a part of it; leave out either"],
        );
    }
    one(
        "key_headers = ['TE', 'a b', 'If-Range', 'Cookie']",
        &[
            "proxy.toml:3:16: route[0].key_headers (\"/a/{id}\"): `te` is between two neighbours and never reaches the origin \
         (RFC 9110 §7.6.1)",
            "proxy.toml:3:22: route[0].key_headers (\"/a/{id}\"): \"a b\" is not the name of a header field",
            "proxy.toml:3:29: route[0].key_headers (\"/a/{id}\"): `if-range` is answered by the cache itself",
            "proxy.toml:3:41: route[0].key_headers (\"/a/{id}\"): `cookie` would stand in the key for all to read; write \
         share = \"per-credential\"",
        ],
    );
    one("key_headers = ['X-A', 'x-a']", &["proxy.toml:3:15: route[0].key_headers (\"/a/{id}\"): `x-a` stands twice"]);
    one(
        "methods = ['PUT']",
        &["proxy.toml:3:12: route[0].methods (\"/a/{id}\"): responses to \"PUT\" are not stored; \
        \"GET\", \"HEAD\", \"QUERY\" and \"POST\" are"],
    );
    one(
        "methods = ['POST']",
        &["proxy.toml:3:11: route[0].methods (\"/a/{id}\"): has \"POST\"; write key_body = true, which says that these \
        requests change nothing and that their body says what is asked for"],
    );
    one(
        "key_body = true",
        &["proxy.toml:3:12: route[0].key_body (\"/a/{id}\"): has a meaning only together with \"POST\" in `methods`"],
    );
    one(
        "ttl_by_status = { 206 = 1, 304 = 1, 404 = 0, 600 = 1, x = 1 }",
        &[
            "proxy.toml:3:19: route[0].ttl_by_status (\"/a/{id}\"): 206 is a part of a response, and a ttl is for whole ones",
            "proxy.toml:3:28: route[0].ttl_by_status (\"/a/{id}\"): 304 is about the one request that it answers, and is \
             no answer to others",
            "proxy.toml:3:43: route[0].ttl_by_status (\"/a/{id}\"): 0 is out of range; write something from 1s to 365d",
            "proxy.toml:3:46: route[0].ttl_by_status (\"/a/{id}\"): \"600\" is not the status of a response; write one from 200 to 599",
            "proxy.toml:3:55: route[0].ttl_by_status (\"/a/{id}\"): \"x\" is not the status of a response; write one from 200 to 599",
        ],
    );
    one(
        "upgrade = ['WebSocket', 'h2c', 'TLS/1.0', 'a b', 'tcp/', 'tcp']",
        &[
            "proxy.toml:3:12: route[0].upgrade (\"/a/{id}\"): WebSocket is bridged on every route, and need not be named",
            "proxy.toml:3:25: route[0].upgrade (\"/a/{id}\"): \"h2c\" would carry requests past the sidecar, which could be neither \
             checked nor answered here; no route allows it",
            "proxy.toml:3:32: route[0].upgrade (\"/a/{id}\"): \"TLS/1.0\" would carry requests past the sidecar, which could be \
             neither checked nor answered here; no route allows it",
            "proxy.toml:3:43: route[0].upgrade (\"/a/{id}\"): \"a b\" is not a protocol, such as \"tcp\" or \"example/2\"",
            "proxy.toml:3:50: route[0].upgrade (\"/a/{id}\"): \"tcp/\" is not a protocol, such as \"tcp\" or \"example/2\"",
        ],
    );
    one(
        "ttl_by_status = '30s'",
        &[
            "proxy.toml:3:17: route[0].ttl_by_status (\"/a/{id}\"): is a string; write a table of statuses and durations, such as \
           { 404 = \"30s\", 410 = \"5m\" }",
        ],
    );
    for (written, wrong) in [
        ("'101%'", "101% is out of range; write something from 0% to 100%"),
        ("-1", "-1 is out of range; write something from 0% to 100%"),
        ("1000", "1000 is out of range; write something from 0% to 100%"),
        ("'a tenth'", "\"a tenth\" is not a percentage; write one such as \"10%\", or a whole number from 0 to 100"),
        ("'2.5%'", "\"2.5%\" is not a percentage; write one such as \"10%\", or a whole number from 0 to 100"),
        ("0.1", "is a number with a fraction; write a percentage such as \"10%\", or a whole number from 0 to 100"),
    ] {
        one(&format!("ttl_jitter = {written}"), &[&format!("proxy.toml:3:14: route[0].ttl_jitter (\"/a/{{id}}\"): {wrong}")]);
    }
    one(
        "cache = 'standard'\nttl_by_status = { 404 = 1 }\nttl_jitter = 5",
        &[
            "proxy.toml:4:17: route[0].ttl_by_status (\"/a/{id}\"): cache = \"standard\" leaves the lifetime to the origin alone; \
             leave out either",
            "proxy.toml:5:14: route[0].ttl_jitter (\"/a/{id}\"): cache = \"standard\" leaves the lifetime to the origin alone; leave \
             out either",
        ],
    );
    let stale = "stale_while_revalidate = 1\nstale_if_error = 1";
    one(
        &format!("cache = 'off'\nttl_by_status = {{ 404 = 1 }}\nttl_jitter = 5\n{stale}"),
        &[(4, 17, "ttl_by_status"), (5, 14, "ttl_jitter"), (6, 26, "stale_while_revalidate"), (7, 18, "stale_if_error")]
            .map(|(line, column, key)| {
                format!(
                    "proxy.toml:{line}:{column}: route[0].{key} (\"/a/{{id}}\"): nothing is stored on a route with cache = \"off\"; \
                     leave out either"
                )
            })
            .each_ref()
            .map(String::as_str),
    );
    one(
        "invalidates = ['x:{nope}']",
        &["proxy.toml:3:16: route[0].invalidates (\"/a/{id}\"): the pattern has no capture `{nope}`"],
    );
    one(
        "invalidates = ['x:{header.cookie}', 'y:{header.x-tenant}']",
        &[
            "proxy.toml:3:15: route[0].invalidates (\"/a/{id}\"): `{header.cookie}`: a credential would stand in the tag for all to \
           read",
        ],
    );
    one(
        "methods = ['HEAD']",
        &["proxy.toml:3:11: route[0].methods (\"/a/{id}\"): names no method whose responses could be \
        stored; write [\"GET\", \"HEAD\"]"],
    );
    one(
        "name = 'a,b'",
        &["proxy.toml:3:8: route[0].name: \"a,b\" cannot be a name: visible ASCII without quotes, \
        commas, backslashes and `*`, 100 signs at most"],
    );
    refused("[[route]]\nmatch = '/a/{id'", &["proxy.toml:2:9: route[0].match: unbalanced `{` or `<` in the segment `{id`"]);
    refused(
        "[[route]]\nname = 'a'",
        &["proxy.toml:1:1: route[0].match (\"a\"): is missing; write the paths it takes, such as \
        match = \"/api/customer/{id}\""],
    );
}

#[test]
fn routes_that_contradict_each_other_are_problems() {
    refused(
        "[[route]]\nname = 'a'\nmatch = '/{id}'\n[[route]]\nname = 'b'\nmatch = '/<x>'",
        &["proxy.toml:6:9: route[1].match (\"b\"): `/{x}` matches the same paths as `/{id}`; only one of them could be chosen"],
    );
    refused(
        "[[route]]\nname = 'a'\nmatch = 'bad'\n[[route]]\nname = 'a'\nmatch = '/b'",
        &[
            "proxy.toml:3:9: route[0].match (\"a\"): a pattern begins with `/`",
            "proxy.toml:5:8: route[1].name (\"a\"): route[0] has this name too; statistics and purges tell routes apart by it",
        ],
    );
    refused(
        "[[route]]\nmatch = '/a'\n[[route]]\nmatch = '/a'",
        &["proxy.toml:4:9: route[1].match (\"/a\"): `/a` matches the same paths as `/a`; only one of them could be chosen"],
    );
}

#[test]
fn credentials_in_keys_that_replicas_share_need_a_secret() {
    let toml = "[redis]\nurl = 'redis://h'\n[[route]]\nmatch = '/'\nshare = 'per-credential'";
    let message = "proxy.toml:5:9: route[0].share (\"/\"): \"per-credential\" with Redis needs [cache] secret or CACHE_SECRET, the \
        same on all replicas, since the key holds a hash of the credentials";
    refused(toml, &[message]);
    assert!(load(&format!("{toml}\n[cache]\nsecret = 'x'")).is_ok());
    assert!(config::load(&Sources::new().text("proxy.toml", toml).environment([("CACHE_SECRET", "x")])).is_ok());
    assert!(load("[[route]]\nmatch = '/'\nshare = 'per-credential'").is_ok());
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    refused(
        "[server]\nworkers = 0\n[redis]\nbudget = '1 week'\nurll = 1\n[[route]]\nmatch = 'a'\nttl = 0\n",
        &[
            "proxy.toml:2:11: [server] workers: 0 is out of range; write something from 1 to 1024",
            "proxy.toml:4:10: [redis] budget: 1 week is out of range; write something from 1ms to 10s",
            "proxy.toml:5:1: [redis] urll: there is no such key; did you mean `url`?",
            "proxy.toml:7:9: route[0].match: a pattern begins with `/`",
            "proxy.toml:8:7: route[0].ttl: 0 is out of range; write something from 1s to 365d",
        ],
    );
}

#[test]
fn errors_of_syntax_are_told_at_once_and_together_with_the_rest() {
    refused(
        "[redis]\nbudget = 20ms\nprefix = \"a\"\nprefix = \"b\"\ncommands_max = 0\n[[route]]\nmatch = /a\n",
        &[
            "proxy.toml:2:10: this is not TOML: string values must be quoted, expected literal string",
            "proxy.toml:4:1: this is not TOML: duplicate key",
            "proxy.toml:5:16: [redis] commands_max: 0 is out of range; write something from 1 to 100000",
            "proxy.toml:7:9: this is not TOML: string values must be quoted, expected literal string",
        ],
    );
}

#[test]
fn a_header_that_is_no_toml_is_told_once() {
    refused("[redis\nurl = 1", &["proxy.toml:1:7: this is not TOML: unclosed table, expected `]`"]);
}

#[test]
fn problems_outside_of_the_file_name_the_variable_or_the_flag() {
    let sources = || Sources::new().text("proxy.toml", "[server]\nlisten = \"x\"");
    refuses(
        Sources::new()
            .text("proxy.toml", "[redis]\nbudget = 0")
            .environment([("SIDECACHE_REDIS_BUGDET", "1"), ("CACHE_TTL", "soon"), ("ENABLE_CACHE", "maybe"), ("PORT", "http")])
            .flag("--origin", "origin.url", "backend")
            .set("redis.commands_max=many")
            .set("redis")
            .set("route.ttl=5")
            .set("turbo.mode=on"),
        &[
            "proxy.toml:2:10: [redis] budget: 0 is out of range; write something from 1ms to 10s",
            "CACHE_TTL (environment): [cache] ttl: \"soon\" is not a duration; write one such as \"20ms\", \"30s\", \"5m\", \"1h\"",
            "ENABLE_CACHE (environment): [cache] enabled: \"maybe\" is neither true nor false",
            "PORT (environment): [server] listen: \"http\" is not a port; write one such as 8080",
            "SIDECACHE_REDIS_BUGDET (environment): [redis] bugdet: there is no such key; did you mean SIDECACHE_REDIS_BUDGET?",
            "--origin (command line): [origin] url: `backend` is not a URL; write `http://host:port`, `https://host` or \
             `unix:/path/to/socket`",
            "--set (command line): \"redis\" is no key and value; write section.key=value, such as redis.budget=20ms",
            "--set redis.commands_max (command line): [redis] commands_max: \"many\" is not a whole number",
            "--set route.ttl (command line): routes are written in the file, not in the environment or on the command line",
            "--set turbo.mode (command line): [turbo]: there is no such section; the file has server, origin, cache, memory, \
             redis, admin, log, identity, route",
        ],
    );
    // The port is put into the address of the file; where that is wrong, that is the problem.
    refuses(
        sources().environment([("PORT", "80")]),
        &[
            "proxy.toml:2:10: [server] listen: \"x\" is not an address to listen on; write \"0.0.0.0:8080\", \"[::]:8080\" or \":8080\"",
        ],
    );
    refuses(
        Sources::new().text("proxy.toml", "").environment([("SIDECACHE_PORT", "80")]),
        &["SIDECACHE_PORT (environment): names no key; write SIDECACHE_<SECTION>_<KEY>, such as SIDECACHE_REDIS_BUDGET"],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    let name = path.display().to_string();
    refuses(Sources::new().file(&path), &[&format!("{name}: cannot be read: No such file or directory (os error 2)")]);
    refuses(
        Sources::new().environment([("SIDECACHE_CONFIG", &name)]),
        &[&format!("{name}: cannot be read: No such file or directory (os error 2)")],
    );
    let own = directory.path().display().to_string();
    refuses(Sources::new().file(&own), &[&format!("{own}: cannot be read: Is a directory (os error 21)")]);
    fs::write(&path, b"# one\n# two \xff").unwrap();
    refuses(Sources::new().file(&path), &[&format!("{name}: line 2 is not UTF-8")]);
    fs::write(&path, "[server]\nlisten = ':1'").unwrap();
    assert_eq!(config::load(&Sources::new().file(&path)).unwrap().server.listen.port(), 1);
}

#[test]
fn secrets_are_never_shown() {
    let toml = "[redis]\nurl = \"rediss://user:hunter2@h:1\"\n[admin]\ntoken = \"hunter2\"\n[cache]\nsecret = \"hunter2\"";
    let shown = format!("{:?}", load(toml).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");

    let wrong = [
        "[redis]\nurl = \"redis//user:hunter2@h\"",
        "[redis]\nurl = \"http://:hunter2@h\"",
        "[redis]\nurl = \"redis:user:hunter2@h\"",
        "[redis]\nurl = \"redis://user:hunter2@h",
        "[redis]\nurl = [\"redis://user:hunter2@h\"]",
        "[redis]\nurl = \"unix:x?pass=hunter2\"\nbudget = []",
        "[redis]\nurl = \"redis+sentinel://user:hunter2@h\"",
        "[redis]\nurl = \"redis+sentinel://h?sentinel_pass=hunter2\"",
        "[redis]\nurl = \"redis+sentinel://h/m?sentinel_pass=hunter2&pass=hunter2\"",
        "[redis]\nurl = \"redis+sentinel://h/m?sentinel_password=hunter2&sentinel_pass=hunter2\"",
        "[redis]\nprefix = \"redis://user:hunter2@h\"",
        "[origin]\nurl = \"http//user:hunter2@h\"",
        "[origin]\nurl = \"http://user:hunter2@h\"",
        "[admin]\ntoken = \"hunter2 \"",
        "[admin]\ntoken = \"hunter2",
        "[admin]\ntoken = hunter2",
        "[admin]\ntoken = [\"hunter2\"]",
        "admin = { token = \"hunter2\", nope = 1 }",
        "[admin]\n\"token\"=\"hunter2 \"",
        "[cache]\nsecret = \"hunter2 \"",
        "[cache]\nsecret = hunter2",
        "[redis.encryption]\nkeys = [\"k:hunter2\"]",
        "[redis.encryption]\nkeys = [\n  \"k:hunter2\",\n]",
        "[redis.encryption]\nkeys = \"k:hunter2",
        "[redis]\nencryption = { keys = [\"k:hunter2\"] }",
        "[redis.encryption]\nkey = [\"k:hunter2\"]",
    ];
    for toml in wrong {
        let problems = load(toml).unwrap_err().to_string();
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let outside = Sources::new()
        .text("proxy.toml", "")
        .environment([("REDIS_URL", "redis//u:hunter2@h"), ("ADMIN_TOKEN", "hunter2 x"), ("CACHE_SECRET", "hunter2 x")])
        .set("admin.tokn=hunter2");
    let problems = config::load(&outside).unwrap_err().to_string();
    assert!(!problems.contains("hunter2"), "{problems}");
}

// === Whatever is written ===

/// Whatever it is, it is answered, each problem with a line that exists.
fn survives(toml: &str) {
    if let Err(problems) = load(toml) {
        let shown = problems.to_string();
        let lines = toml.lines().count().max(1) + usize::from(toml.ends_with('\n'));
        assert!(problems.count() > 0 && !shown.is_empty());
        for problem in problems.iter() {
            assert!(problem.line().is_none_or(|line| line <= lines), "{problem}\n{toml}");
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_answered(toml in any::<String>()) {
        survives(&toml);
    }

    #[test]
    fn garbage_of_the_right_signs_is_answered(toml in "[\\[\\]{}=\"'.,# \na-c0-9_\\\\é-]{0,80}") {
        survives(&toml);
    }

    #[test]
    fn a_mutated_file_is_answered(cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40usize, ".{0,6}"), 1..6)) {
        let mut toml: Vec<char> = shipped().lines().map(|line| format!("{}\n", uncomment(line))).collect::<String>().chars().collect();
        for (at, length, inserted) in cuts {
            let from = at.index(toml.len());
            let to = (from + length).min(toml.len());
            toml.splice(from..to, inserted.chars());
        }
        survives(&toml.into_iter().collect::<String>());
    }

    #[test]
    fn any_value_of_any_key_is_answered(
        key in prop::sample::select(config::known_keys()),
        value in "(-?[0-9]{1,25}|[0-9]{1,20} ?(ns|ms|s|y|KiB|PB|EiB)|[/{}*<>a%:@.\\[\\]-]{0,12}|.{0,12})",
        is_quoted in any::<bool>(),
    ) {
        let (section, name) = key.split_once('.').unwrap();
        let written = if is_quoted { format!("{value:?}") } else { value.clone() };
        let other = if name == "match" { "" } else { "match = '/{id}'\n" };
        let head = if section == "route" { format!("[[route]]\n{other}") } else { format!("[{section}]\n") };
        survives(&format!("{head}{name} = {written}\n"));
        survives(&format!("{head}{name} = [{written}]\n"));
        let sources = Sources::new().text("proxy.toml", "").set(&format!("{key}={value}"));
        let _ = config::load(&sources).map_err(|problems| problems.to_string());
    }
}
