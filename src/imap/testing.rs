//! Servers for tests: one that plays a script, and one that answers commands by a function.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::dialect::Dialect;
use super::flight::Job;
use super::frame::{Framer, Limits};
use super::halves::halves;
use super::line::{Chunk, Line, Literals, Octets};
use super::machine::Machine;
use super::options::{Credentials, Options, Tls};
use super::pool::Client;
use super::request::{self, Answer, Answers, Class, Command, Done, FetchItem, Request, Target, Upload};
use super::response::Data;
use super::server::{Event, Server};
use super::session::Session;
use super::setup::{Open, Wire};
use super::transport::Counters;
use crate::error::{Error, Result};
use crate::mail::flag::Flags;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::{Uid, UidSet, UidValidity};

/// Options for a plain connection to this port of the loopback.
pub fn options(port: u16, tls: Tls, credentials: Credentials) -> Options {
    Options {
        host: "localhost".into(),
        port,
        tls,
        tls_ca: None,
        user: "alice".into(),
        credentials: Arc::new(move |_| Ok(credentials.clone())),
        connections: 4,
        read_only: false,
        compress: false,
        debug_protocol: true,
        timeout: Duration::from_secs(30),
    }
}

/// Plays lines of `S: what is said` (`$` is the tag heard last, `\q` at the end leaves the line open) and
/// `C: what the next line must hold`; then listens to the end. Returns all that it heard.
pub async fn play(stream: impl AsyncRead + AsyncWrite + Unpin, script: &str) -> String {
    let mut stream = BufReader::new(stream);
    let (mut heard, mut tag) = (String::new(), String::new());
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if let Some(text) = line.strip_prefix("S: ") {
            let text = text.replace('$', &tag);
            let text = text.strip_suffix("\\q").map(str::to_owned).unwrap_or_else(|| text + "\r\n");
            if stream.get_mut().write_all(text.as_bytes()).await.is_err() {
                return heard;
            }
        } else if let Some(wanted) = line.strip_prefix("C: ") {
            let start = heard.len();
            if stream.read_line(&mut heard).await.unwrap_or(0) == 0 {
                return heard + "<end>";
            }
            assert!(heard[start..].contains(wanted), "{wanted:?} was expected, {:?} came", &heard[start..]);
            tag = heard[start..].split(' ').next().unwrap_or_default().into();
        } else if line == "close" {
            return heard;
        }
    }
    while stream.read_line(&mut heard).await.is_ok_and(|n| n > 0) {}
    heard
}

/// A session over a pipe, as far as a test needs it.
pub struct Harness {
    /// Jobs for the session.
    pub jobs: mpsc::UnboundedSender<Job>,
    /// The server's end.
    pub server: Option<DuplexStream>,
    /// What was said unasked.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// Why it ended; what could be sent again has been dropped.
    pub end: JoinHandle<Option<Error>>,
}

/// A session that has just been set up, with a server that has CONDSTORE and ESEARCH.
pub fn session() -> Harness {
    session_with(&["CONDSTORE", "ESEARCH"], false)
}

/// The same with a server that offers this.
pub fn session_with(capabilities: &[&str], read_only: bool) -> Harness {
    let capabilities = capabilities.iter().map(|c| c.to_string()).collect();
    session_of(&Server { capabilities, ..Server::default() }, read_only)
}

/// The same with this server.
pub fn session_of(server: &Server, read_only: bool) -> Harness {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (reader, writer) = halves(Box::new(ours), false);
    let open = Open::new(Arc::new(Counters::default()));
    let wire = Wire { reader, writer, framer: Framer::new(Limits::default()), open, due: 0 };
    let (events, receiver) = mpsc::unbounded_channel();
    let machine = Machine::new(Dialect::new(server, read_only), events, false);
    let (jobs, queue) = mpsc::unbounded_channel();
    let session = Session::new(wire, machine, Duration::from_secs(30));
    let end = tokio::spawn(async move { session.serve(queue).await.error });
    Harness { jobs, server: Some(theirs), events: receiver, end }
}

impl Harness {
    /// Sends a command to the session.
    pub fn send(&self, target: Target, command: Command, limit: u64) -> Answers {
        let (answers, receiver) = request::answers();
        let (class, parts, on) = (Class::Small, false, None);
        let _ = self.jobs.send(Job::new(Request { target, command, class, limit, parts, on, answers }));
        receiver
    }

    /// Lets the server answer commands by a function of tag and command.
    pub fn serve(&mut self, answer: impl FnMut(&str, &str) -> String + Send + 'static) {
        tokio::spawn(serve(self.server.take().unwrap(), answer));
    }
}

/// Answers each command line with what `answer` makes of tag and command, until it makes `close`.
pub async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, mut answer: impl FnMut(&str, &str) -> String) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
        let (tag, command) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let text = answer(tag, command);
        let (text, close) = text.strip_suffix("close").map_or((&text[..], false), |t| (t, true));
        if stream.get_mut().write_all(text.as_bytes()).await.is_err() || close {
            return;
        }
        line.clear();
    }
}

/// All answers to the end; `None` when there was none.
pub async fn collect(mut receiver: Answers) -> (Vec<Data>, Option<Result<Done>>) {
    let mut rows = Vec::new();
    while let Some(answer) = receiver.recv().await {
        match answer {
            Answer::Data(data) => rows.push(data),
            Answer::Part(..) => {}
            Answer::Done(done) => return (rows, Some(done)),
        }
    }
    (rows, None)
}

/// A line as it goes out under the tag `t1`: what goes out at once, and each piece after a `+`.
pub fn octets(line: &Line, literals: Literals) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = vec![Vec::new()];
    for Chunk { waits, octets } in line.encode("t1", literals) {
        let octets = match octets {
            Octets::Text(text) => text.to_vec(),
            Octets::File(file, octets) => {
                let mut text = vec![0; octets as usize];
                file.read_exact_at(&mut text, 0).unwrap();
                text
            }
        };
        if waits {
            pieces.push(Vec::new());
        }
        pieces.last_mut().unwrap().extend(octets);
    }
    pieces
}

/// A message in a file that has no name.
pub fn upload(text: &[u8], flags: &[&str], internal_date: Option<i64>) -> Upload {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text).unwrap();
    let flags = Flags::from_wire(flags.iter().map(|flag| flag.as_bytes()));
    Upload { file: Arc::new(file), octets: text.len() as u64, flags, internal_date }
}

/// A set of UIDs.
pub fn uids(text: &str) -> UidSet {
    UidSet::parse(text.as_bytes()).unwrap()
}

/// INBOX or another mailbox, with a UIDVALIDITY.
pub fn mailbox(name: &str, validity: impl Into<Option<u32>>) -> Target {
    Target::Mailbox { name: MailboxName::new(name.as_bytes()), validity: validity.into().map(UidValidity) }
}

/// A FETCH of these.
pub fn fetch(uids: &[u32], items: &[FetchItem]) -> Command {
    let uids: UidSet = uids.iter().filter_map(|n| Uid::new(*n)).collect();
    Command::Fetch { uids, items: items.into(), changed_since: None }
}

/// The answer to a SELECT: three messages, UIDVALIDITY 9.
pub fn selected(tag: &str) -> String {
    format!(
        "* FLAGS (\\Seen)\r\n* 3 EXISTS\r\n* OK [UIDVALIDITY 9] ok\r\n* OK [UIDNEXT 4] ok\r\n\
         * OK [HIGHESTMODSEQ 5] ok\r\n{tag} OK [READ-WRITE] done\r\n"
    )
}

/// Commands that a server heard, each with the number of its connection.
pub type Heard = Arc<Mutex<Vec<(usize, String)>>>;

/// A server; `refuse` closes a connection before its greeting, `answer` answers what is no matter of course.
pub async fn server(
    refuse: impl Fn(usize) -> bool + Send + 'static,
    answer: impl Fn(usize, &str, &str) -> Option<String> + Send + Sync + 'static,
) -> (u16, Heard) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, answer) = (Heard::default(), Arc::new(answer));
    let all = Arc::clone(&heard);
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = stream.set_nodelay(true);
            if !refuse(number) {
                tokio::spawn(one(stream, number, Arc::clone(&all), Arc::clone(&answer)));
            }
        }
    });
    (port, heard)
}

async fn one(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    number: usize,
    heard: Heard,
    answer: Arc<impl Fn(usize, &str, &str) -> Option<String>>,
) {
    let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1] hi\r\n").await;
    serve(stream, |tag, command| {
        heard.lock().unwrap().push((number, command.to_owned()));
        if let Some(text) = answer(number, tag, command) {
            return text;
        }
        match command.split(' ').next().unwrap_or_default() {
            "LOGIN" => format!("{tag} OK [CAPABILITY IMAP4rev1 LITERAL+] in\r\n"),
            "SELECT" => selected(tag),
            "UID" => {
                let uid = command.split(' ').nth(2).unwrap_or_default();
                format!("* 1 FETCH (UID {uid} BODY[1] \"x{uid}\")\r\n{tag} OK done\r\n")
            }
            "LOGOUT" => format!("* BYE\r\n{tag} OK\r\nclose"),
            _ => format!("{tag} OK done\r\n"),
        }
    })
    .await;
}

/// A client of a server of [`server`], with so many connections at the most.
pub async fn client(port: u16, connections: usize) -> Result<Client> {
    let mut options = options(port, Tls::None, Credentials::Password("s3cret".into()));
    options.connections = connections;
    Client::connect(options, mpsc::unbounded_channel().0).await
}
