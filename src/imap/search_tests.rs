//! The exact text of searches, what is left to judge, and what cannot be made part of a search.

use proptest::prelude::*;

use super::super::command::{Dialect, lines};
use super::super::line::Literals;
use super::super::request::Command;
use super::super::testing::octets;
use super::*;
use crate::mail::query::parse;

/// 2026-11-21T09:05:59Z
const NOW: i64 = 1_795_251_959;

fn offering(capabilities: &[&str]) -> Server {
    Server { capabilities: capabilities.iter().map(|c| c.to_string()).collect(), ..Server::default() }
}

fn text(keys: &Keys) -> String {
    let line = octets(&line(keys, false).unwrap(), Literals::All).concat();
    let line = String::from_utf8(line).unwrap();
    line.strip_prefix("t1 UID SEARCH ").unwrap().strip_suffix("\r\n").unwrap().to_owned()
}

fn planned(query: &str, capabilities: &[&str]) -> Result<Plan> {
    plan(&parse(query).unwrap(), &offering(capabilities), NOW)
}

#[test]
fn what_the_server_can_judge_is_asked_in_one_search() {
    let cases = [
        ("hello", r#"TEXT "hello""#),
        ("from:a to:b cc:c bcc:d subject:e body:f", r#"FROM "a" TO "b" CC "c" BCC "d" SUBJECT "e" BODY "f""#),
        ("a -b", r#"TEXT "a" NOT TEXT "b""#),
        ("-(a b)", r#"NOT (TEXT "a" TEXT "b")"#),
        ("a OR (b c)", r#"OR TEXT "a" (TEXT "b" TEXT "c")"#),
        ("a OR b OR c OR d", r#"OR OR TEXT "a" TEXT "b" OR TEXT "c" TEXT "d""#),
        ("is:unread is:read is:flagged is:answered is:draft is:deleted", "UNSEEN SEEN FLAGGED ANSWERED DRAFT DELETED"),
        ("tag:$Forwarded larger:2K smaller:3K uid:1:5,9", "KEYWORD $Forwarded LARGER 2048 SMALLER 3072 UID 1:5,9"),
        ("header:List-Id=rust header:X-Y", r#"HEADER "List-Id" "rust" HEADER "X-Y" """#),
        ("*", "ALL"),
        ("imap:\"OR SEEN FLAGGED\" a", r#"(OR SEEN FLAGGED) TEXT "a""#),
        ("-imap:\"SEEN FLAGGED\"", "NOT (SEEN FLAGGED)"),
        ("\"a \\\"b\\\\\"", r#"TEXT "a \"b\\""#),
        ("Grüße", "CHARSET UTF-8 TEXT {7+}\r\nGrüße"),
    ];
    for (query, expected) in cases {
        let plan = planned(query, &[]).unwrap();
        assert_eq!(text(&plan.keys.unwrap()), expected, "{query}");
        assert_eq!((plan.more, plan.rest), (Vec::new(), None), "{query}");
    }
    let within = planned("newer:7d older:1h", &["WITHIN"]).unwrap();
    assert_eq!((text(&within.keys.unwrap()), within.rest), ("YOUNGER 604800 OLDER 3600".into(), None));
    let gmail = planned("gmail:\"has:drive x\"", &["X-GM-EXT-1"]).unwrap();
    assert_eq!(text(&gmail.keys.unwrap()), r#"X-GM-RAW "has:drive x""#);
}

#[test]
fn what_it_cannot_judge_is_left_and_asked_for_widely() {
    // The search, the searches besides it, and what is left.
    let cases: [(&str, Option<&str>, &[&str], &str); 14] = [
        ("has:attachment", Some("ALL"), &[], "has:attachment"),
        ("-has:attachment a", Some("TEXT \"a\""), &[], "-has:attachment"),
        (
            "a has:attachment (type:image OR filename:x)",
            Some("TEXT \"a\""),
            &[],
            "has:attachment (type:image/* OR filename:x)",
        ),
        ("a OR has:attachment", Some("ALL"), &["TEXT \"a\""], "0 OR has:attachment"),
        ("(a OR has:attachment) b", Some("TEXT \"b\""), &["TEXT \"a\""], "0 OR has:attachment"),
        ("-(a b has:attachment)", Some("ALL"), &["TEXT \"a\"", "TEXT \"b\""], "-(0 1 has:attachment)"),
        ("since:2026-11-21", Some("SINCE 20-Nov-2026"), &[], "since:2026-11-21"),
        ("-since:2026-11-21", Some("NOT SINCE 22-Nov-2026"), &[], "-since:2026-11-21"),
        ("before:2026-03-01", Some("BEFORE 2-Mar-2026"), &[], "before:2026-03-01"),
        ("on:2026-03-01", Some("SINCE 28-Feb-2026 BEFORE 3-Mar-2026"), &[], "on:2026-03-01"),
        ("-on:2026-03-01", Some("ALL"), &[], "-on:2026-03-01"),
        ("newer:1d", Some("SINCE 19-Nov-2026"), &[], "newer:1d"),
        ("older:1d -older:2d", Some("BEFORE 22-Nov-2026 NOT BEFORE 18-Nov-2026"), &[], "older:1d -older:2d"),
        ("larger:5G", Some("ALL"), &[], "larger:5G"),
    ];
    for (query, keys, more, left) in cases {
        let plan = planned(query, &[]).unwrap();
        assert_eq!(plan.keys.as_ref().map(text).as_deref(), keys, "{query}");
        assert_eq!(plan.more.iter().map(text).collect::<Vec<_>>(), more, "{query}");
        assert_eq!(plan.rest.as_ref().map(shown).unwrap(), left, "{query}");
    }
}

/// What is left as a query, the answers of the server by number.
fn shown(rest: &Tree<Left>) -> String {
    fn query(rest: &Tree<Left>) -> Query {
        match rest {
            Tree::Term(Left::Here(term)) => Tree::Term(term.clone()),
            Tree::Term(Left::There(n)) => Tree::Term(Term::Text(Field::Anywhere, n.to_string().into())),
            Tree::Not(tree) => Tree::Not(Box::new(query(tree))),
            Tree::And(trees) => Tree::And(trees.iter().map(query).collect()),
            Tree::Or(trees) => Tree::Or(trees.iter().map(query).collect()),
        }
    }
    query(rest).to_string()
}

#[test]
fn raw_keys_are_search_keys_and_nothing_else() {
    for raw in ["SEEN", "OR SEEN (FLAGGED DRAFT)", "HEADER X \") \\\" (\"", "MODSEQ 5"] {
        assert_eq!(check_raw(raw), Ok(()), "{raw}");
    }
    for raw in [
        "",
        " ",
        "SEEN) (",
        "SEEN)",
        "(SEEN",
        "\"SEEN",
        "SEEN\r\nA1 LOGOUT",
        "TEXT {5+}\r\nhello",
        "TEXT {5}",
        "TEXT ~{5}",
        "caf\u{e9}",
        "SEEN\0",
        "SUBJECT \"a\\\"",
        "SEEN\x7f",
    ] {
        assert!(check_raw(raw).is_err(), "{raw:?}");
        assert!(matches!(plan(&Tree::Term(Term::Imap(raw.into())), &Server::default(), NOW), Err(Error::Invalid(_))));
    }
    assert!(matches!(planned("gmail:x", &[]), Err(Error::Unsupported(_))));
    for term in [
        Term::Text(Field::From, "a\r\nb".into()),
        Term::Header("a\nb".into(), "x".into()),
        Term::Tag("a)".into()),
        Term::Tag("\\Seen".into()),
    ] {
        assert!(matches!(plan(&Tree::Term(term), &Server::default(), NOW), Err(Error::Invalid(_))));
    }
}

/// Reads a command line as a server does: literals, quoted strings, parentheses. The end of the command must be the end
/// of the octets.
fn is_one_command(mut octets: &[u8]) -> bool {
    let mut depth = 0i32;
    while let [byte, rest @ ..] = octets {
        octets = rest;
        match byte {
            b'"' => loop {
                match octets {
                    [b'\\', b'"' | b'\\', rest @ ..] => octets = rest,
                    [b'"', rest @ ..] => {
                        octets = rest;
                        break;
                    }
                    [b'\\' | b'\r' | b'\n' | 0, ..] | [] => return false,
                    [_, rest @ ..] => octets = rest,
                }
            },
            b'{' => {
                let Some(end) = octets.windows(4).position(|w| w == b"+}\r\n") else { return false };
                let Ok(length) = String::from_utf8_lossy(&octets[..end]).parse::<usize>() else { return false };
                let Some(rest) = octets.get(end + 4 + length..) else { return false };
                octets = rest;
            }
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'\r' => return depth == 0 && octets == b"\n",
            b'\n' | 0 | 0x80.. => return false,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    false
}

proptest! {
    #[test]
    fn no_query_is_more_than_one_search(text in "\\PC{0,40}|[a-zA-Z:()\"\\\\{}+ \\r\\n=*%é-]{0,40}", raw in "[ -~\\r\\n]{0,20}") {
        let raw = Tree::Term(Term::Imap(raw.into()));
        for query in parse(&text).into_iter().chain([raw]) {
            let Ok(plan) = plan(&query, &offering(&["X-GM-EXT-1"]), NOW) else { continue };
            for keys in plan.keys.into_iter().chain(plan.more) {
                for line in lines(&Command::Query(keys), None, &Dialect::default()).unwrap() {
                    let octets = octets(&line, Literals::All).concat();
                    prop_assert!(octets.starts_with(b"t1 UID SEARCH "));
                    prop_assert!(is_one_command(&octets), "{}", octets.escape_ascii());
                }
            }
        }
    }
}
