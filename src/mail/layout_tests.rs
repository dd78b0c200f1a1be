use super::*;
use crate::mail::transfer;
use base64::engine::general_purpose;
use proptest::prelude::*;

fn lines(data: &[u8], width: usize, eol: &str, end: &str) -> Vec<u8> {
    let text = general_purpose::STANDARD.encode(data);
    let lines: Vec<_> = text.as_bytes().chunks(width).collect();
    [lines.join(eol.as_bytes()), end.as_bytes().to_vec()].concat()
}

fn ends(body: &[u8], size: usize) -> Option<Layout> {
    let size = size.min(body.len());
    Layout::regular_base64(&body[..size], &body[body.len() - size..], body.len() as u64)
}

fn index(encoding: Encoding, body: &[u8], piece: usize) -> (Layout, Vec<u8>) {
    let mut indexer = Indexer::new(encoding);
    indexer.spacing = 64;
    let mut out = Vec::new();
    body.chunks(piece).for_each(|piece| indexer.push(piece, &mut out));
    let layout = indexer.finish(&mut out);
    (layout, out)
}

fn read(layout: &Layout, body: &[u8], range: Range<u64>) -> Result<Vec<u8>, Irregular> {
    let window = layout.plan(range);
    let encoded = window.encoded();
    window.decode(&body[encoded.start as usize..encoded.end as usize])
}

/// The contract of this module.
fn agrees(layout: &Layout, body: &[u8], decoded: &[u8], range: Range<usize>) {
    assert_eq!((layout.octets(), layout.decoded_len()), (body.len() as u64, decoded.len() as u64));
    let clipped =
        range.start.min(decoded.len())..range.end.clamp(range.start, decoded.len().max(range.start)).min(decoded.len());
    let got = read(layout, body, range.start as u64..range.end as u64);
    assert_eq!(got.as_deref(), Ok(decoded.get(clipped).unwrap_or_default()));
}

#[test]
fn regular_base64_is_known_from_its_ends() {
    for (body, decoded_len) in [
        ("", Some(0)),
        ("\r\n\r\n", Some(0)),
        ("YQ==", Some(1)),
        ("YWI=\r\n", Some(2)),
        ("YWJjZGVm\r\nYWJjZGVm\r\nYWI=\r\n\r\n", Some(14)),
        ("YWJjZGVm\nYWJjZGVm", Some(12)),
        ("YWJjZ\r\nGVmYW\r\nI=\r\n", Some(8)),
        ("YWJjZ\r\nGVmYW\r\nIx\r\n", Some(9)),
        ("YWJ\r\njYW\r\nJj\r\n", Some(6)),
        ("YWJjZ\r\nGVmYQ\r\n==\r\n", Some(7)),
        ("YWJjZGVmYQ=\r\n=\r\n", Some(7)),
        ("YWJjZGVm\r\nYWJjZGVmYWJj\r\n", None),
        ("YWJj\r\nYWJj\r\nYWJjZGVm", None),
        ("YWJjZGVm\r\nYWJj\r\nYWJjZGVm\r\n", None),
        ("YWJjZGVm\r\nYWJjZGVm\nYWI=\r\n", None),
        ("YQ==\r\nYQ==\r\n", None),
        ("YWJjYQ\r\n", None),
        ("YWJjY===", None),
        ("YWJj====", None),
        ("====", None),
        ("YW=j", None),
        ("YW*j", None),
        ("\r\nYWJj", None),
        ("YWJj\r\n_____\r\nfooter", None),
    ] {
        let layout = ends(body.as_bytes(), 4096);
        assert_eq!(layout.as_ref().map(Layout::decoded_len), decoded_len, "{body:?}");
        if let Some(layout) = layout {
            let decoded = transfer::decode(Encoding::Base64, body.as_bytes());
            agrees(&layout, body.as_bytes(), &decoded, 0..usize::MAX);
        }
    }
}

#[test]
fn a_line_of_another_length_in_the_middle_is_seen_when_it_is_read() {
    let part = lines(&[7; 57 * 40], 76, "\r\n", "\r\n");
    // A line that is two quads shorter and one that is two quads longer: the ends show nothing of it.
    let mut body = part.clone();
    let (short, long) = (20 * 78, 30 * 78);
    body.splice(long + 76..long + 76, *b"BwcHBwcH");
    body.drain(short + 60..short + 68);
    let layout = ends(&body, 500).unwrap();
    assert_eq!(read(&layout, &body, 0..100), Ok(vec![7; 100]));
    assert_eq!(read(&layout, &body, 20 * 57..22 * 57), Err(Irregular));
    assert_eq!(read(&layout, &body, 0..u64::MAX), Err(Irregular));
    let (layout, decoded) = index(Encoding::Base64, &body, 100);
    assert_eq!(decoded, vec![7; 57 * 40]);
    agrees(&layout, &body, &decoded, 20 * 57..22 * 57);
}

#[test]
fn ends_that_show_too_little_are_not_believed() {
    let body = lines(&[7; 57 * 40 + 3], 76, "\r\n", "\r\n");
    assert!(ends(&body, 82).is_some());
    for size in [0, 1, 2, 5, 7, 77] {
        assert!(ends(&body, size).is_none(), "{size}");
    }
    assert!(Layout::regular_base64(&body, &body, 10).is_none());
    assert!(Layout::regular_base64(&body[..500], &body[body.len() - 500..], u64::MAX).is_none());
}

#[test]
fn a_window_takes_only_its_own_octets() {
    let body = lines(&[7; 1000], 76, "\r\n", "");
    let layout = ends(&body, 4096).unwrap();
    let window = layout.plan(57..60);
    assert_eq!((window.encoded(), window.decoded()), (78..82, 57..60));
    assert_eq!(window.decode(b"BwcHB"), Err(Irregular));
    assert_eq!(window.decode(b"BwcH"), Ok(vec![7; 3]));
    assert_eq!(window.decode(b"B*cH"), Err(Irregular));
    assert_eq!(window.decode(b"Bw=="), Err(Irregular));
}

#[test]
fn checkpoints_are_bounded() {
    let mut indexer = Indexer::new(Encoding::QuotedPrintable);
    indexer.spacing = 4;
    let body = b"a=3Db=\r\n".repeat(10_000);
    let mut out = Vec::new();
    indexer.push(&body, &mut out);
    assert!(indexer.checkpoints.len() <= MAX_CHECKPOINTS && indexer.spacing == 128);
    let layout = indexer.finish(&mut out);
    agrees(&layout, &body, &out, 12_345..12_400);
    assert!(layout.plan(12_345..12_346).encoded().count() <= 256);
}

fn offsets() -> impl Strategy<Value = Range<usize>> {
    (0usize..1200, 0usize..600).prop_map(|(start, len)| start..start + len)
}

proptest! {
    #[test]
    fn regular_base64_is_read_anywhere(
        data in prop::collection::vec(any::<u8>(), 0..1000), width in 1usize..100, eol in "\r?\n", end in "(\r\n){0,2} ?", range in offsets(), size in 0usize..2000,
    ) {
        let body = lines(&data, width, &eol, &end);
        if let Some(layout) = ends(&body, size) {
            agrees(&layout, &body, &data, range.clone());
            agrees(&layout, &body, &data, 0..data.len());
        } else {
            prop_assert!(size < body.len());
        }
    }

    #[test]
    fn an_index_reads_any_body_anywhere(
        encoding in prop::sample::select(vec![Encoding::Base64, Encoding::QuotedPrintable, Encoding::Uuencode, Encoding::Identity]),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..1000),
            "([A-Za-z0-9+/]{4}|=|\r\n| |=3[0-9]|=\r\n){0,300}".prop_map(String::into_bytes),
            "begin 644 x\n(#[!-`]{4}\n|M[!-`]{60}\r\n){0,30}end\n".prop_map(String::into_bytes),
        ],
        piece in 1usize..200,
        range in offsets(),
    ) {
        let (layout, out) = index(encoding, &body, piece);
        let decoded = transfer::decode(encoding, &body);
        if !body.is_empty() && matches!(layout.kind, Kind::Indexed(_)) {
            prop_assert_eq!(&out, &decoded);
        }
        agrees(&layout, &body, &decoded, range);
    }

    #[test]
    fn wrong_ends_give_no_panic_and_no_wrong_bytes(
        body in "([A-Za-z]{4}|=|\r\n|\n| ){0,60}|([A-Z]{4}\r\n){0,20}[A-Z]{4,5}", cut in 0usize..40, octets in 0u64..300, range in offsets(),
    ) {
        let body = body.as_bytes();
        let cut = cut.min(body.len());
        if let Some(layout) = Layout::regular_base64(&body[..cut], &body[cut..], octets) {
            layout.plan(range.start as u64..range.end as u64);
        }
        if let Some(layout) = ends(body, cut) {
            let decoded = transfer::decode(Encoding::Base64, body);
            let range = range.start.min(layout.decoded_len() as usize)..range.end.min(layout.decoded_len() as usize);
            if let Ok(got) = read(&layout, body, range.start as u64..range.end as u64) {
                // Right as far as all before it is regular: read that too.
                if read(&layout, body, 0..range.end as u64).is_ok() {
                    prop_assert_eq!(Some(&got[..]), decoded.get(range));
                }
            }
        }
    }
}
