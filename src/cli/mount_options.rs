//! `-o name=value,name`: each mount option is the flag of the same name, with `_` for `-`.

use std::ffi::OsString;

use clap::Command;

use super::exit::Failure;

/// Options that mount(8), fstab(5) and systemd hand on and that mean nothing here.
const IGNORED: &[&str] = &[
    "rw",
    "defaults",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "noexec",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "auto",
    "noauto",
    "_netdev",
    "nofail",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "sync",
    "async",
    "dirsync",
    "silent",
    "loud",
    "default_permissions",
];

/// Flags that are no mount options.
const NOT_AN_OPTION: &[&str] = &["help", "version", "foreground"];

/// Turns the values of `-o` into flags of `command`. With `sloppy` (`mount -s`) unknown options are left out.
///
/// # Errors
/// Usage, for an option that is no flag of `command`.
pub fn flags(options: &str, command: &Command, sloppy: bool) -> Result<Vec<OsString>, Failure> {
    let mut flags = Vec::new();
    for option in split(options) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (&*option, None),
        };
        if name.is_empty() || IGNORED.contains(&name) || name.starts_with("x-") || name == "comment" {
            continue;
        }
        if matches!(name, "password" | "pass") {
            return Err(Failure::usage(
                "a password among the mount options could be seen by every user of this machine: use \
                 password_command or password_file",
            ));
        }
        let flag = if name == "ro" { "read-only".to_owned() } else { name.replace('_', "-") };
        let known = |flag: &str| {
            !NOT_AN_OPTION.contains(&flag) && command.get_arguments().any(|argument| argument.get_long() == Some(flag))
        };
        if known(&flag) {
            flags.push(match value {
                Some(value) => format!("--{flag}={value}").into(),
                None => format!("--{flag}").into(),
            });
        } else if !sloppy {
            let name = crate::error::printable(name.as_bytes(), 60);
            return Err(Failure::usage(format!("unknown mount option `{name}` (see imapfs mount --help)")));
        }
    }
    Ok(flags)
}

/// Splits at commas; `\,` is a comma inside a value and `\\` a backslash.
fn split(options: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        if c == ',' {
            parts.push(String::new());
            continue;
        }
        let c = match c {
            '\\' => chars.next().unwrap_or('\\'),
            c => c,
        };
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &str, sloppy: bool, expected: Result<&[&str], &str>) {
        let found = flags(options, &super::super::args::mount_command(), sloppy);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{options}"),
            (Err(failure), Err(part)) => {
                assert!(failure.message.contains(part), "{}", failure.message);
                assert!(!failure.message.contains("hunter2"));
            }
            (found, _) => panic!("{options}: {found:?}"),
        }
    }

    #[test]
    fn mount_options_are_flags_with_underscores() {
        check("ro", false, Ok(&["--read-only"]));
        check("tls_ca=/etc/ca.pem,umask=027", false, Ok(&["--tls-ca=/etc/ca.pem", "--umask=027"]));
        check("delete=flag,write_behind", false, Ok(&["--delete=flag", "--write-behind"]));
        check("allow_other,names=uid", false, Ok(&["--allow-other", "--names=uid"]));
        check("config=/etc/c.toml,log_file=/var/log/x", false, Ok(&["--config=/etc/c.toml", "--log-file=/var/log/x"]));
        check(r"password_command=a\,b\\ c=d", false, Ok(&[r"--password-command=a,b\ c=d"]));
    }

    #[test]
    fn what_mount_hands_on_and_means_nothing_here_is_ignored() {
        check("rw,dev,suid,nodev,nosuid,exec,noexec,user,auto,_netdev,nofail,atime", false, Ok(&[]));
        check("relatime,noatime,x-systemd.automount,x-gvfs-name=Mail,,defaults", false, Ok(&[]));
    }

    #[test]
    fn an_unknown_option_is_refused_unless_mount_is_sloppy() {
        check("ro,frobnicate=1", false, Err("unknown mount option `frobnicate`"));
        check("ro,frobnicate=1", true, Ok(&["--read-only"]));
        check("help", false, Err("unknown mount option `help`"));
        check("foreground", false, Err("unknown mount option"));
        check("password=hunter2", true, Err("could be seen by every user"));
    }
}
