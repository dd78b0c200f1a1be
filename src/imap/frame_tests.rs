//! The framer on its own: limits, cuts, and what must not happen.

use proptest::prelude::*;

use super::*;

/// Frames of the chunks, and the error that ended them.
fn cut<'a>(framer: &mut Framer, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let mut frames = Vec::new();
    for chunk in chunks {
        framer.buffer().extend_from_slice(chunk);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn frames(octets: &[u8]) -> Vec<Frame> {
    let (frames, error) = cut(&mut Framer::new(Limits::default()), [octets]);
    assert_eq!(error, None);
    frames
}

fn data(octets: &'static [u8]) -> Literal {
    Literal::Data(Bytes::from_static(octets))
}

#[test]
fn a_response_is_its_lines_and_literals_without_line_ends_and_announcements() {
    type Case<'a> = (&'a [u8], &'a [u8], Vec<(Literal, &'a [u8])>);
    let cases: [Case<'_>; 8] = [
        (b"* OK x\r\n", b"* OK x", vec![]),
        (b"* 1 EXPUNGE\n", b"* 1 EXPUNGE", vec![]),
        (b"a {3}\r\nb\r\n {0}\r\n)\r\n", b"a ", vec![(data(b"b\r\n"), b" "), (data(b""), b")")]),
        (b"a ~{1+}\r\nb\n", b"a ", vec![(data(b"b"), b"")]),
        (b"a {001}\nb\n", b"a ", vec![(data(b"b"), b"")]),
        (b"* OK no {3}\r\n", b"* OK no {3}", vec![]),
        (b"* X {3} \r\n", b"* X {3} ", vec![]),
        (b"* X 3}\r\n", b"* X 3}", vec![]),
    ];
    for (octets, line, rest) in cases {
        let rest = rest.into_iter().map(|(l, text)| (l, Bytes::copy_from_slice(text))).collect();
        let want = Frame { line: Bytes::copy_from_slice(line), rest, cut: false };
        assert_eq!(frames(octets), [want], "{}", octets.escape_ascii());
    }
}

#[test]
fn an_announcement_that_is_no_number_of_64_bits_ends_the_connection() {
    let longest = format!("* X {{{}}}\r\n", "9".repeat(100_000));
    for octets in
        ["* X {}\r\n", "* X {-1}\r\n", "* X {+1}\r\n", "* X {1+1}\r\n", "* X {18446744073709551616}\r\n", &longest]
    {
        let (frames, error) = cut(&mut Framer::new(Limits::default()), [octets.as_bytes()]);
        assert_eq!((frames, error), (vec![], Some(FrameError::Literal)));
    }
}

#[test]
fn a_line_without_end_ends_the_connection_and_is_not_kept() {
    let mut framer = Framer::new(Limits::default());
    let chunk = vec![b'x'; 1 << 20];
    let (_, error) = cut(&mut framer, (0..100).map(|_| &chunk[..]));
    assert_eq!(error, Some(FrameError::LineTooLong));
    assert!(framer.buffer.capacity() <= 4 * LINE);
}

#[test]
fn a_response_that_is_too_long_is_cut_and_the_next_one_is_whole() {
    let limits = Limits { line: 1 << 20, ..Limits::default() };
    let parts = "(x)".repeat(1 << 20);
    let literals = "{3}\r\nabc".repeat(1 << 19);
    let uids = " 123456".repeat(500_000);
    for (octets, cut_short, literals) in [
        (format!("* 1 FETCH ({parts} {{3}}\r\na\r\n))\r\n"), true, 0),
        (format!("* 1 FETCH ({literals})\r\n"), true, 0),
        (format!("* 1 FETCH ({})\r\n", &literals[..80_000]), false, 10_000),
        (format!("* search{uids}\r\n"), false, 0),
        (format!("* SEARCH{uids}{uids}\r\n"), true, 0),
        (format!("* SORT{uids}\r\n"), true, 0),
    ] {
        let octets = [octets.as_bytes(), b"* 7 EXISTS\r\n"].concat();
        for size in [octets.len(), 50_000, 4097] {
            let (frames, error) = cut(&mut Framer::new(limits), octets.chunks(size));
            assert_eq!((frames.len(), error), (2, None), "{:?}", frames[0].line.get(..11));
            assert_eq!((frames[0].cut, frames[0].rest.len()), (cut_short, literals));
            assert!(octets.starts_with(&frames[0].line));
            assert!(!cut_short || frames[0].line.len() <= HEAD);
            assert_eq!(&frames[1].line[..], b"* 7 EXISTS");
        }
    }
}

#[test]
fn a_literal_over_the_limit_is_counted_and_thrown_away_as_it_streams_in() {
    let mut framer = Framer::new(Limits::default());
    let octets = 64u64 << 20;
    let chunk = vec![b'x'; 1 << 20];
    assert_eq!(cut(&mut framer, [format!("* 1 FETCH (BODY[] {{{octets}}}\r\n").as_bytes()]), (vec![], None));
    for _ in 0..64 {
        assert_eq!(cut(&mut framer, [&chunk[..]]), (vec![], None));
        assert!(framer.buffer.capacity() <= 4 << 20);
    }
    assert!(framer.progress() > octets);
    let (frames, _) = cut(&mut framer, [&b" UID 7)\r\n"[..]]);
    assert_eq!(frames[0].rest, [(Literal::Oversize(octets), Bytes::from_static(b" UID 7)"))]);
    assert_eq!(frames[0].oversize(), Some(octets));
    assert_eq!(framer.progress(), 0);
}

#[test]
fn many_literals_together_stay_under_the_limit_of_a_response() {
    let limits = Limits { literal: 10, total: 25, ..Limits::default() };
    let octets = b"a {10}\r\n0123456789 {10}\r\n0123456789 {10}\r\n0123456789 {5}\r\n01234\r\nb {10}\r\n0123456789\r\n";
    let (frames, _) = cut(&mut Framer::new(limits), [&octets[..]]);
    let kept = |frame: &Frame| frame.rest.iter().map(|(l, _)| matches!(l, Literal::Data(_))).collect::<Vec<_>>();
    assert_eq!(frames.iter().map(kept).collect::<Vec<_>>(), [vec![true, true, false, true], vec![true]]);
    assert_eq!(frames[0].octets(), 42);
    assert_eq!(frames[0].printable(80), "a {10} {10} {10 thrown away} {5}");
}

#[test]
fn room_grows_with_what_has_come_and_not_with_what_is_announced() {
    let mut framer = Framer::new(Limits::for_answer(1 << 40));
    cut(&mut framer, [&b"* 1 FETCH (BODY[] {1000000000000}\r\n"[..]]);
    assert!(framer.buffer().capacity() <= 256 << 10);
    let chunk = vec![b'x'; 1 << 20];
    cut(&mut framer, (0..8).map(|_| &chunk[..]));
    assert!(framer.buffer().capacity() <= 32 << 20);
}

#[test]
fn an_asked_for_literal_of_many_reads_comes_whole() {
    let mut framer = Framer::new(Limits::for_answer(8 << 20));
    let body: Vec<u8> = (0..8 << 20).map(|n: u32| (n % 251) as u8).collect();
    let octets = [format!("* 1 FETCH (BODY[] {{{}}}\r\n", body.len()).as_bytes(), &body, b")\r\n"].concat();
    let (frames, _) = cut(&mut framer, octets.chunks(100_000));
    assert_eq!(frames[0].rest[0].0, Literal::Data(body.into()));
    // What the long line or literal needed is given back.
    assert!(framer.buffer().capacity() <= KEEP);
}

#[test]
fn what_follows_a_response_can_be_taken_out() {
    let mut framer = Framer::new(Limits::default());
    framer.buffer().extend_from_slice(b"a OK compressed\r\n\x01\x02\nrest");
    assert_eq!(&framer.next_frame().unwrap().unwrap().line[..], b"a OK compressed");
    assert_eq!(&framer.take_rest()[..], b"\x01\x02\nrest");
    assert_eq!((framer.progress(), framer.next_frame()), (0, Ok(None)));
}

/// Bytes that look like IMAP often enough to reach every state.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        prop::sample::select(vec!["\r\n", "\n", "\r", "* ", "OK ", "[", "]", "(", ")", "\"", "+ ", " x"])
            .prop_map(|s| s.into()),
        (0u32..12, prop::sample::select(vec!["{", "~{"]), prop::sample::select(vec!["}\r\n", "+}\r\n", "}\n", "}"]))
            .prop_map(|(n, open, close)| format!("{open}{n}{close}").into_bytes()),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn frames_are_the_same_however_the_bytes_come_in(octets in wire(), sizes in prop::collection::vec(1usize..20, 1..30)) {
        let limits = Limits { line: 200, literal: 8, total: 20 };
        let mut whole = Framer::new(limits);
        let want = cut(&mut whole, [&octets[..]]);
        let mut rest = &octets[..];
        let mut sizes = sizes.iter().cycle();
        let chunks = std::iter::from_fn(|| {
            let (chunk, more) = rest.split_at((*sizes.next()?).min(rest.len()));
            rest = more;
            (!chunk.is_empty()).then_some(chunk)
        });
        let mut pieces = Framer::new(limits);
        let (frames, error) = cut(&mut pieces, chunks);
        prop_assert_eq!(&frames, &want.0);
        prop_assert_eq!(error, want.1);
        prop_assert!(frames.iter().all(|f| f.rest.iter().all(|(l, _)| !matches!(l, Literal::Data(d) if d.len() > 8))));
    }
}

proptest! {
    #[test]
    fn a_literal_is_its_parts_and_the_rest(octets in 0..4 * PART, cuts in prop::collection::vec(1..PART * 2, 0..12), takes: bool) {
        let literal: Vec<u8> = (0..octets).map(|n| (n % 251) as u8).collect();
        let stream = [format!("* 1 FETCH (BODY[] {{{octets}}}\r\n").as_bytes(), &literal, b")\r\n* OK next\r\n"].concat();
        let mut framer = Framer::new(Limits::for_answer(octets as u64));
        let (mut left, mut parts, mut frames) = (&stream[..], Vec::new(), Vec::new());
        for cut in cuts.into_iter().chain([stream.len()]) {
            let (now, later) = left.split_at(cut.min(left.len()));
            left = later;
            framer.buffer().extend_from_slice(now);
            while let Some(frame) = framer.next_frame().unwrap() {
                frames.push(frame);
            }
            while let Some(head) = framer.head().filter(|_| takes) {
                prop_assert_eq!(head.printable(100), "* 1 FETCH (BODY[] {0})");
                parts.push(framer.take_part());
            }
        }
        prop_assert!(parts.iter().all(|part| part.len() == PART));
        let Literal::Data(rest) = &frames[0].rest[0].0 else { panic!() };
        prop_assert_eq!([&parts.concat()[..], rest].concat(), literal);
        prop_assert!(frames.len() == 2 && frames[0].rest[0].1 == b")"[..] && frames[1].line == b"* OK next"[..]);
        prop_assert_eq!(framer.progress(), 0);
    }
}
