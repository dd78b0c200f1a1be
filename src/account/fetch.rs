//! One message asked for by its UID, by who knows that it was there.

use super::object::Locator;
use crate::error::{Error, Result};
use crate::imap::response::{Code, FetchRow};
use crate::imap::{Class, Client, Command, FetchItem};
use crate::mail::uid::UidSet;

/// Octets of an answer that tells nothing of messages.
const SELECTED_MAX: u64 = 64 * 1024;

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
