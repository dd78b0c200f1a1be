//! A thousand changes where the server is far away: what counts is how often somebody waits for it.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::proxy::Proxy;
use common::{Account, Mount, Security, Server};

const MESSAGES: usize = 1000;

/// A round trip takes twice that.
const DELAY: Duration = Duration::from_millis(25);

/// Callers at a time where each waits for its outcome.
const CALLERS: usize = 64;

/// Round trips in three seconds.
const MOST: u64 = 60;

/// An account with so many messages in INBOX.
fn account() -> Account {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    for number in 0..MESSAGES {
        imap.append("INBOX", format!("Subject: {number}\r\n\r\nof many\r\n").as_bytes(), "", None).unwrap();
    }
    imap.create("Other").unwrap();
    account
}

fn messages(mount: &Mount) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(mount.join("INBOX")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(paths.len(), MESSAGES);
    paths.sort();
    paths
}

fn remove(_: &Mount, message: &Path) {
    fs::remove_dir(message).unwrap();
}

fn rename(mount: &Mount, message: &Path) {
    fs::rename(message, mount.join("Other").join(message.file_name().unwrap())).unwrap();
}

fn count(account: &Account, mailbox: &str, query: &str) -> usize {
    let mut imap = account.imap();
    imap.select(mailbox).unwrap();
    imap.search(query).unwrap().len()
}

/// Does this to all messages, in so many threads, and waits until it is done; how many round trips that took.
fn run(what: &str, args: &[&str], threads: usize, work: impl Fn(&Mount, &[PathBuf]) + Sync) -> (Account, u64) {
    let account = account();
    let proxy = Proxy::new(account.port);
    let mount = Mount::new(&account.through(&proxy).with(Security::None), args);
    let messages = messages(&mount);
    fs::read_dir(mount.join("Other")).unwrap().for_each(drop);
    proxy.set_delay(DELAY);
    proxy.reset();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for share in messages.chunks(MESSAGES.div_ceil(threads)) {
            scope.spawn(|| work(&mount, share));
        }
    });
    let returned = began.elapsed();
    fs::File::open(mount.path()).unwrap().sync_all().unwrap();
    let stats = proxy.stats();
    println!(
        "{what}, {threads} callers: {returned:?}, done in {:?}, {} round trips",
        began.elapsed(),
        stats.round_trips
    );
    (account, stats.round_trips)
}

/// Sets a flag on all of them in one process.
fn set_flags(_: &Mount, messages: &[PathBuf]) {
    let script =
        "import os, sys\nfor path in sys.stdin.read().split('\\0'): os.setxattr(path, 'user.imap.flags', b'\\\\Seen')";
    let mut child = Command::new("python3").args(["-c", script]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let paths: Vec<&str> = messages.iter().map(|path| path.to_str().unwrap()).collect();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), paths.join("\0").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn each(work: fn(&Mount, &Path)) -> impl Fn(&Mount, &[PathBuf]) + Sync {
    move |mount, messages| messages.iter().for_each(|message| work(mount, message))
}

#[test]
fn a_thousand_changes_that_are_written_behind_wait_for_few_round_trips() {
    let behind = ["--write-behind"];
    let (account, trips) = run("removed", &behind, 1, each(remove));
    assert_eq!((count(&account, "INBOX", "ALL"), count(&account, "Trash", "ALL")), (0, MESSAGES));
    assert!(trips <= MOST, "{trips} round trips");
    let (account, trips) = run("moved", &behind, 1, each(rename));
    assert_eq!((count(&account, "INBOX", "ALL"), count(&account, "Other", "ALL")), (0, MESSAGES));
    assert!(trips <= MOST, "{trips} round trips");
    let (account, trips) = run("flagged", &behind, 1, set_flags);
    assert_eq!(count(&account, "INBOX", "SEEN"), MESSAGES);
    assert!(trips <= MOST, "{trips} round trips");
}

/// Removing and renaming the kernel does one at a time in a directory: only flags can be set by many at once.
#[test]
fn a_thousand_flags_that_many_callers_set_wait_for_few_round_trips() {
    let (account, trips) = run("flagged", &[], CALLERS, set_flags);
    assert_eq!(count(&account, "INBOX", "SEEN"), MESSAGES);
    assert!(trips <= MOST, "{trips} round trips");
}
