//! What many ask for at once goes to the server as one: while a command of a group is on its way, those who come wait,
//! and go together in the next one. No clock is needed: the slower the server, the larger the groups.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Items of one group at the most: an outcome should not wait for ever, and a server should not either.
const GROUP_MAX: usize = 500;

/// The groups that are on their way, and who waits for the next.
#[derive(Debug)]
pub struct Groups<K, T, R>(Arc<Mutex<Waiting<K, T, R>>>);

type Waiting<K, T, R> = HashMap<K, Vec<(T, oneshot::Sender<Result<R>>)>>;

impl<K, T, R> Default for Groups<K, T, R> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T, R> Groups<K, T, R>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Send + 'static,
    R: Send + 'static,
{
    /// Has `item` done with others of the same key, and tells its own outcome. `work` does all items of a group and
    /// gives an outcome for each, in their order; it runs in a task of its own, so that a caller that goes away stops
    /// nothing.
    pub async fn join<F>(&self, key: K, item: T, work: impl Fn(Vec<T>) -> F + Send + 'static) -> Result<R>
    where
        F: Future<Output = Vec<Result<R>>> + Send + 'static,
    {
        let (sender, outcome) = oneshot::channel();
        let is_first = {
            let mut waiting = self.lock();
            let is_first = !waiting.contains_key(&key);
            waiting.entry(key.clone()).or_default().push((item, sender));
            is_first
        };
        if is_first {
            let end = End { groups: Self(Arc::clone(&self.0)), key: Some(key) };
            tokio::spawn(end.run(work));
        }
        outcome.await.unwrap_or_else(|_| Err(Error::Local("a change ended without an outcome".into())))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting<K, T, R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of a key. When it ends early, by a panic, who waits is told so: its senders are dropped with the entry.
struct End<K: Eq + Hash, T, R> {
    groups: Groups<K, T, R>,
    key: Option<K>,
}

impl<K, T, R> End<K, T, R>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Send + 'static,
    R: Send + 'static,
{
    async fn run<F>(mut self, work: impl Fn(Vec<T>) -> F + Send + 'static)
    where
        F: Future<Output = Vec<Result<R>>> + Send + 'static,
    {
        loop {
            // Those who ask at this very moment come along.
            tokio::task::yield_now().await;
            let Some(group) = self.take() else { return };
            let (items, senders): (Vec<T>, Vec<_>) = group.into_iter().unzip();
            for (sender, outcome) in senders.into_iter().zip(work(items).await) {
                // A caller that went away.
                let _ = sender.send(outcome);
            }
        }
    }

    /// The next group; when there is none, this task is over.
    fn take(&mut self) -> Option<Vec<(T, oneshot::Sender<Result<R>>)>> {
        let key = self.key.as_ref()?;
        let mut waiting = self.groups.lock();
        let all = waiting.get_mut(key).filter(|all| !all.is_empty());
        let Some(all) = all else {
            waiting.remove(key);
            drop(waiting);
            self.key = None;
            return None;
        };
        let rest = all.split_off(all.len().min(GROUP_MAX));
        Some(std::mem::replace(all, rest))
    }
}

impl<K: Eq + Hash, T, R> Drop for End<K, T, R> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.groups.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = Arc<Mutex<Vec<Vec<u32>>>>;

    async fn ask(groups: &Groups<u8, u32, u32>, seen: &Seen, item: u32) -> Result<u32> {
        let seen = Arc::clone(seen);
        let work = move |items: Vec<u32>| {
            let seen = Arc::clone(&seen);
            async move {
                seen.lock().unwrap().push(items.clone());
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                items.into_iter().map(|item| if item == 13 { Err(Error::NotFound) } else { Ok(item * 2) }).collect()
            }
        };
        groups.join(1, item, work).await
    }

    #[tokio::test]
    async fn those_who_come_while_a_group_is_on_its_way_go_together_and_each_has_its_own_outcome() {
        let (groups, seen) = (Groups::default(), Seen::default());
        let all = futures::future::join_all((0..40).map(|item| ask(&groups, &seen, item))).await;
        for (item, outcome) in (0..40).zip(all) {
            assert_eq!(outcome, if item == 13 { Err(Error::NotFound) } else { Ok(item * 2) });
        }
        assert!(seen.lock().unwrap().len() <= 2, "{seen:?}");
        assert_eq!(ask(&groups, &seen, 50).await, Ok(100));
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        assert!(groups.lock().is_empty());
    }

    #[tokio::test]
    async fn a_group_that_panics_is_an_error_for_each_and_the_next_one_goes_on() {
        let groups = Groups::<u8, u32, u32>::default();
        let crash = groups.join(1, 1, |_| async { panic!("as meant") }).await;
        assert!(matches!(crash, Err(Error::Local(_))));
        assert_eq!(groups.join(1, 1, |items| async move { items.into_iter().map(Ok).collect() }).await, Ok(1));
    }
}
