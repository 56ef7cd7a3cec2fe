//! The streams of an HTTP/2 connection, each a task, and what becomes of one that its client does not read.
//!
//! A client of HTTP/1.1 that does not read stalls its connection. One of HTTP/2 can close the window of a stream and be lively otherwise;
//! hyper then waits for room, for as long as the connection lives. So the task of each stream has an eye on itself: when a piece of the
//! response has waited for its client for too long, the task ends, and with it the stream, which h2 then resets.
//!
//! What hyper has handed over to the last octet is out of reach here. A connection that has nothing but that, and on which nothing moves, is
//! ended as a whole; that is for `connection`, which asks [`Streams::stuck`].

use super::stream::Reads;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Runs the streams of one connection.
#[derive(Clone)]
pub(super) struct Streams {
    /// Streams whose response is still being made, or read.
    live: Arc<AtomicUsize>,
    /// How long a client may take nothing of a response.
    limit: Duration,
}

/// Since when a piece of a response is with hyper, which has not asked for the next one.
#[derive(Default)]
struct Waits(Mutex<Option<Instant>>);

tokio::task_local! {
    /// Of the stream whose task it is.
    static WAITS: Arc<Waits>;
}

/// The body of a response, on its way to a client that may not read it.
pub(super) struct Handed<B> {
    body: B,
    waits: Option<Arc<Waits>>,
}

impl Streams {
    pub(super) fn new(limit: Duration) -> Streams {
        Streams { live: Arc::default(), limit }
    }

    /// How many there are whose response is still being made, or read.
    pub(super) fn live(&self) -> Arc<AtomicUsize> {
        self.live.clone()
    }

    /// Ends when there is nothing to wait for: all that is left to send is with h2, and for `limit` nothing has moved on the connection.
    pub(super) async fn stuck(&self, moves: &Reads) {
        loop {
            let before = moves.number();
            tokio::time::sleep(self.limit).await;
            if self.live.load(Ordering::Relaxed) == 0 && moves.number() == before {
                return;
            }
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let live = Live::new(self.live.clone());
        let (waits, limit) = (Arc::<Waits>::default(), self.limit);
        tokio::spawn(async move {
            let _live = live;
            tokio::select! {
                biased;
                () = WAITS.scope(waits.clone(), stream) => {}
                () = waits.too_long(limit) => {}
            }
        });
    }
}

impl Waits {
    async fn too_long(&self, limit: Duration) {
        loop {
            let waited = self.since().map_or(Duration::ZERO, |since| since.elapsed());
            if waited >= limit {
                return;
            }
            tokio::time::sleep(limit - waited).await;
        }
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

impl<B> Handed<B> {
    /// To be made in the stream's own task.
    pub(super) fn new(body: B) -> Handed<B> {
        Handed { body, waits: WAITS.try_with(Arc::clone).ok() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Handed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(waits) = &self.waits {
            waits.set(polled.is_ready().then(Instant::now));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream among the live ones; leaves them when dropped.
struct Live(Arc<AtomicUsize>);

impl Live {
    fn new(live: Arc<AtomicUsize>) -> Live {
        live.fetch_add(1, Ordering::Relaxed);
        Live(live)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
