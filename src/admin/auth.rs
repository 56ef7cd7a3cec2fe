//! Who a caller is, and what it may do.

use crate::flow::Client;
use http::header::{AUTHORIZATION, FORWARDED, VIA};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// What a caller may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything, also at what is stored for customers.
    Read,
    /// And purge, erase and delete: take away what a request brings back.
    Purge,
    /// And set what others are answered.
    All,
}

/// A name for who shows a secret, and what that one may do.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What the log and the list of purges call the caller.
    pub name: String,
    /// What the caller may do.
    pub role: Role,
    /// What it shows, as `Authorization: Bearer …`.
    pub value: String,
    /// Where the value was read from, if from a file.
    pub file: Option<PathBuf>,
}

impl Token {
    /// The token without a name of its own, which may do everything.
    pub fn admin(value: impl Into<String>) -> Token {
        Token { name: "admin".to_owned(), role: Role::All, value: value.into(), file: None }
    }
}

impl fmt::Debug for Token {
    /// Shows all but the secret: this may end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Token { name, role, value: _, file } = self;
        f.debug_struct("Token").field("name", name).field("role", role).field("file", file).finish()
    }
}

impl Role {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Purge => "purge",
            Role::All => "all",
        }
    }
}

/// Who does something, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) address: IpAddr,
}

/// Why somebody may not, with the status that says so.
pub(super) type Refusal = (StatusCode, Cow<'static, str>);

/// What is known of the tokens: their hashes.
pub(super) struct Keyring(Vec<Key>);

pub(super) struct Key {
    name: String,
    role: Role,
    hash: [u8; 32],
}

impl Keyring {
    pub(super) fn new(tokens: &[Token]) -> Keyring {
        let key = |token: &Token| Key { name: token.name.clone(), role: token.role, hash: Sha256::digest(&token.value).into() };
        Keyring(tokens.iter().map(key).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The token that a request shows, as `Authorization: Bearer …` (RFC 6750 §2.1).
    pub(super) fn shown(&self, fields: &HeaderMap) -> Option<&Key> {
        let mut lines = fields.get_all(AUTHORIZATION).iter();
        // Of two, others might believe the other one.
        let line = lines.next().filter(|_| lines.next().is_none())?;
        let (scheme, shown) = line.to_str().ok()?.split_once(' ')?;
        let hash: [u8; 32] = Sha256::digest(shown.trim()).into();
        // Hashes are compared, all of them, each to its end: how long that takes tells nothing about any token.
        let differs = |key: &Key| key.hash.iter().zip(hash).fold(0, |all, (one, other)| all | (one ^ other));
        let found = self.0.iter().fold(None, |found, key| if differs(key) == 0 { Some(key) } else { found });
        found.filter(|_| scheme.eq_ignore_ascii_case("bearer"))
    }

    /// Who the caller is, if it may do what needs this role: with a token, or, where there is none, from this very machine.
    pub(super) fn admit(&self, fields: &HeaderMap, client: &Client, needed: Role) -> Result<Caller, Refusal> {
        let address = client.address.to_canonical();
        let refuse = |status, why: &'static str| Err((status, Cow::Borrowed(why)));
        match self.shown(fields) {
            Some(key) if key.role >= needed => Ok(Caller { name: key.name.clone(), role: key.role, address }),
            Some(Key { name, role, .. }) => {
                let (role, needed) = (role.as_str(), needed.as_str());
                let why = format!("the token {name:?} has the role {role:?}; this needs the role {needed:?}\n");
                Err((StatusCode::FORBIDDEN, Cow::Owned(why)))
            }
            None if !self.is_empty() => refuse(StatusCode::UNAUTHORIZED, "a token is needed here\n"),
            None if !address.is_loopback() => refuse(StatusCode::FORBIDDEN, "without ADMIN_TOKEN, only from this machine\n"),
            // A proxy on this machine relays what comes from anywhere.
            None if RELAYED.iter().any(|name| fields.contains_key(*name))
                || fields.contains_key(FORWARDED)
                || fields.contains_key(VIA) =>
            {
                refuse(StatusCode::FORBIDDEN, "without ADMIN_TOKEN, only from this machine, and not through a proxy\n")
            }
            None => Ok(Caller { name: LOOPBACK.to_owned(), role: Role::All, address }),
        }
    }
}

/// What a caller is called who needs no token, since there is none.
pub const LOOPBACK: &str = "loopback";

/// What proxies add.
const RELAYED: &[&str] = &["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_whole_token_opens() {
        let check = |value: &str, tokens: &[&str], expected: Option<usize>| {
            let named = |(index, value): (usize, &&str)| Token { name: index.to_string(), ..Token::admin(*value) };
            let keyring = Keyring::new(&tokens.iter().enumerate().map(named).collect::<Vec<_>>());
            let shown = keyring.shown(&fields(&[("authorization", value)])).map(|key| key.name.clone());
            assert_eq!(shown, expected.map(|index| index.to_string()), "{value} {tokens:?}");
        };
        check("Bearer secret", &["secret"], Some(0));
        check("bearer  secret", &["secret"], Some(0));
        check("Bearer two", &["one", "two", "three"], Some(1));
        check("Bearer secre", &["secret"], None);
        check("Bearer secretx", &["secret"], None);
        check("Basic secret", &["secret"], None);
        check("Bearer", &["secret"], None);
        check("Bearer secret", &[], None);
        assert!(Keyring::new(&[Token::admin("secret")]).shown(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_caller_needs_a_token_or_to_be_on_this_machine() {
        let check = |address: &str, said: &[(&'static str, &str)], token: Option<&str>, expected: Result<&str, u16>| {
            let keyring = Keyring::new(&token.map(Token::admin).into_iter().collect::<Vec<_>>());
            let client = Client {
                address: address.parse().unwrap(),
                is_secure: false,
                interim: None,
                octets: None,
                waited: Duration::ZERO,
                beside: None,
            };
            for needed in [Role::Read, Role::Purge, Role::All] {
                let caller = keyring.admit(&fields(said), &client, needed);
                let caller = caller.map(|caller| caller.name).map_err(|(status, _)| status.as_u16());
                assert_eq!(caller, expected.map(str::to_owned), "{address} {said:?} {token:?}");
            }
        };
        let shown: &[_] = &[("authorization", "Bearer t")];
        check("127.0.0.1", &[], None, Ok("loopback"));
        check("::1", &[], None, Ok("loopback"));
        check("::ffff:127.0.0.1", &[], None, Ok("loopback"));
        check("10.0.0.1", &[], None, Err(403));
        check("127.0.0.1", &[("x-forwarded-for", "10.0.0.1")], None, Err(403));
        check("127.0.0.1", &[("via", "1.1 nginx")], None, Err(403));
        check("127.0.0.1", &[], Some("t"), Err(401));
        check("10.0.0.1", shown, Some("t"), Ok("admin"));
        check("10.0.0.1", shown, None, Err(403));
    }

    #[test]
    fn a_role_may_do_what_those_below_it_may() {
        let check = |role: Role, expected: [bool; 3]| {
            let keyring = Keyring::new(&[Token { role, ..Token::admin("t") }]);
            let client = Client {
                address: "10.0.0.1".parse().unwrap(),
                is_secure: false,
                interim: None,
                octets: None,
                waited: Duration::ZERO,
                beside: None,
            };
            let admit = |needed| keyring.admit(&fields(&[("authorization", "Bearer t")]), &client, needed);
            assert_eq!([Role::Read, Role::Purge, Role::All].map(|needed| admit(needed).is_ok()), expected, "{role:?}");
        };
        check(Role::Read, [true, false, false]);
        check(Role::Purge, [true, true, false]);
        check(Role::All, [true, true, true]);
    }
}
