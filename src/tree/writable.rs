//! The extended attributes that can be set: their values as text, and what is meant by a text.

use super::safe;
use crate::error::{Error, Result};
use crate::mail::flag::{Flags, is_settable};

/// Of messages: the flags, parted by spaces.
pub const FLAGS: &str = "user.imap.flags";

/// Of messages: the flags as file managers show tags.
pub const TAGS: &str = "user.xdg.tags";

/// Of mailboxes: `1` or `0`.
pub const SUBSCRIBED: &str = "user.imap.subscribed";

/// Of mailboxes: the access control list, RFC 4314.
pub const ACL: &str = "user.imap.acl";

/// What the attributes of a mailbox's metadata (RFC 5464) begin with; the entry follows, without its first slash:
/// `user.imap.metadata.private/comment`.
pub const METADATA: &str = "user.imap.metadata.";

/// System flags as tags: the flag, whether the tag tells that it is set, the tag.
const SYSTEM_TAGS: [(&str, bool, &str); 4] = [
    ("\\Seen", false, "Unread"),
    ("\\Flagged", true, "Flagged"),
    ("\\Answered", true, "Answered"),
    ("\\Draft", true, "Draft"),
];

/// What sort of attribute a name is, by what may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It can be set.
    Writable,
    /// imapfs tells it, and nobody can set it.
    ReadOnly,
    /// It is none of ours.
    Foreign,
}

/// The sort of this attribute.
pub fn access(name: &str) -> Access {
    const OURS: [&str; 4] = ["user.imap.", "user.xdg.origin.", "user.mime_type", "user.charset"];
    if [FLAGS, TAGS, SUBSCRIBED, ACL].contains(&name) || name.starts_with(METADATA) {
        Access::Writable
    } else if OURS.iter().any(|ours| name == *ours || (ours.ends_with('.') && name.starts_with(ours))) {
        Access::ReadOnly
    } else {
        Access::Foreign
    }
}

/// The flags that `user.imap.flags` is to be, `known` being those that are: which to set and which to clear.
///
/// # Errors
/// `Invalid` for what no command can carry, see [`is_settable`]. What is known already need not be settable.
pub fn parse_flags(text: &str, known: &Flags) -> Result<(Flags, Flags)> {
    let wanted = Flags::from_wire(text.split(' ').map(str::as_bytes));
    // \Recent tells of a session, and is left out of every set: who asks for it is told.
    let recent = text.split(' ').find(|name| name.eq_ignore_ascii_case("\\Recent"));
    plan_flags(known, &wanted, recent)
}

/// The same from `user.xdg.tags`. What the tags cannot show (`\Deleted`, keywords with a comma or spelled like a tag of
/// a system flag) stays as it is.
pub fn parse_tags(text: &str, known: &Flags) -> Result<(Flags, Flags)> {
    let tags: Vec<&str> = text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect();
    let has = |name: &str| tags.iter().any(|tag| tag.eq_ignore_ascii_case(name));
    let system = SYSTEM_TAGS.into_iter().filter(|(_, set, tag)| has(tag) == *set).map(|(flag, ..)| flag);
    let keywords = tags.iter().copied().filter(|tag| !is_system_tag(tag));
    let kept =
        known.iter().filter(|flag| !is_shown(flag) && SYSTEM_TAGS.iter().all(|row| !row.0.eq_ignore_ascii_case(flag)));
    // A backslash in a tag makes no system flag of it.
    let backslash = tags.iter().copied().find(|tag| tag.starts_with('\\'));
    plan_flags(known, &Flags::from_wire(system.chain(keywords).chain(kept).map(str::as_bytes)), backslash)
}

fn plan_flags(known: &Flags, wanted: &Flags, bad: Option<&str>) -> Result<(Flags, Flags)> {
    let (set, clear) = (wanted.without(known), known.without(wanted));
    let bad = bad.or_else(|| set.iter().chain(clear.iter()).find(|name| !is_settable(name)));
    match bad {
        Some(name) => {
            let name = crate::error::printable(name.as_bytes(), 40);
            Err(Error::invalid(format!("`{name}` cannot be set or cleared as a flag")))
        }
        None => Ok((set, clear)),
    }
}

/// Flags as file managers show tags, parted by commas: `Unread`, `Flagged`, `Answered`, `Draft`, then the keywords,
/// less those that the list cannot hold.
pub fn format_tags(flags: &Flags) -> String {
    let system = SYSTEM_TAGS.into_iter().filter(|(flag, set, _)| flags.contains(flag) == *set).map(|(.., tag)| tag);
    safe::line(&system.chain(flags.keywords().filter(|k| is_shown(k))).collect::<Vec<_>>().join(","))
}

/// Can a list of tags hold this keyword?
fn is_shown(flag: &str) -> bool {
    !flag.starts_with('\\') && !flag.contains(',') && !is_system_tag(flag)
}

fn is_system_tag(tag: &str) -> bool {
    SYSTEM_TAGS.iter().any(|row| row.2.eq_ignore_ascii_case(tag))
}

/// Is the mailbox to be subscribed?
///
/// # Errors
/// `Invalid` for anything but `1`, `0`, `true`, `false`.
pub fn parse_subscribed(text: &str) -> Result<bool> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Error::invalid("a mailbox is subscribed (1) or not (0)")),
    }
}

/// An access control list: `identifier=rights`, parted by spaces; a space, `%` or control character of an identifier
/// as `%XX`.
pub fn format_acl(list: &[(String, String)]) -> String {
    let row = |(identifier, rights): &(String, String)| {
        let escape = |c: char| match c {
            ' ' | '%' => format!("%{:02X}", u32::from(c)),
            c if c.is_ascii_control() => format!("%{:02X}", u32::from(c)),
            c => c.to_string(),
        };
        let identifier: String = identifier.chars().map(escape).collect();
        safe::line(&format!("{identifier}={rights}"))
    };
    list.iter().map(row).collect::<Vec<_>>().join(" ")
}

/// The list that [`format_acl`] made this text of.
///
/// # Errors
/// `Invalid` for a row without `=` or identifier, an identifier twice, and rights that are not letters and digits.
pub fn parse_acl(text: &str) -> Result<Vec<(String, String)>> {
    let mut list: Vec<(String, String)> = Vec::new();
    for row in text.split(' ').filter(|row| !row.is_empty()) {
        let parsed = row.rsplit_once('=').and_then(|(identifier, rights)| {
            let plain = rights.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let identifier = unescape(identifier).filter(|identifier| !identifier.is_empty())?;
            (plain && list.iter().all(|row| row.0 != identifier)).then(|| (identifier, rights.to_owned()))
        });
        list.push(parsed.ok_or_else(|| Error::invalid("an ACL is a list of identifier=rights, parted by spaces"))?);
    }
    Ok(list)
}

/// Each `%XX` is an octet. `None` when that is no UTF-8, or holds a control character.
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let digits = tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &tail[2..];
        } else {
            out.push(*first);
        }
    }
    let plain = !out.iter().any(u8::is_ascii_control);
    String::from_utf8(out).ok().filter(|_| plain)
}

/// The attribute of a metadata entry, `/private/comment`.
pub fn format_metadata(entry: &str) -> String {
    format!("{METADATA}{}", safe::line(entry.trim_start_matches('/')))
}

/// The metadata entry of an attribute (RFC 5464 section 4.1); `None` when the name is not of that kind.
///
/// # Errors
/// `Invalid` for a name that no entry can have: not below `/private` or `/shared`, an empty component, `*`, `%`, or
/// anything but printable ASCII.
pub fn parse_metadata(name: &str) -> Option<Result<String>> {
    let rest = name.strip_prefix(METADATA)?;
    let mut components = rest.split('/');
    let scope =
        components.next().is_some_and(|scope| ["private", "shared"].iter().any(|s| s.eq_ignore_ascii_case(scope)));
    let plain = rest.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'%');
    let below: Vec<&str> = components.collect();
    if scope && plain && !below.is_empty() && below.iter().all(|component| !component.is_empty()) {
        return Some(Ok(format!("/{rest}")));
    }
    Some(Err(Error::invalid("metadata is called private/NAME or shared/NAME")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flags(text: &str) -> Flags {
        Flags::from_wire(text.split(' ').map(str::as_bytes))
    }

    fn show(plan: Result<(Flags, Flags)>) -> String {
        plan.map_or_else(|_| "invalid".to_owned(), |(set, clear)| format!("+{set} -{clear}"))
    }

    #[test]
    fn tags_tell_what_is_unread_and_the_keywords() {
        fn check(known: &str, expected: &str) {
            assert_eq!(format_tags(&flags(known)), expected);
        }
        check("", "Unread");
        check("\\seen", "");
        check("\\Seen \\Flagged \\Answered \\Draft \\Deleted", "Flagged,Answered,Draft");
        check("work $Forwarded a,b flagged", "Unread,$Forwarded,work");
    }

    #[test]
    fn flags_are_set_and_cleared_by_difference() {
        fn check(known: &str, text: &str, expected: &str) {
            assert_eq!(show(parse_flags(text, &flags(known))), expected, "{text:?}");
        }
        check("", "\\Seen work", "+\\Seen work -");
        check("\\Seen work", "work  \\Flagged", "+\\Flagged -\\Seen");
        check("\\seen WORK", "\\Seen work", "+ -");
        check("\\Seen", "", "+ -\\Seen");
        // What the server has already may stay, whatever it is.
        check("\\Odd", "\\Odd \\Seen", "+\\Seen -");
        for bad in ["\\Recent", "\\*", "\\Odd", "a)", "w\u{f6}rk", "a\r\nb", "\\Seen\nwork", "a\tb", "{5+}"] {
            check("", bad, "invalid");
        }
    }

    #[test]
    fn tags_are_set_and_what_they_cannot_show_stays() {
        fn check(known: &str, text: &str, expected: &str) {
            assert_eq!(show(parse_tags(text, &flags(known))), expected, "{text:?}");
        }
        check("", "work", "+\\Seen work -");
        check("\\Seen", "Unread, work,", "+work -\\Seen");
        check("\\Deleted a,b \\Seen Flagged", "", "+ -");
        check("\\Flagged work", "unread", "+ -\\Flagged work");
        for bad in ["two words", "\\Deleted", "\\Seen", "a)"] {
            check("", bad, "invalid");
        }
    }

    #[test]
    fn only_what_the_server_keeps_for_the_user_can_be_set() {
        let cases = [
            ("user.imap.flags", Access::Writable),
            ("user.imap.metadata.private/comment", Access::Writable),
            ("user.imap.uid", Access::ReadOnly),
            ("user.mime_type", Access::ReadOnly),
            ("user.mime_types", Access::Foreign),
            ("user.xdg.origin.email.from", Access::ReadOnly),
            ("user.xdg.comment", Access::Foreign),
            ("user.baloo.rating", Access::Foreign),
        ];
        for (name, expected) in cases {
            assert_eq!(access(name), expected, "{name}");
        }
    }

    #[test]
    fn bad_lists_and_entries_are_refused() {
        for text in ["bob", "=lrs", "bob=LRS", "bob=l bob=r", "a%=l", "a%0d%0a=l", "bob=l\tx=r", "%ff=l"] {
            assert!(parse_acl(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_acl("group=staff=lr").unwrap(), [("group=staff".to_owned(), "lr".to_owned())]);
        for name in [
            "comment",
            "private",
            "private/",
            "public/x",
            "private//x",
            "private/x*",
            "shared/\u{f6}",
            "",
            "shared/a b",
        ] {
            assert!(parse_metadata(&format!("{METADATA}{name}")).unwrap().is_err(), "{name:?}");
        }
        assert_eq!(parse_metadata("user.imap.flags"), None);
        for (text, expected) in [("1", Some(true)), ("false", Some(false)), ("yes", None), ("", None)] {
            assert_eq!(parse_subscribed(text).ok(), expected, "{text:?}");
        }
    }

    fn some_flags() -> impl Strategy<Value = Vec<String>> {
        let name =
            prop_oneof!["[a-z$,.]{1,4}", "(?i)(unread|flagged|draft)", "\\\\(Seen|Flagged|Answered|Draft|Deleted|X)"];
        prop::collection::vec(name, 0..6)
    }

    proptest! {
        /// Setting what was read changes nothing, and setting what was read elsewhere makes it the same here.
        #[test]
        fn tags_and_flags_are_read_as_they_were_shown(a in some_flags(), b in some_flags()) {
            let [a, b] = [a, b].map(|list| Flags::from_wire(list.iter().map(String::as_bytes)));
            let none = || Ok((Flags::default(), Flags::default()));
            prop_assert_eq!(parse_tags(&format_tags(&a), &a), none());
            prop_assert_eq!(parse_flags(&a.to_string(), &a), none());
            if let Ok((set, clear)) = parse_tags(&format_tags(&a), &b) {
                let kept = b.without(&clear);
                let now = Flags::from_wire(kept.iter().chain(set.iter()).map(str::as_bytes));
                prop_assert_eq!(format_tags(&now), format_tags(&a));
            }
        }

        #[test]
        fn an_acl_is_read_as_it_was_shown(rows in prop::collection::btree_map("[ -~\u{f6}]{1,8}", "[a-z0-9]{0,5}", 0..4)) {
            let rows: Vec<(String, String)> = rows.into_iter().collect();
            prop_assert_eq!(parse_acl(&format_acl(&rows)), Ok(rows));
        }

        #[test]
        fn a_metadata_entry_is_read_as_it_was_shown(entry in "/(private|shared)(/[a-z.-]{1,5}){1,3}") {
            prop_assert_eq!(parse_metadata(&format_metadata(&entry)), Some(Ok(entry)));
        }
    }
}
