//! What the ENVELOPE of a message says, RFC 9051 section 7.5.2, and the summary that imapfs keeps of a message.

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

/// What is kept in memory for each message that was listed. Everything but `flags` and `modseq` is immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
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
    /// Decoded Subject; empty when there is none.
    pub subject: Box<str>,
    /// Decoded display name of the first From address; empty when there is none.
    pub from_name: Box<str>,
    /// First From address as `mailbox@host`; empty when there is none.
    pub from_address: Box<str>,
    /// First Sender address; empty when there is none or it is that of From.
    pub sender_address: Box<str>,
    /// Message-ID with its angle brackets; empty when there is none.
    pub message_id: Box<str>,
    /// EMAILID and THREADID, RFC 8474; empty where the server has none.
    pub email_id: Box<str>,
    /// THREADID, RFC 8474; empty where the server has none.
    pub thread_id: Box<str>,
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

impl Summary {
    /// The summary of a message with this envelope.
    pub fn new(uid: Uid, internal_date: i64, size: u64, flags: Flags, modseq: u64, envelope: &Envelope) -> Self {
        let first = |list: &[Address]| list.first().cloned().unwrap_or_default();
        let decoded = |raw: &Option<Vec<u8>>| raw.as_deref().map(|raw| header::decode(clip(raw))).unwrap_or_default();
        let from = first(&envelope.from);
        let sender = first(&envelope.sender).spec();
        let from_address = from.spec();
        Self {
            uid,
            internal_date,
            size,
            flags,
            modseq,
            subject: decoded(&envelope.subject).into(),
            from_name: decoded(&from.name).into(),
            sender_address: if sender == from_address { Box::default() } else { sender.into() },
            from_address: from_address.into(),
            message_id: decoded(&envelope.message_id).into(),
            email_id: Box::default(),
            thread_id: Box::default(),
        }
    }
}
