//! What of the list of mailboxes outlives the mount.

use super::Mailboxes;
use crate::account::index::Changes;
use crate::imap::response::ListRow;
use crate::store::{self, Listed};
use crate::tree::node::MailboxId;

const SUBSCRIBED: &str = "\\subscribed";

impl Mailboxes {
    /// The list, and all ids that were ever given.
    pub fn to_keep(&self) -> store::Mailboxes {
        let listed = self.by_id.values().filter_map(|mailbox| {
            let is_flag = |attribute: &&String| *attribute == SUBSCRIBED;
            Some(Listed {
                name: mailbox.name.clone()?,
                delimiter: mailbox.delimiter,
                attributes: mailbox.attributes.iter().filter(|a| !is_flag(a)).cloned().collect(),
                subscribed: mailbox.is_subscribed(),
            })
        });
        let mut listed: Vec<Listed> = listed.collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let living = self.ids.iter().filter(|(_, id)| !self.spent.contains(id));
        let mut ids: Vec<_> = living.map(|(path, id)| (path.clone(), id.0)).collect();
        ids.sort();
        let mut spent = self.taken.clone();
        spent.retain(|id| !ids.iter().any(|(_, living)| living == id));
        let mut spent: Vec<u16> = spent.into_iter().collect();
        spent.sort_unstable();
        store::Mailboxes { listed, ids, spent }
    }

    /// Takes in what an earlier mount knew: each mailbox has the id that it had.
    pub fn restore(&mut self, kept: store::Mailboxes, changes: &Changes) {
        let store::Mailboxes { listed, ids, spent } = kept;
        self.taken = ids.iter().map(|(_, id)| *id).chain(spent.iter().copied()).collect();
        self.ids = ids.into_iter().map(|(path, id)| (path, MailboxId(id))).collect();
        self.spent = spent.into_iter().map(MailboxId).collect();
        let rows = |Listed { name, delimiter, attributes, subscribed }: Listed| {
            let row = |lsub, attributes| ListRow { lsub, attributes, delimiter, name: name.clone() };
            [Some(row(false, attributes)), subscribed.then(|| row(true, Vec::new()))]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };
        let rows: Vec<ListRow> = listed.into_iter().flat_map(rows).collect();
        // Nobody has seen anything yet that could have changed.
        self.update(&rows, changes);
    }
}
