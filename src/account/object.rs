//! A run of octets on the server: one section of one message, and what is known of its length.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::imap::Target;
use crate::imap::response::{Data, FetchRow};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::section::Section;
use crate::mail::uid::{Uid, UidValidity};
use crate::store::{Entry, Shelf};

/// The name of a mailbox, shared by all who ask about it: when the mailbox is renamed, open files go on being read.
#[derive(Clone)]
pub struct SharedName(Arc<RwLock<MailboxName>>);

impl SharedName {
    /// A name that nobody shares yet.
    pub fn new(name: MailboxName) -> Self {
        Self(Arc::new(RwLock::new(name)))
    }

    /// The name now.
    pub fn get(&self) -> MailboxName {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The mailbox is called so from now on.
    pub fn set(&self, name: MailboxName) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = name;
    }
}

impl std::fmt::Debug for SharedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// Where a message is.
#[derive(Clone, Debug)]
pub struct Locator {
    /// Its mailbox, as the server spells it.
    pub mailbox: SharedName,
    /// The UIDVALIDITY that its UID belongs to.
    pub validity: UidValidity,
    /// Its UID.
    pub uid: Uid,
    /// RFC822.SIZE, octets: what tells it from a message that a server makes up in the place of one that is gone.
    pub size: u64,
    /// Where what comes of it is kept on disk.
    pub shelf: Option<Shelf>,
}

impl Locator {
    /// Where a command about this message must run.
    pub fn target(&self) -> Target {
        // 0 is what a server without UIDVALIDITY has.
        Target::Mailbox { name: self.mailbox.get(), validity: Some(self.validity).filter(|v| v.0 != 0) }
    }

    /// What a FETCH told of this message; `None` for everything else that came with it.
    pub fn pick(&self, row: Data) -> Option<Box<FetchRow>> {
        match row {
            Data::Fetch(row) if row.uid == Some(self.uid) => Some(row),
            _ => None,
        }
    }

    /// Is it the message that was listed? For one that another session expunged Courier makes up a notice of 129
    /// octets, GNU mailutils an empty message.
    pub fn is_same(&self, row: &FetchRow) -> bool {
        row.size.is_none_or(|size| size == self.size)
    }
}

/// How long the section is, in octets as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// What the server's BODYSTRUCTURE states: a hint.
    Hint(u64),
    /// Seen: an answer ended there.
    Exact(u64),
}

impl Length {
    /// The number of octets, exact or not.
    pub fn octets(self) -> u64 {
        match self {
            Length::Hint(n) | Length::Exact(n) => n,
        }
    }

    /// Is it more than a hint?
    pub fn is_exact(self) -> bool {
        matches!(self, Length::Exact(_))
    }
}

/// One section of one message. Its octets never change; what is known of it may grow.
#[derive(Debug)]
pub struct Object {
    /// Number of this object in this process: what cached blocks are filed under.
    pub id: u64,
    /// The message.
    pub locator: Locator,
    /// The section.
    pub section: Section,
    state: Mutex<State>,
    /// What is kept of it on disk, once that was looked up.
    kept: OnceLock<Arc<Entry>>,
}

#[derive(Debug)]
struct State {
    length: Length,
    whole_only: bool,
    seen_end: Option<u64>,
}

impl Object {
    /// An object of which only `length` is known.
    pub fn new(id: u64, locator: Locator, section: Section, length: Length) -> Self {
        let state = Mutex::new(State { length, whole_only: false, seen_end: None });
        Self { id, locator, section, state, kept: OnceLock::new() }
    }

    /// What is known of its length.
    pub fn length(&self) -> Length {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).length
    }

    /// A better length was learnt.
    pub fn set_length(&self, length: Length) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).length = length;
    }

    /// What is kept of it on disk, once that was looked up.
    pub fn kept(&self) -> Option<&Arc<Entry>> {
        self.kept.get()
    }

    /// This is kept of it on disk.
    pub fn set_kept(&self, entry: Arc<Entry>) {
        // Who was first found the same.
        let _ = self.kept.set(entry);
    }

    /// Is a block of it on disk?
    pub fn is_kept(&self, block: u64) -> bool {
        self.kept().is_some_and(|entry| entry.has(block))
    }

    /// Did the server answer a range of it wrongly, so that it is only asked for whole?
    pub fn is_whole_only(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).whole_only
    }

    /// From now on it is only asked for whole.
    pub fn set_whole_only(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).whole_only = true;
    }

    /// Where a range said that it ends, when that is to be checked by its whole.
    pub fn seen_end(&self) -> Option<u64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).seen_end
    }

    /// A range ended there.
    pub fn set_seen_end(&self, end: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).seen_end = Some(end);
    }
}
