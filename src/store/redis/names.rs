//! The names of keys in Redis.
//!
//! Replicas follow what happens to all names that begin with `prefix:2:`. What begins with `prefix:2.` is not followed:
//! it is there for those who ask for it.
//!
//! Names are made of hashes, so there is nothing personal in them to read. But who can read the names could hash guesses, `customer:4711`
//! say, and see which one is there. So where there is a secret, the hashes are keyed with it: of each, the 128 bits are put through
//! AES-256 as one block. That is a keyed hash like HMAC (a permutation that nobody can tell from a random one, after a hash that nobody
//! can make collide), and it goes back: what Redis tells of a name is understood without a table of all names there are.

use crate::rules::{CacheKey, ScopeName, Secret};
use crate::semantics::vary::Selection;
use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use std::sync::Arc;

/// The names under one prefix.
#[derive(Clone)]
pub(in crate::store) struct Names {
    followed: String,
    apart: String,
    keyed: Option<Arc<Keyed>>,
}

/// What keys the hashes, each kind of them in its own way: one that is seen in two places says nothing.
struct Keyed {
    keys: Aes256,
    variants: Aes256,
    scopes: Aes256,
    leases: Aes256,
}

/// What a followed name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Named {
    /// A stored response, or one of its variants, by the hash of its cache key.
    Response(u128),
    /// The generation of a scope.
    Generation(ScopeName),
    /// A question to all replicas, by its identifier: have you heard all that came before?
    Question(String),
    /// A replica has come; by an identifier of its own.
    Coming(String),
    /// The lease of a key, by the hash of the cache key.
    Lease(u128),
}

impl Names {
    pub(in crate::store) fn new(prefix: &str, secret: Option<&str>) -> Names {
        let keyed = secret.map(|secret| {
            let secret = Secret::from_passphrase(secret);
            let cipher = |kind: &str| Aes256::new(&Array::from(secret.derived(&format!("sidecache names in Redis, {kind}"))));
            let (keys, variants) = (cipher("keys"), cipher("variants"));
            Arc::new(Keyed { keys, variants, scopes: cipher("scopes"), leases: cipher("leases") })
        });
        Names { followed: format!("{prefix}:{SCHEMA}:"), apart: format!("{prefix}:{SCHEMA}."), keyed }
    }

    /// A hash as it stands in names.
    fn shown(&self, hash: u128, cipher: impl FnOnce(&Keyed) -> &Aes256) -> u128 {
        let Some(keyed) = &self.keyed else { return hash };
        let mut block = hash.to_be_bytes().into();
        cipher(keyed).encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    }

    /// The hash that stands in a name, in hexadecimal digits.
    fn meant(&self, shown: &str, cipher: impl FnOnce(&Keyed) -> &Aes256) -> Option<u128> {
        let shown = (shown.len() == 32).then(|| u128::from_str_radix(shown, 16).ok()).flatten()?;
        let Some(keyed) = &self.keyed else { return Some(shown) };
        let mut block = shown.to_be_bytes().into();
        cipher(keyed).decrypt_block(&mut block);
        Some(u128::from_be_bytes(block.into()))
    }

    /// What all followed names begin with.
    pub(in crate::store) fn followed(&self) -> &str {
        &self.followed
    }

    /// A response, or the list of its variants. The braces keep a key and its variants on one node of a cluster.
    pub(in crate::store) fn response(&self, key: &CacheKey, selection: Option<&Selection>) -> String {
        match selection {
            None => format!("{}{{{:032x}}}", self.followed, self.shown(key.hash(), |keyed| &keyed.keys)),
            Some(selection) => self.variant(key, key.variant(selection)),
        }
    }

    /// A variant of a response, by its hash.
    pub(in crate::store) fn variant(&self, key: &CacheKey, variant: u128) -> String {
        let (key, variant) = (self.shown(key.hash(), |keyed| &keyed.keys), self.shown(variant, |keyed| &keyed.variants));
        format!("{}{{{key:032x}}}:{variant:032x}", self.followed)
    }

    /// The list of variants beside a variant; `None` for what is none.
    pub(in crate::store) fn list_of(&self, variant: &str) -> Option<String> {
        let end = self.followed.len() + variant.get(self.followed.len()..)?.find("}:")? + 1;
        Some(variant[..end].to_owned())
    }

    /// What the names of responses match (the pattern of `SCAN`).
    pub(in crate::store) fn responses_pattern(&self) -> String {
        let literal = |sign| if matches!(sign, '*' | '?' | '[' | ']' | '\\') { format!("\\{sign}") } else { String::from(sign) };
        format!("{}{{*", self.followed.chars().map(literal).collect::<String>())
    }

    /// The generation of a scope.
    pub(in crate::store) fn generation(&self, name: ScopeName) -> String {
        format!("{}g:{:032x}", self.followed, self.shown(name.0, |keyed| &keyed.scopes))
    }

    /// A question to all replicas.
    pub(in crate::store) fn question(&self, id: &str) -> String {
        format!("{}q:{id}", self.followed)
    }

    /// A replica that has come.
    pub(in crate::store) fn coming(&self, id: &str) -> String {
        format!("{}n:{id}", self.followed)
    }

    /// The right to fetch for all replicas.
    pub(in crate::store) fn lease(&self, hash: u128, variant: u128) -> String {
        let (hash, variant) = (self.shown(hash, |keyed| &keyed.leases), self.shown(variant, |keyed| &keyed.variants));
        format!("{}l:{hash:032x}:{variant:032x}", self.followed)
    }

    /// The set of those who answered a question.
    pub(in crate::store) fn answers(&self, id: &str) -> String {
        format!("{}answers:{id}", self.apart)
    }

    /// The set of replicas that there are, or were lately.
    pub(in crate::store) fn replicas(&self) -> String {
        format!("{}replicas", self.apart)
    }

    /// The sign of life of a replica.
    pub(in crate::store) fn replica(&self, id: &str) -> String {
        format!("{}replica:{id}", self.apart)
    }

    /// What never lies on the node that keys with this tag lie on.
    pub(in crate::store) fn nothing(&self, tag: &str) -> String {
        format!("{}nothing:{{{tag}}}", self.apart)
    }

    /// The list of the latest purges.
    pub(in crate::store) fn purges(&self) -> String {
        format!("{}purges", self.apart)
    }

    /// The channel on which news travel where Redis does not let clients follow names.
    pub(in crate::store) fn channel(&self) -> String {
        format!("{}news", self.apart)
    }

    /// Reads a followed name.
    pub(in crate::store) fn read(&self, name: &[u8]) -> Option<Named> {
        let rest = std::str::from_utf8(name).ok()?.strip_prefix(&self.followed)?;
        if let Some(rest) = rest.strip_prefix('{') {
            return self.meant(rest.split('}').next()?, |keyed| &keyed.keys).map(Named::Response);
        }
        match rest.split_once(':')? {
            ("g", name) => self.meant(name, |keyed| &keyed.scopes).map(|name| Named::Generation(ScopeName(name))),
            ("q", id) => Some(Named::Question(id.to_owned())),
            ("n", id) => Some(Named::Coming(id.to_owned())),
            ("l", name) => self.meant(name.split(':').next()?, |keyed| &keyed.leases).map(Named::Lease),
            _ => None,
        }
    }
}

/// The version of the names and values in Redis.
const SCHEMA: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_followed_name_is_read_as_what_it_was_written_for() {
        for secret in [None, Some("secret")] {
            let names = Names::new("p", secret);
            let key = CacheKey::from_parts(b"k");
            let variant = names.response(&key, Some(&Selection::empty()));
            assert_eq!(names.list_of(&variant), Some(names.response(&key, None)));
            assert_eq!(names.list_of(&names.response(&key, None)), None);
            for (name, expected) in [
                (names.response(&key, None), Some(Named::Response(key.hash()))),
                (variant, Some(Named::Response(key.hash()))),
                (names.generation(ScopeName(7)), Some(Named::Generation(ScopeName(7)))),
                (names.question("1a"), Some(Named::Question("1a".to_owned()))),
                (names.coming("1a"), Some(Named::Coming("1a".to_owned()))),
                (names.lease(8, 9), Some(Named::Lease(8))),
                (names.answers("1a"), None),
                (names.channel(), None),
                ("p:2:".to_owned(), None),
                ("p:2:{".to_owned(), None),
                ("p:2:g:xyz".to_owned(), None),
                ("q:2:g:00000000000000000000000000000007".to_owned(), None),
            ] {
                assert_eq!(names.read(name.as_bytes()), expected, "{name}");
            }
            assert_eq!(names.read(b"p:2:\xff"), None);
        }
    }

    #[test]
    fn with_a_secret_no_name_can_be_guessed_and_replicas_that_share_it_make_the_same() {
        let key = CacheKey::from_parts(b"k");
        let all = |secret| {
            let names = Names::new("p", secret);
            let hashes = [names.response(&key, None), names.variant(&key, 1), names.generation(ScopeName(1)), names.lease(1, 1)];
            hashes.map(|name| name.split([':', '{', '}']).filter(|part| part.len() == 32).map(str::to_owned).collect::<Vec<_>>())
        };
        let (plain, one, other) = (all(None), all(Some("one")), all(Some("other")));
        assert_eq!(one, all(Some("one")));
        let known: Vec<&String> = plain.iter().chain(&other).flatten().collect();
        assert!(one.iter().flatten().all(|hash| !known.contains(&hash)), "{one:?}");
        // The same number as a variant, a scope and a lease: three names.
        assert!(one[1][1] != one[2][0] && one[2][0] != one[3][0] && one[3][0] != one[1][1], "{one:?}");
    }

    #[test]
    fn what_is_apart_is_not_followed() {
        let names = Names::new("p", None);
        for name in [names.answers("1"), names.replicas(), names.replica("1"), names.purges(), names.channel()] {
            assert!(!name.starts_with(names.followed()), "{name}");
        }
    }
}
