//! What a connection does of itself while nobody asks anything: IDLE (RFC 2177) in the mailbox that is watched, and
//! NOTIFY (RFC 5465) for all others where the server has it.
//!
//! Begun only when nothing is outstanding, one step after the other: SELECT, NOTIFY, IDLE. Whoever wants something sent
//! ends it with DONE. Where IDLE is refused the session asks by NOOP.

use super::Machine;
use crate::imap::line::{Line, Octets};
use crate::imap::refusal::Refusal;
use crate::imap::response::{Data, Selected, Status, StatusItems};
use crate::imap::server::{Event, Watching};
use crate::mail::mailbox_name::MailboxName;

/// What is to be told of all mailboxes. Without STATUS before the lists: what is there already nobody needs to be told.
const NOTIFY: &str = "NOTIFY SET (selected (MessageNew MessageExpunge FlagChange)) \
                      (personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))";

/// So many IDLEs in a row that the server ended itself are as good as refused.
const MAX_CUT: u32 = 3;

/// How far the watching has come.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The mailbox that is to be watched.
    wanted: Option<MailboxName>,
    idle: Idle,
    notify: Notify,
    /// IDLE is refused.
    refused: bool,
    /// IDLEs in a row that the server ended.
    cut: u32,
    /// A DONE was sent on this connection: it may have crossed the server's own end of IDLE, and be refused.
    done: bool,
}

#[derive(Debug, Default, PartialEq)]
enum Idle {
    #[default]
    Off,
    /// Sent under this tag, the server's `+` is to come.
    Asked(u64),
    On(u64),
    /// DONE was sent.
    Ending(u64),
}

#[derive(Debug, Default, PartialEq)]
enum Notify {
    #[default]
    Due,
    Asked(u64),
    Set,
    Refused,
}

impl Watch {
    /// Is an answer of the server waited for?
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.idle, Idle::Asked(_) | Idle::Ending(_)) || matches!(self.notify, Notify::Asked(_))
    }

    /// The connection is no longer to watch a mailbox of which this is true.
    pub(super) fn forget(&mut self, is_gone: impl FnOnce(&MailboxName) -> bool) {
        self.wanted.take_if(|name| is_gone(name));
    }
}

impl Machine {
    /// From now on this mailbox is watched, as long as nothing else is to be done.
    pub fn watch(&mut self, name: MailboxName) {
        if self.watch.wanted.as_ref() != Some(&name) {
            self.watch.wanted = Some(name);
            self.end_idle();
        }
    }

    /// What this connection watches, and how.
    pub fn watching(&self) -> Watching {
        match (&self.watch.wanted, &self.watch.idle, &self.watch.notify) {
            (None, ..) => Watching::Nothing,
            (_, Idle::On(_), Notify::Set) => Watching::Notify,
            (_, Idle::On(_), _) => Watching::Idle,
            _ if self.watch.refused => Watching::Poll,
            _ => Watching::Soon,
        }
    }

    /// Is IDLE on, or being ended?
    pub fn is_idling(&self) -> bool {
        self.watch.idle != Idle::Off
    }

    /// Is there a step towards watching that can be made now?
    pub fn can_watch(&self) -> bool {
        let Some(wanted) = &self.watch.wanted else { return false };
        let is_selected = self.selected.as_ref().is_some_and(|(name, _)| name == wanted);
        let is_begun = self.watch.refused && is_selected && self.watch.notify != Notify::Due;
        !self.has_jobs() && !self.is_busy() && !self.is_idling() && !is_begun
    }

    /// Makes that step.
    pub fn begin_watch(&mut self) {
        if !self.can_watch() {
            return;
        }
        let Some(wanted) = self.watch.wanted.clone() else { return };
        if self.selected.as_ref().is_none_or(|(name, _)| *name != wanted) {
            self.select(wanted);
            if let Some(selecting) = &mut self.selecting {
                selecting.watches = true;
            }
            return;
        }
        if self.watch.notify == Notify::Due {
            self.watch.notify = Notify::Refused;
            if self.dialect.notify {
                self.watch.notify = Notify::Asked(self.queue_line(&Line::new(NOTIFY)));
                self.write();
                return;
            }
        }
        self.watch.refused |= !self.dialect.idle;
        if !self.watch.refused {
            self.watch.idle = Idle::Asked(self.queue_line(&Line::new("IDLE")));
            self.write();
        }
    }

    /// Ends IDLE. May a command follow at once? Those of servers that carry out commands in their order need not wait
    /// for the answer.
    pub(super) fn end_idle(&mut self) -> bool {
        if let Idle::On(tag) = self.watch.idle {
            self.put(Octets::Text("DONE\r\n".into()));
            (self.watch.idle, self.watch.done, self.watch.cut) = (Idle::Ending(tag), true, 0);
        }
        match self.watch.idle {
            Idle::Off => !self.watch.is_asking(),
            Idle::Ending(_) => self.dialect.ordered && !self.is_change_next(),
            Idle::Asked(_) | Idle::On(_) => false,
        }
    }

    fn is_change_next(&self) -> bool {
        self.queue.front().is_some_and(|job| job.request.command.is_change())
    }

    /// A `+`: is it IDLE's?
    pub(super) fn idle_begun(&mut self) -> bool {
        match self.watch.idle {
            Idle::Asked(tag) => {
                self.watch.idle = Idle::On(tag);
                true
            }
            _ => false,
        }
    }

    /// A tagged answer: is it one of ours?
    pub(super) fn watch_answered(&mut self, number: u64, refusal: &Refusal) -> bool {
        let ok = refusal.status == Status::Ok;
        if self.watch.notify == Notify::Asked(number) {
            self.watch.notify = if ok { Notify::Set } else { Notify::Refused };
            return true;
        }
        match self.watch.idle {
            Idle::Asked(tag) if tag == number => self.watch.refused = true,
            Idle::On(tag) if tag == number => {
                self.watch.cut += 1;
                self.watch.refused |= !ok || self.watch.cut >= MAX_CUT;
            }
            Idle::Ending(tag) if tag == number => {}
            _ => return false,
        }
        if self.watch.refused {
            tracing::info!("the server refuses IDLE; it is asked by NOOP");
        }
        self.watch.idle = Idle::Off;
        true
    }

    /// A tagged answer to `DONE`, which the server took for a command because it had ended IDLE itself.
    pub(super) fn is_stray(&self, tag: &[u8]) -> bool {
        self.watch.done && tag.eq_ignore_ascii_case(b"DONE")
    }

    /// The server gave up notifying (RFC 5465 section 5.8): it is asked to again, and who listens is told.
    pub(super) fn notify_overflowed(&mut self) {
        if self.watch.notify == Notify::Set {
            self.watch.notify = Notify::Due;
        }
        self.end_idle();
    }

    /// SELECT for watching went well: what it told is news to whoever knows the mailbox from before.
    pub(super) fn watch_opened(&mut self, name: &MailboxName, found: &Selected) {
        let items = StatusItems {
            messages: Some(found.exists),
            uid_next: found.uid_next,
            uid_validity: found.uid_validity,
            highest_modseq: found.highest_modseq,
            ..StatusItems::default()
        };
        // Of no other mailbox than the one it is about.
        let _ = self.events.send(Event { mailbox: Some(name.clone()), data: Data::MailboxStatus(name.clone(), items) });
    }
}
