//! unlink and rmdir. A part cannot be removed from a message; but `rm -r` removes the parts of a directory one by one
//! and the directory last, so a part that is removed is out of sight until that is known not to follow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::{Fs, Invalidation};
use crate::account::Place;
use crate::error::{Error, Result};
use crate::tree::node::{EntryId, Ino, MailboxId, MailboxView, Node};

/// How long after the last part was removed the directory may be, before the parts come back.
const PATIENCE: Duration = Duration::from_secs(5);

/// Parts that were removed from messages whose removal may follow.
#[derive(Debug, Default)]
pub struct Hidden {
    inner: Mutex<HashMap<Place, Parts>>,
}

#[derive(Debug)]
struct Parts {
    /// With the directory and the name that each was removed under.
    entries: HashMap<EntryId, (Ino, String)>,
    until: Instant,
}

impl Hidden {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Parts>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is this part out of sight?
    pub fn is_hidden(&self, at: Place, entry: EntryId) -> bool {
        self.lock().get(&at).is_some_and(|parts| parts.entries.contains_key(&entry))
    }

    /// The message is gone, parts and all.
    fn end(&self, at: Place) {
        self.lock().remove(&at);
    }

    /// Puts a part out of sight, and back when nothing followed.
    fn hide(self: &Arc<Self>, at: Place, entry: EntryId, name: (Ino, String), tell: &UnboundedSender<Invalidation>) {
        let mut hidden = self.lock();
        let is_first = !hidden.contains_key(&at);
        let until = Instant::now() + PATIENCE;
        let parts = hidden.entry(at).or_insert_with(|| Parts { entries: HashMap::new(), until });
        parts.entries.insert(entry, name);
        parts.until = until;
        drop(hidden);
        if is_first {
            let (hidden, tell) = (Arc::clone(self), tell.clone());
            tokio::spawn(async move {
                let mut until = until;
                loop {
                    sleep_until(until).await;
                    match hidden.overdue(at) {
                        Ok(back) => return show_again(at, back, &tell),
                        Err(later) => until = later,
                    }
                }
            });
        }
    }

    /// The parts to show again, when it is time; else when to look again.
    fn overdue(&self, at: Place) -> std::result::Result<Vec<(Ino, String)>, Instant> {
        let mut hidden = self.lock();
        match hidden.get(&at) {
            Some(parts) if parts.until > Instant::now() => Err(parts.until),
            _ => Ok(hidden.remove(&at).into_iter().flat_map(|parts| parts.entries.into_values()).collect()),
        }
    }
}

fn show_again(at: Place, back: Vec<(Ino, String)>, tell: &UnboundedSender<Invalidation>) {
    if !back.is_empty() {
        info!(mailbox = at.0.0, uid = %at.1, "parts cannot be removed from a message: {} are shown again", back.len());
    }
    for (directory, name) in back {
        // A closed channel: nobody is mounted.
        let _ = tell.send(Invalidation::Entry(directory, name));
        let _ = tell.send(Invalidation::Data(directory));
    }
}

impl Fs {
    /// Removes a file: a message where it is a file, or a part, until it is clear that its message stays. Errors:
    /// `NotFound`, `IsDirectory`, `NotPermitted`, and what the server says.
    pub async fn unlink(&self, parent: Ino, name: &str) -> Result<()> {
        if let Some(removed) = self.unlink_local(parent, name) {
            return removed;
        }
        let found = self.lookup(parent, name).await?.attr;
        match (self.node(parent)?, self.node(found.ino)?) {
            (_, Node::Mailbox(_) | Node::Root | Node::Entry(_, _, EntryId::DIRECTORY)) => Err(Error::IsDirectory),
            (Node::Entry(..), node @ Node::Entry(..)) => self.hide(parent, name, node),
            (_, node @ Node::Entry(..)) => self.remove_message(parent, name, node).await,
            _ => Err(Error::NotPermitted("a view cannot be removed".into())),
        }
    }

    /// Removes a directory: a message with all its parts, an empty mailbox, or a part that is a directory until it is
    /// clear that its message stays. Errors: `NotFound`, `NotDirectory`, `NotEmpty`, `Busy`, `NotPermitted`, and what the
    /// server says.
    pub async fn rmdir(&self, parent: Ino, name: &str) -> Result<()> {
        let found = self.lookup(parent, name).await?.attr;
        match self.node(found.ino)? {
            node @ Node::Entry(_, _, EntryId::DIRECTORY) => self.remove_message(parent, name, node).await,
            _ if found.kind == super::Kind::File => Err(Error::NotDirectory),
            node @ Node::Entry(..) => self.hide(parent, name, node),
            Node::Mailbox(id) => {
                self.check_not_inbox(id, "removed")?;
                self.account.delete_mailbox(id).await
            }
            _ => Err(Error::NotPermitted("a view cannot be removed".into())),
        }
    }

    fn hide(&self, parent: Ino, name: &str, node: Node) -> Result<()> {
        let Node::Entry(mailbox, uid, entry) = node else { return Err(Error::Stale) };
        self.hidden.hide((mailbox, uid), entry, (parent, name.to_owned()), &self.invalidate);
        Ok(())
    }

    async fn remove_message(&self, parent: Ino, name: &str, node: Node) -> Result<()> {
        let Node::Entry(mailbox, uid, _) = node else { return Err(Error::Stale) };
        let at = (mailbox, uid);
        self.account.remove_message(at).await?;
        self.hidden.end(at);
        self.copies.end(at);
        for (directory, given) in self.aliases.names_of(mailbox, uid) {
            self.aliases.remove_name(directory, &given);
            // The kernel itself forgets the name that was removed.
            if (directory, &*given) != (parent, name) {
                self.invalidate(Invalidation::Entry(directory, given));
            }
        }
        Ok(())
    }

    /// INBOX is where mail arrives: it stays.
    pub(super) fn check_not_inbox(&self, id: MailboxId, what: &str) -> Result<()> {
        let mailbox = self.account.mailbox(id)?;
        if mailbox.parent.is_none() && mailbox.component.eq_ignore_ascii_case("INBOX") {
            return Err(Error::Busy(format!("INBOX cannot be {what}: mail arrives there").into()));
        }
        Ok(())
    }

    /// Is this entry of a message out of sight: removed a moment ago, or not yet created?
    pub(super) fn is_out_of_sight(&self, at: Place, entry: EntryId) -> bool {
        self.hidden.is_hidden(at, entry) || self.copies.is_absent(at, entry)
    }

    /// Is this message out of sight under its names in `directory`: on its way out, or removed by a flag alone?
    pub(super) fn is_leaving(&self, directory: Ino, at: Place) -> bool {
        self.directories_of(at.0).contains(&directory) && !self.account.is_shown(at.0, at.1)
    }

    /// The directories that show the messages of a mailbox.
    pub(super) fn directories_of(&self, id: MailboxId) -> [Ino; 2] {
        [self.mailbox_node(Some(id)), Node::MailboxView(id, MailboxView::Eml)].map(Node::pack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::uid::Uid;

    #[tokio::test(start_paused = true)]
    async fn parts_come_back_when_their_message_is_not_removed() {
        let hidden = Arc::new(Hidden::default());
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let at = (MailboxId(1), Uid::new(7).unwrap());
        let directory = Node::message(at.0, at.1).pack();
        let hide = |entry, name: &str| hidden.hide(at, EntryId(entry), (directory, name.to_owned()), &tell);
        hide(4, "a");
        tokio::time::sleep(PATIENCE / 2).await;
        hide(8, "b");
        tokio::time::sleep(PATIENCE / 2 + PATIENCE / 4).await;
        // Removing goes on.
        assert!(hidden.is_hidden(at, EntryId(4)) && hidden.is_hidden(at, EntryId(8)));
        assert!(told.try_recv().is_err());
        tokio::time::sleep(PATIENCE).await;
        assert!(!hidden.is_hidden(at, EntryId(4)));
        let mut names = Vec::new();
        while let Ok(invalidation) = told.try_recv() {
            if let Invalidation::Entry(parent, name) = invalidation {
                assert_eq!(parent, directory);
                names.push(name);
            }
        }
        names.sort();
        assert_eq!(names, ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn parts_of_a_removed_message_are_told_of_no_more() {
        let hidden = Arc::new(Hidden::default());
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let at = (MailboxId(1), Uid::new(7).unwrap());
        hidden.hide(at, EntryId(4), (Ino(1), "a".into()), &tell);
        hidden.end(at);
        tokio::time::sleep(PATIENCE * 2).await;
        assert!(told.try_recv().is_err());
    }
}
