//! Searches as directories. `.search/QUERY/` is there as soon as it is named and the query is one; the server is asked
//! when the directory is opened, or a message is looked up in it for the first time.

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::{Bytes, Entry, Fs};
use crate::error::{Error, Result};
use crate::mail::query::{self, Query};
use crate::tree::found::{Found, parse_query_name};
use crate::tree::node::{AccountView, EntryId, MailboxId, MailboxView, Node, SearchView};
use crate::tree::views::{format_found_table, is_litter, parse_eml_name};

/// Searches that have a number; who holds an older one is told that it is stale.
const SEARCHES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Searches of which it is kept what was found.
const RESULTS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// A search that somebody named.
#[derive(Debug)]
pub struct Search {
    /// Of this mailbox; `None`: of all.
    pub scope: Option<MailboxId>,
    /// As it was spelled.
    pub name: String,
    query: Arc<Query>,
}

/// The searches of this mount.
#[derive(Debug)]
pub struct Searches {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    by_name: HashMap<(Option<MailboxId>, String), NonZeroU32>,
    by_number: LruCache<NonZeroU32, Arc<Search>>,
    last: u32,
    found: LruCache<NonZeroU32, Arc<Found>>,
}

impl Default for Searches {
    fn default() -> Self {
        let inner = Inner {
            by_name: HashMap::new(),
            by_number: LruCache::new(SEARCHES),
            last: 0,
            found: LruCache::new(RESULTS),
        };
        Self { inner: Mutex::new(inner) }
    }
}

impl Searches {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a search: the one that it has, or a new one.
    fn number(&self, search: Search) -> Option<NonZeroU32> {
        let mut inner = self.lock();
        let key = (search.scope, search.name.clone());
        if let Some(number) = inner.by_name.get(&key).copied() {
            inner.by_number.promote(&number);
            return Some(number);
        }
        let number = inner.last.checked_add(1).and_then(NonZeroU32::new)?;
        inner.last = number.get();
        inner.by_name.insert(key, number);
        if let Some((_, old)) = inner.by_number.push(number, Arc::new(search)) {
            inner.by_name.remove(&(old.scope, old.name.clone()));
        }
        Some(number)
    }

    fn get(&self, number: NonZeroU32) -> Result<Arc<Search>> {
        self.lock().by_number.get(&number).cloned().ok_or(Error::Stale)
    }
}

impl Fs {
    /// The directory of a search, by the name of a saved one or by a query. The server is not asked. Errors: `NotFound`
    /// for what programs look for in every directory; `Invalid` for what is no query, with the column.
    pub(super) fn name_search(&self, scope: Option<MailboxId>, name: &str) -> Result<Node> {
        let saved = self.options.searches.iter().find(|(saved, _)| saved == name);
        let query = match saved {
            Some((_, query)) => Arc::clone(query),
            // A query that begins with a dot can be quoted.
            None if name.starts_with('.') || is_litter(name) => return Err(Error::NotFound),
            None => {
                let text = parse_query_name(name);
                let parsed = query::parse(&text);
                Arc::new(parsed.map_err(|bad| Error::invalid(format!("the query {text:?}, {bad}")))?)
            }
        };
        let number = self.searches.number(Search { scope, name: name.to_owned(), query });
        let number = number.ok_or_else(|| Error::Local("too many searches were named".into()))?;
        Ok(Node::Search(number, SearchView::Messages))
    }

    /// The names in `.search/`: those of saved searches.
    pub(super) fn saved_searches(&self, scope: Option<MailboxId>) -> Vec<(String, Node)> {
        let saved = self.options.searches.iter();
        saved.filter_map(|(name, _)| Some((name.clone(), self.name_search(scope, name).ok()?))).collect()
    }

    /// A search that was named.
    pub(super) fn search(&self, number: NonZeroU32) -> Result<Arc<Search>> {
        self.searches.get(number)
    }

    /// The directory that a search is in.
    pub(super) fn search_parent(&self, search: &Search) -> Node {
        match search.scope {
            Some(id) => Node::MailboxView(id, MailboxView::Search),
            None => Node::AccountView(AccountView::Search),
        }
    }

    /// What a search finds now.
    pub(super) async fn find(&self, number: NonZeroU32) -> Result<Arc<Found>> {
        let search = self.search(number)?;
        let found = match search.scope {
            Some(id) => Found::new([(id, String::new(), self.account.search(id, &search.query).await?)]),
            None => {
                let found = self.account.search_all(&search.query).await?;
                Found::new(found.into_iter().map(|(id, messages)| (id, self.account.path(id), messages)))
            }
        };
        let found = Arc::new(found);
        self.searches.lock().found.put(number, Arc::clone(&found));
        Ok(found)
    }

    /// What it found last; what it finds now, when that is not kept.
    pub(super) async fn found(&self, number: NonZeroU32) -> Result<Arc<Found>> {
        let kept = self.searches.lock().found.get(&number).cloned();
        match kept {
            Some(found) => Ok(found),
            None => self.find(number).await,
        }
    }

    /// A name in the directory of a search.
    pub(super) async fn lookup_in_search(&self, number: NonZeroU32, view: SearchView, name: &str) -> Result<Entry> {
        let (plain, entry) = match view {
            SearchView::Messages => {
                if let Some(view) = SearchView::parse(name) {
                    return self.entry(Node::Search(number, view)).await;
                }
                (name, EntryId::DIRECTORY)
            }
            SearchView::Eml => (parse_eml_name(name).ok_or(Error::NotFound)?, EntryId::RAW),
            SearchView::Table => return Err(Error::NotDirectory),
        };
        let names = self.options.names;
        if names.parse(crate::tree::found::plain_name(plain)).is_none() {
            return Err(Error::NotFound);
        }
        let kept = self.searches.lock().found.get(&number).cloned();
        let place = |found: &Found| found.find(names, plain).map(|message| (message.mailbox, message.summary.uid));
        // What was found a while ago may lack what arrived since.
        let at = match kept.and_then(|found| place(&found)) {
            Some(at) => at,
            None => place(&*self.find(number).await?).ok_or(Error::NotFound)?,
        };
        let summary = self.account.summary(at.0, at.1).await?;
        if !self.account.is_shown(at.0, at.1) {
            return Err(Error::NotFound);
        }
        let mut found = self.message_entry(at.0, &summary, entry);
        // Others may take it out of here without removing it.
        found.entry_ttl = self.account.poll_interval();
        Ok(found)
    }

    /// The content of a search's `.messages.tsv`.
    pub(super) async fn found_table(&self, number: NonZeroU32) -> Result<Bytes> {
        let scope = self.search(number)?.scope;
        let found = self.find(number).await?;
        let rows = found.iter().map(|message| {
            let path = scope.is_none().then_some(message.path);
            (found.name(self.options.names, message), path, message.summary)
        });
        Ok(format_found_table(rows, scope.is_none()).into())
    }
}
