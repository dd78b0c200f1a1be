//! Header fields: taken apart (RFC 5322), decoded (RFC 2047), and their parameters (RFC 2045, RFC 2231).
//!
//! Own code, for mail-parser gives only what it has parsed, and its word decoder joins no character that is cut between
//! two words. Everything here is linear in the length of the header.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode::Indifferent;
use base64::engine::general_purpose::{GeneralPurpose, PAD};

use super::text;

/// A parameter list as it stands in the header: names lower-case, values raw (quotes removed, neither RFC 2231 nor
/// RFC 2047 decoded).
pub type Params = Vec<(Box<str>, Vec<u8>)>;

/// Parameters kept of one field; real mail has below ten.
const MAX_PARAMS: usize = 400;

/// Parts of one RFC 2231 parameter: `name*0` to `name*99`.
const MAX_SECTIONS: usize = 100;

/// What two allocations take besides what is asked for, octets.
const PARAM_OVERHEAD: usize = 32;

/// Octets of one parameter's value that are looked at.
const MAX_VALUE: usize = 10 * 1024;

const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, PAD.with_decode_padding_mode(Indifferent).with_decode_allow_trailing_bits(true));

/// Octets in memory of parameters, about.
pub fn weight(params: &Params) -> usize {
    let each = params.iter().map(|(name, value)| PARAM_OVERHEAD + name.len() + value.capacity()).sum::<usize>();
    params.capacity() * size_of::<(Box<str>, Vec<u8>)>() + each
}

/// Decodes one raw header field body, or any text with encoded words in it: one line, blanks at both ends cut.
///
/// - Unfolded: a line end goes, the blank that follows it stays.
/// - Encoded words are decoded wherever they stand, the blanks between two of them go, and a character that is cut
///   between two words of the same charset is whole again. A word that is broken stays as it is.
/// - Raw 8-bit text is UTF-8 if it is valid UTF-8, else windows-1252.
/// - Control characters but TAB become spaces.
pub fn decode(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    decode_into(&mut out, raw);
    out
}

fn decode_into(out: &mut String, raw: &[u8]) {
    let unfolded = unfold(raw);
    let mut rest = unfolded.trim_ascii();
    let mut pending = Pending::default();
    while let Some(at) = memchr::memmem::find(rest, b"=?") {
        let (before, from) = rest.split_at(at);
        let Some((word, length)) = EncodedWord::parse(from) else {
            pending.flush(out);
            push_clean(out, &text::guess(before));
            out.push_str("=?");
            rest = &from[2..];
            continue;
        };
        // Blanks between two words are there only because a word has a maximal length.
        if !(pending.is_open && before.trim_ascii().is_empty()) {
            pending.flush(out);
            push_clean(out, &text::guess(before));
        }
        pending.add(out, word);
        rest = &from[length..];
    }
    pending.flush(out);
    push_clean(out, &text::guess(rest));
}

/// The decoded octets of adjacent words of one charset.
#[derive(Default)]
struct Pending {
    charset: String,
    octets: Vec<u8>,
    is_open: bool,
}

impl Pending {
    fn add(&mut self, out: &mut String, word: EncodedWord<'_>) {
        let charset = String::from_utf8_lossy(word.charset);
        // Words of ISO-2022 end in ASCII, and a change of state without text between is an error to encoding_rs.
        let is_stateful = charset.get(..8).is_some_and(|c| c.eq_ignore_ascii_case("iso-2022"));
        if is_stateful || !self.charset.eq_ignore_ascii_case(&charset) {
            self.flush(out);
        }
        self.charset = charset.into_owned();
        self.octets.extend_from_slice(&word.octets);
        self.is_open = true;
    }

    fn flush(&mut self, out: &mut String) {
        if std::mem::take(&mut self.is_open) {
            push_clean(out, &text::decode_charset(&self.octets, &self.charset));
            self.octets.clear();
        }
    }
}

struct EncodedWord<'a> {
    charset: &'a [u8],
    octets: Vec<u8>,
}

impl<'a> EncodedWord<'a> {
    /// The encoded word at the start of `text`, which begins with `=?`, and its length; `None` when it is broken.
    ///
    /// Real words break the rules of RFC 2047: they are long, hold blanks, stand in quoted strings. What may not be in
    /// one is the start of another, so that looking for the end of many broken ones is linear.
    fn parse(text: &'a [u8]) -> Option<(Self, usize)> {
        let (charset, after) = split_at_mark(&text[2..], 64)?;
        let (encoding, data) = split_at_mark(after, 1)?;
        // The language of RFC 2231 section 5.
        let charset = charset.split(|b| *b == b'*').next().filter(|c| !c.is_empty())?;
        let is_end = |at: &usize| data.get(at + 1) == Some(&b'=');
        let is_next_word = |at: &usize| *at > 0 && data[at - 1] == b'=';
        let end = memchr::memchr_iter(b'?', data).find(|at| is_end(at) || is_next_word(at)).filter(is_end)?;
        let octets = match encoding {
            b"Q" | b"q" => decode_q(&data[..end]),
            b"B" | b"b" => {
                let compact: Vec<u8> = data[..end].iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
                BASE64.decode(compact).ok()?
            }
            _ => return None,
        };
        let length = text.len() - data.len() + end + 2;
        Some((Self { charset, octets }, length))
    }
}

/// What stands before the next `?`, at most `max` octets without blanks, and what follows the `?`.
fn split_at_mark(text: &[u8], max: usize) -> Option<(&[u8], &[u8])> {
    let at = text.iter().take(max + 1).position(|b| *b == b'?' || b.is_ascii_whitespace())?;
    (text[at] == b'?').then(|| (&text[..at], &text[at + 1..]))
}

/// The Q encoding, RFC 2047 section 4.2; a bad escape is kept as it is.
fn decode_q(data: &[u8]) -> Vec<u8> {
    let spaces: Vec<u8> = data.iter().map(|b| if *b == b'_' { b' ' } else { *b }).collect();
    decode_hex(&spaces, b'=')
}

/// Replaces `=XX` (or `%XX`) by the octet it means.
fn decode_hex(data: &[u8], escape: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some(at) = memchr::memchr(escape, rest) {
        out.extend_from_slice(&rest[..at]);
        match rest[at + 1..] {
            [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |b: u8| (b as char).to_digit(16).unwrap_or_default() as u8;
                out.push(digit(high) << 4 | digit(low));
                rest = &rest[at + 3..];
            }
            _ => {
                out.push(escape);
                rest = &rest[at + 1..];
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Without line ends: one before a blank goes, any other becomes a space.
fn unfold(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', raw).is_none() {
        return raw.into();
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        let after = &rest[at..];
        let ends = after.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(after.len());
        rest = &after[ends..];
        if !matches!(rest.first(), None | Some(b' ' | b'\t')) {
            out.push(b' ');
        }
    }
    out.extend_from_slice(rest);
    out.into()
}

fn push_clean(out: &mut String, text: &str) {
    if text.contains(|c: char| c.is_control() && c != '\t') {
        out.extend(text.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }));
    } else {
        out.push_str(text);
    }
}

/// The value of a parameter, RFC 2231 continuations and charsets and RFC 2047 decoded; `name` in lower-case.
///
/// `name*=` wins over `name*0=` and that over `name=`, as RFC 6266 has it: the plain one is for old readers. Of
/// repeated ones the first counts; continuations end at the first gap.
pub fn parameter(params: &Params, name: &str) -> Option<String> {
    let mut plain = None;
    let mut extended = None;
    let mut sections: Vec<Option<(&[u8], bool)>> = Vec::new();
    for (key, value) in params {
        let Some(suffix) = key.strip_prefix(name) else { continue };
        let value = &value[..value.len().min(MAX_VALUE)];
        match suffix {
            "" => plain = plain.or(Some(value)),
            "*" => extended = extended.or(Some(value)),
            _ => {
                let Some(number) = suffix.strip_prefix('*') else { continue };
                let bare = number.strip_suffix('*').unwrap_or(number);
                let Some(n) = bare.parse().ok().filter(|n: &usize| *n < MAX_SECTIONS) else { continue };
                if sections.len() <= n {
                    sections.resize(n + 1, None);
                }
                sections[n] = sections[n].or(Some((value, bare.len() < number.len())));
            }
        }
    }
    if let Some(value) = extended {
        let (charset, octets) = decode_extended(value);
        return Some(clean(&text::decode_charset(&octets, &charset)));
    }
    let mut sections = sections.into_iter().map_while(|section| section).peekable();
    if sections.peek().is_none() {
        return plain.map(decode);
    }
    let mut charset = None;
    let mut octets = Vec::new();
    for (n, (value, is_extended)) in sections.enumerate() {
        match is_extended {
            true if n == 0 => {
                let (named, decoded) = decode_extended(value);
                charset = Some(named);
                octets.extend_from_slice(&decoded);
            }
            true => octets.extend_from_slice(&decode_hex(value, b'%')),
            false => octets.extend_from_slice(value),
        }
        if octets.len() >= MAX_VALUE {
            break;
        }
    }
    Some(match charset {
        Some(charset) => clean(&text::decode_charset(&octets, &charset)),
        // Some cut an RFC 2047 word into plain continuations.
        None => decode(&octets),
    })
}

/// `charset'language'percent-encoded`, RFC 2231 section 4: the charset and the octets. Where the apostrophes are
/// missing, 8-bit text was decoded by the server already (Dovecot 2.4).
fn decode_extended(value: &[u8]) -> (String, Vec<u8>) {
    let mut quotes = memchr::memchr_iter(b'\'', value);
    match (quotes.next(), quotes.next()) {
        (Some(first), Some(second)) => {
            (String::from_utf8_lossy(&value[..first]).into_owned(), decode_hex(&value[second + 1..], b'%'))
        }
        _ if value.is_ascii() => (String::new(), decode_hex(value, b'%')),
        _ => (String::new(), value.to_vec()),
    }
}

fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_clean(&mut out, text.trim());
    out
}

/// Takes a raw Content-Type or Content-Disposition body apart: what stands before the first `;`, raw, and the
/// parameters. Tolerant: comments are skipped, a missing end quote ends with the field, an unquoted value may hold
/// blanks; what has no `=` is left out.
pub fn parse_params(raw: &[u8]) -> (Vec<u8>, Params) {
    let unfolded = unfold(raw);
    let mut cursor = Cursor(&unfolded);
    let value = cursor.token(b";");
    let mut params = Params::new();
    while !cursor.0.is_empty() && params.len() < MAX_PARAMS {
        cursor.0 = &cursor.0[usize::from(cursor.0[0] == b';')..];
        let name = cursor.token(b";=");
        let Some(after) = cursor.0.strip_prefix(b"=") else { continue };
        cursor.0 = after;
        let value = cursor.value();
        if !name.is_empty() {
            params.push((String::from_utf8_lossy(&name).to_ascii_lowercase().into(), value));
        }
    }
    (value, params)
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// Everything up to one of `ends`, trimmed, without comments.
    fn token(&mut self, ends: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(&byte) = self.0.first().filter(|b| !ends.contains(b)) {
            if byte == b'(' {
                self.skip_comment();
            } else {
                out.push(byte);
                self.0 = &self.0[1..];
            }
        }
        out.trim_ascii().to_vec()
    }

    /// A quoted string, or an unquoted value up to the `;`. A comment behind an unquoted value is one only at its very
    /// end: `notes (1).txt` is a name that many do not quote.
    fn value(&mut self) -> Vec<u8> {
        loop {
            self.0 = self.0.trim_ascii_start();
            match self.0.first() {
                Some(b'(') => self.skip_comment(),
                Some(b'"') => return self.quoted(),
                _ => break,
            }
        }
        let (value, after) = self.0.split_at(memchr::memchr(b';', self.0).unwrap_or(self.0.len()));
        self.0 = after;
        let value = value.trim_ascii_end();
        match memchr::memmem::find(value, b" (") {
            Some(at) if value.ends_with(b")") => value[..at].trim_ascii_end().to_vec(),
            _ => value.to_vec(),
        }
    }

    fn quoted(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut bytes = self.0[1..].iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => out.extend(bytes.next()),
                _ => out.push(byte),
            }
        }
        self.0 = bytes.as_slice();
        out
    }

    /// Skips a comment, RFC 5322 section 3.2.2; comments nest, and one that is not closed takes all the rest.
    fn skip_comment(&mut self) {
        let mut depth = 0usize;
        let mut bytes = self.0.iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' => _ = bytes.next(),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        self.0 = bytes.as_slice();
    }
}

/// The lines of a raw header, each with the lines that continue it and without the line end, up to the first empty one.
pub(super) fn logical_lines(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            let line = &rest[end..];
            end += memchr::memchr(b'\n', line).map_or(line.len(), |at| at + 1);
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (line, after) = rest.split_at(end);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        rest = if line.is_empty() { b"" } else { after };
        (!line.is_empty()).then_some(line)
    })
}

/// Name, without blanks, and raw body of a field; `None` for a line that is none.
pub(super) fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then(|| (name, &line[colon + 1..]))
}

/// The content of `headers.txt`: each field of a raw header in order, decoded as [`decode`] does, one line each, every
/// line ended by LF. A line that is no field is decoded and kept. It ends at the empty line, which is not part of it.
pub fn headers_text(raw_header: &[u8]) -> String {
    let mut out = String::with_capacity(raw_header.len());
    for line in logical_lines(raw_header) {
        decode_into(&mut out, line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
