//! A Redis that is reached over TLS: whom the program trusts, and what it shows of itself.

use super::program::{Program, command};
use super::world::{Certified, Origin, RedisServer, eventually, free_port};
use tempfile::TempDir;

/// A Redis that is also there over TLS, as `localhost`, on this port.
async fn with_tls(certified: &Certified, port: u16, more: &[&str]) -> RedisServer {
    let files = [("cert", &certified.certificate), ("key", &certified.key), ("ca-cert", &certified.authority)];
    let files = files.into_iter().flat_map(|(name, file)| [format!("--tls-{name}-file"), file.display().to_string()]);
    let arguments = ["--tls-port".to_owned(), port.to_string()];
    RedisServer::start_with(arguments.into_iter().chain(files).chain(more.iter().map(|&word| word.to_owned()))).await
}

/// A cluster of one node, in the same way.
async fn cluster_with_tls(certified: &Certified, port: u16, more: &[&str]) -> RedisServer {
    let bus = free_port().to_string();
    let named = ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"];
    let of_a_cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", &bus];
    let redis = with_tls(certified, port, &[&of_a_cluster[..], &named, more].concat()).await;
    redis.run::<()>("CLUSTER ADDSLOTSRANGE 0 16383").await;
    eventually("all slots have a master", async || redis.run::<String>("CLUSTER INFO").await.contains("cluster_state:ok")).await;
    redis
}

/// Waits until what it answers is stored in this Redis.
async fn is_used(redis: &RedisServer, program: &Program) {
    program.says("redis_connected", 1).await;
    // The log tells of the connection a moment before everything is heard over it.
    eventually("it is stored", async || {
        let got = program.client().get("/a").await;
        got.fields["cache-status"].to_str().unwrap().contains("stored")
    })
    .await;
    redis.keys_become(1).await;
}

/// Whoever trusts its authority uses this Redis, and nobody else.
async fn is_used_if_trusted(redis: &RedisServer, url: &str, certified: &Certified) {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let toml = format!("[redis]\nurl = \"{url}\"\nbudget = \"1s\"");
    let authority = certified.authority.display().to_string();
    let program = Program::start_with(&origin, &toml, &[("SSL_CERT_FILE", &authority)]).await;
    is_used(redis, &program).await;

    let program = Program::start(&origin, &toml).await;
    program.says("redis_connection_failed", 1).await;
    program.client().get("/a").await.is("one").does_not_say("hit");
}

#[tokio::test]
async fn redis_is_reached_over_tls_if_the_system_trusts_it() {
    let directory = tempfile::tempdir().unwrap();
    let certified = Certified::new("localhost", directory.path());
    let port = free_port();
    let redis = with_tls(&certified, port, &["--tls-auth-clients", "no"]).await;
    is_used_if_trusted(&redis, &format!("rediss://localhost:{port}/0"), &certified).await;
}

#[tokio::test]
async fn so_is_a_cluster_whose_nodes_say_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let certified = Certified::new("localhost", directory.path());
    let port = free_port();
    let redis = cluster_with_tls(&certified, port, &["--tls-auth-clients", "no"]).await;
    is_used_if_trusted(&redis, &format!("rediss+cluster://localhost:{port}"), &certified).await;
}

/// What `[redis]` says of this URL and these files.
fn toml(url: &str, authority: &Certified, shown: Option<&Certified>) -> String {
    let mut toml = format!("[redis]\nurl = \"{url}\"\nbudget = \"1s\"\nca_file = \"{}\"\n", authority.authority.display());
    if let Some(Certified { certificate, key, .. }) = shown {
        let (certificate, key) = (certificate.display(), key.display());
        toml += &format!("client_certificate_file = \"{certificate}\"\nclient_key_file = \"{key}\"\n");
    }
    toml
}

fn certified() -> (TempDir, Certified) {
    let directory = tempfile::tempdir().unwrap();
    let certified = Certified::new("localhost", directory.path());
    (directory, certified)
}

#[tokio::test]
async fn a_redis_with_an_authority_of_its_own_asks_for_a_certificate_and_is_shown_one() {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    for is_cluster in [false, true] {
        let ((_own, own), port) = (certified(), free_port());
        // As it is by default: who shows no certificate of the authority is sent away.
        let (redis, scheme) = match is_cluster {
            false => (with_tls(&own, port, &[]).await, "rediss"),
            true => (cluster_with_tls(&own, port, &[]).await, "rediss+cluster"),
        };
        let url = format!("{scheme}://localhost:{port}");
        let program = Program::start(&origin, &toml(&url, &own, None)).await;
        program.says("redis_connection_failed", 1).await;
        let error = program.said("redis_connection_failed")[0]["error"].to_string();
        // With TLS 1.3, it is told after the handshake, and may be missed by who writes his first command at that moment.
        assert!(["CertificateRequired", "broken pipe", "reset"].iter().any(|why| error.contains(why)), "{error}");
        program.client().get("/a").await.is("one").does_not_say("stored");

        let program = Program::start(&origin, &toml(&url, &own, Some(&own))).await;
        is_used(&redis, &program).await;
    }
}

#[tokio::test]
async fn files_that_change_are_read_anew_when_redis_is_connected_to() {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let ((_own, own), (_other, other), (_used, used), port) = (certified(), certified(), certified(), free_port());
    let redis = with_tls(&own, port, &[]).await;
    let program = Program::start(&origin, &toml(&format!("rediss://localhost:{port}"), &used, Some(&used))).await;
    // The log tells of each reason once.
    let tells = async |message: &str, why: &str| {
        let has_why = || program.said(message).last().is_some_and(|line| line["error"].as_str().unwrap().contains(why));
        eventually(why, async || has_why()).await;
    };
    tells("redis_connection_failed", "BadSignature").await;
    std::fs::write(&used.key, "junk").unwrap();
    tells("redis_still_unreachable", &format!("[redis] client_key_file: {}: ", used.key.display())).await;
    std::fs::copy(&other.key, &used.key).unwrap();
    tells("redis_still_unreachable", &format!("it is not the key of the certificate in {}", used.certificate.display())).await;
    std::fs::remove_file(&used.authority).unwrap();
    tells("redis_still_unreachable", &format!("[redis] ca_file: {}: ", used.authority.display())).await;
    own.replace(&used);
    is_used(&redis, &program).await;
    assert_eq!((program.said("redis_connection_failed").len(), program.said("redis_still_unreachable").len()), (1, 3));
}

#[test]
fn check_and_serve_say_which_of_the_files_is_of_no_use() {
    let ((_own, own), (_other, other)) = (certified(), certified());
    let directory = tempfile::tempdir().unwrap();
    let complaints = |url: &str| {
        std::fs::write(directory.path().join("proxy.toml"), toml(url, &own, Some(&own))).unwrap();
        ["check", "serve"].map(|verb| {
            let output = command(directory.path()).arg(verb).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{verb}");
            String::from_utf8(output.stderr).unwrap()
        })
    };
    let wrong = [
        (&own.authority, "ca_file", "there is no certificate in it"),
        (&own.certificate, "client_certificate_file", "there is no certificate in it"),
        (&own.key, "client_key_file", "there is no key in it that can be used"),
    ];
    for url in ["rediss://localhost:1", "rediss+sentinel://localhost:1/mymaster", "rediss+cluster://localhost:1"] {
        for (file, key, why) in wrong {
            let before = std::fs::read(file).unwrap();
            std::fs::write(file, "junk").unwrap();
            for complaint in complaints(url) {
                assert!(complaint.contains(&format!("[redis] {key}: {}: {why}", file.display())), "{complaint}");
            }
            std::fs::write(file, before).unwrap();
        }
    }
    for (key, why) in
        [("-----BEGIN ENCRYPTED PRIVATE KEY-----", "it is encrypted"), ("-----BEGIN CERTIFICATE-----", "there is no key in it")]
    {
        std::fs::write(&own.key, key).unwrap();
        for complaint in complaints("rediss://localhost:1") {
            assert!(complaint.contains("[redis] client_key_file") && complaint.contains(why), "{complaint}");
        }
    }
    std::fs::copy(&other.key, &own.key).unwrap();
    for complaint in complaints("rediss://localhost:1") {
        assert!(
            complaint.contains("[redis] client_key_file") && complaint.contains("it is not the key of the certificate in"),
            "{complaint}"
        );
    }
    // Who has no TLS has no use for them.
    std::fs::write(directory.path().join("proxy.toml"), toml("redis://localhost:1", &own, Some(&own))).unwrap();
    let output = command(directory.path()).arg("check").output().unwrap();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("no effect without rediss"),
        "{output:?}"
    );
}
