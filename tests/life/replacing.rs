//! One program in the place of another, without a gap.

use super::program::{Program, by_shell};
use super::world::{Client, Origin, eventually};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Starts a program that is given a socket, as systemd gives it.
async fn start_on(socket: &TcpListener, origin: &Origin) -> Program {
    let given = OwnedFd::from(socket.try_clone().unwrap());
    Program::start_from(origin, "", |usual| {
        let mut command = by_shell("exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$", usual);
        command.stdin(Stdio::from(given));
        command
    })
    .await
}

#[tokio::test]
async fn a_program_replaced_on_a_socket_that_stays_fails_no_request() {
    let origin = Origin::start().await;
    (0..50).for_each(|number| origin.reply(&format!("/{number}"), "here"));
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut program = start_on(&socket, &origin).await;
    assert_eq!(program.address, socket.local_addr().unwrap());
    assert_eq!(program.said("started")[0]["is_inherited"], true);
    let load = Load::begin(program.address);
    for _ in 0..3 {
        load.has_asked(100).await;
        let next = start_on(&socket, &origin).await;
        program.signal("-TERM");
        assert_eq!(program.code().await, Some(0));
        program = next;
    }
    // None is there for a moment: connections wait in the socket.
    program.signal("-TERM");
    assert_eq!(program.code().await, Some(0));
    let _program = start_on(&socket, &origin).await;
    load.has_asked(100).await;
    load.end().await;
}

#[test]
fn a_socket_that_is_none_is_one_clear_line() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = by_shell("exec 3</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$", super::program::command(directory.path()));
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("fd 3 is not a socket"), "{said}");
}

#[tokio::test]
async fn two_programs_listen_at_one_address_if_they_may() {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let first = Program::start(&origin, "[server]\nreuse_port = true").await;
    let address = first.address.to_string();
    let second = Program::start_from(&origin, "[server]\nreuse_port = true", |mut command| {
        command.args(["--set", &format!("server.listen={address}")]);
        command
    })
    .await;
    let metrics = async |program: &Program| Client::of(program.admin_address).get("/metrics").await.text();
    // The system distributes connections.
    eventually("both have answered", async || {
        Client::of(first.address).get("/a").await.is("one");
        let counts = [metrics(&first).await, metrics(&second).await];
        counts
            .iter()
            .all(|text| !text.contains("sidecache_request_duration_seconds_count{outcome=\"hit-memory\",route=\"/{id}\"} 0"))
    })
    .await;
    first.signal("-TERM");
    assert_eq!(first.code().await, Some(0));
    for _ in 0..20 {
        Client::of(second.address).get("/a").await.is("one");
    }
}

/// 500 requests a second, half of them on connections of their own.
struct Load {
    asked: AtomicUsize,
    failed: AtomicUsize,
    under_way: AtomicUsize,
    is_over: AtomicUsize,
}

impl Load {
    fn begin(address: SocketAddr) -> Arc<Load> {
        let load = Arc::new(Load {
            asked: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            is_over: AtomicUsize::new(0),
        });
        let client = |idle: usize| {
            let mut builder = legacy::Client::builder(TokioExecutor::new());
            builder.retry_canceled_requests(false).pool_max_idle_per_host(idle).build_http::<Empty<Bytes>>()
        };
        let (clients, running) = ([client(100), client(0)], load.clone());
        tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_millis(2));
            every.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while running.is_over.load(Ordering::Relaxed) == 0 {
                every.tick().await;
                let number = running.asked.fetch_add(1, Ordering::Relaxed);
                running.under_way.fetch_add(1, Ordering::Relaxed);
                let (load, client) = (running.clone(), clients[number % 2].clone());
                tokio::spawn(async move {
                    let url = format!("http://{address}/{}", number % 50);
                    if let Err(why) = get(&client, &url).await {
                        eprintln!("request {number}: {why}");
                        load.failed.fetch_add(1, Ordering::Relaxed);
                    }
                    load.under_way.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        load
    }

    /// Waits for so many requests more.
    async fn has_asked(&self, more: usize) {
        let before = self.asked.load(Ordering::Relaxed);
        eventually("the load goes on", async || self.asked.load(Ordering::Relaxed) >= before + more).await;
    }

    async fn end(&self) {
        self.is_over.store(1, Ordering::Relaxed);
        eventually("all is answered", async || self.under_way.load(Ordering::Relaxed) == 0).await;
        assert_eq!(self.failed.load(Ordering::Relaxed), 0, "of {}", self.asked.load(Ordering::Relaxed));
    }
}

async fn get(client: &legacy::Client<HttpConnector, Empty<Bytes>>, url: &str) -> Result<(), String> {
    let response = client.get(url.parse().expect("a URL")).await.map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
    if (status.as_u16(), &body[..]) == (200, b"here") { Ok(()) } else { Err(format!("{status} {body:?}")) }
}
