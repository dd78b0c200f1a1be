//! Runs `tests/judge.py`: Python's imaplib and email compare a mounted mailbox with the server.

use std::path::Path;
use std::process::Command;

use super::mount::Mount;
use super::server::Account;

/// One difference that the judge saw; see the head of `tests/judge.py` for the classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub uid: u32,
    pub class: String,
    pub what: String,
}

/// All differences between a mailbox (its path in the mount) and the server.
///
/// # Panics
/// When the judge itself fails.
pub fn judge(account: &Account, mount: &Mount, mailbox: &str) -> Vec<Difference> {
    let path = mailbox.strip_prefix(if account.server == "dovecot" { "" } else { "INBOX/" }).unwrap_or(mailbox);
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge.py"))
        .args(["--json", "--port", &account.direct_port().to_string()])
        .args(["--user", &account.user, "--password", &account.password])
        .args(["--mailbox", mailbox, "--wire", &account.wire_name(path)])
        .arg("--mount")
        .arg(mount.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let summary = lines.pop();
    let complete = summary.is_some_and(|summary| summary["differences"].as_u64() == Some(lines.len() as u64));
    assert!(complete, "the judge failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
    let difference = |line: serde_json::Value| Difference {
        uid: line["uid"].as_u64().and_then(|uid| uid.try_into().ok()).unwrap_or(0),
        class: text(&line["class"]),
        what: text(&line["what"]),
    };
    lines.into_iter().map(difference).collect()
}
