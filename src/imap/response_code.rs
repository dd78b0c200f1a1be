//! The response code in the text of OK, NO, BAD, BYE and PREAUTH, RFC 9051 section 7.1 and RFC 5530.

use bytes::Bytes;

use super::frame::parse_number;
use super::response::Code;
use super::token::Cursor;
use super::value::{object_id, upper_words, validity};
use crate::mail::flag::Flags;
use crate::mail::uid::UidSet;

/// Takes apart what follows the status word: code, human-readable text, and what was wrong with it. `text` is a part
/// of `line`. Some servers leave out the space behind the code, or the text.
pub fn parse_text(line: &Bytes, text: &[u8]) -> (Option<Code>, Bytes, Option<&'static str>) {
    let Some(inner) = text.strip_prefix(b"[") else {
        return (None, line.slice_ref(text), None);
    };
    let Some(end) = code_end(inner) else {
        return (None, line.slice_ref(text), Some("a response code without its closing bracket"));
    };
    let (code, text) = (&inner[..end], &inner[end + 1..]);
    let text = line.slice_ref(text.strip_prefix(b" ").unwrap_or(text));
    match parse(code) {
        Some(known) => (Some(known), text, None),
        None => (Some(Code::Other(line.slice_ref(code))), text, None),
    }
}

/// Where the `]` of the code stands: outside of quotes and parentheses, because keywords in PERMANENTFLAGS hold it on
/// some servers; else the first one.
fn code_end(text: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b']' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    memchr::memchr(b']', text)
}

/// The code with its arguments; `None` when it is not known or its arguments make no sense.
fn parse(code: &[u8]) -> Option<Code> {
    let mut cursor = Cursor::over(code);
    Some(match cursor.word().to_ascii_uppercase().as_slice() {
        b"ALERT" => Code::Alert,
        b"ALREADYEXISTS" => Code::AlreadyExists,
        b"APPENDUID" => {
            let validity = validity(&mut cursor)?;
            Code::AppendUid(validity, ascending(cursor.word())?)
        }
        b"AUTHENTICATIONFAILED" => Code::AuthenticationFailed,
        b"AUTHORIZATIONFAILED" => Code::AuthorizationFailed,
        b"BADCHARSET" => Code::BadCharset,
        b"CANNOT" => Code::Cannot,
        b"CAPABILITY" => Code::Capability(upper_words(&mut cursor)),
        b"CLOSED" => Code::Closed,
        b"COMPRESSIONACTIVE" => Code::CompressionActive,
        b"CONTACTADMIN" => Code::ContactAdmin,
        b"COPYUID" => {
            let validity = validity(&mut cursor)?;
            let (from, to) = (ascending(cursor.word())?, ascending(cursor.word())?);
            // Which became which is known from their order alone.
            (from.len() == to.len()).then_some(Code::CopyUid(validity, from, to))?
        }
        b"EXPUNGEISSUED" => Code::ExpungeIssued,
        b"EXPIRED" => Code::Expired,
        b"HASCHILDREN" => Code::HasChildren,
        b"HIGHESTMODSEQ" => match cursor.number()? {
            0 => Code::NoModSeq,
            modseq => Code::HighestModSeq(modseq),
        },
        b"INUSE" => Code::InUse,
        b"LIMIT" => Code::Limit,
        b"MAILBOXID" => Code::MailboxId(object_id(&mut cursor)?),
        b"MODIFIED" => Code::Modified(UidSet::parse(cursor.word())?),
        b"NOMODSEQ" => Code::NoModSeq,
        b"NONEXISTENT" => Code::Nonexistent,
        b"NOPERM" => Code::NoPerm,
        b"NOTIFICATIONOVERFLOW" => Code::NotificationOverflow,
        b"OVERQUOTA" => Code::OverQuota,
        b"PARSE" => Code::Parse,
        b"PERMANENTFLAGS" => Code::PermanentFlags(Flags::from_wire(cursor.words().iter().map(|w| &**w))),
        b"PRIVACYREQUIRED" => Code::PrivacyRequired,
        b"READ-ONLY" => Code::ReadOnly,
        b"READ-WRITE" => Code::ReadWrite,
        b"SERVERBUG" => Code::ServerBug,
        b"TOOBIG" => Code::TooBig,
        b"TRYCREATE" => Code::TryCreate,
        b"UIDNEXT" => Code::UidNext(cursor.number()?),
        b"UIDNOTSTICKY" => Code::UidNotSticky,
        b"UIDVALIDITY" => Code::UidValidity(validity(&mut cursor)?),
        b"UNKNOWN-CTE" => Code::UnknownCte,
        b"UNAVAILABLE" => Code::Unavailable,
        b"UNSEEN" => Code::Unseen(cursor.number()?),
        b"USEATTR" => Code::UseAttr,
        _ => return None,
    })
}

/// A set that was sent in ascending order, so that the n-th UID of the text is the n-th of the set.
fn ascending(text: &[u8]) -> Option<UidSet> {
    let numbers = text.split(|b| matches!(b, b',' | b':')).map(parse_number);
    let mut last = 0;
    for number in numbers {
        let number = number?;
        if number < last {
            return None;
        }
        last = number;
    }
    UidSet::parse(text)
}
