//! What is asked with the set-up of a connection, and what follows it at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::super::options::{Credentials, Tls};
use super::super::pool::Client;
use super::super::request::{Class, Command, FetchItem, Target};
use super::super::testing::{client, fetch, mailbox, options, selected, server};
use crate::error::Error;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::section::Section;
use crate::mail::uid::UidValidity;

/// What Dovecot answers to its login and to the set-up.
fn granted(tag: &str, command: &str) -> Option<String> {
    Some(match command.split(' ').next().unwrap_or_default() {
        "LOGIN" => format!("{tag} OK [CAPABILITY IMAP4rev1 ID ENABLE QRESYNC IDLE] in\r\n"),
        "ID" => format!("* ID (\"name\" \"Dovecot\")\r\n{tag} OK done\r\n"),
        "ENABLE" => format!("* ENABLED QRESYNC\r\n{tag} OK done\r\n"),
        _ => return None,
    })
}

/// A client with so many connections and a time limit of a second.
async fn impatient(port: u16, connections: usize) -> Client {
    let mut options = options(port, Tls::None, Credentials::Password("s3cret".into()));
    (options.connections, options.timeout) = (connections, Duration::from_secs(1));
    Client::connect(options, mpsc::unbounded_channel().0).await.unwrap()
}

fn body() -> Command {
    fetch(&[1], &[FetchItem::Body(Section::part(&[1]), None)])
}

#[tokio::test]
async fn the_first_list_is_asked_with_the_set_up_where_that_tells_all() {
    let (row, ok) = ("* LIST () \"/\" INBOX\r\n", "$ OK done\r\n");
    for (capability, before, text, asked) in [
        ("", "", format!("{row}{ok}"), 1),
        // What was changed since is not in it, and later it is not believed.
        ("", "CREATE", format!("{row}{ok}"), 2),
        ("", "a pause", format!("{row}{ok}"), 2),
        ("", "", format!("{row}$ NO no\r\n"), 2),
        ("", "", ok.to_owned(), 2),
        ("", "", format!("{row}* LIST () / \r\n{ok}"), 2),
        // There is more to ask for than was known then.
        ("NAMESPACE", "", format!("{row}{ok}"), 3),
    ] {
        let case = format!("{capability:?} {before:?} {text:?}");
        let answer = move |_, tag: &str, command: &str| match command.split(' ').next() {
            Some("LOGIN") => Some(format!("{tag} OK [CAPABILITY IMAP4rev1 LIST-EXTENDED {capability}] in\r\n")),
            Some("NAMESPACE") => Some(format!("* NAMESPACE ((\"\" \"/\")) ((\"~\" \"/\")) NIL\r\n{tag} OK done\r\n")),
            Some("LIST") => Some(text.replace('$', tag)),
            _ => None,
        };
        let (port, heard) = server(|_| false, answer).await;
        let client = client(port, 4).await.unwrap();
        let lists = || heard.lock().unwrap().iter().filter(|(_, command)| command.starts_with("LIST")).count();
        assert_eq!(lists(), 1, "{case}");
        match before {
            "CREATE" => {
                let create = Command::Create(MailboxName::new(b"a"));
                client.run(Target::Account, create, Class::Small, 1000).await.unwrap();
            }
            "a pause" => tokio::time::sleep(Duration::from_millis(1100)).await,
            _ => {}
        }
        let _ = client.run(Target::Account, Command::List, Class::Small, 1 << 20).await;
        assert_eq!(lists(), asked, "{case}");
        // It is told once.
        let _ = client.run(Target::Account, Command::List, Class::Small, 1 << 20).await;
        assert!(lists() > asked, "{case}");
    }
}

/// A long list may take longer than the time limit, and one that trickles may not; nor may what else is asked then.
#[tokio::test]
async fn a_list_with_the_set_up_may_be_long_and_not_slow() {
    for (verb, row, is_taken) in [("LIST", 8000, true), ("LIST", 20, false), ("CAPABILITY", 8000, false)] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            stream.write_all(b"* OK [CAPABILITY IMAP4rev1] hi\r\n").await.unwrap();
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                let (tag, command) = line.trim_end().split_once(' ').unwrap();
                // 0.3 s each: in three seconds more than the limit of one.
                for n in 0..if command.starts_with(verb) { 10 } else { 0 } {
                    let row = format!("* LIST () \"/\" {n}{}\r\n", "x".repeat(row));
                    if stream.get_mut().write_all(row.as_bytes()).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                let told = if command == "CAPABILITY" { "* CAPABILITY IMAP4rev1\r\n" } else { "" };
                let code = if verb == "LIST" && command.starts_with("LOGIN") { "[CAPABILITY IMAP4rev1] " } else { "" };
                let _ = stream.get_mut().write_all(format!("{told}{tag} OK {code}done\r\n").as_bytes()).await;
                line.clear();
            }
        });
        let mut options = options(port, Tls::None, Credentials::Password("s3cret".into()));
        options.timeout = Duration::from_secs(1);
        let connected = Client::connect(options, mpsc::unbounded_channel().0);
        match tokio::time::timeout(Duration::from_secs(20), connected).await.expect("it has an end") {
            Ok(client) => {
                let (rows, _) = client.run(Target::Account, Command::List, Class::Small, 1 << 20).await.unwrap();
                assert!(is_taken && rows.len() == 10, "{verb} {row}: {} rows", rows.len());
            }
            Err(error) => assert!(!is_taken && matches!(error, Error::TimedOut(_)), "{verb} {row}: {error}"),
        }
    }
}

/// Of a server that keeps the order further connections do not wait for what was granted the first; where they are
/// refused it, the next one does.
#[tokio::test]
async fn a_further_connection_reads_in_the_round_trip_of_its_set_up() {
    for refused in [false, true] {
        let held = Mutex::new(String::new());
        let answer = move |number: usize, tag: &str, command: &str| {
            let text = match command.split(' ').next()? {
                "ENABLE" if refused && number > 0 => format!("{tag} NO no\r\n"),
                // The second answers nothing before it is asked for a mailbox.
                "SELECT" if number == 1 => return Some(std::mem::take(&mut *held.lock().unwrap()) + &selected(tag)),
                _ => granted(tag, command)?,
            };
            if number != 1 || command.starts_with("LOGIN") {
                return Some(text);
            }
            held.lock().unwrap().push_str(&text);
            Some(String::new())
        };
        let (port, heard) = server(|_| false, answer).await;
        let client = client(port, 2).await.unwrap();
        let read = client.run(mailbox("INBOX", None), body(), Class::Bulk, 1 << 20);
        let read = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it waits for nothing");
        assert_eq!(read.unwrap().0.len(), 1);
        let heard = heard.lock().unwrap();
        let read = heard.iter().rfind(|(_, command)| command.starts_with("UID FETCH 1 ")).unwrap().0;
        assert_eq!(read, if refused { 2 } else { 1 }, "{heard:?}");
    }
}

/// A change is sent when the set-up has been answered: where that is refused, or has no answer, it is not in doubt.
#[tokio::test]
async fn a_change_waits_for_the_set_up() {
    for enabled in ["$ NO no\r\n", ""] {
        let answer = move |number: usize, tag: &str, command: &str| match command.split(' ').next() {
            Some("ENABLE") if number == 1 => Some(enabled.replace('$', tag)),
            _ => granted(tag, command),
        };
        let (port, heard) = server(|_| false, answer).await;
        let client = impatient(port, 2).await;
        let create = Command::Create(MailboxName::new(b"a"));
        let done = client.run(Target::Account, create, Class::Bulk, 1000);
        tokio::time::timeout(Duration::from_secs(20), done).await.expect("it has an end").unwrap();
        let heard = heard.lock().unwrap();
        let creates: Vec<usize> = heard.iter().filter(|(_, c)| c.starts_with("CREATE")).map(|(n, _)| *n).collect();
        assert_eq!(creates, [2], "{enabled:?} {heard:?}");
    }
}

/// Further connections that a server ends, or leaves without an answer, after it let them in cost no read, and are not made
/// over and over.
#[tokio::test]
async fn connections_that_are_never_ready_cost_no_read() {
    for text in ["* BYE too many connections\r\nclose", "* BYE shutting down\r\nclose", "close", ""] {
        let answer = move |number: usize, tag: &str, command: &str| match number > 0 && !command.starts_with("LOGIN") {
            true => Some(text.into()),
            false => granted(tag, command),
        };
        for round in 0..5 {
            let (port, _) = server(|_| false, answer).await;
            let client = impatient(port, 4).await;
            let reads = (1..=30).map(|n| {
                let (name, class) = (["INBOX", "b"][n % 2], [Class::Small, Class::Bulk][n / 2 % 2]);
                client.run(mailbox(name, None), body(), class, 1 << 20)
            });
            let reads = tokio::time::timeout(Duration::from_secs(60), futures::future::join_all(reads));
            for read in reads.await.expect("they have an end") {
                assert_eq!(read.expect(text).0.len(), 1, "{text:?}");
            }
            assert!(client.stats().logins <= 10, "{text:?}: {} logins", client.stats().logins);
            if text.is_empty() && round == 0 {
                break;
            }
        }
    }
}

/// Another backend may have less than the first: it is not asked for what was not enabled on it.
#[tokio::test]
async fn a_further_connection_without_qresync_is_not_asked_for_it() {
    let answer = |number: usize, tag: &str, command: &str| match command.split(' ').next() {
        Some("LOGIN") if number > 0 => Some(format!("{tag} OK [CAPABILITY IMAP4rev1 ID] in\r\n")),
        Some("SELECT") if number == 0 => Some("close".into()),
        Some("SELECT") if command.contains("QRESYNC") => Some(format!("{tag} BAD not enabled\r\n")),
        _ => granted(tag, command),
    };
    let (port, _) = server(|_| false, answer).await;
    let client = client(port, 1).await.unwrap();
    client.run(Target::Account, Command::Noop, Class::Small, 1000).await.unwrap();
    let resync = Command::Resync { validity: UidValidity(9), modseq: 5, known: None };
    client.run(mailbox("INBOX", None), resync, Class::Small, 1 << 20).await.unwrap();
}

/// Also where nobody asks for anything: the pauses grow.
#[tokio::test]
async fn a_watch_that_is_let_in_and_cut_is_tried_less_and_less() {
    for refusal in ["$ NO no\r\n", "close"] {
        let answer = move |number: usize, tag: &str, command: &str| match command.split(' ').next() {
            Some("ENABLE") if number > 0 => Some(refusal.replace('$', tag)),
            Some("IDLE") => Some(if number == 0 { "+ idling\r\nclose" } else { "+ idling\r\n" }.into()),
            _ => granted(tag, command),
        };
        let (port, _) = server(|_| false, answer).await;
        let client = client(port, 4).await.unwrap();
        client.watch(MailboxName::new(b"INBOX"));
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(client.stats().logins <= 9, "{refusal}: {} logins", client.stats().logins);
    }
}

/// Many short rows take more room than they have octets; those without any count as well.
#[tokio::test]
async fn a_server_that_talks_without_end_after_login_is_given_up() {
    for row in ["\r\n", "* 1 EXISTS\r\n", "* LIST () / a\r\n"] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(AtomicUsize::new(0));
        let all = Arc::clone(&sent);
        tokio::spawn(async move {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            stream.write_all(b"* OK [CAPABILITY IMAP4rev1] hi\r\n").await.unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let tag = line.split(' ').next().unwrap();
            stream.write_all(format!("{tag} OK [CAPABILITY IMAP4rev1] in\r\n").as_bytes()).await.unwrap();
            let rows = row.repeat((64 << 10) / row.len());
            while stream.write_all(rows.as_bytes()).await.is_ok() {
                all.fetch_add(rows.len(), Ordering::Relaxed);
            }
        });
        let error = client(port, 1).await.err();
        assert!(matches!(error, Some(Error::Protocol(_))), "{row:?}: {error:?}");
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < 12 << 20, "{row:?}: {sent}");
    }
}
