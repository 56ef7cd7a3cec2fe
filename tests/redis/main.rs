//! The tier that replicas share, and what its troubles come to.

#[path = "../world/mod.rs"]
mod world;

mod clusters;
mod known;
mod neighbours;
mod outages;
mod sentinels;
mod sharing;
mod values;
