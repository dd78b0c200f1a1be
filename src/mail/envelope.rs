//! What the ENVELOPE of a message says, RFC 9051 section 7.5.2, and the summary that imapfs keeps of a message.

use std::ops::Deref;

use triomphe::ThinArc;

use super::flag::Flags;
use super::header;
use super::uid::Uid;

/// One address as the server took it apart; all fields raw bytes, encoded words not decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Display name.
    pub name: Option<Vec<u8>>,
    /// The part before the `@`; also the name of a group when `host` is missing.
    pub mailbox: Option<Vec<u8>>,
    /// The part after the `@`.
    pub host: Option<Vec<u8>>,
}

/// An ENVELOPE, raw: nothing decoded, a missing field and NIL are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are the header fields of these names
pub struct Envelope {
    pub date: Option<Vec<u8>>,
    pub subject: Option<Vec<u8>>,
    pub from: Vec<Address>,
    pub sender: Vec<Address>,
    pub reply_to: Vec<Address>,
    pub to: Vec<Address>,
    pub cc: Vec<Address>,
    pub bcc: Vec<Address>,
    pub in_reply_to: Option<Vec<u8>>,
    pub message_id: Option<Vec<u8>>,
}

/// What is kept in memory for each message that was listed, in one piece: of a million messages each allocation of its
/// own takes 30 MB at least. A clone is the same piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary(ThinArc<Head, u8>);

/// What a summary has besides texts. Everything but `flags` and `modseq` is immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its UID.
    pub uid: Uid,
    /// INTERNALDATE, seconds since 1970 UTC; may be negative.
    pub internal_date: i64,
    /// RFC822.SIZE, octets: the length of `BODY[]`, the one size that all servers get right.
    pub size: u64,
    /// Flags and keywords.
    pub flags: Flags,
    /// MODSEQ, or 0 where the server has none.
    pub modseq: u64,
    /// Invariant: ascending places in the texts, one behind the other, where a character begins; the last text ends with
    /// them all.
    ends: [u16; TEXTS - 1],
}

/// How many texts there are.
const TEXTS: usize = 7;

/// Octets of a text that are kept: all of them are less than 64 KiB.
const TEXT_MAX: usize = 8192;

/// What a summary has of texts; empty what there is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Texts<'a> {
    /// Decoded Subject.
    pub subject: &'a str,
    /// Decoded display name of the first From address.
    pub from_name: &'a str,
    /// First From address as `mailbox@host`.
    pub from_address: &'a str,
    /// First Sender address, unless it is that of From.
    pub sender_address: &'a str,
    /// Message-ID with its angle brackets.
    pub message_id: &'a str,
    /// EMAILID, RFC 8474.
    pub email_id: &'a str,
    /// THREADID, RFC 8474.
    pub thread_id: &'a str,
}

/// Octets of a header field that are kept in a summary: a hostile Subject must not fill the memory.
const FIELD_MAX: usize = 4096;

fn clip(raw: &[u8]) -> &[u8] {
    &raw[..raw.len().min(FIELD_MAX)]
}

impl Address {
    /// `mailbox@host`, or what there is of it, lossy.
    pub fn spec(&self) -> String {
        let text = |b: &Option<Vec<u8>>| b.as_deref().map(|b| String::from_utf8_lossy(clip(b)).into_owned());
        match (text(&self.mailbox), text(&self.host)) {
            (Some(mailbox), Some(host)) => format!("{mailbox}@{host}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => String::new(),
        }
    }
}

impl Deref for Summary {
    type Target = Head;

    fn deref(&self) -> &Head {
        self.head()
    }
}

impl Head {
    /// What there is of a message without its texts; see the fields.
    pub fn new(uid: Uid, internal_date: i64, size: u64, flags: Flags, modseq: u64) -> Self {
        Self { uid, internal_date, size, flags, modseq, ends: Default::default() }
    }
}

impl Summary {
    /// The summary of a message with these texts. What is too long is cut.
    pub fn pack(mut head: Head, texts: &Texts<'_>) -> Self {
        let Texts { subject, from_name, from_address, sender_address, message_id, email_id, thread_id } = *texts;
        let texts: [_; TEXTS] = [subject, from_name, from_address, sender_address, message_id, email_id, thread_id];
        let texts = texts.map(|text| &text[..text.floor_char_boundary(TEXT_MAX)]);
        let mut end = 0;
        head.ends = std::array::from_fn(|at| {
            end += texts[at].len() as u16;
            end
        });
        Self(ThinArc::from_header_and_slice(head, texts.concat().as_bytes()))
    }

    /// The summary of a message with this envelope.
    pub fn new(uid: Uid, internal_date: i64, size: u64, flags: Flags, modseq: u64, envelope: &Envelope) -> Self {
        let first = |list: &[Address]| list.first().cloned().unwrap_or_default();
        let decoded = |raw: &Option<Vec<u8>>| raw.as_deref().map(|raw| header::decode(clip(raw))).unwrap_or_default();
        let from = first(&envelope.from);
        let sender = first(&envelope.sender).spec();
        let from_address = from.spec();
        let texts = Texts {
            subject: &decoded(&envelope.subject),
            from_name: &decoded(&from.name),
            from_address: &from_address,
            sender_address: if sender == from_address { "" } else { &sender },
            message_id: &decoded(&envelope.message_id),
            ..Texts::default()
        };
        Self::pack(Head::new(uid, internal_date, size, flags, modseq), &texts)
    }

    /// All but its texts.
    pub fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// The same message, but for this.
    pub fn with(&self, change: impl FnOnce(&mut Head)) -> Self {
        let mut head = self.head().clone();
        change(&mut head);
        Self::pack(head, &self.texts())
    }

    /// Is it the same message, whatever its flags?
    pub fn is_same(&self, other: &Summary) -> bool {
        let key = |summary: &Summary| (summary.uid, summary.internal_date, summary.size);
        key(self) == key(other) && self.texts() == other.texts()
    }

    /// Its texts.
    pub fn texts(&self) -> Texts<'_> {
        let all = str::from_utf8(&self.0.slice).unwrap_or_default();
        let text = |at: usize| {
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before].into());
            let end = self.ends.get(at).map_or(all.len(), |end| (*end).into());
            all.get(start..end).unwrap_or_default()
        };
        Texts {
            subject: text(0),
            from_name: text(1),
            from_address: text(2),
            sender_address: text(3),
            message_id: text(4),
            email_id: text(5),
            thread_id: text(6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_in_one_piece_and_cut_where_they_are_too_long() {
        let long = "ä".repeat(TEXT_MAX);
        let cut = &long[..TEXT_MAX];
        let all = |text| Texts {
            subject: text,
            from_name: text,
            from_address: text,
            sender_address: text,
            message_id: text,
            email_id: text,
            thread_id: text,
        };
        let one = Texts { subject: "Köln", message_id: "<1@x>", thread_id: "T", ..Texts::default() };
        for (texts, want) in [(Texts::default(), Texts::default()), (one, one), (all(&long), all(cut))] {
            let summary = Summary::pack(Head::new(Uid::new(1).unwrap(), 0, 0, Flags::default(), 0), &texts);
            assert_eq!(summary.texts(), want);
            let seen = summary.with(|head| head.flags = Flags::from_wire([&b"\\Seen"[..]]));
            assert!(seen.texts() == want && seen.is_same(&summary) && seen != summary);
        }
    }
}
