//! Others work on the account without a pause while two mounts of it are searched, read and sorted: at the end both
//! show what the server has, nothing was lost or doubled, and the program has grown by nothing.
//!
//! IMAPFS_LONG_RUN: seconds, 20 unless set; IMAPFS_LONG_RUN_SEED: where the random numbers begin.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::load::{Book, Random, mover, number, truth};
use common::{Account, Mount, Server, wait_for};

const MAILBOXES: [&str; 4] = ["INBOX", "Work", "Lists", "Old"];
/// Until a mount that somebody looks at shows what is true.
const SOON: Duration = Duration::from_secs(10);
/// Errors of a message that went meanwhile. The last two are what grep and find say when a second one in a run goes after
/// it was opened: neither has a number any more, and the first is never taken off their list of what they are in.
const GONE: [&str; 5] = [
    "No such file or directory",
    "Stale file handle",
    "Input/output error",
    "recursive directory loop",
    "File system loop detected",
];
/// What the program may have grown by since it was warm: kB, and descriptors. What it keeps of messages is bounded (octets
/// 36 MiB, texts 16, structures 8), but only a long run fills that.
const MORE_MEMORY: u64 = 16 << 10;
const FULL_MEMORY: u64 = 120 << 10;
const MORE_FILES: usize = 8;

/// One mount, and what was seen through it.
struct Side<'a> {
    mount: &'a Mount,
    account: &'a Account,
    /// Which messages it moves: see [`mover`].
    number: u64,
    runs: AtomicU64,
    gone: AtomicU64,
    moved: AtomicU64,
}

impl Side<'_> {
    /// Runs a program on the mount; what it printed. Each complaint must be about a message that is gone.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
        self.runs.fetch_add(1, Ordering::Relaxed);
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            self.excuse(line);
        }
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn excuse(&self, line: &str) {
        assert!(GONE.iter().any(|gone| line.contains(gone)), "{line}");
        let (mailbox, uid) = self.place(line).unwrap_or_else(|| panic!("about no message: {line}"));
        let mut imap = self.account.imap();
        imap.select(&mailbox).unwrap();
        let there = imap.search(&format!("UID {uid}")).unwrap();
        assert!(there.is_empty(), "it is there: {line}");
        self.gone.fetch_add(1, Ordering::Relaxed);
    }

    /// The first message that a line names: its mailbox and its UID.
    fn place(&self, line: &str) -> Option<(String, u32)> {
        let (_, path) = line.split_once(self.mount.path().to_str()?)?;
        let mut words = path.trim_start_matches('/').split(['/', '\'', ':', ' ']);
        let mailbox = words.next()?.to_owned();
        let uid = words.next()?.rsplit_once('.')?.1.parse().ok()?;
        Some((mailbox, uid))
    }

    fn search(&self, ends: &AtomicBool) {
        while !ends.load(Ordering::Relaxed) {
            self.run("find", &[self.mount.path().to_str().unwrap(), "-size", "+0"]);
        }
    }

    /// What a file says is what its name says.
    fn read(&self, ends: &AtomicBool) {
        while !ends.load(Ordering::Relaxed) {
            let found = self.run("grep", &["-r", "--include=body.txt", "token", self.mount.path().to_str().unwrap()]);
            for line in found.lines() {
                let (path, text) = line.split_once(':').unwrap();
                assert_eq!(number(path.rsplit('/').nth(1).unwrap()), number(text), "{line}");
            }
        }
    }

    fn sort(&self, ends: &AtomicBool, seed: u64) {
        let mut random = Random::new(seed);
        while !ends.load(Ordering::Relaxed) {
            let (from, to) = (random.pick(&MAILBOXES).unwrap(), random.pick(&MAILBOXES).unwrap());
            let names = fs::read_dir(self.mount.join(from)).unwrap().map(|entry| entry.unwrap().file_name());
            let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
            let mine: Vec<&String> =
                names.iter().filter(|name| number(name).is_some_and(|n| mover(n) == self.number)).collect();
            let Some(name) = random.pick(&mine).filter(|_| from != to) else { continue };
            let (from, to) = (self.mount.join(from).join(name), self.mount.join(to));
            self.run("mv", &["-n", from.to_str().unwrap(), to.to_str().unwrap()]);
            assert!(!from.exists() || !is_listed(&from), "{} was moved and is there", from.display());
            self.moved.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn is_listed(path: &Path) -> bool {
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    names.flatten().any(|entry| Some(entry.file_name().as_os_str()) == path.file_name())
}

/// What a mount shows of a mailbox: UID, number, flags, bytes.
type Shown = BTreeMap<u32, (u64, BTreeSet<String>, Vec<u8>)>;

fn shown(mount: &Mount, mailbox: &str) -> Result<Shown, String> {
    let mut shown = Shown::new();
    let directory = mount.join(mailbox);
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for entry in fs::read_dir(&directory).map_err(|error| failed(&directory, error))? {
        let path = entry.map_err(|error| failed(&directory, error))?.path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (Some(number), Some(uid)) = (number(name), name.rsplit_once('.').and_then(|(_, uid)| uid.parse().ok()))
        else {
            continue;
        };
        let bytes = fs::read(path.join("message.eml")).map_err(|error| failed(&path, error))?;
        shown.insert(uid, (number, flags(&path), bytes));
    }
    Ok(shown)
}

fn flags(path: &Path) -> BTreeSet<String> {
    let arguments = ["--absolute-names", "--only-values", "-n", "user.imap.flags"];
    let output = Command::new("getfattr").args(arguments).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

/// Resident memory in kB, and open descriptors.
fn size(mount: &Mount) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory = line.split_whitespace().next().unwrap().parse().unwrap();
    (memory, fs::read_dir(format!("/proc/{}/fd", mount.pid)).unwrap().count())
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn what_others_do_all_the_time_is_what_both_mounts_show_in_the_end() {
    let length = Duration::from_secs(variable("IMAPFS_LONG_RUN", 20));
    let seed = variable("IMAPFS_LONG_RUN_SEED", 1);
    let account = Server::dovecot().account();
    let book = Arc::new(Book::default());
    let mut imap = account.imap();
    let mut random = Random::new(seed);
    for mailbox in MAILBOXES {
        if mailbox != "INBOX" {
            imap.create(mailbox).unwrap();
        }
        (0..45).for_each(|_| book.append(&mut imap, mailbox, &mut random));
    }
    let mounts = [Mount::new(&account, &[]), Mount::new(&account, &[])];
    let sides: Vec<Side<'_>> = (0..)
        .zip(&mounts)
        .map(|(number, mount)| Side {
            mount,
            account: &account,
            number,
            runs: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            moved: AtomicU64::new(0),
        })
        .collect();
    let mut warm = Vec::new();
    thread::scope(|scope| {
        // However it goes on here, the others end.
        let _end = Ends(&book.ends);
        let clients: Vec<_> = (0..3)
            .map(|n| {
                scope.spawn({
                    let (book, account) = (&book, &account);
                    move || book.client(account, &MAILBOXES, seed * 100 + n)
                })
            })
            .collect();
        let mut readers = Vec::new();
        for side in &sides {
            readers.push(scope.spawn(|| side.search(&book.ends)));
            readers.push(scope.spawn(|| side.read(&book.ends)));
            readers.push(scope.spawn(|| side.sort(&book.ends, seed * 100 + 10 + side.number)));
        }
        let all = || clients.iter().chain(&readers);
        let one_failed = wait_for(length / 3, || all().find(|worker| worker.is_finished()).map(drop)).is_some();
        warm = mounts.iter().map(size).collect();
        if !one_failed {
            wait_for(length - length / 3, || all().find(|worker| worker.is_finished()).map(drop));
        }
    });
    let [appended, flagged, moved, expunged] = book.done.each_ref().map(|n| n.load(Ordering::Relaxed));
    println!("others, in {length:?}: {appended} appended, {flagged} flagged, {moved} moved, {expunged} expunged");
    for (side, (memory, files)) in sides.iter().zip(warm) {
        let [runs, gone, moved] = [&side.runs, &side.gone, &side.moved].map(|n| n.load(Ordering::Relaxed));
        let (memory_now, files_now) = size(side.mount);
        println!("mount {}: {runs} programs, {moved} moves, {gone} errors of what was gone", side.number);
        println!("mount {}: {memory} then {memory_now} kB, {files} then {files_now} files", side.number);
        let most = if length < Duration::from_secs(120) { memory + MORE_MEMORY } else { FULL_MEMORY };
        assert!(memory_now <= most && files_now <= files + MORE_FILES, "it grows");
    }
    let mut numbers = Vec::new();
    // The server closes a connection over which nothing was asked for half an hour.
    let mut imap = account.imap();
    for mailbox in MAILBOXES {
        let truth = truth(&mut imap, mailbox);
        numbers.extend(truth.values().map(|(number, ..)| *number));
        for (n, mount) in mounts.iter().enumerate() {
            let mut last = None;
            let right = wait_for(SOON, || {
                last = Some(shown(mount, mailbox));
                last.as_ref().is_some_and(|shown| shown.as_ref().is_ok_and(|shown| *shown == truth)).then_some(())
            });
            if right.is_none() {
                panic!("mount {n}, {mailbox}:\n{}", last.unwrap().map_or_else(|e| e, |last| difference(&truth, &last)));
            }
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, book.there().into_iter().collect::<Vec<_>>(), "lost or doubled");
    for mount in &mounts {
        mount.assert_quiet(&[]);
    }
}

/// Ends the others when it goes.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn difference(truth: &Shown, shown: &Shown) -> String {
    let uids: BTreeSet<u32> = truth.keys().chain(shown.keys()).copied().collect();
    let brief = |of: &Shown, uid: u32| of.get(&uid).map(|(number, flags, bytes)| (*number, flags.clone(), bytes.len()));
    let lines = uids.into_iter().filter(|uid| truth.get(uid) != shown.get(uid));
    lines.map(|uid| format!("{uid}: {:?} is shown as {:?}\n", brief(truth, uid), brief(shown, uid))).collect()
}
