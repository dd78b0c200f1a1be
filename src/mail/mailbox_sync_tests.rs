//! A mailbox kept in step with a model of a server, by QRESYNC, CONDSTORE or comparison: whatever happens in whatever
//! order, told or not, wherever a sync was cut, and after the server was restored from a backup, one sync that is not cut
//! ends in what the server has.

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
    /// All messages are said to have vanished: where QRESYNC is on, nobody else is believed.
    Lie,
    /// We append or bring a message: what is known of its flags may be old.
    Bring(usize),
    /// We flag one: the answer, and the same again as news.
    Mark(usize, usize),
    /// We remove one.
    Remove(usize),
    /// Another task selects the mailbox and asks nothing.
    Look,
    /// One message is asked for by its name.
    Find(usize),
    /// Cut after so many events; another client does this in the middle.
    Sync(Option<usize>, usize),
    /// A backup is made.
    Backup,
    /// It comes back, other mail arrives, and a sync is cut, or not.
    Restore(usize, Option<usize>),
}

#[derive(Clone, Debug)]
struct Server {
    kind: Kind,
    validity: u32,
    uid_next: u32,
    modseq: u64,
    /// How many messages there ever were: no two have the same size.
    made: u64,
    /// UID to flags, MODSEQ and size.
    messages: BTreeMap<u32, (usize, u64, u64)>,
    vanished: Vec<(u32, u64)>,
    news: Vec<Event>,
    backup: Option<Box<Server>>,
}

impl Server {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            validity: 1,
            uid_next: 1,
            modseq: 1,
            made: 0,
            messages: BTreeMap::new(),
            vanished: Vec::new(),
            news: Vec::new(),
            backup: None,
        }
    }

    fn modseq(&self, modseq: u64) -> u64 {
        if self.kind == Kind::Plain { 0 } else { modseq }
    }

    fn uid(&self, n: usize) -> Option<u32> {
        self.messages.keys().nth(n % self.messages.len().max(1)).copied()
    }

    fn flags(&self, uid: u32) -> Event {
        let (flags, modseq, _) = self.messages[&uid];
        Event::Flags(Uid::new(uid).unwrap(), Flags::from_wire([FLAGS[flags].as_bytes()]), self.modseq(modseq))
    }

    fn message(&self, uid: u32) -> Event {
        let (flags, modseq, size) = self.messages[&uid];
        let flags = Flags::from_wire([FLAGS[flags].as_bytes()]);
        let uid = Uid::new(uid).unwrap();
        Event::Message(Summary::new(uid, 0, size, flags, self.modseq(modseq), &Envelope::default()))
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
            Step::Append | Step::Bring(_) => {
                self.made += 1;
                self.messages.insert(self.uid_next, (0, self.modseq, self.made));
                self.uid_next += 1;
            }
            Step::Expunge(n) | Step::Remove(n) => {
                let Some(uid) = self.uid(n) else { return };
                self.messages.remove(&uid);
                self.vanished.push((uid, self.modseq));
                self.news.push(Event::Gone(UidSet::range(uid, uid)));
            }
            Step::Flag(n, flags) | Step::Mark(n, flags) => {
                let Some(uid) = self.uid(n) else { return };
                let size = self.messages[&uid].2;
                self.messages.insert(uid, (flags, self.modseq, size));
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
            Step::Backup => self.backup = Some(Box::new(self.clone())),
            Step::Tell(_) | Step::Lie | Step::Sync(..) | Step::Look | Step::Find(_) | Step::Restore(..) => {}
        }
    }

    /// As it was when the backup was made, and other mail has arrived since; as it is when there is none.
    fn restored(&self, arrive: usize) -> Self {
        let backup = self.backup.as_deref().filter(|backup| backup.validity == self.validity);
        let mut server = backup.unwrap_or(self).clone();
        (server.made, server.backup) = (self.made, self.backup.clone());
        server.news.clear();
        (0..arrive).for_each(|_| server.change(&Step::Append));
        server
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
        let changed =
            self.messages.iter().filter(|(_, (_, modseq, _))| *modseq > since).map(|(uid, _)| self.flags(*uid));
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
                let changed = self.messages.iter().filter(|(_, (_, changed, _))| changed > modseq);
                changed.map(|(uid, _)| self.flags(*uid)).collect()
            }
            super::Step::Flags => self.messages.keys().map(|uid| self.flags(*uid)).collect(),
        }
    }
}

/// Brings the mailbox up to date; `between` happens after the SELECT, and its connection does not hear of it before the
/// end. The changes, `None` when it was cut.
fn sync(
    mailbox: &mut Mailbox,
    server: &mut Server,
    cut: Option<usize>,
    between: impl FnOnce(&mut Mailbox, &mut Server),
) -> Option<Vec<Change>> {
    let (mut left, then) = (cut.unwrap_or(usize::MAX), mailbox.listed());
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
    let connection = server.clone();
    apply(mailbox, vec![Event::Opened(opened)])?;
    between(mailbox, server);
    let is_rewound = then.is_some_and(|then| opened.is_before(&then));
    let rows = rows.filter(|_| !is_rewound);
    apply(mailbox, is_rewound.then_some(Event::Rewound(opened)).into_iter().collect())?;
    let resynced = rows.is_some();
    apply(mailbox, rows.unwrap_or_default())?;
    let steps = mailbox.plan_sync(&opened, true, resynced);
    let doubted = mailbox.doubted;
    for step in &steps {
        apply(mailbox, connection.answer(step))?;
    }
    if doubted && !mailbox.doubted {
        // A UID is another message by now: all begins anew.
        return sync(mailbox, server, None, nothing);
    }
    if mailbox.len() as u64 != opened.exists && !steps.contains(&super::Step::Uids) {
        apply(mailbox, connection.answer(&super::Step::Uids))?;
    }
    apply(mailbox, vec![Event::Complete(opened)])?;
    Some(changes)
}

fn nothing(_: &mut Mailbox, _: &mut Server) {}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Append),
        4 => (0usize..9).prop_map(Step::Expunge),
        4 => (0usize..9, 0usize..3).prop_map(|(n, flags)| Step::Flag(n, flags)),
        1 => Just(Step::Renumber),
        4 => (0usize..9).prop_map(Step::Tell),
        1 => Just(Step::Lie),
        3 => (0usize..3).prop_map(Step::Bring),
        3 => (0usize..9, 0usize..3).prop_map(|(n, flags)| Step::Mark(n, flags)),
        3 => (0usize..9).prop_map(Step::Remove),
        2 => Just(Step::Look),
        2 => (0usize..9).prop_map(Step::Find),
        5 => (prop::option::of(0usize..12), 0usize..9).prop_map(|(cut, n)| Step::Sync(cut, n)),
        2 => Just(Step::Backup),
        3 => (0usize..4, prop::option::of(0usize..12)).prop_map(|(arrive, cut)| Step::Restore(arrive, cut)),
    ];
    prop::collection::vec(step, 0..60)
}

/// Carries out everything but a sync.
fn take(mailbox: &mut Mailbox, server: &mut Server, step: &Step) {
    server.change(step);
    // Nobody has something to say about another generation than the one that is known.
    let is_known = mailbox.validity().is_some_and(|known| known.0 == server.validity);
    match *step {
        Step::Tell(n) if !server.news.is_empty() => {
            let event = server.news.remove(n % server.news.len());
            if is_known {
                mailbox.apply(event);
            }
        }
        Step::Lie if server.kind == Kind::Qresync => drop(mailbox.apply(Event::Gone(UidSet::range(1, u32::MAX)))),
        Step::Look => drop(mailbox.apply(Event::Opened(server.opened()))),
        Step::Bring(flags) if is_known => {
            let Some(uid) = Uid::new(server.uid_next - 1) else { return };
            let flags = Flags::from_wire([FLAGS[flags].as_bytes()]);
            mailbox.apply(Event::Brought(Summary::new(uid, 0, server.made, flags, 0, &Envelope::default())));
        }
        Step::Find(n) if is_known => drop(server.uid(n).map(|uid| mailbox.apply(server.message(uid)))),
        // What was told last was our own.
        Step::Mark(..) | Step::Remove(_) if is_known => drop(server.news.last().cloned().map(|e| mailbox.apply(e))),
        _ => {}
    }
}

/// The server was known, and comes back from its backup, if that can be seen at all.
fn restore(mailbox: &mut Mailbox, server: &mut Server, arrive: usize, cut: Option<usize>) {
    sync(mailbox, server, None, nothing);
    let then = mailbox.listed().unwrap();
    let restored = server.restored(arrive);
    if arrive > 0 && !restored.opened().is_before(&then) {
        return;
    }
    *server = restored;
    // The first two are applied together.
    sync(mailbox, server, cut.map(|cut| cut + 2), nothing);
    (0..arrive * 2).for_each(|_| server.change(&Step::Append));
    sync(mailbox, server, None, nothing);
}

/// Messages by UID: flags, and the size, which tells one from another.
type Table = BTreeMap<u32, (String, u64)>;

proptest! {
    #[test]
    fn one_whole_sync_ends_in_what_the_server_has_and_another_changes_nothing(
        kind in prop_oneof![Just(Kind::Qresync), Just(Kind::Condstore), Just(Kind::Plain)],
        steps in steps(),
    ) {
        let (mut server, mut mailbox) = (Server::new(kind), Mailbox::default());
        for step in &steps {
            if let Step::Restore(arrive, cut) = step {
                restore(&mut mailbox, &mut server, *arrive, *cut);
            }
            let Step::Sync(cut, n) = step else {
                take(&mut mailbox, &mut server, step);
                continue;
            };
            let between = [
                Step::Tell(0), Step::Append, Step::Expunge(1), Step::Flag(0, 1), Step::Bring(1), Step::Mark(0, 2),
                Step::Remove(0), Step::Look, Step::Find(1),
            ];
            let done = sync(&mut mailbox, &mut server, *cut, |mailbox, server| {
                // What is there already is told in one go with the change.
                take(mailbox, server, &between[*n]);
            });
            // What seems to be current is what the server has, but for flags where it does not count changes.
            if done.is_some() && mailbox.is_current(&server.opened()) {
                let known: Vec<u32> = mailbox.messages().map(|m| m.uid.get()).collect();
                prop_assert_eq!(known, server.messages.keys().copied().collect::<Vec<_>>());
            }
        }
        sync(&mut mailbox, &mut server, None, nothing);
        let known: Table = mailbox.messages().map(|m| (m.uid.get(), (m.flags.to_string(), m.size))).collect();
        let there = server.messages.iter();
        let there: Table = there.map(|(uid, (flags, _, size))| (*uid, (FLAGS[*flags].to_owned(), *size))).collect();
        prop_assert_eq!(known, there);
        prop_assert!(mailbox.is_current(&server.opened()));
        prop_assert_eq!(sync(&mut mailbox, &mut server, None, nothing), Some(vec![]));
    }
}
