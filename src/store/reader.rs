//! Who asks the database. There is one connection that reads: who comes while it answers waits in line, and all in the line
//! are answered by one thread. A batch ahead of a walker asks for five hundred things at once, which would be as many
//! threads that wait for one another.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::oneshot;

type Question = Box<dyn FnOnce(&Connection) + Send>;

/// See the top of the file.
pub struct Reader {
    connection: Mutex<Connection>,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    questions: Vec<Question>,
    /// A thread is answering, and will look here again before it ends.
    is_served: bool,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("waiting", &self.line().questions.len()).finish_non_exhaustive()
    }
}

impl Reader {
    /// Over this connection.
    pub fn new(connection: Connection) -> Self {
        Self { connection: Mutex::new(connection), line: Mutex::default() }
    }

    /// The answer to a question, in a blocking thread; `None` when it panicked.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        let question = move |connection: &Connection| {
            if !sender.is_closed() {
                // Who asked may go away meanwhile.
                let _ = sender.send(question(connection));
            }
        };
        let is_first = {
            let mut line = self.line();
            line.questions.push(Box::new(question));
            !std::mem::replace(&mut line.is_served, true)
        };
        if is_first {
            let this = Arc::clone(self);
            tokio::task::spawn_blocking(move || this.serve());
        }
        answer.await.ok()
    }

    /// Answers until nobody is in the line.
    fn serve(&self) {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let questions = {
                let mut line = self.line();
                line.is_served = !line.questions.is_empty();
                std::mem::take(&mut line.questions)
            };
            if questions.is_empty() {
                return;
            }
            for question in questions {
                // Who asked is told by the end of the channel.
                let _ = catch_unwind(AssertUnwindSafe(|| question(&connection)));
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn reader() -> Arc<Reader> {
        Arc::new(Reader::new(Connection::open_in_memory().unwrap()))
    }

    fn doubled(connection: &Connection, number: i64) -> i64 {
        connection.query_row("SELECT 2 * ?", [number], |row| row.get(0)).unwrap()
    }

    #[tokio::test]
    async fn what_is_asked_at_once_is_answered_by_one_thread_each_with_its_own() {
        let reader = reader();
        // All are in the line before the first is answered.
        let (go, wait) = mpsc::channel::<()>();
        let first = reader.ask(move |_| wait.recv().is_ok());
        let asked = (0..500).map(|n| reader.ask(move |connection| (doubled(connection, n), thread::current().id())));
        let (_, answers, ()) = tokio::join!(first, futures::future::join_all(asked), async { go.send(()).unwrap() });
        let answers: Vec<_> = answers.into_iter().map(Option::unwrap).collect();
        assert!(answers.iter().enumerate().all(|(n, (double, _))| *double == 2 * n as i64));
        assert_eq!(answers.iter().map(|(_, thread)| thread).collect::<HashSet<_>>().len(), 1);
    }

    #[tokio::test]
    async fn one_that_panics_or_is_not_waited_for_costs_no_other() {
        let reader = reader();
        let (go, wait) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let reader = Arc::clone(&reader);
            async move { reader.ask(move |_| wait.recv().is_ok()).await }
        });
        tokio::task::yield_now().await;
        let mut left = Box::pin(reader.ask(|_| panic!("nobody asks for it any more")));
        assert!(futures::poll!(&mut left).is_pending());
        drop(left);
        let panics = reader.ask::<i64>(|_| panic!("as meant"));
        let (panicked, answer, ()) =
            tokio::join!(panics, reader.ask(|connection| doubled(connection, 21)), async { go.send(()).unwrap() });
        assert_eq!((panicked, answer), (None, Some(42)));
        assert_eq!(first.await.unwrap(), Some(true));
        // And when the line was empty.
        assert_eq!(reader.ask(|connection| doubled(connection, 4)).await, Some(8));
    }
}
