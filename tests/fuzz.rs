//! Thousands of sessions with a server that goes wrong: nothing panics, nothing hangs, nothing false is read.
//!
//! `IMAPFS_FUZZ_SESSIONS` sets how many there are, `IMAPFS_FUZZ_SEED` where to begin: a failure names its seed.

#![allow(clippy::unwrap_used)]

mod scripted;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use scripted::walk::{Mounted, Seen, options};
use scripted::{Asked, Piece, Reply, Response, Scripted, honest, line, mailboxes, octets};

const SESSIONS: u64 = 1500;
/// At a time: most of a session is waiting.
const PARALLEL: usize = 16;
/// Silence that the client bears.
const TIMEOUT: Duration = Duration::from_millis(100);
/// A session that is not over after this hangs.
const HANG: Duration = Duration::from_secs(30);

/// A small generator, so that a seed is a session (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Lines that no one asked for.
const GARBAGE: [&str; 24] = [
    "",
    "* ",
    "*",
    "+ go on",
    "* OK [ALERT] \u{e9}",
    "* BAD [PARSE",
    "* 0 EXPUNGE",
    "* 1 EXPUNGE",
    "* 4294967296 EXISTS",
    "* 0 EXISTS",
    "* VANISHED 1:4294967295",
    "* SEARCH 0 1 18446744073709551616",
    "* LIST () NIL INBOX/INBOX",
    "* LIST (\\Noselect) \"\\\\\" \"..\"",
    "* STATUS INBOX (MESSAGES 18446744073709551615)",
    "* 1 FETCH (UID 1 FLAGS (\\Seen \\Seen",
    "* 1 FETCH (UID 1 BODY[] NIL)",
    "* 2 FETCH (UID 2 BODY[1]<0> \"made up\")",
    "* 1 FETCH (UID 0 RFC822.SIZE -1)",
    "* 1 FETCH (UID 5 BODY[] {10}\r\n0123456789)",
    "* OK [UIDVALIDITY 0] none",
    "* OK [UIDNEXT 0] none",
    "* NO [UNAVAILABLE] later",
    "* ESEARCH (TAG \"x\") UID ALL 1:4294967295",
];

const HUGE: [&str; 8] = [
    "* 1 FETCH (UID 1 BODY[] {500000000}\r\n",
    "* 1 FETCH (UID 1 BODY[] {99999999999999999999}\r\n",
    "* 1 FETCH (UID 2 BODY[1] {4294967295}\r\n",
    "* LIST () \"/\" {18446744073709551615}\r\n",
    "* 1 FETCH (UID 1 BODY[] {-1}\r\n",
    "* 1 FETCH (UID 1 BODY[] {}\r\n",
    "* 1 FETCH (UID 1 BODY[] ~{500000000}\r\n",
    "* OK {500000000}\r\n",
];

/// One wrong answer, of this kind.
fn wrong(kind: usize, random: &mut Random, asked: &Asked<'_>, mut said: Vec<Response>) -> Reply {
    let at = random.below(said.len());
    match kind {
        0 => {
            let mut octets = octets(&said);
            octets.truncate(random.below(octets.len() + 1));
            return if random.below(4) == 0 { Reply::Hang(octets) } else { Reply::Close(octets) };
        }
        1 => said.insert(at, line(random.pick(&GARBAGE))),
        2 => said.insert(at, said[at].clone()),
        3 => {
            for n in (1..said.len()).rev() {
                said.swap(n, random.below(n + 1));
            }
        }
        4 => said.insert(at, vec![Piece::Text(random.pick(&HUGE).into())]),
        5 => {
            let depth = random.pick(&[&400, &100_000]);
            let before =
                random.pick(&["* 1 FETCH (UID 1 BODYSTRUCTURE ", "* 2 FETCH (UID 2 ENVELOPE ", "* LIST ", "* XX "]);
            let close = if random.below(2) == 0 { ")".repeat(*depth) } else { String::new() };
            said.insert(at, line(format!("{before}{}{close}", "(".repeat(*depth))));
        }
        6 => {
            said.insert(at, line("* BYE enough"));
            return Reply::Close(octets(&said));
        }
        7 => said = said.split_off(said.len() - 1),
        8 => {
            let last = said.len() - 1;
            said[last] = line(random.pick(&["T999 OK done", "a OK", "T1 OK again", "A0001 OK done", "S1 OK"]));
        }
        9 => {
            let status = random.pick(&["NO", "BAD", "NO [UNAVAILABLE]", "NO [LIMIT]", "NO [INUSE]", "PREAUTH", "BYE"]);
            let last = said.len() - 1;
            said[last] = line(format!("{} {status} refused", asked.tag));
        }
        10 => {
            let text = random.pick(&["x", "* OK x", "* 1 FETCH (UID 1 ", "{", "\0"]).repeat(4096);
            return Reply::Endless(text.into_bytes(), 4 << 20);
        }
        11 => replace(random, &mut said, &[("BODY[", "BODY[9."), ("BODY[", "BODY[1."), (">", "1>"), ("]", "]<7>")]),
        12 => replace(random, &mut said, &[("UID 1", "UID 2"), ("UID 2", "UID 5"), ("UID ", "UID 9"), ("UID", "XID")]),
        13 => {
            // A literal that is longer or shorter than it was said to be.
            let by = 1 + random.below(20);
            if let Some(Piece::Literal(octets)) = said[at].iter_mut().find(|piece| matches!(piece, Piece::Literal(_))) {
                match random.below(2) {
                    0 => octets.truncate(octets.len().saturating_sub(by)),
                    _ => octets.extend(vec![b'x'; by]),
                }
            }
        }
        14 => {
            let mut octets = octets(&said);
            for _ in 0..=random.below(8) {
                let at = random.below(octets.len());
                octets[at] = random.next() as u8;
            }
            return Reply::Send(octets);
        }
        15 => {
            for piece in said.iter_mut().flatten() {
                if let Piece::Text(octets) = piece {
                    let at = random.below(octets.len());
                    octets[at] = random.pick(&[b"\0", b"(", b")", b"\"", b"{", b"\\", b"\n", b"\r", b"\xff", b" "])[0];
                }
            }
        }
        _ => change_numbers(random, &mut said),
    }
    Reply::Send(octets(&said))
}

/// Wrong answers of these kinds say nothing false: what is shown at all is the truth, listings too.
const SILENT: &[usize] = &[0, 6, 8, 9, 10];
/// With these the octets of whole messages are the truth, if they are shown.
const TRUE: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
const ALL: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn replace(random: &mut Random, said: &mut [Response], choices: &[(&str, &str)]) {
    let (from, to) = choices[random.below(choices.len())];
    for piece in said.iter_mut().flatten() {
        if let Piece::Text(octets) = piece {
            *octets = String::from_utf8_lossy(octets).replacen(from, to, 1).into_bytes();
        }
    }
}

/// Puts another number in the place of one.
fn change_numbers(random: &mut Random, said: &mut [Response]) {
    let number = random.pick(&["0", "1", "2", "4294967295", "4294967296", "18446744073709551616", "-1", "007", ""]);
    for piece in said.iter_mut().flatten() {
        let Piece::Text(octets) = piece else { continue };
        let starts = octets.iter().enumerate().filter(|(at, byte)| {
            byte.is_ascii_digit() && !at.checked_sub(1).is_some_and(|before| octets[before].is_ascii_digit())
        });
        let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
        if starts.is_empty() {
            continue;
        }
        let start = starts[random.below(starts.len())];
        let end = octets[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(octets.len(), |n| start + n);
        octets.splice(start..end, number.bytes());
    }
}

/// One session: a server with up to three wrong answers, a client that looks at everything twice. How many of them
/// were given, and whether something was an error.
async fn session(seed: u64, truth: &Seen) -> (u64, bool) {
    let mut random = Random(seed);
    let kinds = random.pick(&[SILENT, TRUE, ALL]);
    // A login takes some five answers, a walk some forty.
    let left = AtomicU64::new(1 + random.below(3) as u64);
    let most = if random.below(3) == 0 { 8 } else { 60 };
    let wait = AtomicUsize::new(random.below(most));
    let connections = 1 + random.below(4);
    let given = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&given);
    let random = Mutex::new(random);
    let server = Scripted::new(mailboxes(), move |asked, said| {
        if wait.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
            || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err()
        {
            return honest(asked, said);
        }
        told.fetch_add(1, Ordering::SeqCst);
        let mut random = random.lock().unwrap();
        wait.store(random.below(10), Ordering::SeqCst);
        let kind = kinds[random.below(kinds.len())];
        wrong(kind, &mut random, asked, said)
    });
    let Ok(mounted) = Mounted::new(options(server.port, "bob", connections, TIMEOUT)).await else {
        return (given.load(Ordering::SeqCst), true);
    };
    let mut failed = false;
    for _ in 0..2 {
        let seen = mounted.walk().await;
        failed |= !seen.errors().is_empty();
        if kinds == SILENT {
            for (path, listed) in seen.directories.iter().filter(|(_, listed)| listed.is_ok()) {
                assert!(truth.directories.get(path) == Some(listed), "seed {seed}: {path} holds {listed:?}");
            }
            for (path, read) in seen.files.iter().filter(|(_, read)| read.is_ok()) {
                assert!(truth.files.get(path) == Some(read), "seed {seed}: {path} is another file");
            }
        }
        for (path, read) in &seen.files {
            let (Some(message), Ok(read)) = (path.strip_suffix("/message.eml"), read) else { continue };
            let (mailbox, name) = message[1..].split_once('/').unwrap_or_default();
            let uid = name.rsplit('.').next().and_then(|uid| uid.parse().ok()).unwrap_or(0);
            // What is attached has a message.eml as well, of its own.
            if kinds != ALL && !name.contains('/') {
                assert!(
                    Some(read.as_slice()) == server.message(mailbox, uid),
                    "seed {seed}: {path} is another message"
                );
            }
        }
    }
    mounted.client.close().await;
    (given.load(Ordering::SeqCst), failed)
}

/// What an honest server shows.
async fn honest_session() -> Seen {
    let server = Scripted::new(mailboxes(), honest);
    let mounted = Mounted::new(options(server.port, "bob", 2, Duration::from_secs(10))).await.unwrap();
    let seen = mounted.walk().await;
    mounted.client.close().await;
    seen
}

#[tokio::test]
async fn an_honest_session_shows_everything() {
    let seen = honest_session().await;
    assert_eq!(seen.errors(), []);
    assert_eq!((seen.directories.len(), seen.files.len()), (8, 17), "{:?}", seen.files.keys());
    for (name, mailbox) in mailboxes() {
        for message in mailbox.messages {
            let suffix = format!(".{}/message.eml", message.uid);
            let raw =
                seen.files.iter().find(|(path, _)| path.starts_with(&format!("/{name}/")) && path.ends_with(&suffix));
            assert!(raw.unwrap().1.as_deref() == Ok(&message.bytes));
        }
    }
}

#[test]
fn no_server_makes_the_client_panic_hang_or_tell_lies() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let sessions = number("IMAPFS_FUZZ_SESSIONS").unwrap_or(SESSIONS);
    let first = number("IMAPFS_FUZZ_SEED").unwrap_or(1);
    // A panic of a task only drops what it was to answer, so it is looked for here.
    let panics = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |info| seen.lock().unwrap().push(info.to_string())));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let begin = Instant::now();
    let outcomes = runtime.block_on(async {
        let truth = Arc::new(honest_session().await);
        let one = |seed| {
            let truth = Arc::clone(&truth);
            let session = tokio::spawn(async move { session(seed, &truth).await });
            async move { (seed, tokio::time::timeout(HANG, session).await) }
        };
        let all = futures::stream::iter(first..first + sessions).map(one).buffer_unordered(PARALLEL);
        all.collect::<Vec<_>>().await
    });
    let _ = std::panic::take_hook();
    let panics = panics.lock().unwrap().clone();
    let bad: Vec<u64> =
        outcomes.iter().filter(|(_, outcome)| !matches!(outcome, Ok(Ok(_)))).map(|(seed, _)| *seed).collect();
    let good = || outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()?.as_ref().ok());
    let (wrong, failed) = (good().map(|o| o.0).sum::<u64>(), good().filter(|o| o.1).count());
    println!("{sessions} sessions, {wrong} wrong answers, {failed} with errors, {:?}, {} kB", begin.elapsed(), peak());
    assert!(panics.is_empty() && bad.is_empty(), "seeds {bad:?}; panics:\n{}", panics.join("\n"));
    // The test does what it says.
    assert!(sessions < 100 || (wrong > sessions && failed > 0 && (failed as u64) < sessions));
    assert!(peak() < 400 << 10, "{} kB", peak());
}

/// Peak resident memory of this process, in kB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
