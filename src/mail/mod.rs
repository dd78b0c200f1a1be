//! WHAT MAIL IS. Pure: no await, no clock, no file system, no socket.

pub mod arrival;
pub mod draft;
pub mod envelope;
pub mod flag;
pub mod header;
pub mod layout;
pub mod mailbox;
pub mod mailbox_name;
pub mod mime;
pub mod part;
pub mod query;
pub mod range;
pub mod section;
pub mod text;
pub mod transfer;
pub mod uid;
pub mod walk;
pub mod wants;
