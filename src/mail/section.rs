//! The section of a message that a FETCH names: `BODY[2.1.MIME]`, RFC 9051 section 6.4.5.1.

use std::fmt;

/// Numbers of the parts on the way down, 1-based; empty for the message itself.
pub type PartPath = Box<[u32]>;

/// What of the part is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Text {
    /// The part's body, or for an empty path the message whole: `BODY[]`, `BODY[2.1]`.
    Body,
    /// The RFC 5322 header of the message, or of an attached message: `HEADER`.
    Header,
    /// The MIME header of the part: `MIME`.
    Mime,
    /// The message without its header: `TEXT`.
    Text,
}

/// A section: a place in the part tree, and what of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Section {
    /// The part.
    pub path: PartPath,
    /// What of it.
    pub text: Text,
}

impl Section {
    /// `BODY[]`: the message whole, byte for byte.
    pub fn message() -> Self {
        Self { path: Box::default(), text: Text::Body }
    }

    /// `BODY[HEADER]`: the message's header, with the empty line that ends it.
    pub fn header() -> Self {
        Self { path: Box::default(), text: Text::Header }
    }

    /// `BODY[path]`: the body of a part.
    pub fn part(path: &[u32]) -> Self {
        Self { path: path.into(), text: Text::Body }
    }

    /// Parses what stands between the brackets, in any case; `HEADER.FIELDS (…)` is not a section of ours. `None`
    /// when it is not one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut path = Vec::new();
        if text.is_empty() {
            return Some(Self::message());
        }
        let mut items = text.split('.').peekable();
        while let Some(item) = items.next_if(|i| i.bytes().all(|b| b.is_ascii_digit())) {
            path.push(item.parse::<u32>().ok().filter(|n| *n > 0)?);
        }
        let what = match items.next().map(str::to_ascii_uppercase).as_deref() {
            None => Text::Body,
            Some("HEADER") => Text::Header,
            Some("MIME") if !path.is_empty() => Text::Mime,
            Some("TEXT") => Text::Text,
            Some(_) => return None,
        };
        items.next().is_none().then(|| Self { path: path.into(), text: what })
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, number) in self.path.iter().enumerate() {
            if n > 0 {
                f.write_str(".")?;
            }
            write!(f, "{number}")?;
        }
        let dot = if self.path.is_empty() { "" } else { "." };
        match self.text {
            Text::Body => Ok(()),
            Text::Header => write!(f, "{dot}HEADER"),
            Text::Mime => write!(f, "{dot}MIME"),
            Text::Text => write!(f, "{dot}TEXT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read_and_written_alike() {
        for text in ["", "1", "2.1", "HEADER", "TEXT", "2.1.HEADER", "2.1.MIME", "3.TEXT"] {
            assert_eq!(Section::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        for text in ["0", "1.", ".1", "MIME", "HEADER.FIELDS (DATE)", "1.X", "99999999999", "1.HEADER.2"] {
            assert_eq!(Section::parse(text.as_bytes()), None, "{text}");
        }
    }
}
