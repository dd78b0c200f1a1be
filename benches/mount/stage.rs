//! What the rows of one run share: the account behind a line, and what was brought or made once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bare::Bare;
use crate::common::proxy::Proxy;
use crate::common::{Account, Mount, Security};
use crate::cost::Cost;
use crate::memory::Memory;
use crate::peer::{self, Synced};
use crate::sample::Sample;
use crate::scripted::{Mailbox, Message, Scripted, honest};

/// A step that takes longer has failed. At 10 Mbit/s the mailbox takes 100 s.
const LIMIT: Duration = Duration::from_secs(600);

/// What outlives a run.
pub struct Standing {
    pub sample: Sample,
    /// INBOX as it is mounted, in memory.
    pub memory: Option<Memory>,
    pub many: BTreeMap<u32, Many>,
}

/// A server with so many messages, and directories with the same names.
pub struct Many {
    pub server: Scripted,
    pub disk: Option<(TempDir, Memory)>,
}

/// One run at one line.
pub struct Stage<'a> {
    pub standing: &'a mut Standing,
    pub proxy: &'a Proxy,
    /// Through the proxy.
    pub account: Account,
    /// Bytes a second of the line.
    pub rate: Option<u64>,
    pub synced: Option<Synced>,
}

impl<'a> Stage<'a> {
    pub fn new(standing: &'a mut Standing, proxy: &'a Proxy, rate: Option<u64>) -> Stage<'a> {
        let account = standing.sample.account.through(proxy).with(Security::None);
        Stage { standing, proxy, account, rate, synced: None }
    }

    /// What the bare client needs for that, once it has the mailbox selected.
    pub fn bare(&self, mailbox: &str, commands: &[String]) -> Result<Cost, String> {
        let mut bare = Bare::select(&self.account, mailbox);
        let exchange = || {
            bare.exchange(commands);
            Ok(())
        };
        Ok(Cost::of(self.proxy, exchange)?.0)
    }

    /// The same with connecting, login and selecting.
    pub fn bare_from_start(&self, mailbox: &str, command: &str) -> Result<Cost, String> {
        let exchange = || {
            Bare::select(&self.account, mailbox).exchange(&[command.to_owned()]);
            Ok(())
        };
        Ok(Cost::of(self.proxy, exchange)?.0)
    }

    /// What mbsync needs, and then this; nothing where it is not installed.
    pub fn synced(&mut self, work: impl FnOnce(&Path) -> Result<(), String>) -> Result<Option<Cost>, String> {
        if !peer::is_installed() {
            return Ok(None);
        }
        if self.synced.is_none() {
            self.synced = Some(Synced::new(self.proxy, &self.account)?);
        }
        let Some(synced) = &self.synced else { return Ok(None) };
        let start = Instant::now();
        work(&synced.messages())?;
        Ok(Some(Cost { time: synced.cost.time + start.elapsed().as_secs_f64(), ..synced.cost }))
    }

    /// A new mount that knows nothing.
    pub fn mount(&self) -> Result<Mount, String> {
        Mount::try_new(&self.account, &[])
    }

    /// Does this on a line without delay and without end.
    pub fn at_once<T>(&self, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let delay = self.proxy.round_trip() / 2;
        self.proxy.set_delay(Duration::ZERO);
        self.proxy.set_line(None);
        let value = work();
        self.proxy.set_delay(delay);
        self.proxy.set_line(self.rate);
        value
    }

    pub fn memory(&mut self) -> PathBuf {
        let copy = self.standing.sample.copy();
        self.standing.memory.get_or_insert_with(|| Memory::mount(&copy)).path()
    }

    /// The same, mounted anew: the kernel knows nothing of it.
    pub fn new_memory(&mut self, mailbox: &str) -> Memory {
        Memory::mount(&self.standing.sample.copy_of(mailbox))
    }

    pub fn many(&mut self, count: u32) -> &mut Many {
        self.standing.many.entry(count).or_insert_with(|| {
            let messages = (1..=count).map(|uid| Message::plain(uid, 1)).collect();
            let mailboxes = [("INBOX".to_owned(), Mailbox { validity: 1, messages })].into();
            Many { server: Scripted::new(mailboxes, honest), disk: None }
        })
    }
}

impl Many {
    /// Directories of the same names as those of the mailbox, on disk and in memory.
    pub fn copies(&mut self, mailbox: &Path) -> (PathBuf, PathBuf) {
        let (disk, memory) = self.disk.get_or_insert_with(|| {
            let directory = tempfile::Builder::new().prefix("imapfs-bench-").tempdir().unwrap();
            for entry in std::fs::read_dir(mailbox).unwrap() {
                std::fs::create_dir(directory.path().join(entry.unwrap().file_name())).unwrap();
            }
            let memory = Memory::mount(directory.path());
            (directory, memory)
        });
        (disk.path().to_owned(), memory.path())
    }
}

/// Runs a program in a directory; what it prints, or that it failed. It is killed when it takes too long.
pub fn run(program: &str, args: &[&str], directory: &Path) -> Result<String, String> {
    let mut command = Command::new("timeout");
    command.arg(LIMIT.as_secs().to_string()).arg(program).args(args).current_dir(directory);
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let error = String::from_utf8_lossy(&output.stderr);
    // 1 is grep's word for nothing found.
    if output.status.code().is_none_or(|code| code > 1) || !error.is_empty() {
        return Err(format!("{program}: {} {error}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same for its output's lines, of which there must be so many.
pub fn expect(count: usize, program: &str, args: &[&str], directory: &Path) -> Result<(), String> {
    let found = run(program, args, directory)?.lines().count();
    if found == count { Ok(()) } else { Err(format!("{program}: {found} lines instead of {count}")) }
}
