//! Mailboxes, lists and metadata that make no sense, through a real mount: what is right stays visible, what is not is
//! an errno, names are safe.

#![allow(clippy::unwrap_used)]

mod common;
mod scripted;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use common::{Account, Mount};
use scripted::{Asked, Piece, Reply, Response, Scripted, line, mailboxes, octets};

/// What the program may need at the most, kB.
const MEMORY: u64 = 96 << 10;

type Twist = fn(&Asked<'_>, Vec<Response>) -> Reply;

fn mounted(twist: Twist) -> (Scripted, Mount) {
    let server = Scripted::new(mailboxes(), twist);
    let mount = Mount::new(&Account::at(server.port), &["--read-only", "--timeout", "2"]);
    (server, mount)
}

/// Names in a directory.
fn names(mount: &Mount, path: &str) -> std::io::Result<Vec<String>> {
    std::fs::read_dir(mount.join(path))?.map(|entry| Ok(entry?.file_name().into_string().unwrap())).collect()
}

/// The answer with more rows in front of its end.
fn more(mut said: Vec<Response>, rows: &[&str]) -> Reply {
    let last = said.len() - 1;
    said.splice(last..last, rows.iter().map(|row| line(*row)));
    Reply::Send(octets(&said))
}

/// The answer to commands that begin like this with one text in the place of another.
fn with(asked: &Asked<'_>, said: Vec<Response>, command: &str, from: &str, to: &str) -> Reply {
    if !asked.command.starts_with(command) {
        return Reply::Send(octets(&said));
    }
    let swap = |piece: Piece| match piece {
        Piece::Text(octets) => Piece::Text(String::from_utf8_lossy(&octets).replace(from, to).into_bytes()),
        literal => literal,
    };
    let said: Vec<Response> = said.into_iter().map(|response| response.into_iter().map(swap).collect()).collect();
    Reply::Send(octets(&said))
}

fn end(mut mount: Mount, name: &str) {
    assert!(mount.is_mounted() && !mount.ended(), "{name}");
    assert!(mount.peak_memory() <= MEMORY, "{name}: {} kB", mount.peak_memory());
    assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new(), "{name}");
    assert!(!mount.log().contains('\x1b'), "{name}: {}", mount.log());
    assert!(mount.unmount(), "{name}");
}

#[test]
fn names_of_mailboxes_are_one_safe_component_each_and_hide_no_other() {
    let (_server, mount) = mounted(|asked, said| match asked.command.starts_with("LIST") {
        true => more(
            said,
            &[
                r#"* LIST () "/" """#,
                r#"* LIST () "/" ".""#,
                r#"* LIST () "/" "..""#,
                r#"* LIST () "/" "../../x""#,
                r#"* LIST () "/" "/""#,
                r#"* LIST () "/" "a//b""#,
                r#"* LIST () "/" "/etc/passwd""#,
                r#"* LIST () "." "x/y.z""#,
                r#"* LIST () NIL "no/levels""#,
                r#"* LIST () "\\" "a\\b""#,
                r#"* LIST () "%" "50%off""#,
                r#"* LIST () "//" "two//""#,
                r#"* LIST (\Noselect \NonExistent) "/" "gone""#,
                r#"* LIST () "/" "&AC8-""#,
                r#"* LIST () "/" "&""#,
                r#"* LIST () "/" "&-&""#,
                r#"* LIST () "/" "&2D3-lone""#,
                r#"* LIST () "/" "-rf""#,
                r#"* LIST () "/" ".eml""#,
                r#"* LIST () "/" ".imapfs""#,
                r#"* LIST () "/" "inbox""#,
                r#"* LIST () "/" "Inbox""#,
                r#"* LIST () "/" INBOX"#,
                "* LIST () \"/\" \"esc\x1b[2J\"",
                "* LIST () \"/\" {7}\r\nl\nf\0\x07xy",
                "* LIST () \"/\" \"caf\u{e9}\"",
                "* LIST () \"/\" \"cafe\u{301}\"",
                "* LIST () \"/\" \"\u{202e}fdp\"",
                "* LIST () \"/\"",
                "* LIST",
                "* LIST (((((",
            ],
        ),
        false => Reply::Send(octets(&said)),
    });
    let listed = names(&mount, "").unwrap();
    let distinct: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len(), "{listed:?}");
    for name in &listed {
        assert!(!name.is_empty() && name != "." && name != ".." && name.len() <= 255, "{name:?}");
        assert!(!name.chars().any(char::is_control), "{name:?}");
        // Each name that is listed answers when it is named, as the directory it is.
        assert!(mount.join(name).symlink_metadata().unwrap().is_dir(), "{name:?}");
        // Whatever it is, it can be looked into or says why not.
        let _ = names(&mount, name);
    }
    assert!(listed.iter().filter(|name| name.eq_ignore_ascii_case("inbox")).count() == 1, "{listed:?}");
    assert!(listed.len() > 20, "{listed:?}");
    assert_eq!(names(&mount, "Other").unwrap().len(), 1);
    end(mount, "names");
}

#[test]
fn lists_that_are_too_long_for_anybody_are_bounded() {
    let (_server, mount) = mounted(|asked, said| {
        if !asked.command.starts_with("LIST") {
            return Reply::Send(octets(&said));
        }
        let mut text = Vec::new();
        for number in 0..20_000 {
            text.extend(format!("* LIST (\\HasNoChildren) \"/\" \"box{number}\"\r\n").bytes());
        }
        text.extend(format!("* LIST () \"/\" \"{}\"\r\n", "x".repeat(65536)).bytes());
        text.extend(format!("* LIST () \"/\" \"{}\"\r\n", "d/".repeat(5000)).bytes());
        text.extend(octets(&said));
        Reply::Send(text)
    });
    let listed = names(&mount, "").unwrap();
    assert!(listed.len() >= 20_002, "{}", listed.len());
    assert_eq!(names(&mount, "Other").unwrap().len(), 1);
    end(mount, "lists");
}

#[test]
fn metadata_that_makes_no_sense_hides_no_other_message() {
    const CASES: [(&str, Twist); 16] = [
        ("UID 0", |a, s| with(a, s, "UID FETCH", "UID 2 ", "UID 0 ")),
        ("a UID over 2^32", |a, s| with(a, s, "UID FETCH", "UID 2 ", "UID 4294967297 ")),
        ("the same UID twice", |a, s| with(a, s, "UID FETCH", "UID 2 ", "UID 1 ")),
        ("no INTERNALDATE", |a, s| {
            with(a, s, "UID FETCH", "INTERNALDATE \"21-Nov-2026 09:05:00 +0000\"", "INTERNALDATE NIL")
        }),
        ("a long date", |a, s| with(a, s, "UID FETCH", "21-Nov-2026", &"9".repeat(5000))),
        ("31 February", |a, s| with(a, s, "UID FETCH", "21-Nov-2026 09:05:00 +0000", "31-Feb-9999 99:99:99 +9999")),
        ("year 0", |a, s| with(a, s, "UID FETCH", "21-Nov-2026", "01-Jan-0000")),
        ("no ENVELOPE", |a, s| with(a, s, "UID FETCH", "ENVELOPE (", "ENVELOPE NIL X (")),
        ("no SIZE", |a, s| with(a, s, "UID FETCH", "RFC822.SIZE", "X-SIZE")),
        ("10,000 keywords", |a, s| with(a, s, "UID FETCH", "FLAGS ()", &format!("FLAGS ({})", "key ".repeat(10_000)))),
        ("odd flags", |a, s| with(a, s, "UID FETCH", "FLAGS ()", "FLAGS (\\* \\ \"a b\" ] \\Seen\\Seen)")),
        ("expunges of nothing", |a, s| match a.command.starts_with("UID FETCH") {
            true => {
                more(s, &["* 0 EXPUNGE", "* 4294967295 EXPUNGE", "* 3 EXISTS", "* 4294967296 EXISTS", "* 99 RECENT"])
            }
            false => Reply::Send(octets(&s)),
        }),
        ("more messages than there are", |a, s| with(a, s, "EXAMINE", "3 EXISTS", "30 EXISTS")),
        ("fewer messages than there are", |a, s| with(a, s, "EXAMINE", "3 EXISTS", "1 EXISTS")),
        ("UIDNEXT below the UIDs", |a, s| with(a, s, "EXAMINE", "UIDNEXT 6", "UIDNEXT 2")),
        ("no UIDVALIDITY", |a, s| with(a, s, "EXAMINE", "UIDVALIDITY", "X-VALIDITY")),
    ];
    for (name, twist) in CASES {
        let (server, mount) = mounted(twist);
        let started = Instant::now();
        let listed = match names(&mount, "INBOX") {
            // Nothing can be said of any message: an error, not an empty mailbox.
            Err(error) if name == "no SIZE" => {
                assert_eq!(error.raw_os_error(), Some(5), "{name}: {error}");
                continue;
            }
            listed => listed.unwrap_or_else(|error| panic!("{name}: {error}")),
        };
        let distinct: BTreeSet<&String> = listed.iter().collect();
        assert_eq!(distinct.len(), listed.len(), "{name}: {listed:?}");
        // Those that can be told apart can be read, and are who they say they are.
        let mut readable = 0;
        for entry in &listed {
            let uid: u32 = entry.rsplit('.').next().unwrap().parse().unwrap();
            let path = mount.join("INBOX").join(entry);
            assert!(path.metadata().unwrap().mtime() >= -(1 << 40), "{name}");
            if let Ok(read) = std::fs::read(path.join("message.eml")) {
                assert!(Some(read.as_slice()) == server.message("INBOX", uid), "{name}: {entry}");
                readable += 1;
            }
        }
        println!("{name}: {readable} of {} in {:?}", listed.len(), started.elapsed());
        assert!(readable >= 1 || name == "no SIZE", "{name}: {listed:?}");
        assert!(started.elapsed() < Duration::from_secs(8), "{name}");
        end(mount, name);
    }
}

#[test]
fn a_status_that_lies_is_not_believed() {
    for to in ["MESSAGES 0", "MESSAGES 4294967296", "MESSAGES 18446744073709551616", "MESSAGES -1", "X 3"] {
        let server = Scripted::new(mailboxes(), move |asked, said| with(asked, said, "STATUS", "MESSAGES 3", to));
        let mount = Mount::new(&Account::at(server.port), &["--read-only", "--timeout", "2"]);
        for _ in 0..2 {
            assert_eq!(names(&mount, "INBOX").unwrap().len(), 3, "{to}");
        }
        assert!(std::fs::read(mount.message("INBOX", 1).join("body.txt")).is_ok(), "{to}");
        end(mount, to);
    }
}

#[test]
fn a_refusal_of_any_command_is_an_errno_of_what_needs_it() {
    for verb in ["NAMESPACE", "STATUS", "EXAMINE \"Other\"", "UID SEARCH", "UID FETCH 1 (UID BODYSTRUCTURE"] {
        for status in ["NO [UNAVAILABLE]", "NO [INUSE]", "NO [LIMIT]", "NO [CONTACTADMIN]", "BAD"] {
            let server = Scripted::new(mailboxes(), move |asked, said| match asked.command.starts_with(verb) {
                true => Reply::Send(format!("{} {status} no\x1b[2J\r\n", asked.tag).into_bytes()),
                false => Reply::Send(octets(&said)),
            });
            let mount = Mount::new(&Account::at(server.port), &["--read-only", "--timeout", "2", "--connections", "2"]);
            let (inbox, other) = (names(&mount, "INBOX"), names(&mount, "Other"));
            assert_eq!(inbox.unwrap().len(), 3, "{verb} {status}");
            assert_eq!(other.is_ok(), verb != "EXAMINE \"Other\"", "{verb} {status}");
            let raw = std::fs::read(mount.message("INBOX", 1).join("message.eml"));
            assert!(raw.unwrap() == server.message("INBOX", 1).unwrap(), "{verb} {status}");
            let text = std::fs::read(mount.message("INBOX", 1).join("body.txt"));
            assert_eq!(text.is_ok(), !verb.contains("BODYSTRUCTURE"), "{verb} {status}");
            assert!(server.connections() <= 6, "{verb} {status}: {} connections", server.connections());
            end(mount, verb);
        }
    }
}
