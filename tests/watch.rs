//! Changes by others as they reach a mount that nobody asks anything: at once where the server tells, in time where it
//! does not, and after connections that were lost, frozen or refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::proxy::{Action, Dir, Fault, Proxy, When};
use common::{Account, Imap, Mount, Security, Server, wait_for};

/// What is promised where the server tells.
const AT_ONCE: Duration = Duration::from_secs(1);
/// What is promised where it does not, and some for a machine that does other things.
const SOON: Duration = Duration::from_secs(4);
/// Until a connection is made again after a short outage.
const RECOVERY: Duration = Duration::from_secs(15);

fn letter(subject: &str) -> Vec<u8> {
    format!("From: Alice <alice@example.test>\r\nSubject: {subject}\r\n\r\nThis is in {subject}.\r\n").into_bytes()
}

fn append(imap: &mut Imap, mailbox: &str, subject: &str) -> u32 {
    match imap.append(mailbox, &letter(subject), "", None).unwrap() {
        // Courier tells no UID here.
        0 => {
            imap.select(mailbox).unwrap();
            *imap.search("ALL").unwrap().last().unwrap()
        }
        uid => uid,
    }
}

fn expunge(imap: &mut Imap, mailbox: &str, uid: u32) {
    imap.select(mailbox).unwrap();
    imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)")).unwrap();
    // mailutils has no UIDPLUS; nobody else has marked anything here.
    if !imap.command(&format!("UID EXPUNGE {uid}")).unwrap().is_ok() {
        imap.ok("EXPUNGE").unwrap();
    }
}

/// UIDs of the messages in a directory.
fn listed(directory: &Path) -> BTreeSet<u32> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.rsplit_once('.')?.1.parse().ok()).collect()
}

fn flags(path: &Path) -> String {
    let arguments = ["--absolute-names", "--only-values", "-n", "user.imap.flags"];
    let output = Command::new("getfattr").args(arguments).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn status(mount: &Mount, name: &str) -> String {
    let text = fs::read_to_string(mount.join(".imapfs/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
    line.unwrap_or_default()
}

/// Waits until the mount watches INBOX in this way, or a better one.
fn watched(mount: &Mount, how: &[&str]) -> String {
    let seen = wait_for(RECOVERY, || {
        let watching = status(mount, "watching");
        how.iter().any(|how| watching == format!("{how} INBOX")).then_some(watching)
    });
    seen.unwrap_or_else(|| panic!("watching {:?}; log:\n{}", status(mount, "watching"), mount.log()))
}

const PUSHED: &[&str] = &["idle", "notify"];

/// Waits for something that is to be seen; how long it took.
fn after(what: &str, limit: Duration, mut seen: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    assert!(wait_for(limit, || seen().then_some(())).is_some(), "{what}: not after {limit:?}");
    start.elapsed()
}

/// The middle one of three.
fn usual(mut times: [Duration; 3]) -> Duration {
    times.sort();
    times[1]
}

/// Nobody lists the directory: what the kernel shows has been told by the server and nobody else.
fn changes_are_pushed(server: &Server) {
    let account = server.account();
    let mut imap = account.imap();
    let first = append(&mut imap, "INBOX", "first");
    let mount = Mount::new(&account, &[]);
    let inbox = mount.join("INBOX");
    let old = mount.message("INBOX", first);
    let how = watched(&mount, PUSHED);
    let mtime = || fs::metadata(&inbox).unwrap().mtime_nsec();
    let (mut came, mut flagged, mut went) = ([Duration::ZERO; 3], [Duration::ZERO; 3], [Duration::ZERO; 3]);
    for round in 0..3 {
        let before = mtime();
        let uid = append(&mut imap, "INBOX", "new");
        came[round] = after("a new message", SOON, || mtime() != before);
        let commands = status(&mount, "commands");
        let path = mount.message("INBOX", uid);
        assert_eq!(commands, status(&mount, "commands"), "the listing asked the server");
        imap.select("INBOX").unwrap();
        let (set, word) = [("+FLAGS", true), ("-FLAGS", false), ("+FLAGS", true)][round];
        imap.ok(&format!("UID STORE {first} {set} (\\Flagged)")).unwrap();
        flagged[round] = after("a flag", SOON, || flags(&old).contains("\\Flagged") == word);
        assert!(path.exists());
        expunge(&mut imap, "INBOX", uid);
        went[round] = after("a message that is gone", SOON, || !path.exists());
    }
    println!("{} ({how}): new {came:?}, flag {flagged:?}, gone {went:?}", server.name);
    for times in [came, flagged, went] {
        assert!(usual(times) <= AT_ONCE, "{times:?}");
    }
    assert_eq!(listed(&inbox), [first].into());
    mount.assert_quiet(&[]);
}

#[test]
fn dovecot_tells_at_once() {
    changes_are_pushed(Server::dovecot());
}

#[test]
fn cyrus_tells_at_once() {
    changes_are_pushed(Server::cyrus());
}

/// Servers that tell nothing in IDLE: whoever looks sees it within the poll interval.
fn who_looks_sees(server: &Server) {
    let account = server.account();
    let mut imap = account.imap();
    let first = append(&mut imap, "INBOX", "first");
    let mount = Mount::new(&account, &[]);
    let inbox = mount.join("INBOX");
    assert_eq!(listed(&inbox), [first].into());
    let how = watched(&mount, &["idle", "poll"]);
    let (mut came, mut flagged, mut went) = ([Duration::ZERO; 3], [Duration::ZERO; 3], [Duration::ZERO; 3]);
    for round in 0..3 {
        let new = append(&mut imap, "INBOX", "new");
        came[round] = after("a new message", SOON, || listed(&inbox) == [first, new].into());
        imap.select("INBOX").unwrap();
        let (set, word) = [("+FLAGS", true), ("-FLAGS", false), ("+FLAGS", true)][round];
        imap.ok(&format!("UID STORE {first} {set} (\\Flagged)")).unwrap();
        // mailutils keeps flags to itself until the mailbox is left.
        imap.command("UNSELECT").unwrap();
        flagged[round] = after("a flag", SOON, || {
            listed(&inbox);
            flags(&mount.message("INBOX", first)).contains("\\Flagged") == word
        });
        expunge(&mut imap, "INBOX", new);
        went[round] = after("a message that is gone", SOON, || listed(&inbox) == [first].into());
    }
    println!("{} ({how}), while somebody looks: new {came:?}, flag {flagged:?}, gone {went:?}", server.name);
    mount.assert_quiet(&[]);
}

#[test]
fn courier_does_not_tell_and_is_right_when_somebody_looks() {
    who_looks_sees(Server::courier());
}

#[test]
fn mailutils_does_not_tell_and_is_right_when_somebody_looks() {
    who_looks_sees(Server::mailutils());
}

/// Another mailbox than the one that is watched, with and without NOTIFY.
#[test]
fn other_mailboxes_are_told_of_by_notify_and_else_seen_by_who_looks() {
    for server in [Server::dovecot(), Server::cyrus()] {
        let account = server.account();
        let mut imap = account.imap();
        let wire = account.wire_name("Other");
        imap.create(&wire).unwrap();
        let first = append(&mut imap, &wire, "first");
        let mount = Mount::new(&account, &[]);
        let other = mount.join(account.path_name("Other"));
        assert_eq!(listed(&other), [first].into());
        let notified = watched(&mount, PUSHED).starts_with("notify");
        let before = fs::metadata(&other).unwrap().mtime_nsec();
        let second = append(&mut imap, &wire, "second");
        let came = match notified {
            true => after("told", AT_ONCE * 2, || fs::metadata(&other).unwrap().mtime_nsec() != before),
            false => after("looked for", SOON, || listed(&other).contains(&second)),
        };
        assert_eq!(listed(&other), [first, second].into());
        println!("{}: in another mailbox {came:?} (NOTIFY: {notified})", server.name);
        if notified {
            let before = fs::metadata(mount.path()).unwrap().mtime_nsec();
            imap.create("New").unwrap();
            let made = after("a mailbox", AT_ONCE * 2, || fs::metadata(mount.path()).unwrap().mtime_nsec() != before);
            println!("{}: a new mailbox {made:?}", server.name);
            assert!(mount.join("New").exists());
        }
        mount.assert_quiet(&[]);
    }
}

/// A mount in plaintext through a proxy, its INBOX listed and watched.
fn through(account: &Account, proxy: &Proxy, args: &[&str]) -> Mount {
    let args = [&["--no-compress"], args].concat();
    let mount = Mount::new(&account.with(Security::None).through(proxy), &args);
    listed(&mount.join("INBOX"));
    watched(&mount, PUSHED);
    mount
}

#[test]
fn an_idle_that_died_in_silence_deceives_nobody_who_looks() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let first = append(&mut imap, "INBOX", "first");
    let proxy = Proxy::new(account.port).fault(Fault::up(Fault::after("IDLE\r\n"), Action::Blackhole).on(1..=1));
    let mount = Mount::new(&account.with(Security::None).through(&proxy), &["--no-compress"]);
    let inbox = mount.join("INBOX");
    assert_eq!(listed(&inbox), [first].into());
    assert!(wait_for(RECOVERY, || (proxy.stats().faults > 0).then_some(())).is_some());
    let second = append(&mut imap, "INBOX", "second");
    // The end of IDLE has ten seconds to be answered.
    let came = after("a new message", RECOVERY, || listed(&inbox) == [first, second].into());
    println!("blackholed: seen after {came:?}");
}

#[test]
fn one_connection_watches_and_does_all_the_rest() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let first = append(&mut imap, "INBOX", "first");
    let proxy = Proxy::new(account.port);
    let mount = through(&account, &proxy, &["--connections", "1"]);
    let inbox = mount.join("INBOX");
    for round in 0..3 {
        let text = fs::read_to_string(mount.message("INBOX", first).join("message.eml")).unwrap();
        assert!(text.contains("This is in first"));
        watched(&mount, PUSHED);
        let before = fs::metadata(&inbox).unwrap().mtime_nsec();
        append(&mut imap, "INBOX", "more");
        let came = after("a new message", SOON, || fs::metadata(&inbox).unwrap().mtime_nsec() != before);
        println!("one connection: {came:?}");
        assert_eq!(listed(&inbox).len(), round + 2);
    }
    assert_eq!((proxy.stats().connections, proxy.open()), (1, 1));
}

/// What the server has is what is shown in the end, wherever the connections were cut, and looking again changes nothing.
#[test]
fn a_cut_at_any_line_ends_in_the_same_state() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let uids: Vec<u32> = (0..6).map(|_| append(&mut imap, "INBOX", "here")).collect();
    for lines in (8..44).step_by(3) {
        let proxy = Proxy::new(account.port);
        let mount = through(&account, &proxy, &[]);
        let inbox = mount.join("INBOX");
        let passed = proxy.stats().lines_down;
        // Counted from what each connection has already heard: each dies somewhere in the middle of what follows.
        proxy.add(Fault {
            connections: 1..=6,
            dir: Dir::Down,
            when: When::Lines(passed.min(lines)),
            action: Action::Fin,
        });
        let new = append(&mut imap, "INBOX", "new");
        imap.select("INBOX").unwrap();
        let gone = *imap.search("ALL").unwrap().first().unwrap();
        let flag = if lines % 2 == 0 { "+FLAGS" } else { "-FLAGS" };
        imap.ok(&format!("UID STORE {} {flag} (\\Flagged)", uids[5])).unwrap();
        expunge(&mut imap, "INBOX", gone);
        let truth: BTreeSet<u32> = imap.search("ALL").unwrap().into_iter().collect();
        after("the truth", RECOVERY, || listed(&inbox) == truth);
        if truth.contains(&uids[5]) {
            let path = mount.message("INBOX", uids[5]);
            after("its flag", RECOVERY, || {
                listed(&inbox);
                flags(&path).contains("\\Flagged") == (lines % 2 == 0)
            });
        }
        assert!(truth.contains(&new) && !listed(&inbox).contains(&gone));
        proxy.clear_faults();
        watched(&mount, PUSHED);
        let mtime = fs::metadata(&inbox).unwrap().mtime_nsec();
        assert_eq!(listed(&inbox), truth);
        assert_eq!(fs::metadata(&inbox).unwrap().mtime_nsec(), mtime, "nothing changed");
    }
}

#[test]
fn fifty_lost_connections_leave_nothing_behind() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    append(&mut imap, "INBOX", "first");
    let proxy = Proxy::new(account.port).recording();
    let mount = through(&account, &proxy, &[]);
    let inbox = mount.join("INBOX");
    let open = || fs::read_dir(format!("/proc/{}/fd", mount.pid)).unwrap().count();
    let before = open();
    for _ in 0..50 {
        proxy.reset();
        proxy.strike(Action::Rst);
        // Nobody asks for anything: it comes back by itself.
        let idles = || proxy.transcript().iter().any(|line| line.dir == Dir::Up && line.text.ends_with(" IDLE"));
        assert!(wait_for(RECOVERY, || idles().then_some(())).is_some());
    }
    watched(&mount, PUSHED);
    let seen = fs::metadata(&inbox).unwrap().mtime_nsec();
    append(&mut imap, "INBOX", "second");
    after("a new message", SOON, || fs::metadata(&inbox).unwrap().mtime_nsec() != seen);
    let flat = wait_for(RECOVERY, || (open() <= before && proxy.open() <= 4).then_some(()));
    assert!(flat.is_some(), "{before} descriptors before, {} now; {} connections", open(), proxy.open());
    println!("logins {}, connections {}", status(&mount, "logins"), status(&mount, "connections"));
}

#[test]
fn what_the_mount_is_doing_is_told_to_people_and_to_programs() {
    let account = Server::dovecot().account();
    append(&mut account.imap(), "INBOX", "first");
    let mount = Mount::new(&account, &[]);
    listed(&mount.join("INBOX"));
    watched(&mount, PUSHED);
    assert_eq!(status(&mount, "messages_known"), "1");
    let metrics = fs::read_to_string(mount.join(".imapfs/metrics")).unwrap();
    for name in ["bytes_in_total", "commands_total", "connections", "cache_hits_total", "changes_queued", "watching"] {
        let line = metrics.lines().find(|line| line.starts_with(&format!("imapfs_{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        assert!(value.is_some(), "{name}: {metrics}");
    }
    let mut names: Vec<_> =
        fs::read_dir(mount.join(".imapfs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["metrics", "status"]);
    let output = Command::new(env!("CARGO_BIN_EXE_imapfs")).args(["status", "--json"]).arg(mount.path()).output();
    let json: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!(json["messages_known"], 1, "{json}");
}
