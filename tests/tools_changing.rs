//! What desktop programs do to a mount, and what comes of it on the server.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use common::corpus::build;
use common::proxy::Proxy;
use common::{Account, Mount, Security, Server};

/// What is in INBOX and in Other afterwards, by subject; or what the program said as it failed.
type Row = (&'static str, &'static str, Result<[&'static str; 2], &'static str>);

/// `$one` is a message's directory in INBOX, `$eml` the same as a file, `$src` a directory outside with `new.eml`.
const ROWS: [Row; 9] = [
    ("gio copy in", "gio copy $src/new.eml INBOX/", Ok(["new one", ""])),
    ("gio move in", "gio move $src/new.eml INBOX/ && ! test -e $src/new.eml", Ok(["new one", ""])),
    ("gio copy within", "gio copy $eml Other/copy.eml", Ok(["one", "one"])),
    ("gio move within", "gio move $one Other/${one#INBOX/}", Ok(["", "one"])),
    ("gio move of a file", "gio move $eml Other/mine.eml", Ok(["", "one"])),
    ("gio trash", "gio trash $one", Err("rash")),
    ("gio mkdir of litter", "gio mkdir .Trash-1000", Err("not permitted")),
    ("gio rename", "gio rename $one other", Err("not permitted")),
    ("gio remove", "gio remove $eml", Ok(["", ""])),
];

fn subjects(account: &Account, mailbox: &str) -> String {
    let mut imap = account.imap();
    imap.select(mailbox).unwrap();
    let bodies = imap.bodies("1:*").unwrap_or_default().into_values();
    let subject = |body: Vec<u8>| {
        let text = String::from_utf8_lossy(&body).into_owned();
        text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().to_owned()
    };
    let mut subjects: Vec<String> = bodies.map(subject).collect();
    subjects.sort();
    subjects.join(" ")
}

/// An account with a message in INBOX, its size, and a directory with another one.
fn account(octets: usize) -> (Account, tempfile::TempDir) {
    let (account, src) = (Server::dovecot().account(), tempfile::tempdir().unwrap());
    let attachment = build::attachment("application/octet-stream", "; filename=\"data.bin\"", &build::noise(octets, 3));
    let mut imap = account.imap();
    imap.append("INBOX", &build::with_part("one", attachment), "", None).unwrap();
    imap.create("Other").unwrap();
    std::fs::write(src.path().join("new.eml"), build::message("new", "new", &[], build::TEXT)).unwrap();
    (account, src)
}

/// Whether it went well, and what it said.
fn run(mount: &Mount, src: &std::path::Path, script: &str) -> (bool, String) {
    let message = mount.message("INBOX", 1);
    let name = message.file_name().unwrap().to_str().unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(mount.path()).env("src", src).env("HOME", src).env("LC_ALL", "C.UTF-8");
    command.env("one", format!("INBOX/{name}")).env("eml", format!("INBOX/.eml/{name}.eml"));
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_file_manager_changes_mail_as_it_says() {
    if Command::new("gio").arg("version").output().is_err() {
        println!("gio is not installed");
        return;
    }
    for (what, script, expected) in ROWS {
        let (account, src) = account(1000);
        let mount = Mount::new(&account, &[]);
        let (success, said) = run(&mount, src.path(), script);
        let [inbox, other] = expected.unwrap_or(["one", ""]);
        match expected {
            Ok(_) => assert!(success, "{what}: {said}"),
            Err(words) => assert!(!success && said.contains(words), "{what}: {said}"),
        }
        assert_eq!([subjects(&account, "INBOX"), subjects(&account, "Other")], [inbox, other], "{what}");
    }
}

/// The octets of a message that is copied within the mount stay where they are, whoever asks by copy_file_range.
#[test]
fn copies_within_the_mount_move_no_octets() {
    const OCTETS: usize = 1_000_000;
    for script in [
        "cp $eml Other/x.eml",
        "cp -r $one Other/",
        "cp -a $one Other/",
        "install $eml Other/x.eml",
        "cat $eml > Other/x.eml",
    ] {
        let (account, src) = account(OCTETS);
        let proxy = Proxy::new(account.port);
        let mount = Mount::new(&account.through(&proxy).with(Security::None), &["--no-compress"]);
        mount.message("INBOX", 1);
        proxy.reset();
        let (success, said) = run(&mount, src.path(), script);
        assert!(success, "{script}: {said}");
        let stats = proxy.stats();
        println!("{script}: {} up, {} down", stats.bytes_up, stats.bytes_down);
        assert!(stats.bytes_up + stats.bytes_down < OCTETS as u64 / 10, "{script}: {stats:?}");
        assert_eq!(subjects(&account, "Other"), "one", "{script}");
    }
}
