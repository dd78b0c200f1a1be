//! A mount of the program under test, in the foreground, taken down when it is dropped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::server::{Account, Security};
use super::wait_for;

/// Longest time from the start of the program to the mount.
const START: Duration = Duration::from_secs(20);

/// The program runs under a shell that takes it down when the test binary is gone, however that one ended.
/// Arguments: the mountpoint, then the command. Prints the program's pid, ends with its status.
const KEEPER: &str = r#"
exec 3<&0 </dev/null
dir=$1
shift
"$@" 3<&- &
pid=$!
echo $pid
exec >/dev/null
{
    cat <&3
    kill -TERM $pid 2>/dev/null
    for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $pid 2>/dev/null || exit; sleep 0.2; done
    kill -KILL $pid
    umount -l "$dir" || fusermount3 -uz "$dir"
} 2>/dev/null &
watcher=$!
exec 3<&-
wait $pid
status=$?
kill $watcher
exit $status
"#;

/// A mounted account.
pub struct Mount {
    path: PathBuf,
    log: PathBuf,
    /// The program's process.
    pub pid: u32,
    keeper: Child,
    _dir: TempDir,
}

impl Mount {
    /// Mounts `account` with more `args`, and waits until the mount is there.
    ///
    /// # Panics
    /// When the program ends before, or the mount is not there in 20 s; with the program's log.
    pub fn new(account: &Account, args: &[&str]) -> Mount {
        Self::try_new(account, args).unwrap_or_else(|log| panic!("not mounted; log:\n{log}"))
    }

    /// The same; `Err` with the log when the program ended instead.
    pub fn try_new(account: &Account, args: &[&str]) -> Result<Mount, String> {
        let dir = tempfile::Builder::new().prefix("imapfs-mount-").tempdir().unwrap();
        let path = dir.path().join("mail");
        std::fs::create_dir(&path).unwrap();
        // Not below the mountpoint, and not in the user's own cache or configuration.
        let log = dir.path().join("log");
        let (url, protection) = url(account);
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&path)
            .arg(env!("CARGO_BIN_EXE_imapfs"))
            .args(["mount", "-f"])
            .args(protection)
            .args(args)
            .arg(url)
            .arg(&path)
            .env("IMAPFS_PASSWORD", &account.password)
            .env("XDG_CONFIG_HOME", dir.path().join("config"))
            .env("XDG_CACHE_HOME", dir.path().join("cache"))
            .env("XDG_RUNTIME_DIR", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = line.trim().parse().unwrap();
        let mut mount = Mount { path, log, pid, keeper, _dir: dir };
        let up = wait_for(START, || match mount.is_mounted() {
            true => Some(true),
            false => mount.ended().then_some(false),
        });
        if up == Some(true) { Ok(mount) } else { Err(mount.log()) }
    }

    /// The mountpoint.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the mount.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path.join(path)
    }

    /// The directory of the message with this UID in a mailbox's directory.
    pub fn message(&self, mailbox: &str, uid: u32) -> PathBuf {
        let directory = self.path.join(mailbox);
        let suffix = format!(".{uid}");
        let found = std::fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .find(|name| name.ends_with(&suffix));
        directory.join(found.unwrap_or_else(|| panic!("no message with UID {uid} in {}", directory.display())))
    }

    pub fn is_mounted(&self) -> bool {
        // A mountinfo line is: id parent major:minor root mountpoint options …
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == self.path))
    }

    /// Whether the program has ended.
    pub fn ended(&mut self) -> bool {
        self.keeper.try_wait().unwrap().is_some()
    }

    /// What the program has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Lines of the log at WARN or ERROR that contain none of `expected`, and panics of the program.
    pub fn complaints(&self, expected: &[&str]) -> Vec<String> {
        let log = self.log();
        let bad = |line: &&str| ["WARN", "ERROR", "panicked"].iter().any(|word| line.contains(word));
        log.lines()
            .filter(bad)
            .filter(|line| !expected.iter().any(|text| line.contains(text)))
            .map(str::to_owned)
            .collect()
    }

    /// Fails when the program has warned of anything that was not `expected`.
    pub fn assert_quiet(&self, expected: &[&str]) {
        let complaints = self.complaints(expected);
        assert!(complaints.is_empty(), "unexpected in the log:\n{}", complaints.join("\n"));
    }

    /// Peak resident memory of the program, in kB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Unmounts in the ordinary way and waits for the program to end; whether it did, within 10 s and with status 0.
    pub fn unmount(&mut self) -> bool {
        // What was read a moment ago may still be on its way out.
        let unmount = || Command::new("fusermount3").arg("-u").arg(&self.path).stderr(Stdio::null()).status();
        let done = wait_for(Duration::from_secs(2), || unmount().is_ok_and(|s| s.success()).then_some(())).is_some();
        let status = wait_for(Duration::from_secs(10), || self.keeper.try_wait().unwrap());
        done && status.is_some_and(|status| status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted() && !self.ended() {
            self.unmount();
        }
        if !self.ended() {
            drop(self.keeper.stdin.take());
            wait_for(Duration::from_secs(5), || self.keeper.try_wait().unwrap());
        }
        if self.is_mounted() {
            let _ = Command::new("fusermount3").arg("-uz").arg(&self.path).stderr(Stdio::null()).status();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("last lines of the mount's log:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// The URL of this account, and how its connections are protected.
fn url(account: &Account) -> (String, [String; 2]) {
    let (scheme, port) = match account.security {
        Security::Implicit => ("imaps", account.tls_port),
        Security::StartTls | Security::None => ("imap", account.port),
    };
    let protection = match account.security {
        Security::None => ["--tls".to_owned(), "none".to_owned()],
        Security::Implicit | Security::StartTls => ["--tls-ca".to_owned(), account.ca.display().to_string()],
    };
    (format!("{scheme}://{}@localhost:{port}", account.user), protection)
}
