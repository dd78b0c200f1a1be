use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;

use super::*;
use crate::imap::Tls;

fn uid() -> u32 {
    std::fs::metadata("/proc/self/status").unwrap().uid()
}

#[test]
fn an_account_has_all_its_settings() {
    let text = r#"
        # mine
        [accounts.work]
        host = "imap.example.org"
        port = 1993
        user = "me"
        tls = "starttls"
        tls-ca = "ca.pem"
        mailbox = "Projects"
        connections = 2
        timeout = 30
        compress = false
        read-only = true
        names = "uid"
        show-views = true
        allow-other = true
        umask = "027"
        cache = true
        cache-size = "500M"
        cache-dir = "/var/cache/mail"
        password.command = "pass show work"
        password.file = "/etc/secret"
        searches.unread = "is:unread -tag:$Junk"
        searches."big mail" = "larger:10M"

        [accounts."me@home"]
        host = "h"
        password = "hunter2"
        token.command = "oama access me"
    "#;
    let config = parse(text, Path::new("/etc/imapfs/config.toml")).unwrap();
    let work = &config.accounts["work"];
    assert_eq!(
        (work.host.as_deref(), work.port, work.tls),
        (Some("imap.example.org"), Some(1993), Some(Tls::StartTls))
    );
    assert_eq!((work.connections, work.timeout, work.umask), (Some(2), Some(30), Some(0o027)));
    assert_eq!((work.cache, work.cache_size), (Some(true), Some(500 << 20)));
    assert_eq!(work.cache_dir.as_deref(), Some(Path::new("/var/cache/mail")));
    assert_eq!((work.compress, work.read_only, work.names), (Some(false), Some(true), Some(Names::Uid)));
    assert_eq!(work.tls_ca.as_deref(), Some(Path::new("/etc/imapfs/ca.pem")));
    assert_eq!(work.password.file.as_deref(), Some(Path::new("/etc/secret")));
    assert_eq!(work.searches["unread"].to_string(), "is:unread -tag:$Junk");
    assert_eq!(work.searches["big mail"].to_string(), "larger:10M");
    let home = &config.accounts["me@home"];
    assert_eq!(home.password.value.as_ref().unwrap().expose_secret(), "hunter2");
    assert_eq!(home.token.command.as_deref(), Some("oama access me"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_mistake_is_named_with_its_line_and_without_its_value() {
    let check = |text: &str, expected: &str| {
        let error = parse(text, Path::new("/c.toml")).unwrap_err();
        let Error::Invalid(message) = &error else { panic!("{error:?}") };
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains("hunter2") && !message.contains("4711") && !message.contains('\n'), "{message}");
    };
    check("[accounts.a]\nhost = \"h\"\nhots = \"x\"", "/c.toml: line 3: unknown key `hots`, expected one of `host`");
    check("\n[acounts.a]", "/c.toml: line 2: unknown key `acounts`, expected `accounts`");
    check("[accounts.a]\npassword.cmd = \"hunter2\"", "/c.toml: line 2: unknown key `cmd`, expected one of `command`");
    check("[accounts.a]\npassword = 4711", "/c.toml: line 2: wrong value, expected password.command, ");
    check("[accounts.a]\npassword.value = 4711", "/c.toml: line 2: wrong value, expected a string");
    check("[accounts.a]\nread-only = \"hunter2\"", "/c.toml: line 2: wrong value, expected a boolean");
    check("[accounts.a]\nport = 70000", "/c.toml: line 2: port: expected 1 to 65535");
    check("[accounts.a]\nport = -1", "/c.toml: line 2: wrong value, expected u64");
    check("[accounts.a]\nconnections = 17", "/c.toml: line 2: connections: expected 1 to 16");
    check("[accounts.a]\nhost=\"h\"\ntls = \"hunter2\"", "/c.toml: line 3: tls: expected \"implicit\"");
    check("[accounts.a]\numask = \"9\"", "/c.toml: line 2: umask: expected octal digits");
    check("[accounts.a]\ncache-size = \"x\"", "/c.toml: line 2: cache-size: expected a number of octets");
    check("[accounts.a]\nnames = \"long\"", "/c.toml: line 2: unknown variant `long`, expected `full` or `uid`");
    check("[accounts.a]\nhost = \"h\"\nhost = \"i\"", "/c.toml: line 3: duplicate key");
    check("[accounts.a]\npassword = hunter2", "/c.toml: line 2:");
    check(
        "[accounts.a]\nsearches.x = \"a is:blue\"",
        "/c.toml: line 2: searches.\"x\": query, column 6: expected unread",
    );
    check("[accounts.a]\nsearches.\".x\" = \"a\"", "/c.toml: line 2: searches.\".x\": this cannot be the name");
    check("[accounts.a", "/c.toml: line 1:");
}

#[test]
fn what_others_could_change_or_a_password_that_they_could_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let check = |text: &str, mode: u32, uid: u32, expected: Option<&str>| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        match (load(&path, uid), expected) {
            (Ok(_), None) => {}
            (Err(Error::Denied(reason)), Some(part)) => assert!(reason.contains(part), "{reason}"),
            (other, _) => panic!("{mode:o}: {other:?}"),
        }
    };
    let (plain, secret) = ("[accounts.a]\nhost = \"h\"\n", "[accounts.a]\npassword = \"p\"\n");
    check(plain, 0o644, uid(), None);
    check(secret, 0o600, uid(), None);
    check(plain, 0o664, uid(), Some("mode 0664 and could be changed by other users: chmod go-w "));
    check(plain, 0o646, uid(), Some("could be changed by other users"));
    check(secret, 0o640, uid(), Some("mode 0640 and could be read or changed by other users: chmod 600 "));
    check(secret, 0o604, uid(), Some("could be read"));
    if uid() != 0 {
        check(plain, 0o644, uid() + 1, Some("belongs to another user"));
    }
    assert!(matches!(load(&dir.path().join("none"), uid()), Err(Error::NotFound)));
    assert!(matches!(load(dir.path(), uid()), Err(Error::Local(_))));
}

#[test]
fn flags_go_before_the_file_and_a_password_flag_before_a_token_of_the_file() {
    let text = "[accounts.a]\nhost = \"h\"\nuser = \"u\"\nconnections = 2\ntoken.command = \"t\"";
    let below = parse(text, Path::new("/c")).unwrap().accounts.remove("a").unwrap();
    let flags = Settings { connections: Some(5), ..Settings::default() };
    let both = flags.clone().over(below.clone());
    assert_eq!(
        (both.host.as_deref(), both.connections, both.token.command.as_deref()),
        (Some("h"), Some(5), Some("t"))
    );
    let password = settings::Password { command: Some("p".into()), ..Default::default() };
    let both = Settings { password, ..flags }.over(below);
    assert_eq!((both.password.command.as_deref(), both.token.command), (Some("p"), None));
}

#[test]
fn umasks_are_octal() {
    for (text, expected) in [
        ("0", Some(0)),
        ("022", Some(0o22)),
        ("0777", Some(0o777)),
        ("1000", None),
        ("+7", None),
        ("8", None),
        ("", None),
    ] {
        assert_eq!(settings::parse_umask(text).ok(), expected, "{text}");
    }
}

#[test]
fn sizes_have_units_of_1024() {
    for (text, expected) in [
        ("0", Some(0)),
        ("1234", Some(1234)),
        ("2G", Some(2 << 30)),
        ("500m", Some(500 << 20)),
        ("3KiB", Some(3 << 10)),
        ("1T", Some(1 << 40)),
        ("", None),
        ("M", None),
        ("-1", None),
        ("1X", None),
        ("1 G", None),
        ("99999999999T", None),
    ] {
        assert_eq!(settings::parse_size(text).ok(), expected, "{text}");
    }
}
