//! One connection through the proxy: its two sockets, and what a fault does to them.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::faults::Action;
use super::proxy::Dir;

/// Both sockets of one client, and what has befallen them.
pub struct Connection {
    pub number: u64,
    client: TcpStream,
    server: TcpStream,
    state: Mutex<Condition>,
    turned: Condvar,
    /// Whether the client was sent something since it last sent.
    pub served_since_sent: AtomicBool,
}

#[derive(Default)]
struct Condition {
    closed: bool,
    black: bool,
    deaf: Option<Dir>,
    stalled_until: Option<Instant>,
}

impl Connection {
    pub fn new(number: u64, client: TcpStream, server: TcpStream) -> Connection {
        Connection {
            number,
            client,
            server,
            state: Mutex::default(),
            turned: Condvar::new(),
            served_since_sent: AtomicBool::new(true),
        }
    }

    pub fn source(&self, dir: Dir) -> &TcpStream {
        if dir == Dir::Up { &self.client } else { &self.server }
    }

    pub fn sink(&self, dir: Dir) -> &TcpStream {
        if dir == Dir::Up { &self.server } else { &self.client }
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().unwrap().closed
    }

    pub fn is_black(&self) -> bool {
        self.state.lock().unwrap().black
    }

    /// Whether what goes this way is thrown away.
    pub fn is_deaf(&self, dir: Dir) -> bool {
        let state = self.state.lock().unwrap();
        state.black || state.deaf == Some(dir)
    }

    /// Waits until `due` and until no outage is on; false when the connection was closed.
    pub fn wait_until(&self, due: Instant) -> bool {
        let mut state = self.state.lock().unwrap();
        loop {
            let now = Instant::now();
            let due = state.stalled_until.map_or(due, |until| due.max(until));
            if state.closed || now >= due {
                return !state.closed;
            }
            state = self.turned.wait_timeout(state, due - now).unwrap().0;
        }
    }

    pub fn act(&self, action: &Action, dir: Dir) {
        let mut state = self.state.lock().unwrap();
        match action {
            Action::Fin | Action::Rst if state.closed => {}
            Action::Fin | Action::Rst => {
                if *action == Action::Rst {
                    reset_on_close(&self.client);
                    reset_on_close(&self.server);
                }
                state.closed = true;
                // With a reset to come, only the reading ends here: it wakes the threads, and their last one closes.
                let how = if *action == Action::Rst { Shutdown::Read } else { Shutdown::Both };
                let _ = (self.client.shutdown(how), self.server.shutdown(how));
            }
            Action::HalfClose => {
                let _ = self.sink(dir).shutdown(Shutdown::Write);
            }
            Action::Blackhole => state.black = true,
            Action::Swallow => state.deaf = Some(dir),
            Action::Stall(time) => state.stalled_until = Some(Instant::now() + *time),
            Action::Inject(bytes) => {
                let _ = self.sink(dir).write_all(bytes);
            }
        }
        self.turned.notify_all();
    }
}

/// Makes the last close of this socket send RST (SO_LINGER with time 0, which std does not have).
#[allow(unsafe_code)]
fn reset_on_close(socket: &TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the descriptor is open as `socket` is borrowed, and the option's value is a `linger` of that size.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}
