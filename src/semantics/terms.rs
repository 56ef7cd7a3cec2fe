//! On which terms a response is stored: how long it is fresh, and what it may still be used for when it is stale
//! (RFC 9111 §3.5, §4.2.4, §5.2.2; RFC 5861).

use super::directives::ResponseDirectives;
use super::{Lifetime, Source};
use std::time::Duration;

/// What a response and its route say about the use of what is stored, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How long it is fresh (§4.2.1).
    pub lifetime: Lifetime,
    /// The response itself allows to answer requests with credentials (§3.5).
    pub shareable: bool,
    /// `no-cache`: never reused without validation (§5.2.2.4).
    pub must_validate: bool,
    /// Nothing forbids to reuse it when it is stale (§4.2.4): no `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache`.
    pub may_be_stale: bool,
    /// For how long after its lifetime it answers while a new one is fetched (RFC 5861 §3).
    pub while_revalidating: Duration,
    /// For how long after its lifetime it answers in the stead of an error (RFC 5861 §4).
    pub if_error: Duration,
    /// For how long after its lifetime it answers in the stead of an origin that does not (§4.2.4).
    pub if_unreachable: Duration,
}

/// What a route says about stale responses, for those that say nothing themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Staleness {
    /// See [`Terms::while_revalidating`].
    pub while_revalidating: Duration,
    /// See [`Terms::if_error`].
    pub if_error: Duration,
    /// See [`Terms::if_unreachable`].
    pub if_unreachable: Duration,
}

impl Terms {
    /// The terms of a response of this lifetime.
    ///
    /// Where directives contradict each other, the one that reuses less counts (§4.2.1): `s-maxage`, which means
    /// `proxy-revalidate` too (§5.2.2.10), goes before a `stale-while-revalidate` beside it.
    pub fn new(lifetime: Lifetime, said: &ResponseDirectives, route: &Staleness) -> Terms {
        let must_not_be_stale = said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some() || said.no_cache;
        let unless_forbidden = |duration: Duration| if must_not_be_stale { Duration::ZERO } else { duration };
        let if_error = said.stale_if_error.unwrap_or(route.if_error);
        Terms {
            lifetime,
            shareable: said.public || said.must_revalidate || said.s_maxage.is_some(),
            // A rule that overrides the response's own freshness overrides this part of it, too.
            must_validate: said.no_cache && lifetime.source != Source::Rule,
            may_be_stale: !must_not_be_stale,
            while_revalidating: unless_forbidden(said.stale_while_revalidate.unwrap_or(route.while_revalidating)),
            if_error: unless_forbidden(if_error),
            // What was meant to live for seconds is not kept for minutes.
            if_unreachable: unless_forbidden(route.if_unreachable.min(lifetime.duration).max(if_error)),
        }
    }

    /// The terms of a response that says nothing but its lifetime.
    pub fn plain(lifetime: Lifetime) -> Terms {
        Terms::new(lifetime, &ResponseDirectives::default(), &Staleness::default())
    }

    /// For how long after its lifetime it may be of use, whatever happens.
    pub fn usable_when_stale(&self) -> Duration {
        self.while_revalidating.max(self.if_error).max(self.if_unreachable)
    }
}

#[cfg(test)]
mod tests {
    use super::super::directives;
    use super::*;
    use http::HeaderMap;

    const ROUTE: Staleness = Staleness {
        while_revalidating: Duration::from_secs(5),
        if_error: Duration::from_secs(20),
        if_unreachable: Duration::from_secs(10),
    };

    #[test]
    fn nothing_stands_in_for_longer_than_it_was_fresh_unless_somebody_says_so() {
        let check = |lifetime: u64, cache_control: &str, expected: u64| {
            let lifetime = Lifetime { duration: Duration::from_secs(lifetime), source: Source::MaxAge };
            let fields: HeaderMap = [(http::header::CACHE_CONTROL, cache_control.parse().unwrap())].into_iter().collect();
            let route = Staleness { if_error: Duration::ZERO, ..ROUTE };
            let terms = Terms::new(lifetime, &directives::response(&fields), &route);
            assert_eq!(terms.if_unreachable.as_secs(), expected, "{lifetime:?} {cache_control}");
        };
        check(60, "", 10);
        check(3, "", 3);
        check(0, "", 0);
        check(3, "stale-if-error=30", 30);
    }

    fn terms(cache_control: &str, source: Source) -> Terms {
        let fields: HeaderMap = [(http::header::CACHE_CONTROL, cache_control.parse().unwrap())].into_iter().collect();
        Terms::new(Lifetime { duration: Duration::from_secs(60), source }, &directives::response(&fields), &ROUTE)
    }

    #[test]
    fn what_must_be_revalidated_is_never_served_stale() {
        // §4.2.4
        let check = |line: &str, seconds: [u64; 3]| {
            let terms = terms(line, Source::Rule);
            let stale = [terms.while_revalidating, terms.if_error, terms.if_unreachable].map(|duration| duration.as_secs());
            assert_eq!((stale, terms.may_be_stale), (seconds, seconds != [0; 3]), "{line}");
        };
        check("max-age=60", [5, 20, 20]);
        check("stale-while-revalidate=7", [7, 20, 20]);
        check("stale-if-error=7", [5, 7, 10]);
        check("stale-if-error=0, stale-while-revalidate=0", [0, 0, 10]);
        check("stale-while-revalidate=x", [0, 20, 20]);
        for forbidding in ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"] {
            check(forbidding, [0; 3]);
            check(&format!("{forbidding}, stale-while-revalidate=9, stale-if-error=9"), [0; 3]);
        }
    }

    #[test]
    fn what_a_response_allows_is_decided_once() {
        let check = |line: &str, source: Source, shareable: bool, must_validate: bool| {
            let terms = terms(line, source);
            assert_eq!((terms.shareable, terms.must_validate), (shareable, must_validate), "{line} {source:?}");
        };
        check("", Source::Rule, false, false);
        check("max-age=60", Source::MaxAge, false, false);
        check("public", Source::Rule, true, false); // §3.5
        check("must-revalidate", Source::Rule, true, false);
        check("s-maxage=60", Source::SMaxAge, true, false);
        check("proxy-revalidate", Source::Rule, false, false);
        check("no-cache", Source::NoCache, false, true); // §5.2.2.4
        check("no-cache, max-age=60", Source::MaxAge, false, true);
        check("no-cache", Source::Rule, false, false);
        check("no-cache=\"a\"", Source::MaxAge, false, false);
    }

    #[test]
    fn a_plain_response_is_of_no_use_when_it_is_stale() {
        let terms = Terms::plain(Lifetime { duration: Duration::from_secs(60), source: Source::MaxAge });
        assert_eq!((terms.may_be_stale, terms.usable_when_stale()), (true, Duration::ZERO));
    }
}
