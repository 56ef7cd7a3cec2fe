//! A client that reads every octet, over one connection that it keeps.

use crate::Broken;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// A response that has come whole.
pub(crate) struct Answer<'a> {
    head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Client, Broken> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("{address} does not accept: {error}"))?;
        let _ = stream.set_nodelay(true);
        Ok(Client { stream, buffer: vec![0; 16 << 10], filled: 0 })
    }

    pub(crate) async fn get(&mut self, target: &str) -> Result<Answer<'_>, Broken> {
        self.send(&request(target)).await
    }

    /// Sends a request, and waits until all of the answer is there; it must be a 200 that says its length.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Answer<'_>, Broken> {
        let broken = |what: &str| {
            let line = request.split(|octet| *octet == b'\r').next().unwrap_or_default();
            Broken::from(format!("{}: {what}", String::from_utf8_lossy(line)))
        };
        self.stream.write_all(request).await.map_err(|error| broken(&error.to_string()))?;
        self.filled = 0;
        let (mut head, mut end) = (None, usize::MAX);
        while self.filled < end {
            if self.filled == self.buffer.len() {
                self.buffer.resize(2 * self.filled, 0);
            }
            match self.stream.read(&mut self.buffer[self.filled..]).await {
                Ok(0) => return Err(broken("the connection has ended")),
                Ok(read) => self.filled += read,
                Err(error) => return Err(broken(&error.to_string())),
            }
            let ends = || memchr::memmem::find(&self.buffer[..self.filled], b"\r\n\r\n").map(|at| at + 4);
            if head.is_none()
                && let Some(length) = ends()
            {
                let octets = &self.buffer[..length];
                let body = field(octets, "content-length").and_then(|length| length.parse::<usize>().ok());
                let Some(body) = body.filter(|_| octets.starts_with(b"HTTP/1.1 200")) else {
                    return Err(broken(&format!("is answered {:?}", String::from_utf8_lossy(octets))));
                };
                (head, end) = (Some(length), length + body);
            }
        }
        if self.filled > end {
            return Err(broken("is answered with more than it should be"));
        }
        let (head, body) = self.buffer[..end].split_at(head.unwrap_or_default());
        Ok(Answer { head, body })
    }
}

impl<'a> Answer<'a> {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&'a str> {
        field(self.head, name)
    }
}

/// A request for a target, with the fields that a usual library sends; `requests.lua` has the same.
pub(crate) fn request(target: &str) -> Vec<u8> {
    let fields =
        "Host: backend.example:8080\r\nUser-Agent: python-httpx/0.28.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n";
    format!("GET {target} HTTP/1.1\r\n{fields}\r\n").into_bytes()
}

fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|octet| *octet == b'\n').find_map(|line| {
        let (found, value) = (line.get(..name.len())?, line.get(name.len() + 1..)?);
        let is_it = found.eq_ignore_ascii_case(name.as_bytes()) && line[name.len()] == b':';
        if is_it { std::str::from_utf8(value).ok().map(str::trim) } else { None }
    })
}
