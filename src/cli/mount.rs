//! `imapfs mount`: settings together, secret read, then to the background, then the mount.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

use super::args::{Cli, Command, Global, Mount};
use super::background::{self, Side};
use super::exit::{Exit, Failure};
use super::target::Target;
use super::{args, log, mount_options, parse, print, target};
use crate::account::Deletion;
use crate::config::{Delete, Names};
use crate::error::Error;
use crate::mount::{self, Options};
use crate::store;

/// Default of `--cache-size`, octets.
const CACHE_SIZE: u64 = 2 << 30;

/// Mounts as this command line says, in which `-o` still stands as it was given.
///
/// # Errors
/// What hinders it; in the background, what the process there reported.
pub fn run(arguments: Vec<OsString>, sloppy: bool, password: Option<SecretString>) -> Result<(), Failure> {
    let Some((global, mount)) = expand(arguments, sloppy)? else { return Ok(()) };
    let options = options(&mount, &global, password)?;
    let line = format!("{} is mounted at {}", options.name, options.mountpoint.display());
    if mount.foreground {
        log::start(&global, false)?;
        let ready = || {
            tracing::info!("{line}");
            Ok(())
        };
        return match mount::run(options, ready) {
            // A service that is stopped while it connects has not failed.
            Err(Error::Interrupted) => Ok(()),
            outcome => Ok(outcome?),
        };
    }
    let reporter = match background::fork()? {
        Side::Parent(outcome) => return outcome.and_then(|line| print(&format!("{line}\n"))),
        Side::Child(reporter) => Cell::new(Some(reporter)),
    };
    let outcome = log::start(&global, true).and_then(|()| {
        let ready = || match reporter.take().map(|reporter| reporter.ready(&line)) {
            Some(Err(failure)) => Err(Error::Local(failure.message.into())),
            _ => {
                tracing::info!("{line}");
                Ok(())
            }
        };
        mount::run(options, ready).map_err(Failure::from)
    });
    if let Err(failure) = &outcome {
        tracing::error!("{}", failure.message);
        if let Some(reporter) = reporter.take() {
            reporter.failed(failure);
            // The parent says it: not a second time.
            std::process::exit(i32::from(failure.exit as u8));
        }
    }
    outcome
}

/// Checks all that can be checked without mounting (`mount -f`).
///
/// # Errors
/// As [`run`].
pub fn check(arguments: Vec<OsString>, sloppy: bool) -> Result<(), Failure> {
    let Some((global, mount)) = expand(arguments, sloppy)? else { return Ok(()) };
    let target = target::find(mount.account(), &global)?;
    target.with_flags(mount.settings(), mount.account())?;
    mountpoint(mount.mountpoint()).map(|_| ())
}

/// Parses the command line with each mount option put in as the flag that it stands for. They come first, so that
/// flags go before mount options, and those before the environment.
fn expand(arguments: Vec<OsString>, sloppy: bool) -> Result<Option<(Global, Mount)>, Failure> {
    let split = |cli: Option<Cli>| match cli {
        Some(Cli { global, command: Command::Mount(mount) }) => Some((global, mount)),
        _ => None,
    };
    let Some((global, mount)) = split(parse(&arguments)?) else { return Ok(None) };
    if mount.options.is_empty() {
        return Ok(Some((global, mount)));
    }
    let flags = mount_options::flags(&mount.options.join(","), &args::mount_command(), sloppy)?;
    // The command, and not the value of a flag before it.
    let command =
        arguments.windows(2).position(|two| two[1] == "mount" && two[0] != "--config" && two[0] != "--log-file");
    let at = 2 + command.unwrap_or(0);
    let mut expanded = arguments;
    expanded.splice(at..at, flags);
    Ok(split(parse(&expanded)?))
}

fn options(mount: &Mount, global: &Global, password: Option<SecretString>) -> Result<Options, Failure> {
    let argument = mount.account();
    let target = target::find(argument, global)?.with_flags(mount.settings(), argument)?;
    let mountpoint = mountpoint(mount.mountpoint())?;
    let offline = mount.view.offline;
    let imap = target.imap_options(global, &mount.connection, password, offline)?;
    let cache = cache(&target)?;
    if offline && cache.is_none() {
        return Err(Failure::usage("--offline shows what is in the disk cache, and there is none"));
    }
    let settings = target.settings;
    Ok(Options {
        name: target.name,
        mountpoint,
        root_mailbox: settings.mailbox,
        uid_names: settings.names == Some(Names::Uid),
        show_views: settings.show_views.unwrap_or(false),
        allow_other: settings.allow_other.unwrap_or(false),
        umask: settings.umask.unwrap_or(0),
        nonempty: mount.view.nonempty,
        searches: settings.searches.into_iter().map(|(name, query)| (name, Arc::new(query))).collect(),
        read_only: imap.read_only || offline,
        deletion: match settings.delete.unwrap_or_default() {
            Delete::Trash => Deletion::Trash,
            Delete::Expunge => Deletion::Expunge,
            Delete::Flag => Deletion::Flag,
        },
        write_behind: settings.write_behind.unwrap_or(false),
        cache,
        offline,
        imap,
    })
}

/// The disk cache, unless nothing is to be kept.
fn cache(target: &Target) -> Result<Option<store::Options>, Failure> {
    if target.settings.cache == Some(false) {
        return Ok(None);
    }
    let Some(directory) = target.cache_dir()? else { return Ok(None) };
    let limit = target.settings.cache_size.unwrap_or(CACHE_SIZE);
    Ok(Some(store::Options { directory, account: target.cache_account()?, limit }))
}

/// The directory to mount on, absolute and without symbolic links. One whose file system has lost its process
/// (ENOTCONN, ECONNABORTED) will do: it is cleared before mounting.
fn mountpoint(path: &Path) -> Result<PathBuf, Failure> {
    let refuse = |reason: &str| Err(Failure::usage(format!("cannot mount on {}: {reason}", path.display())));
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            path.canonicalize().map_err(|error| Failure::system("cannot resolve the directory", &error))
        }
        Ok(_) => refuse("it is not a directory"),
        Err(error) if error.kind() == ErrorKind::NotFound => refuse("there is no such directory"),
        Err(error) if matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::ConnectionAborted) => {
            target::absolute(path)
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Failure::new(Exit::Auth, format!("cannot mount on {}: {error}", path.display())))
        }
        Err(error) => Err(Failure::system(&format!("cannot mount on {}", path.display()), &error)),
    }
}
