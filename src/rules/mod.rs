//! What the operator asked for: which requests the cache may answer, under which key, and for how long.
//!
//! | file | what |
//! |---|---|
//! | `route` | one `[[route]]` of the configuration, as values that cannot be wrong |
//! | `pattern` | path patterns, `{id}` and `{*rest}` |
//! | `target` | the normal form of a path, and which query parameters count |
//! | `authority` | which values of `Host` name a host |
//! | `tags` | tag templates such as `customer:{id}` |
//! | `scope` | what can be purged at once |
//! | `key` | the cache key |
//! | `identity` | who asks, as far as single cookies and tokens tell |
//! | `token` | tokens whose claims say who asks |
//! | `shown` | what a request that fills the cache shows the origin |
//! | `admit` | the decision whether a request may use the cache at all |
//! | `reasons` | which fields of a request make a rule decide as it does |

mod admit;
pub mod authority;
mod identity;
mod key;
mod pattern;
mod reasons;
mod route;
mod scope;
mod shown;
mod tags;
mod target;
mod token;

pub use admit::{Admission, Admitted, Bypass, Content, Forwarding, RuleSet};
pub use key::{CacheKey, KeyParts, KeyedRequest, Secret};
pub use pattern::{Pattern, PatternError};
pub use reasons::Filled;
pub use route::{Caching, Collapse, Route, RouteConflict, Share, Unkeyed};
pub use scope::{Scope, ScopeName, Scopes, watch};
pub use shown::{Told, Unnamed};
pub use tags::{Source as TagSource, TagError, TagTemplate};
pub use target::QueryRule;
pub use token::{TokenOptions, Verifier};
