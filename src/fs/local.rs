//! Files that exist only in this mount: those that are being written, and what programs leave until they rename it.
//!
//! The octets of a file come from one of three places: nowhere (it is empty), a message of which it is a copy so far,
//! a spool file. It becomes mail when it is committed, which [`plan_commit`] decides.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Entry;
use super::attr::file;
use super::spool::Spool;
pub use crate::account::Place;
use crate::account::Reader;
use crate::error::Error;
use crate::mail::flag::Flags;
use crate::tree::node::{Ino, MailboxId, Node};
use crate::tree::scratch::{FileName, classify};

/// A message that a file is a copy of.
#[derive(Debug)]
pub struct Original {
    pub place: Place,
    pub reader: Reader,
}

/// Where the octets of a file are.
#[derive(Clone, Debug, Default)]
pub enum Content {
    /// There are none.
    #[default]
    Nothing,
    /// They are those of a message.
    Message(Arc<Original>),
    /// On disk.
    Spool(Arc<Spool>),
}

/// Where a file is in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The directory, as it is now.
    pub directory: Ino,
    pub name: String,
    /// The mailbox that the directory is, shows, or is in.
    pub mailbox: MailboxId,
}

/// What is known of a file.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `None` once its name was removed.
    pub home: Option<Home>,
    pub content: Content,
    /// Octets.
    pub size: u64,
    pub mtime_nanos: i128,
    /// The modification time that the user set, seconds since 1970.
    pub date: Option<i64>,
    /// The flags that the user set.
    pub flags: Option<Flags>,
    /// The message whose place it takes: that it overwrites, or that it became already.
    pub target: Option<Place>,
    /// The octets are not those that the server has.
    pub dirty: bool,
    /// Why the last commit did not go well. Told at each close and fsync until the file is changed again.
    pub failed: Option<Error>,
    /// Handles.
    pub opens: usize,
}

/// A file.
#[derive(Debug)]
pub struct Local {
    /// What the kernel knows it as: of its own, or the message that is overwritten.
    pub node: Node,
    /// Held by who changes its octets or sends them.
    pub turn: tokio::sync::Mutex<()>,
    facts: Mutex<Facts>,
}

impl Local {
    /// The attributes of a file that is being written, which hold for no moment.
    pub fn entry(&self) -> Entry {
        let facts = self.facts();
        file(self.node, facts.size, facts.mtime_nanos, Duration::ZERO)
    }

    pub fn new(node: Node, facts: Facts) -> Arc<Self> {
        Arc::new(Self { node, turn: tokio::sync::Mutex::default(), facts: Mutex::new(facts) })
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes a file mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing has to be done.
    Nothing,
    /// A new message.
    Append(MailboxId),
    /// A copy of a message that the server has.
    Copy(Place, MailboxId),
    /// A new message in the place of another.
    Replace(Place),
}

/// What has to be done so that the server has a file as it is. An empty file is no message: shells close what they
/// have just created before they write to it, and who empties a message to write it anew has lost nothing yet.
pub fn plan_commit(facts: &Facts) -> Plan {
    let Some(home) = facts.home.as_ref().filter(|home| classify(&home.name) == FileName::Message) else {
        return Plan::Nothing;
    };
    if !facts.dirty || facts.size == 0 {
        return Plan::Nothing;
    }
    match (&facts.content, facts.target) {
        (Content::Nothing, _) => Plan::Nothing,
        (Content::Message(original), Some(target)) if original.place == target => Plan::Nothing,
        (Content::Message(original), None) => Plan::Copy(original.place, home.mailbox),
        (Content::Spool(_), None) => Plan::Append(home.mailbox),
        (_, Some(target)) => Plan::Replace(target),
    }
}

/// What becomes of a file that nobody has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is: it is scratch, or empty.
    Stays,
    /// The server has it, or nobody wants it.
    Goes,
    /// The server did not take it: its spool file is kept.
    IsKept,
}

/// What becomes of a file that nobody has open, when the mount goes on or `at_end`.
pub fn plan_retirement(facts: &Facts, at_end: bool) -> Fate {
    let is_due = facts.failed.is_some() || plan_commit(facts) != Plan::Nothing;
    match facts {
        Facts { home: None, .. } => Fate::Goes,
        Facts { failed: None, .. } if is_due && !at_end => Fate::Stays,
        _ if is_due && facts.dirty => Fate::IsKept,
        Facts { target: Some(_), .. } => Fate::Goes,
        _ if at_end => Fate::Goes,
        _ => Fate::Stays,
    }
}

/// All such files, and names that they have.
#[derive(Debug, Default)]
pub struct Locals {
    inner: Mutex<Inner>,
    last: AtomicU32,
}

#[derive(Debug, Default)]
struct Inner {
    files: HashMap<Node, Arc<Local>>,
    /// By directory and name: files, and messages that were given a scratch name.
    names: HashMap<(Ino, String), Node>,
    /// Names that were taken away from a message so that a new file can have them, as editors do, and the scratch
    /// name that it was given.
    parked: HashMap<(Ino, String), (Place, String)>,
}

impl Locals {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no file of this mount had; `None` after 2^32-1 of them.
    pub fn number(&self) -> Option<Node> {
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| last.checked_add(1)).ok()?;
        NonZeroU32::new(last + 1).map(Node::Local)
    }

    pub fn get(&self, node: Node) -> Option<Arc<Local>> {
        self.lock().files.get(&node).cloned()
    }

    /// One more handle of a file.
    pub fn open(&self, node: Node) -> Option<Arc<Local>> {
        let inner = self.lock();
        let local = inner.files.get(&node)?;
        local.facts().opens += 1;
        Some(Arc::clone(local))
    }

    /// Takes a file in, and opens it; the one that is there already when another caller was faster.
    pub fn insert(&self, local: Arc<Local>) -> Arc<Local> {
        let mut inner = self.lock();
        let local = inner.files.entry(local.node).or_insert(local);
        local.facts().opens += 1;
        Arc::clone(local)
    }

    /// Forgets a file, unless it has been opened again. Is it forgotten by this very call?
    pub fn remove(&self, local: &Local) -> bool {
        let mut inner = self.lock();
        let is_there = inner.files.get(&local.node).is_some_and(|there| std::ptr::eq(&**there, local));
        let goes = is_there && local.facts().opens == 0;
        if goes {
            inner.files.remove(&local.node);
        }
        goes
    }

    pub fn all(&self) -> Vec<Arc<Local>> {
        self.lock().files.values().cloned().collect()
    }

    /// What has this name in a directory.
    pub fn named(&self, directory: Ino, name: &str) -> Option<Node> {
        let inner = self.lock();
        if inner.names.is_empty() {
            return None;
        }
        inner.names.get(&(directory, name.to_owned())).copied()
    }

    /// The names in a directory, sorted.
    pub fn names_in(&self, directory: Ino) -> Vec<(String, Node)> {
        let inner = self.lock();
        let here = inner.names.iter().filter(|((at, _), _)| *at == directory);
        let mut names: Vec<_> = here.map(|((_, name), node)| (name.clone(), *node)).collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names
    }

    /// Names a file or a message. What had the name before.
    pub fn set_name(&self, directory: Ino, name: &str, node: Node) -> Option<Node> {
        self.lock().names.insert((directory, name.to_owned()), node)
    }

    pub fn remove_name(&self, directory: Ino, name: &str) -> Option<Node> {
        self.lock().names.remove(&(directory, name.to_owned()))
    }

    /// Takes a name away from a message, which gets a scratch name.
    pub fn park(&self, directory: Ino, name: &str, place: Place, node: Node, scratch: &str) {
        let mut inner = self.lock();
        inner.parked.insert((directory, name.to_owned()), (place, scratch.to_owned()));
        inner.names.insert((directory, scratch.to_owned()), node);
    }

    /// The message that this name was taken away from.
    pub fn parked(&self, directory: Ino, name: &str) -> Option<Place> {
        let inner = self.lock();
        if inner.parked.is_empty() {
            return None;
        }
        inner.parked.get(&(directory, name.to_owned())).map(|(place, _)| *place)
    }

    /// The name again means what it meant before.
    pub fn unpark(&self, directory: Ino, name: &str) {
        self.lock().parked.remove(&(directory, name.to_owned()));
    }

    /// The same, by the scratch name that the message was given. Its name.
    pub fn unpark_scratch(&self, directory: Ino, scratch: &str) -> Option<String> {
        let mut inner = self.lock();
        let found = inner.parked.iter().find(|((at, _), (_, name))| *at == directory && name == scratch);
        let name = found.map(|((_, name), _)| name.clone())?;
        inner.parked.remove(&(directory, name.clone()));
        Some(name)
    }

    /// A directory has another inode number now: the names in it stay in it.
    pub fn moved(&self, from: Ino, to: Ino) {
        fn rekey<T>(map: &mut HashMap<(Ino, String), T>, from: Ino, to: Ino) {
            let keys: Vec<_> = map.keys().filter(|key| key.0 == from).cloned().collect();
            for key in keys {
                if let Some(value) = map.remove(&key) {
                    map.insert((to, key.1), value);
                }
            }
        }
        let mut inner = self.lock();
        rekey(&mut inner.names, from, to);
        rekey(&mut inner.parked, from, to);
        let files: Vec<_> = inner.files.values().cloned().collect();
        drop(inner);
        for file in files {
            if let Some(home) = file.facts().home.as_mut().filter(|home| home.directory == from) {
                home.directory = to;
            }
        }
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        *self.lock() = Inner::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::uid::Uid;

    const INBOX: MailboxId = MailboxId(1);

    fn place(uid: u32) -> Place {
        (INBOX, Uid::new(uid).unwrap())
    }

    fn home(name: &str) -> Option<Home> {
        Some(Home { directory: Ino(1), name: name.to_owned(), mailbox: INBOX })
    }

    fn message(uid: u32) -> Content {
        Content::Message(Arc::new(Original { place: place(uid), reader: Reader::text("") }))
    }

    fn spool() -> (tempfile::TempDir, Content) {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), "x").unwrap();
        (dir, Content::Spool(Arc::new(spool)))
    }

    #[test]
    fn what_has_octets_and_the_name_of_a_message_becomes_one() {
        let (_dir, spool) = spool();
        let facts = |name: &str, content: &Content, target: Option<u32>| Facts {
            home: home(name),
            content: content.clone(),
            size: 5,
            target: target.map(place),
            dirty: true,
            ..Facts::default()
        };
        let written = facts("x.eml", &spool, None);
        let cases = [
            (written.clone(), Plan::Append(INBOX)),
            (Facts { size: 0, ..written.clone() }, Plan::Nothing),
            (Facts { dirty: false, ..written.clone() }, Plan::Nothing),
            (Facts { home: None, ..written.clone() }, Plan::Nothing),
            (facts(".x.eml.Ab12Cd", &spool, None), Plan::Nothing),
            (facts("x.eml", &spool, Some(7)), Plan::Replace(place(7))),
            (facts("x.eml", &message(3), None), Plan::Copy(place(3), INBOX)),
            (facts("x.eml", &message(3), Some(7)), Plan::Replace(place(7))),
            (facts("message.eml", &message(7), Some(7)), Plan::Nothing),
            (facts("x.eml", &Content::Nothing, None), Plan::Nothing),
        ];
        for (facts, expected) in cases {
            assert_eq!(plan_commit(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn what_the_server_did_not_take_is_kept_and_scratch_stays_until_the_end() {
        let (_dir, spool) = spool();
        let due = Facts { home: home("x.eml"), content: spool, size: 5, dirty: true, ..Facts::default() };
        let failed = Facts { failed: Some(Error::Quota("full".into())), ..due.clone() };
        let empty = Facts { size: 0, content: Content::Nothing, ..due.clone() };
        let scratch = Facts { home: home("4913"), ..due.clone() };
        let sent = Facts { dirty: false, target: Some(place(7)), ..due.clone() };
        let emptied = Facts { size: 0, target: Some(place(7)), ..due.clone() };
        let removed = Facts { home: None, ..failed.clone() };
        let cases = [
            (due, Fate::Stays, Fate::IsKept),
            (failed, Fate::IsKept, Fate::IsKept),
            (empty, Fate::Stays, Fate::Goes),
            (scratch, Fate::Stays, Fate::Goes),
            (sent, Fate::Goes, Fate::Goes),
            (emptied, Fate::Goes, Fate::Goes),
            (removed, Fate::Goes, Fate::Goes),
        ];
        for (facts, now, at_end) in cases {
            assert_eq!((plan_retirement(&facts, false), plan_retirement(&facts, true)), (now, at_end), "{facts:?}");
        }
    }

    #[test]
    fn a_parked_message_has_a_scratch_name_until_its_own_is_given_back() {
        let locals = Locals::default();
        let (directory, node) = (Ino(9), Node::message(INBOX, Uid::new(7).unwrap()));
        locals.park(directory, "message.eml", place(7), node, "message.eml~");
        assert_eq!(locals.parked(directory, "message.eml"), Some(place(7)));
        assert_eq!(locals.named(directory, "message.eml~"), Some(node));
        // The message was replaced, and its directory is another one.
        locals.moved(directory, Ino(10));
        assert_eq!((locals.named(directory, "message.eml~"), locals.parked(directory, "message.eml")), (None, None));
        assert_eq!(locals.names_in(Ino(10)), [("message.eml~".to_owned(), node)]);
        assert_eq!(locals.unpark_scratch(Ino(10), "message.eml~").as_deref(), Some("message.eml"));
        assert_eq!(locals.parked(Ino(10), "message.eml"), None);
    }

    #[test]
    fn a_file_that_is_opened_while_it_goes_is_not_forgotten() {
        let locals = Locals::default();
        let node = locals.number().unwrap();
        let local = locals.insert(Local::new(node, Facts::default()));
        // Its only handle was closed, and before it is forgotten another caller comes.
        local.facts().opens -= 1;
        let again = locals.open(node).unwrap();
        assert!(!locals.remove(&local));
        assert!(locals.get(node).is_some_and(|there| Arc::ptr_eq(&there, &again)));
        again.facts().opens -= 1;
        assert!(locals.remove(&local) && !locals.remove(&local));
        assert!(locals.open(node).is_none() && locals.get(node).is_none());
    }

    #[test]
    fn numbers_are_never_used_again() {
        let locals = Locals::default();
        assert_ne!(locals.number(), locals.number());
        locals.last.store(u32::MAX, Ordering::Relaxed);
        assert_eq!((locals.number(), locals.number()), (None, None));
    }
}
