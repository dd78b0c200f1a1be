//! WHAT WE KNOW. The one door between the file system and the server: speaks ids, never file names.

mod batch;
mod cache;
mod change;
mod content;
mod doubt;
mod fetch;
mod figures;
mod flight;
mod group;
mod index;
mod info;
mod intent;
mod later;
mod mailbox_change;
mod mailboxes;
mod message;
mod object;
mod reading;
mod removal;
mod search;
mod store;
mod transfer;
mod upload;
mod walk;
mod watch;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use lru::LruCache;
use tokio::sync::mpsc;

use self::cache::Cache;
use self::content::Content;
use self::flight::Flights;
use self::index::Index;
use self::mailboxes::{Mailboxes, Moved};
use self::object::{Length, Object};
use self::reading::Reading;
use crate::error::{Error, Result};
use crate::imap::Client;
use crate::imap::server::Event;
use crate::mail::envelope::Summary;
use crate::mail::mailbox::Change;
use crate::mail::section::Section;
use crate::mail::uid::Uid;
use crate::mail::walk::Wants;
use crate::tree::node::{EntryId, MailboxId};

pub use self::info::Quota;
pub use self::intent::{Deletion, Place};
pub use self::later::Landing;
pub use self::mailboxes::Mailbox;
pub use self::message::Message;
pub use self::reading::Reader;
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
    /// What happens to messages that are removed.
    pub deletion: Deletion,
    /// Nothing is changed on the server.
    pub read_only: bool,
    /// Moves, removals and flags of messages return when they are queued.
    pub write_behind: bool,
}

/// Trees of messages that are kept, octets (estimated).
const MESSAGES_BUDGET: usize = 8 * 1024 * 1024;

/// Messages whose octets are still known as the same ones when they are read again.
const WHOLES: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// Octets of a listing of all mailboxes at the most.
const LIST_MAX: u64 = 64 * 1024 * 1024;

/// How long after a listing what it did not tell is taken for absent by who only wants to know that a name is free.
const LISTED: Duration = Duration::from_secs(60);

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
    find_flights: Flights<(MailboxId, Uid), Arc<Summary>>,
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
            messages: Cache::new(MESSAGES_BUDGET, |message| 1024 + 512 * message.entries.iter().len()),
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
            message_changes: index::Changes { to: message_changes, hide_deleted },
            changed,
            changes: Mutex::new(Some(changes)),
            client,
            options,
        });
        account.list().await?;
        if let Some(path) = &account.options.root_mailbox {
            let mut table = account.table();
            table.root = Some(table.mailboxes.find(path).ok_or(Error::NotFound)?);
        }
        account.listen(from_indexes, events);
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
        self.list_flights.join((), || async move { account.list().await }).await
    }

    async fn list(&self) -> Result<()> {
        let _naming = self.changing.naming.lock().await;
        self.relist().await
    }

    fn tell_moved(&self, moved: impl IntoIterator<Item = Moved>) {
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

    /// The messages with this UID that are known, with the mailbox of each, the one that was listed last first; the
    /// server is not asked.
    pub fn known(&self, uid: Uid) -> Vec<(MailboxId, Arc<Summary>)> {
        let mut indexes: Vec<_> = self.table().mailboxes.indexes().cloned().collect();
        indexes.sort_by_key(|index| Reverse(index.used()));
        indexes.iter().filter_map(|index| Some((index.id, index.get(uid)?))).collect()
    }

    fn index(&self, id: MailboxId) -> Result<Arc<Index>> {
        let table = self.table();
        let mailbox = table.mailboxes.get(id).ok_or(Error::Stale)?;
        mailbox.index.clone().ok_or(Error::NotFound)
    }

    /// All messages of a mailbox, ascending by UID, as they are now (not older than the poll interval).
    pub async fn messages(self: &Arc<Self>, id: MailboxId) -> Result<Vec<Arc<Summary>>> {
        self.settle_arrivals(id).await;
        let index = self.index(id)?;
        if !index.is_fresh(self.options.poll_interval) {
            self.bring_up(&index).await?;
            self.used(&index);
        }
        index.list(self.arrivals.now());
        Ok(index.messages())
    }

    /// Asks what changed in a mailbox.
    async fn bring_up(self: &Arc<Self>, index: &Arc<Index>) -> Result<()> {
        let (account, flying) = (Arc::clone(self), Arc::clone(index));
        let sync = || async move {
            let synced = flying.sync(&account.client).await;
            account.settle(&flying, synced)
        };
        self.sync_flights.join(index.id, sync).await
    }

    /// A message: known, or asked for alone.
    pub async fn summary(self: &Arc<Self>, id: MailboxId, uid: Uid) -> Result<Arc<Summary>> {
        let index = self.index(id)?;
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

    /// The octets of a message, `BODY[]`.
    fn whole(&self, id: MailboxId, summary: &Summary) -> Result<Arc<Object>> {
        let locator = self.index(id)?.locate(summary).ok_or(Error::Stale)?;
        let mut wholes = self.wholes.lock().unwrap_or_else(PoisonError::into_inner);
        // A message of no octets is looked at before it is believed.
        let length = if summary.size == 0 { Length::Hint(0) } else { Length::Exact(summary.size) };
        let new = || self.content.object(locator, Section::message(), length);
        Ok(Arc::clone(wholes.get_or_insert((id, summary.uid), new)))
    }

    /// A message and what is in it.
    pub async fn message(self: &Arc<Self>, id: MailboxId, uid: Uid) -> Result<Arc<Message>> {
        let summary = self.summary(id, uid).await?;
        self.look_ahead((id, uid), Wants::STRUCTURE);
        if !self.messages.contains(&(id, uid)) {
            self.arrivals.wait((id, uid), Wants::STRUCTURE).await;
        }
        if let Some(message) = self.messages.get(&(id, uid)) {
            return Ok(message);
        }
        let index = self.index(id)?;
        let account = Arc::clone(self);
        let fetch = || async move {
            let whole = account.whole(id, &summary)?;
            let fetched = Message::fetch(&account.client, &account.content, id, whole, summary).await;
            let message = account.settle(&index, fetched)?;
            account.messages.put((id, uid), Arc::clone(&message));
            Ok(message)
        };
        self.message_flights.join((id, uid), fetch).await
    }

    /// The exact size of a file of a message, in octets as they are read.
    pub async fn size(self: &Arc<Self>, message: &Arc<Message>, entry: EntryId) -> Result<u64> {
        self.expect_size(message, entry).await;
        match self.reading.size(&self.content, message, entry).await {
            Err(Error::Protocol(_)) if message.can_be_taken_apart() => {
                let new = self.distrust(message, entry).await?;
                let size = self.reading.size(&self.content, &new, entry).await?;
                // Who asked holds the old one, and is to show the size that a reader gets.
                message.learn_size(entry, size);
                Ok(size)
            }
            outcome => self.settled(message, outcome),
        }
    }

    /// Opens a file of a message.
    pub async fn open_entry(self: &Arc<Self>, id: MailboxId, uid: Uid, entry: EntryId) -> Result<Reader> {
        if entry == EntryId::RAW {
            // The message as it is needs no structure.
            let summary = self.summary(id, uid).await?;
            let whole = self.whole(id, &summary)?;
            self.arrivals.wait((id, uid), Wants::WHOLE).await;
            if summary.size == 0 && self.content.exact_length(&whole).await? > 0 {
                return Err(Error::protocol("the message was said to be empty, and is not"));
            }
            return Ok(Reader::whole(id, whole, summary.size));
        }
        let message = self.message(id, uid).await?;
        self.expect_entry(&message, entry).await;
        match self.reading.open(&self.content, &message, entry).await {
            Err(Error::Protocol(_)) if message.can_be_taken_apart() => {
                let message = self.distrust(&message, entry).await?;
                self.reading.open(&self.content, &message, entry).await
            }
            outcome => self.settled(&message, outcome),
        }
    }

    /// `size` octets of an open file from `offset` on, fewer only at its end.
    pub async fn read(self: &Arc<Self>, reader: &Reader, offset: u64, size: u32) -> Result<Bytes> {
        self.look_ahead_of_read(reader, offset.saturating_add(size.into()));
        let before = reader.known_size();
        let outcome = self.reading.read(&self.content, reader, offset, size).await;
        if let Some((message, entry, size)) = reader.known_size()
            && before.is_some_and(|before| before.2 != size)
        {
            self.tell_size(message, entry);
        }
        match before {
            Some((message, ..)) => self.settled(message, outcome),
            None => outcome,
        }
    }

    /// The size of an entry is not what it was told to be.
    fn tell_size(&self, message: &Message, entry: EntryId) {
        // A closed channel: nobody is mounted.
        let _ = self.changed.send(Changed::Size(message.mailbox, message.summary.uid, entry));
    }

    /// The message taken apart here, in the place of what the server said of it. An error when the file would be
    /// another one then.
    async fn distrust(&self, message: &Arc<Message>, entry: EntryId) -> Result<Arc<Message>> {
        let new = message.distrust(&self.content).await?;
        let name = |message: &Message| message.entry(entry).map(|e| (e.parent, e.name.clone()));
        if name(&new)? != name(message)? {
            return Err(Error::protocol("what the server says of the parts and what it gives do not agree"));
        }
        self.messages.put((message.mailbox, message.summary.uid), Arc::clone(&new));
        // The sizes that were told already came from the same server.
        for entry in message.entries.iter().filter(|entry| message.known_size(entry.id).is_some()) {
            self.tell_size(message, entry.id);
        }
        Ok(new)
    }

    /// After a question about a message that was known: when it is gone, the next look at its mailbox asks.
    fn settled<T>(&self, message: &Message, outcome: Result<T>) -> Result<T> {
        match self.index(message.mailbox) {
            Ok(index) => self.settle(&index, outcome),
            Err(_) => outcome,
        }
    }
}
