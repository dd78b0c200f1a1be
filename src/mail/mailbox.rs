//! What is known of one mailbox: a pure state machine. Own and foreign changes are [`Event`]s and take one path,
//! [`Mailbox::apply`]; what they did comes out as [`Change`]s. It knows UIDs only, never sequence numbers: an
//! untagged EXPUNGE makes the mailbox worth asking about, and the question is put by UID.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::envelope::Summary;
use super::flag::Flags;
use super::uid::{Uid, UidSet, UidValidity};

/// Something the server told about the mailbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It was selected.
    Opened(Opened),
    /// A message with all that is kept of it.
    Message(Summary),
    /// The flags of a message, and its MODSEQ or 0.
    Flags(Uid, Flags, u64),
    /// Exactly these messages are there, of those with a UID in the range: the answer to a search.
    Present(UidSet),
    /// These messages are gone.
    Gone(UidSet),
    /// All that this `Opened` promised has been told: what is known now is the whole mailbox. Another one may have come
    /// since, of which that is not so.
    Complete(Opened),
    /// Messages that we brought here ourselves, as they should be. What the server told of one counts more.
    Brought(Summary),
    /// What SELECT tells now, asked for after the whole mailbox was known, is less than it told then: see
    /// [`Opened::is_before`].
    Rewound(Opened),
}

/// What SELECT tells of a mailbox, as far as the state machine cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// UIDVALIDITY; 0 where the server has none.
    pub validity: UidValidity,
    /// UIDNEXT; `None` where the server does not tell.
    pub uid_next: Option<u64>,
    /// EXISTS.
    pub exists: u64,
    /// HIGHESTMODSEQ; `None` without CONDSTORE.
    pub highest_modseq: Option<u64>,
}

impl Opened {
    /// Is this from before `then`, of the same UIDVALIDITY? Neither UIDNEXT (RFC 9051 section 2.3.1.1) nor HIGHESTMODSEQ
    /// (RFC 7162 section 3.1) ever falls; after a server was restored from a backup, or made its index anew, they have.
    pub fn is_before(&self, then: &Opened) -> bool {
        let fell = |now: Option<u64>, then: Option<u64>| now.zip(then).is_some_and(|(now, then)| now < then);
        self.validity == then.validity
            && (fell(self.uid_next, then.uid_next) || fell(self.highest_modseq, then.highest_modseq))
    }
}

/// What an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A message is there that was not.
    Arrived(Uid),
    /// Its flags are others.
    Flags(Uid),
    /// It was there and is not; what was known of it last.
    Gone(Summary),
    /// All that was known is void: a new UIDVALIDITY, or UIDs that may be those of other messages by now.
    Reset,
}

/// A question to the server that brings the mailbox up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// All that is kept of the messages with a UID from this one on.
    Messages(u32),
    /// The UIDs that are there, and then all that is kept of those that are not known.
    Uids,
    /// FLAGS of all messages that changed since this MODSEQ.
    FlagsSince(u64),
    /// FLAGS of all messages.
    Flags,
}

/// What is known of one mailbox.
#[derive(Clone, Debug, Default)]
pub struct Mailbox {
    opened: Option<Opened>,
    /// Invariant: a key equals the `uid` of its summary.
    messages: BTreeMap<Uid, Summary>,
    /// What was true when the whole mailbox had been told: all up to its UIDNEXT and HIGHESTMODSEQ is known.
    synced: Option<Opened>,
    /// The server lost count of its changes: nothing is believed until all of it was compared.
    doubted: bool,
}

impl Mailbox {
    /// UIDVALIDITY, once it is known.
    pub fn validity(&self) -> Option<UidValidity> {
        self.opened.map(|o| o.validity)
    }

    /// What the newest SELECT told.
    pub fn opened(&self) -> Option<Opened> {
        self.opened
    }

    /// Has the whole mailbox been told at least once?
    pub fn is_complete(&self) -> bool {
        self.synced.is_some()
    }

    /// What SELECT told when the whole mailbox was told last.
    pub fn listed(&self) -> Option<Opened> {
        self.synced
    }

    /// The message, when it is known.
    pub fn get(&self, uid: Uid) -> Option<&Summary> {
        self.messages.get(&uid)
    }

    /// All known messages, ascending.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Summary> + ExactSizeIterator {
        self.messages.values()
    }

    /// The messages with UIDs above this one, ascending; all without one.
    pub fn after(&self, uid: Option<Uid>) -> impl Iterator<Item = &Summary> {
        let start = uid.map_or(Bound::Unbounded, Bound::Excluded);
        self.messages.range((start, Bound::Unbounded)).map(|(_, message)| message)
    }

    /// The messages that come behind this one by UID, or before it when going back.
    pub fn beside(&self, uid: Uid, back: bool) -> impl Iterator<Item = &Summary> {
        let (behind, before) =
            if back { (None, Some(..uid)) } else { (Some((Bound::Excluded(uid), Bound::Unbounded)), None) };
        let behind = behind.into_iter().flat_map(|range| self.messages.range(range));
        let before = before.into_iter().flat_map(|range| self.messages.range(range).rev());
        behind.chain(before).map(|(_, message)| message)
    }

    /// The generation of the mailbox, and the MODSEQ up to which all of it is known, where the server counts them.
    pub fn synced(&self) -> Option<(UidValidity, u64)> {
        let synced = self.synced.filter(|_| !self.doubted)?;
        Some((synced.validity, synced.highest_modseq.filter(|modseq| *modseq > 0)?))
    }

    /// Takes in what was known of it before this process began: all that there was when `opened` was told. Of another
    /// UIDVALIDITY, and when it is known already, nothing.
    pub fn restore(&mut self, opened: Opened, messages: impl IntoIterator<Item = Summary>) {
        if self.is_complete() || self.validity().is_some_and(|validity| validity != opened.validity) {
            return;
        }
        let newer = std::mem::take(&mut self.messages);
        let known = messages.into_iter().map(|message| {
            // One from before the server lost count would outdo all that is told from here on.
            let is_odd = message.modseq > opened.highest_modseq.unwrap_or(u64::MAX);
            (message.uid, if is_odd { message.with(|head| head.modseq = 0) } else { message })
        });
        self.messages = known.collect();
        self.messages.extend(newer);
        (self.opened, self.synced) = (Some(opened), Some(opened));
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// True when none is known.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The highest known UID, or 0.
    fn last_uid(&self) -> u32 {
        self.messages.last_key_value().map_or(0, |(uid, _)| uid.get())
    }

    /// Takes an event in; tells what it changed.
    pub fn apply(&mut self, event: Event) -> Vec<Change> {
        match event {
            Event::Opened(opened) => self.open(opened),
            Event::Message(summary) => self.learn(summary),
            Event::Flags(uid, flags, modseq) => self.set_flags(uid, flags, modseq),
            Event::Present(present) => self.retain(|uid| present.contains(uid)),
            Event::Gone(gone) => self.retain(|uid| !gone.contains(uid)),
            Event::Complete(opened) => {
                // Of an earlier generation nothing is left that could be complete.
                if self.validity() == Some(opened.validity) {
                    if self.synced.is_none() {
                        self.pack();
                    }
                    (self.synced, self.doubted) = (Some(opened), false);
                }
                Vec::new()
            }
            Event::Rewound(opened) => self.rewind(opened),
            Event::Brought(summary) if self.messages.contains_key(&summary.uid) => Vec::new(),
            Event::Brought(summary) => self.learn(summary),
        }
    }

    fn open(&mut self, opened: Opened) -> Vec<Change> {
        if self.opened.is_some_and(|o| o.validity != opened.validity) {
            return self.reset(opened);
        }
        self.opened = Some(opened);
        Vec::new()
    }

    fn reset(&mut self, opened: Opened) -> Vec<Change> {
        *self = Self { opened: Some(opened), ..Self::default() };
        vec![Change::Reset]
    }

    /// Where UIDNEXT fell, UIDs that were seen are given again. Otherwise flags and UIDs are to be compared, and whether
    /// each UID still is the message that it was.
    fn rewind(&mut self, opened: Opened) -> Vec<Change> {
        let then = self.synced.and_then(|then| then.uid_next);
        if opened.uid_next.zip(then).is_some_and(|(now, then)| now < then) {
            return self.reset(opened);
        }
        self.doubted = true;
        self.messages.values_mut().for_each(|message| *message = message.with(|head| head.modseq = 0));
        Vec::new()
    }

    /// A map that grew at its end is half empty; one that is made at once is full.
    fn pack(&mut self) {
        self.messages = std::mem::take(&mut self.messages).into_iter().collect();
    }

    fn learn(&mut self, summary: Summary) -> Vec<Change> {
        let uid = summary.uid;
        match self.messages.get(&uid) {
            Some(known) if self.doubted && !known.is_same(&summary) => match self.opened {
                Some(opened) => self.reset(opened),
                None => Vec::new(),
            },
            // Envelope, date and size of a UID never change; a server that tells others is not believed.
            Some(_) => self.set_flags(uid, summary.flags.clone(), summary.modseq),
            None => {
                self.messages.insert(uid, summary);
                vec![Change::Arrived(uid)]
            }
        }
    }

    fn set_flags(&mut self, uid: Uid, flags: Flags, modseq: u64) -> Vec<Change> {
        let Some(known) = self.messages.get_mut(&uid) else { return Vec::new() };
        // Answers may overtake each other (several connections): an older MODSEQ tells nothing new.
        if modseq != 0 && modseq < known.modseq {
            return Vec::new();
        }
        let changed = known.flags != flags;
        if changed || known.modseq < modseq {
            *known = known.with(|head| {
                head.flags = flags;
                head.modseq = head.modseq.max(modseq);
            });
        }
        if changed { vec![Change::Flags(uid)] } else { Vec::new() }
    }

    fn retain(&mut self, keep: impl Fn(Uid) -> bool) -> Vec<Change> {
        let mut gone = Vec::new();
        self.messages.retain(|&uid, summary| {
            let kept = keep(uid);
            if !kept {
                gone.push(Change::Gone(summary.clone()));
            }
            kept
        });
        gone
    }

    /// Is what STATUS or SELECT just told the same as when the mailbox was last brought up to date? Without
    /// CONDSTORE a foreign flag change cannot be seen this way. Without UIDNEXT nothing can: one message may have come and
    /// another gone.
    pub fn is_current(&self, now: &Opened) -> bool {
        now.uid_next.is_some()
            && !self.doubted
            && self.synced.is_some_and(|then| {
                then.validity == now.validity
                    && then.uid_next == now.uid_next
                    && (now.highest_modseq.is_none() || then.highest_modseq == now.highest_modseq)
            })
            && self.messages.len() as u64 == now.exists
    }

    /// What to ask after this `Opened` was applied, so that afterwards `Complete` may be. With `flags_too` all flags are
    /// asked for where the server cannot tell which changed. `resynced`: what vanished and which flags changed has been
    /// told since, and was applied.
    pub fn plan_sync(&self, opened: &Opened, flags_too: bool, resynced: bool) -> Vec<Step> {
        if self.messages.is_empty() {
            return if opened.exists > 0 { vec![Step::Messages(1)] } else { Vec::new() };
        }
        if self.doubted {
            return vec![Step::Messages(1), Step::Uids];
        }
        let mut steps = Vec::new();
        if let Some(then) = &self.synced {
            let next = self.last_uid().saturating_add(1);
            if opened.uid_next != Some(u64::from(next)) {
                steps.push(Step::Messages(next));
            }
            // What vanished cannot be told from counts alone while new messages may have come as well.
            let is_short = self.messages.len() as u64 != opened.exists;
            let may_have_gaps = if resynced { steps.is_empty() } else { !self.knows_new(then, opened) };
            if if resynced { may_have_gaps && is_short } else { may_have_gaps || is_short } {
                steps.push(Step::Uids);
            }
        } else {
            // Single messages were looked up, or a listing was cut: only the UIDs tell what is missing.
            steps.push(Step::Uids);
        }
        match (opened.highest_modseq, self.synced.and_then(|then| then.highest_modseq)) {
            _ if resynced => {}
            (Some(now), Some(then)) if now == then => {}
            (Some(_), Some(then)) if then > 0 => steps.push(Step::FlagsSince(then)),
            _ if flags_too || opened.highest_modseq.is_some() => steps.push(Step::Flags),
            _ => {}
        }
        steps
    }

    /// Is each message known that may have come between two SELECTs? Those that we brought there ourselves are.
    fn knows_new(&self, then: &Opened, now: &Opened) -> bool {
        let (Some(then), Some(now)) = (then.uid_next, now.uid_next) else { return false };
        let (Ok(first), Ok(end)) = (u32::try_from(then), u32::try_from(now)) else { return false };
        match (Uid::new(first), Uid::new(end)) {
            (Some(first), Some(end)) if first <= end => self.messages.range(first..end).count() as u64 == now - then,
            _ => false,
        }
    }
}

#[cfg(test)]
#[path = "mailbox_sync_tests.rs"]
mod sync_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope::Envelope;
    use proptest::prelude::*;
    use std::collections::BTreeMap as Model;

    fn summary(uid: u32, flags: &str, modseq: u64) -> Summary {
        let flags = Flags::from_wire(flags.split(' ').map(str::as_bytes));
        Summary::new(Uid::new(uid).unwrap(), 0, 1, flags, modseq, &Envelope::default())
    }

    fn opened(validity: u32, uid_next: u64, exists: u64, modseq: u64) -> Opened {
        let highest_modseq = (modseq > 0).then_some(modseq);
        Opened { validity: UidValidity(validity), uid_next: Some(uid_next), exists, highest_modseq }
    }

    fn mailbox(o: Opened, messages: &[u32]) -> Mailbox {
        let mut mailbox = Mailbox::default();
        mailbox.apply(Event::Opened(o));
        for &uid in messages {
            mailbox.apply(Event::Message(summary(uid, "", 1)));
        }
        mailbox.apply(Event::Complete(o));
        mailbox
    }

    #[test]
    fn the_plan_asks_for_no_more_than_what_may_have_changed() {
        let known = mailbox(opened(1, 10, 3, 7), &[1, 5, 9]);
        for (now, want) in [
            (opened(1, 10, 3, 7), vec![]),
            (opened(1, 10, 3, 8), vec![Step::FlagsSince(7)]),
            (opened(1, 10, 2, 8), vec![Step::Uids, Step::FlagsSince(7)]),
            (opened(1, 11, 4, 8), vec![Step::Messages(10), Step::Uids, Step::FlagsSince(7)]),
            (opened(2, 4, 2, 8), vec![Step::Messages(1)]),
            (opened(2, 1, 0, 8), vec![]),
        ] {
            let mut mailbox = known.clone();
            mailbox.apply(Event::Opened(now));
            assert_eq!(mailbox.plan_sync(&now, false, false), want, "{now:?}");
            assert_eq!(known.is_current(&now), want.is_empty() && now.validity.0 == 1, "{now:?}");
        }
    }

    #[test]
    fn a_new_uidvalidity_voids_everything() {
        let mut known = mailbox(opened(1, 10, 1, 0), &[9]);
        assert_eq!(known.apply(Event::Opened(opened(2, 10, 1, 0))), [Change::Reset]);
        assert!(known.is_empty() && !known.is_complete());
    }

    #[test]
    fn a_server_that_is_back_at_an_earlier_state_is_compared_and_its_uids_are_not_believed() {
        let then = opened(1, 10, 2, 7);
        for (now, before) in [
            (opened(1, 10, 2, 7), false),
            (opened(1, 12, 4, 9), false),
            (opened(1, 10, 2, 6), true),
            (opened(1, 12, 4, 6), true),
            (opened(1, 9, 1, 9), true),
            (opened(1, 9, 1, 0), true),
            (opened(1, 10, 2, 0), false),
            (opened(2, 5, 1, 3), false),
        ] {
            assert_eq!(now.is_before(&then), before, "{now:?}");
        }
        // Flags that are older than what was known are what is so; also when what was known comes from disk.
        let mut known = mailbox(then, &[1, 9]);
        let (uid, now) = (Uid::new(9).unwrap(), opened(1, 10, 2, 5));
        known.apply(Event::Flags(uid, Flags::from_wire([&b"\\Seen"[..]]), 7));
        assert_eq!(known.apply(Event::Rewound(now)), []);
        assert_eq!(known.synced(), None, "nothing is asked for since a MODSEQ that is yet to come");
        assert!(!known.is_current(&then) && known.is_complete());
        assert_eq!(known.plan_sync(&now, false, false), [Step::Messages(1), Step::Uids]);
        let mut other = known.clone();
        assert_eq!(known.apply(Event::Message(summary(9, "", 5))), [Change::Flags(uid)]);
        known.apply(Event::Complete(now));
        assert_eq!(known.plan_sync(&now, false, false), []);
        // A UID that is another message by now, and UIDs that will be given again: nothing is left.
        let message = summary(9, "", 5).with(|head| head.size = 2);
        assert_eq!(other.apply(Event::Message(message)), [Change::Reset]);
        assert!(other.is_empty() && !other.is_complete() && other.validity() == Some(UidValidity(1)));
        assert_eq!(known.apply(Event::Rewound(opened(1, 9, 1, 9))), [Change::Reset]);
        assert!(known.is_empty() && !known.is_complete());
    }

    #[test]
    fn what_was_kept_from_before_the_server_lost_count_does_not_outdo_what_it_tells() {
        let (uid, mut known) = (Uid::new(9).unwrap(), Mailbox::default());
        known.restore(opened(1, 10, 1, 5), [summary(9, "\\Seen", 700)]);
        assert_eq!(known.apply(Event::Flags(uid, Flags::default(), 6)), [Change::Flags(uid)]);
    }

    #[test]
    fn an_older_modseq_does_not_undo_a_newer_one() {
        let mut known = mailbox(opened(1, 10, 1, 5), &[9]);
        let uid = Uid::new(9).unwrap();
        let flags = |f: &str| Flags::from_wire([f.as_bytes()]);
        assert_eq!(known.apply(Event::Flags(uid, flags("\\Seen"), 6)), [Change::Flags(uid)]);
        assert_eq!(known.apply(Event::Flags(uid, flags("\\Draft"), 5)), []);
        assert!(known.get(uid).unwrap().flags.contains("\\Seen"));
    }

    proptest! {
        /// Whatever comes in whatever order, the mailbox holds what a plain table of the same events holds, and the
        /// changes told are exactly the differences.
        #[test]
        fn changes_are_the_difference_between_before_and_after(
            events in prop::collection::vec((0u8..4, 1u32..12, 0u8..3), 0..60)
        ) {
            let mut mailbox = mailbox(opened(1, 99, 0, 0), &[]);
            let mut model: Model<u32, String> = Model::new();
            for (kind, n, flag) in events {
                let flag = ["\\Seen", "\\Flagged", ""][flag as usize];
                let before = model.clone();
                let uid = Uid::new(n).unwrap();
                let event = match kind {
                    0 => { model.insert(n, flag.into()); Event::Message(summary(n, flag, 0)) }
                    1 => {
                        if let Some(f) = model.get_mut(&n) { *f = flag.into() }
                        Event::Flags(uid, Flags::from_wire([flag.as_bytes()]), 0)
                    }
                    2 => { model.remove(&n); Event::Gone(UidSet::range(n, n)) }
                    _ => { model.retain(|k, _| *k <= n); Event::Present(UidSet::range(1, n)) }
                };
                let mut changes: Vec<(u32, char)> = mailbox.apply(event).into_iter().map(|c| match c {
                    Change::Arrived(u) => (u.get(), '+'),
                    Change::Gone(s) => (s.uid.get(), '-'),
                    Change::Flags(u) => (u.get(), 'f'),
                    Change::Reset => (0, 'r'),
                }).collect();
                changes.sort_unstable();
                let mut want = Vec::new();
                for k in 1..12 {
                    match (before.get(&k), model.get(&k)) {
                        (None, Some(_)) => want.push((k, '+')),
                        (Some(_), None) => want.push((k, '-')),
                        (Some(a), Some(b)) if a != b => want.push((k, 'f')),
                        _ => {}
                    }
                }
                prop_assert_eq!(changes, want);
                let now: Model<u32, String> = mailbox.messages().map(|s| (s.uid.get(), s.flags.to_string())).collect();
                prop_assert_eq!(now, model.clone());
            }
        }
    }
}
