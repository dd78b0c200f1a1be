//! Which inodes have requests under way that a notification would have to wait for.
//!
//! The kernel holds a lock on a directory during LOOKUP and READDIR, and on pages during READ. A notification that
//! needs the same lock waits in state D, and a process that is killed with a thread in that state neither dies nor
//! closes its /dev/fuse, so its callers hang for ever (umount -f ends it). So we do not send one into the lock.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::tree::node::Ino;

/// Counts requests by inode.
#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<HashMap<Ino, usize>>);

/// A request under way; dropping it is its end.
#[derive(Debug)]
pub(super) struct Underway {
    busy: Arc<Busy>,
    ino: Ino,
}

impl Busy {
    /// A request about `ino` begins.
    pub(super) fn begin(self: &Arc<Self>, ino: Ino) -> Underway {
        *self.counts().entry(ino).or_default() += 1;
        Underway { busy: self.clone(), ino }
    }

    /// True while one is under way. The next may begin at any moment, so this makes waiting rare, not impossible.
    pub(super) fn is_busy(&self, ino: Ino) -> bool {
        self.counts().contains_key(&ino)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Ino, usize>> {
        // Nothing panics with the lock held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.busy.counts().entry(self.ino) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_busy_until_its_last_request_has_ended() {
        let busy = Arc::new(Busy::default());
        let first = busy.begin(Ino(1));
        let second = busy.begin(Ino(1));
        drop(first);
        assert!(busy.is_busy(Ino(1)) && !busy.is_busy(Ino(2)));
        drop(second);
        assert!(!busy.is_busy(Ino(1)));
        assert!(busy.counts().is_empty());
    }
}
