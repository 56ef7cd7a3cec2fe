//! What a stored response holds on to: the generations of before its fetch began; and how it stands now.

use super::generations::{Cell, DOUBTED, Generation, Generations, HALF_HARD, HARD, SOFT, Value};
use crate::rules::ScopeName;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The generations that held at one moment, for the scopes of one response.
#[derive(Clone)]
pub struct Held {
    dependencies: Arc<[Dependency]>,
    /// What counts until the response is stored.
    until_stored: Option<Box<UntilStored>>,
    epoch: u64,
    /// Just before what depends on them was asked for, by the time that passes, in microseconds.
    at: u64,
}

/// A scope's generation, as it was.
#[derive(Clone)]
pub(super) struct Dependency {
    cell: Arc<Cell>,
    stamp: u64,
}

/// A dependency that is not read anew for a response's sake: any news of it, or that news may have been missed, counts as a purge.
#[derive(Clone)]
struct UntilStored {
    dependency: Dependency,
    news: u64,
    gaps: u64,
}

/// What had been heard of some cells at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark<const N: usize> {
    epoch: u64,
    news: [u64; N],
}

impl<const N: usize> Default for Mark<N> {
    /// Nothing was heard.
    fn default() -> Mark<N> {
        Mark { epoch: 0, news: [0; N] }
    }
}

impl<const N: usize> Mark<N> {
    /// Whether something was heard since an earlier moment of one of these cells, or could have been missed.
    pub fn has_news_since(&self, earlier: &Mark<N>, cells: impl IntoIterator<Item = usize>) -> bool {
        self.epoch > earlier.epoch || cells.into_iter().any(|cell| self.news[cell] > earlier.news[cell])
    }
}

/// How what depends on generations stands now; the worst of them counts, and stands last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// All hold.
    Holds,
    /// A soft purge has come: what depends on them is stale.
    Softened,
    /// They may have changed while nothing could be heard.
    Unverified,
    /// One was heard to have changed, and was not read since.
    Doubted,
    /// A purge has come: what depends on them must not be used.
    Broken,
}

impl Standing {
    /// How it stands, in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Holds => "holds",
            Standing::Softened => "soft-purged",
            Standing::Unverified => "unverified",
            Standing::Doubted => "doubted",
            Standing::Broken => "purged",
        }
    }
}

impl Generations {
    /// The generations that hold now. Where they are shared, those that are not verified make it stand accordingly.
    pub(super) fn hold(&self, cells: impl IntoIterator<Item = Arc<Cell>>) -> Held {
        let dependencies = cells.into_iter().map(|cell| Dependency { stamp: cell.stamp.load(Ordering::Acquire), cell });
        Held { dependencies: dependencies.collect(), until_stored: None, epoch: self.epoch(), at: micros(self.passed()) }
    }

    /// How what depends on these generations stands, if what was read since this epoch began counts.
    pub(super) fn standing(&self, held: &Held, since: u64) -> Standing {
        let all = held.dependencies.iter().map(|dependency| dependency.standing(since)).max().unwrap_or(Standing::Broken);
        let is_ended = |until: &UntilStored| {
            let news = until.dependency.cell.lock().news();
            until.dependency.standing(since) == Standing::Broken || news != until.news || self.gaps() != until.gaps
        };
        if held.until_stored.as_deref().is_some_and(is_ended) { Standing::Broken } else { all }
    }

    /// Whether a soft purge has come that is known of, also where nothing is verified.
    pub(super) fn is_softened(&self, held: &Held) -> bool {
        held.dependencies.iter().any(|dependency| dependency.cell.stamp.load(Ordering::Acquire) != dependency.stamp)
    }

    /// What has been heard of these cells until now.
    pub(super) fn mark<const N: usize>(&self, cells: &[Arc<Cell>; N]) -> Mark<N> {
        let epoch = self.epoch();
        Mark { epoch, news: std::array::from_fn(|index| cells[index].lock().news()) }
    }
}

impl Dependency {
    /// The value that it is in Redis, if it is still the one that it was.
    pub(super) fn value(&self) -> Option<Generation> {
        let known = self.cell.lock();
        match known.value() {
            Value::Is(value) if self.cell.stamp.load(Ordering::Acquire) == self.stamp => Some(value),
            _ => None,
        }
    }

    /// What is known of it.
    pub(super) fn cell(&self) -> &Arc<Cell> {
        &self.cell
    }

    fn standing(&self, since: u64) -> Standing {
        let verified = self.cell.verified.load(Ordering::Acquire);
        let stamp = self.cell.stamp.load(Ordering::Acquire);
        if stamp >> 32 != self.stamp >> 32 {
            return Standing::Broken;
        }
        match verified {
            DOUBTED => Standing::Doubted,
            _ if verified < since => Standing::Unverified,
            _ if stamp != self.stamp => Standing::Softened,
            _ => Standing::Holds,
        }
    }
}

impl Held {
    /// Depends on generations as a stored value names them. What is not verified, or is another now, makes it stand accordingly.
    pub(super) fn of_record(generations: &Generations, named: &[(ScopeName, Generation)]) -> Held {
        let dependencies = named.iter().map(|(name, generation)| {
            let cell = generations.cell(*name);
            let known = cell.lock();
            let stamp = cell.stamp.load(Ordering::Acquire);
            let stamp = match known.value() {
                Value::Is(value) if value == *generation => stamp,
                Value::Is(value) if value.hard == generation.hard => {
                    (stamp & HALF_HARD) | (stamp.wrapping_sub(SOFT) & !HALF_HARD)
                }
                _ => stamp.wrapping_sub(HARD),
            };
            drop(known);
            Dependency { cell, stamp }
        });
        Held {
            dependencies: dependencies.collect(),
            until_stored: None,
            epoch: generations.epoch(),
            at: micros(generations.passed()),
        }
    }

    /// Depends on nothing that ever holds.
    pub(super) fn broken() -> Held {
        Held { dependencies: Arc::default(), until_stored: None, epoch: 0, at: 0 }
    }

    /// Depends on others as well.
    pub(super) fn and(&self, others: &Held) -> Held {
        let dependencies = self.dependencies.iter().chain(others.dependencies.iter()).cloned().collect();
        Held { dependencies, until_stored: self.until_stored.clone(), ..*self }
    }

    /// Depends on some of these alone, by their places.
    pub(super) fn only(&self, places: impl IntoIterator<Item = usize>) -> Held {
        let dependencies = places.into_iter().map(|place| self.dependencies[place].clone()).collect();
        Held { dependencies, until_stored: None, ..*self }
    }

    /// Depends on one of these as well, by its place, until the response is stored.
    pub(super) fn until_stored(self, others: &Held, place: usize, generations: &Generations) -> Held {
        let gaps = generations.gaps();
        let dependency = others.dependencies[place].clone();
        let news = dependency.cell.lock().news();
        Held { until_stored: Some(Box::new(UntilStored { dependency, news, gaps })), ..self }
    }

    /// Its dependency on a scope.
    pub(super) fn on(&self, name: ScopeName) -> Option<&Dependency> {
        self.dependencies.iter().find(|dependency| dependency.cell.name() == name)
    }

    /// Depends on what a scope is now, if that is this generation.
    pub(super) fn renewed(&self, name: ScopeName, generation: Generation) -> Option<Held> {
        let mut dependencies: Vec<Dependency> = self.dependencies.to_vec();
        let renewed = dependencies.iter_mut().find(|dependency| dependency.cell.name() == name)?;
        let known = renewed.cell.lock();
        let stamp = renewed.cell.stamp.load(Ordering::Acquire);
        let is_this = known.value() == Value::Is(generation);
        drop(known);
        renewed.stamp = stamp;
        is_this.then(|| Held { dependencies: dependencies.into(), ..self.clone() })
    }

    /// Replaces what a scope is here, where no Redis knows of it, and depends on what it is then; `None` if somebody else has replaced
    /// it since.
    pub(super) fn replacing(&self, name: ScopeName) -> Option<Held> {
        let mut dependencies: Vec<Dependency> = self.dependencies.to_vec();
        let renewed = dependencies.iter_mut().find(|dependency| dependency.cell.name() == name)?;
        let mut known = renewed.cell.lock();
        let is_unchanged = renewed.cell.stamp.load(Ordering::Acquire) == renewed.stamp;
        known.note_news();
        renewed.cell.count(HARD);
        let stamp = renewed.cell.stamp.load(Ordering::Acquire);
        drop(known);
        renewed.stamp = stamp;
        is_unchanged.then(|| Held { dependencies: dependencies.into(), ..self.clone() })
    }

    /// The same, for what was asked for at another time.
    pub fn at(&self, passed: Duration) -> Held {
        Held { at: micros(passed), ..self.clone() }
    }

    /// What a stored response depends on.
    pub(super) fn stored(self) -> Held {
        Held { until_stored: None, ..self }
    }

    /// The cells it depends on.
    pub(super) fn cells(&self) -> impl Iterator<Item = Arc<Cell>> {
        self.dependencies.iter().map(|dependency| dependency.cell.clone())
    }

    /// The values it depends on, to be stored; `None` if one is not known, or is another by now.
    pub(super) fn values(&self) -> Option<Vec<(ScopeName, Generation)>> {
        self.dependencies.iter().map(|dependency| Some((dependency.cell.name, dependency.value()?))).collect()
    }

    /// The epoch in which they held.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How long ago it was that they held, when so much time has passed.
    pub(super) fn age(&self, passed: Duration) -> Duration {
        passed.saturating_sub(Duration::from_micros(self.at))
    }

    /// About how many octets of memory it takes, with the cells that nobody else is likely to need.
    pub(super) fn weight(&self) -> usize {
        self.dependencies.len() * (size_of::<Dependency>() + CELL_OVERHEAD / SHARED_BY)
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.dependencies.iter().map(|dependency| (dependency.cell.name, dependency.stamp))).finish()
    }
}

fn micros(passed: Duration) -> u64 {
    u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
}

/// A cell and its place in the map; with Redis, what is known of it there as well.
const CELL_OVERHEAD: usize = 120;

/// Of a response's generations about half are its own: those of its URL, and of a tag that few others have.
const SHARED_BY: usize = 2;
