//! What is stored, for how long, for whom, and what it answers.

#[path = "../world/mod.rs"]
mod world;

mod bodies;
mod content;
mod credentials;
mod directives;
mod early;
mod freshness;
mod head;
mod invalidation;
mod keys;
mod known;
mod parts;
mod posts;
mod queries;
mod ranges;
mod requests;
mod stale;
mod storing;
mod targeted;
mod tiers;
mod trouble;
mod validation;
mod variants;
mod withdrawn;
