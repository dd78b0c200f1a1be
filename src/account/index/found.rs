//! What a search needs of the messages of a mailbox: the UIDs that the server finds, what is kept of each, and whether
//! an earlier answer still holds.

use super::rows::opened_by_select;
use super::{Index, MESSAGES_MAX, ROW_MAX};
use crate::error::{Error, Result};
use crate::imap::response::Data;
use crate::imap::search::Keys;
use crate::imap::{Class, Client, Command};
use crate::mail::envelope::Summary;
use crate::mail::mailbox::Opened;
use crate::mail::uid::UidSet;

/// Octets of an answer to a search at the most: all UIDs of the largest mailbox, one by one.
const ANSWER_MAX: u64 = MESSAGES_MAX * 11;

impl Index {
    /// Grows with each change that we made or saw: what was found before may not be what would be found now.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// What the mailbox is like now, as SELECT tells. `Stale` when it is not the mailbox it was.
    pub async fn look(&self, client: &Client) -> Result<Opened> {
        let opened = self.open(client).await?;
        self.check(opened)?;
        Ok(opened)
    }

    /// The UIDs that the server finds, and what SELECT told last before.
    pub async fn find_all(&self, client: &Client, keys: Keys) -> Result<(UidSet, Option<Opened>)> {
        let (rows, done) = client.run(self.target(), Command::Query(keys), Class::Small, ANSWER_MAX).await?;
        let opened = done.selected.as_ref().map(opened_by_select);
        if let Some(opened) = opened {
            self.check(opened)?;
        }
        let found = rows.into_iter().find_map(|row| match row {
            Data::Search(result) => Some(result.all),
            _ => None,
        });
        // An answer that did not come is not one that nothing was found.
        let found = match found {
            None if opened.is_none_or(|opened| opened.exists > 0) => {
                return Err(Error::protocol("the answer to SEARCH has no list"));
            }
            found => found.unwrap_or_default(),
        };
        if found.len() > MESSAGES_MAX {
            return Err(Error::protocol("SEARCH tells more messages than there can be"));
        }
        Ok((found, opened))
    }

    /// Is it the mailbox it was? What SELECT told besides is left to [`Index::sync`], which compares it with what it
    /// knows, unless nothing is known yet.
    pub(super) fn check(&self, opened: Opened) -> Result<()> {
        if self.validity() == Some(opened.validity) { Ok(()) } else { self.reopen(opened) }
    }

    /// Asks for what is kept of these messages, as far as it is not known.
    pub async fn learn(&self, client: &Client, uids: &UidSet) -> Result<()> {
        self.wake().await;
        let unknown = self.unknown(uids);
        if unknown.is_empty() {
            return Ok(());
        }
        let count = unknown.len();
        self.fetch_messages(client, unknown, count.saturating_add(ROW_MAX)).await
    }

    /// Those of these messages that are known and shown, ascending by UID.
    pub fn shown(&self, uids: &UidSet) -> Vec<Summary> {
        let known = self.lock();
        let messages = uids.iter().filter_map(|uid| known.mailbox.get(uid));
        messages.filter_map(|message| known.show(message, self.changes.hide_deleted)).collect()
    }
}
