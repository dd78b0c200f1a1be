//! Batches: structures and contents of many messages in few exchanges, under the same checks as one by one. What does
//! not come, or does not fit what is known, is left out: who wants it asks for it alone.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use tracing::debug;

use super::Account;
use super::content::SECTIONS;
use super::index::Index;
use super::message::{FilePart, Message};
use super::object::{Locator, Object};
use super::recall::{keep_whole, recall};
use super::walk::Coming;
use crate::imap::response::{Data, FetchRow};
use crate::imap::{Answer, Class, Command, FetchItem};
use crate::mail::part::Encoding;
use crate::mail::range::BLOCK;
use crate::mail::section::Section;
use crate::mail::uid::{Uid, UidSet};
use crate::mail::wants::{MAX_MESSAGE, MAX_OBJECT, Wants};
use crate::tree::node::EntryId;

/// Parts and messages up to this size, encoded, come whole, with others.
const SMALL: u64 = 64 * 1024;

/// The same of parts of which only the size is wanted: the two ends of a larger one are less.
const ENDS: u64 = 2 * BLOCK;

/// Octets of a BODYSTRUCTURE, and of a header, as a batch counts with them.
const STRUCTURE: u64 = 16 * 1024;
const HEADER: u64 = 4 * 1024;

/// Octets that an answer may have besides.
const SLACK: u64 = 4 * 1024 * 1024;

/// From so many octets a batch goes with the bulk, so that small answers do not wait behind it.
const BULK: u64 = 64 * 1024;

/// The same of texts that are compressed on their way.
const BULK_OF_TEXTS: u64 = 4 * 1024 * 1024;

/// So many messages of a batch are asked for first, then twice as many, and so on.
const NEAR: usize = 16;

/// What comes of one message with others: its sections are those of its group.
struct Load {
    coming: Coming,
    locator: Locator,
    message: Option<Arc<Message>>,
    texts: Vec<(Section, EntryId)>,
    parts: Vec<Arc<Object>>,
    large: Vec<FilePart>,
    /// Octets of texts and parts, about.
    octets: u64,
}

/// Messages of which the same sections are wanted, each with its place in the batch.
struct Group {
    sections: Vec<Section>,
    loads: Vec<(usize, Load)>,
}

/// Some of a group, in one FETCH.
struct Piece {
    /// When it is asked for.
    turn: u32,
    class: Class,
    sections: Vec<Section>,
    loads: Vec<Load>,
}

impl Load {
    fn sections(&self) -> Vec<Section> {
        let texts = self.texts.iter().map(|(section, _)| section.clone());
        texts.chain(self.parts.iter().map(|object| object.section.clone())).collect()
    }
}

impl Account {
    /// Fetches this of these messages, and keeps it.
    pub(super) async fn bring(self: Arc<Self>, index: Arc<Index>, wants: Wants, coming: Vec<Coming>) {
        debug!(mailbox = ?index.name, ?wants, count = coming.len(), "ahead of a walker");
        if wants == Wants::STRUCTURE {
            self.bring_structures(&index, coming).await;
        } else {
            self.bring_contents(&index, wants, coming).await;
        }
    }

    /// One FETCH of all structures. A message whose structure makes no sense is left to who asks for it.
    async fn bring_structures(&self, index: &Index, coming: Vec<Coming>) {
        let mut waiting = HashMap::new();
        for coming in coming {
            let Some(summary) = index.get(coming.uid) else { continue };
            let Ok(whole) = self.whole(index.id, &summary) else { continue };
            waiting.insert(coming.uid, (coming, summary, whole));
        }
        self.recall_structures(index, &mut waiting).await;
        if waiting.is_empty() {
            return;
        }
        let uids: UidSet = waiting.keys().copied().collect();
        let limit = waiting.len() as u64 * STRUCTURE + SLACK;
        let items = vec![FetchItem::BodyStructure, FetchItem::Size];
        self.fetch_rows(index, uids, items, (Class::Small, limit), |uid, mut row| {
            if let Some(root) = row.structure.take()
                && let Some((_coming, summary, whole)) = waiting.remove(&uid)
                && row.size == Some(summary.size)
                && !self.messages.contains(&(index.id, uid))
                && let Some(message) = Message::told(index.id, whole, summary, root)
            {
                message.keep();
                self.messages.put((index.id, uid), Arc::new(message));
            }
        })
        .await;
    }

    /// What is small comes in a few FETCHes for all messages that have it under the same sections; the beginnings of what is
    /// large, each by itself. All of them are under way at once, what is small first: the server reads a large part from
    /// its beginning to tell of its end.
    async fn bring_contents(self: &Arc<Self>, index: &Index, wants: Wants, coming: Vec<Coming>) {
        // Where something is on its way already, what is large waits for none of it.
        for coming in coming.iter().filter(|coming| coming.waits()) {
            if let Some(message) = self.messages.get(&(index.id, coming.uid)) {
                let (large, _) = self.wanted_parts(&message, wants).await;
                self.bring_large(&large, wants);
            }
        }
        let mut groups: Vec<Group> = Vec::new();
        let (mut large, mut rest) = (Vec::new(), Vec::new());
        let loads = join_all(coming.into_iter().map(|coming| self.load(index, wants, coming))).await;
        for (place, mut load) in loads.into_iter().flatten().enumerate() {
            large.push(std::mem::take(&mut load.large));
            let sections = load.sections();
            if sections.is_empty() || sections.len() > SECTIONS {
                // It is asked for alone.
                rest.push(load);
                continue;
            }
            match groups.iter_mut().find(|group| group.sections == sections) {
                Some(group) => group.loads.push((place, load)),
                None => groups.push(Group { sections, loads: vec![(place, load)] }),
            }
        }
        let mut pieces: Vec<Piece> = groups.into_iter().flat_map(|group| self.pieces(group)).collect();
        pieces.sort_by_key(|piece| piece.turn);
        let groups = join_all(pieces.into_iter().map(|piece| self.bring_piece(index, piece)));
        let large = async {
            large.iter().for_each(|parts| self.bring_large(parts, wants));
            drop(rest);
        };
        tokio::join!(biased; groups, large);
    }

    /// What of a message is neither here nor on its way.
    async fn load(self: &Arc<Self>, index: &Index, wants: Wants, mut coming: Coming) -> Option<Load> {
        coming.earlier().await;
        let summary = index.get(coming.uid)?;
        let id = (index.id, coming.uid);
        let whole = self.whole(index.id, &summary).ok()?;
        let locator = whole.locator.clone();
        let (texts, parts, large) = (Vec::new(), Vec::new(), Vec::new());
        let mut load = Load { coming, locator, message: None, texts, parts, large, octets: 0 };
        if wants.intersects(Wants::WHOLE) {
            recall(&whole).await;
            if summary.size > SMALL {
                self.content.prefetch(&whole, 0..MAX_OBJECT);
            } else if summary.size > 0 && !self.content.holds(&whole) {
                load.octets += summary.size;
                load.parts.push(whole);
            }
        }
        if !wants.needs_structure() {
            return Some(load);
        }
        self.arrivals.wait(id, Wants::STRUCTURE).await;
        let message = self.messages.get(&id)?;
        if wants.intersects(Wants::TEXTS) {
            let missing = self.reading.missing_texts(&message);
            for (entry, section, octets) in self.recall_texts(&message, missing).await {
                load.octets += octets.unwrap_or(HEADER);
                load.texts.push((section, entry));
            }
        }
        let (large, small) = self.wanted_parts(&message, wants).await;
        load.large = large;
        for part in small.into_iter().filter(|part| !self.content.holds(&part.object)) {
            load.octets += part.object.length().octets();
            load.parts.push(part.object);
        }
        load.message = Some(message);
        Some(load)
    }

    /// The parts of a message of which something is wanted: those that come each by itself, and the others.
    async fn wanted_parts(&self, message: &Message, wants: Wants) -> (Vec<FilePart>, Vec<FilePart>) {
        let (mut large, mut small) = (Vec::new(), Vec::new());
        for part in message.parts(&self.content) {
            let octets = part.object.length().octets();
            let is_read =
                wants.intersects(Wants::PARTS | Wants::THROUGH) || wants.intersects(Wants::SMALL) && octets <= SMALL;
            if !is_read && (!wants.intersects(Wants::SIZES) || message.known_size(part.entry).is_some()) {
                continue;
            }
            recall(&part.object).await;
            // The sizes of others cannot be seen at their ends.
            let has_ends = matches!(part.encoding, Encoding::Identity | Encoding::Base64);
            let is_large = octets > if is_read || !has_ends { SMALL } else { ENDS };
            if is_large { &mut large } else { &mut small }.push(part);
        }
        (large, small)
    }

    /// Starts fetching what is wanted of the large parts of a message; what is too much together, in their order, is left to
    /// who reads it.
    fn bring_large(&self, parts: &[FilePart], wants: Wants) {
        let mut room = MAX_MESSAGE;
        for part in parts {
            let octets = part.object.length().octets().min(MAX_OBJECT);
            self.reading.prefetch(&self.content, part, if octets <= room { wants } else { Wants::SIZES });
            room = room.saturating_sub(octets);
        }
    }

    /// What of a group comes in one FETCH. What is wanted first is asked for first, and alone: servers answer by ascending
    /// UIDs, also who walks down, and one group after the other.
    fn pieces(&self, group: Group) -> Vec<Piece> {
        let octets: u64 = group.loads.iter().map(|(_, load)| load.octets).sum();
        // Texts shrink to a quarter where the connection for what is small compresses.
        let shrinks = self.client.login().compressed && group.loads.iter().all(|(_, load)| load.parts.is_empty());
        let class = if octets > if shrinks { BULK_OF_TEXTS } else { BULK } { Class::Bulk } else { Class::Small };
        let mut pieces: Vec<Piece> = Vec::new();
        for (place, load) in group.loads {
            let turn = (place / NEAR + 1).ilog2();
            match pieces.last_mut().filter(|piece| piece.turn == turn) {
                Some(piece) => piece.loads.push(load),
                None => pieces.push(Piece { turn, class, sections: group.sections.clone(), loads: vec![load] }),
            }
        }
        pieces
    }

    async fn bring_piece(&self, index: &Index, Piece { class, sections, loads, .. }: Piece) {
        let octets: u64 = loads.iter().map(|load| load.octets).sum();
        let limit = octets.saturating_mul(2) + loads.len() as u64 * STRUCTURE + SLACK;
        let mut items: Vec<FetchItem> = sections.iter().map(|s| FetchItem::Body(s.clone(), None)).collect();
        items.push(FetchItem::Size);
        let mut waiting: HashMap<Uid, (Load, FetchRow)> =
            loads.into_iter().map(|load| (load.coming.uid, (load, FetchRow::default()))).collect();
        let uids: UidSet = waiting.keys().copied().collect();
        self.fetch_rows(index, uids, items, (class, limit), |uid, row| {
            let Some((load, told)) = waiting.get_mut(&uid) else { return };
            // A server may tell of a message in several rows.
            told.size = told.size.or(row.size).filter(|_| load.locator.is_same(&row));
            told.bodies.extend(row.bodies);
            if told.bodies.len() >= sections.len()
                && told.size == Some(load.locator.size)
                && let Some((load, told)) = waiting.remove(&uid)
            {
                self.keep(&load, &told);
            }
        })
        .await;
    }

    /// Keeps what came of a message.
    fn keep(&self, load: &Load, told: &FetchRow) {
        let body = |section: &Section| {
            let mut bodies = told.bodies.iter();
            bodies.find(|b| b.section.as_ref() == Some(section) && b.origin.is_none()).and_then(|b| b.data.clone())
        };
        for (section, entry) in &load.texts {
            if let (Some(message), Some(octets)) = (&load.message, body(section)) {
                self.reading.put_text(message, *entry, &octets);
                keep_whole(&load.locator, section, octets);
            }
        }
        for object in &load.parts {
            if let Some(octets) = body(&object.section) {
                self.content.put(object, octets);
            }
        }
    }

    /// Hands on the rows of a FETCH as they come. However it ends: what did not come is asked for alone by who wants it.
    async fn fetch_rows(
        &self,
        index: &Index,
        uids: UidSet,
        items: Vec<FetchItem>,
        (class, limit): (Class, u64),
        mut row: impl FnMut(Uid, FetchRow),
    ) {
        let command = Command::Fetch { uids, items, changed_since: None };
        let mut answers = self.client.send(index.target(), command, class, limit);
        while let Some(answer) = answers.recv().await {
            match answer {
                Answer::Data(Data::Fetch(told)) => {
                    if let Some(uid) = told.uid {
                        row(uid, *told);
                    }
                }
                Answer::Data(_) | Answer::Part(..) => {}
                Answer::Done(Ok(_)) => return,
                Answer::Done(Err(error)) => {
                    return debug!(%error, mailbox = ?index.name, "a batch did not come in full");
                }
            }
        }
    }
}
