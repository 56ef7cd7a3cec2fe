//! That a backend's owner would not notice the proxy: requests and responses come through as they were sent.

#[path = "../world/mod.rs"]
mod world;

mod addresses;
mod broken;
mod failures;
mod fields;
mod heads;
mod interim;
mod links;
mod messages;
mod origins;
mod outages;
mod races;
mod targets;
mod upgrades;
