//! opendir and readdir: a directory as it is now.
//!
//! 1. Opening is what asks the server: a mailbox is brought up to date, a search is asked anew. What is wrong is told
//!    then: programs take it for an empty directory, or ask for ever, when they are told by readdir.
//! 2. All that follows is from memory.
//! 3. An [`Offset`] names the last entry. So no listing has to be held for who reads one.
//! 4. What is in a message stays: the kernel keeps its listing, unless something in it is away or ours for now.

use super::{DirEntry, Entry, Fs};
use crate::error::{Error, Result};
use crate::tree::found::Found;
use crate::tree::node::{AccountView, EntryId, Ino, MailboxId, MailboxView, Node, SearchView};
use crate::tree::offset::Offset;
use crate::tree::views::{MAILBOX_VIEWS, format_eml_name};

/// What is to be listed, and what is so far.
struct Lister {
    from: Offset,
    /// Does the kernel keep it?
    kept: bool,
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
    /// Opens a directory: a mailbox is brought up to date with the server, a search is asked anew. Is its listing to be kept:
    /// that of a message that is as the server told, with nothing away and nothing of ours in it?
    pub async fn opendir(&self, ino: Ino) -> Result<bool> {
        let node = self.node(ino)?;
        match (self.open_directory(node).await, self.node(ino)?) {
            // It arrived elsewhere while it was looked for.
            (Err(Error::Stale | Error::NotFound), now) if now != node => self.open_directory(now).await,
            (outcome, _) => outcome,
        }
    }

    async fn open_directory(&self, node: Node) -> Result<bool> {
        match node {
            Node::Root | Node::Mailbox(_) => self.bring_up(node).await?,
            Node::MailboxView(id, MailboxView::Eml) => self.account.begin_listing(id).await?,
            Node::Entry(id, uid, entry) => {
                let message = self.account.message(id, uid).await?;
                if !message.entry(entry)?.content.is_directory() {
                    return Err(Error::NotDirectory);
                }
                let is_kept = message.is_as_told()
                    && self.locals.names_in(node.pack()).is_empty()
                    && !message.entries.children(entry).into_iter().any(|info| self.is_away(node, &info.name, info.id));
                return Ok(is_kept);
            }
            Node::Search(number, _) => drop(self.find(number).await?),
            Node::MailboxView(_, MailboxView::Search)
            | Node::AccountView(AccountView::Control | AccountView::Search) => {}
            _ => return Err(Error::NotDirectory),
        }
        Ok(false)
    }

    /// At most `max` entries behind `offset` (0 is the start); none at the end. `.` and `..` are among them. Of a listing that
    /// is to be kept, as [`Fs::opendir`] told: as the server told it, whatever became of that since.
    pub async fn readdir(&self, ino: Ino, kept: bool, offset: u64, max: usize) -> Result<Vec<DirEntry>> {
        // Behind what is no offset of ours nothing comes.
        let Some(from) = Offset::unpack(offset) else { return Ok(Vec::new()) };
        let node = self.node(ino)?;
        let list = || Lister { from, kept, max, entries: Vec::new() };
        match (self.list(node, list()).await, self.node(ino)?) {
            (Err(Error::Stale | Error::NotFound), now) if now != node => self.list(now, list()).await,
            (outcome, _) => outcome,
        }
    }

    async fn list(&self, node: Node, mut list: Lister) -> Result<Vec<DirEntry>> {
        let parent = match node {
            Node::Root | Node::Mailbox(_) => match self.mailbox_of(node).flatten() {
                Some(id) if node != Node::Root => self.mailbox_node(self.account.mailbox(id)?.parent),
                _ => Node::Root,
            },
            Node::MailboxView(id, MailboxView::Eml | MailboxView::Search) => self.mailbox_node(Some(id)),
            Node::Entry(id, _, EntryId::DIRECTORY) => self.mailbox_node(Some(id)),
            Node::Entry(id, uid, entry) => {
                let message = self.account.message(id, uid).await?;
                Node::Entry(id, uid, message.entry(entry)?.parent)
            }
            Node::AccountView(AccountView::Control | AccountView::Search) => Node::Root,
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
            Node::Entry(..) => self.list_message(node, &mut list).await?,
            Node::AccountView(AccountView::Control) => {
                let views = AccountView::CONTROL.map(|view| (view.name().to_owned(), Node::AccountView(view)));
                self.list_fixed(views, &mut list).await?;
            }
            Node::AccountView(_) => self.list_fixed(self.saved_searches(None), &mut list).await?,
            Node::MailboxView(id, _) => self.list_fixed(self.saved_searches(Some(id)), &mut list).await?,
            Node::Search(number, view) => {
                let found = self.found(number).await?;
                let entry = if view == SearchView::Eml { EntryId::RAW } else { EntryId::DIRECTORY };
                self.list_found(&found, entry, &mut list);
            }
            Node::Local(_) => return Err(Error::NotDirectory),
        }
        let mut locals = if list.kept { Vec::new() } else { self.locals.names_in(node.pack()) };
        locals.sort_by_key(|(_, node)| Offset::local(node.pack()));
        for (name, node) in locals {
            let at = Offset::local(node.pack());
            if list.wants(at) {
                self.push_node(at, name, self.aliases.resolve(node), &mut list).await?;
            }
        }
        Ok(list.entries)
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

    /// What is in a message, or in a message that is attached to it.
    async fn list_message(&self, node: Node, list: &mut Lister) -> Result<()> {
        let Node::Entry(id, uid, entry) = node else { return Err(Error::NotDirectory) };
        let message = self.account.message(id, uid).await?;
        if !message.entry(entry)?.content.is_directory() {
            return Err(Error::NotDirectory);
        }
        for info in message.entries.children(entry).into_iter().filter(|e| e.listed || self.options.show_views) {
            if list.wants(Offset::Part(info.id)) && (list.kept || !self.is_away(node, &info.name, info.id)) {
                list.push(Offset::Part(info.id), info.name.to_string(), self.part_entry(&message, info.id)?);
            }
        }
        Ok(())
    }

    /// Is a part of a message not to be seen now, or under another name?
    fn is_away(&self, directory: Node, name: &str, entry: EntryId) -> bool {
        let Node::Entry(id, uid, _) = directory else { return false };
        self.locals.parked(directory.pack(), name).is_some() || self.is_out_of_sight((id, uid), entry)
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
