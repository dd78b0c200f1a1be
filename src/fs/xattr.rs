//! getxattr, listxattr, setxattr and removexattr: what is known of a mailbox, a message, a part, and what of it the user
//! may change. Of messages it comes from memory; rights and quota of a mailbox are asked for when their name is.

use super::Fs;
use crate::error::{Error, Result};
use crate::mail::flag::Flags;
use crate::tree::attributes::{Attributes, mailbox_attributes, message_attributes, part_attributes};
use crate::tree::entries::part;
use crate::tree::node::{EntryId, Ino, MailboxId, Node};
use crate::tree::writable::{self, ACL, Access, FLAGS, SUBSCRIBED, TAGS};

/// When an attribute may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Whether or not it is there.
    Any,
    /// Only when it is not there (XATTR_CREATE).
    Create,
    /// Only when it is there (XATTR_REPLACE).
    Replace,
}

impl Fs {
    /// The value of an attribute. Errors: `NoAttribute`.
    pub async fn getxattr(&self, ino: Ino, name: &str) -> Result<Vec<u8>> {
        self.value(self.node(ino)?, name).await?.ok_or(Error::NoAttribute)
    }

    /// The names of the attributes that are set.
    pub async fn listxattr(&self, ino: Ino) -> Result<Vec<String>> {
        Ok(self.attributes(self.node(ino)?, None).await?.into_iter().map(|a| a.0.to_string()).collect())
    }

    /// Sets an attribute. One that has the value already is not touched, whoever may set it, so that programs can put
    /// back what they read. Errors: `Unsupported` for an attribute that is none of ours, or that the server did not keep;
    /// `NotPermitted` for one that tells what cannot be changed; `Invalid` for a value that makes no sense; `Exists` and
    /// `NoAttribute` as `setting` says.
    pub async fn setxattr(&self, ino: Ino, name: &str, value: &[u8], setting: Setting) -> Result<()> {
        let node = self.node(ino)?;
        if matches!(node, Node::Local(_)) {
            return match writable::access(name) {
                // Copied from another message (rsync -X, tar --xattrs): this one will tell its own.
                Access::ReadOnly => Ok(()),
                Access::Writable | Access::Foreign => self.set_new_flags(node, name, text(value)?),
            };
        }
        check_is_ours(name)?;
        let known = self.value(node, name).await?;
        match (setting, &known) {
            (Setting::Create, Some(_)) => return Err(Error::Exists),
            (Setting::Replace, None) => return Err(Error::NoAttribute),
            _ if known.as_deref() == Some(value) => return Ok(()),
            _ => {}
        }
        self.change_attribute(node, name, Some(value)).await
    }

    /// Removes an attribute: all flags, all keywords (`user.xdg.tags`), or metadata. Errors as for setting.
    pub async fn removexattr(&self, ino: Ino, name: &str) -> Result<()> {
        let node = self.node(ino)?;
        if matches!(node, Node::Local(_)) {
            return self.set_new_flags(node, name, "");
        }
        check_is_ours(name)?;
        if self.value(node, name).await?.is_none() {
            return Err(Error::NoAttribute);
        }
        self.change_attribute(node, name, None).await
    }

    async fn change_attribute(&self, node: Node, name: &str, value: Option<&[u8]>) -> Result<()> {
        if let Some(mailbox) = self.mailbox_of(node) {
            let id = mailbox.ok_or_else(|| unsupported(name))?;
            return self.change_mailbox_attribute(id, name, value).await;
        }
        let Node::Entry(mailbox, uid, _) = node else { return Err(unsupported(name)) };
        if ![FLAGS, TAGS].contains(&name) {
            // What a copy was made of is put on it as well (cp -a): it is told of the copy as it is.
            let is_copy = writable::access(name) == Access::ReadOnly && self.copies.is_underway((mailbox, uid));
            return if is_copy { Ok(()) } else { Err(fixed(name)) };
        }
        let known = self.account.summary(mailbox, uid).await?.flags.clone();
        let (set, clear) = match value {
            Some(value) if name == FLAGS => writable::parse_flags(text(value)?, &known)?,
            Some(value) => writable::parse_tags(text(value)?, &known)?,
            None if name == FLAGS => writable::parse_flags("", &known)?,
            None => (Flags::default(), Flags::from_wire(known.keywords().map(str::as_bytes))),
        };
        if set.is_empty() && clear.is_empty() {
            return Ok(());
        }
        self.account.change_flags((mailbox, uid), set, clear).await
    }

    /// The flags that a file which is being written is to have as a message.
    fn set_new_flags(&self, node: Node, name: &str, value: &str) -> Result<()> {
        let known = self.local_flags(node).unwrap_or_default();
        let (set, clear) = match name {
            FLAGS => writable::parse_flags(value, &known)?,
            TAGS => writable::parse_tags(value, &known)?,
            _ => return Err(unsupported(name)),
        };
        self.local_setxattr(node, FLAGS, known.without(&clear).with(&set).to_string().as_bytes())
    }

    async fn change_mailbox_attribute(&self, id: MailboxId, name: &str, value: Option<&[u8]>) -> Result<()> {
        match (name, value) {
            (SUBSCRIBED, Some(value)) => {
                self.account.set_subscribed(id, writable::parse_subscribed(text(value)?)?).await
            }
            (ACL, Some(value)) => self.account.set_acl(id, writable::parse_acl(text(value)?)?).await,
            _ => {
                let entry = writable::parse_metadata(name).unwrap_or_else(|| Err(fixed(name)))?;
                self.account.set_metadata(id, &entry, value.map(<[u8]>::to_vec)).await
            }
        }
    }

    async fn value(&self, node: Node, name: &str) -> Result<Option<Vec<u8>>> {
        // Flags can be set by way of a part, so they can be read there; they are not listed as the part's own.
        let node = match node {
            Node::Entry(mailbox, uid, _) if [FLAGS, TAGS].contains(&name) => Node::message(mailbox, uid),
            node => node,
        };
        let all = self.attributes(node, Some(name)).await?;
        Ok(all.into_iter().find(|a| a.0 == name).map(|a| a.1.into_bytes()))
    }

    async fn attributes(&self, node: Node, name: Option<&str>) -> Result<Attributes> {
        if let Some(mailbox) = self.mailbox_of(node) {
            return match mailbox {
                Some(id) => Ok(mailbox_attributes(&self.account.mailbox_info(id, name).await?)),
                None => Ok(Attributes::new()),
            };
        }
        if let Node::Local(_) = node {
            let flags = self.local_flags(node).map(|flags| (FLAGS.into(), flags.to_string()));
            return Ok(flags.into_iter().collect());
        }
        let Node::Entry(id, uid, entry) = node else { return Ok(Attributes::new()) };
        let place = self.account.place(id)?;
        let of_message = || async { Ok(message_attributes(&self.account.summary(id, uid).await?, &place.origin())) };
        if entry == EntryId::DIRECTORY {
            return of_message().await;
        }
        if entry == EntryId::RAW {
            // The message as a file: all that the message has, and its type.
            let mut all = of_message().await?;
            all.push(("user.mime_type".into(), "message/rfc822".to_owned()));
            return Ok(all);
        }
        let message = self.account.message(id, uid).await?;
        let content = &message.entry(entry)?.content;
        Ok(part_attributes(content, part(&message.root, entry), uid, &place.origin()))
    }
}

/// Programs that copy attributes stay quiet on `Unsupported`, and on nothing else.
fn check_is_ours(name: &str) -> Result<()> {
    if writable::access(name) == Access::Foreign { Err(unsupported(name)) } else { Ok(()) }
}

fn unsupported(name: &str) -> Error {
    Error::Unsupported(format!("there is no place on the server for {name}").into())
}

fn fixed(name: &str) -> Error {
    Error::NotPermitted(format!("{name} cannot be changed here").into())
}

fn text(value: &[u8]) -> Result<&str> {
    std::str::from_utf8(value).map_err(|_| Error::invalid("the value of the attribute is not UTF-8"))
}
