//! One account's settings, as a stanza of the config file or the command line gives them; nothing is filled in yet.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};

use crate::imap::Tls;
use crate::mail::query::{self, Query};

/// How messages are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// `DATE_SENDER_SUBJECT.UID`
    #[default]
    Full,
    /// The bare UID, which needs no envelope.
    Uid,
}

/// What happens to a message that is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delete {
    /// It is moved to the mailbox with the special use `\Trash`, and from there expunged.
    #[default]
    Trash,
    /// It is expunged.
    Expunge,
    /// It gets the flag `\Deleted`, and is shown no more.
    Flag,
}

/// Settings of an account: `None` is "not said here".
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Host name or address literal, as certificates must name it.
    pub host: Option<String>,
    /// TCP port.
    #[serde(deserialize_with = "port")]
    pub port: Option<u16>,
    /// Login name.
    pub user: Option<String>,
    /// How the connection is protected.
    #[serde(deserialize_with = "tls")]
    pub tls: Option<Tls>,
    /// PEM file with further roots.
    pub tls_ca: Option<PathBuf>,
    /// Show only this mailbox and those below it.
    pub mailbox: Option<String>,
    /// How many connections at the most, 1 to 16.
    #[serde(deserialize_with = "connections")]
    pub connections: Option<usize>,
    /// Longest time an exchange may go without progress: 1 to 3600 seconds.
    #[serde(deserialize_with = "timeout")]
    pub timeout: Option<u64>,
    /// COMPRESS=DEFLATE where offered.
    pub compress: Option<bool>,
    /// Nothing can be changed.
    pub read_only: Option<bool>,
    /// What happens to a message that is removed.
    pub delete: Option<Delete>,
    /// Changes of messages are not waited for.
    pub write_behind: Option<bool>,
    /// How messages are named.
    pub names: Option<Names>,
    /// Views are listed.
    pub show_views: Option<bool>,
    /// Other users may look inside.
    pub allow_other: Option<bool>,
    /// Permission bits that are taken away: in the file a string of octal digits, as umask(1) takes it.
    #[serde(deserialize_with = "umask")]
    pub umask: Option<u16>,
    /// Something is kept on disk.
    pub cache: Option<bool>,
    /// The most that is, octets: in the file a number, or a string such as "500M".
    #[serde(deserialize_with = "size")]
    pub cache_size: Option<u64>,
    /// Where.
    pub cache_dir: Option<PathBuf>,
    /// Saved searches: `[accounts.NAME.searches]`, a query for each name.
    #[serde(deserialize_with = "searches")]
    pub searches: BTreeMap<String, Query>,
    /// Where the password comes from.
    pub password: Password,
    /// Where the OAuth2 access token comes from; goes before the password.
    pub token: Token,
}

/// Where a password comes from.
#[derive(Clone, Debug, Default)]
pub struct Password {
    /// Prints it on the first line.
    pub command: Option<String>,
    /// Holds it on the first line.
    pub file: Option<PathBuf>,
    /// The password itself: `password.value`, or `password` for short.
    pub value: Option<SecretString>,
}

/// Where an OAuth2 access token comes from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Token {
    /// Prints it on the first line; run again on every reconnect.
    pub command: Option<String>,
}

impl Settings {
    /// These settings, and where they say nothing those of `below`.
    ///
    /// Secrets: the order of [`super::secret::Sources`] is for what is set, wherever it is set; but a password that
    /// is given here is meant to be used, so the token of `below` then is not.
    pub fn over(self, below: Settings) -> Settings {
        let own_password = self.password.command.is_some() || self.password.file.is_some();
        let token = if own_password { None } else { below.token.command };
        Settings {
            host: self.host.or(below.host),
            port: self.port.or(below.port),
            user: self.user.or(below.user),
            tls: self.tls.or(below.tls),
            tls_ca: self.tls_ca.or(below.tls_ca),
            mailbox: self.mailbox.or(below.mailbox),
            connections: self.connections.or(below.connections),
            timeout: self.timeout.or(below.timeout),
            compress: self.compress.or(below.compress),
            read_only: self.read_only.or(below.read_only),
            delete: self.delete.or(below.delete),
            write_behind: self.write_behind.or(below.write_behind),
            names: self.names.or(below.names),
            show_views: self.show_views.or(below.show_views),
            allow_other: self.allow_other.or(below.allow_other),
            umask: self.umask.or(below.umask),
            cache: self.cache.or(below.cache),
            cache_size: self.cache_size.or(below.cache_size),
            cache_dir: self.cache_dir.or(below.cache_dir),
            searches: if self.searches.is_empty() { below.searches } else { self.searches },
            password: Password {
                command: self.password.command.or(below.password.command),
                file: self.password.file.or(below.password.file),
                value: self.password.value.or(below.password.value),
            },
            token: Token { command: self.token.command.or(token) },
        }
    }
}

/// Parses the bits that `--umask` takes away: one to four octal digits.
///
/// # Errors
/// A sentence.
pub fn parse_umask(text: &str) -> Result<u16, String> {
    u16::from_str_radix(text, 8)
        .ok()
        .filter(|mask| *mask <= 0o777 && text.starts_with(|c: char| c.is_ascii_digit()))
        .ok_or_else(|| "expected octal digits, 000 to 777".into())
}

/// Parses a number of octets: `500M` are 500 MiB, and so with K, G and T.
///
/// # Errors
/// A sentence.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let power = match unit.to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => 9,
    };
    let octets = number.parse::<u64>().ok().filter(|_| power < 9).and_then(|n| n.checked_mul(1 << (10 * power)));
    octets.ok_or_else(|| "expected a number of octets, such as 500M or 2G".into())
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Number(u64),
        Text(String),
    }
    let wrong = |reason: String| D::Error::custom(format!("cache-size: {reason}"));
    match Size::deserialize(from).map_err(|_| wrong("expected a number of octets, such as \"500M\"".into()))? {
        Size::Number(octets) => Ok(Some(octets)),
        Size::Text(text) => parse_size(&text).map(Some).map_err(wrong),
    }
}

fn umask<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    parse_umask(&String::deserialize(from)?).map(Some).map_err(|reason| D::Error::custom(format!("umask: {reason}")))
}

fn within<'de, D: Deserializer<'de>>(from: D, key: &str, low: u64, high: u64) -> Result<u64, D::Error> {
    let number = u64::deserialize(from)?;
    if (low..=high).contains(&number) {
        return Ok(number);
    }
    Err(D::Error::custom(format!("{key}: expected {low} to {high}")))
}

fn port<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    Ok(Some(within(from, "port", 1, 65535)? as u16))
}

fn connections<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    Ok(Some(within(from, "connections", 1, 16)? as usize))
}

fn timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    within(from, "timeout", 1, 3600).map(Some)
}

fn tls<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Tls>, D::Error> {
    match String::deserialize(from)?.as_str() {
        "implicit" => Ok(Some(Tls::Implicit)),
        "starttls" => Ok(Some(Tls::StartTls)),
        "none" => Ok(Some(Tls::None)),
        _ => Err(D::Error::custom("tls: expected \"implicit\", \"starttls\" or \"none\"")),
    }
}

fn searches<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Query>, D::Error> {
    let wrong = |name: &str, why: String| D::Error::custom(format!("searches.{name:?}: {why}"));
    let texts = BTreeMap::<String, String>::deserialize(from)?;
    let parsed = texts.into_iter().map(|(name, text)| {
        // It is to be the name of a directory that is not hidden.
        if name.is_empty()
            || name.len() > 255
            || name.starts_with('.')
            || name.contains(|c: char| c == '/' || c.is_control())
        {
            return Err(wrong(&name, "this cannot be the name of a directory".to_owned()));
        }
        let query = query::parse(&text).map_err(|bad| wrong(&name, format!("query, {bad}")))?;
        Ok((name, query))
    });
    parsed.collect()
}

impl<'de> Deserialize<'de> for Password {
    /// A string is the password itself. No error of this tells what it found.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        struct Table {
            command: Option<String>,
            file: Option<PathBuf>,
            value: Option<String>,
        }
        struct StringOrTable;
        impl<'de> Visitor<'de> for StringOrTable {
            type Value = Password;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("password.command, password.file or password.value")
            }
            fn visit_str<E>(self, value: &str) -> Result<Password, E> {
                Ok(Password { value: Some(value.into()), ..Password::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Password, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Password { command: table.command, file: table.file, value: table.value.map(SecretString::from) })
            }
        }
        from.deserialize_any(StringOrTable)
    }
}
