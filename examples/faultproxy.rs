//! The tests' fault proxy by hand: `faultproxy UPSTREAM-PORT [--listen PORT] [--rtt MS] [--bandwidth BYTES/S]`.
//!
//! Prints `ready PORT`, then obeys lines on standard input until it ends: `stats`, `reset`, `rtt MS`, `refuse`,
//! `accept`, `fin`, `rst`, `blackhole`, `lines` (what has passed, with `--record`).

#![allow(dead_code, unused_imports, missing_docs, clippy::unwrap_used)]

#[path = "../tests/common/connection.rs"]
mod connection;
#[path = "../tests/common/faults.rs"]
mod faults;
#[path = "../tests/common/proxy.rs"]
mod proxy;

use std::io::BufRead;
use std::time::Duration;

use proxy::{Action, Proxy};

fn half(rtt: &str) -> Duration {
    Duration::from_secs_f64(rtt.parse::<f64>().expect("--rtt takes milliseconds") / 2000.0)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut upstream, mut listen, mut rtt, mut bandwidth, mut record) = (None, 0, Duration::ZERO, None, false);
    while let Some(arg) = args.next() {
        let mut value = || args.next().expect("a value after the option");
        match arg.as_str() {
            "--listen" => listen = value().parse().expect("--listen takes a port"),
            "--rtt" => rtt = half(&value()),
            "--bandwidth" => bandwidth = Some(value().parse().expect("--bandwidth takes bytes a second")),
            "--record" => record = true,
            port => upstream = port.parse().ok(),
        }
    }
    let Some(upstream) = upstream else {
        eprintln!("usage: faultproxy UPSTREAM-PORT [--listen PORT] [--rtt MS] [--bandwidth BYTES/S] [--record]");
        std::process::exit(64);
    };
    let mut proxy = Proxy::listen(listen, upstream).delay(rtt);
    proxy.set_bandwidth(bandwidth);
    if record {
        proxy = proxy.recording();
    }
    println!("ready {}", proxy.port());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("stats", _) => println!("{:?}", proxy.stats()),
            ("reset", _) => proxy.reset(),
            ("rtt", value) => proxy.set_delay(half(value)),
            ("refuse", _) => proxy.refuse(true),
            ("accept", _) => proxy.refuse(false),
            ("fin", _) => proxy.strike(Action::Fin),
            ("rst", _) => proxy.strike(Action::Rst),
            ("blackhole", _) => proxy.strike(Action::Blackhole),
            ("lines", _) => proxy.transcript().iter().for_each(|line| println!("{line:?}")),
            _ => println!("? {line}"),
        }
    }
}
