//! What is measured on, and with: a figure without it says nothing.

use crate::peers::program;
use crate::process::Cores;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Lines for the head of a report.
pub(crate) fn facts(cores: Cores) -> Vec<String> {
    let number = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = read("/proc/cpuinfo", "model name").unwrap_or_else(|| "of unknown kind".to_owned());
    let memory = read("/proc/meminfo", "MemTotal").and_then(|kb| kb.trim_end_matches(" kB").parse::<f64>().ok());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let is_virtual = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" hypervisor"));
    let date = httpdate::fmt_http_date(SystemTime::now());
    let pinned = match cores.serving == cores.asking {
        true => format!("one core, {}, for servers, load and origin alike: no figure means much", cores.serving),
        false => format!("servers on core {}, load and origin on core {}", cores.serving, cores.asking),
    };
    let mut facts = vec![
        format!("{date}; sidecache {} ({})", env!("CARGO_PKG_VERSION"), commit()),
        format!(
            "{number} cores ({processor}{}), {:.0} GB, Linux {}; {pinned}",
            if is_virtual { ", virtual" } else { "" },
            memory.unwrap_or_default() / 1e6,
            kernel.trim(),
        ),
    ];
    let versions = PROGRAMS.map(|(name, arguments)| version(name, arguments));
    facts.push(versions.join("; "));
    if cfg!(debug_assertions) {
        facts.push("a debug build, which says nothing about time".to_owned());
    }
    facts
}

/// What the machine's cores have done since it started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ticks {
    all: f64,
    busy: f64,
    /// Had by other machines of the same hypervisor.
    stolen: f64,
}

impl Ticks {
    pub(crate) fn now() -> Ticks {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is in these.
        let fields: Vec<f64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
        let &[user, nice, system, idle, iowait, irq, softirq, stolen] = fields.as_slice() else { return Ticks::default() };
        let busy = user + nice + system + irq + softirq;
        Ticks { all: busy + idle + iowait + stolen, busy, stolen }
    }

    /// The parts of all cores that were busy, and that were stolen, since then.
    pub(crate) fn parts_since(self, before: Ticks) -> (f64, f64) {
        let all = (self.all - before.all).max(1.0);
        ((self.busy - before.busy) / all, (self.stolen - before.stolen) / all)
    }
}

/// How busy the machine is while this program does nothing.
pub(crate) fn busy_before() -> f64 {
    let before = Ticks::now();
    std::thread::sleep(Duration::from_secs(1));
    Ticks::now().parts_since(before).0
}

fn read(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim().to_owned()))
}

fn commit() -> String {
    let git = |arguments: &[&str]| Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok();
    let head = git(&["rev-parse", "--short", "HEAD"]).map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let is_changed = git(&["status", "--porcelain", "src", "Cargo.lock"]).is_some_and(|output| !output.stdout.is_empty());
    let head = head.filter(|head| !head.is_empty()).unwrap_or_else(|| "unknown commit".to_owned());
    if is_changed { format!("{head}, changed") } else { head }
}

/// The first line in which a program tells its version, or that there is no such program.
fn version(name: &str, argument: &str) -> String {
    let Some(file) = program(name) else { return format!("{name} is not installed") };
    let Ok(output) = Command::new(file).arg(argument).output() else { return format!("{name} of unknown version") };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let words = said.split(|sign: char| sign.is_whitespace() || "(),[]=/".contains(sign));
    let is_version = |word: &&str| word.contains('.') && word.chars().any(|sign| sign.is_ascii_digit()) && !word.contains(':');
    let number = words
        .map(|word| word.trim_start_matches("varnish-"))
        .find(|word| is_version(word) && word.starts_with(|sign: char| sign.is_ascii_digit()));
    format!("{name} {}", number.unwrap_or("of unknown version"))
}

const PROGRAMS: [(&str, &str); 5] =
    [("nginx", "-v"), ("haproxy", "-v"), ("varnishd", "-V"), ("redis-server", "--version"), ("wrk", "-v")];
