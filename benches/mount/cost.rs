//! What something took: time, bytes, round trips, and the program's memory and processor time.

use std::time::{Duration, Instant};

use crate::common::Mount;
use crate::common::proxy::Proxy;

/// How long the line must be quiet before bytes are counted, besides its round trip.
const QUIET: Duration = Duration::from_millis(60);

/// Processor time is told in hundredths of a second (USER_HZ).
const TICK: f64 = 0.01;

/// What one side of a row took in one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Seconds.
    pub time: f64,
    /// Bytes to and from the server.
    pub up: u64,
    pub down: u64,
    /// Round trips that were waited for one after the other.
    pub trips: u64,
    /// Resident memory of the program afterwards, and at its peak, in kB.
    pub resident: u64,
    pub peak: u64,
    /// Seconds of processor time of the program.
    pub cpu: f64,
}

impl Cost {
    /// What `work` takes. Bytes that arrive late count, time does not.
    pub fn of<T>(proxy: &Proxy, work: impl FnOnce() -> Result<T, String>) -> Result<(Cost, T), String> {
        proxy.reset();
        let start = Instant::now();
        let value = work()?;
        let time = start.elapsed().as_secs_f64();
        let trips = proxy.stats().round_trips;
        let stats = settled(proxy);
        Ok((Cost { time, up: stats.bytes_up, down: stats.bytes_down, trips, ..Cost::default() }, value))
    }

    /// The same, and what it takes of the program behind a mount.
    pub fn of_mount(proxy: &Proxy, mount: &Mount, work: impl FnOnce() -> Result<(), String>) -> Result<Cost, String> {
        let before = processor_time(mount.pid);
        let (mut cost, ()) = Cost::of(proxy, work)?;
        cost.add_memory(mount);
        cost.cpu -= before;
        Ok(cost)
    }

    /// Memory and processor time that the program behind a mount took since it was started.
    pub fn add_memory(&mut self, mount: &Mount) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", mount.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        self.resident = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        self.peak = mount.peak_memory();
        self.cpu = processor_time(mount.pid);
    }
}

/// What has passed, once nothing more does.
pub fn settled(proxy: &Proxy) -> crate::common::proxy::Stats {
    let mut stats = proxy.stats();
    for _ in 0..20 {
        std::thread::sleep(QUIET + proxy.round_trip());
        let now = proxy.stats();
        if now.bytes_down == stats.bytes_down {
            break;
        }
        stats = now;
    }
    stats
}

/// Seconds.
fn processor_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it may hold blanks. Then user and system time are the 12th and 13th field.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * TICK
}
