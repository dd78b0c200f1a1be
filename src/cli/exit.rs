//! How a command ends: one sentence and an exit code of sysexits.h, or of mount(8) for its helper.

use crate::error::Error;

/// Why the program ends, as its exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Nothing was found; not worth a word.
    Nothing = 1,
    /// Called in a way that makes no sense.
    Usage = 64,
    /// The server cannot be reached, or cannot do what is needed.
    Unavailable = 69,
    /// A defect of imapfs.
    Software = 70,
    /// This machine cannot do it: no /dev/fuse, no process, a disk error.
    System = 71,
    /// Worth trying again later.
    Temporary = 75,
    /// Login refused, or no secret to log in with.
    Auth = 77,
    /// The config file is wrong.
    Config = 78,
}

impl Exit {
    /// The exit code that mount(8) expects of a helper: 1 wrong call or no rights, 2 system error, 32 mount failure.
    pub fn of_mount(self) -> u8 {
        match self {
            Exit::Nothing | Exit::Usage | Exit::Config => 1,
            Exit::Software | Exit::System => 2,
            Exit::Unavailable | Exit::Temporary | Exit::Auth => 32,
        }
    }
}

/// A command failed: what to say, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub exit: Exit,
    /// One sentence; for a wrong call followed by its usage.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Called in a way that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What is written in the config file, or its rights, are wrong.
    pub fn config(error: Error) -> Self {
        Self::new(Exit::Config, sentence(&error))
    }

    /// This machine cannot do it.
    pub fn system(what: &str, error: &std::io::Error) -> Self {
        Self::new(Exit::System, format!("{what}: {error}"))
    }
}

/// The reason alone where the kind says nothing more to somebody at a terminal.
fn sentence(error: &Error) -> String {
    match error {
        Error::Invalid(text)
        | Error::Local(text)
        | Error::DiskFull(text)
        | Error::Denied(text)
        | Error::NotPermitted(text) => text.to_string(),
        error => error.to_string(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Auth(_) | Error::Denied(_) | Error::NotPermitted(_) => Exit::Auth,
            Error::TimedOut(_) | Error::Busy(_) | Error::Interrupted | Error::Quota(_) | Error::TooBig(_) => {
                Exit::Temporary
            }
            Error::Offline(_) | Error::Protocol(_) | Error::Unsupported(_) | Error::Uncertain(_) => Exit::Unavailable,
            Error::Local(_) | Error::DiskFull(_) => Exit::System,
            Error::Invalid(_) | Error::NotFound | Error::NotDirectory | Error::IsDirectory => Exit::Usage,
            Error::Exists | Error::NotEmpty | Error::NoAttribute | Error::Range | Error::ReadOnly | Error::Stale => {
                Exit::Software
            }
        };
        Self::new(exit, sentence(&error))
    }
}
