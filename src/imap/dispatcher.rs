//! Which connection does what: the task behind a client. It opens connections when they are needed, as many as the
//! server lets it, chooses one for each request, and keeps off a server that is away.
//!
//! 1. Place 0 is for requests without a mailbox (and for watching); the next for small reads; the rest for bulk. A
//!    bulk read never goes where small ones go, unless there is but one connection.
//! 2. A connection that has the mailbox selected is preferred, then an idle one, then a new one. What the server reads
//!    much for to tell little (the end of a large part) and what is small otherwise keep off each other, where they can.
//! 3. A mailbox that is about to be removed or renamed is left by all connections: its name may soon mean another one.
//! 4. When the server is away, one request at a time probes, with growing pauses; the others fail at once.
//! 5. Where one connection is lost those that are idle are tried: what ended it may have ended them without a sign.

mod choosing;
mod first_list;
mod watching;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::choosing::{CROWDED_COST, DEAR, is_deep, message};
use self::first_list::FirstList;
use self::watching::Clocks;
use super::dialect::Dialect;
use super::flight::{Job, Load};
use super::machine::Machine;
use super::options::Options;
use super::pace::Speed;
use super::request::{Class, Command, Request};
use super::response::Data;
use super::server::{Event, Server};
use super::session::{self, End, Session};
use super::setup::{self, Opened, Wire};
use super::transport::Counters;
use crate::error::{Error, Result};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::Uid;

/// Pauses between attempts to reach a server that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The first pause after a refused login: a wrong password tried over and over locks accounts.
const AUTH_PAUSE: Duration = Duration::from_secs(30);
/// How long fewer connections are used after the server refused one more, and after one was lost on the way.
const FEWER: Duration = Duration::from_secs(180);
const FEWER_SHORTLY: Duration = Duration::from_secs(5);
/// How often a request is sent: once more when a connection was lost under it.
const MAX_ATTEMPTS: u32 = 2;
/// A network that goes takes so long to go.
const SHORTLY: Duration = Duration::from_secs(1);
/// After so many connections in a row that were lost before they had carried out a command the server counts as away.
const MAX_USELESS: u32 = 3;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Place 0.
    Watch,
    Small,
    Bulk,
}

/// A connection as the dispatcher sees it.
struct Slot {
    id: u64,
    place: Place,
    jobs: mpsc::UnboundedSender<Job>,
    since: Instant,
    /// Small requests that it was given and has not answered.
    small: Arc<AtomicUsize>,
    /// The same of bulk reads.
    bulk: Arc<AtomicUsize>,
    /// The same of small requests for which the server reads much.
    deep: Arc<AtomicUsize>,
    /// The mailbox of the last job.
    mailbox: Option<MailboxName>,
    /// The message of the last bulk read: Dovecot reads on from where it was in a message, and from the beginning
    /// when it was in another.
    message: Option<Uid>,
    /// The mailbox that it watches in between.
    watched: Option<MailboxName>,
}

/// A connection that is being opened.
struct Opening {
    place: Place,
    /// Nobody waits for it yet.
    ahead: bool,
    began: Instant,
}

/// What a client asks of the dispatcher itself.
#[derive(Debug)]
pub enum Order {
    /// All connections are to be closed, and then this is to be told.
    Close(oneshot::Sender<()>),
    /// This mailbox is to be watched.
    Watch(MailboxName),
}

type Channel<T> = (mpsc::UnboundedSender<T>, mpsc::UnboundedReceiver<T>);

/// See the top of the file.
pub struct Dispatcher {
    options: Arc<Options>,
    events: mpsc::UnboundedSender<Event>,
    counters: Arc<Counters>,
    server: Arc<Server>,
    slots: Vec<Slot>,
    next_id: u64,
    /// The connections that are being opened, one for each place.
    opening: Vec<Opening>,
    /// When a connection was lost last.
    lost: Option<Instant>,
    /// Jobs that wait for one that is being opened.
    waiting: VecDeque<Job>,
    /// How many connections the server bears, and until when that is believed.
    bearable: Option<(usize, Instant)>,
    /// The server is away: until when nothing is tried, the pause, and why.
    away: Option<(Instant, Duration, Error)>,
    /// Connections in a row that carried out no command.
    useless: u32,
    /// The mailbox that is to be watched.
    watched: Option<MailboxName>,
    first_list: FirstList,
    clocks: Clocks,
    opened: Channel<(Place, Result<Opened>)>,
    ends: Channel<(u64, End)>,
}

impl Dispatcher {
    /// A dispatcher with its first connection, and what LIST told over it.
    pub fn new(
        options: Options,
        events: mpsc::UnboundedSender<Event>,
        counters: Arc<Counters>,
        server: Arc<Server>,
        wire: Wire,
        listed: Option<Vec<Data>>,
    ) -> Self {
        let mut dispatcher = Self {
            options: Arc::new(options),
            events,
            counters,
            server: Arc::clone(&server),
            slots: Vec::new(),
            next_id: 0,
            opening: Vec::new(),
            lost: None,
            waiting: VecDeque::new(),
            bearable: None,
            away: None,
            useless: 0,
            watched: None,
            first_list: FirstList::new(listed),
            clocks: Clocks::new(),
            opened: mpsc::unbounded_channel(),
            ends: mpsc::unbounded_channel(),
        };
        dispatcher.add(Place::Watch, wire, &server);
        dispatcher
    }

    /// Works until all clients are gone or one of them closes.
    pub async fn run(
        mut self,
        mut requests: mpsc::UnboundedReceiver<Request>,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) {
        let closed = loop {
            let due = self.until_due();
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.dispatch(Job::new(request)),
                    None => break None,
                },
                Some(order) = orders.recv() => match order {
                    Order::Close(done) => break Some(done),
                    Order::Watch(name) => self.watch(name),
                },
                Some((place, opened)) = self.opened.1.recv() => self.opened(place, opened),
                Some((id, end)) = self.ends.1.recv() => self.ended(id, end),
                () = due => self.due(),
            }
        };
        requests.close();
        while let Some(request) = requests.recv().await {
            Job::new(request).finish(Err(Error::offline("the client is closed")));
        }
        self.fail_waiting(&Error::offline("the client is closed"));
        // Dropping its channel lets a session finish what is in flight and log out, within two seconds.
        let mut open: Vec<u64> = self.slots.drain(..).map(|slot| slot.id).collect();
        while !open.is_empty() {
            let Some((id, end)) = self.ends.1.recv().await else { break };
            for job in end.jobs {
                job.finish(Err(Error::offline("the client is closed")));
            }
            open.retain(|at| *at != id);
        }
        if let Some(done) = closed {
            let _ = done.send(());
        }
    }

    /// Gives a job to a connection, or lets it wait for one, or fails it.
    fn dispatch(&mut self, job: Job) {
        self.look_at_clocks();
        let Some(job) = self.first_list.answer(job) else { return };
        if let Some(on) = job.request.on {
            match self.slots.iter().position(|slot| slot.id == on) {
                Some(at) => self.give(at, job),
                None => job.finish(Err(Error::offline("the connection that was asked is gone"))),
            }
            return;
        }
        let most = self.most();
        let wanted = match job.request.class {
            Class::Bulk if most > 1 => Place::Bulk,
            _ if job.mailbox().is_none() => Place::Watch,
            // With two connections the first serves all that is small.
            Class::Small if most > 2 => Place::Small,
            _ => Place::Watch,
        };
        let room = self.has_room(wanted);
        match self.choose(wanted, &job) {
            Some((cost, at)) => {
                let bulks = self.slots.iter().filter(|s| s.place == Place::Bulk).count();
                // One place is left for small reads where there are more than two.
                let room = room && (wanted != Place::Bulk || bulks + 2 < most.max(3));
                // What is dear waits for a connection of its own. What has only the first connection, or a crowded one, does
                // not wait, but its place is prepared.
                if room && wanted != Place::Watch && cost > DEAR {
                    self.waiting.push_back(job);
                    self.open(wanted);
                    return;
                }
                // Who only looks into a mailbox may want nothing from it.
                let looks = matches!(job.request.command, Command::Select | Command::Resync { .. });
                let alone = self.slots.len() == 1 && wanted == Place::Small;
                if room && wanted != Place::Watch && !looks && (alone || cost >= CROWDED_COST) {
                    self.open(wanted);
                }
                self.give(at, job);
            }
            None if room => {
                self.waiting.push_back(job);
                self.open(if self.slots.is_empty() { Place::Watch } else { wanted });
            }
            None if !self.opening.is_empty() => self.waiting.push_back(job),
            // No room for another connection: whichever has least to do.
            None => match self.least_loaded() {
                Some(at) => {
                    if wanted == Place::Bulk && self.slots.len() > 1 {
                        self.slots[at].place = Place::Bulk;
                    }
                    self.give(at, job);
                }
                None => {
                    let error = self.away.as_ref().map(|(.., error)| error.clone());
                    job.finish(Err(error.unwrap_or_else(|| Error::offline("no connection"))));
                }
            },
        }
    }

    fn give(&mut self, at: usize, mut job: Job) {
        if let (Some(name), None) = (job.leaves(), &job.leave) {
            self.leave(at, name);
        }
        let slot = &mut self.slots[at];
        let bulk = job.request.class == Class::Bulk;
        let counter = match bulk {
            true => &slot.bulk,
            false if is_deep(&job) => &slot.deep,
            false => &slot.small,
        };
        (job.load, job.connection) = (Some(Load::new(counter)), slot.id);
        if let Some(name) = job.mailbox() {
            slot.mailbox = Some(name.clone());
        }
        if bulk {
            slot.message = message(&job);
        }
        if let Err(mpsc::error::SendError(mut job)) = slot.jobs.send(job) {
            // The connection has just been lost; its end is on the way here.
            job.load = None;
            let id = slot.id;
            self.watch_lost(id, Some(&Error::offline("the connection is lost")));
            self.slots.remove(at);
            self.dispatch(job);
        }
    }

    /// All but the connection `at`, which does so by itself, leave this mailbox and those below it, when they have done
    /// what they were given.
    fn leave(&mut self, at: usize, name: &MailboxName) {
        self.watched.take_if(|watched| Job::leave(name.clone()).must_leave(watched));
        for (n, slot) in self.slots.iter_mut().enumerate() {
            let job = Job::leave(name.clone());
            let watched = slot.watched.take_if(|here| job.must_leave(here)).is_some();
            if (slot.mailbox.take_if(|here| job.must_leave(here)).is_some() || watched) && n != at {
                let _ = slot.jobs.send(job);
            }
        }
    }

    fn is_reachable(&self) -> bool {
        self.away.as_ref().is_none_or(|(until, ..)| Instant::now() >= *until)
    }

    fn most(&mut self) -> usize {
        if self.bearable.is_some_and(|(_, until)| Instant::now() >= until) {
            self.bearable = None;
        }
        let wanted = self.options.connections.clamp(1, 16);
        self.bearable.map_or(wanted, |(most, _)| most.min(wanted))
    }

    /// May a connection be opened for this place? Of a server that may be away one attempt is enough.
    fn has_room(&mut self, place: Place) -> bool {
        let most = self.most();
        let is_opening = self.opening.iter().any(|opening| opening.place == place || self.slots.is_empty());
        !is_opening && self.slots.len() + self.opening.len() < most && self.is_reachable()
    }

    fn open(&mut self, place: Place) {
        self.begin_opening(place, false);
        // Who lists a mailbox will read from it: the round trips of that login pass at the same time.
        if place == Place::Small && self.slots.iter().all(|s| s.place != Place::Bulk) && self.has_room(Place::Bulk) {
            self.begin_opening(Place::Bulk, true);
        }
    }

    fn begin_opening(&mut self, place: Place, ahead: bool) {
        self.opening.push(Opening { place, ahead, began: Instant::now() });
        let (options, counters) = (Arc::clone(&self.options), Arc::clone(&self.counters));
        let (server, opened) = (Arc::clone(&self.server), self.opened.0.clone());
        // One that was lost before it did anything may have been refused what the first was granted.
        let trusts = self.useless == 0;
        tokio::spawn(async move {
            // Metadata shrinks to a tenth. Bodies shrink by a quarter, and on a fast line deflating costs more than that: the
            // connections for them ask for it when one has seen that the line is slow.
            let compress = place != Place::Bulk || counters.seen.speed() == Speed::Slow;
            let result = setup::open(&options, &counters, Some(&server), compress, trusts).await;
            let _ = opened.send((place, result));
        });
    }

    fn opened(&mut self, place: Place, opened: Result<Opened>) {
        let at = self.opening.iter().position(|opening| opening.place == place);
        let opening = at.map(|at| self.opening.swap_remove(at));
        let ahead = opening.as_ref().is_some_and(|opening| opening.ahead);
        // When the network goes, what is being opened goes with the rest.
        let early = match (self.lost, opening) {
            (Some(lost), Some(opening)) if opening.began <= lost => true,
            // And may take with it the first that was begun since.
            (Some(lost), _) => lost.elapsed() < SHORTLY && self.lost.take().is_some(),
            (None, _) => false,
        };
        if let Err(error) = &opened {
            self.counters.failed(error);
        }
        match opened {
            Ok(opened) => {
                self.away = None;
                self.add(place, opened.wire, &opened.server);
            }
            // Whether the server is away, the next attempt tells. One that was cut before the greeting looks refused.
            Err(error) if self.slots.is_empty() && (ahead || early && !matches!(error, Error::Auth(_))) => {
                tracing::info!(%error, "no connection, as the others were lost");
            }
            Err(error) if self.slots.is_empty() => self.fall_back(error),
            Err(error) => {
                let most = self.slots.len() + self.opening.len();
                tracing::info!(%error, "no further connection; going on with {most}");
                let pause = if matches!(error, Error::Offline(_)) { FEWER_SHORTLY } else { FEWER };
                self.bearable = Some((most, Instant::now() + pause));
            }
        }
        // Each finds its place, or opens the next connection, or waits for that.
        for job in std::mem::take(&mut self.waiting) {
            self.dispatch(job);
        }
    }

    fn fall_back(&mut self, error: Error) {
        let least = if matches!(error, Error::Auth(_)) { AUTH_PAUSE } else { FIRST_PAUSE };
        let pause = self.away.as_ref().map_or(least, |(_, last, _)| (*last * 2).max(least)).min(LONGEST_PAUSE);
        // Between half and the whole of it, so that many clients do not come back at the same moment.
        let random = RandomState::new().hash_one(self.next_id) % 1000;
        let jittered = pause / 2 + pause.mul_f64(random as f64 / 2000.0);
        tracing::warn!(%error, "the server is away; next attempt in {:.1} s at the earliest", jittered.as_secs_f64());
        let shown = match &error {
            Error::Auth(_) | Error::Offline(_) => error,
            other => Error::offline(other.to_string()),
        };
        self.fail_waiting(&shown);
        self.away = Some((Instant::now() + jittered, pause, shown));
    }

    fn fail_waiting(&mut self, error: &Error) {
        for job in self.waiting.drain(..) {
            job.finish(Err(error.clone()));
        }
    }

    fn add(&mut self, place: Place, wire: Wire, server: &Server) {
        // One that was begun ahead of need may be the only one that is left by now.
        let first = self.slots.iter().all(|slot| slot.place != Place::Watch);
        let place = if first { Place::Watch } else { place };
        let (jobs, receiver) = mpsc::unbounded_channel();
        let mut dialect = Dialect::new(server, self.options.read_only);
        dialect.compress &= self.options.compress && !wire.reader.is_inflating();
        let machine = Machine::new(dialect, self.events.clone(), self.options.debug_protocol).behind(wire.due);
        let session = Session::new(wire, machine, self.options.timeout);
        self.next_id += 1;
        session::spawn(session, receiver, self.next_id, self.ends.0.clone());
        self.slots.push(Slot {
            id: self.next_id,
            since: Instant::now(),
            place,
            jobs,
            small: Arc::default(),
            bulk: Arc::default(),
            deep: Arc::default(),
            mailbox: None,
            message: None,
            watched: None,
        });
        self.assign_watch();
    }

    /// A connection is gone. What may be sent again is, on another one.
    fn ended(&mut self, id: u64, mut end: End) {
        // What a probe was to show is known, and nobody waits for it.
        end.jobs.retain(|job| !job.probe);
        let since = self.slots.iter().find(|s| s.id == id).map(|s| s.since);
        if end.error.is_some() {
            self.lost = Some(Instant::now());
            // It may be another network.
            self.counters.seen.set(Speed::Unknown);
        }
        self.watch_lost(id, end.error.as_ref());
        self.slots.retain(|s| s.id != id);
        if end.error.is_some() {
            // Those that wait for nothing show it now, and not one by one when they are needed.
            self.probe(|slot| slot.load() == 0);
        }
        // One that is ready and that nobody asked anything says nothing of the server.
        self.useless = match end.useful || end.error.is_none() {
            true => 0,
            false => self.useless + u32::from(!end.jobs.is_empty() || !end.ready),
        };
        let error = end.error.unwrap_or_else(|| Error::offline("the connection is closed"));
        tracing::info!(%error, "connection closed");
        self.counters.failed(&error);
        // The next one keeps the place for watching.
        if !self.slots.iter().any(|s| s.place == Place::Watch)
            && let Some(at) =
                self.slots.iter().position(|s| s.place == Place::Small).or((!self.slots.is_empty()).then_some(0))
        {
            self.slots[at].place = Place::Watch;
            self.assign_watch();
        }
        if self.useless >= MAX_USELESS && self.slots.is_empty() && self.opening.is_empty() {
            self.useless = 0;
            self.fall_back(error.clone());
        }
        for mut job in end.jobs {
            job.load = None;
            // When the network goes, all connections are lost at once: the retry is spent on one that was made since.
            let now = Instant::now();
            let first = *job.lost.get_or_insert(now);
            if first < now && since.is_none_or(|since| since < first) {
                job.attempts = job.attempts.saturating_sub(1);
            }
            if job.attempts >= MAX_ATTEMPTS || job.request.on.is_some() {
                job.finish(Err(if error.is_connection_lost() {
                    error.clone()
                } else {
                    Error::offline(error.to_string())
                }));
            } else {
                self.dispatch(job);
            }
        }
    }
}
