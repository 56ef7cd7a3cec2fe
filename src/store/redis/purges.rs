//! Purges, and those that Redis has not heard of yet: kept in their order, and carried out before Redis is used again.

use std::collections::VecDeque;
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

/// Purges that Redis has confirmed lately. A server that comes back from an older state of itself, or a replica of it that takes over
/// before it has heard of everything, brings back what they ended; so they are carried out once more then.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<(Instant, Order)>);

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
    /// Keeps purges for a while. When they become too many, `everything` counts as purged in their stead.
    pub(super) fn add(&mut self, orders: &[Order], everything: &str, now: Instant) {
        self.0.retain(|(at, order)| now.duration_since(*at) < RECENT_KEPT && !orders.contains(order));
        self.0.extend(orders.iter().map(|order| (now, order.clone())));
        if self.0.len() > ORDERS_MAX {
            self.0 = VecDeque::from([(now, Order::Replace(everything.to_owned()))]);
        }
    }

    /// What may have been forgotten.
    pub(super) fn orders(&self, now: Instant) -> Vec<Order> {
        let recent = self.0.iter().filter(|(at, _)| now.duration_since(*at) < RECENT_KEPT);
        recent.map(|(_, order)| order.clone()).collect()
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

/// So many purges are kept one by one.
const ORDERS_MAX: usize = 4096;

/// How far back in time a server may fall without bringing purged responses back.
const RECENT_KEPT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(name: &str) -> Order {
        Order::Replace(name.to_owned())
    }

    #[test]
    fn purges_are_kept_until_they_are_carried_out() {
        let mut backlog = Backlog::default();
        backlog.add(&[delete("a"), delete("b"), Order::Soften("a".into())], "all");
        let (orders, mark) = backlog.orders();
        assert_eq!(orders, [delete("a"), delete("b"), Order::Soften("a".into())]);
        // These came while the others were under way; `a` must be purged once more.
        backlog.add(&[delete("a"), delete("c")], "all");
        backlog.done(mark);
        let (orders, mark) = backlog.orders();
        assert_eq!(orders, [delete("a"), delete("c")]);
        backlog.done(mark);
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_was_carried_out_is_known_for_a_while() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        recent.add(&[delete("a"), delete("b")], "all", now);
        recent.add(&[delete("a")], "all", now + Duration::from_secs(300));
        assert_eq!(recent.orders(now + Duration::from_secs(599)), [delete("b"), delete("a")]);
        assert_eq!(recent.orders(now + Duration::from_secs(601)), [delete("a")]);
        for number in 0..=ORDERS_MAX {
            recent.add(&[delete(&number.to_string())], "all", now);
        }
        assert_eq!(recent.orders(now)[0], delete("all"));
    }

    #[test]
    fn too_many_become_a_purge_of_everything() {
        let mut backlog = Backlog::default();
        for number in 0..=ORDERS_MAX {
            backlog.add(&[delete(&number.to_string())], "all");
        }
        assert_eq!(backlog.orders().0, [delete("all")]);
        backlog.add(&[delete("late")], "all");
        assert_eq!(backlog.len(), 2);
    }
}
