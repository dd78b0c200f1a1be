//! Removal of messages: into the mailbox for trash, by UID EXPUNGE, or by the flag alone.

use std::sync::Arc;

use tracing::warn;

use super::Account;
use super::index::Index;
use super::intent::{Deletion, Transfer};
use super::mailboxes::Mailboxes;
use super::transfer::deleted;
use crate::error::{Error, Result};
use crate::imap::Command;
use crate::mail::flag::Flags;
use crate::mail::uid::{Uid, UidSet};
use crate::tree::node::MailboxId;

/// What a mailbox for trash is called where the server does not mark it, the likeliest first.
const TRASH_NAMES: [&str; 5] = ["Trash", "Deleted Messages", "Deleted Items", "Deleted", "Bin"];

/// How the messages of a mailbox are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    MoveTo(MailboxId),
    Expunge,
    Flag,
}

impl Account {
    /// Where removed messages go, as far as they go anywhere.
    pub(super) fn trash(&self) -> Option<MailboxId> {
        (self.options.deletion == Deletion::Trash).then(|| trash(&self.table().mailboxes)).flatten()
    }

    /// How the messages of this mailbox are removed. `Unsupported` where they cannot be.
    pub(super) fn plan_removal(&self, id: MailboxId) -> Result<Removal> {
        let removal = match self.options.deletion {
            Deletion::Flag => Removal::Flag,
            Deletion::Expunge => Removal::Expunge,
            Deletion::Trash => {
                let table = self.table();
                match trash(&table.mailboxes) {
                    Some(trash) if is_within(&table.mailboxes, id, trash) => Removal::Expunge,
                    Some(trash) => Removal::MoveTo(trash),
                    None => {
                        let reason = "there is no mailbox for trash: make one called Trash, or use --delete expunge";
                        return Err(Error::Unsupported(reason.into()));
                    }
                }
            }
        };
        match removal {
            Removal::MoveTo(_) => self.check_can_move()?,
            Removal::Expunge => self.check_can_expunge()?,
            Removal::Flag => {}
        }
        Ok(removal)
    }

    /// Removes messages; an outcome for each. One that is gone already is removed.
    pub(super) async fn remove_all(self: &Arc<Self>, id: MailboxId, uids: Vec<Uid>) -> Vec<Result<()>> {
        let gone_is_fine = |outcome| if outcome == Err(Error::NotFound) { Ok(()) } else { outcome };
        let outcomes: Vec<Result<()>> = match self.plan_removal(id) {
            Ok(Removal::MoveTo(trash)) => {
                let moved = self.transfer_all(id, trash, uids, Transfer::Move).await;
                moved.into_iter().map(|outcome| outcome.map(drop)).collect()
            }
            Ok(Removal::Flag) => self.store(id, uids, &deleted(), &Flags::default()).await,
            Ok(Removal::Expunge) => {
                let set = uids.iter().copied().collect();
                let outcome = match self.index(id) {
                    Ok(index) => self.expunge(&index, &set).await,
                    Err(error) => Err(error),
                };
                vec![outcome; uids.len()]
            }
            Err(error) => vec![Err(error); uids.len()],
        };
        outcomes.into_iter().map(gone_is_fine).collect()
    }

    /// Expunges just these messages. When the server refuses that, they are not marked either.
    pub(super) async fn expunge(self: &Arc<Self>, index: &Index, uids: &UidSet) -> Result<()> {
        self.check_can_expunge()?;
        if uids.is_empty() {
            return Ok(());
        }
        let all: Vec<Uid> = uids.iter().collect();
        let marked_before: Vec<Uid> =
            all.iter().copied().filter(|uid| index.told(*uid).is_some_and(|m| m.flags.contains("\\Deleted"))).collect();
        let outcomes = self.mark(index, &all).await;
        let is_marked = |outcome: &Result<()>| *outcome != Err(Error::NotFound);
        let (marked, failed) =
            (outcomes.iter().filter(|o| is_marked(o)).count(), outcomes.iter().find(|o| o.is_err() && is_marked(o)));
        let refused = match failed {
            Some(error) => error.clone(),
            None if marked == 0 => {
                index.left(uids.clone());
                return Ok(());
            }
            None => self.change(index, Command::Expunge(uids.clone())).await.map(drop),
        };
        match refused {
            Ok(()) => {
                index.left(uids.clone());
                Ok(())
            }
            Err(error) => {
                let others: Vec<Uid> = all.into_iter().filter(|uid| !marked_before.contains(uid)).collect();
                if !error.is_connection_lost() && !others.is_empty() {
                    let unmarked = self.store(index.id, others, &Flags::default(), &deleted()).await;
                    if let Some(Err(undo)) = unmarked.iter().find(|o| o.as_ref().is_err_and(|e| *e != Error::NotFound))
                    {
                        warn!(%error, %undo, "messages stay marked as deleted");
                    }
                }
                Err(error)
            }
        }
    }

    async fn mark(self: &Arc<Self>, index: &Index, uids: &[Uid]) -> Vec<Result<()>> {
        self.store(index.id, uids.to_vec(), &deleted(), &Flags::default()).await
    }
}

/// The mailbox for trash: by its special use (RFC 6154), else by its name, at the top or in INBOX.
fn trash(mailboxes: &Mailboxes) -> Option<MailboxId> {
    let marked = mailboxes.all().find(|mailbox| mailbox.special_use() == Some("\\Trash"));
    let named = || {
        let inbox = mailboxes.child(None, "INBOX");
        let places = [None, inbox];
        let all = TRASH_NAMES.iter().flat_map(|name| places.iter().map(move |place| (name, *place)));
        all.filter(|(_, place)| place.is_none() || inbox.is_some()).find_map(|(name, place)| {
            let id = mailboxes.child_ignoring_case(place, name)?;
            mailboxes.get(id).filter(|mailbox| mailbox.index.is_some())
        })
    };
    marked.or_else(named).map(|mailbox| mailbox.id)
}

/// Is a mailbox this one, or below it?
pub(super) fn is_within(mailboxes: &Mailboxes, id: MailboxId, above: MailboxId) -> bool {
    let mut at = Some(id);
    while let Some(id) = at {
        if id == above {
            return true;
        }
        at = mailboxes.get(id).and_then(|mailbox| mailbox.parent);
    }
    false
}
