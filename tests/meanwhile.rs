//! Other clients at work and programs that do not let go, while the mount is in use.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::faults::{Action, Fault, When};
use common::proxy::Proxy;
use common::{Mount, Security, Server, wait_for};

/// A message whose every line tells whose it is.
fn message(number: u32, lines: usize) -> Vec<u8> {
    let lines: String = (0..lines).map(|line| format!("{number:08} {line:060}\r\n")).collect();
    format!("Subject: m{number}\r\n\r\n{lines}").into_bytes()
}

#[test]
fn a_message_that_is_expunged_under_its_reader_is_read_right_or_not_at_all() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    // Each as long as the others: another one's octets would fit.
    for number in 1..=4 {
        imap.append("INBOX", &message(number, 30_000), "", None).unwrap();
    }
    let proxy = Proxy::new(account.port);
    let mut mount = Mount::new(&account.through(&proxy), &["--connections", "2"]);
    // So that it is not all there before it is expunged.
    proxy.set_bandwidth(Some(4_000_000));
    let paths: Vec<_> = (1..=4).map(|uid| mount.message("INBOX", uid).join("message.eml")).collect();
    let mut files: Vec<File> = paths.iter().map(|path| File::open(path).unwrap()).collect();
    let mut read = vec![vec![0; 5000]; 3];
    for (file, read) in files.iter_mut().zip(&mut read) {
        file.read_exact(read).unwrap();
    }
    imap.select("INBOX").unwrap();
    imap.ok("UID STORE 1:3 +FLAGS (\\Deleted)").unwrap();
    imap.ok("UID EXPUNGE 1:3").unwrap();
    for (number, (file, read)) in files.iter_mut().zip(&mut read).enumerate() {
        let end = file.read_to_end(read);
        let want = message(number as u32 + 1, 30_000);
        assert!(read[..] == want[..read.len()], "{number}");
        assert!(end.is_err() || read.len() == want.len(), "{number}: {} octets and no error", read.len());
    }
    assert!(std::fs::read(&paths[3]).unwrap() == message(4, 30_000));
    let listed = wait_for(Duration::from_secs(8), || {
        (std::fs::read_dir(mount.join("INBOX")).unwrap().count() == 1).then_some(())
    });
    assert!(listed.is_some());
    assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new());
    drop(files);
    assert!(mount.unmount());
}

#[test]
fn who_stays_is_listed_once_whoever_comes_and_goes() {
    const STAY: u32 = 300;
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    for number in 1..=STAY {
        imap.append("INBOX", &message(number, 1), "", None).unwrap();
    }
    let mut mount = Mount::new(&account, &[]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            imap.select("INBOX").unwrap();
            while !done.load(Ordering::SeqCst) {
                let uid = imap.append("INBOX", &message(0, 1), "", None).unwrap();
                imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)")).unwrap();
                imap.ok(&format!("UID EXPUNGE {uid}")).unwrap();
            }
        });
        let begin = Instant::now();
        let mut rounds = 0;
        // Longer than the poll interval, so that there is something to hear.
        while begin.elapsed() < Duration::from_secs(5) {
            let names = std::fs::read_dir(mount.join("INBOX")).unwrap().map(|entry| entry.unwrap().file_name());
            let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
            let uids: BTreeSet<u32> =
                names.iter().map(|name| name.rsplit('.').next().unwrap().parse().unwrap()).collect();
            if !(uids.len() == names.len() && (1..=STAY).all(|uid| uids.contains(&uid))) {
                done.store(true, Ordering::SeqCst);
                panic!("{} names, {} UIDs", names.len(), uids.len());
            }
            rounds += 1;
        }
        done.store(true, Ordering::SeqCst);
        println!("{rounds} listings");
    });
    mount.assert_quiet(&[]);
    assert!(mount.unmount());
}

#[test]
fn octets_that_were_changed_on_the_way_are_noticed() {
    let account = Server::dovecot().account().with(Security::StartTls);
    let mut imap = account.imap();
    for number in 1..=6 {
        imap.append("INBOX", &message(number, 1000), "", None).unwrap();
    }
    let proxy = Proxy::new(account.port);
    let mut mount = Mount::new(&account.through(&proxy), &["--timeout", "2"]);
    for number in 1..=6 {
        let path = mount.message("INBOX", number).join("message.eml");
        let next = proxy.stats().connections + 1;
        let at = When::Bytes(4000 + u64::from(number) * 9000);
        proxy.add(Fault::down(at, Action::Inject(vec![0x17; number as usize])).on(next..=next));
        proxy.strike(Action::Fin);
        if let Ok(read) = std::fs::read(&path) {
            assert!(read == message(number, 1000), "{number}");
        }
        proxy.clear_faults();
        let read = wait_for(Duration::from_secs(15), || std::fs::read(&path).ok());
        assert!(read == Some(message(number, 1000)), "{number}");
    }
    assert!(proxy.stats().faults > 2, "{:?}", proxy.stats());
    assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new());
    assert!(mount.unmount());
}

#[test]
fn a_signal_ends_the_program_soon_however_busy_it_is() {
    let account = Server::dovecot().account();
    account.imap().append("INBOX", &message(1, 30_000), "", None).unwrap();
    for signal in ["-TERM", "-INT", "-KILL"] {
        let proxy = Proxy::new(account.port);
        let mut mount = Mount::new(&account.through(&proxy), &[]);
        let path = mount.message("INBOX", 1).join("message.eml");
        proxy.set_bandwidth(Some(100_000));
        let mut readers: Vec<_> = (0..4)
            .map(|_| Command::new("cat").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
            .collect();
        assert!(wait_for(Duration::from_millis(300), || readers[0].try_wait().unwrap()).is_none(), "it was too fast");
        let begin = Instant::now();
        assert!(Command::new("kill").args([signal, &mount.pid.to_string()]).status().unwrap().success());
        let ended = wait_for(Duration::from_secs(10), || mount.ended().then_some(()));
        assert!(ended.is_some(), "{signal}");
        println!("{signal}: ended after {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(5), "{signal}: {:?}", begin.elapsed());
        for reader in &mut readers {
            let status = wait_for(Duration::from_secs(5), || reader.try_wait().unwrap());
            // What they have is not all there is.
            assert!(status.is_some_and(|status| !status.success()), "{signal}: {status:?}");
        }
        assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new(), "{signal}");
        // After an ordinary end there is no mount, dead or alive.
        assert!(signal == "-KILL" || !mount.is_mounted(), "{signal}");
    }
}
