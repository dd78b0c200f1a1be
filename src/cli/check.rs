//! `imapfs check`: connects, and says in plain words what the server is and what imapfs makes of it.

use std::fmt::Write;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::json;
use tokio::sync::mpsc;

use super::args::{Check, Global};
use super::exit::{Exit, Failure};
use super::{log, print, target};
use crate::error::printable;
use crate::imap::response::Data;
use crate::imap::{Class, Client, Command, Options, Target, Tls};

/// Round trips that are measured; the quickest counts.
const ROUND_TRIPS: usize = 3;
/// Octets that a list of mailboxes may have: 100,000 of them with room to spare.
const LIST_LIMIT: u64 = 64 << 20;

/// What imapfs uses where it is offered: capability, what it is good for, what happens without it.
const USES: &[(&str, &str, &str)] = &[
    ("COMPRESS=DEFLATE", "lists of messages cross the wire in a tenth of the bytes", "nothing is compressed"),
    ("CONDSTORE", "only flags that have changed are asked for", "all flags of a mailbox are compared"),
    ("ESEARCH", "the UIDs of a mailbox come as ranges", "the UIDs of a mailbox come one by one"),
    ("LIST-EXTENDED", "mailboxes, subscriptions and children come in one answer", "mailboxes are listed twice"),
    ("SPECIAL-USE", "Sent, Trash and the like are known by their use", "mailboxes are known by name only"),
    ("NAMESPACE", "mailboxes shared by others are found", "only what LIST shows is found"),
    ("OBJECTID", "messages and threads have names of their own", "messages are known by UID only"),
    ("QUOTA", "df shows how much room is left", "df shows no limit"),
    ("ACL", "permissions show the rights that you have", "permissions show full rights"),
    ("METADATA", "annotations are extended attributes", "there are no annotations"),
];

/// What was found.
struct Report {
    name: String,
    address: String,
    protection: &'static str,
    user: String,
    server: String,
    capabilities: Vec<String>,
    mailboxes: usize,
    round_trip: Duration,
}

/// Connects and reports.
///
/// # Errors
/// As for a mount: why it could not connect or log in.
pub fn run(check: &Check, global: &Global, password: Option<SecretString>) -> Result<(), Failure> {
    log::start(global, false)?;
    let argument = check.account.as_deref();
    let target = target::find(argument, global)?.with_flags(check.connection.settings(), argument)?;
    let options = target.imap_options(global, &check.connection, password, false)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("cannot start", &error))?;
    let limit = options.timeout;
    let report = runtime.block_on(async {
        tokio::time::timeout(3 * limit, ask(target.name, options))
            .await
            .unwrap_or_else(|_| Err(Failure::new(Exit::Temporary, "the server does not answer in time")))
    })?;
    print(&if check.json { report.json() } else { report.text() })
}

async fn ask(name: String, options: Options) -> Result<Report, Failure> {
    let (events, _unasked) = mpsc::unbounded_channel();
    let address = if options.host.contains(':') { format!("[{}]", options.host) } else { options.host.clone() };
    let address = format!("{address}:{}", options.port);
    let protection = match options.tls {
        Tls::Implicit => "TLS from the first byte",
        Tls::StartTls => "TLS after STARTTLS",
        Tls::None => "none: password and mail cross the network in the clear",
    };
    let user = options.user.clone();
    let client = Client::connect(options, events).await?;
    let (rows, _) = client.run(Target::Account, Command::List, Class::Small, LIST_LIMIT).await?;
    // LSUB rows and parents that hold no messages are no mailboxes.
    let mailboxes = rows.iter().filter(|row| match row {
        Data::List(row) => !row.lsub && !row.attributes.iter().any(|a| a == "\\noselect" || a == "\\nonexistent"),
        _ => false,
    });
    let mailboxes = mailboxes.count();
    let mut round_trip = Duration::MAX;
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        client.run(Target::Account, Command::Noop, Class::Small, LIST_LIMIT).await?;
        round_trip = round_trip.min(start.elapsed());
    }
    let server = client.server().clone();
    client.close().await;
    let of_id = |key: &str| server.id.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
    let server_name = [of_id("name"), of_id("version")].into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
    let server_name = printable(server_name.join(" ").as_bytes(), 100);
    let capabilities = server.capabilities.iter().map(|capability| printable(capability.as_bytes(), 100));
    Ok(Report {
        name,
        address,
        protection,
        user,
        server: server_name,
        capabilities: capabilities.collect(),
        mailboxes,
        round_trip,
    })
}

impl Report {
    fn offers(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|offered| offered == capability)
            // QRESYNC includes it, RFC 7162 section 3.2.3.
            || capability == "CONDSTORE" && self.capabilities.iter().any(|offered| offered == "QRESYNC")
    }

    fn milliseconds(&self) -> f64 {
        (self.round_trip.as_secs_f64() * 10_000.0).round() / 10.0
    }

    fn text(&self) -> String {
        let server = if self.server.is_empty() { "does not say what it is" } else { &self.server };
        let mut out = format!(
            "Account:     {}\nServer:      {} ({server})\nProtection:  {}\nLogin:       accepted for {}\n\
             Mailboxes:   {}\nRound trip:  {} ms\n",
            self.name,
            self.address,
            self.protection,
            self.user,
            self.mailboxes,
            self.milliseconds(),
        );
        for (title, offered) in [("\nUsed:\n", true), ("\nNot offered:\n", false)] {
            let rows = USES.iter().filter(|(capability, ..)| self.offers(capability) == offered);
            for (n, (capability, with, without)) in rows.enumerate() {
                // Writing to a String does not fail.
                let _ = write!(out, "{}  {capability:<17}", if n == 0 { title } else { "" });
                let _ = writeln!(out, "{}", if offered { with } else { without });
            }
        }
        out
    }

    fn json(&self) -> String {
        let uses = USES.iter().map(|(capability, ..)| (capability.to_string(), self.offers(capability).into()));
        let report = json!({
            "account": self.name,
            "address": self.address,
            "protection": self.protection,
            "user": self.user,
            "server": self.server,
            "mailboxes": self.mailboxes,
            "round_trip_ms": self.milliseconds(),
            "uses": uses.collect::<serde_json::Map<_, _>>(),
            "capabilities": self.capabilities,
        });
        format!("{report:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(capabilities: &[&str]) -> Report {
        Report {
            name: "work".into(),
            address: "h:993".into(),
            protection: "TLS from the first byte",
            user: "me".into(),
            server: "Dovecot".into(),
            capabilities: capabilities.iter().map(|c| c.to_string()).collect(),
            mailboxes: 3,
            round_trip: Duration::from_micros(12_345),
        }
    }

    #[test]
    fn a_report_tells_what_is_used_and_what_happens_without_the_rest() {
        let text = report(&["IMAP4REV1", "QRESYNC", "QUOTA"]).text();
        let (used, rest) = text.split_once("\nNot offered:\n").unwrap();
        assert!(used.contains("Server:      h:993 (Dovecot)\n") && used.contains("Round trip:  12.3 ms\n"), "{text}");
        assert!(used.contains("\nUsed:\n  CONDSTORE        only flags that have changed"), "{text}");
        assert!(
            rest.contains("  ACL              permissions show full rights\n") && !rest.contains("QUOTA"),
            "{text}"
        );
        assert!(!report(&[]).text().contains("Used:"));
    }

    #[test]
    fn json_has_the_same_facts() {
        let json: serde_json::Value = serde_json::from_str(&report(&["ACL"]).json()).unwrap();
        assert_eq!(json["uses"]["ACL"], true);
        assert_eq!(json["uses"]["QUOTA"], false);
        assert_eq!(json["mailboxes"], 3);
    }
}
