//! One command in flight: which answers are its own, how much it may bring, how it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::time::Instant;

use super::answered::Answered;
use super::line::Line;
use super::refusal::{self, Refusal};
use super::request::{self, Answer, Class, Command, Done, FetchItem, Request, Target};
use super::response::{BodyRow, Code, Data, FetchRow, SearchResult, Selected, Status};
use crate::error::{Error, Result};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::section::Section;
use crate::mail::uid::{Uid, UidSet};

/// Items that one FETCH may have: one bit each says what was answered.
pub const MAX_ITEMS: usize = 64;

/// A request on its way through the pool.
#[derive(Debug)]
pub struct Job {
    /// The request.
    pub request: Request,
    /// How often a connection was lost under it.
    pub attempts: u32,
    /// When a connection was first lost under it.
    pub lost: Option<Instant>,
    /// It is a change, and a connection was lost when its octets may have reached the server.
    pub doubtful: bool,
    /// A mailbox that the connection must not have selected afterwards, nor one below it.
    pub leave: Option<MailboxName>,
    /// No command: from now on the connection watches this mailbox.
    pub watch: Option<MailboxName>,
    /// The connection may have died in silence: the answer is due soon.
    pub probe: bool,
    /// Counted on the connection that it was given to.
    pub load: Option<Load>,
    /// That connection.
    pub connection: u64,
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
        Self {
            request,
            attempts: 0,
            lost: None,
            doubtful: false,
            leave: None,
            watch: None,
            probe: false,
            load: None,
            connection: 0,
        }
    }

    /// A NOOP that nobody waits for.
    pub fn noop() -> Self {
        let (answers, _) = request::answers();
        let (target, command, class) = (Target::Account, Command::Noop, Class::Small);
        Self::new(Request { target, command, class, limit: 1 << 20, parts: false, on: None, answers })
    }

    /// The same, and a connection that has this mailbox selected, or one below it, leaves it first.
    pub fn leave(name: MailboxName) -> Self {
        Self { leave: Some(name), ..Self::noop() }
    }

    /// No command: from now on the connection watches this mailbox while it has nothing else to do.
    pub fn watch(name: MailboxName) -> Self {
        Self { watch: Some(name), ..Self::noop() }
    }

    /// A NOOP that is to show soon whether the connection is still alive.
    pub fn probe() -> Self {
        Self { probe: true, ..Self::noop() }
    }

    /// The mailbox it must run in.
    pub fn mailbox(&self) -> Option<&MailboxName> {
        match &self.request.target {
            Target::Account => None,
            Target::Mailbox { name, .. } => Some(name),
        }
    }

    /// The mailbox whose name is about to mean another one, or none.
    pub fn leaves(&self) -> Option<&MailboxName> {
        match &self.request.command {
            Command::Delete(name) | Command::Rename(name, _) => Some(name),
            _ => self.leave.as_ref(),
        }
    }

    /// Must the connection leave the mailbox that it has selected, before this is sent? That mailbox, or what looks as if
    /// it was below it: to open another for nothing costs little. INBOX stays what it is.
    pub fn must_leave(&self, here: &MailboxName) -> bool {
        let below = |name: &MailboxName| here.as_bytes().strip_prefix(name.as_bytes());
        let at = self.leaves().and_then(below);
        at.is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_alphanumeric)) && !here.is_inbox()
    }

    /// May it be sent twice? Only what has the same outcome then. UIDs mean the same messages under one UIDVALIDITY.
    pub fn is_repeatable(&self) -> bool {
        let known = matches!(self.request.target, Target::Mailbox { validity: Some(_), .. });
        match self.request.command {
            Command::Store { .. } | Command::Expunge(_) => known,
            Command::Subscribe(..) | Command::SetAcl(..) | Command::SetMetadata(..) => true,
            _ => !self.request.command.is_change(),
        }
    }

    /// Ends it. Nobody listening is no error.
    pub fn finish(self, result: Result<Done>) {
        let result = match result {
            // Of whether it was done the first time a refusal of the second says nothing. No UID of then means anything now.
            Err(error) if self.doubtful && !matches!(error, Error::Stale | Error::Uncertain(_)) => {
                Err(Error::Uncertain(error.to_string().into()))
            }
            mut result => {
                if let Ok(Done { selected: Some(selected), .. }) = &mut result {
                    selected.connection = self.connection;
                }
                result
            }
        };
        self.request.answers.send(Answer::Done(result));
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
    /// Lines that go out when those before them have been answered.
    lines: VecDeque<Line>,
    /// Octets that had been put out on the connection before it.
    start: u64,
    /// Why it fails; what still comes for it is thrown away.
    failed: Option<Error>,
    code: Option<Code>,
    received: u64,
    delivered: bool,
    /// What of which message has been delivered.
    answered: Answered,
    search: Option<SearchResult>,
}

impl Flight {
    /// The job under these tags; `lines` are still to be sent, one by one. `start` octets were put out before it.
    pub fn new(job: Job, tags: VecDeque<u64>, lines: VecDeque<Line>, start: u64) -> Self {
        Self {
            job,
            first: tags.front().copied().unwrap_or_default(),
            tags,
            lines,
            start,
            failed: None,
            code: None,
            received: 0,
            delivered: false,
            answered: Answered::default(),
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

    /// Answers that whoever asked has not taken yet.
    pub fn untaken(&self) -> usize {
        self.job.request.answers.untaken()
    }

    /// Hands data to the requester, charged with `octets`.
    pub fn deliver(&mut self, data: Data, octets: u64) {
        self.charge(octets);
        if self.failed.is_none() {
            self.delivered = true;
            self.job.request.answers.send(Answer::Data(data));
        }
    }

    /// Is this the row of a body whose octets are wanted as they come? Not when it does not state the size of the message
    /// before: without that nobody could believe them.
    pub fn takes_parts(&self, row: &FetchRow) -> bool {
        let Command::Fetch { uids, items, .. } = self.command() else { return false };
        let (Some(uid), Some(_), [body]) = (row.uid, row.size, &row.bodies[..]) else { return false };
        let answered = self.answered.items(uid);
        let is_asked = |(n, item): (usize, &FetchItem)| match item {
            FetchItem::Body(section, range) => is_answer(body, section, *range) && answered & (1 << n) == 0,
            _ => false,
        };
        self.job.request.parts && uids.contains(uid) && items.iter().enumerate().take(MAX_ITEMS).any(is_asked)
    }

    /// Hands on octets of a body of which more is to come.
    pub fn deliver_part(&mut self, size: Option<u64>, part: Bytes) {
        self.charge(part.len() as u64);
        if self.failed.is_none() {
            self.delivered = true;
            self.job.request.answers.send(Answer::Part(size, part));
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
            self.learn(refusal.code);
        } else {
            self.fail(refusal::of(self.command(), &refusal));
        }
        self.tags.is_empty()
    }

    /// Takes a response code: of several lines, and of what is told before the end, the one that says most counts.
    pub fn learn(&mut self, code: Option<Code>) {
        let Some(new) = code else { return };
        self.code = Some(match (self.code.take(), new) {
            (Some(Code::CopyUid(validity, from, to)), Code::CopyUid(v, more, new)) => {
                let joined = join_pairs((&from, &to), (&more, &new)).filter(|_| v == validity);
                let (from, to) = joined.unwrap_or_default();
                Code::CopyUid(validity, from, to)
            }
            (Some(Code::Modified(mut uids)), Code::Modified(more)) => {
                more.ranges().iter().for_each(|&(first, last)| uids.insert_range(first, last));
                Code::Modified(uids)
            }
            (Some(old), new) if weight(&old) > weight(&new) => old,
            (_, new) => new,
        });
    }

    /// The line that comes next, when all before it went well.
    pub fn next_line(&mut self) -> Option<Line> {
        self.lines.pop_front().filter(|_| self.failed.is_none())
    }

    /// What a change did before it failed is told as an untagged OK.
    fn tell_done(&mut self) {
        if let Some(code @ (Code::CopyUid(..) | Code::AppendUid(..))) = self.code.take() {
            let data = Data::Status(Status::Ok, Some(code), Bytes::new());
            self.job.request.answers.send(Answer::Data(data));
        }
    }

    /// The end after the last tagged answer.
    pub fn finish(mut self, selected: Option<Selected>) {
        if let Some(search) = self.search.take()
            && self.failed.is_none()
        {
            self.job.request.answers.send(Answer::Data(Data::Search(search)));
        }
        let result = match self.failed.take() {
            Some(error) => {
                self.tell_done();
                Err(error)
            }
            None => Ok(Done { code: self.code, selected }),
        };
        self.job.finish(result);
    }

    /// The job of a connection that was lost, when it may be sent again: a read of whose answer nothing has been seen,
    /// a change that was not made, or that has the same outcome twice. Otherwise it ends here. `blamed`: the connection was
    /// lost over this very command. `handed`: octets of the connection that may have reached the server.
    pub fn lost(mut self, error: &Error, blamed: bool, handed: u64) -> Option<Job> {
        if let Some(failed) = self.failed.take() {
            self.tell_done();
            self.job.finish(Err(failed));
            return None;
        }
        let is_change = self.command().is_change();
        if is_change && handed > self.start {
            self.tell_done();
            self.job.doubtful = true;
            if blamed || !self.job.is_repeatable() {
                self.job.finish(Err(Error::Uncertain(error.to_string().into())));
                return None;
            }
        } else if blamed || !is_change && self.delivered {
            self.job.finish(Err(error.clone()));
            return None;
        }
        Some(self.job)
    }

    /// Delivers a row that tells of flags which this STORE may have changed; it stays news for all others.
    pub fn claim_stored(&mut self, uid: Uid, row: &FetchRow, octets: u64) -> bool {
        let Command::Store { uids, .. } = self.command() else { return false };
        // What is too much is only news: it does not undo what was stored.
        if row.flags.is_none() || !uids.contains(uid) || octets > self.room() {
            return false;
        }
        let FetchRow { number, uid, ref flags, modseq, .. } = *row;
        let row = FetchRow { number, uid, flags: flags.clone(), modseq, ..FetchRow::default() };
        self.deliver(Data::Fetch(Box::new(row)), octets);
        true
    }

    /// Takes out of `row` what this FETCH asked for and has not had: the rest is another's, or an event. `has_content`
    /// when it came with some, see [`has_content`]; `oversize` when a literal of it was thrown away for its size.
    pub fn claim(&mut self, uid: Uid, row: &mut FetchRow, octets: u64, has_content: bool, oversize: bool) -> bool {
        let Command::Fetch { uids, items, .. } = &self.job.request.command else { return false };
        // News may come before the answer: taken for a part of it, it would be lost to who keeps flags, and the flags of the
        // answer to who asked.
        let is_more = |item: &FetchItem| !matches!(item, FetchItem::Flags | FetchItem::ModSeq);
        if !uids.contains(uid) || is_flags_alone(row) && items.iter().any(is_more) {
            return false;
        }
        // The answer to another FETCH says what we asked for as well, such as the size: taken for ours, it would be all that
        // comes of a message that goes before it is our turn.
        if has_content && !items.iter().any(|item| is_content(item, row)) {
            return false;
        }
        let before = self.answered.items(uid);
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
        self.answered.set(uid, had, items.len());
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

/// What a code is worth to whoever sent the command.
fn weight(code: &Code) -> u32 {
    match code {
        Code::AppendUid(..) | Code::CopyUid(..) => 3,
        Code::Modified(_) => 2,
        Code::ExpungeIssued => 1,
        _ => 0,
    }
}

/// Two pairs of sets as one. The n-th of one set is the n-th of the other, so `None` when that would no longer be so: then
/// nothing is known of any.
fn join_pairs(old: (&UidSet, &UidSet), new: (&UidSet, &UidSet)) -> Option<(UidSet, UidSet)> {
    if old == new {
        return Some((old.0.clone(), old.1.clone()));
    }
    let join = |old: &UidSet, new: &UidSet| {
        let (&(_, last), &(first, _)) = (old.ranges().last()?, new.ranges().first()?);
        let mut joined = old.clone();
        new.ranges().iter().for_each(|&(first, last)| joined.insert_range(first, last));
        (last < first).then_some(joined)
    };
    Some((join(old.0, new.0)?, join(old.1, new.1)?))
}

/// Does a row have what tells which FETCH it answers: a body, a structure, or an envelope?
pub fn has_content(row: &FetchRow) -> bool {
    !row.bodies.is_empty() || row.structure.is_some() || row.odd_structure || row.envelope.is_some()
}

/// Is this item some of it?
fn is_content(item: &FetchItem, row: &FetchRow) -> bool {
    match item {
        FetchItem::Envelope => row.envelope.is_some(),
        FetchItem::BodyStructure => row.structure.is_some() || row.odd_structure,
        FetchItem::Body(section, range) => row.bodies.iter().any(|body| is_answer(body, section, *range)),
        _ => false,
    }
}

fn is_answer(body: &BodyRow, section: &Section, range: Option<(u64, u32)>) -> bool {
    body.section.as_ref() == Some(section) && body.origin == range.map(|(offset, _)| offset)
}

/// Does a row tell of nothing but flags?
fn is_flags_alone(row: &FetchRow) -> bool {
    let is_message = row.size.is_some() || row.internal_date.is_some();
    let has_id = row.email_id.is_some() || row.thread_id.is_some();
    row.flags.is_some() && !is_message && !has_content(row) && !has_id
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
            let at = row.bodies.iter().position(|body| is_answer(body, section, *range));
            let Some(at) = at else { return false };
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
