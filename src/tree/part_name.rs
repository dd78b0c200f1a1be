//! The names of parts: what the sender called them, made safe and made different from each other.

use std::collections::{HashMap, HashSet};

use super::node::EntryId;
use super::safe::{self, MAX_NAME};
use crate::mail::part::Part;

/// Octets kept free for the number of a clash, dot included: there are at most 16,000 parts.
const NUMBER: usize = 6;

/// The header of a message, decoded.
pub const HEADERS: &str = "headers.txt";
/// The message byte for byte.
pub const RAW: &str = "message.eml";
/// The first text body.
pub const TEXT: &str = "body.txt";
/// The first HTML body.
pub const HTML: &str = "body.html";

/// Names that we give, so that no attachment ever has them.
const OWN: [&str; 4] = [HEADERS, RAW, TEXT, HTML];

/// The name for a file of this part, clashes aside: the sender's, made safe, else `part-1.3.EXT`.
pub fn wanted(part: &Part) -> String {
    part.filename().and_then(|name| safe::file_name(&name)).unwrap_or_else(|| {
        let path: Vec<String> = part.path.iter().map(u32::to_string).collect();
        let name = format!("part-{}.{}", path.join("."), extension(part));
        // A path can have many levels.
        safe::file_name(&name).unwrap_or(name)
    })
}

/// Types whose usual extension is not their subtype.
const EXTENSIONS: [(&str, &str, &str); 51] = [
    ("application", "pgp-signature", "asc"),
    ("application", "pgp-encrypted", "asc"),
    ("application", "pgp-keys", "asc"),
    ("application", "pkcs7-signature", "p7s"),
    ("application", "x-pkcs7-signature", "p7s"),
    ("application", "pkcs7-mime", "p7m"),
    ("application", "x-pkcs7-mime", "p7m"),
    ("application", "pkix-cert", "cer"),
    ("application", "x-x509-ca-cert", "crt"),
    ("application", "ics", "ics"),
    ("application", "javascript", "js"),
    ("application", "gzip", "gz"),
    ("application", "x-gzip", "gz"),
    ("application", "x-bzip2", "bz2"),
    ("application", "x-xz", "xz"),
    ("application", "x-7z-compressed", "7z"),
    ("application", "x-zip-compressed", "zip"),
    ("application", "vnd.rar", "rar"),
    ("application", "msword", "doc"),
    ("application", "vnd.ms-excel", "xls"),
    ("application", "vnd.ms-powerpoint", "ppt"),
    ("application", "vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application", "vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("application", "vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
    ("application", "vnd.oasis.opendocument.text", "odt"),
    ("application", "vnd.oasis.opendocument.spreadsheet", "ods"),
    ("application", "vnd.oasis.opendocument.presentation", "odp"),
    ("application", "postscript", "ps"),
    ("application", "ms-tnef", "dat"),
    ("application", "vnd.ms-tnef", "dat"),
    ("audio", "mpeg", "mp3"),
    ("audio", "mp4", "m4a"),
    ("audio", "x-wav", "wav"),
    ("image", "jpeg", "jpg"),
    ("image", "pjpeg", "jpg"),
    ("image", "svg+xml", "svg"),
    ("image", "tiff", "tif"),
    ("image", "vnd.microsoft.icon", "ico"),
    ("image", "x-icon", "ico"),
    ("message", "rfc822", "eml"),
    ("message", "global", "eml"),
    ("text", "plain", "txt"),
    ("text", "calendar", "ics"),
    ("text", "vcard", "vcf"),
    ("text", "x-vcard", "vcf"),
    ("text", "directory", "vcf"),
    ("text", "markdown", "md"),
    ("text", "x-patch", "patch"),
    ("text", "x-diff", "diff"),
    ("text", "javascript", "js"),
    ("video", "quicktime", "mov"),
];

/// The extension for a part that has no name: by its media type, else the subtype when it is fit for one, else
/// `txt` for what people can read and `bin` for the rest.
fn extension(part: &Part) -> &str {
    if let Some(known) = EXTENSIONS.iter().find(|(media, subtype, _)| part.is(media, subtype)) {
        return known.2;
    }
    let subtype = part.subtype.strip_prefix("x-").unwrap_or(&part.subtype);
    match &*part.media {
        _ if (1..=5).contains(&subtype.len()) && subtype.bytes().all(|b| b.is_ascii_alphanumeric()) => subtype,
        "text" | "message" => "txt",
        _ => "bin",
    }
}

/// The names that are given out already, of all directories of a message.
#[derive(Debug, Default)]
pub struct Taken {
    names: HashSet<(EntryId, Box<str>)>,
    // The next number of a stem and extension, so that a thousand parts of one name cost a thousand steps.
    next: HashMap<(EntryId, String), u32>,
}

impl Taken {
    /// One of our own names in this directory, with a number when it is taken.
    pub fn claim_own(&mut self, directory: EntryId, name: &str) -> String {
        if self.names.insert((directory, name.into())) { name.to_owned() } else { self.claim_numbered(directory, name) }
    }

    /// The name in this directory, with a number when it is taken or one of ours: `name.2.ext`.
    pub fn claim(&mut self, directory: EntryId, name: &str) -> String {
        if !OWN.contains(&name) && self.names.insert((directory, name.into())) {
            name.to_owned()
        } else {
            self.claim_numbered(directory, name)
        }
    }

    /// `forwarded-1`, `forwarded-2` and so on, with this ending: attached messages of a directory count together.
    pub fn claim_forwarded(&mut self, directory: EntryId, ending: &str) -> String {
        // A key that no file's stem and extension make: it has a separator.
        let next = self.next.entry((directory, "/".into())).or_insert(1);
        let name = format!("forwarded-{next}{ending}");
        *next += 1;
        self.names.insert((directory, name.as_str().into()));
        name
    }

    fn claim_numbered(&mut self, directory: EntryId, name: &str) -> String {
        let (stem, extension) = safe::split_extension(name);
        let stem = safe::cut(stem, MAX_NAME - NUMBER - 1 - extension.len());
        let next = self.next.entry((directory, safe::join_extension(stem, extension))).or_insert(2);
        loop {
            let name = safe::join_extension(&format!("{stem}.{next}"), extension);
            *next += 1;
            if self.names.insert((directory, name.as_str().into())) {
                return name;
            }
        }
    }
}
