//! What operators see during a run: readiness, the breaker, and some counters, looked at all the time.

use super::SIDECARS;
use super::fleet::metric;
use super::ground::Ground;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What was seen of the sidecars.
#[derive(Default)]
pub struct Watch {
    seen: [Mutex<Seen>; SIDECARS],
}

/// What was seen of one.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Each change of the breaker, and the first look: when, and whether it was open.
    pub breaker: Vec<(Instant, bool)>,
    /// Connections to Redis that were made.
    pub connects: f64,
    pub hits_redis: f64,
    /// Values in Redis that were refused.
    pub values_refused: f64,
}

impl Seen {
    pub fn is_open(&self) -> bool {
        self.breaker.last().is_some_and(|(_, is_open)| *is_open)
    }

    pub fn is_closed(&self) -> bool {
        self.breaker.last().is_some_and(|(_, is_open)| !is_open)
    }
}

impl Watch {
    /// Looks at a sidecar at each interval, for ever.
    pub async fn look(&self, ground: &Arc<Ground>, sidecar: usize, every: Duration) {
        let admin = ground.addresses[sidecar].1;
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match ground.http.look(admin, "/readyz").await {
                Ok(answer) if answer.status == 200 => {}
                Ok(answer) => ground.wrong(format!("sidecar {sidecar}, /readyz: status {}", answer.status.as_u16())),
                Err(what) => ground.wrong(format!("sidecar {sidecar}, /readyz: {what}")),
            }
            match ground.http.metrics(admin).await {
                Ok(metrics) => self.note(sidecar, &metrics),
                Err(what) => ground.wrong(format!("sidecar {sidecar}, /metrics: {what}")),
            }
        }
    }

    fn note(&self, sidecar: usize, metrics: &str) {
        let read = |series: &str| metric(metrics, series).unwrap_or_default();
        let is_open = read("sidecache_redis_breaker_open") == 1.0;
        let mut seen = self.seen[sidecar].lock().unwrap();
        if seen.breaker.last().is_none_or(|(_, was_open)| *was_open != is_open) {
            seen.breaker.push((Instant::now(), is_open));
        }
        seen.connects = read("sidecache_redis_connects_total");
        seen.hits_redis = read(r#"cache_hits_total{cache_type="redis",route="all"}"#);
        seen.values_refused = read(r#"sidecache_redis_errors_total{kind="value"}"#);
    }

    pub fn seen(&self) -> [Seen; SIDECARS] {
        [0, 1].map(|sidecar: usize| self.seen[sidecar].lock().unwrap().clone())
    }
}
