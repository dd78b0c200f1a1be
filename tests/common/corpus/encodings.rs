//! Odd transfer encodings and charsets.

use encoding_rs::Encoding;

use super::List;
use super::build::*;

pub fn add(list: &mut List) {
    base64_lengths(list);
    base64_broken(list);
    quoted(list);
    others(list);
    charsets(list);
}

fn binary(fields: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    part("application/octet-stream; name=\"data.bin\"", fields, body)
}

/// Sizes of a base64 part have to be computed right whatever its line length and its last line.
fn base64_lengths(list: &mut List) {
    for width in [1, 4, 19, 57, 60, 64, 72, 75, 76, 77, 100, 998, 4000] {
        let name = format!("base64-width-{width}");
        list.add(&name, with_part(&name, binary(&[CTE64], base64_lines(&noise(3000 + width, 11), width))));
    }
    for size in [0, 1, 2, 3, 56, 57, 58, 113, 114, 115] {
        let name = format!("base64-size-{size}");
        list.add(&name, with_part(&name, binary(&[CTE64], base64_lines(&noise(size, 12), 76))));
    }
    let text = base64(noise(5000, 13));
    list.add("base64-one-line", with_part("base64-one-line", binary(&[CTE64], &text)));
    let body = String::from_utf8(base64_lines(&noise(500, 14), 76)).unwrap();
    list.add("base64-no-last-line-end", with_part("base64-no-last-line-end", binary(&[CTE64], body.trim_end())));
    list.add(
        "base64-empty-lines-after",
        with_part("base64-empty-lines-after", binary(&[CTE64], body.clone() + "\r\n\r\n\r\n")),
    );
    list.add(
        "base64-empty-lines-before",
        with_part("base64-empty-lines-before", binary(&[CTE64], "\r\n\r\n".to_owned() + &body)),
    );
    let (mut odd, mut at) = (String::new(), 0);
    for width in [1, 3, 7, 77, 200, 998, 2, 61, 5] {
        odd += &text[at..at + width];
        odd += "\r\n";
        at += width;
    }
    odd += &text[at..];
    list.add("base64-uneven-lines", with_part("base64-uneven-lines", binary(&[CTE64], odd)));
    // The ends look regular: only the middle tells.
    let lines = |data: &[u8], width| String::from_utf8(base64_lines(data, width)).unwrap();
    let bent = lines(&noise(570, 15), 76) + &lines(&noise(450, 16), 60) + &lines(&noise(600, 17), 76);
    list.add("base64-bent-in-the-middle", with_part("base64-bent-in-the-middle", binary(&[CTE64], bent)));
}

fn base64_broken(list: &mut List) {
    for (name, body) in [
        ("junk", "AAEC\r\n \tAwQF!\r\n\r\nBgcICQ==\r\nZZZZ trailing\r\n"),
        ("padding-inside", "AAECAw==\r\nBAUGBw==\r\nCAkKCw==\r\n"),
        ("padding-missing", "AAECAwQ\r\n"),
        ("padding-too-much", "AAECAw====\r\n"),
        ("one-character", "A\r\n"),
        ("five-characters", "AAECA\r\n"),
        ("spaces", "AA EC AwQF\r\n BgcI \r\n"),
        ("url-alphabet", "-_-_-_-_\r\n"),
        ("only-padding", "====\r\n"),
        ("not-at-all", "This was never encoded.\r\n"),
        ("text-after", "SGVsbG8=\r\n\r\n-- \r\nThis mail was scanned by a list server\r\n"),
    ] {
        let name = format!("base64-{name}");
        list.add(&name, with_part(&name, binary(&[CTE64], body)));
    }
    let text = part(
        "text/plain; charset=utf-8",
        &[CTE64],
        base64_lines("Zeile eins\r\nZeile zwei, ohne Ende: ü".as_bytes(), 76),
    );
    list.add("base64-text", multipart("base64-text", "mixed", &[text]));
    let lf = part("text/plain; charset=utf-8", &[CTE64], base64_lines(b"LF\nlines\nin\r\nbase64\rtext\n", 76));
    list.add("base64-text-line-ends", multipart("base64-text-line-ends", "mixed", &[lf]));
    list.add(
        "base64-body",
        message(
            "base64-body",
            "body in base64",
            &["Content-Type: text/plain; charset=utf-8", CTE64],
            base64_lines("Grüße\r\n".repeat(40).as_bytes(), 76),
        ),
    );
    let multi = "Content-Type: multipart/mixed; boundary=\"b\"";
    list.add(
        "base64-multipart",
        message(
            "base64-multipart",
            "a multipart must not be encoded",
            &[multi, CTE64],
            multipart_body("b", &[plain(), html()]),
        ),
    );
}

fn quoted(list: &mut List) {
    for (name, body) in [
        ("soft-breaks", "Caf=C3=A9 cr=C3=A8me, a soft=\r\n line break, trailing space=20\r\n"),
        ("bad-escapes", "bad =ZZ and =4 and =\r\n=3D end=\r\n"),
        ("lower-case", "caf=c3=a9 =e2=82=ac\r\n"),
        ("trailing-space", "space at the end   \r\ntab\t\r\nsoft with space=  \r\nnext\r\n"),
        ("soft-at-end", "the end is soft=\r\n"),
        ("equals-at-end", "the end is ="),
        ("only-soft", "=\r\n=\r\n=\r\n"),
        ("raw-8bit", "raw Grüße and =C3=BC\r\n"),
        ("encoded-line-ends", "one=0D=0Atwo=0Athree=0Dfour\r\n"),
        ("html-equals", "<a href=\"x?a=b&c==3D\">=</a>\r\n"),
        ("empty", ""),
    ] {
        let name = format!("qp-{name}");
        list.add(&name, message(&name, &name, &["Content-Type: text/plain; charset=utf-8", CTEQP], body));
    }
    list.add(
        "qp-long-line",
        message("qp-long-line", "long", &["Content-Type: text/plain; charset=utf-8", CTEQP], "=C3=BC".repeat(3000)),
    );
    list.add(
        "qp-attachment",
        with_part(
            "qp-attachment",
            binary(&[CTEQP, "Content-Disposition: attachment"], quoted_printable(&noise(1500, 20))),
        ),
    );
}

fn others(list: &mut List) {
    let data = noise(1000, 21);
    for (name, encoding) in [("uuencode", "uuencode"), ("x-uuencode", "x-uuencode"), ("x-uue", "x-uue")] {
        let field = format!("Content-Transfer-Encoding: {encoding}");
        list.add(name, with_part(name, binary(&[&field], uuencode("data.bin", &data))));
    }
    list.add(
        "uuencode-inline",
        message(
            "uuencode-inline",
            "uuencode in the text",
            &[],
            [b"See below\r\n\r\n".to_vec(), uuencode("x.bin", &data)].concat(),
        ),
    );
    list.add(
        "yenc",
        with_part(
            "yenc",
            binary(&[CTE8], "=ybegin line=128 size=3 name=x.bin\r\n\u{8b}\u{8c}\u{8d}\r\n=yend size=3\r\n"),
        ),
    );
    for (name, field) in [
        ("upper-case", "Content-Transfer-Encoding: BASE64"),
        ("spaces", "Content-Transfer-Encoding:   base64  "),
        ("comment", "Content-Transfer-Encoding: base64 (really)"),
        ("quoted", "Content-Transfer-Encoding: \"base64\""),
        ("parameter", "Content-Transfer-Encoding: base64; x=y"),
        ("folded", "Content-Transfer-Encoding:\r\n base64"),
    ] {
        let name = format!("encoding-{name}");
        list.add(&name, with_part(&name, binary(&[field], base64_lines(&data, 76))));
    }
    for (name, field) in [("unknown", "x-rot13"), ("empty", ""), ("binary", "binary"), ("7bit-lie", "7bit")] {
        let name = format!("encoding-{name}");
        let field = format!("Content-Transfer-Encoding: {field}");
        list.add(&name, message(&name, &name, &["Content-Type: text/plain; charset=utf-8", &field], "Grüße\r\n"));
    }
    let twice = binary(&[CTE64, CTEQP], base64_lines(&data, 76));
    list.add("encoding-twice", with_part("encoding-twice", twice));
}

const SENTENCES: &[(&str, &str)] = &[
    ("Grüße aus Köln, façade, señor\r\n", "windows-1252 iso-8859-1 iso-8859-15 macintosh utf-8 latin1 cp1252"),
    ("Příliš žluťoučký kůň, zażółć gęślą\r\n", "windows-1250 iso-8859-2"),
    ("Съешь же ещё этих мягких булок\r\n", "windows-1251 koi8-r iso-8859-5 ibm866 x-mac-cyrillic"),
    ("Їжак, ґанок, є\r\n", "koi8-u windows-1251"),
    ("Ξεσκεπάζω την ψυχοφθόρα\r\n", "windows-1253 iso-8859-7"),
    ("Pijamalı hasta yağız şoföre\r\n", "windows-1254 iso-8859-9"),
    ("דג סקרן שט בים\r\n", "windows-1255 iso-8859-8 iso-8859-8-i"),
    ("نص حكيم له سر\r\n", "windows-1256 iso-8859-6"),
    ("Įlinkdama fechtuotojo\r\n", "windows-1257 iso-8859-4 iso-8859-13"),
    ("ภาษาไทย\r\n", "windows-874 tis-620"),
    ("これは日本語の本文です。\r\n", "iso-2022-jp shift_jis euc-jp"),
    ("这是中文的正文。\r\n", "gb2312 gbk gb18030"),
    ("這是中文的正文。\r\n", "big5"),
    ("한국어 본문입니다.\r\n", "euc-kr ks_c_5601-1987"),
];

fn charsets(list: &mut List) {
    for (index, (sentence, names)) in SENTENCES.iter().enumerate() {
        for charset in names.split(' ') {
            let (bytes, _, lost) = Encoding::for_label(charset.as_bytes()).unwrap().encode(sentence);
            assert!(!lost, "{charset} cannot say {sentence}");
            let name = if list.messages.iter().any(|m| m.name == format!("charset-{charset}")) {
                format!("charset-{charset}-{index}")
            } else {
                format!("charset-{charset}")
            };
            let word = format!("=?{charset}?B?{}?=", base64(bytes.trim_ascii_end()));
            let field = format!("Content-Type: text/plain; charset=\"{charset}\"");
            let (encoding, body) = match index % 3 {
                0 => (CTE8, bytes.to_vec()),
                1 => (CTEQP, quoted_printable(&bytes)),
                _ => (CTE64, base64_lines(&bytes, 76)),
            };
            let encoding = if charset == "iso-2022-jp" { "Content-Transfer-Encoding: 7bit" } else { encoding };
            let body = if charset == "iso-2022-jp" { bytes.to_vec() } else { body };
            list.add(&name, message(&name, &word, &[&field, encoding], body));
        }
    }
    let wide = |big: bool, text: &str| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let text = "Grüße 😀\r\n";
    for (name, label, bytes) in [
        ("utf-16le", "utf-16le", wide(false, text)),
        ("utf-16be", "utf-16be", wide(true, text)),
        ("utf-16-bom", "utf-16", [b"\xff\xfe".to_vec(), wide(false, text)].concat()),
        ("utf-16-no-bom", "utf-16", wide(true, text)),
        ("utf-8-bom", "utf-8", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
        ("utf-8-invalid", "utf-8", b"bad \xff\xfe \xc3( \xe2\x82 end\r\n".to_vec()),
        ("utf-7", "utf-7", b"Gr+APwA3w-e\r\n".to_vec()),
        ("unknown", "x-no-such", b"\xff\xfe bytes\r\n".to_vec()),
        ("unknown-ascii", "unknown-8bit", b"plain ascii\r\n".to_vec()),
        ("us-ascii-lie", "us-ascii", "Grüße\r\n".as_bytes().to_vec()),
        ("iso-2022-jp-broken", "iso-2022-jp", b"\x1b$B$3$l\x1b$(Z\x1b(B end\r\n".to_vec()),
        ("c1-controls", "iso-8859-1", b"quotes \x93like this\x94 and \x80\r\n".to_vec()),
        ("quoted-odd", "\\\"utf-8\\\"", text.as_bytes().to_vec()),
        ("empty", "", text.as_bytes().to_vec()),
    ] {
        let name = format!("charset-{name}");
        let field = format!("Content-Type: text/plain; charset=\"{label}\"");
        list.add(&name, message(&name, &name, &[&field, CTE64], base64_lines(&bytes, 76)));
    }
    let html = "<html><head><meta charset=\"iso-8859-1\"></head><body>Gr\u{fc}\u{df}e</body></html>\r\n";
    let field = "Content-Type: text/html; charset=utf-8";
    list.add("charset-html-meta-lie", message("charset-html-meta-lie", "meta says otherwise", &[field, CTE8], html));
}
