//! What is asked of each message, and what the answers tell, as the state machine wants it.

use tracing::info;

use crate::imap::response::{Code, Data, FetchRow, Selected, StatusItems};
use crate::imap::{Client, FetchItem};
use crate::mail::envelope::{Summary, Texts};
use crate::mail::mailbox::{Event, Opened};
use crate::mail::uid::{Uid, UidValidity};

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
            // So Dovecot tells of one that goes at this moment.
            info!(uid = ?row.uid, "a message without UID or size is left out");
        }
        return None;
    };
    let summary = Summary::new(
        uid,
        row.internal_date.unwrap_or(0),
        size,
        row.flags.unwrap_or_default(),
        row.modseq.unwrap_or(0),
        &row.envelope.unwrap_or_default(),
    );
    if row.email_id.is_none() && row.thread_id.is_none() {
        return Some(summary);
    }
    let [email_id, thread_id] = [row.email_id, row.thread_id].map(Option::unwrap_or_default);
    let (email_id, thread_id) = (String::from_utf8_lossy(&email_id), String::from_utf8_lossy(&thread_id));
    let texts = Texts { email_id: &email_id, thread_id: &thread_id, ..summary.texts() };
    Some(Summary::pack(summary.head().clone(), &texts))
}

/// Does a row lack something of what is asked of each message?
pub fn is_unfinished(row: &FetchRow) -> bool {
    row.size.is_none() || row.internal_date.is_none() || row.envelope.is_none()
}

/// The answer to [`summary_items`] without what it tells of messages that went meanwhile: Dovecot gives what it still
/// has of them, and says with the end of the answer (RFC 5530) that there were such.
pub fn without_gone(rows: Vec<Data>, code: Option<&Code>) -> Vec<Data> {
    let is_gone = |row: &Data| matches!(row, Data::Fetch(row) if is_unfinished(row));
    rows.into_iter().filter(|row| code != Some(&Code::ExpungeIssued) || !is_gone(row)).collect()
}

/// The message of a row, as an event: see [`summarize`]. A row without flags says nothing of those that are known.
pub fn message_event(row: FetchRow) -> Option<(Uid, Event)> {
    let tells_flags = row.flags.is_some();
    let summary = summarize(row)?;
    Some((summary.uid, if tells_flags { Event::Message(summary) } else { Event::Brought(summary) }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope::Envelope;
    use crate::mail::uid::Uid;

    #[test]
    fn what_is_left_of_a_message_that_went_is_no_message() {
        let whole = FetchRow {
            uid: Uid::new(7),
            size: Some(1),
            internal_date: Some(0),
            envelope: Some(Envelope::default()),
            ..FetchRow::default()
        };
        let rest = FetchRow { envelope: None, internal_date: None, ..whole.clone() };
        for (row, code, want) in [
            (&whole, Some(Code::ExpungeIssued), 1),
            (&rest, Some(Code::ExpungeIssued), 0),
            // A server that never tells more: its mail is shown as far as it is known.
            (&rest, None, 1),
        ] {
            let rows = vec![Data::Fetch(Box::new(row.clone()))];
            assert_eq!(without_gone(rows, code.as_ref()).len(), want, "{row:?} {code:?}");
        }
    }
}
