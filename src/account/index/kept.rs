//! What of a mailbox outlives the mount: taken in before it is used for the first time, and told as it changes.

use super::{Index, Known};
use crate::mail::mailbox::{Change, Opened};
use crate::mail::uid::UidSet;
use crate::store::{Shelf, Synced};

/// What changed in one go.
#[derive(Debug, Default)]
pub struct Batch {
    changed: UidSet,
    gone: UidSet,
    /// All that there is has been told.
    pub completes: bool,
}

impl Batch {
    /// This changed as well.
    pub fn add(&mut self, change: &Change) {
        match change {
            Change::Arrived(uid) | Change::Flags(uid) => self.changed.insert(*uid),
            Change::Gone(message) => self.gone.insert(message.uid),
            Change::Reset => {}
        }
    }
}

impl Index {
    /// Takes in what an earlier mount kept of it, once; until then nothing is known.
    pub async fn wake(&self) {
        let Some(store) = &self.changes.store else { return };
        let wake = || async {
            let Some(kept) = store.load(self.id.0).await else { return };
            let Synced { uid_next, exists, modseq } = kept.synced;
            let opened = Opened { validity: kept.validity, uid_next, exists, highest_modseq: modseq };
            tracing::debug!(mailbox = ?self.name, ?opened, messages = kept.messages.len(), "known from disk");
            self.lock().mailbox.restore(opened, kept.messages);
        };
        self.awake.get_or_init(wake).await;
    }

    /// Is it what an earlier mount knew, and nothing newer?
    pub fn is_old(&self) -> bool {
        let known = self.lock();
        known.mailbox.is_complete() && known.synced.is_none()
    }

    /// Where it is kept. What follows a new UIDVALIDITY belongs to another index.
    pub(super) fn shelf(&self, known: &Known) -> Option<Shelf> {
        let store = self.changes.store.as_ref().filter(|_| !known.void)?;
        store.shelf(self.id.0, known.mailbox.validity()?)
    }

    /// Keeps what changed, in the order in which it is applied.
    pub(super) fn keep(&self, known: &Known, batch: Batch) {
        let Some(shelf) = self.shelf(known) else { return };
        shelf.gone(batch.gone);
        shelf.put_messages(batch.changed.iter().filter_map(|uid| known.mailbox.get(uid).cloned()).collect());
        if let Some(Opened { uid_next, exists, highest_modseq, .. }) =
            known.mailbox.listed().filter(|_| batch.completes)
        {
            shelf.synced(Synced { uid_next, exists, modseq: highest_modseq });
        }
    }
}
