//! RFC 9110 and 9111 as functions of header fields and time: no I/O, no clock, no lock.
//!
//! Fields are parsed once, when a response is stored; deciding about a hit compares numbers.
//!
//! | section | what | file |
//! |---|---|---|
//! | RFC 9110 §5.6.1, §5.6.4 | lists with quoted strings | `list`, private |
//! | RFC 9110 §5.6.7 | dates | [`date`] |
//! | RFC 9110 §7.6 | hop-by-hop fields; the kinds of request fields | [`fields`] |
//! | RFC 9110 §13, RFC 9111 §3.2, §4.3 | conditional requests, validating, freshening | [`conditional`] |
//! | RFC 9111 §3 | what may be stored | [`storage`] |
//! | RFC 9111 §4.1 | `Vary` | [`vary`] |
//! | RFC 9111 §4.2.1, §4.2.2 | freshness lifetime | [`freshness`] |
//! | RFC 9111 §4.2.3 | age | [`age`] |
//! | RFC 9111 §4.2 | a stored response's head: fresh or stale | [`stored`] |
//! | RFC 9111 §5.2, §5.4 | `Cache-Control`, `Pragma` | [`directives`] |
//! | RFC 9211 | `Cache-Status` | [`cache_status`] |
//! | RFC 9875 | `Cache-Groups`, and other fields that name tags | [`tagging`] |

pub mod age;
pub mod cache_status;
pub mod conditional;
pub mod date;
pub mod directives;
pub mod fields;
pub mod freshness;
mod list;
pub mod storage;
pub mod stored;
pub mod tagging;
pub mod vary;

pub use cache_status::Forward;
pub use freshness::{Lifetime, Source};
pub use stored::{StoredHead, Times};
