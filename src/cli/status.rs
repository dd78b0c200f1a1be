//! `imapfs status`: what a mount says of itself in `.imapfs/status`, or which mounts there are.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::args::Status;
use super::exit::{Exit, Failure};
use super::print;

/// A mount of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The account, or `user@host`.
    pub name: String,
    /// Where.
    pub mountpoint: PathBuf,
}

/// Prints it.
///
/// # Errors
/// Usage when nothing of ours is mounted there; Unavailable when its process is gone.
pub fn run(status: &Status) -> Result<(), Failure> {
    let Some(path) = &status.mountpoint else { return list(status.json) };
    let shown = path.display();
    let text = std::fs::read_to_string(path.join(".imapfs/status")).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Failure::usage(format!("{shown} is not mounted by imapfs")),
        ErrorKind::NotConnected => Failure::new(
            Exit::Unavailable,
            format!("the process of {shown} is gone; imapfs umount {shown} clears it away"),
        ),
        _ => Failure::new(Exit::Unavailable, format!("{shown} does not answer: {error}")),
    })?;
    print(&if status.json { format!("{}\n", to_json(&text)) } else { text })
}

fn list(json: bool) -> Result<(), Failure> {
    let mounts = mounts()?;
    if json {
        let rows = mounts.iter().map(|m| json!({"name": m.name, "mountpoint": m.mountpoint.to_string_lossy()}));
        return print(&format!("{}\n", Value::Array(rows.collect())));
    }
    let rows = mounts.iter().map(|m| format!("{} is mounted at {}\n", m.name, m.mountpoint.display()));
    print(&rows.collect::<String>())
}

/// `key: value` lines as a JSON object; whole numbers as numbers.
fn to_json(text: &str) -> Value {
    let rows = text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| {
        let value = value.trim();
        (key.trim().to_owned(), value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from))
    });
    Value::Object(rows.collect::<Map<_, _>>())
}

/// The mounts of imapfs that this process can see, the newest last.
///
/// # Errors
/// System without /proc.
pub fn mounts() -> Result<Vec<Mounted>, Failure> {
    let table = std::fs::read("/proc/self/mountinfo").map_err(|error| Failure::system("cannot list mounts", &error))?;
    Ok(parse_mounts(&table))
}

/// Parses mountinfo, proc_pid_mountinfo(5): the mount point is the fifth field, type and source follow the ` - `.
fn parse_mounts(table: &[u8]) -> Vec<Mounted> {
    let row = |line: &[u8]| {
        let mut fields = line.split(|c| *c == b' ');
        let mountpoint = fields.nth(4)?;
        fields.find(|field| *field == b"-")?;
        let (kind, source) = (fields.next()?, fields.next()?);
        (kind == b"fuse.imapfs").then(|| Mounted {
            name: crate::error::printable(unescape(source).as_bytes(), 200),
            mountpoint: Path::new(&unescape(mountpoint)).into(),
        })
    };
    table.split(|c| *c == b'\n').filter_map(row).collect()
}

/// Undoes `\040` and the like.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = rest.get(1..4).filter(|d| *first == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        match digits {
            Some(digits) => {
                out.push(digits.iter().fold(0u32, |n, digit| n << 3 | u32::from(digit - b'0')) as u8);
                rest = &rest[4..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_imapfs_are_found_in_mountinfo() {
        let table = b"22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
            90 22 0:50 / /home/b/My\\040Mail rw,nosuid - fuse.imapfs work rw,user_id=0\n\
            91 22 0:51 / /m\\134x ro master:2 - fuse.imapfs u@h ro\n92 22 0:52 / /s rw - fuse.sshfs h: rw\nodd";
        let found: Vec<_> = parse_mounts(table).into_iter().map(|m| (m.name, m.mountpoint)).collect();
        assert_eq!(found, [("work".into(), "/home/b/My Mail".into()), ("u@h".into(), PathBuf::from("/m\\x"))]);
    }

    #[test]
    fn status_lines_become_json() {
        let text = "account: work\nbytes in: 17\nserver: a: b\nno value\n";
        assert_eq!(to_json(text), json!({"account": "work", "bytes in": 17, "server": "a: b"}));
    }
}
