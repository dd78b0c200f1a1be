//! `imaps://user@host[:port][/MAILBOX]`, RFC 5092 as far as it names an account.

use super::exit::Failure;
use crate::config::Settings;
use crate::imap::Tls;

/// True when the argument is meant as a URL rather than as the name of an account.
pub fn is_url(argument: &str) -> bool {
    argument.contains("://")
}

/// Parses a URL into the account's name (`user@host`, or `host`) and its settings.
///
/// # Errors
/// Usage, with a sentence; a password in the URL is refused, and not repeated.
pub fn parse(url: &str) -> Result<(String, Settings), Failure> {
    let refuse = |reason: &str| Err(Failure::usage(format!("{reason} (expected imaps://user@host[:port][/MAILBOX])")));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "imaps" => Tls::Implicit,
        "imap" => Tls::StartTls,
        _ => return refuse("the URL is neither imaps:// nor imap://"),
    };
    let (authority, mailbox) = rest.split_once('/').unwrap_or((rest, ""));
    // People write `me@example.org@host` although the first @ should be %40: the last one is the separator.
    let (user, host_port) = match authority.rsplit_once('@') {
        Some((user, host_port)) => (Some(user), host_port),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err(Failure::usage(
            "a password in the URL could be seen by every user of this machine: leave it out, imapfs asks for it, or \
             takes it from --password-command, --password-file or the config file",
        ));
    }
    if user.is_some_and(|user| user.contains(';')) || mailbox.contains(['?', ';']) {
        return refuse("the URL has parameters, which imapfs does not take");
    }
    let Some((host, port)) = split_port(host_port) else {
        return refuse("the URL's host or port makes no sense");
    };
    let user = match user.map(decode) {
        None => None,
        Some(Some(user)) if !user.is_empty() => Some(user),
        Some(_) => return refuse("the URL's user makes no sense"),
    };
    let mailbox = match decode(mailbox.trim_end_matches('/')) {
        Some(mailbox) => Some(mailbox).filter(|mailbox| !mailbox.is_empty()),
        None => return refuse("the URL's mailbox makes no sense"),
    };
    let name = user.as_ref().map_or(host.to_owned(), |user| format!("{user}@{host}"));
    let settings = Settings { host: Some(host.into()), port, user, tls: Some(tls), mailbox, ..Settings::default() };
    Ok((name, settings))
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; the host without brackets.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => {
            let (host, rest) = text.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => match text.find(':') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        },
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '%' | '[' | ']' | '/' | '\\');
    if host.is_empty() || host.contains(odd) {
        return None;
    }
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        Some(port) if port.bytes().all(|c| c.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port != 0).map(|port| (host, Some(port)))
        }
        _ => None,
    }
}

/// Undoes percent-encoding; `None` for a broken escape, for what is not UTF-8, and for control characters, which have
/// no place in an IMAP command.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push((digit()? << 4 | digit()?) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok().filter(|text| !text.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Result<&str, &str>) {
        let found = parse(url).map(|(name, s)| {
            let user = s.user.unwrap_or("-".into());
            let port = s.port.map_or("-".into(), |port| port.to_string());
            let tls = s.tls.map(|tls| format!("{tls:?}")).unwrap_or_default();
            format!("{name} {user} {} {port} {tls} {}", s.host.unwrap_or_default(), s.mailbox.unwrap_or("-".into()))
        });
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{url}"),
            (Err(failure), Err(part)) => {
                assert!(failure.message.contains(part), "{url}: {}", failure.message);
                assert_eq!(failure.exit, super::super::exit::Exit::Usage);
                assert!(!failure.message.contains("hunter2"), "{}", failure.message);
            }
            (found, _) => panic!("{url}: {found:?}"),
        }
    }

    #[test]
    fn a_url_names_user_host_port_protection_and_mailbox() {
        check("imaps://me@h.example", Ok("me@h.example me h.example - Implicit -"));
        check("IMAP://me@h.example:1143/", Ok("me@h.example me h.example 1143 StartTls -"));
        check("imaps://me%40x.org@h/Work/a%20b%2f/", Ok("me@x.org@h me@x.org h - Implicit Work/a b/"));
        check("imaps://me@x.org@h", Ok("me@x.org@h me@x.org h - Implicit -"));
        check("imaps://h/Entw%C3%BCrfe", Ok("h - h - Implicit Entwürfe"));
        check("imaps://me@[::1]:9993/INBOX", Ok("me@::1 me ::1 9993 Implicit INBOX"));
        check("imaps://me@[fe80::2]", Ok("me@fe80::2 me fe80::2 - Implicit -"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        check("https://me@h", Err("neither imaps:// nor imap://"));
        for url in ["imaps://", "imaps://me@", "imaps://me@h:", "imaps://me@h:0", "imaps://me@h:65536", "imaps://h:+1"]
        {
            check(url, Err("host or port"));
        }
        for url in ["imaps://me@[::1", "imaps://me@[h]", "imaps://me@[::1]x", "imaps://me@::1", "imaps://me@a b"] {
            check(url, Err("host or port"));
        }
        for url in ["imaps://@h", "imaps://m%zze@h", "imaps://m%e@h", "imaps://m%0ae@h", "imaps://m%ffe@h"] {
            check(url, Err("user makes no sense"));
        }
        check("imaps://me@h/a%00b", Err("mailbox makes no sense"));
        check("imaps://me;AUTH=XOAUTH2@h", Err("parameters"));
        check("imaps://me@h/INBOX;UIDVALIDITY=3", Err("parameters"));
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        check("imaps://me:hunter2@h", Err("could be seen by every user"));
        check("imaps://me:hunter2@evil@h/x", Err("could be seen by every user"));
    }

    proptest::proptest! {
        #[test]
        fn no_url_panics(url in "(imaps?://)?[a-z%0-9@:/\\[\\];?é ]{0,24}") {
            let _ = parse(&url);
        }
    }
}
