//! Requests that are known by their octets.
//!
//! Most clients of a service say the same few things again and again, to the octet. What a request's head is read for (is it
//! refused, which route, which key, what selects a variant) is a function of its octets, of who is at the other end, and of the
//! configuration; so what came of it once comes of it the next time. Here it is kept for heads that were answered by a hit, so that
//! the next one is answered by two look-ups, of which the second is in memory or, where nothing is kept in memory, in Redis. Whether there is
//! a response, whether it is fresh, and which variant it is, is asked anew, of the same who are always asked. Of the response its head is
//! kept, as it was written for such a request, for as long as it is the same one; and of one in Redis what was decoded of it (`Trail`).
//!
//! What depends on more than the octets is not known here: credentials, which may end; conditions, ranges and directives, which are
//! weighed against the response; queries of which responses say that they are alike.

use super::arrival::{Arrival, ArrivedBody};
use super::outcome::Outcome;
use super::settle::detached;
use super::{AnswerKnown, Proxy, interim, respond};
use crate::rules::{Admitted, CacheKey, Share};
use crate::semantics::age;
use crate::semantics::cache_status::CACHE_STATUS;
use crate::semantics::fields::{self, Kind};
use crate::store::{Lookup, StoredResponse, TRAIL_BYTES, Tier, Trail};
use ahash::RandomState;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{AGE, CONNECTION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

/// Heads of requests, and what came of reading them. It lives as long as the configuration that they were read by.
pub(super) struct Known {
    requests: Cache<u64, Arc<KnownRequest>, ByOctets, RandomState>,
    hasher: RandomState,
    /// The hashes of heads that came lately: to be known one has to come again, since many never do. Inverted, of those that cannot be known.
    lately: Box<[AtomicU64]>,
}

/// A request, as far as answering it by a hit needs to know it.
struct KnownRequest {
    octets: Bytes,
    is_trusted: bool,
    is_secure: bool,
    route: usize,
    key: CacheKey,
    /// Those of the request as it was looked up.
    fields: HeaderMap,
    /// Where its response lies, where that is Redis alone.
    trail: Option<Trail>,
    written: ArcSwapOption<Written>,
}

/// The head of a response as it was written, without what is said of its use.
struct Written {
    /// Does not keep it.
    stored: Weak<StoredResponse>,
    octets: Box<[u8]>,
}

#[derive(Clone)]
struct ByOctets;

impl Weighter<u64, Arc<KnownRequest>> for ByOctets {
    fn weight(&self, _: &u64, request: &Arc<KnownRequest>) -> u64 {
        // The fields lie there a second time, and each takes a place in a table.
        let trail = request.trail.as_ref().map_or(0, |_| TRAIL_BYTES);
        (ENTRY_BYTES + 2 * request.octets.len() + FIELD_BYTES * request.fields.capacity() + trail) as u64
    }
}

impl Known {
    /// What it is to be known for lies in memory, or `in_redis_alone`.
    pub(super) fn new(in_redis_alone: bool) -> Known {
        let bytes_max = if in_redis_alone { TRAILS_BYTES_MAX } else { BYTES_MAX };
        let options = OptionsBuilder::new().estimated_items_capacity(TYPICAL_NUMBER).weight_capacity(bytes_max).build();
        let (options, hasher) = (options.expect("capacity and estimate are set"), RandomState::new());
        let requests = Cache::with_options(options, ByOctets, hasher.clone(), DefaultLifecycle::default());
        Known { requests, hasher, lately: (0..LATELY).map(|_| AtomicU64::new(0)).collect() }
    }

    fn find(&self, octets: &[u8], is_trusted: bool, is_secure: bool) -> Option<Arc<KnownRequest>> {
        let request = self.requests.get(&self.hasher.hash_one(octets))?;
        let is_it = request.octets == octets && request.is_trusted == is_trusted && request.is_secure == is_secure;
        is_it.then_some(request)
    }

    /// Whether a head with this hash came lately, and may be known.
    fn has_come(&self, hash: u64) -> bool {
        let place = &self.lately[hash as usize % LATELY];
        let before = place.load(Ordering::Relaxed);
        if before != !hash {
            place.store(hash, Ordering::Relaxed);
        }
        before == hash
    }

    /// Takes note of a head that cannot be known, so that nobody looks at it again.
    fn give_up(&self, hash: u64) {
        self.lately[hash as usize % LATELY].store(!hash, Ordering::Relaxed);
    }
}

impl Proxy {
    /// Takes note of a request that was answered by a hit.
    pub(super) fn get_to_know(&self, arrival: &Arrival, admitted: &Admitted<'_>, stored: &StoredResponse) {
        let Some(octets) = &arrival.client.octets else { return };
        let is_shown = self.options.access_log || self.options.shows_key;
        if is_shown || octets.len() > OCTETS_MAX || stored.head.part().is_some() || !depends_on_octets_alone(arrival, admitted) {
            return;
        }
        let hash = self.known.hasher.hash_one(&octets[..]);
        if !self.known.has_come(hash) {
            return;
        }
        if !is_plain(octets, arrival) {
            self.known.give_up(hash);
            return;
        }
        let (is_trusted, is_secure) = (arrival.is_trusted, arrival.client.is_secure);
        let (route, key, fields) = (admitted.index, admitted.key.clone(), detached(&arrival.parts.headers));
        let trail = self.store.trail(&key, admitted.scopes(&arrival.parts));
        let (octets, written) = (octets.clone(), ArcSwapOption::empty());
        let request = KnownRequest { octets, is_trusted, is_secure, route, key, fields, trail, written };
        self.known.requests.insert(hash, Arc::new(request));
    }

    /// Answers a request of which these are all octets, if they are known and there is a fresh response: writes its head, and gives its
    /// body. Whoever gets no answer here has the request read, and gets one then.
    pub(super) fn serve_known(
        self: &Arc<Proxy>,
        octets: &[u8],
        address: IpAddr,
        is_secure: bool,
        head: &mut Vec<u8>,
    ) -> AnswerKnown {
        let (started, now) = (Instant::now(), self.clock.now());
        let Some(request) = self.known.find(octets, self.options.trusts(address), is_secure) else { return AnswerKnown::Unknown };
        if request.trail.is_none() {
            let found = self.store.lookup_memory(&request.key, &request.fields, now);
            let Lookup::Found(Tier::Memory, stored) = found else { return AnswerKnown::Unknown };
            let body = stored.body.clone();
            let written = self.write_hit(&request, &stored, &body, Tier::Memory, (now, started), head);
            return written.map_or(AnswerKnown::Unknown, |()| AnswerKnown::Now(body));
        }
        if !self.store.may_read_again() {
            return AnswerKnown::Unknown;
        }
        let proxy = self.clone();
        AnswerKnown::InAMoment(Box::pin(async move {
            let trail = request.trail.as_ref()?;
            let (stored, body) = proxy.store.read_again(trail, &request.fields, &mut proxy.store.budget()).await?;
            let mut head = Vec::with_capacity(HEAD_BYTES);
            let now = proxy.clock.now();
            proxy.write_hit(&request, &stored, &body, Tier::Redis, (now, started), &mut head)?;
            Some((head, body))
        }))
    }

    /// Writes the head of a hit, and counts it; `None` if the response is not one that answers as it is.
    fn write_hit(
        &self,
        request: &KnownRequest,
        stored: &Arc<StoredResponse>,
        body: &Bytes,
        tier: Tier,
        (now, started): (SystemTime, Instant),
        head: &mut Vec<u8>,
    ) -> Option<()> {
        // Whether it is refreshed early is left to chance, which is taken once.
        let may_be_due = || self.rules.routes()[request.route].early_refresh && stored.head.is_due_early(now, || LUCKIEST);
        if !stored.head.is_fresh(now) || stored.head.part().is_some() || may_be_due() {
            return None;
        }
        self.write_head(request, stored, body, now, head)?;
        let outcome = Outcome::hit(tier, stored.head.ttl(now)).after_look_up(tier == Tier::Redis);
        let age = age::current(&stored.head, now).as_secs();
        write!(head, "{AGE}: {age}\r\n{CACHE_STATUS}: ").ok()?;
        head.extend_from_slice(outcome.value().as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
        self.note(&outcome, self.counters.of(Some(request.route)), started);
        self.stats.hits_known.inc();
        Some(())
    }

    /// Writes the head of a stored response (RFC 9112 §4, §5), but for what is said of its use.
    fn write_head(
        &self,
        request: &KnownRequest,
        stored: &Arc<StoredResponse>,
        body: &Bytes,
        now: SystemTime,
        head: &mut Vec<u8>,
    ) -> Option<()> {
        if let Some(written) = &*request.written.load()
            && std::ptr::eq(written.stored.as_ptr(), Arc::as_ptr(stored))
        {
            head.extend_from_slice(&written.octets);
            return Some(());
        }
        let whole = StoredResponse { body: body.clone(), ..StoredResponse::clone(stored) };
        let mut response = respond::whole(&Method::GET, &whole, now);
        response.headers_mut().remove(AGE);
        self.strip_tags(&mut response);
        // For what has no phrase hyper has one.
        response.status().canonical_reason()?;
        let octets = interim::head(response.status(), response.headers());
        head.extend_from_slice(&octets);
        if octets.len() <= WRITTEN_BYTES_MAX {
            let written = Written { stored: Arc::downgrade(stored), octets: octets.into() };
            request.written.store(Some(Arc::new(written)));
        }
        Some(())
    }
}

/// Whether nothing that was asked of the time, of what responses have said, or of the response that was found decided how the request
/// was read.
fn depends_on_octets_alone(arrival: &Arrival, admitted: &Admitted<'_>) -> bool {
    let Arrival { parts, kinds, body, upgrade, .. } = arrival;
    parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && matches!(body, ArrivedBody::None)
        && upgrade.is_none()
        && !kinds.has_any(&[Kind::Credential, Kind::Conditional, Kind::Asking])
        // Fields that an operator calls credentials are.
        && !matches!(admitted.route.share, Share::PerCredential(_))
        && !admitted.route.heeds_no_vary_search
}

/// Whether these are the octets of this request and of nothing else, and say no more about the connection than that it goes on.
fn is_plain(octets: &[u8], arrival: &Arrival) -> bool {
    let Some(head) = octets.strip_suffix(b"\r\n\r\n") else { return false };
    let mut lines = head.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let target = arrival.parts.uri.path_and_query().map_or("", |target| target.as_str());
    if lines.next() != Some(format!("GET {target} HTTP/1.1").as_bytes()) {
        return false;
    }
    let mut read = HeaderMap::new();
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else { return false };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        let (Ok(name), Ok(value)) = (name, value) else { return false };
        let is_of_connection = fields::kind(&name) == Kind::HopByHop;
        let goes_on = name == CONNECTION && value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
        if is_of_connection && !goes_on {
            return false;
        }
        read.append(name, value);
    }
    // What the request was looked up by has to be in them.
    let is_read = |name: &HeaderName| arrival.parts.headers.get_all(name).iter().eq(read.get_all(name));
    arrival.parts.headers.keys().all(is_read)
}

/// Heads that are longer are read each time.
const OCTETS_MAX: usize = 4 << 10;

/// What all that is known may take, and how much that is usually.
const BYTES_MAX: u64 = 4 << 20;
const TYPICAL_NUMBER: usize = 2048;

/// The same where there is no memory tier: what is known is then also what was read in Redis of heads of responses.
const TRAILS_BYTES_MAX: u64 = 16 << 20;

/// What a known request takes beside its octets, the head of a response with it, and what each of its fields does.
const ENTRY_BYTES: usize = 768;
const FIELD_BYTES: usize = 104;

/// Heads of responses that are longer are written each time.
const WRITTEN_BYTES_MAX: usize = 2 << 10;

/// Room for the head of a response that takes no more than usual.
const HEAD_BYTES: usize = 512;

/// So many hashes of heads are remembered.
const LATELY: usize = 4096;

/// The number below 1 that is nearest to it.
const LUCKIEST: f64 = 1.0 - f64::EPSILON / 2.0;
