//! The kernel's requests as calls of [`Fs`]: takes the arguments out, and puts the answer into the kernel's form.
//!
//! What is absent is absent on purpose. With `default_permissions` the kernel checks rights itself (ACCESS), and on a
//! read-only mount it refuses what changes mail; inode numbers are computed, so FORGET has nothing to do; file locks
//! stay local to the kernel.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, Notifier, OpenAccMode, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::attr::{Look, file_type};
use super::busy::Busy;
use super::names::{NAME_MAX, attribute, component, replace, setting};
use super::notify;
use super::reply::{self, Answer, GENERATION};
use super::request::{Call, Requests};
use crate::error::Result;
use crate::fs::{Closer, Fs, Handle, NewAttr};
use crate::tree::node::Ino;

/// What we want of the kernel, where it can. Never the write-back cache: the kernel would then keep its own idea of a
/// file's size and ignore ours.
const CAPABILITIES: [InitFlags; 4] = [
    // Otherwise one slow lookup blocks its whole directory.
    InitFlags::FUSE_PARALLEL_DIROPS,
    // `ls -l` of 100,000 entries: 0.4 s instead of 17 s.
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    // Otherwise each write is preceded by a GETXATTR of security.capability. There are no setuid bits to clear.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// Most octets of one READ or WRITE: the kernel's own limit.
const MAX_IO: u32 = 1 << 20;

/// Requests in flight that nobody waits for (read-ahead). The kernel's default of 12 is few for a slow server.
const MAX_BACKGROUND: u16 = 64;

/// Entries to ask for: as many as fit into the 32 KiB of libc's `readdir`, with names of 60 octets.
const ENTRIES: usize = 384;
const ENTRIES_PLUS: usize = 144;

/// A listing that the kernel keeps: the next ones make no READDIR. The handle tells that it is one.
const KEPT_DIRECTORY: FopenFlags = FopenFlags::FOPEN_CACHE_DIR.union(FopenFlags::FOPEN_KEEP_CACHE);

/// Octets in a block of statfs.
const BLOCK: u32 = 4096;

/// The callbacks.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) fs: Arc<Fs>,
    pub(super) requests: Requests,
    /// The same for reads of files, which the kernel asks twice: once ahead, and when that fails once more.
    pub(super) reads: Requests,
    /// The same for what sends a file, however long it is.
    pub(super) commits: Requests,
    pub(super) look: Look,
    /// What lookups, listings and reads are about.
    pub(super) busy: Arc<Busy>,
    /// Set before the first request.
    pub(super) notifier: Arc<OnceLock<Notifier>>,
}

impl Adapter {
    /// Answers a request: `work` on the file system, then `reply` with what came of it.
    fn answer<T: Send + 'static, W: Future<Output = Result<T>> + Send + 'static>(
        &self,
        request: &Request,
        (name, ino): (&'static str, INodeNo),
        work: impl FnOnce(Arc<Fs>) -> W,
        reply: impl FnOnce(Answer<T>) + Send + 'static,
    ) {
        self.requests.run(call(name, request, ino), work(self.fs.clone()), reply);
    }

    /// The same for a request that names something of an inode, which the kernel has locked meanwhile.
    fn answer_named<T: Send + 'static, W: Future<Output = Result<T>> + Send + 'static>(
        &self,
        request: &Request,
        about: (&'static str, INodeNo),
        name: Answer<String>,
        work: impl FnOnce(Arc<Fs>, String) -> W,
        reply: impl FnOnce(Answer<T>) + Send + 'static,
    ) {
        let name = match name {
            Ok(name) => name,
            Err(errno) => return reply(Err(errno)),
        };
        // Until it is answered: a name that the kernel is told to forget before that, it would learn from the answer.
        let underway = self.busy.begin(Ino(about.1.0));
        let reply = move |answer| {
            reply(answer);
            drop(underway);
        };
        self.answer(request, about, |fs| work(fs, name), reply);
    }
}

fn call(name: &'static str, request: &Request, ino: INodeNo) -> Call {
    Call { name, ino: ino.0, pid: request.pid() }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            // An old kernel does without.
            let _ = config.add_capabilities(capability);
        }
        // These give back the old value, or the limit when they refuse; both numbers are within the limits.
        let _ = config.set_max_write(MAX_IO);
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_congestion_threshold(MAX_BACKGROUND / 4 * 3);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = component(name);
        let absence = name.as_ref().map_or(Duration::ZERO, |name| Fs::absence_ttl(Ino(parent.0), name));
        let work = move |fs: Arc<Fs>, name: String| async move { fs.lookup(Ino(parent.0), &name).await };
        self.answer_named(request, ("lookup", parent), name, work, reply::found(reply, self.look, absence));
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let look = self.look;
        let work = move |fs: Arc<Fs>| async move { fs.getattr(Ino(ino.0)).await };
        self.answer(request, ("getattr", ino), work, move |answer| match answer {
            Ok(entry) => reply.attr(&entry.attr_ttl, &look.attr(&entry.attr)),
            Err(errno) => reply.error(errno),
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let notifier = self.notifier.clone();
        let pid = request.pid();
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        let work = move |fs: Arc<Fs>| async move { fs.open(Ino(ino.0), writes, pid).await };
        self.answer(request, ("open", ino), work, move |answer| match answer {
            Ok(opened) => {
                if let (true, Some(notifier)) = (opened.invalidate, notifier.get()) {
                    // It fails when the kernel holds no attributes, which is as good.
                    let _ = notify::attributes(notifier, Ino(ino.0));
                }
                // Message bytes do not change, so cached pages stay; most readers' closes have nothing to tell us.
                let tells = writes || opened.flush;
                let quiet = if tells { FopenFlags::empty() } else { FopenFlags::FOPEN_NOFLUSH };
                let keep = if opened.keep_cache { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
                reply.opened(FileHandle(opened.handle.0), keep | quiet);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (fs, underway) = (self.fs.clone(), self.busy.begin(Ino(ino.0)));
        let notifier = self.notifier.clone();
        let work = async move {
            let _underway = underway;
            fs.read(Handle(handle.0), offset, size).await
        };
        self.reads.run(call("read", request, ino), work, move |answer| match answer {
            // More than was asked for would be an error to the kernel.
            Ok(data) => reply.data(&data[..data.len().min(size as usize)]),
            Err(errno) => {
                // It may be another size than the kernel knows: whoever opens the file again is to get that.
                if let Some(notifier) = notifier.get() {
                    let _ = notify::attributes(notifier, Ino(ino.0));
                }
                reply.error(errno);
            }
        });
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_vec();
        let work = move |fs: Arc<Fs>| async move { fs.write(Handle(handle.0), offset, &data).await };
        self.answer(request, ("write", ino), work, reply::written(reply));
    }

    #[rustfmt::skip]
    fn copy_file_range(
        &self, request: &Request, ino: INodeNo, from: FileHandle, offset: u64, _: INodeNo, to: FileHandle,
        to_offset: u64, len: u64, _: CopyFileRangeFlags, reply: ReplyWrite,
    ) {
        let (from, to) = ((Handle(from.0), offset), (Handle(to.0), to_offset));
        let work = move |fs: Arc<Fs>| async move { fs.copy_range(from, to, len).await };
        self.answer(request, ("copy_file_range", ino), work, reply::written(reply));
    }

    /// Comes on each close of a descriptor that could write, or whose reads may be held back.
    fn flush(&self, request: &Request, ino: INodeNo, handle: FileHandle, owner: LockOwner, reply: ReplyEmpty) {
        let (fs, by) = (self.fs.clone(), Closer { pid: request.pid(), owner: owner.0 });
        let work = async move { fs.flush(Handle(handle.0), by).await };
        self.commits.run(call("close", request, ino), work, reply::empty(reply));
    }

    #[rustfmt::skip]
    fn release(
        &self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, _: Option<LockOwner>, _: bool,
        reply: ReplyEmpty,
    ) {
        let _runtime = self.requests.enter();
        self.fs.release(Handle(handle.0));
        reply.ok();
    }

    fn fsync(&self, request: &Request, ino: INodeNo, handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        let fs = self.fs.clone();
        let work = async move { fs.fsync(Handle(handle.0)).await };
        self.commits.run(call("fsync", request, ino), work, reply::empty(reply));
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let work = move |fs: Arc<Fs>| async move { fs.opendir(Ino(ino.0)).await };
        self.answer(request, ("opendir", ino), work, move |answer| match answer {
            // Without these flags the kernel also drops what it keeps of the directory. So it keeps only what was read
            // by handles with them, and nothing has to be invalidated.
            Ok(kept) => {
                reply.opened(FileHandle(kept.into()), if kept { KEPT_DIRECTORY } else { FopenFlags::empty() });
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(&self, request: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let (underway, kept) = (self.busy.begin(Ino(ino.0)), handle.0 != 0);
        let work = move |fs: Arc<Fs>| async move { fs.readdir(Ino(ino.0), kept, offset, ENTRIES).await };
        self.answer(request, ("readdir", ino), work, move |answer| match answer {
            Ok(entries) => {
                for found in entries {
                    let attr = found.entry.attr;
                    if reply.add(INodeNo(attr.ino.0), found.next, file_type(attr.kind), &found.name) {
                        break;
                    }
                }
                reply.ok();
                drop(underway);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let (look, underway, kept) = (self.look, self.busy.begin(Ino(ino.0)), handle.0 != 0);
        let work = move |fs: Arc<Fs>| async move { fs.readdir(Ino(ino.0), kept, offset, ENTRIES_PLUS).await };
        self.answer(request, ("readdirplus", ino), work, move |answer| match answer {
            Ok(entries) => {
                for found in entries {
                    let attr = look.attr(&found.entry.attr);
                    // fuser has one lifetime for both; an estimated size must not outlive its use.
                    let ttl = found.entry.entry_ttl.min(found.entry.attr_ttl);
                    if reply.add(attr.ino, found.next, &found.name, &ttl, &attr, GENERATION) {
                        break;
                    }
                }
                reply.ok();
                drop(underway);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn releasedir(&self, _request: &Request, _ino: INodeNo, _: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        let work = move |fs: Arc<Fs>| async move { fs.fsyncdir().await };
        self.answer(request, ("fsyncdir", ino), work, reply::empty(reply));
    }

    fn statfs(&self, request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let work = move |fs: Arc<Fs>| async move { fs.statfs().await };
        self.answer(request, ("statfs", ino), work, move |answer| match answer {
            Ok(usage) => reply.statfs(usage.blocks, usage.free, usage.free, usage.files, 0, BLOCK, NAME_MAX, BLOCK),
            Err(errno) => reply.error(errno),
        });
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let work = move |fs: Arc<Fs>, name: String| async move { fs.getxattr(Ino(ino.0), &name).await };
        let reply = move |answer| reply::sized(reply, size, answer);
        self.answer_named(request, ("getxattr", ino), attribute(name), work, reply);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let work = move |fs: Arc<Fs>| async move {
            let names = fs.listxattr(Ino(ino.0)).await?;
            Ok(names.into_iter().flat_map(|name| name.into_bytes().into_iter().chain([0])).collect())
        };
        self.answer(request, ("listxattr", ino), work, move |answer| reply::sized(reply, size, answer));
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (value, how) = (value.to_vec(), setting(flags));
        let work = move |fs: Arc<Fs>, name: String| async move { fs.setxattr(Ino(ino.0), &name, &value, how).await };
        self.answer_named(request, ("setxattr", ino), attribute(name), work, reply::empty(reply));
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = move |fs: Arc<Fs>, name: String| async move { fs.removexattr(Ino(ino.0), &name).await };
        self.answer_named(request, ("removexattr", ino), attribute(name), work, reply::empty(reply));
    }

    #[rustfmt::skip]
    fn setattr(
        &self, request: &Request, ino: INodeNo, _mode: Option<u32>, _uid: Option<u32>, _gid: Option<u32>,
        size: Option<u64>, _atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>, _ctime: Option<SystemTime>,
        handle: Option<FileHandle>, _: Option<SystemTime>, _: Option<SystemTime>, _: Option<SystemTime>,
        _: Option<BsdFileFlags>, reply: ReplyAttr,
    ) {
        let mtime = mtime.and_then(|time| if let TimeOrNow::SpecificTime(time) = time { Some(time) } else { None });
        let (look, handle, new) = (self.look, handle.map(|handle| Handle(handle.0)), NewAttr { size, mtime });
        let work = move |fs: Arc<Fs>| async move { fs.setattr(Ino(ino.0), handle, new).await };
        self.answer(request, ("setattr", ino), work, move |answer| match answer {
            Ok(entry) => reply.attr(&entry.attr_ttl, &look.attr(&entry.attr)),
            Err(errno) => reply.error(errno),
        });
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let pid = request.pid();
        let work = move |fs: Arc<Fs>, name: String| async move { fs.create(Ino(parent.0), &name, pid).await };
        self.answer_named(request, ("create", parent), component(name), work, reply::created(reply, self.look));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let work = move |fs: Arc<Fs>, name: String| async move { fs.mkdir(Ino(parent.0), &name).await };
        self.answer_named(request, ("mkdir", parent), component(name), work, reply::entry(reply, self.look));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = move |fs: Arc<Fs>, name: String| async move { fs.unlink(Ino(parent.0), &name).await };
        self.answer_named(request, ("unlink", parent), component(name), work, reply::empty(reply));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = move |fs: Arc<Fs>, name: String| async move { fs.rmdir(Ino(parent.0), &name).await };
        self.answer_named(request, ("rmdir", parent), component(name), work, reply::empty(reply));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let to_name = match component(to_name) {
            Ok(name) => name,
            Err(errno) => return reply.error(errno),
        };
        let underway = self.busy.begin(Ino(to.0));
        let work = move |fs: Arc<Fs>, name: String| async move {
            let _underway = underway;
            fs.rename(Ino(parent.0), &name, Ino(to.0), &to_name, replace(flags)).await
        };
        self.answer_named(request, ("rename", parent), component(name), work, reply::empty(reply));
    }

    // What mail has not: devices and links.

    /// But tar makes regular files so when it is to restore extended attributes.
    fn mknod(&self, request: &Request, at: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(Errno::EPERM);
        }
        let pid = request.pid();
        let work = move |fs: Arc<Fs>, name: String| async move {
            let (entry, opened) = fs.create(Ino(at.0), &name, pid).await?;
            fs.release(opened.handle);
            Ok(entry)
        };
        self.answer_named(request, ("mknod", at), component(name), work, reply::entry(reply, self.look));
    }

    fn symlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, _target: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn link(&self, _request: &Request, _ino: INodeNo, _parent: INodeNo, _name: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    // What the kernel can do by itself: ENOSYS tells it to. fuser would do so too, with a warning in the log each time.

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    #[rustfmt::skip]
    fn poll(
        &self, _: &Request, _: INodeNo, _: FileHandle, _: PollNotifier, _: PollEvents, _: PollFlags, reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    /// posix_fallocate(3) writes zeros then.
    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    /// isatty(3) and lsattr(1) ask; no ioctl means anything here.
    #[rustfmt::skip]
    fn ioctl(
        &self, _: &Request, _: INodeNo, _: FileHandle, _: IoctlFlags, _: u32, _: &[u8], _: u32, reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }
}
