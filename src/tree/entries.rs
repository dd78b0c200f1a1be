//! The files of a message, from its MIME tree.
//!
//! 1. Parts are numbered in pre-order; the message itself is 0, the root of its tree 1. An entry's id is four times
//!    the number and a kind: 0 the directory or the file itself, 1 its `headers.txt`, 2 its `message.eml`. So
//!    `EntryId(0)` is the message's directory, and an id means the same for as long as the message exists.
//! 2. Multiparts make no directories: their leaves stand in the directory of the message that they belong to. An
//!    attached message is a directory.
//! 3. Text bodies get their names first, then attached messages, then the rest in order, so that what a sender
//!    called an attachment changes no name of ours.
//! 4. Every leaf is exactly one entry. What is not shown apart (too many parts, a large attached message) is whole
//!    in the `.eml` file around it.

use super::node::EntryId;
use super::part_name::{self, HEADERS, HTML, RAW, TEXT, Taken};
use crate::mail::header;
use crate::mail::part::{Body, Encoding, Part};
use crate::mail::section::{Section, Text};

/// Parts beyond this number are not shown: an id has 16 bits.
pub const MAX_PARTS: u16 = 16_000;

/// Texts longer than this, encoded octets, are files with their bytes as sent: a text is converted in memory, for its
/// size must be known. Attached messages longer than this are `.eml` files: their header is read through them.
pub const MAX_TEXT: u64 = 16 << 20;

/// Something in a message's directory, or that directory itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryInfo {
    /// Which.
    pub id: EntryId,
    /// The directory it stands in; its own id for the message's directory.
    pub parent: EntryId,
    /// Its name, at most 143 octets; empty for the message's directory.
    pub name: Box<str>,
    /// What is in it.
    pub content: Content,
    /// Is it shown in listings, or does it answer only when it is named?
    pub listed: bool,
}

/// Where the bytes of an entry come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory: the message, or an attached message.
    Directory,
    /// Every field of this header (`HEADER`, `2.1.HEADER`), decoded, UTF-8, LF.
    Headers(Section),
    /// A message (`BODY[]`, `BODY[2.1]`), byte for byte.
    Raw(Section),
    /// A text body: decoded, converted to UTF-8 and LF.
    Text {
        /// The part's body.
        section: Section,
        /// How it is encoded.
        encoding: Encoding,
        /// Lower-case; `None` when the sender told none.
        charset: Option<String>,
        /// `text/html` rather than `text/plain`.
        html: bool,
        /// Encoded length; a hint.
        octets: u64,
    },
    /// Anything else: the exact decoded bytes.
    File {
        /// The part's body.
        section: Section,
        /// How it is encoded.
        encoding: Encoding,
        /// Encoded length; a hint.
        octets: u64,
    },
}

impl Content {
    /// The section that the bytes come from; `None` for a directory.
    pub fn section(&self) -> Option<&Section> {
        match self {
            Content::Directory => None,
            Content::Headers(section)
            | Content::Raw(section)
            | Content::Text { section, .. }
            | Content::File { section, .. } => Some(section),
        }
    }

    /// Is it a directory?
    pub fn is_directory(&self) -> bool {
        matches!(self, Content::Directory)
    }
}

/// The entries of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    // Invariant: ascending by id, no id twice; the first is the message's directory.
    list: Vec<EntryInfo>,
    // Invariant: the places in `list` of all but the first, sorted by parent and name, no two alike.
    by_name: Box<[u16]>,
    complete: bool,
}

impl Entries {
    /// The entry with this id.
    pub fn get(&self, id: EntryId) -> Option<&EntryInfo> {
        self.list.binary_search_by_key(&id, |entry| entry.id).ok().map(|place| &self.list[place])
    }

    /// The entry of this name in the directory `parent`, listed or not.
    pub fn lookup(&self, parent: EntryId, name: &str) -> Option<&EntryInfo> {
        let place = self.by_name.binary_search_by(|place| {
            let entry = &self.list[usize::from(*place)];
            (entry.parent, &*entry.name).cmp(&(parent, name))
        });
        place.ok().map(|place| &self.list[usize::from(self.by_name[place])])
    }

    /// What is in the directory `parent`, listed or not, in the order of the parts.
    pub fn children(&self, parent: EntryId) -> Vec<&EntryInfo> {
        let start = self.by_name.partition_point(|place| self.list[usize::from(*place)].parent < parent);
        let end = self.by_name.partition_point(|place| self.list[usize::from(*place)].parent <= parent);
        let mut places = self.by_name[start..end].to_vec();
        places.sort_unstable();
        places.into_iter().map(|place| &self.list[usize::from(place)]).collect()
    }

    /// All entries, ascending by id, directories before what is in them; the first is the message's directory.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &EntryInfo> {
        self.list.iter()
    }

    /// Octets of their names, sections and charsets in memory, about.
    pub fn texts(&self) -> usize {
        let texts = |entry: &EntryInfo| {
            let charset = match &entry.content {
                Content::Text { charset, .. } => charset.as_ref().map_or(0, String::capacity),
                _ => 0,
            };
            entry.name.len() + charset + entry.content.section().map_or(0, |section| size_of_val(&*section.path))
        };
        self.list.iter().map(texts).sum()
    }

    /// False when the message has more than [`MAX_PARTS`] parts, so that some are not shown.
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

/// The part that an entry's id belongs to; `None` for what belongs to the message as a whole, and for an id that
/// this tree does not have. Time grows with the number of parts.
pub fn part(root: &Part, id: EntryId) -> Option<&Part> {
    let number = usize::from(id.0 / 4).checked_sub(1)?;
    let mut stack = vec![root];
    for _ in 0..number {
        let part = stack.pop()?;
        match &part.body {
            Body::Leaf => {}
            Body::Multipart(parts) => stack.extend(parts.iter().rev()),
            Body::Message(inner) => stack.push(inner),
        }
    }
    stack.pop()
}

/// Where a part stands, as far as its name depends on it.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Where text is body text.
    Body,
    /// Among what a body refers to: RFC 2387, all but the root of a multipart/related.
    Resource,
    /// In an attached message that is shown as one file.
    Hidden,
}

/// The files of the message with this MIME tree.
pub fn entries(root: &Part) -> Entries {
    let mut builder = Builder { list: Vec::with_capacity(8), taken: Taken::default(), unnamed: Vec::new() };
    builder.message(0, EntryId(0), "".into(), &[]);
    // A stack of our own: nesting is the sender's choice.
    let mut stack = vec![(root, EntryId(0), Place::Body)];
    let mut number = 0;
    while let Some((part, directory, place)) = stack.pop() {
        number += 1;
        if number > MAX_PARTS {
            break;
        }
        match &part.body {
            Body::Multipart(parts) => {
                let related = if part.is("multipart", "related") { Some(related_root(part, parts)) } else { None };
                let places = parts.iter().enumerate().map(|(at, child)| {
                    let is_resource = place == Place::Body && related.is_some_and(|root| root != at);
                    (child, directory, if is_resource { Place::Resource } else { place })
                });
                stack.extend(places.rev());
            }
            Body::Message(inner) if place == Place::Hidden => stack.push((inner, directory, Place::Hidden)),
            Body::Message(inner) => {
                let shown = builder.attached_message(number, directory, part);
                stack.push((
                    inner,
                    shown.unwrap_or(directory),
                    if shown.is_some() { Place::Body } else { Place::Hidden },
                ));
            }
            Body::Leaf if place == Place::Hidden => {}
            Body::Leaf => builder.leaf(number, directory, part, place),
        }
    }
    builder.finish(number <= MAX_PARTS)
}

/// Which part of a multipart/related is the root: the one that `start` names, else the first (RFC 2387 section 3.2).
fn related_root(related: &Part, parts: &[Part]) -> usize {
    let start = header::parameter(&related.params, "start").unwrap_or_default();
    let bare = |id: &str| id.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
    let start = bare(&start);
    parts.iter().position(|part| !start.is_empty() && bare(&part.content_id) == start).unwrap_or(0)
}

struct Builder<'a> {
    list: Vec<EntryInfo>,
    taken: Taken,
    // Places in `list` of the files that are named last.
    unnamed: Vec<(usize, &'a Part)>,
}

impl<'a> Builder<'a> {
    /// The directory of a message, and what every one has.
    fn message(&mut self, number: u16, parent: EntryId, name: Box<str>, path: &[u32]) -> EntryId {
        let [id, headers, raw] = [0, 1, 2].map(|kind| EntryId(4 * number + kind));
        let section = |text| Section { path: path.into(), text };
        self.push(id, parent, name, Content::Directory, true);
        self.push(headers, id, HEADERS.into(), Content::Headers(section(Text::Header)), true);
        self.push(raw, id, RAW.into(), Content::Raw(section(Text::Body)), false);
        id
    }

    /// An attached message; its directory, unless it is shown as one file.
    fn attached_message(&mut self, number: u16, directory: EntryId, part: &Part) -> Option<EntryId> {
        if part.octets <= MAX_TEXT {
            let name = self.taken.claim_forwarded(directory, "");
            Some(self.message(number, directory, name.into(), &part.path))
        } else {
            let name = self.taken.claim_forwarded(directory, ".eml");
            let content = Content::Raw(Section::part(&part.path));
            self.push(EntryId(4 * number), directory, name.into(), content, true);
            None
        }
    }

    fn leaf(&mut self, number: u16, directory: EntryId, part: &'a Part, place: Place) {
        let section = Section::part(&part.path);
        let (encoding, octets) = (part.encoding, part.octets);
        let html = part.is("text", "html");
        let named = part.filename().is_some();
        let is_message = part.is("message", "rfc822") || part.is("message", "global");
        let is_body = place == Place::Body && (html || part.is("text", "plain")) && !part.is_attachment() && !named;
        let name = if is_body {
            self.taken.claim_own(directory, if html { HTML } else { TEXT })
        } else if is_message && !named {
            self.taken.claim_forwarded(directory, ".eml")
        } else {
            self.unnamed.push((self.list.len(), part));
            String::new()
        };
        let content = if is_body && octets <= MAX_TEXT {
            Content::Text { section, encoding, charset: part.charset(), html, octets }
        } else {
            Content::File { section, encoding, octets }
        };
        self.push(EntryId(4 * number), directory, name.into(), content, true);
    }

    fn push(&mut self, id: EntryId, parent: EntryId, name: Box<str>, content: Content, listed: bool) {
        self.list.push(EntryInfo { id, parent, name, content, listed });
    }

    fn finish(mut self, complete: bool) -> Entries {
        for (place, part) in std::mem::take(&mut self.unnamed) {
            let entry = &mut self.list[place];
            entry.name = self.taken.claim(entry.parent, &part_name::wanted(part)).into();
        }
        let list = self.list;
        // At most three entries a part: the places fit.
        let mut by_name: Box<[u16]> = (1..list.len()).map(|place| place as u16).collect();
        by_name.sort_unstable_by(|a, b| {
            let key = |place: &u16| (list[usize::from(*place)].parent, &*list[usize::from(*place)].name);
            key(a).cmp(&key(b))
        });
        Entries { list, by_name, complete }
    }
}

#[cfg(test)]
mod tests;
