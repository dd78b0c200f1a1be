//! open and read: a file's bytes, from a text that was made whole, from a part that is fetched in windows, or from
//! what is being written.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::copying::CopiedPart;
use super::local::Local;
use super::{Bytes, Fs, Handle, Invalidation, Opened};
use crate::account::Reader;
use crate::error::{Error, Result};
use crate::tree::node::{AccountView, Ino, MailboxId, MailboxView, Node, SearchView};
use crate::tree::views::format_table;

/// An open file.
#[derive(Debug)]
pub enum OpenFile {
    /// What the server has.
    Reader { reader: Reader, node: Node },
    /// What is being written.
    Local(OpenLocal),
    /// A part of a copy in the making.
    Copy(CopiedPart),
}

/// An open file that is being written.
#[derive(Debug)]
pub struct OpenLocal {
    pub local: Arc<Local>,
    /// The thread that opened it.
    pub opener: u32,
    /// Lock owners of those who closed a descriptor of it before anything was written.
    pub early: Mutex<HashSet<u64>>,
}

/// Who closes a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closer {
    /// The thread.
    pub pid: u32,
    /// What the kernel calls the table of descriptors that it was closed in: each process has its own.
    pub owner: u64,
}

impl OpenFile {
    /// What is read, when that is what the server has.
    pub fn node(&self) -> Option<Node> {
        if let OpenFile::Reader { node, .. } = self { Some(*node) } else { None }
    }
}

impl Fs {
    /// Opens a part of a copy that was just created.
    pub(super) fn open_copy(&self, ino: Ino) -> Result<Opened> {
        let node = self.node(ino)?;
        let Node::Entry(mailbox, uid, entry) = node else { return Err(Error::Stale) };
        let original = self.copies.original((mailbox, uid)).unwrap_or((mailbox, uid));
        let original = Node::Entry(original.0, original.1, entry);
        let handle = self.new_handle();
        self.files().insert(handle, Arc::new(OpenFile::Copy(CopiedPart::new(node, original))));
        Ok(Opened { handle, invalidate: false, keep_cache: false, flush: false })
    }

    /// Opens a file for reading, or for writing as well; `pid` is the thread that does.
    pub async fn open(&self, ino: Ino, write: bool, pid: u32) -> Result<Opened> {
        if let Some(local) = Node::unpack(ino).and_then(|node| self.locals.open(node)) {
            return Ok(self.open_local(local, pid));
        }
        if write {
            return self.open_to_overwrite(ino, pid).await;
        }
        let node = self.node(ino)?;
        let reader = match node {
            Node::AccountView(AccountView::Status) => Reader::text(self.account.status().as_bytes().to_vec()),
            Node::AccountView(AccountView::Metrics) => Reader::text(self.account.metrics().as_bytes().to_vec()),
            Node::MailboxView(id, MailboxView::Table) => Reader::text(self.table(id).await?),
            Node::Search(number, SearchView::Table) => Reader::text(self.found_table(number).await?),
            Node::Entry(id, uid, entry) => self.account.open_entry(id, uid, entry).await?,
            _ => return Err(Error::IsDirectory),
        };
        let (handle, flush) = (self.new_handle(), reader.tells_close());
        self.files().insert(handle, Arc::new(OpenFile::Reader { reader, node }));
        // What the kernel knows by the number of something else may be octets that were written and sent.
        let is_itself = node.pack() == ino;
        // A text that says something else may have the same length.
        let stays = matches!(node, Node::Entry(..));
        Ok(Opened { handle, invalidate: !is_itself, keep_cache: is_itself && stays, flush })
    }

    /// Exactly `size` octets, fewer only at the end of the file.
    pub async fn read(&self, handle: Handle, offset: u64, size: u32) -> Result<Bytes> {
        let file = self.file(handle)?;
        let (reader, node) = match &*file {
            OpenFile::Reader { reader, node } => (reader, *node),
            OpenFile::Local(open) => return self.read_local(&open.local, offset, size).await,
            OpenFile::Copy(part) => return self.read_copy(part, offset, size).await,
        };
        match (self.account.read(reader, offset, size).await, self.aliases.resolve(node)) {
            // It was moved while it was open: it is read where it is.
            (Err(Error::Stale | Error::NotFound), now @ Node::Entry(id, uid, entry)) if now != node => {
                let reader = self.account.open_entry(id, uid, entry).await?;
                let octets = self.account.read(&reader, offset, size).await;
                // Unless it was closed meanwhile.
                if let Some(open) = self.files().get_mut(&handle) {
                    *open = Arc::new(OpenFile::Reader { reader, node: now });
                }
                octets
            }
            (Err(Error::Interrupted), _) => {
                // Each page that did not come would be asked for alone: those are forgotten, and come together.
                self.invalidate(Invalidation::Pages(node.pack(), offset, size));
                Err(Error::Interrupted)
            }
            (outcome, _) => outcome,
        }
    }

    /// The open file with this handle.
    pub(super) fn file(&self, handle: Handle) -> Result<Arc<OpenFile>> {
        self.files().get(&handle).cloned().ok_or(Error::Stale)
    }

    /// The content of `.messages.tsv`.
    pub(super) async fn table(&self, id: MailboxId) -> Result<Bytes> {
        let messages = self.account.messages(id).await?;
        let names: Vec<String> = messages.iter().map(|m| self.options.names.format(m)).collect();
        Ok(format_table(names.iter().map(String::as_str).zip(&messages)).into())
    }

    /// At least the length of `.messages.tsv`.
    pub(super) fn table_estimate(&self, id: MailboxId) -> u64 {
        // Each field of a summary is at most 4 KiB; a line of a usual message has 250 octets.
        self.account.message_count(id).saturating_mul(1024).max(4096)
    }
}
