//! The way from a frame to its meaning.

use super::frame::Frame;
use super::response::{Data, Response, Status};
use super::response_code;
use super::token::Cursor;
use super::untagged;

impl Response {
    /// Understands a response. It never fails: what cannot be understood is left out of a row or is `Data::Other`,
    /// and the second value says for the log what was wrong.
    pub fn parse(frame: &Frame) -> (Self, Option<&'static str>) {
        if let Some(text) = frame.line.strip_prefix(b"+") {
            return (Response::Continue(frame.line.slice_ref(text.trim_ascii())), None);
        }
        let mut cursor = Cursor::new(frame);
        let tag = cursor.word();
        let mut ahead = cursor.clone();
        if let Some(status) = Status::parse(ahead.word()) {
            let (code, text, odd) = response_code::parse_text(&frame.line, ahead.rest_of_line());
            let response = match tag {
                b"*" => Response::Untagged(Data::Status(status, code, text)),
                _ => Response::Tagged { tag: frame.line.slice_ref(tag), status, code, text },
            };
            return (response, odd);
        }
        if tag != b"*" {
            return (Response::Untagged(untagged::other(tag)), Some("neither untagged nor an outcome"));
        }
        let (data, odd) = if frame.cut { untagged::too_long(cursor) } else { untagged::parse(cursor) };
        (Response::Untagged(data), odd)
    }
}

impl Status {
    fn parse(word: &[u8]) -> Option<Self> {
        Some(match word.to_ascii_uppercase().as_slice() {
            b"OK" => Status::Ok,
            b"NO" => Status::No,
            b"BAD" => Status::Bad,
            b"PREAUTH" => Status::PreAuth,
            b"BYE" => Status::Bye,
            _ => return None,
        })
    }
}
