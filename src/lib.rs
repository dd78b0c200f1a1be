//! imapfs mounts an IMAP account as a Linux file system.

pub mod account;
pub mod cli;
pub mod config;
pub mod error;
pub mod fs;
pub mod fuse;
pub mod imap;
pub mod mail;
pub mod mount;
pub mod tree;
