//! The faults: what goes wrong with Redis, and what is to be seen of it at the sidecars, apart from no wrong answer at all.

use super::SIDECARS;
use super::planted::Plant;
use super::purger::Asked;
use crate::world::{Phase, millis, secs};
use std::time::Duration;

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What goes wrong, in words.
    pub says: &'static str,
    pub kind: Kind,
    /// What the breaker of each sidecar does meanwhile.
    pub breakers: [Breaker; SIDECARS],
    /// Who is asked to purge meanwhile.
    pub purges: Asked,
    /// Hits from Redis go on.
    pub reads_go_on: bool,
    /// Only what is in memory is asked for, so that nothing is asked of Redis but signs of life.
    pub is_quiet: bool,
    /// What the statistics tell of it (`redis.last_error`), where that is certain: it shows that what goes wrong is what is meant.
    pub tells: &'static str,
    /// `redis.heartbeat`, where it is not the shipped one.
    pub heartbeat: Duration,
    /// `redis.when_down`.
    pub when_down: &'static str,
}

/// How it is made to go wrong.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Nothing goes wrong, and there is no Redis.
    Baseline,
    DeadAtStart,
    Killed,
    Restarted,
    /// It comes back with what it had when the run began.
    Restored,
    /// It comes back, and reads what it had for as long as the fault lasts.
    Loading,
    Frozen,
    /// The network of all sidecars.
    Network(Phase),
    /// That of the second one.
    NetworkOfOne(Phase),
    Flapping,
    /// Commands that break something, and those that mend it.
    Commands {
        breaks: &'static [&'static str],
        mends: &'static [&'static str],
    },
    /// Connections are closed again and again.
    Kicked,
    /// Something lies under the keys that is none of the sidecars'.
    Planted(Plant),
}

/// What a breaker does during a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// It opens, and is open when the fault ends.
    Opens,
    /// It stays closed.
    Stays,
    /// It opens and closes; at least one connection is made anew.
    Reconnects,
    /// Either may happen.
    May,
}

impl Fault {
    const fn new(name: &'static str, says: &'static str, kind: Kind, breaker: Breaker) -> Fault {
        let (purges, breakers) = (Asked::InTurn, [breaker; SIDECARS]);
        Fault {
            name,
            says,
            kind,
            breakers,
            purges,
            reads_go_on: false,
            is_quiet: false,
            tells: "",
            heartbeat: HEARTBEAT,
            when_down: PASS_THROUGH,
        }
    }

    const fn reads_go_on(self) -> Fault {
        Fault { reads_go_on: true, ..self }
    }

    const fn purges(self, purges: Asked) -> Fault {
        Fault { purges, ..self }
    }

    const fn on_memory(self) -> Fault {
        Fault { when_down: MEMORY, ..self }
    }

    const fn tells(self, tells: &'static str) -> Fault {
        Fault { tells, ..self }
    }

    const fn quiet(self, heartbeat: Duration) -> Fault {
        Fault { is_quiet: true, purges: Asked::Nobody, heartbeat, ..self }
    }

    const fn of_one(self, breakers: [Breaker; SIDECARS]) -> Fault {
        Fault { breakers, ..self }
    }

    pub fn named(name: &str) -> Option<&'static Fault> {
        FAULTS.iter().find(|fault| fault.name == name)
    }

    /// What the breakers do where a request may spend so much on Redis.
    pub fn breakers(&self, budget: Duration) -> [Breaker; SIDECARS] {
        match self.kind {
            Kind::Network(Phase::Slow { there, back }) if there + back >= budget => [Breaker::Opens; SIDECARS],
            // Where several round trips fit in, it is used.
            Kind::Network(Phase::Slow { there, back }) if (there + back) * 6 < budget => [Breaker::Stays; SIDECARS],
            Kind::Network(Phase::Slow { .. }) => [Breaker::May; SIDECARS],
            _ => self.breakers,
        }
    }

    /// Values that are none are put under the keys.
    pub fn plants_values(&self) -> bool {
        matches!(self.kind, Kind::Planted(Plant::Corrupt | Plant::FutureVersion | Plant::Foreign))
    }

    /// For how long a sidecar that hears nothing relies on what it has, if it does not go on with that by itself.
    pub fn relies_for(&self) -> Option<Duration> {
        (self.when_down == PASS_THROUGH).then_some(self.heartbeat * 3)
    }

    /// There is to be a Redis.
    pub fn has_redis(&self) -> bool {
        !matches!(self.kind, Kind::Baseline)
    }

    /// It is there before the fault.
    pub fn begins_well(&self) -> bool {
        self.has_redis() && !matches!(self.kind, Kind::DeadAtStart)
    }

    /// It is over as soon as it has happened.
    pub fn is_momentary(&self) -> bool {
        matches!(self.kind, Kind::Restarted | Kind::Restored)
    }
}

/// No Redis at all: what the others are compared with.
pub const BASELINE: Fault = Fault::new("baseline", "no Redis is configured", Kind::Baseline, Breaker::May);

const PASS_THROUGH: &str = "pass-through";
const MEMORY: &str = "memory";

/// `redis.heartbeat` as shipped.
const HEARTBEAT: Duration = secs(2);

const fn slow(total: Duration) -> Kind {
    let half = Duration::from_millis(total.as_millis() as u64 / 2);
    Kind::Network(Phase::Slow { there: half, back: half })
}

const fn commands(breaks: &'static [&'static str], mends: &'static [&'static str]) -> Kind {
    Kind::Commands { breaks, mends }
}

/// All of them.
pub const FAULTS: &[Fault] = &[
    Fault::new("dead-at-start", "Redis is not there when the sidecars start", Kind::DeadAtStart, Breaker::Opens).tells("refused"),
    Fault::new("killed", "Redis is killed, and started again, empty", Kind::Killed, Breaker::Opens).tells("refused"),
    Fault::new("restarted", "Redis is killed, and started again at once, empty", Kind::Restarted, Breaker::Reconnects),
    Fault::new("restored", "Redis is killed, and comes back at once from an older snapshot", Kind::Restored, Breaker::Reconnects),
    Fault::new("loading", "Redis is killed, and loads its snapshot for a long time", Kind::Loading, Breaker::Opens),
    Fault::new("frozen", "Redis is stopped by SIGSTOP, while clients leave", Kind::Frozen, Breaker::Opens),
    Fault::new("slow-20ms", "each round trip takes 20 ms longer", slow(millis(20)), Breaker::May),
    Fault::new("slow-100ms", "each round trip takes 100 ms longer", slow(millis(100)), Breaker::May),
    Fault::new("slow-1s", "each round trip takes 1 s longer", slow(millis(1000)), Breaker::May)
        // A purge that is not confirmed opens the breaker, too; here, what requests meet with does.
        .purges(Asked::Nobody),
    Fault::new("drip", "replies come one octet at a time", Kind::Network(Phase::Drip), Breaker::Opens),
    Fault::new("flapping", "connections are reset for a second, every other second", Kind::Flapping, Breaker::Reconnects),
    Fault::new("reset", "connections are reset", Kind::Network(Phase::Reset), Breaker::Opens),
    Fault::new("refused", "connections are refused", Kind::Network(Phase::Absent), Breaker::Opens).tells("refused"),
    Fault::new(
        "black-hole",
        "the network loses nothing and delivers nothing, then all of it",
        Kind::Network(Phase::BlackHole),
        Breaker::Opens,
    )
    .purges(Asked::Nobody),
    Fault::new("half-open", "connections are dead, and neither end is told", Kind::Network(Phase::HalfOpen), Breaker::Opens),
    Fault::new(
        "one-cut-off",
        "one of the two sidecars is cut off, and is not told",
        Kind::NetworkOfOne(Phase::HalfOpen),
        Breaker::May,
    )
    .of_one([Breaker::Stays, Breaker::Opens]),
    Fault::new(
        "cut-replies",
        "each connection ends in the middle of a reply",
        Kind::Network(Phase::Cut { after: 24 << 10 }),
        Breaker::Reconnects,
    ),
    Fault::new("not-redis", "an HTTP server answers in the stead of Redis", Kind::Network(Phase::Garbage), Breaker::Opens)
        .tells("Parse error"),
    Fault::new(
        "full",
        "maxmemory is reached, and nothing is evicted",
        commands(&["CONFIG SET maxmemory-policy noeviction", "CONFIG SET maxmemory 1"], &["CONFIG SET maxmemory 0"]),
        Breaker::Stays,
    )
    .tells("OOM")
    .reads_go_on(),
    Fault::new(
        "read-only",
        "Redis becomes a replica, which takes no writes",
        commands(&["REPLICAOF 127.0.0.1 1"], &["REPLICAOF NO ONE"]),
        Breaker::May,
    )
    .tells("READONLY")
    // A purge that cannot be carried out is kept, and until it is carried out the sidecar that was asked goes without Redis.
    .of_one([Breaker::May, Breaker::Stays])
    .purges(Asked::First)
    .reads_go_on(),
    Fault::new(
        "master-down",
        "Redis becomes a replica that gives no old data",
        commands(
            &["CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"],
            &["REPLICAOF NO ONE", "CONFIG SET replica-serve-stale-data yes"],
        ),
        Breaker::Opens,
    )
    .tells("MASTERDOWN"),
    Fault::new(
        "no-auth",
        "Redis wants a password from now on",
        commands(&["CONFIG SET requirepass changed", "CLIENT KILL TYPE normal"], &["CONFIG SET requirepass "]),
        Breaker::Opens,
    )
    .tells("NOAUTH"),
    Fault::new(
        "wrong-password",
        "the account's password is changed",
        commands(&["ACL SETUSER app resetpass >changed", "CLIENT KILL USER app"], &["ACL SETUSER app resetpass >right"]),
        Breaker::Opens,
    )
    .tells("WRONGPASS"),
    Fault::new(
        "no-permission",
        "the account may not read any more",
        commands(&["ACL SETUSER app -getrange -mget"], &["ACL SETUSER app +getrange +mget"]),
        Breaker::Opens,
    )
    .tells("NOPERM"),
    Fault::new(
        "no-permission-at-all",
        "the account may do next to nothing any more",
        // But for MULTI: where that itself is refused, the library (redis 1.8.1) panics in a debug build.
        commands(&["ACL SETUSER app -@all +multi"], &["ACL SETUSER app +@all"]),
        Breaker::Opens,
    )
    .tells("NOPERM"),
    Fault::new(
        "out-of-connections",
        "Redis takes no more clients",
        commands(&["CONFIG SET maxclients 1", "CLIENT KILL TYPE normal"], &["CONFIG SET maxclients 10000"]),
        Breaker::Opens,
    ),
    Fault::new(
        "idle-timer",
        "Redis closes connections that are idle for a second, and nothing is asked of it",
        commands(&["CONFIG SET timeout 1"], &["CONFIG SET timeout 0"]),
        Breaker::Reconnects,
    )
    .quiet(secs(10)),
    Fault::new("kicked", "Redis closes all connections, again and again", Kind::Kicked, Breaker::Reconnects),
    Fault::new("wrong-type", "lists lie under the keys", Kind::Planted(Plant::WrongType), Breaker::Stays).tells("WRONGTYPE"),
    Fault::new("corrupt", "values are damaged", Kind::Planted(Plant::Corrupt), Breaker::Stays),
    Fault::new(
        "future-version",
        "values are of a version that is not known yet",
        Kind::Planted(Plant::FutureVersion),
        Breaker::Stays,
    ),
    Fault::new("foreign", "values are somebody else's, or those of other keys", Kind::Planted(Plant::Foreign), Breaker::Stays),
    // When a sidecar stores something in its place, Redis gives the memory back, and answers nobody meanwhile.
    Fault::new("huge-value", "a value of 512 MiB lies under one key after the other", Kind::Planted(Plant::Huge), Breaker::May),
    Fault::new("killed-memory", "Redis is killed, and memory goes on", Kind::Killed, Breaker::Opens).on_memory(),
    Fault::new("frozen-memory", "Redis is stopped by SIGSTOP, and memory goes on", Kind::Frozen, Breaker::Opens).on_memory(),
    Fault::new(
        "one-cut-off-memory",
        "one sidecar is cut off, and goes on with memory",
        Kind::NetworkOfOne(Phase::HalfOpen),
        Breaker::May,
    )
    .of_one([Breaker::Stays, Breaker::Opens])
    .on_memory(),
];
