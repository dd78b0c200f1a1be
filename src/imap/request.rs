//! The seam between the account and the wire: typed requests and their answers. A model server, a recorder or a
//! fault injector can sit at the far end of the channel.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use super::response::{Code, Data};
use super::search::Keys;
use crate::error::Result;
use crate::mail::flag::Flags;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::section::Section;
use crate::mail::uid::{Uid, UidSet, UidValidity};

/// Where a command must run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// On any connection.
    Account,
    /// On a connection that has this mailbox selected. With `validity`, a mailbox whose UIDVALIDITY is another
    /// answers `Error::Stale` and the command is not sent.
    Mailbox {
        /// The mailbox.
        name: MailboxName,
        /// The UIDVALIDITY that the UIDs of the command belong to.
        validity: Option<UidValidity>,
    },
}

/// How much will come back, so that small answers never wait behind big ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Metadata and small reads; goes over a compressed connection where there is one.
    Small,
    /// Bytes of messages in large windows.
    Bulk,
}

/// What a FETCH asks for. UID is always asked for as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem {
    /// FLAGS.
    Flags,
    /// INTERNALDATE.
    InternalDate,
    /// RFC822.SIZE.
    Size,
    /// ENVELOPE.
    Envelope,
    /// BODYSTRUCTURE.
    BodyStructure,
    /// MODSEQ, RFC 7162 (only where CONDSTORE is offered).
    ModSeq,
    /// EMAILID and THREADID, RFC 8474 (only where OBJECTID is offered).
    ObjectId,
    /// `BODY.PEEK[section]`, whole or `<offset.count>`: count 1 to 2^31-1, offset inside the part.
    Body(Section, Option<(u64, u32)>),
}

/// A command of one exchange. Sequence numbers are never used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// NOOP: is the connection alive, and what is new.
    Noop,
    /// LIST of all mailboxes of all namespaces (`LIST "" "*"`, and for each other prefix), with RETURN
    /// (SPECIAL-USE SUBSCRIBED CHILDREN) where LIST-EXTENDED is offered, else LIST and LSUB.
    List,
    /// STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN, HIGHESTMODSEQ where CONDSTORE is offered). On a connection that has
    /// this mailbox selected it is not asked, and there is no answer but `Done::selected`: Dovecot tells there what the
    /// connection has seen of the mailbox, which may be old (RFC 9051 section 6.3.11: use SELECT or NOOP).
    Status(MailboxName),
    /// SELECT or EXAMINE of the target, again, for fresh UIDVALIDITY, UIDNEXT, EXISTS, HIGHESTMODSEQ.
    Select,
    /// The same, and what changed since a MODSEQ (QRESYNC, RFC 7162): `Data::Vanished` and `Data::Fetch` rows with FLAGS,
    /// when `Selected::resynced` says so; else it was only SELECT.
    Resync {
        /// The UIDVALIDITY that is known. Of another one nothing is told.
        validity: UidValidity,
        /// Up to where all is known.
        modseq: u64,
        /// The messages that are known; without, the server goes by all that there ever were.
        known: Option<UidSet>,
    },
    /// UID FETCH of these UIDs; answered by `Data::Fetch` rows whose UID is in the set.
    Fetch {
        /// Whose. Longer sets than a command line takes are split by the session into pipelined commands.
        uids: UidSet,
        /// What of them.
        items: Vec<FetchItem>,
        /// CHANGEDSINCE, RFC 7162.
        changed_since: Option<u64>,
    },
    /// UID SEARCH ALL, by ESEARCH where offered; answered by one `Data::Search`.
    SearchAll,
    /// GETQUOTAROOT.
    QuotaRoot(MailboxName),
    /// MYRIGHTS.
    MyRights(MailboxName),
    /// GETACL.
    GetAcl(MailboxName),
    /// GETMETADATA of all private and shared entries (DEPTH infinity), RFC 5464.
    GetMetadata(MailboxName),
    /// UID SEARCH of what a change left behind; answered by one `Data::Search`. Target: the mailbox.
    Search {
        /// Among these UIDs.
        uids: UidSet,
        /// Whose header field Message-ID holds this text; `None`: all of them.
        message_id: Option<Vec<u8>>,
    },
    /// UID SEARCH of what a user asks for; answered by one `Data::Search`. Target: the mailbox.
    Query(Keys),
    /// UID STORE +FLAGS or -FLAGS, never FLAGS: what another client set stays. Answered by `Data::Fetch` rows with the
    /// flags as they are now; `Done::code` is MODIFIED where `unchanged_since` kept it from some.
    Store {
        /// Whose.
        uids: UidSet,
        /// Set them, or clear them.
        set: bool,
        /// The flags: atoms with or without backslash.
        flags: Vec<Box<str>>,
        /// UNCHANGEDSINCE, RFC 7162 (only where CONDSTORE is offered). After a lost connection the STORE is sent again and
        /// MODIFIED may come of its first sending: see whether the flags are as wanted.
        unchanged_since: Option<u64>,
    },
    /// UID COPY; `Done::code` is COPYUID where UIDPLUS is offered. Its sets are empty when the server told them in a way
    /// that leaves open which message became which. A refusal or a loss in the middle of a long set is preceded by
    /// `Data::Status` with COPYUID of what was done.
    Copy {
        /// Of these.
        uids: UidSet,
        /// Where to.
        to: MailboxName,
    },
    /// UID MOVE, RFC 6851 (only where it is offered); `Done::code` is COPYUID as of COPY, wherever the server put it.
    Move {
        /// Of these.
        uids: UidSet,
        /// Where to.
        to: MailboxName,
    },
    /// UID EXPUNGE, RFC 4315 (only where UIDPLUS is offered). There is no EXPUNGE without UIDs: it would take what
    /// other clients marked.
    Expunge(UidSet),
    /// APPEND; with several messages MULTIAPPEND, RFC 3502 (only where it is offered). `Done::code` is APPENDUID where
    /// UIDPLUS is offered. Target: the account.
    Append {
        /// Where to.
        to: MailboxName,
        /// What.
        messages: Vec<Upload>,
    },
    /// UID REPLACE, RFC 8508 (only where it is offered): the new message comes, the old one goes, or neither.
    Replace {
        /// The old one, in the mailbox that is the target.
        uid: Uid,
        /// The new one, into the same mailbox.
        message: Upload,
    },
    /// CREATE.
    Create(MailboxName),
    /// DELETE.
    Delete(MailboxName),
    /// RENAME; children follow.
    Rename(MailboxName, MailboxName),
    /// SUBSCRIBE, or UNSUBSCRIBE.
    Subscribe(MailboxName, bool),
    /// SETACL, or DELETEACL without rights, RFC 4314: mailbox, identifier, rights.
    SetAcl(MailboxName, Vec<u8>, Option<String>),
    /// SETMETADATA, RFC 5464: mailbox, entry, value; NIL removes the entry.
    SetMetadata(MailboxName, String, Option<Vec<u8>>),
}

/// A message on its way to the server, from a file: it is never held in memory.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its octets, lines ended by CRLF, from offset 0. Nobody may change the file any more.
    pub file: Arc<std::fs::File>,
    /// How many.
    pub octets: u64,
    /// Flags it is to have.
    pub flags: Flags,
    /// INTERNALDATE, seconds since 1970 UTC; `None` for now.
    pub internal_date: Option<i64>,
}

impl PartialEq for Upload {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.octets == other.octets
    }
}

impl Eq for Upload {}

impl Command {
    /// Does it change anything on the server?
    pub fn is_change(&self) -> bool {
        match self {
            Command::Noop
            | Command::List
            | Command::Status(_)
            | Command::Select
            | Command::Resync { .. }
            | Command::Fetch { .. }
            | Command::SearchAll
            | Command::Search { .. }
            | Command::Query(_)
            | Command::QuotaRoot(_)
            | Command::MyRights(_)
            | Command::GetAcl(_)
            | Command::GetMetadata(_) => false,
            Command::Store { .. }
            | Command::Copy { .. }
            | Command::Move { .. }
            | Command::Expunge(_)
            | Command::Append { .. }
            | Command::Replace { .. }
            | Command::Create(_)
            | Command::Delete(_)
            | Command::Rename(..)
            | Command::Subscribe(..)
            | Command::SetAcl(..)
            | Command::SetMetadata(..) => true,
        }
    }
}

impl Command {
    /// Does it open the mailbox, whether it is open or not?
    pub fn is_select(&self) -> bool {
        matches!(self, Command::Select | Command::Resync { .. })
    }

    /// Does it only read messages of the selected mailbox?
    pub fn is_read(&self) -> bool {
        matches!(self, Command::Fetch { .. } | Command::SearchAll | Command::Search { .. } | Command::Query(_))
    }
}

/// A command on its way, and where its answers go.
#[derive(Debug)]
pub struct Request {
    /// Where.
    pub target: Target,
    /// What.
    pub command: Command,
    /// How much will come.
    pub class: Class,
    /// Octets of literals and lines that may come back before the exchange is failed as `TooBig`.
    pub limit: u64,
    /// The octets of a body may come as they arrive, as [`Answer::Part`].
    pub parts: bool,
    /// The only connection that may answer; `Offline` when it is gone.
    pub on: Option<u64>,
    /// Each answer, then one `Answer::Done`. A dropped receiver never stops a command half-way.
    pub answers: AnswerSender,
}

/// Where the answers to a request are read. As many as come find room; whoever reads them slower than they come holds up
/// the connection a little ([`AnswerSender::untaken`]).
pub type Answers = mpsc::Receiver<Answer>;

/// Where they come from.
#[derive(Debug)]
pub struct AnswerSender(mpsc::Sender<Answer>);

/// Both ends.
pub fn answers() -> (AnswerSender, Answers) {
    let (sender, receiver) = mpsc::channel(Semaphore::MAX_PERMITS);
    (AnswerSender(sender), receiver)
}

impl AnswerSender {
    /// Hands on an answer. That nobody reads it is no error.
    pub fn send(&self, answer: Answer) {
        let _ = self.0.try_send(answer);
    }

    /// How many have not been taken yet.
    pub fn untaken(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }
}

/// What comes back.
#[derive(Debug)]
pub enum Answer {
    /// Untagged data that belongs to this command.
    Data(Data),
    /// The next octets of the one body that was asked for, and RFC822.SIZE as its row states it: the rest of the body
    /// comes with the row, as `Data`.
    Part(Option<u64>, Bytes),
    /// The end, exactly once.
    Done(Result<Done>),
}

/// How an exchange ended well (NO and BAD are errors).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Response code of the tagged OK; of a change the APPENDUID, COPYUID or MODIFIED that came with or before it.
    pub code: Option<Code>,
    /// For commands with a mailbox target: what SELECT said, newest.
    pub selected: Option<super::response::Selected>,
}
