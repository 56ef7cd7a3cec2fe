//! RFC 9110 and 9111 as functions of header fields and time: no I/O, no clock, no lock.
//!
//! Fields are parsed once, when a response is stored; deciding about a hit compares numbers.
//!
//! | section | what | file |
//! |---|---|---|
//! | RFC 9110 §5.6.1, §5.6.4 | lists with quoted strings | `list`, private |
//! | RFC 9651 | structured fields | `structured`, private |
//! | RFC 9110 §5.6.7 | dates | [`date`] |
//! | RFC 9110 §7.6 | hop-by-hop fields; the kinds of request fields | [`fields`] |
//! | RFC 9110 §14, RFC 9111 §3.3, §3.4 | ranges, and parts of representations | [`range`] |
//! | RFC 9110 §13, RFC 9111 §3.2, §4.3 | conditional requests, validating, freshening | [`conditional`] |
//! | RFC 9111 §4.1, §4.3.1 | variants that the origin can be asked about | [`candidates`] |
//! | RFC 9111 §3 | what may be stored | [`storage`] |
//! | RFC 9111 §4.1 | `Vary` | [`vary`] |
//! | RFC 9110 §8.5, §12.5.4 | the languages that a request wants most | `language`, private |
//! | RFC 9110 §12.4.2, §12.5 | lists whose members have weights | `weighted`, private |
//! | No-Vary-Search (draft) | which parts of a query make no difference | [`no_vary_search`] |
//! | RFC 9111 §4.2.1, §4.2.2 | freshness lifetime | [`freshness`] |
//! | RFC 9111 §4.2.3 | age | [`age`] |
//! | RFC 9111 §4.2.4, RFC 5861 | what may be done with a stored response | [`terms`] |
//! | RFC 9111 §4.4 | what a request that changes something makes invalid | [`invalidation`] |
//! | RFC 9111 §4.2 | a stored response's head: fresh or stale | [`stored`] |
//! | RFC 9111 §5.2, §5.4, RFC 9213 | `Cache-Control`, its targeted relatives, `Pragma` | [`directives`] |
//! | RFC 9211 | `Cache-Status` | [`cache_status`] |
//! | | refreshing before the end | [`early`] |
//! | | the fields of a stored response, in little memory | `words`, private |
//! | RFC 9875 | `Cache-Groups`, and other fields that name tags | [`tagging`] |

pub mod age;
pub mod cache_status;
pub mod candidates;
pub mod conditional;
pub mod date;
pub mod directives;
pub mod early;
pub mod fields;
pub mod freshness;
pub mod invalidation;
mod language;
mod list;
pub mod no_vary_search;
pub mod range;
pub mod storage;
pub mod stored;
mod structured;
pub mod tagging;
pub mod terms;
pub mod vary;
mod weighted;
mod words;

pub use cache_status::Forward;
pub use freshness::{Lifetime, Source};
pub use stored::{StoredHead, Times};
pub use terms::{Staleness, Terms};
