//! Wrong answers one by one, through a real mount: the reader gets the truth or an errno, the rest stays readable.

#![allow(clippy::unwrap_used)]

mod common;
mod scripted;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Account, Mount};
use scripted::{Asked, Piece, Reply, Response, Scripted, line, mailboxes, octets};

/// What the program may need at the most, kB.
const MEMORY: u64 = 96 << 10;
/// Longest time for a call, with `--timeout 2`, in a debug build: what does not come is asked for in more than one way.
const LIMIT: Duration = Duration::from_secs(30);

/// What a reader of the message gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Truth,
    Errno,
    /// One of the two: servers that lie like this cannot always be seen through.
    Either,
}

type Case = (&'static str, Want, fn(&Asked<'_>, Vec<Response>) -> Reply);

/// Mounts a server that answers what is asked of message 2 alone by `twist`, and reads everything.
fn check((name, want, twist): &Case) {
    let twist = *twist;
    let server = Scripted::new(mailboxes(), move |asked, said| match asked.command.starts_with("UID FETCH 2 (") {
        true => twist(asked, said),
        false => Reply::Send(octets(&said)),
    });
    let mut mount = Mount::new(&Account::at(server.port), &["--timeout", "2", "--connections", "3"]);
    let victim = mount.message("INBOX", 2);
    let truth = server.message("INBOX", 2).unwrap();
    let started = Instant::now();
    let raw = timed(name, || std::fs::read(victim.join("message.eml")));
    // The parts are other questions, and may be answered when the whole is not.
    let _ = timed(name, || files(&victim));
    match (&raw, want) {
        (Ok(read), _) => assert!(read == truth && *want != Want::Errno, "{name}: {} octets are read", read.len()),
        (Err(error), want) => assert!(*want != Want::Truth, "{name}: {error}"),
    }
    // Whoever came after the lie is not harmed by it. After a lost connection the next attempt has its pause.
    for (mailbox, uid) in [("INBOX", 1), ("INBOX", 5), ("Other", 7)] {
        let read = common::wait_for(Duration::from_secs(8), || {
            let entry = std::fs::read_dir(mount.join(mailbox))
                .ok()?
                .flatten()
                .find(|entry| entry.file_name().to_string_lossy().ends_with(&format!(".{uid}")))?;
            std::fs::read(entry.path().join("message.eml")).ok()
        });
        assert!(read.as_deref() == server.message(mailbox, uid), "{name}: message {uid}");
    }
    assert!(mount.is_mounted() && !mount.ended(), "{name}");
    assert!(mount.peak_memory() <= MEMORY, "{name}: {} kB", mount.peak_memory());
    assert!(server.connections() < 20, "{name}: {} connections", server.connections());
    // Warnings there must be; errors of the program and panics not.
    mount.assert_quiet(&["WARN"]);
    assert!(!mount.log().contains('\x1b'), "{name}");
    println!("{name}: {:?} in {:?}", raw.map(|read| read.len()), started.elapsed());
    assert!(mount.unmount(), "{name}");
}

fn timed<T>(name: &str, call: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let outcome = call();
    assert!(started.elapsed() < LIMIT, "{name}: {:?}", started.elapsed());
    outcome
}

/// Reads all files in a directory.
fn files(directory: &Path) -> Vec<(PathBuf, std::io::Result<Vec<u8>>)> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    paths.map(|path| (path.clone(), std::fs::read(path))).collect()
}

/// The answer with this text in the place of another.
fn with(said: &[Response], from: &str, to: &str) -> Reply {
    let said: Vec<Response> =
        said.iter().map(|response| response.iter().map(|p| swap(p, from, to)).collect()).collect();
    Reply::Send(octets(&said))
}

fn swap(piece: &Piece, from: &str, to: &str) -> Piece {
    match piece {
        Piece::Text(octets) => Piece::Text(String::from_utf8_lossy(octets).replace(from, to).into_bytes()),
        Piece::Literal(octets) => Piece::Literal(octets.clone()),
    }
}

/// The answer with another BODYSTRUCTURE.
fn structure(asked: &Asked<'_>, said: &[Response], structure: &str) -> Reply {
    if !asked.command.contains("BODYSTRUCTURE") {
        return Reply::Send(octets(said));
    }
    let row = line(format!("* 2 FETCH (UID 2 BODYSTRUCTURE {structure})"));
    Reply::Send(octets(&[row, said[said.len() - 1].clone()]))
}

/// The answer with other rows in the place of those with a body.
fn rows(asked: &Asked<'_>, said: &[Response], rows: &str) -> Reply {
    if !asked.command.contains("BODY.PEEK") {
        return Reply::Send(octets(said));
    }
    let mut text = rows.as_bytes().to_vec();
    text.extend(octets(&said[said.len() - 1..]));
    Reply::Send(text)
}

#[test]
fn structures_that_make_no_sense_cost_nothing() {
    const CASES: [Case; 9] = [
        ("400 parentheses", Want::Truth, |a, s| structure(a, &s, &format!("{}{}", "(".repeat(400), ")".repeat(400)))),
        ("100,000 parentheses", Want::Truth, |a, s| structure(a, &s, &"(".repeat(100_000))),
        ("no structure", Want::Truth, |a, s| structure(a, &s, "NIL")),
        ("an empty structure", Want::Truth, |a, s| structure(a, &s, "()")),
        ("a text of 2^63 octets", Want::Truth, |a, s| {
            structure(a, &s, "(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 9223372036854775808 1)")
        }),
        ("a text of no octets", Want::Truth, |a, s| structure(a, &s, "(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 0 0)")),
        ("an odd attachment", Want::Truth, |a, s| {
            let file = "\"FILENAME\" \"../../\u{1b}[2J\\\"x/..\"";
            let leaf = format!("(\"a\" \"b\" NIL NIL NIL \"BASE64\" 77 NIL (\"attachment\" ({file})) NIL)");
            structure(a, &s, &format!("({} \"mixed\")", leaf.repeat(1000)))
        }),
        ("NUL octets", Want::Truth, |a, s| structure(a, &s, "(\"TE\0XT\" \0 NIL NIL NIL \"7BIT\" 3 1)")),
        ("the structure of another message", Want::Either, |_, s| with(&s, "UID 2", "UID 1")),
    ];
    CASES.iter().for_each(check);
}

#[test]
fn bodies_that_are_not_what_was_asked_for_are_not_shown() {
    const CASES: [Case; 13] = [
        ("OK without data", Want::Errno, |a, s| rows(a, &s, "")),
        ("NIL", Want::Errno, |a, s| rows(a, &s, "* 2 FETCH (UID 2 BODY[] NIL)\r\n")),
        ("an empty body", Want::Errno, |a, s| rows(a, &s, "* 2 FETCH (UID 2 BODY[] \"\")\r\n")),
        ("a made-up body", Want::Errno, |a, s| rows(a, &s, "* 2 FETCH (UID 2 BODY[] {7}\r\nmade up)\r\n")),
        ("a body of an expunged message", Want::Errno, |a, s| {
            rows(a, &s, "* 2 EXPUNGE\r\n* 2 FETCH (UID 2 BODY[] {7}\r\nmade up)\r\n")
        }),
        ("metadata instead of a body", Want::Errno, |a, s| rows(a, &s, "* 2 FETCH (UID 2 FLAGS ())\r\n")),
        ("a body without UID", Want::Errno, |_, s| with(&s, "(UID 2 BODY", "(BODY")),
        ("another UID", Want::Errno, |_, s| with(&s, "UID 2", "UID 1")),
        ("another section", Want::Errno, |_, s| with(&s, "BODY[", "BODY[7.")),
        ("another origin", Want::Errno, |_, s| with(&s, "] {", "]<7> {")),
        ("a literal that is too short", Want::Errno, |a, mut s| {
            if let Some(Piece::Literal(octets)) = s[0].iter_mut().find(|p| matches!(p, Piece::Literal(_))) {
                octets.truncate(octets.len() / 2);
            }
            if a.command.contains("BODY.PEEK") { Reply::Close(octets(&s[..1])) } else { Reply::Send(octets(&s)) }
        }),
        ("a made-up body before the true one", Want::Either, |_, s| {
            let made_up = line("* 2 FETCH (UID 2 BODY[] \"made up\")");
            Reply::Send(octets(&[vec![made_up], s].concat()))
        }),
        ("the body twice", Want::Truth, |_, s| Reply::Send(octets(&[&s[..1], &s[..]].concat()))),
    ];
    CASES.iter().for_each(check);
}

#[test]
fn numbers_and_lines_without_end_take_no_memory() {
    const CASES: [Case; 6] = [
        ("a literal of 500 MB", Want::Errno, |a, s| rows(a, &s, "* 2 FETCH (UID 2 BODY[] {500000000}\r\nabc")),
        ("a literal of 10^20", Want::Errno, |a, s| {
            rows(a, &s, "* 2 FETCH (UID 2 BODY[] {99999999999999999999}\r\nabc")
        }),
        ("a line without end", Want::Errno, |_, _| Reply::Endless(vec![b'x'; 1 << 16], 200 << 20)),
        ("a row without end", Want::Errno, |_, _| Reply::Endless(b"* 2 FETCH (UID 2 ".repeat(1 << 12), 200 << 20)),
        ("rows without end", Want::Errno, |_, _| {
            Reply::Endless(b"* 9 FETCH (UID 9 FLAGS ())\r\n* 3 EXISTS\r\n".repeat(1 << 10), 200 << 20)
        }),
        ("a body that is really 100 MB", Want::Errno, |_, _| {
            let mut body = b"* 2 FETCH (UID 2 BODY[] {100000000}\r\n".to_vec();
            body.resize(100_000_037, b'x');
            body.extend(b")\r\n");
            Reply::Send(body)
        }),
    ];
    CASES.iter().for_each(check);
}

#[test]
fn refusals_and_ends_are_errors() {
    const CASES: [Case; 8] = [
        ("NO", Want::Errno, |a, _| Reply::Send(format!("{} NO [SERVERBUG] \x1b[2J no\r\n", a.tag).into())),
        ("BAD", Want::Errno, |a, _| Reply::Send(format!("{} BAD what?\r\n", a.tag).into())),
        ("later", Want::Errno, |a, _| Reply::Send(format!("{} NO [UNAVAILABLE] later\r\n", a.tag).into())),
        ("good-bye", Want::Errno, |_, s| Reply::Close([b"* BYE enough\r\n".to_vec(), octets(&s)].concat())),
        ("hanging up", Want::Errno, |_, _| Reply::Close(Vec::new())),
        ("silence", Want::Errno, |_, _| Reply::Hang(Vec::new())),
        ("a tag that was never used", Want::Errno, |_, _| Reply::Send(b"T4711 OK done\r\n".to_vec())),
        ("more is asked for", Want::Errno, |_, s| Reply::Send([b"+ go on\r\n".to_vec(), octets(&s)].concat())),
    ];
    CASES.iter().for_each(check);
}

#[test]
fn sizes_that_are_not_true_are_seen_through_or_an_error() {
    for (size, bytes) in
        [("0", 0), ("1", 1), ("4294967296", 1 << 32), ("9223372036854775807", u64::MAX >> 1), ("99", 99)]
    {
        let server = Scripted::new(mailboxes(), move |asked, said| {
            let truth = mailboxes()["INBOX"].messages[1].bytes.len();
            match asked.command.contains("RFC822.SIZE") {
                true => with(&said, &format!("RFC822.SIZE {truth} "), &format!("RFC822.SIZE {size} ")),
                false => Reply::Send(octets(&said)),
            }
        });
        let mut mount = Mount::new(&Account::at(server.port), &["--timeout", "2"]);
        let message = mount.message("INBOX", 2);
        match timed(size, || std::fs::read(message.join("message.eml"))) {
            Ok(read) => assert!(read == server.message("INBOX", 2).unwrap(), "{size}: {} octets", read.len()),
            Err(error) => println!("{size}: {error}"),
        }
        // The parts are right, whatever is said of the whole.
        let data = std::fs::read(message.join("data.bin"));
        assert!(data.is_err() || data.is_ok_and(|data| data == scripted::message::noise(2, 3000)), "{size} {bytes}");
        assert!(mount.peak_memory() <= MEMORY, "{size}: {} kB", mount.peak_memory());
        mount.assert_quiet(&["WARN"]);
        assert!(mount.unmount());
    }
}
