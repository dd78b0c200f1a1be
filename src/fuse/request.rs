//! How a request of the kernel becomes an answer: the one helper behind every callback.
//!
//! 1. The work is polled once on the kernel's thread. What is known is answered there, without a task switch.
//! 2. What has to wait goes on as a task, so that a slow server holds up no other request.
//! 3. While it waits, the deadline runs and the caller is watched: every request ends, and a killed process dies.
//! 4. A panic is caught and logged. The reply goes down with it, and a dropped reply answers EIO.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fuser::Errno;
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug, debug_span, error, info, warn};

use super::caller;
use super::errno::errno;
use crate::error::{Error, Result};

/// How long a killed caller waits at most, and how often the signals of a waiting one are looked at.
const CALLER_CHECK: Duration = Duration::from_millis(200);

/// A request, as the log names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// The callback.
    pub(super) name: &'static str,
    /// The inode number it is about.
    pub(super) ino: u64,
    /// The thread that waits for the answer; 0: nobody who could be killed.
    pub(super) pid: u32,
}

/// Runs requests.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    runtime: Handle,
    patience: Patience,
}

/// How long to wait for an answer.
#[derive(Clone, Copy, Debug)]
struct Patience {
    check: Duration,
    deadline: Duration,
}

impl Requests {
    /// Requests that run on `runtime` and end with ETIMEDOUT after `deadline`.
    pub(super) fn new(runtime: Handle, deadline: Duration) -> Self {
        Requests { runtime, patience: Patience { check: CALLER_CHECK, deadline } }
    }

    /// Lets the caller start tasks.
    pub(super) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Does `work` and hands the outcome to `reply`.
    pub(super) fn run<T: Send + 'static>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T>> + Send + 'static,
        reply: impl FnOnce(std::result::Result<T, Errno>) + Send + 'static,
    ) {
        let span = debug_span!("fuse", call = call.name, call.ino, call.pid);
        let work = Box::pin(work.instrument(span));
        let _runtime = self.runtime.enter();
        let started = std::panic::catch_unwind(AssertUnwindSafe(|| match poll_once(work) {
            Ok(answer) => {
                reply(outcome(call, answer));
                None
            }
            Err(waiting) => Some((waiting, reply)),
        }));
        match started {
            Ok(None) => {}
            Ok(Some((work, reply))) => {
                self.runtime.spawn(self.finish(call, work, reply));
            }
            Err(_) => error!(call.ino, call.pid, "{} panicked: answered with an I/O error", call.name),
        }
    }

    fn finish<T: Send + 'static>(
        &self,
        call: Call,
        work: Pin<Box<impl Future<Output = Result<T>> + Send + 'static>>,
        reply: impl FnOnce(std::result::Result<T, Errno>) + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let patience = self.patience;
        async move {
            let answer = async {
                let answer = wait(work, patience, || caller::gave_up(call.pid)).await;
                reply(outcome(call, answer));
            };
            if AssertUnwindSafe(answer).catch_unwind().await.is_err() {
                error!(call.ino, call.pid, "{} panicked: answered with an I/O error", call.name);
            }
        }
    }
}

/// The answer, or the work when it has to wait for something. The next poll will leave a waker that works.
fn poll_once<F: Future>(mut work: Pin<Box<F>>) -> std::result::Result<F::Output, Pin<Box<F>>> {
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Ok(answer),
        Poll::Pending => Err(work),
    }
}

/// The answer of `work`; an error when the deadline is over or the caller gives up before that.
async fn wait<T>(work: impl Future<Output = Result<T>>, patience: Patience, gave_up: impl Fn() -> bool) -> Result<T> {
    let mut work = pin!(work);
    let end = Instant::now() + patience.deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match timeout(left.min(patience.check), work.as_mut()).await {
            Ok(answer) => return answer,
            Err(_) if gave_up() => return Err(Error::Interrupted),
            Err(_) if left <= patience.check => {
                return Err(Error::TimedOut(format!("no answer within {:?}", patience.deadline).into()));
            }
            Err(_) => {}
        }
    }
}

/// The errno to answer with. What the user could not guess from the errno alone is logged.
fn outcome<T>(call: Call, answer: Result<T>) -> std::result::Result<T, Errno> {
    answer.map_err(|error| {
        let Call { name, ino, pid } = call;
        match &error {
            Error::Protocol(_)
            | Error::Local(_)
            | Error::Uncertain(_)
            | Error::Auth(_)
            | Error::TimedOut(_)
            | Error::Quota(_)
            | Error::DiskFull(_) => {
                warn!(ino, pid, "{name}: {error}");
            }
            Error::Denied(_)
            | Error::NotPermitted(_)
            | Error::TooBig(_)
            | Error::Invalid(_)
            | Error::Busy(_)
            | Error::Unsupported(_)
            | Error::Offline(_) => info!(ino, pid, "{name}: {error}"),
            Error::NotFound
            | Error::Exists
            | Error::NotEmpty
            | Error::NotDirectory
            | Error::IsDirectory
            | Error::NoAttribute
            | Error::Range
            | Error::ReadOnly
            | Error::Stale
            | Error::Interrupted => debug!(ino, pid, "{name}: {error}"),
        }
        errno(&error)
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;
    use std::sync::mpsc;

    use super::*;

    type Answer = std::result::Result<u32, Errno>;

    fn check(work: impl Future<Output = Result<u32>> + Send + 'static) -> Option<Answer> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let requests = Requests::new(runtime.handle().clone(), Duration::from_secs(60));
        let (sender, receiver) = mpsc::channel();
        requests.run(Call { name: "test", ino: 1, pid: 0 }, work, move |answer| sender.send(answer).unwrap());
        // A reply that was dropped closes the channel.
        receiver.recv().ok()
    }

    #[test]
    fn work_that_is_ready_and_work_that_waits_are_answered() {
        assert_eq!(check(async { Ok(1) }), Some(Ok(1)));
        assert_eq!(check(async { Err(Error::Stale) }), Some(Err(Errno::ESTALE)));
        assert_eq!(
            check(async {
                tokio::task::yield_now().await;
                Ok(2)
            }),
            Some(Ok(2))
        );
        assert_eq!(
            check(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(3)
            }),
            Some(Ok(3))
        );
    }

    #[test]
    fn a_panic_drops_the_reply_and_nothing_else() {
        assert_eq!(check(async { panic!("at once") }), None);
        assert_eq!(
            check(async {
                tokio::task::yield_now().await;
                panic!("later")
            }),
            None
        );
    }

    #[tokio::test]
    async fn waiting_ends_at_the_deadline() {
        let patience = Patience { check: Duration::from_secs(60), deadline: Duration::from_millis(1) };
        let answer: Result<()> = wait(pending(), patience, || false).await;
        assert!(matches!(answer, Err(Error::TimedOut(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn waiting_ends_when_the_caller_is_killed() {
        let patience = Patience { check: Duration::from_millis(1), deadline: Duration::from_secs(60) };
        let looks = Cell::new(0);
        let answer: Result<()> = wait(pending(), patience, || looks.replace(looks.get() + 1) == 3).await;
        assert_eq!((answer, looks.get()), (Err(Error::Interrupted), 4));
    }
}
