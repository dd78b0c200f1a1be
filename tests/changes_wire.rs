//! Each command that changes mail, on real servers, its outcome judged by a client that is not the program's own.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use common::faults::{Action, Fault, When};
use common::proxy::Proxy;
use common::{Account, Imap, Server};
use imapfs::error::{Error, Result};
use imapfs::imap::request::Upload;
use imapfs::imap::response::{Code, Data};
use imapfs::imap::server::Event;
use imapfs::imap::{Class, Client, Command, Credentials, Done, Options, Target, Tls};
use imapfs::mail::flag::Flags;
use imapfs::mail::mailbox_name::MailboxName;
use imapfs::mail::uid::{Uid, UidSet, UidValidity};
use tokio::sync::mpsc;

/// The program's client and the judge, both of one account.
struct Case {
    account: Account,
    client: Client,
    judge: Imap,
    _events: mpsc::UnboundedReceiver<Event>,
}

/// A client of this account in plaintext.
async fn connect(account: &Account, read_only: bool) -> (Client, mpsc::UnboundedReceiver<Event>) {
    let password = account.password.clone();
    let options = Options {
        host: "localhost".into(),
        port: account.port,
        tls: Tls::None,
        tls_ca: None,
        user: account.user.clone(),
        credentials: Arc::new(move |_| Ok(Credentials::Password(password.clone().into()))),
        connections: 4,
        read_only,
        // A proxy counts octets.
        compress: account.port == account.direct_port(),
        debug_protocol: false,
        timeout: Duration::from_secs(20),
    };
    let (events, receiver) = mpsc::unbounded_channel();
    (Client::connect(options, events).await.unwrap(), receiver)
}

fn letter(subject: &str) -> Vec<u8> {
    format!("From: a@example.test\r\nSubject: {subject}\r\nMessage-ID: <{subject}@example.test>\r\n\r\nText.\r\n")
        .into()
}

fn upload(text: &[u8], flags: &[&str]) -> Upload {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text).unwrap();
    let flags = Flags::from_wire(flags.iter().map(|flag| flag.as_bytes()));
    Upload { file: Arc::new(file), octets: text.len() as u64, flags, internal_date: Some(1_709_629_200) }
}

fn uids(text: &str) -> UidSet {
    UidSet::parse(text.as_bytes()).unwrap()
}

/// The name of an error, `Ok` without one.
fn word(end: &Result<(Vec<Data>, Done)>) -> String {
    match end {
        Ok(_) => "Ok".into(),
        Err(error) => format!("{error:?}").split('(').next().unwrap().to_owned(),
    }
}

impl Case {
    async fn new(server: &Server) -> Self {
        let account = server.account();
        let (client, events) = connect(&account, false).await;
        let judge = account.imap();
        Self { account, client, judge, _events: events }
    }

    fn name(&self, path: &str) -> MailboxName {
        MailboxName::new(self.account.wire_name(path).as_bytes())
    }

    async fn run(&self, command: Command) -> Result<(Vec<Data>, Done)> {
        self.client.run(Target::Account, command, Class::Small, 1 << 20).await
    }

    /// In a mailbox, whatever generation it is of.
    async fn inside(&self, path: &str, command: Command) -> Result<(Vec<Data>, Done)> {
        let target = Target::Mailbox { name: self.name(path), validity: None };
        self.client.run(target, command, Class::Small, 1 << 20).await
    }

    async fn ok(&self, command: Command) -> Option<Code> {
        self.run(command).await.unwrap().1.code
    }

    /// How many messages hold this, in the judge's eyes.
    fn found(&mut self, path: &str, query: &str) -> Vec<u32> {
        let name = self.account.wire_name(path);
        self.judge.select(&name).unwrap();
        self.judge.search(query).unwrap()
    }

    fn is_listed(&mut self, path: &str) -> bool {
        let answer = self.judge.ok(&format!("LIST \"\" \"{}\"", self.account.wire_name(path))).unwrap();
        answer.untagged.iter().any(|row| row.text.starts_with("* LIST"))
    }

    async fn append(&mut self, path: &str, subject: &str) -> u32 {
        let messages = vec![upload(&letter(subject), &["\\Flagged"])];
        let code = self.ok(Command::Append { to: self.name(path), messages }).await;
        let found = self.found(path, &format!("HEADER Subject {subject}"));
        let [uid] = found[..] else { panic!("{subject}: {found:?}") };
        match code {
            Some(Code::AppendUid(_, told)) => assert_eq!(told, uids(&uid.to_string())),
            // Courier tells none for the first message of a mailbox.
            _ => assert_eq!(self.account.server, "courier"),
        }
        uid
    }

    async fn mailboxes_and_their_refusals(&mut self) {
        let courier = self.account.server == "courier";
        self.ok(Command::Create(self.name("one"))).await;
        self.ok(Command::Create(self.name("one/below"))).await;
        self.ok(Command::Create(self.name("b &- (c) ]"))).await;
        assert!(self.is_listed("one") && self.is_listed("one/below"));
        for (what, command, want) in [
            ("exists", Command::Create(self.name("one")), "Exists"),
            // Courier says OK to whatever is not there.
            (
                "no source",
                Command::Rename(self.name("none"), self.name("other")),
                if courier { "Ok" } else { "NotFound" },
            ),
            ("target", Command::Rename(self.name("one"), self.name("two")), "Ok"),
            ("gone", Command::Delete(self.name("one")), "NotFound"),
            ("INBOX", Command::Rename(self.name("INBOX"), self.name("x")), "Busy"),
        ] {
            let end = self.run(command).await;
            assert_eq!(word(&end), want, "{what} on {}: {end:?}", self.account.server);
        }
        assert!(!self.is_listed("one") && self.is_listed("two/below"));
        // A mailbox that this very connection has selected.
        self.ok(Command::Create(self.name("open"))).await;
        self.append("open", "kept").await;
        self.inside("open", Command::SearchAll).await.unwrap();
        self.ok(Command::Rename(self.name("open"), self.name("renamed"))).await;
        assert!(matches!(self.inside("open", Command::SearchAll).await, Err(Error::NotFound)));
        assert_eq!(self.found("renamed", "ALL").len(), 1);
        self.inside("renamed", Command::SearchAll).await.unwrap();
        // The judge has it selected as well, and Courier would not mind.
        self.judge.select("INBOX").unwrap();
        self.ok(Command::Delete(self.name("renamed"))).await;
        assert!(!self.is_listed("renamed"));
        self.ok(Command::Subscribe(self.name("two"), true)).await;
        self.ok(Command::Subscribe(self.name("two"), false)).await;
        let rights = Command::SetAcl(self.name("two"), b"bob".to_vec(), Some("lr".into()));
        let granted = self.run(rights).await;
        assert!(matches!(granted, Ok(_) | Err(Error::Unsupported(_))), "{granted:?}");
        if granted.is_ok() {
            let answer = self.judge.ok(&format!("GETACL \"{}\"", self.account.wire_name("two"))).unwrap();
            assert!(answer.untagged.iter().any(|row| row.text.contains("bob")), "{answer:?}");
            self.ok(Command::SetAcl(self.name("two"), b"bob".to_vec(), None)).await;
        }
        let comment = |value: Option<&[u8]>| {
            Command::SetMetadata(self.name("two"), "/private/comment".into(), value.map(<[u8]>::to_vec))
        };
        for value in [Some(&b"a \"comment\""[..]), Some(b"two\r\nlines"), None] {
            let end = self.run(comment(value)).await;
            assert!(end.is_ok() || courier && word(&end) == "Unsupported", "{end:?}");
        }
    }

    async fn messages(&mut self) {
        self.ok(Command::Create(self.name("from"))).await;
        self.ok(Command::Create(self.name("to"))).await;
        let first = self.append("from", "first").await;
        let second = self.append("from", "second").await;
        let answer = self.judge.ok(&format!("UID FETCH {second} (INTERNALDATE)")).unwrap();
        assert!(answer.untagged.iter().any(|row| row.text.contains("5-Mar-2024")), "{answer:?}");
        // Flags.
        let store = |set, flag: &str| Command::Store {
            uids: uids(&format!("{first},{second}")),
            set,
            flags: vec![flag.into()],
            unchanged_since: None,
        };
        for (set, flag) in [(true, "\\Seen"), (true, "$Work"), (false, "\\Flagged")] {
            let (rows, _) = self.inside("from", store(set, flag)).await.unwrap();
            let told = rows.iter().filter_map(|row| if let Data::Fetch(row) = row { row.flags.as_ref() } else { None });
            assert_eq!(told.filter(|flags| flags.contains(flag) == set).count(), 2, "{rows:?}");
        }
        self.judge.select(&self.account.wire_name("from")).unwrap();
        assert_eq!(self.judge.flags(second).unwrap().unwrap().join(" ").replace("\\Recent ", ""), "$Work \\Seen");
        let nothing = Target::Mailbox { name: self.name("from"), validity: Some(UidValidity(1)) };
        let end = self.client.run(nothing, store(true, "\\Deleted"), Class::Small, 1 << 20).await;
        assert_eq!(word(&end), "Stale");
        // Search, copy, move, expunge.
        let search = Command::Search { uids: uids("1:1000"), message_id: Some(b"<second@example.test>".to_vec()) };
        let (rows, _) = self.inside("from", search).await.unwrap();
        assert!(matches!(&rows[..], [Data::Search(found)] if found.all == uids(&second.to_string())), "{rows:?}");
        let copy = Command::Copy { uids: uids(&first.to_string()), to: self.name("to") };
        let (_, done) = self.inside("from", copy).await.unwrap();
        let copied = self.found("to", "ALL");
        match done.code {
            Some(Code::CopyUid(_, from, to)) => {
                assert_eq!((from, to), (uids(&first.to_string()), uids(&copied[0].to_string())));
            }
            other => panic!("{other:?}"),
        }
        let moved = Command::Move { uids: uids(&second.to_string()), to: self.name("to") };
        match self.inside("from", moved).await {
            Ok((_, done)) => {
                assert!(matches!(done.code, Some(Code::CopyUid(_, from, _)) if from == uids(&second.to_string())));
                assert_eq!((self.found("from", "ALL"), self.found("to", "ALL").len()), (vec![first], 2));
            }
            end => assert_eq!((word(&end).as_str(), self.account.server), ("Unsupported", "courier")),
        }
        let nowhere = Command::Copy { uids: uids(&first.to_string()), to: self.name("nowhere") };
        assert_eq!(word(&self.inside("from", nowhere).await), "NotFound");
        // What somebody else marked stays.
        let other = self.append("from", "other").await;
        self.judge.ok(&format!("UID STORE {other} +FLAGS (\\Deleted)")).unwrap();
        let mark = Command::Store {
            uids: uids(&first.to_string()),
            set: true,
            flags: vec!["\\Deleted".into()],
            unchanged_since: None,
        };
        self.inside("from", mark).await.unwrap();
        self.inside("from", Command::Expunge(uids(&first.to_string()))).await.unwrap();
        let left = self.found("from", "ALL");
        assert!(left.contains(&other) && !left.contains(&first), "{left:?}");
    }

    async fn uploads(&mut self) {
        self.ok(Command::Create(self.name("box"))).await;
        let two = vec![upload(&letter("a"), &[]), upload(&letter("b"), &["\\Seen", "$Work"])];
        let end = self.run(Command::Append { to: self.name("box"), messages: two }).await;
        if self.account.server == "courier" {
            assert_eq!(word(&end), "Unsupported");
            self.append("box", "a").await;
            self.append("box", "b").await;
        } else {
            assert!(matches!(end.unwrap().1.code, Some(Code::AppendUid(_, told)) if told.len() == 2));
        }
        let one = || vec![upload(&letter("c"), &[])];
        let nowhere = Command::Append { to: self.name("nowhere"), messages: one() };
        assert_eq!(word(&self.run(nowhere).await), "NotFound", "{}", self.account.server);
        let odd = [
            ("bare newline", &b"Subject: x\n\nbare\n"[..]),
            ("NUL", b"Subject: x\r\n\r\na\0b\r\n"),
            ("header", b"this is no header\r\n\r\ntext\r\n"),
        ];
        for (what, text) in odd {
            let messages = vec![upload(text, &[])];
            let end = self.run(Command::Append { to: self.name("box"), messages }).await;
            println!("{what} on {}: {end:?}", self.account.server);
            assert!(matches!(end, Ok(_) | Err(Error::Invalid(_))), "{what} on {}: {end:?}", self.account.server);
        }
        let uid = self.found("box", "HEADER Subject b")[0];
        let replace = Command::Replace { uid: Uid::new(uid).unwrap(), message: upload(&letter("d"), &[]) };
        let end = self.inside("box", replace).await;
        assert!(matches!(end, Ok(_) | Err(Error::Unsupported(_))), "{end:?}");
        // 32 MB, over the connection for bulk.
        let mut message = upload(&letter("large"), &[]);
        let block = [&[b'x'; 62][..], b"\r\n"].concat().repeat(1 << 14);
        for _ in 0..32 {
            (&*message.file).write_all(&block).unwrap();
        }
        message.octets += 32 * block.len() as u64;
        let size = message.octets;
        let before = peak_memory();
        let append = Command::Append { to: self.name("box"), messages: vec![message] };
        self.client.run(Target::Account, append, Class::Bulk, 1 << 20).await.unwrap();
        let more = peak_memory() - before;
        let uid = self.found("box", "HEADER Subject large")[0];
        let kept = self.judge.size(uid).unwrap().unwrap();
        // Courier ends the last line.
        assert!(kept.abs_diff(size) <= 2, "{kept} of {size}");
        assert!(more < 8 << 20, "{size} octets cost {more} of memory on {}", self.account.server);
    }

    async fn nothing_on_a_read_only_mount(&mut self) {
        let (reader, _events) = connect(&self.account, true).await;
        let inbox = Target::Mailbox { name: self.name("INBOX"), validity: None };
        for (target, command) in [
            (Target::Account, Command::Create(self.name("never"))),
            (Target::Account, Command::Append { to: self.name("INBOX"), messages: vec![upload(&letter("x"), &[])] }),
            (inbox, Command::Expunge(uids("1:100"))),
        ] {
            let end = reader.run(target, command, Class::Small, 1 << 20).await;
            assert!(matches!(end, Err(Error::ReadOnly)), "{end:?}");
        }
        assert!(!self.is_listed("never"));
    }
}

/// The connection dies in the middle of a message: it is sent again, and the server has it once.
fn half_a_message_is_none(server: &Server) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let account = server.account();
        let mut judge = account.imap();
        let name = account.wire_name("INBOX");
        let before = judge.select(&name).unwrap();
        for (cut, added) in [(20_000, 1), (700_000, 2)] {
            let proxy = Proxy::new(account.port).fault(Fault::up(When::Bytes(cut), Action::Rst).on(1..=1));
            let (client, _events) = connect(&account.through(&proxy), false).await;
            let mut message = upload(&letter("cut"), &[]);
            let line = [&[b'x'; 62][..], b"\r\n"].concat();
            (&*message.file).write_all(&line.repeat(1 << 14)).unwrap();
            message.octets += (line.len() as u64) << 14;
            let append = Command::Append { to: MailboxName::new(name.as_bytes()), messages: vec![message] };
            let end = client.run(Target::Account, append, Class::Small, 1 << 20).await;
            // Once the kernel has taken all of it nobody knows how far it came.
            assert!(matches!(end, Ok(_) | Err(Error::Uncertain(_))), "{end:?}");
            println!("cut at {cut} on {}: {end:?}", account.server);
            if end.is_ok() {
                assert_eq!((judge.select(&name).unwrap(), client.stats().logins), (before + added, 2));
            } else {
                assert_eq!(judge.select(&name).unwrap(), before + added - 1);
                return;
            }
        }
    });
}

#[test]
fn half_a_message_is_none_anywhere() {
    for server in [Server::dovecot(), Server::cyrus(), Server::courier()] {
        half_a_message_is_none(server);
    }
}

/// A full mailbox says so, before the message has crossed the wire when it is large, and the connection goes on.
fn a_full_mailbox_refuses(server: &Server) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut case = Case::new(server).await;
        let to = case.name("INBOX");
        for lines in [1 << 13, 1 << 15] {
            let mut message = upload(&letter("large"), &[]);
            (&*message.file).write_all(&[&[b'x'; 62][..], b"\r\n"].concat().repeat(lines)).unwrap();
            message.octets += lines as u64 * 64;
            for _ in 0..2 {
                let append = Command::Append { to: to.clone(), messages: vec![message.clone()] };
                let before = case.client.stats().bytes_out;
                let end = case.run(append).await;
                assert!(matches!(end, Err(Error::Quota(_))), "{} octets: {end:?}", message.octets);
                let sent = case.client.stats().bytes_out - before;
                // The rest of a shorter one may still be on its way.
                assert!(message.octets < 1 << 20 || sent < 10_000, "{sent}");
            }
        }
        assert_eq!(case.client.stats().logins, 1);
        case.ok(Command::Create(case.name("after"))).await;
        assert!(case.found("INBOX", "ALL").is_empty());
    });
}

#[test]
fn a_full_mailbox_refuses_on_dovecot() {
    let rule = "plugin {\n  quota_rule = *:storage=100K\n}\n";
    a_full_mailbox_refuses(&Server::start("dovecot", &[("DOVECOT_EXTRA", rule)]));
}

/// The most memory that this process has had, in octets.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

fn every_command(server: &Server) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut case = Case::new(server).await;
        case.mailboxes_and_their_refusals().await;
        case.messages().await;
        case.uploads().await;
        case.nothing_on_a_read_only_mount().await;
        case.client.close().await;
    });
}

#[test]
fn every_command_changes_what_it_says_on_dovecot() {
    every_command(Server::dovecot());
}

#[test]
fn every_command_changes_what_it_says_on_cyrus() {
    every_command(Server::cyrus());
}

#[test]
fn every_command_changes_what_it_says_on_courier() {
    every_command(Server::courier());
}
