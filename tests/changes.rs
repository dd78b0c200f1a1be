//! What others do while the account is mounted: the comment of each test is what the user is promised.

#![allow(clippy::unwrap_used)]

mod common;
mod model;

use common::corpus::build;
use imapfs::error::Error;
use imapfs::fs::Invalidation;
use imapfs::imap::response::{Data, FetchRow};
use imapfs::imap::server::Event;
use imapfs::mail::flag::Flags;
use imapfs::mail::mailbox_name::MailboxName;
use imapfs::mail::uid::Uid;
use model::lies::Expunged;
use model::message::Message;
use model::{Lies, Mounted, Random, Server};

/// A message with a text and a base64 attachment `data.bin`.
fn with_attachment() -> Vec<u8> {
    let part = build::attachment("application/octet-stream", "; filename=\"data.bin\"", &build::noise(100_000, 9));
    build::with_part("attachment", part)
}

/// A message that was expunged under a reader gives an error, never short data.
#[tokio::test]
async fn an_expunged_message_is_an_error() {
    for expunged in [Expunged::Nothing, Expunged::MadeUp, Expunged::Empty, Expunged::Nil, Expunged::LastMessage] {
        for look in [false, true] {
            let server = Server::with_messages([with_attachment(), with_attachment()]);
            server.lock().lies = Lies { expunged, ..Lies::default() };
            let mounted = Mounted::new(&server).await;
            let inbox = mounted.find("INBOX").await.unwrap().attr.ino;
            let directory = mounted.list(inbox).await.unwrap()[0].entry.attr.ino;
            let mut open = Vec::new();
            for name in ["data.bin", "message.eml"] {
                let ino = mounted.fs.lookup(directory, name).await.unwrap().attr.ino;
                open.push(mounted.fs.open(ino, false, 0).await.unwrap().handle);
            }
            let text = mounted.fs.lookup(directory, "body.txt").await.unwrap().attr.ino;
            server.expunge("INBOX", 1);
            if look {
                assert_eq!(mounted.list(inbox).await.unwrap().len(), 1);
            }
            for handle in open {
                let error = mounted.fs.read(handle, 50_000, 4096).await.unwrap_err();
                assert!(matches!(error, Error::Stale | Error::Protocol(_)), "{expunged:?}: {error:?}");
            }
            for outcome in [mounted.fs.getattr(text).await.map(drop), mounted.fs.open(text, false, 0).await.map(drop)] {
                let error = outcome.unwrap_err();
                let is_meant = matches!(error, Error::Stale | Error::NotFound | Error::Protocol(_));
                assert!(is_meant, "{expunged:?}: {error:?}");
            }
            assert_eq!(mounted.list(inbox).await.unwrap().len(), 1, "{expunged:?}");
            let gone = mounted.fs.lookup(inbox, "2026-11-21T0915_Alïce_attachment.1").await;
            assert_eq!(gone.unwrap_err(), Error::NotFound, "{expunged:?}");
        }
    }
}

/// A name of a message that never was is not found, whatever the server makes of its UID.
#[tokio::test]
async fn what_never_was_is_not_found() {
    for expunged in [Expunged::Nothing, Expunged::MadeUp, Expunged::Empty, Expunged::Nil, Expunged::LastMessage] {
        let server = Server::with_messages([with_attachment()]);
        server.lock().lies = Lies { expunged, ..Lies::default() };
        let mounted = Mounted::new(&server).await;
        let gone = mounted.find("INBOX/2026-11-21T0915_Alïce_attachment.999").await;
        assert_eq!(gone.unwrap_err(), Error::NotFound, "{expunged:?}");
        assert_eq!(mounted.names("INBOX").await.unwrap().len(), 1, "{expunged:?}");
    }
}

/// A new UIDVALIDITY is new inode numbers; old ones are stale, and old names are other mail's or nobody's.
#[tokio::test]
async fn a_new_uidvalidity_is_new_inode_numbers() {
    for look in ["list", "lookup", "read"] {
        let server = Server::with_messages([build::message("a", "A", &[], "a\r\n"), with_attachment()]);
        let mounted = Mounted::new(&server).await;
        let inbox = mounted.find("INBOX").await.unwrap().attr.ino;
        let before = mounted.list(inbox).await.unwrap();
        let directory = before[1].entry.attr.ino;
        let ino = mounted.fs.lookup(directory, "data.bin").await.unwrap().attr.ino;
        let handle = mounted.fs.open(ino, false, 0).await.unwrap().handle;
        server.expunge("INBOX", 1);
        // Another message gets the UID of the first one.
        server.renumber("INBOX");
        let seen = match look {
            "list" => mounted.list(inbox).await.map(drop),
            "lookup" => mounted.fs.lookup(inbox, "2026-11-21T0915_Alïce_x.7").await.map(drop),
            _ => mounted.fs.read(handle, 50_000, 4096).await.map(drop),
        };
        assert!(matches!(seen, Err(Error::Stale | Error::NotFound)), "{look}: {seen:?}");
        // As a shell finds it: from the root.
        let _ = mounted.list(inbox).await;
        let now = mounted.find("INBOX").await.unwrap().attr.ino;
        assert_ne!(now, inbox, "{look}");
        let after = mounted.list(now).await.unwrap();
        assert_eq!(after.len(), 1);
        assert!(before.iter().all(|old| old.entry.attr.ino != after[0].entry.attr.ino));
        for ino in [inbox, directory, ino] {
            assert_eq!(mounted.fs.getattr(ino).await.unwrap_err(), Error::Stale, "{look}");
        }
        assert_eq!(mounted.fs.read(handle, 50_000, 4096).await.unwrap_err(), Error::Stale, "{look}");
        mounted.check_mailbox("INBOX", &mut Random::new(5)).await.expect_no_errors(look);
    }
}

/// Mailboxes that others make and remove come and go.
#[tokio::test]
async fn mailboxes_come_and_go() {
    let server = Server::with_messages([with_attachment()]);
    let mounted = Mounted::new(&server).await;
    assert_eq!(mounted.names("").await.unwrap(), ["INBOX"]);
    server.create("Lists/rust");
    assert!(mounted.find("Lists/rust").await.is_ok());
    assert_eq!(mounted.names("").await.unwrap(), ["INBOX", "Lists"]);
    let rust = mounted.find("Lists/rust").await.unwrap().attr.ino;
    server.append("Lists/rust", Message::new(with_attachment()));
    let message = mounted.list(rust).await.unwrap()[0].entry.attr.ino;
    server.delete("Lists/rust");
    assert_eq!(mounted.names("").await.unwrap(), ["INBOX"]);
    assert_eq!(mounted.find("Lists/rust").await.unwrap_err(), Error::NotFound);
    for ino in [rust, message] {
        assert_eq!(mounted.fs.getattr(ino).await.unwrap_err(), Error::Stale);
    }
    // The same name again is another mailbox: what was in the old one is not shown in it.
    server.create("Lists/rust");
    assert_eq!(mounted.names("Lists/rust").await.unwrap(), Vec::<String>::new());
}

/// A mailbox that is made anew under its old name between two looks holds the new mail only.
#[tokio::test]
async fn a_mailbox_that_was_replaced_holds_the_new_mail() {
    let server = Server::new();
    server.create("Work");
    server.append("Work", Message::new(build::message("old", "Old", &[], "old\r\n")));
    let mounted = Mounted::new(&server).await;
    let old = mounted.names("Work").await.unwrap();
    mounted.check_mailbox("Work", &mut Random::new(6)).await.expect_no_errors("old");
    server.delete("Work");
    server.create("Work");
    server.append("Work", Message::new(build::message("new", "New", &[], "new\r\n")));
    let _ = mounted.names("Work").await;
    let new = mounted.names("Work").await.unwrap();
    assert_ne!(old, new);
    mounted.check_mailbox("Work", &mut Random::new(7)).await.expect_no_errors("new");
}

/// What the server tells unasked is seen at the next look, and the kernel is told to forget what it held.
#[tokio::test]
async fn what_is_told_unasked_is_not_asked_for_late() {
    let server = Server::with_messages([with_attachment()]);
    let mounted = Mounted::lasting(&server).await;
    let mut invalidations = mounted.fs.invalidations().unwrap();
    let inbox = mounted.find("INBOX").await.unwrap().attr.ino;
    let first = mounted.list(inbox).await.unwrap().remove(0);
    server.append("INBOX", Message::new(with_attachment()));
    assert_eq!(mounted.list(inbox).await.unwrap().len(), 1, "nobody said anything");
    let name = Some(MailboxName::new(b"INBOX"));
    let tell = |data| mounted.events.send(Event { mailbox: name.clone(), data }).unwrap();
    tell(Data::Exists(2));
    tokio::task::yield_now().await;
    assert_eq!(mounted.list(inbox).await.unwrap().len(), 2);
    assert_eq!(invalidations.recv().await, Some(Invalidation::Data(inbox)));
    // A flag, from memory.
    let flags = Some(Flags::from_wire([&b"\\Flagged"[..]]));
    tell(Data::Fetch(Box::new(FetchRow { uid: Uid::new(1), flags, ..FetchRow::default() })));
    tokio::task::yield_now().await;
    assert_eq!(mounted.fs.getxattr(first.entry.attr.ino, "user.imap.flags").await.unwrap(), b"\\Flagged");
    server.expunge("INBOX", 1);
    tell(Data::Expunge(1));
    tokio::task::yield_now().await;
    assert_eq!(mounted.list(inbox).await.unwrap().len(), 1);
    let eml = mounted.find("INBOX/.eml").await.unwrap().attr.ino;
    let expected = [
        Invalidation::Entry(eml, format!("{}.eml", first.name)),
        Invalidation::Entry(inbox, first.name),
        Invalidation::Data(inbox),
    ];
    for expected in expected {
        assert_eq!(invalidations.recv().await, Some(expected));
    }
}

/// A directory's modification time moves when messages come or go, and then only.
#[tokio::test]
async fn the_time_of_a_mailbox_moves_with_its_content() {
    let server = Server::with_messages([with_attachment()]);
    let mounted = Mounted::new(&server).await;
    let inbox = mounted.find("INBOX").await.unwrap().attr.ino;
    let look = async || {
        mounted.list(inbox).await.unwrap();
        mounted.fs.getattr(inbox).await.unwrap().attr.mtime_nanos
    };
    let first = look().await;
    assert_eq!(look().await, first);
    server.set_flags("INBOX", 1, "\\Seen");
    assert_eq!(look().await, first);
    server.append("INBOX", Message::new(with_attachment()));
    let second = look().await;
    assert!(second > first);
    server.expunge("INBOX", 1);
    assert!(look().await > second);
}

/// A mailbox that may not be opened is shown, as the way to what is below it, and hides nothing else.
#[tokio::test]
async fn a_mailbox_that_is_denied_hides_no_other() {
    let server = Server::with_messages([with_attachment()]);
    server.create("Secret");
    server.create("Secret/Open");
    server.append("Secret/Open", Message::new(with_attachment()));
    server.create("Closed");
    server.lock().denied = vec!["Secret".into(), "Closed".into()];
    let mounted = Mounted::new(&server).await;
    assert_eq!(mounted.names("").await.unwrap(), ["INBOX", "Closed", "Secret"]);
    assert!(matches!(mounted.names("Closed").await, Err(Error::Denied(_))));
    assert_eq!(mounted.names("Secret").await.unwrap(), ["Open"]);
    assert_eq!(mounted.names("Secret/Open").await.unwrap().len(), 1);
    mounted.check_mailbox("Secret/Open", &mut Random::new(8)).await.expect_no_errors("below what is denied");
    server.lock().denied.clear();
    assert_eq!(mounted.names("Secret").await.unwrap(), ["Open"]);
}

/// A server that has no UIDVALIDITY is read all the same.
#[tokio::test]
async fn a_mailbox_without_uidvalidity_is_read() {
    let server = Server::with_messages([with_attachment()]);
    server.with("INBOX", |mailbox| mailbox.validity = 0);
    let mounted = Mounted::new(&server).await;
    let before = mounted.names("INBOX").await.unwrap();
    mounted.check_mailbox("INBOX", &mut Random::new(9)).await.expect_no_errors("no UIDVALIDITY");
    server.append("INBOX", Message::new(with_attachment()));
    assert_eq!(mounted.names("INBOX").await.unwrap()[..1], before);
    mounted.check_mailbox("INBOX", &mut Random::new(10)).await.expect_no_errors("no UIDVALIDITY");
}

/// A name that is not there costs nothing while the listing is fresh.
#[tokio::test]
async fn what_is_not_there_is_not_asked_for_again() {
    let server = Server::with_messages([with_attachment(), with_attachment()]);
    server.expunge("INBOX", 1);
    let mounted = Mounted::lasting(&server).await;
    let inbox = mounted.find("INBOX").await.unwrap().attr.ino;
    mounted.list(inbox).await.unwrap();
    server.forget();
    let names =
        ["2026-11-21T0915_Alïce_attachment.1", "x", ".git", "Projects", ".Trash-1000", "2026-11-21T0915_Alïce_x.2"];
    for name in names {
        assert_eq!(mounted.fs.lookup(inbox, name).await.unwrap_err(), Error::NotFound, "{name}");
    }
    assert!(server.exchanges().is_empty());
}

/// A message that is said to be of no octets is not shown as an empty file when it is not.
#[tokio::test]
async fn nothing_that_is_there_looks_empty() {
    let server = Server::with_messages([Vec::new(), with_attachment()]);
    let mounted = Mounted::new(&server).await;
    let listed = mounted.list(mounted.find("INBOX").await.unwrap().attr.ino).await.unwrap();
    let empty = mounted.fs.lookup(listed[0].entry.attr.ino, "message.eml").await.unwrap();
    // It is really empty: a read tells so, or that it cannot be known.
    assert!(matches!(mounted.cat(empty.attr.ino).await.as_deref(), Ok([]) | Err(Error::Protocol(_))));
    mounted.check_mailbox("INBOX", &mut Random::new(12)).await;
}

/// When a read finds that a message is gone, the next listing knows it too.
#[tokio::test]
async fn a_read_that_fails_makes_the_next_listing_ask() {
    let server = Server::with_messages([with_attachment()]);
    let mounted = Mounted::lasting(&server).await;
    let path = "INBOX/2026-11-21T0915_Alïce_attachment.1/data.bin";
    assert_eq!(mounted.names("INBOX").await.unwrap().len(), 1);
    let ino = mounted.find(path).await.unwrap().attr.ino;
    let handle = mounted.fs.open(ino, false, 0).await.unwrap().handle;
    server.expunge("INBOX", 1);
    assert_eq!(mounted.names("INBOX").await.unwrap().len(), 1);
    assert_eq!(mounted.fs.read(handle, 50_000, 4096).await.unwrap_err(), Error::Stale);
    assert_eq!(mounted.names("INBOX").await.unwrap().len(), 0);
}
