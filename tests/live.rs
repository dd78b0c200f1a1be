//! What other clients do on real servers while the account is mounted, as it is seen through the kernel.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::proxy::Proxy;
use common::{Account, Imap, Mount, Server, corpus, wait_for};

/// The two seconds that are promised, and some for a machine that does other things.
const SOON: Duration = Duration::from_secs(6);

/// For how long a name that somebody removed may answer until its mailbox is opened, and some.
const LATER: Duration = Duration::from_secs(75);

fn letter(subject: &str) -> Vec<u8> {
    format!("From: Alice <alice@example.test>\r\nSubject: {subject}\r\n\r\nThis is in {subject}.\r\n").into_bytes()
}

// mailutils forgets the time zone.
const DATE: Option<&str> = Some("05-Mar-2024 09:00:00 +0000");

fn append(imap: &mut Imap, mailbox: &str, message: &[u8]) -> u32 {
    let uid = imap.append(mailbox, message, "", DATE).unwrap();
    if uid > 0 {
        return uid;
    }
    // Courier tells no UID here.
    imap.select(mailbox).unwrap();
    *imap.search("ALL").unwrap().last().unwrap()
}

fn expunge(imap: &mut Imap, mailbox: &str, uid: u32) {
    imap.select(mailbox).unwrap();
    imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)")).unwrap();
    // mailutils has no UIDPLUS; nobody else has marked anything here.
    if !imap.command(&format!("UID EXPUNGE {uid}")).unwrap().is_ok() {
        imap.ok("EXPUNGE").unwrap();
    }
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn name(subject: &str, uid: u32) -> String {
    format!("2024-03-05T0900_Alice_{subject}.{uid}")
}

fn xattr(path: &Path, name: &str) -> String {
    let arguments = ["--absolute-names", "--only-values", "-n", name];
    let output = Command::new("getfattr").args(arguments).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until a listing of `directory` is `expected`.
fn listed_soon(directory: &Path, expected: &[String]) {
    let expected: BTreeSet<String> = expected.iter().cloned().collect();
    let start = Instant::now();
    let seen = wait_for(SOON, || (names(directory) == expected).then_some(()));
    assert!(seen.is_some(), "{:?} is not {expected:?} after {SOON:?}", names(directory));
    println!("seen after {:?}", start.elapsed());
}

/// Other people's changes are seen when a mailbox is opened, at most two seconds late.
fn other_clients_changes_are_seen(server: &Server) {
    let account = server.account();
    let mut imap = account.imap();
    let one = append(&mut imap, "INBOX", &letter("one"));
    // What the server made by itself in an INBOX that holds the mailboxes as well.
    let mount = Mount::new(&account, &[]);
    let inbox = mount.join("INBOX");
    let others: Vec<String> = names(&inbox).into_iter().filter(|n| *n != name("one", one)).collect();
    let with = |messages: &[String]| [others.as_slice(), messages].concat();
    let mtime = fs::metadata(&inbox).unwrap().mtime_nsec();
    // A message comes; its name was asked for before, and was not there.
    assert!(!inbox.join(name("two", one + 1)).exists());
    let two = append(&mut imap, "INBOX", &letter("two"));
    listed_soon(&inbox, &with(&[name("one", one), name("two", two)]));
    let text = fs::read_to_string(inbox.join(name("two", two)).join("body.txt")).unwrap();
    assert_eq!(text, "This is in two.\n");
    let moved = wait_for(SOON, || (fs::metadata(&inbox).unwrap().mtime_nsec() != mtime).then_some(()));
    assert!(moved.is_some(), "the directory's time does not move");
    // Flags.
    imap.select("INBOX").unwrap();
    imap.ok(&format!("UID STORE {one} +FLAGS (\\Flagged)")).unwrap();
    // mailutils keeps flags to itself until the mailbox is left.
    imap.command("UNSELECT").unwrap();
    let flagged = wait_for(SOON, || {
        names(&inbox);
        xattr(&inbox.join(name("one", one)), "user.imap.flags").contains("\\Flagged").then_some(())
    });
    assert!(flagged.is_some(), "the flag is not seen");
    // A message goes: from the listing, also one that was opened before and is read now, and its name no longer answers.
    let before = fs::read_dir(&inbox).unwrap();
    expunge(&mut imap, "INBOX", one);
    listed_soon(&inbox, &with(&[name("two", two)]));
    assert_eq!(before.count(), others.len() + 1);
    // The kernel is told as soon as nobody looks into the directory.
    let gone = wait_for(SOON, || (!inbox.join(name("one", one)).exists()).then_some(()));
    assert!(gone.is_some(), "the name still answers");
    mount.assert_quiet(&[]);
}

#[test]
fn other_clients_changes_are_seen_on_dovecot() {
    other_clients_changes_are_seen(Server::dovecot());
}

#[test]
fn other_clients_changes_are_seen_on_cyrus() {
    other_clients_changes_are_seen(Server::cyrus());
}

#[test]
fn other_clients_changes_are_seen_on_courier() {
    other_clients_changes_are_seen(Server::courier());
}

#[test]
fn other_clients_changes_are_seen_on_mailutils() {
    other_clients_changes_are_seen(Server::mailutils());
}

#[test]
fn mailboxes_that_others_make_rename_and_delete_come_and_go() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let mount = Mount::new(&account, &[]);
    let standard = names(mount.path());
    let soon = |more: &[&str]| {
        let all: Vec<String> = standard.iter().cloned().chain(more.iter().map(|name| name.to_string())).collect();
        listed_soon(mount.path(), &all);
    };
    assert!(!mount.join("New").exists());
    imap.create("New").unwrap();
    append(&mut imap, "New", &letter("new"));
    soon(&["New"]);
    assert_eq!(fs::read_to_string(mount.message("New", 1).join("body.txt")).unwrap(), "This is in new.\n");
    imap.ok("RENAME New Newer").unwrap();
    soon(&["Newer"]);
    assert_eq!(fs::read_to_string(mount.message("Newer", 1).join("body.txt")).unwrap(), "This is in new.\n");
    let new = mount.join("New");
    assert!(wait_for(Duration::from_secs(5), || (!new.exists()).then_some(())).is_some());
    // Once in a hundred times Dovecot tells a connection for good of a mailbox that another one deleted.
    let deleted = ["Newer", "Later"].into_iter().any(|name| {
        if name != "Newer" {
            imap.create(name).unwrap();
            assert!(wait_for(SOON, || mount.join(name).exists().then_some(())).is_some(), "{name} is not seen");
        }
        imap.ok(&format!("DELETE {name}")).unwrap();
        let gone = wait_for(SOON, || (!names(mount.path()).contains(name)).then_some(())).is_some();
        // The kernel is told a moment after a listing.
        gone && wait_for(SOON, || (!mount.join(name).exists()).then_some(())).is_some()
    });
    assert!(deleted, "{:?}", names(mount.path()));
    mount.assert_quiet(&[]);
}

/// An account with a message of 4 MB in mailbox `Box`, its bytes decoded, a mount, and the attachment's path.
fn with_big(server: &Server) -> (Account, Vec<u8>, Mount, PathBuf) {
    let account = server.account();
    let mut imap = account.imap();
    let wire = account.wire_name("Box");
    imap.create(&wire).unwrap();
    let message = corpus::big(4 << 20);
    let uid = append(&mut imap, &wire, &message.bytes);
    let mount = Mount::new(&account, &[]);
    let path = mount.message(&account.path_name("Box"), uid).join("big.bin");
    let pattern = corpus::build::noise(1 << 16, 4);
    let size = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
    let bytes = pattern.iter().copied().cycle().take(size).collect();
    (account, bytes, mount, path)
}

/// A read gives the server's bytes or an error, never short or empty data: all of it, in pieces as `cat` reads.
fn read_all(mut file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map(|_| bytes)
}

fn is_gone(error: &std::io::Error) -> bool {
    [libc::ESTALE, libc::EIO, libc::ENOENT].contains(&error.raw_os_error().unwrap_or(0))
}

/// Nothing is invented: when a message is removed under a reader, what was not read is an error.
fn a_message_that_is_expunged_under_its_reader(server: &Server) {
    let (account, bytes, mount, path) = with_big(server);
    let file = File::open(&path).unwrap();
    let mut some = vec![0; 4096];
    file.read_exact_at(&mut some, 0).unwrap();
    assert_eq!(some, bytes[..4096]);
    let uid: u32 = path.parent().unwrap().to_str().unwrap().rsplit('.').next().unwrap().parse().unwrap();
    expunge(&mut account.imap(), &account.wire_name("Box"), uid);
    match read_all(&file) {
        // What was fetched ahead may be all of it.
        Ok(all) => assert!(all == bytes, "{} of {} bytes and no error", all.len(), bytes.len()),
        Err(error) => assert!(is_gone(&error), "{error}"),
    }
    let error = file.read_exact_at(&mut some, bytes.len() as u64 - 4096 - 512 * 1024);
    assert!(error.as_ref().map_or_else(is_gone, |()| true), "{error:?}");
    // Neither is it there for anybody else, as soon as that is known.
    let directory = path.parent().unwrap();
    names(directory.parent().unwrap());
    let gone = wait_for(LATER, || {
        names(directory.parent().unwrap());
        (!directory.exists()).then_some(())
    });
    assert!(gone.is_some(), "it is still there");
    // Cyrus answers without the data.
    mount.assert_quiet(&["the answer has no data"]);
}

#[test]
fn a_message_expunged_under_its_reader_on_dovecot_is_an_error() {
    a_message_that_is_expunged_under_its_reader(Server::dovecot());
}

#[test]
fn a_message_expunged_under_its_reader_on_cyrus_is_an_error() {
    a_message_that_is_expunged_under_its_reader(Server::cyrus());
}

/// The same while the bytes are on their way.
#[test]
fn a_message_expunged_while_it_is_read_slowly_is_read_whole_or_is_an_error() {
    let account = Server::dovecot().account();
    let message = corpus::big(4 << 20);
    let uid = account.imap().append("INBOX", &message.bytes, "", DATE).unwrap();
    let proxy = Proxy::new(account.port);
    let mount = Mount::new(&account.with(common::Security::None).through(&proxy), &["--no-compress"]);
    let path = mount.message("INBOX", uid).join("message.eml");
    proxy.set_bandwidth(Some(2_000_000));
    let reader = std::thread::spawn(move || fs::read(path));
    let begun = wait_for(SOON, || (proxy.stats().bytes_down > 500_000).then_some(()));
    assert!(begun.is_some());
    expunge(&mut account.imap(), "INBOX", uid);
    match reader.join().unwrap() {
        Ok(bytes) => assert!(bytes == message.bytes, "{} of {} bytes", bytes.len(), message.bytes.len()),
        Err(error) => assert!(is_gone(&error), "{error}"),
    }
}

/// A mailbox that is deleted and made again with other mail is another one: what was open is stale, and no old name
/// or number leads to the new mail.
fn a_mailbox_that_is_made_again_is_another_one(server: &Server) {
    let (account, bytes, mount, path) = with_big(server);
    let mut imap = account.imap();
    let wire = account.wire_name("Box");
    let mailbox = mount.join(account.path_name("Box"));
    let old = path.parent().unwrap();
    let old_ino = fs::metadata(old).unwrap().ino();
    let file = File::open(&path).unwrap();
    let validity = imap.status(&wire, "UIDVALIDITY").unwrap();
    let made = wait_for(Duration::from_secs(20), || {
        imap.ok(&format!("DELETE \"{wire}\"")).unwrap();
        imap.create(&wire).unwrap();
        (imap.status(&wire, "UIDVALIDITY").unwrap() != validity).then_some(())
    });
    assert!(made.is_some(), "{} gives the same UIDVALIDITY", server.name);
    // The same UID, the same shape, other bytes.
    let other = corpus::build::attachment("application/octet-stream", "; filename=big.bin", &vec![7; bytes.len()]);
    let uid = append(&mut imap, &wire, &corpus::build::with_part("other", other));
    // At once, so the mount has not looked yet: other bytes may never come out of the old handle.
    match read_all(&file) {
        Ok(all) => assert!(all == bytes, "{} of {} bytes and no error", all.len(), bytes.len()),
        Err(error) => assert!(is_gone(&error), "{error}"),
    }
    let new = wait_for(SOON, || {
        let listed = fs::read_dir(&mailbox).ok()?;
        let names: Vec<_> = listed.filter_map(|entry| Some(entry.ok()?.file_name().into_string().unwrap())).collect();
        names.into_iter().find(|name| name.contains("other"))
    });
    let new = mailbox.join(new.expect("the new mail is not seen"));
    assert!(new.to_str().unwrap().ends_with(&format!(".{uid}")));
    assert!(fs::read(new.join("big.bin")).unwrap() == vec![7; bytes.len()]);
    assert_ne!(fs::metadata(&new).unwrap().ino(), old_ino);
    assert!(!old.exists(), "the old name answers");
    let mut some = vec![0; 4096];
    let outcome = file.read_exact_at(&mut some, 2_000_000);
    assert!(outcome.as_ref().map_or_else(is_gone, |()| some == bytes[2_000_000..2_004_096]), "{outcome:?}");
    // A new connection, because Dovecot's old one has lost its way with such a mailbox.
    assert_eq!(account.imap().status(&wire, "UNSEEN").unwrap(), Some(1));
}

#[test]
fn a_mailbox_made_again_on_dovecot_is_another_one() {
    a_mailbox_that_is_made_again_is_another_one(Server::dovecot());
}

#[test]
fn a_mailbox_made_again_on_cyrus_is_another_one() {
    a_mailbox_that_is_made_again_is_another_one(Server::cyrus());
}

/// A mailbox that others rename or delete under a reader: he reads the right bytes or gets an error.
fn a_mailbox_that_goes_under_its_reader(server: &Server, renamed: bool) {
    let (account, bytes, mount, path) = with_big(server);
    let (old, new) = (account.wire_name("Box"), account.wire_name("Newer"));
    let file = File::open(&path).unwrap();
    let mut some = vec![0; 4096];
    file.read_exact_at(&mut some, 0).unwrap();
    let mut imap = account.imap();
    let command = if renamed { format!("RENAME \"{old}\" \"{new}\"") } else { format!("DELETE \"{old}\"") };
    imap.ok(&command).unwrap();
    match read_all(&file) {
        Ok(all) => assert!(all == bytes, "{} of {} bytes and no error", all.len(), bytes.len()),
        Err(error) => assert!(is_gone(&error), "{error}"),
    }
    for offset in [3_000_000, 1_000_000] {
        let outcome = file.read_exact_at(&mut some, offset);
        let start = usize::try_from(offset).unwrap();
        assert!(outcome.as_ref().map_or_else(is_gone, |()| some == bytes[start..start + 4096]), "{outcome:?}");
    }
    let mailbox = mount.join(account.path_name("Box"));
    let went = wait_for(SOON, || {
        names(mailbox.parent().unwrap());
        (!mailbox.exists()).then_some(())
    });
    assert!(went.is_some(), "{command}: it is still there");
    if renamed {
        let directory = mount.join(account.path_name("Newer"));
        let listed =
            wait_for(SOON, || fs::read_dir(&directory).ok().map(|entries| entries.count()).filter(|n| *n == 1));
        assert!(listed.is_some(), "{command}");
        let path = directory.join(path.parent().unwrap().file_name().unwrap()).join("big.bin");
        assert!(fs::read(path).unwrap() == bytes);
    }
    mount.assert_quiet(&["the answer has no data"]);
}

#[test]
fn a_mailbox_that_is_renamed_or_deleted_under_a_reader_on_dovecot_deceives_nobody() {
    a_mailbox_that_goes_under_its_reader(Server::dovecot(), true);
    a_mailbox_that_goes_under_its_reader(Server::dovecot(), false);
}

#[test]
fn a_mailbox_that_is_renamed_or_deleted_under_a_reader_on_cyrus_deceives_nobody() {
    a_mailbox_that_goes_under_its_reader(Server::cyrus(), true);
    a_mailbox_that_goes_under_its_reader(Server::cyrus(), false);
}

/// A listing holds each message that was there all the time once, whatever comes and goes meanwhile.
#[test]
fn listings_are_complete_while_others_append_and_expunge() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let staying: Vec<String> =
        (0..300).map(|n| name("staying", append(&mut imap, "INBOX", &letter("staying")).max(n))).collect();
    let mount = Mount::new(&account, &[]);
    let mut other = account.imap();
    let end = Instant::now() + Duration::from_secs(6);
    let busy = std::thread::spawn(move || {
        while Instant::now() < end {
            let uids: Vec<u32> = (0..10).map(|_| append(&mut other, "INBOX", &letter("passing"))).collect();
            uids.iter().for_each(|uid| expunge(&mut other, "INBOX", *uid));
        }
    });
    let mut listings = 0;
    while !busy.is_finished() {
        let listed: Vec<String> = fs::read_dir(mount.join("INBOX"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let stayed: Vec<&String> = listed.iter().filter(|name| name.contains("staying")).collect();
        assert!(stayed.iter().copied().eq(staying.iter()), "{} of {}", stayed.len(), staying.len());
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "a name is there twice");
        listings += 1;
    }
    busy.join().unwrap();
    assert!(listings > 5, "{listings}");
    mount.assert_quiet(&[]);
}

/// The kernel keeps the listing of a message. What has been removed or made in it shows at once all the same.
#[test]
fn a_listing_that_is_kept_shows_what_is_away_or_ours_for_a_moment() {
    let account = Server::dovecot().account();
    append(&mut account.imap(), "INBOX", &letter("one"));
    let mut mount = Mount::new(&account, &[]);
    let message = fs::read_dir(mount.join("INBOX")).unwrap().next().unwrap().unwrap().path();
    (0..3).for_each(|_| assert_eq!(names(&message).len(), 2));
    fs::remove_file(message.join("body.txt")).unwrap();
    (0..3).for_each(|_| assert_eq!(names(&message), BTreeSet::from(["headers.txt".to_owned()])));
    let back = wait_for(Duration::from_secs(10), || (names(&message).len() == 2).then_some(()));
    assert!(back.is_some(), "{:?}", names(&message));
    fs::write(message.join(".message.eml.swp"), "x").unwrap();
    assert_eq!(names(&message).len(), 3);
    fs::remove_file(message.join(".message.eml.swp")).unwrap();
    (0..3).for_each(|_| assert_eq!(names(&message).len(), 2));
    mount.assert_quiet(&[]);
    assert!(mount.unmount());
}

/// What programs look for in each directory the kernel asks for once in a message; a file of that name that is made shows at
/// once all the same.
#[test]
fn what_is_looked_for_in_each_message_is_asked_for_once() {
    let account = Server::dovecot().account();
    append(&mut account.imap(), "INBOX", &letter("one"));
    let mut mount = Mount::new(&account, &["--verbose"]);
    let message = fs::read_dir(mount.join("INBOX")).unwrap().next().unwrap().unwrap().path();
    let missed = || mount.log().matches("lookup: not found").count();
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    for (name, most) in [(".gitignore", 1), (".message.eml.swp", 1), ("no.pdf", 3)] {
        let before = missed();
        (0..3).for_each(|_| assert!(!is_there(&message.join(name))));
        assert_eq!(missed() - before, most, "{name}");
    }
    let swap = message.join(".message.eml.swp");
    for _ in 0..2 {
        fs::write(&swap, "x").unwrap();
        assert!(is_there(&swap));
        fs::rename(&swap, message.join(".message.eml.swx")).unwrap();
        assert!(!is_there(&swap) && is_there(&message.join(".message.eml.swx")));
        fs::remove_file(message.join(".message.eml.swx")).unwrap();
        assert!(!is_there(&message.join(".message.eml.swx")));
    }
    mount.assert_quiet(&[]);
    assert!(mount.unmount());
}
