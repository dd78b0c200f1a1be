//! Commands as text: what goes over the wire for each [`Command`], quoted so that nothing a user types can become a
//! command of its own.

use std::fmt::Write as _;

use bytes::Bytes;

use super::request::{Command, FetchItem};
use super::server::Server;
use crate::error::{Error, Result};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::UidSet;

/// Octets of a UID set in one command: Stalwart takes 4096 octets an argument, Courier 8 kB a line, Dovecot 64 kB.
const SET: usize = 3500;
/// Octets of a literal that LITERAL- lets go without waiting, RFC 7888 section 5.
const LITERAL_MINUS: usize = 4096;
/// The largest count of a partial fetch: servers keep it in 31 bits.
const COUNT: u32 = i32::MAX as u32;

/// When a literal may follow its announcement at once, RFC 7888.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Literals {
    /// After the server's `+` only.
    #[default]
    Wait,
    /// Up to 4096 octets at once (LITERAL-).
    Short,
    /// At once (LITERAL+).
    All,
}

/// What a server understands, as far as the wording of commands depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// How literals are sent.
    pub literals: Literals,
    /// EXAMINE instead of SELECT.
    pub read_only: bool,
    /// CONDSTORE, RFC 7162.
    pub condstore: bool,
    /// ESEARCH, RFC 4731.
    pub esearch: bool,
    /// LIST-EXTENDED, RFC 5258.
    pub list_extended: bool,
    /// SPECIAL-USE, RFC 6154.
    pub special_use: bool,
    /// OBJECTID, RFC 8474.
    pub object_id: bool,
    /// Prefixes of the namespaces that `LIST "" "*"` may leave out.
    pub prefixes: Vec<Vec<u8>>,
}

impl Dialect {
    /// The dialect of a server; IMAP4rev2 stands for the extensions that it took in (RFC 9051 appendix E).
    pub fn new(server: &Server, read_only: bool) -> Self {
        let rev2 = server.offers("IMAP4REV2");
        let [personal, others, shared] = &server.namespaces;
        let personal = personal.iter().filter(|(prefix, _)| !starts_with_inbox(prefix));
        let prefixes = personal.chain(others).chain(shared).map(|(prefix, _)| prefix);
        Self {
            literals: if server.offers("LITERAL+") {
                Literals::All
            } else if rev2 || server.offers("LITERAL-") {
                Literals::Short
            } else {
                Literals::Wait
            },
            read_only,
            condstore: server.offers("CONDSTORE") || server.offers("QRESYNC"),
            esearch: rev2 || server.offers("ESEARCH"),
            list_extended: rev2 || server.offers("LIST-EXTENDED"),
            special_use: rev2 || server.offers("SPECIAL-USE"),
            object_id: server.offers("OBJECTID"),
            prefixes: prefixes.filter(|prefix| !prefix.is_empty()).cloned().collect(),
        }
    }
}

/// `INBOX.` as a personal prefix holds what `LIST "" "*"` lists anyway.
fn starts_with_inbox(prefix: &[u8]) -> bool {
    prefix.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"INBOX"))
}

/// One command line, the tag still missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Text, and each literal with the text behind it.
    text: Vec<u8>,
    rest: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Line {
    /// A command that has no argument of a user or a server in it, such as `NAMESPACE`.
    pub fn new(text: &str) -> Self {
        debug_assert!(!text.contains(['\r', '\n', '\0']));
        Self { text: text.into(), rest: Vec::new() }
    }

    /// Adds text of our own.
    fn text(mut self, text: &str) -> Self {
        self.end().extend_from_slice(text.as_bytes());
        self
    }

    /// Adds a blank and a string, quoted where that is safe, else as a literal. CR, LF and NUL are refused: no quoting
    /// takes them, and no name has them.
    pub fn string(mut self, string: &[u8]) -> Result<Self> {
        if string.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(Error::invalid("a name cannot hold CR, LF or NUL"));
        }
        self.end().push(b' ');
        if !string.is_ascii() {
            self.rest.push((string.into(), Vec::new()));
            return Ok(self);
        }
        let end = self.end();
        end.push(b'"');
        for byte in string {
            if matches!(byte, b'"' | b'\\') {
                end.push(b'\\');
            }
            end.push(*byte);
        }
        end.push(b'"');
        Ok(self)
    }

    fn end(&mut self) -> &mut Vec<u8> {
        self.rest.last_mut().map_or(&mut self.text, |(_, text)| text)
    }

    /// The octets to send: the first chunk at once, each further one after a `+` of the server.
    pub fn encode(&self, tag: &str, literals: Literals) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        let mut chunk = format!("{tag} ").into_bytes();
        chunk.extend_from_slice(&self.text);
        for (literal, text) in &self.rest {
            let at_once = match literals {
                Literals::Wait => false,
                Literals::Short => literal.len() <= LITERAL_MINUS,
                Literals::All => true,
            };
            let plus = if at_once { "+" } else { "" };
            chunk.extend_from_slice(format!("{{{}{plus}}}\r\n", literal.len()).as_bytes());
            if !at_once {
                chunks.push(std::mem::take(&mut chunk).into());
            }
            chunk.extend_from_slice(literal);
            chunk.extend_from_slice(text);
        }
        chunk.extend_from_slice(b"\r\n");
        chunks.push(chunk.into());
        chunks
    }

    /// The command as it may be logged: literals elided.
    pub fn printable(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.text).into_owned();
        for (literal, more) in &self.rest {
            let _ = write!(text, "{{{}}}…{}", literal.len(), String::from_utf8_lossy(more));
        }
        text
    }
}

/// `SELECT name`, or `EXAMINE name` on a read-only mount.
pub fn select(name: &MailboxName, dialect: &Dialect) -> Result<Line> {
    let line = Line::new(if dialect.read_only { "EXAMINE" } else { "SELECT" }).string(name.as_bytes())?;
    Ok(if dialect.condstore { line.text(" (CONDSTORE)") } else { line })
}

/// The lines that carry out a command, in their order; all of them may be in flight at once. None when there is
/// nothing to ask (an empty set). `mailbox` is the target of [`Command::Select`].
///
/// Errors: `Invalid` for a name or a range that cannot be sent, `Unsupported` for what the server does not offer.
pub fn lines(command: &Command, mailbox: Option<&MailboxName>, dialect: &Dialect) -> Result<Vec<Line>> {
    let one = |line: Result<Line>| line.map(|line| vec![line]);
    let named = |verb: &str, name: &MailboxName| one(Line::new(verb).string(name.as_bytes()));
    match command {
        Command::Noop => Ok(vec![Line::new("NOOP")]),
        Command::List => list(dialect),
        Command::Status(name) => {
            let modseq = if dialect.condstore { " HIGHESTMODSEQ" } else { "" };
            let items = format!(" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN{modseq})");
            one(Line::new("STATUS").string(name.as_bytes()).map(|line| line.text(&items)))
        }
        Command::Select => one(select(mailbox.ok_or_else(|| Error::invalid("SELECT without a mailbox"))?, dialect)),
        Command::Fetch { uids, items, changed_since } => fetch(uids, items, *changed_since, dialect),
        Command::SearchAll if dialect.esearch => Ok(vec![Line::new("UID SEARCH RETURN (ALL) ALL")]),
        Command::SearchAll => Ok(vec![Line::new("UID SEARCH ALL")]),
        Command::QuotaRoot(name) => named("GETQUOTAROOT", name),
        Command::MyRights(name) => named("MYRIGHTS", name),
        Command::GetAcl(name) => named("GETACL", name),
        Command::GetMetadata(name) => {
            let line = Line::new("GETMETADATA (DEPTH infinity)").string(name.as_bytes());
            one(line.map(|line| line.text(" (/private /shared)")))
        }
        _ => Err(Error::Unsupported("not built yet".into())),
    }
}

/// LIST of all namespaces: with LIST-EXTENDED one line each, else LIST and LSUB.
fn list(dialect: &Dialect) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut patterns = vec![b"*".to_vec()];
    patterns.extend(dialect.prefixes.iter().map(|prefix| [prefix, &b"*"[..]].concat()));
    for pattern in patterns {
        let list = Line::new("LIST \"\"").string(&pattern)?;
        if dialect.list_extended {
            let special_use = if dialect.special_use { " SPECIAL-USE" } else { "" };
            lines.push(list.text(&format!(" RETURN (SUBSCRIBED CHILDREN{special_use})")));
        } else {
            lines.push(list);
            lines.push(Line::new("LSUB \"\"").string(&pattern)?);
        }
    }
    Ok(lines)
}

/// `UID FETCH set (UID …)`, as many lines as the set needs. Items the server does not offer are left out.
fn fetch(uids: &UidSet, items: &[FetchItem], changed_since: Option<u64>, dialect: &Dialect) -> Result<Vec<Line>> {
    if changed_since.is_some() && !dialect.condstore {
        return Err(Error::Unsupported("the server has no CONDSTORE".into()));
    }
    // CommuniGate answers the first item only when there are no parentheses.
    let mut names = String::from("(UID");
    for item in items {
        let name = match item {
            FetchItem::Flags => "FLAGS",
            FetchItem::InternalDate => "INTERNALDATE",
            FetchItem::Size => "RFC822.SIZE",
            FetchItem::Envelope => "ENVELOPE",
            FetchItem::BodyStructure => "BODYSTRUCTURE",
            FetchItem::ModSeq if dialect.condstore => "MODSEQ",
            FetchItem::ObjectId if dialect.object_id => "EMAILID THREADID",
            FetchItem::ModSeq | FetchItem::ObjectId => continue,
            FetchItem::Body(section, None) => &format!("BODY.PEEK[{section}]"),
            // A count of 0 crashes Dovecot 2.4 and is BAD elsewhere.
            FetchItem::Body(section, Some((offset, count @ 1..=COUNT))) => {
                &format!("BODY.PEEK[{section}]<{offset}.{count}>")
            }
            FetchItem::Body(_, Some(_)) => return Err(Error::invalid("a range of 0 or over 2^31 octets")),
        };
        names.push(' ');
        names.push_str(name);
    }
    names.push(')');
    if let Some(modseq) = changed_since {
        let _ = write!(names, " (CHANGEDSINCE {modseq})");
    }
    Ok(uids.split(SET).iter().map(|set| Line::new(&format!("UID FETCH {set} {names}"))).collect())
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
