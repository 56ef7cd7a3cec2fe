//! One fetch for many requests (RFC 9111 §4): the first leads, the others follow.
//!
//! The leader holds a `Lease`. What becomes of its fetch is told to all followers at once, by a `Landing`. A lease that is
//! dropped without one, for whatever reason, wakes the followers too.

use super::plan::Trouble;
use super::spool::Spool;
use crate::clock::Clock;
use crate::origin::OriginError;
use crate::rules::CacheKey;
use crate::semantics::StoredHead;
use crate::store::{self, Held, StoredResponse, WatchMark};
use ahash::RandomState;
use quick_cache::sync::Cache;
#[cfg(feature = "shuttle")]
use shuttle::sync::{Mutex, MutexGuard, atomic::AtomicUsize};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
#[cfg(not(feature = "shuttle"))]
use std::sync::{Mutex, MutexGuard, atomic::AtomicUsize};
use std::time::Duration;
use tokio::sync::watch;

/// The fetches under way that others may follow.
pub(super) struct Collapser {
    flights: Mutex<HashMap<FlightKey, Arc<Flight>, RandomState>>,
    /// Keys whose last response could not be stored.
    unstorable: Cache<u128, Unstorable>,
    /// Keys for which the origin gave no answer lately, and when that was, by the time that passes.
    failed: Cache<u128, (Trouble, Duration)>,
    followers_max: usize,
    remember: Duration,
    clock: Clock,
}

/// That a response could not be stored, and until when it is believed of the next one.
#[derive(Clone, Copy)]
struct Unstorable {
    /// By the time that passes.
    until: Duration,
    is_too_large: bool,
}

/// What tells fetches apart: the key, and the selecting fields where they are known.
pub(super) type FlightKey = (u128, u128);

/// What became of a fetch.
#[derive(Clone)]
pub(super) enum Landing {
    /// Its body is coming in, and may be stored; with the time that had passed when its head came.
    Streaming(Arc<StoredHead>, Arc<Spool>, Duration),
    /// There is a stored response to answer with: the origin has just confirmed it, or another replica has just stored it.
    Stored(Arc<StoredResponse>),
    /// The response is the leader's alone: it cannot be stored, so it cannot be shared.
    Unshared,
    /// There is no response.
    Failed(Arc<OriginError>),
    /// The origin says that it has failed. Who has something stored that may stand in answers with that.
    Erred,
}

/// What a request hears of the fetch that it follows.
pub(super) enum Landed {
    /// How it came out.
    With(Landing),
    /// It began before a purge, and the request came after it.
    BeforePurge,
    /// Its leader gave up.
    Never,
}

/// What a request is to a fetch.
pub(super) enum Joined {
    /// It makes it.
    Leader(Lease),
    /// Somebody else makes it.
    Follower(Following),
    /// It fetches for itself: too many follow already.
    Alone,
}

/// The right to fetch for a key. Dropping it, for whatever reason, wakes the followers.
pub(super) struct Lease {
    key: FlightKey,
    flight: Arc<Flight>,
    collapser: Arc<Collapser>,
}

/// A request that waits for another's fetch.
pub(super) struct Following {
    flight: Arc<Flight>,
    landing: watch::Receiver<Option<Landing>>,
}

struct Flight {
    key: CacheKey,
    /// The generations that held before the fetch began, and what had been heard of purges then; not there while it has not begun.
    began: OnceLock<(Held, WatchMark)>,
    /// The watches of the tags that the response turned out to have, by their places; set before it lands.
    watches: OnceLock<Box<[usize]>>,
    landing: watch::Sender<Option<Landing>>,
    followers: AtomicUsize,
}

impl Collapser {
    pub(super) fn new(followers_max: usize, remember: Duration, clock: Clock) -> Arc<Collapser> {
        let (unstorable, failed) = (Cache::new(REMEMBERED_MAX), Cache::new(REMEMBERED_MAX));
        Arc::new(Collapser { flights: Mutex::default(), unstorable, failed, followers_max, remember, clock })
    }

    /// Joins the fetch for a key, or begins it. One that began `before` a purge is not joined; a new one takes its place.
    pub(super) fn join(self: &Arc<Collapser>, flight_key: FlightKey, key: &CacheKey, before: Option<&Following>) -> Joined {
        let mut flights = self.lock();
        let is_outdated = |flight: &Arc<Flight>| before.is_some_and(|before| Arc::ptr_eq(&before.flight, flight));
        let Some(flight) = flights.get(&flight_key).filter(|flight| !is_outdated(flight)) else {
            let landing = watch::Sender::new(None);
            let flight = Flight {
                key: key.clone(),
                began: OnceLock::new(),
                watches: OnceLock::new(),
                landing,
                followers: AtomicUsize::new(0),
            };
            let flight = Arc::new(flight);
            flights.insert(flight_key, flight.clone());
            return Joined::Leader(Lease { key: flight_key, flight, collapser: self.clone() });
        };
        let is_full = flight.followers.load(Ordering::Relaxed) >= self.followers_max;
        if is_full || flight.key != *key {
            return Joined::Alone;
        }
        flight.followers.fetch_add(1, Ordering::Relaxed);
        Joined::Follower(Following { landing: flight.landing.subscribe(), flight: flight.clone() })
    }

    /// The fetch under way that a request would follow: the generations that it began with, if it has begun, and how many follow already.
    /// Nobody joins it.
    pub(super) fn look(&self, flight_key: FlightKey, key: &CacheKey) -> Option<(Option<Held>, usize)> {
        let flights = self.lock();
        let flight = flights.get(&flight_key).filter(|flight| flight.key == *key)?;
        let began = flight.began.get().map(|(held, _)| held.clone());
        Some((began, flight.followers.load(Ordering::Relaxed)))
    }

    /// Whether the key's last response could not be stored, so that waiting for each other would be in vain.
    pub(super) fn is_unstorable(&self, key: &CacheKey) -> bool {
        self.unstorable.get(&key.hash()).is_some_and(|unstorable| self.clock.passed() < unstorable.until)
    }

    /// Remembers that a key's response could not be stored.
    pub(super) fn note_unstorable(&self, key: &CacheKey) {
        self.unstorable.insert(key.hash(), Unstorable { until: self.clock.passed() + self.remember, is_too_large: false });
    }

    /// Remembers that a key's response turned out to be too large, for longer: those who share it are in one another's way.
    pub(super) fn note_too_large(&self, key: &CacheKey) {
        let until = self.clock.passed() + self.remember.max(TOO_LARGE_FOR);
        self.unstorable.insert(key.hash(), Unstorable { until, is_too_large: true });
    }

    /// Forgets that a key's response could not be stored, now that the head of one says that it can be. Of one that was too large, the
    /// head said so as well.
    pub(super) fn note_storable(&self, key: &CacheKey) {
        if self.unstorable.get(&key.hash()).is_some_and(|unstorable| !unstorable.is_too_large) {
            self.unstorable.remove(&key.hash());
        }
    }

    /// Forgets it, now that one is stored.
    pub(super) fn note_stored(&self, key: &CacheKey) {
        self.unstorable.remove(&key.hash());
    }

    /// What trouble there was with the origin when it was asked for this key last, and whether that was just now.
    pub(super) fn trouble(&self, key: &CacheKey) -> Option<(Trouble, bool)> {
        let (trouble, at) = self.failed.get(&key.hash())?;
        let since = self.clock.passed().saturating_sub(at);
        (since < FAILED_FOR).then_some((trouble, since < ASKED_AGAIN_AFTER))
    }

    /// Remembers that the origin gave no answer of any use.
    pub(super) fn note_failed(&self, key: &CacheKey, trouble: Trouble) {
        self.failed.insert(key.hash(), (trouble, self.clock.passed()));
    }

    /// Forgets it: the origin has answered.
    pub(super) fn note_answered(&self, key: &CacheKey) {
        self.failed.remove(&key.hash());
    }

    /// How many fetches are under way that others may follow.
    pub(super) fn under_way(&self) -> usize {
        self.lock().len()
    }

    /// How many requests wait for these.
    pub(super) fn followers(&self) -> usize {
        self.lock().values().map(|flight| flight.followers.load(Ordering::Relaxed)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FlightKey, Arc<Flight>, RandomState>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// What tells its variant from others of the key.
    pub(super) fn variant(&self) -> u128 {
        self.key.1
    }

    /// Notes the generations that hold now, just before the fetch begins, and what has been heard of purges.
    pub(super) fn begin(&self, held: &Held, mark: WatchMark) {
        let _ = self.flight.began.set((held.clone(), mark));
    }

    /// Notes the tags of a response that names some itself.
    pub(super) fn note_tags(&self, tags: &[String]) {
        let _ = self.flight.watches.set(store::watches_of(tags).collect());
    }

    /// Tells the followers, present and future, what became of the fetch.
    pub(super) fn land(&self, landing: Landing) {
        self.flight.landing.send_replace(Some(landing));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut flights = self.collapser.lock();
        // After a purge another may have taken its place.
        if flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.key);
        }
        drop(flights);
        // Those who still wait learn that nothing will come: an answer that says "look for yourself".
        self.flight.landing.send_if_modified(|landing| landing.is_none());
    }
}

impl Following {
    /// The generations that held before the fetch began, if it has begun.
    pub(super) fn held(&self) -> Option<&Held> {
        self.flight.began.get().map(|(held, _)| held)
    }

    /// Whether a tag that the response names itself may have been purged between the beginning of the fetch and the moment of `mark`.
    fn is_outdated(&self, mark: &WatchMark) -> bool {
        let (Some(watches), Some((_, began))) = (self.flight.watches.get(), self.flight.began.get()) else { return false };
        mark.has_news_since(began, watches.iter().copied())
    }

    /// Waits for the fetch to land, for a request that came when this had been heard of purges. `holds` says whether what depends on
    /// these generations may still be used.
    pub(super) async fn landed(&mut self, mark: &WatchMark, holds: impl FnOnce(&Held) -> bool) -> Landed {
        // Not `borrow_and_update`: a lease that was dropped since we joined has left no landing, only a change, and that change
        // must still be unseen when it is waited for.
        let mut landed = self.landing.borrow().clone();
        if landed.is_none() && self.landing.changed().await.is_ok() {
            landed = self.landing.borrow().clone();
        }
        match landed {
            None => Landed::Never,
            Some(_) if self.is_outdated(mark) => Landed::BeforePurge,
            // It may have been found a moment before the purge, by a leader that was still looking.
            Some(Landing::Stored(stored)) if !holds(&stored.held) => Landed::BeforePurge,
            Some(landing) => Landed::With(landing),
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.flight.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Of so many keys it is remembered that their responses could not be stored, and of so many that the origin failed.
const REMEMBERED_MAX: usize = 16_384;

/// That a response is too large is believed for so long, if none that is stored says otherwise.
const TOO_LARGE_FOR: Duration = Duration::from_secs(3600);

/// Where there is a stale answer, an origin that has just failed is left alone for so long.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A key that nobody asks for is not asked about either; after this long, its next request finds out for itself.
const FAILED_FOR: Duration = Duration::from_secs(60);

#[cfg(all(test, feature = "shuttle"))]
mod interleavings {
    use super::*;
    use crate::store::tests::explore;
    use shuttle::{future, thread};

    /// Requests join and leave, and their leaders land or give up: everybody hears of it, nobody waits for ever, nothing is left over.
    #[test]
    fn whoever_follows_hears_how_it_ended() {
        let scenario = |lands: bool| {
            let collapser = Collapser::new(10, Duration::from_secs(10), Clock::movable());
            let key = CacheKey::from_parts(b"a");
            let asking: Vec<_> = (0..3)
                .map(|_| {
                    let (collapser, key) = (collapser.clone(), key.clone());
                    thread::spawn(move || match collapser.join((key.hash(), 0), &key, None) {
                        Joined::Leader(lease) => {
                            thread::yield_now();
                            if lands {
                                lease.land(Landing::Unshared);
                            }
                        }
                        Joined::Follower(mut following) => {
                            let landed = future::block_on(following.landed(&WatchMark::default(), |_| true));
                            assert_eq!(matches!(landed, Landed::With(_)), lands);
                        }
                        Joined::Alone => panic!("there is room"),
                    })
                })
                .collect();
            asking.into_iter().for_each(|asking| asking.join().unwrap());
            assert_eq!(collapser.under_way(), 0);
        };
        explore(move || scenario(true), 10_000);
        explore(move || scenario(false), 10_000);
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use crate::store::tests::response;
    use http::HeaderMap;

    fn collapser(followers_max: usize) -> Arc<Collapser> {
        Collapser::new(followers_max, Duration::from_secs(10), Clock::movable())
    }

    fn key(parts: &'static str) -> CacheKey {
        CacheKey::from_parts(parts.as_bytes())
    }

    fn join(collapser: &Arc<Collapser>, parts: &'static str) -> Joined {
        let key = key(parts);
        collapser.join((key.hash(), 0), &key, None)
    }

    #[tokio::test]
    async fn the_first_leads_and_the_others_hear_how_it_ended() {
        let collapser = collapser(10);
        let Joined::Leader(lease) = join(&collapser, "a") else { panic!("the first leads") };
        let Joined::Follower(mut follower) = join(&collapser, "a") else { panic!("the second follows") };
        assert!(matches!(join(&collapser, "b"), Joined::Leader(_)));
        lease.land(Landing::Unshared);
        assert!(matches!(follower.landed(&WatchMark::default(), |_| true).await, Landed::With(Landing::Unshared)));
        drop(lease);
        assert_eq!(collapser.under_way(), 0);
    }

    #[tokio::test]
    async fn a_leader_that_vanishes_wakes_its_followers() {
        let collapser = collapser(10);
        let Joined::Leader(lease) = join(&collapser, "a") else { panic!("the first leads") };
        let Joined::Follower(mut follower) = join(&collapser, "a") else { panic!("the second follows") };
        let waiting = tokio::spawn(async move { follower.landed(&WatchMark::default(), |_| true).await });
        tokio::task::yield_now().await;
        drop(lease);
        assert!(matches!(waiting.await.unwrap(), Landed::Never));
        assert!(matches!(join(&collapser, "a"), Joined::Leader(_)));
    }

    #[tokio::test]
    async fn a_leader_that_vanished_before_its_follower_began_to_wait_wakes_it_too() {
        let collapser = collapser(10);
        let Joined::Leader(lease) = join(&collapser, "a") else { panic!("the first leads") };
        let Joined::Follower(mut follower) = join(&collapser, "a") else { panic!("the second follows") };
        drop(lease);
        let landed = tokio::time::timeout(Duration::from_secs(5), follower.landed(&WatchMark::default(), |_| true)).await;
        assert!(matches!(landed.expect("the follower is woken"), Landed::Never));
    }

    #[tokio::test]
    async fn what_was_found_before_a_purge_is_not_for_those_who_came_after_it() {
        let collapser = collapser(10);
        let Joined::Leader(lease) = join(&collapser, "a") else { panic!("the first leads") };
        let Joined::Follower(mut follower) = join(&collapser, "a") else { panic!("the second follows") };
        // A leader that found what another replica has stored never began a fetch of its own.
        lease.land(Landing::Stored(Arc::new(response("a", "old", &[], &HeaderMap::new()))));
        assert!(matches!(follower.landed(&WatchMark::default(), |_| false).await, Landed::BeforePurge));
        assert!(matches!(follower.landed(&WatchMark::default(), |_| true).await, Landed::With(Landing::Stored(_))));
    }

    #[tokio::test]
    async fn a_fetch_from_before_a_purge_is_replaced_and_goes_on_for_those_who_follow_it() {
        let collapser = collapser(10);
        let Joined::Leader(before) = join(&collapser, "a") else { panic!("the first leads") };
        let Joined::Follower(mut follower) = join(&collapser, "a") else { panic!("the second follows") };
        let Joined::Leader(after) = collapser.join((key("a").hash(), 0), &key("a"), Some(&follower)) else {
            panic!("it is replaced")
        };
        // Whoever found the old one outdated as well follows the new one.
        assert!(matches!(collapser.join((key("a").hash(), 0), &key("a"), Some(&follower)), Joined::Follower(_)));
        before.land(Landing::Unshared);
        drop(before);
        assert!(matches!(follower.landed(&WatchMark::default(), |_| true).await, Landed::With(Landing::Unshared)));
        assert!(matches!(join(&collapser, "a"), Joined::Follower(_)));
        drop(after);
        assert_eq!(collapser.under_way(), 0);
    }

    #[tokio::test]
    async fn the_followers_of_a_fetch_have_a_bound() {
        let collapser = collapser(1);
        let Joined::Leader(_lease) = join(&collapser, "a") else { panic!("the first leads") };
        let Joined::Follower(follower) = join(&collapser, "a") else { panic!("the second follows") };
        assert!(matches!(join(&collapser, "a"), Joined::Alone));
        drop(follower);
        assert!(matches!(join(&collapser, "a"), Joined::Follower(_)));
    }

    #[tokio::test]
    async fn keys_that_share_a_hash_do_not_share_a_fetch() {
        let collapser = collapser(10);
        let Joined::Leader(_lease) = collapser.join((1, 1), &key("a"), None) else { panic!("the first leads") };
        assert!(matches!(collapser.join((1, 1), &key("b"), None), Joined::Alone));
    }

    #[test]
    fn that_the_origin_failed_is_remembered_until_it_answers() {
        let collapser = collapser(1);
        collapser.note_failed(&key("a"), Trouble::Error);
        // The time of day has no part in it.
        collapser.clock.put_back(Duration::from_secs(86_400));
        assert_eq!((collapser.trouble(&key("a")), collapser.trouble(&key("b"))), (Some((Trouble::Error, true)), None));
        collapser.clock.advance(ASKED_AGAIN_AFTER);
        assert_eq!(collapser.trouble(&key("a")), Some((Trouble::Error, false)));
        collapser.clock.advance(FAILED_FOR);
        assert_eq!(collapser.trouble(&key("a")), None);
        collapser.note_failed(&key("a"), Trouble::Error);
        collapser.note_answered(&key("a"));
        assert_eq!(collapser.trouble(&key("a")), None);
    }

    #[test]
    fn an_unstorable_key_is_remembered_for_a_while() {
        let collapser = collapser(1);
        collapser.note_unstorable(&key("a"));
        collapser.clock.put_back(Duration::from_secs(86_400));
        assert!(collapser.is_unstorable(&key("a")));
        assert!(!collapser.is_unstorable(&key("b")));
        collapser.clock.advance(Duration::from_secs(11));
        assert!(!collapser.is_unstorable(&key("a")));
        collapser.note_unstorable(&key("a"));
        collapser.note_storable(&key("a"));
        assert!(!collapser.is_unstorable(&key("a")));
    }

    #[test]
    fn that_a_response_is_too_large_is_remembered_until_one_is_stored() {
        let collapser = collapser(1);
        collapser.note_too_large(&key("a"));
        collapser.note_storable(&key("a"));
        collapser.clock.advance(Duration::from_secs(3599));
        assert!(collapser.is_unstorable(&key("a")));
        collapser.clock.advance(Duration::from_secs(1));
        assert!(!collapser.is_unstorable(&key("a")));
        collapser.note_too_large(&key("a"));
        collapser.note_stored(&key("a"));
        assert!(!collapser.is_unstorable(&key("a")));
    }
}
