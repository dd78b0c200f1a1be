//! open and read: a file's bytes, from a text that was made whole or from a part that is fetched in windows.

use std::sync::{Arc, PoisonError};

use super::{Bytes, Fs, Handle, Opened};
use crate::account::Reader;
use crate::error::{Error, Result};
use crate::tree::node::{AccountView, Ino, MailboxId, MailboxView, Node};
use crate::tree::views::format_table;

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    node: Node,
    reader: Reader,
}

impl Fs {
    /// Opens a file for reading.
    pub async fn open(&self, ino: Ino, write: bool) -> Result<Opened> {
        if write {
            return Err(Error::ReadOnly);
        }
        let node = self.node(ino)?;
        let reader = match node {
            Node::AccountView(AccountView::Status) => Reader::text(self.account.status().as_bytes().to_vec()),
            Node::MailboxView(id, MailboxView::Table) => Reader::text(self.table(id).await?),
            Node::Entry(id, uid, entry) => self.account.open_entry(id, uid, entry).await?,
            _ => return Err(Error::IsDirectory),
        };
        let handle = self.new_handle();
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(OpenFile { node, reader }));
        Ok(Opened { handle, invalidate: false })
    }

    /// Exactly `size` octets, fewer only at the end of the file.
    pub async fn read(&self, handle: Handle, offset: u64, size: u32) -> Result<Bytes> {
        let file = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned();
        let file = file.ok_or(Error::Stale)?;
        match (self.account.read(&file.reader, offset, size).await, self.aliases.resolve(file.node)) {
            // It was moved while it was open: it is read where it is.
            (Err(Error::Stale | Error::NotFound), node @ Node::Entry(id, uid, entry)) if node != file.node => {
                let reader = self.account.open_entry(id, uid, entry).await?;
                let moved = Arc::new(OpenFile { node, reader });
                // Unless it was closed meanwhile.
                if let Some(open) = self.files.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&handle) {
                    *open = Arc::clone(&moved);
                }
                self.account.read(&moved.reader, offset, size).await
            }
            (outcome, _) => outcome,
        }
    }

    /// Closes a file.
    pub fn release(&self, handle: Handle) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle);
    }

    /// The content of `.messages.tsv`.
    pub(super) async fn table(&self, id: MailboxId) -> Result<Bytes> {
        let messages = self.account.messages(id).await?;
        let names: Vec<String> = messages.iter().map(|m| self.options.names.format(m)).collect();
        Ok(format_table(names.iter().map(String::as_str).zip(messages.iter().map(|m| &**m))).into())
    }

    /// At least the length of `.messages.tsv`.
    pub(super) fn table_estimate(&self, id: MailboxId) -> u64 {
        // Each field of a summary is at most 4 KiB; a line of a usual message has 250 octets.
        self.account.message_count(id).saturating_mul(1024).max(4096)
    }
}
