//! What LIST told when the first connection was made: the answer to whoever asks that first.

use std::time::Duration;

use tokio::time::Instant;

use crate::imap::flight::Job;
use crate::imap::request::{Answer, Command, Done};
use crate::imap::response::Data;

/// How long it is the answer.
const FRESH: Duration = Duration::from_secs(1);

/// See the top of the file.
#[derive(Debug)]
pub(super) struct FirstList(Option<(Vec<Data>, Instant)>);

impl FirstList {
    /// The rows, which have just come; `None` where they were not asked for, or not all came.
    pub(super) fn new(rows: Option<Vec<Data>>) -> Self {
        Self(rows.map(|rows| (rows, Instant::now())))
    }

    /// Answers a job, if that is possible; else it is given back. It is told once, and not what was before a change.
    pub(super) fn answer(&mut self, job: Job) -> Option<Job> {
        let command = &job.request.command;
        let told = self.0.take_if(|_| command.is_change() || matches!(command, Command::List));
        match told.filter(|(_, at)| !command.is_change() && at.elapsed() < FRESH) {
            Some((rows, _)) => {
                rows.into_iter().for_each(|row| job.request.answers.send(Answer::Data(row)));
                job.finish(Ok(Done { code: None, selected: None }));
                None
            }
            None => Some(job),
        }
    }
}
