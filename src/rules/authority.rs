//! Which values of `Host` name one host, to every reader (RFC 9110 §7.2, RFC 3986 §3.2).

use std::net::Ipv6Addr;

/// Whether this is a host's name or address, with a port or without.
///
/// Narrower than the grammar: a name may be percent-encoded there, have commas, quotes and brackets, and a port may be empty. Nobody's
/// host is called so, and readers disagree on where such a name ends.
pub fn is_plain(authority: &[u8]) -> bool {
    let (host, port) = match authority.strip_prefix(b"[") {
        Some(rest) => match rest.iter().position(|octet| *octet == b']') {
            Some(end) if is_address(&rest[..end]) => (&b"address"[..], &rest[end + 1..]),
            _ => return false,
        },
        None => authority.split_at(authority.iter().position(|octet| *octet == b':').unwrap_or(authority.len())),
    };
    let is_of_names = |octet: &u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'A'..=b'Z' | b'_' | b'~');
    let is_name = !host.is_empty() && host.iter().all(is_of_names);
    is_name && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port))
}

fn is_address(written: &[u8]) -> bool {
    std::str::from_utf8(written).is_ok_and(|written| written.parse::<Ipv6Addr>().is_ok())
}

fn is_port(written: &[u8]) -> bool {
    let is_number = !written.is_empty() && written.iter().all(u8::is_ascii_digit);
    is_number && std::str::from_utf8(written).is_ok_and(|written| written.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        let check = |authorities: &[&str], expected: bool| {
            for authority in authorities {
                assert_eq!(is_plain(authority.as_bytes()), expected, "{authority:?}");
            }
        };
        check(&["h", "a-b.example", "a_b", "EXAMPLE.com.", "127.0.0.1", "xn--bcher-kva.example", "~"], true);
        check(&["h:80", "h:0", "h:65535", "127.0.0.1:8080", "[::1]", "[::1]:80", "[2001:DB8::7]", "[::ffff:1.2.3.4]"], true);
        check(&["", ":", ":80", "h:", "h:x", "h:-1", "h:+1", "h: 80", "h:65536", "h:80:80", "h:80:", "h::80", "h:80/"], false);
        check(
            &[
                "[",
                "[]",
                "[::1",
                "::1]",
                "::1",
                "[::1]]",
                "[[::1]]",
                "[::1]x",
                "[::1]80",
                "[::1]:",
                "[h]",
                "[v1.a]",
                "[::1%25eth0]",
            ],
            false,
        );
        check(
            &["u@h", "@h", "h@", "h/", "h/a", "/h", "\\h", "h?a", "h#a", "h,i", "h, i", "h i", " h", "h\t", "\"h\"", "'h'"],
            false,
        );
        check(
            &["h%20", "%68", "h\0", "h\x7f", "h\u{fc}", "h;a", "h|i", "{h}", "<h>", "h*", "h!", "h&i", "h=i", "h+i", "(h)"],
            false,
        );
    }
}
