//! How a mailbox is brought up to date: what SELECT tells, and what that makes worth asking.
//!
//! Invariant: what SELECT made worth asking is asked on the connection that told it. Dovecot's others may not have heard
//! of the same changes yet, answer as if there were none, and all would seem to be known up to a MODSEQ that it is not.

use std::time::Instant;

use tracing::{debug, info};

use super::rows::{is_unfinished, message_event, resync_events, summary_items, without_gone};
use super::{EARLY_MAX, Index, MESSAGES_MAX, ROW_MAX, flags_event};
use crate::error::{Error, Result};
use crate::imap::response::{Data, Selected};
use crate::imap::{Answer, Answers, Class, Client, Command, FetchItem};
use crate::mail::mailbox::{Event, Opened, Step};
use crate::mail::uid::UidSet;

impl Index {
    /// Brings the index up to date: STATUS when that may do, else SELECT and what its answer makes worth asking.
    pub async fn sync(&self, client: &Client) -> Result<()> {
        self.wake().await;
        match self.sync_once(client).await {
            // With the connection went what it had told: another one is asked from the beginning.
            Err(Error::Offline(_)) => self.sync_once(client).await,
            outcome => outcome,
        }
    }

    async fn sync_once(&self, client: &Client) -> Result<()> {
        let (then, expired, news) = {
            let mut known = self.lock();
            known.brought = UidSet::new();
            (known.mailbox.listed(), known.checked.is_none(), known.news)
        };
        let started = Instant::now();
        if then.is_some() && !expired && self.is_current(client).await? {
            self.lock().checked_at(started, news);
            return Ok(());
        }
        let opening = match self.plan_resync(client) {
            Some(command) => self.send_resync(client, command),
            None => self.send_select(client),
        };
        // Of a mailbox that is not known all is wanted, whatever SELECT says.
        let mut early = self.may_ask_early(client).then(|| {
            let uids = UidSet::range(1, u32::MAX);
            let command = Command::Fetch { uids, items: summary_items(client), changed_since: None };
            client.send(self.target(), command, Class::Small, EARLY_MAX)
        });
        let (rows, mut opened, selected) = self.opened_with(opening).await?;
        let client = &client.on(&selected);
        let current = self.is_as_told(&opened);
        self.reopen(opened)?;
        // What changed since a MODSEQ that is yet to come nobody can tell.
        let is_rewound = then.is_some_and(|then| opened.is_before(&then));
        let resynced = selected.resynced && opened.highest_modseq.is_some() && !is_rewound;
        if is_rewound {
            info!(mailbox = ?self.name, ?then, now = ?opened, "the server is back at an earlier state: all is compared");
            self.apply([Event::Rewound(opened)]);
            self.check_void()?;
        }
        if current {
            self.lock().checked_at(started, news);
            return Ok(());
        }
        if resynced {
            self.apply(resync_events(rows));
        }
        let steps = {
            let known = self.lock();
            known.mailbox.plan_sync(&opened, known.are_flags_due(), resynced)
        };
        debug!(mailbox = ?self.name, ?opened, resynced, ?steps, "sync");
        for step in &steps {
            if matches!(step, Step::Messages(_))
                && let Some(answers) = early.take()
                && let Ok(told) = self.take_messages(answers, &UidSet::range(1, u32::MAX)).await
            {
                // It may have run on another connection: up to what that one had heard of all is known.
                let modseq = told.and_then(|told| told.highest_modseq);
                opened.highest_modseq = opened.highest_modseq.map(|now| modseq.map_or(now, |told| now.min(told)));
                continue;
            }
            self.step(client, step, &opened).await?;
            self.check_void()?;
        }
        // A first listing that brought another number than the server stated is checked by UID.
        let listed = self.lock().mailbox.len() as u64;
        if listed != opened.exists && !steps.contains(&Step::Uids) {
            self.step(client, &Step::Uids, &opened).await?;
        }
        self.apply([Event::Complete(opened)]);
        let mut known = self.lock();
        known.checked_at(started, news);
        if steps.contains(&Step::Flags) || known.flags_checked.is_none() {
            known.flags_checked = Some(started);
        }
        Ok(())
    }

    async fn step(&self, client: &Client, step: &Step, opened: &Opened) -> Result<()> {
        match step {
            Step::Messages(first) => {
                let last = opened.uid_next.map_or(u64::from(u32::MAX), |next| next.saturating_sub(1));
                let last = u32::try_from(last).unwrap_or(u32::MAX);
                if last >= *first {
                    self.fetch_messages(client, UidSet::range(*first, last), opened.exists).await?;
                }
            }
            Step::Uids => {
                let limit = opened.exists.saturating_mul(16).saturating_add(ROW_MAX);
                let (rows, _) = client.run(self.target(), Command::SearchAll, Class::Small, limit).await?;
                // A list that did not come is not an empty one.
                if opened.exists > 0 && !rows.iter().any(|row| matches!(row, Data::Search(_))) {
                    return Err(Error::protocol("the answer to SEARCH has no list"));
                }
                let mut present = UidSet::new();
                for row in rows {
                    if let Data::Search(result) = row {
                        for &(first, last) in result.all.ranges() {
                            present.insert_range(first, last);
                        }
                    }
                }
                if present.len() > MESSAGES_MAX {
                    return Err(Error::protocol("SEARCH tells more messages than there can be"));
                }
                for &(first, last) in self.lock().brought.ranges() {
                    present.insert_range(first, last);
                }
                let mut missing = self.unknown(&present);
                self.apply([Event::Present(present)]);
                while !missing.is_empty() {
                    self.fetch_messages(client, missing.clone(), opened.exists).await?;
                    let still = self.unknown(&missing);
                    if still.len() == missing.len() {
                        debug!(mailbox = ?self.name, count = still.len(), "messages that SEARCH lists and FETCH does not tell");
                        break;
                    }
                    missing = still;
                }
            }
            Step::FlagsSince(modseq) => self.fetch_flags(client, Some(*modseq), opened).await?,
            Step::Flags => self.fetch_flags(client, None, opened).await?,
        }
        Ok(())
    }

    /// All that is kept of these messages, applied as it arrives. When the connection is lost on the way, all of them
    /// are asked for once more.
    pub(super) async fn fetch_messages(&self, client: &Client, uids: UidSet, exists: u64) -> Result<()> {
        let before = self.lock().mailbox.len();
        match self.fetch_messages_once(client, &uids, exists).await {
            Err(Error::Offline(_)) if self.lock().mailbox.len() > before => {
                self.fetch_messages_once(client, &uids, exists).await
            }
            outcome => outcome,
        }
    }

    async fn fetch_messages_once(&self, client: &Client, uids: &UidSet, exists: u64) -> Result<()> {
        let command = Command::Fetch { uids: uids.clone(), items: summary_items(client), changed_since: None };
        let limit = exists.min(MESSAGES_MAX).saturating_mul(ROW_MAX).saturating_add(ROW_MAX);
        self.take_messages(client.send(self.target(), command, Class::Small, limit), uids).await.map(drop)
    }

    /// Takes in what a FETCH of these messages brings; what SELECT had told the connection that it ran on.
    async fn take_messages(&self, mut answers: Answers, uids: &UidSet) -> Result<Option<Selected>> {
        let (mut batch, mut unfinished) = (Vec::new(), Vec::new());
        let told = |row| match row {
            Data::Fetch(row) => message_event(*row).filter(|(uid, _)| uids.contains(*uid)).map(|(_, event)| event),
            _ => None,
        };
        while let Some(answer) = answers.recv().await {
            match answer {
                // Whether it is a message that goes at this moment, the end tells.
                Answer::Data(Data::Fetch(row)) if is_unfinished(&row) => unfinished.push(Data::Fetch(row)),
                Answer::Data(Data::Fetch(row)) => {
                    batch.extend(told(Data::Fetch(row)));
                    // What is there already is applied under one lock.
                    if batch.len() >= 512 || answers.is_empty() {
                        self.apply(batch.drain(..));
                    }
                }
                Answer::Data(_) | Answer::Part(..) => {}
                Answer::Done(done) => {
                    let rows = match &done {
                        Ok(done) => without_gone(unfinished, done.code.as_ref()),
                        Err(_) => Vec::new(),
                    };
                    let is_odd = !rows.is_empty();
                    batch.extend(rows.into_iter().filter_map(told));
                    self.apply(batch);
                    if is_odd && self.lock().mailbox.is_empty() {
                        return Err(Error::protocol("of no message the server tells the size"));
                    }
                    return done.map(|done| done.selected);
                }
            }
        }
        Err(Error::offline("connection closed"))
    }

    async fn fetch_flags(&self, client: &Client, since: Option<u64>, opened: &Opened) -> Result<()> {
        let mut items = vec![FetchItem::Flags];
        if opened.highest_modseq.is_some() {
            items.push(FetchItem::ModSeq);
        }
        let last = opened.uid_next.map_or(u64::from(u32::MAX), |next| next.saturating_sub(1));
        let uids = UidSet::range(1, u32::try_from(last).unwrap_or(u32::MAX).max(1));
        let limit = opened.exists.saturating_mul(ROW_MAX).saturating_add(ROW_MAX);
        let command = Command::Fetch { uids, items, changed_since: since };
        let (rows, _) = client.run(self.target(), command, Class::Small, limit).await?;
        self.apply(rows.into_iter().filter_map(flags_event));
        Ok(())
    }
}
