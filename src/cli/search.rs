//! `imapfs search`: the paths of the messages that a query is about.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{Value, json};

use super::args::Search;
use super::exit::{Exit, Failure};
use super::found::{self, Row, text_files};
use crate::mail::query::{self, Query, Texts};

/// Prints them.
///
/// # Errors
/// Nothing when there is none; Usage for what is no query, or no directory of a mount; Unavailable.
pub fn run(search: &Search) -> Result<(), Failure> {
    let text = search.query.join(" ");
    let mut rows = found::search(&search.path, &text)?;
    if search.exact {
        let query = query::parse(&text).map_err(|bad| Failure::usage(bad.to_string()))?;
        let mut exact = Vec::new();
        for row in rows {
            if holds(&query, &row.path).map_err(|error| Failure::system("cannot read a message", &error))? {
                exact.push(row);
            }
        }
        rows = exact;
    }
    let mut out = Vec::new();
    if search.count {
        out.extend_from_slice(format!("{}\n", rows.len()).as_bytes());
    } else if search.json {
        let all: Vec<Value> = rows.iter().map(to_json).collect();
        out.extend_from_slice(format!("{}\n", Value::Array(all)).as_bytes());
    } else {
        for row in &rows {
            out.extend_from_slice(row.path.as_os_str().as_bytes());
            out.push(if search.null { 0 } else { b'\n' });
        }
    }
    write(&out)?;
    if rows.is_empty() { Err(Failure::new(Exit::Nothing, "")) } else { Ok(()) }
}

/// Prints octets. Who stops reading has read enough.
pub fn write(octets: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(octets).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::system("cannot print", &error)),
        _ => Ok(()),
    }
}

fn to_json(row: &Row) -> Value {
    let [uid, date, from, subject, flags, size] = &row.columns;
    json!({
        "path": row.path.to_string_lossy(),
        "uid": uid.parse::<u64>().ok(),
        "date": date,
        "from": from,
        "subject": subject,
        "flags": flags.split(' ').filter(|flag| !flag.is_empty()).collect::<Vec<_>>(),
        "size": size.parse::<u64>().ok(),
    })
}

/// Are the texts of a query in the message as it shows itself? What is no text was judged before.
fn holds(query: &Query, message: &Path) -> io::Result<bool> {
    let mut texts = Texts::default();
    let header = message.join("headers.txt");
    for path in text_files(message)? {
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let into = if path == header { &mut texts.header } else { &mut texts.body };
        into.push_str(&text);
        into.push('\n');
    }
    Ok(query.judge(&|term| term.judge(None, None, Some(&texts), 0)) != Some(false))
}
