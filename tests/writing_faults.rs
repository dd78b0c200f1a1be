//! What becomes of a file that the server does not take: the errno of its close, no message twice, and nothing lost.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::corpus::build;
use common::proxy::{Action, Fault, Proxy, When};
use common::{Account, Mount, Security, Server, wait_for};

/// What the program may need at the most, kB.
const MOST: u64 = 96 << 10;

fn quota() -> Account {
    static SERVER: std::sync::OnceLock<Server> = std::sync::OnceLock::new();
    let extra = ("DOVECOT_EXTRA", "plugin {\n quota_rule = *:storage=64K\n}");
    SERVER.get_or_init(|| Server::start("dovecot", &[extra])).account()
}

fn mail(octets: usize) -> Vec<u8> {
    let body = build::base64_lines(&build::noise(octets, 5), 76);
    build::message("written", "Written here", &[], body)
}

fn count(account: &Account) -> usize {
    account.imap().select("INBOX").unwrap() as usize
}

fn spooled(mount: &Mount) -> Vec<PathBuf> {
    let directory = mount.path().parent().unwrap().join("cache/imapfs/spool");
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The one file that was kept, a moment after the last close, which ends in the background.
fn kept(mount: &Mount) -> Option<Vec<u8>> {
    wait_for(Duration::from_secs(5), || {
        let [path] = &spooled(mount)[..] else { return None };
        path.to_str().unwrap().ends_with(".failed").then(|| std::fs::read(path).unwrap())
    })
}

/// Standard error of a shell script in the mount, which has to fail; `$src` is a message outside.
fn fails(mount: &Mount, src: &Path, script: &str) -> String {
    let mut command = Command::new("bash");
    let output =
        command.args(["-c", script]).current_dir(mount.path()).env("src", src).env("LC_ALL", "C").output().unwrap();
    assert!(!output.status.success(), "{script}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Over quota: the close says so, nothing is on the server, and what was written is kept on disk.
#[test]
fn a_message_that_the_server_does_not_take_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (src, large) = (dir.path().join("x.eml"), mail(200_000));
    std::fs::write(&src, &large).unwrap();
    let scripts = [
        "cp $src INBOX/",
        "cat $src > INBOX/x.eml",
        "dd if=$src of=INBOX/x.eml conv=fsync status=none",
        "install $src INBOX/x.eml",
    ];
    for script in scripts {
        let account = quota();
        let mut mount = Mount::new(&account, &[]);
        let error = fails(&mount, &src, script);
        assert!(error.contains("Disk quota exceeded"), "{script}: {error}");
        assert_eq!(kept(&mount), Some(large.clone()), "{script}: {:?}", spooled(&mount));
        assert_eq!((count(&account), mount.join("INBOX/x.eml").exists()), (0, false), "{script}");
        assert!(mount.log().contains("what was written is kept in"), "{}", mount.log());
        assert!(mount.unmount());
        assert_eq!(spooled(&mount).len(), 1);
    }
}

/// The error of a rename that makes a message is that of the server, and the file keeps its temporary name.
#[test]
fn a_rename_that_fails_leaves_the_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    let (src, account) = (dir.path().join("x.eml"), quota());
    std::fs::write(&src, mail(200_000)).unwrap();
    let mut mount = Mount::new(&account, &[]);
    let script = "cp $src INBOX/.x.eml.Ab12Cd && mv INBOX/.x.eml.Ab12Cd INBOX/x.eml";
    assert!(fails(&mount, &src, script).contains("Disk quota exceeded"));
    assert_eq!(std::fs::read(mount.join("INBOX/.x.eml.Ab12Cd")).unwrap(), mail(200_000));
    std::fs::remove_file(mount.join("INBOX/.x.eml.Ab12Cd")).unwrap();
    assert!(wait_for(Duration::from_secs(5), || spooled(&mount).is_empty().then_some(())).is_some());
    assert!(mount.unmount());
    assert_eq!(count(&account), 0);
}

/// An old message stands when the new one is not taken, and is what is read again.
#[test]
fn a_draft_stands_when_it_cannot_be_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (src, account, old) = (dir.path().join("x.eml"), quota(), mail(100));
    std::fs::write(&src, mail(200_000)).unwrap();
    account.imap().append("INBOX", &old, "\\Draft", None).unwrap();
    let mount = Mount::new(&account, &[]);
    let message = mount.message("INBOX", 1).join("message.eml");
    assert!(fails(&mount, &src, &format!("cat $src > {}", message.display())).contains("Disk quota exceeded"));
    assert_eq!(kept(&mount), Some(mail(200_000)));
    let again = wait_for(Duration::from_secs(5), || (std::fs::read(&message).unwrap() == old).then_some(()));
    assert!(again.is_some() && message.metadata().unwrap().len() == old.len() as u64);
    assert_eq!(count(&account), 1);
}

/// Wherever the connection is cut, a message is there once, or it is kept and the close failed.
#[test]
fn no_cut_loses_or_doubles_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let (src, large) = (dir.path().join("x.eml"), mail(200_000));
    std::fs::write(&src, &large).unwrap();
    let faults = [
        ("before APPEND", Fault::up(When::Before(b"APPEND".into()), Action::Rst)),
        ("after APPEND", Fault::up(When::After(b"APPEND".into()), Action::Fin)),
        ("within the message", Fault::up(When::Bytes(100_000), Action::Rst)),
        ("before the answer", Fault::down(When::Before(b"APPENDUID".into()), Action::Rst)),
        ("within the answer", Fault::down(When::After(b"APPENDUID".into()), Action::Fin)),
    ];
    for (name, fault) in faults {
        for connections in [1..=2, 1..=u64::MAX] {
            let account = Server::dovecot().account();
            let proxy = Proxy::new(account.port).fault(Fault { connections, ..fault.clone() });
            let mut mount = Mount::new(&account.through(&proxy).with(Security::None), &[]);
            // Not std::fs::copy, which does not look at what close says.
            let copied = Command::new("cp").arg(&src).arg(mount.join("INBOX")).stderr(Stdio::null()).status().unwrap();
            proxy.clear_faults();
            let there = count(&account);
            assert!(there <= 1, "{name}: {there} messages");
            if copied.success() {
                assert_eq!(there, 1, "{name}");
            } else {
                assert_eq!(kept(&mount).as_ref(), Some(&large), "{name}");
            }
            assert!(mount.unmount(), "{name}");
        }
    }
}

/// 100 MB pass through in little memory.
#[test]
fn a_large_message_costs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (src, account) = (dir.path().join("x.eml"), Server::dovecot().account());
    let large = mail(74_000_000);
    std::fs::write(&src, &large).unwrap();
    let mut mount = Mount::new(&account, &[]);
    assert!(Command::new("cp").arg(&src).arg(mount.join("INBOX")).status().unwrap().success());
    assert_eq!(mount.join("INBOX/x.eml").metadata().unwrap().len(), large.len() as u64);
    let mut imap = account.imap();
    imap.select("INBOX").unwrap();
    assert_eq!(imap.size(1).unwrap(), Some(large.len() as u64));
    assert!(mount.peak_memory() < MOST, "{} kB", mount.peak_memory());
    assert!(mount.unmount());
}
