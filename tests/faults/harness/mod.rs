//! A load over two sidecars with one Redis, to which something happens; and the account of every answer that was not right.
//!
//! | file | what |
//! |---|---|
//! | `faults` | the list of what can happen |
//! | `scene` | how it is made to happen; in `planted`, what is put under the sidecars' keys |
//! | `fleet` | the sidecars, as processes |
//! | `origin`, `truth` | what is behind them, and which answers are right |
//! | `load`, `purger`, `watch` | what is asked of them meanwhile: as clients, as who purges, as operators |
//! | `run` | one run, from its beginning to its account |
//! | `report` | what it came to: promises and latencies |

#![allow(dead_code, unused_imports, reason = "the tests and the bench each use a part of it")]
#![allow(unreachable_pub, reason = "this is what they reach, within their program")]

mod faults;
mod fleet;
mod ground;
mod load;
mod origin;
mod planted;
mod purger;
mod report;
mod run;
mod scene;
mod truth;
mod watch;

pub use faults::{BASELINE, FAULTS, Fault};
pub use load::Sample;
pub use report::{HEAD, Observed};
pub use run::run;

use crate::world::{millis, secs};
use std::time::Duration;

/// How many sidecars there are.
pub const SIDECARS: usize = 2;

/// How a run goes: how long, how hard, and how exactly it is looked at.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Requests a second.
    pub rate: u32,
    /// How long before the fault, during it, and after it; the latter two for longer, up to a limit, until what is expected has come.
    pub before: Duration,
    pub during: (Duration, Duration),
    pub after: (Duration, Duration),
    /// `redis.budget`.
    pub budget: Duration,
    /// Targets that are asked for all the time, and those that lie in Redis for the second sidecar.
    pub hot: usize,
    pub pool: u64,
    pub purge_every: Duration,
    pub look_every: Duration,
    pub flap: Duration,
    pub huge_bytes: u64,
    /// Time is measured on a machine that does nothing else.
    pub is_exact: bool,
}

impl Plan {
    /// A short run, on a machine that has other things to do.
    pub fn short() -> Plan {
        Plan {
            rate: 80,
            before: millis(400),
            during: (millis(1200), secs(8)),
            after: (millis(500), secs(10)),
            // A loaded machine keeps it.
            budget: millis(400),
            hot: 24,
            pool: 60,
            purge_every: millis(50),
            look_every: millis(50),
            flap: millis(500),
            huge_bytes: 64 << 20,
            is_exact: false,
        }
    }

    /// A run of so many seconds.
    pub fn full(seconds: u64) -> Plan {
        let third = secs(seconds) / 3;
        Plan {
            rate: 500,
            before: third,
            during: (third, third),
            after: (third, third),
            budget: millis(20),
            hot: 40,
            pool: seconds * 12,
            purge_every: millis(250),
            look_every: millis(20),
            flap: secs(1),
            huge_bytes: 512 << 20,
            is_exact: true,
        }
    }
}
