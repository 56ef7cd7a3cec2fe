//! The time of day, which tests can move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Where `now` comes from. Read once per exchange.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Milliseconds that were added to the system's time; tests do so instead of sleeping.
    ahead_ms: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock::default()
    }

    /// A clock that runs like the system's and can be moved forward.
    pub fn movable() -> Clock {
        Clock { ahead_ms: Some(Arc::default()) }
    }

    /// The time of day.
    pub fn now(&self) -> SystemTime {
        match &self.ahead_ms {
            None => SystemTime::now(),
            Some(ahead) => SystemTime::now() + Duration::from_millis(ahead.load(Ordering::Acquire)),
        }
    }

    /// Moves a movable clock forward; the system's clock stays.
    pub fn advance(&self, by: Duration) {
        if let Some(ahead) = &self.ahead_ms {
            ahead.fetch_add(by.as_millis() as u64, Ordering::AcqRel);
        }
    }
}
