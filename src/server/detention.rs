//! Clients of HTTP/2 that were thrown out, for what they did on their connections.
//!
//! Such a connection stays open for a moment, and nothing is read from it: whoever floods, is thrown out and comes again as soon as his
//! connection is closed has to wait for that. Whoever does not, has his next ones wait: while some floods from his address are detained, or a
//! great many who broke the protocol otherwise, a connection of HTTP/2 from there is not begun with, so that each that he opens costs him a
//! second. Others wait for nobody; those at the same address for a second at most, and only if they open a connection of HTTP/2 meanwhile.

use std::collections::HashMap;
use std::error::Error;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Those that are detained.
#[derive(Default)]
pub(super) struct Detention {
    /// By their network, and how much they weigh.
    detained: Mutex<HashMap<IpAddr, usize>>,
    released: Notify,
}

/// One that is detained, until it is dropped.
pub(super) struct Detained<'a> {
    detention: &'a Detention,
    from: IpAddr,
    weight: usize,
}

impl Detention {
    /// Detains who was thrown out: for a flood, or for something else.
    pub(super) fn detain(&self, address: IpAddr, is_flood: bool) -> Detained<'_> {
        let weight = if is_flood { FLOOD_WEIGHS } else { 1 };
        let from = network(address);
        *self.detained().entry(from).or_default() += weight;
        Detained { detention: self, from, weight }
    }

    /// Waits while several from this address are detained, for no longer than one of them is.
    pub(super) async fn admits(&self, address: IpAddr) {
        let from = network(address);
        let fewer = async {
            loop {
                let mut released = std::pin::pin!(self.released.notified());
                released.as_mut().enable();
                if self.weight(from) < WEIGHT_MAX {
                    return;
                }
                released.await;
            }
        };
        if self.weight(from) >= WEIGHT_MAX {
            let _ = tokio::time::timeout(DETAINED_FOR, fewer).await;
        }
    }

    fn weight(&self, from: IpAddr) -> usize {
        self.detained().get(&from).copied().unwrap_or_default()
    }

    fn detained(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.detained.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Detained<'_> {
    fn drop(&mut self) {
        let mut detained = self.detention.detained();
        if let Some(weight) = detained.get_mut(&self.from) {
            *weight -= self.weight;
            if *weight == 0 {
                detained.remove(&self.from);
            }
        }
        drop(detained);
        self.detention.released.notify_waiters();
    }
}

/// Whether h2 has ended a connection because its client was to calm down.
pub(super) fn is_flood(error: &hyper::Error) -> bool {
    let reason = error.source().and_then(|source| source.downcast_ref::<h2::Error>()?.reason());
    reason == Some(h2::Reason::ENHANCE_YOUR_CALM)
}

/// Whose address it is: of IPv6, everybody has a great many (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// How long a connection is kept after its client was thrown out: less than those wait for its end who know of no `GOAWAY`, and so long
/// that what can be done on the next one is next to nothing a second.
pub(super) const DETAINED_FOR: Duration = Duration::from_secs(1);

/// Those from one address weigh so much before the next from there has to wait, and a flood so much more than a client that is confused.
const WEIGHT_MAX: usize = 32;
const FLOOD_WEIGHS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn where_several_are_detained_the_next_waits() {
        let (detention, address) = (Detention::default(), "192.0.2.1".parse().unwrap());
        let floods = |number: usize| (0..number).map(|_| detention.detain(address, true)).collect::<Vec<_>>();
        let mut detained = floods(WEIGHT_MAX / FLOOD_WEIGHS - 1);
        assert!(detention.admits(address).now_or_never().is_some());
        detained.extend(floods(1));
        assert!(detention.admits("192.0.2.2".parse().unwrap()).now_or_never().is_some(), "another address");
        let mut waiting = Box::pin(detention.admits(address));
        assert!(waiting.as_mut().now_or_never().is_none());
        detained.pop();
        assert!(waiting.now_or_never().is_some(), "one of them is free");
        detained.extend((0..FLOOD_WEIGHS).map(|_| detention.detain(address, false)));
        let begun = tokio::time::Instant::now();
        detention.admits(address).await;
        assert!((DETAINED_FOR..2 * DETAINED_FOR).contains(&begun.elapsed()), "it took {:?}", begun.elapsed());
        detained.clear();
        assert_eq!(detention.detained().len(), 0);
    }

    #[test]
    fn of_ipv6_the_network_counts() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3::1"), network("2001:db8:1:2:ffff::2"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        // So a socket for both writes what is of IPv4 (RFC 4291 §2.5.5.2).
        assert_ne!(network("::ffff:192.0.2.1"), network("::ffff:192.0.2.2"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
