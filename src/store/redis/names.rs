//! The names of keys in Redis.
//!
//! Replicas follow what happens to all names that begin with `prefix:2:`. What begins with `prefix:2.` is not followed:
//! it is there for those who ask for it.

use crate::rules::{CacheKey, ScopeName};
use crate::semantics::vary::Selection;

/// The names under one prefix.
#[derive(Debug, Clone)]
pub(in crate::store) struct Names {
    followed: String,
    apart: String,
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
    /// The lease of a key, by the hash of the cache key.
    Lease(u128),
}

impl Names {
    pub(in crate::store) fn new(prefix: &str) -> Names {
        Names { followed: format!("{prefix}:{SCHEMA}:"), apart: format!("{prefix}:{SCHEMA}.") }
    }

    /// What all followed names begin with.
    pub(in crate::store) fn followed(&self) -> &str {
        &self.followed
    }

    /// A response, or the list of its variants. The braces keep a key and its variants on one node of a cluster.
    pub(in crate::store) fn response(&self, key: &CacheKey, selection: Option<&Selection>) -> String {
        match selection {
            None => format!("{}{{{key}}}", self.followed),
            Some(selection) => self.variant(key, key.variant(selection)),
        }
    }

    /// A variant of a response, by its hash.
    pub(in crate::store) fn variant(&self, key: &CacheKey, variant: u128) -> String {
        format!("{}{{{key}}}:{variant:032x}", self.followed)
    }

    /// What the names of responses match (the pattern of `SCAN`).
    pub(in crate::store) fn responses_pattern(&self) -> String {
        let literal = |sign| if matches!(sign, '*' | '?' | '[' | ']' | '\\') { format!("\\{sign}") } else { String::from(sign) };
        format!("{}{{*", self.followed.chars().map(literal).collect::<String>())
    }

    /// The generation of a scope.
    pub(in crate::store) fn generation(&self, name: ScopeName) -> String {
        format!("{}g:{name}", self.followed)
    }

    /// A question to all replicas.
    pub(in crate::store) fn question(&self, id: &str) -> String {
        format!("{}q:{id}", self.followed)
    }

    /// The right to fetch for all replicas.
    pub(in crate::store) fn lease(&self, hash: u128, variant: u128) -> String {
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
        let hash = |hex: &str| (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok()).flatten();
        if let Some(rest) = rest.strip_prefix('{') {
            return hash(rest.split('}').next()?).map(Named::Response);
        }
        match rest.split_once(':')? {
            ("g", name) => hash(name).map(|name| Named::Generation(ScopeName(name))),
            ("q", id) => Some(Named::Question(id.to_owned())),
            ("l", name) => hash(name.split(':').next()?).map(Named::Lease),
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
        let names = Names::new("p");
        let key = CacheKey::from_parts("k".into());
        let variant = names.response(&key, Some(&Selection::empty()));
        for (name, expected) in [
            (names.response(&key, None), Some(Named::Response(key.hash()))),
            (variant, Some(Named::Response(key.hash()))),
            (names.generation(ScopeName(7)), Some(Named::Generation(ScopeName(7)))),
            (names.question("1a"), Some(Named::Question("1a".to_owned()))),
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

    #[test]
    fn what_is_apart_is_not_followed() {
        let names = Names::new("p");
        for name in [names.answers("1"), names.replicas(), names.replica("1"), names.purges(), names.channel()] {
            assert!(!name.starts_with(names.followed()), "{name}");
        }
    }
}
