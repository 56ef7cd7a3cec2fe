//! Asking the origin about what is stored: whether it still holds, or for what is missing of it (RFC 9111 §3.4, §4.3).

use super::Proxy;
use super::settle::Asked;
use crate::origin::{OriginError, RequestBody, ResponseBody};
use crate::rules::{CacheKey, Scopes};
use crate::semantics::candidates::Candidate;
use crate::semantics::conditional;
use crate::semantics::no_vary_search::NoVarySearch;
use crate::semantics::range::{self, ContentRange};
use crate::store::{Budget, StoredResponse};
use bytes::Bytes;
use http::header::IF_NONE_MATCH;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use std::sync::Arc;
use std::time::SystemTime;
use tracing::debug;

/// What the origin is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// A response that may be stored.
    Fetch,
    /// Whether what is stored still holds.
    Confirm,
    /// What is missing of a stored part.
    Complete,
    /// A response that may be stored, or which of the other variants it would be.
    Select,
}

impl To {
    /// What it is asked for where this is stored.
    pub(super) fn for_stored(stored: Option<&StoredResponse>) -> To {
        match stored {
            Some(stored) if stored.head.part().is_some() => To::Complete,
            Some(stored) if stored.head.has_validator() => To::Confirm,
            _ => To::Fetch,
        }
    }
}

/// What the origin said, and to what.
pub(super) struct Said {
    pub(super) sent: Result<Response<ResponseBody>, OriginError>,
    pub(super) requested: SystemTime,
    pub(super) to: To,
    /// What is stored: what it was asked about, or the variant that it has named instead.
    pub(super) stored: Option<Arc<StoredResponse>>,
}

/// Where the variant may be found that the origin names instead of the one that it was asked about, and for whom.
pub(super) struct Others<'a> {
    pub(super) key: &'a CacheKey,
    pub(super) scopes: &'a Scopes,
    pub(super) asked: &'a Asked,
    pub(super) query_rule: Option<&'a NoVarySearch>,
    pub(super) budget: &'a mut Budget,
}

impl Proxy {
    /// Sends the request. Where the origin's answer is about something else than what is stored, it is asked for the whole. `others` is
    /// `None` for a request whose conditions are its client's.
    pub(super) async fn ask(
        &self,
        request: Request<RequestBody>,
        stored: Option<Arc<StoredResponse>>,
        others: Option<Others<'_>>,
    ) -> Said {
        let requested = self.clock.now();
        let to = match To::for_stored(stored.as_deref()) {
            To::Fetch if others.is_some() && request.headers().contains_key(IF_NONE_MATCH) => To::Select,
            to => to,
        };
        let unconditional = (to != To::Fetch).then(|| without_conditions(&request));
        let sent = self.origin.send(request).await;
        let (Ok(response), Some(unconditional)) = (&sent, unconditional) else { return Said { sent, requested, to, stored } };
        if is_about(response.status(), response.headers(), to, stored.as_deref()) {
            return Said { sent, requested, to, stored };
        }
        if let (StatusCode::NOT_MODIFIED, To::Confirm | To::Select, Some(others)) = (response.status(), to, others)
            && let Some(named) = self.named(response.headers(), others).await
        {
            return Said { sent, requested, to: To::Confirm, stored: Some(named) };
        }
        let requested = self.clock.now();
        // Given up first: its place among the requests under way may be the one that is needed.
        drop(sent);
        let sent = self.origin.send(unconditional).await;
        Said { sent, requested, to: To::Fetch, stored }
    }

    /// Sends the request once more, if the origin says that its answer varies on what was withheld from it; then with that.
    pub(super) async fn ask_with_more(&self, said: Said, mut request: Request<RequestBody>, asked: &mut Asked) -> Said {
        let is_wanted = said.sent.as_ref().is_ok_and(|response| asked.show_also(response.headers(), request.headers_mut()));
        if !is_wanted {
            return said;
        }
        // Given up first, as above.
        drop(said.sent);
        let requested = self.clock.now();
        Said { sent: self.origin.send(request).await, requested, to: To::Fetch, stored: said.stored }
    }

    /// The stored variant that a 304 names (§4.3.4), if it may be given to whoever asks, and be stored for him.
    async fn named(&self, not_modified: &HeaderMap, others: Others<'_>) -> Option<Arc<StoredResponse>> {
        let Others { key, scopes, asked, query_rule, budget } = others;
        if asked.authorization || asked.cookie || asked.no_store {
            return None;
        }
        let is_wanted = |candidate: &Candidate| candidate.is_named_by(not_modified) && candidate.fits(&asked.fields);
        let named = self.store.variant(key, scopes, is_wanted, budget).await?;
        query_rule.is_none_or(|rule| rule.is_said_by(&named.head.fields())).then_some(named)
    }
}

/// Whether an answer that leans on what is stored is about that, and fits to it.
pub(super) fn is_about(status: StatusCode, new: &HeaderMap, to: To, stored: Option<&StoredResponse>) -> bool {
    match (status, to, stored) {
        (StatusCode::NOT_MODIFIED, To::Confirm, Some(stored)) => conditional::selects(new, &stored.head.fields()),
        (StatusCode::NOT_MODIFIED, ..) => false,
        (StatusCode::PARTIAL_CONTENT, To::Complete, Some(stored)) => {
            let (Some(part), Some(more)) = (stored.head.part(), range::content_range(new)) else { return false };
            range::make_a_whole(&part, &more) && range::are_of_one_representation(new, &stored.head.fields())
        }
        (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, ..) => false,
        _ => true,
    }
}

/// Joins a stored part with what the origin sends of the rest; `None` if that is not what it says it is, too large, or breaks off.
pub(super) async fn join(
    stored: &StoredResponse,
    fields: &HeaderMap,
    body: ResponseBody,
    bytes_max: usize,
) -> Option<(ContentRange, Bytes)> {
    let (part, more) = (stored.head.part()?, range::content_range(fields)?);
    let room = bytes_max.checked_sub(stored.body.len())?;
    let body = Limited::new(body, room).collect().await.inspect_err(|error| debug!(error, "origin_body_broken")).ok()?;
    range::combine((part, stored.body.clone()), (more, body.to_bytes()))
}

/// The same request, for the whole response.
pub(super) fn without_conditions(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut again = Request::new(request.body().again().unwrap_or_else(RequestBody::empty));
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    // In these is who hears interim responses.
    *again.extensions_mut() = request.extensions().clone();
    conditional::remove(again.headers_mut());
    again
}
