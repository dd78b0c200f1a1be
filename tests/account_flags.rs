//! Flags and the queue of changes, over a model server.

#![allow(clippy::unwrap_used)]

mod common;
mod model;

use std::sync::Arc;
use std::time::Duration;

use common::corpus::build;
use imapfs::account::{Account, Changed, Deletion, Options};
use imapfs::error::Error;
use imapfs::imap::Command;
use imapfs::mail::flag::Flags;
use imapfs::mail::mailbox::Change;
use imapfs::mail::uid::Uid;
use imapfs::tree::node::MailboxId;
use model::Server;
use model::change::{Fault, Habits};
use model::walk::options;

fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

fn flags(text: &str) -> Flags {
    Flags::from_wire(text.split(' ').map(str::as_bytes))
}

/// INBOX with so many messages, Work and Trash.
fn server(messages: u32, habits: Habits) -> Server {
    let server = Server::with_messages((1..=messages).map(|n| build::message(&n.to_string(), "A", &[], "a\r\n")));
    server.create("Work");
    server.create("Trash");
    (server.lock().extensions, server.lock().habits) = (vec!["UIDPLUS", "MOVE"], habits);
    server
}

async fn account(server: &Server, options: Options) -> (Arc<Account>, MailboxId, MailboxId) {
    let (client, _, unasked) = server.client();
    let account = Account::open(client, unasked, options).await.unwrap();
    let id = |name| account.child(None, name).unwrap();
    let (inbox, work) = (id("INBOX"), id("Work"));
    account.messages(inbox).await.unwrap();
    server.forget();
    (account, inbox, work)
}

fn changes(server: &Server) -> Vec<Command> {
    server.exchanges().into_iter().map(|exchange| exchange.command).filter(Command::is_change).collect()
}

fn uids(server: &Server, name: &str) -> Vec<u32> {
    server.with(name, |mailbox| mailbox.messages.keys().copied().collect())
}

async fn shown(account: &Arc<Account>, id: MailboxId) -> Vec<u32> {
    account.messages(id).await.unwrap().iter().map(|message| message.uid.get()).collect()
}

fn later() -> Options {
    Options { write_behind: true, ..options() }
}

#[tokio::test]
async fn flags_are_set_and_cleared_and_others_stay() {
    let server = server(1, Habits::default());
    server.set_flags("INBOX", 1, "\\Seen theirs");
    let (account, inbox, _) = account(&server, options()).await;
    account.change_flags((inbox, uid(1)), flags("\\Flagged work"), flags("\\Seen")).await.unwrap();
    assert_eq!(server.message("INBOX", 1).flags, flags("\\Flagged theirs work"));
    assert_eq!(account.summary(inbox, uid(1)).await.unwrap().flags, flags("\\Flagged theirs work"));
    assert_eq!(changes(&server).len(), 2);
}

/// What is known to be as it should be costs no command.
#[tokio::test]
async fn nothing_is_sent_where_nothing_changes() {
    let server = server(1, Habits::default());
    server.set_flags("INBOX", 1, "\\Seen");
    let lasting = Options { poll_interval: Duration::from_secs(3600), ..options() };
    let (account, inbox, _) = account(&server, lasting).await;
    account.change_flags((inbox, uid(1)), flags("\\Seen"), flags("\\Flagged")).await.unwrap();
    assert_eq!(server.exchanges().len(), 0);
}

/// What the server does not keep is told: before it is asked when PERMANENTFLAGS says it, else by the rows.
#[tokio::test]
async fn a_flag_that_is_not_kept_is_an_error() {
    for (promises, commands) in [(false, 0), (true, 1)] {
        let habits = Habits { keeps: Some("\\Seen \\Flagged"), promises, ..Habits::default() };
        let server = server(1, habits);
        let (account, inbox, _) = account(&server, options()).await;
        let outcome = account.change_flags((inbox, uid(1)), flags("work"), Flags::default()).await;
        assert!(matches!(outcome, Err(Error::Unsupported(_))), "{outcome:?}");
        assert_eq!(changes(&server).len(), commands);
        account.change_flags((inbox, uid(1)), flags("\\Flagged"), Flags::default()).await.unwrap();
    }
}

/// Another client was there just before: its flags stay, and ours come on top.
#[tokio::test]
async fn a_flag_that_another_client_set_in_between_stays() {
    let server = server(1, Habits { raced: Some("theirs"), ..Habits::default() });
    server.set_flags("INBOX", 1, "\\Seen");
    let (account, inbox, _) = account(&server, options()).await;
    account.change_flags((inbox, uid(1)), flags("work"), Flags::default()).await.unwrap();
    assert_eq!(server.message("INBOX", 1).flags, flags("\\Seen theirs work"));
    assert_eq!(account.summary(inbox, uid(1)).await.unwrap().flags, flags("\\Seen theirs work"));
}

#[tokio::test]
async fn flags_of_a_message_that_is_gone_are_an_error() {
    for extensions in [vec!["UIDPLUS"], vec![]] {
        let server = server(2, Habits::default());
        server.lock().extensions = extensions;
        let (account, inbox, _) = account(&server, options()).await;
        server.expunge("INBOX", 1);
        let outcome = account.change_flags((inbox, uid(1)), flags("work"), Flags::default()).await;
        assert_eq!(outcome, Err(Error::NotFound));
        assert_eq!(server.message("INBOX", 2).flags, Flags::default());
    }
}

#[tokio::test]
async fn the_same_flags_of_many_messages_are_few_commands() {
    let server = server(300, Habits::default());
    let (account, inbox, _) = account(&server, options()).await;
    let all = (1..=300).map(|n| account.change_flags((inbox, uid(n)), flags("\\Seen"), Flags::default()));
    assert!(futures::future::join_all(all).await.iter().all(|outcome| outcome.is_ok()));
    assert!((1..=300).all(|n| server.message("INBOX", n).flags == flags("\\Seen")));
    assert!(changes(&server).len() <= 3);
}

/// One after the other, with 50 ms to the server: what is queued shows at once, and is done in a few exchanges.
#[tokio::test(start_paused = true)]
async fn a_thousand_queued_changes_show_at_once_and_take_less_than_three_seconds() {
    let server = server(1000, Habits::default());
    server.lock().delay = Duration::from_millis(50);
    let (account, inbox, work) = account(&server, later()).await;
    let began = tokio::time::Instant::now();
    let mut landings = Vec::new();
    for n in 1..=400 {
        landings.push(account.move_message_soon((inbox, uid(n)), work).await.unwrap());
    }
    for n in 401..=700 {
        account.remove_message((inbox, uid(n))).await.unwrap();
    }
    for n in 701..=1000 {
        account.change_flags((inbox, uid(n)), flags("\\Seen"), Flags::default()).await.unwrap();
        assert_eq!(account.summary(inbox, uid(n)).await.unwrap().flags, flags("\\Seen"));
    }
    assert!(!account.is_shown(inbox, uid(300)) && account.is_shown(inbox, uid(800)));
    assert_eq!(account.summary(inbox, uid(300)).await.unwrap().uid, uid(300));
    // Whoever lists where they go waits for them; nobody else does.
    assert_eq!(shown(&account, inbox).await, (701..=1000).collect::<Vec<_>>());
    assert_eq!(shown(&account, work).await, (1..=400).collect::<Vec<_>>());
    for (n, landing) in (1..).zip(landings) {
        assert_eq!(landing.uid().await, Ok(uid(n)));
    }
    assert_eq!(account.settle_changes().await, Ok(()));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!((uids(&server, "Work").len(), uids(&server, "Trash").len()), (400, 300));
    assert!((701..=1000).all(|n| server.message("INBOX", n).flags == flags("\\Seen")));
    assert!(changes(&server).len() <= 8);
}

/// What could not be done is as it was, is told once, and does not stop what comes behind it.
#[tokio::test]
async fn a_queued_change_that_fails_is_undone_and_told() {
    let server = server(3, Habits { over_quota: true, ..Habits::default() });
    server.lock().extensions = vec!["UIDPLUS"];
    let (account, inbox, work) = account(&server, later()).await;
    let mut told = account.changes().unwrap();
    let landing = account.move_message_soon((inbox, uid(1)), work).await.unwrap();
    account.change_flags((inbox, uid(2)), flags("\\Seen"), Flags::default()).await.unwrap();
    assert!(!account.is_shown(inbox, uid(1)));
    assert!(matches!(landing.uid().await, Err(Error::Quota(_))));
    assert!(matches!(account.settle_changes().await, Err(Error::Quota(_))));
    assert_eq!(account.settle_changes().await, Ok(()));
    assert_eq!(shown(&account, inbox).await, [1, 2, 3]);
    assert_eq!(server.message("INBOX", 2).flags, flags("\\Seen"));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match told.recv().await.unwrap() {
            Changed::Message(id, Change::Gone(message)) if id == inbox => seen.push(('-', message.uid)),
            Changed::Message(id, Change::Arrived(uid)) if id == inbox => seen.push(('+', uid)),
            _ => {}
        }
    }
    assert_eq!(seen, [('-', uid(1)), ('+', uid(1))]);
}

/// Changes of one message stay in order, and follow it where it goes.
#[tokio::test]
async fn what_is_queued_for_a_message_follows_it() {
    let server = server(2, Habits::default());
    let (account, inbox, work) = account(&server, later()).await;
    let at = (inbox, uid(1));
    account.change_flags(at, flags("\\Seen work"), Flags::default()).await.unwrap();
    account.change_flags(at, Flags::default(), flags("\\Seen")).await.unwrap();
    account.move_message_soon(at, work).await.unwrap();
    account.change_flags(at, flags("\\Flagged"), Flags::default()).await.unwrap();
    // Who does not queue waits for what is queued.
    let copy = account.copy_message(at, inbox).await.unwrap();
    assert_eq!(account.settle_changes().await, Ok(()));
    assert_eq!(server.message("Work", 1).flags, flags("\\Flagged work"));
    assert_eq!(server.message("INBOX", copy.get()).flags, flags("\\Flagged work"));
    assert_eq!(uids(&server, "INBOX"), [2, 3]);
}

/// While the server is away what is queued waits, and is done when it is back.
#[tokio::test(start_paused = true)]
async fn a_queue_outlives_a_lost_connection() {
    for after in [false, true] {
        let server = server(20, Habits::default());
        let (account, inbox, work) = account(&server, later()).await;
        server.lock().fault = Some(Fault { at: 1, after, outage: 2 });
        for n in 1..=20 {
            account.move_message_soon((inbox, uid(n)), work).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(account.settle_changes().await, Ok(()), "{after}");
        assert_eq!((uids(&server, "INBOX"), uids(&server, "Work").len()), (vec![], 20), "{after}");
    }
}

/// With `--delete flag` what is marked is not there, whoever marked it.
#[tokio::test]
async fn what_is_marked_is_hidden_where_that_is_removal() {
    for write_behind in [false, true] {
        let server = server(3, Habits::default());
        server.set_flags("INBOX", 3, "\\Deleted");
        let (account, inbox, _) =
            account(&server, Options { deletion: Deletion::Flag, write_behind, ..options() }).await;
        assert_eq!(shown(&account, inbox).await, [1, 2]);
        account.remove_message((inbox, uid(1))).await.unwrap();
        assert_eq!(shown(&account, inbox).await, [2]);
        account.settle_changes().await.unwrap();
        assert_eq!(shown(&account, inbox).await, [2]);
        assert_eq!(server.message("INBOX", 1).flags, flags("\\Deleted"));
        server.set_flags("INBOX", 3, "");
        assert_eq!(shown(&account, inbox).await, [2, 3]);
        assert!(matches!(changes(&server)[..], [Command::Store { .. }]));
    }
}
