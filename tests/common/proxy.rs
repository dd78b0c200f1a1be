//! A TCP proxy that adds delay and faults, and counts bytes, lines and round trips; threads and std only.
//!
//! Every chunk is stamped when it arrives and released `delay` later, so any amount of data can be in flight: delay
//! costs latency, never throughput. A fault sits in its direction's byte stream: all bytes before it are still
//! delivered, on time. `Up` is client to server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use super::connection::Connection;
pub use super::faults::{Action, Fault, When};
use super::faults::{Fires, Watch};

/// With a bandwidth limit: how far ahead of the link a sender may be.
const AHEAD: Duration = Duration::from_millis(50);

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dir {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

/// What has passed since the start or the last [`Proxy::reset`], as the peers sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub connections: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Line ends, those within literals included.
    pub lines_up: u64,
    pub lines_down: u64,
    /// Times a client began to send after it was last sent something, summed over the connections. A client that
    /// sends while answers stream in counts several.
    pub flights: u64,
    /// Sequential round trips: windows of twice the delay that do not overlap, each begun by a client's send, over all
    /// connections together. These are the round trips that cost time on the clock. 0 without a delay.
    pub round_trips: u64,
    /// Faults that have fired.
    pub faults: u64,
}

/// One line that passed, without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Connections are numbered from 1.
    pub connection: u64,
    pub dir: Dir,
    pub text: String,
}

#[derive(Default)]
struct State {
    stats: Stats,
    delay: Duration,
    /// Bytes a second, each direction of each connection.
    bandwidth: Option<u64>,
    /// Bytes a second, each direction of all connections together.
    line: Option<u64>,
    /// When the line is free again, by direction.
    line_free: [Option<Instant>; 2],
    faults: Vec<Fault>,
    transcript: Option<Vec<Line>>,
    round_trip_until: Option<Instant>,
    connections: Vec<Arc<Connection>>,
    made: u64,
    refusing: bool,
    closing: bool,
}

struct Shared {
    upstream: SocketAddr,
    address: SocketAddr,
    state: Mutex<State>,
    /// Signalled when `refusing` or `closing` changes, and when the listener has gone or come.
    turned: Condvar,
    listening: AtomicBool,
}

/// A proxy in front of one port. Dropping it closes all its connections.
pub struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a port of the kernel's choice and leads to `port` on 127.0.0.1.
    pub fn new(port: u16) -> Proxy {
        Self::listen(0, port)
    }

    /// The same on a given port.
    pub fn listen(listen: u16, port: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", listen)).unwrap();
        let shared = Arc::new(Shared {
            upstream: SocketAddr::from(([127, 0, 0, 1], port)),
            address: listener.local_addr().unwrap(),
            state: Mutex::default(),
            turned: Condvar::new(),
            listening: AtomicBool::new(true),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || accept_all(&accepting, listener));
        Proxy { shared }
    }

    /// Adds this delay in each direction, so the round trip is twice that. Connecting costs a round trip too.
    pub fn delay(self, one_way: Duration) -> Proxy {
        self.set_delay(one_way);
        self
    }

    /// Limits each direction of each connection to so many bytes a second.
    pub fn bandwidth(self, bytes_per_second: u64) -> Proxy {
        self.set_bandwidth(Some(bytes_per_second));
        self
    }

    /// Limits each direction to so many bytes a second, all connections together, as one line does.
    pub fn line(self, bytes_per_second: u64) -> Proxy {
        self.set_line(Some(bytes_per_second));
        self
    }

    /// Arms a fault.
    pub fn fault(self, fault: Fault) -> Proxy {
        self.add(fault);
        self
    }

    /// Keeps all lines from now on; see [`Proxy::transcript`].
    pub fn recording(self) -> Proxy {
        self.state().transcript = Some(Vec::new());
        self
    }

    pub fn port(&self) -> u16 {
        self.shared.address.port()
    }

    pub fn set_delay(&self, one_way: Duration) {
        self.state().delay = one_way;
    }

    /// Twice the delay.
    pub fn round_trip(&self) -> Duration {
        self.state().delay * 2
    }

    pub fn set_bandwidth(&self, bytes_per_second: Option<u64>) {
        self.state().bandwidth = bytes_per_second;
    }

    pub fn set_line(&self, bytes_per_second: Option<u64>) {
        let mut state = self.state();
        state.line = bytes_per_second;
        state.line_free = [None; 2];
    }

    /// Arms a fault, for the connections that are made from now on.
    pub fn add(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Disarms all faults, for the connections that are made from now on.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    pub fn stats(&self) -> Stats {
        self.state().stats.clone()
    }

    /// Sets all counts to 0 and forgets the transcript.
    pub fn reset(&self) {
        let mut state = self.state();
        state.stats = Stats::default();
        state.round_trip_until = None;
        if let Some(lines) = &mut state.transcript {
            lines.clear();
        }
    }

    /// The lines that have passed while recording.
    pub fn transcript(&self) -> Vec<Line> {
        self.state().transcript.clone().unwrap_or_default()
    }

    /// Number of connections that are open now.
    pub fn open(&self) -> usize {
        let mut state = self.state();
        state.connections.retain(|connection| !connection.is_closed());
        state.connections.len()
    }

    /// Does this to all open connections, now.
    pub fn strike(&self, action: Action) {
        let connections = self.state().connections.clone();
        for connection in connections {
            connection.act(&action, Dir::Down);
        }
    }

    /// From now on connecting is refused (ECONNREFUSED), or possible again; open connections stay.
    pub fn refuse(&self, refuse: bool) {
        self.state().refusing = refuse;
        self.shared.turned.notify_all();
        if refuse {
            // Wakes the thread that waits in accept.
            let _ = TcpStream::connect(self.shared.address);
        }
        let mut state = self.state();
        while self.shared.listening.load(SeqCst) == refuse {
            state = self.shared.turned.wait(state).unwrap();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state().closing = true;
        self.shared.turned.notify_all();
        let _ = TcpStream::connect(self.shared.address);
        self.strike(Action::Fin);
    }
}

fn accept_all(shared: &Arc<Shared>, mut listener: TcpListener) {
    loop {
        let accepted = listener.accept();
        let mut state = shared.state.lock().unwrap();
        if state.closing {
            return;
        }
        if state.refusing {
            drop((accepted, listener));
            shared.listening.store(false, SeqCst);
            shared.turned.notify_all();
            while state.refusing && !state.closing {
                state = shared.turned.wait(state).unwrap();
            }
            if state.closing {
                return;
            }
            listener = TcpListener::bind(shared.address).unwrap();
            shared.listening.store(true, SeqCst);
            shared.turned.notify_all();
            continue;
        }
        let Ok((client, _)) = accepted else { continue };
        state.made += 1;
        state.stats.connections += 1;
        let number = state.made;
        drop(state);
        let shared = shared.clone();
        std::thread::spawn(move || serve(&shared, client, number));
    }
}

/// Runs one connection to its end.
fn serve(shared: &Arc<Shared>, client: TcpStream, number: u64) {
    let delay = shared.state.lock().unwrap().delay;
    // SYN, SYN-ACK and ACK cross the link before the server can greet.
    std::thread::sleep(delay * 3);
    let Ok(server) = TcpStream::connect(shared.upstream) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let connection = Arc::new(Connection::new(number, client, server));
    let faults = {
        let mut state = shared.state.lock().unwrap();
        state.connections.retain(|connection| !connection.is_closed());
        state.connections.push(connection.clone());
        let armed = state.faults.iter().filter(|fault| fault.connections.contains(&number));
        armed.cloned().collect::<Vec<_>>()
    };
    let pumps = [Dir::Up, Dir::Down].map(|dir| {
        let watches = faults.iter().filter(|fault| fault.dir == dir).cloned().map(Watch::new).collect();
        let (shared, connection) = (shared.clone(), connection.clone());
        std::thread::spawn(move || pump(&shared, &connection, dir, watches))
    });
    for pump in pumps {
        let _ = pump.join();
    }
    connection.act(&Action::Fin, Dir::Down);
    shared.state.lock().unwrap().connections.retain(|other| other.number != number);
}

/// What the reading half hands to the writing half, with the time it is due.
enum Item {
    Bytes(Vec<u8>),
    Act(Action),
    End,
}

fn pump(shared: &Arc<Shared>, connection: &Arc<Connection>, dir: Dir, watches: Vec<Watch>) {
    let (sender, receiver) = mpsc::channel();
    let writing = connection.clone();
    let writer = std::thread::spawn(move || write_all(&writing, dir, &receiver));
    read_all(shared, connection, dir, watches, &sender);
    drop(sender);
    let _ = writer.join();
}

fn read_all(
    shared: &Shared,
    connection: &Connection,
    dir: Dir,
    watches: Vec<Watch>,
    out: &mpsc::Sender<(Instant, Item)>,
) {
    let mut source = connection.source(dir);
    let mut fires = Fires::new(watches);
    let mut line = Vec::new();
    let mut link_free = Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (delay, rate) = {
            let state = shared.state.lock().unwrap();
            (state.delay, state.bandwidth.into_iter().chain(state.line).min())
        };
        // 10 ms worth of the link at a time, so that it looks like a stream.
        let most = rate.map_or(buffer.len(), |rate| (rate as usize / 100).clamp(1, buffer.len()));
        let count = match source.read(&mut buffer[..most]) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let data = &buffer[..count];
        count_up(shared, connection, dir, data, &mut line);
        let now = Instant::now();
        link_free = occupy(shared, dir, count, link_free.max(now));
        for piece in fires.pass(data) {
            let item = match piece {
                Ok(bytes) => Item::Bytes(bytes),
                Err(action) => {
                    shared.state.lock().unwrap().stats.faults += 1;
                    Item::Act(action)
                }
            };
            if out.send((link_free + delay, item)).is_err() {
                return;
            }
        }
        if let Some(early) = link_free.checked_duration_since(now + AHEAD) {
            std::thread::sleep(early);
        }
    }
    let due = link_free.max(Instant::now()) + shared.state.lock().unwrap().delay;
    let _ = out.send((due, Item::Bytes(fires.rest())));
    let _ = out.send((due, Item::End));
}

/// When so many bytes that are there `at` that time have crossed the link.
fn occupy(shared: &Shared, dir: Dir, count: usize, at: Instant) -> Instant {
    let mut state = shared.state.lock().unwrap();
    let cost = |rate: u64| Duration::from_secs_f64(count as f64 / rate as f64);
    let own = state.bandwidth.map_or(at, |rate| at + cost(rate));
    let Some(rate) = state.line else { return own };
    let free = &mut state.line_free[dir as usize];
    let crossed = free.map_or(at, |free| free.max(at)) + cost(rate);
    *free = Some(crossed);
    own.max(crossed)
}

fn count_up(shared: &Shared, connection: &Connection, dir: Dir, data: &[u8], line: &mut Vec<u8>) {
    let mut state = shared.state.lock().unwrap();
    let lines = data.iter().filter(|&&byte| byte == b'\n').count() as u64;
    match dir {
        Dir::Up => {
            state.stats.bytes_up += data.len() as u64;
            state.stats.lines_up += lines;
            if connection.served_since_sent.swap(false, SeqCst) {
                state.stats.flights += 1;
            }
            let now = Instant::now();
            if !state.delay.is_zero() && state.round_trip_until.is_none_or(|until| now >= until) {
                state.stats.round_trips += 1;
                state.round_trip_until = Some(now + state.delay * 2);
            }
        }
        Dir::Down => {
            state.stats.bytes_down += data.len() as u64;
            state.stats.lines_down += lines;
        }
    }
    if let Some(transcript) = &mut state.transcript {
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") {
                let text = String::from_utf8_lossy(line).trim_end_matches(['\r', '\n']).to_owned();
                transcript.push(Line { connection: connection.number, dir, text });
                line.clear();
            }
        }
    }
}

fn write_all(connection: &Connection, dir: Dir, items: &mpsc::Receiver<(Instant, Item)>) {
    let mut sink = connection.sink(dir);
    while let Ok((due, item)) = items.recv() {
        if !connection.wait_until(due) {
            return;
        }
        match item {
            Item::Bytes(bytes) => {
                if connection.is_deaf(dir) || bytes.is_empty() {
                    continue;
                }
                if sink.write_all(&bytes).is_err() {
                    connection.act(&Action::Fin, dir);
                    return;
                }
                if dir == Dir::Down {
                    connection.served_since_sent.store(true, SeqCst);
                }
            }
            Item::Act(action) => connection.act(&action, dir),
            Item::End if connection.is_black() => {}
            Item::End => {
                let _ = sink.shutdown(Shutdown::Write);
            }
        }
    }
}
