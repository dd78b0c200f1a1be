//! Text from a message made fit for one component of a path: visible, normalised (NFC), cut between graphemes.

use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use unicode_segmentation::UnicodeSegmentation;

/// Longest name that we make, octets: the limit of eCryptfs and of some network disks, to which mail is copied.
pub const MAX_NAME: usize = 143;

/// Longest extension that is kept when a name is cut, octets without the dot.
const MAX_EXTENSION: usize = 16;

/// No combining mark comes before it in Unicode.
const FIRST_MARK: char = '\u{300}';

/// Characters that no name shows as they are, because a terminal or a reader would be led astray: controls (Cc),
/// line and paragraph separators, and what changes the direction of writing.
pub fn is_deceptive(c: char) -> bool {
    match c {
        '\0'..='\x7f' => c.is_ascii_control(),
        _ => matches!(c,
            '\u{80}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'),
    }
}

/// Characters that leave no ink: the deceptive ones, the rest of Cf, what Unicode calls Default_Ignorable (variation
/// selectors, tags, Hangul fillers), and noncharacters. Two names must not differ in these alone.
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    is_deceptive(c)
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || (c as u32) & 0xfffe == 0xfffe
}

/// Blanks of all kinds (tab and line ends too, which words are parted by) as a space, invisible characters gone. NFC
/// comes after it, as two characters may meet only then.
fn visible(text: &str) -> impl Iterator<Item = char> + Clone + '_ {
    text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !is_invisible(*c))
}

/// The longest start of `text` of at most `max` octets that ends between two graphemes; when the first grapheme is
/// longer than that, between two characters.
pub fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let whole = text.grapheme_indices(true).map(|(at, _)| at).take_while(|at| *at <= max).last().unwrap_or(0);
    &text[..if whole > 0 { whole } else { text.floor_char_boundary(max) }]
}

/// A field of a message's name: letters and digits of all scripts (with their combining marks) and `._+@` stay, each
/// run of anything else, hyphens too, becomes one `-`; none at the ends, no `.` in front; at most `max` characters
/// (code points). Empty when nothing of the kind is in the text.
pub fn field(text: &str, max: usize) -> String {
    let mut out = if text.is_ascii() {
        squeeze(text.bytes().filter(|b| !b.is_ascii_control() || b.is_ascii_whitespace()).map(char::from), max)
    } else {
        // Nearly all text is NFC already, which is much cheaper to see than to make.
        match is_nfc_quick(visible(text)) {
            IsNormalized::Yes => squeeze(visible(text), max),
            _ => squeeze(visible(text).nfc(), max),
        }
    };
    if let Some((end, _)) = out.char_indices().nth(max) {
        out.truncate(cut(&out, end).len());
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}

/// At most one character more than `max`, which tells whether a grapheme ends there.
fn squeeze(chars: impl Iterator<Item = char>, max: usize) -> String {
    let mut out = String::with_capacity(max + 1);
    let mut count = 0;
    let mut gap = false;
    let mut base = false;
    for c in chars {
        if count > max {
            break;
        }
        let letter = c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric());
        if c >= FIRST_MARK && is_combining_mark(c) {
            // A mark stays with its letter and goes with anything else.
            if !base || gap {
                continue;
            }
        } else if !letter && !matches!(c, '.' | '_' | '+' | '@') {
            gap = true;
            continue;
        } else if c == '.' && out.is_empty() {
            continue;
        } else {
            base = letter;
        }
        if gap && !out.is_empty() {
            out.push('-');
            count += 1;
        }
        gap = false;
        out.push(c);
        count += 1;
    }
    out
}

/// The name of a file that a sender chose, as one component of at most [`MAX_NAME`] octets: separators become `-`,
/// blanks of all kinds one space, invisible characters go; no `.`, `-`, `~` or space in front, no `.` or space at
/// the end; the extension is kept when the name is cut. `None` when nothing is left.
pub fn file_name(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len().min(2 * MAX_NAME));
    for c in visible(text).nfc() {
        match c {
            ' ' if out.is_empty() || out.ends_with(' ') => {}
            '.' | '-' | '~' | '/' | '\\' if out.is_empty() => {}
            '/' | '\\' => out.push('-'),
            _ => out.push(c),
        }
    }
    out.truncate(out.trim_end_matches(['.', ' ']).len());
    if out.len() > MAX_NAME {
        let (stem, extension) = split_extension(&out);
        let dot = usize::from(!extension.is_empty());
        out = join_extension(cut(stem, MAX_NAME - extension.len() - dot).trim_end_matches(['.', ' ']), extension);
    }
    (!out.is_empty()).then_some(out)
}

/// `report.pdf` as `report` and `pdf`; a name without a (short) extension has an empty one.
pub fn split_extension(name: &str) -> (&str, &str) {
    match name.rsplit_once('.') {
        Some((stem, extension))
            if !stem.is_empty() && (1..=MAX_EXTENSION).contains(&extension.len()) && !extension.contains(' ') =>
        {
            (stem, extension)
        }
        _ => (name, ""),
    }
}

/// What [`split_extension`] took apart.
pub fn join_extension(stem: &str, extension: &str) -> String {
    if extension.is_empty() { stem.to_owned() } else { format!("{stem}.{extension}") }
}

/// Text for one line of a table or for an attribute's value: tabs and line ends as a space, other deceptive
/// characters gone.
pub fn line(text: &str) -> String {
    text.chars()
        .map(|c| if is_deceptive(c) && c.is_whitespace() { ' ' } else { c })
        .filter(|c| !is_deceptive(*c))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_keep_letters_of_all_scripts_and_join_the_rest_by_one_hyphen() {
        fn check(text: &str, expected: &str) {
            assert_eq!(field(text, 60), expected, "{text:?}");
        }
        check("Weekly report", "Weekly-report");
        check("Re: [list]  a - b -- c?!", "Re-list-a-b-c");
        check("..~-.hidden", "hidden");
        check("a_b.c+d@e-f~g", "a_b.c+d@e-f-g");
        check("v1.0.", "v1.0.");
        check("folded\r\n\tline", "folded-line");
        check("folded\u{a0}\u{2028}lïne", "folded-lïne");
        check("bell\x07bell", "bellbell");
        check("invoice\u{202e}fdp.exe", "invoicefdp.exe");
        check("zero\u{200b}width\u{feff}\u{ad}", "zerowidth");
        check("Mu\u{308}ller", "Müller");
        check("e\u{200b}\u{301}", "é");
        check("हिन्दी भाषा", "हिन्दी-भाषा");
        check("日本語の件名", "日本語の件名");
        check("❤\u{fe0f} love 👨\u{200d}👩\u{200d}👧", "love");
        check("=\u{338}x <\u{338}", "x");
        check("\u{301}x", "x");
        check("\u{3164}\u{115f}", "");
        check("a/b\0c", "a-bc");
        check("😀", "");
        check("", "");
        check("\u{fffd}a\u{fffd}\u{fffd}b", "a-b");
    }

    #[test]
    fn fields_are_cut_between_graphemes() {
        fn check(text: &str, max: usize, expected: &str) {
            assert_eq!(field(text, max), expected, "{text:?}");
        }
        check("abcdef", 6, "abcdef");
        check("abcdefg", 6, "abcdef");
        check("abc def", 4, "abc");
        check("abcde\u{30a}x\u{323}\u{304}", 7, "abcde\u{30a}");
        check("a\u{300}\u{301}\u{302}\u{303}", 3, "à\u{301}\u{302}");
        check("한국어", 2, "한국");
    }

    #[test]
    fn file_names_are_one_harmless_component() {
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(file_name(text).as_deref(), expected, "{text:?}");
        }
        check("report.pdf", Some("report.pdf"));
        check("My  holiday \t photos.zip", Some("My holiday photos.zip"));
        check("../../.bashrc", Some("bashrc"));
        check("/etc/passwd", Some("etc-passwd"));
        check("C:\\x", Some("C:-x"));
        check("a/b\\c.txt", Some("a-b-c.txt"));
        for empty in ["", ".", "..", "/", "\0", "\n", "   ", "-", "~", "../..", "\u{202e}"] {
            check(empty, None);
        }
        check(".hidden", Some("hidden"));
        check("-rf", Some("rf"));
        check("~root", Some("root"));
        check("dot. . ", Some("dot"));
        check("a\x1b[2Jb", Some("a[2Jb"));
        check("invoice\u{202e}fdp.exe", Some("invoicefdp.exe"));
        check("Re\u{301}sume\u{301}.pdf", Some("Résumé.pdf"));
        let long = format!("{}.tar", "ü".repeat(300));
        check(&long, Some(&format!("{}.tar", "ü".repeat(69))));
        check(&"x".repeat(300), Some(&"x".repeat(143)));
    }

    #[test]
    fn lines_hold_no_tabs_line_ends_escapes_or_bidi_overrides() {
        assert_eq!(line("a\tb\r\nc\x1b[2J\u{202e}d\u{200d}é"), "a b  c[2Jd\u{200d}é");
    }

    proptest! {
        #[test]
        fn whatever_comes_a_name_is_safe_normalised_and_short(text in any::<String>(), max in 1usize..60) {
            let name = field(&text, max);
            prop_assert!(name.chars().count() <= max);
            prop_assert!(!name.starts_with(['.', '-']) && !name.ends_with('-') && !name.contains("--"));
            prop_assert!(name.chars().all(|c| c.is_alphanumeric() || is_combining_mark(c) || "._+@-".contains(c)));
            prop_assert!(name.nfc().eq(name.chars()));
            prop_assert_eq!(field(&name, max), name);
            if let Some(name) = file_name(&text) {
                prop_assert!(name.len() <= MAX_NAME && !name.is_empty());
                prop_assert!(!name.starts_with(['.', '-', '~', ' ']) && !name.ends_with(['.', ' ']));
                prop_assert!(!name.contains(['/', '\\', '\0', '\n']) && !name.chars().any(is_invisible));
                prop_assert!(name.nfc().eq(name.chars()));
                let again = file_name(&name);
                prop_assert_eq!(again.as_deref(), Some(&*name));
            }
        }

        #[test]
        fn a_cut_is_a_start_that_splits_no_character(text in any::<String>(), max in 4usize..40) {
            let start = cut(&text, max);
            prop_assert!(text.starts_with(start) && start.len() <= max);
            prop_assert!(text.is_empty() || !start.is_empty());
        }
    }
}
