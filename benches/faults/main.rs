//! What happens to Redis, and what of it the clients of two sidecars notice: `cargo bench --bench faults`.
//!
//! docs/faults.md says what is done, and has the table and the picture of a run.

#[path = "../../tests/faults/harness/mod.rs"]
mod harness;

#[path = "../../tests/world/mod.rs"]
mod world;

mod plot;

use harness::{BASELINE, FAULTS, Fault, HEAD, Observed, Plan, run};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match Asked::read(std::env::args().skip(1)) {
        Ok(Asked::Help) => println!("{HELP}"),
        Ok(Asked::List) => FAULTS.iter().for_each(|fault| println!("{:<22}{}", fault.name, fault.says)),
        Ok(Asked::Nothing) => println!("this takes long, so it runs as a benchmark only: cargo bench --bench faults"),
        Ok(Asked::Run(order)) => return order.carry_out(),
        Err(what) => {
            eprintln!("{what}\n\n{HELP}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// What the command line asks for.
enum Asked {
    Help,
    List,
    Nothing,
    Run(Order),
}

struct Order {
    faults: Vec<&'static Fault>,
    seconds: u64,
    picture: Option<PathBuf>,
}

impl Asked {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut order = Order { faults: Vec::new(), seconds: SECONDS, picture: None };
        let (mut arguments, mut is_bench) = (arguments, false);
        while let Some(argument) = arguments.next() {
            let mut value = |what: &str| arguments.next().ok_or_else(|| format!("{argument} wants {what}"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(Asked::Help),
                "--list" => return Ok(Asked::List),
                // Cargo says so.
                "--bench" => is_bench = true,
                "--seconds" => {
                    let seconds = value("a number of seconds")?;
                    order.seconds = seconds.parse().ok().filter(|s| *s >= SECONDS_MIN).ok_or("--seconds wants 6 or more")?;
                }
                "--picture" => order.picture = Some(PathBuf::from(value("a file")?)),
                name => order.faults.push(Fault::named(name).ok_or_else(|| format!("there is no fault {name:?}"))?),
            }
        }
        Ok(if is_bench || !order.faults.is_empty() { Asked::Run(order) } else { Asked::Nothing })
    }
}

impl Order {
    fn carry_out(self) -> ExitCode {
        let plan = Plan::full(self.seconds);
        let is_whole = self.faults.is_empty();
        let faults: Vec<&'static Fault> = if is_whole { FAULTS.iter().collect() } else { self.faults };
        println!(
            "{} faults, {} s each, at {} requests a second over two sidecars\n\n{HEAD}",
            faults.len(),
            self.seconds,
            plan.rate
        );
        let (mut complaints, mut observed) = (Vec::new(), Vec::new());
        for fault in std::iter::once(&BASELINE).chain(faults) {
            match observe(fault, &plan) {
                Err(what) => complaints.push(format!("{}: {what}", fault.name)),
                Ok(one) => {
                    println!("{}", one.row());
                    let slower = observed.first().map(|baseline| one.slower_than(baseline, &plan)).unwrap_or_default();
                    complaints.extend(one.complaints().into_iter().chain(slower).map(|what| format!("{}: {what}", fault.name)));
                    observed.push(one);
                }
            }
        }
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        if is_whole && observed.len() == FAULTS.len() + 1 {
            write_table(&docs.join("faults.md"), &table(&observed, self.seconds));
        }
        if let Some(picture) = self.picture.or_else(|| is_whole.then(|| docs.join("faults.svg"))) {
            plot::draw(&picture, &observed).expect("the picture can be written");
            println!("\nthe picture is in {}", picture.display());
        }
        for complaint in &complaints {
            println!("\n{complaint}");
        }
        println!("\n{}", if complaints.is_empty() { "all promises were kept" } else { "not all promises were kept" });
        if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs one fault, on a runtime of its own, with which all ends that it has started.
fn observe(fault: &'static Fault, plan: &Plan) -> Result<Observed, String> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(fault, plan))))
        .map_err(|_| "the run itself has failed, as said above".to_owned())
}

fn table(observed: &[Observed], seconds: u64) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let redis = Command::new("redis-server").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let redis = String::from_utf8_lossy(&redis);
    let version = redis.split(' ').find_map(|word| word.strip_prefix("v=")).unwrap_or("of unknown version").to_owned();
    let requests: u64 = observed.iter().map(|one| one.asked).sum();
    let wrong: u64 = observed.iter().map(|one| one.wrongs.number).sum();
    let rows: Vec<String> = observed.iter().map(Observed::row).collect();
    format!(
        "{cores} cores, which sidecars, Redis, origin and load share; Redis {version}; {seconds} s a fault. {requests} requests, {wrong} wrong answers.{BUILD}\n\n{HEAD}\n{}",
        rows.join("\n")
    )
}

/// Puts the table between its marks.
fn write_table(page: &Path, table: &str) {
    let text = std::fs::read_to_string(page).expect("there is a page for the table");
    let (before, rest) = text.split_once(BEGINS).expect("the page says where the table begins");
    let (_, after) = rest.split_once(ENDS).expect("the page says where the table ends");
    std::fs::write(page, format!("{before}{BEGINS}\n\n{table}\n\n{ENDS}{after}")).expect("the page can be written");
    println!("\nthe table is in {}", page.display());
}

/// What is to be said of a build that is not meant to be measured.
const BUILD: &str = if cfg!(debug_assertions) { " This is a debug build, which says nothing about time." } else { "" };

const BEGINS: &str = "<!-- The table of a run: cargo bench --bench faults writes it. -->";
const ENDS: &str = "<!-- End of the table. -->";

/// How long a fault is tried, a third of it before, during and after the fault: its first ten seconds are looked at.
const SECONDS: u64 = 30;
const SECONDS_MIN: u64 = 6;

const HELP: &str = "\
cargo bench --bench faults [-- [NAME …] [--seconds N] [--picture FILE]]

Runs a load over two sidecars with one Redis, to which something happens after a third of the time, and no longer after two
thirds; counts every answer that is not right, and measures. Without a NAME, all faults are run, which takes 20 minutes, and
docs/faults.md and docs/faults.svg are written. The machine should have nothing else to do.

  NAME             run this one, and print its row
  --seconds N      how long a fault is tried; 30 if not said, 6 at least
  --picture FILE   write the picture there
  --list           name all faults
  --help           this text";
