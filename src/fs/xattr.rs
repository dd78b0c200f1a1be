//! getxattr and listxattr: what is known of a mailbox, a message, a part. Of messages from memory; rights and quota of
//! a mailbox are asked for when their name is.

use super::Fs;
use crate::error::{Error, Result};
use crate::tree::attributes::{self, Attribute};
use crate::tree::entries::DIRECTORY;
use crate::tree::node::{Ino, Node};

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

    async fn attributes(&self, ino: Ino, name: Option<&str>) -> Result<Vec<Attribute>> {
        let node = Self::node(ino)?;
        if let Some(mailbox) = self.mailbox_of(node) {
            return match mailbox {
                Some(id) => Ok(attributes::mailbox_attributes(&self.account.mailbox_info(id, name).await?)),
                None => Ok(Vec::new()),
            };
        }
        let Node::Entry(id, uid, entry) = node else { return Ok(Vec::new()) };
        let place = self.account.place(id)?;
        if entry == DIRECTORY {
            return Ok(attributes::message_attributes(&*self.account.summary(id, uid).await?, &place));
        }
        let message = self.account.message(id, uid).await?;
        Ok(attributes::part_attributes(&message.summary, &place, &message.entries, entry))
    }
}
