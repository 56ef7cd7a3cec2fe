//! What is deployed, and what is asked of it.

/// Replicas of one sidecache before one service, all of which share a Redis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deployment {
    pub(crate) replicas: u32,
    /// Different things that can be asked for.
    pub(crate) keys: f64,
    /// Requests a second, of all replicas together.
    pub(crate) rate: f64,
    /// The exponent of the popularity: the one in place `n` is asked for in proportion to `n` to the power of minus this.
    pub(crate) skew: f64,
    /// The freshness lifetime, in seconds.
    pub(crate) ttl: f64,
    /// How many responses the memory of one replica holds.
    pub(crate) memory_keys: f64,
    /// Purges a second, each of one thing; what is asked for more is purged more.
    pub(crate) purges: f64,
    /// How long the origin takes to answer, in seconds.
    pub(crate) fetch: f64,
    /// Octets of a stored response.
    pub(crate) body: f64,
}

/// What happens in a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    pub(crate) requests: f64,
    /// Requests of the origin.
    pub(crate) fetches: f64,
    /// Those of them by replicas that had it until its time was over, and know its generations still.
    pub(crate) renewals: f64,
    /// Memory had nothing, and Redis was asked.
    pub(crate) lookups: f64,
    /// Purges.
    pub(crate) purges: f64,
    /// Stored responses that ended in Redis.
    pub(crate) ends: f64,
}

/// Keys that are asked for about as often as one another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Class {
    pub(crate) keys: f64,
    /// Requests a second for one of them, of all replicas together.
    pub(crate) rate: f64,
}

impl Deployment {
    /// All keys, sorted into classes: each of the first ones alone, and then ever more of them together.
    pub(crate) fn classes(&self) -> Vec<Class> {
        let mut bounds: Vec<f64> = (1..=SINGLE.min(self.keys as u64 + 1)).map(|place| place as f64).collect();
        while bounds.last().is_some_and(|last| *last < self.keys + 1.0) {
            let next = (bounds.last().copied().unwrap_or(1.0) * STEP).floor();
            bounds.push(next.min(self.keys + 1.0));
        }
        let weights: Vec<f64> = bounds.windows(2).map(|ends| self.weight(ends[0], ends[1])).collect();
        let all: f64 = weights.iter().sum();
        let class = |(ends, weight): (&[f64], &f64)| Class {
            keys: ends[1] - ends[0],
            rate: self.rate * weight / all / (ends[1] - ends[0]),
        };
        bounds.windows(2).zip(&weights).map(class).collect()
    }

    /// The popularity of the places from one to another, that one excluded: a sum, or where there are many the integral that is near it.
    fn weight(&self, from: f64, to: f64) -> f64 {
        if to - from < 2.0 {
            return from.powf(-self.skew);
        }
        let (from, to, power) = (from - 0.5, to - 0.5, 1.0 - self.skew);
        if power.abs() < 1e-9 { (to / from).ln() } else { (to.powf(power) - from.powf(power)) / power }
    }

    /// For how long memory keeps what is not asked for again, in seconds: the characteristic time of Che's approximation, in which what
    /// was asked for within it is just what memory holds.
    pub(crate) fn kept_in_memory(&self, classes: &[Class]) -> f64 {
        let held = |time: f64| {
            let each = |class: &Class| class.keys * -f64::exp_m1(-class.rate / f64::from(self.replicas) * time);
            classes.iter().map(each).sum::<f64>()
        };
        if self.memory_keys >= self.keys || held(FOR_EVER) <= self.memory_keys {
            return FOR_EVER;
        }
        let (mut least, mut most) = (0.0, FOR_EVER);
        for _ in 0..200 {
            let middle = f64::midpoint(least, most);
            if held(middle) < self.memory_keys { least = middle } else { most = middle }
        }
        least
    }
}

impl Load {
    /// Commands that Redis carries out.
    pub(crate) fn commands(&self) -> f64 {
        let (found, new) = (self.lookups - self.fetches, self.fetches - self.renewals);
        found * PER_FIND + self.renewals * PER_RENEWAL + new * PER_NEW + self.purges * PER_PURGE
    }

    /// Messages by which Redis tells replicas what has changed: each change of a value or a generation goes to all others.
    pub(crate) fn messages(&self, replicas: u32) -> f64 {
        let (all, others) = (f64::from(replicas), f64::from(replicas - 1));
        let changes = self.fetches * CHANGES_PER_FETCH - self.renewals + self.purges * CHANGES_PER_PURGE;
        others * changes + all * self.ends
    }

    /// Octets that Redis sends: what is looked up and found, be it stale, and messages.
    pub(crate) fn octets_out(&self, deployment: &Deployment) -> f64 {
        let found = self.lookups - self.fetches + self.renewals * STILL_THERE;
        found * (deployment.body + RECORD_OCTETS)
            + self.commands() * REPLY_OCTETS
            + self.messages(deployment.replicas) * MESSAGE_OCTETS
    }

    /// The part of one core that Redis needs: at 1, it is not enough.
    pub(crate) fn redis_busy(&self, replicas: u32) -> f64 {
        self.commands() * COMMAND_SECONDS + self.messages(replicas) * MESSAGE_SECONDS
    }

    pub(crate) fn add(&mut self, other: &Load, times: f64) {
        self.requests += other.requests * times;
        self.fetches += other.fetches * times;
        self.renewals += other.renewals * times;
        self.lookups += other.lookups * times;
        self.purges += other.purges * times;
        self.ends += other.ends * times;
    }
}

/// Commands, as the real run counts them. Finding something: `GETRANGE`, `PTTL`, and an `MGET` or two for the generations that are not
/// known. Fetching it again: a look that finds nothing fresh, `SET`, and a longer life for the generations. Fetching something new:
/// generations are made first, and read back. A purge replaces the generations of a scope and of its watch.
const PER_FIND: f64 = 3.7;
const PER_RENEWAL: f64 = 4.6;
const PER_NEW: f64 = 7.3;
const PER_PURGE: f64 = 5.0;

/// Values and generations that a fetch of something new changes in Redis, each of which is told to the other replicas; where the
/// generations were there, it is one less.
const CHANGES_PER_FETCH: f64 = 3.0;
pub(crate) const CHANGES_PER_PURGE: f64 = 2.0;

/// What is stale lies in Redis for a while yet: so much of it is read, to be confirmed.
const STILL_THERE: f64 = 0.6;

/// Octets: of a record beside its body, of a reply without a value, of a message for one key.
const RECORD_OCTETS: f64 = 330.0;
const REPLY_OCTETS: f64 = 13.0;
const MESSAGE_OCTETS: f64 = 60.0;

/// What they cost Redis, in seconds of CPU, when it has little to do; under load it is rather less, since one system call serves several.
pub(crate) const COMMAND_SECONDS: f64 = 4.0e-6;
pub(crate) const MESSAGE_SECONDS: f64 = 1.8e-6;

/// So many of the most popular keys are classes of their own; a class after that ends at so many times its beginning.
const SINGLE: u64 = 64;
const STEP: f64 = 1.15;

/// A century, in seconds.
const FOR_EVER: f64 = 3.2e9;
