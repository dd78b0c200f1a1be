//! Without a disk cache, and with more than memory holds, each octet comes once: what is read ahead stays until it is read.

#![allow(clippy::unwrap_used)]

mod common;
mod scripted;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Account, Mount};
use scripted::{Mailbox, Message, Reply, Scripted, octets};

/// A server of these messages, what it has sent, and how many octets they have.
fn counting(messages: Vec<Message>) -> (Scripted, Arc<AtomicU64>, u64) {
    let total = messages.iter().map(|message| message.bytes.len() as u64).sum();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let mailboxes: BTreeMap<_, _> = [("INBOX".to_owned(), Mailbox { validity: 1, messages })].into();
    let server = Scripted::new(mailboxes, move |_, responses| {
        let all = octets(&responses);
        counter.fetch_add(all.len() as u64, Ordering::Relaxed);
        Reply::Send(all)
    });
    (server, sent, total)
}

/// Takes 10 MB a second, which is slower than they come.
fn read_slowly(mut file: File) {
    let (mut buffer, mut done, begun) = (vec![0; 128 << 10], 0, Instant::now());
    loop {
        let count = file.read(&mut buffer).unwrap();
        if count == 0 {
            return;
        }
        done += count as u64;
        std::thread::sleep(Duration::from_micros(done / 10).saturating_sub(begun.elapsed()));
    }
}

#[test]
fn several_slow_readers_of_large_files() {
    const READERS: u32 = 3;
    let (server, sent, total) = counting((1..=READERS).map(|uid| Message::with_attachment(uid, 30 << 20)).collect());
    let mount = Mount::new(&Account::at(server.port), &["--no-cache"]);
    std::thread::scope(|scope| {
        for uid in 1..=READERS {
            let file = File::open(mount.message("INBOX", uid).join("message.eml")).unwrap();
            scope.spawn(|| read_slowly(file));
        }
    });
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < total + total / 10, "{sent} octets of {total}");
}

#[test]
fn a_walk_through_long_texts() {
    let lines = "a line of text that says something, and then something more\r\n".repeat(1650);
    let message = |uid| Message::new(uid, format!("Subject: {uid}\r\nContent-Type: text/plain\r\n\r\n{lines}"));
    let (server, sent, total) = counting((1..=500).map(message).collect());
    let mount = Mount::new(&Account::at(server.port), &["--no-cache"]);
    for entry in fs::read_dir(mount.join("INBOX")).unwrap() {
        for file in fs::read_dir(entry.unwrap().path()).unwrap() {
            fs::read(file.unwrap().path()).unwrap();
        }
    }
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < total + total / 10, "{sent} octets of {total}");
}
