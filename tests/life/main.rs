//! The program itself: how it starts, stops, checks and logs.

#[path = "../world/mod.rs"]
mod world;

mod certificates;
mod descriptors;
mod draining;
mod program;
mod redis_tls;
mod reload;
mod replacing;
mod secrets;
mod tokens;

use program::{Program, command, run};
use serde_json::Value;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Instant;
use world::{Client, Gate, Origin, RawClient, RedisServer, Reply, eventually, free_port, secs};

#[tokio::test]
async fn at_sigterm_what_is_in_flight_ends_whole_and_the_code_is_0() {
    let origin = Origin::start().await;
    let program = Program::start(&origin, "").await;
    let (reply, sending) = Reply::sending();
    origin.reply("/past/a", reply);
    let gate = Gate::closed();
    origin.reply("/b", Reply::new("late").behind(&gate));
    origin.reply("/past/b", Reply::new("late").behind(&gate));
    let mut streaming = program.client().get("/past/a").streaming().await;
    sending.send("one");
    assert_eq!(streaming.next().await, "one");
    let waiting = [program.client().get("/b").spawn(), Client::http2(program.address).get("/past/b").spawn()];
    origin.arrived("/b", 1).await;
    origin.arrived("/past/b", 1).await;
    let mut idle = RawClient::connect(program.address).await;
    idle.ask("GET /past/c HTTP/1.1\r\nHost: h\r\n\r\n").await;

    program.signal("-TERM");
    program.says("draining", 1).await;
    eventually("nothing is accepted any more", async || tokio::net::TcpStream::connect(program.address).await.is_err()).await;
    // An idle connection is closed and holds nothing up.
    idle.rest().await;
    sending.send("two");
    assert_eq!(streaming.next().await, "two");
    drop(sending);
    streaming.whole().await.is("");
    gate.open();
    for got in waiting {
        got.await.unwrap().status(200).is("late");
    }
    assert_eq!(program.code().await, Some(0));
    program.says("stopped", 1).await;
}

#[tokio::test]
async fn while_it_drains_operators_are_answered_and_told_so() {
    let origin = Origin::start().await;
    let program = Program::start(&origin, "").await;
    let gate = Gate::closed();
    origin.reply("/a", Reply::new("late").behind(&gate));
    let waiting = program.client().get("/a").spawn();
    origin.arrived("/a", 1).await;
    let operators = Client::of(program.admin_address);
    operators.get("/readyz").await.status(200);
    program.signal("-TERM");
    eventually("it says so", async || operators.get("/readyz").await.status == 503).await;
    // Over the connection that is open, and over new ones.
    for client in [operators, Client::of(program.admin_address)] {
        client.get("/readyz").await.status(503).is("draining\n");
        client.get("/healthz").await.status(200);
        client.get("/metrics").await.status(200);
    }
    gate.open();
    waiting.await.unwrap().is("late");
    assert_eq!(program.code().await, Some(0));
}

#[test]
fn authorities_that_cannot_be_read_are_told_by_check_as_by_serve() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("junk.pem"), "no certificate\n").unwrap();
    for (file, part) in [("none.pem", "No such file"), ("junk.pem", "there is no certificate in it")] {
        for subcommand in ["check", "serve"] {
            let set = format!("origin.ca_file={}", directory.path().join(file).display());
            let arguments = [subcommand, "--origin", "https://localhost:1", "--listen", "127.0.0.1:0", "--set", &set];
            let output = run(&[&arguments[..], &["--admin-listen", "off"]].concat());
            assert_eq!(output.status.code(), Some(1), "{subcommand} {file}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(part) && said.contains(file), "{subcommand}: {said}");
        }
    }
}

#[tokio::test]
async fn with_nothing_in_flight_sigterm_and_sigint_end_it_at_once() {
    let origin = Origin::start().await;
    for signal in ["-TERM", "-INT"] {
        let program = Program::start(&origin, "").await;
        let begun = Instant::now();
        program.signal(signal);
        assert_eq!(program.code().await, Some(0));
        assert!(begun.elapsed() < secs(5), "it took {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let origin = Origin::start().await;
    let program = Program::start(&origin, "[server]\ndrain_timeout = \"200ms\"").await;
    origin.reply("/a", Reply::new("never").behind(&Gate::closed()));
    let mut client = RawClient::connect(program.address).await;
    client.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    origin.arrived("/a", 1).await;
    program.signal("-TERM");
    assert_eq!(program.code().await, Some(1), "something was cut");
    program.says("stopped_with_work_left", 1).await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let origin = Origin::start().await;
    let program = Program::start(&origin, "").await;
    origin.reply("/a", Reply::new("never").behind(&Gate::closed()));
    let mut client = RawClient::connect(program.address).await;
    client.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    origin.arrived("/a", 1).await;
    program.signal("-TERM");
    program.says("draining", 1).await;
    program.signal("-TERM");
    assert_ne!(program.code().await, Some(0));
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listen, admin) in [(address.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", address.as_str())] {
        let output = run(&["--listen", listen, "--admin-listen", admin]);
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 1, "{said}");
        assert!(lines[0].contains(&address) && lines[0].contains("in use"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn check_says_whether_a_configuration_is_right() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("my.toml");
    let check = |toml: &str| {
        std::fs::write(&file, toml).unwrap();
        let output = command(directory.path()).args(["check", "my.toml"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, complaint) = check("[[route]]\nmatch = \"/a/{id}\"\nttl = \"1h\"\n");
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    assert!(said.contains("/a/{id}"), "{said}");

    let (code, _, complaint) = check("[server]\nlisten = true\nno_such_key = 1\n[redis]\nbudget = \"soon\"\n");
    assert_eq!(code, Some(1));
    for part in ["my.toml", "no_such_key", "budget", "listen", "3 problems"] {
        assert!(complaint.contains(part), "{part} is not in {complaint}");
    }
}

#[tokio::test]
async fn check_tells_what_was_seen_that_speaks_against_sharing_with_everyone() {
    let origin = Origin::start().await;
    let route = "[[route]]\nname = \"shared\"\nmatch = \"/shared/{id}\"\nttl = \"1m\"\nshare = \"everyone\"";
    let program = Program::start(&origin, route).await;
    let check = || {
        let arguments = ["check", "--admin-listen", &program.admin_address.to_string()];
        let output = command(program.directory()).args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    origin.has("/shared/1", Reply::new("one"));
    program.client().get("/shared/1").await.is("one");
    assert!(!check().contains("were private"));
    origin.has("/shared/2", Reply::new("two").cache("private"));
    origin.has("/shared/3", Reply::new("three").with("set-cookie", "id=3"));
    for path in ["/shared/2", "/shared/3"] {
        program.client().get(path).await.does_not_say("stored");
    }
    let said = check();
    assert!(said.contains("warning: route \"shared\"") && said.contains("2 of its responses"), "{said}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_an_error_of_every_command() {
    for arguments in
        [["check", "--config", "missing.toml"], ["serve", "--config", "missing.toml"], ["health", "--config", "missing.toml"]]
    {
        let output = run(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?} said {said}");
        assert!(!said.is_empty() && !said.contains("panicked"), "{arguments:?} said {said}");
    }
}

#[tokio::test]
async fn health_is_an_exit_code() {
    let origin = Origin::start().await;
    let program = Program::start(&origin, "").await;
    let well = run(&["health", "--admin-listen", &program.admin_address.to_string()]);
    assert!(well.status.success(), "{well:?}");
    let ready = run(&["health", "--ready", "--admin-listen", &program.admin_address.to_string()]);
    assert!(ready.status.success(), "{ready:?}");
    let unwell = run(&["health", "--admin-listen", &format!("127.0.0.1:{}", free_port())]);
    assert_eq!(unwell.status.code(), Some(1));
    assert_eq!(String::from_utf8(unwell.stderr).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn the_log_tells_of_redis_once_a_change() {
    let redis = RedisServer::absent();
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let toml = format!("[redis]\nurl = \"redis://user:hunter2@{}/0\"\nbudget = \"1s\"", redis.address());
    let program = Program::start(&origin, &toml).await;
    program.says("redis_connection_failed", 1).await;
    for _ in 0..3 {
        program.client().get("/a").await.is("one");
    }
    let client = Client::of(program.admin_address);
    let connects = async || -> f64 {
        let text = client.get("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix("sidecache_redis_errors_total{kind=\"connection\"} "));
        line.unwrap().parse().unwrap()
    };
    eventually("it has tried several times", async || connects().await >= 3.0).await;
    let failed = program.said("redis_connection_failed");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["level"], "WARN");
    assert_eq!(failed[0]["fallback"], "pass-through");
    assert!(failed[0]["error"].as_str().is_some_and(|error| !error.is_empty()), "{failed:?}");

    let purge = client.ask("POST", "/admin/cache/purge").body("{\"pattern\": \"*:42\"}");
    purge.await.status(202);
    program.says("purge_failed", 1).await;
    assert!(program.said("purge_failed")[0]["error"].as_str().unwrap().contains("Redis could not be told"));

    redis.restart().await;
    redis.run::<()>("ACL SETUSER user on >hunter2 ~* +@all").await;
    program.says("redis_connected", 1).await;
    redis.kill();
    origin.reply("/b", "two");
    program.client().get("/b").await.is("two");
    program.says("redis_connection_failed", 2).await;
    assert_eq!(program.said("redis_connected").len(), 1);
    let log = format!("{:?}", program.log.lock().unwrap());
    assert!(!log.contains("hunter2"), "the password is in the log");
}

#[tokio::test]
async fn the_log_tells_of_hits_misses_and_requests_if_asked_to() {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let program = Program::start(&origin, "[log]\nlevel = \"info,sidecache=debug\"\naccess = true").await;
    for _ in 0..2 {
        program.client().get("/a?b=c").await.is("one");
    }
    program.says("request", 2).await;
    for (message, number) in [("cache_miss", 1), ("cache_hit", 1), ("request", 2)] {
        assert_eq!(program.said(message).len(), number, "{message}");
    }
    let line = program.said("request").remove(1);
    for (field, value) in
        [("method", "GET"), ("request_target", "/a?b=c"), ("client", "127.0.0.1"), ("route", "/{id}"), ("end", "whole")]
    {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!((&line["status"], &line["octets"]), (&Value::from(200), &Value::from(3)), "{line}");
    assert_eq!(line["cache"], "sidecache; hit; ttl=59; detail=memory", "{line}");
}

#[tokio::test]
async fn the_environment_switches_the_cache_off() {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let program = Program::start_with(&origin, "", &[("ENABLE_CACHE", "false")]).await;
    program.client().get("/a").await.is("one").says("detail=cache-disabled");
}

#[test]
fn it_knows_its_version() {
    let output = run(&["--version"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("sidecache {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn the_command_line_purges_looks_sets_and_shows() {
    let origin = Origin::start().await;
    origin.reply("/a", Reply::new("one"));
    let program = Program::start_with(&origin, "", &[("ADMIN_TOKEN", "t0ken")]).await;
    let admin = format!("http://{}", program.admin_address);
    let asked = async |arguments: &[&str], token: &str| {
        let directory = tempfile::tempdir().unwrap();
        let mut command = command(directory.path());
        command.args(arguments).args(["--admin", &admin]).env("ADMIN_TOKEN", token).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let url = &format!("http://{}/a", program.address);
    assert_eq!(asked(&["entry", "exists", url], "t0ken").await.0, Some(1));
    program.client().get("/a").await.says("stored");
    assert_eq!(asked(&["entry", "exists", url], "t0ken").await.0, Some(0));
    let (code, shown, _) = asked(&["entry", "get", url], "t0ken").await;
    assert!(code == Some(0) && shown.contains("\"tier\": \"memory\""), "{shown}");
    assert_eq!(asked(&["entry", "get", "--body", url], "t0ken").await.1, "one");

    let (code, shown, _) = asked(&["explain", url, "-H", "Accept: text/plain", "-H", "Cookie: s3cret"], "t0ken").await;
    assert!(code == Some(0) && shown.contains("\n  fetch ") && shown.contains("no purge has come"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
    let (code, shown, _) = asked(&["explain", "-X", "POST", "--json", url], "t0ken").await;
    assert!(code == Some(0) && shown.contains("\"verdict\": \"past\""), "{shown}");
    let (code, shown, error) = asked(&["explain", "/a"], "t0ken").await;
    assert!(code == Some(1) && shown.is_empty() && error.contains("the host is a part of the key"), "{error}");
    let (code, _, error) = asked(&["explain", url], "wrong").await;
    assert!(code == Some(1) && error.contains("401"), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    std::fs::write(&file, "set").unwrap();
    let (code, _, error) = asked(&["entry", "set", "--ttl", "5m", url, file.to_str().unwrap()], "t0ken").await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    program.client().get("/a").await.is("set").hit("memory");

    let (code, _, error) = asked(&["purge", "--all"], "wrong").await;
    assert!(code == Some(1) && error.contains("401"), "{error}");
    let (code, shown, _) = asked(&["purge", "--url", "/a", "--wait"], "t0ken").await;
    assert!(code == Some(0) && shown.contains("\"reach\": \"here\"") && !shown.contains("hint"), "{shown}");
    let (code, shown, _) = asked(&["purge", "--url", "/a*"], "t0ken").await;
    assert!(code == Some(0) && shown.contains("`*` stands for itself in a URL"), "{shown}");
    let (code, shown, _) = asked(&["purge", "--pattern", "*:42"], "t0ken").await;
    assert!(code.is_some() && shown.contains("\"job\""), "{code:?} {shown}");
    program.says("purge_ended", 1).await;
    assert_eq!(program.said("purge_ended")[0]["pattern"], "*:42");
    program.client().get("/a").await.is("one").forwarded("uri-miss");
    let (code, shown, error) = asked(&["purge", "--url", "/a", "--refresh"], "t0ken").await;
    assert!(code == Some(0) && shown.contains("refreshing"), "{shown} {error}");
    // Each flag has an effect.
    for flag in ["--soft", "--wait", "--dry-run"] {
        let (code, shown, error) = asked(&["purge", "--url", "/a", "--every-query", flag], "t0ken").await;
        let part = if flag == "--wait" { "replicas" } else { "true" };
        assert!(code == Some(0) && shown.contains(part) && shown.contains("every query"), "{flag} {shown} {error}");
    }
    let (code, _, error) = asked(&["purge", "--all", "--wait-ms", "60001"], "t0ken").await;
    assert!(code == Some(1) && error.contains("60000"), "{error}");
    // Another code than that of wrong arguments: this one is accepted.
    let (code, shown, error) = asked(&["purge", "--pattern", "*:risk"], "t0ken").await;
    assert!(code == Some(3) && shown.contains("job") && error.contains("sidecache jobs"), "{shown} {error}");
    assert!(asked(&["jobs"], "t0ken").await.1.contains("*:risk"));
    assert_eq!(asked(&["entry", "exists", url], "wrong").await.0, Some(2), "nobody knows");
    assert_eq!(asked(&["entry", "get", "--body", url], "wrong").await.0, Some(2), "nobody knows");
    let (code, _, error) = asked(&["purge"], "t0ken").await;
    assert!(code == Some(2) && error.contains("--tag"), "{error}");
    assert!(asked(&["purges"], "t0ken").await.1.contains("url /a"));
    assert!(asked(&["stats"], "t0ken").await.1.contains("hit_rate"));
    let (code, _, error) = asked(&["entry", "delete", "/a"], "t0ken").await;
    assert!(code == Some(1) && error.contains("the host is a part of the key"), "{error}");
}

#[tokio::test]
async fn the_command_line_shows_what_happens_a_second() {
    let origin = Origin::start().await;
    origin.has("/a", Reply::new("one"));
    let program = Program::start(&origin, "").await;
    let admin = format!("http://{}", program.admin_address);
    let asked = async |arguments: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        let mut command = command(directory.path());
        command.arg("top").args(arguments).args(["--admin", &admin]).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (watched, ()) = tokio::join!(asked(&["-n", "3", "--interval", "300ms"]), async {
        for _ in 0..20 {
            program.client().get("/a").await.is("one");
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
    });
    let (code, shown, error) = watched;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with("route=all ")).count(), 3, "{shown}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("route=/{id} ")).count(), 3, "{shown}");
    assert!(lines.iter().any(|line| line.starts_with("route=/{id} ") && line.contains(" hit_rate=100.00 ")), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no terminal is drawn on");

    let (code, shown, _) = asked(&["--once", "-i", "0.1"]).await;
    assert_eq!((code, shown.lines().filter(|line| line.starts_with("route=all ")).count()), (Some(0), 1));
    assert_eq!(asked(&["--interval", "1ms"]).await.0, Some(2));
    let nowhere = run(&["top", "--once", "--admin", &format!("http://127.0.0.1:{}", free_port())]);
    assert_eq!(nowhere.status.code(), Some(1));
}
