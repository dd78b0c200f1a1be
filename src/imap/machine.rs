//! The order of commands on one connection, and whose each answer is: a pure machine, frames in, octets out.
//!
//! 1. Commands are matched by tag; several are in flight, reads of one mailbox only: Stalwart runs them at the same
//!    time and answers out of order.
//! 2. SELECT is sent when nothing is outstanding. Reads of that mailbox follow it at once where the server is known to
//!    carry out commands in their order; elsewhere nothing does until it has been answered.
//! 3. A row reaches the FETCH that asked for its UID, section and origin, once; other rows are events or dropped.
//! 4. NO, BAD, BYE and the end of the stream are errors, always; what was asked and not told is never made up.
//! 5. First come, first served, so no mailbox starves.

use std::collections::{HashSet, VecDeque};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc::UnboundedSender;

use super::command::{self, Dialect, Line};
use super::flight::{Flight, Job, MAX_ITEMS};
use super::frame::{Frame, Limits};
use super::refusal::{self, Refusal};
use super::request::{Command, Done, Target};
use super::response::{Code, Data, FetchRow, Response, Selected, Status};
use super::server::Event;
use crate::error::{Error, Result, printable};
use crate::mail::mailbox_name::MailboxName;

/// Commands in flight: enough to fill any link with small answers, few enough that a lost connection costs little.
const WINDOW: usize = 64;
/// Octets that nobody asked for, between two tagged answers; more is a flood.
const MAX_UNASKED: u64 = 16 << 20;

/// What a response was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing that was waited for.
    None,
    /// The server says that it is still at it.
    Alive,
    /// Something that was asked for.
    Some,
    /// A command, or SELECT, has its answer.
    Answered,
}

/// See the top of the file.
pub struct Machine {
    dialect: Dialect,
    events: UnboundedSender<Event>,
    debug: bool,
    tags: u64,
    /// Not sent yet.
    queue: VecDeque<Job>,
    /// Sent, in that order. Invariant: all with a mailbox target have `selected`'s.
    flights: VecDeque<Flight>,
    selected: Option<(MailboxName, Selected)>,
    /// All that were selected on this connection.
    opened: HashSet<MailboxName>,
    /// Invariant: while this is set, `flights` are reads of that mailbox, sent behind the SELECT.
    selecting: Option<Selecting>,
    /// What waits for the server's `+`, and what stands behind it; nothing else is sent meanwhile.
    pending: VecDeque<Chunk>,
    output: BytesMut,
    sent: u64,
    unasked: u64,
    useful: bool,
}

/// A SELECT on its way.
struct Selecting {
    tag: u64,
    /// The job that asked for it, when it asked for nothing else.
    job: Option<Job>,
    name: MailboxName,
    found: Selected,
}

/// A piece of a command.
struct Chunk {
    tag: u64,
    /// Only after a `+`.
    waits: bool,
    octets: Bytes,
}

impl Machine {
    /// A machine for a connection without a selected mailbox.
    pub fn new(dialect: Dialect, events: UnboundedSender<Event>, debug: bool) -> Self {
        Self {
            dialect,
            events,
            debug,
            tags: 0,
            queue: VecDeque::new(),
            flights: VecDeque::new(),
            selected: None,
            opened: HashSet::new(),
            selecting: None,
            pending: VecDeque::new(),
            output: BytesMut::new(),
            sent: 0,
            unasked: 0,
            useful: false,
        }
    }

    /// Takes a job; [`Machine::pump`] sends it when its turn comes.
    pub fn push(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    /// Is an answer of the server waited for?
    pub fn is_busy(&self) -> bool {
        self.selecting.is_some() || !self.flights.is_empty()
    }

    /// Has any command been carried out?
    pub fn is_useful(&self) -> bool {
        self.useful
    }

    /// Is there nothing left to do?
    pub fn is_idle(&self) -> bool {
        !self.is_busy() && self.queue.is_empty()
    }

    /// What is to be written, and how many commands that is.
    pub fn take_output(&mut self) -> (BytesMut, u64) {
        (std::mem::take(&mut self.output), std::mem::take(&mut self.sent))
    }

    /// What the framer may keep of the next response: what the commands in flight may bring.
    pub fn limits(&self) -> Limits {
        Limits::for_answer(self.flights.iter().map(Flight::room).max().unwrap_or(0))
    }

    /// Sends what may be sent now.
    pub fn pump(&mut self) {
        while self.pending.is_empty() && self.flights.len() < WINDOW {
            let Some(job) = self.queue.front() else { return };
            let command = &job.request.command;
            if let Some(selecting) = &self.selecting {
                // What its UIDVALIDITY is, the answer to SELECT says before theirs come.
                if !self.dialect.ordered || !command.is_read() || job.mailbox() != Some(&selecting.name) {
                    return;
                }
            } else if let Some(name) = job.mailbox() {
                let here = self.selected.as_ref().filter(|(n, _)| n == name);
                let Some((_, selected)) = here.filter(|_| *command != Command::Select) else {
                    if self.flights.is_empty() {
                        self.select(name.clone());
                        continue;
                    }
                    return;
                };
                if is_stale(&job.request.target, selected) {
                    self.finish_first(Err(Error::Stale));
                    continue;
                }
            }
            // An untagged SEARCH does not say whose it is.
            if *command == Command::SearchAll && self.flights.iter().any(|f| *f.command() == Command::SearchAll) {
                return;
            }
            if matches!(command, Command::Fetch { items, .. } if items.len() > MAX_ITEMS) {
                self.finish_first(Err(Error::invalid("a FETCH of too many items")));
                continue;
            }
            if let (Command::Status(name), Some((here, selected))) = (command, &self.selected)
                && name == here
            {
                let selected = Some(selected.clone());
                self.finish_first(Ok(Done { code: None, selected }));
                continue;
            }
            match command::lines(command, job.mailbox(), &self.dialect) {
                Ok(lines) if lines.is_empty() => {
                    let selected = job.mailbox().and(self.selected.as_ref()).map(|(_, s)| s.clone());
                    self.finish_first(Ok(Done { code: None, selected }));
                }
                Ok(lines) => self.send(&lines),
                Err(error) => self.finish_first(Err(error)),
            }
        }
    }

    fn finish_first(&mut self, result: Result<Done>) {
        if let Some(job) = self.queue.pop_front() {
            job.finish(result);
        }
    }

    fn send(&mut self, lines: &[Line]) {
        let Some(mut job) = self.queue.pop_front() else { return };
        job.attempts += 1;
        let mut tags = VecDeque::new();
        for line in lines {
            tags.push_back(self.queue_line(line));
        }
        self.write();
        self.flights.push_back(Flight::new(job, tags));
    }

    fn select(&mut self, name: MailboxName) {
        let line = match command::select(&name, &self.dialect) {
            Ok(line) => line,
            Err(error) => return self.finish_first(Err(error)),
        };
        let tag = self.queue_line(&line);
        self.write();
        self.selected = None;
        let job = self.queue.pop_front_if(|job| job.request.command == Command::Select);
        self.selecting = Some(Selecting { tag, job, name, found: Selected::default() });
    }

    /// Puts a line behind what is pending; the number of its tag.
    fn queue_line(&mut self, line: &Line) -> u64 {
        self.tags += 1;
        self.sent += 1;
        let tag = self.tags;
        if self.debug {
            tracing::debug!(target: "imapfs::protocol", "C: T{tag} {}", printable(line.printable().as_bytes(), 500));
        }
        for (n, octets) in line.encode(&format!("T{tag}"), self.dialect.literals).into_iter().enumerate() {
            self.pending.push_back(Chunk { tag, waits: n > 0, octets });
        }
        tag
    }

    /// Writes what is pending up to what waits for a `+`.
    fn write(&mut self) {
        while let Some(chunk) = self.pending.pop_front_if(|c| !c.waits) {
            self.output.extend_from_slice(&chunk.octets);
        }
    }

    /// Takes a response.
    ///
    /// Errors: the connection is of no use any more.
    pub fn receive(&mut self, frame: &Frame) -> Result<Progress> {
        let (response, odd) = Response::parse(frame);
        if self.debug {
            tracing::debug!(target: "imapfs::protocol", "S: {}", printable(&frame.line, 300));
        }
        if let Some(odd) = odd {
            tracing::info!("{odd}: {}", printable(&frame.line, 120));
        }
        let octets = frame.octets();
        let progress = match response {
            Response::Continue(_) => self.proceed()?,
            Response::Tagged { tag, status, code, text } => {
                self.unasked = 0;
                self.answer(&tag, Refusal { status, code, text })?;
                Progress::Answered
            }
            Response::Untagged(Data::Status(status, code, text)) => self.status(Refusal { status, code, text })?,
            Response::Untagged(data) => self.route(data, octets, frame.oversize().is_some()),
        };
        if matches!(progress, Progress::None | Progress::Alive) {
            self.unasked = self.unasked.saturating_add(octets);
            if self.unasked > MAX_UNASKED {
                return Err(Error::protocol("the server sends without end what nobody asked for"));
            }
        }
        Ok(progress)
    }

    fn proceed(&mut self) -> Result<Progress> {
        let chunk = self.pending.pop_front();
        let chunk = chunk.ok_or_else(|| Error::protocol("the server asked for more where nothing more is due"))?;
        self.output.extend_from_slice(&chunk.octets);
        self.write();
        Ok(Progress::Some)
    }

    fn answer(&mut self, tag: &[u8], refusal: Refusal) -> Result<()> {
        let unknown = || Error::protocol("the server answered what it was not asked");
        let number = tag.strip_prefix(b"T").and_then(|n| std::str::from_utf8(n).ok()?.parse::<u64>().ok());
        let number = number.ok_or_else(unknown)?;
        if self.pending.iter().any(|c| c.tag == number) {
            if refusal.status == Status::Ok {
                return Err(Error::protocol("the server answered a command before it was sent"));
            }
            // Refused instead of a `+`: the rest of the command must not be sent.
            self.pending.retain(|c| c.tag != number);
            self.write();
        }
        if let Some(selecting) = self.selecting.take_if(|s| s.tag == number) {
            return self.selected(selecting, refusal);
        }
        self.useful |= refusal.status == Status::Ok;
        let at = self.flights.iter().position(|f| f.tags.contains(&number)).ok_or_else(unknown)?;
        if self.flights[at].answer(number, refusal)
            && let Some(flight) = self.flights.remove(at)
        {
            let selected = match (flight.job.mailbox(), &self.selected) {
                (Some(_), Some((_, selected))) => Some(selected.clone()),
                _ => None,
            };
            flight.finish(selected);
        }
        Ok(())
    }

    /// SELECT has its answer, and with it what was sent or waits behind it.
    fn selected(&mut self, selecting: Selecting, refusal: Refusal) -> Result<()> {
        let Selecting { name, job, mut found, .. } = selecting;
        if refusal.status != Status::Ok {
            // Dovecot 2.3 goes on saying so on a connection that knew a mailbox which was deleted and made again.
            if refusal.code.is_none() && self.opened.contains(&name) && refusal::command(&refusal) != Error::NotFound {
                return Err(Error::offline("a mailbox that could be selected no longer can"));
            }
            // Others that wait for the same mailbox would hear the same.
            let error = refusal::command(&refusal);
            if let Some(job) = job {
                job.finish(Err(error.clone()));
            }
            self.flights.iter_mut().for_each(|flight| flight.fail(error.clone()));
            while self.queue.front().is_some_and(|j| j.mailbox() == Some(&name)) {
                self.finish_first(Err(error.clone()));
            }
            return Ok(());
        }
        found.read_only = self.dialect.read_only || refusal.code == Some(Code::ReadOnly);
        if let Some(job) = job {
            let stale = is_stale(&job.request.target, &found);
            let done = Done { code: refusal.code, selected: Some(found.clone()) };
            job.finish(if stale { Err(Error::Stale) } else { Ok(done) });
        }
        for flight in self.flights.iter_mut().filter(|f| is_stale(&f.job.request.target, &found)) {
            flight.fail(Error::Stale);
        }
        self.opened.insert(name.clone());
        self.selected = Some((name, found));
        Ok(())
    }

    /// The part of the machine that knows the mailbox: being selected, or selected.
    fn mailbox(&mut self) -> Option<&mut Selected> {
        match (&mut self.selecting, &mut self.selected) {
            (Some(selecting), _) => Some(&mut selecting.found),
            (None, Some((_, selected))) => Some(selected),
            (None, None) => None,
        }
    }

    fn status(&mut self, refusal: Refusal) -> Result<Progress> {
        let Refusal { status, code, text } = &refusal;
        match status {
            Status::Bye => return Err(refusal::bye(&refusal)),
            Status::No | Status::Bad => {
                tracing::warn!("the server warns: {}", printable(text, 200));
                return Ok(Progress::None);
            }
            Status::Ok | Status::PreAuth => {}
        }
        if *code == Some(Code::Alert) {
            tracing::warn!("alert of the server: {}", printable(text, 300));
        }
        let selecting = self.selecting.is_some();
        let mut replaced = false;
        if let Some(mailbox) = self.mailbox() {
            match code {
                // 0 is not a legal value: such a server has none.
                Some(Code::UidValidity(validity)) => {
                    let validity = Some(*validity).filter(|v| v.0 > 0);
                    replaced = !selecting && mailbox.uid_validity != validity;
                    mailbox.uid_validity = validity;
                }
                Some(Code::UidNext(next)) => mailbox.uid_next = Some(*next),
                Some(Code::HighestModSeq(modseq)) => mailbox.highest_modseq = Some(*modseq),
                Some(Code::NoModSeq) => mailbox.highest_modseq = None,
                Some(Code::PermanentFlags(flags)) => mailbox.permanent_flags = Some(flags.clone()),
                _ => {}
            }
        }
        if replaced {
            for flight in self.flights.iter_mut().filter(|f| f.job.mailbox().is_some()) {
                flight.fail(Error::Stale);
            }
            self.tell(Data::Status(*status, code.clone(), text.clone()));
        }
        Ok(if selecting { Progress::Some } else { Progress::Alive })
    }

    fn tell(&self, data: Data) {
        let mailbox = self.selected.as_ref().map(|(name, _)| name.clone());
        let _ = self.events.send(Event { mailbox, data });
    }

    /// Gives untagged data to the command that asked for it, else to the listener for events.
    fn route(&mut self, data: Data, octets: u64, oversize: bool) -> Progress {
        let asks = |command: &Command| match (&data, command) {
            (Data::List(_), Command::List) | (Data::Quota(..), Command::QuotaRoot(_)) => true,
            (Data::MailboxStatus(name, _), Command::Status(asked))
            | (Data::QuotaRoot(name, _), Command::QuotaRoot(asked))
            | (Data::MyRights(name, _), Command::MyRights(asked))
            | (Data::Acl(name, _), Command::GetAcl(asked)) => name == asked,
            (Data::Metadata(name, _), Command::GetMetadata(asked)) => MailboxName::new(name) == *asked,
            _ => false,
        };
        if let Some(flight) = self.flights.iter_mut().find(|f| asks(f.command())) {
            flight.deliver(data, octets);
            return Progress::Some;
        }
        match data {
            Data::Fetch(row) => self.route_row(*row, octets, oversize),
            Data::Search(result) => {
                // ESEARCH without UID speaks of sequence numbers.
                let tag = result.tag.as_ref().map(|t| String::from_utf8_lossy(t).into_owned());
                let flight = self.flights.iter_mut().find(|f| *f.command() == Command::SearchAll);
                match flight {
                    Some(flight)
                        if tag.is_none()
                            || (result.uid && flight.tags.iter().any(|n| tag == Some(format!("T{n}")))) =>
                    {
                        flight.search(result, octets);
                        Progress::Some
                    }
                    _ => Progress::None,
                }
            }
            Data::Exists(count) => {
                if let Some(mailbox) = self.mailbox() {
                    mailbox.exists = count;
                }
                self.unasked(data)
            }
            Data::Expunge(number) => {
                if let Some(mailbox) = self.mailbox()
                    && (1..=mailbox.exists).contains(&number)
                {
                    mailbox.exists -= 1;
                }
                self.unasked(data)
            }
            Data::Vanished(earlier, ref uids) => {
                if let Some(mailbox) = self.mailbox()
                    && !earlier
                {
                    mailbox.exists = mailbox.exists.saturating_sub(uids.len());
                }
                self.unasked(data)
            }
            Data::MailboxStatus(..) | Data::List(_) => self.unasked(data),
            _ if self.selecting.is_some() => Progress::Some,
            _ => Progress::None,
        }
    }

    /// What the server tells of a selected mailbox is an event; during SELECT it is part of the answer.
    fn unasked(&mut self, data: Data) -> Progress {
        if self.selecting.is_some() {
            return Progress::Some;
        }
        self.tell(data);
        Progress::None
    }

    fn route_row(&mut self, mut row: FetchRow, octets: u64, oversize: bool) -> Progress {
        if self.selecting.is_some() || self.selected.is_none() {
            return Progress::None;
        }
        let mut claimed = false;
        if let Some(uid) = row.uid {
            for flight in &mut self.flights {
                // The octets of a row that two share are charged to the first.
                claimed |= flight.claim(uid, &mut row, if claimed { 0 } else { octets }, oversize);
            }
        }
        // Flags that nobody asked for are news; without a UID they say that something changed. Nothing else is.
        if row.flags.is_some() {
            let FetchRow { number, uid, flags, modseq, .. } = row;
            self.tell(Data::Fetch(Box::new(FetchRow { number, uid, flags, modseq, ..FetchRow::default() })));
        }
        if claimed { Progress::Some } else { Progress::None }
    }

    /// The connection is lost: what may be sent again, in order; the rest ends with `error`. A command that ran into
    /// its deadline is not sent again.
    pub fn lose(&mut self, error: &Error) -> Vec<Job> {
        let mut jobs = Vec::new();
        let blamed = !matches!(error, Error::Offline(_) | Error::Busy(_));
        let mut blamed = blamed;
        if let Some(selecting) = self.selecting.take() {
            // Sent behind it or waiting for it: the first of them is to blame.
            let asker = selecting.job.or_else(|| self.flights.is_empty().then(|| self.queue.pop_front()).flatten());
            if let Some(mut job) = asker {
                job.attempts += 1;
                if blamed {
                    job.finish(Err(error.clone()))
                } else {
                    jobs.push(job)
                }
                blamed = false;
            }
        }
        for (n, flight) in std::mem::take(&mut self.flights).into_iter().enumerate() {
            match flight.lost(error) {
                Some(job) if n == 0 && blamed => job.finish(Err(error.clone())),
                job => jobs.extend(job),
            }
        }
        jobs.extend(self.queue.drain(..));
        jobs
    }
}

/// Do the UIDs of the request belong to another generation of the mailbox?
fn is_stale(target: &Target, selected: &Selected) -> bool {
    match target {
        Target::Mailbox { validity: Some(validity), .. } => selected.uid_validity != Some(*validity),
        _ => false,
    }
}
