//! The simulation: a key's requests one after the other, on replicas with a memory each, before a Redis and an origin that takes its time.
//!
//! Keys do not know of one another, but that they share the memories: how long these keep what nobody asks for is the deployment's.
//! Of a class, a few keys are simulated, and stand for the others.

use crate::deployment::{Class, Deployment, Load};
use fastrand::Rng;

/// What a deployment meets.
pub(crate) fn simulate(deployment: &Deployment, seed: u64) -> Load {
    let classes = deployment.classes();
    let kept = deployment.kept_in_memory(&classes);
    let mut random = Rng::with_seed(seed);
    let mut load = Load::default();
    for class in &classes {
        let number = class.keys.min(KEYS_PER_CLASS);
        for _ in 0..number as u32 {
            load.add(&key(deployment, class, kept, &mut random), class.keys / number.floor());
        }
    }
    load
}

/// One key, over many of its lives.
fn key(deployment: &Deployment, class: &Class, kept: f64, random: &mut Rng) -> Load {
    let mut cycles = LIVES;
    // What is asked for very often is asked for alike in each of its lives.
    let asked_in_life = class.rate * deployment.ttl;
    if asked_in_life * cycles > REQUESTS_PER_KEY {
        cycles = (REQUESTS_PER_KEY / asked_in_life).max(LIVES_MIN);
    }
    let until = cycles * (deployment.ttl + 1.0 / class.rate);
    let mut key = Key {
        each: class.rate / f64::from(deployment.replicas),
        ttl: deployment.ttl,
        fetch: deployment.fetch,
        kept,
        has: vec![Copy::default(); deployment.replicas as usize],
        life: 1,
        purged: 0,
        ends: f64::INFINITY,
        fetched: 0.0,
        load: Load::default(),
    };
    key.live(until, deployment.purges * class.rate / deployment.rate, random);
    let mut load = Load::default();
    load.add(&key.load, 1.0 / until);
    load
}

/// A key, and what replicas, Redis and origin have to do with it. Times are in seconds.
struct Key {
    /// Requests a second of one replica.
    each: f64,
    ttl: f64,
    fetch: f64,
    /// How long a memory keeps what nobody asks for.
    kept: f64,
    has: Vec<Copy>,
    /// Which life it is; what memories have of an earlier one counts no more.
    life: u64,
    /// The life that the latest purge has ended, with all before.
    purged: u64,
    /// When this life ends; never, while nobody has asked for it.
    ends: f64,
    /// When its first fetch is over.
    fetched: f64,
    load: Load,
}

/// What one memory has.
#[derive(Clone, Copy, Default)]
struct Copy {
    life: u64,
    asked: f64,
}

impl Key {
    fn live(&mut self, until: f64, purges: f64, random: &mut Rng) {
        let (mut now, replicas) = (0.0, self.has.len());
        let mut purged = after(now, purges, random);
        // Of a memory that never lets go of it, only the first request in each life is something to count.
        let is_hot = self.each * self.kept > HOT;
        let mut cold: Vec<usize> = (0..replicas).collect();
        loop {
            let askers = if is_hot { cold.len() } else { replicas };
            let (next, change) = (after(now, self.each * askers as f64, random), purged.min(self.ends));
            now = next.min(change);
            if now > until {
                break;
            }
            if change > next {
                let place = random.usize(0..askers);
                self.ask(if is_hot { cold.swap_remove(place) } else { place }, now);
                continue;
            }
            if purged == change {
                self.load.purges += 1.0;
                self.purged = self.life;
                purged = after(now, purges, random);
            } else {
                self.load.ends += 1.0;
            }
            (self.ends, self.life) = (f64::INFINITY, self.life + 1);
            cold = (0..replicas).collect();
        }
        self.load.requests = self.each * replicas as f64 * until;
    }

    /// A replica is asked for it.
    fn ask(&mut self, replica: usize, now: f64) {
        let (copy, is_alive) = (&mut self.has[replica], self.ends.is_finite());
        // What the replica itself is fetching counts as what it has: the request follows.
        let knows = copy.life > self.purged && now - copy.asked <= self.kept;
        let has = is_alive && copy.life == self.life && now - copy.asked <= self.kept;
        *copy = Copy { life: self.life, asked: now };
        if has {
            return;
        }
        self.load.lookups += 1.0;
        if is_alive && now >= self.fetched {
            return;
        }
        self.load.fetches += 1.0;
        self.load.renewals += f64::from(u8::from(knows));
        if !is_alive {
            (self.ends, self.fetched) = (now + self.ttl, now + self.fetch);
        }
    }
}

/// The moment of the next event, when there are so many a second.
fn after(now: f64, rate: f64, random: &mut Rng) -> f64 {
    if rate <= 0.0 { f64::INFINITY } else { now - (1.0 - random.f64()).ln() / rate }
}

/// So many keys of a class are simulated.
const KEYS_PER_CLASS: f64 = 4.0;

/// For so many lives, or fewer where it is asked for very often.
const LIVES: f64 = 40.0;
const LIVES_MIN: f64 = 3.0;
const REQUESTS_PER_KEY: f64 = 20_000.0;

/// A memory that keeps what is asked for so many times within the time it keeps anything never lets go of it.
const HOT: f64 = 20.0;
