//! Other ways to see an account, and what is told of it besides names and bytes.

#![allow(clippy::unwrap_used)]

mod common;
mod model;

use std::sync::Arc;
use std::time::Duration;

use common::corpus;
use common::corpus::build;
use imapfs::account::{self, Account};
use imapfs::error::Error;
use imapfs::fs::{Fs, Kind, Options};
use imapfs::tree::message_name::Names;
use imapfs::tree::node::ROOT;
use model::message::Message;
use model::walk::options;
use model::{Mounted, Random, Server};

fn plain(subject: &str) -> Vec<u8> {
    build::message(subject, subject, &[], build::TEXT)
}

/// Views answer when they are named, and are listed only when that is asked for.
#[tokio::test]
async fn views_are_left_out_of_listings() {
    let server = Server::with_messages([plain("A"), plain("B")]);
    server.create("INBOX/Projects");
    let mut mounted = Mounted::lasting(&server).await;
    let messages = ["2026-11-21T0915_Alïce_A.1", "2026-11-21T0915_Alïce_B.2"];
    assert_eq!(mounted.names("INBOX").await.unwrap(), ["Projects", messages[0], messages[1]]);
    let flat = messages.map(|name| format!("{name}.eml"));
    assert_eq!(mounted.names("INBOX/.eml").await.unwrap(), flat);
    for (name, uid) in flat.iter().zip([1, 2]) {
        let bytes = mounted.cat_path(&format!("INBOX/.eml/{name}")).await.unwrap();
        assert_eq!(bytes, server.message("INBOX", uid).bytes);
        let path = format!("INBOX/{}/message.eml", name.strip_suffix(".eml").unwrap());
        let (flat, inside) = (mounted.find(&format!("INBOX/.eml/{name}")).await, mounted.find(&path).await);
        assert_eq!(flat.unwrap().attr.ino, inside.unwrap().attr.ino);
    }
    for name in [".emls", messages[0], ".git", "x.eml"] {
        assert_eq!(mounted.find(&format!("INBOX/.eml/{name}")).await.unwrap_err(), Error::NotFound, "{name}");
    }
    let table = String::from_utf8(mounted.cat_path("INBOX/.messages.tsv").await.unwrap()).unwrap();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[1].starts_with("1\t") && lines[1].ends_with(messages[0]), "{table}");
    assert_eq!(mounted.find("INBOX/.messages.tsv").await.unwrap().attr.size, table.len() as u64);
    let status = String::from_utf8(mounted.cat_path(".imapfs/status").await.unwrap()).unwrap();
    assert!(status.lines().any(|line| line == "messages_known: 2"), "{status}");

    let (client, _events, unasked) = server.client();
    let account = Account::open(client, unasked, options()).await.unwrap();
    mounted.fs = Fs::new(account, Options { show_views: true, ..Options::default() });
    assert_eq!(mounted.names("").await.unwrap(), [".imapfs", ".search", "INBOX"]);
    let all = [".eml", ".messages.tsv", ".search", "Projects", messages[0], messages[1]];
    assert_eq!(mounted.names("INBOX").await.unwrap(), all);
    let inside = mounted.names(&format!("INBOX/{}", messages[0])).await.unwrap();
    assert_eq!(inside, ["headers.txt", "message.eml", "body.txt"]);
}

/// Bare UIDs as names need nothing else.
#[tokio::test]
async fn bare_uids_can_be_the_names() {
    let server = Server::with_messages([plain("A"), plain("B")]);
    let mut mounted = Mounted::lasting(&server).await;
    let (client, _events, unasked) = server.client();
    let account = Account::open(client, unasked, options()).await.unwrap();
    mounted.fs = Fs::new(account, Options { names: Names::Uid, ..Options::default() });
    assert_eq!(mounted.names("INBOX").await.unwrap(), ["1", "2"]);
    assert!(mounted.find("INBOX/2/body.txt").await.is_ok());
    for name in ["3", "02", "+2", "2026-11-21T0915_Alïce_B.2"] {
        assert_eq!(mounted.find(&format!("INBOX/{name}")).await.unwrap_err(), Error::NotFound, "{name}");
    }
}

/// A mailbox can be the root, and nothing beside it is shown.
#[tokio::test]
async fn a_mailbox_can_be_the_root() {
    let server = Server::new();
    for name in ["Work", "Work/Old"] {
        server.create(name);
        server.append(name, Message::new(plain("A")));
    }
    let options = account::Options { root_mailbox: Some("Work".into()), ..options() };
    let mounted = Mounted::try_new(&server, options.clone()).await.unwrap();
    assert_eq!(mounted.names("").await.unwrap(), ["Old", "2026-11-21T0915_Alïce_A.1"]);
    assert_eq!(mounted.names("Old").await.unwrap(), ["2026-11-21T0915_Alïce_A.1"]);
    for (directory, parent) in
        [("Old", ""), ("2026-11-21T0915_Alïce_A.1", ""), ("Old/2026-11-21T0915_Alïce_A.1", "Old")]
    {
        let (directory, parent) = (mounted.find(directory).await.unwrap(), mounted.find(parent).await.unwrap());
        let dots = mounted.fs.readdir(directory.attr.ino, false, 0, 2).await.unwrap();
        let dots: Vec<_> = dots.iter().map(|e| (e.name.as_str(), e.entry.attr.ino)).collect();
        assert_eq!(dots, [(".", directory.attr.ino), ("..", parent.attr.ino)]);
    }
    assert_eq!(mounted.find("INBOX").await.unwrap_err(), Error::NotFound);
    // Under new UIDs it is still the root.
    server.renumber("Work");
    let _ = mounted.list(ROOT).await;
    assert_eq!(mounted.names("").await.unwrap().len(), 2);
    let none = account::Options { root_mailbox: Some("None".into()), ..options };
    assert_eq!(Mounted::try_new(&server, none).await.err(), Some(Error::NotFound));
}

/// A listing goes on where it stopped, wherever that was; whatever comes and goes meanwhile, what is there all the time is
/// listed once.
#[tokio::test]
async fn a_listing_can_be_cut_anywhere() {
    let server = Server::with_messages((0..40).map(|n| plain(&format!("n{n}"))));
    let mounted = Mounted::new(&server).await;
    let inbox = mounted.find("INBOX").await.unwrap().attr.ino;
    assert_eq!(mounted.fs.opendir(inbox).await, Ok(false));
    let read = async |offset, max| mounted.fs.readdir(inbox, false, offset, max).await.unwrap();
    let whole = read(0, 1000).await;
    assert_eq!(whole.len(), 42);
    let gone = whole.iter().position(|entry| entry.name.ends_with(".7")).unwrap();
    server.expunge("INBOX", 7);
    server.append("INBOX", Message::new(plain("new")));
    mounted.names("INBOX").await.unwrap();
    let now = [&whole[..gone], &whole[gone + 1..]].concat();
    let mut random = Random::new(3);
    for at in 0..whole.len() {
        let offset = if at == 0 { 0 } else { whole[at - 1].next };
        let max = 1 + random.below(9) as usize;
        let names = |list: &[imapfs::fs::DirEntry]| list.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
        let from = if at > gone { at - 1 } else { at };
        let want = names(&now[from..now.len().min(from + max)]);
        let found = names(&read(offset, max).await);
        assert!(found.starts_with(&want) && found.len() <= want.len() + 1, "{found:?} instead of {want:?}");
    }
    let last = read(whole[41].next, 10).await;
    assert!(last.len() == 1 && last[0].name.ends_with(".41"), "{last:?}");
    assert!(read(last[0].next, 10).await.is_empty() && read(u64::MAX, 10).await.is_empty());
}

/// What a message is, its files tell.
#[tokio::test]
async fn extended_attributes_tell_what_is_known() {
    let png = build::attachment("image/png", "; filename=\"a.png\"", &build::png());
    let server = Server::with_messages([build::with_part("attachment", png)]);
    server.set_flags("INBOX", 1, "\\Seen $Forwarded");
    let mounted = Mounted::new(&server).await;
    let message = "INBOX/2026-11-21T0915_Alïce_attachment.1";
    mounted.names("INBOX").await.unwrap();
    for (path, name, value) in [
        (message, "user.imap.flags", "$Forwarded \\Seen"),
        (message, "user.imap.uid", "1"),
        (message, "user.xdg.origin.email.subject", "attachment"),
        (&format!("{message}/a.png"), "user.mime_type", "image/png"),
        (&format!("{message}/body.txt"), "user.mime_type", "text/plain"),
        (&format!("{message}/message.eml"), "user.mime_type", "message/rfc822"),
        ("INBOX", "user.imap.mailbox", "INBOX"),
        ("INBOX", "user.imap.messages", "1"),
        ("INBOX", "user.imap.unseen", "0"),
    ] {
        let ino = mounted.find(path).await.unwrap().attr.ino;
        let got = mounted.fs.getxattr(ino, name).await.map(|value| String::from_utf8(value).unwrap());
        assert_eq!(got, Ok(value.to_owned()), "{name} of {path}");
        assert!(mounted.fs.listxattr(ino).await.unwrap().iter().any(|listed| listed == name), "{name} of {path}");
        assert_eq!(mounted.fs.getxattr(ino, "user.nothing").await.unwrap_err(), Error::NoAttribute);
    }
}

/// A file is no directory, and a directory no file.
#[tokio::test]
async fn kinds_are_kept_apart() {
    let server = Server::with_messages([plain("A")]);
    let mounted = Mounted::new(&server).await;
    let message = "INBOX/2026-11-21T0915_Alïce_A.1";
    for (path, kind) in
        [("INBOX", Kind::Directory), (message, Kind::Directory), (&format!("{message}/body.txt"), Kind::File)]
    {
        let found = mounted.find(path).await.unwrap();
        assert_eq!(found.attr.kind, kind);
        let (file, directory) =
            (mounted.fs.open(found.attr.ino, false, 0).await, mounted.fs.opendir(found.attr.ino).await);
        match kind {
            Kind::Directory => assert_eq!((file.unwrap_err(), directory.is_ok()), (Error::IsDirectory, true), "{path}"),
            Kind::File => assert_eq!((file.is_ok(), directory.unwrap_err()), (true, Error::NotDirectory), "{path}"),
        }
    }
    let file = mounted.find(&format!("{message}/body.txt")).await.unwrap().attr.ino;
    assert_eq!(mounted.fs.lookup(file, "x").await.unwrap_err(), Error::NotDirectory);
}

/// Memory is bounded, and how much there is changes nothing that is read.
#[tokio::test]
async fn little_memory_is_enough() {
    let data = build::noise(700_000, 5);
    let part = build::attachment("image/png", "; filename=\"a.png\"", &data);
    let text =
        build::part("image/gif", &["Content-Disposition: attachment", build::CTEQP], build::quoted_printable(&data));
    let server = Server::with_messages([build::with_part("base64", part), build::with_part("qp", text)]);
    for memory in [0, 20_000, 300_000] {
        let mounted = Mounted::try_new(&server, account::Options { memory, ..options() }).await.unwrap();
        mounted.check_mailbox("INBOX", &mut Random::new(memory as u64 + 1)).await.expect_no_errors("little memory");
    }
}

/// Many readers at once get what one alone gets, and one that goes away takes nothing from the others.
#[tokio::test(start_paused = true)]
async fn readers_do_not_disturb_each_other() {
    let messages = corpus::messages();
    let server = Server::with_messages(messages.iter().map(|message| message.bytes.clone()).take(60));
    server.lock().delay = Duration::from_millis(20);
    let mounted = Arc::new(Mounted::new(&server).await);
    let mut readers = Vec::new();
    for seed in 1..6 {
        let mounted = Arc::clone(&mounted);
        let read = async move { mounted.check_mailbox("INBOX", &mut Random::new(seed)).await };
        readers.push(tokio::spawn(read));
    }
    // This one is killed again and again.
    for after in 1..40 {
        let mut random = Random::new(after);
        let gone = mounted.check_mailbox("INBOX", &mut random);
        drop(tokio::time::timeout(Duration::from_millis(after * 7), gone).await);
    }
    for reader in readers {
        reader.await.unwrap().expect_no_errors("many readers");
    }
}

/// What the kernel keeps of a listing is whole, though something of it went away while it was read.
#[tokio::test]
async fn a_listing_that_is_kept_is_whole() {
    let server = Server::with_messages([plain("one")]);
    let mounted = Mounted::new(&server).await;
    let message = mounted.find(&format!("INBOX/{}", mounted.names("INBOX").await.unwrap()[0])).await.unwrap().attr.ino;
    let read = async |kept| mounted.fs.readdir(message, kept, 0, 99).await.unwrap().len();
    assert!(mounted.fs.opendir(message).await.unwrap());
    let whole = read(true).await;
    mounted.fs.unlink(message, "body.txt").await.unwrap();
    assert_eq!((read(true).await, mounted.fs.opendir(message).await, read(false).await), (whole, Ok(false), whole - 1));
}
