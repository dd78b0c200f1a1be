//! Which of the connections that are open is the best for a request.

use std::sync::atomic::Ordering;

use super::{Dispatcher, Job, Place, Slot};
use crate::imap::request::Command;
use crate::mail::uid::Uid;

/// Dearer than an idle connection that must select the mailbox first, and than one with many small reads or another
/// message: so dear that the round trips of another login are worth waiting for.
pub(super) const DEAR: usize = 5;
/// Small reads in flight on a connection that make another one worth opening.
const CROWDED: usize = 32;
/// What they cost, and what reads of another message cost where bulk reads are in flight: Dovecot then begins anew.
pub(super) const CROWDED_COST: usize = 4;

impl Dispatcher {
    /// The best connection for a job, and what it costs to use it; `None` when none suits.
    pub(super) fn choose(&self, wanted: Place, job: &Job) -> Option<(usize, usize)> {
        let only = self.slots.len() == 1 && self.options.connections == 1;
        let candidates = self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let (small, bulk) = (slot.small.load(Ordering::Relaxed), slot.bulk.load(Ordering::Relaxed));
            let suits = only || if wanted == Place::Bulk { slot.place == Place::Bulk } else { bulk == 0 };
            let load = small + bulk;
            let here = job.mailbox().is_none() || slot.mailbox.as_ref() == job.mailbox();
            // Another mailbox costs a round trip, and waits for all that is in flight. Before the first one that is little.
            let switch = if here {
                0
            } else if load == 0 || slot.mailbox.is_none() {
                2
            } else {
                20
            };
            let elsewhere = usize::from(slot.place != wanted);
            let message = wanted == Place::Bulk && load > 0 && slot.message != message(job);
            // The pieces of one message stay on one connection, in their order, however many there are.
            let is_crowded = if wanted == Place::Bulk { message } else { load >= CROWDED };
            let crowded = usize::from(is_crowded) * CROWDED_COST;
            suits.then_some((switch + elsewhere + crowded + self.disturbance(slot, job), at))
        });
        candidates.min()
    }

    /// Not the first, if there is another: that one is for what must not wait.
    pub(super) fn least_loaded(&self) -> Option<usize> {
        let load = |slot: &Slot| slot.small.load(Ordering::Relaxed) + slot.bulk.load(Ordering::Relaxed);
        let slots = self.slots.iter().enumerate();
        slots.min_by_key(|(_, slot)| (slot.place == Place::Watch, load(slot))).map(|(at, _)| at)
    }
}

/// The message that a bulk read reads, when it is one.
pub(super) fn message(job: &Job) -> Option<Uid> {
    match &job.request.command {
        Command::Fetch { uids, .. } if uids.len() == 1 => uids.iter().next(),
        _ => None,
    }
}
