//! What a client may be given, by the origin's records, the routes and the purges. It knows nothing of how the sidecar does it.
//!
//! It says what must not be, not what must: that something is answered from what is stored is never demanded.

use super::client::Got;
use super::origin::{BODY_BYTES, Books, Record, number_in};
use super::script::{Ask, Ending, Framing, Kind, Purged, Says};
use std::collections::HashMap;

/// What is remembered of a history beside the origin's records.
#[derive(Default)]
pub(crate) struct Reference {
    purges: Vec<Done>,
    /// To how many answers a body went.
    given: HashMap<usize, usize>,
}

/// A purge, or a request that changed something, that was answered.
pub(crate) struct Done {
    pub(crate) of: Purged,
    pub(crate) is_soft: bool,
    /// What the origin was asked before this moment is concerned.
    pub(crate) from: u64,
    pub(crate) replica: usize,
    /// From when on it holds, for each replica.
    pub(crate) holds: [Option<u64>; 2],
    /// Redis has it, so that the other replica hears of it before it hears of anything later.
    pub(crate) is_in_redis: bool,
    /// It was confirmed while the other replica was away from Redis, for so long that nobody waited for it.
    pub(crate) is_unheard: bool,
}

/// An answer, and what was asked for.
pub(crate) struct Answered<'a> {
    pub(crate) ask: &'a Ask,
    /// The entity-tag that was sent along.
    pub(crate) condition: Option<&'a str>,
    pub(crate) got: &'a Got,
    /// When the request began and ended, and what the clock showed.
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) begun_ms: u64,
    pub(crate) ended_ms: u64,
    /// How much time has really passed since the history began, for Redis, whose clock nobody moves.
    pub(crate) really_ms: u64,
    /// When nothing was under way last before it began.
    pub(crate) quiet: u64,
}

/// The lifetimes that a route gives, in seconds.
struct Terms {
    lifetime: Option<u64>,
    while_revalidating: u64,
    if_error: u64,
}

type Judged = Result<(), String>;

impl Reference {
    /// A purge was done.
    pub(crate) fn purged(&mut self, done: Done) {
        self.purges.push(done);
    }

    /// All replicas have confirmed that they heard of all that Redis had at the moment `from`; the answer came at `at`.
    pub(crate) fn all_have_heard(&mut self, from: u64, at: u64, is_unheard: bool) {
        for done in self.purges.iter_mut().filter(|done| done.is_in_redis) {
            let is_before = done.holds[done.replica].is_some_and(|since| since < from);
            if is_before && done.holds.contains(&None) {
                done.is_unheard = is_unheard;
                done.holds.iter_mut().for_each(|holds| *holds = holds.or(Some(at)));
            }
        }
    }

    /// A replica has reached Redis, which it does not use before it told all of its purges.
    pub(crate) fn has_told_redis(&mut self, replica: usize) {
        self.purges.iter_mut().filter(|done| done.replica == replica).for_each(|done| done.is_in_redis = true);
    }

    /// Judges an answer: an error says what is wrong with it.
    pub(crate) fn judge(&mut self, answered: &Answered<'_>, books: &Books) -> Judged {
        let Answered { ask, got, .. } = *answered;
        let Some(head) = got.field("x-id").and_then(|id| id.parse().ok()) else {
            return self.judge_without_record(answered, books);
        };
        let body = if got.body.is_empty() { head } else { number_in(&got.body).ok_or("the body is nobody's")? };
        let by_number = |number: usize| books.records.get(number).ok_or(format!("there is no answer {number}"));
        let (of_head, of_body) = (by_number(head)?, by_number(body)?);
        judge_content(answered, of_head, of_body)?;
        if ask.method != "GET" && ask.method != "HEAD" {
            return Ok(());
        }
        let given = self.given.entry(body).or_default();
        *given += 1;
        let is_reused = of_head.asked < answered.begun || (*given > 1 && !of_head.is_confirmation());
        self.judge_use(answered, books, of_head, is_reused)?;
        if body != head {
            if !of_head.is_confirmation() || of_head.url != of_body.url {
                return Err(format!("the head is of answer {head}, the body of answer {body}"));
            }
            if of_head.etag.is_some() && of_head.etag != of_body.etag {
                return Err(format!("the origin has told of {:?}, and not of {:?}", of_head.etag, of_body.etag));
            }
            if !is_storable(books.kind(ask.url), of_body, of_body.behaviour.says) {
                return Err(format!("answer {body} must not be stored"));
            }
            // Who was given it before, and for whom the origin confirms it now, may have it again.
            self.judge_sharing(answered, books, of_body, &[of_head, of_body], is_reused)?;
            self.judge_purges(answered, books, of_body, true)?;
        }
        Ok(())
    }

    /// A 304 without further fields, or an answer of the sidecar's own.
    fn judge_without_record(&self, answered: &Answered<'_>, books: &Books) -> Judged {
        let Answered { ask, got, condition, .. } = *answered;
        if got.status == 304 {
            let etag =
                got.field("etag").filter(|etag| condition == Some(etag)).ok_or("nobody asked about what has not changed")?;
            // RFC 9111 §4.3.5: a response to HEAD without an entity-tag freshens what has one.
            let is_about = |record: &&Record| match &record.etag {
                Some(theirs) => theirs == etag,
                None => record.method == "HEAD",
            };
            let about = books.records.iter().filter(|record| record.url == ask.url).filter(is_about);
            let judged = about.map(|record| self.judge_use(answered, books, record, record.asked < answered.begun));
            return judged.reduce(Result::or).unwrap_or(Err("the origin never gave this entity-tag".to_owned()));
        }
        let asked_for_stored = ask.cache_control.is_some_and(|value| value.contains("only-if-cached"));
        let is_without_answer = |record: &Record| record.url == ask.url && record.behaviour.ending == Ending::NoAnswer;
        let has_failed = books.records.iter().any(|record| is_without_answer(record) && record.asked > answered.quiet);
        match got.status {
            504 if asked_for_stored => Ok(()),
            502 if has_failed => Ok(()),
            status => Err(format!("the sidecar itself answers {status}, and the origin is well")),
        }
    }

    /// Whether a request may be answered with a record, be it of a response or of the confirmation of one.
    fn judge_use(&self, answered: &Answered<'_>, books: &Books, record: &Record, is_reused: bool) -> Judged {
        let Answered { ask, got, .. } = *answered;
        let (kind, says) = (books.kind(ask.url), said(record, got));
        // What is said of a body, or its beginning, may be so before the body breaks off.
        let is_of_head = matches!(got.status, 206 | 304) && record.asked > answered.quiet;
        if is_reused && got.is_whole && !is_of_head && !is_storable(kind, record, says) {
            return Err("what must not be stored is given to another request than the one it was for".to_owned());
        }
        judge_selection(answered, kind, record)?;
        self.judge_sharing(answered, books, record, &[record], is_reused)?;
        if record.asked < answered.begun {
            judge_age(answered, record)?;
            judge_freshness(answered, books, kind, record, says)?;
        }
        self.judge_purges(answered, books, record, false)
    }

    /// Whether the user may be given what another one, or the same one, was given before. One of `saying` has to allow it.
    fn judge_sharing(
        &self,
        answered: &Answered<'_>,
        books: &Books,
        record: &Record,
        saying: &[&Record],
        is_reused: bool,
    ) -> Judged {
        let Answered { ask, got, .. } = *answered;
        let theirs = [&record.authorization, &record.cookie].map(Option::as_deref);
        let ours = [ask.authorization, ask.cookie];
        let is_for_all = saying.iter().any(|record| said(record, got).is_for_all);
        let is_open = |place: usize| theirs[place].is_some() || ours[place].is_some();
        let may_be = match books.kind(ask.url) {
            Kind::Everyone => true,
            Kind::PerCredential => theirs == ours,
            _ if theirs == ours && !is_reused => true,
            Kind::Standard => {
                let tells_cookies_apart = got.field("vary").is_some_and(|vary| vary.contains("cookie"));
                (!is_open(0) || is_for_all) && (!is_open(1) || tells_cookies_apart)
            }
            _ => is_for_all || !(is_open(0) || is_open(1)),
        };
        match may_be {
            true => Ok(()),
            false => Err(format!("what was for {theirs:?} is given to {ours:?}")),
        }
    }

    /// Whether a purge has come that concerns a record. A body that was confirmed after a soft one is as good as new.
    fn judge_purges(&self, answered: &Answered<'_>, books: &Books, record: &Record, is_confirmed: bool) -> Judged {
        let Answered { ask, got, begun, .. } = *answered;
        let is_tagged = record.behaviour.is_tagged || (record.is_confirmation() && got.field("surrogate-key").is_some());
        let concerns = |done: &&Done| {
            let is_named = match done.of {
                Purged::Url(url) | Purged::Tag(url) => url == record.url,
                Purged::OriginTag => is_tagged,
                Purged::Route(url) => books.kind(url) == books.kind(record.url),
                Purged::Tags | Purged::All => true,
            };
            // A replica that is away from Redis stores nothing; but it goes on fetching once for all who ask meanwhile.
            let is_in_flight = done.is_unheard && done.replica != ask.replica && got.cache_status().contains("; collapsed");
            let holds = done.holds[ask.replica].is_some_and(|since| since < begun);
            is_named && record.asked < done.from && holds && !is_in_flight
        };
        for done in self.purges.iter().filter(concerns) {
            let is_called_fresh = got.cache_status().starts_with("hit") && ttl(got) > 0;
            match done.is_soft {
                true if is_confirmed => {}
                true if said(record, got).forbids_stale => {
                    return Err(format!("a soft purge of {:?} has come, and it must not be used when it is stale", done.of));
                }
                true if is_called_fresh => return Err(format!("a soft purge of {:?} has come, and it is called fresh", done.of)),
                true => {}
                false => return Err(format!("a purge of {:?} has come since", done.of)),
            }
        }
        Ok(())
    }
}

/// Whether status and body are those of the record, and whole if the answer says so.
fn judge_content(answered: &Answered<'_>, head: &Record, body: &Record) -> Judged {
    let Answered { ask, got, .. } = *answered;
    if head.url != ask.url {
        return Err("it is of another URL".to_owned());
    }
    let is_cut = body.behaviour.ending == Ending::CutShort;
    match (got.status, got.is_whole) {
        (_, false) if is_cut => return Ok(()),
        (_, false) => return Err("it breaks off, and the origin is well".to_owned()),
        (304, _) => return Ok(()),
        // What was asked for may have come before the end.
        (206, true) if ask.wants_part && got.body.len() == 10 => return Ok(()),
        (status, true) if status != body.status && !(head.is_confirmation() && body.status == 304) => {
            return Err(format!("the origin's status was {}", body.status));
        }
        _ if ask.method == "HEAD" => return Ok(()),
        _ if is_cut && body.behaviour.framing != Framing::UntilClose => {
            return Err("a body that was cut short looks whole".to_owned());
        }
        _ => {}
    }
    let has_end = got.body.len() == BODY_BYTES && got.body.ends_with("end");
    match has_end || is_cut {
        true => Ok(()),
        false => Err("the body is not what the origin sent".to_owned()),
    }
}

/// Whether the request has what the response depends on.
fn judge_selection(answered: &Answered<'_>, kind: Kind, record: &Record) -> Judged {
    let Answered { ask, got, .. } = *answered;
    // A standard route trusts the origin to name what matters in `Vary`.
    if record.tenant.as_deref() != ask.tenant && kind != Kind::Standard {
        return Err(format!("it is of the tenant {:?}", record.tenant));
    }
    // Of what a confirmation does not say, what is stored stays as it was.
    let vary = match record.behaviour.vary {
        "" if record.is_confirmation() => got.field("vary").unwrap_or_default(),
        vary => vary,
    };
    for name in vary.split(", ") {
        let ours = match name {
            "accept-language" => ask.language,
            "cookie" => ask.cookie,
            _ => None,
        };
        if record.value(name) != ours && name != "*" {
            return Err(format!("it varies on {name}, and was for {:?}", record.value(name)));
        }
    }
    Ok(())
}

/// Whether `Age` says how old it is.
fn judge_age(answered: &Answered<'_>, record: &Record) -> Judged {
    let Answered { got, .. } = *answered;
    let least = answered.begun_ms.saturating_sub(record.asked_ms) / 1000;
    let most = (answered.ended_ms.saturating_sub(record.quiet_ms) + answered.really_ms) / 1000 + 1;
    let age = got.field("age").map(|age| age.parse::<u64>().map_err(|_| format!("the age {age} is no number"))).transpose()?;
    match age {
        None if least > 1 => Err(format!("it is {least} s old and does not say so")),
        Some(age) if age + 1 < least => Err(format!("it is {least} s old and says {age}")),
        Some(age) if age > most => Err(format!("it is {most} s old at most and says {age}")),
        _ => Ok(()),
    }
}

/// Whether a response that was there before the request may be used still.
fn judge_freshness(answered: &Answered<'_>, books: &Books, kind: Kind, record: &Record, says: &Says) -> Judged {
    let Answered { ask, got, .. } = *answered;
    let asked_for = |word: &str| ask.cache_control.is_some_and(|value| value.contains(word));
    if asked_for("no-cache") {
        return Err("the client wants it confirmed".to_owned());
    }
    let Terms { lifetime, while_revalidating, if_error } = terms(kind, record.status, says);
    let lifetime = lifetime.unwrap_or(0);
    let age_ms = answered.begun_ms.saturating_sub(record.asked_ms);
    // It was asked for since then, and the request was answered.
    let failed = |is_failure: &dyn Fn(&Record) -> bool| {
        let is_late = |record: &Record| record.asked_ms + REMEMBERED_MS > answered.begun_ms && record.asked < answered.ended;
        books.records.iter().any(|record| record.url == ask.url && is_late(record) && is_failure(record))
    };
    let is_error = |record: &Record| record.status >= 500;
    let is_unreachable = |record: &Record| record.behaviour.ending == Ending::NoAnswer;
    let has_erred = failed(&is_error);
    let was_unreachable = failed(&is_unreachable);
    if asked_for("max-age=3") && age_ms > 3_000 && !has_erred && !was_unreachable {
        return Err("the client wants nothing that is older than 3 s".to_owned());
    }
    let Some(stale_ms) = age_ms.checked_sub(lifetime * 1000) else { return Ok(()) };
    if got.cache_status().starts_with("hit") && ttl(got) > 0 {
        return Err(format!("it has been stale for {stale_ms} ms, and is called fresh"));
    }
    if says.forbids_stale {
        return Err(format!("it has been stale for {stale_ms} ms, and must be confirmed then"));
    }
    let allowed = [
        Some(while_revalidating),
        has_erred.then_some(if_error),
        was_unreachable.then_some(lifetime.min(60).max(if_error)),
        // One more, since a client may be given what is just as stale as it says.
        asked_for("max-stale=5").then_some(6),
    ];
    match allowed.into_iter().flatten().any(|seconds| stale_ms < seconds * 1000) {
        true => Ok(()),
        false => Err(format!("it has been stale for {stale_ms} ms")),
    }
}

/// Whether a response may be stored at all.
fn is_storable(kind: Kind, record: &Record, says: &Says) -> bool {
    let behaviour = &record.behaviour;
    let is_whole = record.is_confirmation() || (behaviour.ending == Ending::Whole && behaviour.framing != Framing::UntilClose);
    // It went past the cache.
    let is_keyed = record.tenant.is_none() || matches!(kind, Kind::Tenant | Kind::Standard);
    let is_safe = record.method == "GET" || record.method == "HEAD";
    let may_be = !says.forbids_storing && !record.forbids_storing && !behaviour.sets_cookie && behaviour.vary != "*";
    is_whole && is_keyed && is_safe && may_be && terms(kind, record.status, says).lifetime.is_some()
}

/// What is said of a record's freshness: by itself, or of what a confirmation does not say, by what was stored.
fn said(record: &Record, got: &Got) -> &'static Says {
    match record.behaviour.says.text {
        "" if record.is_confirmation() => Says::of(got.field("cache-control").unwrap_or_default()),
        _ => record.behaviour.says,
    }
}

/// What the README says of routes and responses.
fn terms(kind: Kind, status: u16, says: &Says) -> Terms {
    let by_rule = match (kind, status) {
        (Kind::Standard, _) => None,
        (Kind::Stale, 200 | 304) => Some(STALE_TTL),
        (_, 200 | 304) => Some(TTL),
        (Kind::Tenant, 404) => Some(TTL_404),
        _ => None,
    };
    let (while_revalidating, if_error) = if kind == Kind::Stale { STALE } else { (0, 0) };
    Terms {
        lifetime: says.lifetime.or(by_rule),
        while_revalidating: says.while_revalidating.unwrap_or(while_revalidating),
        if_error: says.if_error.unwrap_or(if_error),
    }
}

/// For how many seconds it says that it stays fresh.
fn ttl(got: &Got) -> i64 {
    got.cache_status().split("; ").find_map(|said| said.strip_prefix("ttl=")?.parse().ok()).unwrap_or(0)
}

/// The `ttl`s of the routes, in seconds; that of 404 on the one with tenants; and how stale the answers of the one may be that has stale
/// ones: while a new one is fetched, and in the stead of an error.
pub(crate) const TTL: u64 = 60;
pub(crate) const TTL_404: u64 = 5;
pub(crate) const STALE_TTL: u64 = 10;
pub(crate) const STALE: (u64, u64) = (10, 40);

/// For so long it is remembered that the origin has failed.
const REMEMBERED_MS: u64 = 60_000;
