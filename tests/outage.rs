//! A server that stops, hangs, limps or sends everybody away: calls end, processes can be killed, the rest goes on,
//! and all is well again afterwards without a remount.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::proxy::{Action, Proxy};
use common::{Account, Mount, Security, Server, wait_for};

/// Longest time for a call with `--timeout 2`: one silent exchange, asked for once more, and a look what is the matter.
const LIMIT: Duration = Duration::from_secs(15);
/// From the end of an outage until things can be read again: the longest pause of so short an outage, and a login.
const RECOVERY: Duration = Duration::from_secs(15);

/// An account with a small and a big message in INBOX (UIDs 1 and 2) and a small one in `Other`.
fn account(server: &Server, big: usize) -> Account {
    let account = server.account().with(Security::None);
    let mut imap = account.imap();
    imap.append("INBOX", b"Subject: small\r\n\r\nsmall\r\n", "", None).unwrap();
    imap.append("INBOX", &big_message(big), "", None).unwrap();
    imap.create("Other").unwrap();
    imap.append("Other", b"Subject: other\r\n\r\nother\r\n", "", None).unwrap();
    account
}

/// A message of so many octets whose lines are all different.
fn big_message(octets: usize) -> Vec<u8> {
    let mut message = b"Subject: big\r\nContent-Type: text/plain\r\n\r\n".to_vec();
    for line in 0.. {
        if message.len() >= octets {
            break;
        }
        message.extend(format!("{line:070}\r\n").bytes());
    }
    message
}

fn cat(path: &Path) -> Child {
    Command::new("cat").arg(path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs a program; whether it succeeded, and how long it took.
fn timed(program: &str, path: &Path) -> (bool, Duration) {
    let started = Instant::now();
    let output = Command::new(program).arg(path).output().unwrap();
    (output.status.success(), started.elapsed())
}

/// Everything can be read and is right, at the latest after [`RECOVERY`]; how long that took.
fn recovered(mount: &Mount, account: &Account) -> Duration {
    let started = Instant::now();
    let mut imap = account.imap();
    imap.select("INBOX").unwrap();
    let truth = imap.body(2, "").unwrap().unwrap();
    let right = wait_for(RECOVERY, || {
        let listed = std::fs::read_dir(mount.join("Other")).ok()?.count();
        let entries = std::fs::read_dir(mount.join("INBOX")).ok()?;
        let big = entries.flatten().find(|entry| entry.file_name().to_string_lossy().ends_with(".2"))?;
        let read = std::fs::read(big.path().join("message.eml")).ok()?;
        assert!(read == truth, "{} of {} octets", read.len(), truth.len());
        (listed == 1).then_some(())
    });
    assert!(right.is_some(), "not recovered after {RECOVERY:?}");
    started.elapsed()
}

/// A process that waits for a file is gone within a second when it is killed.
fn killed_at_once(path: &Path) {
    let mut reader = cat(path);
    // It has to wait first.
    let early = wait_for(Duration::from_millis(300), || reader.try_wait().unwrap());
    assert!(early.is_none(), "it did not wait: {early:?}");
    let started = Instant::now();
    reader.kill().unwrap();
    assert!(wait_for(Duration::from_secs(5), || reader.try_wait().unwrap()).is_some(), "it cannot be killed");
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
}

#[test]
fn a_silent_server_costs_an_errno_in_time_and_nothing_else() {
    let account = account(Server::dovecot(), 100_000);
    for action in
        [Action::Blackhole, Action::HalfClose, Action::Fin, Action::Rst, Action::Stall(Duration::from_secs(4))]
    {
        let proxy = Proxy::new(account.port);
        let mount = Mount::new(&account.through(&proxy), &["--timeout", "2"]);
        let message = mount.message("INBOX", 2);
        proxy.strike(action.clone());
        for (program, path) in
            [("ls", mount.join("Other")), ("cat", message.join("message.eml")), ("stat", mount.join("Other/x.1"))]
        {
            let (_, took) = timed(program, &path);
            assert!(took < LIMIT, "{action:?}: {program} took {took:?}");
        }
        println!("{action:?}: recovered after {:?}", recovered(&mount, &account));
        assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new(), "{action:?}");
    }
}

#[test]
fn a_stopped_server_hangs_nobody_and_readers_can_be_killed_and_the_mount_taken_down() {
    // One of its own: it is stopped, all processes of it.
    let server = Server::start("dovecot", &[]);
    let account = account(&server, 100_000);
    let mut mount = Mount::new(&account, &["--timeout", "3"]);
    let mut other = Mount::new(&account, &["--timeout", "60"]);
    let (big, waiting) = (mount.message("INBOX", 2), other.message("INBOX", 2));
    signal_all(server.pid, libc::SIGSTOP);
    let started = Instant::now();
    let (right, took) = timed("cat", &big.join("message.eml"));
    assert!(!right && took < LIMIT, "{took:?}");
    // Where the deadline is far away, a killed reader is gone all the same.
    killed_at_once(&waiting.join("message.eml"));
    let begin = Instant::now();
    assert!(other.unmount(), "it cannot be unmounted");
    assert!(begin.elapsed() < Duration::from_secs(5), "unmounting took {:?}", begin.elapsed());
    println!("stopped for {:?}", started.elapsed());
    signal_all(server.pid, libc::SIGCONT);
    println!("recovered after {:?}", recovered(&mount, &account));
    assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new());
    assert!(mount.unmount());
}

/// Sends a signal to a process and all its descendants.
fn signal_all(pid: u32, signal: i32) {
    for child in children(pid) {
        signal_all(child, signal);
    }
    let name = if signal == libc::SIGSTOP { "-STOP" } else { "-CONT" };
    // One may have ended in between.
    let _ = Command::new("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status();
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_server_that_is_away_is_not_hammered_and_found_again() {
    let account = account(Server::dovecot(), 10_000);
    let proxy = Proxy::new(account.port);
    let mount = Mount::new(&account.through(&proxy), &["--timeout", "2"]);
    let message = mount.message("INBOX", 2);
    // What was read is still there when the server is not.
    let known = std::fs::read(message.join("message.eml")).unwrap();
    // Each attempt is counted, and hung up on.
    let port = proxy.port();
    drop(proxy);
    let outage = wait_for(Duration::from_secs(5), || TcpListener::bind(("127.0.0.1", port)).ok()).unwrap();
    outage.set_nonblocking(true).unwrap();
    let (started, mut attempts, mut calls, mut slowest) = (Instant::now(), 0, 0, Duration::ZERO);
    while started.elapsed() < Duration::from_secs(5) {
        let begin = Instant::now();
        // Refuses whoever came while the call was under way.
        let call = std::thread::spawn({
            let other = mount.join("Other");
            move || std::fs::read_dir(other).map(Iterator::count)
        });
        while !call.is_finished() {
            if outage.accept().is_ok() {
                attempts += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(call.join().unwrap().is_err());
        slowest = slowest.max(begin.elapsed());
        calls += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{calls} calls, {attempts} attempts, the slowest call {slowest:?}");
    assert!(attempts <= 12 && calls > 20, "{attempts} attempts, {calls} calls");
    assert!(slowest < Duration::from_secs(6), "{slowest:?}");
    assert!(std::fs::read(message.join("message.eml")).is_ok_and(|read| read == known));
    drop(outage);
    let _proxy = Proxy::listen(port, account.port);
    println!("recovered after {:?}", recovered(&mount, &account));
    assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new());
}

/// What cannot be listed is told when it is opened: told later, it passes for an empty directory, and old programs in Rust
/// ask for ever.
#[test]
fn who_walks_what_cannot_be_listed_is_told_and_comes_to_an_end() {
    let account = account(Server::dovecot(), 10_000);
    let proxy = Proxy::new(account.port);
    let mount = Mount::new(&account.through(&proxy), &["--timeout", "2"]);
    assert!(mount.join("Other").is_dir());
    proxy.refuse(true);
    proxy.strike(Action::Rst);
    let programs = [("rg", &["-l", "needle"][..]), ("grep", &["-r", "needle"]), ("find", &[]), ("ls", &["-R"])];
    for (program, args) in programs {
        let mut command = Command::new("timeout");
        let command = command.env("LC_ALL", "C").args(["15", program]).args(args);
        let output = command.arg(mount.join("Other")).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code == 1 || code == 2), "{program}: {}", output.status);
        assert!(error.contains("No route to host"), "{program}: {error}");
    }
    proxy.refuse(false);
    println!("recovered after {:?}", recovered(&mount, &account));
}

#[test]
fn a_server_that_bears_few_connections_is_served_with_few() {
    for most in ["1", "2"] {
        let server = Server::start("dovecot", &[("DOVECOT_MAXCONN", most)]);
        let account = server.account().with(Security::None);
        {
            let mut imap = account.imap();
            imap.append("INBOX", &big_message(3_000_000), "", None).unwrap();
            imap.append("INBOX", &big_message(100_000), "", None).unwrap();
            imap.create("Other").unwrap();
            imap.append("Other", b"Subject: other\r\n\r\nother\r\n", "", None).unwrap();
            imap.logout().unwrap();
        }
        let mut mount = Mount::new(&account, &["--connections", "4", "--timeout", "10"]);
        let (one, two) = (mount.message("INBOX", 1).join("message.eml"), mount.message("INBOX", 2).join("message.eml"));
        let mut readers: Vec<Child> = [&one, &two, &one].map(|path| cat(path)).into();
        let (listed, took) = timed("ls", &mount.join("Other"));
        assert!(listed && took < Duration::from_secs(5), "{most}: {took:?}");
        for (reader, want) in readers.iter_mut().zip([3_000_000, 100_000, 3_000_000]) {
            let mut read = Vec::new();
            reader.stdout.take().unwrap().read_to_end(&mut read).unwrap();
            assert!(reader.wait().unwrap().success() && read == big_message(want), "{most}: {}", read.len());
        }
        assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new(), "{most}");
        assert!(mount.unmount());
    }
}

#[test]
fn a_slow_transfer_holds_up_nobody() {
    let account = account(Server::dovecot(), 2_000_000);
    let proxy = Proxy::new(account.port);
    let mount = Mount::new(&account.through(&proxy), &[]);
    let big = mount.message("INBOX", 2).join("message.eml");
    // All connections as slow as each other, and some 50 ms to the server and back.
    proxy.set_bandwidth(Some(200_000));
    proxy.set_delay(Duration::from_millis(25));
    let mut reader = cat(&big);
    let mut sum = 0;
    let mut buffer = vec![0; 1 << 16];
    let mut output = reader.stdout.take().unwrap();
    // It is under way.
    while sum == 0 {
        sum += output.read(&mut buffer).unwrap();
    }
    for (program, path) in [
        ("ls", mount.join("Other")),
        ("stat", mount.join("INBOX/no-such.99")),
        ("ls", mount.join("INBOX")),
        ("ls", mount.join("Other")),
    ] {
        let (_, took) = timed(program, &path);
        println!("{program}: {took:?}");
        assert!(took < Duration::from_millis(1500), "{program} took {took:?}");
    }
    assert!(reader.try_wait().unwrap().is_none(), "the transfer was over before it could hold up anybody");
    reader.kill().unwrap();
    reader.wait().unwrap();
    mount.assert_quiet(&["not encrypted"]);
}

#[test]
fn the_program_ends_soon_however_busy_it_is() {
    let account = Server::dovecot().account().with(Security::None);
    account.imap().append("INBOX", &big_message(2_000_000), "", None).unwrap();
    for (program, option) in [("kill", "-TERM"), ("kill", "-INT"), ("kill", "-KILL"), ("umount", "-f")] {
        let proxy = Proxy::new(account.port);
        let mut mount = Mount::new(&account.through(&proxy), &[]);
        let path = mount.message("INBOX", 1).join("message.eml");
        proxy.set_bandwidth(Some(100_000));
        let mut readers: Vec<_> = (0..4)
            .map(|_| Command::new("cat").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
            .collect();
        assert!(wait_for(Duration::from_millis(300), || readers[0].try_wait().unwrap()).is_none(), "it was too fast");
        let begin = Instant::now();
        let whom = if program == "kill" { mount.pid.to_string().into() } else { mount.path().as_os_str().to_owned() };
        // By force the kernel ends all requests, and refuses to unmount what is in use all the same.
        let done = Command::new(program).arg(option).arg(whom).stderr(Stdio::null()).status().unwrap().success();
        assert!(done || program == "umount", "{option}");
        let ended = wait_for(Duration::from_secs(10), || mount.ended().then_some(()));
        assert!(ended.is_some(), "{option}");
        println!("{option}: ended after {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(5), "{option}: {:?}", begin.elapsed());
        for reader in &mut readers {
            let status = wait_for(Duration::from_secs(5), || reader.try_wait().unwrap());
            // What they have is not all there is.
            assert!(status.is_some_and(|status| !status.success()), "{option}: {status:?}");
        }
        assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new(), "{option}");
        // After an ordinary end there is no mount, dead or alive.
        assert_eq!(mount.is_mounted(), option == "-KILL", "{option}");
        if option == "-KILL" {
            mounted_over(&account, &mount);
        }
    }
}

/// A mount whose program is dead is cleared by the next one.
fn mounted_over(account: &Account, dead: &Mount) {
    assert_eq!(std::fs::read_dir(dead.path()).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    let imapfs = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imapfs"));
        command.args(args).arg(dead.path()).env("IMAPFS_PASSWORD", &account.password);
        command.stdout(Stdio::null()).status().unwrap().success()
    };
    let url = format!("imap://{}@localhost:{}", account.user, account.port);
    assert!(imapfs(&["mount", "--tls", "none", &url]));
    assert_eq!(std::fs::read_dir(dead.join("INBOX")).unwrap().count(), 1);
    assert!(imapfs(&["umount"]));
    assert!(wait_for(Duration::from_secs(5), || (!dead.is_mounted()).then_some(())).is_some());
}

/// A password that was changed is asked for again when the old one is refused, at once and once.
#[test]
fn a_password_that_is_changed_while_it_is_mounted_is_asked_for_again() {
    let server = Server::start("dovecot", &[]);
    let logins = |password: &str| {
        std::fs::write(server.dir.join("passwd"), format!("carol:{{PLAIN}}{password}\n")).unwrap();
    };
    logins("first");
    let mut account = server.account().with(Security::None);
    (account.user, account.password) = ("carol".to_owned(), "first".to_owned());
    account.imap().append("INBOX", b"Subject: small\r\n\r\nsmall\r\n", "", None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (secret, runs) = (dir.path().join("secret"), dir.path().join("runs"));
    std::fs::write(&secret, "first\n").unwrap();
    let command = format!("sh -c 'echo x >> {}; cat {}'", runs.display(), secret.display());
    let proxy = Proxy::new(account.port);
    let mount = Mount::new(&account.through(&proxy), &["--password-command", &command]);
    let path = mount.message("INBOX", 1).join("message.eml");
    // What it gave is not asked for again at once.
    let old = || std::fs::metadata(&runs).ok()?.modified().ok()?.elapsed().ok().filter(|age| age.as_secs() >= 6);
    assert!(wait_for(Duration::from_secs(10), old).is_some());
    logins("second");
    std::fs::write(&secret, "second\n").unwrap();
    proxy.strike(Action::Rst);
    let (read, took) = timed("cat", &path);
    assert!(read && took < Duration::from_secs(5), "{read} {took:?}");
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "x\nx\n");
    // When it is wrong for good nobody tries it over and over.
    logins("third");
    // Dovecot looks at the file once a second.
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let written = now();
    wait_for(Duration::from_secs(2), || (now() > written).then_some(()));
    proxy.strike(Action::Rst);
    let started = Instant::now();
    let other = mount.join("Trash");
    let refused = wait_for(Duration::from_secs(8), || std::fs::read_dir(&other).err());
    assert!(refused.is_some());
    (0..20).for_each(|_| assert!(std::fs::read_dir(&other).is_err()));
    let failures = server.log().matches("Password mismatch").count() + server.log().matches("auth failed").count();
    println!("refused as {refused:?} after {:?}, {failures} refusals in the log", started.elapsed());
    assert!(failures <= 6, "{}", server.log());
}
