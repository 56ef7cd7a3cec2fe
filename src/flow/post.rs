//! A `POST` whose response is what a later `GET` would get (RFC 9110 §9.3.3): it says so by a `Content-Location` that is its own target.
//!
//! Only on routes that follow RFC 9111 to the letter, only with freshness that the response states, and only where no credentials are
//! in play. Whatever comes, what was stored for the target before is invalid.

use super::Proxy;
use super::arrival::Arrival;
use super::body::Body;
use super::fetch::Errand;
use super::fill::Fetch;
use super::outcome::Outcome;
use super::settle::{Asked, Got, Shown};
use crate::rules::{Admission, Admitted, Caching, Content};
use crate::semantics::storage::NotStored;
use crate::semantics::{Forward, directives, invalidation};
use crate::store::Held;
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response};
use std::sync::Arc;
use tokio::sync::oneshot;

impl Proxy {
    /// The `GET` for the target of a `POST`, if a response could be stored for it.
    pub(super) fn twin_of_post(&self, arrival: &Arrival) -> Option<Admitted<'_>> {
        let may_be = arrival.parts.method == Method::POST && !arrival.is_trusted && arrival.upgrade.is_none();
        if !may_be || !self.options.enabled {
            return None;
        }
        let mut twin = arrival.parts.clone();
        twin.method = Method::GET;
        Admitted::forget_content(&mut twin.headers);
        match self.rules.admit(&twin, &arrival.forwarding(), Content::None, self.clock.now(), |_| None) {
            Admission::Keyed(admitted) => {
                let route = admitted.route;
                // What the route hides from the origin when the cache is filled, a `POST` shows.
                let shows_as_much = route.trusts_vary() && route.identity_cookies.is_empty();
                let is_like_a_get = shows_as_much && !admitted.has_open_credentials();
                (route.caching == Caching::Standard && is_like_a_get).then_some(admitted)
            }
            _ => None,
        }
    }

    /// Relays a `POST`, and stores the response for its `twin` if that says that it may be.
    pub(super) async fn post(self: &Arc<Proxy>, mut arrival: Arrival, twin: Admitted<'_>) -> (Response<Body>, Outcome) {
        let asked = directives::request(&arrival.parts.headers);
        let request = self.request_past(&mut arrival);
        let errand = Errand {
            admitted: twin,
            asked: &asked,
            stored: None,
            others: Vec::new(),
            wants_part: false,
            budget: self.store.budget(),
        };
        let (answer, answered) = oneshot::channel();
        let fetch = Fetch {
            request,
            scopes: errand.admitted.scopes(&arrival.parts).clone(),
            route: errand.admitted.route.clone(),
            asked: Asked::of(&arrival, &errand, Shown::default()),
            key: errand.admitted.key.clone(),
            stored: None,
            query_rule: errand.admitted.query_rule.clone(),
            posted: Some(arrival.parts.clone()),
            lease: None,
            budget: errand.budget,
            may_wait: false,
            answer,
        };
        self.tasks.spawn(Box::pin(self.clone().run(fetch)));
        let (response, outcome) = self.answer(&arrival, &errand, Forward::Method, answered).await;
        (response, outcome.past(NotStored::Posted.as_str()))
    }

    /// Invalidates what a `POST` may have changed, and says what its response depends on if it takes the place of what was stored.
    pub(super) async fn settle_posted(self: &Arc<Proxy>, posted: &Parts, held: &Held, got: &Got<'_>) -> Result<Held, NotStored> {
        let target = posted.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let host = posted.headers.get(HOST).map_or(&[][..], |host| host.as_bytes());
        let mut scopes = self.invalidated(posted, got.status, got.fields);
        let own = self.rules.scopes_of_url(&target, false).unwrap_or_default();
        let takes_its_place = got.status.is_success() && invalidation::is_located_at(host, &target, got.fields);
        let superseded = match own.as_slice() {
            [own] if takes_its_place => {
                scopes.retain(|scope| scope != own);
                self.store.supersede(held, own).await
            }
            _ => None,
        };
        if !scopes.is_empty() {
            self.store.invalidate(scopes).await;
        }
        superseded.ok_or(NotStored::Posted)
    }
}
