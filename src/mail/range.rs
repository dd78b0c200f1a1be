//! Ranges of octets: how far to read ahead, and which blocks of a cached body to fetch.

use std::ops::Range;

/// The grid of the content cache, in octets of the encoded body: two pages, so that a peek at a file costs little.
pub const BLOCK: u64 = 8 * 1024;

/// The most that is read ahead of a reader, octets: 24 MiB keep 4 Gbit/s busy over 50 ms.
pub const MAX_AHEAD: u64 = 24 * 1024 * 1024;

/// Reads as large as the kernel's own read-ahead makes them: somebody reads the file through.
const LARGE: u64 = 128 * 1024;

/// A first read that reaches this far comes from a reader that means to read it through: the kernel asks for so much
/// after `POSIX_FADV_SEQUENTIAL`, which `cat`, `cp` and `sha256sum` advise. Each doubling left out saves a round trip.
/// Who looks for a NUL in the first 64 KiB and leaves (`rg`, `file`) makes the kernel ask for 240 KiB: until a reader
/// gets further, nothing behind this is read ahead.
pub const ADVISED: u64 = 256 * 1024;

/// Read-ahead of one handle. The kernel's own is too small: 128 KiB, two reads in flight.
///
/// With `r = read(offset, len)`, for every call:
/// 1. `r.start == offset` and `r.end >= offset + len`;
/// 2. the first read and one that jumps get just what they ask for: `r.end == offset + len`; but for one
///    near the start of the file that goes on to [`ADVISED`], which gets all that may be had;
/// 3. `r.end - (offset + len) <= MAX_AHEAD`, and never more than sixteen times what was asked for since the last jump;
/// 4. `r.end <= ADVISED` while `offset + len < ADVISED`.
#[derive(Clone, Debug, Default)]
pub struct Sequential {
    /// Where the next read begins when the reader goes on.
    next: Option<u64>,
    /// How far ahead to read, from the end of a read.
    window: u64,
    /// Everything from the last jump to here has been given to somebody to fetch.
    planned: u64,
}

impl Sequential {
    /// Takes note of a read and says what should be at hand or on its way: its own octets and, now and then, the window
    /// behind them. The end of the file is the caller's to clip.
    ///
    /// A reader goes on when it reads where it stopped, give or take two reads: the kernel has two in flight and they
    /// come in any order.
    pub fn read(&mut self, offset: u64, len: u64) -> Range<u64> {
        let end = offset.saturating_add(len);
        let goes_on = self.next.is_some_and(|next| offset.abs_diff(next) <= len.saturating_mul(2));
        if !goes_on {
            // The first pages may be in the page cache already.
            let ahead = if offset < LARGE && end >= ADVISED { MAX_AHEAD } else { 0 };
            let planned = end.saturating_add(ahead);
            *self = Self { next: Some(end), window: len.clamp(ahead, MAX_AHEAD), planned };
            return offset..planned;
        }
        self.next = self.next.max(Some(end));
        // Refilled when a part of it is used up: half, so that there are few fetches and always one on its way; an
        // eighth of the largest, so that a fast link never runs dry.
        let used = self.window / if self.window >= MAX_AHEAD { 8 } else { 2 };
        if self.planned.saturating_sub(end) >= self.window - used {
            return offset..end;
        }
        let factor = if len >= LARGE && end >= ADVISED { 8 } else { 2 };
        self.window = self.window.max(len).saturating_mul(factor).min(MAX_AHEAD);
        let most = if end < ADVISED { ADVISED } else { u64::MAX };
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

    #[test]
    fn a_reader_is_followed_in_growing_windows() {
        // (offset, length, how far behind the read to be ready), in KiB.
        type Case<'a> = (&'a str, &'a [(u64, u64, u64)]);
        let cases: [Case<'_>; 7] = [
            ("a peek", &[(0, 4, 0), (1000, 4, 0), (0, 4, 0)]),
            ("small reads", &[(0, 16, 0), (16, 16, 32), (32, 16, 0), (48, 16, 64), (64, 16, 0)]),
            ("who leaves after 64 KiB", &[(0, 16, 0), (16, 32, 64), (48, 64, 128), (112, 128, 16)]),
            ("large reads", &[(0, 128, 0), (128, 128, 1024), (256, 128, 0), (384, 128, 0)]),
            ("reads that overtake one another", &[(0, 128, 0), (256, 128, 1024), (128, 128, 0), (384, 128, 0)]),
            ("a reader that says so", &[(0, 256, 24576), (256, 256, 0), (512, 256, 0), (9_999_999, 256, 0)]),
            ("a jump", &[(0, 128, 0), (128, 128, 1024), (9000, 128, 0), (9128, 128, 1024)]),
        ];
        for (name, reads) in cases {
            let mut handle = Sequential::default();
            for &(offset, len, ahead) in reads {
                let range = handle.read(offset * KIB, len * KIB);
                assert_eq!(range, offset * KIB..(offset + len + ahead) * KIB, "{name} at {offset}");
            }
        }
    }

    #[test]
    fn a_file_that_is_read_through_is_far_ahead_of_its_reader_soon() {
        let mut handle = Sequential::default();
        let mut ready = 0;
        for offset in (0..64 * MAX_AHEAD).step_by(LARGE as usize) {
            ready = ready.max(handle.read(offset, LARGE).end);
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

    proptest! {
        #[test]
        fn read_ahead_keeps_its_contract(reads in prop::collection::vec((0u64..9, prop_oneof![1..200_000u64, Just(LARGE), any::<u64>()], any::<bool>()), 1..60)) {
            let mut handle = Sequential::default();
            let (mut at, mut asked, mut advised) = (0u64, 0u64, false);
            for (n, (jump, len, jumps)) in reads.into_iter().enumerate() {
                if jumps {
                    at = at.wrapping_add(jump << 40);
                }
                let range = handle.read(at, len);
                let end = at.saturating_add(len);
                asked = asked.saturating_add(len);
                prop_assert!(range.start == at && range.end >= end);
                prop_assert!(n > 0 || range.end == end || end >= ADVISED);
                // One that was advised goes on so for as long as it does.
                advised |= at < LARGE && end >= ADVISED;
                let most = if advised { MAX_AHEAD } else { asked.saturating_mul(16) };
                prop_assert!(range.end - end <= MAX_AHEAD.min(most));
                prop_assert!(end >= ADVISED || range.end <= ADVISED);
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
