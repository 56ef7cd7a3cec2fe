//! Response heads that hyper lets through, and that can be read in two ways.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};

/// What is wrong with a response's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadFault {
    /// RFC 9112 §6.3: one of the two is a mistake, or an attempt to have two readers see two messages.
    #[error("both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// RFC 9112 §7: of the codings, every recipient knows one, and may not see it twice. hyper takes off the last one, or takes
    /// all that comes for the content.
    #[error("a Transfer-Encoding that is not `chunked`")]
    Coding,
    /// hyper looks at the length only where a body follows; to `HEAD`, or with 304, it is passed on, and means as much.
    #[error("a Content-Length that is no length, or several that differ")]
    Length,
}

/// Looks for a fault, and writes a length as everybody reads it: `3, 3` and `03` are 3 (RFC 9110 §8.6).
pub(super) fn settle(fields: &mut HeaderMap) -> Result<(), HeadFault> {
    if let Some(fault) = fault(fields) {
        return Err(fault);
    }
    let is_plain = |value: &HeaderValue| !value.as_bytes().contains(&b',') && (value.len() == 1 || value.as_bytes()[0] != b'0');
    if fields.get(CONTENT_LENGTH).is_some_and(|value| !is_plain(value)) || fields.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
    {
        let written = fields.get(CONTENT_LENGTH).and_then(|value| value.as_bytes().split(|octet| *octet == b',').next());
        let length = written.and_then(length).expect("it is no fault");
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

fn fault(fields: &HeaderMap) -> Option<HeadFault> {
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if fields.contains_key(CONTENT_LENGTH) {
            return Some(HeadFault::TwoFramings);
        }
        let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        return (!is_chunked).then_some(HeadFault::Coding);
    }
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|octet| *octet == b','));
    let first = lengths.next()?;
    let first = length(first);
    // RFC 9110 §8.6: the same one several times is one.
    (first.is_none() || lengths.any(|other| length(other) != first)).then_some(HeadFault::Length)
}

fn length(written: &[u8]) -> Option<u64> {
    let written = std::str::from_utf8(written.trim_ascii()).ok()?;
    // A sign is no digit, whatever Rust makes of it.
    written.bytes().all(|octet| octet.is_ascii_digit()).then(|| written.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn check(fields: &[(HeaderName, &str)], expected: Option<HeadFault>) {
        let map = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        assert_eq!(fault(&map.collect()), expected, "{fields:?}");
    }

    #[test]
    fn a_length_is_one_number() {
        let check = |values: &[&str], is_one: bool| {
            let fields: Vec<_> = values.iter().map(|value| (CONTENT_LENGTH, *value)).collect();
            check(&fields, (!is_one).then_some(HeadFault::Length));
        };
        check(&[], true);
        check(&["0"], true);
        check(&["18446744073709551615"], true);
        check(&["3", "3"], true);
        check(&["3, 3"], true);
        check(&["3", "4"], false);
        check(&["3, 4"], false);
        check(&["3,"], false);
        check(&[""], false);
        check(&["-1"], false);
        check(&["+1"], false);
        check(&["0x3"], false);
        check(&["3 3"], false);
        check(&["18446744073709551616"], false);
    }

    #[test]
    fn a_length_is_written_plainly() {
        for (written, expected) in
            [(&["0"][..], "0"), (&["30"], "30"), (&["3, 3"], "3"), (&["3", "3"], "3"), (&["03"], "3"), (&["00"], "0")]
        {
            let values = written.iter().map(|value| (CONTENT_LENGTH, HeaderValue::from_static(value)));
            let mut fields: HeaderMap = values.collect();
            assert_eq!(settle(&mut fields), Ok(()));
            assert_eq!(fields.get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), [expected], "{written:?}");
        }
    }

    #[test]
    fn a_length_beside_a_coding_is_a_fault() {
        check(&[(TRANSFER_ENCODING, "chunked")], None);
        check(&[(TRANSFER_ENCODING, "Chunked")], None);
        for coding in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;q=1", "", "\"chunked\""] {
            check(&[(TRANSFER_ENCODING, coding)], Some(HeadFault::Coding));
        }
        check(&[(TRANSFER_ENCODING, "chunked"), (TRANSFER_ENCODING, "chunked")], Some(HeadFault::Coding));
        check(&[(TRANSFER_ENCODING, "chunked"), (CONTENT_LENGTH, "3")], Some(HeadFault::TwoFramings));
        check(&[(CONTENT_LENGTH, "x"), (TRANSFER_ENCODING, "identity")], Some(HeadFault::TwoFramings));
    }
}
