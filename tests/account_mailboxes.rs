//! Changes of mailboxes, over a model server.

#![allow(clippy::unwrap_used)]

mod common;
mod model;

use std::io::Write;
use std::sync::Arc;

use common::corpus::build;
use imapfs::account::{Account, Options};
use imapfs::error::{Error, Result};
use imapfs::imap::Command;
use imapfs::imap::request::Upload;
use imapfs::mail::flag::Flags;
use imapfs::mail::uid::Uid;
use imapfs::tree::node::EntryId;
use model::Server;
use model::change::{Fault, Habits};
use model::message::Message;
use model::walk::options;

fn message() -> Message {
    Message::new(build::message("one", "A", &[], "a\r\n"))
}

/// INBOX, Work, Work/a with a message, and Empty.
fn server() -> Server {
    let server = Server::new();
    for name in ["Work", "Work/a", "Empty"] {
        server.create(name);
    }
    server.append("Work/a", message());
    server
}

async fn open(server: &Server, options: Options) -> Arc<Account> {
    let (client, _, unasked) = server.client();
    Account::open(client, unasked, options).await.unwrap()
}

async fn account(server: &Server) -> Arc<Account> {
    open(server, options()).await
}

fn names(server: &Server) -> Vec<String> {
    server.lock().mailboxes.keys().cloned().collect()
}

fn has_command(server: &Server, which: impl Fn(&Command) -> bool) -> bool {
    server.lock().exchanges.iter().any(|exchange| which(&exchange.command))
}

fn is_subscribed(server: &Server, name: &str) -> bool {
    server.with(name, |mailbox| mailbox.attributes.iter().any(|a| a == "\\subscribed"))
}

fn find(account: &Account, path: &str) -> Option<imapfs::tree::node::MailboxId> {
    path.split('/').try_fold(None, |at, name| account.child(at, name).map(Some)).flatten()
}

async fn delete(account: &Arc<Account>, path: &str) -> Result<()> {
    account.delete_mailbox(find(account, path).unwrap()).await
}

async fn rename(account: &Arc<Account>, path: &str, parent: &str, component: &str) -> Result<()> {
    account.rename_mailbox(find(account, path).unwrap(), find(account, parent), component).await
}

#[tokio::test]
async fn a_mailbox_is_made_subscribed_and_shown() {
    let server = server();
    let account = account(&server).await;
    for (parent, component, wire) in
        [("", "New", "New"), ("Work", "Entwürfe", "Work/Entw&APw-rfe"), ("New", "x.y", "New/x.y")]
    {
        let id = account.create_mailbox(find(&account, parent), component).await.unwrap();
        assert_eq!(account.child(find(&account, parent), component), Some(id));
        assert!(is_subscribed(&server, wire), "{wire}");
        assert!(account.mailbox(id).unwrap().is_subscribed(), "{wire}");
        assert_eq!(account.messages(id).await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn what_cannot_be_a_mailbox_is_refused_before_it_is_asked_for() {
    let server = server();
    server.with("Empty", |mailbox| mailbox.attributes.push("\\noinferiors".into()));
    let account = account(&server).await;
    for (parent, component, want) in [
        ("", "Work", "exists"),
        ("", "inbox", "exists"),
        ("Work", "a", "exists"),
        ("Work", "a%2Fb", "invalid"),
        ("", "%41", "invalid"),
        ("", ".Trash-1000", "permitted"),
        ("Work", ".git", "permitted"),
        ("Work", ".eml", "permitted"),
        ("Empty", "x", "permitted"),
    ] {
        let error = account.create_mailbox(find(&account, parent), component).await.unwrap_err();
        let is = match error {
            Error::Exists => "exists",
            Error::Invalid(_) => "invalid",
            Error::NotPermitted(_) => "permitted",
            _ => "another",
        };
        assert_eq!(is, want, "{parent}/{component}: {error:?}");
    }
    assert!(!has_command(&server, |command| matches!(command, Command::Create(_))));
}

/// Ids, messages and open files stay, children follow, subscriptions too.
#[tokio::test]
async fn a_renamed_mailbox_is_the_same_under_another_name() {
    let server = server();
    server.with("Work", |mailbox| mailbox.attributes.push("\\subscribed".into()));
    let account = account(&server).await;
    let (work, below) = (find(&account, "Work").unwrap(), find(&account, "Work/a").unwrap());
    let uid = Uid::new(1).unwrap();
    let file = account.open_entry(below, uid, EntryId::RAW).await.unwrap();
    for (parent, name, wire) in [("Empty", "Moved", "Empty/Moved"), ("", "Work", "Work"), ("", "Köln", "K&APY-ln")] {
        account.rename_mailbox(work, find(&account, parent), name).await.unwrap();
        let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
        assert_eq!((find(&account, &path), find(&account, &format!("{path}/a"))), (Some(work), Some(below)), "{path}");
        assert_eq!(names(&server).len(), 4);
        assert!(is_subscribed(&server, wire), "{wire}");
        assert_eq!(account.messages(below).await.unwrap().len(), 1);
        account.change_flags((below, uid), Flags::from_wire([name.as_bytes()]), Flags::default()).await.unwrap();
    }
    assert_eq!(account.read(&file, 0, 1 << 20).await.unwrap(), message().bytes);
    assert_eq!(find(&account, "Work"), None);
}

#[tokio::test]
async fn a_rename_never_merges_and_never_takes_inbox() {
    let server = server();
    let account = account(&server).await;
    let before = names(&server);
    assert!(matches!(rename(&account, "INBOX", "", "Old").await, Err(Error::Busy(_))));
    assert!(matches!(rename(&account, "Work", "Work", "x").await, Err(Error::Invalid(_))));
    assert!(matches!(rename(&account, "Work", "Work/a", "x").await, Err(Error::Invalid(_))));
    assert_eq!(rename(&account, "Work/a", "", "Empty").await, Err(Error::Exists));
    // Another client was faster, and we have not heard of it.
    server.create("Taken");
    assert_eq!(rename(&account, "Empty", "", "Taken").await, Err(Error::Exists));
    assert_eq!(rename(&account, "Work", "", "Work").await, Ok(()));
    assert!(!has_command(&server, |command| matches!(command, Command::Rename(..))));
    assert_eq!(names(&server).len(), before.len() + 1);
}

#[tokio::test]
async fn only_what_the_server_calls_empty_is_deleted() {
    let server = server();
    let account = account(&server).await;
    let empty = find(&account, "Empty").unwrap();
    assert_eq!(account.messages(empty).await.unwrap().len(), 0);
    // It arrives behind our back.
    let uid = server.append("Empty", message());
    assert_eq!(delete(&account, "Empty").await, Err(Error::NotEmpty));
    assert_eq!(delete(&account, "Work").await, Err(Error::NotEmpty));
    assert!(matches!(delete(&account, "INBOX").await, Err(Error::Busy(_))));
    assert!(!has_command(&server, |command| matches!(command, Command::Delete(_))));
    server.expunge("Empty", uid);
    delete(&account, "Empty").await.unwrap();
    assert_eq!((names(&server).len(), find(&account, "Empty")), (3, None));
    assert_eq!(account.messages(empty).await.unwrap_err(), Error::Stale);
    // What comes under the same name is another one.
    let again = account.create_mailbox(None, "Empty").await.unwrap();
    assert_ne!(again, empty);
}

/// `rm -r` of a mailbox whose removals are queued.
#[tokio::test]
async fn a_mailbox_is_deleted_after_what_is_queued_for_it() {
    let server = server();
    server.lock().extensions = vec!["UIDPLUS", "MOVE"];
    server.create("Trash");
    let account = open(&server, Options { write_behind: true, ..options() }).await;
    let id = find(&account, "Work/a").unwrap();
    account.remove_message((id, Uid::new(1).unwrap())).await.unwrap();
    account.delete_mailbox(id).await.unwrap();
    assert_eq!(server.with("Trash", |mailbox| mailbox.messages.len()), 1);
}

/// Cyrus needs a second between two of the same name.
#[tokio::test(start_paused = true)]
async fn a_delayed_delete_is_tried_again() {
    let server = server();
    server.lock().habits = Habits { delayed_delete: true, ..Habits::default() };
    let account = account(&server).await;
    delete(&account, "Empty").await.unwrap();
    assert_eq!(find(&account, "Empty"), None);
}

/// LIST decides where an answer was lost.
#[tokio::test]
async fn a_lost_answer_is_looked_up_in_the_list() {
    for after in [false, true] {
        for number in 0..3 {
            let server = server();
            let account = account(&server).await;
            let before = names(&server);
            server.lock().fault = Some(Fault { at: 0, after, outage: 0 });
            let outcome = match number {
                0 => account.create_mailbox(None, "New").await.map(drop),
                1 => rename(&account, "Work", "Empty", "Work").await,
                _ => delete(&account, "Empty").await,
            };
            // What is not seen to be done may still be.
            let is_meant = if after { outcome == Ok(()) } else { matches!(outcome, Err(Error::Uncertain(_))) };
            assert!(is_meant, "{number} {after}: {outcome:?}");
            assert_eq!(names(&server) == before, !after, "{number} {after}");
            if after && number == 1 {
                let id = find(&account, "Empty/Work/a").unwrap();
                assert_eq!(account.messages(id).await.unwrap().len(), 1);
            }
        }
    }
}

#[tokio::test]
async fn rights_subscriptions_and_annotations_are_set_where_there_are_such() {
    let server = server();
    let acl = |rows: &[(&str, &str)]| rows.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    let work = |account: &Account| find(account, "Work").unwrap();
    let plain = account(&server).await;
    let outcomes = [
        plain.set_acl(work(&plain), acl(&[("bob", "lr")])).await,
        plain.set_metadata(work(&plain), "/private/comment", None).await,
    ];
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(Error::Unsupported(_)))), "{outcomes:?}");
    server.lock().extensions = vec!["ACL", "METADATA"];
    server.lock().acl = vec![(b"bob".to_vec(), "lr".into()), (b"eve".to_vec(), "l".into())];
    let account = account(&server).await;
    account.set_acl(work(&account), acl(&[("bob", "rl"), ("ann", "lrs")])).await.unwrap();
    assert_eq!(server.lock().acl, [(b"bob".to_vec(), "lr".to_owned()), (b"ann".to_vec(), "lrs".to_owned())]);
    account.set_metadata(work(&account), "/private/comment", Some(b"x".to_vec())).await.unwrap();
    for subscribed in [true, false] {
        account.set_subscribed(work(&account), subscribed).await.unwrap();
        assert_eq!(is_subscribed(&server, "Work"), subscribed);
        assert_eq!(account.mailbox(work(&account)).unwrap().is_subscribed(), subscribed);
    }
}

#[tokio::test]
async fn a_read_only_account_changes_no_mailbox() {
    let server = server();
    let account = open(&server, Options { read_only: true, ..options() }).await;
    server.forget();
    let id = find(&account, "Empty").unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"A: b\r\n\r\n").unwrap();
    let upload = Upload { file: Arc::new(file), octets: 8, flags: Flags::default(), internal_date: None };
    for outcome in [
        account.create_mailbox(None, "New").await.map(drop),
        account.rename_mailbox(id, None, "New").await,
        account.delete_mailbox(id).await,
        account.set_subscribed(id, true).await,
        account.set_acl(id, Vec::new()).await,
        account.set_metadata(id, "/private/comment", None).await,
        account.append(id, upload).await.map(drop),
    ] {
        assert_eq!(outcome, Err(Error::ReadOnly));
    }
    assert_eq!(server.exchanges().len(), 0);
}
