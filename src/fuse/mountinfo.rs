//! What is mounted where: /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The type of our mounts.
pub(super) const KIND: &str = "fuse.imapfs";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor` of the file system: the same in all its bind mounts, and in no other file system.
    pub device: String,
    /// Where it is.
    pub target: PathBuf,
    /// Its type, such as `fuse.imapfs`.
    pub kind: String,
    /// What is mounted, as its file system named it.
    pub source: String,
    /// The user and the group that it belongs to, for FUSE.
    pub owner: Option<(u32, u32)>,
}

/// The mounts of imapfs.
///
/// # Errors
/// [`Error::Local`] when /proc cannot be read.
pub fn imapfs_mounts() -> Result<Vec<Mount>> {
    Ok(mounts()?.into_iter().filter(|mount| mount.kind == KIND).collect())
}

/// True when the topmost mount on `path`, a path without symbolic links, is of imapfs.
///
/// # Errors
/// [`Error::Local`] when /proc cannot be read.
pub fn is_imapfs_mount(path: &Path) -> Result<bool> {
    Ok(mount_on(&mounts()?, path).is_some_and(|mount| mount.kind == KIND))
}

/// All mounts that this process sees; those that cover others come later.
pub(super) fn mounts() -> Result<Vec<Mount>> {
    let table = fs::read("/proc/self/mountinfo")
        .map_err(|error| Error::Local(format!("/proc/self/mountinfo: {error}").into()))?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(parse).collect())
}

/// The topmost of the mounts on `path`.
pub(super) fn mount_on<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().rfind(|mount| mount.target == path)
}

/// `ID PARENT MAJOR:MINOR ROOT TARGET OPTIONS [TAG...] - KIND SOURCE SUPER-OPTIONS`
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = fields.nth(2)?;
    let target = fields.nth(1)?;
    let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
    let (kind, source, options) = (fields.next()?, fields.next()?, fields.next()?);
    let id = |name: &str| {
        let value = options.split(|&byte| byte == b',').find_map(|option| option.strip_prefix(name.as_bytes()))?;
        str::from_utf8(value).ok()?.parse().ok()
    };
    let text = |field| String::from_utf8_lossy(&unescape(field)).into_owned();
    Some(Mount {
        device: text(device),
        target: OsString::from_vec(unescape(target)).into(),
        kind: text(kind),
        source: text(source),
        owner: id("user_id=").zip(id("group_id=")),
    })
}

/// Undoes the kernel's `\ooo` for blanks, tabs, line ends, backslashes and `#`.
fn unescape(mut field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    while let Some((&byte, rest)) = field.split_first() {
        field = rest;
        match rest {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if byte == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                field = after;
            }
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_and_without_tags_and_with_escapes() {
        let cases = [
            (
                "36 35 98:0 / /mnt rw,noatime master:1 shared:2 - ext3 /dev/root rw",
                Some(("98:0", "/mnt", "ext3", "/dev/root")),
            ),
            (
                "36 35 0:55 / /a\\040b rw - fuse.imapfs x\\134y rw,user_id=7,group_id=8",
                Some(("0:55", "/a b", "fuse.imapfs", "x\\y")),
            ),
            (
                "36 35 0:55 / /a\\012\\011b rw - fuse.imapfs imap://a,b\\043 rw",
                Some(("0:55", "/a\n\tb", "fuse.imapfs", "imap://a,b#")),
            ),
            ("36 35 0:55 / /a\\04 rw - tmpfs \\ rw", Some(("0:55", "/a\\04", "tmpfs", "\\"))),
            ("36 35 0:55 / /a rw shared:1 fuse.imapfs none", None),
            ("36 35", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|(device, target, kind, source)| Mount {
                device: device.into(),
                target: target.into(),
                kind: kind.into(),
                source: source.into(),
                owner: line.contains("user_id").then_some((7, 8)),
            });
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn the_later_mount_covers_the_earlier() {
        let table = ["1 1 0:1 / / rw - tmpfs a rw", "2 1 0:2 / /m rw - tmpfs b rw", "3 2 0:3 / /m rw - tmpfs c rw"];
        let mounts: Vec<_> = table.iter().filter_map(|line| parse(line.as_bytes())).collect();
        assert_eq!(mount_on(&mounts, Path::new("/m")).map(|mount| mount.source.as_str()), Some("c"));
        assert_eq!(mount_on(&mounts, Path::new("/n")), None);
    }

    #[test]
    fn this_process_sees_a_root() {
        assert!(mount_on(&mounts().unwrap(), Path::new("/")).is_some());
    }
}
