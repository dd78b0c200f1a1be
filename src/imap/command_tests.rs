//! The exact text of commands, and what cannot be made part of one.

use super::super::testing::octets;
use super::*;
use crate::mail::section::Section;

fn offering(capabilities: &[&str]) -> Dialect {
    let capabilities = capabilities.iter().map(|c| c.to_string()).collect();
    Dialect::new(&Server { capabilities, ..Server::default() }, false)
}

/// The lines of a command as one text each, all literals at once.
fn text(command: &Command, dialect: &Dialect) -> Vec<String> {
    let name = MailboxName::new(b"INBOX");
    let lines = lines(command, Some(&name), dialect).unwrap();
    let encode = |line: &Line| octets(line, Literals::All).concat().escape_ascii().to_string();
    lines.iter().map(encode).map(|line| line.trim_start_matches("t1 ").trim_end_matches("\\r\\n").to_string()).collect()
}

fn everything() -> Vec<FetchItem> {
    let part = |offset, count| FetchItem::Body(Section::part(&[2, 1]), Some((offset, count)));
    use FetchItem::*;
    vec![
        Flags,
        InternalDate,
        Size,
        Envelope,
        BodyStructure,
        ModSeq,
        ObjectId,
        Body(Section::message(), None),
        part(65536, 4096),
    ]
}

#[test]
fn commands_are_worded_as_the_server_understands_them() {
    let plain = offering(&[]);
    let rich = offering(&["CONDSTORE", "ESEARCH", "LIST-EXTENDED", "SPECIAL-USE", "OBJECTID", "LITERAL+"]);
    let name = || MailboxName::new(b"a \"b\"\\c");
    let fetch = |items, changed_since| Command::Fetch { uids: UidSet::parse(b"1:3,7").unwrap(), items, changed_since };
    let cases: [(Command, &Dialect, &[&str]); 18] = [
        (Command::Noop, &plain, &["NOOP"]),
        (Command::List, &plain, &[r#"LIST "" "*""#, r#"LSUB "" "*""#]),
        (Command::List, &rich, &[r#"LIST "" "*" RETURN (SUBSCRIBED CHILDREN SPECIAL-USE)"#]),
        (Command::List, &offering(&["LIST-EXTENDED"]), &[r#"LIST "" "*" RETURN (SUBSCRIBED CHILDREN)"#]),
        (Command::List, &offering(&["IMAP4REV2"]), &[r#"LIST "" "*" RETURN (SUBSCRIBED CHILDREN SPECIAL-USE)"#]),
        (Command::Select, &plain, &[r#"SELECT "INBOX""#]),
        (Command::Select, &rich, &[r#"SELECT "INBOX" (CONDSTORE)"#]),
        (Command::Select, &Dialect { read_only: true, ..rich.clone() }, &[r#"EXAMINE "INBOX" (CONDSTORE)"#]),
        (Command::Status(name()), &plain, &[r#"STATUS "a \"b\"\\c" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"#]),
        (
            Command::Status(MailboxName::new("é".as_bytes())),
            &rich,
            &["STATUS {2+}\r\né (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)"],
        ),
        (fetch(vec![], None), &plain, &["UID FETCH 1:3,7 (UID)"]),
        (
            fetch(everything(), Some(9)),
            &rich,
            &["UID FETCH 1:3,7 (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE MODSEQ EMAILID THREADID \
               BODY.PEEK[] BODY.PEEK[2.1]<65536.4096>) (CHANGEDSINCE 9)"],
        ),
        (
            fetch(vec![FetchItem::ModSeq, FetchItem::ObjectId, FetchItem::Flags], None),
            &plain,
            &["UID FETCH 1:3,7 (UID FLAGS)"],
        ),
        (Command::SearchAll, &plain, &["UID SEARCH ALL"]),
        (Command::SearchAll, &rich, &["UID SEARCH RETURN (ALL) ALL"]),
        (Command::QuotaRoot(name()), &plain, &[r#"GETQUOTAROOT "a \"b\"\\c""#]),
        (Command::MyRights(name()), &plain, &[r#"MYRIGHTS "a \"b\"\\c""#]),
        (Command::GetMetadata(name()), &plain, &[r#"GETMETADATA (DEPTH infinity) "a \"b\"\\c" (/private /shared)"#]),
    ];
    for (command, dialect, want) in cases {
        let want: Vec<_> = want.iter().map(|line| line.as_bytes().escape_ascii().to_string()).collect();
        assert_eq!(text(&command, dialect), want, "{command:?}");
    }
}

#[test]
fn the_namespaces_that_a_plain_list_may_leave_out_are_asked_for() {
    let prefix = |text: &str| (text.as_bytes().to_vec(), Some(b'/'));
    let namespaces =
        [vec![prefix(""), prefix("INBOX."), prefix("#mh/")], vec![prefix("user/")], vec![prefix(""), prefix("a\"b/")]];
    let dialect = Dialect::new(&Server { namespaces, ..Server::default() }, false);
    let lists: Vec<_> = text(&Command::List, &dialect).into_iter().filter(|line| line.starts_with("LIST")).collect();
    assert_eq!(
        lists.join("\n").replace("\\\"", "\"").replace("\\\\", "\\"),
        "LIST \"\" \"*\"\nLIST \"\" \"#mh/*\"\nLIST \"\" \"user/*\"\nLIST \"\" \"a\\\"b/*\""
    );
}

#[test]
fn nothing_typed_by_a_user_becomes_a_command_of_its_own() {
    for name in ["a\r\nx LOGOUT", "a\nb", "a\rb", "a\0b", "\r", "é\r\n"] {
        for command in
            [Command::Status(MailboxName::new(name.as_bytes())), Command::GetAcl(MailboxName::new(name.as_bytes()))]
        {
            assert!(matches!(lines(&command, None, &offering(&[])), Err(Error::Invalid(_))), "{name:?}");
        }
        assert!(select(&MailboxName::new(name.as_bytes()), None, &offering(&[])).is_err());
    }
}

#[test]
fn a_range_that_servers_stumble_over_is_never_sent() {
    let ranged = |offset, count| {
        let items = vec![FetchItem::Body(Section::message(), Some((offset, count)))];
        lines(&Command::Fetch { uids: UidSet::range(1, 1), items, changed_since: None }, None, &offering(&[]))
    };
    assert!(ranged(0, 0).is_err() && ranged(7, 1 << 31).is_err() && ranged(7, u32::MAX).is_err());
    assert!(ranged(u64::MAX, 1).is_ok() && ranged(0, (1 << 31) - 1).is_ok());
    let since = Command::Fetch { uids: UidSet::range(1, 1), items: vec![], changed_since: Some(1) };
    assert!(matches!(lines(&since, None, &offering(&[])), Err(Error::Unsupported(_))));
}

#[test]
fn a_long_set_goes_out_in_several_lines_and_an_empty_one_in_none() {
    let uids: UidSet = (1..100_000).step_by(2).filter_map(crate::mail::uid::Uid::new).collect();
    let fetch = |uids: &UidSet| {
        text(&Command::Fetch { uids: uids.clone(), items: vec![], changed_since: None }, &offering(&[]))
    };
    let lines = fetch(&uids);
    assert!(lines.iter().all(|line| line.len() < 3600));
    let sets: Vec<_> = lines.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(UidSet::parse(sets.join(",").as_bytes()).unwrap(), uids);
    assert_eq!(fetch(&UidSet::new()), [""; 0]);
}

#[test]
fn a_literal_waits_for_the_server_unless_it_said_otherwise() {
    let line = Line::new("X").string("é".as_bytes()).unwrap().text(" y").string("ö".as_bytes()).unwrap();
    let long = Line::new("X").string("é".repeat(3000).as_bytes()).unwrap();
    let chunks = |line: &Line, literals| line.encode("t1", literals).len();
    let text = |line: &Line, literals| octets(line, literals).into_iter().map(|o| String::from_utf8(o).unwrap());
    assert!(text(&line, Literals::Wait).eq(["t1 X {2}\r\n", "é y {2}\r\n", "ö\r\n"]));
    assert!(text(&line, Literals::All).eq(["t1 X {2+}\r\né y {2+}\r\nö\r\n"]));
    assert_eq!(
        [chunks(&line, Literals::Short), chunks(&long, Literals::Short), chunks(&long, Literals::All)],
        [1, 2, 1]
    );
    assert_eq!(line.printable(), "X {2}… y {2}…");
    for (capabilities, want) in [
        (&["LITERAL+", "LITERAL-"][..], Literals::All),
        (&["LITERAL-"], Literals::Short),
        (&["IMAP4REV2"], Literals::Short),
        (&["IMAP4REV1"], Literals::Wait),
    ] {
        assert_eq!(offering(capabilities).literals, want);
    }
}
