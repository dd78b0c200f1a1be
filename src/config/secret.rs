//! Where the secret comes from: the first source that is set, read when a connection needs it.
//!
//! A source that can be asked again (a command, a file) is asked again, so a changed password or a new access token is
//! found without a restart; one that cannot (environment, standard input, terminal) is read once and kept in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::settings::{Password, Token};
use crate::error::{Error, Result};
use crate::imap::Credentials;
use crate::imap::options::CredentialSource;

/// Longest secret: access tokens are a few kB.
const MAX_BYTES: u64 = 64 << 10;
/// How long a command may take: somebody may have to find their key and type a passphrase.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// How long the answer of a password command is used without asking again: several connections start at once.
const COMMAND_FRESH: Duration = Duration::from_secs(60);
/// The same of a password that was refused: nobody is asked for a passphrase twice for one mistake.
const COMMAND_JUST_ASKED: Duration = Duration::from_secs(5);
/// How often a command that has closed its output is looked at for its end.
const EXIT_POLL: Duration = Duration::from_millis(5);

/// All the places where a secret may be, in this order: `token.command`, `password.command`, `password.file`,
/// `$CREDENTIALS_DIRECTORY`, `IMAPFS_PASSWORD`, standard input, `password.value`, a prompt on the terminal.
#[derive(Debug, Default)]
pub struct Sources {
    /// The account's name, for the file in the credentials directory.
    pub account: String,
    /// Whose secret: `user@host`, for the prompt and for errors.
    pub whose: String,
    /// From the command line or the config file.
    pub token: Token,
    /// From the command line or the config file.
    pub password: Password,
    /// `$CREDENTIALS_DIRECTORY`, where systemd puts what LoadCredential= names.
    pub credentials_directory: Option<PathBuf>,
    /// The value that `IMAPFS_PASSWORD` had.
    pub environment: Option<SecretString>,
    /// Read the first line of standard input.
    pub stdin: bool,
    /// Our user id: a password file must be ours or root's.
    pub uid: u32,
}

/// The source that was chosen.
enum Source {
    /// A command and whether it prints a token.
    Command { arguments: Vec<String>, token: bool },
    /// A file that must be private.
    File { path: PathBuf, uid: u32 },
    /// A file that the service manager keeps private.
    Credential(PathBuf),
    /// Read once.
    Known(SecretString),
}

impl Sources {
    /// Chooses the source, and asks it once: what needs the terminal or standard input is read here, and what is
    /// missing is known here. The result may be called from any thread and may block for two minutes.
    ///
    /// # Errors
    /// `Auth` when there is no secret or its source fails; `Denied` when others can read the file; `Invalid` for a
    /// command line that makes no sense; `TimedOut`. No error holds the secret or a command's arguments.
    pub fn open(self) -> Result<CredentialSource> {
        let source = self.choose()?;
        let kept = Kept { secret: ask(&source, COMMAND_LIMIT)?, since: Instant::now(), used: false };
        let kept = Mutex::new(kept);
        Ok(Arc::new(move |refused| {
            // Held while a command runs: connections that start together share one run.
            let secret = again(&source, &mut kept.lock().unwrap_or_else(PoisonError::into_inner), refused)?;
            let token = matches!(&source, Source::Command { token: true, .. });
            Ok(if token { Credentials::Token(secret) } else { Credentials::Password(secret) })
        }))
    }

    fn choose(self) -> Result<Source> {
        if let Some(line) = &self.token.command {
            return Ok(Source::Command { arguments: words(line, "token")?, token: true });
        }
        if let Some(line) = &self.password.command {
            return Ok(Source::Command { arguments: words(line, "password")?, token: false });
        }
        if let Some(path) = self.password.file {
            return if path.metadata().is_ok_and(|metadata| metadata.is_file()) {
                Ok(Source::File { path, uid: self.uid })
            } else {
                // `--password-file <(pass show work)` is a pipe, which gives its bytes once.
                read_file(&path, Some(self.uid)).map(Source::Known)
            };
        }
        for name in [&*format!("imapfs.{}", self.account), "password"] {
            let file = self.credentials_directory.as_ref().filter(|_| !name.contains('/')).map(|dir| dir.join(name));
            if let Some(path) = file.filter(|path| path.exists()) {
                return Ok(Source::Credential(path));
            }
        }
        if let Some(secret) = self.environment {
            return Ok(Source::Known(secret));
        }
        if self.stdin {
            return read_line(&mut std::io::stdin().lock(), "standard input").map(Source::Known);
        }
        if let Some(secret) = self.password.value {
            return Ok(Source::Known(secret));
        }
        prompt(&self.whose).map(Source::Known)
    }
}

/// The last answer of a source.
struct Kept {
    secret: SecretString,
    since: Instant,
    /// Some connection has had it.
    used: bool,
}

/// The secret for a connection: the first answer is for the first connection, and then a token is asked for each
/// time. A password command that fails now (a locked key ring, no terminal any more) does not end a mount whose
/// password is known. One whose password the server `refused` is asked again, unless it has just been.
fn again(source: &Source, kept: &mut Kept, refused: bool) -> Result<SecretString> {
    let password_command = matches!(source, Source::Command { token: false, .. });
    let used = std::mem::replace(&mut kept.used, true);
    let fresh = if refused { COMMAND_JUST_ASKED } else { COMMAND_FRESH };
    if !used || password_command && kept.since.elapsed() < fresh {
        return Ok(kept.secret.clone());
    }
    match ask(source, COMMAND_LIMIT) {
        Ok(secret) => *kept = Kept { secret, since: Instant::now(), used: true },
        Err(error) if password_command => tracing::warn!("{error}; going on with the password that it gave before"),
        Err(error) => return Err(error),
    }
    Ok(kept.secret.clone())
}

fn ask(source: &Source, limit: Duration) -> Result<SecretString> {
    match source {
        Source::Command { arguments, token } => run(arguments, if *token { "token" } else { "password" }, limit),
        Source::File { path, uid } => read_file(path, Some(*uid)),
        // For a service with User= systemd gives access by an ACL, whose mask shows as group rights: not to be judged.
        Source::Credential(path) => read_file(path, None),
        Source::Known(secret) => Ok(secret.clone()),
    }
}

/// Splits a command line as a shell would, without being one; a relative program path is made absolute, because a
/// mount in the background works in `/`.
fn words(line: &str, what: &str) -> Result<Vec<String>> {
    let mut words = shell_words::split(line)
        .ok()
        .filter(|words| words.first().is_some_and(|program| !program.is_empty()))
        .ok_or_else(|| Error::invalid(format!("the {what} command is empty or has an open quote")))?;
    if words[0].contains('/')
        && let Ok(path) = std::path::absolute(&words[0])
        && let Some(path) = path.to_str()
    {
        words[0] = path.into();
    }
    Ok(words)
}

/// Runs a command without a shell and takes the first line that it prints. What it says on standard error goes
/// through to ours.
fn run(arguments: &[String], what: &str, limit: Duration) -> Result<SecretString> {
    let deadline = Instant::now() + limit;
    let name = format!("the {what} command `{}`", arguments[0]);
    let failed = |reason: String| Error::Auth(format!("{name} {reason}").into());
    let mut child = Command::new(&arguments[0])
        .args(&arguments[1..])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let output = child.stdout.take().map(BufReader::new);
    let (send, receive) = mpsc::channel();
    let whose = name.clone();
    let reader = thread::spawn(move || {
        if let Some(mut output) = output {
            let _ = send.send(read_line(&mut output, &whose));
            // To the end, so that a command with more to say (`pass show`) does not die of a closed pipe.
            let _ = std::io::copy(&mut output, &mut std::io::sink());
        }
    });
    let line = receive.recv_timeout(limit);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            _ if line.is_err() || Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::TimedOut(format!("{name} did not end within {} s", limit.as_secs()).into()));
            }
            _ => thread::sleep(EXIT_POLL),
        }
    };
    // Something that the command left running may hold its output for ever: that is not waited for.
    if let Err(mpsc::RecvTimeoutError::Disconnected) = receive.recv_timeout(EXIT_POLL) {
        let _ = reader.join();
    }
    if !status.success() {
        return Err(failed(format!("ended with {status}")));
    }
    line.unwrap_or_else(|_| Err(failed("printed nothing".into())))
}

/// Reads the first line of a file. With `uid`, a regular file must be private.
fn read_file(path: &Path, uid: Option<u32>) -> Result<SecretString> {
    let cannot = |error| Error::Auth(format!("cannot read the password file {}: {error}", path.display()).into());
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if let Some(uid) = uid.filter(|_| metadata.is_file()) {
        super::check_private(path, &metadata, uid, 0o077)?;
    }
    read_line(&mut BufReader::new(file), &path.display().to_string())
}

/// Reads one line, without its end; at least one octet, at most [`MAX_BYTES`].
fn read_line(from: &mut impl BufRead, what: &str) -> Result<SecretString> {
    let mut line = Zeroizing::new(Vec::with_capacity(256));
    from.take(MAX_BYTES)
        .read_until(b'\n', &mut line)
        .map_err(|error| Error::Auth(format!("cannot read the password from {what}: {error}").into()))?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(line) if !line.is_empty() => Ok(SecretString::from(line)),
        Ok(_) => Err(Error::Auth(format!("no password on the first line of {what}").into())),
        Err(_) => Err(Error::Auth(format!("the password on the first line of {what} is not UTF-8").into())),
    }
}

/// Asks on the terminal.
fn prompt(whose: &str) -> Result<SecretString> {
    let missing = || {
        Error::Auth(
            format!("no password for {whose}: set password.command in the config file, or see --password-file").into(),
        )
    };
    // With standard error elsewhere (a service, cron) nobody is there to read the question.
    if !std::io::stderr().is_terminal() {
        return Err(missing());
    }
    let line = rpassword::prompt_password(format!("Password for {whose}: ")).map_err(|_| missing())?;
    let secret = SecretString::from(line);
    if secret.expose_secret().is_empty() { Err(missing()) } else { Ok(secret) }
}

#[cfg(test)]
mod tests;
