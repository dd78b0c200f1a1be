//! THE KERNEL. The only folder that imports fuser or libc.
//!
//! ```text
//! kernel -> fuser's threads -> adapter -> request -> fs     (answers go back from wherever they are found)
//! fs -> notify -> kernel                                    (what it must forget)
//! ```
//! Invariant: no callback waits for a server. Invariant: each request is answered, at the latest at its deadline.

mod adapter;
mod attr;
mod busy;
mod caller;
mod errno;
mod mountinfo;
mod mounting;
mod names;
mod notify;
mod reply;
mod request;
mod sys;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use fuser::{Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{debug, error, warn};

pub use mountinfo::{Mount, imapfs_mounts, is_imapfs_mount};
pub use mounting::{Unmounted, unmount};
pub use sys::{attribute, current_ids, is_root, return_freed_memory, trim_memory};

use crate::error::{Error, Result};
use crate::fs::Fs;

/// How long a close waits for the server to take what was written. One that is silent for long fails it much earlier;
/// this is for a large message on a slow line.
const COMMIT_DEADLINE: Duration = Duration::from_secs(3600);

/// How to mount.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the mount table shows as the source: the account's name, or its URL without a secret.
    pub fsname: String,
    /// Owner of all entries. Without `allow_other` the only user who gets in.
    pub uid: u32,
    /// Group of all entries.
    pub gid: u32,
    /// Permission bits that are taken away.
    pub umask: u16,
    /// The kernel refuses all changes.
    pub read_only: bool,
    /// Nothing on the mount can be executed.
    pub noexec: bool,
    /// Other users get in too, as far as the permission bits let them.
    pub allow_other: bool,
    /// The mountpoint may hold files, which the mount then hides.
    pub nonempty: bool,
    /// Threads that read requests, at least 1. More than 2 gained nothing on two cores.
    pub threads: usize,
    /// How long a system call waits for an answer before it fails with ETIMEDOUT.
    pub deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let (uid, gid) = current_ids();
        Options {
            fsname: "imapfs".into(),
            uid,
            gid,
            umask: 0,
            read_only: false,
            noexec: false,
            allow_other: false,
            nonempty: false,
            threads: 2,
            deadline: Duration::from_secs(120),
        }
    }
}

/// A mount that is being served. Dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    mountpoint: PathBuf,
    mounting: mounting::Mounting,
    ended: watch::Receiver<bool>,
}

/// Mounts `fs` on `mountpoint` and serves it on threads of its own until it is unmounted, by us or from outside.
/// A dead imapfs on the mountpoint is cleared away first. Blocks for some milliseconds.
///
/// # Errors
/// [`Error::Invalid`] or [`Error::Busy`] when the mountpoint is not fit, [`Error::Denied`] when this user may not
/// mount there, [`Error::Local`] for the rest; each with a sentence for the user.
pub fn serve(fs: Arc<Fs>, runtime: Handle, mountpoint: &Path, options: &Options) -> Result<Mounted> {
    let mountpoint = mounting::prepare(mountpoint, options.nonempty)?;
    let (fd, mounting) = mounting::mount(&mountpoint, options)?;
    let (ending, ended) = watch::channel(false);
    // From here on, leaving early unmounts.
    let mounted = Mounted { mountpoint, mounting, ended };

    let invalidations = fs.invalidations();
    let notifier = Arc::new(OnceLock::new());
    let busy = Arc::new(busy::Busy::default());
    let adapter = adapter::Adapter {
        fs,
        requests: request::Requests::new(runtime.clone(), options.deadline),
        reads: request::Requests::new(runtime.clone(), options.deadline / 2),
        commits: request::Requests::new(runtime, COMMIT_DEADLINE),
        look: attr::Look::new(options),
        busy: busy.clone(),
        notifier: notifier.clone(),
    };
    let mut config = fuser::Config::default();
    config.n_threads = Some(options.threads.max(1));
    // The kernel lets in whom it should (`user_id`, `allow_other`); fuser's own check knows only the daemon's user.
    let session = Session::from_fd(adapter, fd, SessionACL::All, config).map_err(local("FUSE handshake"))?;
    let notifier = notifier.get_or_init(|| session.notifier()).clone();

    let mounting = mounted.mounting.clone();
    let serving = move || {
        let left = match session.run() {
            Ok(()) => mounting.clear(),
            Err(error) => {
                error!("serving the mount failed: {error}");
                // It is still in place: nobody must hang on it.
                mounting.unmount().map(drop)
            }
        };
        if let Err(error) = left {
            warn!("{error}");
        }
        ending.send_replace(true);
    };
    thread::Builder::new().name("fuse".into()).spawn(serving).map_err(local("thread"))?;
    if let Some(invalidations) = invalidations {
        let ended = mounted.ended.clone();
        let notifying = move || notify::run(&notifier, &busy, invalidations, ended);
        thread::Builder::new().name("fuse-notify".into()).spawn(notifying).map_err(local("thread"))?;
    }
    Ok(mounted)
}

impl Mounted {
    /// Where it was mounted, without symbolic links.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Unmounts; lazily when somebody is using it, who then goes on being served. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`Error::Busy`] when another mount covers it, [`Error::Local`] or [`Error::Denied`] when the system refuses.
    pub fn unmount(&self) -> Result<Unmounted> {
        // The kernel soon gives the device number of a mount that has ended to another one.
        if *self.ended.borrow() { Ok(Unmounted::Already) } else { self.mounting.unmount() }
    }

    /// Returns when the last user has left an unmounted mount, so that nothing is left to serve.
    pub async fn ended(&self) {
        // An error means that the serving thread is gone, which is an end as well.
        let _ = self.ended.clone().wait_for(|&ended| ended).await;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        match self.unmount() {
            Ok(outcome) => debug!("unmounted {}: {outcome:?}", self.mountpoint.display()),
            Err(error) => warn!("{error}"),
        }
    }
}

fn local(what: &str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::Local(format!("{what}: {error}").into())
}
