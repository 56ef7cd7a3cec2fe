//! A client of few parts, so that it costs little: it writes requests as text, and reads responses to their end.

use crate::world::PATIENCE;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client of one address, with the connections that it has open.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    idle: Arc<Mutex<Vec<TcpStream>>>,
}

/// A response as it came.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: String,
    /// The body ended as its framing says that it ends.
    pub(crate) is_whole: bool,
    pub(crate) took: Duration,
}

impl Client {
    pub(crate) fn of(address: SocketAddr) -> Client {
        Client { address, idle: Arc::default() }
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.idle.lock().unwrap().len()
    }

    /// Sends a request, of which `lines` are the fields, each with its end of line. `None` if there was no response.
    pub(crate) async fn ask(&self, method: &str, target: &str, lines: &str, body: &str) -> Option<Got> {
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let request = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{lines}{length}\r\n{body}");
        let begun = Instant::now();
        let exchange = async {
            let pooled = self.idle.lock().unwrap().pop();
            let mut stream = match pooled {
                Some(stream) => stream,
                None => TcpStream::connect(self.address).await?,
            };
            stream.set_nodelay(true)?;
            stream.write_all(request.as_bytes()).await?;
            let (got, is_reusable) = read(&mut stream, method == "HEAD").await?;
            if is_reusable {
                self.idle.lock().unwrap().push(stream);
            }
            io::Result::Ok(got)
        };
        let got = tokio::time::timeout(PATIENCE, exchange).await.ok()?.ok()?;
        Some(Got { took: begun.elapsed(), ..got })
    }
}

impl Got {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What `Cache-Status` says, without the name of the cache.
    pub(crate) fn cache_status(&self) -> &str {
        self.field("cache-status").unwrap_or_default().strip_prefix("sidecache; ").unwrap_or_default()
    }
}

/// Reads a response, and says whether the connection can be used again.
async fn read(stream: &mut TcpStream, has_no_body: bool) -> io::Result<(Got, bool)> {
    let mut octets = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut octets).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&octets[..end]).into_owned();
    let mut ahead = octets.split_off(end);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let fields = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let mut got = Got { status, fields: fields.collect(), body: String::new(), is_whole: true, took: Duration::ZERO };
    let mut is_reusable = got.field("connection") != Some("close");
    if has_no_body || matches!(status, 204 | 304) {
        return Ok((got, is_reusable));
    }
    let length: Option<usize> = got.field("content-length").and_then(|length| length.parse().ok());
    let is_chunked = got.field("transfer-encoding") == Some("chunked");
    let is_complete = |octets: &[u8]| match length {
        Some(length) => octets.len() >= length,
        None => is_chunked && dechunked(octets).1,
    };
    while !is_complete(&ahead) {
        match stream.read_buf(&mut ahead).await {
            Ok(0) | Err(_) => {
                (got.is_whole, is_reusable) = (length.is_none() && !is_chunked, false);
                break;
            }
            Ok(_) => {}
        }
    }
    let body = if is_chunked { dechunked(&ahead).0 } else { ahead };
    got.body = String::from_utf8_lossy(&body).into_owned();
    Ok((got, is_reusable))
}

/// What is in chunks, and whether the last of them is there.
fn dechunked(mut octets: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = octets.windows(2).position(|two| two == b"\r\n") else { return (body, false) };
        let size = std::str::from_utf8(&octets[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let (Some(size), rest) = (size, &octets[end + 2..]) else { return (body, false) };
        if size == 0 {
            return (body, rest.starts_with(b"\r\n"));
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..rest.len().min(size)]);
            return (body, false);
        }
        body.extend_from_slice(&rest[..size]);
        octets = &rest[size + 2..];
    }
}
