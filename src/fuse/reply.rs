//! Answers in the kernel's form.

use fuser::{Errno, Generation, ReplyEmpty, ReplyEntry, ReplyXattr};

use super::attr::Look;
use crate::fs::Entry;

/// What came of a request, with the errno of an error.
pub(super) type Answer<T> = Result<T, Errno>;

/// Inode numbers are never used again for something else.
pub(super) const GENERATION: Generation = Generation(0);

/// Answers with nothing but success.
pub(super) fn empty(reply: ReplyEmpty) -> impl FnOnce(Answer<()>) + Send + 'static {
    |answer| match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with a name that was found or made.
pub(super) fn entry(reply: ReplyEntry, look: Look) -> impl FnOnce(Answer<Entry>) + Send + 'static {
    move |answer| match answer {
        Ok(entry) => reply.entry_with_ttls(&entry.attr_ttl, &entry.entry_ttl, &look.attr(&entry.attr), GENERATION),
        Err(errno) => reply.error(errno),
    }
}

/// Answers getxattr(2) and listxattr(2): `size` 0 asks for the length.
pub(super) fn sized(reply: ReplyXattr, size: u32, answer: Answer<Vec<u8>>) {
    match answer {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(errno),
    }
}
