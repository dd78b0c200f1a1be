//! Read-ahead across messages: takes note of what is asked of each message, and knows what is on its way ahead of a
//! walker, so that who asks for it waits for it and it comes once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::oneshot;

use super::Account;
use super::message::Message;
use super::reader::Reader;
use crate::imap::Speed;
use crate::mail::uid::Uid;
use crate::mail::walk::{BUDGET, SLOW_BUDGET};
use crate::mail::wants::Wants;
use crate::tree::node::{EntryId, MailboxId};

type Id = (MailboxId, Uid);
type Arrival = Shared<oneshot::Receiver<()>>;

/// What is on its way ahead of walkers.
#[derive(Clone, Debug)]
pub struct Arrivals {
    since: Instant,
    coming: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// What of a message comes, under a number that tells them apart.
    messages: HashMap<Id, Vec<(u64, Wants, Arrival)>>,
}

/// Something of a message that is on its way: it is there, or does not come, when this is dropped.
#[derive(Debug)]
pub struct Coming {
    /// The message.
    pub uid: Uid,
    /// What brings some of it already: it is looked at when that has ended.
    earlier: Vec<Arrival>,
    id: Id,
    number: u64,
    table: Arc<Mutex<Table>>,
    /// Dropped last, so that who waits finds it off the table.
    _end: oneshot::Sender<()>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { since: Instant::now(), coming: Arc::default() }
    }
}

impl Arrivals {
    /// The time since these began.
    pub fn now(&self) -> Duration {
        self.since.elapsed()
    }

    /// This of a message is about to be asked for; `None` when all of it is on its way already.
    fn expect(&self, id: Id, wants: Wants) -> Option<Coming> {
        let mut table = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        if table.messages.get(&id).is_some_and(|coming| coming.iter().any(|(_, has, _)| has.contains(wants))) {
            return None;
        }
        table.next += 1;
        let number = table.next;
        let (end, arrival) = oneshot::channel();
        let coming = table.messages.entry(id).or_default();
        let earlier = coming.iter().filter(|(_, has, _)| has.intersects(wants)).map(|(.., a)| a.clone()).collect();
        coming.push((number, wants, arrival.shared()));
        Some(Coming { uid: id.1, earlier, id, number, table: Arc::clone(&self.coming), _end: end })
    }

    /// Waits for what of this is on its way. It may turn out not to come.
    pub async fn wait(&self, id: Id, wants: Wants) {
        let arrivals: Vec<Arrival> = {
            let table = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
            let coming = table.messages.get(&id).into_iter().flatten();
            coming.filter(|(_, has, _)| has.intersects(wants)).map(|(.., arrival)| arrival.clone()).collect()
        };
        for arrival in arrivals {
            // It ended: in any case who waits looks for himself.
            let _ = arrival.await;
        }
    }
}

impl Coming {
    /// Is something to be waited for?
    pub fn waits(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// Waits for what brings some of it already.
    pub async fn earlier(&mut self) {
        for arrival in self.earlier.drain(..) {
            // However it ended: what it brought is seen then.
            let _ = arrival.await;
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(coming) = table.messages.get_mut(&self.id) {
            coming.retain(|(number, ..)| *number != self.number);
            if coming.is_empty() {
                table.messages.remove(&self.id);
            }
        }
    }
}

impl Account {
    /// Somebody asks for this of a message: what he will want next is fetched from now on. Will he mostly read on?
    pub(super) fn look_ahead(self: &Arc<Self>, (mailbox, uid): Id, wants: Wants) -> bool {
        let Ok(index) = self.index(mailbox) else { return false };
        let budget = if self.client.speed() == Speed::Slow { SLOW_BUDGET } else { BUDGET };
        let (fetches, reads_on) = index.walk(self.arrivals.now(), (uid, wants), budget);
        for fetch in fetches {
            let is_structure = fetch.wants == Wants::STRUCTURE;
            let wanted = fetch.uids.into_iter().map(|uid| (mailbox, uid));
            let missing = wanted.filter(|id| !is_structure || !self.messages.contains(id));
            let coming = missing.filter_map(|id| self.arrivals.expect(id, fetch.wants));
            // Those that are waited for, or whose structures are, hold up no others.
            let is_ready = |coming: &Coming| {
                !coming.waits() && (!fetch.wants.needs_structure() || self.messages.contains(&(mailbox, coming.uid)))
            };
            let (at_once, later): (Vec<Coming>, Vec<Coming>) = coming.partition(is_ready);
            for coming in [at_once, later].into_iter().filter(|coming| !coming.is_empty()) {
                tokio::spawn(Arc::clone(self).bring(Arc::clone(&index), fetch.wants, coming));
            }
        }
        reads_on
    }

    /// Waits for what of an entry is on its way.
    pub(super) async fn expect_entry(&self, message: &Message, entry: EntryId) {
        let wants = if message.is_text(entry) { Wants::TEXTS } else { Wants::OF_PARTS };
        self.arrivals.wait((message.mailbox, message.summary.uid), wants).await;
    }

    /// The size of an entry is asked for: waits for what tells it.
    pub(super) async fn expect_size(self: &Arc<Self>, message: &Message, entry: EntryId) {
        self.look_ahead((message.mailbox, message.summary.uid), message.touch(entry, false));
        if message.known_size(entry).is_none() {
            self.expect_entry(message, entry).await;
        }
    }

    /// A read of an open file. What comes of the next parts when a walker begins to read one comes of this one too.
    pub(super) fn look_ahead_of_read(self: &Arc<Self>, reader: &Reader, offset: u64, size: u32) {
        if let Some((mailbox, uid, wants)) = reader.wants(offset, size.into())
            && self.look_ahead((mailbox, uid), wants)
            && offset == 0
            && let Some(part) = reader.part()
        {
            self.reading.prefetch(&self.content, &part, wants);
        }
    }
}
