//! The program itself as a process of its own, so that what it takes of memory and descriptors can be told from what the test takes.

use super::world::eventually;
use serde_json::Value;
use sidecache::origin::Address;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A running sidecache, before an origin; killed when this value ends.
pub(crate) struct Program {
    process: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<Value>>>,
    reading: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Program {
    /// Starts it with a configuration beside a route for `/{id}`, and waits until it listens.
    pub(crate) async fn start(origin: &Address, toml: &str) -> Program {
        let directory = tempfile::tempdir().unwrap();
        let route = "[[route]]\nmatch = \"/{id}\"\nttl = \"1h\"\n";
        std::fs::write(directory.path().join("proxy.toml"), format!("{toml}\n{route}")).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_sidecache"))
            .env_clear()
            .current_dir(directory.path())
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "off", "--origin", &origin.to_string()])
            .args(["--set", "log.format=json"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = log.clone();
        let reading = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut program = Program { process, address: nowhere, log, reading: Some(reading), _directory: directory };
        eventually("it has started", async || program.said("started").is_some()).await;
        let started = program.said("started").unwrap();
        program.address = started["listen"].as_str().unwrap().parse().unwrap();
        program
    }

    /// The first line of its log with this message.
    pub(crate) fn said(&self, message: &str) -> Option<Value> {
        self.log.lock().unwrap().iter().find(|line| line["message"] == message).cloned()
    }

    /// What it takes of the machine's memory, in octets.
    pub(crate) fn resident(&self) -> usize {
        resident(&self.process.id().to_string())
    }

    /// The files and sockets that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}

/// What a process takes of the machine's memory, in octets; `self` is this one.
pub(crate) fn resident(process: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has its pages counted");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}
