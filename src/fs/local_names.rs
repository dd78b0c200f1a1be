//! Names that exist only in this mount: how they are found, renamed and removed.

use std::sync::Arc;

use super::Fs;
use super::local::{Home, Local, Place};
use super::write::{is_message_directory, place_of, refused};
use crate::error::{Error, Result};
use crate::tree::node::{EntryId, Ino, MailboxView, Node};
use crate::tree::part_name::RAW;
use crate::tree::scratch::{FileName, classify};
use crate::tree::views::parse_eml_name;

/// What such a name means.
pub(super) enum LocalName {
    /// This.
    Is(Node),
    /// Nothing: it was taken away from a message for a moment.
    IsFree,
}

impl Fs {
    /// What a name means that was given or taken in this mount; `None`: what the server says.
    pub(super) fn local_name(&self, directory: Node, name: &str) -> Option<LocalName> {
        let directory = directory.pack();
        if let Some(node) = self.locals.named(directory, name) {
            // A file that has just become a message is still to be found as what it was.
            let now = if self.locals.get(node).is_some() { node } else { self.aliases.resolve(node) };
            return Some(LocalName::Is(now));
        }
        self.locals.parked(directory, name).map(|_| LocalName::IsFree)
    }

    /// The file, or the message under a scratch name, that has this name in this mount alone.
    pub(super) fn local(&self, parent: Ino, name: &str) -> Option<Node> {
        self.locals.named(self.node(parent).ok()?.pack(), name)
    }

    /// Removes such a name; `None` when it is none. A message under a scratch name gets its own name back.
    pub(super) fn unlink_local(&self, parent: Ino, name: &str) -> Option<Result<()>> {
        let directory = self.node(parent).ok()?.pack();
        let node = self.locals.remove_name(directory, name)?;
        match self.locals.get(node) {
            Some(local) => self.unname(&local),
            None => drop(self.locals.unpark_scratch(directory, name)),
        }
        Some(Ok(()))
    }

    /// A file without a name is gone with its last handle, and becomes no mail.
    fn unname(&self, local: &Local) {
        local.facts().home = None;
        self.retire(local, false);
    }

    /// Renames what [`Fs::local`] found. A file that gets the name of a message becomes one now: the error is that of
    /// the server, and the file has its old name then.
    pub(super) async fn rename_local(
        self: &Arc<Self>,
        parent: Ino,
        name: &str,
        to_parent: Ino,
        to_name: &str,
    ) -> Result<()> {
        let (from, to) = (self.node(parent)?, self.node(to_parent)?);
        let node = self.locals.named(from.pack(), name).ok_or(Error::NotFound)?;
        if (from, name) == (to, to_name) {
            return Ok(());
        }
        let Some(local) = self.locals.get(node) else {
            return self.rename_parked(from, name, to, to_name, node);
        };
        let target = match classify(to_name) {
            FileName::Scratch => None,
            FileName::Message => self.message_named(to, to_name).await?,
            FileName::Litter | FileName::Other => return Err(refused("only files that are called *.eml become mail")),
        };
        if is_message_directory(to) && classify(to_name) == FileName::Message && target.is_none() {
            return Err(refused("a message holds its parts and nothing else"));
        }
        if target.is_some() && local.facts().size == 0 {
            return Err(refused("an empty file is no message"));
        }
        let home = self.home(to, to_name)?;
        let old = self.rehome(&local, home, target);
        let outcome = self.commit(&local).await;
        match (&outcome, old) {
            (Err(_), (Some(home), target)) => {
                self.rehome(&local, home, target);
                local.facts().failed = None;
            }
            _ => self.retire(&local, false),
        }
        outcome
    }

    /// Gives a file another name, and what it takes the place of. What it had.
    fn rehome(&self, local: &Local, home: Home, target: Option<Place>) -> (Option<Home>, Option<Place>) {
        let (old, old_target) = {
            let mut facts = local.facts();
            (facts.home.replace(home.clone()), std::mem::replace(&mut facts.target, target))
        };
        if let Some(old) = &old {
            self.locals.remove_name(old.directory, &old.name);
        }
        let replaced = self.locals.set_name(home.directory, &home.name, local.node);
        if let Some(other) = replaced.filter(|node| *node != local.node).and_then(|node| self.locals.get(node)) {
            self.unname(&other);
        }
        (old, old_target)
    }

    /// A message under a scratch name gets its name back, or another scratch name.
    fn rename_parked(&self, from: Node, name: &str, to: Node, to_name: &str, node: Node) -> Result<()> {
        let at = from.pack();
        if from != to {
            return Err(refused("a message that an editor is about to replace stays where it is"));
        }
        match self.locals.unpark_scratch(at, name) {
            Some(original) if original == to_name => {}
            Some(original) if classify(to_name) == FileName::Scratch => {
                if let Some(place) = place_of(self.aliases.resolve(node)) {
                    self.locals.park(at, &original, place, node, to_name);
                }
            }
            Some(original) => {
                if let Some(place) = place_of(self.aliases.resolve(node)) {
                    self.locals.park(at, &original, place, node, name);
                }
                return Err(refused("a message's name is made from the message"));
            }
            None => return Err(refused("a message's name is made from the message")),
        }
        self.locals.remove_name(at, name);
        Ok(())
    }

    /// Gives a message a scratch name in its own directory, as editors do before they write it anew; `None` when that
    /// is not what is asked for.
    pub(super) async fn park(&self, parent: Ino, name: &str, to_parent: Ino, to_name: &str) -> Option<Result<()>> {
        let (from, to) = (self.node(parent).ok()?, self.node(to_parent).ok()?);
        if from != to || classify(to_name) != FileName::Scratch {
            return None;
        }
        let place = match self.message_named(from, name).await {
            Ok(place) => place?,
            Err(error) => return Some(Err(error)),
        };
        if let Some(Err(error)) = self.unlink_local(to_parent, to_name) {
            return Some(Err(error));
        }
        self.locals.park(from.pack(), name, place, Node::Entry(place.0, place.1, EntryId::RAW), to_name);
        Some(Ok(()))
    }

    /// The message that is a file of this name in a directory, or was until it was given a scratch name.
    pub(super) async fn message_named(&self, directory: Node, name: &str) -> Result<Option<Place>> {
        let at = directory.pack();
        if let Some(place) = self.locals.parked(at, name) {
            return Ok(Some(place));
        }
        if let Some(place) = self.aliases.name(at, name).and_then(place_of) {
            return Ok(Some(place));
        }
        match directory {
            Node::Entry(mailbox, uid, EntryId::DIRECTORY) if name == RAW => Ok(Some((mailbox, uid))),
            Node::MailboxView(mailbox, MailboxView::Eml) => {
                let name = parse_eml_name(name).unwrap_or_default();
                let Some(uid) = self.options.names.parse(name) else { return Ok(None) };
                match self.account.summary(mailbox, uid).await {
                    Ok(summary) if self.options.names.format(&summary) == name => Ok(Some((mailbox, uid))),
                    Ok(_) | Err(Error::NotFound | Error::Stale) => Ok(None),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(None),
        }
    }
}
