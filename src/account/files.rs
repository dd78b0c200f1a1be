//! Messages and the files in them: how a message is built, how large a file is, what a reader gets.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::message::Message;
use super::object::{Length, Object};
use super::reader::Reader;
use super::recall::recall;
use super::{Account, Changed};
use crate::error::{Error, Result};
use crate::mail::envelope::Summary;
use crate::mail::section::Section;
use crate::mail::uid::Uid;
use crate::mail::wants::Wants;
use crate::tree::node::{EntryId, MailboxId};

/// Octets of a message that comes whole for who wants a text of it: more than was wanted, to save a round trip.
const SMALL: u64 = 16 * 1024;

impl Account {
    /// The octets of a message, `BODY[]`.
    pub(super) fn whole(&self, id: MailboxId, summary: &Summary) -> Result<Arc<Object>> {
        let locator = self.index(id)?.locate(summary).ok_or(Error::Stale)?;
        let mut wholes = self.wholes.lock().unwrap_or_else(PoisonError::into_inner);
        // A message of no octets is looked at before it is believed.
        let length = if summary.size == 0 { Length::Hint(0) } else { Length::Exact(summary.size) };
        let new = || self.content.object(locator, Section::message(), length);
        Ok(Arc::clone(wholes.get_or_insert((id, summary.uid), new)))
    }

    /// A message and what is in it.
    pub async fn message(self: &Arc<Self>, id: MailboxId, uid: Uid) -> Result<Arc<Message>> {
        self.message_for(id, uid, false).await
    }

    /// The same for who wants a text of it: a small message comes whole, beside its structure.
    pub async fn message_and_text(self: &Arc<Self>, id: MailboxId, uid: Uid) -> Result<Arc<Message>> {
        self.message_for(id, uid, true).await
    }

    async fn message_for(self: &Arc<Self>, id: MailboxId, uid: Uid, text: bool) -> Result<Arc<Message>> {
        let summary = self.summary(id, uid).await?;
        // Who begins a walk mostly reads on, and what he reads tells what he will want of all.
        let text = self.look_ahead((id, uid), Wants::STRUCTURE) || text;
        if !self.messages.contains(&(id, uid)) {
            self.arrivals.wait((id, uid), Wants::STRUCTURE).await;
        }
        if let Some(message) = self.messages.get(&(id, uid)) {
            return Ok(message);
        }
        let index = self.index(id)?;
        let account = Arc::clone(self);
        let fetch = || async move {
            let whole = account.whole(id, &summary)?;
            if let Some(message) = account.recall_message(id, &whole, &summary).await {
                return Ok(message);
            }
            let object = Some(Arc::clone(&whole)).filter(|_| text && (1..=SMALL).contains(&summary.size));
            let all = async { account.content.read_all(&object?).await.ok() };
            // Both are on their way at once.
            let fetch = Message::fetch(&account.client, &account.content, id, whole, summary);
            let (fetched, all) = tokio::join!(fetch, all);
            let message = account.settle(&index, fetched)?;
            message.keep();
            // What did not come is asked for by who wants it.
            if let Some(octets) = all {
                account.reading.put_texts_of(&message, &octets);
            }
            account.messages.put((id, uid), Arc::clone(&message));
            Ok(message)
        };
        self.message_flights.join((id, uid), fetch).await
    }

    /// The exact size of a file of a message, in octets as they are read.
    pub async fn size(self: &Arc<Self>, message: &Arc<Message>, entry: EntryId) -> Result<u64> {
        self.expect_size(message, entry).await;
        match self.reading.size(&self.content, message, entry).await {
            Err(Error::Protocol(_)) if message.can_be_taken_apart() => {
                let new = self.distrust(message, entry).await?;
                let size = self.reading.size(&self.content, &new, entry).await?;
                // Who asked holds the old one, and is to show the size that a reader gets.
                message.learn_size(entry, size);
                Ok(size)
            }
            outcome => self.settled(message, outcome),
        }
    }

    /// Opens a file of a message.
    pub async fn open_entry(self: &Arc<Self>, id: MailboxId, uid: Uid, entry: EntryId) -> Result<Reader> {
        if entry == EntryId::RAW {
            // The message as it is needs no structure.
            let summary = self.summary(id, uid).await?;
            let whole = self.whole(id, &summary)?;
            self.arrivals.wait((id, uid), Wants::WHOLE).await;
            recall(&whole).await;
            if summary.size == 0 && self.content.exact_length(&whole).await? > 0 {
                return Err(Error::protocol("the message was said to be empty, and is not"));
            }
            return Ok(Reader::whole(id, whole, summary.size));
        }
        let message = self.message(id, uid).await?;
        self.expect_entry(&message, entry).await;
        match self.reading.open(&self.content, &message, entry).await {
            Err(Error::Protocol(_)) if message.can_be_taken_apart() => {
                let message = self.distrust(&message, entry).await?;
                self.reading.open(&self.content, &message, entry).await
            }
            outcome => self.settled(&message, outcome),
        }
    }

    /// `size` octets of an open file from `offset` on, fewer only at its end. `Interrupted` when it was closed first.
    pub async fn read(self: &Arc<Self>, reader: &Reader, offset: u64, size: u32) -> Result<Bytes> {
        self.look_ahead_of_read(reader, offset, size);
        let before = reader.known_size();
        let outcome = self.reading.read(&self.content, reader, offset, size).await;
        if let Some((message, entry, size)) = reader.known_size()
            && before.is_some_and(|before| before.2 != size)
        {
            self.tell_size(message, entry);
        }
        match before {
            Some((message, ..)) => self.settled(message, outcome),
            None => outcome,
        }
    }

    /// The size of an entry is not what it was told to be.
    fn tell_size(&self, message: &Message, entry: EntryId) {
        // A closed channel: nobody is mounted.
        let _ = self.changed.send(Changed::Size(message.mailbox, message.summary.uid, entry));
    }

    /// The message taken apart here, in the place of what the server said of it. An error when the file would be
    /// another one then.
    async fn distrust(&self, message: &Arc<Message>, entry: EntryId) -> Result<Arc<Message>> {
        let new = message.distrust(&self.content).await?;
        new.keep();
        let name = |message: &Message| message.entry(entry).map(|e| (e.parent, e.name.clone()));
        if name(&new)? != name(message)? {
            return Err(Error::protocol("what the server says of the parts and what it gives do not agree"));
        }
        self.messages.put((message.mailbox, message.summary.uid), Arc::clone(&new));
        // The sizes that were told already came from the same server.
        for entry in message.entries.iter().filter(|entry| message.known_size(entry.id).is_some()) {
            self.tell_size(message, entry.id);
        }
        Ok(new)
    }

    /// After a question about a message that was known: when it is gone, the next look at its mailbox asks.
    fn settled<T>(&self, message: &Message, outcome: Result<T>) -> Result<T> {
        match self.index(message.mailbox) {
            Ok(index) => self.settle(&index, outcome),
            Err(_) => outcome,
        }
    }
}
