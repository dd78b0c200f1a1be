//! Login against servers that lie, break off or say odd things.

use super::super::testing::{options, play};
use super::*;

fn password() -> Credentials {
    Credentials::Password("s3cret".into())
}

fn token() -> Credentials {
    Credentials::Token("T0ken".into())
}

/// Logs in to a scripted server; the outcome, and what the server heard.
async fn run(tls: Tls, credentials: Credentials, script: &str) -> (Result<Connected>, String) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let script = script.to_owned();
    let server = tokio::spawn(async move { play(theirs, &script).await });
    let outcome = login(Box::new(ours), &options(0, tls, credentials)).await;
    let failed = outcome.is_err();
    if failed {
        return (outcome, server.await.unwrap());
    }
    server.abort();
    (outcome, String::new())
}

async fn refuses(tls: Tls, credentials: Credentials, script: &str, wanted: &str) {
    let (outcome, heard) = run(tls, credentials, script).await;
    let error = outcome.err().map(|e| format!("{e:?}")).unwrap_or_default();
    assert!(error.contains(wanted), "{script:.300}\n{wanted:?} was expected, {error:?} came");
    assert!(!error.contains("s3cret") && !error.contains("T0ken"), "{error}");
    if !script.contains("C: LOGIN") && !script.contains("C: AUTH") {
        assert!(!heard.contains("LOGIN") && !heard.contains("AUTHENTICATE"), "{script}\n{heard}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_secret_is_sent_where_starttls_does_not_come_about() {
    let check = async |script: &str, wanted: &str| refuses(Tls::StartTls, password(), script, wanted).await;
    check("S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi", "does not offer STARTTLS").await;
    check("S: * OK hi\nC: CAPABILITY\nS: * CAPABILITY IMAP4rev1\nS: $ OK", "does not offer STARTTLS").await;
    check("S: * OK hi\nC: CAPABILITY\nS: $ OK", "does not tell its capabilities").await;
    check("S: * OK hi\nC: CAPABILITY\nS: $ BAD what", "refuses CAPABILITY").await;
    check("S: * OK hi\nC: CAPABILITY", "TimedOut").await;
    let start = "S: * OK [CAPABILITY IMAP4rev1 STARTTLS] hi\nC: STARTTLS\n";
    for (answer, wanted) in [
        ("S: $ NO no", "refuses STARTTLS"),
        ("S: $ BAD no", "refuses STARTTLS"),
        ("S: + go on", "nothing more is due"),
        ("S: X1 OK done", "another command"),
        ("S: * BYE gone", "gone"),
        ("close", "closed the connection"),
        ("S: $ OK begin\\q", "TimedOut"),
    ] {
        check(&format!("{start}{answer}"), wanted).await;
    }
    // What stands behind the answer, in the same segment, would be read as if it had come through TLS.
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        ours.write_all(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n").await.unwrap();
        let mut buffer = [0; 100];
        let _ = ours.read(&mut buffer).await;
        ours.write_all(b"A0001 OK go\r\nA0002 OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] done\r\n").await.unwrap();
        ours.read(&mut buffer).await.unwrap_or(0)
    });
    let error = login(Box::new(theirs), &options(0, Tls::StartTls, password())).await.err();
    assert!(format!("{error:?}").contains("tampered"), "{error:?}");
    assert_eq!(server.await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn greetings_that_are_none_end_the_connection() {
    for tls in [Tls::StartTls, Tls::None, Tls::Implicit] {
        for (script, wanted) in [
            ("S: * PREAUTH [CAPABILITY IMAP4rev1] welcome", "PREAUTH"),
            ("S: * BYE too many connections", "Busy"),
            ("S: * BYE shutting down", "shutting down"),
            ("S: * NO go away", "go away"),
            ("S: 220 mail ESMTP", "what it was not asked"),
            ("S: HTTP/1.1 400 Bad Request", "no IMAP server"),
            ("S: A0001 OK done", "was not asked"),
            ("S: * LIST () \"/\" x", "no IMAP server"),
            ("S: + what", "nothing more is due"),
            ("S: ", "TimedOut"),
            ("close", "Busy"),
            ("S: * OK no end\\q", "TimedOut"),
        ] {
            if script.starts_with("S: 220") {
                let (outcome, _) = run(tls, password(), script).await;
                assert!(matches!(outcome, Err(Error::Protocol(_))), "{script}");
            } else {
                refuses(tls, password(), script, wanted).await;
            }
        }
        refuses(tls, password(), &format!("S: * OK {}", "x".repeat(100_000)), "line without end").await;
        refuses(tls, password(), &"S: * OK hi\nS: * 1 EXISTS\n".repeat(2000), "without end").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_is_refused_with_a_sentence_and_nothing_more_is_sent() {
    let hi = |mechanisms: &str| format!("S: * OK [CAPABILITY IMAP4rev1 {mechanisms}] hi\n");
    for (capabilities, script, wanted) in [
        ("LOGINDISABLED", "", "offers no login with a password"),
        ("", "C: LOGIN\nS: $ NO [AUTHENTICATIONFAILED] wrong\x1b[2J", "Auth(\"the server says: wrong\\\\u{1b}"),
        ("", "C: LOGIN\nS: $ NO [ALERT] Too many simultaneous connections. (Failure)", "Busy"),
        ("", "C: LOGIN\nS: $ NO [LIMIT] no", "Busy"),
        ("", "C: LOGIN\nS: $ NO [UNAVAILABLE] later", "Offline"),
        ("", "C: LOGIN\nS: $ NO [REFERRAL imap://evil/] go there", "Auth"),
        ("", "C: LOGIN\nS: * BYE [UNAVAILABLE] down", "Offline"),
        ("", "C: LOGIN\nS: + send more", "nothing more is due"),
        ("", "C: LOGIN\nS: Z9 OK done", "another command"),
        ("", "C: LOGIN\nclose", "Offline"),
        ("", "C: LOGIN", "TimedOut"),
        ("AUTH=PLAIN", "C: AUTHENTICATE PLAIN\nS: +\nC: AGFsaWNlAHMzY3JldA==\nS: + more", "all was said"),
        ("AUTH=PLAIN", "C: AUTHENTICATE PLAIN\nS: + !!", "nothing more is due"),
        ("AUTH=PLAIN", "C: AUTHENTICATE PLAIN\nS: $ OK ", "before it was told"),
        ("AUTH=PLAIN SASL-IR", "C: AUTHENTICATE PLAIN AGFsaWNlAHMzY3JldA==\nS: $ NO no", "Auth"),
        ("AUTH=SCRAM-SHA-256", "C: AUTHENTICATE SCRAM-SHA-256\nS: +\nC: biws\nS: + cj14LHM9eA==", "SCRAM"),
        ("AUTH=SCRAM-SHA-256 AUTH=PLAIN SASL-IR", "C: AUTHENTICATE SCRAM-SHA-256 biws\nS: $ NO no\n", "Auth"),
        ("AUTH=SCRAM-SHA-256", "C: AUTHENTICATE SCRAM-SHA-256\nS: +\nC: biws\nS: A0001 OK in", "did not prove"),
    ] {
        refuses(Tls::None, password(), &(hi(capabilities) + script), wanted).await;
    }
    let challenge = "S: + eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=\n";
    for (mechanism, answer) in [("OAUTHBEARER", "AQ=="), ("XOAUTH2", "")] {
        let script = format!("C: AUTHENTICATE {mechanism} \n{challenge}C: {answer}\nS: A0001 NO no");
        refuses(Tls::None, token(), &(hi(&format!("AUTH={mechanism} SASL-IR")) + &script), "invalid_token").await;
    }
    refuses(Tls::None, token(), &hi("AUTH=PLAIN"), "offers no login with an OAuth2 token").await;
    refuses(Tls::None, Credentials::Password("a\r\nb".into()), &hi(""), "Invalid").await;
}

#[tokio::test(start_paused = true)]
async fn odd_but_honest_servers_are_logged_in_to() {
    for (script, capabilities) in [
        (
            "S: * OK hi\nC: CAPABILITY\nS: * CAPABILITY IMAP4rev1\nS: $ OK\nC: LOGIN \"alice\" \"s3cret\"\nS: $ OK in",
            None,
        ),
        // WildDuck tells capabilities before the answer, Dovecot in it; Cyrus lists LOGINDISABLED after login.
        (
            "S: * OK [CAPABILITY X] hi\nC: LOGIN\nS: * CAPABILITY imap4rev1 LOGINDISABLED\nS: $ OK in",
            Some("IMAP4REV1 LOGINDISABLED"),
        ),
        ("S: * OK [CAPABILITY X] hi\nC: LOGIN\nS: $ OK [CAPABILITY Y Z] in", Some("Y Z")),
        // What makes imap-proto panic or give up.
        (
            "S: * OK [CAPABILITY X] h\u{fc}\nS: * OK [ALERT]\u{e9}\nC: LOGIN\nS: * WHAT 1 2 (\n\
             S: * 1 FETCH (INTERNALDATE NIL)\nS: $ OK",
            None,
        ),
        (
            "S: * OK [CAPABILITY AUTH=PLAIN] hi\nC: AUTHENTICATE PLAIN\nS: + \nC: AGFsaWNlAHMzY3JldA==\nS: A0001 OK",
            None,
        ),
    ] {
        let (outcome, _) = run(Tls::None, password(), script).await;
        let connected = outcome.unwrap_or_else(|e| panic!("{script}\n{e}"));
        assert_eq!(connected.capabilities.map(|c| c.join(" ")).as_deref(), capabilities, "{script}");
    }
}

#[test]
fn the_trace_lines_of_async_imap_that_would_print_passwords_are_compiled_out() {
    assert!(log::STATIC_MAX_LEVEL <= log::LevelFilter::Debug);
}
