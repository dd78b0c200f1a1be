//! The same words, two readers: where imap-codec understands a response, imapfs understands the same, and what
//! imapfs sends means to imap-codec what it should.

#![allow(clippy::unwrap_used)]

#[path = "common/codec.rs"]
mod codec;
#[path = "common/responses.rs"]
mod responses;

use std::num::NonZeroU32;

use codec::{data, strategies};
use imap_codec::decode::Decoder;
use imap_codec::encode::Encoder;
use imap_codec::imap_types::command::CommandBody;
use imap_codec::imap_types::core::IString;
use imap_codec::imap_types::fetch::{MacroOrMessageDataItemNames, MessageDataItemName, Part, Section as TheirSection};
use imap_codec::imap_types::mailbox::{ListMailbox, Mailbox};
use imap_codec::imap_types::response::Response as Theirs;
use imap_codec::imap_types::search::SearchKey;
use imap_codec::imap_types::sequence::SequenceSet;
use imap_codec::imap_types::status::StatusDataItemName;
use imap_codec::{CommandCodec, ResponseCodec};
use imapfs::imap::command::{Dialect, lines};
use imapfs::imap::frame::{Framer, Limits};
use imapfs::imap::line::{Chunk, Line, Literals, Octets};
use imapfs::imap::response::{Data, Response};
use imapfs::imap::{Command, FetchItem};
use imapfs::mail::mailbox_name::MailboxName;
use imapfs::mail::section::{Section, Text};
use imapfs::mail::uid::{Uid, UidSet};
use proptest::prelude::*;

/// What imapfs makes of one untagged response.
fn ours(octets: &[u8]) -> Option<Data> {
    let mut framer = Framer::new(Limits::default());
    framer.buffer().extend_from_slice(octets);
    let frame = framer.next_frame().ok()??;
    match Response::parse(&frame) {
        (Response::Untagged(data), None) => Some(data),
        other => panic!("{other:?}"),
    }
}

/// What imapfs understands otherwise, and on purpose: a parameter without a value is none, the case of flags is the
/// server's, and what a multipart or a missing subtype turned into on the server is not taken for a leaf.
const OTHERWISE: [&str; 5] = [
    "bs NIL param value",
    "fetch lower-case, other order",
    "bs multipart as leaf (Courier, Stalwart)",
    "bs text/mixed (Stalwart)",
    "bs empty subtype (Dovecot)",
];

#[test]
fn responses_of_the_corpus_mean_the_same_to_both() {
    let mut compared = 0;
    for row in responses::rows() {
        let Ok((b"", Theirs::Data(theirs))) = ResponseCodec::new().decode(&row.octets) else { continue };
        if let Some(theirs) = data(&theirs) {
            let same = ours(&row.octets) == Some(theirs);
            assert_eq!(same, !OTHERWISE.contains(&row.name), "{}", row.name);
            compared += 1;
        }
    }
    assert!(compared > 70, "{compared}");
}

proptest! {
    #[test]
    fn what_imap_codec_writes_is_read_as_it_was_meant(theirs in strategies::response()) {
        let octets = ResponseCodec::new().encode(&Theirs::Data(theirs.clone())).dump();
        prop_assert_eq!(ours(&octets), data(&theirs), "{}", octets.escape_ascii());
    }

    #[test]
    fn a_mailbox_name_is_sent_as_it_is(name in prop::collection::vec(1u8.., 0..30), literals in 0usize..3) {
        prop_assume!(!name.iter().any(|b| matches!(b, b'\r' | b'\n')));
        let literals = [Literals::Wait, Literals::Short, Literals::All][literals];
        let name = MailboxName::new(&name);
        let dialect = Dialect { literals, ..Dialect::default() };
        let line = lines(&Command::QuotaRoot(name.clone()), None, &dialect).unwrap()[0].clone();
        let octets = octets(&line, literals);
        let (rest, command) = CommandCodec::new().decode(&octets).unwrap();
        prop_assert_eq!((rest, command.tag.as_ref()), (&b""[..], "a1"));
        let CommandBody::GetQuotaRoot { mailbox } = command.body else { panic!("{command:?}") };
        prop_assert_eq!(codec::mailbox(&mailbox), name);
    }

    #[test]
    fn a_fetch_asks_for_what_it_should(
        uids in prop::collection::btree_set(1u32.., 1..50),
        path in prop::collection::vec(1u32.., 0..4),
        text in 0usize..4,
        range in prop::option::of((any::<u32>(), 1u32..1 << 31)),
    ) {
        let text = [Text::Body, Text::Header, Text::Text, Text::Mime][if path.is_empty() { text % 3 } else { text }];
        let section = Section { path: path.as_slice().into(), text };
        let uids: UidSet = uids.into_iter().filter_map(Uid::new).collect();
        let items = vec![FetchItem::Flags, FetchItem::Body(section.clone(), range.map(|(at, n)| (u64::from(at), n)))];
        let command = Command::Fetch { uids: uids.clone(), items, changed_since: None };
        let octets = octets(&lines(&command, None, &Dialect::default()).unwrap()[0], Literals::Wait);
        let (_, command) = CommandCodec::new().decode(&octets).unwrap();
        let part = || Part(path.iter().map(|n| NonZeroU32::new(*n).unwrap()).collect::<Vec<_>>().try_into().unwrap());
        let optional = || (!path.is_empty()).then(part);
        let their_section = match text {
            Text::Body => optional().map(TheirSection::Part),
            Text::Header => Some(TheirSection::Header(optional())),
            Text::Text => Some(TheirSection::Text(optional())),
            Text::Mime => Some(TheirSection::Mime(part())),
        };
        let body = MessageDataItemName::BodyExt {
            section: their_section,
            partial: range.map(|(at, n)| (at, NonZeroU32::new(n).unwrap())),
            peek: true,
        };
        prop_assert_eq!(command.body, CommandBody::Fetch {
            sequence_set: SequenceSet::try_from(uids.to_string().as_str()).unwrap(),
            macro_or_item_names: MacroOrMessageDataItemNames::MessageDataItemNames(vec![
                MessageDataItemName::Uid,
                MessageDataItemName::Flags,
                body,
            ]),
            uid: true,
        });
    }
}

/// A line as it goes out.
fn octets(line: &Line, literals: Literals) -> Vec<u8> {
    let chunk = |chunk: Chunk| match chunk.octets {
        Octets::Text(text) => text.to_vec(),
        Octets::File(file, octets) => {
            let mut text = vec![0; octets as usize];
            std::os::unix::fs::FileExt::read_exact_at(&*file, &mut text, 0).unwrap();
            text
        }
    };
    line.encode("a1", literals).into_iter().flat_map(chunk).collect()
}

#[test]
fn commands_mean_the_same_to_both() {
    use MessageDataItemName as Item;
    let inbox = MailboxName::new(b"inbox");
    let reader = Dialect { read_only: true, ..Dialect::default() };
    let writer = Dialect::default();
    let fetch = Command::Fetch {
        uids: UidSet::range(5, 9),
        items: vec![FetchItem::InternalDate, FetchItem::Size, FetchItem::Envelope, FetchItem::BodyStructure],
        changed_since: None,
    };
    let status = vec![
        StatusDataItemName::Messages,
        StatusDataItemName::UidNext,
        StatusDataItemName::UidValidity,
        StatusDataItemName::Unseen,
    ];
    let everything = || ListMailbox::String(IString::try_from("*").unwrap());
    let none = || Mailbox::try_from("").unwrap();
    let list = CommandBody::List { reference: none(), mailbox_wildcard: everything() };
    let lsub = CommandBody::Lsub { reference: none(), mailbox_wildcard: everything() };
    let items = vec![Item::Uid, Item::InternalDate, Item::Rfc822Size, Item::Envelope, Item::BodyStructure];
    let cases: [(Command, &Dialect, Vec<CommandBody<'_>>); 7] = [
        (Command::Noop, &writer, vec![CommandBody::Noop]),
        (Command::List, &writer, vec![list, lsub]),
        (Command::Select, &writer, vec![CommandBody::select("INBOX").unwrap()]),
        (Command::Select, &reader, vec![CommandBody::examine("INBOX").unwrap()]),
        (
            Command::Status(inbox.clone()),
            &writer,
            vec![CommandBody::Status { mailbox: Mailbox::Inbox, item_names: status.into() }],
        ),
        (Command::SearchAll, &writer, vec![CommandBody::search(None, SearchKey::All.into(), true)]),
        (fetch, &writer, vec![CommandBody::fetch("5:9", items, true).unwrap()]),
    ];
    for (command, dialect, want) in cases {
        let lines = lines(&command, Some(&inbox), dialect).unwrap();
        let octets: Vec<_> = lines.iter().map(|line| octets(line, Literals::Wait)).collect();
        let read = |octets| match CommandCodec::new().decode(octets) {
            Ok((b"", command)) => command.body,
            other => panic!("{other:?}"),
        };
        assert_eq!(octets.iter().map(|octets| read(octets)).collect::<Vec<_>>(), want);
    }
}
