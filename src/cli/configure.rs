//! `imapfs configure`: writes an account into the config file; asks for what flags leave open when somebody is there.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, BufRead, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::args::{Configure, Global, Tls};
use super::exit::{Exit, Failure};
use super::print;
use crate::config;

/// Writes the stanza and says what to do next. A password is never written, only the command that prints it.
///
/// # Errors
/// Usage when too little is known or the account exists; Config when the file is wrong already; System.
pub fn run(configure: &Configure, global: &Global) -> Result<(), Failure> {
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    let ask = |question: &str, given: &Option<String>, guess: Option<String>| match (given, guess) {
        (Some(given), _) => Ok(given.clone()),
        (None, guess) if asks => ask(question, guess.as_deref().unwrap_or_default()),
        (None, Some(guess)) => Ok(guess),
        (None, None) => Err(Failure::usage(format!("{question}? Give an address or a flag (imapfs configure --help)"))),
    };
    let domain = configure.email.as_ref().and_then(|email| Some(email.rsplit_once('@')?.1.to_owned()));
    let host = ask("Server", &configure.host, domain.as_ref().map(|domain| format!("imap.{domain}")))?;
    let user = ask("Login name", &configure.user, configure.email.clone())?;
    let guess = domain.as_deref().unwrap_or(&host).split('.').next().map(str::to_owned);
    let name = ask("Name of the account", &configure.name, guess)?;
    let command = ask(
        "Command that prints the password (empty: ask each time)",
        &configure.password_command,
        Some(String::new()),
    )?;
    if host.is_empty() || user.is_empty() || name.is_empty() {
        return Err(Failure::usage("host, login name and account name must not be empty"));
    }
    let path = match &global.config {
        Some(path) => path.clone(),
        None => config::user_file().ok_or_else(|| Failure::usage("there is no home directory; say --config FILE"))?,
    };
    add(&path, &name, &stanza(&name, &host, &user, &command, configure.port, configure.tls))?;
    print(&format!("{name} is in {}; try: imapfs check {}\n", path.display(), shell_words::quote(&name)))
}

/// Asks on standard error, as standard output may be a file; an empty answer is the guess.
fn ask(question: &str, guess: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::system("cannot ask", &error);
    let shown = if guess.is_empty() { String::new() } else { format!(" [{guess}]") };
    let mut err = io::stderr();
    write!(err, "{question}{shown}: ").and_then(|()| err.flush()).map_err(failed)?;
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer).map_err(failed)? == 0 {
        return Err(Failure::usage("nothing was written"));
    }
    let answer = answer.trim();
    Ok(if answer.is_empty() { guess } else { answer }.to_owned())
}

fn stanza(name: &str, host: &str, user: &str, command: &str, port: Option<u16>, tls: Option<Tls>) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let bare = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
    let name = if bare { name.to_owned() } else { quoted(name) };
    let mut out = format!("[accounts.{name}]\nhost = {}\nuser = {}\n", quoted(host), quoted(user));
    // Writing to a String does not fail.
    if let Some(port) = port {
        let _ = writeln!(out, "port = {port}");
    }
    match tls {
        None => {}
        Some(Tls::Implicit) => out.push_str("tls = \"implicit\"\n"),
        Some(Tls::StartTls) => out.push_str("tls = \"starttls\"\n"),
        Some(Tls::None) => out.push_str("tls = \"none\"\n"),
    }
    if !command.is_empty() {
        let _ = writeln!(out, "password.command = {}", quoted(command));
    }
    out
}

/// Adds a stanza at the end of the file, all or nothing, with what was there untouched.
fn add(path: &Path, name: &str, stanza: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::system(&format!("cannot write {}", path.display()), &error);
    let old = match fs::read_to_string(path) {
        Ok(old) => old,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    if config::parse(&old, path).map_err(Failure::config)?.accounts.contains_key(name) {
        return Err(Failure::usage(format!("there is an account `{name}` in {} already", path.display())));
    }
    let gap = match old.is_empty() {
        true => "",
        false if old.ends_with('\n') => "\n",
        false => "\n\n",
    };
    let new = format!("{old}{gap}{stanza}");
    config::parse(&new, path).map_err(|error| Failure::new(Exit::Software, error.to_string()))?;
    // A symbolic link (people keep their settings elsewhere) stays one.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mode = target.metadata().map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    let mut temporary = target.clone().into_os_string();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(new.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::set_permissions(&temporary, Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&temporary, &target));
    written.map_err(|error| {
        // Whatever there is of it is of no use.
        let _ = fs::remove_file(&temporary);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_is_added_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/config.toml");
        add(&path, "work", &stanza("work", "imap.x.org", "me@x.org", "pass show x", None, None)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, format!("# mine\n{}", fs::read_to_string(&path).unwrap().trim_end())).unwrap();
        let odd = "we \"r\" d\\";
        add(&path, odd, &stanza(odd, "::1", "m\n", "", Some(1143), Some(Tls::StartTls))).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# mine\n[accounts.work]\nhost = \"imap.x.org\"\n"), "{text}");
        let config = config::parse(&text, &path).unwrap();
        assert_eq!(config.accounts["work"].password.command.as_deref(), Some("pass show x"));
        assert_eq!((config.accounts[odd].port, config.accounts[odd].user.as_deref()), (Some(1143), Some("m\n")));
        let again = add(&path, "work", &stanza("work", "h", "u", "", None, None)).unwrap_err();
        assert!(again.message.contains("already"), "{}", again.message);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
