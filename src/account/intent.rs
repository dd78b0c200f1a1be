//! What can be meant to be done to a message.

use crate::mail::uid::Uid;
use crate::tree::node::MailboxId;

/// Octets that the server may say to a change beside its rows.
pub(super) const ANSWER_MAX: u64 = 4 * 1024 * 1024;

/// What happens to a message that is removed (`--delete`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// It is moved to the mailbox with the special use `\Trash`, and from there expunged.
    #[default]
    Trash,
    /// It is expunged.
    Expunge,
    /// It gets the flag `\Deleted`, and is shown no more.
    Flag,
}

/// Where a message is.
pub type Place = (MailboxId, Uid);

/// How a message gets into another mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// It is here and there afterwards.
    Copy,
    /// It is only there.
    Move,
}
