//! Names, inode numbers, attributes and views of mailboxes and messages, against what the server says of them.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use common::imap::quote;
use common::{Imap, Mount, Server, corpus};

fn letter(subject: &str) -> Vec<u8> {
    format!("From: Alice <alice@example.test>\r\nSubject: {subject}\r\n\r\nThis is in {subject}.\r\n").into_bytes()
}

const DATE: Option<&str> = Some("05-Mar-2024 10:00:00 +0100");

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The value of an extended attribute, `None` when there is none.
fn xattr(path: &Path, name: &str) -> Option<String> {
    let arguments = ["--absolute-names", "--only-values", "-n", name];
    let output = Command::new("getfattr").args(arguments).arg(path).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Inode numbers of all below a directory, by path.
fn inodes(root: &Path) -> BTreeMap<String, u64> {
    let output = Command::new("find").arg(".").args(["-printf", "%i %P\n"]).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(ino, path)| (path.to_owned(), ino.parse().unwrap())).collect()
}

/// A message's name never changes. The same message has the same inode number, in every listing and in the next mount.
#[test]
fn names_and_inode_numbers_are_the_same_in_the_next_mount() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let messages = corpus::messages();
    for mailbox in ["INBOX", "Other", "Other/Child"] {
        let _ = imap.create(mailbox);
        corpus::append(&mut imap, mailbox, &messages[..60]);
    }
    let mount = Mount::new(&account, &[]);
    let first = inodes(mount.path());
    let again = inodes(mount.path());
    assert_eq!(first, again);
    let distinct: BTreeSet<u64> = first.values().copied().collect();
    assert_eq!(distinct.len(), first.len(), "an inode number is there twice");
    assert!(first.len() > 500, "{}", first.len());
    drop(mount);
    // The flags, and so the order in which things are asked for, change nothing; nor does a look without a listing.
    imap.select("INBOX").unwrap();
    imap.ok("STORE 1:* +FLAGS (\\Seen $Forwarded)").unwrap();
    let mount = Mount::new(&account, &[]);
    for (path, ino) in first.iter().rev().filter(|(path, _)| !path.is_empty()).step_by(7) {
        assert_eq!(fs::symlink_metadata(mount.join(path)).unwrap().ino(), *ino, "{path}");
    }
    assert_eq!(inodes(mount.path()), first);
    mount.assert_quiet(&["the server's parts are not what it states"]);
}

/// Mailboxes whose names are odd: the name on the wire, and that in the mount.
const ODD_NAMES: [(&str, &str); 19] = [
    ("with \"quotes\"", "with \"quotes\""),
    ("back\\slash", "back\\slash"),
    ("50% off", "50% off"),
    ("percent %41", "percent %2541"),
    ("Entw&APw-rfe", "Entwürfe"),
    ("&ZeVnLIqe-", "日本語"),
    ("&2D3eAA-", "😀"),
    ("Q&-A", "Q&A"),
    ("dots.in.it", "dots.in.it"),
    ("two  blanks ", "two  blanks "),
    (" blank in front", " blank in front"),
    ("-rf", "-rf"),
    ("$(reboot)`'", "$(reboot)`'"),
    ("[a-z]?{1,2}", "[a-z]?{1,2}"),
    ("{12+}", "{12+}"),
    ("a#b;c|d<e>f", "a#b;c|d<e>f"),
    ("A&Awg- decomposed", "A\u{308} decomposed"),
    ("2026-11-21T0905_Bob_x.7", "2026-11-21T0905_Bob_x.7"),
    ("caf&AOk-/deeper &AOk-/and/deeper", "café/deeper é/and/deeper"),
];

fn odd_names_are_shown(server: &Server, least: usize) {
    let account = server.account();
    let mut imap = account.imap();
    let mut made = Vec::new();
    for (n, (wire, shown)) in ODD_NAMES.iter().enumerate() {
        let wire = account.wire_name(wire);
        match imap.create(&wire) {
            Err(error) => println!("{}: {error}", server.name),
            Ok(()) => {
                imap.append(&wire, &letter(&format!("number {n}")), "", DATE).unwrap();
                // With `.` as the delimiter these are levels.
                let shown = if server.name == "dovecot" { shown.to_string() } else { shown.replace('.', "/") };
                made.push((n, account.path_name(&shown)));
            }
        }
    }
    assert!(made.len() >= least, "{} takes only {} of these names", server.name, made.len());
    let mount = Mount::new(&account, &[]);
    for (n, path) in &made {
        let text = mount.message(path, 1).join("body.txt");
        assert_eq!(fs::read_to_string(text).unwrap(), format!("This is in number {n}.\n"), "{path}");
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        assert!(names(&mount.join(parent)).contains(name), "{path} is not listed");
        // What the server calls it stands in the attributes, decoded.
        assert!(xattr(&mount.join(path), "user.imap.mailbox").is_some(), "{path}");
    }
    mount.assert_quiet(&[]);
}

#[test]
fn odd_names_of_mailboxes_are_shown_on_dovecot() {
    odd_names_are_shown(Server::dovecot(), 18);
}

#[test]
fn odd_names_of_mailboxes_are_shown_on_cyrus() {
    odd_names_are_shown(Server::cyrus(), 9);
}

#[test]
fn odd_names_of_mailboxes_are_shown_on_courier() {
    odd_names_are_shown(Server::courier(), 17);
}

#[test]
fn deep_trees_and_levels_without_mail_are_directories() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let deep: Vec<String> = (0..25).map(|n| format!("level {n}")).collect();
    imap.create(&deep.join("/")).unwrap();
    imap.append(&deep.join("/"), &letter("deep down"), "", DATE).unwrap();
    let mount = Mount::new(&account, &[]);
    assert_eq!(names(&mount.join(&deep[0])), BTreeSet::from([deep[1].clone()]));
    assert_eq!(names(&mount.join(deep[..10].join("/"))), BTreeSet::from([deep[10].clone()]));
    let text = mount.message(&deep.join("/"), 1).join("body.txt");
    assert_eq!(fs::read_to_string(text).unwrap(), "This is in deep down.\n");
    // A level that is no mailbox on the server has no views.
    assert!(!mount.join("level 0/.messages.tsv").exists());
    assert!(mount.join("INBOX/.messages.tsv").exists());
    mount.assert_quiet(&[]);
}

/// Other users' and shared mailboxes appear where the server puts them.
#[test]
fn namespaces_with_another_prefix_and_delimiter_are_shown_where_the_server_puts_them() {
    let public = "namespace public {\n type = public\n separator = .\n prefix = Public.\n list = yes\n\
                  location = maildir:~/public:LAYOUT=fs\n subscriptions = no\n}\nplugin {\n acl =\n}\n";
    let options = [("DOVECOT_PREFIX", "INBOX."), ("DOVECOT_SEP", "."), ("DOVECOT_EXTRA", public)];
    let server = Server::start("dovecot", &options);
    let account = server.alice();
    let mut imap = account.imap();
    imap.append("INBOX", &letter("inbox"), "", DATE).unwrap();
    imap.create("INBOX.a.b").unwrap();
    imap.append("INBOX.a.b", &letter("b"), "", DATE).unwrap();
    imap.create("Public.news.today").unwrap();
    imap.append("Public.news.today", &letter("news"), "", DATE).unwrap();
    let mount = Mount::new(&account, &[]);
    for (path, subject) in [("INBOX", "inbox"), ("INBOX/a/b", "b"), ("Public/news/today", "news")] {
        let text = fs::read_to_string(mount.message(path, 1).join("body.txt")).unwrap();
        assert_eq!(text, format!("This is in {subject}.\n"));
    }
    assert_eq!(names(mount.path()), BTreeSet::from(["INBOX".into(), "Public".into()]));
    assert_eq!(xattr(&mount.join("INBOX/Trash"), "user.imap.special-use").as_deref(), Some("\\Trash"));
    mount.assert_quiet(&[]);
}

fn attributes_are_the_servers(server: &Server) {
    let account = server.account();
    let mut imap = account.imap();
    let subject = "=?utf-8?q?Gr=C3=BC=C3=9Fe?= und mehr";
    let message = [b"Message-ID: <m1@example.test>\r\n".to_vec(), letter(subject)].concat();
    let flags = r"\Seen \Flagged $Forwarded Work";
    let uid = imap.append("INBOX", &message, flags, DATE).unwrap();
    imap.append("INBOX", &letter("two"), "", DATE).unwrap();
    imap.select("INBOX").unwrap();
    let mount = Mount::new(&account, &[]);
    let directory = mount.message("INBOX", uid);
    let value = |name: &str| xattr(&directory, &format!("user.{name}"));
    let words = |text: Option<String>, by: char| -> BTreeSet<String> {
        text.unwrap_or_default().split(by).map(str::to_owned).collect()
    };
    let on_server: BTreeSet<String> = imap.flags(uid).unwrap().unwrap().into_iter().collect();
    let on_server: BTreeSet<String> = on_server.into_iter().filter(|flag| flag != "\\Recent").collect();
    assert_eq!(words(value("imap.flags"), ' '), on_server);
    let tags = BTreeSet::from(["Flagged".into(), "Work".into(), "$Forwarded".into()]);
    assert_eq!(words(value("xdg.tags"), ','), tags);
    assert_eq!(value("imap.uid").unwrap(), uid.to_string());
    assert_eq!(value("imap.size").unwrap(), imap.size(uid).unwrap().unwrap().to_string());
    assert_eq!(value("imap.internaldate").unwrap(), "2024-03-05T09:00:00Z");
    assert_eq!(value("xdg.origin.email.subject").unwrap(), "Grüße und mehr");
    assert_eq!(value("xdg.origin.email.from").unwrap(), "Alice <alice@example.test>");
    assert_eq!(value("xdg.origin.email.message-id").unwrap(), "<m1@example.test>");
    let validity = imap.status("INBOX", "UIDVALIDITY").unwrap().unwrap().to_string();
    assert_eq!(value("imap.uidvalidity").unwrap(), validity);
    let url = value("xdg.origin.url").unwrap();
    assert!(url.ends_with(&format!("/INBOX;UIDVALIDITY={validity}/;UID={uid}")), "{url}");
    assert_eq!(fs::metadata(&directory).unwrap().mtime(), 1_709_629_200);

    let inbox = mount.join("INBOX");
    for (name, item) in
        [("messages", "MESSAGES"), ("unseen", "UNSEEN"), ("uidnext", "UIDNEXT"), ("uidvalidity", "UIDVALIDITY")]
    {
        let expected = imap.status("INBOX", item).unwrap().unwrap().to_string();
        assert_eq!(xattr(&inbox, &format!("user.imap.{name}")), Some(expected), "{name}");
    }
    let rights = imap.ok("MYRIGHTS INBOX").unwrap().untagged[0].text.rsplit(' ').next().unwrap().to_owned();
    assert_eq!(xattr(&inbox, "user.imap.rights"), Some(rights));
    let quota = xattr(&inbox, "user.imap.quota").unwrap();
    assert!(quota.contains("STORAGE=") && quota.contains("/1048576"), "{quota}");
    // What a file holds stands on the file; foreign names have no value, and are no error for `ls -l` or `cp -a`.
    assert_eq!(xattr(&directory.join("body.txt"), "user.mime_type").as_deref(), Some("text/plain"));
    assert_eq!(xattr(&directory, "user.other"), None);
    assert_eq!(xattr(&directory, "security.selinux"), None);
    mount.assert_quiet(&[]);
}

#[test]
fn extended_attributes_are_what_dovecot_says() {
    attributes_are_the_servers(Server::dovecot());
}

#[test]
fn extended_attributes_are_what_cyrus_says() {
    attributes_are_the_servers(Server::cyrus());
}

#[test]
fn metadata_and_subscriptions_of_a_mailbox_are_attributes() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    imap.create("Plain").unwrap();
    imap.append("Plain", &letter("x"), "", DATE).unwrap();
    imap.ok("SETMETADATA Plain (/private/comment \"for later\")").unwrap();
    let mount = Mount::new(&account, &[]);
    let value = |mailbox: &str, name: &str| xattr(&mount.join(mailbox), &format!("user.imap.{name}"));
    assert_eq!(value("Plain", "metadata.private/comment").as_deref(), Some("for later"));
    assert_eq!(
        (value("Plain", "subscribed").as_deref(), value("Sent", "subscribed").as_deref()),
        (Some("0"), Some("1"))
    );
    assert_eq!(value("Sent", "special-use").as_deref(), Some("\\Sent"));
    assert_eq!(value("Plain", "special-use"), None);
    mount.assert_quiet(&[]);
}

/// Bytes of all messages of a mailbox, by UID.
fn bodies(imap: &mut Imap, mailbox: &str) -> BTreeMap<u32, Vec<u8>> {
    imap.ok(&format!("EXAMINE {}", quote(mailbox))).unwrap();
    imap.bodies("1:*").unwrap()
}

/// Names in parentheses answer when they are named and are left out of listings.
#[test]
fn views_answer_when_they_are_named_and_are_listed_when_asked_for() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    corpus::append(&mut imap, "INBOX", &corpus::messages()[..40]);
    let mount = Mount::new(&account, &[]);
    let inbox = mount.join("INBOX");
    let listed = names(&inbox);
    assert_eq!(listed.len(), 40, "{listed:?}");
    assert!(!names(mount.path()).contains(".imapfs"));
    // The mailbox again, flat.
    let eml = inbox.join(".eml");
    assert_eq!(names(&eml), listed.iter().map(|name| format!("{name}.eml")).collect());
    for (uid, bytes) in bodies(&mut imap, "INBOX") {
        let name = listed.iter().find(|name| name.ends_with(&format!(".{uid}"))).unwrap();
        assert_eq!(fs::read(eml.join(format!("{name}.eml"))).unwrap(), bytes, "{name}");
        assert_eq!(fs::metadata(inbox.join(name).join("message.eml")).unwrap().len(), bytes.len() as u64);
    }
    // The table.
    let table = fs::read_to_string(inbox.join(".messages.tsv")).unwrap();
    assert_eq!(fs::metadata(inbox.join(".messages.tsv")).unwrap().len(), table.len() as u64);
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("uid\tdate\tfrom\tsubject\tflags\tsize\tname"));
    let last: BTreeSet<String> = lines.map(|line| line.split('\t').nth(6).unwrap().to_owned()).collect();
    assert_eq!(last, listed);
    // The mount about itself.
    let status = fs::read_to_string(mount.join(".imapfs/status")).unwrap();
    for key in ["account: ", "server: ", "connections: ", "bytes_in: ", "messages_known: 40\n"] {
        assert!(status.contains(key), "{key}: {status}");
    }
    drop(mount);
    let mount = Mount::new(&account, &["--show-views"]);
    assert!(names(mount.path()).contains(".imapfs"));
    let inbox = names(&mount.join("INBOX"));
    assert!(inbox.contains(".eml") && inbox.contains(".messages.tsv") && inbox.len() == 43, "{inbox:?}");
    assert!(names(&mount.message("INBOX", 1)).contains("message.eml"));
    mount.assert_quiet(&[]);
}

#[test]
fn names_can_be_bare_uids() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    corpus::append(&mut imap, "INBOX", &corpus::messages()[..5]);
    let mount = Mount::new(&account, &["--names", "uid"]);
    assert_eq!(names(&mount.join("INBOX")), ["1", "2", "3", "4", "5"].map(str::to_owned).into());
    assert!(mount.join("INBOX/3/headers.txt").exists() && !mount.join("INBOX/6").exists());
}

/// `df` shows the server's quota.
#[test]
fn the_file_system_is_as_large_and_as_full_as_the_quota() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    imap.append("INBOX", &corpus::big(2_000_000).bytes, "", None).unwrap();
    let mount = Mount::new(&account, &[]);
    let output = Command::new("df").args(["-k", "--output=fstype,size,used"]).arg(mount.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let row: Vec<&str> = text.lines().nth(1).unwrap_or("").split_whitespace().collect();
    assert_eq!(row[..2], ["fuse.imapfs", "1048576"], "{text}");
    let used: u64 = row[2].parse().unwrap();
    assert!((1900..2200).contains(&used), "{text}");
}
