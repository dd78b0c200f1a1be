//! Mailbox names as they go over the wire, and modified UTF-7 (RFC 3501 section 5.1.3).

use std::fmt;

/// A mailbox name, the bytes as the server sent them: an identity, never decoded and encoded again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxName(Box<[u8]>);

impl MailboxName {
    /// The name with these wire bytes; INBOX in any case is `INBOX` (RFC 9051 section 5.1).
    pub fn new(wire: &[u8]) -> Self {
        if wire.eq_ignore_ascii_case(b"INBOX") { Self((*b"INBOX").into()) } else { Self(wire.into()) }
    }

    /// The wire bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Is it INBOX?
    pub fn is_inbox(&self) -> bool {
        &*self.0 == b"INBOX"
    }
}

impl fmt::Debug for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::error::printable(&self.0, 200))
    }
}
