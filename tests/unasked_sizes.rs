//! Who reads an attachment without asking for its size gets its octets, and no other, on a line on which they come late.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use common::corpus::build::{attachment, noise, with_part};
use common::proxy::Proxy;
use common::{Mount, Security, Server};

/// The `n`th attachment: on both sides of what the kernel reads ahead at first, and few end with a page.
fn content(n: usize) -> Vec<u8> {
    noise(30_000 + n * 33_333, n as u64)
}

#[test]
fn a_file_ends_where_it_ends_for_who_did_not_ask() {
    let account = Server::dovecot().account().with(Security::None);
    let mut imap = account.imap();
    let contents: Vec<_> = (0..16).map(content).collect();
    for content in &contents {
        let part = attachment("application/octet-stream", "; filename=data.bin", content);
        imap.append("INBOX", &with_part("unasked", part), "", None).unwrap();
    }
    let proxy = Proxy::new(account.port);
    for size in [4096, 65_536] {
        let mount = Mount::new(&account.through(&proxy), &["--no-cache"]);
        proxy.set_delay(Duration::from_millis(5));
        proxy.set_bandwidth(Some(8_000_000));
        for (n, content) in contents.iter().enumerate() {
            let mut file = File::open(mount.message("INBOX", n as u32 + 1).join("data.bin")).unwrap();
            let (mut read, mut buffer) = (Vec::new(), vec![0; size]);
            loop {
                let length = file.read(&mut buffer).unwrap();
                if length == 0 {
                    break;
                }
                read.extend_from_slice(&buffer[..length]);
            }
            assert_eq!(read.len(), content.len(), "{n} in reads of {size}");
            assert!(read == *content, "{n} in reads of {size}");
        }
    }
}
