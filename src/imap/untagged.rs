//! Untagged data, RFC 9051 sections 7.2 to 7.5, and that of the extensions which imapfs uses.

use super::fetch;
use super::frame::parse_number;
use super::response::{Data, ListRow, SearchResult, StatusItems};
use super::token::Cursor;
use super::value::{flags, object_id, text, uid, upper_words, validity};

use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::UidSet;

/// NAMESPACE: personal, other users', shared.
type Namespaces = [Vec<(Vec<u8>, Option<u8>)>; 3];

/// Understands what follows the `*` of anything but a status response, and says what was wrong with it.
pub fn parse(mut cursor: Cursor<'_>) -> (Data, Option<&'static str>) {
    let word = cursor.word();
    let numbered = parse_number(word).map(|number| (number, cursor.word()));
    let keyword = numbered.map_or(word, |(_, keyword)| keyword).to_ascii_uppercase();
    let data = match numbered {
        Some((number, _)) => counted(number, &keyword, &mut cursor),
        None => named(&keyword, &mut cursor),
    };
    match data {
        Ok(data) => (data, None),
        Err(odd) => (other(&keyword), odd),
    }
}

/// What follows the `*` of a response that was cut: nothing of it is taken, since a list could look complete.
pub fn too_long(mut cursor: Cursor<'_>) -> (Data, Option<&'static str>) {
    let word = cursor.word();
    let keyword = if parse_number(word).is_some() { cursor.word() } else { word };
    (other(keyword), Some("a response that is too long"))
}

/// Data with this keyword, as much of it as can be a keyword.
pub(super) fn other(keyword: &[u8]) -> Data {
    Data::Other(text(&keyword[..keyword.len().min(64)]).to_ascii_uppercase())
}

/// Data that is not understood, with a reason when it should have been.
type Understood = Result<Data, Option<&'static str>>;

/// `n KEYWORD …`
fn counted(number: u64, keyword: &[u8], cursor: &mut Cursor<'_>) -> Understood {
    Ok(match keyword {
        b"EXISTS" => Data::Exists(number),
        b"RECENT" => Data::Recent(number),
        // GNU mailutils says EXPUNGED.
        b"EXPUNGE" | b"EXPUNGED" => Data::Expunge(number),
        b"FETCH" => Data::Fetch(fetch::parse(number, cursor).ok_or(Some("FETCH without a list"))?),
        // RFC 9586: the number is the UID.
        b"UIDFETCH" => {
            let mut row = fetch::parse(0, cursor).ok_or(Some("UIDFETCH without a list"))?;
            row.uid = row.uid.or_else(|| uid(number));
            Data::Fetch(row)
        }
        _ => return Err(Some("a number without a meaning")),
    })
}

/// `KEYWORD …`
fn named(keyword: &[u8], cursor: &mut Cursor<'_>) -> Understood {
    Ok(match keyword {
        b"CAPABILITY" => Data::Capability(upper_words(cursor)),
        b"ENABLED" => Data::Enabled(upper_words(cursor)),
        b"LIST" | b"XLIST" => Data::List(list(cursor, false).ok_or(Some("LIST without a name"))?),
        b"LSUB" => Data::List(list(cursor, true).ok_or(Some("LSUB without a name"))?),
        b"STATUS" => {
            let name = mailbox(cursor).ok_or(Some("STATUS without a name"))?;
            Data::MailboxStatus(name, status_items(cursor))
        }
        b"NAMESPACE" => Data::Namespace(namespaces(cursor)),
        // Half understood it would look like a mailbox with fewer messages.
        b"SEARCH" => Data::Search(search(cursor).ok_or(Some("SEARCH with what is no number"))?),
        b"ESEARCH" => {
            Data::Search(esearch(cursor).ok_or(Some("ESEARCH without a sensible set, or of another mailbox"))?)
        }
        b"FLAGS" => Data::Flags(flags(cursor)),
        b"VANISHED" => {
            let earlier = cursor.words().iter().any(|w| w.eq_ignore_ascii_case(b"EARLIER"));
            Data::Vanished(earlier, UidSet::parse(cursor.word()).ok_or(Some("VANISHED without a set"))?)
        }
        b"ID" => Data::Id(id(cursor)),
        b"QUOTA" => {
            let root = cursor.string().ok_or(Some("QUOTA without a root"))?.into_owned();
            Data::Quota(root, quota_resources(cursor))
        }
        b"QUOTAROOT" => {
            let name = mailbox(cursor).ok_or(Some("QUOTAROOT without a name"))?;
            Data::QuotaRoot(name, cursor.words_to_end().into_iter().map(|root| root.into_owned()).collect())
        }
        b"MYRIGHTS" => {
            let name = mailbox(cursor).ok_or(Some("MYRIGHTS without a name"))?;
            Data::MyRights(name, text(&cursor.string().ok_or(Some("MYRIGHTS without rights"))?))
        }
        b"ACL" => {
            let name = mailbox(cursor).ok_or(Some("ACL without a name"))?;
            let words = cursor.words_to_end();
            let pairs = words.chunks_exact(2).map(|pair| (pair[0].to_vec(), text(&pair[1])));
            Data::Acl(name, pairs.collect())
        }
        b"METADATA" => {
            let name = cursor.string().ok_or(Some("METADATA without a name"))?.into_owned();
            // Without values it only says that entries have changed (RFC 5464 section 4.4.2).
            if !cursor.at_open() {
                return Err(None);
            }
            Data::Metadata(name, metadata(cursor))
        }
        b"" => return Err(Some("an empty line")),
        _ => return Err(None),
    })
}

fn mailbox(cursor: &mut Cursor<'_>) -> Option<MailboxName> {
    cursor.string().map(|name| MailboxName::new(&name))
}

fn list(cursor: &mut Cursor<'_>, lsub: bool) -> Option<ListRow> {
    let attributes = cursor.words().iter().map(|word| text(word).to_ascii_lowercase()).collect();
    let delimiter = cursor.string().filter(|d| d.len() == 1).map(|d| d[0]);
    let name = MailboxName::new(&cursor.mailbox_to_end()?);
    Some(ListRow { lsub, attributes, delimiter, name })
}

fn status_items(cursor: &mut Cursor<'_>) -> StatusItems {
    let mut items = StatusItems::default();
    if !cursor.enter() {
        return items;
    }
    while !cursor.at_close() {
        let Some(name) = cursor.string() else { continue };
        match name.to_ascii_uppercase().as_slice() {
            b"MESSAGES" => items.messages = cursor.number(),
            b"UIDNEXT" => items.uid_next = cursor.number(),
            b"UIDVALIDITY" => items.uid_validity = validity(cursor),
            b"UNSEEN" => items.unseen = cursor.number(),
            // 0 says that the mailbox has no mod-sequences (RFC 7162 section 3.1.7).
            b"HIGHESTMODSEQ" => items.highest_modseq = cursor.number().filter(|modseq| *modseq > 0),
            b"MAILBOXID" => items.mailbox_id = object_id(cursor),
            b"SIZE" => items.size = cursor.number(),
            _ => cursor.skip(),
        }
    }
    items
}

fn namespaces(cursor: &mut Cursor<'_>) -> Namespaces {
    std::array::from_fn(|_| {
        let mut prefixes = Vec::new();
        let outside = cursor.depth();
        if cursor.enter() {
            while !cursor.at_close() {
                let inside = cursor.depth();
                if !cursor.enter() {
                    cursor.skip();
                    continue;
                }
                let prefix = cursor.string().unwrap_or_default().into_owned();
                let delimiter = cursor.string().filter(|d| d.len() == 1).map(|d| d[0]);
                cursor.leave(inside);
                prefixes.push((prefix, delimiter));
            }
            cursor.leave(outside);
        }
        prefixes
    })
}

fn search(cursor: &mut Cursor<'_>) -> Option<SearchResult> {
    let mut result = SearchResult::default();
    let mut uids = Vec::new();
    while !cursor.at_close() {
        if cursor.at_open() {
            result.modseq = search_modseq(cursor).or(result.modseq);
        } else {
            uids.extend(uid(cursor.number()?));
        }
    }
    result.all = uids.into_iter().collect();
    Some(result)
}

/// `(MODSEQ n)` behind the numbers, RFC 7162 section 3.1.5.
fn search_modseq(cursor: &mut Cursor<'_>) -> Option<u64> {
    let words = cursor.words();
    match words.as_slice() {
        [name, value] if name.eq_ignore_ascii_case(b"MODSEQ") => parse_number(value),
        _ => None,
    }
}

/// `None` for the answer to a search over several mailboxes, RFC 7377.
fn esearch(cursor: &mut Cursor<'_>) -> Option<SearchResult> {
    let mut result = SearchResult::default();
    if cursor.at_open() {
        for pair in cursor.words().chunks_exact(2) {
            match pair[0].to_ascii_uppercase().as_slice() {
                b"TAG" => result.tag = Some(pair[1].to_vec()),
                b"MAILBOX" => return None,
                _ => {}
            }
        }
    }
    while !cursor.at_close() {
        let Some(name) = cursor.string() else { continue };
        match name.to_ascii_uppercase().as_slice() {
            b"UID" => result.uid = true,
            b"MIN" => result.min = cursor.number(),
            b"MAX" => result.max = cursor.number(),
            b"COUNT" => result.count = cursor.number(),
            b"MODSEQ" => result.modseq = cursor.number(),
            b"ALL" => result.all = UidSet::parse(&cursor.string()?)?,
            // (range set), RFC 9394: the window that was asked for; NIL when nothing is in it.
            b"PARTIAL" => {
                let outside = cursor.depth();
                cursor.enter();
                cursor.skip();
                result.all = cursor.string().map_or(Some(UidSet::new()), |set| UidSet::parse(&set))?;
                cursor.leave(outside);
            }
            _ => cursor.skip(),
        }
    }
    Some(result)
}

fn id(cursor: &mut Cursor<'_>) -> Vec<(String, Option<Vec<u8>>)> {
    pairs(cursor, |name| text(&name).to_ascii_lowercase())
}

fn metadata(cursor: &mut Cursor<'_>) -> Vec<(String, Option<Vec<u8>>)> {
    pairs(cursor, |name| text(&name))
}

/// A list of names and values, the values strings or NIL.
fn pairs(
    cursor: &mut Cursor<'_>,
    name: impl Fn(std::borrow::Cow<'_, [u8]>) -> String,
) -> Vec<(String, Option<Vec<u8>>)> {
    let mut pairs = Vec::new();
    if cursor.enter() {
        while !cursor.at_close() {
            let key = cursor.string();
            let value = cursor.string().map(|value| value.into_owned());
            pairs.extend(key.map(|key| (name(key), value)));
        }
    }
    pairs
}

fn quota_resources(cursor: &mut Cursor<'_>) -> Vec<(String, u64, u64)> {
    let words = cursor.words();
    let resources = words.chunks_exact(3).filter_map(|item| {
        Some((text(&item[0]).to_ascii_uppercase(), parse_number(&item[1])?, parse_number(&item[2])?))
    });
    resources.collect()
}
