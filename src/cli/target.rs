//! Which account is meant, and what the layers below are told about it: flags go before the URL or the config file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::args::{Connection, Global};
use super::exit::{Exit, Failure};
use super::url;
use crate::config::secret::Sources;
use crate::config::{self, Settings};
use crate::error::Error;
use crate::fuse;
use crate::imap::options::CredentialSource;
use crate::imap::{self, Tls};
use crate::store;

/// Default of `--connections`: one watches, the others fetch; providers allow 10 to 15 in all.
const CONNECTIONS: usize = 4;
/// Default of `--timeout`.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An account with all that is said about it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name in the config file, else `user@host`.
    pub name: String,
    /// What the URL or the config file says.
    pub settings: Settings,
}

/// Finds the account that the argument names: a URL, an account of the config file, or nothing for the only one.
///
/// # Errors
/// Usage for a URL that makes no sense or a choice that is open; Config for a config file that is wrong or has no such
/// account.
pub fn find(argument: Option<&str>, global: &Global) -> Result<Target, Failure> {
    if let Some(url) = argument.filter(|argument| url::is_url(argument)) {
        let (name, settings) = url::parse(url)?;
        return Ok(Target { name, settings });
    }
    let path = global.config.clone().unwrap_or_else(config::default_file);
    let wrong = |reason: String| Failure::new(Exit::Config, reason);
    let mut config = config::load(&path, fuse::current_ids().0).map_err(|error| match error {
        Error::NotFound => wrong(format!("there is no config file {} (imapfs configure writes one)", path.display())),
        error => Failure::config(error),
    })?;
    let names = config.accounts.keys().cloned().collect::<Vec<_>>().join(", ");
    let name = match argument {
        Some(name) => name.to_owned(),
        None if config.accounts.len() > 1 => return Err(Failure::usage(format!("which account? There are: {names}"))),
        None => names.clone(),
    };
    let Some(settings) = config.accounts.remove(&name) else {
        let name = crate::error::printable(name.as_bytes(), 60);
        return Err(wrong(match (name.is_empty(), names.is_empty()) {
            (true, _) => format!("there is no account in {}", path.display()),
            (false, true) => format!("there is no account `{name}` in {}", path.display()),
            (false, false) => format!("there is no account `{name}` in {}; there are: {names}", path.display()),
        }));
    };
    Ok(Target { name, settings })
}

impl Target {
    /// Puts what flags say over what is known.
    ///
    /// # Errors
    /// Usage when `--tls` contradicts the scheme of the URL.
    pub fn with_flags(self, flags: Settings, argument: Option<&str>) -> Result<Target, Failure> {
        let scheme = self.settings.tls.filter(|_| argument.is_some_and(url::is_url));
        match (scheme, flags.tls) {
            (Some(Tls::Implicit), Some(Tls::StartTls | Tls::None)) => {
                return Err(Failure::usage("imaps:// means TLS from the first byte; use imap:// with this --tls"));
            }
            (Some(Tls::StartTls), Some(Tls::Implicit)) => {
                return Err(Failure::usage("imap:// means STARTTLS; use imaps:// for TLS from the first byte"));
            }
            _ => {}
        }
        Ok(Target { settings: flags.over(self.settings), ..self })
    }

    /// Whose the disk cache is.
    ///
    /// # Errors
    /// Config when host or user are missing.
    pub fn cache_account(&self) -> Result<store::Account, Failure> {
        let Settings { host, user, port, tls, .. } = &self.settings;
        let missing = |what: &str| Failure::new(Exit::Config, format!("account `{}` has no {what}", self.name));
        Ok(store::Account {
            user: user.clone().ok_or_else(|| missing("user"))?,
            host: host.clone().ok_or_else(|| missing("host"))?,
            port: port.unwrap_or(usual_port(tls.unwrap_or(Tls::Implicit))),
        })
    }

    /// Where the disk cache is, if there is a place for it.
    ///
    /// # Errors
    /// Usage for an empty path.
    pub fn cache_dir(&self) -> Result<Option<PathBuf>, Failure> {
        match &self.settings.cache_dir {
            Some(path) => absolute(path).map(Some),
            None => Ok(config::cache_dir()),
        }
    }

    /// The Options of the connections. Reads the secret, or asks for it on the terminal; not when `offline`.
    ///
    /// # Errors
    /// Config when host or user are missing or a password file is not private; Auth when there is no secret.
    pub fn imap_options(
        &self,
        global: &Global,
        flags: &Connection,
        environment: Option<SecretString>,
        offline: bool,
    ) -> Result<imap::Options, Failure> {
        let settings = &self.settings;
        let missing = |what: &str| Failure::new(Exit::Config, format!("account `{}` has no {what}", self.name));
        let host = settings.host.clone().ok_or_else(|| missing("host"))?;
        let user = settings.user.clone().ok_or_else(|| missing("user: say user@host, or --user"))?;
        let tls = settings.tls.unwrap_or(Tls::Implicit);
        let tls_ca = settings.tls_ca.as_deref().map(absolute).transpose()?;
        let mut password = settings.password.clone();
        password.file = password.file.as_deref().map(absolute).transpose()?;
        let sources = Sources {
            account: self.name.clone(),
            whose: format!("{user}@{host}"),
            token: settings.token.clone(),
            password,
            credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            environment,
            stdin: flags.password_stdin,
            uid: fuse::current_ids().0,
        };
        let opened = match offline {
            true => Ok(Arc::new(|_| Err(Error::offline("mounted without a server"))) as CredentialSource),
            false => sources.open(),
        };
        let credentials = opened.map_err(|error| match error {
            Error::Denied(_) | Error::Invalid(_) => Failure::config(error),
            error => Failure::new(Failure::from(error.clone()).exit, reason(&error)),
        })?;
        Ok(imap::Options {
            port: settings.port.unwrap_or(usual_port(tls)),
            host,
            tls,
            tls_ca,
            user,
            credentials,
            connections: settings.connections.unwrap_or(CONNECTIONS),
            read_only: settings.read_only.unwrap_or(false),
            compress: settings.compress.unwrap_or(true),
            debug_protocol: global.debug_imap,
            timeout: settings.timeout.map_or(TIMEOUT, Duration::from_secs),
        })
    }
}

fn usual_port(tls: Tls) -> u16 {
    if tls == Tls::Implicit { 993 } else { 143 }
}

/// A missing secret is no refused login.
fn reason(error: &Error) -> String {
    match error {
        Error::Auth(text) => text.to_string(),
        error => error.to_string(),
    }
}

/// A path that still means the same when the working directory is another.
///
/// # Errors
/// Usage for an empty path.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}
