//! One command in flight: which answers are its own, how much it may bring, how it ends.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::refusal::{self, Refusal};
use super::request::{Answer, Command, Done, FetchItem, Request, Target};
use super::response::{BodyRow, Code, Data, FetchRow, SearchResult, Selected, Status};
use crate::error::{Error, Result};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::Uid;

/// Items that one FETCH may have: one bit each says what was answered.
pub const MAX_ITEMS: usize = 64;

/// A request on its way through the pool.
#[derive(Debug)]
pub struct Job {
    /// The request.
    pub request: Request,
    /// How often it was sent already.
    pub attempts: u32,
    /// When a connection was first lost under it.
    pub lost: Option<Instant>,
    /// Counted on the connection that it was given to.
    pub load: Option<Load>,
}

/// One unit of load on a connection, for as long as it lives.
#[derive(Debug)]
pub struct Load(Arc<AtomicUsize>);

impl Load {
    /// Adds one to the counter until it is dropped.
    pub fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Job {
    /// A request that has not been sent yet.
    pub fn new(request: Request) -> Self {
        Self { request, attempts: 0, lost: None, load: None }
    }

    /// The mailbox it must run in.
    pub fn mailbox(&self) -> Option<&MailboxName> {
        match &self.request.target {
            Target::Account => None,
            Target::Mailbox { name, .. } => Some(name),
        }
    }

    /// Ends it. Nobody listening is no error.
    pub fn finish(self, result: Result<Done>) {
        let _ = self.request.answers.send(Answer::Done(result));
    }
}

/// A job whose lines have been written.
#[derive(Debug)]
pub struct Flight {
    /// The job.
    pub job: Job,
    /// Numbers of the tags that are still to be answered.
    pub tags: VecDeque<u64>,
    /// The first of them.
    first: u64,
    /// Why it fails; what still comes for it is thrown away.
    failed: Option<Error>,
    code: Option<Code>,
    received: u64,
    delivered: bool,
    /// What of which message has been delivered: one bit for each item of the FETCH.
    answered: HashMap<Uid, u64>,
    search: Option<SearchResult>,
}

impl Flight {
    /// The job under these tags.
    pub fn new(job: Job, tags: VecDeque<u64>) -> Self {
        Self {
            job,
            first: tags.front().copied().unwrap_or_default(),
            tags,
            failed: None,
            code: None,
            received: 0,
            delivered: false,
            answered: HashMap::new(),
            search: None,
        }
    }

    /// What it asks.
    pub fn command(&self) -> &Command {
        &self.job.request.command
    }

    /// Octets that may still come for it.
    pub fn room(&self) -> u64 {
        if self.failed.is_some() { 0 } else { self.job.request.limit.saturating_sub(self.received) }
    }

    /// From now on it is a failure; the first reason stands.
    pub fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    /// Counts octets that came for it.
    pub fn charge(&mut self, octets: u64) {
        self.received = self.received.saturating_add(octets);
        if self.received > self.job.request.limit {
            self.fail(Error::TooBig("the answer is larger than it may be".into()));
        }
    }

    /// Hands data to the requester, charged with `octets`.
    pub fn deliver(&mut self, data: Data, octets: u64) {
        self.charge(octets);
        if self.failed.is_none() {
            self.delivered = true;
            let _ = self.job.request.answers.send(Answer::Data(data));
        }
    }

    /// Takes a piece of a search; one answer is given at the end.
    pub fn search(&mut self, result: SearchResult, octets: u64) {
        self.charge(octets);
        let Some(known) = &mut self.search else {
            self.search = Some(result);
            return;
        };
        for &(first, last) in result.all.ranges() {
            known.all.insert_range(first, last);
        }
    }

    /// A tagged answer for it. True when it was the last.
    pub fn answer(&mut self, tag: u64, refusal: Refusal) -> bool {
        self.tags.retain(|t| *t != tag);
        // The first line of a LIST tells of the user's own mailboxes. Those behind it, of subscriptions and of others'
        // namespaces, add to it: one that is refused must not cost the rest.
        let may_fail = matches!(self.command(), Command::List) && tag != self.first;
        if refusal.status == Status::No && may_fail {
            tracing::warn!(reason = %refusal::command(&refusal), "a part of the list of mailboxes is refused");
        } else if refusal.status == Status::Ok {
            // Of several lines the one that tells of expunged messages counts.
            if self.code != Some(Code::ExpungeIssued) {
                self.code = refusal.code;
            }
        } else {
            self.fail(refusal::command(&refusal));
        }
        self.tags.is_empty()
    }

    /// The end after the last tagged answer.
    pub fn finish(mut self, selected: Option<Selected>) {
        if let Some(search) = self.search.take()
            && self.failed.is_none()
        {
            let _ = self.job.request.answers.send(Answer::Data(Data::Search(search)));
        }
        let result = match self.failed {
            Some(error) => Err(error),
            None => Ok(Done { code: self.code, selected }),
        };
        self.job.finish(result);
    }

    /// The job of a connection that was lost, when it may be sent again: nothing of the answer has been seen.
    /// Otherwise it ends here.
    pub fn lost(self, error: &Error) -> Option<Job> {
        if let Some(failed) = self.failed {
            self.job.finish(Err(failed));
            return None;
        }
        if self.delivered {
            self.job.finish(Err(error.clone()));
            return None;
        }
        Some(self.job)
    }

    /// Takes out of `row` what this FETCH asked for and has not had: the rest is another's, or an event. `oversize`
    /// when a literal of the row was thrown away for its size.
    pub fn claim(&mut self, uid: Uid, row: &mut FetchRow, octets: u64, oversize: bool) -> bool {
        let Command::Fetch { uids, items, .. } = &self.job.request.command else { return false };
        if !uids.contains(uid) {
            return false;
        }
        let before = self.answered.get(&uid).copied().unwrap_or(0);
        let mut had = before;
        let mut mine = FetchRow { number: row.number, uid: row.uid, ..FetchRow::default() };
        for (n, item) in items.iter().enumerate().take(MAX_ITEMS) {
            let bit = 1 << n;
            if had & bit == 0 && take_item(item, row, &mut mine) {
                had |= bit;
            }
        }
        // A row with a UID only (a part that is not there, on Stalwart) is an answer as well: the first one.
        if had == before {
            return false;
        }
        self.answered.insert(uid, had);
        if oversize && mine.bodies.iter().any(|b| b.data.is_none()) {
            self.charge(octets);
            self.fail(Error::TooBig("the server sent more than was asked for".into()));
            return true;
        }
        // A body counts for the FETCH that asked for it; Dovecot may answer a later one first, and both ask for the size.
        let octets = if mine.bodies.is_empty() && !row.bodies.is_empty() { 0 } else { octets };
        self.deliver(Data::Fetch(Box::new(mine)), octets);
        true
    }
}

/// Moves one item from `row` to `mine`, if the row answers it.
fn take_item(item: &FetchItem, row: &mut FetchRow, mine: &mut FetchRow) -> bool {
    fn take<T>(from: &mut Option<T>, to: &mut Option<T>) -> bool {
        *to = from.take();
        to.is_some()
    }
    match item {
        FetchItem::Flags => take(&mut row.flags, &mut mine.flags),
        FetchItem::InternalDate => take(&mut row.internal_date, &mut mine.internal_date),
        // Left in the row: where answers come out of order, whoever asked with a body must find it with that body.
        FetchItem::Size => {
            mine.size = row.size;
            mine.size.is_some()
        }
        FetchItem::Envelope => take(&mut row.envelope, &mut mine.envelope),
        FetchItem::BodyStructure => {
            mine.odd_structure = std::mem::take(&mut row.odd_structure);
            take(&mut row.structure, &mut mine.structure) || mine.odd_structure
        }
        FetchItem::ModSeq => take(&mut row.modseq, &mut mine.modseq),
        FetchItem::ObjectId => {
            take(&mut row.email_id, &mut mine.email_id) | take(&mut row.thread_id, &mut mine.thread_id)
        }
        FetchItem::Body(section, range) => {
            let answers = |body: &BodyRow| {
                body.section.as_ref() == Some(section) && body.origin == range.map(|(offset, _)| offset)
            };
            let Some(at) = row.bodies.iter().position(answers) else { return false };
            let body = row.bodies.swap_remove(at);
            // More than was asked for is not what was asked for.
            let fits =
                range.is_none_or(|(_, count)| body.data.as_ref().is_none_or(|d| d.len() as u64 <= u64::from(count)));
            if fits {
                mine.bodies.push(body);
            }
            fits
        }
    }
}
