//! The meaning of what came in, as types.

use bytes::Bytes;

use crate::mail::envelope::Envelope;
use crate::mail::flag::Flags;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::part::Part;
use crate::mail::section::Section;
use crate::mail::uid::{Uid, UidSet, UidValidity};

/// One response line with its literals.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// `+ text`
    Continue(Bytes),
    /// `tag OK|NO|BAD text`
    Tagged {
        /// The tag as sent.
        tag: Bytes,
        /// OK, NO or BAD.
        status: Status,
        /// The response code.
        code: Option<Code>,
        /// Human-readable text, raw.
        text: Bytes,
    },
    /// `* …`
    Untagged(Data),
}

/// Outcome of a command, or the kind of an untagged status response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Ok,
    No,
    Bad,
    PreAuth,
    Bye,
}

/// Untagged data with a meaning for imapfs.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// `* OK|NO|BAD|PREAUTH|BYE [code] text`
    Status(Status, Option<Code>, Bytes),
    /// CAPABILITY, upper-cased.
    Capability(Vec<String>),
    /// ENABLED, upper-cased.
    Enabled(Vec<String>),
    /// LIST, LSUB and XLIST.
    List(ListRow),
    /// STATUS.
    MailboxStatus(MailboxName, StatusItems),
    /// NAMESPACE: personal, other users', shared; (prefix in wire form, delimiter).
    Namespace([Vec<(Vec<u8>, Option<u8>)>; 3]),
    /// SEARCH and ESEARCH.
    Search(SearchResult),
    /// FLAGS.
    Flags(Flags),
    /// `n EXISTS`
    Exists(u64),
    /// `n RECENT`
    Recent(u64),
    /// `n EXPUNGE`
    Expunge(u64),
    /// VANISHED; true for (EARLIER).
    Vanished(bool, UidSet),
    /// FETCH and UIDFETCH.
    Fetch(Box<FetchRow>),
    /// ID: names lower-case, values raw.
    Id(Vec<(String, Option<Vec<u8>>)>),
    /// QUOTA: root, then (resource upper-case, used, limit); STORAGE in units of 1024 octets.
    Quota(Vec<u8>, Vec<(String, u64, u64)>),
    /// QUOTAROOT: mailbox, roots.
    QuotaRoot(MailboxName, Vec<Vec<u8>>),
    /// MYRIGHTS.
    MyRights(MailboxName, String),
    /// ACL: (identifier, rights).
    Acl(MailboxName, Vec<(Vec<u8>, String)>),
    /// METADATA with values: (entry, value).
    Metadata(Vec<u8>, Vec<(String, Option<Vec<u8>>)>),
    /// Known to be of no interest, or unknown: the keyword, upper-case.
    Other(String),
}

/// One LIST response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRow {
    /// LSUB rather than LIST.
    pub lsub: bool,
    /// Attributes, lower-case with their backslash (`\noselect`, `\sent`, `\subscribed`).
    pub attributes: Vec<String>,
    /// Hierarchy delimiter; `None` for NIL and for what is not one octet.
    pub delimiter: Option<u8>,
    /// The name as sent.
    pub name: MailboxName,
}

/// What STATUS told; a missing item is not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StatusItems {
    pub messages: Option<u64>,
    pub uid_next: Option<u64>,
    pub uid_validity: Option<UidValidity>,
    pub unseen: Option<u64>,
    pub highest_modseq: Option<u64>,
    /// MAILBOXID, RFC 8474.
    pub mailbox_id: Option<Vec<u8>>,
    /// Sum of the messages' sizes in octets, RFC 8438.
    pub size: Option<u64>,
}

/// What SELECT or EXAMINE told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Selected {
    pub exists: u64,
    pub uid_next: Option<u64>,
    pub uid_validity: Option<UidValidity>,
    /// `None` with NOMODSEQ or without CONDSTORE.
    pub highest_modseq: Option<u64>,
    pub read_only: bool,
    /// All that changed since the MODSEQ of `Command::Resync` was told.
    pub resynced: bool,
    /// Flags that can be changed for ever; `\*` among them when new keywords can be made.
    pub permanent_flags: Option<Flags>,
    /// Which connection told it; 0 for a model server.
    pub connection: u64,
}

/// What SEARCH or ESEARCH told. For SEARCH `all` holds the numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SearchResult {
    /// Tag of the command, where ESEARCH names it.
    pub tag: Option<Vec<u8>>,
    pub uid: bool,
    pub all: UidSet,
    pub count: Option<u64>,
    pub min: Option<u64>,
    pub max: Option<u64>,
    pub modseq: Option<u64>,
}

/// One FETCH response: only what it held.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct FetchRow {
    /// The sequence number; not to be relied on.
    pub number: u64,
    pub uid: Option<Uid>,
    pub flags: Option<Flags>,
    pub modseq: Option<u64>,
    /// Seconds since 1970 UTC.
    pub internal_date: Option<i64>,
    pub size: Option<u64>,
    pub envelope: Option<Envelope>,
    /// The tree, paths filled in; `None` also when it could not be understood (then `odd_structure` is set).
    pub structure: Option<Part>,
    /// A BODYSTRUCTURE came and made no sense.
    pub odd_structure: bool,
    /// Bodies.
    pub bodies: Vec<BodyRow>,
    pub email_id: Option<Vec<u8>>,
    pub thread_id: Option<Vec<u8>>,
}

/// One `BODY[section]<origin> data` of a FETCH response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyRow {
    /// Which; `None` when what stands between the brackets is not a section of ours.
    pub section: Option<Section>,
    /// The offset in octets, when it was a part.
    pub origin: Option<u64>,
    /// The bytes; `None` for NIL and for an item name without a value.
    pub data: Option<Bytes>,
}

/// Response codes, RFC 9051 section 7.1 and RFC 5530.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Code {
    Alert,
    AlreadyExists,
    AppendUid(UidValidity, UidSet),
    AuthenticationFailed,
    AuthorizationFailed,
    BadCharset,
    Cannot,
    Capability(Vec<String>),
    Closed,
    CompressionActive,
    ContactAdmin,
    CopyUid(UidValidity, UidSet, UidSet),
    ExpungeIssued,
    Expired,
    HasChildren,
    HighestModSeq(u64),
    InUse,
    Limit,
    MailboxId(Vec<u8>),
    Modified(UidSet),
    NoModSeq,
    Nonexistent,
    NoPerm,
    NotificationOverflow,
    OverQuota,
    Parse,
    PermanentFlags(Flags),
    PrivacyRequired,
    ReadOnly,
    ReadWrite,
    ServerBug,
    TooBig,
    TryCreate,
    UidNext(u64),
    UidNotSticky,
    UidValidity(UidValidity),
    UnknownCte,
    Unavailable,
    Unseen(u64),
    UseAttr,
    /// Any other, as it stands between the brackets.
    Other(Bytes),
}
