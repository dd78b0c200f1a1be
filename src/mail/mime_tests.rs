use super::*;
use proptest::prelude::*;

/// One line for each part: path, type, place, and `*` when it is not a leaf.
fn outline(raw: &[u8]) -> Vec<String> {
    fn line(part: &Part, raw: &[u8], parsed: &Parsed, out: &mut Vec<String>) {
        let path = part.path.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
        let place = parsed.places.get(&part.path);
        let text = place.map(|p| String::from_utf8_lossy(&raw[p.clone()]).into_owned());
        match &part.body {
            Body::Leaf => out.push(format!("{path} {} {:?}", part.mime_type(), text.unwrap())),
            Body::Multipart(children) => {
                out.push(format!("{path} {}", part.mime_type()));
                children.iter().for_each(|child| line(child, raw, parsed, out));
            }
            Body::Message(root) => {
                out.push(format!("{path} {} {}", part.mime_type(), text.unwrap().len()));
                line(root, raw, parsed, out);
            }
        }
    }
    let parsed = parse(raw);
    let mut out = Vec::new();
    line(&parsed.root, raw, &parsed, &mut out);
    out
}

const MIXED: &str = "Content-Type: multipart/mixed; boundary=b\n\n";

fn check(cases: &[(&str, &[&str])]) {
    for (body, want) in cases {
        assert_eq!(outline(format!("{MIXED}{body}").as_bytes()), *want, "{body:?}");
    }
}

#[test]
fn a_message_of_one_part_is_its_part_one() {
    for (raw, want) in [
        ("", "1 text/plain \"\""),
        ("\r\n", "1 text/plain \"\""),
        ("A: b\r\n\r\nx\r\n", "1 text/plain \"x\\r\\n\""),
        ("A: b", "1 text/plain \"\""),
        ("no header\n\n--x\n", "1 text/plain \"--x\\n\""),
        ("Content-Type: Image/PNG ; name=x\n\nx", "1 image/png \"x\""),
        ("content-type : text/html charset=x\n\nx", "1 text/html \"x\""),
        ("Content-Type: text\n\nx", "1 text/plain \"x\""),
        ("Content-Type: a/b/c\n\nx", "1 text/plain \"x\""),
        ("Content-Type: text/\r\n html\r\nContent-Type: a/b\n\nx", "1 text/html \"x\""),
        ("Content-Type: multipart/mixed\n\n--\n\nx", "1 text/plain \"--\\n\\nx\""),
        ("Content-Type: multipart/mixed; boundary=\"  \"\n\n--\n\nx", "1 text/plain \"--\\n\\nx\""),
        ("Content-Type: multipart/mixed; boundary=b\n\nx --b\n", "1 text/plain \"x --b\\n\""),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b--\nx", "1 text/plain \"--b--\\nx\""),
        ("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nx", "1 message/rfc822 \"x\""),
    ] {
        assert_eq!(outline(raw.as_bytes()), [want], "{raw:?}");
    }
}

#[test]
fn boundaries_divide_as_servers_have_it() {
    check(&[
        ("--b\n\nx\n--b--\n", &[" multipart/mixed", "1 text/plain \"x\""]),
        (
            "pre\r\n--b \t\r\n\r\nx\r\n\r\n--b\r\n\r\ny\r\n--b--\r\n--b\r\nepilogue",
            &[" multipart/mixed", "1 text/plain \"x\\r\\n\"", "2 text/plain \"y\""],
        ),
        ("--b\n\nx --b\n -–b\n-b\n", &[" multipart/mixed", "1 text/plain \"x --b\\n -–b\\n-b\\n\""]),
        (
            "--b\n--b\n\n--b\nA: b\n--b\n\n\n--b--",
            &[" multipart/mixed", "1 text/plain \"\"", "2 text/plain \"\"", "3 text/plain \"\"", "4 text/plain \"\""],
        ),
        ("--b", &[" multipart/mixed", "1 text/plain \"\""]),
        ("--bx\n\ny\n--b-\n\nz", &[" multipart/mixed", "1 text/plain \"y\"", "2 text/plain \"z\""]),
        (
            "--b\nContent-Type: multipart/related; boundary=bb\n\n--bb\n\nx\n--bbb\n\ny\n--bb--\n--b\n\nz\n--b--",
            &[
                " multipart/mixed",
                "1 multipart/related",
                "1.1 text/plain \"x\"",
                "1.2 text/plain \"y\"",
                "2 text/plain \"z\"",
            ],
        ),
        (
            "--b\nContent-Type: multipart/related; boundary=c\n\n--c\n\nx\n--b\n\nz\n--c\n",
            &[" multipart/mixed", "1 multipart/related", "1.1 text/plain \"x\"", "2 text/plain \"z\\n--c\\n\""],
        ),
        (
            "--b\nContent-Type: multipart/related; boundary=b\n\n--b\n\nx\n--b--\n--b\n\ny\n--b--",
            &[" multipart/mixed", "1 multipart/related", "1.1 text/plain \"x\"", "2 text/plain \"y\""],
        ),
        (
            "--b\nContent-Type: multipart/related; boundary=c\n\nx\n--b\n\ny",
            &[" multipart/mixed", "1 text/plain \"x\"", "2 text/plain \"y\""],
        ),
    ]);
}

#[test]
fn attached_messages_are_numbered_as_imap_has_it() {
    let inner = "Content-Type: message/rfc822\n\n";
    check(&[(
        &format!(
            "--b\n{inner}Subject: s\n\nx\n--b\n{inner}Content-Type: multipart/mixed; boundary=c\n\n--c\n\ny\n--c\n{inner}{inner}\nz\n--c--\n--b--"
        ),
        &[
            " multipart/mixed",
            "1 message/rfc822 13",
            "1.1 text/plain \"x\"",
            "2 message/rfc822 122",
            "2 multipart/mixed",
            "2.1 text/plain \"y\"",
            "2.2 message/rfc822 32",
            "2.2.1 message/rfc822 2",
            "2.2.1.1 text/plain \"z\"",
        ],
    )]);
    let raw = "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: s\n\nx\n--b\nContent-Type: text/plain\n\ny\n--b--";
    assert_eq!(
        outline(raw.as_bytes()),
        [" multipart/digest", "1 message/rfc822 13", "1.1 text/plain \"x\"", "2 text/plain \"y\"",]
    );
    let raw = format!("{inner}{MIXED}--b\n\nx");
    assert_eq!(outline(raw.as_bytes()), ["1 message/rfc822 49", "1 multipart/mixed", "1.1 text/plain \"x\""]);
    let parsed = parse(raw.as_bytes());
    let headers: Vec<_> = parsed.headers.into_iter().map(|(path, range)| (path.len(), range)).collect();
    assert_eq!(headers, [(0, 0..30), (1, 30..73)]);
}

#[test]
fn a_part_knows_what_its_header_says() {
    let raw = b"content-type: text/plain; charset=\"UTF-8\"\r\nContent-Disposition: Attachment;\r\n filename*=utf-8''%C3%A9.txt\r\n\
        Content-ID: <a@b>\r\nContent-Transfer-Encoding: Base64 (really)\r\nContent-Transfer-Encoding: 7bit\r\n\r\nYQ==";
    let part = parse(raw).root;
    assert_eq!((part.charset().as_deref(), part.filename().as_deref()), (Some("utf-8"), Some("é.txt")));
    assert_eq!((&*part.content_id, part.encoding, part.octets), ("<a@b>", Encoding::Base64, 4));
    assert!(part.is_attachment());
}

#[test]
fn depth_and_number_of_parts_are_bounded_and_nothing_is_lost() {
    let deep: String =
        (0..10_000).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}x\n\n--b{n}x\n")).collect();
    let parsed = parse(deep.as_bytes());
    let (path, place) = parsed.places.last_key_value().unwrap();
    assert_eq!((parsed.places.len(), path.len(), place.end), (1, MAX_DEPTH, deep.len()));
    assert!(deep[place.clone()].starts_with("--b64x"));

    let messages = "Content-Type: message/rfc822\n\n".repeat(10_000);
    let parsed = parse(messages.as_bytes());
    assert_eq!((parsed.places.len(), parsed.headers.len()), (MAX_DEPTH + 1, MAX_DEPTH + 1));

    let wide = format!("{MIXED}{}--b--", "--b\n\nx\n".repeat(100_000));
    let parsed = parse(wide.as_bytes());
    assert_eq!(parsed.places.len(), MAX_PARTS - 1);
    assert!(parsed.places.values().any(|p| p.end == wide.len()));

    let dashes = format!("{MIXED}{}", "--\n".repeat(1 << 16));
    assert_eq!(outline(dashes.as_bytes()).len(), 1);
}

#[test]
fn a_structure_that_makes_no_sense_is_told() {
    let good = format!("{MIXED}--b\n\nx\n--b\nContent-Type: message/rfc822\n\n{MIXED}--b\n\ny\n--b--");
    let root = parse(good.as_bytes()).root;
    assert!(sane(&root, good.len() as u64));
    assert!(!sane(&root, 1));
    type Change = fn(&mut Part);
    let changes: [Change; 9] = [
        |p| p.media = "text".into(),
        |p| p.body = Body::Leaf,
        |p| p.body = Body::Multipart(vec![]),
        |p| p.subtype = "".into(),
        |p| p.media = "".into(),
        |p| p.media = "multi part".into(),
        |p| p.path = vec![1; 61].into(),
        |p| {
            let Body::Multipart(children) = &mut p.body else { return };
            children[0].subtype = "mixed".into();
        },
        |p| {
            let Body::Multipart(children) = &mut p.body else { return };
            *p = children.pop().unwrap();
        },
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut root = root.clone();
        change(&mut root);
        assert!(!sane(&root, u64::MAX), "{n}");
    }
}

proptest! {
    #[test]
    fn any_message_is_taken_apart(raw in prop_oneof![
        any::<Vec<u8>>().prop_map(|raw| [MIXED.as_bytes(), &raw].concat()),
        "(Content-Type: (multipart/(mixed|digest); boundary=[bc]{0,2}|message/rfc822|text/html)\r?\n|\r?\n|--[bc]{1,2}(--)?\r?\n|x){0,40}".prop_map(String::into_bytes),
    ]) {
        let parsed = parse(&raw);
        let mut todo = vec![&parsed.root];
        let (mut leaves, mut nodes) = (Vec::new(), 0);
        while let Some(part) = todo.pop() {
            nodes += usize::from(!matches!(part.body, Body::Multipart(_)));
            if let Some(place) = parsed.places.get(&part.path) {
                prop_assert!(place.end <= raw.len());
                prop_assert!(matches!(part.body, Body::Multipart(_)) || part.octets == place.len() as u64);
            }
            match &part.body {
                Body::Leaf => leaves.push(parsed.places[&part.path].clone()),
                Body::Multipart(children) => todo.extend(children),
                Body::Message(root) => todo.push(root),
            }
        }
        // Each part has a place of its own, and no two leaves share an octet.
        prop_assert_eq!(nodes, parsed.places.len());
        leaves.sort_unstable_by_key(|l| (l.start, l.end));
        prop_assert!(leaves.windows(2).all(|w| w[0].end <= w[1].start));
        let is_void = leaves.iter().all(Range::is_empty);
        prop_assert!(is_message(&parsed.root) || is_void || sane(&parsed.root, raw.len() as u64));
    }
}
