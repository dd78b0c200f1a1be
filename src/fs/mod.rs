//! THE SYSCALLS. One file per verb; knows nodes and names, the account and no kernel.

mod alias;
mod attr;
mod changes;
mod commit;
mod copying;
mod getattr;
mod local;
mod local_names;
mod lookup;
mod mkdir;
mod read;
mod readdir;
mod remove;
mod rename;
mod search;
mod spool;
mod write;
mod xattr;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::account::Account;
use crate::error::{Error, Result};
use crate::mail::query::Query;
use crate::tree::message_name::Names;
use crate::tree::node::{Ino, MailboxId, Node};

pub use self::read::Closer;
pub use self::rename::Replace;
pub use self::spool::leftovers;
pub use self::write::NewAttr;
pub use self::xattr::Setting;

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
    /// The offset to go on from after this entry; see [`crate::tree::offset::Offset`].
    pub next: u64,
    /// The node.
    pub entry: Entry,
}

/// A handle of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// An opened file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its handle.
    pub handle: Handle,
    /// The attributes that the kernel holds may be an estimate: invalidate them before answering.
    pub invalidate: bool,
    /// The kernel may go on using the octets that it has.
    pub keep_cache: bool,
    /// The kernel is to tell of each close of a descriptor, also of one that only reads.
    pub flush: bool,
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
    /// Attributes and the pages of so many octets from an offset on.
    Pages(Ino, u64, u32),
    /// A name in a directory.
    Entry(Ino, String),
}

/// What this layer obeys.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How messages are named.
    pub names: Names,
    /// List the views as well.
    pub show_views: bool,
    /// The directory of the files that are being written.
    pub spool: PathBuf,
    /// Saved searches, by name.
    pub searches: Vec<(String, Arc<Query>)>,
}

/// How long the kernel may believe a message's name: what others expunge is gone from there after that time at the
/// latest, and at once when we hear of it.
const MESSAGE_TTL: Duration = Duration::from_secs(60);

/// How long the kernel may believe what can never change: the parts of a message and their exact attributes.
const IMMUTABLE_TTL: Duration = Duration::from_secs(3600);

/// The file system.
#[derive(Debug)]
pub struct Fs {
    account: Arc<Account>,
    options: Options,
    files: Mutex<HashMap<Handle, Arc<read::OpenFile>>>,
    next_handle: AtomicU64,
    invalidate: mpsc::UnboundedSender<Invalidation>,
    invalidations: Mutex<Option<mpsc::UnboundedReceiver<Invalidation>>>,
    aliases: Arc<alias::Aliases>,
    copies: copying::Copies,
    hidden: Arc<remove::Hidden>,
    locals: local::Locals,
    searches: search::Searches,
}

impl Fs {
    /// The file system of an account. Must be called inside the runtime: a task turns changes of mailboxes into
    /// invalidations.
    pub fn new(account: Arc<Account>, options: Options) -> Arc<Self> {
        let (invalidate, invalidations) = mpsc::unbounded_channel();
        let aliases = Arc::default();
        changes::watch(&account, options.names, Arc::clone(&aliases), invalidate.clone());
        Arc::new(Self {
            account,
            options,
            files: Mutex::default(),
            next_handle: AtomicU64::new(1),
            invalidate,
            invalidations: Mutex::new(Some(invalidations)),
            aliases,
            copies: copying::Copies::default(),
            hidden: Arc::default(),
            locals: local::Locals::default(),
            searches: search::Searches::default(),
        })
    }

    /// What the kernel must forget; given out once, to the notify thread.
    pub fn invalidations(&self) -> Option<mpsc::UnboundedReceiver<Invalidation>> {
        self.invalidations.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Space and messages: the quota of the account, where the server has one.
    pub async fn statfs(&self) -> Result<Usage> {
        let quota = self.account.quota().await;
        let blocks = |kib: u64| kib / 4;
        Ok(Usage {
            blocks: quota.map_or(0, |q| blocks(q.limit)),
            free: quota.map_or(0, |q| blocks(q.limit.saturating_sub(q.used))),
            files: self.account.known_messages(),
        })
    }

    /// Waits for all changes of messages that are under way. The error of the first that failed since somebody was told of
    /// one.
    pub async fn fsyncdir(&self) -> Result<()> {
        self.account.settle_changes().await
    }

    /// The same for so long at the most, when the mount ends; what was not done is logged.
    pub async fn finish(&self, within: Duration) {
        self.account.finish_changes(within).await;
    }

    /// What an inode number means now.
    fn node(&self, ino: Ino) -> Result<Node> {
        Node::unpack(ino).map(|node| self.aliases.resolve(node)).ok_or(Error::Stale)
    }

    /// The mailbox that a directory shows: `Some(None)` is the account's root, `None` no mailbox directory.
    fn mailbox_of(&self, node: Node) -> Option<Option<MailboxId>> {
        match node {
            Node::Root => Some(self.account.root()),
            Node::Mailbox(id) => Some(Some(id)),
            _ => None,
        }
    }

    /// The node of a mailbox: the root where the mount shows only that mailbox.
    fn mailbox_node(&self, id: Option<MailboxId>) -> Node {
        match id {
            Some(id) if self.account.root() != Some(id) => Node::Mailbox(id),
            _ => Node::Root,
        }
    }

    /// Makes the kernel forget something.
    fn invalidate(&self, what: Invalidation) {
        // A closed channel: nobody is mounted any more.
        let _ = self.invalidate.send(what);
    }

    fn files(&self) -> MutexGuard<'_, HashMap<Handle, Arc<read::OpenFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_handle(&self) -> Handle {
        Handle(self.next_handle.fetch_add(1, Ordering::Relaxed))
    }
}
