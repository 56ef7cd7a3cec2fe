#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, which counts what it is asked for.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What decoding and encoding may ask for beside a multiple of the value's length.
const FIXED: usize = 64 << 10;
const FACTOR: usize = 64;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let before = ASKED.load(Ordering::Relaxed);
    sidecache_fuzz::record(octets);
    let asked = ASKED.load(Ordering::Relaxed) - before;
    assert!(asked <= FIXED + FACTOR * octets.len(), "{asked} octets for a value of {}", octets.len());
});
