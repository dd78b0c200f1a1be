//! BODYSTRUCTURE and BODY, RFC 9051 section 7.5.2: what servers get wrong without losing the meaning is forgiven, and
//! what makes no sense is refused rather than guessed, so that the message itself can be asked.

use std::borrow::Cow;

use super::frame::parse_number;
use super::token::{Cursor, Token};
use crate::mail::header::Params;
use crate::mail::part::{Body, Encoding, Part};

/// Parts inside parts; deeper makes no sense.
const DEPTH: usize = 64;
/// Parts of one message; more makes no sense.
const PARTS: usize = 10_000;
/// Subtypes of multipart. As those of text they come from servers that could not find the parts (Stalwart).
const MULTIPARTS: [&str; 7] = ["mixed", "alternative", "related", "digest", "parallel", "signed", "report"];

/// Reads one value as the root of a part tree, paths filled in. `None`, and the value skipped, when it makes no sense.
pub fn parse(cursor: &mut Cursor<'_>) -> Option<Part> {
    if !cursor.at_open() {
        cursor.skip();
        return None;
    }
    let outside = cursor.depth();
    let part = Reader { cursor, path: Vec::new(), parts: 0 }.part(0, true);
    cursor.leave(outside);
    part
}

struct Reader<'c, 'a> {
    cursor: &'c mut Cursor<'a>,
    /// Where the part that is being read stands.
    path: Vec<u32>,
    parts: usize,
}

impl<'a> Reader<'_, 'a> {
    /// One part with its parentheses. `root`: of a message, so that a part which is no multipart is its part 1.
    fn part(&mut self, depth: usize, root: bool) -> Option<Part> {
        self.parts += 1;
        if depth > DEPTH || self.parts > PARTS || !self.cursor.at_open() {
            return None;
        }
        let outside = self.cursor.depth();
        self.cursor.enter();
        let part = if self.cursor.at_open() {
            self.multipart(depth)
        } else if root {
            self.path.push(1);
            let leaf = self.single(depth);
            self.path.pop();
            leaf
        } else {
            self.single(depth)
        }?;
        self.cursor.leave(outside);
        Some(part)
    }

    /// `(part)(part) "mixed" params disposition language location`
    fn multipart(&mut self, depth: usize) -> Option<Part> {
        let mut parts = Vec::new();
        while self.cursor.at_open() {
            self.path.push(u32::try_from(parts.len() + 1).ok()?);
            parts.push(self.part(depth + 1, false)?);
            self.path.pop();
        }
        let subtype = self.name("mixed")?;
        let params = self.params();
        Some(Part {
            path: self.path.as_slice().into(),
            media: "multipart".into(),
            subtype,
            params,
            disposition: self.disposition(),
            content_id: Box::default(),
            encoding: Encoding::Identity,
            octets: 0,
            body: Body::Multipart(parts),
        })
    }

    /// `"type" "subtype" params id description encoding octets …`
    fn single(&mut self, depth: usize) -> Option<Part> {
        let (media, subtype) = (self.name("text")?, self.name("plain")?);
        if &*media == "multipart" || (&*media == "text" && MULTIPARTS.contains(&&*subtype)) {
            return None;
        }
        let params = self.params();
        let content_id = lossy(&self.string()?);
        self.string()?; // The description.
        let encoding = Encoding::parse(&self.string()?);
        // NIL and negative numbers are seen; it is a hint in any case.
        let octets = parse_number(&self.string()?).unwrap_or(0);
        let attached = &*media == "message" && matches!(&*subtype, "rfc822" | "global");
        let mut body = Body::Leaf;
        if attached
            && let Some(inner) = self.message(depth)?
            // What is encoded cannot be addressed: `BODY[2.1]` would mean the decoded message.
            && encoding == Encoding::Identity
        {
            body = Body::Message(Box::new(inner));
        }
        if attached || &*media == "text" {
            self.lines();
        }
        if !self.cursor.at_open() {
            self.cursor.skip(); // MD5.
        }
        Some(Part {
            path: self.path.as_slice().into(),
            media,
            subtype,
            params,
            disposition: self.disposition(),
            content_id,
            encoding,
            octets,
            body,
        })
    }

    /// Envelope and structure of an attached message. Some servers leave them out or send NIL for them:
    /// `Some(None)`. `None` when the inner structure makes no sense.
    fn message(&mut self, depth: usize) -> Option<Option<Part>> {
        if self.cursor.at_open() {
            self.cursor.skip();
        } else {
            // NIL: the envelope; or, where both are left out, the MD5.
            let mut ahead = self.cursor.clone();
            ahead.skip();
            if is_structure(ahead.clone()) {
                *self.cursor = ahead;
            } else if ahead.token() == Token::Nil && matches!(ahead.clone().token(), Token::Atom(_)) {
                *self.cursor = ahead;
                return Some(None);
            } else {
                return Some(None);
            }
        }
        if self.cursor.at_open() { self.part(depth + 1, true).map(Some) } else { Some(None) }
    }

    /// The number of lines; NIL and missing are seen.
    fn lines(&mut self) {
        let mut ahead = self.cursor.clone();
        let lines = match ahead.token() {
            Token::Atom(_) => true,
            // NIL as MD5 has the disposition behind it, NIL as lines has the MD5 between.
            Token::Nil => ahead.token() == Token::Nil && ahead.at_open(),
            _ => false,
        };
        if lines {
            self.cursor.skip();
        }
    }

    /// A list of names and values; anything else is the empty list.
    fn params(&mut self) -> Params {
        let mut params = Params::new();
        if !self.cursor.at_open() {
            self.cursor.skip();
            return params;
        }
        let outside = self.cursor.depth();
        self.cursor.enter();
        while !self.cursor.at_close() {
            let name = self.cursor.string();
            let value = self.cursor.string();
            if let (Some(name), Some(value)) = (name, value) {
                params.push((lower(&name), value.into_owned()));
            }
        }
        self.cursor.leave(outside);
        params
    }

    /// `("attachment" params)`, or the kind alone, as pymap sends it.
    fn disposition(&mut self) -> Option<(Box<str>, Params)> {
        if !self.cursor.at_open() {
            return self.cursor.string().filter(|kind| !kind.is_empty()).map(|kind| (lower(&kind), Params::new()));
        }
        let outside = self.cursor.depth();
        self.cursor.enter();
        let kind = self.cursor.string().filter(|kind| !kind.is_empty()).map(|kind| lower(&kind));
        let params = self.params();
        self.cursor.leave(outside);
        kind.map(|kind| (kind, params))
    }

    /// A media type or subtype in lower-case, `missing` for NIL and the empty string. `None` for a list.
    fn name(&mut self, missing: &str) -> Option<Box<str>> {
        let name = self.string_or_end()?;
        Some(if name.is_empty() { missing.into() } else { lower(&name) })
    }

    /// A string, empty for NIL. `None` for a list and at the end.
    fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        if self.cursor.at_close() { None } else { self.string_or_end() }
    }

    /// A string, empty for NIL and at the end. `None` for a list.
    fn string_or_end(&mut self) -> Option<Cow<'a, [u8]>> {
        if self.cursor.at_open() { None } else { Some(self.cursor.string().unwrap_or_default()) }
    }
}

/// Does a structure begin here, `((` or `("type" "subtype"`, and no disposition, `("attachment" NIL)`?
fn is_structure(mut cursor: Cursor<'_>) -> bool {
    if !cursor.at_open() {
        return false;
    }
    cursor.enter();
    if cursor.at_open() {
        return true;
    }
    cursor.skip();
    matches!(cursor.token(), Token::Quoted(_) | Token::Literal(_) | Token::Atom(_))
}

fn lossy(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}

fn lower(bytes: &[u8]) -> Box<str> {
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    let mut text = text.into_owned().into_boxed_str();
    text.make_ascii_lowercase();
    text
}
