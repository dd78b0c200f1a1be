//! Who walks a mailbox, and what to fetch ahead of them: pure, from the sequence of what was asked of which message.
//!
//! 1. A walker asks for one message after the other, in the order of the listing (UIDs) or of the sorted names (dates),
//!    up or down. Three in a row make a walk; two, when the first of them is at an end of the mailbox. When the mailbox
//!    has just been listed, structures, which are small, are fetched with that first one. Whoever asks here and there
//!    never gets anything fetched.
//! 2. What was wanted of one of the last messages is fetched of the next ones: `find` wants structures, `rg` texts, `cp -r` all.
//! 3. Batches grow while the walk goes on as fast as it is fed, and one batch at least is ahead; structures are ahead of contents, for what
//!    there is to fetch only they tell.
//! 4. A guess that a walker wants attachments, after messages that had none, ends with the first that he passes by.
//! 5. Nothing is fetched unless somebody asks: who stops walking costs what was ahead of him, at most [`BUDGET`],
//!    or [`SLOW_BUDGET`].

use std::collections::VecDeque;
use std::time::Duration;

use super::mailbox::Mailbox;
use super::uid::Uid;
use super::wants::{KINDS, Wants};

/// Messages in a row that make a walk.
const RUN: u32 = 3;

/// The same when the first is at an end of the mailbox.
const RUN_FROM_END: u32 = 2;

/// How many messages a batch is of.
#[derive(Clone, Copy, Debug)]
struct Batches {
    first: usize,
    /// Each is so many times the one before.
    growth: usize,
    most: usize,
}

/// Structures: some 300 octets each, a tenth of that compressed. The caller keeps more than twice as many as may be ahead,
/// which are two batches.
const STRUCTURES: Batches = Batches { first: 128, growth: 8, most: 512 };
/// Texts are small. Of parts more may be asked for soon, when those that are seen first have been looked at.
const TEXTS: Batches = Batches { first: 16, growth: 16, most: 256 };
const PARTS: Batches = Batches { growth: 4, ..TEXTS };

/// Who takes so long from one thing to the next is not waiting for us: his batches do not grow.
const SLOW: Duration = Duration::from_secs(1);

/// A program that lists a mailbox and then walks it begins within this time, with one of so many messages: each of its
/// threads begins somewhere.
const JUST: Duration = Duration::from_secs(2);
const THREADS: usize = 4;

/// Octets of contents that may be ahead of a walker, about, and once something more is wanted one message besides: half of
/// what is kept of texts.
pub const BUDGET: u64 = 8 << 20;
/// The same over a slow line: who comes when he has left is not to wait for long.
pub const SLOW_BUDGET: u64 = 1 << 20;

/// What was wanted of a message is fetched of so many further ones: not every message has an attachment.
const LASTS: u32 = 32;

/// A walker may leave out so many messages: those that the kernel knows.
const GAP: usize = 4;

/// Messages behind a walker that still count as his: programs with several threads are not strictly in order.
const BEHIND: usize = 32;

/// Who has not asked for so long has left.
const LEFT: Duration = Duration::from_secs(60);

/// Walkers that are followed, and readers that may become some.
const WALKERS: usize = 8;
const CANDIDATES: usize = 4;

/// Mailboxes with more messages are not followed by date: the order must be kept for it.
const MAX_DATED: usize = 100_000;

/// What should be fetched now, of which messages, in the order in which they will be wanted. What is known or on its way
/// already is the caller's to leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Messages that were listed.
    pub uids: Vec<Uid>,
    /// What of them.
    pub wants: Wants,
}

/// The way of a walker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    by_date: bool,
    back: bool,
}

/// The order of listings first: mostly that of names is the same.
const WAYS: [Way; 4] = [
    Way { by_date: false, back: false },
    Way { by_date: false, back: true },
    Way { by_date: true, back: false },
    Way { by_date: true, back: true },
];

/// A message ahead of a walker.
#[derive(Debug)]
struct Ahead {
    uid: Uid,
    size: u64,
    /// What of it was asked for.
    asked: Wants,
}

#[derive(Debug)]
struct Walker {
    /// Unknown after the first message.
    way: Option<Way>,
    at: Uid,
    from_end: bool,
    /// The mailbox had just been listed when it began.
    just_listed: bool,
    /// Messages so far.
    run: u32,
    /// What was wanted of the message it is at.
    wants: Wants,
    /// Of which message, by number, each thing was wanted last; 0 for none.
    wanted: [u32; KINDS],
    /// The last message whose other parts nobody asked for; 0 for none.
    refused: u32,
    behind: VecDeque<Uid>,
    ahead: VecDeque<Ahead>,
    /// The last batches of structures, texts and all else.
    batches: [usize; 3],
    last: Duration,
    is_slow: bool,
}

impl Walker {
    fn is_walk(&self) -> bool {
        self.run >= if self.from_end { RUN_FROM_END } else { RUN }
    }

    /// Is this a message that it may go to? Until it is a walk that is the next one.
    fn expects(&self, uid: Uid) -> bool {
        let reach = if self.is_walk() { BEHIND } else { 1 };
        self.ahead.iter().take(reach).any(|ahead| ahead.uid == uid)
    }

    /// What will be wanted of the next messages.
    fn next_wants(&self) -> Wants {
        let is_wanted = |last: u32| last > 0 && last + LASTS >= self.run;
        let kinds = (0..KINDS).filter(|kind| is_wanted(self.wanted[*kind]));
        let wants = kinds.fold(Wants::default(), |all, kind| all | Wants(1 << kind));
        // Who asks for all there is of messages without other parts will ask for those, unless he passed by some.
        let may_guess = !is_wanted(self.refused);
        let guess = match () {
            () if may_guess && wants.intersects(Wants::ALL_READ) => Wants::SIZES | Wants::SMALL,
            () if may_guess && wants.intersects(Wants::ALL_SIZES) => Wants::SIZES,
            () => Wants::default(),
        };
        wants.fetched() | guess
    }

    fn want(&mut self, wants: Wants) {
        self.wants = self.wants | wants;
        if wants.intersects(Wants::OF_PARTS) {
            self.refused = 0;
        }
        for kind in (0..KINDS).filter(|kind| wants.intersects(Wants(1 << kind))) {
            self.wanted[kind] = self.run;
        }
    }

    /// Of how many messages ahead all of this was asked for, and of how many more it should be now: none as long as the
    /// last batch is ahead, or when nothing is wanted.
    fn due(&self, wants: Wants, last: usize, batches: Batches) -> (usize, usize) {
        if wants.is_empty() {
            return (0, 0);
        }
        let ready = self.ahead.iter().take_while(|ahead| ahead.asked.contains(wants)).count();
        let batch = match last {
            0 => batches.first,
            _ if ready >= last => 0,
            _ if self.is_slow => last,
            _ => (last * batches.growth).min(batches.most),
        };
        (ready, batch)
    }

    /// Asks for this of messages ahead, from the first that it was not asked of, as far as the budget allows.
    fn ask_ahead(&mut self, wants: Wants, (ready, batch): (usize, usize), budget: u64) -> Option<Fetch> {
        // Refilled when half of it is used up, so that there are few fetches; but what was not wanted before comes at
        // once, and of the next message though the budget was spent on other things.
        let spent: u64 = self.ahead.iter().map(|a| a.asked.cost(a.size)).sum();
        let mut is_next = ready == 0;
        let mut room = if !is_next && spent > budget / 2 { 0 } else { budget.saturating_sub(spent) };
        let mut uids = Vec::new();
        for message in self.ahead.iter_mut().take(ready + batch).filter(|a| !a.asked.contains(wants)) {
            let asked = message.asked | wants;
            let cost = asked.cost(message.size).saturating_sub(message.asked.cost(message.size));
            if cost > room && !is_next {
                break;
            }
            (room, is_next, message.asked) = (room.saturating_sub(cost), false, asked);
            uids.push(message.uid);
        }
        (!uids.is_empty()).then_some(Fetch { uids, wants })
    }

    fn go_to(&mut self, uid: Uid) {
        let passed = self.ahead.iter().position(|a| a.uid == uid).map_or(0, |at| at + 1);
        self.behind.push_back(self.at);
        self.behind.extend(self.ahead.drain(..passed).map(|a| a.uid).filter(|passed| *passed != uid));
        self.behind.drain(..self.behind.len().saturating_sub(BEHIND));
        self.at = uid;
        if self.wants.intersects(Wants::HAS_PARTS) && !self.wants.intersects(Wants::OF_PARTS) {
            self.refused = self.run;
        }
        self.run = self.run.saturating_add(1);
        self.wants = Wants::default();
    }
}

/// The messages of a mailbox by date, as long as it is the same.
#[derive(Debug)]
struct Dates {
    count: usize,
    last: Option<Uid>,
    /// Empty when the UIDs have the same order.
    order: Vec<(i64, Uid)>,
}

/// The walkers of one mailbox.
#[derive(Debug, Default)]
pub struct Walks {
    walkers: Vec<Walker>,
    dates: Option<Dates>,
    /// Dates of the last messages that nobody was expected to ask for.
    jumps: VecDeque<i64>,
    /// When the mailbox was listed, at how many messages somebody began since, and whether one was at an end of it.
    listed: Option<(Duration, usize, bool)>,
}

impl Walks {
    /// Somebody lists the mailbox.
    pub fn list(&mut self, now: Duration) {
        self.listed = Some((now, 0, false));
    }

    /// Somebody wants this of a message; `now` is a time since any fixed one. What to fetch ahead of him, and whether he
    /// will mostly read on: who walks, and who comes just after a listing. `budget`: octets that may be ahead of him.
    pub fn ask(
        &mut self,
        now: Duration,
        mailbox: &Mailbox,
        (uid, wants): (Uid, Wants),
        budget: u64,
    ) -> (Vec<Fetch>, bool) {
        self.walkers.retain(|w| now.saturating_sub(w.last) < LEFT);
        let at = self.follow(mailbox, uid).unwrap_or_else(|| self.begin(now, mailbox, uid));
        let walker = &mut self.walkers[at];
        walker.is_slow = walker.run > 1 && now.saturating_sub(walker.last) > SLOW;
        walker.last = now;
        if walker.wants.contains(wants) {
            return (Vec::new(), false);
        }
        let begins = walker.just_listed && walker.run == 1 && walker.wants.is_empty();
        walker.want(wants);
        let fetches = self.plan(mailbox, at, (uid, wants), budget);
        let reads_on = begins || !fetches.is_empty();
        (fetches, reads_on)
    }

    /// The walker whose next message this is, or who is at it.
    fn follow(&mut self, mailbox: &Mailbox, uid: Uid) -> Option<usize> {
        let walkers = &self.walkers;
        let is_here = walkers.iter().position(|w| w.at == uid || w.behind.contains(&uid));
        if let Some(at) = is_here {
            return Some(at);
        }
        let is_ahead = walkers.iter().position(|w| w.expects(uid));
        if let Some(at) = is_ahead {
            self.walkers[at].go_to(uid);
            return Some(at);
        }
        self.look_at_dates(mailbox, uid);
        let (at, way) = self.walkers.iter().enumerate().find_map(|(at, walker)| {
            let reach = if walker.is_walk() { GAP } else { 1 };
            let mut ways = WAYS.into_iter().filter(|way| walker.way.is_none_or(|known| known == *way));
            ways.find(|way| self.beside(mailbox, *way, walker.at, reach).iter().any(|next| next.0 == uid))
                .map(|way| (at, way))
        })?;
        self.walkers[at].way = Some(way);
        self.walkers[at].go_to(uid);
        Some(at)
    }

    /// Somebody who was not seen before. Walks are forgotten last.
    fn begin(&mut self, now: Duration, mailbox: &Mailbox, uid: Uid) -> usize {
        for (is_walk, most) in [(true, WALKERS), (false, CANDIDATES)] {
            let same = || self.walkers.iter().enumerate().filter(|(_, w)| w.is_walk() == is_walk);
            if same().count() >= most
                && let Some(oldest) = same().min_by_key(|(_, w)| w.last).map(|(at, _)| at)
            {
                self.walkers.remove(oldest);
            }
        }
        let ends = [mailbox.messages().next(), mailbox.messages().next_back()];
        let end = ends.iter().position(|message| message.is_some_and(|message| message.uid == uid));
        let just_listed =
            self.listed.take().filter(|(at, begun, _)| now.saturating_sub(*at) < JUST && *begun < THREADS);
        self.listed = just_listed.map(|(at, begun, at_end)| (at, begun + 1, at_end || end.is_some()));
        let is_first = just_listed.is_some_and(|(.., at_end)| !at_end);
        self.walkers.push(Walker {
            way: end.filter(|_| is_first).map(|end| Way { by_date: false, back: end == 1 }),
            at: uid,
            from_end: end.is_some(),
            just_listed: just_listed.is_some(),
            run: 1,
            wants: Wants::default(),
            wanted: [0; KINDS],
            refused: 0,
            behind: VecDeque::new(),
            ahead: VecDeque::new(),
            batches: [0; 3],
            last: Duration::ZERO,
            is_slow: false,
        });
        self.walkers.len() - 1
    }

    /// Three unexpected messages whose dates go one way may be a walk by name.
    fn look_at_dates(&mut self, mailbox: &Mailbox, uid: Uid) {
        let last = mailbox.messages().next_back().map(|message| message.uid);
        if self.dates.as_ref().is_some_and(|dates| dates.count != mailbox.len() || dates.last != last) {
            self.dates = None;
        }
        let Some(message) = mailbox.get(uid) else { return };
        self.jumps.push_back(message.internal_date);
        self.jumps.drain(..self.jumps.len().saturating_sub(3));
        let goes_one_way =
            self.jumps.len() == 3 && (self.jumps.iter().is_sorted() || self.jumps.iter().rev().is_sorted());
        if !goes_one_way || self.dates.is_some() || mailbox.len() > MAX_DATED {
            return;
        }
        let mut order: Vec<(i64, Uid)> = mailbox.messages().map(|m| (m.internal_date, m.uid)).collect();
        if order.is_sorted() {
            order.clear()
        } else {
            order.sort_unstable()
        }
        self.dates = Some(Dates { count: mailbox.len(), last, order });
    }

    /// The next messages on a way, and their sizes.
    fn beside(&self, mailbox: &Mailbox, way: Way, uid: Uid, count: usize) -> Vec<(Uid, u64)> {
        if !way.by_date {
            return mailbox.beside(uid, way.back).take(count).map(|m| (m.uid, m.size)).collect();
        }
        let (Some(dates), Some(message)) = (&self.dates, mailbox.get(uid)) else { return Vec::new() };
        let key = (message.internal_date, uid);
        let sized = |(_, uid): &(i64, Uid)| mailbox.get(*uid).map(|m| (m.uid, m.size));
        if way.back {
            let end = dates.order.partition_point(|other| *other < key);
            dates.order[..end].iter().rev().filter_map(sized).take(count).collect()
        } else {
            let start = dates.order.partition_point(|other| *other <= key);
            dates.order[start..].iter().filter_map(sized).take(count).collect()
        }
    }

    /// What to fetch for a walker who asks for this.
    fn plan(&mut self, mailbox: &Mailbox, at: usize, asked: (Uid, Wants), budget: u64) -> Vec<Fetch> {
        let walker = &self.walkers[at];
        let Some(way) = walker.way else { return Vec::new() };
        // Where the way is known after one message the mailbox was just listed.
        let is_walk = walker.is_walk();
        if !is_walk && walker.run > 1 {
            return Vec::new();
        }
        let wants = walker.next_wants();
        let of_walk = if is_walk { wants.without(Wants::STRUCTURE) } else { Wants::default() };
        let kinds = [
            (wants.within(Wants::STRUCTURE), STRUCTURES),
            (of_walk.within(Wants::TEXTS), TEXTS),
            (of_walk.without(Wants::TEXTS), PARTS),
        ];
        let due: [_; 3] = std::array::from_fn(|kind| walker.due(kinds[kind].0, walker.batches[kind], kinds[kind].1));
        let reach = due.iter().map(|(ready, batch)| ready + batch).max().unwrap_or(0);
        let end = walker.ahead.back().map_or(walker.at, |a| a.uid);
        let more = self.beside(mailbox, way, end, reach.saturating_sub(walker.ahead.len()));
        let walker = &mut self.walkers[at];
        let more = more.into_iter().map(|(uid, size)| Ahead { uid, size, asked: Wants::default() });
        walker.ahead.extend(more);
        let mut fetches = Vec::new();
        for (kind, (ready, batch)) in due.into_iter().enumerate().filter(|(_, (_, batch))| *batch > 0) {
            if let Some(mut fetch) = walker.ask_ahead(kinds[kind].0, (ready, batch), budget) {
                // What the first batch brings will be wanted of the message that he has come to as well, unless that is
                // what he asks for: another thread of his may be at it, and get to it late.
                let is_asked = asked.0 == walker.at && asked.1.intersects(fetch.wants);
                if kind > 0 && walker.batches[kind] == 0 && !is_asked {
                    fetch.uids.insert(0, walker.at);
                }
                fetches.push(fetch);
                walker.batches[kind] = batch;
            }
        }
        fetches
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
