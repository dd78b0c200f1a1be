//! Mail goes out of a mount as files and back in: what comes back is what went, with its dates and flags, except where
//! a server is known to store other octets.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use common::corpus::{self, Message};
use common::{Account, Mount, Server};

/// Mail of the corpus that `cp` refuses as no message: its first line is neither a header field nor empty.
const NO_MESSAGES: [&str; 2] = ["headers-garbage", "one-byte"];

/// A message as another client sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    body: Vec<u8>,
    date: String,
    flags: Vec<String>,
}

/// The messages of a mailbox, in any order.
fn seen(account: &Account, mailbox: &str) -> Vec<Seen> {
    let mut imap = account.imap();
    imap.select(&account.wire_name(mailbox)).unwrap();
    let answer = imap.ok("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])").unwrap();
    let rows = answer.untagged.into_iter().filter(|row| row.text.contains("BODY[]"));
    let mut seen: Vec<Seen> = rows
        .map(|row| {
            let between = |from: &str, to| row.text.split_once(from).unwrap().1.split(to).next().unwrap().to_owned();
            let mut flags: Vec<String> = between("FLAGS (", ')').split(' ').map(str::to_owned).collect();
            flags.retain(|flag| flag != "\\Recent");
            flags.sort();
            let date = between("INTERNALDATE \"", '"').trim().trim_start_matches('0').to_owned();
            Seen { body: row.literals.first().cloned().unwrap_or_default(), date, flags }
        })
        .collect();
    seen.sort();
    seen
}

/// A script over the directory `$from` in a mount, `$to` in it and `$out` outside, which has to end well and in silence.
fn runs(mount: &Mount, account: &Account, out: &Path, script: &str) {
    let output = Command::new("bash")
        .args(["-c", script])
        .env("from", mount.join(account.path_name("From")))
        .env("to", mount.join(account.path_name("To")))
        .env("out", out)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{script} on {}: {:?} {said}", account.server, output.status);
}

/// Fills a mailbox with odd mail; how many of it the server took.
fn fill(account: &Account, messages: &[Message]) -> usize {
    let mut imap = account.imap();
    for mailbox in ["From", "To"] {
        imap.create(&account.wire_name(mailbox)).unwrap();
    }
    let flags = ["\\Seen", "\\Flagged work", "", "\\Answered $Forwarded"];
    let took = messages.iter().enumerate().filter(|(n, message)| {
        imap.append(&account.wire_name("From"), &message.bytes, flags[n % flags.len()], Some(&message.date)).is_ok()
    });
    took.count()
}

/// Goes there and back on a server; `flags`: they are to come along.
fn check(server: &Server, script: &str, flags: bool) {
    let mut messages = corpus::messages();
    messages.extend(corpus::real());
    // What has no header at all is no message that could be put into a mailbox, though a server may have one.
    messages.retain(|message| !NO_MESSAGES.contains(&&*message.name));
    let account = server.account();
    let count = fill(&account, &messages);
    let out = tempfile::tempdir().unwrap();
    let mount = Mount::new(&account, &[]);
    runs(&mount, &account, out.path(), script);
    let [before, after] = ["From", "To"].map(|mailbox| {
        let mut seen = seen(&account, mailbox);
        seen.iter_mut().filter(|_| !flags).for_each(|seen| seen.flags.clear());
        seen
    });
    println!("{script} on {}: {count} of {} messages", server.name, messages.len());
    let mut counts: BTreeMap<&Seen, i32> = BTreeMap::new();
    before.iter().for_each(|seen| *counts.entry(seen).or_default() += 1);
    after.iter().for_each(|seen| *counts.entry(seen).or_default() -= 1);
    let wrong: Vec<_> = counts.into_iter().filter(|(_, count)| *count != 0).collect();
    for (seen, count) in &wrong {
        let head = String::from_utf8_lossy(&seen.body[..seen.body.len().min(200)]).into_owned();
        println!("{count} {} {:?} {} octets {head:?}", seen.date, seen.flags, seen.body.len());
    }
    assert!(count >= 200 && before.len() == after.len(), "{count} messages, {} and {}", before.len(), after.len());
    assert_eq!(wrong.len(), 0);
}

/// As it is of all programs that copy extended attributes.
const CP: &str = "cp -a $from/.eml/. $out/ && cp -a $out/*.eml $to/";

#[test]
fn cp_takes_mail_out_of_dovecot_and_back() {
    check(Server::dovecot(), CP, true);
}

#[test]
fn cp_takes_mail_out_of_cyrus_and_back() {
    check(Server::cyrus(), CP, true);
}

#[test]
fn cp_takes_mail_out_of_courier_and_back() {
    check(Server::courier(), CP, true);
}

/// It takes no attributes along, unless asked: flags are what new mail has.
#[test]
fn rsync_takes_mail_out_and_back() {
    check(Server::dovecot(), "rsync -a $from/.eml/ $out/ && rsync -a $out/ $to/", false);
}

#[test]
fn rsync_takes_flags_along_when_asked() {
    check(Server::dovecot(), "rsync -aX $from/.eml/ $out/ && rsync -aX $out/*.eml $to/", true);
}

#[test]
fn tar_takes_mail_out_and_back() {
    check(
        Server::dovecot(),
        "tar cf $out/x.tar --xattrs -C $from/.eml . && tar xf $out/x.tar --xattrs --xattrs-include='user.*' -C $to",
        true,
    );
}
