//! What a purge costs, and that it costs the same however much it purges: `cargo bench --bench purge`.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use sidecache::clock::Clock;
use sidecache::rules::{CacheKey, Scope, Scopes};
use sidecache::semantics::vary::Selection;
use sidecache::semantics::{Lifetime, Source, StoredHead, Terms, Times};
use sidecache::stats::Stats;
use sidecache::store::{MemoryOptions, Options, Store, StoredResponse};
use sidecache::tasks::Tasks;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// A memory tier with so many responses under one tag.
fn stored(runtime: &Runtime, number: u32) -> Arc<Store> {
    let options = Options { memory: MemoryOptions { bytes_max: 8 << 30 }, ..Options::default() };
    let store = Store::open(options, Arc::new(Stats::new()), Tasks::default(), Clock::system());
    let now = SystemTime::now();
    let mut scopes = Scopes::default();
    scopes.add_tags(["customer:all".to_owned()]);
    let held = runtime.block_on(store.hold(&scopes, &mut store.budget()));
    for id in 0..number {
        let times = Times { requested: now, received: now };
        let lifetime = Lifetime { duration: Duration::from_secs(3600), source: Source::Rule };
        let head = StoredHead::new(StatusCode::OK, HeaderMap::new(), times, Terms::plain(lifetime), Selection::empty());
        let key = CacheKey::from_parts(&id.to_be_bytes());
        let response = StoredResponse { key, head, body: Bytes::from_static(b"{}"), tags: Box::default(), held: held.clone() };
        store.insert(response, None);
    }
    assert_eq!(store.snapshot().memory_keys, number as usize, "all of them are kept");
    store
}

/// One purge of a tag that so many stored responses carry.
#[divan::bench(args = [1, 1_000, 1_000_000])]
fn tag(bencher: divan::Bencher<'_, '_>, number: u32) {
    let runtime = Builder::new_current_thread().build().expect("a runtime can be had");
    let store = stored(&runtime, number);
    let scopes = [Scope::Tag("customer:all".to_owned())];
    bencher.bench_local(|| runtime.block_on(store.purge(&scopes, false, None)));
}
