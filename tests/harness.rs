//! The tests' own tools: servers, the judge, the proxy and the corpus do what the other tests take for granted.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use common::imap::{Imap, quote};
use common::proxy::{Action, Dir, Fault, Proxy, When};
use common::{Server, corpus};

#[test]
fn the_corpus_is_large_and_the_same_every_time() {
    let messages = corpus::messages();
    let real = corpus::real();
    let names: HashSet<&str> = messages.iter().chain(&real).map(|message| message.name.as_str()).collect();
    assert_eq!(names.len(), messages.len() + real.len(), "a name is there twice");
    assert!(messages.len() >= 210, "only {}", messages.len());
    assert!(real.len() >= 50, "only {}", real.len());
    let again = corpus::messages();
    assert!(messages.iter().zip(&again).all(|(one, other)| one.bytes == other.bytes));
}

/// Appends the whole corpus and reads it back; only what is known to be altered may differ.
fn corpus_comes_back(server: &Server) {
    let account = server.account();
    let mut imap = account.imap();
    let mailbox = account.wire_name("Corpus");
    imap.create(&mailbox).unwrap();
    let messages = [corpus::messages(), corpus::real()].concat();
    let uids = corpus::append(&mut imap, &mailbox, &messages);
    let taken = uids.iter().filter(|uid| uid.is_ok()).count();
    assert_eq!(imap.select(&mailbox).unwrap() as usize, taken);
    let bodies = imap.bodies("1:*").unwrap();
    let mut unexpected = Vec::new();
    for (message, uid) in messages.iter().zip(&uids) {
        let outcome = match uid {
            Err(error) => format!("refused: {}", error.rsplit(": ").next().unwrap_or("")),
            Ok(uid) => {
                let body = &bodies[uid];
                assert_eq!(imap.size(*uid).unwrap(), Some(body.len() as u64), "RFC822.SIZE of {}", message.name);
                if *body == message.bytes { continue } else { "changed".to_owned() }
            }
        };
        println!("{}: {} {outcome}", server.name, message.name);
        if !message.altered {
            unexpected.push((message.name.clone(), outcome));
        }
    }
    assert!(unexpected.is_empty(), "{}: {unexpected:?}", server.name);
    assert!(taken > messages.len() - 10);
}

#[test]
fn dovecot_gives_the_corpus_back() {
    corpus_comes_back(Server::dovecot());
}

#[test]
fn cyrus_gives_the_corpus_back() {
    corpus_comes_back(Server::cyrus());
}

/// Courier takes everything; it adds a line end where the last one is missing, and the like.
#[test]
fn courier_gives_most_of_the_corpus_back() {
    let account = Server::courier().account();
    let mut imap = account.imap();
    let messages = corpus::messages();
    let uids = corpus::append(&mut imap, "INBOX", &messages);
    imap.select("INBOX").unwrap();
    let bodies = imap.bodies("1:*").unwrap();
    let same =
        messages.iter().zip(&uids).filter(|(message, uid)| bodies[uid.as_ref().unwrap()] == message.bytes).count();
    assert!(same > messages.len() - 20, "{same} of {}", messages.len());
}

#[test]
fn a_server_of_ones_own_ends_when_it_is_dropped() {
    let server =
        Server::start("dovecot", &[("DOVECOT_FORMAT", "sdbox"), ("DOVECOT_PREFIX", "INBOX."), ("DOVECOT_SEP", ".")]);
    let mut imap = server.alice().imap();
    let list = imap.ok("LIST \"\" \"*\"").unwrap();
    assert!(list.untagged.iter().any(|line| line.text.contains("\".\" INBOX.Trash")), "{:?}", list.untagged);
    let (port, dir) = (server.port, server.dir.clone());
    drop(server);
    assert!(Imap::connect(port).is_err());
    assert!(!dir.exists());
}

#[test]
fn accounts_see_nothing_of_each_other() {
    let server = Server::dovecot();
    let (one, other) = (server.account(), server.account());
    assert_ne!(one.user, other.user);
    one.imap().append("INBOX", b"Subject: mine\r\n\r\nx\r\n", "", None).unwrap();
    assert_eq!(one.imap().select("INBOX").unwrap(), 1);
    assert_eq!(other.imap().select("INBOX").unwrap(), 0);
    assert!(Imap::login(server.port, "alice", "wrong").is_err());
}

#[test]
fn the_judge_reads_flags_dates_and_literals() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    let text = b"Subject: {5}\r\n\r\n* 1 FETCH (UID 9)\r\n";
    let uid = imap.append("INBOX", text, r"\Flagged Key", Some("05-Mar-2024 10:00:00 +0100")).unwrap();
    imap.select("INBOX").unwrap();
    assert_eq!(imap.body(uid, "").unwrap().unwrap(), text);
    let flags = imap.flags(uid).unwrap().unwrap();
    assert!(flags.contains(&"Key".to_owned()) && flags.contains(&r"\Flagged".to_owned()), "{flags:?}");
    assert!(!flags.contains(&r"\Seen".to_owned()), "reading with PEEK marks nothing: {flags:?}");
    assert_eq!(imap.search("FLAGGED").unwrap(), [uid]);
    assert_eq!(imap.status("INBOX", "UIDNEXT").unwrap(), Some(u64::from(uid) + 1));
    assert_eq!(imap.flags(999).unwrap(), None);
    imap.logout().unwrap();
}

#[test]
fn delay_costs_latency_and_not_throughput() {
    let account = Server::dovecot().account();
    let mut direct = account.imap();
    let message = corpus::big(4 << 20);
    let uid = direct.append("INBOX", &message.bytes, "", None).unwrap();
    let proxy = Proxy::new(account.port).delay(Duration::from_millis(25));
    let start = Instant::now();
    let mut imap = Imap::login(proxy.port(), &account.user, &account.password).unwrap();
    // Two round trips to connect and greet, one to log in.
    assert!(start.elapsed() >= Duration::from_millis(145), "{:?}", start.elapsed());
    imap.select("INBOX").unwrap();
    proxy.reset();
    let start = Instant::now();
    assert_eq!(imap.body(uid, "").unwrap().unwrap(), message.bytes);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(50) && took < Duration::from_millis(1500), "{took:?}");
    let stats = proxy.stats();
    // Where the counts were set to 0 after the answer before, and before its flight was over, there is none.
    assert!(stats.flights <= 1, "{stats:?}");
    assert_eq!((stats.round_trips, stats.lines_up), (1, 1));
    assert!(stats.bytes_down > 4 << 20);
    // Pipelined commands share their round trips.
    proxy.reset();
    let tags: Vec<String> = (0..10).map(|_| imap.send("NOOP").unwrap()).collect();
    tags.iter().for_each(|tag| assert!(imap.answer(tag).unwrap().is_ok()));
    assert_eq!(proxy.stats().round_trips, 1);
    proxy.reset();
    (0..3).for_each(|_| assert!(imap.command("NOOP").unwrap().is_ok()));
    let stats = proxy.stats();
    assert_eq!((stats.round_trips, stats.lines_up, stats.lines_down), (3, 3, 3));
}

#[test]
fn bandwidth_is_limited() {
    let account = Server::dovecot().account();
    let mut direct = account.imap();
    let uid = direct.append("INBOX", &corpus::big(400_000).bytes, "", None).unwrap();
    let proxy = Proxy::new(account.port).bandwidth(1_000_000);
    let mut imap = Imap::login(proxy.port(), &account.user, &account.password).unwrap();
    imap.select("INBOX").unwrap();
    let start = Instant::now();
    imap.body(uid, "").unwrap().unwrap();
    let took = start.elapsed();
    assert!(took > Duration::from_millis(350) && took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn all_connections_share_a_line() {
    let account = Server::dovecot().account();
    let uid = account.imap().append("INBOX", &corpus::big(200_000).bytes, "", None).unwrap();
    let proxy = Proxy::new(account.port).line(1_000_000);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut imap = Imap::login(proxy.port(), &account.user, &account.password).unwrap();
                imap.select("INBOX").unwrap();
                imap.body(uid, "").unwrap().unwrap();
            });
        }
    });
    let took = start.elapsed();
    assert!(took > Duration::from_millis(350) && took < Duration::from_millis(1500), "{took:?}");
}

/// Logs in through a proxy with this fault, sends two commands; says how far it came and what failed.
fn through_fault(fault: Fault) -> (usize, Option<std::io::ErrorKind>) {
    let account = Server::dovecot().account();
    let proxy = Proxy::new(account.port).fault(fault);
    let run = |done: &mut usize| -> std::io::Result<()> {
        let mut imap = Imap::connect(proxy.port())?;
        *done += 1;
        imap.ok(&format!("LOGIN {} {}", quote(&account.user), quote(&account.password)))?;
        *done += 1;
        imap.ok("SELECT INBOX")?;
        *done += 1;
        imap.ok("NOOP")?;
        *done += 1;
        Ok(())
    };
    let mut done = 0;
    let error = run(&mut done).err().map(|error| error.kind());
    (done, error)
}

#[test]
fn faults_fire_where_they_are_put() {
    use std::io::ErrorKind::{ConnectionReset, Other, UnexpectedEof};
    let cases = [
        (Fault::down(When::Bytes(10), Action::Fin), (0, Some(UnexpectedEof))),
        (Fault::down(When::Lines(1), Action::Rst), (1, Some(ConnectionReset))),
        (Fault::up(When::Lines(1), Action::Fin), (1, Some(UnexpectedEof))),
        (Fault::down(Fault::before("UIDNEXT"), Action::Fin), (2, Some(UnexpectedEof))),
        (Fault::down(Fault::after("UIDNEXT"), Action::Rst), (2, Some(ConnectionReset))),
        (Fault::up(Fault::after("NOOP\r\n"), Action::HalfClose), (4, None)),
        (Fault::down(Fault::after("NOOP"), Action::Fin).on(2..=3), (4, None)),
        (Fault::up(Fault::before("SELECT"), Action::Inject(b"x1 FOO\r\n".to_vec())), (4, None)),
        (Fault::down(Fault::before("j2 OK"), Action::Inject(b"j2 NO [LIMIT] injected\r\n".to_vec())), (2, Some(Other))),
        (Fault::down(Fault::before("j2 OK"), Action::Stall(Duration::from_millis(50))), (4, None)),
    ];
    for (fault, expected) in cases {
        assert_eq!(through_fault(fault.clone()), expected, "{fault:?}");
    }
}

#[test]
fn a_black_hole_is_silent_and_stays_open() {
    use std::io::Read;
    let account = Server::dovecot().account();
    let proxy = Proxy::new(account.port).fault(Fault::down(When::Bytes(5), Action::Blackhole));
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut five = [0; 5];
    stream.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"* OK ");
    assert_eq!(stream.read(&mut five).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!((proxy.open(), proxy.stats().faults), (1, 1));
    proxy.strike(Action::Fin);
    assert_eq!(stream.read(&mut five).unwrap(), 0);
}

#[test]
fn connecting_can_be_refused_for_a_while() {
    let account = Server::dovecot().account();
    let proxy = Proxy::new(account.port).recording();
    let mut open = Imap::login(proxy.port(), &account.user, &account.password).unwrap();
    proxy.refuse(true);
    assert_eq!(Imap::connect(proxy.port()).err().unwrap().kind(), std::io::ErrorKind::ConnectionRefused);
    open.ok("NOOP").unwrap();
    proxy.refuse(false);
    Imap::connect(proxy.port()).unwrap();
    let sent: Vec<String> = proxy.transcript().into_iter().filter(|l| l.dir == Dir::Up).map(|l| l.text).collect();
    assert_eq!(sent[1], "j2 NOOP");
    assert_eq!(proxy.stats().connections, 2);
}
