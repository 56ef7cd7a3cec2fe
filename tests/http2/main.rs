//! HTTP/2 from clients, in raw frames: what no library would send.
//!
//! | file | what |
//! |---|---|
//! | `frames` | a client of frames, and the octets of each |
//! | `translation` | requests that are malformed, or would be two to an HTTP/1.1 origin |

#[path = "../world/mod.rs"]
mod world;

mod frames;
mod translation;
