//! Takes a framed response apart into tokens, and forgives what servers get wrong: odd spacing, `()` for NIL, bad
//! escapes, missing values.
//!
//! Nothing here recurses, so no nesting can exhaust the stack; who builds a tree out of it limits the depth.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memchr2;

use super::frame::{Frame, Literal, parse_number};

/// Words of a list of flags, capabilities or rights; more make no sense.
const WORDS: usize = 50_000;

/// One token. Strings are raw bytes, quotes and their escapes removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// `(`
    Open,
    /// `)`
    Close,
    /// NIL, in any case.
    Nil,
    /// Anything else outside quotes up to a space, a parenthesis or a quote.
    Atom(&'a [u8]),
    /// A quoted string.
    Quoted(Cow<'a, [u8]>),
    /// A literal.
    Literal(&'a Bytes),
    /// A literal that was over the limit: its length in octets.
    Oversize(u64),
    /// The end of the response.
    End,
}

/// The name of a FETCH item with what belongs to it: `BODY[2.1]<0>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemName<'a> {
    /// The name, in the case it was sent.
    pub name: &'a [u8],
    /// What stands between the brackets, where there are any.
    pub section: Option<&'a [u8]>,
    /// The offset in octets, where there is one.
    pub origin: Option<u64>,
}

/// A place in a response.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
    rest: &'a [(Literal, Bytes)],
    depth: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of a response.
    pub fn new(frame: &'a Frame) -> Self {
        Self { line: &frame.line, at: 0, rest: &frame.rest, depth: 0 }
    }

    /// Over text without literals, such as a response code.
    pub fn over(text: &'a [u8]) -> Self {
        Self { line: text, at: 0, rest: &[], depth: 0 }
    }

    /// How many parentheses are open.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Skips blanks and shows the octet that follows; `None` at the end of the line text, where a literal may stand.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.line.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// True when a blank, a `)` or the end stands right here.
    pub fn is_apart(&self) -> bool {
        self.line.get(self.at).is_none_or(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b')'))
    }

    /// True when a list begins here.
    pub fn at_open(&mut self) -> bool {
        self.peek() == Some(b'(')
    }

    /// True when no further value stands in this list: `)` or the end.
    pub fn at_close(&mut self) -> bool {
        match self.peek() {
            Some(byte) => byte == b')',
            None => self.rest.is_empty(),
        }
    }

    /// The next token.
    pub fn token(&mut self) -> Token<'a> {
        let Some(byte) = self.peek() else { return self.literal() };
        match byte {
            b'(' => {
                self.at += 1;
                self.depth += 1;
                Token::Open
            }
            b')' => {
                self.at += 1;
                self.depth = self.depth.saturating_sub(1);
                Token::Close
            }
            b'"' => Token::Quoted(self.quoted()),
            _ => {
                let atom = self.until(ends_atom);
                if atom.eq_ignore_ascii_case(b"NIL") { Token::Nil } else { Token::Atom(atom) }
            }
        }
    }

    /// Skips what is left inside the parentheses that were opened since `depth` was the depth, and their `)`.
    pub fn leave(&mut self, depth: usize) {
        while self.depth > depth && self.token() != Token::End {}
    }

    /// Skips one value, whatever it is; nothing at the end of a list.
    pub fn skip(&mut self) {
        if !self.at_close() {
            let depth = self.depth;
            self.token();
            self.leave(depth);
        }
    }

    /// Reads one value as a string: quoted, literal or atom. `None`, and the value skipped, for NIL, for a list and
    /// for a literal over the limit; at the end of a list `None` and nothing skipped.
    pub fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        if self.at_close() {
            return None;
        }
        let depth = self.depth;
        match self.token() {
            Token::Atom(atom) => Some(Cow::Borrowed(atom)),
            Token::Quoted(text) => Some(text),
            Token::Literal(data) => Some(Cow::Borrowed(data)),
            Token::Open => {
                self.leave(depth);
                None
            }
            Token::Nil | Token::Oversize(_) | Token::Close | Token::End => None,
        }
    }

    /// Reads one value as a number. `None`, and the value skipped, when it is none.
    pub fn number(&mut self) -> Option<u64> {
        match self.peek() {
            // The short way for a SEARCH of a million numbers.
            Some(b'0'..=b'9') => parse_number(self.until(ends_atom)),
            _ => parse_number(&self.string()?),
        }
    }

    /// Enters the list that begins here. False for `NIL`, which is skipped like an empty list, and for anything else,
    /// which is left where it is. Leave it with [`Cursor::leave`] and the depth from before.
    pub fn enter(&mut self) -> bool {
        if self.at_open() {
            self.token();
            return true;
        }
        let mut ahead = self.clone();
        if ahead.token() == Token::Nil {
            *self = ahead;
        }
        false
    }

    /// Reads a flat list of strings; what is none in it is left out. NIL is the empty list.
    pub fn words(&mut self) -> Vec<Cow<'a, [u8]>> {
        let depth = self.depth;
        let mut words = Vec::new();
        if self.enter() {
            words = self.words_to_end();
            self.leave(depth);
        }
        words
    }

    /// Reads the strings that follow up to the end of the list, the first 50,000 of them.
    pub fn words_to_end(&mut self) -> Vec<Cow<'a, [u8]>> {
        let mut words = Vec::new();
        while !self.at_close() && words.len() < WORDS {
            words.extend(self.string());
        }
        words
    }

    /// Reads a word outside quotes up to the next blank or parenthesis; empty when there is none.
    pub fn word(&mut self) -> &'a [u8] {
        self.peek();
        self.until(|b| matches!(b, b' ' | b'(' | b')' | b'\t' | b'\r'))
    }

    /// What is left of this piece of line text, blanks before it skipped.
    pub fn rest_of_line(&mut self) -> &'a [u8] {
        self.peek();
        let text = &self.line[self.at..];
        self.at = self.line.len();
        text
    }

    /// Reads a mailbox name. An unquoted one may hold what no atom may (blanks, parentheses, quotes), as some servers
    /// send it: it ends where the line ends or where a blank and a list follow.
    pub fn mailbox_to_end(&mut self) -> Option<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') | None => self.string(),
            Some(_) => {
                let text = &self.line[self.at..];
                let end = text.windows(2).position(|w| w == b" (").unwrap_or(text.len());
                self.at += end;
                Some(Cow::Borrowed(text[..end].trim_ascii_end()))
            }
        }
    }

    /// Reads the name of a FETCH item; `None` at the end of the list.
    pub fn item_name(&mut self) -> Option<ItemName<'a>> {
        loop {
            if self.at_close() {
                return None;
            }
            match self.peek() {
                // Not a name: a value that nobody asked for.
                Some(b'(' | b'"') | None => self.skip(),
                Some(_) => break,
            }
        }
        let name = self.until(|b| matches!(b, b' ' | b'(' | b')' | b'[' | b'"' | b'\t' | b'\r'));
        let section = (self.line.get(self.at) == Some(&b'[')).then(|| self.section());
        let mut origin = None;
        if section.is_some() && self.line.get(self.at) == Some(&b'<') {
            self.at += 1;
            // Some servers echo `<0.40>`.
            origin = parse_number(self.until(|b| !b.is_ascii_digit()));
            self.until(|b| matches!(b, b'>' | b' ' | b')'));
            self.at += usize::from(self.line.get(self.at) == Some(&b'>'));
        }
        Some(ItemName { name, section, origin })
    }

    /// What stands between the brackets that begin here. Names in it may be quoted and may even be literals; with a
    /// literal only what stands before it is given, which is no section that can be understood.
    fn section(&mut self) -> &'a [u8] {
        self.at += 1;
        let before = &self.line[self.at..];
        let mut start = Some(self.at);
        loop {
            match self.line.get(self.at) {
                Some(b']') => {
                    self.at += 1;
                    return start.map_or(before, |start| &self.line[start..self.at - 1]);
                }
                Some(b'"') => {
                    self.quoted();
                }
                Some(_) => self.at += 1,
                None if self.rest.is_empty() => return before,
                None => {
                    self.literal();
                    start = None;
                }
            }
        }
    }

    /// The literal that stands at the end of this piece of line text.
    fn literal(&mut self) -> Token<'a> {
        let Some(((literal, line), rest)) = self.rest.split_first() else { return Token::End };
        (self.line, self.at, self.rest) = (line, 0, rest);
        match literal {
            Literal::Data(data) => Token::Literal(data),
            Literal::Oversize(octets) => Token::Oversize(*octets),
        }
    }

    /// The quoted string that begins here. `\` before anything but `"` and `\` stands for itself; without a closing
    /// quote it goes to the end of the line.
    fn quoted(&mut self) -> Cow<'a, [u8]> {
        self.at += 1;
        let mut text = Cow::Borrowed(&self.line[self.at..self.at]);
        loop {
            let rest = &self.line[self.at..];
            let end = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            if text.is_empty() {
                text = Cow::Borrowed(&rest[..end]);
            } else {
                text.to_mut().extend_from_slice(&rest[..end]);
            }
            self.at += end;
            match (rest.get(end), rest.get(end + 1)) {
                (Some(b'\\'), Some(escaped @ (b'"' | b'\\'))) => {
                    text.to_mut().push(*escaped);
                    self.at += 2;
                }
                (Some(b'\\'), _) => {
                    text.to_mut().push(b'\\');
                    self.at += 1;
                }
                (Some(_), _) => {
                    self.at += 1;
                    return text;
                }
                (None, _) => return text,
            }
        }
    }

    /// Reads up to the first octet for which `stop` holds.
    fn until(&mut self, stop: impl Fn(u8) -> bool) -> &'a [u8] {
        let text = &self.line[self.at..];
        let end = text.iter().position(|b| stop(*b)).unwrap_or(text.len());
        self.at += end;
        &text[..end]
    }
}

fn ends_atom(byte: u8) -> bool {
    matches!(byte, b' ' | b'(' | b')' | b'"' | b'\t' | b'\r')
}
