#![no_main]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| sidecache_fuzz::lines(octets));
