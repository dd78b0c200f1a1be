//! Bricks from which the odd messages are built.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The `Date:` of every message.
pub const DATE: &str = "Tue, 05 Mar 2024 10:00:00 +0100";
pub const CTE64: &str = "Content-Transfer-Encoding: base64";
pub const CTEQP: &str = "Content-Transfer-Encoding: quoted-printable";
pub const CTE8: &str = "Content-Transfer-Encoding: 8bit";
pub const TEXT: &str = "Hello,\r\n\r\nthis is a plain message.\r\n-- \r\nAlice\r\n";

/// A PNG of one pixel.
pub fn png() -> Vec<u8> {
    let text = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    STANDARD.decode(text).unwrap()
}

/// Header fields, an empty line, a body.
pub fn entity<F: AsRef<[u8]>>(fields: &[F], body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend_from_slice(field.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.as_ref());
    bytes
}

/// The header of a whole message called `name`.
pub fn head(name: &str, subject: &str) -> Vec<String> {
    vec![
        "From: =?utf-8?q?Al=C3=AFce?= <alice@example.test>".to_owned(),
        "To: Bob <bob@example.test>".to_owned(),
        format!("Subject: {subject}"),
        format!("Date: {DATE}"),
        format!("Message-ID: <{name}@corpus.example.test>"),
        "MIME-Version: 1.0".to_owned(),
    ]
}

/// A whole message with these fields about its content.
pub fn message(name: &str, subject: &str, fields: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut all = head(name, subject);
    all.extend(fields.iter().map(|&field| field.to_owned()));
    entity(&all, body)
}

/// A part: Content-Type, more fields, body.
pub fn part(content_type: &str, fields: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut all = vec![format!("Content-Type: {content_type}")];
    all.extend(fields.iter().map(|&field| field.to_owned()));
    entity(&all, body)
}

/// A text/plain part.
pub fn plain() -> Vec<u8> {
    part("text/plain; charset=\"us-ascii\"", &[], TEXT)
}

/// A text/html part.
pub fn html() -> Vec<u8> {
    part("text/html; charset=\"utf-8\"", &[], "<html><body><p>Hello</p></body></html>\r\n")
}

/// The body of a multipart.
pub fn multipart_body(boundary: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut body = unclosed_body(boundary, parts);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

/// The same without the closing delimiter.
pub fn unclosed_body(boundary: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut body = b"This is a multi-part message in MIME format.\r\n".to_vec();
    for part in parts {
        body.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        body.extend_from_slice(part);
    }
    body
}

/// A multipart within another one. `kind` is the subtype, with parameters if it has any.
pub fn inner_multipart(kind: &str, boundary: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    part(&format!("multipart/{kind}; boundary=\"{boundary}\""), &[], multipart_body(boundary, parts))
}

/// A whole multipart message.
pub fn multipart(name: &str, kind: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    let boundary = format!("=_{name}");
    let field = format!("Content-Type: multipart/{kind}; boundary=\"{boundary}\"");
    message(name, &name.replace('-', " "), &[&field], multipart_body(&boundary, parts))
}

/// A whole message: a text and this part.
pub fn with_part(name: &str, part: Vec<u8>) -> Vec<u8> {
    multipart(name, "mixed", &[plain(), part])
}

/// An attachment in base64. `parameters` follow `Content-Disposition: attachment`, with their `;`.
pub fn attachment(content_type: &str, parameters: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let disposition = [b"Content-Disposition: attachment", parameters.as_ref()].concat();
    let fields = [format!("Content-Type: {content_type}").into_bytes(), disposition, CTE64.into()];
    entity(&fields, base64_lines(data, 76))
}

/// Base64 in lines of `width` characters, each with CRLF.
pub fn base64_lines(data: &[u8], width: usize) -> Vec<u8> {
    let text = STANDARD.encode(data);
    text.as_bytes().chunks(width).flat_map(|line| [line, b"\r\n"].concat()).collect()
}

/// Base64 in one run.
pub fn base64(data: impl AsRef<[u8]>) -> String {
    STANDARD.encode(data)
}

/// Quoted-printable with soft line breaks.
pub fn quoted_printable(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut column = 0;
    let mut bytes = data.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\r' && bytes.peek() == Some(&b'\n') {
            bytes.next();
            out.extend_from_slice(b"\r\n");
            column = 0;
            continue;
        }
        let encoded = match byte {
            b'!'..=b'<' | b'>'..=b'~' => vec![byte],
            b' ' if !matches!(bytes.peek(), None | Some(b'\r')) => vec![byte],
            _ => format!("={byte:02X}").into_bytes(),
        };
        if column + encoded.len() > 75 {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        column += encoded.len();
        out.extend(encoded);
    }
    out
}

/// uuencoded data, with its `begin` and `end` lines.
pub fn uuencode(file_name: &str, data: &[u8]) -> Vec<u8> {
    let digit = |value: u8| if value == 0 { b'`' } else { value + b' ' };
    let mut out = format!("begin 644 {file_name}\r\n").into_bytes();
    for line in data.chunks(45) {
        out.push(digit(line.len() as u8));
        for three in line.chunks(3) {
            let [a, b, c] = [three[0], *three.get(1).unwrap_or(&0), *three.get(2).unwrap_or(&0)];
            out.extend([a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63].map(digit));
        }
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"`\r\nend\r\n");
    out
}

/// Bytes that look like noise, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| next().to_le_bytes()).take(length / 8 + 1).flatten().collect();
    bytes.truncate(length);
    bytes
}
