//! An origin that keeps a record of each answer that it gave: to whom, when, and what it said.

use super::script::{Behaviour, Ending, Etag, Framing, Held, Kind, URLS};
use sidecache::clock::Clock;
use sidecache::origin::Address;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The origin of all histories of one stage, one after the other; clones are the same one.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: Address,
    clock: Clock,
    books: Arc<Mutex<Books>>,
}

/// What the origin has, and what it has done, in the present history.
pub(crate) struct Books {
    /// What its paths have behind the route.
    history: u64,
    routes: [Kind; URLS],
    urls: Vec<Url>,
    /// The numbers of the records are their places.
    pub(crate) records: Vec<Record>,
    /// Counts all that happens in the history.
    moment: u64,
    /// When nothing was under way last, and what the clock showed then.
    quiet: (u64, u64),
}

struct Url {
    behaviour: Behaviour,
    version: u64,
    held: watch::Sender<Held>,
    waiting: usize,
}

/// An answer of the origin.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) url: usize,
    pub(crate) method: String,
    pub(crate) authorization: Option<String>,
    pub(crate) cookie: Option<String>,
    pub(crate) language: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) forbids_storing: bool,
    /// When the request came, and what the clock showed; and what it had shown when nothing was under way last.
    pub(crate) asked: u64,
    pub(crate) asked_ms: u64,
    pub(crate) quiet_ms: u64,
    pub(crate) status: u16,
    pub(crate) behaviour: Behaviour,
    pub(crate) etag: Option<String>,
}

impl Origin {
    pub(crate) async fn start(clock: &Clock) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Http(listener.local_addr().unwrap().to_string().parse().unwrap());
        let origin = Origin { address, clock: clock.clone(), books: Arc::new(Mutex::new(Books::new(0, [Kind::Everyone; URLS]))) };
        let answering = origin.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let origin = answering.clone();
                tokio::spawn(async move { origin.converse(stream).await });
            }
        });
        origin
    }

    /// A new history begins.
    pub(crate) fn begin(&self, history: u64, routes: [Kind; URLS]) {
        *self.books() = Books::new(history, routes);
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// The moment that it is now; the next one is later.
    pub(crate) fn moment(&self) -> u64 {
        self.books().next_moment()
    }

    /// What the clock shows, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        millis(self.clock.now())
    }

    /// Takes note that nothing is under way.
    pub(crate) fn note_quiet(&self) {
        let now_ms = self.now_ms();
        let mut books = self.books();
        books.quiet = (books.next_moment(), now_ms);
    }

    async fn converse(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut octets = Vec::new();
        while let Ok(Some(head)) = head(&mut stream, &mut octets).await {
            match self.answer(&head, &mut stream).await {
                Ok(true) => {}
                _ => return,
            }
        }
    }

    /// Answers a request, and says whether the connection goes on.
    async fn answer(&self, head: &str, stream: &mut TcpStream) -> io::Result<bool> {
        let (number, record, version, mut held) = {
            let now_ms = self.now_ms();
            let Some(taken) = self.books().take(head, now_ms) else {
                stream.write_all(b"HTTP/1.1 404 Not Found\r\ncache-control: no-store\r\ncontent-length: 0\r\n\r\n").await?;
                return Ok(true);
            };
            taken
        };
        self.wait(&record, &mut held, |held| held != Held::BeforeHead).await;
        if record.behaviour.ending == Ending::NoAnswer {
            return Ok(false);
        }
        stream.write_all(record.head(number).as_bytes()).await?;
        if record.method == "HEAD" || record.status == 304 {
            return Ok(true);
        }
        let body = body(number, version);
        let (first, rest) = body.split_at(BODY_BYTES / 2);
        let chunked = |part: &str| match record.behaviour.framing {
            Framing::Chunked => format!("{:x}\r\n{part}\r\n", part.len()),
            Framing::Length | Framing::UntilClose => part.to_owned(),
        };
        // In one piece, where nothing has to come between.
        let mut part = chunked(first);
        if *held.borrow() != Held::Nowhere || record.behaviour.ending == Ending::CutShort {
            stream.write_all(part.as_bytes()).await?;
            self.wait(&record, &mut held, |held| held == Held::Nowhere).await;
            if record.behaviour.ending == Ending::CutShort {
                return Ok(false);
            }
            part.clear();
        }
        part.push_str(&chunked(rest));
        if record.behaviour.framing == Framing::Chunked {
            part.push_str("0\r\n\r\n");
        }
        stream.write_all(part.as_bytes()).await?;
        Ok(record.behaviour.framing != Framing::UntilClose)
    }

    async fn wait(&self, record: &Record, held: &mut watch::Receiver<Held>, passes: impl Fn(Held) -> bool) {
        if passes(*held.borrow()) {
            return;
        }
        self.books().urls[record.url].waiting += 1;
        // Where the history is over, nobody holds anything back any more.
        let _ = held.wait_for(|held| passes(*held)).await;
        if let Some(url) = self.books().urls.get_mut(record.url) {
            url.waiting = url.waiting.saturating_sub(1);
        }
    }
}

impl Books {
    fn new(history: u64, routes: [Kind; URLS]) -> Books {
        let url = || Url { behaviour: Behaviour::PLAIN, version: 1, held: watch::Sender::new(Held::Nowhere), waiting: 0 };
        let urls = (0..URLS).map(|_| url()).collect();
        Books { history, routes, urls, records: Vec::new(), moment: 0, quiet: (0, 0) }
    }

    pub(crate) fn kind(&self, url: usize) -> Kind {
        self.routes[url]
    }

    /// The path of a URL.
    pub(crate) fn path(&self, url: usize) -> String {
        format!("/{}/{}/{url}", self.routes[url].name(), self.history)
    }

    pub(crate) fn behave(&mut self, url: usize, behaviour: Behaviour) {
        self.urls[url].behaviour = behaviour;
    }

    pub(crate) fn renew(&mut self, url: usize) {
        self.urls[url].version += 1;
    }

    pub(crate) fn hold(&mut self, url: usize, at: Held) {
        self.urls[url].held.send_replace(at);
    }

    pub(crate) fn is_held(&self, url: usize) -> bool {
        *self.urls[url].held.borrow() != Held::Nowhere
    }

    /// How many requests wait for something that is held back.
    pub(crate) fn waiting(&self) -> usize {
        self.urls.iter().map(|url| url.waiting).sum()
    }

    /// When nothing was under way last, and the moment that it is now.
    pub(crate) fn begin(&mut self) -> (u64, u64) {
        (self.quiet.0, self.next_moment())
    }

    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// Takes in a request, and notes how it is answered. `None` if it is none of this history.
    fn take(&mut self, head: &str, now_ms: u64) -> Option<(usize, Record, u64, watch::Receiver<Held>)> {
        let field = |name: &str| {
            let mut lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
            lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let mut words = head.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let number = (0..URLS).find(|url| self.path(*url) == target)?;
        let (asked, quiet_ms, kind) = (self.next_moment(), self.quiet.1, self.routes[number]);
        let url = &mut self.urls[number];
        let behaviour = url.behaviour;
        let is_safe = method == "GET" || method == "HEAD";
        if !is_safe {
            url.version += 1;
        }
        let (authorization, cookie, language, tenant) =
            (field("authorization"), field("cookie"), field("accept-language"), field("x-tenant"));
        let of = |value: &Option<String>, counts: bool| value.clone().filter(|_| counts).unwrap_or_default();
        let is_personal = kind != Kind::Everyone && !behaviour.says.is_for_all;
        let of_language = behaviour.etag == Etag::OfLanguage && behaviour.vary.contains("accept-language");
        let etag = format!(
            "\"{number}.{}.{}.{}.{}.{}\"",
            url.version,
            of(&authorization, is_personal).replace(' ', ""),
            of(&cookie, is_personal),
            of(&tenant, true),
            of(&language, of_language),
        );
        let etag = Some(etag).filter(|_| behaviour.etag != Etag::None && behaviour.status == 200);
        let is_confirmed = is_safe
            && behaviour.ending == Ending::Whole
            && etag.as_ref().is_some_and(|etag| field("if-none-match").is_some_and(|listed| listed.contains(etag)));
        let record = Record {
            url: number,
            forbids_storing: field("cache-control").is_some_and(|value| value.contains("no-store")),
            status: if is_confirmed { 304 } else { behaviour.status },
            method,
            authorization,
            cookie,
            language,
            tenant,
            asked,
            asked_ms: now_ms,
            quiet_ms,
            behaviour,
            etag,
        };
        self.records.push(record.clone());
        Some((self.records.len() - 1, record, url.version, url.held.subscribe()))
    }
}

impl Record {
    /// The value that a request had of a field by which responses vary.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        match name {
            "accept-language" => self.language.as_deref(),
            "cookie" => self.cookie.as_deref(),
            _ => None,
        }
    }

    /// It says about another answer that it still holds, or what it would be.
    pub(crate) fn is_confirmation(&self) -> bool {
        self.status == 304 || self.method == "HEAD"
    }

    fn head(&self, number: usize) -> String {
        let Behaviour { says, vary, sets_cookie, is_tagged, framing, .. } = self.behaviour;
        let mut head = format!("HTTP/1.1 {} X\r\nx-id: {number}\r\n", self.status);
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        };
        line("cache-control", says.text);
        line("vary", vary);
        line("etag", self.etag.as_deref().unwrap_or_default());
        line("set-cookie", if sets_cookie { "s=1" } else { "" });
        line("surrogate-key", if is_tagged { ORIGIN_TAG } else { "" });
        match framing {
            _ if self.status == 304 => {}
            Framing::Length => line("content-length", &BODY_BYTES.to_string()),
            Framing::Chunked => line("transfer-encoding", "chunked"),
            Framing::UntilClose => line("connection", "close"),
        }
        head + "\r\n"
    }
}

/// A body: it tells which answer it is of. Its beginning is long enough to tell it, too.
fn body(number: usize, version: u64) -> String {
    let told = format!("id={number:06};version {version} ");
    format!("{told:.<width$}end", width = BODY_BYTES - 3)
}

/// The number that a body, or its beginning, tells.
pub(crate) fn number_in(body: &str) -> Option<usize> {
    body.strip_prefix("id=")?.get(..6)?.parse().ok()
}

/// Reads the next head; what comes behind it stays in `octets`. Bodies are none, so that there is nothing else between.
async fn head(stream: &mut TcpStream, octets: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = octets.drain(..end + 4).collect();
            return Ok(String::from_utf8(head).ok());
        }
        if stream.read_buf(octets).await? == 0 {
            return Ok(None);
        }
    }
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// How long each body is.
pub(crate) const BODY_BYTES: usize = 64;

/// The tag that the origin gives.
pub(crate) const ORIGIN_TAG: &str = "of-the-origin";
