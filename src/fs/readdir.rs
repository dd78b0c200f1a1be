//! readdir: a directory as it is now.
//!
//! 1. Nothing is opened. The kernel does without OPENDIR (FUSE_NO_OPENDIR_SUPPORT) and keeps listings by itself: one
//!    that never changes costs no request when it is read again.
//! 2. So the beginning of a listing is what opening was: a mailbox is brought up to date with the server, a search is
//!    asked anew. All that follows is from memory.
//! 3. An [`Offset`] names the last entry. A handle has no state, and no listing has to be held for one.

use super::{DirEntry, Entry, Fs};
use crate::error::{Error, Result};
use crate::tree::found::Found;
use crate::tree::node::{AccountView, EntryId, Ino, MailboxId, MailboxView, Node, SearchView};
use crate::tree::offset::Offset;
use crate::tree::views::{MAILBOX_VIEWS, format_eml_name};

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Some entries; none at the end.
    pub entries: Vec<DirEntry>,
    /// The directory lists the same for ever: a message that is as the server told, with nothing of ours in it.
    pub stays: bool,
}

/// What is to be listed, and what is so far.
struct Lister {
    from: Offset,
    max: usize,
    entries: Vec<DirEntry>,
}

impl Lister {
    /// Is the entry of this place to be listed?
    fn wants(&self, at: Offset) -> bool {
        at > self.from && self.room() > 0
    }

    /// How many more may be.
    fn room(&self) -> usize {
        self.max.saturating_sub(self.entries.len())
    }

    fn push(&mut self, at: Offset, name: String, entry: Entry) {
        self.entries.push(DirEntry { name, next: at.pack(), entry });
    }
}

impl Fs {
    /// At most `max` entries behind `offset` (0 is the start); none at the end. `.` and `..` are among them. From the start
    /// on, a mailbox is brought up to date with the server.
    pub async fn readdir(&self, ino: Ino, offset: u64, max: usize) -> Result<Listing> {
        // Behind what is no offset of ours nothing comes.
        let Some(from) = Offset::unpack(offset) else { return Ok(Listing { entries: Vec::new(), stays: false }) };
        let node = self.node(ino)?;
        let listed = self.list(node, Lister { from, max, entries: Vec::new() }).await;
        match (listed, self.moved_to(node, self.node(ino)?)) {
            (Err(Error::Stale | Error::NotFound), now) if now != node => {
                self.list(now, Lister { from, max, entries: Vec::new() }).await
            }
            (outcome, _) => outcome,
        }
    }

    /// Where a directory is that is not where it was: a message that arrived elsewhere, as `now`, while it was looked for; a
    /// mailbox that turned out to be another one. The kernel, which opened it without a word, cannot look again.
    fn moved_to(&self, node: Node, now: Node) -> Node {
        let successor = |id| self.account.successor(id);
        match now {
            Node::Mailbox(id) if now == node => successor(id).map_or(now, Node::Mailbox),
            Node::MailboxView(id, view) if now == node => successor(id).map_or(now, |id| Node::MailboxView(id, view)),
            _ => now,
        }
    }

    async fn list(&self, node: Node, mut list: Lister) -> Result<Listing> {
        let begins = list.from == Offset::Start;
        let mut stays = false;
        let parent = match node {
            Node::Root | Node::Mailbox(_) => {
                if begins {
                    self.bring_up(node).await?;
                }
                match self.mailbox_of(node).flatten() {
                    Some(id) if node != Node::Root => self.mailbox_node(self.account.mailbox(id)?.parent),
                    _ => Node::Root,
                }
            }
            Node::MailboxView(id, MailboxView::Eml) => {
                if begins {
                    self.account.begin_listing(id).await?;
                }
                self.mailbox_node(Some(id))
            }
            Node::Entry(id, uid, entry) => {
                let message = self.account.message(id, uid).await?;
                let info = message.entry(entry)?;
                if !info.content.is_directory() {
                    return Err(Error::NotDirectory);
                }
                if entry == EntryId::DIRECTORY {
                    self.mailbox_node(Some(id))
                } else {
                    Node::Entry(id, uid, info.parent)
                }
            }
            Node::AccountView(AccountView::Control | AccountView::Search) => Node::Root,
            Node::MailboxView(id, MailboxView::Search) => self.mailbox_node(Some(id)),
            Node::Search(number, SearchView::Messages) => self.search_parent(&*self.search(number)?),
            Node::Search(number, SearchView::Eml) => Node::Search(number, SearchView::Messages),
            _ => return Err(Error::NotDirectory),
        };
        for (at, name, node) in [(Offset::Itself, ".", node), (Offset::Parent, "..", parent)] {
            if list.wants(at) {
                let entry = self.current_entry(node).await?;
                list.push(at, name.to_owned(), entry);
            }
        }
        match node {
            Node::Root | Node::Mailbox(_) => self.list_mailbox(node, &mut list).await?,
            Node::MailboxView(id, MailboxView::Eml) => self.list_messages(id, EntryId::RAW, &mut list),
            Node::Entry(..) => stays = self.list_message(node, &mut list).await?,
            Node::AccountView(AccountView::Control) => {
                let views = AccountView::CONTROL.map(|view| (view.name().to_owned(), Node::AccountView(view)));
                self.list_fixed(views, &mut list).await?;
            }
            Node::AccountView(_) => self.list_fixed(self.saved_searches(None), &mut list).await?,
            Node::MailboxView(id, _) => self.list_fixed(self.saved_searches(Some(id)), &mut list).await?,
            Node::Search(number, view) => {
                let found = if begins { self.find(number).await? } else { self.found(number).await? };
                let entry = if view == SearchView::Eml { EntryId::RAW } else { EntryId::DIRECTORY };
                self.list_found(&found, entry, &mut list);
            }
            Node::Local(_) => return Err(Error::NotDirectory),
        }
        let mut locals = self.locals.names_in(node.pack());
        stays &= locals.is_empty();
        locals.sort_by_key(|(_, node)| Offset::local(node.pack()));
        for (name, node) in locals {
            let at = Offset::local(node.pack());
            if list.wants(at) {
                self.push_node(at, name, self.aliases.resolve(node), &mut list).await?;
            }
        }
        Ok(Listing { entries: list.entries, stays })
    }

    /// Asks for the mailboxes and messages of a directory.
    async fn bring_up(&self, node: Node) -> Result<()> {
        let holder = || self.holder(node);
        let early = async {
            match holder() {
                Some(id) => Some(self.account.begin_listing(id).await),
                None => None,
            }
        };
        // Mailboxes and messages are asked for at once: one round trip less. What the list told counts.
        let (listed, early) = tokio::join!(self.account.refresh_mailboxes(), early);
        listed?;
        match (holder(), early) {
            (None, _) | (_, Some(Ok(()))) => Ok(()),
            (Some(id), _) => match self.account.begin_listing(id).await {
                // A mailbox that may be seen but not read is a way to those below it.
                Err(Error::Denied(_)) if !self.account.children(Some(id)).is_empty() => Ok(()),
                outcome => outcome,
            },
        }
    }

    /// The mailbox whose messages a directory shows.
    fn holder(&self, node: Node) -> Option<MailboxId> {
        let mailbox = self.mailbox_of(node).flatten();
        mailbox.filter(|id| self.account.has_messages(*id).unwrap_or(true))
    }

    async fn list_mailbox(&self, node: Node, list: &mut Lister) -> Result<()> {
        let (mailbox, holder) = (self.mailbox_of(node).flatten(), self.holder(node));
        if self.options.show_views {
            let mut views = Vec::new();
            if let Some(id) = holder {
                views.extend(MAILBOX_VIEWS.map(|view| (view.name().to_owned(), Node::MailboxView(id, view))));
            }
            if node == Node::Root {
                // The root of a mount of one mailbox has one `.search`, that of the whole mount.
                views.retain(|(name, _)| name != AccountView::Search.name());
                let of_account = [AccountView::Control, AccountView::Search];
                views.extend(of_account.map(|view| (view.name().to_owned(), Node::AccountView(view))));
            }
            self.list_fixed(views, list).await?;
        }
        let mut children = self.account.children(mailbox);
        children.sort_by_key(|(_, id)| *id);
        for (name, id) in children {
            if list.wants(Offset::Mailbox(id)) {
                self.push_node(Offset::Mailbox(id), name, Node::Mailbox(id), list).await?;
            }
        }
        if let Some(id) = holder {
            self.list_messages(id, EntryId::DIRECTORY, list);
        }
        Ok(())
    }

    /// The messages of a mailbox, as directories or as files.
    fn list_messages(&self, id: MailboxId, entry: EntryId, list: &mut Lister) {
        let after = match list.from {
            Offset::Message(_, uid) => Some(uid),
            from if from > Offset::Mailbox(MailboxId(u16::MAX)) => return,
            _ => None,
        };
        for summary in self.account.messages_after(id, after, list.room()) {
            let name = self.options.names.format(&summary);
            let name = if entry == EntryId::RAW { format_eml_name(&name) } else { name };
            list.push(Offset::Message(id, summary.uid), name, self.message_entry(id, &summary, entry));
        }
    }

    /// What is in a message, or in a message that is attached to it. Does it stay so?
    async fn list_message(&self, node: Node, list: &mut Lister) -> Result<bool> {
        let Node::Entry(id, uid, entry) = node else { return Err(Error::NotDirectory) };
        let message = self.account.message(id, uid).await?;
        let mut stays = message.is_as_told();
        for info in message.entries.children(entry).into_iter().filter(|e| e.listed || self.options.show_views) {
            let is_away = self.locals.parked(node.pack(), &info.name).is_some();
            if is_away || self.is_out_of_sight((id, uid), info.id) {
                stays = false;
            } else if list.wants(Offset::Part(info.id)) {
                list.push(Offset::Part(info.id), info.name.to_string(), self.part_entry(&message, info.id)?);
            }
        }
        Ok(stays)
    }

    fn list_found(&self, found: &Found, entry: EntryId, list: &mut Lister) {
        let after = match list.from {
            Offset::Message(id, uid) => Some((id, uid)),
            from if from > Offset::Mailbox(MailboxId(u16::MAX)) => return,
            _ => None,
        };
        for message in found.after(after).take(list.room()) {
            let name = found.name(self.options.names, message);
            let name = if entry == EntryId::RAW { format_eml_name(&name) } else { name };
            let mut listed = self.message_entry(message.mailbox, message.summary, entry);
            listed.entry_ttl = self.account.poll_interval();
            list.push(Offset::Message(message.mailbox, message.summary.uid), name, listed);
        }
    }

    async fn list_fixed(&self, names: impl IntoIterator<Item = (String, Node)>, list: &mut Lister) -> Result<()> {
        for (number, (name, node)) in (0..).zip(names) {
            if list.wants(Offset::Fixed(number)) {
                self.push_node(Offset::Fixed(number), name, node, list).await?;
            }
        }
        Ok(())
    }

    /// Lists what a node is; nothing when it went away in between.
    async fn push_node(&self, at: Offset, name: String, node: Node, list: &mut Lister) -> Result<()> {
        match self.quick_entry(node).await {
            Ok(entry) => list.push(at, name, entry),
            Err(Error::Stale | Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn current_entry(&self, node: Node) -> Result<Entry> {
        let here = self.aliases.resolve(node);
        match (self.entry(here).await, self.aliases.resolve(node)) {
            (Err(Error::Stale | Error::NotFound), now) if now != here => self.entry(now).await,
            (outcome, _) => outcome,
        }
    }

    /// The entry of a view or mailbox for a listing, which asks the server nothing.
    async fn quick_entry(&self, node: Node) -> Result<Entry> {
        match node {
            Node::MailboxView(id, MailboxView::Table) => {
                let mut entry = self.entry(Node::MailboxView(id, MailboxView::Eml)).await?;
                entry.attr.ino = node.pack();
                entry.attr.kind = super::Kind::File;
                entry.attr.perm = 0o600;
                entry.attr.size = self.table_estimate(id);
                entry.attr_ttl = std::time::Duration::ZERO;
                Ok(entry)
            }
            _ => self.entry(node).await,
        }
    }
}
