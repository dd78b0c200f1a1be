//! Parts that are not what their ends, their number or one answer of the server would make of them.

#![allow(clippy::unwrap_used)]

mod common;
mod scripted;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::corpus::build::base64;
use common::{Account, Mount, wait_for};
use scripted::message::noise;
use scripted::{Mailbox, Message, Reply, Scripted, honest, octets};

const BINARY: &str = "Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=a.bin\r\n\
                      Content-Transfer-Encoding: base64";

/// A message of these parts: the fields and the body of each.
fn message(uid: u32, parts: &[(&str, &str)]) -> Message {
    let mut text = String::from("From: Bob <bob@example.org>\r\nMIME-Version: 1.0\r\n");
    text.push_str("Content-Type: multipart/mixed; boundary=x\r\n\r\n");
    for (fields, body) in parts {
        text.push_str(&format!("--x\r\n{fields}\r\n\r\n{body}\r\n"));
    }
    text.push_str("--x--\r\n");
    Message::new(uid, text)
}

fn mailbox(messages: Vec<Message>) -> std::collections::BTreeMap<String, Mailbox> {
    [("INBOX".to_owned(), Mailbox { validity: 1, messages })].into()
}

/// Base64 in lines of these widths, and then of 76.
fn lines(data: &[u8], widths: &[usize]) -> String {
    let text = base64(data);
    let (mut rest, mut out, mut widths) = (&*text, String::new(), widths.iter());
    while !rest.is_empty() {
        let (line, after) = rest.split_at(widths.next().copied().unwrap_or(76).min(rest.len()));
        out.push_str(line);
        out.push_str("\r\n");
        rest = after;
    }
    out
}

/// Short lines in the middle that together are as long as whole ones: the file looks longer than it is.
fn longer_looking() -> (Vec<u8>, String) {
    let mut widths = vec![76; 100];
    for _ in 0..13 {
        widths.extend([76; 50]);
        widths.push(40);
    }
    let data = noise(7, 300_000);
    let body = lines(&data, &widths);
    (data, body)
}

/// Two lines near the end that are longer by one line and a line end: the file looks shorter than it is.
fn shorter_looking() -> (Vec<u8>, String) {
    let mut widths = vec![76; 1600];
    widths.extend([154, 154]);
    let data = noise(7, 100_000);
    let body = lines(&data, &widths);
    (data, body)
}

/// What a program made of a file; `None` when it said that it failed.
fn copied(with: &str, from: &Path, to: &Path) -> Option<Vec<u8>> {
    if with.is_empty() {
        return fs::read(from).ok();
    }
    let copy = Command::new("sh").args(["-c", with, "sh"]).arg(from).arg(to).output().unwrap();
    copy.status.success().then(|| fs::read(to).unwrap())
}

#[test]
fn a_part_that_is_regular_at_its_ends_only_is_right_or_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("out");
    for (data, body) in [longer_looking(), shorter_looking()] {
        let parts = [("Content-Type: text/plain", "hi"), (BINARY, &*body)];
        let server = Scripted::new(mailbox((1..=15).map(|uid| message(uid, &parts)).collect()), honest);
        for with in ["", "cat \"$1\" >\"$2\"", "cp \"$1\" \"$2\"", "dd bs=64k status=none if=\"$1\" of=\"$2\""] {
            let mount = Mount::new(&Account::at(server.port), &["--no-cache"]);
            for entry in fs::read_dir(mount.join("INBOX")).unwrap() {
                let from = entry.unwrap().path().join("a.bin");
                if let Some(first) = copied(with, &from, &to) {
                    assert!(first == data, "{with:?}: {} octets of {}", first.len(), data.len());
                }
                // From then on it is known.
                assert!(copied(with, &from, &to).unwrap() == data, "{with:?}");
                assert_eq!(from.metadata().unwrap().len(), data.len() as u64);
            }
        }
    }
}

/// Also in a later mount, and by who reads its end first.
#[test]
fn what_was_found_out_of_such_a_part_stays_known() {
    let (data, body) = longer_looking();
    let parts = [("Content-Type: text/plain", "hi"), (BINARY, &*body)];
    let server = Scripted::new(mailbox(vec![message(1, &parts)]), honest);
    let cache = tempfile::tempdir().unwrap();
    for known in [false, true] {
        let mut mount = Mount::new(&Account::at(server.port), &["--cache-dir", cache.path().to_str().unwrap()]);
        let path = mount.message("INBOX", 1).join("a.bin");
        let file = File::open(&path).unwrap();
        let size = file.metadata().unwrap().len();
        let mut end = [0; 100];
        file.read_exact_at(&mut end, size - 100).unwrap();
        if known {
            assert_eq!(size, data.len() as u64);
            assert!(data.ends_with(&end));
        }
        drop(file);
        let first = fs::read(&path);
        assert!(first.is_ok() || !known);
        // What was read before it was known is dropped when nobody is at it.
        assert!(wait_for(Duration::from_secs(10), || fs::read(&path).ok().filter(|all| *all == data)).is_some());
        assert!(mount.unmount());
    }
}

#[test]
fn a_message_may_have_any_number_of_texts() {
    let texts: Vec<String> = (0..200).map(|n| format!("text {n}")).collect();
    let parts: Vec<(&str, &str)> = texts.iter().map(|text| ("Content-Type: text/plain", &**text)).collect();
    let server = Scripted::new(mailbox((1..=3).map(|uid| message(uid, &parts)).collect()), honest);
    let mount = Mount::new(&Account::at(server.port), &["--no-cache"]);
    for entry in fs::read_dir(mount.join("INBOX")).unwrap() {
        let files = fs::read_dir(entry.unwrap().path()).unwrap().map(|file| file.unwrap().path());
        let mut read: Vec<String> =
            files.map(|file| fs::read_to_string(&file).unwrap().trim_end().to_owned()).collect();
        read.retain(|text| text.starts_with("text "));
        read.sort_by_key(|text| text[5..].parse::<usize>().unwrap());
        assert_eq!(read, texts);
    }
}

/// What comes with megabytes before it, which a slow server may be long at, is asked for alone by who wants little of it.
#[test]
fn a_small_read_does_not_wait_for_all_that_was_asked_for_before_it() {
    let data = noise(3, 4 << 20);
    let body = lines(&data, &[]);
    let parts = [("Content-Type: text/plain", "hi"), (BINARY, &*body)];
    let server = Scripted::new(mailbox(vec![message(1, &parts)]), |asked, responses| {
        let range = asked.command.split_once("BODY.PEEK[2]<").and_then(|(_, range)| range.split_once('>'));
        let octets_asked = range.and_then(|(range, _)| range.split_once('.')?.1.parse::<u64>().ok());
        match octets_asked.is_some_and(|octets| octets > 128 << 10) {
            true => Reply::Hang(Vec::new()),
            false => Reply::Send(octets(&responses)),
        }
    });
    let mount = Mount::new(&Account::at(server.port), &["--no-cache"]);
    let path = mount.message("INBOX", 1).join("a.bin");
    let size = path.metadata().unwrap().len();
    let mut cat = Command::new("cat").arg(&path).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let (file, begun) = (File::open(&path).unwrap(), Instant::now());
    let mut read = vec![0; 4096];
    for at in [size / 2, size - 4096] {
        file.read_exact_at(&mut read, at).unwrap();
        assert!(read == data[at as usize..][..4096]);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    cat.kill().unwrap();
    cat.wait().unwrap();
}

/// More than is ever asked for at once: a range that was refused is asked for again.
#[test]
fn one_refusal_does_not_make_a_large_part_unreadable() {
    let data = noise(3, 70 << 20);
    let body = lines(&data, &[]);
    let parts = [("Content-Type: text/plain", "hi"), (BINARY, &*body)];
    let (refuses, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (is_refusing, largest) = (Arc::clone(&refuses), Arc::clone(&most));
    let server = Scripted::new(mailbox(vec![message(1, &parts)]), move |asked, responses| {
        let all = octets(&responses);
        largest.fetch_max(all.len() as u64, Ordering::Relaxed);
        match is_refusing.load(Ordering::Relaxed) && asked.command.contains("BODY.PEEK[2]<") {
            true => Reply::Send(format!("{} NO not now\r\n", asked.tag).into()),
            false => Reply::Send(all),
        }
    });
    let mount = Mount::new(&Account::at(server.port), &["--no-cache"]);
    let file = File::open(mount.message("INBOX", 1).join("a.bin")).unwrap();
    let mut read = vec![0; 4096];
    file.read_exact_at(&mut read, 0).unwrap();
    refuses.store(true, Ordering::Relaxed);
    assert!(file.read_exact_at(&mut read, 30 << 20).is_err());
    refuses.store(false, Ordering::Relaxed);
    for at in [30 << 20, 60 << 20] {
        file.read_exact_at(&mut read, at).unwrap();
        assert!(read == data[at as usize..][..4096]);
    }
    assert!(most.load(Ordering::Relaxed) < 16 << 20);
}
