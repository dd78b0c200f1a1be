//! Takes a whole raw message apart into the part tree that an IMAP server would show, with the place of every body.
//!
//! An own splitter, not mail-parser, for three reasons: mail-parser decodes every body when all that is wanted is where
//! it lies; it takes a boundary in the middle of a line for one; and it has no octets as BODYSTRUCTURE counts them. The
//! rules are those of Dovecot's message parser, by which most servers go:
//! 1. A header ends at its first empty line, or where a boundary of an open multipart stands.
//! 2. A boundary matches the beginning of a line (RFC 2046 section 5.1.1); of several open ones the longest that does.
//! 3. The line end before a boundary belongs to the boundary. A part that is not closed ends where its parent ends.
//! 4. A multipart without a boundary parameter, or whose boundary never occurs, is text/plain (RFC 2045 section 5.2).
//!
//! One pass, no recursion, bounded depth and number of parts: what is beyond stays inside the part before it.

use std::collections::BTreeMap;
use std::ops::Range;

use memchr::memchr;
use memchr::memmem;

use super::header::{self, Params};
use super::part::{Body, Encoding, Part};
use super::section::PartPath;

/// Parts within parts; Dovecot has 100, Courier 10.
const MAX_DEPTH: usize = 64;

/// Nodes of the tree.
const MAX_PARTS: usize = 4000;

/// Of a part path that a server may state: see [`sane`].
const MAX_PATH: usize = 60;

/// A message taken apart.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The tree; octets are exact.
    pub root: Part,
    /// Where the encoded body of each leaf and each attached message (its header and body) lies in the raw message.
    pub places: BTreeMap<PartPath, Range<usize>>,
    /// Where the header of the message (empty path) and of each attached message lies, with the empty line.
    pub headers: BTreeMap<PartPath, Range<usize>>,
}

/// Takes a raw message apart, whatever it is; line ends may be CRLF or LF.
pub fn parse(raw: &[u8]) -> Parsed {
    let mut splitter = Splitter { raw, ..Splitter::default() };
    splitter.open_parts(0);
    while let Some(delimiter) = splitter.next_delimiter() {
        // Nothing is lost: the rest of the message stays in the part that is open now.
        if splitter.parts >= MAX_PARTS {
            break;
        }
        splitter.close_above(delimiter.owner + 1, delimiter.line.start);
        if delimiter.is_last {
            splitter.open[delimiter.owner].is_closed = true;
            splitter.at = delimiter.line.end;
        } else {
            splitter.open_parts(delimiter.line.end);
        }
    }
    let root = splitter.close_above(0, raw.len());
    Parsed {
        root: root.unwrap_or_else(|| part_of(&Fields::default(), false)),
        places: splitter.places,
        headers: splitter.headers,
    }
}

#[derive(Default)]
struct Splitter<'a> {
    raw: &'a [u8],
    /// The start of the next line to look at.
    at: usize,
    /// The part that `at` is in, and those around it.
    open: Vec<Open>,
    parts: usize,
    places: BTreeMap<PartPath, Range<usize>>,
    headers: BTreeMap<PartPath, Range<usize>>,
}

/// A part whose end is not known yet.
struct Open {
    part: Part,
    /// Where its body begins.
    start: usize,
    kind: Kind,
    /// The parts of a multipart, or the root of an attached message.
    children: Vec<Part>,
    /// A multipart whose last boundary was seen: what follows is its epilogue.
    is_closed: bool,
}

enum Kind {
    Leaf,
    Message,
    /// With `--` and its boundary.
    Multipart(Vec<u8>),
}

/// The line of a boundary.
struct Delimiter {
    line: Range<usize>,
    /// Index of the open multipart that it belongs to.
    owner: usize,
    is_last: bool,
}

impl Splitter<'_> {
    /// Opens the part whose header begins at `start`; in an attached message also the root that is in it.
    fn open_parts(&mut self, start: usize) {
        self.at = start;
        loop {
            let header = self.at..self.header_end();
            self.at = header.end;
            self.parts += 1;
            let parent = self.open.last();
            let is_digest = parent.is_some_and(|p| p.part.is("multipart", "digest"));
            let mut part = part_of(&Fields::new(&self.raw[header.clone()]), is_digest);
            let is_root = parent.is_none_or(|p| matches!(p.kind, Kind::Message));
            let base = parent.map_or(&[][..], |p| &p.part.path);
            let kind = if self.open.len() < MAX_DEPTH { kind_of(&part) } else { Kind::Leaf };
            if matches!(kind, Kind::Leaf) && &*part.media == "multipart" {
                make_text(&mut part);
            }
            part.path = match (is_root, &kind) {
                (true, Kind::Multipart(_)) => base.into(),
                (true, _) => [base, &[1]].concat().into(),
                (false, _) => [base, &[parent.map_or(1, |p| p.children.len() as u32 + 1)]].concat().into(),
            };
            if is_root {
                self.headers.insert(base.into(), header);
            }
            let is_message = matches!(kind, Kind::Message);
            self.open.push(Open { part, start: self.at, kind, children: Vec::new(), is_closed: false });
            if !is_message {
                break;
            }
        }
    }

    /// Where the header that begins here ends.
    fn header_end(&self) -> usize {
        let mut at = self.at;
        while at < self.raw.len() {
            let end = self.line_end(at);
            match &self.raw[at..end] {
                b"\r\n" | b"\n" => return end,
                line if line.starts_with(b"--") && self.owner(line).is_some() => return at,
                _ => at = end,
            }
        }
        at
    }

    fn line_end(&self, at: usize) -> usize {
        memchr(b'\n', &self.raw[at..]).map_or(self.raw.len(), |n| at + n + 1)
    }

    /// The next line that is a boundary of an open multipart.
    fn next_delimiter(&mut self) -> Option<Delimiter> {
        let finder = memmem::Finder::new(b"\n--");
        while self.open.iter().any(Open::is_divided) {
            if !self.raw[self.at..].starts_with(b"--") {
                self.at += finder.find(&self.raw[self.at..])? + 1;
            }
            let line = self.at..self.line_end(self.at);
            let text = &self.raw[line.clone()];
            if let Some((owner, length)) = self.owner(text) {
                return Some(Delimiter { line, owner, is_last: text[length..].starts_with(b"--") });
            }
            self.at = line.end;
        }
        None
    }

    /// The open multipart that this line, which begins with `--`, divides, and the length of its delimiter.
    fn owner(&self, line: &[u8]) -> Option<(usize, usize)> {
        let mut best = None;
        for (n, open) in self.open.iter().enumerate() {
            if let Kind::Multipart(delimiter) = &open.kind
                && !open.is_closed
                && best.is_none_or(|(_, length)| delimiter.len() >= length)
                && line.starts_with(delimiter)
            {
                best = Some((n, delimiter.len()));
            }
        }
        best
    }

    /// Closes the open parts but the first `keep`; the line at `end` is none of theirs. Gives the root if it was closed.
    fn close_above(&mut self, keep: usize, end: usize) -> Option<Part> {
        let body = &self.raw[..end];
        let body = match end < self.raw.len() {
            true => body.strip_suffix(b"\n").map_or(body, |b| b.strip_suffix(b"\r").unwrap_or(b)),
            false => body,
        };
        while self.open.len() > keep {
            let open = self.open.pop()?;
            let place = open.start..body.len().max(open.start);
            let is_root = self.open.last().is_none_or(|p| matches!(p.kind, Kind::Message));
            let part = open.close(place.clone(), is_root);
            if !matches!(part.body, Body::Multipart(_)) {
                self.places.insert(part.path.clone(), place);
            }
            match self.open.last_mut() {
                Some(parent) => parent.children.push(part),
                None => return Some(part),
            }
        }
        None
    }
}

impl Open {
    fn is_divided(&self) -> bool {
        matches!(self.kind, Kind::Multipart(_)) && !self.is_closed
    }

    fn close(self, place: Range<usize>, is_root: bool) -> Part {
        let Self { mut part, kind, mut children, .. } = self;
        part.octets = place.len() as u64;
        match kind {
            Kind::Leaf => {}
            Kind::Multipart(_) if children.is_empty() => {
                make_text(&mut part);
                if is_root {
                    part.path = [&part.path, &[1][..]].concat().into();
                }
            }
            Kind::Multipart(_) => part.body = Body::Multipart(children),
            Kind::Message => part.body = children.pop().map_or(Body::Leaf, |root| Body::Message(Box::new(root))),
        }
        part
    }
}

/// What a part that cannot be what its Content-Type says is.
fn make_text(part: &mut Part) {
    (part.media, part.subtype) = ("text".into(), "plain".into());
    part.params.clear();
}

/// The header fields that make a part; of repeated ones the first.
#[derive(Default)]
struct Fields<'a> {
    content_type: Option<&'a [u8]>,
    disposition: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn new(header: &'a [u8]) -> Self {
        let mut fields = Self::default();
        for (name, body) in header::logical_lines(header).filter_map(header::split_field) {
            let field = match name.to_ascii_lowercase().as_slice() {
                b"content-type" => &mut fields.content_type,
                b"content-disposition" => &mut fields.disposition,
                b"content-transfer-encoding" => &mut fields.encoding,
                b"content-id" => &mut fields.id,
                _ => continue,
            };
            field.get_or_insert(body);
        }
        fields
    }
}

fn part_of(fields: &Fields<'_>, is_digest: bool) -> Part {
    let default = if is_digest { ("message", "rfc822") } else { ("text", "plain") };
    let (value, params) = fields.content_type.map(header::parse_params).unwrap_or_default();
    let value = String::from_utf8_lossy(&value).to_ascii_lowercase();
    let (media, subtype) = match value.split_once('/') {
        // Some forget the semicolon.
        Some((media, rest)) => (media.trim_end(), rest.split_ascii_whitespace().next().unwrap_or_default()),
        None => ("", ""),
    };
    let (media, subtype) = match fields.content_type {
        None => default,
        Some(_) if is_token(media) && is_token(subtype) => (media, subtype),
        Some(_) => ("text", "plain"),
    };
    let disposition = fields.disposition.map(|raw| {
        let (kind, params) = header::parse_params(raw);
        (String::from_utf8_lossy(&kind).to_ascii_lowercase().into(), params)
    });
    // "7bit (comment)" and "base64;" were seen.
    let encoding = fields.encoding.map(|raw| header::parse_params(raw).0).unwrap_or_default();
    Part {
        path: PartPath::default(),
        media: media.into(),
        subtype: subtype.into(),
        params,
        disposition,
        content_id: fields.id.map(header::decode).unwrap_or_default().into(),
        encoding: if media == "multipart" { Encoding::Identity } else { Encoding::parse(&encoding) },
        octets: 0,
        body: Body::Leaf,
    }
}

fn kind_of(part: &Part) -> Kind {
    if &*part.media == "multipart" {
        let boundary = boundary(&part.params);
        let boundary = boundary.trim_ascii_end();
        return if boundary.is_empty() { Kind::Leaf } else { Kind::Multipart([b"--", boundary].concat()) };
    }
    if is_message(part) && part.encoding == Encoding::Identity { Kind::Message } else { Kind::Leaf }
}

fn is_message(part: &Part) -> bool {
    part.is("message", "rfc822") || part.is("message", "global")
}

fn boundary(params: &Params) -> Vec<u8> {
    let plain = params.iter().find(|(name, _)| &**name == "boundary").map(|(_, value)| value.clone());
    plain.or_else(|| header::parameter(params, "boundary").map(String::into_bytes)).unwrap_or_default()
}

/// A `token`, RFC 2045 section 5.1, of a length that means something.
fn is_token(text: &str) -> bool {
    (1..=127).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
}

/// Does the structure that a server stated for a message of `message_size` octets make sense? When not, fetch the
/// message and [`parse`] it.
///
/// Servers were seen to send leaves of type `multipart/mixed` and `text/mixed`, empty types, multiparts without parts;
/// and when the message is itself a `message/rfc822`, section 1 is something else on each of them.
pub fn sane(part: &Part, message_size: u64) -> bool {
    const SPLIT: [&str; 8] = ["mixed", "alternative", "related", "digest", "parallel", "signed", "encrypted", "report"];
    if is_message(part) {
        return false;
    }
    let mut todo = vec![part];
    let (mut parts, mut octets) = (0, 0u64);
    while let Some(part) = todo.pop() {
        parts += 1;
        if parts > MAX_PARTS || part.path.len() > MAX_PATH || !is_token(&part.media) || !is_token(&part.subtype) {
            return false;
        }
        let is_multipart = &*part.media == "multipart";
        match &part.body {
            Body::Leaf => {
                if is_multipart || &*part.media == "text" && SPLIT.contains(&&*part.subtype) || part.path.is_empty() {
                    return false;
                }
                octets = octets.saturating_add(part.octets);
            }
            Body::Multipart(children) if is_multipart && !children.is_empty() => todo.extend(children),
            Body::Message(root) if &*part.media == "message" => todo.push(root),
            Body::Multipart(_) | Body::Message(_) => return false,
        }
    }
    // All parts empty: the text stands where no boundary led to it, as with a boundary that never occurs. Cyrus 3.6
    // makes one empty text of such a message. Where there is nothing but a header, to fetch it all costs no more.
    octets <= message_size && octets > 0
}

#[cfg(test)]
#[path = "mime_tests.rs"]
mod tests;
