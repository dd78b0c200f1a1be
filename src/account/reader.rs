//! An open file, and what its reads tell of its reader.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::message::{FilePart, Message, Source};
use super::object::Object;
use super::reads::Reads;
use crate::error::{Error, Result};
use crate::mail::layout::Layout;
use crate::mail::part::Encoding;
use crate::mail::range::{GUESSED, LARGE};
use crate::mail::uid::Uid;
use crate::mail::wants::Wants;
use crate::tree::node::{EntryId, MailboxId};

/// Who reads a part further than this reads it through.
const BEGINNING: u64 = 256 * 1024;

impl PartReader {
    /// `Protocol` once it has turned out that the file is not as long as it was told to be. What was read may be another's
    /// octets then, and a read at an end that is not one would look like the end: who reads it is to open it again.
    pub(super) fn check_length(&self) -> Result<()> {
        let known = self.entry.as_ref().and_then(|(message, entry)| message.known_size(*entry));
        match known.is_none_or(|known| known == self.told) {
            true => Ok(()),
            false => Err(Error::protocol("a part is not as long as its ends promised")),
        }
    }
}

/// An open file.
#[derive(Debug)]
pub enum Reader {
    /// Made whole when it was opened; of which message, if of one.
    Text(Bytes, Option<(Arc<Message>, EntryId)>),
    /// Fetched in windows.
    Part(Box<PartReader>),
}

/// A part that is read in ranges.
#[derive(Debug)]
pub struct PartReader {
    /// Whose size is learnt; `None` for a message whole.
    pub(super) entry: Option<(Arc<Message>, EntryId)>,
    /// Where its message is.
    pub(super) mailbox: MailboxId,
    /// Its octets.
    pub(super) source: Source,
    /// How they are encoded.
    pub(super) encoding: Encoding,
    /// The size that it had when it was opened: the kernel goes by it.
    pub(super) told: u64,
    /// How their offsets map to those of the file.
    pub(super) layout: Mutex<Arc<Layout>>,
    /// What is read.
    pub(super) reads: Reads,
    /// One of those that read ahead, once it does.
    pub(super) follows: OnceLock<Arc<()>>,
}

impl Reader {
    /// A reader of this text.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Reader::Text(text.into(), None)
    }

    /// The entry that is read, and its size as far as it is known; `None` for what has no other size than it had.
    pub fn known_size(&self) -> Option<(&Message, EntryId, Option<u64>)> {
        let Reader::Part(part) = self else { return None };
        part.entry.as_ref().map(|(message, entry)| (&**message, *entry, message.known_size(*entry)))
    }

    /// Is it to be told when somebody closes it ([`Reader::close`])? A read may be held back then.
    pub fn tells_close(&self) -> bool {
        let Reader::Part(part) = self else { return false };
        part.layout.lock().unwrap_or_else(PoisonError::into_inner).decoded_len() > GUESSED
    }

    /// Somebody closed it, and may have been the last.
    pub fn close(&self) {
        if let Reader::Part(part) = self {
            part.reads.close();
        }
    }

    /// The part that it reads, if that is one by itself.
    pub fn part(&self) -> Option<FilePart> {
        let Reader::Part(part) = self else { return None };
        let (_, entry) = part.entry.as_ref().filter(|_| part.source.place.is_none())?;
        Some(FilePart { entry: *entry, object: Arc::clone(&part.source.object), encoding: part.encoding })
    }

    /// What somebody wants of a message who reads `size` octets from `offset` on.
    pub fn wants(&self, offset: u64, size: u64) -> Option<(MailboxId, Uid, Wants)> {
        let (message, entry, more) = match self {
            Reader::Text(_, of) => {
                let (message, entry) = of.as_ref()?;
                (message, *entry, Wants::default())
            }
            Reader::Part(part) => {
                let Some((message, entry)) = &part.entry else {
                    return Some((part.mailbox, part.source.object.locator.uid, Wants::WHOLE));
                };
                let more = match () {
                    () if offset.saturating_add(size) > BEGINNING => Wants::THROUGH,
                    () if offset == 0 && size >= LARGE => Wants::MUCH,
                    () => Wants::default(),
                };
                (message, *entry, more)
            }
        };
        Some((message.mailbox, message.summary.uid, message.touch(entry, true) | more))
    }

    /// A reader of a message as it is: `size` octets.
    pub fn whole(mailbox: MailboxId, object: Arc<Object>, size: u64) -> Self {
        Reader::Part(Box::new(PartReader {
            entry: None,
            mailbox,
            source: Source { object, place: None },
            encoding: Encoding::Identity,
            told: size,
            layout: Mutex::new(Arc::new(Layout::identity(size))),
            reads: Reads::default(),
            follows: OnceLock::new(),
        }))
    }
}
