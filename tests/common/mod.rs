//! What the tests stand on: private servers, an IMAP client that is not the program's own, mounts, faults and mail.

// Each test binary uses a part of it.
#![allow(dead_code, unused_imports, missing_docs, clippy::unwrap_used)]

mod connection;
pub mod corpus;
pub mod faults;
pub mod imap;
pub mod judge;
pub mod load;
pub mod mount;
pub mod proxy;
pub mod server;

pub use imap::Imap;
pub use mount::Mount;
pub use server::{Account, Security, Server};

use std::time::{Duration, Instant};

/// Waits until `probe` answers something: asks every few milliseconds, `None` after `limit`.
pub fn wait_for<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
