//! What goes wrong in a batch that is fetched ahead of a walker touches no other message, and nobody sees it who asks.

#![allow(clippy::unwrap_used)]

mod common;
mod model;

use std::time::Duration;

use common::corpus::build;
use imapfs::error::Error;
use imapfs::fs::{DirEntry, Kind};
use imapfs::imap::{Command, FetchItem};
use imapfs::mail::uid::Uid;
use model::lies::{Bodies, Expunged, Octets, Structure};
use model::server::Cut;
use model::walk::{Tally, expected};
use model::{Lies, Mounted, Server};
use tokio::time::timeout;

const MESSAGES: u32 = 40;

/// Text, HTML, and of every third an attachment.
fn server() -> Server {
    Server::with_messages((1..=MESSAGES).map(|number| {
        let line = format!("Line of message {number}.\r\n");
        let text = build::part("text/plain; charset=utf-8", &[], line.repeat(20));
        let mut parts = vec![text];
        if number % 3 == 0 {
            let data = build::noise(3000 * number as usize, number.into());
            parts.push(build::attachment("image/png", "; filename=\"a.png\"", &data));
        }
        build::multipart(&format!("message-{number}"), "mixed", &parts)
    }))
}

/// Walks as `cp -r` does: each file is listed, looked at and read. What is read is what the message holds.
async fn walk(mounted: &Mounted) -> Tally {
    let mut tally = Tally::default();
    let listed = mounted.list(mounted.find("INBOX").await.unwrap().attr.ino).await.unwrap();
    for message in listed {
        let Some(uid) = message.name.rsplit('.').next().and_then(|uid| uid.parse::<u32>().ok()) else { continue };
        tally.messages += 1;
        let files = match mounted.list(message.entry.attr.ino).await {
            Ok(files) => files,
            Err(error) => {
                tally.errors.push((uid.to_string(), error));
                continue;
            }
        };
        let want = mounted.server.with("INBOX", |mailbox| mailbox.messages.get(&uid).map(expected));
        for file in files.into_iter().filter(|file| file.entry.attr.kind == Kind::File) {
            let read = async {
                let size = mounted.fs.getattr(file.entry.attr.ino).await?.attr.size;
                mounted.cat(file.entry.attr.ino).await.map(|octets| (size, octets))
            };
            match (read.await, &want) {
                (Ok((size, octets)), Some(want)) => {
                    let right = &want[&format!("/{}", file.name)];
                    assert!(octets == *right && size == right.len() as u64, "{} of {uid}", file.name);
                    tally.right += 1;
                }
                (Ok(_), None) => panic!("{} of {uid}, which is gone", file.name),
                (Err(error), _) => tally.errors.push((uid.to_string(), error)),
            }
        }
    }
    tally
}

/// How many FETCHes there were, and how many of them told of several messages what is in them.
fn fetches(server: &Server) -> (usize, usize) {
    let fetches: Vec<_> = server.exchanges().into_iter().filter(model::Exchange::is_fetch).collect();
    let is_batch =
        |e: &&model::Exchange| matches!(&e.command, Command::Fetch { uids, .. } if (2..1000).contains(&uids.len()));
    (fetches.len(), fetches.iter().filter(is_batch).count())
}

#[tokio::test]
async fn a_walk_takes_few_exchanges_and_each_octet_comes_once() {
    let server = server();
    let mounted = Mounted::lasting(&server).await;
    let tally = walk(&mounted).await;
    tally.expect_no_errors("a walk");
    assert_eq!(tally.right as u32, 2 * MESSAGES + MESSAGES / 3);
    let octets: u64 = server.lock().exchanges.iter().map(|e| e.octets).sum();
    let all: usize = server.with("INBOX", |mailbox| mailbox.messages.values().map(|m| m.bytes.len()).sum());
    let (count, batches) = fetches(&server);
    assert!(count <= 40 && batches >= 4, "{count} exchanges, {batches} batches");
    assert!(octets <= all as u64 * 11 / 10 + 40_000, "{octets} of {all}");
    walk(&mounted).await.expect_no_errors("again");
    assert_eq!(fetches(&server).0, 0);
}

#[tokio::test]
async fn a_connection_that_is_lost_in_a_batch_costs_exchanges_and_nothing_else() {
    let undisturbed = {
        let server = server();
        walk(&Mounted::lasting(&server).await).await.expect_no_errors("no cut");
        server.exchanges()
    };
    let is_batch =
        |command: &Command| matches!(command, Command::Fetch { uids, .. } if (2..1000).contains(&uids.len()));
    let cuts = (0..undisturbed.len()).filter(|at| is_batch(&undisturbed[*at].command));
    for at in cuts {
        for (half, silent) in [(false, false), (true, false), (true, true), (false, true)] {
            let server = server();
            let mounted = Mounted::lasting(&server).await;
            let cut = Cut { at, count: 1, half, silent };
            server.lock().cut_at = Some(cut);
            let tally = walk(&mounted).await;
            tally.expect_no_errors(&format!("{cut:?}"));
            assert_eq!(tally.right as u32, 2 * MESSAGES + MESSAGES / 3, "{cut:?}");
        }
    }
}

#[tokio::test]
async fn a_message_that_is_expunged_costs_no_other_one_in_its_batch() {
    for expunged in [Expunged::Nothing, Expunged::MadeUp, Expunged::Empty, Expunged::Nil, Expunged::LastMessage] {
        let server = server();
        server.lock().lies.expunged = expunged;
        let mounted = Mounted::lasting(&server).await;
        mounted.names("INBOX").await.unwrap();
        for gone in [9, 20] {
            server.expunge("INBOX", gone);
        }
        let tally = walk(&mounted).await;
        assert_eq!(tally.messages as u32, MESSAGES, "{expunged:?}");
        assert_eq!(tally.right as u32, 2 * (MESSAGES - 2) + MESSAGES / 3 - 1, "{expunged:?}");
        for (uid, error) in &tally.errors {
            assert!(["9", "20"].contains(&uid.as_str()), "{expunged:?}: {uid}: {error:?}");
            // An answer of nothing but NIL may be a message that is there as well.
            let is_meant = matches!(error, Error::Stale | Error::NotFound)
                || expunged == Expunged::Nil && matches!(error, Error::Protocol(_));
            assert!(is_meant, "{expunged:?}: {uid}: {error:?}");
        }
        assert!(!tally.errors.is_empty());
    }
}

#[tokio::test]
async fn a_lie_in_one_row_of_a_batch_is_not_believed_and_costs_no_other_message() {
    let bodies = [Bodies::Nil, Bodies::Missing, Bodies::Empty].map(|bodies| Lies { bodies, ..Lies::default() });
    let structures = [Structure::Odd, Structure::Missing, Structure::MultipartLeaf];
    let structures = structures.map(|structure| Lies { structure, ..Lies::default() });
    let octets = [Octets::Off(-2), Octets::Off(300), Octets::Zero, Octets::Huge];
    let octets = octets.map(|octets| Lies { octets, ..Lies::default() });
    let sizes = [-1, 1, 4000].map(|size| Lies { size, ..Lies::default() });
    for lies in bodies.iter().chain(&structures).chain(&octets).chain(&sizes) {
        let server = server();
        let mounted = Mounted::lasting(&server).await;
        server.lock().batch_lies = Some((12, *lies));
        let tally = walk(&mounted).await;
        tally.expect_no_errors(&format!("{lies:?}"));
        assert_eq!(tally.right as u32, 2 * MESSAGES + MESSAGES / 3, "{lies:?}");
        let (count, _) = fetches(&server);
        assert!(count <= 46, "{lies:?}: {count} exchanges");
    }
}

/// Reads the texts of so many messages, from the first on or from the last.
async fn read_texts(mounted: &Mounted, count: usize, down: bool) {
    let listed = mounted.list(mounted.find("INBOX").await.unwrap().attr.ino).await.unwrap();
    let is_message = |entry: &&DirEntry| entry.entry.attr.kind == Kind::Directory && !entry.name.starts_with('.');
    let mut messages: Vec<_> = listed.iter().filter(is_message).collect();
    if down {
        messages.reverse();
    }
    for message in messages.into_iter().take(count) {
        let files = mounted.list(message.entry.attr.ino).await.unwrap();
        for file in files.into_iter().filter(|file| file.entry.attr.kind == Kind::File) {
            assert!(!mounted.cat(file.entry.attr.ino).await.unwrap().is_empty());
        }
    }
}

/// The first FETCH of several messages, this one among them, that asks for such an item; which one of all exchanges it is.
fn asks(server: &Server, uid: u32, item: impl Fn(&FetchItem) -> bool) -> Option<usize> {
    let is_it = |exchange: &model::Exchange| match &exchange.command {
        Command::Fetch { uids, items, .. } => {
            uids.len() > 1 && items.iter().any(&item) && uids.contains(Uid::new(uid).unwrap())
        }
        _ => false,
    };
    server.lock().exchanges.iter().position(is_it)
}

async fn asks_for_text(server: &Server, uid: u32) -> usize {
    let asked = async {
        loop {
            match asks(server, uid, |item| matches!(item, FetchItem::Body(..))) {
                Some(at) => return at,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    timeout(Duration::from_secs(20), asked).await.expect("it is asked for")
}

/// Texts of messages whose structures are known do not wait for the structures of those behind them.
#[tokio::test]
async fn what_can_be_asked_for_waits_for_nothing() {
    let text = |number: u32| build::part("text/plain", &[], format!("Line of message {number}.\r\n"));
    let message = |number: u32| build::multipart(&format!("message-{number}"), "mixed", &[text(number)]);
    let server = Server::with_messages((1..=200).map(message));
    let mounted = Mounted::lasting(&server).await;
    server.lock().withheld = Some(190);
    read_texts(&mounted, 3, false).await;
    asks_for_text(&server, 100).await;
    assert!(asks(&server, 190, |item| *item == FetchItem::BodyStructure).is_some());
    server.lock().withheld = None;
}

/// Servers answer by ascending UIDs, and one FETCH after the other: who walks down, past messages of several kinds, does
/// not wait for what he wants last.
#[tokio::test]
async fn what_is_wanted_first_is_asked_for_first() {
    for down in [false, true] {
        let message = |number: u32| {
            let line = format!("Line of message {number}.\r\n");
            let html = build::part("text/html", &[], format!("<p>{line}</p>"));
            let parts = [build::part("text/plain", &[], line), html];
            build::multipart(&format!("message-{number}"), "mixed", &parts[..1 + number as usize % 2])
        };
        let server = Server::with_messages((1..=120).map(message));
        let mounted = Mounted::lasting(&server).await;
        read_texts(&mounted, 5, down).await;
        let uid = |place: u32| if down { 121 - place } else { place };
        let mut near = [asks_for_text(&server, uid(22)).await, asks_for_text(&server, uid(23)).await];
        let far = [asks_for_text(&server, uid(110)).await, asks_for_text(&server, uid(111)).await];
        near.sort_unstable();
        assert!(near[1] < far[0].min(far[1]), "{near:?} {far:?}");
    }
}
