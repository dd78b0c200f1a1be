//! Messages from one mailbox into another, by MOVE or COPY; and what became of them when the answer does not say it.
//!
//! Invariant: at every instant a moved message is in the one mailbox or in the other. Without MOVE it is copied, the
//! copy is named by COPYUID or seen, and only then the original is expunged, by its UID.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{info, warn};

use super::Account;
use super::index::{Index, copied};
use super::intent::Transfer;
use crate::error::{Error, Result};
use crate::imap::Command;
use crate::mail::arrival::{Sought, plan_matches};
use crate::mail::envelope::Summary;
use crate::mail::flag::Flags;
use crate::mail::uid::{Uid, UidSet, UidValidity};
use crate::tree::node::MailboxId;

/// What became of each message: the UID of the new one. A message of which there is no outcome is gone.
type Outcomes = BTreeMap<Uid, Result<Uid>>;

/// `\Deleted`, alone.
pub(super) fn deleted() -> Flags {
    Flags::from_wire([&b"\\Deleted"[..]])
}

impl Account {
    /// `Unsupported` where no message can be moved safely.
    pub(super) fn check_can_move(&self) -> Result<()> {
        let has_move = self.offers("MOVE") && !self.changing.no_move.load(Ordering::Relaxed);
        if has_move { Ok(()) } else { self.check_can_expunge() }
    }

    /// `Unsupported` where messages cannot be expunged by UID: a plain EXPUNGE would take what others marked as well.
    pub(super) fn check_can_expunge(&self) -> Result<()> {
        if self.offers("UIDPLUS") {
            return Ok(());
        }
        let reason = "the server cannot expunge single messages (no UIDPLUS), and to expunge all that are marked could \
                      destroy mail of others";
        Err(Error::Unsupported(reason.into()))
    }

    /// Moves or copies messages; an outcome for each. Who asked for the same move twice gets the same outcome, who asked
    /// for two copies gets two.
    pub(super) async fn transfer_all(
        self: &Arc<Self>,
        from: MailboxId,
        to: MailboxId,
        uids: Vec<Uid>,
        transfer: Transfer,
    ) -> Vec<Result<Uid>> {
        let mut outcomes: Vec<Option<Result<Uid>>> = vec![None; uids.len()];
        while outcomes.contains(&None) {
            let round = plan_round(&uids, &outcomes, transfer);
            let set: UidSet = round.iter().map(|at| uids[*at]).collect();
            let all = self.transfer_set(from, to, &set, transfer).await;
            for at in round {
                let outcome = all.as_ref().map(|all| all.get(&uids[at]).cloned());
                outcomes[at] = Some(match outcome {
                    Ok(outcome) => outcome.unwrap_or(Err(Error::NotFound)),
                    Err(error) => Err(error.clone()),
                });
            }
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Err(Error::NotFound))).collect()
    }

    async fn transfer_set(
        self: &Arc<Self>,
        from: MailboxId,
        to: MailboxId,
        uids: &UidSet,
        transfer: Transfer,
    ) -> Result<Outcomes> {
        let (source, target) = (self.index(from)?, self.index(to)?);
        if transfer == Transfer::Move {
            self.check_can_move()?;
        }
        let before = self.copied_before(&source, &target, uids).await?;
        let mut left: UidSet = uids.iter().filter(|uid| !before.iter().any(|(old, _)| old == uid)).collect();
        let mut outcomes = match transfer {
            Transfer::Move if before.is_empty() => Outcomes::new(),
            Transfer::Move => self.finish_move(&source, &target, None, uids, before).await?,
            Transfer::Copy => self.landed(&source, &target, None, uids, before),
        };
        for _ in 0..2 {
            if left.is_empty() {
                return Ok(outcomes);
            }
            outcomes.extend(match transfer {
                Transfer::Move => self.move_set(&source, &target, &left).await?,
                Transfer::Copy => self.copy(&source, &target, &left).await?,
            });
            left = left.iter().filter(|uid| !outcomes.contains_key(uid)).collect();
            if !left.is_empty() {
                // A connection that has not heard of new messages yet passes over them (Dovecot): it hears by the look.
                let there = source.present(&self.client, &left).await;
                left = self.settle(&source, there)?;
                source.expire();
            }
        }
        let untouched = |uid| (uid, Err(Error::protocol("the server answered OK, and did nothing with a message")));
        outcomes.extend(left.iter().map(untouched));
        Ok(outcomes)
    }

    /// Messages that an earlier attempt copied: (old, new).
    async fn copied_before(&self, source: &Index, target: &Index, uids: &UidSet) -> Result<Vec<(Uid, Uid)>> {
        let known: Vec<Summary> = uids.iter().filter_map(|uid| source.told_lately(uid)).collect();
        let sought: Vec<Sought> = known.iter().map(Sought::copy_of).collect();
        let found = self.arrived_before(target, &sought).await?;
        Ok(known.iter().zip(found).filter_map(|(old, new)| Some((old.uid, new?.uid))).collect())
    }

    async fn move_set(self: &Arc<Self>, source: &Index, target: &Index, uids: &UidSet) -> Result<Outcomes> {
        if self.offers("MOVE") && !self.changing.no_move.load(Ordering::Relaxed) {
            match self.move_by_move(source, target, uids).await {
                Err(error) if is_unknown_command(&error) => {
                    info!(%error, "the server offers MOVE and does not know it");
                    self.changing.no_move.store(true, Ordering::Relaxed);
                    self.check_can_expunge()?;
                }
                outcome => return outcome,
            }
        }
        self.move_by_copy(source, target, uids).await
    }

    async fn move_by_move(self: &Arc<Self>, source: &Index, target: &Index, uids: &UidSet) -> Result<Outcomes> {
        let next = target.next(&self.client).await?;
        let command = Command::Move { uids: uids.clone(), to: target.name.get() };
        let error = match self.change(source, command).await {
            Ok((_, done)) => match copied(done.code.as_ref()) {
                Some((validity, pairs)) => {
                    let outcomes = self.landed(source, target, Some(validity), uids, pairs);
                    let moved: UidSet = outcomes.keys().copied().collect();
                    source.left(moved);
                    return Ok(outcomes);
                }
                None => None,
            },
            // One message, and a clear answer: nothing was done.
            Err(error) if !is_unclear(&error) && uids.len() == 1 => return Err(error),
            Err(error) if is_unknown_command(&error) => return Err(error),
            Err(error) => Some(error),
        };
        self.look_after_move(source, target, uids, next, error.as_ref()).await
    }

    /// What became of messages whose move had no clear outcome, or was answered OK without saying it: looks in both
    /// mailboxes. Of those that were passed over there is no outcome.
    async fn look_after_move(
        self: &Arc<Self>,
        source: &Index,
        target: &Index,
        uids: &UidSet,
        next: u32,
        error: Option<&Error>,
    ) -> Result<Outcomes> {
        let there = match source.present(&self.client, uids).await {
            Ok(there) => there,
            Err(lost) => return Err(self.doubt(target, self.sought(source, uids), next, &lost)),
        };
        let gone: UidSet = uids.iter().filter(|uid| !there.contains(*uid)).collect();
        // Those that are gone come first: of two that are equal, the copy is that of the one that is gone.
        let order: Vec<Uid> = gone.iter().chain(there.iter()).collect();
        let pairs = match self.find_copies(source, target, &order, next).await {
            Ok(pairs) => pairs,
            Err(lost) => return Err(self.doubt(target, self.sought(source, uids), next, &lost)),
        };
        let (moved, doubled): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(old, _)| gone.contains(*old));
        let mut outcomes = self.landed(source, target, None, uids, moved);
        source.left(gone);
        if let Some(error) = error {
            let error = self.not_seen(source, target, &there, next, error);
            outcomes.extend(there.iter().map(|uid| (uid, Err(error.clone()))));
        }
        if !doubled.is_empty() && self.offers("UIDPLUS") {
            outcomes.extend(self.finish_move(source, target, None, uids, doubled).await?);
        }
        Ok(outcomes)
    }

    async fn move_by_copy(self: &Arc<Self>, source: &Index, target: &Index, uids: &UidSet) -> Result<Outcomes> {
        // Before anything is copied: could the originals be removed?
        self.check_flags(source, &deleted()).await?;
        let (mut pairs, mut outcomes) = (Vec::new(), Outcomes::new());
        for (old, outcome) in self.copy(source, target, uids).await? {
            match outcome {
                Ok(new) => pairs.push((old, new)),
                Err(error) => drop(outcomes.insert(old, Err(error))),
            }
        }
        outcomes.extend(self.finish_move(source, target, target.validity(), uids, pairs).await?);
        Ok(outcomes)
    }

    /// The copies are there: the originals go. When the server refuses that, the copies go again.
    async fn finish_move(
        self: &Arc<Self>,
        source: &Index,
        target: &Index,
        validity: Option<UidValidity>,
        uids: &UidSet,
        pairs: Vec<(Uid, Uid)>,
    ) -> Result<Outcomes> {
        let originals: UidSet = pairs.iter().map(|(old, _)| *old).collect();
        if let Err(error) = self.check_can_expunge() {
            // They were moved by MOVE, or they stay.
            let there = source.present(&self.client, &originals).await?;
            let (doubled, moved) = pairs.into_iter().partition(|(old, _)| there.contains(*old));
            let mut outcomes = self.landed(source, target, validity, uids, moved);
            let doubled: Vec<(Uid, Uid)> = doubled;
            outcomes.extend(doubled.into_iter().map(|(old, _)| (old, Err(error.clone()))));
            source.expire();
            return Ok(outcomes);
        }
        match self.expunge(source, &originals).await {
            Ok(()) => Ok(self.landed(source, target, validity, uids, pairs)),
            Err(error) if error.is_connection_lost() || is_unclear(&error) => {
                warn!(%error, count = pairs.len(), "messages are in both mailboxes: moving them again ends that");
                for (old, new) in &pairs {
                    let sought = source.told_lately(*old).map(|message| Sought::copy_of(&message));
                    self.changing.doubts.add(target.id, sought, new.get());
                }
                let error = Error::Uncertain(format!("copied, and not removed yet: {error}").into());
                Ok(pairs.iter().map(|(old, _)| (*old, Err(error.clone()))).collect())
            }
            Err(error) => {
                let there = source.present(&self.client, &originals).await?;
                let copies: UidSet = pairs.iter().filter(|(old, _)| there.contains(*old)).map(|pair| pair.1).collect();
                if let Err(undo) = self.expunge(target, &copies).await {
                    warn!(%error, %undo, "messages are in both mailboxes: neither can be removed");
                }
                Ok(pairs.iter().map(|(old, _)| (*old, Err(error.clone()))).collect())
            }
        }
    }

    /// Copies messages, which may be into the mailbox they are in.
    async fn copy(self: &Arc<Self>, source: &Index, target: &Index, uids: &UidSet) -> Result<Outcomes> {
        let next = target.next(&self.client).await?;
        let command = Command::Copy { uids: uids.clone(), to: target.name.get() };
        let error = match self.change(source, command).await {
            Ok((_, done)) => match copied(done.code.as_ref()) {
                Some((validity, pairs)) => {
                    return Ok(self.landed(source, target, Some(validity), uids, pairs));
                }
                // RFC 4315 section 3: then nothing was copied.
                None if self.offers("UIDPLUS") => None,
                None => Some(Error::protocol("COPY was answered OK, and there is no copy")),
            },
            Err(error) if !is_unclear(&error) && uids.len() == 1 => return Err(error),
            Err(error) => Some(error),
        };
        let order: Vec<Uid> = uids.iter().collect();
        let pairs = match self.find_copies(source, target, &order, next).await {
            Ok(pairs) => pairs,
            Err(lost) => return Err(self.doubt(target, self.sought(source, uids), next, &lost)),
        };
        let mut outcomes = self.landed(source, target, None, uids, pairs);
        if let Some(error) = error {
            let missing: UidSet = uids.iter().filter(|uid| !outcomes.contains_key(uid)).collect();
            let there = source.present(&self.client, &missing).await;
            let there = self.settle(source, there)?;
            let error = self.not_seen(source, target, &there, next, &error);
            outcomes.extend(there.iter().map(|uid| (uid, Err(error.clone()))));
        }
        Ok(outcomes)
    }

    /// The outcome of messages of which no copy is seen. A server that lost the connection may be about to make one.
    fn not_seen(&self, source: &Index, target: &Index, uids: &UidSet, next: u32, error: &Error) -> Error {
        if is_unclear(error) { self.doubt(target, self.sought(source, uids), next, error) } else { error.clone() }
    }

    fn sought(&self, source: &Index, uids: &UidSet) -> Vec<Sought> {
        uids.iter().filter_map(|uid| source.told_lately(uid)).map(|message| Sought::copy_of(&message)).collect()
    }

    /// What arrived in the target since its UIDNEXT was `next` and is what these messages are: (old, new).
    async fn find_copies(&self, source: &Index, target: &Index, old: &[Uid], next: u32) -> Result<Vec<(Uid, Uid)>> {
        let known: Vec<Summary> = old.iter().filter_map(|uid| source.told_lately(*uid)).collect();
        let mut arrived = target.arrived_since(&self.client, next).await?;
        if source.id == target.id {
            arrived.retain(|message| !old.contains(&message.uid));
        }
        let sought: Vec<Sought> = known.iter().map(Sought::copy_of).collect();
        let places = plan_matches(&sought, &arrived);
        Ok(known.iter().zip(places).filter_map(|(message, at)| Some((message.uid, arrived[at?].uid))).collect())
    }

    /// Takes in that copies are there: the target lists them at once. Of pairs that were not asked for nothing is made.
    fn landed(
        &self,
        source: &Index,
        target: &Index,
        validity: Option<UidValidity>,
        asked: &UidSet,
        pairs: Vec<(Uid, Uid)>,
    ) -> Outcomes {
        let pairs: Vec<_> = pairs.into_iter().filter(|(old, _)| asked.contains(*old)).collect();
        let copy = |(old, new): &(Uid, Uid)| {
            let old = source.told_lately(*old)?;
            Some(old.with(|head| {
                (head.uid, head.modseq) = (*new, 0);
                head.flags = head.flags.without(&deleted());
            }))
        };
        target.came(validity, pairs.iter().filter_map(copy));
        pairs.into_iter().map(|(old, new)| (old, Ok(new))).collect()
    }
}

/// Which of these are done at once: all that have no outcome; each UID once when they are copied.
fn plan_round(uids: &[Uid], outcomes: &[Option<Result<Uid>>], transfer: Transfer) -> Vec<usize> {
    let mut seen = HashSet::new();
    let is_left = |at: &usize| outcomes[*at].is_none();
    let left = (0..uids.len()).filter(is_left);
    left.filter(|at| seen.insert(uids[*at]) || transfer == Transfer::Move).collect()
}

/// Was it sent, and its answer not heard? A change that timed out was not sent.
pub(super) fn is_unclear(error: &Error) -> bool {
    matches!(error, Error::Uncertain(_))
}

/// Does the server not know a command that it offers?
pub(super) fn is_unknown_command(error: &Error) -> bool {
    let (Error::Protocol(reason) | Error::Unsupported(reason)) = error else { return false };
    let reason = reason.to_ascii_lowercase();
    reason.starts_with("bad:")
        || ["not implemented", "not supported", "unsupported", "unknown command"].iter().any(|t| reason.contains(t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_copies_of_one_message_are_made_one_after_the_other() {
        let uids: Vec<Uid> = [1, 2, 1].into_iter().filter_map(Uid::new).collect();
        let none = vec![None; 3];
        assert_eq!(plan_round(&uids, &none, Transfer::Copy), [0, 1]);
        assert_eq!(plan_round(&uids, &none, Transfer::Move), [0, 1, 2]);
        let some = [Some(Ok(uids[0])), Some(Ok(uids[1])), None];
        assert_eq!(plan_round(&uids, &some, Transfer::Copy), [2]);
    }

    #[test]
    fn a_command_that_the_server_does_not_know_is_told_from_one_that_it_refuses() {
        for (error, want) in [
            (Error::protocol("BAD: the server says: Unknown command"), true),
            (Error::protocol("the server says: MOVE not implemented"), true),
            (Error::protocol("the server says: Permission denied"), false),
            (Error::NotFound, false),
            (Error::Quota("the server says: not supported".into()), false),
        ] {
            assert_eq!(is_unknown_command(&error), want, "{error}");
        }
    }
}
