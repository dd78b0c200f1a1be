//! Which messages can match a pattern at all: what of a regular expression must be in a text, as a query.
//!
//! 1. Only letters and digits are asked for. Blanks and signs may stand otherwise in a message than in the file that is
//!    made of it: folded, encoded, with other line ends.
//! 2. Asked for is what every match holds: of alternatives each one, of what may be missing nothing.
//! 3. Servers look for substrings in any case, so a pattern with or without `-i` asks the same.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::mail::query::{Field, Query, Term, Tree};

/// Characters that a piece has at least: fewer are in nearly every message.
const SHORTEST: usize = 3;

/// Pieces that are asked for of one run, the longest.
const PIECES: usize = 3;

/// Octets of a query that fit a name, with what is escaped in it.
const LENGTH: usize = 240;

/// The query that finds each message with a match of `pattern`, and others; `None` when nothing is known of a match.
pub fn candidates(pattern: &str, fixed: bool) -> Option<Query> {
    let query = if fixed {
        all_of(pieces(pattern))
    } else {
        needed(&ParserBuilder::new().utf8(false).build().parse(pattern).ok()?)
    }?;
    (query.to_string().len() <= LENGTH).then_some(query)
}

/// What each text that matches holds.
fn needed(hir: &Hir) -> Option<Query> {
    match hir.kind() {
        HirKind::Alternation(choices) => {
            let all = choices.iter().map(needed).collect::<Option<Vec<_>>>()?;
            Some(Tree::one_of(flattened(all, false)))
        }
        _ => {
            let mut found = Found::default();
            found.take(hir);
            found.end_run();
            let all: Vec<_> = found.runs.iter().flat_map(|run| pieces(run)).map(term).chain(found.others).collect();
            (!all.is_empty()).then(|| Tree::all(flattened(all, true)))
        }
    }
}

/// What was met in a sequence.
#[derive(Default)]
struct Found {
    run: String,
    runs: Vec<String>,
    others: Vec<Query>,
}

impl Found {
    fn end_run(&mut self) {
        if !self.run.is_empty() {
            self.runs.push(std::mem::take(&mut self.run));
        }
    }

    fn take(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
                Ok(text) => self.run.push_str(text),
                Err(_) => self.end_run(),
            },
            HirKind::Class(class) => match one_letter(class) {
                Some(letter) => self.run.push(letter),
                None => self.end_run(),
            },
            HirKind::Capture(capture) => self.take(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.take(part)),
            HirKind::Repetition(repetition) => {
                self.end_run();
                if repetition.min > 0 {
                    self.others.extend(needed(&repetition.sub));
                }
            }
            HirKind::Alternation(_) => {
                self.end_run();
                self.others.extend(needed(hir));
            }
            HirKind::Empty | HirKind::Look(_) => self.end_run(),
        }
    }
}

/// The letter that a class stands for in any case: `[Aa]`, as `(?i)` makes of `a`.
fn one_letter(class: &Class) -> Option<char> {
    let Class::Unicode(class) = class else { return None };
    let mut letters = class.iter().flat_map(|range| range.start()..=range.end());
    let lower = |c: char| Some(c.to_lowercase()).filter(|lower| lower.len() == 1).and_then(|mut lower| lower.next());
    let first = lower(letters.next()?)?;
    // The long s and the Kelvin sign fold to s and k; a server need not know that.
    (first.is_ascii_alphabetic() && letters.take(4).all(|c| !c.is_ascii() || lower(c) == Some(first)))
        .then_some(first)
        .filter(|_| class.iter().map(|range| u32::from(range.end()) - u32::from(range.start()) + 1).sum::<u32>() <= 3)
}

/// The runs of letters and digits that are worth asking for, the longest first.
fn pieces(text: &str) -> Vec<String> {
    let is_long = |piece: &&str| piece.chars().count() >= SHORTEST || !piece.is_ascii();
    let all = text.split(|c: char| !c.is_alphanumeric()).filter(|piece| !piece.is_empty());
    let mut pieces: Vec<String> = all.filter(is_long).map(str::to_owned).collect();
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
    pieces.dedup();
    pieces.truncate(PIECES);
    pieces
}

fn term(piece: String) -> Query {
    Tree::Term(Term::Text(Field::Anywhere, piece.into()))
}

fn all_of(pieces: Vec<String>) -> Option<Query> {
    (!pieces.is_empty()).then(|| Tree::all(pieces.into_iter().map(term).collect()))
}

/// Trees of the same kind inside each other are one.
fn flattened(trees: Vec<Query>, and: bool) -> Vec<Query> {
    let each = trees.into_iter().flat_map(|tree| match tree {
        Tree::And(more) if and => more,
        Tree::Or(more) if !and => more,
        one => vec![one],
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_must_be_in_a_text_is_asked_for() {
        let cases = [
            ("report", "report"),
            ("quarterly report", "quarterly report"),
            ("^Subject: .*report$", "Subject report"),
            ("foo|barbaz", "foo OR barbaz"),
            ("(invoice|bill) no\\. [0-9]+", "invoice OR bill"),
            ("x(alpha|beta)y gamma", "gamma (alpha OR beta)"),
            ("(?i)Report", "report"),
            ("colou?r", "colo"),
            ("(abc)+def", "def abc"),
            ("(abc)*def", "def"),
            ("Größe", "Größe"),
            ("会議", "会議"),
            ("foo\\.bar@example", "example foo bar"),
            ("a{3}bcd", "bcd"),
            ("\\bword\\b", "word"),
        ];
        for (pattern, expected) in cases {
            assert_eq!(candidates(pattern, false).unwrap().to_string(), expected, "{pattern}");
        }
        for pattern in ["a.b", ".*", "[0-9]+", "foo|.", "x?", "(", "ab", "(abcdef)?", "[ab]cd"] {
            assert_eq!(candidates(pattern, false), None, "{pattern}");
        }
        assert_eq!(candidates("(a.b) costs $100", true).unwrap().to_string(), "costs 100");
        assert_eq!(candidates(&"longer".repeat(50), true), None);
    }

    /// Does the text hold what the query asks for, as a server sees it?
    fn holds(query: &Query, text: &str) -> bool {
        let text = text.to_lowercase();
        query.judge(&|term| match term {
            Term::Text(_, piece) => Some(text.contains(&piece.to_lowercase())),
            _ => None,
        }) == Some(true)
    }

    proptest! {
        #[test]
        fn whatever_matches_is_a_candidate(
            pattern in "(\\(\\?i\\))?([a-cA-C ]{1,4}|\\(abc\\|bca\\)|[abc]\\?|\\.|\\(ab+c\\)\\*|[sk]{3}){1,4}",
            text in "[a-cA-C skSK\u{17f}\u{212a}]{0,12}",
        ) {
            if let (Ok(regex), Some(query)) = (regex::Regex::new(&pattern), candidates(&pattern, false))
                && let Some(found) = regex.find(&text)
                && found.as_str().is_ascii()
            {
                prop_assert!(holds(&query, &text), "{} {}", pattern, query);
            }
        }
    }
}
