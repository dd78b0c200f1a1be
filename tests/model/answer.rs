//! What the model answers to each command, true or false.

use bytes::Bytes;
use imapfs::error::{Error, Result};
use imapfs::imap::response::{BodyRow, Data, FetchRow, ListRow, SearchResult, Selected, StatusItems};
use imapfs::imap::{Command, Done, FetchItem, Request, Target};
use imapfs::mail::flag::Flags;
use imapfs::mail::mailbox_name::MailboxName;
use imapfs::mail::part::{Body, Encoding, Part};
use imapfs::mail::section::{PartPath, Section, Text};
use imapfs::mail::uid::{Uid, UidSet, UidValidity};

use super::lies::{Bodies, Expunged, Lies, Ranges, Rows, Structure};
use super::message::Message;
use super::server::{Mailbox, State};

type Answered = (Vec<Data>, Result<Done>);

impl State {
    /// The rows of an answer, and how it ends.
    pub fn answer(&self, request: &Request) -> Answered {
        let mut done = Done::default();
        let selected = match &request.target {
            Target::Account => None,
            Target::Mailbox { name, validity } => {
                let Some(mailbox) = self.find(name) else { return (Vec::new(), Err(Error::NotFound)) };
                if self.denied.iter().any(|denied| denied.as_bytes() == name.as_bytes()) {
                    return (Vec::new(), Err(Error::Denied("no right to read it".into())));
                }
                if validity.is_some_and(|wanted| wanted.0 != mailbox.validity) {
                    return (Vec::new(), Err(Error::Stale));
                }
                done.selected = Some(self.select(mailbox));
                Some(mailbox)
            }
        };
        let rows = match (&request.command, selected) {
            (Command::Noop | Command::Select, _) => Ok(Vec::new()),
            (Command::List, _) => Ok(self.list()),
            (Command::Status(name), _) => match self.find(name) {
                Some(mailbox) => Ok(vec![Data::MailboxStatus(name.clone(), self.status(mailbox))]),
                None => Err(Error::NotFound),
            },
            (Command::Search { uids, message_id }, Some(mailbox)) => {
                Ok(vec![self.search_some(mailbox, uids, message_id.as_deref())])
            }
            (Command::GetAcl(name), _) => Ok(vec![Data::Acl(name.clone(), self.acl.clone())]),
            (Command::SearchAll, Some(mailbox)) => Ok(vec![self.search(mailbox)]),
            (Command::Fetch { uids, items, changed_since }, Some(mailbox)) => {
                self.fetch(mailbox, uids, items, *changed_since)
            }
            _ => Err(Error::Unsupported("not in this model".into())),
        };
        match rows {
            Ok(rows) => (rows, Ok(done)),
            Err(error) => (Vec::new(), Err(error)),
        }
    }

    pub fn find(&self, name: &MailboxName) -> Option<&Mailbox> {
        self.mailboxes.get(std::str::from_utf8(name.as_bytes()).ok()?)
    }

    fn uid_next(&self, mailbox: &Mailbox) -> Option<u64> {
        (!self.lies.no_uid_next).then_some(mailbox.uid_next.into())
    }

    fn modseq(&self, mailbox: &Mailbox) -> Option<u64> {
        self.condstore.then_some(mailbox.modseq)
    }

    pub fn select(&self, mailbox: &Mailbox) -> Selected {
        Selected {
            exists: mailbox.messages.len() as u64 + self.lies.extra_exists,
            uid_next: self.uid_next(mailbox),
            uid_validity: Some(UidValidity(mailbox.validity)),
            highest_modseq: self.modseq(mailbox),
            permanent_flags: self.permanent_flags(),
            ..Selected::default()
        }
    }

    fn permanent_flags(&self) -> Option<Flags> {
        let kept = self.habits.keeps.filter(|_| !self.habits.promises)?;
        Some(Flags::from_wire(kept.split(' ').map(str::as_bytes)))
    }

    fn status(&self, mailbox: &Mailbox) -> StatusItems {
        StatusItems {
            messages: Some(mailbox.messages.len() as u64 + self.lies.extra_exists),
            uid_next: self.uid_next(mailbox),
            uid_validity: Some(UidValidity(mailbox.validity)),
            unseen: Some(mailbox.messages.values().filter(|m| !m.flags.contains("\\Seen")).count() as u64),
            highest_modseq: self.modseq(mailbox),
            ..StatusItems::default()
        }
    }

    fn list(&self) -> Vec<Data> {
        let row = |(name, mailbox): (&String, &Mailbox)| {
            let name = MailboxName::new(name.as_bytes());
            Data::List(ListRow { lsub: false, attributes: mailbox.attributes.clone(), delimiter: Some(b'/'), name })
        };
        self.mailboxes.iter().map(row).collect()
    }

    fn search(&self, mailbox: &Mailbox) -> Data {
        let mut all: UidSet = mailbox.messages.keys().filter_map(|uid| Uid::new(*uid)).collect();
        if self.lies.extra_uids {
            all.insert_range(mailbox.uid_next + 3, mailbox.uid_next + 9);
        }
        Data::Search(SearchResult { uid: true, all, ..SearchResult::default() })
    }

    fn fetch(&self, mailbox: &Mailbox, uids: &UidSet, items: &[FetchItem], since: Option<u64>) -> Result<Vec<Data>> {
        let is_range = items.iter().any(|item| matches!(item, FetchItem::Body(_, Some(_))));
        if is_range && self.lies.ranges == Ranges::Refused {
            return Err(Error::protocol("BAD: ranges are not known here"));
        }
        let has_body = items.iter().any(|item| matches!(item, FetchItem::Body(..)));
        let is_batch = (2..1000).contains(&uids.len()) && (has_body || items.contains(&FetchItem::BodyStructure));
        let has_envelope = items.contains(&FetchItem::Envelope);
        let mut rows = Vec::new();
        let mut at = 0;
        for &(first, last) in uids.ranges() {
            for (uid, message) in mailbox.messages.range(first..=last) {
                at += 1;
                let left_out = has_body && self.lies.bodies == Bodies::NoRow
                    || self.lies.rows == Rows::Half && has_envelope && uids.len() > 1 && at % 2 == 0;
                if left_out || since.is_some_and(|since| message.modseq <= since) {
                    continue;
                }
                let lies = self.batch_lies.as_ref().filter(|(whose, _)| whose == uid && is_batch);
                rows.push(row(lies.map_or(&self.lies, |(_, lies)| lies), *uid, message, items, self.condstore));
            }
        }
        if (rows.is_empty() && uids.len() == 1 || is_batch) && self.lies.bodies != Bodies::NoRow {
            let gone = uids.iter().filter(|uid| !mailbox.messages.contains_key(&uid.get()));
            rows.extend(gone.filter_map(|uid| self.expunged(mailbox, uid.get(), items)));
        }
        match self.lies.rows {
            Rows::True | Rows::Half => {}
            Rows::Unasked => {
                for (uid, message) in mailbox.messages.iter().take(3) {
                    rows.insert(0, row(&self.lies, *uid, message, items, self.condstore));
                }
            }
            Rows::WithoutUid => {
                if let Some(message) = mailbox.messages.values().next() {
                    let mut row = row(&self.lies, 1, message, items, self.condstore);
                    row.uid = None;
                    rows.insert(0, row);
                }
            }
            Rows::Twice => {
                let flags = |row: &FetchRow| FetchRow { uid: row.uid, flags: row.flags.clone(), ..FetchRow::default() };
                rows = rows.into_iter().flat_map(|row| [flags(&row), row.clone(), flags(&row)]).collect();
            }
        }
        Ok(rows.into_iter().map(|row| Data::Fetch(Box::new(row))).collect())
    }

    /// What comes for a UID that is not there.
    fn expunged(&self, mailbox: &Mailbox, uid: u32, items: &[FetchItem]) -> Option<FetchRow> {
        let truth = Lies::default();
        match self.lies.expunged {
            Expunged::Nothing => None,
            Expunged::MadeUp => {
                let text = "From: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n\r\n\
                            This message is no longer available on the server.\r\n";
                Some(row(&truth, uid, &Message::new(text), items, self.condstore))
            }
            Expunged::Empty => Some(row(&truth, uid, &Message::new(""), items, self.condstore)),
            Expunged::Nil => {
                let nil = Lies { bodies: Bodies::Nil, structure: Structure::Missing, ..truth };
                let mut row = row(&nil, uid, &Message::new(""), items, self.condstore);
                (row.size, row.envelope) = (None, None);
                Some(row)
            }
            Expunged::LastMessage => {
                let (uid, message) = mailbox.messages.last_key_value()?;
                Some(row(&truth, *uid, message, items, self.condstore))
            }
        }
    }
}

fn row(lies: &Lies, uid: u32, message: &Message, items: &[FetchItem], condstore: bool) -> FetchRow {
    let mut row = FetchRow { number: 1, uid: Uid::new(uid), ..FetchRow::default() };
    for item in items {
        match item {
            FetchItem::Flags => row.flags = Some(message.flags.clone()),
            FetchItem::InternalDate => row.internal_date = Some(message.date),
            FetchItem::Size => row.size = Some((message.bytes.len() as u64).saturating_add_signed(lies.size)),
            FetchItem::Envelope => row.envelope = Some(message.envelope()),
            FetchItem::ModSeq => row.modseq = condstore.then_some(message.modseq),
            FetchItem::ObjectId => {}
            FetchItem::BodyStructure => structure(lies, message, &mut row),
            FetchItem::Body(section, range) => row.bodies.extend(body(lies, message, section, *range)),
        }
    }
    row
}

fn structure(lies: &Lies, message: &Message, row: &mut FetchRow) {
    let mut root = message.parsed().root.clone();
    for_each(&mut root, &mut |part| part.octets = lies.octets.of(part.octets));
    match lies.structure {
        Structure::True => {}
        Structure::Odd => return row.odd_structure = true,
        Structure::Missing => return,
        Structure::MultipartLeaf => root = leaf("multipart", "mixed", message),
    }
    row.structure = Some(root);
}

fn leaf(media: &str, subtype: &str, message: &Message) -> Part {
    Part {
        path: [1].into(),
        media: media.into(),
        subtype: subtype.into(),
        params: Vec::new(),
        disposition: None,
        content_id: "".into(),
        encoding: Encoding::Identity,
        octets: message.bytes.len() as u64 / 2,
        body: Body::Leaf,
    }
}

fn for_each(part: &mut Part, work: &mut impl FnMut(&mut Part)) {
    work(part);
    match &mut part.body {
        Body::Leaf => {}
        Body::Multipart(parts) => parts.iter_mut().for_each(|part| for_each(part, work)),
        Body::Message(inner) => for_each(inner, work),
    }
}

/// The true octets of a section.
fn section_octets(lies: &Lies, message: &Message, section: &Section) -> Option<Bytes> {
    let is_inside = |attached: &PartPath| {
        let is_below = section.path.len() > attached.len() || section.text == Text::Header;
        !attached.is_empty() && section.path.starts_with(attached) && is_below
    };
    if lies.inner_sections && message.parsed().headers.keys().any(is_inside) {
        return Some(Bytes::from_static(b"something else that is inside an attached message"));
    }
    message.place(section).map(|place| message.bytes.slice(place))
}

fn body(lies: &Lies, message: &Message, section: &Section, range: Option<(u64, u32)>) -> Option<BodyRow> {
    let origin = range.map(|(offset, _)| offset);
    let answer = |origin, data| Some(BodyRow { section: Some(section.clone()), origin, data });
    let Some(all) = section_octets(lies, message, section) else { return answer(origin, None) };
    let is_message = *section == Section::message();
    let all = match lies.bodies {
        Bodies::True | Bodies::NoRow => all,
        Bodies::Missing => return None,
        Bodies::Nil => return answer(origin, None),
        Bodies::Empty => return answer(origin, Some(Bytes::new())),
        Bodies::MessageShort if is_message => all.slice(..all.len() - all.len().min(2)),
        Bodies::MessageLong if is_message => [&all[..], b"\r\n"].concat().into(),
        Bodies::MessageShort | Bodies::MessageLong => all,
    };
    let Some((offset, count)) = range else { return answer(None, Some(all)) };
    let clip = |n: u64| usize::try_from(n).unwrap().min(all.len());
    let true_range = clip(offset)..clip(offset + u64::from(count));
    // A copy, as it comes over the wire: pieces are told apart by where in memory they are.
    let data = Bytes::copy_from_slice(&all[true_range.clone()]);
    let shorter = data.slice(..data.len().saturating_sub(1));
    match lies.ranges {
        Ranges::True | Ranges::Refused => answer(origin, Some(data)),
        Ranges::Whole => answer(origin, Some(all)),
        Ranges::WholeWithoutOrigin => answer(None, Some(all)),
        Ranges::FromStart => answer(origin, Some(all.slice(..data.len()))),
        Ranges::WrongOrigin => answer(Some(offset + 1), Some(data)),
        Ranges::NoOrigin => answer(None, Some(data)),
        Ranges::ShortAtEnd if true_range.end == all.len() => answer(origin, Some(shorter)),
        Ranges::ShortAtEnd => answer(origin, Some(data)),
        Ranges::Short => answer(origin, Some(shorter)),
        Ranges::Long => answer(origin, Some([&data[..], b"+"].concat().into())),
        Ranges::Empty => answer(origin, Some(Bytes::new())),
    }
}
