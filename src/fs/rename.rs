//! rename: mailboxes in the tree, messages from mailbox to mailbox, and the names that files were given. What a message
//! is called follows from the message; the name that it had goes on working where it was moved to.

use std::sync::Arc;

use super::behind::Meanwhile;
use super::{Fs, Invalidation};
use crate::error::{Error, Result};
use crate::tree::node::{EntryId, Ino, MailboxId, MailboxView, Node};

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

/// What renaming a thing that is in mailbox `from` (a message) comes to. `same_name`: it is called as before.
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
    pub async fn rename(&self, parent: Ino, name: &str, to: Ino, to_name: &str, replace: Replace) -> Result<()> {
        if replace == Replace::Exchange {
            return Err(Error::invalid("two names cannot change places"));
        }
        if self.local(parent, name).is_some() {
            return self.rename_local(parent, name, to, to_name).await;
        }
        let node = self.node(self.lookup(parent, name).await?.attr.ino)?;
        let (from, target) = (self.node(parent)?, self.node(to)?);
        if from == target && name == to_name {
            return Ok(());
        }
        let (what, holder) = classify(from, node);
        let same_name = name == to_name;
        let plan = plan_rename(what, holder, self.place_of(target), same_name, is_eml(to_name))?;
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
        self.quiet(id).await;
        self.account.rename_mailbox(id, parent, name).await?;
        for directory in [directories.0, directories.1] {
            let _ = self.invalidate.send(Invalidation::Data(directory.pack()));
        }
        Ok(())
    }

    async fn move_message(&self, node: Node, from: (Ino, &str), to: MailboxId, name: (Ino, &str)) -> Result<()> {
        let at = self.turn(node).await?;
        let Node::Entry(_, _, entry) = node else { return Err(Error::Stale) };
        let (account, aliases, tell) = (Arc::clone(&self.account), Arc::clone(&self.aliases), self.invalidate.clone());
        let left = self.directories_of(at.0);
        let moved = (from.0, from.1.to_owned());
        let (directory, name) = (name.0, name.1.to_owned());
        if self.options.write_behind {
            // Until it is there it is read where it was.
            aliases.set_name(directory, &name, Node::Entry(at.0, at.1, entry));
        }
        self.carry_out(at, Meanwhile::Gone, async move {
            match account.move_message(at, to).await {
                Ok(uid) => {
                    for key in aliases.forget(at, &left) {
                        // What the kernel itself has moved is not to be touched.
                        if key != moved {
                            let _ = tell.send(Invalidation::Entry(key.0, key.1));
                        }
                    }
                    aliases.moved(at, (to, uid));
                    aliases.set_name(directory, &name, Node::Entry(to, uid, entry));
                    let _ = tell.send(Invalidation::Data(directory));
                    Ok(())
                }
                Err(error) => {
                    if aliases.name(directory, &name) == Some(Node::Entry(at.0, at.1, entry)) {
                        aliases.remove_name(directory, &name);
                        let _ = tell.send(Invalidation::Entry(directory, name));
                    }
                    Err(error)
                }
            }
        })
        .await
    }
}

/// What a node is, found in the directory `parent`, and the mailbox it is in.
fn classify(parent: Node, node: Node) -> (What, Option<MailboxId>) {
    match (parent, node) {
        (_, Node::Mailbox(id)) => (What::Mailbox(id), None),
        (_, Node::Entry(mailbox, _, EntryId::DIRECTORY)) => (What::Message, Some(mailbox)),
        (Node::Entry(..), Node::Entry(mailbox, ..)) => (What::Part, Some(mailbox)),
        (Node::MailboxView(..), Node::Entry(mailbox, ..)) => (What::Eml, Some(mailbox)),
        (_, Node::Entry(mailbox, ..)) => (What::Named, Some(mailbox)),
        _ => (What::View, None),
    }
}

/// Is it a name that a message can be given as a file?
fn is_eml(name: &str) -> bool {
    let stem = name.len().checked_sub(4).and_then(|at| name.split_at_checked(at));
    stem.is_some_and(|(stem, end)| !stem.is_empty() && !stem.starts_with('.') && end.eq_ignore_ascii_case(".eml"))
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

    #[test]
    fn a_file_is_given_a_name_that_says_what_it_is() {
        for (name, expected) in [("x.eml", true), ("X.EML", true), (".eml", false), (".x.eml", false), ("x", false)] {
            assert_eq!(is_eml(name), expected, "{name}");
        }
    }
}
