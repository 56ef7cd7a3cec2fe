//! A process of its own on chosen cores, and what it takes of the machine, with all that it has started.

use crate::Broken;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A process, which ends with this value.
pub(crate) struct Process {
    child: Child,
    pub(crate) begun: Instant,
}

/// Which core serves, and which one asks and has the origin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) serving: usize,
    pub(crate) asking: usize,
}

impl Cores {
    /// The first two that this process may use; where there is one, it does both.
    pub(crate) fn of_machine() -> Result<Cores, Broken> {
        let allowed = sched_getaffinity(None).map_err(|error| format!("which cores there are: {error}"))?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let serving = cores.next().ok_or("there is no core")?;
        Ok(Cores { serving, asking: cores.next().unwrap_or(serving) })
    }
}

/// Has the calling thread, and what it starts from now on, run on these cores alone.
pub(crate) fn pin(cores: &[usize]) -> Result<(), Broken> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).map_err(|error| format!("cores {cores:?} cannot be had: {error}"))
}

impl Process {
    /// Starts it on these cores; the calling thread goes back to those that it had.
    pub(crate) fn start(command: &mut Command, cores: &[usize]) -> Result<Process, Broken> {
        let had = sched_getaffinity(None).map_err(|error| error.to_string())?;
        pin(cores)?;
        let begun = Instant::now();
        let started = command.spawn().map_err(|error| format!("{:?} does not start: {error}", command.get_program()));
        sched_setaffinity(None, &had).map_err(|error| error.to_string())?;
        started.map(|child| Process { child, begun })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The time that cores have spent on it and its children, in user space and in the kernel.
    pub(crate) fn cpu(&self) -> Duration {
        let ticks: u64 = self.tree().into_iter().filter_map(ticks).sum();
        Duration::from_millis(ticks * TICK_MS)
    }

    /// Octets of it and its children that lie in memory. What several of them share counts once.
    pub(crate) fn resident(&self) -> f64 {
        self.tree().into_iter().filter_map(proportional).sum()
    }

    fn tree(&self) -> Vec<u32> {
        let (mut found, mut at) = (vec![self.child.id()], 0);
        while let Some(id) = found.get(at) {
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            at += 1;
        }
        found
    }
}

/// `utime` and `stime`, the fields 14 and 15; the second field is a name in brackets that may have anything in it.
fn ticks(id: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn proportional(id: u32) -> Option<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? * 1024.0)
}

impl Drop for Process {
    /// Asks it to end first: a master that is killed leaves its workers behind.
    fn drop(&mut self) {
        let asked = Instant::now();
        if let Some(id) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(id, Signal::TERM);
        }
        while !self.has_ended() && asked.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What Linux tells users of time is in hundredths of a second.
const TICK_MS: u64 = 10;

const PATIENCE: Duration = Duration::from_secs(10);
