//! Watching on one connection: when IDLE begins and ends, what it tells, and servers that refuse it, end it or fall silent.

use tokio::time::timeout;

use super::super::request::{Command, Target};
use super::super::response::{Data, StatusItems};
use super::super::server::{Event, Server};
use super::super::testing::{Harness, collect, mailbox, play, session_of, session_with, uids};
use super::*;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::UidValidity;

const OPENING: &str = "C: SELECT \"INBOX\"
    S: * 3 EXISTS
    S: * OK [UIDVALIDITY 9] ok
    S: * OK [UIDNEXT 4] ok
    S: $ OK [READ-WRITE] done
";

/// A session that is to watch INBOX on a server that offers this and plays that, behind SELECT.
fn watching(capabilities: &[&str], script: &str) -> (Harness, tokio::task::JoinHandle<String>) {
    let mut harness = session_with(capabilities, false);
    let script = format!("{OPENING}{script}");
    let server = harness.server.take().unwrap();
    let played = tokio::spawn(async move { play(server, &script).await });
    let _ = harness.jobs.send(Job::watch(MailboxName::new(b"INBOX")));
    (harness, played)
}

async fn event(harness: &mut Harness) -> Data {
    let Event { mailbox, data } = timeout(Duration::from_secs(3600), harness.events.recv()).await.unwrap().unwrap();
    assert_eq!(mailbox, Some(MailboxName::new(b"INBOX")));
    data
}

fn opened() -> Data {
    let items = StatusItems {
        messages: Some(3),
        uid_next: Some(4),
        uid_validity: Some(UidValidity(9)),
        ..StatusItems::default()
    };
    Data::MailboxStatus(MailboxName::new(b"INBOX"), items)
}

/// Lets the session end and the server's script with it: what the server heard.
async fn heard(harness: Harness, played: tokio::task::JoinHandle<String>) -> String {
    drop(harness.jobs);
    let _ = timeout(Duration::from_secs(60), harness.end).await.unwrap();
    played.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_idle_is_an_event_and_a_command_ends_it_for_a_moment() {
    let (mut harness, played) = watching(
        &["IDLE"],
        "C: IDLE
        S: + idling
        S: * 4 EXISTS
        S: * VANISHED 2
        S: * 1 FETCH (UID 1 FLAGS (\\Seen))
        C: DONE
        S: T2 OK idled
        C: NOOP
        S: $ OK done
        C: IDLE
        S: + idling
        S: * 3 EXISTS",
    );
    let begun = Instant::now();
    assert_eq!(event(&mut harness).await, opened());
    assert!(begun.elapsed() >= CALM);
    assert_eq!(event(&mut harness).await, Data::Exists(4));
    assert_eq!(event(&mut harness).await, Data::Vanished(false, uids("2")));
    assert!(matches!(event(&mut harness).await, Data::Fetch(row) if row.flags.is_some()));
    let (_, done) = collect(harness.send(Target::Account, Command::Noop, 1000)).await;
    assert!(done.unwrap().is_ok());
    assert_eq!(event(&mut harness).await, Data::Exists(3));
    let heard = heard(harness, played).await;
    assert!(heard.ends_with("DONE\r\nZ LOGOUT\r\n"), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_idle_or_keeps_ending_it_is_asked_by_noop() {
    for script in [
        "C: IDLE
        S: $ BAD unknown",
        "C: IDLE
        S: $ NO not now",
        "C: IDLE
        S: $ OK that was it",
        "C: IDLE
        S: + idling
        S: $ OK enough
        C: IDLE
        S: + idling
        S: $ OK enough
        C: IDLE
        S: + idling
        S: $ OK enough",
    ] {
        let noops = "\nC: NOOP\nS: * 4 EXISTS\nS: $ OK done\nC: NOOP\nS: * 5 EXISTS\nS: $ OK done";
        let (mut harness, played) = watching(&["IDLE"], &format!("{script}{noops}"));
        assert_eq!(event(&mut harness).await, opened());
        let begun = Instant::now();
        assert_eq!(event(&mut harness).await, Data::Exists(4), "{script}");
        assert_eq!(event(&mut harness).await, Data::Exists(5), "{script}");
        assert!(begun.elapsed() < POLL * 3, "{script}");
        heard(harness, played).await;
    }
    // Where it is not offered it is not tried.
    let (mut harness, played) = watching(&[], "C: NOOP\nS: * 4 EXISTS\nS: $ OK done");
    assert_eq!(event(&mut harness).await, opened());
    assert_eq!(event(&mut harness).await, Data::Exists(4));
    assert!(!heard(harness, played).await.contains("IDLE"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ended_idle_while_it_was_being_ended_may_refuse_done() {
    let (mut harness, played) = watching(
        &["IDLE"],
        "C: IDLE
        S: + idling
        S: * 4 EXISTS
        C: DONE
        S: T2 OK timed out
        S: DONE BAD what?
        C: NOOP
        S: $ OK done",
    );
    assert_eq!(event(&mut harness).await, opened());
    assert_eq!(event(&mut harness).await, Data::Exists(4));
    let (_, done) = collect(harness.send(Target::Account, Command::Noop, 1000)).await;
    assert!(done.unwrap().is_ok());
    heard(harness, played).await;
}

#[tokio::test(start_paused = true)]
async fn idle_is_refreshed_before_anybody_forgets_it_and_a_dead_one_is_noticed() {
    let (mut harness, played) = watching(
        &["IDLE"],
        "C: IDLE
        S: + idling
        C: DONE
        S: T2 OK idled
        C: NOOP
        S: $ OK done
        C: IDLE
        S: + idling",
    );
    assert_eq!(event(&mut harness).await, opened());
    let begun = Instant::now();
    // Nothing comes any more, not for DONE either.
    let end = timeout(Duration::from_secs(3600), &mut harness.end).await.unwrap().unwrap();
    assert_eq!(end, Some(Error::offline("the connection is dead")));
    assert!(begun.elapsed() > KEEPALIVE * 2 && begun.elapsed() < KEEPALIVE * 2 + PROBE * 2, "{:?}", begun.elapsed());
    assert_eq!(played.await.unwrap().matches("DONE").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_talks_in_idle_is_asked_anew_all_the_same() {
    let (harness, mut played) = {
        let mut harness = session_with(&["IDLE"], false);
        let mut server = harness.server.take().unwrap();
        let played = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut octets = vec![0; 4096];
            let _ = server.read(&mut octets).await;
            let _ = server.write_all(b"* 0 EXISTS\r\nT1 OK done\r\n").await;
            let _ = server.read(&mut octets).await;
            let _ = server.write_all(b"+ idling\r\n").await;
            let begun = Instant::now();
            loop {
                match timeout(Duration::from_secs(120), server.read(&mut octets)).await {
                    Ok(read) => return (begun.elapsed(), octets[..read.unwrap()].to_vec()),
                    Err(_) => server.write_all(b"* OK Still here\r\n").await.unwrap(),
                }
            }
        });
        let _ = harness.jobs.send(Job::watch(MailboxName::new(b"INBOX")));
        (harness, played)
    };
    let (after, octets) = (&mut played).await.unwrap();
    assert!(octets.starts_with(b"DONE\r\n"), "{:?}", octets.escape_ascii().to_string());
    assert!(after >= REFRESH && after < Duration::from_secs(29 * 60), "{after:?}");
    drop(harness);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_in_idle_is_a_lost_connection() {
    for last in ["close", "S: * BYE bored\nclose"] {
        let (mut harness, _) = watching(&["IDLE"], &format!("C: IDLE\nS: + idling\n{last}"));
        assert_eq!(event(&mut harness).await, opened());
        assert!(matches!(harness.end.await.unwrap(), Some(Error::Offline(_))), "{last}");
    }
}

#[tokio::test(start_paused = true)]
async fn notify_tells_of_all_mailboxes_and_is_asked_for_again_after_an_overflow() {
    let (mut harness, played) = watching(
        &["IDLE", "NOTIFY"],
        "C: NOTIFY SET (selected
        S: $ OK done
        C: IDLE
        S: + idling
        S: * STATUS Other (MESSAGES 5)
        S: * LIST () \"/\" New
        S: * OK [NOTIFICATIONOVERFLOW] too much
        C: DONE
        S: T3 OK idled
        C: NOTIFY SET
        S: $ OK done
        C: IDLE
        S: + idling
        S: * 4 EXISTS",
    );
    assert_eq!(event(&mut harness).await, opened());
    let other = StatusItems { messages: Some(5), ..StatusItems::default() };
    assert_eq!(event(&mut harness).await, Data::MailboxStatus(MailboxName::new(b"Other"), other));
    assert!(matches!(event(&mut harness).await, Data::List(row) if row.name == MailboxName::new(b"New")));
    assert!(matches!(event(&mut harness).await, Data::Status(..)));
    assert_eq!(event(&mut harness).await, Data::Exists(4));
    heard(harness, played).await;
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_that_is_about_to_go_is_no_longer_watched() {
    let mut harness = session_with(&["IDLE", "UNSELECT"], false);
    let stream = harness.server.take().unwrap();
    let script = "C: SELECT \"Box\"
        S: $ OK [READ-WRITE] done
        C: IDLE
        S: + idling
        S: * 1 EXISTS
        C: DONE
        S: T2 OK idled
        C: UNSELECT
        S: $ OK done
        C: DELETE \"Box\"
        S: $ OK done";
    let played = tokio::spawn(async move { play(stream, script).await });
    let name = MailboxName::new(b"Box");
    let _ = harness.jobs.send(Job::watch(name.clone()));
    while !matches!(harness.events.recv().await.unwrap().data, Data::Exists(1)) {}
    let (_, done) = collect(harness.send(Target::Account, Command::Delete(name), 1000)).await;
    assert!(done.unwrap().is_ok());
    tokio::time::sleep(CALM * 3).await;
    assert!(heard(harness, played).await.ends_with("DELETE \"Box\"\r\nZ LOGOUT\r\n"));
}

#[tokio::test(start_paused = true)]
async fn what_changed_since_a_modseq_comes_with_select_and_nothing_is_made_up() {
    for (script, want, resynced) in [
        ("S: * VANISHED (EARLIER) 1:4294967295\nS: * 1 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (8))", 2, true),
        ("S: * 1 FETCH (FLAGS (\\Seen))", 0, true),
        ("S: * VANISHED (EARLIER) nonsense\nS: * 1 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (8))", 0, false),
    ] {
        let server = Server { qresync: true, capabilities: vec!["QRESYNC".into()], ..Server::default() };
        let mut harness = session_of(&server, false);
        let script = format!("C: SELECT \"INBOX\" (QRESYNC (9 7 1:3))\nS: * 3 EXISTS\n{script}\nS: $ OK done");
        let stream = harness.server.take().unwrap();
        tokio::spawn(async move { play(stream, &script).await });
        let command = Command::Resync { validity: UidValidity(9), modseq: 7, known: Some(uids("1:3")) };
        let (rows, done) = collect(harness.send(mailbox("INBOX", None), command, 1 << 16)).await;
        let selected = done.unwrap().unwrap().selected.unwrap();
        assert_eq!((rows.len(), selected.resynced, selected.exists), (want, resynced, 3), "{rows:?}");
    }
    // The mailbox may be open already: what it tells is for who asked, not news.
    let server = Server { qresync: true, capabilities: vec!["QRESYNC".into()], ..Server::default() };
    let mut harness = session_of(&server, false);
    let select = "C: SELECT \"INBOX\" (QRESYNC (9 7 1:3))\nS: * 3 EXISTS\nS: * VANISHED (EARLIER) 2\nS: $ OK done\n";
    let stream = harness.server.take().unwrap();
    let script = select.repeat(2);
    tokio::spawn(async move { play(stream, &script).await });
    for _ in 0..2 {
        let command = Command::Resync { validity: UidValidity(9), modseq: 7, known: Some(uids("1:3")) };
        let (rows, done) = collect(harness.send(mailbox("INBOX", None), command, 1 << 16)).await;
        assert_eq!((rows.len(), done.unwrap().unwrap().selected.unwrap().resynced), (1, true));
    }
    // Where it was not enabled it is a SELECT, and says so.
    let mut harness = session_with(&["QRESYNC"], false);
    let stream = harness.server.take().unwrap();
    tokio::spawn(async move { play(stream, "C: SELECT \"INBOX\" (CONDSTORE)\nS: $ OK done").await });
    let command = Command::Resync { validity: UidValidity(9), modseq: 7, known: None };
    let (_, done) = collect(harness.send(mailbox("INBOX", None), command, 1 << 16)).await;
    assert!(!done.unwrap().unwrap().selected.unwrap().resynced);
}
