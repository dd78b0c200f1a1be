//! Ranges of octets: how far to read ahead, and which blocks of a cached body to fetch.

use std::ops::Range;

/// The grid of the content cache, in octets of the encoded body: two pages, so that a peek at a file costs little.
pub const BLOCK: u64 = 8 * 1024;

/// The most that is read ahead of a reader, octets: 16 MiB keep 2.7 Gbit/s busy over 50 ms, and in base64 they are two thirds of
/// what is kept in memory.
pub const MAX_AHEAD: u64 = 16 * 1024 * 1024;

/// Reads as large as the kernel's own read-ahead makes them: somebody reads the file through.
pub const LARGE: u64 = 128 * 1024;

/// A first read that reaches this far comes from a reader that means to read it through: the kernel asks for so much
/// after `POSIX_FADV_SEQUENTIAL`, which `cat`, `cp` and `sha256sum` advise. Each doubling left out saves a round trip.
const ADVISED: u64 = 256 * 1024;

/// Who wants to see what a file is looks for a NUL this far, and leaves when there is one (`rg`).
const LOOK: u64 = 64 * 1024;

/// What the kernel reads for him, in 16, 32 and 64 KiB …
pub const LOOKED: u64 = 112 * 1024;

/// … and with them 128 KiB that are a guess. Until a reader gets further, nothing behind these two is read ahead.
pub const GUESSED: u64 = 240 * 1024;

/// Read-ahead of one handle. The kernel's own is too small: 128 KiB, two reads in flight.
///
/// The kernel begins with a few pages and doubles. Each read but the first it sends when the reader gets to the first page
/// of the one before; then he need not want any of it. One that he gets to he waits for only after the next one was sent.
/// So one that begins behind what who only looks would read can be held back until the next one comes: then the reader
/// goes on. Or until he closes the file: then nobody misses it. The caller holds none back for long, for there are
/// other ways to wait for it.
///
/// With `r = read(offset, len, ..)`, for every call:
/// 1. `r.start == offset`, or where the read begins that was held back, if that ends at `offset`; `r.end >= offset + len`;
/// 2. the first read and one that jumps get just what they ask for: `r.end == offset + len`; but for one
///    near the start of the file that goes on to [`ADVISED`], which gets all that may be had;
/// 3. `r.end - (offset + len)` is what [`Sequential::bound`] told at the most, [`MAX_AHEAD`] without that; and, as long as it was
///    not raised, never more than sixteen times what was asked for since the last jump;
/// 4. `r.end <= LOOKED` while `offset + len <= LOOKED`, and the same with [`GUESSED`];
/// 5. one read of a handle is held back at the most, none that is the first, begins before [`LOOK`] or is less than
///    [`LARGE`], and none of a handle whose first read is as much.
#[derive(Clone, Debug)]
pub struct Sequential {
    /// The most that is read ahead.
    most: u64,
    /// Where the next read begins when the reader goes on.
    next: Option<u64>,
    /// How far ahead to read, from the end of a read.
    window: u64,
    /// Everything from the last jump to here has been given to somebody to fetch.
    planned: u64,
    /// Octets that were asked for since the last jump.
    asked: u64,
    /// The last read, as long as all were those that the kernel begins with.
    ramp: Option<Range<u64>>,
    held: Option<Range<u64>>,
}

impl Default for Sequential {
    fn default() -> Self {
        Self { most: MAX_AHEAD, next: None, window: 0, planned: 0, asked: 0, ramp: None, held: None }
    }
}

impl Sequential {
    /// From now on no more is read ahead than this, and than [`MAX_AHEAD`]. A window that was as large as it could be is again.
    pub fn bound(&mut self, most: u64) {
        let most = most.min(MAX_AHEAD);
        if self.window >= self.most {
            self.window = self.window.max(most);
        }
        self.most = most;
    }

    /// Takes note of a read and says what should be at hand or on its way: its own octets and, now and then, the window
    /// behind them. The end of the file is the caller's to clip. `None` when the read is to be held back until there is
    /// none any more ([`Sequential::is_held`]). `is_last`: it ends where the file ends.
    pub fn read(&mut self, offset: u64, len: u64, is_last: bool) -> Option<Range<u64>> {
        let end = offset.saturating_add(len);
        if self.is_guess(offset, len) && !is_last {
            self.ramp = None;
            self.held = Some(offset..end);
            return None;
        }
        self.ramp = match self.next {
            None => Some(offset..end).filter(|_| offset == 0 && len < LARGE),
            Some(next) => self.ramp.take().filter(|_| offset == next).map(|_| offset..end),
        };
        let Some(held) = self.held.take_if(|held| held.end <= offset) else { return Some(self.follow(offset, len)) };
        let ahead = self.follow(held.start, held.end - held.start);
        let range = self.follow(offset, len);
        Some(if held.end == offset { held.start..range.end.max(ahead.end) } else { range })
    }

    /// Is a read held back? Not any more when one behind it came.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The read that is held back was waited with for long enough: what should be at hand or on its way for it.
    pub fn let_go(&mut self) -> Option<Range<u64>> {
        let held = self.held.take()?;
        Some(self.follow(held.start, held.end - held.start))
    }

    /// The file was closed: true when a read is held back, and then it need not be done.
    pub fn give_up(&mut self) -> bool {
        self.held.take().is_some()
    }

    /// Was this read sent by the kernel for who need not want it? The one before may come after it.
    fn is_guess(&self, offset: u64, len: u64) -> bool {
        let Some(last) = &self.ramp else { return false };
        let overtaken = last.end.saturating_add((last.end - last.start).saturating_mul(2));
        let begins_after = |before: u64, start: u64| before < LOOK && offset == start;
        let follows = begins_after(last.start, last.end) || begins_after(last.end, overtaken);
        follows && offset >= LOOK && len >= LARGE
    }

    /// A reader goes on when it reads where it stopped, give or take two reads: the kernel has two in flight and they
    /// come in any order.
    fn follow(&mut self, offset: u64, len: u64) -> Range<u64> {
        let end = offset.saturating_add(len);
        let goes_on = self.next.is_some_and(|next| offset.abs_diff(next) <= len.saturating_mul(2));
        if !goes_on {
            // The first pages may be in the page cache already.
            let ahead = if offset < LARGE && end >= ADVISED { self.most } else { 0 };
            self.planned = end.saturating_add(ahead);
            (self.next, self.window, self.asked) = (Some(end), len.clamp(ahead, self.most), len);
            return offset..self.planned;
        }
        self.next = self.next.max(Some(end));
        self.asked = self.asked.saturating_add(len);
        self.window = self.window.min(self.most);
        // Refilled when a part of it is used up: half, so that there are few fetches and always one on its way; an
        // eighth of the largest, so that a fast link never runs dry.
        let used = self.window / if self.window >= MAX_AHEAD { 8 } else { 2 };
        if self.planned.saturating_sub(end) >= self.window - used {
            return offset..end;
        }
        let factor = if len >= LARGE && end > GUESSED { 8 } else { 2 };
        // What was cut was used up soon, and the window grew for it: not to more than was promised.
        let grown = self.window.max(len).saturating_mul(factor).min(self.asked.saturating_mul(16));
        self.window = grown.max(self.window).min(self.most);
        let most = match end {
            _ if end <= LOOKED => LOOKED,
            _ if end <= GUESSED => GUESSED,
            _ => u64::MAX,
        };
        self.planned = self.planned.max(end.saturating_add(self.window).min(most));
        offset..self.planned
    }
}

/// The blocks that cover a range of octets; none for an empty one.
pub fn blocks(range: &Range<u64>) -> Range<u64> {
    let first = range.start / BLOCK;
    first..if range.is_empty() { first } else { range.end.div_ceil(BLOCK) }
}

/// The octets of a block in a body of `octets`.
pub fn block_range(block: u64, octets: u64) -> Range<u64> {
    let start = block.saturating_mul(BLOCK).min(octets);
    start..start.saturating_add(BLOCK).min(octets)
}

/// Plans the fetches that bring the missing blocks of a body of `octets`; `missing` ascends.
///
/// 1. Each octet of a missing block below `octets` is in exactly one fetch, and no other octet is in any.
/// 2. Fetches ascend (Dovecot reads a part a hundred times slower in random order), none is empty, none is longer than
///    `max` or, if that is less, one block.
/// 3. There are as few as 1 and 2 allow.
pub fn plan_fetches(missing: impl IntoIterator<Item = u64>, octets: u64, max: u64) -> Vec<Range<u64>> {
    let max = (max / BLOCK).max(1).saturating_mul(BLOCK);
    let mut fetches: Vec<Range<u64>> = Vec::new();
    for range in missing.into_iter().map(|block| block_range(block, octets)).take_while(|range| !range.is_empty()) {
        match fetches.last_mut() {
            Some(last) if last.end == range.start && range.end - last.start <= max => last.end = range.end,
            _ => fetches.push(range),
        }
    }
    fetches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const KIB: u64 = 1024;

    /// What comes of a read: it is held back, or so many KiB behind it should be ready.
    #[derive(Debug, PartialEq)]
    enum Comes {
        Held,
        Ahead(u64),
        /// The one that was held back begins so many KiB before it, and comes with it.
        WithHeld(u64, u64),
    }
    use Comes::{Ahead, Held, WithHeld};

    /// Reads as the kernel sends them, offset and length in KiB, of a file of 2 MiB.
    fn check(name: &str, reads: &[(u64, u64, Comes)]) {
        let mut handle = Sequential::default();
        for (offset, len, comes) in reads {
            let (start, end) = (offset * KIB, (offset + len) * KIB);
            let range = handle.read(start, len * KIB, end >= 2048 * KIB);
            assert_eq!(handle.is_held(), range.is_none(), "{name} at {offset}");
            let found = match range {
                None => Held,
                Some(range) if range.start == start => Ahead((range.end - end) / KIB),
                Some(range) => WithHeld((start - range.start) / KIB, (range.end - end) / KIB),
            };
            assert_eq!(found, *comes, "{name} at {offset}");
        }
    }

    #[test]
    fn a_reader_is_followed_in_growing_windows() {
        type Case<'a> = (&'a str, &'a [(u64, u64, Comes)]);
        let cases: [Case<'_>; 7] = [
            ("a peek", &[(0, 4, Ahead(0)), (1000, 4, Ahead(0)), (0, 4, Ahead(0))]),
            (
                "small reads",
                &[(0, 16, Ahead(0)), (16, 16, Ahead(32)), (32, 16, Ahead(0)), (48, 16, Ahead(48)), (64, 16, Ahead(0))],
            ),
            ("large reads", &[(0, 128, Ahead(0)), (128, 128, Ahead(1024)), (256, 128, Ahead(0)), (384, 128, Ahead(0))]),
            (
                "reads that overtake one another",
                &[(0, 128, Ahead(0)), (256, 128, Ahead(1024)), (128, 128, Ahead(0)), (384, 128, Ahead(0))],
            ),
            (
                "a reader that says so",
                &[(0, 256, Ahead(16384)), (256, 256, Ahead(0)), (512, 256, Ahead(0)), (9_999_999, 256, Ahead(0))],
            ),
            ("a jump", &[(0, 128, Ahead(0)), (128, 128, Ahead(1024)), (9000, 128, Ahead(0)), (9128, 128, Ahead(1024))]),
            ("pages that failed before", &[(112, 240, Ahead(16384)), (352, 256, Ahead(0))]),
        ];
        for (name, reads) in cases {
            check(name, reads);
        }
    }

    #[test]
    fn what_the_kernel_guesses_of_one_who_only_looks_is_held_back_until_he_goes_on() {
        // Recorded on Linux 6.18.
        check("rg", &[(0, 16, Ahead(0)), (16, 32, Ahead(64)), (48, 64, Ahead(0)), (112, 128, Held)]);
        let python = [
            (0, 16, Ahead(0)),
            (16, 32, Ahead(64)),
            (48, 64, Ahead(0)),
            (112, 128, Held),
            (240, 128, WithHeld(128, 2048)),
            (368, 128, Ahead(0)),
        ];
        check("python, less", &python);
        check("head -c 4096", &[(0, 16, Ahead(0))]);
        check("grep -I", &[(0, 128, Ahead(0))]);
        check("grep -r, file", &[(0, 128, Ahead(0)), (128, 128, Ahead(1024)), (256, 128, Ahead(0))]);
        check("cat, cp", &[(0, 256, Ahead(16384)), (256, 256, Ahead(0))]);
        check("md5sum", &[(0, 64, Ahead(0)), (64, 128, Held), (192, 256, WithHeld(128, 2048))]);
        check("dd bs=32k", &[(0, 64, Ahead(0)), (64, 128, Held), (192, 128, WithHeld(128, 2048))]);
        check("tar", &[(0, 32, Ahead(0)), (32, 64, Ahead(16)), (96, 128, Held), (224, 128, WithHeld(128, 2048))]);
        check("unzip -l", &[(2040, 8, Ahead(0)), (2032, 8, Ahead(0)), (2024, 8, Ahead(0)), (2016, 8, Ahead(0))]);
    }

    #[test]
    fn a_read_that_is_held_back_goes_on_with_one_behind_it_or_after_a_while_and_not_when_the_file_is_closed() {
        let looked = |reads: &[(u64, u64)], octets: u64| {
            let mut handle = Sequential::default();
            for (offset, len) in reads {
                handle.read(offset * KIB, len * KIB, offset + len >= octets);
            }
            handle
        };
        let ramp = [(0, 16), (16, 32), (48, 64), (112, 128)];
        let mut handle = looked(&ramp, 2048);
        assert_eq!((handle.let_go(), handle.let_go()), (Some(112 * KIB..240 * KIB), None));
        assert_eq!(handle.read(240 * KIB, 128 * KIB, false), Some(240 * KIB..2416 * KIB));
        let mut handle = looked(&ramp, 2048);
        assert_eq!((handle.give_up(), handle.give_up(), handle.let_go()), (true, false, None));
        // Two threads take the kernel's requests: one that was sent before it says nothing.
        let mut handle = looked(&[(0, 16), (16, 32), (112, 128)], 2048);
        assert_eq!(handle.read(48 * KIB, 64 * KIB, false), Some(48 * KIB..112 * KIB));
        assert!(handle.is_held());
        // Nor is a jump the way to it, but it goes on.
        assert_eq!(handle.read(1024 * KIB, 4 * KIB, false), Some(1024 * KIB..1028 * KIB));
        assert!(!handle.is_held());
        // Nothing comes behind the end of the file.
        assert!(!looked(&ramp, 240).is_held());
        // A loop of reads past the page cache.
        let direct: Vec<(u64, u64)> = (0..32).map(|n| (n * 64, 64)).collect();
        assert!(!looked(&direct, 4096).is_held());
    }

    #[test]
    fn a_file_that_is_read_through_is_far_ahead_of_its_reader_soon() {
        let mut handle = Sequential::default();
        let mut ready = 0;
        for offset in (0..64 * MAX_AHEAD).step_by(LARGE as usize) {
            ready = ready.max(handle.read(offset, LARGE, false).unwrap().end);
            assert!(offset < 4 * LARGE * 8 || ready - offset >= 4 * LARGE * 2);
            assert!(offset < MAX_AHEAD || ready - offset >= MAX_AHEAD / 2);
        }
    }

    #[test]
    fn blocks_cover_ranges() {
        for (range, want) in [
            (0..0, 0..0),
            (BLOCK + 1..BLOCK + 1, 1..1),
            (0..1, 0..1),
            (BLOCK - 1..BLOCK + 1, 0..2),
            (BLOCK..2 * BLOCK, 1..2),
        ] {
            assert_eq!(blocks(&range), want, "{range:?}");
        }
        assert_eq!(block_range(1, BLOCK + 5), BLOCK..BLOCK + 5);
        assert!(block_range(u64::MAX, 5).is_empty());
    }

    #[test]
    fn a_window_that_was_cut_grows_to_no_more_than_was_promised() {
        let mut handle = Sequential::default();
        let (mut at, mut last) = (0, 0..0);
        for len in [66_365, 1, 39_030, 9_293, LARGE] {
            last = handle.read(at, len, false).unwrap();
            at += len;
        }
        assert!(last.end - at <= 16 * at, "{last:?} after {at}");
    }

    proptest! {
        #[test]
        fn read_ahead_keeps_its_contract(reads in prop::collection::vec((0u64..9, prop_oneof![1..200_000u64, Just(LARGE), any::<u64>()], any::<bool>(), any::<bool>()), 1..60)) {
            let mut handle = Sequential::default();
            let (mut at, mut asked, mut advised, mut held) = (0u64, 0u64, false, None::<Range<u64>>);
            for (n, (jump, len, jumps, is_last)) in reads.into_iter().enumerate() {
                if jumps {
                    at = at.wrapping_add(jump << 40);
                }
                let end = at.saturating_add(len);
                asked = asked.saturating_add(len);
                let Some(range) = handle.read(at, len, is_last) else {
                    prop_assert!(n > 0 && !is_last && at >= LOOK && len >= LARGE && held.is_none());
                    held = Some(at..end);
                    at = end;
                    continue;
                };
                let is_with_held = held.as_ref().is_some_and(|held| held.start == range.start && held.end == at);
                prop_assert!((range.start == at || is_with_held) && range.end >= end);
                prop_assert!(n > 0 || range.end == end || end >= ADVISED);
                // One that was advised goes on so for as long as it does.
                advised |= at < LARGE && end >= ADVISED;
                let most = if advised { MAX_AHEAD } else { asked.saturating_mul(16) };
                prop_assert!(range.end - end <= MAX_AHEAD.min(most));
                prop_assert!(end > LOOKED || range.end <= LOOKED);
                prop_assert!(end > GUESSED || range.end <= GUESSED);
                at = end;
            }
        }

        #[test]
        fn fetches_bring_what_is_missing_and_nothing_else(missing: BTreeSet<u8>, octets in 0..300 * BLOCK, max in 0..20 * BLOCK) {
            let fetches = plan_fetches(missing.iter().map(|b| u64::from(*b)), octets, max);
            prop_assert!(fetches.iter().all(|f| !f.is_empty() && f.end - f.start <= max.max(BLOCK)));
            prop_assert!(fetches.windows(2).all(|w| w[0].end <= w[1].start));
            prop_assert!(fetches.iter().all(|f| f.start % BLOCK == 0 && (f.end % BLOCK == 0 || f.end == octets)));
            let fetched: Vec<u64> = fetches.iter().flat_map(blocks).collect();
            let wanted: Vec<u64> = missing.iter().map(|b| u64::from(*b)).filter(|b| b * BLOCK < octets).collect();
            prop_assert_eq!(fetched, wanted);
        }
    }
}
