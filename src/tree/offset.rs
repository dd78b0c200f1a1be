//! Where a listing goes on: an offset names the entry that came last, not how many there were. So whatever comes and
//! goes while a directory is listed, what is there all the time is listed once.

use super::node::{EntryId, Ino, MailboxId};
use crate::mail::uid::Uid;

/// An entry of a directory, by its place in the listing: ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offset {
    /// Before everything.
    Start,
    /// `.`
    Itself,
    /// `..`
    Parent,
    /// One of the names that are the same as long as the mount lives: views, saved searches.
    Fixed(u32),
    /// A mailbox.
    Mailbox(MailboxId),
    /// A message, in a mailbox or in what a search found.
    Message(MailboxId, Uid),
    /// A part of a message.
    Part(EntryId),
    /// What has a name in this mount only.
    Local(u64),
}

/// Bits of what stands below the kind.
const BITS: u32 = 48;

impl Offset {
    /// The place of what has a name in this mount only.
    pub fn local(ino: Ino) -> Self {
        Offset::Local(ino.0 >> 16)
    }

    /// The offset as the kernel keeps it: at most 2^52, as it has to be positive for programs, too.
    pub fn pack(self) -> u64 {
        let (kind, place) = match self {
            Offset::Start => (0, 0),
            Offset::Itself => (0, 1),
            Offset::Parent => (0, 2),
            Offset::Fixed(number) => (1, u64::from(number)),
            Offset::Mailbox(id) => (2, u64::from(id.0)),
            Offset::Message(id, uid) => (3, u64::from(id.0) << 32 | u64::from(uid.get())),
            Offset::Part(entry) => (4, u64::from(entry.0)),
            Offset::Local(place) => (5, place),
        };
        kind << BITS | place
    }

    /// The same, read; `None` for what none is.
    pub fn unpack(offset: u64) -> Option<Self> {
        let place = offset & ((1 << BITS) - 1);
        Some(match (offset >> BITS, place) {
            (0, 0) => Offset::Start,
            (0, 1) => Offset::Itself,
            (0, 2) => Offset::Parent,
            (1, _) => Offset::Fixed(u32::try_from(place).ok()?),
            (2, _) => Offset::Mailbox(MailboxId(u16::try_from(place).ok()?)),
            (3, _) => Offset::Message(MailboxId((place >> 32) as u16), Uid::new(place as u32)?),
            (4, _) => Offset::Part(EntryId(u16::try_from(place).ok()?)),
            (5, _) => Offset::Local(place),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_offset_is_one_place_and_both_ascend_alike(
            raw in prop::collection::vec((0u64..7, prop_oneof![0u64..4, any::<u64>().prop_map(|n| n & 0xffff_ffff_ffff)]), 2..20),
        ) {
            let raw: Vec<u64> = raw.into_iter().map(|(kind, place)| kind << BITS | place).collect();
            let places: Vec<Offset> = raw.iter().filter_map(|offset| Offset::unpack(*offset)).collect();
            for pair in places.windows(2) {
                prop_assert_eq!(pair[0].cmp(&pair[1]), pair[0].pack().cmp(&pair[1].pack()));
            }
            for offset in raw {
                if let Some(place) = Offset::unpack(offset) {
                    prop_assert_eq!(place.pack(), offset);
                    prop_assert!(i64::try_from(offset).is_ok());
                }
            }
        }
    }
}
