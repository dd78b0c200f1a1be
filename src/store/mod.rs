//! WHAT WE KEEP. The disk cache of an account: what is known of mailboxes and messages in SQLite, octets in rows and
//! sparse files. The server is the only truth: any of it may be missing, at any time.
//!
//! 1. One thread writes, in the order in which it was told, and commits about once a second (`writer`). So the mark up to
//!    where a mailbox is known is never on disk before the rows that it is about.
//! 2. Nothing is believed without its checksum, which covers what the row or block is of (`encode`, `octets`). What is
//!    damaged is missing; a damaged database is thrown away as a whole.
//! 3. A number that a mailbox once had is not given to another as long as there is room, so that an inode number means the
//!    same mail in every mount.
//! 4. When the disk is full or fails nothing more is kept, and everything else goes on. Who writes never waits: what
//!    comes faster than the disk takes it is left out.

mod database;
mod directory;
mod encode;
mod maintain;
mod octets;
mod reader;
mod shelf;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime};

use lru::LruCache;
use rusqlite::Connection;

use self::directory::Directory;
use self::octets::Key;
use self::reader::Reader;
use self::writer::{Write, Writer};
use crate::error::{Error, Result};
use crate::mail::envelope::Summary;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::part::Part;
use crate::mail::uid::UidValidity;

pub use self::maintain::{Info, clear, info};
pub use self::octets::Entry;
pub use self::shelf::Shelf;

/// Octets that may wait to be written; what comes then is not kept.
const WAITING_MAX: usize = 8 * 1024 * 1024;

/// Rows that may wait; the mailbox of what comes then is given up for this mount.
const ROWS_MAX: usize = 1_000_000;

/// Files of octets that are held open.
const FILES: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// Sections whose maps are in use, before those that nobody uses any more are cleared away.
const ENTRIES: usize = 4096;

/// How long the end of a mount waits for what is still to be written.
const FAREWELL: Duration = Duration::from_secs(20);

/// What this layer obeys.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of caches, `$XDG_CACHE_HOME/imapfs`.
    pub directory: PathBuf,
    /// Whose.
    pub account: Account,
    /// Octets on disk at the most.
    pub limit: u64,
}

/// What tells one account from the next: who logs in, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub user: String,
    /// Host name.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.host, self.port)
    }
}

/// A mailbox under one UIDVALIDITY, as a number: the mailbox's in the upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

/// The mailboxes of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailboxes {
    /// As they were listed.
    pub listed: Vec<Listed>,
    /// The number of each, by its path.
    pub ids: Vec<(String, u16)>,
    /// Numbers of mailboxes that are gone.
    pub spent: Vec<u16>,
}

/// A mailbox as LIST told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: MailboxName,
    /// What parts the levels of its name.
    pub delimiter: Option<u8>,
    /// Attributes, lower-case.
    pub attributes: Vec<String>,
    /// Is it subscribed?
    pub subscribed: bool,
}

/// Up to where a mailbox is known: what SELECT told when all of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// UIDNEXT.
    pub uid_next: Option<u64>,
    /// EXISTS.
    pub exists: u64,
    /// HIGHESTMODSEQ.
    pub modseq: Option<u64>,
}

/// What is kept of a mailbox.
#[derive(Debug)]
pub struct Kept {
    /// Its UIDVALIDITY.
    pub validity: UidValidity,
    /// Up to where it is known.
    pub synced: Synced,
    /// Its messages, ascending by UID.
    pub messages: Vec<Summary>,
}

/// What is kept of how a message is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// As the server told; `None` when the message was taken apart here.
    pub root: Option<Part>,
    /// Exact sizes of entries, octets.
    pub sizes: Vec<(u16, u64)>,
}

/// How the cache is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It works.
    On,
    /// The disk is full or failed: what was kept before is read, nothing is added.
    Failed,
    /// Somebody deleted it.
    Deleted,
}

impl State {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::On => "on",
            State::Failed => "failed",
            State::Deleted => "deleted",
        }
    }
}

/// Counters, for status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// How it is doing.
    pub state: State,
    /// Octets on disk.
    pub used: u64,
    /// Octets on disk at the most.
    pub limit: u64,
    /// Reads that found what they looked for, and that did not.
    pub hits: u64,
    /// See `hits`.
    pub misses: u64,
}

/// What the handles and the thread that writes have in common.
#[derive(Debug)]
struct Shared {
    directory: Directory,
    limit: u64,
    state: AtomicU8,
    used: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    /// Rows and octets that wait to be written.
    rows: AtomicUsize,
    octets: AtomicUsize,
    /// Sections in use: whoever reads one and whoever writes it have the same map of it.
    entries: Mutex<HashMap<Key, Weak<Entry>>>,
    files: Mutex<LruCache<Key, Arc<File>>>,
}

impl Shared {
    fn is_on(&self) -> bool {
        self.state.load(Ordering::Relaxed) == State::On as u8
    }

    /// From now on nothing more is kept; false when that was so already: several may find out at once, one tells.
    fn turn_off(&self, state: State) -> bool {
        let (on, off) = (State::On as u8, state as u8);
        self.state.compare_exchange(on, off, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Weak<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, LruCache<Key, Arc<File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A section is dropped: who has it open finds nothing in it any more.
    fn forget_entry(&self, key: &Key) {
        if let Some(entry) = self.entries().get(key).and_then(Weak::upgrade) {
            entry.forget();
        }
        self.files().pop(key);
    }
}

/// See [`Store::load`]; over a connection of its own, so that nobody waits for it.
fn load(directory: &Path, mailbox: u16) -> rusqlite::Result<Option<Kept>> {
    database::load(&database::reader(directory)?, mailbox)
}

/// Hours since 1970: how fine it is known when something was used.
fn hour() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs() / 3600).unwrap_or(0)
}

/// The disk cache of an account; clones are the same one.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

type Loading = JoinHandle<rusqlite::Result<Option<Kept>>>;

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// To the thread that writes.
    to: Sender<Write>,
    reader: Arc<Reader>,
    /// What was known of mailboxes when it was opened.
    mailboxes: Mutex<Option<Mailboxes>>,
    /// The mailbox that was looked at last, which is loaded before anybody asks for it.
    ahead: Mutex<Option<(u16, Loading)>>,
    /// Mailboxes that were given up.
    given_up: Mutex<HashSet<u16>>,
}

impl Store {
    /// Opens the cache of an account, or begins one. Blocking.
    ///
    /// # Errors
    /// `Busy` when another process has it; `Denied`, `Local`, `DiskFull`.
    pub fn open(options: Options) -> Result<Self> {
        let directory = Directory::take(directory::path(&options.directory, &options.account))?;
        let (connection, mailboxes, why) = database::open(&directory, &options.account)?;
        if let Some(why) = why {
            tracing::warn!("the disk cache is begun anew: {why}");
        }
        let reader = database::reader(&directory.path).map_err(|error| database::failed(&error))?;
        let shared = Arc::new(Shared {
            directory,
            limit: options.limit,
            state: AtomicU8::new(State::On as u8),
            used: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            rows: AtomicUsize::new(0),
            octets: AtomicUsize::new(0),
            entries: Mutex::default(),
            files: Mutex::new(LruCache::new(FILES)),
        });
        let (to, told) = channel();
        let writer = Writer::new(connection, Arc::clone(&shared));
        Builder::new()
            .name("imapfs-cache".into())
            .spawn(move || writer.run(told))
            .map_err(|error| Error::Local(format!("cannot start a thread: {error}").into()))?;
        let ahead = database::last(&reader).ok().flatten().map(|last| {
            let path = shared.directory.path.clone();
            (last, std::thread::spawn(move || load(&path, last)))
        });
        let (reader, mailboxes, ahead) =
            (Arc::new(Reader::new(reader)), Mutex::new(Some(mailboxes)), Mutex::new(ahead));
        Ok(Self(Arc::new(Inner { shared, to, reader, mailboxes, ahead, given_up: Mutex::default() })))
    }

    /// What was known of the mailboxes when it was opened; given out once.
    pub fn mailboxes(&self) -> Mailboxes {
        self.0.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// Keeps the mailboxes that there are now.
    pub fn keep_mailboxes(&self, mailboxes: Mailboxes) {
        self.write(Write::Mailboxes(Box::new(mailboxes)));
    }

    /// The mailbox that was looked at last when it was opened, until it is loaded.
    pub fn last(&self) -> Option<u16> {
        self.0.ahead.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(last, _)| *last)
    }

    /// This mailbox is looked at.
    pub fn keep_last(&self, mailbox: u16) {
        self.write(Write::Last(mailbox));
    }

    /// A mailbox is gone, and with it all that was kept of it.
    pub fn forget(&self, mailbox: u16) {
        self.write(Write::Forget(mailbox));
    }

    /// What is kept of a mailbox; `None` when not all of it was ever known. In a blocking thread: of a large mailbox it
    /// takes a moment.
    pub async fn load(&self, mailbox: u16) -> Option<Kept> {
        let path = self.0.shared.directory.path.clone();
        let ahead = self.0.ahead.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(last, _)| *last == mailbox);
        let load = move || match ahead.map(|(_, loading)| loading.join()) {
            Some(Ok(kept)) => kept,
            _ => load(&path, mailbox),
        };
        self.blocking(load).await.flatten()
    }

    /// The shelf of a mailbox; `None` where nothing can be kept, because the server has no UIDVALIDITY.
    pub fn shelf(&self, mailbox: u16, validity: UidValidity) -> Option<Shelf> {
        Some(Shelf::new(self.clone(), Place::new(mailbox, validity)?))
    }

    /// How it is doing.
    pub fn figures(&self) -> Figures {
        let Shared { state, used, limit, hits, misses, .. } = &*self.0.shared;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = match state.load(Ordering::Relaxed) {
            0 => State::On,
            1 => State::Failed,
            _ => State::Deleted,
        };
        Figures { state, used: get(used), limit: *limit, hits: get(hits), misses: get(misses) }
    }

    /// The mount ends: who mounts the account next waits until this one has written what it knows.
    pub fn leave(&self) {
        self.0.shared.directory.leave();
    }

    /// Waits until all that was told is on disk. Blocking.
    pub fn flush(&self) {
        let (done, waiting) = sync_channel(1);
        self.write(Write::Flush(done));
        // The thread is gone, or the disk hangs: nothing depends on it.
        let _ = waiting.recv_timeout(FAREWELL);
    }

    fn write(&self, write: Write) {
        let Inner { shared, to, .. } = &*self.0;
        shared.rows.fetch_add(write.rows(), Ordering::Relaxed);
        shared.octets.fetch_add(write.octets(), Ordering::Relaxed);
        // The thread has ended: nothing is kept any more.
        let _ = to.send(write);
    }

    /// Keeps something of a mailbox, unless too much is waiting: then what is kept of the mailbox would have a hole, so it
    /// is given up.
    fn write_to(&self, place: Place, write: Write) {
        let Inner { shared, given_up, .. } = &*self.0;
        if !shared.is_on() {
            return;
        }
        let mailbox = (place.0 >> 32) as u16;
        let mut given_up = given_up.lock().unwrap_or_else(PoisonError::into_inner);
        if given_up.contains(&mailbox) {
            return;
        }
        if shared.rows.load(Ordering::Relaxed) > ROWS_MAX {
            tracing::warn!("the disk is too slow for what comes: a mailbox is not kept");
            given_up.insert(mailbox);
            return self.write(Write::Forget(mailbox));
        }
        drop(given_up);
        self.write(write);
    }

    /// Asks the database, in a blocking thread; `None` when it cannot tell.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<T> {
        self.known(self.0.reader.ask(question).await?)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<T> {
        self.known(tokio::task::spawn_blocking(question).await.ok()?)
    }

    /// What the database told, if it could.
    fn known<T>(&self, told: rusqlite::Result<T>) -> Option<T> {
        let error = match told {
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        if database::is_damage(&error) {
            self.0.shared.directory.spoil();
            if self.0.shared.turn_off(State::Failed) {
                tracing::warn!(%error, "the disk cache is damaged: it is begun anew by the next mount");
            }
        }
        tracing::debug!(%error, "the disk cache cannot tell");
        None
    }
}
