//! getattr: what a node is. Sizes are exact here; lookup and readdir may give a larger one that the kernel must not keep.

use std::time::{Duration, SystemTime};

use super::attr::{directory, file, nanos};
use super::{Entry, Fs, IMMUTABLE_TTL, Kind, MESSAGE_TTL};
use crate::account::Message;
use crate::error::{Error, Result};
use crate::mail::envelope::Summary;
use crate::tree::node::{AccountView, EntryId, Ino, MailboxId, MailboxView, Node, SearchView};

impl Fs {
    /// The exact attributes of a node.
    pub async fn getattr(&self, ino: Ino) -> Result<Entry> {
        // What is being written is what it is by then, whatever the server has of it.
        let mut entry = match self.local_file(ino) {
            Some(local) => local.entry(),
            None => self.entry(self.node(ino)?).await?,
        };
        // Whatever became of it, who holds it knows it by this number.
        entry.attr.ino = ino;
        Ok(entry)
    }

    /// The exact attributes of a node, and for how long they hold.
    pub(super) async fn entry(&self, node: Node) -> Result<Entry> {
        let poll = self.account.poll_interval();
        Ok(match node {
            Node::Root | Node::Mailbox(_) => {
                let id = self.mailbox_of(node).flatten();
                directory(node, nanos(self.account.changed(id)?), poll)
            }
            Node::Local(_) => self.locals.get(node).ok_or(Error::Stale)?.entry(),
            Node::AccountView(AccountView::Control) => directory(node, nanos(SystemTime::UNIX_EPOCH), IMMUTABLE_TTL),
            Node::AccountView(view @ (AccountView::Status | AccountView::Metrics)) => {
                let is_status = view == AccountView::Status;
                let text = if is_status { self.account.status() } else { self.account.metrics() };
                file(node, text.len() as u64, nanos(SystemTime::now()), Duration::ZERO)
            }
            Node::AccountView(AccountView::Search) => directory(node, nanos(self.account.changed(None)?), poll),
            Node::Search(number, SearchView::Messages | SearchView::Eml) => {
                let changed = self.account.changed(self.search(number)?.scope)?;
                directory(node, nanos(changed), poll)
            }
            Node::Search(number, SearchView::Table) => {
                let table = self.found_table(number).await?;
                file(node, table.len() as u64, nanos(SystemTime::now()), Duration::ZERO)
            }
            Node::MailboxView(id, MailboxView::Eml | MailboxView::Search) => {
                directory(node, nanos(self.account.changed(Some(id))?), poll)
            }
            Node::MailboxView(id, MailboxView::Table) => {
                let table = self.table(id).await?;
                file(node, table.len() as u64, nanos(self.account.changed(Some(id))?), Duration::ZERO)
            }
            Node::Entry(id, uid, entry @ (EntryId::DIRECTORY | EntryId::RAW)) => {
                self.message_entry(id, &self.account.summary(id, uid).await?, entry)
            }
            Node::Entry(id, uid, entry) => {
                let message = self.account.message(id, uid).await?;
                let mut found = self.part_entry(&message, entry)?;
                if found.attr.kind == Kind::File {
                    // Told from here on by what took the message's place, if what the server said of it was wrong.
                    found.attr.size = self.account.size(&message, entry).await?;
                    found.attr_ttl = IMMUTABLE_TTL;
                }
                found
            }
        })
    }

    /// A message's directory or its `message.eml`: all from its summary.
    pub(super) fn message_entry(&self, mailbox: MailboxId, summary: &Summary, entry: EntryId) -> Entry {
        let node = Node::Entry(mailbox, summary.uid, entry);
        let mtime = i128::from(summary.internal_date) * 1_000_000_000;
        if entry == EntryId::DIRECTORY {
            directory(node, mtime, MESSAGE_TTL)
        } else if let Some(local) = self.locals.get(node) {
            local.entry()
        } else {
            file(node, summary.size, mtime, MESSAGE_TTL)
        }
    }

    /// Something inside a message, from what is in memory: an over-estimate when the size is not known yet. It holds for no
    /// moment, and the kernel, which checks permissions itself, asks for the attributes before it opens a file then: no read
    /// meets an estimate.
    pub(super) fn part_entry(&self, message: &Message, entry: EntryId) -> Result<Entry> {
        let node = Node::Entry(message.mailbox, message.summary.uid, entry);
        let mtime = i128::from(message.summary.internal_date) * 1_000_000_000;
        if message.entry(entry)?.content.is_directory() {
            return Ok(directory(node, mtime, IMMUTABLE_TTL));
        }
        Ok(match message.known_size(entry) {
            Some(size) => file(node, size, mtime, IMMUTABLE_TTL),
            None => {
                let mut entry = file(node, message.size_estimate(entry)?, mtime, IMMUTABLE_TTL);
                entry.attr_ttl = Duration::ZERO;
                entry
            }
        })
    }
}
