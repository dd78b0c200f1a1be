//! mutt, connected to the server itself, beside two mounts of the same account: what each of the three changes the other
//! two see.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use common::corpus::build;
use common::{Account, Mount, Server, wait_for};
use tempfile::TempDir;

/// Until somebody's change is seen by the others, also on a machine that does other things.
const SOON: Duration = Duration::from_secs(40);

/// What a key does. Messages are called by a word of their subject.
const KEYS: [(char, &str); 5] = [
    ('A', "<untag-pattern>~A<enter><tag-pattern>~s alpha<enter><tag-prefix><delete-message><sync-mailbox>"),
    ('B', "<untag-pattern>~A<enter><tag-pattern>~s bravo<enter><tag-prefix><flag-message><sync-mailbox>"),
    (
        'C',
        "<untag-pattern>~A<enter><tag-pattern>~s charlie<enter><tag-prefix><save-message><kill-line>=Other<enter><sync-mailbox>",
    ),
    ('D', "<imap-fetch-mail><untag-pattern>~A<enter><tag-pattern>~A<enter><tag-prefix><pipe-message>./all<enter>"),
    ('E', "<untag-pattern>~A<enter><tag-pattern>~F<enter><tag-prefix><pipe-message>./flagged<enter>"),
];

/// A mutt on a terminal of its own, that shows INBOX and does what it is told by keys.
struct Mutt {
    dir: TempDir,
    process: Child,
    keys: ChildStdin,
}

impl Mutt {
    fn new(account: &Account) -> Mutt {
        let dir = TempDir::new().unwrap();
        let mut rc = format!(
            "set folder=\"imap://{user}@127.0.0.1:{port}/\"\nset spoolfile=+INBOX\nset imap_pass=\"{password}\"\n\
             set imap_authenticators=login\nunset ssl_starttls\nunset ssl_force_tls\nset sleep_time=0\nset quit=yes\n\
             set delete=yes\nunset move\nunset confirmappend\nunset wait_key\nunset mark_old\nset timeout=1\n\
             set mail_check=1\nset sort=mailbox-order\n",
            user = account.user,
            port = account.direct_port(),
            password = account.password
        );
        for (key, does) in KEYS {
            rc.push_str(&format!("macro index {key} \"{does}\"\n"));
        }
        fs::write(dir.path().join("muttrc"), rc).unwrap();
        for name in ["all", "flagged"] {
            // Whole, or not there.
            let script = format!("#!/bin/sh\ngrep '^Subject: ' >{name}.part\nmv {name}.part {name}.out\n");
            let path = dir.path().join(name);
            fs::write(&path, script).unwrap();
            assert!(Command::new("chmod").arg("+x").arg(path).status().unwrap().success());
        }
        let mut process = Command::new("script")
            .args(["-qfec", "mutt -F muttrc", "/dev/null"])
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(fs::File::create(dir.path().join("screen")).unwrap())
            .spawn()
            .unwrap();
        let keys = process.stdin.take().unwrap();
        Mutt { dir, process, keys }
    }

    fn press(&mut self, key: char) {
        write!(self.keys, "{key}").unwrap();
    }

    /// The subjects of all messages that it sees, or of those that it sees flagged.
    fn sees(&mut self, key: char) -> Option<Vec<String>> {
        let out = self.dir.path().join(if key == 'D' { "all.out" } else { "flagged.out" });
        let _ = fs::remove_file(&out);
        self.press(key);
        let text = wait_for(SOON, || fs::read_to_string(&out).ok())?;
        let mut subjects: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("Subject: ")).map(str::to_owned).collect();
        subjects.sort();
        Some(subjects)
    }

    fn sees_in_the_end(&mut self, key: char, want: &[&str]) {
        let mut seen = None;
        let found = wait_for(SOON, || {
            seen = self.sees(key);
            seen.as_ref().is_some_and(|seen| seen == want).then_some(())
        });
        assert!(found.is_some(), "mutt sees {seen:?}, not {want:?}; its screen:\n{}", self.screen());
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("screen")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Mutt {
    fn drop(&mut self) {
        self.press('q');
        if wait_for(Duration::from_secs(5), || self.process.try_wait().unwrap()).is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

fn letter(word: &str) -> Vec<u8> {
    build::message(word, word, &[], format!("This is {word}.\r\n").as_bytes())
}

/// What a mount shows of a mailbox: subject to flags; the text of each is read as well.
fn shown(mailbox: &Path) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(mailbox).ok()? {
        let path = entry.ok()?.path();
        let subject = path.file_name()?.to_str()?.rsplit_once('.')?.0.rsplit_once('_')?.1.to_owned();
        let text = fs::read_to_string(path.join("body.txt")).ok()?;
        assert_eq!(text, format!("This is {subject}.\n"));
        let flags =
            Command::new("getfattr").args(["--only-values", "-n", "user.imap.flags"]).arg(&path).output().ok()?;
        // What mutt has read it marks, and what it has seen is old.
        let flags = String::from_utf8(flags.stdout).ok()?.replace("\\Seen", "");
        assert_eq!(found.insert(subject, flags.trim().to_owned()), None);
    }
    Some(found)
}

fn shows_in_the_end(mounts: &[&Mount], mailbox: &str, want: &[(&str, &str)]) {
    let want: BTreeMap<String, String> = want.iter().map(|(s, flags)| (s.to_string(), flags.to_string())).collect();
    for mount in mounts {
        let seen = wait_for(SOON, || (shown(&mount.join(mailbox)).as_ref() == Some(&want)).then_some(()));
        assert!(seen.is_some(), "{mailbox}: {:?} is not {want:?}", shown(&mount.join(mailbox)));
    }
}

/// The message with this subject.
fn named(mount: &Mount, mailbox: &str, subject: &str) -> std::path::PathBuf {
    let mut entries = fs::read_dir(mount.join(mailbox)).unwrap().map(|entry| entry.unwrap().path());
    let is_meant = |path: &std::path::PathBuf| path.to_str().unwrap().contains(&format!("_{subject}."));
    entries.find(is_meant).unwrap()
}

#[test]
fn mutt_and_two_mounts_see_what_each_other_does() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    for word in ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf"] {
        imap.append("INBOX", &letter(word), "", None).unwrap();
    }
    imap.create("Other").unwrap();
    let (one, two) = (Mount::new(&account, &[]), Mount::new(&account, &[]));
    let mounts = [&one, &two];
    let all = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf"];
    shows_in_the_end(&mounts, "INBOX", &all.map(|word| (word, "")));
    shows_in_the_end(&mounts, "Other", &[]);
    let mut mutt = Mutt::new(&account);
    mutt.sees_in_the_end('D', &all);
    // mutt deletes, flags, and saves elsewhere.
    for key in ['A', 'B', 'C'] {
        mutt.press(key);
    }
    let inbox = [("bravo", "\\Flagged"), ("delta", ""), ("echo", ""), ("foxtrot", ""), ("golf", "")];
    shows_in_the_end(&mounts, "INBOX", &inbox);
    shows_in_the_end(&mounts, "Other", &[("charlie", "")]);
    // A mount moves, another one flags, removes and writes.
    let delta = named(&one, "INBOX", "delta");
    fs::rename(&delta, one.join("Other").join(delta.file_name().unwrap())).unwrap();
    let set = ["-n", "user.imap.flags", "-v", "\\Flagged"];
    let echo = named(&two, "INBOX", "echo");
    assert!(Command::new("setfattr").args(set).arg(&echo).status().unwrap().success());
    assert!(Command::new("rm").arg("-r").arg(named(&two, "INBOX", "foxtrot")).status().unwrap().success());
    fs::write(two.join("INBOX/hotel.eml"), letter("hotel")).unwrap();
    mutt.sees_in_the_end('D', &["bravo", "echo", "golf", "hotel"]);
    mutt.sees_in_the_end('E', &["bravo", "echo"]);
    let inbox = [("bravo", "\\Flagged"), ("echo", "\\Flagged"), ("golf", ""), ("hotel", "")];
    shows_in_the_end(&mounts, "INBOX", &inbox);
    shows_in_the_end(&mounts, "Other", &[("charlie", ""), ("delta", "")]);
    // mutt takes a flag back, which a mount has set.
    mutt.press('B');
    shows_in_the_end(&mounts, "INBOX", &[("bravo", ""), ("echo", "\\Flagged"), ("golf", ""), ("hotel", "")]);
    drop(mutt);
    mounts.iter().for_each(|mount| mount.assert_quiet(&[]));
}
