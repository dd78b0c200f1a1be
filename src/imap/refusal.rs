//! What NO, BAD and BYE mean in file-system words, by response code (RFC 5530, RFC 9051 section 7.1).

use std::sync::Arc;

use bytes::Bytes;

use super::request::Command;
use super::response::{Code, Status};
use crate::error::{Error, printable};

/// Characters of a server's text that go into an error.
const TEXT: usize = 200;
/// Characters of an alert that are logged.
const ALERT: usize = 300;

/// A status response as it came.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// OK, NO, BAD, BYE or PREAUTH.
    pub status: Status,
    /// The response code.
    pub code: Option<Code>,
    /// The text, raw.
    pub text: Bytes,
}

impl Refusal {
    fn sentence(&self) -> String {
        let text = printable(&self.text, TEXT);
        if text.is_empty() { "the server gave no reason".into() } else { format!("the server says: {text}") }
    }

    /// Logs what must be shown to the user (RFC 9051 section 7.1).
    pub fn show_alert(&self) {
        if self.code == Some(Code::Alert) {
            tracing::warn!("alert of the server: {}", printable(&self.text, ALERT));
        }
    }

    /// Servers without the code say it in words; these are Dovecot's, Gmail's and Exchange's.
    fn is_limit(&self) -> bool {
        let text = String::from_utf8_lossy(&self.text).to_ascii_lowercase();
        self.code == Some(Code::Limit)
            || ["too many", "maximum number of connections", "simultaneous connections"]
                .iter()
                .any(|t| text.contains(t))
    }

    /// Dovecot 2.3 and Courier have no code for it.
    fn is_missing(&self) -> bool {
        let text = String::from_utf8_lossy(&self.text).to_ascii_lowercase();
        ["doesn't exist", "does not exist", "no such mailbox"].iter().any(|t| text.contains(t))
    }
}

/// The error that a sentence of the server makes.
type Meaning = fn(Arc<str>) -> Error;

/// What servers without response codes say when they refuse a change, in lower case, and what it means. Cyrus 3.6 has
/// codes for a few of its refusals, Courier for none, Dovecot for all but the last.
const TEXTS: [(&str, Meaning); 19] = [
    ("already exists", |_| Error::Exists),            // Cyrus, Courier
    ("cannot create this folder", |_| Error::Exists), // Courier, of whatever mkdir(2) says
    ("does not exist", |_| Error::NotFound),          // Cyrus, Courier
    ("doesn't exist", |_| Error::NotFound),           // Dovecot
    ("no such mailbox", |_| Error::NotFound),         // mailutils
    ("permission denied", Error::Denied),             // Cyrus
    ("access denied", Error::Denied),                 // Courier
    ("insufficient access", Error::Denied),           // Courier
    ("over quota", Error::Quota),                     // Cyrus
    ("quota exceeded", Error::Quota),                 // Courier, Dovecot
    ("exceed quota", Error::Quota),                   // Courier
    ("message size exceeds", Error::TooBig),          // Cyrus
    ("too many user flags", Error::Quota),            // Cyrus
    ("mailbox has children", |_| Error::NotEmpty),    // mailutils
    ("message contains", Error::Invalid),             // Cyrus: bare newlines, NUL, an invalid header
    ("message has no header", Error::Invalid),        // Cyrus
    ("invalid mailbox name", Error::Invalid),         // Cyrus, Courier
    ("invalid character", Error::Invalid),            // Dovecot
    ("must be subscribed", |_| Error::NotFound),      // Courier
];

/// The error of a command that was answered NO or BAD, when it is known which command it was.
pub fn of(asked: &Command, refusal: &Refusal) -> Error {
    let uploads = matches!(asked, Command::Append { .. } | Command::Replace { .. });
    let text = || refusal.sentence().into();
    match &refusal.code {
        Some(Code::UnknownCte | Code::Parse) if uploads => Error::Invalid(text()),
        // RFC 3501 section 6.4.4.
        Some(Code::BadCharset) => {
            Error::Unsupported("the server looks for ASCII text only: it refuses the charset UTF-8".into())
        }
        Some(Code::Limit) if asked.is_change() && !uploads => Error::Quota(text()),
        None | Some(Code::Other(_)) if asked.is_change() && refusal.status == Status::No => {
            let said = String::from_utf8_lossy(&refusal.text).to_ascii_lowercase();
            let known = TEXTS.iter().find(|(words, _)| said.contains(words));
            known.map_or_else(|| command(refusal), |(_, error)| error(text()))
        }
        _ => command(refusal),
    }
}

/// The error of a command after login that was answered NO or BAD.
pub fn command(refusal: &Refusal) -> Error {
    let text = || refusal.sentence().into();
    match &refusal.code {
        Some(Code::NoPerm | Code::AuthorizationFailed | Code::ContactAdmin) => Error::Denied(text()),
        Some(Code::Nonexistent | Code::TryCreate) => Error::NotFound,
        Some(Code::AlreadyExists) => Error::Exists,
        Some(Code::HasChildren) => Error::NotEmpty,
        Some(Code::OverQuota) => Error::Quota(text()),
        Some(Code::Limit | Code::TooBig) => Error::TooBig(text()),
        Some(Code::InUse) => Error::Busy(text()),
        Some(Code::Unavailable) => Error::Busy(text()),
        Some(Code::Cannot) => Error::NotPermitted(text()),
        Some(Code::ExpungeIssued) => Error::Stale,
        Some(Code::Expired | Code::PrivacyRequired | Code::AuthenticationFailed) => Error::Auth(text()),
        None if refusal.status == Status::No && refusal.is_missing() => Error::NotFound,
        _ if refusal.status == Status::Bad => Error::protocol(format!("BAD: {}", refusal.sentence())),
        _ => Error::protocol(refusal.sentence()),
    }
}

/// The error of a login that was answered NO or BAD. [`Error::Busy`] is for too many connections.
pub fn login(refusal: &Refusal) -> Error {
    match &refusal.code {
        Some(Code::AuthenticationFailed | Code::AuthorizationFailed | Code::Expired) => {
            Error::Auth(refusal.sentence().into())
        }
        _ if refusal.is_limit() => Error::Busy(refusal.sentence().into()),
        Some(Code::InUse) => Error::Busy(refusal.sentence().into()),
        Some(Code::Unavailable | Code::ServerBug) => Error::offline(refusal.sentence()),
        _ => Error::Auth(refusal.sentence().into()),
    }
}

/// The error of a connection that the server ends with BYE, or greets with anything but OK.
pub fn bye(refusal: &Refusal) -> Error {
    if refusal.is_limit() { Error::Busy(refusal.sentence().into()) } else { Error::offline(refusal.sentence()) }
}
