//! Changes of messages, over a model server: what it holds afterwards, whatever it cannot do and wherever the connection
//! is lost.

#![allow(clippy::unwrap_used)]

mod common;
mod model;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use common::corpus::build;
use imapfs::account::{Account, Deletion, Options};
use imapfs::error::{Error, Result};
use imapfs::imap::Command;
use imapfs::imap::request::Upload;
use imapfs::mail::flag::Flags;
use imapfs::mail::uid::Uid;
use imapfs::tree::node::MailboxId;
use model::change::{Fault, Habits};
use model::message::Message;
use model::walk::options;
use model::{Mounted, Server};

fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

fn flags(text: &str) -> Flags {
    Flags::from_wire(text.split(' ').map(str::as_bytes))
}

fn text(id: &str) -> Vec<u8> {
    build::message(id, "A", &[], "a\r\n")
}

fn upload(bytes: &[u8]) -> Upload {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let flags = flags("\\Seen");
    Upload { file: Arc::new(file), octets: bytes.len() as u64, flags, internal_date: Some(1_700_000_000) }
}

/// INBOX with the messages `one`, `two`, and `theirs`, which another client marked; Work and Trash.
fn server(extensions: &[&'static str], habits: Habits) -> Server {
    let server = Server::with_messages([text("one"), text("two"), text("theirs")]);
    server.set_flags("INBOX", 3, "\\Deleted");
    server.set_flags("INBOX", 1, "\\Flagged work");
    server.create("Work");
    server.create("Trash");
    server.append("Work", Message::new(text("other")));
    (server.lock().extensions, server.lock().habits) = (extensions.to_vec(), habits);
    server
}

struct Client {
    account: Arc<Account>,
    inbox: MailboxId,
    work: MailboxId,
}

async fn client(server: &Server, options: Options) -> Client {
    let account = Mounted::try_new(server, options).await.unwrap().account;
    let id = |name| account.child(None, name).unwrap();
    let (inbox, work) = (id("INBOX"), id("Work"));
    account.messages(inbox).await.unwrap();
    server.forget();
    Client { account, inbox, work }
}

/// How often a message is in a mailbox.
fn count(server: &Server, mailbox: &str, id: &str) -> usize {
    let id = format!("<{id}@corpus.example.test>");
    server.with(mailbox, |m| m.messages.values().filter(|m| m.envelope().message_id == Some(id.clone().into())).count())
}

fn changes(server: &Server) -> Vec<Command> {
    server.exchanges().into_iter().map(|exchange| exchange.command).filter(Command::is_change).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Move,
    Copy,
    Append,
    Replace,
    Remove(Deletion),
}

impl Op {
    async fn run(self, client: &Client) -> Result<Option<Uid>> {
        let at = (client.inbox, uid(1));
        let account = &client.account;
        match self {
            Op::Move => account.move_message(at, client.work).await.map(Some),
            Op::Copy => account.copy_message(at, client.work).await.map(Some),
            Op::Append => account.append(client.work, upload(&text("new"))).await.map(Some),
            Op::Replace => account.replace(at, upload(&text("new"))).await.map(Some),
            Op::Remove(_) => account.remove_message(at).await.map(|()| None),
        }
    }

    /// How often the message is here, there and new: when it was done, and when it was not.
    fn counts(self, done: bool) -> [usize; 4] {
        match (self, done) {
            (_, false) => [1, 0, 0, 0],
            (Op::Move, _) => [0, 1, 0, 0],
            (Op::Copy, _) => [1, 1, 0, 0],
            (Op::Append, _) => [1, 0, 1, 0],
            (Op::Replace, _) => [0, 0, 1, 0],
            (Op::Remove(Deletion::Trash), _) => [0, 0, 0, 1],
            (Op::Remove(Deletion::Expunge), _) => [0, 0, 0, 0],
            (Op::Remove(Deletion::Flag), _) => [1, 0, 0, 0],
        }
    }
}

fn counts(server: &Server) -> [usize; 4] {
    let new = count(server, "INBOX", "new") + count(server, "Work", "new");
    [count(server, "INBOX", "one"), count(server, "Work", "one"), new, count(server, "Trash", "one")]
}

const OPS: [Op; 7] = [
    Op::Move,
    Op::Copy,
    Op::Append,
    Op::Replace,
    Op::Remove(Deletion::Trash),
    Op::Remove(Deletion::Expunge),
    Op::Remove(Deletion::Flag),
];

const SERVERS: [&[&str]; 4] =
    [&["UIDPLUS"], &["UIDPLUS", "MOVE", "REPLACE", "MULTIAPPEND"], &["UIDPLUS", "MOVE"], &["MOVE"]];

/// Can it be done there?
fn can(op: Op, extensions: &[&str]) -> bool {
    let without = [Op::Move, Op::Copy, Op::Append, Op::Remove(Deletion::Trash), Op::Remove(Deletion::Flag)];
    extensions.contains(&"UIDPLUS") || without.contains(&op)
}

fn with(op: Op) -> Options {
    let deletion = if let Op::Remove(deletion) = op { deletion } else { Deletion::default() };
    Options { deletion, ..options() }
}

/// The connection is lost before and after each command of each change, with the server away for a while or not: nothing
/// is lost, nothing is doubled, and trying again brings it about.
#[tokio::test(start_paused = true)]
async fn a_lost_connection_loses_no_message_and_doubles_none() {
    for op in OPS {
        for extensions in SERVERS.into_iter().filter(|extensions| can(op, extensions)) {
            for no_codes in [false, true] {
                for at in 0..4 {
                    for (after, outage) in [(false, 0), (true, 0), (false, 2), (true, 2)] {
                        let case = format!("{op:?} {extensions:?} {no_codes} {at} {after} {outage}");
                        let server = server(extensions, Habits { no_codes, ..Habits::default() });
                        let client = client(&server, with(op)).await;
                        server.lock().fault = Some(Fault { at, after, outage });
                        let mut outcome = op.run(&client).await;
                        let now = counts(&server);
                        let is_removed = matches!(op, Op::Remove(_));
                        assert!(is_removed || now.iter().sum::<usize>() >= 1, "{case}: {now:?} {outcome:?}");
                        assert_eq!(count(&server, "INBOX", "theirs"), 1, "{case}");
                        for _ in 0..3 {
                            let Err(error) = &outcome else { break };
                            let is_meant = matches!(error, Error::Offline(_) | Error::Uncertain(_) | Error::NotFound);
                            assert!(is_meant, "{case}: {error:?}");
                            server.lock().outage = 0;
                            outcome = op.run(&client).await;
                        }
                        let now = counts(&server);
                        match outcome {
                            Ok(_) => {
                                // A replaced message may stay beside the new one when just its removal was lost.
                                let beside = op == Op::Replace && now == [1, 0, 1, 0];
                                assert!(now == op.counts(true) || beside, "{case}: {now:?}");
                            }
                            Err(Error::NotFound) => assert_eq!(now, op.counts(true), "{case}"),
                            Err(error) => panic!("{case}: {now:?} {error:?}"),
                        }
                        assert_eq!(count(&server, "INBOX", "two"), 1, "{case}");
                        assert_eq!(count(&server, "INBOX", "theirs"), 1, "{case}");
                    }
                }
            }
        }
    }
}

/// Without faults each change does what it says, in few commands, and shows at once.
#[tokio::test]
async fn a_change_is_made_and_shows_at_once() {
    for op in OPS {
        for extensions in SERVERS.into_iter().filter(|extensions| can(op, extensions)) {
            for no_codes in [false, true] {
                let case = format!("{op:?} {extensions:?} {no_codes}");
                let server = server(extensions, Habits { no_codes, ..Habits::default() });
                let lasting = Options { poll_interval: std::time::Duration::from_secs(3600), ..with(op) };
                let client = client(&server, lasting).await;
                client.account.messages(client.work).await.unwrap();
                let new = op.run(&client).await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
                assert_eq!(counts(&server), op.counts(true), "{case}");
                for (id, name) in [(client.inbox, "INBOX"), (client.work, "Work")] {
                    let shown: Vec<u32> =
                        client.account.messages(id).await.unwrap().iter().map(|m| m.uid.get()).collect();
                    let mut there: Vec<u32> = server.with(name, |mailbox| mailbox.messages.keys().copied().collect());
                    if op == Op::Remove(Deletion::Flag) && name == "INBOX" {
                        there = vec![2];
                    }
                    assert_eq!(shown, there, "{case} {name}");
                }
                let new = new.map(|new| (if op == Op::Replace { "INBOX" } else { "Work" }, new.get()));
                if let Some((name, new)) = new {
                    let message = server.message(name, new);
                    let want = match op {
                        Op::Append => "\\Seen",
                        Op::Replace => "\\Flagged \\Seen work",
                        _ => "\\Flagged work",
                    };
                    assert_eq!(message.flags, flags(want), "{case}");
                }
            }
        }
    }
}

/// A connection that does not know a message yet passes over it, and says OK.
#[tokio::test]
async fn a_message_that_a_connection_has_not_heard_of_is_not_taken_for_gone() {
    for op in OPS {
        for extensions in SERVERS.into_iter().filter(|extensions| can(op, extensions)) {
            // Without COPYUID a second copy could be one too many.
            if op == Op::Copy && !extensions.contains(&"UIDPLUS") {
                continue;
            }
            let server = server(extensions, Habits { deaf: true, ..Habits::default() });
            let client = client(&server, with(op)).await;
            server.lock().habits.deaf = true;
            op.run(&client).await.unwrap_or_else(|error| panic!("{op:?} {extensions:?}: {error:?}"));
            assert_eq!(counts(&server), op.counts(true), "{op:?} {extensions:?}");
        }
    }
}

/// Where messages cannot be expunged by UID nothing is begun that would need it.
#[tokio::test]
async fn without_uidplus_nothing_is_done_that_could_not_be_finished() {
    for op in [Op::Move, Op::Replace, Op::Remove(Deletion::Trash), Op::Remove(Deletion::Expunge)] {
        let server = server(&[], Habits::default());
        let client = client(&server, with(op)).await;
        let error = op.run(&client).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{op:?}: {error:?}");
        assert_eq!(changes(&server), [], "{op:?}");
    }
    for op in [Op::Copy, Op::Append, Op::Remove(Deletion::Flag)] {
        let server = server(&[], Habits { no_codes: true, ..Habits::default() });
        let client = client(&server, with(op)).await;
        op.run(&client).await.unwrap();
        assert_eq!(counts(&server), op.counts(true), "{op:?}");
    }
    // MOVE is enough to move.
    let server = server(&["MOVE"], Habits::default());
    Op::Move.run(&client(&server, options()).await).await.unwrap();
    assert_eq!(counts(&server), Op::Move.counts(true));
}

/// A server that offers a command and does not know it is asked once.
#[tokio::test]
async fn what_the_server_only_claims_to_know_is_done_the_long_way() {
    let server = server(SERVERS[1], Habits { unknown_commands: true, ..Habits::default() });
    let client = client(&server, options()).await;
    for (at, op) in [(1, Op::Move), (2, Op::Replace)] {
        let outcome = match op {
            Op::Move => client.account.move_message((client.inbox, uid(at)), client.work).await,
            _ => client.account.replace((client.inbox, uid(at)), upload(&text("new"))).await,
        };
        outcome.unwrap();
    }
    client.account.move_message((client.work, uid(1)), client.inbox).await.unwrap();
    let asked = changes(&server).iter().filter(|c| matches!(c, Command::Move { .. } | Command::Replace { .. })).count();
    assert_eq!(asked, 2);
    assert_eq!((count(&server, "Work", "one"), count(&server, "INBOX", "other")), (1, 1));
}

/// A refusal in the middle leaves everything as it was.
#[tokio::test]
async fn a_change_that_is_refused_is_not_half_done() {
    for op in [Op::Move, Op::Remove(Deletion::Trash), Op::Remove(Deletion::Expunge), Op::Replace] {
        let server = server(&["UIDPLUS"], Habits { no_expunge: Some("INBOX"), ..Habits::default() });
        let client = client(&server, with(op)).await;
        let outcome = op.run(&client).await;
        let now = counts(&server);
        match outcome {
            // In INBOX neither the old nor the new one can be expunged: what was written is there.
            Ok(_) => assert_eq!((op, now), (Op::Replace, [1, 0, 1, 0])),
            Err(error) => {
                assert!(matches!(error, Error::Denied(_)) && now == [1, 0, 0, 0], "{op:?}: {now:?} {error:?}")
            }
        }
        assert_eq!(server.message("INBOX", 1).flags, flags("\\Flagged work"), "{op:?}");
    }
    for op in [Op::Move, Op::Copy, Op::Append] {
        let server = server(&["UIDPLUS"], Habits { over_quota: true, ..Habits::default() });
        let client = client(&server, with(op)).await;
        assert!(matches!(op.run(&client).await, Err(Error::Quota(_))), "{op:?}");
        assert_eq!((counts(&server), changes(&server).len()), ([1, 0, 0, 0], 1), "{op:?}");
    }
}

#[tokio::test]
async fn a_read_only_account_changes_nothing() {
    for op in OPS {
        let server = server(SERVERS[1], Habits::default());
        let client = client(&server, Options { read_only: true, ..with(op) }).await;
        assert_eq!(op.run(&client).await, Err(Error::ReadOnly), "{op:?}");
        assert_eq!(server.exchanges().len(), 0, "{op:?}");
    }
}

/// From the trash, and without one.
#[tokio::test]
async fn what_is_in_the_trash_is_expunged_from_there() {
    let server = server(&["UIDPLUS", "MOVE"], Habits::default());
    let trashed = server.append("Trash", Message::new(text("old")));
    let client = client(&server, options()).await;
    let trash = client.account.child(None, "Trash").unwrap();
    client.account.remove_message((trash, uid(trashed))).await.unwrap();
    assert_eq!(count(&server, "Trash", "old"), 0);
    server.delete("Trash");
    client.account.refresh_mailboxes().await.unwrap();
    let error = client.account.remove_message((client.inbox, uid(1))).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)));
    assert_eq!(count(&server, "INBOX", "one"), 1);
}

/// Those who ask at once go together; one that is gone fails alone.
#[tokio::test]
async fn many_at_once_are_few_commands() {
    for extensions in SERVERS {
        let server = Server::with_messages((0..300).map(|n| text(&n.to_string())));
        server.create("Work");
        server.lock().extensions = extensions.to_vec();
        let client = client(&server, options()).await;
        server.expunge("INBOX", 7);
        let all = (1..=300).map(|n| client.account.move_message((client.inbox, uid(n)), client.work));
        let outcomes = futures::future::join_all(all).await;
        for (n, outcome) in (1..=300).zip(&outcomes) {
            assert_eq!(outcome.is_ok(), n != 7, "{n}: {outcome:?}");
        }
        assert_eq!(outcomes[6], Err(Error::NotFound));
        let pairs: Vec<u32> = outcomes.iter().flatten().map(|uid| uid.get()).collect();
        assert_eq!(pairs, (1..=299).collect::<Vec<_>>());
        assert!(changes(&server).len() <= 12, "{extensions:?}");
        let are_sent_together = extensions.contains(&"MULTIAPPEND");
        if are_sent_together {
            // Messages are read from disk before, by other threads: all have been when the first is answered.
            server.lock().delay = Duration::from_millis(200);
        }
        let uploads = (0..40).map(|n| client.account.append(client.inbox, upload(&text(&format!("new{n}")))));
        for (n, outcome) in futures::future::join_all(uploads).await.into_iter().enumerate() {
            let message = server.message("INBOX", outcome.unwrap().get());
            assert_eq!(message.envelope().message_id.unwrap(), format!("<new{n}@corpus.example.test>").into_bytes());
        }
        let commands = changes(&server).len();
        assert!(commands <= if are_sent_together { 3 } else { 40 }, "{commands}");
    }
}

/// One message that the server refuses does not keep the others out.
#[tokio::test]
async fn of_several_appends_each_has_its_own_outcome() {
    let server = server(SERVERS[1], Habits { poison: Some("bad"), ..Habits::default() });
    let client = client(&server, options()).await;
    let uploads = ["a", "bad", "c"].map(|id| client.account.append(client.work, upload(&text(id))));
    let outcomes = futures::future::join_all(uploads).await;
    assert!(matches!(&outcomes[..], [Ok(_), Err(Error::Invalid(_)), Ok(_)]), "{outcomes:?}");
    assert_eq!(["a", "bad", "c"].map(|id| count(&server, "Work", id)), [1, 0, 1]);
}
