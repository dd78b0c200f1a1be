//! A mailbox kept in step with a model of a server, by QRESYNC, CONDSTORE or comparison: whatever happens in whatever
//! order, told or not, and wherever a sync was cut, one sync that is not ends in what the server has.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::mail::envelope::Envelope;

const FLAGS: [&str; 3] = ["", "\\Seen", "\\Flagged"];

/// What a server can tell of changes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Qresync,
    Condstore,
    Plain,
}

#[derive(Clone, Debug)]
enum Step {
    Append,
    Expunge(usize),
    Flag(usize, usize),
    Renumber,
    /// News that waits is told, the n-th first.
    Tell(usize),
    /// All messages are said to have vanished.
    Lie,
    /// Cut after so many events; another client does this in the middle.
    Sync(Option<usize>, usize),
}

#[derive(Clone, Debug)]
struct Server {
    kind: Kind,
    validity: u32,
    uid_next: u32,
    modseq: u64,
    /// UID to flags and MODSEQ.
    messages: BTreeMap<u32, (usize, u64)>,
    vanished: Vec<(u32, u64)>,
    news: Vec<Event>,
}

impl Server {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            validity: 1,
            uid_next: 1,
            modseq: 1,
            messages: BTreeMap::new(),
            vanished: Vec::new(),
            news: Vec::new(),
        }
    }

    fn modseq(&self, modseq: u64) -> u64 {
        if self.kind == Kind::Plain { 0 } else { modseq }
    }

    fn uid(&self, n: usize) -> Option<u32> {
        self.messages.keys().nth(n % self.messages.len().max(1)).copied()
    }

    fn flags(&self, uid: u32) -> Event {
        let (flags, modseq) = self.messages[&uid];
        Event::Flags(Uid::new(uid).unwrap(), Flags::from_wire([FLAGS[flags].as_bytes()]), self.modseq(modseq))
    }

    fn message(&self, uid: u32) -> Event {
        let (flags, modseq) = self.messages[&uid];
        let flags = Flags::from_wire([FLAGS[flags].as_bytes()]);
        let uid = Uid::new(uid).unwrap();
        Event::Message(Box::new(Summary::new(uid, 0, 1, flags, self.modseq(modseq), &Envelope::default())))
    }

    fn opened(&self) -> Opened {
        Opened {
            validity: UidValidity(self.validity),
            uid_next: Some(self.uid_next.into()),
            exists: self.messages.len() as u64,
            highest_modseq: (self.kind != Kind::Plain).then_some(self.modseq),
        }
    }

    fn change(&mut self, step: &Step) {
        self.modseq += 1;
        match *step {
            Step::Append => {
                self.messages.insert(self.uid_next, (0, self.modseq));
                self.uid_next += 1;
            }
            Step::Expunge(n) => {
                let Some(uid) = self.uid(n) else { return };
                self.messages.remove(&uid);
                self.vanished.push((uid, self.modseq));
                self.news.push(Event::Gone(UidSet::range(uid, uid)));
            }
            Step::Flag(n, flags) => {
                let Some(uid) = self.uid(n) else { return };
                self.messages.insert(uid, (flags, self.modseq));
                self.news.push(self.flags(uid));
            }
            Step::Renumber => {
                self.validity += 1;
                let messages = std::mem::take(&mut self.messages).into_values();
                self.messages = (1..).zip(messages).collect();
                self.uid_next = self.messages.len() as u32 + 1;
                self.vanished.clear();
                self.news.clear();
            }
            Step::Tell(_) | Step::Lie | Step::Sync(..) => {}
        }
    }

    /// What SELECT with a MODSEQ tells.
    fn resync(&self, validity: u32, since: u64) -> Option<Vec<Event>> {
        if self.kind != Kind::Qresync || validity != self.validity {
            return None;
        }
        let gone = self.vanished.iter().filter(|(_, modseq)| *modseq > since).filter_map(|(uid, _)| Uid::new(*uid));
        // Of what comes from here on the server may say as well that it is not there.
        let mut gone: UidSet = gone.collect();
        gone.insert_range(self.uid_next, u32::MAX);
        let changed = self.messages.iter().filter(|(_, (_, modseq))| *modseq > since).map(|(uid, _)| self.flags(*uid));
        Some([Event::Gone(gone)].into_iter().chain(changed).collect())
    }

    /// The answer to a question.
    fn answer(&self, step: &super::Step) -> Vec<Event> {
        match step {
            super::Step::Messages(first) => self.messages.range(first..).map(|(uid, _)| self.message(*uid)).collect(),
            super::Step::Uids => {
                let uids = self.messages.keys().filter_map(|uid| Uid::new(*uid)).collect();
                let all = self.messages.keys().map(|uid| self.message(*uid));
                [Event::Present(uids)].into_iter().chain(all).collect()
            }
            super::Step::FlagsSince(modseq) => {
                let changed = self.messages.iter().filter(|(_, (_, changed))| changed > modseq);
                changed.map(|(uid, _)| self.flags(*uid)).collect()
            }
            super::Step::Flags => self.messages.keys().map(|uid| self.flags(*uid)).collect(),
        }
    }
}

/// Brings the mailbox up to date; `between` happens after the SELECT. The changes, `None` when it was cut.
fn sync(
    mailbox: &mut Mailbox,
    server: &mut Server,
    cut: Option<usize>,
    between: impl FnOnce(&mut Server),
) -> Option<Vec<Change>> {
    let mut left = cut.unwrap_or(usize::MAX);
    let mut changes = Vec::new();
    let mut apply = |mailbox: &mut Mailbox, events: Vec<Event>| {
        for event in events {
            left = left.checked_sub(1)?;
            changes.extend(mailbox.apply(event));
        }
        Some(())
    };
    let rows = mailbox.synced().and_then(|(validity, modseq)| server.resync(validity.0, modseq));
    let opened = server.opened();
    between(server);
    apply(mailbox, vec![Event::Opened(opened)])?;
    let resynced = rows.is_some();
    apply(mailbox, rows.unwrap_or_default())?;
    let steps = mailbox.plan_sync(true, resynced);
    for step in &steps {
        apply(mailbox, server.answer(step))?;
    }
    if mailbox.len() as u64 != opened.exists && !steps.contains(&super::Step::Uids) {
        apply(mailbox, server.answer(&super::Step::Uids))?;
    }
    apply(mailbox, vec![Event::Complete])?;
    Some(changes)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Append),
        4 => (0usize..9).prop_map(Step::Expunge),
        4 => (0usize..9, 0usize..3).prop_map(|(n, flags)| Step::Flag(n, flags)),
        1 => Just(Step::Renumber),
        4 => (0usize..9).prop_map(Step::Tell),
        1 => Just(Step::Lie),
        5 => (prop::option::of(0usize..12), 0usize..4).prop_map(|(cut, n)| Step::Sync(cut, n)),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn one_whole_sync_ends_in_what_the_server_has_and_another_changes_nothing(
        kind in prop_oneof![Just(Kind::Qresync), Just(Kind::Condstore), Just(Kind::Plain)],
        steps in steps(),
    ) {
        let (mut server, mut mailbox) = (Server::new(kind), Mailbox::default());
        for step in &steps {
            match step {
                Step::Tell(n) if !server.news.is_empty() => {
                    let event = server.news.remove(n % server.news.len());
                    // Of a generation that is not known yet nothing is told.
                    if mailbox.validity().is_some_and(|known| known.0 == server.validity) {
                        mailbox.apply(event);
                    }
                }
                Step::Lie => drop(mailbox.apply(Event::Gone(UidSet::range(1, u32::MAX)))),
                Step::Sync(cut, n) => {
                    let between = [Step::Tell(0), Step::Append, Step::Expunge(1), Step::Flag(0, 1)][*n].clone();
                    sync(&mut mailbox, &mut server, *cut, |server| server.change(&between));
                }
                step => server.change(step),
            }
        }
        sync(&mut mailbox, &mut server, None, |_| ());
        let known: BTreeMap<u32, String> = mailbox.messages().map(|m| (m.uid.get(), m.flags.to_string())).collect();
        let there = server.messages.iter();
        let there: BTreeMap<u32, String> = there.map(|(uid, (flags, _))| (*uid, FLAGS[*flags].to_owned())).collect();
        prop_assert_eq!(known, there);
        prop_assert!(mailbox.is_current(&server.opened()));
        prop_assert_eq!(sync(&mut mailbox, &mut server, None, |_| ()), Some(vec![]));
    }
}
