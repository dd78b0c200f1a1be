//! The thread that writes. What it is told it does in order, and commits together about once a second: so whatever ends
//! the process, what is found later was true at one time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, params};
use tracing::{debug, info, warn};

use super::database::{self, OF_MESSAGES, failed, is_damage};
use super::encode::{Kind, Out, seal, write_structure, write_summary};
use super::octets::{Entry, Key, remove};
use super::{Mailboxes, Place, Shared, State, Synced, hour};
use crate::error::{Error, Result};
use crate::mail::envelope::Summary;
use crate::mail::part::Part;
use crate::mail::uid::{Uid, UidSet};

/// How long what was told may wait for what comes after it.
const PERIOD: Duration = Duration::from_secs(1);

/// How long it sleeps when it has written all: what comes meanwhile at 1 GB/s is less than may wait.
const NAP: Duration = Duration::from_millis(5);

/// Rows that are committed together at the most.
const ROWS_MAX: usize = 50_000;

/// When the limit is passed, so much of it is kept, in parts of a hundred.
const KEPT: u64 = 90;

/// Something to keep, or to forget.
#[derive(Debug)]
pub enum Write {
    /// Which mailboxes there are.
    Mailboxes(Box<Mailboxes>),
    /// This mailbox was looked at last.
    Last(u16),
    /// A mailbox is gone, and its number with it.
    Forget(u16),
    /// All of a mailbox is known up to here: what came before tells it.
    Synced(Place, Synced),
    /// What is kept of these messages, now.
    Messages(Place, Vec<Summary>),
    /// They are gone.
    Gone(Place, UidSet),
    /// How a message is built; sizes that were known of it are void.
    Structure(Place, Uid, Option<Arc<Part>>),
    /// The exact size of an entry of a message.
    Size(Place, Uid, u16, u64),
    /// Octets of a section, from an offset on, and how many it has in all.
    Octets(Arc<Entry>, u64, Bytes, Option<u64>),
    /// A section was read.
    Used(Key),
    /// Tell when all before is on disk.
    Flush(SyncSender<()>),
}

impl Write {
    /// How many rows it makes, about.
    pub fn rows(&self) -> usize {
        match self {
            Write::Messages(_, messages) => messages.len(),
            _ => 1,
        }
    }

    /// Octets that wait with it.
    pub fn octets(&self) -> usize {
        if let Write::Octets(_, _, octets, _) = self { octets.len() } else { 0 }
    }
}

/// See the top of the file.
pub struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    /// Sections whose maps changed since the last commit.
    dirty: HashMap<Key, Arc<Entry>>,
    /// Octets in files.
    files: u64,
    waiting: Vec<SyncSender<()>>,
}

/// What it is told next, until then. It looks now and then: to be woken for each row costs more than to write it.
fn next_told(told: &Receiver<Write>, end: Instant) -> Option<Write> {
    loop {
        match told.try_recv() {
            Ok(write) => return Some(write),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        let left = end.checked_duration_since(Instant::now())?;
        thread::sleep(left.min(NAP));
    }
}

impl Writer {
    pub fn new(connection: Connection, shared: Arc<Shared>) -> Self {
        Self { connection, shared, dirty: HashMap::new(), files: 0, waiting: Vec::new() }
    }

    /// Works until nobody is left who could tell it something.
    pub fn run(mut self, told: Receiver<Write>) {
        if let Err(error) = self.measure() {
            self.fail(&error);
        }
        while let Ok(first) = told.recv() {
            let on = self.shared.is_on();
            let begun = if on { self.begin() } else { Ok(()) };
            // When nothing is kept any more, those who wait are to be told all the same.
            let done = self.work(first, &told, on && begun.is_ok());
            if let Err(error) = begun.and(done) {
                self.fail(&error);
            }
            self.waiting.drain(..).for_each(|waiting| {
                // Who waited may have lost patience.
                let _ = waiting.send(());
            });
        }
        if self.shared.is_on() {
            // The next mount finds it all in one file.
            let _ = self.connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
        }
    }

    fn begin(&self) -> Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| self.wrong(error))
    }

    /// Does what it is told for a while, and commits that.
    fn work(&mut self, first: Write, told: &Receiver<Write>, on: bool) -> Result<()> {
        let mut next = Some(first);
        let end = Instant::now() + PERIOD;
        let mut rows = 0;
        let mut outcome = Ok(());
        while let Some(write) = next {
            rows += write.rows();
            let weight = (write.rows(), write.octets());
            let ends = matches!(write, Write::Flush(_));
            match write {
                Write::Flush(waiting) => self.waiting.push(waiting),
                write if on && outcome.is_ok() => outcome = self.write(write),
                _ => {}
            }
            self.shared.rows.fetch_sub(weight.0, Ordering::Relaxed);
            self.shared.octets.fetch_sub(weight.1, Ordering::Relaxed);
            if ends || rows >= ROWS_MAX || outcome.is_err() {
                break;
            }
            next = next_told(told, end);
        }
        outcome?;
        if on { self.commit() } else { Ok(()) }
    }

    fn write(&mut self, write: Write) -> Result<()> {
        let kept = match write {
            Write::Mailboxes(mailboxes) => database::put_mailboxes(&self.connection, &mailboxes),
            Write::Last(mailbox) => database::put_last(&self.connection, mailbox),
            Write::Synced(place, synced) => database::put_synced(&self.connection, place, &synced),
            Write::Messages(place, messages) => self.put_messages(place, &messages),
            Write::Structure(place, uid, root) => self.put_structure(place, uid, root.as_deref()),
            Write::Size(place, uid, entry, octets) => self.put_size(place, uid, entry, octets),
            Write::Octets(entry, start, octets, length) => return self.put_octets(entry, start, &octets, length),
            Write::Used(key) => {
                let sql = "UPDATE object SET used=? WHERE place=? AND uid=? AND section=?";
                let key = params![hour(), key.place.sql(), key.uid.get(), key.section];
                self.connection.prepare_cached(sql).and_then(|mut s| s.execute(key)).map(|_| ())
            }
            Write::Forget(mailbox) => return self.forget(mailbox),
            Write::Gone(place, uids) => return self.gone(place, &uids),
            Write::Flush(_) => Ok(()),
        };
        kept.map_err(|error| self.wrong(error))
    }

    fn put_messages(&self, place: Place, messages: &[Summary]) -> rusqlite::Result<()> {
        let mut statement =
            self.connection.prepare_cached("INSERT OR REPLACE INTO message(place, uid, data) VALUES(?, ?, ?)")?;
        for summary in messages {
            let sealed = seal(Kind::Message, place, summary.uid.get(), b"", write_summary(summary));
            statement.execute(params![place.sql(), summary.uid.get(), sealed])?;
        }
        Ok(())
    }

    fn put_structure(&self, place: Place, uid: Uid, root: Option<&Part>) -> rusqlite::Result<()> {
        let mut sizes = self.connection.prepare_cached("DELETE FROM size WHERE place=? AND uid=?")?;
        sizes.execute([place.sql(), uid.get().into()])?;
        let sealed = seal(Kind::Structure, place, uid.get(), b"", write_structure(root));
        let mut statement =
            self.connection.prepare_cached("INSERT OR REPLACE INTO structure(place, uid, data) VALUES(?, ?, ?)")?;
        statement.execute(params![place.sql(), uid.get(), sealed]).map(|_| ())
    }

    fn put_size(&self, place: Place, uid: Uid, entry: u16, octets: u64) -> rusqlite::Result<()> {
        let mut out = Out::default();
        out.number(octets);
        let sealed = seal(Kind::Size, place, uid.get(), &entry.to_le_bytes(), out.0);
        let mut statement = self
            .connection
            .prepare_cached("INSERT OR REPLACE INTO size(place, uid, entry, data) VALUES(?, ?, ?, ?)")?;
        statement.execute(params![place.sql(), uid.get(), entry, sealed]).map(|_| ())
    }

    fn put_octets(&mut self, entry: Arc<Entry>, start: u64, octets: &[u8], length: Option<u64>) -> Result<()> {
        let folder = self.shared.directory.octets();
        let before = file_octets(&entry);
        // Also when it fails on the way: there may be a part of it by then.
        self.dirty.insert(entry.key.clone(), Arc::clone(&entry));
        let is_row = entry.put(&folder, start, octets, length);
        let is_row =
            is_row.map_err(|error| super::directory::cannot("write to", &self.shared.directory.path, &error))?;
        if is_row {
            let Key { place, uid, section } = &entry.key;
            let sql = "INSERT OR REPLACE INTO octets(place, uid, section, data) VALUES(?, ?, ?, ?)";
            let put = self.connection.prepare_cached(sql);
            let put = put.and_then(|mut s| s.execute(params![place.sql(), uid.get(), section, octets]));
            put.map_err(|error| self.wrong(error))?;
        }
        self.files = (self.files + file_octets(&entry)).saturating_sub(before);
        Ok(())
    }

    fn put_maps(&self) -> rusqlite::Result<()> {
        let sql =
            "INSERT OR REPLACE INTO object(place, uid, section, data, octets, row, used) VALUES(?, ?, ?, ?, ?, ?, ?)";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (key, entry) in &self.dirty {
            let map = entry.map();
            let sealed = seal(Kind::Object, key.place, key.uid.get(), key.section.as_bytes(), map.write());
            let octets = map.octets().min(i64::MAX as u64) as i64;
            statement.execute(params![key.place.sql(), key.uid.get(), key.section, sealed, octets, map.row, hour()])?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.put_maps().and_then(|()| self.connection.execute_batch("COMMIT")).map_err(|error| self.wrong(error))?;
        self.dirty.clear();
        if self.is_gone() {
            return Ok(());
        }
        self.measure()?;
        if self.shared.used.load(Ordering::Relaxed) > self.shared.limit { self.evict() } else { Ok(()) }
    }

    /// How much of the disk is in use.
    fn measure(&mut self) -> Result<()> {
        let first = self.shared.used.load(Ordering::Relaxed) == 0;
        let used = database::used(&self.connection, first);
        let (database, files) = used.map_err(|error| self.wrong(error))?;
        self.files = files.unwrap_or(self.files);
        self.shared.used.store(database + self.files, Ordering::Relaxed);
        Ok(())
    }

    /// Drops the octets that were not used for the longest time. What is known of messages besides stays.
    fn evict(&mut self) -> Result<()> {
        let used = self.shared.used.load(Ordering::Relaxed);
        let mut surplus = used.saturating_sub(self.shared.limit / 100 * KEPT);
        let oldest = self.oldest(surplus).map_err(|error| self.wrong(error))?;
        if oldest.is_empty() {
            return Ok(());
        }
        debug!(used, sections = oldest.len(), "the disk cache is full: what was not used for long goes");
        self.begin()?;
        for (key, octets, is_row) in oldest {
            self.drop_section(&key, is_row, octets)?;
            surplus = surplus.saturating_sub(octets);
        }
        self.connection.execute_batch("COMMIT").map_err(|error| self.wrong(error))?;
        self.vacuum().map_err(|error| self.wrong(error))?;
        self.measure()
    }

    /// The sections used least recently that have so many octets together.
    fn oldest(&self, mut surplus: u64) -> rusqlite::Result<Vec<(Key, u64, bool)>> {
        let mut oldest = Vec::new();
        let sql = "SELECT place, uid, section, octets, row FROM object ORDER BY used, place, uid";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while surplus > 0
            && let Some(row) = rows.next()?
        {
            let Some(uid) = Uid::new(row.get(1)?) else { continue };
            let octets = row.get::<_, i64>(3)?.max(1) as u64;
            surplus = surplus.saturating_sub(octets);
            oldest.push((
                Key { place: Place(row.get::<_, i64>(0)? as u64), uid, section: row.get(2)? },
                octets,
                row.get(4)?,
            ));
        }
        Ok(oldest)
    }

    fn drop_section(&mut self, key: &Key, is_row: bool, octets: u64) -> Result<()> {
        self.shared.forget_entry(key);
        if !is_row {
            self.files = self.files.saturating_sub(octets);
            let file = key.file(&self.shared.directory.octets());
            remove(&file).map_err(|error| super::directory::cannot("remove", &file, &error))?;
        }
        for table in ["object", "octets"] {
            let sql = format!("DELETE FROM {table} WHERE place=? AND uid=? AND section=?");
            let key = params![key.place.sql(), key.uid.get(), key.section];
            let deleted = self.connection.prepare_cached(&sql).and_then(|mut s| s.execute(key));
            deleted.map_err(|error| self.wrong(error))?;
        }
        Ok(())
    }

    /// Gives free pages back to the disk.
    fn vacuum(&self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare("PRAGMA incremental_vacuum")?;
        let mut rows = statement.query([])?;
        // Each step frees a page.
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// What is kept of a range of places and UIDs.
    fn drop_rows(&mut self, (first, last): (i64, i64), (from, to): (u32, u32)) -> Result<()> {
        let is_meant = |key: &Key| (first..=last).contains(&key.place.sql()) && (from..=to).contains(&key.uid.get());
        let dirty: Vec<Key> = self.dirty.keys().filter(|key| is_meant(key)).cloned().collect();
        // These come first: the database does not know of them yet, or not how much there is by now.
        for key in dirty {
            let Some(entry) = self.dirty.remove(&key) else { continue };
            let is_row = entry.map().row;
            self.drop_section(&key, is_row, file_octets(&entry))?;
        }
        for (key, is_row, octets) in self.sections((first, last), (from, to)).map_err(|error| self.wrong(error))? {
            self.drop_section(&key, is_row, octets)?;
        }
        for table in OF_MESSAGES {
            let sql = format!("DELETE FROM {table} WHERE place BETWEEN ? AND ? AND uid BETWEEN ? AND ?");
            let deleted =
                self.connection.prepare_cached(&sql).and_then(|mut s| s.execute(params![first, last, from, to]));
            deleted.map_err(|error| self.wrong(error))?;
        }
        Ok(())
    }

    fn sections(&self, (first, last): (i64, i64), (from, to): (u32, u32)) -> rusqlite::Result<Vec<(Key, bool, u64)>> {
        let sql =
            "SELECT place, uid, section, row, octets FROM object WHERE place BETWEEN ? AND ? AND uid BETWEEN ? AND ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![first, last, from, to])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let Some(uid) = Uid::new(row.get(1)?) else { continue };
            let key = Key { place: Place(row.get::<_, i64>(0)? as u64), uid, section: row.get(2)? };
            found.push((key, row.get(3)?, row.get::<_, i64>(4)?.max(0) as u64));
        }
        Ok(found)
    }

    fn gone(&mut self, place: Place, uids: &UidSet) -> Result<()> {
        uids.ranges().iter().try_for_each(|range| self.drop_rows((place.sql(), place.sql()), *range))
    }

    fn forget(&mut self, mailbox: u16) -> Result<()> {
        let first = Place(u64::from(mailbox) << 32);
        self.drop_rows((first.sql(), first.sql() | i64::from(u32::MAX)), (0, u32::MAX))?;
        let deleted = self.connection.execute("DELETE FROM synced WHERE mailbox=?", [first.sql()]);
        deleted.map(|_| ()).map_err(|error| self.wrong(error))
    }

    /// An error of SQLite. A damaged database is thrown away by whoever opens it next.
    fn wrong(&self, error: rusqlite::Error) -> Error {
        if is_damage(&error) {
            self.shared.directory.spoil();
        }
        failed(&error)
    }

    /// Nothing more is kept. What was committed is whole, and is read on.
    fn fail(&mut self, error: &Error) {
        // The transaction may not have begun.
        let _ = self.connection.execute_batch("ROLLBACK");
        let folder = self.shared.directory.octets();
        for (key, entry) in std::mem::take(&mut self.dirty) {
            entry.forget();
            // A file that nothing on disk knows of would stay for ever, and take the room that is missing.
            if matches!(database::map(&self.connection, &key), Ok(None)) {
                self.shared.files().pop(&key);
                let _ = remove(&key.file(&folder));
            }
        }
        if !self.is_gone() && self.shared.turn_off(State::Failed) {
            warn!(%error, "nothing more is kept in the disk cache");
        }
    }

    /// Did somebody delete it? Then nothing more is kept.
    fn is_gone(&self) -> bool {
        let gone = self.shared.directory.is_gone();
        if gone && self.shared.turn_off(State::Deleted) {
            info!("the disk cache was deleted: going on without until the next mount");
        }
        gone
    }
}

fn file_octets(entry: &Entry) -> u64 {
    let map = entry.map();
    if map.row { 0 } else { map.octets() }
}
