//! WHAT THE USER SEES. Pure: nodes, inode numbers, the names of mailboxes, messages, parts and views.

pub mod attributes;
pub mod date;
pub mod entries;
pub mod found;
pub mod mailbox_names;
pub mod message_name;
pub mod node;
pub mod offset;
pub mod part_name;
pub mod safe;
pub mod scratch;
pub mod views;
pub mod writable;
