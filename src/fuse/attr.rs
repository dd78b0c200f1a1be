//! The attributes of a node as the kernel wants them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};

use super::Options;
use crate::fs::{Attr, Kind};

/// What all entries of a mount have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    uid: u32,
    gid: u32,
    /// Permission bits that no entry has.
    masked: u16,
}

impl Look {
    /// The look that the user asked for.
    pub(super) fn new(options: &Options) -> Self {
        let writing = if options.read_only { 0o222 } else { 0 };
        Look { uid: options.uid, gid: options.gid, masked: options.umask | writing }
    }

    /// The kernel's form of `attr`.
    pub(super) fn attr(&self, attr: &Attr) -> FileAttr {
        let time = time(attr.mtime_nanos);
        FileAttr {
            ino: INodeNo(attr.ino.0),
            size: attr.size,
            blocks: attr.size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: file_type(attr.kind),
            perm: attr.perm & 0o777 & !self.masked,
            // Also for directories: "1" tells find(1) and fts(3) that subdirectories are not counted here.
            nlink: 1,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// The kernel's word for what an entry is.
pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
    }
}

/// Mail is not older than 1970 nor younger than what 63 bits of seconds can say, whatever its date claims: clamped.
fn time(nanos: i128) -> SystemTime {
    let nanos = nanos.clamp(0, i128::from(i64::MAX));
    UNIX_EPOCH + Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::node::Ino;

    fn look(umask: u16, read_only: bool) -> Look {
        Look::new(&Options { uid: 7, gid: 8, umask, read_only, ..Options::default() })
    }

    fn attr() -> Attr {
        Attr { ino: Ino(42), kind: Kind::File, size: 513, mtime_nanos: 1_500_000_000, perm: 0o600 }
    }

    #[test]
    fn an_entry_belongs_to_the_mounting_user_and_has_one_link() {
        let found = look(0o077, false).attr(&attr());
        assert_eq!((found.ino, found.uid, found.gid, found.nlink, found.rdev), (INodeNo(42), 7, 8, 1, 0));
        assert_eq!(found.mtime, UNIX_EPOCH + Duration::from_millis(1500));
        assert_eq!((found.atime, found.ctime), (found.mtime, found.mtime));
    }

    #[test]
    fn blocks_are_of_512_octets_and_rounded_up() {
        for (size, blocks) in [(0, 0), (1, 1), (512, 1), (513, 2), (u64::MAX, u64::MAX / 512 + 1)] {
            assert_eq!(look(0, false).attr(&Attr { size, ..attr() }).blocks, blocks, "{size}");
        }
    }

    #[test]
    fn umask_and_read_only_take_permissions_away() {
        let cases = [
            (0o700, 0o000, false, 0o700),
            (0o700, 0o077, false, 0o700),
            (0o700, 0o277, false, 0o500),
            (0o700, 0o000, true, 0o500),
            (0o600, 0o000, true, 0o400),
            (0o7600, 0o000, false, 0o600),
        ];
        for (perm, umask, read_only, expected) in cases {
            let found = look(umask, read_only).attr(&Attr { perm, ..attr() }).perm;
            assert_eq!(found, expected, "{perm:o} less {umask:o}, read-only: {read_only}");
        }
    }

    #[test]
    fn times_out_of_reach_are_clamped() {
        assert_eq!(time(-1), UNIX_EPOCH);
        assert_eq!(time(i128::MIN), UNIX_EPOCH);
        assert_eq!(time(i128::MAX), UNIX_EPOCH + Duration::from_nanos(i64::MAX as u64));
    }
}
