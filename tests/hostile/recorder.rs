//! An origin that records the octets of its requests, and answers each with its own target.

use crate::world::{RawConnection, RawOrigin};
use sidecache::origin::Address;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// The origin. It ends with this value.
pub(crate) struct Recorder {
    pub(crate) address: Address,
    seen: Arc<Mutex<Vec<Recorded>>>,
    listening: JoinHandle<()>,
}

/// A request, as octets.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) head: String,
    /// `None` if it broke off.
    pub(crate) body: Option<String>,
}

impl Recorded {
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// The value of a field; `None` if it is not there.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(written, _)| written.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Recorder {
    pub(crate) async fn start() -> Recorder {
        Recorder::answering("").await
    }

    /// Says these field lines, each with its CRLF, in all of its answers.
    pub(crate) async fn answering(fields: &'static str) -> Recorder {
        let origin = RawOrigin::start().await;
        let (address, seen) = (origin.address.clone(), Arc::<Mutex<Vec<Recorded>>>::default());
        let record = seen.clone();
        let listening = tokio::spawn(async move {
            loop {
                let connection = origin.accept_any().await;
                tokio::spawn(converse(connection, fields, record.clone()));
            }
        });
        Recorder { address, seen, listening }
    }

    /// All that was recorded, in the order of the heads.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.seen.lock().unwrap().clone()
    }

    /// The latest request.
    pub(crate) fn last(&self) -> Recorded {
        self.requests().pop().expect("a request has reached the origin")
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn converse(mut connection: RawConnection, fields: &str, seen: Arc<Mutex<Vec<Recorded>>>) {
    while let Some(head) = connection.try_head().await {
        let place = {
            let mut seen = seen.lock().unwrap();
            seen.push(Recorded { head: head.clone(), body: None });
            seen.len() - 1
        };
        let request = Recorded { head, body: None };
        let body = if request.field("transfer-encoding").is_some() {
            chunks(&mut connection).await
        } else {
            let length = request.field("content-length").map_or(0, |length| length.parse().unwrap());
            connection.try_octets(length).await
        };
        let Some(body) = body else { return };
        seen.lock().unwrap()[place].body = Some(body);
        let target = request.target();
        let content = if request.head.starts_with("HEAD ") { "" } else { target };
        connection.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{content}", target.len())).await;
    }
}

/// A chunked body as it came, with its framing.
async fn chunks(connection: &mut RawConnection) -> Option<String> {
    let mut all = String::new();
    loop {
        let size = line(connection).await?;
        all += &size;
        let length = usize::from_str_radix(size.trim_end(), 16).expect("the sidecar writes sizes alone");
        if length > 0 {
            all += &connection.try_octets(length + 2).await?;
            continue;
        }
        loop {
            let trailer = line(connection).await?;
            all += &trailer;
            if trailer == "\r\n" {
                return Some(all);
            }
        }
    }
}

async fn line(connection: &mut RawConnection) -> Option<String> {
    let mut line = String::new();
    while !line.ends_with("\r\n") {
        line += &connection.try_octets(1).await?;
    }
    Some(line)
}
