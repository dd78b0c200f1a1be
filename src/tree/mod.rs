//! WHAT THE USER SEES. Pure: nodes, inode numbers, the names of mailboxes, messages, parts and views.

pub mod entries;
pub mod mailbox_names;
pub mod message_name;
pub mod node;
pub mod safe;
pub mod views;
