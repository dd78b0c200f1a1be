//! Write-behind: changes of messages that are known are queued, show at once, and are carried out in order, many at a
//! time. What could not be done shows no more, is logged, and is told to who asks whether all was done.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{Notify, Semaphore, oneshot};
use tracing::{info, warn};

use super::Account;
use super::intent::{Place, Transfer};
use crate::error::{Error, Result};
use crate::mail::flag::Flags;
use crate::mail::uid::Uid;
use crate::tree::node::MailboxId;

/// Changes that may wait; who comes then waits itself.
const QUEUE_MAX: usize = 10_000;

/// Changes that go to the server at once.
const BATCH_MAX: usize = 500;

/// How long it is waited before changes are tried again, while the server cannot be reached.
const RETRIES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// What is queued for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Flags to set and to clear.
    Flags(Flags, Flags),
    /// It goes into that mailbox.
    Move(MailboxId),
    /// It is removed.
    Remove,
}

impl Change {
    fn leaves(&self) -> bool {
        !matches!(self, Change::Flags(..))
    }
}

/// Where a message goes that is being moved: known once it is there.
#[derive(Clone, Debug)]
pub struct Landing(Shared<BoxFuture<'static, Result<Uid>>>);

impl Landing {
    /// It is there.
    pub(super) fn landed(uid: Uid) -> Self {
        Self(futures::future::ready(Ok(uid)).boxed().shared())
    }

    /// Its UID there; why it is where it was.
    pub async fn uid(&self) -> Result<Uid> {
        self.0.clone().await
    }

    /// The same, when it is known already.
    pub fn now(&self) -> Option<Result<Uid>> {
        self.0.clone().now_or_never()
    }
}

#[derive(Debug)]
struct Item {
    /// Where the message was when it was queued, and shows so.
    at: Place,
    change: Change,
    outcome: oneshot::Sender<Result<Option<Uid>>>,
}

/// The changes that wait, in order.
#[derive(Debug)]
pub struct Queue {
    inner: Mutex<Inner>,
    room: Arc<Semaphore>,
    moved_on: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Item>,
    /// The messages of the batch that is on its way, and what is done to them.
    under_way: Vec<(Place, Change)>,
    running: bool,
    /// Where messages went that were queued: later changes of theirs follow them.
    went: HashMap<Place, Place>,
    /// The first error that nobody was told yet.
    failed: Option<Error>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { inner: Mutex::default(), room: Arc::new(Semaphore::new(QUEUE_MAX)), moved_on: Notify::new() }
    }
}

impl Inner {
    fn all(&self) -> impl Iterator<Item = (Place, &Change)> {
        let waiting = self.waiting.iter().map(|item| (item.at, &item.change));
        self.under_way.iter().map(|(at, change)| (*at, change)).chain(waiting)
    }

    fn where_now(&self, mut at: Place) -> Place {
        for _ in 0..=self.went.len() {
            match self.went.get(&at) {
                Some(next) => at = *next,
                None => break,
            }
        }
        at
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many changes are not done yet.
    pub fn len(&self) -> u64 {
        self.lock().all().count() as u64
    }

    /// Waits until no queued change matters.
    async fn wait_while(&self, matters: impl Fn(Place, &Change) -> bool) {
        loop {
            let moved_on = self.moved_on.notified();
            tokio::pin!(moved_on);
            moved_on.as_mut().enable();
            if !self.lock().all().any(|(at, change)| matters(at, change)) {
                return;
            }
            moved_on.await;
        }
    }
}

/// How many from the front go to the server together: the same is done to all, in one mailbox, and no message is twice
/// among them. What comes behind another change is not taken before it, so that the order stays.
fn plan_batch<'a>(queue: impl IntoIterator<Item = (Place, &'a Change)>) -> usize {
    let mut first: Option<(MailboxId, &Change)> = None;
    let mut seen = HashSet::new();
    let same = |((mailbox, uid), change): &(Place, &'a Change)| {
        let (of, like) = *first.get_or_insert((*mailbox, change));
        of == *mailbox && like == *change && seen.insert(*uid)
    };
    queue.into_iter().take(BATCH_MAX).take_while(same).count()
}

impl Account {
    /// Queues a change: it shows at once.
    pub(super) async fn queue(self: &Arc<Self>, at: Place, change: Change) -> Result<Landing> {
        let queue = &self.changing.queue;
        // A semaphore that is never closed.
        if let Ok(permit) = queue.room.acquire().await {
            permit.forget();
        }
        let index = self.index(at.0);
        match (&index, &change) {
            (Ok(index), Change::Flags(set, clear)) => index.queue_flags(at.1, set, clear),
            (Ok(index), _) => index.queue_leave(at.1),
            (Err(error), _) => {
                queue.room.add_permits(1);
                return Err(error.clone());
            }
        }
        let (outcome, landed) = oneshot::channel();
        let is_idle = {
            let mut inner = queue.lock();
            inner.waiting.push_back(Item { at, change, outcome });
            !std::mem::replace(&mut inner.running, true)
        };
        if is_idle {
            tokio::spawn(Arc::clone(self).work_off());
        }
        let uid = landed.map(|end| match end {
            Ok(outcome) => outcome.and_then(|uid| uid.ok_or(Error::NotFound)),
            Err(_) => Err(Error::Local("a queued change ended without an outcome".into())),
        });
        Ok(Landing(uid.boxed().shared()))
    }

    /// Carries out what is queued, until nothing is.
    async fn work_off(self: Arc<Self>) {
        let queue = &self.changing.queue;
        loop {
            // Those who ask at this very moment come along.
            tokio::task::yield_now().await;
            let batch: Vec<Item> = {
                let mut inner = queue.lock();
                let count = plan_batch(inner.waiting.iter().map(|item| (inner.where_now(item.at), &item.change)));
                let batch: Vec<Item> = inner.waiting.drain(..count).collect();
                inner.under_way = batch.iter().map(|item| (item.at, item.change.clone())).collect();
                inner.running = !batch.is_empty();
                if inner.went.len() > QUEUE_MAX && batch.is_empty() {
                    inner.went.clear();
                }
                batch
            };
            if batch.is_empty() {
                return;
            }
            let outcomes = self.carry_out_patiently(&batch).await;
            self.conclude(batch, outcomes);
        }
    }

    /// While the server cannot be reached, what was not done waits a while. What may have been done is looked for before
    /// it is done again.
    async fn carry_out_patiently(self: &Arc<Self>, batch: &[Item]) -> Vec<Result<Option<Uid>>> {
        let all: Vec<&Item> = batch.iter().collect();
        let mut outcomes = self.carry_out(&all).await;
        for pause in RETRIES {
            let is_open = |outcome: &Result<_>| {
                matches!(outcome, Err(Error::Offline(_) | Error::TimedOut(_) | Error::Uncertain(_)))
            };
            let open: Vec<usize> = (0..outcomes.len()).filter(|at| is_open(&outcomes[*at])).collect();
            if open.is_empty() {
                break;
            }
            tokio::time::sleep(pause).await;
            let again: Vec<&Item> = open.iter().map(|at| all[*at]).collect();
            for (at, outcome) in open.into_iter().zip(self.carry_out(&again).await) {
                outcomes[at] = outcome;
            }
        }
        outcomes
    }

    async fn carry_out(self: &Arc<Self>, batch: &[&Item]) -> Vec<Result<Option<Uid>>> {
        let places: Vec<Place> = {
            let inner = self.changing.queue.lock();
            batch.iter().map(|item| inner.where_now(item.at)).collect()
        };
        let uids: Vec<Uid> = places.iter().map(|place| place.1).collect();
        let (Some(item), Some(&(mailbox, _))) = (batch.first(), places.first()) else { return Vec::new() };
        match &item.change {
            Change::Flags(set, clear) => {
                let outcomes = self.store(mailbox, uids, set, clear).await;
                outcomes.into_iter().map(|outcome| outcome.map(|()| None)).collect()
            }
            Change::Move(to) => {
                let outcomes = self.transfer_all(mailbox, *to, uids, Transfer::Move).await;
                outcomes.into_iter().map(|outcome| outcome.map(Some)).collect()
            }
            Change::Remove => {
                let outcomes = self.remove_all(mailbox, uids).await;
                outcomes.into_iter().map(|outcome| outcome.map(|()| None)).collect()
            }
        }
    }

    /// Tells what became of a batch.
    fn conclude(&self, batch: Vec<Item>, outcomes: Vec<Result<Option<Uid>>>) {
        let queue = &self.changing.queue;
        let count = batch.len();
        let mut failures: HashMap<String, usize> = HashMap::new();
        for (item, outcome) in batch.into_iter().zip(outcomes) {
            if let Ok(index) = self.index(item.at.0) {
                index.unqueue(item.at.1, item.change.leaves(), outcome.is_ok());
            }
            let mut inner = queue.lock();
            match (&outcome, &item.change) {
                (Ok(Some(uid)), Change::Move(to)) => {
                    let from = inner.where_now(item.at);
                    inner.went.remove(&(*to, *uid));
                    inner.went.insert(from, (*to, *uid));
                }
                (Err(error), _) => {
                    *failures.entry(error.to_string()).or_default() += 1;
                    inner.failed.get_or_insert_with(|| error.clone());
                }
                _ => {}
            }
            drop(inner);
            // Nobody need wait for it.
            let _ = item.outcome.send(outcome);
        }
        for (reason, messages) in failures {
            warn!(messages, reason, "a change that was queued could not be made, and is undone here");
        }
        queue.lock().under_way.clear();
        queue.room.add_permits(count);
        queue.moved_on.notify_waiters();
    }

    /// Waits until all that is queued was done. The first error since the last time that this was asked.
    pub async fn settle_changes(&self) -> Result<()> {
        self.changing.queue.wait_while(|_, _| true).await;
        self.changing.queue.lock().failed.take().map_or(Ok(()), Err)
    }

    /// The same for at most this long, when the mount ends; what was not done is logged.
    pub async fn finish_changes(&self, within: Duration) {
        match tokio::time::timeout(within, self.settle_changes()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "not all changes could be made"),
            Err(_) => {
                let left = self.changing.queue.lock().all().count();
                warn!(left, "the mount ends before all changes were made: what they were to change is as it was");
            }
        }
    }

    /// Waits until nothing is queued for a message. Where it is then.
    pub(super) async fn settle_message(&self, at: Place) -> Place {
        self.changing.queue.wait_while(|of, _| of == at).await;
        self.changing.queue.lock().where_now(at)
    }

    /// Waits until nothing is queued for the messages of a mailbox, or is to come into it.
    pub(super) async fn settle_mailbox(&self, id: MailboxId) {
        let is_trash = self.trash() == Some(id);
        self.changing.queue.wait_while(|at, change| at.0 == id || goes_into(change, id, is_trash)).await;
    }

    /// Waits until what is queued to come into a mailbox is there, so that a listing shows it.
    pub(super) async fn settle_arrivals(&self, id: MailboxId) {
        let is_trash = self.trash() == Some(id);
        self.changing.queue.wait_while(|_, change| goes_into(change, id, is_trash)).await;
    }
}

fn goes_into(change: &Change, id: MailboxId, is_trash: bool) -> bool {
    match change {
        Change::Flags(..) => false,
        Change::Move(to) => *to == id,
        Change::Remove => is_trash,
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let left = self.changing.queue.lock().waiting.len();
        if left > 0 {
            info!(left, "queued changes were given up");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_goes_together_and_nothing_overtakes() {
        let flags = |text: &str| Change::Flags(Flags::from_wire([text.as_bytes()]), Flags::default());
        let place = |mailbox: u16, uid: u32| (MailboxId(mailbox), Uid::new(uid).unwrap());
        let (seen, remove, to_9) = (flags("\\Seen"), Change::Remove, Change::Move(MailboxId(9)));
        for (queue, want) in [
            (vec![], 0),
            (vec![(place(1, 1), &remove), (place(1, 2), &remove), (place(1, 3), &remove)], 3),
            (vec![(place(1, 1), &remove), (place(2, 2), &remove)], 1),
            (vec![(place(1, 1), &seen), (place(1, 2), &seen), (place(1, 1), &remove)], 2),
            (vec![(place(1, 1), &to_9), (place(1, 1), &to_9)], 1),
            (vec![(place(1, 1), &seen), (place(1, 1), &seen)], 1),
        ] {
            assert_eq!(plan_batch(queue.clone()), want, "{queue:?}");
        }
    }
}
