//! Copies of message directories in the making. `cp -r` makes a directory and then each file in it, as new; the message
//! was copied whole on the server when the directory was made. So its parts are out of sight until they are created.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Entry, Fs};
use crate::account::Place;
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
    pub fn begin(&self, at: Place) {
        self.lock().insert(at, Copy { created: HashSet::new(), used: Instant::now() });
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

    /// Nobody goes on with it.
    pub fn end(&self, at: Place) {
        self.lock().remove(&at);
    }
}

impl Fs {
    /// Creates the part of this name in a directory of a copy in the making: a node that is there, and whose bytes are
    /// those of the original whatever is written to it. `None` when the directory is in no such copy. Errors: `Exists`;
    /// `NotPermitted` for what the message has not.
    pub(super) async fn create_in_copy(&self, directory: Node, name: &str) -> Option<Result<Entry>> {
        let Node::Entry(mailbox, uid, directory) = directory else { return None };
        if !self.copies.is_underway((mailbox, uid)) {
            return None;
        }
        let create = async {
            let message = self.account.message(mailbox, uid).await?;
            let found = message.entries.lookup(directory, name);
            let id = found.map(|found| found.id).ok_or_else(|| {
                Error::NotPermitted("a copy of a message has the parts of the message and no others".into())
            })?;
            if !self.copies.create((mailbox, uid), id) {
                return Err(Error::Exists);
            }
            self.part_entry(&message, id)
        };
        Some(create.await)
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
        copies.begin(at);
        assert!(copies.is_absent(at, a) && copies.is_absent(at, b));
        assert!(!copies.is_absent(at, EntryId::DIRECTORY) && !copies.is_absent(at, EntryId::RAW));
        assert!(copies.create(at, a) && !copies.create(at, a));
        assert!(!copies.is_absent(at, a) && copies.is_absent(at, b));
        tokio::time::advance(IDLE).await;
        assert!(!copies.is_absent(at, b) && !copies.is_underway(at));
        copies.begin(at);
        copies.end(at);
        assert!(!copies.is_absent(at, b));
    }
}
