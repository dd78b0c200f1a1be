//! Searches on real servers: what `.search/QUERY/` shows, compared with what the letters that were put there say.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use common::corpus::build;
use common::proxy::Proxy;
use common::{Account, Mount, Server, wait_for};

/// A letter, as it was meant.
#[derive(Clone)]
struct Letter {
    from: &'static str,
    to: &'static str,
    cc: &'static str,
    subject: &'static str,
    body: String,
    flags: &'static str,
    date: DateTime<Utc>,
    files: &'static [(&'static str, &'static str)],
    list: bool,
    bytes: Vec<u8>,
}

const PEOPLE: [&str; 4] = [
    "Bob Miller <bob@example.test>",
    "Zoë Köhler <zoe@köln.example>",
    "\"Amy (Sales)\" <amy.sales@shop.example>",
    "山田太郎 <taro@example.jp>",
];

const SUBJECTS: [&str; 6] = [
    "Weekly report",
    "Größe der Änderung",
    "Invoice 4711 [paid]",
    "会議の議事録",
    "Re: \"quotes\" and OR (parens)",
    "lunch?",
];

const BODIES: [&str; 5] = [
    "The quarterly figures are attached.\r\nBest wishes",
    "Grüße aus Zürich, schöne Straße",
    "please approve the budget of 100% by Friday",
    "配達は明日です",
    "nothing to see here",
];

const FILES: [&[(&str, &str)]; 5] = [
    &[],
    &[("application/pdf", "report-2024.pdf")],
    &[],
    &[("image/png", "Grafik größer.png"), ("text/csv", "numbers.csv")],
    &[("application/zip", "archive.zip")],
];

const FLAGS: [&str; 5] = ["", "\\Seen", "\\Seen \\Flagged", "\\Answered", "work"];

fn encoded(text: &str) -> String {
    if text.is_ascii() { text.to_owned() } else { format!("=?UTF-8?B?{}?=", build::base64(text)) }
}

/// A mailbox of a header: the name encoded, the address in ASCII.
fn address(text: &str) -> String {
    let (name, spec) = text.split_once(" <").unwrap();
    format!("{} <{}", encoded(name), spec.replace("köln", "xn--kln-sna"))
}

fn letter(number: usize) -> Letter {
    let pick = |list: &'static [&'static str], step: usize| list[number / step % list.len()];
    let now = DateTime::<Utc>::from(SystemTime::now());
    let date = match number {
        40.. => now - chrono::Duration::hours([3, 30, 5 * 24, 40 * 24][number % 4]),
        _ => DateTime::from_timestamp(1_709_251_000 + number as i64 * 61_200, 0).unwrap(),
    };
    let filler = if number % 9 == 4 { "x".repeat(70) + "\r\n" } else { String::new() }.repeat(400);
    let mut letter = Letter {
        from: pick(&PEOPLE, 1),
        to: pick(&PEOPLE, 2),
        cc: if number % 3 == 0 { PEOPLE[2] } else { "" },
        subject: pick(&SUBJECTS, 1),
        body: format!("{}\r\n{filler}", pick(&BODIES, 1)),
        flags: pick(&FLAGS, 3),
        date,
        files: FILES[number / 2 % FILES.len()],
        list: number % 7 == 2,
        bytes: Vec::new(),
    };
    letter.bytes = written(&letter, number);
    letter
}

fn written(letter: &Letter, number: usize) -> Vec<u8> {
    let mut head = format!(
        "From: {}\r\nTo: {}\r\nSubject: {}\r\nMessage-ID: <{number}@example.test>\r\nMIME-Version: 1.0\r\n",
        address(letter.from),
        address(letter.to),
        encoded(letter.subject)
    );
    if !letter.cc.is_empty() {
        head += &format!("Cc: {}\r\n", address(letter.cc));
    }
    if letter.list {
        head += "List-Id: Rust users <users.rust.example>\r\n";
    }
    let text = match number % 2 {
        0 => build::part(
            "text/plain; charset=utf-8",
            &["Content-Transfer-Encoding: base64"],
            build::base64_lines(letter.body.as_bytes(), 76),
        ),
        _ => build::part(
            "text/plain; charset=utf-8",
            &["Content-Transfer-Encoding: quoted-printable"],
            build::quoted_printable(letter.body.as_bytes()),
        ),
    };
    if letter.files.is_empty() {
        return [head.as_bytes(), &text].concat();
    }
    let mut parts = vec![text];
    for (kind, name) in letter.files {
        let coded: String = name
            .bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() || b"-.".contains(&b) {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect();
        parts.push(build::attachment(kind, format!("; filename*=utf-8''{coded}"), b"content of a file"));
    }
    [head.as_bytes(), b"Content-Type: multipart/mixed; boundary=limit\r\n\r\n", &build::multipart_body("limit", &parts)]
        .concat()
}

fn letters() -> Vec<Letter> {
    (0..44).map(letter).collect()
}

/// Is one in the other, whatever the case?
fn has(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

fn anywhere(l: &Letter, part: &str) -> bool {
    has(l.from, part) || has(l.to, part) || has(l.cc, part) || has(l.subject, part) || has(&l.body, part)
}

fn flagged(l: &Letter, flag: &str) -> bool {
    l.flags.split(' ').any(|f| f == flag)
}

fn day(l: &Letter) -> String {
    l.date.format("%Y-%m-%d").to_string()
}

fn age(l: &Letter) -> chrono::Duration {
    DateTime::<Utc>::from(SystemTime::now()) - l.date
}

type Is = fn(&Letter) -> bool;

/// Queries, and what is meant by them.
const QUERIES: [(&str, Is); 44] = [
    ("report", |l| anywhere(l, "report") || l.files.iter().any(|f| f.1.contains("report"))),
    ("subject:report", |l| has(l.subject, "report")),
    ("subject:REP", |l| has(l.subject, "rep")),
    ("from:bob", |l| has(l.from, "bob")),
    ("from:köhler", |l| has(l.from, "köhler")),
    ("from:amy.sales@shop.example", |l| has(l.from, "amy.sales@")),
    ("to:山田", |l| has(l.to, "山田")),
    ("cc:amy", |l| has(l.cc, "amy")),
    ("-cc:amy from:bob", |l| !has(l.cc, "amy") && has(l.from, "bob")),
    ("subject:größe", |l| has(l.subject, "größe")),
    ("subject:GRÖSSE OR subject:ÄNDERUNG", |l| has(l.subject, "änderung")),
    ("subject:議事録", |l| has(l.subject, "議事録")),
    ("subject:\"weekly report\"", |l| has(l.subject, "weekly report")),
    ("subject:(weekly report)", |l| has(l.subject, "weekly") && has(l.subject, "report")),
    ("subject:(weekly OR invoice)", |l| has(l.subject, "weekly") || has(l.subject, "invoice")),
    ("subject:\"\\\"quotes\\\" and OR (parens)\"", |l| has(l.subject, "quotes")),
    ("subject:\"[paid]\"", |l| has(l.subject, "paid")),
    ("body:quarterly", |l| has(&l.body, "quarterly")),
    ("body:zürich", |l| has(&l.body, "zürich")),
    ("body:100%", |l| has(&l.body, "100%")),
    ("body:明日", |l| has(&l.body, "明日")),
    ("-body:nothing -body:figures", |l| !has(&l.body, "nothing") && !has(&l.body, "figures")),
    ("budget friday", |l| has(&l.body, "budget")),
    ("from:bob OR from:taro subject:lunch", |l| (has(l.from, "bob") || has(l.from, "taro")) && has(l.subject, "lunch")),
    ("(from:bob subject:lunch) OR subject:invoice", |l| {
        has(l.from, "bob") && has(l.subject, "lunch") || has(l.subject, "invoice")
    }),
    ("-(from:bob OR from:amy)", |l| !has(l.from, "bob") && !has(l.from, "amy")),
    ("is:unread", |l| !flagged(l, "\\Seen")),
    ("is:read -is:flagged", |l| flagged(l, "\\Seen") && !flagged(l, "\\Flagged")),
    ("is:answered OR is:flagged", |l| flagged(l, "\\Answered") || flagged(l, "\\Flagged")),
    ("is:draft OR is:deleted", |_| false),
    ("tag:work", |l| flagged(l, "work")),
    ("since:2024-03-10 before:2024-03-15", |l| ("2024-03-10".."2024-03-15").contains(&&*day(l))),
    ("on:2024-03-12", |l| day(l) == "2024-03-12"),
    ("-on:2024-03-12 before:2024-04-01", |l| day(l) != "2024-03-12" && &*day(l) < "2024-04-01"),
    ("newer:2d", |l| age(l) < chrono::Duration::days(2)),
    ("older:2d newer:10d", |l| age(l) > chrono::Duration::days(2) && age(l) < chrono::Duration::days(10)),
    ("larger:20K", |l| l.bytes.len() > 20 * 1024),
    ("smaller:1000 from:bob", |l| l.bytes.len() < 1000 && has(l.from, "bob")),
    ("has:attachment", |l| !l.files.is_empty()),
    ("-has:attachment is:unread", |l| l.files.is_empty() && !flagged(l, "\\Seen")),
    ("type:image%2Fpng OR filename:*.ZIP", |l| l.files.iter().any(|f| f.0 == "image/png" || f.1.ends_with(".zip"))),
    ("filename:größer -subject:lunch", |l| l.files.iter().any(|f| has(f.1, "größer")) && !has(l.subject, "lunch")),
    ("subject:lunch OR has:attachment from:bob", |l| {
        (has(l.subject, "lunch") || !l.files.is_empty()) && has(l.from, "bob")
    }),
    ("header:List-Id=rust imap:\"NOT ANSWERED\"", |l| l.list && !flagged(l, "\\Answered")),
];

/// Queries whose answer is another one on a server, and why.
const OTHERWISE: &[(&str, &[&str], &str)] =
    &[("courier", &["report"], "the name of an attachment stands in the header of a part, which it does not look at")];

fn fill(account: &Account, mailbox: &str, letters: &[Letter]) {
    let mut imap = account.imap();
    for letter in letters {
        let date = letter.date.format("%d-%b-%Y %H:%M:%S +0000").to_string();
        imap.append(mailbox, &letter.bytes, letter.flags, Some(&date)).unwrap();
    }
}

/// The UIDs that the names of messages in a directory end with.
fn uids(directory: &Path) -> BTreeSet<u32> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.rsplit_once('.').unwrap().1.split('@').next().unwrap().parse().unwrap()).collect()
}

fn compare(server: &Server) {
    let account = server.account();
    let letters = letters();
    fill(&account, "INBOX", &letters);
    let mount = Mount::new(&account, &[]);
    let mut wrong = Vec::new();
    for (query, is) in QUERIES {
        let expected: BTreeSet<u32> = (1..).zip(&letters).filter(|(_, l)| is(l)).map(|(uid, _)| uid).collect();
        let found = uids(&mount.join("INBOX/.search").join(query));
        let excused = OTHERWISE.iter().any(|(name, queries, _)| *name == server.name && queries.contains(&query));
        if (found != expected) != excused {
            wrong.push(format!("{query}: found {found:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}: {} of {}\n{}", server.name, wrong.len(), QUERIES.len(), wrong.join("\n"));
    mount.assert_quiet(&[]);
}

#[test]
fn dovecot_finds_what_is_meant() {
    compare(Server::dovecot());
}

#[test]
fn cyrus_finds_what_is_meant() {
    compare(Server::cyrus());
}

#[test]
fn courier_finds_what_is_meant() {
    compare(Server::courier());
}
