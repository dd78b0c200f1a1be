//! What the user wrote down: `config.toml`, its accounts, and where secrets come from.

pub mod secret;
pub mod settings;

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::Deserialize;

use crate::error::{Error, Result};
pub use settings::{Delete, Names, Settings};

/// Read when the user has no file of their own, or no home: mount(8) runs its helpers with HOME empty.
pub const SYSTEM_FILE: &str = "/etc/imapfs/config.toml";

/// A config file is a few lines; what is larger is something else.
const MAX_BYTES: u64 = 1 << 20;

/// The config file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// `[accounts.NAME]`
    pub accounts: BTreeMap<String, Settings>,
}

/// Where the user's own config file is: `$XDG_CONFIG_HOME/imapfs/config.toml`, else below `$HOME/.config`; `None`
/// without a home.
pub fn user_file() -> Option<PathBuf> {
    let dir = etcetera::base_strategy::Xdg::new().ok()?.config_dir();
    dir.is_absolute().then(|| dir.join("imapfs/config.toml"))
}

/// Where caches are when no other place was named: `$XDG_CACHE_HOME/imapfs`, else below `$HOME/.cache`; `None` without a
/// home.
pub fn cache_dir() -> Option<PathBuf> {
    let dir = etcetera::base_strategy::Xdg::new().ok()?.cache_dir();
    dir.is_absolute().then(|| dir.join("imapfs"))
}

/// Where the config file is when none was named: the user's own if it exists, else [`SYSTEM_FILE`] if that exists,
/// else the place where the user's own would be.
pub fn default_file() -> PathBuf {
    let system = PathBuf::from(SYSTEM_FILE);
    match user_file() {
        Some(user) if user.exists() || !system.exists() => user,
        _ => system,
    }
}

/// Reads a config file of the user with this id.
///
/// # Errors
/// `NotFound`; `Local` when it cannot be read; `Denied` when others could have written it, or can read a password in
/// it; `Invalid`, with the line, when it makes no sense.
pub fn load(path: &Path, uid: u32) -> Result<Config> {
    let cannot = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Error::NotFound,
        _ => Error::Local(format!("cannot read {}: {error}", path.display()).into()),
    };
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(cannot)?;
    let config = parse(&text, path)?;
    let holds_password = config.accounts.values().any(|account| account.password.value.is_some());
    check_private(path, &metadata, uid, if holds_password { 0o077 } else { 0o022 })?;
    Ok(config)
}

/// Parses the text of a config file; `path` names it in errors, and what is relative in it is relative to its folder.
///
/// # Errors
/// `Invalid`, a sentence that names the file, the line and the key, and never a value: it could be a password.
pub fn parse(text: &str, path: &Path) -> Result<Config> {
    let mut config: Config = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let line = line.map_or(String::new(), |line| format!(" line {line}:"));
        Error::invalid(format!("{}:{line} {}", path.display(), without_values(error.message())))
    })?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    for account in config.accounts.values_mut() {
        for path in [&mut account.tls_ca, &mut account.password.file, &mut account.cache_dir].into_iter().flatten() {
            *path = expand(path, folder);
        }
    }
    Ok(config)
}

/// An error message of the TOML reader with the value that was found taken out, on one line.
fn without_values(message: &str) -> String {
    let message = match message.split_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid ") => format!("wrong value, expected {expected}"),
        _ => message.replace("unknown field", "unknown key").replace("duplicate field", "duplicate key"),
    };
    message.lines().collect::<Vec<_>>().join(", ")
}

/// `~/` is the home, and other relative paths start at the folder of the config file.
fn expand(path: &Path, folder: &Path) -> PathBuf {
    match (path.strip_prefix("~"), etcetera::home_dir()) {
        (Ok(rest), Ok(home)) => home.join(rest),
        _ => folder.join(path),
    }
}

/// Refuses a file that another user owns, or that others have one of these rights to. Root may own what a user reads.
///
/// # Errors
/// `Denied`, with what to do about it.
pub fn check_private(path: &Path, metadata: &Metadata, uid: u32, forbidden: u32) -> Result<()> {
    let path = path.display();
    if metadata.uid() != uid && metadata.uid() != 0 {
        return Err(Error::Denied(format!("{path} belongs to another user").into()));
    }
    let rights = metadata.mode() & 0o777;
    if rights & forbidden != 0 {
        let (who, mode) = if forbidden & 0o044 != 0 { ("read or changed", "600") } else { ("changed", "go-w") };
        return Err(Error::Denied(
            format!("{path} has mode {rights:04o} and could be {who} by other users: chmod {mode} {path}").into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
