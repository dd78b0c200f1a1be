//! Tells the kernel what to forget, on a thread of its own.
//!
//! A notification is a blocking write: dropping a name waits for a lookup that is under way in its directory, dropping
//! pages waits for a read of them. So no other thread sends any, but for attributes alone, which wait for nothing.

use std::ffi::OsStr;
use std::io;

use fuser::{INodeNo, Notifier};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tracing::debug;

use crate::fs::Invalidation;
use crate::tree::node::Ino;

/// Passes on what arrives until the senders or the mount are gone. Blocks.
pub(super) fn run(
    runtime: &Handle,
    notifier: &Notifier,
    mut invalidations: UnboundedReceiver<Invalidation>,
    mut ended: watch::Receiver<bool>,
) {
    let next = async |invalidations: &mut UnboundedReceiver<Invalidation>, ended: &mut watch::Receiver<bool>| {
        tokio::select! {
            biased;
            _ = ended.wait_for(|&ended| ended) => None,
            next = invalidations.recv() => next,
        }
    };
    while let Some(invalidation) = runtime.block_on(next(&mut invalidations, &mut ended)) {
        if let Err(error) = send(notifier, &invalidation) {
            debug!("{invalidation:?}: {error}");
        }
    }
}

fn send(notifier: &Notifier, invalidation: &Invalidation) -> io::Result<()> {
    match invalidation {
        Invalidation::Attr(ino) => attributes(notifier, *ino),
        // From the start to the end.
        Invalidation::Data(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
        Invalidation::Entry(parent, name) => notifier.inval_entry(INodeNo(parent.0), OsStr::new(name)),
    }
}

/// Makes the kernel ask for the attributes again. Takes about 3 µs and waits for no request.
pub(super) fn attributes(notifier: &Notifier, ino: Ino) -> io::Result<()> {
    // A negative offset: attributes only.
    notifier.inval_inode(INodeNo(ino.0), -1, 0)
}
