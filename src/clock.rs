//! The time of day, which tests can move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where `now` comes from. Read once per exchange.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Milliseconds since 1970 on a clock that stands still; `None` is the system's.
    standing: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock::default()
    }

    /// A clock that shows the present second, and stands still until it is moved; tests move it instead of sleeping.
    pub fn movable() -> Clock {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { standing: Some(Arc::new(AtomicU64::new(since_1970.as_secs() * 1000))) }
    }

    /// The time of day.
    pub fn now(&self) -> SystemTime {
        match &self.standing {
            None => SystemTime::now(),
            Some(standing) => UNIX_EPOCH + Duration::from_millis(standing.load(Ordering::Acquire)),
        }
    }

    /// Moves a movable clock forward; the system's clock stays.
    pub fn advance(&self, by: Duration) {
        if let Some(standing) = &self.standing {
            standing.fetch_add(by.as_millis() as u64, Ordering::AcqRel);
        }
    }
}
