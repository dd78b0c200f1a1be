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
use common::proxy::{Dir, Line, Proxy};
use common::{Account, Mount, Security, Server, wait_for};

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
        cc: if number.is_multiple_of(3) { PEOPLE[2] } else { "" },
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

fn note(subject: &str) -> Vec<u8> {
    format!("From: Alice <alice@example.test>\r\nSubject: {subject}\r\n\r\nThis is in {subject}.\r\n").into_bytes()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn xattr(path: &Path, name: &str) -> String {
    let arguments = ["--absolute-names", "--only-values", "-n", name];
    String::from_utf8(Command::new("getfattr").args(arguments).arg(path).output().unwrap().stdout).unwrap()
}

const DATE: Option<&str> = Some("05-Mar-2024 10:00:00 +0000");

#[test]
fn a_message_that_is_found_is_the_message() {
    let account = Server::dovecot().account();
    fill(&account, "INBOX", &letters()[..10]);
    let mount = Mount::new(&account, &["--show-views"]);
    let (here, there) = (mount.join("INBOX"), mount.join("INBOX/.search/has:attachment"));
    let found = names(&there);
    assert_eq!(found.len(), 6);
    for name in &found {
        let (a, b) = (here.join(name), there.join(name));
        assert_eq!(a.metadata().unwrap().ino(), b.metadata().unwrap().ino(), "{name}");
        assert_eq!(names(&a), names(&b));
        for file in names(&a) {
            assert_eq!(a.join(&file).metadata().unwrap().ino(), b.join(&file).metadata().unwrap().ino());
            assert_eq!(fs::read(a.join(&file)).unwrap(), fs::read(b.join(&file)).unwrap());
        }
        for attribute in ["user.imap.flags", "user.imap.uid", "user.xdg.origin.url"] {
            assert_eq!(xattr(&a, attribute), xattr(&b, attribute));
        }
        let flat = there.join(".eml").join(format!("{name}.eml"));
        assert_eq!(fs::read(flat).unwrap(), fs::read(a.join("message.eml")).unwrap());
    }
    assert_eq!(names(&there.join(".eml")).len(), 6);
    let table = fs::read_to_string(there.join(".messages.tsv")).unwrap();
    assert_eq!(there.join(".messages.tsv").metadata().unwrap().len(), table.len() as u64);
    let listed: BTreeSet<String> =
        table.lines().skip(1).map(|line| line.rsplit_once('\t').unwrap().1.to_owned()).collect();
    assert_eq!(listed, found);
    // What is in the mailbox and was not found is not there.
    let other = names(&here).into_iter().find(|name| !name.starts_with('.') && !found.contains(name)).unwrap();
    assert_eq!(there.join(other).metadata().unwrap_err().kind(), ErrorKind::NotFound);
    // Two spellings are two directories, one spelling is one.
    let ino = |query: &str| mount.join("INBOX/.search").join(query).metadata().unwrap().ino();
    assert_eq!(ino("is:unread"), ino("is:unread"));
    assert_ne!(ino("is:unread"), ino("is:unseen"));
    mount.assert_quiet(&[]);
}

#[test]
fn all_mailboxes_are_searched_from_the_root() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    for (mailbox, subjects) in
        [("INBOX", &["same", "other"][..]), ("Archive", &["same", "needle"]), ("Archive/2024", &["needle"])]
    {
        let _ = imap.create(mailbox);
        for subject in subjects {
            imap.append(mailbox, &note(subject), "", DATE).unwrap();
        }
    }
    let mount = Mount::new(&account, &[]);
    let name = |subject: &str, uid: u32| format!("2024-03-05T1000_Alice_{subject}.{uid}");
    let root = mount.join(".search");
    assert_eq!(names(&root.join("subject:needle")), BTreeSet::from([name("needle", 2), name("needle", 1)]));
    let same = [name("same", 1) + "@INBOX", name("same", 1) + "@Archive"];
    assert_eq!(names(&root.join("subject:same")), BTreeSet::from(same.clone()));
    let ino = |path: &Path| path.metadata().unwrap().ino();
    for (name_here, mailbox) in same.iter().zip(["INBOX", "Archive"]) {
        assert_eq!(ino(&root.join("subject:same").join(name_here)), ino(&mount.join(mailbox).join(name("same", 1))));
    }
    let table = fs::read_to_string(root.join("subject:needle/.messages.tsv")).unwrap();
    let places: BTreeSet<&str> = table.lines().map(|line| line.rsplit_once('\t').unwrap().1).collect();
    assert_eq!(places, BTreeSet::from(["mailbox", "Archive", "Archive/2024"]));
    mount.assert_quiet(&[]);
}

#[test]
fn a_result_follows_what_happens_to_the_messages() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    imap.create("Done").unwrap();
    for subject in ["one", "two", "three"] {
        imap.append("INBOX", &note(subject), "", DATE).unwrap();
    }
    let mount = Mount::new(&account, &["--delete", "expunge"]);
    let unread = mount.join("INBOX/.search/is:unread");
    let name = |subject: &str, uid: u32| format!("2024-03-05T1000_Alice_{subject}.{uid}");
    assert_eq!(names(&unread), BTreeSet::from([name("one", 1), name("two", 2), name("three", 3)]));
    // A flag, through the result: it is out of it at once.
    let set = |path: &Path| {
        Command::new("setfattr").args(["-n", "user.imap.flags", "-v", "\\Seen"]).arg(path).status().unwrap()
    };
    assert!(set(&unread.join(name("one", 1))).success());
    assert_eq!(imap_flags(&account, 1), ["\\Seen"]);
    assert_eq!(names(&unread), BTreeSet::from([name("two", 2), name("three", 3)]));
    // A move.
    let status = Command::new("mv").arg(unread.join(name("two", 2))).arg(mount.join("Done")).status().unwrap();
    assert!(status.success());
    assert_eq!(names(&unread), BTreeSet::from([name("three", 3)]));
    assert_eq!(account.imap().status("Done", "MESSAGES").unwrap(), Some(1));
    // A removal.
    assert!(Command::new("rm").arg("-r").arg(unread.join(name("three", 3))).status().unwrap().success());
    assert_eq!(names(&unread), BTreeSet::new());
    assert_eq!(names(&mount.join("INBOX")), BTreeSet::from([name("one", 1)]));
    // What others do.
    account.imap().append("INBOX", &note("four"), "", DATE).unwrap();
    let seen = wait_for(Duration::from_secs(6), || (names(&unread).len() == 1).then_some(()));
    assert!(seen.is_some(), "{:?}", names(&unread));
    // Nothing can be put into a result, and a result cannot be removed.
    for refused in [
        Command::new("mkdir").arg(mount.join("INBOX/.search/x/y")).output().unwrap(),
        Command::new("cp").arg("/proc/self/status").arg(unread.join("x.eml")).output().unwrap(),
        Command::new("rmdir").arg(&unread).output().unwrap(),
        Command::new("mv").arg(mount.join("Done").join(name("two", 1))).arg(&unread).output().unwrap(),
    ] {
        assert!(!refused.status.success(), "{refused:?}");
    }
    assert_eq!(names(&mount.join("Done")), BTreeSet::from([name("two", 1)]));
}

fn imap_flags(account: &Account, uid: u32) -> Vec<String> {
    let mut imap = account.imap();
    imap.select("INBOX").unwrap();
    imap.flags(uid).unwrap().unwrap().into_iter().filter(|flag| flag != "\\Recent").collect()
}

#[test]
fn what_is_no_query_is_told_where_it_is_wrong() {
    let account = Server::dovecot().account();
    account.imap().append("INBOX", &note("one"), "", DATE).unwrap();
    let proxy = Proxy::new(account.direct_port()).recording();
    let mount = Mount::new(&account.with(Security::None).through(&proxy), &["--no-compress"]);
    fs::read_dir(mount.join("INBOX")).unwrap().count();
    let search = mount.join("INBOX/.search");
    for query in ["is:blue", "(a", "a)", "\"a", "from:", "form:bob", "since:yesterday", " ", "imap:\"SEEN) (\""] {
        let error = fs::read_dir(search.join(query)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(22), "{query}: {error}");
    }
    let log = mount.log();
    assert!(log.contains("column 4: expected unread, read, flagged"), "{log}");
    assert!(log.contains("the query \"form:bob\", column 1: expected one of from"), "{log}");
    assert_eq!(fs::read_dir(search.join("gmail:x")).unwrap_err().kind(), ErrorKind::Unsupported);
    // The server's word against it.
    assert_eq!(fs::read_dir(search.join("imap:NONSENSE")).unwrap_err().raw_os_error(), Some(22));
    // What programs look for everywhere is not searched for, and naming a search asks nothing.
    proxy.reset();
    for name in [".hidden", ".Trash", ".Trash-1000", ".git", ".directory", "HEAD", "autorun.inf"] {
        assert_eq!(search.join(name).metadata().unwrap_err().kind(), ErrorKind::NotFound, "{name}");
    }
    search.join("some words").metadata().unwrap();
    assert_eq!(fs::read_dir(&search).unwrap().count(), 0);
    let is_search = |line: &Line| line.dir == Dir::Up && line.text.contains("SEARCH");
    let sent: Vec<_> = proxy.transcript().into_iter().filter(is_search).collect();
    assert!(sent.is_empty(), "{sent:?}");
}

#[test]
fn no_query_is_a_command_of_its_own() {
    for server in [Server::dovecot(), Server::courier()] {
        let account = server.account();
        account.imap().append("INBOX", &note("one"), "", DATE).unwrap();
        let proxy = Proxy::new(account.direct_port()).recording();
        let mount = Mount::new(&account.with(Security::None).through(&proxy), &["--no-compress"]);
        fs::read_dir(mount.join("INBOX")).unwrap().count();
        for query in [
            "\"x\\\" OR ALL\"",
            "\"\\\"\"",
            "{5+}",
            "é{5+}",
            "\"a) (ALL\"",
            "subject:\"\\\\\"",
            "header:X=\"\\\" ALL\"",
            "*)",
            "%",
            "from:*",
            "\"T1 LOGOUT\"",
            "imap:\"SUBJECT \\\"T1 LOGOUT\\\"\"",
        ] {
            match fs::read_dir(mount.join("INBOX/.search").join(query)) {
                Ok(found) => assert_eq!(found.count(), 0, "{}: {query}", server.name),
                Err(error) => assert_eq!(error.raw_os_error(), Some(22), "{}: {query}: {error}", server.name),
            }
        }
        // A line end in the name.
        assert!(fs::read_dir(mount.join("INBOX/.search").join("\"a\r\nT1 LOGOUT\"")).is_err());
        assert_eq!(uids(&mount.join("INBOX/.search/subject:one")), BTreeSet::from([1]));
        let sent: Vec<_> = proxy.transcript().into_iter().filter(|line| line.text.contains("LOGOUT")).collect();
        assert!(!sent.is_empty() && sent.iter().all(|line| line.text.contains("SEARCH")), "{}: {sent:?}", server.name);
    }
}

#[test]
fn a_result_costs_one_round_trip_more_than_a_listing() {
    let account = Server::dovecot().account();
    fill(&account, "INBOX", &letters()[..20]);
    let proxy = Proxy::new(account.direct_port());
    let mount = Mount::new(&account.with(Security::None).through(&proxy), &[]);
    fs::read_dir(mount.join("INBOX")).unwrap().count();
    proxy.set_delay(Duration::from_millis(50));
    let costs = ["subject:report", "is:unread", "from:köhler", "on:2024-03-12", "type:text budget"].map(|query| {
        proxy.reset();
        fs::read_dir(mount.join("INBOX/.search").join(query)).unwrap().count();
        proxy.stats().round_trips
    });
    // The structures of what was found are one more. On a busy machine the list of mailboxes may be due again.
    assert!(costs.contains(&1) && costs[..4].iter().all(|cost| *cost <= 2) && costs[4] <= 3, "{costs:?}");
}
