//! Comma-separated lists that may contain quoted strings (RFC 9110 §5.6.1, §5.6.4).

/// Splits a field line at the commas outside of quoted strings; members are trimmed and never empty (§5.6.1.2).
///
/// A quote that is never closed is an octet like any other: were the rest of the line part of its string, it could hide a
/// `no-store`.
pub(super) fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    let mut may_close = true;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = member_end(rest, &mut may_close);
            let member = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    })
}

/// Finds the quoted string's closing quote; `text` begins behind the opening one.
pub(super) fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => return Some(at),
            // A backslash takes the next octet with it (§5.6.4).
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

fn member_end(text: &[u8], may_close: &mut bool) -> usize {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b',' => return at,
            // Behind a quote that isn't closed there is none that is: the search went over all of them. Not repeating it for
            // each keeps the work linear in what anyone may send.
            b'"' if *may_close => match closing_quote(&text[at + 1..]) {
                Some(closing) => at += closing + 2,
                None => *may_close = false,
            },
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_split_at_commas_outside_of_quoted_strings() {
        let check = |line: &str, expected: &[&str]| {
            let members: Vec<&str> = members(line.as_bytes()).map(|member| std::str::from_utf8(member).unwrap()).collect();
            assert_eq!(members, expected, "{line}");
        };
        check("", &[]);
        check("a", &["a"]);
        check("a,b", &["a", "b"]);
        check(" a ,\tb ", &["a", "b"]);
        check(",, a , ,b,", &["a", "b"]); // §5.6.1.2
        check(r#"a="b,c", d"#, &[r#"a="b,c""#, "d"]);
        check(r#"a="b\",c", d"#, &[r#"a="b\",c""#, "d"]); // §5.6.4
        check(r#"a="b, c"#, &[r#"a="b"#, "c"]);
        check(r#"a="b\"#, &[r#"a="b\"#]);
        check(r#"a="b\", c"#, &[r#"a="b\""#, "c"]);
        check(r#"a="b\",\",c""#, &[r#"a="b\",\",c""#]);
        check(r#"a="b\",\",c"#, &[r#"a="b\""#, r#"\""#, "c"]);
    }

    #[test]
    fn a_long_line_of_quotes_takes_no_longer_than_another() {
        let line = r#"\","#.repeat(300_000);
        assert_eq!(members(format!("\"{line}").as_bytes()).count(), 300_000);
    }
}
