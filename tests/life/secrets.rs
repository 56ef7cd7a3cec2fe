//! What is secret stays so: nothing that comes out of the program, and nothing that it leaves in Redis, holds a secret that was put into
//! its configuration or into a request.

use super::program::{Program, command};
use super::world::{Ask, Client, Origin, RedisServer, Reply, eventually, free_port};
use std::fs::File;
use std::path::Path;

/// What the configuration holds. The keys are 32 octets in Base64.
const REDIS_PASSWORD: &str = "planted-redis-password";
const WRONG_PASSWORD: &str = "planted-wrong-password";
const ADMIN_TOKEN: &str = "planted-admin-token-0123456789";
const CACHE_SECRET: &str = "planted-cache-secret-0123456789";
const KEYS: [&str; 2] = ["cGxhbnRlZC1rZXktMS1wbGFudGVkLWtleS0xLTEyMzQ=", "cGxhbnRlZC1rZXktMi1wbGFudGVkLWtleS0yLTEyMzQ="];

/// What requests and responses hold.
const BEARER: &str = "planted-bearer";
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.cGxhbnRlZC1zaWduYXR1cmU";
const COOKIE: &str = "planted-cookie";
const SET_COOKIE: &str = "planted-set-cookie";
const WRONG_TOKEN: &str = "planted-wrong-token";
const QUERY: &str = "planted-query-token";

/// All of them; parts of those that might be taken apart.
fn planted() -> Vec<&'static str> {
    let jwt = JWT.split('.').skip(1);
    let keys = KEYS.map(|key| &key[..30]);
    let whole = [REDIS_PASSWORD, WRONG_PASSWORD, ADMIN_TOKEN, CACHE_SECRET, BEARER, COOKIE, SET_COOKIE, WRONG_TOKEN, QUERY];
    whole.into_iter().chain(jwt).chain(keys).chain(["planted-key"]).collect()
}

/// Fails if one of them is there.
#[track_caller]
fn holds_none(what: &str, octets: &[u8], but: &[&str]) {
    for secret in planted().into_iter().filter(|secret| !but.contains(secret)) {
        let at = octets.windows(secret.len()).position(|window| window == secret.as_bytes());
        if let Some(at) = at {
            let around = &octets[at.saturating_sub(200)..(at + 100).min(octets.len())];
            panic!("{what} has {secret}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

/// Callers who are told apart, callers of one response that varies, and everybody.
const ROUTES: &str = "[[route]]\nmatch = \"/me/{id}\"\nttl = \"1m\"\nshare = \"per-credential\"\ntags = [\"me:{id}\"]\n\
    [[route]]\nmatch = \"/varied/{id}\"\ncache = \"standard\"\n\
    [[route]]\nmatch = \"/all/{id}\"\nttl = \"1m\"\nshare = \"everyone\"\n";

fn with_credentials(ask: Ask) -> Ask {
    ask.with("cookie", &format!("session={COOKIE}"))
}

/// Requests of every kind, with credentials, over both protocols.
async fn ask_for_everything(program: &Program, query: &str) {
    for client in [program.client(), Client::http2(program.address)] {
        for bearer in [BEARER, JWT] {
            let authorization = format!("Bearer {bearer}");
            for path in ["/me/1", "/varied/1", "/all/1", "/elsewhere/1/2", "/missing"] {
                let asked = client.get(&format!("{path}{query}")).with("authorization", &authorization);
                with_credentials(asked).await;
            }
            with_credentials(client.ask("POST", "/me/1").with("authorization", &authorization)).await;
        }
    }
    let broken =
        format!("GET /me/1 HTTP/1.1\r\nHost: h\r\nHost: i\r\nAuthorization: Bearer {BEARER}\r\nCookie: {COOKIE}\r\n\r\n");
    super::RawClient::connect(program.address).await.ask(&broken).await;
}

/// What operators get, with the right token and the wrong one.
async fn ask_as_operator(program: &Program) -> Vec<u8> {
    let client = Client::of(program.admin_address);
    let mut seen = Vec::new();
    for path in [
        "/metrics".to_owned(),
        "/admin/cache/stats".to_owned(),
        "/admin/cache/purges".to_owned(),
        "/readyz".to_owned(),
        format!(
            "/admin/cache/explain?url=http://h/me/1&header=Authorization:%20Bearer%20{BEARER}&header=Cookie:%20session={COOKIE}"
        ),
        format!(
            "/admin/cache/entries?url=http://h/me/1&header=Authorization:%20Bearer%20{BEARER}&header=Cookie:%20session={COOKIE}"
        ),
        format!(
            "/admin/cache/entries?url=http://h/varied/1&header=Authorization:%20Bearer%20{BEARER}&header=Cookie:%20session={COOKIE}"
        ),
    ] {
        for token in [ADMIN_TOKEN, WRONG_TOKEN] {
            let got = client.get(&path).with("authorization", &format!("Bearer {token}")).await;
            seen.extend(format!("{path} {token} says {got:?}\n").replace(&path, "").replace(token, "").into_bytes());
        }
    }
    for token in [ADMIN_TOKEN, WRONG_TOKEN] {
        for order in ["{\"tags\": [\"me:1\"], \"wait_ms\": 100}", "{\"url\": 7}", "not JSON"] {
            let asked = client.ask("POST", "/admin/cache/purge").with("authorization", &format!("Bearer {token}"));
            let got = asked.body(order).await;
            seen.extend(format!("{got:?}\n").into_bytes());
        }
    }
    seen
}

fn answers(origin: &Origin) {
    for path in ["/me/1", "/all/1", "/elsewhere/1/2"] {
        origin.has(path, Reply::new("one").with("set-cookie", SET_COOKIE).cache("max-age=60"));
    }
    origin.has("/me/1", Reply::new("one").cache("max-age=60"));
    origin.has("/varied/1", Reply::new("one").with("vary", "authorization, cookie").cache("public, max-age=60"));
}

/// All that the program has said on its log, and on what is beside it.
fn said(program: &Program, stdout: &Path) -> Vec<u8> {
    let log = program.log.lock().unwrap().iter().map(|line| format!("{line}\n")).collect::<String>();
    [log.into_bytes(), std::fs::read(stdout).unwrap()].concat()
}

/// Starts the program with every secret there is, and `more`, at the most talkative level.
async fn start(origin: &Origin, redis_url: &str, access: bool, more: &[(&str, String)], stdout: &Path) -> Program {
    let toml = format!("[log]\nlevel = \"trace\"\naccess = {access}\n{ROUTES}");
    Program::start_from(origin, &toml, |mut command| {
        command.env("REDIS_URL", redis_url).env("ADMIN_TOKEN", ADMIN_TOKEN).env("CACHE_SECRET", CACHE_SECRET);
        command.envs(more.iter().map(|(name, value)| (name, value)));
        command.env("SIDECACHE_REDIS_BUDGET", "2s").stdout(File::create(stdout).unwrap());
        command
    })
    .await
}

async fn redis_with_account() -> (RedisServer, String) {
    let redis = RedisServer::start().await;
    redis.run::<()>(&format!("ACL SETUSER app on >{REDIS_PASSWORD} ~* &* +@all")).await;
    let url = format!("redis://app:{REDIS_PASSWORD}@{}/0", redis.address());
    (redis, url)
}

async fn nothing_comes_out(more: &[(&str, String)], access: bool, query: &str, but: &[&str]) {
    let (redis, url) = redis_with_account().await;
    let (origin, directory) = (Origin::start().await, tempfile::tempdir().unwrap());
    let stdout = directory.path().join("stdout");
    answers(&origin);
    let program = start(&origin, &url, access, more, &stdout).await;
    program.says("redis_connected", 1).await;
    ask_for_everything(&program, query).await;
    eventually("Redis has responses", async || redis.keys().await.len() >= 4).await;
    ask_for_everything(&program, query).await;
    holds_none("Redis", &redis.everything().await, but);
    holds_none("what operators get", &ask_as_operator(&program).await, &[]);
    ask_for_everything(&program, query).await;
    // URLs and tags: who has the keys alone can read them. The records of purges: who has the secret.
    eventually("the purges are noted", async || redis.all_keys().await.iter().any(|key| key.ends_with(":2.purges"))).await;
    let everything = String::from_utf8_lossy(&redis.everything().await).into_owned();
    for personal in ["/me/1", "me:1"] {
        assert_eq!(everything.contains(personal), more.is_empty(), "{personal}");
    }
    assert!(!everything.contains("took_ms"));

    // A Redis that damages what it has, forbids something, and goes; an origin that is gone.
    for key in redis.keys().await {
        redis.plant(&key, b"SCdamaged").await;
    }
    ask_for_everything(&program, query).await;
    redis.run::<()>("ACL SETUSER app -set").await;
    ask_for_everything(&program, query).await;
    redis.run::<()>(&format!("ACL SETUSER app +set <{REDIS_PASSWORD} >another")).await;
    redis.run::<()>("CLIENT KILL TYPE normal SKIPME yes").await;
    program.says("redis_connection_failed", 1).await;
    redis.kill();
    ask_for_everything(&program, query).await;
    program
        .configure(&format!("[admin]\ntokn = \"{WRONG_TOKEN}\"\n[redis]\nurll = \"redis://app:{WRONG_PASSWORD}@h\"\n{ROUTES}"));
    program.signal("-HUP");
    program.says("configuration_wrong", 1).await;
    holds_none("what operators get", &ask_as_operator(&program).await, &[]);
    program.signal("-TERM");
    assert_eq!(program.code().await, Some(0));
    program.says("stopped", 1).await;
    let said = said(&program, &stdout);
    assert!(String::from_utf8_lossy(&said).contains("\"TRACE\""), "it is as talkative as it can be");
    holds_none("log", &said, &[]);
}

#[tokio::test]
async fn no_secret_comes_out_nor_lies_in_redis_where_values_carry_a_code() {
    // With the access log, which has URLs in it, and so what is secret in a URL.
    nothing_comes_out(&[], true, "", &[]).await;
}

#[tokio::test]
async fn where_values_are_sealed_what_is_secret_in_a_url_is_secret_too() {
    let keys = format!("k1:{},k2:{}", KEYS[0], KEYS[1]);
    nothing_comes_out(&[("SIDECACHE_REDIS_ENCRYPTION_KEYS", keys)], false, &format!("?token={QUERY}"), &[]).await;
}

#[tokio::test]
async fn without_redis_and_without_an_origin_nothing_comes_out_either() {
    let (redis, url) = redis_with_account().await;
    let origin = Origin::elsewhere(&format!("http://127.0.0.1:{}", free_port()).parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let stdout = directory.path().join("stdout");
    let program = start(&origin, &url.replace(REDIS_PASSWORD, WRONG_PASSWORD), true, &[], &stdout).await;
    program.says("redis_connection_failed", 1).await;
    ask_for_everything(&program, "").await;
    holds_none("what operators get", &ask_as_operator(&program).await, &[]);
    holds_none("Redis", &redis.everything().await, &[]);
    let log = said(&program, &stdout);
    assert!(String::from_utf8_lossy(&log).contains("WRONGPASS"));
    holds_none("log", &log, &[]);
}

#[test]
fn what_is_wrong_in_a_configuration_is_said_without_its_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let keys = KEYS.map(|key| format!("  \"k:{key}\",\n")).concat();
    let right = format!(
        "[redis]\nurl = \"redis://app:{REDIS_PASSWORD}@h\"\n[redis.encryption]\nkeys = [\n{}]\n[admin]\ntoken = \"{ADMIN_TOKEN}\"\n\
         [cache]\nsecret = \"{CACHE_SECRET}\"\n{ROUTES}",
        keys.replacen("k:", "k1:", 1)
    );
    let wrong = [
        right.clone(),
        right.replace("k1:", "k:"),
        right.replace("keys = [", "keys = "),
        right.replace("\",\n]", "\",\n"),
        right.replace("k1:", ""),
        right.replace("token = ", "tokn = "),
        right.replace("[cache]", "[cahce]"),
        right.replace("redis://", "redis//"),
        right.replace("[cache]\nsecret", "[cache]\nttl = \"never\"\nsecret"),
    ];
    for toml in wrong {
        std::fs::write(directory.path().join("proxy.toml"), &toml).unwrap();
        for arguments in
            [&["check"][..], &["serve", "--redis-url", "redis//x:planted-wrong-password@h"], &["stats"], &["purges"], &["health"]]
        {
            let output = command(directory.path()).args(arguments).env("RUST_LOG", "trace").output().unwrap();
            assert!(arguments == ["check"] || !output.status.success(), "{arguments:?}");
            let said = [output.stdout, output.stderr].concat();
            holds_none(&format!("{arguments:?} of\n{toml}\n"), &said, &[]);
        }
    }
}
