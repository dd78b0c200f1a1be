//! What can be done with caches from outside: look at them, and clear them away.

use std::path::{Path, PathBuf};

use super::{Account, database, directory};
use crate::error::Result;

/// What is kept of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its directory.
    pub path: PathBuf,
    /// Octets on disk.
    pub used: u64,
    /// Messages that are known, and of how many it is known how they are built; `None` when the database does not tell.
    pub messages: Option<(u64, u64)>,
    /// A mount uses it now.
    pub in_use: bool,
}

/// What is kept in the cache directory: of all accounts, or of one.
pub fn info(cache: &Path, account: Option<&Account>) -> Vec<Info> {
    let paths = match account {
        Some(account) => vec![directory::path(cache, account)].into_iter().filter(|path| path.is_dir()).collect(),
        None => directory::all(cache),
    };
    let info = |path: PathBuf| Info {
        used: allocated(&path),
        messages: database::reader(&path).and_then(|reader| database::counts(&reader)).ok(),
        in_use: directory::is_taken(&path),
        path,
    };
    paths.into_iter().map(info).collect()
}

/// Removes what is kept of all accounts, or of one; how many octets that were. A mount that uses it goes on without.
///
/// # Errors
/// `Local`.
pub fn clear(cache: &Path, account: Option<&Account>) -> Result<u64> {
    let mut octets = 0;
    for info in info(cache, account) {
        directory::remove(&info.path)?;
        octets += info.used;
    }
    Ok(octets)
}

/// Octets of the disk that are in use below a directory.
fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => allocated(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}
