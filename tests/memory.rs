//! Memory and file descriptors are bounded, whatever the size of a message or a mailbox.

#![allow(clippy::unwrap_used)]

mod common;
mod scripted;

use std::fs::File;
use std::io::Read;

use base64::Engine as _;
use common::{Account, Mount, Server};
use scripted::message::noise;
use scripted::{Mailbox, Message, Scripted, honest};

/// What the program may need at the most, kB.
const MOST: u64 = 96 << 10;

/// Resident memory now, kB.
fn resident(mount: &Mount) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mount.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn descriptors(mount: &Mount) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", mount.pid)).unwrap().count()
}

#[test]
fn an_attachment_of_50_megabytes_is_read_in_little_memory() {
    let account = Server::dovecot().account();
    let data = noise(1, 50_000_000);
    let mut message =
        b"Subject: large\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n\
        see the attachment\r\n--x\r\nContent-Type: application/zip; name=data.zip\r\n\
        Content-Transfer-Encoding: base64\r\n\r\n"
            .to_vec();
    for line in data.chunks(57) {
        message.extend(base64::engine::general_purpose::STANDARD.encode(line).bytes());
        message.extend(b"\r\n");
    }
    message.extend(b"--x--\r\n");
    account.imap().append("INBOX", &message, "", None).unwrap();
    let mut mount = Mount::new(&account, &[]);
    let directory = mount.message("INBOX", 1);
    for (name, want) in [("data.zip", &data), ("message.eml", &message)] {
        let mut file = File::open(directory.join(name)).unwrap();
        assert_eq!(file.metadata().unwrap().len(), want.len() as u64, "{name}");
        let (mut at, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            let count = file.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            assert!(buffer[..count] == want[at..at + count], "{name} at {at}");
            at += count;
        }
        assert_eq!(at, want.len(), "{name}");
    }
    println!("peak {} kB", mount.peak_memory());
    assert!(mount.peak_memory() <= MOST, "{} kB", mount.peak_memory());
    mount.assert_quiet(&[]);
    assert!(mount.unmount());
}

#[test]
fn looking_at_20000_messages_again_and_again_takes_no_more_memory_and_no_descriptors() {
    const COUNT: u32 = 20_000;
    let messages = (1..=COUNT).map(|uid| Message::plain(uid, 1)).collect();
    let server = Scripted::new([("INBOX".to_owned(), Mailbox { validity: 1, messages })].into(), honest);
    let mut mount = Mount::new(&Account::at(server.port), &[]);
    let look = |round: u32| {
        let entries: Vec<_> = std::fs::read_dir(mount.join("INBOX")).unwrap().map(Result::unwrap).collect();
        assert_eq!(entries.len(), COUNT as usize);
        for entry in &entries {
            assert!(entry.metadata().unwrap().is_dir());
        }
        // Not always the same ones are read.
        for entry in entries.iter().skip(round as usize).step_by(400) {
            assert!(std::fs::read_to_string(entry.path().join("body.txt")).unwrap().contains("this is line 0"));
        }
    };
    look(0);
    let (memory, open) = (resident(&mount), descriptors(&mount));
    (1..6).for_each(look);
    println!("{memory} kB, then {} kB; {open} descriptors, then {}", resident(&mount), descriptors(&mount));
    assert!(resident(&mount) <= memory + 6 * 1024, "{memory} kB, then {} kB", resident(&mount));
    // A connection more there may be.
    assert!(descriptors(&mount) <= open + 3, "{open}, then {}", descriptors(&mount));
    assert!(mount.peak_memory() <= MOST, "{} kB", mount.peak_memory());
    mount.assert_quiet(&["not encrypted"]);
    assert!(mount.unmount());
}

#[test]
fn handles_that_are_closed_leave_nothing_behind() {
    let server = Scripted::new(scripted::mailboxes(), honest);
    let mut mount = Mount::new(&Account::at(server.port), &[]);
    let directory = mount.message("INBOX", 2);
    let round = || {
        let files: Vec<File> = (0..100).map(|_| File::open(directory.join("data.bin")).unwrap()).collect();
        for mut file in files {
            file.read_exact(&mut [0; 100]).unwrap();
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 3);
        assert!(std::fs::read(directory.join("no-such")).is_err());
    };
    (0..3).for_each(|_| round());
    let (memory, open) = (resident(&mount), descriptors(&mount));
    (0..20).for_each(|_| round());
    assert!(resident(&mount) <= memory + 2048, "{memory} kB, then {} kB", resident(&mount));
    assert!(descriptors(&mount) <= open + 3, "{open}, then {}", descriptors(&mount));
    mount.assert_quiet(&["not encrypted"]);
    assert!(mount.unmount());
}
