//! Queries as users write them become trees; what cannot be understood is answered with a column and what was expected.

use std::fmt;

use chrono::NaiveDate;

use super::{AGES, FIELDS, Field, Query, SIZES, STATES, Term, Tree, When};
use crate::error::Error;
use crate::mail::flag;
use crate::mail::uid::UidSet;

/// Octets of a query at the most.
const LENGTH: usize = 4096;

/// Parentheses and negations inside each other at the most.
const DEPTH: usize = 50;

/// All keys, for who mistyped one.
const KEYS: &str = "from, to, cc, bcc, subject, body, header, is, tag, has, type, filename, since, before, on, newer, older, \
                    larger, smaller, uid, gmail or imap";

/// A query that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadQuery {
    /// Where, in characters, from 1 on.
    pub column: usize,
    /// What should be there.
    pub expected: String,
}

impl fmt::Display for BadQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: expected {}", self.column, self.expected)
    }
}

impl From<BadQuery> for Error {
    fn from(bad: BadQuery) -> Self {
        Error::invalid(format!("query, {bad}"))
    }
}

type Parsed<T> = Result<T, BadQuery>;

/// The tree of a query.
pub fn parse(text: &str) -> Parsed<Query> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    if text.len() > LENGTH {
        return Err(parser.expected_at(LENGTH, "the end: a query has at most 4096 octets"));
    }
    let query = parser.and(Field::Anywhere)?;
    if parser.peek().is_some() {
        return Err(parser.expected("the end, or an opening parenthesis before this"));
    }
    Ok(query)
}

struct Parser<'a> {
    text: &'a str,
    /// Octets that were read.
    at: usize,
    depth: usize,
}

/// Does it end a word?
fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | ')' | '"')
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next_char(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The next character that is no blank; blanks before it are read.
    fn peek(&mut self) -> Option<char> {
        self.at = self.text.len() - self.rest().trim_start().len();
        self.next_char()
    }

    fn expected(&self, what: &str) -> BadQuery {
        self.expected_at(self.at, what)
    }

    fn expected_at(&self, at: usize, what: &str) -> BadQuery {
        let before = self.text.char_indices().take_while(|(index, _)| *index < at).count();
        BadQuery { column: before + 1, expected: what.to_owned() }
    }

    /// Reads `AND`, `OR` or `NOT` when it comes next.
    fn keyword(&mut self, word: &str) -> bool {
        self.peek();
        let Some(behind) = self.rest().strip_prefix(word) else { return false };
        let is_word = behind.chars().next().is_none_or(ends_word);
        if is_word {
            self.at += word.len();
        }
        is_word
    }

    /// `field`: where words are looked for.
    fn and(&mut self, field: Field) -> Parsed<Query> {
        let mut all = Vec::new();
        loop {
            match self.or(field)? {
                Tree::And(more) => all.extend(more),
                one => all.push(one),
            }
            if !self.keyword("AND") && matches!(self.peek(), None | Some(')')) {
                return Ok(Tree::all(all));
            }
        }
    }

    fn or(&mut self, field: Field) -> Parsed<Query> {
        let mut any = Vec::new();
        loop {
            match self.not(field)? {
                Tree::Or(more) => any.extend(more),
                one => any.push(one),
            }
            if !self.keyword("OR") {
                return Ok(Tree::one_of(any));
            }
        }
    }

    fn not(&mut self, field: Field) -> Parsed<Query> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.expected("fewer parentheses inside each other"));
        }
        let negated = self.keyword("NOT")
            || self.peek() == Some('-') && {
                self.at += 1;
                if self.next_char().is_none_or(|c| c.is_whitespace() || c == ')') {
                    return Err(self.expected("what is not wanted, right behind the -"));
                }
                true
            };
        let query = if negated { Tree::Not(Box::new(self.not(field)?)) } else { self.primary(field)? };
        self.depth -= 1;
        Ok(query)
    }

    fn primary(&mut self, field: Field) -> Parsed<Query> {
        let next = self.peek();
        let start = self.at;
        match next {
            Some('(') => self.group(field),
            Some('"') => Ok(Tree::Term(Term::Text(field, self.text(|| "a text between the quotes")?))),
            None | Some(')') => Err(self.expected("a word or a term")),
            _ if ["OR", "AND"].iter().any(|word| self.keyword(word)) => {
                Err(self.expected_at(start, "a word or a term before this (quote it to look for it)"))
            }
            _ => self.word_or_term(field),
        }
    }

    fn group(&mut self, field: Field) -> Parsed<Query> {
        self.at += 1;
        let query = self.and(field)?;
        if self.peek() != Some(')') {
            return Err(self.expected("a closing parenthesis"));
        }
        self.at += 1;
        self.end_of_term()?;
        Ok(query)
    }

    fn word_or_term(&mut self, field: Field) -> Parsed<Query> {
        let start = self.at;
        let key = self.rest().split_once(':').map(|(key, _)| key);
        let Some(key) = key.filter(|key| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphabetic())) else {
            let word = self.bare()?;
            return Ok(Tree::Term(if &*word == "*" && field == Field::Anywhere {
                Term::All
            } else {
                Term::Text(field, word)
            }));
        };
        if field != Field::Anywhere {
            return Err(self.expected("only words inside these parentheses (quote what has a colon)"));
        }
        self.at += key.len() + 1;
        let key = key.to_ascii_lowercase();
        if let Some((_, field)) = FIELDS.iter().find(|(name, _)| *name == key) {
            return match self.peek() {
                Some('(') => self.group(*field),
                _ => Ok(Tree::Term(Term::Text(*field, self.text(|| "a text")?))),
            };
        }
        self.peek();
        self.term(&key, start).map(Tree::Term)
    }

    /// The term of a key that has been read; it began at `start`.
    fn term(&mut self, key: &str, start: usize) -> Parsed<Term> {
        let at = self.at;
        let wrong = |parser: &Self, what: &str| parser.expected_at(at, what);
        Ok(match key {
            "header" => return self.header(),
            "is" => {
                const EXPECTED: &str = "unread, read, flagged, answered, draft or deleted";
                let word = self.text(|| EXPECTED)?.to_ascii_lowercase();
                let state = STATES.iter().find(|(name, _)| *name == word).ok_or_else(|| wrong(self, EXPECTED))?;
                Term::Is(state.1)
            }
            "tag" => {
                const EXPECTED: &str = "a keyword: letters, digits, and signs but for ( ) { % * \" \\ ]";
                let tag = self.text(|| EXPECTED)?;
                if !flag::is_settable(&tag) || tag.starts_with('\\') {
                    return Err(wrong(self, EXPECTED));
                }
                Term::Tag(tag)
            }
            "has" => match &*self.text(|| "attachment")? {
                "attachment" => Term::Attachment,
                _ => return Err(wrong(self, "attachment")),
            },
            "type" => {
                const EXPECTED: &str = "a media type, such as application/pdf or image";
                let text = self.text(|| EXPECTED)?.to_ascii_lowercase();
                let (media, subtype) = text.split_once('/').unwrap_or((&text, "*"));
                if media.is_empty() || subtype.is_empty() || subtype.contains('/') {
                    return Err(wrong(self, EXPECTED));
                }
                Term::Type(media.into(), subtype.into())
            }
            "filename" => Term::Filename(self.text(|| "a file name, or a pattern with * and ?")?),
            "since" | "after" => Term::Date(When::Since, self.date()?),
            "before" => Term::Date(When::Before, self.date()?),
            "on" => Term::Date(When::On, self.date()?),
            "newer" => Term::Newer(self.age()?),
            "older" => Term::Older(self.age()?),
            "larger" => Term::Larger(self.size()?),
            "smaller" => Term::Smaller(self.size()?),
            "uid" => {
                const EXPECTED: &str = "a set of UIDs, such as 7 or 1:5,9 or 100:*";
                let text = self.text(|| EXPECTED)?.replace('*', "4294967295");
                Term::Uid(UidSet::parse(text.as_bytes()).ok_or_else(|| wrong(self, EXPECTED))?)
            }
            "gmail" => Term::Gmail(self.text(|| "what Gmail's search takes, in quotes")?),
            "imap" => Term::Imap(self.text(|| "search keys of IMAP, in quotes")?),
            _ => {
                let reason = format!("one of {KEYS} before the colon; to look for the text itself, put it in quotes");
                return Err(self.expected_at(start, &reason));
            }
        })
    }

    fn header(&mut self) -> Parsed<Term> {
        let is_name = |b: &u8| b.is_ascii_graphic() && !b"=:()\"".contains(b);
        let name = &self.rest()[..self.rest().bytes().take_while(is_name).count()];
        if name.is_empty() {
            return Err(self.expected("the name of a header field, and = before a text: header:List-Id=rust"));
        }
        self.at += name.len();
        let text = match self.next_char() {
            Some('=') => {
                self.at += 1;
                match self.next_char() {
                    Some('"') => self.quoted()?,
                    Some(c) if !ends_word(c) => self.bare()?,
                    _ => Box::default(),
                }
            }
            _ => Box::default(),
        };
        self.end_of_term()?;
        Ok(Term::Header(name.into(), text))
    }

    /// A word or a phrase, not empty.
    fn text(&mut self, expected: impl Fn() -> &'static str) -> Parsed<Box<str>> {
        let start = self.at;
        let text = match self.peek() {
            Some('"') => self.quoted()?,
            Some(c) if !ends_word(c) => self.bare()?,
            _ => return Err(self.expected(expected())),
        };
        if text.is_empty() { Err(self.expected_at(start, expected())) } else { Ok(text) }
    }

    fn bare(&mut self) -> Parsed<Box<str>> {
        let rest = self.rest();
        let word = &rest[..rest.find(ends_word).unwrap_or(rest.len())];
        if let Some(at) = word.find(char::is_control) {
            return Err(self.expected_at(self.at + at, "no control character"));
        }
        self.at += word.len();
        self.end_of_term()?;
        Ok(word.into())
    }

    fn quoted(&mut self) -> Parsed<Box<str>> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    self.end_of_term()?;
                    return Ok(text.into());
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    _ => return Err(self.expected_at(start + at + 1, "\\\" or \\\\ after a backslash in quotes")),
                },
                c if c.is_control() => return Err(self.expected_at(start + at, "no control character")),
                c => text.push(c),
            }
        }
        Err(self.expected_at(self.text.len(), "a closing quote"))
    }

    /// What ends a term: a blank, a closing parenthesis, the end.
    fn end_of_term(&self) -> Parsed<()> {
        match self.next_char() {
            Some(c) if !c.is_whitespace() && c != ')' => {
                Err(self.expected("a blank here (put into quotes what holds quotes or parentheses)"))
            }
            _ => Ok(()),
        }
    }

    fn date(&mut self) -> Parsed<NaiveDate> {
        const EXPECTED: &str = "a date, such as 2026-11-21";
        let at = self.at;
        let text = self.text(|| EXPECTED)?.replace('/', "-");
        let is_sound =
            text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-') && !text.starts_with('-');
        let date = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok().filter(|_| is_sound);
        date.ok_or_else(|| self.expected_at(at, EXPECTED))
    }

    fn age(&mut self) -> Parsed<u64> {
        self.measure("an age, such as 12h, 7d, 2w, 3m or 1y", |c| {
            AGES.iter().find(|(unit, _)| Some(*unit) == c.map(|c| c.to_ascii_lowercase())).map(|(_, seconds)| *seconds)
        })
    }

    fn size(&mut self) -> Parsed<u64> {
        self.measure("a size, such as 5000, 100K, 2M or 1G", |c| match c {
            None => Some(1),
            Some(c) => SIZES.iter().find(|(unit, _)| *unit == c.to_ascii_uppercase()).map(|(_, octets)| *octets),
        })
    }

    /// A whole number and the unit behind it.
    fn measure(&mut self, expected: &'static str, factor: impl Fn(Option<char>) -> Option<u64>) -> Parsed<u64> {
        let at = self.at;
        let text = self.text(|| expected)?;
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let mut unit = text[digits..].chars();
        let number = text[..digits].parse::<u64>().ok();
        let factor = factor(unit.next()).filter(|_| unit.next().is_none());
        // What is asked of a server is a number of 63 bits at the most (RFC 9051 section 9).
        let value = number.zip(factor).and_then(|(n, f)| n.checked_mul(f)).filter(|value| *value < 1 << 62);
        value.ok_or_else(|| self.expected_at(at, expected))
    }
}
