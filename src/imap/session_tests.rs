//! Sessions against servers that answer out of order, wrongly, slowly, too much, or not to the end.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::super::request::{Answer, Command, Done, FetchItem, Target};
use super::super::response::{Code, Data};
use super::super::server::Server;
use super::super::testing::{collect, fetch, mailbox, play, selected, session, session_of};
use super::*;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::section::Section;

type Outcome = (Vec<Data>, Option<Result<Done>>);

fn body(range: Option<(u64, u32)>) -> FetchItem {
    FetchItem::Body(Section::part(&[1]), range)
}

/// What a FETCH of UID 2, body of part 1 from 10 with 5 octets, makes of the server's lines; `$` is the tag.
async fn answered(lines: &str, limit: u64) -> Outcome {
    let mut harness = session();
    let answer = lines.to_owned();
    harness.serve(move |tag, command| match command.split(' ').next() {
        Some("SELECT") => selected(tag),
        _ => answer.replace('$', tag),
    });
    let command = fetch(&[2], &[FetchItem::Flags, body(Some((10, 5)))]);
    let outcome = collect(harness.send(mailbox("INBOX", 9), command, limit)).await;
    drop(harness.jobs);
    let end = timeout(Duration::from_secs(400), harness.end).await.unwrap().unwrap();
    // What may be sent again still waits for its answer.
    if let (_, None) = outcome {
        assert!(end.is_some(), "{lines:?}");
    }
    outcome
}

fn bodies(rows: &[Data]) -> Vec<String> {
    let rows = rows.iter().filter_map(|r| if let Data::Fetch(row) = r { Some(row) } else { None });
    let text = |data: &Option<bytes::Bytes>| {
        data.as_ref().map_or("NIL".to_owned(), |d| String::from_utf8_lossy(d).into_owned())
    };
    rows.flat_map(|r| r.bodies.iter().map(move |b| format!("{} {}", r.uid.unwrap(), text(&b.data)))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_row_reaches_the_fetch_that_asked_for_exactly_that() {
    for (lines, want) in [
        ("* 1 FETCH (UID 2 BODY[1]<10> {5}\r\nhello)\r\n", "2 hello"),
        ("* 1 FETCH (BODY[1]<10> \"hello\" UID 2)\r\n", "2 hello"),
        ("* 1 FETCH (UID 2 BODY[1]<10> NIL)\r\n", "2 NIL"),
        ("* 1 FETCH (UID 3 BODY[1]<10> \"hello\")\r\n", ""),
        ("* 1 FETCH (BODY[1]<10> \"hello\")\r\n", ""),
        ("* 1 FETCH (UID 2 BODY[2]<10> \"hello\")\r\n", ""),
        ("* 1 FETCH (UID 2 BODY[1]<11> \"hello\")\r\n", ""),
        ("* 1 FETCH (UID 2 BODY[1] \"hello\")\r\n", ""),
        ("* 1 FETCH (UID 2 BODY[1]<10> \"hello and more\")\r\n", ""),
        ("* 1 FETCH (UID 2 BODY[1]<10> \"a\")\r\n* 1 FETCH (UID 2 BODY[1]<10> \"b\")\r\n", "2 a"),
        (
            "* 1 FETCH (UID 7 FLAGS ())\r\n* 5 EXISTS\r\n* 1 FETCH (UID 2 BODY[1]<10> \"hello\")\r\n* WHAT\r\n",
            "2 hello",
        ),
        ("", ""),
    ] {
        let (rows, done) = answered(&format!("{lines}$ OK done\r\n"), 1 << 20).await;
        assert_eq!(bodies(&rows).join(","), want, "{lines}");
        assert_eq!(done.unwrap().unwrap().selected.unwrap().uid_validity.unwrap().0, 9, "{lines}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_an_ok_is_an_error() {
    for (lines, want) in [
        ("$ NO [EXPUNGEISSUED] gone\r\n", "Stale"),
        ("$ NO [NOPERM] no\r\n", "Denied"),
        ("$ NO [NONEXISTENT] no\r\n", "NotFound"),
        ("$ NO [ALREADYEXISTS] no\r\n", "Exists"),
        ("$ NO [OVERQUOTA] no\r\n", "Quota"),
        ("$ NO [LIMIT] no\r\n", "TooBig"),
        ("$ NO [INUSE] no\r\n", "Busy"),
        ("$ NO [UNAVAILABLE] no\r\n", "Busy"),
        ("$ NO no\r\n", "Protocol"),
        ("$ BAD no\r\n", "Protocol"),
        ("* OK [UIDVALIDITY 10] new\r\n* 1 FETCH (UID 2 BODY[1]<10> \"hello\")\r\n$ OK\r\n", "Stale"),
        ("$X OK done\r\n", "Protocol"),
        ("T999 OK done\r\n", "Protocol"),
        ("+ go on\r\n", "Protocol"),
        ("* 1 FETCH (UID 2 BODY[1]<10> {99999999999999999999999}\r\n", "Protocol"),
        ("* 1 FETCH (UID 2 BODY[1]<10> {500000000}\r\n", "TimedOut"),
        ("* 1 FETCH (UID 2 BODY[1]<10> {2000000}\r\n", "TimedOut"),
        ("", "TimedOut"),
        ("* 1 FETCH (UID 2 FLAGS () RFC822.SIZE 5)\r\nclose", "Offline"),
    ] {
        let (rows, done) = answered(lines, 1 << 20).await;
        let error = done.unwrap().unwrap_err();
        assert!(format!("{error:?}").starts_with(want), "{lines}: {error:?}");
        assert!(bodies(&rows).is_empty(), "{lines}");
    }
    // Nothing was seen: these may be sent again elsewhere, so they have no end yet.
    for lines in
        ["close", "* BYE gone\r\n", "* BYE [UNAVAILABLE] too many\r\n", "* 1 FETCH (UID 2 BODY[1]<10> {5}\r\nhelclose"]
    {
        let (rows, done) = answered(lines, 1 << 20).await;
        assert!(rows.is_empty() && done.is_none(), "{lines}");
    }
}

/// News of flags that comes before the answer is news, and the answer keeps its own flags.
#[tokio::test(start_paused = true)]
async fn flags_that_were_not_asked_for_are_no_part_of_an_answer() {
    let lines =
        "* 1 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (8))\r\n* 1 FETCH (UID 2 FLAGS (\\Draft) BODY[1]<10> \"hello\")\r\n";
    let (rows, done) = answered(&format!("{lines}$ OK done\r\n"), 1 << 20).await;
    assert!(done.unwrap().is_ok());
    let flags: Vec<String> = rows
        .iter()
        .filter_map(|row| if let Data::Fetch(row) = row { row.flags.as_ref().map(ToString::to_string) } else { None })
        .collect();
    assert_eq!((flags, bodies(&rows)), (vec!["\\Draft".to_owned()], vec!["2 hello".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn more_than_the_limit_is_thrown_away() {
    let huge = "x".repeat(300_000);
    for lines in [
        format!("* 1 FETCH (UID 2 BODY[1]<10> {{{}}}\r\n{huge})\r\n$ OK done\r\n", huge.len()),
        format!("* 1 FETCH (UID 2 FLAGS ({}) RFC822.SIZE 5)\r\n$ OK done\r\n", &huge[..1500]),
    ] {
        let (rows, done) = answered(&lines, 1000).await;
        assert!(rows.is_empty() && matches!(done, Some(Err(Error::TooBig(_)))), "{done:?}");
    }
    let flood =
        "* 1 FETCH (UID 2 FLAGS (\\Seen) RFC822.SIZE 5)\r\n".repeat(1000) + &format!("* X {huge}\r\n").repeat(60);
    let (rows, done) = answered(&flood, 1 << 20).await;
    assert!(rows.len() == 1 && matches!(done, Some(Err(Error::Protocol(_)))), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn commands_are_piped_and_answered_in_any_order_but_never_around_a_select() {
    let mut harness = session();
    let mut server = harness.server.take().unwrap();
    let one = harness.send(mailbox("INBOX", 9), fetch(&[1], &[body(None)]), 1000);
    let two = harness.send(mailbox("INBOX", 9), fetch(&[1, 2], &[body(None)]), 1000);
    let other = harness.send(mailbox("Sent", None), fetch(&[1], &[body(None)]), 1000);
    let back = harness.send(mailbox("INBOX", 8), fetch(&[1], &[body(None)]), 1000);
    let hear = async |server: &mut tokio::io::DuplexStream| {
        let mut buffer = [0; 4096];
        let n = timeout(Duration::from_secs(1), server.read(&mut buffer)).await.map_or(0, |read| read.unwrap());
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    };
    assert_eq!(hear(&mut server).await, "T1 SELECT \"INBOX\" (CONDSTORE)\r\n");
    assert_eq!(hear(&mut server).await, "");
    server.write_all(selected("T1").as_bytes()).await.unwrap();
    assert_eq!(hear(&mut server).await, "T2 UID FETCH 1 (UID BODY.PEEK[1])\r\nT3 UID FETCH 1:2 (UID BODY.PEEK[1])\r\n");
    assert_eq!(hear(&mut server).await, "");
    let rows = ["2 FETCH (UID 2 BODY[1] \"b\")", "1 FETCH (UID 1 BODY[1] \"a\")", "1 FETCH (UID 1 BODY[1] \"a\")"];
    server.write_all(format!("T3 OK\r\n* {}\r\n", rows.join("\r\n* ")).as_bytes()).await.unwrap();
    // The answer came before its rows: what is not told in time is not there.
    assert_eq!(bodies(&collect(two).await.0).join(","), "");
    server.write_all(b"T2 OK\r\n").await.unwrap();
    assert_eq!(bodies(&collect(one).await.0).join(","), "1 a");
    assert_eq!(hear(&mut server).await, "T4 SELECT \"Sent\" (CONDSTORE)\r\n");
    server.write_all(b"* 1 FETCH (UID 1 BODY[1] \"of INBOX\")\r\nT4 NO [NONEXISTENT] no\r\n").await.unwrap();
    assert!(matches!(collect(other).await.1, Some(Err(Error::NotFound))));
    assert_eq!(hear(&mut server).await, "T5 SELECT \"INBOX\" (CONDSTORE)\r\n");
    server.write_all(selected("T5").as_bytes()).await.unwrap();
    assert!(matches!(collect(back).await.1, Some(Err(Error::Stale))));
    assert_eq!(hear(&mut server).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_needs_a_literal_waits_for_the_go_ahead() {
    for (reply, want) in [("+ ok\r\n", "Ok"), ("T1 NO [CANNOT] no\r\n", "NotPermitted"), ("T1 OK\r\n", "Protocol")] {
        let mut harness = session();
        harness.serve(move |tag, command| match (tag, command) {
            ("T1", c) => {
                assert!(c.ends_with("{3}"), "{c}");
                reply.into()
            }
            ("\u{fc}b", _) => "T1 OK done\r\n".into(),
            _ => format!("{tag} OK done\r\n"),
        });
        let status = Command::Status(crate::mail::mailbox_name::MailboxName::new("\u{fc}b".as_bytes()));
        let first = harness.send(Target::Account, status, 1000);
        let second = harness.send(Target::Account, Command::Noop, 1000);
        let (_, done) = collect(first).await;
        let text = format!("{:?}", done.unwrap().map(|_| "Ok"));
        assert!(text.contains(want), "{reply}: {text}");
        drop(second);
    }
}

#[tokio::test(start_paused = true)]
async fn searches_are_told_once_and_only_when_they_were_answered() {
    for (lines, want) in [
        ("* SEARCH 1 2\r\n* SEARCH 3\r\n$ OK\r\n", Some("1:3")),
        ("* ESEARCH (TAG \"$\") UID ALL 9,1\r\n$ OK\r\n", Some("1,9")),
        ("* ESEARCH (TAG \"$\") UID\r\n$ OK\r\n", Some("")),
        ("* ESEARCH (TAG \"T99\") UID ALL 5\r\n$ OK\r\n", None),
        ("* ESEARCH (TAG \"$\") ALL 5\r\n$ OK\r\n", None),
        ("$ OK\r\n", None),
    ] {
        let mut harness = session();
        harness.serve(move |tag, c| if c.starts_with("SEL") { selected(tag) } else { lines.replace('$', tag) });
        let (rows, done) = collect(harness.send(mailbox("INBOX", 9), Command::SearchAll, 1000)).await;
        let found = rows
            .iter()
            .map(|r| if let Data::Search(s) = r { s.all.to_string() } else { "?".into() })
            .collect::<Vec<_>>();
        assert_eq!(found, want.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{lines}");
        assert!(done.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_trickle_and_a_flood_end_within_their_deadlines() {
    for (piece, pause, want) in [
        ("x", 1000, Duration::from_secs(61)),
        ("* OK still searching\r\n", 10_000, Duration::from_secs(301)),
        ("* 5 EXISTS\r\n", 100, Duration::from_secs(31)),
        ("* 1 FETCH (UID 2 FLAGS ())\r\n", 1000, Duration::from_secs(31)),
    ] {
        let mut harness = session();
        let mut server = harness.server.take().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 1000];
            let _ = server.read(&mut buffer).await;
            server.write_all(selected("T1").as_bytes()).await.unwrap();
            let _ = server.read(&mut buffer).await;
            if piece == "x" {
                server.write_all(b"* 1 FETCH (UID 1 BODY[1] {100000}\r\n").await.unwrap();
            }
            while server.write_all(piece.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        });
        let start = Instant::now();
        let (_, done) = collect(harness.send(mailbox("INBOX", 9), fetch(&[1], &[body(None)]), 1 << 20)).await;
        assert!(matches!(done, Some(Err(Error::TimedOut(_)))), "{piece}: {done:?}");
        assert!(start.elapsed() < want, "{piece}: {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_requester_that_goes_away_stops_nothing_and_an_idle_session_asks_now_and_then() {
    let mut harness = session();
    let commands = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&commands);
    harness.serve(move |tag, command| {
        heard.lock().unwrap().push(command.to_owned());
        if command.starts_with("SEL") {
            selected(tag)
        } else {
            format!("* 4 EXISTS\r\n{tag} OK [EXPUNGEISSUED] done\r\n")
        }
    });
    drop(harness.send(mailbox("INBOX", 9), fetch(&[1], &[body(None)]), 1000));
    let (_, done) = collect(harness.send(mailbox("INBOX", 9), fetch(&[2], &[body(None)]), 1000)).await;
    let done = done.unwrap().unwrap();
    assert_eq!((done.code, done.selected.unwrap().exists), (Some(Code::ExpungeIssued), 4));
    tokio::time::sleep(Duration::from_secs(1000)).await;
    drop(harness.jobs);
    assert!(harness.end.await.unwrap().is_none());
    let commands = commands.lock().unwrap().iter().map(|c| c.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(commands, ["SELECT", "UID", "UID", "NOOP", "LOGOUT"]);
    assert_eq!(harness.events.recv().await.unwrap().data, Data::Exists(4));
}

/// What an honest server says to the three commands of [`converse`].
fn transcript() -> Vec<u8> {
    let bodies =
        "* 1 FETCH (UID 1 FLAGS (\\Seen) BODY[1] {5}\r\nfirst)\r\n* 2 FETCH (UID 2 FLAGS () BODY[1] {6}\r\nsecond)\r\n";
    let search = "* ESEARCH (TAG \"T3\") UID ALL 1:3\r\n";
    let text = format!(
        "{}{bodies}T2 OK done\r\n{search}T3 OK done\r\n* LIST () \"/\" INBOX\r\nT4 OK done\r\nT5 OK done\r\n",
        selected("T1")
    );
    text.into_bytes()
}

/// Three requests to a server that says `answers` as soon as it has been spoken to; then it is silent, or closes.
async fn converse(answers: Vec<u8>, close: bool) -> [Outcome; 3] {
    let mut harness = session();
    let mut server = harness.server.take().unwrap();
    let select = answers.windows(4).position(|w| w == b"done").map_or(answers.len(), |at| (at + 6).min(answers.len()));
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        let _ = server.read(&mut buffer).await;
        let _ = server.write_all(&answers[..select]).await;
        let _ = timeout(Duration::from_secs(1), server.read(&mut buffer)).await;
        let _ = server.write_all(&answers[select..]).await;
        if close {
            return;
        }
        while server.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    });
    let one = harness.send(mailbox("INBOX", 9), fetch(&[1, 2], &[FetchItem::Flags, body(None)]), 10_000);
    let two = harness.send(mailbox("INBOX", 9), Command::SearchAll, 10_000);
    let three = harness.send(Target::Account, Command::List, 10_000);
    let all = async { [collect(one).await, collect(two).await, collect(three).await] };
    timeout(Duration::from_secs(1000), all).await.expect("no session hangs")
}

#[tokio::test(start_paused = true)]
async fn a_connection_cut_anywhere_is_an_error_and_never_an_empty_ok() {
    let whole = transcript();
    let told = |outcome: &Outcome| matches!(outcome.1, Some(Ok(_)));
    for close in [true, false] {
        for cut in 0..=whole.len() {
            let [one, two, three] = converse(whole[..cut].to_vec(), close).await;
            assert!(!told(&one) || bodies(&one.0) == ["1 first", "2 second"], "{cut}: {one:?}");
            assert!(!told(&two) || matches!(&two.0[..], [Data::Search(s)] if s.all.to_string() == "1:3"), "{cut}");
            assert!(!told(&three) || three.0.len() == 1, "{cut}");
            // The cut falls before the answer to LIST is complete.
            assert_eq!(told(&three), cut == whole.len(), "{cut}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_mangled_conversations_neither_panic_nor_hang() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let pieces = [
        "{9}\r\n",
        "\r\n",
        "(",
        ")",
        "\"",
        "T2 OK x\r\n",
        "* BYE\r\n",
        "{99999999999}\r\n",
        "+ \r\n",
        "NIL",
        "\0",
        "\u{fc}",
        "* OK [UIDVALIDITY 1] x\r\n",
        "* 1 EXPUNGE\r\n",
        "<0>",
    ];
    for _ in 0..1200 {
        let mut answers = transcript();
        for _ in 0..=random(4) {
            let at = random(answers.len());
            match random(4) {
                0 => answers[at] = random(256) as u8,
                1 => drop(answers.drain(at..(at + 1 + random(20)).min(answers.len()))),
                2 => drop(answers.splice(at..at, pieces[random(pieces.len())].bytes())),
                _ => {
                    let copy = answers[at..(at + random(60)).min(answers.len())].to_vec();
                    let to = random(answers.len());
                    drop(answers.splice(to..to, copy));
                }
            }
            if answers.is_empty() {
                break;
            }
        }
        let [one, ..] = converse(answers, random(2) == 0).await;
        for row in &one.0 {
            assert!(matches!(row, Data::Fetch(row) if row.uid.is_some_and(|u| u.get() <= 2)), "{row:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_end_exactly_once() {
    let mut harness = session();
    harness.serve(|tag, _| format!("{tag} OK done\r\n"));
    let mut receiver = harness.send(Target::Account, Command::Noop, 1000);
    assert!(matches!(receiver.recv().await, Some(Answer::Done(Ok(_)))));
    assert!(receiver.recv().await.is_none());
}

/// Dovecot tells there what the connection has seen of the mailbox: the news would never come.
#[tokio::test(start_paused = true)]
async fn status_of_the_selected_mailbox_is_not_asked() {
    let mut harness = session();
    harness.serve(|tag, command| match command.split(' ').collect::<Vec<_>>()[..] {
        ["SELECT", ..] => selected(tag),
        ["NOOP"] => format!("{tag} OK done\r\n"),
        ["STATUS", "\"Other\"", ..] => format!("* STATUS Other (MESSAGES 1)\r\n{tag} OK done\r\n"),
        _ => format!("{tag} BAD {command}\r\n"),
    });
    collect(harness.send(mailbox("INBOX", 9), Command::Noop, 1 << 20)).await.1.unwrap().unwrap();
    for (name, rows_told, is_selected) in [("INBOX", 0, true), ("Other", 1, false)] {
        let status = Command::Status(MailboxName::new(name.as_bytes()));
        let (rows, done) = collect(harness.send(Target::Account, status, 1 << 20)).await;
        assert_eq!((rows.len(), done.unwrap().unwrap().selected.is_some()), (rows_told, is_selected), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn reads_follow_their_select_at_once_where_the_server_keeps_the_order() {
    const ROW: &str = "S: * 1 FETCH (UID 2 BODY[1]<10> \"hello\")";
    let ok = format!("S: * OK [UIDVALIDITY 9] ok\nS: T1 OK done\n{ROW}\nS: T2 OK done");
    for (name, validity, script, want) in [
        ("Dovecot", Some(9), format!("C: SELECT\nC: FETCH\n{ok}"), "hello"),
        ("Dovecot", None, format!("C: SELECT\nC: FETCH\n{ok}"), "hello"),
        ("Dovecot", Some(8), format!("C: SELECT\nC: FETCH\n{ok}"), "Stale"),
        ("Dovecot", None, "C: SELECT\nC: FETCH\nS: T1 NO [NOPERM] no\nS: T2 BAD no".to_owned(), "Denied"),
        (
            "Stalwart",
            Some(9),
            format!("C: SELECT\nS: * OK [UIDVALIDITY 9] ok\nS: T1 OK done\nC: FETCH\n{ROW}\nS: T2 OK done"),
            "hello",
        ),
    ] {
        let server = Server { id: vec![("name".into(), name.into())], ..Server::default() };
        let mut harness = session_of(&server, false);
        let server = harness.server.take().unwrap();
        let script = format!("{script}\nclose");
        tokio::spawn(async move { play(server, &script).await });
        let answers = harness.send(mailbox("INBOX", validity), fetch(&[2], &[body(Some((10, 5)))]), 1 << 20);
        let (rows, done) = collect(answers).await;
        let got = format!("{} {:?}", bodies(&rows).join(","), done.unwrap().map(|_| ()));
        assert!(got.contains(want) && rows.is_empty() == (want != "hello"), "{name} {validity:?}: {got}");
    }
}

/// And it is not what a refused SELECT is about.
#[tokio::test(start_paused = true)]
async fn what_is_about_no_mailbox_follows_a_select_at_once_as_well() {
    let server = Server { id: vec![("name".into(), "Dovecot".into())], ..Server::default() };
    for (opened, is_open) in [("* OK [UIDVALIDITY 9] ok\nS: T1 OK done", true), ("T1 NO [NONEXISTENT] no", false)] {
        let mut harness = session_of(&server, false);
        let server = harness.server.take().unwrap();
        let listed = "S: * LIST () \"/\" a\nS: T2 OK done\nS: T3 OK done\nclose";
        let script = format!("C: SELECT\nC: LIST\nC: LSUB\nS: {opened}\n{listed}");
        tokio::spawn(async move { play(server, &script).await });
        let opening = harness.send(mailbox("INBOX", None), Command::Select, 1 << 20);
        let list = harness.send(Target::Account, Command::List, 1 << 20);
        assert_eq!(collect(opening).await.1.unwrap().is_ok(), is_open);
        let (rows, done) = collect(list).await;
        assert!(matches!((&rows[..], done), ([Data::List(_)], Some(Ok(_)))), "{opened}: {rows:?}");
    }
}

/// A row that answers one FETCH says what another asked for as well. What is left of the answer to that one, when the
/// message goes meanwhile, must not look like a message.
#[tokio::test(start_paused = true)]
async fn the_answer_to_one_fetch_is_no_part_of_another() {
    let content = "S: * 1 FETCH (UID 2 RFC822.SIZE 9 BODY[1] \"hello\")\n";
    let summary = "S: * 1 FETCH (UID 2 FLAGS () RFC822.SIZE 9 ENVELOPE (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL))\n";
    let again = "S: * 1 FETCH (UID 2 RFC822.SIZE 9 BODY[1] \"again\")\n";
    for (rows, of_summary, of_content) in [
        ([content, summary, again].concat(), "true 9", "2 hello,2 again"),
        ([summary, content, again].concat(), "true 9", "2 hello,2 again"),
        ([content, again].concat(), "", "2 hello,2 again"),
        // Nothing says whose it is.
        ("S: * 1 FETCH (UID 2 RFC822.SIZE 9)\n".to_owned(), "false 9", ""),
    ] {
        let mut harness = session();
        let server = harness.server.take().unwrap();
        let select = "C: SELECT\nS: * OK [UIDVALIDITY 9] ok\nS: T1 OK done\nC: FETCH\nC: FETCH\nC: FETCH";
        let script = format!("{select}\n{rows}S: T2 OK\nS: T3 OK\nS: T4 OK\nclose");
        tokio::spawn(async move { play(server, &script).await });
        let ask = |items: &[FetchItem]| harness.send(mailbox("INBOX", 9), fetch(&[2], items), 1 << 20);
        let one = ask(&[FetchItem::Flags, FetchItem::Size, FetchItem::Envelope]);
        let (two, three) = (ask(&[body(None), FetchItem::Size]), ask(&[body(None), FetchItem::Size]));
        let told = |row: &Data| match row {
            Data::Fetch(row) => format!("{} {}", row.envelope.is_some(), row.size.unwrap()),
            other => panic!("{other:?}"),
        };
        let told: Vec<String> = collect(one).await.0.iter().map(told).collect();
        assert_eq!(told.join(","), of_summary, "{rows}");
        let (two, three) = (collect(two).await.0, collect(three).await.0);
        assert_eq!(bodies(&[two.clone(), three.clone()].concat()).join(","), of_content, "{rows}");
        let has_size = |row: &Data| matches!(row, Data::Fetch(row) if row.size == Some(9));
        assert!(two.iter().chain(&three).all(has_size), "{two:?} {three:?}");
    }
}
