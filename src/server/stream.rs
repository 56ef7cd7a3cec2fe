//! A client's octets, and how long the client may dawdle over them.
//!
//! hyper has one timer for a request's head, and it runs while a kept-alive connection is idle as well. Here the two are told
//! apart: the timer that hyper is given ([`HeadTimer`]) runs for the idle time until the first octet of a head arrives, and
//! for the head's time from then on.

use super::loan::Loan;
use super::tls::Acceptor;
use super::wire::Wire;
use hyper::rt::{Sleep, Timer};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A client's connection, of which the first octets were read to find out the protocol.
pub(super) struct ClientStream {
    wire: Wire,
    /// What was read already and is still to be read by the protocol.
    ahead: Ahead,
    reads: Reads,
    write_idle: Duration,
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
    is_stalled: bool,
    /// Given back when the connection ends, also one that has become a tunnel.
    _held: Box<dyn Send>,
}

/// How often something was read from a connection, or moved on it; shared with who watches for silence.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads(Arc<AtomicU64>);

/// Which protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

struct Ahead {
    octets: [u8; OPENING_BYTES],
    filled: usize,
    taken: usize,
}

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead { octets: [0; OPENING_BYTES], filled: 0, taken: 0 }
    }
}

impl ClientStream {
    /// Shakes hands, if there is TLS, and reads until it is clear which protocol the client speaks (RFC 9113 §3.3).
    pub(super) async fn open(
        tcp: TcpStream,
        acceptor: Option<Acceptor>,
        write_idle: Duration,
        held: impl Send + 'static,
    ) -> io::Result<(ClientStream, Protocol)> {
        let mut wire = Wire::open(tcp, acceptor).await?;
        let mut ahead = Ahead::default();
        let protocol = loop {
            let read = wire.read(&mut ahead.octets[ahead.filled..PREFACE.len()]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            ahead.filled += read;
            if ahead.octets[..ahead.filled] != PREFACE[..ahead.filled] {
                break Protocol::Http1;
            }
            if ahead.filled == PREFACE.len() {
                // See `frames`: our settings hold without the client's consent.
                ahead.octets[PREFACE.len()..].copy_from_slice(SETTINGS_ACK);
                ahead.filled = OPENING_BYTES;
                break Protocol::Http2;
            }
        };
        // RFC 9113 §3.2: within TLS, a protocol is agreed on and not guessed.
        if wire.is_secure() && wire.has_agreed_on_h2() != (protocol == Protocol::Http2) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "another protocol than was agreed on"));
        }
        let reads = Reads::default();
        let held = Box::new(held);
        let stream = ClientStream { wire, ahead, reads, write_idle, stalled: None, is_stalled: false, _held: held };
        Ok((stream, protocol))
    }

    /// Waits until the client has sent something, or has closed its side. What was read before has all been taken.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        if let Some(tcp) = self.wire.plain() {
            return tcp.readable().await;
        }
        // What has come may be of TLS alone, or may lie decrypted already: only reading tells.
        self.ahead = Ahead::default();
        self.ahead.filled = self.wire.read(&mut self.ahead.octets).await?;
        if self.ahead.filled == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Ends the connection. Within TLS that is said first, so that nothing seems to have been cut off (RFC 8446 §6.1).
    pub(super) async fn close(mut self) {
        if self.is_secure() {
            let _ = self.shutdown().await;
        }
    }

    pub(super) fn is_secure(&self) -> bool {
        self.wire.is_secure()
    }

    pub(super) fn reads(&self) -> Reads {
        self.reads.clone()
    }

    /// Lets a write wait for the client, but not for ever.
    fn wait<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.is_stalled = false;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.write_idle)));
        if !self.is_stalled {
            stalled.as_mut().reset(Instant::now() + self.write_idle);
            self.is_stalled = true;
        }
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let ahead = &mut this.ahead;
        if ahead.taken < ahead.filled {
            let number = buffer.remaining().min(ahead.filled - ahead.taken);
            buffer.put_slice(&ahead.octets[ahead.taken..ahead.taken + number]);
            ahead.taken += number;
            this.reads.count();
            // What has come since belongs to it: hyper, given a part of a head, makes its buffer twice as large for the rest.
            return match Pin::new(&mut this.wire).poll_read(cx, buffer) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
            };
        }
        let polled = Pin::new(&mut this.wire).poll_read(cx, buffer);
        if polled.is_ready() {
            this.reads.count();
        }
        polled
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.wire).poll_write(cx, octets);
        self.wait(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.wire).poll_write_vectored(cx, pieces);
        self.wait(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.wire).poll_flush(cx);
        // Of plain text nothing is ever left to be flushed, so that this says nothing of the client.
        if self.is_secure() { self.wait(cx, polled) } else { polled }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.wire).poll_shutdown(cx);
        if self.is_secure() { self.wait(cx, polled) } else { polled }
    }
}

impl Reads {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn number(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The timer for requests' heads: see the top of this file.
#[derive(Clone)]
pub(super) struct HeadTimer(Arc<Watch>);

/// What is watched on a connection.
struct Watch {
    reads: Reads,
    idle: Duration,
    head: Duration,
    /// Of the connection, whose lender is told when it has been idle for a moment.
    loan: Arc<Loan>,
    /// What rings for one head after the other. It is set to a later time when it rings, not with each head: that would cost each request
    /// two changes to the runtime's timers.
    alarm: Mutex<Option<Alarm>>,
}

type Alarm = Pin<Box<tokio::time::Sleep>>;

impl HeadTimer {
    /// A connection of which so much is read may be idle for so long, and so long be between a head's first octet and its last.
    pub(super) fn new(reads: Reads, idle: Duration, head: Duration, loan: Arc<Loan>) -> HeadTimer {
        HeadTimer(Arc::new(Watch { reads, idle, head, loan, alarm: Mutex::new(None) }))
    }
}

struct HeadSleep {
    watch: Arc<Watch>,
    reads_before: u64,
    answered_before: u64,
    has_begun: bool,
    is_quiet: bool,
    /// The wait has begun anew since the alarm was set; how long it lasts is reckoned from when that rings, which costs such a request nothing.
    is_renewed: bool,
    deadline: Instant,
    /// There until it is dropped.
    alarm: Option<Alarm>,
}

impl Timer for HeadTimer {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        let (watch, deadline) = (self.0.clone(), Instant::now() + self.0.idle.min(QUIET_AFTER));
        let kept = watch.alarm.lock().unwrap_or_else(PoisonError::into_inner).take();
        let alarm = kept.unwrap_or_else(|| Box::pin(tokio::time::sleep_until(deadline)));
        watch.loan.await_head(true);
        let (reads_before, answered_before) = (watch.reads.number(), watch.loan.answered());
        Box::pin(HeadSleep {
            watch,
            reads_before,
            answered_before,
            has_begun: false,
            is_quiet: false,
            is_renewed: false,
            deadline,
            alarm: Some(alarm),
        })
    }

    fn sleep_until(&self, _: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(self.0.idle)
    }
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let HeadSleep { watch, reads_before, answered_before, has_begun, is_quiet, is_renewed, deadline, alarm } = self.get_mut();
        let alarm = alarm.as_mut().expect("it is there until it is dropped");
        let answered = watch.loan.answered();
        if answered != *answered_before {
            // What was read was a request, which is answered: the wait begins anew.
            (*answered_before, *reads_before) = (answered, watch.reads.number());
            *has_begun = false;
            let is_late = alarm.deadline() > *deadline + QUIET_AFTER;
            match std::mem::take(is_quiet) || is_late {
                true => *deadline = Instant::now() + watch.idle.min(QUIET_AFTER),
                false => *is_renewed = true,
            }
        }
        if !*has_begun && watch.reads.number() != *reads_before {
            (*has_begun, *is_renewed) = (true, false);
            *deadline = Instant::now() + watch.head;
        }
        loop {
            if !*is_renewed && alarm.deadline() > *deadline {
                alarm.as_mut().reset(*deadline);
            }
            ready!(alarm.as_mut().poll(cx));
            if std::mem::take(is_renewed) {
                *deadline = Instant::now() + watch.idle.min(QUIET_AFTER);
            }
            // It may have been set for an earlier head.
            if Instant::now() < *deadline {
                alarm.as_mut().reset(*deadline);
                continue;
            }
            let rest = watch.idle.saturating_sub(QUIET_AFTER);
            if *has_begun || *is_quiet || rest.is_zero() {
                return Poll::Ready(());
            }
            *is_quiet = true;
            watch.loan.quiet.notify_one();
            *deadline = Instant::now() + rest;
        }
    }
}

impl Drop for HeadSleep {
    fn drop(&mut self) {
        self.watch.loan.await_head(false);
        *self.watch.alarm.lock().unwrap_or_else(PoisonError::into_inner) = self.alarm.take();
    }
}

/// So long nothing is asked before a connection counts as idle. Who asks one thing after the other waits for less; and to begin anew costs
/// some allocations, which at this pace nobody notices.
pub(super) const QUIET_AFTER: Duration = Duration::from_millis(250);

/// What an HTTP/2 client that knows its server sends first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A `SETTINGS` frame that acknowledges ours (RFC 9113 §6.5).
const SETTINGS_ACK: &[u8; 9] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];

/// What HTTP/2 reads before the client's frames.
pub(super) const OPENING_BYTES: usize = PREFACE.len() + SETTINGS_ACK.len();
