//! Another client and we do as we please, in any order: what is shown is what the server holds, and what stayed is what
//! it was.

#![allow(clippy::unwrap_used)]

mod common;
mod model;

use std::collections::{BTreeMap, HashMap};

use common::corpus::build;
use imapfs::error::{Error, Result};
use imapfs::fs::DirEntry;
use imapfs::tree::node::Ino;
use model::message::Message;
use model::{Lies, Mounted, Random, Server};
use proptest::prelude::*;

const MAILBOXES: [&str; 4] = ["INBOX", "Work", "Lists", "Lists/rust"];

const FLAGS: [&str; 4] = ["", "\\Seen", "\\Seen \\Flagged", "$Forwarded"];

/// What somebody does. Mailboxes and messages are given by a number.
#[derive(Clone, Debug)]
enum Step {
    // Another client.
    Append(usize, u8),
    Expunge(usize, usize),
    SetFlags(usize, usize, usize),
    Create(usize),
    Delete(usize),
    Renumber(usize),
    // We.
    List(usize),
    Lookup(usize, usize),
    Read(usize, usize),
    StatOld(usize),
    ReadOld(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let mailbox = || 0..MAILBOXES.len();
    let message = 0..6usize;
    prop_oneof![
        5 => (mailbox(), any::<u8>()).prop_map(|(m, n)| Step::Append(m, n)),
        3 => (mailbox(), message.clone()).prop_map(|(m, n)| Step::Expunge(m, n)),
        3 => (mailbox(), message.clone(), 0..FLAGS.len()).prop_map(|(m, n, f)| Step::SetFlags(m, n, f)),
        2 => mailbox().prop_map(Step::Create),
        1 => mailbox().prop_map(Step::Delete),
        1 => mailbox().prop_map(Step::Renumber),
        6 => mailbox().prop_map(Step::List),
        2 => (mailbox(), message.clone()).prop_map(|(m, n)| Step::Lookup(m, n)),
        3 => (mailbox(), message.clone()).prop_map(|(m, n)| Step::Read(m, n)),
        1 => (0..30usize).prop_map(Step::StatOld),
        1 => (0..30usize).prop_map(Step::ReadOld),
    ]
}

/// What a server may do wrongly without anything being shown wrong.
fn lies() -> impl Strategy<Value = Lies> {
    use model::lies::{Expunged, Octets, Ranges, Rows, Structure};
    let octets = prop_oneof![
        2 => Just(Octets::True), 1 => (-2..3i64).prop_map(Octets::Off), 1 => Just(Octets::Zero), 1 => Just(Octets::Huge),
    ];
    let ranges =
        prop::sample::select(vec![Ranges::True, Ranges::Whole, Ranges::WrongOrigin, Ranges::Empty, Ranges::Refused]);
    let structure =
        prop::sample::select(vec![Structure::True, Structure::True, Structure::Odd, Structure::MultipartLeaf]);
    let expunged = prop::sample::select(vec![
        Expunged::Nothing,
        Expunged::MadeUp,
        Expunged::Empty,
        Expunged::Nil,
        Expunged::LastMessage,
    ]);
    let rows = prop::sample::select(vec![Rows::True, Rows::Unasked, Rows::WithoutUid, Rows::Twice, Rows::Half]);
    let counts = (prop_oneof![Just(0), 1..9u64], any::<bool>(), any::<bool>());
    let lie = |(octets, ranges, structure, expunged, rows, (extra_exists, extra_uids, no_uid_next))| Lies {
        octets,
        ranges,
        structure,
        expunged,
        rows,
        // A message that is counted and made up cannot be told from one that is there.
        extra_exists: if expunged == Expunged::Nothing { extra_exists } else { 0 },
        extra_uids,
        no_uid_next,
        ..Lies::default()
    };
    prop_oneof![Just(Lies::default()), (octets, ranges, structure, expunged, rows, counts).prop_map(lie)]
}

/// A message for ever: mailbox, UIDVALIDITY, UID.
type Identity = (String, u32, u32);

/// All that was shown so far.
struct Watcher {
    mounted: Mounted,
    server: Server,
    random: Random,
    shown: HashMap<Identity, (String, Ino)>,
    owners: HashMap<Ino, Identity>,
    /// In the order in which they were shown, with what is in them.
    history: Vec<(Ino, Identity, Message)>,
}

impl Watcher {
    async fn new(server: Server) -> Self {
        let mounted = Mounted::new(&server).await;
        let (shown, owners, history) = (HashMap::new(), HashMap::new(), Vec::new());
        Self { mounted, server, random: Random::new(11), shown, owners, history }
    }

    /// The messages of a mailbox by UID, and its UIDVALIDITY; `None` when there is no such mailbox.
    fn truth(&self, name: &str) -> Option<(u32, BTreeMap<u32, Message>)> {
        let state = self.server.lock();
        state.mailboxes.get(name).map(|mailbox| (mailbox.validity, mailbox.messages.clone()))
    }

    fn uid(&self, name: &str, number: usize) -> Option<u32> {
        self.truth(name)?.1.keys().copied().nth(number)
    }

    /// A directory is listed as programs do it: by its path, once more when it turned out to be another one.
    async fn list(&self, name: &str) -> Result<Vec<DirEntry>> {
        match self.list_once(name).await {
            Err(Error::Stale) => self.list_once(name).await,
            outcome => outcome,
        }
    }

    async fn list_once(&self, name: &str) -> Result<Vec<DirEntry>> {
        let directory = self.mounted.find(name).await?.attr.ino;
        self.mounted.list(directory).await
    }

    /// What is shown of a mailbox is what it holds.
    async fn check_list(&mut self, name: &str) {
        let listed = self.list(name).await;
        let Some((validity, messages)) = self.truth(name) else {
            // It may be a level above others.
            let is_level =
                MAILBOXES.iter().any(|other| other.starts_with(&format!("{name}/")) && self.truth(other).is_some());
            match listed {
                Ok(entries) => assert!(is_level && entries.iter().all(|e| uid_of(e).is_none()), "{name}: {entries:?}"),
                Err(error) => assert!(!is_level && error == Error::NotFound, "{name}: {error:?}"),
            }
            return;
        };
        let mut shown = BTreeMap::new();
        for entry in listed.unwrap_or_else(|error| panic!("{name}: {error:?}")) {
            if let Some(uid) = uid_of(&entry) {
                shown.insert(uid, entry);
            }
        }
        assert_eq!(shown.keys().collect::<Vec<_>>(), messages.keys().collect::<Vec<_>>(), "{name}");
        for (uid, entry) in shown {
            let message = &messages[&uid];
            let ino = entry.entry.attr.ino;
            assert_eq!(entry.name, format!("2026-11-21T0915_Alïce_{}.{uid}", subject(message)));
            let flags = self.mounted.fs.getxattr(ino, "user.imap.flags").await;
            match message.flags.to_string() {
                // All flags are asked for now and then only.
                _ if !self.server.lock().condstore => {}
                none if none.is_empty() => assert!(matches!(flags.as_deref(), Err(Error::NoAttribute) | Ok([]))),
                some => assert_eq!(flags, Ok(some.into_bytes())),
            }
            let identity = (name.to_owned(), validity, uid);
            let before = self.shown.entry(identity.clone()).or_insert_with(|| (entry.name.clone(), ino));
            assert_eq!(*before, (entry.name, ino), "{identity:?}");
            let owner = self.owners.entry(ino).or_insert_with(|| identity.clone());
            assert_eq!(*owner, identity, "{ino:?} is other mail");
            self.history.push((ino, identity, message.clone()));
        }
    }

    async fn check_message(&mut self, name: &str, uid: u32) {
        let message = self.server.message(name, uid);
        let listed = self.list(name).await.unwrap();
        let entry = listed.into_iter().find(|e| uid_of(e) == Some(uid)).unwrap();
        let mut tally = model::walk::Tally::default();
        self.mounted.check_message(&entry, &message, &mut self.random, &mut tally).await;
        tally.expect_no_errors(name);
    }

    /// A name that was shown is found where it was, also while nobody has heard that the mailbox is another one.
    async fn check_lookup(&self, name: &str, uid: u32) {
        let message = self.server.message(name, uid);
        let path = format!("{name}/2026-11-21T0915_Alïce_{}.{uid}", subject(&message));
        let found = match self.mounted.find(&path).await {
            Err(Error::Stale) => self.mounted.find(&path).await,
            outcome => outcome,
        };
        if let Ok(found) = found {
            let owner = self.owners.get(&found.attr.ino);
            let is_same = |owner: &Identity| format!("{}/{}", owner.0, self.shown[owner].0) == path;
            assert!(owner.is_none_or(is_same), "{path} is {owner:?}");
        }
    }

    /// What was shown once is still the same, or an error.
    async fn check_old(&mut self, number: usize, reads: bool) {
        let Some((ino, identity, message)) = self.history.iter().rev().nth(number).cloned() else { return };
        let (name, validity, uid) = &identity;
        let now = self.truth(name);
        let is_there = now.is_some_and(|(now, messages)| now == *validity && messages.contains_key(uid));
        let outcome = match reads {
            false => self.mounted.fs.getattr(ino).await.map(drop),
            true => match self.mounted.fs.lookup(ino, "message.eml").await {
                Ok(found) => self.mounted.check_file(found.attr.ino, &message.bytes, "old", &mut self.random).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = outcome {
            let is_meant = matches!(error, Error::Stale | Error::NotFound | Error::Protocol(_));
            assert!(!is_there && is_meant, "{identity:?}: {error:?}");
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Append(m, n) if self.truth(MAILBOXES[m]).is_some() => {
                let subject = format!("s{n}");
                let body =
                    build::attachment("image/png", "; filename=\"a.png\"", &build::noise(usize::from(n) * 90, 3));
                let bytes = match n % 3 {
                    0 => build::message(&subject, &subject, &[], build::TEXT),
                    _ => build::with_part(&subject, body),
                };
                self.server.append(MAILBOXES[m], Message::new(bytes));
            }
            Step::Create(m) if self.truth(MAILBOXES[m]).is_none() => self.server.create(MAILBOXES[m]),
            Step::Delete(m) if m > 0 => self.server.delete(MAILBOXES[m]),
            Step::Renumber(m) => self.server.renumber(MAILBOXES[m]),
            Step::List(m) => self.check_list(MAILBOXES[m]).await,
            Step::StatOld(n) => self.check_old(n, false).await,
            Step::ReadOld(n) => self.check_old(n, true).await,
            Step::Expunge(m, n) | Step::SetFlags(m, n, _) | Step::Lookup(m, n) | Step::Read(m, n) => {
                let name = MAILBOXES[m];
                let Some(uid) = self.uid(name, n) else { return };
                match step {
                    Step::Expunge(..) => self.server.expunge(name, uid),
                    Step::SetFlags(_, _, flags) => self.server.set_flags(name, uid, FLAGS[flags]),
                    Step::Lookup(..) => self.check_lookup(name, uid).await,
                    _ => self.check_message(name, uid).await,
                }
            }
            Step::Append(..) | Step::Create(_) | Step::Delete(_) => {}
        }
    }
}

fn uid_of(entry: &DirEntry) -> Option<u32> {
    entry.name.starts_with("2026-").then(|| entry.name.rsplit('.').next()?.parse().ok()).flatten()
}

fn subject(message: &Message) -> String {
    String::from_utf8(message.envelope().subject.unwrap()).unwrap().replace(' ', "-")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_shown_is_what_the_server_holds(
        steps in prop::collection::vec(step(), 1..60), lies in lies(), condstore in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::new();
            (server.lock().lies, server.lock().condstore) = (lies, condstore);
            let mut watcher = Watcher::new(server).await;
            for step in steps {
                watcher.take(step).await;
            }
            for name in MAILBOXES {
                watcher.check_list(name).await;
            }
        });
    }
}

/// A mailbox comes back from a backup, with its UIDVALIDITY, and so many others arrive: UIDs that were shown are given
/// again, and nothing that was kept of them in memory is shown.
async fn comes_back(arrive: u32, condstore: bool) {
    let letter = |subject: &str| {
        let body = build::attachment("image/png", "; filename=\"a.png\"", &build::noise(900, subject.len() as u64));
        Message::new(build::with_part(subject, body))
    };
    let server = Server::new();
    server.lock().condstore = condstore;
    let mut watcher = Watcher::new(server.clone()).await;
    let append = |subjects: Vec<String>| {
        for subject in subjects {
            server.append("INBOX", letter(&subject));
        }
    };
    append((1..6).map(|n| format!("s{n}")).collect());
    server.set_flags("INBOX", 2, "\\Seen");
    let backup = server.with("INBOX", |mailbox| mailbox.clone());
    append((6..9).map(|n| format!("s{n}")).collect());
    server.set_flags("INBOX", 2, "\\Seen \\Flagged");
    server.expunge("INBOX", 3);
    watcher.check_list("INBOX").await;
    for uid in watcher.truth("INBOX").unwrap().1.into_keys() {
        watcher.check_message("INBOX", uid).await;
    }
    server.with("INBOX", |mailbox| *mailbox = backup);
    append((0..arrive).map(|n| format!("other-{n}")).collect());
    watcher.shown.clear();
    watcher.owners.clear();
    let before = std::mem::take(&mut watcher.history);
    // Of what is shown from here on everything is as the server has it, and stays so when still others arrive.
    for late in 0..2 {
        append((0..3 * late).map(|n| format!("late-{n}")).collect());
        watcher.check_list("INBOX").await;
        for uid in watcher.truth("INBOX").unwrap().1.into_keys() {
            watcher.check_message("INBOX", uid).await;
        }
    }
    for (ino, identity, message) in before {
        let now = watcher.history.iter().find(|(now, ..)| *now == ino);
        assert!(now.is_none_or(|(.., now)| now.bytes == message.bytes), "{ino:?} of {identity:?} is other mail");
        let read = match watcher.mounted.fs.lookup(ino, "message.eml").await {
            Ok(found) => watcher.mounted.check_file(found.attr.ino, &message.bytes, "old", &mut watcher.random).await,
            Err(error) => Err(error),
        };
        assert!(matches!(read, Ok(()) | Err(Error::Stale | Error::NotFound)), "{identity:?}: {read:?}");
    }
}

#[tokio::test]
async fn a_mailbox_that_comes_back_from_a_backup_shows_nothing_of_what_was_later() {
    for arrive in 0..3 {
        comes_back(arrive, true).await;
        comes_back(arrive, false).await;
    }
    // UIDNEXT alone tells nothing here.
    comes_back(3, true).await;
}
