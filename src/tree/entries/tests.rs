use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::mail::header::Params;

fn params(items: &[(&str, &str)]) -> Params {
    items.iter().map(|(name, value)| ((*name).into(), value.as_bytes().to_vec())).collect()
}

fn leaf(mime: &str) -> Part {
    let (media, subtype) = mime.split_once('/').unwrap();
    Part {
        path: Box::default(),
        media: media.into(),
        subtype: subtype.into(),
        params: Vec::new(),
        disposition: None,
        content_id: "".into(),
        encoding: Encoding::Identity,
        octets: 100,
        body: Body::Leaf,
    }
}

fn named(mime: &str, name: &str) -> Part {
    Part { disposition: Some(("attachment".into(), params(&[("filename", name)]))), ..leaf(mime) }
}

fn multi(subtype: &str, parts: Vec<Part>) -> Part {
    Part { body: Body::Multipart(parts), ..leaf(&format!("multipart/{subtype}")) }
}

fn attached(inner: Part) -> Part {
    Part { body: Body::Message(Box::new(inner)), ..leaf("message/rfc822") }
}

/// Gives the parts their paths, RFC 9051 section 6.4.5.1.
fn numbered(mut root: Part) -> Part {
    fn root_of_message(part: &mut Part, prefix: &[u32]) {
        match part.body {
            Body::Multipart(_) => inside(part, prefix),
            _ => inside(part, &[prefix, &[1]].concat()),
        }
    }
    fn inside(part: &mut Part, path: &[u32]) {
        part.path = path.into();
        match &mut part.body {
            Body::Leaf => {}
            Body::Multipart(parts) => {
                for (n, child) in (1..).zip(parts) {
                    inside(child, &[path, &[n]].concat());
                }
            }
            Body::Message(inner) => root_of_message(inner, path),
        }
    }
    root_of_message(&mut root, &[]);
    root
}

/// `path=section` of every listed file, texts with a `*`, directories left out, `headers.txt` left out.
fn files(root: Part) -> Vec<String> {
    let entries = entries(&numbered(root));
    let mut out = Vec::new();
    for entry in entries.iter().filter(|e| e.listed && !e.content.is_directory() && &*e.name != HEADERS) {
        let mut path = entry.name.to_string();
        let mut at = entry.parent;
        while at != EntryId(0) {
            let directory = entries.get(at).unwrap();
            path = format!("{}/{path}", directory.name);
            at = directory.parent;
        }
        let star = if matches!(entry.content, Content::Text { .. }) { "*" } else { "" };
        out.push(format!("{path}{star}={}", entry.content.section().unwrap()));
    }
    out
}

#[test]
fn bodies_and_attachments_get_their_names() {
    fn check(root: Part, expected: &[&str]) {
        assert_eq!(files(root), expected);
    }
    check(leaf("text/plain"), &["body.txt*=1"]);
    check(leaf("text/html"), &["body.html*=1"]);
    check(leaf("application/pdf"), &["part-1.pdf=1"]);
    check(named("application/pdf", "Report 1.pdf"), &["Report 1.pdf=1"]);
    check(
        multi(
            "mixed",
            vec![
                multi(
                    "alternative",
                    vec![
                        leaf("text/plain"),
                        multi("related", vec![leaf("text/html"), leaf("image/png"), leaf("text/html")]),
                        leaf("text/calendar"),
                    ],
                ),
                named("text/plain", "notes.txt"),
                leaf("text/plain"),
                leaf("text/html"),
            ],
        ),
        &[
            "body.txt*=1.1",
            "body.html*=1.2.1",
            "part-1.2.2.png=1.2.2",
            "part-1.2.3.html=1.2.3",
            "part-1.3.ics=1.3",
            "notes.txt=2",
            "body.2.txt*=3",
            "body.2.html*=4",
        ],
    );
    check(
        multi("signed", vec![leaf("text/plain"), leaf("application/pgp-signature")]),
        &["body.txt*=1", "part-2.asc=2"],
    );
    check(
        multi("report", vec![leaf("text/plain"), leaf("message/delivery-status"), leaf("text/rfc822-headers")]),
        &["body.txt*=1", "part-2.txt=2", "part-3.txt=3"],
    );
    let attachment = Part { disposition: Some(("attachment".into(), Vec::new())), ..leaf("text/plain") };
    let by_type = Part { params: params(&[("name", "a.txt")]), ..leaf("text/plain") };
    let inline = Part { disposition: Some(("inline".into(), Vec::new())), ..leaf("text/plain") };
    check(multi("mixed", vec![attachment, by_type, inline]), &["part-1.txt=1", "a.txt=2", "body.txt*=3"]);
    check(Part { octets: MAX_TEXT + 1, ..leaf("text/plain") }, &["body.txt=1"]);
}

#[test]
fn the_root_of_a_related_is_what_start_names() {
    let with_id = |mime: &str, id: &str| Part { content_id: id.into(), ..leaf(mime) };
    let parts = || vec![with_id("text/html", "<a@b>"), with_id("text/html", "<root@b>")];
    let start = |value: &str| Part { params: params(&[("start", value)]), ..multi("related", parts()) };
    for value in ["<root@b>", "root@b"] {
        assert_eq!(files(start(value)), ["part-1.html=1", "body.html*=2"], "{value}");
    }
    for value in ["<none@b>", ""] {
        assert_eq!(files(start(value)), ["body.html*=1", "part-2.html=2"], "{value}");
    }
}

#[test]
fn attached_messages_are_directories() {
    let big = Part { octets: MAX_TEXT + 1, ..attached(multi("mixed", vec![leaf("text/plain"), leaf("image/png")])) };
    let inner = multi("mixed", vec![leaf("text/plain"), attached(leaf("text/plain")), leaf("image/gif")]);
    let encoded = Part { encoding: Encoding::Base64, ..leaf("message/rfc822") };
    let root = multi(
        "mixed",
        vec![
            leaf("text/plain"),
            attached(inner),
            big,
            encoded,
            named("message/rfc822", "x.eml"),
            attached(leaf("text/html")),
        ],
    );
    assert_eq!(
        files(root.clone()),
        [
            "body.txt*=1",
            "forwarded-1/body.txt*=2.1",
            "forwarded-1/forwarded-1/body.txt*=2.2.1",
            "forwarded-1/part-2.3.gif=2.3",
            "forwarded-2.eml=3",
            "forwarded-3.eml=4",
            "x.eml=5",
            "forwarded-4/body.html*=6.1",
        ]
    );
    let root = numbered(root);
    let entries = entries(&root);
    // mixed 1, text 2, message 3, mixed 4, text 5, message 6, text 7, gif 8, big 9, mixed 10, 11, 12, encoded 13 …
    let show = |id: u16| {
        let entry = entries.get(EntryId(id)).unwrap();
        let section = entry.content.section().map(ToString::to_string).unwrap_or("directory".into());
        format!(
            "{} {} {} {section} {}",
            entry.parent.0,
            entry.name,
            entry.listed,
            part(&root, entry.id).map_or("-".into(), Part::mime_type)
        )
    };
    assert_eq!(show(0), "0  true directory -");
    assert_eq!(show(1), "0 headers.txt true HEADER -");
    assert_eq!(show(2), "0 message.eml false  -");
    assert_eq!(show(8), "0 body.txt true 1 text/plain");
    assert_eq!(show(12), "0 forwarded-1 true directory message/rfc822");
    assert_eq!(show(13), "12 headers.txt true 2.HEADER message/rfc822");
    assert_eq!(show(14), "12 message.eml false 2 message/rfc822");
    assert_eq!(show(24), "12 forwarded-1 true directory message/rfc822");
    assert_eq!(show(32), "12 part-2.3.gif true 2.3 image/gif");
    assert_eq!(show(52), "0 forwarded-3.eml true 4 message/rfc822");
    assert_eq!(entries.get(EntryId(4)), None);
    assert_eq!(entries.lookup(EntryId(12), "message.eml").unwrap().id, EntryId(14));
    assert_eq!(entries.lookup(EntryId(0), "part-2.3.gif"), None);
    let names: Vec<_> = entries.children(EntryId(12)).iter().map(|e| e.name.to_string()).collect();
    assert_eq!(names, ["headers.txt", "message.eml", "body.txt", "forwarded-1", "part-2.3.gif"]);
}

#[test]
fn a_sender_cannot_take_our_names_or_leave_the_directory() {
    let names = [
        "headers.txt",
        "message.eml",
        "body.txt",
        "body.html",
        "forwarded-1",
        "../../.bashrc",
        "/etc/passwd",
        "..",
        "\n",
        ".hidden",
        "-rf",
        "body.2.txt",
        "Body.txt",
    ];
    let mut parts: Vec<Part> = names.iter().map(|name| named("application/x-foo-bar", name)).collect();
    parts.extend([leaf("text/plain"), leaf("text/plain"), attached(leaf("text/plain"))]);
    assert_eq!(
        files(multi("mixed", parts)),
        [
            "headers.2.txt=1",
            "message.2.eml=2",
            "body.3.txt=3",
            "body.2.html=4",
            "forwarded-1.2=5",
            "bashrc=6",
            "etc-passwd=7",
            "part-8.bin=8",
            "part-9.bin=9",
            "hidden=10",
            "rf=11",
            "body.2.2.txt=12",
            "Body.txt=13",
            "body.txt*=14",
            "body.2.txt*=15",
            "forwarded-1/body.txt*=16.1",
        ]
    );
}

#[test]
fn a_clash_gets_a_number_before_the_extension() {
    let long = format!("{}.pdf", "x".repeat(139));
    let parts =
        ["a.txt", "a.2.txt", "a.txt", "a.txt", "a", "a", &long, &long].map(|name| named("application/pdf", name));
    let cut = format!("{}.2.pdf=8", "x".repeat(133));
    let long = format!("{long}=7");
    assert_eq!(
        files(multi("mixed", parts.to_vec())),
        ["a.txt=1", "a.2.txt=2", "a.3.txt=3", "a.4.txt=4", "a=5", "a.2=6", &long, &cut]
    );
}

#[test]
fn extensions_come_from_the_media_type() {
    fn check(mime: &str, expected: &str) {
        assert_eq!(files(leaf(mime)), [format!("part-1.{expected}=1")], "{mime}");
    }
    check("image/jpeg", "jpg");
    check("image/webp", "webp");
    check("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx");
    check("application/octet-stream", "bin");
    check("application/x-tar", "tar");
    check("application/json", "json");
    check("text/csv", "csv");
    check("text/x-unheard-of", "txt");
    check("application/../x", "bin");
    check("a/", "bin");
}

#[test]
fn a_bomb_is_cut_at_the_limit_in_little_time() {
    let start = std::time::Instant::now();
    let wide = numbered(multi("mixed", (0..20_000).map(|_| named("text/plain", "a.txt")).collect()));
    let found = entries(&wide);
    println!("20,000 parts of one name: {:?}", start.elapsed());
    assert!(!found.is_complete());
    assert_eq!(found.iter().len(), 3 + usize::from(MAX_PARTS) - 1);
    assert_eq!(found.iter().last().unwrap().id.0, 4 * MAX_PARTS);
    // Names of full length that differ at the end, each twice.
    let names: Vec<String> = (0..8_000).map(|n| format!("{}{n:05}", "x".repeat(138))).collect();
    let start = std::time::Instant::now();
    let twice = multi("mixed", names.iter().chain(&names).map(|name| named("text/plain", name)).collect());
    assert_eq!(entries(&numbered(twice)).iter().len(), 3 + usize::from(MAX_PARTS) - 1);
    println!("16,000 clashing long names: {:?}", start.elapsed());
    let deep = (0..300)
        .fold(leaf("text/plain"), |inner, n| if n % 2 == 0 { attached(inner) } else { multi("mixed", vec![inner]) });
    let found = entries(&numbered(deep));
    assert!(found.is_complete() && found.iter().len() == 3 * 151 + 1);
}

#[test]
fn a_thousand_ordinary_messages_cost_little() {
    let text = |mime: &str| Part { params: params(&[("charset", "utf-8")]), ..leaf(mime) };
    let body = multi("alternative", vec![text("text/plain"), text("text/html")]);
    let root =
        numbered(multi("mixed", vec![body, named("application/pdf", "report.pdf"), named("image/png", "x.png")]));
    let start = std::time::Instant::now();
    let count: usize = (0..1_000).map(|_| entries(&root).iter().len()).sum();
    println!("{count} entries of 1,000 messages: {:?}", start.elapsed());
}

fn any_part() -> impl Strategy<Value = Part> {
    let name = prop_oneof![
        Just("a.txt".to_owned()),
        Just("body.txt".to_owned()),
        Just("forwarded-1".to_owned()),
        Just("a.2.txt".to_owned()),
        any::<String>()
    ];
    let mime =
        prop::sample::select(vec!["text/plain", "text/html", "text/csv", "image/png", "message/rfc822", "x/y z"]);
    let simple = (mime, prop::option::of(name), 0..3u64).prop_map(|(mime, name, size)| {
        let part = name.map_or_else(|| leaf(mime), |name| named(mime, &name));
        Part { octets: size * MAX_TEXT, ..part }
    });
    simple.prop_recursive(5, 40, 6, |inner| {
        let kind = prop::sample::select(vec!["mixed", "alternative", "related", "signed"]);
        prop_oneof![
            (kind, prop::collection::vec(inner.clone(), 1..6)).prop_map(|(kind, parts)| multi(kind, parts)),
            (inner, 0..3u64).prop_map(|(inner, size)| Part { octets: size * MAX_TEXT, ..attached(inner) }),
        ]
    })
}

/// The sections of the leaves, and of the messages that are shown whole.
fn leaves(part: &Part, out: &mut Vec<Section>) {
    match &part.body {
        Body::Leaf => out.push(Section::part(&part.path)),
        Body::Multipart(parts) => parts.iter().for_each(|part| leaves(part, out)),
        Body::Message(_) if part.octets > MAX_TEXT => out.push(Section::part(&part.path)),
        Body::Message(inner) => leaves(inner, out),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_leaf_is_one_entry_and_every_name_and_id_is_there_once(root in any_part()) {
        let root = numbered(root);
        let entries = entries(&root);
        let mut expected = Vec::new();
        leaves(&root, &mut expected);
        let mut shown: Vec<Section> = entries
            .iter()
            .filter(|e| e.listed && !matches!(e.content, Content::Directory | Content::Headers(_)))
            .filter_map(|e| e.content.section().cloned())
            .collect();
        expected.sort();
        shown.sort();
        prop_assert_eq!(shown, expected);
        let names: HashSet<_> = entries.iter().map(|e| (e.parent, e.name.clone())).collect();
        let ids: HashSet<_> = entries.iter().map(|e| e.id).collect();
        prop_assert_eq!((names.len(), ids.len()), (entries.iter().len(), entries.iter().len()));
        for entry in entries.iter().skip(1) {
            prop_assert!(entry.name.len() <= 143 && !entry.name.is_empty() && !entry.name.contains('/'));
            prop_assert_eq!(entries.get(entry.id), Some(entry));
            prop_assert_eq!(entries.lookup(entry.parent, &entry.name), Some(entry));
            prop_assert!(entries.children(entry.parent).contains(&entry));
            prop_assert!(entries.get(entry.parent).is_some_and(|parent| parent.content.is_directory()));
            if let (Content::File { section, .. } | Content::Text { section, .. }, Some(part)) = (&entry.content, part(&root, entry.id)) {
                prop_assert_eq!(&section.path, &part.path);
            }
        }
    }
}
