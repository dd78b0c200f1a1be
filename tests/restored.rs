//! A server that was restored from a backup, or made its index anew: UIDVALIDITY is as before, UIDNEXT and HIGHESTMODSEQ
//! fell, a UID may be another message. What is shown is what the server has, in the next mount and in one that goes on.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::proxy::{Action, Dir, Proxy};
use common::{Account, Imap, Mount, Security, Server, wait_for};
use tempfile::TempDir;

/// Until what is true shows, also on a machine that does other things.
const SOON: Duration = Duration::from_secs(30);

/// A message as it is shown, or as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    flags: String,
    octets: String,
}

type Messages = BTreeMap<u32, Message>;

fn letter(n: u32) -> Vec<u8> {
    format!("From: a@example.org\r\nSubject: number {n}\r\nMessage-Id: <{n}@x>\r\n\r\nThis is number {n}.\r\n")
        .into_bytes()
}

fn append(imap: &mut Imap, numbers: std::ops::RangeInclusive<u32>) -> Vec<u32> {
    numbers.map(|n| imap.append("INBOX", &letter(n), "", None).unwrap()).collect()
}

/// What the server has.
fn truth(imap: &mut Imap) -> Messages {
    imap.select("INBOX").unwrap();
    let mut messages = Messages::new();
    for (uid, octets) in imap.bodies("1:*").unwrap() {
        let flags: Vec<String> = imap.flags(uid).unwrap().unwrap().into_iter().filter(|f| f != "\\Recent").collect();
        messages.insert(uid, Message { flags: flags.join(" "), octets: String::from_utf8(octets).unwrap() });
    }
    messages
}

fn flags(message: &Path) -> Option<String> {
    let output =
        Command::new("getfattr").args(["--only-values", "-n", "user.imap.flags"]).arg(message).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(text)
}

/// What the mount shows; `None` while it changes.
fn shown(inbox: &Path) -> Option<Messages> {
    let mut messages = Messages::new();
    for entry in fs::read_dir(inbox).ok()? {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?;
        let octets = fs::read_to_string(path.join("message.eml")).ok()?;
        let subject = octets.lines().find_map(|line| line.strip_prefix("Subject: "))?.replace(' ', "-");
        let (text, uid) = name.rsplit_once('.')?;
        assert!(text.ends_with(&subject), "{name} is {subject}");
        let body = fs::read_to_string(path.join("body.txt")).ok()?;
        assert!(octets.ends_with(&body.replace('\n', "\r\n")), "{name} has the text {body}");
        messages.insert(uid.parse().ok()?, Message { flags: flags(&path)?, octets });
    }
    Some(messages)
}

/// Waits until the mount shows what the server has; the inode numbers.
fn shows(mount: &Mount, want: &Messages, what: &str) -> BTreeMap<u32, u64> {
    let inbox = mount.join("INBOX");
    let is_shown = wait_for(SOON, || (shown(&inbox).as_ref() == Some(want)).then_some(())).is_some();
    assert!(is_shown, "{what}: {:#?} is not {want:#?}", shown(&inbox));
    want.keys().map(|uid| (*uid, mount.message("INBOX", *uid).metadata().unwrap().ino())).collect()
}

fn mount(account: &Account, cache: &TempDir) -> Mount {
    Mount::new(account, &["--cache-dir", cache.path().to_str().unwrap()])
}

/// Where a Dovecot has the mail of an account.
fn maildir(server: &Server, account: &Account) -> PathBuf {
    server.dir.join("mail").join(&account.user).join("Maildir")
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// UIDVALIDITY, UIDNEXT and HIGHESTMODSEQ.
fn counters(imap: &mut Imap) -> [u64; 3] {
    ["UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ"].map(|item| imap.status("INBOX", item).unwrap().unwrap())
}

/// Six messages in the backup, four more and some changes after it; then the backup comes back and `arrive` others arrive.
fn restored(arrive: u32, mounted: bool) {
    let what = format!("{arrive} messages arrive, mounted: {mounted}");
    let server = Server::dovecot();
    let account = server.account();
    let (proxy, cache) = (Proxy::new(account.port), TempDir::new().unwrap());
    let through = account.with(Security::None).through(&proxy);
    let mut imap = account.imap();
    append(&mut imap, 1..=6);
    imap.select("INBOX").unwrap();
    imap.ok("UID STORE 2:4 +FLAGS.SILENT (\\Answered)").unwrap();
    imap.logout().unwrap();
    let (there, backup) = (maildir(server, &account), TempDir::new().unwrap());
    let backup = backup.path().join("Maildir");
    copy(&there, &backup);
    let mut imap = account.imap();
    append(&mut imap, 7..=10);
    imap.select("INBOX").unwrap();
    imap.ok("UID STORE 3,7 +FLAGS.SILENT (\\Flagged)").unwrap();
    imap.ok("UID STORE 4 -FLAGS.SILENT (\\Answered)").unwrap();
    imap.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)").unwrap();
    imap.ok("UID EXPUNGE 1").unwrap();
    let (known, then) = (truth(&mut imap), counters(&mut imap));
    imap.logout().unwrap();
    let mut first = mount(&through, &cache);
    let before = shows(&first, &known, &what);
    let old = mounted.then(|| File::open(first.message("INBOX", 7).join("message.eml")).unwrap());
    if !mounted {
        assert!(first.unmount());
    }
    proxy.refuse(true);
    proxy.strike(Action::Fin);
    // Who still has the one that goes open does not get at the one that comes.
    fs::rename(&there, there.with_extension("gone")).unwrap();
    copy(&backup, &there);
    let mut imap = account.imap();
    let arrived = append(&mut imap, 101..=100 + arrive);
    assert_eq!(arrived, (7..7 + arrive).collect::<Vec<_>>());
    let (want, now) = (truth(&mut imap), counters(&mut imap));
    assert!(now[0] == then[0] && (now[1] < then[1] || now[2] < then[2]), "{then:?} {now:?}");
    proxy.refuse(false);
    let second = if mounted { first } else { mount(&through, &cache) };
    let after = shows(&second, &want, &what);
    // A number never means other mail than it did.
    let is_other = |uid: &u32| known.get(uid).is_none_or(|message| message.octets != want[uid].octets);
    let reused: Vec<_> =
        after.iter().filter(|(uid, ino)| is_other(uid) && before.values().any(|b| b == *ino)).collect();
    assert!(reused.is_empty(), "{what}: {reused:?}");
    if let Some(old) = &old {
        let mut octets = [0; 1024];
        let read = old.read_at(&mut octets, 0);
        assert!(read.is_err() || octets.starts_with(known[&7].octets.as_bytes()), "{what}: {read:?}");
    }
    assert_eq!(second.log().matches("back at an earlier state").count(), 1, "{what}: {}", second.log());
    drop(old);
    let mut second = second;
    second.assert_quiet(&["not encrypted", "connection", "unreachable"]);
    assert!(second.unmount());
    // From here on nothing is odd.
    let mut third = mount(&through, &cache);
    assert_eq!(shows(&third, &want, &what), after);
    assert!(!third.log().contains("back at an earlier state"));
    // Other clients' changes are seen under the lower numbers.
    imap.ok("UID STORE 2 +FLAGS.SILENT ($Forwarded)").unwrap();
    imap.ok("UID STORE 3 -FLAGS.SILENT (\\Answered)").unwrap();
    shows(&third, &truth(&mut imap), &what);
    third.assert_quiet(&["not encrypted"]);
    assert!(third.unmount());
}

#[test]
fn a_backup_with_lower_uids_shows_in_the_next_mount() {
    restored(2, false);
}

#[test]
fn a_backup_whose_uids_were_given_again_shows_in_the_next_mount() {
    restored(4, false);
}

#[test]
fn a_backup_with_lower_uids_shows_in_a_mount_that_goes_on() {
    restored(0, true);
}

#[test]
fn a_backup_whose_uids_were_given_again_shows_in_a_mount_that_goes_on() {
    restored(4, true);
}

/// The same messages under the same UIDs: flags are compared, and nothing is fetched again.
#[test]
fn an_index_that_was_made_anew_costs_no_body() {
    let server = Server::dovecot();
    let account = server.account();
    let (proxy, cache) = (Proxy::new(account.port).recording(), TempDir::new().unwrap());
    let through = account.with(Security::None).through(&proxy);
    let mut imap = account.imap();
    append(&mut imap, 1..=6);
    imap.select("INBOX").unwrap();
    for flag in ["\\Flagged", "\\Answered", "\\Draft"] {
        imap.ok(&format!("UID STORE 1:5 +FLAGS.SILENT ({flag})")).unwrap();
    }
    let (known, then) = (truth(&mut imap), counters(&mut imap));
    imap.logout().unwrap();
    let mut first = mount(&through, &cache);
    let before = shows(&first, &known, "first");
    assert!(first.unmount());
    for entry in fs::read_dir(maildir(server, &account)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("dovecot.index") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let mut imap = account.imap();
    imap.select("INBOX").unwrap();
    imap.ok("UID STORE 2 -FLAGS.SILENT (\\Flagged)").unwrap();
    let (want, now) = (truth(&mut imap), counters(&mut imap));
    assert!(now[..2] == then[..2] && now[2] < then[2], "{then:?} {now:?}");
    proxy.reset();
    let mut second = mount(&through, &cache);
    assert_eq!(shows(&second, &want, "second"), before);
    let lines = proxy.transcript();
    let bodies: Vec<_> = lines.iter().filter(|line| line.dir == Dir::Up && line.text.contains("BODY")).collect();
    assert!(bodies.is_empty(), "{bodies:?}");
    second.assert_quiet(&["not encrypted"]);
    assert!(second.unmount());
}
