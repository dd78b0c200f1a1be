//! What is asked once on each new connection after login: CAPABILITY, ID, NAMESPACE, ENABLE, COMPRESS; on the first one LIST
//! as well, which everybody asks for next: one round trip less.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::command;
use super::connect::{self, Connected};
use super::dialect::Dialect;
use super::frame::{Framer, Limits};
use super::halves::{Reader, Writer, halves};
use super::line::Line;
use super::options::{Options, Tls};
use super::refusal::{self, Refusal};
use super::request::Command;
use super::response::{Code, Data, Response, Status};
use super::server::{Login, Server};
use super::transport::Counters;
use crate::error::{Error, Result, printable};

/// What we answer when a server wants to know who asks; some providers refuse clients that do not say (RFC 2971).
const ID: &str = concat!("ID (\"name\" \"imapfs\" \"version\" \"", env!("CARGO_PKG_VERSION"), "\")");

const ENABLE: &str = "ENABLE QRESYNC";
const COMPRESS: &str = "COMPRESS DEFLATE";

/// Octets that a server may answer, and where the mailboxes are listed; and what a row counts besides, which is kept.
const MOST: u64 = 1 << 20;
const MOST_OF_LIST: u64 = 32 << 20;
const ROW: u64 = 128;

/// A connection that is ready for commands.
pub struct Wire {
    /// Octets in.
    pub reader: Reader,
    /// Octets out.
    pub writer: Writer,
    /// Octets to responses.
    pub framer: Framer,
    /// Counted as open until it is dropped.
    pub open: Open,
    /// Answers to what was asked after login that have not come yet: those to commands come behind them.
    pub due: u64,
}

/// What came of opening a connection.
pub struct Opened {
    /// The connection.
    pub wire: Wire,
    /// What the server is.
    pub server: Server,
    /// How the login went.
    pub login: Login,
    /// What LIST told, all of it, if it was asked for.
    pub listed: Option<Vec<Data>>,
}

/// One open connection in the counters.
pub struct Open(Arc<Counters>);

impl Open {
    /// Counts one more.
    pub fn new(counters: Arc<Counters>) -> Self {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        counters.logins.fetch_add(1, Ordering::Relaxed);
        Self(counters)
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens a connection. What an earlier one learnt of the server in `known` is not asked again, except for the
/// capabilities. `compress`: with COMPRESS=DEFLATE where the options want it and the server has it. `trusts`: where the server
/// keeps the order, granted an earlier connection the same, and is not to compress, its answers are not waited for.
///
/// Errors: of [`connect::connect`]; of a server that does not answer.
pub async fn open(
    options: &Options,
    counters: &Arc<Counters>,
    known: Option<&Server>,
    compress: bool,
    trusts: bool,
) -> Result<Opened> {
    let connected = connect::connect(options, Arc::clone(counters)).await?;
    let Connected { stream, unread, capabilities, mechanism } = connected;
    let (reader, writer) = halves(stream, options.tls != Tls::None);
    let mut framer = Framer::new(Limits::default());
    framer.buffer().extend_from_slice(&unread);
    let mut asker = Asker {
        wire: Wire { reader, writer, framer, open: Open::new(Arc::clone(counters)), due: 0 },
        tags: 0,
        timeout: options.timeout,
        debug: options.debug_protocol,
        compressed: false,
    };
    let mut server = known.cloned().unwrap_or_default();
    server.capabilities = match capabilities {
        Some(capabilities) => capabilities,
        None => asker.capabilities().await?,
    };
    // What the namespaces add is not known yet. The lines have no literals.
    let dialect = Dialect::new(&server, options.read_only);
    let list = if known.is_none() { command::lines(&Command::List, None, &dialect)? } else { Vec::new() };
    let list: Vec<String> = list.iter().map(Line::printable).collect();
    let mut questions = Vec::new();
    if server.offers("ID") {
        questions.push(ID);
    }
    if known.is_none() && server.offers("NAMESPACE") {
        questions.push("NAMESPACE");
    }
    // All connections are told of vanished messages by UID, and SELECT of what changed.
    if server.offers("QRESYNC") && server.offers("ENABLE") {
        questions.push(ENABLE);
    }
    let listing = questions.len()..questions.len() + list.len();
    questions.extend(list.iter().map(String::as_str));
    let granted = std::mem::take(&mut server.qresync);
    // Behind it nothing is sent before it was answered (RFC 4978 section 3).
    if compress && options.compress && server.offers("COMPRESS=DEFLATE") {
        questions.push(COMPRESS);
    }
    let is_certain = server.is_ordered() && (granted || !questions.contains(&ENABLE));
    if trusts && is_certain && !questions.contains(&COMPRESS) {
        asker.say(&questions).await?;
        asker.wire.due = questions.len() as u64;
        server.qresync = granted && questions.contains(&ENABLE);
        questions.clear();
    }
    let (data, refusals) = asker.ask(&questions, if list.is_empty() { MOST } else { MOST_OF_LIST }).await?;
    let mut listed = Vec::new();
    let mut is_whole = !list.is_empty() && refusals[listing].iter().all(|answer| answer.status == Status::Ok);
    for data in data {
        match data {
            Data::List(_) => listed.push(data),
            Data::Other(keyword) if ["LIST", "LSUB"].contains(&&*keyword) => is_whole = false,
            Data::Namespace(namespaces) => server.namespaces = namespaces,
            Data::Enabled(names) => server.qresync |= names.iter().any(|name| name == "QRESYNC"),
            Data::Id(pairs) if known.is_none() => {
                let value = |v: Option<Vec<u8>>| Some(printable(&v?, 100));
                server.id = pairs.into_iter().filter_map(|(name, v)| Some((name, value(v)?))).take(30).collect();
            }
            _ => {}
        }
    }
    let login =
        Login { mechanism: mechanism.name(), encrypted: options.tls != Tls::None, compressed: asker.compressed };
    // INBOX is always there: an empty list is no list.
    is_whole &= !listed.is_empty() && Dialect::new(&server, options.read_only).prefixes.is_empty();
    Ok(Opened { wire: asker.wire, server, login, listed: is_whole.then_some(listed) })
}

/// Asks one thing after the other, before the connection goes to work.
struct Asker {
    wire: Wire,
    tags: u64,
    timeout: Duration,
    debug: bool,
    /// Both directions are deflated.
    compressed: bool,
}

impl Asker {
    /// Sends all the lines at once.
    async fn say(&mut self, lines: &[&str]) -> Result<()> {
        let mut batch = String::new();
        for line in lines {
            self.tags += 1;
            batch.push_str(&format!("S{} {line}\r\n", self.tags));
        }
        if self.debug && !batch.is_empty() {
            tracing::debug!(target: "imapfs::protocol", "C: {}", printable(batch.as_bytes(), 300));
        }
        self.wire.open.counters().commands.fetch_add(lines.len() as u64, Ordering::Relaxed);
        self.wire.writer.push(batch.as_bytes()).map_err(lost)?;
        timeout(self.timeout, self.wire.writer.write()).await.map_err(|_| late())?.map_err(lost)
    }

    /// Sends all the lines at once; what came back for them, at most so many octets, and how each was answered. A line that
    /// is refused is no error: Courier answers NO to ID. From the consent to [`COMPRESS`] on both directions are deflated.
    async fn ask(&mut self, lines: &[&str], most: u64) -> Result<(Vec<Data>, Vec<Refusal>)> {
        let mut data = Vec::new();
        let mut refusals: Vec<Option<Refusal>> = vec![None; lines.len()];
        let (first, begun) = (self.tags + 1, Instant::now());
        self.say(lines).await?;
        let mut open = lines.len();
        let mut octets = 0;
        while open > 0 {
            let Some(frame) = self.wire.framer.next_frame()? else {
                // A long list may take longer, if it amounts to 1 KiB a second.
                let more = if most > MOST { octets >> 10 } else { 0 };
                let deadline = begun + self.timeout + Duration::from_secs(more);
                // What never runs dry is never too late for the clock.
                if Instant::now() >= deadline {
                    return Err(late());
                }
                let read = self.wire.reader.read(self.wire.framer.buffer());
                if timeout_at(deadline, read).await.map_err(|_| late())?.map_err(lost)? == 0 {
                    return Err(Error::offline("the server closed the connection after login"));
                }
                continue;
            };
            if self.debug {
                tracing::debug!(target: "imapfs::protocol", "S: {}", printable(&frame.line, 300));
            }
            octets += frame.octets();
            if octets + data.len() as u64 * ROW > most {
                return Err(Error::protocol("the server talks without end after login"));
            }
            match Response::parse(&frame).0 {
                Response::Continue(_) => return Err(Error::protocol("the server asked for more where nothing is due")),
                Response::Untagged(Data::Status(status, code, text)) => {
                    let told = Refusal { status, code, text };
                    if status == Status::Bye {
                        return Err(refusal::bye(&told));
                    }
                    told.show_alert();
                    data.push(Data::Status(status, told.code, told.text));
                }
                Response::Untagged(row) => data.push(row),
                Response::Tagged { tag, status, code, text } => {
                    let number = std::str::from_utf8(&tag).ok().and_then(|t| t.strip_prefix('S')?.parse::<u64>().ok());
                    if !number.is_some_and(|n| (first..=self.tags).contains(&n)) {
                        return Err(Error::protocol("the server answered what it was not asked"));
                    }
                    let at = number.map_or(0, |number| (number - first) as usize);
                    open -= usize::from(refusals[at].is_none());
                    if lines[at] == COMPRESS && status == Status::Ok && !self.compressed {
                        let rest = self.wire.framer.take_rest();
                        self.wire.reader.inflate(&rest);
                        self.wire.writer.deflate();
                        self.compressed = true;
                    }
                    refusals[at] = Some(Refusal { status, code, text });
                }
            }
        }
        Ok((data, refusals.into_iter().flatten().collect()))
    }

    async fn capabilities(&mut self) -> Result<Vec<String>> {
        let (data, refusals) = self.ask(&["CAPABILITY"], MOST).await?;
        let told = data.into_iter().filter_map(|d| match d {
            Data::Capability(capabilities) | Data::Status(_, Some(Code::Capability(capabilities)), _) => {
                Some(capabilities)
            }
            _ => None,
        });
        let capabilities = told.last().ok_or_else(|| match refusals.last() {
            Some(refusal) if refusal.status != Status::Ok => refusal::command(refusal),
            _ => Error::protocol("the server does not tell its capabilities"),
        })?;
        Ok(capabilities)
    }
}

fn lost(error: std::io::Error) -> Error {
    Error::offline(format!("connection lost after login: {error}"))
}

fn late() -> Error {
    Error::TimedOut("the server does not answer after login".into())
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
