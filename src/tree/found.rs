//! What a search found, under the names that it has in the search's directory; and the names of such directories.
//!
//! A message has the name that it has in its mailbox. Only when messages of several mailboxes would have the same one,
//! `@` and the mailbox are added to each of them: `1742@Projects-2026`. No name of a message has an `@` behind its
//! last dot.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::message_name::Names;
use super::node::MailboxId;
use super::safe;
use crate::mail::envelope::Summary;
use crate::mail::uid::Uid;

/// Characters of a mailbox in a name.
const LABEL: usize = 60;

/// Messages of one mailbox or of several.
#[derive(Clone, Debug, Default)]
pub struct Found {
    mailboxes: Vec<InMailbox>,
    len: usize,
}

#[derive(Clone, Debug)]
struct InMailbox {
    id: MailboxId,
    /// Where it is, below the directory that was searched.
    path: String,
    /// What tells it from the others.
    label: String,
    /// The place of its first message among all.
    start: usize,
    /// Ascending by UID.
    messages: Vec<Summary>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct FoundMessage<'a> {
    /// Its mailbox.
    pub mailbox: MailboxId,
    /// Where that is, below the directory that was searched: components joined by `/`.
    pub path: &'a str,
    /// What is known of it.
    pub summary: &'a Summary,
}

impl Found {
    /// Messages of these mailboxes, in this order: id, path, and messages ascending by UID.
    pub fn new(mailboxes: impl IntoIterator<Item = (MailboxId, String, Vec<Summary>)>) -> Self {
        let mut found = Self::default();
        let mut labels = HashSet::new();
        for (id, path, messages) in mailboxes {
            let mut label = label(&path);
            while !labels.insert(label.clone()) {
                label.push_str(&format!("~{}", id.0));
            }
            let start = found.len;
            found.len += messages.len();
            found.mailboxes.push(InMailbox { id, path, label, start, messages });
        }
        found
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The message at a place, from 0 on.
    pub fn get(&self, at: usize) -> Option<FoundMessage<'_>> {
        let holder = self.mailboxes.partition_point(|mailbox| mailbox.start <= at).checked_sub(1)?;
        let mailbox = &self.mailboxes[holder];
        let summary = mailbox.messages.get(at - mailbox.start)?;
        Some(FoundMessage { mailbox: mailbox.id, path: &mailbox.path, summary })
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = FoundMessage<'_>> {
        (0..self.len).filter_map(|at| self.get(at))
    }

    /// Those behind this one, all without one, in an order that does not depend on what else was found.
    pub fn after(&self, last: Option<(MailboxId, Uid)>) -> impl Iterator<Item = FoundMessage<'_>> {
        let mut mailboxes: Vec<&InMailbox> = self.mailboxes.iter().collect();
        mailboxes.sort_by_key(|mailbox| mailbox.id);
        mailboxes.into_iter().flat_map(move |mailbox| {
            let start = last.map_or(0, |(id, uid)| match id.cmp(&mailbox.id) {
                Ordering::Less => 0,
                Ordering::Equal => mailbox.messages.partition_point(|message| message.uid <= uid),
                Ordering::Greater => mailbox.messages.len(),
            });
            let found = |summary| FoundMessage { mailbox: mailbox.id, path: &mailbox.path, summary };
            mailbox.messages[start..].iter().map(found)
        })
    }

    /// The name of one of these messages here.
    pub fn name(&self, names: Names, message: FoundMessage<'_>) -> String {
        let name = names.format(message.summary);
        let others = self.mailboxes.iter().filter(|mailbox| mailbox.id != message.mailbox);
        // A name ends with the UID: another UID is another name.
        let is_taken = others
            .filter_map(|mailbox| find(&mailbox.messages, message.summary))
            .any(|other| names == Names::Uid || names.format(other) == name);
        match self.mailboxes.iter().find(|mailbox| is_taken && mailbox.id == message.mailbox) {
            Some(mailbox) => format!("{name}@{}", mailbox.label),
            None => name,
        }
    }

    /// The message of this name.
    pub fn find(&self, names: Names, name: &str) -> Option<FoundMessage<'_>> {
        let uid = names.parse(plain_name(name))?;
        let with_uid = self.mailboxes.iter().filter_map(|mailbox| {
            let at = mailbox.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
            Some(FoundMessage { mailbox: mailbox.id, path: &mailbox.path, summary: &mailbox.messages[at] })
        });
        with_uid.into_iter().find(|message| self.name(names, *message) == name)
    }
}

fn find<'a>(messages: &'a [Summary], like: &Summary) -> Option<&'a Summary> {
    let at = messages.binary_search_by_key(&like.uid, |message| message.uid).ok()?;
    Some(&messages[at])
}

/// A mailbox in a name: no dot and no `@`.
fn label(path: &str) -> String {
    safe::field(path, LABEL).replace(['.', '@'], "-")
}

/// The name that a message has in its mailbox, from the one that it has among what was found.
pub fn plain_name(name: &str) -> &str {
    match name.rsplit_once('@') {
        Some((plain, label)) if !label.contains('.') => plain,
        _ => name,
    }
}

/// The query that a directory in `.search/` is named by: `%2F` stands for a slash, `%25` for a percent sign; every
/// other percent sign is one.
pub fn parse_query_name(name: &str) -> String {
    let mut query = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, behind)) = rest.split_once('%') {
        query.push_str(before);
        let (c, behind) = match behind.get(..2) {
            Some("2F" | "2f") => ('/', &behind[2..]),
            Some("25") => ('%', &behind[2..]),
            _ => ('%', behind),
        };
        query.push(c);
        rest = behind;
    }
    query + rest
}

/// The name of the directory of a query.
pub fn format_query_name(query: &str) -> String {
    query.replace('%', "%25").replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::envelope::Envelope;
    use crate::mail::flag::Flags;
    use crate::mail::uid::Uid;

    fn message(uid: u32, subject: &str) -> Summary {
        let envelope = Envelope { subject: Some(subject.into()), ..Envelope::default() };
        Summary::new(Uid::new(uid).unwrap(), 0, 1, Flags::default(), 0, &envelope)
    }

    #[test]
    fn what_several_mailboxes_call_alike_is_told_apart() {
        let found = Found::new([
            (MailboxId(1), "INBOX".into(), vec![message(3, "a"), message(7, "same")]),
            (MailboxId(2), "Lists/rust.users".into(), vec![message(3, "b"), message(7, "same")]),
            (MailboxId(3), "Lists-rust-users".into(), vec![message(7, "same")]),
        ]);
        let full: Vec<_> = found.iter().map(|m| found.name(Names::Full, m)).collect();
        assert_eq!(
            full,
            [
                "1970-01-01T0000_unknown_a.3",
                "1970-01-01T0000_unknown_same.7@INBOX",
                "1970-01-01T0000_unknown_b.3",
                "1970-01-01T0000_unknown_same.7@Lists-rust-users",
                "1970-01-01T0000_unknown_same.7@Lists-rust-users~3",
            ]
        );
        let short: Vec<_> = found.iter().map(|m| found.name(Names::Uid, m)).collect();
        assert_eq!(short[..3], ["3@INBOX", "7@INBOX", "3@Lists-rust-users"]);
        for names in [Names::Full, Names::Uid] {
            for message in found.iter() {
                let name = found.name(names, message);
                let again = found.find(names, &name).unwrap();
                assert_eq!((again.mailbox, again.summary.uid), (message.mailbox, message.summary.uid), "{name}");
                assert_eq!(plain_name(&name), names.format(message.summary));
            }
        }
        for name in ["1970-01-01T0000_unknown_same.7", "1970-01-01T0000_unknown_a.3@INBOX", "x", "", "7", ".hidden"] {
            assert!(found.find(Names::Full, name).is_none(), "{name}");
        }
        assert!(found.get(5).is_none() && found.len() == 5 && !found.is_empty());
    }

    #[test]
    fn an_address_in_a_subject_is_no_mailbox() {
        assert_eq!(plain_name("1970-01-01T0000_unknown_a@b.7"), "1970-01-01T0000_unknown_a@b.7");
    }

    #[test]
    fn a_query_is_a_name_and_back() {
        for (name, query) in
            [("type:image%2Fpng", "type:image/png"), ("100%", "100%"), ("%2f%25%2F", "/%/"), ("%2", "%2"), ("%é", "%é")]
        {
            assert_eq!(parse_query_name(name), query);
        }
    }

    proptest! {
        #[test]
        fn each_query_has_a_name(query in "[%2F5f/a-cé]{0,12}") {
            let name = format_query_name(&query);
            prop_assert!(!name.contains('/'));
            prop_assert_eq!(parse_query_name(&name), query);
        }
    }
}
