//! What a run came to: what was promised and not kept, and the latencies, period by period.

use super::faults::{Breaker, Fault};
use super::ground::Wrongs;
use super::load::{ASKS_THE_POOL, Sample};
use super::run::Times;
use super::watch::Seen;
use super::{Plan, SIDECARS};
use crate::world::{millis, secs};
use serde_json::Value;
use std::time::{Duration, Instant};

/// What was observed of one fault.
pub struct Observed {
    pub fault: &'static Fault,
    /// The load, in the order of its moments.
    pub samples: Vec<Sample>,
    /// All requests, with those of who purges.
    pub asked: u64,
    pub wrongs: Wrongs,
    /// What was promised apart from right answers, and not kept.
    pub broken_promises: Vec<String>,
    /// Purges that all had confirmed, and all of them.
    pub purges: (u64, u64),
    /// Since the load began: when the fault began, when its time was over, and the end.
    pub broken: Duration,
    pub over: Duration,
    pub ended: Duration,
    /// The breaker stays open to the end of the fault.
    pub stays_open: bool,
    /// How long after the fault the last breaker was open, and how long after its end the last one was closed again.
    pub opened_after: Option<Duration>,
    pub closed_after: Option<Duration>,
}

/// What is to be put together and judged at the end.
pub struct Account {
    pub times: Times,
    /// The load, in the order of its moments.
    pub samples: Vec<Sample>,
    pub seen: [Seen; SIDECARS],
    pub wrongs: Wrongs,
    pub asked: u64,
    /// Purges that all had confirmed, and all of them.
    pub purges: (u64, u64),
    pub memory_grown: u64,
    pub lives: Vec<bool>,
    pub logs: Vec<Vec<Value>>,
}

/// Latencies of a period: the half, all but a hundredth, and all of them took no longer.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

/// The periods of a run; `None` where there is none, or nothing was asked in it.
#[derive(Debug, Clone, Copy)]
pub struct Periods {
    pub before: Option<Latency>,
    /// The first ten seconds of the fault.
    pub at_first: Option<Latency>,
    /// From when all breakers were open to the end of the fault.
    pub open: Option<Latency>,
    pub after: Option<Latency>,
}

impl Observed {
    /// Puts together what was observed, and judges it.
    pub(super) fn of(fault: &'static Fault, plan: &Plan, account: Account) -> Observed {
        let (times, breakers) = (&account.times, fault.breakers(plan.budget));
        let opened: Vec<Duration> = account.seen.iter().filter_map(|seen| opened_after(seen, times)).collect();
        let closed: Vec<Duration> = account.seen.iter().filter_map(|seen| closed_after(seen, times)).collect();
        // The later of two sidecars; of one that stays closed, nothing is to be told.
        let opening = breakers.iter().filter(|breaker| **breaker == Breaker::Opens).count().max(1);
        let was_open = !opened.is_empty() || !fault.begins_well();
        let (opened_after, closed_after) = (
            opened.iter().max().copied().filter(|_| opened.len() >= opening),
            closed.iter().max().copied().filter(|_| was_open && fault.has_redis()),
        );
        let mut judging = Judging { fault, plan, account: &account, broken: Vec::new() };
        judging.of_processes();
        if fault.has_redis() {
            for (sidecar, breaker) in breakers.into_iter().enumerate() {
                judging.of_breaker(sidecar, breaker);
                judging.of_statistics(sidecar, breaker);
                judging.of_log(sidecar);
            }
            if plan.is_exact {
                judging.of_times(fault.begins_well() && breakers.contains(&Breaker::Opens), opened_after, closed_after);
            }
        }
        let (broken_promises, stays_open) = (judging.broken, breakers.contains(&Breaker::Opens));
        let since = |moment: Instant| moment.saturating_duration_since(times.begun);
        let (broken, over, ended) = (since(times.broken), since(times.over), since(times.ended));
        let Account { samples, asked, wrongs, purges, .. } = account;
        Observed {
            fault,
            samples,
            asked,
            wrongs,
            broken_promises,
            purges,
            broken,
            over,
            ended,
            stays_open,
            opened_after,
            closed_after,
        }
    }

    /// The latencies, period by period.
    pub fn periods(&self) -> Periods {
        let within = |from: Duration, to: Duration| self.latency(from, to);
        let opened = self.opened_after.filter(|_| self.stays_open).map(|after| self.broken + after);
        Periods {
            before: within(Duration::ZERO, self.broken),
            at_first: within(self.broken, self.over.min(self.broken + AT_FIRST)),
            open: opened.and_then(|opened| within(opened, self.over)),
            after: within(self.over, self.ended),
        }
    }

    fn latency(&self, from: Duration, to: Duration) -> Option<Latency> {
        let within = self.samples.iter().filter(|sample| (from..to).contains(&sample.at));
        let mut latencies: Vec<Duration> = within.map(|sample| sample.latency).collect();
        latencies.sort_unstable();
        let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied();
        Some(Latency { p50: at(0.5)?, p99: at(0.99)?, max: *latencies.last()? })
    }

    /// What a quiet machine must show beside the same run without Redis.
    pub fn slower_than(&self, baseline: &Observed, plan: &Plan) -> Vec<String> {
        let (own, theirs) = (self.periods(), baseline.periods());
        let mut broken = Vec::new();
        let mut compare = |what: &str, own: Option<Latency>, theirs: Option<Latency>, more: Duration| {
            if let (Some(own), Some(theirs)) = (own, theirs)
                && own.p99 > theirs.p99 + more
            {
                broken.push(format!(
                    "{what}, p99 is {:?}, without Redis {:?}; at most {more:?} more is promised",
                    own.p99, theirs.p99
                ));
            }
        };
        compare("in the first 10 s of the fault", own.at_first, theirs.at_first, plan.budget + millis(10));
        compare("after the breaker has opened", own.open, theirs.at_first, millis(1));
        broken
    }

    /// A row of the table.
    pub fn row(&self) -> String {
        let periods = self.periods();
        let ms = |duration: Duration| match duration.as_secs_f64() * 1e3 {
            ms if ms < 100.0 => format!("{ms:.1}"),
            ms => format!("{ms:.0}"),
        };
        let latency = |latency: Option<Latency>| match latency {
            Some(Latency { p50, p99, max }) => format!("{} / {} / {}", ms(p50), ms(p99), ms(max)),
            None => "–".to_owned(),
        };
        let after = |after: Option<Duration>| after.map_or("–".to_owned(), |after| format!("{} ms", after.as_millis()));
        let cells = [
            self.fault.name.to_owned(),
            self.asked.to_string(),
            self.wrongs.number.to_string(),
            latency(periods.before),
            latency(periods.at_first),
            latency(periods.open),
            latency(periods.after),
            after(self.opened_after),
            after(self.closed_after),
            format!("{} / {}", self.purges.0, self.purges.1),
        ];
        format!("| {} |", cells.join(" | "))
    }

    /// All that was wrong, in words.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.broken_promises.clone();
        if self.wrongs.number > 0 {
            complaints.push(format!("{} wrong answers of {}: {:#?}", self.wrongs.number, self.asked, self.wrongs.examples));
        }
        complaints
    }
}

/// How long after the fault a breaker was open for the first time.
fn opened_after(seen: &Seen, times: &Times) -> Option<Duration> {
    let during = times.broken..=times.over;
    seen.breaker.iter().find(|(at, is_open)| *is_open && during.contains(at)).map(|(at, _)| *at - times.broken)
}

/// How long after the end of the fault it was closed for good.
fn closed_after(seen: &Seen, times: &Times) -> Option<Duration> {
    let last = seen.breaker.last().filter(|(at, is_open)| !is_open && *at >= times.broken);
    last.map(|(at, _)| at.saturating_duration_since(times.mended))
}

/// Collects what was promised and not kept.
struct Judging<'a> {
    fault: &'static Fault,
    plan: &'a Plan,
    account: &'a Account,
    broken: Vec<String>,
}

impl Judging<'_> {
    fn no(&mut self, sidecar: usize, what: &str) {
        self.broken.push(format!("sidecar {sidecar}: {what}"));
    }

    fn of_processes(&mut self) {
        let account = self.account;
        for (sidecar, lives) in account.lives.iter().enumerate() {
            if !lives {
                self.no(sidecar, "it has ended");
            }
        }
        if account.memory_grown > MEMORY_GROWN_MAX {
            self.broken.push(format!("a sidecar's memory has grown by {} MiB", account.memory_grown >> 20));
        }
        let slowest = account.samples.iter().map(|sample| sample.latency).max().unwrap_or_default();
        if slowest > SLOWEST {
            self.broken.push(format!("a request took {slowest:?}"));
        }
    }

    fn of_breaker(&mut self, sidecar: usize, expected: Breaker) {
        let (account, times) = (self.account, &self.account.times);
        let (seen, before, at_the_end) = (&account.seen[sidecar], &times.before[sidecar], &times.at_the_end[sidecar]);
        match expected {
            Breaker::Opens if !at_the_end.is_open() => self.no(sidecar, "the breaker is not open at the end of the fault"),
            Breaker::Stays if opened_after(seen, times).is_some() => {
                self.no(sidecar, &format!("the breaker has opened: {}", times.told[sidecar]));
            }
            Breaker::Reconnects if at_the_end.connects <= before.connects => self.no(sidecar, "no connection was made anew"),
            _ => {}
        }
        if !seen.is_closed() {
            self.no(sidecar, "the breaker is not closed at the end");
        }
        if self.fault.reads_go_on && sidecar == ASKS_THE_POOL && at_the_end.hits_redis <= before.hits_redis {
            self.no(sidecar, "nothing was answered from Redis");
        }
        match (self.fault.plants_values(), seen.values_refused) {
            (true, 0.0) => self.no(sidecar, "no value was refused, though damaged ones were planted"),
            (false, 1.0..) => self.no(sidecar, "a value was refused, and none was planted: did a reply reach the wrong command?"),
            _ => {}
        }
    }

    fn of_statistics(&mut self, sidecar: usize, expected: Breaker) {
        let times = &self.account.times;
        let (told, (from, to)) = (&times.told[sidecar], times.since);
        // What is not there at the start is missing since the start.
        let from = if self.fault.begins_well() { from } else { 0 };
        let is_degraded = told["status"] == "degraded" && told["since"].as_u64().is_some_and(|at| (from..=to).contains(&at));
        if expected == Breaker::Opens && !is_degraded {
            self.no(sidecar, &format!("it is degraded since {from} to {to}, and the statistics say {told}"));
        }
        let error = told["last_error"].as_str().unwrap_or_default();
        if !error.contains(self.fault.tells) {
            self.no(sidecar, &format!("the last error is not {:?}, but {error:?}", self.fault.tells));
        }
    }

    /// One line a change of state, none a request, and nothing else that is worth a warning.
    fn of_log(&mut self, sidecar: usize) {
        let (account, mut changes) = (self.account, Vec::new());
        for line in &account.logs[sidecar] {
            match line["message"].as_str() {
                Some(change @ ("redis_connected" | "redis_connection_failed")) => changes.push(change),
                // Another reason, while it is away.
                Some("redis_still_unreachable") if changes.last() == Some(&"redis_connection_failed") => {}
                Some("started" | "purged") => {}
                _ => self.no(sidecar, &format!("it says {line}")),
            }
        }
        if changes.windows(2).any(|two| two[0] == two[1]) {
            self.no(sidecar, &format!("it says a change twice: {changes:?}"));
        }
        let lasted = account.times.ended - account.times.begun;
        let most = CHANGES_MIN + (lasted.as_secs_f64() * CHANGES_A_SECOND) as usize;
        if changes.len() > most {
            self.no(sidecar, &format!("it says {} times in {lasted:?} what has become of Redis", changes.len()));
        }
    }

    fn of_times(&mut self, opens: bool, opened_after: Option<Duration>, closed_after: Option<Duration>) {
        let within = self.plan.budget + OPENED_AFTER;
        if opens && opened_after.is_none_or(|after| after > within) {
            self.broken.push(format!("the breaker opened after {opened_after:?}; promised are {within:?}"));
        }
        if closed_after.is_some_and(|after| after > CLOSED_AFTER) {
            self.broken.push(format!("the breaker closed after {closed_after:?}; promised are {CLOSED_AFTER:?}"));
        }
    }
}

/// The head of the table that rows belong to.
pub const HEAD: &str = "\
| fault | requests | wrong | before | first 10 s | breaker open | after | opened after | closed after | purges |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

/// The first moments of a fault.
const AT_FIRST: Duration = secs(10);

/// Half a second of trouble at most, and the looks' own interval and time.
const OPENED_AFTER: Duration = millis(500 + 60);

/// How long after the end of a fault Redis is used again, at most.
const CLOSED_AFTER: Duration = secs(2);

/// A connection that breaks again and again is made anew a few times a second, each with two changes; there are far more requests.
const CHANGES_A_SECOND: f64 = 8.0;
const CHANGES_MIN: usize = 6;

/// What is stored during a run, and what is under way; far less than the value that is planted.
const MEMORY_GROWN_MAX: u64 = 48 << 20;

/// No request waits for Redis for longer than its budget; this is for a loaded machine.
const SLOWEST: Duration = secs(5);
