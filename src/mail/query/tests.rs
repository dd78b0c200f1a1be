use proptest::prelude::*;

use super::*;
use crate::mail::envelope::{Envelope, Summary};
use crate::mail::flag::Flags;
use crate::mail::mime;
use crate::mail::uid::Uid;

#[test]
fn queries_are_understood_as_people_mean_them() {
    // As written, and as printed: parentheses show how it was understood.
    let cases = [
        ("invoice", "invoice"),
        ("  quarterly   report ", "quarterly report"),
        ("\"quarterly report\"", "\"quarterly report\""),
        ("a AND b", "a b"),
        ("from:amy OR from:david budget", "(from:amy OR from:david) budget"),
        ("a b OR c d", "a (b OR c) d"),
        ("(a b) OR c", "(a b) OR c"),
        ("a (b c) d", "a b c d"),
        ("-from:bob NOT subject:\"a b\"", "-from:bob -subject:\"a b\""),
        ("-(a OR b)", "-(a OR b)"),
        ("subject:(dinner OR lunch) x", "(subject:dinner OR subject:lunch) x"),
        ("and or not", "and or not"),
        ("\"OR\"", "\"OR\""),
        ("FROM:Bob", "from:Bob"),
        ("from: bob", "from:bob"),
        ("newer: 7d", "newer:1w"),
        ("newer:36h older:1m", "newer:36h older:30d"),
        ("larger:1048576 smaller:1500", "larger:1M smaller:1500"),
        ("after:2026/11/01", "since:2026-11-01"),
        ("on:2026-11-21 before:2027-01-01", "on:2026-11-21 before:2027-01-01"),
        ("is:starred is:unseen", "is:flagged is:unread"),
        ("tag:$Forwarded", "tag:$Forwarded"),
        ("header:List-Id=\"rust users\" header:X-Spam", "header:List-Id=\"rust users\" header:X-Spam"),
        ("type:image type:application/PDF", "type:image/* type:application/pdf"),
        ("filename:*.pdf has:attachment", "filename:*.pdf has:attachment"),
        ("uid:9,1:5 uid:7:*", "uid:1:5,9 uid:7:4294967295"),
        ("*", "*"),
        ("10:30", "\"10:30\""),
        ("Grüße 日本", "Grüße 日本"),
        ("imap:\"OR SEEN (FLAGGED DRAFT)\"", "imap:\"OR SEEN (FLAGGED DRAFT)\""),
        ("\"a \\\"b\\\" \\\\\"", "\"a \\\"b\\\" \\\\\""),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).unwrap().to_string(), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_column() {
    let cases = [
        ("", 1, "a word"),
        ("   ", 4, "a word"),
        ("a OR", 5, "a word"),
        ("OR a", 1, "a word"),
        ("a OR OR b", 6, "a word"),
        ("subject:(a", 11, "a closing parenthesis"),
        ("a)", 2, "the end"),
        ("()", 2, "a word"),
        ("\"a", 3, "a closing quote"),
        ("\"\"", 1, "a text"),
        ("\"a\\n\"", 4, "\\\" or"),
        ("form:bob", 1, "one of from"),
        ("a http://example.org", 3, "one of from"),
        ("from:", 6, "a text"),
        ("is:blue", 4, "unread"),
        ("grün is:blue", 9, "unread"),
        ("has:fun", 5, "attachment"),
        ("since:yesterday", 7, "a date"),
        ("since:2026-02-30", 7, "a date"),
        ("on:+026-02-03", 4, "a date"),
        ("newer:7", 7, "an age"),
        ("newer:7dd", 7, "an age"),
        ("older:99999999999999999999d", 7, "an age"),
        ("larger:2T", 8, "a size"),
        ("larger:99999999999G", 8, "a size"),
        ("uid:0", 5, "a set"),
        ("uid:a", 5, "a set"),
        ("tag:a)", 6, "the end"),
        ("tag:\"a b\"", 5, "a keyword"),
        ("tag:\\Seen", 5, "a keyword"),
        ("type:a/b/c", 6, "a media type"),
        ("header:=x", 8, "the name"),
        ("- a", 2, "what is not wanted"),
        ("a -", 4, "what is not wanted"),
        ("a\"b\"", 2, "a blank"),
        ("main()", 5, "a blank"),
        ("\"a\rb\"", 3, "no control"),
        ("a\0b", 2, "no control"),
        ("subject:(from:x)", 10, "only words"),
    ];
    for (text, column, expected) in cases {
        let bad = parse(text).unwrap_err();
        assert_eq!(bad.column, column, "{text}: {bad}");
        assert!(bad.expected.starts_with(expected), "{text}: {bad}");
    }
    assert!(parse(&"(".repeat(3000)).is_err() && parse(&"-".repeat(3000)).is_err());
    assert!(parse(&"a ".repeat(3000)).unwrap_err().expected.starts_with("the end"));
}

fn text() -> impl Strategy<Value = Box<str>> {
    prop_oneof![
        "[a-zäöß日*?:=\\-]{1,6}",
        "[ -~]{1,12}",
        Just("OR".to_owned()),
        Just("\" OR ALL {5+}".to_owned()),
        "\\PC{1,8}"
    ]
    .prop_map(Into::into)
}

fn term() -> impl Strategy<Value = Term> {
    let field = (0..7usize).prop_map(|n| FIELDS.get(n).map_or(Field::Anywhere, |(_, field)| *field));
    let state = (0..STATES.len()).prop_map(|n| STATES[n].1);
    let when = prop_oneof![Just(When::Since), Just(When::Before), Just(When::On)];
    let date = (1970..2100i32, 1..366u32).prop_map(|(year, day)| NaiveDate::from_yo_opt(year, day).unwrap());
    let number =
        prop_oneof![0u64..100_000, (0u64..1 << 30).prop_map(|n| n * 3600), (0u64..1 << 30).prop_map(|n| n << 20)];
    let uids = proptest::collection::vec(1u32.., 1..4)
        .prop_map(|uids| uids.into_iter().filter_map(Uid::new).collect::<UidSet>());
    prop_oneof![
        Just(Term::All),
        (field, text()).prop_map(|(field, text)| Term::Text(field, text)),
        ("[A-Za-z-]{1,10}", prop_oneof![text(), Just("".into())])
            .prop_map(|(name, text)| Term::Header(name.into(), text)),
        state.prop_map(Term::Is),
        "[a-zA-Z$0-9_-]{1,10}".prop_map(|tag| Term::Tag(tag.into())),
        (when, date).prop_map(|(when, date)| Term::Date(when, date)),
        (number, 0..4).prop_map(|(n, kind)| match kind {
            0 => Term::Newer(n),
            1 => Term::Older(n),
            2 => Term::Larger(n),
            _ => Term::Smaller(n),
        }),
        Just(Term::Attachment),
        ("[a-z*]{1,5}", "[a-z*.+-]{1,9}").prop_map(|(media, subtype)| Term::Type(media.into(), subtype.into())),
        text().prop_map(Term::Filename),
        uids.prop_map(Term::Uid),
        text().prop_map(Term::Gmail),
        text().prop_map(Term::Imap),
    ]
}

/// Trees as [`parse`] gives them.
pub fn query() -> impl Strategy<Value = Query> {
    term().prop_map(Tree::Term).prop_recursive(4, 24, 4, |inner| {
        let flat = |trees: Vec<Query>, and: bool| {
            let mut all = Vec::new();
            for tree in trees {
                match tree {
                    Tree::And(more) if and => all.extend(more),
                    Tree::Or(more) if !and => all.extend(more),
                    one => all.push(one),
                }
            }
            if and { Tree::all(all) } else { Tree::one_of(all) }
        };
        prop_oneof![
            inner.clone().prop_map(|tree| Tree::Not(Box::new(tree))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(move |trees| flat(trees, true)),
            proptest::collection::vec(inner, 2..4).prop_map(move |trees| flat(trees, false)),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(query in query()) {
        let text = query.to_string();
        prop_assert_eq!(parse(&text), Ok(query), "{}", text);
    }

    #[test]
    fn any_text_is_a_query_or_told_what_it_lacks(text in "\\PC{0,40}|[a-z :()\"\\-\\\\OR]{0,30}") {
        match parse(&text) {
            Ok(query) => prop_assert_eq!(parse(&query.to_string()), Ok(query)),
            Err(bad) => prop_assert!(bad.column >= 1 && bad.column <= text.chars().count() + 1),
        }
    }
}

const MESSAGE: &[u8] = b"From: Bob <bob@example.org>\r\nSubject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
    --b\r\nContent-Type: text/plain\r\n\r\nhello\r\n\
    --b\r\nContent-Type: application/pdf; name=\"Report 1.pdf\"\r\nContent-Disposition: attachment\r\n\r\n%PDF\r\n\
    --b\r\nContent-Type: image/png; name=logo.png\r\nContent-Disposition: inline\r\nContent-ID: <1@x>\r\n\r\nx\r\n--b--\r\n";

#[test]
fn what_is_known_here_is_judged_here() {
    let facts = Facts::new(&mime::parse(MESSAGE).root);
    let texts = Texts { header: "From: Bob <bob@example.org>\nSubject: Größe\n".into(), body: "Hello\n".into() };
    let flags = Flags::from_wire([&b"\\Seen"[..], b"work"]);
    // 2026-11-21T09:05:59Z
    let summary = Summary::new(Uid::new(7).unwrap(), 1_795_251_959, 2000, flags, 0, &Envelope::default());
    let now = 1_795_251_959 + 3 * 86_400;
    let cases = [
        ("*", true),
        ("is:read -is:unread tag:WORK -tag:home", true),
        ("on:2026-11-21 since:2026-11-21 before:2026-11-22", true),
        ("since:2026-11-22", false),
        ("before:2026-11-21", false),
        ("newer:4d older:2d", true),
        ("newer:2d", false),
        ("larger:1999 smaller:2001", true),
        ("larger:2000 OR smaller:2000", false),
        ("uid:1:7 -uid:8", true),
        ("has:attachment", true),
        ("type:application/pdf type:image type:*/png", true),
        ("type:video", false),
        ("filename:*.pdf filename:report filename:\"Report ?.pdf\"", true),
        ("filename:*.doc", false),
        ("from:BOB subject:GRÖSSE", false),
        ("from:BOB subject:größe hello", true),
        ("header:from=bob -header:x-y", true),
        ("to:bob", false),
    ];
    for (text, expected) in cases {
        let told = parse(text).unwrap().judge(&|term| term.judge(Some(&summary), Some(&facts), Some(&texts), now));
        assert_eq!(told, Some(expected), "{text}");
    }
    // What is not known leaves it open, unless the rest decides.
    for (text, expected) in [
        ("hello", None),
        ("hello is:unread", Some(false)),
        ("hello OR is:read", Some(true)),
        ("-hello", None),
        ("has:attachment is:read", None),
        ("gmail:x", None),
    ] {
        let told = parse(text).unwrap().judge(&|term| term.judge(Some(&summary), None, None, now));
        assert_eq!(told, expected, "{text}");
    }
}

#[test]
fn pictures_in_a_text_are_no_attachments() {
    let parsed = mime::parse(MESSAGE).root;
    assert_eq!(attachments_of(&parsed), 1);
    let plain = mime::parse(b"Subject: x\r\n\r\nhello\r\n").root;
    assert_eq!((attachments_of(&plain), Facts::new(&plain).attachment), (0, false));
}
