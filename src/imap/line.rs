//! One command line: text, and strings in it quoted so that nothing a user types can become a command of its own.

use std::fmt::Write as _;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};

/// Octets of a literal that LITERAL- lets go without waiting, RFC 7888 section 5.
const LITERAL_MINUS: u64 = 4096;
/// Octets of a message above which the server is always asked first: so that it can refuse it for its size or for the
/// quota before it has crossed the wire.
const LITERAL_PLUS: u64 = 1 << 20;
/// Octets of text that are quoted at the most.
const QUOTED: usize = 1000;

/// When a literal may follow its announcement at once, RFC 7888.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Literals {
    /// After the server's `+` only.
    #[default]
    Wait,
    /// Up to 4096 octets at once (LITERAL-).
    Short,
    /// At once (LITERAL+), but for what is larger than a megabyte.
    All,
}

impl Literals {
    fn at_once(self, octets: u64) -> bool {
        match self {
            Literals::Wait => false,
            Literals::Short => octets <= LITERAL_MINUS,
            Literals::All => octets <= LITERAL_PLUS,
        }
    }
}

/// One command line, the tag still missing.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// Text, and each literal with the text behind it.
    text: Vec<u8>,
    rest: Vec<(Octets, Vec<u8>)>,
}

/// What goes to the socket.
#[derive(Clone, Debug)]
pub enum Octets {
    /// These.
    Text(Bytes),
    /// So many of a file, from its beginning.
    File(Arc<File>, u64),
}

impl Octets {
    /// How many.
    pub fn len(&self) -> u64 {
        match self {
            Octets::Text(octets) => octets.len() as u64,
            Octets::File(_, octets) => *octets,
        }
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A piece of a command on its way.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Only after a `+` of the server.
    pub waits: bool,
    /// What.
    pub octets: Octets,
}

impl Line {
    /// A command that has no argument of a user or a server in it, such as `NAMESPACE`.
    pub fn new(text: &str) -> Self {
        debug_assert!(!text.contains(['\r', '\n', '\0']));
        Self { text: text.into(), rest: Vec::new() }
    }

    /// Adds text of our own.
    pub fn text(mut self, text: &str) -> Self {
        debug_assert!(!text.contains(['\r', '\n', '\0']));
        self.end().extend_from_slice(text.as_bytes());
        self
    }

    /// Adds a blank and a string, quoted where that is safe, else as a literal. CR, LF and NUL are refused: no quoting
    /// takes them, and no name has them.
    pub fn string(mut self, string: &[u8]) -> Result<Self> {
        if string.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(Error::invalid("a name cannot hold CR, LF or NUL"));
        }
        self.end().push(b' ');
        if string.is_ascii() {
            self.quoted(string);
        } else {
            self.literal(Octets::Text(string.to_vec().into()));
        }
        Ok(self)
    }

    /// Adds a blank and any octets: quoted, as a literal, or with NUL as a literal8.
    pub fn value(mut self, value: &[u8]) -> Self {
        self.end().push(b' ');
        if value.contains(&0) {
            self.end().push(b'~');
            self.literal(Octets::Text(value.to_vec().into()));
        } else if value.len() > QUOTED || value.iter().any(|b| !(b' '..=b'~').contains(b)) {
            self.literal(Octets::Text(value.to_vec().into()));
        } else {
            self.quoted(value);
        }
        self
    }

    /// Adds a blank and what stands in a file.
    pub fn file(mut self, file: &Arc<File>, octets: u64) -> Self {
        self.end().push(b' ');
        self.literal(Octets::File(Arc::clone(file), octets));
        self
    }

    /// Adds printable ASCII in quotes, without a blank before it.
    pub fn bare(mut self, string: &[u8]) -> Self {
        debug_assert!(string.iter().all(|b| (b' '..=b'~').contains(b)));
        self.quoted(string);
        self
    }

    fn quoted(&mut self, string: &[u8]) {
        let end = self.end();
        end.push(b'"');
        for byte in string {
            if matches!(byte, b'"' | b'\\') {
                end.push(b'\\');
            }
            end.push(*byte);
        }
        end.push(b'"');
    }

    fn literal(&mut self, octets: Octets) {
        self.rest.push((octets, Vec::new()));
    }

    fn end(&mut self) -> &mut Vec<u8> {
        self.rest.last_mut().map_or(&mut self.text, |(_, text)| text)
    }

    /// The octets to send, in as few pieces as can be.
    pub fn encode(&self, tag: &str, literals: Literals) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let mut text = format!("{tag} ").into_bytes();
        text.extend_from_slice(&self.text);
        let mut waits = false;
        let text_chunk = |waits: &mut bool, text: &mut Vec<u8>| Chunk {
            waits: std::mem::take(waits),
            octets: Octets::Text(std::mem::take(text).into()),
        };
        for (literal, behind) in &self.rest {
            // RFC 7888 section 6: a literal8 may be sent without waiting as well.
            let at_once = literals.at_once(literal.len());
            text.extend_from_slice(format!("{{{}{}}}\r\n", literal.len(), if at_once { "+" } else { "" }).as_bytes());
            if !at_once {
                chunks.push(text_chunk(&mut waits, &mut text));
                waits = true;
            }
            match literal {
                Octets::Text(octets) => text.extend_from_slice(octets),
                Octets::File(..) => {
                    if !text.is_empty() {
                        chunks.push(text_chunk(&mut waits, &mut text));
                    }
                    chunks.push(Chunk { waits: std::mem::take(&mut waits), octets: literal.clone() });
                }
            }
            text.extend_from_slice(behind);
        }
        text.extend_from_slice(b"\r\n");
        chunks.push(text_chunk(&mut waits, &mut text));
        chunks
    }

    /// The command as it may be logged: literals elided.
    pub fn printable(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.text).into_owned();
        for (literal, more) in &self.rest {
            let _ = write!(text, "{{{}}}…{}", literal.len(), String::from_utf8_lossy(more));
        }
        text
    }
}
