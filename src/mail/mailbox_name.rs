//! Mailbox names as they go over the wire, and modified UTF-7 (RFC 3501 section 5.1.3).

use std::fmt;

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

const BASE64: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

/// A mailbox name, the bytes as the server sent them: an identity, never decoded and encoded again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxName(Box<[u8]>);

impl MailboxName {
    /// The name with these wire bytes; INBOX in any case is `INBOX` (RFC 9051 section 5.1).
    pub fn new(wire: &[u8]) -> Self {
        if wire.eq_ignore_ascii_case(b"INBOX") { Self((*b"INBOX").into()) } else { Self(wire.into()) }
    }

    /// The name whose text this is, in modified UTF-7: for names that no server has listed. A listed name is kept as
    /// it came, because [`MailboxName::decode`] shows two wire names alike where one of them is not canonical.
    ///
    /// Invariant: `encode(text).decode() == text`, but for the case of INBOX.
    pub fn encode(text: &str) -> Self {
        Self::new(&encode(text))
    }

    /// The wire bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What a person reads; see the function [`decode`] for one level of the hierarchy.
    pub fn decode(&self) -> String {
        decode(&self.0)
    }

    /// Is it INBOX?
    pub fn is_inbox(&self) -> bool {
        &*self.0 == b"INBOX"
    }
}

impl fmt::Debug for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::error::printable(&self.0, 200))
    }
}

/// The text of a wire name, or of one level of it (no delimiter occurs inside a base64 run, so a name may be cut into
/// levels before it is decoded; do so, for one bad level makes the whole bad).
///
/// A canonical name, the one that [`encode`] makes of its text, is decoded. Any other (`&`, a shift that is not closed,
/// printable ASCII in base64 as in `&AC8-`, lone surrogates, 8-bit bytes) is shown as its wire bytes: UTF-8 as it is,
/// as GNU mailutils sends it, other 8-bit bytes as `%XX`. So the raw name `&` looks like the canonical name `&-`:
/// whoever lists names keeps the wire name of each, and tells two apart that look alike.
pub fn decode(wire: &[u8]) -> String {
    if let Some(text) = decode_strict(wire).filter(|text| encode(text) == wire) {
        return text;
    }
    let mut text = String::with_capacity(wire.len());
    for chunk in wire.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The canonical wire name of a text: printable ASCII as it is, `&` as `&-`, each run of all else as UTF-16 in base64.
///
/// Invariant: for printable ASCII `d`, `encode(a + d + b) == encode(a) + encode(d) + encode(b)`.
pub fn encode(text: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let direct = is_direct(first);
        let (run, after) = rest.split_at(rest.find(|c| is_direct(c) != direct).unwrap_or(rest.len()));
        if direct {
            wire.extend_from_slice(run.replace('&', "&-").as_bytes());
        } else {
            let utf16: Vec<u8> = run.encode_utf16().flat_map(u16::to_be_bytes).collect();
            wire.push(b'&');
            wire.extend_from_slice(BASE64.encode(utf16).as_bytes());
            wire.push(b'-');
        }
        rest = after;
    }
    wire
}

fn is_direct(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// `None` when it cannot be decoded; what can be decoded need not be canonical.
fn decode_strict(wire: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some(shift) = memchr::memchr(b'&', rest) {
        text.push_str(std::str::from_utf8(&rest[..shift]).ok()?);
        let end = shift + memchr::memchr(b'-', &rest[shift..])?;
        let run = &rest[shift + 1..end];
        if run.is_empty() {
            text.push('&');
        } else {
            let bytes = BASE64.decode(run).ok()?;
            let (units, odd) = bytes.as_chunks::<2>();
            if !odd.is_empty() {
                return None;
            }
            for c in char::decode_utf16(units.iter().map(|u| u16::from_be_bytes(*u))) {
                text.push(c.ok()?);
            }
        }
        rest = &rest[end + 1..];
    }
    text.push_str(std::str::from_utf8(rest).ok()?);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_canonical_name_and_its_text_are_one_to_one() {
        for (wire, text) in [
            ("INBOX", "INBOX"),
            ("a/b.c", "a/b.c"),
            ("Tom &- Jerry", "Tom & Jerry"),
            ("&-&-", "&&"),
            ("&-&AOk-", "&é"),
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("Entw&APw-rfe", "Entwürfe"),
            ("&2D3eAA-", "😀"),
            ("&AAk-", "\t"),
            ("&AAA-x", "\0x"),
            ("", ""),
        ] {
            assert_eq!(decode(wire.as_bytes()), text);
            assert_eq!(encode(text), wire.as_bytes(), "{text}");
        }
        assert_eq!(MailboxName::encode("inbox"), MailboxName::new(b"Inbox"));
    }

    #[test]
    fn what_is_not_canonical_is_shown_as_it_is() {
        for wire in [
            "&",
            "a&",
            "&Jj",
            "probeV&Jj",
            "&&",
            "&a",
            "&AOk",
            "&-&",
            "&ZZ-",
            "&AC8-",
            "&AGE-",
            "&AOk-&AOk-",
            "&2D0-",
            "&3gA-",
            "&3gDYPQ-",
            "&AOl-",
            "&AOkA-",
            "&U/BTFw-",
            "&AOk=-",
            "Entwürfe",
            "Entwürfe &-",
        ] {
            assert_eq!(decode(wire.as_bytes()), wire);
        }
        assert_eq!(decode(b"caf\xe9 \xc3"), "caf%E9 %C3");
    }

    proptest! {
        #[test]
        fn text_survives_the_wire(text in "\\PC{0,20}|[a&é\u{1f600}\n-]{0,12}", more in "[&a-zü]{0,8}") {
            let wire = encode(&text);
            prop_assert_eq!(&decode(&wire), &text);
            prop_assert!(wire.iter().all(|b| (b' '..=b'~').contains(b)));
            let joined = [wire, b"/".to_vec(), encode(&more)].concat();
            prop_assert_eq!(joined, encode(&format!("{text}/{more}")));
        }

        #[test]
        fn any_wire_name_has_a_text(wire in prop_oneof![any::<Vec<u8>>(), "[&A-Da,+-]{0,12}".prop_map(String::into_bytes)]) {
            let text = decode(&wire);
            let canonical = encode(&text) == wire;
            let raw = std::str::from_utf8(&wire).is_ok_and(|w| w == text);
            prop_assert!(canonical || raw || std::str::from_utf8(&wire).is_err());
        }
    }
}
