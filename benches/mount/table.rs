//! The table: medians of what the runs took, ratios, and whether the goals are reached.

use serde_json::{Value, json};

use crate::cost::Cost;
use crate::rows::{Goal, Row};
use crate::run::{Run, SIDES, Side};
use crate::sample;

/// A row at one line, with its runs.
pub struct Line {
    pub row: &'static Row,
    rtt: u64,
    /// Bytes a second.
    rate: Option<u64>,
    runs: Vec<Run>,
    failures: Vec<String>,
}

impl Line {
    pub fn new(row: &'static Row, rtt: u64, rate: Option<u64>) -> Line {
        Line { row, rtt, rate, runs: Vec::new(), failures: Vec::new() }
    }

    pub fn add(&mut self, outcome: Result<Run, String>) {
        match outcome {
            Ok(run) => self.runs.push(run),
            Err(reason) => {
                eprintln!("bench: {} FAILED: {reason}", self.row.name);
                self.failures.push(reason);
            }
        }
    }

    fn median(&self, value: impl Fn(&Cost) -> f64) -> f64 {
        median(self.runs.iter().map(|run| value(&run.mount))).unwrap_or(f64::NAN)
    }

    /// How many times it is what it is there: of the ratios of the runs.
    fn ratio(&self, side: Side, value: impl Fn(&Cost) -> f64) -> Option<f64> {
        let ratios = self.runs.iter().filter_map(|run| Some(value(&run.mount) / value(&run.others[side as usize]?)));
        median(ratios)
    }

    /// What was reached, of what should be.
    fn reached(&self, goal: Goal) -> (f64, f64) {
        let count = self.runs.first().map_or(1, |run| run.count) as f64;
        match goal {
            Goal::Seconds(most) => (self.median(|cost| cost.time), most),
            Goal::Times(side, most) => (self.ratio(side, |cost| cost.time).unwrap_or(f64::NAN), most),
            Goal::Down(most) => (self.median(|cost| cost.down as f64 / 1e6), most),
            Goal::Bytes(side, most) => (self.ratio(side, |cost| cost.down as f64).unwrap_or(f64::NAN), most),
            Goal::Trips(most) => (self.median(|cost| cost.trips as f64) / count, most),
            Goal::Resident(most) => (self.median(|cost| cost.resident as f64 / 1024.0), most),
            Goal::Peak(most) => (self.median(|cost| cost.peak as f64 / 1024.0), most),
        }
    }

    fn verdict(&self, goal: Goal) -> String {
        let (reached, most) = self.reached(goal);
        let what = match goal {
            Goal::Seconds(_) => format!("{most} s"),
            Goal::Times(side, _) => format!("{most} x {}", name(side)),
            Goal::Down(_) => format!("{most} MB down"),
            Goal::Bytes(side, _) => format!("{most} x bytes of {}", name(side)),
            Goal::Trips(_) => format!("{most} trips each"),
            Goal::Resident(_) => format!("{most} MiB"),
            Goal::Peak(_) => format!("peak {most} MiB"),
        };
        // What was left out is nobody's fault.
        let missed = reached > most || self.runs.is_empty();
        if missed { format!("{what} MISS ({reached:.2})") } else { what }
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.rtt.to_string(), self.row.name.to_owned(), self.row.what.to_owned()];
        cells.push(format!("{:.3}", self.median(|cost| cost.time)));
        let ratio = |side| self.ratio(side, |cost| cost.time).map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        cells.extend(SIDES.map(|(side, _)| ratio(side)));
        cells.push(kilobytes(self.median(|cost| cost.up as f64)));
        cells.push(kilobytes(self.median(|cost| cost.down as f64)));
        cells.push(format!("{}", self.median(|cost| cost.trips as f64)));
        cells.push(format!("{:.0}", self.median(|cost| cost.peak as f64 / 1024.0)));
        cells.push(format!("{:.2}", self.median(|cost| cost.cpu)));
        let mut verdicts: Vec<String> = self.row.goals.iter().map(|goal| self.verdict(*goal)).collect();
        if !self.failures.is_empty() {
            verdicts.push(format!("FAILED {} times", self.failures.len()));
        }
        cells.push(verdicts.join("; "));
        cells
    }

    fn json(&self) -> Value {
        let cost = |cost: &Cost| {
            json!({
                "seconds": cost.time, "bytes_up": cost.up, "bytes_down": cost.down, "round_trips": cost.trips,
                "resident_kb": cost.resident, "peak_kb": cost.peak, "cpu_seconds": cost.cpu,
            })
        };
        let runs: Vec<Value> = self
            .runs
            .iter()
            .map(|run| {
                let mut value = json!({ "mount": cost(&run.mount), "count": run.count });
                for (side, name) in SIDES {
                    value[name] = run.others[side as usize].as_ref().map_or(Value::Null, cost);
                }
                value
            })
            .collect();
        let goals: Vec<Value> = self
            .row
            .goals
            .iter()
            .map(|goal| {
                let (reached, most) = self.reached(*goal);
                json!({ "goal": format!("{goal:?}"), "most": most, "reached": reached })
            })
            .collect();
        let rate = self.rate.map(|rate| rate * 8 / 1_000_000);
        json!({
            "row": self.row.name, "what": self.row.what, "rtt_ms": self.rtt, "rate_mbit": rate, "goals": goals,
            "runs": runs, "failures": self.failures, "disk": sample::disk(), "load": load(),
        })
    }
}

pub fn print(lines: &[Line], json: bool) {
    if json {
        lines.iter().for_each(|line| println!("{}", line.json()));
        return;
    }
    let mut head: Vec<String> = ["rtt ms", "row", "job", "s"].map(str::to_owned).to_vec();
    head.extend(SIDES.map(|(side, name)| if side == Side::Disk { sample::disk() } else { name.to_owned() }));
    head.extend(["kB up", "kB down", "trips", "peak MiB", "cpu s", "at most"].map(str::to_owned));
    let mut table = vec![head];
    table.extend(lines.iter().map(Line::cells));
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    let is_text = |column: usize| matches!(column, 1 | 2) || column + 1 == widths.len();
    for (at, row) in table.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if is_text(column) { format!(" {cell:<width$} ") } else { format!(" {cell:>width$} ") }
        });
        println!("|{}|", cells.collect::<Vec<_>>().join("|"));
        if at == 0 {
            let rule = |column: usize| {
                if is_text(column) { "-".repeat(widths[column] + 2) } else { "-".repeat(widths[column] + 1) + ":" }
            };
            println!("|{}|", (0..widths.len()).map(rule).collect::<Vec<_>>().join("|"));
        }
    }
    let runs = lines.iter().map(|line| line.runs.len()).max().unwrap_or(0);
    println!("\nMedians of {runs} runs; under the names of the others: how many times their time. Load {}.", load());
}

fn name(side: Side) -> &'static str {
    SIDES[side as usize].1
}

fn kilobytes(bytes: f64) -> String {
    format!("{:.0}", bytes / 1000.0)
}

/// Of an even number the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Programs that were running or waiting for a processor, on average in the last minute.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}
