//! Extended attributes as text: their names, and their values from what is in memory.

use std::borrow::Cow;
use std::fmt::Write;

use super::date;
use super::entries::Content;
use super::safe;
use super::views::format_from;
use super::writable::{ACL, FLAGS, SUBSCRIBED, TAGS, format_acl, format_metadata, format_tags};
use crate::mail::envelope::Summary;
use crate::mail::part::Part;
use crate::mail::section::Section;
use crate::mail::uid::{Uid, UidValidity};

/// Names and values. An attribute without a value is not among them.
pub type Attributes = Vec<(Cow<'static, str>, String)>;

/// The mailbox that a message is in, as a URL names it.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Login name.
    pub user: &'a str,
    /// Host name or address literal.
    pub host: &'a str,
    /// TCP port; `None` for a usual one.
    pub port: Option<u16>,
    /// The mailbox's name, decoded, whole.
    pub mailbox: &'a str,
    /// Its UIDVALIDITY.
    pub uid_validity: Option<UidValidity>,
}

impl Origin<'_> {
    /// `imap://bob@example.org/INBOX;UIDVALIDITY=1/;UID=7/;SECTION=2` (RFC 5092 section 11). Without `uid` the URL of
    /// the mailbox, without `section` (or with that of the whole message) the URL of the message.
    pub fn url(&self, uid: Option<Uid>, section: Option<&Section>) -> String {
        // No pct-encoding is needed for these besides letters and digits; user names exclude `:`, `@` and `/`.
        const USER: &[u8] = b"-._~!$'()*+,&=";
        const MAILBOX: &[u8] = b"-._~!$'()*+,&=:@/";
        let mut url = String::from("imap://");
        push_encoded(&mut url, self.user, USER);
        url.push('@');
        if self.host.contains(':') {
            url.push('[');
            push_encoded(&mut url, self.host.trim_matches(['[', ']']), b":.%");
            url.push(']');
        } else {
            push_encoded(&mut url, self.host, b"-._~");
        }
        // Writing to a String cannot fail.
        if let Some(port) = self.port {
            let _ = write!(url, ":{port}");
        }
        url.push('/');
        push_encoded(&mut url, self.mailbox, MAILBOX);
        if let Some(UidValidity(validity)) = self.uid_validity {
            let _ = write!(url, ";UIDVALIDITY={validity}");
        }
        if let Some(uid) = uid {
            let _ = write!(url, "/;UID={uid}");
            if let Some(section) = section.filter(|section| **section != Section::message()) {
                let _ = write!(url, "/;SECTION={section}");
            }
        }
        url
    }
}

/// Letters, digits and what is in `plain` as they are, other octets as `%XX`.
fn push_encoded(out: &mut String, text: &str, plain: &[u8]) {
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || plain.contains(&octet) {
            out.push(char::from(octet));
        } else {
            let _ = write!(out, "%{octet:02X}");
        }
    }
}

/// The attributes of a message: of its directory, and of its files that are the message whole.
pub fn message_attributes(message: &Summary, origin: &Origin<'_>) -> Attributes {
    let optional = |text: &str| Some(safe::line(text)).filter(|text| !text.is_empty());
    let texts = message.texts();
    present([
        (FLAGS, Some(safe::line(&message.flags.to_string()))),
        ("user.imap.uid", Some(message.uid.to_string())),
        ("user.imap.uidvalidity", origin.uid_validity.map(|validity| validity.0.to_string())),
        ("user.imap.modseq", Some(message.modseq).filter(|modseq| *modseq > 0).map(|modseq| modseq.to_string())),
        ("user.imap.internaldate", Some(date::rfc3339(message.internal_date))),
        ("user.imap.size", Some(message.size.to_string())),
        ("user.imap.emailid", optional(texts.email_id)),
        ("user.imap.threadid", optional(texts.thread_id)),
        (TAGS, Some(format_tags(&message.flags))),
        ("user.xdg.origin.url", Some(origin.url(Some(message.uid), None))),
        ("user.xdg.origin.email.subject", optional(texts.subject)),
        ("user.xdg.origin.email.from", optional(&format_from(message))),
        ("user.xdg.origin.email.sender", optional(texts.sender_address)),
        ("user.xdg.origin.email.message-id", optional(texts.message_id)),
    ])
}

/// What an entry of a message has of its own: type and charset of the bytes that a reader gets, where they are, and
/// for a part the name that the sender gave, as it was sent but for control characters. `part` is the part that the
/// entry is made of (`entries::part`).
pub fn part_attributes(content: &Content, part: Option<&Part>, uid: Uid, origin: &Origin<'_>) -> Attributes {
    let utf8 = || Some("utf-8".to_owned());
    let (mime_type, charset) = match content {
        Content::Directory => (None, None),
        Content::Headers(_) => (Some("text/plain".into()), utf8()),
        Content::Raw(_) => (Some("message/rfc822".into()), None),
        Content::Text { html, .. } => (Some(if *html { "text/html" } else { "text/plain" }.into()), utf8()),
        Content::File { .. } => (part.map(|part| safe::line(&part.mime_type())), part.and_then(Part::charset)),
    };
    // A header or a message is not what the part is called, nor a directory.
    let leaf = part.filter(|_| matches!(content, Content::Text { .. } | Content::File { .. }));
    let section = content.section().filter(|section| **section != Section::message());
    present([
        ("user.mime_type", mime_type),
        ("user.charset", charset.map(|charset| safe::line(&charset))),
        ("user.imap.section", section.map(ToString::to_string)),
        ("user.imap.content-id", leaf.map(|part| safe::line(&part.content_id)).filter(|id| !id.is_empty())),
        ("user.imap.filename", leaf.and_then(Part::filename).map(|name| safe::line(&name))),
        ("user.xdg.origin.url", Some(origin.url(Some(uid), section))),
    ])
}

/// What is known of a mailbox; `None` is shown as no attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are the attributes of these names
pub struct MailboxInfo {
    /// The name, decoded, whole.
    pub mailbox: Option<String>,
    /// `\Sent` and so on.
    pub special_use: Option<String>,
    pub messages: Option<u64>,
    pub unseen: Option<u64>,
    pub uid_next: Option<u64>,
    pub uid_validity: Option<UidValidity>,
    pub highest_modseq: Option<u64>,
    pub subscribed: Option<bool>,
    /// MYRIGHTS, RFC 4314.
    pub rights: Option<String>,
    /// Identifiers and their rights, RFC 4314.
    pub acl: Option<Vec<(String, String)>>,
    /// Resources, used and limit; STORAGE in units of 1024 octets, RFC 9208.
    pub quota: Option<Vec<(String, u64, u64)>>,
    /// How many mailboxes are in it; `None` for none.
    pub children: Option<u64>,
    /// Entries and their values, RFC 5464.
    pub metadata: Vec<(String, String)>,
}

/// The attributes of a mailbox. `subscribed` is `1` or `0`; `acl` is that of [`format_acl`], `quota` is
/// `STORAGE=used/limit`, parted by spaces.
pub fn mailbox_attributes(info: &MailboxInfo) -> Attributes {
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let text = |text: &Option<String>| text.as_deref().map(safe::line);
    let quota = |(resource, used, limit): &(String, u64, u64)| safe::line(&format!("{resource}={used}/{limit}"));
    let mut all = present([
        ("user.imap.mailbox", text(&info.mailbox)),
        ("user.imap.special-use", text(&info.special_use)),
        ("user.imap.children", number(info.children)),
        ("user.imap.messages", number(info.messages)),
        ("user.imap.unseen", number(info.unseen)),
        ("user.imap.uidnext", number(info.uid_next)),
        ("user.imap.uidvalidity", info.uid_validity.map(|validity| validity.0.to_string())),
        ("user.imap.highestmodseq", number(info.highest_modseq)),
        (SUBSCRIBED, info.subscribed.map(|yes| u8::from(yes).to_string())),
        ("user.imap.rights", text(&info.rights)),
        (ACL, info.acl.as_deref().map(format_acl)),
        ("user.imap.quota", info.quota.as_ref().map(|rows| rows.iter().map(quota).collect::<Vec<_>>().join(" "))),
    ]);
    all.extend(info.metadata.iter().map(|(entry, value)| (format_metadata(entry).into(), value.clone())));
    all
}

fn present<const N: usize>(attributes: [(&'static str, Option<String>); N]) -> Attributes {
    attributes.into_iter().filter_map(|(name, value)| Some((name.into(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope::{Head, Texts};
    use crate::mail::flag::Flags;
    use crate::mail::part::{Body, Encoding};

    const ORIGIN: Origin<'_> = Origin {
        user: "bob",
        host: "mail.example.org",
        port: None,
        mailbox: "INBOX",
        uid_validity: Some(UidValidity(42)),
    };

    fn uid() -> Uid {
        Uid::new(7).unwrap()
    }

    fn show(attributes: &Attributes) -> Vec<String> {
        attributes.iter().map(|(name, value)| format!("{}={value}", name.strip_prefix("user.").unwrap())).collect()
    }

    #[test]
    fn urls_are_those_of_rfc_5092() {
        fn check(origin: Origin<'_>, uid: Option<Uid>, section: Option<&str>, expected: &str) {
            let section = section.map(|section| Section::parse(section.as_bytes()).unwrap());
            assert_eq!(origin.url(uid, section.as_ref()), expected);
        }
        check(ORIGIN, None, None, "imap://bob@mail.example.org/INBOX;UIDVALIDITY=42");
        check(ORIGIN, Some(uid()), Some(""), "imap://bob@mail.example.org/INBOX;UIDVALIDITY=42/;UID=7");
        let odd = Origin {
            user: "bob@x;AUTH=*",
            host: "::1",
            port: Some(1143),
            mailbox: "Entwürfe/50% ;?#",
            uid_validity: None,
        };
        check(
            odd,
            Some(uid()),
            Some("2.MIME"),
            "imap://bob%40x%3BAUTH=*@[::1]:1143/Entw%C3%BCrfe/50%25%20%3B%3F%23/;UID=7/;SECTION=2.MIME",
        );
    }

    #[test]
    fn a_message_has_what_is_known_of_it_and_no_escapes() {
        let texts = Texts {
            subject: "a\nb\x1b",
            from_name: "Bob",
            from_address: "bob@example.org",
            message_id: "<1@example.org>",
            email_id: "M1",
            ..Texts::default()
        };
        let flags = Flags::from_wire([&b"\\Seen"[..]]);
        let message = Summary::pack(Head::new(uid(), 0, 99, flags, 5), &texts);
        assert_eq!(
            show(&message_attributes(&message, &ORIGIN)),
            [
                "imap.flags=\\Seen",
                "imap.uid=7",
                "imap.uidvalidity=42",
                "imap.modseq=5",
                "imap.internaldate=1970-01-01T00:00:00Z",
                "imap.size=99",
                "imap.emailid=M1",
                "xdg.tags=",
                "xdg.origin.url=imap://bob@mail.example.org/INBOX;UIDVALIDITY=42/;UID=7",
                "xdg.origin.email.subject=a b",
                "xdg.origin.email.from=Bob <bob@example.org>",
                "xdg.origin.email.message-id=<1@example.org>",
            ]
        );
    }

    #[test]
    fn a_part_tells_what_its_bytes_are() {
        let part = Part {
            path: [2].into(),
            media: "text".into(),
            subtype: "plain".into(),
            params: vec![("charset".into(), b"KOI8-R".to_vec()), ("name".into(), b"../x.txt".to_vec())],
            disposition: None,
            content_id: "<c@x>".into(),
            encoding: Encoding::Base64,
            octets: 10,
            body: Body::Leaf,
        };
        let url = "xdg.origin.url=imap://bob@mail.example.org/INBOX;UIDVALIDITY=42/;UID=7";
        let section = Section::part(&part.path);
        let own = format!("{url}/;SECTION=2");
        let file = Content::File { section: section.clone(), encoding: Encoding::Base64, octets: 10 };
        let rest = ["imap.section=2", "imap.content-id=<c@x>", "imap.filename=../x.txt", &own];
        let attributes = show(&part_attributes(&file, Some(&part), uid(), &ORIGIN));
        assert_eq!(attributes, [&["mime_type=text/plain", "charset=koi8-r"], &rest[..]].concat());
        let text = Content::Text { section, encoding: Encoding::Base64, charset: None, html: false, octets: 10 };
        let attributes = show(&part_attributes(&text, Some(&part), uid(), &ORIGIN));
        assert_eq!(attributes, [&["mime_type=text/plain", "charset=utf-8"], &rest[..]].concat());
        let raw = Content::Raw(Section::message());
        assert_eq!(show(&part_attributes(&raw, None, uid(), &ORIGIN)), ["mime_type=message/rfc822", url]);
    }

    #[test]
    fn a_mailbox_has_only_what_is_known() {
        assert_eq!(mailbox_attributes(&MailboxInfo::default()), []);
        let info = MailboxInfo {
            mailbox: Some("INBOX\t1".into()),
            messages: Some(0),
            subscribed: Some(true),
            acl: Some(vec![("bob".into(), "lrs".into()), ("anyone".into(), "l".into())]),
            quota: Some(vec![("STORAGE".into(), 10, 512)]),
            ..MailboxInfo::default()
        };
        let expected = [
            "imap.mailbox=INBOX 1",
            "imap.messages=0",
            "imap.subscribed=1",
            "imap.acl=bob=lrs anyone=l",
            "imap.quota=STORAGE=10/512",
        ];
        assert_eq!(show(&mailbox_attributes(&info)), expected);
    }
}
