//! Clients against servers that bear few connections, lose them, or go away.

use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use super::super::options::{Credentials, Tls};
use super::super::request::FetchItem;
use super::super::testing::{client, fetch, mailbox, options, server, uids, upload};
use super::*;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::section::Section;

async fn read(client: &Client, name: &str, uid: u32, class: Class) -> Result<usize> {
    let command = fetch(&[uid], &[FetchItem::Body(Section::part(&[1]), None)]);
    client.run(mailbox(name, None), command, class, 1 << 20).await.map(|(rows, _)| rows.len())
}

#[tokio::test]
async fn everything_works_over_one_connection_when_no_more_are_borne() {
    for connections in [1, 4] {
        let (port, heard) = server(|number| number > 0, |_, _, _| None).await;
        let client = client(port, connections).await.unwrap();
        let reads = (1..=20).map(|n| {
            let (name, class) = (["INBOX", "Sent"][n % 2], [Class::Small, Class::Bulk][n / 2 % 2]);
            read(&client, name, n as u32, class)
        });
        for done in futures::future::join_all(reads).await {
            assert_eq!(done.unwrap(), 1);
        }
        assert_eq!((client.stats().connections, client.stats().logins), (1, 1));
        client.close().await;
        assert_eq!(client.stats().connections, 0);
        assert_eq!(heard.lock().unwrap().last().unwrap().1, "LOGOUT");
        assert!(matches!(read(&client, "INBOX", 1, Class::Small).await, Err(Error::Offline(_))));
    }
}

#[tokio::test]
async fn small_reads_do_not_wait_for_big_ones_and_the_limit_is_kept() {
    let big = |_, _: &str, command: &str| command.contains("FETCH 1000").then(String::new);
    let (port, heard) = server(|_| false, big).await;
    let client = client(port, 3).await.unwrap();
    let stuck: Vec<_> = (0..5)
        .map(|n| {
            let command = fetch(&[10_000 + n], &[FetchItem::Body(Section::part(&[1]), None)]);
            client.send(mailbox("INBOX", None), command, Class::Bulk, 1 << 20)
        })
        .collect();
    // Until the last of them is on its way.
    while !heard.lock().unwrap().iter().any(|(_, c)| c.contains("FETCH 10004 ")) {
        client.run(Target::Account, Command::Noop, Class::Small, 1000).await.unwrap();
    }
    for uid in 1..=10 {
        assert_eq!(read(&client, ["INBOX", "Sent"][uid as usize % 2], uid, Class::Small).await.unwrap(), 1);
    }
    client.run(Target::Account, Command::Noop, Class::Small, 1000).await.unwrap();
    assert!(client.stats().connections <= 3);
    let heard = heard.lock().unwrap();
    let mut bulk = heard.iter().filter(|(_, c)| c.contains("FETCH 1000")).map(|(n, _)| *n);
    let first = bulk.next().unwrap();
    assert!(first > 0 && bulk.all(|n| n == first), "{heard:?}");
    drop(stuck);
}

#[tokio::test]
async fn a_read_is_sent_once_more_when_its_connection_is_lost() {
    // The first connection dies at its first FETCH; that of UID 7 kills every one.
    let lose = |number, _: &str, command: &str| {
        (command.contains("FETCH") && (number == 0 || command.contains("FETCH 7 "))).then(|| "close".into())
    };
    let (port, _) = server(|_| false, lose).await;
    let client = client(port, 1).await.unwrap();
    assert_eq!(read(&client, "INBOX", 1, Class::Small).await.unwrap(), 1);
    assert_eq!(client.stats().logins, 2);
    assert!(matches!(read(&client, "INBOX", 7, Class::Small).await, Err(Error::Offline(_))));
    assert_eq!(read(&client, "INBOX", 2, Class::Small).await.unwrap(), 1);
}

/// Dovecot 2.3 goes on saying that the mailbox was deleted, though it was made again; another connection sees it.
#[tokio::test]
async fn a_connection_that_lost_its_way_with_a_mailbox_is_given_up() {
    for command in [Command::Select, fetch(&[1], &[FetchItem::Body(Section::part(&[1]), None)])] {
        let selects = AtomicUsize::new(0);
        let refuse = move |number: usize, tag: &str, command: &str| {
            let again = command.starts_with("SELECT") && selects.fetch_add(1, Ordering::Relaxed) > 0;
            (again && number == 0).then(|| format!("{tag} NO Mailbox was deleted under us\r\n"))
        };
        let (port, _) = server(|_| false, refuse).await;
        let client = client(port, 1).await.unwrap();
        client.run(mailbox("a", None), Command::Select, Class::Small, 1000).await.unwrap();
        client.run(mailbox("a", None), Command::Select, Class::Small, 1000).await.unwrap();
        client.run(mailbox("a", None), command, Class::Small, 1000).await.unwrap();
        assert_eq!(client.stats().logins, 2);
    }
}

/// Dovecot makes some mailboxes when they are first selected, and two connections may be at that.
#[tokio::test]
async fn a_mailbox_that_another_connection_makes_is_selected_once_more() {
    let refuse = |number: usize, tag: &str, command: &str| {
        let first = number == 0 && command.starts_with("SELECT");
        first.then(|| format!("{tag} NO [ALREADYEXISTS] Mailbox already exists\r\n"))
    };
    let (port, _) = server(|_| false, refuse).await;
    let client = client(port, 1).await.unwrap();
    assert_eq!(read(&client, "Drafts", 1, Class::Small).await.unwrap(), 1);
    client.run(mailbox("Sent", None), Command::Select, Class::Small, 1000).await.unwrap();
}

/// When a network goes, it may take the next connection with it, before its greeting or in its login.
#[tokio::test]
async fn one_more_that_is_lost_right_after_another_does_not_mean_that_the_server_is_away() {
    for early in [true, false] {
        let lose = move |number, _: &str, command: &str| {
            let now = number == 0 && command.contains("FETCH") || number == 1 && command.starts_with("LOGIN");
            now.then(|| "close".into())
        };
        let (port, _) = server(move |number| early && number == 1, lose).await;
        let client = client(port, 1).await.unwrap();
        assert_eq!(read(&client, "INBOX", 1, Class::Small).await.unwrap(), 1);
        assert_eq!(client.stats().logins, 2);
    }
}

/// What SELECT made worth asking is asked where it was told, and nowhere else when that connection is gone.
#[tokio::test]
async fn a_question_about_what_select_told_goes_to_the_connection_that_told_it() {
    // A FETCH of UID 7 loses its connection.
    let lose = |_, _: &str, command: &str| command.contains("FETCH 7 ").then(|| "close".into());
    let (port, heard) = server(|_| false, lose).await;
    let client = client(port, 3).await.unwrap();
    let mut last = None;
    for class in [Class::Bulk, Class::Small, Class::Small, Class::Bulk, Class::Small] {
        // Other connections with the same mailbox, and work on them.
        read(&client, "INBOX", 1, class).await.unwrap();
        let (_, done) = client.run(mailbox("INBOX", None), Command::Select, Class::Small, 1000).await.unwrap();
        let here = client.on(&done.selected.unwrap());
        let number = |what: &str| heard.lock().unwrap().iter().rfind(|(_, command)| command.contains(what)).unwrap().0;
        let told = number("SELECT");
        let others: Vec<_> =
            (20..60).map(|uid| client.send(mailbox("INBOX", None), fetch(&[uid], &[]), class, 1000)).collect();
        read(&here, "INBOX", 9, Class::Small).await.unwrap();
        drop(others);
        assert_eq!(number("FETCH 9 "), told);
        last = Some(here);
    }
    let here = last.unwrap();
    assert!(matches!(read(&here, "INBOX", 7, Class::Small).await, Err(Error::Offline(_))));
    assert!(matches!(read(&here, "INBOX", 9, Class::Small).await, Err(Error::Offline(_))));
    assert_eq!(read(&client, "INBOX", 9, Class::Small).await.unwrap(), 1);
    assert_eq!(heard.lock().unwrap().iter().filter(|(_, command)| command.contains("FETCH 7 ")).count(), 1);
}

#[tokio::test]
async fn while_the_server_is_away_everything_fails_at_once_and_it_is_found_again() {
    let up = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (is_up, lose) = (Arc::clone(&up), Arc::clone(&up));
    let (port, _) = server(
        move |_| !is_up.load(Ordering::SeqCst),
        move |_, _, command| (command == "NOOP" && !lose.load(Ordering::SeqCst)).then(|| "close".into()),
    )
    .await;
    let client = client(port, 4).await.unwrap();
    assert_eq!(read(&client, "INBOX", 1, Class::Small).await.unwrap(), 1);
    up.store(false, Ordering::SeqCst);
    let noop = || client.run(Target::Account, Command::Noop, Class::Small, 1000);
    // Each connection that is still open is lost in its turn.
    while noop().await.is_ok() || client.stats().connections > 0 {}
    let start = Instant::now();
    for _ in 0..100 {
        assert!(matches!(noop().await, Err(Error::Offline(_))));
    }
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    up.store(true, Ordering::SeqCst);
    let found = async {
        while noop().await.is_err() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(5), found).await.expect("the server is found again");
}

#[tokio::test]
async fn a_wrong_password_is_the_answer_of_connect() {
    let refuse = |_, tag: &str, command: &str| {
        command.starts_with("LOGIN").then(|| format!("{tag} NO [AUTHENTICATIONFAILED] no\r\n"))
    };
    let (port, _) = server(|_| false, refuse).await;
    assert!(matches!(client(port, 4).await, Err(Error::Auth(_))));
    let (port, _) = server(|_| true, |_, _, _| None).await;
    assert!(matches!(client(port, 4).await, Err(Error::Busy(_))));
}

/// How many times a change reaches a server that closes the first connection when it has heard it, and how it ends.
async fn lost_once(target: Target, command: Command, verb: &'static str) -> (usize, Result<Done>) {
    let lose = move |number, _: &str, command: &str| (number == 0 && command.contains(verb)).then(|| "close".into());
    let (port, heard) = server(|_| false, lose).await;
    let client = client(port, 1).await.unwrap();
    let end = client.run(target, command, Class::Small, 1 << 20).await.map(|(_, done)| done);
    let times = heard.lock().unwrap().iter().filter(|(_, c)| c.contains(verb)).count();
    (times, end)
}

#[tokio::test]
async fn only_a_change_with_the_same_outcome_twice_is_sent_again() {
    let name = || MailboxName::new(b"a");
    let store = || Command::Store { uids: uids("1"), set: true, flags: vec!["\\Seen".into()], unchanged_since: None };
    let append = Command::Append { to: name(), messages: vec![upload(b"x", &[], None)] };
    for (target, command, verb, again) in [
        (mailbox("INBOX", 9), store(), "STORE", true),
        (mailbox("INBOX", None), store(), "STORE", false),
        (Target::Account, Command::Subscribe(name(), true), "SUBSCRIBE", true),
        (mailbox("INBOX", 9), Command::Copy { uids: uids("1"), to: name() }, "COPY", false),
        (Target::Account, append, "APPEND", false),
        (Target::Account, Command::Create(name()), "CREATE", false),
        (Target::Account, Command::Delete(name()), "DELETE", false),
        (Target::Account, Command::Rename(name(), MailboxName::new(b"b")), "RENAME", false),
        // Lost before it was sent, it is sent where it can be.
        (mailbox("INBOX", 9), Command::Copy { uids: uids("1"), to: name() }, "SELECT", true),
    ] {
        let (times, end) = lost_once(target, command, verb).await;
        assert_eq!((times, end.is_ok()), (1 + usize::from(again), again), "{verb}: {end:?}");
        assert!(again || matches!(&end, Err(Error::Uncertain(why)) if !why.contains("unknown")), "{verb}: {end:?}");
    }
}

/// What was sent once is not known to be undone because it could not be sent again.
#[tokio::test]
async fn a_repeated_change_that_finds_no_server_is_in_doubt() {
    let lose = |_, _: &str, command: &str| command.contains("SUBSCRIBE").then(|| "close".into());
    for refuse in [false, true] {
        let (port, _) = server(move |number| refuse && number > 0, lose).await;
        let client = client(port, 1).await.unwrap();
        let subscribe = Command::Subscribe(MailboxName::new(b"a"), true);
        let end = client.run(Target::Account, subscribe, Class::Small, 1 << 20).await;
        assert!(matches!(end, Err(Error::Uncertain(_))), "{end:?}");
    }
}

/// Courier refuses to end the subscription that the first of the two ended: that is no failure.
#[tokio::test]
async fn a_repeated_change_that_is_refused_is_in_doubt() {
    let refuse = |number: usize, tag: &str, command: &str| {
        let told = if number == 0 { "close".into() } else { format!("{tag} NO Folder must be subscribed\r\n") };
        command.starts_with("UNSUBSCRIBE").then_some(told)
    };
    let (port, _) = server(|_| false, refuse).await;
    let client = client(port, 1).await.unwrap();
    let command = Command::Subscribe(MailboxName::new(b"a"), false);
    let end = client.run(Target::Account, command, Class::Small, 1 << 20).await;
    assert!(matches!(end, Err(Error::Uncertain(_))), "{end:?}");
}

/// Who waits for a SELECT without an answer was not sent: its own, which nobody tries again, or that of the watching.
#[tokio::test]
async fn a_change_behind_a_select_without_an_answer_is_not_in_doubt() {
    let name = || MailboxName::new(b"b");
    let append = Command::Append { to: name(), messages: vec![upload(b"x", &[], None)] };
    for (target, command, watches) in [
        (mailbox("INBOX", 9), Command::Move { uids: uids("1"), to: name() }, false),
        (Target::Account, append, true),
        (Target::Account, Command::Create(name()), true),
    ] {
        let answer = |number: usize, tag: &str, command: &str| match command.split(' ').next() {
            Some("LOGIN") => Some(format!("{tag} OK [CAPABILITY IMAP4rev1 MOVE LITERAL+ IDLE] in\r\n")),
            Some("SELECT") if number == 0 => Some(String::new()),
            _ => None,
        };
        let (port, heard) = server(|_| false, answer).await;
        let mut options = options(port, Tls::None, Credentials::Password("s3cret".into()));
        (options.connections, options.timeout) = (1, Duration::from_secs(1));
        let client = Client::connect(options, mpsc::unbounded_channel().0).await.unwrap();
        if watches {
            client.watch(MailboxName::new(b"INBOX"));
            while !heard.lock().unwrap().iter().any(|(_, command)| command.starts_with("SELECT")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let done = client.run(target, command, Class::Small, 1 << 20);
        let end = tokio::time::timeout(Duration::from_secs(20), done).await.expect("it has an end");
        match end {
            Ok(_) => assert!(watches),
            Err(error) => assert!(!watches && matches!(error, Error::TimedOut(_)), "{error}"),
        }
        let heard = heard.lock().unwrap();
        assert!(watches || !heard.iter().any(|(_, command)| command.contains("MOVE")), "{heard:?}");
    }
}

#[tokio::test]
async fn no_connection_keeps_a_mailbox_whose_name_is_about_to_mean_another() {
    let (port, heard) = server(|_| false, |_, _, _| None).await;
    let client = client(port, 4).await.unwrap();
    for class in [Class::Small, Class::Bulk, Class::Small] {
        read(&client, "a/b", 1, class).await.unwrap();
        read(&client, "Other", 1, Class::Bulk).await.unwrap();
        read(&client, "a/b", 1, Class::Bulk).await.unwrap();
    }
    let open = client.stats().logins;
    heard.lock().unwrap().clear();
    let rename = Command::Rename(MailboxName::new(b"a"), MailboxName::new(b"c"));
    client.run(Target::Account, rename, Class::Small, 1 << 20).await.unwrap();
    for class in [Class::Small, Class::Bulk] {
        read(&client, "a/b", 1, class).await.unwrap();
    }
    // Each of them selects it anew, over the connection that it had.
    let heard = heard.lock().unwrap();
    let selects = heard.iter().filter(|(_, command)| command == "SELECT \"a/b\"").count();
    assert_eq!((selects, client.stats().logins), (2, open), "{heard:?}");
}

#[tokio::test]
async fn a_large_message_does_not_go_over_the_connection_for_what_is_small() {
    let (port, heard) = server(|_| false, |_, _, _| None).await;
    let client = client(port, 4).await.unwrap();
    for (class, first) in [(Class::Small, true), (Class::Bulk, false)] {
        let message = upload(b"x", &[], None);
        let append = Command::Append { to: MailboxName::new(b"a"), messages: vec![message] };
        heard.lock().unwrap().clear();
        let _ = client.run(Target::Account, append, class, 1 << 20).await;
        let heard = heard.lock().unwrap();
        let number = heard.iter().find(|(_, command)| command.starts_with("APPEND")).unwrap().0;
        assert_eq!(number == 0, first, "{heard:?}");
    }
}

#[tokio::test]
async fn the_watch_comes_back_by_itself_and_who_listens_is_told_that_it_was_lost() {
    let idle = |number: usize, tag: &str, command: &str| match command.split(' ').next() {
        Some("LOGIN") => Some(format!("{tag} OK [CAPABILITY IMAP4rev1 IDLE] in\r\n")),
        // The first two are lost in it.
        Some("IDLE") if number < 2 => Some("+ idling\r\n* 4 EXISTS\r\nclose".into()),
        Some("IDLE") => Some("+ idling\r\n* 5 EXISTS\r\n".into()),
        _ => None,
    };
    let (port, _) = server(|_| false, idle).await;
    let mut options = options(port, Tls::None, Credentials::Password("s3cret".into()));
    options.connections = 2;
    let (events, mut heard) = mpsc::unbounded_channel();
    let client = Client::connect(options, events).await.unwrap();
    client.watch(MailboxName::new(b"INBOX"));
    let mut lost = 0;
    let all = async {
        loop {
            match heard.recv().await.unwrap().data {
                Data::Status(..) => lost += 1,
                Data::Exists(5) => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("it comes back");
    assert_eq!((lost, client.stats().logins), (2, 3));
    assert!(client.last_error().is_some());
}

/// Connections that have gone dead without a sign, all at once: the first to be needed costs the time limit, and by then
/// the others have been found out as well.
#[tokio::test]
async fn those_that_died_with_another_are_found_out_at_once() {
    let dead = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_dead = Arc::clone(&dead);
    let silent =
        move |number: usize, _: &str, _: &str| (number < 3 && is_dead.load(Ordering::Relaxed)).then(String::new);
    let (port, heard) = server(|_| false, silent).await;
    let mut options = options(port, Tls::None, Credentials::Password("s3cret".into()));
    (options.connections, options.timeout) = (3, Duration::from_secs(1));
    let client = Client::connect(options, mpsc::unbounded_channel().0).await.unwrap();
    for class in [Class::Small, Class::Bulk] {
        assert_eq!(read(&client, "INBOX", 1, class).await.unwrap(), 1);
    }
    client.run(Target::Account, Command::Noop, Class::Small, 1000).await.unwrap();
    assert_eq!(client.stats().connections, 3);
    dead.store(true, Ordering::Relaxed);
    heard.lock().unwrap().clear();
    assert!(matches!(read(&client, "INBOX", 2, Class::Small).await, Err(Error::TimedOut(_))));
    // The time limit, and not the twenty seconds that two of them one after the other would take.
    let all = async {
        while client.stats().connections > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), all).await.expect("they are given up");
    let mut probed: Vec<usize> = heard.lock().unwrap().iter().filter(|(_, c)| c == "NOOP").map(|(n, _)| *n).collect();
    probed.sort_unstable();
    assert_eq!(probed.len(), 2, "{probed:?}");
    for class in [Class::Small, Class::Bulk] {
        assert_eq!(read(&client, "INBOX", 3, class).await.unwrap(), 1);
    }
}

/// The end of a large part, which the server reads it for, and what is small hold up each other on no connection.
#[tokio::test]
async fn small_reads_do_not_wait_for_deep_ones_nor_these_for_them() {
    for deep_first in [true, false] {
        // A server that is at it answers nothing behind it.
        let at_it = AtomicUsize::new(usize::MAX);
        let silent = move |number: usize, _: &str, command: &str| {
            if command.contains("FETCH 1000 ") {
                at_it.store(number, Ordering::Relaxed);
            }
            (at_it.load(Ordering::Relaxed) == number).then(String::new)
        };
        let (port, _) = server(|_| false, silent).await;
        let client = client(port, 3).await.unwrap();
        while client.stats().connections < 3 {
            read(&client, "INBOX", 1, Class::Small).await.unwrap();
        }
        let ask = |uid: u32, deep: bool| {
            let range = deep.then_some((1 << 20, 4096));
            let command = fetch(&[uid], &[FetchItem::Body(Section::part(&[1]), range)]);
            client.send(mailbox("INBOX", None), command, Class::Small, 1 << 20)
        };
        let _stuck = ask(1000, deep_first);
        for uid in 1..=20 {
            let read = tokio::time::timeout(Duration::from_secs(10), gather(ask(uid, !deep_first)));
            read.await.expect("it waits for none of the others").1.unwrap();
        }
    }
}
