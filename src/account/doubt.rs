//! Messages that were sent into a mailbox, and of which it could not be seen whether they arrived: who sends the same
//! again has it looked for first, so that no retry makes two of one.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::Account;
use super::index::Index;
use crate::error::{Error, Result};
use crate::mail::arrival::{Sought, plan_matches};
use crate::mail::envelope::Summary;
use crate::tree::node::MailboxId;

/// Doubts that are kept; the oldest go.
const DOUBTS_MAX: usize = 10_000;

/// The doubts of an account.
#[derive(Debug, Default)]
pub struct Doubts(Mutex<VecDeque<Doubt>>);

#[derive(Clone, Debug)]
struct Doubt {
    to: MailboxId,
    sought: Sought,
    /// If it arrived, it has a UID from this one on.
    next: u32,
}

impl Doubts {
    /// These may have arrived in the mailbox since its UIDNEXT was `next`.
    pub fn add(&self, to: MailboxId, sought: impl IntoIterator<Item = Sought>, next: u32) {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.extend(sought.into_iter().map(|sought| Doubt { to, sought, next }));
        let excess = doubts.len().saturating_sub(DOUBTS_MAX);
        doubts.drain(..excess);
    }

    /// What each of these is to be looked for as; `None` for those that nobody doubts.
    fn about(&self, to: MailboxId, sought: &[Sought]) -> Vec<Option<Doubt>> {
        let doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let doubt = |sought: &Sought| doubts.iter().find(|doubt| doubt.to == to && doubt.sought.is(sought)).cloned();
        sought.iter().map(doubt).collect()
    }

    /// Is it doubted whether this arrived?
    pub fn has(&self, to: MailboxId, sought: &Sought) -> bool {
        self.about(to, std::slice::from_ref(sought)).iter().any(Option::is_some)
    }

    /// It was looked for these.
    fn settle(&self, to: MailboxId, sought: &[&Sought]) {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.retain(|doubt| doubt.to != to || !sought.contains(&&doubt.sought));
    }
}

impl Account {
    /// Those of these messages that an earlier attempt brought there after all, and whose outcome was not seen.
    pub(super) async fn arrived_before(&self, target: &Index, sought: &[Sought]) -> Result<Vec<Option<Summary>>> {
        let about = self.changing.doubts.about(target.id, sought);
        let mut found = vec![None; sought.len()];
        let Some(next) = about.iter().flatten().map(|doubt| doubt.next).min() else { return Ok(found) };
        let arrived = target.arrived_since(&self.client, next).await?;
        let doubts = about.into_iter().enumerate().filter_map(|(at, doubt)| Some((at, doubt?.sought)));
        let (places, doubted): (Vec<usize>, Vec<Sought>) = doubts.unzip();
        for (place, at) in places.into_iter().zip(plan_matches(&doubted, &arrived)) {
            found[place] = at.map(|at| arrived[at].clone());
        }
        self.changing.doubts.settle(target.id, &doubted.iter().collect::<Vec<_>>());
        Ok(found)
    }

    /// It could not be seen whether these arrived.
    pub(super) fn doubt(
        &self,
        target: &Index,
        sought: impl IntoIterator<Item = Sought>,
        next: u32,
        error: &Error,
    ) -> Error {
        self.changing.doubts.add(target.id, sought, next);
        target.expire();
        Error::Uncertain(format!("whether it was done could not be seen: {error}").into())
    }
}
