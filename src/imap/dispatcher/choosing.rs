//! Which of the connections that are open is the best for a request.

use std::sync::atomic::Ordering;

use super::{Dispatcher, Job, Place, Slot};
use crate::imap::request::{Command, FetchItem};
use crate::mail::uid::Uid;

/// Dearer than an idle connection that must select the mailbox first, and than one with many small reads or another
/// message: so dear that the round trips of another login are worth waiting for.
pub(super) const DEAR: usize = 5;
/// Small reads in flight on a connection that make another one worth opening.
const CROWDED: usize = 32;
/// What they cost, and what reads of another message cost where bulk reads are in flight: Dovecot then begins anew.
pub(super) const CROWDED_COST: usize = 4;
/// What it costs a small read to wait for a deep one, and the other way round: as much as to disturb a connection that
/// watches, in another place, and less than what makes another connection worth opening.
const HELD_UP_COST: usize = 3;
/// A small read from there on is deep: servers find the octets by reading the part up to them. Dovecot takes 3 ms for 2 MB.
const DEEP: u64 = 256 << 10;

impl Slot {
    /// Requests that it was given and has not answered.
    pub(super) fn load(&self) -> usize {
        [&self.small, &self.bulk, &self.deep].into_iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Dispatcher {
    /// The best connection for a job, and what it costs to use it; `None` when none suits.
    pub(super) fn choose(&self, wanted: Place, job: &Job) -> Option<(usize, usize)> {
        let only = self.slots.len() == 1 && self.options.connections == 1;
        let is_deep = is_deep(job);
        let may_be_apart = wanted != Place::Bulk
            && job.mailbox().is_some()
            && self.slots.iter().any(|slot| slot.place == Place::Small);
        let candidates = self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let bulk = slot.bulk.load(Ordering::Relaxed);
            let suits = only || if wanted == Place::Bulk { slot.place == Place::Bulk } else { bulk == 0 };
            let load = slot.load();
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
            let others = if is_deep { &slot.small } else { &slot.deep };
            let held_up = usize::from(may_be_apart && others.load(Ordering::Relaxed) > 0) * HELD_UP_COST;
            suits.then_some((switch + elsewhere + crowded + held_up + self.disturbance(slot, job), at))
        });
        candidates.min()
    }

    /// Not the first, if there is another: that one is for what must not wait.
    pub(super) fn least_loaded(&self) -> Option<usize> {
        let slots = self.slots.iter().enumerate();
        slots.min_by_key(|(_, slot)| (slot.place == Place::Watch, slot.load())).map(|(at, _)| at)
    }
}

/// The message that a bulk read reads, when it is one.
pub(super) fn message(job: &Job) -> Option<Uid> {
    match &job.request.command {
        Command::Fetch { uids, .. } if uids.len() == 1 => uids.iter().next(),
        _ => None,
    }
}

/// Does the server read much for it, and tell little?
pub(super) fn is_deep(job: &Job) -> bool {
    let is_far = |item: &FetchItem| matches!(item, FetchItem::Body(_, Some((offset, _))) if *offset >= DEEP);
    matches!(&job.request.command, Command::Fetch { items, .. } if items.iter().any(is_far))
}
