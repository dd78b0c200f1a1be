//! The composition root: runtime, account, file system, kernel session, signals, and the order of shutdown.
//!
//! Up: connect and log in, open the account, mount, tell that we are ready. Down, whether by a signal or because
//! somebody unmounted: the kernel session first, so that no new request comes; then the connections, with LOGOUT.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::{fuse, imap};

/// How long tasks that are still at work may hold up the end of the process.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

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
    /// Nothing can be changed.
    pub read_only: bool,
    /// The connections.
    pub imap: imap::Options,
}

/// Mounts, calls `ready` once files can be read, and returns when it is unmounted again: from outside, or by SIGTERM,
/// SIGINT or SIGHUP. An error of `ready` unmounts.
///
/// # Errors
/// Why it could not be mounted (`Auth`, `Offline`, …); `Interrupted` when a signal came before it was; `Busy` when
/// another mount covers it at the end; `Local` for the kernel.
pub fn run(options: Options, ready: impl FnOnce() -> Result<()>) -> Result<()> {
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
    let (client, fs) = tokio::select! {
        started = start(&options) => started?,
        () = signals.end() => return Err(Error::Interrupted),
    };
    let outcome = until_unmounted(fs, &options, ready, &mut signals).await;
    client.close().await;
    outcome
}

/// Connects, and builds the file system over it.
async fn start(options: &Options) -> Result<(imap::Client, Arc<Fs>)> {
    let (events, _unasked) = mpsc::unbounded_channel();
    let client = imap::Client::connect(options.imap.clone(), events).await?;
    Ok((client, Arc::new(Fs {})))
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
        allow_other: options.allow_other,
        nonempty: options.nonempty,
        ..fuse::Options::default()
    };
    let mounted = fuse::serve(fs, Handle::current(), &options.mountpoint, &kernel)?;
    ready()?;
    tell_manager("READY=1");
    let signalled = tokio::select! {
        () = signals.end() => true,
        () = mounted.ended() => false,
    };
    tell_manager("STOPPING=1");
    if signalled {
        mounted.unmount()?;
    }
    tracing::info!("unmounted");
    Ok(())
}

/// Tells the service manager, if there is one, sd_notify(3): a datagram to `$NOTIFY_SOCKET`, a path or an abstract
/// name after `@`.
fn tell_manager(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = |socket: UnixDatagram| {
        match address.as_bytes().strip_prefix(b"@") {
            Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => socket.connect(&address)?,
        }
        socket.send(state.as_bytes())
    };
    if let Err(error) = UnixDatagram::unbound().and_then(send) {
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
