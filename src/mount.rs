//! The composition root: runtime, account, file system, kernel session, signals, and the order of shutdown.
//!
//! Up: connect and log in, open the account, mount, tell that we are ready. Down, whether by a signal or because
//! somebody unmounted: the kernel session first, so that no new request comes; then what was written is sent and the
//! changes that are queued are made; then the
//! connections, with LOGOUT.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcetera::BaseStrategy;
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::account::{self, Account};
use crate::error::{Error, Result};
use crate::fs::{self, Fs};
use crate::mail::query::Query;
use crate::store::{self, Store};
use crate::tree::message_name::Names;
use crate::{fuse, imap};

/// How long tasks that are still at work may hold up the end of the process.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

/// For how long what can change is believed without asking the server.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Octets of messages that are kept in memory: more than is read ahead of a reader.
const MEMORY: usize = 32 * 1024 * 1024;

/// How long those who still use an unmounted mount are served before the process ends.
const BUSY_GRACE: Duration = Duration::from_secs(1);

/// How long what is still being sent may hold up the end of the process. What is not there by then stays on disk.
const COMMIT_GRACE: Duration = Duration::from_secs(60);

/// How long changes that are queued may hold it up.
const CHANGES_GRACE: Duration = Duration::from_secs(20);

/// What a mount is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The account's name, or `user@host`: what the mount table shows.
    pub name: String,
    /// Where; absolute.
    pub mountpoint: PathBuf,
    /// Only this mailbox and those below it.
    pub root_mailbox: Option<String>,
    /// Messages are named by their bare UID.
    pub uid_names: bool,
    /// Views are listed.
    pub show_views: bool,
    /// Other users may look inside.
    pub allow_other: bool,
    /// Permission bits that are taken away.
    pub umask: u16,
    /// The mountpoint may hold files, which the mount then hides.
    pub nonempty: bool,
    /// Saved searches, by name.
    pub searches: Vec<(String, Arc<Query>)>,
    /// Nothing can be changed.
    pub read_only: bool,
    /// What happens to messages that are removed.
    pub deletion: account::Deletion,
    /// Changes of messages are not waited for.
    pub write_behind: bool,
    /// The disk cache; `None` for none.
    pub cache: Option<store::Options>,
    /// There is no server: what is in the disk cache is shown, and cannot be changed.
    pub offline: bool,
    /// The connections.
    pub imap: imap::Options,
}

/// Mounts, calls `ready` once files can be read, and returns when it is unmounted again: from outside, or by SIGTERM,
/// SIGINT or SIGHUP. An error of `ready` unmounts.
///
/// # Errors
/// Why it could not be mounted (`Auth`, `Offline`, …); `Interrupted` by a signal before it was; `Local` for the kernel.
pub fn run(options: Options, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    fuse::return_freed_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("imapfs")
        .build()
        .map_err(|error| Error::Local(format!("cannot start: {error}").into()))?;
    let outcome = runtime.block_on(serve(options, ready));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    outcome
}

async fn serve(options: Options, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut signals = Signals::new()?;
    if options.imap.tls == imap::Tls::None {
        tracing::warn!("the connection to {} is not encrypted (--tls none)", options.imap.host);
    }
    let (client, fs, store) = tokio::select! {
        started = start(&options) => started?,
        () = signals.end() => return Err(Error::Interrupted),
    };
    let outcome = until_unmounted(Arc::clone(&fs), &options, ready, &mut signals).await;
    if let Some(store) = &store {
        store.leave();
    }
    if tokio::time::timeout(COMMIT_GRACE, fs.settle()).await.is_err() {
        fs.abandon();
    }
    fs.finish(CHANGES_GRACE).await;
    client.close().await;
    if let Some(store) = store {
        let flush = move || {
            store.flush();
            Ok(())
        };
        blocking(flush).await?;
    }
    outcome
}

/// Connects, and builds the file system over it.
async fn start(options: &Options) -> Result<(imap::Client, Arc<Fs>, Option<Store>)> {
    let (events, unasked) = mpsc::unbounded_channel();
    let store = open_store(options);
    let (client, store) = match options.offline {
        true => (Ok(imap::Client::unreachable()), store.await),
        false => tokio::join!(imap::Client::connect(options.imap.clone(), events), store),
    };
    let client = client?;
    let account = account::Options {
        name: options.name.clone(),
        user: options.imap.user.clone(),
        host: options.imap.host.clone(),
        port: options.imap.has_unusual_port().then_some(options.imap.port),
        root_mailbox: options.root_mailbox.clone(),
        poll_interval: POLL_INTERVAL,
        memory: MEMORY,
        trim: fuse::trim_memory,
        deletion: options.deletion,
        read_only: options.read_only,
        write_behind: options.write_behind,
        store: store.clone(),
        offline: options.offline,
    };
    let account = Account::open(client.clone(), unasked, account).await?;
    let names = if options.uid_names { Names::Uid } else { Names::Full };
    let spool = spool_directory();
    match fs::leftovers(&spool) {
        0 => {}
        n => tracing::warn!("{n} files that no server took are in {}", spool.display()),
    }
    Ok((
        client,
        Fs::new(
            account,
            fs::Options { names, show_views: options.show_views, spool, searches: options.searches.clone() },
        ),
        store.ok(),
    ))
}

/// Opens the disk cache. A mount goes on without, and says why.
async fn open_store(options: &Options) -> std::result::Result<Store, &'static str> {
    let Some(cache) = options.cache.clone() else { return Err("off") };
    let path = cache.directory.display().to_string();
    match blocking(move || Store::open(cache)).await {
        Ok(store) => Ok(store),
        Err(Error::Busy(_)) => {
            tracing::warn!("another mount of this account has the disk cache: this one works without");
            Err("off, another mount has it")
        }
        Err(error) => {
            tracing::warn!(%error, "no disk cache in {path}");
            Err("off, it cannot be opened")
        }
    }
}

/// Where files are while they are being written: they outlive a crash there, unlike in a temporary directory.
fn spool_directory() -> PathBuf {
    match etcetera::base_strategy::Xdg::new() {
        Ok(base) => base.cache_dir().join("imapfs/spool"),
        Err(_) => std::env::temp_dir().join(format!("imapfs-{}", fuse::current_ids().0)),
    }
}

/// Holds the kernel session. Leaving it, by an error too, unmounts.
async fn until_unmounted(
    fs: Arc<Fs>,
    options: &Options,
    ready: impl FnOnce() -> Result<()>,
    signals: &mut Signals,
) -> Result<()> {
    let kernel = fuse::Options {
        fsname: options.name.clone(),
        umask: options.umask,
        read_only: options.read_only,
        noexec: true,
        allow_other: options.allow_other,
        nonempty: options.nonempty,
        ..fuse::Options::default()
    };
    let (runtime, mountpoint) = (Handle::current(), options.mountpoint.clone());
    let mounted = blocking(move || fuse::serve(fs, runtime, &mountpoint, &kernel)).await?;
    let mounted = Arc::new(mounted);
    ready()?;
    tell_manager(NotifyState::Ready);
    let signalled = tokio::select! {
        () = signals.end() => true,
        () = mounted.ended() => false,
    };
    tell_manager(NotifyState::Stopping);
    if signalled {
        let unmounting = Arc::clone(&mounted);
        if blocking(move || unmounting.unmount()).await? == fuse::Unmounted::Lazily {
            tracing::warn!("the mount is in use: its users are served for a moment, then get errors");
            // A timeout is as good as the end.
            let _ = tokio::time::timeout(BUSY_GRACE, mounted.ended()).await;
        }
    }
    tracing::info!("unmounted");
    Ok(())
}

/// Runs what waits for the kernel on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Local(error.to_string().into()))?
}

/// Tells the service manager, if there is one (`NOTIFY_SOCKET`).
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("cannot notify the service manager: {error}");
    }
}

/// The signals that end a mount.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self> {
        let watch = |kind| signal(kind).map_err(|error| Error::Local(format!("cannot watch signals: {error}").into()));
        Ok(Self([watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?, watch(SignalKind::hangup())?]))
    }

    /// Waits for one of them.
    async fn end(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hangup.recv() => "SIGHUP",
        };
        tracing::info!("{name}: ending");
    }
}
