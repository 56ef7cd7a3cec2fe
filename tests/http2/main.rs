//! HTTP/2 from clients, in raw frames: what no library would send.
//!
//! | file | what |
//! |---|---|
//! | `frames` | a client of frames, and the octets of each |
//! | `translation` | requests that are malformed, or would be two to an HTTP/1.1 origin |
//! | `floods` | a hundred thousand frames of each kind, beside clients that only want their hits |
//! | `stalls` | what was begun and does not go on |
//! | `conformance` | what RFC 9113 and RFC 7541 demand, in the order of their sections |

#[path = "../world/mod.rs"]
mod world;

mod conformance;
mod floods;
mod frames;
#[path = "../clients/program.rs"]
#[expect(dead_code, reason = "a part of it is used here")]
mod program;
mod stalls;
mod translation;
