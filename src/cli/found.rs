//! What a mount finds, as the commands that search see it: rows of a search's table, and the texts of a message.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure};
use crate::fuse;
use crate::mail::query;
use crate::tree::found::{format_query_name, plain_name};

/// Octets of a name in the kernel's interface.
const NAME_MAX: usize = 255;

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its directory, below the one that was searched.
    pub path: PathBuf,
    /// The columns of the table before the name: UID, date, sender, subject, flags, size.
    pub columns: [String; 6],
}

/// The messages below a mailbox's directory in a mount, or below the mount itself, that a query is about.
///
/// # Errors
/// Usage for what is no query, or no directory of a mount; else what the mount answers.
pub fn search(directory: &Path, query: &str) -> Result<Vec<Row>, Failure> {
    let name = format_query_name(query);
    // Unless it is the name of a saved search.
    if let Err(bad) = query::parse(query)
        && !directory.join(".search").join(&name).is_dir()
    {
        return Err(Failure::usage(point_at(query, &bad)));
    }
    if name.len() > NAME_MAX {
        return Err(Failure::usage(format!("the query is too long: {} octets, and 255 can be asked", name.len())));
    }
    let table = directory.join(".search").join(name).join(".messages.tsv");
    let text = fs::read_to_string(table).map_err(|error| explain(directory, &error))?;
    Ok(parse_table(directory, &text))
}

/// Why a search failed.
fn explain(directory: &Path, error: &io::Error) -> Failure {
    let shown = directory.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Failure::usage(format!("{shown} is no mailbox of a mount of imapfs, and no such mount"))
        }
        ErrorKind::InvalidInput => {
            Failure::usage("the server does not understand the keys of imap: or gmail:; the log of the mount says why")
        }
        ErrorKind::Unsupported => Failure::new(Exit::Unavailable, "the server cannot search for that"),
        ErrorKind::NotConnected => Failure::new(Exit::Unavailable, format!("the process of {shown} is gone")),
        _ => Failure::new(Exit::Unavailable, format!("{shown} does not answer: {error}")),
    }
}

/// The sentence, the query, and a mark below the place that is meant.
fn point_at(query: &str, bad: &query::BadQuery) -> String {
    let printable = crate::error::printable(query.as_bytes(), usize::MAX);
    format!("{bad}\n  {printable}\n  {:>column$}", "^", column = bad.column)
}

fn parse_table(directory: &Path, text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let in_mailboxes = lines.next().is_some_and(|header| header.ends_with("\tmailbox"));
    let row = |line: &str| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().map(str::to_owned);
        let columns = [next()?, next()?, next()?, next()?, next()?, next()?];
        let name = fields.next()?;
        let path = match fields.next().filter(|_| in_mailboxes) {
            Some(mailbox) => directory.join(mailbox).join(plain_name(name)),
            None => directory.join(name),
        };
        Some(Row { path, columns })
    };
    lines.filter_map(row).collect()
}

/// The files with text below a message's directory, in the order of their names: headers, bodies, and attachments of a
/// text type.
pub fn text_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            files.extend(text_files(&path)?);
        } else if is_text(&path)? {
            files.push(path);
        }
    }
    Ok(files)
}

fn is_text(path: &Path) -> io::Result<bool> {
    let kind = fuse::attribute(path, "user.mime_type")?;
    Ok(kind.is_some_and(|kind| kind.starts_with(b"text/") || kind.starts_with(b"message/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_where_the_messages_are() {
        let header = "uid\tdate\tfrom\tsubject\tflags\tsize\tname";
        let line = "7\t2026-11-21T09:05:00Z\tBob\ta b\t\\Seen\t99\t2026-11-21T0905_Bob_a-b.7";
        let here = parse_table(Path::new("/m/INBOX"), &format!("{header}\n{line}\n"));
        assert_eq!(here.len(), 1);
        assert_eq!(here[0].path, Path::new("/m/INBOX/2026-11-21T0905_Bob_a-b.7"));
        assert_eq!(here[0].columns[3..5], ["a b", "\\Seen"]);
        let all = parse_table(Path::new("/m"), &format!("{header}\tmailbox\n{line}@A-B\tA/B\n{line}\t\n"));
        assert_eq!(all[0].path, Path::new("/m/A/B/2026-11-21T0905_Bob_a-b.7"));
        assert_eq!(all[1].path, Path::new("/m/2026-11-21T0905_Bob_a-b.7"));
    }

    #[test]
    fn a_mark_is_below_what_is_wrong() {
        let bad = query::parse("a is:blue").unwrap_err();
        assert!(point_at("a is:blue", &bad).ends_with("answered, draft or deleted\n  a is:blue\n       ^"));
    }
}
