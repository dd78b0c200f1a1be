use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn uid() -> u32 {
    std::fs::metadata("/proc/self/status").unwrap().uid()
}

fn sources() -> Sources {
    Sources { account: "work".into(), whose: "me@h".into(), uid: uid(), ..Sources::default() }
}

fn show(credentials: Result<Credentials>) -> String {
    match credentials.unwrap() {
        Credentials::Password(secret) => format!("password {}", secret.expose_secret()),
        Credentials::Token(secret) => format!("token {}", secret.expose_secret()),
    }
}

#[test]
fn the_first_source_that_is_set_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    write(&file, "of the file\r\nmore\n", 0o600);
    let credentials = dir.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    write(&credentials.join("password"), "of any account", 0o440);
    write(&credentials.join("imapfs.work"), "of the manager\n", 0o440);
    let password = Password {
        command: Some("printf '%s\\nmore\\n' 'of the command'".into()),
        file: Some(file),
        value: Some("of the config".into()),
    };
    let all = |remove: usize| {
        let mut all = Sources {
            token: Token { command: Some("echo 'of the token command'".into()) },
            password: password.clone(),
            credentials_directory: Some(credentials.clone()),
            environment: Some("of the environment".into()),
            ..sources()
        };
        let steps: [fn(&mut Sources); 6] = [
            |s| s.token.command = None,
            |s| s.password.command = None,
            |s| s.password.file = None,
            |s| s.account = "other".into(),
            |s| s.credentials_directory = None,
            |s| s.environment = None,
        ];
        steps[..remove].iter().for_each(|step| step(&mut all));
        show(all.open().unwrap()(false))
    };
    let expected = [
        "token of the token command",
        "password of the command",
        "password of the file",
        "password of the manager",
        "password of any account",
        "password of the environment",
        "password of the config",
    ];
    for (n, expected) in expected.into_iter().enumerate() {
        assert_eq!(all(n), expected);
    }
}

#[test]
fn a_password_file_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for (mode, fits) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
        write(&path, "secret", mode);
        let password = Password { file: Some(path.clone()), ..Password::default() };
        match (Sources { password, ..sources() }).open() {
            Ok(_) => assert!(fits, "{mode:o}"),
            Err(Error::Denied(reason)) => assert!(!fits && reason.contains("chmod 600"), "{mode:o}: {reason}"),
            Err(error) => panic!("{mode:o}: {error}"),
        }
    }
}

#[test]
fn no_command_runs_in_a_shell_and_no_error_tells_its_arguments() {
    let check = |line: &str, expected: &str| {
        let password = Password { command: Some(line.into()), ..Password::default() };
        let Err(error) = Sources { password, ..sources() }.open() else { panic!("{line}") };
        let text = error.to_string();
        assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
    };
    check("", "empty");
    check("echo 'hunter2", "open quote");
    check("false hunter2", "the password command `false` ended with exit status: 1");
    check("/no/such/program hunter2", "`/no/such/program` cannot be run");
    check("true", "no password on the first line of the password command `true`");
    check("printf '\\nhunter2'", "no password on the first line");
    check("printf '\\377hunter2'", "is not UTF-8");
    let password = Password { command: Some("echo $HOME;id".into()), ..Password::default() };
    assert_eq!(show(Sources { password, ..sources() }.open().unwrap()(false)), "password $HOME;id");
}

#[test]
fn a_command_that_does_not_end_is_stopped() {
    let start = Instant::now();
    let arguments: Vec<String> = ["sleep", "60"].map(String::from).into();
    let error = run(&arguments, "password", Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_token_is_asked_for_at_every_reconnect_and_a_password_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let line = format!("sh -c 'echo x >> {0}; wc -l < {0}'", runs.display());
    let token = Token { command: Some(line.clone()) };
    let source = Sources { token, ..sources() }.open().unwrap();
    let asked: Vec<_> = (0..3).map(|_| show(source(false))).collect();
    assert_eq!(asked, ["token 1", "token 2", "token 3"]);
    std::fs::remove_file(&runs).unwrap();
    let password = Password { command: Some(line), ..Password::default() };
    let source = Sources { password, ..sources() }.open().unwrap();
    let asked: Vec<_> = (0..3).map(|_| show(source(false))).collect();
    assert_eq!(asked, ["password 1", "password 1", "password 1"]);
}

#[test]
fn a_password_command_that_fails_later_leaves_the_password_that_it_gave() {
    let source = Source::Command { arguments: vec!["false".into()], token: false };
    let past = Instant::now().checked_sub(2 * COMMAND_FRESH).unwrap();
    let mut kept = Kept { secret: "known".into(), since: past, used: true };
    assert_eq!(again(&source, &mut kept, false).unwrap().expose_secret(), "known");
    let source = Source::Command { arguments: vec!["echo".into(), "new".into()], token: false };
    assert_eq!(again(&source, &mut kept, false).unwrap().expose_secret(), "new");
    let source = Source::Command { arguments: vec!["false".into()], token: true };
    assert!(again(&source, &mut kept, false).is_err());
}

#[test]
fn a_password_that_was_refused_is_asked_for_again_but_not_at_once() {
    let source = Source::Command { arguments: vec!["echo".into(), "new".into()], token: false };
    for (age, refused, want) in [(1, true, "known"), (10, false, "known"), (10, true, "new"), (100, false, "new")] {
        let since = Instant::now().checked_sub(Duration::from_secs(age)).unwrap();
        let mut kept = Kept { secret: "known".into(), since, used: true };
        assert_eq!(again(&source, &mut kept, refused).unwrap().expose_secret(), want, "{age} {refused}");
    }
}

#[test]
fn a_changed_password_file_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    write(&path, "old", 0o600);
    let password = Password { file: Some(path.clone()), ..Password::default() };
    let source = Sources { password, ..sources() }.open().unwrap();
    write(&path, "new", 0o600);
    assert_eq!([show(source(false)), show(source(false))], ["password old", "password new"]);
}
