//! The task that owns one connection after login: it moves octets between the wire and the [`Machine`], and keeps
//! the deadlines.
//!
//! All that is queued goes out in one write. A requester that goes away changes nothing on the wire. While something
//! is awaited, three clocks run: something useful must come within `Options::timeout`; a slow trickle must amount to
//! [`FLOOR`]; and what nobody asked for is bounded by the machine.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::flight::Job;
use super::machine::{Machine, Progress};
use super::outbox::Outbox;
use super::pace::{Pace, Speed};
use super::server::Watching;
use super::setup::Wire;
use crate::error::{Error, Result};

/// Octets that must have come in [`WINDOW`] while a command is in flight, unless one was answered: 1 KiB/s.
const FLOOR: u64 = 60 << 10;
const WINDOW: Duration = Duration::from_secs(60);
/// The same for a server that says `* OK still searching`.
const PATIENT_WINDOW: Duration = Duration::from_secs(300);
/// An idle connection is asked after this time: servers may hang up after 30 minutes (RFC 9051 section 5.4), NATs
/// forget after less.
const KEEPALIVE: Duration = Duration::from_secs(9 * 60);
/// Nobody wants anything for so long: the watching begins. It costs a few round trips each time.
const CALM: Duration = Duration::from_millis(300);
/// IDLE is begun anew after so long, whatever the server says in it (RFC 2177 section 3: within 29 minutes).
const REFRESH: Duration = Duration::from_secs(28 * 60);
/// How often a server that refuses IDLE is asked.
const POLL: Duration = Duration::from_secs(15);
/// After this much silence the connection may be dead without anybody having noticed: the next command has only
/// [`PROBE`] for a first sign of life, and is sent again on a new connection.
const DOUBTFUL: Duration = Duration::from_secs(30);
const PROBE: Duration = Duration::from_secs(10);
/// Octets of one response beyond what the commands in flight may bring, before the connection is given up rather
/// than read on for nothing.
const MAX_EXCESS: u64 = 16 << 20;
/// After so many octets in one read those who wait for them come first: from a socket that never runs dry the task
/// would read on for megabytes, and what it hands out would pile up.
const MUCH: usize = 16 << 10;
/// So many answers to a command that nobody has taken are waited for, and so many times a millisecond.
const MANY: usize = 4096;
const PATIENCE: u32 = 20;
/// How long what is in flight may take when the connection is being closed, and then LOGOUT.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Debug)]
pub struct End {
    /// Why; `None` after [`Session::serve`] was told to close.
    pub error: Option<Error>,
    /// Jobs that may be sent again on another connection, in order.
    pub jobs: Vec<Job>,
    /// Whether it carried out any command.
    pub useful: bool,
    /// Whether the server granted what was asked when it was made.
    pub ready: bool,
}

/// One connection and its clocks.
pub struct Session {
    wire: Wire,
    machine: Machine,
    outbox: Outbox,
    timeout: Duration,
    /// Octets that had been written when it was last looked: of a long message they are progress.
    written: u64,
    /// When something useful came last, or the wait began.
    progress: Instant,
    /// When anything came last.
    heard: Instant,
    /// Silence is doubtful: the first octet is due within [`PROBE`] of this.
    probe: Option<Instant>,
    window: Instant,
    window_octets: u64,
    patient: bool,
    /// When somebody last wanted something.
    used: Instant,
    /// Since when IDLE is on.
    idling: Option<Instant>,
    pace: Pace,
}

impl Session {
    /// A session over a connection that is ready for commands.
    pub fn new(wire: Wire, machine: Machine, timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            wire,
            machine,
            outbox: Outbox::default(),
            timeout,
            written: 0,
            progress: now,
            heard: now,
            probe: None,
            window: now,
            window_octets: 0,
            patient: false,
            used: now,
            idling: None,
            pace: Pace::default(),
        }
    }

    /// Carries out jobs until their channel closes or the connection is lost.
    pub async fn serve(mut self, mut jobs: UnboundedReceiver<Job>) -> End {
        match self.work(&mut jobs).await {
            Ok(()) => {
                // In the middle of a message it would become a part of it.
                if self.outbox.is_empty() && !self.machine.is_mid_command() {
                    self.say_goodbye().await;
                }
                let jobs = self.machine.lose(&Error::offline("the connection is closed"), self.outbox.handed());
                self.end(None, jobs)
            }
            Err(error) => {
                jobs.close();
                let mut lost = self.machine.lose(&error, self.outbox.handed());
                while let Ok(job) = jobs.try_recv() {
                    lost.push(job);
                }
                self.end(Some(error), lost)
            }
        }
    }

    fn end(&self, error: Option<Error>, jobs: Vec<Job>) -> End {
        End { error, jobs, useful: self.machine.is_useful(), ready: self.machine.is_ready() }
    }

    async fn work(&mut self, jobs: &mut UnboundedReceiver<Job>) -> Result<()> {
        let mut closing = None;
        let mut open = true;
        // What came with the last answer of the set-up is in the framer already.
        self.take_frames()?;
        loop {
            while let Ok(job) = jobs.try_recv() {
                self.take(job);
            }
            self.pump()?;
            if closing.is_some_and(|at| self.machine.is_idle() || Instant::now() >= at) {
                return Ok(());
            }
            let deadline = self.deadline().min(closing.unwrap_or(self.deadline()));
            let Self { wire, outbox, .. } = self;
            tokio::select! {
                job = jobs.recv(), if open => match job {
                    Some(job) => self.take(job),
                    None => {
                        open = false;
                        closing = Some(Instant::now() + FAREWELL);
                    }
                },
                read = wire.reader.read(wire.framer.buffer()) => match read {
                    Ok(0) => return Err(Error::offline("the server closed the connection")),
                    Ok(n) => {
                        self.arrived(n as u64)?;
                        if n >= MUCH {
                            tokio::task::yield_now().await;
                        }
                        self.let_take().await;
                    }
                    Err(e) => return Err(Error::offline(format!("connection lost: {e}"))),
                },
                written = outbox.write(&mut wire.writer), if wire.writer.is_pending() || !outbox.is_empty() => {
                    written?;
                    self.sent();
                }
                () = sleep_until(deadline) => self.late()?,
            }
        }
    }

    /// Lets whoever asked take what has come, when that is much: what comes faster than it is taken would pile up. Not for
    /// long: he may wait for something else of this connection first.
    async fn let_take(&mut self) {
        for _ in 0..PATIENCE {
            if self.machine.untaken() < MANY {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn take(&mut self, job: Job) {
        if job.probe {
            let now = Instant::now();
            match self.machine.is_busy() {
                true => self.probe = Some(now),
                false => self.heard = now.checked_sub(DOUBTFUL).unwrap_or(now),
            }
        }
        self.machine.push(job);
    }

    /// Writes what the machine has to say; the clocks start when the waiting does.
    fn pump(&mut self) -> Result<()> {
        let waited = self.machine.is_busy();
        // Whether a change was made on a connection that had died in silence nobody could say: it is asked first.
        if !waited && self.machine.is_once_next() && self.heard.elapsed() >= DOUBTFUL {
            self.machine.push_first(Job::noop());
        }
        let now = Instant::now();
        if self.machine.has_jobs() {
            self.used = now;
        } else if self.machine.can_watch() && now >= self.used + CALM {
            self.machine.begin_watch();
        }
        if self.wire.open.counters().seen.speed() == Speed::Slow {
            self.machine.compress();
        }
        self.machine.pump();
        self.note_watching(now);
        let (output, commands) = self.machine.take_output();
        self.wire.open.counters().commands.fetch_add(commands, Ordering::Relaxed);
        for octets in output {
            self.outbox.push(octets);
        }
        self.wire.framer.set_limits(self.machine.limits());
        if !waited && self.machine.is_busy() {
            let now = Instant::now();
            // An IDLE is ended at once, whatever else takes long.
            let doubtful = self.idling.is_some() || now.duration_since(self.heard) >= DOUBTFUL;
            self.probe = doubtful.then_some(now);
            self.progress = now;
            self.new_window(now);
        }
        Ok(())
    }

    fn note_watching(&mut self, now: Instant) {
        self.idling = self.machine.is_idling().then(|| self.idling.unwrap_or(now));
        let watching = self.machine.watching();
        if watching != Watching::Nothing {
            self.wire.open.counters().watching.store(watching as u8, Ordering::Relaxed);
        }
    }

    /// Octets were written: the server has all the more to take in before it can answer.
    fn sent(&mut self) {
        let written = self.wire.writer.written();
        self.window_octets += written - self.written;
        self.written = written;
        let now = Instant::now();
        self.progress = now;
        if self.window_octets >= FLOOR {
            self.new_window(now);
        }
    }

    fn new_window(&mut self, now: Instant) {
        self.window = now;
        self.window_octets = 0;
        self.patient = false;
    }

    /// Octets came; what they make is dealt with.
    fn arrived(&mut self, octets: u64) -> Result<()> {
        let now = Instant::now();
        self.heard = now;
        self.probe = None;
        self.window_octets += octets;
        if self.window_octets >= FLOOR {
            self.new_window(now);
        }
        self.take_frames()?;
        while self.machine.take_part(&mut self.wire.framer) {}
        let under_way = self.wire.framer.progress();
        // What is inflated comes faster than the line.
        let is_true = |speed: &Speed| *speed == Speed::Slow || !self.wire.reader.is_inflating();
        if let Some(speed) = self.pace.see(now, octets, under_way > 0).filter(is_true) {
            self.wire.open.counters().seen.set(speed);
        }
        if under_way > 0 {
            // In the middle of a response octets are progress, as long as somebody may want them.
            self.progress = now;
            let limits = self.machine.limits();
            if under_way > limits.total.saturating_add(limits.line as u64).saturating_add(MAX_EXCESS) {
                return Err(Error::TooBig("the server sends more than was asked for".into()));
            }
        }
        Ok(())
    }

    fn take_frames(&mut self) -> Result<()> {
        while let Some(frame) = self.wire.framer.next_frame()? {
            let progress = self.machine.receive(&frame, self.outbox.handed())?;
            let now = Instant::now();
            match progress {
                Progress::None => continue,
                Progress::Alive => self.patient = true,
                Progress::Some => {}
                Progress::Answered => self.new_window(now),
            }
            self.progress = now;
            // An answer makes room for the next command, and its limits are others.
            if progress == Progress::Answered {
                self.compress();
                self.pump()?;
            }
        }
        Ok(())
    }

    /// Both directions are deflated from here on, if the server has just agreed to it.
    fn compress(&mut self) {
        if self.machine.begins_compress() {
            let Wire { reader, writer, framer, .. } = &mut self.wire;
            reader.inflate(&framer.take_rest());
            writer.deflate();
        }
    }

    fn deadline(&self) -> Instant {
        if !self.machine.is_busy() {
            let pause = if self.machine.watching() == Watching::Poll { POLL } else { KEEPALIVE };
            let keepalive = self.heard.max(self.progress) + pause;
            let refresh = self.idling.map_or(keepalive, |since| since + REFRESH);
            let watch = if self.machine.can_watch() { self.used + CALM } else { keepalive };
            return keepalive.min(refresh).min(watch);
        }
        let window = if self.patient { PATIENT_WINDOW } else { WINDOW };
        let probe = self.probe.map_or(self.progress + self.timeout, |at| at + PROBE);
        (self.progress + self.timeout).min(self.window + window).min(probe)
    }

    /// A deadline has passed.
    fn late(&mut self) -> Result<()> {
        let now = Instant::now();
        // A slow link takes long for one piece.
        if self.wire.writer.written() > self.written {
            self.sent();
        }
        if now < self.deadline() {
            return Ok(());
        }
        if !self.machine.is_busy() && self.machine.can_watch() {
            // The next step is made by who writes.
            return Ok(());
        }
        if !self.machine.is_busy() {
            self.progress = now;
            self.machine.push_first(Job::noop());
            return Ok(());
        }
        if self.probe.is_some() {
            return Err(Error::offline("the connection is dead"));
        }
        if now >= self.progress + self.timeout {
            return Err(Error::TimedOut(format!("no answer within {} s", self.timeout.as_secs()).into()));
        }
        Err(Error::TimedOut("the server sends less than 1 KiB a second".into()))
    }

    /// LOGOUT; whether the server hears it does not matter.
    async fn say_goodbye(&mut self) {
        let idling = self.machine.is_idling();
        let Wire { reader, writer, framer, .. } = &mut self.wire;
        let goodbye = async {
            writer.push(if idling { b"DONE\r\nZ LOGOUT\r\n" } else { b"Z LOGOUT\r\n" })?;
            writer.write().await?;
            framer.take_rest();
            let mut octets = 0;
            while octets < 1 << 20 {
                match reader.read(framer.buffer()).await? {
                    0 => break,
                    n => octets += n,
                }
                framer.take_rest();
            }
            writer.shutdown().await
        };
        if !matches!(timeout(FAREWELL, goodbye).await, Ok(Ok(()))) {
            tracing::debug!("the server did not answer LOGOUT");
        }
    }
}

/// Starts the task of a session; its end is sent to `ends` with `id`.
pub fn spawn<I: Send + 'static>(
    session: Session,
    jobs: UnboundedReceiver<Job>,
    id: I,
    ends: UnboundedSender<(I, End)>,
) {
    tokio::spawn(async move {
        let end = session.serve(jobs).await;
        let _ = ends.send((id, end));
    });
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "session_watch_tests.rs"]
mod watch_tests;

#[cfg(test)]
#[path = "session_change_tests.rs"]
mod change_tests;

#[cfg(test)]
#[path = "session_stream_tests.rs"]
mod stream_tests;
