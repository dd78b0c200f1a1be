//! One FETCH of one message, and whether its answer can be believed: what it is made of, a section, a range of it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tracing::warn;

use super::object::{Length, Locator, Object};
use crate::error::{Error, Result};
use crate::imap::response::{BodyRow, Code, FetchRow};
use crate::imap::{Class, Client, Command, FetchItem};
use crate::mail::section::{Section, Text};
use crate::mail::uid::UidSet;

/// Octets that a section may have more than its structure states, as long as it has not twice as many.
const PIECE_SLACK: u64 = 1024 * 1024;

/// Octets asked for beyond the stated end.
const BEYOND: u64 = 1024;

/// Octets that may have to be held whole: sections whose ranges the server answers wrongly.
pub const WHOLE_LIMIT: u64 = 64 * 1024 * 1024;

/// Octets for lines and item names of an answer, besides the literal.
pub const ANSWER_SLACK: u64 = 64 * 1024;

/// Octets of an answer that tells nothing of messages.
const SELECTED_MAX: u64 = 64 * 1024;

/// Fetches the octets of `range`, which begins inside the known length, and learns the length when it reaches the end.
pub async fn fetch_piece(
    client: &Client,
    object: &Object,
    range: Range<u64>,
    class: Class,
    ends_are_right: &AtomicBool,
) -> Result<Bytes> {
    let length = object.length();
    let known = length.octets();
    if range.end < known {
        let octets =
            fetch_body(client, object, Some((range.start, range.end - range.start)), range.end - range.start, class)
                .await?;
        let want = range.end - range.start;
        return if octets.len() as u64 == want { Ok(octets) } else { Err(short(want, octets.len())) };
    }
    let want = known.saturating_sub(range.start);
    // The whole in one piece: no range is needed, and none can be answered wrongly.
    let ask = (range.start > 0).then_some((range.start, want + BEYOND));
    let octets = fetch_body(client, object, ask, want + BEYOND, class).await?;
    let got = octets.len() as u64;
    match length {
        Length::Exact(_) if got == want => Ok(octets),
        Length::Exact(_) => Err(short(want, octets.len())),
        Length::Hint(_) if got == 0 && want > 0 => Err(short(want, 0)),
        Length::Hint(_) if ask.is_some() && got >= want + BEYOND => {
            Err(Error::protocol("much longer than its structure states"))
        }
        Length::Hint(_) => {
            let is_doubtful = got != want && ask.is_some() && known <= WHOLE_LIMIT;
            if is_doubtful && !ends_are_right.load(Ordering::Relaxed) {
                object.set_seen_end(range.start + got);
                return Err(Error::protocol("a range and the structure do not agree on where a part ends"));
            }
            learn_length(object, range.start + got);
            Ok(octets)
        }
    }
}

/// A section ends there.
pub fn learn_length(object: &Object, real: u64) {
    let stated = object.length().octets();
    // Nobody states how long a header is.
    if real != stated && object.section.text != Text::Header {
        warn!(uid = %object.locator.uid, section = %object.section, stated, real, "the structure states a wrong length");
    }
    object.set_length(Length::Exact(real));
}

pub fn short(want: u64, got: usize) -> Error {
    Error::protocol(format!("{want} octets were asked for, {got} came"))
}

/// One FETCH of the object, whole or a range of it. Much more than `expect` octets are `TooBig`.
pub async fn fetch_body(
    client: &Client,
    object: &Object,
    range: Option<(u64, u64)>,
    expect: u64,
    class: Class,
) -> Result<Bytes> {
    let range = match range {
        Some((offset, count)) => Some((offset, u32::try_from(count).map_err(|_| Error::protocol("range too large"))?)),
        None => None,
    };
    let items = vec![FetchItem::Body(object.section.clone(), range)];
    // The whole in one piece may be longer than its structure states.
    let limit = expect.saturating_add(expect.min(PIECE_SLACK)).saturating_add(ANSWER_SLACK);
    let rows = fetch_rows(client, &object.locator, items, limit, class).await?;
    take_body(&rows, &object.section, range.map(|(offset, _)| offset))
        .ok_or_else(|| Error::protocol("the answer has no data"))
}

/// The bodies of one message that a FETCH brought. `Stale` when the server has nothing for that UID any more.
pub async fn fetch_rows(
    client: &Client,
    locator: &Locator,
    mut items: Vec<FetchItem>,
    limit: u64,
    class: Class,
) -> Result<Vec<BodyRow>> {
    items.push(FetchItem::Size);
    // For a message that is gone servers answer nothing but OK, or NIL.
    let has_data = |rows: &[FetchRow]| rows.iter().any(|row| row.bodies.iter().any(|body| body.data.is_some()));
    let rows = fetch(client, locator, items, limit, class, has_data).await?;
    // What was asked for with the body stands before or behind it; a literal shorter than announced swallows that.
    match rows.iter().any(|row| row.size.is_some()) {
        true => Ok(rows.into_iter().flat_map(|row| row.bodies).collect()),
        false => Err(Error::protocol("the answer is not complete")),
    }
}

pub fn take_body(rows: &[BodyRow], section: &Section, origin: Option<u64>) -> Option<Bytes> {
    rows.iter()
        .find(|row| row.section.as_ref() == Some(section) && row.origin == origin)
        .and_then(|row| row.data.clone())
}

/// What a FETCH of these items tells of the message. Without an answer by `is_answer`, or where it is said to be expunged,
/// the message is gone, or new to the connection (Dovecot's are told of what others bring at the end of a command), so it
/// is asked for once more on one that has just heard.
///
/// # Errors
/// `Stale` when it is gone, or another one; `Protocol` when it is there and there is no answer.
pub async fn fetch(
    client: &Client,
    locator: &Locator,
    items: Vec<FetchItem>,
    limit: u64,
    class: Class,
    is_answer: impl Fn(&[FetchRow]) -> bool + Send,
) -> Result<Vec<FetchRow>> {
    let uids = UidSet::range(locator.uid.get(), locator.uid.get());
    let command = Command::Fetch { uids, items, changed_since: None };
    let (rows, expunged) = fetch_once(client, locator, command.clone(), limit, class).await?;
    if is_answer(&rows) && !expunged {
        return Ok(rows);
    }
    let (_, done) = client.run(locator.target(), Command::Select, Class::Small, SELECTED_MAX).await?;
    let here = done.selected.map(|selected| client.on(&selected));
    let (rows, expunged) = fetch_once(here.as_ref().unwrap_or(client), locator, command, limit, class).await?;
    match () {
        () if expunged || rows.is_empty() => Err(Error::Stale),
        () if is_answer(&rows) => Ok(rows),
        () => Err(Error::protocol("the answer has no data")),
    }
}

/// The rows of the message, and whether some were expunged before they could be told (RFC 5530): what is there of them is
/// not all.
async fn fetch_once(
    client: &Client,
    locator: &Locator,
    command: Command,
    limit: u64,
    class: Class,
) -> Result<(Vec<FetchRow>, bool)> {
    let (rows, done) = client.run(locator.target(), command, class, limit).await?;
    let rows: Vec<FetchRow> = rows.into_iter().filter_map(|row| locator.pick(row)).map(|row| *row).collect();
    let expunged = done.code == Some(Code::ExpungeIssued);
    if rows.iter().all(|row| locator.is_same(row)) { Ok((rows, expunged)) } else { Err(Error::Stale) }
}
