//! A mounted account without a kernel and without a server: a model IMAP server behind the channel of requests, and
//! what walks the file system that stands on it.

// Each test binary uses a part of it.
#![allow(dead_code, unused_imports, missing_docs, clippy::unwrap_used)]

mod answer;
pub mod change;
pub mod lies;
pub mod message;
pub mod server;
pub mod walk;

pub use lies::Lies;
pub use server::{Exchange, Server};
pub use walk::Mounted;

/// Numbers that look random, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}
