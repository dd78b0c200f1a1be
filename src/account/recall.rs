//! What is kept on disk of one section of a message: looked up before the server is asked, kept as it comes.

use std::ops::Range;

use bytes::Bytes;

use super::object::{Length, Locator, Object};
use crate::mail::range::blocks;
use crate::mail::section::Section;

/// Finds out what is kept of a section, before anything of it is read.
pub async fn recall(object: &Object) {
    let Some(shelf) = object.locator.shelf.as_ref().filter(|_| object.kept().is_none()) else { return };
    let Some(entry) = shelf.entry(object.locator.uid, &object.section).await else { return };
    match (entry.length(), object.length()) {
        (Some(kept), Length::Exact(known)) if kept != known => entry.forget(),
        (Some(kept), Length::Hint(_)) => object.set_length(Length::Exact(kept)),
        _ => {}
    }
    object.set_kept(entry);
}

/// The octets of adjoining blocks that are kept; `None` when they turn out not to be, or not to be what they were.
pub async fn read_kept(object: &Object, range: &Range<u64>) -> Option<Bytes> {
    let (shelf, entry) = (object.locator.shelf.as_ref()?, object.kept()?);
    let octets = shelf.read(entry, blocks(range)).await?;
    (octets.len() as u64 == range.end - range.start).then_some(octets)
}

/// Keeps octets that came, from the start of a block on.
pub fn put_kept(object: &Object, start: u64, octets: &Bytes) {
    if let (Some(shelf), Some(entry)) = (&object.locator.shelf, object.kept()) {
        let length = Some(object.length()).filter(|length| length.is_exact()).map(Length::octets);
        shelf.put(entry, start, octets.clone(), length);
    }
}

/// Keeps a section that came whole; not one of no octets, which is what some servers send for what is not there.
pub fn keep_whole(locator: &Locator, section: &Section, octets: Bytes) {
    if let Some(shelf) = locator.shelf.as_ref().filter(|_| !octets.is_empty()) {
        shelf.put_whole(locator.uid, section, octets);
    }
}

/// Those of these sections that are kept whole.
pub async fn kept_sections(locator: &Locator, sections: &[Section]) -> Vec<Option<Bytes>> {
    match &locator.shelf {
        Some(shelf) if !sections.is_empty() => shelf.sections(locator.uid, sections).await,
        _ => vec![None; sections.len()],
    }
}
