//! The keys of a `[[route]]` about time: how long its responses are fresh, and of use when they are stale.

use super::place::Place;
use super::raw::{Entry, Kind, Value};
use super::reader::{Fault, Parsed, Section};
use super::sections::{STALE, TTL};
use super::values::{boolean, duration, one_of, percent, quote};
use crate::rules::Caching;
use crate::semantics::storage;
use http::StatusCode;
use std::time::Duration;

/// For how long a route's responses are of use.
pub(super) struct Lifetimes {
    pub(super) caching: Caching,
    /// No TTL was written, so it is that of all routes.
    pub(super) ttl_is_default: bool,
    pub(super) ttl_by_status: Vec<(StatusCode, Duration)>,
    pub(super) ttl_jitter_percent: u8,
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Duration,
}

/// Reads the keys about lifetimes, which contradict one another where nothing is stored, or nothing by a rule.
pub(super) fn read(section: &mut Section<'_>, default_ttl: Duration) -> Lifetimes {
    let ttl_place = section.place_of("ttl");
    let mode = section.take("cache", one_of(MODES)).unwrap_or(Mode::On);
    let ttl = section.take("ttl", duration(TTL));
    let overrides = section.take_with_place("override", boolean);
    let ttl_by_status = section.take_with_place("ttl_by_status", ttl_by_status);
    let jitter = section.take_with_place("ttl_jitter", percent);
    let while_revalidating = section.take_with_place("stale_while_revalidate", duration(STALE));
    let if_error = section.take_with_place("stale_if_error", duration(STALE));

    // A key that says the same as its default contradicts nothing.
    let of_rules = [
        ("ttl", ttl_place.clone()),
        ("override", place_if(&overrides, |overrides| *overrides)),
        ("ttl_by_status", place_if(&ttl_by_status, |ttls| !ttls.is_empty())),
        ("ttl_jitter", place_if(&jitter, |percent| *percent > 0)),
    ];
    let of_stored = [
        ("stale_while_revalidate", place_if(&while_revalidating, |duration| !duration.is_zero())),
        ("stale_if_error", place_if(&if_error, |duration| !duration.is_zero())),
    ];
    let mut refuse = |keys: &[(&str, Option<Place>)], why: &str| {
        for (key, place) in keys.iter().filter_map(|(key, place)| Some((key, place.as_ref()?))) {
            section.problem(place, key, format!("{why}; leave out either"));
        }
    };
    let caching = match mode {
        Mode::On => {
            if let (Some((true, place)), None) = (&overrides, &ttl_place) {
                let message = "puts the route's ttl before what the origin states, so it needs a ttl here";
                section.problem(place, "override", message);
            }
            Caching::Rule { ttl: ttl.unwrap_or(default_ttl), overrides: overrides.is_some_and(|(overrides, _)| overrides) }
        }
        Mode::Off => {
            let why = "nothing is stored on a route with cache = \"off\"";
            refuse(&of_rules, why);
            refuse(&of_stored, why);
            Caching::Off
        }
        Mode::Standard => {
            refuse(&of_rules, "cache = \"standard\" leaves the lifetime to the origin alone");
            Caching::Standard
        }
    };
    Lifetimes {
        caching,
        ttl_is_default: mode == Mode::On && ttl.is_none(),
        ttl_by_status: ttl_by_status.map(|(ttls, _)| ttls).unwrap_or_default(),
        ttl_jitter_percent: jitter.map(|(percent, _)| percent).unwrap_or_default(),
        stale_while_revalidate: while_revalidating.map(|(duration, _)| duration).unwrap_or_default(),
        stale_if_error: if_error.map(|(duration, _)| duration).unwrap_or_default(),
    }
}

/// Reads for how long statuses are fresh: a table, whose keys are the statuses.
fn ttl_by_status(value: &Value) -> Parsed<Vec<(StatusCode, Duration)>> {
    let Kind::Table(table) = &value.kind else {
        return Err(value.not("a table of statuses and durations, such as { 404 = \"30s\", 410 = \"5m\" }"));
    };
    let (mut read, mut faults) = (Vec::new(), Vec::new());
    for (key, Entry { key: place, value }) in &table.entries {
        match status(key) {
            Ok(status) => match duration(TTL)(value) {
                Ok(ttl) => read.push((status, ttl)),
                Err(wrong) => faults.extend(wrong),
            },
            Err(message) => faults.push(Fault { place: place.clone(), message }),
        }
    }
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

/// A status whose responses can be stored for a TTL.
fn status(written: &str) -> Result<StatusCode, String> {
    match StatusCode::from_bytes(written.as_bytes()) {
        Ok(StatusCode::PARTIAL_CONTENT) => Err("206 is a part of a response, and a ttl is for whole ones".to_owned()),
        Ok(status) if !status.is_informational() && !storage::can_be_stored(status) => {
            let status = status.as_str();
            Err(format!("{status} is about the one request that it answers, and is no answer to others"))
        }
        Ok(status) if (200..600).contains(&status.as_u16()) => Ok(status),
        _ => Err(format!("{} is not the status of a response; write one from 200 to 599", quote(written))),
    }
}

/// Where a value stands that says something.
fn place_if<T>(taken: &Option<(T, Place)>, says: impl Fn(&T) -> bool) -> Option<Place> {
    taken.as_ref().filter(|(value, _)| says(value)).map(|(_, place)| place.clone())
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    On,
    Off,
    Standard,
}

const MODES: &[(&str, Mode)] = &[("on", Mode::On), ("off", Mode::Off), ("standard", Mode::Standard)];
