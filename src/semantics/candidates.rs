//! Variants that the origin can be asked about where a request selects none of them (RFC 9111 §4.1, §4.3.1), and the one that its
//! answer names (§4.3.4).
//!
//! Origins that code or adapt what others have made often leave its entity-tag as it was, whatever RFC 9110 §8.8.3.3 says: one tag
//! then stands for what is compressed and what is not. So the tag alone does not decide where codings are in play.

use super::conditional;
use super::stored::StoredHead;
use super::weighted::{self, Order};
use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
};

/// What is to be known of a variant to ask the origin about it; the response itself may lie elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its entity-tag, as the response has it.
    pub tag: HeaderValue,
    /// The content coding that a request must accept to be given it; `identity` where it must accept no other. `None` if it is good
    /// for all.
    pub coding: Option<HeaderValue>,
}

impl Candidate {
    /// Takes it from what is stored; `None` if the origin is not asked about that: it has no entity-tag, or a long one; or it is a part.
    ///
    /// Nor is it asked about what anything but content negotiation has selected: credentials, say, or a tenant's name. An origin whose
    /// tags are the numbers of versions gives one tag to what differs by its owner alone, and one would be shown what is another's.
    pub fn of(head: &StoredHead) -> Option<Candidate> {
        let fields = head.fields();
        let tag = conditional::entity_tag(&fields)?.value;
        let is_negotiated = head.selection.names().all(|name| NEGOTIATED.contains(name));
        if head.part().is_some() || !is_negotiated || tag.len() > TAG_BYTES_MAX {
            return None;
        }
        let mut lines = fields.get_all(CONTENT_ENCODING).iter();
        let coding = match (lines.next(), lines.next()) {
            (Some(only), None) if only.len() <= CODING_BYTES_MAX => Some(only.clone()),
            (Some(_), _) => return None,
            // Of a response that was asked for without codings, the same tag may be there with one.
            (None, _) => {
                let accepted = head.selection.iter().find(|(name, _)| *name == ACCEPT_ENCODING);
                let had_no_choice = accepted.is_some_and(|(_, value)| !accepts_coding(value.into_iter()));
                had_no_choice.then(|| HeaderValue::from_static(IDENTITY))
            }
        };
        Some(Candidate { tag: tag.clone(), coding })
    }

    /// Whether a request may be given it, as far as content codings are concerned.
    pub fn fits(&self, request: &HeaderMap) -> bool {
        let accepted = || request.get_all(ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes);
        match &self.coding {
            None => true,
            Some(coding) if coding == IDENTITY => !accepts_coding(accepted()),
            Some(codings) => weighted::members(Order::Codings, std::iter::once(codings.as_bytes())).all(|coding| {
                let weight_of = |name| {
                    weighted::members(Order::Codings, accepted()).find(|member| member.name.eq_ignore_ascii_case(name))?.weight
                };
                weight_of(coding.name).or_else(|| weight_of(b"*")) > Some(0)
            }),
        }
    }

    /// Whether a 304 selects it (§4.3.4): by a strong entity-tag only what has the same one.
    pub fn is_named_by(&self, not_modified: &HeaderMap) -> bool {
        let Some(named) = conditional::entity_tag(not_modified) else { return false };
        match named.is_weak() {
            true => conditional::opaque(&self.tag) == named.opaque,
            false => self.tag == named.value,
        }
    }
}

/// The entity-tags that the origin is asked about in a request's stead, each once.
pub fn tags(candidates: &[Candidate], request: &HeaderMap) -> Vec<HeaderValue> {
    let mut tags: Vec<HeaderValue> = Vec::new();
    for candidate in candidates.iter().filter(|candidate| candidate.fits(request)) {
        if tags.len() < TAGS_MAX && !tags.contains(&candidate.tag) {
            tags.push(candidate.tag.clone());
        }
    }
    tags
}

/// Makes a request ask which of these the origin would answer with, if one of them (§4.3.1).
pub fn add_tags(request: &mut HeaderMap, tags: &[HeaderValue]) {
    let list = tags.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
    if !tags.is_empty()
        && let Ok(list) = HeaderValue::from_bytes(&list)
    {
        request.insert(IF_NONE_MATCH, list);
    }
}

/// Whether a list accepts any coding beside `identity` (RFC 9110 §12.5.3).
fn accepts_coding<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    weighted::members(Order::Codings, lines)
        .any(|member| member.weight > Some(0) && !member.name.eq_ignore_ascii_case(IDENTITY.as_bytes()))
}

/// The fields of content negotiation (RFC 9110 §12.5): who asks makes no difference to them.
const NEGOTIATED: [HeaderName; 4] = [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE];

const IDENTITY: &str = "identity";

/// So many tags one request asks about.
const TAGS_MAX: usize = 16;

/// With its quotes, and `W/` where it is weak. Longer ones would make requests long that ask about many.
const TAG_BYTES_MAX: usize = 64 + 4;

/// As long as any that is in use, and several of them.
const CODING_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::terms::Terms;
    use super::super::vary::Selection;
    use super::super::{Lifetime, Source, Times};
    use super::*;
    use http::{HeaderName, StatusCode};
    use std::time::{Duration, UNIX_EPOCH};

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    /// What is known of a response with these fields, of which `Vary` says that it was selected by those of the request.
    fn candidate(response: &[(&'static str, &str)], request: &[(&'static str, &str)]) -> Option<Candidate> {
        let names: Vec<HeaderName> = request.iter().map(|(name, _)| HeaderName::from_static(name)).collect();
        let selection = Selection::of(&names, &fields(request));
        let times = Times { requested: UNIX_EPOCH, received: UNIX_EPOCH };
        let terms = Terms::plain(Lifetime { duration: Duration::from_secs(60), source: Source::MaxAge });
        let status = if response.iter().any(|(name, _)| *name == "content-range") { 206 } else { 200 };
        Candidate::of(&StoredHead::new(StatusCode::from_u16(status).unwrap(), fields(response), times, terms, selection))
    }

    #[test]
    fn the_origin_is_asked_about_what_is_whole_and_has_a_short_tag_and_no_owner() {
        let check = |response: &[(&'static str, &str)], request: &[(&'static str, &str)], expected: Option<&str>| {
            let tag = candidate(response, request).map(|candidate| candidate.tag);
            assert_eq!(tag, expected.map(|tag| HeaderValue::from_str(tag).unwrap()), "{response:?} {request:?}");
        };
        let accept: &[(&'static str, &str)] = &[("accept", "a")];
        check(&[("etag", "\"a\"")], accept, Some("\"a\""));
        check(&[("etag", "W/\"a\"")], accept, Some("W/\"a\""));
        check(&[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], accept, None);
        check(&[("etag", "a")], accept, None);
        check(&[("etag", "\"a\""), ("etag", "\"b\"")], accept, None);
        let [short, long] = [64, 70].map(|length| format!("\"{}\"", "x".repeat(length)));
        check(&[("etag", &short)], accept, Some(&short));
        check(&[("etag", &long)], accept, None);
        check(&[("etag", "\"a\""), ("content-range", "bytes 0-1/2")], accept, None);
        check(&[("etag", "\"a\"")], &[("accept", "a"), ("cookie", "id=1")], None);
        check(&[("etag", "\"a\"")], &[("accept", "a"), ("x-tenant", "1")], None);
        check(&[("etag", "\"a\"")], &[("authorization", "Basic x")], None);
    }

    #[test]
    fn one_tag_for_several_codings_gives_nobody_what_he_cannot_read() {
        // RFC 9110 §8.8.3.3, §12.5.3
        let check = |coding: Option<&str>, fetched_with: Option<&str>, request: Option<&str>, expected: bool| {
            let mut response = vec![("etag", "\"a\"")];
            response.extend(coding.map(|coding| ("content-encoding", coding)));
            let mut selected_by = vec![("accept", "a")];
            selected_by.extend(fetched_with.map(|codings| ("accept-encoding", codings)));
            let request = fields(&request.map(|codings| ("accept-encoding", codings)).into_iter().collect::<Vec<_>>());
            let candidate = candidate(&response, &selected_by).unwrap();
            assert_eq!(candidate.fits(&request), expected, "{coding:?} {fetched_with:?} {request:?}");
        };
        check(Some("gzip"), Some("gzip, br"), Some("gzip"), true);
        check(Some("gzip"), Some("gzip, br"), Some("br, GZIP;q=0.1"), true);
        check(Some("x-gzip"), Some("gzip"), Some("gzip"), true);
        check(Some("gzip"), Some("gzip"), Some("br"), false);
        check(Some("gzip"), Some("gzip"), Some("*"), true);
        check(Some("gzip"), Some("gzip"), Some("*, gzip;q=0"), false);
        check(Some("gzip"), Some("gzip"), Some("identity"), false);
        check(Some("gzip"), Some("gzip"), None, false);
        check(Some("gzip, br"), Some("gzip, br"), Some("gzip"), false);
        check(Some("gzip, br"), Some("gzip, br"), Some("gzip, br, zstd"), true);
        // The origin did not code it, though it could have.
        check(None, Some("gzip, br"), Some("gzip"), true);
        check(None, Some("gzip, br"), None, true);
        // It could not; for others, it may.
        check(None, Some("identity"), Some("gzip"), false);
        check(None, Some("gzip;q=0"), Some("gzip"), false);
        check(None, Some("identity"), Some(""), true);
        check(None, Some("identity"), None, true);
        // Codings make no difference.
        check(None, None, Some("gzip"), true);
    }

    #[test]
    fn what_was_fetched_without_a_word_of_codings_is_for_those_who_say_none() {
        let selection = Selection::of(&[ACCEPT_ENCODING], &HeaderMap::new());
        let times = Times { requested: UNIX_EPOCH, received: UNIX_EPOCH };
        let terms = Terms::plain(Lifetime { duration: Duration::from_secs(60), source: Source::MaxAge });
        let head = StoredHead::new(StatusCode::OK, fields(&[("etag", "\"a\"")]), times, terms, selection);
        let candidate = Candidate::of(&head).unwrap();
        assert!(candidate.fits(&HeaderMap::new()));
        assert!(!candidate.fits(&fields(&[("accept-encoding", "gzip")])));
    }

    #[test]
    fn a_304_names_what_has_its_tag() {
        // RFC 9111 §4.3.4
        let check = |tag: &str, not_modified: &[(&'static str, &str)], expected: bool| {
            let candidate = candidate(&[("etag", tag)], &[("accept", "a")]).unwrap();
            assert_eq!(candidate.is_named_by(&fields(not_modified)), expected, "{tag} {not_modified:?}");
        };
        check("\"a\"", &[("etag", "\"a\"")], true);
        check("\"a\"", &[("etag", "\"b\"")], false);
        check("\"a\"", &[("etag", "W/\"a\"")], true);
        check("W/\"a\"", &[("etag", "W/\"a\"")], true);
        check("W/\"a\"", &[("etag", "\"a\"")], false);
        check("\"a\"", &[], false);
        check("\"a\"", &[("etag", "a")], false);
    }

    #[test]
    fn each_tag_is_asked_about_once_and_not_too_many_are() {
        let of = |tag: &str| candidate(&[("etag", tag)], &[("accept", "a")]).unwrap();
        let check = |given: &[&str], expected: Option<&str>| {
            let candidates: Vec<Candidate> = given.iter().map(|tag| of(tag)).collect();
            let mut request = HeaderMap::new();
            add_tags(&mut request, &tags(&candidates, &HeaderMap::new()));
            assert_eq!(request.get(IF_NONE_MATCH).map(|list| list.to_str().unwrap()), expected, "{given:?}");
        };
        check(&[], None);
        check(&["\"a\""], Some("\"a\""));
        check(&["\"a\"", "W/\"b, c\"", "\"a\""], Some("\"a\", W/\"b, c\""));
        let many: Vec<String> = (0..20).map(|number| format!("\"{number}\"")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, Some(&many[..16].join(", ")));
    }
}
