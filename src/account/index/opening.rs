//! How a mailbox is asked whether it changed: STATUS, SELECT, and SELECT with the MODSEQ that is known.

use super::rows::{opened_by_select, opened_by_status, without_gone};
use super::{Index, MESSAGES_MAX, ROW_MAX};
use crate::error::{Error, Result};
use crate::imap::response::{Data, Selected};
use crate::imap::{Answers, Class, Client, Command, Target};
use crate::mail::mailbox::{Event, Opened};
use crate::mail::uid::{UidSet, UidValidity};

/// Ranges of UIDs that are named with SELECT, and octets that are taken for each message that changed.
const RANGES_MAX: usize = 20;
const RESYNC_ROW: u64 = 512;

impl Index {
    /// Asks STATUS whether anything changed; that may not tell, then SELECT must.
    pub(super) async fn is_current(&self, client: &Client) -> Result<bool> {
        let (rows, _) = client.run(Target::Account, Command::Status(self.name.get()), Class::Small, ROW_MAX).await?;
        let status = rows.into_iter().find_map(|row| match row {
            Data::MailboxStatus(name, items) if name == self.name.get() => Some(items),
            _ => None,
        });
        Ok(status.and_then(opened_by_status).is_some_and(|now| self.is_as_told(&now)))
    }

    /// Is what the server just told what is known already?
    pub fn is_as_told(&self, now: &Opened) -> bool {
        let known = self.lock();
        known.mailbox.is_current(now) && (now.highest_modseq.is_some() || !known.are_flags_due())
    }

    /// SELECTs it, for what is true now.
    pub(super) fn send_select(&self, client: &Client) -> Answers {
        let target = Target::Mailbox { name: self.name.get(), validity: None };
        client.send(target, Command::Select, Class::Small, ROW_MAX)
    }

    /// The same, and waits for it.
    pub(super) async fn open(&self, client: &Client) -> Result<Opened> {
        self.opened(self.send_select(client)).await
    }

    /// What is true now, and the answer to the question that makes worth asking; on one connection, as another may not
    /// have heard of it. When that is lost in between, both are asked once more.
    pub(super) async fn open_and_ask(
        &self,
        client: &Client,
        plan: impl Fn(&Opened) -> Result<Option<(Command, u64)>> + Send,
    ) -> Result<(Opened, Vec<Data>)> {
        let mut again = true;
        loop {
            let (_, opened, selected) = self.opened_with(self.send_select(client)).await?;
            let Some((command, limit)) = plan(&opened)? else { return Ok((opened, Vec::new())) };
            let target = Target::Mailbox { name: self.name.get(), validity: None };
            match client.on(&selected).run(target, command, Class::Small, limit).await {
                Ok((rows, done)) => return Ok((opened, without_gone(rows, done.code.as_ref()))),
                Err(Error::Offline(_)) if again => again = false,
                Err(error) => return Err(error),
            }
        }
    }

    /// SELECT with the question what changed since it was last up to date (QRESYNC, RFC 7162), where that can be asked.
    pub(super) fn plan_resync(&self, client: &Client) -> Option<Command> {
        let known = self.lock();
        let (validity, modseq) = known.mailbox.synced().filter(|_| client.server().qresync)?;
        let uids: UidSet = known.mailbox.messages().map(|message| message.uid).collect();
        // A set with many holes costs more than to be told of messages that were never known.
        let known = Some(uids).filter(|uids| !uids.is_empty() && uids.ranges().len() <= RANGES_MAX);
        Some(Command::Resync { validity, modseq, known })
    }

    pub(super) fn send_resync(&self, client: &Client, command: Command) -> Answers {
        let target = Target::Mailbox { name: self.name.get(), validity: None };
        // More is asked for in another way.
        let limit = (self.len() as u64).saturating_mul(RESYNC_ROW).saturating_add(ROW_MAX);
        client.send(target, command, Class::Small, limit)
    }

    /// What SELECT told.
    pub(super) async fn opened(&self, answers: Answers) -> Result<Opened> {
        self.opened_with(answers).await.map(|(_, opened, _)| opened)
    }

    /// The same, with what changed, and all that SELECT told.
    pub(super) async fn opened_with(&self, answers: Answers) -> Result<(Vec<Data>, Opened, Selected)> {
        let (rows, done) = Client::collect(answers).await?;
        let selected = done.selected.ok_or_else(|| Error::protocol("SELECT told nothing"))?;
        let opened = opened_by_select(&selected);
        self.lock().selected(&selected);
        if opened.exists > MESSAGES_MAX {
            return Err(Error::TooBig(format!("{} messages in one mailbox", opened.exists).into()));
        }
        Ok((rows, opened, selected))
    }

    /// May a question be sent right behind the first SELECT, before its answer? That saves a round trip.
    pub(super) fn may_ask_early(&self, client: &Client) -> bool {
        client.server().is_ordered() && self.validity().is_none()
    }

    /// Takes in what SELECT told. `Stale` when it is not the mailbox it was.
    pub(super) fn reopen(&self, opened: Opened) -> Result<()> {
        self.apply([Event::Opened(opened)]);
        self.check_void()
    }

    /// `Stale` when it turned out to be another mailbox than it was.
    pub(super) fn check_void(&self) -> Result<()> {
        if self.lock().void { Err(Error::Stale) } else { Ok(()) }
    }

    /// The UIDVALIDITY of what took the place of the mailbox that this index is about.
    pub fn successor(&self) -> Option<UidValidity> {
        let known = self.lock();
        known.mailbox.validity().filter(|_| known.void)
    }
}
