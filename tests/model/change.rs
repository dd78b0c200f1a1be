//! What the model does at commands that change mail, and how it may fail at them.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use imapfs::error::{Error, Result};
use imapfs::imap::request::Upload;
use imapfs::imap::response::{Code, Data, FetchRow, SearchResult};
use imapfs::imap::{Command, Done, Request, Target};
use imapfs::mail::flag::Flags;
use imapfs::mail::mailbox_name::MailboxName;
use imapfs::mail::uid::{Uid, UidSet, UidValidity};

use super::message::Message;
use super::server::{Mailbox, State};

/// How the model differs from a server that does everything.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// PERMANENTFLAGS, and what is kept of flags; `None` for everything.
    pub keeps: Option<&'static str>,
    /// PERMANENTFLAGS promises everything, whatever is kept.
    pub promises: bool,
    /// No COPYUID, no APPENDUID.
    pub no_codes: bool,
    /// MOVE and REPLACE are offered and not known.
    pub unknown_commands: bool,
    /// COPY, MOVE and APPEND are over quota.
    pub over_quota: bool,
    /// UID EXPUNGE is refused in this mailbox.
    pub no_expunge: Option<&'static str>,
    /// The first STORE with UNCHANGEDSINCE finds that another client was there just before, and set this.
    pub raced: Option<&'static str>,
    /// The connection has not heard of any message, until it looks again.
    pub deaf: bool,
    /// DELETE is refused once, as Cyrus does.
    pub delayed_delete: bool,
    /// Of an APPEND with several messages, one that holds this makes all be refused.
    pub poison: Option<&'static str>,
}

/// A change whose connection is lost: before anything was done, or after all was; commands that may be sent again
/// without harm are, by the engine, so that those end as not done.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The number of the change, from 0.
    pub at: usize,
    pub after: bool,
    /// Further commands that find no server.
    pub outage: usize,
}

/// Does the engine send it again by itself?
fn is_idempotent(command: &Command) -> bool {
    use Command::{Expunge, SetAcl, SetMetadata, Store, Subscribe};
    matches!(command, Store { .. } | Expunge(_) | Subscribe(..) | SetAcl(..) | SetMetadata(..))
}

impl State {
    /// Carries out a change; rows and end.
    pub fn change(&mut self, request: &Request) -> (Vec<Data>, Result<Done>) {
        let number = self.changes;
        self.changes += 1;
        let fault = self.fault.filter(|fault| fault.at == number);
        if let Some(fault) = fault {
            self.outage = fault.outage;
            let lost = match is_idempotent(&request.command) {
                true => Error::offline("connection lost"),
                false => Error::Uncertain("connection lost".into()),
            };
            if fault.after {
                let _ = self.carry_out(request);
            }
            return (Vec::new(), Err(lost));
        }
        match self.carry_out(request) {
            Ok((rows, code)) => {
                let selected = match &request.target {
                    Target::Mailbox { name, .. } => self.find(name).map(|mailbox| self.select(mailbox)),
                    Target::Account => None,
                };
                (rows, Ok(Done { code, selected }))
            }
            Err(error) => (Vec::new(), Err(error)),
        }
    }

    fn carry_out(&mut self, request: &Request) -> Result<(Vec<Data>, Option<Code>)> {
        let source = match &request.target {
            Target::Account => None,
            Target::Mailbox { name, validity } => {
                let mailbox = self.find(name).ok_or(Error::NotFound)?;
                if validity.is_some_and(|wanted| wanted.0 != mailbox.validity) {
                    return Err(Error::Stale);
                }
                Some(text(name))
            }
        };
        let is_of_messages = matches!(request.target, Target::Mailbox { .. });
        if self.habits.deaf && is_of_messages && !matches!(request.command, Command::Replace { .. }) {
            return Ok((Vec::new(), None));
        }
        let unknown = || Error::protocol("BAD: the server says: unknown command");
        let source = || source.clone().ok_or_else(unknown);
        let nothing = |()| (Vec::new(), None);
        match &request.command {
            Command::Store { uids, set, flags, unchanged_since } => {
                self.store(&source()?, uids, *set, flags, *unchanged_since)
            }
            Command::Expunge(uids) => self.expunge_uids(&source()?, uids).map(nothing),
            Command::Copy { uids, to } => Ok((Vec::new(), self.copy(&source()?, &text(to), uids)?)),
            Command::Move { .. } | Command::Replace { .. } if self.habits.unknown_commands => Err(unknown()),
            Command::Move { uids, to } => {
                let code = self.copy(&source()?, &text(to), uids)?;
                self.take_away(&source()?, uids, |_| true);
                Ok((Vec::new(), code))
            }
            Command::Append { to, messages } => Ok((Vec::new(), self.append_all(&text(to), messages)?)),
            Command::Replace { uid, message } => {
                let code = self.append_all(&source()?, std::slice::from_ref(message))?;
                self.take_away(&source()?, &UidSet::range(uid.get(), uid.get()), |_| true);
                Ok((Vec::new(), code))
            }
            Command::Create(name) if self.find(name).is_some() => Err(Error::Exists),
            Command::Create(name) => {
                self.make(&text(name));
                Ok(nothing(()))
            }
            Command::Delete(name) => self.delete_one(&text(name)).map(nothing),
            Command::Rename(old, new) => self.rename(&text(old), &text(new)).map(nothing),
            Command::Subscribe(name, subscribed) => {
                let mailbox = self.mailboxes.get_mut(&text(name)).ok_or(Error::NotFound)?;
                mailbox.attributes.retain(|a| a != "\\subscribed");
                mailbox.attributes.extend(subscribed.then(|| "\\subscribed".to_owned()));
                Ok(nothing(()))
            }
            Command::SetAcl(_, who, rights) => {
                self.acl.retain(|(of, _)| of != who);
                self.acl.extend(rights.clone().map(|rights| (who.clone(), rights)));
                Ok(nothing(()))
            }
            Command::SetMetadata(..) => Ok(nothing(())),
            _ => Err(unknown()),
        }
    }

    fn keeps(&self, flag: &str) -> bool {
        self.habits.keeps.is_none_or(|kept| kept.split(' ').any(|of| of.eq_ignore_ascii_case(flag)))
    }

    fn store(
        &mut self,
        name: &str,
        uids: &UidSet,
        set: bool,
        flags: &[Box<str>],
        since: Option<u64>,
    ) -> Result<(Vec<Data>, Option<Code>)> {
        let raced = since.and_then(|_| self.habits.raced.take());
        let kept: Vec<&str> = flags.iter().map(|flag| &**flag).filter(|flag| self.keeps(flag)).collect();
        let kept = Flags::from_wire(kept.into_iter().map(str::as_bytes));
        let mailbox = self.mailboxes.get_mut(name).ok_or(Error::NotFound)?;
        let (mut rows, mut modified) = (Vec::new(), UidSet::new());
        for (&uid, message) in mailbox.messages.iter_mut() {
            let Some(uid) = Uid::new(uid).filter(|uid| uids.contains(*uid)) else { continue };
            if let Some(raced) = raced {
                mailbox.modseq += 1;
                message.modseq = mailbox.modseq;
                message.flags = message.flags.with(&Flags::from_wire([raced.as_bytes()]));
            }
            if since.is_some_and(|since| message.modseq > since) {
                modified.insert(uid);
                continue;
            }
            mailbox.modseq += 1;
            message.modseq = mailbox.modseq;
            message.flags = if set { message.flags.with(&kept) } else { message.flags.without(&kept) };
            let modseq = self.condstore.then_some(message.modseq);
            let row = FetchRow { uid: Some(uid), flags: Some(message.flags.clone()), modseq, ..FetchRow::default() };
            rows.push(Data::Fetch(Box::new(row)));
        }
        Ok((rows, (!modified.is_empty()).then_some(Code::Modified(modified))))
    }

    fn expunge_uids(&mut self, name: &str, uids: &UidSet) -> Result<()> {
        if self.habits.no_expunge == Some(name) {
            return Err(Error::Denied("no right to expunge".into()));
        }
        self.take_away(name, uids, |message| message.flags.contains("\\Deleted"));
        Ok(())
    }

    fn take_away(&mut self, name: &str, uids: &UidSet, which: impl Fn(&Message) -> bool) {
        let Some(mailbox) = self.mailboxes.get_mut(name) else { return };
        mailbox.modseq += 1;
        mailbox
            .messages
            .retain(|uid, message| !(Uid::new(*uid).is_some_and(|uid| uids.contains(uid)) && which(message)));
    }

    fn copy(&mut self, from: &str, to: &str, uids: &UidSet) -> Result<Option<Code>> {
        if self.habits.over_quota {
            return Err(Error::Quota("over quota".into()));
        }
        let source = self.mailboxes.get(from).ok_or(Error::NotFound)?;
        let messages: Vec<(Uid, Message)> = source
            .messages
            .iter()
            .filter_map(|(uid, message)| Some((Uid::new(*uid)?, message.clone())))
            .filter(|(uid, _)| uids.contains(*uid))
            .collect();
        let (mut old, mut new) = (UidSet::new(), UidSet::new());
        let target = self.mailboxes.get_mut(to).ok_or(Error::NotFound)?;
        for (uid, message) in messages {
            old.insert(uid);
            new.insert(push(target, message));
        }
        let validity = UidValidity(target.validity);
        Ok((!self.habits.no_codes && !old.is_empty()).then_some(Code::CopyUid(validity, old, new)))
    }

    fn append_all(&mut self, to: &str, uploads: &[Upload]) -> Result<Option<Code>> {
        if self.habits.over_quota {
            return Err(Error::Quota("over quota".into()));
        }
        let mut messages = Vec::new();
        for upload in uploads {
            let mut bytes = vec![0; upload.octets as usize];
            upload.file.read_exact_at(&mut bytes, 0).map_err(|error| Error::Local(error.to_string().into()))?;
            let is_in = |poison: &str| bytes.windows(poison.len()).any(|part| part == poison.as_bytes());
            if self.habits.poison.is_some_and(is_in) {
                return Err(Error::Invalid("the server does not like it".into()));
            }
            let mut message = Message::new(bytes);
            message.flags = upload.flags.clone();
            message.date = upload.internal_date.unwrap_or(message.date);
            messages.push(message);
        }
        let target = self.mailboxes.get_mut(to).ok_or(Error::NotFound)?;
        let uids = messages.into_iter().map(|message| push(target, message)).collect();
        let validity = UidValidity(target.validity);
        Ok((!self.habits.no_codes).then_some(Code::AppendUid(validity, uids)))
    }

    fn delete_one(&mut self, name: &str) -> Result<()> {
        if std::mem::take(&mut self.habits.delayed_delete) {
            return Err(Error::protocol("the server says: Mailbox already exists"));
        }
        self.mailboxes.remove(name).map(drop).ok_or(Error::NotFound)
    }

    fn rename(&mut self, old: &str, new: &str) -> Result<()> {
        if self.mailboxes.contains_key(new) {
            return Err(Error::Exists);
        }
        let below =
            |name: &str| name.strip_prefix(old).filter(|rest| rest.is_empty() || rest.starts_with('/')).is_some();
        let all = std::mem::take(&mut self.mailboxes);
        let renamed = |(name, mailbox): (String, Mailbox)| match below(&name) {
            true => (format!("{new}{}", &name[old.len()..]), mailbox),
            false => (name, mailbox),
        };
        self.mailboxes = all.into_iter().map(renamed).collect::<BTreeMap<_, _>>();
        Ok(())
    }

    /// UID SEARCH of some.
    pub fn search_some(&self, mailbox: &Mailbox, uids: &UidSet, id: Option<&[u8]>) -> Data {
        let has_id = |message: &Message| id.is_none() || message.envelope().message_id.as_deref() == id;
        let there = mailbox.messages.iter().filter(|(_, message)| has_id(message));
        let all = there.filter_map(|(uid, _)| Uid::new(*uid)).filter(|uid| uids.contains(*uid)).collect();
        Data::Search(SearchResult { uid: true, all, ..SearchResult::default() })
    }
}

fn push(mailbox: &mut Mailbox, mut message: Message) -> Uid {
    let uid = mailbox.uid_next;
    mailbox.uid_next += 1;
    mailbox.modseq += 1;
    message.modseq = mailbox.modseq;
    mailbox.messages.insert(uid, message);
    Uid::new(uid).unwrap()
}

fn text(name: &MailboxName) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}
