//! Few file descriptors, and many clients.

use super::program::{Program, by_shell};
use super::world::{Client, Origin, RawClient, eventually, secs, soon};
use std::time::Instant;

const REQUEST: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

async fn start(origin: &Origin) -> Program {
    Program::start_from(origin, "", |usual| by_shell("ulimit -n 256", usual)).await
}

#[tokio::test]
async fn with_256_descriptors_a_thousand_clients_are_answered_and_so_are_operators() {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let program = start(&origin).await;
    let scarce = program.said("descriptors_scarce").remove(0);
    assert_eq!((scarce["limit"].as_u64(), scarce["connections_max"].as_u64()), (Some(256), Some(128)), "{scarce}");

    // Each keeps its connection for as long as it may.
    let address = program.address;
    let clients: Vec<_> = (0..1000)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = RawClient::connect(address).await;
                let head = client.ask(REQUEST).await;
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                client
            })
        })
        .collect();
    while clients.iter().any(|client| !client.is_finished()) {
        // Over a new connection each time.
        Client::of(program.admin_address).get("/healthz").await.status(200);
    }
    for client in clients {
        client.await.expect("it was answered");
    }
    assert!(program.said("accept_failed").is_empty());
}

#[tokio::test]
async fn clients_that_hold_all_places_and_ask_nothing_cost_no_time_and_are_no_harm_for_long() {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let program = start(&origin).await;
    let mut holding = Vec::new();
    for _ in 0..1000 {
        holding.push(RawClient::connect(program.address).await);
    }
    let operators = Client::of(program.admin_address);
    eventually("all places are taken", async || {
        operators.get("/metrics").await.text().contains("sidecache_client_connections 129")
    })
    .await;
    let (ticks, begun) = (program.ticks(), Instant::now());
    while begun.elapsed() < secs(1) {
        Client::of(program.admin_address).get("/healthz").await.status(200);
        soon("a moment", tokio::time::sleep(secs(1) / 20)).await;
    }
    let used = program.ticks() - ticks;
    assert!(used < 30, "it used {used} % of a processor");
    // It is not only when they have gone that somebody else is answered.
    let late = RawClient::connect(program.address).await.ask(REQUEST).await;
    assert!(late.starts_with("HTTP/1.1 200 "), "{late}");
    drop(holding);
    let begun = Instant::now();
    RawClient::connect(program.address).await.ask(REQUEST).await;
    assert!(begun.elapsed() < secs(1), "it took {:?}", begun.elapsed());
}
