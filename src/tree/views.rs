//! Views: the names under which mailboxes and the account show themselves in other ways, the table of a mailbox,
//! and the names that programs look for everywhere and no server need be asked about.

use super::date;
use super::node::{AccountView, MailboxView, SearchView};
use super::safe;
use crate::mail::envelope::Summary;

/// The names of all views, those still to come as well: a mailbox of this name is escaped.
const RESERVED: [&str; 5] = [".imapfs", ".eml", ".messages.tsv", ".search", ".maildir"];

/// What a message as one file ends with.
const EML: &str = ".eml";

/// The names of the table and of searches.
const TABLE: &str = ".messages.tsv";
const SEARCH: &str = ".search";

/// All views of a mailbox.
pub const MAILBOX_VIEWS: [MailboxView; 3] = [MailboxView::Eml, MailboxView::Table, MailboxView::Search];

/// First line of `.messages.tsv`.
const TABLE_HEADER: &str = "uid\tdate\tfrom\tsubject\tflags\tsize\tname\n";

impl AccountView {
    /// What is in `.imapfs/`.
    pub const CONTROL: [Self; 2] = [Self::Metrics, Self::Status];

    /// Its name: `.imapfs` in the root, the others in there.
    pub fn name(self) -> &'static str {
        match self {
            AccountView::Control => ".imapfs",
            AccountView::Status => "status",
            AccountView::Search => SEARCH,
            AccountView::Metrics => "metrics",
        }
    }

    /// The view of this name in the root.
    pub fn in_root(name: &str) -> Option<Self> {
        [AccountView::Control, AccountView::Search].into_iter().find(|view| view.name() == name)
    }

    /// The view of this name in `.imapfs/`.
    pub fn in_control(name: &str) -> Option<Self> {
        Self::CONTROL.into_iter().find(|view| view.name() == name)
    }
}

impl MailboxView {
    /// Its name in the mailbox's directory.
    pub fn name(self) -> &'static str {
        match self {
            MailboxView::Eml => EML,
            MailboxView::Table => TABLE,
            MailboxView::Search => SEARCH,
        }
    }

    /// The view of this name in a mailbox's directory.
    pub fn parse(name: &str) -> Option<Self> {
        MAILBOX_VIEWS.into_iter().find(|view| view.name() == name)
    }
}

impl SearchView {
    /// The view of this name in a search's directory.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            EML => Some(SearchView::Eml),
            TABLE => Some(SearchView::Table),
            _ => None,
        }
    }
}

/// Is this the name of a view, now or later?
pub fn is_reserved(name: &str) -> bool {
    name.starts_with('.') && RESERVED.contains(&name)
}

/// The name in `.eml/` of the message whose directory is called `name`.
pub fn format_eml_name(name: &str) -> String {
    format!("{name}{EML}")
}

/// The name of the message's directory, from its name in `.eml/`.
pub fn parse_eml_name(name: &str) -> Option<&str> {
    name.strip_suffix(EML).filter(|name| !name.is_empty())
}

/// The text of `.messages.tsv`: a line that names the columns, then a line for each message (its name and what is
/// known of it): UID, INTERNALDATE (RFC 3339, UTC), sender, subject, flags parted by spaces, RFC822.SIZE in octets,
/// name. A tab or line end in a field is a space.
pub fn format_table<'a>(messages: impl IntoIterator<Item = (&'a str, &'a Summary)>) -> String {
    let mut out = String::from(TABLE_HEADER);
    for (name, message) in messages {
        push_row(&mut out, name, message);
    }
    out
}

/// The same of what a search found; `in_mailboxes`: with a last column, the mailbox's directory below the one that was
/// searched.
pub fn format_found_table<'a>(
    messages: impl IntoIterator<Item = (String, Option<&'a str>, &'a Summary)>,
    in_mailboxes: bool,
) -> String {
    let mut out = String::from(TABLE_HEADER);
    if in_mailboxes {
        out.insert_str(out.len() - 1, "\tmailbox");
    }
    for (name, path, message) in messages {
        push_row(&mut out, &name, message);
        if let Some(path) = path {
            out.insert_str(out.len() - 1, &format!("\t{}", safe::line(path)));
        }
    }
    out
}

/// Appends the line of one message.
pub fn push_row(out: &mut String, name: &str, message: &Summary) {
    let fields = [
        message.uid.to_string(),
        date::rfc3339(message.internal_date),
        safe::line(&format_from(message)),
        safe::line(message.texts().subject),
        safe::line(&message.flags.to_string()),
        message.size.to_string(),
    ];
    for field in &fields {
        out.push_str(field);
        out.push('\t');
    }
    out.push_str(name);
    out.push('\n');
}

/// `Bob Müller <bob@example.org>`, or what there is of it.
pub fn format_from(message: &Summary) -> String {
    let texts = message.texts();
    match (texts.from_name, texts.from_address) {
        ("", address) => address.to_owned(),
        (name, "") => name.to_owned(),
        (name, address) => format!("{name} <{address}>"),
    }
}

/// Is it a name that desktops, shells and version control look for in every directory, or leave there? Such a name
/// is no message, and never becomes a mailbox or a message; a mailbox that is so called on the server is shown, so
/// look among the mailboxes first.
pub fn is_litter(name: &str) -> bool {
    const NAMES: [&str; 31] = [
        ".hidden",
        ".directory",
        ".xdg-volume-info",
        "autorun.inf",
        ".DS_Store",
        "desktop.ini",
        "Desktop.ini",
        "Thumbs.db",
        "thumbs.db",
        "ehthumbs.db",
        "AUTORUN.INF",
        "Autorun.inf",
        ".Spotlight-V100",
        ".fseventsd",
        ".TemporaryItems",
        ".localized",
        ".sh_thumbnails",
        ".nomedia",
        ".git",
        ".hg",
        ".svn",
        ".bzr",
        ".jj",
        "CVS",
        "HEAD",
        ".gitignore",
        ".ignore",
        ".rgignore",
        ".fdignore",
        ".python-version",
        ".envrc",
    ];
    const STARTS: [&str; 4] = [".Trash", "._", ".goutputstream-", ".nfs"];
    NAMES.contains(&name) || STARTS.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope::{Head, Texts};
    use crate::mail::flag::Flags;
    use crate::mail::uid::Uid;

    #[test]
    fn views_answer_to_their_names_and_the_names_are_reserved() {
        for view in MAILBOX_VIEWS {
            assert_eq!(MailboxView::parse(view.name()), Some(view));
            assert!(is_reserved(view.name()));
        }
        assert_eq!(AccountView::in_root(".imapfs"), Some(AccountView::Control));
        assert_eq!(AccountView::in_control("status"), Some(AccountView::Status));
        assert!(is_reserved(".imapfs") && is_reserved(".search") && is_reserved(".maildir") && !is_reserved("status"));
        for view in AccountView::CONTROL {
            assert_eq!(AccountView::in_control(view.name()), Some(view));
        }
        assert_eq!((AccountView::in_root("status"), MailboxView::parse("eml")), (None, None));
    }

    #[test]
    fn a_message_in_the_flat_view_has_the_name_of_its_directory_and_an_ending() {
        assert_eq!(parse_eml_name(&format_eml_name("a_b.7")), Some("a_b.7"));
        assert_eq!((parse_eml_name(".eml"), parse_eml_name("a_b.7")), (None, None));
    }

    #[test]
    fn the_table_has_a_line_a_message_whatever_is_in_the_fields() {
        let texts = Texts {
            subject: "a\tb\r\nc\x1b[2J",
            from_name: "Bob",
            from_address: "bob@example.org",
            ..Texts::default()
        };
        let flags = Flags::from_wire([&b"\\Seen"[..], b"$Forwarded"]);
        let message = Summary::pack(Head::new(Uid::new(7).unwrap(), 0, 5_000_000_000, flags, 0), &texts);
        assert_eq!(
            format_table([("n.7", &message)]),
            "uid\tdate\tfrom\tsubject\tflags\tsize\tname\n\
             7\t1970-01-01T00:00:00Z\tBob <bob@example.org>\ta b  c[2J\t$Forwarded \\Seen\t5000000000\tn.7\n"
        );
    }

    #[test]
    fn litter_is_known_by_name_or_start() {
        for name in [".Trash", ".Trash-1000", ".hidden", ".DS_Store", "._x", "Thumbs.db", ".git", "HEAD"] {
            assert!(is_litter(name), "{name}");
        }
        for name in ["INBOX", "Trash", "hidden", "2026-11-21T0905_a_b.7", ".eml", ""] {
            assert!(!is_litter(name), "{name}");
        }
    }
}
