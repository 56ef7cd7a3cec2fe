//! What a response to `HEAD` says about what is stored for `GET` (RFC 9111 §4.3.5).

use super::arrival::Arrival;
use super::body::Body;
use super::fetch::Errand;
use super::outcome::Outcome;
use super::plan::Trouble;
use super::settle::{self, Asked, Got, Shown};
use super::{Proxy, outgoing, plan};
use crate::rules::{Route, Told};
use crate::semantics::{Forward, Times, conditional, tagging};
use crate::store::StoredResponse;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode};
use std::sync::Arc;

impl Proxy {
    /// Relays a `HEAD`. A stored response that its answer describes is as fresh as that; one that it contradicts is invalid; and one that
    /// may stand in for a failure does.
    pub(super) async fn ask_head(
        self: &Arc<Proxy>,
        arrival: Arrival,
        errand: Errand<'_>,
        stored: &StoredResponse,
        why: Forward,
    ) -> (Response<Body>, Outcome) {
        let told = self.store.told(&errand.admitted.key);
        let is_shown_more = is_shown_more(&arrival, errand.admitted.route, &told);
        let asked = Asked::of(&arrival, &errand, Shown { told, withheld: Vec::new() });
        let own_target = arrival.parts.uri.path_and_query().cloned();
        let (requested, passed) = (self.clock.now(), self.clock.passed());
        let (response, outcome) = self.pass(arrival, &errand.admitted.route.name, why, plan::HEAD).await;
        let trouble = match outcome.is_error() {
            true => Some(Trouble::Unreachable),
            false => plan::is_failure(response.status()).then_some(Trouble::Error),
        };
        match trouble {
            Some(trouble) => self.collapser.note_failed(&errand.admitted.key, trouble),
            None => self.collapser.note_answered(&errand.admitted.key),
        }
        let stand_in = |trouble| self.stand_in(&Method::HEAD, &asked.fields, &errand, trouble, why);
        if let Some((stale, outcome)) = trouble.and_then(stand_in) {
            return match trouble {
                Some(Trouble::Error) => (stale, outcome.with_forward_status(response.status())),
                _ => (stale, outcome),
            };
        }
        if response.status() != StatusCode::OK || stored.head.status != StatusCode::OK {
            return (response, outcome);
        }
        if !conditional::describes(response.headers(), &stored.head.fields(), stored.body.len()) {
            let target = errand.admitted.target.clone().or(own_target).unwrap_or_else(|| PathAndQuery::from_static("/"));
            self.store.invalidate(self.rules.scopes_of_url(&target, false).unwrap_or_default()).await;
            return (response, outcome);
        }
        if is_shown_more {
            return (response, outcome);
        }
        let times = Times { requested, received: self.clock.now() };
        let got = Got { status: StatusCode::OK, fields: response.headers(), body_bytes: None, has_certain_end: true, times };
        let route = errand.admitted.route;
        let (head, kept) = settle::settle_confirmed(&asked, route, &stored.head, &got, &self.options, fastrand::f64());
        // By a tag that it did not have, it could not be purged: what it depends on is from before.
        let has_all = |tags: &[String]| tags.iter().all(|tag| stored.tags.contains(tag));
        if kept.is_ok() && has_all(&tagging::tags(response.headers(), &self.options.tag_fields)) {
            // It depends on what it depended on: a purge that came since it was stored, or will come, ends it.
            self.store.insert(StoredResponse { head, held: stored.held.at(passed), ..stored.clone() }, None);
        }
        (response, outcome)
    }
}

/// Whether a request that is passed shows the origin what one that fills the cache would not: the fields of its response may be for
/// its client alone.
pub(super) fn is_shown_more(arrival: &Arrival, route: &Route, told: &Told) -> bool {
    let mut passed = arrival.parts.headers.clone();
    if !arrival.is_trusted {
        outgoing::remove_steering(&mut passed);
    }
    let mut filling = passed.clone();
    conditional::remove(&mut filling);
    route.hide(&Method::GET, &mut filling, told);
    filling != passed
}
