//! The libc calls of this layer, made safe.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use std::{ptr, thread};

/// The user and the group that started this process.
pub fn current_ids() -> (u32, u32) {
    // SAFETY: neither call takes a pointer, neither can fail.
    unsafe { (libc::getuid(), libc::getgid()) }
}

/// True when this process has the rights of root.
pub fn is_root() -> bool {
    // SAFETY: takes no pointer, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Octets from which memory is taken from the kernel and given back to it one by one. What is less is used again as it is,
/// such as the buffers of most reads: to have them mapped anew takes longer than to fill them.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 192 * 1024;

/// Has freed memory given back to the kernel. Pieces of messages come and go by the megabyte on all threads; glibc would
/// soon keep them in the heap of each thread, and twice as much as is in use would stay resident.
pub fn return_freed_memory() {
    // SAFETY: takes no pointer; a value that is not accepted changes nothing.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
}

/// Gives back what is free within the heaps as well: what a large listing went through lies between what it left. Takes
/// some tenths of a second for a million pieces.
pub fn trim_memory() {
    // SAFETY: takes no pointer; frees nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// False when there is no thread `pid`, whoever owned it.
pub(super) fn thread_exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: takes no pointer; signal 0 is none.
    check(unsafe { libc::kill(pid, 0) }).err().and_then(|error| error.raw_os_error()) != Some(libc::ESRCH)
}

/// Octets of an attribute that are read.
const ATTRIBUTE_MAX: usize = 64 * 1024;

/// getxattr(2); `None` when the attribute is not set, or the file system has none.
///
/// # Errors
/// What the file system says.
pub fn attribute(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let (path, name) = (c_path(path)?, CString::new(name)?);
    let mut value = vec![0; ATTRIBUTE_MAX];
    // SAFETY: two C strings and a buffer of the length that is given, which live until the call has returned.
    let size = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match check_size(size) {
        Ok(size) => {
            value.truncate(size);
            Ok(Some(value))
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// mount(2).
pub(super) fn mount(source: &str, target: &Path, kind: &str, flags: u64, data: &str) -> io::Result<()> {
    let (source, kind, data) = (CString::new(source)?, CString::new(kind)?, CString::new(data)?);
    let target = c_path(target)?;
    // SAFETY: all four are C strings that live until the call has returned.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) })
}

/// umount2(2), which does not follow a symbolic link. `lazy`: detach now, clean up when no file is open any more.
pub(super) fn umount(target: &Path, lazy: bool) -> io::Result<()> {
    let target = c_path(target)?;
    let flags = libc::UMOUNT_NOFOLLOW | if lazy { libc::MNT_DETACH } else { 0 };
    // SAFETY: a C string that lives until the call has returned.
    check(unsafe { libc::umount2(target.as_ptr(), flags) })
}

/// statfs(2) as the user and the group `owner`, which takes the rights of root unless they are our own. The kernel
/// asks the file system each time, and lets nobody but a mount's owner ask. `TimedOut` when there is no answer within
/// `patience`.
pub(super) fn statfs(target: &Path, owner: (u32, u32), patience: Duration) -> io::Result<()> {
    let target = c_path(target)?;
    let (sender, receiver) = mpsc::channel();
    let ask = move || {
        if owner != current_ids() {
            let (uid, gid) = owner;
            // SAFETY: no pointers. Unlike libc's functions the bare system calls change this thread only, which ends here.
            check_size(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) } as libc::ssize_t)?;
            check_size(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) } as libc::ssize_t)?;
        }
        let mut found = MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: a C string and a buffer, which live until the call has returned.
        check(unsafe { libc::statfs(target.as_ptr(), found.as_mut_ptr()) })
    };
    // The receiver is gone when the answer comes too late.
    thread::Builder::new().name("statfs".into()).spawn(move || drop(sender.send(ask())))?;
    receiver.recv_timeout(patience).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Lets the child that `command` starts have `socket` under the same number. The command must not outlive it.
pub(super) fn inherit(command: &mut Command, socket: &UnixStream) {
    let fd = socket.as_raw_fd();
    // SAFETY: fcntl is async-signal-safe, and the closure touches nothing else.
    unsafe {
        command.pre_exec(move || check(libc::fcntl(fd, libc::F_SETFD, 0)));
    }
}

/// The file descriptor that the other end sent (SCM_RIGHTS); `None` when it closed the socket without.
pub(super) fn receive_fd(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    /// Room for one control message with one descriptor, aligned as its header wants it.
    #[repr(C)]
    union Control {
        header: libc::cmsghdr,
        room: [u8; 64],
    }
    let mut byte = 0u8;
    let mut data = libc::iovec { iov_base: ptr::from_mut(&mut byte).cast(), iov_len: 1 };
    let mut control = MaybeUninit::<Control>::zeroed();
    // SAFETY: a msghdr of zeros is an empty one.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    loop {
        // SAFETY: the message points to buffers of the stated lengths that live on.
        match check_size(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) }) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // SAFETY: the kernel filled the control buffer and set its length; CMSG_FIRSTHDR checks that length, and a
    // descriptor that came by SCM_RIGHTS is new and ours alone.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        if header.is_null() || (*header).cmsg_level != libc::SOL_SOCKET || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Ok(None);
        }
        let fd = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
        Ok((fd >= 0).then(|| OwnedFd::from_raw_fd(fd)))
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn check_size(size: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(size).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_closes_without_a_descriptor_gives_none() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        assert!(receive_fd(&near).unwrap().is_none());
    }

    #[test]
    fn a_file_system_that_lives_answers_statfs() {
        let (root, patience) = (Path::new("/"), Duration::from_secs(60));
        assert!(statfs(root, current_ids(), patience).is_ok());
        let missing = statfs(Path::new("/no/such"), current_ids(), patience);
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        let ids = current_ids();
        if is_root() {
            assert!(statfs(root, (65534, 65534), patience).is_ok());
        }
        assert_eq!(current_ids(), ids);
    }

    #[test]
    fn a_byte_without_a_descriptor_gives_none() {
        use std::io::Write;
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"x").unwrap();
        assert!(receive_fd(&near).unwrap().is_none());
    }
}
