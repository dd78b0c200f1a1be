//! A message of the scripted server: its octets, and what an honest server tells of them.

use std::fmt::Write as _;

use imapfs::mail::header::Params;
use imapfs::mail::mime::{self, Parsed};
use imapfs::mail::part::{Body, Encoding, Part};
use imapfs::mail::section::{Section, Text};

/// A message.
#[derive(Debug)]
pub struct Message {
    pub uid: u32,
    pub bytes: Vec<u8>,
    pub subject: String,
    parsed: Parsed,
}

impl Message {
    pub fn new(uid: u32, bytes: impl Into<Vec<u8>>) -> Message {
        let bytes = bytes.into();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let subject = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned();
        Message { uid, parsed: mime::parse(&bytes), bytes, subject }
    }

    /// A text of `lines` lines that tell of the message they are in.
    pub fn plain(uid: u32, lines: usize) -> Message {
        let mut text = head(uid, "plain");
        text.push_str("Content-Type: text/plain; charset=utf-8\r\n\r\n");
        for line in 0..lines {
            let _ = write!(text, "this is line {line} of message {uid}\r\n");
        }
        Message::new(uid, text)
    }

    /// A text and an attachment of so many octets.
    pub fn with_attachment(uid: u32, octets: usize) -> Message {
        let mut text = head(uid, "with attachment");
        let _ = write!(
            text,
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b{uid}\"\r\n\r\n--b{uid}\r\n\
             Content-Type: text/plain\r\n\r\nsee the attachment of {uid}\r\n--b{uid}\r\n\
             Content-Type: application/octet-stream; name=\"data.bin\"\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment; filename=\"data.bin\"\r\n\r\n"
        );
        text.push_str(&base64_lines(&noise(uid, octets)));
        let _ = write!(text, "--b{uid}--\r\n");
        Message::new(uid, text)
    }

    /// Another message with an attachment, attached.
    pub fn forwarding(uid: u32, octets: usize) -> Message {
        let inner = Message::with_attachment(uid + 1000, octets);
        let mut text = head(uid, "forwarding");
        let _ = write!(
            text,
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"f{uid}\"\r\n\r\n--f{uid}\r\n\
             Content-Type: text/html\r\n\r\n<p>forwarded\r\n--f{uid}\r\nContent-Type: message/rfc822\r\n\r\n"
        );
        text.push_str(&String::from_utf8_lossy(&inner.bytes));
        let _ = write!(text, "\r\n--f{uid}--\r\n");
        Message::new(uid, text)
    }

    /// The octets of a section, if it is there.
    pub fn section(&self, section: &Section) -> Option<&[u8]> {
        let place = match (section.path.is_empty(), section.text) {
            (true, Text::Body) => 0..self.bytes.len(),
            (_, Text::Body) => self.parsed.places.get(&section.path)?.clone(),
            (_, Text::Header) => self.parsed.headers.get(&section.path)?.clone(),
            _ => return None,
        };
        Some(&self.bytes[place])
    }

    pub fn envelope(&self) -> String {
        let bob = "((\"Bob\" NIL \"bob\" \"example.org\"))";
        format!(
            "(\"Sat, 21 Nov 2026 09:05:00 +0000\" \"{}\" {bob} {bob} {bob} NIL NIL NIL NIL \"<{}@example.org>\")",
            self.subject, self.uid
        )
    }

    pub fn structure(&self) -> String {
        structure(&self.parsed.root)
    }
}

fn head(uid: u32, what: &str) -> String {
    format!(
        "From: Bob <bob@example.org>\r\nSubject: {what} {uid}\r\nMessage-ID: <{uid}@example.org>\r\n\
         Date: Sat, 21 Nov 2026 09:05:00 +0000\r\n"
    )
}

/// Octets that look like no others.
pub fn noise(seed: u32, count: usize) -> Vec<u8> {
    let octet = |n: u32| (n.wrapping_add(seed.wrapping_mul(7919)).wrapping_mul(2_654_435_761) >> 24) as u8;
    (0..count as u32).map(octet).collect()
}

fn base64_lines(octets: &[u8]) -> String {
    use base64::Engine as _;
    let line = |chunk: &[u8]| base64::engine::general_purpose::STANDARD.encode(chunk) + "\r\n";
    octets.chunks(57).map(line).collect()
}

fn params(params: &Params) -> String {
    if params.is_empty() {
        return "NIL".into();
    }
    let pair = |(name, value): &(Box<str>, Vec<u8>)| format!("\"{name}\" \"{}\"", String::from_utf8_lossy(value));
    format!("({})", params.iter().map(pair).collect::<Vec<_>>().join(" "))
}

fn structure(part: &Part) -> String {
    if let Body::Multipart(parts) = &part.body {
        let parts: String = parts.iter().map(structure).collect();
        return format!("({parts} \"{}\" {} NIL NIL NIL)", part.subtype, params(&part.params));
    }
    let encoding = match part.encoding {
        Encoding::Identity => "7BIT",
        Encoding::Base64 => "BASE64",
        Encoding::QuotedPrintable => "QUOTED-PRINTABLE",
        Encoding::Uuencode => "X-UUENCODE",
    };
    let more = match &part.body {
        Body::Message(inner) => format!(" ({}) {} 1", ["NIL"; 10].join(" "), structure(inner)),
        _ if &*part.media == "text" => " 1".into(),
        _ => String::new(),
    };
    let disposition = match &part.disposition {
        Some((kind, list)) => format!("(\"{kind}\" {})", params(list)),
        None => "NIL".into(),
    };
    format!(
        "(\"{}\" \"{}\" {} NIL NIL \"{encoding}\" {}{more} NIL {disposition} NIL NIL)",
        part.media,
        part.subtype,
        params(&part.params),
        part.octets
    )
}
