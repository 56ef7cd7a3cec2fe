//! Purging, and hearing of purges.
//!
//! A purge replaces the generations of its scopes: in Redis, where other replicas hear of it, and then here. It is done when
//! Redis has confirmed it. Where Redis cannot be asked, it is done here at once, and in Redis before that is used again.

use super::held::{Held, Standing};
use super::lease::Waited;
use super::redis::{Carried, Named, News, Order, Redis};
use super::replicas::Question;
use super::sweep::delete_from_redis;
use super::{Store, StoredResponse};
use crate::rules::{Scope, ScopeName};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// How far a purge has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It is done in this process, and there is no other.
    Here,
    /// Redis has confirmed it, and tells all replicas.
    Everywhere,
    /// The same, but the replicas could not be asked whether they have heard: Redis has no room for the question.
    EverywhereUnasked,
    /// It is done in this process; Redis, and with it the others, will hear of it when it is back.
    HereFirst,
}

impl Reach {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reach::Here => "here",
            Reach::Everywhere | Reach::EverywhereUnasked => "everywhere",
            Reach::HereFirst => "here-first",
        }
    }
}

impl Store {
    /// Purges scopes: what lies in them, and what is being fetched now, is not used any more; a soft purge makes it stale instead.
    ///
    /// With a question, all replicas are asked whether they have heard of it. Must not be given up half-way: then Redis would know of
    /// the purge, and this process would not.
    pub async fn purge(self: &Arc<Store>, scopes: &[Scope], soft: bool, question: Option<&Question>) -> Reach {
        let reach = self.make_unusable(scopes, soft, question).await;
        if !soft && scopes.contains(&Scope::All) {
            // Nothing that is stored can be used any more. What other purges leave behind goes as it is found.
            let (store, (swept, is_swept)) = (self.clone(), oneshot::channel());
            self.tasks.spawn(async move {
                store.sweep_memory().await;
                let _ = swept.send(());
            });
            // Where there is little, it is gone when the answer comes.
            let _ = tokio::time::timeout(SWEPT_WAITED, is_swept).await;
            if let (Some(redis), Reach::Everywhere) = (self.redis.clone(), reach) {
                self.tasks.spawn(async move {
                    delete_from_redis(&redis, &[Scope::All.name()]).await;
                });
            }
        }
        reach
    }

    /// The same, and leaves the octets where they are.
    pub(super) async fn make_unusable(&self, scopes: &[Scope], soft: bool, question: Option<&Question>) -> Reach {
        // The watches first: here, one after the other is replaced, and who sees that of a tag must see that of its watch.
        let watches = scopes.iter().filter_map(Scope::watch);
        let mut names: Vec<ScopeName> = watches.chain(scopes.iter().map(Scope::name)).collect();
        let mut known = HashSet::new();
        names.retain(|name| known.insert(*name));
        let reach = match &self.redis {
            None => Reach::Here,
            Some(redis) => {
                let order = |name: &ScopeName| match (redis.names().generation(*name), soft) {
                    (name, true) => Order::Soften(name),
                    (name, false) => Order::Replace(name),
                };
                if let Some(question) = question {
                    self.asked.note(question.id());
                }
                let question = question.map(|question| (question.id(), question.task()));
                match redis.purge(&names.iter().map(order).collect::<Vec<_>>(), question).await {
                    Carried::Out => Reach::Everywhere,
                    Carried::OutUnasked => Reach::EverywhereUnasked,
                    Carried::Not => Reach::HereFirst,
                }
            }
        };
        match reach {
            Reach::Here => self.stats.purges.here.inc(),
            Reach::Everywhere | Reach::EverywhereUnasked => self.stats.purges.everywhere.inc(),
            Reach::HereFirst => self.stats.purges.here_first.inc(),
        }
        // After Redis: what was read from there before does not count any more, and what is read from now on is new.
        names.iter().for_each(|name| self.generations.replace(*name, soft));
        reach
    }

    /// Purges scopes because a request has changed what lies in them, within the time that a request may spend on Redis. Where that is
    /// not enough, it goes on in the background, and what this process knows of is not used from here on.
    pub async fn invalidate(self: &Arc<Store>, scopes: Vec<Scope>) {
        let (store, purged) = (self.clone(), scopes.clone());
        let (done, is_done) = oneshot::channel();
        self.tasks.spawn(async move {
            store.purge(&purged, false, None).await;
            let _ = done.send(());
        });
        // Without Redis the purge waits for nothing.
        let limit = self.redis.as_ref().map_or(INVALIDATED_HERE, |redis| redis.options().budget);
        if tokio::time::timeout(limit, is_done).await.is_err() {
            scopes.iter().for_each(|scope| self.generations.replace(scope.name(), false));
        }
    }

    /// Purges a target because something has come that takes its place, and gives what that depends on: what was `held` before it was
    /// asked for, but for the target. `None` if anybody else has purged the target since, or may have.
    pub async fn supersede(self: &Arc<Store>, held: &Held, target: &Scope) -> Option<Held> {
        let name = target.name();
        let superseded = match self.redis.as_ref().filter(|redis| redis.is_up()) {
            None if self.redis.is_some() => None,
            None => held.replacing(name),
            Some(redis) => {
                let budget = redis.options().budget;
                tokio::time::timeout(budget, self.supersede_in(redis, held, name)).await.ok().flatten()
            }
        };
        if superseded.is_none() {
            self.invalidate(vec![target.clone()]).await;
        }
        superseded
    }

    async fn supersede_in(&self, redis: &Redis, held: &Held, name: ScopeName) -> Option<Held> {
        let dependency = held.on(name)?;
        let before = dependency.value()?;
        self.generations.replace(name, false);
        // What is heard from here on counts more than what is learnt below.
        let noted = self.generations.to_read_again([dependency.cell().clone()], self.generations.epoch());
        let key = redis.names().generation(name);
        let (previous, new) = redis.exchange(&key).await?;
        redis.note_changed(&key);
        if previous != Some(before) {
            return None;
        }
        self.generations.learn(noted.first()?, Some(new));
        held.renewed(name, new)
    }

    /// What memory holds that a purge of these scopes would concern: responses, and octets. It looks at everything.
    pub async fn in_memory_under(self: &Arc<Store>, scopes: &[Scope]) -> (usize, u64) {
        let scopes: Vec<ScopeName> = scopes.iter().map(Scope::name).collect();
        let responses = self.in_memory().await.into_iter().map(|(stored, _)| stored);
        let concerned =
            responses.filter(|stored| self.generations.standing(&stored.held, self.generations.epoch()) < Standing::Broken);
        let concerned = concerned.filter(|stored| stored.held.cells().any(|cell| scopes.contains(&cell.name())));
        concerned.fold((0, 0), |(number, octets), stored| (number + 1, octets + stored.weight()))
    }

    /// What memory holds in these scopes, and was asked for again after it was stored: the most popular first, `number` at most. It
    /// looks at everything.
    pub async fn popular_under(self: &Arc<Store>, scopes: &[Scope], number: usize) -> Vec<Arc<StoredResponse>> {
        let scopes: Vec<ScopeName> = scopes.iter().map(Scope::name).collect();
        let found = self.in_memory().await.into_iter();
        let concerned = |stored: &StoredResponse| stored.held.cells().any(|cell| scopes.contains(&cell.name()));
        let mut popular: Vec<_> = found.filter(|(stored, times)| *times > 0 && concerned(stored)).collect();
        popular.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        popular.into_iter().take(number).map(|(stored, _)| stored).collect()
    }

    /// Takes note of what has changed in Redis.
    pub(super) fn hear(self: &Arc<Store>, news: News<'_>) {
        if news == News::Connected {
            self.asked.look_now();
            self.share_purges();
            return self.connected_in.store(self.generations.epoch(), Ordering::Release);
        }
        let (Some(redis), News::Changed(name)) = (&self.redis, news) else {
            self.generations.note_gap();
            self.wake_all();
            // What made Redis forget everything made it forget who is present.
            return self.redis.iter().for_each(Redis::beat_now);
        };
        match redis.names().read(name) {
            Some(Named::Response(hash)) => {
                if let Some(memory) = &self.memory {
                    memory.doubt(hash);
                }
                self.wake(hash, Waited::Stored);
            }
            Some(Named::Lease(hash)) => self.wake(hash, Waited::GivenBack),
            Some(Named::Generation(name)) => {
                self.generations.doubt(name);
                redis.note_changed(&redis.names().generation(name));
            }
            Some(Named::Question(id)) => self.answer(id),
            Some(Named::Coming(id)) => self.asked.note_coming(&id),
            None => {}
        }
    }
}

/// How long an invalidation in this process alone is waited for.
const INVALIDATED_HERE: Duration = Duration::from_secs(1);

/// How long a purge of everything waits until memory was swept.
const SWEPT_WAITED: Duration = Duration::from_millis(20);
