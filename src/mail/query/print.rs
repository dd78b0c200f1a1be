//! Queries as text; what is printed parses to the same tree.

use std::fmt::{self, Display, Formatter, Write as _};

use super::{AGES, FIELDS, Field, Query, SIZES, STATES, Term, Tree, When};

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let parted = |f: &mut Formatter<'_>, trees: &[Query], by: &str| {
            for (n, tree) in trees.iter().enumerate() {
                if n > 0 {
                    f.write_str(by)?;
                }
                operand(tree, f)?;
            }
            Ok(())
        };
        match self {
            Tree::Term(term) => term.fmt(f),
            Tree::Not(tree) => {
                f.write_str("-")?;
                operand(tree, f)
            }
            Tree::And(trees) => parted(f, trees, " "),
            Tree::Or(trees) => parted(f, trees, " OR "),
        }
    }
}

/// In parentheses when it has parts.
fn operand(tree: &Query, f: &mut Formatter<'_>) -> fmt::Result {
    match tree {
        Tree::And(_) | Tree::Or(_) => write!(f, "({tree})"),
        _ => tree.fmt(f),
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Term::All => f.write_str("*"),
            Term::Text(Field::Anywhere, text) => {
                let is_operator = text.starts_with('-') || ["AND", "OR", "NOT", "*"].contains(&&**text);
                string(f, text, is_operator || text.contains(':'))
            }
            Term::Text(field, text) => keyed(f, word(&FIELDS, *field), text),
            Term::Header(name, text) if text.is_empty() => write!(f, "header:{name}"),
            Term::Header(name, text) => {
                write!(f, "header:{name}=")?;
                string(f, text, false)
            }
            Term::Is(state) => keyed(f, "is", word(&STATES, *state)),
            Term::Tag(keyword) => keyed(f, "tag", keyword),
            Term::Date(when, date) => {
                let key = match when {
                    When::Since => "since",
                    When::Before => "before",
                    When::On => "on",
                };
                write!(f, "{key}:{}", date.format("%Y-%m-%d"))
            }
            Term::Newer(seconds) => measure(f, "newer", *seconds, &AGES[..4], "s"),
            Term::Older(seconds) => measure(f, "older", *seconds, &AGES[..4], "s"),
            Term::Larger(octets) => measure(f, "larger", *octets, &SIZES, ""),
            Term::Smaller(octets) => measure(f, "smaller", *octets, &SIZES, ""),
            Term::Attachment => f.write_str("has:attachment"),
            Term::Type(media, subtype) => keyed(f, "type", &format!("{media}/{subtype}")),
            Term::Filename(pattern) => keyed(f, "filename", pattern),
            Term::Uid(uids) => write!(f, "uid:{uids}"),
            Term::Gmail(raw) => keyed(f, "gmail", raw),
            Term::Imap(raw) => keyed(f, "imap", raw),
        }
    }
}

fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, v)| *v == value).map_or("", |(word, _)| word)
}

fn keyed(f: &mut Formatter<'_>, key: &str, text: &str) -> fmt::Result {
    write!(f, "{key}:")?;
    string(f, text, false)
}

/// In quotes where it must be, or `quoted` says so.
fn string(f: &mut Formatter<'_>, text: &str, quoted: bool) -> fmt::Result {
    if !quoted && !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "()\"".contains(c)) {
        return f.write_str(text);
    }
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}

/// In the largest unit that divides it, else in `base`.
fn measure(f: &mut Formatter<'_>, key: &str, value: u64, units: &[(char, u64)], base: &str) -> fmt::Result {
    match units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => write!(f, "{key}:{}{unit}", value / factor),
        None => write!(f, "{key}:{value}{base}"),
    }
}
