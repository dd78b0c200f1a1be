//! What is asked of each message, and what the answers tell, as the state machine wants it.

use tracing::warn;

use crate::imap::response::{Data, FetchRow, Selected, StatusItems};
use crate::imap::{Client, FetchItem};
use crate::mail::envelope::{Summary, Texts};
use crate::mail::mailbox::{Event, Opened};
use crate::mail::uid::UidValidity;

/// What is asked for of each message, once: it never changes, but for the flags.
pub fn summary_items(client: &Client) -> Vec<FetchItem> {
    let mut items = vec![FetchItem::Flags, FetchItem::InternalDate, FetchItem::Size, FetchItem::Envelope];
    if client.server().offers("CONDSTORE") {
        items.push(FetchItem::ModSeq);
    }
    if client.server().offers("OBJECTID") {
        items.push(FetchItem::ObjectId);
    }
    items
}

/// The summary of a row; none for a row that lacks what identifies a message: its UID and its size.
pub fn summarize(row: FetchRow) -> Option<Summary> {
    let (Some(uid), Some(size)) = (row.uid, row.size) else {
        if row.envelope.is_some() {
            warn!(uid = ?row.uid, "a message without UID or size is left out");
        }
        return None;
    };
    let mut summary = Summary::new(
        uid,
        row.internal_date.unwrap_or(0),
        size,
        row.flags.unwrap_or_default(),
        row.modseq.unwrap_or(0),
        &row.envelope.unwrap_or_default(),
    );
    if row.email_id.is_some() || row.thread_id.is_some() {
        let [email_id, thread_id] = [row.email_id, row.thread_id].map(Option::unwrap_or_default);
        let (email_id, thread_id) = (String::from_utf8_lossy(&email_id), String::from_utf8_lossy(&thread_id));
        summary.texts = Texts { email_id: &email_id, thread_id: &thread_id, ..summary.texts() }.pack();
    }
    Some(summary)
}

/// A row that tells flags, as an event.
pub fn flags_event(row: Data) -> Option<Event> {
    match row {
        Data::Fetch(row) => Some(Event::Flags(row.uid?, row.flags?, row.modseq.unwrap_or(0))),
        _ => None,
    }
}

/// What SELECT told of changes (RFC 7162), as events: what vanished first.
pub fn resync_events(rows: Vec<Data>) -> Vec<Event> {
    let vanished = rows.iter().filter_map(|row| match row {
        Data::Vanished(_, uids) => Some(Event::Gone(uids.clone())),
        _ => None,
    });
    let mut events: Vec<Event> = vanished.collect();
    events.extend(rows.into_iter().filter_map(flags_event));
    events
}

/// What SELECT told.
pub fn opened_by_select(selected: &Selected) -> Opened {
    Opened {
        validity: selected.uid_validity.unwrap_or(UidValidity(0)),
        uid_next: selected.uid_next,
        exists: selected.exists,
        highest_modseq: selected.highest_modseq,
    }
}

/// What STATUS told; `None` when it left out what is needed.
pub fn opened_by_status(status: StatusItems) -> Option<Opened> {
    Some(Opened {
        validity: status.uid_validity?,
        uid_next: Some(status.uid_next?),
        exists: status.messages?,
        highest_modseq: status.highest_modseq.filter(|n| *n > 0),
    })
}
