//! Tokens of a running program: their files, and the record of what was done with them.

use super::program::Program;
use super::world::{Client, Issuer, Origin, eventually};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

fn toml(file: &std::path::Path) -> String {
    format!("[[admin.tokens]]\nname = \"deploy\"\nrole = \"purge\"\ntoken_file = \"{}\"", file.display())
}

async fn purge(program: &Program, token: &str) -> u16 {
    let ask = Client::of(program.admin_address).ask("POST", "/admin/cache/purge");
    ask.with("authorization", &format!("Bearer {token}")).body(r#"{"all":true}"#).await.status.as_u16()
}

#[tokio::test]
async fn a_token_file_that_has_changed_is_taken_over_by_itself() {
    let origin = Origin::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let write = |text: &str| {
        std::fs::write(directory.path().join("new"), text).unwrap();
        std::fs::rename(directory.path().join("new"), &file).unwrap();
    };
    write("the-first-random-text\n");
    let program = Program::start(&origin, &toml(&file)).await;
    assert_eq!(purge(&program, "the-first-random-text").await, 200);
    write("another-random-text\n");
    program.says("reloaded", 1).await;
    assert_eq!((purge(&program, "the-first-random-text").await, purge(&program, "another-random-text").await), (401, 200));
    // An empty one takes nothing away, and is told.
    write("");
    program.says("reload_refused", 1).await;
    assert!(program.said("configuration_wrong")[0]["problem"].as_str().unwrap().contains("is empty"));
    assert_eq!(purge(&program, "another-random-text").await, 200);
}

/// Puts a file in its place all at once, as who cares about readers does.
fn replace(file: &std::path::Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn the_keys_that_tokens_are_verified_with_are_exchanged() {
    let origin = Origin::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    let (first, second) = (Issuer::new("k"), Issuer::new("k"));
    let ends = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600;
    let mut number = 0;
    let mut token = |issuer: &Issuer, sub: &str| {
        number += 1;
        issuer.token(&json!({ "sub": sub, "exp": ends, "jti": number }))
    };
    replace(&file, &first.jwks());
    let route = "[[route]]\nmatch = \"/mine/{id}\"\nttl = \"1m\"\nshare = \"per-credential\"\nidentity = [\"jwt:sub\"]";
    let program = Program::start(&origin, &format!("[identity]\njwks_file = \"{}\"\n{route}", file.display())).await;
    let client = program.client();
    let get = async |token: String| client.get("/mine/a").with("authorization", &token).await;

    origin.has("/mine/a", "for alice");
    get(token(&first, "alice")).await.is("for alice").says("stored");
    get(token(&first, "alice")).await.is("for alice").hit("memory");
    origin.has("/mine/a", "for nobody");
    // Nothing is believed that another has signed.
    get(token(&second, "alice")).await.is("for nobody");

    replace(&file, &second.jwks());
    program.signal("-HUP");
    program.says("reloaded", 1).await;
    // Of the first one nothing is believed any more; who shows a token of the second has what was stored for the same person.
    origin.has("/mine/a", "for nobody any more");
    get(token(&first, "alice")).await.is("for nobody any more");
    get(token(&second, "alice")).await.is("for alice").hit("memory");
    get(token(&second, "bob")).await.is("for nobody any more").says("stored");

    // What are no keys changes nothing, and is told.
    replace(&file, "{\"keys\": [");
    program.signal("-HUP");
    program.says("reload_refused", 1).await;
    get(token(&second, "alice")).await.is("for alice").hit("memory");
    // A file that has changed is also noticed without a signal.
    replace(&file, &first.jwks());
    eventually("tokens of the first one hold again", async || get(token(&first, "alice")).await.text() == "for alice").await;
    get(token(&second, "alice")).await.is("for nobody any more");
}

#[tokio::test]
async fn each_change_is_a_line_of_the_record_and_so_are_refused_attempts() {
    let origin = Origin::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "the-first-random-text").unwrap();
    let program =
        Program::start(&origin, &format!("{}\n[log]\nlevel = \"warn,sidecache::audit=info,sidecache::cli=info\"", toml(&file)))
            .await;
    assert_eq!(purge(&program, "the-first-random-text").await, 200);
    program.says("purged", 1).await;
    let line = program.said("purged").remove(0);
    for (field, value) in
        [("target", "sidecache::audit"), ("by", "deploy"), ("role", "purge"), ("from", "127.0.0.1"), ("scopes", "everything")]
    {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!(line["status"], 200, "{line}");

    for _ in 0..20 {
        assert_eq!(purge(&program, "a-wrong-random-text").await, 401);
    }
    program.says("admin_refused", 1).await;
    let line = program.said("admin_refused").remove(0);
    for (field, value) in [
        ("level", "WARN"),
        ("target", "sidecache::audit"),
        ("method", "POST"),
        ("path", "/admin/cache/purge"),
        ("from", "127.0.0.1"),
        ("why", "a token is needed here"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    eventually("those that were not told of are counted", async || {
        purge(&program, "a-wrong-random-text").await;
        let unsaid = |line: &serde_json::Value| line["unsaid"].as_u64().unwrap();
        program.said("admin_refused").iter().any(|line| unsaid(line) > 0)
    })
    .await;
    let log = format!("{:?}", program.log.lock().unwrap());
    assert!(!log.contains("random-text"), "a token is in the log");
}
