//! SELECT and UNSELECT: how a connection comes to its mailbox and leaves it, and what SELECT tells on the way (QRESYNC,
//! RFC 7162).

use super::{Machine, is_stale};
use crate::error::{Error, Result};
use crate::imap::command;
use crate::imap::flight::Job;
use crate::imap::line::Line;
use crate::imap::refusal::{self, Refusal};
use crate::imap::request::{Answer, Command, Done};
use crate::imap::response::{Code, Data, Selected, Status};
use crate::mail::mailbox_name::MailboxName;

/// A SELECT or UNSELECT on its way.
pub(super) struct Selecting {
    pub tag: u64,
    /// The job that asked for it, when it asked for nothing else.
    pub job: Option<Job>,
    /// `None` for UNSELECT.
    pub name: Option<MailboxName>,
    pub found: Selected,
    /// It is opened to be watched.
    pub watches: bool,
    /// Octets of rows that came for the job.
    received: u64,
}

impl Machine {
    pub(super) fn select(&mut self, name: MailboxName) {
        let asked = self.queue.front().filter(|job| job.mailbox() == Some(&name)).map(|job| &job.request.command);
        match command::select(&name, asked, &self.dialect) {
            Ok(line) => self.send_select(&line, Some(name)),
            Err(error) => self.finish_first(Err(error)),
        }
    }

    /// Leaves the mailbox: never by CLOSE, which expunges. A server without UNSELECT is sent to another one.
    pub(super) fn unselect(&mut self) {
        if self.dialect.unselect {
            self.send_select(&Line::new("UNSELECT"), None)
        } else {
            self.select(MailboxName::new(b"INBOX"))
        }
    }

    fn send_select(&mut self, line: &Line, name: Option<MailboxName>) {
        let tag = self.queue_line(line);
        self.write();
        self.selected = None;
        let asks = |job: &mut Job| job.request.command.is_select() && job.mailbox() == name.as_ref();
        let job = self.queue.pop_front_if(asks);
        let found =
            Selected { resynced: self.dialect.qresync && job.as_ref().is_some_and(is_resync), ..Selected::default() };
        self.selecting = Some(Selecting { tag, job, name, found, watches: false, received: 0 });
    }

    /// What came since the MODSEQ that was named with SELECT is for whoever named it. False for all else.
    pub(super) fn resync_row(&mut self, data: &Data, octets: u64) -> bool {
        let Some(Selecting { job: Some(job), found, received, .. }) = &mut self.selecting else { return false };
        if !is_resync(job) {
            return false;
        }
        match data {
            Data::Fetch(row) if row.uid.is_some() && row.flags.is_some() => {}
            Data::Vanished(true, _) => {}
            // Not understood, or cut: what it told is missing.
            Data::Other(keyword) if keyword == "VANISHED" => {
                found.resynced = false;
                return true;
            }
            _ => return false,
        }
        *received = received.saturating_add(octets);
        found.resynced &= *received <= job.request.limit;
        if found.resynced {
            job.request.answers.send(Answer::Data(data.clone()));
        }
        true
    }

    /// SELECT has its answer, and with it what was sent or waits behind it.
    pub(super) fn selected(&mut self, selecting: Selecting, refusal: Refusal) -> Result<()> {
        // Dovecot 2.3 goes on saying so on a connection that knew a mailbox which was deleted and made again.
        let was_open = selecting.name.as_ref().is_some_and(|name| self.opened.contains(name));
        let is_lost = || was_open && refusal.code.is_none() && refusal::command(&refusal) != Error::NotFound;
        // It also makes some mailboxes when they are first selected, and refuses one that another connection makes just then.
        let is_made = refusal.code == Some(Code::AlreadyExists) && !selecting.watches;
        if refusal.status != Status::Ok && (is_made || is_lost()) {
            // Who asked for it asks elsewhere.
            self.selecting = Some(selecting);
            return Err(Error::offline("a mailbox that can be selected is refused"));
        }
        let Selecting { name, job, mut found, watches, .. } = selecting;
        // A server that refuses UNSELECT has nothing selected.
        let Some(name) = name else { return Ok(()) };
        if refusal.status != Status::Ok {
            self.watch.forget(|watched| *watched == name);
            // Others that wait for the same mailbox would hear the same.
            let error = refusal::command(&refusal);
            if let Some(job) = job {
                job.finish(Err(error.clone()));
            }
            for flight in self.flights.iter_mut().filter(|flight| flight.job.mailbox() == Some(&name)) {
                flight.fail(error.clone());
            }
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
        if watches {
            self.watch_opened(&name, &found);
        }
        self.opened.insert(name.clone());
        self.selected = Some((name, found));
        Ok(())
    }
}

fn is_resync(job: &Job) -> bool {
    matches!(job.request.command, Command::Resync { .. })
}
