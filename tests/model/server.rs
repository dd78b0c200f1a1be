//! The model server: mailboxes in memory, a task that answers requests, a record of all exchanges, and "another client"
//! that changes things behind our back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use imapfs::error::Error;
use imapfs::imap::response::Data;
use imapfs::imap::server::{self, Event};
use imapfs::imap::{Answer, Client, Command, FetchItem, Request};
use imapfs::mail::flag::Flags;
use imapfs::mail::mailbox_name::MailboxName;
use imapfs::mail::uid::Uid;
use tokio::sync::mpsc;

use super::change::{Fault, Habits};
use super::lies::Lies;
use super::message::Message;

/// Octets of an answer besides what is in literals, for one row.
const ROW: u64 = 120;

/// A mailbox of the model.
#[derive(Clone, Debug)]
pub struct Mailbox {
    pub validity: u32,
    pub uid_next: u32,
    pub modseq: u64,
    pub messages: BTreeMap<u32, Message>,
    /// LIST attributes, lower-case.
    pub attributes: Vec<String>,
}

/// A command and what its answer was.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub command: Command,
    /// Octets that came back, about.
    pub octets: u64,
}

#[derive(Debug, Default)]
pub struct State {
    pub mailboxes: BTreeMap<String, Mailbox>,
    pub lies: Lies,
    /// Of this UID, in answers that tell of several messages what is in them.
    pub batch_lies: Option<(u32, Lies)>,
    pub exchanges: Vec<Exchange>,
    /// Counted from 0: the connection is lost at this command, and at each later one until it is taken back.
    pub cut_at: Option<Cut>,
    pub condstore: bool,
    /// Mailboxes that may be listed and not opened.
    pub denied: Vec<String>,
    /// From a command to its answer.
    pub delay: Duration,
    /// An answer with the structure of the message with this UID does not arrive as long as this is set.
    pub withheld: Option<u32>,
    /// How many commands wait for their answer now, and at most so far.
    pub in_flight: (usize, usize),
    validity: u32,
    /// Capabilities besides IMAP4rev1 and CONDSTORE.
    pub extensions: Vec<&'static str>,
    pub habits: Habits,
    /// How many commands that change something came, and the one whose connection is lost.
    pub changes: usize,
    pub fault: Option<Fault>,
    /// So many further commands find no server.
    pub outage: usize,
    pub acl: Vec<(Vec<u8>, String)>,
}

/// A lost connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// The number of the first exchange that is lost.
    pub at: usize,
    /// How many are lost.
    pub count: usize,
    /// After half of the rows, rather than before the first one.
    pub half: bool,
    /// The channel of answers closes without an end, rather than with an error.
    pub silent: bool,
}

fn tells_structure(command: &Command, uid: u32) -> bool {
    let Command::Fetch { uids, items, .. } = command else { return false };
    items.contains(&FetchItem::BodyStructure) && Uid::new(uid).is_some_and(|uid| uids.contains(uid))
}

impl State {
    /// A new mailbox, unless there is one of this name.
    pub fn make(&mut self, name: &str) {
        self.validity += 1;
        let validity = 1_700_000_000 + self.validity;
        let mailbox = Mailbox { validity, uid_next: 1, modseq: 1, messages: BTreeMap::new(), attributes: Vec::new() };
        self.mailboxes.entry(name.to_owned()).or_insert(mailbox);
    }
}

/// A handle of the model server; clones are the same server.
#[derive(Clone, Debug, Default)]
pub struct Server(Arc<Mutex<State>>);

impl Server {
    /// A server with an empty INBOX and CONDSTORE.
    pub fn new() -> Self {
        let server = Self::default();
        server.lock().condstore = true;
        server.lock().extensions = vec!["UIDPLUS"];
        server.create("INBOX");
        server
    }

    /// A server with these messages in INBOX, UIDs 1, 2 and so on.
    pub fn with_messages<B: Into<bytes::Bytes>>(messages: impl IntoIterator<Item = B>) -> Self {
        let server = Self::new();
        for message in messages {
            server.append("INBOX", Message::new(message));
        }
        server
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connected client, and where the server talks unasked.
    pub fn client(&self) -> (Client, mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>) {
        let (requests, mut receiver) = mpsc::unbounded_channel::<Request>();
        let server = self.clone();
        tokio::spawn(async move {
            while let Some(request) = receiver.recv().await {
                server.take(request).await;
            }
        });
        let mut capabilities = vec!["IMAP4REV1".to_owned()];
        capabilities.extend(self.lock().extensions.iter().map(|name| (*name).to_owned()));
        if self.lock().condstore {
            capabilities.push("CONDSTORE".into());
        }
        let about = server::Server { capabilities, ..server::Server::default() };
        let (events, unasked) = mpsc::unbounded_channel();
        (Client::from_channel(requests, about), events, unasked)
    }

    /// Answers are made in the order of the commands, and arrive a delay later.
    async fn take(&self, request: Request) {
        let (delay, withheld, rows, end) = {
            let mut state = self.lock();
            let number = state.exchanges.len();
            let cut = state.cut_at.filter(|cut| (cut.at..cut.at + cut.count).contains(&number));
            let (mut rows, mut end) = match cut {
                Some(cut) if !cut.half => (Vec::new(), None),
                _ if state.outage > 0 => {
                    state.outage -= 1;
                    (Vec::new(), Some(Err(Error::offline("no server"))))
                }
                _ if request.command.is_change() => {
                    let (rows, end) = state.change(&request);
                    (rows, Some(end))
                }
                _ => {
                    let (rows, end) = state.answer(&request);
                    (rows, Some(end))
                }
            };
            let octets = rows.iter().map(octets).sum();
            if octets > request.limit {
                (rows, end) = (Vec::new(), Some(Err(Error::TooBig("the answer is larger than it may be".into()))));
            }
            state.habits.deaf &= request.command != Command::Select;
            state.exchanges.push(Exchange { command: request.command.clone(), octets });
            if let Some(cut) = cut {
                rows.truncate(rows.len() / 2);
                end = (!cut.silent).then(|| Err(Error::offline("connection lost")));
            }
            state.in_flight.0 += 1;
            state.in_flight.1 = state.in_flight.1.max(state.in_flight.0);
            let withheld = state.withheld.is_some_and(|uid| tells_structure(&request.command, uid));
            (state.delay, withheld, rows, end)
        };
        let server = self.clone();
        let arrive = async move {
            while withheld && server.lock().withheld.is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            server.lock().in_flight.0 -= 1;
            // A caller that went away.
            for row in rows {
                request.answers.send(Answer::Data(row));
            }
            if let Some(end) = end {
                request.answers.send(Answer::Done(end));
            }
        };
        if delay.is_zero() && !withheld {
            arrive.await;
        } else {
            tokio::spawn(arrive);
        }
    }

    /// Forgets the exchanges so far.
    pub fn forget(&self) {
        self.lock().exchanges.clear();
    }

    /// The exchanges since the last time this or `forget` was called.
    pub fn exchanges(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.lock().exchanges)
    }

    // What another client does.

    pub fn create(&self, name: &str) {
        self.lock().make(name);
    }

    pub fn delete(&self, name: &str) {
        self.lock().mailboxes.remove(name);
    }

    /// Gives the UID.
    pub fn append(&self, name: &str, mut message: Message) -> u32 {
        self.with(name, |mailbox| {
            let uid = mailbox.uid_next;
            mailbox.uid_next += 1;
            mailbox.modseq += 1;
            message.modseq = mailbox.modseq;
            mailbox.messages.insert(uid, message);
            uid
        })
    }

    pub fn expunge(&self, name: &str, uid: u32) {
        self.with(name, |mailbox| {
            if mailbox.messages.remove(&uid).is_some() {
                mailbox.modseq += 1;
            }
        });
    }

    pub fn set_flags(&self, name: &str, uid: u32, flags: &str) {
        self.with(name, |mailbox| {
            if let Some(message) = mailbox.messages.get_mut(&uid) {
                mailbox.modseq += 1;
                message.modseq = mailbox.modseq;
                message.flags = Flags::from_wire(flags.split(' ').map(str::as_bytes));
            }
        });
    }

    /// The same messages under new UIDs, as after a repair of the mailbox.
    pub fn renumber(&self, name: &str) {
        let mut state = self.lock();
        state.validity += 1;
        let validity = 1_700_000_000 + state.validity;
        if let Some(mailbox) = state.mailboxes.get_mut(name) {
            mailbox.validity = validity;
            let messages = std::mem::take(&mut mailbox.messages);
            mailbox.messages = (1..).zip(messages.into_values()).collect();
            mailbox.uid_next = mailbox.messages.len() as u32 + 1;
        }
    }

    pub fn with<T>(&self, name: &str, work: impl FnOnce(&mut Mailbox) -> T) -> T {
        work(self.lock().mailboxes.get_mut(name).unwrap())
    }

    /// A copy of a message.
    pub fn message(&self, name: &str, uid: u32) -> Message {
        self.with(name, |mailbox| mailbox.messages[&uid].clone())
    }

    /// The mailboxes' wire names.
    pub fn names(&self) -> Vec<MailboxName> {
        self.lock().mailboxes.keys().map(|name| MailboxName::new(name.as_bytes())).collect()
    }
}

impl Exchange {
    /// Does it change anything?
    pub fn is_change(&self) -> bool {
        self.command.is_change()
    }

    /// Is it a FETCH?
    pub fn is_fetch(&self) -> bool {
        matches!(self.command, Command::Fetch { .. })
    }

    /// The items of a FETCH.
    pub fn items(&self) -> &[FetchItem] {
        match &self.command {
            Command::Fetch { items, .. } => items,
            _ => &[],
        }
    }
}

/// Octets of a row on the wire, about.
fn octets(row: &Data) -> u64 {
    let literals = match row {
        Data::Fetch(row) => row.bodies.iter().filter_map(|body| body.data.as_ref()).map(|data| data.len() as u64).sum(),
        _ => 0,
    };
    literals + ROW
}
