//! The connection is cut at every step of a change that is made through a mount: before and after each command and each
//! line of its answers. Then another client looks: no message is lost or doubled, what was said to be done is done, and
//! what others marked is still there.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::corpus::build;
use common::faults::{Action, Fault, When};
use common::proxy::{Dir, Proxy};
use common::{Account, Imap, Mount, Security, Server, wait_for};

/// Lines that are sent before the first command of an operation: log-in, capabilities and the like.
const OPERATION: [&str; 6] = ["SELECT", "APPEND", "RENAME", "UID ", "LIST", "STATUS"];

/// Messages or mailboxes that an operation is tried on, one after the other.
const TRIES: usize = 64;

/// From a cut until the server is asked again.
const RECOVERY: Duration = Duration::from_secs(20);

/// A change. How often its message is then in the first mailbox, in the second, and written anew.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Move,
    Copy,
    Append,
    Remove,
    Rename,
    Replace,
}

type Counts = [usize; 3];

const OPS: [Op; 6] = [Op::Move, Op::Copy, Op::Append, Op::Remove, Op::Rename, Op::Replace];

impl Op {
    /// On how many it is tried: the rename of a mailbox costs Courier two seconds.
    fn tries(self) -> usize {
        if self == Op::Rename { 12 } else { TRIES }
    }

    fn done(self) -> Counts {
        match self {
            Op::Move | Op::Rename => [0, 1, 0],
            Op::Copy => [1, 1, 0],
            Op::Append => [1, 0, 1],
            Op::Remove => [0, 0, 0],
            Op::Replace => [0, 0, 1],
        }
    }
}

fn letter(subject: &str) -> Vec<u8> {
    build::message(subject, subject, &[], b"Some lines\r\nof text.\r\n")
}

/// An account, a mount of it through a proxy, and another client.
struct Case {
    op: Op,
    account: Account,
    proxy: Proxy,
    judge: Imap,
    mount: Mount,
}

impl Case {
    fn new(server: &Server, op: Op) -> Case {
        let account = server.account();
        let mut judge = account.imap();
        // A copy is not to have the UID of its original, and so the same name.
        for _ in 0..10 {
            judge.append("INBOX", &letter("theirs"), "\\Deleted", None).unwrap();
        }
        for n in 0..op.tries() {
            let mailbox = if op == Op::Rename { account.wire_name(&format!("a{n}")) } else { "INBOX".to_owned() };
            if op == Op::Rename {
                judge.create(&mailbox).unwrap();
            }
            judge.append(&mailbox, &letter(&format!("old{n}z")), "", None).unwrap();
        }
        judge.create(&account.wire_name("Other")).unwrap();
        let proxy = Proxy::new(account.port).recording();
        let args = ["--no-compress", "--connections", "1", "--delete", "expunge", "--timeout", "5"];
        let mount = Mount::new(&account.through(&proxy).with(Security::None), &args);
        Case { op, account, proxy, judge, mount }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.mount.join(self.account.path_name(path))
    }

    /// The message's directory.
    fn old(&self, n: usize) -> PathBuf {
        let name = format!("_old{n}z.");
        let mut names = fs::read_dir(self.at("INBOX")).unwrap().map(|entry| entry.unwrap().path());
        names.find(|path| path.to_str().unwrap().contains(&name)).unwrap()
    }

    /// Does it, to what `prepare` found.
    fn run(&self, n: usize, old: &Path) -> io::Result<()> {
        let write = |to: PathBuf, from: &mut dyn io::Read| {
            let mut file = File::create(to)?;
            io::copy(from, &mut file)?;
            file.sync_all()
        };
        let new = letter(&format!("new{n}z"));
        match self.op {
            Op::Move => fs::rename(old, self.at("Other").join(old.file_name().unwrap())),
            Op::Copy => {
                let mut from = File::open(old.join("message.eml"))?;
                let mut file = File::create(self.at("Other").join(format!("{n}.eml")))?;
                io::copy(&mut from, &mut file)?;
                file.sync_all()
            }
            Op::Append => write(self.at("Other").join(format!("{n}.eml")), &mut &new[..]),
            Op::Remove => fs::remove_dir(old),
            Op::Rename => fs::rename(self.at(&format!("a{n}")), self.at(&format!("b{n}"))),
            Op::Replace => write(old.join("message.eml"), &mut &new[..]),
        }
    }

    /// Waits until the server is there: after several cuts in a row there is a pause.
    fn recover(&self) {
        static PROBES: AtomicU32 = AtomicU32::new(1_000_000);
        let probe = || {
            let name = format!("2024-03-05T0900_a_b.{}", PROBES.fetch_add(1, Relaxed));
            let found = fs::metadata(self.at("INBOX").join(name)).unwrap_err();
            (found.kind() == io::ErrorKind::NotFound && fs::read_dir(self.at("Other")).is_ok()).then_some(())
        };
        wait_for(RECOVERY, probe).unwrap();
    }

    fn prepare(&self, n: usize) -> PathBuf {
        self.proxy.clear_faults();
        self.recover();
        if self.op == Op::Rename { self.at(&format!("a{n}")) } else { self.old(n) }
    }

    /// Ends the connection. What is sent before the mount has seen that would be lost as well, and that is another cut.
    fn strike(&self) {
        let seen = || self.mount.log().matches("connection closed").count();
        let before = seen();
        self.proxy.strike(Action::Fin);
        wait_for(RECOVERY, || (seen() > before).then_some(())).expect("the mount sees that its connection has ended");
    }

    fn found(&mut self, path: &str, query: &str) -> usize {
        match self.judge.select(&self.account.wire_name(path)) {
            Ok(_) => self.judge.search(query).unwrap().len(),
            Err(_) => 0,
        }
    }

    fn counts(&mut self, n: usize) -> Counts {
        let [old, new] = ["old", "new"].map(|word| format!("HEADER Subject {word}{n}z"));
        let (from, to) =
            if self.op == Op::Rename { (format!("a{n}"), format!("b{n}")) } else { ("INBOX".into(), "Other".into()) };
        let counts =
            [self.found(&from, &old), self.found(&to, &old), self.found("INBOX", &new) + self.found("Other", &new)];
        assert_eq!(self.found("INBOX", "DELETED HEADER Subject theirs"), 10, "{:?}", self.op);
        counts
    }

    /// Where the operation's lines begin and end on a connection of its own, in each direction.
    fn measure(&mut self) -> [RangeInclusive<u64>; 2] {
        let old = self.prepare(0);
        self.strike();
        self.run(0, &old).unwrap();
        let lines = self.proxy.transcript();
        let connection = lines.iter().map(|line| line.connection).max().unwrap();
        let lines: Vec<_> = lines.into_iter().filter(|line| line.connection == connection).collect();
        let first =
            lines.iter().position(|line| line.dir == Dir::Up && OPERATION.iter().any(|word| line.text.contains(word)));
        [Dir::Up, Dir::Down].map(|dir| {
            let count = |lines: &[common::proxy::Line]| lines.iter().filter(|line| line.dir == dir).count() as u64;
            count(&lines[..first.unwrap()])..=count(&lines) - 1
        })
    }

    /// One try with one fault, and another without when it failed. What came of it, in words, when that is not as it
    /// has to be.
    fn attempt(&mut self, n: usize, fault: Fault) -> Result<Tried, String> {
        let old = self.prepare(n);
        let next = self.proxy.stats().connections + 1;
        let what = format!("{:?} {fault:?}", self.op);
        self.proxy.add(fault.on(next..=next));
        let fired = self.proxy.stats().faults;
        self.strike();
        let outcome = self.run(n, &old);
        let fired = self.proxy.stats().faults > fired;
        let counts = self.counts(n);
        // A replaced message may stay beside the new one when only its removal was lost; the log tells.
        let is_done = |counts: Counts| counts == self.op.done() || self.op == Op::Replace && counts == [1, 0, 1];
        if outcome.is_ok() && !is_done(counts) {
            return Err(format!("{what}: {counts:?} {outcome:?}"));
        }
        if let Err(error) = &outcome {
            // Where the outcome is not known, the change may have been made, or half of a safe order of it.
            let is_clear = error.raw_os_error() != Some(libc::EIO);
            let is_whole = counts == [1, 0, 0] || !is_clear && (counts[0] == 1 || is_done(counts));
            if !is_whole {
                return Err(format!("{what}: {counts:?} {error:?}"));
            }
            self.recover();
            // A second attempt finds what the first one did.
            let again = self.run(n, &old);
            let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound && is_done(counts);
            if let Err(error) = again
                && !is_gone(&error)
            {
                return Err(format!("{what}: {counts:?} {outcome:?}, again: {error}"));
            }
            let counts = self.counts(n);
            if counts != self.op.done() {
                return Err(format!("{what}: {outcome:?}, again: {counts:?}"));
            }
        }
        Ok(Tried { fired, failed: outcome.is_err() })
    }
}

struct Tried {
    fired: bool,
    failed: bool,
}

fn sweep(server: &Server, op: Op) -> Vec<String> {
    let mut case = Case::new(server, op);
    let started = Instant::now();
    let lines = case.measure();
    let faults = [Dir::Up, Dir::Down].into_iter().zip(lines.clone()).flat_map(|(dir, lines)| {
        // Some of a long list stand for all of it.
        let step = usize::try_from(lines.end() - lines.start()).unwrap().div_ceil(op.tries() / 2).max(1);
        lines.step_by(step).map(move |line| {
            let action = if line % 2 == 0 { Action::Fin } else { Action::Rst };
            Fault { connections: 1..=1, dir, when: When::Lines(line), action }
        })
    });
    let tried: Vec<_> = faults.zip(1..op.tries()).map(|(fault, n)| case.attempt(n, fault)).collect();
    let count = |is: fn(&Tried) -> bool| tried.iter().flatten().filter(|tried| is(tried)).count();
    let (fired, failed) = (count(|tried| tried.fired), count(|tried| tried.failed));
    println!(
        "{op:?} on {}: lines {lines:?}, {fired} cuts of {}, {failed} failed, {:?}",
        server.name,
        tried.len(),
        started.elapsed()
    );
    let count = tried.len();
    let wrong: Vec<String> = tried.into_iter().filter_map(Result::err).collect();
    // What was known already is not asked for each time.
    assert!(fired * 3 >= count || !wrong.is_empty(), "{op:?} on {}: {fired} cuts of {count}", server.name);
    wrong
}

fn check(server: &Server) {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let sweeps = OPS.map(|op| scope.spawn(move || sweep(server, op)));
        sweeps.into_iter().flat_map(|sweep| sweep.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cut_at_each_step_on_dovecot() {
    check(Server::dovecot());
}

#[test]
fn cut_at_each_step_on_courier() {
    check(Server::courier());
}
