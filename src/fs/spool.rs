//! The octets of a file that is being written, on disk until a server has confirmed them.
//!
//! 1. A spool file has a name from its first octet on, so that a crash or a failed close loses nothing.
//! 2. It is removed when its octets are on the server, or the user removed the file. Otherwise it is kept.
//! 3. The name tells where it was to go: `INBOX-x.eml.4711-3`, and `….failed` for what the server did not take.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::tree::safe;

/// What is added to the name of a file that is kept.
const FAILED: &str = "failed";

/// Tells spool files of this process apart.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// See the top of the file. Dropping it removes it, unless it was kept.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    /// Where it is; `None` once it is kept.
    path: Mutex<Option<PathBuf>>,
}

impl Spool {
    /// An empty spool file in `directory`, which is made when it is not there; `label` is where it is to go.
    ///
    /// # Errors
    /// `DiskFull`; `Local` when it cannot be made.
    pub fn new(directory: &Path, label: &str) -> Result<Self> {
        let at = |error| local(directory, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at)?;
        let label = safe::file_name(label).unwrap_or_else(|| "message".to_owned());
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{label}.{}-{number}", std::process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Self { file: Arc::new(file), path: Mutex::new(Some(path)) }),
                // Of a process before us with our number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(at(error)),
            }
        }
    }

    /// The file itself.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Its length in octets.
    pub fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(io_error)?.len())
    }

    /// Writes all of `data` at `offset`; what is between the end and there reads as zeros.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.file.write_all_at(data, offset).map_err(io_error)
    }

    /// Exactly `size` octets from `offset` on, fewer only at the end.
    pub fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>> {
        let left = usize::try_from(self.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut data = vec![0; size.min(left)];
        let mut done = 0;
        while done < data.len() {
            match self.file.read_at(&mut data[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error(error)),
            }
        }
        data.truncate(done);
        Ok(data)
    }

    /// Cuts it, or adds zeros.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(io_error)
    }

    /// Keeps it for the user, under a name that says so. Where it is then.
    pub fn keep(&self) -> Option<PathBuf> {
        let path = self.path.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let mut kept = path.clone().into_os_string();
        kept.push(".");
        kept.push(FAILED);
        // Where it cannot be renamed it is still kept.
        Some(if std::fs::rename(&path, &kept).is_ok() { kept.into() } else { path })
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let path = self.path.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(path) = path
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!("cannot remove the spool file {}: {error}", path.display());
        }
    }
}

/// An empty file that has no name: it is gone when it is closed.
pub fn unnamed(directory: &Path) -> io::Result<File> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("unnamed.{}-{number}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// How many files earlier mounts left in `directory`: what no server took, or nobody could send after a crash.
pub fn leftovers(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.filter_map(io::Result::ok).filter(|entry| !is_in_use(&entry.file_name().to_string_lossy())).count()
}

/// Is it the spool file of a process that runs?
fn is_in_use(name: &str) -> bool {
    let process = name.rsplit_once('.').and_then(|(_, end)| end.split_once('-')).map(|(pid, _)| pid);
    process.is_some_and(|pid| Path::new("/proc").join(pid).exists())
}

fn io_error(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::DiskFull(format!("the spool file: {error}").into()),
        ErrorKind::FileTooLarge => Error::TooBig("no file on the local disk can be this long".into()),
        _ => Error::Local(format!("the spool file: {error}").into()),
    }
}

fn local(directory: &Path, error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::DiskFull(format!("{}: {error}", directory.display()).into())
        }
        _ => Error::Local(format!("cannot write in {}: {error}", directory.display()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_spool_file_is_written_anywhere_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(&dir.path().join("a/b"), "INBOX/x.eml").unwrap();
        spool.write(3, b"def").unwrap();
        spool.write(0, b"a").unwrap();
        assert_eq!(spool.read(0, 100).unwrap(), b"a\0\0def");
        assert_eq!((spool.read(4, 1).unwrap(), spool.read(6, 5).unwrap(), spool.len()), (b"e".to_vec(), vec![], Ok(6)));
        spool.set_len(1).unwrap();
        spool.set_len(2).unwrap();
        assert_eq!(spool.read(0, 100).unwrap(), b"a\0");
    }

    #[test]
    fn only_what_was_kept_outlives_its_spool_and_its_name_tells_where_it_was_to_go() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["INBOX/../x.eml", "INBOX/../x.eml"].map(|label| Spool::new(dir.path(), label).unwrap());
        assert_eq!((names(dir.path()).len(), leftovers(dir.path())), (2, 0));
        second.write(0, b"x").unwrap();
        let kept = second.keep().unwrap();
        assert_eq!(second.keep(), None);
        // What comes after goes to the same file.
        second.write(1, b"y").unwrap();
        drop((first, second));
        assert_eq!(std::fs::read(&kept).unwrap(), b"xy");
        let left = names(dir.path());
        assert!(left.len() == 1 && left[0].starts_with("INBOX-..-x.eml.") && left[0].ends_with(".failed"), "{left:?}");
        assert_eq!(leftovers(dir.path()), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_is_an_error_with_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Spool::new(file.path(), "x").unwrap_err();
        assert!(matches!(&error, Error::Local(why) if why.contains(file.path().to_str().unwrap())), "{error}");
    }
}
