//! Whether a caller may, and who it is.

use crate::flow::Client;
use http::header::{AUTHORIZATION, FORWARDED, VIA};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// Who changes something, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) name: &'static str,
    pub(super) address: IpAddr,
}

/// Whether a request shows the token, as `Authorization: Bearer …` (RFC 6750 §2.1). Without a token nobody does.
pub(super) fn shows_token(fields: &HeaderMap, token: Option<&str>) -> bool {
    let Some(token) = token else {
        return false;
    };
    let shown = fields.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, shown)) = shown.and_then(|value| value.split_once(' ')) else {
        return false;
    };
    // Compared by their hashes: how long that takes tells nothing about the token.
    scheme.eq_ignore_ascii_case("bearer") && Sha256::digest(shown.trim()) == Sha256::digest(token)
}

/// Who the caller is, if it may change something: with the token, or, where none is set, from this very machine.
pub(super) fn may_change(fields: &HeaderMap, client: Client, token: Option<&str>) -> Result<Caller, (StatusCode, &'static str)> {
    let address = client.address.to_canonical();
    match token {
        Some(_) if shows_token(fields, token) => Ok(Caller { name: "token", address }),
        Some(_) => Err((StatusCode::UNAUTHORIZED, "the token is needed here\n")),
        None if !address.is_loopback() => Err((StatusCode::FORBIDDEN, "without ADMIN_TOKEN, only from this machine\n")),
        // A proxy on this machine relays what comes from anywhere.
        None if RELAYED.iter().any(|name| fields.contains_key(*name))
            || fields.contains_key(FORWARDED)
            || fields.contains_key(VIA) =>
        {
            Err((StatusCode::FORBIDDEN, "without ADMIN_TOKEN, only from this machine, and not through a proxy\n"))
        }
        None => Ok(Caller { name: "loopback", address }),
    }
}

/// What proxies add.
const RELAYED: &[&str] = &["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let check = |value: &str, token: Option<&str>, expected: bool| {
            let fields = [(AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
            assert_eq!(shows_token(&fields, token), expected, "{value} {token:?}");
        };
        check("Bearer secret", Some("secret"), true);
        check("bearer  secret", Some("secret"), true);
        check("Bearer secre", Some("secret"), false);
        check("Bearer secretx", Some("secret"), false);
        check("Basic secret", Some("secret"), false);
        check("Bearer", Some("secret"), false);
        check("Bearer ", Some(""), true);
        check("Bearer secret", None, false);
        assert!(!shows_token(&HeaderMap::new(), Some("secret")));
    }

    #[test]
    fn changes_need_the_token_or_this_machine() {
        let check = |address: &str, fields: &[(&'static str, &str)], token: Option<&str>, expected: Result<&str, u16>| {
            let fields =
                fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
            let caller = may_change(&fields, Client { address: address.parse().unwrap(), interim: None }, token);
            let caller = caller.map(|caller| caller.name).map_err(|(status, _)| status.as_u16());
            assert_eq!(caller, expected, "{address} {fields:?} {token:?}");
        };
        let shown: &[_] = &[("authorization", "Bearer t")];
        check("127.0.0.1", &[], None, Ok("loopback"));
        check("::1", &[], None, Ok("loopback"));
        check("::ffff:127.0.0.1", &[], None, Ok("loopback"));
        check("10.0.0.1", &[], None, Err(403));
        check("127.0.0.1", &[("x-forwarded-for", "10.0.0.1")], None, Err(403));
        check("127.0.0.1", &[("via", "1.1 nginx")], None, Err(403));
        check("127.0.0.1", &[], Some("t"), Err(401));
        check("10.0.0.1", shown, Some("t"), Ok("token"));
    }
}
