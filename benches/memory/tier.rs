//! The memory tier by itself, in this process: how often it has what is asked for, and how cores share it.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED, SERVER};
use http::{HeaderMap, HeaderValue, StatusCode};
use sidecache::clock::Clock;
use sidecache::rules::{CacheKey, ScopeName, Scopes};
use sidecache::semantics::vary::Selection;
use sidecache::semantics::{Lifetime, Source, StoredHead, Terms, Times};
use sidecache::stats::Stats;
use sidecache::store::{Lookup, MemoryOptions, Options, Store, StoredResponse};
use sidecache::tasks::Tasks;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How often the tier has what is asked for, and how often two others would: one that lets go of what was not used for longest, and one
/// that counts forever what each key was asked for, and knows of no key more than that.
///
/// The keys are asked for as those of a web site are: few very often, most of them seldom (Zipf, 0.99). What is asked for often has to be
/// found out, which takes its time. At the end, beside each such request, comes one for a key that nobody asks for again, as when
/// somebody reads everything there is.
pub(crate) fn hit_ratio() {
    let keys = Keys::zipf(KEYS, 0.99);
    println!("{:<46} {:>8} {:>8} {:>8}", "hit ratio of 1,000,000 keys, zipf 0.99", "tier", "LRU", "counting");
    for room in [10_000, 100_000] {
        let tier = Tier::of_entries(room);
        let (mut lru, mut counting) = (Lru::new(room), Counting::new(room));
        let mut random = fastrand::Rng::with_seed(1);
        let mut play = |what: &str, is_scanned: bool| {
            let mut hits = [0; 3];
            for _ in 0..MILLION {
                let key = keys.draw(&mut random);
                let all = [tier.ask(key), lru.ask(key), counting.ask(key)];
                hits.iter_mut().zip(all).for_each(|(hits, is_hit)| *hits += usize::from(is_hit));
                if is_scanned {
                    let once = lru.once();
                    tier.ask(once);
                    lru.ask(once);
                    counting.ask(once);
                }
            }
            let [ours, lru, counting] = hits.map(|hits| hits as f64 / MILLION as f64);
            if !what.is_empty() {
                println!("{:<46} {ours:>8.4} {lru:>8.4} {counting:>8.4}", format!("room for {room}, {what}"));
            }
        };
        for million in 1..=20 {
            let what = match million {
                1 => "first million requests".to_owned(),
                2 | 3 | 5 | 10 | 20 => format!("million {million}"),
                _ => String::new(),
            };
            play(&what, false);
        }
        play("while others are read once", true);
    }
}

/// How many look-ups a second one thread makes, and several at once: of many keys, and of one that all want.
pub(crate) fn contention() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{:<20} {:>14} {:>18} {:>8}", "look-ups a second", "one thread", format!("{cores} threads"), "ratio");
    for (name, keys) in [("10,000 keys", 10_000), ("one key", 1)] {
        let tier = Tier::of_entries(20_000);
        (0..keys).for_each(|key| tier.keep(key));
        // The better of several, since others use the machine as well.
        let best = |threads: usize| (0..5).map(|_| look_ups(&tier, threads, keys)).fold(0.0, f64::max);
        let (one, all) = (best(1), best(cores));
        println!("{name:<20} {one:>14.0} {all:>18.0} {:>8.2}", all / one);
    }
}

/// How many look-ups so many threads make in a second.
fn look_ups(tier: &Tier, threads: usize, keys: u64) -> f64 {
    let asked: Vec<CacheKey> = (0..keys).map(key).collect();
    let (is_over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (asked, is_over, count) = (&asked, &is_over, &count);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread as u64);
                let (request, now) = (HeaderMap::new(), SystemTime::now());
                let mut looked_up = 0;
                while !is_over.load(Ordering::Relaxed) {
                    for _ in 0..1000 {
                        let key = &asked[random.usize(0..asked.len())];
                        assert!(matches!(tier.store.lookup_memory(key, &request, now), Lookup::Found(..)));
                    }
                    looked_up += 1000;
                }
                count.fetch_add(looked_up, Ordering::Relaxed);
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        is_over.store(true, Ordering::Relaxed);
    });
    count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// A store of memory alone.
struct Tier {
    store: Arc<Store>,
    runtime: tokio::runtime::Runtime,
}

impl Tier {
    fn of(bytes_max: u64) -> Tier {
        let options = Options { memory: MemoryOptions { bytes_max }, ..Options::default() };
        let store = Store::open(options, Arc::new(Stats::new()), Tasks::default(), Clock::system());
        Tier { store, runtime: tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be had") }
    }

    /// With room for so many, by its own account of one.
    fn of_entries(number: u64) -> Tier {
        let one = Tier::of(64 << 20);
        one.keep(0);
        Tier::of(one.store.snapshot().memory_bytes * number)
    }

    /// Asks for a key, and keeps a response where there is none. Says whether there was.
    fn ask(&self, number: u64) -> bool {
        let found = self.store.lookup_memory(&key(number), &HeaderMap::new(), SystemTime::now());
        let is_there = matches!(found, Lookup::Found(..));
        if !is_there {
            self.keep(number);
        }
        is_there
    }

    fn keep(&self, number: u64) {
        // Everything, the route, and the URL.
        let names = vec![ScopeName(1), ScopeName(2), ScopeName(u128::from(number) << 64 | 3)];
        let scopes = Scopes { tags: Vec::new(), names };
        let held = self.runtime.block_on(self.store.hold(&scopes, &mut self.store.budget()));
        let now = SystemTime::now();
        let value = |text: String| HeaderValue::try_from(text).expect("it is visible ASCII");
        let fields: HeaderMap = [
            (DATE, value(httpdate::fmt_http_date(now))),
            (SERVER, HeaderValue::from_static("uvicorn")),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
            (ETAG, value(format!("\"{number:016x}\""))),
            (LAST_MODIFIED, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT")),
        ]
        .into_iter()
        .collect();
        let lifetime = Lifetime { duration: Duration::from_secs(3600), source: Source::MaxAge };
        let times = Times { requested: now, received: now };
        let head = StoredHead::new(StatusCode::OK, fields, times, Terms::plain(lifetime), Selection::empty());
        let body = Bytes::from(vec![b'x'; BODY_BYTES]);
        self.store.insert(StoredResponse { key: key(number), head, body, tags: Box::default(), held }, None);
    }
}

fn key(number: u64) -> CacheKey {
    CacheKey::from_parts(format!("http backend.example:8080 /api/mcp/customer/{number:07}").as_bytes())
}

/// Keys that are asked for more or less often.
struct Keys {
    /// How often a key up to this one is asked for; the last is sure.
    up_to: Vec<f64>,
}

impl Keys {
    fn zipf(number: u64, exponent: f64) -> Keys {
        let mut sum = 0.0;
        let mut up_to: Vec<f64> = (1..=number)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        up_to.iter_mut().for_each(|part| *part /= sum);
        Keys { up_to }
    }

    fn draw(&self, random: &mut fastrand::Rng) -> u64 {
        let chance = random.f64();
        self.up_to.partition_point(|up_to| *up_to <= chance).min(self.up_to.len() - 1) as u64
    }
}

/// A cache of so many keys that has those which were asked for most until now.
struct Counting {
    counts: Vec<u32>,
    held: BTreeSet<(u32, u32)>,
    room: usize,
}

impl Counting {
    fn new(room: u64) -> Counting {
        Counting { counts: vec![0; KEYS as usize + MILLION], held: BTreeSet::new(), room: room as usize }
    }

    fn ask(&mut self, key: u64) -> bool {
        let (place, count) = (key as u32, &mut self.counts[key as usize]);
        let is_there = self.held.remove(&(*count, place));
        *count += 1;
        if !is_there && self.held.len() == self.room {
            match self.held.first() {
                Some((least, _)) if *count > *least => self.held.pop_first(),
                _ => return false,
            };
        }
        self.held.insert((*count, place));
        is_there
    }
}

/// A cache of so many keys that lets go of the one that was not used for longest: the keys in the order of their last use, as a ring of
/// those before and after each.
struct Lru {
    before: Vec<u32>,
    after: Vec<u32>,
    held: usize,
    room: usize,
    once: u64,
}

impl Lru {
    /// The end of the ring stands at the place 0, the key 0 at 1, and so on.
    fn new(room: u64) -> Lru {
        let places = KEYS as usize + 1 + MILLION;
        Lru { before: vec![NOWHERE; places], after: vec![NOWHERE; places], held: 0, room: room as usize, once: KEYS }.empty()
    }

    fn empty(mut self) -> Lru {
        (self.before[0], self.after[0]) = (0, 0);
        self
    }

    /// A key that nobody has asked for.
    fn once(&mut self) -> u64 {
        self.once += 1;
        self.once - 1
    }

    fn ask(&mut self, key: u64) -> bool {
        let place = key as usize + 1;
        let is_there = self.after[place] != NOWHERE;
        if is_there {
            self.take_out(place);
        } else if self.held == self.room {
            self.take_out(self.before[0] as usize);
        }
        let first = self.after[0];
        (self.before[place], self.after[place]) = (0, first);
        self.before[first as usize] = place as u32;
        self.after[0] = place as u32;
        self.held += 1;
        is_there
    }

    fn take_out(&mut self, place: usize) {
        let (before, after) = (self.before[place], self.after[place]);
        self.after[before as usize] = after;
        self.before[after as usize] = before;
        (self.before[place], self.after[place]) = (NOWHERE, NOWHERE);
        self.held -= 1;
    }
}

const NOWHERE: u32 = u32::MAX;

const KEYS: u64 = 1_000_000;

const MILLION: usize = 1_000_000;

const BODY_BYTES: usize = 1024;
