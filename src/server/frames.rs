//! The frames of an HTTP/2 client, looked at as they pass.
//!
//! h2 bounds what a client can make it keep, and little of what a client can make it do: a hundred thousand `PING` or `SETTINGS` are
//! answered one by one, for as long as they come. So the head of each frame is looked at here, before h2 reads it, and frames that ask
//! for work and bring no request have to be paid for: from a purse that fills with time, and with what the client was sent. A client that
//! does what clients do never sees its bottom. One that does is told to calm down (RFC 9113 §7), and its connection ends.
//!
//! Three further things hold, which h2 leaves alone:
//! - Frames that cost little come in great numbers at once, and h2 reads for as long as there are any. So a connection that has had many lets
//!   the others have their turn; and one that has taken much out of its purse is read in small pieces with pauses between them, so that
//!   what it does before its end is nothing that the others could feel.
//! - What is begun has to be ended in time: the client's preface, with which belongs that it acknowledges our settings (§6.5.3), a block of
//!   field lines (§6.10), a frame other than `DATA`, whose time `flow` looks after.
//! - Our settings hold from the first octet. Until a client acknowledges them h2 takes heads of 16 MiB from it, and a client that wants that
//!   would just not do so. Therefore h2 gets an acknowledgement behind the preface, and that of the client is made a frame of a type that
//!   nobody knows, which is ignored (§5.5).

use super::account::{Account, GOAWAY, HEAD_BYTES, Offence};
use super::stream::Reads;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A client's connection after its preface, whose frames are looked at.
pub(super) struct Frames<S> {
    stream: S,
    account: Account,
    /// Counts what the client was sent, and the room that it makes for more.
    moves: Reads,
    /// The connection was ended for a flood.
    has_flooded: Arc<AtomicBool>,
    /// Frames since others had their turn.
    in_turn: u32,
    /// Octets that were read and are still to be read by h2.
    ahead: Short,
    /// The beginning of a frame's head, of which the rest is still to come.
    partial: Short,
    /// How long something that has begun may take.
    limit: Duration,
    patience: Pin<Box<Sleep>>,
    /// Nothing is read for a moment; `patience` tells when it is over.
    is_pausing: bool,
    /// What was written last was taken in part only, so that a frame of ours would come in the midst of another.
    is_midway: bool,
}

/// A few octets: less than two heads of frames.
#[derive(Default)]
struct Short {
    octets: [u8; SHORT_BYTES],
    filled: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// Looks at what comes from `stream`: so many octets that are no frames, and then frames.
    pub(super) fn new(stream: S, preface: usize, limit: Duration) -> Frames<S> {
        let now = Instant::now();
        Frames {
            stream,
            account: Account::new(preface, now),
            moves: Reads::default(),
            has_flooded: Arc::default(),
            in_turn: 0,
            ahead: Short::default(),
            partial: Short::default(),
            limit,
            patience: Box::pin(tokio::time::sleep(limit)),
            is_pausing: false,
            is_midway: false,
        }
    }

    /// Whether anything moves towards the client.
    pub(super) fn moves(&self) -> Reads {
        self.moves.clone()
    }

    /// Whether the connection was ended for a flood.
    pub(super) fn has_flooded(&self) -> Arc<AtomicBool> {
        self.has_flooded.clone()
    }

    /// Reads what has come, and lets `buffer` have the frames of it whose heads are whole.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            buffer.put_slice(self.partial.filled());
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer)).inspect_err(|_| buffer.set_filled(before))?;
            let now = Instant::now();
            let came = &mut buffer.filled_mut()[before..];
            if came.len() == self.partial.filled {
                // The end of the connection: what is only a part of a head means nothing any more.
                buffer.set_filled(before);
                return Poll::Ready(Ok(()));
            }
            let (frames_before, windows_before) = (self.account.frames, self.account.windows);
            let whole = match self.account.pass(came, now) {
                Ok(whole) => whole,
                Err(offence) => return Poll::Ready(Err(self.end(cx, offence))),
            };
            if self.account.windows != windows_before {
                self.moves.count();
            }
            self.in_turn += self.account.frames.wrapping_sub(frames_before);
            self.partial = Short::of(&came[whole..]);
            buffer.set_filled(before + whole);
            if whole > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Tells the client why, as far as it takes it.
    fn end(&mut self, cx: &mut Context<'_>, offence: Offence) -> io::Error {
        self.has_flooded.store(offence == Offence::Flood, Ordering::Relaxed);
        if !self.is_midway {
            let [a, b, c, d] = self.account.last_stream;
            let frame = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, offence.code()];
            // The connection ends, whether it is heard or not.
            let _ = Pin::new(&mut self.stream).poll_write(cx, &frame);
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
        io::Error::other(offence)
    }

    fn written(&mut self, offered: usize, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &polled {
            self.account.written = self.account.written.saturating_add(*written);
            self.is_midway = *written < offered;
            if *written > SIGN_OF_LIFE_BYTES {
                self.moves.count();
            }
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.in_turn >= TURN_FRAMES {
            this.in_turn = 0;
            if !this.account.is_strained() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.is_pausing = true;
            this.patience.as_mut().reset(Instant::now() + PAUSE);
        }
        if this.is_pausing {
            ready!(this.patience.as_mut().poll(cx));
            this.is_pausing = false;
        }
        if this.ahead.filled > 0 {
            this.ahead.give(buffer);
            return Poll::Ready(Ok(()));
        }
        let polled = match buffer.remaining() {
            SHORT_BYTES.. if this.account.is_strained() => {
                let mut octets = [0; STRAINED_BYTES];
                let room = buffer.remaining().min(STRAINED_BYTES);
                let mut piece = ReadBuf::new(&mut octets[..room]);
                let polled = this.poll_frames(cx, &mut piece);
                if matches!(polled, Poll::Ready(Ok(()))) {
                    buffer.put_slice(piece.filled());
                }
                polled
            }
            SHORT_BYTES.. => {
                let before = buffer.filled().len();
                let polled = this.poll_frames(cx, buffer);
                if polled.is_pending() {
                    buffer.set_filled(before);
                }
                polled
            }
            _ => {
                let mut octets = [0; SHORT_BYTES];
                let mut short = ReadBuf::new(&mut octets);
                let polled = this.poll_frames(cx, &mut short);
                if matches!(polled, Poll::Ready(Ok(()))) {
                    this.ahead = Short::of(short.filled());
                    this.ahead.give(buffer);
                }
                polled
            }
        };
        if polled.is_ready() {
            return polled;
        }
        if !this.account.is_strained() {
            this.in_turn = 0;
        }
        let Some((since, offence)) = this.account.waits(this.partial.filled > 0) else { return Poll::Pending };
        if this.patience.deadline() != since + this.limit {
            this.patience.as_mut().reset(since + this.limit);
        }
        ready!(this.patience.as_mut().poll(cx));
        Poll::Ready(Err(this.end(cx, offence)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, octets);
        self.written(octets.len(), polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.written(pieces.iter().map(|piece| piece.len()).sum(), polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Short {
    fn of(octets: &[u8]) -> Short {
        let mut short = Short { filled: octets.len(), ..Short::default() };
        short.octets[..octets.len()].copy_from_slice(octets);
        short
    }

    fn filled(&self) -> &[u8] {
        &self.octets[..self.filled]
    }

    /// Moves what has room.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let given = self.filled.min(buffer.remaining());
        buffer.put_slice(&self.octets[..given]);
        *self = Short::of(&self.octets[given..self.filled]);
    }
}

/// So many frames in a row, and others have their turn. The runtime looks at sockets after some sixty turns, so that this many times
/// sixty is what somebody else's request may have to wait for.
const TURN_FRAMES: u32 = 16;

/// A client that strains is read in pieces of so many octets, with a pause after each turn: what it could have done in a second is then what
/// takes a few hundredths of it.
const STRAINED_BYTES: usize = 512;
const PAUSE: Duration = Duration::from_millis(1);

/// What is sent to a client that takes nothing: a `PING`, and answers to what it says.
const SIGN_OF_LIFE_BYTES: usize = 64;

/// Room for a part of a head, and a whole one.
const SHORT_BYTES: usize = 2 * HEAD_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn who_strains_is_read_with_pauses() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let pings = [&[0, 0, 8, 6][..], &[0; 13]].concat().repeat(1500);
        client.write_all(&pings).await.unwrap();
        let mut frames = Frames::new(server, 0, Duration::from_secs(10));
        let (begun, mut octets, mut read) = (Instant::now(), vec![0; 8 << 10], Vec::new());
        while read.len() < pings.len() {
            let piece = frames.read(&mut octets).await.unwrap();
            read.extend_from_slice(&octets[..piece]);
        }
        assert_eq!(read, pings);
        // Some five hundred as fast as they come, then thirty at a time.
        assert!(begun.elapsed() > 20 * PAUSE, "it took {:?}", begun.elapsed());
    }
}
