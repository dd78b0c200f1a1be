//! rename: mailboxes in the tree, messages from mailbox to mailbox, and the names that files were given. What a message
//! is called follows from the message; the name that it had goes on working where it was moved to.

use std::sync::Arc;

use super::{Fs, Invalidation};
use crate::account::Place;
use crate::error::{Error, Result};
use crate::mail::uid::Uid;
use crate::tree::node::{EntryId, Ino, MailboxId, MailboxView, Node};
use crate::tree::scratch::{FileName, classify as classify_name};

/// How a name that is taken is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// As rename(2) does.
    Usual,
    /// It is an error (RENAME_NOREPLACE).
    Never,
    /// The two change places (RENAME_EXCHANGE), or something else is asked for that cannot be done.
    Exchange,
}

/// What is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Mailbox(MailboxId),
    /// A message's directory.
    Message,
    /// A message as a file, in `.eml/`.
    Eml,
    /// A message as a file, under a name that it was given in its mailbox.
    Named,
    /// Something in a message.
    Part,
    View,
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// The directory of a mailbox that holds messages.
    Mailbox(MailboxId),
    /// A directory that holds only mailboxes.
    Level(Option<MailboxId>),
    /// `.eml/` of a mailbox.
    Eml(MailboxId),
    Message,
    View,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    RenameMailbox(MailboxId, Option<MailboxId>),
    Move(MailboxId),
    /// Only the name that was given changes.
    Call,
}

/// What renaming a thing that is in mailbox `from` comes to. `same_name`: it is called as before.
fn plan_rename(what: What, from: Option<MailboxId>, to: Where, same_name: bool, to_eml: bool) -> Result<Plan> {
    let refuse = |reason: &str| Err(Error::NotPermitted(reason.into()));
    match (what, to) {
        (What::Part, _) => refuse("a part cannot leave its message"),
        (What::View, _) => refuse("a view cannot be renamed"),
        (_, Where::Message) => refuse("nothing can be put into a message"),
        (_, Where::View) => refuse("nothing can be put into a view"),
        (What::Mailbox(id), Where::Mailbox(parent)) => Ok(Plan::RenameMailbox(id, Some(parent))),
        (What::Mailbox(id), Where::Level(parent)) => Ok(Plan::RenameMailbox(id, parent)),
        (What::Mailbox(_), Where::Eml(_)) => refuse("nothing but messages can be put into .eml"),
        (_, Where::Level(_)) => refuse("messages are kept in mailboxes"),
        (What::Message, Where::Eml(_)) => refuse("a message is a directory; in .eml it is a file already"),
        (What::Named, Where::Mailbox(to)) if from == Some(to) && to_eml => Ok(Plan::Call),
        (_, Where::Mailbox(to) | Where::Eml(to)) if from == Some(to) => {
            refuse("the name of a message is made from the message")
        }
        (What::Message | What::Eml | What::Named, Where::Mailbox(to)) if same_name => Ok(Plan::Move(to)),
        (What::Eml | What::Named, Where::Mailbox(to)) if to_eml => Ok(Plan::Move(to)),
        (What::Eml | What::Named, Where::Eml(to)) if same_name => Ok(Plan::Move(to)),
        (What::Message | What::Eml | What::Named, Where::Mailbox(_) | Where::Eml(_)) => {
            refuse("the name of a message is made from the message")
        }
    }
}

impl Fs {
    /// Renames or moves. Errors: `NotFound`, `Exists`, `NotEmpty`, `Busy` for INBOX, `Invalid`, `NotPermitted` for what
    /// cannot be renamed so, and what the server says.
    pub async fn rename(
        self: &Arc<Self>,
        parent: Ino,
        name: &str,
        to: Ino,
        to_name: &str,
        replace: Replace,
    ) -> Result<()> {
        if replace == Replace::Exchange {
            return Err(Error::invalid("two names cannot change places"));
        }
        if self.local(parent, name).is_some() {
            return self.rename_local(parent, name, to, to_name).await;
        }
        if let Some(parked) = self.park(parent, name, to, to_name).await {
            return parked;
        }
        let node = self.node(self.lookup(parent, name).await?.attr.ino)?;
        let (from, target) = (self.node(parent)?, self.node(to)?);
        if from == target && name == to_name {
            return Ok(());
        }
        let what = classify(from, node);
        let holder = match self.place_of(from) {
            Where::Mailbox(id) | Where::Eml(id) => Some(id),
            // A message that a search found is in its own mailbox all the same.
            _ => match (from, node) {
                (Node::Search(..), Node::Entry(id, ..)) => Some(id),
                _ => None,
            },
        };
        let same_name = name == to_name;
        let plan =
            plan_rename(what, holder, self.place_of(target), same_name, classify_name(to_name) == FileName::Message)?;
        self.check_free(to, to_name, what, replace).await?;
        match plan {
            Plan::RenameMailbox(id, under) => self.rename_mailbox(id, under, to_name, (from, target)).await,
            Plan::Move(mailbox) => self.move_message(node, (parent, name), mailbox, (to, to_name)).await,
            Plan::Call => {
                self.aliases.remove_name(parent, name);
                self.aliases.set_name(to, to_name, node);
                Ok(())
            }
        }
    }

    fn place_of(&self, node: Node) -> Where {
        match (node, self.mailbox_of(node)) {
            (_, Some(Some(id))) if self.account.has_messages(id).unwrap_or(false) => Where::Mailbox(id),
            (_, Some(level)) => Where::Level(level),
            (Node::MailboxView(id, MailboxView::Eml), _) => Where::Eml(id),
            (Node::Entry(..), _) => Where::Message,
            _ => Where::View,
        }
    }

    /// Nothing is replaced: mail is never removed by moving other mail onto it, nor are mailboxes merged.
    async fn check_free(&self, to: Ino, to_name: &str, what: What, replace: Replace) -> Result<()> {
        match self.lookup(to, to_name).await {
            Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
            // A directory that holds something: rename(2) has this word for it.
            Ok(_) if what == What::Message && replace == Replace::Usual => Err(Error::NotEmpty),
            Ok(_) => Err(Error::Exists),
        }
    }

    async fn rename_mailbox(
        &self,
        id: MailboxId,
        parent: Option<MailboxId>,
        name: &str,
        directories: (Node, Node),
    ) -> Result<()> {
        self.check_not_inbox(id, "renamed")?;
        self.check_mailbox_name(name)?;
        let mut above = parent;
        while let Some(mailbox) = above {
            if mailbox == id {
                return Err(Error::invalid("a mailbox cannot be put into itself"));
            }
            above = self.account.mailbox(mailbox)?.parent;
        }
        self.account.rename_mailbox(id, parent, name).await?;
        for directory in [directories.0, directories.1] {
            self.invalidate(Invalidation::Data(directory.pack()));
        }
        Ok(())
    }

    /// Moves a message. It answers to the name at once; while it is on its way, it is read where it was.
    async fn move_message(
        self: &Arc<Self>,
        node: Node,
        from: (Ino, &str),
        to: MailboxId,
        name: (Ino, &str),
    ) -> Result<()> {
        let Node::Entry(mailbox, uid, _) = node else { return Err(Error::Stale) };
        let fs = Arc::clone(self);
        let journey =
            Journey { at: (mailbox, uid), to, left: (from.0, from.1.to_owned()), name: (name.0, name.1.to_owned()) };
        // Who stops waiting does not keep the names from following.
        let moving = tokio::spawn(async move {
            let landing = fs.account.move_message_soon(journey.at, to).await?;
            let landed = landing.now();
            if let Some(Err(error)) = landed {
                return Err(error);
            }
            let was_given = fs.aliases.remove_name(journey.left.0, &journey.left.1).is_some();
            fs.aliases.set_name(journey.name.0, &journey.name.1, node);
            if let Some(Ok(uid)) = landed {
                fs.arrive(&journey, uid);
                return Ok(());
            }
            tokio::spawn(async move {
                match landing.uid().await {
                    Ok(uid) => fs.arrive(&journey, uid),
                    Err(_) => fs.come_back(journey, node, was_given),
                }
            });
            Ok(())
        });
        moving.await.map_err(|error| Error::Local(error.to_string().into()))?
    }

    /// A message is where it was moved to. The names that it had where it was are gone, the others follow it.
    fn arrive(&self, journey: &Journey, uid: Uid) {
        // It may have been on its way somewhere when it was sent on.
        let Node::Entry(mailbox, old, _) = self.aliases.resolve(Node::message(journey.at.0, journey.at.1)) else {
            return;
        };
        for (directory, name) in self.aliases.forget((mailbox, old), &self.directories_of(mailbox)) {
            self.invalidate(Invalidation::Entry(directory, name));
        }
        self.aliases.moved((mailbox, old), (journey.to, uid));
        self.invalidate(Invalidation::Data(journey.name.0));
    }

    /// A message could not be moved after all: it is where it was.
    fn come_back(&self, journey: Journey, node: Node, was_given: bool) {
        let (directory, name) = journey.name;
        if self.aliases.name(directory, &name) == Some(self.aliases.resolve(node)) {
            self.aliases.remove_name(directory, &name);
        }
        if was_given {
            self.aliases.set_name(journey.left.0, &journey.left.1, node);
        }
        self.invalidate(Invalidation::Entry(directory, name));
        self.invalidate(Invalidation::Data(directory));
        self.invalidate(Invalidation::Data(journey.left.0));
    }
}

/// A message that is being moved.
#[derive(Debug)]
struct Journey {
    at: Place,
    to: MailboxId,
    /// The directory and the name that it had.
    left: (Ino, String),
    /// Those that it gets.
    name: (Ino, String),
}

/// What a node is, found in the directory `parent`.
fn classify(parent: Node, node: Node) -> What {
    match (parent, node) {
        (_, Node::Mailbox(id)) => What::Mailbox(id),
        (_, Node::Entry(_, _, EntryId::DIRECTORY)) => What::Message,
        (Node::Entry(..), Node::Entry(..)) => What::Part,
        (Node::MailboxView(..) | Node::Search(..), Node::Entry(..)) => What::Eml,
        (_, Node::Entry(..)) => What::Named,
        _ => What::View,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rename_comes_to() {
        const A: MailboxId = MailboxId(1);
        const B: MailboxId = MailboxId(2);
        let places =
            [Where::Mailbox(A), Where::Mailbox(B), Where::Eml(B), Where::Level(None), Where::Message, Where::View];
        // For each place, first under the same name, then under another that ends in .eml, then under any other.
        let cases = [
            (What::Message, ["---", "m--", "---", "---", "---", "---"]),
            (What::Eml, ["---", "mm-", "m--", "---", "---", "---"]),
            (What::Named, ["-c-", "mm-", "m--", "---", "---", "---"]),
            (What::Part, ["---", "---", "---", "---", "---", "---"]),
            (What::View, ["---", "---", "---", "---", "---", "---"]),
            (What::Mailbox(A), ["rrr", "rrr", "---", "rrr", "---", "---"]),
        ];
        for (what, expected) in cases {
            for (to, expected) in places.into_iter().zip(expected) {
                let outcome = [(true, false), (false, true), (false, false)].map(|(same, eml)| {
                    match plan_rename(what, Some(A), to, same, eml) {
                        Ok(Plan::Move(mailbox)) if mailbox == B => 'm',
                        Ok(Plan::Call) => 'c',
                        Ok(Plan::RenameMailbox(A, _)) => 'r',
                        Err(Error::NotPermitted(_)) => '-',
                        other => panic!("{what:?} to {to:?}: {other:?}"),
                    }
                });
                assert_eq!(outcome.iter().collect::<String>(), expected, "{what:?} to {to:?}");
            }
        }
    }
}
