//! The name of a message's directory, `DATE_SENDER_SUBJECT.UID`, made from what can never change.

use super::date;
use super::safe::{self, MAX_NAME};
use crate::mail::envelope::Summary;
use crate::mail::uid::Uid;

/// Longest sender and subject in a name, characters.
const MAX_SENDER: usize = 24;
const MAX_SUBJECT: usize = 60;

/// How messages are named (`--names`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Names {
    /// `DATE_SENDER_SUBJECT.UID`
    #[default]
    Full,
    /// The bare UID: needs no ENVELOPE, for huge mailboxes.
    Uid,
}

impl Names {
    /// The name of this message: one component, at most [`MAX_NAME`] octets.
    pub fn format(self, message: &Summary) -> String {
        match self {
            Names::Full => format_message_name(message),
            Names::Uid => message.uid.to_string(),
        }
    }

    /// The UID of the one message that could have this name; whether it has it only [`Names::format`] can tell.
    /// `None` for what no message is called, so that it need not be asked for.
    pub fn parse(self, name: &str) -> Option<Uid> {
        match self {
            Names::Full => has_date(name).then(|| parse_uid(name)).flatten(),
            Names::Uid => parse_number(name),
        }
    }
}

/// `2026-11-21T0905_Bob-Müller_Weekly-report.1742`: INTERNALDATE in UTC, the sender's display name (else the part of
/// the address before the `@`, else `unknown`), the subject (else `no-subject`), the UID. NFC, one component of at
/// most [`MAX_NAME`] octets; the subject gives way when it would be longer.
pub fn format_message_name(message: &Summary) -> String {
    let uid = message.uid.to_string();
    let mut name = String::with_capacity(MAX_NAME);
    date::push_minute(&mut name, message.internal_date);
    name.push('_');
    name.push_str(&sender(message));
    name.push('_');
    let subject = match safe::field(message.texts().subject, MAX_SUBJECT) {
        subject if subject.is_empty() => "no-subject".into(),
        subject => subject,
    };
    // Never empty: date and sender are at most 16 + 4 * 24 + 1 octets, the UID is at most 11 with its dot.
    let room = MAX_NAME - name.len() - 1 - uid.len();
    name.push_str(safe::cut(&subject, room).trim_end_matches('-'));
    name.push('.');
    name.push_str(&uid);
    name
}

fn sender(message: &Summary) -> String {
    let texts = message.texts();
    let address = texts.from_address.rsplit_once('@').map_or(texts.from_address, |(mailbox, _)| mailbox);
    [texts.from_name, address]
        .into_iter()
        .map(|text| safe::field(text, MAX_SENDER))
        .find(|sender| !sender.is_empty())
        .unwrap_or_else(|| "unknown".into())
}

/// The UID that a name ends with, after its last dot; for a name without a dot, the name itself. Only as it is
/// written by us: decimal, no sign, no leading zero.
pub fn parse_uid(name: &str) -> Option<Uid> {
    parse_number(name.rsplit_once('.').map_or(name, |(_, uid)| uid))
}

fn parse_number(text: &str) -> Option<Uid> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    canonical.then(|| text.parse().ok()).flatten().and_then(Uid::new)
}

/// Does it begin like `2026-11-21T0905_`, and end with a dot and something?
fn has_date(name: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T0000_";
    name.len() > SHAPE.len()
        && name.bytes().zip(SHAPE).all(|(b, shape)| if *shape == b'0' { b.is_ascii_digit() } else { b == *shape })
        && name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope::{Head, Texts};
    use crate::mail::flag::Flags;
    use proptest::prelude::*;

    fn message(name: &str, address: &str, subject: &str) -> Summary {
        let texts = Texts { subject, from_name: name, from_address: address, ..Texts::default() };
        Summary::pack(Head::new(Uid::new(1742).unwrap(), 1_795_251_959, 0, Flags::default(), 0), &texts)
    }

    #[test]
    fn names_tell_date_sender_subject_and_uid() {
        fn check(name: &str, address: &str, subject: &str, expected: &str) {
            let formatted = format_message_name(&message(name, address, subject));
            assert_eq!(formatted, format!("2026-11-21T0905_{expected}.1742"));
            assert_eq!(Names::Full.parse(&formatted), Uid::new(1742));
        }
        check("Bob Müller", "bob@example.org", "Weekly report", "Bob-Müller_Weekly-report");
        check("", "bob.m@example.org", "Weekly report", "bob.m_Weekly-report");
        check("???", "bob@example.org", "v1.2", "bob_v1.2");
        check("", "undisclosed", "x", "undisclosed_x");
        check("", "", "", "unknown_no-subject");
        check("\u{202e}", "@example.org", "\u{1f600}", "unknown_no-subject");
        check("~root", "", "../../etc/passwd\n\0", "root_etc-passwd");
        check("A very long display name that goes on", "", "x", "A-very-long-display-name_x");
        check("x", "", &"word ".repeat(30), &format!("x_{}", "word-".repeat(12).trim_end_matches('-')));
    }

    #[test]
    fn the_whole_is_cut_in_the_subject_between_graphemes() {
        let name = format_message_name(&message(&"山".repeat(40), "", &"川".repeat(100)));
        assert_eq!(name, format!("2026-11-21T0905_{}_{}.1742", "山".repeat(24), "川".repeat(16)));
        assert!(name.len() <= MAX_NAME);
        let zalgo = format_message_name(&message("x", "", &format!("a{}", "\u{1f}\u{323}".repeat(400))));
        assert!(zalgo.len() <= MAX_NAME && zalgo.contains('ạ'), "{zalgo}");
    }

    #[test]
    fn only_names_of_ours_hold_a_uid() {
        fn check(name: &str, full: Option<u32>, bare: Option<u32>) {
            assert_eq!(Names::Full.parse(name).map(Uid::get), full, "{name}");
            assert_eq!(Names::Uid.parse(name).map(Uid::get), bare, "{name}");
        }
        check("2026-11-21T0905_a_b.7", Some(7), None);
        check("2026-11-21T0905_a_b.4294967295", Some(u32::MAX), None);
        check("7", None, Some(7));
        for name in [
            "",
            ".",
            "..",
            ".7",
            "x.7",
            "4913x",
            "07",
            "+7",
            "-7",
            "0",
            "4294967296",
            "99999999999999999999",
            "٧",
            "7 ",
            "2026-11-21T0905_a_b",
            "2026-11-21T0905_a_b.",
            "2026-11-21T0905_a_b.07",
            "2026-11-21T0905_a_b.+7",
            "2026-11-21T0905_a_b.0",
            "2026-11-21T0905_a_b.7.eml",
            "2026-11-21T0905_7",
            "2026-11-21t0905_a_b.7",
        ] {
            check(name, None, None);
        }
        for (name, uid) in [("x.7", Some(7)), ("7", Some(7)), ("x.07", None), ("x", None), ("x.7.", None)] {
            assert_eq!(parse_uid(name).map(Uid::get), uid, "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_message_its_name_is_one_short_component_that_ends_with_its_uid(
            from in any::<String>(), address in any::<String>(), subject in "\\PC{0,200}", raw in any::<String>(),
            uid in 1u32.., date in any::<i64>(),
        ) {
            for subject in [subject, raw] {
                let message = message(&from, &address, &subject);
                let message = message.with(|head| (head.uid, head.internal_date) = (Uid::new(uid).unwrap(), date));
                for names in [Names::Full, Names::Uid] {
                    let name = names.format(&message);
                    prop_assert!(name.len() <= MAX_NAME);
                    prop_assert!(!name.contains(['/', '\0', '\n', ' ', '~']) && !name.chars().any(safe::is_invisible));
                    prop_assert!(!name.starts_with(['.', '-']));
                    prop_assert_eq!(names.parse(&name), Some(message.uid));
                    prop_assert_eq!(parse_uid(&name), Some(message.uid));
                }
                prop_assert_eq!(format_message_name(&message).split('_').count() >= 3, true);
            }
        }
    }

    #[test]
    fn a_hundred_thousand_names_are_made_quickly() {
        for (from, subject) in [
            ("Bob Miller", "Re: [list] Weekly report for November, part 2"),
            ("Bób Müller", "Größere Änderungen – 日本語の件名 im Überblick"),
        ] {
            let message = message(from, "bob@example.org", subject);
            let start = std::time::Instant::now();
            let octets: usize = (0..100_000).map(|_| format_message_name(&message).len()).sum();
            println!("100,000 names, {octets} octets: {:?}", start.elapsed());
        }
    }
}
