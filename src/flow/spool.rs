//! A body that one fetch fills and many clients read, each at its own pace.
//!
//! While the body may still be stored, all of it is kept, so a client that joins late reads from the start and the origin is
//! never held up. When it is stored, readers go on with what is stored, so that one who is slow costs no second copy.
//!
//! Once the body has outgrown what is stored, it becomes a window: nobody can join any more, and what all readers have read is let
//! go. Who is a whole window behind has the others wait, and neither may last: all of the body cannot be kept for one, nor all be
//! served at the pace of the slowest. So the readers who wait are held up for about a tenth of the fetch's time at most; then those who
//! hold them up are cut off. They can tell, and ask again, and then nobody else is in their way: it is remembered that the key's
//! responses are too large to be shared. (Varnish shares no response that it does not store, nginx has followers wait for the end;
//! neither can be had where a body of unknown length is streamed to all from its first octet.)
//!
//! On one connection of HTTP/2 a client can ask for a great many bodies and read none of them. So how far a body that is to be stored may
//! be ahead of who reads it depends on how many there are beside it on that connection.

use crate::store::Holding;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use slab::Slab;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The shared body; the fetch writes into it.
pub(super) struct Spool {
    state: Mutex<State>,
    began: Instant,
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
    /// Octets that have come.
    came: usize,
    /// Chunks that were let go from the front.
    gone: usize,
    octets: usize,
    holding: Option<Holding>,
    is_window: bool,
    /// For how long readers have waited for slower ones.
    held_up: Duration,
    end: Option<End>,
    readers: Slab<Place>,
    writer: Option<Waker>,
}

#[derive(Default)]
struct Place {
    /// The chunk that it reads next.
    next: usize,
    /// So many octets of that chunk it has read already.
    offset: usize,
    /// Octets that it has read.
    read: usize,
    /// How many requests its client has under way on one connection, if they can be many.
    beside: Option<Arc<AtomicUsize>>,
    /// It has read all there is, and waits for more.
    waker: Option<Waker>,
    /// It has held up the others for too long.
    is_cut_off: bool,
}

#[derive(Clone)]
enum End {
    Whole(Option<HeaderMap>),
    Cut,
}

impl Default for Spool {
    fn default() -> Spool {
        Spool { state: Mutex::default(), began: Instant::now() }
    }
}

impl Spool {
    /// A spool whose octets are counted, while they are neither stored nor a window.
    pub(super) fn counted(holding: Holding) -> Spool {
        let state = State { holding: Some(holding), ..State::default() };
        Spool { state: Mutex::new(state), ..Spool::default() }
    }

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
        state.came += chunk.len();
        if let Some(holding) = &mut state.holding {
            holding.add(chunk.len());
        }
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
        state.holding = None;
        state.let_go();
    }

    /// Waits while everybody who reads is as far behind as he may be; `false` says that they have left meanwhile.
    pub(super) async fn is_read_on(&self) -> bool {
        let mut has_waited = false;
        poll_fn(|cx| {
            let mut state = self.lock();
            let keeps_up = |place: &Place| state.came.saturating_sub(place.read) < place.behind_max();
            if state.active().any(keeps_up) {
                return Poll::Ready(true);
            }
            // Of what nobody reads, all is taken in; but not of what somebody asked for to hold it up.
            if state.active().next().is_none() {
                return Poll::Ready(!has_waited);
            }
            has_waited = true;
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until the slowest reader is less than `window` octets behind; those whom the others have waited for too long are cut off.
    /// `false` says that there is no reader left.
    pub(super) async fn has_room(&self, window: usize) -> bool {
        let (mut waiting, mut since) = (pin!(None), None);
        let has_reader = poll_fn(|cx| {
            let mut state = self.lock();
            loop {
                if state.active().next().is_none() {
                    return Poll::Ready(false);
                }
                if state.octets < window {
                    return Poll::Ready(true);
                }
                state.writer = Some(cx.waker().clone());
                if !state.active().any(|place| place.waker.is_some()) {
                    return Poll::Pending;
                }
                let since = *since.get_or_insert_with(Instant::now);
                if waiting.is_none() {
                    let patience = (HELD_UP_MIN + (since - self.began) / HELD_UP_PART).saturating_sub(state.held_up);
                    waiting.set(Some(sleep_until(since + patience)));
                }
                if let Some(waiting) = waiting.as_mut().as_pin_mut() {
                    ready!(waiting.poll(cx));
                }
                state.cut_off_slowest();
            }
        })
        .await;
        if let Some(since) = since {
            self.lock().held_up += since.elapsed();
        }
        has_reader
    }

    /// The whole body in one piece of its own, which pins no larger buffer; `last` is yet to be pushed.
    pub(super) fn collect(&self, last: Option<&Bytes>) -> Bytes {
        let state = self.lock();
        let mut whole = BytesMut::with_capacity(state.octets + last.map_or(0, Bytes::len));
        state.chunks.iter().chain(last).for_each(|chunk| whole.extend_from_slice(chunk));
        whole.freeze()
    }

    /// Has readers go on with the whole body, as it is stored, from the octet that they have come to.
    pub(super) fn replace(&self, whole: Bytes) {
        let mut state = self.lock();
        let state = &mut *state;
        let lengths: Vec<usize> = state.chunks.iter().map(Bytes::len).collect();
        for (_, place) in &mut state.readers {
            let read = lengths[..place.next].iter().sum::<usize>() + place.offset;
            (place.next, place.offset) = if read < whole.len() { (0, read) } else { (1, 0) };
        }
        state.octets = whole.len();
        state.holding = None;
        state.chunks = VecDeque::from([whole]);
        state.wake_readers();
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

    /// The readers who read on.
    fn active(&self) -> impl Iterator<Item = &Place> {
        self.readers.iter().map(|(_, place)| place).filter(|place| !place.is_cut_off)
    }

    /// Cuts off who is furthest behind.
    fn cut_off_slowest(&mut self) {
        let slowest = self.gone;
        for (_, place) in &mut self.readers {
            if place.next == slowest {
                place.is_cut_off = true;
                place.waker.take().into_iter().for_each(Waker::wake);
            }
        }
        self.let_go();
    }

    /// Tells the fetch that somebody has read; in a window, drops what every reader has.
    fn let_go(&mut self) {
        let slowest = match self.is_window {
            true => self.active().map(|place| place.next).min().unwrap_or(self.gone + self.chunks.len()),
            false => 0,
        };
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

impl Place {
    /// How far it may be behind a body that is to be stored.
    fn behind_max(&self) -> usize {
        match &self.beside {
            None => usize::MAX,
            Some(number) => (BEHIND_BYTES / number.load(Ordering::Relaxed).max(1)).max(PIECE_BYTES_MAX),
        }
    }
}

impl Reader {
    /// The same, for a client that has so many requests under way on one connection.
    pub(super) fn beside(self, number: Option<Arc<AtomicUsize>>) -> Reader {
        self.spool.lock().readers[self.id].beside = number;
        self
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let mut state = self.spool.lock();
        let state = &mut *state;
        let place = &mut state.readers[self.id];
        let end = match place.is_cut_off {
            true => Some(&End::Cut),
            false => {
                if let Some(chunk) = state.chunks.get(place.next - state.gone) {
                    let end = chunk.len().min(place.offset + PIECE_BYTES_MAX);
                    let piece = chunk.slice(place.offset..end);
                    place.read += piece.len();
                    (place.next, place.offset) = if end == chunk.len() { (place.next + 1, 0) } else { (place.next, end) };
                    state.let_go();
                    return Poll::Ready(Piece::Data(piece));
                }
                state.end.as_ref()
            }
        };
        match end {
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
                if let (true, Some(writer)) = (state.is_window, state.writer.take()) {
                    writer.wake();
                }
                Poll::Pending
            }
        }
    }

    /// Whether all was read and nothing follows.
    pub(super) fn is_at_end(&self) -> bool {
        let state = self.spool.lock();
        let place = &state.readers[self.id];
        let has_read_all = !place.is_cut_off && place.next == state.gone + state.chunks.len();
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

/// Of the time that a fetch takes, a tenth may be spent on waiting for those who are slower than others,
const HELD_UP_PART: u32 = 10;

/// and so much beside: those who are about as fast as the others may stumble.
const HELD_UP_MIN: Duration = Duration::from_millis(100);

/// So much of all bodies on one connection is taken in ahead of its client, or a piece of each.
const BEHIND_BYTES: usize = 8 << 20;

/// What is stored is taken in pieces of this size, so that it can be seen whether more is taken.
pub(super) const PIECE_BYTES_MAX: usize = 64 << 10;

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
    async fn readers_go_on_with_what_is_stored_from_where_they_are() {
        let spool = Arc::new(Spool::default());
        let filling = Filling(spool.clone());
        let (mut early, mut late) = (spool.reader().unwrap(), spool.reader().unwrap());
        spool.push("one".into());
        spool.push("two".into());
        assert_eq!(next(&mut early).await, data("one"));
        let whole = spool.collect(Some(&"three".into()));
        spool.replace(whole.clone());
        spool.finish(None);
        drop(filling);
        assert_eq!([next(&mut early).await, next(&mut early).await], [data("twothree"), Piece::End(None)]);
        let Piece::Data(piece) = next(&mut late).await else { panic!("there is data") };
        assert_eq!(piece.as_ptr(), whole.as_ptr());
        assert!(late.is_at_end());
    }

    #[tokio::test]
    async fn what_is_stored_is_read_in_pieces() {
        let spool = Arc::new(Spool::default());
        let mut reader = spool.reader().unwrap();
        spool.replace(vec![b'x'; PIECE_BYTES_MAX + 1].into());
        let lengths = [next(&mut reader).await, next(&mut reader).await].map(|piece| match piece {
            Piece::Data(piece) => piece.len(),
            _ => 0,
        });
        assert_eq!(lengths, [PIECE_BYTES_MAX, 1]);
    }

    fn room(spool: &Arc<Spool>, window: usize) -> tokio::task::JoinHandle<bool> {
        let spool = spool.clone();
        tokio::spawn(async move { spool.has_room(window).await })
    }

    async fn let_others_run() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_asks_for_much_at_once_has_it_taken_in_as_he_reads() {
        let (spool, number) = (Arc::new(Spool::default()), Arc::new(AtomicUsize::new(1)));
        let mut reader = spool.reader().unwrap().beside(Some(number.clone()));
        spool.push(vec![b'x'; PIECE_BYTES_MAX].into());
        assert!(spool.is_read_on().await);
        number.store(1000, Ordering::Relaxed);
        let read_on = |spool: &Arc<Spool>| {
            let spool = spool.clone();
            tokio::spawn(async move { spool.is_read_on().await })
        };
        let waiting = read_on(&spool);
        let_others_run().await;
        assert!(!waiting.is_finished());
        assert!(matches!(next(&mut reader).await, Piece::Data(_)));
        assert!(waiting.await.unwrap());

        // Whoever reads on, for whom else the body is stored, has it taken in; who leaves ends what he has held up.
        spool.push(vec![b'x'; PIECE_BYTES_MAX].into());
        let waiting = read_on(&spool);
        let_others_run().await;
        assert!(!waiting.is_finished());
        let other = spool.reader().unwrap();
        assert!(spool.is_read_on().await);
        drop(other);
        drop(reader);
        assert!(!waiting.await.unwrap());
        assert!(spool.is_read_on().await, "nobody has held it up");
    }

    /// A spool whose fetch began so long ago.
    fn begun(ago: Duration) -> Arc<Spool> {
        Arc::new(Spool { began: Instant::now() - ago, ..Spool::default() })
    }

    #[tokio::test]
    async fn a_window_waits_for_its_readers_and_lets_go_of_what_all_have_read() {
        let spool = begun(Duration::ZERO);
        let (mut one, mut other) = (spool.reader().unwrap(), spool.reader().unwrap());
        spool.push("one".into());
        spool.become_window();
        assert!(spool.reader().is_none());
        assert!(spool.has_room(4).await);
        spool.push("two".into());
        assert_eq!(next(&mut one).await, data("one"));
        // Nobody waits for more, so nobody is held up.
        let waiting = room(&spool, 4);
        let_others_run().await;
        assert!(!waiting.is_finished());
        assert_eq!(next(&mut other).await, data("one"));
        assert!(waiting.await.unwrap());

        drop(other);
        drop(one);
        assert_eq!(spool.collect(None), "");
        assert!(!spool.has_room(4).await);
    }

    #[tokio::test]
    async fn who_is_slower_than_others_may_hold_them_up_for_a_tenth_of_the_time() {
        let spool = begun(Duration::from_secs(1000));
        let (mut fast, mut slow) = (spool.reader().unwrap(), spool.reader().unwrap());
        spool.become_window();
        spool.push("one".into());
        assert_eq!(next(&mut fast).await, data("one"));
        let more = tokio::spawn(async move { (next(&mut fast).await, fast) });
        let waiting = room(&spool, 3);
        let_others_run().await;
        assert!(!waiting.is_finished());
        assert_eq!(next(&mut slow).await, data("one"));
        assert!(waiting.await.unwrap());
        spool.push("two".into());
        let (two, mut fast) = more.await.unwrap();
        assert_eq!(two, data("two"));
        assert!(spool.lock().held_up > Duration::ZERO);

        // All of that time is spent.
        spool.lock().held_up = Duration::from_secs(102);
        let more = tokio::spawn(async move { next(&mut fast).await });
        let_others_run().await;
        assert!(spool.has_room(3).await);
        spool.push("three".into());
        assert_eq!(more.await.unwrap(), data("three"));
        assert_eq!(next(&mut slow).await, Piece::Cut);
        assert!(!slow.is_at_end());
    }
}
