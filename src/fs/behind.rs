//! Changes of messages that are under way: each is carried out to its end, whoever stops waiting for it; those of one
//! message come one after the other; and with `--write-behind` nobody waits, but each look is shown what is to be.
//!
//! A caller that waits for each of a thousand changes waits a thousand round trips. Written behind they reach the
//! server together. Nothing is risked by it that was not before: no bytes live here alone, and a change that failed, or
//! that the end of the process cut off, leaves the message where and as it was. It is told to fsync of any directory,
//! which waits for all changes, and to the log.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tracing::warn;

use super::{Fs, Invalidation};
use crate::account::Place;
use crate::error::{Error, Result};
use crate::mail::envelope::Summary;
use crate::mail::flag::Flags;
use crate::tree::node::{MailboxId, Node};

/// Changes under way at the most; the next waits for one to end.
const MAX_UNDERWAY: usize = 4096;

/// What is shown of a message while a change of it is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// It is where and as it was.
    AsBefore,
    /// It is gone from its mailbox.
    Gone,
    /// It has these flags.
    Flags(Flags),
}

/// The changes under way.
#[derive(Debug)]
pub struct Behind {
    state: Mutex<State>,
    /// One has ended.
    ended: Notify,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    underway: HashMap<Place, Meanwhile>,
    /// The first that failed and nobody was told of.
    failed: Option<Error>,
}

impl Default for Behind {
    fn default() -> Self {
        Self { state: Mutex::default(), ended: Notify::new(), room: Arc::new(Semaphore::new(MAX_UNDERWAY)) }
    }
}

impl Behind {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is the message on its way out of its mailbox?
    pub fn is_gone(&self, at: Place) -> bool {
        self.lock().underway.get(&at) == Some(&Meanwhile::Gone)
    }

    /// The flags that it is to have, when they are being changed.
    pub fn flags(&self, at: Place) -> Option<Flags> {
        match self.lock().underway.get(&at) {
            Some(Meanwhile::Flags(flags)) => Some(flags.clone()),
            _ => None,
        }
    }

    /// Waits until `done` is true of what is under way.
    async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            if done(&self.lock()) {
                return;
            }
            ended.await;
        }
    }

    /// Enters a change; false when another of this message is under way.
    fn begin(&self, at: Place, shown: &Meanwhile) -> bool {
        let mut state = self.lock();
        let free = !state.underway.contains_key(&at);
        if free {
            state.underway.insert(at, shown.clone());
        }
        free
    }

    fn end(&self, at: Place, failed: Option<Error>) {
        let mut state = self.lock();
        state.underway.remove(&at);
        if state.failed.is_none() {
            state.failed = failed;
        }
        drop(state);
        self.ended.notify_waiters();
    }
}

/// A change under way; dropping it is its end, so that one that panicked holds up no other.
struct Underway {
    behind: Arc<Behind>,
    at: Place,
    failed: Option<Error>,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.behind.end(self.at, self.failed.take());
    }
}

impl Fs {
    /// Where the message of this node is, once no earlier change of it is under way. `Stale` for what is no message.
    pub(super) async fn turn(&self, node: Node) -> Result<Place> {
        loop {
            let Node::Entry(mailbox, uid, _) = self.aliases.resolve(node) else { return Err(Error::Stale) };
            let at = (mailbox, uid);
            self.behind.until(|state| !state.underway.contains_key(&at)).await;
            let Node::Entry(mailbox, uid, _) = self.aliases.resolve(node) else { return Err(Error::Stale) };
            if at == (mailbox, uid) {
                return Ok(at);
            }
        }
    }

    /// Carries out a change of a message: `work` runs to its end. With write-behind its outcome is not waited for, and
    /// `shown` is what the message looks like meanwhile.
    pub(super) async fn carry_out(
        &self,
        at: Place,
        shown: Meanwhile,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        let write_behind = self.options.write_behind;
        let shown = if write_behind { shown } else { Meanwhile::AsBefore };
        let room = Arc::clone(&self.behind.room).acquire_owned().await.map_err(|_| Error::Interrupted)?;
        while !self.behind.begin(at, &shown) {
            self.behind.until(|state| !state.underway.contains_key(&at)).await;
        }
        let mut underway = Underway { behind: Arc::clone(&self.behind), at, failed: None };
        let invalidate = self.invalidate.clone();
        let directory = self.mailbox_node(Some(at.0)).pack();
        let task = tokio::spawn(async move {
            let _room = room;
            let outcome = work.await;
            if let (Err(error), true) = (&outcome, write_behind) {
                warn!(mailbox = at.0.0, uid = %at.1, "a change was undone, for it failed: {error}");
                underway.failed = Some(error.clone());
                // It is shown again.
                let _ = invalidate.send(Invalidation::Data(directory));
            }
            drop(underway);
            outcome
        });
        if write_behind {
            return Ok(());
        }
        task.await.map_err(|error| Error::Local(error.to_string().into()))?
    }

    /// Waits for the changes of messages in a mailbox that are under way.
    pub(super) async fn quiet(&self, id: MailboxId) {
        self.behind.until(|state| state.underway.keys().all(|at| at.0 != id)).await;
    }

    /// Waits for all changes under way. The error of the first that failed since somebody was told of one.
    pub async fn settle(&self) -> Result<()> {
        self.behind.until(|state| state.underway.is_empty()).await;
        match self.behind.lock().failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The messages of a mailbox, less those on their way out.
    pub(super) async fn shown(&self, id: MailboxId) -> Result<Vec<Arc<Summary>>> {
        let mut messages = self.account.messages(id).await?;
        if self.options.write_behind {
            messages.retain(|message| !self.behind.is_gone((id, message.uid)));
        }
        Ok(messages)
    }
}
