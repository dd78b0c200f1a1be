//! Responses of imap-codec in the terms of imapfs, and a generator of them.

use imap_codec::imap_types::body::{BodyStructure, Disposition, SpecificFields};
use imap_codec::imap_types::core::{IString, NString};
use imap_codec::imap_types::envelope::{Address as TheirAddress, Envelope as TheirEnvelope};
use imap_codec::imap_types::fetch::{MessageDataItem, Section as TheirSection};
use imap_codec::imap_types::flag::{FlagFetch, FlagNameAttribute};
use imap_codec::imap_types::mailbox::Mailbox;
use imap_codec::imap_types::response::Data as Theirs;
use imap_codec::imap_types::status::StatusDataItem;
use imapfs::imap::response::{BodyRow, Data, FetchRow, ListRow, SearchResult, StatusItems};
use imapfs::mail::envelope::{Address, Envelope};
use imapfs::mail::flag::Flags;
use imapfs::mail::header::Params;
use imapfs::mail::mailbox_name::MailboxName;
use imapfs::mail::part::{Body, Encoding, Part};
use imapfs::mail::section::{Section, Text};
use imapfs::mail::uid::{Uid, UidValidity};

/// The response in our terms; `None` for those that are compared elsewhere.
pub fn data(theirs: &Theirs<'_>) -> Option<Data> {
    Some(match theirs {
        Theirs::List { items, delimiter, mailbox } => list(false, items, delimiter.map(|d| d.inner()), mailbox),
        Theirs::Lsub { items, delimiter, mailbox } => list(true, items, delimiter.map(|d| d.inner()), mailbox),
        Theirs::Status { mailbox: name, items } => Data::MailboxStatus(mailbox(name), status(items)),
        Theirs::Search(numbers) => Data::Search(SearchResult {
            all: numbers.iter().filter_map(|n| Uid::new(n.get())).collect(),
            ..SearchResult::default()
        }),
        Theirs::Exists(n) => Data::Exists((*n).into()),
        Theirs::Recent(n) => Data::Recent((*n).into()),
        Theirs::Expunge(n) => Data::Expunge(n.get().into()),
        Theirs::Flags(flags) => Data::Flags(Flags::from_wire(words(flags).iter().map(String::as_bytes))),
        Theirs::Fetch { seq, items } => {
            let mut row = FetchRow { number: seq.get().into(), ..FetchRow::default() };
            items.as_ref().iter().for_each(|item| fetch_item(&mut row, item));
            Data::Fetch(Box::new(row))
        }
        _ => return None,
    })
}

pub fn mailbox(theirs: &Mailbox<'_>) -> MailboxName {
    match theirs {
        Mailbox::Inbox => MailboxName::new(b"INBOX"),
        Mailbox::Other(name) => MailboxName::new(name.as_ref()),
    }
}

fn words(list: &[impl ToString]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn list(lsub: bool, items: &[FlagNameAttribute<'_>], delimiter: Option<char>, name: &Mailbox<'_>) -> Data {
    let attributes = words(items).iter().map(|word| word.to_ascii_lowercase()).collect();
    Data::List(ListRow { lsub, attributes, delimiter: delimiter.map(|d| d as u8), name: mailbox(name) })
}

fn status(theirs: &[StatusDataItem]) -> StatusItems {
    let mut items = StatusItems::default();
    for item in theirs {
        match item {
            StatusDataItem::Messages(n) => items.messages = Some((*n).into()),
            StatusDataItem::UidNext(n) => items.uid_next = Some(n.get().into()),
            StatusDataItem::UidValidity(n) => items.uid_validity = Some(UidValidity(n.get())),
            StatusDataItem::Unseen(n) => items.unseen = Some((*n).into()),
            _ => {}
        }
    }
    items
}

fn fetch_item(row: &mut FetchRow, item: &MessageDataItem<'_>) {
    match item {
        MessageDataItem::Uid(uid) => row.uid = Uid::new(uid.get()),
        MessageDataItem::Flags(flags) => {
            let name = |flag: &FlagFetch<'_>| match flag {
                FlagFetch::Flag(flag) => flag.to_string(),
                FlagFetch::Recent => "\\Recent".into(),
            };
            let names: Vec<String> = flags.iter().map(name).collect();
            row.flags = Some(Flags::from_wire(names.iter().map(String::as_bytes)));
        }
        MessageDataItem::InternalDate(date) => row.internal_date = Some(date.as_ref().timestamp()),
        MessageDataItem::Rfc822Size(size) => row.size = Some((*size).into()),
        MessageDataItem::Envelope(theirs) => row.envelope = Some(envelope(theirs)),
        MessageDataItem::Body(structure) | MessageDataItem::BodyStructure(structure) => {
            row.structure = Some(part(structure, &[], true));
        }
        MessageDataItem::BodyExt { section: theirs, origin, data } => {
            row.bodies.push(body(section(theirs), origin.map(u64::from), data));
        }
        MessageDataItem::Rfc822(data) => row.bodies.push(body(Some(Section::message()), None, data)),
        MessageDataItem::Rfc822Header(data) => row.bodies.push(body(Some(Section::header()), None, data)),
        MessageDataItem::Rfc822Text(data) => {
            row.bodies.push(body(Some(Section { path: Box::default(), text: Text::Text }), None, data));
        }
        _ => {}
    }
}

fn body(section: Option<Section>, origin: Option<u64>, data: &NString<'_>) -> BodyRow {
    BodyRow { section, origin, data: data.clone().into_option().map(|data| data.into_owned().into()) }
}

fn section(theirs: &Option<TheirSection<'_>>) -> Option<Section> {
    let at = |part: Option<&imap_codec::imap_types::fetch::Part>, text| {
        let path = part.map_or(Vec::new(), |part| part.0.as_ref().iter().map(|n| n.get()).collect());
        Some(Section { path: path.into(), text })
    };
    match theirs {
        None => at(None, Text::Body),
        Some(TheirSection::Part(part)) => at(Some(part), Text::Body),
        Some(TheirSection::Header(part)) => at(part.as_ref(), Text::Header),
        Some(TheirSection::Text(part)) => at(part.as_ref(), Text::Text),
        Some(TheirSection::Mime(part)) => at(Some(part), Text::Mime),
        Some(TheirSection::HeaderFields(..) | TheirSection::HeaderFieldsNot(..)) => None,
    }
}

fn bytes(text: &NString<'_>) -> Option<Vec<u8>> {
    text.clone().into_option().map(|text| text.into_owned())
}

fn envelope(theirs: &TheirEnvelope<'_>) -> Envelope {
    let list = |list: &[TheirAddress<'_>]| {
        let one =
            |a: &TheirAddress<'_>| Address { name: bytes(&a.name), mailbox: bytes(&a.mailbox), host: bytes(&a.host) };
        list.iter().map(one).filter(|address| *address != Address::default()).collect()
    };
    Envelope {
        date: bytes(&theirs.date),
        subject: bytes(&theirs.subject),
        from: list(&theirs.from),
        sender: list(&theirs.sender),
        reply_to: list(&theirs.reply_to),
        to: list(&theirs.to),
        cc: list(&theirs.cc),
        bcc: list(&theirs.bcc),
        in_reply_to: bytes(&theirs.in_reply_to),
        message_id: bytes(&theirs.message_id),
    }
}

fn lower(text: &IString<'_>) -> Box<str> {
    String::from_utf8_lossy(text.as_ref()).to_ascii_lowercase().into()
}

fn params(list: &[(IString<'_>, IString<'_>)]) -> Params {
    list.iter().map(|(name, value)| (lower(name), value.as_ref().to_vec())).collect()
}

fn disposition(theirs: Option<&Disposition<'_>>) -> Option<(Box<str>, Params)> {
    let (kind, list) = theirs?.disposition.as_ref()?;
    (!kind.as_ref().is_empty()).then(|| (lower(kind), params(list)))
}

/// RFC 9051 section 6.4.5.1: a part that is no multipart is part 1 of the message it is the root of.
fn part(theirs: &BodyStructure<'_>, path: &[u32], root: bool) -> Part {
    match theirs {
        BodyStructure::Multi { bodies, subtype, extension_data } => Part {
            path: path.into(),
            media: "multipart".into(),
            subtype: lower(subtype),
            params: extension_data.as_ref().map_or(Params::new(), |data| params(&data.parameter_list)),
            disposition: disposition(extension_data.as_ref().and_then(|data| data.tail.as_ref())),
            content_id: Box::default(),
            encoding: Encoding::Identity,
            octets: 0,
            body: Body::Multipart(
                (1..).zip(bodies.as_ref()).map(|(n, inner)| part(inner, &[path, &[n]].concat(), false)).collect(),
            ),
        },
        BodyStructure::Single { body, extension_data } => {
            let path = if root { [path, &[1]].concat() } else { path.to_vec() };
            let encoding = Encoding::parse(body.basic.content_transfer_encoding.as_ref());
            let (media, subtype, inner) = match &body.specific {
                SpecificFields::Basic { r#type, subtype } => (lower(r#type), lower(subtype), Body::Leaf),
                SpecificFields::Text { subtype, .. } => ("text".into(), lower(subtype), Body::Leaf),
                SpecificFields::Message { body_structure, .. } if encoding == Encoding::Identity => {
                    ("message".into(), "rfc822".into(), Body::Message(Box::new(part(body_structure, &path, true))))
                }
                SpecificFields::Message { .. } => ("message".into(), "rfc822".into(), Body::Leaf),
            };
            Part {
                path: path.into(),
                media,
                subtype,
                params: params(&body.basic.parameter_list),
                disposition: disposition(extension_data.as_ref().and_then(|data| data.tail.as_ref())),
                content_id: String::from_utf8_lossy(&bytes(&body.basic.id).unwrap_or_default()).into(),
                encoding,
                octets: body.basic.size.into(),
                body: inner,
            }
        }
    }
}

pub mod strategies {
    //! Responses that imap-codec can write.

    use std::num::NonZeroU32;

    use imap_codec::imap_types::body::{
        BasicFields, Body, BodyStructure, Disposition, Language, Location, MultiPartExtensionData,
        SinglePartExtensionData, SpecificFields,
    };
    use imap_codec::imap_types::core::{IString, NString, QuotedChar, Vec1};
    use imap_codec::imap_types::envelope::{Address, Envelope};
    use imap_codec::imap_types::fetch::MessageDataItem;
    use imap_codec::imap_types::flag::Flag;
    use imap_codec::imap_types::response::Data;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    fn string() -> impl Strategy<Value = IString<'static>> {
        prop_oneof!["[ -~]{0,12}".prop_map(String::into_bytes), vec(1u8.., 0..12)]
            .prop_map(|octets| IString::try_from(octets).unwrap())
    }

    fn word() -> impl Strategy<Value = IString<'static>> {
        "[A-Za-z][a-z]{2,8}".prop_map(|word| IString::try_from(word).unwrap())
    }

    fn nstring() -> impl Strategy<Value = NString<'static>> {
        option::of(string()).prop_map(NString)
    }

    fn params() -> impl Strategy<Value = Vec<(IString<'static>, IString<'static>)>> {
        vec((string(), string()), 0..3)
    }

    fn addresses() -> impl Strategy<Value = Vec<Address<'static>>> {
        let address = (nstring(), nstring(), nstring(), nstring());
        vec(address.prop_map(|(name, adl, mailbox, host)| Address { name, adl, mailbox, host }), 0..3)
    }

    fn envelope() -> impl Strategy<Value = Envelope<'static>> {
        let lists = (addresses(), addresses(), addresses(), addresses(), addresses(), addresses());
        (nstring(), nstring(), lists, nstring(), nstring()).prop_map(
            |(date, subject, (from, sender, reply_to, to, cc, bcc), in_reply_to, message_id)| Envelope {
                date,
                subject,
                from,
                sender,
                reply_to,
                to,
                cc,
                bcc,
                in_reply_to,
                message_id,
            },
        )
    }

    /// Disposition, language and location, each of which may end the structure.
    fn tail() -> impl Strategy<Value = Option<Disposition<'static>>> {
        let location = nstring().prop_map(|location| Location { location, extensions: vec![] });
        let language =
            (vec(word(), 0..3), option::of(location)).prop_map(|(language, tail)| Language { language, tail });
        option::of(
            (option::of((word(), params())), option::of(language))
                .prop_map(|(disposition, tail)| Disposition { disposition, tail }),
        )
    }

    fn basic() -> impl Strategy<Value = BasicFields<'static>> {
        let encoding = prop::sample::select(vec!["7BIT", "8bit", "base64", "Quoted-Printable", "x-uuencode", "x"]);
        (params(), nstring(), nstring(), encoding, any::<u32>()).prop_map(
            |(parameter_list, id, description, encoding, size)| BasicFields {
                parameter_list,
                id,
                description,
                content_transfer_encoding: IString::try_from(encoding).unwrap(),
                size,
            },
        )
    }

    fn single(
        specific: impl Strategy<Value = SpecificFields<'static>>,
    ) -> impl Strategy<Value = BodyStructure<'static>> {
        let extension = (nstring(), tail()).prop_map(|(md5, tail)| SinglePartExtensionData { md5, tail });
        (basic(), specific, option::of(extension)).prop_map(|(basic, specific, extension_data)| BodyStructure::Single {
            body: Body { basic, specific },
            extension_data,
        })
    }

    fn structure() -> impl Strategy<Value = BodyStructure<'static>> {
        let media = prop::sample::select(vec!["image", "APPLICATION", "x-foo", "audio"]);
        let leaf = prop_oneof![
            (word(), any::<u32>())
                .prop_map(|(subtype, number_of_lines)| SpecificFields::Text { subtype, number_of_lines }),
            (media, word()).prop_map(|(media, subtype)| SpecificFields::Basic {
                r#type: IString::try_from(media).unwrap(),
                subtype
            }),
        ];
        single(leaf).prop_recursive(3, 12, 4, |inner| {
            let message = (envelope(), inner.clone(), any::<u32>()).prop_map(|(envelope, inner, number_of_lines)| {
                SpecificFields::Message {
                    envelope: Box::new(envelope),
                    body_structure: Box::new(inner),
                    number_of_lines,
                }
            });
            let extension =
                (params(), tail()).prop_map(|(parameter_list, tail)| MultiPartExtensionData { parameter_list, tail });
            prop_oneof![
                single(message),
                (vec(inner, 1..4), word(), option::of(extension)).prop_map(|(bodies, subtype, extension_data)| {
                    BodyStructure::Multi { bodies: Vec1::try_from(bodies).unwrap(), subtype, extension_data }
                }),
            ]
        })
    }

    fn item() -> impl Strategy<Value = MessageDataItem<'static>> {
        let flag = prop::sample::select(vec!["\\Seen", "\\Deleted", "$Forwarded", "NonJunk"]);
        let flags = vec(flag.prop_map(|flag| Flag::try_from(flag).unwrap().into()), 0..4);
        prop_oneof![
            (1u32..).prop_map(|uid| MessageDataItem::Uid(NonZeroU32::new(uid).unwrap())),
            any::<u32>().prop_map(MessageDataItem::Rfc822Size),
            flags.prop_map(MessageDataItem::Flags),
            envelope().prop_map(MessageDataItem::Envelope),
            structure().prop_map(MessageDataItem::BodyStructure),
            (option::of(any::<u32>()), nstring()).prop_map(|(origin, data)| MessageDataItem::BodyExt {
                section: None,
                origin,
                data
            }),
        ]
    }

    pub fn response() -> impl Strategy<Value = Data<'static>> {
        let number = || (1u32..).prop_map(|n| NonZeroU32::new(n).unwrap());
        let delimiter = prop::sample::select(vec![None, Some('/'), Some('.'), Some('\\'), Some('"')]);
        prop_oneof![
            8 => (number(), vec(item(), 1..5))
                .prop_map(|(seq, items)| Data::Fetch { seq, items: Vec1::try_from(items).unwrap() }),
            1 => (delimiter, vec(1u8.., 1..12)).prop_map(|(delimiter, name)| Data::List {
                items: vec![],
                delimiter: delimiter.map(|d| QuotedChar::try_from(d).unwrap()),
                mailbox: name.try_into().unwrap(),
            }),
            1 => vec(number(), 0..20).prop_map(Data::Search),
        ]
    }
}
