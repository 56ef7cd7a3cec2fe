//! Where a client's requests begin and end, read strictly (RFC 9112 §2.2, §6, §7.1) before hyper reads it.
//!
//! hyper is lenient where it need not fear for itself: it takes a bare LF for the end of a line, lets `Transfer-Encoding` win over
//! a `Content-Length` that it then hides, and makes one of a length that is said twice. Someone in front of the sidecar who reads the
//! same octets the other way sees other requests than the sidecar does, and requests that one of the two did not see are how
//! caches are poisoned. Afterwards, when a request has become a value, nothing of that is visible any more. So the octets are looked
//! at on their way to hyper, and what has two readings is cut off there: in its place hyper is given [`NO_HTTP`], which it answers
//! with 400, or fails the body with, and closes the connection.
//!
//! That costs a hit one search for the ends of its lines. All else that a head may not hold hyper refuses itself.

use memchr::{memchr, memchr2};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's connection whose octets are those of requests that have one reading.
pub(super) struct Framed<S> {
    stream: S,
    framing: Framing,
    switch: Arc<Switch>,
    /// What is left of [`NO_HTTP`] to be given instead of the octets that were refused.
    refusing: Option<&'static [u8]>,
}

/// Whether a connection goes on as HTTP after a request that asked for another protocol; shared with who answers it.
#[derive(Default)]
pub(super) struct Switch(AtomicU8);

/// How far the octets have been read.
#[derive(Default)]
struct Framing {
    place: Place,
    head: Head,
    /// What came of a line that goes on with the next octets, up to [`LINE_KEPT`].
    line: Vec<u8>,
    /// What came of a line ends in a CR.
    ends_in_cr: bool,
}

/// What is known of a head's request when its lines were read.
#[derive(Default)]
struct Head {
    blank_lines: usize,
    has_request_line: bool,
    length: Option<u64>,
    is_chunked: bool,
    asks_for_upgrade: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a line of a head, or before one.
    #[default]
    Head,
    /// In a body, so many octets before its end.
    Body(u64),
    /// At a chunk's size, of which so many digits have come.
    ChunkSize {
        digits: u8,
        size: u64,
    },
    ChunkExtension {
        size: u64,
    },
    ChunkSizeLf {
        size: u64,
    },
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    /// In a line after the last chunk.
    Trailers,
    /// Behind a request that asks for another protocol.
    Undecided,
    Tunnel,
}

/// The octets at this place have two readings, or none.
#[derive(Debug, PartialEq, Eq)]
struct Refused(usize);

impl<S> Framed<S> {
    pub(super) fn new(stream: S, switch: Arc<Switch>) -> Framed<S> {
        Framed { stream, framing: Framing::default(), switch, refusing: None }
    }

    /// Whether all that was read are whole requests, so that what comes next begins one.
    pub(super) fn is_between_requests(&self) -> bool {
        self.refusing.is_none() && self.framing.is_at_start()
    }
}

impl Switch {
    /// Takes note that a request which asked for another protocol was answered; `false` if the connection cannot go on as HTTP,
    /// because octets have come that may be of the other protocol.
    pub(super) fn answered(&self, is_switched: bool) -> bool {
        let decided = if is_switched { TUNNEL } else { HTTP };
        let asked = self.0.compare_exchange(ASKED, decided, Ordering::Relaxed, Ordering::Relaxed);
        if is_switched {
            self.0.store(TUNNEL, Ordering::Relaxed);
        }
        is_switched || asked.is_ok()
    }
}

impl Framing {
    /// Whether the next octet is the first of a request.
    fn is_at_start(&self) -> bool {
        let Head { blank_lines, has_request_line, .. } = self.head;
        self.place == Place::Head && !has_request_line && blank_lines == 0 && self.line.is_empty() && !self.ends_in_cr
    }

    /// Reads further octets.
    fn read(&mut self, octets: &[u8], switch: &Switch) -> Result<(), Refused> {
        let mut at = 0;
        while let Some(&first) = octets.get(at) {
            let rest = &octets[at..];
            let taken = match self.place {
                Place::Head | Place::Trailers => self.read_line(rest, switch).map_err(|Refused(within)| Refused(at + within))?,
                Place::Body(left) => {
                    let taken = left.min(rest.len() as u64);
                    self.place = if taken == left { Place::Head } else { Place::Body(left - taken) };
                    taken as usize
                }
                Place::ChunkData(left) => {
                    let taken = left.min(rest.len() as u64);
                    self.place = if taken == left { Place::ChunkDataCr } else { Place::ChunkData(left - taken) };
                    taken as usize
                }
                Place::Undecided => match switch.0.load(Ordering::Relaxed) {
                    HTTP => {
                        self.place = Place::Head;
                        0
                    }
                    decided => {
                        switch.0.store(if decided == ASKED { EARLY } else { decided }, Ordering::Relaxed);
                        self.place = if decided == TUNNEL { Place::Tunnel } else { Place::Undecided };
                        rest.len()
                    }
                },
                Place::Tunnel => rest.len(),
                place => {
                    self.place = after(place, first).ok_or(Refused(at))?;
                    1
                }
            };
            at += taken;
        }
        Ok(())
    }

    /// Reads the rest of a line, or as much of it as there is.
    fn read_line(&mut self, octets: &[u8], switch: &Switch) -> Result<usize, Refused> {
        let end = memchr(b'\n', octets);
        let here = &octets[..end.unwrap_or(octets.len())];
        if self.place == Place::Head && !self.head.has_request_line {
            // A fragment is no part of a target (RFC 9112 §3.2); hyper would drop it, and others may not.
            if let Some(within) = memchr2(b'#', DELETE, here) {
                return Err(Refused(within));
            }
        }
        let Some(end) = end else {
            // What hyper has no end of it does not look at, but waits.
            let is_bare = |at: usize| at + 1 < here.len();
            if self.ends_in_cr || memchr(b'\r', here).is_some_and(is_bare) {
                return Err(Refused(0));
            }
            self.keep(here);
            self.ends_in_cr = here.ends_with(b"\r");
            return Ok(octets.len());
        };
        // RFC 9112 §2.2 lets a recipient take a bare LF for a line's end, so that not all do.
        let is_ended = if end == 0 { self.ends_in_cr } else { here.ends_with(b"\r") };
        self.ends_in_cr = false;
        if !is_ended {
            return Err(Refused(end));
        }
        let taken = match self.line.is_empty() {
            true => self.take_line(&here[..end - 1]),
            false => {
                self.keep(here);
                let mut line = std::mem::take(&mut self.line);
                line.pop();
                self.take_line(&line)
            }
        };
        taken.ok_or(Refused(end))?;
        if self.place == Place::Undecided {
            switch.0.store(ASKED, Ordering::Relaxed);
        }
        Ok(end + 1)
    }

    fn keep(&mut self, octets: &[u8]) {
        let room = LINE_KEPT - self.line.len();
        self.line.extend_from_slice(&octets[..octets.len().min(room)]);
    }

    /// Takes a whole line, without its end; `None` refuses it.
    fn take_line(&mut self, line: &[u8]) -> Option<()> {
        match (self.place, line) {
            (Place::Trailers, []) => self.place = Place::Head,
            (_, []) if self.head.has_request_line => self.place = std::mem::take(&mut self.head).end(),
            // RFC 9112 §2.2: old clients end a body with a line that nobody counts.
            (_, []) if self.head.blank_lines == 0 => self.head.blank_lines = 1,
            (_, []) => return None,
            (Place::Head, _) if !self.head.has_request_line => {
                // hyper has no answer for the beginning of a connection of HTTP/2 that does not go on as one; and between requests
                // it takes a CR for nothing.
                if line.starts_with(b"PRI ") || line.starts_with(b"\r") {
                    return None;
                }
                self.head.has_request_line = true;
            }
            // RFC 9112 §2.2, §5.2: whitespace before the first field, or a line that goes on.
            (_, [b' ' | b'\t', ..]) => return None,
            (Place::Head, _) => self.head.take_field(line)?,
            _ => {}
        }
        Some(())
    }
}

impl Head {
    /// Takes a field that says how the request ends.
    fn take_field(&mut self, line: &[u8]) -> Option<()> {
        let is_whole = line.len() + 1 < LINE_KEPT;
        match line[0] {
            b'c' | b'C' => {
                if let Some(value) = value_of(b"content-length", line) {
                    if self.length.is_some() || self.is_chunked || !is_whole {
                        return None;
                    }
                    self.length = Some(length(value)?);
                }
            }
            b't' | b'T' => {
                if let Some(value) = value_of(b"transfer-encoding", line) {
                    if self.length.is_some() || self.is_chunked || !is_whole || !value.eq_ignore_ascii_case(b"chunked") {
                        return None;
                    }
                    self.is_chunked = true;
                }
            }
            b'u' | b'U' if value_of(b"upgrade", line).is_some() => self.asks_for_upgrade = true,
            _ => {}
        }
        Some(())
    }

    /// What comes after the head.
    fn end(self) -> Place {
        match (self.is_chunked, self.length) {
            (true, _) => Place::ChunkSize { digits: 0, size: 0 },
            (false, Some(length @ 1..)) => Place::Body(length),
            _ if self.asks_for_upgrade => Place::Undecided,
            _ => Place::Head,
        }
    }
}

/// The place behind an octet of a chunked body that is neither data nor a trailer (RFC 9112 §7.1).
fn after(place: Place, octet: u8) -> Option<Place> {
    Some(match (place, octet) {
        (Place::ChunkSize { digits, size }, _) if octet.is_ascii_hexdigit() && digits < CHUNK_DIGITS_MAX => {
            let digit = (octet as char).to_digit(16).expect("it is one");
            Place::ChunkSize { digits: digits + 1, size: size << 4 | u64::from(digit) }
        }
        (Place::ChunkSize { digits: 1.., size }, b'\r') | (Place::ChunkExtension { size }, b'\r') => Place::ChunkSizeLf { size },
        (Place::ChunkSize { digits: 1.., size }, b';') => Place::ChunkExtension { size },
        (Place::ChunkExtension { size }, b'\t' | b' '..=b'~' | 0x80..) => Place::ChunkExtension { size },
        (Place::ChunkSizeLf { size: 0 }, b'\n') => Place::Trailers,
        (Place::ChunkSizeLf { size }, b'\n') => Place::ChunkData(size),
        (Place::ChunkDataCr, b'\r') => Place::ChunkDataLf,
        (Place::ChunkDataLf, b'\n') => Place::ChunkSize { digits: 0, size: 0 },
        _ => return None,
    })
}

/// The value of a field line, if it is of this field.
fn value_of<'l>(name: &[u8], line: &'l [u8]) -> Option<&'l [u8]> {
    let (written, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":").filter(|_| written.eq_ignore_ascii_case(name))?;
    // RFC 9110 §5.6.3: of all whitespace, these two octets may surround a value.
    let is_other = |octet: &u8| !matches!(octet, b' ' | b'\t');
    let start = value.iter().position(is_other).unwrap_or(value.len());
    let end = value.iter().rposition(is_other).map_or(start, |last| last + 1);
    Some(&value[start..end])
}

/// RFC 9110 §8.6 allows zeros before a length. No client writes them, and there are readers to whom they make it an octal number.
fn length(written: &[u8]) -> Option<u64> {
    let is_number = matches!(written, [b'0'] | [b'1'..=b'9', ..]) && written.iter().all(u8::is_ascii_digit);
    let length = std::str::from_utf8(written).ok().filter(|_| is_number)?.parse::<i64>().ok()?;
    u64::try_from(length).ok()
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if this.refusing.is_none() {
            let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
            let Err(Refused(at)) = this.framing.read(&buffer.filled()[before..], &this.switch) else {
                return polled;
            };
            buffer.set_filled(before + at);
            this.refusing = Some(NO_HTTP);
        }
        let left = this.refusing.take().unwrap_or_default();
        let (now, later) = left.split_at(left.len().min(buffer.remaining()));
        buffer.put_slice(now);
        this.refusing = Some(later);
        // What follows is nobody's; but it is read, so that the client's end is noticed.
        while buffer.filled().len() == before {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            if buffer.filled().len() == before {
                break;
            }
            buffer.set_filled(before);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
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

/// Where the reader of a client's octets is behind them, when they come in pieces of this size; `None` if it refuses them. For fuzzing, and for
/// benches.
pub fn read_in_pieces(octets: &[u8], piece: usize) -> Option<impl PartialEq + fmt::Debug> {
    let (mut framing, switch) = (Framing::default(), Switch::default());
    let read = octets.chunks(piece).try_for_each(|piece| framing.read(piece, &switch));
    read.ok().map(|()| (framing.place, framing.head.has_request_line))
}

/// What is no HTTP wherever it stands, in a head or between the octets of a chunked body: a CR without its LF, and a NUL. It ends
/// like a head, so that hyper does not wait for more.
const NO_HTTP: &[u8] = b"\r\0\r\n\r\n";

/// More of a line is not kept, in addition to what hyper keeps: a length and a coding are shorter, and no others are looked at.
const LINE_KEPT: usize = 256;

/// Those of the largest number that has no sign in 64 bits; hyper takes one more.
const CHUNK_DIGITS_MAX: u8 = 15;

const DELETE: u8 = 0x7f;

/// The states of a `Switch`: no request asks for another protocol, or it was answered in HTTP.
const HTTP: u8 = 0;
/// One asks, and nothing came behind it.
const ASKED: u8 = 1;
/// Something came before it was answered.
const EARLY: u8 = 2;
const TUNNEL: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Empty};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Reads octets in pieces of this size: where they are refused, or the place behind them.
    fn read(octets: &[u8], piece: usize) -> Result<Place, ()> {
        let (mut framing, switch) = (Framing::default(), Switch::default());
        let read = octets.chunks(piece).try_for_each(|piece| framing.read(piece, &switch));
        read.map(|()| framing.place).map_err(|Refused(_)| ())
    }

    /// However the octets come in pieces, they are read in the same way.
    fn check(octets: &str, expected: Result<Place, ()>) {
        for piece in 1..=octets.len() {
            assert_eq!(read(octets.as_bytes(), piece), expected, "{octets:?} in pieces of {piece}");
        }
    }

    fn head(fields: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")
    }

    #[test]
    fn a_request_ends_where_its_head_says() {
        let check = |fields: &str, body: &str, place| check(&(head(fields) + body), Ok(place));
        check("X-A: 1", "", Place::Head);
        check("Content-Length: 0", "", Place::Head);
        check("Content-Length: 5", "", Place::Body(5));
        check(&format!("X-Long: {}", "a".repeat(1000)), "", Place::Head);
        check(&format!("Content-Length: {}5", " ".repeat(230)), "", Place::Body(5));
        check("content-length:\t5 ", "\r\n\r\n\n", Place::Head);
        check("Content-Length: 9223372036854775807", "abc", Place::Body(9_223_372_036_854_775_804));
        check("Transfer-Encoding: chunked", "", Place::ChunkSize { digits: 0, size: 0 });
        check("Transfer-Encoding: CHUNKED", "a;b=\"c\"\r\n01234", Place::ChunkData(5));
        check("Transfer-Encoding: chunked", "3\r\none\r\n0\r\nX-A: 1\r\n\r\n", Place::Head);
        check("Transfer-Encodings: x\r\nContent-Length5: x\r\nX-Content-Length: x", "", Place::Head);
        check("Transfer-Encoding: chunked", "0\r\n\r\nGET / HTTP/1.1\r\nContent-Length: 2\r\n\r\n1", Place::Body(1));
    }

    #[test]
    fn what_can_end_in_two_places_is_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5, 5",
            "Content-Length: 05",
            "Content-Length: +5",
            "Content-Length: 9223372036854775808",
            "Content-Length:",
            "X-A: 1\r\n 2",
            &format!("Content-Length: {}5", " ".repeat(240)),
            &format!("Content-Length: {}5", " ".repeat(400)),
            &format!("Transfer-Encoding: chunked{}", " ".repeat(250)),
            "X-A: 1\nX-B: 2",
        ] {
            check(&head(fields), Err(()));
        }
        check("\nGET / HTTP/1.1\r\n\r\n", Err(()));
        check("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Err(()));
        check("GET /#a HTTP/1.1\r\n\r\n", Err(()));
        for body in [
            "\r\n",
            "g\r\n",
            "3 \r\n",
            "3\n",
            "3;\n",
            "3;\0\r\n",
            "3\r\noneX",
            "3\r\none\n",
            "0\r\n\n",
            "0\r\nX-A: 1\n",
            "1000000000000000\r\n",
        ] {
            check(&(head("Transfer-Encoding: chunked") + body), Err(()));
        }
    }

    /// What hyper makes of octets behind a `Framed`: the targets, with the bodies that came to their end.
    async fn served(octets: &[u8], piece: usize) -> Vec<(String, Option<Vec<u8>>)> {
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = seen.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let record = record.clone();
            async move {
                let target = request.uri().to_string();
                let body = request.into_body().collect().await.ok().map(|body| body.to_bytes().to_vec());
                record.lock().unwrap().push((target, body));
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let framed = Framed::new(server, Arc::default());
        let serving = tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(framed), service));
        for octets in octets.chunks(piece) {
            let _ = client.write_all(octets).await;
            tokio::task::yield_now().await;
        }
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
        let _ = serving.await;
        let mut seen = seen.lock().unwrap();
        std::mem::take(&mut *seen)
    }

    /// The targets of the requests that come to their end, by the strict reading alone.
    fn whole(octets: &[u8]) -> Vec<String> {
        let (mut framing, switch, mut whole, mut begun) = (Framing::default(), Switch::default(), Vec::new(), None);
        let mut line = Vec::new();
        for octet in octets {
            line.push(*octet);
            let was_in_head = framing.head.has_request_line;
            if framing.read(&[*octet], &switch).is_err() {
                break;
            }
            if framing.head.has_request_line && !was_in_head {
                begun = String::from_utf8_lossy(&line).split(' ').nth(1).map(str::to_owned);
            }
            if *octet == b'\n' || framing.place != Place::Head {
                line.clear();
            }
            if framing.place == Place::Head && !framing.head.has_request_line {
                whole.extend(begun.take());
            }
        }
        whole
    }

    /// Requests with octets changed at random: whatever hyper takes for a whole request is one by the strict reading too, and there is
    /// none between them that hyper did not see.
    #[tokio::test]
    async fn hyper_sees_no_request_that_is_none() {
        const REQUESTS: [&str; 6] = [
            "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /2 HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
            "POST /3 HTTP/1.1\r\nHost: h\r\nContent-Length: 31\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n\r\n",
            "POST /4 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1d;x=y\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n\r\n0\r\n\r\n",
            "POST /5 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\nX-A: 1\r\n\r\n",
            "POST /6 HTTP/1.1\r\nContent-Length: 3\r\nX-A: b\r\n\r\none",
        ];
        const PIECES: [&str; 14] = [
            "\r\n",
            "\n",
            "\r",
            " ",
            "\t",
            "0",
            "1",
            ";",
            ",",
            ":",
            "\0",
            "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n",
            "\r\n0\r\n\r\n",
        ];
        let mut random = fastrand::Rng::with_seed(9112);
        let mut requests = 0;
        for _ in 0..6000 {
            let number = random.usize(1..5);
            let mut octets: String = (0..number).map(|_| REQUESTS[random.usize(..REQUESTS.len())]).collect();
            for _ in 0..random.usize(..4) {
                let (at, piece) = (random.usize(..octets.len()), PIECES[random.usize(..PIECES.len())]);
                let replaced = random.usize(..3);
                octets.replace_range(at..octets.len().min(at + replaced), piece);
            }
            let strict = whole(octets.as_bytes());
            let piece = random.usize(1..=octets.len());
            let served = served(octets.as_bytes(), piece).await;
            let finished: Vec<_> = served.iter().filter(|(_, body)| body.is_some()).map(|(target, _)| target.clone()).collect();
            requests += finished.len();
            // hyper may refuse more, or close the connection before; it sees nothing else, and nothing in another order.
            assert!(strict.starts_with(&finished), "{octets:?} in pieces of {piece}: {strict:?}, but hyper saw {served:?}");
        }
        assert!(requests > 5000, "{requests} are too few");
    }

    #[test]
    fn what_comes_behind_an_upgrade_is_read_when_it_is_decided() {
        let octets = head("Upgrade: websocket");
        let bad = b"GET / HTTP/1.1\n\n";
        let (mut framing, switch) = (Framing::default(), Switch::default());
        framing.read(octets.as_bytes(), &switch).unwrap();
        assert!(switch.answered(false));
        assert_eq!(framing.read(bad, &switch), Err(Refused(14)));

        let (mut framing, switch) = (Framing::default(), Switch::default());
        framing.read(octets.as_bytes(), &switch).unwrap();
        assert!(switch.answered(true));
        assert_eq!(framing.read(bad, &switch), Ok(()));

        let (mut framing, switch) = (Framing::default(), Switch::default());
        framing.read((octets + "early").as_bytes(), &switch).unwrap();
        assert!(!switch.answered(false), "nobody knows what the early octets are");
    }
}
