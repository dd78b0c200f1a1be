//! What of which message a FETCH has been answered.

use std::collections::HashMap;

use crate::mail::uid::{Uid, UidSet};

/// The items of a FETCH, a bit each, that have been answered of each message. Of messages that come whole and in their order,
/// as they do from a mailbox that is listed, it holds ranges and no more.
#[derive(Debug, Default)]
pub struct Answered {
    /// Those of which everything has been answered, as far as they came in their order.
    whole: UidSet,
    others: HashMap<Uid, u64>,
}

impl Answered {
    /// The items that have been answered of this message.
    pub fn items(&self, uid: Uid) -> u64 {
        if self.whole.contains(uid) { u64::MAX } else { self.others.get(&uid).copied().unwrap_or(0) }
    }

    /// These have been, of `all` items that the FETCH has.
    pub fn set(&mut self, uid: Uid, items: u64, all: usize) {
        let is_whole = u32::try_from(all).is_ok_and(|all| items.trailing_ones() >= all);
        let is_next = self.whole.ranges().last().is_none_or(|&(_, last)| last < uid.get());
        if is_whole && is_next {
            self.others.remove(&uid);
            self.whole.insert(uid);
        } else {
            self.others.insert(uid, items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(n: u32) -> Uid {
        Uid::new(n).unwrap()
    }

    #[test]
    fn what_was_set_is_told_in_whatever_order_it_came() {
        let mut answered = Answered::default();
        for (n, items) in [(5, 0b111), (6, 0b101), (3, 0b111), (9, 0b111), (6, 0b111), (2, 0b010)] {
            answered.set(uid(n), items, 3);
            assert_eq!(answered.items(uid(n)) & 0b111, items, "{n}");
        }
        let all = (1..11).map(|n| answered.items(uid(n)) & 0b111);
        assert_eq!(all.collect::<Vec<_>>(), [0, 0b010, 0b111, 0, 0b111, 0b111, 0, 0, 0b111, 0]);
    }

    #[test]
    fn a_listing_is_held_in_ranges() {
        let mut answered = Answered::default();
        (1..100_000).for_each(|n| answered.set(uid(n), u64::MAX, 64));
        assert!(answered.others.is_empty() && answered.whole.ranges().len() == 1);
    }
}
