//! What the mount says of itself: `.imapfs/status` for people, `.imapfs/metrics` for Prometheus (its text format).

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Account;
use crate::error::printable;
use crate::store::Figures as OnDisk;
use crate::tree::date::rfc3339;

/// For how long a text stays as it is, so that its size is what a reader gets.
const TTL: Duration = Duration::from_secs(1);

/// Octets of a text of the server that are shown.
const TEXT_MAX: usize = 200;

/// The texts that were told last.
#[derive(Debug, Default)]
pub struct Figures(Mutex<Option<(Instant, Texts)>>);

#[derive(Clone, Debug)]
struct Texts {
    status: Arc<str>,
    metrics: Arc<str>,
}

/// A number that the mount tells.
struct Figure {
    name: &'static str,
    /// It only grows.
    counts: bool,
    help: &'static str,
    value: u64,
}

/// What is told in words.
struct Words {
    account: String,
    server: String,
    /// How changes are heard of, and in which mailbox.
    watching: (&'static str, String),
    /// How the disk cache is doing.
    disk_cache: &'static str,
    last_error: Option<(i64, String)>,
}

fn format_status(words: &Words, figures: &[Figure]) -> String {
    let (how, mailbox) = &words.watching;
    let watching = if mailbox.is_empty() { (*how).to_owned() } else { format!("{how} {mailbox}") };
    let mut out = format!("account: {}\nserver: {}\nwatching: {watching}\n", words.account, words.server);
    let _ = writeln!(out, "disk_cache: {}", words.disk_cache);
    for Figure { name, value, .. } in figures {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name}: {value}");
    }
    if let Some((at, error)) = &words.last_error {
        let _ = writeln!(out, "last_error: {} {error}", rfc3339(*at));
    }
    out
}

fn format_metrics(words: &Words, figures: &[Figure]) -> String {
    let account = words.account.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut out = String::new();
    let mut push = |name: &str, kind: &str, help: &str, labels: &str, value: i128| {
        let name = format!("imapfs_{name}{}", if kind == "counter" { "_total" } else { "" });
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let _ = writeln!(out, "{name}{{account=\"{account}\"{labels}}} {value}");
    };
    for Figure { name, counts, help, value } in figures {
        push(name, if *counts { "counter" } else { "gauge" }, help, "", i128::from(*value));
    }
    let how = format!(",how=\"{}\"", words.watching.0);
    push("watching", "gauge", "How changes by others are heard of.", &how, 1);
    if let Some((at, _)) = words.last_error {
        push("last_error_timestamp_seconds", "gauge", "When a connection last failed.", "", i128::from(at));
    }
    out
}

impl Account {
    /// The text of `.imapfs/status`: `name: value` a line.
    pub fn status(&self) -> Arc<str> {
        self.texts().status
    }

    /// The text of `.imapfs/metrics`.
    pub fn metrics(&self) -> Arc<str> {
        self.texts().metrics
    }

    fn texts(&self) -> Texts {
        let known = self.figures.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, texts)) = known
            && at.elapsed() < TTL
        {
            return texts;
        }
        let (words, figures) = (self.words(), self.count());
        let status = format_status(&words, &figures).into();
        let texts = Texts { status, metrics: format_metrics(&words, &figures).into() };
        *self.figures.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), texts.clone()));
        texts
    }

    fn words(&self) -> Words {
        let server = self.client.server().id.iter().find(|(name, _)| name == "name").map(|(_, name)| name.as_str());
        let watched = self.watch.watched().and_then(|id| self.mailbox(id).ok()).map(|mailbox| mailbox.path);
        let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        let error = self.client.last_error();
        Words {
            account: printable(self.options.name.as_bytes(), TEXT_MAX),
            server: printable(server.unwrap_or("unknown").as_bytes(), TEXT_MAX),
            disk_cache: match &self.options.store {
                Ok(store) => store.figures().state.name(),
                Err(why) => why,
            },
            watching: (self.client.stats().watching.name(), watched.unwrap_or_default()),
            last_error: error.map(|(at, error)| (seconds(at), printable(error.to_string().as_bytes(), TEXT_MAX))),
        }
    }

    fn count(&self) -> Vec<Figure> {
        let stats = self.client.stats();
        let (hits, misses) = self.content.looked_up();
        let mailboxes = self.table().mailboxes.indexes().count() as u64;
        let figure = |name, counts, help, value| Figure { name, counts, help, value };
        let mut figures = vec![
            figure("connections", false, "Connections that are open.", stats.connections),
            figure("logins", true, "Connections that were opened.", stats.logins),
            figure("commands", true, "Commands that were sent.", stats.commands),
            figure("bytes_in", true, "Octets from the server.", stats.bytes_in),
            figure("bytes_out", true, "Octets to the server.", stats.bytes_out),
            figure("cache_hits", true, "Pieces of reads that were in memory.", hits),
            figure("cache_misses", true, "Pieces of reads that had to be waited for.", misses),
            figure("changes_queued", false, "Changes of messages that are not done yet.", self.changing.queue.len()),
            figure("mailboxes", false, "Mailboxes that hold messages.", mailboxes),
            figure("messages_known", false, "Messages that are known.", self.known_messages()),
        ];
        if let Ok(store) = &self.options.store {
            let OnDisk { used, limit, hits, misses, .. } = store.figures();
            figures.extend([
                figure("disk_cache_bytes", false, "Octets of the disk cache.", used),
                figure("disk_cache_limit_bytes", false, "Octets that it may have.", limit),
                figure("disk_cache_hits", true, "Reads that found what they looked for on disk.", hits),
                figure("disk_cache_misses", true, "Reads that did not.", misses),
            ]);
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_to_people_and_to_programs() {
        let words = Words {
            account: "a \"b\"".into(),
            server: "Dovecot".into(),
            watching: ("idle", "INBOX".into()),
            disk_cache: "on",
            last_error: Some((1_700_000_000, "lost".into())),
        };
        let figures = [
            Figure { name: "bytes_in", counts: true, help: "Octets.", value: 7 },
            Figure { name: "connections", counts: false, help: "Open.", value: 2 },
        ];
        assert_eq!(
            format_status(&words, &figures),
            "account: a \"b\"\nserver: Dovecot\nwatching: idle INBOX\ndisk_cache: on\nbytes_in: 7\nconnections: 2\n\
             last_error: 2023-11-14T22:13:20Z lost\n"
        );
        assert_eq!(
            format_metrics(&words, &figures),
            "# HELP imapfs_bytes_in_total Octets.\n# TYPE imapfs_bytes_in_total counter\n\
             imapfs_bytes_in_total{account=\"a \\\"b\\\"\"} 7\n\
             # HELP imapfs_connections Open.\n# TYPE imapfs_connections gauge\n\
             imapfs_connections{account=\"a \\\"b\\\"\"} 2\n\
             # HELP imapfs_watching How changes by others are heard of.\n# TYPE imapfs_watching gauge\n\
             imapfs_watching{account=\"a \\\"b\\\"\",how=\"idle\"} 1\n\
             # HELP imapfs_last_error_timestamp_seconds When a connection last failed.\n\
             # TYPE imapfs_last_error_timestamp_seconds gauge\n\
             imapfs_last_error_timestamp_seconds{account=\"a \\\"b\\\"\"} 1700000000\n"
        );
    }
}
