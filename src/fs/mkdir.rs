//! mkdir: a new mailbox, or a copy of the message whose name the directory is given. Nothing that a desktop leaves
//! everywhere becomes a mailbox.

use std::sync::Arc;

use super::{Entry, Fs};
use crate::account::Place;
use crate::error::{Error, Result};
use crate::mail::envelope::Summary;
use crate::tree::node::{Ino, MailboxId, Node};
use crate::tree::scratch::{FileName, classify};
use crate::tree::views::{is_litter, is_reserved};

impl Fs {
    /// Makes a directory. Errors: `Exists`; `NotPermitted` where no mailbox can be, for a name that none is to have,
    /// and for the name of a message that is not known; what the server says.
    pub async fn mkdir(&self, parent: Ino, name: &str) -> Result<Entry> {
        let node = self.node(parent)?;
        if let Some(created) = self.create_in_copy(node, name).await {
            return created;
        }
        let Some(mailbox) = self.mailbox_of(node) else {
            return Err(Error::NotPermitted("mailboxes are made in mailboxes, not in messages or views".into()));
        };
        match self.lookup(parent, name).await {
            Ok(_) => return Err(Error::Exists),
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        if self.options.names.parse(name).is_some() {
            return self.copy_message(mailbox, node.pack(), name).await;
        }
        self.check_mailbox_name(name)?;
        let id = self.account.create_mailbox(mailbox, name).await?;
        self.entry(Node::Mailbox(id)).await
    }

    /// Can a mailbox be given this name by somebody who means it? `NotPermitted` with the reason.
    pub(super) fn check_mailbox_name(&self, name: &str) -> Result<()> {
        let reason = if is_reserved(name) {
            "it is the name of a view"
        } else if is_litter(name) || (name.starts_with('.') && classify(name) == FileName::Scratch) {
            "it is a name that programs leave in every directory"
        } else if self.options.names.parse(name).is_some() {
            "it is spelled like a message"
        } else {
            return Ok(());
        };
        Err(Error::NotPermitted(format!("no mailbox is called so: {reason}").into()))
    }

    /// Copies the message of this name into a mailbox, where it answers to the same name.
    async fn copy_message(&self, mailbox: Option<MailboxId>, directory: Ino, name: &str) -> Result<Entry> {
        let to = mailbox.ok_or_else(|| Error::NotPermitted("messages are kept in mailboxes".into()))?;
        let uid = self.options.names.parse(name).ok_or(Error::NotFound)?;
        let mut known = self.account.known(uid);
        known.retain(|(_, summary)| self.options.names.format(summary) == name);
        let original = the_one(&known)?;
        let copy = (to, self.account.copy_message(original, to).await?);
        let node = Node::message(copy.0, copy.1);
        self.copies.begin(copy, original);
        self.aliases.set_name(directory, name, node);
        self.entry(node).await
    }
}

/// The message, of those that have the name that was asked for: any of them, where all are the same.
fn the_one(known: &[(MailboxId, Arc<Summary>)]) -> Result<Place> {
    let what = |summary: &Summary| (summary.size, summary.internal_date, summary.message_id.clone());
    let [(mailbox, first), others @ ..] = known else {
        return Err(Error::NotPermitted("it is spelled like a message, and no message is known by this name".into()));
    };
    if others.iter().any(|(_, other)| what(other) != what(first)) {
        return Err(Error::NotPermitted(
            "several messages have this name: which is to be copied cannot be told".into(),
        ));
    }
    Ok((*mailbox, first.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope::Envelope;
    use crate::mail::flag::Flags;
    use crate::mail::uid::Uid;

    #[test]
    fn a_name_that_several_messages_have_is_copied_only_when_they_are_the_same() {
        let uid = Uid::new(7).unwrap();
        let message = |mailbox, size| {
            (MailboxId(mailbox), Arc::new(Summary::new(uid, 0, size, Flags::default(), 0, &Envelope::default())))
        };
        assert_eq!(the_one(&[message(1, 5)]), Ok((MailboxId(1), uid)));
        assert_eq!(the_one(&[message(1, 5), message(2, 5)]), Ok((MailboxId(1), uid)));
        for none in [&[][..], &[message(1, 5), message(2, 6)]] {
            assert!(matches!(the_one(none), Err(Error::NotPermitted(_))), "{none:?}");
        }
    }
}
