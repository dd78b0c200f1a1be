//! Flags of many messages, by STORE: what the server keeps is what the rows say that came back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Account;
use super::index::{Index, flags_event};
use crate::error::{Error, Result};
use crate::imap::Command;
use crate::imap::response::Code;
use crate::mail::envelope::Summary;
use crate::mail::flag::Flags;
use crate::mail::mailbox::Event;
use crate::mail::uid::{Uid, UidSet};
use crate::tree::node::MailboxId;

/// How often flags are changed on top of what others just made of them, before it is done whatever they are: no more
/// than +FLAGS and -FLAGS is sent, so nothing of theirs is undone by it.
const ROUNDS: u32 = 3;

impl Account {
    /// `Unsupported` when PERMANENTFLAGS says that one of them would not be kept.
    pub(super) async fn check_flags(&self, index: &Index, flags: &Flags) -> Result<()> {
        let permanent = index.permanent_flags(&self.client).await;
        match plan_refused(flags, self.settle(index, permanent)?.as_ref()) {
            Some(flag) => Err(Error::Unsupported(format!("the server does not keep the flag {flag}").into())),
            None => Ok(()),
        }
    }

    /// Sets and clears flags of messages; an outcome for each.
    pub(super) async fn store(
        self: &Arc<Self>,
        id: MailboxId,
        uids: Vec<Uid>,
        set: &Flags,
        clear: &Flags,
    ) -> Vec<Result<()>> {
        let told = match self.index(id) {
            Ok(index) => self.store_seen(&index, uids.iter().copied().collect(), set, clear).await,
            Err(error) => Err(error),
        };
        let kept = |uid: &Uid| match &told {
            Ok(told) => told.get(uid).map_or(Err(Error::NotFound), |now| plan_kept(now, set, clear)),
            Err(error) => Err(error.clone()),
        };
        uids.iter().map(kept).collect()
    }

    /// The flags that the server told afterwards; what it tells nothing of is gone. A connection that has not heard of
    /// new messages yet passes over them (Dovecot): it hears by a look, and is told once more.
    async fn store_seen(&self, index: &Index, all: UidSet, set: &Flags, clear: &Flags) -> Result<BTreeMap<Uid, Flags>> {
        let mut told = self.store_all(index, all.clone(), set, clear).await?;
        let left = |told: &BTreeMap<Uid, Flags>| all.iter().filter(|uid| !told.contains_key(uid)).collect::<UidSet>();
        if left(&told).is_empty() {
            return Ok(told);
        }
        let there = index.present(&self.client, &left(&told)).await;
        let there = self.settle(index, there)?;
        if there.is_empty() {
            index.expire();
            return Ok(told);
        }
        told.extend(self.store_all(index, there, set, clear).await?);
        if !left(&told).is_empty() {
            // A server that tells no flags when it changes them.
            let asked = index.refresh_flags(&self.client, &left(&told)).await;
            told.extend(self.settle(index, asked)?);
        }
        Ok(told)
    }

    /// The flags that came back.
    async fn store_all(&self, index: &Index, all: UidSet, set: &Flags, clear: &Flags) -> Result<BTreeMap<Uid, Flags>> {
        self.check_flags(index, set).await?;
        // GNU mailutils, which has no UIDPLUS, takes the last message for one that is not there.
        let mut left = if self.offers("UIDPLUS") { all.clone() } else { index.present(&self.client, &all).await? };
        let mut told = BTreeMap::new();
        let mut is_new = index.is_fresh(self.options.poll_interval);
        for round in 0.. {
            let mut modified = UidSet::new();
            for is_set in [true, false] {
                let messages: Vec<_> = left.iter().filter_map(|uid| index.told(uid)).collect();
                let is_known = is_new && messages.len() as u64 == left.len();
                let flags = plan_store(&messages, if is_set { set } else { clear }, is_set, is_known);
                if flags.is_empty() || left.is_empty() {
                    continue;
                }
                let since = messages.iter().map(|message| message.modseq).max().filter(|modseq| *modseq > 0);
                let unchanged_since = since.filter(|_| round < ROUNDS && self.offers("CONDSTORE"));
                let uids = left.clone();
                let command = Command::Store { uids, set: is_set, flags: flags.to_vec(), unchanged_since };
                let (rows, done) = self.change(index, command).await.map_err(not_kept)?;
                for row in rows {
                    let Some(event) = flags_event(row) else { continue };
                    if let Event::Flags(uid, flags, _) = &event
                        && all.contains(*uid)
                    {
                        told.insert(*uid, flags.clone());
                    }
                    index.apply([event]);
                }
                if let Some(Code::Modified(uids)) = done.code {
                    uids.iter().filter(|uid| left.contains(*uid)).for_each(|uid| modified.insert(uid));
                }
            }
            if modified.is_empty() || round > ROUNDS {
                break;
            }
            told.extend(index.refresh_flags(&self.client, &modified).await?);
            (left, is_new) = (modified, true);
        }
        Ok(told)
    }
}

/// A STORE that was answered NO or BAD: Cyrus has room for so many keywords, GNU mailutils knows none.
fn not_kept(error: Error) -> Error {
    match error {
        Error::Protocol(reason) => Error::Unsupported(format!("the flags are not kept: {reason}").into()),
        other => other,
    }
}

/// The first of these flags that cannot be changed for ever; keywords can where PERMANENTFLAGS has `\*`, RFC 9051
/// section 7.1. Without PERMANENTFLAGS all can.
fn plan_refused<'a>(flags: &'a Flags, permanent: Option<&Flags>) -> Option<&'a str> {
    let permanent = permanent?;
    let new_keywords = permanent.contains("\\*");
    flags.iter().find(|flag| !permanent.contains(flag) && (flag.starts_with('\\') || !new_keywords))
}

/// Which flags to send, so that all these messages have them, or none: where they are known to be as they should be,
/// none. Flags that may be old count for nothing.
fn plan_store(messages: &[Summary], flags: &Flags, set: bool, is_new: bool) -> Flags {
    let is_needed = |flag: &&str| !is_new || messages.iter().any(|message| message.flags.contains(flag) != set);
    Flags::from_wire(flags.iter().filter(is_needed).map(str::as_bytes))
}

/// Did the server do what it was told?
fn plan_kept(now: &Flags, set: &Flags, clear: &Flags) -> Result<()> {
    let lost = set.without(now);
    if let Some(flag) = lost.iter().next() {
        return Err(Error::Unsupported(format!("the server did not keep the flag {flag}").into()));
    }
    let stuck = clear.among(now);
    match stuck.iter().next() {
        Some(flag) => Err(Error::Unsupported(format!("the server did not clear the flag {flag}").into())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope::Envelope;

    fn flags(text: &str) -> Flags {
        Flags::from_wire(text.split(' ').map(str::as_bytes))
    }

    #[test]
    fn a_flag_is_refused_when_it_would_not_last() {
        for (wanted, permanent, refused) in [
            ("\\Seen work", None, None),
            ("\\Seen work", Some("\\Seen \\*"), None),
            ("\\Seen work", Some("\\Seen"), Some("work")),
            ("\\Seen Work", Some("\\Seen work"), None),
            ("\\Flagged", Some("\\Seen \\*"), Some("\\Flagged")),
            ("\\Seen", Some(""), Some("\\Seen")),
        ] {
            assert_eq!(plan_refused(&flags(wanted), permanent.map(flags).as_ref()), refused, "{wanted} {permanent:?}");
        }
    }

    #[test]
    fn no_more_is_sent_than_what_some_message_needs() {
        let message = |text: &str| Summary::new(Uid::new(1).unwrap(), 0, 0, flags(text), 0, &Envelope::default());
        let both = [message("\\Seen work"), message("work")];
        for (wanted, set, is_new, sent) in [
            ("\\Seen work", true, true, "\\Seen"),
            ("work", true, true, ""),
            ("work", true, false, "work"),
            ("\\Seen other", false, true, "\\Seen"),
        ] {
            assert_eq!(plan_store(&both, &flags(wanted), set, is_new), flags(sent), "{wanted}");
        }
        assert!(plan_store(&[], &flags("work"), true, true).is_empty());
    }

    #[test]
    fn what_the_server_did_not_keep_is_told() {
        assert_eq!(plan_kept(&flags("\\Seen"), &flags("\\seen"), &flags("work")), Ok(()));
        assert!(matches!(plan_kept(&flags(""), &flags("\\Seen"), &flags("")), Err(Error::Unsupported(_))));
        assert!(matches!(plan_kept(&flags("work"), &flags(""), &flags("work")), Err(Error::Unsupported(_))));
    }
}
