//! mbsync: the mailbox is copied to a Maildir first, and then the same tool runs on that.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::Account;
use crate::common::proxy::Proxy;
use crate::cost::Cost;

/// INBOX as mbsync brought it.
pub struct Synced {
    /// What that took.
    pub cost: Cost,
    directory: TempDir,
}

pub fn is_installed() -> bool {
    Command::new("mbsync").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

impl Synced {
    pub fn new(proxy: &Proxy, account: &Account) -> Result<Synced, String> {
        let directory = tempfile::Builder::new().prefix("imapfs-mbsync-").tempdir().unwrap();
        let (path, file) = (directory.path().display(), directory.path().join("rc"));
        // It does not wait for the disk, as the program under test does not.
        let rc = format!(
            "FSync no\nIMAPAccount far\nHost 127.0.0.1\nPort {}\nUser {}\nPass {}\nSSLType None\nAuthMechs LOGIN\n\n\
             IMAPStore far\nAccount far\n\n\
             MaildirStore near\nPath {path}/\nInbox {path}/INBOX\nSubFolders Verbatim\n\n\
             Channel all\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSync Pull\nSyncState *\n",
            account.port, account.user, account.password
        );
        std::fs::write(&file, rc).unwrap();
        let sync = || {
            let output = Command::new("mbsync").arg("-q").arg("-c").arg(&file).arg("all").output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() { Ok(()) } else { Err(format!("mbsync: {error}")) }
        };
        let (cost, ()) = Cost::of(proxy, sync)?;
        Ok(Synced { cost, directory })
    }

    /// Where the messages are.
    pub fn messages(&self) -> PathBuf {
        self.directory.path().join("INBOX")
    }
}
