//! Another configuration for a running program: by SIGHUP, and when the file has changed.

use super::program::Program;
use super::world::{Client, Gate, Origin, RawClient, Reply, eventually, millis};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A route for one path, before that for all.
fn route(path: &str, rest: &str) -> String {
    format!("[[route]]\nname = \"first\"\nmatch = \"{path}\"\n{rest}\n")
}

#[tokio::test]
async fn at_sighup_rules_and_limits_change_and_what_is_stored_stays() {
    let origin = Origin::start().await;
    let program = Program::start(&origin, &route("/deep/{id}", "ttl = \"1h\"")).await;
    origin.reply("/deep/a", "one");
    origin.reply("/past/b", "two");
    origin.reply("/b", "three");
    let client = program.client();
    client.get("/deep/a").await.forwarded("uri-miss");
    client.get("/past/b").await.says("detail=no-route");
    client.get("/b").await.says("stored");

    program.configure(&format!("[cache]\nenabled = true\n{}", route("/{kind}/{id}", "ttl = \"1h\"\ntags = [\"all\"]")));
    program.signal("-HUP");
    program.says("reloaded", 1).await;
    client.get("/past/b").await.is("two").says("stored");
    client.get("/past/b").await.hit("memory");
    client.get("/b").await.hit("memory");
    // It has other tags now, so what was stored under none must not answer: a purge of the tag would not find it.
    client.get("/deep/a").await.is("one").forwarded("uri-miss");

    program.configure("[cache]\nenabled = false");
    program.signal("-HUP");
    program.says("reloaded", 2).await;
    client.get("/b").await.says("detail=cache-disabled");
    let metrics = Client::of(program.admin_address).get("/metrics").await.text();
    assert!(metrics.contains("sidecache_reloads_total{result=\"done\"} 2"), "{metrics}");
    // What was counted for a route that is gone is still to be seen.
    assert!(metrics.contains("cache_hits_total{cache_type=\"memory\",route=\"first\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_file_that_has_changed_is_taken_over_by_itself() {
    let origin = Origin::start().await;
    origin.reply("/deep/a", "one");
    let program = Program::start(&origin, "").await;
    program.configure(&route("/deep/{id}", "ttl = \"1h\""));
    program.says("reloaded", 1).await;
    program.client().get("/deep/a").await.says("stored");
    assert_eq!(program.said("reloaded").len(), 1, "once is enough");
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_says_line_and_column() {
    let origin = Origin::start().await;
    origin.reply("/deep/a", "one");
    let program = Program::start(&origin, &route("/deep/{id}", "ttl = \"1h\"")).await;
    program.configure("[server]\nkeep_alive_timeout = \"soon\"\n[cache]\nttl = true\n");
    program.signal("-HUP");
    program.says("reload_refused", 1).await;
    let wrong = program.said("configuration_wrong");
    let told: Vec<_> = wrong.iter().map(|line| line["at"].as_str().unwrap()).collect();
    assert_eq!(told, ["proxy.toml:2:22", "proxy.toml:4:7"], "{wrong:?}");
    assert!(wrong[0]["problem"].as_str().unwrap().contains("soon"), "{wrong:?}");
    program.client().get("/deep/a").await.says("stored");
    let metrics = Client::of(program.admin_address).get("/metrics").await.text();
    assert!(metrics.contains("sidecache_reloads_total{result=\"refused\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_file_that_is_gone_does_not_open_what_was_closed() {
    let origin = Origin::start().await;
    origin.reply("/deep/a", "one");
    let program = Program::start(&origin, &format!("[admin]\ntoken = \"secret\"\n{}", route("/deep/{id}", "ttl = \"1h\""))).await;
    assert_eq!(program.said("started")[0]["file"], "proxy.toml");
    std::fs::remove_file(program.directory().join("proxy.toml")).unwrap();
    program.says("reload_refused", 1).await;
    program.signal("-HUP");
    program.says("reload_refused", 2).await;
    let wrong = program.said("configuration_wrong").remove(0);
    assert!(wrong["problem"].as_str().unwrap().contains("cannot be read"), "{wrong}");
    let purge = Client::of(program.admin_address).ask("POST", "/admin/cache/purge").body(r#"{"all":true}"#).await;
    purge.status(401);
    program.client().get("/deep/a").await.says("stored");
    program.configure("");
    program.says("reloaded", 1).await;
}

#[tokio::test]
async fn what_cannot_change_at_run_time_is_said_and_the_rest_changes() {
    let origin = Origin::start().await;
    origin.reply("/deep/a", "one");
    let program = Program::start(&origin, "").await;
    program.configure(&format!("[server]\nworkers = 7\n[redis]\nurl = \"redis://h\"\n{}", route("/deep/{id}", "")));
    program.signal("-HUP");
    program.says("reloaded", 1).await;
    let line = program.said("reloaded").remove(0);
    assert_eq!(
        (line["level"].as_str(), line["needs_restart"].as_str()),
        (Some("WARN"), Some("[server] workers, [redis]")),
        "{line}"
    );
    program.client().get("/deep/a").await.says("stored");
}

#[tokio::test]
async fn another_token_and_other_limits_count_from_the_reload_on() {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let program = Program::start(&origin, "[admin]\ntoken = \"old\"").await;
    let purge = async |token: &str| {
        let ask = Client::of(program.admin_address).ask("POST", "/admin/cache/purge");
        ask.with("authorization", &format!("Bearer {token}")).body(r#"{"all":true}"#).await.status.as_u16()
    };
    assert_eq!((purge("old").await, purge("new").await), (200, 401));
    program.configure("[admin]\ntoken = \"new\"\n[server]\nconnections_max = 2");
    program.signal("-HUP");
    program.says("reloaded", 1).await;
    assert_eq!((purge("old").await, purge("new").await), (401, 200));

    let gate = Gate::closed();
    origin.reply("/b", Reply::new("late").behind(&gate));
    let mut served = [RawClient::connect(program.address).await, RawClient::connect(program.address).await];
    for client in &mut served {
        client.send("GET /b HTTP/1.1\r\nHost: h\r\n\r\n").await;
    }
    origin.arrived("/b", 1).await;
    let mut third = RawClient::connect(program.address).await;
    third.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(tokio::time::timeout(millis(200), third.try_head()).await.is_err(), "it was served beside two others");
    program.configure("[admin]\ntoken = \"new\"\n[server]\nconnections_max = 3");
    program.signal("-HUP");
    program.says("reloaded", 2).await;
    assert!(third.head().await.starts_with("HTTP/1.1 200 "));
    gate.open();
    for client in &mut served {
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn no_request_fails_while_the_configuration_changes() {
    let origin = Origin::start().await;
    (0..50).for_each(|number| origin.reply(&format!("/{number}"), "here"));
    let program = Program::start(&origin, "").await;
    let answered = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, answered) = (program.client(), answered.clone());
            tokio::spawn(async move {
                loop {
                    let number = answered.fetch_add(1, Ordering::Relaxed);
                    client.get(&format!("/{}", number % 50)).await.status(200).is("here");
                }
            })
        })
        .collect();
    for round in 1..=10 {
        program.configure(&format!("[origin]\nfirst_byte_timeout = \"{round}m\"\n{}", route("/x/{id}", "ttl = 3")));
        program.signal("-HUP");
        let before = answered.load(Ordering::Relaxed);
        eventually("it has reloaded", async || program.said("reloaded").len() >= round).await;
        eventually("requests go on", async || answered.load(Ordering::Relaxed) >= before + 100).await;
    }
    for task in load {
        assert!(!task.is_finished(), "a request failed");
        task.abort();
    }
}
