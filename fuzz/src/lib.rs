//! What must hold of every parser whatever it is given. The fuzz targets call these, and so does an ordinary test, with the corpus.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_RANGE, IF_RANGE, PRAGMA, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};
use sidecache::semantics::no_vary_search::NoVarySearch;
use sidecache::semantics::range::{self, ContentRange, Requested};
use sidecache::semantics::tagging::{self, TagField};
use sidecache::semantics::vary::{Selection, Vary, is_secret};
use sidecache::semantics::{date, directives, invalidation};
use sidecache::{origin, server};

/// `Cache-Control` of both sides, `Pragma`, and the targeted fields.
pub fn cache_control(octets: &[u8]) {
    let response = fields(CACHE_CONTROL, octets);
    let said = directives::response(&response);
    assert_eq!(said, directives::response(&response));
    // What is said twice says no more than once.
    let mut twice = response.clone();
    twice.extend(response.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<HeaderMap>());
    let again = directives::response(&twice);
    assert_eq!(
        (said.no_store, said.private, said.no_cache, said.max_age),
        (again.no_store, again.private, again.no_cache, again.max_age)
    );
    assert!(said.max_age.into_iter().chain(said.s_maxage).all(|lifetime| lifetime.as_secs() <= 1 << 31));
    directives::request(&response);
    directives::request(&fields(PRAGMA, octets));
    let targets = [HeaderName::from_static("cdn-cache-control")];
    directives::targeted(&fields(targets[0].clone(), octets), &targets);
}

/// Dates: what is read is written in the one form that is generated, and read again.
pub fn date(octets: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(octets) else { return };
    if let Some(time) = date::parse(&value) {
        assert_eq!(date::parse(&date::format(time)), Some(time));
    }
}

/// `Vary` and the selection by it. The first line names the fields, the others are values of theirs, in turn.
pub fn vary(octets: &[u8]) {
    let mut lines = octets.split(|octet| *octet == b'\n');
    let Vary::Fields(names) = Vary::of(&fields(http::header::VARY, lines.next().unwrap_or_default())) else { return };
    let mut request = HeaderMap::new();
    for (name, line) in names.iter().cycle().zip(lines) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            request.append(name.clone(), value);
        }
    }
    let selection = Selection::of(&names, &request);
    assert!(selection.matches(&request));
    let parts = selection.iter().map(|(name, value)| (name.clone(), value.map(Into::into))).collect();
    assert_eq!(Selection::from_parts(parts), selection);
    // What was normalised is normalised.
    let normal =
        selection.iter().filter(|(name, _)| !is_secret(name)).map(|(name, value)| (name, value.map(HeaderValue::from_bytes)));
    for (name, value) in normal {
        if let Some(Ok(value)) = value {
            let again: HeaderMap = [(name.clone(), value.clone())].into_iter().collect();
            let (_, twice) = Selection::of(std::slice::from_ref(name), &again)
                .iter()
                .next()
                .map(|(n, v)| (n.clone(), v.map(<[u8]>::to_vec)))
                .unwrap();
            assert_eq!(twice.as_deref(), Some(value.as_bytes()), "{name}");
        }
    }
}

/// Ranges: the first line is a `Range`, the second an `If-Range`, the third a `Content-Range`; the body is all of it.
pub fn range(octets: &[u8]) {
    let mut lines = octets.splitn(3, |octet| *octet == b'\n');
    let mut request = fields(RANGE, lines.next().unwrap_or_default());
    request.extend(fields(IF_RANGE, lines.next().unwrap_or_default()));
    range::if_range_holds(&request, &request);
    let body = Bytes::copy_from_slice(octets);
    let complete = body.len() as u64;
    if let Requested::Parts(parts) = range::requested(&request, complete) {
        assert!(!parts.is_empty() && parts.iter().all(|part| part.start < part.end && part.end <= complete));
        let sent = range::multipart(&parts, &body, None, "boundary");
        let octets: u64 = parts.iter().map(|part| part.end - part.start).sum();
        assert!(octets <= complete && sent.len() as u64 > octets);
    }
    let response = fields(CONTENT_RANGE, lines.next().unwrap_or_default());
    if let Some(part) = range::content_range(&response) {
        assert!(part.first <= part.last && part.complete.is_none_or(|complete| part.last < complete));
        let written: HeaderMap = [(CONTENT_RANGE, part.value())].into_iter().collect();
        assert_eq!(range::content_range(&written), Some(part));
        range::missing(&part);
        let other = ContentRange { first: 0, last: complete.saturating_sub(1), complete: Some(complete) };
        let length = usize::try_from(part.last - part.first).unwrap_or(usize::MAX).saturating_add(1);
        let octets = body.slice(..body.len().min(length));
        if let Some((joined, octets)) = range::combine((other, body.clone()), (part, octets)) {
            assert_eq!(joined.last - joined.first + 1, octets.len() as u64);
        }
    }
}

/// Structured fields: what is alike for one query is alike for all; tags and groups. Two queries and a field, a line each.
pub fn structured(octets: &[u8]) {
    let mut lines = octets.splitn(3, |octet| *octet == b'\n').map(String::from_utf8_lossy);
    let (one, other) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let line = lines.next().unwrap_or_default();
    if let Some(said) = NoVarySearch::of(&fields(HeaderName::from_static("no-vary-search"), line.as_bytes())) {
        let normal = said.normalise(&one);
        assert_eq!(said.normalise(&normal), normal);
        assert!(said.are_equivalent(&one, &normal) && said.are_equivalent(&one, &one));
        assert_eq!(said.are_equivalent(&one, &other), said.normalise(&other) == normal);
    }
    for field in TagField::ALL {
        let tags = tagging::tags(&fields(field.name(), line.as_bytes()), &[field]);
        assert!(tags.iter().all(|tag| !tag.is_empty()));
    }
    invalidation::groups(&fields(HeaderName::from_static("cache-group-invalidation"), line.as_bytes()));
}

/// Values out of Redis: the first octet is the kind, the rest what stands behind the end.
pub fn record(octets: &[u8]) {
    let Some((kind, rest)) = octets.split_first() else { return };
    if let Some(written) = sidecache::store::reencode(*kind, rest) {
        let again = sidecache::store::reencode(written[0], &written[1..]);
        assert_eq!(again.as_deref(), Some(&written[..]));
    }
}

/// Requests of a client: they are read in one way, however the octets come. The first octet says how.
pub fn framing(octets: &[u8]) {
    let Some((piece, octets)) = octets.split_first() else { return };
    let whole = server::read_in_pieces(octets, octets.len().max(1));
    for piece in [usize::from(*piece).max(1), 1] {
        assert_eq!(server::read_in_pieces(octets, piece), whole, "in pieces of {piece}");
    }
    // What was refused stays refused, whatever follows.
    let longer = [octets, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"].concat();
    assert!(whole.is_some() || server::read_in_pieces(&longer, longer.len()).is_none());
    // Of a request whose head is read strictly, a reader who is not strict sees the same head.
    if let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n").filter(|_| whole.is_some()) {
        let head = &octets[..end + 4];
        assert!(!head.windows(2).any(|two| two[1] == b'\n' && two[0] != b'\r'), "{:?}", String::from_utf8_lossy(head));
    }
}

/// Answers of an origin: what is believed of them is what a second reader believes, line by line. The first octet says how they come.
pub fn lines(octets: &[u8]) {
    let Some((piece, octets)) = octets.split_first() else { return };
    let expected = believed(octets);
    for piece in [octets.len().max(1), usize::from(*piece).max(1), 1] {
        assert_eq!(origin::believed(octets, piece), expected, "in pieces of {piece}");
    }
}

fn believed(octets: &[u8]) -> usize {
    let (mut in_crlf, mut is_interim, mut interims, mut at) = (None, None, 0, 0);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let (end, has_cr) = (at + line.len(), line.ends_with(b"\r"));
        at = end + 1;
        if *in_crlf.get_or_insert(has_cr) != has_cr {
            return end;
        }
        match (line, is_interim) {
            (b"" | b"\r", None) => {}
            (b"" | b"\r", Some(false)) => break,
            (b"" | b"\r", Some(true)) => {
                (in_crlf, is_interim, interims) = (None, None, interims + 1);
                if interims > 64 {
                    return end;
                }
            }
            (line, None) => is_interim = Some(line.get(9) == Some(&b'1') && line.get(9..12) != Some(b"101")),
            _ => {}
        }
    }
    octets.len()
}

fn fields(name: HeaderName, octets: &[u8]) -> HeaderMap {
    HeaderValue::from_bytes(octets).map(|value| (name, value)).into_iter().collect()
}
