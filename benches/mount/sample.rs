//! The mail that is measured with, the same in each run: INBOX with 2,000 messages of 119 MB, 40 of them with an
//! attachment of 2 MiB and some hundred with a needle in their text; `Some`, the first 200 of them; `Big`, one of 50 MB.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::corpus::{self, build};
use crate::common::{Account, Imap, Mount, Security};

pub const MESSAGES: usize = 2000;
/// Messages of `Some`.
pub const SOME: usize = 200;
/// Octets of the attachment in `Big`.
pub const BIG: usize = (50_000_000 / 78) * 57;

/// Each so many messages one with an attachment, and one with a needle.
const PER_ATTACHMENT: usize = 50;
const PER_NEEDLE: usize = 7;

/// Octets of an attachment.
const ATTACHMENT: usize = 2 << 20;

/// Commands that are sent before their answers are read.
const AHEAD: usize = 20;

const WORDS: &str = "the of and to in is that for it as was with be by on not he his but at are this have from or had an \
    they which one you were all her she there would their we him been has when who will no more if out so up said what \
    its about than into them can only other time new some could these two may first then do any like my now over such \
    our man me even most made after also did many off before must well back through years where much your way down \
    should because long each just state those people too mister good very make world still see own work men day get \
    invoice meeting report project budget schedule deadline release customer server mailbox draft review agenda minutes";

/// Who has it, and a copy on disk.
pub struct Sample {
    pub account: Account,
    copy: Option<TempDir>,
}

pub fn attachments(messages: usize) -> usize {
    (0..messages).filter(|number| has_attachment(*number)).count()
}

pub fn needles(messages: usize) -> usize {
    (0..messages).filter(|number| has_needle(*number)).count()
}

fn has_attachment(number: usize) -> bool {
    number % PER_ATTACHMENT == 3
}

fn has_needle(number: usize) -> bool {
    number % PER_NEEDLE == 5
}

impl Sample {
    /// Fills the account, and lets the server see everything once, so that no client meets a cold server.
    pub fn fill(account: Account) -> Sample {
        let mut imap = account.imap();
        for mailbox in ["Some", "Big"] {
            imap.create(mailbox).unwrap();
        }
        append(&mut imap, "INBOX", MESSAGES);
        append(&mut imap, "Some", SOME);
        imap.append("Big", &corpus::big(50_000_000).bytes, "", None).unwrap();
        for mailbox in ["INBOX", "Some", "Big"] {
            imap.select(mailbox).unwrap();
            imap.ok("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)").unwrap();
        }
        Sample { account, copy: None }
    }

    /// A copy of INBOX as it is mounted, in the directory for temporary files.
    pub fn copy(&mut self) -> PathBuf {
        self.copy_of("INBOX")
    }

    /// The same of this mailbox.
    pub fn copy_of(&mut self, mailbox: &str) -> PathBuf {
        let account = self.account.with(Security::None);
        let copy = self.copy.get_or_insert_with(|| {
            let to = tempfile::Builder::new().prefix("imapfs-bench-").tempdir().unwrap();
            let mount = Mount::new(&account, &[]);
            let from = ["INBOX", "Some"].map(|mailbox| mount.join(mailbox));
            let done = Command::new("cp").arg("-r").args(from).arg(to.path()).status().unwrap();
            assert!(done.success(), "cp -r");
            to
        });
        copy.path().join(mailbox)
    }
}

/// The kind of the file system that has the copies.
pub fn disk() -> String {
    let mut command = Command::new("findmnt");
    command.args(["-n", "-o", "FSTYPE", "-T"]).arg(std::env::temp_dir()).stderr(Stdio::null());
    let kind = command.output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    kind.ok().filter(|kind| !kind.is_empty()).unwrap_or_else(|| "disk".to_owned())
}

fn append(imap: &mut Imap, mailbox: &str, count: usize) {
    let mut sent = Vec::new();
    for number in 0..count {
        let message = String::from_utf8(message(number)).unwrap();
        let (day, hour, minute) = (1 + number / 1440 % 28, number / 60 % 24, number % 60);
        let date = format!("{day:02}-Nov-2026 {hour:02}:{minute:02}:00 +0000");
        let octets = message.len();
        sent.push(imap.send(&format!("APPEND {mailbox} () \"{date}\" {{{octets}+}}\r\n{message}")).unwrap());
        if sent.len() == AHEAD || number + 1 == count {
            sent.drain(..).for_each(|tag| assert!(imap.answer(&tag).unwrap().is_ok(), "APPEND"));
        }
    }
}

/// Every third has HTML as well.
fn message(number: usize) -> Vec<u8> {
    let mut words = Words::new(number as u64);
    let name = format!("message-{number}-{}", words.take(3).replace(' ', "-"));
    let mut text = words.lines(12 + number % 20);
    if has_needle(number) {
        text.push_str("Here is a needle.\r\n");
    }
    let plain = build::part("text/plain; charset=utf-8", &[], &text);
    let mut parts = vec![if number.is_multiple_of(3) {
        let html = text.replace("needle", "pin").replace("\r\n", "<br>\r\n");
        let html = build::part("text/html; charset=utf-8", &[], format!("<html><body>{html}</body></html>\r\n"));
        build::inner_multipart("alternative", "alternative", &[plain, html])
    } else {
        plain
    }];
    if !has_attachment(number) {
        // One text alone is no multipart.
        return build::multipart(&name, "mixed", &parts);
    }
    let mut data = build::noise(ATTACHMENT, number as u64);
    data[..9].copy_from_slice(b"%PDF-1.7\n");
    parts.push(build::attachment("application/pdf", format!("; filename=\"file-{number}.pdf\""), &data));
    build::multipart(&name, "mixed", &parts)
}

/// A text that compresses as texts do.
struct Words {
    all: Vec<&'static str>,
    state: u64,
}

impl Words {
    fn new(seed: u64) -> Words {
        Words { all: WORDS.split_whitespace().collect(), state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn next(&mut self) -> &'static str {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        // The smaller of two, so that some words are more frequent.
        let count = self.all.len() as u64;
        self.all[((self.state >> 8) % count).min((self.state >> 32) % count) as usize]
    }

    fn take(&mut self, count: usize) -> String {
        (0..count).map(|_| self.next()).collect::<Vec<_>>().join(" ")
    }

    fn lines(&mut self, count: usize) -> String {
        (0..count).map(|_| self.take(12) + ".\r\n").collect()
    }
}
