//! File descriptors: how many the process may have, and how many of them are for whom.
//!
//! A process that has none left can neither accept nor connect nor be asked why. So there are never more connections than there are
//! descriptors for: those of clients and those to the origin share what is there, and operators and Redis have theirs apart.

use super::Options;
use crate::origin;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Too few descriptors for what was asked for, and what there is instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scarce {
    /// Descriptors that the process may have.
    pub limit: u64,
    /// Connections of clients.
    pub connections_max: usize,
    /// Requests to the origin at once, which need a connection each.
    pub requests_max: usize,
}

/// Raises the limit as far as the process may by itself: the lower of the two that the system keeps is a default of old.
pub fn raise() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is not permitted, what there is has to do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Brings what may be open at once below what the process may have; `None` if it is anyway.
pub fn fit(clients: &mut Options, origin: &mut origin::Options) -> Option<Scarce> {
    let limit = getrlimit(Resource::Nofile).current?;
    fit_to(limit, clients, origin)
}

fn fit_to(limit: u64, clients: &mut Options, origin: &mut origin::Options) -> Option<Scarce> {
    let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(OTHERS + OPERATORS_MAX);
    if clients.connections_max.saturating_add(origin.connections_max()) <= room {
        return None;
    }
    // Most of what clients ask for needs no connection to the origin, or shares one: a third is for that.
    origin.requests_max = origin.requests_max.min(room / 4).max(1);
    origin.idle_connections_max = origin.idle_connections_max.min(room / 12 / origin.pools());
    clients.connections_max = clients.connections_max.min(room.saturating_sub(origin.connections_max())).max(1);
    Some(Scarce { limit, connections_max: clients.connections_max, requests_max: origin.requests_max })
}

/// Connections of operators at once.
pub(super) const OPERATORS_MAX: usize = 32;

/// What else is open: sockets that listen, Redis, the runtime's own, files that are read, and connections that end while others begin.
const OTHERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_as_many_as_there_are_descriptors_for() {
        let check = |limit, wanted: (usize, usize), expected: Option<(usize, usize)>| {
            let (connections_max, requests_max) = wanted;
            let mut clients = Options { connections_max, ..Options::default() };
            let mut origin = origin::Options { requests_max, ..origin::Options::default() };
            let scarce = fit_to(limit, &mut clients, &mut origin);
            assert_eq!(scarce.map(|scarce| (scarce.connections_max, scarce.requests_max)), expected, "{limit} for {wanted:?}");
            assert_eq!((clients.connections_max, origin.requests_max), expected.unwrap_or(wanted), "{limit} for {wanted:?}");
            assert!(scarce.is_none() || limit < 200 || clients.connections_max + origin.connections_max() + 64 <= limit as usize);
        };
        check(1 << 20, (10_000, 256), None);
        check(10_448, (10_000, 256), None);
        check(10_447, (10_000, 256), Some((9_999, 256)));
        check(1024, (10_000, 256), Some((640, 240)));
        check(256, (10_000, 256), Some((128, 48)));
        check(256, (50, 300), Some((50, 48)));
        check(100, (10_000, 256), Some((25, 9)));
        check(64, (10_000, 256), Some((1, 1)));
        check(0, (10_000, 256), Some((1, 1)));
    }
}
