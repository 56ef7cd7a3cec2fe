//! Purging: exact, everywhere, at once.

#[path = "../world/mod.rs"]
mod world;

mod account;
mod entries;
mod here;
mod history;
mod interface;
mod leases;
mod races;
mod replicas;
mod sweeping;
mod tagged;
mod troubles;

use sidecache::config::Config;
use sidecache::rules::{Pattern, Route, TagTemplate};
use std::time::Duration;

/// Customers and what belongs to them, tagged as in the shipped configuration.
pub(crate) fn customers(config: &mut Config) {
    config.routes = ["/customer/{id}", "/customer/{id}/risk", "/eu/{country}/customer/{id}"]
        .map(|pattern| {
            let pattern = Pattern::parse(pattern).unwrap();
            let tags = if pattern.as_str().starts_with("/eu") { vec!["eu:{country}:{id}"] } else { vec!["customer:{id}"] };
            let tags = tags.into_iter().map(|tag| TagTemplate::parse(tag, pattern.captures()).unwrap()).collect();
            let name = pattern.as_str().replace(['/', '{', '}'], "-");
            Route { tags, ..Route::new(name.trim_matches('-'), pattern, Duration::from_secs(60)) }
        })
        .into();
}
