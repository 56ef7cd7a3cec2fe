//! What clients can do to the sidecar: leave at any moment, read slowly, send slowly, come in great numbers; and what it
//! costs. And what the machine can do: have its clock jump.
//!
//! | file | what |
//! |---|---|
//! | `aborts` | clients that leave, ten thousand of them, at random moments |
//! | `clocks` | clocks that jump |
//! | `idle` | clients that are silent for a while |
//! | `many` | clients in great numbers |
//! | `panics` | panics of our own |
//! | `slow` | clients that read slowly, or not at all |
//! | `program` | the program as a process of its own, to measure it |

#[path = "../world/mod.rs"]
mod world;

mod aborts;
mod clocks;
mod idle;
mod many;
mod panics;
mod program;
mod slow;

use tokio::sync::{Mutex, MutexGuard};

/// Tests that measure this process, where all of them run in one, take turns.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}
