//! What searches send and bring, and what becomes of them when the connection is lost.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::corpus::build;
use common::faults::{Action, Fault};
use common::proxy::{Dir, Proxy};
use common::{Account, Mount, Security, Server, wait_for};

const DATE: Option<&str> = Some("05-Mar-2024 10:00:00 +0000");

/// Messages of some kB; every tenth has an attachment, every twentieth a word of its own.
fn fill(account: &Account, count: usize) {
    let mut imap = account.imap();
    let text: String =
        (0..60).map(|line| format!("line {line} of a text that is in each of the messages\r\n")).collect();
    for number in 1..=count {
        let word = if number % 20 == 7 { "needle" } else { "" };
        let part = build::part("text/plain", &[], format!("{text}{word}\r\n"));
        let file = build::attachment("application/pdf", "; filename=a.pdf", &build::noise(3000, number as u64));
        let head = format!("From: Alice <alice@example.test>\r\nSubject: letter {number}\r\nMIME-Version: 1.0\r\n");
        let message = if number.is_multiple_of(10) {
            let body = build::multipart_body("b", &[part, file]);
            [head.as_bytes(), b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", &body].concat()
        } else {
            [head.as_bytes(), &part].concat()
        };
        imap.append("INBOX", &message, "", DATE).unwrap();
    }
}

fn mounted(account: &Account, proxy: &Proxy) -> Mount {
    Mount::new(&account.with(Security::None).through(proxy), &["--no-compress"])
}

fn count(directory: &Path) -> std::io::Result<usize> {
    fs::read_dir(directory).map(Iterator::count)
}

/// How often the client sent a word.
fn sent(proxy: &Proxy, word: &str) -> usize {
    proxy.transcript().iter().filter(|line| line.dir == Dir::Up && line.text.contains(word)).count()
}

#[test]
fn a_mailbox_that_has_not_changed_is_not_searched_again() {
    let account = Server::dovecot().account();
    fill(&account, 20);
    let proxy = Proxy::new(account.port).recording();
    let mount = mounted(&account, &proxy);
    let found = mount.join("INBOX/.search/has:attachment");
    assert_eq!(count(&found).unwrap(), 2);
    assert_eq!((sent(&proxy, "UID SEARCH"), sent(&proxy, "BODYSTRUCTURE")), (1, 1));
    // Only those that were found were asked for besides, and nothing of a mailbox that nobody lists.
    proxy.reset();
    let again = wait_for(Duration::from_secs(10), || {
        assert_eq!(count(&found).unwrap(), 2);
        (sent(&proxy, "SELECT") >= 2).then_some(())
    });
    assert!(again.is_some());
    assert_eq!((sent(&proxy, "UID SEARCH"), sent(&proxy, "UID FETCH")), (0, 0));
    // One more message: one more search, and the structure of that message alone.
    fill(&account, 1);
    account
        .imap()
        .append("INBOX", &build::with_part("new", build::attachment("image/png", "; filename=x.png", b"x")), "", DATE)
        .unwrap();
    assert!(wait_for(Duration::from_secs(10), || (count(&found).unwrap() == 3).then_some(())).is_some());
    let structures: Vec<_> = proxy
        .transcript()
        .into_iter()
        .filter(|line| line.dir == Dir::Up && line.text.contains("BODYSTRUCTURE"))
        .collect();
    assert!(
        structures.iter().all(|line| line.text.contains("UID FETCH 21") || line.text.contains("UID FETCH 22")),
        "{structures:?}"
    );
}

#[test]
fn what_was_found_of_a_mailbox_that_nobody_listed_is_all_that_is_asked_for() {
    let account = Server::dovecot().account();
    fill(&account, 60);
    let proxy = Proxy::new(account.port).recording();
    let mount = mounted(&account, &proxy);
    proxy.reset();
    assert_eq!(count(&mount.join("INBOX/.search/needle")).unwrap(), 3);
    let fetches: Vec<_> =
        proxy.transcript().into_iter().filter(|line| line.dir == Dir::Up && line.text.contains("FETCH")).collect();
    assert!(matches!(&fetches[..], [one] if one.text.contains("UID FETCH 7,27,47 ")), "{fetches:?}");
}

#[test]
fn a_search_whose_connection_is_lost_finds_all_or_fails() {
    let account = Server::dovecot().account();
    fill(&account, 40);
    for (word, action) in [
        ("ESEARCH", Action::Rst),
        ("BODYSTRUCTURE (", Action::Fin),
        ("ENVELOPE (", Action::Rst),
        ("UID 20 ", Action::Fin),
        ("EXISTS", Action::Rst),
    ] {
        for when in [Fault::before(word), Fault::after(word)] {
            // Once, and then each time.
            for connections in [1..=2, 1..=u64::MAX] {
                let once = connections == (1..=2);
                let proxy = Proxy::new(account.port);
                let mount = mounted(&account, &proxy);
                proxy.add(Fault::down(when.clone(), action.clone()).on(connections));
                let found = mount.join("INBOX/.search/has:attachment");
                match count(&found) {
                    Ok(number) => assert_eq!(number, 4, "{when:?}"),
                    Err(error) => assert!(error.raw_os_error() == Some(113) || !once, "{when:?}: {error}"),
                }
                proxy.clear_faults();
                let healed = wait_for(Duration::from_secs(10), || (count(&found).ok() == Some(4)).then_some(()));
                assert!(healed.is_some(), "{when:?}");
            }
        }
    }
}

#[test]
fn grep_costs_a_fraction_of_grep_dash_r() {
    let account = Server::dovecot().account();
    fill(&account, 400);
    let delay = Duration::from_millis(25);
    let cost = |grep: &mut dyn FnMut(&Path) -> String| {
        let proxy = Proxy::new(account.port).delay(delay);
        let mount = mounted(&account, &proxy);
        proxy.reset();
        let started = Instant::now();
        let lines = grep(&mount.join("INBOX"));
        let lines = lines.replace(mount.path().to_str().unwrap(), "");
        let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        lines.sort();
        (lines, started.elapsed(), proxy.stats())
    };
    let output = |command: &mut Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
    let (ours, our_time, our_stats) =
        cost(&mut |inbox| output(Command::new(env!("CARGO_BIN_EXE_imapfs")).args(["grep", "need[l]e"]).arg(inbox)));
    let (theirs, their_time, their_stats) =
        cost(&mut |inbox| output(Command::new("grep").args(["-rI", "need[l]e"]).arg(inbox)));
    let [(our_trips, our_bytes), (their_trips, their_bytes)] =
        [our_stats, their_stats].map(|stats| (stats.round_trips, stats.bytes_down));
    eprintln!("imapfs grep: {our_time:?}, {our_trips} round trips, {our_bytes} octets");
    eprintln!("grep -r: {their_time:?}, {their_trips} round trips, {their_bytes} octets");
    assert_eq!((ours.len(), &ours), (20, &theirs));
    assert!(our_bytes * 10 < their_bytes, "{our_bytes} of {their_bytes} octets");
    // Five, and what the connection that watches has to say meanwhile. Times are no measure where others compute as well.
    assert!(our_trips <= 8 && our_time < their_time, "{our_trips}; {our_time:?} of {their_time:?}");
}
