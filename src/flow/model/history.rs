//! What happens in a history: requests, the time between them, and what the origin does.

use super::text::{self, Fields, Form, first, written};
use std::fmt;

/// A history on one route.
#[derive(Clone, PartialEq)]
pub(super) struct History {
    pub(super) route: usize,
    pub(super) steps: Vec<Step>,
}

/// A request after some time, and what the origin does while it is answered.
#[derive(Clone, PartialEq)]
pub(super) struct Step {
    pub(super) wait_ms: u64,
    pub(super) method: &'static str,
    pub(super) target: &'static str,
    pub(super) fields: Vec<(&'static str, Value)>,
    pub(super) origin: Behaviour,
}

/// What the origin does with each request of a step.
#[derive(Clone, PartialEq)]
pub(super) struct Behaviour {
    pub(super) is_reachable: bool,
    pub(super) delay_ms: u64,
    pub(super) status: u16,
    pub(super) fields: Vec<(&'static str, Value)>,
    pub(super) length: usize,
    pub(super) framing: Framing,
    pub(super) confirms: Confirms,
    pub(super) ranges: Ranges,
}

/// How the end of a body is told (RFC 9112 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunks,
    Close,
}

/// When conditions are answered 304.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirms {
    Never,
    /// If a validator is the same.
    Honestly,
    /// Whatever the validators are.
    Always,
}

/// How ranges are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranges {
    Never,
    Honestly,
    /// With fewer octets than were asked for.
    Short,
    /// Without the complete length.
    Unknown,
}

/// A value of a field, in which dates are relative.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Value {
    Text(&'static str),
    /// So many seconds after the message is sent.
    Now(i64, Form),
    /// So many seconds after the history begins.
    Start(i64),
}

impl Value {
    pub(super) fn at(self, now_ms: u64) -> String {
        match self {
            Value::Text(text) => text.to_owned(),
            Value::Now(seconds, form) => written((now_ms / 1000).saturating_add_signed(seconds), form),
            Value::Start(seconds) => written((START_MS / 1000).saturating_add_signed(seconds), Form::Fixdate),
        }
    }
}

pub(super) fn fields_at(fields: &[(&'static str, Value)], now_ms: u64) -> Fields {
    fields.iter().map(|(name, value)| (*name, value.at(now_ms))).collect()
}

/// A request, of a client or to the origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) fields: Fields,
}

/// A response, of the origin or to the client.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: String,
    pub(super) framing: Framing,
}

impl Response {
    /// A response of the cache's own; what it says in words is nobody's business.
    pub(super) fn own(status: u16, fields: Fields) -> Response {
        Response { status, fields, body: "own".to_owned(), framing: Framing::Length }
    }
}

/// The time, and the origin, which writes down what it was asked.
pub(super) struct World<'a> {
    pub(super) now_ms: u64,
    pub(super) origin: &'a Behaviour,
    pub(super) number: u8,
    pub(super) asked: Vec<Request>,
}

impl World<'_> {
    /// Sends a request; `None` if there is no answer.
    pub(super) fn send(&mut self, request: Request) -> Option<Response> {
        let sent_ms = self.now_ms;
        self.now_ms += self.origin.delay_ms;
        self.number += 1;
        let response = self.origin.is_reachable.then(|| self.origin.answer(&request, sent_ms, self.number));
        self.asked.push(request);
        response
    }
}

impl Behaviour {
    fn answer(&self, request: &Request, now_ms: u64, number: u8) -> Response {
        let mut fields = fields_at(&self.fields, now_ms);
        fields.push(("x-number", number.to_string()));
        // A `POST` whose response is stored for later (RFC 9110 §9.3.3) has scenarios of its own.
        fields.retain(|(name, _)| request.method != "POST" || *name != "content-location");
        let length = if self.status == 204 { 0 } else { self.length };
        // Each answer has its own letter, each position its own as well.
        let octet = |at: usize| char::from(if at.is_multiple_of(2) { b'A' + number } else { b'a' + at as u8 });
        let body: String = (0..length).map(octet).collect();
        let mut response = Response { status: self.status, fields, body, framing: self.framing };
        let is_read = matches!(request.method, "GET" | "HEAD");
        if is_read && self.status == 200 && self.confirms(request, &response.fields) {
            response = Response { status: 304, body: String::new(), framing: Framing::Length, ..response };
        } else if request.method == "GET" && self.status == 200 {
            self.cut(request, &mut response);
        }
        if request.method == "HEAD" {
            response.body.clear();
        }
        response
    }

    fn confirms(&self, request: &Request, fields: &Fields) -> bool {
        let (tag, date) = (first(&request.fields, "if-none-match"), first(&request.fields, "if-modified-since"));
        match self.confirms {
            Confirms::Never => false,
            Confirms::Always => tag.or(date).is_some(),
            Confirms::Honestly => match tag {
                Some(tag) => first(fields, "etag").is_some_and(|own| tag == "*" || text::split(tag).iter().any(|tag| tag == own)),
                None => date.is_some() && date == first(fields, "last-modified"),
            },
        }
    }

    fn cut(&self, request: &Request, response: &mut Response) {
        let complete = response.body.len();
        let Some((start, end)) = first(&request.fields, "range").and_then(|range| part(range, complete)) else { return };
        let condition = first(&request.fields, "if-range");
        let is_same = condition.is_none_or(|condition| {
            [first(&response.fields, "etag"), first(&response.fields, "last-modified")].contains(&Some(condition))
        });
        if self.ranges == Ranges::Never || !is_same {
            return;
        }
        if start >= end {
            *response = Response { status: 416, body: String::new(), ..response.clone() };
            response.fields.push(("content-range", format!("bytes */{complete}")));
            return;
        }
        let end = if self.ranges == Ranges::Short { end.min(start + 2) } else { end };
        let whole = if self.ranges == Ranges::Unknown { "*".to_owned() } else { complete.to_string() };
        response.status = 206;
        response.fields.push(("content-range", format!("bytes {start}-{}/{whole}", end - 1)));
        response.body = response.body[start..end].to_owned();
    }
}

/// Which octets a range is about, of so many (RFC 9110 §14.1.2); none if it lies behind them. `None` if it is ignored.
pub(super) fn part(range: &str, complete: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last => (first, complete.min(last + 1)),
        (Ok(first), Err(_)) if last.is_empty() => (first, complete),
        (Err(_), Ok(suffix)) if first.is_empty() => (complete - complete.min(suffix), complete),
        _ => return None,
    };
    Some(if start < end { (start, end) } else { (0, 0) })
}

/// When histories begin: half a second after a full one.
pub(super) const START_MS: u64 = 1_800_000_000_500;

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{text}"),
            Value::Now(seconds, Form::Fixdate) => write!(f, "<now{seconds:+}s>"),
            Value::Now(seconds, form) => write!(f, "<now{seconds:+}s as {form:?}>"),
            Value::Start(seconds) => write!(f, "<start{seconds:+}s>"),
        }
    }
}

/// A script, a line for each step.
impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  route {:?}", super::routes::ROUTES[self.route])?;
        self.steps.iter().try_for_each(|step| write!(f, "\n  {step:?}"))
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}ms {} {} {:?} => {:?}", self.wait_ms, self.method, self.target, Lines(&self.fields), self.origin)
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_reachable {
            return write!(f, "unreachable after {}ms", self.delay_ms);
        }
        write!(f, "{} {:?} {} octets", self.status, Lines(&self.fields), self.length)?;
        if self.delay_ms > 0 {
            write!(f, ", after {}ms", self.delay_ms)?;
        }
        if self.framing != Framing::Length {
            write!(f, ", framed by {:?}", self.framing)?;
        }
        write!(f, ", confirms {:?}, ranges {:?}", self.confirms, self.ranges)
    }
}

struct Lines<'a>(&'a [(&'static str, Value)]);

impl fmt::Debug for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        write!(f, "[{}]", lines.join("; "))
    }
}
