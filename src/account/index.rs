//! The messages of one mailbox, kept in step with the server: asks what may have changed, applies what it hears.

mod found;
mod kept;
mod opening;
mod own;
mod rows;
mod sync;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OnceCell, mpsc};

use self::own::Pending;
pub use self::own::copied;
pub use self::rows::flags_event;
pub use self::rows::opened_by_status;
use self::rows::{message_event, summarize, summary_items, without_gone};
use super::object::{Locator, SharedName};
use crate::error::{Error, Result};
use crate::imap::response::Data;
use crate::imap::{Class, Client, Command, Target};
use crate::mail::envelope::Summary;
use crate::mail::flag::Flags;
use crate::mail::mailbox::{Change, Event, Mailbox, Opened};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::{Uid, UidSet, UidValidity};
use crate::mail::walk::{Fetch, Walks};
use crate::mail::wants::Wants;
use crate::store::Store;
use crate::tree::node::MailboxId;

/// Messages of one mailbox at the most: what a hostile server can make us keep.
const MESSAGES_MAX: u64 = 4_000_000;

/// Octets that the answer for one message may have: a hostile ENVELOPE must not fill the memory.
const ROW_MAX: u64 = 64 * 1024;

/// Messages that went and are still known: more than one command moves.
const GONE_MAX: usize = 1024;

/// How often all flags are asked for again where the server cannot tell which changed (no CONDSTORE): for each message
/// so much time between, which is some 40 kB a second, and so much at the most.
const FLAGS_PAUSE: Duration = Duration::from_millis(1);
const FLAGS_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Octets that a first listing may have when it is asked for before it is known how many messages there are; a larger
/// one is asked for again.
const EARLY_MAX: u64 = 1 << 30;

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
    gone: VecDeque<Summary>,
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
    /// Are all flags to be asked for again where the server cannot tell which changed?
    fn are_flags_due(&self) -> bool {
        let pause = FLAGS_PAUSE.saturating_mul(self.mailbox.len() as u32).min(FLAGS_PAUSE_MAX);
        self.flags_checked.is_none_or(|at| at.elapsed() > pause)
    }

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

    /// At most `max` messages that are shown, ascending, with UIDs above this one.
    pub fn messages_after(&self, after: Option<Uid>, max: usize) -> Vec<Summary> {
        let known = self.lock();
        let messages = known.mailbox.after(after);
        messages.filter_map(|m| known.show(m, self.changes.hide_deleted)).take(max).collect()
    }

    /// A message that is known already, shown or not.
    pub fn get(&self, uid: Uid) -> Option<Summary> {
        let known = self.lock();
        known.mailbox.get(uid).map(|m| known.with_pending(m))
    }

    /// Somebody lists the mailbox, and may begin to walk through it.
    pub fn list(&self, now: Duration) {
        self.lock().walks.list(now);
    }

    /// See [`Walks::ask`](crate::mail::walk::Walks::ask).
    pub fn walk(&self, now: Duration, asked: (Uid, Wants), budget: u64) -> (Vec<Fetch>, bool) {
        let Known { mailbox, walks, .. } = &mut *self.lock();
        walks.ask(now, mailbox, asked, budget)
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
        let known = self.lock();
        let validity = known.mailbox.validity()?;
        let (uid, size, shelf) = (message.uid, message.size, self.shelf(&known));
        Some(Locator { mailbox: self.name.clone(), validity, uid, size, shelf })
    }

    /// Takes events in, one lock for all, and tells what they changed. After a new UIDVALIDITY this index is void: the
    /// mailbox gets another id and another index.
    pub fn apply(&self, events: impl IntoIterator<Item = Event>) {
        let mut known = self.lock();
        // Before the first listing nobody has seen anything that could change.
        let told = known.mailbox.is_complete();
        let mut kept = kept::Batch::default();
        for event in events {
            kept.completes |= matches!(event, Event::Complete(_));
            for change in known.mailbox.apply(event) {
                kept.add(&change);
                if let Change::Gone(summary) = &change {
                    known.gone.push_front(summary.clone());
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

    /// Those of these messages that are not known.
    fn unknown(&self, uids: &UidSet) -> UidSet {
        let known = self.lock();
        uids.iter().filter(|uid| known.mailbox.get(*uid).is_none()).collect()
    }

    /// Where a command about its messages must run.
    pub fn target(&self) -> Target {
        Target::Mailbox { name: self.name.get(), validity: self.validity().filter(|v| v.0 != 0) }
    }

    /// The message with this UID: known, or asked for alone, so that one name costs one exchange however large the
    /// mailbox is.
    pub async fn find(&self, client: &Client, uid: Uid) -> Result<Summary> {
        self.wake().await;
        if let Some(summary) = self.get(uid) {
            return Ok(summary);
        }
        let is_new = |next: Option<u64>| next.is_none_or(|next| u64::from(uid.get()) >= next);
        let (went, current) = {
            let known = self.lock();
            (!is_new(known.mailbox.listed().and_then(|listed| listed.uid_next)), known.checked.is_some())
        };
        if went && current {
            return Err(Error::NotFound);
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
            let event = rows.into_iter().find_map(|row| match row {
                Data::Fetch(row) => message_event(*row).filter(|(told, _)| *told == uid),
                _ => None,
            });
            self.apply(event.map(|(_, event)| event));
            self.get(uid).ok_or(Error::NotFound)
        };
        if let Some(answers) = early
            && let Ok((rows, done)) = Client::collect(answers).await
        {
            return take(without_gone(rows, done.code.as_ref()));
        }
        if !went {
            let (rows, done) = client.run(self.target(), command.clone(), Class::Small, ROW_MAX * 2).await?;
            let found = take(without_gone(rows, done.code.as_ref()));
            if found.is_ok() || !is_new(self.lock().mailbox.listed().and_then(|listed| listed.uid_next)) {
                return found;
            }
        }
        // A connection that has not heard of a new message knows nothing of it, and one that has not heard that a message
        // went still tells of it: both hear by SELECT.
        let plan = |opened: &Opened| {
            self.check(*opened)?;
            Ok((!is_new(opened.uid_next)).then(|| (command.clone(), ROW_MAX * 2)))
        };
        take(self.open_and_ask(client, plan).await?.1)
    }
}
