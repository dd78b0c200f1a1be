//! A client of the program's own library over a real socket, without a kernel: lists and reads all there is, as
//! programs do, and holds what comes against what was promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use imapfs::account::{self, Account};
use imapfs::error::{Error, Result};
use imapfs::fs::{self, DirEntry, Fs, Kind};
use imapfs::imap::{Client, Credentials, Options, Tls};
use imapfs::tree::node::{Ino, ROOT};
use tokio::sync::mpsc;

/// Entries per readdir.
const BATCH: usize = 50;
/// Octets per read, as the kernel asks for them.
const CHUNK: u32 = 128 * 1024;

/// How to connect, in plaintext.
pub fn options(port: u16, user: &str, connections: usize, timeout: Duration) -> Options {
    let password = |_| Ok(Credentials::Password("wonderland".to_owned().into()));
    Options {
        host: "127.0.0.1".into(),
        port,
        tls: Tls::None,
        tls_ca: None,
        user: user.into(),
        credentials: Arc::new(password),
        connections,
        read_only: false,
        compress: false,
        debug_protocol: false,
        timeout,
    }
}

/// A file system over its own connections.
pub struct Mounted {
    pub client: Client,
    pub fs: Arc<Fs>,
}

/// What a walk met, by path.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub directories: BTreeMap<String, Result<Vec<String>>>,
    pub files: BTreeMap<String, Result<Vec<u8>>>,
}

impl Seen {
    pub fn errors(&self) -> Vec<(&String, &Error)> {
        let directories = self.directories.iter().filter_map(|(path, seen)| Some((path, seen.as_ref().err()?)));
        directories.chain(self.files.iter().filter_map(|(path, seen)| Some((path, seen.as_ref().err()?)))).collect()
    }
}

impl Mounted {
    /// Connects and opens the account. What can change is asked for at each look.
    pub async fn new(options: Options) -> Result<Mounted> {
        let (events, unasked) = mpsc::unbounded_channel();
        let client = Client::connect(options, events).await?;
        let account = account::Options {
            name: "test".into(),
            user: "test".into(),
            host: "localhost".into(),
            port: None,
            root_mailbox: None,
            poll_interval: Duration::ZERO,
            memory: 32 << 20,
            trim: || {},
            deletion: account::Deletion::default(),
            read_only: false,
            write_behind: false,
            store: Err("off"),
            offline: false,
        };
        match Account::open(client.clone(), unasked, account).await {
            Ok(account) => Ok(Mounted { client, fs: Fs::new(account, fs::Options::default()) }),
            Err(error) => {
                client.close().await;
                Err(error)
            }
        }
    }

    /// Lists every directory and reads every file, `message.eml` of each message too.
    ///
    /// # Panics
    /// When a read is short: fewer octets than were asked for, and not the end that getattr names.
    pub async fn walk(&self) -> Seen {
        let mut seen = Seen::default();
        let mut todo = vec![(String::new(), ROOT)];
        while let Some((path, ino)) = todo.pop() {
            let listed = self.list(ino).await;
            if let Ok(entries) = &listed {
                for entry in entries {
                    let inside = format!("{path}/{}", entry.name);
                    match entry.entry.attr.kind {
                        Kind::Directory => todo.push((inside, entry.entry.attr.ino)),
                        Kind::File => {
                            let read = self.cat(entry.entry.attr.ino, &inside).await;
                            seen.files.insert(inside, read);
                        }
                    }
                }
                // It is in each message, and in no listing.
                if entries.iter().any(|entry| entry.name == "headers.txt") {
                    let inside = format!("{path}/message.eml");
                    let read = match self.fs.lookup(ino, "message.eml").await {
                        Ok(entry) => self.cat(entry.attr.ino, &inside).await,
                        Err(error) => Err(error),
                    };
                    seen.files.insert(inside, read);
                }
            }
            seen.directories.insert(path, listed.map(|list| list.into_iter().map(|entry| entry.name).collect()));
        }
        seen
    }

    async fn list(&self, ino: Ino) -> Result<Vec<DirEntry>> {
        let kept = self.fs.opendir(ino).await?;
        let mut all = Vec::new();
        let mut offset = 0;
        let end = loop {
            match self.fs.readdir(ino, kept, offset, BATCH).await {
                Ok(batch) if batch.is_empty() => break Ok(()),
                Ok(batch) => {
                    offset = batch[batch.len() - 1].next;
                    all.extend(batch);
                }
                Err(error) => break Err(error),
            }
        };
        end.map(|()| all.into_iter().filter(|entry| entry.name != "." && entry.name != "..").collect())
    }

    async fn cat(&self, ino: Ino, path: &str) -> Result<Vec<u8>> {
        let handle = self.fs.open(ino, false, 0).await?.handle;
        let read = self.read(ino, handle, path).await;
        self.fs.release(handle);
        read
    }

    async fn read(&self, ino: Ino, handle: fs::Handle, path: &str) -> Result<Vec<u8>> {
        let size = self.fs.getattr(ino).await?.attr.size;
        let mut all = Vec::new();
        let mut ended = false;
        loop {
            let octets = self.fs.read(handle, all.len() as u64, CHUNK).await?;
            assert!(!ended || octets.is_empty(), "{path}: a short read in the middle");
            ended = octets.len() < CHUNK as usize;
            if octets.is_empty() {
                break;
            }
            all.extend_from_slice(&octets);
        }
        // The data may have corrected the size, and then the size is what was read.
        if all.len() as u64 != size {
            let size = self.fs.getattr(ino).await?.attr.size;
            assert_eq!(all.len() as u64, size, "{path}: octets read, and the size that getattr states");
        }
        Ok(all)
    }
}
