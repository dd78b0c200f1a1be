//! A connection that is cut at each line (every second one where a server can less) of a first listing and of the next
//! one, each way, and of the first one of a mount that begins with what an earlier one kept: what is listed in the end is
//! what the server has, as without the cut, and to look once more changes nothing.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use common::proxy::{Action, Dir, Fault, Proxy, When};
use common::{Imap, Server};
use imapfs::account::{self, Account, Deletion};
use imapfs::imap::{Client, Credentials, Options, Tls};
use imapfs::store::{self, Store};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Until the mailbox can be listed after a cut: two logins, and the pause after one that was cut.
const RECOVERY: Duration = Duration::from_secs(10);

/// What a server says that cannot tell what vanished.
const CONDSTORE: &str = "IMAP4rev1 SASL-IR LITERAL+ ID ENABLE IDLE UIDPLUS MOVE CONDSTORE ESEARCH UNSELECT";

fn letter(subject: &str) -> Vec<u8> {
    format!("From: Alice <alice@example.test>\r\nSubject: {subject}\r\n\r\nThis is in {subject}.\r\n").into_bytes()
}

/// A mailbox: UID to subject and flags.
type Listed = BTreeMap<u32, (String, String)>;

/// What the server has.
fn truth(imap: &mut Imap, mailbox: &str) -> Listed {
    imap.select(mailbox).unwrap();
    let mut all = Listed::new();
    for (uid, bytes) in imap.bodies("1:*").unwrap() {
        let text = String::from_utf8(bytes).unwrap();
        let subject = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().to_owned();
        let flags: Vec<String> = imap.flags(uid).unwrap().unwrap().into_iter().filter(|f| f != "\\Recent").collect();
        all.insert(uid, (subject, flags.join(" ")));
    }
    all
}

async fn listed(account: &Arc<Account>, mailbox: &str) -> imapfs::error::Result<Listed> {
    let mailbox = account.child(None, mailbox).ok_or(imapfs::error::Error::NotFound)?;
    let messages = account.messages(mailbox).await?.into_iter().map(|message| {
        let flags = message.flags.to_string();
        let mut flags: Vec<&str> = flags.split(' ').filter(|flag| !flag.is_empty() && *flag != "\\Recent").collect();
        flags.sort_unstable();
        (message.uid.get(), (message.texts().subject.to_owned(), flags.join(" ")))
    });
    Ok(messages.collect())
}

/// Lists until it can be listed as it should be.
async fn listed_in_the_end(account: &Arc<Account>, mailbox: &str, want: &Listed, what: &str) {
    let start = Instant::now();
    loop {
        match listed(account, mailbox).await {
            Ok(now) if now == *want => return,
            // Never what is not so, but for what is not known yet.
            outcome => assert!(start.elapsed() < RECOVERY, "{what}: {outcome:?} is not {want:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

type Opened = (Client, Arc<Account>, Option<Store>);

/// An account at this port with what is kept in `cache`; `None` when it cannot be logged in to. Without a port it is one
/// without a server.
async fn open(user: &common::Account, port: Option<u16>, cache: Option<&Path>) -> Option<Opened> {
    let password = user.password.clone();
    let options = Options {
        host: "localhost".into(),
        port: port.unwrap_or(0),
        tls: Tls::None,
        tls_ca: None,
        user: user.user.clone(),
        credentials: Arc::new(move |_| Ok(Credentials::Password(password.clone().into()))),
        connections: 1,
        read_only: false,
        compress: false,
        debug_protocol: false,
        timeout: Duration::from_secs(5),
    };
    let (events, unasked) = mpsc::unbounded_channel();
    // A login that is cut is no mount: see the tests of connecting.
    let client = match port {
        Some(_) => Client::connect(options, events).await.ok()?,
        None => Client::unreachable(),
    };
    let kept = |directory: &Path| {
        let account = store::Account { user: user.user.clone(), host: "localhost".into(), port: 143 };
        Store::open(store::Options { directory: directory.to_owned(), account, limit: 1 << 30 }).unwrap()
    };
    let store = cache.map(kept);
    let options = account::Options {
        name: "cut".into(),
        user: user.user.clone(),
        host: "localhost".into(),
        port: None,
        root_mailbox: None,
        poll_interval: Duration::ZERO,
        memory: 1 << 20,
        trim: || {},
        deletion: Deletion::Trash,
        read_only: false,
        write_behind: false,
        store: store.clone().ok_or("off"),
        offline: port.is_none(),
    };
    let account = Account::open(client.clone(), unasked, options).await.ok()?;
    Some((client, account, store))
}

/// One run with a cut; what passed each way until the end.
async fn run(server: &Server, cut: Option<(Dir, u64)>) -> (u64, u64) {
    let user = server.account();
    let mut imap = user.imap();
    for n in 0..6 {
        imap.append("INBOX", &letter(&format!("m{n}")), "", None).unwrap();
    }
    let proxy = Proxy::new(user.port);
    if let Some((dir, line)) = cut {
        // The second one, on which it is resumed, is cut there as well.
        proxy.add(Fault { connections: 1..=2, dir, when: When::Lines(line), action: Action::Fin });
    }
    let Some((client, account, _)) = open(&user, Some(proxy.port()), None).await else { return (0, 0) };
    let what = format!("{cut:?}");
    listed_in_the_end(&account, "INBOX", &truth(&mut imap, "INBOX"), &what).await;
    change(&mut imap, "INBOX");
    let want = truth(&mut imap, "INBOX");
    listed_in_the_end(&account, "INBOX", &want, &what).await;
    let before = client.stats().commands;
    assert_eq!(listed(&account, "INBOX").await.unwrap(), want, "{what}");
    // STATUS, or SELECT; where changes are not counted, all flags as well. A connection may be made anew for it.
    let asked = client.stats().commands - before;
    assert!(cut.is_some() || asked <= 3, "{asked} commands for what it knows");
    let stats = proxy.stats();
    client.close().await;
    (stats.lines_up, stats.lines_down)
}

/// What others do: something of each kind, and more messages go than come.
fn change(imap: &mut Imap, mailbox: &str) {
    imap.append(mailbox, &letter("new"), "", None).unwrap();
    imap.select(mailbox).unwrap();
    imap.ok("UID STORE 2,5 +FLAGS (\\Flagged)").unwrap();
    imap.ok("UID STORE 1,4,6 +FLAGS.SILENT (\\Deleted)").unwrap();
    imap.ok("UID EXPUNGE 1,4,6").unwrap();
}

async fn a_cut_at_each_line(capabilities: &str, step: usize) {
    let server = Server::start("dovecot", &[("DOVECOT_CAPS", capabilities), ("DOVECOT_MAXCONN", "50")]);
    let (up, down) = run(&server, None).await;
    assert!(up > 5 && down > 20, "{up} {down}");
    let mut mounted = 0;
    let cuts = (1..up).map(|line| (Dir::Up, line)).chain((1..down).map(|line| (Dir::Down, line)));
    // They wait for the next attempt most of the time.
    for cuts in cuts.step_by(step).collect::<Vec<_>>().chunks(12) {
        let runs = join_all(cuts.iter().map(|cut| run(&server, Some(*cut)))).await;
        mounted += runs.into_iter().filter(|passed| *passed != (0, 0)).count();
    }
    println!("{up} lines up and {down} down; {mounted} cuts after the login");
    assert!(mounted > 20);
}

#[tokio::test]
async fn a_cut_anywhere_ends_in_the_same_with_qresync() {
    a_cut_at_each_line("", 1).await;
}

#[tokio::test]
async fn a_cut_anywhere_ends_in_the_same_with_condstore() {
    a_cut_at_each_line(CONDSTORE, 2).await;
}

#[tokio::test]
async fn a_cut_anywhere_ends_in_the_same_with_nothing_of_the_kind() {
    a_cut_at_each_line("IMAP4rev1 SASL-IR LITERAL+ ID UIDPLUS MOVE", 2).await;
}

/// Two mailboxes as an earlier mount kept them, changed since.
struct Resumed {
    user: common::Account,
    kept: TempDir,
    want: [(&'static str, Listed); 2],
}

impl Resumed {
    async fn new(server: &Server) -> Resumed {
        let user = server.account();
        let mut imap = user.imap();
        imap.create("Other").unwrap();
        let mailboxes = ["INBOX", "Other"];
        for (mailbox, n) in mailboxes.iter().flat_map(|mailbox| (0..6).map(move |n| (mailbox, n))) {
            imap.append(mailbox, &letter(&format!("m{n}")), "", None).unwrap();
        }
        let kept = TempDir::new().unwrap();
        let (client, account, store) = open(&user, Some(user.port), Some(kept.path())).await.unwrap();
        for mailbox in mailboxes {
            listed_in_the_end(&account, mailbox, &truth(&mut imap, mailbox), "first").await;
        }
        finish(client, account, store, kept.path()).await;
        mailboxes.iter().for_each(|mailbox| change(&mut imap, mailbox));
        let want = mailboxes.map(|mailbox| (mailbox, truth(&mut imap, mailbox)));
        Resumed { user, kept, want }
    }

    /// One run that begins with what was kept and is cut after so many lines; how many the server sent in all.
    async fn run(&self, cut: Option<u64>) -> u64 {
        let proxy = Proxy::new(self.user.port);
        if let Some(line) = cut {
            // The second one, on which it is resumed, is cut there as well.
            proxy.add(Fault { connections: 1..=2, dir: Dir::Down, when: When::Lines(line), action: Action::Fin });
        }
        let (here, what) = (TempDir::new().unwrap(), format!("cut after {cut:?}"));
        let cache = copied(self.kept.path(), &here, "cut");
        let opened = open(&self.user, Some(proxy.port()), Some(&cache)).await;
        let Some((client, account, store)) = opened else { return 0 };
        // What is shown is from one side of the changes or from the other; in the end it is what is so, and stays so.
        for _ in 0..2 {
            for (mailbox, want) in &self.want {
                listed_in_the_end(&account, mailbox, want, &what).await;
            }
        }
        let lines = proxy.stats().lines_down;
        finish(client, account, store, &cache).await;
        // All of it is kept: the next mount knows it without a server, and with one hears nothing new.
        let (_, account, _) = open(&self.user, None, Some(&copied(&cache, &here, "offline"))).await.unwrap();
        for (mailbox, want) in &self.want {
            assert_eq!(listed(&account, mailbox).await.unwrap(), *want, "{what}: without a server");
        }
        let next = copied(&cache, &here, "next");
        let (client, account, _) = open(&self.user, Some(self.user.port), Some(&next)).await.unwrap();
        let mut changes = account.changes().unwrap();
        for (mailbox, want) in &self.want {
            assert_eq!(listed(&account, mailbox).await.unwrap(), *want, "{what}: in the next mount");
        }
        assert!(changes.try_recv().is_err(), "{what}");
        client.close().await;
        lines
    }
}

/// Ends a mount; what it knows is on disk then, and nobody's any more.
async fn finish(client: Client, account: Arc<Account>, store: Option<Store>, cache: &Path) {
    client.close().await;
    drop(account);
    tokio::task::spawn_blocking(move || store.unwrap().flush()).await.unwrap();
    for account in std::fs::read_dir(cache.join("accounts")).unwrap() {
        let lock = File::open(account.unwrap().path().join("lock")).unwrap();
        let free = async {
            while lock.try_lock().is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), free).await.expect("the cache is let go of");
    }
}

/// A copy of a cache that nobody holds.
fn copied(from: &Path, to: &TempDir, name: &str) -> PathBuf {
    let to = to.path().join(name);
    assert!(Command::new("cp").arg("-r").args([from, &to]).status().unwrap().success());
    to
}

async fn a_cut_at_each_line_of_a_resume(capabilities: &str, step: usize) {
    let server = Server::start("dovecot", &[("DOVECOT_CAPS", capabilities), ("DOVECOT_MAXCONN", "50")]);
    let resumed = Resumed::new(&server).await;
    let lines = resumed.run(None).await;
    let mut mounted = 0;
    for cuts in (1..=lines).step_by(step).collect::<Vec<_>>().chunks(12) {
        let runs = join_all(cuts.iter().map(|cut| resumed.run(Some(*cut)))).await;
        mounted += runs.into_iter().filter(|lines| *lines > 0).count();
    }
    println!("{lines} lines; {mounted} cuts after the login");
    assert!(mounted * step > 20, "{mounted} of {lines}");
}

#[tokio::test]
async fn a_cut_anywhere_of_a_resume_from_disk_ends_in_the_same_with_qresync() {
    a_cut_at_each_line_of_a_resume("", 1).await;
}

#[tokio::test]
async fn a_cut_anywhere_of_a_resume_from_disk_ends_in_the_same_with_condstore() {
    a_cut_at_each_line_of_a_resume(CONDSTORE, 3).await;
}
