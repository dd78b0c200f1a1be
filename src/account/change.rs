//! Changes of messages: asked of the server, and taken in like what others change. Who asks at the same time for the
//! same goes to the server together.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Account;
use super::doubt::Doubts;
use super::group::Groups;
use super::index::Index;
use super::intent::{ANSWER_MAX, Place, Transfer};
use super::later::{Change, Landing, Queue};
use super::upload::Draft;
use crate::error::{Error, Result};
use crate::imap::response::Data;
use crate::imap::{Class, Command, Done, Target};
use crate::mail::flag::Flags;
use crate::mail::uid::Uid;
use crate::tree::node::MailboxId;

/// The changes that are on their way, and what was learnt from those that were.
#[derive(Debug, Default)]
pub struct Changing {
    flags: Groups<(MailboxId, String, String), Uid, ()>,
    transfers: Groups<(MailboxId, MailboxId, Transfer), Uid, Uid>,
    removals: Groups<MailboxId, Uid, ()>,
    pub(super) appends: Groups<MailboxId, Draft, Uid>,
    /// The server offers MOVE, or REPLACE, and does not know it when it is asked.
    pub(super) no_move: AtomicBool,
    pub(super) no_replace: AtomicBool,
    pub(super) doubts: Doubts,
    /// One at a time changes or lists the names of mailboxes, so that a listing never sees half of a change.
    pub(super) naming: tokio::sync::Mutex<()>,
    pub(super) queue: Arc<Queue>,
}

impl Account {
    /// `ReadOnly` where nothing may be changed.
    pub(super) fn check_writable(&self) -> Result<()> {
        if self.options.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Does the server offer this? `name` upper-case.
    pub(super) fn offers(&self, name: &str) -> bool {
        self.client.server().offers(name)
    }

    /// Sends a change of the messages of a mailbox.
    pub(super) async fn change(&self, index: &Index, command: Command) -> Result<(Vec<Data>, Done)> {
        let outcome = self.client.run(index.target(), command, Class::Small, ANSWER_MAX).await;
        self.settle(index, outcome)
    }

    /// Sends a change that no mailbox need be selected for.
    pub(super) async fn change_account(&self, command: Command) -> Result<Done> {
        let outcome = self.client.run(Target::Account, command, Class::Small, ANSWER_MAX).await;
        outcome.map(|(_, done)| done)
    }

    /// Sets some flags of a message and clears others; with `Options::write_behind` it returns when that is queued.
    ///
    /// # Errors
    /// `Unsupported` for what the server does not keep, `NotFound` when the message is gone, `ReadOnly`.
    pub async fn change_flags(self: &Arc<Self>, at: Place, set: Flags, clear: Flags) -> Result<()> {
        self.check_writable()?;
        let clear = clear.without(&set);
        let known = self.summary(at.0, at.1).await?;
        let index = self.index(at.0)?;
        let is_so = set.without(&known.flags).is_empty() && clear.among(&known.flags).is_empty();
        if is_so && index.is_fresh(self.options.poll_interval) {
            return Ok(());
        }
        // What cannot be kept is refused while somebody listens.
        self.check_flags(&index, &set.with(&clear)).await?;
        if self.options.write_behind {
            return self.queue(at, Change::Flags(set, clear)).await.map(drop);
        }
        let (account, key) = (Arc::clone(self), (at.0, set.to_string(), clear.to_string()));
        let work = move |uids| {
            let (account, set, clear) = (Arc::clone(&account), set.clone(), clear.clone());
            async move { account.store(at.0, uids, &set, &clear).await }
        };
        self.changing.flags.join(key, at.1, work).await
    }

    /// Moves a message, and waits for it. Its new UID.
    ///
    /// # Errors
    /// `Unsupported`, before anything is done, where the server has neither MOVE nor UIDPLUS; `NotFound` when it is
    /// gone; after any error the message is where it was, or an identical copy is there as well.
    pub async fn move_message(self: &Arc<Self>, at: Place, to: MailboxId) -> Result<Uid> {
        self.check_writable()?;
        let at = self.settle_message(at).await;
        self.summary(at.0, at.1).await?;
        if at.0 == to {
            return Ok(at.1);
        }
        self.transfer(at, to, Transfer::Move).await
    }

    /// Moves a message; with `Options::write_behind` it returns when that is queued: the message is not shown any more
    /// where it was, answers to its old place until the landing tells its new UID, and is back there if that fails.
    pub async fn move_message_soon(self: &Arc<Self>, at: Place, to: MailboxId) -> Result<Landing> {
        if !self.options.write_behind || at.0 == to {
            return self.move_message(at, to).await.map(Landing::landed);
        }
        self.check_writable()?;
        self.summary(at.0, at.1).await?;
        self.check_can_move()?;
        self.index(to)?;
        self.queue(at, Change::Move(to)).await
    }

    /// Copies a message, on the server. The UID of the copy.
    pub async fn copy_message(self: &Arc<Self>, at: Place, to: MailboxId) -> Result<Uid> {
        self.check_writable()?;
        let at = self.settle_message(at).await;
        self.summary(at.0, at.1).await?;
        self.transfer(at, to, Transfer::Copy).await
    }

    async fn transfer(self: &Arc<Self>, at: Place, to: MailboxId, transfer: Transfer) -> Result<Uid> {
        let account = Arc::clone(self);
        let work = move |uids| {
            let account = Arc::clone(&account);
            async move { account.transfer_all(at.0, to, uids, transfer).await }
        };
        self.changing.transfers.join((at.0, to, transfer), at.1, work).await
    }

    /// Removes a message, as `Options::deletion` says; with `Options::write_behind` it returns when that is queued.
    ///
    /// # Errors
    /// `Unsupported`, before anything is done, where the server cannot do it without touching other clients' mail.
    pub async fn remove_message(self: &Arc<Self>, at: Place) -> Result<()> {
        self.check_writable()?;
        self.summary(at.0, at.1).await?;
        self.plan_removal(at.0)?;
        if self.options.write_behind {
            return self.queue(at, Change::Remove).await.map(drop);
        }
        let account = Arc::clone(self);
        let work = move |uids| {
            let account = Arc::clone(&account);
            async move { account.remove_all(at.0, uids).await }
        };
        self.changing.removals.join(at.0, at.1, work).await
    }
}
