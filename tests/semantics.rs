//! What the user is promised: the comment of each test is the promise.

#![allow(clippy::unwrap_used)]

mod common;
mod model;

use std::sync::Arc;
use std::time::Duration;

use common::corpus::build;
use imapfs::error::Error;
use imapfs::imap::{Command, FetchItem};
use imapfs::tree::node::ROOT;
use model::message::Message;
use model::server::Exchange;
use model::{Mounted, Random, Server};

/// A message with a text and a base64 attachment `data.bin` of so many octets, decoded.
fn with_attachment(octets: usize) -> (Vec<u8>, Vec<u8>) {
    let data = build::noise(octets, 9);
    let part = build::attachment("application/octet-stream", "; filename=\"data.bin\"", &data);
    (build::with_part("attachment", part), data)
}

fn plain(n: usize) -> Vec<u8> {
    build::message(&format!("n{n}"), &format!("Number {n}"), &[], build::TEXT)
}

/// The name of the message of [`plain`] or [`with_attachment`] with this subject and UID.
fn name(subject: &str, uid: u32) -> String {
    format!("2026-11-21T0915_Alïce_{subject}.{uid}")
}

fn octets(exchanges: &[Exchange]) -> u64 {
    exchanges.iter().map(|exchange| exchange.octets).sum()
}

/// A message's name never changes and ends in its UID.
#[tokio::test]
async fn names_are_stable() {
    let server = Server::with_messages((1..4).map(plain));
    let mounted = Mounted::new(&server).await;
    let before = mounted.names("INBOX").await.unwrap();
    assert_eq!(before, [name("Number-1", 1), name("Number-2", 2), name("Number-3", 3)]);
    server.set_flags("INBOX", 2, "\\Seen $Forwarded");
    server.expunge("INBOX", 1);
    server.append("INBOX", Message::new(plain(4)));
    assert_eq!(
        mounted.names("INBOX").await.unwrap(),
        [&before[1], &before[2], &name("Number-4", 4)].map(String::clone)
    );
    let again = Mounted::new(&server).await;
    assert_eq!(again.names("INBOX").await.unwrap(), mounted.names("INBOX").await.unwrap());
}

/// Inode numbers are the same in `readdir`, `stat` and the next mount.
#[tokio::test]
async fn inode_numbers_are_computed() {
    let server = Server::with_messages([with_attachment(1000).0]);
    server.create("Lists/rust");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mounted = Mounted::new(&server).await;
        let mut inos = Vec::new();
        let mut todo = vec![ROOT];
        while let Some(directory) = todo.pop() {
            for entry in mounted.list(directory).await.unwrap() {
                let found = mounted.fs.lookup(directory, &entry.name).await.unwrap();
                assert_eq!(found.attr.ino, entry.entry.attr.ino, "{}", entry.name);
                assert_eq!(mounted.fs.getattr(found.attr.ino).await.unwrap().attr.ino, found.attr.ino);
                inos.push((entry.name, found.attr.ino));
                if found.attr.kind == imapfs::fs::Kind::Directory {
                    todo.push(found.attr.ino);
                }
            }
        }
        seen.push(inos);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].len(), 7);
}

/// A name is found with one exchange, however large the mailbox is.
#[tokio::test]
async fn lookup_of_one_name_asks_for_one_message() {
    let message = plain(7);
    let server = Server::with_messages(std::iter::repeat_n(bytes::Bytes::from(message), 33_000));
    let mounted = Mounted::new(&server).await;
    server.forget();
    let inbox = mounted.find("INBOX").await.unwrap().attr.ino;
    assert!(mounted.fs.lookup(inbox, &name("Number-7", 32_123)).await.is_ok());
    let exchanges = server.exchanges();
    assert_eq!(exchanges.len(), 2, "{exchanges:?}");
    assert!(exchanges[1].is_fetch() && octets(&exchanges) < 1000);
    // Another spelling of a known message, and what no message is called.
    for other in [name("Number-8", 32_123), "2026-11-21T0915_Alïce.32123".into(), "32123".into(), "x".into()] {
        assert_eq!(mounted.fs.lookup(inbox, &other).await.unwrap_err(), Error::NotFound, "{other}");
    }
    assert!(server.exchanges().iter().all(|exchange| !exchange.is_fetch()));
}

/// A listing asks the server nothing about sizes of parts, nor anything for each message.
#[tokio::test]
async fn a_listing_is_a_few_exchanges() {
    let server = Server::with_messages((0..2000).map(plain));
    let mounted = Mounted::lasting(&server).await;
    server.forget();
    assert_eq!(mounted.names("INBOX").await.unwrap().len(), 2000);
    let exchanges = server.exchanges();
    assert!(exchanges.len() <= 3, "{exchanges:?}");
    for exchange in &exchanges {
        let is_part = |item: &FetchItem| matches!(item, FetchItem::Body(..) | FetchItem::BodyStructure);
        assert!(!exchange.items().iter().any(is_part));
    }
    // Again, with attributes and extended attributes of each: all is known.
    let inbox = mounted.find("INBOX").await.unwrap().attr.ino;
    for entry in mounted.list(inbox).await.unwrap() {
        mounted.fs.getattr(entry.entry.attr.ino).await.unwrap();
        mounted.fs.getxattr(entry.entry.attr.ino, "user.imap.flags").await.unwrap();
        mounted.fs.lookup(inbox, &entry.name).await.unwrap();
    }
    assert!(server.exchanges().is_empty());
}

/// A look at a mailbox that did not change is one exchange.
#[tokio::test]
async fn an_unchanged_mailbox_is_asked_for_its_status() {
    let server = Server::with_messages((0..50).map(plain));
    let mounted = Mounted::new(&server).await;
    mounted.names("INBOX").await.unwrap();
    server.forget();
    mounted.names("INBOX").await.unwrap();
    let exchanges = server.exchanges();
    let asked: Vec<_> = exchanges.iter().filter(|e| !matches!(e.command, Command::List)).collect();
    assert!(matches!(asked[..], [Exchange { command: Command::Status(_), .. }]), "{exchanges:?}");
}

/// A listing of a message asks how it is built, and nothing else.
#[tokio::test]
async fn a_listing_of_a_message_asks_for_its_structure() {
    let server = Server::with_messages([with_attachment(100_000).0]);
    let mounted = Mounted::lasting(&server).await;
    mounted.names("INBOX").await.unwrap();
    server.forget();
    let path = format!("INBOX/{}", name("attachment", 1));
    assert_eq!(mounted.names(&path).await.unwrap(), ["headers.txt", "body.txt", "data.bin"]);
    let exchanges = server.exchanges();
    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0].items(), [FetchItem::BodyStructure, FetchItem::Size]);
    mounted.names(&path).await.unwrap();
    assert!(server.exchanges().is_empty());
}

/// What is read comes over the wire in the ranges that are read, and never twice.
#[tokio::test]
async fn a_peek_moves_little() {
    let (message, data) = with_attachment(3_500_000);
    let encoded = data.len() as u64 / 57 * 78;
    let server = Server::with_messages([message]);
    let mounted = Mounted::lasting(&server).await;
    let path = format!("INBOX/{}/data.bin", name("attachment", 1));
    let ino = mounted.find(&path).await.unwrap().attr.ino;
    server.forget();
    assert_eq!(mounted.fs.getattr(ino).await.unwrap().attr.size, data.len() as u64);
    assert_eq!(mounted.peek(ino, 0, 4096).await.unwrap(), data[..4096]);
    let first = octets(&server.exchanges());
    assert!(first <= 64 * 1024, "{first} octets for the first 4 KiB");
    assert_eq!(mounted.peek(ino, 3_000_000, 4096).await.unwrap(), data[3_000_000..3_004_096]);
    let middle = octets(&server.exchanges());
    assert!(first + middle <= 128 * 1024, "{middle} octets for 4 KiB in the middle");
    assert_eq!(mounted.peek(ino, 3_000_000, 4096).await.unwrap(), data[3_000_000..3_004_096]);
    assert!(server.exchanges().is_empty());
    assert!(mounted.cat(ino).await.unwrap() == data);
    let rest = octets(&server.exchanges());
    let all = first + middle + rest;
    assert!(all <= encoded * 102 / 100, "{all} octets for a part of {encoded}");
    assert!(mounted.cat(ino).await.unwrap() == data);
    assert!(server.exchanges().is_empty());
}

/// A small message comes whole, beside its structure.
#[tokio::test(start_paused = true)]
async fn reading_the_texts_of_a_small_message_is_one_round_trip() {
    let server = Server::with_messages([build::multipart("both", "alternative", &[build::plain(), build::html()])]);
    let mounted = Mounted::lasting(&server).await;
    mounted.names("INBOX").await.unwrap();
    server.forget();
    const DELAY: Duration = Duration::from_millis(50);
    server.lock().delay = DELAY;
    let path = format!("INBOX/{}", name("both", 1));
    let start = tokio::time::Instant::now();
    for file in ["body.txt", "headers.txt", "body.html", "message.eml"] {
        assert!(!mounted.cat_path(&format!("{path}/{file}")).await.unwrap().is_empty());
        assert!(start.elapsed() < DELAY * 3 / 2, "{file}: {:?}", start.elapsed());
    }
    assert_eq!(server.exchanges().len(), 2);
}

/// Two readers of the same bytes share one fetch.
#[tokio::test(start_paused = true)]
async fn concurrent_readers_share_a_flight() {
    let (message, data) = with_attachment(200_000);
    let server = Server::with_messages([message]);
    let mounted = Arc::new(Mounted::lasting(&server).await);
    let path = format!("INBOX/{}/data.bin", name("attachment", 1));
    let ino = mounted.find(&path).await.unwrap().attr.ino;
    mounted.fs.getattr(ino).await.unwrap();
    server.forget();
    server.lock().delay = Duration::from_millis(50);
    for octets in futures::future::join_all((0..8).map(|_| mounted.peek(ino, 100_000, 4096))).await {
        assert_eq!(octets.unwrap(), data[100_000..104_096]);
    }
    let exchanges = server.exchanges();
    assert_eq!(exchanges.len(), 1, "{exchanges:?}");
}

/// A sequential reader keeps the line full.
#[tokio::test(start_paused = true)]
async fn a_sequential_reader_keeps_many_windows_in_flight() {
    let (message, data) = with_attachment(50_000_000);
    let server = Server::with_messages([message]);
    let options = imapfs::account::Options { memory: 256 << 20, ..model::walk::options() };
    let mounted = Mounted::try_new(&server, options).await.unwrap();
    let path = format!("INBOX/{}/data.bin", name("attachment", 1));
    let ino = mounted.find(&path).await.unwrap().attr.ino;
    server.forget();
    server.lock().delay = Duration::from_millis(50);
    let start = tokio::time::Instant::now();
    assert!(mounted.cat(ino).await.unwrap() == data);
    let took = start.elapsed();
    let most = server.lock().in_flight.1;
    let moved = octets(&server.exchanges());
    assert!(moved <= data.len() as u64 / 57 * 78 * 102 / 100, "{moved} octets");
    // Of up to 2 MiB each.
    assert!(most >= 8, "{most} in flight");
    assert!(took < Duration::from_millis(2000), "{took:?} of round trips");
}

/// Reading never marks.
#[tokio::test]
async fn reading_changes_nothing() {
    let server = Server::with_messages([plain(1), with_attachment(20_000).0]);
    server.set_flags("INBOX", 2, "$Forwarded");
    let mounted = Mounted::new(&server).await;
    mounted.check_mailbox("INBOX", &mut Random::new(4)).await.expect_no_errors("reading");
    let flags =
        server.with("INBOX", |mailbox| mailbox.messages.values().map(|m| m.flags.to_string()).collect::<Vec<_>>());
    assert_eq!(flags, ["", "$Forwarded"]);
    let inbox = mounted.find("INBOX").await.unwrap().attr.ino;
    for entry in mounted.list(inbox).await.unwrap() {
        // It would be another message: nothing in its directory can be opened for writing as a file.
        assert!(mounted.fs.open(entry.entry.attr.ino, true, 0).await.is_err());
    }
}

/// A size that turns out wrong in the middle of a part is corrected, and the kernel is told. Who finds it out gets an error:
/// what he has read of it, and where the kernel takes its end to be, may be wrong.
#[tokio::test]
async fn a_size_is_corrected_when_the_lines_change_in_the_middle() {
    let data = build::noise(30_000, 9);
    // Both ends have lines of 76 characters. In the middle 39 lines of 60 take the octets of 31 such lines.
    let cut = |range: std::ops::Range<usize>, width| build::base64_lines(&data[range], width);
    let lines = [cut(0..5700, 76), cut(5700..5700 + 39 * 45, 60), cut(5700 + 39 * 45..data.len(), 76)].concat();
    let fields = ["Content-Disposition: attachment; filename=\"data.bin\"", build::CTE64];
    let message = build::with_part("attachment", build::part("image/png", &fields, lines));
    let server = Server::with_messages([message]);
    let mounted = Mounted::lasting(&server).await;
    let mut invalidations = mounted.fs.invalidations().unwrap();
    let path = format!("INBOX/{}/data.bin", name("attachment", 1));
    let ino = mounted.find(&path).await.unwrap().attr.ino;
    assert_eq!(mounted.fs.getattr(ino).await.unwrap().attr.size, data.len() as u64 + 12);
    assert!(matches!(mounted.cat(ino).await, Err(Error::Protocol(_))));
    assert_eq!(mounted.fs.getattr(ino).await.unwrap().attr.size, data.len() as u64);
    assert_eq!(invalidations.recv().await, Some(imapfs::fs::Invalidation::Attr(ino)));
    assert_eq!(invalidations.recv().await, Some(imapfs::fs::Invalidation::Data(ino)));
    assert!(mounted.cat(ino).await.unwrap() == data);
}

/// `st_size` equals what a reader gets.
#[tokio::test]
async fn sizes_are_true() {
    let server = Server::with_messages([with_attachment(70_001).0]);
    let mounted = Mounted::lasting(&server).await;
    let path = format!("INBOX/{}", name("attachment", 1));
    for file in ["headers.txt", "body.txt", "data.bin", "message.eml"] {
        let found = mounted.find(&format!("{path}/{file}")).await.unwrap();
        let exact = mounted.fs.getattr(found.attr.ino).await.unwrap();
        // Before it was known, no less than that, and for no time.
        assert!(found.attr.size >= exact.attr.size && (found.attr_ttl.is_zero() || found.attr == exact.attr), "{file}");
        assert_eq!(mounted.cat(found.attr.ino).await.unwrap().len() as u64, exact.attr.size, "{file}");
        let found = mounted.find(&format!("{path}/{file}")).await.unwrap();
        assert!(found.attr == exact.attr && !found.attr_ttl.is_zero(), "{file}");
    }
}
