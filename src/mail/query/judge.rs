//! What can be told of a message here, from what is known of it, without asking the server.

use chrono::DateTime;

use super::glob::{contains, matches};
use super::{Field, State, Term, When};
use crate::mail::envelope::Summary;
use crate::mail::part::{Body, Part};

/// Names and types of the parts of a message: what is kept of its structure to answer for it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Media types, `text/plain`; the multiparts' as well.
    pub types: Box<[Box<str>]>,
    /// The names that the sender gave to parts, decoded.
    pub names: Box<[Box<str>]>,
    /// Is one of the parts an attachment? See [`attachments_of`].
    pub attachment: bool,
}

/// The texts of a message, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// All header fields, one a line.
    pub header: String,
    /// The bodies.
    pub body: String,
}

impl Facts {
    /// What the structure of a message tells.
    pub fn new(root: &Part) -> Self {
        let mut parts = Vec::new();
        collect(root, &mut parts);
        Self {
            types: parts.iter().map(|part| part.mime_type().into()).collect(),
            names: parts.iter().filter_map(|part| part.filename()).map(Into::into).collect(),
            attachment: attachments_of(root) > 0,
        }
    }

    /// Octets in memory, about.
    pub fn weight(&self) -> usize {
        64 + self.types.iter().chain(&self.names).map(|text| text.len() + 16).sum::<usize>()
    }
}

fn collect<'a>(part: &'a Part, into: &mut Vec<&'a Part>) {
    into.push(part);
    match &part.body {
        Body::Leaf => {}
        Body::Multipart(parts) => parts.iter().for_each(|part| collect(part, into)),
        Body::Message(inner) => collect(inner, into),
    }
}

/// How many attachments a message has: parts that were sent as such, parts with a file name but for the pictures in a
/// text (inline, with a Content-ID), and attached messages. What is in an attached message is not counted.
pub fn attachments_of(root: &Part) -> usize {
    match &root.body {
        Body::Multipart(parts) => parts.iter().map(attachments_of).sum(),
        Body::Message(_) => 1,
        Body::Leaf => {
            let inline = root.disposition.as_ref().is_some_and(|(kind, _)| &**kind == "inline");
            let in_text = inline && !root.content_id.is_empty();
            usize::from(root.is_attachment() || !in_text && root.filename().is_some())
        }
    }
}

impl Term {
    /// Does a message answer to this term? `None` when what is given cannot tell. `now`: seconds since 1970 UTC.
    pub fn judge(
        &self,
        summary: Option<&Summary>,
        facts: Option<&Facts>,
        texts: Option<&Texts>,
        now: i64,
    ) -> Option<bool> {
        match self {
            Term::All => Some(true),
            Term::Text(field, text) => texts.map(|texts| has_text(texts, *field, text)),
            Term::Header(name, text) => texts.map(|texts| has_field(&texts.header, name, text)),
            Term::Is(state) => summary.map(|s| is_in_state(s, *state)),
            Term::Tag(keyword) => summary.map(|s| s.flags.contains(keyword)),
            Term::Date(when, date) => summary.map(|s| {
                let day = DateTime::from_timestamp(s.internal_date, 0).unwrap_or_default().date_naive();
                match when {
                    When::Since => day >= *date,
                    When::Before => day < *date,
                    When::On => day == *date,
                }
            }),
            Term::Newer(seconds) => summary.map(|s| age(s, now) <= i128::from(*seconds)),
            Term::Older(seconds) => summary.map(|s| age(s, now) >= i128::from(*seconds)),
            Term::Larger(octets) => summary.map(|s| s.size > *octets),
            Term::Smaller(octets) => summary.map(|s| s.size < *octets),
            Term::Attachment => facts.map(|facts| facts.attachment),
            Term::Type(media, subtype) => {
                let pattern = format!("{media}/{subtype}");
                facts.map(|facts| facts.types.iter().any(|kind| matches(&pattern, kind)))
            }
            Term::Filename(pattern) => {
                let whole = pattern.contains(['*', '?']);
                let is_so = |name: &str| if whole { matches(pattern, name) } else { contains(name, pattern) };
                facts.map(|facts| facts.names.iter().any(|name| is_so(name)))
            }
            Term::Uid(uids) => summary.map(|s| uids.contains(s.uid)),
            Term::Gmail(_) | Term::Imap(_) => None,
        }
    }
}

fn age(summary: &Summary, now: i64) -> i128 {
    i128::from(now) - i128::from(summary.internal_date)
}

fn is_in_state(summary: &Summary, state: State) -> bool {
    let has = |flag| summary.flags.contains(flag);
    match state {
        State::Unread => !has("\\Seen"),
        State::Read => has("\\Seen"),
        State::Flagged => has("\\Flagged"),
        State::Answered => has("\\Answered"),
        State::Draft => has("\\Draft"),
        State::Deleted => has("\\Deleted"),
    }
}

fn has_text(texts: &Texts, field: Field, text: &str) -> bool {
    match field {
        Field::Anywhere => contains(&texts.header, text) || contains(&texts.body, text),
        Field::Body => contains(&texts.body, text),
        Field::From => has_field(&texts.header, "from", text),
        Field::To => has_field(&texts.header, "to", text),
        Field::Cc => has_field(&texts.header, "cc", text),
        Field::Bcc => has_field(&texts.header, "bcc", text),
        Field::Subject => has_field(&texts.header, "subject", text),
    }
}

fn has_field(header: &str, name: &str, text: &str) -> bool {
    let mut fields = header.lines().filter_map(|line| line.split_once(':'));
    fields.any(|(field, value)| field.trim_end().eq_ignore_ascii_case(name) && contains(value, text))
}
