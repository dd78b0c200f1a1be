//! Octets of one section of one message: which blocks of them are kept, their checksums, and where they are.
//!
//! 1. A section that is small and known whole is a row of the database; any other is a sparse file, each block at its
//!    offset.
//! 2. A block is written before its checksum is, and read only if the checksum holds. It covers the mailbox, UIDVALIDITY,
//!    UID, section and number of the block as well: whatever became of the files, a wrong octet is never handed out.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Place;
use super::encode::{In, Out};
use crate::mail::range::BLOCK;
use crate::mail::uid::Uid;

/// A section of at most so many octets is a row when all of it is known: reading a file would take longer.
pub const ROW_MAX: u64 = 256 * 1024;

/// Octets of a section that can be kept at the most: what a map of its blocks may have in memory.
const LENGTH_MAX: u64 = 1 << 36;

/// Which section of which message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub place: Place,
    pub uid: Uid,
    /// As a FETCH names it.
    pub section: Box<str>,
}

impl Key {
    /// The file of this section, in the folder of octets.
    pub fn file(&self, folder: &Path) -> PathBuf {
        folder.join(self.place.folder()).join(format!("{}.{}", self.uid, self.section))
    }

    fn checksum(&self, block: u64, octets: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.place.0.to_le_bytes());
        hasher.update(&self.uid.get().to_le_bytes());
        hasher.update(&block.to_le_bytes());
        hasher.update(self.section.as_bytes());
        hasher.update(b"]");
        hasher.update(octets);
        hasher.finalize()
    }
}

impl Place {
    /// The folder of its files: those of one mailbox begin alike.
    pub fn folder(self) -> String {
        format!("{:012x}", self.0)
    }
}

/// Which blocks are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// The octets of the section, once that is known.
    pub length: Option<u64>,
    /// They are a row of the database, all of them.
    pub row: bool,
    /// By block; the list is as long as it need be.
    sums: Vec<Option<u32>>,
}

impl Map {
    pub fn has(&self, block: u64) -> bool {
        usize::try_from(block).is_ok_and(|block| self.sums.get(block).is_some_and(Option::is_some))
    }

    /// Octets that are kept.
    pub fn octets(&self) -> u64 {
        match self.length {
            Some(length) if self.row => length,
            _ => BLOCK * self.sums.iter().flatten().count() as u64,
        }
    }

    fn set(&mut self, block: u64, sum: Option<u32>) {
        let Ok(block) = usize::try_from(block) else { return };
        if self.sums.len() <= block {
            self.sums.resize(block + 1, None);
        }
        self.sums[block] = sum;
    }

    pub fn write(&self) -> Vec<u8> {
        let mut out = Out::default();
        out.maybe(self.length);
        out.number(self.row.into());
        out.number(self.sums.len() as u64);
        for sums in self.sums.chunks(8) {
            out.0.push(sums.iter().enumerate().fold(0, |bits, (n, sum)| bits | u8::from(sum.is_some()) << n));
            sums.iter().flatten().for_each(|sum| out.0.extend_from_slice(&sum.to_le_bytes()));
        }
        out.0
    }

    pub fn read(mut from: In<'_>) -> Option<Self> {
        let (length, row) = (from.maybe()?, from.number()? == 1);
        let mut left = from.small::<usize>().filter(|count| *count as u64 <= LENGTH_MAX / BLOCK)?;
        let mut sums = Vec::new();
        while left > 0 {
            let bits = *from.take(1)?.first()?;
            for n in 0..left.min(8) {
                let sum =
                    if bits >> n & 1 == 1 { Some(u32::from_le_bytes(*from.take(4)?.first_chunk()?)) } else { None };
                sums.push(sum);
            }
            left -= left.min(8);
        }
        Some(Self { length, row, sums })
    }
}

/// A section of which something is kept, or will be: shared by who reads and who writes.
#[derive(Debug)]
pub struct Entry {
    pub(super) key: Key,
    map: Mutex<Map>,
}

impl Entry {
    pub(super) fn new(key: Key, map: Map) -> Self {
        Self { key, map: Mutex::new(map) }
    }

    pub(super) fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is this block kept?
    pub fn has(&self, block: u64) -> bool {
        self.map().has(block)
    }

    /// The octets of the section, once that is known.
    pub fn length(&self) -> Option<u64> {
        self.map().length
    }

    /// The octets of these blocks, `octets` beginning with the first of them, if each is what was kept; a block that is
    /// not counts as not kept from then on.
    pub(super) fn verified(&self, blocks: Range<u64>, octets: Bytes) -> Option<Bytes> {
        let mut map = self.map();
        let mut good = true;
        let mut at = 0;
        for block in blocks {
            let end = octets.len().min(at + BLOCK as usize);
            let sum = usize::try_from(block).ok().and_then(|block| map.sums.get(block).copied()).flatten();
            if sum.is_none() || sum != octets.get(at..end).map(|octets| self.key.checksum(block, octets)) {
                map.set(block, None);
                good = false;
            }
            at = end;
        }
        // A row is replaced as a whole.
        map.row &= good;
        good.then_some(octets)
    }

    /// Reads blocks that are kept from the section's file. `None` when one of them is not what it was.
    pub(super) fn read(&self, file: &File, blocks: Range<u64>) -> Option<Bytes> {
        let (start, mut end) = (blocks.start * BLOCK, blocks.end * BLOCK);
        if let Some(length) = self.length() {
            end = end.min(length);
        }
        let mut octets = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
        let outcome = file.read_exact_at(&mut octets, start);
        if outcome.is_err() {
            // The checksums tell which are there.
            octets.clear();
        }
        self.verified(blocks, octets.into())
    }

    /// Takes in octets from `start` on, which is the start of a block. What is written to the database is left to the
    /// caller: all of them when this answers true.
    pub(super) fn put(&self, folder: &Path, start: u64, octets: &[u8], length: Option<u64>) -> io::Result<bool> {
        let first = start / BLOCK;
        let mut sums = Vec::new();
        for (block, octets) in (first..).zip(octets.chunks(BLOCK as usize)) {
            // The last block of a section may be shorter; where it ends must be known by then.
            let end = block * BLOCK + octets.len() as u64;
            if octets.len() as u64 == BLOCK || length == Some(end) {
                sums.push((block, octets, self.key.checksum(block, octets)));
            }
        }
        if start + octets.len() as u64 > LENGTH_MAX {
            return Ok(false);
        }
        let is_row = start == 0 && length == Some(octets.len() as u64) && octets.len() as u64 <= ROW_MAX;
        let was = {
            let mut map = self.map();
            if length.is_some() && map.length.is_some() && length != map.length {
                *map = Map::default();
            }
            map.length = length.or(map.length);
            map.row
        };
        match (is_row, was) {
            // All of it is here already.
            (_, true) => return Ok(false),
            // Of what an earlier mount kept of it there may be a file.
            (true, _) => remove(&self.key.file(folder))?,
            (false, _) => {
                let file = create(&self.key.file(folder))?;
                for (block, octets, _) in &sums {
                    file.write_all_at(octets, block * BLOCK)?;
                }
            }
        }
        let mut map = self.map();
        map.row = is_row;
        for (block, _, sum) in sums {
            map.set(block, Some(sum));
        }
        Ok(is_row)
    }

    /// Nothing of it is kept any more.
    pub fn forget(&self) {
        *self.map() = Map::default();
    }
}

/// A file that others cannot read, and its folder.
fn create(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    match (open(), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            open()
        }
        (opened, _) => opened,
    }
}

/// Removes a file that may be gone.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::uid::UidValidity;
    use proptest::prelude::*;

    fn entry(section: &str) -> Entry {
        let place = Place::new(3, UidValidity(4)).unwrap();
        Entry::new(Key { place, uid: Uid::new(5).unwrap(), section: section.into() }, Map::default())
    }

    fn noise(count: u64) -> Vec<u8> {
        (0..count).map(|n| (n * 7 + n / 251) as u8).collect()
    }

    #[test]
    fn blocks_come_back_as_they_were_put_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let entry = entry("2");
        let all = noise(3 * BLOCK + 100);
        let length = Some(all.len() as u64);
        assert!(!entry.put(dir.path(), BLOCK, &all[BLOCK as usize..2 * BLOCK as usize], None).unwrap());
        assert!(!entry.put(dir.path(), 3 * BLOCK, &all[3 * BLOCK as usize..], length).unwrap());
        // Where it ends is not known: a piece of a block is not kept.
        assert_eq!((0..5).filter(|block| entry.has(*block)).collect::<Vec<_>>(), [1, 3]);
        let file = File::open(entry.key.file(dir.path())).unwrap();
        assert_eq!(entry.read(&file, 1..2).unwrap(), all[BLOCK as usize..2 * BLOCK as usize]);
        assert_eq!(entry.read(&file, 3..4).unwrap(), all[3 * BLOCK as usize..]);
        assert_eq!(entry.read(&file, 1..4), None);
        // Read as another section, the same file holds nothing.
        let other = Entry::new(Key { section: "3".into(), ..entry.key.clone() }, entry.map().clone());
        assert_eq!(other.read(&file, 1..2), None);
        assert!(!other.has(1) && other.has(3));
    }

    #[test]
    fn a_changed_octet_or_a_cut_file_is_noticed_and_the_rest_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let all = noise(300 * 1024);
        for (bad, want) in [(10, 0), (BLOCK + 1, 1), (all.len() as u64 - 1, 37)] {
            let entry = entry("1");
            entry.put(dir.path(), 0, &all, Some(all.len() as u64)).unwrap();
            let path = entry.key.file(dir.path());
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            file.write_all_at(&[all[bad as usize] ^ 1], bad).unwrap();
            assert_eq!(entry.read(&file, 0..38), None);
            assert_eq!((0..38).filter(|block| !entry.has(*block)).collect::<Vec<_>>(), [want]);
            file.set_len(BLOCK).unwrap();
            assert_eq!(entry.read(&file, 2..5), None);
            assert!(!entry.has(3));
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_small_section_that_is_whole_is_a_row_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let entry = entry("1.HEADER");
        let all = noise(2 * BLOCK + 5);
        entry.put(dir.path(), 0, &all[..BLOCK as usize], None).unwrap();
        assert!(entry.key.file(dir.path()).exists());
        assert!(entry.put(dir.path(), 0, &all, Some(all.len() as u64)).unwrap());
        assert!(!entry.key.file(dir.path()).exists());
        assert_eq!(entry.map().octets(), all.len() as u64);
        assert_eq!(entry.verified(0..3, all.clone().into()).unwrap(), all);
        // Another length is another section.
        assert!(entry.put(dir.path(), 0, &all[..50], Some(50)).unwrap());
        assert_eq!(entry.length(), Some(50));
    }

    proptest! {
        #[test]
        fn a_map_is_read_as_it_was_written(
            length in prop::option::of(0u64..u64::MAX),
            row in any::<bool>(),
            sums in prop::collection::vec(prop::option::of(any::<u32>()), 0..40),
        ) {
            let map = Map { length, row, sums };
            prop_assert_eq!(Map::read(In::new(&map.write())), Some(map));
        }
    }
}
