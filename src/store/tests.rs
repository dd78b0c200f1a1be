use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::mail::envelope::{Head, Texts};
use crate::mail::flag::Flags;
use crate::mail::mime;
use crate::mail::range::{BLOCK, blocks};
use crate::mail::section::Section;
use crate::mail::uid::{Uid, UidSet};

const VALIDITY: UidValidity = UidValidity(11);

fn account() -> Account {
    Account { user: "bob".into(), host: "mail.example.org".into(), port: 993 }
}

fn try_open(dir: &TempDir, limit: u64) -> Result<Store> {
    Store::open(Options { directory: dir.path().into(), account: account(), limit })
}

fn open(dir: &TempDir) -> Store {
    try_open(dir, 1 << 30).unwrap()
}

/// Where the database and the rest is.
fn inside(dir: &TempDir) -> PathBuf {
    directory::path(dir.path(), &account())
}

/// Ends a mount: all is on disk, and the directory is free.
fn close(store: Store) {
    store.flush();
    let path = store.0.shared.directory.path.clone();
    drop(store);
    // The thread ends when it sees that nobody is left.
    for _ in 0..1000 {
        if !directory::is_taken(&path) {
            return;
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("the thread does not end");
}

fn uid(n: u32) -> Uid {
    Uid::new(n).unwrap()
}

fn summary(n: u32, flags: &str) -> Summary {
    let flags = Flags::from_wire(flags.split(' ').map(str::as_bytes));
    let head = Head::new(uid(n), 5, u64::from(n), flags, 7);
    Summary::pack(head, &Texts { subject: &format!("subject {n}"), ..Texts::default() })
}

fn noise(seed: u64, count: u64) -> Bytes {
    (0..count).map(|n| ((n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect()
}

fn synced(exists: u64) -> Synced {
    Synced { uid_next: Some(exists + 1), exists, modseq: Some(99) }
}

#[tokio::test]
async fn what_was_told_is_there_in_the_next_mount() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    assert_eq!(store.mailboxes(), Mailboxes::default());
    let shelf = store.shelf(3, VALIDITY).unwrap();
    shelf.put_messages((1..=100).map(|n| summary(n, "")).collect());
    shelf.synced(synced(100));
    shelf.put_messages(vec![summary(7, "\\Seen")]);
    shelf.gone(UidSet::range(50, 59));
    let mailboxes = Mailboxes { ids: vec![("INBOX".into(), 3)], spent: vec![9], ..Mailboxes::default() };
    store.keep_mailboxes(mailboxes.clone());
    drop(shelf);
    close(store);
    let store = open(&dir);
    assert_eq!(store.mailboxes(), mailboxes);
    let kept = store.load(3).await.unwrap();
    assert_eq!((kept.validity, kept.synced, kept.messages.len()), (VALIDITY, synced(100), 90));
    assert_eq!(kept.messages[6], summary(7, "\\Seen"));
    assert!(store.load(4).await.is_none());
    store.forget(3);
    close(store);
    assert!(open(&dir).load(3).await.is_none());
}

#[tokio::test]
async fn a_mailbox_whose_whole_was_never_told_is_not_known() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let shelf = store.shelf(3, VALIDITY).unwrap();
    shelf.put_messages(vec![summary(1, "")]);
    store.flush();
    assert!(store.load(3).await.is_none());
    assert!(store.shelf(3, UidValidity(0)).is_none());
    // Under another UIDVALIDITY there is nothing of it.
    shelf.put_structure(uid(1), None);
    store.flush();
    assert_eq!(shelf.details(vec![uid(1)]).await.len(), 1);
    assert!(store.shelf(3, UidValidity(12)).unwrap().details(vec![uid(1)]).await.is_empty());
}

#[tokio::test]
async fn structures_come_back_with_the_sizes_that_were_learnt_since() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let shelf = store.shelf(3, VALIDITY).unwrap();
    let root = mime::parse(b"Content-Type: text/html\r\n\r\n<p>").root;
    shelf.put_size(uid(1), 4, 17);
    shelf.put_structure(uid(1), Some(root.clone()));
    shelf.put_size(uid(1), 5, 18);
    shelf.put_size(uid(1), 6, 19);
    shelf.put_structure(uid(2), None);
    store.flush();
    let found = shelf.details(vec![uid(1), uid(2), uid(3)]).await;
    assert_eq!(found[&uid(1)], Details { root: Some(root), sizes: vec![(5, 18), (6, 19)] });
    assert_eq!(found[&uid(2)], Details { root: None, sizes: vec![] });
    assert_eq!(found.len(), 2);
}

#[tokio::test]
async fn octets_are_read_by_blocks_and_small_sections_as_a_whole() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let shelf = store.shelf(3, VALIDITY).unwrap();
    let (large, small) = (noise(1, 40 * BLOCK + 3), noise(2, 500));
    let section = Section::part(&[2]);
    let entry = shelf.entry(uid(1), &section).await.unwrap();
    let length = Some(large.len() as u64);
    for start in [0, 3, 40] {
        let (from, to) = ((start * BLOCK) as usize, large.len().min(((start + 2) * BLOCK) as usize));
        shelf.put(&entry, start * BLOCK, large.slice(from..to), length);
    }
    shelf.put_whole(uid(1), &Section::header(), small.clone());
    drop(entry);
    drop(shelf);
    close(store);
    let store = open(&dir);
    let shelf = store.shelf(3, VALIDITY).unwrap();
    let entry = shelf.entry(uid(1), &section).await.unwrap();
    assert_eq!(entry.length(), length);
    assert_eq!((0..50).filter(|block| entry.has(*block)).collect::<Vec<_>>(), [0, 1, 3, 4, 40]);
    assert_eq!(shelf.read(&entry, 0..2).await.unwrap(), large[..2 * BLOCK as usize]);
    assert_eq!(shelf.read(&entry, 40..41).await.unwrap(), large[40 * BLOCK as usize..]);
    assert_eq!(shelf.read(&entry, 1..4).await, None);
    let sections = [Section::header(), Section::part(&[1]), section];
    assert_eq!(shelf.sections(uid(1), &sections).await, [Some(small.clone()), None, None]);
    let header = shelf.entry(uid(1), &Section::header()).await.unwrap();
    assert_eq!(shelf.read(&header, 0..1).await.unwrap(), small);
    let figures = store.figures();
    assert_eq!((figures.state, figures.hits, figures.misses), (State::On, 4, 3));
    shelf.gone(UidSet::range(1, 1));
    store.flush();
    assert!(!entry.has(0));
    assert_eq!(files(&inside(&dir).join("octets")), Vec::<PathBuf>::new());
}

/// All files below a directory.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn octets_of_a_message_that_goes_before_they_are_committed_leave_no_file() {
    // How many blocks were committed before, and what goes: the message or its mailbox.
    for (committed, message) in [(0, true), (0, false), (1, true)] {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let shelf = store.shelf(3, VALIDITY).unwrap();
        let octets = noise(1, 40 * BLOCK);
        let entry = shelf.entry(uid(5), &Section::part(&[2])).await.unwrap();
        let other = shelf.entry(uid(6), &Section::part(&[2])).await.unwrap();
        shelf.put(&entry, 0, octets.slice(..(committed * BLOCK) as usize), None);
        store.flush();
        let before = store.figures().used;
        // Both come within a second: one transaction.
        shelf.put(&entry, 0, octets.clone(), None);
        if message {
            shelf.put(&other, 0, octets.slice(..BLOCK as usize), None);
            shelf.gone(UidSet::range(5, 5));
        } else {
            store.forget(3);
        }
        store.flush();
        assert!(!entry.has(0) && other.has(0) == message);
        let left = files(&inside(&dir).join("octets"));
        assert_eq!(left, Vec::from_iter(message.then(|| other.key.file(&inside(&dir).join("octets")))));
        let used = store.figures().used;
        assert!(used < before + 20 * BLOCK, "{committed}: {used} octets after {before}");
    }
}

#[tokio::test]
async fn what_was_not_used_for_long_goes_when_the_limit_is_reached() {
    let dir = TempDir::new().unwrap();
    let limit = 4 << 20;
    let store = try_open(&dir, limit).unwrap();
    let shelf = store.shelf(3, VALIDITY).unwrap();
    shelf.put_messages(vec![summary(1, "")]);
    shelf.synced(synced(1));
    for n in 1..=20 {
        // Half of them in files, half of them rows.
        let octets = noise(n.into(), if n % 2 == 0 { 400_000 } else { 200_000 });
        let entry = shelf.entry(uid(n), &Section::message()).await.unwrap();
        shelf.put(&entry, 0, octets.clone(), Some(octets.len() as u64));
        store.flush();
        assert!(store.figures().used <= limit, "{}", store.figures().used);
    }
    let mut kept = 0;
    for n in 1..=20 {
        let whole = shelf.sections(uid(n), &[Section::message()]).await.remove(0);
        kept += whole.as_ref().map_or(0, Bytes::len);
        assert!(whole.is_none_or(|octets| octets == noise(n.into(), octets.len() as u64)));
    }
    assert!(kept > 2 << 20, "{kept}");
    assert!(allocated(&inside(&dir).join("octets")) < limit);
    // What is known of messages stays.
    assert_eq!(store.load(3).await.unwrap().messages.len(), 1);
}

fn allocated(path: &Path) -> u64 {
    files(path).iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn whatever_is_damaged_is_missing_or_right_and_never_wrong() {
    let section = Section::part(&[2]);
    let (large, small) = (noise(1, 300_000), noise(2, 5_000));
    let fill = |dir: &TempDir| {
        let store = open(dir);
        let shelf = store.shelf(3, VALIDITY).unwrap();
        shelf.put_messages((1..=200).map(|n| summary(n, "\\Seen")).collect());
        shelf.synced(synced(200));
        for n in 1..=20 {
            shelf.put_structure(uid(n), None);
            shelf.put_size(uid(n), 4, u64::from(n) * 1000);
            shelf.put_whole(uid(n), &section, large.clone());
            shelf.put_whole(uid(n), &Section::header(), small.clone());
        }
        store.keep_mailboxes(Mailboxes { ids: vec![("INBOX".into(), 3)], ..Mailboxes::default() });
        drop(shelf);
        close(store);
    };
    let dir = TempDir::new().unwrap();
    fill(&dir);
    let mut seen = (0, 0);
    for round in 0..60_u64 {
        if files(&inside(&dir)).len() < 20 {
            fill(&dir);
        }
        let mut all = files(&inside(&dir));
        all.sort_by_key(|path| std::cmp::Reverse(path.ends_with("index.db")));
        // Every other time the database, which is the most of what is believed.
        let path = if round % 2 == 0 { &all[0] } else { &all[(round as usize / 2 * 7) % all.len()] };
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        match round % 5 {
            0 => file.set_len(length / 10 * (round % 10)).unwrap(),
            1 => drop(fs::copy(&all[all.len() - 1], path).unwrap()),
            _ => {
                let at = length / 61 * round;
                file.write_all_at(&noise(round, 40), at).unwrap();
            }
        }
        let Ok(store) = try_open(&dir, 1 << 30) else { continue };
        let mailboxes = store.mailboxes();
        assert!(mailboxes == Mailboxes::default() || mailboxes.ids == [("INBOX".to_owned(), 3)], "round {round}");
        if let Some(kept) = store.load(3).await {
            assert_eq!((kept.validity, kept.synced), (VALIDITY, synced(200)));
            assert!(kept.messages.iter().all(|m| *m == summary(m.uid.get(), "\\Seen")), "round {round}");
            seen.0 += kept.messages.len();
        }
        let shelf = store.shelf(3, VALIDITY).unwrap();
        for n in 1..=20 {
            for details in shelf.details(vec![uid(n)]).await.into_values() {
                let right = Details { root: None, sizes: vec![(4, u64::from(n) * 1000)] };
                assert!(details == right || details.sizes.is_empty(), "round {round}");
            }
            let got = shelf.sections(uid(n), &[section.clone(), Section::header()]).await;
            for (got, want) in got.iter().zip([&large, &small]) {
                assert!(got.as_ref().is_none_or(|got| got == want), "round {round}");
                seen.1 += usize::from(got.is_some());
            }
            let entry = shelf.entry(uid(n), &section).await;
            if let Some(entry) = entry
                && let Some(octets) = shelf.read(&entry, blocks(&(0..large.len() as u64))).await
            {
                assert_eq!(octets, large, "round {round}");
            }
        }
        drop(shelf);
        close(store);
    }
    assert!(seen.0 > 1000 && seen.1 > 100, "nothing was left to look at: {seen:?}");
}

#[tokio::test]
async fn a_cache_of_another_form_or_account_is_begun_anew() {
    for (sql, survives) in [
        ("PRAGMA user_version=1", true),
        ("PRAGMA user_version=99", false),
        ("UPDATE about SET data='x' WHERE name='account'", false),
        ("UPDATE about SET data='x' WHERE name='mailboxes'", false),
        ("DROP TABLE about", false),
    ] {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        store.keep_mailboxes(Mailboxes { spent: vec![5], ..Mailboxes::default() });
        store.shelf(3, VALIDITY).unwrap().put_whole(uid(1), &Section::message(), noise(1, 300_000));
        close(store);
        Connection::open(inside(&dir).join("index.db")).unwrap().execute_batch(sql).unwrap();
        let store = open(&dir);
        assert_eq!(store.mailboxes().spent.len(), usize::from(survives), "{sql}");
        assert_eq!(files(&inside(&dir).join("octets")).len(), usize::from(survives), "{sql}");
        store.keep_mailboxes(Mailboxes::default());
        close(store);
    }
}

#[tokio::test]
async fn one_process_has_it_and_others_are_told_so() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    assert!(matches!(try_open(&dir, 1), Err(Error::Busy(_))));
    assert!(info(dir.path(), None)[0].in_use);
    close(store);
    let again = open(&dir);
    assert_eq!(info(dir.path(), Some(&account())).len(), 1);
    drop(again);
}

#[tokio::test]
async fn a_disk_that_fails_ends_the_keeping_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let shelf = store.shelf(3, VALIDITY).unwrap();
    let small = noise(1, 1000);
    shelf.put_whole(uid(1), &Section::header(), small.clone());
    store.flush();
    // No file can be made from here on.
    fs::write(inside(&dir).join("octets"), "").unwrap();
    shelf.put_messages(vec![summary(1, "")]);
    shelf.put_whole(uid(1), &Section::message(), noise(2, 300_000));
    store.flush();
    assert_eq!(store.figures().state, State::Failed);
    shelf.synced(synced(1));
    store.flush();
    assert_eq!(shelf.sections(uid(1), &[Section::header(), Section::message()]).await, [Some(small), None]);
    assert!(store.load(3).await.is_none());
}

#[tokio::test]
async fn it_can_be_deleted_at_any_time() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let shelf = store.shelf(3, VALIDITY).unwrap();
    shelf.put_whole(uid(1), &Section::message(), noise(2, 300_000));
    shelf.put_whole(uid(2), &Section::message(), noise(3, 100));
    store.flush();
    assert!(clear(dir.path(), None).unwrap() > 300_000);
    // Another one begins a cache in the same place meanwhile.
    let other = open(&dir);
    other.shelf(3, VALIDITY).unwrap().put_whole(uid(1), &Section::message(), noise(9, 300_000));
    other.flush();
    for n in [1, 2] {
        let got = shelf.sections(uid(n), &[Section::message()]).await.remove(0);
        assert!(got.is_none_or(|octets| octets == noise(u64::from(n) + 1, octets.len() as u64)));
    }
    shelf.put_whole(uid(3), &Section::message(), noise(4, 300_000));
    store.flush();
    assert_eq!(store.figures().state, State::Deleted);
    assert_eq!(other.figures().state, State::On);
}

#[tokio::test]
async fn nobody_else_can_look_into_it() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.shelf(3, VALIDITY).unwrap().put_whole(uid(1), &Section::message(), noise(2, 300_000));
    store.flush();
    fn check(path: &Path) -> usize {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        let inside = fs::read_dir(path).into_iter().flatten();
        1 + inside.map(|entry| check(&entry.unwrap().path())).sum::<usize>()
    }
    assert!(check(&inside(&dir)) >= 7);
    assert!(dir.path().join("accounts").metadata().unwrap().permissions().mode() & 0o77 == 0);
}

#[tokio::test]
async fn a_thread_that_falls_behind_gives_a_mailbox_up_rather_than_the_memory() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let (shelf, other) = (store.shelf(3, VALIDITY).unwrap(), store.shelf(4, VALIDITY).unwrap());
    store.0.shared.rows.fetch_add(ROWS_MAX + 1, Ordering::Relaxed);
    shelf.put_messages(vec![summary(1, "")]);
    store.0.shared.rows.fetch_sub(ROWS_MAX + 1, Ordering::Relaxed);
    for shelf in [shelf, other] {
        shelf.put_messages(vec![summary(2, "")]);
        shelf.synced(synced(1));
    }
    store.flush();
    assert!(store.load(3).await.is_none());
    assert_eq!(store.load(4).await.unwrap().messages.len(), 1);
}

#[tokio::test]
async fn what_was_looked_at_last_is_loaded_before_it_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    assert_eq!(store.last(), None);
    for mailbox in [3, 4] {
        let shelf = store.shelf(mailbox, VALIDITY).unwrap();
        shelf.put_messages(vec![summary(mailbox.into(), "")]);
        shelf.synced(synced(1));
        store.keep_last(mailbox);
    }
    close(store);
    let store = open(&dir);
    assert_eq!(store.last(), Some(4));
    for mailbox in [3, 4, 4] {
        assert_eq!(store.load(mailbox).await.unwrap().messages, [summary(mailbox.into(), "")], "{mailbox}");
    }
    assert_eq!(store.last(), None, "it is loaded");
    close(store);
}
