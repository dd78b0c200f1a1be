//! A mounted model account, and what reads all that it shows and compares it with the messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use imapfs::account::{self, Account};
use imapfs::error::{Error, Result};
use imapfs::fs::{self, DirEntry, Entry, Fs, Kind};
use imapfs::imap::server::Event;
use imapfs::mail::section::Section;
use imapfs::mail::{header, text, transfer};
use imapfs::tree::entries::{Content, entries};
use imapfs::tree::node::{EntryId, Ino, ROOT};
use imapfs::tree::part_name::RAW;
use tokio::sync::mpsc;

use super::message::Message;
use super::{Random, Server};

/// Entries per readdir, as the kernel asks for them.
const BATCH: usize = 50;

/// A file system over an account of the model.
pub struct Mounted {
    pub server: Server,
    pub account: Arc<Account>,
    pub fs: Arc<Fs>,
    /// What the server says unasked.
    pub events: mpsc::UnboundedSender<Event>,
}

/// What a walk found right, and where it got errors. What it finds wrong is a panic.
#[derive(Debug, Default)]
pub struct Tally {
    /// Messages that were listed.
    pub messages: usize,
    /// Files that were read.
    pub right: usize,
    pub errors: Vec<(String, Error)>,
}

/// The options of an account whose every look asks the server.
pub fn options() -> account::Options {
    account::Options {
        name: "model".into(),
        user: "bob".into(),
        host: "imap.example.test".into(),
        port: None,
        root_mailbox: None,
        poll_interval: Duration::ZERO,
        memory: 64 * 1024 * 1024,
        trim: || {},
        deletion: account::Deletion::default(),
        read_only: false,
        write_behind: false,
        store: Err("off"),
        offline: false,
    }
}

impl Mounted {
    /// Everything asks at each look.
    pub async fn new(server: &Server) -> Self {
        Self::try_new(server, options()).await.unwrap()
    }

    /// What was listed stays as it is.
    pub async fn lasting(server: &Server) -> Self {
        Self::try_new(server, account::Options { poll_interval: Duration::from_secs(3600), ..options() }).await.unwrap()
    }

    pub async fn try_new(server: &Server, options: account::Options) -> Result<Self> {
        let (client, events, unasked) = server.client();
        let account = Account::open(client, unasked, options).await?;
        let fs = Fs::new(Arc::clone(&account), fs::Options::default());
        Ok(Self { server: server.clone(), account, fs, events })
    }

    /// All entries of a directory, `.` and `..` left out.
    pub async fn list(&self, directory: Ino) -> Result<Vec<DirEntry>> {
        let kept = self.fs.opendir(directory).await?;
        let mut all = Vec::new();
        let mut offset = 0;
        let end = loop {
            match self.fs.readdir(directory, kept, offset, BATCH).await {
                Ok(batch) if batch.is_empty() => break Ok(()),
                Ok(batch) => {
                    offset = batch[batch.len() - 1].next;
                    all.extend(batch);
                }
                Err(error) => break Err(error),
            }
        };
        end.map(|()| all.into_iter().filter(|e: &DirEntry| e.name != "." && e.name != "..").collect())
    }

    /// The names in a directory.
    pub async fn names(&self, path: &str) -> Result<Vec<String>> {
        let directory = self.find(path).await?.attr.ino;
        Ok(self.list(directory).await?.into_iter().map(|e| e.name).collect())
    }

    /// The entry at a path from the root, components parted by `/`.
    pub async fn find(&self, path: &str) -> Result<Entry> {
        let mut entry = self.fs.getattr(ROOT).await?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            entry = self.fs.lookup(entry.attr.ino, name).await?;
        }
        Ok(entry)
    }

    /// A file, whole, as `cat` reads it.
    pub async fn cat(&self, ino: Ino) -> Result<Vec<u8>> {
        let handle = self.fs.open(ino, false, 0).await?.handle;
        let mut all = Vec::new();
        let end = loop {
            match self.fs.read(handle, all.len() as u64, 128 * 1024).await {
                Ok(octets) if octets.is_empty() => break Ok(()),
                Ok(octets) => all.extend_from_slice(&octets),
                Err(error) => break Err(error),
            }
        };
        self.fs.release(handle);
        end.map(|()| all)
    }

    /// The file at a path.
    pub async fn cat_path(&self, path: &str) -> Result<Vec<u8>> {
        self.cat(self.find(path).await?.attr.ino).await
    }

    /// Octets of a file from an offset on.
    pub async fn peek(&self, ino: Ino, offset: u64, size: u32) -> Result<Vec<u8>> {
        let handle = self.fs.open(ino, false, 0).await?.handle;
        let octets = self.fs.read(handle, offset, size).await;
        self.fs.release(handle);
        octets.map(|octets| octets.to_vec())
    }

    /// Reads a file in many ways: each time it is `want`, or an error.
    ///
    /// # Panics
    /// When something else comes than is in the message.
    pub async fn check_file(&self, ino: Ino, want: &[u8], what: &str, random: &mut Random) -> Result<()> {
        let size = self.fs.getattr(ino).await?.attr.size;
        assert_eq!(size, want.len() as u64, "size of {what}");
        let opened = self.fs.open(ino, false, 0).await?;
        let outcome = self.check_reads(opened.handle, want, what, random).await;
        self.fs.release(opened.handle);
        outcome?;
        assert_eq!(self.fs.getattr(ino).await?.attr.size, size, "size of {what} after reading");
        Ok(())
    }

    async fn check_reads(&self, handle: fs::Handle, want: &[u8], what: &str, random: &mut Random) -> Result<()> {
        let len = want.len() as u64;
        for round in 0..3 {
            for _ in 0..2 {
                let offset = random.below(len + 3);
                let most = 2 << random.below(17);
                let size = 1 + random.below(most) as u32;
                let octets = self.fs.read(handle, offset, size).await?;
                let clip = |n: u64| usize::try_from(n.min(len)).unwrap();
                let right = &want[clip(offset)..clip(offset + u64::from(size))];
                assert!(octets == right, "{size} octets at {offset} of {len} of {what}");
            }
            if round == 1 {
                let mut at = 0;
                while at < want.len() {
                    let size = 1 + random.below(128 * 1024) as usize;
                    let octets = self.fs.read(handle, at as u64, size as u32).await?;
                    let end = (at + size).min(want.len());
                    assert!(octets == want[at..end], "{} of {size} octets at {at} of {len} of {what}", octets.len());
                    at = end;
                }
                assert!(self.fs.read(handle, len, 4096).await?.is_empty(), "beyond the end of {what}");
            }
        }
        Ok(())
    }

    /// Reads every file of every message of a mailbox.
    pub async fn check_mailbox(&self, name: &str, random: &mut Random) -> Tally {
        let mut tally = Tally::default();
        let listed = match self.find(name).await {
            Ok(mailbox) => self.list(mailbox.attr.ino).await,
            Err(error) => Err(error),
        };
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                tally.errors.push((name.to_owned(), error));
                return tally;
            }
        };
        for entry in listed {
            let uid = entry.name.rsplit('.').next().and_then(|uid| uid.parse().ok());
            let messages = self.server.with(name, |mailbox| mailbox.messages.clone());
            if let Some(message) = uid.and_then(|uid: u32| messages.get(&uid)) {
                tally.messages += 1;
                self.check_message(&entry, message, random, &mut tally).await;
            }
        }
        tally
    }

    /// Reads every file of a message.
    pub async fn check_message(&self, entry: &DirEntry, message: &Message, random: &mut Random, tally: &mut Tally) {
        let mut expected = expected(message);
        let mut todo = vec![(String::new(), entry.entry.attr.ino)];
        while let Some((path, directory)) = todo.pop() {
            let what = format!("{}{path}", entry.name);
            let listed = match self.list(directory).await {
                Ok(listed) => listed,
                Err(error) => {
                    tally.errors.push((what, error));
                    expected.retain(|file, _| !file.starts_with(&format!("{path}/")) || file == "/message.eml");
                    continue;
                }
            };
            for found in listed {
                let inside = format!("{path}/{}", found.name);
                if found.entry.attr.kind == Kind::Directory {
                    todo.push((inside, found.entry.attr.ino));
                    continue;
                }
                let want = expected.remove(&inside);
                let want = want.unwrap_or_else(|| panic!("{inside} is not in {}", entry.name));
                self.tally_file(&found.entry, &want, &format!("{}{inside}", entry.name), random, tally).await;
            }
            // It is not listed, and answers when it is named.
            let inside = format!("{path}/{RAW}");
            let want = expected.remove(&inside).unwrap_or_else(|| panic!("{inside} is there twice"));
            let what = format!("{}{inside}", entry.name);
            match self.fs.lookup(directory, RAW).await {
                Ok(found) => self.tally_file(&found, &want, &what, random, tally).await,
                Err(error) => tally.errors.push((what, error)),
            }
        }
        assert!(expected.is_empty() || !tally.errors.is_empty(), "{} lacks {:?}", entry.name, expected.keys());
    }

    async fn tally_file(&self, entry: &Entry, want: &[u8], what: &str, random: &mut Random, tally: &mut Tally) {
        if !entry.attr_ttl.is_zero() {
            assert_eq!(entry.attr.size, want.len() as u64, "size of {what} in the listing");
        }
        match self.check_file(entry.attr.ino, want, what, random).await {
            Ok(()) => tally.right += 1,
            Err(error) => tally.errors.push((what.to_owned(), error)),
        }
    }
}

impl Tally {
    /// # Panics
    /// When there was an error.
    pub fn expect_no_errors(&self, what: &str) {
        assert!(self.errors.is_empty(), "{what}: {} right, {:?}", self.right, self.errors);
        assert!(self.right > 0, "{what}: nothing was read");
    }
}

/// Every file of a message, by its path from the message's directory, decoded in one go from the whole message.
pub fn expected(message: &Message) -> BTreeMap<String, Vec<u8>> {
    let parsed = message.parsed();
    let entries = entries(&parsed.root);
    let mut paths: BTreeMap<EntryId, String> = BTreeMap::new();
    let mut files = BTreeMap::new();
    for entry in entries.iter() {
        let path = match entry.id {
            EntryId::DIRECTORY => String::new(),
            _ => format!("{}/{}", paths[&entry.parent], entry.name),
        };
        let octets = |section: &Section| &message.bytes[message.place(section).unwrap()];
        let content = match &entry.content {
            Content::Directory => {
                paths.insert(entry.id, path);
                continue;
            }
            Content::Headers(section) => header::headers_text(octets(section)).into_bytes(),
            Content::Raw(section) => octets(section).to_vec(),
            Content::Text { section, encoding, charset, .. } => {
                text::to_utf8(&transfer::decode(*encoding, octets(section)), charset.as_deref()).into_bytes()
            }
            Content::File { section, encoding, .. } => transfer::decode(*encoding, octets(section)),
        };
        files.insert(path, content);
    }
    files
}
