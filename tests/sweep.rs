//! The connection is cut at every step of a scenario: what is read is right in full or an error, and once the fault is
//! over everything is there again without a remount.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "scripted/walk.rs"]
mod walk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::faults::{Action, Fault, When};
use common::proxy::{Dir, Proxy};
use common::{Account, Mount, Security, Server, wait_for};
use futures::StreamExt;
use walk::{Mounted, Seen};

const TIMEOUT: Duration = Duration::from_secs(2);
/// From the cut until everything is there again: a lost connection is replaced at once, a server that is lost three
/// times in a row has its pause.
const RECOVERY: Duration = Duration::from_secs(20);
/// Runs at a time.
const PARALLEL: usize = 4;

/// An account with two mailboxes and a message of each kind.
fn account() -> Account {
    let account = Server::dovecot().account().with(Security::None);
    let mut imap = account.imap();
    imap.append("INBOX", b"Subject: plain\r\n\r\na line\r\nand another\r\n", "", None).unwrap();
    let attachment = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\r\n".repeat(40);
    let message = format!(
        "Subject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\ntext\r\n--x\r\n\
         Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n{attachment}--x--\r\n"
    );
    imap.append("INBOX", message.as_bytes(), "", None).unwrap();
    imap.create("Other").unwrap();
    imap.append("Other", b"Subject: other\r\n\r\nother\r\n", "", None).unwrap();
    account
}

async fn mount(account: &Account, port: u16, connections: usize) -> imapfs::error::Result<Mounted> {
    Mounted::new(walk::options(port, &account.user, connections, TIMEOUT)).await
}

/// What there is to see, and how many lines went up and down.
async fn truth(account: &Account, connections: usize) -> (Seen, u64, u64) {
    let proxy = Proxy::new(account.port);
    let mounted = mount(account, proxy.port(), connections).await.unwrap();
    let seen = mounted.walk().await;
    mounted.client.close().await;
    assert_eq!(seen.errors(), []);
    let mut imap = account.imap();
    for (mailbox, uid) in [("INBOX", 1), ("INBOX", 2), ("Other", 1)] {
        imap.select(mailbox).unwrap();
        let body = imap.body(uid, "").unwrap();
        let raw = seen.files.iter().find(|(path, _)| {
            path.starts_with(&format!("/{mailbox}/")) && path.ends_with(&format!(".{uid}/message.eml"))
        });
        assert_eq!(raw.unwrap().1.clone().ok(), body);
    }
    let stats = proxy.stats();
    (seen, stats.lines_up, stats.lines_down)
}

/// Everything that was seen is as it is.
fn judge(seen: &Seen, truth: &Seen, what: &str) {
    for (path, listed) in seen.directories.iter().filter(|(_, listed)| listed.is_ok()) {
        assert_eq!(Some(listed), truth.directories.get(path), "{what}: {path}");
    }
    for (path, read) in seen.files.iter().filter(|(_, read)| read.is_ok()) {
        assert_eq!(Some(read), truth.files.get(path), "{what}: {path}");
    }
}

/// One run with one fault; whether it was seen at all, as an error.
async fn run(account: &Account, fault: &Fault, connections: usize, truth: &Seen) -> bool {
    let what = format!("{fault:?}");
    let proxy = Proxy::new(account.port).fault(fault.clone());
    let Ok(mounted) = mount(account, proxy.port(), connections).await else {
        // It fired before there was a mount: the next attempt meets no fault.
        mount(account, proxy.port(), connections).await.unwrap().client.close().await;
        return true;
    };
    let first = mounted.walk().await;
    judge(&first, truth, &what);
    let started = Instant::now();
    loop {
        let seen = mounted.walk().await;
        judge(&seen, truth, &what);
        if seen == *truth {
            break;
        }
        assert!(started.elapsed() < RECOVERY, "{what}: {:?}", seen.errors());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    mounted.client.close().await;
    first != *truth
}

/// Runs with each of the faults; how many were seen as errors.
async fn sweep(account: &Account, faults: Vec<Fault>, connections: usize, truth: &Seen) -> usize {
    let count = faults.len();
    let started = Instant::now();
    let runs = faults.into_iter().map(|fault| async move { run(account, &fault, connections, truth).await });
    let seen = futures::stream::iter(runs).buffer_unordered(PARALLEL).collect::<Vec<bool>>().await;
    let errors = seen.iter().filter(|seen| **seen).count();
    println!("{count} faults, {errors} seen as errors, {:?}", started.elapsed());
    errors
}

#[tokio::test]
async fn cut_after_each_line_nothing_is_short_and_everything_comes_back() {
    let account = account();
    let (truth, up, down) = truth(&account, 1).await;
    println!("{up} lines up, {down} down");
    assert!(up > 15 && down > 100);
    let fault = |dir, line, action| Fault { connections: 1..=1, dir, when: When::Lines(line), action };
    let mut faults = Vec::new();
    for line in 0..=up {
        let action = if line % 2 == 0 { Action::Fin } else { Action::Rst };
        faults.push(fault(Dir::Up, line, action));
    }
    for line in 0..=down {
        // All of the protocol's lines, and some of those within literals.
        if line < 60 || line % 3 == 0 {
            let action = if line % 2 == 0 { Action::Rst } else { Action::Fin };
            faults.push(fault(Dir::Down, line, action));
        }
    }
    let errors = sweep(&account, faults, 1, &truth).await;
    // Most are not even noticed: what is lost is asked for again.
    assert!(errors > 0);
}

#[tokio::test]
async fn cut_on_any_of_several_connections_nothing_is_short() {
    let account = account();
    let (truth, ..) = truth(&account, 4).await;
    let mut faults = Vec::new();
    for connection in 1..=3 {
        for (at, action) in [(5, Action::Fin), (20, Action::Rst), (40, Action::HalfClose), (60, Action::Fin)] {
            faults.push(Fault::down(When::Lines(at), action).on(connection..=connection));
        }
        for (at, action) in [(7, Action::Rst), (9, Action::Blackhole), (12, Action::Fin), (11, Action::Swallow)] {
            faults.push(Fault::up(When::Lines(at), action).on(connection..=connection));
        }
    }
    sweep(&account, faults, 4, &truth).await;
}

#[tokio::test]
async fn a_literal_cut_at_any_octet_is_never_a_short_file() {
    let account = Server::dovecot().account().with(Security::None);
    let body: String = (0..4000).map(|line| format!("{line:060}\r\n")).collect();
    account.imap().append("INBOX", format!("Subject: long\r\n\r\n{body}").as_bytes(), "", None).unwrap();
    let (truth, octets) = {
        let proxy = Proxy::new(account.port);
        let mounted = mount(&account, proxy.port(), 1).await.unwrap();
        let truth = Arc::new(mounted.walk().await);
        mounted.client.close().await;
        (truth, proxy.stats().bytes_down)
    };
    assert!(octets > 250_000);
    let begin = 1500;
    let step = (octets - begin) / 40;
    let offsets = (0..40).map(|n| begin + n * step + n % 7);
    let faults = offsets.map(|at| {
        let action = if at % 2 == 0 { Action::Fin } else { Action::Rst };
        Fault::down(When::Bytes(at), action).on(1..=1)
    });
    sweep(&account, faults.collect(), 1, &truth).await;
}

#[test]
fn programs_read_all_or_fail_when_the_connection_is_cut() {
    const MESSAGES: u32 = 24;
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let body = |number: u32| -> String { (0..600).map(|line| format!("{number} {line:050}\r\n")).collect() };
    for number in 1..=MESSAGES {
        imap.append("INBOX", format!("Subject: m\r\n\r\n{}", body(number)).as_bytes(), "", None).unwrap();
    }
    imap.select("INBOX").unwrap();
    let proxy = Proxy::new(account.port);
    let mut mount = Mount::new(&account.through(&proxy), &["--timeout", "2", "--connections", "2"]);
    let mut failures = 0;
    // Of each, other octets are the last to come, on whichever connection comes next.
    for number in 1..=MESSAGES {
        let message = mount.message("INBOX", number);
        let next = proxy.stats().connections + 1;
        let at = u64::from(number) * 1900;
        proxy
            .add(Fault::down(When::Bytes(at), if number % 2 == 0 { Action::Rst } else { Action::Fin }).on(next..=next));
        proxy.strike(Action::Fin);
        let truth = imap.body(number, "").unwrap().unwrap();
        let read = std::process::Command::new("cat").arg(message.join("message.eml")).output().unwrap();
        match read.status.success() {
            true => assert!(read.stdout == truth, "{number}: {} of {}", read.stdout.len(), truth.len()),
            false => failures += 1,
        }
        proxy.clear_faults();
        let text = wait_for(RECOVERY, || std::fs::read_to_string(message.join("body.txt")).ok());
        assert!(text == Some(body(number).replace('\r', "")), "{number}");
        assert!(std::fs::read(message.join("message.eml")).is_ok_and(|read| read == truth), "{number}");
    }
    println!("{failures} of {MESSAGES} failed");
    assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new());
    assert!(mount.unmount());
}

/// The octets that came stand, and the rest is asked for again.
#[test]
fn an_attachment_is_read_to_its_end_when_the_connection_is_cut_in_it() {
    let account = Server::dovecot().account();
    let message = common::corpus::big(6 << 20).bytes;
    let uid = account.imap().append("INBOX", &message, "", None).unwrap();
    for (number, megabytes) in [1, 2, 3, 5].into_iter().enumerate() {
        let proxy = Proxy::new(account.port).recording();
        // Of all connections one carries so much: the one that the attachment comes over.
        let action = if number % 2 == 0 { Action::Rst } else { Action::Fin };
        proxy.add(Fault::down(When::Bytes(megabytes << 20), action).on(1..=4));
        let mut mount = Mount::new(&account.through(&proxy), &["--no-compress"]);
        let read = std::fs::read(mount.message("INBOX", uid).join("message.eml")).unwrap();
        assert!(read == message, "{megabytes} MiB: {} of {} octets", read.len(), message.len());
        let stats = proxy.stats();
        println!(
            "cut after {megabytes} MiB, {} times: {} octets for {}",
            stats.faults,
            stats.bytes_down,
            message.len()
        );
        assert!(stats.faults > 0 && stats.bytes_down < message.len() as u64 * 2);
        assert!(mount.unmount());
    }
}
