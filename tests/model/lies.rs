//! What a server may tell wrongly, by switches.

/// Everything that the model does wrong; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lies {
    /// Octets of each part in BODYSTRUCTURE.
    pub octets: Octets,
    /// RFC822.SIZE is off by so many.
    pub size: i64,
    pub ranges: Ranges,
    pub bodies: Bodies,
    pub structure: Structure,
    /// What is answered for a UID that is not there.
    pub expunged: Expunged,
    /// Sections inside attached messages give other octets.
    pub inner_sections: bool,
    pub rows: Rows,
    /// EXISTS and MESSAGES state that many more.
    pub extra_exists: u64,
    /// SEARCH tells UIDs that no message has.
    pub extra_uids: bool,
    /// Neither SELECT nor STATUS tells UIDNEXT.
    pub no_uid_next: bool,
}

/// Lengths in BODYSTRUCTURE.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Octets {
    #[default]
    True,
    /// Off by so many.
    Off(i64),
    Zero,
    Huge,
}

impl Octets {
    pub fn of(self, octets: u64) -> u64 {
        match self {
            Octets::True => octets,
            Octets::Off(by) => octets.saturating_add_signed(by),
            Octets::Zero => 0,
            Octets::Huge => 1 << 33,
        }
    }
}

/// Answers to `BODY[section]<offset.count>`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Ranges {
    #[default]
    True,
    /// The whole section, as if it were the range.
    Whole,
    /// The whole section, called the whole.
    WholeWithoutOrigin,
    /// From the beginning of the section, whatever the offset, which is echoed.
    FromStart,
    /// The origin is echoed one too high.
    WrongOrigin,
    /// The origin is left out.
    NoOrigin,
    /// The range that ends the section lacks its last octet.
    ShortAtEnd,
    /// Each range lacks its last octet.
    Short,
    /// Each range has an octet more.
    Long,
    /// An empty answer.
    Empty,
    Refused,
}

/// Answers to `BODY[section]`, whole or not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Bodies {
    #[default]
    True,
    /// NIL for the value.
    Nil,
    /// A row with everything but the body.
    Missing,
    /// No row, and OK.
    NoRow,
    /// `{0}`
    Empty,
    /// The whole message lacks its last octets.
    MessageShort,
    /// The whole message has octets more.
    MessageLong,
}

/// BODYSTRUCTURE itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Structure {
    #[default]
    True,
    /// One that no parser understands.
    Odd,
    /// A multipart that is a leaf.
    MultipartLeaf,
    /// The row has none.
    Missing,
}

/// Messages that others expunged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Expunged {
    /// No row.
    #[default]
    Nothing,
    /// As Courier: a made-up message of 129 octets.
    MadeUp,
    /// As mailutils: `BODY[] ""` and size 0.
    Empty,
    /// As Dovecot: NIL.
    Nil,
    /// As mailutils for a UID that never was: the last message, under its own UID.
    LastMessage,
}

/// Rows of FETCH beyond or other than what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Rows {
    #[default]
    True,
    /// Each answer has rows of messages that were not asked for as well.
    Unasked,
    /// Each answer has a row without a UID as well, before the others.
    WithoutUid,
    /// Each row comes twice, the second time with nothing but flags.
    Twice,
    /// Each second row is missing from answers that tell of more than one message what it is.
    Half,
}
