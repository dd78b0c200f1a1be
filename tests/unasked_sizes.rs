//! Who reads an attachment without asking for its size gets its octets, and no other, on a line on which they come late.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use base64::Engine;
use common::proxy::Proxy;
use common::{Mount, Security, Server};

/// Octets of the `n`th attachment: on both sides of what the kernel reads ahead at first, and few end with a page.
fn attachment(n: usize) -> Vec<u8> {
    (0..30_000 + n * 33_333).map(|at| (at * 7 + at / 251 + n) as u8 | 1).collect()
}

fn message(attachment: &[u8]) -> Vec<u8> {
    let mut message = b"Subject: one\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n\
        Content-Type: application/octet-stream; name=data\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        .to_vec();
    for line in base64::engine::general_purpose::STANDARD.encode(attachment).as_bytes().chunks(76) {
        message.extend_from_slice(line);
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"--b--\r\n");
    message
}

#[test]
fn a_file_ends_where_it_ends_for_who_did_not_ask() {
    let account = Server::dovecot().account().with(Security::None);
    let mut imap = account.imap();
    let attachments: Vec<_> = (0..16).map(attachment).collect();
    for attachment in &attachments {
        imap.append("INBOX", &message(attachment), "", None).unwrap();
    }
    let proxy = Proxy::new(account.port);
    for size in [4096, 65_536] {
        let mount = Mount::new(&account.through(&proxy), &["--no-cache"]);
        proxy.set_delay(Duration::from_millis(5));
        proxy.set_bandwidth(Some(8_000_000));
        for (n, attachment) in attachments.iter().enumerate() {
            let mut file = File::open(mount.message("INBOX", n as u32 + 1).join("data")).unwrap();
            let (mut read, mut buffer) = (Vec::new(), vec![0; size]);
            loop {
                let length = file.read(&mut buffer).unwrap();
                if length == 0 {
                    break;
                }
                read.extend_from_slice(&buffer[..length]);
            }
            assert_eq!(read.len(), attachment.len(), "{n} in reads of {size}");
            assert!(read == *attachment, "{n} in reads of {size}");
        }
    }
}
