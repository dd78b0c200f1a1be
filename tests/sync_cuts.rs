//! A connection that is cut at each line (every second one where a server can less) of a first listing and of the next one, each way: what is listed in the end is
//! what the server has, as without the cut, and to look once more changes nothing.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use common::proxy::{Action, Dir, Fault, Proxy, When};
use common::{Imap, Server};
use imapfs::account::{self, Account, Deletion};
use imapfs::imap::{Client, Credentials, Options, Tls};
use tokio::sync::mpsc;

/// Until the mailbox can be listed after a cut: two logins, and the pause after one that was cut.
const RECOVERY: Duration = Duration::from_secs(10);

fn letter(subject: &str) -> Vec<u8> {
    format!("From: Alice <alice@example.test>\r\nSubject: {subject}\r\n\r\nThis is in {subject}.\r\n").into_bytes()
}

/// A mailbox: UID to subject and flags.
type Listed = BTreeMap<u32, (String, String)>;

/// What the server has.
fn truth(imap: &mut Imap) -> Listed {
    imap.select("INBOX").unwrap();
    let mut all = Listed::new();
    for (uid, bytes) in imap.bodies("1:*").unwrap() {
        let text = String::from_utf8(bytes).unwrap();
        let subject = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().to_owned();
        let flags: Vec<String> = imap.flags(uid).unwrap().unwrap().into_iter().filter(|f| f != "\\Recent").collect();
        all.insert(uid, (subject, flags.join(" ")));
    }
    all
}

async fn listed(account: &Arc<Account>) -> imapfs::error::Result<Listed> {
    let inbox = account.child(None, "INBOX").ok_or(imapfs::error::Error::NotFound)?;
    let messages = account.messages(inbox).await?.into_iter().map(|message| {
        let flags = message.flags.to_string();
        let mut flags: Vec<&str> = flags.split(' ').filter(|flag| !flag.is_empty() && *flag != "\\Recent").collect();
        flags.sort_unstable();
        (message.uid.get(), (message.texts().subject.to_owned(), flags.join(" ")))
    });
    Ok(messages.collect())
}

/// Lists until it can be listed as it should be.
async fn listed_in_the_end(account: &Arc<Account>, want: &Listed, what: &str) {
    let start = Instant::now();
    loop {
        match listed(account).await {
            Ok(now) if now == *want => return,
            // Never what is not so, but for what is not known yet.
            outcome => assert!(start.elapsed() < RECOVERY, "{what}: {outcome:?} is not {want:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
    let password = user.password.clone();
    let options = Options {
        host: "localhost".into(),
        port: proxy.port(),
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
    let Ok(client) = Client::connect(options, events).await else { return (0, 0) };
    let options = account::Options {
        name: "cut".into(),
        user: user.user.clone(),
        host: "localhost".into(),
        port: None,
        root_mailbox: None,
        poll_interval: Duration::ZERO,
        memory: 1 << 20,
        deletion: Deletion::Trash,
        read_only: false,
        write_behind: false,
        store: Err("off"),
        offline: false,
    };
    let Ok(account) = Account::open(client.clone(), unasked, options).await else { return (0, 0) };
    let what = format!("{cut:?}");
    listed_in_the_end(&account, &truth(&mut imap), &what).await;
    // What others do: something of each kind, and more messages go than come.
    imap.append("INBOX", &letter("new"), "", None).unwrap();
    imap.select("INBOX").unwrap();
    imap.ok("UID STORE 2,5 +FLAGS (\\Flagged)").unwrap();
    imap.ok("UID STORE 1,4,6 +FLAGS.SILENT (\\Deleted)").unwrap();
    imap.ok("UID EXPUNGE 1,4,6").unwrap();
    let want = truth(&mut imap);
    listed_in_the_end(&account, &want, &what).await;
    let before = client.stats().commands;
    assert_eq!(listed(&account).await.unwrap(), want, "{what}");
    // STATUS, or SELECT; where changes are not counted, all flags as well. A connection may be made anew for it.
    let asked = client.stats().commands - before;
    assert!(cut.is_some() || asked <= 3, "{asked} commands for what it knows");
    let stats = proxy.stats();
    client.close().await;
    (stats.lines_up, stats.lines_down)
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
    a_cut_at_each_line("IMAP4rev1 SASL-IR LITERAL+ ID ENABLE IDLE UIDPLUS MOVE CONDSTORE ESEARCH UNSELECT", 2).await;
}

#[tokio::test]
async fn a_cut_anywhere_ends_in_the_same_with_nothing_of_the_kind() {
    a_cut_at_each_line("IMAP4rev1 SASL-IR LITERAL+ ID UIDPLUS MOVE", 2).await;
}
