//! Names and inode numbers that mean something else than they say: a message that was moved answers to its old
//! spelling in its new mailbox, a new one to the name that its file was given, and the kernel may go on using the
//! inode number that it knew either by. They live as long as the mount.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::mail::uid::Uid;
use crate::tree::node::{EntryId, Ino, MailboxId, Node};

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Aliases {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By directory and name.
    names: HashMap<(Ino, String), Node>,
    /// The same the other way round, by [`owner`]. Invariant: holds each of `names` once, and no empty list.
    owned: HashMap<Node, Vec<(Ino, String)>>,
    /// Where a message went.
    messages: HashMap<(MailboxId, Uid), (MailboxId, Uid)>,
    /// What became of something that existed only here.
    locals: HashMap<Node, Node>,
}

/// The message that an entry is of, for what has names; anything else is itself.
fn owner(node: Node) -> Node {
    match node {
        Node::Entry(mailbox, uid, _) => Node::message(mailbox, uid),
        node => node,
    }
}

impl Inner {
    fn set(&mut self, key: (Ino, String), node: Node) {
        self.remove(&key);
        self.owned.entry(owner(node)).or_default().push(key.clone());
        self.names.insert(key, node);
    }

    fn remove(&mut self, key: &(Ino, String)) -> Option<Node> {
        let node = self.names.remove(key)?;
        if let Some(owned) = self.owned.get_mut(&owner(node)) {
            owned.retain(|owned| owned != key);
            if owned.is_empty() {
                self.owned.remove(&owner(node));
            }
        }
        Some(node)
    }

    /// The names of `from` are names of `to` from here on; `to` with the entry that each name was of, where it is a
    /// message and `from` was one.
    fn hand_over(&mut self, from: Node, to: Node) {
        for key in self.owned.remove(&owner(from)).unwrap_or_default() {
            let node = match (self.names.remove(&key), to) {
                (Some(Node::Entry(_, _, entry)), Node::Entry(mailbox, uid, _)) => Node::Entry(mailbox, uid, entry),
                _ => to,
            };
            self.set(key, node);
        }
    }
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

    /// A message went from one place to another: its inode numbers and the names that it was given go on working. What
    /// it is called no more is for [`Aliases::forget`].
    pub fn moved(&self, from: (MailboxId, Uid), to: (MailboxId, Uid)) {
        if from != to {
            let mut inner = self.lock();
            // Where it is now it is itself.
            inner.messages.remove(&to);
            inner.messages.insert(from, to);
            inner.hand_over(Node::message(from.0, from.1), Node::message(to.0, to.1));
        }
    }

    /// A local file became this: its inode number and its names go on working.
    pub fn became(&self, local: Node, node: Node) {
        let mut inner = self.lock();
        inner.locals.insert(local, node);
        inner.hand_over(local, node);
    }

    /// What a name in a directory stands for, as it is now.
    pub fn name(&self, directory: Ino, name: &str) -> Option<Node> {
        let node = {
            let inner = self.lock();
            // Most mounts have none, and every lookup comes by.
            if inner.names.is_empty() {
                return None;
            }
            inner.names.get(&(directory, name.to_owned())).copied()?
        };
        Some(self.resolve(node))
    }

    /// Gives a name in a directory a meaning.
    pub fn set_name(&self, directory: Ino, name: &str, node: Node) {
        self.lock().set((directory, name.to_owned()), node);
    }

    /// Takes it away again.
    pub fn remove_name(&self, directory: Ino, name: &str) -> Option<Node> {
        self.lock().remove(&(directory, name.to_owned()))
    }

    /// The names that a message was given, with the directories that they are in.
    pub fn names_of(&self, mailbox: MailboxId, uid: Uid) -> Vec<(Ino, String)> {
        self.lock().owned.get(&Node::Entry(mailbox, uid, EntryId::DIRECTORY)).cloned().unwrap_or_default()
    }

    /// Takes all names away that a message was given in one of these directories; tells which.
    pub fn forget(&self, (mailbox, uid): (MailboxId, Uid), directories: &[Ino]) -> Vec<(Ino, String)> {
        let mut names = self.names_of(mailbox, uid);
        names.retain(|(directory, _)| directories.contains(directory));
        let mut inner = self.lock();
        names.retain(|key| inner.remove(key).is_some());
        names
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const A: MailboxId = MailboxId(1);
    const B: MailboxId = MailboxId(2);

    fn uid(uid: u32) -> Uid {
        Uid::new(uid).unwrap()
    }

    fn message(mailbox: MailboxId, number: u32) -> Node {
        Node::message(mailbox, uid(number))
    }

    #[test]
    fn a_message_is_found_wherever_it_was_moved_and_back() {
        let aliases = Aliases::default();
        let raw = |mailbox, number| Node::Entry(mailbox, uid(number), EntryId::RAW);
        aliases.moved((A, uid(5)), (B, uid(3)));
        assert_eq!(aliases.resolve(raw(A, 5)), raw(B, 3));
        aliases.moved((B, uid(3)), (A, uid(9)));
        for old in [raw(A, 5), raw(B, 3), raw(A, 9)] {
            assert_eq!(aliases.resolve(old), raw(A, 9));
        }
        assert_eq!(aliases.resolve(raw(A, 6)), raw(A, 6));
        assert_eq!(aliases.resolve(Node::Root), Node::Root);
    }

    #[test]
    fn names_follow_a_message_unless_they_are_forgotten() {
        let aliases = Aliases::default();
        let [a, b] = [A, B].map(|id| Node::Mailbox(id).pack());
        let raw = |mailbox, number| Node::Entry(mailbox, uid(number), EntryId::RAW);
        aliases.set_name(a, "x.eml", raw(A, 5));
        aliases.set_name(b, "old.5", message(A, 5));
        assert_eq!(aliases.forget((A, uid(5)), &[a]), [(a, "x.eml".to_owned())]);
        aliases.moved((A, uid(5)), (B, uid(3)));
        assert_eq!((aliases.name(a, "x.eml"), aliases.name(b, "old.5")), (None, Some(message(B, 3))));
        assert_eq!(aliases.names_of(B, uid(3)), [(b, "old.5".to_owned())]);
        assert_eq!(aliases.remove_name(b, "old.5"), Some(message(B, 3)));
        assert_eq!(aliases.names_of(B, uid(3)), []);
    }

    #[test]
    fn a_name_means_one_thing_at_a_time() {
        let aliases = Aliases::default();
        let a = Node::Mailbox(A).pack();
        aliases.set_name(a, "x.eml", message(A, 1));
        aliases.set_name(a, "x.eml", message(A, 2));
        assert_eq!(aliases.names_of(A, uid(1)), []);
        assert_eq!(aliases.name(a, "x.eml"), Some(message(A, 2)));
    }

    #[test]
    fn a_file_that_became_a_message_keeps_its_names() {
        let aliases = Aliases::default();
        let a = Node::Mailbox(A).pack();
        let local = Node::Local(NonZeroU32::MIN);
        let raw = Node::Entry(A, uid(7), EntryId::RAW);
        aliases.set_name(a, "x.eml", local);
        aliases.became(local, raw);
        assert_eq!((aliases.name(a, "x.eml"), aliases.resolve(local)), (Some(raw), raw));
        aliases.moved((A, uid(7)), (B, uid(1)));
        assert_eq!(aliases.resolve(local), Node::Entry(B, uid(1), EntryId::RAW));
    }
}
