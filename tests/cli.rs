//! The program as a user, mount(8) and a service manager call it: exit codes, help, config file, secrets.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use assert_cmd::Command;
use base64::Engine;
use predicates::prelude::*;
use predicates::str::{contains, is_empty, starts_with};
use tempfile::TempDir;

const MARKER: &str = "hunter2-marker";

/// A home with nothing in it, and a directory to mount on.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir(home.path().join("mnt")).unwrap();
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn mountpoint(&self) -> String {
        self.path().join("mnt").display().to_string()
    }

    fn configure(&self, text: &str) {
        fs::create_dir_all(self.path().join("imapfs")).unwrap();
        let path = self.path().join("imapfs/config.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.path());
        command.env("XDG_CONFIG_HOME", self.path()).current_dir(self.path());
        command
    }

    fn imapfs(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_imapfs"));
        command.args(arguments);
        command
    }
}

/// A URL of a port of this machine where nobody listens.
fn closed_url() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("imap://me@127.0.0.1:{port}")
}

fn check(home: &Home, arguments: &[&str], code: i32, message: &str) {
    let outcome = home.imapfs(arguments).assert().code(code).stdout(is_empty());
    outcome.stderr(starts_with("imapfs: ").and(contains(message)).and(contains(MARKER).not()));
}

#[test]
fn a_wrong_call_exits_64_with_a_sentence() {
    let home = Home::new();
    let dir = &*home.mountpoint();
    check(&home, &[], 64, "Usage:");
    check(&home, &["frobnicate"], 64, "unrecognized subcommand 'frobnicate'");
    check(&home, &["mount"], 64, "<MOUNTPOINT>");
    check(&home, &["mount", "--frob", "a", dir], 64, "unexpected argument '--frob'");
    check(&home, &["mount", "-o", "ro,frob=1", "a", dir], 64, "unknown mount option `frob`");
    check(&home, &["mount", "-o", "connections=17", "a", dir], 64, "17 is not in 1..=16");
    check(&home, &["mount", "--tls", "maybe", "a", dir], 64, "invalid value 'maybe'");
    check(&home, &["mount", "--umask", "9", "a", dir], 64, "octal");
    check(&home, &["mount", "http://me@h", dir], 64, "neither imaps:// nor imap://");
    check(&home, &["mount", &format!("imaps://me:{MARKER}@h"), dir], 64, "could be seen by every user");
    check(&home, &["mount", "imaps://me@h", dir, "--tls", "none"], 64, "use imap://");
    check(&home, &["mount", "imaps://me@h", "nowhere"], 64, "there is no such directory");
    check(&home, &["umount", dir], 64, "no imapfs is mounted on");
    check(&home, &["status", dir], 64, "is not mounted by imapfs");
    check(&home, &["configure"], 64, "Server?");
    home.imapfs(&["status"]).env("IMAPFS_LOG", "a=b=c").assert().code(0);
    home.imapfs(&["check", "imap://me@h"]).env("IMAPFS_LOG", "a=b=c").assert().code(64).stderr(contains("IMAPFS_LOG"));
    home.imapfs(&["check", "imap://me@h"]).env("IMAPFS_TLS", "x").assert().code(64).stderr(contains("--tls"));
}

#[test]
fn a_wrong_config_file_exits_78_and_names_the_line() {
    let home = Home::new();
    let dir = &*home.mountpoint();
    check(&home, &["mount", "work", dir], 78, "there is no config file ");
    home.configure("[accounts.work]\nhost = \"h\"\npasword.command = \"x\"\n");
    check(&home, &["mount", "work", dir], 78, "config.toml: line 3: unknown key `pasword`");
    home.configure("[accounts.work]\nhost = \"h\"\n[accounts.home]\n");
    check(&home, &["mount", "play", dir], 78, "there is no account `play`");
    check(&home, &["mount", "--", "play", dir], 78, "there is no account `play`");
    check(&home, &["mount", dir], 64, "which account? There are: home, work");
    check(&home, &["mount", "home", dir], 78, "account `home` has no host");
    check(&home, &["mount", "work", dir], 78, "account `work` has no user");
    fs::set_permissions(home.path().join("imapfs/config.toml"), PermissionsExt::from_mode(0o666)).unwrap();
    check(&home, &["check", "work"], 78, "could be changed by other users");
    let other = home.path().join("other.toml").display().to_string();
    fs::write(&other, "oops").unwrap();
    check(&home, &["--config", &other, "check"], 78, "other.toml: line 1:");
    home.imapfs(&["check"]).env("IMAPFS_CONFIG", &other).assert().code(78).stderr(contains("other.toml"));
}

#[test]
fn without_a_secret_it_exits_77() {
    let home = Home::new();
    check(&home, &["check", "imaps://me@h.invalid"], 77, "no password for me@h.invalid");
    check(&home, &["check", "imaps://me@h.invalid", "--password-command", "false"], 77, "the password command `false`");
    let file = home.path().join("secret").display().to_string();
    fs::write(&file, MARKER).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    check(&home, &["check", "imaps://me@h.invalid", "--password-file", &file], 78, "chmod 600");
}

#[test]
fn an_unreachable_server_exits_69_in_the_foreground_and_in_the_background() {
    let home = Home::new();
    let (url, dir) = (&*closed_url(), &*home.mountpoint());
    let log = home.path().join("log");
    for arguments in [
        &["check", url, "--password-stdin"][..],
        &["mount", "-f", url, dir, "--password-stdin"],
        &["mount", url, dir, "--password-stdin", "--log-file", log.to_str().unwrap()],
    ] {
        let outcome = home.imapfs(arguments).write_stdin(format!("{MARKER}\n")).assert().code(69);
        outcome.stdout(is_empty()).stderr(contains("imapfs: server unreachable").and(contains(MARKER).not()));
    }
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("server unreachable") && !text.contains(MARKER), "{text}");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn mount_8_gets_its_own_exit_codes() {
    let home = Home::new();
    let (url, dir) = (&*closed_url(), &*home.mountpoint());
    let helper = home.path().join("mount.imapfs");
    symlink(env!("CARGO_BIN_EXE_imapfs"), &helper).unwrap();
    let call = |arguments: &[&str], code: i32| {
        home.program(&helper).env("HOME", "").args(arguments).env("IMAPFS_PASSWORD", MARKER).assert().code(code);
    };
    call(&[], 1);
    call(&[url, dir, "-o", "rw,frob"], 1);
    call(&[url, dir, "-o", "rw,_netdev,x-systemd.automount"], 32);
    call(&[url, dir, "-s", "-o", "rw,frob"], 32);
    call(&[url, dir, "-fn", "-o", "rw"], 0);
    call(&[url, "/no/such/dir", "-f"], 1);
    home.imapfs(&[url, dir, "-o", "ro,dev,suid"]).env("IMAPFS_PASSWORD", MARKER).assert().code(32);
    home.imapfs(&["work", dir, "-o", "ro,dev,suid"]).assert().code(1).stderr(contains("there is no config file"));
}

#[test]
fn the_password_is_taken_out_of_the_environment() {
    let home = Home::new();
    let seen = home.path().join("seen");
    // The command looks at what the program shows of itself, and at what it was handed.
    let script =
        format!("sh -c 'exec >>{0} 2>&1; cat /proc/$PPID/environ /proc/$PPID/cmdline; env; exit 1'", seen.display());
    let mut command = home.imapfs(&["check", "imap://me@h.invalid", "--password-command", &script]);
    command.env("IMAPFS_PASSWORD", MARKER).env("OTHER", "kept").assert().code(77);
    let seen = String::from_utf8_lossy(&fs::read(seen).unwrap()).into_owned();
    assert!(seen.contains("OTHER=kept") && !seen.contains(MARKER), "{seen}");
}

#[test]
fn help_completions_and_manual_tell_every_command_and_no_value_of_the_environment() {
    let home = Home::new();
    let commands = ["mount", "umount", "status", "check", "configure", "completions", "man"];
    let told = |arguments: &[&str]| {
        let output = home.imapfs(arguments).env("IMAPFS_USER", MARKER).assert().code(0).stderr(is_empty());
        let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        assert!(!text.contains(MARKER), "{text}");
        text
    };
    for arguments in
        [&["--help"][..], &["man"], &["completions", "bash"], &["completions", "zsh"], &["completions", "fish"]]
    {
        let text = told(arguments);
        commands.iter().for_each(|command| assert!(text.contains(command), "{arguments:?}: {command}"));
    }
    commands.iter().for_each(|command| assert!(told(&[command, "--help"]).contains("Usage: imapfs "), "{command}"));
    let help = told(&["mount", "--help"]);
    for flag in
        ["--read-only", "--tls-ca", "--password-command", "--names", "--show-views", "--nonempty", "IMAPFS_ALLOW_OTHER"]
    {
        assert!(help.contains(flag), "{flag}");
    }
    assert!(told(&["man"]).contains("EXIT STATUS"));
    assert_eq!(told(&["--version"]), format!("imapfs {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn configure_writes_an_account_that_can_be_used() {
    let home = Home::new();
    let arguments = ["configure", "me@example.org", "--password-command", "pass show mail"];
    home.imapfs(&arguments).assert().code(0).stdout(starts_with("example is in "));
    let text = fs::read_to_string(home.path().join("imapfs/config.toml")).unwrap();
    let expected = "[accounts.example]\nhost = \"imap.example.org\"\nuser = \"me@example.org\"\n";
    assert_eq!(text, format!("{expected}password.command = \"pass show mail\"\n"));
    home.imapfs(&arguments).assert().code(64).stderr(contains("there is an account `example`"));
    home.imapfs(&["status", "--json"]).assert().code(0).stdout(starts_with("["));
}

/// A server that refuses each login, in plain text; it ends with its first connection. Gives its port.
fn refusing_server(capabilities: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        write!(stream, "* OK [CAPABILITY {capabilities}] ready\r\n").unwrap();
        for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
            let mut words = line.split(' ');
            let (tag, command) = (words.next().unwrap(), words.next().unwrap_or_default());
            let answer = match command {
                "LOGIN" | "AUTHENTICATE" => "NO [AUTHENTICATIONFAILED] wrong \x1b[2J password",
                "CAPABILITY" => "OK done",
                _ => "BAD what?",
            };
            write!(stream, "{tag} {answer}\r\n").unwrap();
        }
    });
    port
}

#[test]
fn a_refused_login_exits_77_and_no_log_at_any_level_holds_the_password() {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    for capabilities in ["IMAP4rev1 AUTH=PLAIN SASL-IR", "IMAP4rev1"] {
        let url = format!("imap://me@127.0.0.1:{}", refusing_server(capabilities));
        let home = Home::new();
        let mut command = home.imapfs(&["check", &url, "--tls", "none", "-vv", "--debug-imap"]);
        command.env("IMAPFS_LOG", "trace,async_imap=trace").env("IMAPFS_PASSWORD", MARKER).env("RUST_BACKTRACE", "1");
        let outcome = command.assert().code(77).stdout(is_empty());
        let text = String::from_utf8(outcome.get_output().stderr.clone()).unwrap();
        assert!(text.contains("imapfs: login refused") && !text.contains('\x1b'), "{text}");
        for secret in [MARKER.to_owned(), base64(MARKER), base64(&format!("\0me\0{MARKER}"))] {
            assert!(!text.contains(&secret), "{capabilities}: {text}");
        }
    }
}
