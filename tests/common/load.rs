//! Foreign load: clients that append, flag, move and expunge at random beside the program, and what that must leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{Account, Imap};

/// Numbers that look random, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % end as u64).unwrap()
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { Some(&of[self.below(of.len())]) }
    }
}

/// Who may move a message, by its number: two who move the same one at the same moment may double it on the server, and
/// nobody could know.
pub fn mover(number: u64) -> u64 {
    number % 4
}

/// What was done to the account so far.
#[derive(Debug, Default)]
pub struct Book {
    next: AtomicU64,
    /// Numbers of the messages that should be there.
    there: Mutex<BTreeSet<u64>>,
    pub ends: AtomicBool,
    /// Changes that were made: appended, flagged, moved, expunged.
    pub done: [AtomicU64; 4],
}

impl Book {
    /// Appends a message with a number of its own.
    pub fn append(&self, imap: &mut Imap, mailbox: &str, random: &mut Random) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        imap.append(mailbox, &message(number, 1 + random.below(200)), "", None).unwrap();
        self.there.lock().unwrap().insert(number);
        self.done[0].fetch_add(1, Ordering::Relaxed);
    }

    /// Numbers of the messages that should be there.
    pub fn there(&self) -> BTreeSet<u64> {
        self.there.lock().unwrap().clone()
    }

    /// One client: until the end it changes what it likes.
    pub fn client(self: &Arc<Self>, account: &Account, mailboxes: &[&str], seed: u64) {
        let (mut imap, mut random) = (account.imap(), Random::new(seed));
        while !self.ends.load(Ordering::Relaxed) {
            let mailbox = *random.pick(mailboxes).unwrap();
            imap.select(mailbox).unwrap();
            let known = subjects(&mut imap);
            let (few, many) = (known.len() < 30, known.len() > 60);
            match random.below(10) {
                0..3 if !many => self.append(&mut imap, mailbox, &mut random),
                _ if few => self.append(&mut imap, mailbox, &mut random),
                3..6 => {
                    let Some((uid, _)) = random.pick(&known) else { continue };
                    let (sign, flag) = (["+", "-"][random.below(2)], ["\\Flagged", "\\Seen", "work"][random.below(3)]);
                    change(&mut imap, &format!("UID STORE {uid} {sign}FLAGS ({flag})"));
                    self.done[1].fetch_add(1, Ordering::Relaxed);
                }
                kind => {
                    let mine: Vec<_> = known.into_iter().filter(|(_, number)| mover(*number) == 3).collect();
                    let Some((uid, number)) = random.pick(&mine) else { continue };
                    if kind < 9 && !many {
                        let to = *random.pick(mailboxes).unwrap();
                        // Another one of us may be moving it as well: who is late finds nothing.
                        if self.claim(*number) {
                            change(&mut imap, &format!("UID MOVE {uid} {to}"));
                            self.there.lock().unwrap().insert(*number);
                            self.done[2].fetch_add(1, Ordering::Relaxed);
                        }
                    } else if self.claim(*number) {
                        expunge(&mut imap, *uid);
                        // It may have been moved since it was looked for, and is somewhere else now.
                        self.expunge_everywhere(&mut imap, mailboxes, *number);
                        self.done[3].fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        let _ = imap.logout();
    }

    /// Takes a message off the book, for as long as one of us does something to it; whether it was there.
    fn claim(&self, number: u64) -> bool {
        self.there.lock().unwrap().remove(&number)
    }

    fn expunge_everywhere(&self, imap: &mut Imap, mailboxes: &[&str], number: u64) {
        for mailbox in mailboxes {
            imap.select(mailbox).unwrap();
            for (uid, _) in subjects(imap).into_iter().filter(|(_, found)| *found == number) {
                expunge(imap, uid);
            }
        }
    }
}

/// Changes a message that another one of us may have taken meanwhile.
fn change(imap: &mut Imap, command: &str) {
    let answer = imap.command(command).unwrap();
    assert!(answer.is_ok() || answer.text.starts_with("[EXPUNGEISSUED]"), "{command}: {}", answer.text);
}

fn expunge(imap: &mut Imap, uid: u32) {
    change(imap, &format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
    change(imap, &format!("UID EXPUNGE {uid}"));
}

/// A message that says its number in its subject and in each of its lines.
fn message(number: u64, lines: usize) -> Vec<u8> {
    let line = format!("token n{number}e of the load\r\n");
    let header = format!(
        "From: Load <load@example.test>\r\nSubject: n{number}e\r\nMessage-ID: <n{number}@load.example.test>\r\n\r\n"
    );
    (header + &line.repeat(lines)).into_bytes()
}

/// The number in a name, a subject or a line.
pub fn number(text: &str) -> Option<u64> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('n') {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        if digits > 0 && after[digits..].starts_with('e') {
            return after[..digits].parse().ok();
        }
        rest = after;
    }
    None
}

/// UIDs and numbers of the messages of the selected mailbox.
fn subjects(imap: &mut Imap) -> Vec<(u32, u64)> {
    let answer = imap.ok("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])").unwrap();
    let rows = answer.untagged.iter().filter_map(|row| {
        let number = number(&String::from_utf8_lossy(row.literals.first()?))?;
        Some((super::imap::fetch_uid(&row.text)?, number))
    });
    rows.collect()
}

/// A mailbox as the server has it: UID, number, flags, bytes.
pub fn truth(imap: &mut Imap, mailbox: &str) -> BTreeMap<u32, (u64, BTreeSet<String>, Vec<u8>)> {
    imap.select(mailbox).unwrap();
    let answer = imap.ok("UID FETCH 1:* (UID FLAGS BODY.PEEK[])").unwrap();
    let rows = answer.untagged.iter().filter_map(|row| {
        let bytes = row.literals.first()?.clone();
        let flags = row.text.split_once("FLAGS (")?.1.split(')').next()?;
        let flags = flags.split_whitespace().filter(|flag| *flag != "\\Recent").map(str::to_owned).collect();
        Some((super::imap::fetch_uid(&row.text)?, (number(&String::from_utf8_lossy(&bytes))?, flags, bytes)))
    });
    rows.collect()
}
