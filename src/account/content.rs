//! Encoded octets of sections: from memory, or in windows from the server, each octet once.
//!
//! 1. Octets are kept in blocks of 8 KiB and fetched in pieces of adjoining blocks; a piece on its way is known by
//!    each of its blocks, so two readers of the same octets share one fetch.
//! 2. Nothing a server says of a length is believed before it was seen: the piece that reaches the stated end asks for
//!    a little more than should be there. Fewer octets than stated, there and only there, correct a hint.
//! 3. A range that ends elsewhere than the structure states may be the lie as well: the first such section is fetched
//!    whole, and from then on the ends of ranges are believed, if they were right.
//! 4. Any other short, misplaced or missing answer is a lie about ranges (seen on several servers): the section is then
//!    fetched whole, and only whole from then on. If that fails as well, or would be too much, the reader gets an error, never
//!    short data, and the next one asks for ranges again.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, try_join_all};
use tokio::time::timeout;
use tracing::warn;

use super::cache::Cache;
use super::fetch::{ANSWER_SLACK, WHOLE_LIMIT, fetch_body, fetch_piece, fetch_rows, learn_length, short, take_body};
use super::flight::Flights;
use super::object::{Length, Locator, Object};
use super::recall::{keep_whole, kept_sections, put_kept, read_kept, recall};
use super::stream;
use crate::error::{Error, Result};
use crate::imap::{Class, Client, FetchItem, Speed};
use crate::mail::range::{BLOCK, blocks, plan_fetches};
use crate::mail::section::Section;

/// Octets of a piece, one FETCH: an eighth of the range that is wanted, so that its beginning is not held up by its end,
/// within these bounds. Servers answer few large pieces faster than many small ones.
const PIECE: RangeInclusive<u64> = 256 * 1024..=1024 * 1024;

/// From this many octets on what is wanted is streamed, where the server is known to do that well.
const STREAM: u64 = 1024 * 1024;

/// From this many octets a piece goes with the bulk, so that small answers do not wait behind it.
const BULK: u64 = 64 * 1024;

/// For how long a small read waits for octets that come with others. On a slow line megabytes may be before them that nobody
/// wants any more; then they are asked for once more, alone.
const PATIENCE: Duration = Duration::from_secs(2);

/// A read of no more octets is not one of many that read a file through: the kernel's read-ahead is larger.
const PEEK: u64 = 2 * BLOCK;

/// Sections of a message in one FETCH.
pub(super) const SECTIONS: usize = 32;

/// Blocks that arrived, first block and octets; the last one may be shorter than a block.
#[derive(Clone, Debug)]
struct Piece {
    start: u64,
    octets: Bytes,
}

type PieceFlight = Shared<BoxFuture<'static, Result<Piece>>>;
type PieceFlights = Arc<Mutex<HashMap<(u64, u64), PieceFlight>>>;

/// The octets of all objects of an account.
pub struct Content {
    client: Client,
    /// By object and block: a piece that the block is in.
    blocks: Arc<Cache<(u64, u64), Piece>>,
    wholes: Arc<Cache<u64, Bytes>>,
    pieces: PieceFlights,
    whole_flights: Flights<u64, Bytes>,
    ends_are_right: Arc<AtomicBool>,
    next_id: AtomicU64,
    /// Pieces of reads that were here, and that were not.
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Content {
    /// Octets of messages, `budget` octets of them kept in memory.
    pub fn new(client: Client, budget: usize) -> Self {
        Self {
            client,
            blocks: Arc::new(Cache::new(budget, |piece| piece.octets.len().min(BLOCK as usize))),
            wholes: Arc::new(Cache::new(budget, Bytes::len)),
            pieces: PieceFlights::default(),
            whole_flights: Flights::default(),
            ends_are_right: Arc::default(),
            next_id: AtomicU64::new(1),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// How many pieces of reads were in memory, and how many were not.
    pub fn looked_up(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// What is known of the line to the server.
    pub fn speed(&self) -> Speed {
        self.client.speed()
    }

    /// A new object.
    pub fn object(&self, locator: Locator, section: Section, length: Length) -> Arc<Object> {
        Arc::new(Object::new(self.next_id.fetch_add(1, Ordering::Relaxed), locator, section, length))
    }

    /// The octets of `range`; fewer only when the section ends before. Each round may correct the length.
    pub async fn read(&self, object: &Arc<Object>, range: Range<u64>) -> Result<Bytes> {
        recall(object).await;
        loop {
            let length = object.length();
            let end = range.end.min(length.octets());
            if range.start >= end && length.is_exact() {
                return Ok(Bytes::new());
            }
            if object.is_whole_only() {
                return Ok(slice(&self.whole(object).await?, range));
            }
            // Past a hint nothing can be asked for (servers answer that in many ways): settle the end first.
            let wanted = range.start.min(length.octets().saturating_sub(1))..end.max(1);
            match self.gather(object, wanted.clone()).await {
                // The length was corrected on the way: look again.
                Ok(_) if object.length() != length => {}
                Ok(octets) if octets.len() as u64 == wanted.end - wanted.start => return Ok(octets),
                Ok(_) => return Err(Error::protocol("a range is shorter than it should be")),
                Err(Error::Protocol(reason) | Error::TooBig(reason)) if length.octets() <= WHOLE_LIMIT => {
                    warn!(uid = %object.locator.uid, section = %object.section, %reason, "ranges are not to be relied on: fetching whole");
                    let whole = self.whole(object).await?;
                    object.set_whole_only();
                    return Ok(slice(&whole, range));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// All octets.
    pub async fn read_all(&self, object: &Arc<Object>) -> Result<Bytes> {
        self.read(object, 0..u64::MAX).await
    }

    /// Settles how long the section really is, by looking at its end.
    pub async fn exact_length(&self, object: &Arc<Object>) -> Result<u64> {
        recall(object).await;
        while !object.length().is_exact() {
            let hint = object.length().octets();
            self.read(object, hint.saturating_sub(1)..hint).await?;
        }
        Ok(object.length().octets())
    }

    /// Starts fetching what of `range` is neither here nor on its way, and does not wait.
    pub fn prefetch(&self, object: &Arc<Object>, range: Range<u64>) {
        if !object.is_whole_only() {
            let end = range.end.min(object.length().octets());
            drop(self.flights(object, range.start.min(end)..end));
        }
    }

    /// Need nothing of `range` be asked for: is it here, on disk, or on its way?
    pub fn has(&self, object: &Object, range: Range<u64>) -> bool {
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |block| object.is_kept(block) || pieces.contains_key(&(object.id, block));
        object.is_whole_only() || blocks(&range).all(|block| has(block) || self.blocks.contains(&(object.id, block)))
    }

    /// Is all of a section here, in memory or on disk?
    pub fn holds(&self, object: &Object) -> bool {
        let Length::Exact(length) = object.length() else { return false };
        blocks(&(0..length)).all(|block| self.blocks.contains(&(object.id, block)) || object.is_kept(block))
    }

    /// Keeps all octets of a section, which came with those of others; not when they cannot be it.
    pub fn put(&self, object: &Object, octets: Bytes) {
        let got = octets.len() as u64;
        match object.length() {
            _ if object.is_whole_only() => return,
            Length::Exact(known) if known != got => return,
            Length::Hint(stated) if stated > 0 && got == 0 => return,
            Length::Exact(_) => {}
            Length::Hint(_) => learn_length(object, got),
        }
        let octets = own(octets);
        if let Some(shelf) = &object.locator.shelf {
            shelf.put_whole(object.locator.uid, &object.section, octets.clone());
        }
        keep(&self.blocks, object, &Piece { start: 0, octets });
    }

    /// The octets of a range that lies inside the known length.
    async fn gather(&self, object: &Arc<Object>, range: Range<u64>) -> Result<Bytes> {
        let mut out = BytesMut::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0).min(1 << 20));
        let mut at = range.start;
        for source in self.flights(object, range.clone()) {
            let counter = if matches!(source, Source::Here(_)) { &self.hits } else { &self.misses };
            counter.fetch_add(1, Ordering::Relaxed);
            let piece = match source {
                Source::Here(piece) => piece,
                Source::Flight(flight) if range.end - range.start <= BULK => match timeout(PATIENCE, flight).await {
                    Ok(piece) => piece?,
                    Err(_) => self.fetch_alone(object, at..range.end).await?,
                },
                Source::Flight(flight) => flight.await?,
            };
            // A piece that came out shorter corrected the length: the caller looks again.
            let Some(skip) = at.checked_sub(piece.start) else { break };
            let from = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.octets.len());
            let to = usize::try_from(range.end - piece.start).unwrap_or(usize::MAX).min(piece.octets.len());
            // One block or piece is everything: hand it on without a copy.
            if at == range.start && piece.start + to as u64 >= range.end {
                return Ok(piece.octets.slice(from..to));
            }
            out.extend_from_slice(&piece.octets[from..to]);
            at += (to - from) as u64;
            // What was fetched alone may have brought what others are still to bring.
            if at >= range.end {
                break;
            }
        }
        Ok(out.freeze())
    }

    /// The blocks of a small range, whatever else is on its way.
    async fn fetch_alone(&self, object: &Arc<Object>, range: Range<u64>) -> Result<Piece> {
        let blocks = blocks(&range);
        let range = blocks.start * BLOCK..(blocks.end * BLOCK).min(object.length().octets().max(range.end));
        let start = range.start;
        let octets = fetch_piece(&self.client, object, range, Class::Small, &self.ends_are_right).await?;
        let piece = Piece { start, octets: own(octets) };
        keep(&self.blocks, object, &piece);
        Ok(piece)
    }

    /// Where the octets of `range` are or come from, in order; what is missing is on its way now.
    fn flights(&self, object: &Arc<Object>, range: Range<u64>) -> Vec<Source> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let peek = range.end - range.start <= PEEK;
        let here: Vec<_> = blocks(&range).map(|block| (block, self.block(object.id, block, peek))).collect();
        let missing =
            here.iter().filter(|(block, piece)| piece.is_none() && !pieces.contains_key(&(object.id, *block)));
        let missing = missing.map(|(block, _)| *block);
        let (kept, missing): (Vec<u64>, Vec<u64>) = missing.partition(|block| object.is_kept(*block));
        let wanted = range.end - range.start;
        let piece = (wanted / 8).clamp(*PIECE.start(), *PIECE.end());
        // All on one connection, its last and least piece as well: elsewhere the server would read the part from its
        // beginning for it.
        let class = if wanted > BULK { Class::Bulk } else { Class::Small };
        let known = object.length().octets();
        let end = range.end.max(known);
        for fetch in plan_fetches(kept, end, *PIECE.start()) {
            let flight = self.launch(object, fetch.clone(), class, First::Disk);
            pieces.extend(blocks(&fetch).map(|block| ((object.id, block), flight.clone())));
        }
        let is_long = wanted >= STREAM && self.client.server().is_ordered();
        let fetches = plan_fetches(missing, end, if is_long { *PIECE.start() } else { piece });
        // The end of a section is settled by a piece that is fetched alone.
        let adjoin = |a: &Range<u64>, b: &Range<u64>| is_long && a.end == b.start && b.end < known;
        for run in fetches.chunk_by(adjoin) {
            let mut streamed = stream::fetch(&self.client, object, run).into_iter();
            for fetch in run {
                let first = streamed.next().map_or(First::Nowhere, First::Stream);
                let flight = self.launch(object, fetch.clone(), class, first);
                pieces.extend(blocks(fetch).map(|block| ((object.id, block), flight.clone())));
            }
        }
        let mut sources: Vec<Source> = Vec::new();
        for (block, piece) in here {
            match (piece, pieces.get(&(object.id, block)), sources.last()) {
                (Some(piece), _, Some(Source::Here(last))) if last.octets.as_ptr() == piece.octets.as_ptr() => {}
                (Some(piece), ..) => sources.push(Source::Here(piece)),
                (None, Some(flight), Some(Source::Flight(last))) if last.ptr_eq(flight) => {}
                (None, Some(flight), _) => sources.push(Source::Flight(flight.clone())),
                (None, None, _) => {}
            }
        }
        sources
    }

    /// What is kept of a block. That it is read by who reads a file through keeps it no longer: what comes for him next, and was
    /// not read yet, goes after it. A block that is read for itself gets a copy of its own, so that it does not keep all of its
    /// piece from being given up.
    fn block(&self, object: u64, block: u64, peek: bool) -> Option<Piece> {
        if !peek {
            return self.blocks.peek(&(object, block));
        }
        let piece = self.blocks.get(&(object, block))?;
        if piece.octets.len() as u64 <= PEEK {
            return Some(piece);
        }
        let start = block * BLOCK;
        let from = usize::try_from(start.checked_sub(piece.start)?).ok()?;
        let octets = piece.octets.get(from..piece.octets.len().min(from + BLOCK as usize))?;
        let piece = Piece { start, octets: Bytes::copy_from_slice(octets) };
        self.blocks.put((object, block), piece.clone());
        Some(piece)
    }

    /// Brings adjoining blocks in a task of its own. Must be entered with the lock of `pieces` held, so that the
    /// landing waits until the flight is on the list.
    fn launch(&self, object: &Arc<Object>, range: Range<u64>, class: Class, first: First) -> PieceFlight {
        let (client, object, cache) = (self.client.clone(), Arc::clone(object), Arc::clone(&self.blocks));
        let landing = Landing { pieces: Arc::clone(&self.pieces), object: object.id, blocks: blocks(&range) };
        let ends_are_right = Arc::clone(&self.ends_are_right);
        let mut work = Box::pin(async move {
            let start = range.start;
            let come = match first {
                First::Nowhere => None,
                First::Disk => {
                    if let Some(octets) = read_kept(&object, &range).await {
                        let piece = Piece { start, octets };
                        keep(&cache, &object, &piece);
                        return Ok(piece);
                    }
                    None
                }
                First::Stream(awaited) => awaited.await.ok(),
            };
            let octets = match come {
                Some(octets) => octets,
                None => fetch_piece(&client, &object, range, class, &ends_are_right).await?,
            };
            let piece = Piece { start, octets: own(octets) };
            keep(&cache, &object, &piece);
            put_kept(&object, start, &piece.octets);
            Ok(piece)
        });
        // The first poll sends the command. It is done here, so that the pieces of a part are asked for in their order:
        // Dovecot reads a part a hundred times slower in another.
        let early = (&mut work).now_or_never();
        let task = tokio::spawn(async move {
            let _landing = landing;
            match early {
                Some(outcome) => outcome,
                None => work.await,
            }
        });
        task.map(|end| end.unwrap_or_else(|e| Err(Error::Local(e.to_string().into())))).boxed().shared()
    }

    /// The section in one literal, once for all who ask.
    async fn whole(&self, object: &Arc<Object>) -> Result<Bytes> {
        if let Some(octets) = self.wholes.get(&object.id) {
            return Ok(octets);
        }
        let (client, object, cache) = (self.client.clone(), Arc::clone(object), Arc::clone(&self.wholes));
        let (id, ends_are_right) = (object.id, Arc::clone(&self.ends_are_right));
        let fetch = || async move {
            let octets = fetch_body(&client, &object, None, WHOLE_LIMIT, Class::Bulk).await?;
            if object.seen_end() == Some(octets.len() as u64) {
                ends_are_right.store(true, Ordering::Relaxed);
            }
            match object.length() {
                Length::Exact(n) if n != octets.len() as u64 => {
                    return Err(Error::protocol(format!("{n} octets were known, {} came", octets.len())));
                }
                // `{0}` is what several servers send for what is not there.
                Length::Hint(n) if n > 0 && octets.is_empty() => return Err(short(n, 0)),
                _ => object.set_length(Length::Exact(octets.len() as u64)),
            }
            cache.put(object.id, octets.clone());
            put_kept(&object, 0, &octets);
            Ok(octets)
        };
        self.whole_flights.join(id, fetch).await
    }

    /// Sections in one exchange, each whole: header and text parts of one message. `None` for one that is not there.
    pub async fn fetch_sections(
        &self,
        locator: &Locator,
        sections: &[Section],
        limit: u64,
    ) -> Result<Vec<Option<Bytes>>> {
        let mut found = kept_sections(locator, sections).await;
        let missing = || sections.iter().zip(&found).filter(|(_, octets)| octets.is_none()).map(|(section, _)| section);
        let items: Vec<_> = missing().map(|s| FetchItem::Body(s.clone(), None)).collect();
        if items.is_empty() {
            return Ok(found);
        }
        let limit = limit.saturating_add(ANSWER_SLACK);
        // One FETCH has room for so many, and the size of the message.
        let rows =
            items.chunks(SECTIONS).map(|items| fetch_rows(&self.client, locator, items.to_vec(), limit, Class::Small));
        let rows = try_join_all(rows).await?.concat();
        for (section, octets) in sections.iter().zip(&mut found).filter(|(_, octets)| octets.is_none()) {
            *octets = take_body(&rows, section, None);
            if let Some(octets) = octets {
                keep_whole(locator, section, octets.clone());
            }
        }
        Ok(found)
    }
}

/// Memory of its own for what is small: it is a slice of what was read at once from the connection, and would keep all of that.
fn own(octets: Bytes) -> Bytes {
    if octets.len() as u64 <= BULK { Bytes::copy_from_slice(&octets) } else { octets }
}

/// The octets of `range`, as far as there are any.
fn slice(octets: &Bytes, range: Range<u64>) -> Bytes {
    let clip = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(octets.len());
    octets.slice(clip(range.start)..clip(range.end))
}

/// Where a piece is looked for before it is asked for alone.
enum First {
    Nowhere,
    Disk,
    Stream(stream::Awaited),
}

enum Source {
    Here(Piece),
    Flight(PieceFlight),
}

/// Takes a flight off the list when it ended, however it ended.
struct Landing {
    pieces: PieceFlights,
    object: u64,
    blocks: Range<u64>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        for block in self.blocks.clone() {
            pieces.remove(&(self.object, block));
        }
    }
}

/// Keeps a piece under each of its blocks.
fn keep(cache: &Cache<(u64, u64), Piece>, object: &Object, piece: &Piece) {
    for block in blocks(&(piece.start..piece.start + piece.octets.len() as u64)) {
        cache.put((object.id, block), piece.clone());
    }
}
