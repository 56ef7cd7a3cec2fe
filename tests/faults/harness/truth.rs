//! What is right: the versions of what the origin has, the oldest that may still be answered, and whether an answer is one of them.
//!
//! A body says whose it is, which version of it, and how long; and what follows depends on all three. So a body that was cut,
//! mixed with another, answered to the wrong request, or purged, is told from the right one by its octets alone.

use super::SIDECARS;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_64;

/// Something that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One of a few that are asked for all the time, and purged now and then.
    Hot(usize),
    /// One of those that only one sidecar was asked for at first, so that the other finds it in Redis.
    Pool(u64),
    /// Asked for once.
    Fresh(u64),
}

/// The versions of all targets.
pub struct Truth {
    hot: Vec<Hot>,
}

#[derive(Default)]
struct Hot {
    version: AtomicU64,
    /// For each sidecar, the version that it may not fall behind, since a purge of all that came before was acknowledged.
    floors: [AtomicU64; SIDECARS],
}

impl Target {
    pub fn path(self) -> String {
        match self {
            Target::Hot(number) => format!("/hot/{number}"),
            Target::Pool(number) => format!("/pool/{number}"),
            Target::Fresh(number) => format!("/fresh/{number}"),
        }
    }

    /// The tag that the sidecars give to it, by the route.
    pub fn tag(self) -> String {
        self.path()[1..].replace('/', ":")
    }

    pub fn of(path: &str) -> Option<Target> {
        let (kind, number) = path.strip_prefix('/')?.split_once('/')?;
        match kind {
            "hot" => number.parse().ok().map(Target::Hot),
            "pool" => number.parse().ok().map(Target::Pool),
            "fresh" => number.parse().ok().map(Target::Fresh),
            _ => None,
        }
    }
}

impl Truth {
    pub fn new(hot: usize) -> Truth {
        Truth { hot: (0..hot).map(|_| Hot::default()).collect() }
    }

    pub fn hot(&self) -> usize {
        self.hot.len()
    }

    /// The version that the origin has.
    pub fn version(&self, target: Target) -> u64 {
        match target {
            Target::Hot(number) => self.hot[number].version.load(Ordering::SeqCst),
            _ => 0,
        }
    }

    /// Gives the origin a new version.
    pub fn renew(&self, hot: usize) -> u64 {
        self.hot[hot].version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// From now on, a sidecar may not answer with an older version.
    pub fn purged(&self, sidecar: usize, hot: usize, version: u64) {
        self.hot[hot].floors[sidecar].fetch_max(version, Ordering::SeqCst);
    }

    /// The oldest version that a sidecar may answer to a request that is sent now.
    pub fn floor(&self, sidecar: usize, target: Target) -> u64 {
        match target {
            Target::Hot(number) => self.hot[number].floors[sidecar].load(Ordering::SeqCst),
            _ => 0,
        }
    }

    /// Says what is wrong with a body, if anything is. `floor` was read before its request was sent.
    pub fn judge(&self, target: Target, floor: u64, got: &[u8]) -> Result<(), String> {
        let path = target.path();
        let line = got.split(|octet| *octet == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        let (Some(named), Some(Ok(version))) = (words.next(), words.next().map(str::parse::<u64>)) else {
            return Err(format!("wrong body: {} octets that are none of ours", got.len()));
        };
        if named != path {
            return Err(format!("wrong body: that of {named}"));
        }
        if *got != body(&path, version)[..] {
            return Err(format!("wrong body: {} octets, not all of them its own", got.len()));
        }
        if version < floor {
            return Err(format!("purged: version {version}, though {floor} was acknowledged"));
        }
        if version > self.version(target) {
            return Err(format!("wrong body: version {version}, which never was"));
        }
        Ok(())
    }
}

/// What the origin answers: a line that says what it is, and letters that no other target and version has.
pub fn body(path: &str, version: u64) -> Vec<u8> {
    let hash = xxh3_64(path.as_bytes());
    let length = if hash.is_multiple_of(16) { LARGE } else { SMALL + (hash % 4096) as usize };
    let mut body = format!("{path} {version} {length}\n").into_bytes();
    let start = (hash ^ version.wrapping_mul(0x9e37_79b9_7f4a_7c15)) as usize;
    body.extend((0..length).map(|place| b'a' + ((start.wrapping_add(place * 7) ^ (place >> 5)) % 26) as u8));
    body
}

/// Filler of most bodies, and of some: more than a segment on the way, less than the limits of the tiers.
const SMALL: usize = 200;
const LARGE: usize = 48 << 10;
