//! What is asked once on each new connection after login: CAPABILITY, ID, NAMESPACE, ENABLE, COMPRESS.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::connect::{self, Connected};
use super::frame::{Framer, Limits};
use super::halves::{Reader, Writer, halves};
use super::options::{Options, Tls};
use super::refusal::{self, Refusal};
use super::response::{Code, Data, Response, Status};
use super::server::{Login, Server};
use super::transport::Counters;
use crate::error::{Error, Result, printable};

/// What we answer when a server wants to know who asks; some providers refuse clients that do not say (RFC 2971).
const ID: &str = concat!("ID (\"name\" \"imapfs\" \"version\" \"", env!("CARGO_PKG_VERSION"), "\")");

const COMPRESS: &str = "COMPRESS DEFLATE";

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
/// capabilities. `compress`: with COMPRESS=DEFLATE where the options want it and the server has it.
///
/// Errors: of [`connect::connect`]; of a server that does not answer.
pub async fn open(
    options: &Options,
    counters: &Arc<Counters>,
    known: Option<&Server>,
    compress: bool,
) -> Result<(Wire, Server, Login)> {
    let connected = connect::connect(options, Arc::clone(counters)).await?;
    prepare(connected, options, counters, known, compress).await
}

/// The part of [`open`] after login.
pub async fn prepare(
    connected: Connected,
    options: &Options,
    counters: &Arc<Counters>,
    known: Option<&Server>,
    compress: bool,
) -> Result<(Wire, Server, Login)> {
    let Connected { stream, unread, capabilities, mechanism } = connected;
    let (reader, writer) = halves(stream, options.tls != Tls::None);
    let mut framer = Framer::new(Limits::default());
    framer.buffer().extend_from_slice(&unread);
    let mut asker = Asker {
        wire: Wire { reader, writer, framer, open: Open::new(Arc::clone(counters)) },
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
    let mut questions = Vec::new();
    if server.offers("ID") {
        questions.push(ID);
    }
    if known.is_none() && server.offers("NAMESPACE") {
        questions.push("NAMESPACE");
    }
    // All connections are told of vanished messages by UID, and SELECT of what changed.
    if server.offers("QRESYNC") && server.offers("ENABLE") {
        questions.push("ENABLE QRESYNC");
    }
    server.qresync = false;
    // Behind it nothing is sent before it was answered (RFC 4978 section 3).
    if compress && options.compress && server.offers("COMPRESS=DEFLATE") {
        questions.push(COMPRESS);
    }
    let (data, _) = asker.ask(&questions).await?;
    for data in data {
        match data {
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
    Ok((asker.wire, server, login))
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
    /// Sends all the lines at once; what came back for them, and how the last one was answered. A line that is
    /// refused is no error: Courier answers NO to ID. From the consent to [`COMPRESS`] on both directions are deflated.
    async fn ask(&mut self, lines: &[&str]) -> Result<(Vec<Data>, Option<Refusal>)> {
        let (mut data, mut last) = (Vec::new(), None);
        let first = self.tags + 1;
        let mut batch = String::new();
        for line in lines {
            self.tags += 1;
            batch.push_str(&format!("S{} {line}\r\n", self.tags));
        }
        if self.debug && !batch.is_empty() {
            tracing::debug!(target: "imapfs::protocol", "C: {}", printable(batch.as_bytes(), 300));
        }
        self.wire.open.counters().commands.fetch_add(lines.len() as u64, Ordering::Relaxed);
        let deadline = Instant::now() + self.timeout;
        let lost = |e: std::io::Error| Error::offline(format!("connection lost after login: {e}"));
        let late = |_| Error::TimedOut("the server does not answer after login".into());
        self.wire.writer.push(batch.as_bytes()).map_err(lost)?;
        timeout_at(deadline, self.wire.writer.write()).await.map_err(late)?.map_err(lost)?;
        let mut open = lines.len();
        let mut octets = 0;
        while open > 0 {
            let Some(frame) = self.wire.framer.next_frame()? else {
                let read = self.wire.reader.read(self.wire.framer.buffer());
                if timeout_at(deadline, read).await.map_err(late)?.map_err(lost)? == 0 {
                    return Err(Error::offline("the server closed the connection after login"));
                }
                continue;
            };
            if self.debug {
                tracing::debug!(target: "imapfs::protocol", "S: {}", printable(&frame.line, 300));
            }
            octets += frame.octets();
            if octets > 1 << 20 {
                return Err(Error::protocol("the server talks without end after login"));
            }
            match Response::parse(&frame).0 {
                Response::Continue(_) => return Err(Error::protocol("the server asked for more where nothing is due")),
                Response::Untagged(Data::Status(Status::Bye, code, text)) => {
                    return Err(refusal::bye(&Refusal { status: Status::Bye, code, text }));
                }
                Response::Untagged(row) => data.push(row),
                Response::Tagged { tag, status, code, text } => {
                    let number = std::str::from_utf8(&tag).ok().and_then(|t| t.strip_prefix('S')?.parse::<u64>().ok());
                    if !number.is_some_and(|n| (first..=self.tags).contains(&n)) {
                        return Err(Error::protocol("the server answered what it was not asked"));
                    }
                    open -= 1;
                    let is_compress = number.is_some_and(|n| lines[(n - first) as usize] == COMPRESS);
                    if is_compress && status == Status::Ok && !self.compressed {
                        let rest = self.wire.framer.take_rest();
                        self.wire.reader.inflate(&rest);
                        self.wire.writer.deflate();
                        self.compressed = true;
                    }
                    last = Some(Refusal { status, code, text });
                }
            }
        }
        Ok((data, last))
    }

    async fn capabilities(&mut self) -> Result<Vec<String>> {
        let (data, last) = self.ask(&["CAPABILITY"]).await?;
        let told = data.into_iter().filter_map(|d| match d {
            Data::Capability(capabilities) | Data::Status(_, Some(Code::Capability(capabilities)), _) => {
                Some(capabilities)
            }
            _ => None,
        });
        let capabilities = told.last().ok_or_else(|| match last {
            Some(refusal) if refusal.status != Status::Ok => refusal::command(&refusal),
            _ => Error::protocol("the server does not tell its capabilities"),
        })?;
        Ok(capabilities)
    }
}
