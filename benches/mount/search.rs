//! The rows of searching: a mailbox that was listed is searched by a directory, and `imapfs grep` is held against what
//! others do to find the same.

use std::path::Path;

use crate::cost::Cost;
use crate::jobs::{from_start, listed};
use crate::run::{Outcome, Run, Side};
use crate::sample::{self, MESSAGES};
use crate::stage::{Stage, expect};

const SEARCH: &str = "UID SEARCH RETURN (ALL) TEXT needle";

pub fn listing(stage: &mut Stage<'_>) -> Outcome {
    list_found(stage, "INBOX", MESSAGES)
}

/// What lists the messages that are found, in a mailbox that was listed.
fn list_found(stage: &mut Stage<'_>, mailbox: &str, count: usize) -> Outcome {
    // The server's own index of the texts, where it makes one, is there for both.
    let bare = stage.bare(mailbox, &[SEARCH.to_owned()])?;
    let (mount, directory) = listed(stage, mailbox, count)?;
    let list = || expect(sample::needles(count), "ls", &["-U", ".search/needle"], &directory);
    Ok(Run::new(Cost::of_mount(stage.proxy, &mount, list)?).against(Side::Bare, bare))
}

pub fn grep(stage: &mut Stage<'_>) -> Outcome {
    let rg =
        |directory: &Path| expect(sample::needles(MESSAGES), "rg", &["--no-config", "-l", "needle", "."], directory);
    let run = Run::new(found_from_start(stage, "INBOX", MESSAGES)?);
    Ok(match stage.synced(rg)? {
        Some(sync) => run.against(Side::Sync, sync),
        None => run,
    })
}

/// `imapfs grep` in a mount that knows nothing.
fn found_from_start(stage: &Stage<'_>, mailbox: &str, count: usize) -> Result<Cost, String> {
    let imapfs = env!("CARGO_BIN_EXE_imapfs");
    let grep = |inbox: &Path| expect(sample::needles(count), imapfs, &["grep", "-l", "needle", mailbox], inbox);
    let (cost, _mount) = from_start(stage, &[], |inbox| grep(inbox.parent().unwrap_or(inbox)))?;
    Ok(cost)
}
