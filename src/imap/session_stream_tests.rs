//! A large body that is handed on while it comes.

use bytes::Bytes;

use super::super::request::{self, Answer, Answers, Class, Command, FetchItem, Request};
use super::super::response::Data;
use super::super::testing::{Harness, collect, mailbox, selected, session};
use super::*;
use crate::mail::section::Section;
use crate::mail::uid::UidSet;

const MIB: u64 = 1 << 20;

/// Octets `range` of the body.
fn octets(offset: u64, count: u64) -> Vec<u8> {
    (offset..offset + count).map(|n| b'a' + (n % 23) as u8).collect()
}

fn row(uid: u32, offset: u64, count: u64) -> String {
    let literal = String::from_utf8(octets(offset, count)).unwrap();
    format!("* 1 FETCH (UID {uid} RFC822.SIZE 9 BODY[1]<{offset}> {{{count}}}\r\n{literal})\r\n")
}

fn stream(harness: &Harness, offset: u64, count: u64, parts: bool) -> Answers {
    let (answers, receiver) = request::answers();
    let items = vec![FetchItem::Size, FetchItem::Body(Section::part(&[1]), Some((offset, count as u32)))];
    let command = Command::Fetch { uids: UidSet::range(2, 2), items, changed_since: None };
    let (target, class, limit) = (mailbox("INBOX", 9), Class::Bulk, count + 4096);
    harness.jobs.send(Job::new(Request { target, command, class, limit, parts, on: None, answers })).unwrap();
    receiver
}

/// How many parts came, and all octets, of which the row brought the last.
async fn taken(mut answers: Answers) -> (usize, Vec<u8>, Result<()>) {
    let (mut parts, mut all, mut rows) = (0, Vec::new(), 0);
    while let Some(answer) = answers.recv().await {
        match answer {
            Answer::Part(size, part) => {
                assert!(size == Some(9) && rows == 0);
                parts += 1;
                all.extend(part);
            }
            Answer::Data(Data::Fetch(row)) => {
                let body: Vec<Bytes> = row.bodies.into_iter().filter_map(|body| body.data).collect();
                rows += body.len();
                all.extend(body.concat());
            }
            Answer::Data(_) => {}
            Answer::Done(end) => return (parts, all, end.map(drop)),
        }
    }
    (parts, all, Err(Error::offline("no end")))
}

/// Two ranges of a body are asked for at once; the server answers with `rows`.
async fn both(rows: [String; 2], parts: bool) -> [(usize, Vec<u8>, Result<()>); 2] {
    let mut harness = session();
    let mut rows = rows.into_iter();
    harness.serve(move |tag, command| match command.split(' ').next() {
        Some("SELECT") => selected(tag),
        _ => format!("{}{tag} OK done\r\n", rows.next().unwrap_or_default()),
    });
    let answers = [stream(&harness, 0, 2 * MIB, parts), stream(&harness, 2 * MIB, 3 * MIB, parts)];
    let [first, second] = answers.map(taken);
    tokio::join!(first, second).into()
}

#[tokio::test(start_paused = true)]
async fn the_octets_of_a_body_reach_who_wants_them_as_they_come() {
    let rows = || [row(2, 0, 2 * MIB), row(2, 2 * MIB, 3 * MIB)];
    let whole = [octets(0, 2 * MIB), octets(2 * MIB, 3 * MIB)];
    for (parts, least) in [(true, [7, 11]), (false, [0, 0])] {
        let came = both(rows(), parts).await;
        for ((came, whole), least) in came.iter().zip(&whole).zip(least) {
            assert!(came.2.is_ok() && came.1 == *whole, "{} octets", came.1.len());
            assert!(if parts { (least..=least + 1).contains(&came.0) } else { came.0 == 0 }, "{} parts", came.0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_octets_of_another_body_reach_nobody() {
    for wrong in [
        row(3, 0, 2 * MIB),
        row(2, 1, 2 * MIB),
        row(2, 0, 2 * MIB).replace("BODY[1]", "BODY[2]"),
        row(2, 0, 2 * MIB).replace("UID 2 ", ""),
    ] {
        let [(parts, octets, end), (.., others)] = both([wrong.clone(), row(2, 2 * MIB, 3 * MIB)], true).await;
        assert!(parts == 0 && octets.is_empty() && end.is_ok() && others.is_ok(), "{}", &wrong[..60]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_before_its_size_comes_whole() {
    let late =
        |offset, count| row(2, offset, count).replace("RFC822.SIZE 9 ", "").replace(")\r\n", " RFC822.SIZE 9)\r\n");
    for (parts, octets, end) in both([late(0, 2 * MIB), late(2 * MIB, 3 * MIB)], true).await {
        assert!(parts == 0 && octets.len() as u64 >= 2 * MIB && end.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_was_asked_for_is_an_error() {
    let [(_, _, end), _] = both([row(2, 0, 4 * MIB), String::new()], true).await;
    assert!(end.is_err(), "{end:?}");
}

/// A hundred thousand rows that nobody takes: they come at their leisure, and in the end what else was asked is answered.
#[tokio::test(start_paused = true)]
async fn what_is_not_taken_piles_up_slowly_and_holds_up_nobody_for_ever() {
    let rows: String = (1..100_001).map(|n| format!("* {n} FETCH (UID {n} FLAGS (\\Seen))\r\n")).collect();
    let mut harness = session();
    harness.serve(move |tag, command| match command.split(' ').next().unwrap() {
        "SELECT" => selected(tag),
        "UID" => format!("{rows}{tag} OK done\r\n"),
        _ => format!("{tag} OK done\r\n"),
    });
    let command =
        Command::Fetch { uids: UidSet::range(1, 100_000), items: vec![FetchItem::Flags], changed_since: None };
    let flags = harness.send(mailbox("INBOX", 9), command, 100 << 20);
    let noop = harness.send(request::Target::Account, Command::Noop, MIB);
    sleep(Duration::from_millis(10)).await;
    // One read more than is too many.
    assert!((MANY..3 * MANY).contains(&flags.len()), "{}", flags.len());
    let (_, end) = timeout(Duration::from_secs(30), collect(noop)).await.unwrap();
    assert!(end.unwrap().is_ok());
    let (rows, end) = collect(flags).await;
    assert!(rows.len() == 100_000 && end.unwrap().is_ok());
}
