//! The stream that async-imap logs in over: it lets one understood answer through at a time and keeps the rest back.
//!
//! async-imap does greeting, STARTTLS, LOGIN and AUTHENTICATE, but its parser panics on some lines (`[ALERT]é`), ends
//! the connection on others (a CAPABILITY without IMAP4rev1), loses response codes and hides what stands behind an
//! answer. So during set-up
//! 1. our own framer and parser read every line; async-imap sees a bare `tag OK`, `tag NO`, `+ base64` or greeting;
//! 2. untagged lines are recorded where they matter (CAPABILITY) and dropped otherwise;
//! 3. an answer to nothing, a `+` outside AUTHENTICATE, a BYE or the end of the stream is a failure, which stays;
//! 4. lines and their number are limited, and what was written goes out in one piece at each flush;
//! 5. the stream and the octets that nobody has read yet can be taken back.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::frame::{Framer, Limits};
use super::refusal::{self, Refusal};
use super::response::{Code, Data, Response, Status};
use super::transport::Stream;
use crate::error::{Error, Result, printable};

/// Before login nobody has long lines or literals to send.
const LIMITS: Limits = Limits { line: 64 << 10, literal: 4 << 10, total: 16 << 10 };
/// Octets that may wait for the end of their response: a line and what came with it in one read.
const MAX_UNDER_WAY: u64 = 256 << 10;
/// Responses in one step (greeting, command) before the server is taken to be broken.
const MAX_RESPONSES: u32 = 1000;

/// A handle on the stream; clones share it.
#[derive(Clone)]
pub struct Gate(Arc<Mutex<Inner>>);

struct Inner {
    stream: Option<Box<dyn Stream>>,
    framer: Framer,
    /// What async-imap reads next.
    passed: BytesMut,
    /// What async-imap wrote since the last flush.
    written: BytesMut,
    waiting: Waiting,
    responses: u32,
    capabilities: Option<Vec<String>>,
    outcome: Option<Refusal>,
    failure: Option<Error>,
    debug: bool,
}

/// What may come.
enum Waiting {
    Greeting,
    Nothing,
    Answer { tag: Vec<u8>, authenticate: bool },
}

impl Gate {
    /// A gate before the stream. With `greeting`, the server speaks first; without, TLS has just begun. With
    /// `debug`, the protocol is logged, secrets elided.
    pub fn new(stream: Box<dyn Stream>, greeting: bool, debug: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            stream: Some(stream),
            framer: Framer::new(LIMITS),
            passed: BytesMut::new(),
            written: BytesMut::new(),
            waiting: if greeting { Waiting::Greeting } else { Waiting::Nothing },
            responses: 0,
            capabilities: None,
            outcome: None,
            failure: None,
            debug,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Capabilities told since they were last taken, upper-case.
    pub fn take_capabilities(&self) -> Option<Vec<String>> {
        self.lock().capabilities.take()
    }

    /// What the server said last: greeting, or tagged NO or BAD.
    pub fn take_outcome(&self) -> Option<Refusal> {
        self.lock().outcome.take()
    }

    /// Why the connection is of no use any more.
    pub fn failure(&self) -> Option<Error> {
        self.lock().failure.clone()
    }

    /// Breaks the connection off: nothing more is read or written.
    pub fn fail(&self, error: Error) {
        self.lock().fail(error);
    }

    /// Takes the stream back, and the octets that came behind the last answer.
    pub fn take(&self) -> Result<(Box<dyn Stream>, BytesMut)> {
        let mut inner = self.lock();
        if let Some(error) = inner.failure.clone() {
            return Err(error);
        }
        let stream = inner.stream.take().ok_or_else(|| Error::offline("the connection was closed"))?;
        Ok((stream, inner.framer.take_rest()))
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl Inner {
    fn fail(&mut self, error: Error) -> io::Error {
        self.stream = None;
        io::Error::other(self.failure.get_or_insert(error).clone())
    }

    /// Decides what becomes of a response.
    fn meet(&mut self, response: Response) -> Result<()> {
        self.responses += 1;
        if self.responses > MAX_RESPONSES {
            return Err(Error::protocol("the server talks without end before login"));
        }
        match response {
            Response::Untagged(Data::Status(status, code, text)) => self.meet_status(status, code, text),
            Response::Untagged(Data::Capability(capabilities)) => {
                self.capabilities = Some(capabilities);
                self.meet_other()
            }
            Response::Untagged(_) => self.meet_other(),
            Response::Continue(text) => match &self.waiting {
                Waiting::Answer { authenticate: true, .. } if text.iter().all(|b| is_base64(*b)) => {
                    self.pass(&[b"+ ", &text[..]]);
                    Ok(())
                }
                _ => Err(Error::protocol("the server asked for more where nothing more is due")),
            },
            Response::Tagged { tag, status, code, text } => {
                let Waiting::Answer { tag: ours, .. } = &self.waiting else {
                    return Err(Error::protocol("the server answered what it was not asked"));
                };
                if tag != ours[..] {
                    return Err(Error::protocol("the server answered another command than the one it was sent"));
                }
                if let Some(Code::Capability(capabilities)) = &code {
                    self.capabilities = Some(capabilities.clone());
                }
                let word: &[u8] = match status {
                    Status::Ok => b" OK done",
                    Status::No => b" NO refused",
                    _ => b" BAD refused",
                };
                self.pass(&[&tag, word]);
                self.outcome = Some(Refusal { status, code, text });
                self.waiting = Waiting::Nothing;
                Ok(())
            }
        }
    }

    fn meet_status(&mut self, status: Status, code: Option<Code>, text: Bytes) -> Result<()> {
        let told = Refusal { status, code, text };
        if status == Status::Bye {
            return Err(refusal::bye(&told));
        }
        told.show_alert();
        if let Some(Code::Capability(capabilities)) = &told.code {
            self.capabilities = Some(capabilities.clone());
        }
        if !matches!(self.waiting, Waiting::Greeting) {
            return Ok(());
        }
        if !matches!(status, Status::Ok | Status::PreAuth) {
            return Err(refusal::bye(&told));
        }
        self.outcome = Some(told);
        self.pass(&[b"* OK ready"]);
        self.waiting = Waiting::Nothing;
        Ok(())
    }

    fn meet_other(&self) -> Result<()> {
        match self.waiting {
            Waiting::Greeting => Err(Error::protocol("this is no IMAP server: its greeting makes no sense")),
            _ => Ok(()),
        }
    }

    fn pass(&mut self, line: &[&[u8]]) {
        for piece in line {
            self.passed.extend_from_slice(piece);
        }
        self.passed.extend_from_slice(b"\r\n");
    }

    /// The next response that has already arrived, if any, is dealt with.
    fn next(&mut self) -> Result<bool> {
        let frame = self.framer.next_frame()?;
        if frame.as_ref().is_some_and(|f| f.cut) || self.framer.progress() > MAX_UNDER_WAY {
            return Err(Error::protocol("the server sent a line without end before login"));
        }
        let Some(frame) = frame else { return Ok(false) };
        if self.debug {
            tracing::debug!(target: "imapfs::protocol", "S: {}", printable(&frame.line, 300));
        }
        let (response, _) = Response::parse(&frame);
        // What comes for the greeting is met only while it is waited for; tags and `+` never are without a command.
        self.meet(response)?;
        Ok(true)
    }

    /// A command begins with what was written: nothing may have answered it already.
    fn begin_command(&mut self) -> Result<()> {
        while self.next()? {}
        let mut words = self.written[..].split(u8::is_ascii_whitespace);
        let tag = words.next().unwrap_or_default().to_vec();
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        if self.debug {
            let method = if verb == b"AUTHENTICATE" { words.next().unwrap_or_default() } else { b"" };
            let shown = [&tag[..], &verb, method].join(&b' ');
            tracing::debug!(target: "imapfs::protocol", "C: {}", printable(&shown, 100));
        }
        self.responses = 0;
        self.outcome = None;
        self.capabilities = None;
        self.waiting = Waiting::Answer { tag, authenticate: verb == b"AUTHENTICATE" };
        Ok(())
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.passed.is_empty() {
            match self.next() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(Err(self.fail(Error::offline("the connection was closed"))));
            };
            let read = ready!(pin!(stream.read_buf(self.framer.buffer())).poll(cx));
            let error = match read {
                Ok(0) if matches!(self.waiting, Waiting::Greeting) => {
                    // Courier does so when its limit of connections is reached.
                    Error::Busy("the server closed the connection before its greeting (too many connections?)".into())
                }
                Ok(0) => Error::offline("the server closed the connection during login"),
                Ok(_) => continue,
                Err(e) => Error::offline(format!("connection lost during login: {e}")),
            };
            return Poll::Ready(Err(self.fail(error)));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failure.clone() {
            return Poll::Ready(Err(self.fail(error)));
        }
        if !self.written.is_empty()
            && matches!(self.waiting, Waiting::Nothing)
            && let Err(error) = self.begin_command()
        {
            return Poll::Ready(Err(self.fail(error)));
        }
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(self.fail(Error::offline("the connection was closed"))));
        };
        while !self.written.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.written)) {
                Ok(n) if n > 0 => self.written.advance(n),
                Ok(_) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Err(e) => {
                    let error = Error::offline(format!("connection lost during login: {e}"));
                    return Poll::Ready(Err(self.fail(error)));
                }
            }
        }
        Pin::new(stream).poll_flush(cx)
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

impl AsyncRead for Gate {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        ready!(inner.poll_fill(cx))?;
        let n = inner.passed.len().min(buf.remaining());
        buf.put_slice(&inner.passed.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().written.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
