//! The routes of the model's histories, in words that neither the model nor the code under test has. All of them trust the origin's
//! `Vary`, as the RFC does.

/// What an operator may say of a route, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteSpec {
    /// `None` on a standard route.
    pub(super) ttl: Option<u64>,
    pub(super) overrides: bool,
    pub(super) ttl_by_status: &'static [(u16, u64)],
    pub(super) stale_while_revalidate: u64,
    pub(super) stale_if_error: u64,
    pub(super) ignores_request_directives: bool,
    pub(super) is_for_everyone: bool,
    pub(super) strips_set_cookie: bool,
}

const STANDARD: RouteSpec = RouteSpec {
    ttl: None,
    overrides: false,
    ttl_by_status: &[],
    stale_while_revalidate: 0,
    stale_if_error: 0,
    ignores_request_directives: false,
    is_for_everyone: false,
    strips_set_cookie: false,
};

const RULE: RouteSpec = RouteSpec { ttl: Some(60), ..STANDARD };

pub(super) const ROUTES: [RouteSpec; 7] = [
    STANDARD,
    RULE,
    RouteSpec { overrides: true, ..RULE },
    RouteSpec { ttl_by_status: &[(404, 30), (500, 10), (302, 20)], stale_while_revalidate: 20, stale_if_error: 90, ..RULE },
    RouteSpec { ignores_request_directives: true, is_for_everyone: true, strips_set_cookie: true, ..RULE },
    RouteSpec { ttl_by_status: &[(404, 30)], overrides: true, stale_if_error: 600, ..RULE },
    RouteSpec { stale_while_revalidate: 30, stale_if_error: 30, strips_set_cookie: true, is_for_everyone: true, ..STANDARD },
];
