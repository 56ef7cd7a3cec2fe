//! The line ends of response heads, and the number of interim ones, which hyper takes as they come.
//!
//! RFC 9112 §2.2 lets a recipient take a bare LF for the end of a line, and there are origins that end all of theirs so. But where
//! the lines of one head end in CRLF, a bare LF is in all likelihood a part of a value that somebody else has written, and what
//! follows it a field of his: a cookie, or how long it is to be stored.
//!
//! Interim responses (RFC 9110 §15.2) may be any number, and hyper reads on for as long as they come. Who says so much before his answer
//! has none.

use memchr::memchr;

/// How far the reader of a connection of HTTP/1 is in a response's head.
#[derive(Default)]
pub(super) struct Lines {
    is_in_head: bool,
    /// Whether lines end in CRLF, as the first of them does.
    in_crlf: Option<bool>,
    /// The octets of the line that has begun: the first of them, their number, and whether the last is a CR.
    beginning: [u8; STATUS_AT + 3],
    length: usize,
    ends_in_cr: bool,
    /// The status line was read, and is that of an interim response.
    is_interim: Option<bool>,
    /// Interim responses to this request.
    interims: u32,
    /// The protocol was changed: there are no heads any more.
    is_tunnel: bool,
}

impl Lines {
    /// Takes note of what is written: with the head of a request, the head of a response is to come. Says whether it was one.
    pub(super) fn note_written(&mut self, octets: &[u8]) -> bool {
        let line = memchr(b'\n', octets).map(|end| &octets[..end]);
        // Content that begins like this, behind a response that came early, has this response read as a head: it is its sender's.
        let is_head = !self.is_tunnel && line.is_some_and(|line| line.ends_with(b" HTTP/1.1\r"));
        if is_head {
            *self = Lines { is_in_head: true, ..Lines::default() };
        }
        is_head
    }

    /// Reads what has come; the error says how much of it can be believed.
    pub(super) fn read(&mut self, octets: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while self.is_in_head && at < octets.len() {
            let rest = &octets[at..];
            let end = memchr(b'\n', rest);
            let here = &rest[..end.unwrap_or(rest.len())];
            let (filled, room) = (self.length.min(self.beginning.len()), self.beginning.len().saturating_sub(self.length));
            let first = &here[..here.len().min(room)];
            self.beginning[filled..filled + first.len()].copy_from_slice(first);
            self.length += here.len();
            self.ends_in_cr = here.last().map_or(self.ends_in_cr, |last| *last == b'\r');
            let Some(end) = end else { break };
            if *self.in_crlf.get_or_insert(self.ends_in_cr) != self.ends_in_cr {
                return Err(at + end);
            }
            self.end_line();
            if self.interims > INTERIMS_MAX {
                return Err(at + end);
            }
            at += end + 1;
        }
        Ok(())
    }

    fn end_line(&mut self) {
        let is_blank = self.length == usize::from(self.ends_in_cr);
        match (is_blank, self.is_interim) {
            // Blank lines may come before a head.
            (true, None) => {}
            (true, Some(true)) => *self = Lines { is_in_head: true, interims: self.interims + 1, ..Lines::default() },
            (true, Some(false)) => self.is_in_head = false,
            (false, None) => {
                let status = &self.beginning[STATUS_AT..];
                self.is_tunnel = status == b"101";
                self.is_interim = Some(status[0] == b'1' && !self.is_tunnel);
            }
            (false, Some(_)) => {}
        }
        (self.length, self.ends_in_cr) = (0, false);
    }
}

/// Where the status is in its line: behind `HTTP/1.1` and a space.
const STATUS_AT: usize = 9;

/// How many octets of an origin's answer are believed, when they come in pieces of this size. For fuzzing.
pub fn believed(octets: &[u8], piece: usize) -> usize {
    let mut lines = Lines { is_in_head: true, ..Lines::default() };
    for (number, octets) in octets.chunks(piece).enumerate() {
        if let Err(believed) = lines.read(octets) {
            return number * piece + believed;
        }
    }
    octets.len()
}

/// An origin sends one or two; one that says every second that it is still at work comes to these in half a minute.
const INTERIMS_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(octets: &str, is_believed: bool) {
        for piece in 1..=octets.len() {
            let mut lines = Lines::default();
            lines.note_written(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n");
            let read = octets.as_bytes().chunks(piece).try_for_each(|piece| lines.read(piece));
            assert_eq!(read.is_ok(), is_believed, "{octets:?} in pieces of {piece}");
        }
    }

    #[test]
    fn the_lines_of_a_head_end_in_one_way() {
        check("HTTP/1.1 200 OK\r\nx-a: a\r\n\r\nbody\nof lines\r\n\n", true);
        check("HTTP/1.1 200 OK\nx-a: a\n\nbody\r\nof lines\n", true);
        check("\r\nHTTP/1.1 200 OK\r\n\r\nbody\n", true);
        check("HTTP/1.1 200 OK\r\nx-a: a\nset-cookie: evil\r\n\r\n", false);
        check("HTTP/1.1 200 OK\r\nx-a: a\n\nevil", false);
        check("HTTP/1.1 200 OK\nx-a: a\r\n\n", false);
        check("HTTP/1.1 200 OK\n\r\n", false);
    }

    #[test]
    fn only_so_many_interim_responses_come_before_an_answer() {
        for interim in ["HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 100 Continue\n\n"] {
            let answered = |number: usize| interim.repeat(number) + "HTTP/1.1 200 OK\r\n\r\n";
            let enough = INTERIMS_MAX as usize;
            check(&answered(enough), true);
            check(&answered(enough + 1), false);
            let mut lines = Lines::default();
            for _ in 0..3 {
                lines.note_written(b"GET / HTTP/1.1\r\n\r\n");
                assert_eq!(lines.read(answered(enough).as_bytes()), Ok(()), "they are counted for each request");
            }
        }
    }

    #[test]
    fn each_head_that_comes_is_looked_at() {
        check("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\nx-a: a\nx-b: b\r\n\r\n", false);
        check("HTTP/1.1 103 Early Hints\r\nlink: a\nx-b: b\r\n\r\n", false);
        check("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\na\n", true);
        check("HTTP/1.1 101 Switching Protocols\r\n\r\na\nb\r\n", true);
        let mut lines = Lines::default();
        assert!(lines.note_written(b"GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(lines.read(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"), Ok(()));
        assert!(!lines.note_written(b"GET / HTTP/1.1\r\n\r\n"), "a tunnel has no heads");
        assert_eq!(lines.read(b"a\r\nb\n"), Ok(()));
        let mut lines = Lines::default();
        for _ in 0..2 {
            lines.note_written(b"POST / HTTP/1.1\r\n\r\n");
            assert_eq!(lines.read(b"HTTP/1.1 200 OK\r\n\r\na\nb\r\n\r\n"), Ok(()));
            lines.note_written(b"content\n");
            assert_eq!(lines.read(b"a\nb\r\n"), Ok(()));
        }
    }
}
