//! Generations: what makes a purge exact, and cost the same however much it purges.
//!
//! Each scope (everything, a route, a tag, …) has a *generation*: a random value that a purge replaces. A stored response
//! depends on the generations that its scopes had *before its fetch began*, and may be used only while they still hold. So
//! a purge need not look for stored responses, and a fetch that was under way when the purge came is born invalid.
//!
//! Without Redis, the generations are those of this process. With Redis they lie there, each under a key of its own, and a
//! `Cell` is what this process knows of one. It knows it *currently* after having read it in the present epoch: replicas hear
//! of changes as they happen, and an epoch is a time in which nothing can have been missed. When the connection breaks, a new
//! epoch begins, and what was known counts no longer until it was read again. A generation that Redis does not have (purged,
//! evicted, flushed, lost in a failover) makes what depends on it unusable.
//!
//! A cell's *stamp* counts the changes that this process has seen. What depends on a generation holds the cell and the stamp that
//! it had (`held`); to check it on a hit is to compare two numbers.

use crate::clock::Clock;
use crate::rules::ScopeName;
use ahash::RandomState;
use hashbrown::HashTable;
use quick_cache::sync::Cache;
#[cfg(feature = "shuttle")]
use shuttle::sync::{Mutex, MutexGuard, atomic::AtomicU64};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
#[cfg(not(feature = "shuttle"))]
use std::sync::{Mutex, MutexGuard, atomic::AtomicU64};
use std::time::{Duration, Instant};

/// The generation of a scope. Random, so that no value ever comes back, whatever Redis forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    /// Replaced by a purge.
    pub(super) hard: u128,
    /// Replaced by a soft purge.
    pub(super) soft: u128,
}

/// What this process knows of all generations.
pub(super) struct Generations {
    cells: [Mutex<Cells>; SHARDS],
    hasher: RandomState,
    /// Keeps what is asked for often, also while nothing in memory depends on it.
    often: Cache<ScopeName, Arc<Cell>>,
    /// Counts the times in which nothing can have been missed.
    epoch: AtomicU64,
    /// Counts the times in which something may have been missed.
    gaps: AtomicU64,
    /// The values lie in Redis; otherwise what is here is all there is.
    are_shared: bool,
    clock: Clock,
}

#[derive(Default)]
struct Cells {
    /// By the hashes of their names. The names are in the cells alone, since there are as many as stored responses.
    known: HashTable<Place>,
    /// When there are so many, those go that nothing depends on any more.
    many: usize,
}

/// Where a cell is, as long as something depends on it.
struct Place {
    hash: u64,
    cell: Weak<Cell>,
}

/// What this process knows of one generation.
pub(super) struct Cell {
    pub(super) name: ScopeName,
    /// The changes seen: hard ones in the upper half, soft ones in the lower.
    pub(super) stamp: AtomicU64,
    /// The epoch in which it was last read, or `DOUBTED`, or `UNREAD`.
    pub(super) verified: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
pub(super) struct Known {
    /// Apart, since without Redis there is as much as one cell a stored response, and nothing of this.
    heard: Option<Box<Heard>>,
}

/// What was heard of a generation, and is known of it in Redis.
#[derive(Default)]
struct Heard {
    /// Counts what was heard of it, so that a reading that began before is not taken for the present state.
    news: u64,
    value: Value,
    /// Redis keeps it until then, at least.
    kept_until: Option<Instant>,
    /// It was made here, for a response that was not stored yet: nothing else is known to depend on it.
    is_new: bool,
}

/// What is to be done about the time that Redis keeps a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// Nothing.
    Right,
    /// It ends before what depends on it.
    Lengthen,
    /// It was made for longer than its only response lasts.
    Shorten,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Value {
    /// It was not read yet, or was replaced here.
    #[default]
    Unknown,
    /// Redis has none.
    Missing,
    Is(Generation),
}

/// A cell, and what had been heard of it before it was read.
pub(super) struct Noted {
    pub(super) cell: Arc<Cell>,
    news: u64,
    epoch: u64,
}

impl Generation {
    /// A generation that there never was before.
    pub(super) fn new() -> Generation {
        let mut octets = [0; 32];
        getrandom::fill(&mut octets).expect("the system has a source of random octets");
        Generation::from_octets(&octets).expect("these are 32 octets")
    }

    /// Reads a value in Redis; `None` if it is none of ours.
    pub(super) fn from_octets(octets: &[u8]) -> Option<Generation> {
        let octets: &[u8; 32] = octets.try_into().ok()?;
        let half = |half: &[u8]| u128::from_be_bytes(half.try_into().expect("half of 32 octets is 16"));
        Some(Generation { hard: half(&octets[..16]), soft: half(&octets[16..]) })
    }

    /// The value in Redis.
    pub(super) fn to_octets(self) -> [u8; 32] {
        let mut octets = [0; 32];
        octets[..16].copy_from_slice(&self.hard.to_be_bytes());
        octets[16..].copy_from_slice(&self.soft.to_be_bytes());
        octets
    }
}

impl Generations {
    pub(super) fn new(are_shared: bool, clock: Clock) -> Generations {
        Generations {
            cells: Default::default(),
            hasher: RandomState::new(),
            often: Cache::new(if are_shared { OFTEN_MAX } else { 0 }),
            epoch: AtomicU64::new(UNREAD + 1),
            gaps: AtomicU64::new(0),
            are_shared,
            clock,
        }
    }

    /// How much time has passed, by the clock.
    pub(super) fn passed(&self) -> Duration {
        self.clock.passed()
    }

    /// What is known of a scope's generation.
    pub(super) fn cell(&self, name: ScopeName) -> Arc<Cell> {
        if self.are_shared
            && let Some(cell) = self.often.get(&name)
        {
            return cell;
        }
        let hash = self.hasher.hash_one(name);
        let mut cells = self.lock(name);
        if let Some(cell) = cells.find(hash, name) {
            drop(cells);
            if self.are_shared {
                self.often.insert(name, cell.clone());
            }
            return cell;
        }
        let verified = if self.are_shared { UNREAD } else { self.epoch() };
        let (stamp, verified) = (AtomicU64::new(0), AtomicU64::new(verified));
        let cell = Arc::new(Cell { name, stamp, verified, known: Mutex::default() });
        cells.add(hash, &cell);
        if self.are_shared {
            drop(cells);
            self.often.insert(name, cell.clone());
        }
        cell
    }

    /// What is known of these scopes' generations.
    pub(super) fn cells(&self, names: &[ScopeName]) -> Vec<Arc<Cell>> {
        names.iter().map(|name| self.cell(*name)).collect()
    }

    /// Which of these must be read before they can be relied on; to be called before the reading begins.
    pub(super) fn to_read(&self, cells: impl IntoIterator<Item = Arc<Cell>>, since: u64) -> Vec<Noted> {
        self.to_read_again(cells.into_iter().filter(|cell| cell.verified.load(Ordering::Acquire) < since), since)
    }

    /// All of these, to be read whatever is known of them; to be called before the reading begins.
    pub(super) fn to_read_again(&self, cells: impl IntoIterator<Item = Arc<Cell>>, since: u64) -> Vec<Noted> {
        let noted = cells.into_iter().map(|cell| {
            let news = cell.lock().news();
            Noted { cell, news, epoch: since }
        });
        noted.collect()
    }

    /// Which of these Redis is known not to have.
    pub(super) fn missing(&self, cells: impl IntoIterator<Item = Arc<Cell>>, epoch: u64) -> Vec<Noted> {
        let missing = cells.into_iter().filter_map(|cell| {
            let known = cell.lock();
            let news = (known.value() == Value::Missing).then(|| known.news())?;
            drop(known);
            Some(Noted { cell, news, epoch })
        });
        missing.collect()
    }

    /// Takes in what Redis had, unless something was heard of it since the reading began.
    pub(super) fn learn(&self, noted: &Noted, read: Option<Generation>) {
        let cell = &noted.cell;
        let mut known = cell.lock();
        // Something was heard since, or a later reading was faster.
        if known.news() != noted.news || cell.verified.load(Ordering::Acquire) > noted.epoch {
            return;
        }
        let (before, value) = (known.value(), read.map_or(Value::Missing, Value::Is));
        if value != before {
            // Other readings that are under way may be older than this one. If they are newer, there will be news.
            known.note_news();
        }
        match (before, value) {
            (before, now) if before == now => {}
            (Value::Is(before), Value::Is(now)) if before.hard == now.hard => cell.count(SOFT),
            _ => {
                cell.count(HARD);
                known.heard().kept_until = None;
            }
        }
        known.heard().value = value;
        cell.verified.fetch_max(noted.epoch, Ordering::AcqRel);
    }

    /// Takes note that a generation in Redis has changed, or ended.
    pub(super) fn doubt(&self, name: ScopeName) {
        let cell = self.lock(name).find(self.hasher.hash_one(name), name);
        if let Some(cell) = cell {
            let mut known = cell.lock();
            known.note_news();
            cell.verified.store(DOUBTED, Ordering::Release);
        }
    }

    /// Replaces a generation here. Where generations are shared, Redis was told before, or will be before it is used again.
    pub(super) fn replace(&self, name: ScopeName, soft: bool) {
        let cell = self.lock(name).find(self.hasher.hash_one(name), name);
        // Nothing depends on a generation that has no cell.
        let Some(cell) = cell else { return };
        let mut known = cell.lock();
        known.note_news();
        cell.count(if soft { SOFT } else { HARD });
        if self.are_shared {
            // A soft purge leaves the hard half, by which it is known again.
            if !soft {
                let heard = known.heard();
                (heard.value, heard.kept_until) = (Value::Unknown, None);
            }
            // What was heard and not read may have been a hard one, for which a soft one does not make up.
            if !soft || cell.verified.load(Ordering::Acquire) != DOUBTED {
                cell.verified.store(UNREAD, Ordering::Release);
            }
        }
    }

    /// Takes note that changes may have been missed.
    pub(super) fn note_gap(&self) {
        self.gaps.fetch_add(1, Ordering::AcqRel);
        self.begin_epoch();
    }

    /// How often something may have been missed.
    pub(super) fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Acquire)
    }

    /// From now on, what is known must be read again before it is relied on. Gives the new epoch.
    pub(super) fn begin_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The time in which we live, in which nothing was missed.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn lock(&self, name: ScopeName) -> MutexGuard<'_, Cells> {
        self.cells[(name.0 >> 64) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cell {
    pub(super) fn name(&self) -> ScopeName {
        self.name
    }

    /// What is to be done for a response that ends at `ends`, if a generation may outlive it until `kept`.
    pub(super) fn keeping(&self, ends: Instant, kept: Instant) -> Keeping {
        let known = self.lock();
        let Some(heard) = &known.heard else { return Keeping::Lengthen };
        match heard.kept_until {
            Some(until) if until < ends => Keeping::Lengthen,
            Some(until) if heard.is_new && until > kept && !self.name.is_shared() => Keeping::Shorten,
            Some(_) => Keeping::Right,
            None => Keeping::Lengthen,
        }
    }

    /// Takes note that it was made here, and until when Redis keeps it.
    pub(super) fn note_made(&self, until: Instant) {
        let mut known = self.lock();
        let heard = known.heard();
        (heard.kept_until, heard.is_new) = (Some(until), true);
    }

    /// Takes note until when Redis keeps it, for what is stored now.
    pub(super) fn note_kept_until(&self, until: Instant) {
        let mut known = self.lock();
        let heard = known.heard();
        (heard.kept_until, heard.is_new) = (Some(until), false);
    }

    /// Counts a change. The stamp changes before the cell counts as verified, so who sees the latter sees the former.
    pub(super) fn count(&self, change: u64) {
        // The halves don't run into each other: a soft change that overflows counts as a hard one, which is on the safe side.
        self.stamp.fetch_add(change, Ordering::AcqRel);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cells {
    fn find(&self, hash: u64, name: ScopeName) -> Option<Arc<Cell>> {
        let mut found = None;
        self.known.find(hash, |place| {
            found = (place.hash == hash).then(|| place.cell.upgrade()).flatten().filter(|cell| cell.name == name);
            found.is_some()
        });
        found
    }

    /// Adds a cell whose name has none.
    fn add(&mut self, hash: u64, cell: &Arc<Cell>) {
        if self.known.len() >= self.many {
            // Of those that are left, half as many more may come until the next time, so it costs each of them three looks at most.
            self.known.retain(|place| place.cell.strong_count() > 0);
            self.many = (self.known.len() * 3 / 2).max(CELLS_MIN);
            if self.known.capacity() > 4 * self.many {
                self.known.shrink_to(self.many, |place| place.hash);
            }
        }
        if let Ok(before) = self.known.find_entry(hash, |place| place.hash == hash && place.cell.strong_count() == 0) {
            before.remove();
        }
        self.known.insert_unique(hash, Place { hash, cell: Arc::downgrade(cell) }, |place| place.hash);
    }
}

impl Known {
    /// What Redis has, as far as it is known.
    pub(super) fn value(&self) -> Value {
        self.heard.as_ref().map_or(Value::Unknown, |heard| heard.value)
    }

    /// How often something was heard of it.
    pub(super) fn news(&self) -> u64 {
        self.heard.as_ref().map_or(0, |heard| heard.news)
    }

    /// Takes note that something was heard of it.
    pub(super) fn note_news(&mut self) {
        self.heard().news += 1;
    }

    fn heard(&mut self) -> &mut Heard {
        self.heard.get_or_insert_default()
    }
}

/// What was heard to have changed counts as read before all epochs.
pub(super) const DOUBTED: u64 = 0;

/// So does what was not read yet, or not since it was replaced here. The epochs begin after this.
const UNREAD: u64 = 1;

/// One hard change, one soft change, and the half that the hard ones have.
pub(super) const HARD: u64 = 1 << 32;
pub(super) const SOFT: u64 = 1;
pub(super) const HALF_HARD: u64 = !(HARD - 1);

/// Enough that requests seldom meet.
const SHARDS: usize = 32;

/// Maps begin with so much room.
const CELLS_MIN: usize = 64;

/// So many generations are kept known although nothing in memory depends on them: without a memory tier, a hit in Redis then
/// needs to read only the value.
const OFTEN_MAX: usize = 16_384;

#[cfg(all(test, feature = "shuttle"))]
mod interleavings {
    use super::super::held::Standing;
    use super::super::tests::explore;
    use super::*;
    use shuttle::thread;

    /// A generation is read for a fetch while another replica purges: whatever the order, what was held from before does not hold.
    #[test]
    fn a_purge_between_reading_and_holding_is_never_missed() {
        let scenario = || {
            let generations = Arc::new(Generations::new(true, Clock::movable()));
            let redis = Arc::new(Mutex::new(Generation::new()));
            let name = ScopeName(1);
            let fetching = {
                let (generations, redis) = (generations.clone(), redis.clone());
                thread::spawn(move || {
                    for noted in generations.to_read([generations.cell(name)], generations.epoch()) {
                        let read = *redis.lock().unwrap();
                        generations.learn(&noted, Some(read));
                    }
                    let held = generations.hold([generations.cell(name)]);
                    let value = held.values().map(|values| values[0].1);
                    (held, value)
                })
            };
            let purging = {
                let (generations, redis) = (generations.clone(), redis.clone());
                thread::spawn(move || {
                    *redis.lock().unwrap() = Generation::new();
                    generations.doubt(name);
                })
            };
            let (held, value) = fetching.join().unwrap();
            purging.join().unwrap();
            let standing = generations.standing(&held, generations.epoch());
            let is_present = value == Some(*redis.lock().unwrap());
            assert!(is_present || standing > Standing::Softened, "{standing:?}");
        };
        explore(scenario, 20_000);
    }

    /// A purge here, while two requests use what depends on it: who began after its end never finds that it holds.
    #[test]
    fn what_is_replaced_here_holds_for_nobody_who_comes_after() {
        let scenario = || {
            let generations = Arc::new(Generations::new(false, Clock::movable()));
            let name = ScopeName(1);
            let held = generations.hold([generations.cell(name)]);
            let is_done = Arc::new(shuttle::sync::atomic::AtomicBool::new(false));
            let using: Vec<_> = (0..2)
                .map(|_| {
                    let (generations, held, is_done) = (generations.clone(), held.clone(), is_done.clone());
                    thread::spawn(move || {
                        let was_done = is_done.load(Ordering::SeqCst);
                        let standing = generations.standing(&held, generations.epoch());
                        assert!(!was_done || standing == Standing::Broken);
                    })
                })
                .collect();
            generations.replace(name, false);
            is_done.store(true, Ordering::SeqCst);
            using.into_iter().for_each(|using| using.join().unwrap());
        };
        explore(scenario, 20_000);
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::super::held::{Held, Standing};
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, VecDeque};

    #[test]
    fn a_soft_purge_here_does_not_make_up_for_news_of_another() {
        let (generations, name) = (Generations::new(true, Clock::movable()), ScopeName(1));
        for noted in generations.to_read([generations.cell(name)], generations.epoch()) {
            generations.learn(&noted, Some(Generation::new()));
        }
        let held = generations.hold([generations.cell(name)]);
        generations.doubt(name);
        generations.replace(name, true);
        assert_eq!(generations.standing(&held, generations.epoch()), Standing::Doubted);
        generations.replace(name, false);
        assert_eq!(generations.standing(&held, generations.epoch()), Standing::Broken);
    }

    /// A Redis as the generations see it, and what it has yet to tell its replicas.
    #[derive(Default)]
    struct World {
        redis: HashMap<ScopeName, Generation>,
        replicas: Vec<Replica>,
        /// Every purge, hard or soft, and how much each replica had heard when it was done.
        purges: Vec<(ScopeName, bool)>,
    }

    struct Replica {
        generations: Generations,
        /// What it will hear next; `None` is that anything may have changed. Each with the number of purges that were done before.
        news: VecDeque<(Option<ScopeName>, usize)>,
        /// Purges that it has heard of, or made.
        heard: usize,
        responses: Vec<Response>,
        /// A reading under way: what was noted before, and what Redis had.
        reading: Option<Vec<(Noted, Option<Generation>)>>,
    }

    struct Response {
        held: Held,
        scopes: Vec<ScopeName>,
        /// The purges that came before its fetch began.
        after: usize,
        /// Something that it depends on was evicted, flushed or never made.
        may_be_lost: bool,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Fetch { replica: usize, scopes: Vec<u8> },
        Purge { replica: usize, scope: u8, soft: bool },
        Hear { replica: usize },
        Evict { scope: u8 },
        Flush,
        Reconnect { replica: usize },
        BeginReading { replica: usize, scopes: Vec<u8> },
        EndReading { replica: usize },
    }

    impl World {
        fn new() -> World {
            let replica = || Replica {
                generations: Generations::new(true, Clock::movable()),
                news: VecDeque::new(),
                heard: 0,
                responses: Vec::new(),
                reading: None,
            };
            World { replicas: vec![replica(), replica()], ..World::default() }
        }

        fn tell(&mut self, but: Option<usize>, news: Option<ScopeName>) {
            let done = self.purges.len();
            for (_, replica) in self.replicas.iter_mut().enumerate().filter(|(index, _)| Some(*index) != but) {
                replica.news.push_back((news, done));
            }
        }

        /// Reads what is not known currently, and makes what is missing, as before a fetch.
        fn prepare(&mut self, replica: usize, scopes: &[ScopeName]) {
            for _ in 0..2 {
                let generations = &self.replicas[replica].generations;
                let cells = generations.cells(scopes);
                for noted in generations.to_read(cells.iter().cloned(), generations.epoch()) {
                    generations.learn(&noted, self.redis.get(&noted.cell.name()).copied());
                }
                let missing = generations.missing(cells.iter().cloned(), generations.epoch());
                let mut made = Vec::new();
                for noted in missing {
                    let name = noted.cell.name();
                    if let std::collections::hash_map::Entry::Vacant(vacant) = self.redis.entry(name) {
                        vacant.insert(Generation::new());
                        made.push(name);
                    }
                    generations.learn(&noted, self.redis.get(&name).copied());
                }
                made.into_iter().for_each(|name| self.tell(Some(replica), Some(name)));
            }
        }

        fn step(&mut self, step: &Step) {
            let named = |scopes: &[u8]| scopes.iter().map(|scope| ScopeName((*scope).into())).collect::<Vec<_>>();
            match step {
                Step::Fetch { replica, scopes } => {
                    let scopes = named(scopes);
                    self.prepare(*replica, &scopes);
                    let after = self.purges.len();
                    let it = &mut self.replicas[*replica];
                    let held = it.generations.hold(it.generations.cells(&scopes));
                    // What Redis did not confirm is not stored. What is outdated already, because news are on their way, is lost later.
                    if let Some(values) = held.values() {
                        let may_be_lost = values.iter().any(|(name, value)| self.redis.get(name) != Some(value));
                        it.responses.push(Response { held, scopes, after, may_be_lost });
                    }
                }
                Step::Purge { replica, scope, soft } => {
                    let name = ScopeName((*scope).into());
                    let new = Generation::new();
                    let hard = self.redis.get(&name).filter(|_| *soft).map_or(new.hard, |before| before.hard);
                    self.redis.insert(name, Generation { hard, soft: new.soft });
                    self.purges.push((name, *soft));
                    self.tell(Some(*replica), Some(name));
                    let it = &mut self.replicas[*replica];
                    it.generations.replace(name, *soft);
                    // It knows of its own purge; of those before it by others only what it has heard.
                    if it.news.is_empty() {
                        it.heard = self.purges.len();
                    } else {
                        it.news.push_back((Some(name), self.purges.len()));
                    }
                }
                Step::Hear { replica } => {
                    let it = &mut self.replicas[*replica];
                    if let Some((news, done)) = it.news.pop_front() {
                        match news {
                            Some(name) => it.generations.doubt(name),
                            None => it.generations.note_gap(),
                        }
                        it.heard = it.heard.max(done);
                    }
                }
                Step::Evict { scope } => {
                    let name = ScopeName((*scope).into());
                    if self.redis.remove(&name).is_some() {
                        self.lose(|response| response.scopes.contains(&name));
                        self.tell(None, Some(name));
                    }
                }
                Step::Flush => {
                    self.redis.clear();
                    self.lose(|_| true);
                    self.tell(None, None);
                }
                Step::Reconnect { replica } => {
                    let done = self.purges.len();
                    let it = &mut self.replicas[*replica];
                    it.news.clear();
                    it.reading = None;
                    it.generations.note_gap();
                    it.heard = done;
                }
                Step::BeginReading { replica, scopes } => {
                    let generations = &self.replicas[*replica].generations;
                    let cells = generations.cells(&named(scopes));
                    let noted = generations.to_read(cells, generations.epoch());
                    let read = noted.into_iter().map(|noted| {
                        let value = self.redis.get(&noted.cell.name()).copied();
                        (noted, value)
                    });
                    let read = read.collect();
                    self.replicas[*replica].reading = Some(read);
                }
                Step::EndReading { replica } => {
                    let it = &mut self.replicas[*replica];
                    for (noted, value) in it.reading.take().unwrap_or_default() {
                        it.generations.learn(&noted, value);
                    }
                }
            }
        }

        fn lose(&mut self, which: impl Fn(&Response) -> bool) {
            let responses = self.replicas.iter_mut().flat_map(|replica| &mut replica.responses);
            responses.filter(|response| which(response)).for_each(|response| response.may_be_lost = true);
        }

        /// Nothing is used that was purged by a purge which this replica has heard of.
        fn check_exact(&self) {
            for replica in &self.replicas {
                for response in &replica.responses {
                    let standing = replica.generations.standing(&response.held, replica.generations.epoch());
                    let purges = &self.purges[response.after.min(replica.heard)..replica.heard];
                    let concerned = |soft: bool| purges.iter().any(|(name, of)| *of == soft && response.scopes.contains(name));
                    assert!(standing > Standing::Softened || !concerned(false), "used although it was purged");
                    assert!(standing > Standing::Holds || !concerned(true), "fresh although it was softened");
                }
            }
        }

        /// When everything was heard and read, exactly what was purged or lost is not used any more.
        fn check_complete(&mut self) {
            for replica in 0..self.replicas.len() {
                while !self.replicas[replica].news.is_empty() {
                    self.step(&Step::Hear { replica });
                }
                let it = &self.replicas[replica];
                for response in &it.responses {
                    for noted in it.generations.to_read(response.held.cells(), it.generations.epoch()) {
                        it.generations.learn(&noted, self.redis.get(&noted.cell.name()).copied());
                    }
                    let standing = it.generations.standing(&response.held, it.generations.epoch());
                    let since = &self.purges[response.after..];
                    let concerned = |soft: bool| since.iter().any(|(name, of)| *of == soft && response.scopes.contains(name));
                    match (concerned(false), concerned(true)) {
                        (true, _) => assert_eq!(standing, Standing::Broken),
                        _ if response.may_be_lost => assert_ne!(standing, Standing::Unverified),
                        (false, true) => assert_eq!(standing, Standing::Softened),
                        (false, false) => assert_eq!(standing, Standing::Holds),
                    }
                }
            }
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let scopes = || proptest::collection::vec(0u8..4, 1..3);
        let step = prop_oneof![
            4 => (0usize..2, scopes()).prop_map(|(replica, scopes)| Step::Fetch { replica, scopes }),
            3 => (0usize..2, 0u8..4, any::<bool>()).prop_map(|(replica, scope, soft)| Step::Purge { replica, scope, soft }),
            6 => (0usize..2).prop_map(|replica| Step::Hear { replica }),
            1 => (0u8..4).prop_map(|scope| Step::Evict { scope }),
            1 => Just(Step::Flush),
            1 => (0usize..2).prop_map(|replica| Step::Reconnect { replica }),
            3 => (0usize..2, scopes()).prop_map(|(replica, scopes)| Step::BeginReading { replica, scopes }),
            3 => (0usize..2).prop_map(|replica| Step::EndReading { replica }),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_happens_nothing_is_used_that_was_purged_and_all_else_is(steps in steps()) {
            let mut world = World::new();
            for step in &steps {
                world.step(step);
                world.check_exact();
            }
            world.check_complete();
        }
    }

    #[test]
    fn cells_that_nothing_depends_on_are_forgotten() {
        let generations = Generations::new(false, Clock::movable());
        let kept: Vec<Held> = (0..1_000).map(|name| generations.hold(generations.cells(&[ScopeName(name << 64)]))).collect();
        for name in 0..200_000 {
            generations.hold(generations.cells(&[ScopeName((1_000 + name) << 64)]));
        }
        let known: usize = generations.cells.iter().map(|cells| cells.lock().unwrap().known.len()).sum();
        assert!(known <= kept.len() * 3 / 2 + SHARDS * CELLS_MIN, "{known}");
        assert!(kept.iter().all(|held| generations.standing(held, generations.epoch()) == Standing::Holds));
    }
}
