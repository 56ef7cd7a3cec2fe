//! A client of frames (RFC 9113 §4), and the octets of each.

use super::world::soon;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const SETTINGS_TIMEOUT: u32 = 4;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that came.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection of frames.
pub(crate) struct Framed {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Framed {
    /// Connects, and says nothing.
    pub(crate) async fn silent(address: SocketAddr) -> Framed {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Framed { stream, ahead: Vec::new() }
    }

    /// Connects, and settles the settings of both sides.
    pub(crate) async fn connect(address: SocketAddr) -> Framed {
        Framed::with_settings(address, &[]).await
    }

    /// Connects with settings of the client's.
    pub(crate) async fn with_settings(address: SocketAddr, settings: &[(u16, u32)]) -> Framed {
        let mut framed = Framed::silent(address).await;
        framed.send([PREFACE.to_vec(), self::settings(settings)].concat()).await;
        let is_theirs = |frame: &Frame| frame.kind == SETTINGS && frame.flags & ACK == 0;
        framed.until("settings", is_theirs).await.expect("the connection goes on");
        framed.send(frame(SETTINGS, ACK, 0, b"")).await;
        let is_ack = |frame: &Frame| frame.kind == SETTINGS && frame.flags & ACK != 0;
        framed.until("the acknowledgement of settings", is_ack).await.expect("the connection goes on");
        framed
    }

    /// Sends octets; `false` if the other side has had enough.
    pub(crate) async fn send(&mut self, octets: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(octets.as_ref()).await.is_ok()
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.ahead) {
                return Some(frame);
            }
            let mut octets = [0; 16 << 10];
            match self.stream.read(&mut octets).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.ahead.extend_from_slice(&octets[..read]),
            }
        }
    }

    /// Reads until such a frame has come; `None` when the connection ends before.
    pub(crate) async fn until(&mut self, what: &str, is_it: impl Fn(&Frame) -> bool) -> Option<Frame> {
        soon(what, async {
            loop {
                match self.next().await {
                    Some(frame) if is_it(&frame) => return Some(frame),
                    Some(_) => {}
                    None => return None,
                }
            }
        })
        .await
    }

    /// Reads to the end of the connection, or until it is said to be the end, and why: gives the error code.
    pub(crate) async fn end(&mut self) -> Option<u32> {
        self.until("the end of the connection", |frame| frame.is_goaway().is_some_and(|code| code != NO_ERROR))
            .await
            .and_then(|goaway| goaway.is_goaway())
    }

    /// Reads to the end of the connection.
    pub(crate) async fn closed(&mut self) {
        assert!(self.until("the end of the connection", |_| false).await.is_none());
    }

    /// Takes it apart, for a task that writes and one that reads.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl Frame {
    /// Takes the first one out of octets, if it is there as a whole.
    pub(crate) fn take(octets: &mut Vec<u8>) -> Option<Frame> {
        let [a, b, c, kind, flags, stream @ ..] = *octets.first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = octets.get(9..9 + length)?.to_vec();
        octets.drain(..9 + length);
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The code of a `GOAWAY`.
    pub(crate) fn is_goaway(&self) -> Option<u32> {
        (self.kind == GOAWAY).then(|| u32::from_be_bytes(self.payload[4..8].try_into().unwrap()))
    }

    /// The code of a `RST_STREAM`.
    pub(crate) fn is_reset(&self) -> Option<u32> {
        (self.kind == RST_STREAM).then(|| u32::from_be_bytes(self.payload[..4].try_into().unwrap()))
    }

    /// The status of a response, where the static table has it (RFC 7541 appendix A).
    pub(crate) fn status(&self) -> Option<u16> {
        let block = self.payload.iter().find(|octet| !(0x20..0x40).contains(*octet));
        let known = [200, 204, 206, 304, 400, 404, 500];
        let index = block.filter(|_| self.kind == HEADERS)?.checked_sub(0x88)?;
        known.get(usize::from(index)).copied()
    }
}

/// A frame (RFC 9113 §4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// Any frame whose payload is one number.
pub(crate) fn number(kind: u8, stream: u32, number: u32) -> Vec<u8> {
    frame(kind, 0, stream, &number.to_be_bytes())
}

/// A field line that is written out (RFC 7541 §6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    literal(0x00, name.as_bytes(), value.as_bytes())
}

/// A field line that is written out, under its first octet.
pub(crate) fn literal(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut octets = vec![first];
    for string in [name, value] {
        octets.extend(length(string.len()));
        octets.extend(string);
    }
    octets
}

/// The length of a string, without Huffman (RFC 7541 §5.1, §5.2).
fn length(mut number: usize) -> Vec<u8> {
    if number < 127 {
        return vec![u8::try_from(number).unwrap()];
    }
    let mut octets = vec![127];
    number -= 127;
    while number >= 128 {
        octets.push(u8::try_from(number % 128).unwrap() | 0x80);
        number /= 128;
    }
    octets.push(u8::try_from(number).unwrap());
    octets
}

/// Several field lines.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// The field lines of a request.
pub(crate) fn request(method: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "http"), (":path", path), (":authority", "h")])
}

/// A request without a body, in one frame.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &request("GET", path))
}

/// The head of a request whose body follows.
pub(crate) fn post(stream: u32, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[request("POST", path), block(fields)].concat())
}
