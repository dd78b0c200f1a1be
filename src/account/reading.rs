//! From encoded octets to what a reader gets: exact sizes, decoded ranges, texts in UTF-8, and read-ahead.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use tracing::debug;

use super::cache::Cache;
use super::content::Content;
use super::flight::Flights;
use super::message::{FilePart, Message, Source};
use super::object::Object;
use super::reader::{PartReader, Reader};
use super::reads::Reads;
use super::recall::{keep_whole, recall};
use crate::error::{Error, Result};
use crate::imap::Speed;
use crate::mail::layout::{Indexer, Layout};
use crate::mail::part::Encoding;
use crate::mail::range::{GUESSED, LARGE, LOOKED, MAX_AHEAD};
use crate::mail::section::{Section, Text};
use crate::mail::wants::{MAX_OBJECT, Wants};
use crate::mail::{header, mime, text, transfer};
use crate::tree::entries;
use crate::tree::node::{EntryId, MailboxId};

/// Encoded octets at the start of a part from which its line length is seen.
const HEAD: u64 = 4096;

/// Encoded octets at the end of a part from which its last line is seen.
const TAIL: u64 = 512;

/// Texts of a message up to this size, encoded, are fetched together with its header.
const SMALL_TEXT: u64 = 256 * 1024;

/// Octets of a part that are read by who only looks at its beginning, encoded: the kernel reads so much for him; when he
/// reads much at once (`grep -I`); and all of one that the kernel's guess, which is not held back then, reaches the end of.
const LOOKED_ENCODED: u64 = encoded(LOOKED);
const LARGE_ENCODED: u64 = encoded(LARGE);
const GUESSED_ENCODED: u64 = encoded(GUESSED);

/// Base64 in lines of 76, the usual encoding of what is large.
const fn encoded(octets: u64) -> u64 {
    octets.div_ceil(57) * 78
}

/// Octets that are read ahead of each reader at the least, however many there are; over a slow line; and until it is known how
/// fast it is: what somebody wants who comes when they have left is to come soon.
const LEAST_AHEAD: u64 = 2 * 1024 * 1024;
const SLOW_AHEAD: u64 = 1024 * 1024;
const FIRST_AHEAD: u64 = 4 * 1024 * 1024;

/// Octets of one message's header at the most.
const HEADER_MAX: u64 = 16 * 1024 * 1024;

/// Octets that a layout counts for: those of irregular parts hold checkpoints.
const LAYOUT_WEIGHT: usize = 4096;

/// Octets of converted texts that are kept.
const TEXTS_BUDGET: usize = 16 * 1024 * 1024;

/// Encoded octets that are read at once by a pass over a whole part.
const PASS: u64 = 1024 * 1024;

/// Encoded octets that such a pass keeps on their way.
const PASS_AHEAD: u64 = 4 * 1024 * 1024;

type TextKey = (MailboxId, u32, EntryId);

/// Decodes what `Content` has.
pub struct Reading {
    layouts: Cache<(u64, u64), Arc<Layout>>,
    texts: Cache<TextKey, Bytes>,
    text_flights: Flights<TextKey, Bytes>,
    batch_flights: Flights<(MailboxId, u32), ()>,
    layout_flights: Flights<(u64, u64), Arc<Layout>>,
    /// Held by each reader that is read ahead of, and by this.
    readers: Arc<()>,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            layouts: Cache::new(4 * 1024 * 1024, |_| LAYOUT_WEIGHT),
            texts: Cache::new(TEXTS_BUDGET, Bytes::len),
            text_flights: Flights::default(),
            batch_flights: Flights::default(),
            layout_flights: Flights::default(),
            readers: Arc::default(),
        }
    }
}

/// What a file is made of.
enum Kind {
    Headers(Section),
    Text { section: Section, encoding: Encoding, charset: Option<String>, octets: u64 },
    Part { section: Section, encoding: Encoding },
}

fn kind(message: &Message, entry: EntryId) -> Result<Kind> {
    Ok(match &message.entry(entry)?.content {
        entries::Content::Directory => return Err(Error::IsDirectory),
        entries::Content::Headers(section) => Kind::Headers(section.clone()),
        entries::Content::Raw(section) => Kind::Part { section: section.clone(), encoding: Encoding::Identity },
        entries::Content::Text { section, encoding, charset, octets, .. } => {
            Kind::Text { section: section.clone(), encoding: *encoding, charset: charset.clone(), octets: *octets }
        }
        entries::Content::File { section, encoding, .. } => {
            Kind::Part { section: section.clone(), encoding: *encoding }
        }
    })
}

impl Reading {
    /// The exact size of a file of a message, learnt as cheaply as its encoding allows, and remembered.
    pub async fn size(self: &Arc<Self>, content: &Arc<Content>, message: &Arc<Message>, entry: EntryId) -> Result<u64> {
        if let Some(size) = message.known_size(entry) {
            return Ok(size);
        }
        let size = match kind(message, entry)? {
            Kind::Headers(_) | Kind::Text { .. } => self.text(content, message, entry).await?.len() as u64,
            Kind::Part { section, encoding } => {
                let source = message.source(content, &section).await?;
                self.layout(content, &source, encoding, None).await?.decoded_len()
            }
        };
        message.learn_size(entry, size);
        Ok(size)
    }

    /// Opens a file of a message; its exact size is known then.
    pub async fn open(
        self: &Arc<Self>,
        content: &Arc<Content>,
        message: &Arc<Message>,
        entry: EntryId,
    ) -> Result<Reader> {
        match kind(message, entry)? {
            Kind::Headers(_) | Kind::Text { .. } => {
                let text = self.text(content, message, entry).await?;
                message.learn_size(entry, text.len() as u64);
                Ok(Reader::Text(text, Some((Arc::clone(message), entry))))
            }
            Kind::Part { section, encoding } => {
                let source = message.source(content, &section).await?;
                let layout = self.layout(content, &source, encoding, message.known_size(entry)).await?;
                let told = layout.decoded_len();
                message.learn_size(entry, told);
                Ok(Reader::Part(Box::new(PartReader {
                    entry: Some((Arc::clone(message), entry)),
                    mailbox: message.mailbox,
                    source,
                    encoding,
                    told,
                    layout: Mutex::new(layout),
                    reads: Reads::default(),
                    follows: OnceLock::new(),
                })))
            }
        }
    }

    /// `size` decoded octets from `offset` on, fewer only at the end of the file.
    ///
    /// # Errors
    /// Among others `Interrupted`, when the file was closed before it was certain that somebody wants them; `Protocol`, when
    /// the file turns out to have another length than when it was opened.
    pub async fn read(
        self: &Arc<Self>,
        content: &Arc<Content>,
        reader: &Reader,
        offset: u64,
        size: u32,
    ) -> Result<Bytes> {
        let part = match reader {
            Reader::Text(text, _) => {
                let clip = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(text.len());
                return Ok(text.slice(clip(offset)..clip(offset.saturating_add(size.into()))));
            }
            Reader::Part(part) => part,
        };
        part.check_length()?;
        let layout = Arc::clone(&part.layout.lock().unwrap_or_else(PoisonError::into_inner));
        let wanted = clip(offset..offset.saturating_add(size.into()), layout.decoded_len());
        if wanted.is_empty() {
            return Ok(Bytes::new());
        }
        let window = layout.plan(wanted.clone());
        let encoded = part.source.range(window.encoded());
        let most = self.most_ahead(content, part);
        let mut read = part.reads.begin(&wanted, wanted.end == layout.decoded_len(), most);
        let is_needless = read.is_held() && content.has(&part.source.object, encoded.clone());
        if let Some(ahead) = read.wait(is_needless).await? {
            let ahead = clip(ahead, layout.decoded_len());
            if ahead != wanted {
                part.follows.get_or_init(|| Arc::clone(&self.readers));
                content.prefetch(&part.source.object, part.source.range(layout.plan(ahead).encoded()));
            }
            part.reads.go_on();
        }
        let octets = content.read(&part.source.object, encoded).await?;
        match window.decode(&octets) {
            Ok(decoded) => Ok(decoded.into()),
            Err(irregular) => {
                // The ends of the part looked regular, its middle is not: only a pass over all of it tells.
                debug!(uid = %part.source.object.locator.uid, ?irregular, "a part is not as regular as its ends");
                let layout = self.index(content, &part.source, part.encoding).await?;
                if let Some((message, entry)) = &part.entry {
                    message.learn_size(*entry, layout.decoded_len());
                }
                self.layouts.put(layout_key(&part.source), Arc::clone(&layout));
                *part.layout.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&layout);
                part.check_length()?;
                let window = layout.plan(clip(wanted, layout.decoded_len()));
                let octets = content.read(&part.source.object, part.source.range(window.encoded())).await?;
                window
                    .decode(&octets)
                    .map(Bytes::from)
                    .map_err(|_| Error::protocol("a part does not hold what it held before"))
            }
        }
    }

    /// How many octets may be read ahead of a reader: those of all of them are to be kept in memory until they are read.
    fn most_ahead(&self, content: &Content, part: &PartReader) -> u64 {
        // Looked at before they are counted: another read of this file may make it one of them in between.
        let is_one = usize::from(part.follows.get().is_some());
        let readers = Arc::strong_count(&self.readers) - is_one;
        let share = (MAX_AHEAD / readers as u64).max(LEAST_AHEAD);
        match content.speed() {
            Speed::Slow => SLOW_AHEAD,
            Speed::Unknown => share.min(FIRST_AHEAD),
            Speed::Fast => share,
        }
    }

    /// How decoded offsets map to encoded ones: with a look at both ends of the part where its encoding is regular,
    /// else, or where another size is known of it, with one pass over it.
    async fn layout(
        self: &Arc<Self>,
        content: &Arc<Content>,
        source: &Source,
        encoding: Encoding,
        known: Option<u64>,
    ) -> Result<Arc<Layout>> {
        let key = layout_key(source);
        if let Some(layout) = self.layouts.get(&key) {
            return Ok(layout);
        }
        let (this, content, source) = (Arc::clone(self), Arc::clone(content), source.clone());
        let find = || async move {
            recall(&source.object).await;
            let layout = match encoding {
                Encoding::Identity => Arc::new(Layout::identity(exact_length(&content, &source).await?)),
                Encoding::Base64 => match ends(&content, &source).await? {
                    Some(layout) if known.is_none_or(|known| known == layout.decoded_len()) => Arc::new(layout),
                    _ => this.index(&content, &source, encoding).await?,
                },
                Encoding::QuotedPrintable | Encoding::Uuencode => this.index(&content, &source, encoding).await?,
            };
            this.layouts.put(key, Arc::clone(&layout));
            Ok(layout)
        };
        self.layout_flights.join(key, find).await
    }

    /// One pass over the whole part.
    async fn index(&self, content: &Content, source: &Source, encoding: Encoding) -> Result<Arc<Layout>> {
        let length = exact_length(content, source).await?;
        let mut builder = Indexer::new(encoding);
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < length {
            content.prefetch(&source.object, source.range(at..(at + PASS_AHEAD).min(length)));
            let octets = content.read(&source.object, source.range(at..(at + PASS).min(length))).await?;
            if octets.is_empty() {
                return Err(Error::protocol("a part ends before its end"));
            }
            builder.push(&octets, &mut decoded);
            // Only its length matters here.
            decoded.clear();
            at += octets.len() as u64;
        }
        Ok(Arc::new(builder.finish(&mut decoded)))
    }

    /// A header or a text, converted.
    async fn text(self: &Arc<Self>, content: &Arc<Content>, message: &Arc<Message>, entry: EntryId) -> Result<Bytes> {
        let key = text_key(message, entry);
        if let Some(text) = self.texts.get(&key) {
            return Ok(text);
        }
        // Header and texts of a message are mostly read together: one exchange brings them all.
        if is_small(message, entry) {
            let (this, content, message) = (Arc::clone(self), Arc::clone(content), Arc::clone(message));
            let batch = (message.mailbox, message.summary.uid.get());
            self.batch_flights.join(batch, || async move { this.fetch_texts(&content, &message).await }).await?;
            if let Some(text) = self.texts.get(&key) {
                return Ok(text);
            }
        }
        let (this, content, message) = (Arc::clone(self), Arc::clone(content), Arc::clone(message));
        self.text_flights
            .join(key, || async move {
                let (section, decoder) = text_decoder(&message, entry)?;
                let source = message.source(&content, &section).await?;
                let octets = content.read(&source.object, source.range(0..u64::MAX)).await?;
                let text = decoder(&octets);
                this.texts.put(key, text.clone());
                Ok(text)
            })
            .await
    }

    /// The header and the small texts of a message, in one exchange; what is not there is left out.
    async fn fetch_texts(&self, content: &Content, message: &Message) -> Result<()> {
        let wanted = self.missing_texts(message);
        let sections: Vec<Section> = wanted.iter().map(|(_, section, _)| section.clone()).collect();
        let bodies = content.fetch_sections(message.locator(), &sections, HEADER_MAX).await?;
        for ((entry, ..), body) in wanted.iter().zip(bodies) {
            if let Some(octets) = body {
                self.put_text(message, *entry, &octets);
            }
        }
        Ok(())
    }

    /// Keeps the header and the texts of a message that came whole, where what is seen here agrees with what the server
    /// states of them.
    pub fn put_texts_of(&self, message: &Message, octets: &Bytes) {
        let parsed = mime::parse(octets);
        for (entry, section, stated) in self.missing_texts(message) {
            let places = if section.text == Text::Header { &parsed.headers } else { &parsed.places };
            let Some(text) = places.get(&section.path).map(|place| octets.slice(place.clone())) else { continue };
            // A header ends with an empty line, or nobody knows where.
            if stated.map_or(text.ends_with(b"\r\n\r\n"), |stated| stated == text.len() as u64) {
                self.put_text(message, entry, &text);
                keep_whole(message.locator(), &section, text);
            }
        }
    }

    /// The header and the small texts of a message that are not here: their sections, and what is stated of their length.
    pub fn missing_texts(&self, message: &Message) -> Vec<(EntryId, Section, Option<u64>)> {
        let small = message.entries.iter().filter(|e| is_small(message, e.id));
        let missing = small.filter(|e| !self.texts.contains(&text_key(message, e.id)));
        missing
            .filter_map(|e| match kind(message, e.id) {
                Ok(Kind::Headers(section)) => Some((e.id, section, None)),
                Ok(Kind::Text { section, octets, .. }) => Some((e.id, section, Some(octets))),
                _ => None,
            })
            .collect()
    }

    /// Keeps the header or a text, which came with others; one of no octets is looked at by itself before it is believed.
    pub fn put_text(&self, message: &Message, entry: EntryId, octets: &[u8]) {
        if let Ok((_, decoder)) = text_decoder(message, entry)
            && !octets.is_empty()
        {
            let text = decoder(octets);
            message.learn_size(entry, text.len() as u64);
            self.texts.put(text_key(message, entry), text);
        }
    }

    /// Starts fetching what tells the size of a large part, and what of it is read first or, for who reads it through, more.
    pub fn prefetch(&self, content: &Content, part: &FilePart, wants: Wants) {
        let end = part.object.length().octets();
        let beginning = match () {
            () if wants.intersects(Wants::THROUGH) => MAX_OBJECT,
            () if !wants.intersects(Wants::PARTS) => 0,
            () if end <= GUESSED_ENCODED => end,
            () if wants.intersects(Wants::MUCH) => LARGE_ENCODED,
            () => LOOKED_ENCODED,
        };
        content.prefetch(&part.object, 0..beginning);
        match part.encoding {
            Encoding::Identity => content.prefetch(&part.object, end.saturating_sub(1)..end),
            Encoding::Base64 => prefetch_ends(content, &part.object, |range| range, end),
            Encoding::QuotedPrintable | Encoding::Uuencode => content.prefetch(&part.object, 0..MAX_OBJECT),
        }
    }
}

type TextDecoder = Box<dyn Fn(&[u8]) -> Bytes + Send>;

/// Where a text is, and how it becomes UTF-8.
fn text_decoder(message: &Message, entry: EntryId) -> Result<(Section, TextDecoder)> {
    Ok(match kind(message, entry)? {
        Kind::Headers(section) => (section, Box::new(|octets| header::headers_text(octets).into())),
        Kind::Text { section, encoding, charset, .. } => (
            section,
            Box::new(move |octets| text::to_utf8(&transfer::decode(encoding, octets), charset.as_deref()).into()),
        ),
        Kind::Part { .. } => return Err(Error::protocol("not a text")),
    })
}

/// Is it the header, or a small text, and can it be fetched by its section?
fn is_small(message: &Message, entry: EntryId) -> bool {
    match kind(message, entry) {
        Ok(Kind::Headers(section)) => message.is_on_server(&section),
        Ok(Kind::Text { section, octets, .. }) => octets <= SMALL_TEXT && message.is_on_server(&section),
        _ => false,
    }
}

fn text_key(message: &Message, entry: EntryId) -> TextKey {
    (message.mailbox, message.summary.uid.get(), entry)
}

fn layout_key(source: &Source) -> (u64, u64) {
    (source.object.id, source.place.as_ref().map_or(0, |place| place.start))
}

async fn exact_length(content: &Content, source: &Source) -> Result<u64> {
    match &source.place {
        Some(place) => Ok(place.end - place.start),
        None => content.exact_length(&source.object).await,
    }
}

/// Both ends at once; the tail settles the length as well.
fn prefetch_ends(content: &Content, object: &Arc<Object>, place: impl Fn(Range<u64>) -> Range<u64>, end: u64) {
    content.prefetch(object, place(0..HEAD.min(end)));
    content.prefetch(object, place(end.saturating_sub(TAIL)..end));
}

/// The layout of a base64 part from its two ends; `None` when they are not regular.
async fn ends(content: &Content, source: &Source) -> Result<Option<Layout>> {
    let stated = source.length().octets();
    prefetch_ends(content, &source.object, |range| source.range(range), stated);
    let length = exact_length(content, source).await?;
    let head = content.read(&source.object, source.range(0..HEAD.min(length))).await?;
    let tail = content.read(&source.object, source.range(length.saturating_sub(TAIL)..length)).await?;
    Ok(Layout::regular_base64(&head, &tail, length))
}

fn clip(range: Range<u64>, len: u64) -> Range<u64> {
    range.start.min(len)..range.end.min(len)
}
