//! What is read through the mount is what is on the server: the whole corpus, judged by Python's imaplib and email.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::judge::judge;
use common::{Mount, Server, corpus};

/// Messages that have no single right reading, and how ours differs from Python's. Sizes, raw bytes and flags must be
/// right for these too: only the classes below are forgiven.
const AMBIGUOUS: &[(&str, &str)] = &[
    ("lines-mixed", "a bare CR is a line end in text"),
    ("lines-bare-cr", "a bare CR is a line end in text"),
    ("base64-text-line-ends", "a bare CR is a line end in text"),
    ("qp-encoded-line-ends", "a bare CR is a line end in text"),
    ("headers-garbage", "lines in the header that are no fields"),
    ("one-byte", "a line in the header that is no field"),
    ("malformed-019", "lines in the header that are no fields"),
    ("malformed-022", "a line in the header that is no field"),
    ("parts-none", "a multipart with nothing but its closing delimiter is one text"),
    ("boundary-empty", "an empty boundary is a boundary"),
    ("boundary-comment", "a comment after the boundary"),
    ("boundary-closed-first", "a closing delimiter before the first one"),
    ("boundary-same-inside", "the same boundary twice"),
    ("boundary-inner-unclosed", "the line end before a delimiter of the outer multipart"),
    ("base64-one-character", "an incomplete quad"),
    ("base64-five-characters", "an incomplete quad"),
    ("qp-trailing-space", "RFC 2045 section 6.7 drops blanks at line ends, Python keeps them"),
    ("qp-html-equals", "an equals sign that begins no escape"),
    ("encoding-quoted", "the encoding in quotes"),
    ("encoding-parameter", "an encoding with a parameter"),
    ("encoding-twice", "two fields with different encodings"),
    ("charset-iso-2022-jp-broken", "how much a broken escape takes with it"),
    ("malformed-000", "an empty part"),
    ("malformed-001", "boundaries that begin like each other"),
    ("malformed-003", "the same boundary twice"),
    ("malformed-004", "boundaries that begin like each other"),
    ("malformed-005", "a multipart without a part"),
    ("malformed-006", "a part that is not closed"),
    ("malformed-008", "a part that is not closed"),
    ("malformed-009", "a part that is not closed"),
    ("malformed-011", "a part that is not closed"),
    ("malformed-012", "a part that is not closed"),
    ("malformed-013", "multiparts without a part"),
    ("malformed-016", "boundaries that begin like each other"),
];

/// Differences in how something broken is understood; anything else is an error of ours.
const FORGIVEN: &[&str] = &["line-ends", "charset", "decoding", "leaf", "file", "headers"];

fn reads_right(server: &Server) {
    let account = server.account();
    let mut imap = account.imap();
    let mailbox = account.wire_name("Corpus");
    imap.create(&mailbox).unwrap();
    let messages = [corpus::messages(), corpus::real()].concat();
    let uids = corpus::append(&mut imap, &mailbox, &messages);
    let names: BTreeMap<u32, &str> =
        messages.iter().zip(&uids).filter_map(|(message, uid)| Some((*uid.as_ref().ok()?, &*message.name))).collect();
    assert!(names.len() >= 210);
    let mut mount = Mount::new(&account, &[]);
    let path = if server.name == "dovecot" { "Corpus" } else { "INBOX/Corpus" };
    let mut wrong = Vec::new();
    for difference in judge(&account, &mount, path) {
        let name = names[&difference.uid];
        let ambiguous = AMBIGUOUS.iter().any(|(other, _)| *other == name);
        if !ambiguous || !FORGIVEN.contains(&&*difference.class) {
            wrong.push(format!("{name}: {} {}", difference.class, difference.what));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    mount.assert_quiet(&[]);
    assert!(mount.unmount());
}

#[test]
fn every_message_on_dovecot_reads_as_it_is() {
    reads_right(Server::dovecot());
}

#[test]
fn every_message_on_cyrus_reads_as_it_is() {
    reads_right(Server::cyrus());
}
