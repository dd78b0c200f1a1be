//! Files that exist only here: being written, or scratch.

use super::Fs;
use crate::error::{Error, Result};
use crate::tree::node::{Ino, Node};

impl Fs {
    /// The local file of this name in a directory.
    pub(super) fn local(&self, parent: Ino, name: &str) -> Option<Node> {
        self.aliases.name(parent, name).filter(|node| matches!(node, Node::Local(_)))
    }

    /// Gives a local file another name, which may make it a message.
    pub(super) async fn rename_local(&self, _parent: Ino, _name: &str, _to: Ino, _to_name: &str) -> Result<()> {
        Err(Error::ReadOnly)
    }

    /// Removes a local file.
    pub(super) async fn unlink_local(&self, _parent: Ino, _name: &str) -> Result<()> {
        Err(Error::ReadOnly)
    }

    /// Sets (or with `None` removes) an attribute of a local file: what the message will get.
    pub(super) async fn set_local_attribute(&self, _node: Node, _name: &str, _value: Option<&[u8]>) -> Result<()> {
        Err(Error::ReadOnly)
    }
}
