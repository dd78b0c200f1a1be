//! Flags and keywords, RFC 9051 section 2.3.2.

use std::fmt;

/// The flags that a client may set, of those that begin with a backslash.
const SYSTEM: [&str; 5] = ["\\Answered", "\\Deleted", "\\Draft", "\\Flagged", "\\Seen"];

/// Longest keyword that is sent to a server, octets. Most keep less and say so.
const MAX_KEYWORD: usize = 255;

/// Can a client ask for this flag: a system flag, or a keyword that is an atom (RFC 3501 section 9)? Not `\Recent`, nor
/// `\*`, nor a name that would end the list it stands in.
pub fn is_settable(name: &str) -> bool {
    if name.starts_with('\\') {
        return SYSTEM.iter().any(|system| system.eq_ignore_ascii_case(name));
    }
    let is_atom_char = |b: u8| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b);
    !name.is_empty() && name.len() <= MAX_KEYWORD && name.bytes().all(is_atom_char)
}

/// A set of flags as the server spells them, sorted, without repetition. Comparison of names is case-insensitive,
/// as on most servers (not on Stalwart, where two spellings are two keywords: the first wins here).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(Vec<Box<str>>);

impl Flags {
    /// The set of these flags. Bytes that are not UTF-8 are kept as U+FFFD: such a keyword can be seen, not set. `\Recent`
    /// is left out: it tells of a session, not of a message (RFC 3501 section 2.3.2).
    pub fn from_wire<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut flags: Vec<Box<str>> = names
            .into_iter()
            .filter(|n| !n.is_empty() && !n.eq_ignore_ascii_case(b"\\Recent"))
            .map(|n| String::from_utf8_lossy(n).into())
            .collect();
        flags.sort_unstable_by_key(|f| f.to_ascii_lowercase());
        flags.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
        Self(flags)
    }

    /// Is the flag set? `name` in any case, with its backslash where it has one.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|f| f.eq_ignore_ascii_case(name))
    }

    /// The flags, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, and those.
    pub fn with(&self, more: &Flags) -> Flags {
        Self::from_wire(self.iter().chain(more.iter()).map(str::as_bytes))
    }

    /// These without those.
    pub fn without(&self, fewer: &Flags) -> Flags {
        Self(self.0.iter().filter(|flag| !fewer.contains(flag)).cloned().collect())
    }

    /// Those of these that are among those.
    pub fn among(&self, others: &Flags) -> Flags {
        Self(self.0.iter().filter(|flag| others.contains(flag)).cloned().collect())
    }

    /// The flags, as a command takes them.
    pub fn to_vec(&self) -> Vec<Box<str>> {
        self.0.clone()
    }

    /// Keywords only: what has no backslash.
    pub fn keywords(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|f| !f.starts_with('\\'))
    }
}

/// Separated by a space, as `user.imap.flags` shows them.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, flag) in self.iter().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            f.write_str(flag)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_sorted_once_each_whatever_the_case() {
        let flags = Flags::from_wire([&b"\\Seen"[..], b"$Forwarded", b"\\seen", b"\\Recent", b""]);
        assert_eq!(flags.to_string(), "$Forwarded \\Seen");
        assert!(flags.contains("\\SEEN") && !flags.contains("Seen"));
        assert_eq!(flags.keywords().collect::<Vec<_>>(), ["$Forwarded"]);
    }

    #[test]
    fn only_a_flag_that_a_command_can_carry_is_settable() {
        for name in ["\\Seen", "\\deleted", "$Forwarded", "work", "a.b-c_d", "NonJunk", "[Gmail", "100,5"] {
            assert!(is_settable(name), "{name}");
        }
        let long = "k".repeat(256);
        let bad = [
            "",
            "\\",
            "\\Recent",
            "\\*",
            "\\Unknown",
            "a b",
            "a)",
            "(",
            "{5+}",
            "a\r\nX LOGOUT",
            "\0",
            "w\u{f6}",
            "\"",
            "%",
            "]",
        ];
        for name in bad.into_iter().chain([&*long]) {
            assert!(!is_settable(name), "{name:?}");
        }
    }

    #[test]
    fn sets_of_flags_are_added_and_taken_away_whatever_the_case() {
        let flags = |text: &str| Flags::from_wire(text.split(' ').map(str::as_bytes));
        let (a, b) = (flags("\\Seen work"), flags("\\SEEN home"));
        assert_eq!(a.with(&b), flags("\\Seen home work"));
        assert_eq!((a.without(&b), a.among(&b)), (flags("work"), flags("\\Seen")));
        assert!(a.without(&a).is_empty());
    }
}
