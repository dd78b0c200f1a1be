//! `imapfs status`: what a mount says of itself in `.imapfs/status`, or which mounts there are.

use std::io::ErrorKind;

use serde_json::{Map, Value, json};

use super::args::Status;
use super::exit::{Exit, Failure};
use super::print;
use crate::error::printable;
use crate::fuse::{self, Mount};

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
    let name = |mount: &Mount| printable(mount.source.as_bytes(), 200);
    let mounts = fuse::imapfs_mounts()?;
    if json {
        let rows = mounts.iter().map(|m| json!({"name": name(m), "mountpoint": m.target.to_string_lossy()}));
        return print(&format!("{}\n", Value::Array(rows.collect())));
    }
    let rows = mounts.iter().map(|m| format!("{} is mounted at {}\n", name(m), m.target.display()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_become_json() {
        let text = "account: work\nbytes in: 17\nserver: a: b\nno value\n";
        assert_eq!(to_json(text), json!({"account": "work", "bytes in": 17, "server": "a: b"}));
    }
}
