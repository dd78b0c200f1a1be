//! Answers in the kernel's form.

use std::time::Duration;

use fuser::{Errno, FileHandle, FopenFlags, Generation, ReplyCreate, ReplyEmpty, ReplyEntry, ReplyWrite, ReplyXattr};

use super::attr::Look;
use crate::fs::{Attr, Entry, Kind, Opened};
use crate::tree::node::Ino;

/// What came of a request, with the errno of an error.
pub(super) type Answer<T> = Result<T, Errno>;

/// Inode numbers are never used again for something else.
pub(super) const GENERATION: Generation = Generation(0);

/// What the kernel takes for a name that is not there: the inode number 0.
const NOTHING: Attr = Attr { ino: Ino(0), kind: Kind::File, size: 0, mtime_nanos: 0, perm: 0 };

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

/// Answers with a name that was looked for; for as long as `absence` the kernel need not ask again for one that is not
/// there.
pub(super) fn found(reply: ReplyEntry, look: Look, absence: Duration) -> impl FnOnce(Answer<Entry>) + Send + 'static {
    move |answer| match answer {
        Err(errno) if errno.code() == libc::ENOENT && !absence.is_zero() => {
            reply.entry_with_ttls(&Duration::ZERO, &absence, &look.attr(&NOTHING), GENERATION);
        }
        answer => entry(reply, look)(answer),
    }
}

/// Answers with a file that was made and opened.
pub(super) fn created(reply: ReplyCreate, look: Look) -> impl FnOnce(Answer<(Entry, Opened)>) + Send + 'static {
    move |answer| match answer {
        Ok((entry, opened)) => {
            let (attr, handle) = (look.attr(&entry.attr), FileHandle(opened.handle.0));
            reply.created(&entry.entry_ttl, &attr, GENERATION, handle, FopenFlags::empty());
        }
        Err(errno) => reply.error(errno),
    }
}

/// Answers with how many octets were taken.
pub(super) fn written(reply: ReplyWrite) -> impl FnOnce(Answer<u32>) + Send + 'static {
    |answer| match answer {
        Ok(octets) => reply.written(octets),
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
