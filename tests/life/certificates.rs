//! Certificates of a running program: exchanged while connections are open and requests come.

use super::program::{Program, command};
use super::world::{Certified, Origin, Reply, SecureClient, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

fn certified() -> (TempDir, Certified) {
    let directory = tempfile::tempdir().unwrap();
    let certified = Certified::new("localhost", directory.path());
    (directory, certified)
}

fn toml(section: &str, files: &Certified) -> String {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    format!("[{section}.tls]\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"")
}

/// Clients, each with a request after the other on one connection, and a new connection now and then.
fn load(program: &Program, client: SecureClient) -> (Arc<AtomicUsize>, Vec<tokio::task::JoinHandle<()>>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let address = program.address;
    let task = |_| {
        let (client, answered) = (client.clone(), answered.clone());
        tokio::spawn(async move {
            loop {
                let mut connection = client.connect(address).await.expect("one certificate or the other is shown");
                for _ in 0..20 {
                    connection.get("/a").await.expect("it is answered").status(200).is("one");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let tasks = (0..3).map(task).collect();
    (answered, tasks)
}

#[tokio::test]
async fn certificates_are_exchanged_while_connections_live_and_under_load() {
    let origin = Origin::start().await;
    origin.reply("/a", Reply::new("one"));
    let (_first, first) = certified();
    let (_second, second) = certified();
    let (_used, used) = certified();
    first.replace(&used);
    let program = Program::start(&origin, &toml("server", &used)).await;
    let clients = [first.client(), second.client()];
    let mut living = clients[0].connect(program.address).await.unwrap();
    living.get("/a").await.unwrap().is("one");
    assert!(clients[1].connect(program.address).await.is_err());

    let (answered, tasks) = load(&program, first.client().trusting(&second));
    for round in 0..2 {
        // Found out by looking at the files, and then told.
        let (next, said) = [(&second, 1), (&first, 2)][round];
        next.replace(&used);
        if round == 1 {
            program.signal("-HUP");
        }
        eventually("the new one is shown", async || next.client().connect(program.address).await.is_ok()).await;
        program.says("reloaded", said).await;
        living.get("/a").await.unwrap().is("one");
        let before = answered.load(Ordering::Relaxed);
        eventually("requests go on", async || answered.load(Ordering::Relaxed) >= before + 100).await;
    }
    for task in tasks {
        assert!(!task.is_finished(), "a request failed");
        task.abort();
    }
}

#[tokio::test]
async fn a_broken_certificate_changes_nothing_and_is_told_once() {
    let origin = Origin::start().await;
    origin.reply("/a", Reply::new("one"));
    for section in ["server", "admin"] {
        let (_directory, used) = certified();
        let (_elsewhere, other) = certified();
        let program = Program::start(&origin, &toml(section, &used)).await;
        let address = if section == "server" { program.address } else { program.admin_address };
        let answers = async || used.client().get(address, "/healthz").await.is_ok();
        assert!(answers().await);
        std::fs::copy(&other.key, &used.key).unwrap();
        program.says("reload_refused", 1).await;
        let wrong = program.said("configuration_wrong");
        let problem = wrong[0]["problem"].as_str().unwrap();
        assert!(problem.starts_with(&format!("[{section}.tls] key_file {}", used.key.display())), "{problem}");
        assert!(answers().await, "it goes on with what it had");
        // Nothing has changed since, so there is nothing more to tell; another change is.
        other.replace(&used);
        program.says("reloaded", 1).await;
        assert_eq!((program.said("configuration_wrong").len(), program.said("reload_refused").len()), (1, 1));
        assert!(other.client().get(address, "/healthz").await.is_ok());
    }
}

#[tokio::test]
async fn a_certificate_that_is_shown_to_the_origin_is_exchanged_too() {
    let (_own, own) = certified();
    let (_first, first) = certified();
    let (_second, second) = certified();
    let (_used, used) = certified();
    first.replace(&used);
    // Only the second one is accepted there.
    let origin = Origin::tls(own.demanding(&second.authority)).await;
    let (certificate, key, authority) = (used.certificate.display(), used.key.display(), own.authority.display());
    let toml =
        format!("[origin]\nca_file = \"{authority}\"\nclient_certificate_file = \"{certificate}\"\nclient_key_file = \"{key}\"");
    origin.reply("/a", "one");
    let program = Program::start(&origin, &toml).await;
    program.client().get("/a").await.status(502);
    second.replace(&used);
    program.says("reloaded", 1).await;
    program.client().get("/a").await.status(200).is("one");
    // What cannot be used changes nothing.
    std::fs::write(&used.key, "junk").unwrap();
    program.says("reload_refused", 1).await;
    program.client().get("/a?again").await.status(200).is("one");
}

/// Runs a command with these flags before it, without holding up the origin and the program.
async fn asked(flags: &[String], arguments: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.args(flags).args(arguments).stdin(std::process::Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
}

/// What the configuration says of the admin listener, as flags.
fn flags(program: &Program, files: &Certified, client_ca: Option<&Certified>) -> Vec<String> {
    let set = |key: &str, file: &std::path::Path| ["--set".to_owned(), format!("admin.tls.{key}={}", file.display())];
    let mut flags = vec!["--admin-listen".to_owned(), program.admin_address.to_string()];
    flags.extend(set("certificate_file", &files.certificate).into_iter().chain(set("key_file", &files.key)));
    flags.extend(client_ca.into_iter().flat_map(|client| set("client_ca_file", &client.authority)));
    flags
}

#[tokio::test]
async fn the_command_line_reaches_an_admin_listener_over_tls() {
    let origin = Origin::start().await;
    let (_own, own) = certified();
    let (_other, other) = certified();
    let program = Program::start(&origin, &toml("admin", &own)).await;
    // Where the configuration says, it is known by its very certificate.
    let of_own = flags(&program, &own, None);
    for arguments in [&["health"][..], &["health", "--ready"], &["stats"], &["purge", "--all"]] {
        let (code, said) = asked(&of_own, arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }
    for arguments in [["health"], ["stats"]] {
        let (code, said) = asked(&flags(&program, &other, None), &arguments).await;
        assert!(code == Some(1) && said.contains("another certificate"), "{arguments:?}: {said}");
    }
    // At a URL, by an authority.
    let port = program.admin_address.port();
    let (url, elsewhere) = (format!("https://localhost:{port}"), format!("https://127.0.0.1:{port}"));
    let authority = own.authority.to_str().unwrap();
    let (code, said) = asked(&[], &["stats", "--admin", &url, "--ca-file", authority]).await;
    assert!(code == Some(0) && said.contains("hit_rate"), "{said}");
    let (code, said) = asked(&[], &["health", "--url", &url, "--ca-file", authority]).await;
    assert_eq!(code, Some(0), "{said}");
    for (url, further) in [(&url, &[][..]), (&elsewhere, &["--ca-file", authority])] {
        let (code, said) = asked(&[], &[&["stats", "--admin", url], further].concat()).await;
        assert!(code == Some(1) && said.contains("invalid peer certificate"), "{said}");
    }
    let (code, said) = asked(&[], &["stats", "--admin", &format!("http://localhost:{port}")]).await;
    assert!(code == Some(1) && said.contains("is sidecache there?"), "{said}");
    let (code, said) = asked(&[], &["stats", "--admin", &url, "--ca-file", "/nowhere.pem"]).await;
    assert!(code == Some(1) && said.contains("/nowhere.pem"), "{said}");
}

#[tokio::test]
async fn the_command_line_shows_a_certificate_where_one_is_asked_for() {
    let origin = Origin::start().await;
    let (_own, own) = certified();
    let (_client, client) = certified();
    let program =
        Program::start(&origin, &format!("{}\nclient_ca_file = \"{}\"", toml("admin", &own), client.authority.display())).await;
    let own_flags = flags(&program, &own, Some(&client));
    let shown = ["--client-certificate", client.certificate.to_str().unwrap(), "--client-key", client.key.to_str().unwrap()];
    for arguments in [["health"], ["stats"]] {
        let (code, said) = asked(&own_flags, &[&arguments[..], &shown].concat()).await;
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = asked(&own_flags, &arguments).await;
        assert!(code == Some(1) && said.contains("[admin.tls] client_ca_file asks for certificates"), "{said}");
        // Who does not know that it is asked for one learns it from the listener.
        let (code, said) = asked(&flags(&program, &own, None), &arguments).await;
        assert!(code == Some(1) && said.contains("CertificateRequired"), "{said}");
    }
}

#[test]
fn check_reads_certificates_as_serve_does() {
    let (directory, used) = certified();
    let check = |toml: &str| {
        let file = directory.path().join("proxy.toml");
        std::fs::write(file, toml).unwrap();
        let output = command(directory.path()).arg("check").output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let route = "[[route]]\nmatch = \"/\"\n";
    let (code, said, complaint) = check(&format!("{}\n{route}", toml("server", &used)));
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    assert!(said.contains("0.0.0.0:8080, TLS\n"), "{said}");
    std::fs::write(&used.certificate, "junk").unwrap();
    let (code, _, complaint) = check(&format!("{}\n{route}", toml("admin", &used)));
    assert_eq!(code, Some(1));
    assert!(
        complaint.contains("[admin.tls] certificate_file") && complaint.contains("there is no certificate in it"),
        "{complaint}"
    );
    // All that is wrong is told at once.
    let keys = "[identity]\njwks_file = \"none.json\"\n[origin]\nurl = \"https://localhost:1\"\nca_file = \"none.pem\"";
    let (code, _, complaint) = check(&format!("{}\n{}\n{keys}\n{route}", toml("admin", &used), toml("server", &used)));
    assert_eq!(code, Some(1));
    for wrong in ["[admin.tls]", "[server.tls]", "[origin]", "none.pem", "[identity] jwks_file"] {
        assert!(complaint.contains(wrong), "{wrong}: {complaint}");
    }
}
