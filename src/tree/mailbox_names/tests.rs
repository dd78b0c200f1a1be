use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[test]
fn components_are_escaped_and_read_back() {
    fn check(level: &str, expected: &str) {
        assert_eq!(component(level), expected, "{level:?}");
        assert_eq!(parse_component(expected).as_deref(), Some(level), "{expected:?}");
    }
    check("Projects", "Projects");
    check("Entwürfe 2026", "Entwürfe 2026");
    check("-rf", "-rf");
    check("~root", "~root");
    check("", "%~");
    check(".", "%2E");
    check("..", "%2E.");
    check("...", "...");
    check(".hidden", ".hidden");
    check("../../x", "..%2F..%2Fx");
    check("/", "%2F");
    check("a\0b\n\x1b[2J\x7f", "a%00b%0A%1B[2J%7F");
    check("\u{85}", "%C2%85");
    check("a\u{202e}b\u{2028}", "a%E2%80%AEb%E2%80%A8");
    check("👨\u{200d}👩", "👨\u{200d}👩");
    check("50%", "50%");
    check("100%sure", "100%sure");
    check("%4é", "%4é");
    check("%2F", "%252F");
    check("%2f%", "%252f%");
    check("%%41", "%%2541");
    check("%~", "%25~");
    check("~%~1", "~%25~1");
    check(".eml", "%2Eeml");
    check(".imapfs", "%2Eimapfs");
    check(".search", "%2Esearch");
    check(".maildir", "%2Emaildir");
    check(".messages.tsv", "%2Emessages.tsv");
    check(".EML", ".EML");
    check(&"x".repeat(255), &"x".repeat(255));
}

#[test]
fn names_that_no_level_has_are_refused() {
    for name in [".", "..", "", "%41", "%2f", "%C3", "%FF", "a/b", "a\nb", ".eml", "%~x", "a%~", "%2E%2E"] {
        assert_eq!(parse_component(name), None, "{name:?}");
    }
}

#[test]
fn long_levels_are_cut_between_graphemes_and_differ() {
    let [a, b] = ["a", "b"].map(|end| component(&format!("{}{end}", "ü".repeat(150))));
    assert!(a != b && a.len() <= 255 && a.starts_with(&"ü".repeat(118)), "{a}");
    assert_eq!(a, component(&format!("{}a", "ü".repeat(150))));
    assert_eq!(parse_component(&a), None);
    assert!(component(&"\u{1}".repeat(100)).len() <= 255);
}

fn paths(rows: &[(&str, &str, Option<u8>)]) -> Vec<String> {
    let wires: Vec<MailboxName> = rows.iter().map(|row| MailboxName::new(row.0.as_bytes())).collect();
    let listed: Vec<Listed<'_>> =
        rows.iter().zip(&wires).map(|(row, wire)| Listed { wire, display: row.1, delimiter: row.2 }).collect();
    let tree = Hierarchy::new(&listed);
    // Each mailbox once; every directory found by its name; the mailbox's own number where one was not listed.
    let mut paths = vec![String::new(); rows.len()];
    for (place, directory) in tree.directories().iter().enumerate() {
        let path = tree.path(place);
        if place > 0 {
            assert_eq!(tree.child(directory.parent, &directory.name), Some(place));
            assert!(directory.parent < place && tree.directories()[directory.parent].children.contains(&place));
        }
        match directory.mailbox {
            Some(index) => paths[index] = path,
            None if place > 0 => paths.push(format!("({path})")),
            None => {}
        }
    }
    paths
}

#[test]
fn levels_become_directories() {
    fn check(names: &[&str], delimiter: Option<u8>, expected: &[&str]) {
        let rows: Vec<_> = names.iter().map(|name| (*name, *name, delimiter)).collect();
        assert_eq!(paths(&rows), expected, "{names:?}");
    }
    check(&["INBOX", "a", "a/b"], Some(b'/'), &["INBOX", "a", "a/b"]);
    check(&["inbox", "InBox.Sent", "INBOX.x"], Some(b'.'), &["INBOX", "INBOX/Sent", "INBOX/x"]);
    check(&["x.inbox"], Some(b'.'), &["x/inbox", "(x)"]);
    check(&["a/b/c"], Some(b'/'), &["a/b/c", "(a)", "(a/b)"]);
    check(&["a/b", "a.b"], None, &["a%2Fb", "a.b"]);
    check(&["a/b", "a/b.c"], Some(b'.'), &["a%2Fb", "a%2Fb/c"]);
    check(&["a//b", "/x", "a/"], Some(b'/'), &["a/%~/b", "%~/x", "a", "(%~)", "(a/%~)"]);
    check(&["/", "", "x"], Some(b'/'), &["%~/%~", "%~", "x"]);
}

#[test]
fn hostile_levels_are_one_component_each() {
    fn check(name: &str, delimiter: u8, expected: &str) {
        assert_eq!(paths(&[(name, name, Some(delimiter))])[0], expected, "{name}");
    }
    check("a/../b", b'/', "a/%2E./b");
    check("..", b'/', "%2E.");
    check("../../x", b'|', "..%2F..%2Fx");
    check("../../x", b'.', "%~/%~/%2F/%~/%2Fx");
    check("a.\0.\x1b.", b'.', "a/%00/%1B");
    check(".eml/.", b'/', "%2Eeml/%2E");
}

#[test]
fn mailboxes_that_would_meet_stay_apart_whatever_the_order() {
    let rows =
        [("a.b", "a.b", Some(b'.')), ("a/b", "a/b", Some(b'/')), ("\u{fffd}1", "�", None), ("\u{fffd}2", "�", None)];
    let forward = paths(&rows);
    let mut reversed = paths(&rows.iter().rev().copied().collect::<Vec<_>>());
    reversed[..4].reverse();
    assert_eq!(forward, reversed);
    assert_eq!((&*forward[0], &*forward[2]), ("a/b", "�"));
    assert!(forward[1].starts_with("a/b%~") && forward[3].starts_with("�%~"), "{forward:?}");
}

#[test]
fn spellings_of_one_text_are_different_mailboxes() {
    let names = ["é", "e\u{301}", "Work", "work"];
    assert_eq!(paths(&names.map(|name| (name, name, Some(b'/')))), names);
}

#[test]
fn inbox_is_found_in_any_case() {
    let wires = ["INBOX", "a", "a/inbox"].map(|name| MailboxName::new(name.as_bytes()));
    let listed: Vec<_> = wires
        .iter()
        .map(|wire| Listed { wire, display: std::str::from_utf8(wire.as_bytes()).unwrap(), delimiter: Some(b'/') })
        .collect();
    let tree = Hierarchy::new(&listed);
    let inbox = tree.child(0, "INBOX");
    assert!(inbox.is_some() && tree.child(0, "inbox") == inbox && tree.child(0, "Inbox") == inbox);
    let a = tree.child(0, "a").unwrap();
    assert!(tree.child(a, "inbox").is_some() && tree.child(a, "INBOX").is_none() && tree.child(0, "A").is_none());
}

#[test]
fn deep_names_end_in_one_directory() {
    let deep = vec!["x"; 10_000].join("/");
    let found = paths(&[(&deep, &deep, Some(b'/')), ("y", "y", Some(b'/'))]);
    assert_eq!(found[0].split('/').count(), 64);
    assert_eq!(found[1], "y");
}

#[test]
fn a_hundred_thousand_mailboxes_are_arranged_quickly() {
    let names: Vec<String> = (0..100_000).map(|n| format!("Projects/{}/box {n}", n % 300)).collect();
    let wires: Vec<MailboxName> = names.iter().map(|name| MailboxName::new(name.as_bytes())).collect();
    let listed: Vec<_> =
        names.iter().zip(&wires).map(|(display, wire)| Listed { wire, display, delimiter: Some(b'/') }).collect();
    let start = std::time::Instant::now();
    let tree = Hierarchy::new(&listed);
    println!("{} directories: {:?}", tree.directories().len(), start.elapsed());
    assert_eq!(tree.directories().len(), 100_302);
}

proptest! {
    #[test]
    fn every_level_has_its_own_component_and_comes_back(
        level in prop_oneof![any::<String>(), "[%~./a2Ff\\x00\u{202e}]{0,8}"], other in "[%~./a2Ff]{0,4}",
    ) {
        let name = component(&level);
        prop_assert!(!name.is_empty() && name.len() <= 255 && name != "." && name != ".." && !views::is_reserved(&name));
        prop_assert!(!name.contains(['/', '\0', '\n']) && !name.chars().any(safe::is_deceptive));
        if level.len() * 3 <= 255 {
            prop_assert_eq!(parse_component(&name), Some(level.clone()));
        }
        prop_assert_eq!(name == component(&other), level == other);
    }

    #[test]
    fn whatever_name_is_asked_for_it_is_refused_or_shown_as_asked(name in prop_oneof![any::<String>(), "[%~.a2Ff]{0,8}"]) {
        if let Some(level) = parse_component(&name) {
            prop_assert_eq!(component(&level), name);
        }
    }

    #[test]
    fn every_mailbox_is_shown_once_in_a_place_of_its_own(
        rows in prop::collection::vec(("[ab./%~]{0,6}", prop::option::of(prop::sample::select(vec![b'/', b'.', 0xff]))), 0..20)
    ) {
        let rows: Vec<_> = rows.iter().map(|(name, delimiter)| (name.as_str(), name.as_str(), *delimiter)).collect();
        let found = paths(&rows);
        let shown: HashSet<&String> = found.iter().filter(|path| !path.is_empty()).collect();
        prop_assert_eq!(shown.len(), found.iter().filter(|path| !path.is_empty()).count());
        let wires: HashSet<&str> = rows.iter().map(|row| row.0).collect();
        prop_assert_eq!(found[..rows.len()].iter().filter(|path| !path.is_empty()).count(), wires.len());
    }
}
