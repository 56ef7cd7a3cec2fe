//! Asking the origin about what is stored: whether it still holds, or for what is missing of it (RFC 9111 §3.4, §4.3).

use super::Proxy;
use crate::origin::{OriginError, RequestBody, ResponseBody};
use crate::semantics::conditional;
use crate::semantics::range::{self, ContentRange};
use crate::store::StoredResponse;
use bytes::Bytes;
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
}

impl To {
    /// What it is asked for where this is stored.
    pub(super) fn for_stored(stored: Option<&StoredResponse>) -> To {
        match stored {
            Some(stored) if stored.head.part.is_some() => To::Complete,
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
}

impl Proxy {
    /// Sends the request. Where the origin's answer is about something else than what is stored, it is asked for the whole.
    pub(super) async fn ask(&self, request: Request<RequestBody>, stored: Option<&Arc<StoredResponse>>) -> Said {
        let mut requested = self.clock.now();
        let to = To::for_stored(stored.map(Arc::as_ref));
        let unconditional = (to != To::Fetch).then(|| without_conditions(&request));
        let mut sent = self.origin.send(request).await;
        if let (Ok(response), Some(stored), Some(unconditional)) = (&sent, stored, unconditional)
            && !is_about(response.status(), response.headers(), to, stored)
        {
            requested = self.clock.now();
            // Given up first: its place among the requests under way may be the one that is needed.
            drop(sent);
            sent = self.origin.send(unconditional).await;
            return Said { sent, requested, to: To::Fetch };
        }
        Said { sent, requested, to }
    }
}

/// Whether an answer that leans on what is stored is about that, and fits to it.
pub(super) fn is_about(status: StatusCode, new: &HeaderMap, to: To, stored: &StoredResponse) -> bool {
    let old = &stored.head.fields;
    match (status, to) {
        (StatusCode::NOT_MODIFIED, To::Confirm) => conditional::selects(new, old),
        (StatusCode::NOT_MODIFIED, _) => false,
        (StatusCode::PARTIAL_CONTENT, To::Complete) => {
            let (Some(part), Some(more)) = (stored.head.part, range::content_range(new)) else { return false };
            range::make_a_whole(&part, &more) && range::are_of_one_representation(new, old)
        }
        (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, _) => false,
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
    let (part, more) = (stored.head.part?, range::content_range(fields)?);
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
