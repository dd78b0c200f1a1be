use super::*;
use proptest::prelude::*;

#[test]
fn fields_are_decoded() {
    for (raw, want) in [
        (&b" plain text "[..], "plain text"),
        (b"a\r\n b\n\tc\r\n", "a b\tc"),
        (b"a\r\nb", "a b"),
        (b"a\x1b[2J\0\x7fb\xc2\x9b", "a [2J  b "),
        (b"K\xc3\xb6ln", "Köln"),
        (b"K\xf6ln", "Köln"),
        (b"=?iso-8859-1?q?this=20is=20some=20text?=", "this is some text"),
        (b"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=", "If you can read this you understand the example."),
        (b"=?US-ASCII*EN?Q?Keith_Moore?= <a@b>", "Keith Moore <a@b>"),
        (b"(=?ISO-8859-1?Q?a?= b)", "(a b)"),
        (b"(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)", "(ab)"),
        (b"(=?ISO-8859-1?Q?a_b?= \t =?utf-8?q?=C3=A9?= c)", "(a bé c)"),
        (b"=?utf-8?q?K=C3?= =?UTF-8?Q?=B6ln?=", "Köln"),
        (b"=?utf-8?b?8J+Y?==?utf-8?b?gA==?=", "😀"),
        (b"x=?utf-8?q?=c3=b6?=y", "xöy"),
        (b"=?utf-8?q?a b?= c", "a b c"),
        (b"=?utf-8?q?what??= c", "what? c"),
        (b"=?utf-8?q??=x", "x"),
        (b"=?utf-8?b?YWJj", "=?utf-8?b?YWJj"),
        (b"=?utf-8?b?Y?=", "=?utf-8?b?Y?="),
        (b"=?utf-8?b?Y$$x?=", "=?utf-8?b?Y$$x?="),
        (b"=?utf-8?b?YQ?=", "a"),
        (b"=?utf-8?x?YQ?= =?utf-8?q?b?=", "=?utf-8?x?YQ?= b"),
        (b"=??q?a?=", "=??q?a?="),
        (b"=?utf-8?q?=?utf-8?q?a?=", "=?utf-8?q?a"),
        (b"=?utf-8?q?=4=zz=?=", "=4=zz="),
        (b"=?utf-8?q?=4=zz_?=", "=4=zz "),
        (b"=?x-unknown?q?K=C3=B6ln_=FF?=", "Köln \u{fffd}"),
        (b"=?iso-2022-jp?b?GyRCJU8bKEI=?= =?iso-2022-jp?b?GyRCJW0bKEI=?=", "ハロ"),
        (b"=?utf-8?q?a=0D=0Ab=00?=", "a  b "),
        (b"=? =?=", "=? =?="),
    ] {
        assert_eq!(decode(raw), want, "{}", raw.escape_ascii());
    }
}

fn params(raw: &str) -> Params {
    parse_params(raw.as_bytes()).1
}

#[test]
fn a_field_is_taken_apart() {
    for (raw, value, want) in [
        ("text/plain", "text/plain", ""),
        (" Text/HTML (what) ; charset = \"utf-8\" ; x=1", "Text/HTML", "charset=utf-8|x=1"),
        ("a;b=\"c;d\\\"e\\\\f\";G=h", "a", "b=c;d\"e\\f|g=h"),
        ("a; b=\"c\" d=e; ;;f; =g;h=", "a", "b=c|d=e|h="),
        ("a; b=not closed; c=\"d; e=f", "a", "b=not closed|c=d; e=f"),
        ("a; charset=us-ascii (Plain text)", "a", "charset=us-ascii"),
        ("a; charset=(a (b) c)us-ascii", "a", "charset=us-ascii"),
        ("a; filename=notes (1).txt; b=c", "a", "filename=notes (1).txt|b=c"),
        ("a; b=\"x\r\n y\"", "a", "b=x y"),
        ("a (never closed; b=c", "a", ""),
        ("", "", ""),
    ] {
        let (got, params) = parse_params(raw.as_bytes());
        let joined: Vec<_> = params.iter().map(|(n, v)| format!("{n}={}", String::from_utf8_lossy(v))).collect();
        assert_eq!((String::from_utf8_lossy(&got).as_ref(), joined.join("|").as_str()), (value, want), "{raw}");
    }
}

#[test]
fn parameters_are_decoded() {
    for (raw, want) in [
        ("a; name=x", Some("x")),
        ("a; NAME=x; name=y", Some("x")),
        ("a; other=x; names=y; name-1=z; name*x=z; name**=z", None),
        ("a; name=\"=?utf-8?q?K=C3=B6ln?=.txt\"", Some("Köln.txt")),
        ("a; name*=utf-8'en'K%C3%B6ln%20%zz.txt; name=plain", Some("Köln %zz.txt")),
        ("a; name*=iso-8859-1''K%f6ln", Some("Köln")),
        ("a; name*=''K%C3%B6ln", Some("Köln")),
        ("a; name*=K%C3%B6ln", Some("Köln")),
        ("a; name*=\"K\u{f6}ln 100%25\"", Some("Köln 100%25")),
        ("a; name*0=ab; name*1=\"c d\"; name*3=x", Some("abc d")),
        ("a; name*1=b; name*0=a; name*1=x", Some("ab")),
        ("a; name*0*=utf-8''K%C3; name*1*=%B6; name*2=ln%41", Some("Köln%41")),
        ("a; name*0=a%41; name*1*=%42", Some("a%41B")),
        ("a; name*0=\"=?utf-8?q?K=C3\"; name*1=\"=B6ln?=\"", Some("Köln")),
        ("a; name*1=b; name=plain", Some("plain")),
        ("a; name*=utf-8''..%2F%00%0Ax", Some("../  x")),
        ("a; name*0=a; name*99999999999999999999=b; name*100=c", Some("a")),
    ] {
        assert_eq!(parameter(&params(raw), "name").as_deref(), want, "{raw}");
    }
}

#[test]
fn a_header_becomes_readable_lines() {
    for (raw, want) in [
        (
            &b"Subject: =?utf-8?q?K=C3=B6ln?=\r\n =?utf-8?q?er?=\r\nTo: a@b\r\n\r\nbody"[..],
            "Subject: Kölner\nTo: a@b\n",
        ),
        (b"A: b\nno field\n continued\n", "A: b\nno field continued\n"),
        (b" first\r\nA:", "first\nA:\n"),
        (b"A: \xe9\n\n", "A: é\n"),
        (b"\r\nA: b", ""),
        (b"", ""),
    ] {
        assert_eq!(headers_text(raw), want, "{}", raw.escape_ascii());
    }
}

#[test]
fn hostile_headers_are_read_to_their_end() {
    for piece in [
        "=?",
        "=?a?q?",
        "=?a?q??",
        "=?a?b?YQ?",
        "=?utf-8?q?a?= ",
        "(",
        "\\",
        "\"",
        ";a",
        ";a=",
        ";a*=",
        " ",
        "\r\n ",
        "\r",
        "?=",
        "'",
        "a:\n",
    ] {
        let raw = piece.repeat((1 << 16) / piece.len());
        let text = decode(raw.as_bytes());
        assert!(text.len() <= raw.len() * 2);
        let (_, params) = parse_params(raw.as_bytes());
        assert!(params.len() <= MAX_PARAMS);
        parameter(&params, "a");
        assert!(headers_text(raw.as_bytes()).len() <= raw.len() + 1);
    }
}

proptest! {
    #[test]
    fn any_header_is_read(raw in prop_oneof![any::<Vec<u8>>(), "([=?qQbBé_*';\"%(A-C0-9\\\\ \r\n]|=\\?utf-8\\?[qb]\\?){0,40}".prop_map(String::into_bytes)]) {
        prop_assert!(!decode(&raw).contains(|c: char| c.is_control() && c != '\t'));
        let lines = headers_text(&raw);
        prop_assert!(lines.is_empty() || lines.ends_with('\n'));
        let (_, params) = parse_params(&raw);
        for (name, _) in &params {
            parameter(&params, name);
        }
    }

    #[test]
    fn words_of_any_length_give_back_the_text(text in "[^\\pC\\pZ](\\PC{0,20}[^\\pC\\pZ])?", cut in 1usize..9) {
        let q = |bytes: &[u8]| bytes.iter().map(|b| format!("={b:02X}")).collect::<String>();
        let q: Vec<_> = text.as_bytes().chunks(cut).map(|c| format!("=?utf-8?Q?{}?=", q(c))).collect();
        let b = text.as_bytes().chunks(cut).map(|c| format!("=?UTF-8?b?{}?=", BASE64.encode(c)));
        prop_assert_eq!(&decode(q.join("\r\n ").as_bytes()), &text);
        prop_assert_eq!(&decode(b.collect::<String>().as_bytes()), &text);
    }

    #[test]
    fn quoted_values_are_given_back(value in "[ -~é]{0,20}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        prop_assert_eq!(params(&format!("a; n=\"{quoted}\"; m=2")), [("n".into(), value.into_bytes()), ("m".into(), b"2".to_vec())]);
    }
}
