//! Recorded walks: what programs ask for, message by message, and what of it had been fetched ahead.

use super::*;
use crate::mail::envelope::{Envelope, Summary};
use crate::mail::flag::Flags;
use crate::mail::mailbox::Event;
use crate::mail::wants::MAX_OBJECT;

/// Milliseconds that pass between two questions of a program.
const PACE: u64 = 5;

/// Messages with UIDs 10, 20, 30 …; a date is what `date` makes of the number of the message.
fn mailbox(count: u32, size: u64, date: impl Fn(u32) -> i64) -> Mailbox {
    let mut mailbox = Mailbox::default();
    for number in 0..count {
        let summary = Summary::new(uid(number), date(number), size, Flags::default(), 0, &Envelope::default());
        mailbox.apply(Event::Message(summary));
    }
    mailbox
}

fn usual() -> Mailbox {
    mailbox(200, 5000, |number| i64::from(number) * 3600)
}

fn uid(number: u32) -> Uid {
    Uid::new(number * 10 + 10).unwrap()
}

/// What came of a recording.
#[derive(Debug, Default)]
struct Seen {
    /// Questions that nobody had asked ahead.
    misses: usize,
    /// What was fetched ahead: message and want, bit by bit, without what had been asked for already.
    ahead: Vec<(Uid, u16)>,
    /// Of those what was never wanted.
    waste: usize,
    fetches: Vec<Fetch>,
}

/// Plays questions, in their order, with the time of each in milliseconds.
fn play(mailbox: &Mailbox, asked: impl IntoIterator<Item = (u64, u32, Wants)>) -> Seen {
    let mut walks = Walks::default();
    let mut seen = Seen::default();
    let mut wanted = Vec::new();
    let bits =
        |uid: Uid, wants: Wants| (0..7).map(|bit| 1 << bit).filter(move |b| wants.0 & b != 0).map(move |b| (uid, b));
    for (at, number, wants) in asked {
        let new: Vec<_> = bits(uid(number), wants).filter(|want| !wanted.contains(want)).collect();
        seen.misses += new.iter().filter(|want| !seen.ahead.contains(want)).count();
        wanted.extend(new);
        for fetch in walks.ask(Duration::from_millis(at), mailbox, (uid(number), wants), BUDGET).0 {
            assert!(!fetch.uids.is_empty());
            for uid in &fetch.uids {
                let more: Vec<_> =
                    bits(*uid, fetch.wants).filter(|w| !seen.ahead.contains(w) && !wanted.contains(w)).collect();
                seen.ahead.extend(more);
            }
            seen.fetches.push(fetch);
        }
    }
    // What is not there costs nothing.
    let is_there = |(uid, bit): &(Uid, u16)| {
        *bit < Wants::SMALL.0 && (has_parts(uid.get() / 10 - 1) || *bit & Wants::OF_PARTS.0 == 0)
    };
    seen.waste = seen.ahead.iter().filter(|want| is_there(want) && !wanted.contains(want)).count();
    seen
}

/// The questions of a program for each of these messages.
fn program(numbers: impl IntoIterator<Item = u32>, each: impl Fn(u32) -> Vec<Wants>) -> Vec<(u64, u32, Wants)> {
    let all = numbers.into_iter().flat_map(|number| each(number).into_iter().map(move |wants| (number, wants)));
    all.enumerate().map(|(at, (number, wants))| (at as u64 * PACE, number, wants)).collect()
}

fn find(_: u32) -> Vec<Wants> {
    vec![Wants::STRUCTURE]
}

/// Every fourth message has an attachment.
fn has_parts(number: u32) -> bool {
    number.is_multiple_of(4)
}

fn of_texts(number: u32, all: Wants) -> Wants {
    Wants::TEXTS | if has_parts(number) { Wants::HAS_PARTS } else { all }
}

/// Each file is looked at, opened and read: `grep -r`, `cp -r`, `tar`.
fn reads_all(number: u32) -> Vec<Wants> {
    let mut all = vec![Wants::STRUCTURE, of_texts(number, Wants::ALL_SIZES), of_texts(number, Wants::ALL_READ)];
    if has_parts(number) {
        all.extend([Wants::SIZES | Wants::HAS_PARTS, Wants::PARTS | Wants::HAS_PARTS]);
    }
    all
}

/// Each file is looked at: `ls -l` in each message, a file manager that stats all.
fn looks_at_all(number: u32) -> Vec<Wants> {
    let sizes = has_parts(number).then_some(Wants::SIZES | Wants::HAS_PARTS);
    [Wants::STRUCTURE, of_texts(number, Wants::ALL_SIZES)].into_iter().chain(sizes).collect()
}

/// Only texts are opened: `rg -g '*.txt'`.
fn reads_texts(number: u32) -> Vec<Wants> {
    vec![Wants::STRUCTURE, of_texts(number, Wants::ALL_READ)]
}

fn reads_messages(_: u32) -> Vec<Wants> {
    vec![Wants::WHOLE]
}

#[test]
fn walks_are_seen_after_two_or_three_messages_and_fetch_what_will_be_wanted() {
    type Program = fn(u32) -> Vec<Wants>;
    let up: Vec<u32> = (0..200).collect();
    let down: Vec<u32> = (0..200).rev().collect();
    let middle: Vec<u32> = (50..200).collect();
    // What is asked for of the first messages is missed; and nothing else, and nothing is fetched in vain.
    let cases: [(&str, Program, &[u32], usize, usize); 9] = [
        ("find", find, &up, 2, 0),
        ("find from the middle", find, &middle, 3, 0),
        ("grep -r, cp -r, tar", reads_all, &up, 6, 0),
        ("the same from the end", reads_all, &down, 6, 0),
        ("ls -l in each", looks_at_all, &up, 5, 0),
        ("rg -g *.txt", reads_texts, &up, 4, 0),
        ("rg from the end", reads_texts, &down, 4, 20),
        ("grep in .eml", reads_messages, &up, 2, 0),
        ("the same from the middle", reads_messages, &middle, 3, 0),
    ];
    for (name, each, numbers, misses, waste) in cases {
        let seen = play(&usual(), program(numbers.iter().copied(), each));
        assert!(seen.misses <= misses && seen.waste <= waste, "{name}: {} {}", seen.misses, seen.waste);
        assert!(seen.fetches.len() <= 24, "{name}: {:?}", seen.fetches);
    }
}

#[test]
fn who_lists_names_only_or_asks_here_and_there_gets_nothing() {
    let seen = play(&usual(), program([], find));
    assert!(seen.fetches.is_empty());
    let mut at = 7;
    let random = std::iter::repeat_with(move || {
        at = (at * 137 + 71) % 199;
        at
    });
    for each in [find, reads_all, reads_messages] {
        let seen = play(&mailbox(2000, 5000, i64::from), program(random.take(150), each));
        assert!(seen.fetches.is_empty(), "{:?}", seen.fetches);
    }
}

#[test]
fn two_messages_side_by_side_are_no_walk_and_one_that_is_looked_at_again_is_none() {
    for numbers in [&[20, 21, 90, 91, 50, 49, 120][..], &[30, 30, 31, 30, 31, 31, 30]] {
        let seen = play(&usual(), program(numbers.iter().copied(), reads_all));
        assert!(seen.fetches.is_empty(), "{numbers:?}: {:?}", seen.fetches);
    }
}

#[test]
fn walkers_side_by_side_are_each_followed() {
    let one = program(0..100, reads_all);
    let two = program((100..200).rev(), find);
    let both: Vec<_> =
        one.iter().flat_map(|a| [Some(*a), two.get(a.0 as usize / PACE as usize).copied()]).flatten().collect();
    let seen = play(&usual(), both);
    assert!(seen.misses <= 10, "{}", seen.misses);
}

#[test]
fn threads_that_share_a_walk_are_one_walker() {
    // fd and rg: in order, but for what runs at the same time.
    let numbers = (0..200).map(|n: u32| if n < 10 { n } else { n ^ 1 });
    let seen = play(&usual(), program(numbers, reads_all));
    assert!(seen.misses <= 8, "{}", seen.misses);
}

#[test]
fn a_walk_in_the_order_of_names_is_followed_by_date() {
    // An imported mailbox: the dates have nothing to do with the UIDs.
    let mailbox = mailbox(200, 5000, |number| i64::from((number * 77) % 199));
    let mut numbers: Vec<u32> = (0..199).collect();
    numbers.sort_by_key(|number| (number * 77) % 199);
    for back in [false, true] {
        let seen = play(&mailbox, program(numbers.iter().copied(), reads_texts));
        assert!(seen.misses <= 12, "{back}: {}", seen.misses);
        numbers.reverse();
    }
}

#[test]
fn who_passes_attachments_by_gets_none() {
    let seen = play(&usual(), program(0..200, reads_texts));
    assert!(seen.fetches.iter().all(|fetch| !fetch.wants.intersects(Wants::OF_PARTS)), "{:?}", seen.fetches);
}

#[test]
fn batches_grow_with_one_batch_ahead_and_not_for_who_takes_his_time() {
    let sizes = |seen: &Seen, wants: Wants| -> Vec<usize> {
        seen.fetches.iter().filter(|fetch| fetch.wants.contains(wants)).map(|fetch| fetch.uids.len()).collect()
    };
    let (whole, texts, parts) = (Wants::WHOLE, Wants::TEXTS, Wants::SIZES | Wants::PARTS);
    for (each, wants, expected) in [
        (reads_messages as fn(u32) -> Vec<Wants>, whole, &[16, 64, 256, 256, 256][..]),
        (reads_texts, texts, &[17, 256, 256]),
        // What is seen of parts may change, texts stay texts.
        (reads_all, texts, &[17, 256, 256]),
        (reads_all, parts, &[17, 64, 256]),
    ] {
        let all = sizes(&play(&mailbox(2000, 100, i64::from), program(0..2000, each)), wants);
        assert!(all.starts_with(expected), "{wants:?}: {all:?}");
    }
    let slow = program(0..100, reads_messages).into_iter().map(|(at, number, wants)| (at * 400, number, wants));
    assert!(sizes(&play(&usual(), slow), whole).iter().all(|count| *count <= TEXTS.first));
}

#[test]
fn large_messages_are_fetched_within_a_budget() {
    for size in [100_000, 3_000_000, 60_000_000] {
        let mailbox = mailbox(500, size, i64::from);
        let mut walks = Walks::default();
        let mut ahead = std::collections::BTreeSet::new();
        for number in 0..500 {
            ahead.remove(&uid(number));
            let (fetches, _) = walks.ask(Duration::ZERO, &mailbox, (uid(number), Wants::WHOLE), BUDGET);
            ahead.extend(fetches.into_iter().flat_map(|fetch| fetch.uids));
            let octets = ahead.len() as u64 * size.min(MAX_OBJECT);
            assert!(octets <= BUDGET, "{size}: {octets} octets ahead");
            assert!(!(5..=490).contains(&number) || octets > 0, "{size}: nothing ahead at {number}");
        }
    }
}

/// Each file is copied. One in so many messages, from 3 on, has an attachment of 2 MiB, which is read further than others.
fn copies_all(number: u32, every: u32) -> Vec<Wants> {
    if number % every != 3 % every {
        return vec![Wants::STRUCTURE, Wants::TEXTS | Wants::ALL_READ];
    }
    let of_parts = [Wants::SIZES, Wants::PARTS, Wants::THROUGH];
    [Wants::STRUCTURE, Wants::TEXTS].into_iter().chain(of_parts).map(|wants| wants | Wants::HAS_PARTS).collect()
}

#[test]
fn what_is_newly_wanted_is_fetched_within_the_budget_and_of_the_next_message_in_any_case() {
    // How many messages lie between large ones, and which of those come when the first has been read through.
    for (every, first) in [(50, &[53, 103][..]), (10, &[13]), (1, &[4])] {
        let mut mailbox = Mailbox::default();
        for number in 0..200 {
            let size = if number % every == 3 % every { 2_900_000 } else { 5000 };
            let summary = Summary::new(uid(number), 0, size, Flags::default(), 0, &Envelope::default());
            mailbox.apply(Event::Message(summary));
        }
        let walk = |numbers: std::ops::Range<u32>| play(&mailbox, program(numbers, |number| copies_all(number, every)));
        let is_large = |uid: &Uid| (uid.get() / 10 - 1) % every == 3 % every;
        let through = |seen: &Seen| -> Vec<Uid> {
            let fetches = seen.fetches.iter().filter(|fetch| fetch.wants.contains(Wants::THROUGH));
            fetches.flat_map(|fetch| fetch.uids.clone()).filter(is_large).collect()
        };
        let begun = through(&walk(0..4));
        assert!(first.iter().all(|number| begun.contains(&uid(*number))), "{every}: {begun:?}");
        // The others when there is room again, each before it is wanted.
        let all = walk(0..200);
        assert!(all.misses <= 10, "{every}: {}", all.misses);
        assert!(through(&all).is_sorted(), "{every}");
    }
}

#[test]
fn who_comes_back_after_a_while_begins_anew() {
    let first = program(0..20, reads_messages);
    let after = [20, 21].map(|number| (3_600_000, number, Wants::WHOLE));
    let before = play(&usual(), first.clone()).fetches.len();
    let seen = play(&usual(), first.into_iter().chain(after));
    assert_eq!(seen.fetches.len(), before);
}

#[test]
fn who_begins_right_after_a_listing_gets_structures_with_the_first_message_and_no_more() {
    let mailbox = usual();
    let ask = |walks: &mut Walks, at: u64, number: u32, wants: Wants| {
        let (fetches, _) = walks.ask(Duration::from_millis(at), &mailbox, (uid(number), wants), BUDGET);
        fetches.into_iter().map(|fetch| (fetch.wants, fetch.uids[0], fetch.uids.len())).collect::<Vec<_>>()
    };
    for (first, second) in [(0, 1), (199, 198)] {
        let mut walks = Walks::default();
        walks.list(Duration::ZERO);
        assert_eq!(ask(&mut walks, 1, first, Wants::STRUCTURE), [(Wants::STRUCTURE, uid(second), STRUCTURES.first)]);
        assert_eq!(ask(&mut walks, 2, first, Wants::TEXTS), []);
        // Another one is no walk, though its structure is known by now.
        assert_eq!(ask(&mut walks, 3, 100, Wants::STRUCTURE | Wants::TEXTS), []);
        // Its own text comes with those behind it: another thread that is at those keeps nobody from it.
        let more = ask(&mut walks, 4, second, Wants::STRUCTURE);
        assert_eq!(more.last(), Some(&(Wants::TEXTS, uid(second), 1 + TEXTS.first)));
    }
    // Threads begin at several places at once; who asks here and there did not list it to walk it.
    for (others, fetched) in [(1, 1), (3, 1), (4, 0)] {
        let mut walks = Walks::default();
        walks.list(Duration::ZERO);
        for number in 0..others {
            assert_eq!(ask(&mut walks, 1, 50 + number * 30, Wants::STRUCTURE), []);
        }
        assert_eq!(ask(&mut walks, 2, 0, Wants::STRUCTURE).len(), fetched, "{others}");
        assert_eq!(ask(&mut walks, 3, 199, Wants::STRUCTURE), [], "{others}");
    }
    // Long after the listing, or in the middle of it, one message is one message.
    for (at, number) in [(60_000, 0), (1, 50)] {
        let mut walks = Walks::default();
        walks.list(Duration::ZERO);
        assert_eq!(ask(&mut walks, at, number, Wants::STRUCTURE), []);
    }
}

#[test]
fn the_first_messages_after_a_listing_and_those_of_a_walk_are_mostly_read() {
    let mailbox = usual();
    let mut walks = Walks::default();
    walks.list(Duration::ZERO);
    let mut ask = |at: u64, number: u32, wants: Wants| {
        walks.ask(Duration::from_millis(at), &mailbox, (uid(number), wants), BUDGET).1
    };
    // Of each thread, wherever it begins, and also when one began at an end; then of nobody who asks here and there.
    let begun = [199, 50, 80, 110, 140].map(|number| ask(1, number, Wants::STRUCTURE));
    assert_eq!(begun, [true, true, true, true, false]);
    assert!(!ask(1, 50, Wants::STRUCTURE), "it was asked before");
    assert!(!ask(1, 50, Wants::PARTS), "who reads there tells no more of what he will read");
    assert!(!ask(3000, 170, Wants::STRUCTURE));
    let walked = [100, 101, 102].map(|number| ask(3001, number, Wants::STRUCTURE));
    assert_eq!(walked, [false, false, true]);
}
