//! Commands that change something, as text. What a server cannot do, and what nobody should ask it, is refused here.

use chrono::DateTime;

use super::dialect::{Dialect, SET};
use super::line::Line;
use super::request::{Command, Upload};
use crate::error::{Error, Result};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::UidSet;

/// The last second that four digits of a year can name: 9999-12-31T23:59:59Z.
const LAST_DATE: i64 = 253_402_300_799;

/// The lines that carry out a change; see [`super::command::lines`].
///
/// Errors: `ReadOnly` on a read-only mount; `Invalid` for a name, flag, right or entry that cannot be sent;
/// `Unsupported` for what the server does not offer; `TooBig` over its APPENDLIMIT; `Busy` for renaming or deleting
/// INBOX.
pub fn lines(command: &Command, mailbox: Option<&MailboxName>, dialect: &Dialect) -> Result<Vec<Line>> {
    if dialect.read_only {
        return Err(Error::ReadOnly);
    }
    let one = |line: Result<Line>| line.map(|line| vec![line]);
    match command {
        Command::Store { uids, set, flags, unchanged_since } => {
            if unchanged_since.is_some() {
                offered(dialect.condstore, "CONDSTORE")?;
            }
            store(uids, *set, flags, *unchanged_since)
        }
        Command::Copy { uids, to } => each(uids, "COPY", Some(to)),
        Command::Move { uids, to } => {
            offered(dialect.moves, "MOVE")?;
            each(uids, "MOVE", Some(to))
        }
        Command::Expunge(uids) => {
            offered(dialect.uidplus, "UIDPLUS")?;
            each(uids, "EXPUNGE", None)
        }
        Command::Append { to, messages } => {
            if messages.is_empty() {
                return Ok(Vec::new());
            }
            offered(messages.len() == 1 || dialect.multi_append, "MULTIAPPEND")?;
            let start = Line::new("APPEND").string(name(to)?);
            one(messages.iter().try_fold(start?, |line, message| upload(line, message, dialect)))
        }
        Command::Replace { uid, message } => {
            offered(dialect.replace, "REPLACE")?;
            let mailbox = mailbox.ok_or_else(|| Error::invalid("REPLACE without a mailbox"))?;
            let start = Line::new(&format!("UID REPLACE {uid}")).string(name(mailbox)?);
            one(upload(start?, message, dialect))
        }
        Command::Create(mailbox) => one(Line::new("CREATE").string(name(mailbox)?)),
        Command::Delete(mailbox) | Command::Rename(mailbox, _) if mailbox.is_inbox() => {
            Err(Error::Busy("INBOX cannot be removed, and renaming it would move its mail".into()))
        }
        Command::Delete(mailbox) => one(Line::new("DELETE").string(name(mailbox)?)),
        Command::Rename(from, to) => {
            one(Line::new("RENAME").string(name(from)?).and_then(|line| line.string(name(to)?)))
        }
        Command::Subscribe(mailbox, yes) => {
            one(Line::new(if *yes { "SUBSCRIBE" } else { "UNSUBSCRIBE" }).string(name(mailbox)?))
        }
        Command::SetAcl(mailbox, identifier, rights) => {
            offered(dialect.acl, "ACL")?;
            one(set_acl(mailbox, identifier, rights.as_deref()))
        }
        Command::SetMetadata(mailbox, entry, value) => {
            offered(dialect.metadata, "METADATA")?;
            one(set_metadata(mailbox, entry, value.as_deref()))
        }
        _ => Err(Error::invalid("no change")),
    }
}

fn offered(yes: bool, what: &str) -> Result<()> {
    if yes { Ok(()) } else { Err(Error::Unsupported(format!("the server has no {what}").into())) }
}

/// A mailbox name as an argument. The empty one means something else in some commands.
fn name(mailbox: &MailboxName) -> Result<&[u8]> {
    Some(mailbox.as_bytes()).filter(|name| !name.is_empty()).ok_or_else(|| Error::invalid("a mailbox without a name"))
}

/// `UID VERB set [mailbox]`, as many lines as the set needs.
fn each(uids: &UidSet, verb: &str, to: Option<&MailboxName>) -> Result<Vec<Line>> {
    let line = |set: &UidSet| {
        let line = Line::new(&format!("UID {verb} {set}"));
        to.map_or(Ok(line.clone()), |to| line.string(name(to)?))
    };
    uids.split(SET).iter().map(line).collect()
}

/// `UID STORE set (UNCHANGEDSINCE n) +FLAGS (…)`. Not `.SILENT`: what the server made of it is what counts.
fn store(uids: &UidSet, set: bool, flags: &[Box<str>], unchanged_since: Option<u64>) -> Result<Vec<Line>> {
    if flags.is_empty() {
        return Ok(Vec::new());
    }
    let flags = flag_list(flags.iter().map(AsRef::as_ref))?;
    let unchanged = unchanged_since.map(|modseq| format!(" (UNCHANGEDSINCE {modseq})")).unwrap_or_default();
    let sign = if set { '+' } else { '-' };
    let line = |uids: &UidSet| Line::new(&format!("UID STORE {uids}{unchanged} {sign}FLAGS ({flags})"));
    Ok(uids.split(SET).iter().map(line).collect())
}

/// Flags with blanks between them.
fn flag_list<'a>(flags: impl Iterator<Item = &'a str>) -> Result<String> {
    let mut list = String::new();
    for flag in flags {
        if !is_flag(flag) {
            return Err(Error::invalid(format!(
                "{:?} cannot be a flag",
                crate::error::printable(flag.as_bytes(), 100)
            )));
        }
        if !list.is_empty() {
            list.push(' ');
        }
        list.push_str(flag);
    }
    Ok(list)
}

/// An atom, with a backslash before it or not, RFC 9051 section 9; `\Recent` is the server's own.
pub fn is_flag(flag: &str) -> bool {
    let atom = flag.strip_prefix('\\').unwrap_or(flag);
    let special = |b: u8| !b.is_ascii_graphic() || b"(){%*\"\\]".contains(&b);
    !atom.is_empty() && !atom.bytes().any(special) && !flag.eq_ignore_ascii_case("\\Recent")
}

/// Adds ` (flags) "date" {octets}` and the message.
fn upload(line: Line, message: &Upload, dialect: &Dialect) -> Result<Line> {
    // In MULTIAPPEND it would take back the messages before it (RFC 3502).
    if message.octets == 0 {
        return Err(Error::invalid("an empty file is no message"));
    }
    // A literal's length has 32 bits (RFC 3501 section 9).
    let limit = dialect.append_limit.unwrap_or(u64::MAX).min(u32::MAX.into());
    if message.octets > limit {
        let text = format!("the message has {} octets, and the server takes at most {limit}", message.octets);
        return Err(Error::TooBig(text.into()));
    }
    let flags = flag_list(message.flags.iter())?;
    let date = message.internal_date.map(|seconds| format!(" \"{}\"", date_time(seconds))).unwrap_or_default();
    Ok(line.text(&format!(" ({flags}){date}")).file(&message.file, message.octets))
}

/// `dd-Mon-yyyy hh:mm:ss +0000`. Servers refuse what is before 1970 (Cyrus, Courier).
fn date_time(seconds: i64) -> String {
    let date = DateTime::from_timestamp(seconds.clamp(0, LAST_DATE), 0).unwrap_or_default();
    date.format("%d-%b-%Y %H:%M:%S +0000").to_string()
}

fn set_acl(mailbox: &MailboxName, identifier: &[u8], rights: Option<&str>) -> Result<Line> {
    if identifier.is_empty() {
        return Err(Error::invalid("rights for nobody"));
    }
    let Some(rights) = rights else {
        return Line::new("DELETEACL").string(name(mailbox)?)?.string(identifier);
    };
    if !rights.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Err(Error::invalid("rights are lower-case letters and digits"));
    }
    Line::new("SETACL").string(name(mailbox)?)?.string(identifier)?.string(rights.as_bytes())
}

fn set_metadata(mailbox: &MailboxName, entry: &str, value: Option<&[u8]>) -> Result<Line> {
    // RFC 5464 section 3.2.
    let odd = |b: u8| !(b' '..=b'~').contains(&b) || b == b'*' || b == b'%';
    if !entry.starts_with('/') || entry.ends_with('/') || entry.contains("//") || entry.bytes().any(odd) {
        return Err(Error::invalid("that cannot be the name of a metadata entry"));
    }
    let line = Line::new("SETMETADATA").string(name(mailbox)?)?.text(" (").bare(entry.as_bytes());
    Ok(value.map_or(line.clone().text(" NIL"), |value| line.value(value)).text(")"))
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
