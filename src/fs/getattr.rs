//! getattr: what a node is. Sizes are exact here; lookup and readdir may give a larger one that the kernel must not keep.

use std::time::{Duration, SystemTime};

use super::write::local_entry;
use super::{Attr, Entry, Fs, IMMUTABLE_TTL, Kind, MESSAGE_TTL};
use crate::account::Message;
use crate::error::{Error, Result};
use crate::mail::envelope::Summary;
use crate::tree::node::{AccountView, EntryId, Ino, MailboxId, MailboxView, Node};

const DIRECTORY_PERM: u16 = 0o700;
const FILE_PERM: u16 = 0o600;

impl Fs {
    /// The exact attributes of a node.
    pub async fn getattr(&self, ino: Ino) -> Result<Entry> {
        // What is being written is what it is by then, whatever the server has of it.
        let mut entry = match self.local_file(ino) {
            Some(local) => local_entry(&local),
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
            Node::Local(_) => local_entry(&*self.locals.get(node).ok_or(Error::Stale)?),
            Node::AccountView(AccountView::Control) => directory(node, nanos(SystemTime::UNIX_EPOCH), IMMUTABLE_TTL),
            Node::AccountView(view @ (AccountView::Status | AccountView::Metrics)) => {
                let is_status = view == AccountView::Status;
                let text = if is_status { self.account.status() } else { self.account.metrics() };
                file(node, text.len() as u64, nanos(SystemTime::now()), Duration::ZERO)
            }
            Node::MailboxView(id, MailboxView::Eml) => directory(node, nanos(self.account.changed(Some(id))?), poll),
            Node::MailboxView(id, MailboxView::Table) => {
                let table = self.table(id).await?;
                file(node, table.len() as u64, nanos(self.account.changed(Some(id))?), Duration::ZERO)
            }
            Node::Entry(id, uid, entry @ (EntryId::DIRECTORY | EntryId::RAW)) => {
                self.message_entry(id, &*self.account.summary(id, uid).await?, entry)
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
            local_entry(&local)
        } else {
            file(node, summary.size, mtime, MESSAGE_TTL)
        }
    }

    /// Something inside a message, from what is in memory: an over-estimate when the size is not known yet.
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

pub(super) fn nanos(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

fn directory(node: Node, mtime_nanos: i128, ttl: Duration) -> Entry {
    let attr = Attr { ino: node.pack(), kind: Kind::Directory, size: 0, mtime_nanos, perm: DIRECTORY_PERM };
    Entry { attr, entry_ttl: ttl, attr_ttl: ttl }
}

pub(super) fn file(node: Node, size: u64, mtime_nanos: i128, ttl: Duration) -> Entry {
    let attr = Attr { ino: node.pack(), kind: Kind::File, size, mtime_nanos, perm: FILE_PERM };
    Entry { attr, entry_ttl: ttl, attr_ttl: ttl }
}
