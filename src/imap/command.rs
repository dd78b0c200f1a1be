//! Commands as text: what goes over the wire for each [`Command`] that only asks; `change` words the others.

use std::fmt::Write as _;

use super::change;
pub use super::dialect::Dialect;
use super::dialect::SET;
use super::line::Line;
use super::request::{Command, FetchItem};
use crate::error::{Error, Result};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::UidSet;

/// The largest count of a partial fetch: servers keep it in 31 bits.
const COUNT: u32 = i32::MAX as u32;

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
