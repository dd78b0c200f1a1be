//! The [`Client`]: a handle to the few connections of an account, and what is known of the server and of its use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use super::dispatcher::{Dispatcher, Order};
use super::options::Options;
use super::pace::Speed;
use super::request::{self, Answer, Answers, Class, Command, Done, Request, Target};
use super::response::{Data, Selected};
use super::server::{Event, Login, Server, Stats, Watching};
use super::setup::{self, Opened};
use super::transport::Counters;
use crate::error::{Error, Result};
use crate::mail::mailbox_name::MailboxName;

/// A cloneable handle around the channel of requests.
#[derive(Clone, Debug)]
pub struct Client {
    requests: mpsc::UnboundedSender<Request>,
    server: Arc<Server>,
    login: Login,
    counters: Arc<Counters>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    /// The only connection that is asked.
    on: Option<u64>,
}

impl Client {
    /// Connects and logs in once, so that a wrong password or host is known at once; further connections are made
    /// when they are needed. What the server says unasked goes to `events`.
    ///
    /// Errors: [`Error::Offline`], [`Error::Auth`], [`Error::Busy`] for too many connections, [`Error::TimedOut`],
    /// [`Error::Protocol`], and what the source of credentials answers.
    pub async fn connect(options: Options, events: mpsc::UnboundedSender<Event>) -> Result<Self> {
        let counters = Arc::new(Counters::default());
        let Opened { wire, server, login, listed } = setup::open(&options, &counters, None, true, false).await?;
        let server = Arc::new(server);
        let (requests, receiver) = mpsc::unbounded_channel();
        let (orders, received) = mpsc::unbounded_channel();
        let dispatcher = Dispatcher::new(options, events, Arc::clone(&counters), Arc::clone(&server), wire, listed);
        tokio::spawn(dispatcher.run(receiver, received));
        Ok(Self { requests, server, login, counters, orders: Some(orders), on: None })
    }

    /// A client whose requests go to `requests`: for model servers and recorders.
    pub fn from_channel(requests: mpsc::UnboundedSender<Request>, server: Server) -> Self {
        let (server, login, counters) = (Arc::new(server), Login::default(), Arc::default());
        Self { requests, server, login, counters, orders: None, on: None }
    }

    /// The same client, for questions about what SELECT has just told: they go to the connection that told it. Another
    /// one may not have heard of it, nor hear of it in time. `Offline` when that connection is gone.
    pub fn on(&self, selected: &Selected) -> Self {
        Self { on: Some(selected.connection).filter(|connection| *connection > 0), ..self.clone() }
    }

    /// A client without a server: whatever is asked, it is unreachable.
    pub fn unreachable() -> Self {
        // Nobody is at the far end.
        Self::from_channel(mpsc::unbounded_channel().0, Server::default())
    }

    /// What the server is.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// How the first connection was made.
    pub fn login(&self) -> Login {
        self.login
    }

    /// What one of the connections has seen of the line last, since one was lost.
    pub fn speed(&self) -> Speed {
        self.counters.seen.speed()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            bytes_in: get(&self.counters.bytes_in),
            bytes_out: get(&self.counters.bytes_out),
            commands: get(&self.counters.commands),
            connections: get(&self.counters.connections),
            logins: get(&self.counters.logins),
            watching: *Watching::ALL
                .get(usize::from(self.counters.watching.load(Ordering::Relaxed)))
                .unwrap_or(&Watching::Nothing),
        }
    }

    /// The newest failure of a connection, and when it was.
    pub fn last_error(&self) -> Option<(SystemTime, Error)> {
        self.counters.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this mailbox is watched by one of the connections, in the time that nobody needs it: what others
    /// change comes as events. When that connection is lost an event without a mailbox says BYE, and another is made.
    pub fn watch(&self, name: MailboxName) {
        // A client that is closed watches nothing.
        let _ = self.orders.as_ref().map(|orders| orders.send(Order::Watch(name)));
    }

    /// Sends a command; its answers come on the receiver, `Answer::Done` last. A dropped channel is a lost connection.
    ///
    /// When the connection is lost before anything of the answer was seen, a read is sent once more on another; after
    /// that [`Error::Offline`]. A change is sent once more when it cannot have been made (nothing of it, or not all of a
    /// message, had left), or when it has the same outcome twice (Store and Expunge with a validity, Subscribe, SetAcl,
    /// SetMetadata); else it ends with [`Error::Uncertain`], as it does when no answer comes in time. What a
    /// change that ends with an error is known to have done comes before, as `Data::Status` with COPYUID or APPENDUID.
    pub fn send(&self, target: Target, command: Command, class: Class, limit: u64) -> Answers {
        self.request(target, command, class, limit, false)
    }

    /// The same for a FETCH of one large body, of which octets may come as [`Answer::Part`] while the rest is still on
    /// its way: only from servers of which it is known that their literals are as long as announced.
    pub fn stream(&self, target: Target, command: Command, limit: u64) -> Answers {
        self.request(target, command, Class::Bulk, limit, self.server.is_ordered())
    }

    fn request(&self, target: Target, command: Command, class: Class, limit: u64, parts: bool) -> Answers {
        let (answers, receiver) = request::answers();
        // A closed channel drops `answers`, and the receiver sees the end without Done.
        let _ = self.requests.send(Request { target, command, class, limit, parts, on: self.on, answers });
        receiver
    }

    /// Sends a command and collects its answers. When the connection is lost in the middle of them, those of a read are
    /// all asked for once more: nobody has seen what came.
    pub async fn run(&self, target: Target, command: Command, class: Class, limit: u64) -> Result<(Vec<Data>, Done)> {
        let (rows, end) = gather(self.send(target.clone(), command.clone(), class, limit)).await;
        if rows.is_empty() || command.is_change() || !matches!(end, Err(Error::Offline(_))) {
            return end.map(|done| (rows, done));
        }
        drop(rows);
        Self::collect(self.send(target, command, class, limit)).await
    }

    /// Collects the answers of a command that was sent.
    pub async fn collect(answers: Answers) -> Result<(Vec<Data>, Done)> {
        let (rows, end) = gather(answers).await;
        end.map(|done| (rows, done))
    }

    /// Lets what is in flight finish (at most a second), sends LOGOUT on each connection and closes it.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.orders.as_ref().is_some_and(|orders| orders.send(Order::Close(done)).is_ok()) {
            // The dispatcher answers in time; should it be gone, everything is closed already.
            let _ = closed.await;
        }
    }
}

async fn gather(mut answers: Answers) -> (Vec<Data>, Result<Done>) {
    let mut rows = Vec::new();
    while let Some(answer) = answers.recv().await {
        match answer {
            Answer::Data(data) => rows.push(data),
            // Not asked for.
            Answer::Part(..) => {}
            Answer::Done(done) => return (rows, done),
        }
    }
    (rows, Err(Error::offline("connection closed")))
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
