//! `corpus/imap-responses.tsv`: a name, the octets that a server sends, and what is understood of them.

const CORPUS: &str = include_str!("../corpus/imap-responses.tsv");

pub struct Row {
    pub name: &'static str,
    pub octets: Vec<u8>,
    /// In the short form of `show`; empty for none.
    #[allow(dead_code)] // Not every test compares it.
    pub meaning: &'static str,
}

pub fn rows() -> Vec<Row> {
    let rows = CORPUS.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut fields = line.splitn(3, '\t');
        let mut next = || fields.next().unwrap_or_default();
        Row { name: next(), octets: unescape(next()), meaning: next() }
    });
    rows.collect()
}

/// The octets that a byte string literal with this text stands for.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next().unwrap() {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'0' => out.push(0),
            b'x' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            other => out.push(other),
        }
    }
    out
}
