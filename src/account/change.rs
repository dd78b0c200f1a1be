//! Changes of messages and mailboxes: asked of the server, and taken in like what others change.

use std::sync::Arc;

use super::Account;
use crate::error::{Error, Result};
use crate::imap::request::Upload;
use crate::mail::flag::Flags;
use crate::mail::uid::Uid;
use crate::tree::node::MailboxId;

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

impl Account {
    /// Sets some flags of a message and clears others; what the server did not keep is `Unsupported`.
    pub async fn change_flags(self: &Arc<Self>, _at: Place, _set: Flags, _clear: Flags) -> Result<()> {
        Err(Error::ReadOnly)
    }

    /// Moves a message. The UID it has there; `NotFound` never: a moved message is found, or the outcome is an error.
    pub async fn move_message(self: &Arc<Self>, _at: Place, _to: MailboxId) -> Result<Uid> {
        Err(Error::ReadOnly)
    }

    /// Copies a message, on the server. The UID of the copy.
    pub async fn copy_message(self: &Arc<Self>, _at: Place, _to: MailboxId) -> Result<Uid> {
        Err(Error::ReadOnly)
    }

    /// Removes a message, as `Options::deletion` says.
    pub async fn remove_message(self: &Arc<Self>, _at: Place) -> Result<()> {
        Err(Error::ReadOnly)
    }

    /// Puts a new message into a mailbox. Its UID.
    pub async fn append(self: &Arc<Self>, _to: MailboxId, _message: Upload) -> Result<Uid> {
        Err(Error::ReadOnly)
    }

    /// Puts a new message into the place of an old one; when that fails the old one stands. Its UID.
    pub async fn replace(self: &Arc<Self>, _at: Place, _message: Upload) -> Result<Uid> {
        Err(Error::ReadOnly)
    }

    /// Creates and subscribes a mailbox: `component` as the user spells it.
    pub async fn create_mailbox(self: &Arc<Self>, _parent: Option<MailboxId>, _component: &str) -> Result<MailboxId> {
        Err(Error::ReadOnly)
    }

    /// Renames a mailbox, with those in it; ids stay.
    pub async fn rename_mailbox(
        self: &Arc<Self>,
        _id: MailboxId,
        _parent: Option<MailboxId>,
        _component: &str,
    ) -> Result<()> {
        Err(Error::ReadOnly)
    }

    /// Deletes a mailbox that holds neither message nor mailbox: `NotEmpty`, as the server says just before.
    pub async fn delete_mailbox(self: &Arc<Self>, _id: MailboxId) -> Result<()> {
        Err(Error::ReadOnly)
    }

    /// Subscribes a mailbox, or ends that.
    pub async fn set_subscribed(self: &Arc<Self>, _id: MailboxId, _subscribed: bool) -> Result<()> {
        Err(Error::ReadOnly)
    }

    /// Makes the access control list of a mailbox this one: (identifier, rights).
    pub async fn set_acl(self: &Arc<Self>, _id: MailboxId, _acl: Vec<(String, String)>) -> Result<()> {
        Err(Error::ReadOnly)
    }

    /// Sets or removes an annotation of a mailbox, `/private/comment` and so on.
    pub async fn set_metadata(self: &Arc<Self>, _id: MailboxId, _entry: &str, _value: Option<Vec<u8>>) -> Result<()> {
        Err(Error::ReadOnly)
    }
}
