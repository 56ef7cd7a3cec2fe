//! A body towards an HTTP/2 client, let go when the client takes nothing of it for too long.
//!
//! A client of HTTP/1.1 that does not read stalls its connection, which the listener notices. One of HTTP/2 may close the
//! window of a stream and keep its connection lively; then nobody asks the body for its next frame, and what the body holds,
//! a place at the origin or the attention of a fetch, would be held for ever. So a task looks after it.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// A body that is dropped when nobody asks for its next frame.
pub(super) struct Watched<B> {
    state: Arc<Mutex<State<B>>>,
}

struct State<B> {
    /// `None` once it was let go.
    body: Option<B>,
    /// Since when a frame is with the client's connection, and the next was not asked for.
    since: Option<Instant>,
}

impl<B: Send + 'static> Watched<B> {
    /// Looks after `body`: between two frames the client may take as long as `limit`.
    pub(super) fn new(body: B, limit: Duration) -> Watched<B> {
        let state = Arc::new(Mutex::new(State { body: Some(body), since: None }));
        let watched = Arc::downgrade(&state);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(limit).await;
                let Some(state) = watched.upgrade() else { return };
                let mut state = lock(&state);
                if state.since.is_some_and(|since| since.elapsed() >= limit) {
                    state.body = None;
                    return;
                }
            }
        });
        Watched { state }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Watched<B> {
    /// The next frame; an error of `stalled` after the body was let go.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        stalled: impl FnOnce() -> B::Error,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut state = lock(&self.state);
        let Some(body) = &mut state.body else {
            return Poll::Ready(Some(Err(stalled())));
        };
        let polled = Pin::new(body).poll_frame(cx);
        state.since = polled.is_ready().then(Instant::now);
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        lock(&self.state).body.as_ref().is_some_and(Body::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        lock(&self.state).body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

fn lock<B>(state: &Mutex<State<B>>) -> MutexGuard<'_, State<B>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};
    use std::future::poll_fn;

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_is_let_go_when_its_next_frame_is_not_asked_for() {
        let body = Full::new(Bytes::from("text")).map_err(|never| -> &'static str { match never {} });
        let limit = Duration::from_millis(20);
        let mut watched = Watched::new(body, limit);
        let first = poll_fn(|cx| watched.poll_frame(cx, || "stalled")).await;
        assert_eq!(first.unwrap().unwrap().into_data().unwrap(), "text");
        let let_go = async {
            while lock(&watched.state).body.is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), let_go).await.expect("it is let go");
        let second = poll_fn(|cx| watched.poll_frame(cx, || "stalled")).await;
        assert_eq!(second.unwrap().unwrap_err(), "stalled");
    }
}
