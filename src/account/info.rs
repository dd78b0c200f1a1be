//! What the account tells about itself: attributes of mailboxes, quota.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Account;
use crate::error::Result;
use crate::imap::response::Data;
use crate::imap::{Class, Command, Target};
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::UidValidity;
use crate::tree::attributes::{MailboxInfo, Origin};
use crate::tree::node::MailboxId;
use crate::tree::writable::METADATA;

/// Octets of an answer about rights or quota at the most.
const ANSWER_MAX: u64 = 256 * 1024;

/// For how long a quota is believed: `df` and file managers ask often.
const QUOTA_TTL: Duration = Duration::from_secs(60);

/// Space on the server, in units of 1024 octets (RFC 9208).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// In use.
    pub used: u64,
    /// The most that may be.
    pub limit: u64,
}

/// What is remembered of it.
#[derive(Debug)]
pub struct Info {
    /// When the mount began.
    pub started: SystemTime,
    quota: Mutex<Option<(Instant, Option<Quota>)>>,
}

impl Default for Info {
    fn default() -> Self {
        Self { started: SystemTime::now(), quota: Mutex::default() }
    }
}

/// The mailbox of a message, for its URL.
#[derive(Clone, Debug)]
pub struct Place {
    user: String,
    host: String,
    port: Option<u16>,
    mailbox: String,
    uid_validity: Option<UidValidity>,
}

impl Place {
    /// As the attributes want it.
    pub fn origin(&self) -> Origin<'_> {
        let Self { user, host, port, mailbox, uid_validity } = self;
        Origin { user, host, port: *port, mailbox, uid_validity: *uid_validity }
    }
}

impl Account {
    /// The mailbox of a message, for its URL.
    pub fn place(&self, id: MailboxId) -> Result<Place> {
        let mailbox = self.mailbox(id)?;
        Ok(Place {
            user: self.options.user.clone(),
            host: self.options.host.clone(),
            port: self.options.port,
            mailbox: mailbox.display,
            uid_validity: mailbox.index.and_then(|index| index.validity()),
        })
    }

    /// What is known of a mailbox. Rights, ACL and quota are asked for only when `wanted` is the name of their
    /// attribute, or all are wanted.
    pub async fn mailbox_info(self: &Arc<Self>, id: MailboxId, wanted: Option<&str>) -> Result<MailboxInfo> {
        let mailbox = self.mailbox(id)?;
        let mut info = MailboxInfo {
            special_use: mailbox.special_use().map(str::to_owned),
            subscribed: Some(mailbox.is_subscribed()),
            children: Some(mailbox.children.len() as u64).filter(|count| *count > 0),
            mailbox: Some(mailbox.display),
            ..MailboxInfo::default()
        };
        let Some(index) = mailbox.index else { return Ok(info) };
        index.wake().await;
        if index.counts().is_none() && wanted.is_none_or(|name| COUNTED.contains(&name)) {
            self.ask_status(id, &index.name.get(), &mut info).await?;
        }
        if let Some((opened, messages, unseen)) = index.counts() {
            info.messages = Some(messages as u64);
            info.unseen = Some(unseen as u64);
            info.uid_next = opened.uid_next;
            info.uid_validity = Some(opened.validity);
            info.highest_modseq = opened.highest_modseq;
        }
        let wants = |name: &str| wanted.is_none_or(|wanted| wanted == name);
        if self.client.server().offers("ACL") {
            if wants("user.imap.rights") {
                info.rights = self
                    .ask(Command::MyRights(index.name.get()), |row| match row {
                        Data::MyRights(_, rights) => Some(rights),
                        _ => None,
                    })
                    .await;
            }
            if wants("user.imap.acl") {
                info.acl = self
                    .ask(Command::GetAcl(index.name.get()), |row| match row {
                        Data::Acl(_, rights) => Some(
                            rights
                                .into_iter()
                                .map(|(who, what)| (String::from_utf8_lossy(&who).into_owned(), what))
                                .collect(),
                        ),
                        _ => None,
                    })
                    .await;
            }
        }
        let wants_metadata = wanted.is_none_or(|wanted| wanted.starts_with(METADATA));
        if wants_metadata && self.client.server().offers("METADATA") {
            info.metadata = self.ask_metadata(&index.name.get()).await;
        }
        if wants("user.imap.quota") {
            info.quota = self.ask_quota(&index.name.get()).await;
        }
        Ok(info)
    }

    /// Asks STATUS. Where that may not tell, because the mailbox is in use, it is listed, and the index tells.
    async fn ask_status(self: &Arc<Self>, id: MailboxId, name: &MailboxName, info: &mut MailboxInfo) -> Result<()> {
        let command = Command::Status(name.clone());
        let (rows, _) = self.client.run(Target::Account, command, Class::Small, ANSWER_MAX).await?;
        if rows.is_empty() {
            self.messages(id).await?;
        }
        for row in rows {
            if let Data::MailboxStatus(of, items) = row
                && of == *name
            {
                info.messages = items.messages;
                info.unseen = items.unseen;
                info.uid_next = items.uid_next;
                info.uid_validity = items.uid_validity;
                info.highest_modseq = items.highest_modseq;
            }
        }
        Ok(())
    }

    /// One answer of the kind that `pick` knows; `None` where the server refuses (no right to see it).
    async fn ask<T>(&self, command: Command, pick: impl FnMut(Data) -> Option<T>) -> Option<T> {
        let (rows, _) = self.client.run(Target::Account, command, Class::Small, ANSWER_MAX).await.ok()?;
        rows.into_iter().find_map(pick)
    }

    async fn ask_metadata(&self, name: &MailboxName) -> Vec<(String, String)> {
        let entries = self.ask(Command::GetMetadata(name.clone()), |row| match row {
            Data::Metadata(_, entries) => Some(entries),
            _ => None,
        });
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        let present = |(entry, value): (String, Option<Vec<u8>>)| Some((entry, text(value?)));
        entries.await.into_iter().flatten().filter_map(present).collect()
    }

    async fn ask_quota(&self, name: &MailboxName) -> Option<Vec<(String, u64, u64)>> {
        if !self.client.server().offers("QUOTA") {
            return None;
        }
        self.ask(Command::QuotaRoot(name.clone()), |row| match row {
            Data::Quota(_, resources) if !resources.is_empty() => Some(resources),
            _ => None,
        })
        .await
    }

    /// The account's space, where the server has a quota for it.
    pub async fn quota(&self) -> Option<Quota> {
        let known = *self.info.quota.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, quota)) = known
            && at.elapsed() < QUOTA_TTL
        {
            return quota;
        }
        let resources = self.ask_quota(&MailboxName::new(b"INBOX")).await;
        let storage = resources.into_iter().flatten().find(|(resource, ..)| resource == "STORAGE");
        let quota = storage.map(|(_, used, limit)| Quota { used, limit });
        *self.info.quota.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), quota));
        quota
    }
}

/// Attributes that STATUS tells of a mailbox that was not listed yet.
const COUNTED: [&str; 5] =
    ["user.imap.messages", "user.imap.unseen", "user.imap.uidnext", "user.imap.uidvalidity", "user.imap.highestmodseq"];
