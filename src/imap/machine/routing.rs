//! What the server says without a tag: data for the command that asked for it, news of the mailbox, or nothing.

use super::{Machine, Progress, is_search};
use crate::error::{Error, Result, printable};
use crate::imap::flight::has_content;
use crate::imap::frame::Framer;
use crate::imap::refusal::{self, Refusal};
use crate::imap::request::Command;
use crate::imap::response::{Code, Data, FetchRow, Response, Selected, Status};
use crate::imap::server::Event;
use crate::mail::mailbox_name::MailboxName;

impl Machine {
    /// The part of the machine that knows the mailbox: being selected, or selected.
    pub(super) fn mailbox(&mut self) -> Option<&mut Selected> {
        match (&mut self.selecting, &mut self.selected) {
            (Some(selecting), _) => Some(&mut selecting.found),
            (None, Some((_, selected))) => Some(selected),
            (None, None) => None,
        }
    }

    pub(super) fn status(&mut self, refusal: Refusal) -> Result<Progress> {
        let Refusal { status, code, text } = &refusal;
        match status {
            Status::Bye => return Err(refusal::bye(&refusal)),
            Status::No | Status::Bad => {
                tracing::warn!("the server warns: {}", printable(text, 200));
                return Ok(Progress::None);
            }
            Status::Ok | Status::PreAuth => {}
        }
        refusal.show_alert();
        // MOVE and REPLACE tell of the new message before the old one goes (RFC 6851 section 4.3, RFC 8508 section 3.3).
        if let (Some(Code::CopyUid(..) | Code::AppendUid(..)), Some(flight)) = (code, self.flights.front_mut())
            && flight.command().is_change()
        {
            flight.learn(code.clone());
            return Ok(Progress::Some);
        }
        if *code == Some(Code::NotificationOverflow) {
            self.notify_overflowed();
            self.tell(Data::Status(*status, code.clone(), text.clone()));
        }
        let selecting = self.selecting.is_some();
        let mut replaced = false;
        if let Some(mailbox) = self.mailbox() {
            match code {
                // 0 is not a legal value: such a server has none.
                Some(Code::UidValidity(validity)) => {
                    let validity = Some(*validity).filter(|v| v.0 > 0);
                    replaced = !selecting && mailbox.uid_validity != validity;
                    mailbox.uid_validity = validity;
                }
                Some(Code::UidNext(next)) => mailbox.uid_next = Some(*next),
                Some(Code::HighestModSeq(modseq)) => mailbox.highest_modseq = Some(*modseq),
                Some(Code::NoModSeq) => mailbox.highest_modseq = None,
                Some(Code::ReadOnly) => mailbox.read_only = true,
                Some(Code::ReadWrite) => mailbox.read_only = false,
                Some(Code::PermanentFlags(flags)) => mailbox.permanent_flags = Some(flags.clone()),
                _ => {}
            }
        }
        if replaced {
            for flight in self.flights.iter_mut().filter(|f| f.job.mailbox().is_some()) {
                flight.fail(Error::Stale);
            }
            self.tell(Data::Status(*status, code.clone(), text.clone()));
        }
        Ok(if selecting { Progress::Some } else { Progress::Alive })
    }

    pub(super) fn tell(&self, data: Data) {
        let mailbox = self.selected.as_ref().map(|(name, _)| name.clone());
        let _ = self.events.send(Event { mailbox, data });
    }

    /// Gives untagged data to the command that asked for it, else to the listener for events.
    pub(super) fn route(&mut self, data: Data, octets: u64, oversize: bool) -> Progress {
        let asks = |command: &Command| match (&data, command) {
            (Data::List(_), Command::List) | (Data::Quota(..), Command::QuotaRoot(_)) => true,
            (Data::MailboxStatus(name, _), Command::Status(asked))
            | (Data::QuotaRoot(name, _), Command::QuotaRoot(asked))
            | (Data::MyRights(name, _), Command::MyRights(asked))
            | (Data::Acl(name, _), Command::GetAcl(asked)) => name == asked,
            (Data::Metadata(name, _), Command::GetMetadata(asked)) => MailboxName::new(name) == *asked,
            _ => false,
        };
        if let Some(flight) = self.flights.iter_mut().find(|f| asks(f.command())) {
            flight.deliver(data, octets);
            return Progress::Some;
        }
        if self.resync_row(&data, octets) {
            return Progress::Some;
        }
        match data {
            Data::Fetch(row) => self.route_row(*row, octets, oversize),
            Data::Search(result) => {
                // ESEARCH without UID speaks of sequence numbers.
                let tag = result.tag.as_ref().map(|t| String::from_utf8_lossy(t).into_owned());
                let flight = self.flights.iter_mut().find(|f| is_search(f.command()));
                match flight {
                    Some(flight)
                        if tag.is_none()
                            || (result.uid && flight.tags.iter().any(|n| tag == Some(format!("T{n}")))) =>
                    {
                        flight.search(result, octets);
                        Progress::Some
                    }
                    _ => Progress::None,
                }
            }
            Data::Exists(count) => {
                if let Some(mailbox) = self.mailbox() {
                    mailbox.exists = count;
                }
                self.unasked(data)
            }
            Data::Expunge(number) => {
                if let Some(mailbox) = self.mailbox()
                    && (1..=mailbox.exists).contains(&number)
                {
                    mailbox.exists -= 1;
                }
                self.unasked(data)
            }
            Data::Vanished(earlier, ref uids) => {
                if let Some(mailbox) = self.mailbox()
                    && !earlier
                {
                    mailbox.exists = mailbox.exists.saturating_sub(uids.len());
                }
                self.unasked(data)
            }
            // Of other mailboxes (RFC 5465): also while one is being selected.
            Data::MailboxStatus(..) | Data::List(_) => {
                self.tell(data);
                Progress::None
            }
            _ if self.selecting.is_some() => Progress::Some,
            _ => Progress::None,
        }
    }

    /// Of a body that is under way a part has come, see [`Framer::head`]: it is taken out for who wants it as it comes.
    /// False when nobody does.
    pub fn take_part(&mut self, framer: &mut Framer) -> bool {
        let Some(head) = framer.head().filter(|_| self.selecting.is_none()) else { return false };
        let (Response::Untagged(Data::Fetch(row)), _) = Response::parse(&head) else { return false };
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.takes_parts(&row)) else { return false };
        flight.deliver_part(row.size, framer.take_part());
        true
    }

    /// What the server tells of a selected mailbox is an event; during SELECT it is part of the answer.
    fn unasked(&mut self, data: Data) -> Progress {
        if self.selecting.is_some() {
            return Progress::Some;
        }
        self.tell(data);
        Progress::None
    }

    fn route_row(&mut self, mut row: FetchRow, octets: u64, oversize: bool) -> Progress {
        if self.selecting.is_some() || self.selected.is_none() {
            return Progress::None;
        }
        let (mut claimed, has_content) = (false, has_content(&row));
        if let Some(uid) = row.uid {
            for flight in &mut self.flights {
                // The octets of a row that two share are charged to the first.
                let charge = if claimed { 0 } else { octets };
                claimed |= flight.claim(uid, &mut row, charge, has_content, oversize)
                    || flight.claim_stored(uid, &row, charge);
            }
        }
        // Flags that nobody asked for are news; without a UID they say that something changed. Nothing else is.
        if row.flags.is_some() {
            let FetchRow { number, uid, flags, modseq, .. } = row;
            self.tell(Data::Fetch(Box::new(FetchRow { number, uid, flags, modseq, ..FetchRow::default() })));
        }
        if claimed { Progress::Some } else { Progress::None }
    }
}
