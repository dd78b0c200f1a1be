//! The names of mailboxes as directories: one component for each hierarchy level, escaped reversibly.
//!
//! 1. Most names stand as they are. `%` is the escape: `%XX` is one octet of UTF-8, `%~` begins what only we make.
//!    So a `%` that two hexadecimal digits or a `~` follow is itself escaped, and every component has one reading.
//! 2. Escaped are `/`, controls, bidi overrides, and the first character of `.`, `..` and the names of views. An
//!    empty level (`a//b`, or a delimiter in front) is `%~`.
//! 3. A level too long for a component is cut and ends in `%~` and a hash of the whole. The component alone does not
//!    tell the level then: the wire name is known from the mailbox list, as it is always for a mailbox that exists.
//! 4. Names that differ are different, be it in case or in NFC and NFD only; two mailboxes that would still be the
//!    same path (equal after lossy decoding, or by different delimiters) get `%~` and a hash of the wire name behind
//!    all but the first in byte order. So what a mailbox is called depends on no order of answers.

use std::collections::HashMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::safe;
use super::views;
use crate::mail::mailbox_name::MailboxName;

/// NAME_MAX of Linux, octets.
const MAX_COMPONENT: usize = 255;

/// Levels that become directories; what is below stays together in the last one. Linux takes paths of 4096 octets.
const MAX_DEPTH: usize = 64;

/// Begins what stands for no character.
const MARK: &str = "%~";

/// The component of one hierarchy level: 1 to 255 octets, never `.`, `..` or the name of a view.
pub fn component(level: &str) -> String {
    if level.is_empty() {
        return MARK.into();
    }
    let mut out = String::with_capacity(level.len());
    let reserved = level == "." || level == ".." || views::is_reserved(level);
    for (at, c) in level.char_indices() {
        let escaped = match c {
            '/' => true,
            '.' => at == 0 && reserved,
            '%' => begins_escape(&level.as_bytes()[at..]),
            _ => safe::is_deceptive(c),
        };
        if escaped {
            for octet in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{octet:02X}");
            }
        } else {
            out.push(c);
        }
    }
    if out.len() > MAX_COMPONENT { marked(&out, level.as_bytes()) } else { out }
}

/// Does it begin with what the reader of a component takes for an escape?
fn begins_escape(text: &[u8]) -> bool {
    match text {
        [b'%', b'~', ..] => true,
        [b'%', a, b, ..] => a.is_ascii_hexdigit() && b.is_ascii_hexdigit(),
        _ => false,
    }
}

/// The component, cut as needed, with a hash of `identity` behind it: 64 bits, so that no two in an account meet.
fn marked(component: &str, identity: &[u8]) -> String {
    let hash = Sha256::digest(identity);
    let mut out = safe::cut(component, MAX_COMPONENT - MARK.len() - 16).to_owned();
    out.push_str(MARK);
    for octet in &hash[..8] {
        let _ = write!(out, "{octet:02x}");
    }
    out
}

/// The hierarchy level that has this component, for a new mailbox. `None` for a name that [`component`] does not
/// make: a mailbox so called would be shown under another name than the one that was asked for.
pub fn parse_component(name: &str) -> Option<String> {
    if name == MARK {
        return Some(String::new());
    }
    let mut level = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        if begins_escape(rest) {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            level.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            level.push(*first);
            rest = tail;
        }
    }
    let level = String::from_utf8(level).ok()?;
    (component(&level) == name).then_some(level)
}

/// A mailbox as it was listed.
#[derive(Clone, Debug)]
pub struct Listed<'a> {
    /// The name on the wire: which mailbox it is.
    pub wire: &'a MailboxName,
    /// The name decoded.
    pub display: &'a str,
    /// The hierarchy delimiter of this name; `None` when it has one level.
    pub delimiter: Option<u8>,
}

/// A directory of the mailbox tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Its name in its parent; empty for the root.
    pub name: Box<str>,
    /// Its parent's place in the tree; the root's is its own.
    pub parent: usize,
    /// Which of the listed mailboxes it is; `None` for the root and for a parent that was not listed.
    pub mailbox: Option<usize>,
    /// Places of the directories in it, in the byte order of the mailboxes' wire names.
    pub children: Vec<usize>,
}

/// The mailboxes of an account as directories. Place 0 is the root; a parent stands before its children.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    // Invariant: `places` holds each directory but the root, by parent and name.
    directories: Vec<Directory>,
    places: HashMap<(usize, Box<str>), usize>,
}

impl Hierarchy {
    /// The tree of what was listed, in any order; what was listed twice is there once (the first of the rows counts).
    /// Every mailbox has exactly one directory.
    pub fn new(listed: &[Listed<'_>]) -> Self {
        let root = Directory { name: "".into(), parent: 0, mailbox: None, children: Vec::new() };
        let mut tree = Self { directories: vec![root], places: HashMap::with_capacity(listed.len()) };
        let mut order: Vec<usize> = (0..listed.len()).collect();
        order.sort_by_key(|index| listed[*index].wire);
        order.dedup_by_key(|index| listed[*index].wire);
        for index in order {
            tree.insert(&listed[index], index);
        }
        tree
    }

    fn insert(&mut self, mailbox: &Listed<'_>, index: usize) {
        let mut at = 0;
        for level in levels(mailbox) {
            let inbox = at == 0 && level.eq_ignore_ascii_case("INBOX");
            at = self.child_or_new(at, if inbox { "INBOX".into() } else { component(level) });
        }
        if self.directories[at].mailbox.is_some() {
            let (parent, name) = (self.directories[at].parent, self.directories[at].name.clone());
            let mut identity = mailbox.wire.as_bytes().to_vec();
            while self.directories[at].mailbox.is_some() {
                at = self.child_or_new(parent, marked(&name, &identity));
                identity.push(0);
            }
        }
        self.directories[at].mailbox = Some(index);
    }

    fn child_or_new(&mut self, parent: usize, name: String) -> usize {
        let place = self.directories.len();
        let name = name.into_boxed_str();
        let found = *self.places.entry((parent, name.clone())).or_insert(place);
        if found == place {
            self.directories.push(Directory { name, parent, mailbox: None, children: Vec::new() });
            self.directories[parent].children.push(place);
        }
        found
    }

    /// The directories; their places are their indices.
    pub fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// The place of the directory of this name in the one at `parent`. INBOX in any case, unless a mailbox has
    /// just that spelling.
    pub fn child(&self, parent: usize, name: &str) -> Option<usize> {
        let find = |name: &str| self.places.get(&(parent, name.into())).copied();
        find(name).or_else(|| (parent == 0 && name.eq_ignore_ascii_case("INBOX")).then(|| find("INBOX")).flatten())
    }

    /// The components from the root to this place, joined by `/`; empty for the root.
    pub fn path(&self, place: usize) -> String {
        let mut names = Vec::new();
        let mut at = place;
        while let Some(directory) = self.directories.get(at).filter(|_| at != 0) {
            names.push(&*directory.name);
            at = directory.parent;
        }
        names.reverse();
        names.join("/")
    }
}

/// The levels of a name, from the top; one at least. A delimiter at the end ends no level: some servers put one
/// behind parents that hold no mail.
fn levels<'a>(mailbox: &Listed<'a>) -> impl Iterator<Item = &'a str> {
    let delimiter = mailbox.delimiter.filter(u8::is_ascii).map(char::from);
    let name = delimiter.and_then(|d| mailbox.display.strip_suffix(d)).filter(|n| !n.is_empty());
    let name = name.unwrap_or(mailbox.display);
    // Without a delimiter the limit of one keeps the name whole.
    name.splitn(if delimiter.is_some() { MAX_DEPTH } else { 1 }, delimiter.unwrap_or('/'))
}

#[cfg(test)]
mod tests;
