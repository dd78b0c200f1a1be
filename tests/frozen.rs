//! A server that stops in the middle of everything: each call ends in time, whoever waits can be killed, the mount can
//! be taken down; and when the server goes on, mail is where it was or where it was to go, once, and is shown there.

#![allow(clippy::unwrap_used)]

mod common;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::proxy::{Action, Proxy};
use common::{Account, Imap, Mount, Security, Server, wait_for};

/// Longest time for a call with `--timeout 2`: one silent exchange, a look what became of it, and what the kernel makes
/// wait for another call in the same directory.
const LIMIT: Duration = Duration::from_secs(20);
/// Until all is right again: the longest pause of so short an outage, a login, and the end of what was under way.
const RECOVERY: Duration = Duration::from_secs(20);

const MAILBOXES: [&str; 3] = ["INBOX", "Other", "Trash"];

fn letter(subject: &str) -> Vec<u8> {
    format!("From: Alice <alice@example.test>\r\nSubject: {subject}\r\n\r\nThis is in {subject}.\r\n").into_bytes()
}

/// An account with the messages m1 to m9 in INBOX, and three mailboxes to do something with.
fn filled(server: &Server) -> Account {
    let account = server.account().with(Security::None);
    let mut imap = account.imap();
    for mailbox in ["Other", "Gone", "Old"] {
        imap.create(mailbox).unwrap();
    }
    for n in 1..10 {
        imap.append("INBOX", &letter(&format!("m{n}")), "", None).unwrap();
    }
    account
}

/// What people do at once: programs and their arguments, `@` for the mount, `#n` for the n-th message.
const CALLS: [&[&str]; 11] = [
    &["ls", "@/Other"],
    &["cat", "#1/message.eml"],
    &["stat", "@/Old/no-such.7"],
    &["df", "@"],
    &["rm", "-r", "#2"],
    &["mv", "#3", "@/Other/"],
    &["setfattr", "-n", "user.imap.flags", "-v", "\\Flagged", "#4"],
    &["mkdir", "@/Other/New"],
    &["rmdir", "@/Gone"],
    &["mv", "@/Old", "@/Older"],
    &["cp", "%", "@/Other/new.eml"],
];

fn start(mount: &Mount, call: &[&str], messages: &BTreeMap<u32, String>, file: &Path) -> Child {
    let (mount, file) = (mount.path().to_str().unwrap(), file.to_str().unwrap());
    let argument = |text: &&str| match text.strip_prefix('#') {
        Some(rest) => messages[&rest[..1].parse().unwrap()].clone() + &rest[1..],
        None => text.replace('@', mount).replace('%', file),
    };
    let mut command = Command::new(call[0]);
    command.args(call[1..].iter().map(argument)).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env("LC_ALL", "C").spawn().unwrap()
}

/// The messages of INBOX by UID: where they are.
fn paths(mount: &Mount) -> BTreeMap<u32, String> {
    let path = |uid| (uid, mount.message("INBOX", uid).to_str().unwrap().to_owned());
    (1..10).map(path).collect()
}

/// Subjects in a mailbox of the server.
fn subjects(imap: &mut Imap, mailbox: &str) -> BTreeMap<u32, String> {
    imap.select(mailbox).unwrap();
    let bodies = imap.bodies("1:*").unwrap().into_iter();
    let subject = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().to_owned()
    };
    bodies.map(|(uid, bytes)| (uid, subject(bytes))).collect()
}

/// The server stops, everything is tried at once, the server goes on. Programs that failed.
fn everything_ends_and_is_right_again(
    name: &str,
    account: &Account,
    mount: &Mount,
    stop: impl Fn(bool),
) -> Vec<&'static str> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new.eml");
    fs::write(&file, letter("new")).unwrap();
    let messages = paths(mount);
    let known = mount.message("INBOX", 9).join("message.eml");
    fs::read(&known).unwrap();
    stop(true);
    let started = Instant::now();
    let mut calls: Vec<(Child, Option<Duration>)> =
        CALLS.iter().map(|call| (start(mount, call, &messages, &file), None)).collect();
    // What is known is read meanwhile.
    assert_eq!(fs::read(&known).unwrap(), letter("m9"));
    let all_ended = wait_for(LIMIT, || {
        for (child, took) in &mut calls {
            if took.is_none() && child.try_wait().unwrap().is_some() {
                *took = Some(started.elapsed());
            }
        }
        calls.iter().all(|(_, took)| took.is_some()).then_some(())
    });
    for ((child, took), call) in calls.iter_mut().zip(CALLS) {
        if took.is_none() {
            println!("{name}: {call:?} does not end");
            child.kill().unwrap();
            continue;
        }
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        println!("{name}: {:?} after {took:.1?} {}", call, said.trim().rsplit(": ").next().unwrap());
    }
    assert!(all_ended.is_some());
    let went_well: Vec<bool> = calls.iter_mut().map(|(child, _)| child.wait().unwrap().success()).collect();
    let copied = went_well[CALLS.len() - 1];
    // The server is known to be away by now: who asks for what is not known hears it at once.
    let begin = Instant::now();
    let error = fs::read_dir(mount.join("Old")).and_then(|mut dir| dir.next().transpose()).err();
    println!("{name}: then {error:?} after {:.1?}", begin.elapsed());
    stop(false);
    let begin = Instant::now();
    let mut imap = account.imap();
    let right = wait_for(RECOVERY, || {
        let mut same = true;
        for mailbox in MAILBOXES {
            let shown: BTreeSet<u32> = fs::read_dir(mount.join(mailbox)).ok()?.flatten().filter_map(uid).collect();
            same &= shown == subjects(&mut imap, mailbox).into_keys().collect();
        }
        // What was given up may be about to be done by the server.
        same.then_some(())
    });
    assert!(right.is_some(), "{name}: not right again");
    println!("{name}: right again after {:.1?}", begin.elapsed());
    let mut all: Vec<String> = MAILBOXES.iter().flat_map(|m| subjects(&mut imap, m).into_values()).collect();
    all.sort();
    let copies = all.iter().filter(|subject| *subject == "new").count();
    assert!(copies <= 1 && (copies == 1 || !copied), "{name}: {copies} copies, cp went well: {copied}");
    all.retain(|subject| subject != "new");
    assert_eq!(all, (1..10).map(|n| format!("m{n}")).collect::<Vec<_>>(), "{name}: lost or doubled");
    let listed = imap.ok("LIST \"\" *").unwrap();
    for name in ["Gone", "Old", "Older", "Other/New"] {
        let there = listed.untagged.iter().any(|row| row.text.ends_with(&format!(" {name}")));
        let same = wait_for(RECOVERY, || (mount.join(name).exists() == there).then_some(()));
        assert!(same.is_some(), "{name} is there: {there}; the mount says otherwise");
    }
    let failed = CALLS.iter().zip(went_well).filter(|(_, went_well)| !went_well);
    failed.map(|(call, _)| call[0]).collect()
}

fn uid(entry: fs::DirEntry) -> Option<u32> {
    entry.file_name().to_str()?.rsplit_once('.')?.1.parse().ok()
}

#[test]
fn a_server_that_is_stopped_costs_nothing_but_time() {
    // One of its own: it is stopped, all processes of it.
    let server = Server::start("dovecot", &[("DOVECOT_MAXCONN", "50")]);
    let account = filled(&server);
    let mut mount = Mount::new(&account, &["--timeout", "2"]);
    everything_ends_and_is_right_again("stopped", &account, &mount, |stop| signal_all(server.pid, stop));
    assert!(mount.unmount());
}

#[test]
fn a_connection_that_leads_nowhere_costs_nothing_but_time() {
    for action in [Action::Blackhole, Action::HalfClose] {
        let account = filled(Server::dovecot());
        let proxy = Proxy::new(account.port);
        let mut mount = Mount::new(&account.through(&proxy), &["--timeout", "2"]);
        let struck = Cell::new(0);
        let failed = everything_ends_and_is_right_again(&format!("{action:?}"), &account, &mount, |stop| {
            if stop {
                struck.set(proxy.open());
                proxy.strike(action.clone());
            }
        });
        // There is another way at once, and all is done over it but what ran into its deadline: of each connection the first
        // command, where it was not at rest before.
        let (stat, late): (Vec<_>, Vec<_>) = failed.into_iter().partition(|program| *program == "stat");
        assert!(stat.len() == 1 && late.len() <= struck.get(), "{action:?}: {late:?} of {struck:?} connections");
        assert!(mount.unmount());
    }
}

/// Whoever waits for a stopped server is gone when he is killed, however long the deadline; and `imapfs umount` takes
/// the mount down.
#[test]
fn who_waits_for_a_stopped_server_can_be_killed_and_the_mount_be_taken_down() {
    let server = Server::start("dovecot", &[("DOVECOT_MAXCONN", "50")]);
    let account = filled(&server);
    let mut mount = Mount::new(&account, &["--timeout", "60"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new.eml");
    fs::write(&file, letter("new")).unwrap();
    let messages = paths(&mount);
    signal_all(server.pid, true);
    for call in CALLS {
        let mut child = start(&mount, call, &messages, &file);
        if wait_for(Duration::from_millis(300), || child.try_wait().unwrap()).is_some() {
            println!("{call:?} does not wait");
            continue;
        }
        let begin = Instant::now();
        child.kill().unwrap();
        let gone = wait_for(Duration::from_secs(5), || child.try_wait().unwrap());
        assert!(gone.is_some(), "{call:?} cannot be killed");
        println!("{call:?} is gone after {:.2?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_millis(1500));
    }
    let begin = Instant::now();
    let umount = Command::new(env!("CARGO_BIN_EXE_imapfs")).arg("umount").arg(mount.path()).status().unwrap();
    assert!(umount.success() && begin.elapsed() < Duration::from_secs(8), "{umount} {:?}", begin.elapsed());
    let ended = wait_for(Duration::from_secs(8), || mount.ended().then_some(()));
    assert!(ended.is_some() && !mount.is_mounted(), "it is still there");
    println!("unmounted, and the program gone, after {:.1?}", begin.elapsed());
    signal_all(server.pid, false);
}

/// Stops a process and all its descendants, or lets them go on.
fn signal_all(pid: u32, stop: bool) {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().for_each(|pid| signal_all(pid.parse().unwrap(), stop));
    let name = if stop { "-STOP" } else { "-CONT" };
    // One may have ended in between.
    let _ = Command::new("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status();
}
