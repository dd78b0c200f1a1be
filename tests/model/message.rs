//! A message as the model server keeps it, and what it tells of it when it tells the truth.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use imapfs::mail::envelope::{Address, Envelope};
use imapfs::mail::flag::Flags;
use imapfs::mail::mime::{self, Parsed};
use imapfs::mail::section::{Section, Text};

/// A message of a mailbox of the model.
#[derive(Clone, Debug)]
pub struct Message {
    pub flags: Flags,
    pub modseq: u64,
    /// INTERNALDATE, seconds since 1970 UTC.
    pub date: i64,
    pub bytes: Bytes,
    /// Taken apart when it is asked for.
    parsed: Arc<OnceLock<Parsed>>,
}

impl Message {
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { flags: Flags::default(), modseq: 0, date: 1_795_252_500, bytes: bytes.into(), parsed: Arc::default() }
    }

    pub fn parsed(&self) -> &Parsed {
        self.parsed.get_or_init(|| mime::parse(&self.bytes))
    }

    /// Where a section lies; `None` for one that is not there.
    pub fn place(&self, section: &Section) -> Option<Range<usize>> {
        if *section == Section::message() {
            return Some(0..self.bytes.len());
        }
        match section.text {
            Text::Body => self.parsed().places.get(&section.path).cloned(),
            Text::Header => self.parsed().headers.get(&section.path).cloned(),
            Text::Mime | Text::Text => None,
        }
    }

    /// The ENVELOPE: nothing decoded.
    pub fn envelope(&self) -> Envelope {
        let place = self.place(&Section::header()).unwrap_or_default();
        let mut envelope = Envelope::default();
        for (name, value) in fields(&self.bytes[place]) {
            match name.to_ascii_lowercase().as_slice() {
                b"subject" => envelope.subject = envelope.subject.or(Some(value)),
                b"message-id" => envelope.message_id = envelope.message_id.or(Some(value)),
                b"from" if envelope.from.is_empty() => envelope.from = vec![address(&value)],
                b"sender" if envelope.sender.is_empty() => envelope.sender = vec![address(&value)],
                _ => {}
            }
        }
        envelope
    }
}

/// `name <mailbox@host>`, as far as the tests need it.
fn address(value: &[u8]) -> Address {
    let (name, spec) = match value.iter().position(|byte| *byte == b'<') {
        Some(at) => (value[..at].trim_ascii(), value[at + 1..].split(|byte| *byte == b'>').next().unwrap_or_default()),
        None => (&b""[..], value),
    };
    let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| bytes.to_vec());
    let mut halves = spec.splitn(2, |byte| *byte == b'@');
    let mut half = || halves.next().and_then(some);
    Address { name: some(name), mailbox: half(), host: half() }
}

/// The fields of a header, unfolded.
fn fields(header: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for line in header.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line.first(), line.iter().position(|byte| *byte == b':')) {
            (Some(b' ' | b'\t'), _) => {
                if let Some((_, value)) = fields.last_mut() {
                    value.push(b' ');
                    value.extend_from_slice(line.trim_ascii());
                }
            }
            (_, Some(colon)) => {
                fields.push((line[..colon].trim_ascii().to_vec(), line[colon + 1..].trim_ascii().to_vec()))
            }
            _ => {}
        }
    }
    fields
}
