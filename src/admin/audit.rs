//! The record of who changed what, and of who was refused: lines of the log with the target `sidecache::audit`.
//!
//! What is changed is told where it is done; each of these lines names who did it, in which role, from where, and how it ended. No line
//! ever holds a token.

use super::auth::Refusal;
use http::Method;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// The target of these lines, by which they can be told from others and be let through where others are not.
pub(super) const AUDIT: &str = "sidecache::audit";

/// Attempts that were refused. There is a line for one a second of them at most, so that nobody fills the log by trying.
#[derive(Default)]
pub(super) struct Refusals {
    latest: Mutex<Option<Instant>>,
    /// Since the latest line.
    unsaid: AtomicU64,
}

impl Refusals {
    /// Tells of an attempt, or counts it for the next line.
    pub(super) fn note(&self, method: &Method, path: &str, from: IpAddr, (status, why): &Refusal) {
        {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            if latest.is_some_and(|latest| latest.elapsed() < PAUSE) {
                self.unsaid.fetch_add(1, Ordering::Relaxed);
                return;
            }
            *latest = Some(Instant::now());
        }
        let (status, why, unsaid) = (status.as_u16(), why.trim_end(), self.unsaid.swap(0, Ordering::Relaxed));
        // A path may be as long as a head, and anybody may send one.
        let path: String = path.chars().take(PATH_MAX).collect();
        warn!(target: AUDIT, %method, path, from = %from.to_canonical(), status, why, unsaid, "admin_refused");
    }
}

const PAUSE: Duration = Duration::from_secs(1);

/// Longer than any path of ours.
const PATH_MAX: usize = 64;
