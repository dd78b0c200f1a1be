//! flush, fsync and release: a file that was written becomes mail.
//!
//! 1. It is sent at a close or fsync after it was changed; on the last close at the latest. What it is by then (flags,
//!    date, name) counts. The outcome is that of the close or fsync, and is told again until the file is changed.
//!    The close of a child that only wrote a part of it (`{ cat a; cat b; } > x.eml`) is not that.
//! 2. A change after that makes a new message in the place of the first.
//! 3. Once sending has begun it goes on, whether or not the caller waits for it.
//! 4. What the server did not take stays on disk, and the log tells where.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{debug, warn};

use super::local::{Content, Fate, Local, Place, Plan, plan_commit, plan_retirement};
use super::read::{Closer, OpenFile, OpenLocal};
use super::spool::unnamed;
use super::write::{PIECE, is_message_directory, show};
use super::{Fs, Handle, Invalidation};
use crate::account::prepare_upload;
use crate::error::{Error, Result};
use crate::imap::request::Upload;
use crate::mail::flag::Flags;
use crate::tree::node::{EntryId, MailboxId, MailboxView, Node};
use crate::tree::views::format_eml_name;

impl Fs {
    /// What was written is on the server when this returns.
    ///
    /// # Errors
    /// Why the server did not take it (`Quota`, `TooBig`, `Denied`, …).
    pub async fn fsync(self: &Arc<Self>, handle: Handle) -> Result<()> {
        match &*self.file(handle)? {
            OpenFile::Local(open) => self.commit(&open.local).await,
            OpenFile::Reader { .. } | OpenFile::Copy(_) => Ok(()),
        }
    }

    /// The same, as a descriptor was closed: unless another process is to go on with the file.
    pub async fn flush(self: &Arc<Self>, handle: Handle, by: Closer) -> Result<()> {
        match &*self.file(handle)? {
            OpenFile::Local(open) if is_last_close(open, by) => self.commit(&open.local).await,
            OpenFile::Reader { reader, .. } => {
                reader.close();
                Ok(())
            }
            OpenFile::Local(_) | OpenFile::Copy(_) => Ok(()),
        }
    }

    /// Closes a file.
    pub fn release(self: &Arc<Self>, handle: Handle) {
        let Some(file) = self.files().remove(&handle) else { return };
        let local = match &*file {
            OpenFile::Local(open) => &open.local,
            OpenFile::Reader { reader, .. } => return reader.close(),
            OpenFile::Copy(_) => return,
        };
        if !is_due(local) {
            local.facts().opens -= 1;
            return self.retire(local, false);
        }
        let (fs, local) = (Arc::clone(self), Arc::clone(local));
        tokio::spawn(async move {
            if let Err(error) = fs.commit(&local).await {
                warn!("written after its last close, by a memory mapping maybe: {error}");
            }
            local.facts().opens -= 1;
            fs.retire(&local, false);
        });
    }

    /// Ends all that is being written: what can become mail does, what cannot is kept on disk or was scratch. For the
    /// end of the mount: nobody writes any more.
    pub async fn settle(self: &Arc<Self>) {
        let commit = |local: Arc<Local>| async move {
            if let Err(error) = self.commit(&local).await {
                debug!("at the end of the mount: {error}");
            }
        };
        futures::future::join_all(self.locals.all().into_iter().map(commit)).await;
        self.abandon();
    }

    /// The same, without waiting for the server.
    pub fn abandon(self: &Arc<Self>) {
        self.files().clear();
        for local in self.locals.all() {
            local.facts().opens = 0;
            self.retire(&local, true);
        }
        self.locals.clear();
    }

    /// Brings a file to the server, if that has to be done.
    pub(super) async fn commit(self: &Arc<Self>, local: &Arc<Local>) -> Result<()> {
        if let Some(error) = local.facts().failed.clone() {
            return Err(error);
        }
        if !is_due(local) {
            return Ok(());
        }
        let (fs, local) = (Arc::clone(self), Arc::clone(local));
        let commit = tokio::spawn(async move { fs.commit_in_turn(&local).await });
        commit.await.map_err(|error| Error::Local(error.to_string().into()))?
    }

    async fn commit_in_turn(self: &Arc<Self>, local: &Local) -> Result<()> {
        let _turn = local.turn.lock().await;
        // Another caller may have done it, or failed to.
        if let Some(error) = local.facts().failed.clone() {
            return Err(error);
        }
        let plan = plan_commit(&local.facts());
        let outcome = match plan {
            Plan::Nothing => return Ok(()),
            Plan::Append(to) => self.append(local, to).await,
            Plan::Copy(from, to) => self.copy(local, from, to).await,
            Plan::Replace(at) => self.replace(local, at).await,
        };
        match outcome {
            Ok(place) => {
                local.facts().dirty = false;
                self.became(local, place);
                Ok(())
            }
            Err(error) => {
                local.facts().failed = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn append(self: &Arc<Self>, local: &Local, to: MailboxId) -> Result<Place> {
        let upload = self.upload(local, None).await?;
        Ok((to, self.account.append(to, upload).await?))
    }

    /// The copy has the flags of its original; those that were set on the file count.
    async fn copy(self: &Arc<Self>, local: &Local, from: Place, to: MailboxId) -> Result<Place> {
        // It may have been moved since.
        let from = self.place_now(from);
        let known = self.account.summary(from.0, from.1).await?.flags.clone();
        let uid = self.account.copy_message(from, to).await?;
        let wanted = local.facts().flags.clone();
        if let Some(wanted) = wanted {
            let less = |a: &Flags, b: &Flags| Flags::from_wire(a.iter().filter(|f| !b.contains(f)).map(str::as_bytes));
            let (set, clear) = (less(&wanted, &known), less(&known, &wanted));
            if set.iter().next().is_some() || clear.iter().next().is_some() {
                self.account.change_flags((to, uid), set, clear).await?;
            }
        }
        Ok((to, uid))
    }

    async fn replace(self: &Arc<Self>, local: &Local, at: Place) -> Result<Place> {
        let at = self.place_now(at);
        let old = self.account.summary(at.0, at.1).await?;
        let size = local.facts().size;
        if old.size == size && self.is_same(local, at).await? {
            return Ok(at);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| i64::try_from(now.as_secs()).ok());
        let upload = self.upload(local, now).await?;
        let uid = self.account.replace(at, upload).await?;
        // Names and numbers of the old message mean the new one from here on.
        let new = (at.0, uid);
        if new != at {
            let name = self.options.names.format(&old);
            let (mailbox, eml) = (self.mailbox_node(Some(at.0)), Node::MailboxView(at.0, MailboxView::Eml));
            self.aliases.moved(at, new);
            self.aliases.set_name(mailbox.pack(), &name, Node::message(at.0, uid));
            self.aliases.set_name(eml.pack(), &format_eml_name(&name), Node::Entry(at.0, uid, EntryId::RAW));
            self.locals.moved(Node::message(at.0, at.1).pack(), Node::message(at.0, uid).pack());
        }
        Ok(new)
    }

    fn place_now(&self, (mailbox, uid): Place) -> Place {
        match self.aliases.resolve(Node::message(mailbox, uid)) {
            Node::Entry(mailbox, uid, _) => (mailbox, uid),
            _ => (mailbox, uid),
        }
    }

    /// Does a file of the same size hold what the message holds?
    async fn is_same(&self, local: &Local, at: Place) -> Result<bool> {
        let original = self.original(at).await?;
        let mut offset = 0;
        loop {
            let theirs = self.account.read(&original.reader, offset, PIECE).await?;
            if theirs != self.read_local(local, offset, PIECE).await? {
                return Ok(false);
            }
            if theirs.is_empty() {
                return Ok(true);
            }
            offset += theirs.len() as u64;
        }
    }

    /// The file as it is to be sent: `date` counts where the user set none. Errors: `Invalid` for what is no message.
    async fn upload(self: &Arc<Self>, local: &Local, date: Option<i64>) -> Result<Upload> {
        let spool = self.spool(local).await?;
        let (octets, flags, date) = {
            let facts = local.facts();
            (facts.size, facts.flags.clone().unwrap_or_default(), facts.date.or(date))
        };
        let (file, directory) = (Arc::clone(spool.file()), self.options.spool.clone());
        let prepare = move || prepare_upload(file, octets, flags, date, || unnamed(&directory));
        tokio::task::spawn_blocking(prepare).await.map_err(|error| Error::Local(error.to_string().into()))?
    }

    /// A file is this message now: its name goes on meaning it, and is listed no more.
    fn became(&self, local: &Local, (mailbox, uid): Place) {
        let raw = Node::Entry(mailbox, uid, EntryId::RAW);
        let home = {
            let mut facts = local.facts();
            facts.target = Some((mailbox, uid));
            facts.home.clone()
        };
        if let Node::Local(_) = local.node {
            self.aliases.became(local.node, raw);
        }
        let Some(home) = home else { return };
        if self.locals.named(home.directory, &home.name) == Some(local.node) {
            self.locals.remove_name(home.directory, &home.name);
            self.locals.unpark(home.directory, &home.name);
            let directory = Node::unpack(home.directory);
            if directory.is_some_and(|directory| !is_message_directory(directory)) {
                self.aliases.set_name(home.directory, &home.name, raw);
            }
        }
        self.invalidate(Invalidation::Attr(local.node.pack()));
    }

    /// What nobody has open any more goes, unless it is still to become something.
    pub(super) fn retire(&self, local: &Local, at_end: bool) {
        let (fate, home, content) = {
            let facts = local.facts();
            if facts.opens > 0 {
                return;
            }
            (plan_retirement(&facts, at_end), facts.home.clone(), facts.content.clone())
        };
        // Who opens it just now goes on with it, and its next close is seen to.
        if fate == Fate::Stays || !self.locals.remove(local) {
            return;
        }
        if let (Fate::IsKept, Some(home), Content::Spool(spool)) = (fate, &home, content)
            && let Some(path) = spool.keep()
        {
            let mailbox = show(home.mailbox, self);
            warn!("{} is not in {mailbox}: what was written is kept in {}", home.name, path.display());
        }
        if let Some(home) = home.filter(|home| self.locals.named(home.directory, &home.name) == Some(local.node)) {
            self.locals.remove_name(home.directory, &home.name);
        }
        if let Node::Entry(..) = local.node {
            // What the kernel holds of the file is what was written, not what the message is.
            self.invalidate(Invalidation::Data(local.node.pack()));
        }
    }
}

/// Is this the close of who writes the file? Shells close the descriptor that they opened before anything is written,
/// having made another of it; when such a one was seen, a process that neither did so nor opened the file is a child,
/// and who opened it is still to close it. Everybody else is believed: threads close for each other.
fn is_last_close(open: &OpenLocal, by: Closer) -> bool {
    let mut early = open.early.lock().unwrap_or_else(PoisonError::into_inner);
    if open.local.facts().size == 0 {
        early.insert(by.owner);
    }
    plan_close(open.opener, &early, by)
}

fn plan_close(opener: u32, early: &HashSet<u64>, by: Closer) -> bool {
    early.is_empty() || by.pid == opener || early.contains(&by.owner)
}

fn is_due(local: &Local) -> bool {
    let facts = local.facts();
    facts.failed.is_none() && plan_commit(&facts) != Plan::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_wrote_a_part_of_a_file_does_not_end_it() {
        let (shell, child) = (Closer { pid: 10, owner: 1 }, Closer { pid: 11, owner: 2 });
        let early = HashSet::from([shell.owner]);
        let cases = [
            // The shell opened the file, or the child did before it became another program.
            (10, &early, child, false),
            (10, &early, shell, true),
            (9, &early, shell, true),
            // A thread opened the file, and another closes it.
            (10, &HashSet::new(), child, true),
            (11, &early, child, true),
        ];
        for (opener, early, by, expected) in cases {
            assert_eq!(plan_close(opener, early, by), expected, "{opener} {early:?} {by:?}");
        }
    }
}
