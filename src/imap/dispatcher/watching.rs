//! Which connection watches, what becomes of the watching when it is lost, and what a machine that slept is told.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::{Dispatcher, FIRST_PAUSE, Job, Place, Slot};
use crate::error::Error;
use crate::imap::response::{Data, Status};
use crate::imap::server::{Event, Watching};
use crate::mail::mailbox_name::MailboxName;

use std::sync::atomic::Ordering;

/// How often the clocks are compared while nobody asks anything.
const TICK: Duration = Duration::from_secs(10);
/// The wall clock is ahead of the other by this much: the machine was suspended, or somebody set the clock. The first
/// costs all connections, the second one NOOP each.
const JUMP: Duration = Duration::from_secs(15);

/// Two clocks, of which only the first goes on while the machine is suspended.
#[derive(Debug)]
pub(super) struct Clocks {
    wall: SystemTime,
    steady: std::time::Instant,
    next: Instant,
}

impl Clocks {
    pub(super) fn new() -> Self {
        Self { wall: SystemTime::now(), steady: std::time::Instant::now(), next: Instant::now() + TICK }
    }

    /// Was the machine suspended since this was asked last?
    fn have_jumped(&mut self) -> bool {
        let (wall, steady) = (SystemTime::now(), std::time::Instant::now());
        let passed = wall.duration_since(self.wall).unwrap_or_default();
        let jumped = is_jump(passed, steady.duration_since(self.steady));
        *self = Self { wall, steady, next: Instant::now() + TICK };
        jumped
    }
}

/// Do the clocks show that the machine was suspended?
fn is_jump(wall: Duration, steady: Duration) -> bool {
    wall > steady + JUMP
}

impl Dispatcher {
    pub(super) fn watch(&mut self, name: MailboxName) {
        self.watched = Some(name);
        // What the connection made of it is not known here: it may have given the mailbox up.
        self.slots.iter_mut().for_each(|slot| slot.watched = None);
        self.assign_watch();
    }

    /// Lets the connection in the first place watch.
    pub(super) fn assign_watch(&mut self) {
        let watcher = self.slots.iter_mut().find(|slot| slot.place == Place::Watch);
        if let (Some(name), Some(slot)) = (&self.watched, watcher)
            && slot.watched.as_ref() != Some(name)
        {
            slot.watched = Some(name.clone());
            // A connection that is gone already ends on its way here, and another takes its place.
            let _ = slot.jobs.send(Job::watch(name.clone()));
        }
    }

    /// What it costs to disturb a connection that watches. What needs no mailbox goes there all the same: Dovecot's other
    /// connections do not see at once what one of them did to the list of mailboxes.
    pub(super) fn disturbance(&self, slot: &Slot, job: &Job) -> usize {
        let spared = slot.watched.is_some() && self.slots.len() > 1 && job.mailbox().is_some();
        if spared { 2 } else { 0 }
    }

    /// The connection with this id is gone. Who listens must know that nobody told anything since.
    pub(super) fn watch_lost(&mut self, id: u64, error: Option<&Error>) {
        let watched = self.slots.iter().any(|slot| slot.id == id && slot.watched.is_some());
        if let Some(error) = error.filter(|_| watched) {
            self.counters.watching.store(Watching::Nothing as u8, Ordering::Relaxed);
            let text = Bytes::from(error.to_string());
            let _ = self.events.send(Event { mailbox: None, data: Data::Status(Status::Bye, None, text) });
        }
    }

    /// When a connection is to be made only to watch. Never where the login is refused: a password that is wrong does
    /// not get right by being tried, and accounts are locked for less.
    fn reconnects(&self) -> Option<Instant> {
        let alone = self.slots.is_empty() && self.opening.is_empty() && self.watched.is_some();
        match &self.away {
            _ if !alone => None,
            Some((.., Error::Auth(_))) => None,
            Some((until, ..)) => Some(*until),
            None => Some(Instant::now() + FIRST_PAUSE),
        }
    }

    /// Waits until something is to be done that nobody asks for.
    pub(super) fn until_due(&self) -> impl Future<Output = ()> + use<> {
        sleep_until(self.reconnects().map_or(self.clocks.next, |at| at.min(self.clocks.next)))
    }

    pub(super) fn due(&mut self) {
        self.look_at_clocks();
        if self.reconnects().is_some() && self.is_reachable() {
            self.open(Place::Watch);
        }
    }

    /// After the machine was suspended: connections may be dead without anybody having noticed, and a server that was
    /// away may be there again.
    pub(super) fn look_at_clocks(&mut self) {
        if self.clocks.have_jumped() {
            tracing::info!("the machine was suspended, or its clock was set: all connections are tried");
            if !matches!(self.away, Some((.., Error::Auth(_)))) {
                self.away = None;
            }
            self.probe(|_| true);
        }
    }

    /// Such connections are to show soon whether they are alive.
    pub(super) fn probe(&self, which: impl Fn(&Slot) -> bool) {
        for slot in self.slots.iter().filter(|slot| which(slot)) {
            // One that is gone needs no trying.
            let _ = slot.jobs.send(Job::probe());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::imap::frame::{Framer, Limits};
    use crate::imap::halves::halves;
    use crate::imap::options::{Credentials, Tls};
    use crate::imap::setup::{Open, Wire};
    use crate::imap::testing::options;
    use crate::imap::transport::Counters;

    /// Also when a request comes upon it before its end does.
    #[tokio::test]
    async fn who_listens_is_told_that_the_watch_was_lost() {
        for meets in [false, true] {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let (reader, writer) = halves(Box::new(ours), false);
            let counters = Arc::new(Counters::default());
            let (framer, open) = (Framer::new(Limits::default()), Open::new(Arc::clone(&counters)));
            let wire = Wire { reader, writer, framer, open, due: 0 };
            let (events, mut heard) = mpsc::unbounded_channel();
            let options = options(1, Tls::None, Credentials::Password("x".into()));
            let mut dispatcher = Dispatcher::new(options, events, counters, Arc::default(), wire, None);
            dispatcher.watch(MailboxName::new(b"INBOX"));
            drop(theirs);
            while dispatcher.ends.1.is_empty() {
                tokio::task::yield_now().await;
            }
            if meets {
                dispatcher.dispatch(Job::noop());
            }
            let (id, end) = dispatcher.ends.1.recv().await.unwrap();
            dispatcher.ended(id, end);
            let mut told = std::iter::from_fn(|| heard.try_recv().ok());
            assert!(told.any(|event| matches!(event.data, Data::Status(Status::Bye, ..))), "{meets}");
        }
    }

    #[test]
    fn a_machine_was_suspended_when_the_wall_clock_is_far_ahead() {
        for (wall, steady, want) in [(0, 0, false), (10, 10, false), (20, 10, false), (36, 20, true), (5, 60, false)] {
            assert_eq!(is_jump(Duration::from_secs(wall), Duration::from_secs(steady)), want, "{wall} {steady}");
        }
    }
}
