//! What our own changes do to what is known of a mailbox: what is queued shows at once, what was done is taken in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::rows::without_gone;
use super::{Index, Known, ROW_MAX, summarize, summary_items};
use crate::error::{Error, Result};
use crate::imap::response::{Code, Data, Selected};
use crate::imap::{Class, Client, Command, FetchItem, Target};
use crate::mail::envelope::Summary;
use crate::mail::flag::Flags;
use crate::mail::mailbox::{Change, Event, Opened};
use crate::mail::uid::{Uid, UidSet, UidValidity};

/// For how long a UIDNEXT is good enough to look for what arrived since: what others put there in the meantime is
/// looked at as well.
const NEXT_AGE: Duration = Duration::from_secs(30);

/// Octets of an answer that tells nothing of messages.
const ANSWER_MAX: u64 = 256 * 1024;

/// What is queued for a message and not done yet.
#[derive(Debug, Default)]
pub struct Pending {
    /// How many changes.
    changes: usize,
    /// It is to go from here.
    leaves: bool,
    set: Flags,
    clear: Flags,
}

impl Known {
    /// The message with the flags that it will have.
    pub(super) fn with_pending(&self, message: &Summary) -> Summary {
        let Some(pending) = self.pending.get(&message.uid) else { return message.clone() };
        let flags = message.flags.with(&pending.set).without(&pending.clear);
        if flags == message.flags { message.clone() } else { message.with(|head| head.flags = flags) }
    }

    /// The message as it is shown; `None` when it is not.
    pub(super) fn show(&self, message: &Summary, hide_deleted: bool) -> Option<Summary> {
        if self.pending.get(&message.uid).is_some_and(|pending| pending.leaves) {
            return None;
        }
        let message = self.with_pending(message);
        (!hide_deleted || !message.flags.contains("\\Deleted")).then_some(message)
    }

    /// What a change of flags is where `\Deleted` hides a message.
    pub(super) fn hidden(&self, change: Change) -> Change {
        match change {
            Change::Flags(uid) => match self.mailbox.get(uid) {
                Some(message) if message.flags.contains("\\Deleted") => Change::Gone(message.clone()),
                // It may have been hidden until now.
                _ => Change::Arrived(uid),
            },
            other => other,
        }
    }

    /// What SELECT told of what may be changed.
    pub(super) fn selected(&mut self, selected: &Selected) {
        self.access = Some((selected.permanent_flags.clone(), selected.read_only));
    }

    fn raise_next(&mut self, next: u32) {
        // It only ever grows.
        let next = self.next.map_or(next, |(_, before)| before.max(next));
        self.next = Some((Instant::now(), next));
    }
}

impl Index {
    /// Is the message one that is shown? True for one that is not known.
    pub fn is_shown(&self, uid: Uid) -> bool {
        let known = self.lock();
        known.mailbox.get(uid).is_none_or(|message| known.show(message, self.changes.hide_deleted).is_some())
    }

    /// A message is to go from here: it is shown no more.
    pub fn queue_leave(&self, uid: Uid) {
        let mut known = self.lock();
        let pending = known.pending.entry(uid).or_default();
        (pending.changes, pending.leaves) = (pending.changes + 1, true);
        known.changed = SystemTime::now();
        if let Some(message) = known.mailbox.get(uid) {
            self.changes.tell(self.id, Change::Gone(message.clone()));
        }
    }

    /// Flags are to be set and cleared: they show at once.
    pub fn queue_flags(&self, uid: Uid, set: &Flags, clear: &Flags) {
        let mut known = self.lock();
        known.generation += 1;
        let pending = known.pending.entry(uid).or_default();
        pending.changes += 1;
        pending.set = pending.set.without(clear).with(set);
        pending.clear = pending.clear.without(set).with(clear);
    }

    /// A queued change has an outcome. What was not done shows no more, and what did not go is there again.
    pub fn unqueue(&self, uid: Uid, left: bool, done: bool) {
        let mut known = self.lock();
        let Some(pending) = known.pending.get_mut(&uid) else { return };
        pending.changes -= 1;
        pending.leaves &= !left;
        if pending.changes == 0 || !done {
            // The flags of others in the queue show when they are done.
            (pending.set, pending.clear) = (Flags::default(), Flags::default());
        }
        if pending.changes == 0 {
            known.pending.remove(&uid);
        }
        if !done && known.mailbox.get(uid).is_some() {
            known.changed = SystemTime::now();
            self.changes.tell(self.id, if left { Change::Arrived(uid) } else { Change::Flags(uid) });
        }
    }

    /// PERMANENTFLAGS, where the server tells them. `ReadOnly` when the mailbox can only be read.
    pub async fn permanent_flags(&self, client: &Client) -> Result<Option<Flags>> {
        let access = self.lock().access.clone();
        let (flags, read_only) = match access {
            Some(access) => access,
            None => {
                let opened = self.open(client).await?;
                self.reopen(opened)?;
                self.lock().access.clone().unwrap_or_default()
            }
        };
        if read_only { Err(Error::ReadOnly) } else { Ok(flags) }
    }

    /// The UID from which on a message that comes now will be found, asked for when it was not heard lately. Asked
    /// before the change, so that what was there before is never taken for what came of it.
    pub async fn next(&self, client: &Client) -> Result<u32> {
        let known = self.lock().next;
        if let Some((_, next)) = known.filter(|(at, _)| at.elapsed() < NEXT_AGE) {
            return Ok(next);
        }
        let command = Command::Status(self.name.get());
        let (rows, _) = client.run(Target::Account, command, Class::Small, ANSWER_MAX).await?;
        let told = rows.into_iter().find_map(|row| match row {
            Data::MailboxStatus(_, items) => items.uid_next,
            _ => None,
        });
        let next = match told.and_then(|next| u32::try_from(next).ok()) {
            Some(next) => next,
            None => self.next_by_select(client).await?,
        };
        let mut known = self.lock();
        known.raise_next(next);
        Ok(next)
    }

    /// How many messages there are, as the server says now.
    pub async fn count(&self, client: &Client) -> Result<u64> {
        let command = Command::Status(self.name.get());
        let (rows, _) = client.run(Target::Account, command, Class::Small, ANSWER_MAX).await?;
        let told = rows.into_iter().find_map(|row| match row {
            Data::MailboxStatus(_, items) => items.messages,
            _ => None,
        });
        // A number that is missing is not zero.
        match told {
            Some(count) => Ok(count),
            None => Ok(self.open(client).await?.exists),
        }
    }

    /// UIDNEXT as SELECT tells it; where it does not, one above the highest UID.
    async fn next_by_select(&self, client: &Client) -> Result<u32> {
        let next = |opened: &Opened| opened.uid_next.and_then(|next| u32::try_from(next).ok());
        let plan = |opened: &Opened| {
            let limit = opened.exists.saturating_mul(16).saturating_add(ANSWER_MAX);
            Ok(next(opened).is_none().then_some((Command::SearchAll, limit)))
        };
        let (opened, rows) = self.open_and_ask(client, plan).await?;
        let last = rows.iter().filter_map(|row| match row {
            Data::Search(result) => result.all.ranges().last().map(|range| range.1),
            _ => None,
        });
        Ok(next(&opened).unwrap_or_else(|| last.max().unwrap_or(0).saturating_add(1)))
    }

    /// Which messages have come since UIDNEXT was `next`; asks for the newest state first.
    pub async fn arrived_since(&self, client: &Client, next: u32) -> Result<Vec<Summary>> {
        let since = |opened: &Opened| {
            let end = opened.uid_next.and_then(|end| u32::try_from(end).ok()).unwrap_or(u32::MAX);
            (end > next).then(|| UidSet::range(next, end - 1))
        };
        let plan = |opened: &Opened| Ok(since(opened).map(|uids| fetch(client, &uids)));
        let (opened, rows) = self.open_and_ask(client, plan).await?;
        Ok(since(&opened).map(|uids| summaries(rows, &uids)).unwrap_or_default())
    }

    /// All that is kept of these messages, which are new: a connection that has not heard of them yet hears by a look.
    pub async fn fetch_summaries(&self, client: &Client, uids: &UidSet) -> Result<Vec<Summary>> {
        let target = Target::Mailbox { name: self.name.get(), validity: None };
        let (command, limit) = fetch(client, uids);
        let (rows, done) = client.run(target, command, Class::Small, limit).await?;
        let found = summaries(without_gone(rows, done.code.as_ref()), uids);
        if found.len() as u64 >= uids.len() {
            return Ok(found);
        }
        let (_, rows) = self.open_and_ask(client, |_| Ok(Some(fetch(client, uids)))).await?;
        Ok(summaries(rows, uids))
    }

    /// Which of these messages are there now.
    pub async fn present(&self, client: &Client, uids: &UidSet) -> Result<UidSet> {
        if uids.is_empty() {
            return Ok(UidSet::new());
        }
        let limit = uids.len().saturating_mul(16).saturating_add(ANSWER_MAX);
        let plan = |opened: &Opened| {
            self.reopen(*opened)?;
            Ok(Some((Command::Search { uids: uids.clone(), message_id: None }, limit)))
        };
        let (_, rows) = self.open_and_ask(client, plan).await?;
        let mut present = UidSet::new();
        let mut told = false;
        for row in rows {
            if let Data::Search(result) = row {
                told = true;
                result.all.iter().filter(|uid| uids.contains(*uid)).for_each(|uid| present.insert(uid));
            }
        }
        if told { Ok(present) } else { Err(Error::protocol("the answer to SEARCH has no list")) }
    }

    /// A message as the server told it last, without what is queued for it.
    pub fn told(&self, uid: Uid) -> Option<Summary> {
        self.lock().mailbox.get(uid).cloned()
    }

    /// The same, also of one that has just gone from here.
    pub fn told_lately(&self, uid: Uid) -> Option<Summary> {
        let known = self.lock();
        known.mailbox.get(uid).or_else(|| known.gone.iter().find(|message| message.uid == uid)).cloned()
    }

    /// The flags of these messages, asked anew and taken in.
    pub async fn refresh_flags(&self, client: &Client, uids: &UidSet) -> Result<BTreeMap<Uid, Flags>> {
        let mut items = vec![FetchItem::Flags];
        if client.server().offers("CONDSTORE") {
            items.push(FetchItem::ModSeq);
        }
        let command = Command::Fetch { uids: uids.clone(), items, changed_since: None };
        let limit = uids.len().saturating_mul(ROW_MAX).saturating_add(ANSWER_MAX);
        let (rows, _) = client.run(self.target(), command, Class::Small, limit).await?;
        let mut told = BTreeMap::new();
        for event in rows.into_iter().filter_map(super::flags_event) {
            if let Event::Flags(uid, flags, _) = &event
                && uids.contains(*uid)
            {
                told.insert(*uid, flags.clone());
            }
            self.apply([event]);
        }
        // A message without a row may be gone: the next look asks.
        if told.len() as u64 != uids.len() {
            self.expire();
        }
        Ok(told)
    }

    /// Messages that went from here.
    pub fn left(&self, uids: UidSet) {
        self.apply([Event::Gone(uids)]);
    }

    /// Messages that came here under a UIDVALIDITY: those of another one than is known make the next look ask.
    pub fn came(&self, validity: Option<UidValidity>, messages: impl IntoIterator<Item = Summary>) {
        let known = self.validity();
        if known.is_some() && validity.is_some_and(|validity| known != Some(validity)) {
            self.expire();
            return;
        }
        let messages: Vec<Summary> = messages.into_iter().collect();
        if let Some(last) = messages.iter().map(|message| message.uid.get()).max() {
            self.lock().raise_next(last.saturating_add(1));
        }
        // Before it was ever opened nothing can be known to be of its UIDVALIDITY.
        if known.is_none() {
            return;
        }
        {
            let mut known = self.lock();
            known.news += 1;
            messages.iter().for_each(|message| known.brought.insert(message.uid));
        }
        self.apply(messages.into_iter().map(Event::Brought));
    }
}

/// The question for all that is kept of these messages, and how long its answer may be.
fn fetch(client: &Client, uids: &UidSet) -> (Command, u64) {
    let command = Command::Fetch { uids: uids.clone(), items: summary_items(client), changed_since: None };
    (command, uids.len().min(u64::from(u32::MAX) >> 8).saturating_mul(ROW_MAX).saturating_add(ANSWER_MAX))
}

/// Its answer, ascending. A row of flags alone is no summary; GNU mailutils tells of its last message when one is not
/// there.
fn summaries(rows: Vec<Data>, uids: &UidSet) -> Vec<Summary> {
    let row = |row| if let Data::Fetch(row) = row { summarize(*row) } else { None };
    let mut found: Vec<Summary> = rows.into_iter().filter_map(row).filter(|m| uids.contains(m.uid)).collect();
    found.sort_by_key(|message| message.uid);
    found.dedup_by_key(|message| message.uid);
    found
}

/// What a COPYUID says of these UIDs: (UIDVALIDITY there, pairs of old and new). RFC 4315 section 3: the n-th became the
/// n-th.
pub fn copied(code: Option<&Code>) -> Option<(UidValidity, Vec<(Uid, Uid)>)> {
    match code {
        Some(Code::CopyUid(validity, from, to)) if from.len() == to.len() => {
            // What was asked for bounds what is used of it: see the callers.
            Some((*validity, from.iter().zip(to.iter()).take(1 << 20).collect()))
        }
        _ => None,
    }
}
