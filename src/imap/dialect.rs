//! What a server understands, as far as the wording of commands depends on it.

use super::line::Literals;
use super::server::Server;

/// Octets of a UID set in one command: Stalwart takes 4096 octets an argument, Courier 8 kB a line, Dovecot 64 kB.
pub(super) const SET: usize = 3500;

/// What a server understands, as far as the wording of commands depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// How literals are sent.
    pub literals: Literals,
    /// EXAMINE instead of SELECT.
    pub read_only: bool,
    /// CONDSTORE, RFC 7162.
    pub condstore: bool,
    /// ESEARCH, RFC 4731.
    pub esearch: bool,
    /// LIST-EXTENDED, RFC 5258.
    pub list_extended: bool,
    /// SPECIAL-USE, RFC 6154.
    pub special_use: bool,
    /// OBJECTID, RFC 8474.
    pub object_id: bool,
    /// Commands are carried out in the order in which they are sent, SELECT among them.
    pub ordered: bool,
    /// UIDPLUS, RFC 4315.
    pub uidplus: bool,
    /// MOVE, RFC 6851.
    pub moves: bool,
    /// UNSELECT, RFC 3691.
    pub unselect: bool,
    /// MULTIAPPEND, RFC 3502.
    pub multi_append: bool,
    /// REPLACE, RFC 8508.
    pub replace: bool,
    /// ACL, RFC 4314.
    pub acl: bool,
    /// METADATA, RFC 5464.
    pub metadata: bool,
    /// APPENDLIMIT, RFC 7889: the largest message in octets that the server takes.
    pub append_limit: Option<u64>,
    /// IDLE, RFC 2177.
    pub idle: bool,
    /// NOTIFY, RFC 5465.
    pub notify: bool,
    /// COMPRESS=DEFLATE, RFC 4978, can be had.
    pub compress: bool,
    /// QRESYNC, RFC 7162, has been enabled.
    pub qresync: bool,
    /// Prefixes of the namespaces that `LIST "" "*"` may leave out.
    pub prefixes: Vec<Vec<u8>>,
}

impl Dialect {
    /// The dialect of a server; IMAP4rev2 stands for the extensions that it took in (RFC 9051 appendix E).
    pub fn new(server: &Server, read_only: bool) -> Self {
        let rev2 = server.offers("IMAP4REV2");
        let [personal, others, shared] = &server.namespaces;
        let personal = personal.iter().filter(|(prefix, _)| !starts_with_inbox(prefix));
        let prefixes = personal.chain(others).chain(shared).map(|(prefix, _)| prefix);
        Self {
            literals: if server.offers("LITERAL+") {
                Literals::All
            } else if rev2 || server.offers("LITERAL-") {
                Literals::Short
            } else {
                Literals::Wait
            },
            read_only,
            condstore: server.offers("CONDSTORE") || server.offers("QRESYNC"),
            esearch: rev2 || server.offers("ESEARCH"),
            list_extended: rev2 || server.offers("LIST-EXTENDED"),
            special_use: rev2 || server.offers("SPECIAL-USE"),
            object_id: server.offers("OBJECTID"),
            ordered: server.is_ordered(),
            uidplus: rev2 || server.offers("UIDPLUS"),
            moves: rev2 || server.offers("MOVE"),
            unselect: rev2 || server.offers("UNSELECT"),
            multi_append: server.offers("MULTIAPPEND"),
            replace: server.offers("REPLACE"),
            acl: server.offers("ACL"),
            idle: rev2 || server.offers("IDLE"),
            notify: server.offers("NOTIFY"),
            compress: server.offers("COMPRESS=DEFLATE"),
            qresync: server.qresync,
            metadata: server.offers("METADATA"),
            append_limit: server.capabilities.iter().find_map(|c| c.strip_prefix("APPENDLIMIT=")?.parse().ok()),
            prefixes: prefixes.filter(|prefix| !prefix.is_empty()).cloned().collect(),
        }
    }
}

/// `INBOX.` as a personal prefix holds what `LIST "" "*"` lists anyway.
fn starts_with_inbox(prefix: &[u8]) -> bool {
    prefix.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"INBOX"))
}
