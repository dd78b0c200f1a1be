//! Nodes and their inode numbers: a value with pack and unpack, no table, no counts, nothing to leak.
//!
//! ```text
//! 63            48 47                                16 15             0
//! | mailbox id    | UID                                | entry          |
//! ```
//! Mailbox id 0 is the account itself, UID 0 the mailbox itself. The root is inode 1, as FUSE has it. A UID in mailbox
//! 0 numbers what exists only in this mount: files that are being written, and searches. A query is a text of any
//! length, so no number can be computed from it; searches are numbered as they are named first.

use std::num::NonZeroU32;

use crate::mail::uid::Uid;

/// A mailbox as this mount numbers it: 1 to 65535. A mailbox whose UIDVALIDITY changed gets a new one, so an old
/// inode number can never mean other mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxId(pub u16);

/// An entry of a message; `tree::entries` tells how they are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u16);

impl EntryId {
    /// The message's own directory.
    pub const DIRECTORY: Self = Self(0);
    /// Its `message.eml`.
    pub const RAW: Self = Self(2);
}

/// An inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

/// The root directory's inode number.
pub const ROOT: Ino = Ino(1);

/// Views of the whole account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountView {
    /// `.imapfs/`
    Control,
    /// `.imapfs/status`
    Status,
    /// `.search/`: searches of all mailboxes.
    Search,
    /// `.imapfs/metrics`
    Metrics,
}

/// Views of one mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailboxView {
    /// `.eml/`: the messages flat, as files.
    Eml,
    /// `.messages.tsv`
    Table,
    /// `.search/`
    Search,
}

/// What a search shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SearchView {
    /// The messages that were found.
    Messages,
    /// `.eml/`: the same, flat, as files.
    Eml,
    /// `.messages.tsv`: a table of them.
    Table,
}

/// Everything that can have an inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// The mount's root.
    Root,
    /// A view of the account.
    AccountView(AccountView),
    /// A mailbox's directory.
    Mailbox(MailboxId),
    /// A view of a mailbox.
    MailboxView(MailboxId, MailboxView),
    /// A message's directory (`EntryId(0)`) or something in it.
    Entry(MailboxId, Uid, EntryId),
    /// A file that exists only here: being written, or scratch. Numbers are never used again: 1 to 2^32-1.
    Local(NonZeroU32),
    /// A search, by the number that it has in this mount: 1 to 2^32-1.
    Search(NonZeroU32, SearchView),
}

impl Node {
    /// A message's directory.
    pub fn message(mailbox: MailboxId, uid: Uid) -> Self {
        Node::Entry(mailbox, uid, EntryId(0))
    }

    /// The inode number of this node.
    pub fn pack(self) -> Ino {
        let (mailbox, uid, entry) = match self {
            Node::Root => (0, 0, 1),
            Node::AccountView(AccountView::Control) => (0, 0, 2),
            Node::AccountView(AccountView::Status) => (0, 0, 3),
            Node::AccountView(AccountView::Search) => (0, 0, 4),
            Node::AccountView(AccountView::Metrics) => (0, 0, 5),
            Node::Mailbox(mailbox) => (mailbox.0, 0, 0),
            Node::MailboxView(mailbox, MailboxView::Eml) => (mailbox.0, 0, 1),
            Node::MailboxView(mailbox, MailboxView::Table) => (mailbox.0, 0, 2),
            Node::MailboxView(mailbox, MailboxView::Search) => (mailbox.0, 0, 3),
            Node::Entry(mailbox, uid, entry) => (mailbox.0, uid.get(), entry.0),
            Node::Local(number) => (0, number.get(), 0),
            Node::Search(number, SearchView::Messages) => (0, number.get(), 1),
            Node::Search(number, SearchView::Eml) => (0, number.get(), 2),
            Node::Search(number, SearchView::Table) => (0, number.get(), 3),
        };
        Ino(u64::from(mailbox) << 48 | u64::from(uid) << 16 | u64::from(entry))
    }

    /// The node with this inode number; `None` for a number that none has.
    pub fn unpack(ino: Ino) -> Option<Self> {
        let mailbox = (ino.0 >> 48) as u16;
        let uid = Uid::new((ino.0 >> 16) as u32);
        let entry = ino.0 as u16;
        match (mailbox, uid, entry) {
            (0, None, 1) => Some(Node::Root),
            (0, None, 2) => Some(Node::AccountView(AccountView::Control)),
            (0, None, 3) => Some(Node::AccountView(AccountView::Status)),
            (0, None, 4) => Some(Node::AccountView(AccountView::Search)),
            (0, Some(number), kind) => {
                let number = NonZeroU32::new(number.get())?;
                match kind {
                    0 => Some(Node::Local(number)),
                    1 => Some(Node::Search(number, SearchView::Messages)),
                    2 => Some(Node::Search(number, SearchView::Eml)),
                    3 => Some(Node::Search(number, SearchView::Table)),
                    _ => None,
                }
            }
            (0, None, 5) => Some(Node::AccountView(AccountView::Metrics)),
            (0, _, _) => None,
            (mailbox, None, 0) => Some(Node::Mailbox(MailboxId(mailbox))),
            (mailbox, None, 1) => Some(Node::MailboxView(MailboxId(mailbox), MailboxView::Eml)),
            (mailbox, None, 2) => Some(Node::MailboxView(MailboxId(mailbox), MailboxView::Table)),
            (mailbox, None, 3) => Some(Node::MailboxView(MailboxId(mailbox), MailboxView::Search)),
            (_, None, _) => None,
            (mailbox, Some(uid), entry) => Some(Node::Entry(MailboxId(mailbox), uid, EntryId(entry))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_root_is_one() {
        assert_eq!(Node::Root.pack(), ROOT);
    }

    proptest! {
        #[test]
        fn a_number_is_one_node_and_a_node_one_number(raw in any::<u64>(), small in 0u64..9, high in 0u64..3) {
            for ino in [Ino(raw), Ino(raw & 0xffff_ffff_0000), Ino(high << 48 | small)] {
                if let Some(node) = Node::unpack(ino) {
                    prop_assert_eq!(node.pack(), ino);
                }
            }
        }
    }
}
