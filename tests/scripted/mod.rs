//! An IMAP server that says what a test wants it to say: honest by itself, and each of its answers goes through a twist.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

pub mod message;
pub mod walk;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use imapfs::mail::section::Section;
pub use message::Message;

/// Octets of a response: text with what it announces, or a literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(Vec<u8>),
    Literal(Vec<u8>),
}

/// A response: pieces, the last of which ends the line.
pub type Response = Vec<Piece>;

/// What the server was asked. Number 0 of a connection is the greeting, with an empty command.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// From 1.
    pub connection: u64,
    pub number: u64,
    pub tag: &'a str,
    pub command: &'a str,
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Send(Vec<u8>),
    /// And then the end of the connection.
    Close(Vec<u8>),
    /// And then nothing more.
    Hang(Vec<u8>),
    /// Again and again, until the client goes or so many octets went, and then nothing more: what came next would be taken
    /// for a part of it.
    Endless(Vec<u8>, u64),
}

pub type Twist = dyn Fn(&Asked<'_>, Vec<Response>) -> Reply + Send + Sync;

/// A mailbox.
#[derive(Debug, Default)]
pub struct Mailbox {
    pub validity: u32,
    pub messages: Vec<Message>,
}

/// A running server. Dropping it ends its connections.
pub struct Scripted {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    mailboxes: BTreeMap<String, Mailbox>,
    twist: Box<Twist>,
    connections: AtomicU64,
    closing: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// Text of one line, with its end.
pub fn line(text: impl Into<String>) -> Response {
    let mut text = text.into();
    text.push_str("\r\n");
    vec![Piece::Text(text.into_bytes())]
}

/// The octets of responses as they go over the wire.
pub fn octets(responses: &[Response]) -> Vec<u8> {
    let pieces = responses.iter().flatten();
    pieces.flat_map(|(Piece::Text(octets) | Piece::Literal(octets))| octets.iter().copied()).collect()
}

/// Tells the truth.
pub fn honest(_: &Asked<'_>, responses: Vec<Response>) -> Reply {
    Reply::Send(octets(&responses))
}

/// Two mailboxes with a few messages of each kind.
pub fn mailboxes() -> BTreeMap<String, Mailbox> {
    let inbox = vec![Message::plain(1, 5), Message::with_attachment(2, 3000), Message::forwarding(5, 1000)];
    let other = vec![Message::plain(7, 50)];
    let mailbox = |validity, messages| Mailbox { validity, messages };
    [("INBOX".to_owned(), mailbox(11, inbox)), ("Other".to_owned(), mailbox(12, other))].into()
}

impl Scripted {
    pub fn new(
        mailboxes: BTreeMap<String, Mailbox>,
        twist: impl Fn(&Asked<'_>, Vec<Response>) -> Reply + Send + Sync + 'static,
    ) -> Scripted {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            mailboxes,
            twist: Box::new(twist),
            connections: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if accepting.closing.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                shared.open.lock().unwrap().push(stream.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = serve(&shared, &stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Scripted { port, shared }
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The octets of a message.
    pub fn message(&self, mailbox: &str, uid: u32) -> Option<&[u8]> {
        let messages = &self.shared.mailboxes.get(mailbox)?.messages;
        messages.iter().find(|m| m.uid == uid).map(|m| m.bytes.as_slice())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for stream in self.shared.open.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// One connection, until either side ends it.
fn serve(shared: &Shared, stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let connection = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
    let mut reader = BufReader::new(stream);
    let mut selected: Option<&Mailbox> = None;
    let mut text = String::new();
    for number in 0.. {
        let (tag, command) = text.trim_end().split_once(' ').unwrap_or(("", ""));
        let asked = Asked { connection, number, tag, command };
        let responses =
            if number == 0 { vec![line("* OK ready")] } else { answer(shared, &mut selected, tag, command) };
        match (shared.twist)(&asked, responses) {
            Reply::Send(octets) => (&*stream).write_all(&octets)?,
            Reply::Close(octets) => return (&*stream).write_all(&octets),
            Reply::Hang(octets) => {
                (&*stream).write_all(&octets)?;
                return reader.read_to_end(&mut Vec::new()).map(drop);
            }
            Reply::Endless(octets, most) => {
                for _ in 0..most / octets.len().max(1) as u64 {
                    (&*stream).write_all(&octets)?;
                }
                return reader.read_to_end(&mut Vec::new()).map(drop);
            }
        }
        text.clear();
        if reader.read_line(&mut text)? == 0 || text.contains(" LOGOUT") {
            return Ok(());
        }
    }
    Ok(())
}

/// What an honest server answers.
fn answer<'a>(shared: &'a Shared, selected: &mut Option<&'a Mailbox>, tag: &str, command: &str) -> Vec<Response> {
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    let name = |rest: &str| rest.split('"').nth(1).unwrap_or_default().to_owned();
    let mut out = Vec::new();
    match verb {
        "CAPABILITY" => out.push(line("* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR LITERAL+ NAMESPACE")),
        "NAMESPACE" => out.push(line("* NAMESPACE ((\"\" \"/\")) NIL NIL")),
        "LIST" => {
            let row = |name: &String| line(format!("* LIST (\\HasNoChildren) \"/\" \"{name}\""));
            out.extend(shared.mailboxes.keys().map(row));
        }
        "LSUB" => out.push(line("* LSUB () \"/\" \"INBOX\"")),
        "STATUS" => {
            let name = name(rest);
            let Some(mailbox) = shared.mailboxes.get(&name) else { return vec![line(format!("{tag} NO none"))] };
            out.push(line(format!(
                "* STATUS \"{name}\" (MESSAGES {} UIDNEXT {} UIDVALIDITY {} UNSEEN 0)",
                mailbox.messages.len(),
                uid_next(mailbox),
                mailbox.validity
            )));
        }
        "SELECT" | "EXAMINE" => {
            *selected = shared.mailboxes.get(&name(rest));
            let Some(mailbox) = selected else { return vec![line(format!("{tag} NO none"))] };
            out.push(line("* FLAGS (\\Seen \\Deleted)"));
            out.push(line(format!("* {} EXISTS", mailbox.messages.len())));
            out.push(line(format!("* OK [UIDVALIDITY {}] valid", mailbox.validity)));
            out.push(line(format!("* OK [UIDNEXT {}] next", uid_next(mailbox))));
        }
        "UID" => {
            let Some(mailbox) = selected else { return vec![line(format!("{tag} BAD which?"))] };
            if rest.starts_with("SEARCH") {
                let uids: String = mailbox.messages.iter().map(|m| format!(" {}", m.uid)).collect();
                out.push(line(format!("* SEARCH{uids}")));
            } else {
                out.extend(fetch(mailbox, rest));
            }
        }
        "AUTHENTICATE" | "LOGIN" | "NOOP" => {}
        _ => return vec![line(format!("{tag} BAD what?"))],
    }
    out.push(line(format!("{tag} OK done")));
    out
}

fn uid_next(mailbox: &Mailbox) -> u32 {
    mailbox.messages.last().map_or(1, |m| m.uid + 1)
}

/// Answers `FETCH set (items)`.
fn fetch(mailbox: &Mailbox, command: &str) -> Vec<Response> {
    let mut words = command.split_whitespace().skip(1);
    let set: Vec<RangeInclusive<u32>> = words.next().unwrap_or_default().split(',').filter_map(range).collect();
    let items: Vec<&str> = words.map(|word| word.trim_matches(['(', ')'])).collect();
    let wanted = mailbox.messages.iter().enumerate().filter(|(_, m)| set.iter().any(|range| range.contains(&m.uid)));
    wanted.map(|(at, message)| row(at + 1, message, &items)).collect()
}

fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().unwrap_or(u32::MAX))
}

fn row(number: usize, message: &Message, items: &[&str]) -> Response {
    let mut pieces = Vec::new();
    let mut text = format!("* {number} FETCH (UID {}", message.uid);
    for item in items {
        match *item {
            "FLAGS" => text.push_str(" FLAGS ()"),
            "INTERNALDATE" => text.push_str(" INTERNALDATE \"21-Nov-2026 09:05:00 +0000\""),
            "RFC822.SIZE" => text.push_str(&format!(" RFC822.SIZE {}", message.bytes.len())),
            "ENVELOPE" => text.push_str(&format!(" ENVELOPE {}", message.envelope())),
            "BODYSTRUCTURE" => text.push_str(&format!(" BODYSTRUCTURE {}", message.structure())),
            _ => {
                let Some((section, range)) = item.strip_prefix("BODY.PEEK[").and_then(|s| s.split_once(']')) else {
                    continue;
                };
                let octets = Section::parse(section.as_bytes()).and_then(|section| message.section(&section));
                let Some(octets) = octets else {
                    text.push_str(&format!(" BODY[{section}] NIL"));
                    continue;
                };
                let (origin, octets) = match range.trim_matches(['<', '>']).split_once('.') {
                    Some((offset, count)) => {
                        let start = offset.parse::<usize>().unwrap().min(octets.len());
                        let end = start.saturating_add(count.parse().unwrap()).min(octets.len());
                        (format!("<{offset}>"), &octets[start..end])
                    }
                    None => (String::new(), octets),
                };
                text.push_str(&format!(" BODY[{section}]{origin} {{{}}}\r\n", octets.len()));
                pieces.push(Piece::Text(std::mem::take(&mut text).into_bytes()));
                pieces.push(Piece::Literal(octets.to_vec()));
            }
        }
    }
    text.push_str(")\r\n");
    pieces.push(Piece::Text(text.into_bytes()));
    pieces
}
