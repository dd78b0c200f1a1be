//! A small blocking IMAP client over plain TCP: the independent judge, so it shares no code with the program.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One untagged response: its text with every literal left as `{n}`, and those literals in order.
#[derive(Clone, Debug)]
pub struct Untagged {
    pub text: String,
    pub literals: Vec<Vec<u8>>,
}

/// What a command was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `OK`, `NO` or `BAD`.
    pub status: String,
    /// What stands after the status: response code and text.
    pub text: String,
    pub untagged: Vec<Untagged>,
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        self.status == "OK"
    }

    /// The words of the response code `[NAME a b c]`, without the name; empty when it is not there.
    pub fn code(&self, name: &str) -> Vec<String> {
        let texts = self.untagged.iter().map(|u| u.text.as_str()).chain([self.text.as_str()]);
        for text in texts {
            if let Some(rest) = text.split_once(&format!("[{name} ")).map(|(_, rest)| rest) {
                return rest.split(']').next().unwrap_or("").split(' ').map(str::to_owned).collect();
            }
        }
        Vec::new()
    }
}

/// A connection that is logged in.
pub struct Imap {
    stream: BufReader<TcpStream>,
    next_tag: u32,
    pub greeting: String,
}

impl Imap {
    /// Connects to 127.0.0.1 and reads the greeting. Every wait is limited to a minute.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        let mut imap = Imap { stream: BufReader::with_capacity(1 << 16, stream), next_tag: 1, greeting: String::new() };
        imap.greeting = imap.response()?.text;
        Ok(imap)
    }

    pub fn login(port: u16, user: &str, password: &str) -> io::Result<Self> {
        let mut imap = Self::connect(port)?;
        imap.ok(&format!("LOGIN {} {}", quote(user), quote(password)))?;
        Ok(imap)
    }

    /// Sends one command without literals, answers whatever came.
    pub fn command(&mut self, text: &str) -> io::Result<Answer> {
        let tag = self.send(text)?;
        self.answer(&tag)
    }

    /// The same, and anything but OK is an error.
    pub fn ok(&mut self, text: &str) -> io::Result<Answer> {
        let answer = self.command(text)?;
        accept(answer, text)
    }

    /// Sends a command line and does not wait; returns the tag.
    pub fn send(&mut self, text: &str) -> io::Result<String> {
        let tag = format!("j{}", self.next_tag);
        self.next_tag += 1;
        self.stream.get_mut().write_all(format!("{tag} {text}\r\n").as_bytes())?;
        Ok(tag)
    }

    /// Reads up to the tagged answer of `tag`.
    pub fn answer(&mut self, tag: &str) -> io::Result<Answer> {
        let mut untagged = Vec::new();
        loop {
            let response = self.response()?;
            if let Some(rest) = response.text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                let (status, text) = rest.split_once(' ').unwrap_or((rest, ""));
                return Ok(Answer { status: status.to_ascii_uppercase(), text: text.to_owned(), untagged });
            }
            untagged.push(response);
        }
    }

    /// Appends one message with a synchronising literal. Returns its UID; 0 when the server does not tell (no UIDPLUS).
    pub fn append(&mut self, mailbox: &str, message: &[u8], flags: &str, date: Option<&str>) -> io::Result<u32> {
        let date = date.map(|date| format!("{} ", quote(date))).unwrap_or_default();
        let text = format!("APPEND {} ({flags}) {date}{{{}}}", quote(mailbox), message.len());
        let tag = self.send(&text)?;
        loop {
            let response = self.response()?;
            if response.text.starts_with('+') {
                break;
            }
            if let Some(refusal) = response.text.strip_prefix(&tag) {
                return Err(io::Error::other(format!("{text}:{refusal}")));
            }
        }
        self.stream.get_mut().write_all(message)?;
        self.stream.get_mut().write_all(b"\r\n")?;
        let answer = self.answer(&tag)?;
        let answer = accept(answer, &text)?;
        Ok(answer.code("APPENDUID").get(1).and_then(|uid| uid.parse().ok()).unwrap_or(0))
    }

    /// Selects a mailbox and returns the number of messages in it.
    pub fn select(&mut self, mailbox: &str) -> io::Result<u32> {
        let answer = self.ok(&format!("SELECT {}", quote(mailbox)))?;
        let exists =
            answer.untagged.iter().find_map(|u| u.text.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok());
        exists.ok_or_else(|| io::Error::other("SELECT without EXISTS"))
    }

    pub fn create(&mut self, mailbox: &str) -> io::Result<()> {
        self.ok(&format!("CREATE {}", quote(mailbox))).map(drop)
    }

    /// `UID SEARCH`: the UIDs in ascending order.
    pub fn search(&mut self, query: &str) -> io::Result<Vec<u32>> {
        let answer = self.ok(&format!("UID SEARCH {query}"))?;
        let mut uids: Vec<u32> = answer
            .untagged
            .iter()
            .filter_map(|u| u.text.strip_prefix("* SEARCH"))
            .flat_map(|list| list.split_whitespace().filter_map(|uid| uid.parse().ok()).collect::<Vec<_>>())
            .collect();
        uids.sort_unstable();
        Ok(uids)
    }

    /// `BODY.PEEK[section]` of one message of the selected mailbox, `None` when it is not there; marks nothing.
    pub fn body(&mut self, uid: u32, section: &str) -> io::Result<Option<Vec<u8>>> {
        let answer = self.ok(&format!("UID FETCH {uid} (UID BODY.PEEK[{section}])"))?;
        for fetch in &answer.untagged {
            if fetch_uid(&fetch.text) == Some(uid) && fetch.text.contains("BODY[") {
                if let Some(literal) = fetch.literals.first() {
                    return Ok(Some(literal.clone()));
                }
                return Ok(quoted_after(&fetch.text, "] \"").map(String::into_bytes));
            }
        }
        Ok(None)
    }

    /// The whole bytes of many messages of the selected mailbox, by UID; marks nothing.
    pub fn bodies(&mut self, uids: &str) -> io::Result<BTreeMap<u32, Vec<u8>>> {
        let answer = self.ok(&format!("UID FETCH {uids} (UID BODY.PEEK[])"))?;
        let body = |fetch: &Untagged| Some((fetch_uid(&fetch.text)?, fetch.literals.first()?.clone()));
        Ok(answer.untagged.iter().filter_map(body).collect())
    }

    /// The flags of one message as the server has them, sorted; `None` when it is not there.
    pub fn flags(&mut self, uid: u32) -> io::Result<Option<Vec<String>>> {
        let answer = self.ok(&format!("UID FETCH {uid} (UID FLAGS)"))?;
        let fetch = answer.untagged.iter().find(|u| fetch_uid(&u.text) == Some(uid) && u.text.contains("FLAGS ("));
        Ok(fetch.map(|fetch| {
            let list = fetch.text.split_once("FLAGS (").map_or("", |(_, rest)| rest.split(')').next().unwrap_or(""));
            let mut flags: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
            flags.sort();
            flags
        }))
    }

    /// RFC822.SIZE of one message, in octets.
    pub fn size(&mut self, uid: u32) -> io::Result<Option<u64>> {
        let answer = self.ok(&format!("UID FETCH {uid} (UID RFC822.SIZE)"))?;
        let fetch = answer.untagged.iter().find(|u| fetch_uid(&u.text) == Some(uid));
        Ok(fetch.and_then(|fetch| number_after(&fetch.text, "RFC822.SIZE ")))
    }

    /// `STATUS mailbox (item)`.
    pub fn status(&mut self, mailbox: &str, item: &str) -> io::Result<Option<u64>> {
        let answer = self.ok(&format!("STATUS {} ({item})", quote(mailbox)))?;
        let status = answer.untagged.iter().find(|u| u.text.starts_with("* STATUS"));
        Ok(status.and_then(|u| number_after(&u.text, &format!("{item} "))))
    }

    pub fn logout(mut self) -> io::Result<()> {
        self.ok("LOGOUT").map(drop)
    }

    /// Reads one response line with its literals.
    pub fn response(&mut self) -> io::Result<Untagged> {
        let (mut text, mut literals) = (String::new(), Vec::new());
        loop {
            let mut line = Vec::new();
            self.stream.read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            text.push_str(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
            match literal_size(&text) {
                Some(size) => {
                    let mut literal = vec![0; size];
                    self.stream.read_exact(&mut literal)?;
                    literals.push(literal);
                }
                None => return Ok(Untagged { text, literals }),
            }
        }
    }
}

/// `name` as a quoted string. Mailbox names are given as on the wire (modified UTF-7).
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The UID of a FETCH response.
pub fn fetch_uid(text: &str) -> Option<u32> {
    if !text.contains(" FETCH (") {
        return None;
    }
    number_after(text, "UID ").and_then(|uid| u32::try_from(uid).ok())
}

fn accept(answer: Answer, command: &str) -> io::Result<Answer> {
    if answer.is_ok() {
        return Ok(answer);
    }
    let command = if command.starts_with("LOGIN") { "LOGIN" } else { command };
    Err(io::Error::other(format!("{command}: {} {}", answer.status, answer.text)))
}

fn literal_size(text: &str) -> Option<usize> {
    text.strip_suffix('}')?.rsplit_once('{')?.1.trim_end_matches('+').parse().ok()
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.split_once(key)?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn quoted_after(text: &str, key: &str) -> Option<String> {
    let mut quoted = String::new();
    let mut chars = text.split_once(key)?.1.chars();
    loop {
        match chars.next()? {
            '"' => return Some(quoted),
            '\\' => quoted.push(chars.next()?),
            c => quoted.push(c),
        }
    }
}
