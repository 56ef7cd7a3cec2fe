//! The time of day, which somebody may set; and the time that passes, which nobody can.
//!
//! Ages and lifetimes are about the time of day: origins name dates, and replicas tell one another when they have fetched
//! something. But the time of day jumps: a machine's clock is set right, or wrong. Forward, that makes responses end early, which
//! is safe. Back, it would make them live for longer than they may, by as much as it was put back. So whoever remembers when
//! something was, for no one but this process, remembers it by the time that passes ([`Clock::passed`]), and what has both times
//! counts as old as the larger of its two ages says: see `store::memory` for the responses in memory, and `store::shared` for
//! those in Redis, whose own clock ends them.
//!
//! Between replicas whose clocks differ, this holds: none uses a response for more than a second longer than its lifetime, by the
//! clock of Redis. One whose clock is ahead finds what others have stored older than it is, and fetches anew the earlier.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where `now` comes from. Read once per exchange.
#[derive(Debug, Clone)]
pub struct Clock {
    began: Instant,
    /// `None` is the system's.
    standing: Option<Arc<Standing>>,
}

/// A clock that stands still, in milliseconds.
#[derive(Debug)]
struct Standing {
    since_1970: AtomicU64,
    passed: AtomicU64,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock { began: Instant::now(), standing: None }
    }

    /// A clock that shows the present second, and stands still until it is moved; tests move it instead of sleeping.
    pub fn movable() -> Clock {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let standing = Standing { since_1970: AtomicU64::new(since_1970.as_secs() * 1000), passed: AtomicU64::new(0) };
        Clock { standing: Some(Arc::new(standing)), ..Clock::system() }
    }

    /// The time of day.
    pub fn now(&self) -> SystemTime {
        match &self.standing {
            None => SystemTime::now(),
            Some(standing) => UNIX_EPOCH + Duration::from_millis(standing.since_1970.load(Ordering::Acquire)),
        }
    }

    /// How much time has passed since the clock was made, whatever the time of day was set to meanwhile.
    pub fn passed(&self) -> Duration {
        match &self.standing {
            None => self.began.elapsed(),
            Some(standing) => Duration::from_millis(standing.passed.load(Ordering::Acquire)),
        }
    }

    /// Lets time pass on a movable clock; the system's clock stays.
    pub fn advance(&self, by: Duration) {
        if let Some(standing) = &self.standing {
            standing.since_1970.fetch_add(by.as_millis() as u64, Ordering::AcqRel);
            standing.passed.fetch_add(by.as_millis() as u64, Ordering::AcqRel);
        }
    }

    /// Puts the time of day of a movable clock forward, without that time passes.
    pub fn put_forward(&self, by: Duration) {
        if let Some(standing) = &self.standing {
            standing.since_1970.fetch_add(by.as_millis() as u64, Ordering::AcqRel);
        }
    }

    /// Puts the time of day of a movable clock back.
    pub fn put_back(&self, by: Duration) {
        if let Some(standing) = &self.standing {
            standing.since_1970.fetch_sub(by.as_millis() as u64, Ordering::AcqRel);
        }
    }
}

/// So far the two ages of a response may differ before it is noticed that the time of day was put back.
pub const DIFFERENCE_MAX: Duration = Duration::from_secs(1);
