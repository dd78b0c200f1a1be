//! Mail made to be difficult: a fixed set of odd messages, the same every time, and real ones from `tests/corpus/mail`.

pub mod build;
mod encodings;
mod names;
mod structure;

use std::path::Path;

use super::imap::Imap;

/// One message of the corpus.
#[derive(Clone, Debug)]
pub struct Message {
    /// What is odd about it, in a few words with dashes; unique.
    pub name: String,
    /// Flags to append it with, as in an IMAP list.
    pub flags: &'static str,
    /// INTERNALDATE, as IMAP writes it.
    pub date: String,
    /// The message with CRLF line ends, except where its oddity is that it has others.
    pub bytes: Vec<u8>,
    /// Whether real servers are known to refuse these bytes, or to give back others.
    pub altered: bool,
}

/// The odd messages: at least 210.
pub fn messages() -> Vec<Message> {
    let mut list = List::default();
    structure::add(&mut list);
    names::add(&mut list);
    encodings::add(&mut list);
    list.messages
}

/// The real messages of `tests/corpus/mail`, with CRLF line ends.
pub fn real() -> Vec<Message> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/mail");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
    files.sort();
    let mut list = List::default();
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        list.add(&name, with_crlf(&std::fs::read(&path).unwrap()));
    }
    list.messages
}

/// A message of the given size in octets or a little more, with one attachment `big.bin`.
pub fn big(octets: usize) -> Message {
    let pattern = build::noise(1 << 16, 4);
    let data: Vec<u8> = pattern.iter().copied().cycle().take(octets / 78 * 57).collect();
    let attachment = build::attachment("application/octet-stream", "; filename=\"big.bin\"", &data);
    let mut list = List::default();
    list.add("attachment-big", build::with_part("attachment-big", attachment));
    list.messages.remove(0)
}

/// Appends messages to an existing mailbox. Returns the UID of each, or why the server refused it.
pub fn append(imap: &mut Imap, mailbox: &str, messages: &[Message]) -> Vec<Result<u32, String>> {
    let one = |message: &Message| {
        let result = imap.append(mailbox, &message.bytes, message.flags, Some(&message.date));
        result.map_err(|error| error.to_string())
    };
    messages.iter().map(one).collect()
}

/// Messages under construction.
#[derive(Default)]
pub struct List {
    pub(super) messages: Vec<Message>,
}

impl List {
    /// Adds a message.
    pub fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.add_with(name, "", bytes);
    }

    /// Adds a message with flags.
    pub fn add_with(&mut self, name: &str, flags: &'static str, bytes: Vec<u8>) {
        let minute = self.messages.len();
        let date = format!("05-Mar-2024 {:02}:{:02}:00 +0100", 8 + minute / 60, minute % 60);
        let altered = is_altered(&bytes);
        self.messages.push(Message { name: name.to_owned(), flags, date, bytes, altered });
    }
}

/// Dovecot makes CRLF of a bare LF and adds a LF to a CR at the end. Cyrus refuses bare LF and lines in the header that are no fields, and makes `X` of
/// 8-bit characters in the header.
fn is_altered(bytes: &[u8]) -> bool {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 2);
    let header = &bytes[..if bytes.starts_with(b"\r\n") { 0 } else { end }];
    let no_field = |line: &[u8]| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or(b"");
        !line.starts_with(b" ") && !line.starts_with(b"\t") && (name.len() == line.len() || name.contains(&b' '))
    };
    let mut lines = header.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    with_crlf(bytes) != bytes || bytes.ends_with(b"\r") || !header.is_ascii() || lines.any(no_field)
}

/// Bare LF becomes CRLF.
pub fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 32);
    for &byte in bytes {
        if byte == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out
}
