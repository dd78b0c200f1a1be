//! `imapfs grep`: the server names the messages that may match, and only those are read and searched here.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use regex::bytes::{Regex, RegexBuilder};

use super::args::Grep;
use super::exit::{Exit, Failure};
use super::found::{search, text_files};
use super::grep_query::candidates;
use super::search::write;
use crate::fuse;

/// Messages that are read at once: enough to fill a line of 50 ms.
const READERS: usize = 16;

/// Messages whose matches are held back so that they come out in order.
const AHEAD: usize = 256;

/// What a root directory is numbered.
const ROOT: u64 = 1;

/// Prints the lines that match.
///
/// # Errors
/// Nothing when there is none; Usage for what is no pattern, or no directory of a mount; Unavailable when something
/// could not be read.
pub fn run(grep: &Grep) -> Result<(), Failure> {
    let pattern = if grep.fixed { regex::escape(&grep.pattern) } else { grep.pattern.clone() };
    let regex = RegexBuilder::new(&pattern).case_insensitive(grep.ignore_case).build();
    let regex = regex.map_err(|error| Failure::usage(error.to_string()))?;
    let query = candidates(&grep.pattern, grep.fixed).map_or_else(|| "*".to_owned(), |query| query.to_string());
    let places = places(&grep.path, &query)?;
    let (mut matched, mut failed) = (false, 0);
    for places in places.chunks(AHEAD) {
        for found in read_all(places, |place| lines_of(place, &regex, grep)) {
            match found {
                Ok(lines) => {
                    matched |= !lines.is_empty();
                    write(&lines)?;
                }
                Err((path, error)) => {
                    failed += 1;
                    // Nobody to tell: the exit code says it.
                    let _ = writeln!(io::stderr(), "imapfs: {}: {error}", path.display());
                }
            }
        }
    }
    match (failed, matched) {
        (0, true) => Ok(()),
        (0, false) => Err(Failure::new(Exit::Nothing, "")),
        _ => Err(Failure::new(Exit::Unavailable, format!("{failed} of the messages could not be read"))),
    }
}

/// The directories and files to look into.
fn places(path: &Path, query: &str) -> Result<Vec<PathBuf>, Failure> {
    let cannot = |error: io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let metadata = path.metadata().map_err(cannot)?;
    if !metadata.is_dir() || !path.join(".search").is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let has_children = fuse::attribute(path, "user.imap.children").map_err(cannot)?.is_some();
    if metadata.ino() == ROOT || !has_children {
        return Ok(search(path, query)?.into_iter().map(|row| row.path).collect());
    }
    // A mailbox with others in it: only the root searches more than one.
    let whole = path.canonicalize().map_err(cannot)?;
    let root =
        whole.ancestors().find(|above| above.metadata().is_ok_and(|m| m.ino() == ROOT && m.dev() == metadata.dev()));
    let root = root.ok_or_else(|| Failure::usage(format!("{} is in no mount", path.display())))?;
    let rows = search(root, query)?;
    Ok(rows.iter().filter_map(|row| row.path.strip_prefix(&whole).ok()).map(|below| path.join(below)).collect())
}

type Lines = Result<Vec<u8>, (PathBuf, io::Error)>;

/// Does the work for each place, several at once; the outcomes in the order of the places.
fn read_all(places: &[PathBuf], work: impl Fn(&Path) -> Lines + Sync) -> Vec<Lines> {
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(usize, Lines)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..READERS.min(places.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(place) = places.get(at) else { return };
                    let outcome = work(place);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((at, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// What is printed of a message, or of one file.
fn lines_of(place: &Path, regex: &Regex, grep: &Grep) -> Lines {
    let failed = |error| (place.to_owned(), error);
    let files = if place.is_file() { vec![place.to_owned()] } else { text_files(place).map_err(failed)? };
    let mut out = Vec::new();
    for file in files {
        let text = fs::read(&file).map_err(failed)?;
        print_matches(&mut out, &file, &text, regex, grep);
    }
    Ok(out)
}

fn print_matches(out: &mut Vec<u8>, file: &Path, text: &[u8], regex: &Regex, grep: &Grep) {
    let name = file.as_os_str().as_bytes();
    let lines = text.strip_suffix(b"\n").unwrap_or(text).split(|b| *b == b'\n');
    let matching = (1_u64..).zip(lines).filter(|(_, line)| !text.is_empty() && regex.is_match(line));
    if grep.files || grep.count {
        let count = matching.count();
        if count > 0 {
            out.extend_from_slice(name);
            if grep.count {
                out.extend_from_slice(format!(":{count}").as_bytes());
            }
            out.push(b'\n');
        }
        return;
    }
    for (number, line) in matching {
        out.extend_from_slice(name);
        out.push(b':');
        if grep.line_number {
            out.extend_from_slice(format!("{number}:").as_bytes());
        }
        out.extend_from_slice(line);
        out.push(b'\n');
    }
}
