//! The program as a process of its own.

use super::world::{Client, Origin, eventually};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// A running sidecache; killed if the test ends before it does.
pub(super) struct Program {
    process: Mutex<Child>,
    pub(super) log: Arc<Mutex<Vec<Value>>>,
    reading: Option<JoinHandle<()>>,
    /// Where it answers requests.
    pub(super) address: SocketAddr,
    pub(super) admin_address: SocketAddr,
    directory: TempDir,
}

pub(super) fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidecache"));
    // Neither the configuration nor the environment of whoever runs the tests.
    command.env_clear().current_dir(directory);
    command
}

pub(super) fn run(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    command(directory.path()).args(arguments).output().unwrap()
}

/// The same command, run by a shell that says something before.
pub(super) fn by_shell(before: &str, command: Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{before}; exec \"$0\" \"$@\"")).arg(command.get_program()).args(command.get_args());
    shell.env_clear().current_dir(command.get_current_dir().unwrap()).env("PATH", "/usr/bin:/bin");
    shell
}

/// Puts a configuration in its place all at once, as who cares about readers does. A route for a minute is always there.
fn write(directory: &Path, toml: &str) {
    let new = directory.join("proxy.toml.new");
    std::fs::write(&new, format!("{toml}\n[[route]]\nmatch = \"/{{id}}\"\nttl = \"1m\"\n")).unwrap();
    std::fs::rename(new, directory.join("proxy.toml")).unwrap();
}

impl Program {
    /// Starts it with a configuration and waits until it listens.
    pub(super) async fn start(origin: &Origin, toml: &str) -> Program {
        Program::start_with(origin, toml, &[]).await
    }

    pub(super) async fn start_with(origin: &Origin, toml: &str, environment: &[(&str, &str)]) -> Program {
        Program::start_from(origin, toml, |mut command| {
            command.envs(environment.iter().copied());
            command
        })
        .await
    }

    /// Starts it by a command that `adjust` makes of the usual one.
    pub(super) async fn start_from(origin: &Origin, toml: &str, adjust: impl FnOnce(Command) -> Command) -> Program {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), toml);
        let mut usual = command(directory.path());
        usual
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--origin", &origin.address.to_string()])
            .args(["--set", "log.format=json"]);
        let mut process = adjust(usual).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = log.clone();
        let reading = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lines.lock().unwrap().push(line);
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let process = Mutex::new(process);
        let mut program = Program { process, log, reading: Some(reading), address: nowhere, admin_address: nowhere, directory };
        eventually("it has started", async || !program.said("started").is_empty()).await;
        let started = program.said("started").remove(0);
        program.address = started["listen"].as_str().unwrap().parse().unwrap();
        program.admin_address = started["admin"].as_str().unwrap().parse().unwrap();
        program
    }

    /// Where it runs, with its configuration.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The time on a processor that it has used until now, in hundredths of a second.
    pub(super) fn ticks(&self) -> u64 {
        let id = self.process.lock().unwrap().id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        // The second field, a name in parentheses, may hold blanks.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Writes another configuration in the place of the one it has.
    pub(super) fn configure(&self, toml: &str) {
        write(self.directory.path(), toml);
    }

    /// The lines of the log with this message.
    pub(super) fn said(&self, message: &str) -> Vec<Value> {
        self.log.lock().unwrap().iter().filter(|line| line["message"] == message).cloned().collect()
    }

    pub(super) async fn says(&self, message: &str, times: usize) {
        eventually(&format!("it says {message} {times} times"), async || self.said(message).len() >= times).await;
    }

    pub(super) fn signal(&self, signal: &str) {
        let id = self.process.lock().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Waits for its end, and gives its exit code.
    pub(super) async fn code(&self) -> Option<i32> {
        let mut code = None;
        eventually("it has ended", async || match self.process.lock().unwrap().try_wait().unwrap() {
            None => false,
            Some(status) => {
                code = Some(status.code());
                true
            }
        })
        .await;
        code.flatten()
    }

    pub(super) fn client(&self) -> Client {
        Client::of(self.address)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap();
        let _ = process.kill();
        let _ = process.wait();
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}
