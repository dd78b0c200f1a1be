//! Queries as search keys, RFC 9051 section 6.4.4, and what of a query no server can judge.
//!
//! 1. A server may be asked less than the query says: what it finds then is too much, and the rest is judged here.
//! 2. Below a negation too much becomes too little. So each term has two wordings, one that finds at least what it
//!    means and one that finds nothing else, and a negation changes from one to the other.
//! 3. Days are the server's own: it compares the date of INTERNALDATE in its time zone. The days that are asked for
//!    are one more on each side, and the date that it tells decides here.

use chrono::{DateTime, Datelike, Days, NaiveDate};

use super::line::Line;
use super::server::Server;
use crate::error::{Error, Result};
use crate::mail::flag;
use crate::mail::query::{Field, Query, State, Term, Tree, When};

/// The largest number that RFC 3501 has.
const NUMBER_MAX: u64 = u32::MAX as u64;

/// Search keys; only this file makes them, so they are nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pieces: Vec<Piece>,
    /// More than one key, which a negation has to hold together.
    many: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Our own.
    Words(String),
    /// The user's.
    Text(Box<str>),
}

/// How a query is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the server is asked: it finds at least what the query means. `None`: there can be nothing.
    pub keys: Option<Keys>,
    /// What else it is asked, so that the rest can be judged.
    pub more: Vec<Keys>,
    /// What must be true of what it finds; `None`: it finds just what the query means.
    pub rest: Option<Tree<Left>>,
}

/// A part of a query whose answer decides here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// What is known of the message tells.
    Here(Term),
    /// The server told, by this one of `Plan::more`.
    There(usize),
}

/// Plans the search for a query on this server. `now`: seconds since 1970 UTC.
///
/// Errors: `Unsupported` for what the server does not offer; `Invalid` for raw search keys that are none, and for terms
/// that [`crate::mail::query::parse`] does not give.
pub fn plan(query: &Query, server: &Server, now: i64) -> Result<Plan> {
    let planner = Planner { within: server.offers("WITHIN"), gmail: server.offers("X-GM-EXT-1"), now };
    let keys = match planner.bound(query, true)? {
        Bound::All => Some(words("ALL")),
        Bound::Nothing => None,
        Bound::Keys(keys) => Some(keys),
    };
    let mut more = Vec::new();
    let rest = planner.rest(query, &mut more)?;
    Ok(Plan { keys, more, rest })
}

/// `UID SEARCH keys`. The charset is named when there is something to say in it.
pub fn line(keys: &Keys, esearch: bool) -> Result<Line> {
    let is_ascii = keys.pieces.iter().all(|piece| matches!(piece, Piece::Words(_)) || piece.text().is_ascii());
    let line = Line::new(if esearch { "UID SEARCH RETURN (ALL)" } else { "UID SEARCH" });
    let line = if is_ascii { line } else { line.text(" CHARSET UTF-8") };
    let mut behind = "";
    keys.pieces.iter().try_fold(line, |line, piece| match piece {
        Piece::Words(words) => {
            // RFC 9051 section 9 has no blank inside a parenthesis.
            let blank = if behind == "(" || words == ")" { "" } else { " " };
            behind = words;
            Ok(line.text(blank).text(words))
        }
        Piece::Text(text) => line.string(text.as_bytes()),
    })
}

impl Piece {
    fn text(&self) -> &str {
        match self {
            Piece::Words(text) => text,
            Piece::Text(text) => text,
        }
    }
}

impl Keys {
    /// Are there keys in it that the user wrote as they are? A server that does not understand them blames the user.
    pub fn are_raw(query: &Query) -> bool {
        query.any(&|term| matches!(term, Term::Imap(_) | Term::Gmail(_)))
    }

    /// As one key.
    fn single(self) -> Self {
        if self.many { Self { pieces: wrap("(", self.pieces, ")"), many: false } } else { self }
    }
}

fn words(text: &str) -> Keys {
    Keys { pieces: vec![Piece::Words(text.to_owned())], many: false }
}

fn wrap(open: &str, pieces: Vec<Piece>, close: &str) -> Vec<Piece> {
    let word = |text: &str| Some(Piece::Words(text.to_owned())).filter(|_| !text.is_empty());
    word(open).into_iter().chain(pieces).chain(word(close)).collect()
}

/// What can be asked for a part of a query.
enum Bound {
    All,
    Nothing,
    Keys(Keys),
}

struct Planner {
    /// WITHIN, RFC 5032.
    within: bool,
    /// X-GM-EXT-1.
    gmail: bool,
    now: i64,
}

impl Planner {
    /// Keys that find at least (`wide`), or at most, what the query means.
    fn bound(&self, query: &Query, wide: bool) -> Result<Bound> {
        Ok(match query {
            Tree::Term(term) => self.term(term, wide)?,
            Tree::Not(tree) => match self.bound(tree, !wide)? {
                Bound::All => Bound::Nothing,
                Bound::Nothing => Bound::All,
                Bound::Keys(keys) => Bound::Keys(Keys { pieces: wrap("NOT", keys.single().pieces, ""), many: false }),
            },
            Tree::And(trees) => {
                let mut all = Vec::new();
                for tree in trees {
                    match self.bound(tree, wide)? {
                        Bound::All => {}
                        Bound::Nothing => return Ok(Bound::Nothing),
                        Bound::Keys(keys) => all.push(keys),
                    }
                }
                match all.len() {
                    0 => Bound::All,
                    1 => Bound::Keys(all.remove(0)),
                    _ => {
                        Bound::Keys(Keys { pieces: all.into_iter().flat_map(|keys| keys.pieces).collect(), many: true })
                    }
                }
            }
            Tree::Or(trees) => {
                let mut any = Vec::new();
                for tree in trees {
                    match self.bound(tree, wide)? {
                        Bound::All => return Ok(Bound::All),
                        Bound::Nothing => {}
                        Bound::Keys(keys) => any.push(keys.single()),
                    }
                }
                one_of(any).map_or(Bound::Nothing, Bound::Keys)
            }
        })
    }

    fn term(&self, term: &Term, wide: bool) -> Result<Bound> {
        if let Some(keys) = self.exact(term)? {
            return Ok(Bound::Keys(keys));
        }
        let either = |keys: Option<Keys>| keys.map_or(if wide { Bound::All } else { Bound::Nothing }, Bound::Keys);
        let arrived = |seconds: u64| {
            let then = self.now.saturating_sub_unsigned(seconds);
            DateTime::from_timestamp(then, 0).map(|time| time.date_naive())
        };
        Ok(either(match (term, wide) {
            (Term::Date(When::Since, date), true) => since(*date, -1),
            (Term::Date(When::Since, date), false) => since(*date, 1),
            (Term::Date(When::Before, date), true) => before(*date, 1),
            (Term::Date(When::Before, date), false) => before(*date, -1),
            (Term::Date(When::On, date), true) => both(since(*date, -1), before(*date, 2)),
            (Term::Newer(seconds), _) => arrived(*seconds).and_then(|day| since(day, if wide { -1 } else { 2 })),
            (Term::Older(seconds), _) => arrived(*seconds).and_then(|day| before(day, if wide { 2 } else { -1 })),
            _ => None,
        }))
    }

    /// Keys that mean just what the term means.
    fn exact(&self, term: &Term) -> Result<Option<Keys>> {
        let text = |key: &str, text: &str| Ok(Some(with_text(key, text)?));
        let number = |key: &str, n: u64| Ok((1..=NUMBER_MAX).contains(&n).then(|| words(&format!("{key} {n}"))));
        match term {
            Term::All => Ok(Some(words("ALL"))),
            Term::Text(field, value) => text(
                match field {
                    Field::Anywhere => "TEXT",
                    Field::From => "FROM",
                    Field::To => "TO",
                    Field::Cc => "CC",
                    Field::Bcc => "BCC",
                    Field::Subject => "SUBJECT",
                    Field::Body => "BODY",
                },
                value,
            ),
            Term::Header(name, value) => {
                let mut keys = with_text("HEADER", name)?;
                keys.pieces.push(Piece::Text(value.clone()));
                Ok(Some(keys))
            }
            Term::Is(state) => Ok(Some(words(match state {
                State::Unread => "UNSEEN",
                State::Read => "SEEN",
                State::Flagged => "FLAGGED",
                State::Answered => "ANSWERED",
                State::Draft => "DRAFT",
                State::Deleted => "DELETED",
            }))),
            Term::Tag(keyword) if flag::is_settable(keyword) && !keyword.starts_with('\\') => {
                Ok(Some(words(&format!("KEYWORD {keyword}"))))
            }
            Term::Tag(_) => Err(Error::invalid("that cannot be a keyword")),
            Term::Newer(seconds) if self.within => number("YOUNGER", *seconds),
            Term::Older(seconds) if self.within => number("OLDER", *seconds),
            Term::Larger(octets) => number("LARGER", *octets),
            Term::Smaller(octets) => number("SMALLER", *octets),
            Term::Uid(uids) if uids.is_empty() => Ok(None),
            Term::Uid(uids) => Ok(Some(words(&format!("UID {uids}")))),
            Term::Gmail(raw) if self.gmail => text("X-GM-RAW", raw),
            Term::Gmail(_) => Err(Error::Unsupported("gmail: is for Gmail alone (X-GM-EXT-1)".into())),
            Term::Imap(raw) => {
                check_raw(raw).map_err(|why| Error::invalid(format!("imap:{raw:?} cannot be search keys: {why}")))?;
                Ok(Some(words(&format!("({raw})"))))
            }
            Term::Date(..) | Term::Newer(_) | Term::Older(_) => Ok(None),
            Term::Attachment | Term::Type(..) | Term::Filename(_) => Ok(None),
        }
    }

    fn is_exact(&self, query: &Query) -> Result<bool> {
        Ok(match query {
            Tree::Term(term) => self.exact(term)?.is_some(),
            Tree::Not(tree) => self.is_exact(tree)?,
            Tree::And(trees) | Tree::Or(trees) => {
                trees.iter().map(|tree| self.is_exact(tree)).collect::<Result<Vec<_>>>()?.iter().all(|exact| *exact)
            }
        })
    }

    /// What must be true of what the server finds by the wide keys.
    fn rest(&self, query: &Query, more: &mut Vec<Keys>) -> Result<Option<Tree<Left>>> {
        if self.is_exact(query)? {
            return Ok(None);
        }
        let Tree::And(trees) = query else { return self.judged(query, more).map(Some) };
        let rests = trees.iter().map(|tree| self.rest(tree, more)).collect::<Result<Vec<_>>>()?;
        Ok(Some(Tree::all(rests.into_iter().flatten().collect())))
    }

    /// The whole of a query, what the server can judge of it as questions of their own.
    fn judged(&self, query: &Query, more: &mut Vec<Keys>) -> Result<Tree<Left>> {
        if self.is_exact(query)?
            && let Bound::Keys(keys) = self.bound(query, true)?
        {
            more.push(keys);
            return Ok(Tree::Term(Left::There(more.len() - 1)));
        }
        let mut each = |trees: &[Query]| trees.iter().map(|tree| self.judged(tree, more)).collect::<Result<Vec<_>>>();
        Ok(match query {
            Tree::Term(term) => Tree::Term(Left::Here(term.clone())),
            Tree::Not(tree) => Tree::Not(Box::new(self.judged(tree, more)?)),
            Tree::And(trees) => Tree::And(each(trees)?),
            Tree::Or(trees) => Tree::Or(each(trees)?),
        })
    }
}

fn with_text(key: &str, text: &str) -> Result<Keys> {
    if text.contains(['\r', '\n', '\0']) {
        return Err(Error::invalid("a text with CR, LF or NUL cannot be looked for"));
    }
    Ok(Keys { pieces: vec![Piece::Words(key.to_owned()), Piece::Text(text.into())], many: false })
}

/// `OR a b` has two keys: of more, halves, so that they are not nested deeper than need be.
fn one_of(mut any: Vec<Keys>) -> Option<Keys> {
    if any.len() < 2 {
        return any.pop();
    }
    let rest = any.split_off(any.len() / 2);
    let halves = [one_of(any)?, one_of(rest)?];
    Some(Keys { pieces: wrap("OR", halves.into_iter().flat_map(|keys| keys.pieces).collect(), ""), many: false })
}

fn both(a: Option<Keys>, b: Option<Keys>) -> Option<Keys> {
    let (a, b) = (a?, b?);
    Some(Keys { pieces: a.pieces.into_iter().chain(b.pieces).collect(), many: true })
}

fn since(date: NaiveDate, days: i64) -> Option<Keys> {
    day("SINCE", date, days)
}

fn before(date: NaiveDate, days: i64) -> Option<Keys> {
    day("BEFORE", date, days)
}

/// A date so many days on; none when it has not four digits of year (RFC 9051 section 9).
fn day(key: &str, date: NaiveDate, days: i64) -> Option<Keys> {
    let count = Days::new(days.unsigned_abs());
    let date = if days < 0 { date.checked_sub_days(count) } else { date.checked_add_days(count) };
    let date = date.filter(|date| (1000..=9999).contains(&date.year()))?;
    Some(words(&format!("{key} {}", date.format("%-d-%b-%Y"))))
}

/// Is it something that can only be search keys between parentheses: printable, no literal, and nothing that is opened
/// in it is left open or was opened before?
fn check_raw(raw: &str) -> std::result::Result<(), &'static str> {
    let mut depth = 0usize;
    let mut quoted = false;
    let mut escaped = false;
    for byte in raw.bytes() {
        if !(b' '..=b'~').contains(&byte) {
            return Err("only printable ASCII characters can be in it");
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'}' => return Err("literals cannot be in it"),
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1).ok_or("a parenthesis closes what was not opened")?,
            _ => {}
        }
    }
    match (quoted, depth) {
        _ if raw.trim().is_empty() => Err("there is nothing in it"),
        (true, _) => Err("a quote is not closed"),
        (false, 0) => Ok(()),
        (false, _) => Err("a parenthesis is not closed"),
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
