//! Commands as text: what goes over the wire for each [`Command`] that only asks; `change` words the others.

use std::fmt::Write as _;

use super::change;
use super::line::{Line, Literals};
use super::request::{Command, FetchItem};
use super::server::Server;
use crate::error::{Error, Result};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::UidSet;

/// Octets of a UID set in one command: Stalwart takes 4096 octets an argument, Courier 8 kB a line, Dovecot 64 kB.
pub(super) const SET: usize = 3500;
/// The largest count of a partial fetch: servers keep it in 31 bits.
const COUNT: u32 = i32::MAX as u32;

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
    /// Commands are carried out in the order in which they are sent, SELECT among them.
    pub ordered: bool,
    /// UIDPLUS, RFC 4315.
    pub uidplus: bool,
    /// MOVE, RFC 6851.
    pub moves: bool,
    /// UNSELECT, RFC 3691.
    pub unselect: bool,
    /// MULTIAPPEND, RFC 3502.
    pub multi_append: bool,
    /// REPLACE, RFC 8508.
    pub replace: bool,
    /// ACL, RFC 4314.
    pub acl: bool,
    /// METADATA, RFC 5464.
    pub metadata: bool,
    /// APPENDLIMIT, RFC 7889: the largest message in octets that the server takes.
    pub append_limit: Option<u64>,
    /// IDLE, RFC 2177.
    pub idle: bool,
    /// NOTIFY, RFC 5465.
    pub notify: bool,
    /// QRESYNC, RFC 7162, has been enabled.
    pub qresync: bool,
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
            ordered: server.is_ordered(),
            uidplus: rev2 || server.offers("UIDPLUS"),
            moves: rev2 || server.offers("MOVE"),
            unselect: rev2 || server.offers("UNSELECT"),
            multi_append: server.offers("MULTIAPPEND"),
            replace: server.offers("REPLACE"),
            acl: server.offers("ACL"),
            idle: rev2 || server.offers("IDLE"),
            notify: server.offers("NOTIFY"),
            qresync: server.qresync,
            metadata: server.offers("METADATA"),
            append_limit: server.capabilities.iter().find_map(|c| c.strip_prefix("APPENDLIMIT=")?.parse().ok()),
            prefixes: prefixes.filter(|prefix| !prefix.is_empty()).cloned().collect(),
        }
    }
}

/// `INBOX.` as a personal prefix holds what `LIST "" "*"` lists anyway.
fn starts_with_inbox(prefix: &[u8]) -> bool {
    prefix.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"INBOX"))
}

/// `SELECT name`, or `EXAMINE name` on a read-only mount, for the command that wants it so.
pub fn select(name: &MailboxName, asked: Option<&Command>, dialect: &Dialect) -> Result<Line> {
    let line = Line::new(if dialect.read_only { "EXAMINE" } else { "SELECT" }).string(name.as_bytes())?;
    Ok(match asked {
        Some(Command::Resync { validity, modseq, known }) if dialect.qresync => {
            let known = known.as_ref().map(|known| format!(" {known}")).unwrap_or_default();
            line.text(&format!(" (QRESYNC ({} {modseq}{known}))", validity.0))
        }
        // Enabled with QRESYNC.
        _ if dialect.qresync => line,
        _ if dialect.condstore => line.text(" (CONDSTORE)"),
        _ => line,
    })
}

/// The lines that carry out a command, in their order; but for COPY and MOVE all of them may be in flight at once. None
/// when there is nothing to ask (an empty set). `mailbox` is the target of the command.
///
/// Errors: `Invalid` for a name or a range that cannot be sent, `Unsupported` for what the server does not offer, and
/// for changes those of [`change::lines`].
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
        Command::Select | Command::Resync { .. } => {
            let mailbox = mailbox.ok_or_else(|| Error::invalid("SELECT without a mailbox"))?;
            one(select(mailbox, Some(command), dialect))
        }
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
        Command::Search { uids, message_id } => search(uids, message_id.as_deref(), dialect),
        Command::Query(keys) => one(super::search::line(keys, dialect.esearch)),
        Command::Store { .. }
        | Command::Copy { .. }
        | Command::Move { .. }
        | Command::Expunge(_)
        | Command::Append { .. }
        | Command::Replace { .. }
        | Command::Create(_)
        | Command::Delete(_)
        | Command::Rename(..)
        | Command::Subscribe(..)
        | Command::SetAcl(..)
        | Command::SetMetadata(..) => change::lines(command, mailbox, dialect),
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

/// `UID SEARCH UID set HEADER Message-ID "text"`, as many lines as the set needs. The header's text is looked for as
/// ASCII: what a server does with other octets in it depends on a charset that nobody knows.
fn search(uids: &UidSet, message_id: Option<&[u8]>, dialect: &Dialect) -> Result<Vec<Line>> {
    if message_id.is_some_and(|id| id.is_empty() || !id.iter().all(|b| (b' '..=b'~').contains(b))) {
        return Err(Error::invalid("a Message-ID that cannot be searched for"));
    }
    let verb = if dialect.esearch { "UID SEARCH RETURN (ALL) UID" } else { "UID SEARCH UID" };
    let line = |set: &UidSet| {
        let line = Line::new(&format!("{verb} {set}"));
        match message_id {
            Some(id) => line.text(" HEADER Message-ID").string(id),
            None => Ok(line),
        }
    };
    uids.split(SET).iter().map(line).collect()
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
