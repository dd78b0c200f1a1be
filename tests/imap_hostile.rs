//! A hostile or broken server costs a response at the most: no panic, no deep stack, no memory from a number.

#![allow(clippy::unwrap_used)]

#[path = "common/show.rs"]
mod show;

use imapfs::imap::frame::{Frame, Framer, Limits};
use imapfs::imap::response::{Data, FetchRow, Response};
use imapfs::mail::part::{Body, Part};
use proptest::prelude::*;
use show::show;

fn frames(octets: &[u8]) -> Vec<Frame> {
    let mut framer = Framer::new(Limits::default());
    framer.buffer().extend_from_slice(octets);
    std::iter::from_fn(|| framer.next_frame().unwrap()).collect()
}

fn fetch(octets: &[u8]) -> FetchRow {
    let frames = frames(octets);
    assert_eq!(frames.len(), 1);
    match Response::parse(&frames[0]).0 {
        Response::Untagged(Data::Fetch(row)) => *row,
        other => panic!("{other:?}"),
    }
}

/// `open` and `close` n times around `inside`.
fn nest(n: usize, open: &str, inside: &str, close: &str) -> String {
    [&open.repeat(n), inside, &close.repeat(n)].concat()
}

#[test]
fn deep_nesting_costs_the_item_and_not_the_row() {
    for depth in [63, 64, 65, 400, 1_000_000] {
        for (item, understood) in [
            (format!("BODYSTRUCTURE {}", nest(depth, "(", "", ")")), false),
            (format!("BODYSTRUCTURE {}", nest(depth, "(", "\"a\"", " \"b\")")), false),
            (format!("X-FOO {}", nest(depth, "(", "x", ")")), true),
            (format!("FLAGS {}", nest(depth, "(", "\\Seen", ")")), true),
            (format!("ENVELOPE {}", nest(depth, "(", "", ")")), true),
            (format!("EMAILID {}", nest(depth, "(", "", ")")), true),
            (format!("BODY[1] {}", nest(depth, "(", "", ")")), true),
        ] {
            let octets = format!("* 1 FETCH ({item} UID 7)\r\n");
            if octets.len() < 4 << 20 {
                let row = fetch(octets.as_bytes());
                assert_eq!((row.uid.map(|uid| uid.get()), row.odd_structure), (Some(7), !understood));
            }
        }
    }
    for keyword in ["XFOO", "THREAD", "LIST", "ACL x", "SEARCH", "ESEARCH", "NAMESPACE", "ID", "STATUS x", "QUOTA x"] {
        for octets in [
            format!("* {keyword} {}\r\n", nest(1_000_000, "(", "", ")")),
            format!("* {keyword} {}\r\n", "(".repeat(1_000_000)),
        ] {
            Response::parse(&frames(octets.as_bytes())[0]);
        }
    }
}

#[test]
fn parts_are_understood_down_to_64_levels_and_no_further() {
    let leaf = r#"("TEXT" "PLAIN" NIL NIL NIL "7BIT" 1 1)"#;
    let structure =
        |depth| fetch(format!("* 1 FETCH (BODYSTRUCTURE {})\r\n", nest(depth, "(", leaf, " \"mixed\")")).as_bytes());
    let depth = |part: Option<Part>| {
        let mut depth = 0;
        let mut part = &part.unwrap();
        while let Body::Multipart(parts) = &part.body {
            (depth, part) = (depth + 1, &parts[0]);
        }
        assert_eq!(part.path.len(), depth.max(1));
        depth
    };
    for n in [0, 1, 2, 64] {
        assert_eq!(depth(structure(n).structure), n);
    }
    for n in [65, 66, 1000] {
        assert_eq!((structure(n).structure, structure(n).odd_structure), (None, true));
    }
}

#[test]
fn a_message_of_very_many_parts_makes_no_sense() {
    let leaf = r#"("TEXT" "PLAIN" NIL NIL NIL "7BIT" 1 1)"#;
    for (parts, understood) in [(9_999, true), (10_001, false), (50_000, false)] {
        let row = fetch(format!("* 1 FETCH (BODYSTRUCTURE ({} \"mixed\") UID 7)\r\n", leaf.repeat(parts)).as_bytes());
        assert_eq!((row.structure.is_some(), row.odd_structure, row.uid.is_some()), (understood, !understood, true));
    }
}

#[test]
fn a_structure_of_a_million_parts_costs_its_row_and_a_list_that_is_too_long_is_no_shorter_list() {
    let parts = "(\"a\" \"b\" NIL NIL NIL \"7bit\" 1)".repeat(1_000_000);
    let uids = " 1234567".repeat(3_000_000);
    for (octets, want) in [
        (format!("* 1 FETCH (UID 7 BODYSTRUCTURE ({parts} \"mixed\") FLAGS ())\r\n* 7 EXISTS\r\n"), r#"other "FETCH""#),
        (format!("* SEARCH{uids}\r\n* 7 EXISTS\r\n"), r#"other "SEARCH""#),
        (format!("* ESEARCH (TAG \"a\") ALL 1{}\r\n* 7 EXISTS\r\n", uids.replace(' ', ",")), r#"other "ESEARCH""#),
        (format!("a1 OK {parts}\r\n* 7 EXISTS\r\n"), "tagged a1 Ok"),
    ] {
        let frames = frames(octets.as_bytes());
        let (response, odd) = Response::parse(&frames[0]);
        assert!(show(&response).starts_with(want), "{}", show(&response));
        assert_eq!(odd.is_some(), want.starts_with("other"));
        assert_eq!(show(&Response::parse(&frames[1]).0), "7 exists");
    }
}

/// Text made of what responses are made of, so that every branch is reached.
fn response() -> impl Strategy<Value = Vec<u8>> {
    let words = vec![
        "* ",
        "1 ",
        "FETCH ",
        "(",
        ")",
        "(",
        ")",
        " ",
        "UID ",
        "7 ",
        "FLAGS ",
        "\\Seen",
        "BODY",
        "[",
        "]",
        "1.2",
        "<0>",
        "HEADER.FIELDS ",
        "BODYSTRUCTURE ",
        "ENVELOPE ",
        "INTERNALDATE ",
        "\" 5-Mar-2024 00:00:00 +0000\"",
        "MODSEQ ",
        "NIL ",
        "\"TEXT\" ",
        "\"PLAIN\" ",
        "\"MESSAGE\" \"RFC822\" ",
        "\"",
        "\\",
        "\"7BIT\" 3 ",
        "{0}\r\n",
        "{3}\r\n",
        "~{1}\r\n",
        "LIST ",
        "STATUS ",
        "SEARCH ",
        "ESEARCH ",
        "ALL ",
        "PARTIAL ",
        "1:3,5 ",
        "VANISHED ",
        "NAMESPACE ",
        "ID ",
        "OK ",
        "[COPYUID 1 ",
        "NO ",
        "A1 ",
        "QUOTA ",
        "ACL ",
        "METADATA ",
        "CAPABILITY ",
        "18446744073709551616 ",
        "-1 ",
        "EMAILID ",
        "RFC822 ",
        "EXISTS",
        "\u{e9}",
    ];
    let piece = prop_oneof![
        9 => prop::sample::select(words).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    let start = prop::sample::select(vec![
        "",
        "* ",
        "* 1 FETCH (",
        "* 1 FETCH (BODYSTRUCTURE (",
        "* OK [",
        "* LIST (",
        "* 1 FETCH (ENVELOPE (",
    ]);
    (start, prop::collection::vec(piece, 0..40))
        .prop_map(|(start, pieces)| [start.as_bytes(), &pieces.concat(), b"\r\n"].concat())
}

fn parts(part: &Part) -> usize {
    1 + match &part.body {
        Body::Leaf => 0,
        Body::Multipart(list) => list.iter().map(parts).sum(),
        Body::Message(inner) => parts(inner),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_response_makes_the_parser_panic(octets in response()) {
        for frame in frames_until_error(&octets) {
            let (response, _) = Response::parse(&frame);
            // The same again, and everything in it can be shown.
            prop_assert_eq!(&Response::parse(&frame).0, &response);
            show(&response);
            if let Response::Untagged(Data::Fetch(row)) = response {
                prop_assert!(row.structure.is_none() || !row.odd_structure);
                prop_assert!(row.structure.as_ref().map_or(0, parts) <= octets.len());
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        for frame in frames_until_error(&octets) {
            show(&Response::parse(&frame).0);
        }
    }
}

fn frames_until_error(octets: &[u8]) -> Vec<Frame> {
    let mut framer = Framer::new(Limits::default());
    framer.buffer().extend_from_slice(octets);
    std::iter::from_fn(|| framer.next_frame().ok().flatten()).collect()
}
