//! Purges, and those that Redis has not heard of yet: kept in their order, and carried out before Redis is used again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What becomes of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Order {
    /// It is replaced.
    Replace(String),
    /// Its soft half is replaced.
    Soften(String),
}

/// The purges that Redis has not heard of.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Each with the number of the call that added it.
    orders: Vec<(u64, Order)>,
    added: u64,
}

/// Generations that have changed lately, by one's own purges or as others told. A server that comes back from an older state of itself,
/// or a replica of it that takes over before it has heard of everything, brings back what was purged; so they are replaced once more then.
#[derive(Debug, Default)]
pub(super) struct Recent {
    changed: HashMap<String, Instant>,
    /// So many have changed that all counts as changed.
    everything: Option<Instant>,
}

/// What came of purges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Carried {
    /// Redis did it, and asked the replicas if they were to be asked.
    Out,
    /// Redis did it, and had no room for the question.
    OutUnasked,
    /// It is not known whether Redis did it.
    Not,
}

impl Recent {
    /// Remembers that a generation has changed.
    pub(super) fn add(&mut self, name: &str, now: Instant) {
        if self.everything.is_some_and(|at| now.duration_since(at) < RECENT_KEPT / 2) {
            return;
        }
        self.changed.insert(name.to_owned(), now);
        if self.changed.len() > RECENT_MAX {
            self.changed.retain(|_, at| now.duration_since(*at) < RECENT_KEPT);
            if self.changed.len() > RECENT_MAX / 2 {
                self.changed.clear();
                self.everything = Some(now);
            }
        }
    }

    /// What may have been forgotten; `everything` is the name of the generation on which all depends.
    pub(super) fn orders(&self, everything: &str, now: Instant) -> Vec<Order> {
        let recent = |at: &Instant| now.duration_since(*at) < RECENT_KEPT;
        let changed = self.changed.iter().filter(|(_, at)| recent(at)).map(|(name, _)| name.as_str());
        let all = self.everything.as_ref().filter(|at| recent(at)).map(|_| everything);
        changed.chain(all).map(|name| Order::Replace(name.to_owned())).collect()
    }
}

impl Order {
    /// The name of the generation in Redis.
    pub(in crate::store) fn name(&self) -> &str {
        match self {
            Order::Replace(name) | Order::Soften(name) => name,
        }
    }

    pub(in crate::store) fn is_soft(&self) -> bool {
        matches!(self, Order::Soften(_))
    }
}

impl Backlog {
    /// Keeps purges for later. When they become too many, `everything` is purged in their stead.
    pub(super) fn add(&mut self, orders: &[Order], everything: &str) {
        self.added += 1;
        // One that comes again counts as late as it came: the earlier may be under way already.
        self.orders.retain(|(_, order)| !orders.contains(order));
        self.orders.extend(orders.iter().map(|order| (self.added, order.clone())));
        if self.orders.len() > ORDERS_MAX {
            self.orders = vec![(self.added, Order::Replace(everything.to_owned()))];
        }
    }

    /// What is to be carried out, and a mark to say later that it was.
    pub(super) fn orders(&self) -> (Vec<Order>, u64) {
        (self.orders.iter().map(|(_, order)| order.clone()).collect(), self.added)
    }

    /// Forgets what was carried out; what came after the mark stays.
    pub(super) fn done(&mut self, mark: u64) {
        self.orders.retain(|(added, _)| *added > mark);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }
}

/// So many orders are kept one by one; the purge of a tag is two.
const ORDERS_MAX: usize = 4096;

/// So many changed generations are remembered one by one.
const RECENT_MAX: usize = 16_384;

/// How far back in time a server may fall without bringing purged responses back.
const RECENT_KEPT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(name: &str) -> Order {
        Order::Replace(name.to_owned())
    }

    #[test]
    fn purges_are_kept_until_they_are_carried_out() {
        let mut backlog = Backlog::default();
        backlog.add(&[replace("a"), replace("b"), Order::Soften("a".into())], "all");
        let (orders, mark) = backlog.orders();
        assert_eq!(orders, [replace("a"), replace("b"), Order::Soften("a".into())]);
        // These came while the others were under way; `a` must be purged once more.
        backlog.add(&[replace("a"), replace("c")], "all");
        backlog.done(mark);
        let (orders, mark) = backlog.orders();
        assert_eq!(orders, [replace("a"), replace("c")]);
        backlog.done(mark);
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_has_changed_is_known_for_a_while() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        recent.add("a", now);
        recent.add("b", now);
        recent.add("a", later(300));
        assert_eq!(recent.orders("all", later(599)).len(), 2);
        assert_eq!(recent.orders("all", later(601)), [replace("a")]);
        (0..=RECENT_MAX).for_each(|number| recent.add(&number.to_string(), later(400)));
        assert_eq!(recent.orders("all", later(400)), [replace("all")]);
        recent.add("late", later(800));
        assert_eq!(recent.orders("all", later(800)).len(), 2);
        assert_eq!(recent.orders("all", later(1100)), [replace("late")]);
    }

    #[test]
    fn too_many_become_a_purge_of_everything() {
        let mut backlog = Backlog::default();
        for number in 0..=ORDERS_MAX {
            backlog.add(&[replace(&number.to_string())], "all");
        }
        assert_eq!(backlog.orders().0, [replace("all")]);
        backlog.add(&[replace("late")], "all");
        assert_eq!(backlog.len(), 2);
    }
}
