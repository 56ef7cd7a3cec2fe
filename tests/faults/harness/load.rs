//! The load: requests at moments that were fixed beforehand, whether or not earlier ones have ended.
//!
//! The latency of a request counts from its moment, not from when it was sent. So a sidecar that stands still for a second is
//! charged for all requests of that second, and not only for the one that happened to be under way (coordinated omission).

use super::SIDECARS;
use super::fleet::HOST;
use super::ground::{Ground, Source};
use super::truth::Target;
use crate::world::millis;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// A load that goes on until it is stopped.
pub struct Load {
    shared: Arc<Shared>,
    pacing: Option<JoinHandle<()>>,
}

struct Shared {
    ground: Arc<Ground>,
    begun: Instant,
    samples: Mutex<Vec<Sample>>,
    tasks: TaskTracker,
    stops: AtomicBool,
    /// Only what is in memory is asked for, so that nothing is asked of Redis.
    is_quiet: AtomicBool,
}

/// One request of the load.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it was to be sent, since the load began.
    pub at: Duration,
    pub latency: Duration,
    /// Where the answer came from; `None` if it was wrong.
    pub source: Option<Source>,
}

impl Load {
    /// Begins with so many requests a second, over all sidecars; and with so many clients a second that leave without their answers.
    pub fn begin(ground: Arc<Ground>, rate: u32, vanishing: u32) -> Load {
        let shared = Arc::new(Shared {
            ground,
            begun: Instant::now(),
            samples: Mutex::default(),
            tasks: TaskTracker::new(),
            stops: AtomicBool::new(false),
            is_quiet: AtomicBool::new(false),
        });
        let (paced, runtime) = (shared.clone(), Handle::current());
        // A thread of its own keeps the moments more exactly than a timer of the runtime, which counts in milliseconds.
        let pacing = std::thread::spawn(move || pace(&paced, &runtime, rate, vanishing));
        Load { shared, pacing: Some(pacing) }
    }

    pub fn begun(&self) -> Instant {
        self.shared.begun
    }

    pub fn be_quiet(&self, is_quiet: bool) {
        self.shared.is_quiet.store(is_quiet, Ordering::Relaxed);
    }

    /// Ends it when all requests have their answers, and gives what came of them, in the order of their moments.
    pub async fn end(mut self) -> Vec<Sample> {
        self.stop();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        let mut samples = std::mem::take(&mut *self.shared.samples.lock().unwrap());
        samples.sort_by_key(|sample| sample.at);
        samples
    }

    fn stop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
        if let Some(pacing) = self.pacing.take() {
            let _ = pacing.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts each request at its moment.
fn pace(shared: &Arc<Shared>, runtime: &Handle, rate: u32, vanishing: u32) {
    let mut vanished = 0_u32;
    for number in 0_u32.. {
        let at = Duration::from_secs(1) * number / rate;
        std::thread::sleep((shared.begun + at).saturating_duration_since(Instant::now()));
        if shared.stops.load(Ordering::Relaxed) {
            return;
        }
        if shared.tasks.len() >= UNDER_WAY_MAX {
            shared.ground.wrong(format!("no answer: {UNDER_WAY_MAX} requests are under way, so this one was not sent"));
            continue;
        }
        let one = shared.clone();
        shared.tasks.spawn_on(async move { one.ask(number as usize, at).await }, runtime);
        let is_quiet = shared.is_quiet.load(Ordering::Relaxed);
        if !is_quiet && u64::from(vanished) * u64::from(rate) < u64::from(number) * u64::from(vanishing) {
            vanished += 1;
            let (sidecar, target) = (vanished as usize % SIDECARS, choose(&shared.ground, vanished as usize, is_quiet));
            let address = shared.ground.addresses[sidecar].0;
            shared.tasks.spawn_on(vanish(address, target, millis(u64::from(vanished % 8))), runtime);
        }
    }
}

impl Shared {
    async fn ask(&self, number: usize, at: Duration) {
        let sidecar = number % SIDECARS;
        let target = match sidecar == ASKS_THE_POOL && number % 100 < POOL_PERCENT && !self.is_quiet.load(Ordering::Relaxed) {
            true => self.ground.pooled().unwrap_or_else(|| self.ground.fresh()),
            false => choose(&self.ground, number, self.is_quiet.load(Ordering::Relaxed)),
        };
        let source = self.ground.ask(sidecar, target).await;
        let latency = self.begun.elapsed().saturating_sub(at);
        self.samples.lock().unwrap().push(Sample { at, latency, source });
    }
}

/// Nine of ten are for something hot.
fn choose(ground: &Ground, number: usize, is_quiet: bool) -> Target {
    match is_quiet || fastrand::u8(..100) < HOT_PERCENT {
        true => Target::Hot(fastrand::usize(..) % ground.truth.hot()),
        false if number.is_multiple_of(64) => ground.pooled().unwrap_or_else(|| ground.fresh()),
        false => ground.fresh(),
    }
}

/// A client that asks, and leaves after a moment.
pub async fn vanish(address: SocketAddr, target: Target, after: Duration) {
    if let Ok(mut stream) = TcpStream::connect(address).await {
        let request = format!("GET {} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", target.path());
        let _ = stream.write_all(request.as_bytes()).await;
        tokio::time::sleep(after).await;
    }
}

/// So many of a hundred requests are for something hot.
const HOT_PERCENT: u8 = 91;

/// What only the first sidecar has stored, the second one asks for.
pub const FILLS_THE_POOL: usize = 0;
pub const ASKS_THE_POOL: usize = 1;

/// So many of a hundred requests, every second of which is for the second sidecar.
const POOL_PERCENT: usize = 4;

/// So many requests at once are a sign that no answers come at all.
const UNDER_WAY_MAX: usize = 8192;
