//! Names and inode numbers that mean something else than they say: a message that was moved answers to its old
//! spelling in its new mailbox, a new one to the name that its file was given, and the kernel may go on using the
//! inode number that it knew either by. They live as long as the mount.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::mail::uid::Uid;
use crate::tree::node::{Ino, MailboxId, Node};

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Aliases {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By directory and name.
    names: HashMap<(Ino, String), Node>,
    /// Where a message went.
    messages: HashMap<(MailboxId, Uid), (MailboxId, Uid)>,
    /// What became of something that existed only here.
    locals: HashMap<Node, Node>,
}

impl Aliases {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a node is now: follows a message where it went, and a file that became a message.
    pub fn resolve(&self, node: Node) -> Node {
        let inner = self.lock();
        let node = inner.locals.get(&node).copied().unwrap_or(node);
        let Node::Entry(mut mailbox, mut uid, entry) = node else { return node };
        // A message can be moved as often as there are moves, and back.
        for _ in 0..=inner.messages.len() {
            let Some(next) = inner.messages.get(&(mailbox, uid)) else { break };
            (mailbox, uid) = *next;
        }
        Node::Entry(mailbox, uid, entry)
    }

    /// A message went from one place to another: its inode numbers go on working.
    pub fn moved(&self, from: (MailboxId, Uid), to: (MailboxId, Uid)) {
        if from != to {
            let mut inner = self.lock();
            // Where it is now it is itself.
            inner.messages.remove(&to);
            inner.messages.insert(from, to);
        }
    }

    /// A local file became this.
    pub fn became(&self, local: Node, node: Node) {
        self.lock().locals.insert(local, node);
    }

    /// What a name in a directory stands for, as it is now.
    pub fn name(&self, directory: Ino, name: &str) -> Option<Node> {
        let node = self.lock().names.get(&(directory, name.to_owned())).copied()?;
        Some(self.resolve(node))
    }

    /// Gives a name in a directory a meaning.
    pub fn set_name(&self, directory: Ino, name: &str, node: Node) {
        self.lock().names.insert((directory, name.to_owned()), node);
    }

    /// Takes it away again.
    pub fn remove_name(&self, directory: Ino, name: &str) -> Option<Node> {
        self.lock().names.remove(&(directory, name.to_owned()))
    }
}
