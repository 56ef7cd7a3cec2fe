//! sidecache beside bare hyper, nginx, HAProxy, Varnish, and nginx with a script that asks Redis: `cargo bench --bench compare`.
//!
//! docs/performance.md says how it is measured, and has the tables and pictures of a run.

#[path = "../parts/mod.rs"]
mod parts;

mod client;
mod demo;
mod exchanges;
mod latency;
mod machine;
mod peers;
mod plot;
mod process;
mod proof;
mod room;
mod rounds;
mod served;
mod start;
mod steady;
mod table;
mod workers;
mod wrk;

use machine::Ticks;
use peers::{Origin, Peer, Setup};
use process::{Cores, pin};
use rounds::Bench;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use table::Results;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What went wrong, so that there is no figure.
type Broken = String;

/// Something to measure.
struct Work {
    name: &'static str,
    says: &'static str,
    needs_wrk: bool,
    run: fn(&Bench, &mut Results) -> Result<(), Broken>,
}

const WORKS: &[Work] = &[
    Work::new("hit", "hits in memory, 2 KB", |bench, results| exchanges::hits(bench, exchanges::USUAL, results)).by_wrk(),
    Work::new("large", "hits in memory, 100 KB", |bench, results| exchanges::hits(bench, 100 << 10, results)).by_wrk(),
    Work::new("small", "hits in memory, 100 octets", |bench, results| exchanges::hits(bench, 100, results)).by_wrk(),
    Work::new("redis", "hits in Redis", exchanges::redis).by_wrk(),
    Work::new("forward", "what is forwarded and not stored", exchanges::forward).by_wrk(),
    Work::new("miss", "misses that are stored", exchanges::miss).by_wrk(),
    Work::new("latency", "hits at a constant rate", latency::steady),
    Work::new("ratio", "how many requests memory answers", room::ratio),
    Work::new("memory", "what a million entries take", room::resident),
    Work::new("workers", "two workers over one", workers::workers).by_wrk(),
    Work::new("start", "the time to the first answer, and what is resident then", start::start),
    Work::new("demo", "the workload of `sidecache demo`", demo::demo),
];

impl Work {
    const fn new(name: &'static str, says: &'static str, run: fn(&Bench, &mut Results) -> Result<(), Broken>) -> Work {
        Work { name, says, needs_wrk: false, run }
    }

    const fn by_wrk(self) -> Work {
        Work { needs_wrk: true, ..self }
    }
}

/// What the command line asks for.
enum Asked {
    Help,
    List,
    Nothing,
    Serve(String, usize),
    Run(Order),
}

struct Order {
    works: Vec<&'static Work>,
    rounds: usize,
    seconds: u64,
    picture: Option<PathBuf>,
    is_markdown: bool,
    /// A goal that is not met is a failure.
    is_check: bool,
}

fn main() -> ExitCode {
    let ended = match Asked::read(std::env::args().skip(1)) {
        Ok(Asked::Help) => {
            println!("{HELP}");
            Ok(true)
        }
        Ok(Asked::List) => {
            WORKS.iter().for_each(|work| println!("{:<10}{}", work.name, work.says));
            Ok(true)
        }
        Ok(Asked::Nothing) => {
            println!("this takes long, so it runs as a benchmark only: cargo bench --bench compare");
            Ok(true)
        }
        Ok(Asked::Serve(what, octets)) => served::serve(&what, octets).map(|()| true),
        Ok(Asked::Run(order)) => order.carry_out(),
        Err(what) => {
            eprintln!("{what}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

impl Asked {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut order =
            Order { works: Vec::new(), rounds: ROUNDS, seconds: SECONDS, picture: None, is_markdown: false, is_check: false };
        let (mut arguments, mut is_bench) = (arguments, false);
        while let Some(argument) = arguments.next() {
            let mut value = |what: &str| arguments.next().ok_or_else(|| format!("{argument} wants {what}"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(Asked::Help),
                "--list" => return Ok(Asked::List),
                // Cargo says so.
                "--bench" => is_bench = true,
                "--serve" => {
                    let (what, octets) = (value("a name")?, value("a number of octets")?);
                    return Ok(Asked::Serve(what, octets.parse().map_err(|_| "--serve wants a number of octets")?));
                }
                "--rounds" => order.rounds = number(&value("a number")?).ok_or("--rounds wants a number above 0")? as usize,
                "--seconds" => order.seconds = number(&value("a number")?).ok_or("--seconds wants a number above 0")?,
                "--only" => {
                    for name in value("a work")?.split(',') {
                        let work = WORKS.iter().find(|work| work.name == name);
                        order.works.push(work.ok_or_else(|| format!("there is no work {name:?}"))?);
                    }
                }
                "--picture" => order.picture = Some(PathBuf::from(value("a directory")?)),
                "--markdown" => order.is_markdown = true,
                "--check" => order.is_check = true,
                _ => return Err(format!("{argument} is unknown")),
            }
        }
        Ok(if is_bench || !order.works.is_empty() { Asked::Run(order) } else { Asked::Nothing })
    }
}

impl Order {
    /// Says whether all is as it should be.
    fn carry_out(self) -> Result<bool, Broken> {
        let cores = Cores::of_machine()?;
        for fact in machine::facts(cores) {
            println!("{}{fact}", if self.is_markdown { "- " } else { "" });
        }
        // This process asks; those that serve are started on the other core.
        pin(&[cores.asking])?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (rounds, seconds, unused) = (self.rounds, self.seconds, Cell::new(10_000_000));
        let bench = Bench { rounds, seconds, cores, origin: Origin::start(cores)?, runtime, directory, unused };
        println!("{}{rounds} rounds of {seconds} s, one after the other by turns\n", if self.is_markdown { "- " } else { "" });

        let mut results = Results::default();
        let (busy, before) = (machine::busy_before(), Ticks::now());
        for peer in [Peer::Sidecache(Setup::REDIS), Peer::Nginx, Peer::Haproxy, Peer::Varnish, Peer::Lua] {
            if let Some(missing) = peer.missing() {
                results.notes.push(format!("{} is left out: {missing} is not installed", peer.name()));
            }
        }
        let is_whole = self.works.is_empty();
        let works = if is_whole { WORKS.iter().collect() } else { self.works };
        let mut is_broken = false;
        for work in works {
            if work.needs_wrk && !wrk::is_installed() {
                results.notes.push(format!("{} is left out: wrk is not installed", work.name));
                continue;
            }
            eprintln!("… {}", work.says);
            let rows_before = results.rows.len();
            if let Err(what) = (work.run)(&bench, &mut results) {
                results.notes.push(format!("{} broke: {what}", work.name));
                is_broken = true;
            }
            // Of a run that is cut off, that much is known.
            results.rows[rows_before..].iter().for_each(|row| eprintln!("    {}", row.line()));
        }
        let (_, stolen) = Ticks::now().parts_since(before);
        results.notes.push(format!(
            "before the run, others had {:.0} % of the machine; during it, its hypervisor kept {:.1} %",
            100.0 * busy,
            100.0 * stolen
        ));
        println!("{}", results.text(self.is_markdown));
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bench");
        if let Some(picture) = self.picture.or_else(|| is_whole.then_some(docs)) {
            plot::draw(&picture, &results).map_err(|error| format!("{}: {error}", picture.display()))?;
            eprintln!("the pictures are in {}", picture.display());
        }
        let is_missed = self.is_check && results.rows.iter().any(|row| row.is_met() == Some(false));
        Ok(!(is_broken || is_missed))
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

const ROUNDS: usize = 5;
const SECONDS: u64 = 3;

const HELP: &str = "\
cargo bench --bench compare [-- --rounds N --seconds S --only WORK --picture DIR --markdown --check]

Runs sidecache beside bare hyper, nginx, HAProxy, Varnish and nginx with Lua and Redis, as far as they are installed, and
prints what each work cost, beside its goal. The machine should have nothing else to do. All of it takes some 20 minutes,
and draws into docs/bench.

  --rounds N       how often each is measured; 5 if not said
  --seconds S      how long a round takes; 3 if not said
  --only WORK      only this, or these: WORK,WORK
  --picture DIR    draw there
  --markdown       tables as Markdown
  --check          fail if a goal is not met
  --list           name all works
  --help           this text";
