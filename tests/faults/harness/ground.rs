//! What all parts of a run share: whom to ask, what is right, and what was wrong.

use super::fleet::{Answer, Http, Sidecar};
use super::truth::{Target, Truth};
use http::StatusCode;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Shared by load, purges and looks.
pub struct Ground {
    pub truth: Arc<Truth>,
    pub http: Http,
    /// Where each sidecar answers, requests and operators.
    pub addresses: Vec<(SocketAddr, SocketAddr)>,
    asked: AtomicU64,
    fresh: AtomicU64,
    pool: AtomicU64,
    pool_size: u64,
    wrongs: Mutex<Wrongs>,
}

/// Answers that were not right.
#[derive(Debug, Clone, Default)]
pub struct Wrongs {
    pub number: u64,
    /// The first of them.
    pub examples: Vec<String>,
}

/// Where a right answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Memory,
    Redis,
    Origin,
}

impl Ground {
    pub fn new(truth: Arc<Truth>, sidecars: &[Sidecar], pool_size: u64) -> Ground {
        Ground {
            truth,
            http: Http::new(),
            addresses: sidecars.iter().map(|sidecar| (sidecar.address, sidecar.admin)).collect(),
            asked: AtomicU64::new(0),
            fresh: AtomicU64::new(0),
            pool: AtomicU64::new(0),
            pool_size,
            wrongs: Mutex::default(),
        }
    }

    /// Asks a sidecar, and counts the answer if it is wrong.
    pub async fn ask(&self, sidecar: usize, target: Target) -> Option<Source> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let floor = self.truth.floor(sidecar, target);
        let answered = self.http.get(self.addresses[sidecar].0, target).await;
        match answered.and_then(|answer| self.judge(target, floor, &answer)) {
            Ok(source) => Some(source),
            Err(what) => {
                self.wrong(format!("sidecar {sidecar}, {}: {what}", target.path()));
                None
            }
        }
    }

    fn judge(&self, target: Target, floor: u64, answer: &Answer) -> Result<Source, String> {
        let told = &answer.cache_status;
        if answer.status != StatusCode::OK {
            return Err(format!("status {} ({told})", answer.status.as_u16()));
        }
        self.truth.judge(target, floor, &answer.body).map_err(|what| format!("{what} ({told})"))?;
        Ok(match told.contains("; hit") {
            true if told.contains("detail=redis") => Source::Redis,
            true => Source::Memory,
            false => Source::Origin,
        })
    }

    /// Writes down that something was wrong.
    pub fn wrong(&self, what: String) {
        let mut wrongs = self.wrongs.lock().unwrap();
        wrongs.number += 1;
        if wrongs.examples.len() < EXAMPLES_MAX {
            wrongs.examples.push(what);
        }
    }

    pub fn wrongs(&self) -> Wrongs {
        self.wrongs.lock().unwrap().clone()
    }

    /// How many requests there were.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Something that nobody has asked for.
    pub fn fresh(&self) -> Target {
        Target::Fresh(self.fresh.fetch_add(1, Ordering::Relaxed))
    }

    /// The next of those that lie in Redis, as long as there are any.
    pub fn pooled(&self) -> Option<Target> {
        let number = self.pool.fetch_add(1, Ordering::Relaxed);
        (number < self.pool_size).then_some(Target::Pool(number))
    }
}

const EXAMPLES_MAX: usize = 20;
