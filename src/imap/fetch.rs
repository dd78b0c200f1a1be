//! The FETCH response, RFC 9051 section 7.5.2: items in any order and case, unknown ones skipped.

use bytes::Bytes;
use chrono::NaiveDate;

use super::body_structure;
use super::frame::parse_number;
use super::response::{BodyRow, FetchRow};
use super::token::{Cursor, ItemName, Token};
use super::value::{flags, object_id, uid};
use crate::mail::envelope::{Address, Envelope};
use crate::mail::section::{Section, Text};

/// A body up to this many octets is copied: it would keep a whole read buffer in memory otherwise.
const COPY: usize = 16 << 10;

/// Reads the list of items; `None` when there is none.
pub fn parse(number: u64, cursor: &mut Cursor<'_>) -> Option<Box<FetchRow>> {
    let mut row = Box::new(FetchRow { number, ..FetchRow::default() });
    if !cursor.enter() {
        return None;
    }
    let mut swallowed = false;
    while let Some(item) = cursor.item_name() {
        let mut buffer = [0; 24];
        let Some(name) = buffer.get_mut(..item.name.len()) else {
            cursor.skip();
            continue;
        };
        name.copy_from_slice(item.name);
        name.make_ascii_uppercase();
        match (&*name, item.section.is_some()) {
            (b"UID", _) => row.uid = cursor.number().and_then(uid),
            // GNU mailutils sends FLAGS twice, and the later ones are newer.
            (b"FLAGS", _) => row.flags = Some(flags(cursor)),
            (b"INTERNALDATE", _) => row.internal_date = cursor.string().and_then(|date| parse_date(&date)),
            (b"RFC822.SIZE", _) => row.size = cursor.number(),
            (b"MODSEQ", _) => row.modseq = modseq(cursor),
            (b"ENVELOPE", _) => row.envelope = envelope(cursor),
            (b"BODYSTRUCTURE", _) | (b"BODY", false) => {
                row.structure = body_structure::parse(cursor);
                row.odd_structure = row.structure.is_none();
            }
            // pymap answers with the name that was asked for.
            (b"BODY" | b"BODY.PEEK", true) => {
                let section = item.section.and_then(Section::parse);
                row.bodies.push(body(cursor, section, &item));
            }
            (b"RFC822", _) => row.bodies.push(body(cursor, Some(Section::message()), &item)),
            (b"RFC822.HEADER", _) => row.bodies.push(body(cursor, Some(Section::header()), &item)),
            (b"RFC822.TEXT", _) => {
                let section = Section { path: Box::default(), text: Text::Text };
                row.bodies.push(body(cursor, Some(section), &item));
            }
            (b"EMAILID", _) => row.email_id = object_id(cursor),
            (b"THREADID", _) => row.thread_id = object_id(cursor),
            _ => {
                // No name is a number, but what is left of an item is.
                swallowed |= name.first().is_some_and(u8::is_ascii_digit);
                cursor.skip();
            }
        }
    }
    if swallowed || cursor.token() != Token::Close {
        // A literal shorter than announced has swallowed what closes the row, and does not end where the body does.
        row.bodies.iter_mut().for_each(|body| body.data = None);
    }
    Some(row)
}

/// The value of a body item. GNU mailutils leaves it out at the end of a part: then the next item's name follows,
/// which is an atom, and a body never is.
fn body(cursor: &mut Cursor<'_>, section: Option<Section>, item: &ItemName<'_>) -> BodyRow {
    let mut data = None;
    if !cursor.at_close() {
        let mut ahead = cursor.clone();
        match ahead.token() {
            // A name right behind it: a literal shorter than announced has swallowed what stood between.
            Token::Literal(_) if !ahead.is_apart() => {}
            Token::Literal(literal) if literal.len() > COPY => data = Some(literal.clone()),
            Token::Literal(literal) => data = Some(Bytes::copy_from_slice(literal)),
            Token::Quoted(text) => data = Some(text.into_owned().into()),
            Token::Atom(_) => return BodyRow { section, origin: item.origin, data },
            Token::Open => ahead.leave(cursor.depth()),
            Token::Nil | Token::Oversize(_) | Token::Close | Token::End => {}
        }
        *cursor = ahead;
    }
    BodyRow { section, origin: item.origin, data }
}

/// `(n)`, or n alone.
fn modseq(cursor: &mut Cursor<'_>) -> Option<u64> {
    if cursor.at_open() { parse_number(cursor.words().first()?) } else { cursor.number() }
}

/// `"17-Jul-1996 02:44:25 -0700"`, the day also with one digit or with a blank before it: seconds since 1970 UTC.
/// `None` when it is no such date.
fn parse_date(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let (date, time, zone) = (words.next()?, words.next()?, words.next().unwrap_or("+0000"));
    let number = |text: &str, digits: usize| -> Option<u32> {
        (text.len() <= digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
    };
    let mut date = date.splitn(3, '-');
    let (day, month, year) = (number(date.next()?, 2)?, date.next()?, number(date.next()?, 4)?);
    let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let month = months.iter().position(|name| name.eq_ignore_ascii_case(month))?;
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) = (number(time.next()?, 2)?, number(time.next()?, 2)?, number(time.next()?, 2)?);
    let (sign, zone) = match zone.as_bytes().first()? {
        b'+' => (1, &zone[1..]),
        b'-' => (-1, &zone[1..]),
        _ => return None,
    };
    let zone = number(zone, 4).filter(|_| zone.len() == 4)?;
    let (zone_hours, zone_minutes) = (i64::from(zone / 100), i64::from(zone % 100));
    if zone_hours > 23 || zone_minutes > 59 {
        return None;
    }
    let day = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, u32::try_from(month).ok()? + 1, day)?;
    // A leap second is shown as the second before it.
    let local = day.and_hms_opt(hour, minute, if second == 60 { 59 } else { second })?.and_utc().timestamp();
    Some(local - sign * (zone_hours * 3600 + zone_minutes * 60))
}

/// An ENVELOPE; fields that are missing at its end are empty. `None` when it is no list.
fn envelope(cursor: &mut Cursor<'_>) -> Option<Envelope> {
    if !cursor.at_open() {
        cursor.skip();
        return None;
    }
    let outside = cursor.depth();
    cursor.enter();
    let envelope = Envelope {
        date: string(cursor),
        subject: string(cursor),
        from: addresses(cursor),
        sender: addresses(cursor),
        reply_to: addresses(cursor),
        to: addresses(cursor),
        cc: addresses(cursor),
        bcc: addresses(cursor),
        in_reply_to: string(cursor),
        message_id: string(cursor),
    };
    cursor.leave(outside);
    Some(envelope)
}

fn string(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    cursor.string().map(|text| text.into_owned())
}

/// A list of addresses, NIL or `()`. The end of a group, four times NIL, is left out.
fn addresses(cursor: &mut Cursor<'_>) -> Vec<Address> {
    let mut addresses = Vec::new();
    if !cursor.at_open() {
        cursor.skip();
        return addresses;
    }
    let outside = cursor.depth();
    cursor.enter();
    while !cursor.at_close() {
        if !cursor.at_open() {
            cursor.skip();
            continue;
        }
        let inside = cursor.depth();
        cursor.enter();
        let name = string(cursor);
        cursor.skip(); // The source route.
        let address = Address { name, mailbox: string(cursor), host: string(cursor) };
        cursor.leave(inside);
        if address != Address::default() {
            addresses.reserve_exact(usize::from(addresses.is_empty())); // Most lists have one.
            addresses.push(address);
        }
    }
    cursor.leave(outside);
    addresses
}
