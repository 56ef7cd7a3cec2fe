//! Which language a request wants most, and which one a response is in (RFC 9110 §8.5, §12.5.4).

use super::weighted::{self, Member, Order};
use http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, HeaderMap, HeaderValue};

/// The language that a request wants most, as it was written: nothing could please it more than a response in that one.
///
/// It is the member of `Accept-Language` with the highest weight; of equals the first, which some recipients prefer (§12.5.4). There is
/// none if that is `*`, or if the list leaves a doubt: a member is malformed, or the language has two weights.
pub(super) fn dearest(request: &HeaderMap) -> Option<&[u8]> {
    let lines = request.get_all(ACCEPT_LANGUAGE);
    let members = || weighted::members(Order::Preference, lines.iter().map(HeaderValue::as_bytes));
    // What has the weight 0 is not wanted, even where nothing else is.
    let (mut highest, mut dearest) = (0, None);
    for member in members() {
        let weight = member.weight?;
        if weight > highest {
            (highest, dearest) = (weight, Some(member.name));
        }
    }
    let dearest = dearest.filter(|name| *name != b"*")?;
    let is_doubtful = |member: Member<'_>| member.weight != Some(highest) && member.name.eq_ignore_ascii_case(dearest);
    (!members().any(is_doubtful)).then_some(dearest)
}

/// The one language that a response says it is for; `None` if it says nothing, or more than a line.
pub(super) fn of_response(response: &HeaderMap) -> Option<&[u8]> {
    let mut lines = response.get_all(CONTENT_LANGUAGE).iter();
    // A list is not cut up: with its comma, it is none of a request's languages.
    lines.next().filter(|_| lines.next().is_none()).map(|line| line.as_bytes().trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn fields(name: HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn the_dearest_language_is_the_first_with_the_highest_weight() {
        let check = |lines: &[&str], expected: &str| {
            let request = fields(ACCEPT_LANGUAGE, lines);
            let dearest = dearest(&request).map_or("", |language| str::from_utf8(language).unwrap());
            assert_eq!(dearest, expected, "{lines:?}");
        };
        check(&[], "");
        check(&[""], "");
        check(&["de"], "de");
        check(&["de-DE, de;q=0.9"], "de-DE");
        check(&["en, de"], "en");
        check(&["en;q=0.5", "fr;q=0.1, ,de;q=0.500"], "en");
        check(&["fr;q=0.5, de;q=1.0"], "de");
        check(&["fr;q=0.1, de;q=0.2, en;q=0.3"], "en");
        check(&["de;q=0.001"], "de");
        check(&["de;q=0"], "");
        check(&["de, DE;q=1"], "de");
        check(&["a, b, c, d, e"], "a");
        check(&["a;q=0.9, b;q=0.9, de"], "de");

        // Whoever takes any language has no dearest.
        check(&["*"], "");
        check(&["*, de;q=0.9"], "");
        check(&["*, de"], "");
        check(&["de, *"], "de");
        check(&["de, *;q=0.5"], "de");

        // Doubtful.
        check(&["de, en;q=2"], "");
        check(&["de, x y;q=0.5"], "");
        check(&["de, en;level=1"], "");
        check(&["de, en;q=0.5, DE;q=0"], "");
        check(&["de;q=0.2, en;q=0.5, de"], "");
        check(&["de, en;q=0.5, en;q=0.2"], "de");
    }

    #[test]
    fn a_response_has_a_language_if_it_names_one() {
        let check = |lines: &[&str], expected: Option<&str>| {
            assert_eq!(of_response(&fields(CONTENT_LANGUAGE, lines)), expected.map(str::as_bytes), "{lines:?}");
        };
        check(&[], None);
        check(&["de"], Some("de"));
        check(&[" de-DE\t"], Some("de-DE"));
        check(&["de", "en"], None);
        check(&["de", "de"], None);
        let request = fields(ACCEPT_LANGUAGE, &["de, en"]);
        for line in ["de, en", "de,", ", de", "", "*", "de;q=1"] {
            let response = fields(CONTENT_LANGUAGE, &[line]);
            assert_ne!(dearest(&request), of_response(&response), "{line}");
        }
    }
}
