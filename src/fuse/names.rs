//! The names that the kernel hands in: of entries and of extended attributes, and how a name that is taken is met.

use std::ffi::OsStr;

use fuser::{Errno, RenameFlags};

use crate::fs::{Replace, Setting};

/// Longest name of one component in octets.
pub(super) const NAME_MAX: u32 = 255;

/// A name that can exist.
pub(super) fn component(name: &OsStr) -> Result<String, Errno> {
    if name.len() > NAME_MAX as usize {
        return Err(Errno::ENAMETOOLONG);
    }
    name.to_str().map(str::to_owned).ok_or(Errno::ENOENT)
}

/// An attribute's name, if it is one of ours. The kernel remembers EOPNOTSUPP for a class of names, and stops asking
/// for `security.*` and the ACLs; it would end all extended attributes on ENOSYS.
pub(super) fn attribute(name: &OsStr) -> Result<String, Errno> {
    match name.to_str() {
        Some(name) if name.starts_with("user.") => Ok(name.to_owned()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// The flags of renameat2(2). A whiteout is what only an overlay would ask for, and nothing we have.
pub(super) fn replace(flags: RenameFlags) -> Replace {
    if flags.is_empty() {
        Replace::Usual
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Replace::Never
    } else {
        Replace::Exchange
    }
}

/// The flags of setxattr(2).
pub(super) fn setting(flags: i32) -> Setting {
    match flags {
        libc::XATTR_CREATE => Setting::Create,
        libc::XATTR_REPLACE => Setting::Replace,
        _ => Setting::Any,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn only_names_that_can_exist_are_looked_up() {
        let long = "n".repeat(256);
        let cases = [
            (&b"INBOX"[..], Ok("INBOX".to_owned())),
            (b"gr\xc3\xbc\xc3\x9fe", Ok("grüße".to_owned())),
            (b"\xff", Err(Errno::ENOENT)),
            (&long.as_bytes()[..255], Ok(long[..255].to_owned())),
            (long.as_bytes(), Err(Errno::ENAMETOOLONG)),
        ];
        for (name, expected) in cases {
            assert_eq!(component(OsStr::from_bytes(name)), expected, "{name:?}");
        }
    }

    #[test]
    fn only_user_attributes_are_ours() {
        let cases = [
            (&b"user.imap.flags"[..], Ok("user.imap.flags".to_owned())),
            (b"security.selinux", Err(Errno::EOPNOTSUPP)),
            (b"system.posix_acl_access", Err(Errno::EOPNOTSUPP)),
            (b"user.\xff", Err(Errno::EOPNOTSUPP)),
        ];
        for (name, expected) in cases {
            assert_eq!(attribute(OsStr::from_bytes(name)), expected, "{name:?}");
        }
    }
}
