//! Whether a caller may.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

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
}
