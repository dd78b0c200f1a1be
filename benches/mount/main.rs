//! How near the mount comes to a bare pipelined IMAP client, to mbsync and the same tool, to a file system in memory and
//! to one on disk; over a real server and a line with a round-trip time.
//!
//! `scripts/bench --help` tells the options.

#![allow(missing_docs, clippy::unwrap_used)]

mod bare;
#[path = "../../tests/common/mod.rs"]
mod common;
mod cost;
mod jobs;
mod memory;
mod peer;
mod rows;
mod run;
mod sample;
#[path = "../../tests/scripted/mod.rs"]
mod scripted;
mod search;
mod stage;
mod table;

use std::time::Duration;

use common::Server;
use common::proxy::Proxy;
use rows::{ROWS, Row};
use sample::Sample;
use stage::{Stage, Standing};
use table::Line;

const HELP: &str = "\
usage: scripts/bench [--rows NAME,..] [--runs N] [--rtt MS,..] [--rate MBIT] [--json]

One line for each job: what the mount takes (the median of the runs), how many times that is what the others take (the
median of the ratios, each from one run), bytes, round trips and memory. At the end of a line stands what should be
reached, and MISS where it is not.

  --rows NAME,..   only these (NAME also for those that are left out otherwise)
  --runs N         5 if not given
  --rtt MS,..      round-trip times, 50 if not given
  --rate MBIT      limits the line; not if not given
  --json           one object for each line, with all runs";

struct Options {
    json: bool,
    runs: usize,
    rows: Vec<&'static Row>,
    rtts: Vec<u64>,
    /// Bytes a second.
    rate: Option<u64>,
}

fn main() {
    let options = match options() {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("{reason}");
            std::process::exit(if reason == HELP { 0 } else { 64 });
        }
    };
    eprintln!("bench: filling a server …");
    let server = Server::start("dovecot", &[("DOVECOT_MAXCONN", "100")]);
    let sample = Sample::fill(server.account());
    let mut standing = Standing { sample, memory: None, many: Default::default() };
    for &rtt in &options.rtts {
        let proxy = Proxy::new(standing.sample.account.direct_port()).delay(Duration::from_micros(rtt * 500));
        proxy.set_line(options.rate);
        let mut lines: Vec<Line> = options.rows.iter().map(|row| Line::new(row, rtt, options.rate)).collect();
        for run in 1..=options.runs {
            eprintln!("bench: run {run} of {} at {rtt} ms, load {}", options.runs, table::load());
            let mut stage = Stage::new(&mut standing, &proxy, options.rate);
            for line in &mut lines {
                line.add((line.row.run)(&mut stage));
            }
        }
        table::print(&lines, options.json);
    }
    drop(standing);
}

fn options() -> Result<Options, String> {
    let all = ROWS.iter().filter(|row| !row.is_optional);
    let mut options = Options { json: false, runs: 5, rows: all.collect(), rtts: vec![50], rate: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
        match arg.as_str() {
            "--json" => options.json = true,
            "--runs" => options.runs = number(&value()?)?.max(1) as usize,
            "--rtt" => options.rtts = value()?.split(',').map(number).collect::<Result<_, _>>()?,
            "--rate" => options.rate = Some(number(&value()?)?.max(1) * 1_000_000 / 8),
            "--rows" => {
                let find = |name: &str| {
                    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
                    let row = ROWS.iter().find(|row| row.name == name);
                    row.ok_or(format!("there is no row {name}, but {}", names.join(", ")))
                };
                options.rows = value()?.split(',').map(find).collect::<Result<_, _>>()?;
            }
            "--bench" => {}
            "--help" => return Err(HELP.to_owned()),
            _ => return Err(format!("unknown option {arg}\n{HELP}")),
        }
    }
    Ok(options)
}
