//! The messages of one mailbox, kept in step with the server: asks what may have changed, applies what it hears.

mod found;
mod kept;
mod opening;
mod own;
mod rows;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OnceCell, mpsc};
use tracing::debug;

use self::own::Pending;
pub use self::own::copied;
pub use self::rows::flags_event;
pub use self::rows::opened_by_status;
use self::rows::{resync_events, summarize, summary_items};
use super::object::{Locator, SharedName};
use crate::error::{Error, Result};
use crate::imap::response::Data;
use crate::imap::{Answer, Class, Client, Command, Target};
use crate::mail::envelope::Summary;
use crate::mail::flag::Flags;
use crate::mail::mailbox::{Change, Event, Mailbox, Opened, Step};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::{Uid, UidSet, UidValidity};
use crate::mail::walk::{Fetch, Walks, Wants};
use crate::store::Store;
use crate::tree::node::MailboxId;

/// Messages of one mailbox at the most: what a hostile server can make us keep.
const MESSAGES_MAX: u64 = 4_000_000;

/// Octets that the answer for one message may have: a hostile ENVELOPE must not fill the memory.
const ROW_MAX: u64 = 64 * 1024;

/// Messages that went and are still known: more than one command moves.
const GONE_MAX: usize = 1024;

/// How often all flags are asked for again where the server cannot tell which changed (no CONDSTORE).
const FLAGS_INTERVAL: Duration = Duration::from_secs(30);

/// Octets that a first listing may have when it is asked for before it is known how many messages there are; a larger
/// one is asked for again.
const EARLY_MAX: u64 = 1 << 30;

/// The answers of a command.
type Answers = mpsc::UnboundedReceiver<Answer>;

/// Where changes of messages are told, and how.
#[derive(Clone, Debug)]
pub struct Changes {
    /// To whom.
    pub to: mpsc::UnboundedSender<(MailboxId, Change)>,
    /// A message with the flag `\Deleted` is not there (`--delete flag`).
    pub hide_deleted: bool,
    /// Where they are kept.
    pub store: Option<Store>,
}

impl Changes {
    fn tell(&self, id: MailboxId, change: Change) {
        // A closed channel: the mount is going down.
        let _ = self.to.send((id, change));
    }
}

/// The messages of one mailbox.
#[derive(Debug)]
pub struct Index {
    /// Its id, as long as its UIDVALIDITY stays.
    pub id: MailboxId,
    /// Its name, which may change.
    pub name: SharedName,
    known: Mutex<Known>,
    changes: Changes,
    /// What an earlier mount kept has been taken in.
    awake: OnceCell<()>,
}

#[derive(Debug)]
struct Known {
    mailbox: Mailbox,
    /// When the server was last asked whether it changed; `None` when it is known to have.
    checked: Option<Instant>,
    /// How often something changed, as the server said or as we did it ourselves.
    news: u64,
    /// Messages that we brought here since the newest sync began: its connection may not have heard of them.
    brought: UidSet,
    /// Messages that went last: news of our own change may come before its answer, which needs them.
    gone: VecDeque<Arc<Summary>>,
    /// When it was last listed for somebody, and when it was last brought up to date.
    used: Option<Instant>,
    synced: Option<Instant>,
    flags_checked: Option<Instant>,
    /// When messages came or went, as far as we saw: the directory's mtime.
    changed: SystemTime,
    /// Another UIDVALIDITY was seen.
    void: bool,
    /// See [`Index::generation`].
    generation: u64,
    /// What is queued for messages and not done yet.
    pending: HashMap<Uid, Pending>,
    /// PERMANENTFLAGS, and whether it can only be read, as the newest SELECT told.
    access: Option<(Option<Flags>, bool)>,
    /// New messages have a UID from this one on, as was known then.
    next: Option<(Instant, u32)>,
    walks: Walks,
}

impl Known {
    /// It was brought up to date with what was true at `started`, before which `news` had been heard.
    fn checked_at(&mut self, started: Instant, news: u64) {
        self.synced = Some(started);
        if self.news == news {
            self.checked = Some(started);
        }
    }
}

impl Index {
    /// An index that knows nothing. What happens to it goes to `changes`.
    pub fn new(id: MailboxId, name: MailboxName, changes: Changes) -> Self {
        let known = Known {
            mailbox: Mailbox::default(),
            checked: None,
            news: 0,
            brought: UidSet::new(),
            gone: VecDeque::new(),
            used: None,
            synced: None,
            flags_checked: None,
            changed: SystemTime::now(),
            void: false,
            generation: 0,
            pending: HashMap::new(),
            access: None,
            next: None,
            walks: Walks::default(),
        };
        Self { id, name: SharedName::new(name), known: Mutex::new(known), changes, awake: OnceCell::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All messages that are shown, ascending by UID.
    pub fn messages(&self) -> Vec<Arc<Summary>> {
        let known = self.lock();
        known.mailbox.messages().filter_map(|m| known.show(m, self.changes.hide_deleted)).collect()
    }

    /// A message that is known already, shown or not.
    pub fn get(&self, uid: Uid) -> Option<Arc<Summary>> {
        let known = self.lock();
        known.mailbox.get(uid).map(|m| known.with_pending(m))
    }

    /// Somebody lists the mailbox, and may begin to walk through it.
    pub fn list(&self, now: Duration) {
        self.lock().walks.list(now);
    }

    /// Somebody wants this of a message; `now` is a time since any fixed one. What to fetch ahead of him.
    pub fn walk(&self, now: Duration, uid: Uid, wants: Wants) -> Vec<Fetch> {
        let Known { mailbox, walks, .. } = &mut *self.lock();
        walks.ask(now, mailbox, uid, wants)
    }

    /// What SELECT told last, and how many messages are shown, how many of them not `\Seen`; `None` before the first
    /// listing.
    pub fn counts(&self) -> Option<(Opened, usize, usize)> {
        let known = self.lock();
        let opened = known.mailbox.opened().filter(|_| known.mailbox.is_complete())?;
        let is_seen = |message: &Summary| message.flags.contains("\\Seen");
        if known.pending.is_empty() && !self.changes.hide_deleted {
            let unseen = known.mailbox.messages().filter(|m| !is_seen(m)).count();
            return Some((opened, known.mailbox.len(), unseen));
        }
        let shown = known.mailbox.messages().filter_map(|m| known.show(m, self.changes.hide_deleted));
        let (all, unseen) = shown.fold((0, 0), |(all, unseen), m| (all + 1, unseen + usize::from(!is_seen(&m))));
        Some((opened, all, unseen))
    }

    /// UIDVALIDITY, once it is known.
    pub fn validity(&self) -> Option<UidValidity> {
        self.lock().mailbox.validity()
    }

    /// When messages came or went, as far as we saw.
    pub fn changed(&self) -> SystemTime {
        self.lock().changed
    }

    /// Was the server asked within `age`?
    pub fn is_fresh(&self, age: Duration) -> bool {
        let known = self.lock();
        known.mailbox.is_complete() && known.checked.is_some_and(|at| at.elapsed() < age)
    }

    /// Was all of it told within `age`? What the server said since is not asked for.
    pub fn is_listed(&self, age: Duration) -> bool {
        let known = self.lock();
        known.mailbox.is_complete() && known.synced.is_some_and(|at| at.elapsed() < age)
    }

    /// The server said that something changed: the next look asks.
    pub fn expire(&self) {
        let mut known = self.lock();
        known.checked = None;
        known.news += 1;
    }

    /// Is it known that something changed since it was listed?
    pub fn is_expired(&self) -> bool {
        let known = self.lock();
        known.mailbox.is_complete() && known.checked.is_none() && !known.void
    }

    /// How many messages are known, shown or not.
    pub fn len(&self) -> usize {
        self.lock().mailbox.len()
    }

    /// Somebody listed it.
    pub fn use_now(&self, now: Instant) {
        self.lock().used = Some(now);
    }

    /// When somebody listed it last.
    pub fn used(&self) -> Option<Instant> {
        self.lock().used
    }

    /// What is missing to `age` since it was brought up to date.
    pub fn synced_before(&self, age: Duration) -> Duration {
        self.lock().synced.map_or(Duration::ZERO, |at| age.saturating_sub(at.elapsed()))
    }

    /// Where a message of this mailbox is.
    pub fn locate(&self, message: &Summary) -> Option<Locator> {
        let Summary { uid, size, .. } = *message;
        let known = self.lock();
        let validity = known.mailbox.validity()?;
        Some(Locator { mailbox: self.name.clone(), validity, uid, size, shelf: self.shelf(&known) })
    }

    /// Takes events in, one lock for all, and tells what they changed. After a new UIDVALIDITY this index is void: the
    /// mailbox gets another id and another index.
    pub fn apply(&self, events: impl IntoIterator<Item = Event>) {
        let mut known = self.lock();
        // Before the first listing nobody has seen anything that could change.
        let told = known.mailbox.is_complete();
        let mut kept = kept::Batch::default();
        for event in events {
            kept.completes |= event == Event::Complete;
            for change in known.mailbox.apply(event) {
                kept.add(&change);
                if let Change::Gone(summary) = &change {
                    known.gone.push_front(Arc::clone(summary));
                    known.gone.truncate(GONE_MAX);
                }
                let change = if self.changes.hide_deleted { known.hidden(change) } else { change };
                if told && !matches!(change, Change::Flags(_)) {
                    known.changed = SystemTime::now();
                }
                known.void |= change == Change::Reset;
                // What is learnt of a message before the first listing has not changed.
                known.generation += u64::from(told || !matches!(change, Change::Arrived(_)));
                if told && change != Change::Reset {
                    self.changes.tell(self.id, change);
                }
            }
        }
        self.keep(&known, kept);
    }

    /// Brings the index up to date: STATUS when that may do, else SELECT and what its answer makes worth asking.
    pub async fn sync(&self, client: &Client) -> Result<()> {
        self.wake().await;
        let (complete, expired, news) = {
            let mut known = self.lock();
            known.brought = UidSet::new();
            (known.mailbox.is_complete(), known.checked.is_none(), known.news)
        };
        let started = Instant::now();
        if complete && !expired && self.is_current(client).await? {
            self.lock().checked_at(started, news);
            return Ok(());
        }
        let opening = match self.plan_resync(client) {
            Some(command) => self.send_resync(client, command),
            None => self.send_select(client),
        };
        // Of a mailbox that is not known all is wanted, whatever SELECT says.
        let mut early = self.may_ask_early(client).then(|| {
            let uids = UidSet::range(1, u32::MAX);
            let command = Command::Fetch { uids, items: summary_items(client), changed_since: None };
            client.send(self.target(), command, Class::Small, EARLY_MAX)
        });
        let (rows, opened, resynced) = self.opened_with(opening).await?;
        let current = self.is_as_told(&opened);
        self.reopen(opened)?;
        if current {
            self.lock().checked_at(started, news);
            return Ok(());
        }
        if resynced {
            self.apply(resync_events(rows));
        }
        let steps = {
            let known = self.lock();
            known.mailbox.plan_sync(known.flags_checked.is_none_or(|at| at.elapsed() > FLAGS_INTERVAL), resynced)
        };
        debug!(mailbox = ?self.name, ?opened, resynced, ?steps, "sync");
        for step in &steps {
            if matches!(step, Step::Messages(_))
                && let Some(answers) = early.take()
                && self.take_messages(answers, &UidSet::range(1, u32::MAX)).await.is_ok()
            {
                continue;
            }
            self.step(client, step, &opened).await?;
        }
        // A first listing that brought another number than the server stated is checked by UID.
        let listed = self.lock().mailbox.len() as u64;
        if listed != opened.exists && !steps.contains(&Step::Uids) {
            self.step(client, &Step::Uids, &opened).await?;
        }
        self.apply([Event::Complete]);
        let mut known = self.lock();
        known.checked_at(started, news);
        if steps.contains(&Step::Flags) || known.flags_checked.is_none() {
            known.flags_checked = Some(started);
        }
        Ok(())
    }

    /// Those of these messages that are not known.
    fn unknown(&self, uids: &UidSet) -> UidSet {
        let known = self.lock();
        uids.iter().filter(|uid| known.mailbox.get(*uid).is_none()).collect()
    }

    /// Where a command about its messages must run.
    pub fn target(&self) -> Target {
        Target::Mailbox { name: self.name.get(), validity: self.validity().filter(|v| v.0 != 0) }
    }

    async fn step(&self, client: &Client, step: &Step, opened: &Opened) -> Result<()> {
        match step {
            Step::Messages(first) => {
                let last = opened.uid_next.map_or(u64::from(u32::MAX), |next| next.saturating_sub(1));
                let last = u32::try_from(last).unwrap_or(u32::MAX);
                if last >= *first {
                    self.fetch_messages(client, UidSet::range(*first, last), opened.exists).await?;
                }
            }
            Step::Uids => {
                let limit = opened.exists.saturating_mul(16).saturating_add(ROW_MAX);
                let (rows, _) = client.run(self.target(), Command::SearchAll, Class::Small, limit).await?;
                // A list that did not come is not an empty one.
                if opened.exists > 0 && !rows.iter().any(|row| matches!(row, Data::Search(_))) {
                    return Err(Error::protocol("the answer to SEARCH has no list"));
                }
                let mut present = UidSet::new();
                for row in rows {
                    if let Data::Search(result) = row {
                        for &(first, last) in result.all.ranges() {
                            present.insert_range(first, last);
                        }
                    }
                }
                if present.len() > MESSAGES_MAX {
                    return Err(Error::protocol("SEARCH tells more messages than there can be"));
                }
                for &(first, last) in self.lock().brought.ranges() {
                    present.insert_range(first, last);
                }
                let mut missing = self.unknown(&present);
                self.apply([Event::Present(present)]);
                while !missing.is_empty() {
                    self.fetch_messages(client, missing.clone(), opened.exists).await?;
                    let still = self.unknown(&missing);
                    if still.len() == missing.len() {
                        debug!(mailbox = ?self.name, count = still.len(), "messages that SEARCH lists and FETCH does not tell");
                        break;
                    }
                    missing = still;
                }
            }
            Step::FlagsSince(modseq) => self.fetch_flags(client, Some(*modseq), opened).await?,
            Step::Flags => self.fetch_flags(client, None, opened).await?,
        }
        Ok(())
    }

    /// All that is kept of these messages, applied as it arrives. When the connection is lost on the way, all of them
    /// are asked for once more.
    async fn fetch_messages(&self, client: &Client, uids: UidSet, exists: u64) -> Result<()> {
        let before = self.lock().mailbox.len();
        match self.fetch_messages_once(client, &uids, exists).await {
            Err(Error::Offline(_)) if self.lock().mailbox.len() > before => {
                self.fetch_messages_once(client, &uids, exists).await
            }
            outcome => outcome,
        }
    }

    async fn fetch_messages_once(&self, client: &Client, uids: &UidSet, exists: u64) -> Result<()> {
        let command = Command::Fetch { uids: uids.clone(), items: summary_items(client), changed_since: None };
        let limit = exists.min(MESSAGES_MAX).saturating_mul(ROW_MAX).saturating_add(ROW_MAX);
        self.take_messages(client.send(self.target(), command, Class::Small, limit), uids).await
    }

    /// Takes in what a FETCH of these messages brings.
    async fn take_messages(&self, mut answers: Answers, uids: &UidSet) -> Result<()> {
        let mut batch = Vec::new();
        let mut untold = 0_u64;
        while let Some(answer) = answers.recv().await {
            match answer {
                Answer::Data(Data::Fetch(row)) => {
                    let summary = summarize(*row);
                    untold += u64::from(summary.is_none());
                    batch.extend(summary.filter(|s| uids.contains(s.uid)).map(Box::new).map(Event::Message));
                    // What is there already is applied under one lock.
                    if batch.len() >= 512 || answers.is_empty() {
                        self.apply(batch.drain(..));
                    }
                }
                Answer::Data(_) => {}
                Answer::Done(done) => {
                    self.apply(batch);
                    if untold > 0 && self.lock().mailbox.is_empty() {
                        return Err(Error::protocol("of no message the server tells the size"));
                    }
                    return done.map(drop);
                }
            }
        }
        Err(Error::offline("connection closed"))
    }

    /// The message with this UID: known, or asked for alone, so that one name costs one exchange however large the
    /// mailbox is.
    pub async fn find(&self, client: &Client, uid: Uid) -> Result<Arc<Summary>> {
        self.wake().await;
        if let Some(summary) = self.get(uid) {
            return Ok(summary);
        }
        {
            let known = self.lock();
            if known.mailbox.is_complete() && known.checked.is_some() {
                let next = known.mailbox.opened().and_then(|o| o.uid_next);
                if next.is_some_and(|next| u64::from(uid.get()) < next) {
                    return Err(Error::NotFound);
                }
            }
        }
        let uids = UidSet::range(uid.get(), uid.get());
        let command = Command::Fetch { uids, items: summary_items(client), changed_since: None };
        let ask = || client.send(self.target(), command.clone(), Class::Small, ROW_MAX * 2);
        let mut early = None;
        if self.validity().is_none() {
            let opening = self.send_select(client);
            early = self.may_ask_early(client).then(ask);
            let opened = self.opened(opening).await?;
            self.reopen(opened)?;
        }
        let take = |rows: Vec<Data>| {
            let summary = rows.into_iter().find_map(|row| match row {
                Data::Fetch(row) => summarize(*row).filter(|s| s.uid == uid),
                _ => None,
            });
            self.apply(summary.map(Box::new).map(Event::Message));
            self.get(uid).ok_or(Error::NotFound)
        };
        if let Some(answers) = early
            && let Ok((rows, _)) = Client::collect(answers).await
        {
            return take(rows);
        }
        let run = || client.run(self.target(), command.clone(), Class::Small, ROW_MAX * 2);
        let found = take(run().await?.0);
        let is_new = |next: Option<u64>| next.is_none_or(|next| u64::from(uid.get()) >= next);
        if found.is_ok() || !is_new(self.lock().mailbox.opened().and_then(|o| o.uid_next)) {
            return found;
        }
        // A connection that has not heard of a new message knows nothing of it: it hears by SELECT.
        if is_new(self.look(client).await?.uid_next) { found } else { take(run().await?.0) }
    }
}
