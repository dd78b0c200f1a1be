//! What walks through a mailbox cost on the wire: round trips that are waited for, and bytes.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::corpus::build;
use common::proxy::{Dir, Proxy, Stats};
use common::{Account, Mount, Security, Server};

/// Messages of the mailbox.
const MESSAGES: usize = 200;

/// Octets of a large attachment.
const LARGE: usize = 300_000;

/// One way.
const DELAY: Duration = Duration::from_millis(25);

/// A mount behind a slow line, of a mailbox whose messages are known by name.
struct Slow {
    mount: Mount,
    proxy: Proxy,
    /// Octets of all messages, as sent.
    octets: u64,
}

impl Slow {
    fn new(account: &Account) -> Slow {
        let octets = fill(account);
        let proxy = Proxy::new(account.port).recording();
        let mount = Mount::new(&account.with(Security::None).through(&proxy), &["--no-compress"]);
        assert_eq!(fs::read_dir(mount.join("INBOX")).unwrap().count(), MESSAGES);
        proxy.set_delay(DELAY);
        Slow { mount, proxy, octets }
    }

    fn cost(&self, work: impl FnOnce(&Path)) -> Stats {
        self.proxy.reset();
        work(&self.mount.join("INBOX"));
        self.proxy.stats()
    }

    fn fetches(&self) -> Vec<String> {
        let sent =
            self.proxy.transcript().into_iter().filter(|line| line.dir == Dir::Up && line.text.contains("FETCH"));
        sent.map(|line| line.text).collect()
    }
}

/// Text and HTML, every fourth with an attachment, every hundredth with one that is large.
fn fill(account: &Account) -> u64 {
    let mut imap = account.imap();
    (0..MESSAGES)
        .map(|number| {
            let line = format!("Line of message {number}, as long as lines in messages are, more or less.\r\n");
            let text = build::part("text/plain; charset=utf-8", &[], line.repeat(10 + number % 40));
            let html = build::part("text/html; charset=utf-8", &[], format!("<p>{line}</p>").repeat(10 + number % 40));
            let mut parts = vec![build::inner_multipart("alternative", "alternative", &[text, html])];
            if number % 4 == 0 {
                let octets = if number % 100 == 0 { LARGE } else { 20_000 };
                let data = build::noise(octets, number as u64);
                parts.push(build::attachment("application/pdf", format!("; filename=\"file-{number}.pdf\""), &data));
            }
            let message = build::multipart(&format!("message-{number}"), "mixed", &parts);
            imap.append("INBOX", &message, "", None).unwrap();
            message.len() as u64
        })
        .sum()
}

fn run(program: &str, args: &[&str], dir: &Path) {
    let mut command = Command::new(program);
    let output = command.args(args).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code <= 1) && error.is_empty(), "{program}: {error}");
}

/// `what` costs at most so many round trips and so many bytes.
fn check(what: &str, slow: &Slow, most: (u64, u64), work: impl FnOnce(&Path)) {
    let stats = slow.cost(work);
    let (trips, bytes) = (stats.round_trips, stats.bytes_down);
    println!(
        "{what}: {trips} round trips of {}, {bytes} bytes of {}, {} fetches",
        most.0,
        most.1,
        slow.fetches().len()
    );
    let fetches = slow.fetches();
    // The connection that watches may select its mailbox and begin or end its IDLE meanwhile.
    assert!(trips <= most.0 + 3 && bytes <= most.1 + 2048, "{what}:\n{}", fetches.join("\n"));
    assert!(most.0 > 0 || fetches.is_empty(), "{what}:\n{}", fetches.join("\n"));
}

fn with_all(octets: u64) -> u64 {
    octets + octets / 10
}

#[test]
fn grep_through_all_messages() {
    let slow = Slow::new(&Server::dovecot().account());
    check("grep -r", &slow, (30, with_all(slow.octets)), |dir| run("grep", &["-r", "needle"], dir));
    check("grep -r, again", &slow, (0, 0), |dir| run("grep", &["-r", "needle"], dir));
}

#[test]
fn find_by_name() {
    let slow = Slow::new(&Server::dovecot().account());
    check("find", &slow, (8, 600 * MESSAGES as u64), |dir| run("find", &["-name", "*.pdf"], dir));
}

#[test]
fn copies_of_all_messages() {
    let slow = Slow::new(&Server::dovecot().account());
    let to = tempfile::tempdir().unwrap();
    check("cp -r", &slow, (30, with_all(slow.octets)), |dir| {
        run("cp", &["-r", ".", to.path().to_str().unwrap()], dir);
    });
}

#[test]
fn rg_in_several_threads() {
    let slow = Slow::new(&Server::dovecot().account());
    if Command::new("rg").arg("--version").output().is_err() {
        return;
    }
    // It leaves each large attachment after 64 KiB, for which the kernel reads 112.
    let left = (LARGE - (112 << 10)) as u64 / 57 * 78 * (MESSAGES / 100) as u64;
    check("rg -l", &slow, (30, with_all(slow.octets) - left), |dir| run("rg", &["-l", "needle"], dir));
}

#[test]
fn tar_of_all_messages() {
    let slow = Slow::new(&Server::dovecot().account());
    // To /dev/null it would not read.
    let to = tempfile::NamedTempFile::new().unwrap();
    check("tar", &slow, (30, with_all(slow.octets)), |dir| {
        run("tar", &["-cf", to.path().to_str().unwrap(), "."], dir);
    });
}

#[test]
fn sizes_of_all_files() {
    let slow = Slow::new(&Server::dovecot().account());
    check("ls -lR", &slow, (30, with_all(slow.octets)), |dir| run("ls", &["-lR"], dir));
}

#[test]
fn texts_by_a_glob() {
    let slow = Slow::new(&Server::dovecot().account());
    check("cat */body.txt", &slow, (30, with_all(slow.octets)), |dir| {
        run("sh", &["-c", "cat */body.txt >/dev/null"], dir)
    });
}

#[test]
fn messages_as_they_are() {
    let slow = Slow::new(&Server::dovecot().account());
    check("grep .eml", &slow, (30, with_all(slow.octets)), |dir| run("grep", &["-r", "needle", ".eml"], dir));
}

/// Who opens a message here and one there gets nothing that he did not ask for.
#[test]
fn messages_here_and_there() {
    let slow = Slow::new(&Server::dovecot().account());
    let names: Vec<_> = fs::read_dir(slow.mount.join("INBOX")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let texts: Vec<_> = (0..20).map(|n| names[(n * 77 + 30) % MESSAGES].join("body.txt")).collect();
    check("here and there", &slow, (2 * 20, 160_000), |_| {
        texts.iter().for_each(|text| assert!(!fs::read(text).unwrap().is_empty()));
    });
    assert_eq!(slow.fetches().len(), 2 * texts.len());
}

/// A walker who looks at the first of a large part gets it in one exchange, as he does with those ahead of him.
#[test]
fn the_beginning_of_a_large_part_is_one_exchange() {
    let slow = Slow::new(&Server::dovecot().account());
    let uid = 101;
    for message in (uid - 5..=uid).map(|uid| slow.mount.message("INBOX", uid)) {
        assert!(fs::read_dir(&message).unwrap().count() > 0);
        for text in ["headers.txt", "body.txt", "body.html"] {
            assert!(!fs::read(message.join(text)).unwrap().is_empty());
        }
    }
    let part = slow.mount.message("INBOX", uid).join("file-100.pdf");
    assert_eq!(fs::metadata(&part).unwrap().len(), LARGE as u64);
    slow.proxy.reset();
    let mut file = fs::File::open(&part).unwrap();
    let mut octets = vec![0; 64 << 10];
    // As `rg` does, which looks for a byte order mark first.
    let (mark, rest) = octets.split_at_mut(3);
    file.read_exact(mark).unwrap();
    file.read_exact(rest).unwrap();
    drop(file);
    assert!(octets == build::noise(LARGE, 100)[..64 << 10]);
    // What the kernel guesses comes when he takes long to close it.
    let mut fetches = slow.fetches();
    fetches.retain(|fetch| fetch.contains(&format!("UID FETCH {uid} ")) && !fetch.contains("<163840."));
    assert_eq!(fetches.len(), 1, "{fetches:?}");
}

/// Two programs at once: each is followed, and what both read comes once.
#[test]
fn two_at_once() {
    let slow = Slow::new(&Server::dovecot().account());
    check("grep -r and tac", &slow, (40, with_all(slow.octets)), |dir| {
        std::thread::scope(|scope| {
            scope.spawn(|| run("grep", &["-r", "needle"], dir));
            run("sh", &["-c", "ls -r | while read name; do cat $name/*; done >/dev/null"], dir);
        });
    });
}
