//! What a fetch holds on to before it begins: the generations of its scopes, and those that it watches until it knows which tags its
//! response names.

use super::generations::Cell;
use super::held::{Held, Mark, Standing};
use super::{Budget, Store};
use crate::rules::{ScopeName, Scopes, watch};
use std::sync::Arc;
use std::time::Duration;

/// What a fetch watches that does not know yet which tags its response names.
pub struct Watch {
    held: Held,
    /// What had been heard when the fetch began.
    pub mark: WatchMark,
}

/// What had been heard of purges of tags at one moment.
pub type WatchMark = Mark<{ watch::COUNT }>;

/// The watches of some tags, by their places.
pub fn watches_of(tags: &[String]) -> impl Iterator<Item = usize> {
    tags.iter().map(|tag| watch::of_tag(tag)).chain([watch::COMMON])
}

impl Store {
    /// The generations that hold now for these scopes; to be asked for before a fetch begins. Where they lie in Redis, they are read
    /// or made there, within the budget.
    pub async fn hold(&self, scopes: &Scopes, budget: &mut Budget) -> Held {
        self.hold_all(self.generations.cells(&scopes.names), budget).await
    }

    /// The same, with what is to be watched until it is known which tags the response names.
    pub async fn hold_and_watch(&self, scopes: &Scopes, budget: &mut Budget) -> (Held, Watch) {
        let number = scopes.names.len();
        let mut cells = self.generations.cells(&scopes.names);
        cells.extend(self.watched.iter().cloned());
        let both = self.hold_all(cells, budget).await;
        let held = both.only(0..number).until_stored(&both, number + watch::FETCHES, &self.generations);
        (held, Watch { held: both.only(number..number + watch::COUNT), mark: self.mark() })
    }

    /// Depends on the scopes of tags too, of which a response tells that was fetched meanwhile. If one of them may have been purged
    /// since the fetch began, nothing holds.
    pub async fn hold_tags(&self, held: &Held, watch: &Watch, tags: &[String], names: &[ScopeName], budget: &mut Budget) -> Held {
        let further = self.hold_all(self.generations.cells(names), budget).await;
        // In this order: a purge replaces the generation of a tag together with that of its watch, so who has the new one of the tag sees
        // that of the watch.
        let watched = watch.held.only(watches_of(tags));
        let standing = match self.redis.as_ref().filter(|redis| redis.is_up()) {
            Some(redis) => self.verify_again(redis, &watched, budget).await,
            None => self.generations.standing(&watched, self.generations.epoch()),
        };
        match standing {
            Standing::Holds => held.and(&further),
            // Redis is away; what is purged by others meanwhile is found out when it is back. What is purged here is known, also softly.
            Standing::Unverified if self.redis.as_ref().is_some_and(|redis| !redis.is_up()) => {
                match self.generations.is_softened(&watched) {
                    true => Held::broken(),
                    false => held.and(&further),
                }
            }
            _ => Held::broken(),
        }
    }

    /// What has been heard of purges of tags until now.
    pub fn mark(&self) -> WatchMark {
        self.generations.mark(&self.watched)
    }

    async fn hold_all(&self, cells: Vec<Arc<Cell>>, budget: &mut Budget) -> Held {
        if let Some(redis) = self.redis.as_ref().filter(|redis| redis.is_up()) {
            self.prepare(redis, &cells, budget).await;
        }
        self.generations.hold(cells)
    }

    /// Whether a stored response may still be used, as far as is known at this moment: no purge has come for it.
    pub fn is_unbroken(&self, held: &Held) -> bool {
        self.generations.standing(held, self.generations.epoch()) < Standing::Doubted
    }

    /// Whether generations that held when a fetch began still do, so that a request that comes later may share in it. After a soft purge
    /// they do not: what is fetched is stale then, and not each response may be used so.
    pub async fn still_hold(&self, held: &Held, budget: &mut Budget) -> bool {
        self.standing_now(held, budget).await == Standing::Holds
    }

    /// How what depends on these generations stands, after those were read that are not known currently.
    pub(super) async fn standing_now(&self, held: &Held, budget: &mut Budget) -> Standing {
        match (self.generations.standing(held, self.generations.epoch()), &self.redis) {
            // While Redis is away, nobody tells of purges. A fetch that began in the same absence, and just now, is shared nevertheless,
            // so that the origin does not meet the whole load at once.
            (Standing::Unverified, Some(redis)) if !redis.is_up() => {
                match held.epoch() == self.generations.epoch() && held.age(self.clock.passed()) < SHARED_ALONE_MAX {
                    true if self.generations.is_softened(held) => Standing::Softened,
                    true => Standing::Holds,
                    false => Standing::Unverified,
                }
            }
            (Standing::Unverified | Standing::Doubted, Some(redis)) => self.verify(redis, held, budget).await,
            (standing, _) => standing,
        }
    }
}

/// While Redis is away, a fetch is shared with requests that come so soon after its beginning: for so long a purge elsewhere may go
/// unnoticed by them.
const SHARED_ALONE_MAX: Duration = Duration::from_millis(500);
