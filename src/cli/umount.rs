//! `imapfs umount`: as fusermount3 does, which may also be called by those who are not root.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};

use super::args::Umount;
use super::exit::{Exit, Failure};
use super::{status, target};

/// Unmounts.
///
/// # Errors
/// Usage when nothing of ours is mounted there; Temporary when it is in use.
pub fn run(umount: &Umount) -> Result<(), Failure> {
    // canonicalize fails on a mount whose process is gone, and that is the one that has to go.
    let path = umount.mountpoint.canonicalize().or_else(|_| target::absolute(&umount.mountpoint))?;
    let shown = path.display();
    if !status::mounts()?.iter().any(|mount| mount.mountpoint == path) {
        return Err(Failure::usage(format!("{shown} is not mounted by imapfs")));
    }
    let lazy = umount.lazy.then_some("-z");
    let output = call("fusermount3", ["-u"].into_iter().chain(lazy).map(OsStr::new).chain([path.as_os_str()]))
        .or_else(|error| match error.kind() {
            // Root can do without the package fuse3.
            ErrorKind::NotFound => {
                let lazy = umount.lazy.then_some("-l");
                call("umount", ["-i"].into_iter().chain(lazy).map(OsStr::new).chain([path.as_os_str()]))
            }
            _ => Err(error),
        })
        .map_err(|error| Failure::system("cannot call fusermount3", &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = crate::error::printable(output.stderr.trim_ascii(), 300);
    if said.contains("busy") {
        let advice = "leave it in all terminals and programs, or add --lazy";
        return Err(Failure::new(Exit::Temporary, format!("{shown} is in use: {advice}")));
    }
    Err(Failure::new(Exit::System, format!("cannot unmount {shown}: {said}")))
}

fn call<'a>(program: &str, arguments: impl Iterator<Item = &'a OsStr>) -> std::io::Result<Output> {
    // In English, to know "busy" when it is said.
    Command::new(program).args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output()
}
