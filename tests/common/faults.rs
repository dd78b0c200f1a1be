//! Where in a stream of bytes a fault of the proxy fires, and what it does then.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::proxy::Dir;

/// Longest line that is held back to see whether it holds the text of a [`When::Before`].
const HOLD: usize = 64 * 1024;

/// When a fault fires. Counts are of its direction of its connection.
#[derive(Clone, Debug)]
pub enum When {
    /// When so many bytes have passed.
    Bytes(u64),
    /// When so many lines have passed.
    Lines(u64),
    /// Just after this text has passed.
    After(Vec<u8>),
    /// Before the line that holds this text.
    Before(Vec<u8>),
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Closes both sides in order (within TLS: a truncation).
    Fin,
    /// Resets both sides.
    Rst,
    /// Ends this direction only.
    HalfClose,
    /// Forwards nothing more, keeps both sockets open.
    Blackhole,
    /// Throws away what comes from here on in this direction.
    Swallow,
    /// Nothing moves for that long, then it goes on.
    Stall(Duration),
    /// Puts these bytes into the stream.
    Inject(Vec<u8>),
}

/// A fault: fires once on each connection whose number (from 1) it covers.
#[derive(Clone, Debug)]
pub struct Fault {
    pub connections: RangeInclusive<u64>,
    pub dir: Dir,
    pub when: When,
    pub action: Action,
}

impl Fault {
    /// From client to server, on all connections.
    pub fn up(when: When, action: Action) -> Fault {
        Fault { connections: 1..=u64::MAX, dir: Dir::Up, when, action }
    }

    /// From server to client, on all connections.
    pub fn down(when: When, action: Action) -> Fault {
        Fault { connections: 1..=u64::MAX, dir: Dir::Down, when, action }
    }

    /// Only on these connections.
    pub fn on(self, connections: RangeInclusive<u64>) -> Fault {
        Fault { connections, ..self }
    }

    /// After this text.
    pub fn after(text: &str) -> When {
        When::After(text.into())
    }

    /// Before the line with this text.
    pub fn before(text: &str) -> When {
        When::Before(text.into())
    }
}

/// One fault and how far its direction has come.
pub struct Watch {
    fault: Fault,
    bytes: u64,
    lines: u64,
    /// The last bytes that passed, as many as may be the beginning of the text.
    tail: Vec<u8>,
    done: bool,
}

impl Watch {
    pub fn new(fault: Fault) -> Watch {
        Watch { fault, bytes: 0, lines: 0, tail: Vec::new(), done: false }
    }

    /// The offset in `data` at which this fault fires, if it does within it.
    fn fires_at(&self, data: &[u8]) -> Option<usize> {
        let offset = match &self.fault.when {
            _ if self.done => return None,
            When::Bytes(at) => usize::try_from(at.saturating_sub(self.bytes)).ok()?,
            When::Lines(at) => {
                let Some(left) = at.checked_sub(self.lines + 1) else { return Some(0) };
                let ends = data.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
                ends.map(|(at, _)| at + 1).nth(usize::try_from(left).ok()?)?
            }
            When::After(text) => {
                let seen = [self.tail.as_slice(), data].concat();
                (find(&seen, text)? + text.len()).checked_sub(self.tail.len())?
            }
            When::Before(text) => {
                let at = find(data, text)?;
                data[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
            }
        };
        (offset <= data.len()).then_some(offset)
    }

    fn passed(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.lines += data.iter().filter(|&&byte| byte == b'\n').count() as u64;
        if let When::After(text) = &self.fault.when {
            self.tail.extend_from_slice(data);
            let keep = text.len().saturating_sub(1);
            self.tail.drain(..self.tail.len().saturating_sub(keep));
        }
    }
}

/// All faults of one direction of one connection.
pub struct Fires {
    watches: Vec<Watch>,
    held: Vec<u8>,
}

impl Fires {
    pub fn new(watches: Vec<Watch>) -> Fires {
        Fires { watches, held: Vec::new() }
    }

    /// Takes what has arrived; gives back what may go on, in order: bytes, and actions between them.
    pub fn pass(&mut self, data: &[u8]) -> Vec<Result<Vec<u8>, Action>> {
        let mut data = [std::mem::take(&mut self.held).as_slice(), data].concat();
        let holding = self.watches.iter().any(|watch| !watch.done && matches!(watch.fault.when, When::Before(_)));
        if holding {
            let complete = data.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            if data.len() - complete <= HOLD {
                self.held = data.split_off(complete);
            }
        }
        let mut pieces = Vec::new();
        loop {
            let next =
                self.watches.iter().enumerate().filter_map(|(index, watch)| Some((watch.fires_at(&data)?, index)));
            let Some((at, index)) = next.min() else { break };
            let rest = data.split_off(at);
            self.watches[index].done = true;
            self.watches.iter_mut().for_each(|watch| watch.passed(&data));
            pieces.extend([Ok(data), Err(self.watches[index].fault.action.clone())]);
            data = rest;
        }
        self.watches.iter_mut().for_each(|watch| watch.passed(&data));
        pieces.push(Ok(data));
        pieces
    }

    /// What was still held back at the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

fn find(data: &[u8], text: &[u8]) -> Option<usize> {
    data.windows(text.len().max(1)).position(|window| window == text)
}
