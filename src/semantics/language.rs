//! Which languages a request wants most, and which one a response is in (RFC 9110 §8.5, §12.5.4).

use super::weighted::{self, Order};
use http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, HeaderMap, HeaderValue};

/// The languages that a request wants most: nothing could please it more than a response in one of them.
///
/// These are the members of `Accept-Language` with the highest weight, as they were written. There are none if that weight is
/// that of `*` alone, if they are too many, or if the list leaves a doubt: a member is malformed, or a language has two weights.
#[derive(Clone, Copy)]
pub(super) struct Dearest<'a> {
    languages: [&'a [u8]; DEAREST_MAX],
    number: usize,
}

impl<'a> Dearest<'a> {
    /// Reads them from a request, without an allocation.
    pub(super) fn of(request: &'a HeaderMap) -> Dearest<'a> {
        let lines = request.get_all(ACCEPT_LANGUAGE);
        let members = || weighted::members(Order::Names, lines.iter().map(HeaderValue::as_bytes));
        let mut dearest = Dearest::NONE;
        let (mut highest, mut has_lesser) = (0, false);
        for member in members() {
            let Some(weight) = member.weight else { return Dearest::NONE };
            if weight > highest {
                has_lesser |= highest > 0;
                (highest, dearest) = (weight, Dearest::NONE);
            }
            // What has the weight 0 is not wanted, even where nothing else is.
            if weight < highest || weight == 0 {
                has_lesser = true;
            } else if member.name != b"*" && !dearest.contains(member.name) {
                if let Some(place) = dearest.languages.get_mut(dearest.number) {
                    *place = member.name;
                }
                dearest.number += 1;
            }
        }
        let is_doubtful = || members().any(|member| member.weight < Some(highest) && dearest.contains(member.name));
        match dearest.number > DEAREST_MAX || has_lesser && is_doubtful() {
            true => Dearest::NONE,
            false => dearest,
        }
    }

    /// Whether a language is one of them, in whatever case it is written. `de-DE` is not `de`.
    pub(super) fn contains(&self, language: &[u8]) -> bool {
        self.iter().any(|dearest| dearest.eq_ignore_ascii_case(language))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        self.languages.iter().copied().take(self.number)
    }

    const NONE: Dearest<'static> = Dearest { languages: [b""; DEAREST_MAX], number: 0 };
}

/// The one language that a response says it is for; `None` if it says nothing, or more than a line.
pub(super) fn of_response(response: &HeaderMap) -> Option<&[u8]> {
    let mut lines = response.get_all(CONTENT_LANGUAGE).iter();
    // A list is not cut up: with its comma, it is none of a request's languages.
    lines.next().filter(|_| lines.next().is_none()).map(|line| line.as_bytes().trim_ascii())
}

/// Each is one more name that is looked up in Redis. Who wants more languages equally is hardly anybody.
const DEAREST_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn fields(name: HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn the_dearest_languages_have_the_highest_weight() {
        let check = |lines: &[&str], expected: &[&str]| {
            let request = fields(ACCEPT_LANGUAGE, lines);
            let dearest: Vec<_> = Dearest::of(&request).iter().map(|language| str::from_utf8(language).unwrap()).collect();
            assert_eq!(dearest, expected, "{lines:?}");
        };
        check(&[], &[]);
        check(&[""], &[]);
        check(&["de"], &["de"]);
        check(&["de-DE, de;q=0.9"], &["de-DE"]);
        check(&["en, de"], &["en", "de"]);
        check(&["en;q=0.5", "fr;q=0.1, ,de;q=0.500"], &["en", "de"]);
        check(&["fr;q=0.5, de;q=1.0"], &["de"]);
        check(&["fr;q=0.1, de;q=0.2, en;q=0.3"], &["en"]);
        check(&["de;q=0.001"], &["de"]);
        check(&["de;q=0"], &[]);
        check(&["de, DE;q=1"], &["de"]);

        // Whoever takes any language has no dearest; but none is dearer than those beside it.
        check(&["*"], &[]);
        check(&["*, de;q=0.9"], &[]);
        check(&["*, de"], &["de"]);
        check(&["de, *;q=0.5"], &["de"]);

        // Too many.
        check(&["a, b, c, d"], &["a", "b", "c", "d"]);
        check(&["a, b, c, d, e"], &[]);
        check(&["a, b, c, d, A, B"], &["a", "b", "c", "d"]);
        check(&["a;q=0.9, b;q=0.9, c;q=0.9, d;q=0.9, e;q=0.9, de"], &["de"]);

        // Doubtful.
        check(&["de, en;q=2"], &[]);
        check(&["de, x y;q=0.5"], &[]);
        check(&["de, en;level=1"], &[]);
        check(&["de, en;q=0.5, DE;q=0"], &[]);
        check(&["de;q=0.2, en;q=0.5, de"], &[]);
        check(&["de, en;q=0.5, en;q=0.2"], &["de"]);
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
            assert!(!Dearest::of(&request).contains(of_response(&response).unwrap()), "{line}");
        }
    }
}
