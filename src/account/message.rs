//! The MIME tree of a message: from the server's BODYSTRUCTURE, or taken apart here when that makes no sense.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use super::content::Content;
use super::fetch::fetch;
use super::object::{Length, Locator, Object};
use crate::error::{Error, Result};
use crate::imap::response::FetchRow;
use crate::imap::{Class, Client, FetchItem};
use crate::mail::envelope::Summary;
use crate::mail::mime;
use crate::mail::part::{Body, Encoding, Part};
use crate::mail::section::{PartPath, Section, Text};
use crate::mail::wants::Wants;
use crate::store::Details;
use crate::tree::entries::{self, Entries, EntryInfo};
use crate::tree::node::{EntryId, MailboxId};

/// Messages larger than this are not taken apart here; their `message.eml` can be read all the same.
const PARSE_MAX: u64 = 64 * 1024 * 1024;

/// Octets of a BODYSTRUCTURE at the most.
const STRUCTURE_MAX: u64 = 4 * 1024 * 1024;

/// Octets in memory of a message without its parts and files: itself, and the object that it is.
const WEIGHT: usize = 768;

/// Octets in memory of a file, whatever its texts: what is known of it, and the object that it comes from.
const ENTRY_WEIGHT: usize = 448;

/// A message and what is in it.
#[derive(Debug)]
pub struct Message {
    /// The mailbox it is in.
    pub mailbox: MailboxId,
    /// Its octets.
    whole: Arc<Object>,
    /// What is known of it as a whole.
    pub summary: Summary,
    /// Its MIME tree.
    pub root: Part,
    /// Its files.
    pub entries: Entries,
    origin: Origin,
    // Invariant: it never changes, or the cache would count amiss.
    weight: usize,
    state: Mutex<State>,
}

/// Who took it apart.
#[derive(Debug)]
enum Origin {
    /// The server: parts are sections of their own.
    Server,
    /// We: parts are places in `BODY[]`.
    Here(Arc<Places>),
}

/// Where the parts lie in what was taken apart here. Their tree is not kept along with it.
#[derive(Debug)]
struct Places {
    bodies: BTreeMap<PartPath, Range<usize>>,
    headers: BTreeMap<PartPath, Range<usize>>,
}

impl Places {
    /// Octets in memory, about.
    fn weight(&self) -> usize {
        let place = |path: &PartPath| size_of::<(PartPath, Range<usize>)>() + size_of_val(&**path);
        self.bodies.keys().chain(self.headers.keys()).map(place).sum()
    }
}

#[derive(Debug, Default)]
struct State {
    objects: HashMap<Section, Arc<Object>>,
    /// Attached messages that were taken apart here, by their section.
    attached: HashMap<Section, Arc<Places>>,
    sizes: HashMap<EntryId, u64>,
    /// The files that were asked about; true for those that were read.
    touched: HashMap<EntryId, bool>,
}

/// A file that is fetched by itself.
#[derive(Debug)]
pub struct FilePart {
    /// Which.
    pub entry: EntryId,
    /// Its octets.
    pub object: Arc<Object>,
    /// How they are encoded.
    pub encoding: Encoding,
}

/// Octets of an object: all of it, or a place in it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The object.
    pub object: Arc<Object>,
    /// The place; `None` for all of it.
    pub place: Option<Range<u64>>,
}

impl Source {
    /// How long it is, encoded.
    pub fn length(&self) -> Length {
        match &self.place {
            Some(place) => Length::Exact(place.end - place.start),
            None => self.object.length(),
        }
    }

    /// The range of the object that a range of this source is.
    pub fn range(&self, range: Range<u64>) -> Range<u64> {
        match &self.place {
            Some(place) => {
                let clip = |n: u64| place.start.saturating_add(n).min(place.end);
                clip(range.start)..clip(range.end)
            }
            None => range,
        }
    }
}

impl Message {
    /// Asks the server how the message is built. When its answer makes no sense, the message is fetched and taken
    /// apart here; so it is the same on each look, whatever was read before.
    pub async fn fetch(
        client: &Client,
        content: &Content,
        mailbox: MailboxId,
        whole: Arc<Object>,
        summary: Summary,
    ) -> Result<Arc<Self>> {
        let locator = &whole.locator;
        let items = vec![FetchItem::BodyStructure, FetchItem::Size];
        let is_answer = |rows: &[FetchRow]| !rows.is_empty();
        let mut rows = fetch(client, locator, items, STRUCTURE_MAX, Class::Small, is_answer).await?;
        let root = rows.iter_mut().find_map(|row| row.structure.take());
        match root.and_then(|root| Self::told(mailbox, Arc::clone(&whole), summary.clone(), root)) {
            Some(message) => Ok(Arc::new(message)),
            None => Self::take_apart(content, mailbox, whole, summary).await,
        }
    }

    /// The message as the server tells that it is built; `None` when that makes no sense.
    pub fn told(mailbox: MailboxId, whole: Arc<Object>, summary: Summary, root: Part) -> Option<Self> {
        mime::sane(&root, summary.size).then(|| Self::new(mailbox, whole, summary, root, Origin::Server))
    }

    /// The message as an earlier mount knew it.
    pub async fn recall(
        content: &Content,
        mailbox: MailboxId,
        whole: Arc<Object>,
        summary: Summary,
        details: Details,
    ) -> Option<Arc<Self>> {
        let message = match details.root {
            Some(root) => Arc::new(Self::told(mailbox, whole, summary, root)?),
            None => Self::take_apart(content, mailbox, whole, summary).await.ok()?,
        };
        message.lock().sizes.extend(details.sizes.into_iter().map(|(entry, size)| (EntryId(entry), size)));
        Some(message)
    }

    /// How it is built is kept on disk.
    pub fn keep(&self) {
        if let Some(shelf) = &self.locator().shelf {
            let told = matches!(self.origin, Origin::Server).then(|| self.root.clone());
            shelf.put_structure(self.summary.uid, told);
        }
    }

    /// Fetches the message whole and takes it apart here.
    async fn take_apart(
        content: &Content,
        mailbox: MailboxId,
        whole: Arc<Object>,
        summary: Summary,
    ) -> Result<Arc<Self>> {
        if summary.size > PARSE_MAX {
            return Err(Error::TooBig(
                "the server does not tell how this message is built, and it is too large to see".into(),
            ));
        }
        let (root, places) = parse(content, &whole).await?;
        Ok(Arc::new(Self::new(mailbox, whole, summary, root, Origin::Here(Arc::new(places)))))
    }

    fn new(mailbox: MailboxId, whole: Arc<Object>, summary: Summary, root: Part, origin: Origin) -> Self {
        let entries = entries::entries(&root);
        let places = if let Origin::Here(places) = &origin { places.weight() } else { 0 };
        let weight = WEIGHT + ENTRY_WEIGHT * entries.iter().len() + entries.texts() + root.weight() + places;
        Self { mailbox, whole, summary, root, entries, origin, weight, state: Mutex::default() }
    }

    /// Octets in memory, about; what files turn out to be makes no difference.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Is it small enough for that, and not done yet?
    pub fn can_be_taken_apart(&self) -> bool {
        self.is_as_told() && self.summary.size <= PARSE_MAX
    }

    /// Is it built as the server tells?
    pub fn is_as_told(&self) -> bool {
        matches!(self.origin, Origin::Server)
    }

    /// The same message, taken apart here, because what the server says of its parts and what it gives do not agree.
    pub async fn distrust(&self, content: &Content) -> Result<Arc<Self>> {
        match self.origin {
            Origin::Here(_) => Err(Error::protocol("a message does not hold what it held before")),
            Origin::Server => {
                warn!(uid = %self.summary.uid, mailbox = ?self.locator().mailbox, "the server's parts are not what it states: fetching the message whole");
                Self::take_apart(content, self.mailbox, Arc::clone(&self.whole), self.summary.clone()).await
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is on the server.
    pub fn locator(&self) -> &Locator {
        &self.whole.locator
    }

    /// The entry with this id. `Stale` when the message has no such entry (any more).
    pub fn entry(&self, id: EntryId) -> Result<&EntryInfo> {
        self.entries.get(id).ok_or(Error::Stale)
    }

    /// The size of a file, when it is known exactly.
    pub fn known_size(&self, id: EntryId) -> Option<u64> {
        if id == EntryId::RAW { Some(self.summary.size) } else { self.lock().sizes.get(&id).copied() }
    }

    /// Is it the header or a text?
    pub fn is_text(&self, id: EntryId) -> bool {
        self.entries.get(id).is_some_and(is_text)
    }

    /// The size of a file is asked for, or it is read: what is wanted, and what that tells of who does so.
    pub fn touch(&self, id: EntryId, read: bool) -> Wants {
        let mut state = self.lock();
        let known = state.touched.entry(id).or_default();
        *known |= read;
        let files = || self.entries.iter().filter(|e| e.listed && !e.content.is_directory());
        let own = match (self.is_text(id), read) {
            (true, _) => Wants::TEXTS,
            (false, true) => Wants::PARTS,
            (false, false) => Wants::SIZES,
        };
        let told = match () {
            () if files().any(|e| !is_text(e)) => Wants::HAS_PARTS,
            () if files().all(|e| state.touched.get(&e.id) == Some(&true)) => Wants::ALL_READ,
            () if files().all(|e| state.touched.contains_key(&e.id)) => Wants::ALL_SIZES,
            () => Wants::default(),
        };
        Wants::STRUCTURE | own | told
    }

    /// The files that are neither header nor text and sections of their own on the server, and the attached messages: what
    /// is in those is fetched with them.
    pub fn parts(&self, content: &Content) -> Vec<FilePart> {
        let mut parts: Vec<FilePart> = Vec::new();
        if matches!(self.origin, Origin::Here(_)) {
            return parts;
        }
        for entry in self.entries.iter().filter(|entry| entry.listed) {
            let Some(section) = entry.content.section() else { continue };
            let attached = attached_message(&self.root, &section.path);
            let encoding = match (&entry.content, attached) {
                (_, Some(_)) => Encoding::Identity,
                (entries::Content::File { encoding, .. }, None) => *encoding,
                _ => continue,
            };
            let section = attached.map_or_else(|| section.clone(), |attached| Section::part(&attached.path));
            if parts.iter().all(|known| known.object.section != section) {
                let octets = part_octets(&self.root, &section).unwrap_or(self.summary.size);
                let object = self.object(content, &section, Length::Hint(octets));
                parts.push(FilePart { entry: entry.id, object, encoding });
            }
        }
        parts
    }

    /// The size of a file was learnt.
    pub fn learn_size(&self, id: EntryId, size: u64) {
        let before = self.lock().sizes.insert(id, size);
        if let Some(shelf) = self.locator().shelf.as_ref().filter(|_| before != Some(size)) {
            shelf.put_size(self.summary.uid, id.0, size);
        }
    }

    /// At least the size of a file, and not 0, from memory.
    pub fn size_estimate(&self, id: EntryId) -> Result<u64> {
        use entries::Content;
        Ok(match &self.entry(id)?.content {
            Content::Directory => 0,
            // Decoding to UTF-8 makes at most three octets of one.
            Content::Headers(_) => self.summary.size.saturating_mul(3),
            Content::Text { octets, .. } => octets.saturating_mul(3),
            Content::File { octets, .. } => *octets,
            Content::Raw(section) => part_octets(&self.root, section).unwrap_or(self.summary.size),
        }
        // A stated length may be a little short, and nothing must look empty that may not be.
        .saturating_add(4096))
    }

    /// Where the octets of a section are: on the server under that name, or a place in something larger that was
    /// taken apart here. Sections inside attached messages mean different things to different servers, so those are
    /// always places in the attached message.
    pub async fn source(&self, content: &Content, section: &Section) -> Result<Source> {
        if *section == Section::message() {
            return Ok(Source { object: Arc::clone(&self.whole), place: None });
        }
        if let Origin::Here(places) = &self.origin {
            return place(&self.whole, places, section);
        }
        if let Some(attached) = attached_message(&self.root, &section.path) {
            let whole = Section::part(&attached.path);
            let object = self.object(content, &whole, Length::Hint(attached.octets));
            if *section == whole {
                return Ok(Source { object, place: None });
            }
            let known = self.lock().attached.get(&whole).cloned();
            let places = match known {
                Some(places) => places,
                None => {
                    let (_, places) = parse(content, &object).await?;
                    let places = Arc::new(places);
                    self.lock().attached.insert(whole.clone(), Arc::clone(&places));
                    places
                }
            };
            let inner = Section { path: section.path[whole.path.len()..].into(), text: section.text };
            return place(&object, &places, &inner);
        }
        let length = Length::Hint(part_octets(&self.root, section).unwrap_or(self.summary.size));
        Ok(Source { object: self.object(content, section, length), place: None })
    }

    /// Is the section a command of its own, so that it can be fetched together with others?
    pub fn is_on_server(&self, section: &Section) -> bool {
        self.is_as_told() && attached_message(&self.root, &section.path).is_none()
    }

    fn object(&self, content: &Content, section: &Section, length: Length) -> Arc<Object> {
        let mut state = self.lock();
        let new = || content.object(self.locator().clone(), section.clone(), length);
        Arc::clone(state.objects.entry(section.clone()).or_insert_with(new))
    }
}

async fn parse(content: &Content, object: &Arc<Object>) -> Result<(Part, Places)> {
    let octets = content.read_all(object).await?;
    // Taking apart is work, not waiting: some 10 ms for a large message.
    let parsed = tokio::task::spawn_blocking(move || mime::parse(&octets)).await;
    let mime::Parsed { root, places: bodies, headers } = parsed.map_err(|e| Error::Local(e.to_string().into()))?;
    Ok((root, Places { bodies, headers }))
}

fn place(object: &Arc<Object>, places: &Places, section: &Section) -> Result<Source> {
    let places = if section.text == Text::Header { &places.headers } else { &places.bodies };
    let place = places.get(&section.path).ok_or_else(|| Error::protocol(format!("{section} is not in the message")))?;
    Ok(Source { object: Arc::clone(object), place: Some(place.start as u64..place.end as u64) })
}

fn is_text(entry: &EntryInfo) -> bool {
    matches!(entry.content, entries::Content::Headers(_) | entries::Content::Text { .. })
}

/// The outermost attached message that this path leads into, or is.
fn attached_message<'a>(root: &'a Part, path: &[u32]) -> Option<&'a Part> {
    let mut part = root;
    loop {
        match &part.body {
            Body::Message(_) if !part.path.is_empty() && path.starts_with(&part.path) => return Some(part),
            Body::Multipart(parts) => {
                part = parts.iter().find(|p| !p.path.is_empty() && path.starts_with(&p.path))?;
            }
            _ => return None,
        }
    }
}

/// The stated length of the part with this section.
fn part_octets(root: &Part, section: &Section) -> Option<u64> {
    let mut part = root;
    loop {
        if part.path == section.path && !matches!(part.body, Body::Multipart(_)) {
            return Some(part.octets);
        }
        part = match &part.body {
            Body::Multipart(parts) => parts.iter().find(|p| section.path.starts_with(&p.path))?,
            Body::Message(inner) => inner,
            Body::Leaf => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::object::SharedName;
    use crate::mail::envelope::{Head, Texts};
    use crate::mail::flag::Flags;
    use crate::mail::mailbox_name::MailboxName;
    use crate::mail::uid::{Uid, UidValidity};

    fn message(raw: &str, is_told: bool) -> Message {
        let (uid, size) = (Uid::new(1).unwrap(), raw.len() as u64);
        let summary = Summary::pack(Head::new(uid, 0, size, Flags::default(), 0), &Texts::default());
        let mailbox = SharedName::new(MailboxName::new(b"INBOX"));
        let locator = Locator { mailbox, validity: UidValidity(1), uid, size, shelf: None };
        let whole = Arc::new(Object::new(1, locator, Section::message(), Length::Exact(size)));
        let mime::Parsed { root, places: bodies, headers } = mime::parse(raw.as_bytes());
        let here = || Origin::Here(Arc::new(Places { bodies, headers }));
        Message::new(MailboxId(1), whole, summary, root, if is_told { Origin::Server } else { here() })
    }

    #[test]
    fn a_message_weighs_what_is_kept_of_its_fields() {
        const LONG: usize = 500_000;
        let long = "x".repeat(LONG);
        for field in [
            format!("Content-Type: text/plain; foo={long}"),
            format!("Content-Type: text/plain; {long}=foo"),
            format!("Content-Disposition: inline; foo={long}"),
            format!("Content-Disposition: {long}"),
            format!("Content-ID: <{long}>"),
        ] {
            let name = &field[..30];
            for raw in [
                format!("{field}\r\n\r\nhello\r\n"),
                format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{field}\r\n\r\nhello\r\n--b--\r\n"),
                format!("Content-Type: message/rfc822\r\n\r\n{field}\r\n\r\nhello\r\n"),
            ] {
                let weight = message(&raw, true).weight();
                assert!((LONG..LONG * 3).contains(&weight), "{name}: {weight}");
            }
        }
    }

    #[test]
    fn a_usual_message_weighs_a_few_kilobytes() {
        let text = "Content-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n";
        let file =
            "Content-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nx";
        let two = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{text}--b\r\n{file}\r\n--b--\r\n");
        for (raw, most) in [("\r\nhello", 3200), (text, 3500), (&two, 4800)] {
            let (told, here) = (message(raw, true).weight(), message(raw, false).weight());
            assert!((2500..most).contains(&told) && (told..most + 300).contains(&here), "{told}, {here}: {raw}");
        }
    }
}
