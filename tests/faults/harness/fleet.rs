//! The sidecars: processes of the built program, their logs, and what they are asked as operators ask.

use super::truth::Target;
use crate::world::{eventually, secs};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// A running sidecache; killed with this value.
pub struct Sidecar {
    /// Where it answers requests.
    pub address: SocketAddr,
    /// Where it answers operators.
    pub admin: SocketAddr,
    process: Child,
    log: Arc<Mutex<Vec<Value>>>,
    reading: Option<JoinHandle<()>>,
    _directory: TempDir,
}

/// What a sidecar is told of Redis.
pub struct RedisSettings {
    /// Where it is, if it is to be used.
    pub url: Option<String>,
    pub budget: Duration,
    pub heartbeat: Duration,
    pub when_down: &'static str,
}

/// Connections to the sidecars: as many as there are requests at once.
#[derive(Clone)]
pub struct Http {
    client: legacy::Client<HttpConnector, Full<Bytes>>,
}

/// An answer that came to its end.
pub struct Answer {
    pub status: StatusCode,
    /// What the answer says about the cache.
    pub cache_status: String,
    pub body: Bytes,
}

impl Sidecar {
    /// Starts one before an origin, and waits until it listens.
    pub async fn start(origin: SocketAddr, redis: &RedisSettings) -> Sidecar {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("proxy.toml"), ROUTES).unwrap();
        let budget = format!("redis.budget={}ms", redis.budget.as_millis());
        let heartbeat = format!("redis.heartbeat={}ms", redis.heartbeat.as_millis());
        let mut process = Command::new(env!("CARGO_BIN_EXE_sidecache"))
            .env_clear()
            .current_dir(directory.path())
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--origin", &format!("http://{origin}")])
            .args(["--redis-url", redis.url.as_deref().unwrap_or("off"), "--set", &budget, "--set", &heartbeat])
            .args(["--set", &format!("redis.when_down={}", redis.when_down), "--set", "log.format=json"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = BufReader::new(process.stderr.take().expect("it is piped"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = log.clone();
        let reading = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut sidecar =
            Sidecar { address: nowhere, admin: nowhere, process, log, reading: Some(reading), _directory: directory };
        eventually("a sidecar has started", async || sidecar.log().iter().any(|line| line["message"] == "started")).await;
        let started = sidecar.log().into_iter().find(|line| line["message"] == "started").expect("it has started");
        let address =
            |key: &str| started[key].as_str().and_then(|address| address.parse().ok()).expect("it says where it listens");
        (sidecar.address, sidecar.admin) = (address("listen"), address("admin"));
        sidecar
    }

    /// The lines that it has written to standard error.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// The most memory that it ever had, in octets.
    pub fn memory_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak.unwrap_or(0) * 1024
    }

    /// Whether it lives.
    pub fn lives(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}

impl Http {
    pub fn new() -> Http {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // An answer that does not come is to be seen, not to be asked for again.
        let client = legacy::Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector);
        Http { client }
    }

    /// Asks a sidecar for a target. All sidecars are asked under the same name, so that they share what they store.
    pub async fn get(&self, address: SocketAddr, target: Target) -> Result<Answer, String> {
        let request = Request::get(format!("http://{address}{}", target.path())).header("host", HOST);
        self.send(request.body(Full::default()).expect("the request is valid")).await
    }

    /// Asks as operators do.
    pub async fn look(&self, admin: SocketAddr, path: &str) -> Result<Answer, String> {
        self.send(Request::get(format!("http://{admin}{path}")).body(Full::default()).expect("the request is valid")).await
    }

    /// The statistics of a sidecar.
    pub async fn stats(&self, admin: SocketAddr) -> Value {
        let answer = self.look(admin, "/admin/cache/stats").await.expect("statistics are always to be had");
        serde_json::from_slice(&answer.body).expect("statistics are JSON")
    }

    /// All metrics of a sidecar, as text.
    pub async fn metrics(&self, admin: SocketAddr) -> Result<String, String> {
        self.look(admin, "/metrics").await.map(|answer| String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Has a sidecar purge something.
    pub async fn purge(&self, admin: SocketAddr, order: &Value) -> Result<Answer, String> {
        let request = Request::post(format!("http://{admin}/admin/cache/purge"));
        self.send(request.body(Full::from(order.to_string())).expect("the request is valid")).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let answered = async {
            let response = self.client.request(request).await.map_err(|error| format!("no answer: {}", causes(&error)))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| format!("short body: {}", causes(&error)))?.to_bytes();
            let cache_status = head.headers.get("cache-status").and_then(|field| field.to_str().ok()).unwrap_or_default();
            Ok(Answer { status: head.status, cache_status: cache_status.to_owned(), body })
        };
        tokio::time::timeout(ANSWER_MAX, answered).await.unwrap_or_else(|_| Err(format!("no answer: none in {ANSWER_MAX:?}")))
    }
}

/// The value of a series such as `sidecache_redis_breaker_open`.
pub fn metric(metrics: &str, series: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    told
}

/// The name under which the sidecars are asked.
pub const HOST: &str = "faults.test";

/// Who waits longer gives up, and counts it.
const ANSWER_MAX: Duration = secs(10);

const ROUTES: &str = r#"
[[route]]
name = "all"
match = "/{kind}/{id}"
ttl = "1h"
tags = ["{kind}:{id}"]
early_refresh = false
"#;
