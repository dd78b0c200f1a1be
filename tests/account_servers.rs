//! Changes on real servers, by the account as the file system uses it; judged by a client that is not the program's own.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Imap, Server};
use imapfs::account::{self, Account, Deletion, prepare_upload};
use imapfs::error::Error;
use imapfs::imap::{Client, Credentials, Options, Tls};
use imapfs::mail::flag::Flags;
use imapfs::mail::uid::Uid;
use imapfs::tree::node::MailboxId;
use tokio::sync::mpsc;

/// The program's account and the judge.
struct Case {
    name: &'static str,
    account: Arc<Account>,
    judge: Imap,
    work: MailboxId,
    trash: MailboxId,
}

fn flags(text: &str) -> Flags {
    Flags::from_wire(text.split(' ').map(str::as_bytes))
}

fn letter(subject: &str) -> Vec<u8> {
    format!(
        "From: a@example.test\nDate: Tue, 05 Mar 2024 10:00:00 +0100\nSubject: {subject}\n\
         Message-ID: <{subject}@example.test>\n\nText.\n"
    )
    .into()
}

impl Case {
    async fn new(server: &Server, write_behind: bool) -> Self {
        let user = server.account();
        let password = user.password.clone();
        let options = Options {
            host: "localhost".into(),
            port: user.port,
            tls: Tls::None,
            tls_ca: None,
            user: user.user.clone(),
            credentials: Arc::new(move |_| Ok(Credentials::Password(password.clone().into()))),
            connections: 4,
            read_only: false,
            compress: true,
            debug_protocol: false,
            timeout: Duration::from_secs(20),
        };
        let (events, unasked) = mpsc::unbounded_channel();
        let client = Client::connect(options, events).await.unwrap();
        let options = account::Options {
            name: "real".into(),
            user: user.user.clone(),
            host: "localhost".into(),
            port: None,
            root_mailbox: None,
            poll_interval: Duration::from_secs(2),
            memory: 1 << 20,
            trim: || {},
            deletion: Deletion::Trash,
            read_only: false,
            write_behind,
            store: Err("off"),
            offline: false,
        };
        let account = Account::open(client, unasked, options).await.unwrap();
        // Courier keeps all mailboxes inside INBOX, and refuses them elsewhere.
        let parent = match account.create_mailbox(None, "Work").await {
            Err(Error::NotPermitted(_)) => account.child(None, "INBOX"),
            other => other.map(|_| None).unwrap(),
        };
        let make = async |name: &str| match account.child(parent, name) {
            Some(id) => id,
            None => account.create_mailbox(parent, name).await.unwrap(),
        };
        let (work, trash) = (make("Work").await, make("Trash").await);
        Self { name: server.name, account, judge: user.imap(), work, trash }
    }

    fn inbox(&self) -> MailboxId {
        self.account.child(None, "INBOX").unwrap()
    }

    async fn append(&self, to: MailboxId, subject: &str) -> Uid {
        let mut raw = tempfile::tempfile().unwrap();
        let text = letter(subject);
        raw.write_all(&text).unwrap();
        let octets = text.len() as u64;
        let upload = prepare_upload(Arc::new(raw), octets, flags("\\Flagged"), None, tempfile::tempfile).unwrap();
        self.account.append(to, upload).await.unwrap_or_else(|error| panic!("{}: {error:?}", self.name))
    }

    /// The subjects that a mailbox holds, as the judge sees them.
    fn subjects(&mut self, id: MailboxId) -> Vec<String> {
        let name = self.account.mailbox(id).unwrap().name.unwrap();
        self.judge.select(std::str::from_utf8(name.as_bytes()).unwrap()).unwrap();
        let mut subjects: Vec<String> = self
            .judge
            .bodies("1:*")
            .unwrap_or_default()
            .into_values()
            .filter_map(|body| {
                let text = String::from_utf8_lossy(&body).into_owned();
                Some(text.lines().find_map(|line| line.strip_prefix("Subject: "))?.trim().to_owned())
            })
            .collect();
        subjects.sort();
        subjects
    }

    async fn shown(&self, id: MailboxId) -> Vec<String> {
        let listed = self.account.messages(id).await.unwrap();
        let mut subjects: Vec<String> = listed.iter().map(|message| message.texts().subject.to_owned()).collect();
        subjects.sort();
        subjects
    }

    async fn check(&mut self, id: MailboxId, want: &[&str]) {
        assert_eq!(self.shown(id).await, want, "{}: shown", self.name);
        assert_eq!(self.subjects(id), want, "{}: there", self.name);
    }
}

async fn messages_are_changed(server: &Server) {
    let mut case = Case::new(server, false).await;
    let (inbox, work, trash) = (case.inbox(), case.work, case.trash);
    let before = case.subjects(inbox);
    assert_eq!(before, Vec::<String>::new(), "{}", case.name);
    let account = Arc::clone(&case.account);
    account.messages(work).await.unwrap();
    let mut uids = Vec::new();
    for subject in ["a", "b", "c", "d"] {
        uids.push(case.append(inbox, subject).await);
    }
    case.check(inbox, &["a", "b", "c", "d"]).await;
    let first = account.summary(inbox, uids[0]).await.unwrap();
    assert_eq!((first.internal_date, first.flags.contains("\\Flagged")), (1_709_629_200, true), "{}", case.name);
    // Another client marked one: it stays.
    case.judge.select("INBOX").unwrap();
    case.judge.ok(&format!("UID STORE {} +FLAGS.SILENT (\\Deleted)", uids[3])).unwrap();
    account.change_flags((inbox, uids[1]), flags("\\Seen work"), flags("\\Flagged")).await.unwrap();
    case.judge.select("INBOX").unwrap();
    let now = case.judge.flags(uids[1].get()).unwrap().unwrap();
    assert!(now.iter().any(|flag| flag == "work") && !now.iter().any(|flag| flag == "\\Flagged"), "{now:?}");
    let moved = account.move_message((inbox, uids[0]), work).await.unwrap();
    case.check(inbox, &["b", "c", "d"]).await;
    case.check(work, &["a"]).await;
    account.copy_message((inbox, uids[1]), work).await.unwrap();
    account.copy_message((work, moved), work).await.unwrap();
    case.check(work, &["a", "a", "b"]).await;
    account.remove_message((inbox, uids[2])).await.unwrap();
    case.check(inbox, &["b", "d"]).await;
    case.check(trash, &["c"]).await;
    let trashed = account.messages(trash).await.unwrap()[0].uid;
    account.remove_message((trash, trashed)).await.unwrap();
    case.check(trash, &[]).await;
    let mut raw = tempfile::tempfile().unwrap();
    raw.write_all(&letter("new")).unwrap();
    let octets = letter("new").len() as u64;
    let upload = prepare_upload(Arc::new(raw), octets, Flags::default(), None, tempfile::tempfile).unwrap();
    account.replace((inbox, uids[1]), upload).await.unwrap();
    case.check(inbox, &["d", "new"]).await;
    let gone = account.move_message((inbox, uids[0]), work).await;
    assert_eq!(gone, Err(Error::NotFound), "{}", case.name);
}

async fn mailboxes_are_changed(server: &Server) {
    let mut case = Case::new(server, false).await;
    let account = Arc::clone(&case.account);
    let (work, trash) = (case.work, case.trash);
    let parent = account.mailbox(work).unwrap().parent;
    let below = account.create_mailbox(Some(work), "Entwürfe & Co").await.unwrap();
    case.append(below, "a").await;
    assert_eq!(account.create_mailbox(Some(work), "Entwürfe & Co").await, Err(Error::Exists));
    let separator = if case.name == "courier" { "a.b" } else { "a%2Fb" };
    let invalid = account.create_mailbox(Some(work), separator).await;
    assert!(matches!(invalid, Err(Error::Invalid(_))), "{}: {invalid:?}", case.name);
    account.rename_mailbox(work, Some(trash), "Old work").await.unwrap();
    // Courier gives a mailbox another UIDVALIDITY when it is renamed.
    let find = || account.child(account.child(Some(trash), "Old work"), "Entwürfe & Co").unwrap();
    if account.messages(find()).await == Err(Error::Stale) {
        account.messages(find()).await.unwrap();
    }
    let below = find();
    case.check(below, &["a"]).await;
    let work = account.child(Some(trash), "Old work").unwrap();
    assert!(matches!(account.rename_mailbox(trash, Some(work), "x").await, Err(Error::Invalid(_))));
    assert!(matches!(account.rename_mailbox(case.inbox(), Some(trash), "x").await, Err(Error::Busy(_))));
    assert_eq!(account.delete_mailbox(work).await, Err(Error::NotEmpty), "{}", case.name);
    assert_eq!(account.delete_mailbox(below).await, Err(Error::NotEmpty), "{}", case.name);
    let uid = account.messages(below).await.unwrap()[0].uid;
    account.remove_message((below, uid)).await.unwrap();
    account.delete_mailbox(below).await.unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
    account.delete_mailbox(work).await.unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
    assert_eq!(account.child(Some(trash), "Old work"), None);
    // Twice in one second, which Cyrus does not like.
    for _ in 0..2 {
        let again = account.create_mailbox(parent, "Again").await.unwrap();
        assert_eq!(account.messages(again).await.unwrap().len(), 0);
        account.delete_mailbox(again).await.unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
    }
}

async fn what_is_queued_is_done(server: &Server) {
    let case = Case::new(server, true).await;
    let mut case = case;
    let (inbox, work) = (case.inbox(), case.work);
    let account = Arc::clone(&case.account);
    for n in 0..60 {
        case.append(inbox, &format!("{n:02}")).await;
    }
    let uids: Vec<Uid> = account.messages(inbox).await.unwrap().iter().map(|message| message.uid).collect();
    let began = Instant::now();
    for uid in &uids[..40] {
        account.move_message_soon((inbox, *uid), work).await.unwrap();
    }
    for uid in &uids[40..50] {
        account.remove_message((inbox, *uid)).await.unwrap();
    }
    for uid in &uids[50..] {
        account.change_flags((inbox, *uid), flags("\\Seen"), Flags::default()).await.unwrap();
    }
    println!("{}: queued in {:?}", case.name, began.elapsed());
    account.settle_changes().await.unwrap();
    println!("{}: done in {:?}", case.name, began.elapsed());
    let want = |range: std::ops::Range<u32>| range.map(|n| format!("{n:02}")).collect::<Vec<_>>();
    assert_eq!(case.subjects(inbox), want(50..60), "{}", case.name);
    assert_eq!(case.subjects(work), want(0..40), "{}", case.name);
    assert_eq!(case.subjects(case.trash), want(40..50), "{}", case.name);
    assert_eq!(case.shown(inbox).await, want(50..60), "{}", case.name);
    assert!(account.messages(inbox).await.unwrap().iter().all(|m| m.flags.contains("\\Seen")), "{}", case.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dovecot_is_changed() {
    messages_are_changed(Server::dovecot()).await;
    mailboxes_are_changed(Server::dovecot()).await;
    what_is_queued_is_done(Server::dovecot()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cyrus_is_changed() {
    messages_are_changed(Server::cyrus()).await;
    mailboxes_are_changed(Server::cyrus()).await;
    what_is_queued_is_done(Server::cyrus()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn courier_is_changed() {
    messages_are_changed(Server::courier()).await;
    mailboxes_are_changed(Server::courier()).await;
    what_is_queued_is_done(Server::courier()).await;
}
