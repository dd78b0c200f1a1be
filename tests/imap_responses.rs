//! What servers send, and what must be understood of it: `corpus/imap-responses.tsv` holds a name, the octets with
//! Rust's escapes, and the meaning in the short form of `show`; `!` and a reason stand in front where something is
//! for the log.

#![allow(clippy::unwrap_used)]

#[path = "common/corpus.rs"]
mod corpus;
#[path = "common/show.rs"]
mod show;

use imapfs::imap::frame::{Frame, Framer, Limits};
use imapfs::imap::response::Response;
use show::show;

/// What comes of these chunks, in the short form: each response, then what keeps the rest from being one.
fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut framer = Framer::new(Limits::default());
    let mut meanings = Vec::new();
    for chunk in chunks {
        framer.buffer().extend_from_slice(chunk);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => meanings.push(meaning(&frame)),
                Ok(None) => break,
                Err(error) => return format!("error: {error}"),
            }
        }
    }
    if framer.progress() > 0 {
        meanings.push("unfinished".into());
    }
    meanings.join(" | ")
}

fn meaning(frame: &Frame) -> String {
    match Response::parse(frame) {
        (response, None) => show(&response),
        (response, Some(odd)) => format!("!{odd}: {}", show(&response)),
    }
}

#[test]
fn every_response_of_the_corpus_means_what_it_should() {
    let mut wrong = Vec::new();
    for row in corpus::rows() {
        let got = read([&row.octets[..]]);
        if got != row.meaning {
            wrong.push(format!("{}\n  want {}\n  got  {got}", row.name, row.meaning));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_response_means_the_same_wherever_it_is_cut() {
    for row in corpus::rows() {
        let octets = &row.octets[..];
        for at in 0..octets.len() {
            assert_eq!(read([&octets[..at], &octets[at..]]), row.meaning, "{} cut at {at}", row.name);
        }
        assert_eq!(read(octets.chunks(1)), row.meaning, "{} octet by octet", row.name);
    }
}

#[test]
fn a_response_means_the_same_whatever_comes_behind_it() {
    for row in corpus::rows().iter().filter(|row| !row.meaning.starts_with("error") && row.meaning != "unfinished") {
        let octets = [&row.octets[..], b"* 7 EXISTS\r\n"].concat();
        assert_eq!(read([&octets[..]]), format!("{} | 7 exists", row.meaning), "{}", row.name);
    }
}
