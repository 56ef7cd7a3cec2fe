//! HTTP/2 from clients: what one connection may take up, and requests that are malformed (RFC 9113).
//!
//! Each limit is set here, also where it is hyper's default: they are of this product, and each bounds what one client can take up.
//! Not set, since hyper does not pass them on: `CONTINUATION` frames of a block (h2: five, at these sizes), empty `DATA` frames (a hundred
//! a connection), small ones (h2 has an account), streams that were reset here and are remembered (fifty, for a second). What none of
//! them bounds is bounded by `frames`.

use super::Options;
use super::streams::Streams;
use http::header::CONTENT_LENGTH;
use http::uri::Scheme;
use http::{Method, Request, Version};
use hyper::server::conn::http2::Builder;
use hyper_util::rt::TokioTimer;
use std::time::Duration;

/// A server of HTTP/2 within its limits.
pub(super) fn builder(options: &Options, streams: Streams) -> Builder<Streams> {
    let at_most = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let mut builder = Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(at_most(options.http2_streams_max))
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_local_error_reset_streams(STREAM_ERRORS_MAX)
        .max_header_list_size(at_most(options.header_bytes_max))
        .header_table_size(HEADER_TABLE_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        // A client that vanished without a word is found out by a ping that it does not answer.
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(options.header_read_timeout);
    builder
}

/// Whether a request breaks rules that h2 does not look after, and that HTTP/1.1 could not tell the origin of (RFC 9113 §8.2.1, §8.3.1).
pub(super) fn is_malformed<B>(request: &Request<B>) -> bool {
    if request.version() != Version::HTTP_2 || request.method() == Method::CONNECT {
        return false;
    }
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let is_asterisk = target == "*" && request.method() == Method::OPTIONS;
    let is_of_http = request.uri().scheme().is_none_or(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
    let fields = request.headers();
    // Two that are equal may be one to us, and two to somebody behind us.
    let lengths = fields.get_all(CONTENT_LENGTH).iter().count();
    // There are readers to whom leading zeros make it an octal number.
    let is_octal = fields.get(CONTENT_LENGTH).is_some_and(|length| length.len() > 1 && length.as_bytes()[0] == b'0');
    let is_padded = |value: &[u8]| matches!(value.first(), Some(b' ' | b'\t')) || matches!(value.last(), Some(b' ' | b'\t'));
    !(target.starts_with('/') || is_asterisk)
        || !is_of_http
        || lengths > 1
        || is_octal
        || fields.values().any(|value| is_padded(value.as_bytes()))
}

/// Streams that were opened and reset before they were looked at: the mark of a rapid reset (CVE-2023-44487).
const UNSEEN_RESETS_MAX: usize = 20;

/// Streams that had to be reset for what the client did on them, for as long as a connection lives (CVE-2025-8671).
const STREAM_ERRORS_MAX: usize = 256;

/// What the client's compression of field lines may have us remember: as much as every client expects.
const HEADER_TABLE_BYTES: u32 = 4 << 10;

/// The smallest that there is: a frame is read whole before anything is done with it.
const FRAME_BYTES_MAX: u32 = 16 << 10;

/// What is buffered for one stream towards a client that is slow.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// What a client may send of one request's body before it is read.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// The same of all bodies on a connection, so that one that nobody reads does not stop the others.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// How often a client is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_http_1_cannot_say_is_malformed() {
        let check = |method: &str, target: &str, fields: &[(&str, &str)], expected: bool| {
            let mut request = Request::builder().version(Version::HTTP_2).method(method).uri(target);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let request = request.body(()).unwrap();
            assert_eq!(is_malformed(&request), expected, "{method} {target} {fields:?}");
        };
        check("GET", "http://h/a?b", &[], false);
        check("GET", "https://h/", &[("content-length", "0")], false);
        check("GET", "ftp://h/", &[], true);
        check("GET", "/a", &[("x-a", "a b"), ("x-b", "")], false);
        check("GET", "/a", &[("x-a", " a")], true);
        check("GET", "/a", &[("x-a", "a\t")], true);
        check("POST", "/a", &[("content-length", "1"), ("content-length", "1")], true);
        check("POST", "/a", &[("content-length", "10")], false);
        check("POST", "/a", &[("content-length", "010")], true);
        check("OPTIONS", "*", &[], false);
        check("GET", "*", &[], true);
    }
}
