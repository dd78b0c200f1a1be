//! What goes over the wire: bytes and commands that ordinary use of a mount costs.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::proxy::{Dir, Line, Proxy};
use common::{Account, Mount, Security, Server, corpus};

/// A mount whose bytes are counted as the protocol has them: in the clear, and not compressed.
struct Counted {
    mount: Mount,
    proxy: Proxy,
}

impl Counted {
    fn new(account: &Account, args: &[&str]) -> Counted {
        let proxy = Proxy::new(account.port).recording();
        let mount = Mount::new(&account.with(Security::None).through(&proxy), args);
        Counted { mount, proxy }
    }

    /// What `work` costs: bytes both ways, and the commands that were sent.
    fn cost<T>(&self, work: impl FnOnce() -> T) -> (u64, Vec<String>) {
        self.proxy.reset();
        work();
        let stats = self.proxy.stats();
        let sent = self.proxy.transcript().into_iter().filter(|line| line.dir == Dir::Up);
        (stats.bytes_up + stats.bytes_down, sent.map(|line| line.text).collect())
    }
}

/// The connection that watches may select its mailbox, and begin or end its IDLE, meanwhile.
const WATCH: u64 = 2048;

fn check(what: &str, (bytes, commands): (u64, Vec<String>), most: u64) {
    println!("{what}: {bytes} bytes of {most}, {} commands", commands.len());
    assert!(bytes <= most + WATCH, "{what}: {bytes} bytes, more than {most}:\n{}", commands.join("\n"));
    let fetches = commands.iter().filter(|command| command.contains("FETCH")).count();
    assert!(most > 0 || fetches == 0, "{what}:\n{}", commands.join("\n"));
}

fn sh(script: &str, dir: &Path) -> String {
    let output = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn read_at(path: &Path, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// A mount of a mailbox with one message, of 4 MB, and its attachment's path and encoded size.
fn one_big_message(server: &Server) -> (Counted, PathBuf, u64) {
    let account = server.account();
    let mut imap = account.imap();
    let message = corpus::big(4 << 20);
    let encoded = message.bytes.len() as u64;
    let uid = imap.append("INBOX", &message.bytes, "", None).unwrap();
    let counted = Counted::new(&account, &["--no-compress"]);
    let path = counted.mount.message("INBOX", uid).join("big.bin");
    (counted, path, encoded)
}

/// A peek at a large attachment fetches a small range of it; what was read is not fetched again.
fn a_peek_is_small(server: &Server) {
    let (counted, path, encoded) = one_big_message(server);
    let peek = counted.cost(|| read_at(&path, 0, 4096));
    check("4 KiB at the start", peek, 64 << 10);
    check("4 KiB at 3 MB", counted.cost(|| read_at(&path, 3_000_000, 4096)), 128 << 10);
    let (all, _) = counted.cost(|| fs::read(&path).unwrap());
    println!("the rest: {all} bytes of {encoded}");
    check("a second read", counted.cost(|| fs::read(&path).unwrap()), 0);
    check("another look at its size", counted.cost(|| fs::metadata(&path).unwrap()), 0);
}

#[test]
fn a_peek_into_an_attachment_is_small_on_dovecot() {
    a_peek_is_small(Server::dovecot());
}

#[test]
fn a_peek_into_an_attachment_is_small_on_cyrus() {
    a_peek_is_small(Server::cyrus());
}

/// Reading all of an attachment costs what it has encoded, and little more.
#[test]
fn a_whole_attachment_costs_no_more_than_it_has() {
    for server in [Server::dovecot(), Server::cyrus()] {
        let (counted, path, encoded) = one_big_message(server);
        check("all of it", counted.cost(|| fs::read(&path).unwrap()), encoded * 102 / 100);
        check("a second time", counted.cost(|| sh("sha256sum big.bin", path.parent().unwrap())), 0);
    }
}

/// Who looks for a NUL in the first 64 KiB and leaves (`rg`) does not get all that the kernel guesses he may want, and who
/// goes on gets all there is.
#[test]
fn a_look_at_an_attachment_costs_what_is_looked_at_and_the_rest_is_there_for_who_wants_it() {
    const LOOK: usize = 64 << 10;
    // The kernel reads 112 KiB for it.
    const LOOKED: u64 = (112 << 10) / 57 * 78;
    let data: Vec<u8> = corpus::build::noise(1 << 16, 4).into_iter().cycle().take((4 << 20) / 78 * 57).collect();
    let look = |path: &Path| {
        let mut file = File::open(path).unwrap();
        let mut bytes = vec![0; LOOK];
        file.read_exact(&mut bytes[..3]).unwrap();
        file.read_exact(&mut bytes[3..]).unwrap();
        assert!(bytes == data[..LOOK]);
        file
    };
    let (counted, path, encoded) = one_big_message(Server::dovecot());
    check("a look", counted.cost(|| drop(look(&path))), LOOKED + (24 << 10));
    check("another look", counted.cost(|| drop(look(&path))), 0);
    let rest = counted.cost(|| assert!(fs::read(&path).unwrap() == data));
    check("the rest", rest, encoded * 102 / 100 - LOOKED);
    // A copy of the descriptor is closed while the reader goes on, at once and after a while.
    for pause in [Duration::ZERO, Duration::from_millis(100)] {
        let (counted, path, encoded) = one_big_message(Server::dovecot());
        let all = counted.cost(|| {
            let mut file = look(&path);
            drop(file.try_clone().unwrap());
            std::thread::sleep(pause);
            let mut bytes = data[..LOOK].to_vec();
            file.read_to_end(&mut bytes).unwrap();
            assert!(bytes == data);
        });
        check("with a break", all, encoded * 102 / 100);
    }
}

/// The same for a program that reads in its own way.
#[test]
fn a_copy_and_a_map_cost_no_more_than_the_attachment_has() {
    for (what, script) in [
        ("cp", "cp big.bin /dev/null"),
        ("dd", "dd if=big.bin of=/dev/null bs=1000 status=none"),
        (
            "mmap",
            "python3 -c 'import mmap; f = open(\"big.bin\", \"rb\"); mmap.mmap(f.fileno(), 0, prot=1).find(b\"\\0\" * 99)'",
        ),
        ("tail first", "tail -c 100000 big.bin >/dev/null; cat big.bin >/dev/null"),
    ] {
        let (counted, path, encoded) = one_big_message(Server::dovecot());
        check(what, counted.cost(|| sh(script, path.parent().unwrap())), encoded * 102 / 100);
    }
}

const NEEDLE: &str = "the needle in this haystack";

/// A message with a text of some 1,500 bytes, every tenth with the needle.
fn letter(n: usize, attachment: &[u8]) -> Vec<u8> {
    let line = "Lorem ipsum dolor sit amet, consetetur sadipscing elitr, sed diam nonumy eirmod.\r\n";
    let needle = if n.is_multiple_of(10) { NEEDLE } else { "" };
    let head = format!(
        "From: Alice <alice@example.test>\r\nTo: Bob <bob@example.test>\r\nSubject: letter {n}\r\n\
         Message-ID: <letter-{n}@example.test>\r\nDate: Tue, 5 Mar 2024 10:00:00 +0100\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n{}{needle}\r\n",
        line.repeat(18)
    );
    [head.as_bytes(), attachment, b"--b--\r\n"].concat()
}

/// Searching text does not fetch attachments.
#[test]
fn grep_over_the_text_of_200_messages_leaves_attachments_alone() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let big = corpus::build::attachment("application/octet-stream", "; filename=\"big.bin\"", &vec![7; 3 << 20]);
    let attachment = [b"--b\r\n".as_slice(), &big].concat();
    for n in 0..200 {
        let attachment = if n % 20 == 0 { attachment.as_slice() } else { b"" };
        imap.append("INBOX", &letter(n, attachment), "", None).unwrap();
    }
    for (args, most) in [(&["--no-compress"][..], 700_000), (&[], 200_000)] {
        let counted = Counted::new(&account, args);
        let mut found = String::new();
        let script = format!("grep -rl '{NEEDLE}' --include='*.txt' INBOX");
        let cost = counted.cost(|| found = sh(&script, counted.mount.path()));
        assert_eq!(found.lines().count(), 20, "{found}");
        check(&format!("grep {args:?}"), cost, most);
        let again = counted.cost(|| sh(&script, counted.mount.path()));
        assert!(again.0 < 2_000, "a second grep: {again:?}");
    }
}

/// A listing costs what the names need, once.
#[test]
fn a_first_listing_of_2000_messages_costs_a_megabyte_and_a_second_one_nothing() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    for n in 0..2000 {
        imap.append("INBOX", &letter(n, b""), "", None).unwrap();
    }
    for (args, most) in [(&["--no-compress"][..], 1_100_000), (&[], 200_000)] {
        let counted = Counted::new(&account, args);
        let mut listed = String::new();
        check(&format!("ls {args:?}"), counted.cost(|| listed = sh("ls INBOX", counted.mount.path())), most);
        assert_eq!(listed.lines().filter(|name| name.contains("letter")).count(), 2000);
        for script in ["ls -l INBOX", "find INBOX -maxdepth 1 -name '*letter-77.*'", "getfattr -d INBOX/*letter-1.2"] {
            // Other people's changes are asked for, at most every two seconds.
            let (bytes, sent) = counted.cost(|| sh(script, counted.mount.path()));
            assert!(bytes < 1000 && !sent.iter().any(|line| line.contains("FETCH")), "{script}: {bytes} {sent:?}");
        }
        let mount = &counted.mount;
        println!("{args:?}: peak memory {} kB", mount.peak_memory());
    }
}

/// A listing of a message asks for its structure alone, and for nothing that was asked for before.
#[test]
fn readdir_of_a_message_asks_only_for_its_structure() {
    let account = Server::dovecot().account();
    let uid = account.imap().append("INBOX", &corpus::big(100_000).bytes, "", None).unwrap();
    let counted = Counted::new(&account, &["--no-compress"]);
    let message = counted.mount.message("INBOX", uid);
    let (_, sent) = counted.cost(|| fs::read_dir(&message).unwrap().count());
    let fetches: Vec<&String> = sent.iter().filter(|line| line.contains("FETCH")).collect();
    assert!(fetches.len() == 1 && fetches[0].contains("BODYSTRUCTURE") && !fetches[0].contains("BODY."), "{sent:?}");
    let (_, sent) = counted.cost(|| fs::read_dir(&message).unwrap().count());
    assert!(!sent.iter().any(|line| line.contains("FETCH")), "{sent:?}");
    // What it is asks for a little of each part: the header and the text, and the ends of the attachment.
    let (bytes, sent) = counted.cost(|| sh("ls -l", &message));
    assert!(bytes < 40_000, "{bytes} {sent:?}");
}

/// A name is found by its UID alone: one small exchange, however large the mailbox is.
#[test]
fn a_path_that_is_known_is_opened_without_listing_its_mailbox() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let uids: Vec<u32> = (0..100).map(|n| imap.append("INBOX", &letter(n, b""), "", None).unwrap()).collect();
    let path = {
        let mount = Mount::new(&account, &[]);
        mount.message("INBOX", uids[50]).strip_prefix(mount.path()).unwrap().to_owned()
    };
    let counted = Counted::new(&account, &["--no-compress"]);
    let cost = counted.cost(|| fs::read(counted.mount.join(&path).join("body.txt")).unwrap());
    let fetches = cost.1.iter().filter(|line| line.contains("FETCH")).count();
    assert!(fetches <= 3, "{:?}", cost.1);
    check("one text", cost, 8_000);
    let missing = path.to_str().unwrap().replace("letter", "other");
    assert!(!counted.mount.join(missing).exists());
}

/// Its structure and the whole of it are asked for at once: by who knows its path, and by who begins a walk.
#[test]
fn the_text_of_a_small_message_takes_one_round_trip() {
    for walks in [false, true] {
        let account = Server::dovecot().account();
        let uids = [1, 2].map(|n| account.imap().append("INBOX", &letter(n, b""), "", None).unwrap());
        let proxy = Proxy::new(account.port).delay(Duration::from_millis(30)).recording();
        let mount = Mount::new(&account.with(Security::None).through(&proxy), &["--no-compress"]);
        let message = mount.message("INBOX", uids[0]);
        proxy.reset();
        if walks {
            assert_eq!(fs::read_dir(&message).unwrap().count(), 2);
        }
        assert!(!fs::read(message.join("body.txt")).unwrap().is_empty());
        assert!(!fs::read(message.join("headers.txt")).unwrap().is_empty());
        let lines = proxy.transcript();
        let is_answer = |line: &Line| line.dir == Dir::Down && line.text.contains("FETCH (");
        let first = lines.iter().position(is_answer).unwrap();
        let (before, after): (Vec<_>, Vec<_>) = lines.iter().enumerate().partition(|(at, _)| *at < first);
        let asks = |lines: &[(usize, &Line)], what: &str| {
            let what = format!("UID FETCH {} (UID {what}", uids[0]);
            lines.iter().any(|(_, line)| line.dir == Dir::Up && line.text.contains(&what))
        };
        assert!(asks(&before, "BODYSTRUCTURE") && asks(&before, "BODY.PEEK[]"), "{before:?}");
        assert!(!asks(&after, ""), "{after:?}");
    }
}
