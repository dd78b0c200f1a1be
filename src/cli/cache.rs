//! `imapfs cache`: how much is kept on disk, clearing it away, and filling it through a mount.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{CacheCommand, CacheOf, Global};
use super::exit::{Exit, Failure};
use super::{print, target};
use crate::config;
use crate::error::printable;
use crate::fuse;
use crate::store::{self, Account, Info};

/// How often the progress is shown.
const PACE: Duration = Duration::from_millis(200);

/// Does it.
///
/// # Errors
/// What hinders it.
pub fn run(command: &CacheCommand, global: &Global) -> Result<(), Failure> {
    match command {
        CacheCommand::Info(of) => {
            let (directory, account) = find(of, global)?;
            show(&store::info(&directory, account.as_ref()), of.json)
        }
        CacheCommand::Clear(of) => {
            let (directory, account) = find(of, global)?;
            let octets = store::clear(&directory, account.as_ref())?;
            match of.json {
                true => print(&format!("{}\n", json!({ "freed": octets }))),
                false => print(&format!("{} freed\n", size(octets))),
            }
        }
        CacheCommand::Warm { path, all } => warm(path, *all),
    }
}

/// Where, and of which account; `None` for all.
fn find(of: &CacheOf, global: &Global) -> Result<(PathBuf, Option<Account>), Failure> {
    let target = of.account.as_deref().map(|account| target::find(Some(account), global)).transpose()?;
    let directory = match (&of.cache_dir, &target) {
        (Some(path), _) => Some(target::absolute(path)?),
        (None, Some(target)) => target.cache_dir()?,
        (None, None) => config::cache_dir(),
    };
    let directory = directory.ok_or_else(|| Failure::usage("there is no home directory: say --cache-dir"))?;
    Ok((directory, target.map(|target| target.cache_account()).transpose()?))
}

fn show(caches: &[Info], json: bool) -> Result<(), Failure> {
    let rows = caches.iter().map(|Info { path, used, messages, in_use }| {
        let (known, structures) = messages.unzip();
        json!({
            "path": path.to_string_lossy(), "octets": used, "in_use": in_use,
            "messages": known, "structures": structures,
        })
    });
    if json {
        return print(&format!("{}\n", Value::Array(rows.collect())));
    }
    let line = |Info { path, used, messages, in_use }: &Info| {
        let known = match messages {
            Some((known, structures)) => format!("{known} messages, {structures} of them with their structure"),
            None => "damaged, begun anew by the next mount".to_owned(),
        };
        let in_use = if *in_use { ", in use" } else { "" };
        format!("{}  {known}{in_use}  {}\n", size(*used), printable(path.as_os_str().as_bytes(), 4096))
    };
    print(&caches.iter().map(line).collect::<String>())
}

/// Octets for people.
fn size(octets: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..units.len() - 1).find(|n| octets >> (10 * n) < 1024).unwrap_or(units.len() - 1);
    if unit == 0 {
        return format!("{octets} B");
    }
    format!("{:.1} {}", octets as f64 / (1_u64 << (10 * unit)) as f64, units[unit])
}

/// How far it is.
struct Progress {
    messages: u64,
    octets: u64,
    failed: u64,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn show(&mut self, place: &str, always: bool) {
        if !self.terminal || !always && self.shown.is_some_and(|at| at.elapsed() < PACE) {
            return;
        }
        self.shown = Some(Instant::now());
        // Nobody may look.
        let _ = write!(io::stderr(), "\r\x1b[K{} messages, {}  {place}", self.messages, size(self.octets));
    }
}

/// Reads a mount, as a walker does: the mount sees that, fetches ahead, and keeps what came.
fn warm(path: &Path, all: bool) -> Result<(), Failure> {
    let shown = path.display();
    if fuse::attribute(path, "user.imap.mailbox").ok().flatten().is_none() && !path.join(".imapfs/status").exists() {
        return Err(Failure::usage(format!("{shown} is neither a mount of imapfs nor a mailbox in one")));
    }
    let mut progress =
        Progress { messages: 0, octets: 0, failed: 0, shown: None, terminal: io::stderr().is_terminal() };
    walk(path, all, &mut progress)
        .map_err(|error| Failure::new(Exit::Unavailable, format!("{shown} cannot be read: {error}")))?;
    progress.show("", true);
    if progress.terminal {
        // As above.
        let _ = writeln!(io::stderr());
    }
    let Progress { messages, octets, failed, .. } = progress;
    print(&format!("{messages} messages, {} read\n", size(octets)))?;
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Unavailable, format!("{failed} files could not be read"))),
    }
}

/// Mailboxes and messages in a directory.
fn walk(directory: &Path, all: bool, progress: &mut Progress) -> io::Result<()> {
    let place = printable(directory.as_os_str().as_bytes(), 60);
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || entry.file_name().as_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let is_mailbox = fuse::attribute(&path, "user.imap.uid").ok().flatten().is_none();
        let outcome = if is_mailbox { walk(&path, all, progress) } else { read_message(&path, all, progress) };
        match outcome {
            // It went meanwhile, or may not be read.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::StaleNetworkFileHandle
                ) => {}
            Err(error) if error.kind() == ErrorKind::HostUnreachable => return Err(error),
            Err(_) => progress.failed += 1,
            Ok(()) => progress.messages += u64::from(!is_mailbox),
        }
        progress.show(&place, false);
    }
    Ok(())
}

/// The files of a message, and of those attached to it.
fn read_message(directory: &Path, all: bool, progress: &mut Progress) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if all {
                read_message(&path, all, progress)?;
            }
        } else if all || is_text(&entry.file_name()) {
            progress.octets += io::copy(&mut File::open(&path)?, &mut io::sink())?;
        }
    }
    Ok(())
}

/// Is it the header, or a text without a name of its own?
fn is_text(name: &OsStr) -> bool {
    name == "headers.txt" || name.as_bytes().starts_with(b"body.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        for (octets, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 << 20, "1.5 GiB"), (5 << 50, "5120.0 TiB")]
        {
            assert_eq!(size(octets), text);
        }
    }

    #[test]
    fn texts_are_known_by_their_names() {
        for (name, is) in [("headers.txt", true), ("body.txt", true), ("body.2.html", true), ("report.pdf", false)] {
            assert_eq!(is_text(OsStr::new(name)), is, "{name}");
        }
    }
}
