//! What the user may choose about connections.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::error::Result;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// TLS from the first byte (`imaps://`, port 993).
    Implicit,
    /// STARTTLS, and failure without it (`imap://`, port 143).
    StartTls,
    /// Plaintext: only when asked for by `--tls none`.
    None,
}

/// What proves who the user is.
#[derive(Clone)]
pub enum Credentials {
    /// A password: SCRAM-SHA-256, PLAIN, LOGIN.
    Password(SecretString),
    /// An OAuth2 access token: OAUTHBEARER, XOAUTH2.
    Token(SecretString),
}

impl Credentials {
    /// Are these the same secret?
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password(one), Self::Password(two)) | (Self::Token(one), Self::Token(two)) => {
                one.expose_secret() == two.expose_secret()
            }
            _ => false,
        }
    }
}

/// Asked once for each connection, because tokens expire, and once more, with `true`, when the server refused what it
/// gave; blocking, so it is called on a blocking thread.
pub type CredentialSource = Arc<dyn Fn(bool) -> Result<Credentials> + Send + Sync>;

/// What this layer obeys.
#[derive(Clone)]
pub struct Options {
    /// Host name or address literal, as certificates must name it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// PEM file with roots that are trusted besides the system's.
    pub tls_ca: Option<PathBuf>,
    /// Login name.
    pub user: String,
    /// Where the secret comes from.
    pub credentials: CredentialSource,
    /// How many connections at the most, 1 to 16.
    pub connections: usize,
    /// Use EXAMINE, never SELECT.
    pub read_only: bool,
    /// COMPRESS=DEFLATE where offered: on the connections for metadata, and on those for bodies over a slow line.
    pub compress: bool,
    /// Log the protocol, secrets and literals elided.
    pub debug_protocol: bool,
    /// Longest time an exchange may go without progress.
    pub timeout: std::time::Duration,
}

impl Options {
    /// Is the port another than the one that URLs leave out (143, and 993 for implicit TLS)?
    pub fn has_unusual_port(&self) -> bool {
        self.port != if self.tls == Tls::Implicit { 993 } else { 143 }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{} ({:?})", self.user, self.host, self.port, self.tls)
    }
}
