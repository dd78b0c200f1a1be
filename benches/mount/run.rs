//! What one run of a row took, and what that is held against.

use crate::cost::Cost;

/// What a run came to, or why it failed.
pub type Outcome = Result<Run, String>;

/// What the mount is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The bare pipelined IMAP client.
    Bare,
    /// mbsync, and then the same tool.
    Sync,
    /// A FUSE file system in memory.
    Memory,
    /// A directory on disk.
    Disk,
}

pub const SIDES: [(Side, &str); 4] =
    [(Side::Bare, "bare IMAP"), (Side::Sync, "mbsync"), (Side::Memory, "memory fs"), (Side::Disk, "disk")];

/// What one run of a row took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    pub mount: Cost,
    /// By [`Side`].
    pub others: [Option<Cost>; 4],
    /// Things that were done, where a goal is about each.
    pub count: u64,
}

impl Run {
    pub fn new(mount: Cost) -> Run {
        Run { mount, others: [None; 4], count: 1 }
    }

    pub fn against(mut self, side: Side, cost: Cost) -> Run {
        self.others[side as usize] = Some(cost);
        self
    }
}
