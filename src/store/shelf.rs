//! What is kept of one mailbox under one UIDVALIDITY: its messages, how they are built, and octets of them.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use rusqlite::Connection;

use super::octets::{Entry, Key, Map};
use super::writer::Write;
use super::{Details, ENTRIES, Place, Shared, Store, Synced, WAITING_MAX, database, hour};
use crate::mail::envelope::Summary;
use crate::mail::part::Part;
use crate::mail::range::{BLOCK, blocks};
use crate::mail::section::Section;
use crate::mail::uid::{Uid, UidSet};

/// Longest name of a section that is kept: it is the name of a file.
const SECTION_MAX: usize = 200;

/// See the top of the file; clones are the same one.
#[derive(Clone, Debug)]
pub struct Shelf {
    store: Store,
    place: Place,
}

impl Shelf {
    pub(super) fn new(store: Store, place: Place) -> Self {
        Self { store, place }
    }

    /// All of the mailbox is known up to here.
    pub fn synced(&self, synced: Synced) {
        self.store.write_to(self.place, Write::Synced(self.place, synced));
    }

    /// What is known of these messages now.
    pub fn put_messages(&self, messages: Vec<Summary>) {
        if !messages.is_empty() {
            self.store.write_to(self.place, Write::Messages(self.place, messages));
        }
    }

    /// These messages are gone.
    pub fn gone(&self, uids: UidSet) {
        if !uids.is_empty() {
            self.store.write_to(self.place, Write::Gone(self.place, uids));
        }
    }

    /// How a message is built; `None` when the server's word for it was not taken.
    pub fn put_structure(&self, uid: Uid, root: Option<Part>) {
        self.store.write_to(self.place, Write::Structure(self.place, uid, root.map(Arc::new)));
    }

    /// The exact size of an entry of a message, octets.
    pub fn put_size(&self, uid: Uid, entry: u16, octets: u64) {
        self.store.write_to(self.place, Write::Size(self.place, uid, entry, octets));
    }

    /// What is kept of how these messages are built.
    pub async fn details(&self, uids: Vec<Uid>) -> HashMap<Uid, Details> {
        let place = self.place;
        self.store.ask(move |reader| database::details(reader, place, &uids)).await.unwrap_or_default()
    }

    fn key(&self, uid: Uid, section: &Section) -> Option<Key> {
        let section = section.to_string().into_boxed_str();
        (section.len() <= SECTION_MAX).then_some(Key { place: self.place, uid, section })
    }

    /// A section of a message, and which blocks of it are kept; `None` for one that cannot be.
    pub async fn entry(&self, uid: Uid, section: &Section) -> Option<Arc<Entry>> {
        let key = self.key(uid, section)?;
        let shared = Arc::clone(&self.store.0.shared);
        if let Some(entry) = shared.known(&key) {
            return Some(entry);
        }
        let found = self.store.ask(move |reader| Ok((database::map(reader, &key)?, key))).await;
        let (map, key) = found?;
        if map.as_ref().is_some_and(|(_, used)| *used != hour()) {
            self.store.write(Write::Used(key.clone()));
        }
        Some(shared.enter(key, map.map(|(map, _)| map).unwrap_or_default()))
    }

    /// The octets of these adjoining blocks of a section; `None` when they are not all here and good.
    pub async fn read(&self, entry: &Arc<Entry>, wanted: Range<u64>) -> Option<Bytes> {
        let (of, shared) = (Arc::clone(entry), Arc::clone(&self.store.0.shared));
        let is_row = entry.map().row;
        let octets = if is_row {
            let all = self.store.ask(move |reader| whole_row(reader, &of)).await.flatten();
            all.map(|all| clip(&all, &wanted))
        } else {
            self.store.blocking(move || Ok(shared.open(&of).and_then(|file| of.read(&file, wanted)))).await.flatten()
        };
        self.count(octets.is_some());
        octets
    }

    /// Sections of a message, each whole; `None` for one that is not here. One that was seen to be empty is.
    pub async fn sections(&self, uid: Uid, sections: &[Section]) -> Vec<Option<Bytes>> {
        let keys: Vec<_> = sections.iter().map(|section| self.key(uid, section)).collect();
        let shared = Arc::clone(&self.store.0.shared);
        let read = move |reader: &Connection| {
            let read = keys.into_iter().map(|key| key.map_or(Ok(None), |key| whole(reader, &shared, key)));
            read.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut found = self.store.ask(read).await.unwrap_or_default();
        found.resize(sections.len(), None);
        let mut octets = Vec::with_capacity(found.len());
        for (section, found) in sections.iter().zip(found) {
            self.count(found.is_some());
            if found.as_ref().is_some_and(|(_, used)| *used != hour())
                && let Some(key) = self.key(uid, section)
            {
                self.store.write(Write::Used(key));
            }
            octets.push(found.map(|(octets, _)| octets));
        }
        octets
    }

    fn count(&self, hit: bool) {
        let Shared { hits, misses, .. } = &*self.store.0.shared;
        if hit { hits } else { misses }.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps octets of a section from `start` on, the start of a block; how many it has in all, if that is known.
    pub fn put(&self, entry: &Arc<Entry>, start: u64, octets: Bytes, length: Option<u64>) {
        let shared = &self.store.0.shared;
        if shared.octets.load(Ordering::Relaxed) < WAITING_MAX {
            self.store.write_to(self.place, Write::Octets(Arc::clone(entry), start, octets, length));
        }
    }

    /// Keeps a section that came whole. That one is empty is for the caller to have made sure of.
    pub fn put_whole(&self, uid: Uid, section: &Section, octets: Bytes) {
        let Some(key) = self.key(uid, section) else { return };
        let length = Some(octets.len() as u64);
        // All of it is told, so it does not matter what was kept before.
        let entry = self.store.0.shared.enter(key, Map::default());
        self.put(&entry, 0, octets, length);
    }
}

/// The octets of a section that is a row.
fn whole_row(reader: &Connection, entry: &Entry) -> rusqlite::Result<Option<Bytes>> {
    let Some(all) = database::row(reader, &entry.key)? else { return Ok(None) };
    Ok(entry.verified(blocks(&(0..all.len() as u64)), all))
}

/// A section whole, and when it was used last.
fn whole(reader: &Connection, shared: &Shared, key: Key) -> rusqlite::Result<Option<(Bytes, u32)>> {
    let Some((map, used)) = database::map(reader, &key)? else { return Ok(None) };
    let Some(length) = map.length else { return Ok(None) };
    let entry = Entry::new(key, map);
    let all = blocks(&(0..length));
    let is_row = entry.map().row;
    let octets = match is_row {
        true => whole_row(reader, &entry)?,
        false if !all.clone().all(|block| entry.has(block)) => None,
        false => shared.open(&entry).and_then(|file| entry.read(&file, all)),
    };
    Ok(octets.filter(|octets| octets.len() as u64 == length).map(|octets| (octets, used)))
}

/// Those octets of all that are in these blocks.
fn clip(all: &Bytes, wanted: &Range<u64>) -> Bytes {
    let at = |block: u64| usize::try_from(block.saturating_mul(BLOCK)).unwrap_or(usize::MAX).min(all.len());
    all.slice(at(wanted.start)..at(wanted.end))
}

impl Shared {
    /// A section that somebody has in use.
    fn known(&self, key: &Key) -> Option<Arc<Entry>> {
        self.entries().get(key).and_then(Weak::upgrade)
    }

    /// The section, with this map if nobody has it in use.
    fn enter(&self, key: Key, map: Map) -> Arc<Entry> {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(&key).and_then(Weak::upgrade) {
            return entry;
        }
        if entries.len() >= ENTRIES && entries.len().is_power_of_two() {
            entries.retain(|_, entry| entry.strong_count() > 0);
        }
        let entry = Arc::new(Entry::new(key.clone(), map));
        entries.insert(key, Arc::downgrade(&entry));
        entry
    }

    /// The file of a section.
    fn open(&self, entry: &Entry) -> Option<Arc<File>> {
        if let Some(file) = self.files().get(&entry.key) {
            return Some(Arc::clone(file));
        }
        let file = Arc::new(File::open(entry.key.file(&self.directory.octets())).ok()?);
        self.files().put(entry.key.clone(), Arc::clone(&file));
        Some(file)
    }
}
