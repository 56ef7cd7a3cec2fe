//! Variants that the origin can be asked about where a request selects none of them (RFC 9111 §4.1, §4.3.1).

use super::conditional;
use super::fields::{self, Kind};
use super::stored::StoredHead;
use super::weighted::{self, Order};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};

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
    /// Nor is it asked about what credentials have selected. An origin that gives one tag to what differs by its user alone would have
    /// one be shown what is another's.
    pub fn of(head: &StoredHead) -> Option<Candidate> {
        let tag = conditional::entity_tag(&head.fields)?.value;
        let is_private = head.selection.names().any(|name| fields::kind(name) == Kind::Credential);
        if head.part.is_some() || is_private || tag.len() > TAG_BYTES_MAX {
            return None;
        }
        let mut lines = head.fields.get_all(CONTENT_ENCODING).iter();
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
}

/// Whether a list accepts any coding beside `identity` (RFC 9110 §12.5.3).
fn accepts_coding<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    weighted::members(Order::Codings, lines)
        .any(|member| member.weight > Some(0) && !member.name.eq_ignore_ascii_case(IDENTITY.as_bytes()))
}

const IDENTITY: &str = "identity";

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
    use http::{HeaderMap, HeaderName, StatusCode};
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
        check(&[("etag", "\"a\"")], &[("authorization", "Basic x")], None);
    }
}
