//! A body that one fetch fills and many clients read, each at its own pace.
//!
//! While the body may still be stored, all of it is kept, so a client that joins late reads from the start and the origin is
//! never held up. Once the body has outgrown what is stored, it becomes a window: nobody can join any more, what all readers
//! have read is let go, and the fetch waits while the slowest reader is a whole window behind.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use slab::Slab;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The shared body; the fetch writes into it.
#[derive(Default)]
pub(super) struct Spool {
    state: Mutex<State>,
}

/// One client's place in a spool.
pub(super) struct Reader {
    spool: Arc<Spool>,
    id: usize,
    /// The client's connection was given the time to send what came before the cut.
    has_paused: bool,
}

/// What a reader gets next.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Octets.
    Data(Bytes),
    /// The end of a whole body, with its trailers if it had any.
    End(Option<HeaderMap>),
    /// The body ended early; this client must not believe that it was whole.
    Cut,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Chunks that were let go from the front.
    gone: usize,
    octets: usize,
    is_window: bool,
    end: Option<End>,
    readers: Slab<Place>,
    writer: Option<Waker>,
}

#[derive(Default)]
struct Place {
    next: usize,
    waker: Option<Waker>,
}

#[derive(Clone)]
enum End {
    Whole(Option<HeaderMap>),
    Cut,
}

impl Spool {
    /// A reader that begins at the start, unless the start is gone.
    pub(super) fn reader(self: &Arc<Spool>) -> Option<Reader> {
        let mut state = self.lock();
        if state.is_window {
            return None;
        }
        let id = state.readers.insert(Place::default());
        Some(Reader { spool: self.clone(), id, has_paused: false })
    }

    /// Adds octets.
    pub(super) fn push(&self, chunk: Bytes) {
        let mut state = self.lock();
        state.octets += chunk.len();
        state.chunks.push_back(chunk);
        state.wake_readers();
    }

    /// Ends a whole body.
    pub(super) fn finish(&self, trailers: Option<HeaderMap>) {
        self.end(End::Whole(trailers));
    }

    /// Lets go of all that has been read, from now on.
    pub(super) fn become_window(&self) {
        let mut state = self.lock();
        state.is_window = true;
        state.let_go();
    }

    /// Waits until the slowest reader is less than `window` octets behind. `false` says that there is no reader left.
    pub(super) async fn has_room(&self, window: usize) -> bool {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.readers.is_empty() {
                return Poll::Ready(false);
            }
            if state.octets < window {
                return Poll::Ready(true);
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The whole body in one piece of its own, which pins no larger buffer.
    pub(super) fn collect(&self, last: Option<&Bytes>) -> Bytes {
        let state = self.lock();
        let mut whole = BytesMut::with_capacity(state.octets + last.map_or(0, Bytes::len));
        state.chunks.iter().chain(last).for_each(|chunk| whole.extend_from_slice(chunk));
        whole.freeze()
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(end);
            state.wake_readers();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing side; a body that it does not finish is cut.
pub(super) struct Filling(pub(super) Arc<Spool>);

impl Drop for Filling {
    fn drop(&mut self) {
        self.0.end(End::Cut);
    }
}

impl State {
    fn wake_readers(&mut self) {
        for (_, place) in &mut self.readers {
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }

    /// In a window: drops what every reader has read, and tells the fetch.
    fn let_go(&mut self) {
        if !self.is_window {
            return;
        }
        let slowest = self.readers.iter().map(|(_, place)| place.next).min().unwrap_or(self.gone + self.chunks.len());
        while self.gone < slowest {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.octets -= chunk.len();
            self.gone += 1;
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

impl Reader {
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let mut state = self.spool.lock();
        let state = &mut *state;
        let place = &mut state.readers[self.id];
        if let Some(chunk) = state.chunks.get(place.next - state.gone) {
            let chunk = chunk.clone();
            place.next += 1;
            state.let_go();
            return Poll::Ready(Piece::Data(chunk));
        }
        match &state.end {
            Some(End::Whole(trailers)) => Poll::Ready(Piece::End(trailers.clone())),
            Some(End::Cut) if self.has_paused => Poll::Ready(Piece::Cut),
            Some(End::Cut) => {
                // An error makes hyper close at once and drop what it has buffered. A pause lets it write that first.
                self.has_paused = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                place.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Whether all was read and nothing follows.
    pub(super) fn is_at_end(&self) -> bool {
        let state = self.spool.lock();
        let has_read_all = state.readers[self.id].next == state.gone + state.chunks.len();
        has_read_all && matches!(state.end, Some(End::Whole(None)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.spool.lock();
        state.readers.remove(self.id);
        state.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(reader: &mut Reader) -> Piece {
        poll_fn(|cx| reader.poll_next(cx)).await
    }

    fn data(text: &'static str) -> Piece {
        Piece::Data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_reader_that_joins_late_reads_from_the_start() {
        let spool = Arc::new(Spool::default());
        let filling = Filling(spool.clone());
        let mut early = spool.reader().unwrap();
        spool.push("one".into());
        assert_eq!(next(&mut early).await, data("one"));
        spool.push("two".into());
        let mut late = spool.reader().unwrap();
        assert_eq!(spool.collect(Some(&"three".into())), "onetwothree");
        spool.finish(None);
        drop(filling);
        assert_eq!([next(&mut late).await, next(&mut late).await], [data("one"), data("two")]);
        assert_eq!(next(&mut late).await, Piece::End(None));
        assert_eq!([next(&mut early).await, next(&mut early).await], [data("two"), Piece::End(None)]);
    }

    #[tokio::test]
    async fn a_fetch_that_ends_without_finishing_cuts_every_reader() {
        let spool = Arc::new(Spool::default());
        let filling = Filling(spool.clone());
        let mut reader = spool.reader().unwrap();
        spool.push("one".into());
        drop(filling);
        assert_eq!([next(&mut reader).await, next(&mut reader).await], [data("one"), Piece::Cut]);
        assert!(!reader.is_at_end());
    }

    #[tokio::test]
    async fn a_window_waits_for_the_slowest_reader_and_lets_go_of_what_all_have_read() {
        let spool = Arc::new(Spool::default());
        let (mut fast, mut slow) = (spool.reader().unwrap(), spool.reader().unwrap());
        spool.push("one".into());
        spool.become_window();
        assert!(spool.reader().is_none());
        assert!(spool.has_room(4).await);
        spool.push("two".into());
        assert_eq!([next(&mut fast).await, next(&mut fast).await], [data("one"), data("two")]);

        let waiting = tokio::spawn({
            let spool = spool.clone();
            async move { spool.has_room(4).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(next(&mut slow).await, data("one"));
        assert!(waiting.await.unwrap());

        drop(slow);
        assert_eq!(spool.collect(None), "");
        drop(fast);
        assert!(!spool.has_room(4).await);
    }
}
