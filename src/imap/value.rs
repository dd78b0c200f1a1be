//! Small values that several responses hold.

use super::token::Cursor;
use crate::mail::flag::Flags;
use crate::mail::uid::{Uid, UidValidity};

/// The words up to the end, upper-case.
pub(super) fn upper_words(cursor: &mut Cursor<'_>) -> Vec<String> {
    cursor.words_to_end().iter().map(|word| text(word).to_ascii_uppercase()).collect()
}

/// A list of flags.
pub(super) fn flags(cursor: &mut Cursor<'_>) -> Flags {
    Flags::from_wire(cursor.words().iter().map(|word| &**word))
}

/// `(id)`, RFC 8474; `None` for NIL.
pub(super) fn object_id(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let id = if cursor.at_open() { cursor.words().into_iter().next() } else { cursor.string() };
    id.map(|id| id.into_owned())
}

/// The UID with this number, when it is one.
pub(super) fn uid(number: u64) -> Option<Uid> {
    u32::try_from(number).ok().and_then(Uid::new)
}

/// Text, whatever the octets.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A UIDVALIDITY; `None` for 0, which is not a legal value, and for what does not fit 32 bits.
pub(super) fn validity(cursor: &mut Cursor<'_>) -> Option<UidValidity> {
    u32::try_from(cursor.number()?).ok().filter(|number| *number > 0).map(UidValidity)
}
