//! Responses in a short form, so that a table of them can be read: what is absent is not shown.

use std::fmt::Write as _;

use imapfs::imap::response::{BodyRow, Code, Data, FetchRow, Response, Status};
use imapfs::mail::envelope::{Address, Envelope};
use imapfs::mail::header::Params;
use imapfs::mail::part::{Body, Encoding, Part};

pub fn show(response: &Response) -> String {
    match response {
        Response::Continue(text) => format!("continue {}", quote(text)),
        Response::Tagged { tag, status, code, text } => {
            format!("tagged {} {}", String::from_utf8_lossy(tag), outcome(*status, code, text))
        }
        Response::Untagged(data) => show_data(data),
    }
}

fn show_data(data: &Data) -> String {
    match data {
        Data::Status(status, code, text) => outcome(*status, code, text),
        Data::Capability(words) => format!("capability [{}]", words.join(" ")),
        Data::Enabled(words) => format!("enabled [{}]", words.join(" ")),
        Data::List(row) => {
            let verb = if row.lsub { "lsub" } else { "list" };
            let delimiter = row.delimiter.map_or("NIL".into(), |d| quote(&[d]));
            format!("{verb} ({}) {delimiter} {}", row.attributes.join(" "), quote(row.name.as_bytes()))
        }
        Data::MailboxStatus(name, items) => {
            let fields = [
                number("messages", items.messages),
                number("uidnext", items.uid_next),
                number("uidvalidity", items.uid_validity.map(|v| v.0.into())),
                number("unseen", items.unseen),
                number("highestmodseq", items.highest_modseq),
                text("mailboxid", items.mailbox_id.as_deref()),
                number("size", items.size),
            ];
            format!("status {}{}", quote(name.as_bytes()), fields.concat())
        }
        Data::Namespace(namespaces) => {
            let one = |(prefix, delimiter): &(Vec<u8>, Option<u8>)| {
                format!("({} {})", quote(prefix), delimiter.map_or("NIL".into(), |d| quote(&[d])))
            };
            let all = namespaces.iter().map(|list| format!(" [{}]", list.iter().map(one).collect::<String>()));
            format!("namespace{}", all.collect::<String>())
        }
        Data::Search(result) => {
            let fields = [
                text("tag", result.tag.as_deref()),
                if result.uid { " uid".into() } else { String::new() },
                number("min", result.min),
                number("max", result.max),
                number("count", result.count),
                number("modseq", result.modseq),
            ];
            format!("search [{}]{}", result.all, fields.concat())
        }
        Data::Flags(flags) => format!("flags ({flags})"),
        Data::Exists(n) => format!("{n} exists"),
        Data::Recent(n) => format!("{n} recent"),
        Data::Expunge(n) => format!("{n} expunge"),
        Data::Vanished(earlier, set) => format!("vanished{} [{set}]", if *earlier { " earlier" } else { "" }),
        Data::Fetch(row) => fetch(row),
        Data::Id(pairs) => format!("id{}", pairs.iter().map(|(k, v)| pair(k, v.as_deref())).collect::<String>()),
        Data::Quota(root, resources) => {
            let resources = resources.iter().map(|(name, used, limit)| format!(" {name} {used}/{limit}"));
            format!("quota {}{}", quote(root), resources.collect::<String>())
        }
        Data::QuotaRoot(name, roots) => {
            format!(
                "quotaroot {}{}",
                quote(name.as_bytes()),
                roots.iter().map(|r| format!(" {}", quote(r))).collect::<String>()
            )
        }
        Data::MyRights(name, rights) => format!("myrights {} {rights}", quote(name.as_bytes())),
        Data::Acl(name, entries) => {
            let entries = entries.iter().map(|(who, rights)| format!(" {}={rights}", quote(who)));
            format!("acl {}{}", quote(name.as_bytes()), entries.collect::<String>())
        }
        Data::Metadata(name, pairs) => {
            let pairs = pairs.iter().map(|(k, v)| pair(k, v.as_deref()));
            format!("metadata {}{}", quote(name), pairs.collect::<String>())
        }
        Data::Other(keyword) => format!("other {}", quote(keyword.as_bytes())),
    }
}

fn outcome(status: Status, code: &Option<Code>, text: &[u8]) -> String {
    let code = match code {
        None => String::new(),
        Some(Code::AppendUid(validity, set)) => format!(" [AppendUid {} {set}]", validity.0),
        Some(Code::CopyUid(validity, from, to)) => format!(" [CopyUid {} {from} {to}]", validity.0),
        Some(Code::Modified(set)) => format!(" [Modified {set}]"),
        Some(Code::MailboxId(id)) => format!(" [MailboxId {}]", quote(id)),
        Some(Code::PermanentFlags(flags)) => format!(" [PermanentFlags ({flags})]"),
        Some(Code::Capability(words)) => format!(" [Capability {}]", words.join(" ")),
        Some(Code::Other(text)) => format!(" [other {}]", quote(text)),
        Some(code) => format!(" [{code:?}]"),
    };
    format!("{status:?}{code} {}", quote(text))
}

fn fetch(row: &FetchRow) -> String {
    let mut out = format!("fetch {}", row.number);
    out += &number("uid", row.uid.map(|uid| uid.get().into()));
    if let Some(flags) = &row.flags {
        let _ = write!(out, " flags=({flags})");
    }
    out += &number("modseq", row.modseq);
    if let Some(date) = row.internal_date {
        let _ = write!(out, " date={date}");
    }
    out += &number("size", row.size);
    if let Some(envelope) = &row.envelope {
        let _ = write!(out, " envelope({})", show_envelope(envelope));
    }
    if let Some(part) = &row.structure {
        let _ = write!(out, " {}", show_part(part));
    }
    out += if row.odd_structure { " odd" } else { "" };
    out.extend(row.bodies.iter().map(show_body));
    out += &text("emailid", row.email_id.as_deref());
    out += &text("threadid", row.thread_id.as_deref());
    out
}

fn show_body(body: &BodyRow) -> String {
    let section = body.section.as_ref().map_or("?".into(), ToString::to_string);
    let origin = body.origin.map_or(String::new(), |origin| format!("<{origin}>"));
    format!(" body[{section}]{origin}={}", body.data.as_ref().map_or("NIL".into(), |data| quote(data)))
}

fn show_envelope(envelope: &Envelope) -> String {
    let list = |name: &str, list: &[Address]| match list {
        [] => String::new(),
        _ => format!(" {name}=[{}]", list.iter().map(address).collect::<Vec<_>>().join(", ")),
    };
    let fields = [
        text("date", envelope.date.as_deref()),
        text("subject", envelope.subject.as_deref()),
        list("from", &envelope.from),
        list("sender", &envelope.sender),
        list("reply-to", &envelope.reply_to),
        list("to", &envelope.to),
        list("cc", &envelope.cc),
        list("bcc", &envelope.bcc),
        text("in-reply-to", envelope.in_reply_to.as_deref()),
        text("message-id", envelope.message_id.as_deref()),
    ];
    fields.concat().trim_start().into()
}

fn address(address: &Address) -> String {
    match &address.name {
        Some(name) => format!("{} {}", quote(name), address.spec()),
        None => address.spec(),
    }
}

pub fn show_part(part: &Part) -> String {
    let path: Vec<_> = part.path.iter().map(ToString::to_string).collect();
    let mut out = format!("{}[{}]", part.mime_type(), path.join("."));
    out += &params(&part.params);
    if let Some((kind, list)) = &part.disposition {
        let _ = write!(out, " {kind}{}", params(list));
    }
    if !part.content_id.is_empty() {
        let _ = write!(out, " cid={}", part.content_id);
    }
    if part.encoding != Encoding::Identity {
        let _ = write!(out, " {:?}", part.encoding);
    }
    match &part.body {
        Body::Leaf => write!(out, " {}", part.octets),
        Body::Multipart(parts) => write!(out, " {{{}}}", parts.iter().map(show_part).collect::<Vec<_>>().join(", ")),
        Body::Message(inner) => write!(out, " {} message {{{}}}", part.octets, show_part(inner)),
    }
    .unwrap();
    out
}

fn params(params: &Params) -> String {
    params.iter().map(|(name, value)| format!(" {name}={}", quote(value))).collect()
}

fn number(name: &str, value: Option<u64>) -> String {
    value.map_or(String::new(), |value| format!(" {name}={value}"))
}

fn text(name: &str, value: Option<&[u8]>) -> String {
    value.map_or(String::new(), |value| format!(" {name}={}", quote(value)))
}

fn pair(name: &str, value: Option<&[u8]>) -> String {
    format!(" {name}={}", value.map_or("NIL".into(), quote))
}

fn quote(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}
