//! What is done to messages and mailboxes through a mount: what it does on the server, judged by another client, and
//! with which errno the rest is refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use std::{fs, io};

use common::corpus::build;
use common::{Account, Imap, Mount, Server, wait_for};

/// Removed parts are back after this time at the latest.
const BACK: Duration = Duration::from_secs(10);

/// The kernel forgets what it is told to within this time.
const SOON: Duration = Duration::from_secs(2);

const DATE: Option<&str> = Some("05-Mar-2024 10:00:00 +0100");

/// A message with a text, an attachment and an attached message.
fn letter(subject: &str) -> Vec<u8> {
    let inner = build::message("inner", "Inner", &[], build::TEXT);
    let parts = [
        build::plain(),
        build::attachment("application/octet-stream", "; filename=\"data.bin\"", &build::noise(50_000, 3)),
        build::part("message/rfc822", &[], inner),
    ];
    build::multipart(subject, "mixed", &parts)
}

/// An account, another client of it, and its mount.
fn mounted(args: &[&str]) -> (Account, Imap, Mount) {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    for mailbox in ["Archive", "Other"] {
        imap.create(mailbox).unwrap();
    }
    let mount = Mount::new(&account, args);
    (account, imap, mount)
}

fn append(imap: &mut Imap, mailbox: &str, subject: &str) -> u32 {
    imap.append(mailbox, &letter(subject), "\\Flagged", DATE).unwrap()
}

/// The UIDs in a mailbox.
fn uids(account: &Account, mailbox: &str) -> Vec<u32> {
    let mut imap = account.imap();
    imap.select(mailbox).unwrap();
    imap.search("ALL").unwrap()
}

fn flags(account: &Account, mailbox: &str, uid: u32) -> BTreeSet<String> {
    let mut imap = account.imap();
    imap.select(mailbox).unwrap();
    imap.flags(uid).unwrap().unwrap().into_iter().filter(|flag| flag != "\\Recent").collect()
}

/// The mailboxes, as LIST or LSUB tells.
fn listed(imap: &mut Imap, command: &str) -> BTreeSet<String> {
    let rows = imap.ok(&format!("{command} \"\" \"*\"")).unwrap().untagged;
    let name = |text: &str| text.rsplit(' ').next().unwrap().trim_matches('"').to_owned();
    rows.iter().filter(|row| row.text.contains(command)).map(|row| name(&row.text)).collect()
}

fn names(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn setfattr(path: &Path, args: &[&str]) -> Output {
    Command::new("setfattr").args(args).arg(path).env("LC_ALL", "C").output().unwrap()
}

fn set(path: &Path, name: &str, value: &str) {
    let output = setfattr(path, &["-n", name, "-v", value]);
    assert!(output.status.success(), "{name}={value}: {}", String::from_utf8_lossy(&output.stderr));
}

fn get(path: &Path, name: &str) -> Option<String> {
    let arguments = ["--absolute-names", "--only-values", "-n", name];
    let output = Command::new("getfattr").args(arguments).arg(path).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// fsync of a directory returns when all that was asked for has been done.
fn settle(mount: &Mount) {
    fs::File::open(mount.path()).unwrap().sync_all().unwrap();
}

/// The errno that an operation is refused with.
fn refused(what: &str, outcome: io::Result<()>, errno: i32) {
    let found = outcome.expect_err(what).raw_os_error();
    let name = |errno: i32| io::Error::from_raw_os_error(errno).to_string();
    assert_eq!(found, Some(errno), "{what}: {:?} instead of {}", found.map(name), name(errno));
}

/// `mkdir`, `mv` and `rmdir` of a mailbox are CREATE, SUBSCRIBE, RENAME and DELETE; what is in it goes along.
#[test]
fn mailboxes_are_made_renamed_and_removed() {
    let (account, mut imap, mount) = mounted(&[]);
    fs::create_dir(mount.join("Projects")).unwrap();
    fs::create_dir(mount.join("Projects/2026")).unwrap();
    fs::create_dir(mount.join("Projects/gr\u{fc}n & blau")).unwrap();
    for command in ["LIST", "LSUB"] {
        let found = listed(&mut imap, command);
        assert!(found.contains("Projects/2026") && found.contains("Projects"), "{command}: {found:?}");
    }
    let uid = append(&mut imap, "Projects/2026", "kept");
    let message = mount.message("Projects/2026", uid);
    let mut open = fs::File::open(message.join("data.bin")).unwrap();
    fs::rename(mount.join("Projects"), mount.join("Work")).unwrap();
    assert!(!mount.join("Projects").exists());
    assert_eq!(names(&mount.join("Work")), ["2026", "gr\u{fc}n & blau"].map(str::to_owned).into());
    fs::rename(mount.join("Work/2026"), mount.join("Archive/old")).unwrap();
    assert_eq!(uids(&account, "Archive/old"), [uid]);
    let moved = mount.message("Archive/old", uid);
    assert_eq!(fs::read(moved.join("data.bin")).unwrap(), build::noise(50_000, 3));
    let mut data = Vec::new();
    open.read_to_end(&mut data).unwrap();
    assert_eq!(data, build::noise(50_000, 3), "by a descriptor from before");
    fs::remove_dir(mount.join("Work/gr\u{fc}n & blau")).unwrap();
    fs::remove_dir(mount.join("Work")).unwrap();
    let found = listed(&mut imap, "LIST");
    assert!(!found.iter().any(|name| name.starts_with("Work") || name.starts_with("Projects")), "{found:?}");
    mount.assert_quiet(&[]);
}

/// What cannot be done says so, with the errno that one would guess, and nothing happens on the server.
#[test]
fn what_cannot_be_done_is_refused() {
    let (account, mut imap, mount) = mounted(&[]);
    let uid = append(&mut imap, "INBOX", "one");
    let other = append(&mut imap, "Archive", "two");
    imap.create("Archive/child").unwrap();
    let before = listed(&mut imap, "LIST");
    let (one, two) = (mount.message("INBOX", uid), mount.message("Archive", other));
    let one_name = one.file_name().unwrap().to_str().unwrap().to_owned();
    let at = |path: &str| mount.join(path);
    let mkdir = |path: &str, errno| refused(&format!("mkdir {path}"), fs::create_dir(at(path)), errno);
    let rmdir = |path: &str, errno| refused(&format!("rmdir {path}"), fs::remove_dir(at(path)), errno);
    let rm = |path: &str, errno| refused(&format!("rm {path}"), fs::remove_file(at(path)), errno);
    let mv = |from: &Path, to: &str, errno| {
        refused(&format!("mv {} {to}", from.display()), fs::rename(from, at(to)), errno);
    };
    for litter in [".Trash-1000", ".Trash", ".git", ".DS_Store", ".x.swp", "INBOX/.maildir"] {
        mkdir(litter, libc::EPERM);
    }
    mkdir("Archive", libc::EEXIST);
    mkdir("2024-03-05T0900_Nobody_nothing.77", libc::EPERM);
    mkdir("INBOX/2024-03-05T0900_Nobody_nothing.77", libc::EPERM);
    mkdir(&format!("INBOX/{one_name}/x"), libc::EPERM);
    mkdir("INBOX/.eml/x", libc::EPERM);
    mkdir(".imapfs/x", libc::EPERM);
    rmdir("INBOX", libc::EBUSY);
    rmdir("Archive", libc::ENOTEMPTY);
    rmdir("INBOX/.eml", libc::EPERM);
    rmdir(".imapfs", libc::EPERM);
    rm("INBOX/.messages.tsv", libc::EPERM);
    rm(".imapfs/status", libc::EPERM);
    rm("Archive", libc::EISDIR);
    mv(&at("INBOX"), "Inbox2", libc::EBUSY);
    mv(&at("Other"), "Archive", libc::EEXIST);
    mv(&at("Archive"), "Archive/child/x", libc::EINVAL);
    mv(&at("Other"), ".git", libc::EPERM);
    mv(&at("Other"), "INBOX/.eml/Other", libc::EPERM);
    mv(&at("Other"), &format!("INBOX/{one_name}/Other"), libc::EPERM);
    mv(&at("Other"), &format!("{one_name}9"), libc::EPERM);
    mv(&one, "INBOX/other-name", libc::EPERM);
    mv(&one, "Archive/other-name", libc::EPERM);
    mv(&one, &one_name, libc::EPERM);
    mv(&one, &format!("INBOX/.eml/{one_name}"), libc::EPERM);
    mv(&one.join("body.txt"), "Archive/body.txt", libc::EPERM);
    mv(&one.join("message.eml"), "Archive/message.eml", libc::EPERM);
    mv(&at(&format!("INBOX/.eml/{one_name}.eml")), "INBOX/x.eml", libc::EPERM);
    mv(&at("INBOX/.messages.tsv"), "Archive/table", libc::EPERM);
    refused("link", fs::hard_link(one.join("body.txt"), at("INBOX/x")), libc::EPERM);
    refused("symlink", std::os::unix::fs::symlink("x", at("INBOX/x")), libc::EPERM);
    assert_eq!(listed(&mut imap, "LIST"), before);
    assert_eq!((uids(&account, "INBOX"), uids(&account, "Archive")), (vec![uid], vec![other]));
    assert!(one.join("body.txt").exists() && two.join("body.txt").exists());
    // Each with its reason.
    assert!(mount.log().contains("mail arrives there") && mount.log().contains("made from the message"));
}

/// `mv` of a message is a MOVE: it has a new UID and so a new name, and the old one goes on working where it is now;
/// who has it open goes on reading.
#[test]
fn a_moved_message_answers_to_its_old_name() {
    for args in [&[][..], &["--write-behind"]] {
        let (account, mut imap, mount) = mounted(args);
        append(&mut imap, "Archive", "first");
        let uid = append(&mut imap, "INBOX", "moved");
        let old = mount.message("INBOX", uid);
        let name = old.file_name().unwrap();
        let mut open = fs::File::open(old.join("data.bin")).unwrap();
        let inside = old.join("forwarded-1");
        let listing = names(&old);
        assert!(inside.join("body.txt").exists(), "{listing:?}");
        let moved = Command::new("mv").arg("-n").arg(&old).arg(mount.join("Archive")).output().unwrap();
        assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
        assert!(!old.exists(), "{args:?}");
        let spelled = mount.join("Archive").join(name);
        assert_eq!(names(&spelled), listing);
        let mut data = Vec::new();
        open.read_to_end(&mut data).unwrap();
        assert_eq!(data, build::noise(50_000, 3), "{args:?}");
        assert_eq!(names(&mount.join("INBOX")), BTreeSet::new());
        // Under its new name, and that alone, it is listed.
        // Queued, others see it when all has been done.
        if !args.is_empty() {
            settle(&mount);
        }
        let new = uids(&account, "Archive")[1];
        assert_eq!(names(&mount.join("Archive")).len(), 2);
        let message = mount.message("Archive", new);
        assert_eq!(fs::read(message.join("message.eml")).unwrap(), letter("moved"));
        assert_eq!(flags(&account, "Archive", new), ["\\Flagged".to_owned()].into());
        assert!(uids(&account, "INBOX").is_empty());
        // And back, by the old name.
        fs::rename(&spelled, &old).unwrap();
        assert_eq!(names(&old), listing);
        assert!(!spelled.exists(), "{args:?}");
        // Its other name goes when the kernel has been told.
        assert!(wait_for(SOON, || (!message.exists()).then_some(())).is_some(), "{args:?}");
        assert_eq!(names(&mount.join("Archive")).len(), 1);
        settle(&mount);
        assert_eq!(uids(&account, "INBOX").len(), 1);
        // As a file, and under a name that the user gives.
        let file = mount
            .join("INBOX/.eml")
            .join(fs::read_dir(mount.join("INBOX/.eml")).unwrap().next().unwrap().unwrap().file_name());
        fs::rename(&file, mount.join("Other/mine.eml")).unwrap();
        fs::rename(mount.join("Other/mine.eml"), mount.join("Other/yours.eml")).unwrap();
        assert_eq!(fs::read(mount.join("Other/yours.eml")).unwrap(), letter("moved"));
        assert!(!mount.join("Other/mine.eml").exists(), "{args:?}");
        assert!(!file.exists(), "{args:?}: {}", file.display());
        settle(&mount);
        assert_eq!(uids(&account, "Other").len(), 1);
        fs::remove_file(mount.join("Other/yours.eml")).unwrap();
        assert_eq!(names(&mount.join("Other")), BTreeSet::new());
        mount.assert_quiet(&[]);
    }
}

/// `rm -r` of a message moves it to the trash, or expunges it, or only flags it; another client's deletions stay.
#[test]
fn a_removed_message_goes_where_the_user_said() {
    for (mode, trash, deleted) in [("trash", 1, 0), ("expunge", 0, 0), ("flag", 0, 1)] {
        let (account, mut imap, mount) = mounted(&["--delete", mode]);
        let gone = append(&mut imap, "INBOX", "gone");
        let kept = append(&mut imap, "INBOX", "kept");
        imap.select("INBOX").unwrap();
        imap.ok(&format!("UID STORE {kept} +FLAGS (\\Deleted)")).unwrap();
        let message = mount.message("INBOX", gone);
        let output = Command::new("rm").arg("-r").arg(&message).output().unwrap();
        assert!(output.status.success(), "{mode}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!message.exists(), "{mode}");
        assert!(!names(&mount.join("INBOX")).contains(message.file_name().unwrap().to_str().unwrap()), "{mode}");
        let left = uids(&account, "INBOX");
        assert_eq!((left.len(), left.contains(&kept)), (1 + deleted, true), "{mode}");
        if deleted == 1 {
            assert!(flags(&account, "INBOX", gone).contains("\\Deleted"));
        }
        assert_eq!(uids(&account, "Trash").len(), trash, "{mode}");
        if trash == 1 {
            // From there it is expunged, by a plain rmdir as well.
            let uid = uids(&account, "Trash")[0];
            fs::remove_dir(mount.message("Trash", uid)).unwrap();
            assert!(uids(&account, "Trash").is_empty());
        }
        mount.assert_quiet(&[]);
    }
}

/// A part cannot be removed from a message: it is back when no `rmdir` follows.
#[test]
fn a_removed_part_comes_back() {
    let (account, mut imap, mount) = mounted(&[]);
    let uid = append(&mut imap, "INBOX", "whole");
    let message = mount.message("INBOX", uid);
    let before = names(&message);
    fs::remove_file(message.join("data.bin")).unwrap();
    fs::remove_dir(message.join("forwarded-1")).unwrap();
    assert!(!message.join("data.bin").exists() && !message.join("forwarded-1").exists());
    assert_eq!(names(&message).len(), before.len() - 2);
    let back = wait_for(BACK, || (names(&message) == before).then_some(()));
    assert!(back.is_some(), "{:?}", names(&message));
    assert_eq!(fs::read(message.join("data.bin")).unwrap(), build::noise(50_000, 3));
    assert!(message.join("forwarded-1/body.txt").exists());
    assert_eq!(uids(&account, "INBOX"), [uid]);
    assert!(mount.log().contains("parts cannot be removed from a message"));
}

/// Flags and tags are what the user sets them to, on the message, its file or any of its parts.
#[test]
fn flags_and_tags_can_be_set() {
    for args in [&[][..], &["--write-behind"]] {
        let (account, mut imap, mount) = mounted(args);
        let uid = append(&mut imap, "INBOX", "flagged");
        let message = mount.message("INBOX", uid);
        let check = |path: &Path, name: &str, value: &str, expected: &[&str], tags: &str| {
            set(path, name, value);
            assert_eq!(get(&message, "user.xdg.tags").as_deref(), Some(tags), "{name}={value}");
            settle(&mount);
            let expected: BTreeSet<String> = expected.iter().map(|&flag| flag.to_owned()).collect();
            assert_eq!(flags(&account, "INBOX", uid), expected, "{name}={value}");
        };
        check(&message, "user.imap.flags", "\\Seen work", &["\\Seen", "work"], "work");
        check(
            &message.join("message.eml"),
            "user.xdg.tags",
            "Unread,Flagged,home",
            &["\\Flagged", "home"],
            "Unread,Flagged,home",
        );
        check(&message.join("body.txt"), "user.xdg.tags", "$Forwarded", &["\\Seen", "$Forwarded"], "$Forwarded");
        assert_eq!(get(&message, "user.imap.flags").as_deref(), Some("$Forwarded \\Seen"));
        assert!(setfattr(&message, &["-x", "user.xdg.tags"]).status.success());
        assert_eq!(get(&message, "user.imap.flags").as_deref(), Some("\\Seen"));
        // What it is already, and what it tells of itself, can be put back.
        for name in ["user.imap.flags", "user.imap.uid", "user.xdg.origin.email.subject"] {
            set(&message, name, &get(&message, name).unwrap());
        }
        mount.assert_quiet(&[]);
    }
}

/// A mailbox is subscribed, and told about, by its attributes.
#[test]
fn subscription_and_annotations_can_be_set() {
    let (_account, mut imap, mount) = mounted(&[]);
    let archive = mount.join("Archive");
    for (value, subscribed) in [("1", true), ("false", false), ("true", true)] {
        set(&archive, "user.imap.subscribed", value);
        assert_eq!(listed(&mut imap, "LSUB").contains("Archive"), subscribed);
        assert_eq!(get(&archive, "user.imap.subscribed").as_deref(), Some(if subscribed { "1" } else { "0" }));
    }
    let comment = "user.imap.metadata.private/comment";
    set(&archive, comment, "my \"own\" words");
    assert_eq!(get(&archive, comment).as_deref(), Some("my \"own\" words"));
    assert!(setfattr(&archive, &["-x", comment]).status.success());
    assert_eq!(get(&archive, comment), None);
    let acl = get(&archive, "user.imap.acl").unwrap();
    set(&archive, "user.imap.acl", &format!("{acl} user=bob=lr"));
    assert!(get(&archive, "user.imap.acl").unwrap().contains("bob=lr"));
    mount.assert_quiet(&[]);
}

/// An attribute that cannot be set says why by its errno.
#[test]
fn attributes_that_cannot_be_set_are_refused() {
    let (account, mut imap, mount) = mounted(&[]);
    let uid = append(&mut imap, "INBOX", "fixed");
    let (message, inbox) = (mount.message("INBOX", uid), mount.join("INBOX"));
    let table = mount.join("INBOX/.messages.tsv");
    let cases: [(&Path, &str, &str, &str); 14] = [
        (&message, "user.imap.flags", "\\Recent", "Invalid argument"),
        (&message, "user.imap.flags", "a)", "Invalid argument"),
        (&message, "user.imap.flags", "0x610d0a62", "Invalid argument"),
        (&message, "user.imap.flags", "w\u{f6}rk", "Invalid argument"),
        (&message, "user.imap.flags", "\\\\*", "Invalid argument"),
        (&message, "user.xdg.tags", "two words", "Invalid argument"),
        (&message, "user.imap.uid", "5", "Operation not permitted"),
        (&message.join("body.txt"), "user.mime_type", "text/html", "Operation not permitted"),
        (&message, "user.baloo.rating", "5", "Operation not supported"),
        (&message, "user.imap.subscribed", "1", "Operation not permitted"),
        (&inbox, "user.imap.subscribed", "maybe", "Invalid argument"),
        (&inbox, "user.imap.messages", "7", "Operation not permitted"),
        (&inbox, "user.imap.metadata.comment", "x", "Invalid argument"),
        (&table, "user.imap.flags", "x", "Operation not supported"),
    ];
    for (path, name, value, expected) in cases {
        let output = setfattr(path, &["-n", name, "-v", value]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{name}={value}: {said}");
    }
    for (name, expected) in
        [("user.imap.uid", "Operation not permitted"), ("user.imap.subscribed", "No such attribute")]
    {
        let said = String::from_utf8_lossy(&setfattr(&message, &["-x", name]).stderr).into_owned();
        assert!(said.contains(expected), "-x {name}: {said}");
    }
    assert_eq!(flags(&account, "INBOX", uid), ["\\Flagged".to_owned()].into());
}

/// `cp -r` of a message directory is a copy on the server, and no other part of the tree is made.
#[test]
fn a_message_directory_is_copied_as_a_message() {
    let (account, mut imap, mount) = mounted(&[]);
    let uid = append(&mut imap, "INBOX", "copied");
    let message = mount.message("INBOX", uid);
    for args in [&["-r"][..], &["-a"]] {
        let target = mount.join(if args == ["-r"] { "Archive" } else { "Other" });
        let output = Command::new("cp").args(args).arg(&message).arg(&target).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let copy = target.join(message.file_name().unwrap());
        assert_eq!(names(&copy), names(&message));
        assert_eq!(fs::read(copy.join("data.bin")).unwrap(), build::noise(50_000, 3));
    }
    for mailbox in ["Archive", "Other"] {
        let copies = uids(&account, mailbox);
        assert_eq!(copies.len(), 1, "{mailbox}");
        assert_eq!(flags(&account, mailbox, copies[0]), ["\\Flagged".to_owned()].into());
    }
    assert_eq!(uids(&account, "INBOX"), [uid]);
    mount.assert_quiet(&[]);
}

/// A read-only mount refuses all of it with EROFS.
#[test]
fn a_read_only_mount_changes_nothing() {
    let (account, mut imap, mount) = mounted(&["--read-only"]);
    let uid = append(&mut imap, "INBOX", "kept");
    let before = listed(&mut imap, "LIST");
    let message = mount.message("INBOX", uid);
    refused("mkdir", fs::create_dir(mount.join("new")), libc::EROFS);
    refused("rmdir", fs::remove_dir(mount.join("Archive")), libc::EROFS);
    refused("rmdir of a message", fs::remove_dir(&message), libc::EROFS);
    refused("rm", fs::remove_file(message.join("body.txt")), libc::EROFS);
    refused("mv", fs::rename(&message, mount.join("Archive").join(message.file_name().unwrap())), libc::EROFS);
    refused("mv of a mailbox", fs::rename(mount.join("Other"), mount.join("Else")), libc::EROFS);
    refused("create", fs::File::create(mount.join("INBOX/x.eml")).map(drop), libc::EROFS);
    let said = setfattr(&message, &["-n", "user.imap.flags", "-v", "\\Seen"]).stderr;
    assert!(String::from_utf8_lossy(&said).contains("Read-only file system"));
    assert_eq!((uids(&account, "INBOX"), listed(&mut imap, "LIST")), (vec![uid], before));
}
