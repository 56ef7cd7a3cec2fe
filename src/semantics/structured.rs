//! Structured fields (RFC 9651).

use http::header::{HeaderMap, HeaderName};
use sfv::{Dictionary, Parser};

/// Parses a field as a dictionary (§3.2), all of its lines as one value; `None` where it is missing or malformed.
///
/// A field that is malformed anywhere says nothing at all (§4.2): it has to mean the same to every recipient.
pub(super) fn dictionary(fields: &HeaderMap, name: &HeaderName) -> Option<Dictionary> {
    let mut lines = fields.get_all(name).iter();
    let mut value = lines.next()?.as_bytes().to_vec();
    for line in lines {
        value.extend_from_slice(b", ");
        value.extend_from_slice(line.as_bytes());
    }
    Parser::new(&value).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_lines_of_a_dictionary_are_one_value() {
        let check = |lines: &[&str], expected: Option<&[&str]>| {
            let name = HeaderName::from_static("foo");
            let fields = lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap())).collect();
            let keys = dictionary(&fields, &name).map(|members| members.keys().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(keys, expected.map(|keys| keys.iter().map(ToString::to_string).collect()), "{lines:?}");
        };
        check(&[], None);
        check(&[""], Some(&[]));
        check(&["a"], Some(&["a"]));
        check(&["a=1,b=2;c", "d=(x y)"], Some(&["a", "b", "d"]));
        check(&["a=(1", "2)"], None); // §4.2: the comma between the lines counts.
        check(&["a=1", "b=\""], None);
        check(&["a,"], None);
        check(&["a", ""], None);
        check(&["A"], None);
        check(&["ä"], None);
    }
}
