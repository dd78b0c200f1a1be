//! The corpus on real servers: what the mount shows of more than 260 odd and real messages, judged by Python.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::judge::{Difference, judge};
use common::{Mount, Server, corpus};

/// Messages that are shown otherwise than Python's `email` reads them, and why that is right, or at least not wrong.
/// What this list excuses is the cut into parts and the reading of a text: never bytes, sizes, flags or errors.
const OTHERWISE: &[(&str, &[&str])] = &[
    (
        "broken charset or transfer encoding, which has many readings",
        &[
            "base64-one-character",
            "base64-five-characters",
            "qp-trailing-space",
            "qp-html-equals",
            "charset-iso-2022-jp-broken",
            "encoding-twice",
        ],
    ),
    (
        "a bare CR is a line end here, and none in Python",
        &["lines-mixed", "lines-bare-cr", "base64-text-line-ends", "qp-encoded-line-ends"],
    ),
    ("an attached message in base64 is decoded, Python leaves it encoded", &["rfc822-base64", "rfc-008"]),
    ("an attached message in UTF-8 (RFC 6532) is one file, Python looks into it", &["rfc822-global"]),
    ("one text, that Python takes for an attached message", &["report-mdn", "external-body", "rfc-001"]),
    ("no header: where does the text begin?", &["headers-garbage", "one-byte", "digest", "header-only"]),
    (
        "a boundary that is missing, twice the same, or that ends too early: another cut",
        &[
            "parts-none",
            "boundary-missing",
            "boundary-empty",
            "boundary-comment",
            "boundary-closed-first",
            "boundary-same-inside",
            "boundary-inner-unclosed",
        ],
    ),
    (
        "against RFC 2045, so Dovecot and Cyrus take it for no encoding: the part stands as it was sent",
        &["encoding-quoted", "encoding-parameter"],
    ),
    (
        "made to be cut in several ways",
        &[
            "malformed-000",
            "malformed-001",
            "malformed-003",
            "malformed-004",
            "malformed-005",
            "malformed-006",
            "malformed-007",
            "malformed-008",
            "malformed-009",
            "malformed-011",
            "malformed-012",
            "malformed-013",
            "malformed-016",
            "malformed-019",
            "malformed-020",
            "malformed-021",
            "malformed-022",
        ],
    ),
];

/// Classes of differences that nothing excuses.
const NEVER: [&str; 6] = ["absent", "extra", "eml", "size", "flags", "error"];

/// Appends the whole corpus to a mailbox of its own, mounts it, and has Python compare. Names of messages that differ
/// in a way that nothing excuses, and how.
fn unexcused(server: &Server, excused: impl Fn(&str) -> bool) -> Vec<String> {
    let account = server.account();
    let mut imap = account.imap();
    let mailbox = account.wire_name("Corpus");
    imap.create(&mailbox).unwrap();
    let messages = [corpus::messages(), corpus::real()].concat();
    let uids = corpus::append(&mut imap, &mailbox, &messages);
    assert!(uids.iter().filter(|uid| uid.is_ok()).count() > 250, "{} refuses mail", server.name);
    let mount = Mount::new(&account, &[]);
    let differences = judge(&account, &mount, &account.path_name("Corpus"));
    let name = |uid: u32| uids.iter().position(|appended| *appended == Ok(uid)).map_or("?", |at| &messages[at].name);
    let bad = |d: &&Difference| NEVER.contains(&&*d.class) || !excused(name(d.uid));
    let bad = differences.iter().filter(bad).map(|d| format!("{}: {} {}", name(d.uid), d.class, d.what)).collect();
    mount.assert_quiet(&["the server's parts are not what it states"]);
    bad
}

fn is_listed(name: &str) -> bool {
    OTHERWISE.iter().any(|(_, names)| names.contains(&name))
}

fn check(server: &Server, excused: impl Fn(&str) -> bool) {
    let bad = unexcused(server, excused);
    assert!(bad.is_empty(), "{} differences on {}:\n{}", bad.len(), server.name, bad.join("\n"));
}

/// `stat` says what a reader gets, for every file; a read gives the server's bytes; every part is there, decoded, once;
/// reading never marks.
#[test]
fn mail_on_dovecot_is_shown_as_python_reads_it() {
    check(Server::dovecot(), is_listed);
}

#[test]
fn mail_on_cyrus_is_shown_as_python_reads_it() {
    check(Server::cyrus(), is_listed);
}

/// Courier splits no message that lacks MIME-Version and adds empty lines to attached messages, so the parts are not
/// compared there.
#[test]
fn mail_on_courier_is_shown_with_true_bytes_and_sizes() {
    check(Server::courier(), |_| true);
}

/// mailutils answers Python's client in ways that it does not understand, and rewrites its one file for each message: of
/// some of the corpus each file has the size that is told, and `message.eml` the server's octets.
#[test]
fn mail_on_mailutils_is_shown_with_true_bytes_and_sizes() {
    let account = Server::mailutils().account();
    let mut imap = account.imap();
    imap.create("Corpus").unwrap();
    let messages = corpus::messages();
    let taken = messages.iter().step_by(4).filter(|m| imap.append("Corpus", &m.bytes, "", None).is_ok()).count();
    assert!(taken > 30, "{taken}");
    let mount = Mount::new(&account, &[]);
    imap.select("Corpus").unwrap();
    let mut seen = 0;
    for uid in imap.search("ALL").unwrap() {
        let directory = mount.message("Corpus", uid);
        let bytes = fs::read(directory.join("message.eml")).unwrap();
        assert!(bytes == imap.body(uid, "").unwrap().unwrap(), "{} of {}", bytes.len(), directory.display());
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let size = fs::metadata(&path).unwrap().len();
            assert!(path.is_dir() || fs::read(&path).unwrap().len() as u64 == size, "{}", path.display());
            seen += 1;
        }
    }
    println!("{taken} messages, {seen} files");
    mount.assert_quiet(&["the server's parts are not what it states", "the structure states a wrong length"]);
}

#[test]
fn no_excuse_is_for_a_message_that_is_not_there() {
    let messages = [corpus::messages(), corpus::real()].concat();
    let names: BTreeSet<&str> = messages.iter().map(|message| message.name.as_str()).collect();
    let excuses = OTHERWISE.iter().flat_map(|(_, names)| names.iter());
    let unknown: Vec<_> = excuses.filter(|name| !names.contains(**name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
