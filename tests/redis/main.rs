//! The tier that replicas share, and what its troubles come to.

#[path = "../world/mod.rs"]
mod world;

mod neighbours;
mod outages;
mod sharing;
mod values;
