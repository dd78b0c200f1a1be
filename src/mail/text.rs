//! Text parts and charsets: whatever was sent becomes UTF-8 with LF.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use mail_parser::decoders::charsets::map::charset_decoder;

/// RFC 2152 lets the unused bits of a run be anything, and so does everybody.
const UTF7_BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));

/// The content of a text file: `decoded` (transfer encoding undone) in UTF-8. `charset` is the parameter of the
/// Content-Type, in any case; what an HTML text says about itself in `<meta>` is neither used nor changed.
///
/// - Bytes that the charset does not have become U+FFFD; see [`decode_charset`] for unknown and missing charsets.
/// - A byte order mark goes.
/// - CRLF becomes LF, however many CRs stand before the LF (gateways send CR CR LF); a CR alone becomes LF too, so that
///   a line ends where it ends for grep and nothing is overwritten on a terminal.
/// - NUL becomes U+FFFD: grep takes a file that holds a NUL for binary and keeps silent about its lines.
pub fn to_utf8(decoded: &[u8], charset: Option<&str>) -> String {
    let text = decode_charset(decoded, charset.unwrap_or_default());
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = memchr::memchr2(b'\r', 0, rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('\0') {
            out.push('\u{fffd}');
            rest = after;
            continue;
        }
        let after = rest.trim_start_matches('\r');
        match after.strip_prefix('\n') {
            Some(after) => {
                out.push('\n');
                rest = after;
            }
            None => {
                out.extend(std::iter::repeat_n('\n', rest.len() - after.len()));
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Text in a named charset, names in any case as mail uses them. An empty or unknown name and US-ASCII mean: UTF-8 if
/// it is valid UTF-8, else windows-1252, which decodes every byte; unknown names give U+FFFD instead. UTF-16 without
/// a byte order mark is guessed from where its zero bytes are.
pub fn decode_charset<'a>(bytes: &'a [u8], charset: &str) -> Cow<'a, str> {
    let name = charset.trim().to_ascii_lowercase();
    let is_ascii = matches!(name.as_str(), "" | "us-ascii" | "ascii" | "ansi_x3.4-1968" | "7bit" | "8bit");
    if is_ascii {
        return guess(bytes);
    }
    match name.as_str() {
        "utf-7" | "utf7" | "unicode-1-1-utf-7" | "csutf7" => return decode_utf7(bytes).into(),
        _ => {}
    }
    let named = match name.as_str() {
        "utf-16" | "utf16" | "unicode" | "ucs-2" | "iso-10646-ucs-2" | "csunicode" => Some(utf16_order(bytes)),
        "cp932" => Some(encoding_rs::SHIFT_JIS),
        "cp936" => Some(encoding_rs::GBK),
        "cp949" => Some(encoding_rs::EUC_KR),
        "cp950" => Some(encoding_rs::BIG5),
        name => Encoding::for_label_no_replacement(name.as_bytes()),
    };
    let Some(named) = named else {
        // mail-parser knows a few that browsers do not (IBM850); it answers U+FFFD for those that nobody decodes.
        return match charset_decoder(name.as_bytes()) {
            Some(decoder) if Encoding::for_label(name.as_bytes()).is_none() => decoder(bytes).into(),
            _ => without_mark(bytes),
        };
    };
    let is_utf16 = named == UTF_16LE || named == UTF_16BE;
    let encoding = match Encoding::for_bom(bytes) {
        Some((mark, _)) if mark == UTF_8 || is_utf16 => mark,
        _ => named,
    };
    encoding.decode_with_bom_removal(bytes).0
}

/// Undeclared text: UTF-8 when it is, else windows-1252.
pub(super) fn guess(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(_) => without_mark(bytes),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

fn without_mark(bytes: &[u8]) -> Cow<'_, str> {
    UTF_8.decode_with_bom_removal(bytes).0
}

/// Text of most scripts has its zero bytes in the upper half of its units. RFC 2781 says big-endian when in doubt.
fn utf16_order(bytes: &[u8]) -> &'static Encoding {
    let zeros = |of: usize| bytes.iter().take(4096).skip(of).step_by(2).filter(|b| **b == 0).count();
    if zeros(1) > zeros(0) { UTF_16LE } else { UTF_16BE }
}

/// UTF-7, RFC 2152. (mail-parser 0.11 reads `+-` as two characters and loses the character that ends a run.)
fn decode_utf7(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(shift) = memchr::memchr(b'+', rest) {
        out.push_str(&guess(&rest[..shift]));
        rest = &rest[shift + 1..];
        let length = rest.iter().position(|b| !matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/'));
        let (run, after) = rest.split_at(length.unwrap_or(rest.len()));
        rest = after.strip_prefix(b"-").unwrap_or(after);
        if run.is_empty() {
            out.push('+');
            continue;
        }
        let utf16 = UTF7_BASE64.decode(run).unwrap_or_else(|_| vec![0xff, 0xfd]);
        out.push_str(&UTF_16BE.decode_without_bom_handling(&utf16[..utf16.len() & !1]).0);
    }
    out.push_str(&guess(rest));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_becomes_utf8_with_lf() {
        for (bytes, charset, want) in [
            (&b"a\r\nb\r\n"[..], None, "a\nb\n"),
            (b"a\r\r\nb\rc\r", None, "a\nb\nc\n"),
            (b"a\0b", None, "a\u{fffd}b"),
            (b"K\xc3\xb6ln", Some("US-ASCII"), "Köln"),
            (b"K\xf6ln \x80", Some("us-ascii"), "Köln €"),
            (b"K\xf6ln", None, "Köln"),
            (b"K\xf6ln", Some("ISO-8859-1"), "Köln"),
            (b"K\xc3\xb6ln", Some("iso-8859-1"), "KÃ¶ln"),
            (b"K\xf6ln", Some("utf-8"), "K\u{fffd}ln"),
            (b"\xef\xbb\xbfx", Some("utf-8"), "x"),
            (b"\xef\xbb\xbf\xc3\xa9", Some("iso-8859-1"), "é"),
            (b"K\xc3\xb6ln", Some("x-nobody-knows"), "Köln"),
            (b"K\xf6ln", Some("x-nobody-knows"), "K\u{fffd}ln"),
            (b"\x83n\x83\x8d", Some("Shift_JIS"), "ハロ"),
            (b"\x83n\x83\x8d", Some("cp932"), "ハロ"),
            (b"\x1b$B%O%m\x1b(B", Some("iso-2022-jp"), "ハロ"),
            (b"\xf0\xd2", Some(" koi8-r "), "Пр"),
            (b"\x9b", Some("ibm850"), "ø"),
            (b"\x1b$)Cabcd", Some("iso-2022-kr"), "\u{1b}$)Cabcd"),
            (b"\xff\xfea\0\r\0\n\0", Some("utf-16"), "a\n"),
            (b"\xfe\xff\0a", Some("utf-16"), "a"),
            (b"a\0b\0", Some("UTF-16"), "ab"),
            (b"\0a\0b", Some("utf-16"), "ab"),
            (b"\0a\0b", Some("utf-16be"), "ab"),
            (b"Hi Mom -+Jjo--!+- +AKM.+AOk", Some("utf-7"), "Hi Mom -☺-!+ £.é"),
            (b"+A", Some("UTF-7"), "\u{fffd}"),
        ] {
            assert_eq!(to_utf8(bytes, charset), want, "{charset:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_charset_become_text_without_cr_and_nul(
            bytes: Vec<u8>,
            charset in "utf-7|utf-16|gb18030|iso-2022-jp|ibm850|x|us-ascii|hz-gb-2312|\\PC{0,5}|[a-z0-9_-]{40,50}",
        ) {
            prop_assert!(!to_utf8(&bytes, Some(&charset)).contains(['\r', '\0']));
        }

        #[test]
        fn utf8_text_stays(text in "[^\r\0\u{feff}]{0,40}") {
            for charset in [None, Some("utf-8"), Some("UTF8"), Some("us-ascii"), Some("unknown")] {
                prop_assert_eq!(&to_utf8(text.as_bytes(), charset), &text);
            }
        }
    }
}
