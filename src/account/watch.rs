//! In step with others: what the server tells unasked is taken in, and looked into where somebody may be looking.
//!
//! 1. News of a mailbox makes what is known of it doubtful; the next look asks. Of a mailbox that was listed lately the
//!    kernel holds names, so that look comes by itself, at once.
//! 2. What says all there is to know (flags, vanished UIDs) is applied and asks nothing. Our own changes come back as news
//!    as well, and are known by then.
//! 3. When the connection that watches is lost nobody knows what was missed: all mailboxes are doubtful.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Account;
use super::index::{Index, flags_event, opened_by_status};
use crate::imap::response::{Code, Data, ListRow, Status};
use crate::imap::server::Event;
use crate::mail::mailbox;
use crate::mail::mailbox_name::MailboxName;
use crate::tree::node::MailboxId;

/// News comes in groups: this long the first waits for the others, and for the answer to what may be our own change.
const GATHER: Duration = Duration::from_millis(50);

/// A mailbox is looked into by itself so often at the most.
const PAUSE: Duration = Duration::from_millis(500);

/// For how long after it was listed the kernel and whoever shows a mailbox may hold names of it.
const INTEREST: Duration = Duration::from_secs(15 * 60);

/// After this time without a listing a mailbox counts half as much.
const HALF_LIFE: f64 = 120.0;

/// Another mailbox must be listed so many times as often before it is watched in the place of the one that is.
const WORTH: f64 = 2.0;

/// What is watched, and why.
#[derive(Debug, Default)]
pub struct Watch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How much each mailbox is listed: the number of listings, halved with time, and when that was true.
    uses: HashMap<MailboxId, (f64, Instant)>,
    watched: Option<MailboxId>,
    /// Mailboxes that are being looked into.
    looking: HashSet<MailboxId>,
    listing: bool,
    /// The mailbox that was listed last.
    last: Option<MailboxId>,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As long as nothing speaks for another, this one is to be watched.
    pub fn begin_with(&self, id: MailboxId) {
        self.lock().watched.get_or_insert(id);
    }

    /// The mailbox that is watched.
    pub fn watched(&self) -> Option<MailboxId> {
        self.lock().watched
    }
}

/// What `weight` listings are worth after so long.
fn faded(weight: f64, age: Duration) -> f64 {
    weight * (-age.as_secs_f64() / HALF_LIFE).exp2()
}

/// The mailbox to watch: the one that is listed most, but for a good reason the one that is watched already.
fn plan_watch(watched: Option<MailboxId>, weights: impl IntoIterator<Item = (MailboxId, f64)>) -> Option<MailboxId> {
    let weights: HashMap<MailboxId, f64> = weights.into_iter().collect();
    let (most, weight) = weights.iter().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(a.0)))?;
    match watched {
        // What nobody ever listed counts as one listing: INBOX is watched until it is known better.
        Some(watched) if *weight <= WORTH * weights.get(&watched).copied().unwrap_or(1.0).max(1.0) => Some(watched),
        _ => Some(*most),
    }
}

impl Account {
    /// A mailbox was listed: the one that is listed most is watched from now on.
    pub(super) fn used(&self, index: &Index) {
        let now = Instant::now();
        index.use_now(now);
        let home = self.home();
        let there: HashSet<MailboxId> = self.table().mailboxes.indexes().map(|index| index.id).collect();
        let mut state = self.watch.lock();
        let (weight, at) = state.uses.get(&index.id).copied().unwrap_or((0.0, now));
        state.uses.insert(index.id, (faded(weight, now - at) + 1.0, now));
        state.uses.retain(|id, (weight, at)| there.contains(id) && faded(*weight, now - *at) > 0.01);
        let watched = state.watched.filter(|id| there.contains(id)).or(home);
        let watched = plan_watch(watched, state.uses.iter().map(|(id, (n, at))| (*id, faded(*n, now - *at))));
        state.watched = watched;
        let is_another = state.last.replace(index.id) != Some(index.id);
        drop(state);
        if let (true, Ok(store)) = (is_another, &self.options.store) {
            store.keep_last(index.id.0);
        }
        if let Some(Ok(index)) = watched.map(|id| self.index(id)) {
            self.client.watch(index.name.get());
        }
    }

    /// The mailbox to watch as long as nothing speaks for another.
    pub(super) fn home(&self) -> Option<MailboxId> {
        let table = self.table();
        let inbox = MailboxName::new(b"INBOX");
        table.root.or_else(|| table.mailboxes.indexes().find(|index| index.name.get() == inbox).map(|index| index.id))
    }

    fn named(&self, name: &MailboxName) -> Option<Arc<Index>> {
        self.table().mailboxes.indexes().find(|index| index.name.get() == *name).cloned()
    }

    /// Takes in what the server says unasked.
    pub(super) fn hear(self: &Arc<Self>, event: Event) {
        let about = event.mailbox.as_ref().and_then(|name| self.named(name));
        match (event.data, about) {
            (Data::Status(Status::Bye, ..) | Data::Status(_, Some(Code::NotificationOverflow), _), _) => {
                let indexes: Vec<_> = self.table().mailboxes.indexes().cloned().collect();
                indexes.iter().for_each(|index| self.doubtful(index));
            }
            (Data::List(row), _) if self.is_news(&row) => self.look_at_list(row),
            (Data::List(_), _) => {}
            (Data::MailboxStatus(name, items), _) => {
                let Some(index) = self.named(&name) else { return };
                if !opened_by_status(items).is_some_and(|now| index.is_as_told(&now)) {
                    self.doubtful(&index);
                }
            }
            (_, None) => {}
            (Data::Exists(count), Some(index)) if index.len() as u64 == count && !index.is_expired() => {}
            // It is known which, that it was no more than there can be, and a resync can tell what was wrong of it.
            (Data::Vanished(false, uids), Some(index))
                if uids.len() <= index.len() as u64 && self.client.server().qresync =>
            {
                index.apply([mailbox::Event::Gone(uids)]);
            }
            // EXPUNGE says nothing that is known after our own: of which message it speaks only the server knows.
            (Data::Exists(_) | Data::Expunge(_) | Data::Vanished(..) | Data::Status(..), Some(index)) => {
                self.doubtful(&index);
            }
            (row, Some(index)) => index.apply(flags_event(row)),
        }
    }

    /// Something may have changed in a mailbox. It is looked into at once when that may be seen.
    fn doubtful(self: &Arc<Self>, index: &Arc<Index>) {
        index.expire();
        let is_seen = self.watch.watched() == Some(index.id) || index.used().is_some_and(|at| at.elapsed() < INTEREST);
        if index.is_expired() && is_seen && self.watch.lock().looking.insert(index.id) {
            tokio::spawn(look(Arc::clone(self), Arc::clone(index)));
        }
    }

    /// Does it tell of a mailbox, or of a subscription, what is not known?
    fn is_news(&self, row: &ListRow) -> bool {
        let table = self.table();
        let known = table.mailboxes.all().find(|mailbox| mailbox.name.as_ref() == Some(&row.name));
        let has = |attribute: &str| row.attributes.iter().any(|a| a == attribute);
        match known {
            Some(mailbox) => has("\\nonexistent") || has("\\subscribed") && !mailbox.is_subscribed(),
            None => !has("\\nonexistent"),
        }
    }

    fn look_at_list(self: &Arc<Self>, row: ListRow) {
        if std::mem::replace(&mut self.watch.lock().listing, true) {
            return;
        }
        let account = Arc::clone(self);
        tokio::spawn(async move {
            sleep(GATHER).await;
            account.watch.lock().listing = false;
            // It may have been our own doing.
            if account.is_news(&row)
                && let Err(error) = account.list().await
            {
                tracing::debug!(%error, "the list of mailboxes changed and cannot be had");
            }
        });
    }
}

/// Brings a mailbox up to date until no news came meanwhile.
async fn look(account: Arc<Account>, index: Arc<Index>) {
    let mut pause = GATHER;
    loop {
        sleep(pause.max(index.synced_before(PAUSE))).await;
        let outcome = if index.is_expired() { account.bring_up(&index).await } else { Ok(()) };
        // First, so that news which comes from here on begins another look if this one does not go on.
        account.watch.lock().looking.remove(&index.id);
        if let Err(error) = outcome {
            tracing::debug!(%error, mailbox = ?index.name, "news that cannot be looked into");
            return;
        }
        if !index.is_expired() || !account.watch.lock().looking.insert(index.id) {
            return;
        }
        pause = PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_most_is_watched_and_not_changed_for_little() {
        let id = MailboxId;
        for (watched, weights, want) in [
            (None, vec![], None),
            (None, vec![(1, 1.0), (2, 3.0)], Some(2)),
            (None, vec![(2, 1.0), (1, 1.0)], Some(1)),
            (Some(1), vec![(2, 1.0)], Some(1)),
            (Some(1), vec![(2, 2.0)], Some(1)),
            (Some(1), vec![(2, 2.5)], Some(2)),
            (Some(1), vec![(1, 5.0), (2, 9.0)], Some(1)),
            (Some(1), vec![(1, 4.0), (2, 9.0)], Some(2)),
        ] {
            let weights = weights.iter().map(|(n, weight)| (id(*n), *weight));
            assert_eq!(plan_watch(watched.map(id), weights), want.map(id));
        }
    }
}
