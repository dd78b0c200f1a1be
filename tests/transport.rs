//! How the program behaves towards servers that would have the password or the mail in the clear, and where secrets go.

#![allow(clippy::unwrap_used)]

mod common;
mod scripted;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use common::faults::{Action, Fault, When};
use common::proxy::Proxy;
use common::{Account, Mount, Security, Server, wait_for};
use scripted::{Scripted, honest, mailboxes};

const PASSWORD: &str = "wonderland";

/// A server that says these lines: the first as its greeting, each further one after a line of the client, `TAG`
/// replaced by the client's tag. Gives its port and what it is sent.
fn playing(lines: &'static [&'static str]) -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(String::new()));
    let hearing = Arc::clone(&heard);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut tag = String::new();
        for line in lines {
            let _ = stream.write_all(line.replace("TAG", &tag).as_bytes());
            let mut octets = Vec::new();
            if reader.read_until(b'\n', &mut octets).unwrap_or(0) == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&octets).into_owned();
            tag = text.split(' ').next().unwrap_or_default().to_owned();
            hearing.lock().unwrap().push_str(&text);
        }
    });
    (port, heard)
}

/// How a mount of `url` fails: the exit status and what it says.
fn refused(url: &str, args: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imapfs"));
    command.args(["mount", "-f", "--timeout", "2", url]).args(args).arg(directory.path());
    command.env("IMAPFS_PASSWORD", PASSWORD).env("XDG_CONFIG_HOME", directory.path());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The password, and as the login mechanisms would send it.
fn secrets(user: &str) -> [String; 3] {
    let base64 = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    [PASSWORD.to_owned(), base64(PASSWORD.to_owned()), base64(format!("\0{user}\0{PASSWORD}"))]
}

#[test]
fn no_password_goes_to_a_server_without_tls_and_the_mount_fails_with_a_sentence() {
    const CASES: [(&str, &[&str]); 8] = [
        ("no STARTTLS", &["* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n", "TAG BAD what?\r\n"]),
        ("refused", &["* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n", "TAG NO not now\r\n"]),
        ("no answer", &["* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n", "+ go on\r\n"]),
        ("PREAUTH", &["* PREAUTH [CAPABILITY IMAP4rev1] welcome\r\n", "TAG OK done\r\n", "TAG OK done\r\n"]),
        (
            "plaintext behind STARTTLS",
            &[
                "* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n",
                "TAG OK begin\r\nA0002 OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] done\r\n",
                "TAG OK done\r\n",
            ],
        ),
        ("no TLS behind STARTTLS", &["* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n", "TAG OK begin\r\n", "* OK\r\n"]),
        ("garbage", &["SSH-2.0-OpenSSH_9.2\r\n"]),
        ("good-bye", &["* BYE \x1b[2J not today\r\n"]),
    ];
    for (name, lines) in CASES {
        let (port, heard) = playing(lines);
        let (code, said) = refused(&format!("imap://bob@localhost:{port}"), &[]);
        let heard = heard.lock().unwrap().to_ascii_uppercase();
        assert!(!heard.contains("LOGIN") && !heard.contains("AUTHENTICATE"), "{name}: {heard}");
        assert!(matches!(code, Some(69 | 77)), "{name}: {code:?} {said}");
        let sentences: Vec<&str> = said.lines().filter(|line| line.starts_with("imapfs: ")).collect();
        assert!(sentences.len() == 1 && !said.contains('\x1b') && !said.contains("panicked"), "{name}: {said}");
        println!("{name}: {code:?} {}", sentences[0]);
    }
}

#[test]
fn a_certificate_of_an_unknown_authority_is_not_trusted() {
    let account = Server::dovecot().account();
    let ca = account.ca.display().to_string();
    for url in [
        format!("imaps://{}@localhost:{}", account.user, account.tls_port),
        format!("imap://{}@localhost:{}", account.user, account.port),
    ] {
        let (code, said) = refused(&url, &[]);
        assert!(code == Some(69) && said.contains("TLS"), "{code:?} {said}");
    }
    // The name must be right as well.
    let (code, said) =
        refused(&format!("imaps://{}@localhost.:{}", account.user, account.tls_port), &["--tls-ca", &ca]);
    assert!(code != Some(0), "{said}");
    Mount::new(&account.with(Security::Implicit), &[]).assert_quiet(&[]);
}

#[test]
fn secrets_are_in_no_log_at_any_level_nor_where_processes_show_themselves() {
    let server = Scripted::new(mailboxes(), honest);
    for account in [Account::at(server.port), Server::dovecot().account(), Server::courier().account()] {
        let mut mount = Mount::new(&account, &["-vv", "--debug-imap"]);
        // Something is read, so that there is something to log.
        let _ = std::fs::read_dir(mount.join("INBOX")).map(|entries| entries.count());
        let show = |name: &str| {
            let shown = std::fs::read(format!("/proc/{}/{name}", mount.pid)).unwrap_or_default();
            String::from_utf8_lossy(&shown).into_owned()
        };
        let shown = [mount.log(), show("cmdline"), show("environ"), show("mountinfo")];
        assert!(shown[0].contains("C: ") && shown[3].contains("imapfs"), "{}", shown[0]);
        for secret in secrets(&account.user) {
            assert!(shown.iter().all(|text| !text.contains(&secret)), "{}: {secret} in {shown:?}", account.server);
        }
        assert!(mount.unmount());
    }
}

/// A message whose every line tells whose it is.
fn lines(number: u32) -> Vec<u8> {
    let lines: String = (0..1000).map(|line| format!("{number:08} {line:060}\r\n")).collect();
    format!("Subject: m{number}\r\n\r\n{lines}").into_bytes()
}

#[test]
fn octets_that_were_changed_on_the_way_are_noticed() {
    let account = Server::dovecot().account().with(Security::StartTls);
    let mut imap = account.imap();
    for number in 1..=6 {
        imap.append("INBOX", &lines(number), "", None).unwrap();
    }
    let proxy = Proxy::new(account.port);
    let mut mount = Mount::new(&account.through(&proxy), &["--timeout", "2", "--no-compress"]);
    for number in 1..=6 {
        let path = mount.message("INBOX", number).join("message.eml");
        // In the handshake, in the answers, in the middle of the message.
        let at = When::Bytes(1000 + u64::from(number * number) * 2000);
        proxy.add(Fault::down(at, Action::Inject(vec![0x17; number as usize])));
        proxy.strike(Action::Fin);
        let struck = proxy.stats().faults;
        // The connections that were just lost may be what the first reads hear of.
        let met = wait_for(Duration::from_secs(15), || match std::fs::read(&path) {
            Ok(read) => {
                assert!(read == lines(number), "{number}");
                Some(())
            }
            Err(_) => (proxy.stats().faults > struck).then_some(()),
        });
        assert!(met.is_some(), "{number}");
        proxy.clear_faults();
        let read = wait_for(Duration::from_secs(15), || std::fs::read(&path).ok());
        assert!(read == Some(lines(number)), "{number}");
    }
    assert!(proxy.stats().faults > 3, "{:?}", proxy.stats());
    assert_eq!(mount.complaints(&["WARN"]), Vec::<String>::new());
    assert!(mount.unmount());
}
