//! That a backend's owner would not notice the proxy: requests and responses come through as they were sent.

#[path = "../world/mod.rs"]
mod world;

mod addresses;
mod failures;
mod fields;
mod interim;
mod messages;
mod origins;
mod races;
mod targets;
mod upgrades;
