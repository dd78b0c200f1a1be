//! The query language of searches: what can be asked of a message, as a tree that knows no server.
//!
//! ```text
//! and     = or { [AND] or }                 words side by side: all of them
//! or      = not { OR not }                  OR binds tighter than a blank, as Gmail has it
//! not     = [ "-" | NOT ] ( "(" and ")" | term )
//! term    = word | "phrase" | key ":" value | "*"
//! value   = word | "phrase" | "(" and ")"   parentheses after from to cc bcc subject body: each word is looked for there
//! ```
//! Texts are looked for as substrings, whatever the case. AND, OR and NOT are upper-case; in lower case they are words.
//! [`parse()`] and `Display` are a pair: what is printed parses to the same tree.

mod glob;
mod judge;
mod parse;
mod print;

use chrono::NaiveDate;

pub use self::judge::{Facts, Texts, attachments_of};
pub use self::parse::{BadQuery, parse};
use super::uid::UidSet;

/// Terms, put together. Invariant of what [`parse()`] gives: `And` holds at least two, none of them an `And`; `Or`
/// likewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree<T> {
    /// This.
    Term(T),
    /// Not this.
    Not(Box<Tree<T>>),
    /// All of these.
    And(Vec<Tree<T>>),
    /// One of these at least.
    Or(Vec<Tree<T>>),
}

/// A query.
pub type Query = Tree<Term>;

/// One thing that can be asked of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// `*`: every message.
    All,
    /// A text, somewhere or in a field. Never empty, no control characters; likewise in all other terms.
    Text(Field, Box<str>),
    /// `header:NAME=TEXT`: a text in this header field; an empty one: the message has the field.
    Header(Box<str>, Box<str>),
    /// `is:STATE`
    Is(State),
    /// `tag:KEYWORD`
    Tag(Box<str>),
    /// `since: before: on:`, by the date of arrival (INTERNALDATE), days of UTC.
    Date(When, NaiveDate),
    /// `newer:7d`: arrived in the last so many seconds.
    Newer(u64),
    /// `older:2w`: arrived earlier.
    Older(u64),
    /// `larger:2M`: of more octets than this.
    Larger(u64),
    /// `smaller:100K`: of fewer octets.
    Smaller(u64),
    /// `has:attachment`, see [`attachments_of`].
    Attachment,
    /// `type:image/png`, `type:image`, `type:*/pdf`: has a part of this media type; both are patterns.
    Type(Box<str>, Box<str>),
    /// `filename:*.pdf`: has a part of this name; without `*` and `?` a part of the name will do.
    Filename(Box<str>),
    /// `uid:1,5:9`
    Uid(UidSet),
    /// `gmail:RAW`: what Gmail's own search box takes.
    Gmail(Box<str>),
    /// `imap:RAW`: search keys of the protocol.
    Imap(Box<str>),
}

/// Where a text is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    Anywhere,
    From,
    To,
    Cc,
    Bcc,
    Subject,
    Body,
}

/// `is:…`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Unread,
    Read,
    Flagged,
    Answered,
    Draft,
    Deleted,
}

/// How a message's day compares with a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// On that day or later.
    Since,
    /// Earlier.
    Before,
    /// On that day.
    On,
}

/// Keys of texts.
const FIELDS: [(&str, Field); 6] = [
    ("from", Field::From),
    ("to", Field::To),
    ("cc", Field::Cc),
    ("bcc", Field::Bcc),
    ("subject", Field::Subject),
    ("body", Field::Body),
];

/// Values of `is:`; the first word of a state is the one that is printed.
const STATES: [(&str, State); 10] = [
    ("unread", State::Unread),
    ("read", State::Read),
    ("flagged", State::Flagged),
    ("answered", State::Answered),
    ("draft", State::Draft),
    ("deleted", State::Deleted),
    ("unseen", State::Unread),
    ("seen", State::Read),
    ("starred", State::Flagged),
    ("replied", State::Answered),
];

/// Units of ages, seconds.
const AGES: [(char, u64); 6] =
    [('w', 604_800), ('d', 86_400), ('h', 3600), ('s', 1), ('m', 2_592_000), ('y', 31_536_000)];

/// Units of sizes, octets.
const SIZES: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

impl<T> Tree<T> {
    /// Is it so? `term` answers for a term, `None` when it cannot tell; what does not depend on such a term is told all
    /// the same.
    pub fn judge(&self, term: &impl Fn(&T) -> Option<bool>) -> Option<bool> {
        match self {
            Tree::Term(one) => term(one),
            Tree::Not(tree) => tree.judge(term).map(|so| !so),
            Tree::And(trees) => decide(trees.iter().map(|tree| tree.judge(term)), false),
            Tree::Or(trees) => decide(trees.iter().map(|tree| tree.judge(term)), true),
        }
    }

    /// Is it so of one term at least?
    pub fn any(&self, is: &impl Fn(&T) -> bool) -> bool {
        match self {
            Tree::Term(term) => is(term),
            Tree::Not(tree) => tree.any(is),
            Tree::And(trees) | Tree::Or(trees) => trees.iter().any(|tree| tree.any(is)),
        }
    }

    /// All of these; one alone is itself.
    pub fn all(mut trees: Vec<Self>) -> Self {
        if trees.len() == 1 { trees.remove(0) } else { Tree::And(trees) }
    }

    /// One of these at least; one alone is itself.
    pub fn one_of(mut trees: Vec<Self>) -> Self {
        if trees.len() == 1 { trees.remove(0) } else { Tree::Or(trees) }
    }
}

/// One `decisive` answer decides; without it, what is not known leaves it open.
fn decide(answers: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut outcome = Some(!decisive);
    for answer in answers {
        match answer {
            Some(so) if so == decisive => return Some(decisive),
            Some(_) => {}
            None => outcome = None,
        }
    }
    outcome
}

impl Query {
    /// Can the answer change without a message coming or going: by flags that somebody sets?
    pub fn depends_on_flags(&self) -> bool {
        self.any(&|term| matches!(term, Term::Is(_) | Term::Tag(_) | Term::Gmail(_) | Term::Imap(_)))
    }

    /// Can the answer change by time alone?
    pub fn depends_on_time(&self) -> bool {
        self.any(&|term| matches!(term, Term::Newer(_) | Term::Older(_) | Term::Gmail(_) | Term::Imap(_)))
    }
}

#[cfg(test)]
mod tests;
