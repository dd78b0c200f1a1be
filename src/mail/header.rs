//! stub

use super::part::Params;

/// Decodes one raw header field body: unfolds, decodes RFC 2047 encoded words, replaces what cannot be decoded.
pub fn decode(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).into_owned()
}

/// The value of a parameter, RFC 2231 continuations and charsets and RFC 2047 decoded.
pub fn parameter(params: &Params, name: &str) -> Option<String> {
    params.iter().find(|(n, _)| &**n == name).map(|(_, v)| decode(v))
}
