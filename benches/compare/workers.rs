//! What a second worker brings. Where the load needs a core for itself, two cores cannot show it; so this looks for what would
//! keep two workers from being twice one: what they cost each other.

use crate::Broken;
use crate::exchanges::{USUAL, ratios};
use crate::parts;
use crate::peers::{Peer, Setup};
use crate::process::pin;
use crate::rounds::{Bench, Contender, Kind};
use crate::table::{Goal, Measured, Results, Row, Unit};
use http::request::Parts;
use sidecache::rules::CacheKey;
use sidecache::store::{Lookup, Store};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub(crate) fn workers(bench: &Bench, results: &mut Results) -> Result<(), Broken> {
    let both = [bench.cores.serving, bench.cores.asking];
    let one = Peer::Sidecache(Setup::MEMORY).start(&bench.origin, bench.cores)?;
    let two = Peer::Sidecache(Setup { workers: 2, ..Setup::MEMORY }).start_on(&bench.origin, &both)?;
    let contenders = [
        Contender::new(&one, USUAL, Kind::Hits).labelled("one worker"),
        Contender::new(&two, USUAL, Kind::Hits).labelled("two workers, one of them beside the load"),
    ];
    let samples = bench.rounds(&contenders)?;
    let cpu = |place: usize| samples[place].iter().map(|sample| sample.cpu).collect::<Vec<f64>>();
    // Two cores do twice the work of one, less what a request costs more.
    let figures = ratios(cpu(0), cpu(1)).into_iter().map(|ratio| 2.0 * ratio).collect();
    let work = "two workers over one, by CPU a request: 2 x one's over two's";
    results.rows.push(Row::new(work, Goal::AtLeast(1.8), Unit::Times, figures));
    for (contender, samples) in contenders.iter().zip(samples) {
        let (work, who) = ("hit in memory, by workers, 2 KB".to_owned(), contender.label.clone());
        results.measured.push(Measured { work, who, samples });
    }
    drop((one, two));

    let mixture = Mixture::new();
    for (what, keys) in [("10,000 keys", KEYS), ("one key", 1)] {
        let figures: Result<Vec<f64>, Broken> = (0..bench.rounds)
            .map(|_| {
                let alone = mixture.look_up(&both[..1], keys, bench.seconds)?;
                Ok(mixture.look_up(&both, keys, bench.seconds)? / alone)
            })
            .collect();
        let work = format!("look-ups of two threads over one, {what}");
        results.rows.push(Row::new(&work, Goal::AtLeast(1.8), Unit::Times, figures?));
    }
    Ok(())
}

/// A store, and requests for what is in it.
struct Mixture {
    store: std::sync::Arc<Store>,
    asked: Vec<(CacheKey, Parts)>,
}

impl Mixture {
    fn new() -> Mixture {
        let (rules, store) = (parts::rules(), parts::store());
        let asked: Vec<(CacheKey, Parts)> = (0..KEYS as u32)
            .map(|id| {
                let request = parts::request(id);
                let key = parts::key(&rules, &request);
                store.insert(parts::stored(key.clone(), parts::held(&store, &rules, &request)), None);
                (key, request)
            })
            .collect();
        Mixture { store, asked }
    }

    /// Look-ups a second, of a thread on each of these cores, among the first so many keys.
    fn look_up(&self, cores: &[usize], keys: usize, seconds: u64) -> Result<f64, Broken> {
        let (is_over, start) = (AtomicBool::new(false), Barrier::new(cores.len() + 1));
        let work = |core: usize| {
            let pinned = pin(&[core]);
            start.wait();
            let (mut number, mut next) = (0_u64, core * 31);
            while !is_over.load(Ordering::Relaxed) {
                // A time of day that stood still would be one that was put back.
                let now = SystemTime::now();
                for _ in 0..100 {
                    next = (next + 7_919) % keys;
                    let (key, request) = &self.asked[next];
                    assert!(matches!(self.store.lookup_memory(key, &request.headers, now), Lookup::Found(..)));
                }
                number += 100;
            }
            pinned.map(|()| number)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = cores.iter().map(|core| scope.spawn(move || work(*core))).collect();
            start.wait();
            let begun = Instant::now();
            std::thread::sleep(Duration::from_secs(seconds));
            is_over.store(true, Ordering::Relaxed);
            let time = begun.elapsed().as_secs_f64();
            let mut all = 0;
            for thread in threads {
                all += thread.join().map_err(|_| "a thread has panicked".to_owned())??;
            }
            Ok(all as f64 / time)
        })
    }
}

const KEYS: usize = 10_000;
