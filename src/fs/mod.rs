//! THE SYSCALLS. One file per verb; knows nodes and names, the account and no kernel.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::tree::node::Ino;

/// Directory or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
}

/// Attributes of a node, in file-system words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Octets that a reader gets; an over-estimate when `attr_ttl` of the entry is zero.
    pub size: u64,
    /// Modification time, nanoseconds since 1970 UTC; may be negative.
    pub mtime_nanos: i128,
    /// Permission bits before the umask of the mount: 0o700 or 0o600, less what rights take away.
    pub perm: u16,
}

/// What lookup, getattr and readdirplus tell about a node, and for how long the kernel may believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The attributes.
    pub attr: Attr,
    /// Lifetime of the name.
    pub entry_ttl: Duration,
    /// Lifetime of the attributes; zero when the size is an estimate.
    pub attr_ttl: Duration,
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name: one component.
    pub name: String,
    /// The offset to go on from after this entry.
    pub next: u64,
    /// The node.
    pub entry: Entry,
}

/// A handle of an open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// An opened file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its handle.
    pub handle: Handle,
    /// The attributes that the kernel holds may be an estimate: invalidate them before answering.
    pub invalidate: bool,
}

/// What `statfs` tells. Blocks are of 4096 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Usage {
    pub blocks: u64,
    pub free: u64,
    pub files: u64,
}

/// What the kernel must forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// The attributes of a node.
    Attr(Ino),
    /// Attributes and pages (for a directory: its cached listing).
    Data(Ino),
    /// A name in a directory.
    Entry(Ino, String),
}

/// The file system.
#[derive(Debug)]
pub struct Fs {}

#[allow(missing_docs, clippy::unused_async)] // stub
impl Fs {
    pub async fn lookup(&self, _parent: Ino, _name: &str) -> Result<Entry> {
        Err(Error::NotFound)
    }
    pub async fn getattr(&self, _ino: Ino) -> Result<Entry> {
        Err(Error::NotFound)
    }
    pub async fn open(&self, _ino: Ino, _write: bool) -> Result<Opened> {
        Err(Error::NotFound)
    }
    /// Exactly `size` octets, fewer only at the end of the file.
    pub async fn read(&self, _handle: Handle, _offset: u64, _size: u32) -> Result<Bytes> {
        Err(Error::NotFound)
    }
    pub fn release(&self, _handle: Handle) {}
    pub async fn opendir(&self, _ino: Ino) -> Result<Handle> {
        Err(Error::NotFound)
    }
    /// At most `max` entries from `offset` (0 is the start); empty at the end. `.` and `..` are among them.
    pub async fn readdir(&self, _handle: Handle, _offset: u64, _max: usize) -> Result<Vec<DirEntry>> {
        Err(Error::NotFound)
    }
    pub fn releasedir(&self, _handle: Handle) {}
    pub async fn getxattr(&self, _ino: Ino, _name: &str) -> Result<Vec<u8>> {
        Err(Error::NoAttribute)
    }
    pub async fn listxattr(&self, _ino: Ino) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    pub async fn statfs(&self) -> Result<Usage> {
        Ok(Usage::default())
    }
    /// What the kernel must forget; taken once, by the notify thread.
    pub fn invalidations(&self) -> Option<mpsc::UnboundedReceiver<Invalidation>> {
        None
    }
}
