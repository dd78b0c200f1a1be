//! lookup: a name in a directory. A message is found from the UID in its name alone, whatever the mailbox holds.

use std::time::Duration;

use super::local_names::LocalName;
use super::{Entry, Fs, IMMUTABLE_TTL};
use crate::error::{Error, Result};
use crate::mail::uid::Uid;
use crate::tree::node::{AccountView, EntryId, Ino, MailboxId, MailboxView, Node};
use crate::tree::part_name::{HEADERS, RAW, TEXT};
use crate::tree::views::{is_litter, parse_eml_name};

impl Fs {
    /// For how long the kernel may believe that no such name is in a directory, once [`Fs::lookup`] has not found it; zero:
    /// it asks each time. No part of a message is called like that, and what is made here the kernel knows of: who looks
    /// for `.gitignore` or `.hidden` in each directory asks once.
    pub fn absence_ttl(parent: Ino, name: &str) -> Duration {
        let is_message = matches!(Node::unpack(parent), Some(Node::Entry(..)));
        if is_message && name.starts_with('.') { IMMUTABLE_TTL } else { Duration::ZERO }
    }

    /// The entry of this name in a directory. Errors: `NotFound`, `NotDirectory`, `Stale`, and what the server says.
    pub async fn lookup(&self, parent: Ino, name: &str) -> Result<Entry> {
        let node = self.node(parent)?;
        match self.local_name(node, name) {
            Some(LocalName::Is(node)) => return self.entry(node).await,
            Some(LocalName::IsFree) => return Err(Error::NotFound),
            None => {}
        }
        if let Some(given) = self.lookup_given(node.pack(), name).await {
            return given;
        }
        if let Some(mailbox) = self.mailbox_of(node) {
            return self.lookup_in_mailbox(node, mailbox, name).await;
        }
        match node {
            Node::AccountView(AccountView::Control) => {
                let view = AccountView::in_control(name).ok_or(Error::NotFound)?;
                self.entry(Node::AccountView(view)).await
            }
            Node::AccountView(AccountView::Search) => self.entry(self.name_search(None, name)?).await,
            Node::MailboxView(mailbox, MailboxView::Search) => self.entry(self.name_search(Some(mailbox), name)?).await,
            Node::Search(number, view) => self.lookup_in_search(number, view, name).await,
            Node::MailboxView(mailbox, MailboxView::Eml) => {
                let name = parse_eml_name(name).ok_or(Error::NotFound)?;
                self.lookup_message(mailbox, name, EntryId::RAW).await
            }
            // The message as it is needs no structure: it can be read where the server does not tell one.
            Node::Entry(mailbox, uid, EntryId::DIRECTORY)
                if name == RAW && !self.is_out_of_sight((mailbox, uid), EntryId::RAW) =>
            {
                let summary = self.account.summary(mailbox, uid).await?;
                Ok(self.message_entry(mailbox, &summary, EntryId::RAW))
            }
            Node::Entry(mailbox, uid, directory) => {
                let message = match [TEXT, HEADERS].contains(&name) {
                    true => self.account.message_and_text(mailbox, uid).await?,
                    false => self.account.message(mailbox, uid).await?,
                };
                if !message.entry(directory)?.content.is_directory() {
                    return Err(Error::NotDirectory);
                }
                let found = message.entries.lookup(directory, name).ok_or(Error::NotFound)?;
                if self.is_out_of_sight((mailbox, uid), found.id) {
                    return Err(Error::NotFound);
                }
                self.part_entry(&message, found.id)
            }
            _ => Err(Error::NotDirectory),
        }
    }

    /// A mailbox wins over a message of the same spelling; views can be neither, mailboxes so called are escaped.
    async fn lookup_in_mailbox(&self, node: Node, mailbox: Option<MailboxId>, name: &str) -> Result<Entry> {
        if let Some(child) = self.account.child(mailbox, name) {
            return self.entry(Node::Mailbox(child)).await;
        }
        if let (Node::Root, Some(view)) = (node, AccountView::in_root(name)) {
            return self.entry(Node::AccountView(view)).await;
        }
        if let Some(id) = mailbox {
            if let (Some(view), true) = (MailboxView::parse(name), self.account.has_messages(id)?) {
                return self.entry(Node::MailboxView(id, view)).await;
            }
            if self.options.names.parse(name).is_some() {
                return self.lookup_message(id, name, EntryId::DIRECTORY).await;
            }
        }
        if !is_litter(name) {
            self.account.refresh_mailboxes().await?;
            if let Some(child) = self.account.child(mailbox, name) {
                return self.entry(Node::Mailbox(child)).await;
            }
        }
        Err(Error::NotFound)
    }

    async fn lookup_message(&self, mailbox: MailboxId, name: &str, entry: EntryId) -> Result<Entry> {
        let uid = self.options.names.parse(name).ok_or(Error::NotFound)?;
        if self.is_elsewhere(mailbox, uid, name) {
            return Err(Error::NotFound);
        }
        let summary = self.account.summary(mailbox, uid).await?;
        if self.options.names.format(&summary) != name || !self.account.is_shown(mailbox, uid) {
            return Err(Error::NotFound);
        }
        Ok(self.message_entry(mailbox, &summary, entry))
    }

    /// Is this the name of a message of another mailbox, and none in this one, as its listing tells? So it is looked for
    /// where it is to be moved or copied to: of many the server is not to be asked one by one.
    fn is_elsewhere(&self, mailbox: MailboxId, uid: Uid, name: &str) -> bool {
        if !self.account.is_listed(mailbox) {
            return false;
        }
        let known = self.account.known(uid);
        known.iter().all(|(id, _)| *id != mailbox)
            && known.iter().any(|(_, summary)| self.options.names.format(summary) == name)
    }

    /// What was given this name in a directory: a message that was moved there, or put there as a file. A name whose
    /// message is gone is forgotten.
    async fn lookup_given(&self, directory: Ino, name: &str) -> Option<Result<Entry>> {
        let node = self.aliases.name(directory, name)?;
        if let Node::Entry(mailbox, uid, _) = node
            && self.is_leaving(directory, (mailbox, uid))
        {
            return None;
        }
        match self.entry(node).await {
            Err(Error::NotFound | Error::Stale) => {
                self.aliases.remove_name(directory, name);
                None
            }
            entry => Some(entry),
        }
    }
}
