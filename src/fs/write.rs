//! create, open for writing, write, truncate and copy_file_range: all of it happens to a file on the local disk. When
//! that becomes mail is told in `commit`.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::attr::nanos;
use super::local::{Content, Facts, Home, Local, Original, Place};
use super::read::{OpenFile, OpenLocal};
use super::spool::Spool;
use super::{Entry, Fs, Handle, Opened};
use crate::error::{Error, Result};
use crate::mail::flag::Flags;
use crate::tree::node::{EntryId, Ino, MailboxId, MailboxView, Node};
use crate::tree::scratch::{FileName, classify};
use crate::tree::writable::FLAGS;

/// Octets that are moved at once from a message to a spool file.
pub(super) const PIECE: u32 = 1 << 20;

/// What a setattr changes of a file; mode and owner are the mount's.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewAttr {
    /// Octets.
    pub size: Option<u64>,
    /// The modification time, where the caller gave one other than now.
    pub mtime: Option<SystemTime>,
}

impl Fs {
    /// Creates a file and opens it. Errors: `NotPermitted` where no file of that name can become mail, with the reason.
    pub async fn create(self: &Arc<Self>, parent: Ino, name: &str, pid: u32) -> Result<(Entry, Opened)> {
        let directory = self.node(parent)?;
        if let Some(created) = self.create_in_copy(directory, name).await {
            let entry = created?;
            return Ok((entry.clone(), self.open_copy(entry.attr.ino)?));
        }
        let home = self.home(directory, name)?;
        let (at, kind) = (home.directory, classify(name));
        let parked = self.locals.parked(at, name);
        match kind {
            FileName::Litter => return Err(refused("what desktops leave everywhere is not mail")),
            FileName::Other => return Err(refused("only files that are called *.eml become mail")),
            FileName::Message if is_message_directory(directory) && parked.is_none() => {
                return Err(refused("a message holds its parts and nothing else"));
            }
            FileName::Message | FileName::Scratch => {}
        }
        // It came to be since the kernel looked.
        if let Some(node) = self.locals.named(at, name) {
            let opened = self.open(node.pack(), true, pid).await?;
            return Ok((self.entry(node).await?, opened));
        }
        let mtime_nanos = nanos(SystemTime::now());
        let facts = Facts { home: Some(home), mtime_nanos, target: parked, ..Facts::default() };
        let node = self.locals.number().ok_or_else(|| Error::Local("too many files were created".into()))?;
        let local = self.locals.insert(Local::new(node, facts));
        self.locals.set_name(at, name, node);
        Ok((local.entry(), self.open_local(local, pid)))
    }

    /// Where a file of this name in this directory would be.
    pub(super) fn home(&self, directory: Node, name: &str) -> Result<Home> {
        let mailbox = match directory {
            Node::Root | Node::Mailbox(_) => match self.mailbox_of(directory).flatten() {
                Some(id) if self.account.has_messages(id)? => id,
                Some(_) => return Err(refused("this mailbox holds mailboxes and no messages")),
                None => return Err(refused("only mailboxes hold messages")),
            },
            Node::MailboxView(id, MailboxView::Eml) | Node::Entry(id, _, EntryId::DIRECTORY) => id,
            Node::Entry(..) => return Err(refused("a part of a message cannot be changed: write message.eml")),
            Node::MailboxView(..) | Node::AccountView(_) | Node::Search(..) | Node::Local(_) => {
                return Err(refused("no file can be created here"));
            }
        };
        Ok(Home { directory: directory.pack(), name: name.to_owned(), mailbox })
    }

    /// Opens a file of a message for writing: nothing happens until something is written.
    pub(super) async fn open_to_overwrite(&self, ino: Ino, pid: u32) -> Result<Opened> {
        let Node::Entry(mailbox, uid, entry) = self.node(ino)? else {
            return Err(refused("this file tells of other things: it cannot be changed"));
        };
        if entry != EntryId::RAW {
            return Err(refused("a part of a message cannot be changed: write message.eml"));
        }
        let place = (mailbox, uid);
        let original = self.original(place).await?;
        let size = self.account.summary(mailbox, uid).await?.size;
        let home = Home { directory: Node::message(mailbox, uid).pack(), name: "message.eml".to_owned(), mailbox };
        let facts = Facts {
            home: Some(home),
            content: Content::Message(Arc::new(original)),
            size,
            mtime_nanos: nanos(SystemTime::now()),
            target: Some(place),
            ..Facts::default()
        };
        let node = Node::unpack(ino).ok_or(Error::Stale)?;
        Ok(self.open_local(self.locals.insert(Local::new(node, facts)), pid))
    }

    pub(super) async fn original(&self, place: Place) -> Result<Original> {
        let reader = self.account.open_entry(place.0, place.1, EntryId::RAW).await?;
        Ok(Original { place, reader })
    }

    /// A handle of a file that has been opened.
    pub(super) fn open_local(&self, local: Arc<Local>, pid: u32) -> Opened {
        let handle = self.new_handle();
        let open = OpenLocal { local, opener: pid, early: Mutex::default() };
        self.files().insert(handle, Arc::new(OpenFile::Local(open)));
        Opened { handle, invalidate: true, keep_cache: false, flush: false }
    }

    /// The file that the kernel knows by this number, while it is one.
    pub(super) fn local_file(&self, ino: Ino) -> Option<Arc<Local>> {
        self.locals.get(Node::unpack(ino)?)
    }

    fn writable(&self, handle: Handle) -> Result<Arc<Local>> {
        match &*self.file(handle)? {
            OpenFile::Local(open) => Ok(Arc::clone(&open.local)),
            OpenFile::Reader { .. } | OpenFile::Copy(_) => Err(Error::invalid("the file is not open for writing")),
        }
    }

    /// Writes all of `data` at `offset`. Errors: `DiskFull`, `Local`; those of reading where a message is changed.
    pub async fn write(self: &Arc<Self>, handle: Handle, offset: u64, data: &[u8]) -> Result<u32> {
        if let OpenFile::Copy(part) = &*self.file(handle)? {
            return self.write_to_copy(part, offset, data).await;
        }
        let local = self.writable(handle)?;
        let _turn = local.turn.lock().await;
        let spool = self.spool(&local).await?;
        let outcome = spool.write(offset, data);
        // A part of it may have been written.
        changed(&local, spool.len()?);
        outcome.map(|()| data.len() as u32)
    }

    /// Changes the attributes of a node as far as that has a meaning, and tells them. A message has none to change: a
    /// caller that sets owner, mode or time, as `cp -p` does, is told that it went well.
    pub async fn setattr(self: &Arc<Self>, ino: Ino, handle: Option<Handle>, new: NewAttr) -> Result<Entry> {
        let open = handle.and_then(|handle| self.writable(handle).ok());
        let Some(local) = open.or_else(|| self.local_file(ino)) else {
            let entry = self.getattr(ino).await?;
            return match new.size {
                Some(size) if size != entry.attr.size => Err(refused("a message is changed by writing it anew")),
                _ => Ok(entry),
            };
        };
        if let Some(size) = new.size {
            self.truncate(&local, size).await?;
        }
        if let Some(mtime) = new.mtime {
            let mut facts = local.facts();
            facts.mtime_nanos = nanos(mtime);
            facts.date = i64::try_from(facts.mtime_nanos.div_euclid(1_000_000_000)).ok();
        }
        Ok(local.entry())
    }

    async fn truncate(self: &Arc<Self>, local: &Local, size: u64) -> Result<()> {
        let _turn = local.turn.lock().await;
        if local.facts().size == size {
            return Ok(());
        }
        if size == 0 {
            // What was there need not be fetched first.
            local.facts().content = Content::Nothing;
        } else {
            self.spool(local).await?.set_len(size)?;
        }
        changed(local, size);
        Ok(())
    }

    /// The file on disk, which is made now if there is none; its turn is the caller's.
    pub(super) async fn spool(self: &Arc<Self>, local: &Local) -> Result<Arc<Spool>> {
        let (content, home) = {
            let facts = local.facts();
            (facts.content.clone(), facts.home.clone())
        };
        let original = match content {
            Content::Spool(spool) => return Ok(spool),
            Content::Nothing => None,
            Content::Message(original) => Some(original),
        };
        let label = home.map(|home| {
            let mailbox = self.account.mailbox(home.mailbox).map(|mailbox| mailbox.display).unwrap_or_default();
            format!("{mailbox}-{}", home.name)
        });
        let spool = Arc::new(Spool::new(&self.options.spool, label.as_deref().unwrap_or_default())?);
        if let Some(original) = original {
            let mut at = 0;
            loop {
                let piece = self.account.read(&original.reader, at, PIECE).await?;
                if piece.is_empty() {
                    break;
                }
                spool.write(at, &piece)?;
                at += piece.len() as u64;
            }
        }
        local.facts().content = Content::Spool(Arc::clone(&spool));
        Ok(spool)
    }

    /// Copies at most `len` octets between open files; how many. A message that is copied whole into an empty file is
    /// only remembered: the server copies it when the file becomes a message.
    pub async fn copy_range(
        self: &Arc<Self>,
        (from, offset_in): (Handle, u64),
        (to, offset_out): (Handle, u64),
        len: u64,
    ) -> Result<u32> {
        let source = self.file(from)?;
        if let OpenFile::Copy(part) = &*self.file(to)?
            && offset_in == offset_out
            && let Some(left) = self.copied_already(part, source.node(), offset_in).await?
        {
            return Ok(len.min(left).min(u32::MAX.into()) as u32);
        }
        if let OpenFile::Copy(_) = &*self.file(to)? {
            let data = self.read(from, offset_in, len.min(PIECE.into()) as u32).await?;
            return self.write(to, offset_out, &data).await;
        }
        let local = self.writable(to)?;
        if (offset_in, offset_out) == (0, 0)
            && let Some((place, size)) = self.whole_message(&source).await?
            && (1..=len.min(u32::MAX.into())).contains(&size)
        {
            let original = Content::Message(Arc::new(self.original(place).await?));
            let _turn = local.turn.lock().await;
            if matches!(local.facts().content, Content::Nothing) && local.facts().size == 0 {
                local.facts().content = original;
                changed(&local, size);
                return Ok(size as u32);
            }
        }
        let data = self.read(from, offset_in, len.min(PIECE.into()) as u32).await?;
        if data.is_empty() { Ok(0) } else { self.write(to, offset_out, &data).await }
    }

    /// The message that an open file is, and its size.
    async fn whole_message(&self, file: &OpenFile) -> Result<Option<(Place, u64)>> {
        Ok(match file {
            OpenFile::Reader { node, .. } => match self.aliases.resolve(*node) {
                Node::Entry(mailbox, uid, EntryId::RAW) => {
                    Some(((mailbox, uid), self.account.summary(mailbox, uid).await?.size))
                }
                _ => None,
            },
            OpenFile::Local(open) => match &*open.local.facts() {
                Facts { content: Content::Message(original), size, .. } => Some((original.place, *size)),
                _ => None,
            },
            OpenFile::Copy(_) => None,
        })
    }

    /// The octets of a file that is being written.
    pub(super) async fn read_local(&self, local: &Local, offset: u64, size: u32) -> Result<super::Bytes> {
        let content = local.facts().content.clone();
        match content {
            Content::Nothing => Ok(super::Bytes::new()),
            Content::Message(original) => self.account.read(&original.reader, offset, size).await,
            Content::Spool(spool) => Ok(spool.read(offset, size as usize)?.into()),
        }
    }

    /// Sets an attribute of a file that is being written: flags, which the message is to have. What else a copy brings
    /// along is told by the message itself: `Unsupported`, which copying programs pass over in silence.
    pub(super) fn local_setxattr(&self, node: Node, name: &str, value: &[u8]) -> Result<()> {
        let local = self.locals.get(node).ok_or(Error::Stale)?;
        if name != FLAGS {
            return Err(Error::Unsupported("a new file has its flags and no other attributes".into()));
        }
        let flags = value.split(u8::is_ascii_whitespace).filter(|flag| !flag.is_empty());
        local.facts().flags = Some(Flags::from_wire(flags));
        Ok(())
    }

    /// The flags that were set on a file that is being written.
    pub(super) fn local_flags(&self, node: Node) -> Option<Flags> {
        self.locals.get(node)?.facts().flags.clone()
    }
}

/// After its octets were changed; its turn is the caller's.
fn changed(local: &Local, size: u64) {
    let mut facts = local.facts();
    facts.size = size;
    facts.mtime_nanos = nanos(SystemTime::now());
    facts.date = None;
    facts.dirty = true;
    facts.failed = None;
}

/// Is it a message as a directory?
pub(super) fn is_message_directory(node: Node) -> bool {
    matches!(node, Node::Entry(_, _, EntryId::DIRECTORY))
}

/// The mailbox and UID of a message's `message.eml`.
pub(super) fn place_of(node: Node) -> Option<Place> {
    match node {
        Node::Entry(mailbox, uid, EntryId::RAW) => Some((mailbox, uid)),
        _ => None,
    }
}

pub(super) fn refused(why: &str) -> Error {
    Error::NotPermitted(why.into())
}

/// Tells where a message is, for the log.
pub(super) fn show(mailbox: MailboxId, fs: &Fs) -> String {
    fs.account.mailbox(mailbox).map_or_else(|_| "a mailbox that is gone".to_owned(), |mailbox| mailbox.display)
}
