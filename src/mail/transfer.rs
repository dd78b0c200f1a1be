//! Streaming decoders of the content transfer encodings, RFC 2045 section 6, that can be stopped, cloned and resumed.
//!
//! What comes out does not depend on how the input is cut. It is what Python's `get_payload(decode=True)` gives, but:
//! 1. Base64 that ends within a quad gives the whole octets there are; Python gives up when one character is left over.
//! 2. Quoted-printable loses the blanks before a line end (RFC 2045 section 6.7 rule 3), which Python keeps.
//! 3. In quoted-printable `==41` is `=A` (a bad escape is literal, Python swallows a `=`), and after `=` a CR without LF
//!    is literal (Python drops all up to the next LF).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use memchr::{memchr, memchr_iter, memrchr};

use super::part::Encoding;

/// Decodes whole quads only.
const QUADS: GeneralPurpose = GeneralPurpose::new(&STANDARD, NO_PAD);

/// Blanks at a line end are dropped modulo this number, so that a decoder never holds more back. A line that RFC 5322
/// allows is shorter.
const MAX_BLANKS: usize = 1024;

/// Characters of a uuencoded line that matter: its length and 63 octets in quads, and more than a `begin` line needs.
const UU_LINE: usize = 96;

/// The state of a decoder: a few words and at most about 1 KiB of input held back.
#[derive(Clone, Debug)]
pub struct Decoder(State);

#[derive(Clone, Debug)]
enum State {
    Identity,
    Base64(Base64),
    QuotedPrintable(QuotedPrintable),
    Uuencode(Uuencode),
}

impl Decoder {
    /// A decoder at the start of a body.
    pub fn new(encoding: Encoding) -> Self {
        Self(match encoding {
            Encoding::Identity => State::Identity,
            Encoding::Base64 => State::Base64(Base64::default()),
            Encoding::QuotedPrintable => State::QuotedPrintable(QuotedPrintable::default()),
            Encoding::Uuencode => State::Uuencode(Uuencode::default()),
        })
    }

    /// Takes encoded octets and appends what they decode to; some may be held back.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match &mut self.0 {
            State::Identity => out.extend_from_slice(input),
            State::Base64(base64) => base64.push(input, out),
            State::QuotedPrintable(qp) => qp.push(input, out),
            State::Uuencode(uu) => uu.push(input, out),
        }
    }

    /// The input ends here: appends what was held back.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self.0 {
            State::Identity => {}
            State::Base64(base64) => base64.finish(out),
            State::QuotedPrintable(qp) => qp.finish(out),
            State::Uuencode(mut uu) => uu.end_line(out),
        }
    }

    /// Did the input never begin, as a uuencoded body without a `begin` line? Its content is then the body as it is.
    pub fn is_void(&self) -> bool {
        matches!(&self.0, State::Uuencode(uu) if uu.stage == Stage::Before && !uu.is_begin())
    }
}

/// The decoded octets of a whole body.
pub fn decode(encoding: Encoding, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut decoder = Decoder::new(encoding);
    decoder.push(body, &mut out);
    if decoder.is_void() {
        return body.to_vec();
    }
    decoder.finish(&mut out);
    out
}

/// Characters outside the alphabet are skipped, and so is a `=` too early in a quad. Padding that completes a quad ends
/// the data: what follows it is a footer that a mailing list added.
#[derive(Clone, Debug, Default)]
struct Base64 {
    /// The bits of an incomplete quad, and how many characters they came from (0 to 3).
    bits: u32,
    have: u8,
    pads: u8,
    is_done: bool,
}

impl Base64 {
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        while !rest.is_empty() && !self.is_done {
            let (line, after) = rest.split_at(memchr(b'\n', rest).map_or(rest.len(), |at| at + 1));
            rest = after;
            let fill = usize::from((4 - self.have) % 4).min(line.len());
            self.push_slowly(&line[..fill], out);
            let line = &line[fill..];
            // Mostly true: a line of whole quads, or what is left of one that began in the last input.
            if self.have == 0 && !self.is_done {
                let text = line.trim_ascii_end();
                let (quads, tail) = text.split_at(text.len() & !3);
                let start = out.len();
                out.resize(start + quads.len() / 4 * 3, 0);
                if QUADS.decode_slice_unchecked(quads, &mut out[start..]).is_ok() {
                    self.push_slowly(tail, out);
                    continue;
                }
                out.truncate(start);
            }
            self.push_slowly(line, out);
        }
    }

    fn push_slowly(&mut self, input: &[u8], out: &mut Vec<u8>) {
        for &byte in input {
            if self.is_done {
                break;
            }
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.have >= 2 => {
                    self.pads += 1;
                    self.is_done = self.have + self.pads >= 4;
                    continue;
                }
                _ => continue,
            };
            self.pads = 0;
            self.bits = self.bits << 6 | u32::from(value);
            self.have += 1;
            if self.have == 4 {
                out.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                (self.bits, self.have) = (0, 0);
            }
        }
        if self.is_done {
            self.take_rest(out);
        }
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        self.take_rest(out);
    }

    fn take_rest(&mut self, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.have) {
            2 => out.push((self.bits >> 4) as u8),
            3 => out.extend_from_slice(&((self.bits >> 2) as u16).to_be_bytes()),
            _ => {}
        }
    }
}

/// Holds back the end of a line that is not complete, as far as what follows can change its meaning.
#[derive(Clone, Debug, Default)]
struct QuotedPrintable {
    held: Vec<u8>,
}

impl QuotedPrintable {
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        if !self.held.is_empty() {
            let (first, after) = rest.split_at(memchr(b'\n', rest).map_or(rest.len(), |at| at + 1));
            self.held.extend_from_slice(first);
            let joined = std::mem::take(&mut self.held);
            self.push_joined(&joined, out);
            rest = after;
        }
        self.push_joined(rest, out);
    }

    /// `input` follows nothing that is held back.
    fn push_joined(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let complete = memrchr(b'\n', input).map_or(0, |at| at + 1);
        let (lines, open) = input.split_at(complete);
        let mut start = 0;
        for end in memchr_iter(b'\n', lines) {
            Self::line(&lines[start..=end], out);
            start = end + 1;
        }
        let sure = Self::sure(open);
        Self::unescape(&open[..sure], out);
        self.held.extend_from_slice(&open[sure..]);
    }

    fn line(line: &[u8], out: &mut Vec<u8>) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let eol = &line[text.len()..];
        let text = Self::without_blanks(text);
        match text.strip_suffix(b"=") {
            Some(text) => Self::unescape(text, out),
            None => {
                Self::unescape(text, out);
                out.extend_from_slice(eol);
            }
        }
    }

    fn without_blanks(text: &[u8]) -> &[u8] {
        let solid = text.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |at| at + 1);
        &text[..text.len() - (text.len() - solid) % MAX_BLANKS]
    }

    /// How much of an incomplete line means the same whatever follows.
    fn sure(open: &[u8]) -> usize {
        let text = open.strip_suffix(b"\r").unwrap_or(open);
        let text = Self::without_blanks(text);
        match text {
            [.., b'='] => text.len() - 1,
            [.., b'=', _] if text.len() == open.len() => text.len() - 2,
            _ => text.len(),
        }
    }

    /// Text without line ends: escapes are replaced, bad ones stay.
    fn unescape(text: &[u8], out: &mut Vec<u8>) {
        let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
        let mut rest = text;
        while let Some(at) = memchr(b'=', rest) {
            out.extend_from_slice(&rest[..at]);
            let escape = rest.get(at + 1..at + 3).and_then(|e| Some(digit(e[0])? << 4 | digit(e[1])?));
            out.push(escape.unwrap_or(b'='));
            rest = &rest[at + if escape.is_some() { 3 } else { 1 }..];
        }
        out.extend_from_slice(rest);
    }

    fn finish(self, out: &mut Vec<u8>) {
        Self::line(&self.held, out);
    }
}

/// The first file of a uuencoded body, as Python's `uu` module reads it: `begin MODE NAME`, lines, `end`.
#[derive(Clone, Debug, Default)]
struct Uuencode {
    stage: Stage,
    /// The start of the line that is not complete yet, at most [`UU_LINE`].
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Before,
    Inside,
    After,
}

impl Uuencode {
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        while !rest.is_empty() && self.stage != Stage::After {
            let end = memchr(b'\n', rest);
            let piece = &rest[..end.unwrap_or(rest.len())];
            self.line.extend_from_slice(&piece[..piece.len().min(UU_LINE - self.line.len())]);
            rest = &rest[end.map_or(rest.len(), |at| at + 1)..];
            if end.is_some() {
                self.end_line(out);
            }
        }
    }

    fn is_begin(&self) -> bool {
        let mut words = self.line.splitn(3, |b| *b == b' ');
        words.next() == Some(b"begin")
            && words.next().is_some_and(|mode| !mode.is_empty() && mode.iter().all(|b| matches!(b, b'0'..=b'7')))
            && words.next().is_some()
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        match self.stage {
            Stage::Before if self.is_begin() => self.stage = Stage::Inside,
            Stage::Inside if self.line.trim_ascii() == b"end" => self.stage = Stage::After,
            Stage::Inside => self.data(out),
            _ => {}
        }
        self.line.clear();
    }

    /// One line of data: its length, then quads. Blanks that a gateway cut at its end count as zero bits.
    fn data(&self, out: &mut Vec<u8>) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let Some((&length, data)) = line.split_first() else { return };
        let value = |b: &u8| u32::from(b.wrapping_sub(b' ') & 63);
        let end = out.len() + value(&length) as usize;
        for quad in 0..value(&length).div_ceil(3) as usize {
            let bits = (0..4).fold(0, |bits, n| bits << 6 | data.get(quad * 4 + n).map_or(0, value));
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
        }
        out.truncate(end);
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
