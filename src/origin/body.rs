//! Bodies in both directions. They stream, and whoever is silent for too long ends them.

use crate::semantics::fields;
use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

/// A request's body on its way to the origin.
pub struct RequestBody {
    /// What was read of it already.
    first: Option<Bytes>,
    source: Option<Incoming>,
    idle: IdleTimer,
    upload: Upload,
    is_begun: bool,
}

/// A response's body on its way from the origin.
pub struct ResponseBody {
    source: Incoming,
    is_http2: bool,
    idle: IdleTimer,
    /// Given back when the body ended, so that a limit on requests counts those whose bodies are still under way.
    _held: Box<dyn Send + Sync>,
}

/// How a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Nothing came for too long.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// The connection broke, or the framing was wrong.
    #[error("the body ended early")]
    Broken(#[from] hyper::Error),
    /// The stream was reset, in words that may be taken for an end (RFC 9113 §8.1).
    #[error("the stream was reset before its end")]
    Reset,
}

/// How far a request's body has got; shared between the body and who waits for the response.
#[derive(Clone)]
pub(super) struct Upload(Option<Arc<Progress>>);

#[derive(Default)]
struct Progress {
    frames: AtomicU64,
    is_done: AtomicBool,
    waits_for_client: AtomicBool,
    failure: AtomicU8,
    done: Notify,
    /// A body that was dropped before anything was taken of it.
    given_back: Mutex<Option<RequestBody>>,
}

impl RequestBody {
    /// No body.
    pub fn empty() -> RequestBody {
        RequestBody { first: None, source: None, idle: IdleTimer::new(Duration::ZERO), upload: Upload(None), is_begun: false }
    }

    /// A body that is there already.
    pub fn whole(content: Bytes) -> RequestBody {
        RequestBody::empty().behind(Some(content))
    }

    /// A client's body of which the `first` octets were read; the rest may be silent for at most `idle`.
    pub fn resumed(first: Bytes, rest: Incoming, idle: Duration) -> RequestBody {
        RequestBody::new(rest, idle).behind(Some(first))
    }

    /// Whether all of it is here, so that it can be sent twice.
    pub(super) fn is_at_hand(&self) -> bool {
        self.source.is_none()
    }

    /// The same once more; `None` if it is a client's, which can be read only once.
    pub fn again(&self) -> Option<RequestBody> {
        self.is_at_hand().then(|| RequestBody::empty().behind(self.first.clone()))
    }

    fn behind(mut self, first: Option<Bytes>) -> RequestBody {
        self.first = first.filter(|first| !first.is_empty());
        self
    }

    /// A client's body, which may be silent for at most `idle`.
    pub fn new(source: Incoming, idle: Duration) -> RequestBody {
        match source.is_end_stream() {
            true => RequestBody::empty(),
            false => RequestBody {
                first: None,
                source: Some(source),
                idle: IdleTimer::new(idle),
                upload: Upload(Some(Arc::default())),
                is_begun: false,
            },
        }
    }

    pub(super) fn upload(&self) -> Upload {
        self.upload.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        this.is_begun = true;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let (Some(source), Some(progress)) = (&mut this.source, &this.upload.0) else {
            return Poll::Ready(None);
        };
        let polled = this.idle.poll_frame(source, cx);
        progress.waits_for_client.store(polled.is_pending(), Ordering::Relaxed);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) => {
                progress.frames.fetch_add(1, Ordering::Relaxed);
                if source.is_end_stream() {
                    progress.end();
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let failure = if matches!(error, BodyError::Idle(_)) { FAILED_IDLE } else { FAILED_GONE };
                progress.failure.store(failure, Ordering::Relaxed);
                progress.end();
            }
            Poll::Ready(None) => progress.end(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.source.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.source.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint);
        let mut all = SizeHint::new();
        if let Some(upper) = rest.upper() {
            all.set_upper(upper + first);
        }
        all.set_lower(rest.lower() + first);
        all
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(progress) = self.upload.0.take() else { return };
        // Given back to those who wait for the response, if any do.
        if !self.is_begun && Arc::strong_count(&progress) > 1 {
            let whole = RequestBody {
                first: self.first.take(),
                source: self.source.take(),
                idle: IdleTimer::new(self.idle.limit),
                upload: Upload(Some(Arc::default())),
                is_begun: false,
            };
            *progress.given_back.lock().expect("no panic while it is held") = Some(whole);
        }
        // A body that is dropped half-way (the origin answered early) is not being waited for either.
        progress.end();
    }
}

impl Progress {
    fn end(&self) {
        self.is_done.store(true, Ordering::Release);
        self.done.notify_one();
    }
}

impl Upload {
    pub(super) fn is_done(&self) -> bool {
        self.0.as_ref().is_none_or(|progress| progress.is_done.load(Ordering::Acquire))
    }

    pub(super) fn frames(&self) -> u64 {
        self.0.as_ref().map_or(0, |progress| progress.frames.load(Ordering::Relaxed))
    }

    pub(super) fn waits_for_client(&self) -> bool {
        self.0.as_ref().is_some_and(|progress| progress.waits_for_client.load(Ordering::Relaxed))
    }

    /// Whether the client's side failed, and if so, whether by silence.
    pub(super) fn failure(&self) -> Option<bool> {
        match self.0.as_ref().map(|progress| progress.failure.load(Ordering::Relaxed)) {
            Some(FAILED_IDLE) => Some(true),
            Some(FAILED_GONE) => Some(false),
            _ => None,
        }
    }

    pub(super) async fn done(&self) {
        if let Some(progress) = &self.0 {
            progress.done.notified().await;
        }
    }

    /// The body, if it was dropped before anything was taken of it: no connection came about.
    pub(super) fn given_back(&self) -> Option<RequestBody> {
        self.0.as_ref()?.given_back.lock().expect("no panic while it is held").take()
    }
}

impl ResponseBody {
    pub(super) fn new(source: Incoming, is_http2: bool, idle: Duration, held: impl Send + Sync + 'static) -> ResponseBody {
        ResponseBody { source, is_http2, idle: IdleTimer::new(idle), _held: Box::new(held) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match this.idle.poll_frame(&mut this.source, cx) {
            // hyper ends a body without an error where a stream is reset with NO_ERROR; only END_STREAM is an end.
            Poll::Ready(None) if this.is_http2 && !this.source.is_end_stream() => Poll::Ready(Some(Err(BodyError::Reset))),
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

/// Ends a body that is silent for too long. Costs nothing while frames are ready.
struct IdleTimer {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    is_running: bool,
}

impl IdleTimer {
    fn new(limit: Duration) -> IdleTimer {
        IdleTimer { limit, sleep: None, is_running: false }
    }

    fn poll_frame(&mut self, source: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(source).poll_frame(cx) {
            self.is_running = false;
            return Poll::Ready(frame.map(|frame| frame.map(without_forbidden_trailers).map_err(BodyError::Broken)));
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        if !self.is_running {
            sleep.as_mut().reset(Instant::now() + self.limit);
            self.is_running = true;
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Idle(self.limit))))
    }
}

/// What frames, steers or identifies a message comes before its content, or not at all: who merges trailers into the fields would
/// have it decide once more.
fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            let forbidden: Vec<HeaderName> = trailers.keys().filter(|name| !fields::may_be_trailer(name)).cloned().collect();
            for name in forbidden {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(data) => data,
    }
}

const FAILED_IDLE: u8 = 1;
const FAILED_GONE: u8 = 2;
