//! A disk for the cache that is full, read-only or damaged under a mount: it goes on without, shows every octet as it
//! is, changes mail, and says so once.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::corpus::build;
use common::judge::judge;
use common::{Account, Mount, Server, wait_for};
use tempfile::TempDir;

/// Until what was read is on its way to the disk, or others' changes show; also on a machine that does other things.
const SOON: Duration = Duration::from_secs(30);

/// A file system of its own, of so many MiB.
struct Disk(TempDir);

impl Disk {
    fn new(size: u32) -> Disk {
        let disk = Disk(tempfile::Builder::new().prefix("imapfs-disk-").tempdir().unwrap());
        root(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            &format!("size={size}m,mode=1777"),
            "tmpfs",
            disk.path().to_str().unwrap(),
        ]);
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Gives it other options from now on.
    fn remount(&self, options: &str) {
        root(&["mount", "-o", &format!("remount,{options}"), self.path().to_str().unwrap()]);
    }

    /// Takes what is left of it; whatever is removed is taken as well.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        root(&["umount", "-l", self.path().to_str().unwrap()]);
    }
}

/// Runs a program as root.
fn root(arguments: &[&str]) {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let arguments = if is_root { arguments.to_vec() } else { [&["sudo", "-n"], arguments].concat() };
    let status = Command::new(arguments[0]).args(&arguments[1..]).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "{arguments:?}: {status:?}");
}

fn plain(n: u32) -> Vec<u8> {
    build::message(&n.to_string(), &format!("number {n}"), &[], format!("The text of number {n}.\r\n").as_bytes())
}

fn with_attachment(n: u32, octets: usize) -> Vec<u8> {
    let noise = build::noise(octets, u64::from(n));
    let part = build::attachment("application/octet-stream", "; filename=\"data.bin\"", &noise);
    build::with_part(&format!("number {n}"), part)
}

/// An account with small messages, and with attachments of so many octets.
fn account(attachments: &[usize]) -> Account {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    for n in 1..=30 {
        imap.append("INBOX", &plain(n), "", None).unwrap();
    }
    for (n, octets) in (31..).zip(attachments) {
        imap.append("INBOX", &with_attachment(n, *octets), "", None).unwrap();
    }
    imap.create("Other").unwrap();
    account
}

fn mount(account: &Account, cache: &Path) -> Mount {
    Mount::new(account, &["--cache-dir", cache.to_str().unwrap()])
}

fn assert_true(account: &Account, mount: &Mount, what: &str) {
    let differences = judge(account, mount, "INBOX");
    assert!(differences.is_empty(), "{what}: {differences:?}");
}

/// All files below a directory.
fn files(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What the status says of the cache.
fn state(mount: &Mount) -> String {
    let status = fs::read_to_string(mount.join(".imapfs/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("disk_cache: ")).unwrap().to_owned()
}

/// Mail is changed through the mount, and by others, and both see it.
fn changes(account: &Account, mount: &Mount, round: u32) {
    let mut imap = account.imap();
    let moved = mount.message("INBOX", round);
    fs::rename(&moved, mount.join("Other").join(moved.file_name().unwrap())).unwrap();
    let flagged = mount.message("INBOX", 20 + round);
    let set = Command::new("setfattr").args(["-n", "user.imap.flags", "-v", "\\Flagged"]).arg(&flagged).status();
    assert!(set.unwrap().success());
    fs::write(mount.join(format!("INBOX/new-{round}.eml")), plain(100 + round)).unwrap();
    imap.append("INBOX", &plain(200 + round), "", None).unwrap();
    imap.select("INBOX").unwrap();
    imap.ok(&format!("UID STORE {} +FLAGS.SILENT (\\Deleted)", 10 + round)).unwrap();
    imap.ok(&format!("UID EXPUNGE {}", 10 + round)).unwrap();
    let subjects = |query: &str, imap: &mut common::Imap| imap.search(query).unwrap().len();
    let done = wait_for(SOON, || {
        imap.ok("NOOP").unwrap();
        let there = [
            subjects(&format!("UID {round}"), &mut imap),
            subjects(&format!("SUBJECT \"number {}\"", 100 + round), &mut imap),
            subjects(&format!("UID {} FLAGGED", 20 + round), &mut imap),
        ];
        (there == [0, 1, 1]).then_some(())
    });
    assert!(done.is_some(), "round {round}: {:?}", imap.search("ALL"));
    let mut other = account.imap();
    other.select("Other").unwrap();
    assert_eq!(subjects("ALL", &mut other), round as usize);
    let shown = wait_for(SOON, || {
        let names = fs::read_dir(mount.join("INBOX")).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        let is_there = |end: &str| names.iter().any(|name| name.ends_with(end));
        let has = |text: &str| names.iter().any(|name| name.contains(text));
        (has(&format!("number-{}.", 200 + round)) && !is_there(&format!(".{}", 10 + round))).then_some(())
    });
    assert!(shown.is_some(), "round {round}");
}

fn end(mut mount: Mount, warnings: usize) {
    let complaints = mount.complaints(&[]);
    assert!(
        complaints.len() == warnings && complaints.iter().all(|line| line.contains("disk cache")),
        "{complaints:?}"
    );
    assert!(mount.unmount());
}

/// The database of the only account.
fn database(cache: &Path) -> PathBuf {
    files(cache).into_iter().find(|path| path.ends_with("index.db")).unwrap()
}

/// Leaves a database of one file.
fn tidy(cache: &Path) {
    let database = database(cache);
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    assert!(!database.with_file_name("index.db-shm").exists());
}

/// The files of octets of the only account that its database does not know.
fn strangers(cache: &Path) -> Vec<PathBuf> {
    let database = database(cache);
    let folder = database.with_file_name("octets");
    let connection = rusqlite::Connection::open(database).unwrap();
    let mut known = connection.prepare("SELECT place, uid, section FROM object WHERE row=0").unwrap();
    let known = known.query_map([], |row| {
        let (place, uid, section): (i64, u32, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(folder.join(format!("{place:012x}/{uid}.{section}")))
    });
    let known: Vec<PathBuf> = known.unwrap().map(Result::unwrap).collect();
    let found = files(cache).into_iter().filter(|path| path.starts_with(&folder));
    found.filter(|path| !known.contains(path)).collect()
}

fn octets(cache: &Path) -> u64 {
    files(cache).iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn a_full_disk_costs_the_cache_and_nothing_else() {
    let account = account(&[400_000, 1_000_000, 3_000_000, 100_000]);
    let disk = Disk::new(2);
    let first = mount(&account, disk.path());
    assert_true(&account, &first, "first");
    let failed = wait_for(SOON, || (state(&first) == "failed").then_some(()));
    assert!(failed.is_some(), "{}: {}", state(&first), first.log());
    assert_true(&account, &first, "first, once more");
    changes(&account, &first, 1);
    assert_true(&account, &first, "first, after changes");
    end(first, 1);
    // What was begun and not kept takes no room.
    assert_eq!(strangers(disk.path()), <[PathBuf; 0]>::default());
    // What is there is good as far as it goes.
    let second = mount(&account, disk.path());
    changes(&account, &second, 2);
    assert_true(&account, &second, "second");
    end(second, 1);
    // There is room again.
    disk.remount("size=64m");
    let third = mount(&account, disk.path());
    assert_true(&account, &third, "third");
    changes(&account, &third, 3);
    assert_eq!(state(&third), "on");
    end(third, 0);
    // Not one octet is left for the next one, which finds a good cache, but has not the room to open it.
    tidy(disk.path());
    let kept = octets(disk.path());
    let filler = disk.fill();
    let fourth = mount(&account, disk.path());
    changes(&account, &fourth, 4);
    assert_true(&account, &fourth, "fourth");
    end(fourth, 1);
    // It stayed for a better time.
    fs::remove_file(filler).unwrap();
    assert!(octets(disk.path()) >= kept && kept > 8_000_000, "{} {kept}", octets(disk.path()));
    let fifth = mount(&account, disk.path());
    assert_true(&account, &fifth, "fifth");
    assert_eq!(state(&fifth), "on");
    end(fifth, 0);
}

#[test]
fn a_disk_that_cannot_be_written_to_costs_the_cache_and_nothing_else() {
    let account = account(&[400_000]);
    let disk = Disk::new(64);
    let first = mount(&account, disk.path());
    assert_true(&account, &first, "first");
    end(first, 0);
    disk.remount("ro");
    let second = mount(&account, disk.path());
    changes(&account, &second, 1);
    assert_true(&account, &second, "read-only");
    end(second, 1);
    disk.remount("rw");
    let third = mount(&account, disk.path());
    changes(&account, &third, 2);
    assert_true(&account, &third, "third");
    assert_eq!(state(&third), "on");
    end(third, 0);
}

/// What becomes of the files of a cache that is in use.
#[test]
fn a_cache_that_is_damaged_while_it_is_in_use_shows_nothing_wrong() {
    let account = account(&[400_000]);
    let noise = build::noise(1 << 16, 5);
    let cut = |path: &Path, end: u64| OpenOptions::new().write(true).open(path).unwrap().set_len(end).unwrap();
    let spoil = |path: &Path| {
        let mut data = fs::read(path).unwrap();
        data.iter_mut().zip(noise.iter().cycle()).for_each(|(octet, noise)| *octet ^= noise | 1);
        // In place, as a bad disk has it.
        OpenOptions::new().write(true).open(path).unwrap().write_all(&data).unwrap();
    };
    type Harm<'a> = (&'a str, &'a str, &'a dyn Fn(&Path));
    let harms: [Harm<'_>; 5] = [
        ("a database that is cut", "index.db", &|path| cut(path, 20_000)),
        ("a database of noise", "index.db", &spoil),
        ("a log of noise", "index.db-wal", &spoil),
        ("octets that are cut", "octets", &|path| cut(path, 100_000)),
        ("octets of noise", "octets", &spoil),
    ];
    for (round, (what, name, harm)) in (1..).zip(harms) {
        let cache = TempDir::new().unwrap();
        let first = mount(&account, cache.path());
        assert_true(&account, &first, what);
        end(first, 0);
        if name == "index.db" {
            tidy(cache.path());
        }
        let second = mount(&account, cache.path());
        // It has it open, and has read of it.
        second.message("INBOX", 30);
        let is_meant =
            |path: &PathBuf| path.ends_with(name) || path.iter().any(|part| part == "octets" && part == name);
        let files: Vec<PathBuf> = files(cache.path()).into_iter().filter(is_meant).collect();
        assert!(!files.is_empty(), "{what}");
        files.iter().for_each(|path| harm(path));
        assert_true(&account, &second, what);
        changes(&account, &second, round);
        assert_true(&account, &second, what);
        let said = second.complaints(&[]);
        assert!(said.len() <= 1, "{what}: {said:?}");
        end(second, said.len());
        let third = mount(&account, cache.path());
        assert_true(&account, &third, what);
        let said = third.complaints(&[]);
        assert!(said.len() <= 1, "{what}: {said:?}");
        end(third, said.len());
    }
}
