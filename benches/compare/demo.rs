//! What the cache is for: the workload of `sidecache demo`, with memory alone and with Redis.

use crate::Broken;
use crate::exchanges::ratios;
use crate::peers::{free_port, program, start_redis};
use crate::process::Process;
use crate::rounds::Bench;
use crate::table::{Goal, Results, Row, Unit};
use std::io::Read;
use std::process::{Command, Stdio};

pub(crate) fn demo(bench: &Bench, results: &mut Results) -> Result<(), Broken> {
    let cores = [bench.cores.serving, bench.cores.asking];
    let (mut memory, mut redis) = (Figures::default(), Figures::default());
    let port = free_port()?;
    let server = match program("redis-server") {
        Some(_) => Some(start_redis(port, bench.directory.path(), &cores)?),
        None => None,
    };
    // A run takes a quarter of a minute, and is a sample of thousands by itself.
    for _ in 0..bench.rounds.min(RUNS) {
        memory.add(&run("off", &cores)?, "p50 of hits")?;
        if server.is_some() {
            redis.add(&run(&format!("redis://127.0.0.1:{port}/0"), &cores)?, "p50 of hits in Redis")?;
        }
    }
    for (place, what) in ["profile (50-100 ms)", "churn (200-300 ms)"].into_iter().enumerate() {
        let faster = |figures: &Figures| ratios(figures.without[place].clone(), figures.hits[place].clone());
        let row = |from: &str, goal: f64, figures: &Figures| {
            Row::new(
                &format!("{what}: p50 of the origin over that of a hit in {from}"),
                Goal::AtLeast(goal),
                Unit::Times,
                faster(figures),
            )
        };
        results.rows.push(row("memory", 200.0, &memory));
        results.rows.push(row("Redis", 100.0, &redis));
        let spared = memory.spared[place].clone();
        results.rows.push(Row::new(
            &format!("{what}: requests that the origin is spared"),
            Goal::AtLeast(0.8),
            Unit::Percent,
            spared,
        ));
    }
    Ok(())
}

/// Of profile and churn, one for each run.
#[derive(Default)]
struct Figures {
    without: [Vec<f64>; 2],
    hits: [Vec<f64>; 2],
    spared: [Vec<f64>; 2],
}

impl Figures {
    fn add(&mut self, table: &str, hits: &str) -> Result<(), Broken> {
        let (without, hits, spared) = (cells(table, "p50")?, cells(table, hits)?, cells(table, "requests it was spared")?);
        for place in 0..2 {
            self.without[place].push(without[place]);
            self.hits[place].push(hits[place]);
            self.spared[place].push(spared[place] / 100.0);
        }
        Ok(())
    }
}

/// The table of a run.
fn run(redis: &str, cores: &[usize]) -> Result<String, Broken> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidecache"));
    command.args(["demo", "--once"]).env_clear().env("REDIS_URL", redis);
    let mut process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()), cores)?;
    let mut output = process.child().stdout.take().ok_or("the demo cannot be read")?;
    let mut text = String::new();
    output.read_to_string(&mut text).map_err(|error| error.to_string())?;
    match process.child().wait() {
        Ok(status) if status.success() => Ok(text),
        ended => Err(format!("the demo ends with {ended:?}: {text}")),
    }
}

/// The two numbers in the first line that is named so.
fn cells(table: &str, label: &str) -> Result<[f64; 2], Broken> {
    let cells = table.lines().find_map(|line| {
        let mut cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        let is_it = cells.next() == Some(label);
        let mut number = || cells.next()?.split(' ').next()?.parse::<f64>().ok();
        if is_it { Some([number()?, number()?]) } else { None }
    });
    cells.ok_or_else(|| format!("the demo does not say {label:?}: {table}"))
}

const RUNS: usize = 3;
