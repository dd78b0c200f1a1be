//! Tells the kernel what to forget, on a thread of its own.
//!
//! A notification is a blocking write: dropping a name waits for a lookup that is under way in its directory, dropping
//! pages waits for a read of them. So no other thread sends any, but for attributes alone, which wait for nothing; and
//! this one puts off what would have to wait, which also holds up nothing behind it.

use std::ffi::OsStr;
use std::time::Duration;
use std::{io, thread};

use fuser::{INodeNo, Notifier};
use futures::executor::block_on;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tracing::debug;

use super::busy::Busy;
use crate::fs::Invalidation;
use crate::tree::node::Ino;

/// How long until what was put off is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// Passes on what arrives until the senders or the mount are gone. Blocks, and needs no runtime, which may end first.
pub(super) fn run(
    notifier: &Notifier,
    busy: &Busy,
    mut invalidations: UnboundedReceiver<Invalidation>,
    mut ended: watch::Receiver<bool>,
) {
    let mut waiting = Vec::new();
    loop {
        if waiting.is_empty() {
            let next = async {
                tokio::select! {
                    biased;
                    _ = ended.wait_for(|&ended| ended) => None,
                    next = invalidations.recv() => next,
                }
            };
            match block_on(next) {
                Some(next) => waiting.push(next),
                None => return,
            }
        } else {
            thread::sleep(RETRY);
        }
        while let Ok(next) = invalidations.try_recv() {
            waiting.push(next);
        }
        waiting.retain(|invalidation| {
            if *ended.borrow() {
                return false;
            }
            let waits = must_wait(busy, invalidation);
            if !waits && let Err(error) = send(notifier, invalidation) {
                debug!("{invalidation:?}: {error}");
            }
            waits
        });
    }
}

fn must_wait(busy: &Busy, invalidation: &Invalidation) -> bool {
    match invalidation {
        Invalidation::Attr(_) => false,
        Invalidation::Data(ino) | Invalidation::Pages(ino, ..) | Invalidation::Entry(ino, _) => busy.is_busy(*ino),
    }
}

fn send(notifier: &Notifier, invalidation: &Invalidation) -> io::Result<()> {
    match invalidation {
        Invalidation::Attr(ino) => attributes(notifier, *ino),
        // From the start to the end.
        Invalidation::Data(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
        Invalidation::Pages(ino, offset, size) => {
            notifier.inval_inode(INodeNo(ino.0), offset.cast_signed(), i64::from(*size))
        }
        Invalidation::Entry(parent, name) => notifier.inval_entry(INodeNo(parent.0), OsStr::new(name)),
    }
}

/// Makes the kernel ask for the attributes again. Takes about 3 µs and waits for no request.
pub(super) fn attributes(notifier: &Notifier, ino: Ino) -> io::Result<()> {
    // A negative offset: attributes only.
    notifier.inval_inode(INodeNo(ino.0), -1, 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn only_what_needs_the_lock_of_a_busy_inode_waits() {
        let busy = Arc::new(Busy::default());
        let _lookup = busy.begin(Ino(1));
        let cases = [
            (Invalidation::Entry(Ino(1), "a".into()), true),
            (Invalidation::Data(Ino(1)), true),
            (Invalidation::Attr(Ino(1)), false),
            (Invalidation::Entry(Ino(2), "a".into()), false),
        ];
        for (invalidation, expected) in cases {
            assert_eq!(must_wait(&busy, &invalidation), expected, "{invalidation:?}");
        }
    }
}
