//! The order of commands on one connection, and whose each answer is: a pure machine, frames in, octets out.
//!
//! 1. Commands are matched by tag; several are in flight, reads of one mailbox only: Stalwart runs them at the same
//!    time and answers out of order.
//! 2. SELECT and all that changes something is sent when nothing is outstanding. Reads of a mailbox follow its SELECT at
//!    once where the server is known to carry out commands in their order; else nothing is sent behind it until it has
//!    been answered.
//! 3. A row reaches the FETCH that asked for its UID, section and origin, once; other rows are events or dropped.
//! 4. NO, BAD, BYE and the end of the stream are errors, always; what was asked and not told is never made up.
//! 5. First come, first served, so no mailbox starves.

mod compressing;
mod routing;
mod selecting;
mod watching;

use std::collections::{HashSet, VecDeque};

use tokio::sync::mpsc::UnboundedSender;

use self::selecting::Selecting;
use super::command;
use super::dialect::Dialect;
use super::flight::{Flight, Job, MAX_ITEMS};
use super::frame::{Frame, Limits};
use super::line::{Chunk, Line, Octets};
use super::refusal::Refusal;
use super::request::{Command, Done, Target};
use super::response::{Data, Response, Selected, Status};
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
    /// Invariant: while this is set, `flights` are LIST and reads of that mailbox, sent behind the SELECT.
    selecting: Option<Selecting>,
    /// What waits for the server's `+`, and what stands behind it; nothing else is sent meanwhile.
    pending: VecDeque<(u64, Chunk)>,
    output: Vec<Octets>,
    /// Octets of all output so far.
    put_out: u64,
    /// How many of them may have reached the server.
    handed: u64,
    sent: u64,
    /// Answers that come before all others: to what was asked when the connection was made.
    due: u64,
    unasked: u64,
    useful: bool,
    watch: watching::Watch,
    compress: compressing::Compress,
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
            output: Vec::new(),
            put_out: 0,
            handed: 0,
            sent: 0,
            due: 0,
            unasked: 0,
            useful: false,
            watch: watching::Watch::default(),
            compress: compressing::Compress::default(),
        }
    }

    /// So many answers to what was asked after login come before those to commands.
    pub fn behind(mut self, due: u64) -> Self {
        self.due = due;
        self
    }

    /// Takes a job; [`Machine::pump`] sends it when its turn comes.
    pub fn push(&mut self, mut job: Job) {
        match job.watch.take() {
            Some(name) => self.watch(name),
            None => self.queue.push_back(job),
        }
    }

    /// Takes a job that goes before all others.
    pub fn push_first(&mut self, job: Job) {
        self.queue.push_front(job);
    }

    /// Is the next that would be sent something that must not be sent twice?
    pub fn is_once_next(&self) -> bool {
        self.queue.front().is_some_and(|job| !job.is_repeatable())
    }

    /// Does a part of a command wait for the server's `+`?
    pub fn is_mid_command(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Is an answer of the server waited for?
    pub fn is_busy(&self) -> bool {
        self.due > 0 || self.has_commands() || self.watch.is_asking() || self.compress.is_asking()
    }

    fn has_commands(&self) -> bool {
        self.selecting.is_some() || !self.flights.is_empty()
    }

    /// Has anybody asked for something that has not ended?
    pub fn has_jobs(&self) -> bool {
        !self.queue.is_empty() || !self.flights.is_empty()
    }

    /// The most answers to one command that whoever asked has not taken yet.
    pub fn untaken(&self) -> usize {
        self.flights.iter().map(Flight::untaken).max().unwrap_or(0)
    }

    /// Has any command been carried out?
    pub fn is_useful(&self) -> bool {
        self.useful
    }

    /// Has the server granted what was asked when the connection was made?
    pub fn is_ready(&self) -> bool {
        self.due == 0
    }

    /// Is there nothing left to do?
    pub fn is_idle(&self) -> bool {
        !self.is_busy() && self.queue.is_empty()
    }

    /// What is to be written, and how many commands that is.
    pub fn take_output(&mut self) -> (Vec<Octets>, u64) {
        (std::mem::take(&mut self.output), std::mem::take(&mut self.sent))
    }

    /// What the framer may keep of the next response: what the commands in flight may bring.
    pub fn limits(&self) -> Limits {
        Limits::for_answer(self.flights.iter().map(Flight::room).max().unwrap_or(0))
    }

    /// Sends what may be sent now.
    pub fn pump(&mut self) {
        // For what is not asked IDLE need not end.
        while self.is_idling() && self.is_told_without_asking() {
            self.tell_without_asking();
        }
        if self.holds_back() || self.queue.is_empty() || !self.end_idle() {
            return;
        }
        while self.pending.is_empty() && self.flights.len() < WINDOW {
            let Some(job) = self.queue.front() else { return };
            let command = &job.request.command;
            let is_change = command.is_change();
            // Where the set-up is refused nobody is to be in doubt about a change.
            if is_change && !self.is_ready() {
                return;
            }
            if self.flights.front().is_some_and(|first| is_change || first.command().is_change()) {
                return;
            }
            if let Some(selecting) = &self.selecting {
                // What its UIDVALIDITY is, the answer to SELECT says before theirs come. LIST is not about it.
                let reads_it = command.is_read() && job.mailbox() == selecting.name.as_ref();
                if !self.dialect.ordered || !reads_it && !matches!(command, Command::List) {
                    return;
                }
            }
            if is_change && self.dialect.read_only {
                self.finish_first(Err(Error::ReadOnly));
                continue;
            }
            if self.selected.as_ref().is_some_and(|(here, _)| job.must_leave(here)) {
                if !self.flights.is_empty() {
                    return;
                }
                self.unselect();
                continue;
            }
            if let (Some(name), None) = (job.mailbox(), &self.selecting) {
                let here = self.selected.as_ref().filter(|(n, _)| n == name);
                let Some((_, selected)) = here.filter(|_| !command.is_select()) else {
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
                // A copy changes another mailbox.
                if is_change && selected.read_only && !matches!(command, Command::Copy { .. }) {
                    self.finish_first(Err(Error::Denied("the server opens this mailbox for reading only".into())));
                    continue;
                }
            }
            // An untagged SEARCH does not say whose it is.
            if is_search(command) && self.flights.iter().any(|f| is_search(f.command())) {
                return;
            }
            if matches!(command, Command::Fetch { items, .. } if items.len() > MAX_ITEMS) {
                self.finish_first(Err(Error::invalid("a FETCH of too many items")));
                continue;
            }
            if self.is_told_without_asking() {
                self.tell_without_asking();
                continue;
            }
            match command::lines(command, job.mailbox(), &self.dialect) {
                Ok(lines) if lines.is_empty() => {
                    let selected = job.mailbox().and(self.selected.as_ref()).map(|(_, s)| s.clone());
                    self.finish_first(Ok(Done { code: None, selected }));
                }
                Ok(lines) => self.send(lines),
                Err(error) => self.finish_first(Err(error)),
            }
        }
    }

    /// Is the next a STATUS of the mailbox that is selected?
    fn is_told_without_asking(&self) -> bool {
        let asked = self.queue.front().map(|job| &job.request.command);
        matches!((asked, &self.selected), (Some(Command::Status(name)), Some((here, _))) if name == here)
    }

    fn tell_without_asking(&mut self) {
        let selected = self.selected.as_ref().map(|(_, selected)| selected.clone());
        self.finish_first(Ok(Done { code: None, selected }));
    }

    fn finish_first(&mut self, result: Result<Done>) {
        if let Some(job) = self.queue.pop_front() {
            job.finish(result);
        }
    }

    fn send(&mut self, lines: Vec<Line>) {
        let Some(job) = self.queue.pop_front() else { return };
        self.opened.retain(|name| !job.must_leave(name));
        self.watch.forget(|name| job.must_leave(name));
        let start = self.put_out;
        let mut lines = VecDeque::from(lines);
        // New UIDs are paired with the old ones by their order, and Stalwart carries out at once what it gets at once.
        let one_by_one = matches!(job.request.command, Command::Copy { .. } | Command::Move { .. });
        let first = if one_by_one { 1 } else { lines.len() };
        let tags = lines.drain(..first).map(|line| self.queue_line(&line)).collect();
        self.write();
        self.flights.push_back(Flight::new(job, tags, lines, start));
    }

    /// Puts a line behind what is pending; the number of its tag.
    fn queue_line(&mut self, line: &Line) -> u64 {
        self.tags += 1;
        self.sent += 1;
        let tag = self.tags;
        if self.debug {
            tracing::debug!(target: "imapfs::protocol", "C: T{tag} {}", printable(line.printable().as_bytes(), 500));
        }
        let chunks = line.encode(&format!("T{tag}"), self.dialect.literals);
        self.pending.extend(chunks.into_iter().map(|chunk| (tag, chunk)));
        tag
    }

    /// Writes what is pending up to what waits for a `+`.
    fn write(&mut self) {
        while let Some((_, chunk)) = self.pending.pop_front_if(|(_, chunk)| !chunk.waits) {
            self.put(chunk.octets);
        }
    }

    fn put(&mut self, octets: Octets) {
        self.put_out += octets.len();
        self.output.push(octets);
    }

    /// Takes a response. `handed`: how many octets of the output may have reached the server.
    ///
    /// Errors: the connection is of no use any more.
    pub fn receive(&mut self, frame: &Frame, handed: u64) -> Result<Progress> {
        self.handed = handed;
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
        if self.pending.is_empty() && self.idle_begun() {
            return Ok(Progress::Some);
        }
        let chunk = self.pending.pop_front();
        let (_, chunk) = chunk.ok_or_else(|| Error::protocol("the server asked for more where nothing more is due"))?;
        self.put(chunk.octets);
        self.write();
        Ok(Progress::Some)
    }

    /// Has a message not been handed to the server to its end?
    fn is_message_on_its_way(&self) -> bool {
        self.handed < self.put_out && self.flights.front().is_some_and(|f| is_upload(f.command()))
    }

    fn answer(&mut self, tag: &[u8], refusal: Refusal) -> Result<()> {
        if self.is_stray(tag) {
            return Ok(());
        }
        if !self.is_ready() && tag.starts_with(b"S") {
            if refusal.status != Status::Ok {
                return Err(Error::offline("the server refuses a connection what it let another one have"));
            }
            self.due -= 1;
            return Ok(());
        }
        let unknown = || Error::protocol("the server answered what it was not asked");
        let number = tag.strip_prefix(b"T").and_then(|n| std::str::from_utf8(n).ok()?.parse::<u64>().ok());
        let number = number.ok_or_else(unknown)?;
        let waiting = self.pending.iter().any(|(tag, _)| *tag == number);
        // A refusal may come at any time: what was announced to go at once still goes (RFC 7888 section 4).
        if refusal.status == Status::Ok && (waiting || self.is_message_on_its_way()) {
            let error = Error::protocol("the server answered a command before it was sent");
            // Whatever it means by it: it says that it was done.
            if let Some(flight) = self.flights.front_mut().filter(|f| f.command().is_change()) {
                flight.fail(Error::Uncertain(error.to_string().into()));
            }
            return Err(error);
        }
        if waiting {
            // Refused instead of a `+`: the rest of the command must not be sent.
            self.pending.retain(|(tag, _)| *tag != number);
            self.write();
        }
        if let Some(selecting) = self.selecting.take_if(|s| s.tag == number) {
            return self.selected(selecting, refusal);
        }
        self.useful |= refusal.status == Status::Ok;
        if self.watch_answered(number, &refusal) || self.compress_answered(number, &refusal) {
            return Ok(());
        }
        let at = self.flights.iter().position(|f| f.tags.contains(&number)).ok_or_else(unknown)?;
        if !self.flights[at].answer(number, refusal) {
            return Ok(());
        }
        if let Some(line) = self.flights[at].next_line() {
            let tag = self.queue_line(&line);
            self.flights[at].tags.push_back(tag);
            self.write();
        } else if let Some(flight) = self.flights.remove(at) {
            let selected = match (flight.job.mailbox(), &self.selected) {
                (Some(_), Some((_, selected))) => Some(selected.clone()),
                _ => None,
            };
            flight.finish(selected);
        }
        Ok(())
    }

    /// The connection is lost, and `handed` octets of the output may have reached the server: what may be sent again, in
    /// order; the rest ends with `error`. A command that ran into its deadline is not sent again. That a connection was never
    /// ready is no command's fault.
    pub fn lose(&mut self, error: &Error, handed: u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        let attempts = u32::from(self.is_ready());
        // A file that cannot be read concerns nobody but whoever wanted it sent.
        let local = matches!(error, Error::Local(_));
        let mut blamed = self.is_ready() && !local && !matches!(error, Error::Offline(_) | Error::Busy(_));
        if let Some(selecting) = self.selecting.take() {
            // Sent behind it or waiting for it: the first of them is to blame, unless it was to be watched.
            blamed &= !selecting.watches;
            let waits = self.flights.is_empty() && !selecting.watches;
            let asker = selecting.job.or_else(|| waits.then(|| self.queue.pop_front()).flatten());
            if let Some(mut job) = asker {
                job.attempts += attempts;
                if blamed {
                    job.finish(Err(error.clone()))
                } else {
                    jobs.push(job)
                }
                blamed = false;
            }
        }
        let waiting: u64 = self.pending.drain(..).map(|(_, chunk)| chunk.octets.len()).sum();
        let unsent = self.put_out.saturating_sub(handed) + waiting;
        for (n, flight) in std::mem::take(&mut self.flights).into_iter().enumerate() {
            let uploads = is_upload(flight.command());
            // A message of which octets are missing was not taken. The last two of the command end its line.
            let handed = if uploads && unsent > 2 { 0 } else { handed };
            let job = flight.lost(error, n == 0 && (blamed || local && uploads), handed);
            jobs.extend(job.map(|job| Job { attempts: job.attempts + attempts, ..job }));
        }
        jobs.extend(self.queue.drain(..));
        jobs
    }
}

/// Does it bring a message?
fn is_upload(command: &Command) -> bool {
    matches!(command, Command::Append { .. } | Command::Replace { .. })
}

/// Both kinds of search have the same answer.
fn is_search(command: &Command) -> bool {
    matches!(command, Command::SearchAll | Command::Search { .. } | Command::Query(_))
}

/// Do the UIDs of the request belong to another generation of the mailbox?
fn is_stale(target: &Target, selected: &Selected) -> bool {
    match target {
        Target::Mailbox { validity: Some(validity), .. } => selected.uid_validity != Some(*validity),
        _ => false,
    }
}
