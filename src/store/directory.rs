//! The directory of one account: what it is called, who may look into it, and who owns it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Account;
use crate::error::{Error, Result};

/// The folder of the accounts in the cache directory.
const ACCOUNTS: &str = "accounts";

/// The database, and the folder of the octets that are not in it.
pub const DATABASE: &str = "index.db";
const OCTETS: &str = "octets";
const LOCK: &str = "lock";

/// A file that tells that the database was found to be damaged.
const SPOILT: &str = "damaged";

/// How long a mount waits for one that may be about to end, and for one that says that it is: `imapfs umount` returns
/// before all is written.
const ENDING: Duration = Duration::from_millis(300);
const LEAVING: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Longest name of a directory that is made of the account's name alone.
const NAME_MAX: usize = 180;

/// A directory that is ours for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    pub path: PathBuf,
    /// It has an octet when its owner is about to leave.
    lock: File,
    /// The directory itself, whatever its path leads to by now.
    handle: File,
}

/// How the directory of an account is called.
fn name(account: &Account) -> String {
    let mut name = String::new();
    for byte in account.to_string().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'@' | b'.' | b'-' | b'_' | b'+' | b':' => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > NAME_MAX {
        let sum = crc32fast::hash(name.as_bytes());
        name.truncate(NAME_MAX);
        name.push_str(&format!("~{sum:08x}"));
    }
    // `.` and `..` are none: there is an @ in it.
    name
}

/// Where the cache of an account is, in the cache directory `cache`.
pub fn path(cache: &Path, account: &Account) -> PathBuf {
    cache.join(ACCOUNTS).join(name(account))
}

/// The directories of all accounts.
pub fn all(cache: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cache.join(ACCOUNTS)).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect();
    all.sort();
    all
}

/// Removes the directory of an account, at any time: who uses it goes on without.
///
/// # Errors
/// `Local`.
pub fn remove(path: &Path) -> Result<()> {
    // Under another name at once, so that nobody finds the half of it.
    let away = path.with_extension(format!("gone-{}", std::process::id()));
    let moved = std::fs::rename(path, &away).map(|()| &*away);
    match std::fs::remove_dir_all(moved.unwrap_or(path)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(cannot("clear", path, &error)),
        _ => Ok(()),
    }
}

/// A local error.
pub fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    let text = format!("cannot {what} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::DiskFull(text.into()),
        _ => Error::Local(text.into()),
    }
}

impl Directory {
    /// Makes the directory if need be, and takes it.
    ///
    /// # Errors
    /// `Busy` when another process has it; `Denied` when it is somebody else's; `Local`, `DiskFull`.
    pub fn take(path: PathBuf) -> Result<Self> {
        let make = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        make.map_err(|error| cannot("make", &path, &error))?;
        let metadata = path.symlink_metadata().map_err(|error| cannot("look at", &path, &error))?;
        if !metadata.is_dir() {
            return Err(Error::Denied(format!("{} is no directory", path.display()).into()));
        }
        // Only its owner may do so: a directory that somebody else laid out for us is refused.
        std::fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => Error::Denied(format!("{} is not ours: {error}", path.display()).into()),
            _ => cannot("use", &path, &error),
        })?;
        let lock = path.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let lock = lock.map_err(|error| cannot("make the lock in", &path, &error))?;
        if lock.metadata().is_ok_and(|m| m.uid() != metadata.uid()) {
            return Err(Error::Denied(format!("{} belongs to another user", path.display()).into()));
        }
        match wait_for(&lock) {
            // Without an octet in it nobody waits longer than he must.
            Ok(()) => drop(lock.set_len(0)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Busy("another mount of this account uses it".into()));
            }
            Err(TryLockError::Error(error)) => return Err(cannot("lock", &path, &error)),
        }
        let handle = File::open(&path).map_err(|error| cannot("open", &path, &error))?;
        Ok(Self { path, lock, handle })
    }

    /// It is about to be given up: who wants it next is to wait for that.
    pub fn leave(&self) {
        // Should it not work, he waits for less.
        let _ = self.lock.set_len(1);
    }

    /// A path in this very directory: should it be deleted and another be made under its name, that one is not meant.
    fn inside(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.handle.as_raw_fd()))
    }

    /// The folder of octets that are not in the database.
    pub fn octets(&self) -> PathBuf {
        self.inside(OCTETS)
    }

    /// What is in it is damaged: whoever opens it next is to throw it away.
    pub fn spoil(&self) {
        // Should it not work, the damage is found again.
        let _ = File::create(self.inside(SPOILT));
    }

    /// Is it known to be damaged?
    pub fn is_spoilt(&self) -> bool {
        self.inside(SPOILT).exists()
    }

    /// Was it deleted?
    pub fn is_gone(&self) -> bool {
        self.handle.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Empties it, but for the lock.
    pub fn clear(&self) -> Result<()> {
        for name in [DATABASE, "index.db-wal", "index.db-shm", "index.db-journal", SPOILT] {
            match std::fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot("clear", &self.path, &error)),
                _ => {}
            }
        }
        match std::fs::remove_dir_all(self.octets()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(cannot("clear", &self.path, &error)),
            _ => Ok(()),
        }
    }
}

fn wait_for(lock: &File) -> std::result::Result<(), TryLockError> {
    let began = Instant::now();
    loop {
        let patience = if lock.metadata().is_ok_and(|metadata| metadata.len() > 0) { LEAVING } else { ENDING };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < patience => std::thread::sleep(ASK_AGAIN),
            outcome => return outcome,
        }
    }
}

/// Is the directory in use by a mount?
pub fn is_taken(path: &Path) -> bool {
    let lock = File::open(path.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_has_a_name_of_its_own_that_is_one_component() {
        let account = |user: &str, host: &str, port| Account { user: user.into(), host: host.into(), port };
        assert_eq!(name(&account("bob@a.org", "mail.a.org", 993)), "bob@a.org@mail.a.org:993");
        assert_eq!(name(&account("../x/y", "h", 1)), "..%2Fx%2Fy@h:1");
        let (long, longer) = ("u".repeat(300), "u".repeat(301));
        assert_ne!(name(&account(&long, "h", 1)), name(&account(&longer, "h", 1)));
        assert!(name(&account(&long, "h", 1)).len() <= 255);
    }

    #[test]
    fn a_directory_has_one_owner_and_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = Directory::take(path.clone()).unwrap();
        assert!(is_taken(&path));
        assert!(matches!(Directory::take(path.clone()), Err(Error::Busy(_))));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(LOCK))), (0o700, 0o600));
        first.leave();
        let (next, ending) = (path.clone(), Instant::now());
        let next = std::thread::spawn(move || Directory::take(next).unwrap());
        while ending.elapsed() < ENDING * 2 {
            std::thread::sleep(ASK_AGAIN);
        }
        assert!(!next.is_finished(), "somebody who says that he leaves is waited for");
        drop(first);
        drop(next.join().unwrap());
        assert!(!is_taken(&path));
        let again = Directory::take(path.clone()).unwrap();
        assert!(!again.is_gone());
        remove(&path).unwrap();
        assert!(again.is_gone());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(matches!(Directory::take(link), Err(Error::Denied(_))));
    }
}
