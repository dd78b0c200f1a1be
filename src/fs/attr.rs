//! Attributes from what is known of a node.

use std::time::{Duration, SystemTime};

use super::{Attr, Entry, Kind};
use crate::tree::node::Node;

const DIRECTORY_PERM: u16 = 0o700;
const FILE_PERM: u16 = 0o600;

/// Nanoseconds since 1970 UTC.
pub(super) fn nanos(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

/// A directory whose name and attributes hold for `ttl`.
pub(super) fn directory(node: Node, mtime_nanos: i128, ttl: Duration) -> Entry {
    let attr = Attr { ino: node.pack(), kind: Kind::Directory, size: 0, mtime_nanos, perm: DIRECTORY_PERM };
    Entry { attr, entry_ttl: ttl, attr_ttl: ttl }
}

/// A file whose name and attributes hold for `ttl`.
pub(super) fn file(node: Node, size: u64, mtime_nanos: i128, ttl: Duration) -> Entry {
    let attr = Attr { ino: node.pack(), kind: Kind::File, size, mtime_nanos, perm: FILE_PERM };
    Entry { attr, entry_ttl: ttl, attr_ttl: ttl }
}
