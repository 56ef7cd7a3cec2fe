//! The `sidecache` command; what it does is in the library's `cli`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, of which each stays whole for the sake of the last piece in it: an idle connection takes half
    // as much again, and so do many small responses (`cargo bench --bench memory`). Without them everything works.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    sidecache::cli::main()
}
