//! What outlives the mount, as the account uses it: looked up before the server is asked, kept as it comes.
//!
//! A mailbox that an earlier mount knew is shown at once. The server is asked all the same: who looks first waits for its
//! answer for a moment, and what comes later reaches the kernel as any change does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Account;
use super::content::Content;
use super::index::Index;
use super::message::Message;
use super::object::Object;
use super::recall::kept_sections;
use super::walk::Coming;
use crate::error::{Error, Result};
use crate::mail::envelope::Summary;
use crate::mail::section::Section;
use crate::mail::uid::Uid;
use crate::store::Details;
use crate::tree::node::{EntryId, MailboxId};

/// How long the first look at what an earlier mount knew waits for what is true now: a server that is near has answered by
/// then, and nobody notices.
const PATIENCE: Duration = Duration::from_millis(100);

impl Account {
    /// Takes in the mailboxes that an earlier mount knew.
    pub(super) fn restore_mailboxes(&self) {
        let Ok(store) = &self.options.store else { return };
        let kept = store.mailboxes();
        let mut table = self.table();
        table.kept = kept.clone();
        table.mailboxes.restore(kept, &self.message_changes);
        let knows_any = table.mailboxes.all().next().is_some();
        table.old = knows_any;
    }

    /// What was looked at last is taken in and asked about before anybody looks again, while the list is asked for.
    pub(super) async fn warm_up(self: Arc<Self>) {
        let last = self.options.store.as_ref().ok().and_then(|store| store.last()).map(MailboxId);
        let index = last.and_then(|id| self.index(id).ok());
        let bring_up = async {
            match &index {
                Some(index) => self.bring_up(index).await,
                None => Ok(()),
            }
        };
        if let Some(index) = &index {
            self.watch.begin_with(index.id);
            index.wake().await;
        }
        // Who looks asks again, and is told what hinders it.
        let _ = tokio::join!(bring_up, self.refresh_mailboxes());
    }

    /// Keeps the mailboxes that there are now, if they changed.
    pub(super) fn keep_mailboxes(&self) {
        let Ok(store) = &self.options.store else { return };
        let mut table = self.table();
        let now = table.mailboxes.to_keep();
        if now == table.kept {
            return;
        }
        let living = table.kept.ids.iter().map(|(_, id)| id);
        living.filter(|id| now.spent.binary_search(id).is_ok()).for_each(|id| store.forget(*id));
        store.keep_mailboxes(now.clone());
        table.kept = now;
    }

    /// Asks about what is shown as it was, no longer than `patience`; without a server it is what there is. `None`: it is
    /// not of an earlier mount.
    pub(super) async fn ask_old(
        &self,
        patience: Option<Duration>,
        asked: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let Some(patience) = patience else { return asked.await };
        match timeout(patience, asked).await {
            // The question goes on by itself.
            Err(_) | Ok(Err(Error::Offline(_))) => Ok(()),
            Ok(outcome) => outcome,
        }
    }

    /// Brings a mailbox up to date for who lists it.
    pub(super) async fn freshen(self: &Arc<Self>, index: &Arc<Index>) -> Result<()> {
        index.wake().await;
        // Only who looks first waits.
        let patience = if index.used().is_none() { PATIENCE } else { Duration::ZERO };
        self.ask_old(index.is_old().then_some(patience), self.bring_up(index)).await
    }

    /// How long the list of mailboxes of an earlier mount is worth waiting for, which was asked for when this one began.
    pub(super) fn patience_for_list(&self) -> Option<Duration> {
        let patience = PATIENCE.saturating_sub(self.arrivals.now());
        self.table().old.then_some(patience)
    }

    /// The message as an earlier mount knew it.
    pub(super) async fn recall_message(
        &self,
        id: MailboxId,
        whole: &Arc<Object>,
        summary: &Summary,
    ) -> Option<Arc<Message>> {
        let shelf = whole.locator.shelf.as_ref()?;
        let details = shelf.details(vec![summary.uid]).await.remove(&summary.uid)?;
        self.remember(id, whole, summary, details).await
    }

    async fn remember(
        &self,
        id: MailboxId,
        whole: &Arc<Object>,
        summary: &Summary,
        details: Details,
    ) -> Option<Arc<Message>> {
        let content: &Content = &self.content;
        let message = Message::recall(content, id, Arc::clone(whole), summary.clone(), details).await?;
        self.messages.put((id, summary.uid), Arc::clone(&message));
        Some(message)
    }

    /// The same of many: those that are known are taken out of what is to be asked for.
    pub(super) async fn recall_structures(
        &self,
        index: &Index,
        waiting: &mut HashMap<Uid, (Coming, Summary, Arc<Object>)>,
    ) {
        let shelf = waiting.values().find_map(|(_, _, whole)| whole.locator.shelf.clone());
        let Some(shelf) = shelf else { return };
        for (uid, details) in shelf.details(waiting.keys().copied().collect()).await {
            // One that is to be taken apart here is left to who asks for it.
            let Some((coming, summary, whole)) = waiting.remove(&uid).filter(|_| details.root.is_some()) else {
                continue;
            };
            self.remember(index.id, &whole, &summary, details).await;
            drop(coming);
        }
    }

    /// Takes in those of these texts that are kept; the others.
    pub(super) async fn recall_texts(
        &self,
        message: &Message,
        missing: Vec<(EntryId, Section, Option<u64>)>,
    ) -> Vec<(EntryId, Section, Option<u64>)> {
        let sections: Vec<Section> = missing.iter().map(|(_, section, _)| section.clone()).collect();
        let kept = kept_sections(message.locator(), &sections).await;
        let mut others = Vec::new();
        for (text, octets) in missing.into_iter().zip(kept) {
            match octets {
                Some(octets) => self.reading.put_text(message, text.0, &octets),
                None => others.push(text),
            }
        }
        others
    }
}
