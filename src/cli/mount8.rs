//! How mount(8) calls us: `mount.imapfs SPEC DIR [-sfnv] [-o OPTS]` by `mount -t imapfs`, and `imapfs SPEC DIR -o OPTS`
//! by `mount -t fuse.imapfs`. Here `-f` is "fake", not "foreground", and HOME may be empty.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use secrecy::SecretString;

use super::exit::Failure;
use super::{args, mount};

/// A call of mount(8).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The same as a command line of `imapfs mount`.
    pub arguments: Vec<OsString>,
    /// Check, and do not mount.
    pub fake: bool,
    /// Unknown options are no error.
    pub sloppy: bool,
}

/// Recognises a call of mount(8), program name first.
///
/// # Errors
/// Usage, for a call of `mount.imapfs` that mount(8) would not make.
pub fn translate(arguments: &[OsString]) -> Result<Option<Call>, Failure> {
    let program = arguments.first().and_then(|program| Path::new(program).file_name());
    if program.is_some_and(|program| program.as_bytes().ends_with(b"mount.imapfs")) {
        return helper(&arguments[1..]).map(Some);
    }
    let is_flag = |argument: &OsStr| argument.as_bytes().starts_with(b"-");
    let command = args::command();
    let plain = match arguments {
        [_, spec, dir, rest @ ..] => {
            !is_flag(spec)
                && !is_flag(dir)
                && rest.first().is_none_or(|option| option == "-o")
                && spec.to_str().is_none_or(|spec| command.find_subcommand(spec).is_none())
        }
        _ => false,
    };
    Ok(plain.then(|| Call { arguments: with_mount(arguments[1..].to_vec()), ..Call::default() }))
}

/// Carries it out.
///
/// # Errors
/// As [`mount::run`].
pub fn run(call: Call, password: Option<SecretString>) -> Result<(), Failure> {
    if call.fake {
        mount::check(call.arguments, call.sloppy)
    } else {
        mount::run(call.arguments, call.sloppy, password)
    }
}

fn with_mount(rest: Vec<OsString>) -> Vec<OsString> {
    ["imapfs".into(), "mount".into()].into_iter().chain(rest).collect()
}

/// `SPEC DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTS]`, flags in any place and in clusters, as libmount writes them.
fn helper(arguments: &[OsString]) -> Result<Call, Failure> {
    let usage = || Failure::usage("usage: mount.imapfs ACCOUNT|URL DIR [-sfnv] [-o OPTS]");
    let mut call = Call::default();
    let mut rest: Vec<OsString> = Vec::new();
    let mut positional = Vec::new();
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        let Some(flags) = argument.as_bytes().strip_prefix(b"-").filter(|flags| !flags.is_empty()) else {
            positional.push(argument.clone());
            continue;
        };
        for (n, flag) in flags.iter().enumerate() {
            match flag {
                b's' => call.sloppy = true,
                b'f' => call.fake = true,
                b'n' => {}
                b'v' => rest.push("-v".into()),
                b'o' | b't' | b'N' => {
                    let inside = OsStr::from_bytes(&flags[n + 1..]);
                    let value = if inside.is_empty() { left.next().ok_or_else(usage)?.clone() } else { inside.into() };
                    if *flag == b'o' {
                        rest.extend(["-o".into(), value]);
                    }
                    break;
                }
                _ => return Err(usage()),
            }
        }
    }
    if positional.len() != 2 {
        return Err(usage());
    }
    rest.extend(positional);
    call.arguments = with_mount(rest);
    Ok(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, bool, bool)>) {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let found = translate(&arguments).unwrap();
        let found = found.map(|call| {
            let arguments: Vec<_> = call.arguments.iter().map(|a| a.to_string_lossy()).collect();
            (arguments.join(" "), call.fake, call.sloppy)
        });
        assert_eq!(found, expected.map(|(line, fake, sloppy)| (line.to_owned(), fake, sloppy)), "{line}");
    }

    #[test]
    fn a_call_of_mount_is_the_mount_command() {
        check("imapfs work /m -o ro,dev,suid", Some(("imapfs mount work /m -o ro,dev,suid", false, false)));
        check("/usr/bin/imapfs imaps://u@h /m", Some(("imapfs mount imaps://u@h /m", false, false)));
        check("/sbin/mount.imapfs work /m -o ro", Some(("imapfs mount -o ro work /m", false, false)));
        check("mount.imapfs work /m -sfnv -o rw", Some(("imapfs mount -v -o rw work /m", true, true)));
        check("mount.imapfs -f -oro -t imapfs work /m", Some(("imapfs mount -o ro work /m", true, false)));
    }

    #[test]
    fn other_command_lines_are_left_alone() {
        for line in ["imapfs", "imapfs mount work /m", "imapfs status /m", "imapfs umount /m -z", "imapfs --help x y"] {
            check(line, None);
        }
        check("imapfs work /m --read-only", None);
    }

    #[test]
    fn a_helper_called_wrongly_says_how_it_is_called() {
        for line in
            ["mount.imapfs", "mount.imapfs work", "mount.imapfs a b c", "mount.imapfs a b -o", "mount.imapfs a b -q"]
        {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let failure = translate(&arguments).unwrap_err();
            assert!(failure.message.starts_with("usage: mount.imapfs"), "{line}");
            assert_eq!(failure.exit.of_mount(), 1);
        }
    }
}
