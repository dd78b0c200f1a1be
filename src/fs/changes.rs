//! Changes of what we know become what the kernel must forget.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Invalidation;
use super::alias::Aliases;
use crate::account::{Account, Changed};
use crate::mail::mailbox::Change;
use crate::tree::message_name::Names;
use crate::tree::node::{MailboxView, Node};
use crate::tree::views::format_eml_name;

/// Runs until the account is gone.
pub fn watch(
    account: &Arc<Account>,
    names: Names,
    aliases: Arc<Aliases>,
    invalidate: mpsc::UnboundedSender<Invalidation>,
) {
    let Some(mut changes) = account.changes() else { return };
    let account = Arc::downgrade(account);
    tokio::spawn(async move {
        while let Some(changed) = changes.recv().await {
            let Some(account) = account.upgrade() else { return };
            let directory = |id| if account.root() == id { Node::Root } else { id.map_or(Node::Root, Node::Mailbox) };
            let what = match changed {
                Changed::Message(id, Change::Arrived(_)) => vec![Invalidation::Data(directory(Some(id)).pack())],
                // Flags are extended attributes: the kernel keeps none.
                Changed::Message(_, Change::Flags(_)) => Vec::new(),
                Changed::Message(id, Change::Gone(summary)) => {
                    let directory = directory(Some(id)).pack();
                    let name = names.format(&summary);
                    let eml = Node::MailboxView(id, MailboxView::Eml).pack();
                    // The names that it was given stay known: it may have gone where they go with it.
                    let given = aliases.names_of(id, summary.uid).into_iter();
                    let mut what: Vec<_> = given.map(|(at, name)| Invalidation::Entry(at, name)).collect();
                    what.push(Invalidation::Entry(eml, format_eml_name(&name)));
                    what.push(Invalidation::Entry(directory, name));
                    what.push(Invalidation::Data(directory));
                    what
                }
                Changed::Message(id, Change::Reset) => vec![Invalidation::Data(directory(Some(id)).pack())],
                Changed::Size(id, uid, entry) => {
                    let file = Node::Entry(id, uid, entry).pack();
                    // The attributes at once, and what was read of it, which may be wrong, when nobody is at it.
                    vec![Invalidation::Attr(file), Invalidation::Data(file)]
                }
                Changed::Mailbox { parent, component } => {
                    let parent = directory(parent).pack();
                    vec![Invalidation::Entry(parent, component), Invalidation::Data(parent)]
                }
            };
            for invalidation in what {
                // A closed channel: nobody is mounted any more.
                let _ = invalidate.send(invalidation);
            }
        }
    });
}
