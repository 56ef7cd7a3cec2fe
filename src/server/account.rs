//! What an HTTP/2 client may do, by the heads of its frames (RFC 9113 §4.1), and what it has begun and has to end.

use thiserror::Error;
use tokio::time::Instant;

/// What a client may do, and what it has begun.
pub(super) struct Account {
    /// Points that are left.
    purse: u32,
    filled_at: Instant,
    /// Octets written that were not paid for yet.
    pub(super) written: usize,
    /// Frames, and those of them that make room.
    pub(super) frames: u32,
    pub(super) windows: u32,
    /// What is left of the frame that is passing.
    payload_left: usize,
    kind: u8,
    frame_begun: Instant,
    /// Since when a block of field lines is open.
    block_begun: Option<Instant>,
    /// Since when our settings wait to be acknowledged.
    unacknowledged: Option<Instant>,
    /// The latest stream that the client has opened.
    pub(super) last_stream: [u8; 4],
    /// The latest stream on which it has said that there is no more.
    ended_stream: Option<[u8; 4]>,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Offence {
    #[error("more frames that ask for work than a client has need of")]
    Flood,
    #[error("a frame or a block of field lines that did not end in time")]
    Dawdling,
    #[error("settings that were not acknowledged in time")]
    Unacknowledged,
    #[error("more of a body that had ended")]
    Closed,
}

impl Offence {
    /// The error code (RFC 9113 §7).
    pub(super) fn code(self) -> u8 {
        match self {
            Offence::Flood | Offence::Dawdling => ENHANCE_YOUR_CALM,
            Offence::Unacknowledged => SETTINGS_TIMEOUT,
            Offence::Closed => STREAM_CLOSED,
        }
    }
}

impl Account {
    pub(super) fn new(preface: usize, now: Instant) -> Account {
        Account {
            purse: PURSE_MAX,
            filled_at: now,
            written: 0,
            frames: 0,
            windows: 0,
            payload_left: preface,
            kind: DATA,
            frame_begun: now,
            block_begun: None,
            unacknowledged: Some(now),
            last_stream: [0; 4],
            ended_stream: None,
        }
    }

    /// Looks at octets, and says how many of them may pass: all but a head of which the rest is still to come.
    pub(super) fn pass(&mut self, octets: &mut [u8], now: Instant) -> Result<usize, Offence> {
        self.fill(now);
        let mut at = 0;
        while at < octets.len() {
            if self.payload_left > 0 {
                let passing = self.payload_left.min(octets.len() - at);
                self.payload_left -= passing;
                at += passing;
                continue;
            }
            self.frame_begun = now;
            let Some(head) = octets[at..].first_chunk_mut() else { break };
            self.begin(head, now)?;
            at += HEAD_BYTES;
        }
        Ok(at)
    }

    /// Takes note of a frame by its head (RFC 9113 §4.1).
    fn begin(&mut self, head: &mut [u8; HEAD_BYTES], now: Instant) -> Result<(), Offence> {
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        (self.payload_left, self.kind) = (length, kind);
        self.frames = self.frames.wrapping_add(1);
        match kind {
            HEADERS => {
                self.last_stream = stream.max(self.last_stream);
                self.purse = (self.purse + REQUEST_BRINGS).min(PURSE_MAX);
                self.block_begun = (flags & END_HEADERS == 0).then_some(now);
            }
            WINDOW_UPDATE => self.windows = self.windows.wrapping_add(1),
            CONTINUATION if flags & END_HEADERS != 0 => self.block_begun = None,
            SETTINGS if flags & ACK != 0 && length == 0 && self.unacknowledged.take().is_some() => head[3] = UNKNOWN,
            _ => {}
        }
        if kind == DATA && self.ended_stream == Some(stream) {
            // §5.1: an error of the connection. h2, which may have forgotten the stream, resets it.
            return Err(Offence::Closed);
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.ended_stream = Some(stream);
        }
        let price = match kind {
            HEADERS => 0,
            // There are clients that stream small messages: these strain, but never end a connection.
            DATA if length > 0 => u32::from(length < SMALL_DATA_BYTES && !self.is_strained()),
            RST_STREAM => 5,
            PING => 2,
            SETTINGS | GOAWAY => 10,
            _ => 1,
        };
        self.purse = self.purse.checked_sub(price).ok_or(Offence::Flood)?;
        Ok(())
    }

    /// Whether so much was taken out of the purse as no client does that is well.
    pub(super) fn is_strained(&self) -> bool {
        self.purse < STRAINED_BELOW
    }

    fn fill(&mut self, now: Instant) {
        let passed = (now - self.filled_at).as_millis().min(PURSE_MAX.into());
        let earned = u32::try_from(passed).unwrap_or(PURSE_MAX) * POINTS_PER_MILLISECOND;
        // A part of a millisecond is not lost, but counted the next time.
        if passed > 0 {
            self.filled_at = now;
        }
        let sent = u32::try_from(self.written / WRITTEN_BYTES_PER_POINT).unwrap_or(PURSE_MAX);
        self.written %= WRITTEN_BYTES_PER_POINT;
        self.purse = self.purse.saturating_add(earned).saturating_add(sent).min(PURSE_MAX);
    }

    /// Since when something that was begun waits for its end, and what it is if that does not come.
    pub(super) fn waits(&self, is_head_partial: bool) -> Option<(Instant, Offence)> {
        if let Some(since) = self.unacknowledged {
            return Some((since, Offence::Unacknowledged));
        }
        let is_frame_open = is_head_partial || (self.payload_left > 0 && self.kind != DATA);
        let since = self.block_begun.or(is_frame_open.then_some(self.frame_begun))?;
        Some((since, Offence::Dawdling))
    }
}

/// What a client has at the start and can have at most: enough for one that cancels all its streams several times in a row, or that has
/// much to say about priorities and windows at its start.
const PURSE_MAX: u32 = 4096;

/// What time brings: a thousand a second, which is nothing to the machine, and more than a client that announces each small piece that
/// it has read twice, once for its stream and once for the connection.
const POINTS_PER_MILLISECOND: u32 = 1;

/// What octets bring that the client was sent. The most talkative clients announce every 4 KiB that they have read, twice.
const WRITTEN_BYTES_PER_POINT: usize = 1024;

/// What a request brings: a client that cancels every second one is left alone, one that cancels all of them at once is not.
const REQUEST_BRINGS: u32 = 2;

/// With less than this in its purse a client strains, and is read slowly.
const STRAINED_BELOW: u32 = PURSE_MAX / 4 * 3;

/// `DATA` that is shorter is more work than content.
const SMALL_DATA_BYTES: usize = 64;

/// Of a frame.
pub(super) const HEAD_BYTES: usize = 9;

/// Types of frames (RFC 9113 §6), and one that is none of them.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xff;

/// Flags.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113 §7).
const SETTINGS_TIMEOUT: u8 = 4;
const STREAM_CLOSED: u8 = 5;
const ENHANCE_YOUR_CALM: u8 = 0xb;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn frame(kind: u8, flags: u8, stream: u32, length: u8) -> Vec<u8> {
        let mut octets = vec![0, 0, length, kind, flags];
        octets.extend(stream.to_be_bytes());
        octets.resize(HEAD_BYTES + usize::from(length), 0);
        octets
    }

    /// How many rounds pass, of so many, without a moment between them; in each the client is sent so many octets.
    fn rounds(number: u32, written: usize, round: impl Fn(u32) -> Vec<u8>) -> u32 {
        let now = Instant::now();
        let mut account = Account::new(0, now);
        let pass = |n: &u32| {
            account.written += written;
            account.pass(&mut round(*n), now).is_ok()
        };
        u32::try_from((0..number).take_while(pass).count()).unwrap()
    }

    #[tokio::test]
    async fn floods_come_to_the_bottom_of_the_purse() {
        let check = |expected: u32, round: fn(u32) -> Vec<u8>| assert_eq!(rounds(100_000, 0, round), expected);
        check(PURSE_MAX, |_| frame(WINDOW_UPDATE, 0, 0, 4));
        check(PURSE_MAX, |_| frame(DATA, 0, 1, 0));
        check(PURSE_MAX, |_| frame(UNKNOWN, 0, 1, 0));
        check(PURSE_MAX / 2, |_| frame(PING, 0, 0, 8));
        check(PURSE_MAX / 10, |_| frame(SETTINGS, 0, 0, 0));
        // The first brings nothing to a purse that is full.
        check(PURSE_MAX / 3 - 1, |n| [frame(HEADERS, END_HEADERS, 2 * n + 1, 9), frame(RST_STREAM, 0, 2 * n + 1, 4)].concat());
    }

    #[tokio::test]
    async fn what_clients_do_costs_them_nothing() {
        let check = |written: usize, round: fn(u32) -> Vec<u8>| assert_eq!(rounds(100_000, written, round), 100_000);
        check(0, |n| frame(HEADERS, END_HEADERS, 2 * n + 1, 99));
        check(0, |_| frame(DATA, 0, 1, 99));
        // Every 4 KiB that were read are announced twice.
        check(4096, |_| [frame(WINDOW_UPDATE, 0, 0, 4), frame(WINDOW_UPDATE, 0, 1, 4)].concat());
        // A ping for each frame, to find out what the way can bear.
        check(16 << 10, |_| frame(PING, 0, 0, 8));
        // Each request with a word on its priority, and every second one cancelled.
        check(100, |n| {
            let request = |id| [frame(HEADERS, END_HEADERS | END_STREAM, id, 99), frame(2, 0, id, 5)].concat();
            [request(4 * n + 1), request(4 * n + 3), frame(WINDOW_UPDATE, 0, 0, 4)].concat()
        });
    }

    #[tokio::test]
    async fn time_fills_the_purse() {
        let begun = Instant::now();
        let mut account = Account::new(0, begun);
        let mut flood = frame(PING, 0, 0, 8).repeat(PURSE_MAX as usize / 2);
        assert!(account.pass(&mut flood.clone(), begun).is_ok());
        assert_eq!(account.pass(&mut frame(PING, 0, 0, 8), begun), Err(Offence::Flood));
        assert!(account.pass(&mut frame(PING, 0, 0, 8), begun + Duration::from_millis(2)).is_ok());
        assert!(account.pass(&mut flood, begun + Duration::from_secs(10)).is_ok());
    }

    #[tokio::test]
    async fn small_pieces_of_a_body_strain_and_end_nothing() {
        let now = Instant::now();
        let mut account = Account::new(0, now);
        assert!(account.pass(&mut frame(DATA, 0, 1, 1).repeat(100_000), now).is_ok());
        assert!(account.is_strained());
        assert_eq!(account.purse, STRAINED_BELOW - 1);
    }

    #[tokio::test]
    async fn only_whole_heads_pass_and_one_acknowledgement_is_hidden() {
        let now = Instant::now();
        let mut account = Account::new(3, now);
        let mut octets = [b"abc".to_vec(), frame(SETTINGS, ACK, 0, 0), frame(SETTINGS, ACK, 0, 0), vec![0; 8]].concat();
        let whole = 3 + 2 * HEAD_BYTES;
        assert_eq!(account.pass(&mut octets, now), Ok(whole));
        assert_eq!((octets[3 + 3], octets[3 + HEAD_BYTES + 3]), (UNKNOWN, SETTINGS));
        assert_eq!(account.waits(false), None);
        assert_eq!(account.waits(true), Some((now, Offence::Dawdling)));
    }

    #[tokio::test]
    async fn a_body_that_has_ended_does_not_go_on() {
        let now = Instant::now();
        let mut account = Account::new(0, now);
        let mut octets =
            [frame(HEADERS, END_HEADERS | END_STREAM, 1, 9), frame(HEADERS, END_HEADERS, 3, 9), frame(DATA, 0, 3, 1)].concat();
        assert!(account.pass(&mut octets, now).is_ok());
        assert_eq!(account.pass(&mut frame(DATA, 0, 1, 1), now), Err(Offence::Closed));
    }
}
