//! What the name of a new file says of it: mail, a program's temporary file, a desktop's litter, or nothing we take.

use super::safe;
use super::views::{is_litter, is_reserved};

/// What a file is by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileName {
    /// `*.eml`: becomes a message.
    Message,
    /// A name that a program gives to what it will rename or remove: stays in this mount.
    Scratch,
    /// What desktops leave everywhere: refused.
    Litter,
    /// Anything else: refused, as it would be lost at the end of the mount.
    Other,
}

/// Endings of the temporary, backup and partial files of editors, `cp --backup`, browsers and download tools.
const SCRATCH_ENDS: [&str; 6] = ["~", ".part", ".partial", ".crdownload", ".tmp", ".kate-swp"];

/// What a new file of this name is, in a mailbox or a message.
pub fn classify(name: &str) -> FileName {
    if is_scratch(name) {
        FileName::Scratch
    } else if is_litter(name) || is_reserved(name) {
        FileName::Litter
    } else if is_message(name) {
        FileName::Message
    } else {
        FileName::Other
    }
}

/// `*.eml`, however it is spelled; nothing hidden, and nothing that a terminal would be led astray by.
fn is_message(name: &str) -> bool {
    let ending = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ending)| ending);
    ending.is_some_and(|e| e.eq_ignore_ascii_case("eml"))
        && !name.starts_with('.')
        && !name.chars().any(safe::is_deceptive)
}

fn is_scratch(name: &str) -> bool {
    // vim asks by a file of this name whether it may create files.
    name == "4913"
        || name.starts_with(".goutputstream-")
        || name.starts_with(".fuse_hidden")
        || (name.len() > 1 && SCRATCH_ENDS.iter().any(|end| name.ends_with(end)))
        || (name.len() > 2 && name.starts_with('#') && name.ends_with('#'))
        || name.strip_prefix(".#").is_some_and(|rest| !rest.is_empty())
        || name.strip_prefix(".~lock.").is_some_and(|rest| rest.ends_with('#'))
        || name.strip_prefix("sed").is_some_and(|rest| is_random(rest, 6))
        || name.strip_prefix("tmp").is_some_and(|rest| is_random(rest, 8) || is_mktemp(rest))
        || name.strip_prefix('.').is_some_and(is_hidden_scratch)
}

/// mktemp(1): `tmp.` and ten random characters.
fn is_mktemp(rest: &str) -> bool {
    rest.strip_prefix('.').is_some_and(|rest| is_random(rest, 10))
}

/// The rest of `.NAME.swp` and its like (vim counts down: swo, swn, and swx first; nano has it too), and of `.NAME.` and
/// six random characters (rsync).
fn is_hidden_scratch(rest: &str) -> bool {
    rest.rsplit_once('.').is_some_and(|(name, ending)| {
        let is_swap =
            ending.len() == 3 && ending.starts_with("sw") && ending.ends_with(|c: char| c.is_ascii_lowercase());
        // A word of six letters would be as random: rsync's names have no dictionary, so none is asked.
        !name.is_empty() && (is_swap || is_random(ending, 6))
    })
}

/// What mkstemp(3) and Python's tempfile put into a name.
fn is_random(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_what_a_new_file_is() {
        fn check(expected: FileName, names: &[&str]) {
            for name in names {
                assert_eq!(classify(name), expected, "{name}");
            }
        }
        check(FileName::Message, &["x.eml", "X.EML", "Re: hello.eml", "2026-11-21T0905_a_b.7.eml", "sed.eml", "ü.eml"]);
        check(FileName::Message, &["tmp.eml", "a.b.c.eml", "-rf.eml", "4913.eml", "#x.eml", "~x.eml"]);
        let rsync = [".x.eml.Ab12Cd", ".Re: hello.eml.zzzzzz", ".2026_b.7.eml.AAAAAA"];
        check(FileName::Scratch, &rsync);
        check(FileName::Scratch, &[".goutputstream-AB12CD", ".fuse_hidden0000000100000001"]);
        check(FileName::Scratch, &[".message.eml.swp", ".message.eml.swx", ".x.eml.swo", "4913", "message.eml~"]);
        check(FileName::Scratch, &["sedAb12Cd", "#x.eml#", ".#x.eml", "x.eml.~1~", ".x.eml.un~", ".~lock.x.eml#"]);
        check(FileName::Scratch, &["x.eml.part", "x.eml.crdownload", "x.eml.tmp", "tmpab12_xyz", "tmp.Ab12Cd34Ef"]);
        check(FileName::Litter, &[".DS_Store", "Thumbs.db", ".directory", "._x.eml", ".Trash-1000", ".nfs0001"]);
        check(FileName::Litter, &[".eml", ".messages.tsv", ".imapfs", ".search", ".maildir", "desktop.ini"]);
        let other = ["x", "x.txt", ".x.eml", "eml", "x.eml ", "x.emlx", "a\u{202e}.eml", "a\n.eml", "sedation", "~"];
        check(FileName::Other, &other);
        check(FileName::Other, &["sedAb12C", "##", "#x", "tmp", "tmpx", "49130", ".swp", ".abcdef", ".."]);
    }
}
