//! Changes of mailboxes: made, renamed, deleted, subscribed, their rights and annotations. What there is, is listed
//! just before and just after, and it decides where an answer was lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::mailboxes::{Mailboxes, Moved};
use super::removal::is_within;
use super::transfer::is_unclear;
use super::{Account, LIST_MAX};
use crate::error::{Error, Result};
use crate::imap::response::{Data, ListRow};
use crate::imap::{Class, Command, Target};
use crate::mail::mailbox_name::MailboxName;
use crate::tree::mailbox_names::parse_component;
use crate::tree::node::MailboxId;
use crate::tree::views::{is_litter, is_reserved};

/// Cyrus keeps a deleted mailbox under a name made from the second, and refuses to delete another of the same name
/// within it.
const DELETE_AGAIN: Duration = Duration::from_millis(1100);

impl Account {
    /// What LIST tells now.
    pub(super) async fn ask_list(&self) -> Result<Vec<ListRow>> {
        let (rows, _) = self.client.run(Target::Account, Command::List, Class::Small, LIST_MAX).await?;
        let rows: Vec<_> =
            rows.into_iter().filter_map(|row| if let Data::List(row) = row { Some(row) } else { None }).collect();
        // INBOX is always there: an empty list is no list.
        if rows.is_empty() { Err(Error::protocol("the answer to LIST is empty")) } else { Ok(rows) }
    }

    /// Takes in what LIST told; needs `naming` held, from before it was asked.
    pub(super) fn take_list(&self, rows: &[ListRow], asked: Instant) {
        let moved = {
            let mut table = self.table();
            (table.listed, table.old) = (Some(asked), false);
            table.mailboxes.update(rows, &self.message_changes)
        };
        self.tell_moved(moved);
    }

    /// Lists the mailboxes; needs `naming` held.
    pub(super) async fn relist(&self) -> Result<()> {
        let asked = Instant::now();
        let rows = self.ask_list().await?;
        self.take_list(&rows, asked);
        Ok(())
    }

    /// Creates and subscribes a mailbox: `component` as the user spells it.
    ///
    /// # Errors
    /// `Exists`; `Invalid` for a name that would be shown as another one, or is several levels; `NotPermitted` for the
    /// names of views and for those that desktops leave everywhere, where the parent can hold none, and as the server
    /// refuses it; `Uncertain` when the connection was lost before it was seen to be done.
    pub async fn create_mailbox(self: &Arc<Self>, parent: Option<MailboxId>, component: &str) -> Result<MailboxId> {
        self.check_writable()?;
        let level = plan_level(component)?;
        let _naming = self.changing.naming.lock().await;
        self.relist().await?;
        let name = {
            let table = self.table();
            if table.mailboxes.child(parent, component).is_some() {
                return Err(Error::Exists);
            }
            self.plan_name(&table.mailboxes, parent, &level)?
        };
        match self.change_account(Command::Create(name.clone())).await {
            Ok(_) => self.relist().await?,
            Err(error) if is_unclear(&error) => {
                self.relist().await?;
                self.child(parent, component).ok_or(error)?;
            }
            Err(error) => return Err(refused(error)),
        }
        self.subscribe(&name, true).await;
        let id = self.child(parent, component);
        self.tell_moved([Moved { parent, component: component.to_owned() }]);
        if let Some(id) = id {
            self.table().mailboxes.subscribed(id, true);
        }
        id.ok_or_else(|| Error::protocol("the server made a mailbox, and lists it under another name"))
    }

    /// Renames a mailbox, with those in it; ids stay.
    ///
    /// # Errors
    /// `Busy` for INBOX (its mail would be moved) and for what is mounted; `Invalid` into itself; `Exists`; and as
    /// [`Account::create_mailbox`].
    pub async fn rename_mailbox(
        self: &Arc<Self>,
        id: MailboxId,
        parent: Option<MailboxId>,
        component: &str,
    ) -> Result<()> {
        self.check_writable()?;
        let level = plan_level(component)?;
        self.settle_mailbox(id).await;
        let _naming = self.changing.naming.lock().await;
        self.relist().await?;
        let (old, new) = {
            let table = self.table();
            let mailbox = table.mailboxes.get(id).ok_or(Error::Stale)?;
            if (mailbox.parent, &*mailbox.component) == (parent, component) {
                return Ok(());
            }
            let old = self.check_can_go(&table.mailboxes, id, table.root)?;
            if parent.is_some_and(|parent| is_within(&table.mailboxes, parent, id)) {
                return Err(Error::invalid("a mailbox cannot be moved into itself"));
            }
            if table.mailboxes.child(parent, component).is_some() {
                return Err(Error::Exists);
            }
            (old, self.plan_name(&table.mailboxes, parent, &level)?)
        };
        if let Err(error) = self.change_account(Command::Rename(old.clone(), new.clone())).await {
            if !is_unclear(&error) {
                return Err(refused(error));
            }
            let rows = self.ask_list().await?;
            let has = |name: &MailboxName| rows.iter().any(|row| row.name == *name);
            if has(&old) || !has(&new) {
                return Err(error);
            }
        }
        let (moved, subscribed) = {
            let mut table = self.table();
            table.listed = None;
            table.mailboxes.rename(id, parent, component, &old, &new)
        };
        self.tell_moved(moved);
        for (before, now) in subscribed {
            self.subscribe(&before, false).await;
            self.subscribe(&now, true).await;
        }
        if let Err(error) = self.relist().await {
            warn!(%error, "after a mailbox was renamed the mailboxes could not be listed");
        }
        Ok(())
    }

    /// Deletes a mailbox.
    ///
    /// # Errors
    /// `NotEmpty` when it holds a message or a mailbox, as the server says just before; `Busy` for INBOX and for what is
    /// mounted; `NotPermitted` as the server refuses it.
    pub async fn delete_mailbox(self: &Arc<Self>, id: MailboxId) -> Result<()> {
        self.check_writable()?;
        self.settle_mailbox(id).await;
        let _naming = self.changing.naming.lock().await;
        self.relist().await?;
        let (name, index) = {
            let table = self.table();
            let name = self.check_can_go(&table.mailboxes, id, table.root)?;
            let mailbox = table.mailboxes.get(id).ok_or(Error::Stale)?;
            if !mailbox.children.is_empty() {
                return Err(Error::NotEmpty);
            }
            (name, mailbox.index.clone())
        };
        if let Some(index) = index
            && index.count(&self.client).await? > 0
        {
            // Whoever lists it again is to see what is in it.
            index.expire();
            return Err(Error::NotEmpty);
        }
        let mut outcome = self.change_account(Command::Delete(name.clone())).await;
        if outcome.as_ref().is_err_and(is_delayed) {
            tokio::time::sleep(DELETE_AGAIN).await;
            outcome = self.change_account(Command::Delete(name.clone())).await;
        }
        match outcome {
            Ok(_) => {}
            Err(error) if is_unclear(&error) => {
                let rows = self.ask_list().await?;
                let is_there = |row: &ListRow| row.name == name && !row.attributes.iter().any(|a| a == "\\noselect");
                if rows.iter().any(is_there) {
                    return Err(error);
                }
            }
            Err(error) => return Err(refused(error)),
        }
        let moved = {
            let mut table = self.table();
            table.listed = None;
            // What comes under this name later is other mail, whatever its UIDVALIDITY.
            table.mailboxes.forget(id)
        };
        self.tell_moved(moved);
        self.subscribe(&name, false).await;
        if let Err(error) = self.relist().await {
            warn!(%error, "after a mailbox was deleted the mailboxes could not be listed");
        }
        Ok(())
    }

    /// The name of a mailbox that can be renamed and deleted.
    fn check_can_go(&self, mailboxes: &Mailboxes, id: MailboxId, root: Option<MailboxId>) -> Result<MailboxName> {
        let name = mailboxes.wire(id).ok_or(Error::Stale)?;
        if name.is_inbox() {
            return Err(Error::Busy("INBOX can neither be renamed nor deleted".into()));
        }
        if root.is_some_and(|root| is_within(mailboxes, root, id)) {
            return Err(Error::Busy("it is what is mounted".into()));
        }
        Ok(name)
    }

    /// The wire name of a new mailbox.
    fn plan_name(&self, mailboxes: &Mailboxes, parent: Option<MailboxId>, level: &str) -> Result<MailboxName> {
        let encoded = MailboxName::encode(level);
        let Some(parent) = parent else {
            let personal = self.client.server().namespaces[0].first();
            if personal.is_some_and(|(prefix, _)| !prefix.is_empty()) {
                return Err(Error::NotPermitted("this server keeps all mailboxes inside INBOX: make it there".into()));
            }
            let delimiter = personal.map_or_else(|| mailboxes.delimiter(), |(_, delimiter)| *delimiter);
            check_level(level, delimiter)?;
            return Ok(encoded);
        };
        let mailbox = mailboxes.get(parent).ok_or(Error::Stale)?;
        let inferiors = !mailbox.attributes.iter().any(|a| a == "\\noinferiors");
        let wire = mailboxes.wire(parent).ok_or(Error::Stale)?;
        let Some(delimiter) = mailboxes.delimiter_of(parent).filter(|_| inferiors) else {
            return Err(Error::NotPermitted("this mailbox can hold no others".into()));
        };
        check_level(level, Some(delimiter))?;
        let parent = wire.as_bytes().strip_suffix(&[delimiter]).unwrap_or(wire.as_bytes());
        Ok(MailboxName::new(&[parent, &[delimiter], encoded.as_bytes()].concat()))
    }

    /// Subscribes a mailbox, or ends that, as it comes or goes. Where that fails the mailbox is there all the same.
    async fn subscribe(&self, name: &MailboxName, subscribed: bool) {
        if let Err(error) = self.change_account(Command::Subscribe(name.clone(), subscribed)).await {
            warn!(mailbox = ?name, subscribed, %error, "the subscription of a mailbox is not what it should be");
        }
    }

    /// Subscribes a mailbox, or ends that.
    pub async fn set_subscribed(self: &Arc<Self>, id: MailboxId, subscribed: bool) -> Result<()> {
        self.check_writable()?;
        let name = self.table().mailboxes.wire(id).ok_or(Error::Stale)?;
        self.change_account(Command::Subscribe(name, subscribed)).await.map_err(refused)?;
        self.table().mailboxes.subscribed(id, subscribed);
        Ok(())
    }

    /// Makes the access control list of a mailbox this one: (identifier, rights). Who is not in it loses all rights.
    ///
    /// # Errors
    /// `Unsupported` where the server has no ACL (RFC 4314); `Denied` without the right to administer it.
    pub async fn set_acl(self: &Arc<Self>, id: MailboxId, acl: Vec<(String, String)>) -> Result<()> {
        self.check_writable()?;
        if !self.offers("ACL") {
            return Err(Error::Unsupported("the server has no access control lists (ACL)".into()));
        }
        let name = self.index(id)?.name.get();
        let command = Command::GetAcl(name.clone());
        let (rows, _) = self.client.run(Target::Account, command, Class::Small, LIST_MAX).await?;
        let now = rows.into_iter().find_map(|row| if let Data::Acl(_, rights) = row { Some(rights) } else { None });
        let now = now.ok_or_else(|| Error::protocol("the answer to GETACL has no list"))?;
        for (who, rights) in plan_acl(&now, &acl) {
            self.change_account(Command::SetAcl(name.clone(), who, rights)).await.map_err(refused)?;
        }
        Ok(())
    }

    /// Sets or removes an annotation of a mailbox, `/private/comment` and so on.
    ///
    /// # Errors
    /// `Unsupported` where the server has no METADATA (RFC 5464); `TooBig` and `Denied` as it refuses it.
    pub async fn set_metadata(self: &Arc<Self>, id: MailboxId, entry: &str, value: Option<Vec<u8>>) -> Result<()> {
        self.check_writable()?;
        if !self.offers("METADATA") {
            return Err(Error::Unsupported("the server keeps no annotations (METADATA)".into()));
        }
        let name = self.index(id)?.name.get();
        self.change_account(Command::SetMetadata(name, entry.to_owned(), value)).await.map(drop).map_err(refused)
    }
}

/// The hierarchy level that a user means by a name.
fn plan_level(component: &str) -> Result<String> {
    if is_reserved(component) || is_litter(component) {
        return Err(Error::NotPermitted(format!("{component:?} never becomes a mailbox").into()));
    }
    match parse_component(component) {
        Some(level) if !level.is_empty() => Ok(level),
        _ => Err(Error::invalid("a mailbox so called would be shown under another name")),
    }
}

fn check_level(level: &str, delimiter: Option<u8>) -> Result<()> {
    match delimiter.map(char::from).filter(|delimiter| level.contains(*delimiter)) {
        Some(delimiter) => {
            Err(Error::invalid(format!("{delimiter:?} parts the levels of names on this server, and cannot be in one")))
        }
        None => Ok(()),
    }
}

/// NO or BAD without a code that says more: the server does not take it.
fn refused(error: Error) -> Error {
    match error {
        Error::Protocol(reason) => Error::NotPermitted(reason),
        other => other,
    }
}

/// Is it the refusal to delete the same name twice in one second?
fn is_delayed(error: &Error) -> bool {
    match error {
        Error::Exists => true,
        Error::Protocol(reason) => reason.to_ascii_lowercase().contains("already exists"),
        _ => false,
    }
}

/// What makes one list of rights the other: new rights first, so that nobody is without in between; no rights at the
/// end. The order of the letters says nothing.
fn plan_acl(now: &[(Vec<u8>, String)], wanted: &[(String, String)]) -> Vec<(Vec<u8>, Option<String>)> {
    let sorted = |rights: &str| {
        let mut letters: Vec<char> = rights.chars().collect();
        letters.sort_unstable();
        letters
    };
    let has = |(who, rights): &&(String, String)| {
        now.iter().any(|(of, held)| of == who.as_bytes() && sorted(held) == sorted(rights))
    };
    let set = wanted.iter().filter(|row| !has(row) && !row.1.is_empty());
    let set = set.map(|(who, rights)| (who.clone().into_bytes(), Some(rights.clone())));
    let is_wanted = |of: &[u8]| wanted.iter().any(|(who, rights)| who.as_bytes() == of && !rights.is_empty());
    let removed = now.iter().filter(|(of, _)| !is_wanted(of)).map(|(of, _)| (of.clone(), None));
    set.chain(removed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_be_shown_as_it_was_asked_for_becomes_a_mailbox() {
        for (name, want) in [("Work", Some("Work")), ("a%2Fb", Some("a/b")), ("Entwürfe", Some("Entwürfe"))] {
            assert_eq!(plan_level(name).ok().as_deref(), want, "{name}");
        }
        for name in [".Trash-1000", ".git", ".eml", ".imapfs", "Thumbs.db"] {
            assert!(matches!(plan_level(name), Err(Error::NotPermitted(_))), "{name}");
        }
        for name in ["%~", "a%41"] {
            assert!(matches!(plan_level(name), Err(Error::Invalid(_))), "{name}");
        }
        assert!(check_level("a/b", Some(b'/')).is_err() && check_level("a/b", Some(b'.')).is_ok());
    }

    #[test]
    fn no_more_rights_are_set_than_differ() {
        let now =
            [(b"bob".to_vec(), "lrs".to_owned()), (b"eve".to_vec(), "lr".to_owned()), (b"x".to_vec(), "l".into())];
        let wanted = |rows: &[(&str, &str)]| rows.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Vec<_>>();
        let want = [(b"ann".to_vec(), Some("l".into())), (b"eve".to_vec(), None), (b"x".to_vec(), None)];
        assert_eq!(plan_acl(&now, &wanted(&[("ann", "l"), ("bob", "srl"), ("x", "")])), want);
        assert_eq!(plan_acl(&now, &wanted(&[("x", "l"), ("eve", "rl"), ("bob", "lrs")])), []);
    }
}
