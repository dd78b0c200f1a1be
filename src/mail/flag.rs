//! Flags and keywords, RFC 9051 section 2.3.2.

use std::fmt;

use triomphe::ThinArc;

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
///
/// Of a million messages most have one or two of the system's: those take no memory of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// A bit for each of [`SYSTEM`], where those are all that begin with a backslash, in just that spelling; else none.
    system: u8,
    /// All others, sorted; one word where there are none.
    others: Option<ThinArc<(), Box<str>>>,
}

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
        Self::pack(flags)
    }

    /// The set of flags that are sorted and different from each other.
    fn pack(mut flags: Vec<Box<str>>) -> Self {
        let place = |flag: &str| SYSTEM.iter().position(|system| *system == flag);
        let mut system = 0;
        if flags.iter().all(|flag| !flag.starts_with('\\') || place(flag).is_some()) {
            flags.retain(|flag| place(flag).inspect(|at| system |= 1 << at).is_none());
        }
        let others = (!flags.is_empty()).then(|| ThinArc::from_header_and_iter((), flags.into_iter()));
        Self { system, others }
    }

    fn others(&self) -> &[Box<str>] {
        self.others.as_ref().map_or(&[], |others| &others.slice)
    }

    fn system(&self) -> impl Iterator<Item = &str> {
        let system = self.system;
        SYSTEM.into_iter().enumerate().filter(move |(at, _)| system & 1 << at != 0).map(|(_, name)| name)
    }

    /// Is the flag set? `name` in any case, with its backslash where it has one.
    pub fn contains(&self, name: &str) -> bool {
        let mut others = self.others().iter().map(AsRef::as_ref);
        self.system().any(|flag| flag.eq_ignore_ascii_case(name)) || others.any(|flag| flag.eq_ignore_ascii_case(name))
    }

    /// The flags, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let others = self.others();
        let (before, behind) =
            others.split_at(others.partition_point(|flag| flag.to_ascii_lowercase().as_str() < "\\"));
        before.iter().map(AsRef::as_ref).chain(self.system()).chain(behind.iter().map(AsRef::as_ref))
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.system == 0 && self.others.is_none()
    }

    /// These, and those.
    pub fn with(&self, more: &Flags) -> Flags {
        Self::from_wire(self.iter().chain(more.iter()).map(str::as_bytes))
    }

    /// These without those.
    pub fn without(&self, fewer: &Flags) -> Flags {
        Self::pack(self.iter().filter(|flag| !fewer.contains(flag)).map(Into::into).collect())
    }

    /// Those of these that are among those.
    pub fn among(&self, others: &Flags) -> Flags {
        Self::pack(self.iter().filter(|flag| others.contains(flag)).map(Into::into).collect())
    }

    /// The flags, as a command takes them.
    pub fn to_vec(&self) -> Vec<Box<str>> {
        self.iter().map(Into::into).collect()
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
    use proptest::prelude::*;

    #[test]
    fn flags_are_sorted_once_each_whatever_the_case() {
        let flags = Flags::from_wire([&b"\\Seen"[..], b"$Forwarded", b"\\seen", b"\\Recent", b""]);
        assert_eq!(flags.to_string(), "$Forwarded \\Seen");
        assert!(flags.contains("\\SEEN") && !flags.contains("Seen"));
        assert_eq!(flags.keywords().collect::<Vec<_>>(), ["$Forwarded"]);
    }

    proptest! {
        /// However they are kept: the same set, in the same order.
        #[test]
        fn a_set_of_flags_is_what_a_sorted_list_of_them_is(
            names in prop::collection::vec("(\\\\)?[a-z\\[_$]{1,2}|\\\\(Seen|seen|Deleted|Draft|Recent)|[A-Z]", 0..6),
        ) {
            let flags = Flags::from_wire(names.iter().map(String::as_bytes));
            let mut want: Vec<&String> = names.iter().filter(|name| *name != "\\Recent").collect();
            want.sort_by_key(|name| name.to_ascii_lowercase());
            want.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
            prop_assert_eq!(flags.iter().collect::<Vec<_>>(), want.clone());
            prop_assert_eq!(flags.is_empty(), want.is_empty());
            prop_assert!(names.iter().all(|name| flags.contains(name) || name == "\\Recent"));
            let again = Flags::from_wire(flags.iter().map(str::as_bytes));
            prop_assert!(again == flags && flags.without(&flags).is_empty() && flags.among(&again) == flags);
        }
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
