//! Sessions that change mail, against servers that refuse, hang up and answer late, at every point.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::super::request::{Command, Done, FetchItem, Target, Upload};
use super::super::response::{Code, Data, Status};
use super::super::testing::{Harness, collect, fetch, mailbox, play, selected, session_with, uids, upload};
use super::*;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::{Uid, UidSet};

const RICH: [&str; 7] = ["CONDSTORE", "UIDPLUS", "MOVE", "MULTIAPPEND", "REPLACE", "UNSELECT", "LITERAL+"];
const OPEN: &str = "C: SELECT \"INBOX\"\nS: * 3 EXISTS\nS: * OK [UIDVALIDITY 9] x\nS: $ OK [READ-WRITE] done\n";

fn name(name: &str) -> MailboxName {
    MailboxName::new(name.as_bytes())
}

fn store(set: &str) -> Command {
    Command::Store { uids: uids(set), set: true, flags: vec!["\\Seen".into()], unchanged_since: None }
}

fn append(messages: Vec<Upload>) -> Command {
    Command::Append { to: name("Sent"), messages }
}

fn one(text: &[u8]) -> Command {
    append(vec![upload(text, &[], None)])
}

fn move_to(set: &str) -> Command {
    Command::Move { uids: uids(set), to: name("Sent") }
}

/// How a request ended: the name of the error, or `Ok` with the code; `again` when it may be sent on another connection.
fn show(done: &Option<Result<Done>>) -> String {
    match done {
        None => "again".into(),
        Some(Ok(Done { code: Some(code), .. })) => format!("{code:?}"),
        Some(Ok(_)) => "Ok".into(),
        Some(Err(error)) => format!("{error:?}"),
    }
}

/// Sends commands at once to a server that plays a script; their rows and ends.
async fn played(harness: &mut Harness, commands: Vec<(Target, Command)>, script: &str) -> Vec<(Vec<Data>, String)> {
    let server = tokio::spawn({
        let (server, script) = (harness.server.take().unwrap(), script.to_owned());
        async move { play(server, &script).await }
    });
    let receivers: Vec<_> = commands.into_iter().map(|(target, c)| harness.send(target, c, 1 << 20)).collect();
    let mut ends = Vec::new();
    for receiver in receivers {
        let (rows, done) = timeout(Duration::from_secs(1000), collect(receiver)).await.expect("no session hangs");
        ends.push((rows, show(&done)));
    }
    if !server.is_finished() {
        server.abort();
    } else if let Err(panic) = server.await {
        std::panic::resume_unwind(panic.into_panic());
    }
    ends
}

async fn end_of(target: Target, command: Command, script: &str) -> String {
    played(&mut session_with(&RICH, false), vec![(target, command)], script).await.remove(0).1
}

async fn hear(server: &mut DuplexStream) -> String {
    let mut buffer = [0; 4096];
    let n = timeout(Duration::from_secs(1), server.read(&mut buffer)).await.map_or(0, |read| read.unwrap());
    String::from_utf8(buffer[..n].to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_change_is_sent_alone() {
    let mut harness = session_with(&RICH, false);
    let mut server = harness.server.take().unwrap();
    let many: UidSet = (1..2000).step_by(2).filter_map(Uid::new).collect();
    let target = || mailbox("INBOX", 9);
    let requests =
        [fetch(&[1], &[FetchItem::Flags]), store(&many.to_string()), fetch(&[2], &[FetchItem::Flags]), one(b"x")];
    let receivers: Vec<_> = requests.into_iter().map(|c| harness.send(target(), c, 1 << 20)).collect();
    assert!(hear(&mut server).await.starts_with("T1 SELECT"));
    server.write_all(selected("T1").as_bytes()).await.unwrap();
    assert_eq!(hear(&mut server).await, "T2 UID FETCH 1 (UID FLAGS)\r\n");
    assert_eq!(hear(&mut server).await, "");
    server.write_all(b"T2 OK done\r\n").await.unwrap();
    // The lines of one request are, however, all sent at once.
    let mut stores = String::new();
    while stores.matches("+FLAGS").count() < 2 {
        stores += &hear(&mut server).await;
    }
    assert!(stores.starts_with("T3 UID STORE 1,3,") && stores.contains("\r\nT4 UID STORE "), "{stores}");
    server.write_all(b"T3 OK done\r\n").await.unwrap();
    assert_eq!(hear(&mut server).await, "");
    server.write_all(b"T4 OK done\r\n").await.unwrap();
    assert_eq!(hear(&mut server).await, "T5 UID FETCH 2 (UID FLAGS)\r\n");
    server.write_all(b"T5 OK done\r\n").await.unwrap();
    assert_eq!(hear(&mut server).await, "T6 APPEND \"Sent\" () {1+}\r\nx\r\n");
    server.write_all(b"T6 OK [APPENDUID 5 7] done\r\n").await.unwrap();
    let mut ends = Vec::new();
    for receiver in receivers {
        ends.push(show(&collect(receiver).await.1));
    }
    assert_eq!(ends, ["Ok", "Ok", "Ok", "AppendUid(UidValidity(5), UidSet { ranges: [(7, 7)] })"]);
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_changed_is_not_sent() {
    let read_only = OPEN.replace("READ-WRITE", "READ-ONLY");
    for (validity, command, script, want) in [
        (8, store("1"), OPEN, "Stale"),
        (8, move_to("1"), OPEN, "Stale"),
        (9, store("1"), &read_only, "Denied"),
        (9, Command::Expunge(uids("1")), &read_only, "Denied"),
        (9, Command::Copy { uids: uids("1"), to: name("b") }, &format!("{read_only}C: UID COPY\nS: $ OK x"), "Ok"),
    ] {
        let end = end_of(mailbox("INBOX", validity), command, &format!("{script}\nS: * OK nothing more")).await;
        assert!(end.starts_with(want), "{end}");
    }
    let mut harness = session_with(&RICH, true);
    let ends = played(&mut harness, vec![(mailbox("INBOX", 9), store("1")), (Target::Account, one(b"x"))], "").await;
    assert!(ends.iter().all(|(_, end)| end == "ReadOnly"), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_store_reach_whoever_stored_and_all_others() {
    let script = format!(
        "{OPEN}C: UID STORE 1:2 +FLAGS\nS: * 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (7))\nS: * 2 FETCH (FLAGS (\\Seen) UID 2)
         S: * 3 FETCH (UID 3 FLAGS (\\Flagged))\nS: * 2 EXPUNGE\nS: $ OK [MODIFIED 2] x"
    );
    let mut harness = session_with(&RICH, false);
    let (rows, end) = played(&mut harness, vec![(mailbox("INBOX", 9), store("1:2"))], &script).await.remove(0);
    assert_eq!(end, "Modified(UidSet { ranges: [(2, 2)] })");
    let row = |data: &Data| match data {
        Data::Fetch(row) => format!("{} {} {:?}", row.uid.unwrap(), row.flags.as_ref().unwrap(), row.modseq),
        other => format!("{other:?}"),
    };
    assert_eq!(rows.iter().map(row).collect::<Vec<_>>(), ["1 \\Seen Some(7)", "2 \\Seen None"]);
    let events: Vec<_> = std::iter::from_fn(|| harness.events.try_recv().ok()).map(|event| row(&event.data)).collect();
    assert_eq!(events, ["1 \\Seen Some(7)", "2 \\Seen None", "3 \\Flagged None", "Expunge(2)"]);
}

#[tokio::test(start_paused = true)]
async fn new_uids_are_told_wherever_the_server_puts_them() {
    let many: UidSet = (1..2000).step_by(2).filter_map(Uid::new).collect();
    let [first, second] = &many.split(3500)[..] else { panic!() };
    let (from, to) = (first.len() as u32, (first.len() + second.len()) as u32);
    let pairs = |to: &str| format!("CopyUid(UidValidity(5), {many:?}, {:?})", uids(to));
    let line = |set: &UidSet, to: String| format!("COPYUID 5 {set} {to}");
    let (a, b) = (line(first, format!("1:{from}")), line(second, format!("{}:{to}", from + 1)));
    let lower = line(second, "1".to_owned() + &format!(":{}", second.len()));
    let none = "CopyUid(UidValidity(5), UidSet { ranges: [] }, UidSet { ranges: [] })".to_owned();
    for (set, script, want) in [
        (
            "1",
            "C: UID MOVE\nS: * OK [COPYUID 5 1 7] x\nS: * 1 EXPUNGE\nS: $ OK [HIGHESTMODSEQ 8] x".to_owned(),
            "(7, 7)".into(),
        ),
        ("1", "C: UID MOVE\nS: * OK [COPYUID 5 1 7] x\nS: $ OK [COPYUID 5 1 7] x".to_owned(), "(7, 7)".into()),
        ("1", "C: UID MOVE\nS: * 1 EXPUNGE\nS: $ OK [COPYUID 5 1 7] x".to_owned(), "(7, 7)".into()),
        (
            &many.to_string(),
            format!("C: UID MOVE 1,\nS: * OK [{a}] x\nS: $ OK x\nC: UID MOVE\nS: $ OK [{b}] x"),
            pairs(&format!("1:{to}")),
        ),
        // From this nobody could tell which became which.
        (&many.to_string(), format!("C: UID MOVE 1,\nS: $ OK [{a}] x\nC: UID MOVE\nS: $ OK [{lower}] x"), none),
    ] {
        let end = end_of(mailbox("INBOX", 9), move_to(set), &format!("{OPEN}{script}")).await;
        assert!(end.contains(&want), "{end}");
    }
    let replace = Command::Replace { uid: Uid::new(1).unwrap(), message: upload(b"new", &[], None) };
    let script = format!("{OPEN}C: UID REPLACE 1\nC: new\nS: * OK [APPENDUID 9 4] x\nS: * 1 EXPUNGE\nS: T2 OK x");
    assert_eq!(
        end_of(mailbox("INBOX", 9), replace, &script).await,
        format!("AppendUid(UidValidity(9), {:?})", uids("4"))
    );
    // What was done before the refusal is told.
    let script = format!("{OPEN}C: UID MOVE 1,\nS: $ OK [{a}] x\nC: UID MOVE\nS: $ NO [OVERQUOTA] x");
    let commands = vec![(mailbox("INBOX", 9), move_to(&many.to_string()))];
    let (rows, end) = played(&mut session_with(&RICH, false), commands, &script).await.remove(0);
    assert!(end.starts_with("Quota"), "{end}");
    assert!(matches!(&rows[..], [Data::Status(Status::Ok, Some(Code::CopyUid(_, moved, _)), _)] if moved == first));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_error_that_a_user_would_guess() {
    for (answer, want) in [
        ("NO [OVERQUOTA] x", "Quota"),
        ("NO [TOOBIG] x", "TooBig"),
        ("NO [LIMIT] x", "TooBig"),
        ("NO [NOPERM] x", "Denied"),
        ("NO [TRYCREATE] x", "NotFound"),
        ("NO [CANNOT] x", "NotPermitted"),
        ("NO [INUSE] x", "Busy"),
        ("NO [UNKNOWN-CTE] x", "Invalid"),
        ("NO Message contains bare newlines", "Invalid"),
        ("NO Message contains NUL characters", "Invalid"),
        ("NO Message contains invalid header", "Invalid"),
        ("NO Over quota", "Quota"),
        ("NO Permission denied", "Denied"),
        ("NO Mailbox does not exist", "NotFound"),
        ("NO something else", "Protocol"),
        ("BAD does not exist", "Protocol"),
    ] {
        let end = end_of(Target::Account, one(b"x"), &format!("C: APPEND\nC: x\nS: T1 {answer}")).await;
        assert!(end.starts_with(want), "{answer}: {end}");
    }
    for (command, answer, want) in [
        (Command::Create(name("a")), "NO [ALREADYEXISTS] x", "Exists"),
        (Command::Create(name("a")), "NO Mailbox already exists", "Exists"),
        (Command::Create(name("a")), "NO [LIMIT] x", "Quota"),
        (Command::Create(name("a")), "NO Invalid mailbox name", "Invalid"),
        (Command::Delete(name("a")), "NO [HASCHILDREN] x", "NotEmpty"),
        (Command::Rename(name("a"), name("b")), "NO [NONEXISTENT] x", "NotFound"),
    ] {
        let end = end_of(Target::Account, command, &format!("C: T1\nS: $ {answer}")).await;
        assert!(end.starts_with(want), "{answer}: {end}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_instead_of_a_go_ahead_is_not_sent() {
    let large = vec![b'x'; 3 << 20];
    let mut harness = session_with(&RICH, false);
    let commands = vec![(Target::Account, one(&large)), (Target::Account, Command::Noop)];
    let script = "C: APPEND \"Sent\" () {3145728}\nS: $ NO [OVERQUOTA] x\nC: NOOP\nS: $ OK x";
    let ends = played(&mut harness, commands, script).await;
    assert!(ends[0].1.starts_with("Quota") && ends[1].1 == "Ok", "{ends:?}");
    // The second of two, when the first was taken.
    let two = append(vec![upload(b"first", &[], None), upload(&large, &[], None)]);
    let script = "C: {5+}\nC: first () {3145728}\nS: T1 NO [TOOBIG] x\nC: NOOP\nS: $ OK x";
    let commands = vec![(Target::Account, two), (Target::Account, Command::Noop)];
    let ends = played(&mut session_with(&RICH, false), commands, script).await;
    assert!(ends[0].1.starts_with("TooBig") && ends[1].1 == "Ok", "{ends:?}");
}

/// Reads exactly so many octets.
async fn take(server: &mut DuplexStream, octets: usize) -> Vec<u8> {
    let mut taken = vec![0; octets];
    timeout(Duration::from_secs(10), server.read_exact(&mut taken)).await.unwrap().unwrap();
    taken
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_on_its_way_is_sent_to_its_end() {
    let text: Vec<u8> = (0..900_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut harness = session_with(&RICH, false);
    let mut server = harness.server.take().unwrap();
    let first = harness.send(Target::Account, one(&text), 1 << 20);
    let second = harness.send(Target::Account, Command::Noop, 1 << 20);
    let head = b"T1 APPEND \"Sent\" () {900000+}\r\n";
    assert!(take(&mut server, head.len() + 2).await == [&head[..], &text[..2]].concat());
    server.write_all(b"T1 NO [TOOBIG] x\r\n").await.unwrap();
    // It is known at once, and nothing gets mixed into the rest.
    assert!(show(&collect(first).await.1).starts_with("TooBig"));
    assert!(take(&mut server, text.len() - 2).await == text[2..]);
    assert_eq!(take(&mut server, 11).await, b"\r\nT2 NOOP\r\n"[..11]);
    server.write_all(b"T2 OK x\r\n").await.unwrap();
    assert_eq!(show(&collect(second).await.1), "Ok");
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_its_end_and_a_file_that_is_too_short_cost_the_connection() {
    let text = vec![b'x'; 900_000];
    let mut harness = session_with(&RICH, false);
    let mut server = harness.server.take().unwrap();
    let end = harness.send(Target::Account, one(&text), 1 << 20);
    take(&mut server, 100).await;
    server.write_all(b"T1 OK [APPENDUID 5 7] x\r\n").await.unwrap();
    assert!(show(&collect(end).await.1).starts_with("Uncertain"));
    assert!(harness.end.await.unwrap().is_some());

    let mut harness = session_with(&RICH, false);
    let mut server = harness.server.take().unwrap();
    let short = Upload { octets: 900_001, ..upload(&text, &[], None) };
    let end = harness.send(Target::Account, append(vec![short]), 1 << 20);
    let after = harness.send(Target::Account, Command::Noop, 1 << 20);
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).await.unwrap();
    assert!(heard.len() < 30 + 900_001, "{}", heard.len());
    assert!(show(&collect(end).await.1).starts_with("Local"));
    // Whoever waits behind it is served by another connection.
    assert_eq!(show(&collect(after).await.1), "again");
}

/// The end of a command when the server says the first `cut` octets of `answers`, one each time it is spoken to.
async fn cut_at(target: Target, command: Command, answers: &[String], cut: usize, close: bool) -> String {
    let mut harness = session_with(&RICH, false);
    let mut server = harness.server.take().unwrap();
    let end = harness.send(target, command, 1 << 20);
    let mut left = cut;
    let answers = answers.to_vec();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        for answer in answers {
            let _ = server.read(&mut buffer).await;
            let said = answer.len().min(left);
            left -= said;
            let _ = server.write_all(&answer.as_bytes()[..said]).await;
            if said < answer.len() {
                break;
            }
        }
        while !close && server.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    });
    let (_, done) = timeout(Duration::from_secs(1000), collect(end)).await.expect("no session hangs");
    show(&done)
}

#[tokio::test(start_paused = true)]
async fn a_connection_cut_anywhere_leaves_no_doubt_that_it_was_in_doubt() {
    let inbox = || mailbox("INBOX", 9);
    let opened = selected("T1");
    let replace = Command::Replace { uid: Uid::new(1).unwrap(), message: upload(b"new", &[], None) };
    let answer = |text: &str| vec![opened.clone(), text.to_owned()];
    let here = |text: &str| vec![text.to_owned()];
    for (target, command, answers, repeatable) in [
        (inbox(), move_to("1"), answer("* OK [COPYUID 5 1 7] x\r\n* 1 EXPUNGE\r\nT2 OK x\r\n"), false),
        (inbox(), Command::Copy { uids: uids("1"), to: name("b") }, answer("T2 OK [COPYUID 5 1 7] x\r\n"), false),
        (inbox(), replace, answer("* OK [APPENDUID 9 4] x\r\n* 1 EXPUNGE\r\nT2 OK x\r\n"), false),
        (inbox(), store("1"), answer("* 1 FETCH (UID 1 FLAGS (\\Seen))\r\nT2 OK x\r\n"), true),
        (mailbox("INBOX", None), store("1"), answer("* 1 FETCH (UID 1 FLAGS (\\Seen))\r\nT2 OK x\r\n"), false),
        (inbox(), Command::Expunge(uids("1")), answer("* 1 EXPUNGE\r\nT2 OK x\r\n"), true),
        (Target::Account, one(b"x"), here("T1 OK [APPENDUID 5 7] x\r\n"), false),
        (Target::Account, Command::Create(name("a")), here("T1 OK x\r\n"), false),
        (Target::Account, Command::Delete(name("a")), here("T1 OK x\r\n"), false),
        (Target::Account, Command::Rename(name("a"), name("b")), here("T1 OK x\r\n"), false),
        (Target::Account, Command::Subscribe(name("a"), true), here("T1 OK x\r\n"), true),
    ] {
        let whole: usize = answers.iter().map(String::len).sum();
        let select = if answers.len() > 1 { answers[0].len() } else { 0 };
        for close in [true, false] {
            for cut in 0..=whole {
                let end = cut_at(target.clone(), command.clone(), &answers, cut, close).await;
                let want = match (cut, close) {
                    (n, _) if n == whole => "",
                    // It has not been sent yet: it was not done.
                    (n, true) if n < select => "again",
                    (n, false) if n < select => "TimedOut",
                    (_, true) if repeatable => "again",
                    _ => "Uncertain",
                };
                assert!(end.starts_with(want), "{command:?} {cut} of {whole}, {close}: {end} and not {want}");
                assert!(cut == whole || !matches!(&end[..2], "Ok" | "Co" | "Ap"), "{command:?} {cut}: {end}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_is_left_before_it_is_removed_or_renamed() {
    let plain = |c: &[&'static str]| c.iter().filter(|c| **c != "UNSELECT").copied().collect::<Vec<_>>();
    for (capabilities, leave) in [
        (RICH.to_vec(), "C: UNSELECT\nS: $ OK x\n".to_owned()),
        (plain(&RICH), OPEN.to_owned()),
        (RICH.to_vec(), "C: UNSELECT\nS: $ BAD x\n".to_owned()),
    ] {
        for (selected, left) in [("a", true), ("a/b", true), ("b", false), ("ab", false)] {
            let open = OPEN.replace("INBOX", selected);
            let leave = if left { &leave } else { "" };
            let script =
                format!("{open}C: UID FETCH\nS: $ OK x\n{leave}C: RENAME \"a\" \"c\"\nS: $ OK x\nC: NOOP\nS: $ OK x");
            let commands = vec![
                (mailbox(selected, 9), fetch(&[1], &[FetchItem::Flags])),
                (Target::Account, Command::Rename(name("a"), name("c"))),
                (Target::Account, Command::Noop),
            ];
            let ends = played(&mut session_with(&capabilities, false), commands, &script).await;
            assert!(ends.iter().all(|(_, end)| end == "Ok"), "{script}: {ends:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn inbox_is_never_left() {
    for capabilities in [&RICH[..], &[]] {
        for (command, want) in [(Command::Delete(name("INBOX")), "Busy"), (Command::Rename(name("I"), name("b")), "Ok")]
        {
            let script = format!("{OPEN}C: UID SEARCH\nS: $ OK x\nC: RENAME\nS: $ OK x");
            let commands = vec![(mailbox("INBOX", 9), Command::SearchAll), (Target::Account, command)];
            let ends = played(&mut session_with(capabilities, false), commands, &script).await;
            assert!(ends[1].1.starts_with(want), "{ends:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_long_silence_the_connection_is_tried_before_anything_is_changed() {
    let mut harness = session_with(&RICH, false);
    let commands = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&commands);
    harness.serve(move |tag, command| {
        heard.lock().unwrap().push(command.to_owned());
        format!("{tag} OK done\r\n")
    });
    for pause in [0, 60, 5] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let create = harness.send(Target::Account, Command::Create(name("a")), 1000);
        assert_eq!(show(&collect(create).await.1), "Ok");
    }
    let create = "CREATE \"a\"";
    assert_eq!(*commands.lock().unwrap(), [create, "NOOP", create, create]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_goes_on_as_long_as_it_moves() {
    let text = vec![b'x'; 900_000];
    let mut harness = session_with(&RICH, false);
    let mut server = harness.server.take().unwrap();
    let end = harness.send(Target::Account, one(&text), 1 << 20);
    let slow = tokio::spawn(async move {
        let mut left = "T1 APPEND \"Sent\" () {900000+}\r\n\r\n".len() + text.len();
        let mut buffer = vec![0; 20_000];
        while left > 0 {
            // 4 kB a second.
            tokio::time::sleep(Duration::from_secs(5)).await;
            left -= server.read(&mut buffer).await.unwrap();
        }
        server.write_all(b"T1 OK x\r\n").await.unwrap();
        server
    });
    assert_eq!(show(&collect(end).await.1), "Ok");
    drop(slow.await.unwrap());
    let stuck = session_with(&RICH, false);
    let end = stuck.send(Target::Account, one(&vec![b'x'; 900_000]), 1 << 20);
    let start = Instant::now();
    assert!(show(&collect(end).await.1).starts_with("TimedOut"));
    assert!(start.elapsed() < Duration::from_secs(61), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_did_not_leave_whole_was_not_taken() {
    let large = (3 << 20, "T1 APPEND \"Sent\" () {3145728}\r\n".len());
    let medium = (900_000, "T1 APPEND \"Sent\" () {900000+}\r\n".len());
    for ((octets, head), taken, close, want) in [
        (medium, 0, true, "again"),
        (medium, 100, true, "again"),
        (medium, 500_000, true, "again"),
        (medium, 500_000, false, "TimedOut"),
        (medium, usize::MAX, true, "Uncertain"),
        (large, 0, true, "again"),
        (large, 1, true, "again"),
        (large, 0, false, "TimedOut"),
        (large, usize::MAX, true, "Uncertain"),
    ] {
        let mut harness = session_with(&RICH, false);
        let mut server = harness.server.take().unwrap();
        let end = harness.send(Target::Account, one(&vec![b'x'; octets]), 1 << 20);
        take(&mut server, head).await;
        if taken > 0 && octets > 1 << 20 {
            server.write_all(b"+ go on\r\n").await.unwrap();
        }
        take(&mut server, taken.min(octets + 2)).await;
        // Kept open or not.
        let server = (!close).then_some(server);
        let end = show(&timeout(Duration::from_secs(100), collect(end)).await.unwrap().1);
        assert!(end.starts_with(want), "{taken} of {octets}, {close}: {end}");
        drop(server);
    }
}
