//! The rules of RFC 9111 and its relatives for storing and reusing (§3, §4.1, §4.2, §5.2), one short function each, as the text has them. Where the text leaves a choice, the
//! comment says which one this project has made.

use super::routes::RouteSpec;
use super::text::{self, Fields, date, dictionary, first, has, members, split};
use super::validation::{content_range, has_validator, strong_validator};

/// What is kept of a response (RFC 9111 §3), in the words that it came in.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) target: String,
    pub(super) status: u16,
    pub(super) fields: Fields,
    /// `Date` is the origin's; not when it was received.
    pub(super) is_dated: bool,
    pub(super) body: String,
    pub(super) requested_ms: u64,
    pub(super) received_ms: u64,
    /// The fields that `Vary` names, with what the request had in them.
    pub(super) selecting: Vec<(String, Option<String>)>,
}

type Directives = Vec<(String, Option<String>)>;

// === What a response says ===

/// §5.2.2; RFC 9213 §2.2: the first targeted field that is a dictionary and not empty goes before `Cache-Control`.
fn said(fields: &Fields) -> Directives {
    targeted(fields).unwrap_or_else(|| text::directives(members(fields, "cache-control")))
}

fn targeted(fields: &Fields) -> Option<Directives> {
    let lists = TARGETED.iter().filter_map(|name| dictionary(first(fields, name)?));
    lists.into_iter().find(|list| !list.is_empty())
}

/// §5.2.2.4, §5.2.2.7: with names it is about these fields only. Choice: with names of fields that a response cannot do without, it
/// is about all of it.
fn says(fields: &Fields, name: &str) -> bool {
    let takes_names = matches!(name, "no-cache" | "private");
    let has_names = |argument: &Option<String>| takes_names && argument.as_ref().is_some_and(|names| is_for_some(names));
    said(fields).iter().any(|(known, argument)| known == name && !has_names(argument))
}

fn is_for_some(names: &str) -> bool {
    !names.contains("content-type")
}

/// §3.1, §5.2.2.4, §5.2.2.7: what is not stored. Choice: fields of `no-cache` are left out, instead of validated.
pub(super) fn left_out(fields: &Fields) -> Vec<String> {
    let mut names = vec!["set-cookie".to_owned()];
    for (name, argument) in said(fields) {
        let has_names = (name == "no-cache" || name == "private") && argument.as_ref().is_some_and(|names| is_for_some(names));
        names.extend(argument.filter(|_| has_names).iter().flat_map(|names| split(names)));
    }
    names
}

/// §1.2.2. §4.2.1: what is not a number is stale; of two values, the choice is the shorter.
fn seconds(fields: &Fields, name: &str) -> Option<u64> {
    let all = said(fields).into_iter().filter(|(known, _)| known == name);
    all.map(|(_, argument)| argument.and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0).min(1 << 31)).min()
}

// === §3: storing ===

/// §3. The fields are as they came; the request is the one that they answer.
pub(super) fn may_store(request: &Fields, response: &Stored, route: &RouteSpec) -> bool {
    let fields = &response.fields;
    let understood = response.status != 599;
    // §5.2.2.3. Choice: not on routes with a TTL, whose operators were promised that `no-store` holds.
    let outdoes_no_store = says(fields, "must-understand") && understood && route.ttl.is_none();
    let shares = is_shareable(fields);
    let has_authorization = has(request, "authorization") && !route.is_for_everyone;
    let has_cookie = has(request, "cookie") && !route.is_for_everyone;
    let is_kept_apart = response.selecting.iter().any(|(name, _)| name == "cookie");
    // RFC 9111 knows no `Set-Cookie`. Choice: it is for one client, unless the response says that the rest is for all.
    let sets_cookie = has(fields, "set-cookie") && left_out(fields).iter().filter(|name| *name == "set-cookie").count() == 1;
    // §3.3: incomplete responses may be stored. Choice: only on standard routes, and if they can be completed.
    let is_part = response.status == 206;
    // RFC 9110 §8.8.2.2: one clock has to have made both dates, so a `Date` of our own makes none strong.
    let has_strong = strong_validator(fields).is_some() && (has(fields, "etag") || response.is_dated);
    let can_be_completed = route.ttl.is_none() && content_range(fields).is_some() && has_strong;
    // These are about their own request; RFC 6585 §3 to §6.
    !matches!(response.status, 304 | 412 | 416 | 428 | 429 | 431 | 511)
        && (!says(fields, "must-understand") || understood)
        && (!says(fields, "no-store") || outdoes_no_store)
        && !says(fields, "private")
        && !sets_cookie
        && !members(fields, "vary").iter().any(|name| name == "*" || name.contains('@'))
        && (!is_part || can_be_completed)
        // §3.5. `Cookie` is none of RFC 9111. Choice: a standard route stores what varies on it, a rule treats it like `Authorization`.
        && (!has_authorization || shares)
        && (!has_cookie || if route.ttl.is_some() { shares } else { is_kept_apart })
        && is_of_use(response, route)
}

/// §3: "at least one of". Choice: what is stale at once is stored if it can be validated, or may be used while it is.
fn is_of_use(response: &Stored, route: &RouteSpec) -> bool {
    match lifetime_ms(response, route) {
        None => false,
        Some(lifetime_ms) => {
            let is_fresh = lifetime_ms > age_ms(response, response.received_ms);
            is_fresh || has_validator(&response.fields) || while_revalidating(response, route) > 0
        }
    }
}

/// §3.5.
pub(super) fn is_shareable(fields: &Fields) -> bool {
    ["must-revalidate", "public", "s-maxage"].iter().any(|name| says(fields, name))
}

// === §4.1: Vary ===

/// §4.1: what the request has in the fields that `Vary` names.
pub(super) fn selecting(fields: &Fields, request: &Fields) -> Vec<(String, Option<String>)> {
    let mut names: Vec<String> = members(fields, "vary").iter().map(|name| name.to_lowercase()).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| (name.clone(), first(request, &name).map(|value| normal(&name, value)))).collect()
}

/// Choice: the origin is shown a list that selects as it is written in a selection.
pub(super) fn shown(request: &Fields) -> Fields {
    let value = |name: &str, value: &str| if name == "accept-language" { normal(name, value) } else { value.to_owned() };
    request.iter().map(|(name, written)| (*name, value(name, written))).collect()
}

/// §4.1 allows to normalise. Choice: whitespace in lists, and case where it says nothing; of equals, some prefer the first (RFC 9110 §12.5.4).
fn normal(name: &str, value: &str) -> String {
    let mut list = split(value);
    match name {
        "cookie" => return value.to_owned(),
        "accept-language" => list.iter_mut().for_each(|member| *member = member.to_lowercase()),
        _ => {}
    }
    list.join(", ")
}

// === §4.2: freshness and age ===

/// §4.2.1, in its order. Choices: a route's TTL comes last, or first with `override`, and is for successes unless the status is
/// named; `no-cache` (§5.2.2.4) is a lifetime of nothing.
pub(super) fn lifetime_ms(response: &Stored, route: &RouteSpec) -> Option<u64> {
    let Stored { status, fields, .. } = response;
    let named = route.ttl_by_status.iter().find(|(named, _)| named == status).map(|(_, ttl)| *ttl);
    let by_rule = named.or(route.ttl.filter(|_| matches!(status, 200 | 203 | 204))).map(|seconds| seconds * 1000);
    if route.overrides && by_rule.is_some() {
        return by_rule;
    }
    if says(fields, "no-cache") {
        return Some(0);
    }
    let stated = seconds(fields, "s-maxage").or(seconds(fields, "max-age")).map(|seconds| seconds * 1000);
    // §5.3: what is no date is in the past. RFC 9213 §2.2: it does not count beside a targeted field.
    let expires = first(fields, "expires").filter(|_| targeted(fields).is_none());
    let expires = expires.map(|value| date(value).map_or(0, |at| (at * 1000).saturating_sub(generated_ms(response))));
    let guessed = if route.ttl.is_some() { by_rule } else { heuristic_ms(response) };
    stated.or(expires).or(guessed)
}

/// §4.2.2: a tenth of the time since `Last-Modified`. Choices: a day at most; without `Last-Modified` nothing.
fn heuristic_ms(response: &Stored) -> Option<u64> {
    // RFC 9110 §15.1, without 206, which is stored with explicit freshness only.
    let is_allowed = matches!(response.status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501);
    let modified = date(first(&response.fields, "last-modified")?)?;
    let since = generated_ms(response).saturating_sub(modified * 1000);
    (is_allowed || says(&response.fields, "public")).then_some((since / 10).min(86_400_000))
}

/// RFC 9110 §6.6.1: without a `Date`, when it was received.
fn generated_ms(response: &Stored) -> u64 {
    let date = first(&response.fields, "date").and_then(date).filter(|_| response.is_dated);
    date.map_or(response.received_ms, |seconds| seconds * 1000)
}

/// §4.2.3, line for line. Choice: `apparent_age` in the whole seconds that `Date` has.
pub(super) fn age_ms(response: &Stored, now_ms: u64) -> u64 {
    let date_value = first(&response.fields, "date").and_then(date).unwrap_or(response.received_ms / 1000);
    let age_value = first(&response.fields, "age").and_then(|age| age.parse::<u64>().ok()).unwrap_or(0) * 1000;
    let apparent_age = (response.received_ms / 1000).saturating_sub(date_value) * 1000;
    let response_delay = response.received_ms - response.requested_ms;
    let corrected_age_value = age_value + response_delay;
    let corrected_initial_age = apparent_age.max(corrected_age_value);
    let resident_time = now_ms - response.received_ms;
    corrected_initial_age + resident_time
}

pub(super) fn is_fresh(response: &Stored, route: &RouteSpec, now_ms: u64) -> bool {
    lifetime_ms(response, route).unwrap_or(0) > age_ms(response, now_ms)
}

/// How long it has been stale.
fn staleness_ms(response: &Stored, route: &RouteSpec, now_ms: u64) -> u64 {
    age_ms(response, now_ms).saturating_sub(lifetime_ms(response, route).unwrap_or(0))
}

// === §4.2.4: stale responses ===

/// §4.2.4, §5.2.2.2, §5.2.2.4, §5.2.2.8, §5.2.2.10: these prohibit it. Choice: `override` does not outdo them.
fn must_not_be_stale(fields: &Fields) -> bool {
    ["must-revalidate", "proxy-revalidate", "s-maxage", "no-cache"].iter().any(|name| says(fields, name))
}

/// RFC 5861 §3. Choice: the route speaks for a response that says nothing, and §4.2.4 goes before it.
fn while_revalidating(response: &Stored, route: &RouteSpec) -> u64 {
    let said = seconds(&response.fields, "stale-while-revalidate").unwrap_or(route.stale_while_revalidate);
    if must_not_be_stale(&response.fields) { 0 } else { said }
}

/// RFC 5861 §4. Choice: only these four statuses, and not for a client that says `no-cache`. Where the origin does not answer
/// (§4.2.4: "disconnected"), for a minute, or as long as it was fresh if that is less.
pub(super) fn may_stand_in(response: &Stored, asked: &Asked, trouble: Trouble, route: &RouteSpec, now_ms: u64) -> bool {
    let if_error = seconds(&response.fields, "stale-if-error").unwrap_or(route.stale_if_error) * 1000;
    let limit_ms = match trouble {
        Trouble::Error => if_error,
        Trouble::Unreachable => lifetime_ms(response, route).unwrap_or(0).min(60_000).max(if_error),
    };
    let is_allowed = !must_not_be_stale(&response.fields) && response.status != 206 && !asked.no_cache;
    is_allowed && staleness_ms(response, route, now_ms) < limit_ms
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Unreachable,
    Error,
}

/// RFC 5861 §4.
pub(super) fn is_error(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

// === §5.2.1: what a request asks ===

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) no_cache: bool,
    pub(super) no_store: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<u64>,
    pub(super) min_fresh: Option<u64>,
    /// With `u64::MAX` for any.
    pub(super) max_stale: Option<u64>,
}

/// §5.2.1; §5.4: `Pragma` counts where there is no `Cache-Control`.
pub(super) fn asked(request: &Fields) -> Asked {
    let mut asked = Asked { no_cache: first(request, "pragma") == Some("no-cache"), ..Asked::default() };
    if !has(request, "cache-control") {
        return asked;
    }
    asked.no_cache = false;
    for (name, argument) in text::directives(members(request, "cache-control")) {
        let number = argument.map(|digits| digits.parse::<u64>().expect("the generator writes numbers"));
        match name.as_str() {
            "no-cache" => asked.no_cache = true,
            "no-store" => asked.no_store = true,
            "only-if-cached" => asked.only_if_cached = true,
            "max-age" => asked.max_age = number,
            "min-fresh" => asked.min_fresh = number,
            "max-stale" => asked.max_stale = number.or(Some(u64::MAX)),
            _ => {}
        }
    }
    asked
}

/// How a stored response may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Fresh,
    Stale,
    /// And is to be validated meanwhile (RFC 5861 §3).
    WhileRevalidating,
    No,
}

/// §4: fresh, or allowed to be stale; and as the request wants it (§5.2.1).
pub(super) fn usable(response: &Stored, asked: &Asked, route: &RouteSpec, now_ms: u64) -> Use {
    let (age, lifetime) = (age_ms(response, now_ms), lifetime_ms(response, route).unwrap_or(0));
    if asked.no_cache {
        return Use::No;
    }
    // §5.2.1.1: "less than or equal to".
    if asked.max_age.is_some_and(|seconds| age > seconds * 1000) {
        return Use::No;
    }
    // §5.2.1.3: "no less than its current age plus the specified time". Of what is stale, only nothing can be wanted.
    if asked.min_fresh.is_some_and(|seconds| seconds > 0 && lifetime < age + seconds * 1000) {
        return Use::No;
    }
    if lifetime > age {
        return Use::Fresh;
    }
    let staleness = age - lifetime;
    match asked.max_stale {
        _ if must_not_be_stale(&response.fields) => Use::No,
        // §5.2.1.2: "exceeded its freshness lifetime by no more than".
        Some(seconds) if staleness <= seconds.saturating_mul(1000) => Use::Stale,
        Some(_) => Use::No,
        // §5.2.1.1: "unless the max-stale request directive is also present, the client does not wish to receive a stale response".
        None if asked.max_age.is_some() => Use::No,
        None if staleness < while_revalidating(response, route) * 1000 => Use::WhileRevalidating,
        None => Use::No,
    }
}

/// RFC 9213 §2.1: the target list.
const TARGETED: [&str; 2] = ["sidecache-cache-control", "cdn-cache-control"];
