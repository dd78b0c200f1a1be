//! mkdir: a new mailbox, or a copy of the message whose name the directory is given. Nothing that a desktop leaves
//! everywhere becomes a mailbox.

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
        let mut copied = Err(Error::NotFound);
        for original in plan_originals(&known)? {
            copied = self.account.copy_message(original, to).await.map(|uid| (original, (to, uid)));
            // Another client may have taken this one.
            if !matches!(copied, Err(Error::NotFound | Error::Stale)) {
                break;
            }
        }
        let (original, copy) = copied?;
        let node = Node::message(copy.0, copy.1);
        self.copies.begin(copy, original);
        self.aliases.set_name(directory, name, node);
        self.entry(node).await
    }
}

/// Which messages to try to copy, of those that have the name that was asked for: any of them where all are the same,
/// those first that nobody has marked as deleted.
fn plan_originals(known: &[(MailboxId, Summary)]) -> Result<Vec<Place>> {
    let what = |summary: &Summary| (summary.size, summary.internal_date, summary.texts().message_id.to_owned());
    let [(_, first), others @ ..] = known else {
        return Err(Error::NotPermitted("it is spelled like a message, and no message is known by this name".into()));
    };
    if others.iter().any(|(_, other)| what(other) != what(first)) {
        return Err(Error::NotPermitted(
            "several messages have this name: which is to be copied cannot be told".into(),
        ));
    }
    let mut known: Vec<_> = known.iter().collect();
    known.sort_by_key(|(_, summary)| summary.flags.contains("\\Deleted"));
    Ok(known.into_iter().map(|(mailbox, summary)| (*mailbox, summary.uid)).collect())
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
        let message = |mailbox, size, flags: &str| {
            let flags = Flags::from_wire([flags.as_bytes()]);
            (MailboxId(mailbox), Summary::new(uid, 0, size, flags, 0, &Envelope::default()))
        };
        let one = message(1, 5, "");
        let places = |all: &[u16]| Ok(all.iter().map(|mailbox| (MailboxId(*mailbox), uid)).collect());
        assert_eq!(plan_originals(std::slice::from_ref(&one)), places(&[1]));
        assert_eq!(plan_originals(&[one.clone(), message(2, 5, "")]), places(&[1, 2]));
        assert_eq!(plan_originals(&[message(2, 5, "\\Deleted"), one.clone()]), places(&[1, 2]));
        for none in [&[][..], &[one, message(2, 6, "")]] {
            assert!(matches!(plan_originals(none), Err(Error::NotPermitted(_))), "{none:?}");
        }
    }
}
