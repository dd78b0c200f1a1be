//! The life of a mount: in the background, twice, over a dead one, ended by signals, and when the server hangs.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Account, Mount, Server, corpus, wait_for};
use tempfile::TempDir;

/// A directory to mount on, which is cleared away however the test ends.
struct Place {
    dir: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("imapfs-place-").tempdir().unwrap();
        let path = dir.path().join("mail");
        fs::create_dir(&path).unwrap();
        Place { dir, path }
    }

    /// Runs the program with the account's password in the environment.
    fn imapfs(&self, account: &Account, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_imapfs"))
            .args(args)
            .env("IMAPFS_PASSWORD", &account.password)
            .env("XDG_CONFIG_HOME", self.dir.path())
            .env("XDG_CACHE_HOME", self.dir.path().join("cache"))
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Mounts in the background.
    fn mount(&self, account: &Account) -> Output {
        let log = self.dir.path().join("log");
        let arguments = ["--tls-ca", account.ca.to_str().unwrap(), "--log-file", log.to_str().unwrap()];
        self.imapfs(account, &[&["mount", &url(account), self.path.to_str().unwrap()], &arguments[..]].concat())
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == self.path))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_mounted() {
            let _ = Command::new("fusermount3").arg("-uz").arg(&self.path).status();
        }
        if std::thread::panicking() {
            eprintln!("the mount's log:\n{}", self.log());
        }
    }
}

fn url(account: &Account) -> String {
    format!("imap://{}@localhost:{}", account.user, account.port)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn signal(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// An account with one message that has an attachment of 2 MB.
fn account() -> Account {
    let account = Server::dovecot().account();
    account.imap().append("INBOX", &corpus::big(2 << 20).bytes, "", None).unwrap();
    account
}

/// The only message's directory.
fn message(mount: &Path) -> PathBuf {
    fs::read_dir(mount.join("INBOX")).unwrap().next().unwrap().unwrap().path()
}

/// The processes of the program that were started with this mountpoint.
fn processes(mountpoint: &Path) -> Vec<u32> {
    let wanted = mountpoint.to_str().unwrap().as_bytes();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_ours = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == wanted)
    };
    pids.filter(is_ours).collect()
}

#[test]
fn a_mount_in_the_background_says_so_is_listed_and_ends_with_umount() {
    let account = account();
    let place = Place::new();
    let path = place.path.to_str().unwrap();
    let mounted = place.mount(&account);
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    let line = format!("is mounted at {path}\n");
    assert!(stdout(&mounted).ends_with(&line) && stdout(&mounted).lines().count() == 1, "{}", stdout(&mounted));
    // The parent answered when everything worked: no waiting.
    assert!(message(&place.path).join("big.bin").exists());
    assert_eq!(processes(&place.path).len(), 1);

    assert!(stdout(&place.imapfs(&account, &["status"])).contains(&line));
    let status = stdout(&place.imapfs(&account, &["status", path]));
    assert!(status.contains("messages_known: 1"), "{status}");
    let json = stdout(&place.imapfs(&account, &["status", "--json", path]));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["messages_known"], 1);

    // Who is in there keeps it; --lazy does not wait.
    let mut inside = Command::new("sleep").arg("60").current_dir(message(&place.path)).spawn().unwrap();
    let busy = place.imapfs(&account, &["umount", path]);
    assert!(busy.status.code() == Some(75) && stderr(&busy).contains("--lazy"), "{busy:?}");
    assert!(place.is_mounted());
    inside.kill().unwrap();
    inside.wait().unwrap();

    let unmounted = place.imapfs(&account, &["umount", path]);
    assert_eq!(unmounted.status.code(), Some(0), "{}", stderr(&unmounted));
    assert!(!place.is_mounted());
    assert!(wait_for(Duration::from_secs(5), || processes(&place.path).is_empty().then_some(())).is_some());
    assert!(!stdout(&place.imapfs(&account, &["status"])).contains(&line));
    assert_eq!(place.imapfs(&account, &["umount", path]).status.code(), Some(64));
    assert!(!place.log().contains("WARN") && !place.log().contains(&account.password), "{}", place.log());
}

#[test]
fn signals_unmount() {
    for name in ["-TERM", "-INT", "-HUP"] {
        let mut mount = Mount::new(&account(), &[]);
        let _ = message(mount.path());
        signal(name, mount.pid);
        let ended = wait_for(Duration::from_secs(5), || mount.ended().then_some(()));
        assert!(ended.is_some() && !mount.is_mounted(), "{name}: {}", mount.log());
        mount.assert_quiet(&[]);
    }
}

/// The mount can be unmounted at any time: by a signal, also when somebody is in there.
#[test]
fn a_signal_unmounts_what_is_in_use() {
    let mut mount = Mount::new(&account(), &[]);
    let file = File::open(message(mount.path()).join("big.bin")).unwrap();
    signal("-TERM", mount.pid);
    let ended = wait_for(Duration::from_secs(10), || mount.ended().then_some(()));
    assert!(ended.is_some() && !mount.is_mounted(), "{}", mount.log());
    let mut some = [0; 4096];
    assert!(file.read_exact_at(&mut some, 1_900_000).is_err());
}

#[test]
fn one_account_can_be_mounted_twice() {
    let account = account();
    let (one, other) = (Mount::new(&account, &[]), Mount::new(&account, &[]));
    let read = |mount: &Mount| fs::read(message(mount.path()).join("big.bin")).unwrap();
    assert_eq!(read(&one), read(&other));
    drop(one);
    assert!(message(other.path()).join("headers.txt").exists());
    other.assert_quiet(&[]);
}

/// A mount whose process was killed is cleared away by the next one.
#[test]
fn a_dead_mount_is_mounted_over() {
    let account = account();
    let place = Place::new();
    assert_eq!(place.mount(&account).status.code(), Some(0), "{}", place.log());
    let pids = processes(&place.path);
    pids.iter().for_each(|pid| signal("-KILL", *pid));
    // ECONNABORTED while the kernel takes the connection down.
    let is_dead = || fs::read_dir(&place.path).err().filter(|error| error.raw_os_error() == Some(libc::ENOTCONN));
    assert!(wait_for(Duration::from_secs(5), is_dead).is_some());
    let status = place.imapfs(&account, &["status", place.path.to_str().unwrap()]);
    assert!(status.status.code() == Some(69) && stderr(&status).contains("is gone"), "{status:?}");
    let again = place.mount(&account);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert!(message(&place.path).join("headers.txt").exists());
    let unmounted = place.imapfs(&account, &["umount", place.path.to_str().unwrap()]);
    assert_eq!(unmounted.status.code(), Some(0), "{}", stderr(&unmounted));
    assert!(!place.is_mounted(), "the dead mount is still below");
}

/// One mailbox of an account can be what is mounted.
#[test]
fn a_mailbox_in_the_url_is_what_is_mounted() {
    let account = account();
    let mut imap = account.imap();
    imap.create("a/b").unwrap();
    imap.append("a/b", b"Subject: in b\r\n\r\nx\r\n", "", None).unwrap();
    let place = Place::new();
    let path = place.path.to_str().unwrap();
    let arguments = ["--tls-ca", account.ca.to_str().unwrap()];
    let url = format!("{}/a/b", url(&account));
    let mounted = place.imapfs(&account, &[&["mount", &url, path], &arguments[..]].concat());
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    let names: Vec<_> = fs::read_dir(&place.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.len() == 1 && names[0].to_str().unwrap().ends_with("_in-b.1"), "{names:?}");
    assert_eq!(place.imapfs(&account, &["umount", path]).status.code(), Some(0));
}

/// All processes of a server stand still while this lives.
struct Frozen(Vec<u32>);

impl Frozen {
    fn new(server: &Server) -> Frozen {
        let mut pids = vec![server.pid];
        let mut at = 0;
        while let Some(pid) = pids.get(at).copied() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            at += 1;
        }
        pids.iter().for_each(|pid| signal("-STOP", *pid));
        Frozen(pids)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal("-CONT", *pid));
    }
}

/// Nothing hangs: a killed program is let go, what is in memory can be read, and the mount can be unmounted, while the
/// server does not answer.
#[test]
fn a_server_that_hangs_holds_nobody() {
    let server = Server::start("dovecot", &[]);
    let account = server.alice();
    let mut imap = account.imap();
    imap.append("INBOX", &corpus::big(2 << 20).bytes, "", None).unwrap();
    imap.create("Other").unwrap();
    let mut mount = Mount::new(&account, &["--timeout", "5"]);
    let directory = message(mount.path());
    let headers = fs::read(directory.join("headers.txt")).unwrap();
    let frozen = Frozen::new(&server);

    assert_eq!(fs::read(directory.join("headers.txt")).unwrap(), headers, "what is known is shown");
    let mut programs = Vec::new();
    for (program, path) in
        [("ls", mount.join("Other")), ("cat", directory.join("big.bin")), ("stat", directory.join("big.bin"))]
    {
        let child = Command::new(program).arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        programs.push((program, child));
    }
    // They wait when they were seen asleep often enough.
    let sleeps = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['S', 'D']))
    };
    for (program, child) in &mut programs {
        let pid = child.id();
        let mut seen = 0;
        let waits = wait_for(Duration::from_secs(3), || {
            seen = if sleeps(pid) { seen + 1 } else { 0 };
            (seen > 30).then_some(())
        });
        assert!(waits.is_some() && child.try_wait().unwrap().is_none(), "{program} does not wait");
        let start = Instant::now();
        child.kill().unwrap();
        let ended = wait_for(Duration::from_secs(3), || child.try_wait().unwrap());
        assert!(ended.is_some() && start.elapsed() < Duration::from_secs(1), "{program}: {:?}", start.elapsed());
    }
    // Nobody killed this one: its deadline comes.
    let start = Instant::now();
    let error = fs::read_dir(mount.join("Other")).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    println!("{error} after {:?}", start.elapsed());
    let start = Instant::now();
    assert!(mount.unmount(), "{}", mount.log());
    assert!(start.elapsed() < Duration::from_secs(5), "unmounting takes {:?}", start.elapsed());
    drop(frozen);
}

/// When the server is back, so is the mail, without a new mount.
#[test]
fn a_server_that_hung_is_used_again() {
    let server = Server::start("dovecot", &[]);
    let account = server.alice();
    account.imap().append("INBOX", &corpus::big(100_000).bytes, "", None).unwrap();
    let mount = Mount::new(&account, &["--timeout", "2"]);
    let directory = message(mount.path());
    {
        let _frozen = Frozen::new(&server);
        assert!(fs::read(directory.join("big.bin")).is_err());
    }
    let read = wait_for(Duration::from_secs(20), || fs::read(directory.join("big.bin")).ok());
    assert_eq!(read.map(|bytes| bytes.len()), Some(usize::try_from(100_000u64 / 78 * 57).unwrap()));
}

/// An ordinary user mounts without root: with fusermount3.
#[test]
fn an_ordinary_user_mounts_and_nobody_else_gets_in() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let everybody_may = fs::metadata("/dev/fuse").unwrap().permissions().mode() & 0o006 == 0o006;
    let fusermount = Command::new("sh").args(["-c", "command -v fusermount3"]).output().unwrap().status.success();
    if fs::metadata("/proc/self").unwrap().uid() != 0 || !everybody_may || !fusermount {
        println!("needs root, to become another user, and a /dev/fuse for all");
        return;
    }
    let account = account();
    let place = Place::new();
    let nobody = 65_534;
    // The program and the certificate where this user can read them.
    let program = place.dir.path().join("imapfs");
    fs::copy(env!("CARGO_BIN_EXE_imapfs"), &program).unwrap();
    let ca = place.dir.path().join("ca.pem");
    fs::copy(&account.ca, &ca).unwrap();
    fs::set_permissions(&ca, PermissionsExt::from_mode(0o644)).unwrap();
    for path in [place.dir.path(), &place.path] {
        chown(path, Some(nobody), Some(nobody)).unwrap();
    }
    let as_nobody = |command: &[&str]| {
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .args(command)
            .env("IMAPFS_PASSWORD", &account.password)
            .env("HOME", place.dir.path())
            .output()
            .unwrap()
    };
    let (program, path) = (program.to_str().unwrap(), place.path.to_str().unwrap());
    let mounted = as_nobody(&[program, "mount", &url(&account), path, "--tls-ca", ca.to_str().unwrap()]);
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    let listed = as_nobody(&["find", path, "-name", "big.bin", "-printf", "%U %s"]);
    assert!(stdout(&listed).starts_with("65534 ") && listed.status.success(), "{listed:?}");
    // Not even root.
    assert_eq!(fs::read_dir(&place.path).unwrap_err().raw_os_error(), Some(libc::EACCES));
    let unmounted = as_nobody(&[program, "umount", path]);
    assert!(unmounted.status.success() && !place.is_mounted(), "{}", stderr(&unmounted));
}
