//! WHAT WE KNOW. The one door between the file system and the server: speaks ids, never file names.

mod batch;
mod cache;
mod change;
mod content;
mod doubt;
mod fetch;
mod figures;
mod files;
mod flight;
mod group;
mod index;
mod info;
mod intent;
mod kept;
mod later;
mod mailbox_change;
mod mailboxes;
mod message;
mod object;
mod reader;
mod reading;
mod reads;
mod recall;
mod removal;
mod search;
mod store;
mod stream;
mod transfer;
mod upload;
mod walk;
mod watch;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use tokio::sync::mpsc;

use self::cache::Cache;
use self::content::Content;
use self::flight::Flights;
use self::index::Index;
use self::mailboxes::{Mailboxes, Moved};
use self::object::Object;
use self::reading::Reading;
use crate::error::{Error, Result};
use crate::imap::Client;
use crate::imap::server::Event;
use crate::mail::envelope::Summary;
use crate::mail::mailbox::Change;
use crate::mail::uid::Uid;
use crate::store::{Mailboxes as Kept, Store};
use crate::tree::node::{EntryId, MailboxId};

pub use self::info::Quota;
pub use self::intent::{Deletion, Place};
pub use self::later::Landing;
pub use self::mailboxes::Mailbox;
pub use self::message::Message;
pub use self::reader::Reader;
pub use self::upload::prepare_upload;

/// What this layer obeys.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the account is called in status and URLs.
    pub name: String,
    /// Login name, host, and the port when it is not the usual one: for URLs, RFC 5092.
    pub user: String,
    /// See `user`.
    pub host: String,
    /// See `user`.
    pub port: Option<u16>,
    /// Only this mailbox and what is below it is shown; its path, levels parted by `/`.
    pub root_mailbox: Option<String>,
    /// For how long what can change is believed without asking.
    pub poll_interval: Duration,
    /// Octets of messages that are kept in memory.
    pub memory: usize,
    /// Gives freed memory back to the system. May take tenths of a second.
    pub trim: fn(),
    /// What happens to messages that are removed.
    pub deletion: Deletion,
    /// Nothing is changed on the server.
    pub read_only: bool,
    /// Moves, removals and flags of messages return when they are queued.
    pub write_behind: bool,
    /// The disk cache, or in a few words why there is none.
    pub store: std::result::Result<Store, &'static str>,
    /// There is no server: only what is in the disk cache can be had.
    pub offline: bool,
}

/// Trees of messages that are kept, octets (estimated).
const MESSAGES_BUDGET: usize = 8 * 1024 * 1024;

/// Messages whose octets are still known as the same ones when they are read again.
const WHOLES: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// Octets of a listing of all mailboxes at the most.
const LIST_MAX: u64 = 32 * 1024 * 1024;

/// How long after a listing what it did not tell is taken for absent by who only wants to know that a name is free.
const LISTED: Duration = Duration::from_secs(60);

/// A listing that brought so many messages has left behind as much memory as it needs.
const LARGE: usize = 10_000;

/// Events that are taken in at once.
const EVENTS: usize = 4096;

/// Something changed that the kernel may have been told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// In a mailbox.
    Message(MailboxId, Change),
    /// The size of an entry of a message turned out to be another one than was told.
    Size(MailboxId, Uid, EntryId),
    /// A mailbox came, went, or is another one under the same name.
    Mailbox {
        /// The directory it is in; `None` for the root.
        parent: Option<MailboxId>,
        /// Its name there.
        component: String,
    },
}

/// An IMAP account.
pub struct Account {
    client: Client,
    options: Options,
    content: Arc<Content>,
    reading: Arc<Reading>,
    mailboxes: Mutex<Table>,
    messages: Cache<(MailboxId, Uid), Arc<Message>>,
    wholes: Mutex<LruCache<(MailboxId, Uid), Arc<Object>>>,
    list_flights: Flights<(), ()>,
    sync_flights: Flights<MailboxId, ()>,
    find_flights: Flights<(MailboxId, Uid), Summary>,
    message_flights: Flights<(MailboxId, Uid), Arc<Message>>,
    arrivals: walk::Arrivals,
    searches: search::Searches,
    info: info::Info,
    figures: figures::Figures,
    changing: change::Changing,
    watch: watch::Watch,
    /// Handed to each index.
    message_changes: index::Changes,
    changed: mpsc::UnboundedSender<Changed>,
    changes: Mutex<Option<mpsc::UnboundedReceiver<Changed>>>,
}

#[derive(Debug, Default)]
struct Table {
    mailboxes: Mailboxes,
    listed: Option<Instant>,
    /// They are those of an earlier mount: the server has not been asked in this one.
    old: bool,
    /// As they were kept last.
    kept: Kept,
    root: Option<MailboxId>,
    /// When mailboxes came to a directory or went, as far as we saw.
    moved: HashMap<Option<MailboxId>, SystemTime>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("name", &self.options.name).finish_non_exhaustive()
    }
}

impl Account {
    /// Lists the mailboxes of a connected client. What the server says unasked comes in by `events`.
    ///
    /// # Errors
    /// `NotFound` when the mailbox that is to be the root is not there; what the server says.
    pub async fn open(client: Client, events: mpsc::UnboundedReceiver<Event>, options: Options) -> Result<Arc<Self>> {
        let (message_changes, from_indexes) = mpsc::unbounded_channel();
        let (changed, changes) = mpsc::unbounded_channel();
        let hide_deleted = options.deletion == Deletion::Flag;
        let account = Arc::new(Self {
            content: Arc::new(Content::new(client.clone(), options.memory)),
            reading: Arc::default(),
            mailboxes: Mutex::default(),
            messages: Cache::new(MESSAGES_BUDGET, |message| message.weight()),
            wholes: Mutex::new(LruCache::new(WHOLES)),
            list_flights: Flights::default(),
            sync_flights: Flights::default(),
            find_flights: Flights::default(),
            message_flights: Flights::default(),
            arrivals: walk::Arrivals::default(),
            searches: search::Searches::default(),
            info: info::Info::default(),
            figures: figures::Figures::default(),
            changing: change::Changing::default(),
            watch: watch::Watch::default(),
            message_changes: index::Changes { to: message_changes, hide_deleted, store: options.store.clone().ok() },
            changed,
            changes: Mutex::new(Some(changes)),
            client,
            options,
        });
        account.restore_mailboxes();
        let root = account.options.root_mailbox.as_deref();
        let find = |path| account.table().mailboxes.find(path);
        let is_known = account.table().old && root.is_none_or(|path| find(path).is_some());
        match (is_known, account.options.offline) {
            (false, true) => return Err(Error::offline("it is not in the disk cache")),
            (false, false) => account.list().await?,
            (true, _) => {}
        }
        if let Some(path) = root {
            let root = find(path).ok_or(Error::NotFound)?;
            account.table().root = Some(root);
        }
        account.listen(from_indexes, events);
        if is_known {
            tokio::spawn(Arc::clone(&account).warm_up());
        }
        Ok(account)
    }

    /// What changed; given out once, to the file system.
    pub fn changes(&self) -> Option<mpsc::UnboundedReceiver<Changed>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Passes on what happens until the account is gone.
    fn listen(
        self: &Arc<Self>,
        mut from_indexes: mpsc::UnboundedReceiver<(MailboxId, Change)>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        let changed = self.changed.clone();
        tokio::spawn(async move {
            while let Some((id, change)) = from_indexes.recv().await {
                // A closed channel: nobody is mounted.
                let _ = changed.send(Changed::Message(id, change));
            }
        });
        let account = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut heard = Vec::new();
            // Many at a time, so that a server which floods us with news does not fill the memory with them.
            while events.recv_many(&mut heard, EVENTS).await > 0 {
                let Some(account) = account.upgrade() else { return };
                heard.drain(..).for_each(|event| account.hear(event));
            }
        });
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long what can change is believed without asking.
    pub fn poll_interval(&self) -> Duration {
        self.options.poll_interval
    }

    /// The mailbox that the mount's root shows; `None` when it is the account.
    pub fn root(&self) -> Option<MailboxId> {
        self.table().root
    }

    /// Lists the mailboxes anew when that was not done within the poll interval.
    pub async fn refresh_mailboxes(self: &Arc<Self>) -> Result<()> {
        if self.table().listed.is_some_and(|at| at.elapsed() < self.options.poll_interval) {
            return Ok(());
        }
        let account = Arc::clone(self);
        let asked = self.list_flights.join((), || async move { account.list().await });
        self.ask_old(self.patience_for_list(), asked).await
    }

    async fn list(&self) -> Result<()> {
        let _naming = self.changing.naming.lock().await;
        self.relist().await
    }

    fn tell_moved(&self, moved: impl IntoIterator<Item = Moved>) {
        self.keep_mailboxes();
        for Moved { parent, component } in moved {
            self.table().moved.insert(parent, SystemTime::now());
            // A closed channel: nobody is mounted.
            let _ = self.changed.send(Changed::Mailbox { parent, component });
        }
    }

    /// The mailbox with this id. `Stale` when it is none's (any more).
    pub fn mailbox(&self, id: MailboxId) -> Result<Mailbox> {
        self.table().mailboxes.get(id).cloned().ok_or(Error::Stale)
    }

    /// The mailboxes in a directory, by name.
    pub fn children(&self, parent: Option<MailboxId>) -> Vec<(String, MailboxId)> {
        let table = self.table();
        table.mailboxes.children(parent).into_iter().flatten().map(|(name, id)| (name.clone(), *id)).collect()
    }

    /// The mailbox of this name in a directory.
    pub fn child(&self, parent: Option<MailboxId>, name: &str) -> Option<MailboxId> {
        self.table().mailboxes.child(parent, name)
    }

    /// Does the mailbox hold messages, or is it only a level? `Stale` when it is gone.
    pub fn has_messages(&self, id: MailboxId) -> Result<bool> {
        self.table().mailboxes.get(id).map(|m| m.index.is_some()).ok_or(Error::Stale)
    }

    /// When messages or mailboxes came or went in a mailbox, as far as we saw; before that, when it began.
    pub fn changed(&self, id: Option<MailboxId>) -> Result<SystemTime> {
        let table = self.table();
        let moved = table.moved.get(&id).copied().unwrap_or(self.info.started);
        let Some(id) = id else { return Ok(moved) };
        let mailbox = table.mailboxes.get(id).ok_or(Error::Stale)?;
        Ok(mailbox.index.as_ref().map_or(moved, |index| index.changed().max(moved)))
    }

    /// Was all of the mailbox told within the last minute?
    pub fn is_listed(&self, id: MailboxId) -> bool {
        self.index(id).is_ok_and(|index| index.is_listed(LISTED))
    }

    /// How many messages of a mailbox are known.
    pub fn message_count(&self, id: MailboxId) -> u64 {
        self.index(id).ok().and_then(|index| index.counts()).map_or(0, |(_, count, _)| count as u64)
    }

    /// How many messages of the account are known.
    pub fn known_messages(&self) -> u64 {
        let indexes: Vec<_> = self.table().mailboxes.indexes().cloned().collect();
        indexes.iter().filter_map(|index| index.counts()).map(|(_, count, _)| count as u64).sum()
    }

    /// The known messages with this UID, and the mailbox of each; that of the mailbox that was listed last is the first.
    pub fn known(&self, uid: Uid) -> Vec<(MailboxId, Summary)> {
        let mut indexes: Vec<_> = self.table().mailboxes.indexes().cloned().collect();
        indexes.sort_by_key(|index| Reverse(index.used()));
        indexes.iter().filter_map(|index| Some((index.id, index.get(uid)?))).collect()
    }

    fn index(&self, id: MailboxId) -> Result<Arc<Index>> {
        let table = self.table();
        let mailbox = table.mailboxes.get(id).ok_or(Error::Stale)?;
        mailbox.index.clone().ok_or(Error::NotFound)
    }

    /// Brings a mailbox up to date for who lists it: what is known then is not older than the poll interval.
    pub async fn begin_listing(self: &Arc<Self>, id: MailboxId) -> Result<()> {
        self.settle_arrivals(id).await;
        let index = self.index(id)?;
        if !index.is_fresh(self.options.poll_interval) {
            self.freshen(&index).await?;
            self.used(&index);
        }
        index.list(self.arrivals.now());
        Ok(())
    }

    /// All messages of a mailbox, ascending by UID, as they are now.
    pub async fn messages(self: &Arc<Self>, id: MailboxId) -> Result<Vec<Summary>> {
        self.begin_listing(id).await?;
        Ok(self.messages_after(id, None, usize::MAX))
    }

    /// At most `max` messages of a mailbox that are known and shown, ascending, with UIDs above this one.
    pub fn messages_after(&self, id: MailboxId, after: Option<Uid>, max: usize) -> Vec<Summary> {
        self.index(id).map_or_else(|_| Vec::new(), |index| index.messages_after(after, max))
    }

    /// Asks what changed in a mailbox.
    async fn bring_up(self: &Arc<Self>, index: &Arc<Index>) -> Result<()> {
        let (account, flying) = (Arc::clone(self), Arc::clone(index));
        let sync = || async move {
            let before = flying.len();
            let synced = flying.sync(&account.client).await;
            if flying.len() >= before.saturating_add(LARGE) {
                tokio::task::spawn_blocking(account.options.trim);
            }
            account.settle(&flying, synced)
        };
        self.sync_flights.join(index.id, sync).await
    }

    /// A message: known, or asked for alone.
    pub async fn summary(self: &Arc<Self>, id: MailboxId, uid: Uid) -> Result<Summary> {
        let index = self.index(id)?;
        index.wake().await;
        if let Some(summary) = index.get(uid) {
            return Ok(summary);
        }
        let account = Arc::clone(self);
        let find = || async move {
            let found = index.find(&account.client, uid).await;
            account.settle(&index, found)
        };
        self.find_flights.join((id, uid), find).await
    }

    /// Is the message shown where it is? Not when it is queued to go from there, or `--delete flag` hides it; its inode
    /// number goes on working.
    pub fn is_shown(&self, id: MailboxId, uid: Uid) -> bool {
        self.index(id).is_ok_and(|index| index.is_shown(uid))
    }

    /// After a question about a mailbox: when it turned out to be another one under the same name, it gets another
    /// id, and who holds the old one is told so.
    fn settle<T>(&self, index: &Index, outcome: Result<T>) -> Result<T> {
        if matches!(outcome, Err(Error::Stale)) {
            index.expire();
            if let Some(validity) = index.successor() {
                let mut table = self.table();
                let renumbered = table.mailboxes.renumber(index.id, validity, &self.message_changes);
                if let Some((new, _)) = renumbered.as_ref().filter(|_| table.root == Some(index.id)) {
                    table.root = Some(*new);
                }
                drop(table);
                self.tell_moved(renumbered.map(|(_, moved)| moved));
            }
        }
        outcome
    }
}
