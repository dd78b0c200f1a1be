//! The two halves of a connection after login: octets in, inflated; octets out, deflated (RFC 4978).
//!
//! Both hold their state between polls, so a future of theirs may be dropped at any await without losing an octet.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::transport::Stream;

/// Octets that one read or one step of inflating brings at the most: enough to fill the link, little enough that a
/// deflate bomb (1 : 1,000) is met by the limits above in steps of this size.
pub const CHUNK: usize = 64 * 1024;

const MIN_ROOM: usize = 4096;
/// Octets of one read in the clear.
const READ: usize = 256 * 1024;
/// Octets of one read under TLS, which fills all the room it is given with zeros before it reads a record of 16 KiB into
/// it: with the room for a large literal that would take quadratic time.
const READ_TLS: usize = 32 * 1024;

/// The reading half.
pub struct Reader {
    stream: ReadHalf<Box<dyn Stream>>,
    inflate: Option<Inflate>,
    /// Octets of one read.
    most: usize,
}

struct Inflate {
    state: Decompress,
    raw: BytesMut,
    /// The last step filled its room: there may be more to come out though nothing goes in.
    more: bool,
    ended: bool,
}

/// The writing half.
pub struct Writer {
    stream: WriteHalf<Box<dyn Stream>>,
    deflate: Option<Compress>,
    pending: BytesMut,
    unflushed: bool,
    written: u64,
}

/// Takes a stream apart; `tls` says what it is.
pub fn halves(stream: Box<dyn Stream>, tls: bool) -> (Reader, Writer) {
    let (reader, writer) = tokio::io::split(stream);
    (
        Reader { stream: reader, inflate: None, most: if tls { READ_TLS } else { READ } },
        Writer { stream: writer, deflate: None, pending: BytesMut::new(), unflushed: false, written: 0 },
    )
}

impl Reader {
    /// Are the server's octets deflated?
    pub fn is_inflating(&self) -> bool {
        self.inflate.is_some()
    }

    /// From here on the server's octets are deflated; `unread` are those that came already.
    pub fn inflate(&mut self, unread: &[u8]) {
        self.inflate =
            Some(Inflate { state: Decompress::new(false), raw: BytesMut::from(unread), more: true, ended: false });
    }

    /// Appends what comes next, 1 to [`CHUNK`] octets, to `buffer`; 0 is the end of the stream.
    ///
    /// Errors: of the socket; `InvalidData` for a corrupt deflate stream.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        // Only when there is next to no room: whoever owns the buffer knows better how much it will need.
        if buffer.capacity() - buffer.len() < MIN_ROOM {
            buffer.reserve(CHUNK);
        }
        let Some(inflate) = &mut self.inflate else {
            return self.stream.read_buf(&mut buffer.limit(self.most)).await;
        };
        loop {
            while inflate.more || !inflate.raw.is_empty() {
                let raw = inflate.raw.len();
                match inflate.step(buffer)? {
                    0 if inflate.raw.len() == raw && !inflate.more => break,
                    0 => {}
                    n => return Ok(n),
                }
            }
            inflate.raw.reserve(CHUNK / 4);
            if self.stream.read_buf(&mut inflate.raw).await? == 0 {
                return Ok(0);
            }
        }
    }
}

impl Inflate {
    fn step(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        if self.ended {
            // Nothing further can come behind the end of a deflate stream.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the deflate stream ended"));
        }
        let start = buffer.len();
        let room = (buffer.capacity() - start).clamp(MIN_ROOM, CHUNK);
        buffer.resize(start + room, 0);
        let (read, written) = (self.state.total_in(), self.state.total_out());
        let outcome = self.state.decompress(&self.raw, &mut buffer[start..], FlushDecompress::Sync);
        let n = (self.state.total_out() - written) as usize;
        buffer.truncate(start + n);
        self.raw.advance((self.state.total_in() - read) as usize);
        let status = outcome.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        self.ended = status == Status::StreamEnd;
        self.more = n == room || self.ended;
        Ok(n)
    }
}

impl Writer {
    /// From here on octets go out deflated.
    pub fn deflate(&mut self) {
        self.deflate = Some(Compress::new(Compression::default(), false));
    }

    /// Puts a batch behind what is still to be written.
    ///
    /// Errors: `InvalidData` when the compressor fails, which it never should.
    pub fn push(&mut self, batch: &[u8]) -> io::Result<()> {
        let Some(state) = &mut self.deflate else {
            self.pending.extend_from_slice(batch);
            return Ok(());
        };
        if batch.is_empty() {
            return Ok(());
        }
        // One sync flush for the batch: the server can read all of it now, at a cost of five octets.
        let mut rest = batch;
        loop {
            let start = self.pending.len();
            self.pending.resize(start + 4096, 0);
            let (read, written) = (state.total_in(), state.total_out());
            let outcome = state.compress(rest, &mut self.pending[start..], FlushCompress::Sync);
            let n = (state.total_out() - written) as usize;
            self.pending.truncate(start + n);
            rest = &rest[(state.total_in() - read) as usize..];
            outcome.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            if rest.is_empty() && n < 4096 {
                return Ok(());
            }
        }
    }

    /// Is something still to be written?
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty() || self.unflushed
    }

    /// How many octets have been written, deflated or not.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes what is pending and flushes. May be dropped and called again.
    pub async fn write(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.stream.write_buf(&mut self.pending).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => self.written += n as u64,
            }
            self.unflushed = true;
        }
        self.stream.flush().await?;
        self.unflushed = false;
        Ok(())
    }

    /// Says good-bye to the transport (TLS close_notify, FIN).
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn deflated_batches_arrive_whole_and_at_once() {
        let (a, b) = tokio::io::duplex(1000);
        let (mut reader, _keep) = halves(Box::new(a), false);
        let (_keep2, mut writer) = halves(Box::new(b), false);
        reader.inflate(b"");
        writer.deflate();
        let mut buffer = BytesMut::new();
        let noise: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for batch in [&b"T1 NOOP\r\n"[..], b"", b"T2 NOOP\r\n", &noise] {
            buffer.clear();
            writer.push(batch).unwrap();
            let write = writer.write();
            let read = async {
                while buffer.len() < batch.len() {
                    assert!(reader.read(&mut buffer).await.unwrap() > 0);
                }
            };
            let (written, ()) = tokio::join!(write, read);
            written.unwrap();
            assert!(buffer == batch);
        }
    }

    #[tokio::test]
    async fn a_corrupt_or_ended_deflate_stream_is_an_error_and_a_bomb_comes_in_chunks() {
        let mut bomb = Vec::new();
        let mut state = Compress::new(Compression::best(), false);
        state.compress_vec(&[], &mut bomb, FlushCompress::None).unwrap();
        bomb.reserve(1 << 20);
        state.compress_vec(&vec![b'x'; 50 << 20], &mut bomb, FlushCompress::Finish).unwrap();
        assert!(bomb.len() < 60_000);
        let (a, mut b) = tokio::io::duplex(1 << 20);
        let (mut reader, _keep) = halves(Box::new(a), false);
        reader.inflate(b"");
        b.write_all(&bomb).await.unwrap();
        let mut buffer = BytesMut::new();
        let mut total = 0;
        let end = loop {
            buffer.clear();
            match reader.read(&mut buffer).await {
                Ok(n) => total += n,
                Err(e) => break e,
            }
            assert!(buffer.capacity() <= 4 * CHUNK);
        };
        assert_eq!((total, end.kind()), (50 << 20, io::ErrorKind::InvalidData));

        let (a, _b) = tokio::io::duplex(100);
        let (mut reader, _keep) = halves(Box::new(a), false);
        reader.inflate(b"* OK not deflated at all\r\n");
        assert_eq!(reader.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
