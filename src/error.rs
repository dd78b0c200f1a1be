//! The one error of imapfs, in file-system words.
//!
//! It knows no errno (that is `fuse::errno`) and no IMAP (that is `imap`). It is built at the lowest place that
//! knows what happened and handled by blast radius: this message, this mailbox, this connection.

use std::sync::Arc;

/// What a call of ours answers.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something could not be done. The text, where there is one, is for the log and says in a sentence what
/// happened; it never holds a secret and never raw bytes of a server (see [`printable`]).
///
/// `Clone`, because one failed fetch may have many waiters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such mailbox, message, part or attribute value.
    #[error("not found")]
    NotFound,
    /// The name is taken.
    #[error("already exists")]
    Exists,
    /// A mailbox still holds messages or mailboxes.
    #[error("not empty")]
    NotEmpty,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// A file was needed.
    #[error("is a directory")]
    IsDirectory,
    /// The extended attribute is not set on this entry.
    #[error("no such attribute")]
    NoAttribute,
    /// The reader's buffer is too small for the answer.
    #[error("buffer too small")]
    Range,
    /// The server's access rights refuse it (NOPERM, ACL).
    #[error("denied: {0}")]
    Denied(Arc<str>),
    /// It can never be done to this kind of entry, whoever asks.
    #[error("not permitted: {0}")]
    NotPermitted(Arc<str>),
    /// The mount, or the mailbox, is read-only.
    #[error("read-only")]
    ReadOnly,
    /// The server has no space left for this user.
    #[error("over quota: {0}")]
    Quota(Arc<str>),
    /// The local disk is full.
    #[error("no space: {0}")]
    DiskFull(Arc<str>),
    /// Larger than the server or imapfs takes.
    #[error("too big: {0}")]
    TooBig(Arc<str>),
    /// The caller's argument makes no sense.
    #[error("invalid: {0}")]
    Invalid(Arc<str>),
    /// The thing that the handle or inode number meant is gone (expunged, new UIDVALIDITY).
    #[error("stale")]
    Stale,
    /// In use: try later.
    #[error("busy: {0}")]
    Busy(Arc<str>),
    /// The server, or this version, cannot do it.
    #[error("unsupported: {0}")]
    Unsupported(Arc<str>),
    /// The server is not reachable now.
    #[error("server unreachable: {0}")]
    Offline(Arc<str>),
    /// A change was sent and the connection was lost before its answer: it may have happened or not.
    #[error("outcome unknown: {0}")]
    Uncertain(Arc<str>),
    /// No answer within the deadline.
    #[error("timed out: {0}")]
    TimedOut(Arc<str>),
    /// The caller was killed or interrupted.
    #[error("interrupted")]
    Interrupted,
    /// Login was refused.
    #[error("login refused: {0}")]
    Auth(Arc<str>),
    /// The server said NO or something that makes no sense, or its data contradict each other.
    #[error("protocol: {0}")]
    Protocol(Arc<str>),
    /// The local machine failed (cache disk, spool file).
    #[error("local: {0}")]
    Local(Arc<str>),
}

impl Error {
    /// A [`Error::Protocol`] with the given reason.
    pub fn protocol(reason: impl AsRef<str>) -> Self {
        Error::Protocol(reason.as_ref().into())
    }

    /// A [`Error::Offline`] with the given reason.
    pub fn offline(reason: impl AsRef<str>) -> Self {
        Error::Offline(reason.as_ref().into())
    }

    /// A [`Error::Invalid`] with the given reason.
    pub fn invalid(reason: impl AsRef<str>) -> Self {
        Error::Invalid(reason.as_ref().into())
    }

    /// True when the same question may be put again on a new connection: the connection failed, not the question.
    pub fn is_connection_lost(&self) -> bool {
        matches!(self, Error::Offline(_) | Error::TimedOut(_))
    }
}

/// Text from a server or a message, made fit for a log line or a terminal: control characters escaped, at most
/// `max` characters.
pub fn printable(text: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == max {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_holds_no_control_characters_and_is_cut() {
        assert_eq!(printable(b"a\x1b[2J\nb", 100), "a\\u{1b}[2J\\nb");
        assert_eq!(printable(b"abcdef", 3), "abc…");
    }
}
