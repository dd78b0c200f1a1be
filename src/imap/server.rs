//! What is known of the server, and of what it costs: learnt at login, counted, told unasked.

use super::response::Data;
use crate::mail::mailbox_name::MailboxName;

/// What the server is, as learnt at login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Capabilities after login, upper-case.
    pub capabilities: Vec<String>,
    /// What ID told: name, version and so on.
    pub id: Vec<(String, String)>,
    /// NAMESPACE: personal, other users', shared; (prefix in wire form, delimiter).
    pub namespaces: [Vec<(Vec<u8>, Option<u8>)>; 3],
    /// QRESYNC, RFC 7162, has been enabled.
    pub qresync: bool,
}

impl Server {
    /// Does the server offer it? `name` upper-case.
    pub fn offers(&self, name: &str) -> bool {
        self.capabilities.iter().any(|c| c == name)
    }

    /// Does it carry out commands in the order in which they are sent, so that a read may follow its SELECT at once?
    /// A server must when it sees that the order matters (RFC 9051 section 5.5), and Stalwart does not; so it is believed
    /// of those only that were seen to.
    pub fn is_ordered(&self) -> bool {
        let name = self.id.iter().find(|(key, _)| key == "name").map_or("", |(_, name)| name);
        ["Dovecot", "Cyrus"].iter().any(|ordered| name.starts_with(ordered))
    }
}

/// Counters since the start, for status and for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Octets read from sockets (after TLS, before inflating).
    pub bytes_in: u64,
    /// Octets written to sockets.
    pub bytes_out: u64,
    /// Commands sent.
    pub commands: u64,
    /// Connections open now.
    pub connections: u64,
    /// Connections opened since the start.
    pub logins: u64,
    /// How changes by others are heard of.
    pub watching: Watching,
}

/// How changes by others are heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Watching {
    /// Nobody has looked at anything yet, or the server cannot be reached.
    #[default]
    Nothing,
    /// About to begin.
    Soon,
    /// The server refuses IDLE and is asked now and then.
    Poll,
    /// By IDLE, of one mailbox.
    Idle,
    /// By IDLE, and of all mailboxes by NOTIFY.
    Notify,
}

impl Watching {
    /// All, weakest first: each stands where its number says.
    pub const ALL: [Self; 5] = [Self::Nothing, Self::Soon, Self::Poll, Self::Idle, Self::Notify];

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Soon => "soon",
            Self::Poll => "poll",
            Self::Idle => "idle",
            Self::Notify => "notify",
        }
    }
}

/// Something that the server said without being asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The mailbox that the connection has selected.
    pub mailbox: Option<MailboxName>,
    /// What.
    pub data: Data,
}

/// How the first connection was made, for `imapfs check`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// SASL mechanism, or LOGIN; empty for a model server.
    pub mechanism: &'static str,
    /// TLS, 1.2 or later.
    pub encrypted: bool,
    /// COMPRESS=DEFLATE.
    pub compressed: bool,
}
