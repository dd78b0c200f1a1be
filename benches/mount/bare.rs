//! The bare client: what the wire and the server allow. Sends everything at once and reads without looking.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::Account;

/// A plaintext connection with a mailbox selected.
pub struct Bare {
    stream: TcpStream,
}

impl Bare {
    pub fn select(account: &Account, mailbox: &str) -> Bare {
        let stream = TcpStream::connect(("127.0.0.1", account.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut bare = Bare { stream };
        let login = format!("LOGIN {} {}", account.user, account.password);
        bare.exchange(&[login, format!("EXAMINE {mailbox}")]);
        bare
    }

    /// Sends the commands in one write; reads until the last is answered.
    pub fn exchange(&mut self, commands: &[String]) {
        let lines: String = commands[..commands.len() - 1].iter().map(|command| format!("b0 {command}\r\n")).collect();
        let lines = lines + &format!("b1 {}\r\n", commands[commands.len() - 1]);
        self.stream.write_all(lines.as_bytes()).unwrap();
        let mut buffer = vec![0; 256 * 1024];
        let mut tail: Vec<u8> = Vec::new();
        loop {
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the server hung up");
            // Only the last line matters, and it is short.
            tail.extend_from_slice(&buffer[count.saturating_sub(400)..count]);
            tail.drain(..tail.len().saturating_sub(400));
            let end =
                tail.windows(5).rposition(|window| window == b"\nb1 O" || window == b"\nb1 N" || window == b"\nb1 B");
            if end.is_some_and(|at| tail[at + 1..].contains(&b'\n')) {
                let text = String::from_utf8_lossy(&tail);
                assert!(text.contains("\nb1 OK"), "{text}");
                return;
            }
        }
    }
}
