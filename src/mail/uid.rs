//! UIDs and sets of UIDs, RFC 9051 section 2.3.1.1 and the `sequence-set` of section 9.

use std::fmt;
use std::num::NonZeroU32;

/// A message's UID in its mailbox: 1 to 2^32-1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(NonZeroU32);

impl Uid {
    /// The UID with this number; `None` for 0, which no message can have.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The generation of a mailbox's UIDs. 0 is not a legal value; servers that send it are treated as having none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UidValidity(pub u32);

/// A set of UIDs, kept as sorted ranges that neither touch nor overlap, so `1:4294967295` costs one range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidSet {
    // Invariant: sorted, 1 <= first <= last, and each range begins at least 2 above the end of the one before.
    ranges: Vec<(u32, u32)>,
}

impl UidSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of `first..=last`, either way round; 0 is left out.
    pub fn range(first: u32, last: u32) -> Self {
        let mut set = Self::new();
        set.insert_range(first, last);
        set
    }

    /// Adds `first..=last`, either way round (RFC 9051 allows both); 0 is left out. O(log n) at the end, O(n) elsewhere.
    pub fn insert_range(&mut self, first: u32, last: u32) {
        let (first, last) = (first.min(last).max(1), first.max(last));
        if last == 0 {
            return;
        }
        // Ranges that touch or overlap the new one: [start, end).
        let start =
            self.ranges.partition_point(|r| r.1 < first.saturating_sub(1).max(1) || r.1.saturating_add(1) < first);
        let end = self.ranges.partition_point(|r| r.0 <= last.saturating_add(1));
        if start >= end {
            self.ranges.insert(start, (first, last));
        } else {
            let merged = (self.ranges[start].0.min(first), self.ranges[end - 1].1.max(last));
            self.ranges.splice(start..end, [merged]);
        }
    }

    /// Adds one UID.
    pub fn insert(&mut self, uid: Uid) {
        self.insert_range(uid.get(), uid.get());
    }

    /// Is the UID in the set?
    pub fn contains(&self, uid: Uid) -> bool {
        let at = self.ranges.partition_point(|r| r.1 < uid.get());
        self.ranges.get(at).is_some_and(|r| r.0 <= uid.get())
    }

    /// True when it holds no UID.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many UIDs it holds.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|r| u64::from(r.1) - u64::from(r.0) + 1).sum()
    }

    /// The ranges, ascending, ends included.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// The UIDs, ascending. A hostile `1:4294967295` yields four thousand million: clip by what is known first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Uid> + '_ {
        self.ranges.iter().flat_map(|r| r.0..=r.1).filter_map(Uid::new)
    }

    /// Parses a `sequence-set` of numbers, such as `304,319:320`; `*` and 0 are refused. `None` when it is not one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut ranges = Vec::new();
        for item in text.split(',') {
            let (first, last) = item.split_once(':').unwrap_or((item, item));
            let number = |s: &str| {
                s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u32>().ok()).flatten().filter(|n| *n > 0)
            };
            let (first, last) = (number(first)?, number(last)?);
            ranges.push((first.min(last), first.max(last)));
        }
        ranges.sort_unstable();
        let mut set = Self::new();
        for (first, last) in ranges {
            set.insert_range(first, last);
        }
        Some(set)
    }

    /// The set cut into sets whose text is at most `max` octets each: servers limit the length of a command line
    /// (Stalwart 4096 octets an argument, Courier 8 kB, Dovecot 64 kB). Every UID is in exactly one of them.
    pub fn split(&self, max: usize) -> Vec<UidSet> {
        let mut sets = Vec::new();
        let mut current = UidSet::new();
        let mut length = 0;
        for &(first, last) in &self.ranges {
            let item = format_range(first, last).len() + 1;
            if length + item > max && !current.ranges.is_empty() {
                sets.push(std::mem::take(&mut current));
                length = 0;
            }
            current.ranges.push((first, last));
            length += item;
        }
        if !current.ranges.is_empty() {
            sets.push(current);
        }
        sets
    }

    /// The set cut into sets of at most `count` UIDs each, ascending.
    pub fn chunks(&self, count: u32) -> Vec<UidSet> {
        let mut sets = Vec::new();
        let mut current = UidSet::new();
        let mut room = count.max(1);
        for &(mut first, last) in &self.ranges {
            loop {
                let take = room.min((last - first).saturating_add(1));
                current.ranges.push((first, first + (take - 1)));
                room -= take;
                if room == 0 {
                    sets.push(std::mem::take(&mut current));
                    room = count.max(1);
                }
                match first.checked_add(take) {
                    Some(next) if next <= last => first = next,
                    _ => break,
                }
            }
        }
        if !current.ranges.is_empty() {
            sets.push(current);
        }
        sets
    }
}

impl FromIterator<Uid> for UidSet {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        let mut numbers: Vec<u32> = uids.into_iter().map(Uid::get).collect();
        numbers.sort_unstable();
        let mut set = Self::new();
        for number in numbers {
            match set.ranges.last_mut() {
                Some(last) if last.1.saturating_add(1) >= number => last.1 = last.1.max(number),
                _ => set.ranges.push((number, number)),
            }
        }
        set
    }
}

fn format_range(first: u32, last: u32) -> String {
    if first == last { first.to_string() } else { format!("{first}:{last}") }
}

impl fmt::Display for UidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, &(first, last)) in self.ranges.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            f.write_str(&format_range(first, last))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn uids(set: &UidSet) -> Vec<u32> {
        set.iter().map(Uid::get).collect()
    }

    #[test]
    fn a_set_is_read_sorted_and_joined() {
        for (text, want) in
            [("1", "1"), ("9,1", "1,9"), ("5:3", "3:5"), ("1:3,4:6", "1:6"), ("1:4294967295", "1:4294967295")]
        {
            assert_eq!(UidSet::parse(text.as_bytes()).unwrap().to_string(), want, "{text}");
        }
        for text in ["", ",", "1,", "*", "0", "1:", "+1", "1:*", "4294967296", "a"] {
            assert_eq!(UidSet::parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_set_behaves_like_a_set_of_numbers(items in prop::collection::vec((1u32..200, 0u32..9), 0..40), max in 8usize..40, count in 1u32..20) {
            let mut set = UidSet::new();
            let mut model = BTreeSet::new();
            for (first, more) in items {
                set.insert_range(first, first + more);
                model.extend(first..=first + more);
            }
            prop_assert_eq!(uids(&set), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len(), model.len() as u64);
            for n in 1..220 {
                prop_assert_eq!(set.contains(Uid::new(n).unwrap()), model.contains(&n));
            }
            prop_assert!(set.ranges.windows(2).all(|w| w[0].1 + 1 < w[1].0));
            if !set.is_empty() {
                prop_assert_eq!(&UidSet::parse(set.to_string().as_bytes()).unwrap(), &set);
            }
            prop_assert_eq!(&set.iter().collect::<UidSet>(), &set);
            for parts in [set.split(max), set.chunks(count)] {
                prop_assert_eq!(parts.iter().flat_map(uids).collect::<Vec<_>>(), uids(&set));
            }
            prop_assert!(set.split(max).iter().all(|s| s.to_string().len() <= max || s.ranges.len() == 1));
            prop_assert!(set.chunks(count).iter().all(|s| s.len() <= u64::from(count)));
        }
    }
}
