//! Who is given what was fetched for whom, and what one request can make all others see.

#[path = "../world/mod.rs"]
mod world;

mod gateways;
mod inputs;
mod sharing;
mod tokens;
mod users;
