//! The process itself: going to the background, telling the outcome to who waits, and keeping secrets out of /proc.
//!
//! 1. The fork comes before the runtime, because only the forking thread lives on in the child.
//! 2. The parent waits on a pipe for one line, `CODE MESSAGE`; a pipe that closes without one is a child that died.
//! 3. Until it is ready, the child ends with its parent: Ctrl-C on a mount that is still connecting leaves nothing.
#![allow(unsafe_code)] // fork, setsid, prctl and the memory of the environment have no safe form

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;

use secrecy::SecretString;

use super::exit::{Exit, Failure};

/// The two sides of a fork.
pub enum Side {
    /// The process that was started, with what the other one reported: the line to print, or why it failed.
    Parent(Result<String, Failure>),
    /// The process that goes on.
    Child(Reporter),
}

/// Tells the outcome to the process that waits for it.
#[derive(Debug)]
pub struct Reporter {
    pipe: io::PipeWriter,
}

/// No core dumps and no reading of our memory or environment by other processes of this user: it holds passwords.
pub fn forbid_core_dumps() {
    // SAFETY: PR_SET_DUMPABLE takes a number.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
}

/// Takes a secret out of the environment, so that neither children nor /proc/PID/environ show it. Call it while the
/// process has one thread.
pub fn take_secret(name: &str) -> Option<SecretString> {
    let c_name = CString::new(name).ok()?;
    // SAFETY: one thread, so nobody changes the environment between getenv and the write; the write stays inside the
    // value that getenv found, which is the memory that /proc/PID/environ shows; unsetting alone would leave it there.
    let value = unsafe {
        let at = libc::getenv(c_name.as_ptr());
        if at.is_null() {
            return None;
        }
        let value = CStr::from_ptr(at).to_bytes().to_vec();
        for n in 0..value.len() {
            at.add(n).write_volatile(0);
        }
        std::env::remove_var(name);
        value
    };
    String::from_utf8(value).ok().filter(|value| !value.is_empty()).map(SecretString::from)
}

/// Forks. The parent comes back with the outcome, the child with the means to tell it. Call it while the process has
/// one thread.
///
/// # Errors
/// System, when there can be no further process.
pub fn fork() -> Result<Side, Failure> {
    let (reader, writer) = io::pipe().map_err(|error| Failure::system("cannot make a pipe", &error))?;
    // SAFETY: no other thread runs, so the child may do whatever the parent might.
    match unsafe { libc::fork() } {
        -1 => Err(Failure::system("cannot start a process", &io::Error::last_os_error())),
        0 => {
            drop(reader);
            let pipe = writer.as_raw_fd() as libc::c_uint;
            // SAFETY: plain system calls on numbers; of the descriptors that are closed this process uses none.
            unsafe {
                // Whoever waits for the end of a pipe that we have inherited must not wait for the unmount.
                for (first, last) in [(3, pipe - 1), (pipe + 1, libc::c_uint::MAX)] {
                    libc::syscall(libc::SYS_close_range, first, last, 0);
                }
                // A new session: no terminal, and no signals from it.
                libc::setsid();
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                // Whoever may list processes may not read our files: what we create is ours.
                libc::umask(0o077);
            }
            Ok(Side::Child(Reporter { pipe: writer }))
        }
        child => {
            drop(writer);
            Ok(Side::Parent(wait(reader, child)))
        }
    }
}

/// Waits for the line of the child, or for its death.
fn wait(reader: io::PipeReader, child: libc::pid_t) -> Result<String, Failure> {
    let mut line = String::new();
    let read = BufReader::new(reader).read_line(&mut line);
    if let Some((code, message)) = read.ok().and_then(|_| line.strip_suffix('\n')?.split_once(' ')) {
        let exits = [Exit::Usage, Exit::Unavailable, Exit::System, Exit::Temporary, Exit::Auth, Exit::Config];
        return match code {
            "0" => Ok(message.into()),
            code => {
                let exit = exits.into_iter().find(|exit| (*exit as u8).to_string() == code);
                Err(Failure::new(exit.unwrap_or(Exit::Software), message))
            }
        };
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    unsafe { libc::waitpid(child, &mut status, 0) };
    let how = if libc::WIFSIGNALED(status) {
        format!("signal {}", libc::WTERMSIG(status))
    } else {
        format!("exit code {}", libc::WEXITSTATUS(status))
    };
    Err(Failure::new(Exit::Software, format!("the process in the background died before it was ready ({how})")))
}

impl Reporter {
    /// Everything works: lets go of terminal and working directory, and lets the parent say `message`.
    ///
    /// # Errors
    /// System, when nobody waits any more or standard files cannot be changed: then the mount is to end.
    pub fn ready(mut self, message: &str) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::system("cannot go to the background", &error);
        std::env::set_current_dir("/").map_err(failed)?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
        for standard in 0..=2 {
            // SAFETY: both descriptors are open, and 0 to 2 belong to nobody's File.
            if unsafe { libc::dup2(null.as_raw_fd(), standard) } < 0 {
                return Err(failed(io::Error::last_os_error()));
            }
        }
        // Before the line that lets the parent end.
        // SAFETY: PR_SET_PDEATHSIG takes a number; 0 is none.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
        self.tell(0, message).map_err(failed)
    }

    /// It did not work.
    pub fn failed(mut self, failure: &Failure) {
        // A parent that is gone needs no answer.
        let _ = self.tell(failure.exit as u8, &failure.message);
    }

    fn tell(&mut self, code: u8, message: &str) -> io::Result<()> {
        self.pipe.write_all(format!("{code} {}\n", message.replace('\n', " ")).as_bytes())
    }
}
