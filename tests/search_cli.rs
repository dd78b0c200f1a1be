//! `imapfs search` and `imapfs grep`, on real servers.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::proxy::Proxy;
use common::{Mount, Security, Server, corpus};

const DATE: Option<&str> = Some("05-Mar-2024 10:00:00 +0000");

fn note(subject: &str, body: &str) -> Vec<u8> {
    format!("From: Alice <alice@example.test>\r\nSubject: {subject}\r\n\r\n{body}\r\n").into_bytes()
}

fn imapfs(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imapfs")).args(arguments).output().unwrap()
}

/// Exit code, standard output, standard error.
fn told(arguments: &[&str]) -> (i32, String, String) {
    let output = imapfs(arguments);
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn name(subject: &str, uid: u32) -> String {
    format!("2024-03-05T1000_Alice_{subject}.{uid}")
}

#[test]
fn what_is_found_is_printed_as_paths() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    imap.create("Archive").unwrap();
    imap.append("INBOX", &note("apple", "red"), "\\Seen", DATE).unwrap();
    imap.append("INBOX", &note("pear", "green apple"), "", DATE).unwrap();
    imap.append("Archive", &note("apple", "old"), "\\Flagged", DATE).unwrap();
    let mount = Mount::new(&account, &[]);
    let (root, inbox) = (mount.path().to_str().unwrap().to_owned(), mount.join("INBOX"));
    let inbox = inbox.to_str().unwrap();
    let (first, second) = (format!("{inbox}/{}", name("apple", 1)), format!("{inbox}/{}", name("pear", 2)));
    assert_eq!(told(&["search", inbox, "apple"]), (0, format!("{first}\n{second}\n"), String::new()));
    assert_eq!(told(&["search", inbox, "subject:apple"]), (0, format!("{first}\n"), String::new()));
    assert_eq!(told(&["search", "-0", inbox, "apple", "-is:read"]), (0, format!("{second}\0"), String::new()));
    assert_eq!(told(&["search", "--count", inbox, "apple"]), (0, "2\n".into(), String::new()));
    assert_eq!(told(&["search", inbox, "subject:kiwi"]), (1, String::new(), String::new()));
    assert_eq!(told(&["search", "--count", inbox, "kiwi"]), (1, "0\n".into(), String::new()));
    // From the root, with the mailbox, though two have the same name.
    let archived = format!("{root}/Archive/{}", name("apple", 1));
    let all = told(&["search", &root, "subject:apple"]);
    assert_eq!(all.1.lines().collect::<BTreeSet<_>>(), BTreeSet::from([&*first, &*archived]));
    assert!(all.1.lines().all(|path| Path::new(path).is_dir()));
    let json = told(&["search", "--json", &root, "is:flagged"]).1;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["path"], archived);
    assert_eq!((&json[0]["uid"], &json[0]["flags"][0]), (&1.into(), &"\\Flagged".into()));
    // What is wrong is shown where it is.
    let (code, _, error) = told(&["search", inbox, "apple", "is:blue"]);
    assert_eq!(
        (code, error.contains("column 10: expected unread"), error.lines().last()),
        (64, true, Some("           ^"))
    );
    assert_eq!(told(&["search", "/tmp", "apple"]).0, 64);
    assert_eq!(told(&["search", inbox, "gmail:apple"]).0, 69);
    assert_eq!(told(&["search", inbox, &"long ".repeat(60)]).0, 64);
    // What holds the text here as well.
    assert_eq!(told(&["search", "--exact", inbox, "body:\"green apple\""]), (0, format!("{second}\n"), String::new()));
}

#[test]
fn saved_searches_have_names() {
    let account = Server::dovecot().account();
    account.imap().append("INBOX", &note("apple", "red"), "\\Flagged", DATE).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let text = format!(
        "[accounts.a]\nhost = \"localhost\"\nport = {}\nuser = {:?}\ntls = \"none\"\n[accounts.a.searches]\nimportant = \"is:flagged\"\n",
        account.direct_port(),
        account.user
    );
    fs::write(&config, text).unwrap();
    let at = dir.path().join("mail");
    fs::create_dir(&at).unwrap();
    let mut mounted = Command::new(env!("CARGO_BIN_EXE_imapfs"))
        .args(["mount", "--config"])
        .arg(&config)
        .arg("a")
        .arg(&at)
        .env("IMAPFS_PASSWORD", &account.password)
        .env("XDG_CACHE_HOME", dir.path())
        .spawn()
        .unwrap();
    assert!(mounted.wait().unwrap().success());
    let names = |path: &str| -> Vec<String> {
        let entries = fs::read_dir(at.join(path)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let (saved, here, all) = (names("INBOX/.search"), names("INBOX/.search/important"), names(".search/important"));
    let unmounted = Command::new(env!("CARGO_BIN_EXE_imapfs")).arg("umount").arg(&at).status().unwrap();
    assert!(unmounted.success());
    assert_eq!((saved, here, all), (vec!["important".to_owned()], vec![name("apple", 1)], vec![name("apple", 1)]));
}

/// All files of a text type below a directory, whatever the program under test thinks of them.
fn text_files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text_files(&path, into);
            continue;
        }
        let kind = Command::new("getfattr")
            .args(["--only-values", "--absolute-names", "-n", "user.mime_type"])
            .arg(&path)
            .output();
        let kind = String::from_utf8(kind.unwrap().stdout).unwrap();
        if kind.starts_with("text/") || kind.starts_with("message/") {
            into.push(path);
        }
    }
}

const PATTERNS: [&[&str]; 16] = [
    &["the"],
    &["-i", "THE"],
    &["-n", "^Subject: .*multi"],
    &["-F", "boundary="],
    &["-l", "Content-Type"],
    &["-c", "example"],
    &["Grüße|größe|straße"],
    &["-i", "GRÜSSE"],
    &["-n", "[0-9]{4}-[0-9]{2}"],
    &["quoted|printable"],
    &["utf-8''"],
    &["-i", "(alice|bob)@[a-z]+"],
    &["日本"],
    &["-F", "=?"],
    &["Message-ID: <.*>"],
    &["^$"],
];

/// Messages that Dovecot 2.3 decodes otherwise than the mount, so that its search does not find them, and why.
const OTHERWISE: [(&str, &str); 6] = [
    ("an attached message may not be in base64 (RFC 2046 section 5.2.1)", "_rfc822-base64."),
    ("8-bit octets in a header have no charset", "_Grüße."),
    ("an encoding that nobody knows", "_encoding-unknown."),
    ("an encoding without a name", "_encoding-empty."),
    ("UTF-16 that does not say which", "_charset-utf-16-no-bom."),
    ("a charset without a name", "_charset-empty."),
];

fn has(line: &[u8], part: &str) -> bool {
    line.windows(part.len()).any(|window| window == part.as_bytes())
}

/// The same lines as grep, on a server that looks for substrings.
#[test]
fn grep_finds_what_grep_finds() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    imap.create("INBOX/Below").unwrap();
    let messages = corpus::messages();
    corpus::append(&mut imap, "INBOX", &messages);
    corpus::append(&mut imap, "INBOX/Below", &messages[..5]);
    let mount = Mount::new(&account, &[]);
    let inbox = mount.join("INBOX");
    let mut files = Vec::new();
    text_files(&inbox, &mut files);
    let mut wrong = Vec::new();
    for arguments in PATTERNS {
        let kind = if arguments[0] == "-F" { &["-aH"][..] } else { &["-aH", "-E"] };
        let mut grep = Command::new("grep");
        let grep = grep.env("LC_ALL", "C.UTF-8").args(kind).args(arguments).arg("--").args(&files).output();
        let lines =
            |octets: &[u8]| -> BTreeSet<Vec<u8>> { octets.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect() };
        let mut expected = lines(&grep.unwrap().stdout);
        // Files without a match are not told of.
        expected.retain(|line| arguments[0] != "-c" || !line.ends_with(b":0"));
        let ours = imapfs(&[&["grep"], arguments, &[inbox.to_str().unwrap()]].concat());
        assert!(ours.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&ours.stderr));
        let ours = lines(&ours.stdout);
        expected.retain(|line| !OTHERWISE.iter().any(|(_, name)| has(line, name)) || ours.contains(line));
        if ours != expected {
            let show = |a: &BTreeSet<Vec<u8>>, b: &BTreeSet<Vec<u8>>| -> String {
                a.difference(b)
                    .take(6)
                    .map(|line| String::from_utf8_lossy(line).chars().take(220).collect::<String>() + "\n")
                    .collect()
            };
            wrong.push(format!(
                "{arguments:?}: missing\n{}too much\n{}",
                show(&expected, &ours),
                show(&ours, &expected)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn grep_reads_only_what_can_match() {
    let account = Server::dovecot().account();
    let mut imap = account.imap();
    for number in 0..60 {
        let body = format!(
            "{}{}",
            "filler text in each message\r\n".repeat(300),
            if number % 20 == 7 { "needle" } else { "" }
        );
        imap.append("INBOX", &note("letter", &body), "", DATE).unwrap();
    }
    let proxy = Proxy::new(account.direct_port());
    let mount = Mount::new(&account.with(Security::None).through(&proxy), &["--no-compress"]);
    let inbox = mount.join("INBOX");
    let inbox = inbox.to_str().unwrap();
    let cost = |pattern: &str| {
        proxy.reset();
        let (code, lines, _) = told(&["grep", pattern, inbox]);
        assert_eq!((code, lines.lines().count()), (0, 3), "{pattern}: {lines}");
        proxy.stats().bytes_down
    };
    // What the second one needs the first one has not brought.
    let (few, all) = (cost("needle"), cost("[a-z]e+d[a-z]e$"));
    assert!(few * 4 < all, "{few} octets for what can match, {all} for a walk");
    // A message, and a file of it, are searched as they are.
    let message = format!("{inbox}/{}", name("letter", 8));
    assert_eq!(told(&["grep", "-c", "filler", &message]).1, format!("{message}/body.txt:300\n"));
    assert_eq!(told(&["grep", "-l", "needle", &format!("{message}/body.txt")]).1, format!("{message}/body.txt\n"));
    assert_eq!(told(&["grep", "nothing of the kind", inbox]), (1, String::new(), String::new()));
    assert_eq!(told(&["grep", "(", inbox]).0, 64);
    assert_eq!(told(&["grep", "x", "/no/such/place"]).0, 64);
}
