//! Copies of message directories in the making. `cp -r` makes a directory and then each file in it, as new; the message
//! was copied whole on the server when the directory was made. So its parts are out of sight until they are created.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::{Entry, Fs};
use crate::account::{Place, Reader};
use crate::error::{Error, Result};
use crate::tree::node::{EntryId, Node};

/// A copy of which nothing was created for so long is one that nobody goes on with: all of it is shown.
const IDLE: Duration = Duration::from_secs(60);

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Copies {
    inner: Mutex<HashMap<Place, Copy>>,
}

#[derive(Debug)]
struct Copy {
    /// The message that it is of, where that was then.
    original: Place,
    created: HashSet<EntryId>,
    used: Instant,
}

impl Copies {
    /// The copies, less those that nobody goes on with.
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Copy>> {
        let mut copies = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        copies.retain(|_, copy| copy.used.elapsed() < IDLE);
        copies
    }

    /// The message is the copy that a directory was just made for.
    pub fn begin(&self, at: Place, original: Place) {
        self.lock().insert(at, Copy { original, created: HashSet::new(), used: Instant::now() });
    }

    /// What it is a copy of.
    pub fn original(&self, at: Place) -> Option<Place> {
        self.lock().get(&at).map(|copy| copy.original)
    }

    /// Is somebody at work on this copy?
    pub fn is_underway(&self, at: Place) -> bool {
        self.lock().contains_key(&at)
    }

    /// Is this part of it still to be created? Never the directory, nor `message.eml`, which no listing told of.
    pub fn is_absent(&self, at: Place, entry: EntryId) -> bool {
        ![EntryId::DIRECTORY, EntryId::RAW].contains(&entry)
            && self.lock().get(&at).is_some_and(|copy| !copy.created.contains(&entry))
    }

    /// Creates a part; false when it was there, or this is no copy in the making.
    pub fn create(&self, at: Place, entry: EntryId) -> bool {
        let absent = self.is_absent(at, entry);
        if let Some(copy) = self.lock().get_mut(&at).filter(|_| absent) {
            copy.created.insert(entry);
            copy.used = Instant::now();
        }
        absent
    }

    /// Somebody goes on with it: a large part takes its time.
    fn touch(&self, at: Place) {
        if let Some(copy) = self.lock().get_mut(&at) {
            copy.used = Instant::now();
        }
    }

    /// Nobody goes on with it.
    pub fn end(&self, at: Place) {
        self.lock().remove(&at);
    }
}

/// An open file that is a part of a copy in the making. Whatever is written to it must be what it holds.
#[derive(Debug)]
pub struct CopiedPart {
    node: Node,
    /// The same part of the original.
    original: Node,
    reader: OnceCell<Reader>,
}

impl CopiedPart {
    /// The part `node` of a copy of the message that `original` is the same part of.
    pub fn new(node: Node, original: Node) -> Self {
        Self { node, original, reader: OnceCell::new() }
    }
}

impl Fs {
    /// Creates the part of this name in a directory of a copy in the making: it is there from then on. `None` when the
    /// directory is in no such copy. Errors: `Exists`; `NotPermitted` for what the message has not.
    pub(super) async fn create_in_copy(&self, directory: Node, name: &str) -> Option<Result<Entry>> {
        let Node::Entry(mailbox, uid, directory) = directory else { return None };
        let original = self.copies.original((mailbox, uid))?;
        let create = async {
            let message = self.account.message(mailbox, uid).await?;
            let found = message.entries.lookup(directory, name);
            let id = found.map(|found| found.id).ok_or_else(|| {
                Error::NotPermitted("a copy of a message has the parts of the message and no others".into())
            })?;
            if !self.copies.create((mailbox, uid), id) {
                return Err(Error::Exists);
            }
            if let Node::Entry(mailbox, uid, _) = self.aliases.resolve(Node::message(original.0, original.1))
                && let Ok(original) = self.account.message(mailbox, uid).await
                && let Some(size) = original.known_size(id)
            {
                message.learn_size(id, size);
            }
            self.part_entry(&message, id)
        };
        Some(create.await)
    }

    /// Octets of a part of a copy. They are read of the original, which the copying program reads as well; of the copy
    /// when that is gone.
    pub(super) async fn read_copy(&self, part: &CopiedPart, offset: u64, size: u32) -> Result<Bytes> {
        if let Node::Entry(mailbox, uid, _) = part.node {
            self.copies.touch((mailbox, uid));
        }
        let open = async |node| match self.aliases.resolve(node) {
            Node::Entry(mailbox, uid, entry) => self.account.open_entry(mailbox, uid, entry).await,
            _ => Err(Error::Stale),
        };
        let reader = part.reader.get_or_try_init(async || match open(part.original).await {
            Err(Error::NotFound | Error::Stale) => open(part.node).await,
            outcome => outcome,
        });
        self.account.read(reader.await?, offset, size).await
    }

    /// "Writes" to a part of a copy: the octets are there already. `NotPermitted` when those are others.
    pub(super) async fn write_to_copy(&self, part: &CopiedPart, offset: u64, data: &[u8]) -> Result<u32> {
        let size = u32::try_from(data.len()).map_err(|_| Error::invalid("too much at once"))?;
        if self.read_copy(part, offset, size).await? != data {
            return Err(Error::NotPermitted("a copy of a message has the octets of the message".into()));
        }
        Ok(size)
    }

    /// How many octets of an open file of `source`, from `offset` on, a part of a copy has without anything being done: when it is a
    /// copy of that very file.
    pub(super) async fn copied_already(
        &self,
        part: &CopiedPart,
        source: Option<Node>,
        offset: u64,
    ) -> Result<Option<u64>> {
        let Some(node) = source.map(|node| self.aliases.resolve(node)) else { return Ok(None) };
        if node != self.aliases.resolve(part.original) {
            return Ok(None);
        }
        Ok(Some(self.entry(node).await?.attr.size.saturating_sub(offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::uid::Uid;
    use crate::tree::node::MailboxId;

    #[tokio::test(start_paused = true)]
    async fn parts_of_a_copy_are_absent_until_they_are_created_or_nobody_goes_on() {
        let copies = Copies::default();
        let at = (MailboxId(1), Uid::new(7).unwrap());
        let [a, b] = [EntryId(4), EntryId(8)];
        assert!(!copies.is_absent(at, a) && !copies.create(at, a));
        copies.begin(at, (MailboxId(2), at.1));
        assert!(copies.is_absent(at, a) && copies.is_absent(at, b));
        assert!(!copies.is_absent(at, EntryId::DIRECTORY) && !copies.is_absent(at, EntryId::RAW));
        assert!(copies.create(at, a) && !copies.create(at, a));
        assert!(!copies.is_absent(at, a) && copies.is_absent(at, b));
        tokio::time::advance(IDLE).await;
        assert!(!copies.is_absent(at, b) && !copies.is_underway(at));
        copies.begin(at, (MailboxId(2), at.1));
        copies.end(at);
        assert!(!copies.is_absent(at, b));
    }
}
