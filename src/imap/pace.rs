//! How fast a line is: octets a second while the server is in the middle of telling something.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Octets from which it can be told: what one burst brings says little.
const ENOUGH: u64 = 1 << 20;

/// The same where they come so many times as fast, or as slowly.
const SOON: u64 = 256 << 10;
const QUICK: u64 = 4;

/// Octets a second of a slow line, 32 Mbit/s. Bodies in base64 shrink by a quarter when they are deflated, and servers deflate
/// 20 MB of them a second: on a faster line that would cost more than it saves.
const SLOW: u64 = 4_000_000;

/// What a gap between two reads counts for at the most: a longer one is no line, but a machine or a network that hiccups.
const GAP: Duration = Duration::from_millis(50);

/// What is known of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// Nothing yet.
    Unknown,
    /// Less than 4 MB a second.
    Slow,
    /// At least that.
    Fast,
}

/// What the connections of a client have seen of their line last: it is the same for all.
#[derive(Debug, Default)]
pub struct Seen(AtomicU8);

impl Seen {
    /// What was seen.
    pub fn speed(&self) -> Speed {
        match self.0.load(Ordering::Relaxed) {
            0 => Speed::Unknown,
            1 => Speed::Slow,
            _ => Speed::Fast,
        }
    }

    /// This was seen.
    pub fn set(&self, speed: Speed) {
        self.0.store(speed as u8, Ordering::Relaxed);
    }
}

/// Takes note of what comes over one connection.
#[derive(Debug, Default)]
pub struct Pace {
    octets: u64,
    time: Duration,
    /// When octets came last, while more of the same were due.
    last: Option<Instant>,
}

impl Pace {
    /// Octets came at `now`; `goes_on`: they end in the middle of a response. What of the line is seen by now, if anything? A
    /// pause of the server between two responses tells nothing of that.
    pub fn see(&mut self, now: Instant, octets: u64, goes_on: bool) -> Option<Speed> {
        if let Some(last) = self.last {
            self.octets += octets;
            self.time += now.saturating_duration_since(last).min(GAP);
        }
        self.last = goes_on.then_some(now);
        let is_slower = |than: u64| self.octets as f64 <= self.time.as_secs_f64() * than as f64;
        let speed = match self.octets {
            ENOUGH.. if is_slower(SLOW) => Speed::Slow,
            ENOUGH.. => Speed::Fast,
            SOON.. if !is_slower(SLOW * QUICK) => Speed::Fast,
            SOON.. if is_slower(SLOW / QUICK) => Speed::Slow,
            _ => return None,
        };
        *self = Self { last: self.last, ..Self::default() };
        Some(speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads of 64 KiB at this many octets a second, each `responses` of them one response with a pause before it.
    fn speeds(rate: u64, responses: u64, pause: Duration) -> Vec<Speed> {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let seen = (0..64).filter_map(|n| {
            let begins = n % responses == 0;
            now += Duration::from_secs_f64(65_536.0 / rate as f64) + if begins { pause } else { Duration::ZERO };
            pace.see(now, 65_536, n % responses != responses - 1)
        });
        let mut seen: Vec<Speed> = seen.collect();
        seen.dedup();
        seen
    }

    #[test]
    fn a_line_is_slow_by_what_it_brings_and_not_by_what_is_waited_for() {
        let second = Duration::from_secs(1);
        assert_eq!(speeds(1_250_000, 40, Duration::ZERO), [Speed::Slow]);
        assert_eq!(speeds(1_250_000, 4, second), [Speed::Slow]);
        assert_eq!(speeds(12_500_000, 40, Duration::ZERO), [Speed::Fast]);
        assert_eq!(speeds(12_500_000, 4, second), [Speed::Fast]);
        assert_eq!(speeds(125_000, 40, Duration::ZERO), [Speed::Slow]);
        // Small responses tell nothing.
        assert_eq!(speeds(1_250_000, 1, second), []);
    }

    #[test]
    fn what_is_much_faster_or_slower_is_seen_sooner() {
        for (rate, octets, reads) in
            [(12_500_000, 65_536, 17), (125_000_000, 65_536, 5), (2_500_000, 65_536, 17), (125_000, 4096, 65)]
        {
            let (mut pace, begun) = (Pace::default(), Instant::now());
            let at = |n: u32| begun + Duration::from_secs_f64(octets as f64 / f64::from(rate)) * n;
            let seen = (1..).find(|n| pace.see(at(*n), octets, true).is_some());
            assert_eq!(seen, Some(reads), "{rate}");
        }
    }

    #[test]
    fn a_hiccup_makes_no_slow_line() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for n in 0..64 {
            now += Duration::from_millis(if n % 16 == 7 { 2000 } else { 2 });
            assert_ne!(pace.see(now, 65_536, true), Some(Speed::Slow), "{n}");
        }
    }
}
