//! The work of each row, on the mount and on what it is held against.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Account, Mount};
use crate::cost::{self, Cost};
use crate::run::{Outcome, Run, Side};
use crate::sample::{self, BIG, MESSAGES, SOME};
use crate::stage::{self, Stage, expect};

const NAMES: &str = "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)";
const STRUCTURES: &str = "UID FETCH 1:* (UID BODYSTRUCTURE)";
const BODIES: &str = "UID FETCH 1:* (UID BODY.PEEK[])";

/// The part of `Big`, and a message that is not in its mailbox.
const BIG_PART: &str = "UID FETCH 1 (UID BODY.PEEK[2])";

/// Random reads, and octets of each.
const READS: u64 = 100;
const PAGE: usize = 4096;

/// What "10 Mbit/s" is in bytes a second.
const SLOW: u64 = 10_000_000 / 8;

/// How long a big read goes on before a small one begins.
const HEAD_START: Duration = Duration::from_secs(1);

/// Listings from memory are short: the middle one of so many counts.
const AGAIN: usize = 5;

pub fn mount(stage: &mut Stage<'_>) -> Outcome {
    first_listing(stage, &[])
}

pub fn mount_plain(stage: &mut Stage<'_>) -> Outcome {
    first_listing(stage, &["--no-compress"])
}

fn first_listing(stage: &mut Stage<'_>, args: &[&str]) -> Outcome {
    let bare = stage.bare_from_start("INBOX", NAMES)?;
    let (cost, _mount) = from_start(stage, args, |inbox| expect(MESSAGES, "ls", &["-U"], inbox))?;
    Ok(Run::new(cost).against(Side::Bare, bare))
}

/// Mounts, and does this in INBOX.
pub fn from_start(
    stage: &Stage<'_>,
    args: &[&str],
    work: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<(Cost, Mount), String> {
    let (mut cost, mount) = Cost::of(stage.proxy, || {
        let mount = Mount::try_new(&stage.account, args)?;
        work(&mount.join("INBOX"))?;
        Ok(mount)
    })?;
    cost.add_memory(&mount);
    Ok((cost, mount))
}

pub fn ls_again(stage: &mut Stage<'_>) -> Outcome {
    let (disk, memory) = (stage.standing.sample.copy(), stage.memory());
    let mount = stage.mount()?;
    let cost = again(stage, &mount, &mount.join("INBOX"))?;
    let others = [again(stage, &mount, &memory)?, again(stage, &mount, &disk)?];
    Ok(Run::new(cost).against(Side::Memory, others[0]).against(Side::Disk, others[1]))
}

pub fn ls_100000(stage: &mut Stage<'_>) -> Outcome {
    let (mount, listed) = list_many(stage, 100_000)?;
    let inbox = mount.join("INBOX");
    let (disk, memory) = stage.many(100_000).copies(&inbox);
    let mut cost = again(stage, &mount, &inbox)?;
    let others = [again(stage, &mount, &memory)?, again(stage, &mount, &disk)?];
    cost.resident = listed.resident;
    Ok(Run::new(cost).against(Side::Memory, others[0]).against(Side::Disk, others[1]))
}

pub fn ls_1000000(stage: &mut Stage<'_>) -> Outcome {
    let (_mount, listed) = list_many(stage, 1_000_000)?;
    Ok(Run::new(listed))
}

/// A mount of the server with many messages, without a line between, that was listed.
fn list_many(stage: &mut Stage<'_>, count: u32) -> Result<(Mount, Cost), String> {
    let account = Account::at(stage.many(count).server.port);
    let mount = Mount::try_new(&account, &[])?;
    let cost = Cost::of_mount(stage.proxy, &mount, || expect(count as usize, "ls", &["-U"], &mount.join("INBOX")))?;
    Ok((mount, cost))
}

/// The third and later of several listings.
fn again(stage: &Stage<'_>, mount: &Mount, directory: &Path) -> Result<Cost, String> {
    let list = || {
        let mut command = Command::new("ls");
        command.arg("-l").arg(directory).stdin(Stdio::null()).stdout(Stdio::null());
        if command.status().is_ok_and(|status| status.success()) { Ok(()) } else { Err("ls -l".to_owned()) }
    };
    list()?;
    list()?;
    let mut costs = Vec::new();
    for _ in 0..AGAIN {
        costs.push(Cost::of_mount(stage.proxy, mount, list)?);
    }
    costs.sort_by(|a, b| a.time.total_cmp(&b.time));
    Ok(costs[AGAIN / 2])
}

pub fn rg(stage: &mut Stage<'_>) -> Outcome {
    let args = ["--no-config", "-l", "needle", "."];
    through(stage, &|directory| expect(sample::needles(MESSAGES), "rg", &args, directory))
}

pub fn grep(stage: &mut Stage<'_>) -> Outcome {
    through(stage, &grep_needle)
}

fn grep_needle(directory: &Path) -> Result<(), String> {
    expect(sample::needles(MESSAGES), "grep", &["-r", "needle", "."], directory)
}

/// Through all of INBOX from nothing on.
fn through(stage: &mut Stage<'_>, work: &dyn Fn(&Path) -> Result<(), String>) -> Outcome {
    let bare = stage.bare_from_start("INBOX", BODIES)?;
    let (cost, mount) = from_start(stage, &[], work)?;
    drop(mount);
    let run = Run::new(cost).against(Side::Bare, bare);
    Ok(match stage.synced(work)? {
        Some(sync) => run.against(Side::Sync, sync),
        None => run,
    })
}

pub fn grep_warm(stage: &mut Stage<'_>) -> Outcome {
    let (disk, memory) = (stage.standing.sample.copy(), stage.memory());
    let mount = stage.mount()?;
    let inbox = mount.join("INBOX");
    stage.at_once(|| grep_needle(&inbox))?;
    let measure = |directory: &Path| {
        grep_needle(directory)?;
        Cost::of_mount(stage.proxy, &mount, || grep_needle(directory))
    };
    let cost = measure(&inbox)?;
    Ok(Run::new(cost).against(Side::Memory, measure(&memory)?).against(Side::Disk, measure(&disk)?))
}

/// A mount whose mailbox was listed, and whose connections are open, as those of the others are.
pub fn listed(stage: &Stage<'_>, mailbox: &str, count: usize) -> Result<(Mount, PathBuf), String> {
    let mount = stage.mount()?;
    let directory = mount.join(mailbox);
    expect(count, "ls", &["-U"], &directory)?;
    cost::settled(stage.proxy);
    Ok((mount, directory))
}

pub fn find(stage: &mut Stage<'_>) -> Outcome {
    let bare = stage.bare("INBOX", &[STRUCTURES.to_owned()])?;
    let memory = stage.new_memory("INBOX");
    let (mount, inbox) = listed(stage, "INBOX", MESSAGES)?;
    let find = |directory: &Path| expect(sample::attachments(MESSAGES), "find", &["-name", "*.pdf"], directory);
    let cost = Cost::of_mount(stage.proxy, &mount, || find(&inbox))?;
    expect(MESSAGES, "ls", &["-U"], &memory.path())?;
    let (memory, ()) = Cost::of(stage.proxy, || find(&memory.path()))?;
    Ok(Run::new(cost).against(Side::Bare, bare).against(Side::Memory, memory))
}

pub fn cp(stage: &mut Stage<'_>) -> Outcome {
    let bare = stage.bare("Some", &[BODIES.to_owned()])?;
    let memory = stage.new_memory("Some");
    let (mount, some) = listed(stage, "Some", SOME)?;
    let to = tempfile::tempdir().unwrap();
    let copy = |from: &Path, name: &str| {
        let to = to.path().join(name);
        expect(0, "cp", &["-r", ".", &to.display().to_string()], from)?;
        let copied = std::fs::read_dir(&to).map_or(0, Iterator::count);
        if copied == SOME { Ok(()) } else { Err(format!("cp -r: {copied} of {SOME}")) }
    };
    let cost = Cost::of_mount(stage.proxy, &mount, || copy(&some, "mount"))?;
    expect(SOME, "ls", &["-U"], &memory.path())?;
    let (memory, ()) = Cost::of(stage.proxy, || copy(&memory.path(), "memory"))?;
    Ok(Run::new(cost).against(Side::Bare, bare).against(Side::Memory, memory))
}

/// The attachment of 50 MB in a mount whose mailbox was listed.
fn big(stage: &Stage<'_>) -> Result<(Mount, PathBuf), String> {
    let (mount, directory) = listed(stage, "Big", 1)?;
    let message = std::fs::read_dir(directory).map_err(|error| error.to_string())?.next();
    let message = message.ok_or("Big is empty")?.map_err(|error| error.to_string())?;
    Ok((mount, message.path().join("big.bin")))
}

pub fn cat(stage: &mut Stage<'_>) -> Outcome {
    let bare = stage.bare("Big", &[BIG_PART.to_owned()])?;
    let (mount, path) = big(stage)?;
    let cost = Cost::of_mount(stage.proxy, &mount, || {
        // The real one: it advises the kernel that it reads a file through.
        let status = Command::new("cat").arg(&path).stdout(Stdio::null()).status();
        if status.is_ok_and(|status| status.success()) { Ok(()) } else { Err("cat".to_owned()) }
    })?;
    let length = path.metadata().map_err(|error| error.to_string())?.len();
    if length != BIG as u64 {
        return Err(format!("cat: {length} octets instead of {BIG}"));
    }
    Ok(Run::new(cost).against(Side::Bare, bare))
}

/// Octets of pages that are asked for one after the other; the bare client asks so, too.
pub fn random(stage: &mut Stage<'_>) -> Outcome {
    let mut at = 1;
    let offsets: Vec<u64> = std::iter::repeat_with(|| {
        at = at * 48271 % 0x7fff_ffff;
        at % (BIG - PAGE) as u64
    })
    .take(READS as usize)
    .collect();
    let mut bare = crate::bare::Bare::select(&stage.account, "Big");
    let (bare, ()) = Cost::of(stage.proxy, || {
        for offset in &offsets {
            bare.exchange(&[format!("UID FETCH 1 (UID BODY.PEEK[2]<{}.5600>)", offset / 57 * 78)]);
        }
        Ok(())
    })?;
    let (mount, path) = big(stage)?;
    let file = File::open(path).map_err(|error| error.to_string())?;
    let cost = Cost::of_mount(stage.proxy, &mount, || {
        let mut page = [0; PAGE];
        offsets.iter().try_for_each(|offset| file.read_exact_at(&mut page, *offset)).map_err(|error| error.to_string())
    })?;
    drop(file);
    Ok(Run { count: READS, ..Run::new(cost).against(Side::Bare, bare) })
}

/// A text of a message that nobody looked at yet, while the big attachment is read.
pub fn beside(stage: &mut Stage<'_>) -> Outcome {
    stage.proxy.set_line(Some(stage.rate.unwrap_or(SLOW)));
    let run = read_beside(stage);
    stage.proxy.set_line(stage.rate);
    run
}

fn read_beside(stage: &Stage<'_>) -> Outcome {
    let (mount, path) = big(stage)?;
    let some = mount.join("Some");
    let names = stage::run("ls", &["-U"], &some)?;
    let name = names.lines().nth(SOME / 2).ok_or("Some is empty")?;
    let cat = Command::new("cat").arg(&path).stdout(Stdio::null()).spawn();
    let mut cat = cat.map_err(|error| error.to_string())?;
    std::thread::sleep(HEAD_START);
    let start = Instant::now();
    let mut text = String::new();
    let read = File::open(some.join(name).join("body.txt")).and_then(|mut file| file.read_to_string(&mut text));
    let time = start.elapsed().as_secs_f64();
    let _ = (cat.kill(), cat.wait());
    let mut cost = Cost { time, ..Cost::default() };
    cost.add_memory(&mount);
    read.map_err(|error| error.to_string())?;
    Ok(Run::new(cost))
}
