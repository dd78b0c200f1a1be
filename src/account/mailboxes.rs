//! The list of mailboxes: which there are, how they hang together, and the id of each.
//!
//! An id is computed from the name, so that it is the same in the next mount: a hash, and on a collision the next
//! free number, names taken in sorted order. It is never given to another mailbox while the mount lives, and a mailbox
//! whose UIDVALIDITY changed gets another one.

mod kept;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::index::{Changes, Index};
use crate::imap::response::ListRow;
use crate::mail::mailbox_name::MailboxName;
use crate::mail::uid::UidValidity;
use crate::tree::mailbox_names::{Hierarchy, Listed};
use crate::tree::node::MailboxId;

/// A directory of the tree of mailboxes.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// Its id.
    pub id: MailboxId,
    /// Its name in its parent.
    pub component: String,
    /// The mailbox it is in; `None` for the root.
    pub parent: Option<MailboxId>,
    /// Mailboxes in it, by name.
    pub children: BTreeMap<String, MailboxId>,
    /// The components from the root to it, joined by `/`.
    pub path: String,
    /// Its full name as a person reads it.
    pub display: String,
    /// Attributes of LIST, lower-case, `\noselect` and `\sent` and so on.
    pub attributes: Vec<String>,
    /// Its name on the wire; `None` for a level that was never listed.
    pub name: Option<MailboxName>,
    /// What parts the levels of its name.
    pub delimiter: Option<u8>,
    /// Its messages; `None` for a name that is only a level (`\Noselect`, or never listed).
    pub index: Option<Arc<Index>>,
}

impl Mailbox {
    /// Is it subscribed?
    pub fn is_subscribed(&self) -> bool {
        self.attributes.iter().any(|a| a == "\\subscribed")
    }

    /// Its special use as RFC 6154 spells it: `\Sent` and so on.
    pub fn special_use(&self) -> Option<&'static str> {
        const USES: [&str; 8] =
            ["\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash", "\\Important"];
        USES.into_iter().find(|name| self.attributes.iter().any(|attribute| attribute.eq_ignore_ascii_case(name)))
    }
}

/// All mailboxes.
#[derive(Debug, Default)]
pub struct Mailboxes {
    by_id: HashMap<MailboxId, Mailbox>,
    roots: BTreeMap<String, MailboxId>,
    /// The id that each directory was given, by its path. Never shrinks.
    ids: HashMap<String, MailboxId>,
    taken: HashSet<u16>,
    /// Ids under which messages were shown that are gone with their mailbox: no other mail may have their numbers.
    spent: HashSet<MailboxId>,
}

/// A name that came or went in a directory of mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The directory; `None` for the root.
    pub parent: Option<MailboxId>,
    /// The name in it.
    pub component: String,
}

impl Mailboxes {
    /// The mailbox with this id.
    pub fn get(&self, id: MailboxId) -> Option<&Mailbox> {
        self.by_id.get(&id)
    }

    /// The mailboxes in a directory, by name; `None` for the root.
    pub fn children(&self, parent: Option<MailboxId>) -> Option<&BTreeMap<String, MailboxId>> {
        match parent {
            None => Some(&self.roots),
            Some(id) => self.by_id.get(&id).map(|m| &m.children),
        }
    }

    /// The mailbox of this name in a directory; INBOX in any case, RFC 9051 section 5.1.
    pub fn child(&self, parent: Option<MailboxId>, name: &str) -> Option<MailboxId> {
        let children = self.children(parent)?;
        let inbox = || children.get("INBOX").filter(|_| parent.is_none() && name.eq_ignore_ascii_case("INBOX"));
        children.get(name).or_else(inbox).copied()
    }

    /// The mailbox with this path of components, parted by `/`.
    pub fn find(&self, path: &str) -> Option<MailboxId> {
        let mut at = None;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = Some(self.child(at, name)?);
        }
        at
    }

    /// The mailbox of this name in a directory, whatever the case.
    pub fn child_ignoring_case(&self, parent: Option<MailboxId>, name: &str) -> Option<MailboxId> {
        self.children(parent)?.iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, id)| *id)
    }

    /// All mailboxes.
    pub fn all(&self) -> impl Iterator<Item = &Mailbox> {
        self.by_id.values()
    }

    /// All mailboxes with messages.
    pub fn indexes(&self) -> impl Iterator<Item = &Arc<Index>> {
        self.by_id.values().filter_map(|m| m.index.as_ref())
    }

    /// Takes a new listing in: a mailbox that stays keeps its id and what is known of its messages. Tells which names
    /// came and went.
    pub fn update(&mut self, rows: &[ListRow], changes: &Changes) -> Vec<Moved> {
        let subscribed: HashSet<&MailboxName> = rows.iter().filter(|r| r.lsub).map(|r| &r.name).collect();
        let rows: Vec<&ListRow> = rows.iter().filter(|r| !r.lsub).collect();
        let displays: Vec<String> = rows.iter().map(|r| r.name.decode()).collect();
        let listed: Vec<Listed<'_>> = rows
            .iter()
            .zip(&displays)
            .map(|(row, display)| Listed { wire: &row.name, display, delimiter: row.delimiter })
            .collect();
        let tree = Hierarchy::new(&listed);
        let mut before = std::mem::take(&mut self.by_id);
        let is_first = before.is_empty();
        let mut came = Vec::new();
        self.roots.clear();
        let mut ids: Vec<Option<MailboxId>> = vec![None; tree.directories().len()];
        for (place, directory) in tree.directories().iter().enumerate().skip(1) {
            let path = tree.path(place);
            let row = directory.mailbox.map(|n| rows[n]);
            let name = row.filter(|row| !row.attributes.iter().any(|a| a == "\\noselect" || a == "\\nonexistent"));
            let is_another = |id: &MailboxId, row: &ListRow| {
                let index = before.get(id).and_then(|m| m.index.as_ref());
                self.spent.contains(id) || index.is_some_and(|index| index.name.get() != row.name)
            };
            if name.zip(self.ids.get(&path)).is_some_and(|(row, id)| is_another(id, row)) {
                self.ids.remove(&path);
            }
            let Some(id) = self.assign(&path, &path) else { continue };
            ids[place] = Some(id);
            let parent = ids[directory.parent];
            let mut attributes = row.map(|row| row.attributes.clone()).unwrap_or_default();
            if row.is_some_and(|row| subscribed.contains(&row.name)) {
                attributes.push("\\subscribed".to_owned());
            }
            let before = before.remove(&id);
            if before.is_none() && !is_first {
                came.push(Moved { parent, component: directory.name.to_string() });
            }
            let kept = before.and_then(|m| m.index);
            if kept.is_some() && name.is_none() {
                self.spent.insert(id);
            }
            let new = |row: &ListRow| Arc::new(Index::new(id, row.name.clone(), changes.clone()));
            let index = name.map(|row| kept.unwrap_or_else(|| new(row)));
            let display = directory.mailbox.map_or_else(|| path.clone(), |n| displays[n].clone());
            let component = directory.name.to_string();
            self.siblings(parent).insert(component.clone(), id);
            let children = BTreeMap::new();
            let (name, delimiter) = (row.map(|row| row.name.clone()), row.and_then(|row| row.delimiter));
            let mailbox =
                Mailbox { id, component, parent, children, path, display, attributes, name, delimiter, index };
            self.by_id.insert(id, mailbox);
        }
        self.spent.extend(before.values().filter(|gone| gone.index.is_some()).map(|gone| gone.id));
        let gone = before.into_values().map(|gone| Moved { parent: gone.parent, component: gone.component });
        gone.chain(came).collect()
    }

    /// Gives a mailbox whose UIDVALIDITY changed a new id and an empty index. `None` when the id is no mailbox's.
    pub fn renumber(&mut self, id: MailboxId, validity: UidValidity, changes: &Changes) -> Option<(MailboxId, Moved)> {
        let mut mailbox = self.by_id.remove(&id)?;
        self.ids.remove(&mailbox.path);
        let path = mailbox.path.clone();
        mailbox.id = self.assign(&path, &format!("{path}/{}", validity.0))?;
        mailbox.index = mailbox.index.map(|old| Arc::new(Index::new(mailbox.id, old.name.get(), changes.clone())));
        self.siblings(mailbox.parent).insert(mailbox.component.clone(), mailbox.id);
        for child in mailbox.children.values() {
            if let Some(child) = self.by_id.get_mut(child) {
                child.parent = Some(mailbox.id);
            }
        }
        let moved = Moved { parent: mailbox.parent, component: mailbox.component.clone() };
        let new = mailbox.id;
        self.by_id.insert(new, mailbox);
        Some((new, moved))
    }

    /// A mailbox and those in it are called otherwise from now on, and keep their ids. Tells the names that came and
    /// went, and the subscriptions that are to follow: (old name, new name).
    pub fn rename(
        &mut self,
        id: MailboxId,
        parent: Option<MailboxId>,
        component: &str,
        old: &MailboxName,
        new: &MailboxName,
    ) -> (Vec<Moved>, Vec<(MailboxName, MailboxName)>) {
        let Some(mailbox) = self.by_id.get(&id) else { return Default::default() };
        let (old_path, left) = (mailbox.path.clone(), mailbox.parent);
        let came = Moved { parent, component: component.to_owned() };
        let went = Moved { parent: left, component: mailbox.component.clone() };
        let above = parent.and_then(|parent| self.by_id.get(&parent)).map(|parent| parent.path.clone());
        let new_path = above.map_or_else(|| component.to_owned(), |above| format!("{above}/{component}"));
        let below = |path: &str| {
            let rest = path.strip_prefix(&*old_path)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{new_path}{rest}"))
        };
        // Ids that the new paths had once are those of other mail.
        let ids = std::mem::take(&mut self.ids);
        let (moving, staying): (Vec<_>, Vec<_>) = ids.into_iter().partition(|(path, _)| below(path).is_some());
        self.ids = staying.into_iter().collect();
        self.ids.extend(moving.into_iter().filter_map(|(path, id)| Some((below(&path)?, id))));
        let renamed = |name: &MailboxName| {
            let rest = name.as_bytes().strip_prefix(old.as_bytes())?;
            Some(MailboxName::new(&[new.as_bytes(), rest].concat()))
        };
        let mut subscribed = Vec::new();
        for mailbox in self.by_id.values_mut() {
            let Some(path) = below(&mailbox.path) else { continue };
            mailbox.path = path;
            let Some(name) = mailbox.name.as_ref().and_then(renamed) else { continue };
            if let Some(index) = &mailbox.index {
                index.name.set(name.clone());
            }
            mailbox.display = name.decode();
            if let Some(before) = mailbox.name.replace(name.clone()).filter(|_| mailbox.is_subscribed()) {
                subscribed.push((before, name));
            }
        }
        self.siblings(left).remove(&went.component);
        self.siblings(parent).insert(component.to_owned(), id);
        if let Some(mailbox) = self.by_id.get_mut(&id) {
            (mailbox.parent, mailbox.component) = (parent, component.to_owned());
        }
        (vec![went, came], subscribed)
    }

    /// A mailbox is gone, and its id with it.
    pub fn forget(&mut self, id: MailboxId) -> Option<Moved> {
        let mailbox = self.by_id.remove(&id)?;
        self.siblings(mailbox.parent).remove(&mailbox.component);
        self.ids.remove(&mailbox.path);
        self.spent.insert(id);
        Some(Moved { parent: mailbox.parent, component: mailbox.component })
    }

    /// A mailbox was subscribed, or no longer is.
    pub fn subscribed(&mut self, id: MailboxId, subscribed: bool) {
        if let Some(mailbox) = self.by_id.get_mut(&id) {
            mailbox.attributes.retain(|attribute| attribute != "\\subscribed");
            mailbox.attributes.extend(subscribed.then(|| "\\subscribed".to_owned()));
        }
    }

    /// The wire name of a mailbox; of a level that was never listed, as it stands in the names below it.
    pub fn wire(&self, id: MailboxId) -> Option<MailboxName> {
        let mailbox = self.by_id.get(&id)?;
        if mailbox.name.is_some() {
            return mailbox.name.clone();
        }
        let child = *mailbox.children.values().next()?;
        let (name, delimiter) = (self.wire(child)?, self.delimiter_of(child)?);
        let name = name.as_bytes().strip_suffix(&[delimiter]).unwrap_or(name.as_bytes());
        let end = name.iter().rposition(|byte| *byte == delimiter)?;
        Some(MailboxName::new(&name[..end]))
    }

    /// What parts the levels of a mailbox's name, as listed with it or with one below.
    pub fn delimiter_of(&self, id: MailboxId) -> Option<u8> {
        let mailbox = self.by_id.get(&id)?;
        match &mailbox.name {
            Some(_) => mailbox.delimiter,
            None => self.delimiter_of(*mailbox.children.values().next()?),
        }
    }

    /// What parts the levels of names at the top.
    pub fn delimiter(&self) -> Option<u8> {
        self.roots.values().find_map(|id| self.delimiter_of(*id))
    }

    fn siblings(&mut self, parent: Option<MailboxId>) -> &mut BTreeMap<String, MailboxId> {
        match parent.and_then(|id| self.by_id.get_mut(&id)) {
            Some(parent) => &mut parent.children,
            None => &mut self.roots,
        }
    }

    /// The id of the directory at `path`: the one it has, else the first free number from the hash of `seed` on. `None`
    /// when there are more than 65,535.
    fn assign(&mut self, path: &str, seed: &str) -> Option<MailboxId> {
        if let Some(id) = self.ids.get(path) {
            return Some(*id);
        }
        let start = hash(seed.as_bytes());
        let id = (0..=u16::MAX).map(|n| start.wrapping_add(n)).find(|id| *id != 0 && !self.taken.contains(id))?;
        self.taken.insert(id);
        self.ids.insert(path.to_owned(), MailboxId(id));
        Some(MailboxId(id))
    }
}

/// FNV-1a, folded: the same in every version of imapfs, unlike the hashers of the standard library.
fn hash(name: &[u8]) -> u16 {
    let h = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    (h ^ h >> 16 ^ h >> 32 ^ h >> 48) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(names: &[&str]) -> Vec<ListRow> {
        let row = |name: &&str| ListRow {
            lsub: false,
            attributes: Vec::new(),
            delimiter: Some(b'/'),
            name: MailboxName::new(name.as_bytes()),
        };
        names.iter().map(row).collect()
    }

    fn listed(names: &[&str]) -> (Mailboxes, Changes) {
        let changes = Changes { to: tokio::sync::mpsc::unbounded_channel().0, hide_deleted: false, store: None };
        let mut mailboxes = Mailboxes::default();
        mailboxes.update(&rows(names), &changes);
        (mailboxes, changes)
    }

    #[test]
    fn the_same_mailbox_has_the_same_id_in_every_mount_and_after_every_listing() {
        let (mut a, changes) = listed(&["INBOX", "a", "a/b"]);
        let (b, _) = listed(&["a/b", "INBOX", "a", "z"]);
        for path in ["INBOX", "a", "a/b"] {
            assert!(a.find(path).is_some());
            assert_eq!(a.find(path), b.find(path), "{path}");
        }
        let id = a.find("a/b");
        let moved = a.update(&rows(&["INBOX", "a/b"]), &changes);
        assert_eq!(a.find("a/b"), id);
        // The parent was a mailbox and is now a plain directory: it stays.
        assert_eq!(moved, []);
        assert!(a.get(a.find("a").unwrap()).unwrap().index.is_none());
        let moved = a.update(&rows(&["INBOX"]), &changes);
        assert_eq!(moved.len(), 2);
        // What comes again under an old name is other mail.
        a.update(&rows(&["INBOX", "a", "a/b"]), &changes);
        assert_eq!(a.find("INBOX"), b.find("INBOX"));
        assert!(a.find("a").is_some() && a.find("a") != b.find("a"));
        assert!(a.find("a/b").is_some() && a.find("a/b") != id);
    }

    #[test]
    fn a_new_uidvalidity_is_a_new_id_and_the_old_one_is_nobodys() {
        let (mut a, changes) = listed(&["a", "a/b"]);
        let old = a.find("a").unwrap();
        let (new, moved) = a.renumber(old, UidValidity(7), &changes).unwrap();
        assert_eq!(moved, Moved { parent: None, component: "a".into() });
        assert_ne!(old, new);
        assert!(a.get(old).is_none());
        assert_eq!(a.find("a"), Some(new));
        assert_eq!(a.get(a.find("a/b").unwrap()).unwrap().parent, Some(new));
        // The next listing knows it under its new id.
        a.update(&rows(&["a", "a/b"]), &changes);
        assert_eq!(a.find("a"), Some(new));
    }

    #[test]
    fn a_renamed_mailbox_keeps_its_id_and_so_do_those_in_it() {
        let (mut a, changes) = listed(&["INBOX", "a", "a/b", "ab", "z"]);
        let (before, below, other) = (a.find("a").unwrap(), a.find("a/b").unwrap(), a.find("ab"));
        let name = |text: &str| MailboxName::new(text.as_bytes());
        let (moved, _) = a.rename(before, a.find("z"), "c", &name("a"), &name("z/c"));
        assert_eq!(moved[0], Moved { parent: None, component: "a".into() });
        for _ in 0..2 {
            assert_eq!((a.find("z/c"), a.find("z/c/b"), a.find("ab")), (Some(before), Some(below), other));
            assert_eq!(a.find("a"), None);
            assert_eq!(a.get(below).unwrap().index.as_ref().unwrap().name.get(), name("z/c/b"));
            // The next listing finds it so.
            assert_eq!(a.update(&rows(&["INBOX", "z/c", "z/c/b", "ab", "z"]), &changes), []);
        }
        // What comes under the old name is another one.
        a.update(&rows(&["INBOX", "a", "z/c", "z/c/b", "ab", "z"]), &changes);
        assert!(a.find("a").is_some_and(|id| id != before));
        assert!(a.forget(below).is_some());
        a.update(&rows(&["INBOX", "z/c", "z/c/b"]), &changes);
        assert!(a.find("z/c/b").is_some_and(|id| id != below));
    }

    #[test]
    fn the_name_of_a_level_stands_in_the_names_below_it() {
        let (a, _) = listed(&["x/y/z"]);
        assert_eq!(a.wire(a.find("x").unwrap()), Some(MailboxName::new(b"x")));
        assert_eq!(a.wire(a.find("x/y").unwrap()), Some(MailboxName::new(b"x/y")));
        assert_eq!(a.delimiter_of(a.find("x").unwrap()), Some(b'/'));
    }

    #[test]
    fn inbox_is_found_in_any_case_at_the_top_only() {
        let (a, _) = listed(&["INBOX", "x/INBOX"]);
        assert_eq!(a.child(None, "inbox"), a.find("INBOX"));
        assert_eq!(a.child(a.find("x"), "inbox"), None);
    }
}
