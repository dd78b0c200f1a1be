//! Mounting and unmounting, done here and not by fuser.
//!
//! 1. fuser 0.18 unmounts whatever is on the mountpoint when its session ends: after a lazy unmount that may be the
//!    next daemon's mount. Here a mount is known by its device number, and only that one is taken away.
//! 2. fuser does not escape commas, so a source of `imap://a,ro` would set options.
//! 3. fuser does not fall back to a lazy unmount when a file is still open.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::mountinfo::{self, KIND, Mount};
use super::{Options, sys};
use crate::error::{Error, Result, printable};

/// The setuid helper that mounts for users (package fuse3).
const HELPER: &str = "fusermount3";

/// How long a mount that is in the way may take to show that it is dead, which it does at once.
const PROBE: Duration = Duration::from_secs(5);

/// How an unmount went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmounted {
    /// Nobody was using it; it is gone.
    Clean,
    /// It is gone from the tree; who has a file open there still uses it.
    Lazily,
    /// It was not there any more.
    Already,
}

/// A mount of ours, wherever it may have been moved to.
#[derive(Clone, Debug)]
pub(super) struct Mounting {
    device: String,
}

/// Mounts on `mountpoint`, which is free after [`prepare`]. The descriptor speaks FUSE; the kernel's first request
/// is waiting there.
pub(super) fn mount(mountpoint: &Path, options: &Options) -> Result<(OwnedFd, Mounting)> {
    let fd = match mount_directly(mountpoint, options) {
        Err(error) if is_refused(&error) => mount_by_helper(mountpoint, options)?,
        Err(error) => return Err(local(format!("cannot mount on {}: {error}", mountpoint.display()))),
        Ok(fd) => fd,
    };
    match mountinfo::mount_on(&mountinfo::mounts()?, mountpoint) {
        Some(Mount { device, kind, .. }) if kind == KIND => Ok((fd, Mounting { device: device.clone() })),
        // Closing the descriptor ends whatever was mounted.
        _ => Err(local(format!("mounted on {}, but not to be found there", mountpoint.display()))),
    }
}

impl Mounting {
    /// Unmounts, lazily where somebody is using it. Blocks for some milliseconds.
    pub(super) fn unmount(&self) -> Result<Unmounted> {
        let mounts = mountinfo::mounts()?;
        let mut outcome = Unmounted::Already;
        for mount in mounts.iter().rev().filter(|mount| mount.device == self.device) {
            if mountinfo::mount_on(&mounts, &mount.target) != Some(mount) {
                return Err(Error::Busy(format!("{} is covered by another mount", mount.target.display()).into()));
            }
            match detach(&mount.target, false) {
                Err(Error::Busy(_)) => outcome = detach(&mount.target, true)?,
                Ok(Unmounted::Clean) if outcome == Unmounted::Already => outcome = Unmounted::Clean,
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(outcome)
    }

    /// Takes away what is left where the kernel has ended the session and not the mount: `umount -f` of one in use, an
    /// abort through fusectl. The device number alone would not do, it may be that of a younger mount by now.
    pub(super) fn clear(&self) -> Result<()> {
        let mounts = mountinfo::mounts()?;
        let is_left = |mount: &&Mount| {
            mount.device == self.device && mountinfo::mount_on(&mounts, &mount.target) == Some(mount) && is_dead(mount)
        };
        mounts.iter().rev().filter(is_left).try_for_each(|mount| detach(&mount.target, true).map(drop))
    }
}

/// Unmounts an imapfs from `path`. `lazy`: also when somebody is using it, who can go on doing so.
///
/// # Errors
/// [`Error::Invalid`] when no imapfs is mounted there, [`Error::Busy`] when it is in use, [`Error::Denied`] when it is
/// somebody else's.
pub fn unmount(path: &Path, lazy: bool) -> Result<Unmounted> {
    let path = resolve(path)?;
    if !mountinfo::is_imapfs_mount(&path)? {
        return Err(Error::invalid(format!("no imapfs is mounted on {}", path.display())));
    }
    detach(&path, lazy)
}

fn detach(target: &Path, lazy: bool) -> Result<Unmounted> {
    match sys::umount(target, lazy) {
        Ok(()) => Ok(if lazy { Unmounted::Lazily } else { Unmounted::Clean }),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Unmounted::Already),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(in_use(target)),
        Err(error) if is_refused(&error) => detach_by_helper(target, lazy),
        Err(error) => Err(local(format!("cannot unmount {}: {error}", target.display()))),
    }
}

fn detach_by_helper(target: &Path, lazy: bool) -> Result<Unmounted> {
    let mut command = Command::new(HELPER);
    // The messages below are recognised in English.
    command.env("LC_ALL", "C").arg(if lazy { "-uz" } else { "-u" }).arg("--").arg(target).stdin(Stdio::null());
    let output = command.output().map_err(no_helper)?;
    if output.status.success() {
        return Ok(if lazy { Unmounted::Lazily } else { Unmounted::Clean });
    }
    let reason = helper_reason(&output.stderr);
    if reason.contains("busy") {
        Err(in_use(target))
    } else if !mountinfo::is_imapfs_mount(target)? {
        Ok(Unmounted::Already)
    } else {
        Err(Error::Denied(reason.into()))
    }
}

/// Makes `mountpoint` ready: its path without symbolic links, after a dead imapfs has been cleared away.
///
/// # Errors
/// [`Error::Invalid`], [`Error::Busy`] with a sentence for the user.
pub(super) fn prepare(mountpoint: &Path, nonempty: bool) -> Result<PathBuf> {
    let shown = mountpoint.display();
    let path = resolve(mountpoint)?;
    // Not stat(2) first: of a dead mount it may still answer from the kernel's cache.
    if let Some(mount) = mountinfo::mount_on(&mountinfo::mounts()?, &path).filter(|mount| mount.kind == KIND) {
        if !is_dead(mount) {
            return Err(Error::Busy(format!("an imapfs is already mounted on {shown}").into()));
        }
        detach(&path, true)?;
        tracing::info!("cleared a dead mount from {shown}");
    }
    let found = fs::metadata(&path).map_err(|error| Error::invalid(format!("{shown}: {error}")))?;
    if !found.is_dir() {
        return Err(Error::invalid(format!("{shown} is not a directory")));
    }
    let mut entries = fs::read_dir(&path).map_err(|error| Error::invalid(format!("{shown}: {error}")))?;
    if !nonempty && entries.next().is_some() {
        return Err(Error::invalid(format!("{shown} is not empty; -o nonempty mounts there anyway")));
    }
    Ok(path)
}

/// The path without symbolic links. Asks no file system whose root `path` is, so a dead one does not matter.
fn resolve(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))
}

/// True when nobody serves this mount any more. Blocks for as long as [`PROBE`] when its daemon does not answer.
fn is_dead(mount: &Mount) -> bool {
    let owner = mount.owner.unwrap_or_else(sys::current_ids);
    let errno = sys::statfs(&mount.target, owner, PROBE).err().and_then(|error| error.raw_os_error());
    matches!(errno, Some(libc::ENOTCONN | libc::ECONNABORTED))
}

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Mounts with our own rights, which are root's.
fn mount_directly(mountpoint: &Path, options: &Options) -> io::Result<OwnedFd> {
    let fd: OwnedFd = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse")?.into();
    let mut flags = libc::MS_NOSUID | libc::MS_NODEV;
    if options.read_only {
        flags |= libc::MS_RDONLY;
    }
    if options.noexec {
        flags |= libc::MS_NOEXEC;
    }
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={},default_permissions",
        fd.as_raw_fd(),
        libc::S_IFDIR,
        options.uid,
        options.gid
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    // The source and the type are arguments of their own here: nothing to escape but what ends a C string.
    sys::mount(&options.fsname.replace('\0', ""), mountpoint, KIND, flags, &data)?;
    Ok(fd)
}

/// Has fusermount3 mount, which sends the descriptor back over a socket.
fn mount_by_helper(mountpoint: &Path, options: &Options) -> Result<OwnedFd> {
    let (near, far) = UnixStream::pair().map_err(|error| local(format!("socketpair: {error}")))?;
    let mut command = Command::new(HELPER);
    command.arg("-o").arg(helper_options(options)).arg("--").arg(mountpoint);
    command.env("LC_ALL", "C").env("_FUSE_COMMFD", far.as_raw_fd().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    sys::inherit(&mut command, &far);
    let mut child = command.spawn().map_err(no_helper)?;
    // Ours must be closed, or the end of a helper that failed would not be seen.
    drop(far);
    let received = sys::receive_fd(&near);
    let mut reason = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What could not be read is missing in a message, no more.
        let _ = stderr.read_to_end(&mut reason);
    }
    let status = child.wait().map_err(|error| local(format!("{HELPER}: {error}")))?;
    match received {
        Ok(Some(fd)) if status.success() => Ok(fd),
        Err(error) => Err(local(format!("{HELPER}: {error}"))),
        Ok(_) => Err(Error::Denied(helper_reason(&reason).into())),
    }
}

/// The options for fusermount3, which adds `fd`, `rootmode`, `user_id` and `group_id` itself.
fn helper_options(options: &Options) -> String {
    // A comma ends an option, a backslash escapes.
    let source = options.fsname.replace('\0', "").replace('\\', "\\\\").replace(',', "\\,");
    let mut text = format!("fsname={source},subtype=imapfs,nosuid,nodev,default_permissions");
    for (is_wanted, option) in
        [(options.read_only, ",ro"), (options.noexec, ",noexec"), (options.allow_other, ",allow_other")]
    {
        if is_wanted {
            text.push_str(option);
        }
    }
    text
}

fn helper_reason(stderr: &[u8]) -> String {
    let text = printable(stderr.trim_ascii(), 300);
    if text.is_empty() { format!("{HELPER} failed without a word") } else { text }
}

fn no_helper(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => local(format!("{HELPER} is missing: install the package fuse3")),
        _ => local(format!("{HELPER}: {error}")),
    }
}

fn in_use(target: &Path) -> Error {
    Error::Busy(format!("{} is in use", target.display()).into())
}

fn local(reason: String) -> Error {
    Error::Local(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(fsname: &str) -> Options {
        Options { fsname: fsname.into(), ..Options::default() }
    }

    #[test]
    fn a_source_cannot_inject_mount_options() {
        let cases = [
            ("work", "fsname=work,"),
            ("imap://a,ro", "fsname=imap://a\\,ro,"),
            ("a\\,suid", "fsname=a\\\\\\,suid,"),
            ("a\0b", "fsname=ab,"),
            ("two words", "fsname=two words,"),
        ];
        for (source, expected) in cases {
            let text = helper_options(&options(source));
            assert_eq!(text, format!("{expected}subtype=imapfs,nosuid,nodev,default_permissions"), "{source}");
        }
    }

    #[test]
    fn what_is_asked_for_is_passed_on() {
        let asked = Options { read_only: true, noexec: true, allow_other: true, ..options("w") };
        assert!(helper_options(&asked).ends_with(",default_permissions,ro,noexec,allow_other"));
    }

    #[test]
    fn a_mountpoint_has_to_be_an_empty_directory() {
        let dir = tempfile::tempdir().unwrap();
        let check = |path: &Path, nonempty, expected: &str| {
            let reason = prepare(path, nonempty).unwrap_err().to_string();
            assert!(reason.contains(expected), "{reason}");
        };
        check(&dir.path().join("none"), false, "No such file");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        check(&file, false, "is not a directory");
        check(dir.path(), false, "is not empty; -o nonempty");
        assert_eq!(prepare(dir.path(), true).unwrap(), fs::canonicalize(dir.path()).unwrap());
        fs::remove_file(&file).unwrap();
        assert!(prepare(dir.path(), false).is_ok());
    }

    #[test]
    fn a_plain_directory_is_not_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(unmount(dir.path(), true), Err(Error::Invalid(_))));
    }

    #[test]
    fn a_mount_that_is_gone_is_unmounted_already() {
        let gone = Mounting { device: "no:such".into() };
        assert_eq!(gone.unmount().unwrap(), Unmounted::Already);
    }
}
