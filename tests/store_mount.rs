//! The disk cache through mounts: what the second one shows at once, what it asks for, and what it must not believe.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::proxy::{Dir, Proxy};
use common::{Account, Mount, Security, Server, corpus, wait_for};
use tempfile::TempDir;

/// How long a change that was made behind a mount's back may take to show.
const SOON: Duration = Duration::from_secs(10);

/// A mount that keeps what it knows in `cache`.
fn mount(account: &Account, cache: &TempDir, args: &[&str]) -> Mount {
    let directory = cache.path().to_str().unwrap();
    Mount::new(account, &[&["--cache-dir", directory], args].concat())
}

fn end(mut mount: Mount, expected: &[&str]) {
    mount.assert_quiet(expected);
    assert!(mount.unmount());
}

/// Names in a directory.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Names and inode numbers of a directory.
fn list(path: &Path) -> BTreeMap<String, u64> {
    names(path).into_iter().map(|name| (name.clone(), path.join(name).symlink_metadata().unwrap().ino())).collect()
}

/// All files below a directory with their contents, and the inode numbers of all there is.
fn contents(path: &Path) -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
    fn walk(top: &Path, path: &Path, found: &mut BTreeMap<PathBuf, (u64, Vec<u8>)>) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let name = path.strip_prefix(top).unwrap().to_owned();
            if metadata.is_dir() {
                found.insert(name, (metadata.ino(), Vec::new()));
                walk(top, &path, found);
            } else {
                let data = fs::read(&path).unwrap();
                assert_eq!(data.len() as u64, metadata.len(), "{}", path.display());
                found.insert(name, (metadata.ino(), data));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(path, path, &mut found);
    found
}

fn plain(n: u32) -> Vec<u8> {
    format!("From: a{n}@example.org\r\nSubject: number {n}\r\nMessage-Id: <{n}@x>\r\n\r\nThe text of number {n}.\r\n")
        .into_bytes()
}

/// INBOX with so many small messages.
fn fill(account: &Account, mailbox: &str, numbers: std::ops::RangeInclusive<u32>) {
    let mut imap = account.imap();
    for n in numbers {
        imap.append(mailbox, &plain(n), "", None).unwrap();
    }
}

/// The only account's directory in a cache.
fn inside(cache: &TempDir) -> PathBuf {
    let mut accounts = fs::read_dir(cache.path().join("accounts")).unwrap();
    let path = accounts.next().unwrap().unwrap().path();
    assert!(accounts.next().is_none());
    path
}

fn errno(outcome: std::io::Result<impl Sized>) -> Option<i32> {
    outcome.err().and_then(|error| error.raw_os_error())
}

#[test]
fn the_second_mount_shows_the_same_and_moves_next_to_nothing() {
    let account = Server::dovecot().account();
    account.imap().create("Work").unwrap();
    fill(&account, "Work", 1..=2000);
    let cache = TempDir::new().unwrap();
    let proxy = Proxy::new(account.port).recording();
    let through = account.with(Security::None).through(&proxy);
    let first = mount(&through, &cache, &[]);
    let (top, before) = (list(first.path()), list(&first.join("Work")));
    assert_eq!(before.len(), 2000);
    end(first, &["not encrypted"]);
    proxy.reset();
    let second = mount(&through, &cache, &[]);
    assert_eq!((list(second.path()), list(&second.join("Work"))), (top, before));
    let stats = proxy.stats();
    let sent: Vec<_> =
        proxy.transcript().into_iter().filter(|line| line.dir == Dir::Up).map(|line| line.text).collect();
    println!("second mount and ls of 2000: {} octets; {sent:?}", stats.bytes_up + stats.bytes_down);
    assert!(stats.bytes_up + stats.bytes_down <= 3000, "{stats:?} {sent:?}");
    assert_eq!(stats.connections, 1, "who only looks needs no more of them");
    end(second, &["not encrypted"]);
}

#[test]
fn what_was_read_once_is_not_fetched_by_the_second_mount() {
    let account = Server::dovecot().account();
    // What a server refuses to take it does not hold.
    corpus::append(&mut account.imap(), "INBOX", &corpus::messages());
    let cache = TempDir::new().unwrap();
    let proxy = Proxy::new(account.port).recording();
    let through = account.with(Security::None).through(&proxy);
    let quiet = ["not encrypted", "structure", "fetching", "states"];
    let first = mount(&through, &cache, &["--no-compress"]);
    let before = contents(&first.join("INBOX"));
    assert!(before.len() > 100);
    end(first, &quiet);
    proxy.reset();
    let second = mount(&through, &cache, &["--no-compress"]);
    let after = contents(&second.join("INBOX"));
    let bodies: Vec<_> =
        proxy.transcript().into_iter().filter(|line| line.dir == Dir::Up && line.text.contains("FETCH")).collect();
    println!("read again: {} octets", proxy.stats().bytes_down);
    let differ: Vec<_> =
        before.iter().filter(|(path, file)| after.get(*path) != Some(file)).map(|(path, _)| path).collect();
    assert!(differ.is_empty() && before.len() == after.len(), "{differ:?}");
    assert!(bodies.is_empty(), "{bodies:?}");
    let status = fs::read_to_string(second.join(".imapfs/status")).unwrap();
    assert!(status.contains("\ndisk_cache: on\n") && status.contains("\ndisk_cache_hits: "), "{status}");
    end(second, &quiet);
}

#[test]
fn what_changed_while_nothing_was_mounted_is_right_in_the_second_mount() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    for name in ["Kept", "Gone", "Anew", "Old"] {
        imap.create(name).unwrap();
        fill(&account, name, 1..=5);
    }
    fill(&account, "INBOX", 1..=20);
    let cache = TempDir::new().unwrap();
    let first = mount(&account, &cache, &[]);
    let before: BTreeMap<_, _> =
        ["INBOX", "Kept", "Gone", "Anew", "Old"].map(|name| (name, contents(&first.join(name)))).into();
    let top = list(first.path());
    end(first, &[]);
    imap.select("INBOX").unwrap();
    imap.ok("UID STORE 3,5 +FLAGS.SILENT (\\Flagged)").unwrap();
    imap.ok("UID STORE 4,6:9 +FLAGS.SILENT (\\Deleted)").unwrap();
    imap.ok("EXPUNGE").unwrap();
    imap.ok("CLOSE").unwrap();
    fill(&account, "INBOX", 21..=25);
    imap.ok("DELETE Gone").unwrap();
    imap.ok("RENAME Old New").unwrap();
    imap.ok("DELETE Anew").unwrap();
    // Dovecot's UIDVALIDITY is the time in seconds.
    std::thread::sleep(Duration::from_millis(1100));
    imap.create("Anew").unwrap();
    fill(&account, "Anew", 101..=105);
    let second = mount(&account, &cache, &[]);
    let uids = || -> Vec<u32> {
        let names = names(&second.join("INBOX"));
        let mut uids: Vec<u32> = names.iter().filter_map(|name| name.rsplit('.').next()?.parse().ok()).collect();
        uids.sort_unstable();
        uids
    };
    let want: Vec<u32> = (1..=25).filter(|uid| ![4, 6, 7, 8, 9].contains(uid)).collect();
    assert!(wait_for(SOON, || (uids() == want).then_some(())).is_some(), "{:?}", uids());
    let flags = |uid| {
        let output = Command::new("getfattr")
            .args(["--only-values", "-n", "user.imap.flags"])
            .arg(second.message("INBOX", uid))
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!([3, 5, 10, 21].map(flags), ["\\Flagged", "\\Flagged", "", ""]);
    assert!(wait_for(SOON, || (!second.join("Gone").exists() && second.join("New").exists()).then_some(())).is_some());
    assert!(!second.join("Old").exists());
    assert_eq!(contents(&second.join("Kept")), before["Kept"]);
    // The same UIDs are other messages under other numbers.
    let anew = wait_for(SOON, || {
        let names = fs::read_dir(second.join("Anew")).ok()?.collect::<Result<Vec<_>, _>>().ok()?;
        (names.len() == 5 && names.iter().all(|name| name.file_name().to_string_lossy().contains("number-10")))
            .then_some(())
    });
    assert!(anew.is_some());
    let anew = contents(&second.join("Anew"));
    let texts = anew.iter().filter(|(path, _)| path.ends_with("body.txt"));
    assert!(
        texts.clone().count() == 5 && texts.clone().all(|(_, (_, text))| text.starts_with(b"The text of number 10"))
    );
    let spent: Vec<u64> =
        before.values().flat_map(|files| files.values().map(|(ino, _)| *ino)).chain(top.values().copied()).collect();
    assert!(anew.values().all(|(ino, _)| !spent.contains(ino)));
    let now = list(second.path());
    assert!(now["New"] != top["Gone"] && now["Anew"] != top["Anew"] && now["Kept"] == top["Kept"]);
    end(second, &[]);
    // Once more: nothing changes.
    let third = mount(&account, &cache, &[]);
    assert_eq!(contents(&third.join("Anew")), anew);
    assert_eq!(list(third.path()), now);
    end(third, &[]);
}

#[test]
fn the_cache_can_be_deleted_while_it_is_in_use() {
    let account = Server::dovecot().account();
    fill(&account, "INBOX", 1..=50);
    let cache = TempDir::new().unwrap();
    let first = mount(&account, &cache, &[]);
    let before = contents(&first.join("INBOX"));
    end(first, &[]);
    let second = mount(&account, &cache, &[]);
    assert_eq!(list(&second.join("INBOX")).len(), 50);
    fs::remove_dir_all(cache.path().join("accounts")).unwrap();
    fill(&account, "INBOX", 51..=60);
    assert!(wait_for(SOON, || (list(&second.join("INBOX")).len() == 60).then_some(())).is_some());
    let after = contents(&second.join("INBOX"));
    assert!(before.iter().all(|(path, file)| after.get(path) == Some(file)));
    end(second, &[]);
    let third = mount(&account, &cache, &[]);
    assert_eq!(list(&third.join("INBOX")).len(), 60);
    end(third, &[]);
}

#[test]
fn a_second_mount_of_the_same_account_works_without_and_says_so() {
    let account = Server::dovecot().account();
    fill(&account, "INBOX", 1..=5);
    let cache = TempDir::new().unwrap();
    let (first, second) = (mount(&account, &cache, &[]), mount(&account, &cache, &[]));
    assert_eq!(contents(&first.join("INBOX")), contents(&second.join("INBOX")));
    let status = fs::read_to_string(second.join(".imapfs/status")).unwrap();
    assert!(status.contains("\ndisk_cache: off, another mount has it\n"), "{status}");
    assert_eq!(second.log().matches("another mount of this account has the disk cache").count(), 1);
    end(second, &["another mount of this account"]);
    end(first, &[]);
}

#[test]
fn offline_shows_what_is_kept_and_nothing_else() {
    let server = Server::start("dovecot", &[]);
    let account = server.account();
    fill(&account, "INBOX", 1..=20);
    account.imap().create("Unseen").unwrap();
    let cache = TempDir::new().unwrap();
    let none = Mount::try_new(&account, &["--offline", "--cache-dir", cache.path().to_str().unwrap()]);
    assert!(none.is_err_and(|log| log.contains("not in the disk cache")));
    let first = mount(&account, &cache, &[]);
    let names = list(&first.join("INBOX"));
    let message = first.message("INBOX", 7);
    let read: Vec<_> =
        ["headers.txt", "body.txt", "message.eml"].map(|name| (name, fs::read(message.join(name)).unwrap())).into();
    let unread = first.message("INBOX", 18).file_name().unwrap().to_owned();
    let message = message.file_name().unwrap().to_owned();
    end(first, &[]);
    drop(server);
    let refused = Mount::try_new(&account, &["--cache-dir", cache.path().to_str().unwrap()]);
    assert!(refused.is_err_and(|log| log.contains("unreachable")));
    let offline = mount(&account, &cache, &["--offline"]);
    assert_eq!(list(&offline.join("INBOX")), names);
    let inbox = offline.join("INBOX");
    for (name, want) in &read {
        assert_eq!(fs::read(inbox.join(&message).join(name)).unwrap(), *want, "{name}");
    }
    assert_eq!(errno(fs::read(inbox.join(&unread).join("message.eml"))), Some(libc::EHOSTUNREACH));
    assert_eq!(errno(fs::read_dir(offline.join("Unseen"))), Some(libc::EHOSTUNREACH));
    assert_eq!(errno(fs::create_dir(offline.join("New"))), Some(libc::EROFS));
    assert_eq!(errno(fs::remove_dir_all(inbox.join(&message))), Some(libc::EROFS));
    end(offline, &[]);
}

#[test]
fn no_cache_leaves_nothing_and_what_is_kept_is_for_its_owner_alone() {
    let account = Server::dovecot().account();
    fill(&account, "INBOX", 1..=5);
    let cache = TempDir::new().unwrap();
    let without = mount(&account, &cache, &["--no-cache"]);
    assert_eq!(contents(&without.join("INBOX")).len(), 15);
    assert!(fs::read_to_string(without.join(".imapfs/status")).unwrap().contains("\ndisk_cache: off\n"));
    end(without, &[]);
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    let with = mount(&account, &cache, &[]);
    contents(&with.join("INBOX"));
    end(with, &[]);
    fn check(path: &Path) {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        fs::read_dir(path).into_iter().flatten().for_each(|entry| check(&entry.unwrap().path()));
    }
    check(&inside(&cache));
}

#[test]
fn a_damaged_cache_is_noticed_and_what_is_read_is_right() {
    let account = Server::dovecot().account();
    fill(&account, "INBOX", 1..=30);
    let large: Vec<u8> = [&plain(31)[..], &b"0123456789abcdef\r\n".repeat(40_000)].concat();
    account.imap().append("INBOX", &large, "", None).unwrap();
    let cache = TempDir::new().unwrap();
    let first = mount(&account, &cache, &[]);
    let before = contents(&first.join("INBOX"));
    end(first, &[]);
    for (round, divisor) in [2, 3, 7, 11].into_iter().enumerate() {
        for path in walk(&inside(&cache)) {
            let mut data = fs::read(&path).unwrap();
            let at = data.len() / divisor;
            match round {
                0 => data.truncate(at),
                _ => data.iter_mut().skip(at).step_by(5000).for_each(|octet| *octet ^= 0x10),
            }
            fs::write(&path, data).unwrap();
        }
        let mount = mount(&account, &cache, &[]);
        let after = wait_for(SOON, || Some(contents(&mount.join("INBOX"))).filter(|after| after.len() == before.len()))
            .unwrap();
        // Numbers of mailboxes may have been lost with the database.
        let data = |all: &BTreeMap<PathBuf, (u64, Vec<u8>)>| {
            all.clone().into_iter().map(|(path, (_, data))| (path, data)).collect::<Vec<_>>()
        };
        assert!(data(&before) == data(&after), "round {round}");
        end(mount, &["disk cache"]);
    }
}

fn walk(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_cache_that_was_cut_off_at_any_moment_shows_nothing_wrong() {
    let kills: u64 = std::env::var("IMAPFS_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let account = Server::dovecot().account();
    fill(&account, "INBOX", 1..=300);
    let cache = TempDir::new().unwrap();
    let mut imap = account.imap();
    let mut next = 301;
    for round in 0..kills {
        let mount = mount(&account, &cache, &[]);
        let mut grep = Command::new("grep");
        grep.args(["-r", "-c", "text of"]).arg(mount.join("INBOX"));
        let mut reader = grep.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        fill(&account, "INBOX", next..=next + 4);
        next += 5;
        imap.select("INBOX").unwrap();
        imap.ok(&format!("UID STORE {} +FLAGS.SILENT (\\Deleted)", 3 * round + 1)).unwrap();
        imap.ok("EXPUNGE").unwrap();
        imap.ok(&format!("UID STORE {}:{} +FLAGS.SILENT (\\Flagged)", 20 + round, 30 + round)).unwrap();
        // From before the first commit to long after it.
        std::thread::sleep(Duration::from_millis((round * 977 + 31) % 2600));
        assert!(Command::new("kill").args(["-KILL", &mount.pid.to_string()]).status().unwrap().success());
        drop(mount);
        reader.wait().unwrap();
    }
    let mount = mount(&account, &cache, &[]);
    let present = imap.search("ALL").unwrap();
    let uids = || -> Vec<u32> {
        let names = list(&mount.join("INBOX")).into_keys();
        let mut uids: Vec<u32> = names.filter_map(|name| name.rsplit('.').next()?.parse().ok()).collect();
        uids.sort_unstable();
        uids
    };
    assert!(wait_for(SOON, || (uids() == present).then_some(())).is_some());
    for name in list(&mount.join("INBOX")).into_keys() {
        let uid: u32 = name.rsplit('.').next().unwrap().parse().unwrap();
        let message = mount.join("INBOX").join(&name);
        assert!(name.contains(&format!("number-{uid}.")), "{name}");
        assert_eq!(fs::read(message.join("body.txt")).unwrap(), format!("The text of number {uid}.\n").into_bytes());
        let raw = imap.body(uid, "").unwrap().unwrap();
        assert!(fs::read(message.join("message.eml")).unwrap() == raw, "{name}");
        let output =
            Command::new("getfattr").args(["--only-values", "-n", "user.imap.flags"]).arg(&message).output().unwrap();
        let flags = imap.flags(uid).unwrap().unwrap();
        let flags: Vec<_> = flags.iter().filter(|flag| *flag != "\\Recent").map(String::as_str).collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), flags.join(" "), "{name}");
    }
    end(mount, &["disk cache"]);
}

#[test]
fn caches_are_shown_filled_and_cleared_from_the_command_line() {
    let account = Server::dovecot().account();
    fill(&account, "INBOX", 1..=30);
    let cache = TempDir::new().unwrap();
    let directory = cache.path().to_str().unwrap();
    let imapfs = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_imapfs")).arg("cache").args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let warm = mount(&account, &cache, &[]);
    let said = imapfs(&["warm", warm.path().to_str().unwrap()]);
    assert!(said.starts_with("30 messages, "), "{said}");
    end(warm, &[]);
    let info = imapfs(&["info", "--cache-dir", directory]);
    assert!(info.contains("30 messages, 30 of them with their structure"), "{info}");
    let offline = mount(&account, &cache, &["--offline"]);
    assert_eq!(contents(&offline.join("INBOX")).len(), 90);
    assert!(imapfs(&["info", "--json", "--cache-dir", directory]).contains("\"in_use\":true"));
    end(offline, &[]);
    assert!(imapfs(&["clear", "--cache-dir", directory]).ends_with(" freed\n"));
    assert_eq!(imapfs(&["info", "--cache-dir", directory]), "");
}
