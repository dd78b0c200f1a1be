//! The exact text of commands that change something, and what cannot be made part of one.

use super::super::command;
use super::super::line::Literals;
use super::super::server::Server;
use super::super::testing::{octets, uids, upload};
use super::*;
use crate::mail::flag::Flags;
use crate::mail::uid::Uid;

const EVERYTHING: [&str; 8] =
    ["CONDSTORE", "UIDPLUS", "MOVE", "MULTIAPPEND", "REPLACE", "ACL", "METADATA", "APPENDLIMIT=20000"];

fn offering(capabilities: &[&str]) -> Dialect {
    let capabilities = capabilities.iter().map(|c| c.to_string()).collect();
    Dialect::new(&Server { capabilities, ..Server::default() }, false)
}

fn mailbox(name: &str) -> MailboxName {
    MailboxName::new(name.as_bytes())
}

fn flags(flags: &[&str]) -> Vec<Box<str>> {
    flags.iter().map(|flag| (*flag).into()).collect()
}

fn store(names: &[&str]) -> Command {
    Command::Store { uids: uids("1"), set: true, flags: flags(names), unchanged_since: None }
}

fn append(messages: Vec<Upload>) -> Command {
    Command::Append { to: mailbox("Sent"), messages }
}

fn metadata(entry: &str, value: Option<&[u8]>) -> Command {
    Command::SetMetadata(mailbox("a"), entry.into(), value.map(<[u8]>::to_vec))
}

fn acl(identifier: &str, rights: Option<&str>) -> Command {
    Command::SetAcl(mailbox("a"), identifier.into(), rights.map(str::to_owned))
}

fn lines_of(command: &Command, dialect: &Dialect) -> Result<Vec<Line>> {
    command::lines(command, Some(&mailbox("Drafts")), dialect)
}

/// The one line of a command, `|` where a `+` is waited for.
fn text(command: &Command, dialect: &Dialect, literals: Literals) -> String {
    let lines = lines_of(command, dialect).unwrap();
    assert_eq!(lines.len(), 1, "{command:?}");
    let text = String::from_utf8(octets(&lines[0], literals).join(&b'|')).unwrap();
    text.strip_prefix("t1 ").unwrap().strip_suffix("\r\n").unwrap().to_owned()
}

#[test]
fn changes_are_worded_as_the_server_understands_them() {
    let message = |text: &[u8]| upload(text, &["\\Seen", "$Work"], Some(1_709_629_200));
    let stored = |set, unchanged_since| Command::Store {
        uids: uids("1:3,7"),
        set,
        flags: flags(&["\\Seen", "$Forwarded"]),
        unchanged_since,
    };
    for (command, want) in [
        (stored(true, None), r"UID STORE 1:3,7 +FLAGS (\Seen $Forwarded)"),
        (stored(false, Some(9)), r"UID STORE 1:3,7 (UNCHANGEDSINCE 9) -FLAGS (\Seen $Forwarded)"),
        (Command::Copy { uids: uids("7"), to: mailbox("a b") }, r#"UID COPY 7 "a b""#),
        (Command::Move { uids: uids("7,9"), to: mailbox("é") }, "UID MOVE 7,9 {2+}\r\né"),
        (Command::Expunge(uids("7")), "UID EXPUNGE 7"),
        (
            append(vec![message(b"one"), upload(b"two", &[], None)]),
            "APPEND \"Sent\" ($Work \\Seen) \"05-Mar-2024 09:00:00 +0000\" {3+}\r\none () {3+}\r\ntwo",
        ),
        (append(vec![upload(b"x", &[], Some(-5))]), "APPEND \"Sent\" () \"01-Jan-1970 00:00:00 +0000\" {1+}\r\nx"),
        (
            append(vec![upload(b"x", &[], Some(i64::MAX))]),
            "APPEND \"Sent\" () \"31-Dec-9999 23:59:59 +0000\" {1+}\r\nx",
        ),
        (
            Command::Replace { uid: Uid::new(4).unwrap(), message: upload(b"new", &["\\Draft"], None) },
            "UID REPLACE 4 \"Drafts\" (\\Draft) {3+}\r\nnew",
        ),
        (Command::Create(mailbox("a/b")), r#"CREATE "a/b""#),
        (Command::Delete(mailbox("a\"b\\c")), r#"DELETE "a\"b\\c""#),
        (Command::Rename(mailbox("a"), mailbox("{5+}")), r#"RENAME "a" "{5+}""#),
        (Command::Create(mailbox("%*")), r#"CREATE "%*""#),
        (Command::Subscribe(mailbox("a"), true), r#"SUBSCRIBE "a""#),
        (Command::Subscribe(mailbox("a"), false), r#"UNSUBSCRIBE "a""#),
        (acl("bob", Some("lrs0")), r#"SETACL "a" "bob" "lrs0""#),
        (acl("-b \"b", Some("")), r#"SETACL "a" "-b \"b" """#),
        (acl("bob", None), r#"DELETEACL "a" "bob""#),
        (metadata("/private/comment", Some(b"x \"y\"")), r#"SETMETADATA "a" ("/private/comment" "x \"y\"")"#),
        (metadata("/private/comment", Some(b"")), r#"SETMETADATA "a" ("/private/comment" "")"#),
        (metadata("/private/comment", None), r#"SETMETADATA "a" ("/private/comment" NIL)"#),
        (metadata("/shared/x", Some(b"a\r\n) LOGOUT")), "SETMETADATA \"a\" (\"/shared/x\" {11+}\r\na\r\n) LOGOUT)"),
        (metadata("/shared/x", Some(b"a\0b")), "SETMETADATA \"a\" (\"/shared/x\" ~{3+}\r\na\0b)"),
        (Command::Search { uids: uids("3:5"), message_id: None }, "UID SEARCH UID 3:5"),
        (
            Command::Search { uids: uids("3:5"), message_id: Some(b"<a\"b@c>".to_vec()) },
            r#"UID SEARCH UID 3:5 HEADER Message-ID "<a\"b@c>""#,
        ),
    ] {
        assert_eq!(text(&command, &offering(&EVERYTHING), Literals::All), want, "{command:?}");
    }
    let esearch = Command::Search { uids: uids("3"), message_id: None };
    assert_eq!(text(&esearch, &offering(&["ESEARCH"]), Literals::All), "UID SEARCH RETURN (ALL) UID 3");
}

#[test]
fn a_message_waits_for_the_server_unless_it_is_short_enough() {
    let dialect = Dialect { multi_append: true, ..Dialect::default() };
    let two = append(vec![upload(b"one", &[], None), upload(&[b'x'; 5000], &[], None)]);
    let long = "x".repeat(5000);
    for (literals, want) in [
        (Literals::Wait, format!("APPEND \"Sent\" () {{3}}\r\n|one () {{5000}}\r\n|{long}")),
        (Literals::Short, format!("APPEND \"Sent\" () {{3+}}\r\none () {{5000}}\r\n|{long}")),
        (Literals::All, format!("APPEND \"Sent\" () {{3+}}\r\none () {{5000+}}\r\n{long}")),
    ] {
        assert_eq!(text(&two, &dialect, literals), want);
    }
    // The server may refuse what is large before it has crossed the wire.
    let large = append(vec![upload(&vec![b'x'; (1 << 20) + 1], &[], None)]);
    assert!(text(&large, &dialect, Literals::All).starts_with("APPEND \"Sent\" () {1048577}\r\n|x"));
}

#[test]
fn nothing_typed_by_a_user_becomes_a_command_of_its_own() {
    let dialect = offering(&EVERYTHING);
    let mut commands = Vec::new();
    for name in ["", "a\r\nx LOGOUT", "a\nb", "a\rb", "a\0b", "é\r\n"] {
        commands.extend([
            Command::Create(mailbox(name)),
            Command::Delete(mailbox(name)),
            Command::Rename(mailbox(name), mailbox("b")),
            Command::Rename(mailbox("b"), mailbox(name)),
            Command::Subscribe(mailbox(name), true),
            Command::Copy { uids: uids("1"), to: mailbox(name) },
            Command::Move { uids: uids("1"), to: mailbox(name) },
            Command::Append { to: mailbox(name), messages: vec![upload(b"x", &[], None)] },
            Command::SetMetadata(mailbox(name), "/private/comment".into(), None),
            Command::SetAcl(mailbox(name), b"bob".to_vec(), None),
            acl(name, Some("l")),
        ]);
    }
    for flag in ["", "\\", "a b", "a)", "(a", "a\r\nx", "a]", "a\"", "a%", "a*", "\\*", "{3}", "\\\\Seen", "é", "\0"] {
        commands.push(store(&["\\Seen", flag]));
        if !flag.is_empty() {
            commands.push(append(vec![upload(b"x", &[flag], None)]));
        }
    }
    commands.push(store(&["\\Recent"]));
    commands.push(store(&["\\RECENT"]));
    for entry in ["", "private", "/private/", "/private//a", "/private/*", "/private/%", "/a\r\n", "/é"] {
        commands.push(metadata(entry, None));
    }
    for rights in ["l r", "l)", "l\r\n", "+l", "é", "\""] {
        commands.push(acl("bob", Some(rights)));
    }
    for id in [&b""[..], "<é@b>".as_bytes(), b"a\r\nb", b"a\0"] {
        commands.push(Command::Search { uids: uids("1"), message_id: Some(id.to_vec()) });
    }
    commands.push(append(vec![upload(b"", &[], None)]));
    for command in commands {
        let lines = lines_of(&command, &dialect);
        assert!(matches!(lines, Err(Error::Invalid(_))), "{command:?}: {lines:?}");
    }
    assert_eq!(flags(&["\\Recent"]).len(), 1);
    assert_eq!(Flags::from_wire([&b"\\Recent"[..]]).iter().count(), 0);
}

#[test]
fn what_the_server_lacks_or_nobody_should_ask_is_refused_before_it_is_sent() {
    let plain = offering(&[]);
    let one = || upload(b"x", &[], None);
    let unchanged = Command::Store { uids: uids("1"), set: true, flags: flags(&["a"]), unchanged_since: Some(1) };
    for command in [
        unchanged,
        Command::Move { uids: uids("1"), to: mailbox("b") },
        Command::Expunge(uids("1")),
        append(vec![one(), one()]),
        Command::Replace { uid: Uid::new(1).unwrap(), message: one() },
        acl("bob", None),
        metadata("/private/comment", None),
    ] {
        assert!(matches!(lines_of(&command, &plain), Err(Error::Unsupported(_))), "{command:?}");
    }
    let reader = Dialect { read_only: true, ..offering(&EVERYTHING) };
    for command in
        [store(&["a"]), store(&[]), append(vec![]), Command::Create(mailbox("a")), Command::Delete(mailbox("INBOX"))]
    {
        assert_eq!(lines_of(&command, &reader).unwrap_err(), Error::ReadOnly, "{command:?}");
    }
    for command in [Command::Delete(mailbox("inbox")), Command::Rename(mailbox("Inbox"), mailbox("b"))] {
        assert!(matches!(lines_of(&command, &plain), Err(Error::Busy(_))), "{command:?}");
    }
    let big = append(vec![upload(&[b'x'; 20_001], &[], None)]);
    assert!(matches!(lines_of(&big, &offering(&EVERYTHING)), Err(Error::TooBig(_))));
    let huge = Upload { octets: 1 << 32, ..one() };
    assert!(matches!(lines_of(&append(vec![huge]), &plain), Err(Error::TooBig(_))));
    for nothing in [store(&[]), append(vec![]), Command::Copy { uids: UidSet::new(), to: mailbox("b") }] {
        assert!(lines_of(&nothing, &plain).unwrap().is_empty());
    }
}

#[test]
fn a_long_set_goes_out_in_several_lines() {
    let many: UidSet = (1..10_000).step_by(2).filter_map(Uid::new).collect();
    let dialect = offering(&EVERYTHING);
    for command in [
        Command::Store { uids: many.clone(), set: true, flags: flags(&["a"]), unchanged_since: None },
        Command::Move { uids: many.clone(), to: mailbox("b") },
        Command::Expunge(many.clone()),
        Command::Search { uids: many.clone(), message_id: None },
    ] {
        let lines = lines_of(&command, &dialect).unwrap();
        let texts: Vec<_> = lines.iter().map(Line::printable).collect();
        assert!(texts.len() > 1 && texts.iter().all(|text| text.len() < 3600));
        let set = |text: &String| {
            text.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap().to_owned()
        };
        let sets: Vec<_> = texts.iter().map(set).collect();
        assert_eq!(UidSet::parse(sets.join(",").as_bytes()).unwrap(), many);
    }
}
