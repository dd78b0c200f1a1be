//! What is in the files, judged by another MIME parser.

#![allow(clippy::unwrap_used)]

mod common;
mod model;

use common::corpus;
use imapfs::fs::Kind;
use imapfs::tree::node::Ino;
use mail_parser::{MessageParser, PartType};
use model::{Mounted, Server};

/// Where the other parser goes another way, and why.
const DIFFERENT: [(&str, &str); 13] = [
    ("boundary-missing", "a multipart without a boundary is one text here, RFC 2045 section 5.2"),
    ("boundary-empty", "the same"),
    ("boundary-closed-first", "nothing comes after the last boundary"),
    ("malformed-017", "the boundary parameter lacks its semicolon: there is none"),
    ("base64-padding-inside", "what is behind the padding is decoded as well"),
    ("base64-padding-missing", "the last octets are decoded without their padding"),
    ("uuencode", "mail-parser does not decode it"),
    ("x-uuencode", "the same"),
    ("x-uue", "the same"),
    ("legacy-048", "the same"),
    ("encoding-comment", "mail-parser does not know an encoding with a comment"),
    ("encoding-parameter", "nor one with a parameter"),
    ("encoding-quoted", "nor one in quotes"),
];

/// The contents of all listed files of a message.
async fn files(mounted: &Mounted, directory: Ino) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let mut todo = vec![directory];
    while let Some(directory) = todo.pop() {
        for found in mounted.list(directory).await.unwrap() {
            match found.entry.attr.kind {
                Kind::Directory => todo.push(found.entry.attr.ino),
                Kind::File => files.push(mounted.cat(found.entry.attr.ino).await.unwrap()),
            }
        }
    }
    files
}

/// The decoded octets of all parts that are no text, those of attached messages as well.
fn attachments(message: &mail_parser::Message<'_>, into: &mut Vec<Vec<u8>>) {
    for part in &message.parts {
        match &part.body {
            PartType::Binary(octets) | PartType::InlineBinary(octets) => into.push(octets.to_vec()),
            PartType::Message(inner) => attachments(inner, into),
            _ => {}
        }
    }
}

/// Attachments are the exact decoded bytes.
#[tokio::test]
async fn attachments_are_what_another_parser_decodes() {
    let messages = [corpus::messages(), corpus::real()].concat();
    let server = Server::with_messages(messages.iter().map(|message| message.bytes.clone()));
    let mounted = Mounted::lasting(&server).await;
    let inbox = mounted.find("INBOX").await.unwrap().attr.ino;
    let listed = mounted.list(inbox).await.unwrap();
    let mut agreed = 0;
    for (message, entry) in messages.iter().zip(listed) {
        let files = files(&mounted, entry.entry.attr.ino).await;
        let mut theirs = Vec::new();
        if let Some(parsed) = MessageParser::default().parse(&message.bytes) {
            attachments(&parsed, &mut theirs);
        }
        let is_same = theirs.iter().all(|attachment| files.contains(attachment));
        assert_eq!(is_same, DIFFERENT.iter().all(|(name, _)| message.name != *name), "{}", message.name);
        agreed += if is_same { theirs.len() } else { 0 };
    }
    assert!(agreed > 300, "{agreed}");
}
