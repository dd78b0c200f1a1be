//! The command line, and what of it becomes settings of an account.
#![allow(rustdoc::broken_intra_doc_links)] // the docstrings here are help texts

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::config::settings::{Password, Token, parse_size, parse_umask};
use crate::config::{self, Settings};
use crate::imap;

/// Also the EXIT STATUS of the man page.
pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 nothing found, 64 wrong call, 69 server unreachable or unfit, 70 defect of imapfs, \
     71 this machine cannot do it, 75 try again later, 77 login refused or no password, 78 config file wrong; \
     called by mount(8): 0, 1, 2, 32.";

/// Mounts an IMAP account as a file system
#[derive(Debug, Parser)]
#[command(name = "imapfs", version, max_term_width = 100, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub global: Global,
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Config file [default: $XDG_CONFIG_HOME/imapfs/config.toml, else /etc/imapfs/config.toml]
    #[arg(long, global = true, env = "IMAPFS_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Write the log to this file, with mode 0600 [default: standard error, in the background syslog]
    #[arg(long, global = true, env = "IMAPFS_LOG_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log_file: Option<PathBuf>,
    /// Say more in the log; twice says most (IMAPFS_LOG takes filters, such as imapfs::imap=debug)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log what goes over the wire, with secrets and message data left out
    #[arg(long, global = true, env = "IMAPFS_DEBUG_IMAP", value_parser = BoolishValueParser::new())]
    pub debug_imap: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount an account on a directory
    Mount(Mount),
    /// Unmount a directory
    Umount(Umount),
    /// Show how a mount is doing, or list the mounts
    Status(Status),
    /// Connect, and say what the server can do and what imapfs makes of it
    Check(Check),
    /// Print the paths of the messages that a query is about
    Search(Search),
    /// Print the lines of messages that match a pattern; only messages that the server finds are read
    Grep(Grep),
    /// Look at what is kept on disk, clear it away, or fill it
    Cache(Cache),
    /// Write an account into the config file
    Configure(Configure),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// `imapfs mount`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true, override_usage = "imapfs mount [OPTIONS] [ACCOUNT|URL] <MOUNTPOINT>")]
pub struct Mount {
    /// Account of the config file, or imaps://user@host[:port][/MAILBOX] [default: the only account]; then the directory
    /// to mount on
    // One list: with two positionals of which the first may be missing, clap takes no flag between them.
    #[arg(value_name = "ACCOUNT|URL> <MOUNTPOINT", num_args = 1..=2, required = true, value_hint = ValueHint::AnyPath)]
    pub places: Vec<OsString>,
    /// Stay in the foreground and log to standard error
    #[arg(short, long, env = "IMAPFS_FOREGROUND", value_parser = BoolishValueParser::new())]
    pub foreground: bool,
    /// Mount options, as mount(8) hands them on: any flag below, with `_` for `-`; ro is --read-only
    #[arg(short = 'o', value_name = "OPTS")]
    pub options: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub view: View,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub disk: Disk,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: Connection,
}

/// What the mount shows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "View")]
pub struct View {
    /// Nothing can be changed through the mount
    #[arg(long, env = "IMAPFS_READ_ONLY", value_parser = BoolishValueParser::new())]
    pub read_only: bool,
    /// What happens to a message that is removed: it is moved to the trash mailbox, and from there expunged; it is
    /// expunged at once; or it is only flagged as deleted, and hidden [default: trash]
    #[arg(long, env = "IMAPFS_DELETE")]
    pub delete: Option<Delete>,
    /// Do not wait for the server when messages are moved, removed or flagged: fsync of a directory, and unmounting, do
    #[arg(long, env = "IMAPFS_WRITE_BEHIND", value_parser = BoolishValueParser::new())]
    pub write_behind: bool,
    /// Names of messages: DATE_SENDER_SUBJECT.UID, or the bare UID [default: full]
    #[arg(long, env = "IMAPFS_NAMES")]
    pub names: Option<Names>,
    /// List .eml, .messages.tsv and .imapfs, which otherwise only answer when they are named
    #[arg(long, env = "IMAPFS_SHOW_VIEWS", value_parser = BoolishValueParser::new())]
    pub show_views: bool,
    /// Let other users in, as far as permissions go
    #[arg(long, env = "IMAPFS_ALLOW_OTHER", value_parser = BoolishValueParser::new())]
    pub allow_other: bool,
    /// Mount on a directory that is not empty, and hide what is in it
    #[arg(long, env = "IMAPFS_NONEMPTY", value_parser = BoolishValueParser::new())]
    pub nonempty: bool,
    /// Show what is in the disk cache, without a server; nothing can be changed
    #[arg(long, env = "IMAPFS_OFFLINE", value_parser = BoolishValueParser::new())]
    pub offline: bool,
    /// Permission bits to take away from 700 (directories) and 600 (files), in octal
    #[arg(long, env = "IMAPFS_UMASK", value_name = "BITS", value_parser = parse_umask)]
    pub umask: Option<u16>,
}

/// What is kept on disk from one mount to the next.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Disk cache")]
pub struct Disk {
    /// Keep nothing on disk
    #[arg(long, env = "IMAPFS_NO_CACHE", value_parser = BoolishValueParser::new(), conflicts_with = "offline")]
    pub no_cache: bool,
    /// The most that is kept of this account: a number of octets, or with K, M, G or T of so many KiB and so on
    /// [default: 2G]
    #[arg(long, env = "IMAPFS_CACHE_SIZE", value_name = "SIZE", value_parser = parse_size)]
    pub cache_size: Option<u64>,
    /// Where it is kept [default: $XDG_CACHE_HOME/imapfs]
    #[arg(long, env = "IMAPFS_CACHE_DIR", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache_dir: Option<PathBuf>,
}

/// How to connect and log in.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Protection of the connection [default: as the URL says, else implicit]; none sends everything in the clear
    #[arg(long, env = "IMAPFS_TLS")]
    pub tls: Option<Tls>,
    /// PEM file with roots that are trusted besides the system's
    #[arg(long, env = "IMAPFS_TLS_CA", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tls_ca: Option<PathBuf>,
    /// Login name
    #[arg(long, env = "IMAPFS_USER")]
    pub user: Option<String>,
    /// Command that prints the password on its first line; run without a shell
    #[arg(long, env = "IMAPFS_PASSWORD_COMMAND", value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    pub password_command: Option<String>,
    /// File with the password on its first line, readable by its owner alone
    #[arg(long, env = "IMAPFS_PASSWORD_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
    /// Read the password from the first line of standard input
    #[arg(long, env = "IMAPFS_PASSWORD_STDIN", value_parser = BoolishValueParser::new())]
    pub password_stdin: bool,
    /// Command that prints an OAuth2 access token on its first line; run again on every reconnect
    #[arg(long, env = "IMAPFS_TOKEN_COMMAND", value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    pub token_command: Option<String>,
    /// Connections at the most, 1 to 16 [default: 4]
    #[arg(long, env = "IMAPFS_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub connections: Option<u8>,
    /// Seconds that the server may be silent before an exchange fails, 1 to 3600 [default: 60]
    #[arg(long, env = "IMAPFS_TIMEOUT", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: Option<u64>,
    /// Do not compress, though the server offers it
    #[arg(long, env = "IMAPFS_NO_COMPRESS", value_parser = BoolishValueParser::new())]
    pub no_compress: bool,
}

/// `imapfs umount`.
#[derive(Args, Debug)]
pub struct Umount {
    /// Where it is mounted
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: PathBuf,
    /// Take it out of sight at once, also when it is in use
    #[arg(short = 'z', long, env = "IMAPFS_LAZY", value_parser = BoolishValueParser::new())]
    pub lazy: bool,
}

/// `imapfs status`.
#[derive(Args, Debug)]
pub struct Status {
    /// Where it is mounted [default: list all mounts]
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: Option<PathBuf>,
    /// Print JSON
    #[arg(long, env = "IMAPFS_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// `imapfs search`.
#[derive(Args, Debug)]
pub struct Search {
    /// Directory of a mailbox in a mount; or the mount itself, for all mailboxes
    #[arg(value_hint = ValueHint::DirPath)]
    pub path: PathBuf,
    /// Words and terms, such as: invoice from:bob since:2026-01-01 -is:read has:attachment
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub query: Vec<String>,
    /// End each path with a NUL, for xargs -0
    #[arg(short = '0', long, env = "IMAPFS_NULL", value_parser = BoolishValueParser::new())]
    pub null: bool,
    /// Print JSON
    #[arg(long, env = "IMAPFS_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Print how many there are
    #[arg(long, env = "IMAPFS_COUNT", value_parser = BoolishValueParser::new())]
    pub count: bool,
    /// Read what the server found, and leave out what does not hold the texts: for servers that find words by their stem
    #[arg(long, env = "IMAPFS_EXACT", value_parser = BoolishValueParser::new())]
    pub exact: bool,
}

/// `imapfs grep`.
#[derive(Args, Debug)]
pub struct Grep {
    /// Regular expression; it is looked for in headers, bodies and attachments of a text type
    #[arg(allow_hyphen_values = true)]
    pub pattern: String,
    /// Mount, mailbox (with those in it), or message
    #[arg(value_hint = ValueHint::AnyPath)]
    pub path: PathBuf,
    /// Upper and lower case are the same
    #[arg(short, long, env = "IMAPFS_IGNORE_CASE", value_parser = BoolishValueParser::new())]
    pub ignore_case: bool,
    /// Print only the names of files that match
    #[arg(short = 'l', long, env = "IMAPFS_FILES", value_parser = BoolishValueParser::new())]
    pub files: bool,
    /// Print how many lines match, of each file that has any
    #[arg(short, long, env = "IMAPFS_COUNT", value_parser = BoolishValueParser::new())]
    pub count: bool,
    /// Print line numbers
    #[arg(short = 'n', long, env = "IMAPFS_LINE_NUMBER", value_parser = BoolishValueParser::new())]
    pub line_number: bool,
    /// The pattern is a text
    #[arg(short = 'F', long, env = "IMAPFS_FIXED", value_parser = BoolishValueParser::new())]
    pub fixed: bool,
}

/// `imapfs check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Account of the config file, or imaps://user@host[:port] [default: the only account]
    #[arg(value_name = "ACCOUNT|URL")]
    pub account: Option<String>,
    /// Print JSON
    #[arg(long, env = "IMAPFS_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: Connection,
}

/// `imapfs cache`.
#[derive(Args, Debug)]
pub struct Cache {
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: CacheCommand,
}

/// What to do with it.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show how much is kept of each account, and where
    Info(CacheOf),
    /// Clear it away; mounts that use it go on without
    Clear(CacheOf),
    /// Read the mailboxes of a mount, so that they are kept: how messages are built, headers and texts
    Warm {
        /// The mount, or a mailbox in it (with those below it)
        #[arg(value_hint = ValueHint::DirPath)]
        path: PathBuf,
        /// Attachments too
        #[arg(long, env = "IMAPFS_ALL", value_parser = BoolishValueParser::new())]
        all: bool,
    },
}

/// Which caches.
#[derive(Args, Debug)]
pub struct CacheOf {
    /// Account of the config file, or imaps://user@host[:port] [default: all]
    #[arg(value_name = "ACCOUNT|URL")]
    pub account: Option<String>,
    /// Where they are [default: as the account says, else $XDG_CACHE_HOME/imapfs]
    #[arg(long, env = "IMAPFS_CACHE_DIR", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long, env = "IMAPFS_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// `imapfs configure`.
#[derive(Args, Debug)]
pub struct Configure {
    /// Your address; host and login name are guessed from it
    pub email: Option<String>,
    /// Name of the account in the config file [default: first label of the domain]
    #[arg(long, env = "IMAPFS_NAME")]
    pub name: Option<String>,
    /// Host name of the server [default: imap.DOMAIN]
    #[arg(long, env = "IMAPFS_HOST")]
    pub host: Option<String>,
    /// Port [default: 993, or 143 unless --tls implicit]
    #[arg(long, env = "IMAPFS_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Login name [default: the address]
    #[arg(long, env = "IMAPFS_USER")]
    pub user: Option<String>,
    /// Protection of the connection [default: implicit]
    #[arg(long, env = "IMAPFS_TLS")]
    pub tls: Option<Tls>,
    /// Command that prints the password, such as `pass show mail`
    #[arg(long, env = "IMAPFS_PASSWORD_COMMAND", value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    pub password_command: Option<String>,
}

/// Values of `--tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Tls {
    Implicit,
    #[value(name = "starttls")]
    StartTls,
    None,
}

/// Values of `--names`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Names {
    Full,
    Uid,
}

/// Values of `--delete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Delete {
    Trash,
    Expunge,
    Flag,
}

impl From<Delete> for config::Delete {
    fn from(delete: Delete) -> Self {
        match delete {
            Delete::Trash => config::Delete::Trash,
            Delete::Expunge => config::Delete::Expunge,
            Delete::Flag => config::Delete::Flag,
        }
    }
}

impl From<Tls> for imap::Tls {
    fn from(tls: Tls) -> Self {
        match tls {
            Tls::Implicit => imap::Tls::Implicit,
            Tls::StartTls => imap::Tls::StartTls,
            Tls::None => imap::Tls::None,
        }
    }
}

impl From<Names> for config::Names {
    fn from(names: Names) -> Self {
        match names {
            Names::Full => config::Names::Full,
            Names::Uid => config::Names::Uid,
        }
    }
}

impl Connection {
    /// What these flags say about an account.
    pub fn settings(&self) -> Settings {
        Settings {
            user: self.user.clone(),
            tls: self.tls.map(Into::into),
            tls_ca: self.tls_ca.clone(),
            connections: self.connections.map(usize::from),
            timeout: self.timeout,
            compress: self.no_compress.then_some(false),
            password: Password {
                command: self.password_command.clone(),
                file: self.password_file.clone(),
                value: None,
            },
            token: Token { command: self.token_command.clone() },
            ..Settings::default()
        }
    }
}

impl Mount {
    /// The directory to mount on: the last of the places.
    pub fn mountpoint(&self) -> &Path {
        self.places.last().map_or(Path::new(""), Path::new)
    }

    /// The account, when one was named.
    pub fn account(&self) -> Option<&str> {
        // What is not UTF-8 is no account: it is looked for, and not found, under what can be shown of it.
        let [account, _] = &self.places[..] else { return None };
        Some(account.to_str().unwrap_or("\u{fffd}"))
    }

    /// What these flags say about an account.
    pub fn settings(&self) -> Settings {
        Settings {
            read_only: self.view.read_only.then_some(true),
            delete: self.view.delete.map(Into::into),
            write_behind: self.view.write_behind.then_some(true),
            names: self.view.names.map(Into::into),
            show_views: self.view.show_views.then_some(true),
            allow_other: self.view.allow_other.then_some(true),
            umask: self.view.umask,
            cache: self.disk.no_cache.then_some(false),
            cache_size: self.disk.cache_size,
            cache_dir: self.disk.cache_dir.clone(),
            ..self.connection.settings()
        }
    }
}

/// The whole command line; values of the environment are not shown in help, which is to be the same everywhere.
pub fn command() -> clap::Command {
    let hide = |command: clap::Command| command.mut_args(|argument| argument.hide_env_values(true));
    hide(Cli::command()).mut_subcommands(hide)
}

/// `imapfs mount` with the flags of every command.
pub fn mount_command() -> clap::Command {
    let mut command = command();
    command.build();
    command.find_subcommand("mount").cloned().unwrap_or(command)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command().debug_assert();
    }
}
