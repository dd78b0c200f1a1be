//! Searches: the server finds, what it cannot judge is judged here from the structures of what it found, and what was
//! found is kept until the mailbox has changed.
//!
//! MULTISEARCH (RFC 7377) is deliberately absent: no server in wide use has it. Many mailboxes are searched at once, as
//! far as there are connections.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::stream::{self, StreamExt, TryStreamExt};
use tracing::{info, warn};

use super::Account;
use super::cache::Cache;
use super::flight::Flights;
use super::index::Index;
use crate::error::{Error, Result};
use crate::imap::response::{Data, FetchRow};
use crate::imap::search::{self, Keys, Left, Plan};
use crate::imap::{Class, Command, FetchItem};
use crate::mail::envelope::Summary;
use crate::mail::mailbox::Opened;
use crate::mail::mime;
use crate::mail::query::{Facts, Query, Term, Tree};
use crate::mail::uid::{Uid, UidSet};
use crate::tree::node::MailboxId;

/// Octets of answers that are kept, and of what is kept of structures.
const FOUND_BUDGET: usize = 8 * 1024 * 1024;
const FACTS_BUDGET: usize = 16 * 1024 * 1024;

/// Structures that are asked for with one command, and how many such are in flight.
const BATCH: usize = 500;
const BATCHES: usize = 4;

/// Octets of the structures of a batch at the most: so many for one, and so many for each.
const STRUCTURE_MAX: u64 = 4 * 1024 * 1024;
const STRUCTURE_USUAL: u64 = 16 * 1024;

/// Mailboxes that are searched at once.
const MAILBOXES: usize = 16;

/// How long an answer holds that changes by time alone.
const MOMENT: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Clone, Debug)]
struct Found {
    uids: Arc<UidSet>,
    /// What the mailbox was like.
    opened: Option<Opened>,
    generation: u64,
    /// When it was known to hold, and when it was found.
    checked: Instant,
    found: Instant,
}

/// What is kept of searches.
pub struct Searches {
    found: Cache<(MailboxId, Arc<str>), Found>,
    facts: Cache<(MailboxId, Uid), Arc<Facts>>,
    flights: Flights<(MailboxId, Arc<str>), Arc<UidSet>>,
}

impl Default for Searches {
    fn default() -> Self {
        let octets = |found: &Found| 128 + found.uids.ranges().len() * 8;
        Self {
            found: Cache::new(FOUND_BUDGET, octets),
            facts: Cache::new(FACTS_BUDGET, |facts| facts.weight()),
            flights: Flights::default(),
        }
    }
}

impl Account {
    /// The messages of a mailbox that a query is about, ascending by UID, as they are now (not older than the poll
    /// interval). Messages that are not known yet are asked for, and only those.
    ///
    /// # Errors
    /// `Unsupported` for what the server does not offer; `Invalid` for raw keys that it does not understand; `Stale`.
    pub async fn search(self: &Arc<Self>, id: MailboxId, query: &Arc<Query>) -> Result<Vec<Summary>> {
        // What is queued for the mailbox is to be found as it will be.
        self.settle_mailbox(id).await;
        self.settle_arrivals(id).await;
        let index = self.index(id)?;
        let key = (id, Arc::<str>::from(query.to_string()));
        let fresh = self.searches.found.get(&key).filter(|found| {
            found.checked.elapsed() < self.options.poll_interval && found.generation == index.generation()
        });
        let uids = match fresh {
            Some(found) => found.uids,
            None => {
                let (account, query) = (Arc::clone(self), Arc::clone(query));
                let asked = key.clone();
                let work = || async move {
                    let index = account.index(id)?;
                    let found = account.find_now(&index, asked, &query).await;
                    account.settle(&index, found)
                };
                self.searches.flights.join(key, work).await?
            }
        };
        Ok(index.shown(&uids))
    }

    /// The same for all mailboxes that are shown, each with its messages; those that may not be read are left out.
    pub async fn search_all(self: &Arc<Self>, query: &Arc<Query>) -> Result<Vec<(MailboxId, Vec<Summary>)>> {
        self.refresh_mailboxes().await?;
        match self.search_each(query).await {
            // A mailbox went away meanwhile, or is another one under its name now.
            Err(Error::NotFound | Error::Stale) => {
                self.list().await?;
                self.search_each(query).await
            }
            found => found,
        }
    }

    async fn search_each(self: &Arc<Self>, query: &Arc<Query>) -> Result<Vec<(MailboxId, Vec<Summary>)>> {
        let each = stream::iter(self.mailboxes_shown()).map(|id| async move {
            match self.search(id, query).await {
                Err(error @ Error::Denied(_)) => {
                    info!(mailbox = id.0, %error, "a mailbox is left out of a search");
                    Ok((id, Vec::new()))
                }
                found => found.map(|found| (id, found)),
            }
        });
        let found: Vec<_> = each.buffered(MAILBOXES).try_collect().await?;
        Ok(found.into_iter().filter(|(_, messages)| !messages.is_empty()).collect())
    }

    /// Where a mailbox is below the root of the mount: components joined by `/`; empty for the root itself.
    pub fn path(&self, id: MailboxId) -> String {
        let table = self.table();
        let path = |id| table.mailboxes.get(id).map_or("", |mailbox| &mailbox.path);
        let below = table.root.and_then(|root| path(id).strip_prefix(path(root)));
        below.unwrap_or(path(id)).trim_start_matches('/').to_owned()
    }

    /// The mailboxes with messages that the mount shows, parents first.
    fn mailboxes_shown(&self) -> Vec<MailboxId> {
        let table = self.table();
        let mut all: Vec<MailboxId> = table.root.into_iter().collect();
        let mut levels = vec![table.root];
        while let Some(parent) = levels.pop() {
            for (_, id) in table.mailboxes.children(parent).into_iter().flatten() {
                all.push(*id);
                levels.push(Some(*id));
            }
        }
        all.retain(|id| table.mailboxes.get(*id).is_some_and(|mailbox| mailbox.index.is_some()));
        all
    }

    /// What is found now: what was found before, when the mailbox is as it was.
    async fn find_now(
        self: &Arc<Self>,
        index: &Index,
        key: (MailboxId, Arc<str>),
        query: &Query,
    ) -> Result<Arc<UidSet>> {
        let started = Instant::now();
        let generation = index.generation();
        if let Some(kept) = self.searches.found.get(&key)
            && may_hold(&kept, query)
            && Some(index.look(&self.client).await?) == kept.opened
        {
            let uids = Arc::clone(&kept.uids);
            self.searches.found.put(key, Found { checked: started, generation, ..kept });
            return Ok(uids);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs() as i64);
        let plan = search::plan(query, self.client.server(), now)?;
        let outcome = self.follow(index, plan, now).await;
        let (uids, opened) = outcome.map_err(|error| match error {
            // The rest of the query is worded here, and servers understand that.
            Error::Protocol(reason) if Keys::are_raw(query) => Error::Invalid(reason),
            error => error,
        })?;
        let uids = Arc::new(uids);
        let found = Found { uids: Arc::clone(&uids), opened, generation, checked: started, found: started };
        self.searches.found.put(key, found);
        Ok(uids)
    }

    async fn follow(self: &Arc<Self>, index: &Index, plan: Plan, now: i64) -> Result<(UidSet, Option<Opened>)> {
        let Some(keys) = plan.keys else { return Ok((UidSet::new(), None)) };
        let first = index.find_all(&self.client, keys);
        let more = futures::future::try_join_all(plan.more.into_iter().map(|keys| index.find_all(&self.client, keys)));
        let ((mut uids, opened), more) = tokio::try_join!(first, more)?;
        index.learn(&self.client, &uids).await?;
        if let Some(rest) = plan.rest {
            let more: Vec<UidSet> = more.into_iter().map(|(uids, _)| uids).collect();
            uids = self.judge(index, &uids, &rest, &more, now).await?;
        }
        Ok((uids, opened))
    }

    /// Those of these messages that answer to what the server could not judge.
    async fn judge(
        self: &Arc<Self>,
        index: &Index,
        uids: &UidSet,
        rest: &Tree<Left>,
        more: &[UidSet],
        now: i64,
    ) -> Result<UidSet> {
        let judge = |message: &Summary, facts: Option<&Facts>| {
            rest.judge(&|left| match left {
                Left::Here(term) => term.judge(Some(message), facts, None, now),
                Left::There(n) => more.get(*n).map(|uids| uids.contains(message.uid)),
            })
        };
        let mut right = UidSet::new();
        let mut open = Vec::new();
        for message in uids.iter().filter_map(|uid| index.get(uid)) {
            let facts = self.searches.facts.get(&(index.id, message.uid));
            match judge(&message, facts.as_deref()) {
                Some(true) => right.insert(message.uid),
                Some(false) => {}
                None => open.push(message),
            }
        }
        let batches: Vec<Vec<_>> = open.chunks(BATCH).map(<[_]>::to_vec).collect();
        let batches = stream::iter(batches).map(|batch| self.structures(index, batch));
        let known: Vec<_> = batches.buffered(BATCHES).try_collect().await?;
        for (message, facts) in known.into_iter().flatten() {
            if judge(&message, Some(&facts)) == Some(true) {
                right.insert(message.uid);
            }
        }
        Ok(right)
    }

    /// What the structures of these messages tell; messages that are gone are left out.
    async fn structures(self: &Arc<Self>, index: &Index, messages: Vec<Summary>) -> Result<Vec<(Summary, Arc<Facts>)>> {
        let mut told = Vec::new();
        let mut batches = vec![messages];
        while let Some(batch) = batches.pop() {
            match self.structures_of(index, &batch).await {
                // One message must not keep the others from being found.
                Err(Error::TooBig(_)) if batch.len() > 1 => {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    batches.extend([first.to_vec(), second.to_vec()]);
                }
                Err(Error::TooBig(reason)) => {
                    warn!(uid = ?batch.first().map(|m| m.uid), %reason, "a structure is too large to be searched")
                }
                rows => told.extend(rows?),
            }
        }
        Ok(told)
    }

    async fn structures_of(
        self: &Arc<Self>,
        index: &Index,
        messages: &[Summary],
    ) -> Result<Vec<(Summary, Arc<Facts>)>> {
        let uids: UidSet = messages.iter().map(|message| message.uid).collect();
        let items = vec![FetchItem::BodyStructure, FetchItem::Size];
        let command = Command::Fetch { uids, items, changed_since: None };
        let limit = STRUCTURE_MAX + STRUCTURE_USUAL * messages.len() as u64;
        let (rows, _) = self.client.run(index.target(), command, Class::Small, limit).await?;
        let mut told = Vec::new();
        for row in rows {
            let Data::Fetch(row) = row else { continue };
            let message = row.uid.and_then(|uid| messages.binary_search_by_key(&uid, |message| message.uid).ok());
            // Another size is another message, made up in the place of one that is gone.
            let Some(message) = message.map(|at| &messages[at]).filter(|m| row.size.is_none_or(|size| size == m.size))
            else {
                continue;
            };
            if let Some(facts) = self.facts(index, message, &row).await? {
                self.searches.facts.put((index.id, message.uid), Arc::clone(&facts));
                told.push((message.clone(), facts));
            }
        }
        Ok(told)
    }

    /// What the structure of one message tells; where the server's makes no sense, the message is taken apart here.
    async fn facts(self: &Arc<Self>, index: &Index, message: &Summary, row: &FetchRow) -> Result<Option<Arc<Facts>>> {
        if let Some(root) = row.structure.as_ref().filter(|root| mime::sane(root, message.size)) {
            return Ok(Some(Arc::new(Facts::new(root))));
        }
        match self.message(index.id, message.uid).await {
            Ok(message) => Ok(Some(Arc::new(Facts::new(&message.root)))),
            Err(Error::Stale | Error::NotFound) => Ok(None),
            Err(error @ (Error::TooBig(_) | Error::Protocol(_))) => {
                warn!(uid = %message.uid, %error, "a message that cannot be taken apart has no parts for a search");
                Ok(Some(Arc::default()))
            }
            Err(error) => Err(error),
        }
    }
}

/// May an answer hold still, if the mailbox is as it was? Flags that others set are seen by mod-sequences alone.
fn may_hold(found: &Found, query: &Query) -> bool {
    let tells_flags = found.opened.is_some_and(|opened| opened.highest_modseq.is_some());
    // What Gmail makes of a query nobody else knows.
    let is_raw = query.any(&|term| matches!(term, Term::Gmail(_)));
    (tells_flags || !query.depends_on_flags())
        && (!query.depends_on_time() || found.found.elapsed() < MOMENT)
        && found.opened.is_some()
        && !is_raw
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::query::parse;
    use crate::mail::uid::UidValidity;

    #[test]
    fn an_answer_holds_as_long_as_nothing_it_depends_on_can_have_changed() {
        let opened = |highest_modseq| Opened { validity: UidValidity(1), uid_next: Some(9), exists: 8, highest_modseq };
        let found = |opened, age| {
            let at = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
            Found { uids: Arc::default(), opened, generation: 0, checked: at, found: at }
        };
        let (none, plain, rich) = (None, Some(opened(None)), Some(opened(Some(5))));
        let late = MOMENT + Duration::from_secs(1);
        let cases = [
            ("hello", none, Duration::ZERO, false),
            ("hello has:attachment since:2026-01-01", plain, late, true),
            ("is:unread", plain, Duration::ZERO, false),
            ("is:unread", rich, late, true),
            ("newer:1d", rich, Duration::ZERO, true),
            ("newer:1d", rich, late, false),
            ("imap:SEEN", plain, Duration::ZERO, false),
            ("gmail:x", rich, Duration::ZERO, false),
        ];
        for (query, opened, age, expected) in cases {
            assert_eq!(may_hold(&found(opened, age), &parse(query).unwrap()), expected, "{query} {opened:?}");
        }
    }
}
