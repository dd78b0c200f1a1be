//! How offsets in the decoded content of a part map to offsets in its encoded body.
//!
//! With `D` the decoded content and `E` the encoded body, for every layout and range `r`:
//! 1. `layout.decoded_len() == D.len()` and `layout.octets() == E.len()`;
//! 2. `layout.plan(r).decode(E[window.encoded()]) == Ok(D[r])`, with `r` clipped to `D`;
//! 3. regular base64 is only known at its ends: a window whose lines are not regular answers [`Irregular`], never wrong
//!    bytes; an [`Indexer`] then finds the true layout from the whole body.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode::RequireCanonical;
use base64::engine::general_purpose::{GeneralPurpose, PAD};

use super::part::Encoding;
use super::transfer::Decoder;

/// Many senders leave the unused bits of the last quad as they fell.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    PAD.with_decode_padding_mode(RequireCanonical).with_decode_allow_trailing_bits(true),
);

/// Encoded octets between two checkpoints at first: what has to be fetched and decoded again for one octet.
const SPACING: u64 = 64 * 1024;

/// Checkpoints kept for one part, about 100 octets each (1 KiB at worst). With more the spacing doubles.
const MAX_CHECKPOINTS: usize = 1024;

/// A head of so many octets without a line end is taken as a body of one line; the longest line that SMTP allows is half
/// of it.
const MIN_ONE_LINE: u64 = 2048;

/// The body is not the regular base64 that its ends promised: index it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("base64 lines are not regular")]
pub struct Irregular;

/// Where the decoded content of a part lies in its encoded body. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Layout {
    octets: u64,
    decoded_len: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Identity,
    Base64(Lines),
    Indexed(Arc<[Checkpoint]>),
}

/// Regular base64: `chars` characters in lines of `width`, each followed by a line end of `eol` octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lines {
    width: u64,
    eol: u64,
    chars: u64,
}

/// The decoder as it was when the first `encoded` octets had given the first `decoded` ones.
#[derive(Clone, Debug)]
struct Checkpoint {
    encoded: u64,
    decoded: u64,
    decoder: Decoder,
}

/// What to have of the encoded body for some decoded octets, and the way to decode it.
#[derive(Clone, Debug)]
pub struct Window {
    encoded: Range<u64>,
    decoded: Range<u64>,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    Identity,
    /// The window begins at this character, of which the first octet is `decoded.start` rounded down to a quad.
    Base64 {
        lines: Lines,
        first: u64,
    },
    /// The decoder at the start of the window and the decoded offset there; whether the window reaches the body's end.
    Resumed {
        decoder: Decoder,
        decoded: u64,
        to_end: bool,
    },
}

impl Layout {
    /// The body is the content.
    pub fn identity(octets: u64) -> Self {
        Self { octets, decoded_len: octets, kind: Kind::Identity }
    }

    /// The layout of a base64 body of `octets` octets with this beginning and this end, which may overlap; `None` when
    /// they show that it is not regular, or show too little (the first line end and the last two must be in sight; 2 KiB
    /// at each end are enough for mail that keeps to RFC 5322).
    ///
    /// Regular is: lines of one length, the last not longer; whole quads in all, padding at the very end only; only
    /// blanks and line ends behind the last line. One line without an end is regular.
    pub fn regular_base64(head: &[u8], tail: &[u8], octets: u64) -> Option<Self> {
        let (head_len, tail_len) = (head.len() as u64, tail.len() as u64);
        if head_len > octets || tail_len > octets {
            return None;
        }
        let tail = if head_len == octets { head } else { tail };
        let text = tail.trim_ascii_end();
        if text.is_empty() {
            return (tail.len() as u64 == octets).then_some(Self {
                octets,
                decoded_len: 0,
                kind: Kind::Base64(Lines { width: 4, eol: 0, chars: 0 }),
            });
        }
        let tail_start = octets - tail.len() as u64;
        let end = tail_start + text.len() as u64;
        let lines = match memchr::memchr(b'\n', head).filter(|at| (*at as u64) < end) {
            Some(at) => {
                let width = head[..at].strip_suffix(b"\r").unwrap_or(&head[..at]).len() as u64;
                let eol = at as u64 + 1 - width;
                let full = end / (width + eol);
                let last = end % (width + eol);
                if !(1..=width).contains(&last) {
                    return None;
                }
                // The start of the last line proves that the lines between were not another length in all.
                let last_start = end - last;
                if tail_start > last_start - eol {
                    return None;
                }
                Lines { width, eol, chars: full * width + last }
            }
            None if head_len < MIN_ONE_LINE.min(octets) => return None,
            None => Lines { width: end, eol: 0, chars: end },
        };
        if lines.chars % 4 != 0 {
            return None;
        }
        // Padding is looked for in the tail only, and has to be there.
        let padding = lines.offset(lines.chars - 2);
        let seen = &head[..head.len().min(usize::try_from(padding).unwrap_or(usize::MAX))];
        if tail_start > padding || lines.pads(seen, 0)? > 0 {
            return None;
        }
        let pads = lines.pads(text, tail_start).filter(|pads| *pads <= 2)?;
        Some(Self { octets, decoded_len: lines.chars / 4 * 3 - pads, kind: Kind::Base64(lines) })
    }

    /// Length of the decoded content.
    pub fn decoded_len(&self) -> u64 {
        self.decoded_len
    }

    /// Length of the encoded body.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// What to have for these decoded octets; what lies behind the end is left out.
    pub fn plan(&self, decoded: Range<u64>) -> Window {
        let end = decoded.end.min(self.decoded_len);
        let decoded = decoded.start.min(end)..end;
        if decoded.is_empty() {
            return Window { encoded: 0..0, decoded, way: Way::Identity };
        }
        match &self.kind {
            Kind::Identity => Window { encoded: decoded.clone(), decoded, way: Way::Identity },
            Kind::Base64(lines) => {
                let first = decoded.start / 3 * 4;
                let last = (decoded.end.div_ceil(3) * 4).min(lines.chars) - 1;
                let encoded = lines.offset(first)..lines.offset(last) + 1;
                Window { encoded, decoded, way: Way::Base64 { lines: *lines, first } }
            }
            Kind::Indexed(checkpoints) => {
                // The first checkpoint is 0, 0: there is always one at or before an offset.
                let from = &checkpoints[checkpoints.partition_point(|c| c.decoded <= decoded.start).saturating_sub(1)];
                let to = checkpoints.get(checkpoints.partition_point(|c| c.decoded < decoded.end));
                let encoded = from.encoded..to.map_or(self.octets, |c| c.encoded);
                let decoder = from.decoder.clone();
                Window { encoded, decoded, way: Way::Resumed { decoder, decoded: from.decoded, to_end: to.is_none() } }
            }
        }
    }
}

impl Window {
    /// The range of the encoded body to have; empty when no octet was wanted.
    pub fn encoded(&self) -> Range<u64> {
        self.encoded.clone()
    }

    /// The range of the decoded content that [`Window::decode`] gives: the one asked for, clipped to the content.
    pub fn decoded(&self) -> Range<u64> {
        self.decoded.clone()
    }

    /// Decodes the octets of [`Window::encoded`], all of them.
    ///
    /// Errors: [`Irregular`] when they are not what the layout promised, or not as many.
    pub fn decode(&self, encoded: &[u8]) -> Result<Vec<u8>, Irregular> {
        let range_len = |range: &Range<u64>| usize::try_from(range.end - range.start).map_err(|_| Irregular);
        let wanted = range_len(&self.decoded)?;
        if encoded.len() != range_len(&self.encoded)? {
            return Err(Irregular);
        }
        let (mut out, start) = match &self.way {
            Way::Identity => (encoded.to_vec(), self.decoded.start),
            Way::Base64 { lines, first } => {
                let chars = lines.strip(encoded, self.encoded.start).ok_or(Irregular)?;
                let is_last = first + chars.len() as u64 == lines.chars;
                if !is_last && chars.ends_with(b"=") {
                    return Err(Irregular);
                }
                (BASE64.decode(chars).map_err(|_| Irregular)?, self.decoded.start / 3 * 3)
            }
            Way::Resumed { decoder, decoded, to_end } => {
                let mut out = Vec::with_capacity(encoded.len());
                let mut decoder = decoder.clone();
                decoder.push(encoded, &mut out);
                if *to_end {
                    decoder.finish(&mut out);
                }
                (out, *decoded)
            }
        };
        let skip = usize::try_from(self.decoded.start - start).map_err(|_| Irregular)?;
        out.truncate(skip.saturating_add(wanted));
        out.drain(..skip.min(out.len()));
        if out.len() == wanted { Ok(out) } else { Err(Irregular) }
    }
}

impl Lines {
    /// The encoded offset of a character.
    fn offset(self, char: u64) -> u64 {
        char + char / self.width * self.eol
    }

    /// The octets of the body from `start` on without the line ends; `None` when these are not where they should be.
    fn strip(self, octets: &[u8], start: u64) -> Option<Vec<u8>> {
        let line = self.width + self.eol;
        let mut column = start % line;
        let mut chars = Vec::with_capacity(octets.len());
        let mut rest = octets;
        while !rest.is_empty() {
            let text = rest.len().min(usize::try_from(self.width.saturating_sub(column)).unwrap_or(usize::MAX));
            chars.extend_from_slice(&rest[..text]);
            rest = &rest[text..];
            if rest.is_empty() {
                break;
            }
            let eol: &[u8] = match self.eol {
                2 => b"\r\n",
                1 => b"\n",
                _ => return None,
            };
            let due = &eol[column.saturating_sub(self.width) as usize..];
            let due = &due[..due.len().min(rest.len())];
            rest = rest.strip_prefix(due)?;
            column = 0;
        }
        Some(chars)
    }

    /// How many `=` these octets, from `start` on and not behind the last line, end with; `None` when they do not look
    /// like this.
    fn pads(self, octets: &[u8], start: u64) -> Option<u64> {
        let chars = self.strip(octets, start)?;
        let pads = chars.iter().rev().take_while(|b| **b == b'=').count();
        let text = &chars[..chars.len() - pads];
        text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')).then_some(pads as u64)
    }
}

/// Finds the layout of a body by one pass over it, whatever its encoding.
#[derive(Debug)]
pub struct Indexer {
    decoder: Decoder,
    octets: u64,
    decoded: u64,
    checkpoints: Vec<Checkpoint>,
    spacing: u64,
}

impl Indexer {
    /// An indexer at the start of a body.
    pub fn new(encoding: Encoding) -> Self {
        let decoder = Decoder::new(encoding);
        let checkpoints = vec![Checkpoint { encoded: 0, decoded: 0, decoder: decoder.clone() }];
        Self { decoder, octets: 0, decoded: 0, checkpoints, spacing: SPACING }
    }

    /// Takes the next octets of the body and appends what they decode to; the caller may use it or throw it away.
    pub fn push(&mut self, encoded: &[u8], out: &mut Vec<u8>) {
        let mut rest = encoded;
        while !rest.is_empty() {
            let room = self.spacing - self.octets % self.spacing;
            let (piece, after) = rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            let before = out.len();
            self.decoder.push(piece, out);
            self.decoded += (out.len() - before) as u64;
            self.octets += piece.len() as u64;
            rest = after;
            if self.octets.is_multiple_of(self.spacing) {
                self.add_checkpoint();
            }
        }
    }

    fn add_checkpoint(&mut self) {
        let (encoded, decoded) = (self.octets, self.decoded);
        self.checkpoints.push(Checkpoint { encoded, decoded, decoder: self.decoder.clone() });
        if self.checkpoints.len() > MAX_CHECKPOINTS {
            self.spacing *= 2;
            let spacing = self.spacing;
            self.checkpoints.retain(|c| c.encoded.is_multiple_of(spacing));
        }
    }

    /// The body ends here: appends the last decoded octets and gives the layout. A body that is void in its encoding
    /// (see [`Decoder::is_void`]) is its own content; nothing was decoded from it then.
    pub fn finish(self, out: &mut Vec<u8>) -> Layout {
        if self.decoder.is_void() {
            return Layout::identity(self.octets);
        }
        let before = out.len();
        self.decoder.finish(out);
        let decoded_len = self.decoded + (out.len() - before) as u64;
        Layout { octets: self.octets, decoded_len, kind: Kind::Indexed(self.checkpoints.into()) }
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
