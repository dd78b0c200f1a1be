//! getxattr and listxattr: what is known of a mailbox, a message, a part. Of messages from memory; rights and quota of
//! a mailbox are asked for when their name is.

use super::Fs;
use crate::error::{Error, Result};
use crate::tree::attributes::{Attributes, FLAGS, mailbox_attributes, message_attributes, part_attributes};
use crate::tree::entries::part;
use crate::tree::node::{EntryId, Ino, Node};

impl Fs {
    /// The value of an attribute. Errors: `NoAttribute`.
    pub async fn getxattr(&self, ino: Ino, name: &str) -> Result<Vec<u8>> {
        let all = self.attributes(ino, Some(name)).await?;
        all.into_iter().find(|a| a.0 == name).map(|a| a.1.into_bytes()).ok_or(Error::NoAttribute)
    }

    /// The names of the attributes that are set.
    pub async fn listxattr(&self, ino: Ino) -> Result<Vec<String>> {
        Ok(self.attributes(ino, None).await?.into_iter().map(|a| a.0.to_string()).collect())
    }

    async fn attributes(&self, ino: Ino, name: Option<&str>) -> Result<Attributes> {
        let node = self.node(ino)?;
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
        let of_message = || async { Ok(message_attributes(&*self.account.summary(id, uid).await?, &place.origin())) };
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
