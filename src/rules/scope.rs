//! What can be purged at once: everything, a route, a tag, all tags below a colon, a URL, a path with every query, what is being
//! fetched.
//!
//! A stored response depends on the scopes that it lies in. Each scope has a generation, which a purge replaces (`store`).

use sha2::{Digest, Sha256};
use std::fmt;

/// A set of stored responses that can be purged by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// What a route has stored.
    Route(String),
    /// What carries this tag.
    Tag(String),
    /// What carries a tag that begins so: `customer:` stands for `customer:*`.
    TagsUnder(String),
    /// One target, path and query as the origin is sent them, under every `Host`, for all callers and in all variants.
    Target(String),
    /// A path with every query.
    Path(String),
    /// What is being fetched, and not stored yet.
    Fetches,
}

/// What a fetch watches: it does not know yet which tags its response will name. A purge of a tag replaces the watch of that tag too, a
/// purge of a beginning of tags the one that all have in common, and a search for what matches a pattern that of every fetch.
pub mod watch {
    use super::{ScopeName, named};
    use std::sync::LazyLock;

    /// So many watches are shared by all tags: enough that the purge of one tag seldom disturbs a fetch of another.
    const OF_TAGS: usize = 16;

    /// The watch that all tags have in common, by its place among the names.
    pub const COMMON: usize = OF_TAGS;

    /// The watch of every fetch, whatever its tags, until its response is stored.
    pub const FETCHES: usize = OF_TAGS + 1;

    /// How many watches there are.
    pub const COUNT: usize = OF_TAGS + 2;

    /// The names of all watches.
    pub static NAMES: LazyLock<[ScopeName; COUNT]> =
        LazyLock::new(|| std::array::from_fn(|index| named(b'w', &index.to_string())));

    /// The watch of a tag, by its place among the names.
    pub fn of_tag(tag: &str) -> usize {
        (named(b't', tag).0 >> 64) as usize % OF_TAGS
    }
}

/// The hash by which a scope is known. A tag such as `customer:42` is personal data; its hash may stand in a key of Redis.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeName(pub u128);

/// The scopes that a response lies in, by name; and its tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes {
    /// The tags as they were written.
    pub tags: Vec<String>,
    /// The names of all scopes, those of the tags included, each once.
    pub names: Vec<ScopeName>,
}

impl Scope {
    /// Reads a tag; `None` if that is none: it is empty, or has a `*`, which stands for others in patterns.
    pub fn of_tag(tag: &str) -> Option<Scope> {
        (!tag.is_empty() && !tag.contains('*')).then(|| Scope::Tag(tag.to_owned()))
    }

    /// Reads a tag, or a pattern on tags such as `customer:*`; `None` if no scope has what matches it: it is to be looked for.
    pub fn of_tag_pattern(pattern: &str) -> Option<Scope> {
        let Some(prefix) = pattern.strip_suffix('*') else { return Scope::of_tag(pattern) };
        let is_scope = prefix.ends_with(':') && !prefix.contains('*') && prefix.matches(':').count() <= COLONS_MAX;
        is_scope.then(|| Scope::TagsUnder(prefix.to_owned()))
    }

    /// Calculates the name.
    pub fn name(&self) -> ScopeName {
        let (kind, text) = match self {
            Scope::All => (b'a', ""),
            Scope::Route(name) => (b'r', name.as_str()),
            Scope::Tag(tag) => (b't', tag.as_str()),
            Scope::TagsUnder(prefix) => (b'u', prefix.as_str()),
            Scope::Target(target) => (b'q', target.as_str()),
            Scope::Path(path) => (b'p', path.as_str()),
            Scope::Fetches => return watch::NAMES[watch::FETCHES],
        };
        named(kind, text)
    }

    /// The watch that a purge of it replaces.
    pub fn watch(&self) -> Option<ScopeName> {
        match self {
            Scope::Tag(tag) => Some(watch::NAMES[watch::of_tag(tag)]),
            Scope::TagsUnder(_) => Some(watch::NAMES[watch::COMMON]),
            Scope::All | Scope::Route(_) | Scope::Target(_) | Scope::Path(_) | Scope::Fetches => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::All => f.write_str("everything"),
            Scope::Route(name) => write!(f, "route {name}"),
            Scope::Tag(tag) => write!(f, "tag {tag}"),
            Scope::TagsUnder(prefix) => write!(f, "tags {prefix}*"),
            Scope::Target(target) => write!(f, "url {target}"),
            Scope::Path(path) => write!(f, "url {path} with every query"),
            Scope::Fetches => f.write_str("what is being fetched"),
        }
    }
}

impl Scopes {
    /// The scopes of what a route stores under a target.
    pub(super) fn new(route: &str, target: &str, tags: Vec<String>) -> Scopes {
        let mut scopes = Scopes { tags: Vec::new(), names: Vec::with_capacity(4 + 2 * tags.len()) };
        scopes.names.extend([named(b'a', ""), named(b'r', route), named(b'q', target)]);
        // Without a query the target's own scope is enough: who purges a path with every query purges both.
        if let Some((path, _)) = target.split_once('?') {
            scopes.names.push(named(b'p', path));
        }
        scopes.add_tags(tags);
        scopes
    }

    /// Adds tags, with the scopes that they lie in. Those that are there already count once. Gives the names of the scopes that are new.
    pub fn add_tags(&mut self, tags: impl IntoIterator<Item = String>) -> &[ScopeName] {
        let before = self.names.len();
        for tag in tags {
            if self.tags.contains(&tag) {
                continue;
            }
            self.add(named(b't', &tag));
            for (colon, _) in tag.match_indices(':').take(COLONS_MAX) {
                self.add(named(b'u', &tag[..=colon]));
            }
            self.tags.push(tag);
        }
        &self.names[before..]
    }

    fn add(&mut self, name: ScopeName) {
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }
}

/// So many colons of a tag make prefixes that can be purged.
const COLONS_MAX: usize = 8;

impl ScopeName {
    /// Whether many responses lie in it whatever they are about: everything, a route, a beginning of tags, a watch.
    pub fn is_shared(self) -> bool {
        self.0 & SHARED != 0
    }
}

/// The bit of a name that says so.
const SHARED: u128 = 1;

fn named(kind: u8, text: &str) -> ScopeName {
    let digest: [u8; 32] = Sha256::new().chain_update([kind]).chain_update(text.as_bytes()).finalize().into();
    let hash = u128::from_be_bytes(*digest.first_chunk().expect("SHA-256 has 32 octets"));
    let shared = if matches!(kind, b'a' | b'r' | b'u' | b'w') { SHARED } else { 0 };
    ScopeName(hash & !SHARED | shared)
}

impl fmt::Display for ScopeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ScopeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeName({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_tag_or_the_beginning_of_tags() {
        let check = |pattern: &str, expected: Option<Scope>| assert_eq!(Scope::of_tag_pattern(pattern), expected, "{pattern}");
        check("customers", Some(Scope::Tag("customers".into())));
        check("customer:42", Some(Scope::Tag("customer:42".into())));
        check("customer:*", Some(Scope::TagsUnder("customer:".into())));
        check("eu:customer:*", Some(Scope::TagsUnder("eu:customer:".into())));
        for wrong in ["", "*", "cust*", "customer:4*", "*:42", "a:*:b", "customer:**", "a:b:c:d:e:f:g:h:i:*"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_response_lies_in_every_scope_that_can_purge_it_and_in_no_other() {
        let scopes = Scopes::new("customer", "/c/42?x=1", vec!["eu:customer:42".into(), "eu:vip".into(), "eu:vip".into()]);
        let lies_in = |scope: Scope| scopes.names.contains(&scope.name());
        let of = |pattern: &str| Scope::of_tag_pattern(pattern).unwrap();
        assert!(lies_in(Scope::All) && lies_in(Scope::Route("customer".into())));
        assert!(lies_in(Scope::Target("/c/42?x=1".into())) && lies_in(Scope::Path("/c/42".into())));
        for pattern in ["eu:customer:42", "eu:vip", "eu:*", "eu:customer:*"] {
            assert!(lies_in(of(pattern)), "{pattern}");
        }
        for pattern in ["eu", "eu:customer", "customer:*", "eu:customer:4", "eu:vip:*", "customer", "/c/42"] {
            assert!(!lies_in(of(pattern)), "{pattern}");
        }
        assert!(!lies_in(Scope::Target("/c/42".into())) && !lies_in(Scope::Route("eu:vip".into())));
        assert_eq!(scopes.tags, ["eu:customer:42", "eu:vip"]);
        assert_eq!(scopes.names.len(), 8);
    }

    #[test]
    fn a_name_tells_whether_many_share_it() {
        for scope in [Scope::All, Scope::Route("r".into()), Scope::TagsUnder("a:".into()), Scope::Fetches] {
            assert!(scope.name().is_shared(), "{scope}");
        }
        for scope in [Scope::Tag("a:b".into()), Scope::Target("/a".into()), Scope::Path("/a".into())] {
            assert!(!scope.name().is_shared(), "{scope}");
        }
    }

    #[test]
    fn a_target_without_a_query_has_one_scope() {
        let names = Scopes::new("r", "/a", Vec::new()).names;
        assert_eq!(names, [Scope::All.name(), Scope::Route("r".into()).name(), Scope::Target("/a".into()).name()]);
    }
}
