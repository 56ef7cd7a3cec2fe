//! wrk: as many requests as are answered, on 64 connections, each of which asks again as soon as it is answered.

use crate::Broken;
use crate::peers::program;
use crate::process::Process;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What is asked for: the path before the numbers, the first number, and how many there are; 0 for ever new ones.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// What wrk says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) requests: u64,
    pub(crate) time: Duration,
    pub(crate) octets: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

pub(crate) fn is_installed() -> bool {
    program("wrk").is_some()
}

/// Loads it for so many seconds.
pub(crate) fn run(address: SocketAddr, asked: &Asked, seconds: u64, directory: &Path, core: usize) -> Result<Said, Broken> {
    let script = directory.join("requests.lua");
    std::fs::write(&script, include_str!("peers/requests.lua")).map_err(|error| error.to_string())?;
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s"]).arg(&script);
    command.arg(format!("http://{address}/")).args(["--", &asked.path, &asked.first.to_string(), &asked.count.to_string()]);
    let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()), &[core])?;
    let mut output = String::new();
    let mut stdout = process.child().stdout.take().ok_or("wrk cannot be read")?;
    stdout.read_to_string(&mut output).map_err(|error| error.to_string())?;
    let line = output.lines().find_map(|line| line.strip_prefix("measured ")).ok_or(format!("wrk says {output:?}"))?;
    let numbers: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
    let &[requests, micros, octets, errors, p50, p99] = numbers.as_slice() else { return Err(format!("wrk says {line:?}")) };
    if errors > 0 || requests == 0 {
        return Err(format!("of {requests} requests to {address}{}, {errors} went wrong", asked.path));
    }
    let [time, p50, p99] = [micros, p50, p99].map(Duration::from_micros);
    Ok(Said { requests, time, octets, p50, p99 })
}

pub(crate) const CONNECTIONS: u64 = 64;
