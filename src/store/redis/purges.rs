//! Purges, and those that Redis has not heard of yet: kept in their order, and carried out before Redis is used again.

/// What becomes of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Order {
    /// It ends.
    Delete(String),
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

impl Order {
    /// The name of the generation in Redis.
    pub(in crate::store) fn name(&self) -> &str {
        match self {
            Order::Delete(name) | Order::Soften(name) => name,
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
            self.orders = vec![(self.added, Order::Delete(everything.to_owned()))];
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

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(name: &str) -> Order {
        Order::Delete(name.to_owned())
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
