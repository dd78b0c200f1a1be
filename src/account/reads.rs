//! The reads of one open file, and the wait of the one that nobody may want.
//!
//! 1. What is held back, and what of that comes at once when its reader goes on, `mail::range` decides.
//! 2. The kernel releases a file only when all reads of it have been answered. So it is told to tell of each close, and a
//!    read that is held back then fails: the kernel sent it ahead, and asks again when somebody wants it.
//! 3. Whatever else happens, such a read is done after [`PATIENCE`]: other handles, mappings and kernels may wait for it.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};
use crate::mail::range::Sequential;

/// From the answer of the last read on: who only looks at what he got has closed the file by then, though the machine
/// is busy, and for who waits in ways that are not foreseen it is a round trip, once a file.
const PATIENCE: Duration = Duration::from_millis(20);

/// What is read through one handle.
#[derive(Debug, Default)]
pub struct Reads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sequential: Sequential,
    /// Reads that have no answer.
    underway: usize,
    /// When the last one got its answer.
    answered: Option<Instant>,
    /// Tells the read that is held back how it goes on.
    held: Option<oneshot::Sender<Outcome>>,
}

/// Why a read is held back no longer.
#[derive(Debug)]
enum Outcome {
    /// What it needs is on its way.
    GoesOn,
    Closed,
}

/// A read; it has its answer, or nobody waits for it any more, when this is dropped.
#[derive(Debug)]
pub struct Read<'a> {
    reads: &'a Reads,
    /// What should be at hand or on its way; `None` when the read is to be held back.
    plan: Option<Range<u64>>,
    held: Option<oneshot::Receiver<Outcome>>,
}

impl Reads {
    /// A read of `range`, as far as the file goes; `is_last`: up to there; `most`: octets that may be read ahead.
    pub fn begin(&self, range: &Range<u64>, is_last: bool, most: u64) -> Read<'_> {
        let mut state = self.locked();
        state.underway += 1;
        state.sequential.bound(most);
        let plan = state.sequential.read(range.start, range.end - range.start, is_last);
        let held = plan.is_none().then(|| {
            let (sender, receiver) = oneshot::channel();
            state.held = Some(sender);
            receiver
        });
        Read { reads: self, plan, held }
    }

    /// What was held back may go on: to be called when what [`Reads::begin`] planned is on its way.
    pub fn go_on(&self) {
        let mut state = self.locked();
        if !state.sequential.is_held() {
            tell(state.held.take(), Outcome::GoesOn);
        }
    }

    /// Somebody closed the file.
    pub fn close(&self) {
        let mut state = self.locked();
        if state.sequential.give_up() {
            tell(state.held.take(), Outcome::Closed);
        }
    }

    /// Until when to wait for the reader to go on.
    fn patience(&self) -> Option<Instant> {
        let now = Instant::now();
        let state = self.locked();
        let until = if state.underway > 1 { Some(now) } else { state.answered }.map(|since| since + PATIENCE);
        until.filter(|until| *until > now)
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read<'_> {
    /// Is it to be held back?
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Holds it back, if that is to be; `needless`: what it needs is at hand. Then what should be on its way for it, if
    /// that is not yet.
    ///
    /// # Errors
    /// `Interrupted` when the file was closed.
    pub async fn wait(&mut self, needless: bool) -> Result<Option<Range<u64>>> {
        let Some(held) = &mut self.held else { return Ok(self.plan.clone()) };
        while let Some(until) = self.reads.patience().filter(|_| !needless) {
            match timeout_at(until, &mut *held).await {
                Ok(Ok(Outcome::Closed)) => return Err(Error::Interrupted),
                Ok(Ok(Outcome::GoesOn) | Err(_)) => return Ok(None),
                Err(_) => {}
            }
        }
        let mut state = self.reads.locked();
        state.held = None;
        Ok(state.sequential.let_go())
    }
}

impl Drop for Read<'_> {
    fn drop(&mut self) {
        let mut state = self.reads.locked();
        state.underway -= 1;
        state.answered = Some(Instant::now());
    }
}

fn tell(held: Option<oneshot::Sender<Outcome>>, outcome: Outcome) {
    if let Some(held) = held {
        // One that nobody waits for any more: its caller was killed.
        let _ = held.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::sleep;

    use super::*;
    use crate::mail::range::MAX_AHEAD;

    const KIB: u64 = 1024;

    /// Reads as the kernel begins them for who only looks; the last one is held back, the one before has no answer.
    fn looked(reads: &Reads) -> (Read<'_>, Read<'_>) {
        let begin = |start: u64, end: u64| reads.begin(&(start * KIB..end * KIB), false, MAX_AHEAD);
        drop((begin(0, 16), begin(16, 48)));
        let before = begin(48, 112);
        let held = begin(112, 240);
        assert!(!before.is_held() && held.is_held());
        (before, held)
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_nobody_may_want_waits_for_the_next_one() {
        let reads = Reads::default();
        let (before, mut held) = looked(&reads);
        drop(before);
        let mut wait = Box::pin(held.wait(false));
        assert!((&mut wait).now_or_never().is_none());
        let mut next = reads.begin(&(240 * KIB..368 * KIB), false, MAX_AHEAD);
        let plan = next.wait(false).await.unwrap().unwrap();
        assert_eq!(plan.start, 112 * KIB);
        // Not before what was planned is on its way.
        assert!((&mut wait).now_or_never().is_none());
        reads.go_on();
        assert_eq!(wait.await, Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn it_fails_when_the_file_is_closed() {
        let reads = Reads::default();
        let (_before, mut held) = looked(&reads);
        let (end, ()) = tokio::join!(held.wait(false), async {
            sleep(Duration::from_secs(3600)).await;
            reads.close();
        });
        assert_eq!(end, Err(Error::Interrupted));
        drop(held);
        // Another descriptor may be open.
        let mut next = reads.begin(&(112 * KIB..240 * KIB), false, MAX_AHEAD);
        assert_eq!(next.wait(false).await, Ok(Some(112 * KIB..240 * KIB)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_done_a_while_after_the_one_before_was_answered() {
        let reads = Reads::default();
        let (before, mut held) = looked(&reads);
        let since = Instant::now();
        let late = Duration::from_millis(50);
        let (end, ()) = tokio::join!(held.wait(false), async {
            sleep(late).await;
            drop(before);
        });
        assert_eq!(end, Ok(Some(112 * KIB..240 * KIB)));
        assert!((late + PATIENCE..late + 2 * PATIENCE).contains(&since.elapsed()), "{:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_wait_for_what_is_at_hand_nor_for_who_takes_his_time() {
        for is_here in [true, false] {
            let reads = Reads::default();
            let (before, mut held) = looked(&reads);
            drop(before);
            if !is_here {
                sleep(PATIENCE).await;
            }
            let end = held.wait(is_here).now_or_never();
            assert_eq!(end, Some(Ok(Some(112 * KIB..240 * KIB))));
        }
    }
}
