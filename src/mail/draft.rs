//! A message on its way from a file to the server: is it one, how its lines end, and by what it will be known again.

use super::arrival::Sought;
use super::header::{decode, logical_lines, split_field};

/// Octets from the start of a message that are enough to see what it is.
pub const HEAD: usize = 64 * 1024;

/// Where the message begins in a file that begins like this: behind the `From ` line that mbox files have, else at the
/// start. The error says why it is no message: its first line must be a header field (RFC 5322 section 2.2), or empty
/// where there is no header.
pub fn plan_start(head: &[u8]) -> Result<usize, &'static str> {
    if head.is_empty() {
        return Err("the file is empty");
    }
    let start = match head.strip_prefix(b"From ") {
        Some(rest) => "From ".len() + memchr::memchr(b'\n', rest).ok_or("the file is a single mbox line")? + 1,
        None => 0,
    };
    let line = head[start..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() && start < head.len() || split_field(line).is_some() {
        Ok(start)
    } else {
        Err("the file does not begin with a header field")
    }
}

/// Ends each line by CRLF, piece by piece. A CR alone stays: it is no line end.
#[derive(Debug, Default)]
pub struct LineEnds {
    after_cr: bool,
    /// Line ends that were LF alone.
    pub bare: u64,
}

impl LineEnds {
    /// Takes the next piece; appends what it becomes to `out`. The error is a NUL, which servers refuse or alter
    /// (RFC 9051 section 4.3.1).
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        if memchr::memchr(0, piece).is_some() {
            return Err("the file holds a NUL, which no message may");
        }
        let mut from = 0;
        for at in memchr::memchr_iter(b'\n', piece) {
            let after_cr = if at == 0 { self.after_cr } else { piece[at - 1] == b'\r' };
            if !after_cr {
                self.bare += 1;
                out.extend_from_slice(&piece[from..at]);
                out.push(b'\r');
                from = at;
            }
        }
        out.extend_from_slice(&piece[from..]);
        self.after_cr = piece.last().map_or(self.after_cr, |last| *last == b'\r');
        Ok(())
    }
}

/// By what a message that begins like this is found again among those that arrived, and its `Date:` in seconds since
/// 1970 UTC.
pub fn sought(head: &[u8], size: u64, internal_date: Option<i64>) -> (Sought, Option<i64>) {
    let mut found = Sought { size, internal_date, ..Sought::default() };
    let mut date = None;
    for (name, value) in logical_lines(head).filter_map(split_field) {
        // Of a field that is there twice the first counts, as in an ENVELOPE.
        if name.eq_ignore_ascii_case(b"Message-ID") && found.message_id.is_empty() {
            found.message_id = decode(value).into();
        } else if name.eq_ignore_ascii_case(b"Subject") && found.subject.is_empty() {
            found.subject = decode(value).into();
        } else if name.eq_ignore_ascii_case(b"Date") && date.is_none() {
            date = parse_date(value);
        }
    }
    (found, date)
}

/// A date of RFC 5322 section 3.3, as far as it makes sense.
fn parse_date(value: &[u8]) -> Option<i64> {
    let text = decode(value);
    // The day of the week is often wrong, and says nothing.
    let text = text.split_once(',').map_or(&*text, |(_, rest)| rest).trim();
    let text = text.split('(').next().unwrap_or_default().trim();
    chrono::DateTime::parse_from_rfc2822(text).ok().map(|date| date.timestamp())
}

/// The INTERNALDATE that is asked for: what was given, else the date that the message states, else none. Within 1970 to
/// 2100: Cyrus and Courier refuse 1960.
pub fn plan_internal_date(given: Option<i64>, stated: Option<i64>) -> Option<i64> {
    const YEAR_2100: i64 = 4_102_444_800;
    given.or(stated).map(|date| date.clamp(0, YEAR_2100 - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_begins_with_a_field_or_an_empty_line() {
        for (head, want) in [
            (&b"Subject: a\r\n\r\nb"[..], Some(0)),
            (b"\nbody", Some(0)),
            (b"\r\nbody", Some(0)),
            (b"X-Y:\n", Some(0)),
            (b"From bob Thu Jan  1 00:00:00 1970\nSubject: a\n", Some(34)),
            (b"From: bob\n", Some(0)),
            (b"", None),
            (b"From bob", None),
            (b"From bob\nhello\n", None),
            (b"hello world\n", None),
            (b"<html>\n", None),
            (b"\x89PNG\r\n", None),
            (b" folded: a\n", None),
        ] {
            assert_eq!(plan_start(head).ok(), want, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn what_a_message_is_known_by_stands_in_its_header() {
        let head =
            b"Subject: =?utf-8?q?K=C3=B6ln?=\nmessage-id:\n <a@b>\nDate: Fri, 21 Nov 2025 09:15:00 +0100 (CET)\n\
                     Message-ID: <second>\n\nMessage-ID: <body>\n";
        let (found, date) = sought(head, 7, None);
        assert_eq!((&*found.message_id, &*found.subject, found.size), ("<a@b>", "Köln", 7));
        assert_eq!(date, Some(1_763_712_900));
        assert_eq!(sought(b"Date: yesterday\n\n", 7, None).1, None);
    }

    #[test]
    fn a_date_that_servers_refuse_is_not_asked_for() {
        for (given, stated, want) in [
            (Some(5), Some(7), Some(5)),
            (None, Some(7), Some(7)),
            (None, None, None),
            (Some(-5), None, Some(0)),
            (None, Some(i64::MAX), Some(4_102_444_799)),
        ] {
            assert_eq!(plan_internal_date(given, stated), want);
        }
    }

    proptest! {
        #[test]
        fn lines_end_by_crlf_however_the_octets_come(
            text in "[a\r\n]{0,40}", cuts in prop::collection::vec(0usize..40, 0..6)
        ) {
            let mut ends = LineEnds::default();
            let (mut out, mut at) = (Vec::new(), 0);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([text.len()]).collect();
            cuts.sort_unstable();
            for cut in cuts {
                ends.push(&text.as_bytes()[at..cut], &mut out).unwrap();
                at = cut;
            }
            let want = text.replace("\r\n", "\n").replace('\n', "\r\n");
            // A CR in front of a line end that was CRLF already.
            prop_assert_eq!(String::from_utf8(out).unwrap(), want.clone());
            prop_assert_eq!(ends.bare == 0, want == text);
        }
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(LineEnds::default().push(b"a\0b", &mut Vec::new()).is_err());
    }
}
