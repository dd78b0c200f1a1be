//! The MIME tree of a message, whoever took it apart: the server (BODYSTRUCTURE) or `mail::mime`.

use super::header::{self, Params};
use super::section::PartPath;

/// Content-Transfer-Encoding, RFC 2045 section 6, and what older mail uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 7bit, 8bit, binary, none, and everything unknown: the bytes are the content.
    Identity,
    /// base64.
    Base64,
    /// quoted-printable.
    QuotedPrintable,
    /// x-uuencode and its other spellings.
    Uuencode,
}

impl Encoding {
    /// The encoding of this name, in any case, blanks around it ignored. So are quotes around it, and a parameter or
    /// comment behind it: there are to be none, but mail readers decode what has them.
    pub fn parse(name: &[u8]) -> Self {
        let end = name.iter().position(|octet| b";(".contains(octet)).unwrap_or(name.len());
        let name = name[..end].trim_ascii();
        let quoted = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
        match quoted.unwrap_or(name).trim_ascii().to_ascii_lowercase().as_slice() {
            b"base64" => Self::Base64,
            b"quoted-printable" => Self::QuotedPrintable,
            b"x-uuencode" | b"uuencode" | b"x-uue" | b"uue" => Self::Uuencode,
            _ => Self::Identity,
        }
    }
}

/// One node of the MIME tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it is: `[2, 1]` is `BODY[2.1]`. The root has the empty path, except a root that is no multipart: its
    /// body is `[1]`. For a multipart it is the prefix of its children's paths. For an attached message (`Message`)
    /// it is the path of the `message/rfc822` part; the root of what is inside continues from there by the same
    /// rules (RFC 9051 section 6.4.5.1).
    pub path: PartPath,
    /// Media type, lower-case; `text` when missing.
    pub media: Box<str>,
    /// Media subtype, lower-case; `plain` when missing.
    pub subtype: Box<str>,
    /// Content-Type parameters.
    pub params: Params,
    /// Content-Disposition: the kind in lower-case, and its parameters.
    pub disposition: Option<(Box<str>, Params)>,
    /// Content-ID, with its angle brackets; empty when there is none.
    pub content_id: Box<str>,
    /// Content-Transfer-Encoding of the body.
    pub encoding: Encoding,
    /// Length of the encoded body in octets. From a server a hint (some servers count a line more or less, or the part's header), from `mail::mime` exact.
    pub octets: u64,
    /// What is in it.
    pub body: Body,
}

/// What is in a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Content.
    Leaf,
    /// Parts, in order; never empty.
    Multipart(Vec<Part>),
    /// `message/rfc822` or `message/global`, not encoded: an attached message and the root of its tree.
    Message(Box<Part>),
}

impl Part {
    /// Is it of this type?
    pub fn is(&self, media: &str, subtype: &str) -> bool {
        &*self.media == media && &*self.subtype == subtype
    }

    /// `text/plain` and so on.
    pub fn mime_type(&self) -> String {
        format!("{}/{}", self.media, self.subtype)
    }

    /// The name that the sender gave: `filename` of the disposition, else `name` of the type; RFC 2231 and RFC 2047
    /// decoded, otherwise as it is (not yet fit for a file system). `None` when there is none or it is empty.
    pub fn filename(&self) -> Option<String> {
        let disposition = self.disposition.as_ref().and_then(|(_, params)| header::parameter(params, "filename"));
        disposition.or_else(|| header::parameter(&self.params, "name")).filter(|n| !n.is_empty())
    }

    /// The charset parameter in lower-case; `None` when there is none.
    pub fn charset(&self) -> Option<String> {
        header::parameter(&self.params, "charset").map(|c| c.to_ascii_lowercase()).filter(|c| !c.is_empty())
    }

    /// Octets in memory with all that is in it, about. Names and parameters are as long as a server likes.
    pub fn weight(&self) -> usize {
        let disposition = self.disposition.as_ref();
        let texts = [&self.media, &self.subtype, &self.content_id].map(|text| text.len()).iter().sum::<usize>()
            + disposition.map_or(0, |(kind, params)| kind.len() + header::weight(params))
            + header::weight(&self.params);
        let inside = match &self.body {
            Body::Leaf => 0,
            Body::Multipart(parts) => parts.iter().map(Self::weight).sum(),
            Body::Message(inner) => inner.weight(),
        };
        size_of::<Self>() + size_of_val(&*self.path) + texts + inside
    }

    /// Was it sent as an attachment?
    pub fn is_attachment(&self) -> bool {
        self.disposition.as_ref().is_some_and(|(kind, _)| &**kind == "attachment")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_known_however_it_is_written() {
        fn check(name: &str, expected: Encoding) {
            assert_eq!(Encoding::parse(name.as_bytes()), expected, "{name}");
        }
        check("BASE64", Encoding::Base64);
        check(" base64\t", Encoding::Base64);
        check("\"base64\"", Encoding::Base64);
        check("base64; charset=utf-8", Encoding::Base64);
        check("quoted-printable (so it is)", Encoding::QuotedPrintable);
        check("x-uue", Encoding::Uuencode);
        check("base64 8bit", Encoding::Identity);
        check("\"", Encoding::Identity);
        check("", Encoding::Identity);
    }
}
