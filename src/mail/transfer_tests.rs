use super::*;
use proptest::prelude::*;

fn check(encoding: Encoding, cases: &[(&str, &str)]) {
    for (input, want) in cases {
        assert_eq!(decode(encoding, input.as_bytes()).escape_ascii().to_string(), *want, "{input:?}");
    }
}

#[test]
fn base64_is_decoded() {
    check(
        Encoding::Base64,
        &[
            ("", ""),
            ("YQ==", "a"),
            ("YWI=\r\n", "ab"),
            ("YWJj\nZGVm\r\n\r\n", "abcdef"),
            ("YW\r\nJ\njZ\r\nA==", "abcd"),
            ("Y W\tJ*j-_", "abc"),
            ("YWJj\r\nYQ==\r\n_______\r\nlist footer", "abca"),
            ("YQ==YWJj", "a"),
            ("YQ=\r\n=\r\nYWJj", "a"),
            ("YW=Jj", "abc"),
            ("Y=WJ==j", "ab"),
            ("=YWJj", "abc"),
            ("YWJjYQ", "abca"),
            ("YWJjYWI", "abcab"),
            ("YWJjY", "abc"),
            ("YR==", "a"),
            ("\u{e9}YWJj", "abc"),
        ],
    );
}

#[test]
fn quoted_printable_is_decoded() {
    check(
        Encoding::QuotedPrintable,
        &[
            ("a=3Db=c3=B6\r\nc\n", "a=b\\xc3\\xb6\\r\\nc\\n"),
            ("a=\r\nb=\nc= \t\r\nd", "abcd"),
            ("a \t\r\nb  \nc  ", "a\\r\\nb\\nc"),
            ("a=20\r\n", "a \\r\\n"),
            ("a==41=4=zz=4", "a=A=4=zz=4"),
            ("a=", "a"),
            ("a=  ", "a"),
            ("a==\nb", "a=b"),
            ("a=\rb\rc\r", "a=\\rb\\rc\\r"),
            ("a \r\r\nb", "a \\r\\r\\nb"),
            ("=\r\n=\r\n", ""),
            ("=0D=0A", "\\r\\n"),
        ],
    );
}

#[test]
fn uuencode_is_decoded() {
    check(
        Encoding::Uuencode,
        &[
            ("text\r\nbegin 644 a b.txt\r\n#86)C\r\n`\r\nend\r\nmore\n", "abc"),
            ("begin 644 x\n#86)C\n#9&5F\n \nend", "abcdef"),
            ("begin 644 x\n!80\nend\nbegin 644 y\n#86)C\nend\n", "a"),
            ("begin 644 x\n#86)Cxxxx\n", "abc"),
            ("begin 644 x\n#86)C", "abc"),
            ("begin 644 x\n#\n", "\\x00\\x00\\x00"),
            ("begin x\nno\n", "begin x\\nno\\n"),
            ("no begin\r\n", "no begin\\r\\n"),
            ("begin 644 x", ""),
        ],
    );
    check(Encoding::Identity, &[("=3D\r\n", "=3D\\r\\n")]);
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop::sample::select(vec![Encoding::Identity, Encoding::Base64, Encoding::QuotedPrintable, Encoding::Uuencode])
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        "([A-D=4 \r\n]|=[0-9A-Fa-f]{2}|=\r\n|\r\n| {1020,1030}){0,30}".prop_map(String::into_bytes),
        "(x\n)?begin 644 x\r\n([#!M`][ -`]{0,8}\r?\n){0,5}(end)?".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn it_does_not_matter_how_the_input_is_cut(encoding in encoding(), body in body(), sizes in prop::collection::vec(1usize..40, 1..20)) {
        let mut out = Vec::new();
        let mut decoder = Decoder::new(encoding);
        let mut rest = &body[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*size));
            decoder = decoder.clone();
            decoder.push(piece, &mut out);
            rest = after;
        }
        let is_void = decoder.is_void();
        decoder.finish(&mut out);
        prop_assert_eq!(if is_void { body.clone() } else { out }, decode(encoding, &body));
    }

    #[test]
    fn base64_of_any_shape_is_decoded(data: Vec<u8>, width in 1usize..90, eol in "\r\n|\n|\r| \r\n", skip in 0usize..5) {
        let text = base64::engine::general_purpose::STANDARD.encode(&data);
        let lines: Vec<_> = text.as_bytes().chunks(width).collect();
        let body = [eol.as_bytes().repeat(skip), lines.join(eol.as_bytes())].concat();
        prop_assert_eq!(decode(Encoding::Base64, &body), data);
    }

    #[test]
    fn quoted_printable_of_any_bytes_is_decoded(data: Vec<u8>, width in 1usize..20) {
        let body: String = data.iter().enumerate().map(|(n, b)| format!("={b:02X}{}", if n % width == 0 { "=\r\n" } else { "" })).collect();
        prop_assert_eq!(decode(Encoding::QuotedPrintable, body.as_bytes()), data);
    }
}
