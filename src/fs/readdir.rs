//! opendir and readdir: a handle holds the directory as it was when it was opened; entries cost no exchange.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{DirEntry, Entry, Fs, Handle};
use crate::account::Message;
use crate::error::{Error, Result};
use crate::mail::envelope::Summary;
use crate::tree::found::Found;
use crate::tree::node::{AccountView, EntryId, Ino, MailboxId, MailboxView, Node, SearchView};
use crate::tree::views::{MAILBOX_VIEWS, format_eml_name};

/// A directory as it was when it was opened.
#[derive(Debug)]
pub struct OpenDirectory {
    node: Node,
    parent: Node,
    content: Content,
    /// What has a name in this mount only.
    locals: Vec<(String, Node)>,
    /// See [`Fs::stays`].
    stays: bool,
}

#[derive(Debug)]
enum Content {
    /// Views and mailboxes, then messages, in the order of their UIDs.
    Mailbox { names: Vec<(String, Node)>, mailbox: Option<MailboxId>, messages: Vec<Summary> },
    /// The messages as files.
    Eml { mailbox: MailboxId, messages: Vec<Summary> },
    /// What is in a message, or in a message that is attached to it.
    Message { message: Arc<Message>, entries: Vec<EntryId> },
    /// `.imapfs/`
    Control,
    /// What a search found: message directories, or files.
    Found { found: Arc<Found>, entry: EntryId },
    /// `.search/`: saved searches.
    Searches(Vec<(String, Node)>),
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Content::Mailbox { names, messages, .. } => names.len() + messages.len(),
            Content::Eml { messages, .. } => messages.len(),
            Content::Message { entries, .. } => entries.len(),
            Content::Control => AccountView::CONTROL.len(),
            Content::Found { found, .. } => found.len(),
            Content::Searches(names) => names.len(),
        }
    }
}

impl Fs {
    /// Opens a directory: a mailbox is brought up to date with the server.
    pub async fn opendir(&self, ino: Ino) -> Result<Handle> {
        let node = self.node(ino)?;
        let opened = self.open_directory(node).await;
        match (opened, self.node(ino)?) {
            // It arrived elsewhere while it was looked for.
            (Err(Error::Stale | Error::NotFound), now) if now != node => self.open_directory(now).await,
            (outcome, _) => outcome,
        }
    }

    async fn open_directory(&self, node: Node) -> Result<Handle> {
        let mut stays = false;
        let (parent, content) = match node {
            Node::Root | Node::Mailbox(_) => self.open_mailbox(node).await?,
            Node::MailboxView(id, MailboxView::Eml) => {
                let messages = self.account.messages(id).await?;
                (self.mailbox_node(Some(id)), Content::Eml { mailbox: id, messages })
            }
            Node::Entry(id, uid, entry) => {
                let message = self.account.message(id, uid).await?;
                let info = message.entry(entry)?;
                if !info.content.is_directory() {
                    return Err(Error::NotDirectory);
                }
                let parent = match entry {
                    EntryId::DIRECTORY => self.mailbox_node(Some(id)),
                    _ => Node::Entry(id, uid, info.parent),
                };
                let mut listed = message.entries.children(entry);
                listed.retain(|e| e.listed || self.options.show_views);
                let here = listed.iter().filter(|e| {
                    self.locals.parked(node.pack(), &e.name).is_none() && !self.is_out_of_sight((id, uid), e.id)
                });
                let entries: Vec<_> = here.map(|e| e.id).collect();
                stays = message.is_as_told() && entries.len() == listed.len();
                (parent, Content::Message { message, entries })
            }
            Node::AccountView(AccountView::Control) => (Node::Root, Content::Control),
            Node::AccountView(AccountView::Search) => (Node::Root, Content::Searches(self.saved_searches(None))),
            Node::MailboxView(id, MailboxView::Search) => {
                (self.mailbox_node(Some(id)), Content::Searches(self.saved_searches(Some(id))))
            }
            Node::Search(number, SearchView::Messages) => {
                let parent = self.search_parent(&*self.search(number)?);
                (parent, Content::Found { found: self.find(number).await?, entry: EntryId::DIRECTORY })
            }
            Node::Search(number, SearchView::Eml) => {
                let parent = Node::Search(number, SearchView::Messages);
                (parent, Content::Found { found: self.find(number).await?, entry: EntryId::RAW })
            }
            _ => return Err(Error::NotDirectory),
        };
        let handle = self.new_handle();
        let locals = self.locals.names_in(node.pack());
        let stays = stays && locals.is_empty();
        let directory = Arc::new(OpenDirectory { node, parent, content, locals, stays });
        self.directories.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, directory);
        Ok(handle)
    }

    /// Is this listing the same as in each other handle of this directory that says so? Of a message that is as the server
    /// told, with nothing of ours in it: that never changes.
    pub fn stays(&self, handle: Handle) -> bool {
        let directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        directories.get(&handle).is_some_and(|directory| directory.stays)
    }

    async fn open_mailbox(&self, node: Node) -> Result<(Node, Content)> {
        let mailbox = self.mailbox_of(node).flatten();
        let holder = || mailbox.filter(|id| self.account.has_messages(*id).unwrap_or(true));
        let early = async {
            match holder() {
                Some(id) => self.account.messages(id).await.ok(),
                None => None,
            }
        };
        // Mailboxes and messages are asked for at once: one round trip less. What the list told counts.
        let (listed, early) = tokio::join!(self.account.refresh_mailboxes(), early);
        listed?;
        let messages = match (holder(), early) {
            (None, _) => Vec::new(),
            (Some(_), Some(messages)) => messages,
            (Some(id), None) => match self.account.messages(id).await {
                // A mailbox that may be seen but not read is a way to those below it.
                Err(Error::Denied(_)) if !self.account.children(mailbox).is_empty() => Vec::new(),
                messages => messages?,
            },
        };
        let parent = match mailbox {
            Some(id) if node != Node::Root => self.mailbox_node(self.account.mailbox(id)?.parent),
            _ => Node::Root,
        };
        let mut names = Vec::new();
        if let Some(id) = holder().filter(|_| self.options.show_views) {
            names.extend(MAILBOX_VIEWS.map(|view| (view.name().to_owned(), Node::MailboxView(id, view))));
        }
        if node == Node::Root && self.options.show_views {
            // The root of a mount of one mailbox has one `.search`, that of the whole mount.
            names.retain(|(name, _)| name != AccountView::Search.name());
            let views = [AccountView::Control, AccountView::Search];
            names.extend(views.map(|view| (view.name().to_owned(), Node::AccountView(view))));
        }
        names.extend(self.account.children(mailbox).into_iter().map(|(name, id)| (name, Node::Mailbox(id))));
        Ok((parent, Content::Mailbox { names, mailbox, messages }))
    }

    /// At most `max` entries from `offset` on (0 is the start); empty at the end. `.` and `..` are among them. An entry
    /// that was expunged since stays in the listing of this handle, and says so when it is looked at.
    pub async fn readdir(&self, handle: Handle, offset: u64, max: usize) -> Result<Vec<DirEntry>> {
        let directory = self.directories.lock().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned();
        let directory = directory.ok_or(Error::Stale)?;
        let mut found = Vec::new();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let len = directory.content.len() + directory.locals.len();
        for at in start..len.saturating_add(2).min(start.saturating_add(max)) {
            let (name, entry) = match at {
                0 => (".".to_owned(), self.own_entry(directory.node).await?),
                1 => ("..".to_owned(), self.entry(directory.parent).await?),
                _ => match self.entry_at(&directory, at - 2).await {
                    Ok(found) => found,
                    // A mailbox that went away in between.
                    Err(Error::Stale | Error::NotFound) => continue,
                    Err(error) => return Err(error),
                },
            };
            found.push(DirEntry { name, next: at as u64 + 1, entry });
        }
        Ok(found)
    }

    async fn own_entry(&self, node: Node) -> Result<Entry> {
        let here = self.aliases.resolve(node);
        match (self.entry(here).await, self.aliases.resolve(node)) {
            (Err(Error::Stale | Error::NotFound), now) if now != here => self.entry(now).await,
            (outcome, _) => outcome,
        }
    }

    async fn entry_at(&self, directory: &OpenDirectory, at: usize) -> Result<(String, Entry)> {
        if let Some((name, node)) = at.checked_sub(directory.content.len()).and_then(|at| directory.locals.get(at)) {
            return Ok((name.clone(), self.entry(self.aliases.resolve(*node)).await?));
        }
        Ok(match &directory.content {
            Content::Mailbox { names, mailbox, messages } => match (names.get(at), mailbox) {
                (Some((name, node)), _) => (name.clone(), self.quick_entry(*node).await?),
                (None, Some(id)) => {
                    let summary = messages.get(at - names.len()).ok_or(Error::NotFound)?;
                    (self.options.names.format(summary), self.listed_message(*id, summary, EntryId::DIRECTORY))
                }
                (None, None) => return Err(Error::NotFound),
            },
            Content::Eml { mailbox, messages } => {
                let summary = messages.get(at).ok_or(Error::NotFound)?;
                let name = format_eml_name(&self.options.names.format(summary));
                (name, self.listed_message(*mailbox, summary, EntryId::RAW))
            }
            Content::Message { message, entries } => {
                let info = entries.get(at).and_then(|id| message.entries.get(*id)).ok_or(Error::NotFound)?;
                (info.name.to_string(), self.part_entry(message, info.id)?)
            }
            Content::Searches(names) => {
                let (name, node) = names.get(at).ok_or(Error::NotFound)?;
                (name.clone(), self.entry(*node).await?)
            }
            Content::Found { found, entry } => {
                let message = found.get(at).ok_or(Error::NotFound)?;
                let name = found.name(self.options.names, message);
                let name = if *entry == EntryId::RAW { format_eml_name(&name) } else { name };
                let mut found = self.message_entry(message.mailbox, message.summary, *entry);
                found.entry_ttl = self.account.poll_interval();
                (name, found)
            }
            Content::Control => {
                let view = *AccountView::CONTROL.get(at).ok_or(Error::NotFound)?;
                (view.name().to_owned(), self.entry(Node::AccountView(view)).await?)
            }
        })
    }

    /// A message of a listing. One that went since it was opened is asked for again by whoever looks at it: the kernel,
    /// which has been told that it went, would believe the listing for long.
    fn listed_message(&self, mailbox: MailboxId, summary: &Summary, entry: EntryId) -> Entry {
        let found = self.message_entry(mailbox, summary, entry);
        match self.account.is_here(mailbox, summary.uid) {
            true => found,
            false => Entry { entry_ttl: Duration::ZERO, attr_ttl: Duration::ZERO, ..found },
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
                entry.attr_ttl = Duration::ZERO;
                Ok(entry)
            }
            _ => self.entry(node).await,
        }
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: Handle) {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle);
    }
}
