//! One flight per question: who asks while the answer is on its way shares it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::error::{Error, Result};

/// The flights under way, by question. The work runs in a task of its own: a caller that goes away stops nothing.
#[derive(Debug)]
pub struct Flights<K, T: Clone>(Arc<Mutex<HashMap<K, Flight<T>>>>);

type Flight<T> = Shared<BoxFuture<'static, Result<T>>>;

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Flights<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the flight for `key`, or starts it with `work`.
    pub async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let flight = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let landing = Landing { flights: Arc::clone(&self.0), key: key.clone() };
                    let work = work();
                    let task = tokio::spawn(async move {
                        let _landing = landing;
                        work.await
                    });
                    let flight =
                        task.map(|end| end.unwrap_or_else(|e| Err(Error::Local(e.to_string().into())))).boxed();
                    let flight = flight.shared();
                    flights.insert(key, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }
}

/// Takes the flight off the list when it ended, however it ended.
struct Landing<K: Eq + Hash, T: Clone> {
    flights: Arc<Mutex<HashMap<K, Flight<T>>>>,
    key: K,
}

impl<K: Eq + Hash, T: Clone> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn two_who_ask_the_same_share_one_answer_and_a_later_one_asks_anew() {
        let flights = Flights::<u32, u32>::default();
        let runs = Arc::new(AtomicU32::new(0));
        let ask = |runs: Arc<AtomicU32>| async move {
            tokio::task::yield_now().await;
            Ok(runs.fetch_add(1, Ordering::SeqCst))
        };
        let (a, b) = tokio::join!(flights.join(1, || ask(runs.clone())), flights.join(1, || ask(runs.clone())));
        assert_eq!((a, b), (Ok(0), Ok(0)));
        assert_eq!(flights.join(1, || ask(runs.clone())).await, Ok(1));
    }

    #[tokio::test]
    async fn a_flight_that_panics_is_an_error_and_can_be_started_again() {
        let flights = Flights::<u32, u32>::default();
        let crash = flights.join(1, || async { panic!("as meant") }).await;
        assert!(matches!(crash, Err(Error::Local(_))));
        assert_eq!(flights.join(1, || async { Ok(7) }).await, Ok(7));
    }
}
