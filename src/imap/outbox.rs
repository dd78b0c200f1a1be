//! What is on its way to the socket: text and files in their order, a file in pieces so that its size costs no memory.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::halves::Writer;
use super::line::Octets;
use crate::error::{Error, Result};

/// Octets of a file that are in memory at a time: few system calls, and little to lose.
const PIECE: u64 = 128 << 10;

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Octets>,
    /// Octets of the file at the head of the queue that have been read.
    position: u64,
    /// What goes out next.
    batch: Vec<u8>,
    /// The next piece of the file.
    read: Option<JoinHandle<io::Result<Vec<u8>>>>,
    handed: u64,
}

impl Outbox {
    /// Puts octets behind what is still to be written.
    pub fn push(&mut self, octets: Octets) {
        if !octets.is_empty() {
            self.queue.push_back(octets);
        }
    }

    /// Is nothing left that the writer has not been given?
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.batch.is_empty()
    }

    /// How many octets of all that was pushed have been given to the writer, and so perhaps to the server.
    pub fn handed(&self) -> u64 {
        self.handed
    }

    /// Writes the next piece. May be dropped and called again.
    ///
    /// Errors: `Offline` when the connection is lost; `Local` when a file cannot be read, or is shorter than was
    /// announced: then the connection must be given up, for the server takes all that follows for the message.
    pub async fn write(&mut self, writer: &mut Writer) -> Result<()> {
        if !writer.is_pending() {
            self.fill(writer).await?;
        }
        writer.write().await.map_err(|e| Error::offline(format!("connection lost: {e}")))
    }

    /// Gives the writer the next batch: a short message goes out in one piece with the text around it.
    async fn fill(&mut self, writer: &mut Writer) -> Result<()> {
        while (self.batch.len() as u64) < PIECE {
            match self.queue.front() {
                None => break,
                Some(Octets::Text(text)) => {
                    self.batch.extend_from_slice(text);
                    self.queue.pop_front();
                }
                Some(Octets::File(file, octets)) => {
                    let (file, position, octets) = (Arc::clone(file), self.position, *octets);
                    let read = self.read.get_or_insert_with(|| {
                        tokio::task::spawn_blocking(move || {
                            let mut piece = vec![0; PIECE.min(octets - position) as usize];
                            file.read_exact_at(&mut piece, position).map(|()| piece)
                        })
                    });
                    let piece = read.await.map_err(io::Error::other).flatten();
                    self.read = None;
                    let unreadable = |e| Error::Local(format!("the message cannot be read: {e}").into());
                    let piece = piece.map_err(unreadable)?;
                    self.batch.extend_from_slice(&piece);
                    self.position += piece.len() as u64;
                    if self.position == octets {
                        self.position = 0;
                        self.queue.pop_front();
                    }
                }
            }
        }
        self.handed += self.batch.len() as u64;
        let pushed = writer.push(&self.batch);
        self.batch.clear();
        pushed.map_err(|e| Error::protocol(format!("cannot compress: {e}")))
    }
}
