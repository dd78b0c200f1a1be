//! Cuts the bytes of a connection into responses: a line, and as long as the line ends in `{n}`, a literal and more line.
//!
//! 1. Framing knows nothing of what is said, so that a response which nobody understands costs itself only.
//! 2. Each octet is looked at once, however the bytes come in.
//! 3. From a number that the server announced at most 2 MiB are allocated: else room grows with what has arrived.
//! 4. What is too long is thrown away as it streams in, and a marker stands in its place: a message of a million parts
//!    must not cost the connection that lists the mailbox.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use crate::error::{Error, printable};

/// Octets of CRLF.
const LINE_END: u64 = 2;
/// Octets of line text in one response: the BODYSTRUCTURE of 10,000 parts fits, which is what Dovecot sends at most.
const LINE: usize = 4 << 20;
/// How many times that a list of numbers may have: a SEARCH that lists two million UIDs of seven digits fits.
const NUMBERS: usize = 4;
/// Octets of line text in one response after which the connection is given up.
const ENDLESS: usize = 64 << 20;
/// Literals in one response: 8-bit names in an ENVELOPE come as literals.
const LITERALS: usize = 100_000;
/// Octets that are kept of a response that is too long, so that it can be named in the log.
const HEAD: usize = 1 << 10;
/// Octets of a line that is thrown away in which its announcement of a literal must stand.
const TAIL: usize = 64;
/// Octets of one literal when nothing bigger was asked for: names, subjects, metadata values.
const LITERAL: u64 = 64 << 10;
/// Octets of all kept literals of one response when nothing bigger was asked for.
const TOTAL: u64 = 1 << 20;
/// Room that is made for one read.
const READ: usize = 64 << 10;
/// A literal of at least so many octets gets memory of its own, so that who keeps it keeps nothing else.
const OWN: usize = 64 << 10;
/// The largest for which that is made before it has come.
const OWN_MAX: usize = 2 << 20;
/// A part of a literal that is handed on before the rest has come, see [`Framer::take_part`].
const PART: usize = 256 << 10;
/// Less room than this is not worth a read: a TLS record.
const READ_MIN: usize = 16 << 10;
/// An empty buffer larger than this (after a long line) is given back.
const KEEP: usize = 1 << 20;

/// How much of one response is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of line text in one response; a longer one is cut.
    pub line: usize,
    /// Octets of one literal; a larger one is thrown away.
    pub literal: u64,
    /// Octets of all literals of one response together; one that does not fit is thrown away.
    pub total: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: LINE, literal: LITERAL, total: TOTAL }
    }
}

impl Limits {
    /// The limits while a command is in flight whose answer may hold `octets` in literals.
    pub fn for_answer(octets: u64) -> Self {
        Self { literal: LITERAL.max(octets), total: TOTAL.max(octets), ..Self::default() }
    }
}

/// Why a stream of bytes cannot be cut any further. The connection is lost: where the next response begins is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Line text without an end.
    #[error("the server sent a line without end")]
    LineTooLong,
    /// The length of a literal is no number of 64 bits.
    #[error("the server announced a literal without a sensible length")]
    Literal,
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        Error::protocol(error.to_string())
    }
}

/// What stood at the place of a `{n}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// The octets.
    Data(Bytes),
    /// This many octets, over the limit and thrown away.
    Oversize(u64),
}

/// One response: a line, then literals with the line text that follows each. Neither the line ends nor the
/// announcements `{n}` are part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The line up to the first literal.
    pub line: Bytes,
    /// Each literal and the line text behind it.
    pub rest: Vec<(Literal, Bytes)>,
    /// The response was too long: this is the beginning of its first line, and the rest was thrown away.
    pub cut: bool,
}

impl Frame {
    /// Octets of the largest literal that was thrown away.
    pub fn oversize(&self) -> Option<u64> {
        let sizes = self.rest.iter().filter_map(|(literal, _)| match literal {
            Literal::Oversize(octets) => Some(*octets),
            Literal::Data(_) => None,
        });
        sizes.max()
    }

    /// The response for the protocol log: control characters escaped, literals elided, about `max` characters.
    pub fn printable(&self, max: usize) -> String {
        let mut text = printable(&self.line, max);
        for (literal, line) in &self.rest {
            let (octets, kept) = match literal {
                Literal::Data(data) => (data.len() as u64, ""),
                Literal::Oversize(octets) => (*octets, " thrown away"),
            };
            if text.len() > max {
                break;
            }
            text += &format!("{{{octets}{kept}}}{}", printable(line, max));
        }
        text
    }

    /// Octets of line text, its end, and literals, thrown away or not.
    pub fn octets(&self) -> u64 {
        let literal = |literal: &Literal| match literal {
            Literal::Data(data) => data.len() as u64,
            Literal::Oversize(octets) => *octets,
        };
        let rest = self.rest.iter().map(|(l, line)| literal(l).saturating_add(line.len() as u64));
        rest.fold(self.line.len() as u64 + LINE_END, u64::saturating_add)
    }
}

/// Where in a response the stream stands.
#[derive(Clone, Copy, Debug)]
enum State {
    /// In line text.
    Line,
    /// In a literal of this many octets that is kept.
    Keep(usize),
    /// In a literal of `octets` that is thrown away; `left` of them are still to come.
    Skip { octets: u64, left: u64 },
}

/// Bytes in, responses out.
#[derive(Debug)]
pub struct Framer {
    /// What has arrived and is in no frame yet.
    buffer: BytesMut,
    /// Invariant: the first `scanned` octets of `buffer` hold no LF. 0 in a literal.
    scanned: usize,
    state: State,
    /// The response under way, once its first line is known.
    frame: Option<Frame>,
    /// The literal that waits for the line text behind it.
    literal: Option<Literal>,
    /// Line text and kept literals of the response under way, and all that has passed of it.
    line_octets: usize,
    kept: u64,
    passed: u64,
    limits: Limits,
}

impl Framer {
    /// A framer at the beginning of a response.
    pub fn new(limits: Limits) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            state: State::Line,
            frame: None,
            literal: None,
            line_octets: 0,
            kept: 0,
            passed: 0,
            limits,
        }
    }

    /// Sets the limits for lines and literals that begin from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Where to put what arrives, at the end, with room for a read. Take what frames there are before the next read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP {
            self.buffer = BytesMut::new();
        }
        let length = self.buffer.len();
        let (room, enough) = match self.state {
            State::Keep(octets) if octets <= OWN_MAX => (octets.saturating_sub(length), octets.saturating_sub(length)),
            // A part, which may be taken out.
            State::Keep(_) if length < PART => (PART - length, READ_MIN.min(PART - length)),
            // No more than has come already: its announced length may be a lie.
            State::Keep(octets) => (octets.saturating_sub(length).clamp(READ_MIN, length), READ_MIN),
            State::Line | State::Skip { .. } => (READ, READ_MIN),
        };
        if self.buffer.capacity() - length < enough {
            self.buffer.reserve(room);
        }
        &mut self.buffer
    }

    /// The next response, or `None` until more bytes are in the buffer. After an error nothing more comes.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            match self.state {
                State::Line => {
                    let Some(line) = self.take_line()? else { return Ok(None) };
                    if let Some(frame) = self.add_line(line)? {
                        return Ok(Some(frame));
                    }
                }
                State::Keep(octets) => {
                    if self.buffer.len() < octets {
                        self.make_own(octets);
                        return Ok(None);
                    }
                    if octets >= OWN && self.buffer.len() > octets {
                        self.passed += octets as u64;
                        self.literal = Some(Literal::Data(Bytes::copy_from_slice(&self.buffer[..octets])));
                        self.buffer.advance(octets);
                        self.state = State::Line;
                        continue;
                    }
                    self.passed += octets as u64;
                    self.literal = Some(Literal::Data(self.buffer.split_to(octets).freeze()));
                    self.state = State::Line;
                }
                State::Skip { octets, left } => {
                    let some = left.min(self.buffer.len() as u64);
                    self.buffer.advance(some as usize);
                    self.passed = self.passed.saturating_add(some);
                    if some < left {
                        self.state = State::Skip { octets, left: left - some };
                        return Ok(None);
                    }
                    self.literal = Some(Literal::Oversize(octets));
                    self.state = State::Line;
                }
            }
        }
    }

    /// Gives a large literal of which a part has come memory of just its size.
    fn make_own(&mut self, octets: usize) {
        if (OWN..=OWN_MAX).contains(&octets) && self.buffer.capacity() != octets {
            let mut own = BytesMut::with_capacity(octets);
            own.extend_from_slice(&self.buffer);
            self.buffer = own;
        }
    }

    /// The response under way, when a part of its first literal may be taken out: as it would be if the literal was empty
    /// and the last thing in it.
    pub fn head(&self) -> Option<Frame> {
        let State::Keep(octets) = self.state else { return None };
        let frame = self.frame.as_ref().filter(|frame| frame.rest.is_empty())?;
        let rest = vec![(Literal::Data(Bytes::new()), Bytes::from_static(b")"))];
        (self.buffer.len().min(octets) >= PART).then(|| Frame { line: frame.line.clone(), rest, cut: false })
    }

    /// Takes a part out of the literal under way: the frame will hold the rest of it.
    pub fn take_part(&mut self) -> Bytes {
        let State::Keep(octets) = self.state else { return Bytes::new() };
        let part = self.buffer.split_to(PART.min(self.buffer.len()).min(octets)).freeze();
        self.state = State::Keep(octets - part.len());
        part
    }

    /// Octets of the response under way that have arrived, thrown away or not; 0 between responses.
    pub fn progress(&self) -> u64 {
        self.passed.saturating_add(self.buffer.len() as u64)
    }

    /// Takes out the bytes that are in no frame yet: what follows a command that changes the stream (COMPRESS).
    pub fn take_rest(&mut self) -> BytesMut {
        self.scanned = 0;
        std::mem::take(&mut self.buffer)
    }

    /// The next line without its line end: CRLF, or LF alone as some servers send.
    fn take_line(&mut self) -> Result<Option<Bytes>, FrameError> {
        let end = memchr(b'\n', &self.buffer[self.scanned..]).map(|at| self.scanned + at + 1);
        let length = end.unwrap_or(self.buffer.len());
        if self.line_octets + length > ENDLESS {
            return Err(FrameError::LineTooLong);
        }
        if !self.is_cut() && self.line_octets + length > self.line_limit() {
            self.cut(length);
        }
        if end.is_none() {
            let dropped = if self.is_cut() { length.saturating_sub(TAIL) } else { 0 };
            self.buffer.advance(dropped);
            self.line_octets += dropped;
            self.passed += dropped as u64;
            self.scanned = length - dropped;
            return Ok(None);
        }
        self.scanned = 0;
        self.line_octets += length;
        self.passed += length as u64;
        let mut line = self.buffer.split_to(length);
        line.truncate(if line.ends_with(b"\r\n") { length - 2 } else { length - 1 });
        Ok(Some(line.freeze()))
    }

    /// Octets of line text that the response under way may have.
    fn line_limit(&self) -> usize {
        let line = self.frame.as_ref().map_or(&self.buffer[..], |frame| &frame.line[..]);
        let is = |start: &[u8]| line.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start));
        let numbers = is(b"* SEARCH ") || is(b"* ESEARCH ") || is(b"* VANISHED ");
        if numbers { self.limits.line.saturating_mul(NUMBERS) } else { self.limits.line }
    }

    /// From now on the response under way is thrown away, but for the beginning of its first line, which may be the
    /// one of `length` octets that stands in the buffer.
    fn cut(&mut self, length: usize) {
        let line = self.frame.as_ref().map_or(&self.buffer[..length], |frame| &frame.line[..]);
        let line = Bytes::copy_from_slice(line[..line.len().min(HEAD).min(self.limits.line)].trim_ascii_end());
        self.frame = Some(Frame { line, rest: Vec::new(), cut: true });
    }

    fn is_cut(&self) -> bool {
        self.frame.as_ref().is_some_and(|frame| frame.cut)
    }

    /// Adds a line to the response under way; it is complete when the line announces no literal.
    fn add_line(&mut self, mut line: Bytes) -> Result<Option<Frame>, FrameError> {
        let announced = match &self.frame {
            None if !may_hold_literal(&line) => None,
            _ => announced_literal(&line)?,
        };
        if self.frame.as_ref().is_some_and(|frame| frame.rest.len() == LITERALS) {
            self.cut(0);
        }
        if let Some((text, octets)) = announced {
            line.truncate(text);
            let total = self.kept.saturating_add(octets);
            self.state = if octets <= self.limits.literal && total <= self.limits.total && !self.is_cut() {
                self.kept = total;
                State::Keep(usize::try_from(octets).map_err(|_| FrameError::Literal)?)
            } else {
                State::Skip { octets, left: octets }
            };
        }
        match (&mut self.frame, self.literal.take()) {
            (Some(frame), _) if frame.cut => {}
            (Some(frame), Some(literal)) => frame.rest.push((literal, line)),
            (frame, _) => *frame = Some(Frame { line, ..Frame::default() }),
        }
        if announced.is_some() {
            return Ok(None);
        }
        (self.line_octets, self.kept, self.passed) = (0, 0, 0);
        Ok(self.frame.take())
    }
}

/// Can a response with this first line hold literals? Continuations and the text of OK, NO, BAD, BYE and PREAUTH
/// cannot: such a text may quote a mailbox name that ends in `{5}`. A response code that is still open can.
fn may_hold_literal(line: &[u8]) -> bool {
    if !line.ends_with(b"}") {
        return false;
    }
    if line.starts_with(b"+") {
        return false;
    }
    let mut words = line.splitn(3, |b| *b == b' ').skip(1);
    let status = words.next().unwrap_or_default();
    if ![&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"].iter().any(|s| status.eq_ignore_ascii_case(s)) {
        return true;
    }
    words.next().is_some_and(|text| text.starts_with(b"[") && memchr(b']', text).is_none())
}

/// The literal that a line announces at its end, `{n}`, `{n+}`, `~{n}` or `~{n+}`: where the text before it ends, and n.
fn announced_literal(line: &[u8]) -> Result<Option<(usize, u64)>, FrameError> {
    let Some(inner) = line.strip_suffix(b"}") else { return Ok(None) };
    // 20 digits and a `+` are as long as it gets, but a longer number is an error too and no text.
    let start = inner.iter().rposition(|b| !matches!(b, b'0'..=b'9' | b'+' | b'-'));
    let Some(brace) = start.filter(|at| inner[*at] == b'{') else { return Ok(None) };
    let number = &inner[brace + 1..];
    let digits = number.strip_suffix(b"+").unwrap_or(number);
    if digits.is_empty() {
        return Err(FrameError::Literal);
    }
    let octets = parse_number(digits).ok_or(FrameError::Literal)?;
    let text = if line[..brace].ends_with(b"~") { brace - 1 } else { brace };
    Ok(Some((text, octets)))
}

/// Decimal digits as a number of 64 bits; `None` for anything else, the empty string too.
pub(super) fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        digit.is_ascii_digit().then_some(())?;
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
