//! What is kept, as octets: compact, and each row under a checksum that covers what it is the row of.

use crate::mail::envelope::{Head, Summary, Texts};
use crate::mail::flag::Flags;
use crate::mail::header::Params;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::part::{Body, Encoding, Part};
use crate::mail::uid::{Uid, UidValidity};

use super::{Listed, Mailboxes, Place, Synced};

/// Parts inside of each other at the most: no structure that makes sense has more.
const DEPTH: u32 = 128;

/// What kind of row a checksum stands on, so that none can take another's place.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Kind {
    Mailboxes = 1,
    Synced,
    Message,
    Structure,
    Size,
    Object,
}

/// Checksum of octets that belong to this row.
fn checksum(kind: Kind, place: Place, uid: u32, name: &[u8], octets: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind as u8, name.len() as u8]);
    hasher.update(&place.0.to_le_bytes());
    hasher.update(&uid.to_le_bytes());
    hasher.update(name);
    hasher.update(octets);
    hasher.finalize()
}

/// The octets with their checksum behind them.
pub fn seal(kind: Kind, place: Place, uid: u32, name: &[u8], mut octets: Vec<u8>) -> Vec<u8> {
    let sum = checksum(kind, place, uid, name, &octets);
    octets.extend_from_slice(&sum.to_le_bytes());
    octets
}

/// The octets before the checksum; `None` when they are not those that were sealed for this row.
pub fn unseal<'a>(kind: Kind, place: Place, uid: u32, name: &[u8], sealed: &'a [u8]) -> Option<In<'a>> {
    let (octets, sum) = sealed.split_last_chunk::<4>()?;
    (checksum(kind, place, uid, name, octets) == u32::from_le_bytes(*sum)).then_some(In(octets))
}

/// Octets that are being written.
#[derive(Debug, Default)]
pub struct Out(pub Vec<u8>);

impl Out {
    /// A number, seven bits an octet, the lowest first.
    pub fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    /// A number that may be missing, and is less than 2^64-1.
    pub fn maybe(&mut self, n: Option<u64>) {
        self.number(n.map_or(0, |n| n.saturating_add(1)));
    }

    /// Octets with their length before them.
    pub fn octets(&mut self, octets: &[u8]) {
        self.number(octets.len() as u64);
        self.0.extend_from_slice(octets);
    }
}

/// Octets that are being read; each reader answers `None` for what was not written so.
#[derive(Clone, Copy, Debug)]
pub struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    #[cfg(test)]
    pub fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// So many octets.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (octets, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(octets)
    }

    pub fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            n |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    pub fn maybe(&mut self) -> Option<Option<u64>> {
        self.number().map(|n| n.checked_sub(1))
    }

    pub fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    pub fn octets(&mut self) -> Option<&'a [u8]> {
        let len = self.small()?;
        self.take(len)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.octets()?).ok()
    }

    /// A list whose length stands before it; `self` bounds what is believed of that.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count: usize = self.small()?;
        (0..count).map(|_| item(self)).collect()
    }
}

/// A summary; its UID stands in the row.
pub fn write_summary(summary: &Summary) -> Vec<u8> {
    let mut out = Out(Vec::with_capacity(160));
    out.number((summary.internal_date << 1 ^ summary.internal_date >> 63) as u64);
    out.number(summary.size);
    out.number(summary.modseq);
    out.number(summary.flags.iter().count() as u64);
    summary.flags.iter().for_each(|flag| out.octets(flag.as_bytes()));
    let Texts { subject, from_name, from_address, sender_address, message_id, email_id, thread_id } = summary.texts();
    for text in [subject, from_name, from_address, sender_address, message_id, email_id, thread_id] {
        out.octets(text.as_bytes());
    }
    out.0
}

/// The same, read.
pub fn read_summary(uid: Uid, mut from: In<'_>) -> Option<Summary> {
    let date = from.number()?;
    let date = (date >> 1) as i64 ^ -((date & 1) as i64);
    let (size, modseq) = (from.number()?, from.number()?);
    let head = Head::new(uid, date, size, Flags::from_wire(from.list(In::octets)?), modseq);
    let texts = Texts {
        subject: from.text()?,
        from_name: from.text()?,
        from_address: from.text()?,
        sender_address: from.text()?,
        message_id: from.text()?,
        email_id: from.text()?,
        thread_id: from.text()?,
    };
    Some(Summary::pack(head, &texts))
}

/// Up to where a mailbox is known.
pub fn write_synced(place: Place, synced: &Synced) -> Vec<u8> {
    let mut out = Out::default();
    out.number(place.0);
    out.maybe(synced.uid_next);
    out.number(synced.exists);
    out.maybe(synced.modseq);
    out.0
}

/// The same, read.
pub fn read_synced(mut from: In<'_>) -> Option<(Place, Synced)> {
    let place = Place(from.number()?);
    Some((place, Synced { uid_next: from.maybe()?, exists: from.number()?, modseq: from.maybe()? }))
}

/// The mailboxes of an account.
pub fn write_mailboxes(mailboxes: &Mailboxes) -> Vec<u8> {
    let mut out = Out::default();
    out.number(mailboxes.listed.len() as u64);
    for Listed { name, delimiter, attributes, subscribed } in &mailboxes.listed {
        out.octets(name.as_bytes());
        out.maybe(delimiter.map(u64::from));
        out.number(attributes.len() as u64);
        attributes.iter().for_each(|attribute| out.octets(attribute.as_bytes()));
        out.number((*subscribed).into());
    }
    out.number(mailboxes.ids.len() as u64);
    for (path, id) in &mailboxes.ids {
        out.octets(path.as_bytes());
        out.number((*id).into());
    }
    out.number(mailboxes.spent.len() as u64);
    mailboxes.spent.iter().for_each(|id| out.number((*id).into()));
    out.0
}

/// The same, read.
pub fn read_mailboxes(mut from: In<'_>) -> Option<Mailboxes> {
    Some(Mailboxes {
        listed: from.list(|from| {
            Some(Listed {
                name: MailboxName::new(from.octets()?),
                delimiter: match from.maybe()? {
                    Some(delimiter) => Some(u8::try_from(delimiter).ok()?),
                    None => None,
                },
                attributes: from.list(In::text)?.into_iter().map(String::from).collect(),
                subscribed: from.number()? == 1,
            })
        })?,
        ids: from.list(|from| Some((from.text()?.into(), from.small()?)))?,
        spent: from.list(In::small)?,
    })
}

/// How a message is built; `None` when that was seen here and not told by the server.
pub fn write_structure(root: Option<&Part>) -> Vec<u8> {
    let mut out = Out::default();
    out.number(root.is_some().into());
    if let Some(root) = root {
        write_part(&mut out, root);
    }
    out.0
}

/// The same, read.
pub fn read_structure(mut from: In<'_>) -> Option<Option<Part>> {
    match from.number()? {
        0 => Some(None),
        _ => read_part(&mut from, DEPTH).map(Some),
    }
}

fn write_params(out: &mut Out, params: &Params) {
    out.number(params.len() as u64);
    for (name, value) in params {
        out.octets(name.as_bytes());
        out.octets(value);
    }
}

fn read_params(from: &mut In<'_>) -> Option<Params> {
    from.list(|from| Some((from.text()?.into(), from.octets()?.to_vec())))
}

fn write_part(out: &mut Out, part: &Part) {
    out.number(part.path.len() as u64);
    part.path.iter().for_each(|number| out.number((*number).into()));
    out.octets(part.media.as_bytes());
    out.octets(part.subtype.as_bytes());
    write_params(out, &part.params);
    out.number(part.disposition.is_some().into());
    if let Some((kind, params)) = &part.disposition {
        out.octets(kind.as_bytes());
        write_params(out, params);
    }
    out.octets(part.content_id.as_bytes());
    out.number(match part.encoding {
        Encoding::Identity => 0,
        Encoding::Base64 => 1,
        Encoding::QuotedPrintable => 2,
        Encoding::Uuencode => 3,
    });
    out.number(part.octets);
    match &part.body {
        Body::Leaf => out.number(0),
        Body::Message(root) => {
            out.number(1);
            write_part(out, root);
        }
        Body::Multipart(parts) => {
            out.number(2);
            out.number(parts.len() as u64);
            parts.iter().for_each(|part| write_part(out, part));
        }
    }
}

fn read_part(from: &mut In<'_>, depth: u32) -> Option<Part> {
    let deeper = depth.checked_sub(1)?;
    Some(Part {
        path: from.list(In::small)?.into(),
        media: from.text()?.into(),
        subtype: from.text()?.into(),
        params: read_params(from)?,
        disposition: match from.number()? {
            0 => None,
            _ => Some((from.text()?.into(), read_params(from)?)),
        },
        content_id: from.text()?.into(),
        encoding: match from.number()? {
            0 => Encoding::Identity,
            1 => Encoding::Base64,
            2 => Encoding::QuotedPrintable,
            3 => Encoding::Uuencode,
            _ => return None,
        },
        octets: from.number()?,
        body: match from.number()? {
            0 => Body::Leaf,
            1 => Body::Message(Box::new(read_part(from, deeper)?)),
            2 => Body::Multipart(from.list(|from| read_part(from, deeper))?),
            _ => return None,
        },
    })
}

impl Place {
    /// The place of this mailbox under this UIDVALIDITY; `None` where the server has none, so that nothing tells
    /// one generation of UIDs from the next.
    pub fn new(mailbox: u16, validity: UidValidity) -> Option<Self> {
        (validity.0 != 0).then_some(Self(u64::from(mailbox) << 32 | u64::from(validity.0)))
    }

    /// The UIDVALIDITY.
    pub fn validity(self) -> UidValidity {
        UidValidity(self.0 as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::mime;
    use proptest::prelude::*;

    const PLACE: Place = Place(7 << 32 | 9);

    fn summary(uid: u32, date: i64, size: u64, text: &str, flags: &[String]) -> Summary {
        let flags = Flags::from_wire(flags.iter().map(String::as_bytes));
        let head = Head::new(Uid::new(uid).unwrap(), date, size, flags, size / 3);
        Summary::pack(head, &Texts { subject: text, thread_id: text, ..Texts::default() })
    }

    proptest! {
        #[test]
        fn a_summary_is_read_as_it_was_written(
            (uid, date, size) in (1u32.., any::<i64>(), any::<u64>()),
            text in ".{0,40}",
            flags in prop::collection::vec("[a-z$]{1,9}", 0..4),
        ) {
            let summary = summary(uid, date, size, &text, &flags);
            let sealed = seal(Kind::Message, PLACE, uid, b"", write_summary(&summary));
            let read = unseal(Kind::Message, PLACE, uid, b"", &sealed).and_then(|from| read_summary(summary.uid, from));
            prop_assert_eq!(read, Some(summary));
        }

        /// Whatever stands in a file, reading it ends, with something or nothing.
        #[test]
        fn noise_is_read_without_harm(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let uid = Uid::new(1).unwrap();
            let _ = (read_summary(uid, In(&noise)), read_structure(In(&noise)), read_mailboxes(In(&noise)));
            prop_assert!(unseal(Kind::Message, PLACE, 1, b"", &noise).is_none() || noise.len() >= 4);
        }
    }

    #[test]
    fn a_seal_holds_for_its_own_row_and_nothing_else() {
        let sealed = seal(Kind::Size, PLACE, 5, b"x", b"abc".to_vec());
        let other = Place(PLACE.0 + 1);
        for (kind, place, uid, name, holds) in [
            (Kind::Size, PLACE, 5, "x", true),
            (Kind::Message, PLACE, 5, "x", false),
            (Kind::Size, other, 5, "x", false),
            (Kind::Size, PLACE, 6, "x", false),
            (Kind::Size, PLACE, 5, "y", false),
        ] {
            assert_eq!(unseal(kind, place, uid, name.as_bytes(), &sealed).is_some(), holds, "{kind:?} {uid} {name}");
        }
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(Kind::Size, PLACE, 5, b"x", &flipped).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn structures_and_lists_are_read_as_they_were_written() {
        let message = b"Content-Type: multipart/mixed; boundary=x; a=\"b c\"\r\n\r\n--x\r\nContent-Id: <i>\r\n\r\nhello\r\n--x\r\n\
            Content-Type: message/rfc822\r\nContent-Disposition: attachment; filename=f.eml\r\n\r\n\
            Subject: inner\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--x--\r\n";
        let root = mime::parse(message).root;
        let written = write_structure(Some(&root));
        assert_eq!(read_structure(In(&written)), Some(Some(root)));
        assert_eq!(read_structure(In(&write_structure(None))), Some(None));
        let mailboxes = Mailboxes {
            listed: vec![Listed {
                name: MailboxName::new(b"a&AOQ-/b"),
                delimiter: Some(b'/'),
                attributes: vec!["\\sent".into()],
                subscribed: true,
            }],
            ids: vec![("aä/b".into(), 65_535)],
            spent: vec![1, 2],
        };
        assert_eq!(read_mailboxes(In(&write_mailboxes(&mailboxes))), Some(mailboxes));
    }
}
