//! How fast a line is: octets a second while the server is in the middle of telling something.

use std::time::Duration;

use tokio::time::Instant;

/// Octets from which it can be told: what one burst brings says little.
const ENOUGH: u64 = 1 << 20;

/// Octets a second of a slow line, 32 Mbit/s. Bodies in base64 shrink by a quarter when they are deflated, and servers deflate
/// 20 MB of them a second: on a faster line that would cost more than it saves.
const SLOW: u64 = 4_000_000;

/// What a gap between two reads counts for at the most: a longer one is no line, but a machine or a network that hiccups.
const GAP: Duration = Duration::from_millis(50);

/// Takes note of what comes over one connection.
#[derive(Debug, Default)]
pub struct Pace {
    octets: u64,
    time: Duration,
    /// When octets came last, while more of the same were due.
    last: Option<Instant>,
}

impl Pace {
    /// Octets came at `now`; `goes_on`: they end in the middle of a response. Is the line seen to be slow? A pause of the server
    /// between two responses tells nothing of that.
    pub fn is_slow(&mut self, now: Instant, octets: u64, goes_on: bool) -> bool {
        if let Some(last) = self.last {
            self.octets += octets;
            self.time += now.saturating_duration_since(last).min(GAP);
        }
        self.last = goes_on.then_some(now);
        if self.octets < ENOUGH {
            return false;
        }
        let Self { octets, time, last } = std::mem::take(self);
        self.last = last;
        octets as f64 <= time.as_secs_f64() * SLOW as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads of 64 KiB at this many octets a second, each `responses` of them one response with a pause before it.
    fn line(rate: u64, responses: u64, pause: Duration) -> bool {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        (0..64).any(|n| {
            let begins = n % responses == 0;
            now += Duration::from_secs_f64(65_536.0 / rate as f64) + if begins { pause } else { Duration::ZERO };
            pace.is_slow(now, 65_536, n % responses != responses - 1)
        })
    }

    #[test]
    fn a_line_is_slow_by_what_it_brings_and_not_by_what_is_waited_for() {
        let second = Duration::from_secs(1);
        assert!(line(1_250_000, 40, Duration::ZERO));
        assert!(line(1_250_000, 4, second));
        assert!(!line(12_500_000, 40, Duration::ZERO));
        assert!(!line(12_500_000, 4, second));
        assert!(line(125_000, 40, Duration::ZERO));
        // Small responses tell nothing.
        assert!(!line(1_250_000, 1, second));
    }

    #[test]
    fn a_hiccup_makes_no_slow_line() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for n in 0..64 {
            now += Duration::from_millis(if n % 16 == 7 { 2000 } else { 2 });
            assert!(!pace.is_slow(now, 65_536, true), "{n}");
        }
    }
}
